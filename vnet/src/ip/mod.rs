//! The Internet Protocol: which packets are ours, where the others go, and what
//! happens to those that do not fit.
//!
//! | part | what it is |
//! |---|---|
//! | [`family`] | what a version of IP is to tables of addresses and prefixes |
//! | [`addr`] | kinds of addresses, the addresses of a vnet |
//! | [`fib`] | the forwarding table: longest prefix first |
//! | [`state`] | what a version of IP consists of in one vnet, with its tunables |
//! | [`input`] | what the stages ask of a version of IP with a header in hand |
//! | [`forward`] | what a router does between input and output |
//! | [`reassembly`] | putting fragments together |
//! | [`multicast`] | which groups are listened to |
//! | [`versions`] | the versions of IP in one vnet: where an address decides which |
//! | [`refusal`] | why a packet goes no further |
//! | [`v4`] | what IPv4 alone does: its header, input, output and fragments |
//!
//! Nothing here sends: each function takes a packet and returns a verdict.

pub(crate) mod addr;
pub(crate) mod family;
pub(crate) mod fib;
pub(crate) mod forward;
pub(crate) mod input;
pub(crate) mod multicast;
pub(crate) mod reassembly;
pub(crate) mod refusal;
pub(crate) mod state;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod v4;
pub(crate) mod versions;

pub(crate) use refusal::Refusal;
pub(crate) use versions::{Ip, NoWay, Outgoing, Way};

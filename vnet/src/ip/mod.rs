//! The Internet Protocol, version 4: which packets are ours, where the others go, and what
//! happens to those that do not fit.
//!
//! | part | what it is |
//! |---|---|
//! | [`family`] | what a version of IP is to tables of addresses and prefixes |
//! | [`addr`] | kinds of addresses, the addresses of a vnet |
//! | [`fib`] | the forwarding table: longest prefix first |
//! | [`state`] | what one vnet's IPv4 consists of, with its tunables |
//! | [`input`] | from the link: for us, for another, or for nobody |
//! | [`output`] | the header of our own packets; whole, in fragments, or too big |
//! | [`forward`] | what a router does between input and output |
//! | [`fragment`] | cutting a packet into fragments |
//! | [`reassembly`] | putting fragments together |
//! | [`multicast`] | which groups are listened to |
//!
//! Nothing here sends: each function takes a packet and returns a verdict.

pub(crate) mod addr;
pub(crate) mod family;
pub(crate) mod fib;
pub(crate) mod forward;
pub(crate) mod fragment;
pub(crate) mod input;
pub(crate) mod multicast;
pub(crate) mod output;
pub(crate) mod reassembly;
pub(crate) mod state;
#[cfg(test)]
pub(crate) mod testing;

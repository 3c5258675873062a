//! The Internet Protocol: addresses, routes, forwarding and fragments.
//!
//! | part | what it is |
//! |---|---|
//! | [`family`] | what tables of addresses and prefixes need of a version of IP |
//! | [`addr`] | kinds of addresses, and the addresses of a vnet |
//! | [`dad`] | whether somebody else has an address already |
//! | [`fib`] | the forwarding table, by longest prefix |
//! | [`route`] | a route of either version |
//! | [`flat`] | the same in another form, for lookups in a large one |
//! | [`state`] | the state of a version of IP in one vnet, with its tunables |
//! | [`input`] | what the stages ask a version of IP about a header |
//! | [`forward`] | what a router does between input and output |
//! | [`reassembly`] | the reassembly of fragments |
//! | [`multicast`] | the groups that are listened to |
//! | [`paths`] | what paths take that are narrower than our own links |
//! | [`redirected`] | better first hops that routers have named |
//! | [`versions`] | the versions of IP in one vnet, chosen by the address |
//! | [`refusal`] | why a packet is not forwarded or delivered |
//! | [`v4`] | what IPv4 alone does: its header, input, output and fragments |
//! | [`v6`] | what IPv6 alone does: its headers, input, output and fragments, the choice of a source and of a destination |
//!
//! Nothing here sends: each function takes a packet and returns a verdict.

pub(crate) mod addr;
pub(crate) mod dad;
pub(crate) mod family;
pub(crate) mod fib;
mod flat;
pub(crate) mod forward;
pub(crate) mod input;
pub(crate) mod multicast;
mod paths;
pub(crate) mod reassembly;
pub(crate) mod redirected;
pub(crate) mod refusal;
pub(crate) mod route;
pub(crate) mod state;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod v4;
pub(crate) mod v6;
pub(crate) mod versions;

pub(crate) use refusal::Refusal;
pub(crate) use versions::{Ip, NoWay, Outgoing, Way};

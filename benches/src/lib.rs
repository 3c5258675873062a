//! Side by side with other stacks.
//!
//! The binary `compare` runs each case against a peer in the same process, alternating, and
//! reports medians and their ratio. A ratio above 1 means that vnet is ahead.
//!
//! | part | what it measures |
//! |---|---|
//! | [`bulk`] | bytes through one TCP connection, one thread, against raw smoltcp |
//! | [`stream`] | bulk with a thread at each end and short connections, against the kernel over veth |
//! | [`datagrams`] | small datagrams, by single calls, in batches and through routers, against the kernel |
//! | [`demux`] | a byte on any of up to a million connections, against one |
//! | [`cores`] | pairs and a chain of routers on all cores, against one |
//! | [`rr`] | one-byte requests and replies, blocking sockets, against the kernel |
//! | [`tap`] | bulk, requests and connections over a TAP, against the kernel over veth |
//! | [`fib`] | lookups in tables of up to a million routes, against a table of one |
//! | [`vlan`] | VLANs, bridges that tell them apart, and many stations, against vnets without |
//! | [`asynchronous`] | streams of vnet-tokio against tokio over the kernel's loopback, and idle ones |
//! | [`context`] | entering a vnet, against swapping a thread-local |
//! | [`local`] | a virtualized variable, against a plain atomic |
//! | [`hogs`] | what a good pair keeps beside others that get in its way; the binary `hogs` prints it |
//! | [`loss`] | a transfer over a lossy link, against the kernel's; the binary `loss` and `compare loss-linux` print it |
//! | [`paths`] | bulk transfers over long, fast and lossy paths in virtual time; `compare loss` prints them |
//! | [`fairness`] | what transfers do to each other and to a queue, in virtual time; `compare fairness` prints it |
//! | [`instances`] | memory and time of instances; the binary `instances` prints them |
//! | [`events`] | a frame in simulated networks, against ns-3; `compare events` prints it |
//! | [`memory`] | what idle instances and connections hold, beside the kernel's; `compare memory` prints it |
//! | [`counted`] | an allocator that counts |
//! | [`compare`] | alternation, medians |
//! | [`report`] | the table and the JSON lines |
//! | [`machine`] | what it was measured on, and what |
//! | [`card`] | a card of smoltcp's whose frames somebody else carries |
//!
//! The binary `scale` has no peer: it runs networks of up to thousands of nodes in virtual time and
//! compares them with small ones; see [`scale`].
//!
//! The criterion benches under `benches/` watch single operations; they have no peer.

pub mod asynchronous;
pub mod bulk;
pub mod card;
pub mod case;
pub mod compare;
pub mod context;
pub mod cores;
pub mod counted;
pub mod datagrams;
pub mod demux;
pub mod events;
pub mod fairness;
pub mod fib;
pub mod hogs;
pub mod instances;
mod kernel;
pub mod local;
pub mod loss;
pub mod machine;
pub mod memory;
mod mmsg;
pub mod paths;
pub mod report;
pub mod rr;
pub mod scale;
pub mod stream;
pub mod tap;
pub mod vlan;

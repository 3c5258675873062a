//! The rapid spanning tree protocol (IEEE 802.1Q-2018, clause 13, for one tree), as an engine
//! without I/O: BPDUs go in, BPDUs, states of ports and flushes come out, and time is an argument.
//!
//! Bridges agree on a root, each finds its port with the least path cost to it, and every segment
//! has one port that leads there. What is in no such path discards, so that frames cannot circulate.
//! A bridge that speaks only the older protocol (IEEE 802.1D-1998) is heard, and answered in it.
//!
//! | part | what it is |
//! |---|---|
//! | [`vector`] | identifiers, priority vectors and times: what bridges compare |
//! | [`bpdu`] | the messages |
//! | [`config`] | what an administrator sets, and its ranges |
//! | [`state`] | roles and states of ports, and what is counted of them |
//! | [`port`] | one port: its variables, and the machines that concern it alone |
//! | [`engine`] | the ports of a bridge: what goes in and what comes out |
//! | `roles` | the machines that concern all ports: roles, transitions, topology changes |
//!
//! The machines have the conditions of the standard, and its names for most variables. Two things differ in form:
//! timers are points in time instead of counters that are decremented each second, and ports
//! learn and forward at once when they may, so `learning` and `forwarding` are `learn` and `forward`.
//! Not implemented: several trees (MSTP), and the 2018 additions for layer two gateways.

pub(crate) mod bpdu;
pub(crate) mod config;
pub(crate) mod engine;
pub(crate) mod port;
mod roles;
pub(crate) mod state;
pub(crate) mod vector;

#[cfg(test)]
mod tests;

//! Neighbours: which link-layer address has an IP address.
//!
//! | part | what it is |
//! |---|---|
//! | [`state`] | the states of one neighbour (RFC 4861 section 7.3.2), drawn once |
//! | [`cache`] | [`NeighCache`]: the table of one vnet, held packets, deadlines, limits |
//! | [`config`] | [`NeighConfig`]: times and limits |
//! | `questions` | what was asked of one neighbour, and how long its answers take |
//! | [`verdict`] | what the table says to its caller |
//! | [`arp`] | what an ARP packet does to the table (RFC 826, RFC 5227) |
//! | [`ndp`] | what neighbour discovery does to it (RFC 4861) |
//!
//! The cache is sans-IO. [`NeighCache::resolve`] and [`NeighCache::input`] return verdicts;
//! after each entry the caller sends what [`NeighCache::poll_request`] asks for.
//! The cache knows no family: neighbours of both are in one table.

pub(crate) mod arp;
pub(crate) mod cache;
pub(crate) mod config;
pub(crate) mod ndp;
mod questions;
pub(crate) mod state;
pub(crate) mod verdict;

pub(crate) use cache::NeighCache;
pub(crate) use config::NeighConfig;
pub(crate) use verdict::{ProbeOut, Verdict};

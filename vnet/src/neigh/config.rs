//! Times and limits of the neighbour cache.

use crate::base::time::Duration;

/// Times and limits of a [`NeighCache`](super::NeighCache). The defaults are those of RFC 4861 section 10.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeighConfig {
    /// How long a confirmation counts, on average; each neighbour gets a time drawn uniformly
    /// between half of it and one and a half.
    pub reachable: Duration,
    /// How long the layers above have to confirm a stale neighbour before it is probed.
    pub delay_first_probe: Duration,
    /// Time between requests, and between probes.
    pub retrans: Duration,
    /// Broadcast requests before a resolution fails. Zero counts as one.
    pub max_requests: u8,
    /// Unicast probes before a neighbour is forgotten. Zero counts as one.
    pub max_probes: u8,
    /// How long packets to an address that did not answer are refused without asking again
    /// (RFC 1122 section 2.3.2.1: at most one request a second for one address).
    pub negative: Duration,
    /// Packets that may wait for one neighbour.
    pub held_packets: usize,
    /// Bytes that may wait for one neighbour.
    pub held_bytes: usize,
    /// Neighbours in the table, permanent ones included.
    pub limit: usize,
    /// Shortest time between two defences of one address (RFC 5227 section 1.1).
    pub defend_interval: Duration,
}

impl Default for NeighConfig {
    fn default() -> NeighConfig {
        NeighConfig {
            reachable: Duration::from_secs(30),
            delay_first_probe: Duration::from_secs(5),
            retrans: Duration::from_secs(1),
            max_requests: 3,
            max_probes: 3,
            negative: Duration::from_secs(1),
            held_packets: 64,
            held_bytes: 256 * 1024,
            limit: 1024,
            defend_interval: Duration::from_secs(10),
        }
    }
}

//! Times and limits of the neighbour cache.

use crate::base::on_use::part;
use crate::base::switch::Switch;
use crate::base::time::Duration;

/// Times and limits of a [`NeighCache`](super::NeighCache). The defaults are those of RFC 4861 section 10.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NeighConfig {
    /// How long a confirmation counts, on average; each neighbour gets a time drawn uniformly
    /// between half of it and one and a half.
    pub reachable: Duration,
    /// How long the layers above have to confirm a stale neighbour before it is probed.
    pub delay_first_probe: Duration,
    /// Least time between requests, and between probes. Where questions and answers take longer,
    /// it is twice that.
    pub retrans: Duration,
    /// Broadcast requests before a resolution fails. Zero counts as one.
    pub max_requests: u8,
    /// Unicast probes before a neighbour is forgotten. Zero counts as one.
    pub max_probes: u8,
    /// How long packets to an address that did not answer are refused without asking again
    /// (RFC 1122 section 2.3.2.1: at most one request a second for one address).
    pub negative: Duration,
    /// How long after a question an answer to it is still taken, although what waited for it has
    /// been given back. Beyond it a neighbour that is silent counts as one never asked for.
    pub late: Duration,
    /// Bytes that may wait for one neighbour, with [`HELD_OVERHEAD`](super::HELD_OVERHEAD) for each
    /// packet. One packet may wait in any case.
    pub held_bytes: usize,
    /// Bytes that may wait for all neighbours together, in the same way.
    pub held_total_bytes: usize,
    /// Neighbours in the table, permanent ones included.
    pub limit: usize,
    /// Shortest time between two defences of one address (RFC 5227 section 1.1).
    pub defend_interval: Duration,
    /// Whether a router answers for addresses that are behind it (RFC 1027).
    pub proxy: Switch,
}

part!(NeighConfig, const NeighConfig::DEFAULT);

impl Default for NeighConfig {
    fn default() -> NeighConfig {
        NeighConfig::DEFAULT
    }
}

impl NeighConfig {
    const DEFAULT: NeighConfig = {
        NeighConfig {
            reachable: Duration::from_secs(30),
            delay_first_probe: Duration::from_secs(5),
            retrans: Duration::from_secs(1),
            max_requests: 3,
            max_probes: 3,
            negative: Duration::from_secs(1),
            // A frame may travel for a day each way, and be delayed further by jitter.
            late: Duration::from_secs(4 * 86_400),
            // The longest datagram in fragments of the least MTU is 432 KiB.
            held_bytes: 512 * 1024,
            held_total_bytes: 8 << 20,
            limit: 1024,
            defend_interval: Duration::from_secs(10),
            proxy: Switch::Off,
        }
    };
}

//! Counters of TCP in one vnet.

use crate::base::on_use::part;

/// What happened so far. A large segment that stands for several counts once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TcpStats {
    /// Segments received.
    pub segments_in: u64,
    /// Segments sent.
    pub segments_out: u64,
    /// Payload bytes accepted in order.
    pub bytes_in: u64,
    /// Payload bytes sent, retransmissions included.
    pub bytes_out: u64,
    /// Connections that this side asked for.
    pub active_opens: u64,
    /// Connections that a peer asked for and a listener granted.
    pub passive_opens: u64,
    /// Connections that failed before they were established.
    pub failed_opens: u64,
    /// Established connections that a reset ended.
    pub resets_in: u64,
    /// Resets sent.
    pub resets_out: u64,
    /// Segments retransmitted, for whatever reason.
    pub retransmits: u64,
    /// Bytes retransmitted.
    pub retransmitted_bytes: u64,
    /// Retransmission timeouts.
    pub timeouts: u64,
    /// Fast retransmissions begun (RFC 5681 3.2, RFC 8985 6.2).
    pub fast_recoveries: u64,
    /// Tail loss probes sent (RFC 8985 7).
    pub tail_probes: u64,
    /// Recoveries that were undone, since nothing had been lost (RFC 4015).
    pub undone_recoveries: u64,
    /// Times that packets became smaller because full ones were not acknowledged (RFC 8899).
    pub black_holes: u64,
    /// Reductions of a window because a router had marked a segment (RFC 3168).
    pub ecn_reductions: u64,
    /// Segments with data that a router had marked.
    pub ecn_marks_in: u64,
    /// Duplicate acknowledgements received.
    pub dup_acks_in: u64,
    /// Segments that arrived ahead of a gap.
    pub out_of_order: u64,
    /// Segments that brought nothing new.
    pub duplicates_in: u64,
    /// Challenge acknowledgements sent (RFC 5961).
    pub challenge_acks: u64,
    /// Challenge acknowledgements held back by the rate limit.
    pub challenge_acks_limited: u64,
    /// Segments refused by PAWS (RFC 7323 5).
    pub paws_drops: u64,
    /// Zero-window probes sent.
    pub window_probes: u64,
    /// Keepalive probes sent.
    pub keepalive_probes: u64,
    /// Connections given up because the peer was silent.
    pub timed_out: u64,
    /// Connections reset because too many others had lost their sockets, too.
    pub orphans_reset: u64,
    /// Connection requests, and ends of handshakes, that found the backlog full.
    pub backlog_full: u64,
    /// Connection requests given up, as the oldest ones, for the sake of later ones.
    pub half_open_given_up: u64,
    /// Connection requests answered with a cookie.
    pub cookies_sent: u64,
    /// Connections made of a cookie that came back.
    pub cookies_taken: u64,
    /// Acknowledgements that could have been cookies, and were none of ours.
    pub cookies_refused: u64,
    /// Connections of ours whose SYN had data that the peer took (RFC 7413).
    pub fast_opens_out: u64,
    /// Connections of peers whose SYN had data that was taken.
    pub fast_opens_in: u64,
    /// SYNs whose cookie was none of ours or too old, or found too many before them.
    pub fast_opens_refused: u64,
    /// TIME-WAIT records made.
    pub time_waits: u64,
}

part!(TcpStats, TcpStats::default());

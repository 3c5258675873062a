//! What controllers hear, and what they have in common.

use crate::base::time::Instant;
use crate::transport::tcp::seq::SeqNum;

/// What an acknowledgement of new data tells a controller.
#[derive(Clone, Copy, Debug)]
pub(in crate::transport::tcp) struct Ack {
    pub(in crate::transport::tcp) now: Instant,
    /// Bytes newly acknowledged.
    pub(in crate::transport::tcp) acked: u32,
    /// The round trip that it measured, if it did, and the smoothed one, in nanoseconds.
    pub(in crate::transport::tcp) rtt: Option<u64>,
    pub(in crate::transport::tcp) srtt: u64,
    /// What is acknowledged now, and what is sent.
    pub(in crate::transport::tcp) una: SeqNum,
    pub(in crate::transport::tcp) nxt: SeqNum,
    pub(in crate::transport::tcp) mss: u32,
    /// The most bytes that one acknowledgement counts for in slow start: two segments (RFC 5681 3.1, RFC 3465 2.2),
    /// or a large segment that left as one.
    pub(in crate::transport::tcp) most: u32,
    pub(in crate::transport::tcp) limited: Limited,
}

/// Whether the window was what limited the sender when the acknowledged data was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::transport::tcp) enum Limited {
    ByCwnd,
    /// By the application or by the peer's window: the congestion window has not been tried.
    Elsewhere,
}

/// No window grows beyond this.
pub(super) const MOST: u32 = 1 << 30;

/// Slow start.
// RFC 5681 3.1, equation 2; the window that it ends with is not passed in one step.
pub(super) fn slow_start(cwnd: u32, ssthresh: u32, by: u32, mss: u32) -> u32 {
    cwnd.saturating_add(by)
        .min(ssthresh.max(cwnd + mss))
        .min(MOST)
}

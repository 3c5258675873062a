//! What controllers hear, and what they have in common.

use crate::base::switch::Switch;
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
    /// or a large segment that left as one; without a limit where a larger window is spread over time, for then no more
    /// than that leaves at once (RFC 9406 4.3).
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

impl Limited {
    #[inline]
    pub(in crate::transport::tcp) fn if_by_cwnd(by_cwnd: bool) -> Limited {
        match by_cwnd {
            true => Limited::ByCwnd,
            false => Limited::Elsewhere,
        }
    }
}

/// A mark, as a controller hears of it.
#[derive(Clone, Copy, Debug)]
pub(in crate::transport::tcp) struct Mark {
    pub(in crate::transport::tcp) now: Instant,
    /// The smoothed round trip, in nanoseconds.
    pub(in crate::transport::tcp) srtt: u64,
    /// Whether marks shrink the window less than losses (RFC 8511).
    pub(in crate::transport::tcp) less: Switch,
}

/// When the window was last reduced for a mark, in milliseconds that wrap; zero for never.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Marks(u32);

impl Marks {
    /// Round trips within which another mark says that the last reduction was not enough.
    const SOON: u64 = 4;

    /// Whether a mark is one of a queue that is kept short, and holds little to drain. What slow start has filled holds as
    /// much as the path; and a mark soon after another one comes from a queue that is still long.
    pub(super) fn is_light(&mut self, mark: Mark, slow_start: bool) -> Switch {
        let now = (mark.now.as_nanos() / 1_000_000) as u32;
        let since = u64::from(now.wrapping_sub(self.0));
        let again = self.0 != 0 && since * 1_000_000 < mark.srtt.saturating_mul(Marks::SOON);
        self.0 = now.max(1);
        match mark.less.is_on() && !slow_start && !again {
            true => Switch::On,
            false => Switch::Off,
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_light_in_congestion_avoidance_and_not_soon_after_another() {
        let mark = |ms: u64, less| Mark {
            now: Instant::from_nanos(ms * 1_000_000),
            srtt: 10_000_000,
            less,
        };
        let (on, off) = (Switch::On, Switch::Off);
        let mut marks = Marks::default();
        // Slow start has filled the queue.
        assert_eq!(marks.is_light(mark(100, on), true), off);
        // It is still long; and then it is not.
        assert_eq!(marks.is_light(mark(139, on), false), off);
        assert_eq!(marks.is_light(mark(179, on), false), on);
        assert_eq!(marks.is_light(mark(218, on), false), off);
        assert_eq!(marks.is_light(mark(1000, on), false), on);
        assert_eq!(marks.is_light(mark(2000, off), false), off);
    }
}

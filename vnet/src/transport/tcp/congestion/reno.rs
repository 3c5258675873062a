//! Slow start and congestion avoidance (RFC 5681), with byte counting (RFC 3465).

use super::ack::{Ack, Limited, MOST, Marks, slow_start};
use crate::base::switch::Switch;

#[derive(Clone, Debug)]
pub(in crate::transport::tcp) struct Reno {
    pub(super) cwnd: u32,
    pub(super) ssthresh: u32,
    /// Bytes acknowledged since the window last grew in congestion avoidance.
    acked: u32,
    pub(super) marks: Marks,
}

impl Reno {
    pub(super) fn new(cwnd: u32, ssthresh: u32) -> Reno {
        Reno {
            cwnd,
            ssthresh,
            acked: 0,
            marks: Marks::default(),
        }
    }

    #[inline]
    pub(super) fn on_ack(&mut self, ack: &Ack) {
        // RFC 7661 in spirit: a window that was not used is not known to be safe to enlarge.
        if ack.limited == Limited::Elsewhere {
            return;
        }
        if self.cwnd < self.ssthresh {
            let by = ack.acked.min(ack.most);
            self.cwnd = slow_start(self.cwnd, self.ssthresh, by, ack.mss);
            return;
        }
        // RFC 3465 2.1: one segment more for each window's worth acknowledged.
        self.acked = self.acked.saturating_add(ack.acked);
        if self.acked >= self.cwnd {
            self.acked -= self.cwnd;
            self.cwnd = self.cwnd.saturating_add(ack.mss).min(MOST);
        }
    }

    // RFC 5681 3.1, equation 4; RFC 6675 5, step 4.2.
    pub(super) fn on_loss(&mut self, flight: u32, mss: u32) {
        self.ssthresh = (flight / 2).max(2 * mss);
        self.cwnd = self.ssthresh;
        self.acked = 0;
    }

    /// A mark, from a queue that is kept short and holds little to drain.
    // RFC 8511 3.1: 0.8 instead of a half.
    pub(super) fn on_mark(&mut self, flight: u32, mss: u32, less: Switch) {
        self.on_loss(flight, mss);
        if !less.is_on() {
            return;
        }
        self.ssthresh = (u64::from(flight) * 4 / 5).max(u64::from(2 * mss)) as u32;
        self.cwnd = self.ssthresh;
    }

    // RFC 5681 3.1: the loss window is one segment.
    pub(super) fn on_timeout(&mut self, flight: u32, mss: u32) {
        self.on_loss(flight, mss);
        self.cwnd = mss;
    }

    pub(super) fn on_repeated_timeout(&mut self, mss: u32) {
        self.cwnd = mss;
    }

    pub(super) fn on_idle(&mut self, restart: u32) {
        self.cwnd = self.cwnd.min(restart);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Instant;
    use crate::transport::tcp::seq::SeqNum;

    const MSS: u32 = 1000;

    fn ack(acked: u32, most: u32, limited: Limited) -> Ack {
        Ack {
            now: Instant::ZERO,
            acked,
            rtt: None,
            srtt: 0,
            una: SeqNum(0),
            nxt: SeqNum(0),
            mss: MSS,
            most,
            limited,
        }
    }

    #[test]
    fn slow_start_doubles_then_avoidance_adds_one_segment_a_window() {
        let mut c = Reno::new(10 * MSS, u32::MAX);
        for _ in 0..5 {
            c.on_ack(&ack(2 * MSS, 2 * MSS, Limited::ByCwnd));
        }
        assert_eq!(c.cwnd, 20_000);
        c.on_ack(&ack(10_000, 2 * MSS, Limited::Elsewhere));
        assert_eq!(c.cwnd, 20_000);
        c.on_loss(20_000, MSS);
        assert_eq!((c.cwnd, c.ssthresh), (10_000, 10_000));
        for _ in 0..10 {
            c.on_ack(&ack(MSS, 2 * MSS, Limited::ByCwnd));
        }
        assert_eq!(c.cwnd, 11_000);
    }

    // RFC 3465 2.2, and 5681 3.1: an acknowledgement that covers much does not open the window at once.
    #[test]
    fn an_acknowledgement_of_much_counts_for_two_segments_unless_they_left_as_one() {
        let mut c = Reno::new(10 * MSS, u32::MAX);
        c.on_ack(&ack(10_000, 2 * MSS, Limited::ByCwnd));
        assert_eq!(c.cwnd, 12_000);
        c.on_ack(&ack(10_000, 8 * MSS, Limited::ByCwnd));
        assert_eq!(c.cwnd, 20_000);
    }

    #[test]
    fn a_timeout_starts_over_and_slow_start_ends_at_the_threshold() {
        let mut c = Reno::new(10 * MSS, u32::MAX);
        c.on_timeout(10_000, MSS);
        assert_eq!((c.cwnd, c.ssthresh), (MSS, 5_000));
        c.on_ack(&ack(9_000, 9_000, Limited::ByCwnd));
        assert_eq!(c.cwnd, 5_000);
        c.on_loss(1_000, MSS);
        assert_eq!(c.ssthresh, 2_000);
    }
}

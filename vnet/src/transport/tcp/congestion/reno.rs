//! Slow start and congestion avoidance (RFC 5681), with byte counting (RFC 3465).

use super::Limited;

#[derive(Clone, Debug)]
pub(in crate::transport::tcp) struct Reno {
    pub(super) cwnd: u32,
    pub(super) ssthresh: u32,
    /// Bytes acknowledged since the window last grew in congestion avoidance.
    acked: u32,
}

impl Reno {
    pub(super) fn new(mss: u32, segments: u32) -> Reno {
        Reno {
            cwnd: mss.saturating_mul(segments).max(1),
            // RFC 5681 3.1: arbitrarily high.
            ssthresh: u32::MAX,
            acked: 0,
        }
    }

    #[inline]
    pub(super) fn on_ack(&mut self, acked: u32, mss: u32, limited: Limited) {
        // RFC 7661 in spirit: a window that was not used is not known to be safe to enlarge.
        if limited == Limited::Elsewhere {
            return;
        }
        if self.cwnd < self.ssthresh {
            // RFC 5681 3.1, equation 2, with the limit per piece and not per acknowledgement:
            // one acknowledgement may stand for a whole large segment.
            self.cwnd = self
                .cwnd
                .saturating_add(acked)
                .min(self.ssthresh.max(self.cwnd + mss));
            return;
        }
        // RFC 3465 2.1: one segment more for each window's worth acknowledged.
        self.acked = self.acked.saturating_add(acked);
        if self.acked >= self.cwnd {
            self.acked -= self.cwnd;
            self.cwnd = self.cwnd.saturating_add(mss).min(1 << 30);
        }
    }

    // RFC 5681 3.1, equation 4; RFC 6675 5, step 4.2.
    pub(super) fn on_loss(&mut self, flight: u32, mss: u32) {
        self.ssthresh = (flight / 2).max(2 * mss);
        self.cwnd = self.ssthresh;
        self.acked = 0;
    }

    // RFC 5681 3.1: the loss window is one segment.
    pub(super) fn on_timeout(&mut self, flight: u32, mss: u32) {
        self.on_loss(flight, mss);
        self.cwnd = mss;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: u32 = 1000;

    #[test]
    fn slow_start_doubles_then_avoidance_adds_one_segment_a_window() {
        let mut c = Reno::new(MSS, 10);
        c.on_ack(10_000, MSS, Limited::ByCwnd);
        assert_eq!(c.cwnd, 20_000);
        c.on_ack(10_000, MSS, Limited::Elsewhere);
        assert_eq!(c.cwnd, 20_000);
        c.on_loss(20_000, MSS);
        assert_eq!((c.cwnd, c.ssthresh), (10_000, 10_000));
        for _ in 0..10 {
            c.on_ack(MSS, MSS, Limited::ByCwnd);
        }
        assert_eq!(c.cwnd, 11_000);
    }

    #[test]
    fn a_timeout_starts_over_and_slow_start_ends_at_the_threshold() {
        let mut c = Reno::new(MSS, 10);
        c.on_timeout(10_000, MSS);
        assert_eq!((c.cwnd, c.ssthresh), (MSS, 5_000));
        c.on_ack(9_000, MSS, Limited::ByCwnd);
        assert_eq!(c.cwnd, 5_000);
        c.on_loss(1_000, MSS);
        assert_eq!(c.ssthresh, 2_000);
    }
}

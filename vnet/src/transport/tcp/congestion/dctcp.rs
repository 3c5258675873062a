//! DCTCP (RFC 8257): Reno, but marks shrink the window by the share of what was marked.

use std::ops::{Deref, DerefMut};

use super::reno::Reno;
use crate::transport::tcp::seq::SeqNum;

/// RFC 8257 4.2: g, the weight of a window.
const GAIN: f64 = 1.0 / 16.0;

#[derive(Clone, Debug)]
pub(in crate::transport::tcp) struct Dctcp {
    reno: Reno,
    /// The share of bytes that were marked, averaged (DCTCP.Alpha).
    alpha: f64,
    /// Bytes acknowledged in this window, and those of them that were marked.
    acked: u32,
    marked: u32,
    /// Acknowledged, it ends the window.
    end: Option<SeqNum>,
}

impl Deref for Dctcp {
    type Target = Reno;

    fn deref(&self) -> &Reno {
        &self.reno
    }
}

impl DerefMut for Dctcp {
    fn deref_mut(&mut self) -> &mut Reno {
        &mut self.reno
    }
}

impl Dctcp {
    pub(super) fn new(cwnd: u32, ssthresh: u32) -> Dctcp {
        Dctcp {
            reno: Reno::new(cwnd, ssthresh),
            // RFC 8257 4.2: the first mark halves the window.
            alpha: 1.0,
            acked: 0,
            marked: 0,
            end: None,
        }
    }

    /// So many bytes more are acknowledged, up to `una`, of which so many had been marked. `nxt` is sent.
    // RFC 8257 3.3
    pub(in crate::transport::tcp) fn on_feedback(
        &mut self,
        acked: u32,
        marked: u32,
        una: SeqNum,
        nxt: SeqNum,
    ) {
        self.acked = self.acked.saturating_add(acked);
        self.marked = self.marked.saturating_add(marked.min(acked));
        let end = *self.end.get_or_insert(nxt);
        if una != end && end.is_in(una..=nxt) {
            return;
        }
        if self.acked > 0 {
            let share = f64::from(self.marked) / f64::from(self.acked);
            self.alpha += (share - self.alpha) * GAIN;
        }
        (self.acked, self.marked, self.end) = (0, 0, Some(nxt));
    }

    /// The first mark of a window.
    // RFC 8257 3.3, step 9
    pub(super) fn on_mark(&mut self, mss: u32) {
        let cwnd = f64::from(self.reno.cwnd) * (1.0 - self.alpha / 2.0);
        self.reno.cwnd = (cwnd as u32).max(2 * mss);
        self.reno.ssthresh = self.reno.cwnd;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: u32 = 1000;

    /// Windows of ten segments, of which so many are marked.
    fn windows(c: &mut Dctcp, windows: u32, marked: u32) {
        for _ in 0..windows {
            let from = c.end.unwrap_or(SeqNum(0));
            for n in 1..=10 {
                let share = if n <= marked { MSS } else { 0 };
                c.on_feedback(MSS, share, from + n * MSS, from + 10 * MSS + n * MSS);
                if n == 1 && c.end.is_none_or(|end| end == from) {
                    c.end = Some(from + 10 * MSS);
                }
            }
        }
    }

    #[test]
    fn the_first_mark_halves_the_window_and_later_ones_take_their_share() {
        let mut c = Dctcp::new(100 * MSS, u32::MAX);
        c.on_mark(MSS);
        assert_eq!((c.cwnd, c.ssthresh), (50 * MSS, 50 * MSS));
        windows(&mut c, 200, 2);
        assert!((c.alpha - 0.2).abs() < 0.01, "{}", c.alpha);
        c.on_mark(MSS);
        assert!((44 * MSS..=46 * MSS).contains(&c.cwnd), "{}", c.cwnd);
        windows(&mut c, 200, 0);
        assert!(c.alpha < 0.001);
        c.on_mark(MSS);
        assert!(c.cwnd > 44 * MSS);
    }

    // RFC 8257 3.5
    #[test]
    fn a_loss_halves_the_window() {
        let mut c = Dctcp::new(100 * MSS, u32::MAX);
        windows(&mut c, 200, 0);
        c.on_loss(100 * MSS, MSS);
        assert_eq!(c.cwnd, 50 * MSS);
    }
}

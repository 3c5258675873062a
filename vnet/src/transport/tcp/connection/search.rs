//! What is known of the largest packet that a path carries, while it is looked for; see `probing`.

use crate::base::time::{Duration, Instant};
use crate::transport::tcp::seq::SeqNum;

/// RFC 8899 5.1.2: a size is taken for too large when so many probes were lost.
const PROBES: u8 = 3;
/// RFC 8899 5.1.1: PMTU_RAISE_TIMER, after which larger packets are tried again.
const RAISE: Duration = Duration::from_secs(600);
/// A search ends when it is that close, in bytes.
const CLOSE: u32 = 16;

/// What is known of the path.
#[derive(Debug)]
pub(super) struct Search {
    /// The largest packet before the search began, in bytes.
    pub(super) most: u32,
    /// No larger one is tried; the path's is what arrives.
    pub(super) high: u32,
    /// The probe on its way: where it ends, and how large its packet is.
    pub(super) probe: Option<(SeqNum, u32)>,
    /// Probes of this size that were lost.
    pub(super) lost: u8,
    /// When the next probe may leave.
    pub(super) next_at: Instant,
}

impl Search {
    /// The size of the next probe's packet, where `low` is what arrives.
    // RFC 8899 5.3: what worked before is tried first; then half of what is unknown.
    pub(super) fn next(&self, low: u32) -> u32 {
        match self.high == self.most {
            true => self.high,
            false => low + (self.high - low).div_ceil(2),
        }
    }

    /// Looks whether the search goes on, where `low` is what arrives.
    pub(super) fn settle(&mut self, low: u32, now: Instant) {
        self.lost = 0;
        if self.high < low + CLOSE {
            self.high = self.most;
            self.next_at = now + RAISE;
        }
    }

    /// A probe of this size was lost; `low` is what arrives.
    pub(super) fn on_lost(&mut self, ip_mtu: u32, low: u32, now: Instant) {
        self.lost += 1;
        if self.lost >= PROBES {
            self.high = ip_mtu - 1;
            self.settle(low, now);
        }
    }
}

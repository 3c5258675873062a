//! The transmitter: clocks frames out one after the other, at a number of bits a second.
//!
//! A frame's time on the wire is seldom a whole number of nanoseconds. What is cut off is carried
//! over to the next frame, so a busy link sends exactly its rate, however long it stays busy.

use crate::base::time::Instant;

const NANOS_PER_SEC: u64 = 1_000_000_000;

/// The rate stage.
#[derive(Debug, Default)]
pub(crate) struct Rate {
    bps: Option<u64>,
    /// When the last frame is out, rounded down to a nanosecond.
    busy_until: Instant,
    /// What was rounded off, in units of 1/`bps` nanoseconds; below `bps`.
    remainder: u64,
}

impl Rate {
    /// Changes the rate for frames to come; `None` for no limit. Zero is taken as one.
    pub(crate) fn set(&mut self, bps: Option<u64>) {
        let bps = bps.map(|bps| bps.max(1));
        if bps != self.bps {
            self.bps = bps;
            // Less than a nanosecond, in a unit that has changed.
            self.remainder = 0;
        }
    }

    /// When the transmitter is free, as far as it is known.
    #[inline]
    pub(crate) fn free_at(&self) -> Instant {
        self.busy_until
    }

    /// When the last bit of a frame of `wire_len` bytes that comes at `now` is out.
    pub(crate) fn depart(&mut self, now: Instant, wire_len: usize) -> Instant {
        if now > self.busy_until {
            self.busy_until = now;
            self.remainder = 0;
        }
        let Some(bps) = self.bps else {
            // A frame sent under an earlier rate may still be on its way out.
            return self.busy_until;
        };
        let scaled =
            (wire_len as u128) * u128::from(8 * NANOS_PER_SEC) + u128::from(self.remainder);
        let (nanos, remainder) = match u64::try_from(scaled) {
            Ok(scaled) => (scaled / bps, scaled % bps),
            Err(_) => (
                u64::try_from(scaled / u128::from(bps)).unwrap_or(u64::MAX),
                (scaled % u128::from(bps)) as u64,
            ),
        };
        self.busy_until = Instant::from_nanos(self.busy_until.as_nanos().saturating_add(nanos));
        self.remainder = remainder;
        self.busy_until
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_thousandth_of_a_nanosecond_is_not_lost() {
        let mut rate = Rate::default();
        rate.set(Some(3_000_000_000)); // a byte takes 8/3 ns
        let times: Vec<u64> = (0..6)
            .map(|_| rate.depart(Instant::ZERO, 1).as_nanos())
            .collect();
        assert_eq!(times, [2, 5, 8, 10, 13, 16]);
        // An idle link starts afresh.
        assert_eq!(rate.depart(Instant::from_nanos(100), 3).as_nanos(), 108);
        // At the very moment the last frame is out, the link is not idle yet.
        assert_eq!(rate.depart(Instant::from_nanos(108), 1).as_nanos(), 110);
    }

    #[test]
    fn absurd_lengths_saturate() {
        let mut rate = Rate::default();
        rate.set(Some(1));
        assert_eq!(rate.depart(Instant::ZERO, usize::MAX), Instant::MAX);
        assert_eq!(rate.depart(Instant::MAX, usize::MAX), Instant::MAX);
    }

    proptest! {
        /// While a link is busy, the n-th frame is out when all bits so far divided by the rate
        /// have passed, to the nanosecond.
        #[test]
        fn no_drift(
            bps in 1_000..100_000_000_000u64,
            lens in prop::collection::vec(1..70_000usize, 1..200),
        ) {
            let mut rate = Rate::default();
            rate.set(Some(bps));
            let mut bits: u128 = 0;
            for len in lens {
                bits += 8 * len as u128;
                let exact = bits * 1_000_000_000 / u128::from(bps);
                prop_assert_eq!(u128::from(rate.depart(Instant::ZERO, len).as_nanos()), exact);
            }
        }
    }
}

//! A token bucket: lets frames through at a rate, and bursts of a size at once.
//!
//! It is a generic cell rate algorithm (ITU-T I.371): one number says when the bucket would be full
//! again, exact to a bit's share of a nanosecond. Frames keep their order, so the time at which a
//! frame may go is known when it comes.

use crate::base::time::Instant;

const NANOS_PER_SEC: u128 = 1_000_000_000;

/// The token bucket stage.
#[derive(Debug, Default)]
pub(crate) struct Bucket {
    rate_bps: u64,
    burst_bytes: u64,
    /// When the bucket will be full, in nanoseconds times `rate_bps`.
    full_at: u128,
}

impl Bucket {
    /// Changes the rate and the burst for frames to come; `None` lets everything through. A bucket
    /// whose rate changes starts full.
    pub(crate) fn set(&mut self, limits: Option<(u64, u64)>) {
        let (rate_bps, burst_bytes) = limits.unwrap_or((0, 0));
        if rate_bps != self.rate_bps {
            self.full_at = 0;
        }
        self.rate_bps = rate_bps;
        self.burst_bytes = burst_bytes;
    }

    /// When a frame of `wire_len` bytes that comes at `now` may go. One that is larger than the
    /// bucket goes when the bucket is full, and leaves a debt.
    pub(crate) fn pass(&mut self, now: Instant, wire_len: usize) -> Instant {
        if self.rate_bps == 0 {
            return now;
        }
        let rate = u128::from(self.rate_bps);
        let (begin, frame) = self.begin(now, wire_len);
        self.full_at = self.full_at.max(begin) + frame;
        let nanos = begin.div_ceil(rate);
        Instant::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Whether a frame of `wire_len` bytes may go at once; one that may not costs nothing.
    pub(crate) fn admits(&mut self, now: Instant, wire_len: usize) -> bool {
        let (begin, frame) = self.begin(now, wire_len);
        let may_go = begin <= self.scaled(now);
        if may_go && self.rate_bps > 0 {
            self.full_at = self.full_at.max(begin) + frame;
        }
        may_go
    }

    fn scaled(&self, now: Instant) -> u128 {
        u128::from(now.as_nanos()) * u128::from(self.rate_bps)
    }

    /// When a frame may begin, and what it costs, in the unit of `full_at`.
    fn begin(&self, now: Instant, wire_len: usize) -> (u128, u128) {
        let cost = |bytes: u64| u128::from(bytes) * 8 * NANOS_PER_SEC;
        let frame = cost(wire_len as u64);
        let room = cost(self.burst_bytes.max(wire_len as u64));
        // The bucket must hold the frame: it is full one frame's worth less than a burst later.
        let begin = (self.full_at + frame).saturating_sub(room);
        (begin.max(self.scaled(now)), frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    #[test]
    fn a_burst_goes_at_once_and_the_rest_at_the_rate() {
        let mut bucket = Bucket::default();
        bucket.set(Some((8_000_000_000, 3000))); // a byte takes a nanosecond
        let times: Vec<u64> = (0..6)
            .map(|_| bucket.pass(at(0), 1000).as_nanos())
            .collect();
        assert_eq!(times, [0, 0, 0, 1000, 2000, 3000]);
        // After a rest the bucket is full, and no fuller.
        let times: Vec<u64> = (0..4)
            .map(|_| bucket.pass(at(1_000_000), 1000).as_nanos())
            .collect();
        assert_eq!(times, [1_000_000, 1_000_000, 1_000_000, 1_001_000]);
    }

    #[test]
    fn a_frame_larger_than_the_bucket_leaves_a_debt() {
        let mut bucket = Bucket::default();
        bucket.set(Some((8_000_000_000, 1000)));
        assert_eq!(bucket.pass(at(0), 5000), at(0));
        assert_eq!(bucket.pass(at(0), 1000), at(5000));
    }

    proptest! {
        /// In any interval no more passes than a burst and what flows in meanwhile.
        #[test]
        fn never_more_than_the_bucket_allows(
            rate in 1_000u64..10_000_000_000,
            burst in 1500u64..100_000,
            gaps in prop::collection::vec((0u64..10_000_000, 60usize..1500), 1..100),
        ) {
            let mut bucket = Bucket::default();
            bucket.set(Some((rate, burst)));
            let (mut now, mut last) = (0, 0);
            let mut passed: Vec<(u64, u64)> = Vec::new();
            for (gap, len) in gaps {
                now = (now + gap).max(last);
                last = bucket.pass(at(now), len).as_nanos();
                passed.push((last, len as u64));
            }
            for from in 0..passed.len() {
                let mut bits = 0u128;
                for (t, len) in &passed[from..] {
                    bits += u128::from(8 * len);
                    let flowed = u128::from(t - passed[from].0) * u128::from(rate) / NANOS_PER_SEC;
                    // Times are rounded up to a nanosecond, at either end.
                    let slack = u128::from(rate) / NANOS_PER_SEC + 8;
                    prop_assert!(bits <= u128::from(8 * burst) + flowed + slack);
                }
            }
        }
    }
}

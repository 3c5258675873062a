//! Seeded random streams. Every consumer that must not disturb another has its own stream, split
//! off by a label, so that an additional draw in one place leaves every other stream unchanged.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng as _, SeedableRng};

/// A reproducible random stream (xoshiro256++). Not suitable for secrets against a real adversary.
#[derive(Clone, Debug)]
pub struct Rng(Xoshiro256PlusPlus);

impl Rng {
    /// The stream of `seed`.
    pub fn seeded(seed: u64) -> Rng {
        Rng(Xoshiro256PlusPlus::seed_from_u64(seed))
    }

    /// An independent stream for `label`, which depends on this stream's state and the label
    /// only; this stream advances by one draw.
    pub fn split(&mut self, label: u64) -> Rng {
        Rng::seeded(self.split_seed(label))
    }

    /// The seed of the stream that [`Rng::split`] would split off, for one that may never be drawn from; this stream
    /// advances by one draw.
    pub(crate) fn split_seed(&mut self, label: u64) -> u64 {
        self.u64() ^ label.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    /// 64 uniform bits.
    pub fn u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// 32 uniform bits.
    pub fn u32(&mut self) -> u32 {
        (self.0.next_u64() >> 32) as u32
    }

    /// Uniform in `0..bound` (multiply-shift; the bias is below 2^-32 for the bounds used here).
    ///
    /// # Panics
    /// When `bound` is zero.
    pub fn below(&mut self, bound: u32) -> u32 {
        assert!(bound > 0, "a draw below zero has no outcome");
        ((u64::from(self.u32()) * u64::from(bound)) >> 32) as u32
    }

    /// Uniform in `[0, 1)`, with 53 bits.
    pub fn unit(&mut self) -> f64 {
        (self.u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// True with probability `p`. Draws nothing when `p` is 0 or less, so that an impairment that
    /// is switched off does not advance the stream.
    pub fn chance(&mut self, p: f64) -> bool {
        p > 0.0 && self.unit() < p
    }
}

//! The wall clock, and the operating system's randomness: the two things that a simulation must
//! not see. Nothing else in the library reads either.

use std::hash::{BuildHasher, RandomState};
use std::time::Instant as WallInstant;

use crate::base::time::{Duration, Instant};

/// Nanoseconds of the wall clock since the clock was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WallClock {
    start: WallInstant,
}

impl WallClock {
    /// A clock that starts now.
    pub(crate) fn start() -> WallClock {
        WallClock {
            start: WallInstant::now(),
        }
    }

    /// The time since the start.
    #[inline]
    pub(crate) fn now(&self) -> Instant {
        Instant::ZERO + self.start.elapsed()
    }

    /// How long to wait from now until `at`.
    pub(crate) fn until(&self, at: Instant) -> Duration {
        at - self.now()
    }
}

/// A seed from the operating system.
pub(crate) fn entropy() -> u64 {
    RandomState::new().hash_one(0u64)
}

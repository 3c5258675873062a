//! The wall clock, the clocks of threads, and the operating system's randomness: what a simulation must
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

/// The processor time of the calling thread. A system call, where [`WallClock::now`] is none.
pub(crate) fn processor_time() -> Option<Duration> {
    #[cfg(unix)]
    {
        use rustix::time::{ClockId, clock_gettime};
        let time = clock_gettime(ClockId::ThreadCPUTime);
        let (secs, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
        Some(Duration::new(secs.ok()?, nanos.ok()?))
    }
    #[cfg(not(unix))]
    None
}

/// A seed from the operating system.
pub(crate) fn entropy() -> u64 {
    RandomState::new().hash_one(0u64)
}

//! The wire: how long a frame travels, and which frames overtake others.
//!
//! Logarithms and powers are those of the `libm` crate, which are the same on every machine.

use super::config::{Jitter, Order, Reorder};
use crate::base::rng::Rng;
use crate::base::time::{Duration, Instant, nanos};

/// The delay stage. Frames arrive in the order in which they left, even when the delay shrinks
/// while some are on the way, unless jitter or reordering lets them overtake each other.
#[derive(Debug, Default)]
pub(crate) struct Delay {
    delay: Duration,
    /// The latest arrival so far.
    last_arrival: Instant,
}

impl Delay {
    /// Changes the delay of frames to come.
    pub(crate) fn set(&mut self, delay: Duration) {
        self.delay = delay;
    }

    /// When a frame that left at `departure` arrives.
    #[inline]
    pub(crate) fn arrive(&mut self, departure: Instant) -> Instant {
        self.after_others(departure + self.delay)
    }

    /// The same with jitter.
    pub(super) fn arrive_varied(&mut self, departure: Instant, vary: &mut Vary) -> Instant {
        let at = departure + vary.next_delay(self.delay);
        let after = self.after_others(at);
        match vary.jitter.order() {
            Order::Kept => after,
            Order::Free => at,
        }
    }

    #[inline]
    fn after_others(&mut self, at: Instant) -> Instant {
        self.last_arrival = self.last_arrival.max(at);
        self.last_arrival
    }
}

/// Jitter.
#[derive(Debug)]
pub(super) struct Vary {
    jitter: Jitter,
    /// The next value of a trace.
    next: usize,
    rng: Rng,
}

impl Vary {
    /// None, with the stage's own random stream.
    pub(super) fn new(rng: Rng) -> Vary {
        Vary {
            jitter: Jitter::None,
            next: 0,
            rng,
        }
    }

    /// Changes the jitter of frames to come.
    pub(super) fn set(&mut self, jitter: Jitter) {
        if jitter != self.jitter {
            self.jitter = jitter;
            self.next = 0;
        }
    }

    /// The delay of the next frame, if it is `delay` without jitter.
    fn next_delay(&mut self, delay: Duration) -> Duration {
        let delay = nanos(delay);
        let varied = match &self.jitter {
            Jitter::None => delay,
            Jitter::Uniform { amplitude, .. } => {
                let amplitude = nanos(*amplitude);
                let width = 2 * u128::from(amplitude) + 1;
                let drawn = ((u128::from(self.rng.u64()) * width) >> 64) as u64;
                (delay + drawn).saturating_sub(amplitude)
            }
            Jitter::Normal { deviation, .. } => {
                let varied = delay as f64 + nanos(*deviation) as f64 * normal(&mut self.rng);
                // Saturates at zero and at the end of time.
                varied as u64
            }
            Jitter::Pareto { scale, shape, .. } => {
                let excess = libm::pow(1.0 - self.rng.unit(), -1.0 / shape) - 1.0;
                delay.saturating_add((nanos(*scale) as f64 * excess) as u64)
            }
            Jitter::Trace { delays, .. } => {
                let extra = nanos(delays[self.next]);
                self.next = (self.next + 1) % delays.len();
                delay + extra
            }
        };
        Duration::from_nanos(varied)
    }
}

/// A value of the standard normal distribution, by Box and Muller's transform. The second value
/// that it could give is not kept: a frame draws as much as any other.
fn normal(rng: &mut Rng) -> f64 {
    let radius = libm::sqrt(-2.0 * libm::log(1.0 - rng.unit()));
    radius * libm::cos(std::f64::consts::TAU * rng.unit())
}

/// The reordering stage: which frames do not wait out the delay.
#[derive(Debug)]
pub(crate) struct Overtake {
    reorder: Reorder,
    /// Frames since the last candidate.
    since: u32,
    rng: Rng,
}

impl Overtake {
    /// None, with the stage's own random stream.
    pub(crate) fn new(rng: Rng) -> Overtake {
        Overtake {
            reorder: Reorder::default(),
            since: 0,
            rng,
        }
    }

    /// Changes which frames to come do.
    pub(crate) fn set(&mut self, reorder: Reorder) {
        if reorder != self.reorder {
            self.reorder = reorder;
            self.since = 0;
        }
    }

    /// Decides about one frame.
    #[inline]
    pub(crate) fn overtakes(&mut self) -> bool {
        if self.reorder.probability == 0.0 {
            return false;
        }
        self.since += 1;
        if self.since < self.reorder.gap {
            return false;
        }
        self.since = 0;
        self.rng.chance(self.reorder.probability)
    }
}

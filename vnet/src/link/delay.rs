//! The wire: how long a frame travels.

use crate::base::time::{Duration, Instant};

/// The delay stage. Frames arrive in the order in which they left, even when the delay shrinks
/// while some are on the way.
#[derive(Debug, Default)]
pub struct Delay {
    delay: Duration,
    last_arrival: Instant,
}

impl Delay {
    /// Changes the delay of frames to come.
    pub fn set(&mut self, delay: Duration) {
        self.delay = delay;
    }

    /// When a frame that left at `departure` arrives.
    pub fn arrive(&mut self, departure: Instant) -> Instant {
        self.last_arrival = self.last_arrival.max(departure + self.delay);
        self.last_arrival
    }
}

//! The queue in front of the transmitter: drop-tail, with a limit in frames.
//!
//! A frame's departure is known when it enters, so the queue holds departure times, and those
//! that have passed are taken off when somebody looks. No deadline, nothing to drain.

use std::collections::VecDeque;

use crate::base::time::Instant;

/// The queue stage.
#[derive(Debug, Default)]
pub struct Queue {
    /// When each frame that waits will be out; never decreasing.
    departures: VecDeque<Instant>,
    limit: usize,
}

impl Queue {
    /// Changes the limit. Frames that wait already stay, even above it.
    pub fn set_limit(&mut self, frames: usize) {
        self.limit = frames;
    }

    /// True when one more frame may wait at `now`.
    #[inline]
    pub fn has_room(&mut self, now: Instant) -> bool {
        while self.departures.front().is_some_and(|at| *at <= now) {
            self.departures.pop_front();
        }
        self.departures.len() < self.limit
    }

    /// Adds a frame that will be out at `departure` and returns how many wait now, itself
    /// included. A frame that is out at once does not wait.
    #[inline]
    pub fn enter(&mut self, now: Instant, departure: Instant) -> usize {
        if departure > now {
            self.departures.push_back(departure);
        }
        self.departures.len()
    }

    /// Frames that are not out at `now`.
    pub fn waiting(&self, now: Instant) -> usize {
        self.departures.len() - self.departures.partition_point(|at| *at <= now)
    }
}

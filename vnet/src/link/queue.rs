//! The queue in front of the transmitter, for disciplines that let frames go in the order in which
//! they come: drop-tail, with limits in frames and in bytes.
//!
//! A frame's departure is known when it enters, so the queue holds departure times, and those
//! that have passed are taken off when somebody looks. No deadline, nothing to drain.

use std::collections::VecDeque;

use crate::base::time::Instant;

/// Bytes of memory that it takes to know of a frame that waits.
const FRAME_COST: u64 = size_of::<(Instant, u32)>() as u64;
/// Room for frames that is kept when none waits any more.
const ROOM_KEPT: usize = 1024;

/// The queue stage.
#[derive(Debug)]
pub(crate) struct Queue {
    /// When each frame that waits will be out, never decreasing, and its length.
    departures: VecDeque<(Instant, u32)>,
    bytes: usize,
    limit_frames: usize,
    limit_bytes: Option<usize>,
    /// Frames for which there is memory.
    most: usize,
}

impl Default for Queue {
    fn default() -> Queue {
        Queue {
            departures: VecDeque::new(),
            bytes: 0,
            limit_frames: 0,
            limit_bytes: None,
            most: usize::MAX,
        }
    }
}

impl Queue {
    /// Changes the limits. Frames that wait already stay, even above them.
    pub(crate) fn set_limits(&mut self, frames: usize, bytes: Option<usize>) {
        self.limit_frames = frames;
        self.limit_bytes = bytes;
    }

    /// Changes how many bytes of memory it may take to know the frames that wait.
    #[inline]
    pub(crate) fn set_memory(&mut self, bytes: u64) {
        self.most = usize::try_from(bytes / FRAME_COST).unwrap_or(usize::MAX);
    }

    /// True when a frame of `len` bytes may wait at `now`.
    #[inline]
    pub(crate) fn has_room(&mut self, now: Instant, len: usize) -> bool {
        while let Some((at, len)) = self.departures.front()
            && *at <= now
        {
            self.bytes -= *len as usize;
            self.departures.pop_front();
            if self.departures.is_empty() && self.departures.capacity() > ROOM_KEPT {
                self.departures.shrink_to(ROOM_KEPT);
            }
        }
        self.departures.len() < self.limit_frames.min(self.most)
            && self
                .limit_bytes
                .is_none_or(|limit| self.bytes + len <= limit)
    }

    /// Adds a frame that will be out at `departure`. One that is out at once does not wait.
    #[inline]
    pub(crate) fn enter(&mut self, now: Instant, departure: Instant, len: usize) {
        if departure > now {
            let len = u32::try_from(len).unwrap_or(u32::MAX);
            self.departures.push_back((departure, len));
            self.bytes += len as usize;
        }
    }

    /// When the last frame that waits is out, which may have passed.
    pub(crate) fn last_departure(&self) -> Option<Instant> {
        self.departures.back().map(|(at, _)| *at)
    }

    /// Frames that wait, and their bytes, as of the last call of [`Queue::has_room`].
    #[inline]
    pub(crate) fn held(&self) -> (usize, usize) {
        (self.departures.len(), self.bytes)
    }

    /// Frames that are not out at `now`, and their bytes.
    pub(crate) fn waiting(&self, now: Instant) -> (usize, usize) {
        let gone = self.departures.partition_point(|(at, _)| *at <= now);
        let waiting = self.departures.iter().skip(gone);
        let bytes = waiting.map(|(_, len)| *len as usize).sum();
        (self.departures.len() - gone, bytes)
    }
}

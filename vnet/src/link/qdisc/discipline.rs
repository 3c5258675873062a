//! What a discipline that holds frames is: the trait, and what all of them are made of.

use std::collections::VecDeque;

use crate::base::stats::DropReason;
use crate::base::time::Instant;
use crate::packet::Packet;

/// A frame that waits.
#[derive(Debug)]
pub(crate) struct Queued {
    /// The frame.
    pub packet: Packet,
    /// When it came.
    pub since: Instant,
}

/// A frame that a discipline gave up, and why.
#[derive(Debug)]
pub(crate) struct Dropped {
    /// The frame.
    pub packet: Packet,
    /// [`DropReason::LinkQueueFull`] or [`DropReason::LinkAqm`].
    pub reason: DropReason,
}

/// What a discipline does with frames.
pub(crate) trait Discipline {
    /// Takes a frame that comes at `now`. What has no room any more, be it this frame or another,
    /// is added to `dropped`.
    fn enqueue(&mut self, now: Instant, packet: Packet, dropped: &mut Vec<Dropped>);

    /// Gives the frame that goes next, the transmitter being free at `now`. What it gives up on the
    /// way is added to `dropped`. `None` when nothing waits any more.
    fn dequeue(&mut self, now: Instant, dropped: &mut Vec<Dropped>) -> Option<Queued>;

    /// Frames that wait.
    fn frames(&self) -> usize;

    /// Their bytes.
    fn bytes(&self) -> usize;

    /// Frames that were marked instead of dropped.
    fn marked(&self) -> u64 {
        0
    }
}

/// How much may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Frames.
    pub frames: usize,
    /// Their bytes.
    pub bytes: Option<usize>,
}

impl Limits {
    /// True when so much is more than may wait.
    pub(crate) fn exceeded(&self, frames: usize, bytes: usize) -> bool {
        frames > self.frames || self.bytes.is_some_and(|limit| bytes > limit)
    }
}

/// Frames in the order in which they came, and their bytes.
#[derive(Debug, Default)]
pub(super) struct Fifo {
    pub(super) frames: VecDeque<Queued>,
    pub(super) bytes: usize,
}

impl Fifo {
    pub(super) fn push(&mut self, since: Instant, packet: Packet) {
        self.bytes += packet.frame_len();
        self.frames.push_back(Queued { packet, since });
    }

    pub(super) fn pop(&mut self) -> Option<Queued> {
        let queued = self.frames.pop_front()?;
        self.bytes -= queued.packet.frame_len();
        Some(queued)
    }

    /// Takes the one that came last.
    pub(super) fn pop_last(&mut self) -> Option<Queued> {
        let queued = self.frames.pop_back()?;
        self.bytes -= queued.packet.frame_len();
        Some(queued)
    }

    pub(super) fn front_len(&self) -> Option<usize> {
        self.frames.front().map(|queued| queued.packet.frame_len())
    }

    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }
}

/// Gives a frame up for want of room.
pub(super) fn no_room(packet: Packet) -> Dropped {
    Dropped {
        packet,
        reason: DropReason::LinkQueueFull,
    }
}

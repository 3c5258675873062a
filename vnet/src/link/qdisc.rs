//! Queue disciplines that hold frames, because who goes next, or who goes at all, is decided when
//! the transmitter is free.
//!
//! A discipline is given frames as they come and asked for one when the transmitter can take it. It
//! reads no clock and sets no timer: whoever owns it knows when the transmitter is free.
//! Disciplines whose answer is known when a frame comes hold none, and are not here: see
//! [`queue`](super::queue).

use crate::base::stats::DropReason;
use crate::base::time::Instant;
use crate::packet::Packet;

/// A frame that waits.
#[derive(Debug)]
pub struct Queued {
    /// The frame.
    pub packet: Packet,
    /// When it came.
    pub since: Instant,
}

/// A frame that a discipline gave up, and why.
#[derive(Debug)]
pub struct Dropped {
    /// The frame.
    pub packet: Packet,
    /// [`DropReason::LinkQueueFull`] or [`DropReason::LinkAqm`].
    pub reason: DropReason,
}

/// What a discipline does with frames.
pub trait Discipline {
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
    fn marked(&self) -> u64;
}

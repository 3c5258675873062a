//! Queue disciplines that hold frames, because who goes next, or who goes at all, is decided when
//! the transmitter is free.
//!
//! A discipline is given frames as they come and asked for one when the transmitter can take it. It
//! reads no clock and sets no timer: whoever owns it knows when the transmitter is free.
//! Disciplines whose answer is known when a frame comes hold none, and are not here: see
//! [`queue`](super::queue).
//!
//! | discipline | who goes next | who is dropped |
//! |---|---|---|
//! | [`Codel`] | who came first | who arrives at a full queue; from the head, ever more often, while even the shortest wait is too long |
//! | [`FqCodel`] | flows in turn, new ones first | as CoDel in each flow; of a full queue, the head of the longest flow |
//! | [`Drr`] | classes in turn, by weight | of a full queue, the last of the class with the most bytes |
//! | [`Priority`] | the highest class | the last of the lowest class, if it is below who arrives at a full queue |

pub(crate) mod codel;
pub(crate) mod drr;
pub(crate) mod fq_codel;
pub(crate) mod priority;

use std::collections::VecDeque;

pub(crate) use codel::Codel;
pub(crate) use drr::Drr;
pub(crate) use fq_codel::FqCodel;
pub(crate) use priority::Priority;

use super::config::{self, QueueConfig};
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

/// One of the disciplines that hold frames, with the frames that it holds.
#[derive(Debug)]
pub(crate) enum Held {
    Codel(Codel),
    FqCodel(FqCodel),
    Drr(Drr),
    Priority(Priority),
}

/// Asks the discipline that there is.
macro_rules! ask {
    ($held:expr, $discipline:ident => $question:expr) => {
        match $held {
            Held::Codel($discipline) => $question,
            Held::FqCodel($discipline) => $question,
            Held::Drr($discipline) => $question,
            Held::Priority($discipline) => $question,
        }
    };
}

impl Discipline for Held {
    fn enqueue(&mut self, now: Instant, packet: Packet, dropped: &mut Vec<Dropped>) {
        ask!(self, held => held.enqueue(now, packet, dropped));
    }

    fn dequeue(&mut self, now: Instant, dropped: &mut Vec<Dropped>) -> Option<Queued> {
        ask!(self, held => held.dequeue(now, dropped))
    }

    fn frames(&self) -> usize {
        ask!(self, held => held.frames())
    }

    fn bytes(&self) -> usize {
        ask!(self, held => held.bytes())
    }

    fn marked(&self) -> u64 {
        ask!(self, held => held.marked())
    }
}

/// The discipline that `config` asks for, when it is one that holds frames. Flows are told apart by
/// a hash seeded with `seed`.
pub(crate) fn make(config: &QueueConfig, seed: u64) -> Option<Held> {
    let limits = Limits {
        frames: config.limit_frames,
        bytes: config.limit_bytes,
    };
    Some(match &config.discipline {
        config::Discipline::DropTail
        | config::Discipline::Red(_)
        | config::Discipline::TokenBucket { .. } => return None,
        config::Discipline::Codel(codel) => Held::Codel(Codel::new(*codel, limits)),
        config::Discipline::FqCodel(fq) => Held::FqCodel(FqCodel::new(*fq, limits, seed)),
        config::Discipline::Drr { weights, quantum } => {
            Held::Drr(Drr::new(weights, *quantum, limits))
        }
        config::Discipline::StrictPriority => Held::Priority(Priority::new(limits)),
    })
}

/// Frames in the order in which they came, and their bytes.
#[derive(Debug, Default)]
pub(super) struct Fifo {
    frames: VecDeque<Queued>,
    bytes: usize,
}

impl Fifo {
    fn push(&mut self, since: Instant, packet: Packet) {
        self.bytes += packet.len();
        self.frames.push_back(Queued { packet, since });
    }

    fn pop(&mut self) -> Option<Queued> {
        let queued = self.frames.pop_front()?;
        self.bytes -= queued.packet.len();
        Some(queued)
    }

    /// Takes the one that came last.
    fn pop_last(&mut self) -> Option<Queued> {
        let queued = self.frames.pop_back()?;
        self.bytes -= queued.packet.len();
        Some(queued)
    }

    fn front_len(&self) -> Option<usize> {
        self.frames.front().map(|queued| queued.packet.len())
    }

    fn len(&self) -> usize {
        self.frames.len()
    }

    fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }
}

/// Gives a frame up for want of room.
fn no_room(packet: Packet) -> Dropped {
    Dropped {
        packet,
        reason: DropReason::LinkQueueFull,
    }
}

#[cfg(test)]
mod tests;

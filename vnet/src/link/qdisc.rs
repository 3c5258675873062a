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
pub(crate) mod discipline;
pub(crate) mod drr;
pub(crate) mod fq_codel;
pub(crate) mod priority;

pub(crate) use codel::Codel;
pub(crate) use discipline::{Discipline, Dropped, Limits, Queued};
pub(crate) use drr::Drr;
pub(crate) use fq_codel::FqCodel;
pub(crate) use priority::Priority;

use super::config::{self, QueueConfig};
use crate::base::time::Instant;
use crate::packet::Packet;

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

#[cfg(test)]
mod tests;

//! Strict priority by precedence: the first three bits of the differentiated services field, which
//! are the class selectors of RFC 2474 (section 4.2.2). Class selector 7 goes first, as network
//! control should.
//!
//! A full queue makes room for who is more important: the frame that came last in the lowest class is
//! pushed out, if that is below the class of who arrives.

use super::discipline::{Discipline, Dropped, Fifo, Limits, Queued, no_room};
use crate::base::time::Instant;
use crate::link::ecn;
use crate::packet::Packet;

/// Classes, of which the highest goes first.
#[derive(Debug)]
pub(crate) struct Priority {
    /// By precedence.
    bands: [Fifo; 8],
    limits: Limits,
}

impl Priority {
    /// Empty classes.
    pub(crate) fn new(limits: Limits) -> Priority {
        Priority {
            bands: Default::default(),
            limits,
        }
    }
}

impl Discipline for Priority {
    fn enqueue(&mut self, now: Instant, mut packet: Packet, dropped: &mut Vec<Dropped>) {
        let band = usize::from(ecn::dscp(&mut packet) >> 3);
        let len = packet.frame_len();
        let (mut frames, mut bytes) = (self.frames() + 1, self.bytes() + len);
        let below = &mut self.bands[..band];
        let lower: (usize, usize) = below
            .iter()
            .fold((0, 0), |sum, b| (sum.0 + b.len(), sum.1 + b.bytes));
        if self.limits.exceeded(frames - lower.0, bytes - lower.1) {
            dropped.push(no_room(packet));
            return;
        }
        while self.limits.exceeded(frames, bytes)
            && let Some(pushed_out) = below.iter_mut().find_map(Fifo::pop_last)
        {
            frames -= 1;
            bytes -= pushed_out.packet.frame_len();
            dropped.push(no_room(pushed_out.packet));
        }
        self.bands[band].push(now, packet);
    }

    fn dequeue(&mut self, _now: Instant, _dropped: &mut Vec<Dropped>) -> Option<Queued> {
        self.bands.iter_mut().rev().find_map(Fifo::pop)
    }

    fn frames(&self) -> usize {
        self.bands.iter().map(Fifo::len).sum()
    }

    fn bytes(&self) -> usize {
        self.bands.iter().map(|band| band.bytes).sum()
    }
}

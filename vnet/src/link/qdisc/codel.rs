//! Controlled delay: CoDel, as RFC 8289 has it (sections 4 and 5).
//!
//! The names of the state variables are those of the RFC's pseudocode. The control law's square
//! root is an integer's, so that it is the same on every machine.

use super::discipline::{Discipline, Dropped, Fifo, Limits, Queued, no_room};
use crate::base::stats::DropReason;
use crate::base::time::{Duration, Instant};
use crate::link::config::{self, Ecn};
use crate::link::ecn;
use crate::packet::Packet;

/// The least size that counts as the largest frame, in bytes.
const LEAST_MAXPACKET: usize = 512;
/// A drop rate is remembered for so many intervals.
const MEMORY: u32 = 16;

/// One queue under controlled delay.
#[derive(Debug)]
pub(crate) struct Codel {
    queue: Fifo,
    control: Control,
    limits: Limits,
}

impl Codel {
    /// An empty queue.
    pub(crate) fn new(config: config::Codel, limits: Limits) -> Codel {
        Codel {
            queue: Fifo::default(),
            control: Control::new(config),
            limits,
        }
    }
}

impl Discipline for Codel {
    fn enqueue(&mut self, now: Instant, packet: Packet, dropped: &mut Vec<Dropped>) {
        let (frames, bytes) = (self.queue.len() + 1, self.queue.bytes + packet.frame_len());
        if self.limits.exceeded(frames, bytes) {
            dropped.push(no_room(packet));
            return;
        }
        self.control.comes(&packet);
        self.queue.push(now, packet);
    }

    fn dequeue(&mut self, now: Instant, dropped: &mut Vec<Dropped>) -> Option<Queued> {
        self.control.dequeue(&mut self.queue, now, dropped)
    }

    fn frames(&self) -> usize {
        self.queue.len()
    }

    fn bytes(&self) -> usize {
        self.queue.bytes
    }

    fn marked(&self) -> u64 {
        self.control.marked
    }
}

/// The state of controlled delay over one queue.
#[derive(Debug)]
pub(super) struct Control {
    config: config::Codel,
    /// When the wait will have been too long for an interval, if it is too long now.
    first_above: Option<Instant>,
    drop_next: Instant,
    count: u32,
    lastcount: u32,
    dropping: bool,
    /// The largest frame seen, in bytes: so much may always wait.
    maxpacket: usize,
    pub(super) marked: u64,
}

impl Control {
    pub(super) fn new(config: config::Codel) -> Control {
        Control {
            config,
            first_above: None,
            drop_next: Instant::ZERO,
            count: 0,
            lastcount: 0,
            dropping: false,
            maxpacket: LEAST_MAXPACKET,
            marked: 0,
        }
    }

    /// Notes a frame that is put into the queue.
    pub(super) fn comes(&mut self, packet: &Packet) {
        self.maxpacket = self.maxpacket.max(packet.frame_len());
    }

    /// Takes the next frame, and says whether it may be dropped.
    fn take(&mut self, queue: &mut Fifo, now: Instant) -> Option<(Queued, bool)> {
        let Some(queued) = queue.pop() else {
            self.first_above = None;
            return None;
        };
        let sojourn = now - queued.since;
        if sojourn < self.config.target || queue.bytes <= self.maxpacket {
            self.first_above = None;
            return Some((queued, false));
        }
        let first_above = *self.first_above.get_or_insert(now + self.config.interval);
        Some((queued, now >= first_above))
    }

    pub(super) fn dequeue(
        &mut self,
        queue: &mut Fifo,
        now: Instant,
        dropped: &mut Vec<Dropped>,
    ) -> Option<Queued> {
        let Some((mut queued, mut ok_to_drop)) = self.take(queue, now) else {
            self.dropping = false;
            return None;
        };
        if self.dropping {
            if !ok_to_drop {
                self.dropping = false;
            }
            while self.dropping && now >= self.drop_next {
                self.count = self.count.saturating_add(1);
                if self.marks(&mut queued.packet) {
                    self.drop_next = self.control_law(self.drop_next);
                    return Some(queued);
                }
                dropped.push(given_up(queued));
                let Some(next) = self.take(queue, now) else {
                    self.dropping = false;
                    return None;
                };
                (queued, ok_to_drop) = next;
                match ok_to_drop {
                    true => self.drop_next = self.control_law(self.drop_next),
                    false => self.dropping = false,
                }
            }
            return Some(queued);
        }
        if !ok_to_drop {
            return Some(queued);
        }
        let marked = self.marks(&mut queued.packet);
        let next = match marked {
            true => Some(queued),
            false => {
                dropped.push(given_up(queued));
                self.take(queue, now).map(|(queued, _)| queued)
            }
        };
        self.dropping = true;
        // A queue that was bad a short while ago begins where it had ended.
        let delta = self.count - self.lastcount;
        let recent = now - self.drop_next < self.config.interval * MEMORY;
        self.count = if delta > 1 && recent { delta } else { 1 };
        self.drop_next = self.control_law(now);
        self.lastcount = self.count;
        if next.is_none() {
            self.dropping = false;
        }
        next
    }

    fn marks(&mut self, packet: &mut Packet) -> bool {
        let marks = self.config.ecn == Ecn::Mark && ecn::mark(packet);
        self.marked += u64::from(marks);
        marks
    }

    /// `t + interval / sqrt(count)`, rounded down to a nanosecond.
    fn control_law(&self, t: Instant) -> Instant {
        let interval = self.config.interval.as_nanos();
        let squared = interval * interval / u128::from(self.count.max(1));
        // The root of a square is no longer than the interval, which is a day at most.
        t + Duration::from_nanos(squared.isqrt() as u64)
    }
}

fn given_up(queued: Queued) -> Dropped {
    Dropped {
        packet: queued.packet,
        reason: DropReason::LinkAqm,
    }
}

//! Flow queues with controlled delay: FQ-CoDel, as RFC 8290 has it (section 4).
//!
//! Flows are spread over a fixed number of queues by a seeded hash. A queue exists from its first
//! frame on. Queues take turns by deficit round robin, those that have just become busy first; each
//! is under a CoDel of its own.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};

use super::codel::Control;
use super::discipline::{Discipline, Dropped, Fifo, Limits, Queued, no_room};
use crate::base::time::Instant;
use crate::link::config;
use crate::link::ecn;
use crate::packet::Packet;

/// Frames that are dropped at a time, at most, when the limit is reached (section 4.1.3 of the RFC).
const DROP_BATCH: usize = 64;

/// Flow queues.
#[derive(Debug)]
pub(crate) struct FqCodel {
    config: config::FqCodel,
    limits: Limits,
    seed: u64,
    flows: BTreeMap<u32, Flow>,
    new: VecDeque<u32>,
    old: VecDeque<u32>,
    frames: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Flow {
    queue: Fifo,
    control: Control,
    /// Bytes that it may send in this round.
    deficit: i64,
    /// On one of the lists.
    listed: bool,
}

impl FqCodel {
    /// Empty queues.
    pub(crate) fn new(config: config::FqCodel, limits: Limits, seed: u64) -> FqCodel {
        FqCodel {
            config,
            limits,
            seed,
            flows: BTreeMap::new(),
            new: VecDeque::new(),
            old: VecDeque::new(),
            frames: 0,
            bytes: 0,
        }
    }

    /// Frames for which there is room without another allocation.
    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        self.flows.values().map(|f| f.queue.frames.capacity()).sum()
    }

    /// Drops half of the longest queue, from its head, or so many frames as are dropped at a time.
    fn shrink(&mut self, dropped: &mut Vec<Dropped>) {
        // Only listed ones hold anything. Of several the one with the lowest number.
        let listed = self.new.iter().chain(&self.old);
        let longest = listed.max_by_key(|number| {
            let queue = &self.flows[*number].queue;
            (queue.bytes, queue.len(), Reverse(**number))
        });
        let longest = longest.and_then(|number| self.flows.get_mut(number));
        let Some(flow) = longest else {
            debug_assert!(false, "frames wait, so that a queue is listed");
            return;
        };
        let enough = flow.queue.bytes / 2;
        let before = flow.queue.bytes;
        for _ in 0..DROP_BATCH {
            let Some(queued) = flow.queue.pop() else {
                break;
            };
            self.frames -= 1;
            self.bytes -= queued.packet.frame_len();
            dropped.push(no_room(queued.packet));
            if before - flow.queue.bytes >= enough {
                break;
            }
        }
    }
}

impl Discipline for FqCodel {
    fn enqueue(&mut self, now: Instant, mut packet: Packet, dropped: &mut Vec<Dropped>) {
        let hash = ecn::flow(&mut packet, self.seed);
        let number = (hash % u64::from(self.config.flows)) as u32;
        let codel = self.config.codel;
        let flow = self.flows.entry(number).or_insert_with(|| Flow {
            queue: Fifo::default(),
            control: Control::new(codel),
            deficit: 0,
            listed: false,
        });
        self.frames += 1;
        self.bytes += packet.frame_len();
        flow.control.comes(&packet);
        flow.queue.push(now, packet);
        if !flow.listed {
            flow.listed = true;
            flow.deficit = i64::from(self.config.quantum);
            self.new.push_back(number);
        }
        while self.limits.exceeded(self.frames, self.bytes) {
            self.shrink(dropped);
        }
    }

    fn dequeue(&mut self, now: Instant, dropped: &mut Vec<Dropped>) -> Option<Queued> {
        loop {
            let is_new = !self.new.is_empty();
            let list = if is_new { &mut self.new } else { &mut self.old };
            let number = list.pop_front()?;
            let flow = self.flows.get_mut(&number).expect("a listed queue exists");
            if flow.deficit <= 0 {
                flow.deficit += i64::from(self.config.quantum);
                self.old.push_back(number);
                continue;
            }
            let (frames, bytes) = (flow.queue.len(), flow.queue.bytes);
            let taken = flow.control.dequeue(&mut flow.queue, now, dropped);
            self.frames -= frames - flow.queue.len();
            self.bytes -= bytes - flow.queue.bytes;
            match taken {
                // A new queue goes behind the old ones once, so that it cannot stay new by being
                // empty now and then.
                None if is_new => self.old.push_back(number),
                None => {
                    flow.listed = false;
                    // An idle flow costs what CoDel remembers of it, not the room of its bursts.
                    flow.queue = Fifo::default();
                }
                Some(queued) => {
                    flow.deficit -= queued.packet.frame_len() as i64;
                    match is_new {
                        true => self.new.push_front(number),
                        false => self.old.push_front(number),
                    }
                    return Some(queued);
                }
            }
        }
    }

    fn frames(&self) -> usize {
        self.frames
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn marked(&self) -> u64 {
        self.flows.values().map(|flow| flow.control.marked).sum()
    }
}

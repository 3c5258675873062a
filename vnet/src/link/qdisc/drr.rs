//! Deficit round robin (Shreedhar and Varghese, 1995) over classes with weights.
//!
//! A frame's class is its differentiated services codepoint, modulo the number of classes. A class
//! that has something to send may send its weight times the quantum in a round, and keeps what it
//! could not use because its next frame was too long.
//!
//! All classes share one room. When it is full, the frame that came last in the class with the most
//! bytes goes (buffer stealing, which the paper takes from McKenney): if who arrives were
//! dropped instead, a class that sends too much would keep the room full, and the others out.

use std::collections::VecDeque;

use super::discipline::{Discipline, Dropped, Fifo, Limits, Queued, no_room};
use crate::base::time::Instant;
use crate::link::ecn;
use crate::packet::Packet;

/// Classes in turn.
#[derive(Debug)]
pub(crate) struct Drr {
    classes: Vec<Class>,
    quantum: u64,
    limits: Limits,
    /// Classes that have something to send, in the order of their turns.
    active: VecDeque<usize>,
    frames: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Class {
    queue: Fifo,
    weight: u32,
    deficit: u64,
    /// It has been given its share of this round.
    served: bool,
}

impl Drr {
    /// Empty classes with these weights, which are above zero.
    pub(crate) fn new(weights: &[u32], quantum: u32, limits: Limits) -> Drr {
        let class = |weight: &u32| Class {
            queue: Fifo::default(),
            weight: *weight,
            deficit: 0,
            served: false,
        };
        Drr {
            classes: weights.iter().map(class).collect(),
            quantum: u64::from(quantum),
            limits,
            active: VecDeque::new(),
            frames: 0,
            bytes: 0,
        }
    }

    /// Takes the last frame of the class with the most bytes; of several that one into which a frame
    /// has just come, or else the one whose turn is first.
    fn push_out(&mut self, arrived: usize) -> Option<Packet> {
        let longest = |number: &&usize| (self.classes[**number].queue.bytes, **number == arrived);
        let number = *self.active.iter().rev().max_by_key(longest)?;
        let class = &mut self.classes[number];
        let queued = class.queue.pop_last()?;
        self.frames -= 1;
        self.bytes -= queued.packet.frame_len();
        if class.queue.is_empty() {
            class.rest();
            self.active.retain(|active| *active != number);
        }
        Some(queued.packet)
    }
}

impl Class {
    /// Keeps nothing of its share: it has nothing to send.
    fn rest(&mut self) {
        self.deficit = 0;
        self.served = false;
    }
}

impl Discipline for Drr {
    fn enqueue(&mut self, now: Instant, mut packet: Packet, dropped: &mut Vec<Dropped>) {
        let number = usize::from(ecn::dscp(&mut packet)) % self.classes.len();
        let class = &mut self.classes[number];
        if class.queue.is_empty() {
            self.active.push_back(number);
        }
        self.frames += 1;
        self.bytes += packet.frame_len();
        class.queue.push(now, packet);
        while self.limits.exceeded(self.frames, self.bytes) {
            let Some(packet) = self.push_out(number) else {
                debug_assert!(false, "nothing is not too much");
                return;
            };
            dropped.push(no_room(packet));
        }
    }

    fn dequeue(&mut self, _now: Instant, _dropped: &mut Vec<Dropped>) -> Option<Queued> {
        loop {
            let number = *self.active.front()?;
            let class = &mut self.classes[number];
            if !class.served {
                class.served = true;
                class.deficit += u64::from(class.weight) * self.quantum;
            }
            let len = class
                .queue
                .front_len()
                .expect("an active class has a frame") as u64;
            if len > class.deficit {
                class.served = false;
                self.active.rotate_left(1);
                continue;
            }
            class.deficit -= len;
            let queued = class.queue.pop()?;
            self.frames -= 1;
            self.bytes -= queued.packet.frame_len();
            if class.queue.is_empty() {
                class.rest();
                self.active.pop_front();
            }
            return Some(queued);
        }
    }

    fn frames(&self) -> usize {
        self.frames
    }

    fn bytes(&self) -> usize {
        self.bytes
    }
}

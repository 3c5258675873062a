//! Deficit round robin (Shreedhar and Varghese, 1995) over classes with weights.
//!
//! A frame's class is its differentiated services codepoint, modulo the number of classes. A class
//! that has something to send may send its weight times the quantum in a round, and keeps what it
//! could not use because its next frame was too long.

use std::collections::VecDeque;

use super::{Discipline, Dropped, Fifo, Limits, Queued, no_room};
use crate::base::time::Instant;
use crate::link::ecn;
use crate::packet::Packet;

/// Classes in turn.
#[derive(Debug)]
pub struct Drr {
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
    pub fn new(weights: &[u32], quantum: u32, limits: Limits) -> Drr {
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
}

impl Discipline for Drr {
    fn enqueue(&mut self, now: Instant, mut packet: Packet, dropped: &mut Vec<Dropped>) {
        if self
            .limits
            .exceeded(self.frames + 1, self.bytes + packet.len())
        {
            dropped.push(no_room(packet));
            return;
        }
        let number = usize::from(ecn::dscp(&mut packet)) % self.classes.len();
        let class = &mut self.classes[number];
        if class.queue.is_empty() {
            self.active.push_back(number);
        }
        self.frames += 1;
        self.bytes += packet.len();
        class.queue.push(now, packet);
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
            self.bytes -= queued.packet.len();
            if class.queue.is_empty() {
                class.deficit = 0;
                class.served = false;
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

    fn marked(&self) -> u64 {
        0
    }
}

//! A port whose line has several queues, each with a pump of its own: frames of one flow go to the same queue, in their
//! order, and queues are written to at the same time.
//!
//! Whoever comes first takes what the port has and hands it out, those who send included. So a queue without room holds
//! up nobody: what waits for it waits in its own lane, in the room that all lanes have together.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;
use vnet::Port;
use vnet::packet::Packet;

use super::shared::{ASLEEP, FOLLOW, FULL, GO_ON, Shared};
use crate::flow::flow;
use crate::line::{Room, Waiting};

/// Queues that a line may have, which is as many as a TAP has in Linux.
pub(crate) const MOST_QUEUES: usize = 256;
/// Frames handed out at once, before whoever does it goes on.
const AT_ONCE: usize = 256;

/// What is handed out, and to whom.
pub(super) struct Lanes {
    queues: Mutex<Queues>,
    /// The pumps, by lane.
    pumps: OnceLock<Vec<Arc<Shared>>>,
}

struct Queues {
    /// `None` once all pumps have ended: the port knows the lanes, which must not keep the port.
    port: Option<Arc<Port>>,
    /// By lane; `None` where the pump has ended.
    waiting: Vec<Option<Waiting>>,
    room: Room,
}

/// Lanes in which there is something new.
#[derive(Clone, Copy, Default)]
struct Fresh([u64; MOST_QUEUES / 64]);

impl Fresh {
    fn add(&mut self, number: usize) {
        self.0[number / 64] |= 1 << (number % 64);
    }

    fn has(&self, number: usize) -> bool {
        self.0[number / 64] & 1 << (number % 64) != 0
    }
}

impl Lanes {
    /// For so many queues, at most [`MOST_QUEUES`], with so much room together.
    pub(super) fn new(port: Arc<Port>, queues: usize, bytes: usize) -> Arc<Lanes> {
        Arc::new(Lanes {
            queues: Mutex::new(Queues {
                port: Some(port),
                waiting: (0..queues).map(|_| Some(Waiting::default())).collect(),
                room: Room::of(bytes),
            }),
            pumps: OnceLock::new(),
        })
    }

    /// Says whose the lanes are, before any of them runs.
    pub(super) fn are_of(&self, pumps: Vec<Arc<Shared>>) {
        let _ = self.pumps.set(pumps);
    }

    fn pumps(&self) -> impl Iterator<Item = (usize, &Arc<Shared>)> {
        self.pumps.get().into_iter().flatten().enumerate()
    }

    /// Hands out what the port has. Also says whether there may be more.
    fn hand_out(&self) -> (Fresh, bool) {
        let mut fresh = Fresh::default();
        let queues = &mut *self.queues.lock();
        let Some(port) = &queues.port else {
            return (fresh, false);
        };
        for _ in 0..AT_ONCE {
            let Some(packet) = port.recv() else {
                return (fresh, false);
            };
            let number = flow(&packet) as usize % queues.waiting.len();
            let waiting = queues.waiting[number].as_mut();
            match waiting.is_some_and(|waiting| waiting.push(&mut queues.room, packet)) {
                true => fresh.add(number),
                false => {
                    if let Some((_, pump)) = self.pumps().nth(number) {
                        pump.counters.refused.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        }
        (fresh, true)
    }

    /// The vnet has sent something, or is gone: called by the port, from any thread.
    pub(super) fn sent(&self, port: &Weak<Port>) {
        let (fresh, has_more) = self.hand_out();
        for (number, pump) in self.pumps() {
            if fresh.has(number) {
                pump.sent(port);
            }
        }
        let there = port.upgrade();
        if there.as_ref().is_none_or(|port| port.is_gone()) {
            for (_, pump) in self.pumps() {
                pump.wake(ASLEEP);
                pump.wake(FULL);
            }
        } else if (has_more || there.is_some_and(|port| port.next_arrival().is_some()))
            && let Some((_, first)) = self.pumps().next()
        {
            // It hands out the rest, or waits until it is due.
            first.wake(ASLEEP);
            first.wake(FULL);
        }
    }
}

/// The lane of one pump.
#[derive(Clone)]
pub(super) struct Lane {
    pub(super) lanes: Arc<Lanes>,
    pub(super) number: usize,
}

impl Lane {
    /// Hands out what the port has, and wakes the others. True when there may be more.
    pub(super) fn hand_out(&self) -> bool {
        let (fresh, has_more) = self.lanes.hand_out();
        for (number, pump) in self.lanes.pumps() {
            if fresh.has(number) && number != self.number {
                pump.wake(ASLEEP);
            }
        }
        has_more
    }

    /// The next frame for its queue.
    pub(super) fn next(&self) -> Option<Packet> {
        let queues = &mut *self.lanes.queues.lock();
        let waiting = queues.waiting[self.number].as_mut()?;
        waiting.pop(&mut queues.room)
    }

    /// It takes no more frames. Says how many it had; the last one gives up the port's, too.
    pub(super) fn leave(&self) -> u64 {
        let (left, port) = {
            let queues = &mut *self.lanes.queues.lock();
            let mut left = 0;
            if let Some(mut waiting) = queues.waiting[self.number].take() {
                while waiting.pop(&mut queues.room).is_some() {
                    left += 1;
                }
            }
            let is_last = queues.waiting.iter().all(Option::is_none);
            (left, is_last.then(|| queues.port.take()).flatten())
        };
        left + port.map_or(0, |port| port.close())
    }

    /// A line with a queue less is not the same line: the other pumps end, too.
    pub(super) fn end_the_others(&self) {
        for (number, pump) in self.lanes.pumps() {
            if number != self.number {
                let (order, asked) = (Ordering::SeqCst, &pump.asked);
                let _ = asked.compare_exchange(GO_ON, FOLLOW, order, order);
                pump.bell.ring();
            }
        }
    }
}

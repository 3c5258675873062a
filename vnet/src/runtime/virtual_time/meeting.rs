//! Where threads that carry out parts of a simulation wait for each other, and what they tell each other there.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use super::own;
use crate::base::lock::{Condvar, Mutex, Rank};
use crate::base::part;
use crate::base::time::Instant;
use crate::instance::apart::crossing::{self, Crossing};

/// How often a thread looks whether the others are there, before it sleeps.
const SPINS: u32 = 20_000;

/// Where threads wait for each other.
pub(super) struct Meeting {
    threads: usize,
    there: AtomicUsize,
    meetings: AtomicU64,
    /// For those that have looked often enough.
    sleep: Mutex<()>,
    over: Condvar,
}

impl Meeting {
    pub(super) fn new(threads: usize) -> Meeting {
        Meeting {
            threads,
            there: AtomicUsize::new(0),
            meetings: AtomicU64::new(0),
            sleep: Mutex::new(Rank::Driver, ()),
            over: Condvar::new(),
        }
    }

    /// Returns when all threads have called it.
    pub(super) fn wait(&self) {
        let meeting = self.meetings.load(Ordering::Acquire);
        let is_over = || self.meetings.load(Ordering::Acquire) != meeting;
        if self.there.fetch_add(1, Ordering::AcqRel) + 1 == self.threads {
            self.there.store(0, Ordering::Relaxed);
            let sleep = self.sleep.lock();
            self.meetings.store(meeting + 1, Ordering::Release);
            drop(sleep);
            self.over.notify_all();
            return;
        }
        for _ in 0..SPINS {
            if is_over() {
                return;
            }
            std::hint::spin_loop();
        }
        let mut sleep = self.sleep.lock();
        while !is_over() {
            self.over.wait(&mut sleep);
        }
    }
}

/// What the threads tell each other at a meeting. There are two, used in turn: what is told at one meeting has been read by
/// all before the next but one.
pub(super) struct Table {
    /// The time of the first event of each part, and of what it sends to others.
    pub(super) first: Vec<AtomicU64>,
    /// Which of them have seen a reason to stop.
    pub(super) stop: Vec<AtomicBool>,
    /// Which have not carried out all of their window: then it is not the time to stop.
    pub(super) behind: Vec<AtomicBool>,
    /// What is on its way, by the part that it comes from and the part that it goes to.
    ways: Vec<Vec<Mutex<Vec<Crossing>>>>,
}

impl Table {
    pub(super) fn new(parts: usize) -> Table {
        let way = |_| Mutex::new(Rank::Driver, Vec::new());
        Table {
            first: (0..parts).map(|_| AtomicU64::new(0)).collect(),
            stop: (0..parts).map(|_| AtomicBool::new(false)).collect(),
            behind: (0..parts).map(|_| AtomicBool::new(false)).collect(),
            ways: (0..parts).map(|_| (0..parts).map(way).collect()).collect(),
        }
    }

    /// Tells the others how far this thread is, and what it sends them.
    pub(super) fn tell(&self, me: usize, stop: bool, is_behind: bool) {
        let mut first = own::with(|own| own.agenda.next());
        for (to, way) in self.ways[me].iter().enumerate().filter(|(to, _)| *to != me) {
            let mut way = way.lock();
            let room = std::mem::take(&mut *way);
            *way = part::take(to as u32 + 1, room);
            first = [first, crossing::first(&way)].into_iter().flatten().min();
        }
        let first = first.map_or(u64::MAX, Instant::as_nanos);
        self.first[me].store(first, Ordering::Relaxed);
        self.stop[me].store(stop, Ordering::Relaxed);
        self.behind[me].store(is_behind, Ordering::Relaxed);
    }

    /// Takes in what others send to this part. False when an inbox fills.
    pub(super) fn take_in(&self, me: usize) -> bool {
        let mut has_room = true;
        for from in &self.ways {
            let mut way = std::mem::take(&mut *from[me].lock());
            has_room &= crossing::put(&mut way);
            *from[me].lock() = way;
        }
        has_room
    }
}

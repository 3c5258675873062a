//! Who carries frames between a port and the outside, besides the thread that is there for it: a thread that has to wait
//! for something in the port's vnet. What it waits for mostly comes by that way, and a thread less has to be woken for it.
//!
//! ```text
//!  waits ──► attend ──► carry ──► woken? ── no ──► sleep, until the line is ready, or somebody interrupts ──┐
//!                         ▲             └─ yes ──► back to its call: the other thread listens again         │
//!                         └─────────────────────────────────────────────────────────────────────────────────┘
//! ```

use std::sync::{Arc, Weak};

use crate::base::lock::{Mutex, Rank};
use crate::base::time::Duration;

/// What carries frames for a port of a vnet.
pub trait Line: Send + Sync {
    /// Takes over from the thread that carries otherwise; `None` when that thread, or another one, is at it.
    fn attend(self: Arc<Self>) -> Option<Box<dyn Attendance>>;

    /// Ends a sleep of whoever attends, or the next one. Called from any thread, with no lock of this library's held but
    /// those with which a waker may be called.
    fn interrupt(&self);
}

/// What is taken over. When it is dropped, the other thread goes on with it.
pub trait Attendance {
    /// Carries what is there, and does not wait.
    fn carry(&mut self) -> Carried;

    /// Sleeps until there may be more to carry, or somebody interrupts, or so much time has passed. May end sooner.
    fn sleep(&mut self, timeout: Option<Duration>);
}

/// What is left to be carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carried {
    /// There is more.
    Some,
    /// Nothing, for now.
    All,
    /// That is for the other thread.
    Elsewhere,
}

/// The lines of a vnet. Each is gone with what carries for it.
pub(crate) struct Lines(Mutex<Vec<Weak<dyn Line>>>);

impl Lines {
    pub(crate) fn new() -> Lines {
        Lines(Mutex::new(Rank::Waker, Vec::new()))
    }

    pub(crate) fn add(&self, line: Weak<dyn Line>) {
        let mut lines = self.0.lock();
        lines.retain(|line| line.strong_count() > 0);
        lines.push(line);
    }

    /// Whether there are any.
    pub(crate) fn are_there(&self) -> bool {
        self.0.lock().iter().any(|line| line.strong_count() > 0)
    }

    /// Takes over one that nobody is at.
    pub(crate) fn attend(&self) -> Option<(Arc<dyn Line>, Box<dyn Attendance>)> {
        (0..).find_map(|n| {
            // Neither is called, nor dropped, with the lock held.
            let next = self.0.lock().get(n).map(Weak::upgrade);
            match next {
                None => Some(None),
                Some(None) => None,
                Some(Some(line)) => {
                    let attendance = Arc::clone(&line).attend()?;
                    Some(Some((line, attendance)))
                }
            }
        })?
    }
}

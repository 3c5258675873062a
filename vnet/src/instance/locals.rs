//! The values of virtualized variables in one instance: a table of segments that never move.
//!
//! `C` is what has the values: an instance. How they are made, used and dropped is in `local`.

use std::any::Any;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock, Weak};
use std::task::Waker;
use std::thread::ThreadId;

use crate::base::lock::{Condvar, Mutex, Rank};

pub(super) type Value = Box<dyn Any + Send + Sync>;

/// Slots of the first segment; each further one has twice as many.
pub(super) const FIRST_SEGMENT: u32 = 8;
/// Room for half a million variables.
pub(super) const SEGMENTS: usize = 16;

/// The variables of one instance.
pub(crate) struct Locals<C> {
    pub(super) table: OnceLock<Weak<Table<C>>>,
    pub(super) owner: Mutex<Owner<C>>,
}

pub(super) enum Owner<C> {
    Unused,
    Open(Arc<Table<C>>),
    Closed,
}

/// How the variables of an instance went.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Closed {
    /// Values there were.
    pub(crate) values: u64,
    /// What went wrong.
    pub(crate) failure: Option<String>,
}

impl<C> Locals<C> {
    pub(crate) const fn new() -> Locals<C> {
        Locals {
            table: OnceLock::new(),
            owner: Mutex::new(Rank::Waker, Owner::Unused),
        }
    }
}

/// The values of one instance.
pub(super) struct Table<C> {
    pub(super) core: Arc<C>,
    /// Set when the instance has given it up, for those who come while it is still in use.
    pub(super) closed: AtomicBool,
    /// Each is made with its first value, and none ever moves.
    pub(super) segments: [OnceLock<Box<[OnceLock<Value>]>>; SEGMENTS],
    pub(super) making: Mutex<Making>,
    /// An initializer is over.
    pub(super) over: Condvar,
}

/// What concerns creation only.
#[derive(Default)]
pub(super) struct Making {
    /// Indices of the values, in the order of their creation.
    pub(super) made: Vec<u32>,
    /// Initializers that run.
    pub(super) running: Vec<Running>,
    /// Threads that wait for one of them.
    pub(super) waiting: Vec<(ThreadId, u32)>,
}

pub(super) struct Running {
    pub(super) index: u32,
    pub(super) by: ThreadId,
    pub(super) wakers: Vec<Waker>,
}

impl Making {
    /// True when the initializer of `index` waits for `me`, perhaps through others.
    pub(super) fn waits_for(&self, mut index: u32, me: ThreadId) -> bool {
        for _ in 0..=self.running.len() {
            let Some(running) = self.running.iter().find(|r| r.index == index) else {
                return false;
            };
            if running.by == me {
                return true;
            }
            match self.waiting.iter().find(|(by, _)| *by == running.by) {
                Some((_, next)) => index = *next,
                None => return false,
            }
        }
        // A circle that `me` is not in, but would wait for all the same.
        true
    }
}

/// The segment of an index, and its place therein.
#[inline]
pub(super) fn place(index: u32) -> (usize, usize) {
    let at = index + FIRST_SEGMENT;
    let segment = at.ilog2() - FIRST_SEGMENT.ilog2();
    (segment as usize, (at - (FIRST_SEGMENT << segment)) as usize)
}

impl<C> Table<C> {
    /// An empty one.
    pub(super) fn new(core: &Arc<C>) -> Table<C> {
        Table {
            core: Arc::clone(core),
            closed: AtomicBool::new(false),
            segments: [const { OnceLock::new() }; SEGMENTS],
            making: Mutex::new(Rank::Waker, Making::default()),
            over: Condvar::new(),
        }
    }

    #[inline]
    pub(super) fn value(&self, index: u32) -> Option<&(dyn Any + Send + Sync)> {
        let (segment, at) = place(index);
        self.segments.get(segment)?.get()?[at].get().map(|v| &**v)
    }
}

//! What a thread remembers while it services vnets, and from one call to the next.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::Arc;

use super::{Shared, delegate};
use crate::base::time::Instant;
use crate::base::trials::Trials;
use crate::instance::cores::VnetCore;

/// What a thread remembers between the calls of this module.
pub(super) struct Local {
    /// The clock that `now` was read from.
    pub(super) clock: Cell<*const Shared>,
    /// The time of the last reading.
    pub(super) now: Cell<Instant>,
    /// Vnets that this thread made ready and will service itself.
    pub(super) ready: RefCell<VecDeque<Arc<VnetCore>>>,
    pub(super) dispatching: Cell<bool>,
    /// When it began to service vnets.
    pub(super) began: Cell<Instant>,
    /// Whether it is one of `Shared::engaged`.
    pub(super) engaged: Cell<bool>,
    /// It has left the rest of a call's work to workers, and made no call since.
    pub(super) has_left: Cell<bool>,
    /// Of leaving it. It is in vain if the thread waits for something next: it would have been sooner done by itself.
    pub(super) trials: Trials,
}

thread_local! {
    pub(super) static LOCAL: Local = const {
        Local {
            clock: Cell::new(std::ptr::null()),
            now: Cell::new(Instant::ZERO),
            ready: RefCell::new(VecDeque::new()),
            dispatching: Cell::new(false),
            began: Cell::new(Instant::ZERO),
            engaged: Cell::new(false),
            has_left: Cell::new(false),
            trials: Trials::new(),
        }
    };
}

/// Notes that this thread waits for something.
pub(super) fn note_wait() {
    let _ = LOCAL.try_with(|local| {
        if local.has_left.take() {
            local.trials.note(true);
        }
    });
}

/// The time that this thread has read last.
pub(super) fn last_reading() -> Instant {
    LOCAL.try_with(|local| local.now.get()).unwrap_or_default()
}

impl Local {
    /// Hands what this thread made ready to the workers.
    pub(super) fn delegate_ready(&self) {
        let ready = std::mem::take(&mut *self.ready.borrow_mut());
        ready.into_iter().for_each(delegate);
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.delegate_ready();
    }
}

pub(super) struct Dispatching<'a>(&'a Local);

impl Dispatching<'_> {
    pub(super) fn begin(local: &Local) -> Dispatching<'_> {
        local.dispatching.set(true);
        Dispatching(local)
    }
}

impl Drop for Dispatching<'_> {
    fn drop(&mut self) {
        self.0.dispatching.set(false);
        if std::thread::panicking() {
            self.0.delegate_ready();
        }
    }
}

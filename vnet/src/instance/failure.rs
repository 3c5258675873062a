//! The end of an instance whose stack has panicked, and the panics of callbacks.
//!
//! A panic of the stack is a defect of the library, and ends the instance in which it occurred, and
//! no other. It is caught at the edge of the entry, with the vnet's lock held, so that no other
//! thread sees a half-finished state. The stack is replaced by an empty one; every frame that was
//! under way is accounted for; everything that waits for a socket is woken, and finds the instance
//! *gone*; the wires go down, and what had already been sent arrives. From then on the instance
//! behaves like one that is being torn down, until its owner destroys it and learns why it ended.
//!
//! A panic of a callback is the program's. It goes to the thread whose call ran it, when that was a
//! call of the very vnet whose callback it is, or the poll of an embedder's own world; else it is
//! logged at level ERROR, with the vnet current, and counted. The panic hook has reported either.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::context::{in_effects, within};
use super::cores::{Live, VnetCore};
use super::phase::Phase;
use super::report::Failure;
use super::vnet::Vnet;
use crate::base::callback::{self, Payload};
use crate::base::time::Instant;
use crate::netif::inbox::Batch;
use crate::packet::Out;
use crate::stack::failure::Wreck;
use crate::trace;

impl Vnet {
    /// Why the instance ended by itself, if it did: a defect of the library made its stack panic.
    /// Everything in it is then *gone*, as after [`OwnedVnet::destroy`](crate::OwnedVnet::destroy).
    /// The instance must still be destroyed, or its handle dropped: this undoes the init steps,
    /// destroys the children, and releases the name. The report says the same. `None` once that is
    /// done.
    ///
    /// ```
    /// use vnet::System;
    ///
    /// let system = System::virtual_time(1);
    /// let a = system.create("a")?;
    /// assert_eq!(a.failure(), None);
    /// assert_eq!(a.destroy().failure, None);
    /// # Ok::<(), vnet::CreateError>(())
    /// ```
    pub fn failure(&self) -> Option<Failure> {
        self.core.failure()
    }

    /// How often a callback on behalf of this vnet (a waker, a port's callback, a `FrameTap`) has
    /// panicked without the panic reaching a caller, because none of the program's calls had run
    /// it.
    pub fn callback_panics(&self) -> u64 {
        self.core.callback_panics.load(Ordering::Relaxed)
    }
}

/// What has to be dropped once the lock is released, and why.
pub(super) struct Wreckage {
    wreck: Wreck,
    due: Batch,
    panic: Payload,
    failure: Failure,
}

impl Live {
    /// Ends the instance, in whose stack something has panicked.
    #[cold]
    pub(super) fn fail(&mut self, now: Instant, panic: Payload, out: &mut Out) -> Box<Wreckage> {
        let failure = Failure {
            at: now,
            reason: callback::panic_text(&*panic).to_owned(),
        };
        self.failure
            .get_or_insert_with(|| Box::new(failure.clone()));
        if self.inside.phase != Phase::Dying {
            self.inside.phase = Phase::Failed;
        }
        self.inside.loans.close();
        if let Some(drain) = &mut self.inside.drain {
            drain.end(out);
        }
        let due = std::mem::take(&mut self.inside.due);
        let (wreck, held) = self.inside.stack.give_up(now, &mut self.rng, out);
        self.stats.fail(due.frames(), held);
        // What had been sent before arrives, and far ends hear that the wires are down.
        let deliver = AssertUnwindSafe(|| self.deliver(now, out));
        if let Err(again) = catch_unwind(deliver) {
            callback::discard(again);
        }
        Box::new(Wreckage {
            wreck,
            due,
            panic,
            failure,
        })
    }
}

impl VnetCore {
    pub(super) fn failure(&self) -> Option<Failure> {
        let mut failure = None;
        self.alive(|live| failure = live.failure.as_deref().cloned());
        failure
    }

    /// Drops what is left of a stack that has failed, with the vnet unlocked.
    #[cold]
    pub(super) fn clear_away(self: &Arc<Self>, wreckage: Box<Wreckage>) {
        let Wreckage {
            wreck,
            due,
            panic,
            failure,
        } = *wreckage;
        within(self, || {
            let vnet = &*self.name;
            tracing::error!(target: trace::LIFECYCLE, vnet, "the vnet has failed: {failure}");
        });
        in_effects(|| {
            // What comes now would be taken in by nobody.
            callback::contained("the destructor of a payload", || {
                self.inbox.close();
            });
            wreck.clear_away();
            callback::contained("the destructor of a payload", || drop(due));
            callback::discard(panic);
        });
    }

    /// Gives the panic of a callback to the calling thread, whose call it was that ran it: once the
    /// vnets that the call made ready have been serviced.
    #[cold]
    pub(super) fn give_back(self: &Arc<Self>, panic: Payload) {
        if std::thread::panicking() {
            // The call is a destructor's. A second panic would end the process.
            return self.note_panic(panic);
        }
        self.driver.dispatch();
        std::panic::resume_unwind(panic);
    }

    /// Notes the panic of a callback that nobody is given.
    #[cold]
    pub(super) fn note_panic(self: &Arc<Self>, panic: Payload) {
        self.callback_panics.fetch_add(1, Ordering::Relaxed);
        within(self, || {
            let (vnet, text) = (&*self.name, callback::panic_text(&*panic));
            tracing::error!(target: trace::LIFECYCLE, vnet, "a callback has panicked: {text}");
            callback::discard(panic);
        });
    }
}

#[cfg(test)]
mod tests;

//! Where a thread has entered vnets, as other threads see it.

use std::panic::Location;
use std::ptr;
use std::sync::Weak;
use std::sync::atomic::AtomicPtr;

use crate::base::lock::Mutex;

/// Nested guards of a thread that others can see; further ones work, and are not seen.
pub(super) const TRAIL_LEN: usize = 16;

/// The guards of one thread, as other threads see them.
pub(crate) struct Trail {
    pub(super) thread: String,
    pub(super) slots: [Slot; TRAIL_LEN],
}

/// The place of one guard.
pub(super) struct Slot {
    /// The address of the vnet that was entered, to be compared only; null when no guard stands here.
    pub(super) core: AtomicPtr<()>,
    /// Where. Never null once `core` was set.
    pub(super) at: AtomicPtr<Location<'static>>,
}

impl Trail {
    pub(super) fn of_this_thread() -> Trail {
        let thread = std::thread::current();
        let unnamed = || format!("{:?}", thread.id());
        Trail {
            thread: thread.name().map_or_else(unnamed, str::to_owned),
            slots: [const {
                Slot {
                    core: AtomicPtr::new(ptr::null_mut()),
                    at: AtomicPtr::new(ptr::null_mut()),
                }
            }; TRAIL_LEN],
        }
    }
}

/// The threads that have entered vnets of one system.
pub(crate) type Visitors = Mutex<Vec<Weak<Trail>>>;

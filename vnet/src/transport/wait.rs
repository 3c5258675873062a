//! Who waits for a socket. A waiter is a [`Waker`], whether it is a future or a blocked thread.

use std::task::Waker;

use smallvec::SmallVec;

use crate::base::callback;
use crate::packet::Out;

/// Waiters for one condition of one socket, woken in the order in which they came.
#[derive(Debug, Default)]
pub struct WaitQueue(SmallVec<[Waker; 1]>);

impl WaitQueue {
    /// Adds a waiter, unless it waits here already.
    pub fn register(&mut self, waker: &Waker) {
        if !self.0.iter().any(|w| w.will_wake(waker)) {
            self.0.push(waker.clone());
        }
    }

    /// Wakes everyone, once the vnet's lock is released.
    #[inline]
    pub fn wake(&mut self, out: &mut Out) {
        out.wakes.extend(self.0.drain(..));
    }

    /// True when nobody waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Drop for WaitQueue {
    /// Nobody waits for ever for a socket that is no more. A socket that is closed, or torn down,
    /// has woken everyone; one that goes with a stack that has failed does it here, without the
    /// vnet's lock.
    fn drop(&mut self) {
        for waker in self.0.drain(..) {
            callback::contained("a waker", || waker.wake());
        }
    }
}

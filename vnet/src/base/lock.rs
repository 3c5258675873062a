//! The library's only mutex, and the one list of lock ranks.
//!
//! A thread may take a lock only when its rank is above that of every lock the thread holds.
//! Debug builds assert it at every acquisition; release builds pay nothing. Two locks of one
//! rank are never held together, which is how "no code path holds two vnets" is enforced.

use std::ops::{Deref, DerefMut};

#[cfg(debug_assertions)]
use std::cell::Cell;

#[cfg(test)]
pub(crate) mod explore;

/// The lock order, outermost first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Rank {
    /// The system's registry of vnets and init records.
    Registry,
    /// One vnet's stack.
    Vnet,
    /// What the two ends of a wire are connected to.
    Wire,
    /// A vnet's inbox, or the queue towards a port.
    Inbox,
    /// A driver's timers and run queues.
    Driver,
    /// A capture's output.
    Capture,
    /// A waiter's own state.
    Waker,
    /// A message buffer, or the directory of them; no other lock may be taken while it is held.
    Messages,
    /// Idle memory, which may be given back under any lock; no other lock may be taken while it is held.
    Pool,
}

/// A mutual exclusion lock with a [`Rank`]. Not poisoned by a panic.
#[derive(Debug)]
pub(crate) struct Mutex<T> {
    #[cfg(debug_assertions)]
    rank: Rank,
    inner: parking_lot::Mutex<T>,
}

impl<T> Mutex<T> {
    /// A new unlocked mutex of the given rank.
    pub(crate) const fn new(rank: Rank, value: T) -> Mutex<T> {
        #[cfg(not(debug_assertions))]
        let _ = rank;
        Mutex {
            #[cfg(debug_assertions)]
            rank,
            inner: parking_lot::Mutex::new(value),
        }
    }

    /// Waits for the lock.
    ///
    /// # Panics
    /// In debug builds, when the thread holds a lock of this rank or above.
    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        #[cfg(debug_assertions)]
        let held = HeldRank::take(self.rank);
        #[cfg(test)]
        let turn = explore::Held::take(address(self));
        MutexGuard {
            inner: self.inner.lock(),
            #[cfg(debug_assertions)]
            _held: held,
            #[cfg(test)]
            turn,
        }
    }

    /// The value, without locking: the mutex is not shared.
    pub(crate) fn into_inner(self) -> T {
        self.inner.into_inner()
    }
}

/// Access to the value of a locked [`Mutex`]; unlocks on drop.
pub(crate) struct MutexGuard<'a, T> {
    inner: parking_lot::MutexGuard<'a, T>,
    #[cfg(debug_assertions)]
    _held: HeldRank,
    #[cfg(test)]
    turn: explore::Held,
}

impl<T> MutexGuard<'_, T> {
    /// Unlocks, and hands the lock to a thread that waits for it, if there is one. Otherwise whoever asks next has
    /// it, which may be this thread again and again.
    pub(crate) fn unlock_fair(self) {
        parking_lot::MutexGuard::unlock_fair(self.inner);
    }
}

/// What tells one lock or condition from another while it lives.
#[cfg(test)]
fn address<T>(of: &T) -> usize {
    std::ptr::from_ref(of).addr()
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

/// A condition to wait for, used with a [`MutexGuard`].
#[derive(Debug, Default)]
pub(crate) struct Condvar(parking_lot::Condvar);

impl Condvar {
    /// A condition with no waiters.
    pub(crate) const fn new() -> Condvar {
        Condvar(parking_lot::Condvar::new())
    }

    /// Releases the lock, waits for a notification, takes the lock again.
    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        #[cfg(test)]
        if explore::is_active() {
            self.wait_in_scenario(guard, false);
            return;
        }
        self.0.wait(&mut guard.inner);
    }

    /// Like [`Condvar::wait`], for at most `timeout`. Returns true when the timeout expired.
    pub(crate) fn wait_for<T>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        timeout: std::time::Duration,
    ) -> bool {
        #[cfg(test)]
        if explore::is_active() {
            return self.wait_in_scenario(guard, true);
        }
        self.0.wait_for(&mut guard.inner, timeout).timed_out()
    }

    /// Wakes one waiter.
    pub(crate) fn notify_one(&self) {
        #[cfg(test)]
        explore::notify(address(self), 1);
        self.0.notify_one();
    }

    /// Wakes every waiter.
    pub(crate) fn notify_all(&self) {
        #[cfg(test)]
        explore::notify(address(self), usize::MAX);
        self.0.notify_all();
    }

    #[cfg(test)]
    fn wait_in_scenario<T>(&self, guard: &mut MutexGuard<'_, T>, limited: bool) -> bool {
        let MutexGuard { inner, turn, .. } = guard;
        parking_lot::MutexGuard::unlocked(inner, || turn.wait(address(self), limited))
    }
}

#[cfg(debug_assertions)]
thread_local! {
    /// Bit `r` is set while this thread holds a lock of rank `r`.
    static HELD: Cell<u16> = const { Cell::new(0) };
}

#[cfg(debug_assertions)]
#[derive(Debug)]
struct HeldRank(Rank);

#[cfg(debug_assertions)]
impl HeldRank {
    fn take(rank: Rank) -> HeldRank {
        HELD.with(|held| {
            let above = u16::MAX << rank as u8;
            assert!(
                held.get() & above == 0,
                "lock order broken: taking {rank:?} while holding ranks {:#b}",
                held.get()
            );
            held.set(held.get() | 1 << rank as u8);
        });
        HeldRank(rank)
    }
}

#[cfg(debug_assertions)]
impl Drop for HeldRank {
    fn drop(&mut self) {
        // A guard may be dropped by a thread-local's destructor, after HELD is gone.
        let _ = HELD.try_with(|held| held.set(held.get() & !(1 << self.0 as u8)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_go_up() {
        let vnet = Mutex::new(Rank::Vnet, 1);
        let inbox = Mutex::new(Rank::Inbox, 2);
        let a = vnet.lock();
        let b = inbox.lock();
        assert_eq!(*a + *b, 3);
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "lock order broken")]
    fn two_vnets_are_never_held() {
        let a = Mutex::new(Rank::Vnet, ());
        let b = Mutex::new(Rank::Vnet, ());
        let _a = a.lock();
        let _b = b.lock();
    }
}

//! How a thread waits for its waker under the threads driver: it spins for a while, then it sleeps.
//!
//! Spinning saves the tens of microseconds that a sleeping thread takes to resume, if the event
//! comes soon. It must not take the processor from the thread that causes the event: between looks
//! the thread yields its processor, and a thread that has spun in vain several times in a row goes
//! to sleep at once, and spins again only now and then.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

use crossbeam::sync::{Parker, Unparker};

use super::clock::WallClock;
use crate::base::time::{Duration, Instant};
use crate::instance::driver::Waited;

/// The number of looks between two yields.
const LOOKS: u32 = 64;
/// The number of waits in vain after which a thread sleeps at once.
const PATIENCE: u32 = 4;
/// One wait out of this many spins nevertheless.
const RETRY: u32 = 64;

/// A thread that waits.
pub(super) struct Sleeper {
    parker: Parker,
    bell: Arc<Bell>,
    waker: Waker,
    /// The number of consecutive waits in which spinning was in vain.
    vain: Cell<u32>,
}

struct Bell {
    woken: AtomicBool,
    unparker: Unparker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.woken.swap(true, Ordering::AcqRel) {
            #[cfg(test)]
            crate::base::lock::explore::notify(std::ptr::from_ref(&self.woken).addr(), 1);
            self.unparker.unpark();
        }
    }
}

impl Bell {
    fn take(&self) -> bool {
        self.woken.load(Ordering::Relaxed) && self.woken.swap(false, Ordering::AcqRel)
    }
}

impl Sleeper {
    pub(super) fn new() -> Sleeper {
        let parker = Parker::new();
        let bell = Arc::new(Bell {
            woken: AtomicBool::new(false),
            unparker: parker.unparker().clone(),
        });
        Sleeper {
            parker,
            waker: Waker::from(Arc::clone(&bell)),
            bell,
            vain: Cell::new(0),
        }
    }

    pub(super) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Waits for the waker, or until `until`; spins for at most `spin` before it sleeps.
    pub(super) fn wait(&self, clock: &WallClock, spin: Duration, until: Option<Instant>) -> Waited {
        #[cfg(test)]
        if crate::base::lock::explore::is_active() && until.is_none() {
            let woken = std::ptr::from_ref(&self.bell.woken).addr();
            crate::base::lock::explore::park(woken, || self.bell.take());
            return Waited::Woken;
        }
        if self.look(clock, spin) {
            return Waited::Woken;
        }
        loop {
            if self.bell.take() {
                return Waited::Woken;
            }
            match until {
                None => self.parker.park(),
                Some(at) => {
                    let left = clock.until(at);
                    if left.is_zero() {
                        return Waited::TimedOut;
                    }
                    self.parker.park_timeout(left);
                }
            }
        }
    }

    fn look(&self, clock: &WallClock, spin: Duration) -> bool {
        let vain = self.vain.get();
        if spin.is_zero() || (vain >= PATIENCE && !vain.is_multiple_of(RETRY)) {
            self.vain.set(vain.wrapping_add(1));
            return self.bell.take();
        }
        let from = clock.now();
        let mut has_yielded = false;
        loop {
            for _ in 0..LOOKS {
                if self.bell.take() {
                    // Somebody else may have had the processor for much longer: whoever sleeps gets it sooner.
                    let is_late = has_yielded && clock.now() - from >= spin;
                    self.vain.set(vain_after(vain, is_late));
                    return true;
                }
                std::hint::spin_loop();
            }
            if clock.now() - from >= spin {
                self.vain.set(vain_after(vain, true));
                return false;
            }
            std::thread::yield_now();
            has_yielded = true;
        }
    }
}

/// Looks in vain, one behind the other, after one more.
fn vain_after(vain: u32, is_vain: bool) -> u32 {
    match is_vain {
        true => vain.wrapping_add(1),
        false => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_of_the_waker_before_the_wait_is_not_lost() {
        let sleeper = Sleeper::new();
        for spin in [Duration::ZERO, Duration::from_micros(1)] {
            for _ in 0..2 * PATIENCE {
                sleeper.waker().wake();
                let woken = sleeper.wait(&WallClock::start(), spin, None);
                assert_eq!(woken, Waited::Woken);
            }
        }
    }

    #[test]
    fn a_wait_ends_when_its_time_has_come() {
        let sleeper = Sleeper::new();
        let clock = WallClock::start();
        for _ in 0..2 * PATIENCE {
            let until = clock.now() + Duration::from_micros(200);
            let ended = sleeper.wait(&clock, Duration::from_micros(20), Some(until));
            assert_eq!(ended, Waited::TimedOut);
            assert!(clock.now() >= until);
        }
    }
}

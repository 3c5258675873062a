//! How a thread waits for its waker under the threads driver: it spins for a while, then it sleeps.
//!
//! Spinning saves the tens of microseconds that a sleeping thread takes to resume, if the event
//! comes soon. It must not take the processor from the thread that causes the event: between looks
//! the thread yields its processor, and a thread that has spun in vain several times in a row goes
//! to sleep at once, and spins again only now and then ([`Trials`]).

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

use crossbeam::sync::{Parker, Unparker};

use super::clock::WallClock;
use crate::base::lock::{Mutex, Rank};
use crate::base::time::{Duration, Instant};
use crate::base::trials::Trials;
use crate::instance::attendance::{Attendance, Carried, Line};
use crate::instance::driver::Waited;

/// The number of looks between two yields.
const LOOKS: u32 = 64;

/// A thread that waits.
pub(super) struct Sleeper {
    parker: Parker,
    bell: Arc<Bell>,
    waker: Waker,
    /// Of spinning.
    trials: Trials,
    /// Waits so far: carrying calls programs, which may wait as well.
    waits: Cell<u64>,
}

struct Bell {
    woken: AtomicBool,
    unparker: Unparker,
    /// It sleeps, or is about to, at a line.
    is_at_line: AtomicBool,
    line: Mutex<Option<Arc<dyn Line>>>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Either this sees that it is at a line, or it sees before it sleeps there that it is woken.
        if !self.woken.swap(true, Ordering::SeqCst) {
            #[cfg(test)]
            crate::base::lock::explore::notify(std::ptr::from_ref(&self.woken).addr(), 1);
            if self.is_at_line.load(Ordering::SeqCst) {
                self.interrupt();
            } else {
                self.unparker.unpark();
            }
        }
    }
}

impl Bell {
    #[cold]
    fn interrupt(&self) {
        let line = self.line.lock().clone();
        if let Some(line) = line {
            line.interrupt();
        }
    }

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
            is_at_line: AtomicBool::new(false),
            line: Mutex::new(Rank::Waker, None),
        });
        Sleeper {
            parker,
            waker: Waker::from(Arc::clone(&bell)),
            bell,
            trials: Trials::new(),
            waits: Cell::new(0),
        }
    }

    /// Whether it may carry frames at a line while it waits: not while it carries, in a wait within that one.
    pub(super) fn may_attend(&self) -> bool {
        self.bell.line.lock().is_none()
    }

    fn count(&self) -> u64 {
        let waits = self.waits.get().wrapping_add(1);
        self.waits.set(waits);
        waits
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
        self.count();
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

    /// The same while this thread carries frames at a line; `None` when somebody else has to, and there is only to be
    /// waited. It looks at the line, from where what it waits for mostly comes, and it sleeps there: nobody else has to be
    /// woken first.
    pub(super) fn wait_at(
        &self,
        line: Arc<dyn Line>,
        mut attendance: Box<dyn Attendance>,
        clock: &WallClock,
        spin: Duration,
        until: Option<Instant>,
    ) -> Option<Waited> {
        let number = self.count();
        *self.bell.line.lock() = Some(line);
        let _leaves = Leaves(&self.bell);
        let mut spins = self.trials.spins_until(|| clock.now(), spin);
        // When it is lent, nothing is known to be there, and a line that is ready ends the sleep at once.
        let mut carried = Carried::All;
        loop {
            let left = until.map(|at| clock.until(at));
            if left.is_some_and(|left| left.is_zero()) {
                return Some(Waited::TimedOut);
            }
            match carried {
                Carried::Some => {}
                // It does not yield its processor: beside others who are busy, it would get it back much later than one who
                // is woken.
                Carried::All if spins.is_some_and(|end| clock.now() < end) => {
                    std::hint::spin_loop();
                }
                Carried::All => {
                    if spins.take().is_some() {
                        self.trials.note(true);
                    }
                    self.bell.is_at_line.store(true, Ordering::SeqCst);
                    if !self.bell.woken.load(Ordering::SeqCst) {
                        attendance.sleep(left);
                    }
                    self.bell.is_at_line.store(false, Ordering::SeqCst);
                }
                Carried::Elsewhere => return None,
            }
            carried = attendance.carry();
            // A wait within that may have taken the call that was for this one.
            if self.bell.take() || self.waits.get() != number {
                if let Some(end) = spins {
                    self.trials.note(clock.now() >= end);
                }
                return Some(Waited::Woken);
            }
        }
    }

    fn look(&self, clock: &WallClock, spin: Duration) -> bool {
        let Some(end) = self.trials.spins_until(|| clock.now(), spin) else {
            return self.bell.take();
        };
        let mut has_yielded = false;
        loop {
            for _ in 0..LOOKS {
                if self.bell.take() {
                    // Somebody else may have had the processor for much longer: whoever sleeps gets it sooner.
                    self.trials.note(has_yielded && clock.now() >= end);
                    return true;
                }
                std::hint::spin_loop();
            }
            if clock.now() >= end {
                self.trials.note(true);
                return false;
            }
            std::thread::yield_now();
            has_yielded = true;
        }
    }
}

/// Forgets the line when the thread leaves it, in whichever way.
struct Leaves<'a>(&'a Bell);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.0.is_at_line.store(false, Ordering::SeqCst);
        let line = self.0.line.lock().take();
        drop(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::trials::PATIENCE;

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

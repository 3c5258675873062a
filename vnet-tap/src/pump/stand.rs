//! Where a pump is left while its thread sleeps, for others who have to wait: one of them carries meanwhile.
//!
//! The pump's thread sleeps at an alarm, a set of descriptors of which one is another set: that with the line and the bell. It
//! is armed while nobody else has the pump. So whoever takes it is the only one whom the kernel wakes, and giving it back
//! wakes nobody: each is one system call.
//!
//! ```text
//!                        take: disarm                         carries, sleeps at the line and the bell
//!  thread ─► place ◄──────────────────────► one who waits ──────────────────────────────┐
//!    ▲         │         give back: arm                                                 │
//!    └─ alarm ─┘◄───────────────────────────────────────────────────────────────────────┘
//! ```

use std::any::Any;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{hint, io};

use parking_lot::{Mutex, MutexGuard};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use vnet::beside::{Attendance, Carried, Line};

use super::shared::{BUSY, CARRIES, GO_ON, OWN, Shared};
use super::worker::{Next, Worker};
use crate::line::Inward;
use crate::sys::{Interest, wait};

/// How often one who waits looks whether the pump's thread has left the pump, which takes it some microseconds.
const LOOKS: u32 = 256;

/// The place.
pub(super) struct Stand {
    shared: Arc<Shared>,
    place: Mutex<Place>,
    /// Holds `ready`, armed or not.
    alarm: OwnedFd,
    /// Holds the line and the bell.
    ready: OwnedFd,
    /// The pump's thread is about to sleep, and looks for more until then.
    looks: AtomicBool,
    /// Somebody would rather do so: it sleeps at once.
    is_asked_for: AtomicBool,
    /// Somebody has had to wait: without, the thread sleeps at the line itself, which takes fewer calls.
    is_wanted: AtomicBool,
}

#[derive(Default)]
struct Place {
    worker: Option<Box<Worker>>,
    /// With this, carrying has ended on a thread that does not own the pump.
    panic: Option<Box<dyn Any + Send>>,
}

impl Stand {
    pub(super) fn new(shared: &Arc<Shared>, inward: &dyn Inward) -> io::Result<Arc<Stand>> {
        let set = || epoll::create(CreateFlags::CLOEXEC);
        let (alarm, ready) = (set()?, set()?);
        let any = EventData::new_u64(0);
        epoll::add(&ready, inward.fd(), any, EventFlags::IN)?;
        epoll::add(&ready, &shared.bell, any, EventFlags::IN)?;
        epoll::add(&alarm, &ready, any, EventFlags::ONESHOT)?;
        Ok(Arc::new(Stand {
            shared: Arc::clone(shared),
            place: Mutex::default(),
            alarm,
            ready,
            looks: AtomicBool::new(false),
            is_asked_for: AtomicBool::new(false),
            is_wanted: AtomicBool::new(false),
        }))
    }

    /// For as long as the pump's thread looks for more.
    pub(super) fn while_it_looks(&self) -> Looking<'_> {
        self.is_asked_for.store(false, Ordering::SeqCst);
        self.looks.store(true, Ordering::SeqCst);
        Looking(self)
    }

    /// What is left here. If the pump's thread is about to sleep, it is asked to leave the pump.
    fn place(&self) -> Option<MutexGuard<'_, Place>> {
        let place = self.place.try_lock()?;
        if place.worker.is_some() || !self.looks.load(Ordering::SeqCst) {
            return Some(place);
        }
        drop(place);
        self.is_asked_for.store(true, Ordering::SeqCst);
        for _ in 0..LOOKS {
            hint::spin_loop();
            let place = self.place.try_lock();
            if let Some(place) = place.filter(|place| place.worker.is_some()) {
                return Some(place);
            }
        }
        None
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.is_wanted.load(Ordering::Relaxed)
    }

    /// Has the pump's thread woken by the next frame, or the bell; or not.
    fn arm(&self, events: EventFlags) -> io::Result<()> {
        let flags = events | EventFlags::ONESHOT;
        epoll::modify(&self.alarm, &self.ready, EventData::new_u64(0), flags)?;
        Ok(())
    }

    fn give_back(&self, worker: Box<Worker>) -> io::Result<()> {
        let mut place = self.place.lock();
        place.worker = Some(worker);
        self.arm(EventFlags::IN)
    }

    /// Sleeps until there is something for the pump's thread, which leaves the pump here meanwhile. It is asleep, and
    /// nothing more is known to be carried.
    ///
    /// # Panics
    /// When another thread that has carried has panicked, with the same payload.
    pub(super) fn sleep(&self, worker: Box<Worker>) -> (Box<Worker>, io::Result<()>) {
        let mut slept = self.give_back(worker);
        loop {
            if slept.is_ok() {
                slept = self.hear();
            }
            let mut place = self.place.lock();
            if let Some(worker) = place.worker.take() {
                let panic = place.panic.take();
                drop(place);
                if let Some(payload) = panic {
                    drop(worker);
                    resume_unwind(payload);
                }
                self.shared.bell.silence();
                return (worker, slept);
            }
            // Somebody has it, who arms the alarm when it is back.
            slept = Ok(());
        }
    }

    /// Waits for the alarm.
    fn hear(&self) -> io::Result<()> {
        let mut event = [epoll::Event {
            flags: EventFlags::empty(),
            data: EventData::new_u64(0),
        }];
        match epoll::wait(&self.alarm, &mut event[..], None) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// The pump's thread looks for more.
pub(super) struct Looking<'a>(&'a Stand);

impl Looking<'_> {
    /// Somebody else wants to.
    pub(super) fn is_asked_for(&self) -> bool {
        self.0.is_asked_for.load(Ordering::SeqCst)
    }
}

impl Drop for Looking<'_> {
    fn drop(&mut self) {
        self.0.looks.store(false, Ordering::SeqCst);
    }
}

impl Line for Stand {
    fn attend(self: Arc<Self>) -> Option<Box<dyn Attendance>> {
        self.is_wanted.store(true, Ordering::Relaxed);
        let mut place = self.place()?;
        // The owner's wishes are for its own thread.
        if self.shared.asked.load(Ordering::SeqCst) != GO_ON
            || place.worker.is_none()
            || place.panic.is_some()
            || self.arm(EventFlags::empty()).is_err()
        {
            return None;
        }
        let worker = place.worker.take()?;
        drop(place);
        Some(Box::new(Attended {
            worker: Some(worker),
            stand: self,
            rest: Rest::None,
        }))
    }

    fn interrupt(&self) {
        self.shared.bell.ring();
    }
}

/// What one who attends leaves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// Nothing: the pump is asleep.
    None,
    /// It has slept, and not looked since.
    Look,
    /// Something for the pump's own thread.
    Some,
}

/// A pump at the hands of a thread that waits.
struct Attended {
    /// Given back when this is dropped.
    worker: Option<Box<Worker>>,
    stand: Arc<Stand>,
    rest: Rest,
}

impl Attendance for Attended {
    fn carry(&mut self) -> Carried {
        let Some(worker) = &mut self.worker else {
            return Carried::Elsewhere;
        };
        if worker.shared.asked.load(Ordering::SeqCst) != GO_ON {
            self.rest = Rest::Some;
            return Carried::Elsewhere;
        }
        // Until it is known that there is nothing more, what the vnet sends is found by this turn.
        worker.shared.state.store(BUSY, Ordering::SeqCst);
        // As on the pump's own thread, nobody may wait for its end here.
        let carries = CARRIES.replace(Some(OWN));
        let next = catch_unwind(AssertUnwindSafe(|| worker.turn()));
        CARRIES.set(carries);
        self.rest = Rest::Some;
        match next {
            Ok(Next::Turn) => Carried::Some,
            Ok(Next::Sleep(Interest::Read, None)) => {
                self.rest = Rest::None;
                Carried::All
            }
            Ok(Next::End(end)) => {
                worker.ended = Some(end);
                Carried::Elsewhere
            }
            Ok(Next::Pause | Next::Sleep(..)) => Carried::Elsewhere,
            Err(payload) => {
                self.stand.place.lock().panic = Some(payload);
                Carried::Elsewhere
            }
        }
    }

    fn sleep(&mut self, timeout: Option<Duration>) {
        let Some(worker) = &self.worker else { return };
        // If it fails, reading the line says why.
        let _ = wait(
            worker.inward.fd(),
            &worker.shared.bell,
            Interest::Read,
            timeout,
        );
        worker.wake_up();
        self.rest = Rest::Look;
    }
}

impl Drop for Attended {
    fn drop(&mut self) {
        if self.rest == Rest::Look && !std::thread::panicking() {
            // The bell may have rung for the pump as well.
            self.carry();
        }
        let Some(worker) = self.worker.take() else {
            return;
        };
        let back = self.stand.give_back(worker);
        if self.rest != Rest::None || back.is_err() {
            self.stand.shared.bell.ring();
        }
    }
}

#[cfg(test)]
mod tests;

//! The manual driver: the embedder owns the clock and the loop, as does an emulator with its own
//! virtual time. Things happen only inside [`System::poll`], and no call waits.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;

use super::clock::WallClock;
use super::cost::{Costs, VirtualConfig};
use super::event::{Agenda, Coming, Event, disarm, timer_of};
use crate::base::callback;
use crate::base::lock::{Mutex, Rank};
use crate::base::time::Instant;
use crate::instance::cores::VnetCore;
use crate::instance::driver::{Driver, Happened, Notes, Place, TimerKey, Waited};
use crate::instance::site::Site;
use crate::instance::system::System;
use crate::instance::task::{self, Schedule, Task};

/// The maximum number of events that one poll handles.
const POLL_BUDGET: usize = 1_000_000;

struct Manual {
    outside: WallClock,
    now: AtomicU64,
    agenda: Mutex<Agenda<()>>,
    costs: Arc<Costs>,
    beside: Place,
}

impl System {
    /// A system whose clock is moved by the embedder, with [`System::poll`]. A socket call that
    /// cannot complete at once fails with [`io::ErrorKind::WouldBlock`]; to learn when to try
    /// again, poll a future, or try again after the next [`System::poll`]. To connect, use
    /// [`TcpStream::start_connect_in`](crate::net::TcpStream::start_connect_in): the handshake
    /// takes place in later polls.
    ///
    /// ```
    /// use std::time::Duration;
    /// use vnet::time::Instant;
    /// use vnet::System;
    ///
    /// let system = System::manual(1);
    /// let a = system.create("a")?;
    /// let b = system.create("b")?;
    /// a.epair("eth0", &b, "eth0")?;
    /// let next = system.poll(Instant::ZERO + Duration::from_millis(3));
    /// assert_eq!(system.now().as_nanos(), 3_000_000);
    /// assert!(next.is_none(), "an idle network has nothing to do");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn manual(seed: u64) -> System {
        let costs = Arc::new(Costs::new(VirtualConfig::default()));
        System::with_driver(
            Arc::new(Manual {
                outside: WallClock::start(),
                now: AtomicU64::new(0),
                agenda: Mutex::new(Rank::Driver, Agenda::new(Arc::clone(&costs))),
                costs,
                beside: Place::new(),
            }),
            seed,
            crate::admin::steps::rooms(),
        )
    }
}

impl Schedule for Manual {
    fn schedule(&self, task: Arc<Task>) {
        let now = self.now();
        let mut agenda = self.agenda.lock();
        let at = agenda.soon(now, now);
        agenda.push(at, Event::Poll(task));
    }
}

impl Driver for Manual {
    fn now(&self) -> Instant {
        Instant::from_nanos(self.now.load(Ordering::Acquire))
    }

    fn wall(&self) -> Instant {
        self.outside.now()
    }

    fn beside(&self) -> Option<&Place> {
        Some(&self.beside)
    }

    fn ready(&self, vnet: &Arc<VnetCore>, at: Instant) {
        // The usual case. The lock is for those that are to come up earlier.
        if vnet.inbox.armed.by(at) {
            return;
        }
        let now = self.now();
        let mut agenda = self.agenda.lock();
        let at = agenda.soon(at, now);
        agenda.push_service(vnet, at);
    }

    fn dispatch(&self) {}

    fn waker(&self) -> Waker {
        Waker::noop().clone()
    }

    fn set_timer(&self, at: Instant, waker: Waker) -> TimerKey {
        let now = self.now();
        let mut agenda = self.agenda.lock();
        let at = agenda.soon(at.max(now), now);
        agenda.set_timer(at, timer_of(self), waker)
    }

    fn cancel_timer(&self, key: TimerKey) {
        let waker = self.agenda.lock().cancel_timer(key);
        drop(waker);
    }

    fn wait(&self, _until: Option<Instant>, _site: Site) -> Waited {
        match task::is_polling() {
            true => Waited::InTask,
            false => Waited::WouldBlock,
        }
    }

    fn notes(&self) -> Notes {
        self.agenda.lock().notes()
    }

    fn spawn(&self, name: String, f: Box<dyn FnOnce() + Send>) -> io::Result<()> {
        std::thread::Builder::new().name(name).spawn(f).map(drop)
    }

    /// Time never runs backwards: an earlier `now` does what is due at the time already reached.
    ///
    /// # Panics
    /// When a callback has panicked, after everything due has been done.
    fn poll(&self, now: Instant) -> Option<Instant> {
        let mut panicked = None;
        let mut budget = POLL_BUDGET;
        let mut happened = None;
        let next = loop {
            if let Some(beside) = self.beside.get() {
                callback::contained("what is beside the system", || beside.look());
            }
            let mut agenda = self.agenda.lock();
            // Noted here, so that the lock is taken once for each event.
            agenda.end_service();
            if let Some((at, what)) = happened.take() {
                agenda.happened(at, what);
            }
            let is_due = |at| at <= now.max(self.now());
            let due = agenda.first().filter(|(at, _)| is_due(*at));
            let Some(first) = due.filter(|_| budget > 0) else {
                if due.is_none() {
                    self.reach(now);
                }
                agenda.forget_dead();
                // The embedder may poll as often as it likes before its clock moves.
                agenda.end_rounds();
                break agenda.next();
            };
            budget -= 1;
            let due = agenda.pop_first(first);
            drop(agenda);
            if let Some((at, event)) = due {
                let (what, done) = self.act(at, event);
                happened = what.map(|what| (at, what));
                match done {
                    Err(panic) if panicked.is_none() => panicked = Some(panic),
                    Err(panic) => callback::discard(panic),
                    Ok(()) => {}
                }
            }
        };
        match panicked {
            Some(panic) => std::panic::resume_unwind(panic),
            None => next,
        }
    }

    fn shutdown(&self) {
        // Dropped after the lock is released: a waker may be the last reference to a task.
        let agenda = std::mem::replace(
            &mut *self.agenda.lock(),
            Agenda::new(Arc::clone(&self.costs)),
        );
        drop(agenda);
    }
}

impl Manual {
    /// It is so late now, or later.
    #[inline]
    fn reach(&self, at: Instant) {
        if self.now() < at {
            self.now.fetch_max(at.as_nanos(), Ordering::AcqRel);
        }
    }

    /// Carries out an event, and says what happened, if anything did. The panic of a callback goes to the embedder, who polls.
    fn act(
        &self,
        at: Instant,
        event: Coming<()>,
    ) -> (Option<Happened>, Result<(), callback::Payload>) {
        let mut done = Ok(());
        let what = match event {
            Event::Timeout(()) | Event::Paid(()) => return (None, done),
            Event::Service(vnet) => {
                let Some(vnet) = disarm(vnet, at) else {
                    return (None, done);
                };
                self.reach(at);
                done = vnet.try_service();
                Happened::Serviced(vnet.number)
            }
            Event::Poll(task) => {
                self.reach(at);
                task.run();
                Happened::Polled(task.number())
            }
            Event::Wake(waker) => {
                self.reach(at);
                done = catch_unwind(AssertUnwindSafe(|| waker.wake()));
                Happened::TimerFired
            }
        };
        (Some(what), done)
    }
}

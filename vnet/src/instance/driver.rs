//! What an instance requires of its driver. The drivers are in `runtime/`; nothing in an instance
//! knows which one it has.

use std::any::Any;
use std::io;
use std::sync::{Arc, OnceLock};
use std::task::Waker;

use super::cores::VnetCore;
use super::parallel::Parallel;
use super::site::Site;
use super::task::Schedule;
use crate::base::time::{Duration, Instant};

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    /// The waker was called, or may have been.
    Woken,
    /// The timeout expired.
    TimedOut,
    /// The caller would wait forever.
    InVain(Vain),
    /// This driver does not wait: the embedder owns the loop.
    WouldBlock,
    /// The caller is a task in the middle of a poll, which must not block.
    InTask,
}

/// Why a wait in a simulation can never end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Vain {
    /// Nothing is left to happen: no frame is on a wire, no deadline or timer is set, and no thread
    /// sleeps. Only this is a deadlock.
    NothingLeft,
    /// The network has kept itself busy for a day without waking anything, and then for another day
    /// beyond the time needed by everything that was under way at that moment; and no timer of the
    /// program is set, and no thread sleeps. A sender that probes a closed window does so forever.
    NeverRests,
    /// Ten million events took no time, or no more than they were charged: tasks that wake
    /// themselves or each other, for instance.
    GoesRound,
}

/// A timer that is set; ordered as timers go off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TimerKey {
    /// When it goes off.
    pub at: Instant,
    /// The number of the vnet in which it was set; what counts timers that were set elsewhere is
    /// greater than any.
    pub of: u64,
    /// Its place among those.
    pub seq: u64,
}

/// How far a simulated world is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RunTo {
    /// It does what is due up to here.
    pub until: Instant,
    /// What is there at the end of it.
    pub at_end: AtEnd,
    /// Events after which it stops all the same.
    pub events: u64,
}

/// What the end of [`RunTo`]'s time means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AtEnd {
    /// The aim: the clock is moved there.
    Arrived,
    /// A limit: the aim is that nothing is left to happen.
    Limit,
}

/// How a run of a simulated world ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RunEnd {
    /// Events that happened.
    pub events: u64,
    /// Why it ended.
    pub why: StopReason,
}

/// Why a run of a simulated world ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StopReason {
    /// It reached its aim.
    Done,
    /// What comes next is later than the limit on time.
    Time,
    /// As many events happened as it may take.
    Events,
    /// A great many events happened and time did not advance.
    Stalled,
    /// The caller is a task in the middle of a poll.
    InTask,
}

/// Something that has happened, in a driver's notes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Happened {
    /// The vnet of this number was serviced.
    Serviced(u64),
    /// The task of this number was polled.
    Polled(u64),
    /// A timer went off.
    TimerFired,
    /// A thread's wait ended.
    WaitEnded,
    /// The time has passed that a thread's calls cost.
    CallsPaid,
}

/// A thread that waits, in a driver's notes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitNote {
    /// The thread's name.
    pub thread: String,
    /// The number of the vnet that is current in it.
    pub vnet: Option<u64>,
    /// The call in which it waits.
    pub site: Option<Site>,
    /// Since when.
    pub since: Instant,
    /// Until when at the latest.
    pub until: Option<Instant>,
}

/// What a driver knows of what is to come and what has been, for reports.
#[derive(Default)]
pub(crate) struct Notes {
    /// Vnets that need service, and when; in order of time. An entry may be superfluous.
    pub services: Vec<(Instant, Arc<VnetCore>)>,
    /// When timers go off.
    pub timers: Vec<Instant>,
    /// Threads that wait, the one that has waited longest first.
    pub waits: Vec<WaitNote>,
    /// What happened last.
    pub recent: Vec<(Instant, Happened)>,
}

/// What is kept beside a simulated system; see `beside`.
pub trait Beside: Any + Send + Sync {
    /// Called before each event, without a lock, by the thread that moves the simulation: what happened before may
    /// have given it something to do, of which nobody has told it.
    fn look(&self);
}

/// The place for it in a driver.
pub(crate) type Place = OnceLock<Arc<dyn Beside>>;

/// A clock, and a promise to call [`VnetCore::service`] in time.
pub(crate) trait Driver: Schedule {
    /// The time.
    fn now(&self) -> Instant;

    /// The time of the world outside, which passes while a simulated clock stands still: for
    /// durations in reports, and for waits of threads that the system does not know of. Nothing
    /// that a vnet does may depend on it.
    fn wall(&self) -> Instant;

    /// How far several threads have carried out a simulation.
    fn parallel(&self) -> Parallel {
        Parallel::default()
    }

    /// How long a thread that carries frames from outside looks for more before it sleeps.
    fn spin_at_a_line(&self) -> Duration {
        Duration::ZERO
    }

    /// The processor time of the calling thread; only from a driver in real time, and where the operating system tells.
    fn processor_time(&self) -> Option<Duration> {
        None
    }

    /// True when the time is not that of the real world: somebody moves it.
    fn is_simulated(&self) -> bool {
        true
    }

    /// For drivers whose clock is simulated: the place of what is kept beside the system.
    fn beside(&self) -> Option<&Place> {
        None
    }

    /// `vnet` wants service at `at`, which may be now.
    fn ready(&self, vnet: &Arc<VnetCore>, at: Instant);

    /// An entry into a vnet has ended and its effects are out: what became ready may be serviced
    /// on this thread.
    fn dispatch(&self);

    /// A call of the program that did not wait has ended. Where time is simulated, too many such calls
    /// cost time, which passes here. Must not be called while a lock is held. [`Driver::dispatch`]
    /// does the same.
    fn called(&self) {}

    /// Whether each vnet comes up as soon as the time has come for which it is armed.
    fn is_punctual(&self) -> bool {
        true
    }

    /// Takes over a vnet that a thread has made ready and will not service itself. Only the driver
    /// under which the calling threads service vnets has any.
    fn delegate(&self, _vnet: Arc<VnetCore>) {}

    /// Calls `waker` once, when `at` has come.
    fn set_timer(&self, at: Instant, waker: Waker) -> TimerKey;

    /// Takes a timer back, if it has not gone off.
    fn cancel_timer(&self, key: TimerKey);

    /// The waker of the calling thread, for [`Driver::wait`].
    fn waker(&self) -> Waker;

    /// Blocks the calling thread until its waker is called, or until `until`. `site` is for
    /// reports on what everybody waits for.
    fn wait(&self, until: Option<Instant>, site: Site) -> Waited;

    /// The same for something in a vnet: where other threads carry frames for it, this one may do so meanwhile.
    fn wait_in(&self, _vnet: &VnetCore, until: Option<Instant>, site: Site) -> Waited {
        self.wait(until, site)
    }

    /// For the driver whose clock is simulated: runs the world. `None` from the others.
    fn run(&self, _to: RunTo, _site: Site) -> Option<RunEnd> {
        None
    }

    /// What is to come and what has been.
    fn notes(&self) -> Notes {
        Notes::default()
    }

    /// Starts a thread that the driver knows of.
    ///
    /// # Errors
    /// The operating system's error.
    fn spawn(&self, name: String, f: Box<dyn FnOnce() + Send>) -> io::Result<()>;

    /// For drivers whose clock the embedder owns: moves it to `now`, does what is due, and says
    /// when there will be more to do.
    fn poll(&self, now: Instant) -> Option<Instant>;

    /// The system is gone: stop every thread.
    fn shutdown(&self);
}

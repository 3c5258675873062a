//! What a kind of job is, and what it works with: where it runs, how long it may take, and where it
//! notes what it has measured.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use vnet::thread::JoinHandle;
use vnet::time::Instant;
use vnet::{System, Vnet};

use crate::stop::Stop;

/// A kind of job, set up and ready to run.
pub(crate) trait Kind: Clone + Send + 'static {
    /// What it measures.
    type Figures: Clone + Send + 'static;

    /// The figures of a job that measured nothing.
    fn nothing(&self) -> Self::Figures;

    /// Runs it to its end, in straight-line blocking code; the current vnet is the one it starts from.
    /// Figures are noted in `measured` during the run.
    ///
    /// # Errors
    /// It did not finish: it ran out of time, or something went wrong.
    fn run(&self, site: &Site, measured: &Measured<Self::Figures>) -> io::Result<Verdict>;
}

/// What can be said of a job before it runs.
pub(crate) trait Facts {
    /// The time to live of the packets it sends, where that is not the stack's default.
    fn ttl(&self) -> Option<u8> {
        None
    }

    /// Why a job with this timeout cannot pass, or would be of no use.
    fn warning(&self, _timeout: Duration, _way: &dyn Way) -> Option<String> {
        None
    }
}

/// The way from a job's start to its destination.
pub(crate) trait Way {
    /// How many hops it has, if it leads anywhere.
    fn hops(&self) -> Option<usize>;

    /// True when nothing on it takes time.
    fn is_unlimited(&self) -> bool;
}

/// Where a job runs.
#[derive(Clone)]
pub(crate) struct Site {
    pub(crate) system: System,
    pub(crate) from: Vnet,
    pub(crate) to: Vnet,
    /// The address it goes to.
    pub(crate) address: IpAddr,
    pub(crate) names: Arc<BTreeMap<IpAddr, String>>,
    pub(crate) seed: u64,
    pub(crate) limit: Limit,
    /// Ends the run early.
    pub(crate) stop: Stop,
}

impl Site {
    /// The name of the vnet that has `address`; the address itself when none has.
    pub(super) fn name_of(&self, address: IpAddr) -> String {
        let name = self.names.get(&address).cloned();
        name.unwrap_or_else(|| address.to_string())
    }
}

/// What a job that came to its end says of what it found.
pub(crate) enum Verdict {
    Passed,
    Failed(String),
}

impl Verdict {
    pub(super) fn of(failed: Option<String>) -> Verdict {
        failed.map_or(Verdict::Passed, Verdict::Failed)
    }
}

/// What a job has measured so far.
#[derive(Clone)]
pub(crate) struct Measured<F>(Arc<Mutex<F>>);

impl<F: Clone> Measured<F> {
    pub(super) fn new(figures: F) -> Measured<F> {
        Measured(Arc::new(Mutex::new(figures)))
    }

    pub(super) fn set(&self, figures: F) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = figures;
    }

    pub(super) fn get(&self) -> F {
        let figures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        figures.clone()
    }
}

/// When a job has to be over, and why: at its deadline, or when a part of it has failed. Clones are of the same job.
#[derive(Clone)]
pub(crate) struct Limit {
    system: System,
    deadline: Instant,
    /// How long the job may take by itself.
    pub(super) timeout: Duration,
    reason: StopReason,
    failure: Arc<Mutex<Failure>>,
}

/// What stops a job that takes too long.
#[derive(Clone, Copy)]
enum StopReason {
    /// Its own timeout.
    Timeout,
    /// The end of the run, which comes before that.
    EndOfRun,
}

/// What has ended a job early, and who is to hear of it.
#[derive(Default)]
struct Failure {
    first: Option<(io::ErrorKind, String)>,
    waiting: Vec<Waker>,
}

impl Limit {
    /// That of a job which starts now and may take `timeout`, in a run that ends at `until`.
    pub(crate) fn new(system: &System, timeout: Duration, until: Option<Instant>) -> Limit {
        let own = system.now() + timeout;
        let (deadline, reason) = match until {
            Some(until) if until < own => (until, StopReason::EndOfRun),
            _ => (own, StopReason::Timeout),
        };
        Limit {
            system: system.clone(),
            deadline,
            timeout,
            reason,
            failure: Arc::default(),
        }
    }

    pub(super) fn now(&self) -> Instant {
        self.system.now()
    }

    /// What is left of the time, at most `wait`.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] when nothing is left; what a part of the job has failed with.
    pub(super) fn left(&self, wait: Duration) -> io::Result<Duration> {
        if let Some(error) = self.failure() {
            return Err(error);
        }
        let left = self.deadline - self.now();
        if left.is_zero() {
            return Err(self.failed(self.exceeded()));
        }
        Ok(left.min(wait))
    }

    /// Blocks until `poll` is ready, as long as the job may go on.
    ///
    /// # Errors
    /// Those of `poll`, and of [`Limit::left`].
    pub(super) fn wait<T>(
        &self,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> io::Result<T> {
        self.left(Duration::MAX)?;
        let mut deadline = pin!(self.system.sleep_until_async(self.deadline));
        self.system.block_on(poll_fn(|task| {
            if let Poll::Ready(done) = poll(task) {
                return Poll::Ready(done);
            }
            if let Some(error) = self.heard(task.waker()) {
                return Poll::Ready(Err(error));
            }
            let over = deadline.as_mut().poll(task);
            over.map(|()| Err(self.failed(self.exceeded())))
        }))?
    }

    /// Ends the job with `error`, unless something has ended it before; returns what has ended it.
    pub(super) fn failed(&self, error: io::Error) -> io::Error {
        let mut failure = self.locked();
        failure
            .first
            .get_or_insert_with(|| (error.kind(), error.to_string()));
        let waiting = std::mem::take(&mut failure.waiting);
        drop(failure);
        waiting.into_iter().for_each(Waker::wake);
        self.failure().unwrap_or(error)
    }

    /// What has ended the job, if something has.
    pub(super) fn failure(&self) -> Option<io::Error> {
        let (kind, said) = self.locked().first.clone()?;
        Some(io::Error::new(kind, said))
    }

    /// What has ended the job; until something has, `waker` is to be woken then.
    fn heard(&self, waker: &Waker) -> Option<io::Error> {
        let mut failure = self.locked();
        if failure.first.is_none() && !failure.waiting.iter().any(|w| w.will_wake(waker)) {
            failure.waiting.push(waker.clone());
        }
        drop(failure);
        self.failure()
    }

    fn locked(&self) -> MutexGuard<'_, Failure> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn exceeded(&self) -> io::Error {
        let said = match self.reason {
            StopReason::EndOfRun => {
                let ended = self.deadline - Instant::ZERO;
                format!("not done when the run ended, at {ended:?}")
            }
            StopReason::Timeout => format!("not done within its timeout of {:?}", self.timeout),
        };
        io::Error::new(io::ErrorKind::TimedOut, said)
    }
}

/// Waits for a thread that does I/O; a panic in it is an error like any other.
pub(super) fn joined<T>(thread: JoinHandle<io::Result<T>>) -> io::Result<T> {
    thread.join().unwrap_or_else(|_| Err(panicked()))
}

/// What is said of a thread of a job that panicked.
pub(super) fn panicked() -> io::Error {
    io::Error::other("the job's thread panicked")
}

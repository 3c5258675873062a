//! [`System`], the "kernel" that instances share: names, recorded init steps, the driver.
//! There is no process-global state; a test makes as many systems as it likes.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use super::driver::{Driver, Waited};
use super::lifecycle;
use super::limits::LimitReached;
use super::messages::Directory;
use super::privilege::Denied;
use super::registry::{InitRecord, RegisterError, Registry, StepError};
use super::vnet::{Gone, OwnedVnet, Vnet};
use crate::base::lock::{Condvar, Mutex, Rank};
use crate::base::rng::Rng;
use crate::base::time::{Duration, Instant};
use crate::packet::MacAddr;
use crate::packet::pool::Pool;

/// Memory kept for reuse by the socket layer's copies.
const IDLE_POOL_BYTES: usize = 8 << 20;

/// A set of vnets that share a clock and a scheduler, and can be wired together. Cheap to clone;
/// clones are the same system.
///
/// Which constructor made it decides who drives it: [`System::threads`] a pool of workers and the
/// wall clock, [`System::virtual_time`] a simulated clock, [`System::manual`] the embedder.
#[derive(Clone)]
pub struct System {
    pub(crate) core: Arc<SystemCore>,
}

/// What the handles of a system share.
pub struct SystemCore {
    pub(crate) driver: Arc<dyn Driver>,
    pub(crate) pool: Pool,
    pub(crate) registry: Mutex<Registry>,
    seed: u64,
    macs_made: AtomicU64,
    /// Message buffers by name.
    pub(crate) directory: Arc<Directory>,
}

/// Why an instance cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// A name is 1 to 63 letters, digits, `-` or `_`.
    #[error("{0:?} is no vnet name: 1 to 63 of letters, digits, '-' and '_'")]
    BadName(String),
    /// There is one of that name.
    #[error("a vnet named {0:?} exists already")]
    Exists(String),
    /// The vnet that was to be the parent is gone.
    #[error("the parent vnet is gone")]
    Gone,
    /// The parent's tenants lack the privilege to make children.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The parent has as many children as it may.
    #[error(transparent)]
    Limit(LimitReached),
    /// A recorded init step failed; the ones before it have been undone.
    #[error("init step {step:?} failed")]
    Init {
        /// The step's name.
        step: String,
        /// What it said.
        #[source]
        source: StepError,
    },
}

impl From<Gone> for CreateError {
    fn from(_: Gone) -> CreateError {
        CreateError::Gone
    }
}

impl System {
    pub(crate) fn with_driver(driver: Arc<dyn Driver>, seed: u64) -> System {
        System {
            core: Arc::new(SystemCore {
                driver,
                pool: Pool::new(IDLE_POOL_BYTES),
                registry: Mutex::new(Rank::Registry, Registry::with_builtin_layers()),
                seed,
                macs_made: AtomicU64::new(0),
                directory: Arc::new(Directory::new()),
            }),
        }
    }

    /// Makes an instance by replaying the recorded init steps.
    ///
    /// # Errors
    /// A name that is none or is taken, or the init step that failed; nothing is left then.
    ///
    /// ```
    /// use vnet::System;
    ///
    /// let system = System::virtual_time(1);
    /// let a = system.create("a")?;
    /// assert!(system.create("a").is_err());
    /// let report = a.destroy();
    /// assert!(report.leaked.is_zero());
    /// system.create("a")?;
    /// # Ok::<(), vnet::CreateError>(())
    /// ```
    pub fn create(&self, name: &str) -> Result<OwnedVnet, CreateError> {
        lifecycle::create(&self.core, name, None).map(OwnedVnet::new)
    }

    /// The instance of that name.
    pub fn vnet(&self, name: &str) -> Option<Vnet> {
        let core = self.core.registry.lock().find(name)?;
        Some(Vnet::tenant(core))
    }

    /// The names of all instances, in the order of their creation.
    pub fn names(&self) -> Vec<String> {
        self.core.registry.lock().names()
    }

    /// Adds an init step, and runs it in every instance there is.
    ///
    /// # Errors
    /// A name that is taken, or the instance in which it failed; the step has then been undone
    /// wherever it ran, and is not registered.
    pub fn register(&self, record: InitRecord) -> Result<(), RegisterError> {
        lifecycle::register(&self.core, record)
    }

    /// Removes an init step, and runs its reverse in every instance that ran it.
    ///
    /// # Errors
    /// No step of that name, or a built-in one.
    pub fn unregister(&self, name: &str) -> Result<(), RegisterError> {
        lifecycle::unregister(&self.core, name)
    }

    /// The recorded init steps, in the order in which a new instance runs them.
    pub fn init_steps(&self) -> Vec<String> {
        self.core.registry.lock().step_names()
    }

    /// The system's time.
    pub fn now(&self) -> Instant {
        self.core.driver.now()
    }

    /// Blocks the calling thread for `duration` of the system's time. Under virtual time the
    /// world runs meanwhile.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] under the manual driver, where the embedder owns the loop.
    pub fn sleep(&self, duration: Duration) -> io::Result<()> {
        let until = self.now() + duration;
        while self.now() < until {
            match self.core.driver.wait(Some(until)) {
                Waited::WouldBlock => return Err(io::ErrorKind::WouldBlock.into()),
                Waited::Woken | Waited::TimedOut | Waited::Deadlock => {}
            }
        }
        Ok(())
    }

    /// Runs a future to its end on the calling thread, in the system's time.
    ///
    /// # Errors
    /// [`io::ErrorKind::Deadlock`] when nothing is left that could wake the future,
    /// [`io::ErrorKind::WouldBlock`] under the manual driver when it is not ready at once.
    pub fn block_on<F: Future>(&self, future: F) -> io::Result<F::Output> {
        let mut future = pin!(future);
        let waker = self.core.driver.waker();
        loop {
            if let Poll::Ready(out) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return Ok(out);
            }
            match self.core.driver.wait(None) {
                Waited::Woken | Waited::TimedOut => {}
                Waited::Deadlock => return Err(io::ErrorKind::Deadlock.into()),
                Waited::WouldBlock => return Err(io::ErrorKind::WouldBlock.into()),
            }
        }
    }

    /// Starts a thread that belongs to the system. Under virtual time such threads take turns:
    /// one runs at a time, another one when it blocks in a call of this library, in an order that
    /// depends on the seed and the program only.
    ///
    /// The thread starts with no current vnet; see [`Vnet::spawn`].
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn spawn<T: Send + 'static>(
        &self,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<JoinHandle<T>> {
        self.spawn_named("vnet-task".to_owned(), f)
    }

    fn spawn_named<T: Send + 'static>(
        &self,
        name: String,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<JoinHandle<T>> {
        let task = Arc::new(Task {
            state: Mutex::new(Rank::Waker, TaskState::default()),
            ended: Condvar::new(),
        });
        let theirs = Arc::clone(&task);
        self.core.driver.spawn(
            name,
            Box::new(move || {
                let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f));
                theirs.end(result);
            }),
        )?;
        Ok(JoinHandle {
            task,
            driver: Arc::clone(&self.core.driver),
        })
    }

    /// Moves the clock of a [manual](System::manual) system to `now`, does everything that is
    /// due, and returns when there will be more to do. Under the other drivers it does nothing
    /// and returns `None`.
    pub fn poll(&self, now: Instant) -> Option<Instant> {
        self.core.driver.poll(now)
    }
}

impl fmt::Debug for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("System")
            .field("vnets", &self.names())
            .field("now", &self.now())
            .finish_non_exhaustive()
    }
}

impl Vnet {
    /// Starts a thread in which this vnet is current; see [`System::spawn`].
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn spawn<T: Send + 'static>(
        &self,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<JoinHandle<T>> {
        let vnet = self.clone();
        self.system()
            .spawn_named(format!("vnet-{}", self.name()), move || {
                let _entered = vnet.enter();
                f()
            })
    }
}

impl SystemCore {
    /// A MAC address that no other interface of this system has.
    pub(crate) fn next_mac(&self) -> MacAddr {
        MacAddr::from_number(self.macs_made.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// The seed of the instance that is made as the `number`th.
    pub(crate) fn seed_of(&self, number: u64) -> u64 {
        Rng::seeded(self.seed).split(number).u64()
    }
}

impl Drop for SystemCore {
    fn drop(&mut self) {
        self.driver.shutdown();
    }
}

/// Waits for a thread started by [`System::spawn`] or [`Vnet::spawn`].
pub struct JoinHandle<T> {
    task: Arc<Task<T>>,
    driver: Arc<dyn Driver>,
}

struct Task<T> {
    state: Mutex<TaskState<T>>,
    ended: Condvar,
}

struct TaskState<T> {
    result: Option<std::thread::Result<T>>,
    joiner: Option<std::task::Waker>,
}

impl<T> Default for TaskState<T> {
    fn default() -> TaskState<T> {
        TaskState {
            result: None,
            joiner: None,
        }
    }
}

impl<T> Task<T> {
    fn end(&self, result: std::thread::Result<T>) {
        let joiner = {
            let mut state = self.state.lock();
            state.result = Some(result);
            state.joiner.take()
        };
        self.ended.notify_all();
        if let Some(joiner) = joiner {
            joiner.wake();
        }
    }
}

impl<T> JoinHandle<T> {
    /// Waits for the thread to end and returns its result. Under virtual time the world runs
    /// meanwhile.
    ///
    /// # Errors
    /// The thread's panic, as in [`std::thread::JoinHandle::join`].
    pub fn join(self) -> std::thread::Result<T> {
        let waker = self.driver.waker();
        loop {
            {
                let mut state = self.task.state.lock();
                if let Some(result) = state.result.take() {
                    return result;
                }
                state.joiner = Some(waker.clone());
            }
            if self.driver.wait(None) == Waited::WouldBlock {
                // The embedder drives the world from another thread: an ordinary wait will do.
                let mut state = self.task.state.lock();
                while state.result.is_none() {
                    self.task.ended.wait(&mut state);
                }
            }
        }
    }

    /// True when the thread has ended.
    pub fn is_finished(&self) -> bool {
        self.task.state.lock().result.is_some()
    }
}

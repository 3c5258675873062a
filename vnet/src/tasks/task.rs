//! Tasks: futures that a system polls until they end.
//!
//! A task is to a future what a thread is to a function, and costs no thread. Under virtual time
//! each poll is an event in the world's total order; under threads the workers poll; under the
//! manual driver [`System::poll`] does. A task that was spawned in a vnet has that vnet current at
//! each poll, and is dropped when the vnet is torn down.
//!
//! ```text
//!          woken              run                woken
//!   IDLE ─────────► QUEUED ─────────► RUNNING ─────────► AGAIN
//!     ▲                                │   ▲               │
//!     └──────────── pending ───────────┘   └── run again ──┘      (ENDED from each of them)
//! ```

use std::any::Any;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};

use super::completion::Completion;
use super::pending::Deadlock;
use crate::base::lock::{Mutex, Rank};
use crate::instance::context::{outside, within};
use crate::instance::driver::{Driver, Site, Waited};
use crate::instance::limits::{LimitReached, Resource, UNLIMITED, Usage};
use crate::instance::privilege::Authority;
use crate::instance::registry::panic_text;
use crate::instance::system::{System, SystemCore};
use crate::instance::vnet::{Vnet, VnetCore};

const IDLE: u8 = 0;
const QUEUED: u8 = 1;
const RUNNING: u8 = 2;
const AGAIN: u8 = 3;
const ENDED: u8 = 4;
/// Ended because its vnet went.
const ORPHANED: u8 = 5;

thread_local! {
    /// A task is being polled by this thread.
    static POLLING: Cell<bool> = const { Cell::new(false) };
}

/// True while this thread is in the poll of a task, where nothing may block.
pub(crate) fn is_polling() -> bool {
    POLLING.try_with(Cell::get).unwrap_or(false)
}

/// Why a task has no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// It panicked.
    #[error("the task panicked: {0}")]
    Panicked(Panic),
    /// It was aborted.
    #[error("the task was aborted")]
    Aborted,
    /// Its vnet, or the system, is gone.
    #[error("the task's vnet is gone")]
    Gone,
    /// Its vnet has as many tasks as it may have ([`Resource::Tasks`]): it was not started.
    #[error(transparent)]
    Limit(LimitReached),
    /// The wait for it is in vain. It goes on.
    #[error(transparent)]
    Deadlock(Box<Deadlock>),
    /// It has not ended, and the caller cannot wait: under the manual driver the embedder owns the
    /// loop, and a task must await instead of joining. It goes on.
    #[error("the task has not ended, and the caller may not block")]
    WouldBlock,
}

/// What a task has panicked with.
pub struct Panic(Mutex<Box<dyn Any + Send>>);

impl Panic {
    fn new(payload: Box<dyn Any + Send>) -> Panic {
        Panic(Mutex::new(Rank::Waker, payload))
    }

    /// The payload, for [`std::panic::resume_unwind`].
    pub fn into_payload(self) -> Box<dyn Any + Send> {
        self.0.into_inner()
    }
}

impl fmt::Display for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(panic_text(&**self.0.lock()))
    }
}

impl fmt::Debug for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Panic({:?})", panic_text(&**self.0.lock()))
    }
}

/// A task, whatever it returns.
pub(crate) struct Task {
    number: u64,
    site: Site,
    vnet: Option<(u64, Box<str>)>,
    state: AtomicU8,
    /// The future and its place for the result. Not there while it is polled, and after its end.
    body: Mutex<Option<Box<dyn Body>>>,
    driver: Weak<dyn Driver>,
    owner: Weak<Tasks>,
}

/// The part of a task that knows what it returns.
trait Body: Send {
    fn poll(&mut self, task: &mut Context<'_>) -> Poll<()>;
    /// Drops the future before its end.
    fn give_up(self: Box<Self>, why: TaskError);
}

struct Running<F: Future> {
    future: Option<Pin<Box<F>>>,
    vnet: Option<Vnet>,
    completion: Arc<Completion<Result<F::Output, TaskError>>>,
}

impl<F> Body for Running<F>
where
    F: Future + Send,
    F::Output: Send,
{
    fn poll(&mut self, task: &mut Context<'_>) -> Poll<()> {
        let Running {
            future,
            vnet,
            completion,
        } = self;
        let polled = in_its_vnet(vnet, || {
            let polled = catch_unwind(AssertUnwindSafe(|| {
                future.as_mut().map(|f| f.as_mut().poll(task))
            }));
            if !matches!(polled, Ok(Some(Poll::Pending))) {
                // Here, too: its destructor is the program's.
                let panic = dropped(future.take());
                return panic.map_or(polled, Err);
            }
            polled
        });
        let result = match polled {
            Ok(Some(Poll::Pending)) => return Poll::Pending,
            Ok(Some(Poll::Ready(out))) => Ok(out),
            Ok(None) => Err(TaskError::Aborted),
            Err(payload) => Err(TaskError::Panicked(Panic::new(payload))),
        };
        completion.end(result);
        Poll::Ready(())
    }

    fn give_up(mut self: Box<Self>, why: TaskError) {
        let future = self.future.take();
        let panic = in_its_vnet(&self.vnet, || dropped(future));
        let why = panic.map_or(why, |payload| TaskError::Panicked(Panic::new(payload)));
        self.completion.end(Err(why));
    }
}

/// Drops a future, and says what that panicked with.
fn dropped<F>(future: F) -> Option<Box<dyn Any + Send>> {
    catch_unwind(AssertUnwindSafe(|| drop(future))).err()
}

/// Runs a part of a task with its vnet current, or none, whatever that of the thread is.
fn in_its_vnet<R>(vnet: &Option<Vnet>, f: impl FnOnce() -> R) -> R {
    match vnet {
        Some(vnet) => within(&vnet.core, f),
        None => outside(f),
    }
}

/// Marks this thread as one that polls.
struct PollMark(bool);

impl PollMark {
    fn set() -> PollMark {
        PollMark(POLLING.replace(true))
    }
}

impl Drop for PollMark {
    fn drop(&mut self) {
        POLLING.set(self.0);
    }
}

impl Task {
    /// Its number in the order of spawning.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Where it was spawned.
    pub(crate) fn site(&self) -> Site {
        self.site
    }

    /// The number of its vnet; of those without one, the same for all.
    pub(crate) fn owner(&self) -> u64 {
        self.vnet.as_ref().map_or(u64::MAX, |(number, _)| *number)
    }

    /// The name of its vnet.
    pub(crate) fn vnet(&self) -> Option<&str> {
        self.vnet.as_ref().map(|(_, name)| &**name)
    }

    /// True when it is to be polled soon, or is being polled.
    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.state.load(Ordering::Acquire), QUEUED | RUNNING | AGAIN)
    }

    /// Polls it once; for drivers, after [`Driver::schedule`]. A panic of the future's is its
    /// result.
    pub(crate) fn run(self: &Arc<Self>) {
        let state = &self.state;
        let queued = state.compare_exchange(QUEUED, RUNNING, Ordering::AcqRel, Ordering::Acquire);
        if queued.is_err() {
            return;
        }
        // Whoever aborts it right now may have been faster.
        let Some(mut body) = self.body.lock().take() else {
            return;
        };
        let waker = Waker::from(Arc::clone(self));
        let polled = {
            let _mark = PollMark::set();
            body.poll(&mut Context::from_waker(&waker))
        };
        if polled.is_ready() {
            state.store(ENDED, Ordering::Release);
            self.leave();
            // With it goes a result that nobody has asked for; its destructor is the program's.
            drop(dropped(body));
            return;
        }
        *self.body.lock() = Some(body);
        let idle = state.compare_exchange(RUNNING, IDLE, Ordering::AcqRel, Ordering::Acquire);
        let again = idle.is_err()
            && state
                .compare_exchange(AGAIN, QUEUED, Ordering::AcqRel, Ordering::Acquire)
                .is_ok();
        if again {
            self.schedule();
        } else if idle.is_err() {
            // It was aborted meanwhile, by one who did not find the future.
            self.give_up(match state.load(Ordering::Acquire) {
                ORPHANED => TaskError::Gone,
                _ => TaskError::Aborted,
            });
        }
    }

    /// Ends it: the future is dropped here, or by the thread that polls it. True when it was here.
    fn abort(&self, why: TaskError) -> bool {
        let end = match why {
            TaskError::Gone => ORPHANED,
            _ => ENDED,
        };
        self.state.store(end, Ordering::Release);
        self.give_up(why)
    }

    fn give_up(&self, why: TaskError) -> bool {
        let body = self.body.lock().take();
        let is_here = body.is_some();
        if let Some(body) = body {
            body.give_up(why);
            // One in a poll still takes a thread, and counts until that ends.
            self.leave();
        }
        is_here
    }

    fn leave(&self) {
        if let Some(owner) = self.owner.upgrade() {
            owner.remove(self.number);
        }
    }

    fn schedule(self: &Arc<Self>) {
        if let Some(driver) = self.driver.upgrade() {
            driver.schedule(Arc::clone(self));
        }
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut seen = self.state.load(Ordering::Acquire);
        loop {
            let next = match seen {
                IDLE => QUEUED,
                RUNNING => AGAIN,
                _ => return,
            };
            match self
                .state
                .compare_exchange_weak(seen, next, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) if next == QUEUED => return self.schedule(),
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }
}

/// The tasks of a vnet, or of a system, that have not ended.
pub(crate) struct Tasks(Mutex<TasksState>);

struct TasksState {
    closed: bool,
    tasks: BTreeMap<u64, Arc<Task>>,
    limit: u64,
    most: u64,
    refused: u64,
}

impl Tasks {
    pub(crate) fn new() -> Arc<Tasks> {
        Arc::new(Tasks(Mutex::new(
            Rank::Waker,
            TasksState {
                closed: false,
                tasks: BTreeMap::new(),
                limit: UNLIMITED,
                most: 0,
                refused: 0,
            },
        )))
    }

    /// Adds a task.
    fn add(&self, task: &Arc<Task>) -> Result<(), TaskError> {
        let mut state = self.0.lock();
        if state.closed {
            return Err(TaskError::Gone);
        }
        let count = state.tasks.len() as u64;
        if count >= state.limit {
            state.refused += 1;
            return Err(TaskError::Limit(LimitReached(Resource::Tasks)));
        }
        state.most = state.most.max(count + 1);
        state.tasks.insert(task.number, Arc::clone(task));
        Ok(())
    }

    /// Sets how many there may be; those there are stay.
    pub(crate) fn set_limit(&self, limit: u64) {
        self.0.lock().limit = limit;
    }

    /// How many there are and have been, and the limit.
    pub(crate) fn usage(&self) -> Usage {
        let state = self.0.lock();
        Usage {
            resource: Resource::Tasks,
            current: state.tasks.len() as u64,
            high_water: state.most,
            limit: state.limit,
            refused: state.refused,
        }
    }

    fn remove(&self, number: u64) {
        let removed = self.0.lock().tasks.remove(&number);
        drop(removed);
    }

    /// The tasks that have not ended, in the order of spawning.
    pub(crate) fn list(&self) -> Vec<Arc<Task>> {
        self.0.lock().tasks.values().cloned().collect()
    }

    /// Drops every task, in the order of spawning, and refuses new ones. Returns how many could not
    /// be dropped yet, because they are in a poll; that is not waited for.
    pub(crate) fn close(&self) -> usize {
        let tasks = {
            let mut state = self.0.lock();
            state.closed = true;
            std::mem::take(&mut state.tasks)
        };
        let dropped = tasks.into_values().map(|task| task.abort(TaskError::Gone));
        dropped.filter(|dropped| !dropped).count()
    }
}

/// A task's handle. It is a future of the task's result. Dropping it leaves the task running.
#[must_use = "dropping the handle detaches the task: its result and its panic are lost"]
pub struct TaskHandle<T> {
    task: Arc<Task>,
    completion: Arc<Completion<Result<T, TaskError>>>,
    system: Weak<SystemCore>,
    /// The vnet that it was spawned in, with the authority of the handle.
    vnet: Option<(Weak<VnetCore>, Authority)>,
}

impl<T> TaskHandle<T> {
    /// Blocks until the task has ended and returns its result. Under virtual time the world runs
    /// meanwhile.
    ///
    /// # Errors
    /// The task's panic, that it was aborted or its vnet went away; a deadlock of the world. In a
    /// task, and under the manual driver when the task has not ended, [`TaskError::WouldBlock`].
    #[track_caller]
    pub fn join(self) -> Result<T, TaskError> {
        let site = Location::caller();
        let Some(system) = self.system.upgrade() else {
            let result = self
                .completion
                .poll(&mut Context::from_waker(Waker::noop()));
            return match result {
                Poll::Ready(result) => result,
                Poll::Pending => Err(TaskError::Gone),
            };
        };
        match self.completion.wait(&*system.driver, site) {
            Ok(result) => result,
            Err(Waited::InVain(why)) => {
                let system = match &self.vnet {
                    None => System::all(system),
                    Some((core, authority)) => {
                        let core = core.upgrade().ok_or(TaskError::Gone)?;
                        let authority = *authority;
                        Vnet { core, authority }.system()
                    }
                };
                Err(TaskError::Deadlock(Box::new(Deadlock::new(
                    &system, why, site,
                ))))
            }
            Err(_) => Err(TaskError::WouldBlock),
        }
    }

    /// Ends the task: its future is dropped, now, or by the thread that is polling it when that
    /// poll returns. Does nothing when it has ended.
    pub fn abort(&self) {
        if !self.completion.is_ended() {
            self.task.abort(TaskError::Aborted);
        }
    }

    /// True when the task has ended, in whatever way.
    pub fn is_finished(&self) -> bool {
        if let Some(system) = self.system.upgrade() {
            system.driver.called();
        }
        self.completion.is_ended()
    }
}

impl<T> Future for TaskHandle<T> {
    type Output = Result<T, TaskError>;

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        self.completion.poll(task)
    }
}

impl<T> fmt::Debug for TaskHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskHandle({} at {})", self.task.number, self.task.site)
    }
}

impl System {
    /// Starts a task: a future that the system polls until it ends, in its total order of events
    /// under virtual time, on worker threads under [`System::threads`], inside [`System::poll`]
    /// under [`System::manual`]. No vnet is current in it; see [`Vnet::spawn_future`].
    ///
    /// A task must not block: sockets are used through their `poll_*` methods (with
    /// [`std::future::poll_fn`]), time passes with [`System::sleep_async`]. A blocking call in a
    /// task fails with [`std::io::ErrorKind::WouldBlock`] where it would have to wait.
    ///
    /// Through a handle without [`Privilege::System`](crate::Privilege) it is a task of the handle's
    /// vnet, as [`Vnet::spawn_future`] starts one.
    ///
    /// A task that holds a [`System`] keeps the system alive until it ends, as a thread would.
    ///
    /// ```
    /// use vnet::System;
    /// use vnet::time::Duration;
    ///
    /// let system = System::virtual_time(1);
    /// let nap = system.sleep_async(Duration::from_secs(2));
    /// let task = system.spawn_future(async { nap.await; 7 });
    /// assert!(!task.is_finished(), "time stands still until somebody waits");
    /// assert_eq!(task.join()?, 7);
    /// assert_eq!(system.now().as_nanos(), 2_000_000_000);
    /// # Ok::<(), vnet::TaskError>(())
    /// ```
    #[track_caller]
    pub fn spawn_future<F>(&self, future: F) -> TaskHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        match self.confined_to() {
            Some(holder) => holder.spawn_future(future),
            None => spawn(&self.core, None, &self.core.tasks, future),
        }
    }
}

impl Vnet {
    /// Starts a task in which this vnet is current at each poll, and when its future is dropped;
    /// see [`System::spawn_future`].
    ///
    /// When the vnet is torn down the task is dropped, before the first step is undone; its handle
    /// then says [`TaskError::Gone`], as it does at once when the vnet is gone already.
    ///
    /// ```
    /// use std::future::poll_fn;
    /// use vnet::net::UdpSocket;
    /// use vnet::System;
    ///
    /// let system = System::virtual_time(1);
    /// let a = system.create("a")?;
    /// let echo = a.spawn_future(async {
    ///     let socket = UdpSocket::bind("127.0.0.1:7")?;
    ///     let mut buf = [0; 64];
    ///     let (n, from) = poll_fn(|cx| socket.poll_recv_from(cx, &mut buf)).await?;
    ///     socket.send_to(&buf[..n], from)
    /// });
    /// let client = UdpSocket::bind_in(&a, "127.0.0.1:0")?;
    /// system.run_until_idle(vnet::RunLimit::default())?;
    /// client.send_to(b"ping", "127.0.0.1:7")?;
    /// assert_eq!(client.recv(&mut [0; 64])?, 4);
    /// assert_eq!(echo.join()??, 4);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn spawn_future<F>(&self, future: F) -> TaskHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        spawn(&self.core.system, Some(self), &self.core.tasks, future)
    }
}

#[track_caller]
fn spawn<F>(
    system: &Arc<SystemCore>,
    vnet: Option<&Vnet>,
    owner: &Arc<Tasks>,
    future: F,
) -> TaskHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let completion = Arc::new(Completion::new());
    let body = Running {
        future: Some(Box::pin(future)),
        vnet: vnet.cloned(),
        completion: Arc::clone(&completion),
    };
    let task = Arc::new(Task {
        number: system.next_task(),
        site: Location::caller(),
        vnet: vnet.map(|v| (v.core.number, v.name().into())),
        state: AtomicU8::new(IDLE),
        body: Mutex::new(Rank::Waker, Some(Box::new(body))),
        driver: Arc::downgrade(&system.driver),
        owner: Arc::downgrade(owner),
    });
    match owner.add(&task) {
        Ok(()) => task.wake_by_ref(),
        Err(why) => drop(task.abort(why)),
    }
    TaskHandle {
        task,
        completion,
        system: Arc::downgrade(system),
        vnet: vnet.map(|v| (Arc::downgrade(&v.core), v.authority)),
    }
}

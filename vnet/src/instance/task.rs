//! Tasks as the kernel knows them: what a driver polls, and what a vnet or a system has that has not
//! ended. What a task returns, and how one is started, is in `tasks/`.
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
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};

use super::processor::Processor;
use super::site::Site;
use crate::base::lock::{Mutex, Rank};
use crate::stack::limits::{LimitReached, Resource, Usage};

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
pub fn is_polling() -> bool {
    POLLING.try_with(Cell::get).unwrap_or(false)
}

/// Why a task ends before its future does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CutShort {
    /// It was aborted.
    Aborted,
    /// Its vnet, or the system, is gone.
    Gone,
    /// Its vnet has as many tasks as it may: it was not started.
    Limit(LimitReached),
}

/// A task, whatever it returns.
pub(crate) struct Task {
    number: u64,
    site: Site,
    vnet: Option<(u64, Box<str>)>,
    state: AtomicU8,
    /// The future and its place for the result. Not there while it is polled, and after its end.
    body: Mutex<Option<Box<dyn Body>>>,
    driver: Weak<dyn Schedule>,
    owner: Weak<Tasks>,
    processor: Arc<Processor>,
}

/// What a task asks of the driver.
pub(crate) trait Schedule: Send + Sync {
    /// Polls `task` soon: calls [`Task::run`] once, in the order in which tasks were scheduled.
    fn schedule(&self, task: Arc<Task>);
}

/// The part of a task that knows what it returns.
pub(crate) trait Body: Send {
    fn poll(&mut self, task: &mut Context<'_>) -> Poll<()>;
    /// Drops the future before its end.
    fn give_up(self: Box<Self>, why: CutShort);
}

/// Drops a future, and says what that panicked with.
pub(crate) fn dropped<F>(future: F) -> Option<Box<dyn Any + Send>> {
    catch_unwind(AssertUnwindSafe(|| drop(future))).err()
}

/// Marks this thread as one that polls.
pub(crate) struct PollMark(bool);

impl PollMark {
    pub(crate) fn set() -> PollMark {
        PollMark(POLLING.replace(true))
    }
}

impl Drop for PollMark {
    fn drop(&mut self) {
        POLLING.set(self.0);
    }
}

impl Task {
    /// A task that nobody has polled yet, nor asked its owner about.
    pub(crate) fn new(
        number: u64,
        site: Site,
        vnet: Option<(u64, Box<str>)>,
        body: Box<dyn Body>,
        driver: Weak<dyn Schedule>,
        owner: &Arc<Tasks>,
    ) -> Arc<Task> {
        Arc::new(Task {
            number,
            site,
            vnet,
            state: AtomicU8::new(IDLE),
            body: Mutex::new(Rank::Waker, Some(body)),
            driver,
            owner: Arc::downgrade(owner),
            processor: Arc::clone(&owner.processor),
        })
    }

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

    /// The processor time of its vnet, or of all that have none.
    pub(crate) fn processor(&self) -> &Arc<Processor> {
        &self.processor
    }

    /// The name of its vnet.
    pub(crate) fn vnet(&self) -> Option<&str> {
        self.vnet.as_ref().map(|(_, name)| &**name)
    }

    /// True when it is to be polled soon, or is being polled.
    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.state.load(Ordering::Acquire), QUEUED | RUNNING | AGAIN)
    }

    /// Polls it once; for drivers, after [`Schedule::schedule`]. A panic of the future's is its
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
                ORPHANED => CutShort::Gone,
                _ => CutShort::Aborted,
            });
        }
    }

    /// Ends it: the future is dropped here, or by the thread that polls it. True when it was here.
    pub(crate) fn abort(&self, why: CutShort) -> bool {
        let end = match why {
            CutShort::Gone => ORPHANED,
            _ => ENDED,
        };
        self.state.store(end, Ordering::Release);
        self.give_up(why)
    }

    fn give_up(&self, why: CutShort) -> bool {
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

impl Task {
    /// Has it polled for the first time.
    pub(crate) fn start(self: &Arc<Self>) {
        self.wake_by_ref();
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
pub(crate) struct Tasks {
    state: Mutex<TasksState>,
    processor: Arc<Processor>,
}

struct TasksState {
    closed: bool,
    tasks: BTreeMap<u64, Arc<Task>>,
    limit: u64,
    most: u64,
    refused: u64,
}

impl Tasks {
    /// None, whose polls will be charged to `processor`.
    pub(crate) fn new(processor: Arc<Processor>) -> Arc<Tasks> {
        let state = TasksState {
            closed: false,
            tasks: BTreeMap::new(),
            limit: Resource::UNLIMITED,
            most: 0,
            refused: 0,
        };
        Arc::new(Tasks {
            state: Mutex::new(Rank::Waker, state),
            processor,
        })
    }

    /// Adds a task.
    pub(crate) fn add(&self, task: &Arc<Task>) -> Result<(), CutShort> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(CutShort::Gone);
        }
        let count = state.tasks.len() as u64;
        if count >= state.limit {
            state.refused += 1;
            return Err(CutShort::Limit(LimitReached(Resource::Tasks)));
        }
        state.most = state.most.max(count + 1);
        state.tasks.insert(task.number, Arc::clone(task));
        Ok(())
    }

    /// Sets how many there may be; those there are stay.
    pub(crate) fn set_limit(&self, limit: u64) {
        self.state.lock().limit = limit;
    }

    /// How many there are and have been, and the limit.
    pub(crate) fn usage(&self) -> Usage {
        let state = self.state.lock();
        Usage {
            resource: Resource::Tasks,
            current: state.tasks.len() as u64,
            high_water: state.most,
            limit: state.limit,
            refused: state.refused,
        }
    }

    fn remove(&self, number: u64) {
        let removed = self.state.lock().tasks.remove(&number);
        drop(removed);
    }

    /// The tasks that have not ended, in the order of spawning.
    pub(crate) fn list(&self) -> Vec<Arc<Task>> {
        self.state.lock().tasks.values().cloned().collect()
    }

    /// Drops every task, in the order of spawning, and refuses new ones. Returns how many could not
    /// be dropped yet, because they are in a poll; that is not waited for.
    pub(crate) fn close(&self) -> usize {
        let tasks = {
            let mut state = self.state.lock();
            state.closed = true;
            std::mem::take(&mut state.tasks)
        };
        let dropped = tasks.into_values().map(|task| task.abort(CutShort::Gone));
        dropped.filter(|dropped| !dropped).count()
    }
}

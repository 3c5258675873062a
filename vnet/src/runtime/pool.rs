//! The threads that poll tasks under the threads driver.
//!
//! They are separate from those that service vnets and keep timers: a task that computes for a
//! second keeps a thread busy for a second, but delays no frames or timers. Nor does it keep other
//! instances' tasks waiting: an instance has at most as many of its tasks polled at a time as there
//! are workers, and instances take turns. When every thread is in a poll that does not end, and
//! there is more to do, another thread is started, up to a limit.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};
use std::task::{Wake, Waker};

use crate::base::lock::{Condvar, Mutex, MutexGuard, Rank};
use crate::base::time::Duration;
use crate::instance::task::Task;

/// How long no thread must have taken a task before another thread is started.
const STUCK: Duration = Duration::from_millis(10);
/// How long a thread that was started because others were stuck stays without work.
const SURPLUS: Duration = Duration::from_secs(1);

/// What the threads of a pool need.
pub(super) trait Host: Send + Sync + 'static {
    /// The pool.
    fn pool(&self) -> &Pool;

    /// Calls `waker` after `delay`.
    fn wake_in(&self, delay: Duration, waker: Waker);

    /// Polls a task on this thread, and services what that made ready. Does not panic.
    fn poll(&self, task: Arc<Task>);
}

/// Tasks to be polled, and the threads that do so.
pub(super) struct Pool {
    state: Mutex<State>,
    /// For one of the idle threads.
    bell: Condvar,
    /// Signals that threads have ended.
    left: Condvar,
    /// The number of threads when none is stuck; also, the maximum number of tasks of one owner
    /// that are polled at a time.
    usual: usize,
    /// The maximum number of threads.
    most: usize,
}

#[derive(Default)]
struct State {
    owners: BTreeMap<u64, Owner>,
    /// Owners of which a task may be polled, in the order of their turns.
    turns: VecDeque<u64>,
    /// Threads, and how many of them wait for the bell, and are in a poll.
    threads: usize,
    idle: usize,
    busy: usize,
    /// Threads started, for their names.
    started: u64,
    /// Polls begun.
    begun: u64,
    /// A check whether the threads are stuck is scheduled.
    watched: bool,
    stop: bool,
}

/// The tasks of an instance, or those of none.
#[derive(Default)]
struct Owner {
    ready: VecDeque<Arc<Task>>,
    polled: usize,
    /// It is in `turns`.
    listed: bool,
}

impl State {
    /// Lists an owner that has tasks to be polled and is below its maximum.
    fn list(&mut self, number: u64, at_once: usize) {
        let Some(owner) = self.owners.get_mut(&number) else {
            return;
        };
        if owner.ready.is_empty() && owner.polled == 0 {
            self.owners.remove(&number);
        } else if !owner.ready.is_empty() && owner.polled < at_once && !owner.listed {
            owner.listed = true;
            self.turns.push_back(number);
        }
    }

    /// Takes the task whose turn it is.
    fn take(&mut self, at_once: usize) -> Option<Arc<Task>> {
        loop {
            let number = self.turns.pop_front()?;
            let Some(owner) = self.owners.get_mut(&number) else {
                continue;
            };
            owner.listed = false;
            let task = owner.ready.pop_front();
            owner.polled += usize::from(task.is_some());
            self.list(number, at_once);
            if task.is_some() {
                self.begun += 1;
                self.busy += 1;
                return task;
            }
        }
    }
}

impl Pool {
    pub(super) fn new(usual: usize, most: usize) -> Pool {
        Pool {
            state: Mutex::new(Rank::Driver, State::default()),
            bell: Condvar::new(),
            left: Condvar::new(),
            usual,
            most: most.max(usual),
        }
    }

    /// Has a task polled.
    pub(super) fn schedule<H: Host>(host: &Arc<H>, task: Arc<Task>) {
        let pool = host.pool();
        let mut state = pool.state.lock();
        if state.stop {
            return;
        }
        let number = task.owner();
        let owner = state.owners.entry(number).or_default();
        owner.ready.push_back(task);
        state.list(number, pool.usual);
        Pool::summon(host, state);
    }

    /// Makes sure that a thread takes the task whose turn it is, if there is one. A thread that was
    /// rung for may take another task first, so each thread that takes one checks again.
    fn summon<H: Host>(host: &Arc<H>, mut state: MutexGuard<'_, State>) {
        let pool = host.pool();
        if state.turns.is_empty() {
            return;
        }
        if state.idle > 0 {
            pool.bell.notify_one();
        } else if state.threads < pool.usual {
            state.threads += 1;
            drop(state);
            pool.start_thread(host);
        } else if !state.watched {
            state.watched = true;
            let seen = state.begun;
            drop(state);
            pool.watch(host, seen);
        }
    }

    /// Ends the threads, and waits for those that are not in a poll: a poll may take forever.
    pub(super) fn shutdown(&self) {
        let mut state = self.state.lock();
        state.stop = true;
        let owners = std::mem::take(&mut state.owners);
        state.turns.clear();
        self.bell.notify_all();
        while state.threads > state.busy {
            self.left.wait(&mut state);
        }
        drop(state);
        // One of the tasks may be the last reference to something of the program's.
        drop(owners);
    }

    fn start_thread<H: Host>(&self, host: &Arc<H>) {
        let number = {
            let mut state = self.state.lock();
            state.started += 1;
            state.started
        };
        let theirs = Arc::clone(host);
        let thread = std::thread::Builder::new()
            .name(format!("vnet-poll-{number}"))
            .spawn(move || theirs.pool().work(&theirs));
        if let Err(error) = thread {
            tracing::error!(%error, "cannot start a thread for tasks");
            self.state.lock().threads -= 1;
            self.left.notify_all();
        }
    }

    /// The main function of a thread.
    fn work<H: Host>(&self, host: &Arc<H>) {
        let mut state = self.state.lock();
        loop {
            if let Some(task) = state.take(self.usual) {
                Pool::summon(host, state);
                let number = task.owner();
                host.poll(task);
                state = self.state.lock();
                state.busy -= 1;
                if let Some(owner) = state.owners.get_mut(&number) {
                    owner.polled -= 1;
                }
                state.list(number, self.usual);
                continue;
            }
            if state.stop {
                break;
            }
            state.idle += 1;
            let mut in_vain = false;
            match state.threads > self.usual {
                true => in_vain = self.bell.wait_for(&mut state, SURPLUS),
                false => self.bell.wait(&mut state),
            }
            state.idle -= 1;
            if in_vain && state.turns.is_empty() && state.threads > self.usual {
                break;
            }
        }
        state.threads -= 1;
        self.left.notify_all();
    }

    /// Checks after a while whether a task was taken since there were `seen`.
    fn watch<H: Host>(&self, host: &Arc<H>, seen: u64) {
        let watch = Watch {
            host: Arc::downgrade(host),
            seen,
        };
        host.wake_in(STUCK, Waker::from(Arc::new(watch)));
    }
}

/// Starts another thread when all are stuck.
struct Watch<H: Host> {
    host: Weak<H>,
    seen: u64,
}

impl<H: Host> Wake for Watch<H> {
    fn wake(self: Arc<Self>) {
        let Some(host) = self.host.upgrade() else {
            return;
        };
        let pool = host.pool();
        let mut state = pool.state.lock();
        if state.stop || state.turns.is_empty() {
            state.watched = false;
            return;
        }
        let stuck = state.begun == self.seen && state.idle == 0;
        let grow = stuck && state.threads < pool.most;
        state.threads += usize::from(grow);
        let seen = state.begun;
        drop(state);
        if grow {
            pool.start_thread(&host);
        }
        pool.watch(&host, seen);
    }
}

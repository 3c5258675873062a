//! The threads that poll tasks under the threads driver.
//!
//! They are separate from those that service vnets and keep timers: a task that computes for a
//! second keeps a thread busy for a second, but delays no frames or timers. Nor does it keep other
//! instances' tasks waiting: an instance has at most as many of its tasks polled at a time as there
//! are workers, and instances share the threads by time and weight. When every thread is in a poll that
//! does not end, and there is more to do, another thread is started, up to a limit.
//!
//! What is shared is the time that polls take, by start-time fair queueing (Goyal, Vin and Cheng, 1996): each
//! instance has a clock of its own, which its polls move on, the slower the greater its weight. The next task is one
//! of the instance whose clock is behind all others. Whoever had nothing to poll is not behind whoever had.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::task::{Wake, Waker};

use crate::base::lock::{Condvar, Mutex, MutexGuard, Rank};
use crate::base::time::{Duration, Instant, nanos};
use crate::instance::processor::{DEFAULT_WEIGHT, Processor};
use crate::instance::task::Task;

/// How long no thread must have taken a task before another thread is started.
const STUCK: Duration = Duration::from_millis(10);
/// How long a thread that was started because others were stuck stays without work.
const SURPLUS: Duration = Duration::from_secs(1);
/// How far the clock of an owner that always has something to poll may be behind, in nanoseconds: one whose tasks
/// are fewer than the threads cannot use its share.
const MOST_BEHIND: u64 = 10_000_000;
/// How far a clock may be ahead of the others: a poll that has slept for a minute is paid for with a second.
const MOST_AHEAD: u64 = 1_000_000_000;

/// What the threads of a pool need.
pub(super) trait Host: Send + Sync + 'static {
    /// The pool.
    fn pool(&self) -> &Pool;

    /// The time.
    fn now(&self) -> Instant;

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
    /// Owners of which a task may be polled, by their clocks.
    turns: BTreeSet<(u64, u64)>,
    /// The most that the clock of an owner showed that was taken: nobody is behind that who had nothing to poll.
    clock: u64,
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
struct Owner {
    ready: VecDeque<Arc<Task>>,
    polled: usize,
    /// It is in `turns`, with this time.
    listed: Option<u64>,
    /// It had nothing to poll before.
    is_new: bool,
    processor: Arc<Processor>,
}

impl Owner {
    fn new(processor: &Arc<Processor>) -> Owner {
        Owner {
            ready: VecDeque::new(),
            polled: 0,
            listed: None,
            is_new: true,
            processor: Arc::clone(processor),
        }
    }
}

impl State {
    /// Lists an owner that has tasks to be polled and is below its maximum.
    fn list(&mut self, number: u64, at_once: usize) {
        let Some(owner) = self.owners.get_mut(&number) else {
            return;
        };
        if owner.ready.is_empty() && owner.polled == 0 {
            self.owners.remove(&number);
        } else if !owner.ready.is_empty() && owner.polled < at_once && owner.listed.is_none() {
            // What it did not use while it had nothing to poll is not made up for; what it did not get is.
            let least = match std::mem::take(&mut owner.is_new) {
                true => self.clock,
                false => self.clock.saturating_sub(MOST_BEHIND),
            };
            let clock = &owner.processor.polled;
            let time = clock.fetch_max(least, Ordering::Relaxed).max(least);
            owner.listed = Some(time);
            self.turns.insert((time, number));
        }
    }

    /// Adds a task of an owner.
    fn add(&mut self, number: u64, processor: &Arc<Processor>, task: Arc<Task>, at_once: usize) {
        let owner = self.owners.entry(number);
        let owner = owner.or_insert_with(|| Owner::new(processor));
        owner.ready.push_back(task);
        self.list(number, at_once);
    }

    /// Ends the poll of a task, which took so long.
    fn settle(&mut self, number: u64, processor: &Processor, time: Duration, at_once: usize) {
        let weight = u64::from(processor.weight().max(1));
        let share = nanos(time).max(1).saturating_mul(u64::from(DEFAULT_WEIGHT)) / weight;
        let clock = &processor.polled;
        let now = clock.load(Ordering::Relaxed).saturating_add(share.max(1));
        let most = self.clock.saturating_add(MOST_AHEAD);
        clock.store(now.min(most), Ordering::Relaxed);
        if let Some(owner) = self.owners.get_mut(&number) {
            owner.polled -= 1;
            // It waits with a task already, and has come further meanwhile.
            if let Some(listed) = owner.listed.take() {
                self.turns.remove(&(listed, number));
            }
        }
        self.list(number, at_once);
    }

    /// Takes the task whose turn it is.
    fn take(&mut self, at_once: usize) -> Option<Arc<Task>> {
        loop {
            let (time, number) = self.turns.pop_first()?;
            self.clock = self.clock.max(time);
            let Some(owner) = self.owners.get_mut(&number) else {
                continue;
            };
            owner.listed = None;
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
        let processor = Arc::clone(task.processor());
        state.add(task.owner(), &processor, task, pool.usual);
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
                let (number, processor) = (task.owner(), Arc::clone(task.processor()));
                let began = host.now();
                host.poll(task);
                let time = host.now().since(began);
                state = self.state.lock();
                state.busy -= 1;
                state.settle(number, &processor, time, self.usual);
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

#[cfg(test)]
mod tests {
    use std::panic::Location;
    use std::task::{Context, Poll};

    use super::*;
    use crate::instance::task::{Body, CutShort, Schedule, Tasks};

    /// A future that nobody polls here.
    struct Never;

    impl Body for Never {
        fn poll(&mut self, _: &mut Context<'_>) -> Poll<()> {
            Poll::Pending
        }
        fn give_up(self: Box<Self>, _: CutShort) {}
    }

    struct Nowhere;

    impl Schedule for Nowhere {
        fn schedule(&self, _: Arc<Task>) {}
    }

    /// An owner whose tasks are always ready.
    struct Busy {
        weight: u32,
        tasks: usize,
        /// Nanoseconds of each poll.
        poll: u64,
    }

    /// Has so many threads poll the tasks of all for so many nanoseconds, and returns how many each owner had.
    fn shared_by(owners: &[Busy], threads: usize, time: u64) -> Vec<u64> {
        let mut state = State::default();
        let mut of_all = Vec::new();
        for (number, owner) in (0..).zip(owners) {
            let processor = Arc::new(Processor::new());
            processor.set(u64::MAX, owner.weight);
            let tasks = Tasks::new(Arc::clone(&processor));
            for n in 0..owner.tasks as u64 {
                let driver: Weak<dyn Schedule> = Weak::<Nowhere>::new();
                let vnet = Some((number, "busy".into()));
                let task = Task::new(n, Location::caller(), vnet, Box::new(Never), driver, &tasks);
                state.add(number, &processor, task, threads);
            }
            of_all.push(processor);
        }
        let mut had = vec![0; owners.len()];
        // When each thread is done, and with what.
        let mut polled: Vec<(u64, Option<Arc<Task>>)> = vec![(0, None); threads];
        loop {
            let next = polled.iter_mut().min_by_key(|(done, _)| *done);
            let (done, task) = next.expect("there are threads");
            let now = *done;
            if now > time {
                return had;
            }
            if let Some(task) = task.take() {
                let number = task.owner();
                let (owner, processor) = (&owners[number as usize], &of_all[number as usize]);
                had[number as usize] += owner.poll;
                state.add(number, processor, task, threads);
                state.settle(number, processor, Duration::from_nanos(owner.poll), threads);
            }
            match state.take(threads) {
                Some(taken) => {
                    *done += owners[taken.owner() as usize].poll;
                    *task = Some(taken);
                }
                // What another thread is polling is all there is.
                None => *done += 1,
            }
        }
    }

    const fn busy(weight: u32, tasks: usize, poll: u64) -> Busy {
        Busy {
            weight,
            tasks,
            poll,
        }
    }

    /// No more than a poll of each apart.
    #[test]
    fn owners_share_a_thread_by_the_time_of_polls_and_not_by_their_number() {
        let had = shared_by(
            &[busy(100, 1, 10_000), busy(100, 5, 10), busy(100, 50, 700)],
            1,
            3_000_000,
        );
        for time in had {
            assert!(time.abs_diff(1_000_000) <= 10_000, "{time}");
        }
    }

    #[test]
    fn weights_share_a_thread_out() {
        let had = shared_by(&[busy(300, 2, 600), busy(100, 9, 200)], 1, 4_000_000);
        assert!(
            had[0].abs_diff(3_000_000) <= 1000 && had[1].abs_diff(1_000_000) <= 1000,
            "{had:?}"
        );
    }

    /// It cannot use more than one of the threads, and has that nearly to itself.
    #[test]
    fn a_task_alone_has_its_thread_beside_an_owner_of_many() {
        for poll in [100, 1000, 50_000] {
            let had = shared_by(&[busy(100, 16, 1000), busy(100, 1, poll)], 2, 10_000_000);
            assert!(had[1] >= 9_000_000, "{had:?}");
            assert!(had[0] >= 9_000_000, "nothing is left idle: {had:?}");
        }
    }

    /// Whoever had nothing to poll has no time saved up.
    #[test]
    fn who_was_idle_does_not_keep_the_others_waiting() {
        let mut state = State::default();
        let processors = [(); 2].map(|()| Arc::new(Processor::new()));
        let driver: Weak<dyn Schedule> = Weak::<Nowhere>::new();
        let task = |number: u64| {
            let tasks = Tasks::new(Arc::clone(&processors[number as usize]));
            let vnet = Some((number, "v".into()));
            Task::new(
                0,
                Location::caller(),
                vnet,
                Box::new(Never),
                driver.clone(),
                &tasks,
            )
        };
        let mut order = Vec::new();
        let [first, second] = &processors;
        state.add(0, first, task(0), 1);
        for turn in 0..104 {
            if turn == 100 {
                state.add(1, second, task(1), 1);
            }
            let taken = state.take(1).expect("the first owner is always ready");
            let number = taken.owner();
            order.push(number);
            let processor = &processors[number as usize];
            state.add(number, processor, taken, 1);
            state.settle(number, processor, Duration::from_micros(10), 1);
        }
        assert_eq!(order[..100], [0; 100]);
        let turns_of_the_second = order[100..].iter().filter(|n| **n == 1).count();
        assert_eq!(turns_of_the_second, 2, "{:?}", &order[100..]);
    }
}

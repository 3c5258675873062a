//! Every schedule of a few threads, one after the other: an exhaustive check of races on the code
//! itself, in the manner of CHESS (Musuvathi and Qadeer, 2007).
//!
//! The threads of a [`Scenario`] are threads of the operating system, of which one at a time has
//! the turn. At every lock, condition and [`point`] it may pass to another one. A depth-first
//! search goes through all decisions that switch away from a thread that could go on at most
//! `preemptions` times; switches from threads that must wait are free. A schedule is the list of
//! decisions, and can be replayed.
//!
//! It is built into the crate's own unit tests and into nothing else. What it does not see: the
//! weak ordering of atomics, which are sequentially consistent here, and atomics without a
//! [`point`] before them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

/// Decisions in one schedule; more of them mean that somebody turns in a circle.
const MAX_DECISIONS: usize = 100_000;

/// What is to be run in every order: threads, and what must be true after all have ended.
pub(crate) struct Scenario {
    pub(crate) threads: Vec<Box<dyn FnOnce() + Send>>,
    pub(crate) check: Box<dyn FnOnce()>,
}

/// How far a search goes.
#[derive(Clone, Copy)]
pub(crate) struct Explorer {
    /// Switches away from a thread that could go on, in one schedule.
    pub(crate) preemptions: usize,
    /// Schedules, of which more are an error.
    pub(crate) max_schedules: u64,
    /// The name of a defect that is put in; see [`planted`].
    pub(crate) planted: Option<&'static str>,
}

impl Default for Explorer {
    fn default() -> Explorer {
        Explorer {
            preemptions: 2,
            max_schedules: 1_000_000,
            planted: None,
        }
    }
}

impl Explorer {
    /// Runs the scenario, made anew each time, in every schedule within the bound. Returns how
    /// many there were, or what went wrong in the first one that failed, and its decisions.
    pub(crate) fn explore(self, scenario: impl Fn() -> Scenario) -> Result<u64, String> {
        let mut follow = Vec::new();
        for schedules in 1..=self.max_schedules {
            let (mut taken, failure) = self.run(scenario(), follow);
            if let Some(failure) = failure {
                let choices: Vec<usize> = taken.iter().map(|d| d.choice).collect();
                return Err(format!("schedule {schedules}: {failure}; {choices:?}"));
            }
            loop {
                match taken.pop() {
                    None => return Ok(schedules),
                    Some(last) if last.choice + 1 < last.options => {
                        follow = taken.iter().map(|d| d.choice).collect();
                        follow.push(last.choice + 1);
                        break;
                    }
                    Some(_) => {}
                }
            }
        }
        Err(format!("more than {} schedules", self.max_schedules))
    }

    fn run(self, scenario: Scenario, follow: Vec<usize>) -> (Vec<Decision>, Option<String>) {
        let count = scenario.threads.len();
        let turns = Arc::new(Turns {
            state: Mutex::new(State {
                current: None,
                threads: vec![Status::Runnable; count],
                timed_out: vec![false; count],
                held: BTreeMap::new(),
                follow,
                taken: Vec::new(),
                preemptions: self.preemptions,
                failure: None,
            }),
            given: (0..count).map(|_| Condvar::new()).collect(),
            over: Condvar::new(),
            planted: self.planted,
        });
        let spawn = |(me, f): (usize, Box<dyn FnOnce() + Send>)| {
            let turns = Arc::clone(&turns);
            std::thread::spawn(move || turns.thread(me, f))
        };
        let threads: Vec<_> = scenario
            .threads
            .into_iter()
            .enumerate()
            .map(spawn)
            .collect();
        let mut state = turns.lock();
        turns.pass(&mut state, None);
        while state.failure.is_none() && state.threads.iter().any(|t| *t != Status::Ended) {
            state = turns.over.wait(state).expect("no panic under this lock");
        }
        let taken = std::mem::take(&mut state.taken);
        let mut failure = state.failure.clone();
        drop(state);
        if failure.is_none() {
            // After a failure the others are left where they are.
            for thread in threads {
                thread.join().expect("its panic has been caught");
            }
            if let Err(panic) = catch_unwind(AssertUnwindSafe(scenario.check)) {
                failure = Some(format!("the check failed: {}", text(&*panic)));
            }
        }
        (taken, failure)
    }
}

/// A decision that was taken, and how many choices there were.
struct Decision {
    choice: usize,
    options: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Runnable,
    /// Waits for the lock at this address.
    Lock(usize),
    /// Waits for a notification of what is at this address.
    Notice(usize),
    /// The same, with a time limit: it ends when nobody else can go on.
    LimitedNotice(usize),
    Ended,
}

struct Turns {
    state: Mutex<State>,
    given: Vec<Condvar>,
    over: Condvar,
    planted: Option<&'static str>,
}

struct State {
    current: Option<usize>,
    threads: Vec<Status>,
    timed_out: Vec<bool>,
    /// Locks that threads of the scenario hold.
    held: BTreeMap<usize, usize>,
    /// The decisions to take; the first choice after those.
    follow: Vec<usize>,
    taken: Vec<Decision>,
    preemptions: usize,
    failure: Option<String>,
}

thread_local! {
    static ME: RefCell<Option<(Arc<Turns>, usize)>> = const { RefCell::new(None) };
}

impl Turns {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under this lock")
    }

    /// The life of a thread.
    fn thread(self: Arc<Turns>, me: usize, f: Box<dyn FnOnce() + Send>) {
        drop(self.await_turn(self.lock(), me));
        ME.set(Some((Arc::clone(&self), me)));
        let result = catch_unwind(AssertUnwindSafe(f));
        ME.set(None);
        let mut state = self.lock();
        if let Err(panic) = result {
            self.fail(&mut state, format!("thread {me}: {}", text(&*panic)));
        }
        state.threads[me] = Status::Ended;
        self.pass(&mut state, None);
        self.over.notify_all();
    }

    fn await_turn<'a>(&self, mut state: MutexGuard<'a, State>, me: usize) -> MutexGuard<'a, State> {
        while state.current != Some(me) || state.failure.is_some() {
            let given = self.given[me].wait(state);
            state = given.expect("no panic under this lock");
        }
        state
    }

    /// Gives the turn to somebody. `me` is who has it and could go on.
    fn pass(&self, state: &mut State, me: Option<usize>) {
        if state.failure.is_some() {
            return;
        }
        let runnable = |state: &State| -> Vec<usize> {
            let others = (0..state.threads.len()).filter(|t| Some(*t) != me);
            let others = others.filter(|t| state.threads[*t] == Status::Runnable);
            me.into_iter().chain(others).collect()
        };
        let mut able = runnable(state);
        if able.is_empty() {
            let limited = |s: &Status| matches!(s, Status::LimitedNotice(_));
            if let Some(first) = state.threads.iter().position(limited) {
                state.threads[first] = Status::Runnable;
                state.timed_out[first] = true;
                able = runnable(state);
            } else if state.threads.iter().all(|t| *t == Status::Ended) {
                state.current = None;
                return;
            } else {
                let stuck = format!("everybody waits for ever: {:?}", state.threads);
                return self.fail(state, stuck);
            }
        }
        let options = match me {
            Some(_) if state.preemptions == 0 => 1,
            _ => able.len(),
        };
        let choice = state.follow.get(state.taken.len()).copied().unwrap_or(0);
        if choice >= options || state.taken.len() >= MAX_DECISIONS {
            let what = format!("decision {} of {options}: no replay", state.taken.len());
            return self.fail(state, what);
        }
        state.taken.push(Decision { choice, options });
        state.preemptions -= usize::from(me.is_some() && choice > 0);
        state.current = Some(able[choice]);
        self.given[able[choice]].notify_one();
    }

    fn fail(&self, state: &mut State, what: String) {
        state.failure.get_or_insert(what);
        self.over.notify_all();
    }

    /// Lets `me` wait as `status` says until somebody makes it runnable and it has the turn.
    fn block<'a>(
        &self,
        mut state: MutexGuard<'a, State>,
        me: usize,
        status: Status,
    ) -> MutexGuard<'a, State> {
        state.threads[me] = status;
        self.pass(&mut state, None);
        self.await_turn(state, me)
    }

    fn point(&self, me: usize) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        self.pass(&mut state, Some(me));
        self.await_turn(state, me)
    }

    fn take_lock(&self, mut state: MutexGuard<'_, State>, me: usize, at: usize) {
        while state.held.contains_key(&at) {
            state = self.block(state, me, Status::Lock(at));
        }
        state.held.insert(at, me);
    }
}

impl State {
    fn wake(&mut self, which: impl Fn(Status) -> bool, at_most: usize) {
        let threads = self.threads.iter_mut().filter(|t| which(**t));
        threads.take(at_most).for_each(|t| *t = Status::Runnable);
    }

    fn release(&mut self, at: usize) {
        self.held.remove(&at);
        self.wake(|t| t == Status::Lock(at), usize::MAX);
    }
}

fn text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
    text.unwrap_or_else(|| "panicked".to_owned())
}

fn me() -> Option<(Arc<Turns>, usize)> {
    ME.try_with(|me| me.borrow().clone()).ok().flatten()
}

/// True on the threads of a scenario.
pub(crate) fn is_active() -> bool {
    me().is_some()
}

/// A place before an access to shared memory that no lock guards: another thread may have the
/// turn here.
pub(crate) fn point() {
    if let Some((turns, me)) = me() {
        drop(turns.point(me));
    }
}

/// True when the defect of this name is put in, so that a test can see that it is found.
pub(crate) fn planted(defect: &str) -> bool {
    me().is_some_and(|(turns, _)| turns.planted == Some(defect))
}

/// A lock that a thread of a scenario holds; others hold none.
#[derive(Debug)]
pub(super) struct Held(usize);

impl Held {
    /// Takes the lock at `at`, when it is this thread's turn and nobody of the scenario has it.
    pub(super) fn take(at: usize) -> Held {
        if let Some((turns, me)) = me() {
            turns.take_lock(turns.point(me), me, at);
        }
        Held(at)
    }

    /// Waits without the lock for a notice of the condition at `condition`, then takes the lock
    /// again. True when the time, if it is limited, is up.
    pub(super) fn wait(&self, condition: usize, limited: bool) -> bool {
        let (turns, me) = me().expect("called by threads of a scenario");
        let mut state = turns.lock();
        state.timed_out[me] = false;
        state.release(self.0);
        let status = match limited {
            true => Status::LimitedNotice(condition),
            false => Status::Notice(condition),
        };
        let state = turns.block(state, me, status);
        let timed_out = state.timed_out[me];
        turns.take_lock(state, me, self.0);
        timed_out
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some((turns, _)) = me() {
            turns.lock().release(self.0);
        }
    }
}

/// Wakes up to `at_most` of those who wait for a notice of what is at `at`.
pub(crate) fn notify(at: usize, at_most: usize) {
    if let Some((turns, _)) = me() {
        let waits = |t| t == Status::Notice(at) || t == Status::LimitedNotice(at);
        turns.lock().wake(waits, at_most);
    }
}

/// Waits until `take` is true, looking anew after each [`notify`] of `at`.
pub(crate) fn park(at: usize, mut take: impl FnMut() -> bool) {
    let Some((turns, me)) = me() else { return };
    let mut state = turns.point(me);
    loop {
        drop(state);
        if take() {
            return;
        }
        state = turns.block(turns.lock(), me, Status::Notice(at));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::base::lock::{self, Rank};

    /// Two threads that read and write a number with a gap between.
    fn increments(lock_it: bool) -> Scenario {
        let number = Arc::new(AtomicU32::new(0));
        let lock = Arc::new(lock::Mutex::new(Rank::Vnet, ()));
        let thread = || -> Box<dyn FnOnce() + Send> {
            let (number, lock) = (Arc::clone(&number), Arc::clone(&lock));
            Box::new(move || {
                let _guard = lock_it.then(|| lock.lock());
                point();
                let read = number.load(Ordering::Relaxed);
                point();
                number.store(read + 1, Ordering::Relaxed);
            })
        };
        Scenario {
            threads: vec![thread(), thread()],
            check: Box::new(move || assert_eq!(number.load(Ordering::Relaxed), 2)),
        }
    }

    #[test]
    fn a_lost_update_is_found_and_a_lock_prevents_it() {
        let lost = Explorer::default().explore(|| increments(false));
        assert!(lost.unwrap_err().contains("the check failed"));
        let one = Explorer {
            preemptions: 0,
            ..Explorer::default()
        };
        assert_eq!(
            one.explore(|| increments(false)),
            Ok(2),
            "either goes first"
        );
        assert!(Explorer::default().explore(|| increments(true)).unwrap() > 2);
    }

    #[test]
    fn all_orders_are_seen_once() {
        // Three threads of two steps each, without a bound that matters: 6! / (2! 2! 2!) = 90.
        let seen = Arc::new(Mutex::new(BTreeSet::new()));
        let all = Explorer {
            preemptions: 100,
            ..Explorer::default()
        };
        let count = all.explore(|| {
            let log = Arc::new(Mutex::new(Vec::new()));
            let thread = |name: u8| -> Box<dyn FnOnce() + Send> {
                let log = Arc::clone(&log);
                Box::new(move || {
                    log.lock().unwrap().push(name);
                    point();
                    log.lock().unwrap().push(name);
                })
            };
            let threads = vec![thread(0), thread(1), thread(2)];
            let (seen, log) = (Arc::clone(&seen), Arc::clone(&log));
            Scenario {
                threads,
                check: Box::new(move || {
                    seen.lock().unwrap().insert(log.lock().unwrap().clone());
                }),
            }
        });
        assert_eq!((count, seen.lock().unwrap().len()), (Ok(90), 90));
    }

    #[test]
    fn waiting_for_ever_is_found() {
        let stuck = Explorer::default().explore(|| {
            let pair = Arc::new((lock::Mutex::new(Rank::Vnet, false), lock::Condvar::new()));
            let theirs = Arc::clone(&pair);
            Scenario {
                threads: vec![
                    Box::new(move || {
                        // The flag is looked at before the lock that the wait releases is taken.
                        let is_set = *pair.0.lock();
                        if !is_set {
                            pair.1.wait(&mut pair.0.lock());
                        }
                    }),
                    Box::new(move || {
                        *theirs.0.lock() = true;
                        theirs.1.notify_all();
                    }),
                ],
                check: Box::new(|| {}),
            }
        });
        assert!(stuck.unwrap_err().contains("waits for ever"));
    }
}

//! The threads driver: the wall clock, and any number of calling threads.
//!
//! *Direct dispatch*: a socket call that made another vnet ready services it on its own thread
//! before it returns, as FreeBSD's `net.isr.dispatch=direct` does; a request and its reply between
//! two vnets complete without a thread switch. Workers take over what would keep a call too long,
//! and what happens later by itself: deadlines, and frames that are still on a wire. They are
//! started when first needed. Tasks are polled by separate threads (`pool`), so that none of this
//! waits for a program's code.
//!
//! A vnet is serviced by one thread at a time. Its [`Sched`](crate::instance::cores::Sched) state:
//!
//! ```text
//!          ready              run                ready
//!   IDLE ─────────► QUEUED ─────────► RUNNING ─────────► AGAIN
//!     ▲                                │   ▲               │
//!     └────────── nothing new ─────────┘   └── run again ──┘
//! ```

mod local;
mod sleep;

use std::io;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Once};
use std::task::Waker;
use std::thread::ThreadId;

use super::clock::{WallClock, entropy, processor_time};
use super::event::{FEW_ENTRIES, disarm};
use super::pool::{Host, Pool};
use super::sleeper::Sleeper;
use super::turns::{self, Left, Turn};
use crate::base::callback;
use crate::base::lock::{Condvar, Mutex, MutexGuard, Rank};
use crate::base::time::{Duration, Instant};
use crate::instance::cores::VnetCore;
use crate::instance::driver::{Driver, Notes, TimerKey, Waited};
use crate::instance::processor;
use crate::instance::site::Site;
use crate::instance::system::System;
use crate::instance::task::{self, Schedule, Task};
use local::{Dispatching, LOCAL, Local, last_reading, note_wait};
use sleep::{Due, Sleep};

/// No thread services the vnet and none needs to.
const IDLE: u8 = 0;
/// It is on a list of vnets to be serviced.
const QUEUED: u8 = 1;
/// A thread services it.
const RUNNING: u8 = 2;
/// A thread services it, and must do so again.
const AGAIN: u8 = 3;

/// The number of services that one call does for others before workers take over.
const DISPATCH_BUDGET: usize = 128;
/// The number of looks at the clock between two yields, shortly before a timer.
const TIMER_LOOKS: u32 = 32;
/// The maximum number of services of one vnet in a row.
const RUN_BUDGET: usize = 16;
/// The time in which a call services others before workers take over.
const DISPATCH_TIME: Duration = Duration::from_millis(1);
/// The time after which a thread leaves some of what waits for it to the workers: it takes about as long to wake one.
const SHARE_TIME: Duration = Duration::from_micros(20);
/// So much longer than for a waker a thread spins at a line: somebody outside has to wake up before there is something to
/// come.
const AT_A_LINE: u32 = 4;

/// The configuration of [`System::threads_with`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadsConfig {
    /// The number of threads that service vnets and keep timers; at least one. The same number of
    /// threads polls tasks, and an instance has at most that many of its tasks polled at a time.
    pub workers: usize,
    /// The maximum number of threads that poll tasks. There are more than `workers` only while
    /// those are in polls that do not end and other tasks wait.
    pub task_threads: usize,
    /// How long a call that must wait spins before it sleeps. A sleeping thread takes tens of microseconds to resume; a
    /// spinning one keeps a processor busy. Whoever waits for a socket in a vnet that has a TAP or the like looks at
    /// that for four times as long, and carries its frames meanwhile; or sleeps beside who does. So does the thread that
    /// carries them otherwise.
    pub spin: Duration,
    /// How long before a timer is due the worker that keeps the timers wakes up, to poll the clock
    /// until it is. A sleeping thread is late by the time that the operating system takes to resume
    /// it; a spinning one is not, but keeps a processor busy. This affects delays of links,
    /// deadlines, and the end of a wait with a timeout.
    pub timer_spin: Duration,
}

impl Default for ThreadsConfig {
    /// One worker per processor, and at most 64 threads for tasks. With several processors, 20 µs
    /// of spinning for an event, and 100 µs for a timer: Linux adds 50 µs to a sleep by default,
    /// and takes a while to resume a thread.
    fn default() -> ThreadsConfig {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let micros = |n| match processors {
            1 => Duration::ZERO,
            _ => Duration::from_micros(n),
        };
        ThreadsConfig {
            workers: processors,
            task_threads: 64,
            spin: micros(20),
            timer_spin: micros(100),
        }
    }
}

impl System {
    /// A system on the wall clock, with worker threads and the default configuration.
    ///
    /// ```
    /// use vnet::System;
    ///
    /// let system = System::threads();
    /// let a = system.create("a")?;
    /// assert_eq!(a.interfaces().unwrap()[0].name, "lo0");
    /// # Ok::<(), vnet::CreateError>(())
    /// ```
    pub fn threads() -> System {
        System::threads_with(ThreadsConfig::default())
    }

    /// A system on the wall clock, with worker threads.
    pub fn threads_with(config: ThreadsConfig) -> System {
        let shared = Arc::new(Shared::new(config));
        System::with_driver(
            Arc::new(Threads {
                shared,
                started: Once::new(),
                workers: Mutex::new(Rank::Waker, Vec::new()),
            }),
            entropy(),
            crate::admin::steps::rooms(),
        )
    }
}

struct Threads {
    shared: Arc<Shared>,
    started: Once,
    workers: Mutex<Vec<std::thread::JoinHandle<()>>>,
}

struct Shared {
    clock: WallClock,
    pool: Pool,
    config: ThreadsConfig,
    /// Vnets in `Sleep::turns`.
    handed_over: AtomicUsize,
    /// Threads that have been servicing vnets for [`SHARE_TIME`].
    engaged: AtomicUsize,
    sleep: Mutex<Sleep>,
    /// For one of the idle workers.
    bell: Condvar,
    /// For the keeper.
    alarm: Condvar,
}

/// Something for a worker to do.
enum Job {
    /// To service a vnet whose turn it is.
    Turn(Arc<VnetCore>),
    /// To service a vnet whose time has come.
    Due(Arc<VnetCore>),
    /// To call a waker whose time has come.
    Wake(Waker),
}

thread_local! {
    static SLEEPER: Sleeper = Sleeper::new();
}

impl Shared {
    fn new(config: ThreadsConfig) -> Shared {
        let workers = config.workers.max(1);
        Shared {
            clock: WallClock::start(),
            pool: Pool::new(workers, config.task_threads),
            config: ThreadsConfig { workers, ..config },
            handed_over: AtomicUsize::new(0),
            engaged: AtomicUsize::new(0),
            sleep: Mutex::new(Rank::Driver, Sleep::default()),
            bell: Condvar::new(),
            alarm: Condvar::new(),
        }
    }

    #[inline]
    fn now(&self) -> Instant {
        let now = self.clock.now();
        // A socket may be dropped by the destructor of a thread-local, after this one is gone.
        let _ = LOCAL.try_with(|local| {
            local.clock.set(self);
            local.now.set(now);
        });
        now
    }

    /// True when `at` has come; reads the clock only when the last reading is not sufficient.
    fn is_due(&self, at: Instant) -> bool {
        let known = LOCAL.try_with(|l| std::ptr::eq(l.clock.get(), self) && at <= l.now.get());
        known == Ok(true) || at <= self.now()
    }

    /// Hands a vnet to the workers.
    fn hand_over(&self, vnet: Arc<VnetCore>) {
        let mut sleep = self.sleep.lock();
        sleep.turns.push(vnet);
        self.handed_over.fetch_add(1, Ordering::Release);
        if sleep.idle > 0 {
            self.bell.notify_one();
        } else if sleep.keeper {
            self.alarm.notify_one();
        }
    }

    fn set_timer(&self, vnet: &Arc<VnetCore>, at: Instant) {
        if vnet.inbox.armed.by(at) {
            return;
        }
        // Moved under the lock only, so that the entry is where it says.
        let mut sleep = self.sleep.lock();
        if !vnet.inbox.armed.arm(at) {
            return;
        }
        let first = sleep.next().is_none_or(|next| at < next);
        sleep.timers_made += 1;
        let place = (at, sleep.timers_made);
        let mut gone = Vec::new();
        if !sleep.timers.change(vnet.sched.ticket(), place) {
            if sleep.timers.len() >= sleep.sweep_at.max(FEW_ENTRIES) {
                // As in `Agenda::push`: those of vnets that are gone would stay until they are due.
                gone = sleep.timers.retain(|vnet| vnet.strong_count() > 0);
                sleep.sweep_at = 2 * sleep.timers.len();
            }
            let ticket = sleep.timers.push(place, Arc::downgrade(vnet));
            vnet.sched.set_ticket(ticket);
        }
        if first {
            self.tell_keeper(&sleep);
        }
        drop(sleep);
        drop(gone);
    }

    fn set_wake(&self, at: Instant, waker: Waker) -> TimerKey {
        let mut sleep = self.sleep.lock();
        let first = sleep.next().is_none_or(|next| at < next);
        sleep.timers_made += 1;
        let key = TimerKey {
            at,
            of: u64::MAX,
            seq: sleep.timers_made,
        };
        sleep.wakes.insert(key, waker);
        if first {
            self.tell_keeper(&sleep);
        }
        key
    }

    /// Notes that there is a new first timer.
    fn tell_keeper(&self, sleep: &Sleep) {
        if sleep.keeper {
            self.alarm.notify_one();
        } else if sleep.idle > 0 {
            self.bell.notify_one();
        }
    }

    /// Services `vnet`, which this thread has set to QUEUED, until there is nothing new, or as often and
    /// as long as a call may do so for others.
    fn run(&self, vnet: Arc<VnetCore>, until: Instant) {
        for _ in 0..RUN_BUDGET {
            if service(&vnet) == Left::Nothing {
                return;
            }
            if last_reading() > until || self.moves_on() {
                break;
            }
        }
        again(vnet);
    }

    /// Services `vnet`, whose timer has gone off, once: what is left waits for its turn.
    fn run_due(&self, vnet: Arc<VnetCore>) {
        let began = self.now();
        let left = service(&vnet);
        turns::settle(&vnet, self.now().since(began), left);
        if left == Left::Waiting {
            again(vnet);
        }
    }

    /// Services `vnet`, whose turn it is, until there is nothing new, or its time is over.
    fn run_turn(&self, vnet: Arc<VnetCore>) {
        let began = self.now();
        loop {
            let left = service(&vnet);
            let time = self.now().since(began);
            if left == Left::Nothing {
                turns::settle(&vnet, time, left);
                return;
            }
            let is_over = turns::is_over(&vnet, time);
            if is_over || self.moves_on() {
                // Nobody else waits for a worker when it moves on, so the rest of the turn is nobody's.
                let kept = match is_over {
                    true => left,
                    false => Left::Nothing,
                };
                turns::settle(&vnet, time, kept);
                return again(vnet);
            }
        }
    }

    /// Whether this thread leaves the vnet, which has more to do, to a worker, and goes on with what it has made ready. So a
    /// stream through many vnets keeps several processors busy, and frames stay with the thread in whose cache they are.
    /// While others wait for a worker, it does not: they and the vnet have turns.
    fn moves_on(&self) -> bool {
        let moves = LOCAL.try_with(|local| {
            self.has_help(local)
                && !local.ready.borrow().is_empty()
                && self.handed_over.load(Ordering::Relaxed) == 0
        });
        moves == Ok(true)
    }

    /// Whether this thread has been servicing vnets for a while, and a worker is free.
    fn has_help(&self, local: &Local) -> bool {
        if local.now.get() < local.began.get() + SHARE_TIME {
            return false;
        }
        if !local.engaged.replace(true) {
            self.engaged.fetch_add(1, Ordering::Relaxed);
        }
        self.engaged.load(Ordering::Relaxed) <= self.config.workers
    }

    /// Whether a call leaves the rest to a worker, so that its caller can send more meanwhile. Callers who wait for what
    /// they have sent instead would wait for a thread to wake up; whether they do is learnt from what they did before.
    fn leaves_rest(&self, local: &Local) -> bool {
        if local.ready.borrow().is_empty() || !self.has_help(local) {
            return false;
        }
        let leaves = local.trials.again();
        match leaves {
            true => local.has_left.set(true),
            // Once a call.
            false => local.began.set(Instant::MAX),
        }
        leaves
    }

    /// Notes that this thread begins to service vnets, and when it stops. It may do so for another system meanwhile.
    fn engage<'a>(&'a self, local: &'a Local) -> Engagement<'a> {
        Engagement {
            shared: self,
            local,
            before: (
                local.began.replace(local.now.get()),
                local.engaged.replace(false),
            ),
        }
    }

    /// Services what this thread made ready.
    fn dispatch(&self) {
        let _ = LOCAL.try_with(|local| {
            if local.dispatching.get() || local.ready.borrow().is_empty() {
                return;
            }
            if local.has_left.take() {
                local.trials.note(false);
            }
            let _dispatching = Dispatching::begin(local);
            let _engagement = self.engage(local);
            // Each service reads the clock, so this thread knows about what time it is.
            let until = local.now.get() + DISPATCH_TIME;
            for _ in 0..DISPATCH_BUDGET {
                let next = local.ready.borrow_mut().pop_front();
                match next {
                    Some(vnet) => self.run(vnet, until),
                    None => return,
                }
                if local.now.get() > until || self.leaves_rest(local) {
                    break;
                }
            }
            local.delegate_ready();
        });
    }

    /// The main function of a worker: it alternates between what was handed over and what is due,
    /// so that neither waits for the other to run out.
    fn work(&self) {
        let mut sleep = self.sleep.lock();
        loop {
            if let Some(vnet) = sleep.turns.take() {
                self.handed_over.fetch_sub(1, Ordering::Relaxed);
                drop(sleep);
                self.serve(Job::Turn(vnet));
                sleep = self.sleep.lock();
            }
            let now = self.now();
            if let Some(due) = sleep.pop_due(now) {
                drop(sleep);
                match due {
                    Due::Wake(waker) => self.serve(Job::Wake(waker)),
                    Due::Service(at, vnet) => {
                        if let Some(vnet) = disarm(vnet.upgrade(), at).filter(|v| claim(v)) {
                            self.serve(Job::Due(vnet));
                        }
                    }
                }
                sleep = self.sleep.lock();
                continue;
            }
            if !sleep.turns.is_empty() {
                continue;
            }
            if sleep.stop {
                return;
            }
            match sleep.next() {
                Some(at) if !sleep.keeper => {
                    sleep.keeper = true;
                    let spin = self.config.timer_spin;
                    let left = at - now;
                    if left > spin {
                        self.alarm.wait_for(&mut sleep, left - spin);
                    } else {
                        sleep = self.look_for(at, sleep);
                    }
                    sleep.keeper = false;
                    // This worker may be busy for a while: another one sees to the next timer.
                    if sleep.idle > 0 {
                        self.bell.notify_one();
                    }
                }
                _ => {
                    sleep.idle += 1;
                    self.bell.wait(&mut sleep);
                    sleep.idle -= 1;
                }
            }
        }
    }

    /// Polls the clock until `at`, which is near, or until there is something else to do. It yields
    /// the processor between looks.
    fn look_for<'a>(&'a self, at: Instant, sleep: MutexGuard<'a, Sleep>) -> MutexGuard<'a, Sleep> {
        drop(sleep);
        loop {
            for _ in 0..TIMER_LOOKS {
                if self.clock.now() >= at || self.handed_over.load(Ordering::Acquire) > 0 {
                    return self.sleep.lock();
                }
                std::hint::spin_loop();
            }
            std::thread::yield_now();
            let sleep = self.sleep.lock();
            if sleep.stop || sleep.next().is_none_or(|next| next < at) {
                return sleep;
            }
        }
    }

    /// Does a job on a worker, and services what the job made ready. A panic must not end the
    /// worker.
    fn serve(&self, job: Job) {
        LOCAL.with(|local| {
            // It may have slept since it read the clock.
            self.now();
            let _engagement = self.engage(local);
            match job {
                Job::Turn(vnet) => callback::contained("a service", || self.run_turn(vnet)),
                Job::Due(vnet) => callback::contained("a service", || self.run_due(vnet)),
                Job::Wake(waker) => callback::contained("a waker", || waker.wake()),
            }
            callback::contained("a service", || self.dispatch());
        });
    }
}

/// Hands over a vnet of which something is left.
fn again(vnet: Arc<VnetCore>) {
    vnet.sched.state.store(QUEUED, Ordering::Release);
    delegate(vnet);
}

/// Services a vnet, which was QUEUED or AGAIN. It is RUNNING or AGAIN if something is left.
fn service(vnet: &Arc<VnetCore>) -> Left {
    vnet.sched.state.store(RUNNING, Ordering::Release);
    let running = Running(vnet);
    vnet.service();
    std::mem::forget(running);
    let state = &vnet.sched.state;
    match state.compare_exchange(RUNNING, IDLE, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => Left::Nothing,
        Err(_) => Left::Waiting,
    }
}

impl Turn for Arc<VnetCore> {
    fn weight(&self) -> u32 {
        self.processor.weight()
    }

    fn credit(&self) -> &AtomicI64 {
        &self.processor.credit
    }
}

/// Hands a vnet to the workers of its system, which need not be the one that this thread acts for.
fn delegate(vnet: Arc<VnetCore>) {
    let driver = Arc::clone(&vnet.driver);
    driver.delegate(vnet);
}

/// Hands over a vnet in whose service a callback has panicked: the rest is still to be done.
struct Running<'a>(&'a Arc<VnetCore>);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.sched.state.store(QUEUED, Ordering::Release);
        delegate(Arc::clone(self.0));
    }
}

/// Notes that a vnet needs service; true when the caller is to put it on a list.
fn claim(vnet: &VnetCore) -> bool {
    let state = &vnet.sched.state;
    let mut seen = state.load(Ordering::Acquire);
    loop {
        let next = match seen {
            IDLE => QUEUED,
            RUNNING => AGAIN,
            _ => return false,
        };
        match state.compare_exchange_weak(seen, next, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return seen == IDLE,
            Err(now) => seen = now,
        }
    }
}

/// A thread services vnets.
struct Engagement<'a> {
    shared: &'a Shared,
    local: &'a Local,
    /// `began` and `engaged` of what it does besides.
    before: (Instant, bool),
}

impl Drop for Engagement<'_> {
    fn drop(&mut self) {
        let (began, engaged) = self.before;
        self.local.began.set(began);
        if self.local.engaged.replace(engaged) {
            self.shared.engaged.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Host for Shared {
    fn pool(&self) -> &Pool {
        &self.pool
    }

    fn now(&self) -> Instant {
        Shared::now(self)
    }

    fn wake_in(&self, delay: Duration, waker: Waker) {
        let at = self.now() + delay;
        let mut sleep = self.sleep.lock();
        let first = sleep.next().is_none_or(|next| at < next);
        sleep.watch = Some((at, waker));
        if first {
            self.tell_keeper(&sleep);
        }
    }

    fn poll(&self, task: Arc<Task>) {
        callback::contained("a task", || {
            let now = || Shared::now(self);
            processor::poll(task.processor(), processor_time, now, || task.run());
        });
        callback::contained("a service", || self.dispatch());
    }
}

impl Threads {
    fn start_workers(&self) {
        self.started.call_once(|| {
            let mut workers = self.workers.lock();
            for n in 0..self.shared.config.workers {
                let shared = Arc::clone(&self.shared);
                let worker = std::thread::Builder::new()
                    .name(format!("vnet-worker-{n}"))
                    .spawn(move || shared.work());
                match worker {
                    Ok(worker) => workers.push(worker),
                    Err(error) => tracing::error!(%error, "cannot start a worker thread"),
                }
            }
        });
    }
}

impl Schedule for Threads {
    fn schedule(&self, task: Arc<Task>) {
        self.start_workers();
        Pool::schedule(&self.shared, task);
    }
}

impl Driver for Threads {
    #[inline]
    fn now(&self) -> Instant {
        self.shared.now()
    }

    fn wall(&self) -> Instant {
        self.shared.now()
    }

    fn processor_time(&self) -> Option<Duration> {
        processor_time()
    }

    fn is_simulated(&self) -> bool {
        false
    }

    #[inline]
    fn ready(&self, vnet: &Arc<VnetCore>, at: Instant) {
        if !self.shared.is_due(at) {
            self.start_workers();
            self.shared.set_timer(vnet, at);
        } else if claim(vnet) {
            let list = |l: &Local| l.ready.borrow_mut().push_back(Arc::clone(vnet));
            if LOCAL.try_with(list).is_err() {
                self.delegate(Arc::clone(vnet));
            }
        }
    }

    /// The thread that keeps the timers may have to wait for a processor.
    fn is_punctual(&self) -> bool {
        false
    }

    fn delegate(&self, vnet: Arc<VnetCore>) {
        self.start_workers();
        self.shared.hand_over(vnet);
    }

    fn set_timer(&self, at: Instant, waker: Waker) -> TimerKey {
        self.start_workers();
        self.shared.set_wake(at, waker)
    }

    fn cancel_timer(&self, key: TimerKey) {
        let waker = self.shared.sleep.lock().wakes.remove(&key);
        drop(waker);
    }

    fn notes(&self) -> Notes {
        let sleep = self.shared.sleep.lock();
        Notes {
            timers: sleep.wakes.keys().map(|key| key.at).collect(),
            ..Notes::default()
        }
    }

    #[inline]
    fn dispatch(&self) {
        self.shared.dispatch();
    }

    fn waker(&self) -> Waker {
        SLEEPER.with(Sleeper::waker)
    }

    fn wait(&self, until: Option<Instant>, _site: Site) -> Waited {
        if task::is_polling() {
            return Waited::InTask;
        }
        note_wait();
        let Shared { clock, config, .. } = &*self.shared;
        SLEEPER.with(|sleeper| sleeper.wait(clock, config.spin, until))
    }

    fn wait_in(&self, vnet: &VnetCore, until: Option<Instant>, site: Site) -> Waited {
        if !vnet.lines.are_there() {
            return self.wait(until, site);
        }
        if task::is_polling() {
            return Waited::InTask;
        }
        note_wait();
        let clock = &self.shared.clock;
        let spin = self.spin_at_a_line();
        SLEEPER.with(|sleeper| {
            let lent = sleeper.may_attend().then(|| vnet.lines.attend()).flatten();
            let attended = lent.and_then(|(line, attendance)| {
                sleeper.wait_at(line, attendance, clock, spin, until)
            });
            // Whoever carries now is done soon. One who spins would be served by it, and find it at work again the next time.
            attended.unwrap_or_else(|| sleeper.wait(clock, Duration::ZERO, until))
        })
    }

    fn spin_at_a_line(&self) -> Duration {
        self.shared.config.spin.saturating_mul(AT_A_LINE)
    }

    fn spawn(&self, name: String, f: Box<dyn FnOnce() + Send>) -> io::Result<()> {
        std::thread::Builder::new().name(name).spawn(f).map(drop)
    }

    fn poll(&self, _now: Instant) -> Option<Instant> {
        None
    }

    fn shutdown(&self) {
        let wakes = {
            let mut sleep = self.shared.sleep.lock();
            sleep.stop = true;
            (std::mem::take(&mut sleep.wakes), sleep.watch.take())
        };
        drop(wakes);
        self.shared.bell.notify_all();
        self.shared.alarm.notify_all();
        self.shared.pool.shutdown();
        let me: ThreadId = std::thread::current().id();
        let workers = std::mem::take(&mut *self.workers.lock());
        for worker in workers {
            // The last handle may have been dropped by a worker itself: it ends on its own.
            if worker.thread().id() != me {
                let _ = worker.join();
            }
        }
    }
}

#[cfg(test)]
mod tests;

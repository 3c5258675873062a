//! A tokio runtime whose time is a vnet's.
//!
//! The runtime has one thread, and that one is borrowed: a task of the vnet runs it until nothing is left that can run
//! at the current time, and then waits, as any task of the vnet, for a socket or for time. tokio's clock stands still
//! and is moved to the system's time before each run. `docs/async.md` says why it is done like this.
//!
//! tokio tells neither when it has nothing left to run nor when its next timer is due. The first is found out by a task
//! that is always ready: when the runtime runs nothing else for a round, there is nothing else. Timers go off at whole
//! milliseconds, so the runtime is run at each of these; when nothing has happened for ten seconds, less often.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::runtime::{Builder, Handle, RuntimeMetrics};
use vnet::beside::{self, Clock};
use vnet::time::Instant;
use vnet::{Sleep, SocketError, System, Vnet};

use crate::world::{self, World};

/// The resolution of tokio's timers.
const TICK: Duration = Duration::from_millis(1);
/// After a silence, a timer is late by at most this part of it, and a tick.
const EXACTNESS: u32 = 10_000;
/// After so long a silence, timers are not asked for any more.
const HORIZON: Duration = Duration::from_secs(30 * 24 * 3600);

/// Tasks that are polled in a round, after which tokio looks for timers and polls the future for which it runs.
const ROUND: u32 = 8;
/// Rounds at one instant that take no time.
const FREE_ROUNDS: u64 = 100_000 / ROUND as u64;
/// After these, so many more take a tick.
const ROUNDS_OF_A_TICK: u64 = 1000;
/// Rounds from one look at the time to the next, which passes in a run by what calls of sockets cost.
const LOOK: u64 = 16;

thread_local! {
    /// The host that runs on this thread.
    static RUNNING: RefCell<Option<Arc<Host>>> = const { RefCell::new(None) };
}

/// The host that runs on this thread: whoever begins to wait now is one of its tasks.
pub(crate) fn running() -> Option<Arc<Host>> {
    RUNNING.with(|running| running.borrow().clone())
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is said where one waits for a runtime inside of a runtime.
pub(crate) fn inside_a_runtime() -> io::Error {
    let what = "Runtime::block_on was called inside a tokio runtime, which it would keep from running: await the \
        future there, or what Runtime::spawn returns, or call block_on outside of it";
    io::Error::new(ErrorKind::WouldBlock, what)
}

/// A tokio runtime, and the vnet that it belongs to.
pub(crate) struct Host {
    vnet: Vnet,
    system: System,
    clock: Clock,
    world: Arc<World>,
    /// Not there any more when the vnet is gone.
    runtime: Mutex<Option<tokio::runtime::Runtime>>,
    /// Its tasks are to be dropped.
    ended: AtomicBool,
    handle: Handle,
    metrics: RuntimeMetrics,
    /// Polls of the task that is always ready, in this round.
    beats: Arc<AtomicU32>,
    /// The time of the system at which the runtime's clock is zero.
    zero: Instant,
    tokios_zero: tokio::time::Instant,
    /// Wakes the task that runs it.
    driver: Mutex<Option<Waker>>,
    /// It was woken, and not only for a tick.
    woken: AtomicBool,
    /// Threads in `block_on`.
    blocked: AtomicUsize,
    /// Rounds that the next run may take.
    patience: AtomicU64,
    /// Its tasks keep it busy, and take time by that: when it runs on, in nanoseconds since `zero`.
    busy_until: AtomicU64,
}

/// What a run was.
struct Run<R> {
    /// What the future said for which it ran.
    first: Poll<R>,
    /// Whether any task was polled.
    ran: bool,
}

impl Host {
    /// A runtime for `vnet`, and the future that runs it.
    pub(crate) fn new(vnet: &Vnet) -> io::Result<(Arc<Host>, Driving)> {
        let system = vnet.system();
        let clock = Clock::of(&system);
        let world = World::of(&clock);
        let mut builder = Builder::new_current_thread();
        let (theirs, name) = (Arc::clone(&world), vnet.name().to_owned());
        builder
            .enable_time()
            .start_paused(true)
            .event_interval(ROUND)
            // There is always something in the other queue.
            .global_queue_interval(1)
            // It is asked for by the task that has such a thread made, before there is one.
            .thread_name_fn(move || {
                theirs.fail(&name);
                "vnet-tokio-blocking".to_owned()
            });
        #[cfg(tokio_unstable)]
        builder.rng_seed(tokio::runtime::RngSeed::from_bytes(vnet.name().as_bytes()));
        let runtime = builder.build()?;
        let handle = runtime.handle().clone();
        let tokios_zero = {
            let _runtime = handle.enter();
            tokio::time::Instant::now()
        };
        let beats = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&beats);
        handle.spawn(poll_fn(move |task| {
            counted.fetch_add(1, Ordering::Relaxed);
            task.waker().wake_by_ref();
            Poll::<()>::Pending
        }));
        let host = Arc::new(Host {
            vnet: vnet.clone(),
            zero: system.now(),
            system,
            clock,
            world: Arc::clone(&world),
            runtime: Mutex::new(Some(runtime)),
            ended: AtomicBool::new(false),
            metrics: handle.metrics(),
            handle,
            beats,
            tokios_zero,
            driver: Mutex::new(None),
            woken: AtomicBool::new(true),
            blocked: AtomicUsize::new(0),
            patience: AtomicU64::new(FREE_ROUNDS),
            busy_until: AtomicU64::new(0),
        });
        world.add(&host);
        let driving = Driving {
            host: Arc::clone(&host),
            heard: Duration::ZERO,
            sleep: None,
        };
        Ok((host, driving))
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The time in which it lives.
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(crate) fn metrics(&self) -> &RuntimeMetrics {
        &self.metrics
    }

    /// Has the runtime run soon. One that runs now runs on by itself.
    pub(crate) fn wake(&self) {
        let runs_now = RUNNING.with(|running| {
            let running = running.borrow();
            running
                .as_ref()
                .is_some_and(|host| std::ptr::eq(&**host, self))
        });
        if !runs_now {
            self.run_again();
        }
    }

    fn run_again(&self) {
        self.woken.store(true, Ordering::Release);
        let driver = lock(&self.driver).clone();
        if let Some(driver) = driver {
            driver.wake();
        }
    }

    /// The time since the runtime's zero.
    fn elapsed(&self) -> Duration {
        self.system.now().since(self.zero)
    }

    /// Tasks of the program that have not ended.
    fn tasks(&self) -> usize {
        self.metrics.num_alive_tasks().saturating_sub(1)
    }

    /// Polls `first` in the runtime, and runs what can run at this time. What would wait for the simulation fails
    /// meanwhile.
    fn run<R>(self: &Arc<Self>, first: impl FnOnce() -> Poll<R>) -> io::Result<Run<R>> {
        let ran = {
            let runtime = lock(&self.runtime);
            let Some(runtime) = &*runtime else {
                return Err(io::Error::new(
                    ErrorKind::ConnectionAborted,
                    SocketError::Gone,
                ));
            };
            let running = Running(RUNNING.replace(Some(Arc::clone(self))));
            let ran = beside::as_task(|| self.run_in(runtime, first));
            drop(running);
            ran
        };
        // Somebody has ended it meanwhile, and could not wait for that.
        if self.ended.load(Ordering::Acquire) {
            self.shut_down();
        }
        match self.world.failure() {
            Some(failure) => Err(failure),
            None => Ok(ran),
        }
    }

    fn run_in<R>(
        &self,
        runtime: &tokio::runtime::Runtime,
        first: impl FnOnce() -> Poll<R>,
    ) -> Run<R> {
        let begun = self.elapsed();
        let mut run = Run {
            first: Poll::Pending,
            ran: false,
        };
        let mut first = Some(first);
        let patience = self.patience.load(Ordering::Relaxed);
        let mut rounds = 0;
        runtime.block_on(poll_fn(|root| {
            let beats = self.beats.swap(0, Ordering::Relaxed);
            root.waker().wake_by_ref();
            if let Some(first) = first.take() {
                self.move_clock(begun, root);
                run.first = first();
                return match run.first {
                    // As with tokio, the others run on another time.
                    Poll::Ready(_) => Poll::Ready(()),
                    Poll::Pending => Poll::Pending,
                };
            }
            rounds += 1;
            let is_idle = beats >= ROUND && self.metrics.global_queue_depth() == 0;
            run.ran |= !is_idle;
            // Timers go off at the end of a round.
            if is_idle && rounds > 1 {
                self.patience.store(FREE_ROUNDS, Ordering::Relaxed);
                return Poll::Ready(());
            }
            if rounds % LOOK == 0 {
                let now = self.elapsed();
                self.move_clock(now, root);
                if now >= begun + TICK {
                    self.run_again();
                    return Poll::Ready(());
                }
            }
            if rounds >= patience {
                let until = u64::try_from((begun + TICK).as_nanos()).unwrap_or(u64::MAX);
                self.busy_until.store(until, Ordering::Relaxed);
                self.patience.store(ROUNDS_OF_A_TICK, Ordering::Relaxed);
                self.run_again();
                return Poll::Ready(());
            }
            Poll::Pending
        }));
        run
    }

    /// Moves tokio's clock to the system's time.
    fn move_clock(&self, elapsed: Duration, root: &mut Context<'_>) {
        let now = self.tokios_zero + elapsed;
        let behind = now.saturating_duration_since(tokio::time::Instant::now());
        if !behind.is_zero() {
            // It does so in its first poll. After that it would only let others run.
            let _ = pin!(tokio::time::advance(behind)).poll(root);
        }
    }

    /// As [`Host::run`], for nobody's future.
    fn run_tasks(self: &Arc<Self>) -> io::Result<bool> {
        let run = || self.run(|| Poll::<()>::Pending).map(|run| run.ran);
        if Handle::try_current().is_err() {
            return run();
        }
        // The simulation moves on a thread that is inside another tokio runtime, as in the body of a test with
        // `#[tokio::test]`. tokio lets no other runtime run there.
        std::thread::scope(|scope| {
            let lent = std::thread::Builder::new().name("vnet-tokio".to_owned());
            let lent = lent.spawn_scoped(scope, || {
                let _vnet = self.vnet.enter();
                run()
            })?;
            lent.join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs `future` to its end on this thread.
    #[track_caller]
    pub(crate) fn block_on<F: Future>(self: &Arc<Self>, future: F) -> io::Result<F::Output> {
        if Handle::try_current().is_ok() {
            return Err(inside_a_runtime());
        }
        let _vnet = self.vnet.enter();
        self.blocked.fetch_add(1, Ordering::Relaxed);
        let _blocked = Blocked(self);
        let mut caller = world::Caller::new(&self.world);
        let mut future = pin!(future);
        self.system.block_on(poll_fn(|task| {
            caller.waits(task.waker());
            let ran = self.run(|| future.as_mut().poll(task));
            // It may have set timers.
            self.run_again();
            match ran {
                Ok(run) => run.first.map(Ok),
                Err(error) => Poll::Ready(Err(error)),
            }
        }))?
    }

    /// Drops every task; if this is called by one of them, when the run is over.
    fn shut_down(&self) {
        self.ended.store(true, Ordering::Release);
        let runtime = match self.runtime.try_lock() {
            Ok(mut runtime) => runtime.take(),
            Err(TryLockError::Poisoned(runtime)) => runtime.into_inner().take(),
            // Whoever runs it looks once more when that is over.
            Err(TryLockError::WouldBlock) => None,
        };
        if let Some(runtime) = runtime {
            runtime.shutdown_background();
        }
    }

    /// When to ask for timers next, at `now`, if nothing has happened since `heard`.
    fn next_tick(&self, now: Duration, heard: Duration) -> Option<Instant> {
        let may_have_timers = self.tasks() > 0 || self.blocked.load(Ordering::Relaxed) > 0;
        let silence = now.saturating_sub(heard);
        if !may_have_timers || silence > HORIZON {
            return None;
        }
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let step = (silence / EXACTNESS).max(TICK);
        let next = millis(now).saturating_add(millis(step));
        Some(self.zero + Duration::from_millis(next))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.world.remove(self);
        self.shut_down();
    }
}

struct Running(Option<Arc<Host>>);

impl Drop for Running {
    fn drop(&mut self) {
        let ran = RUNNING.replace(self.0.take());
        drop(ran);
    }
}

struct Blocked<'a>(&'a Host);

impl Drop for Blocked<'_> {
    fn drop(&mut self) {
        self.0.blocked.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Runs a host, as a task of its vnet. With it, the host's tasks go.
pub(crate) struct Driving {
    host: Arc<Host>,
    /// When something happened last.
    heard: Duration,
    sleep: Option<Sleep>,
}

impl Future for Driving {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let host = &this.host;
        *lock(&host.driver) = Some(task.waker().clone());
        let busy_until = Duration::from_nanos(host.busy_until.load(Ordering::Relaxed));
        let next = if host.elapsed() < busy_until {
            Some(host.zero + busy_until)
        } else {
            let woken = host.woken.swap(false, Ordering::AcqRel);
            // Without a runtime the task ends with the vnet; a world that has failed says so to who waits for it.
            let Ok(ran) = host.run_tasks() else {
                return Poll::Pending;
            };
            let now = host.elapsed();
            if woken || ran {
                this.heard = now;
            } else {
                host.world.was_quiet();
            }
            host.next_tick(now, this.heard)
        };
        this.sleep = next.map(|at| host.system.sleep_until_async(at));
        if let Some(sleep) = &mut this.sleep
            && Pin::new(sleep).poll(task).is_ready()
        {
            // Calls have taken time meanwhile.
            task.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl Drop for Driving {
    fn drop(&mut self) {
        self.host.shut_down();
    }
}

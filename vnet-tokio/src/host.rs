//! A tokio runtime whose time is a vnet's.
//!
//! The runtime has one thread, and that one is borrowed: a task of the vnet runs it until nothing is left that can run
//! at the current time, and then waits, as any task of the vnet, for a socket or for time. tokio's clock stands still
//! and is moved to the system's time before each run. `docs/async.md` says why it is done like this.
//!
//! tokio does not tell when its next timer is due. Its timers go off at whole milliseconds, so it is asked at each of
//! these; when nothing has happened for ten seconds, less often.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use vnet::time::Instant;
use vnet::{Sleep, SocketError, System, Vnet};

/// The resolution of tokio's timers.
const TICK: Duration = Duration::from_millis(1);
/// After a silence, a timer is late by at most this part of it, and a tick.
const EXACTNESS: u32 = 10_000;
/// After so long a silence, timers are not asked for any more.
const HORIZON: Duration = Duration::from_secs(30 * 24 * 3600);

/// What is said of threads that cannot take turns.
const BLOCKING: &str = "tokio::task::spawn_blocking, with which tokio::fs and tokio's own resolver work too, starts a \
    thread that takes no turns in simulated time: call Vnet::spawn and await what it sends, or use System::threads()";

thread_local! {
    /// The host that runs on this thread.
    static RUNNING: RefCell<Option<Arc<Host>>> = const { RefCell::new(None) };
}

/// The host that runs on this thread: whoever begins to wait now is one of its tasks.
pub(crate) fn running() -> Option<Arc<Host>> {
    RUNNING.with(|running| running.borrow().clone())
}

fn blocking() -> io::Error {
    io::Error::new(ErrorKind::Unsupported, BLOCKING)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A tokio runtime, and the vnet that it belongs to.
pub(crate) struct Host {
    vnet: Vnet,
    world: Arc<World>,
    /// Not there any more when the vnet is gone.
    runtime: Mutex<Option<tokio::runtime::Runtime>>,
    handle: Handle,
    idle: Arc<Idle>,
    /// The time of the system at which the runtime's clock is zero.
    zero: Instant,
    tokios_zero: tokio::time::Instant,
    /// Wakes the task that runs it.
    driver: Mutex<Option<Waker>>,
    /// It was woken, and not only for a tick.
    woken: AtomicBool,
    /// Threads in `block_on`.
    blocked: AtomicUsize,
}

/// What the runtime tells when it has nothing to do.
#[derive(Default)]
struct Idle {
    /// How many times it has found nothing to run, in this run.
    times: AtomicUsize,
    /// Wakes the future for which the runtime runs.
    root: Mutex<Option<Waker>>,
    /// Somebody has started a thread.
    blocking: AtomicBool,
}

impl Idle {
    /// Called by the runtime before it would wait. It must not: it would move its clock to its next timer.
    fn found_nothing(&self) {
        self.times.fetch_add(1, Ordering::Relaxed);
        if let Some(root) = &*lock(&self.root) {
            root.wake_by_ref();
        }
    }
}

/// The hosts of one system. What one does can wake tasks of another through a channel, of which tokio tells nobody.
struct World {
    system: System,
    hosts: Mutex<Vec<Weak<Host>>>,
}

impl World {
    /// The world of `system`.
    fn of(system: &System) -> Arc<World> {
        static WORLDS: Mutex<Vec<Weak<World>>> = Mutex::new(Vec::new());
        let mut worlds = lock(&WORLDS);
        worlds.retain(|world| world.strong_count() > 0);
        // With one of them a whole system may go: that is not for here.
        let there: Vec<_> = worlds.iter().filter_map(Weak::upgrade).collect();
        let known = there.iter().find(|world| world.system == *system);
        let world = known.map(Arc::clone).unwrap_or_else(|| {
            let world = Arc::new(World {
                system: system.clone(),
                hosts: Mutex::default(),
            });
            worlds.push(Arc::downgrade(&world));
            world
        });
        drop(worlds);
        world
    }

    /// Wakes the hosts other than `ran` that have something to run.
    fn wake_others(&self, ran: &Host) {
        let mut ready = Vec::new();
        lock(&self.hosts).retain(|host| match host.upgrade() {
            Some(host) => {
                if !std::ptr::eq(&*host, ran) && host.handle.metrics().global_queue_depth() > 0 {
                    ready.push(host);
                }
                true
            }
            None => false,
        });
        ready.iter().for_each(|host| host.wake());
    }
}

impl Host {
    /// A runtime for `vnet`, and the future that runs it.
    pub(crate) fn new(vnet: &Vnet) -> io::Result<(Arc<Host>, Driving)> {
        let system = vnet.system();
        let idle = Arc::new(Idle::default());
        let (parks, starts) = (Arc::clone(&idle), Arc::clone(&idle));
        let mut builder = Builder::new_current_thread();
        builder
            .enable_time()
            .start_paused(true)
            .on_thread_park(move || parks.found_nothing())
            .on_thread_start(move || {
                starts.blocking.store(true, Ordering::Relaxed);
                panic!("{BLOCKING}");
            });
        #[cfg(tokio_unstable)]
        builder.rng_seed(tokio::runtime::RngSeed::from_bytes(vnet.name().as_bytes()));
        let runtime = builder.build()?;
        let handle = runtime.handle().clone();
        let tokios_zero = {
            let _runtime = handle.enter();
            tokio::time::Instant::now()
        };
        let world = World::of(&system);
        let host = Arc::new(Host {
            vnet: vnet.clone(),
            zero: system.now(),
            world: Arc::clone(&world),
            runtime: Mutex::new(Some(runtime)),
            handle,
            idle,
            tokios_zero,
            driver: Mutex::new(None),
            woken: AtomicBool::new(true),
            blocked: AtomicUsize::new(0),
        });
        lock(&world.hosts).push(Arc::downgrade(&host));
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
        self.world.system.now().since(self.zero)
    }

    /// Polls `first` in the runtime, and runs what can run at this time.
    fn run<R>(
        self: &Arc<Self>,
        task: &mut Context<'_>,
        first: impl FnOnce(&mut Context<'_>) -> Poll<R>,
    ) -> io::Result<Poll<R>> {
        let runtime = match self.runtime.try_lock() {
            Ok(runtime) => runtime,
            Err(TryLockError::Poisoned(error)) => error.into_inner(),
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::new(
                    ErrorKind::WouldBlock,
                    "a task of a tokio runtime cannot wait for that runtime: await the future instead",
                ));
            }
        };
        let Some(runtime) = &*runtime else {
            return Err(io::Error::new(
                ErrorKind::ConnectionAborted,
                SocketError::Gone,
            ));
        };
        let now = self.tokios_zero + self.elapsed();
        self.idle.times.store(0, Ordering::Relaxed);
        let before = RUNNING.replace(Some(Arc::clone(self)));
        let running = Running(before);
        let mut first = Some(first);
        let mut result = Poll::Pending;
        runtime.block_on(poll_fn(|root| {
            if let Some(first) = first.take() {
                *lock(&self.idle.root) = Some(root.waker().clone());
                let behind = now.saturating_duration_since(tokio::time::Instant::now());
                if !behind.is_zero() {
                    // It moves the clock in its first poll; the second would only let others run.
                    let _ = pin!(tokio::time::advance(behind)).poll(root);
                }
                result = first(task);
            }
            // The first time, timers may go off while nothing is found; the second time, there are none.
            match self.idle.times.load(Ordering::Relaxed) {
                0 | 1 => Poll::Pending,
                _ => Poll::Ready(()),
            }
        }));
        drop(running);
        self.world.wake_others(self);
        if self.idle.blocking.load(Ordering::Relaxed) {
            return Err(blocking());
        }
        Ok(result)
    }

    /// Runs `future` to its end on this thread.
    #[track_caller]
    pub(crate) fn block_on<F: Future>(self: &Arc<Self>, future: F) -> io::Result<F::Output> {
        let _vnet = self.vnet.enter();
        self.blocked.fetch_add(1, Ordering::Relaxed);
        let _blocked = Blocked(self);
        let mut future = pin!(future);
        let ran = self.world.system.block_on(poll_fn(|task| {
            let ran = self.run(task, |task| future.as_mut().poll(task));
            // It may have set timers.
            self.run_again();
            match ran {
                Ok(polled) => polled.map(Ok),
                Err(error) => Poll::Ready(Err(error)),
            }
        }));
        match ran {
            // It was started by the operating system, and may have been seen too late.
            Err(_) if self.idle.blocking.load(Ordering::Relaxed) => Err(blocking()),
            ran => ran?,
        }
    }

    /// Drops every task.
    fn shut_down(&self) {
        let runtime = self
            .runtime
            .try_lock()
            .ok()
            .and_then(|mut runtime| runtime.take());
        if let Some(runtime) = runtime {
            runtime.shutdown_background();
        }
    }

    /// When to ask for timers next, at `now`, if nothing has happened since `heard`.
    fn next_tick(&self, now: Duration, heard: Duration) -> Option<Instant> {
        let may_have_timers =
            self.handle.metrics().num_alive_tasks() > 0 || self.blocked.load(Ordering::Relaxed) > 0;
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
        let woken = host.woken.swap(false, Ordering::AcqRel);
        let alive = host.handle.metrics().num_alive_tasks();
        if host.run(task, |_| Poll::<()>::Pending).is_err() {
            return Poll::Ready(());
        }
        let now = host.elapsed();
        if woken || alive != host.handle.metrics().num_alive_tasks() {
            this.heard = now;
        }
        this.sleep = host
            .next_tick(now, this.heard)
            .map(|at| host.world.system.sleep_until_async(at));
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

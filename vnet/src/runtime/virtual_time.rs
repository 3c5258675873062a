//! Virtual time: one world, one clock that jumps from event to event, one order of everything.
//!
//! There is no scheduler thread. A *blocking* call runs the world forward, event by event, until
//! it can return; between calls time stands still. Threads started through the system take turns:
//! the one that blocks hands its turn to the next one that can run, and only when none can does
//! the world move. So a test is straight-line blocking code in as many threads as it likes, and
//! gives the same bytes every run.
//!
//! When the world has nothing left to do and everybody waits, the one that has waited longest is
//! told so ([`Waited::Deadlock`]) instead of hanging.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Wake, Waker};

use super::clock::WallClock;
use super::event::{Agenda, Due, Event};
use crate::base::lock::{Condvar, Mutex, MutexGuard, Rank};
use crate::base::time::{Duration, Instant};
use crate::instance::driver::{Driver, Waited};
use crate::instance::system::System;
use crate::instance::vnet::VnetCore;

/// A wait without a time limit gives up after this much virtual time: a sender that probes a
/// closed window for ever keeps the world busy for ever.
const HORIZON: Duration = Duration::from_secs(24 * 3600);

impl System {
    /// A system under virtual time. All randomness comes from `seed`: the same program with the
    /// same seed gives the same packets at the same times.
    ///
    /// Use it from one thread, and from threads started by [`System::spawn`] and
    /// [`Vnet::spawn`](crate::Vnet::spawn).
    ///
    /// ```
    /// use std::io::{Read, Write};
    /// use vnet::net::{TcpListener, TcpStream};
    /// use vnet::System;
    ///
    /// let system = System::virtual_time(7);
    /// let (a, b) = (system.create("a")?, system.create("b")?);
    /// a.epair("eth0", &b, "eth0")?;
    /// a.add_address("eth0", "192.0.2.1/24".parse()?)?;
    /// b.add_address("eth0", "192.0.2.2/24".parse()?)?;
    ///
    /// let listener = TcpListener::bind_in(&b, "192.0.2.2:80")?;
    /// let mut client = TcpStream::connect_in(&a, "192.0.2.2:80")?;
    /// let (mut server, _) = listener.accept()?;
    /// client.write_all(b"hello")?;
    /// let mut five = [0; 5];
    /// server.read_exact(&mut five)?;
    /// assert_eq!(&five, b"hello");
    /// // Nothing will ever come: an error, not a hang.
    /// assert_eq!(server.read(&mut five).unwrap_err().kind(), std::io::ErrorKind::Deadlock);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn virtual_time(seed: u64) -> System {
        let driver = Arc::new_cyclic(|me| Virtual {
            me: Weak::clone(me),
            outside: WallClock::start(),
            now: AtomicU64::new(0),
            world: Mutex::new(
                Rank::Driver,
                World {
                    agenda: Agenda::new(),
                    runnable: VecDeque::new(),
                    waiting: VecDeque::new(),
                    turn: Turn::Free,
                },
            ),
        });
        System::with_driver(driver, seed)
    }
}

struct Virtual {
    me: Weak<Virtual>,
    outside: WallClock,
    now: AtomicU64,
    world: Mutex<World>,
}

struct World {
    agenda: Agenda<(Arc<Task>, u64)>,
    /// Tasks that can go on, in the order in which they became able to.
    runnable: VecDeque<Arc<Task>>,
    /// Tasks inside [`Driver::wait`], in the order in which they began to wait.
    waiting: VecDeque<Arc<Task>>,
    turn: Turn,
}

/// Who may act on the world.
enum Turn {
    /// Nobody: whoever waits may take it, or move the world.
    Free,
    /// One task runs, and the world stands still.
    Of(Arc<Task>),
    /// A waiting task moves the world.
    Moving,
}

/// A thread that uses the world.
struct Task {
    kind: Kind,
    /// Signalled when this task is given the turn.
    given: Condvar,
    state: Mutex<TaskState>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Started through the system: has the turn whenever it runs.
    Spawned,
    /// Any other thread: has the turn from its first wait on, and loses it to another such
    /// thread that waits while this one does not.
    Outside,
}

#[derive(Default)]
struct TaskState {
    /// The waker was called since the last wait ended.
    woken: bool,
    waiting: bool,
    /// How the current wait is to end, once it is known.
    outcome: Option<Waited>,
    /// Counts waits, so that a timeout of an earlier one is recognised.
    wait: u64,
}

struct TaskWaker {
    driver: Weak<Virtual>,
    task: Arc<Task>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        if let Some(driver) = self.driver.upgrade() {
            let mut world = driver.world.lock();
            let waits = {
                let mut state = self.task.state.lock();
                state.woken = true;
                state.waiting
            };
            if waits {
                world.resume(&self.task, Waited::Woken);
            }
        }
    }
}

thread_local! {
    /// The task of this thread in each world it uses.
    static TASKS: RefCell<Vec<(Weak<Virtual>, Arc<Task>)>> = const { RefCell::new(Vec::new()) };
}

impl Task {
    fn new(kind: Kind) -> Arc<Task> {
        Arc::new(Task {
            kind,
            given: Condvar::new(),
            state: Mutex::new(Rank::Waker, TaskState::default()),
        })
    }
}

impl World {
    /// Ends the wait of `task` with `outcome`, unless its end is decided already.
    fn resume(&mut self, task: &Arc<Task>, outcome: Waited) {
        let mut state = task.state.lock();
        if state.waiting && state.outcome.is_none() {
            state.outcome = Some(outcome);
            drop(state);
            self.runnable.push_back(Arc::clone(task));
        }
    }

    fn has_turn(&self, task: &Arc<Task>) -> bool {
        matches!(&self.turn, Turn::Of(t) if Arc::ptr_eq(t, task))
    }

    /// Frees a turn whose holder will not give it back by itself: an outside thread that is not
    /// in a call now, seen by another outside thread.
    fn steal_for(&mut self, task: &Task) {
        if let Turn::Of(holder) = &self.turn
            && holder.kind == Kind::Outside
            && task.kind == Kind::Outside
            && !holder.state.lock().waiting
        {
            self.turn = Turn::Free;
        }
    }
}

impl Virtual {
    fn task(&self) -> Arc<Task> {
        TASKS.with(|tasks| {
            let mut tasks = tasks.borrow_mut();
            tasks.retain(|(driver, _)| driver.strong_count() > 0);
            if let Some((_, task)) = tasks.iter().find(|(d, _)| d.ptr_eq(&self.me)) {
                return Arc::clone(task);
            }
            let task = Task::new(Kind::Outside);
            tasks.push((Weak::clone(&self.me), Arc::clone(&task)));
            task
        })
    }

    /// Moves the world by one event, or, when there is none, ends the longest wait.
    fn step<'a>(&'a self, mut world: MutexGuard<'a, World>) -> MutexGuard<'a, World> {
        match world.agenda.pop() {
            Some((at, Due::Service(vnet))) => {
                self.now.fetch_max(at.as_nanos(), Ordering::AcqRel);
                world.turn = Turn::Moving;
                drop(world);
                vnet.service();
                drop(vnet);
                world = self.world.lock();
                world.turn = Turn::Free;
            }
            Some((at, Due::Timeout((task, wait)))) => {
                let (current, limited) = {
                    let state = task.state.lock();
                    (state.waiting && state.wait == wait >> 1, wait & 1 == 1)
                };
                if current {
                    self.now.fetch_max(at.as_nanos(), Ordering::AcqRel);
                    let outcome = match limited {
                        true => Waited::TimedOut,
                        false => Waited::Deadlock,
                    };
                    world.resume(&task, outcome);
                }
            }
            None => {
                if let Some(task) = world.waiting.front().cloned() {
                    world.resume(&task, Waited::Deadlock);
                }
            }
        }
        world
    }

    /// Blocks until `me` has the turn, moving the world as long as nobody can run.
    fn take_turn<'a>(
        &'a self,
        me: &Arc<Task>,
        mut world: MutexGuard<'a, World>,
    ) -> MutexGuard<'a, World> {
        loop {
            world.steal_for(me);
            match &world.turn {
                Turn::Of(task) if Arc::ptr_eq(task, me) => return world,
                Turn::Of(_) | Turn::Moving => me.given.wait(&mut world),
                Turn::Free => match world.runnable.pop_front() {
                    Some(task) => {
                        world.turn = Turn::Of(Arc::clone(&task));
                        task.given.notify_one();
                    }
                    None => world = self.step(world),
                },
            }
        }
    }
}

impl Driver for Virtual {
    #[inline]
    fn now(&self) -> Instant {
        Instant::from_nanos(self.now.load(Ordering::Acquire))
    }

    fn wall(&self) -> Instant {
        self.outside.now()
    }

    fn ready(&self, vnet: &Arc<VnetCore>, at: Instant) {
        self.world
            .lock()
            .agenda
            .push_service(vnet, at.max(self.now()));
    }

    fn dispatch(&self) {}

    fn waker(&self) -> Waker {
        Waker::from(Arc::new(TaskWaker {
            driver: Weak::clone(&self.me),
            task: self.task(),
        }))
    }

    fn wait(&self, until: Option<Instant>) -> Waited {
        let me = self.task();
        let mut world = self.world.lock();
        let wait = {
            let mut state = me.state.lock();
            if std::mem::take(&mut state.woken) {
                return Waited::Woken;
            }
            state.wait += 1;
            state.waiting = true;
            state.outcome = None;
            state.wait
        };
        let (at, limited) = match until {
            Some(at) => (at, 1),
            None => (self.now() + HORIZON, 0),
        };
        world
            .agenda
            .push(at, Event::Timeout((Arc::clone(&me), wait << 1 | limited)));
        world.waiting.push_back(Arc::clone(&me));
        if world.has_turn(&me) {
            world.turn = Turn::Free;
        }
        let mut world = self.take_turn(&me, world);
        world.waiting.retain(|t| !Arc::ptr_eq(t, &me));
        let mut state = me.state.lock();
        state.woken = false;
        state.waiting = false;
        state.outcome.take().unwrap_or(Waited::Woken)
    }

    fn spawn(&self, name: String, f: Box<dyn FnOnce() + Send>) -> io::Result<()> {
        let task = Task::new(Kind::Spawned);
        let driver = self.me.upgrade().expect("a driver in use is alive");
        let theirs = Arc::clone(&task);
        // The turn is asked for here, not by the thread: threads start in any order.
        self.world.lock().runnable.push_back(Arc::clone(&task));
        let spawned = std::thread::Builder::new().name(name).spawn(move || {
            TASKS.with(|tasks| {
                tasks
                    .borrow_mut()
                    .push((Weak::clone(&driver.me), Arc::clone(&theirs)));
            });
            {
                let mut world = driver.world.lock();
                while !world.has_turn(&theirs) {
                    theirs.given.wait(&mut world);
                }
            }
            f();
            let mut world = driver.world.lock();
            world.turn = Turn::Free;
            // Whoever waits goes on with the world, or hands the turn to who can run.
            if let Some(next) = world.waiting.front() {
                next.given.notify_one();
            }
        });
        if spawned.is_err() {
            self.world
                .lock()
                .runnable
                .retain(|t| !Arc::ptr_eq(t, &task));
        }
        spawned.map(drop)
    }

    fn poll(&self, _now: Instant) -> Option<Instant> {
        None
    }

    fn shutdown(&self) {
        self.world.lock().agenda.clear();
    }
}

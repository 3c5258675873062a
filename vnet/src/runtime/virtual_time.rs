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
use super::event::{Agenda, Event, disarm};
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
                    unlimited: VecDeque::new(),
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
    agenda: Agenda<Arc<Task>>,
    /// Tasks that can go on, in the order in which they became able to.
    runnable: VecDeque<Arc<Task>>,
    /// Tasks inside [`Driver::wait`], in the order in which they began to wait.
    waiting: VecDeque<Arc<Task>>,
    /// Those of them that wait without a limit, and when they give up in a world that never rests.
    unlimited: VecDeque<(Instant, Arc<Task>)>,
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

struct TaskState {
    /// The waker was called since the last wait ended.
    woken: bool,
    waiting: bool,
    /// How the current wait is to end, once it is known.
    outcome: Option<Waited>,
    /// When the current wait ends at the latest.
    until: Instant,
    /// When the earliest entry of this task in the agenda comes up. An entry may be early, as it
    /// serves the waits to come as well: else each would leave one behind.
    armed: Instant,
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
    static TASKS: RefCell<Vec<Membership>> = const { RefCell::new(Vec::new()) };
}

/// A thread's part in one world.
struct Membership {
    world: Weak<Virtual>,
    task: Arc<Task>,
    /// One for all its waits, so that a socket that it waits for again and again knows it.
    waker: Waker,
}

impl Membership {
    fn new(world: &Weak<Virtual>, task: Arc<Task>) -> Membership {
        let waker = Waker::from(Arc::new(TaskWaker {
            driver: Weak::clone(world),
            task: Arc::clone(&task),
        }));
        Membership {
            world: Weak::clone(world),
            task,
            waker,
        }
    }
}

impl Task {
    fn new(kind: Kind) -> Arc<Task> {
        Arc::new(Task {
            kind,
            given: Condvar::new(),
            state: Mutex::new(
                Rank::Waker,
                TaskState {
                    woken: false,
                    waiting: false,
                    outcome: None,
                    until: Instant::MAX,
                    armed: Instant::MAX,
                },
            ),
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

    /// Notes that `task` begins to wait, until `until` at the latest.
    fn begin_wait(&mut self, task: &Arc<Task>, until: Option<Instant>, now: Instant) {
        let mut state = task.state.lock();
        state.waiting = true;
        state.outcome = None;
        state.until = until.unwrap_or(Instant::MAX);
        if state.until < state.armed {
            state.armed = state.until;
            let event = Event::Timeout(Arc::clone(task));
            self.agenda.push(state.until, event);
        }
        self.waiting.push_back(Arc::clone(task));
        if until.is_none() {
            let horizon = now + HORIZON;
            self.unlimited.push_back((horizon, Arc::clone(task)));
        }
    }

    /// Notes that `task` waits no more and says how its wait ended.
    fn end_wait(&mut self, task: &Arc<Task>) -> Waited {
        self.waiting.retain(|t| !Arc::ptr_eq(t, task));
        self.unlimited.retain(|(_, t)| !Arc::ptr_eq(t, task));
        let mut state = task.state.lock();
        state.woken = false;
        state.waiting = false;
        state.outcome.take().unwrap_or(Waited::Woken)
    }

    /// An entry of `task` comes up at `at`; true when its wait ends by that.
    fn is_timed_out(&mut self, task: &Arc<Task>, at: Instant) -> bool {
        let mut state = task.state.lock();
        if state.armed == at {
            state.armed = Instant::MAX;
        }
        if !state.waiting || state.until <= at {
            return state.waiting;
        }
        if state.until < state.armed {
            state.armed = state.until;
            let event = Event::Timeout(Arc::clone(task));
            self.agenda.push(state.until, event);
        }
        false
    }

    /// The task that has waited longest without a limit, if it is to be told that its wait is in
    /// vain before anything else happens; and when.
    fn in_vain(&self) -> Option<(Option<Instant>, Arc<Task>)> {
        let (horizon, task) = self.unlimited.front()?;
        let horizon = match self.agenda.next() {
            None => None,
            Some(at) if *horizon <= at => Some(*horizon),
            Some(_) => return None,
        };
        Some((horizon, Arc::clone(task)))
    }

    fn has_turn(&self, task: &Arc<Task>) -> bool {
        matches!(&self.turn, Turn::Of(t) if Arc::ptr_eq(t, task))
    }

    /// An outside thread that stops waiting may never come back: others of its kind look anew.
    fn notify_outside(&self, leaves: &Task) {
        if leaves.kind == Kind::Outside {
            let outside = self.waiting.iter().filter(|t| t.kind == Kind::Outside);
            outside.for_each(|task| task.given.notify_one());
        }
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
    /// The part of this thread in this world.
    fn member<R>(&self, f: impl FnOnce(&Membership) -> R) -> R {
        TASKS.with(|tasks| {
            let mut tasks = tasks.borrow_mut();
            tasks.retain(|m| m.world.strong_count() > 0);
            let at = tasks.iter().position(|m| m.world.ptr_eq(&self.me));
            let at = at.unwrap_or_else(|| {
                tasks.push(Membership::new(&self.me, Task::new(Kind::Outside)));
                tasks.len() - 1
            });
            f(&tasks[at])
        })
    }

    /// Moves the world by one event, or, when there is none, ends the longest wait. Called by
    /// `me`, which waits.
    fn step<'a>(
        &'a self,
        me: &Arc<Task>,
        mut world: MutexGuard<'a, World>,
    ) -> MutexGuard<'a, World> {
        if let Some((horizon, task)) = world.in_vain() {
            if let Some(at) = horizon {
                self.now.fetch_max(at.as_nanos(), Ordering::AcqRel);
            }
            world.resume(&task, Waited::Deadlock);
            return world;
        }
        match world.agenda.pop() {
            Some((at, Event::Service(vnet))) => {
                world.turn = Turn::Moving;
                drop(world);
                let moving = Moving { driver: self, me };
                if let Some(vnet) = disarm(&vnet, at) {
                    self.now.fetch_max(at.as_nanos(), Ordering::AcqRel);
                    vnet.service();
                }
                std::mem::forget(moving);
                world = self.world.lock();
                world.turn = Turn::Free;
            }
            Some((at, Event::Timeout(task))) => {
                if world.is_timed_out(&task, at) {
                    self.now.fetch_max(at.as_nanos(), Ordering::AcqRel);
                    world.resume(&task, Waited::TimedOut);
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
                    None => world = self.step(me, world),
                },
            }
        }
    }
}

/// Ends the wait of a task in which a callback of the program has panicked while it moved the
/// world, so that the world can go on.
struct Moving<'a> {
    driver: &'a Virtual,
    me: &'a Arc<Task>,
}

impl Drop for Moving<'_> {
    fn drop(&mut self) {
        let mut world = self.driver.world.lock();
        world.end_wait(self.me);
        world.turn = Turn::Of(Arc::clone(self.me));
        world.notify_outside(self.me);
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
        self.member(|m| m.waker.clone())
    }

    fn wait(&self, until: Option<Instant>) -> Waited {
        let me = self.member(|m| Arc::clone(&m.task));
        let mut world = self.world.lock();
        if std::mem::take(&mut me.state.lock().woken) {
            return Waited::Woken;
        }
        world.begin_wait(&me, until, self.now());
        if world.has_turn(&me) {
            world.turn = Turn::Free;
        }
        let mut world = self.take_turn(&me, world);
        let waited = world.end_wait(&me);
        world.notify_outside(&me);
        waited
    }

    fn spawn(&self, name: String, f: Box<dyn FnOnce() + Send>) -> io::Result<()> {
        let task = Task::new(Kind::Spawned);
        let driver = self.me.upgrade().expect("a driver in use is alive");
        let theirs = Arc::clone(&task);
        // The turn is asked for here, not by the thread: threads start in any order.
        self.world.lock().runnable.push_back(Arc::clone(&task));
        let spawned = std::thread::Builder::new().name(name).spawn(move || {
            let membership = Membership::new(&driver.me, Arc::clone(&theirs));
            TASKS.with(|tasks| tasks.borrow_mut().push(membership));
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

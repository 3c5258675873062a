//! Virtual time: one clock that jumps from event to event, and one order of all events.
//!
//! There is no scheduler thread. A *blocking* call runs the simulation forward, event by event,
//! until it can return; between calls time stands still. Threads started through the system take
//! turns: the one that blocks hands its turn to the next one that can run, and only when none can
//! does the simulation advance. So a test is straight-line blocking code in any number of threads,
//! and gives the same bytes on every run.
//!
//! When the simulation has nothing left to do and every thread waits, the wait that has lasted
//! longest fails ([`Waited::InVain`]) instead of hanging. A call that does not wait takes no time,
//! as long as there are not too many of them ([`cost`](super::cost)): no program can stop the
//! clock.
//!
//! | part | what it is |
//! |---|---|
//! | `ahead` | threads that each carry out a part of the world by themselves |
//! | `own` | what such a thread has |
//! | `meeting` | where such threads wait for each other |
//! | `plan` | which vnets are in which part |
//! | `world` | the agenda, the threads, whose turn it is, whose wait is in vain |

mod ahead;
mod meeting;
mod own;
mod plan;
mod world;

use std::cell::{Cell, RefCell};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::Waker;

use super::clock::WallClock;
use super::cost::{Costs, Meter, VirtualConfig};
use super::event::{Agenda, Event, disarm, timer_of};
use crate::base::callback;
use crate::base::lock::{Mutex, MutexGuard, Rank};
use crate::base::part;
use crate::base::time::{Instant, nanos};
use crate::instance::context;
use crate::instance::cores::VnetCore;
use crate::instance::driver::{
    Beside, Driver, Happened, Notes, Place, RunEnd, RunTo, StopReason, TimerKey, WaitNote, Waited,
};
use crate::instance::parallel::Parallel;
use crate::instance::site::Site;
use crate::instance::system::System;
use crate::instance::task::{self, Schedule, Task};
use world::{Kind, Member, MemberWaker, Run, Turn, Waits, World};

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
        System::virtual_time_with(seed, VirtualConfig::default())
    }

    /// A system under virtual time, with the cost of calls that do not wait set by `config`.
    ///
    /// ```
    /// use std::time::Duration;
    /// use vnet::time::Instant;
    /// use vnet::{System, VirtualConfig};
    ///
    /// let call_cost = Duration::from_micros(2);
    /// let config = VirtualConfig { call_cost, calls_free: 100, ..VirtualConfig::default() };
    /// let system = System::virtual_time_with(1, config);
    /// let mut calls = 0;
    /// while system.now() < Instant::ZERO + Duration::from_millis(1) {
    ///     calls += 1;
    /// }
    /// assert!((599..=601).contains(&calls), "{calls}");
    /// ```
    pub fn virtual_time_with(seed: u64, config: VirtualConfig) -> System {
        let costs = Arc::new(Costs::new(config));
        let driver = Arc::new_cyclic(|me| Virtual {
            me: Weak::clone(me),
            outside: WallClock::start(),
            now: AtomicU64::new(0),
            calls_inside: AtomicU64::new(0),
            owes: AtomicBool::new(false),
            world: Mutex::new(Rank::Driver, World::new(Arc::clone(&costs))),
            is_divided: AtomicBool::new(false),
            costs,
            beside: Place::new(),
        });
        System::with_driver(driver, seed, crate::admin::steps::rooms())
    }
}

struct Virtual {
    me: Weak<Virtual>,
    outside: WallClock,
    now: AtomicU64,
    /// Parts of the world are being carried out by several threads.
    is_divided: AtomicBool,
    costs: Arc<Costs>,
    /// The number of calls made during the current event.
    calls_inside: AtomicU64,
    /// A thread has taken time by its calls while it could not wait, and the world has not gone on since.
    owes: AtomicBool,
    world: Mutex<World>,
    beside: Place,
}

thread_local! {
    /// The member of this thread in each world it uses.
    static MEMBERSHIPS: RefCell<Vec<Membership>> = const { RefCell::new(Vec::new()) };
    /// This thread is carrying out an event.
    static MOVING: Cell<bool> = const { Cell::new(false) };
}

/// A thread's part in one world.
struct Membership {
    world: Weak<Virtual>,
    member: Arc<Member>,
    /// One for all its waits, so that a socket that it waits for again and again knows it.
    waker: Waker,
    calls: Meter,
}

impl Membership {
    fn new(world: &Weak<Virtual>, member: Arc<Member>) -> Membership {
        let waker = Waker::from(Arc::new(MemberWaker {
            driver: Weak::clone(world),
            member: Arc::clone(&member),
        }));
        Membership {
            world: Weak::clone(world),
            member,
            waker,
            calls: Meter::new(),
        }
    }
}

impl Virtual {
    /// True when this thread carries out a part of the world.
    #[inline(always)]
    fn is_in_part(&self) -> bool {
        self.is_divided.load(Ordering::Relaxed) && part::is_of(self)
    }

    /// The part of this thread in this world.
    fn member<R>(&self, f: impl FnOnce(&mut Membership) -> R) -> R {
        MEMBERSHIPS.with(|members| self.member_in(&mut members.borrow_mut(), f))
    }

    fn member_in<R>(
        &self,
        members: &mut Vec<Membership>,
        f: impl FnOnce(&mut Membership) -> R,
    ) -> R {
        if let Some(first) = members.first_mut().filter(|m| m.world.ptr_eq(&self.me)) {
            return f(first);
        }
        members.retain(|m| m.world.strong_count() > 0);
        let at = members.iter().position(|m| m.world.ptr_eq(&self.me));
        let at = at.unwrap_or_else(|| {
            let thread = std::thread::current();
            let name = thread.name().unwrap_or("without a name");
            let member = Member::new(Kind::Outside, name);
            members.push(Membership::new(&self.me, member));
            members.len() - 1
        });
        f(&mut members[at])
    }

    /// Counts a call of this thread; returns its member when the call is to be charged.
    fn count_call(&self) -> Option<Arc<Member>> {
        let now = self.now();
        let count = |m: &mut Membership| {
            let charged = self.costs.count(&mut m.calls, now);
            charged.then(|| Arc::clone(&m.member))
        };
        // A socket may be dropped by the destructor of a thread-local, after this one is gone.
        let counted = MEMBERSHIPS.try_with(|members| {
            let mut members = members.try_borrow_mut().ok()?;
            self.member_in(&mut members, count)
        });
        counted.ok().flatten()
    }

    /// Lets the time pass that a call of `me` costs: meanwhile the simulation continues, and others
    /// have their turn.
    fn pay(&self, me: &Arc<Member>) {
        let until = self.now() + self.costs.of_a_call();
        let mut world = self.world.lock();
        world.begin_wait(me, Waits::ForItsCalls, until, self.now(), None);
        if world.has_turn(me) {
            world.turn = Turn::Free;
        }
        let mut world = self.take_turn(me, world);
        world.end_wait(me);
        world.hear(self.now());
        world.notify_outside(me);
    }

    /// Moves the clock by what a call costs.
    fn take_time(&self) {
        let cost = nanos(self.costs.of_a_call());
        self.now.fetch_add(cost, Ordering::AcqRel);
    }

    /// Moves the clock to `at`, unless it is there already.
    fn advance(&self, world: &mut World, at: Instant) {
        if self.now.fetch_max(at.as_nanos(), Ordering::AcqRel) < at.as_nanos() {
            self.time_moves(world);
        }
    }

    fn time_moves(&self, world: &mut World) {
        if !self.costs.is_tight(self.now()) {
            world.time_moves();
        }
    }

    /// Advances the simulation by one event or, when there is none, ends the longest wait. Called
    /// by `me`, which waits.
    fn step<'a>(
        &'a self,
        me: &Arc<Member>,
        mut world: MutexGuard<'a, World>,
    ) -> MutexGuard<'a, World> {
        if let Some(beside) = self.beside.get() {
            world = self.ask(beside, me, world);
            if !world.runnable.is_empty() {
                return world;
            }
        }
        world.agenda.forget_dead();
        let first = world.agenda.first();
        let next = first.map(|(at, _)| at);
        if let Some(at) = world.end_run(next, &self.costs) {
            self.advance(&mut world, at);
            return world;
        }
        if world.wants_hope(next) {
            return self.look_far(me, world);
        }
        if let Some((member, why)) = world.in_vain(next, &self.costs) {
            world.resume(&member, Waited::InVain(why));
            return world;
        }
        if world.is_looked_at() && self.is_to_go_ahead(&mut world) {
            return self.go_ahead(me, world);
        }
        match first.and_then(|first| world.agenda.pop_first(first)) {
            Some((at, Event::Service(vnet))) => self.act(world, me, at, || {
                let vnet = disarm(vnet, at)?;
                self.now.fetch_max(at.as_nanos(), Ordering::AcqRel);
                vnet.service();
                Some(Happened::Serviced(vnet.number))
            }),
            Some((at, Event::Poll(task))) => {
                world.hear(at.max(self.now()));
                self.act(world, me, at, || {
                    self.now.fetch_max(at.as_nanos(), Ordering::AcqRel);
                    task.run();
                    Some(Happened::Polled(task.number()))
                })
            }
            Some((at, Event::Wake(waker))) => {
                world.hear(at.max(self.now()));
                self.act(world, me, at, || {
                    self.now.fetch_max(at.as_nanos(), Ordering::AcqRel);
                    callback::contained("a waker", || waker.wake());
                    Some(Happened::TimerFired)
                })
            }
            Some((at, Event::Timeout(member))) => {
                self.end_time(&mut world, at, &member, Happened::WaitEnded);
                world
            }
            Some((at, Event::Paid(member))) => {
                self.end_time(&mut world, at, &member, Happened::CallsPaid);
                world
            }
            None => world,
        }
    }

    /// Lets what is beside the system find what it was given to do.
    #[cold]
    fn ask<'a>(
        &'a self,
        beside: &Arc<dyn Beside>,
        me: &Arc<Member>,
        world: MutexGuard<'a, World>,
    ) -> MutexGuard<'a, World> {
        self.act(world, me, self.now(), || {
            callback::contained("what is beside the system", || beside.look());
            None
        })
    }

    /// The timeout of a wait of `member` has expired.
    fn end_time(&self, world: &mut World, at: Instant, member: &Arc<Member>, what: Happened) {
        self.advance(world, at);
        world.count();
        world.agenda.happened(at, what);
        world.resume(member, Waited::TimedOut);
    }

    /// Looks up when the last frame in transit arrives.
    fn look_far<'a>(
        &'a self,
        me: &Arc<Member>,
        world: MutexGuard<'a, World>,
    ) -> MutexGuard<'a, World> {
        let vnets = world.agenda.vnets();
        let mut last = self.now();
        let mut world = self.act(world, me, last, || {
            let arrivals = vnets.iter().filter_map(|vnet| vnet.inbox.last());
            last = arrivals.max().unwrap_or(last);
            // One of them may be the last reference, which is not dropped with the world's lock.
            drop(vnets);
            None
        });
        world.hope_until(last);
        world
    }

    /// Carries out an event, without the simulation's lock. Called by `me`, which waits.
    fn act<'a>(
        &'a self,
        mut world: MutexGuard<'a, World>,
        me: &Arc<Member>,
        at: Instant,
        act: impl FnOnce() -> Option<Happened>,
    ) -> MutexGuard<'a, World> {
        world.turn = Turn::Moving;
        drop(world);
        self.calls_inside.store(0, Ordering::Relaxed);
        let before = self.now();
        let moving = Moving {
            driver: self,
            me,
            was_moving: MOVING.replace(true),
        };
        let what = act();
        MOVING.set(moving.was_moving);
        std::mem::forget(moving);
        let mut world = self.world.lock();
        world.agenda.end_service();
        world.turn = Turn::Free;
        if self.now() > before {
            self.time_moves(&mut world);
        }
        if let Some(what) = what {
            world.count();
            world.agenda.happened(at, what);
        }
        world
    }

    /// Blocks until `me` has the turn, advancing the simulation as long as no thread can run.
    fn take_turn<'a>(
        &'a self,
        me: &Arc<Member>,
        mut world: MutexGuard<'a, World>,
    ) -> MutexGuard<'a, World> {
        loop {
            world.steal_for(me);
            match &world.turn {
                Turn::Of(member) if Arc::ptr_eq(member, me) => return world,
                Turn::Of(_) | Turn::Moving => me.given.wait(&mut world),
                Turn::Free => match world.runnable.pop_front() {
                    Some(member) => {
                        world.turn = Turn::Of(Arc::clone(&member));
                        member.given.notify_one();
                    }
                    None => world = self.step(me, world),
                },
            }
        }
    }
}

/// Ends the wait of a member in which a callback of the program has panicked while it advanced the
/// simulation, so that the simulation can continue.
struct Moving<'a> {
    driver: &'a Virtual,
    me: &'a Arc<Member>,
    was_moving: bool,
}

impl Drop for Moving<'_> {
    fn drop(&mut self) {
        MOVING.set(self.was_moving);
        let mut world = self.driver.world.lock();
        world.agenda.end_service();
        world.end_wait(self.me);
        world.runs.retain(|run| !Arc::ptr_eq(&run.member, self.me));
        world.turn = Turn::Of(Arc::clone(self.me));
        world.notify_outside(self.me);
    }
}

impl Schedule for Virtual {
    fn schedule(&self, task: Arc<Task>) {
        if self.is_in_part() {
            return own::schedule(task);
        }
        let now = self.now();
        let mut world = self.world.lock();
        let at = world.agenda.soon(now, now);
        world.agenda.push(at, Event::Poll(task));
    }
}

impl Driver for Virtual {
    #[inline]
    fn now(&self) -> Instant {
        if self.is_in_part() {
            return part::now();
        }
        Instant::from_nanos(self.now.load(Ordering::Acquire))
    }

    fn wall(&self) -> Instant {
        self.outside.now()
    }

    fn beside(&self) -> Option<&Place> {
        Some(&self.beside)
    }

    fn ready(&self, vnet: &Arc<VnetCore>, at: Instant) {
        // The usual case. The lock is for those that are to come up earlier.
        if vnet.inbox.armed.by(at) {
            return;
        }
        if self.is_in_part() {
            return own::ready(vnet, at);
        }
        let now = self.now();
        let mut world = self.world.lock();
        let at = world.agenda.soon(at.max(now), now);
        match &mut world.apart {
            None => world.agenda.push_service(vnet, at),
            // A thread of which the system does not know; the agendas of parts are not at hand.
            Some(asked) => asked.push((Arc::clone(vnet), at)),
        }
    }

    fn dispatch(&self) {
        self.called();
    }

    fn called(&self) {
        if self.is_in_part() {
            return own::called(&self.costs);
        }
        let inside = MOVING.try_with(Cell::get).unwrap_or(true)
            || context::is_locked()
            || context::is_in_effects()
            || std::thread::panicking();
        if !inside {
            if let Some(me) = self.count_call() {
                match task::is_polling() {
                    false => self.pay(&me),
                    // It runs a task, and waits when that is over.
                    true => {
                        self.owes.store(true, Ordering::Relaxed);
                        self.take_time();
                    }
                }
            }
            return;
        }
        // The world cannot go on in the middle of an event: what calls cost is what it takes.
        let calls = self.calls_inside.fetch_add(1, Ordering::Relaxed) + 1;
        if self.costs.is_beyond(calls, self.now()) {
            self.take_time();
        }
    }

    fn waker(&self) -> Waker {
        self.member(|m| m.waker.clone())
    }

    fn set_timer(&self, at: Instant, waker: Waker) -> TimerKey {
        if self.is_in_part() {
            return own::set_timer(at, timer_of(self), waker);
        }
        let now = self.now();
        let mut world = self.world.lock();
        let at = world.agenda.soon(at.max(now), now);
        world.agenda.set_timer(at, timer_of(self), waker)
    }

    fn cancel_timer(&self, key: TimerKey) {
        if self.is_in_part() {
            return own::cancel_timer(key);
        }
        let waker = self.world.lock().agenda.cancel_timer(key);
        drop(waker);
    }

    fn run(&self, to: RunTo, site: Site) -> Option<RunEnd> {
        let none = RunEnd {
            events: 0,
            why: StopReason::InTask,
        };
        if task::is_polling() {
            return Some(none);
        }
        let me = self.member(|m| Arc::clone(&m.member));
        let mut world = self.world.lock();
        world.runs.push(Run {
            member: Arc::clone(&me),
            to,
            events: 0,
            ended: None,
        });
        loop {
            world.begin_wait(&me, Waits::ForARun, Instant::MAX, self.now(), Some(site));
            if world.has_turn(&me) {
                world.turn = Turn::Free;
            }
            world = self.take_turn(&me, world);
            world.end_wait(&me);
            world.notify_outside(&me);
            // It may have been woken on behalf of something else.
            let is_mine = |run: &Run| Arc::ptr_eq(&run.member, &me) && run.ended.is_some();
            if let Some(at) = world.runs.iter().position(is_mine) {
                let Run { events, ended, .. } = world.runs.remove(at);
                world.hear(self.now());
                let why = ended.unwrap_or(StopReason::Done);
                return Some(RunEnd { events, why });
            }
        }
    }

    fn parallel(&self) -> Parallel {
        self.world.lock().parallel.clone()
    }

    fn notes(&self) -> Notes {
        let world = self.world.lock();
        let mut notes = world.agenda.notes();
        let waits = world.waiting.iter().map(|member| {
            let state = member.state.lock();
            WaitNote {
                thread: member.name.clone(),
                site: state.site,
                vnet: state.vnet,
                since: state.since,
                until: Some(state.until).filter(|at| *at < Instant::MAX),
            }
        });
        notes.waits = waits.collect();
        notes
    }

    fn wait(&self, until: Option<Instant>, site: Site) -> Waited {
        if task::is_polling() {
            return Waited::InTask;
        }
        let me = self.member(|m| Arc::clone(&m.member));
        let mut world = self.world.lock();
        if std::mem::take(&mut me.state.lock().woken) {
            drop(world);
            // A future that wakes itself on this thread must not keep others from their turn.
            match self.owes.swap(false, Ordering::Relaxed) {
                true => self.pay(&me),
                false => self.called(),
            }
            return Waited::Woken;
        }
        let until = until.unwrap_or(Instant::MAX);
        world.begin_wait(&me, Waits::ToBeWoken, until, self.now(), Some(site));
        if world.has_turn(&me) {
            world.turn = Turn::Free;
        }
        let mut world = self.take_turn(&me, world);
        let waited = world.end_wait(&me);
        world.hear(self.now());
        world.notify_outside(&me);
        waited
    }

    fn spawn(&self, name: String, f: Box<dyn FnOnce() + Send>) -> io::Result<()> {
        let member = Member::new(Kind::Spawned, &name);
        let driver = self.me.upgrade().expect("a driver in use is alive");
        let theirs = Arc::clone(&member);
        // The turn is asked for here, not by the thread: threads start in any order.
        self.world.lock().runnable.push_back(Arc::clone(&member));
        let spawned = std::thread::Builder::new().name(name).spawn(move || {
            let membership = Membership::new(&driver.me, Arc::clone(&theirs));
            MEMBERSHIPS.with(|members| members.borrow_mut().push(membership));
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
                .retain(|t| !Arc::ptr_eq(t, &member));
        }
        spawned.map(drop)
    }

    fn poll(&self, _now: Instant) -> Option<Instant> {
        None
    }

    fn shutdown(&self) {
        // Dropped after the lock is released: a waker may be the last reference to a task.
        let new = Agenda::new(Arc::clone(&self.costs));
        let agenda = std::mem::replace(&mut self.world.lock().agenda, new);
        drop(agenda);
    }
}

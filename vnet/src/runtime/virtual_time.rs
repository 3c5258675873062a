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
use crate::base::callback;
use crate::base::lock::{Condvar, Mutex, MutexGuard, Rank};
use crate::base::time::{Duration, Instant};
use crate::instance::context::peek_current;
use crate::instance::driver::{
    AtEnd, Driver, Happened, Notes, RunEnd, RunEnded, RunTo, Site, TimerKey, WaitNote, Waited,
};
use crate::instance::system::System;
use crate::instance::task::{self, Task};
use crate::instance::vnet::VnetCore;

/// A wait without a time limit gives up after this much virtual time: a sender that probes a
/// closed window for ever keeps the world busy for ever.
const HORIZON: Duration = Duration::from_secs(24 * 3600);
/// So many events at one instant are no network any more, but something that goes round for ever.
const STALL: u64 = 10_000_000;

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
                    runs: Vec::new(),
                    at_once: 0,
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
    agenda: Agenda<Arc<Member>>,
    /// Members that can go on, in the order in which they became able to.
    runnable: VecDeque<Arc<Member>>,
    /// Members inside [`Driver::wait`], in the order in which they began to wait.
    waiting: VecDeque<Arc<Member>>,
    /// Those of them that wait without a limit, and when they give up in a world that never rests.
    unlimited: VecDeque<(Instant, Arc<Member>)>,
    /// Those of them that run the world for its own sake, in [`Driver::run`].
    runs: Vec<Run>,
    /// Events since the time moved last.
    at_once: u64,
    turn: Turn,
}

/// A thread that runs the world up to a limit. Whoever moves the world looks at it.
struct Run {
    member: Arc<Member>,
    to: RunTo,
    events: u64,
    ended: Option<RunEnded>,
}

impl Run {
    /// Whether, and why, it is over before the next event, which comes at `next`.
    fn is_over(&self, next: Option<Instant>) -> Option<RunEnded> {
        let is_past = next.is_none_or(|at| at > self.to.until);
        match (is_past, self.to.at_end) {
            (true, AtEnd::Arrived) => Some(RunEnded::Done),
            (true, AtEnd::Limit) if next.is_none() => Some(RunEnded::Done),
            (true, AtEnd::Limit) => Some(RunEnded::Time),
            (false, _) if self.events >= self.to.events => Some(RunEnded::Events),
            (false, _) => None,
        }
    }
}

/// Who may act on the world.
enum Turn {
    /// Nobody: whoever waits may take it, or move the world.
    Free,
    /// One member runs, and the world stands still.
    Of(Arc<Member>),
    /// A waiting member moves the world.
    Moving,
}

/// A thread that uses the world.
struct Member {
    /// The thread's name, for reports.
    name: String,
    kind: Kind,
    /// Signalled when this member is given the turn.
    given: Condvar,
    state: Mutex<MemberState>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Started through the system: has the turn whenever it runs.
    Spawned,
    /// Any other thread: has the turn from its first wait on, and loses it to another such
    /// thread that waits while this one does not.
    Outside,
}

struct MemberState {
    /// The waker was called since the last wait ended.
    woken: bool,
    waiting: bool,
    /// How the current wait is to end, once it is known.
    outcome: Option<Waited>,
    /// When the current wait ends at the latest.
    until: Instant,
    /// When it began, and in which call.
    since: Instant,
    site: Option<Site>,
    /// The number of the vnet that is current in it.
    vnet: Option<u64>,
    /// When the earliest entry of this member in the agenda comes up. An entry may be early, as it
    /// serves the waits to come as well: else each would leave one behind.
    armed: Instant,
}

struct MemberWaker {
    driver: Weak<Virtual>,
    member: Arc<Member>,
}

impl Wake for MemberWaker {
    fn wake(self: Arc<Self>) {
        if let Some(driver) = self.driver.upgrade() {
            let mut world = driver.world.lock();
            let waits = {
                let mut state = self.member.state.lock();
                state.woken = true;
                state.waiting
            };
            if waits {
                world.resume(&self.member, Waited::Woken);
            }
        }
    }
}

thread_local! {
    /// The member of this thread in each world it uses.
    static MEMBERSHIPS: RefCell<Vec<Membership>> = const { RefCell::new(Vec::new()) };
}

/// A thread's part in one world.
struct Membership {
    world: Weak<Virtual>,
    member: Arc<Member>,
    /// One for all its waits, so that a socket that it waits for again and again knows it.
    waker: Waker,
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
        }
    }
}

impl Member {
    fn new(kind: Kind, name: &str) -> Arc<Member> {
        Arc::new(Member {
            name: name.to_owned(),
            kind,
            given: Condvar::new(),
            state: Mutex::new(
                Rank::Waker,
                MemberState {
                    woken: false,
                    waiting: false,
                    outcome: None,
                    until: Instant::MAX,
                    since: Instant::ZERO,
                    site: None,
                    vnet: None,
                    armed: Instant::MAX,
                },
            ),
        })
    }
}

impl World {
    /// Ends the wait of `member` with `outcome`, unless its end is decided already.
    fn resume(&mut self, member: &Arc<Member>, outcome: Waited) {
        let mut state = member.state.lock();
        if state.waiting && state.outcome.is_none() {
            state.outcome = Some(outcome);
            drop(state);
            self.runnable.push_back(Arc::clone(member));
        }
    }

    /// Notes that `member` begins to wait, until `until` at the latest.
    fn begin_wait(
        &mut self,
        member: &Arc<Member>,
        until: Option<Instant>,
        now: Instant,
        site: Site,
    ) {
        self.begin(member, until.unwrap_or(Instant::MAX), now, site);
        if until.is_none() {
            let from = self.agenda.last_timer().unwrap_or(now).max(now);
            // Never before the one in front of it: they give up in the order of their waits.
            let last = self.unlimited.back().map_or(Instant::ZERO, |(at, _)| *at);
            let horizon = last.max(from + HORIZON);
            self.unlimited.push_back((horizon, Arc::clone(member)));
        }
    }

    fn begin(&mut self, member: &Arc<Member>, until: Instant, now: Instant, site: Site) {
        let mut state = member.state.lock();
        state.waiting = true;
        state.outcome = None;
        state.until = until;
        state.since = now;
        state.site = Some(site);
        state.vnet = peek_current(|vnet| vnet.number);
        if state.until < state.armed {
            state.armed = state.until;
            let event = Event::Timeout(Arc::clone(member));
            self.agenda.push(state.until, event);
        }
        self.waiting.push_back(Arc::clone(member));
    }

    /// Notes that a timer was set for `at`. A sleep of days is no reason to give up before its end.
    fn timer_set(&mut self, at: Instant, now: Instant) {
        if at - now >= HORIZON {
            for (horizon, _) in &mut self.unlimited {
                *horizon = (*horizon).max(at + HORIZON);
            }
        }
    }

    /// Notes that `member` waits no more and says how its wait ended.
    fn end_wait(&mut self, member: &Arc<Member>) -> Waited {
        self.waiting.retain(|t| !Arc::ptr_eq(t, member));
        self.unlimited.retain(|(_, t)| !Arc::ptr_eq(t, member));
        let mut state = member.state.lock();
        state.woken = false;
        state.waiting = false;
        state.outcome.take().unwrap_or(Waited::Woken)
    }

    /// An entry of `member` comes up at `at`; true when its wait ends by that.
    fn is_timed_out(&mut self, member: &Arc<Member>, at: Instant) -> bool {
        let mut state = member.state.lock();
        if state.armed == at {
            state.armed = Instant::MAX;
        }
        if !state.waiting || state.until <= at {
            return state.waiting;
        }
        if state.until < state.armed {
            state.armed = state.until;
            let event = Event::Timeout(Arc::clone(member));
            self.agenda.push(state.until, event);
        }
        false
    }

    /// The member that has waited longest without a limit, if it is to be told that its wait is in
    /// vain before anything else happens; and when.
    fn in_vain(&self, next: Option<Instant>) -> Option<(Option<Instant>, Arc<Member>)> {
        let (horizon, member) = self.unlimited.front()?;
        let horizon = match next {
            None => None,
            Some(_) if self.at_once >= STALL => None,
            Some(at) if *horizon <= at => Some(*horizon),
            Some(_) => return None,
        };
        Some((horizon, Arc::clone(member)))
    }

    /// Ends a run that is over before the next event; says where the clock is to be by then.
    fn end_run(&mut self, next: Option<Instant>) -> Option<Instant> {
        let stalled = (self.at_once >= STALL).then_some(RunEnded::Stalled);
        let over = |run: &mut Run| {
            let why = run.is_over(next).or(stalled)?;
            if run.ended.is_some() {
                return None;
            }
            run.ended = Some(why);
            Some((run.to, why, Arc::clone(&run.member)))
        };
        let (to, why, member) = self.runs.iter_mut().find_map(over)?;
        if why == RunEnded::Stalled {
            self.at_once = 0;
        }
        self.resume(&member, Waited::TimedOut);
        match (why, to.at_end) {
            (RunEnded::Done, AtEnd::Arrived) | (RunEnded::Time, _) => Some(to.until),
            _ => Some(Instant::ZERO),
        }
    }

    /// Counts an event.
    fn count(&mut self) {
        self.at_once += 1;
        for run in &mut self.runs {
            run.events += 1;
        }
    }

    fn has_turn(&self, member: &Arc<Member>) -> bool {
        matches!(&self.turn, Turn::Of(t) if Arc::ptr_eq(t, member))
    }

    /// An outside thread that stops waiting may never come back: others of its kind look anew.
    fn notify_outside(&self, leaves: &Member) {
        if leaves.kind == Kind::Outside {
            let outside = self.waiting.iter().filter(|t| t.kind == Kind::Outside);
            outside.for_each(|member| member.given.notify_one());
        }
    }

    /// Frees a turn whose holder will not give it back by itself: an outside thread that is not
    /// in a call now, seen by another outside thread.
    fn steal_for(&mut self, member: &Member) {
        if let Turn::Of(holder) = &self.turn
            && holder.kind == Kind::Outside
            && member.kind == Kind::Outside
            && !holder.state.lock().waiting
        {
            self.turn = Turn::Free;
        }
    }
}

impl Virtual {
    /// The part of this thread in this world.
    fn member<R>(&self, f: impl FnOnce(&Membership) -> R) -> R {
        MEMBERSHIPS.with(|members| {
            let mut members = members.borrow_mut();
            members.retain(|m| m.world.strong_count() > 0);
            let at = members.iter().position(|m| m.world.ptr_eq(&self.me));
            let at = at.unwrap_or_else(|| {
                let thread = std::thread::current();
                let name = thread.name().unwrap_or("without a name");
                let member = Member::new(Kind::Outside, name);
                members.push(Membership::new(&self.me, member));
                members.len() - 1
            });
            f(&members[at])
        })
    }

    /// Moves the clock to `at`, unless it is there.
    fn advance(&self, world: &mut World, at: Instant) {
        if self.now.fetch_max(at.as_nanos(), Ordering::AcqRel) < at.as_nanos() {
            world.at_once = 0;
        }
    }

    /// Moves the world by one event, or, when there is none, ends the longest wait. Called by
    /// `me`, which waits.
    fn step<'a>(
        &'a self,
        me: &Arc<Member>,
        mut world: MutexGuard<'a, World>,
    ) -> MutexGuard<'a, World> {
        let next = world.agenda.next();
        if let Some(at) = world.end_run(next) {
            self.advance(&mut world, at);
            return world;
        }
        if let Some((horizon, member)) = world.in_vain(next) {
            match horizon {
                Some(at) => self.advance(&mut world, at),
                None => world.at_once = 0,
            }
            world.resume(&member, Waited::Deadlock);
            return world;
        }
        match world.agenda.pop() {
            Some((at, Event::Service(vnet))) => self.act(world, me, at, || {
                let vnet = disarm(&vnet, at)?;
                self.now.fetch_max(at.as_nanos(), Ordering::AcqRel);
                vnet.service();
                Some(Happened::Serviced(vnet.number))
            }),
            Some((at, Event::Poll(task))) => self.act(world, me, at, || {
                self.now.fetch_max(at.as_nanos(), Ordering::AcqRel);
                task.run();
                Some(Happened::Polled(task.number()))
            }),
            Some((at, Event::Wake(waker))) => self.act(world, me, at, || {
                self.now.fetch_max(at.as_nanos(), Ordering::AcqRel);
                callback::contained("a waker", || waker.wake());
                Some(Happened::TimerFired)
            }),
            Some((at, Event::Timeout(member))) => {
                if world.is_timed_out(&member, at) {
                    self.advance(&mut world, at);
                    world.count();
                    world.agenda.happened(at, Happened::WaitEnded);
                    world.resume(&member, Waited::TimedOut);
                }
                world
            }
            None => {
                if let Some(member) = world.waiting.front().cloned() {
                    world.resume(&member, Waited::Deadlock);
                }
                world
            }
        }
    }

    /// Does what an event is, without the world's lock. Called by `me`, which waits.
    fn act<'a>(
        &'a self,
        mut world: MutexGuard<'a, World>,
        me: &Arc<Member>,
        at: Instant,
        act: impl FnOnce() -> Option<Happened>,
    ) -> MutexGuard<'a, World> {
        world.turn = Turn::Moving;
        drop(world);
        let before = self.now();
        let moving = Moving { driver: self, me };
        let what = act();
        std::mem::forget(moving);
        let mut world = self.world.lock();
        world.turn = Turn::Free;
        if self.now() > before {
            world.at_once = 0;
        }
        if let Some(what) = what {
            world.count();
            world.agenda.happened(at, what);
        }
        world
    }

    /// Blocks until `me` has the turn, moving the world as long as nobody can run.
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

/// Ends the wait of a member in which a callback of the program has panicked while it moved the
/// world, so that the world can go on.
struct Moving<'a> {
    driver: &'a Virtual,
    me: &'a Arc<Member>,
}

impl Drop for Moving<'_> {
    fn drop(&mut self) {
        let mut world = self.driver.world.lock();
        world.end_wait(self.me);
        world.runs.retain(|run| !Arc::ptr_eq(&run.member, self.me));
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

    fn schedule(&self, task: Arc<Task>) {
        let at = self.now();
        self.world.lock().agenda.push(at, Event::Poll(task));
    }

    fn set_timer(&self, at: Instant, waker: Waker) -> TimerKey {
        let now = self.now();
        let mut world = self.world.lock();
        world.timer_set(at, now);
        world.agenda.set_timer(at.max(now), waker)
    }

    fn cancel_timer(&self, key: TimerKey) {
        let waker = self.world.lock().agenda.cancel_timer(key);
        drop(waker);
    }

    fn run(&self, to: RunTo, site: Site) -> Option<RunEnd> {
        let none = RunEnd {
            events: 0,
            why: RunEnded::InTask,
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
            world.begin(&me, Instant::MAX, self.now(), site);
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
                let why = ended.unwrap_or(RunEnded::Done);
                return Some(RunEnd { events, why });
            }
        }
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
            return Waited::Woken;
        }
        world.begin_wait(&me, until, self.now(), site);
        if world.has_turn(&me) {
            world.turn = Turn::Free;
        }
        let mut world = self.take_turn(&me, world);
        let waited = world.end_wait(&me);
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
        let agenda = std::mem::replace(&mut self.world.lock().agenda, Agenda::new());
        drop(agenda);
    }
}

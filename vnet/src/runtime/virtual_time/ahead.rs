//! Parts of a simulation that are each carried out by a thread of their own.
//!
//! What one part sends to another takes some time at least, the *least delay* between parts. So from the time of the
//! first event of all on, each part can be carried out for as long by itself; such a stretch is a *window*. What is
//! sent to other parts meanwhile is kept by the thread that sends it (`netif/inbox/crossing.rs`) until the threads meet at
//! the end of the window. Nothing comes up twice, and in a window threads share nothing: each has an agenda, a clock, and
//! what is under way from it.
//!
//! What a vnet sees is the same as on one thread, because its place in the order of events, and that of frames in
//! its inbox, do not depend on when parts do what (`runtime/event.rs`, `netif/inbox.rs`). What could tell the difference keeps the
//! simulation on one thread: see [`VirtualConfig::threads`](crate::VirtualConfig::threads), [`look_at`], and
//! [`Virtual::is_to_go_ahead`].
//!
//! Whether it pays is decided by the numbers of events, which are the same in every run, and not by the time that it
//! takes: after windows with few events, one thread goes on for a while.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::Waker;

use super::plan::{Graph, Plan};
use super::world::{Member, Turn, World};
use super::{MOVING, Moving, Virtual};
use crate::base::callback::{self, Payload};
use crate::base::heap::Ticket;
use crate::base::lock::{Condvar, Mutex, MutexGuard, Rank};
use crate::base::part;
use crate::base::time::{Duration, Instant, nanos};
use crate::instance::apart::{crossing, crossing::Crossing, look_at};
use crate::instance::cores::VnetCore;
use crate::instance::driver::{Driver, Happened, TimerKey};
use crate::instance::task::Task;
use crate::runtime::cost::Costs;
use crate::runtime::event::{Agenda, Event, disarm};

/// When it is tried, and given up.
struct Pays {
    /// Entries of an agenda below which nobody looks whether it can be divided.
    entries: usize,
    /// Events of the first thread in so many [`WINDOWS`] for which they are worth it.
    worth: u64,
    /// Events of the first thread after which the parts are made anew, the first time and at most. At first it is not
    /// known where much happens.
    stretch: u64,
    long_stretch: u64,
    /// By how many hundredths what cannot be divided may be more than the share of a part.
    uneven: u64,
    /// Events after which it is looked again where it was not worth it, or could not be done.
    pause: u64,
}

/// Windows after which it is seen whether they are worth it.
const WINDOWS: u64 = 32;

/// It takes about a microsecond for threads to meet, and as long to carry out an event. Builds with assertions, such as tests,
/// divide whatever can be divided, and often.
const PAYS: Pays = match cfg!(debug_assertions) {
    false => Pays {
        entries: 16,
        worth: 8 * WINDOWS,
        stretch: 10_000,
        long_stretch: 200_000,
        uneven: 25,
        pause: 100_000,
    },
    true => Pays {
        entries: 1,
        worth: 0,
        stretch: 200,
        long_stretch: 1000,
        uneven: 1000,
        pause: 20,
    },
};

/// How often a thread looks whether the others are there, before it sleeps.
const SPINS: u32 = 20_000;

type Own = Agenda<Arc<Member>>;

/// What a thread has of the part that it carries out.
struct Ahead {
    agenda: Own,
    events: u64,
    /// When a task or a timer of the program went on last.
    heard: Instant,
    /// The time of the last event.
    last: Instant,
    /// The part that each vnet is in, by number.
    parts: Arc<BTreeMap<u64, usize>>,
    me: usize,
}

thread_local! {
    static AHEAD: RefCell<Option<Ahead>> = const { RefCell::new(None) };
    /// Calls that were made during the current event.
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

fn with<R>(f: impl FnOnce(&mut Ahead) -> R) -> R {
    AHEAD.with_borrow_mut(|ahead| f(ahead.as_mut().expect("a thread with a part has it here")))
}

/// [`Schedule::schedule`](crate::instance::task::Schedule::schedule), in a part.
///
/// # Panics
/// When the task is of another part.
#[cold]
#[inline(never)]
pub(super) fn schedule(task: Arc<Task>) {
    let is_ours = with(|ahead| {
        let is_ours = ahead.parts.get(&task.owner()) == Some(&ahead.me);
        if is_ours {
            let at = ahead.agenda.soon(part::now(), part::now());
            ahead.agenda.push(at, Event::Poll(Arc::clone(&task)));
        }
        is_ours
    });
    assert!(
        is_ours || std::thread::panicking(),
        "a task wakes one of another vnet: `VirtualConfig::threads` promises that there is none"
    );
}

/// [`Driver::ready`](crate::instance::driver::Driver::ready), in a part.
#[cold]
#[inline(never)]
pub(super) fn ready(vnet: &Arc<VnetCore>, at: Instant) {
    let now = part::now();
    with(|ahead| {
        let at = ahead.agenda.soon(at.max(now), now);
        ahead.agenda.push_service(vnet, at);
    });
}

/// [`Driver::set_timer`](crate::instance::driver::Driver::set_timer), in a part.
#[cold]
#[inline(never)]
pub(super) fn set_timer(at: Instant, of: Option<(u64, u64)>, waker: Waker) -> TimerKey {
    let now = part::now();
    with(|ahead| {
        let at = ahead.agenda.soon(at.max(now), now);
        ahead.agenda.set_timer(at, of, waker)
    })
}

/// [`Driver::cancel_timer`](crate::instance::driver::Driver::cancel_timer), in a part.
#[cold]
#[inline(never)]
pub(super) fn cancel_timer(key: TimerKey) {
    let waker = with(|ahead| ahead.agenda.cancel_timer(key));
    drop(waker);
}

/// [`Driver::called`](crate::instance::driver::Driver::called), in a part.
#[cold]
#[inline(never)]
pub(super) fn called(costs: &Costs) {
    let calls = CALLS.get() + 1;
    CALLS.set(calls);
    if costs.is_beyond(calls, part::now()) {
        part::reach(part::now() + costs.of_a_call());
    }
}

/// Where threads wait for each other.
struct Meeting {
    threads: usize,
    there: AtomicUsize,
    meetings: AtomicU64,
    /// For those that have looked often enough.
    sleep: Mutex<()>,
    over: Condvar,
}

impl Meeting {
    fn new(threads: usize) -> Meeting {
        Meeting {
            threads,
            there: AtomicUsize::new(0),
            meetings: AtomicU64::new(0),
            sleep: Mutex::new(Rank::Driver, ()),
            over: Condvar::new(),
        }
    }

    /// Returns when all threads have called it.
    fn wait(&self) {
        let meeting = self.meetings.load(Ordering::Acquire);
        let is_over = || self.meetings.load(Ordering::Acquire) != meeting;
        if self.there.fetch_add(1, Ordering::AcqRel) + 1 == self.threads {
            self.there.store(0, Ordering::Relaxed);
            let sleep = self.sleep.lock();
            self.meetings.store(meeting + 1, Ordering::Release);
            drop(sleep);
            self.over.notify_all();
            return;
        }
        for _ in 0..SPINS {
            if is_over() {
                return;
            }
            std::hint::spin_loop();
        }
        let mut sleep = self.sleep.lock();
        while !is_over() {
            self.over.wait(&mut sleep);
        }
    }
}

/// Whether all threads could be started, which each of them waits for.
struct Start {
    could: Mutex<Option<bool>>,
    told: Condvar,
}

impl Start {
    fn tell(&self, could: bool) {
        *self.could.lock() = Some(could);
        self.told.notify_all();
    }

    fn wait(&self) -> bool {
        let mut could = self.could.lock();
        loop {
            match *could {
                Some(could) => return could,
                None => self.told.wait(&mut could),
            }
        }
    }
}

/// What the threads tell each other at a meeting. There are two, used in turn: what is told at one meeting has been read by
/// all before the next but one.
struct Table {
    /// The time of the first event of each part, and of what it sends to others.
    first: Vec<AtomicU64>,
    /// Which of them have seen a reason to stop.
    stop: Vec<AtomicBool>,
    /// Which have not carried out all of their window: then it is not the time to stop.
    behind: Vec<AtomicBool>,
    /// What is on its way, by the part that it comes from and the part that it goes to.
    ways: Vec<Vec<Mutex<Vec<Crossing>>>>,
}

impl Table {
    fn new(parts: usize) -> Table {
        let way = |_| Mutex::new(Rank::Driver, Vec::new());
        Table {
            first: (0..parts).map(|_| AtomicU64::new(0)).collect(),
            stop: (0..parts).map(|_| AtomicBool::new(false)).collect(),
            behind: (0..parts).map(|_| AtomicBool::new(false)).collect(),
            ways: (0..parts).map(|_| (0..parts).map(way).collect()).collect(),
        }
    }
}

/// What all threads know.
struct Shared {
    start: Start,
    meeting: Meeting,
    agendas: Vec<Mutex<Option<Own>>>,
    tables: [Table; 2],
    /// Up to when the simulation is to go.
    until: u64,
    /// The least delay between parts.
    least: u64,
    /// Events of the first thread after which it is over.
    stretch: u64,
    began: Instant,
    parts: Arc<BTreeMap<u64, usize>>,
}

/// How a thread has ended.
struct Done {
    agenda: Own,
    events: u64,
    heard: Instant,
    last: Instant,
    panic: Option<Payload>,
    /// Whether the windows had many events.
    was_worth_it: bool,
}

impl Done {
    /// Nothing has been done of this.
    fn nothing(agenda: Own) -> Done {
        Done {
            agenda,
            events: 0,
            heard: Instant::ZERO,
            last: Instant::ZERO,
            panic: None,
            was_worth_it: false,
        }
    }
}

impl Virtual {
    /// Whether it is to be tried to divide the simulation. Those who wait for anything but the end of a run would have to go on
    /// at once when they are woken, wherever other parts are by then.
    #[cold]
    pub(super) fn is_to_go_ahead(&self, world: &mut World) -> bool {
        let is_possible = self.costs.threads() > 1
            && !self.costs.are_none()
            && !self.costs.is_tight(self.now())
            && self.beside.get().is_none()
            && world.runs.len() == 1
            && world.waiting.len() == 1
            && world.runnable.is_empty()
            && world.runs[0].to.events == u64::MAX
            && world.agenda.len() >= PAYS.entries
            && world.agenda.is_of_vnets();
        if !is_possible {
            world.look_after(match self.costs.threads() > 1 {
                true => PAYS.pause / 10,
                false => u64::MAX / 2,
            });
        }
        is_possible
    }

    /// Carries out a stretch of the simulation on several threads, if it can be divided. Called by `me`, which waits for a run to
    /// end.
    #[cold]
    pub(super) fn go_ahead<'a>(
        &'a self,
        me: &Arc<Member>,
        mut world: MutexGuard<'a, World>,
    ) -> MutexGuard<'a, World> {
        world.turn = Turn::Moving;
        let known = world.agenda.vnets();
        let before = std::mem::take(&mut world.services);
        let until = world.runs[0].to.until;
        drop(world);
        let moving = Moving {
            driver: self,
            me,
            was_moving: MOVING.replace(true),
        };
        let system = known.first().map(|vnet| Arc::clone(&vnet.system));
        let vnets = system
            .filter(|system| system.tasks.list().is_empty())
            .map(|system| system.registry().vnets())
            .filter(|vnets| known.iter().all(|vnet| is_listed(vnets, vnet)))
            .unwrap_or_default();
        drop(known);
        let (graph, services) = graph(&vnets, &before).unwrap_or_default();
        let plan = graph.divide(self.costs.threads(), PAYS.uneven);
        let panic = match plan {
            Some(plan) => self.carry_out(&vnets, &plan, until),
            None => {
                self.world.lock().put_off(PAYS.pause);
                None
            }
        };
        drop(vnets);
        MOVING.set(moving.was_moving);
        if let Some(panic) = panic {
            // Whoever runs the simulation is given it, as in an event that it carries out itself.
            drop(moving);
            resume_unwind(panic);
        }
        std::mem::forget(moving);
        let mut world = self.world.lock();
        world.services = services;
        world.turn = Turn::Free;
        world
    }

    /// Carries out a stretch, divided like this.
    fn carry_out(&self, vnets: &[Arc<VnetCore>], plan: &Plan, until: Instant) -> Option<Payload> {
        let threads = self.costs.threads();
        let part_of = vnets.iter().map(|vnet| vnet.number).zip(&plan.parts);
        let parts: BTreeMap<u64, usize> = part_of.map(|(n, part)| (n, *part)).collect();
        let mut world = self.world.lock();
        for (vnet, part) in vnets.iter().zip(&plan.parts) {
            vnet.sched.set_ticket(Ticket::default());
            vnet.inbox.set_part(*part as u32 + 1);
        }
        // Of a vnet that is gone, nothing comes up any more.
        let part_of = |number| parts.get(&number).copied().unwrap_or(0);
        let agendas = world.agenda.split(threads, part_of);
        world.apart = Some(Vec::new());
        let stretch = PAYS.stretch << world.stretches().min(8);
        drop(world);
        let agendas = agendas.into_iter().map(Some);
        let shared = &Shared {
            start: Start {
                could: Mutex::new(Rank::Driver, None),
                told: Condvar::new(),
            },
            meeting: Meeting::new(threads),
            agendas: agendas.map(|own| Mutex::new(Rank::Driver, own)).collect(),
            tables: [Table::new(threads), Table::new(threads)],
            until: until.as_nanos(),
            least: nanos(plan.least),
            stretch: stretch.min(PAYS.long_stretch),
            began: self.now(),
            parts: Arc::new(parts),
        };
        let done: Vec<Done> = std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads)
                .map_while(|n| {
                    let part = move || self.carry_out_part(shared, n);
                    let thread = std::thread::Builder::new().name(format!("part {n}"));
                    thread.spawn_scoped(scope, part).ok()
                })
                .collect();
            shared.start.tell(others.len() + 1 == threads);
            let mut done = self.carry_out_part(shared, 0);
            for other in others {
                match other.join() {
                    Ok(other) => done.extend(other),
                    Err(panic) => resume_unwind(panic),
                }
            }
            done
        });
        // Without a thread for each, nobody has begun.
        let left = shared.agendas.iter().filter_map(|own| own.lock().take());
        let done = done.into_iter().chain(left.map(Done::nothing)).collect();
        self.join_parts(vnets, done)
    }

    /// Goes on with one agenda.
    fn join_parts(&self, vnets: &[Arc<VnetCore>], done: Vec<Done>) -> Option<Payload> {
        let mut first_panic = None;
        let mut world = self.world.lock();
        for vnet in vnets {
            vnet.sched.set_ticket(Ticket::default());
            vnet.inbox.set_part(0);
        }
        let was_worth_it = done.iter().all(|done| done.was_worth_it);
        let mut events = 0;
        for done in done {
            world.agenda.join(done.agenda);
            events += done.events;
            world.hear_since(done.heard);
            self.advance(&mut world, done.last);
            match (done.panic, &first_panic) {
                (Some(panic), None) => first_panic = Some(panic),
                (Some(panic), Some(_)) => callback::discard(panic),
                (None, _) => {}
            }
        }
        world.agenda.sort_recent();
        world.count_apart(events);
        match was_worth_it {
            true => world.go_on_apart(),
            false => world.put_off(PAYS.pause),
        }
        let asked = world.apart.take().unwrap_or_default();
        for (vnet, at) in &asked {
            world.agenda.push_service(vnet, *at);
        }
        drop(world);
        drop(asked);
        first_panic
    }

    /// Carries out the part of that number until all stop.
    fn carry_out_part(&self, shared: &Shared, me: usize) -> Vec<Done> {
        if !shared.start.wait() {
            return Vec::new();
        }
        let Some(agenda) = shared.agendas[me].lock().take() else {
            return Vec::new();
        };
        AHEAD.set(Some(Ahead {
            agenda,
            events: 0,
            heard: Instant::ZERO,
            last: Instant::ZERO,
            parts: Arc::clone(&shared.parts),
            me,
        }));
        part::set_now(shared.began);
        part::set(self, me as u32 + 1);
        let was_moving = MOVING.replace(true);
        let (mut panic, mut was_worth_it) = (None, true);
        let (mut has_room, mut is_behind, mut is_over) = (true, false, false);
        let mut few = 0;
        for window in 1.. {
            let table = &shared.tables[(window & 1) as usize];
            let stop = is_over || !has_room || panic.is_some();
            table.tell(me, stop, is_behind);
            shared.meeting.wait();
            has_room &= table.take_in(me);
            let first = table.first.iter().map(|at| at.load(Ordering::Relaxed));
            let first = first.min().unwrap_or(u64::MAX);
            let says = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
            let is_stopped = table.stop.iter().any(says) && !table.behind.iter().any(says);
            if first > shared.until || is_stopped {
                break;
            }
            let end = first
                .saturating_add(shared.least)
                .min(shared.until.saturating_add(1));
            let before = with(|ahead| ahead.events);
            let end = Instant::from_nanos(end);
            // After a panic the others still have to be met.
            is_behind = match catch_unwind(AssertUnwindSafe(|| self.carry_out_window(end))) {
                Ok(is_behind) => is_behind,
                Err(payload) if panic.is_none() => {
                    panic = Some(payload);
                    false
                }
                Err(payload) => {
                    callback::discard(payload);
                    false
                }
            };
            if me == 0 {
                let events = with(|ahead| ahead.events);
                few += events - before;
                if window % WINDOWS == 0 {
                    was_worth_it = few >= PAYS.worth;
                    few = 0;
                }
                is_over = !was_worth_it || events >= shared.stretch || self.is_asked();
            }
        }
        MOVING.set(was_moving);
        part::set(self, 0);
        let ahead = AHEAD.take();
        let done = ahead.map(
            |Ahead {
                 agenda,
                 events,
                 heard,
                 last,
                 ..
             }| Done {
                agenda,
                events,
                heard,
                last,
                panic,
                was_worth_it,
            },
        );
        done.into_iter().collect()
    }

    /// True when a thread of which the system does not know wants something.
    fn is_asked(&self) -> bool {
        let world = self.world.lock();
        !world.runnable.is_empty() || world.apart.as_ref().is_some_and(|asked| !asked.is_empty())
    }

    /// Carries out the events of this thread's part before `end`. True when there are some left, because
    /// enough has been sent to other parts.
    fn carry_out_window(&self, end: Instant) -> bool {
        loop {
            let event = with(|ahead| {
                let next = ahead.agenda.next()?;
                (next < end).then(|| ahead.agenda.pop()).flatten()
            });
            let Some((at, event)) = event else {
                return false;
            };
            CALLS.set(0);
            let what = match event {
                Event::Service(vnet) => {
                    let Some(vnet) = disarm(&vnet, at) else {
                        continue;
                    };
                    part::reach(at);
                    vnet.service();
                    Happened::Serviced(vnet.number)
                }
                Event::Poll(task) => {
                    part::reach(at);
                    with(|ahead| ahead.heard = part::now());
                    task.run();
                    Happened::Polled(task.number())
                }
                Event::Wake(waker) => {
                    part::reach(at);
                    with(|ahead| ahead.heard = part::now());
                    callback::contained("a waker", || waker.wake());
                    Happened::TimerFired
                }
                // While somebody waits with a limit, nothing is divided.
                Event::Timeout(_) | Event::Paid(_) => continue,
            };
            with(|ahead| {
                ahead.events += 1;
                ahead.last = part::now();
                ahead.agenda.happened(at, what);
            });
            if crossing::is_much() {
                return true;
            }
        }
    }
}

impl Table {
    /// Tells the others how far this thread is, and what it sends them.
    fn tell(&self, me: usize, stop: bool, is_behind: bool) {
        let mut first = with(|ahead| ahead.agenda.next());
        for (to, way) in self.ways[me].iter().enumerate().filter(|(to, _)| *to != me) {
            let mut way = way.lock();
            let room = std::mem::take(&mut *way);
            *way = crossing::take(to as u32 + 1, room);
            first = [first, crossing::first(&way)].into_iter().flatten().min();
        }
        let first = first.map_or(u64::MAX, Instant::as_nanos);
        self.first[me].store(first, Ordering::Relaxed);
        self.stop[me].store(stop, Ordering::Relaxed);
        self.behind[me].store(is_behind, Ordering::Relaxed);
    }

    /// Takes in what others send to this part. False when an inbox fills.
    fn take_in(&self, me: usize) -> bool {
        let mut has_room = true;
        for from in &self.ways {
            let mut way = std::mem::take(&mut *from[me].lock());
            has_room &= crossing::put(&mut way);
            *from[me].lock() = way;
        }
        has_room
    }
}

/// True when a vnet with services to come is one of those that there are; they are in the order of their numbers.
fn is_listed(vnets: &[Arc<VnetCore>], vnet: &VnetCore) -> bool {
    let place = vnets.binary_search_by_key(&vnet.number, |other| other.number);
    place.is_ok() || vnet.sched.gone.load(Ordering::Acquire)
}

/// What joins the vnets, and how often each has been serviced. `None` when nothing may be divided.
fn graph(
    vnets: &[Arc<VnetCore>],
    before: &BTreeMap<u64, u64>,
) -> Option<(Graph, BTreeMap<u64, u64>)> {
    let places = |key: fn(&VnetCore) -> u64| -> BTreeMap<u64, usize> {
        let keyed = vnets.iter().enumerate().map(|(n, vnet)| (key(vnet), n));
        keyed.collect()
    };
    let by_inbox = places(|vnet| Arc::as_ptr(&vnet.inbox).addr() as u64);
    let by_number = places(|vnet| vnet.number);
    let (mut graph, mut services) = (Graph::default(), BTreeMap::new());
    for (place, vnet) in vnets.iter().enumerate() {
        let seen = look_at(vnet)?;
        let known = before.get(&vnet.number).copied().unwrap_or(0);
        graph.weights.push(1 + seen.services.saturating_sub(known));
        services.insert(vnet.number, seen.services);
        for (inbox, least) in seen.wires {
            // What is not found is being unplugged.
            let far = by_inbox.get(&(Arc::as_ptr(&inbox).addr() as u64))?;
            graph.links.push((place, *far, least));
        }
        // A family has its limits together.
        if let Some(parent) = &vnet.parent {
            let parent = by_number.get(&parent.number)?;
            graph.links.push((place, *parent, Duration::ZERO));
        }
    }
    Some((graph, services))
}

#[cfg(test)]
mod tests;

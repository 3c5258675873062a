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

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use super::meeting::{Meeting, Table};
use super::own::{self, Own};
use super::plan::{Graph, Plan};
use super::world::{Member, Turn, World};
use super::{MOVING, Moving, Virtual};
use crate::base::callback::{self, Payload};
use crate::base::heap::Ticket;
use crate::base::lock::{Mutex, MutexGuard, Rank};
use crate::base::part;
use crate::base::time::{Duration, Instant, nanos};
use crate::instance::apart::{crossing, look_at};
use crate::instance::cores::VnetCore;
use crate::instance::driver::{Driver, Happened};
use crate::instance::parallel::{Feature, Obstacle};
use crate::runtime::event::{Event, disarm};

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
        worth: 1,
        stretch: 200,
        long_stretch: 1000,
        uneven: 1000,
        pause: 20,
    },
};

/// How often vnets have been serviced, by number.
type Services = BTreeMap<u64, u64>;

/// What all threads know.
struct Shared {
    /// Whether all threads could be started, which each of them waits for.
    could_start: OnceLock<bool>,
    meeting: Meeting,
    /// What each has of its part, until it takes that.
    owns: Vec<Mutex<Option<Own>>>,
    tables: [Table; 2],
    /// Up to when the simulation is to go.
    until: u64,
    /// The least delay between parts.
    least: u64,
    /// Events of the first thread after which it is over.
    stretch: u64,
    began: Instant,
}

/// How a thread has ended.
struct Done {
    own: Own,
    panic: Option<Payload>,
    /// Whether the windows had many events.
    was_worth_it: bool,
}

impl Done {
    /// Nothing has been done of this.
    fn nothing(own: Own) -> Done {
        Done {
            own,
            panic: None,
            was_worth_it: false,
        }
    }
}

impl Virtual {
    /// Whether it is to be tried to divide the simulation.
    #[cold]
    pub(super) fn is_to_go_ahead(&self, world: &mut World) -> bool {
        if self.costs.threads() < 2 {
            world.look_after(u64::MAX / 2);
            return false;
        }
        let obstacle = self.obstacle(world);
        let is_free = obstacle.is_none();
        if !is_free {
            world.look_after(PAYS.pause / 10);
            world.parallel.obstacle = obstacle;
        }
        is_free
    }

    /// What is in the way, without a look at the vnets. Those who wait for anything but the end of a run would have to
    /// go on at once when they are woken, wherever other parts are by then.
    fn obstacle(&self, world: &World) -> Option<Obstacle> {
        let is_one_run = world.runs.len() == 1 && world.waiting.len() == 1;
        if !is_one_run || !world.runnable.is_empty() {
            return Some(Obstacle::Waiting);
        }
        let obstacles = [
            (self.beside.get().is_some(), Obstacle::Runtime),
            (
                self.costs.are_none() || self.costs.is_tight(self.now()),
                Obstacle::Calls,
            ),
            (world.runs[0].to.events < u64::MAX, Obstacle::EventLimit),
            (world.agenda.len() < PAYS.entries, Obstacle::Few),
            (!world.agenda.is_of_vnets(), Obstacle::Outside),
        ];
        let mut obstacles = obstacles.into_iter();
        obstacles.find_map(|(is_there, what)| is_there.then_some(what))
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
        let (panic, services) = match self.divided(&known, &before) {
            Ok((vnets, plan, services)) => (self.carry_out(&vnets, &plan, until), services),
            Err(obstacle) => {
                self.world.lock().put_off(PAYS.pause, obstacle);
                (None, before)
            }
        };
        drop(known);
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

    /// All vnets, which part each is in, and how often each has been serviced.
    fn divided(
        &self,
        known: &[Arc<VnetCore>],
        before: &Services,
    ) -> Result<(Vec<Arc<VnetCore>>, Plan, Services), Obstacle> {
        let system = &known.first().ok_or(Obstacle::Few)?.system;
        if !system.tasks.list().is_empty() {
            return Err(Obstacle::Outside);
        }
        let vnets = system.registry().vnets();
        if let Some(other) = known.iter().find(|vnet| !is_listed(&vnets, vnet)) {
            return Err(in_the_way(other, Feature::Phase));
        }
        let (graph, services) = graph(&vnets, before)?;
        let plan = graph.divide(self.costs.threads(), PAYS.uneven);
        Ok((vnets, plan.ok_or(Obstacle::Undivided)?, services))
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
        self.is_divided.store(true, Ordering::Relaxed);
        let stretch = PAYS.stretch << world.stretches().min(8);
        drop(world);
        let parts = Arc::new(parts);
        let own = |(me, agenda)| Some(Own::new(agenda, &parts, me));
        let owns = agendas.into_iter().enumerate().map(own);
        let shared = &Shared {
            could_start: OnceLock::new(),
            meeting: Meeting::new(threads),
            owns: owns.map(|own| Mutex::new(Rank::Driver, own)).collect(),
            tables: [Table::new(threads), Table::new(threads)],
            until: until.as_nanos(),
            least: nanos(plan.least),
            stretch: stretch.min(PAYS.long_stretch),
            began: self.now(),
        };
        let done: Vec<Done> = std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads)
                .map_while(|n| {
                    let part = move || self.carry_out_part(shared, n);
                    let thread = std::thread::Builder::new().name(format!("part {n}"));
                    thread.spawn_scoped(scope, part).ok()
                })
                .collect();
            let could_start = others.len() + 1 == threads;
            shared
                .could_start
                .set(could_start)
                .expect("it is told once");
            let mut done = Vec::from_iter(self.carry_out_part(shared, 0));
            for other in others {
                match other.join() {
                    Ok(other) => done.extend(other),
                    Err(panic) => resume_unwind(panic),
                }
            }
            done
        });
        // Without a thread for each, nobody has begun.
        let left = shared.owns.iter().filter_map(|own| own.lock().take());
        let done = done.into_iter().chain(left.map(Done::nothing)).collect();
        self.join_parts(vnets, done)
    }

    /// Goes on with one agenda.
    fn join_parts(&self, vnets: &[Arc<VnetCore>], done: Vec<Done>) -> Option<Payload> {
        self.is_divided.store(false, Ordering::Relaxed);
        let mut first_panic = None;
        let mut world = self.world.lock();
        for vnet in vnets {
            vnet.sched.set_ticket(Ticket::default());
            vnet.inbox.set_part(0);
        }
        let obstacle = match done.iter().all(|done| done.was_worth_it) {
            true => None,
            false if done.iter().all(|done| done.own.events == 0) => Some(Obstacle::NoThread),
            false => Some(Obstacle::TooNear),
        };
        let mut events = 0;
        for done in done {
            world.agenda.join(done.own.agenda);
            events += done.own.events;
            world.hear_since(done.own.heard);
            self.advance(&mut world, done.own.last);
            match (done.panic, &first_panic) {
                (Some(panic), None) => first_panic = Some(panic),
                (Some(panic), Some(_)) => callback::discard(panic),
                (None, _) => {}
            }
        }
        world.agenda.sort_recent();
        world.count_apart(events);
        match obstacle {
            None => world.go_on_apart(),
            Some(obstacle) => world.put_off(PAYS.pause, obstacle),
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
    fn carry_out_part(&self, shared: &Shared, me: usize) -> Option<Done> {
        if !shared.could_start.wait() {
            return None;
        }
        own::take_on(self, shared.owns[me].lock().take()?, shared.began);
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
            let before = own::with(|own| own.events);
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
                let events = own::with(|own| own.events);
                few += events - before;
                if window % WINDOWS == 0 {
                    was_worth_it = few >= PAYS.worth;
                    few = 0;
                }
                is_over = !was_worth_it || events >= shared.stretch || self.is_asked();
            }
        }
        MOVING.set(was_moving);
        Some(Done {
            own: own::give_back(self),
            panic,
            was_worth_it,
        })
    }

    /// True when a thread of which the system does not know wants something.
    fn is_asked(&self) -> bool {
        let world = self.world.lock();
        !world.runnable.is_empty() || world.apart.as_ref().is_some_and(|asked| !asked.is_empty())
    }

    /// Carries out the events of this thread's part before `end`. True when there are some left, because
    /// enough has been sent to other parts.
    fn carry_out_window(&self, end: Instant) -> bool {
        // One that ended in a panic is over as well.
        own::with(|own| own.agenda.end_service());
        loop {
            let event = own::with(|own| {
                let first = own.agenda.first().filter(|(at, _)| *at < end);
                own.agenda.pop_first(first?)
            });
            let Some((at, event)) = event else {
                return false;
            };
            own::begin_event();
            let what = match event {
                Event::Service(vnet) => disarm(vnet, at).map(|vnet| {
                    part::reach(at);
                    vnet.service();
                    Happened::Serviced(vnet.number)
                }),
                Event::Poll(task) => {
                    part::reach(at);
                    own::with(|own| own.heard = part::now());
                    task.run();
                    Some(Happened::Polled(task.number()))
                }
                Event::Wake(waker) => {
                    part::reach(at);
                    own::with(|own| own.heard = part::now());
                    callback::contained("a waker", || waker.wake());
                    Some(Happened::TimerFired)
                }
            };
            own::with(|own| {
                own.agenda.end_service();
                if let Some(what) = what {
                    own.events += 1;
                    own.last = part::now();
                    own.agenda.happened(at, what);
                }
            });
            if crossing::is_much() {
                return true;
            }
        }
    }
}

/// True when a vnet with services to come is one of those that there are; they are in the order of their numbers.
fn is_listed(vnets: &[Arc<VnetCore>], vnet: &VnetCore) -> bool {
    let place = vnets.binary_search_by_key(&vnet.number, |other| other.number);
    place.is_ok() || vnet.sched.gone.load(Ordering::Acquire)
}

fn in_the_way(vnet: &VnetCore, has: Feature) -> Obstacle {
    let name = Arc::from(&*vnet.name);
    Obstacle::Vnet { name, has }
}

/// What joins the vnets, and how often each has been serviced, unless nothing may be divided.
fn graph(vnets: &[Arc<VnetCore>], before: &Services) -> Result<(Graph, Services), Obstacle> {
    let places = |key: fn(&VnetCore) -> u64| -> BTreeMap<u64, usize> {
        let keyed = vnets.iter().enumerate().map(|(n, vnet)| (key(vnet), n));
        keyed.collect()
    };
    let by_inbox = places(|vnet| Arc::as_ptr(&vnet.inbox).addr() as u64);
    let by_number = places(|vnet| vnet.number);
    let (mut graph, mut services) = (Graph::default(), Services::new());
    for (place, vnet) in vnets.iter().enumerate() {
        let seen = look_at(vnet).map_err(|has| in_the_way(vnet, has))?;
        // What is not found is being unplugged, or destroyed.
        let is_ending = || in_the_way(vnet, Feature::Phase);
        let known = before.get(&vnet.number).copied().unwrap_or(0);
        graph.weights.push(1 + seen.services.saturating_sub(known));
        services.insert(vnet.number, seen.services);
        for (inbox, least) in seen.wires {
            let far = by_inbox.get(&(Arc::as_ptr(&inbox).addr() as u64));
            let far = far.ok_or_else(is_ending)?;
            graph.links.push((place, *far, least));
        }
        // A family has its limits together.
        if let Some(parent) = &vnet.parent {
            let parent = by_number.get(&parent.number).ok_or_else(is_ending)?;
            graph.links.push((place, *parent, Duration::ZERO));
        }
    }
    Ok((graph, services))
}

#[cfg(test)]
mod tests;

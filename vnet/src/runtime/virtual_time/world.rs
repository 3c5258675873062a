//! What a simulated world consists of: its agenda, the threads that use it, and whose turn it is.
//! It decides who may go on and whose wait is in vain; it does not call anybody.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};
use std::task::Wake;

use super::Virtual;
use crate::base::heap::Ticket;
use crate::base::lock::{Condvar, Mutex, Rank};
use crate::base::time::{Duration, Instant};
use crate::instance::context::peek_current;
use crate::instance::cores::VnetCore;
use crate::instance::driver::{AtEnd, RunTo, StopReason, Vain, Waited};
use crate::instance::parallel::{Obstacle, Parallel};
use crate::instance::site::Site;
use crate::runtime::cost::Costs;
use crate::runtime::event::{Agenda, Event};

/// A network that goes on for so long by itself, and wakes nobody, is not waited for any longer: a
/// sender that probes a closed window keeps the world busy for ever.
const SILENCE: Duration = Duration::from_secs(24 * 3600);
/// So many events without any time, or without more than what they cost, are no network any more,
/// but something that goes round for ever.
const STALL: u64 = 10_000_000;
/// Events from one look at who waits in such a world to the next.
const STALL_LOOK: u64 = 1000;
/// Events before it is looked at whether it pays to carry out parts apart: fewer are over too soon.
const FIRST_LOOK: u64 = if cfg!(debug_assertions) { 20 } else { 2000 };

pub(super) struct World {
    pub(super) agenda: Agenda<Arc<Member>>,
    /// Members that can go on, in the order in which they became able to.
    pub(super) runnable: VecDeque<Arc<Member>>,
    /// Members inside [`Driver::wait`](crate::instance::driver::Driver::wait), in the order in which
    /// they began to wait.
    pub(super) waiting: VecDeque<Arc<Member>>,
    /// Those of them that run the world for its own sake.
    pub(super) runs: Vec<Run>,
    /// Events that have happened.
    events: u64,
    /// How many those were when the time moved last by more than what calls cost.
    moved: u64,
    /// When a thread of the program or a task went on last, or a timer went off.
    heard: Instant,
    /// Up to when silence since then is hoped to end, once it has lasted.
    hoped: Option<Instant>,
    pub(super) turn: Turn,
    /// At how many events it is looked at again whether parts of it are to be carried out apart.
    apart_at: u64,
    /// While they are: the services that threads have asked for of which the system does not know.
    pub(super) apart: Option<Vec<(Arc<VnetCore>, Instant)>>,
    /// How often vnets had been serviced when it was divided last, by number.
    pub(super) services: BTreeMap<u64, u64>,
    /// How many times it has been divided.
    stretches: u32,
    /// How many times in a row that was put off.
    put_off: u32,
    /// How much was carried out apart, and why no more.
    pub(super) parallel: Parallel,
}

/// A thread that runs the world up to a limit. Whoever moves the world looks at it.
pub(super) struct Run {
    pub(super) member: Arc<Member>,
    pub(super) to: RunTo,
    pub(super) events: u64,
    pub(super) ended: Option<StopReason>,
}

impl Run {
    /// Whether, and why, it is over before the next event, which comes at `next`.
    fn is_over(&self, next: Option<Instant>) -> Option<StopReason> {
        let is_past = next.is_none_or(|at| at > self.to.until);
        match (is_past, self.to.at_end) {
            (true, AtEnd::Arrived) => Some(StopReason::Done),
            (true, AtEnd::Limit) if next.is_none() => Some(StopReason::Done),
            (true, AtEnd::Limit) => Some(StopReason::Time),
            (false, _) if self.events >= self.to.events => Some(StopReason::Events),
            (false, _) => None,
        }
    }
}

/// Who may act on the world.
pub(super) enum Turn {
    /// Nobody: whoever waits may take it, or move the world.
    Free,
    /// One member runs, and the world stands still.
    Of(Arc<Member>),
    /// A waiting member moves the world.
    Moving,
}

/// A thread that uses the world.
pub(super) struct Member {
    /// The thread's name, for reports.
    pub(super) name: String,
    pub(super) kind: Kind,
    /// Signalled when this member is given the turn.
    pub(super) given: Condvar,
    pub(super) state: Mutex<MemberState>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Started through the system: has the turn whenever it runs.
    Spawned,
    /// Any other thread: has the turn from its first wait on, and loses it to another such
    /// thread that waits while this one does not.
    Outside,
}

pub(super) struct MemberState {
    /// The waker was called since the last wait ended.
    pub(super) woken: bool,
    pub(super) waits: Option<Waits>,
    /// How the current wait is to end, once it is known.
    outcome: Option<Waited>,
    /// When the current wait ends at the latest.
    pub(super) until: Instant,
    /// When it began, after how many events, and in which call.
    pub(super) since: Instant,
    began: u64,
    pub(super) site: Option<Site>,
    /// The number of the vnet that is current in it.
    pub(super) vnet: Option<u64>,
    /// The event that ends it by then.
    timeout: Ticket,
}

/// For what a member waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waits {
    /// For its waker, or the end of its time.
    ToBeWoken,
    /// For the end of a run of the world.
    ForARun,
    /// For the time to pass that its calls cost. Its waker does not end that.
    ForItsCalls,
}

pub(super) struct MemberWaker {
    pub(super) driver: Weak<Virtual>,
    pub(super) member: Arc<Member>,
}

impl Wake for MemberWaker {
    fn wake(self: Arc<Self>) {
        if let Some(driver) = self.driver.upgrade() {
            let mut world = driver.world.lock();
            let waits = {
                let mut state = self.member.state.lock();
                state.woken = true;
                state.waits
            };
            if waits.is_some_and(|waits| waits != Waits::ForItsCalls) {
                world.resume(&self.member, Waited::Woken);
            }
        }
    }
}

impl Member {
    pub(super) fn new(kind: Kind, name: &str) -> Arc<Member> {
        Arc::new(Member {
            name: name.to_owned(),
            kind,
            given: Condvar::new(),
            state: Mutex::new(
                Rank::Waker,
                MemberState {
                    woken: false,
                    waits: None,
                    outcome: None,
                    until: Instant::MAX,
                    since: Instant::ZERO,
                    began: 0,
                    site: None,
                    vnet: None,
                    timeout: Ticket::default(),
                },
            ),
        })
    }

    /// True when it waits for its waker, and until a time at the latest.
    fn has_limit(&self) -> bool {
        let state = self.state.lock();
        state.waits == Some(Waits::ToBeWoken) && state.until < Instant::MAX
    }
}

impl World {
    pub(super) fn new(costs: Arc<Costs>) -> World {
        World {
            agenda: Agenda::new(costs),
            runnable: VecDeque::new(),
            waiting: VecDeque::new(),
            runs: Vec::new(),
            events: 0,
            apart_at: FIRST_LOOK,
            apart: None,
            services: BTreeMap::new(),
            stretches: 0,
            put_off: 0,
            parallel: Parallel::default(),
            moved: 0,
            heard: Instant::ZERO,
            hoped: None,
            turn: Turn::Free,
        }
    }

    /// Ends the wait of `member` with `outcome`, unless its end is decided already.
    pub(super) fn resume(&mut self, member: &Arc<Member>, outcome: Waited) {
        let mut state = member.state.lock();
        if state.waits.is_some() && state.outcome.is_none() {
            state.outcome = Some(outcome);
            drop(state);
            self.runnable.push_back(Arc::clone(member));
        }
    }

    /// Notes that `member` begins to wait, until `until` at the latest.
    pub(super) fn begin_wait(
        &mut self,
        member: &Arc<Member>,
        waits: Waits,
        until: Instant,
        now: Instant,
        site: Option<Site>,
    ) {
        let mut state = member.state.lock();
        state.waits = Some(waits);
        state.outcome = None;
        state.until = until;
        state.since = now;
        state.began = self.events;
        state.site = site;
        state.vnet = peek_current(|vnet| vnet.number);
        if until < Instant::MAX {
            let event = match waits {
                Waits::ForItsCalls => Event::Paid(Arc::clone(member)),
                _ => Event::Timeout(Arc::clone(member)),
            };
            state.timeout = self.agenda.push(until, event);
        }
        drop(state);
        self.waiting.push_back(Arc::clone(member));
    }

    /// Notes that `member` waits no more and says how its wait ended.
    pub(super) fn end_wait(&mut self, member: &Arc<Member>) -> Waited {
        self.waiting.retain(|t| !Arc::ptr_eq(t, member));
        let mut state = member.state.lock();
        self.agenda.take_back(std::mem::take(&mut state.timeout));
        if state.waits != Some(Waits::ForItsCalls) {
            state.woken = false;
        }
        state.waits = None;
        state.outcome.take().unwrap_or(Waited::Woken)
    }

    /// The member that has waited longest of those who are to be told that their wait is in vain
    /// before anything else happens, which is at `next`.
    pub(super) fn in_vain(
        &self,
        next: Option<Instant>,
        costs: &Costs,
    ) -> Option<(Arc<Member>, Vain)> {
        let Some(next) = next else {
            let member = self.longest(|state| state.until == Instant::MAX)?;
            return Some((member, Vain::NothingLeft));
        };
        let round = self.events - self.moved;
        if round >= STALL && round.is_multiple_of(STALL_LOOK) {
            // Without costs, the time does not come either to which a wait is limited.
            let for_ever = |state: &MemberState| costs.are_none() || state.until == Instant::MAX;
            let lasts = |state: &MemberState| self.events - state.began >= STALL;
            let member = self.longest(|state| for_ever(state) && lasts(state));
            if let Some(member) = member.filter(|_| costs.are_none() || !self.is_hopeful()) {
                return Some((member, Vain::GoesRound));
            }
        }
        if self.hoped.is_none_or(|hoped| next < hoped) || self.is_hopeful() {
            return None;
        }
        let is_over = |state: &MemberState| next >= state.since + SILENCE;
        let member = self.longest(|state| state.until == Instant::MAX && is_over(state))?;
        Some((member, Vain::NeverRests))
    }

    /// The member that has waited longest for its waker, of those that `of` picks.
    fn longest(&self, of: impl Fn(&MemberState) -> bool) -> Option<Arc<Member>> {
        let picked = |member: &&Arc<Member>| {
            let state = member.state.lock();
            state.waits == Some(Waits::ToBeWoken) && of(&state)
        };
        self.waiting.iter().find(picked).cloned()
    }

    /// True when a silence has lasted that is to be hoped to end by [`World::hope_until`].
    pub(super) fn wants_hope(&self, next: Option<Instant>) -> bool {
        self.hoped.is_none() && next.is_some_and(|next| next >= self.heard + SILENCE)
    }

    /// Notes when the last of what is on its way in the network arrives, in a silence that has lasted.
    pub(super) fn hope_until(&mut self, last: Instant) {
        let last = self.agenda.last().map_or(last, |at| at.max(last));
        self.hoped = Some(last + SILENCE);
    }

    /// True when somebody of the program will go on by itself: by a timer, or at the end of a wait
    /// with a limit or of a run.
    fn is_hopeful(&self) -> bool {
        let goes_on = |m: &Arc<Member>| {
            m.has_limit() || self.runs.iter().any(|run| Arc::ptr_eq(&run.member, m))
        };
        self.agenda.has_timers() || self.waiting.iter().any(goes_on)
    }

    /// Ends a run that is over before the next event; says where the clock is to be by then.
    pub(super) fn end_run(&mut self, next: Option<Instant>, costs: &Costs) -> Option<Instant> {
        let (events, moved) = (self.events, self.moved);
        let over = |run: &mut Run| {
            let goes_round = costs.are_none() && run.events.min(events - moved) >= STALL;
            let stalled = goes_round.then_some(StopReason::Stalled);
            let why = run.is_over(next).or(stalled)?;
            if run.ended.is_some() {
                return None;
            }
            run.ended = Some(why);
            Some((run.to, why, Arc::clone(&run.member)))
        };
        let (to, why, member) = self.runs.iter_mut().find_map(over)?;
        self.resume(&member, Waited::TimedOut);
        match (why, to.at_end) {
            (StopReason::Done, AtEnd::Arrived) | (StopReason::Time, _) => Some(to.until),
            _ => Some(Instant::ZERO),
        }
    }

    /// True when it is to be looked at whether parts are to be carried out apart.
    #[inline]
    pub(super) fn is_looked_at(&self) -> bool {
        self.events >= self.apart_at
    }

    /// Has it looked at again after so many events.
    pub(super) fn look_after(&mut self, events: u64) {
        self.apart_at = self.events + events;
    }

    /// How many times it has been divided.
    pub(super) fn stretches(&self) -> u32 {
        self.stretches
    }

    /// Notes that somebody of the program went on at `at`, if anybody did.
    pub(super) fn hear_since(&mut self, at: Instant) {
        if at > self.heard {
            self.hear(at);
        }
    }

    /// Notes that it was worth it to divide it, and has it divided anew.
    pub(super) fn go_on_apart(&mut self) {
        self.put_off = 0;
        self.look_after(0);
        self.parallel.obstacle = None;
    }

    /// Notes why it could not be divided, or was not to be, and has it looked at again after so many events;
    /// after twice as many the next time.
    pub(super) fn put_off(&mut self, events: u64, obstacle: Obstacle) {
        self.look_after(events << self.put_off.min(6));
        self.put_off += 1;
        self.parallel.obstacle = Some(obstacle);
    }

    /// Counts events that were carried out apart.
    pub(super) fn count_apart(&mut self, events: u64) {
        self.stretches += 1;
        self.events += events;
        self.parallel.events += events;
        for run in &mut self.runs {
            run.events += events;
        }
    }

    /// Counts an event.
    pub(super) fn count(&mut self) {
        self.events += 1;
        for run in &mut self.runs {
            run.events += 1;
        }
    }

    /// Notes that the time has moved, and not for what calls cost.
    pub(super) fn time_moves(&mut self) {
        self.moved = self.events;
    }

    /// Notes that somebody of the program goes on.
    pub(super) fn hear(&mut self, now: Instant) {
        self.heard = now;
        self.hoped = None;
    }

    pub(super) fn has_turn(&self, member: &Arc<Member>) -> bool {
        matches!(&self.turn, Turn::Of(t) if Arc::ptr_eq(t, member))
    }

    /// An outside thread that stops waiting may never come back: others of its kind look anew.
    pub(super) fn notify_outside(&self, leaves: &Member) {
        if leaves.kind == Kind::Outside {
            let outside = self.waiting.iter().filter(|t| t.kind == Kind::Outside);
            outside.for_each(|member| member.given.notify_one());
        }
    }

    /// Frees a turn whose holder will not give it back by itself: an outside thread that is not
    /// in a call now, seen by another outside thread.
    pub(super) fn steal_for(&mut self, member: &Member) {
        if let Turn::Of(holder) = &self.turn
            && holder.kind == Kind::Outside
            && member.kind == Kind::Outside
            && holder.state.lock().waits.is_none()
        {
            self.turn = Turn::Free;
        }
    }
}

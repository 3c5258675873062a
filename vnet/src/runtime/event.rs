//! What will happen, in one total order: by time, and within one time by what it is of.
//!
//! What was scheduled for later has a place that does not depend on the order in which different vnets
//! scheduled it: services come in the order of the vnets' numbers, each followed by the timers that were set
//! in that vnet, in the order in which they were set there; then comes what belongs to no vnet, in the order of
//! scheduling. What is scheduled for a time that is already reached follows all that, in the order of scheduling: it
//! was caused at that time, and so by what is near.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::task::Waker;

use super::cost::{Costs, Meter};
use crate::base::heap::{Heap, Pair, Ticket};
use crate::base::time::Instant;
use crate::instance::context::peek_current;
use crate::instance::cores::VnetCore;
use crate::instance::driver::{Happened, Notes, TimerKey};
use crate::instance::task::Task;

/// Past events that a simulation remembers.
const RECENT: usize = 32;

/// Something that will happen.
pub(super) enum Event<W, V = Weak<VnetCore>> {
    /// A vnet has frames or deadlines. A weak reference: an agenda that kept vnets alive would
    /// keep the system alive that owns the agenda.
    Service(V),
    /// A wait ends.
    Timeout(W),
    /// The time that a thread's calls cost has passed.
    Paid(W),
    /// A task is to be polled.
    Poll(Arc<Task>),
    /// A timer fires.
    Wake(Waker),
}

/// Something that happens now, with the vnet of a service if that is still there: perhaps the last reference to it, which must
/// not be dropped while a lock of the driver is held.
pub(super) type Coming<W> = Event<W, Option<Arc<VnetCore>>>;

/// An agenda of a part of a simulation: nobody waits there.
pub(super) type PartAgenda = Agenda<Infallible>;

impl<W> Event<W> {
    /// The number of the vnet that it is of, and the same for a part. `None` for a wait, and when the vnet is gone.
    fn of_vnet(self) -> Option<(u64, Event<Infallible>)> {
        match self {
            Event::Service(vnet) => {
                let number = vnet.upgrade()?.number;
                Some((number, Event::Service(vnet)))
            }
            Event::Poll(task) => Some((task.owner(), Event::Poll(task))),
            Event::Timeout(_) | Event::Paid(_) | Event::Wake(_) => None,
        }
    }

    /// It comes up.
    #[inline]
    fn come(self) -> Coming<W> {
        match self {
            Event::Service(vnet) => Event::Service(vnet.upgrade()),
            Event::Timeout(waits) => Event::Timeout(waits),
            Event::Paid(waits) => Event::Paid(waits),
            Event::Poll(task) => Event::Poll(task),
            Event::Wake(waker) => Event::Wake(waker),
        }
    }
}

impl Event<Infallible> {
    /// The same, where threads may wait.
    fn into_any<W>(self) -> Event<W> {
        match self {
            Event::Service(vnet) => Event::Service(vnet),
            Event::Poll(task) => Event::Poll(task),
            Event::Wake(waker) => Event::Wake(waker),
        }
    }
}

/// Notes that the entry of `vnet` at `at` came up; the vnet then says when it wants to come up
/// next. `None` when the vnet is gone, or an earlier entry had made this one superfluous.
///
/// Must not be called while a lock of the driver is held: the reference that is dropped here may be
/// the last one; the system is then dropped with it, and stops the driver.
#[inline]
pub(super) fn disarm(vnet: Option<Arc<VnetCore>>, at: Instant) -> Option<Arc<VnetCore>> {
    let vnet = vnet?;
    if vnet.sched.gone.load(Ordering::Acquire) {
        return None;
    }
    vnet.inbox.armed.disarm(at).then_some(vnet)
}

/// The number of the vnet that is current on this thread, if it is one of `driver`'s, and how many timers have been
/// set in it before.
pub(super) fn timer_of<D>(driver: &D) -> Option<(u64, u64)> {
    peek_current(|vnet| {
        let is_ours = std::ptr::addr_eq(Arc::as_ptr(&vnet.driver), driver);
        is_ours.then(|| (vnet.number, vnet.sched.count_timer()))
    })
    .flatten()
}

/// When something happens, and its place among what happens then: the number of a vnet, from [`OUTSIDE`] on its place
/// among what is of no vnet, or from [`DUE`] on its place among what was scheduled when that time was reached.
pub(super) type Place = (Instant, u64);

#[inline]
fn key((at, of): Place) -> Pair {
    Pair(at.as_nanos(), of)
}

#[inline]
fn place(Pair(at, of): Pair) -> Place {
    (Instant::from_nanos(at), of)
}

/// No vnet has a number like this, or a greater one.
const OUTSIDE: u64 = 1 << 62;
const DUE: u64 = 1 << 63;

/// The pending events of a simulation. None of them is obsolete, but for the service that is carried out: arming a vnet for
/// an earlier time, or ending a wait, cancels the old entry.
pub(super) struct Agenda<W> {
    /// What was scheduled for a time already reached, in order. About half of all events are, such
    /// as polls of woken tasks, and they need no heap.
    due: VecDeque<(Place, Event<W>)>,
    /// The time of the most recent event.
    reached: Instant,
    heap: Heap<Pair, Event<W>>,
    /// The service that is carried out, and where it is in the heap still: mostly its vnet is to come up again, and the
    /// entry is moved there.
    serving: Option<(Pair, Ticket)>,
    /// Timers, separate from the rest because wakers are cancelled by their time.
    timers: BTreeMap<TimerKey, Waker>,
    /// How much was scheduled that is of no vnet, or for a time already reached.
    scheduled: u64,
    /// The part of a simulation that it is of, from 1 on: parts count by themselves, and a timer has one key.
    part: u64,
    recent: VecDeque<(Instant, Happened)>,
    /// The number of entries at which entries of vnets that no longer exist are looked for.
    sweep_at: usize,
    costs: Arc<Costs>,
    rounds: Meter,
    /// What was scheduled for now and has a later place than this is not part of the current round.
    round_ends: u64,
    /// What is scheduled for now is charged like a call.
    charging: bool,
}

/// Entries that are not worth a sweep.
pub(super) const FEW_ENTRIES: usize = 1024;

impl<W> Event<W> {
    fn is_dead(&self) -> bool {
        match self {
            Event::Service(vnet) => vnet.strong_count() == 0,
            Event::Timeout(_) | Event::Paid(_) | Event::Poll(_) | Event::Wake(_) => false,
        }
    }
}

impl<W> Agenda<W> {
    pub(super) fn new(costs: Arc<Costs>) -> Agenda<W> {
        Agenda {
            due: VecDeque::new(),
            reached: Instant::ZERO,
            heap: Heap::default(),
            serving: None,
            timers: BTreeMap::new(),
            scheduled: 0,
            part: 0,
            recent: VecDeque::new(),
            sweep_at: FEW_ENTRIES,
            costs,
            rounds: Meter::new(),
            round_ends: DUE,
            charging: false,
        }
    }

    /// Schedules an event. The ticket can cancel it as long as it is in the future.
    pub(super) fn push(&mut self, at: Instant, event: Event<W>) -> Ticket {
        if self.is_due(at) {
            let place = (at, self.next_from(DUE));
            self.due.push_back((place, event));
            return Ticket::default();
        }
        let place = (at, self.next_from(OUTSIDE));
        self.put(place, event)
    }

    /// Schedules an event that is in the future. Inlined, as are the next and the one that takes events out: most of what a
    /// simulation does besides its vnets is in these three.
    #[inline(always)]
    fn put(&mut self, place: Place, event: Event<W>) -> Ticket {
        if self.heap.len() >= self.sweep_at {
            // A vnet that is gone leaves its entry behind, some of them for hours. Looking for
            // them only when there are twice as many costs nothing each.
            drop(self.heap.retain(|event| !event.is_dead()));
            self.sweep_at = (2 * self.heap.len()).max(FEW_ENTRIES);
        }
        self.heap.push(key(place), event)
    }

    /// Cancels the event of a ticket, unless it has already come up.
    pub(super) fn take_back(&mut self, ticket: Ticket) {
        self.heap.remove(ticket);
    }

    /// When something happens that is to happen at `at`, now or later, where it is `now`.
    pub(super) fn soon(&self, at: Instant, now: Instant) -> Instant {
        match self.charging && at <= now {
            true => now + self.costs.of_a_call(),
            false => at,
        }
    }

    /// Schedules service of `vnet` at `at`, unless it already comes up by then.
    #[inline(always)]
    pub(super) fn push_service(&mut self, vnet: &Arc<VnetCore>, at: Instant) {
        if !vnet.inbox.armed.arm(at) {
            return;
        }
        let old = vnet.sched.ticket();
        // Its entry is for what comes now.
        self.serving = self.serving.filter(|(_, ticket)| *ticket != old);
        let place = (at, vnet.number);
        if self.is_due(at) {
            self.heap.remove(old);
            let place = (at, self.next_from(DUE));
            self.due
                .push_back((place, Event::Service(Arc::downgrade(vnet))));
            vnet.sched.set_ticket(Ticket::default());
        } else if !self.heap.change(old, key(place)) {
            let event = Event::Service(Arc::downgrade(vnet));
            vnet.sched.set_ticket(self.put(place, event));
        }
    }

    /// True when what is scheduled for `at` comes behind everything that is due.
    fn is_due(&self, at: Instant) -> bool {
        at <= self.reached && self.due.back().is_none_or(|((last, _), _)| *last <= at)
    }

    /// The next place of a sort whose places are in the order of scheduling.
    fn next_from(&mut self, first: u64) -> u64 {
        self.scheduled += 1;
        first + self.scheduled
    }

    /// Sets a timer, which can be cancelled; `by` says in which vnet, and how many were set there before.
    pub(super) fn set_timer(
        &mut self,
        at: Instant,
        by: Option<(u64, u64)>,
        waker: Waker,
    ) -> TimerKey {
        let (of, seq) = match by {
            _ if self.is_due(at) => (self.next_from(DUE), self.part),
            Some(by) => by,
            None => (self.next_from(OUTSIDE), self.part),
        };
        let key = TimerKey { at, of, seq };
        self.timers.insert(key, waker);
        key
    }

    /// Cancels a timer. The returned value must be dropped after the driver's lock is released: it
    /// may be the last reference to a task.
    #[must_use]
    pub(super) fn cancel_timer(&mut self, key: TimerKey) -> Option<Waker> {
        self.timers.remove(&key)
    }

    /// True when a timer is set.
    pub(super) fn has_timers(&self) -> bool {
        !self.timers.is_empty()
    }

    /// When the last event is due.
    pub(super) fn last(&self) -> Option<Instant> {
        let entries = self.heap.iter().map(|(key, _)| place(key).0);
        let timer = self.timers.last_key_value().map(|(key, _)| key.at);
        entries.chain(timer).max().or(self.next())
    }

    /// The vnets that need service.
    pub(super) fn vnets(&self) -> Vec<Arc<VnetCore>> {
        let due = self.due.iter().map(|(_, event)| event);
        let events = self.heap.iter().map(|(_, event)| event).chain(due);
        let vnet = |event: &Event<W>| match event {
            Event::Service(vnet) => vnet.upgrade(),
            _ => None,
        };
        events.filter_map(vnet).collect()
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.first().map(|(at, _)| at)
    }

    /// When and where the next event is, for [`Agenda::pop_first`].
    #[inline]
    pub(super) fn first(&self) -> Option<Place> {
        // The usual case, asked for several times an event.
        if self.due.is_empty() && self.timers.is_empty() {
            return self.heap.next().map(place);
        }
        let due = self.due.front().map(|(place, _)| *place);
        let timer = self.timers.first_key_value().map(|(k, _)| (k.at, k.of));
        [due, self.heap.next().map(place), timer]
            .into_iter()
            .flatten()
            .min()
    }

    /// Removes and returns the next event.
    #[cfg(test)]
    pub(super) fn pop(&mut self) -> Option<(Instant, Coming<W>)> {
        let next = self.pop_first(self.first()?);
        self.end_service();
        next
    }

    /// Returns the next event, which is at [`first`](Agenda::first), and removes it; a service as soon as that
    /// [has ended](Agenda::end_service). [`disarm`] decides whether it is still wanted.
    #[inline(always)]
    pub(super) fn pop_first(&mut self, first: Place) -> Option<(Instant, Coming<W>)> {
        let (at, of) = first;
        if at > self.reached || of > self.round_ends {
            self.reached = self.reached.max(at);
            self.round_ends = DUE + self.scheduled;
            self.charging = self.costs.count(&mut self.rounds, self.reached);
        }
        if self.due.front().is_some_and(|(place, _)| *place == first) {
            return self.due.pop_front().map(|(_, event)| (at, event.come()));
        }
        if self.heap.next() == Some(key(first)) {
            if let Some((ticket, Event::Service(vnet))) = self.heap.first() {
                let vnet = vnet.upgrade();
                self.serving = Some((key(first), ticket));
                return Some((at, Event::Service(vnet)));
            }
            return self.heap.pop().map(|(_, event)| (at, event.come()));
        }
        let (_, waker) = self.timers.pop_first()?;
        Some((at, Event::Wake(waker)))
    }

    /// The service that came up last is over, if it was one.
    #[inline]
    pub(super) fn end_service(&mut self) {
        if let Some((_, ticket)) = self.serving.take() {
            self.heap.remove(ticket);
        }
    }

    /// The number of entries.
    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }

    /// True when everything in it is of vnets, so that it can be divided.
    pub(super) fn is_of_vnets(&self) -> bool {
        let is_of_vnet = |event: &Event<W>| match event {
            Event::Service(_) => true,
            Event::Poll(task) => task.owner() < OUTSIDE,
            Event::Timeout(_) | Event::Paid(_) | Event::Wake(_) => false,
        };
        self.due.iter().all(|(_, event)| is_of_vnet(event))
            && self.heap.iter().all(|(_, event)| is_of_vnet(event))
            && self.timers.keys().all(|key| key.of < OUTSIDE)
    }

    /// Divides what is in it, by the part that each vnet is in. Where the vnets' services are noted is forgotten before.
    pub(super) fn split(&mut self, parts: usize, part: impl Fn(u64) -> usize) -> Vec<PartAgenda> {
        let new = |number| Agenda {
            reached: self.reached,
            scheduled: self.scheduled,
            part: number,
            ..Agenda::new(Arc::clone(&self.costs))
        };
        let mut made: Vec<PartAgenda> = (1..=parts as u64).map(new).collect();
        for (place, event) in self.due.drain(..) {
            if let Some((of, event)) = event.of_vnet() {
                made[part(of)].due.push_back((place, event));
            }
        }
        while let Some((key, event)) = self.heap.pop() {
            if let Some((of, event)) = event.of_vnet() {
                made[part(of)].move_in(key, event);
            }
        }
        for (key, waker) in std::mem::take(&mut self.timers) {
            made[part(key.of)].timers.insert(key, waker);
        }
        made
    }

    /// Takes in what the agenda of a part contains.
    pub(super) fn join(&mut self, mut other: PartAgenda) {
        self.reached = self.reached.max(other.reached);
        self.scheduled = self.scheduled.max(other.scheduled);
        other.end_service();
        let due = other.due.into_iter();
        self.due
            .extend(due.map(|(place, event)| (place, event.into_any())));
        while let Some((key, event)) = other.heap.pop() {
            self.move_in(key, event.into_any());
        }
        self.timers.append(&mut other.timers);
        self.recent.append(&mut other.recent);
    }

    /// Puts what has happened in several agendas in order.
    pub(super) fn sort_recent(&mut self) {
        self.recent.make_contiguous().sort_by_key(|(at, _)| *at);
        let surplus = self.recent.len().saturating_sub(RECENT);
        self.recent.drain(..surplus);
    }

    /// Adds an entry of another agenda.
    fn move_in(&mut self, key: Pair, event: Event<W>) {
        let vnet = match &event {
            Event::Service(vnet) => vnet.upgrade(),
            _ => None,
        };
        let ticket = self.heap.push(key, event);
        if let Some(vnet) = vnet {
            vnet.sched.set_ticket(ticket);
        }
    }

    /// Restarts the count of rounds: what comes next is caused from outside.
    pub(super) fn end_rounds(&mut self) {
        self.rounds = Meter::new();
        self.charging = false;
    }

    /// Remembers an event that has happened.
    pub(super) fn happened(&mut self, at: Instant, what: Happened) {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((at, what));
    }

    /// Drops the next events as long as they concern vnets that no longer exist.
    pub(super) fn forget_dead(&mut self) {
        while self.due.front().is_some_and(|(_, e)| e.is_dead()) {
            self.due.pop_front();
        }
        while self.heap.first().is_some_and(|(_, e)| e.is_dead()) {
            self.heap.pop();
        }
        if self.heap.is_empty() && self.sweep_at > FEW_ENTRIES {
            // Not a new heap: vnets and members still have tickets of this one.
            self.heap.shrink();
            self.sweep_at = FEW_ENTRIES;
        }
    }

    /// What is pending and what has happened, for reports.
    pub(super) fn notes(&self) -> Notes {
        let due = self.due.iter().map(|(place, event)| (*place, event));
        let mut services: Vec<(Place, Arc<VnetCore>)> = self
            .heap
            .iter()
            .filter(|(key, _)| self.serving.is_none_or(|(serving, _)| *key != serving))
            .map(|(key, event)| (place(key), event))
            .chain(due)
            .filter_map(|(place, event)| match event {
                Event::Service(vnet) => Some((place, vnet.upgrade()?)),
                _ => None,
            })
            .collect();
        services.sort_by_key(|(place, _)| *place);
        Notes {
            services: services.into_iter().map(|((at, _), v)| (at, v)).collect(),
            timers: self.timers.keys().map(|key| key.at).collect(),
            waits: Vec::new(),
            recent: self.recent.iter().copied().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Duration;
    use crate::instance::{System, Vnet};
    use crate::runtime::cost::VirtualConfig;
    use proptest::prelude::*;

    fn free() -> Arc<Costs> {
        Arc::new(Costs::new(VirtualConfig::default()))
    }

    fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    /// What comes up, as numbers: timers and timeouts share one order.
    fn order(agenda: &mut Agenda<u8>) -> Vec<(u64, Option<u8>)> {
        std::iter::from_fn(|| agenda.pop())
            .map(|(at, event)| match event {
                Event::Timeout(n) => (at.as_nanos(), Some(n)),
                _ => (at.as_nanos(), None),
            })
            .collect()
    }

    #[test]
    fn timers_and_entries_are_in_one_order() {
        let mut agenda = Agenda::new(free());
        agenda.push(at(5), Event::Timeout(1));
        agenda.set_timer(at(5), None, Waker::noop().clone());
        agenda.push(at(5), Event::Timeout(2));
        agenda.set_timer(at(3), None, Waker::noop().clone());
        assert_eq!(agenda.next(), Some(at(3)));
        assert_eq!(agenda.last(), Some(at(5)));
        let expected = [(3, None), (5, Some(1)), (5, None), (5, Some(2))];
        assert_eq!(order(&mut agenda), expected);
    }

    #[test]
    fn a_timer_that_was_taken_back_leaves_nothing() {
        let mut agenda = Agenda::<u8>::new(free());
        let keys: Vec<TimerKey> = (0..1000)
            .map(|n| agenda.set_timer(at(n % 7), None, Waker::noop().clone()))
            .collect();
        for key in &keys {
            assert!(agenda.cancel_timer(*key).is_some());
            assert!(agenda.cancel_timer(*key).is_none());
        }
        assert_eq!(agenda.next(), None);
        assert!(agenda.timers.is_empty() && agenda.heap.is_empty());
    }

    proptest! {
        /// Events come up in the order of a list that is sorted by time, stably.
        #[test]
        fn events_come_up_in_order(
            acts in prop::collection::vec(prop_oneof![
                2 => (0u64..6, any::<bool>()).prop_map(Some),
                1 => Just(None),
            ], 0..200),
        ) {
            let mut agenda = Agenda::new(free());
            let mut model: Vec<(u64, Option<u8>)> = Vec::new();
            let mut now = 0;
            for (n, act) in acts.iter().enumerate() {
                match act {
                    Some((ahead, true)) => {
                        agenda.push(at(now + ahead), Event::Timeout(n as u8));
                        model.push((now + ahead, Some(n as u8)));
                    }
                    Some((ahead, false)) => {
                        agenda.set_timer(at(now + ahead), None, Waker::noop().clone());
                        model.push((now + ahead, None));
                    }
                    None => {
                        let first = model.iter().map(|(at, _)| *at).min();
                        prop_assert_eq!(agenda.next().map(Instant::as_nanos), first);
                        let place = model.iter().position(|(at, _)| Some(*at) == first);
                        let expected = place.map(|p| model.remove(p));
                        let popped = agenda.pop().map(|(at, event)| match event {
                            Event::Timeout(n) => (at.as_nanos(), Some(n)),
                            _ => (at.as_nanos(), None),
                        });
                        prop_assert_eq!(popped, expected);
                        now = now.max(first.unwrap_or(0));
                    }
                }
            }
            model.sort_by_key(|(at, _)| *at);
            prop_assert_eq!(order(&mut agenda), model);
        }
    }

    #[test]
    fn only_the_last_events_are_remembered() {
        let mut agenda = Agenda::<u8>::new(free());
        for n in 0..100 {
            agenda.happened(at(n), Happened::Polled(n));
        }
        let recent = agenda.notes().recent;
        assert_eq!(recent.len(), RECENT);
        assert_eq!(recent.last(), Some(&(at(99), Happened::Polled(99))));
    }

    #[test]
    fn vnets_that_are_gone_leave_no_heap_of_entries() {
        let system = System::manual(1);
        let mut agenda: Agenda<()> = Agenda::new(free());
        let core = |vnet: &Vnet| Arc::clone(&vnet.core);
        let alive = system.create("alive").expect("a free name");
        let at = Instant::from_nanos;
        agenda.push_service(&core(&alive), at(2));
        for n in 0..3 * FEW_ENTRIES as u64 {
            let gone = system.create("gone").expect("free again");
            agenda.push_service(&core(&gone), at(10 + n));
            drop(gone);
            assert!(agenda.heap.len() <= FEW_ENTRIES, "{}", agenda.heap.len());
        }
        // What belongs to the living is still there, and comes first.
        assert_eq!(agenda.next(), Some(at(2)));
        let Some((_, Event::Service(vnet))) = agenda.pop() else {
            panic!("there is an entry");
        };
        assert!(disarm(vnet, at(2)).is_some_and(|v| Arc::ptr_eq(&v, &alive.core)));
        agenda.forget_dead();
        assert_eq!(agenda.next(), None);
        assert!(agenda.heap.is_empty());
    }

    #[test]
    fn a_vnet_that_is_gone_comes_up_no_more_though_somebody_still_knows_it() {
        let system = System::manual(1);
        let mut agenda: Agenda<()> = Agenda::new(free());
        let vnet = system.create("a").expect("a free name");
        let known = Arc::clone(&vnet.core);
        known.inbox.armed.reset();
        agenda.push_service(&known, at(0));
        drop(vnet);
        agenda.push_service(&known, at(5));
        let Some((due, Event::Service(it))) = agenda.pop() else {
            panic!("there is an entry");
        };
        assert!(due == at(0) && disarm(it, due).is_none());
        assert_eq!(agenda.next(), None);
    }

    /// A vnet with a distant deadline is armed for now again and again, as by each datagram.
    #[test]
    fn a_vnet_has_one_entry() {
        let system = System::manual(1);
        let mut agenda: Agenda<()> = Agenda::new(free());
        let vnet = system.create("a").expect("a free name");
        vnet.core.inbox.armed.reset();
        for now in 0..1000 {
            agenda.push_service(&vnet.core, at(1_000_000));
            agenda.push_service(&vnet.core, at(now));
            assert_eq!(agenda.heap.len() + agenda.due.len(), 1);
            let (due, Event::Service(it)) = agenda.pop().expect("it is due") else {
                panic!("it is a service");
            };
            assert!(disarm(it, due).is_some());
        }
        assert_eq!((agenda.next(), agenda.last()), (None, None));
    }

    proptest! {
        /// That the entry of a service stays until that is over makes no difference, whatever is armed meanwhile.
        #[test]
        fn what_is_served_comes_up_as_if_it_had_been_removed_before(
            acts in prop::collection::vec(prop_oneof![
                3 => (0..4usize, 0..6u64).prop_map(Some),
                2 => Just(None),
            ], 0..200),
        ) {
            let sides = [(); 2].map(|()| {
                let system = System::manual(1);
                let vnets = ["a", "b", "c", "d"].map(|name| {
                    let vnet = system.create(name).expect("a free name");
                    vnet.core.inbox.armed.reset();
                    vnet
                });
                (Agenda::<()>::new(free()), vnets)
            });
            let [(mut before, removed), (mut after, kept)] = sides;
            let mut now = 0;
            let serve = |agenda: &mut Agenda<()>, is_kept: bool| {
                agenda.end_service();
                let (due, Event::Service(it)) = agenda.pop_first(agenda.first()?)? else {
                    panic!("it is a service");
                };
                if !is_kept {
                    agenda.end_service();
                }
                Some((due, disarm(it, due).map(|vnet| vnet.number)))
            };
            for act in acts.iter().copied().chain([None; 5]) {
                match act {
                    Some((which, ahead)) => {
                        before.push_service(&removed[which].core, at(now + ahead));
                        after.push_service(&kept[which].core, at(now + ahead));
                    }
                    None => {
                        let served = serve(&mut before, false);
                        prop_assert_eq!(serve(&mut after, true), served);
                        now = served.map_or(now, |(at, _)| now.max(at.as_nanos()));
                        prop_assert_eq!(after.notes().services.len(), before.notes().services.len());
                    }
                }
            }
            after.end_service();
            prop_assert_eq!((after.next(), after.len()), (before.next(), before.len()));
            prop_assert_eq!((before.next(), before.len()), (None, 0));
        }
    }

    /// Vnets keep the ticket of an entry that has come up. It never finds another entry, even after
    /// many entries have come and gone.
    #[test]
    fn an_old_ticket_finds_nobody_elses_entry() {
        let system = System::manual(1);
        let mut agenda: Agenda<()> = Agenda::new(free());
        let vnets: Vec<_> = (0..2 * FEW_ENTRIES)
            .map(|n| system.create(&format!("v{n}")).expect("a free name"))
            .collect();
        for vnet in &vnets {
            vnet.core.inbox.armed.reset();
        }
        let mut now = 0;
        let mut round = |order: &mut dyn Iterator<Item = &crate::instance::OwnedVnet>| {
            for (n, vnet) in order.enumerate() {
                agenda.push_service(&vnet.core, at(now + 1000 + n as u64));
            }
            let mut served = 0;
            while let Some((due, event)) = agenda.pop() {
                let Event::Service(it) = event else {
                    panic!("it is a service");
                };
                now = due.as_nanos();
                served += usize::from(disarm(it, due).is_some());
            }
            agenda.forget_dead();
            served
        };
        assert_eq!(round(&mut vnets.iter()), vnets.len());
        assert_eq!(round(&mut vnets.iter().rev()), vnets.len());
    }

    /// A task that wakes itself is polled once a round; others at the same instant make it no
    /// more rounds, and each has its turn.
    #[test]
    fn rounds_at_one_instant_are_charged_and_not_events() {
        let costs = Arc::new(Costs::new(VirtualConfig {
            call_cost: Duration::from_nanos(7),
            calls_free: 10,
            ..VirtualConfig::default()
        }));
        let mut agenda = Agenda::new(costs);
        let mut now = at(0);
        for n in 0..100 {
            agenda.push(now, Event::Timeout(n));
        }
        for round in 1..=15 {
            for n in 0..100 {
                let (due, Event::Timeout(it)) = agenda.pop().expect("there is more") else {
                    panic!("nothing else was scheduled");
                };
                now = now.max(due);
                assert_eq!((it, now), (n, at(7 * 15_u64.min(round).saturating_sub(11))));
                agenda.push(agenda.soon(now, now), Event::Timeout(it));
            }
        }
    }
}

//! What will happen, in one total order: by time, and in the order of scheduling within one time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::task::Waker;

use crate::base::time::Instant;
use crate::instance::driver::{Happened, Notes, TimerKey};
use crate::instance::task::Task;
use crate::instance::vnet::VnetCore;

/// Events that a world remembers after they have happened.
const RECENT: usize = 32;

/// Something that will happen.
pub(super) enum Event<W> {
    /// A vnet has frames or deadlines. A weak reference: an agenda that kept vnets alive would
    /// keep the system alive that owns the agenda.
    Service(Weak<VnetCore>),
    /// Somebody's wait ends.
    Timeout(W),
    /// A task is to be polled.
    Poll(Arc<Task>),
    /// A timer goes off.
    Wake(Waker),
}

/// Notes that the entry of `vnet` at `at` came up; it says anew when it wants to come up next.
/// `None` when the vnet is gone, or an earlier entry had made this one superfluous.
///
/// Not to be called with a lock of the driver's: the reference that is dropped here may be the
/// last one, and then the system goes with it, and stops the driver.
pub(super) fn disarm(vnet: &Weak<VnetCore>, at: Instant) -> Option<Arc<VnetCore>> {
    let vnet = vnet.upgrade()?;
    let armed = &vnet.sched.armed;
    armed
        .compare_exchange(at.as_nanos(), u64::MAX, Ordering::AcqRel, Ordering::Acquire)
        .ok()?;
    Some(vnet)
}

struct Entry<W> {
    at: Instant,
    seq: u64,
    event: Event<W>,
}

/// The pending events of a world.
pub(super) struct Agenda<W> {
    /// What was scheduled for a time already reached, in order. About half of all events are, such
    /// as polls of woken tasks, and they need no heap.
    due: VecDeque<Entry<W>>,
    /// The time of the event that came up last.
    reached: Instant,
    heap: BinaryHeap<Reverse<Entry<W>>>,
    /// Timers, apart from the rest because they can be taken back.
    timers: BTreeMap<TimerKey, Waker>,
    scheduled: u64,
    recent: VecDeque<(Instant, Happened)>,
    /// Entries at which those of vnets that do not exist any more are looked for.
    sweep_at: usize,
}

/// Entries that are not worth a sweep.
pub(super) const FEW_ENTRIES: usize = 1024;

impl<W> Event<W> {
    fn is_dead(&self) -> bool {
        match self {
            Event::Service(vnet) => vnet.strong_count() == 0,
            Event::Timeout(_) | Event::Poll(_) | Event::Wake(_) => false,
        }
    }
}

impl<W> Agenda<W> {
    pub(super) fn new() -> Agenda<W> {
        Agenda {
            due: VecDeque::new(),
            reached: Instant::ZERO,
            heap: BinaryHeap::new(),
            timers: BTreeMap::new(),
            scheduled: 0,
            recent: VecDeque::new(),
            sweep_at: FEW_ENTRIES,
        }
    }

    pub(super) fn push(&mut self, at: Instant, event: Event<W>) {
        if self.heap.len() >= self.sweep_at {
            // A vnet that is gone leaves its entries behind, some of them for hours. Looking for
            // them only when there are twice as many costs nothing each.
            self.heap.retain(|Reverse(e)| !e.event.is_dead());
            self.sweep_at = (2 * self.heap.len()).max(FEW_ENTRIES);
            self.heap.shrink_to(self.sweep_at);
        }
        self.scheduled += 1;
        let entry = Entry {
            at,
            seq: self.scheduled,
            event,
        };
        let in_order = self.due.back().is_none_or(|last| last.at <= at);
        if at <= self.reached && in_order {
            self.due.push_back(entry);
        } else {
            self.heap.push(Reverse(entry));
        }
    }

    /// Schedules service of `vnet` at `at`, unless it comes up by then anyway.
    pub(super) fn push_service(&mut self, vnet: &Arc<VnetCore>, at: Instant) {
        let before = vnet.sched.armed.fetch_min(at.as_nanos(), Ordering::AcqRel);
        if at.as_nanos() < before {
            self.push(at, Event::Service(Arc::downgrade(vnet)));
        }
    }

    /// Sets a timer, which can be taken back.
    pub(super) fn set_timer(&mut self, at: Instant, waker: Waker) -> TimerKey {
        self.scheduled += 1;
        let key = TimerKey {
            at,
            seq: self.scheduled,
        };
        self.timers.insert(key, waker);
        key
    }

    /// Takes a timer back. What is returned must be dropped after the driver's lock is released:
    /// it may be the last reference to a task.
    #[must_use]
    pub(super) fn cancel_timer(&mut self, key: TimerKey) -> Option<Waker> {
        self.timers.remove(&key)
    }

    /// When the last timer goes off.
    pub(super) fn last_timer(&self) -> Option<Instant> {
        self.timers.last_key_value().map(|(key, _)| key.at)
    }

    pub(super) fn next(&self) -> Option<Instant> {
        let due = self.due.front().map(|e| e.at);
        let entry = self.heap.peek().map(|Reverse(e)| e.at);
        let timer = self.timers.first_key_value().map(|(key, _)| key.at);
        [due, entry, timer].into_iter().flatten().min()
    }

    /// Takes the next event out. Whether it is still wanted is for [`disarm`] to say.
    pub(super) fn pop(&mut self) -> Option<(Instant, Event<W>)> {
        let key = |e: &Entry<W>| TimerKey {
            at: e.at,
            seq: e.seq,
        };
        let due = self.due.front().map(key);
        let entry = self.heap.peek().map(|Reverse(e)| key(e));
        let timer = self.timers.first_key_value().map(|(key, _)| *key);
        let first = [due, entry, timer].into_iter().flatten().min()?;
        self.reached = self.reached.max(first.at);
        if Some(first) == timer {
            let (key, waker) = self.timers.pop_first()?;
            return Some((key.at, Event::Wake(waker)));
        }
        let Entry { at, event, .. } = match Some(first) == due {
            true => self.due.pop_front()?,
            false => self.heap.pop()?.0,
        };
        Some((at, event))
    }

    /// Remembers that something has happened.
    pub(super) fn happened(&mut self, at: Instant, what: Happened) {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((at, what));
    }

    /// Drops what comes next as long as it concerns vnets that do not exist any more.
    pub(super) fn forget_dead(&mut self) {
        while self.due.front().is_some_and(|e| e.event.is_dead()) {
            self.due.pop_front();
        }
        while self.heap.peek().is_some_and(|Reverse(e)| e.event.is_dead()) {
            self.heap.pop();
        }
        if self.heap.is_empty() {
            self.heap.shrink_to(FEW_ENTRIES);
            self.sweep_at = FEW_ENTRIES;
        }
    }

    /// What is pending and what has happened, for reports.
    pub(super) fn notes(&self) -> Notes {
        let entries = self.heap.iter().map(|Reverse(e)| e);
        let mut services: Vec<(Instant, u64, Arc<VnetCore>)> = entries
            .chain(&self.due)
            .filter_map(|e| match &e.event {
                Event::Service(vnet) => Some((e.at, e.seq, vnet.upgrade()?)),
                _ => None,
            })
            .collect();
        services.sort_by_key(|(at, seq, _)| (*at, *seq));
        Notes {
            services: services.into_iter().map(|(at, _, v)| (at, v)).collect(),
            timers: self.timers.keys().map(|key| key.at).collect(),
            waits: Vec::new(),
            recent: self.recent.iter().copied().collect(),
        }
    }
}

impl<W> PartialEq for Entry<W> {
    fn eq(&self, other: &Entry<W>) -> bool {
        (self.at, self.seq) == (other.at, other.seq)
    }
}
impl<W> Eq for Entry<W> {}
impl<W> PartialOrd for Entry<W> {
    fn partial_cmp(&self, other: &Entry<W>) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<W> Ord for Entry<W> {
    fn cmp(&self, other: &Entry<W>) -> std::cmp::Ordering {
        (self.at, self.seq).cmp(&(other.at, other.seq))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::{System, Vnet};
    use proptest::prelude::*;

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
        let mut agenda = Agenda::new();
        agenda.push(at(5), Event::Timeout(1));
        agenda.set_timer(at(5), Waker::noop().clone());
        agenda.push(at(5), Event::Timeout(2));
        agenda.set_timer(at(3), Waker::noop().clone());
        assert_eq!(agenda.next(), Some(at(3)));
        assert_eq!(agenda.last_timer(), Some(at(5)));
        let expected = [(3, None), (5, Some(1)), (5, None), (5, Some(2))];
        assert_eq!(order(&mut agenda), expected);
    }

    #[test]
    fn a_timer_that_was_taken_back_leaves_nothing() {
        let mut agenda = Agenda::<u8>::new();
        let keys: Vec<TimerKey> = (0..1000)
            .map(|n| agenda.set_timer(at(n % 7), Waker::noop().clone()))
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
            let mut agenda = Agenda::new();
            let mut model: Vec<(u64, Option<u8>)> = Vec::new();
            let mut now = 0;
            for (n, act) in acts.iter().enumerate() {
                match act {
                    Some((ahead, true)) => {
                        agenda.push(at(now + ahead), Event::Timeout(n as u8));
                        model.push((now + ahead, Some(n as u8)));
                    }
                    Some((ahead, false)) => {
                        agenda.set_timer(at(now + ahead), Waker::noop().clone());
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
        let mut agenda = Agenda::<u8>::new();
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
        let mut agenda: Agenda<()> = Agenda::new();
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
        assert!(disarm(&vnet, at(2)).is_some_and(|v| Arc::ptr_eq(&v, &alive.core)));
        agenda.forget_dead();
        assert_eq!(agenda.next(), None);
        assert!(agenda.heap.capacity() <= FEW_ENTRIES);
    }
}

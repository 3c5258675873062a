//! What will happen, in one total order: by time, and in the order of scheduling within one time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use crate::base::time::Instant;
use crate::instance::vnet::VnetCore;

/// Something that will happen.
pub(super) enum Event<W> {
    /// A vnet has frames or deadlines. A weak reference: an agenda that kept vnets alive would
    /// keep the system alive that owns the agenda.
    Service(Weak<VnetCore>),
    /// Somebody's wait ends.
    Timeout(W),
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
    heap: BinaryHeap<Reverse<Entry<W>>>,
    scheduled: u64,
    /// Entries at which those of vnets that do not exist any more are looked for.
    sweep_at: usize,
}

/// Entries that are not worth a sweep.
pub(super) const FEW_ENTRIES: usize = 1024;

impl<W> Event<W> {
    fn is_dead(&self) -> bool {
        match self {
            Event::Service(vnet) => vnet.strong_count() == 0,
            Event::Timeout(_) => false,
        }
    }
}

impl<W> Agenda<W> {
    pub(super) fn new() -> Agenda<W> {
        Agenda {
            heap: BinaryHeap::new(),
            scheduled: 0,
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
        self.heap.push(Reverse(Entry {
            at,
            seq: self.scheduled,
            event,
        }));
    }

    /// Schedules service of `vnet` at `at`, unless it comes up by then anyway.
    pub(super) fn push_service(&mut self, vnet: &Arc<VnetCore>, at: Instant) {
        let before = vnet.sched.armed.fetch_min(at.as_nanos(), Ordering::AcqRel);
        if at.as_nanos() < before {
            self.push(at, Event::Service(Arc::downgrade(vnet)));
        }
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse(e)| e.at)
    }

    /// Takes the next event out. Whether it is still wanted is for [`disarm`] to say.
    pub(super) fn pop(&mut self) -> Option<(Instant, Event<W>)> {
        let Reverse(Entry { at, event, .. }) = self.heap.pop()?;
        Some((at, event))
    }

    /// Drops what comes next as long as it concerns vnets that do not exist any more.
    pub(super) fn forget_dead(&mut self) {
        while self.heap.peek().is_some_and(|Reverse(e)| e.event.is_dead()) {
            self.heap.pop();
        }
        if self.heap.is_empty() {
            self.heap.shrink_to(FEW_ENTRIES);
            self.sweep_at = FEW_ENTRIES;
        }
    }

    pub(super) fn clear(&mut self) {
        self.heap.clear();
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

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

/// An event whose time has come.
pub(super) enum Due<W> {
    /// Service this vnet.
    Service(Arc<VnetCore>),
    /// This wait ends.
    Timeout(W),
}

/// Notes that the entry of `vnet` at `at` came up; it says anew when it wants to come up next.
/// False when an earlier entry had made this one superfluous.
pub(super) fn disarm(vnet: &VnetCore, at: Instant) -> bool {
    vnet.sched
        .armed
        .compare_exchange(at.as_nanos(), u64::MAX, Ordering::AcqRel, Ordering::Acquire)
        .is_ok()
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
}

impl<W> Agenda<W> {
    pub(super) fn new() -> Agenda<W> {
        Agenda {
            heap: BinaryHeap::new(),
            scheduled: 0,
        }
    }

    pub(super) fn push(&mut self, at: Instant, event: Event<W>) {
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

    /// The next event that is still wanted.
    pub(super) fn pop(&mut self) -> Option<(Instant, Due<W>)> {
        while let Some(Reverse(Entry { at, event, .. })) = self.heap.pop() {
            match event {
                Event::Timeout(waiter) => return Some((at, Due::Timeout(waiter))),
                Event::Service(vnet) => {
                    if let Some(vnet) = vnet.upgrade().filter(|v| disarm(v, at)) {
                        return Some((at, Due::Service(vnet)));
                    }
                }
            }
        }
        None
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

//! Deadlines as data: a heap of (time, key) with one entry per owner.
//!
//! A TCP retransmission deadline moves with every acknowledgement, nearly always later. Moving a
//! heap entry each time would cost more than the timer is worth, so an entry may be *early*: when
//! it comes up, the owner compares it with the real deadline and arms it again. The owner must call
//! [`Deadlines::arm`] when its deadline moves *earlier*, and [`Deadlines::forget`] when it is
//! removed; it remembers its entry in an [`Armed`] beside the deadline itself. An owner has at most
//! one entry: arming it for an earlier time moves that entry.

use super::heap::{Heap, Pair, Ticket};
use super::time::Instant;

/// An owner's heap entry, and when it comes up; lives beside the owner's real deadlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Armed {
    at: Instant,
    entry: Ticket,
}

impl Default for Armed {
    fn default() -> Armed {
        Armed {
            at: Instant::MAX,
            entry: Ticket::default(),
        }
    }
}

/// The deadlines of many owners. Ties in time come up in the order they were armed.
#[derive(Debug)]
pub(crate) struct Deadlines<K> {
    /// When the next entry comes up; the greatest time for none. It is asked for at each entry into a vnet, and is not
    /// to be fetched from far away then.
    next: Instant,
    /// Made with the first entry: a vnet has several of these, most of which never have one.
    armed: Option<Box<Entries<K>>>,
}

#[derive(Debug)]
struct Entries<K> {
    heap: Heap<Pair, K>,
    count: u64,
}

impl<K> Default for Entries<K> {
    fn default() -> Entries<K> {
        Entries {
            heap: Heap::default(),
            count: 0,
        }
    }
}

impl<K> Default for Deadlines<K> {
    fn default() -> Deadlines<K> {
        Deadlines {
            next: Instant::MAX,
            armed: None,
        }
    }
}

impl<K: Copy> Deadlines<K> {
    /// Makes sure that `key` comes up at `at` or earlier. Does nothing when it already does.
    // Asked at each segment and call; the arguments alone are half of what it costs.
    #[inline(always)]
    pub(crate) fn arm(&mut self, armed: &mut Armed, key: K, at: Instant) {
        if at < armed.at {
            self.arm_earlier(armed, key, at);
        }
    }

    #[inline(never)]
    fn arm_earlier(&mut self, armed: &mut Armed, key: K, at: Instant) {
        armed.at = at;
        let Entries { heap, count } = &mut **self.armed.get_or_insert_default();
        *count += 1;
        let order = Pair(at.as_nanos(), *count);
        if !heap.change(armed.entry, order) {
            armed.entry = heap.push(order, key);
        }
        self.note_next();
    }

    /// When the next entry comes up.
    #[inline]
    pub(crate) fn next(&self) -> Option<Instant> {
        (self.next != Instant::MAX).then_some(self.next)
    }

    fn note_next(&mut self) {
        let next = self.armed.as_ref().and_then(|entries| entries.heap.next());
        self.next = next.map_or(Instant::MAX, |Pair(at, _)| Instant::from_nanos(at));
    }

    /// Removes and returns the next key whose entry is due at `now`. The caller resolves the key
    /// (it may be stale), calls [`Deadlines::disarm`] on its [`Armed`], acts on what is really due,
    /// and arms it again.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<(Instant, K)> {
        if self.next > now {
            return None;
        }
        let (Pair(at, _), key) = self.armed.as_mut()?.heap.pop()?;
        self.note_next();
        Some((Instant::from_nanos(at), key))
    }

    /// Notes that the entry popped at `at` has been removed; returns whether it was this owner's.
    pub(crate) fn disarm(armed: &mut Armed, at: Instant) -> bool {
        let its_own = armed.at == at;
        if its_own {
            *armed = Armed::default();
        }
        its_own
    }

    /// Removes the entry of an owner that is removed or no longer has a deadline.
    pub(crate) fn forget(&mut self, armed: &mut Armed) {
        if let Some(entries) = &mut self.armed {
            entries.heap.remove(armed.entry);
            self.note_next();
        }
        *armed = Armed::default();
    }

    /// The number of entries, at most one per owner.
    pub(crate) fn len(&self) -> usize {
        self.armed.as_ref().map_or(0, |entries| entries.heap.len())
    }

    /// True when nothing will come up.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Removes every entry and releases the memory. For use when the owners are gone: what they
    /// have in their [`Armed`] could match other owners' entries.
    pub(crate) fn reset(&mut self) {
        *self = Deadlines::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_may_be_early_but_never_late() {
        let mut d = Deadlines::default();
        let mut armed = Armed::default();
        let t = Instant::from_nanos;
        d.arm(&mut armed, 'a', t(50));
        d.arm(&mut armed, 'a', t(90)); // later: the entry at 50 stands
        assert_eq!((d.len(), d.next()), (1, Some(t(50))));
        d.arm(&mut armed, 'a', t(20)); // earlier: it moves
        assert_eq!((d.len(), d.next()), (1, Some(t(20))));
        assert_eq!(d.pop_due(t(30)), Some((t(20), 'a')));
        assert!(Deadlines::<char>::disarm(&mut armed, t(20)));
        d.arm(&mut armed, 'a', t(90));
        assert_eq!(d.pop_due(t(60)), None);
        assert_eq!((d.len(), d.next()), (1, Some(t(90))));
    }

    /// A distant deadline that is armed again each time a near one has come up leaves nothing
    /// behind.
    #[test]
    fn there_are_as_many_entries_as_owners() {
        let mut d = Deadlines::default();
        let mut owners = [Armed::default(); 3];
        let t = Instant::from_nanos;
        for round in 0..1000 {
            for (key, armed) in owners.iter_mut().enumerate() {
                d.arm(armed, key, t(1_000_000));
                d.arm(armed, key, t(round));
            }
            assert_eq!(d.len(), owners.len());
            while let Some((at, key)) = d.pop_due(t(round)) {
                assert!(Deadlines::<usize>::disarm(&mut owners[key], at));
            }
            assert!(d.is_empty());
        }
        for (key, armed) in owners.iter_mut().enumerate() {
            d.arm(armed, key, t(1_000_000));
        }
        // Who goes takes the entry along, whoever has got a place in the heap since.
        let mut stale = owners[0];
        d.forget(&mut owners[0]);
        d.forget(&mut owners[0]);
        let mut other = Armed::default();
        d.arm(&mut other, 9, t(1_000_000));
        d.forget(&mut stale);
        assert_eq!((d.len(), owners[0]), (3, Armed::default()));
    }
}

//! Deadlines as data: a heap of (time, key) that is corrected lazily.
//!
//! A TCP retransmission deadline moves with every acknowledgement, nearly always later. Moving a
//! heap entry each time would cost more than the timer is worth, so an entry may be *early*:
//! when it comes up, the owner compares it with the real deadline and arms it again. What the
//! owner must do is call [`Deadlines::arm`] when its deadline moves *earlier*; it remembers the
//! armed time in an [`Armed`] beside the deadline itself.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::time::Instant;

/// When an owner's heap entry comes up; lives beside the owner's real deadlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Armed(Instant);

impl Default for Armed {
    fn default() -> Armed {
        Armed(Instant::MAX)
    }
}

/// The deadlines of many owners. Ties in time come up in the order they were armed.
#[derive(Debug)]
pub struct Deadlines<K> {
    heap: BinaryHeap<Reverse<Entry<K>>>,
    armed_count: u64,
}

impl<K> Default for Deadlines<K> {
    fn default() -> Deadlines<K> {
        Deadlines {
            heap: BinaryHeap::new(),
            armed_count: 0,
        }
    }
}

impl<K: Copy> Deadlines<K> {
    /// Makes sure that `key` comes up at `at` or before. Does nothing when it already does.
    pub fn arm(&mut self, armed: &mut Armed, key: K, at: Instant) {
        if at >= armed.0 {
            return;
        }
        armed.0 = at;
        self.armed_count += 1;
        self.heap.push(Reverse(Entry {
            at,
            order: self.armed_count,
            key,
        }));
    }

    /// When the next entry comes up.
    pub fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse(e)| e.at)
    }

    /// The next key whose entry is due at `now`. The caller resolves the key (it may be stale),
    /// calls [`Deadlines::disarm`] on its [`Armed`], acts on what is really due, and arms it again.
    pub fn pop_due(&mut self, now: Instant) -> Option<(Instant, K)> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(e)| (e.at, e.key))
    }

    /// Notes that the entry popped at `at` is gone. An entry that a later, earlier `arm` had
    /// already replaced leaves the newer one standing; returns whether this was the live one.
    pub fn disarm(armed: &mut Armed, at: Instant) -> bool {
        let live = armed.0 == at;
        if live {
            armed.0 = Instant::MAX;
        }
        live
    }

    /// Entries in the heap, stale ones included.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// True when nothing will come up.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// Forgets every entry and gives the memory back.
    pub fn reset(&mut self) {
        self.heap = BinaryHeap::new();
    }
}

#[derive(Debug)]
struct Entry<K> {
    at: Instant,
    order: u64,
    key: K,
}

impl<K> PartialEq for Entry<K> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}
impl<K> Eq for Entry<K> {}
impl<K> PartialOrd for Entry<K> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<K> Ord for Entry<K> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
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
        assert_eq!(d.len(), 1);
        d.arm(&mut armed, 'a', t(20)); // earlier: a second entry
        assert_eq!(d.next(), Some(t(20)));
        assert_eq!(d.pop_due(t(30)), Some((t(20), 'a')));
        assert!(Deadlines::<char>::disarm(&mut armed, t(20)));
        d.arm(&mut armed, 'a', t(90));
        // The entry at 50 is a leftover: it comes up and is recognised as not the live one.
        assert_eq!(d.pop_due(t(60)), Some((t(50), 'a')));
        assert!(!Deadlines::<char>::disarm(&mut armed, t(50)));
        assert_eq!(d.pop_due(t(60)), None);
        assert_eq!(d.next(), Some(t(90)));
    }
}

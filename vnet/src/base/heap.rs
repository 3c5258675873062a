//! A heap whose entries can be moved and removed: the ticket that was given for an entry says where
//! it is. So it contains no obsolete entries.
//!
//! It knows nothing of time; [`deadline`](super::deadline) and the drivers' agendas are built on
//! it.

use std::cmp::Ordering;

use slotmap::{DefaultKey, SlotMap};

/// How many children an entry has. With four there are half as many levels as with two, and each that an entry passes
/// is written twice.
const ARITY: usize = 4;

/// Identifies an entry. A stale ticket finds nothing, never a different entry.
pub(crate) type Ticket = DefaultKey;

/// Entries ordered by key, the least first. An empty one owns no memory.
#[derive(Debug)]
pub(crate) struct Heap<K, V> {
    /// Each entry is at least its parent: that of the entry at `n` is at `(n - 1) / ARITY`.
    order: Vec<(K, Ticket)>,
    /// An entry's place in `order`, and its value.
    entries: Option<SlotMap<Ticket, (usize, V)>>,
}

/// A key of two numbers, of which the first counts more. They are compared as one number, without a branch: a
/// processor could not foretell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pair(pub(crate) u64, pub(crate) u64);

impl Pair {
    #[inline(always)]
    fn wide(self) -> u128 {
        (u128::from(self.0) << 64) | u128::from(self.1)
    }
}

impl PartialOrd for Pair {
    #[inline(always)]
    fn partial_cmp(&self, other: &Pair) -> Option<Ordering> {
        Some(self.cmp(other))
    }

    #[inline(always)]
    fn lt(&self, other: &Pair) -> bool {
        self.wide() < other.wide()
    }

    #[inline(always)]
    fn le(&self, other: &Pair) -> bool {
        self.wide() <= other.wide()
    }
}

impl Ord for Pair {
    #[inline(always)]
    fn cmp(&self, other: &Pair) -> Ordering {
        self.wide().cmp(&other.wide())
    }
}

impl<K, V> Default for Heap<K, V> {
    fn default() -> Heap<K, V> {
        Heap {
            order: Vec::new(),
            entries: None,
        }
    }
}

impl<K: Ord + Copy, V> Heap<K, V> {
    /// Adds an entry.
    #[inline]
    pub(crate) fn push(&mut self, key: K, value: V) -> Ticket {
        let place = self.order.len();
        let entries = self.entries.get_or_insert_with(SlotMap::new);
        let ticket = entries.insert((place, value));
        self.order.push((key, ticket));
        self.rise(place);
        ticket
    }

    /// Gives an entry another key. Returns false when the entry no longer exists.
    pub(crate) fn change(&mut self, ticket: Ticket, key: K) -> bool {
        let Some(place) = self.place(ticket) else {
            return false;
        };
        let later = self.order[place].0 < key;
        self.order[place].0 = key;
        match later {
            true => self.sink(place),
            false => self.rise(place),
        }
        true
    }

    /// Removes an entry.
    pub(crate) fn remove(&mut self, ticket: Ticket) -> Option<(K, V)> {
        let place = self.place(ticket)?;
        let (key, _) = self.order.swap_remove(place);
        let (_, value) = self.entries.as_mut()?.remove(ticket)?;
        if place < self.order.len() {
            // The entry that was last is in its place, and may belong above or below it.
            match self.is_too_low(place) {
                true => self.rise_from(place),
                false => self.sink(place),
            }
        }
        Some((key, value))
    }

    /// The least key.
    #[inline]
    pub(crate) fn next(&self) -> Option<K> {
        self.order.first().map(|(key, _)| *key)
    }

    /// The entry of the least key.
    #[inline]
    pub(crate) fn first(&self) -> Option<(Ticket, &V)> {
        let (_, ticket) = *self.order.first()?;
        Some((ticket, &self.entries.as_ref()?.get(ticket)?.1))
    }

    /// Removes the entry of the least key.
    pub(crate) fn pop(&mut self) -> Option<(K, V)> {
        let (_, first) = *self.order.first()?;
        self.remove(first)
    }

    /// The key of an entry.
    #[cfg(test)]
    pub(crate) fn key(&self, ticket: Ticket) -> Option<K> {
        Some(self.order[self.place(ticket)?].0)
    }

    /// The number of entries.
    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    /// Releases the memory of removed entries. Tickets of removed entries still find nothing, even
    /// among later entries.
    pub(crate) fn shrink(&mut self) {
        self.order.shrink_to_fit();
    }

    /// True when there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Keys and values, in no meaningful order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (K, &V)> {
        let entries = self.entries.as_ref();
        let value = move |ticket| entries.and_then(|e| e.get(ticket)).map(|(_, value)| value);
        self.order
            .iter()
            .filter_map(move |(key, ticket)| Some((*key, value(*ticket)?)))
    }

    /// Removes every entry that `keep` rejects, and returns them.
    #[must_use]
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&V) -> bool) -> Vec<V> {
        let entries = self.entries.iter();
        let refused: Vec<Ticket> = entries
            .flat_map(SlotMap::iter)
            .filter(|(_, (_, value))| !keep(value))
            .map(|(ticket, _)| ticket)
            .collect();
        let taken = refused.into_iter().filter_map(|ticket| self.remove(ticket));
        taken.map(|(_, value)| value).collect()
    }

    #[inline]
    fn place(&self, ticket: Ticket) -> Option<usize> {
        Some(self.entries.as_ref()?.get(ticket)?.0)
    }

    /// Moves the entry at `place` towards the first until it is in order.
    // The usual case is that it is in order.
    #[inline(always)]
    fn rise(&mut self, place: usize) {
        if self.is_too_low(place) {
            self.rise_from(place);
        }
    }

    /// True when the entry at `place` is less than its parent.
    #[inline(always)]
    fn is_too_low(&self, place: usize) -> bool {
        place > 0 && self.order[place].0 < self.order[(place - 1) / ARITY].0
    }

    /// Moves each entry that the one at `place` passes once, and that one at the end.
    #[inline(never)]
    fn rise_from(&mut self, place: usize) {
        let entry = self.order[place];
        let place = self.raise_hole(place, entry.0);
        self.put(place, entry);
    }

    /// Moves those down that are above `place` and greater than `key`; says where that leaves room.
    #[inline(always)]
    fn raise_hole(&mut self, mut place: usize, key: K) -> usize {
        while place > 0 {
            let parent = (place - 1) / ARITY;
            if self.order[parent].0 <= key {
                break;
            }
            self.put(place, self.order[parent]);
            place = parent;
        }
        place
    }

    /// As [`Heap::rise`], the other way. An entry that was the last one belongs far down mostly, so it is not compared
    /// with each that it passes, but put below all of them and raised from there.
    fn sink(&mut self, mut place: usize) {
        let entry = self.order[place];
        while let Some(child) = self.least_child(place) {
            self.put(place, self.order[child]);
            place = child;
        }
        let place = self.raise_hole(place, entry.0);
        self.put(place, entry);
    }

    /// Where the least child of a place is, if it has any.
    #[inline(always)]
    fn least_child(&self, place: usize) -> Option<usize> {
        // Without a branch if that can be: which one is less cannot be foretold.
        let lesser = |one: (usize, K), other: (usize, K)| if other.1 < one.1 { other } else { one };
        let left = ARITY * place + 1;
        let least = match self.order.get(left..)? {
            [a, b, c, d, ..] => {
                let (first, second) = (lesser((0, a.0), (1, b.0)), lesser((2, c.0), (3, d.0)));
                lesser(first, second)
            }
            [a, b, c] => lesser(lesser((0, a.0), (1, b.0)), (2, c.0)),
            [a, b] => lesser((0, a.0), (1, b.0)),
            [a] => (0, a.0),
            [] => return None,
        };
        Some(left + least.0)
    }

    /// Has an entry at `place`.
    #[inline(always)]
    fn put(&mut self, place: usize, entry: (K, Ticket)) {
        self.order[place] = entry;
        if let Some((noted, _)) = self.entries.as_mut().and_then(|e| e.get_mut(entry.1)) {
            *noted = place;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Act {
        Push(u8),
        Change(usize, u8),
        Remove(usize),
        Pop,
        Retain(u32),
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            4 => any::<u8>().prop_map(Act::Push),
            3 => (any::<usize>(), any::<u8>()).prop_map(|(n, key)| Act::Change(n, key)),
            2 => any::<usize>().prop_map(Act::Remove),
            2 => Just(Act::Pop),
            1 => (2u32..9).prop_map(Act::Retain),
        ]
    }

    proptest! {
        /// It does what a list does that is searched for its least entry.
        #[test]
        fn it_is_a_list_that_is_searched(acts in prop::collection::vec(act(), 0..300)) {
            let mut heap = Heap::default();
            let mut model: Vec<((u8, u32), Ticket, u32)> = Vec::new();
            let mut gone: Vec<Ticket> = Vec::new();
            for (n, act) in (0..).zip(acts) {
                match act {
                    Act::Push(key) => {
                        let ticket = heap.push((key, n), n);
                        model.push(((key, n), ticket, n));
                    }
                    Act::Change(which, key) if !model.is_empty() => {
                        let which = which % model.len();
                        model[which].0 = (key, n);
                        prop_assert!(heap.change(model[which].1, (key, n)));
                        prop_assert_eq!(heap.key(model[which].1), Some((key, n)));
                    }
                    Act::Remove(which) if !model.is_empty() => {
                        let (key, ticket, value) = model.remove(which % model.len());
                        prop_assert_eq!(heap.remove(ticket), Some((key, value)));
                        gone.push(ticket);
                    }
                    Act::Retain(every) => {
                        let refused = heap.retain(|n| n % every != 0);
                        let before = model.len();
                        model.retain(|(.., n)| n % every != 0);
                        prop_assert_eq!(refused.len(), before - model.len());
                    }
                    _ => {
                        let least = model.iter().copied().min();
                        model.retain(|e| Some(*e) != least);
                        let expected = least.map(|(key, _, value)| (key, value));
                        prop_assert_eq!(heap.next(), expected.map(|(key, _)| key));
                        prop_assert_eq!(heap.pop(), expected);
                    }
                }
                prop_assert_eq!(heap.len(), model.len());
                prop_assert_eq!(heap.iter().count(), model.len());
                for ticket in &gone {
                    prop_assert_eq!(heap.key(*ticket), None);
                    prop_assert!(heap.remove(*ticket).is_none());
                }
            }
            model.sort();
            for (key, _, value) in model {
                prop_assert_eq!(heap.pop(), Some((key, value)));
            }
            prop_assert!(heap.pop().is_none());
        }
    }
}

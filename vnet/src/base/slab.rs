//! Values under generational keys, like [`slotmap::SlotMap`], but an empty slab owns no memory: a
//! process may hold a hundred thousand vnets, most of whose tables are empty.

use slotmap::{Key, SlotMap};

/// A slot map that allocates only with its first value. Iteration is in slot order, which depends
/// on the order of insertions and removals only.
#[derive(Debug)]
pub(crate) struct Slab<K: Key, V>(Option<SlotMap<K, V>>);

impl<K: Key, V> Default for Slab<K, V> {
    fn default() -> Slab<K, V> {
        Slab(None)
    }
}

/// A slot map with room for one value: without it, the first one pays for three.
fn few<K: Key, V>() -> SlotMap<K, V> {
    SlotMap::with_capacity_and_key(1)
}

impl<K: Key, V> Slab<K, V> {
    /// Adds a value and returns its key.
    pub(crate) fn insert(&mut self, value: V) -> K {
        self.0.get_or_insert_with(few).insert(value)
    }

    /// Adds the value that `make` builds, given its key.
    pub(crate) fn insert_with_key(&mut self, make: impl FnOnce(K) -> V) -> K {
        self.0.get_or_insert_with(few).insert_with_key(make)
    }

    /// The value of `key`, unless it was removed.
    #[inline]
    pub(crate) fn get(&self, key: K) -> Option<&V> {
        self.0.as_ref()?.get(key)
    }

    /// The value of `key`, mutable.
    #[inline]
    pub(crate) fn get_mut(&mut self, key: K) -> Option<&mut V> {
        self.0.as_mut()?.get_mut(key)
    }

    /// Removes the value of `key`. The key never resolves again.
    pub(crate) fn remove(&mut self, key: K) -> Option<V> {
        self.0.as_mut()?.remove(key)
    }

    /// The number of values.
    pub(crate) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, SlotMap::len)
    }

    /// True when there are no values.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keys and values, in slot order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (K, &V)> {
        self.0.iter().flat_map(SlotMap::iter)
    }

    /// Removes every value, in slot order. Keys given out before never resolve again.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = (K, V)> {
        self.0.iter_mut().flat_map(SlotMap::drain)
    }

    /// Removes every value and releases the memory. A key given out before may resolve to a later
    /// value, so this is for the end of a table's life.
    pub(crate) fn reset(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use slotmap::DefaultKey;

    #[test]
    fn a_removed_key_stays_dead_when_its_slot_is_reused() {
        let mut slab: Slab<DefaultKey, &str> = Slab::default();
        assert_eq!((slab.len(), slab.get(DefaultKey::null())), (0, None));
        let a = slab.insert("a");
        assert_eq!(slab.remove(a), Some("a"));
        let b = slab.insert("b");
        assert_eq!((slab.get(a), slab.get(b)), (None, Some(&"b")));
        assert_eq!(slab.iter().count(), 1);
        assert_eq!(slab.drain().map(|(_, v)| v).collect::<Vec<_>>(), ["b"]);
        assert!(slab.is_empty());
    }
}

//! Elements by generational identifier. Unlike a bare slot map, an empty table has no memory.

use slotmap::{Key, SlotMap};

#[derive(Debug)]
pub(super) struct Table<K: Key, V>(Option<SlotMap<K, V>>);

impl<K: Key, V> Default for Table<K, V> {
    fn default() -> Table<K, V> {
        Table(None)
    }
}

impl<K: Key, V> Table<K, V> {
    pub(super) fn insert(&mut self, value: V) -> K {
        self.0.get_or_insert_with(SlotMap::with_key).insert(value)
    }

    #[inline]
    pub(super) fn get(&self, key: K) -> Option<&V> {
        self.0.as_ref()?.get(key)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, key: K) -> Option<&mut V> {
        self.0.as_mut()?.get_mut(key)
    }

    pub(super) fn remove(&mut self, key: K) -> Option<V> {
        self.0.as_mut()?.remove(key)
    }

    pub(super) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, SlotMap::len)
    }

    /// Every element, in the order of slots.
    pub(super) fn iter(&self) -> impl Iterator<Item = (K, &V)> {
        self.0.iter().flat_map(SlotMap::iter)
    }

    /// Removes every element, one by one. The slots stay, so that an identifier from before
    /// never resolves to something made later.
    pub(super) fn drain(&mut self) -> Vec<V> {
        self.0
            .iter_mut()
            .flat_map(|m| m.drain().map(|(_, v)| v))
            .collect()
    }
}

//! A hash map that cannot be iterated, so that nothing can come to depend on hash order.
//!
//! Code that needs to iterate over the elements keeps them in a slot map and uses this map as the
//! index.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};

use foldhash::fast::FixedState;
use hashbrown::HashTable;

/// A hash map without iteration. The seed comes from the vnet's random stream, so an outsider
/// cannot choose keys that collide.
#[derive(Debug, Clone)]
pub(crate) struct Map<K, V>(HashMap<K, V, FixedState>);

impl<K: Eq + Hash, V> Map<K, V> {
    /// An empty map; allocates nothing.
    pub(crate) fn seeded(seed: u64) -> Map<K, V> {
        Map(HashMap::with_hasher(FixedState::with_seed(seed)))
    }

    /// The value of `key`.
    #[inline]
    pub(crate) fn get<Q: ?Sized + Eq + Hash>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.0.get(key)
    }

    /// The value of `key`, mutable.
    #[inline]
    pub(crate) fn get_mut<Q: ?Sized + Eq + Hash>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.0.get_mut(key)
    }

    /// The value of `key`, created by `make` if there is none.
    pub(crate) fn get_or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        self.0.entry(key).or_insert_with(make)
    }

    /// True when `key` has a value.
    pub(crate) fn contains<Q: ?Sized + Eq + Hash>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.0.contains_key(key)
    }

    /// Sets the value of `key` and returns the one before.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.0.insert(key, value)
    }

    /// Removes `key` and returns its value.
    pub(crate) fn remove<Q: ?Sized + Eq + Hash>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.0.remove(key)
    }

    /// The number of keys.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// True when there are no keys.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Removes every key and releases the memory.
    pub(crate) fn reset(&mut self) {
        self.0.clear();
        self.0.shrink_to_fit();
    }
}

/// Says where what is kept elsewhere is, by a key that is kept only there: an entry is an identifier, and as many bits of
/// the key's hash as tell it from nearly all others. So what is looked up is looked at, and hardly anything else; and
/// when the index grows, nothing is.
#[derive(Debug, Clone)]
pub(crate) struct Index<I> {
    entries: HashTable<Entry<I>>,
    hasher: FixedState,
}

#[derive(Debug, Clone, Copy)]
struct Entry<I> {
    hash: u32,
    id: I,
}

impl<I: Copy + Eq> Index<I> {
    /// An empty index; allocates nothing.
    pub(crate) fn seeded(seed: u64) -> Index<I> {
        Index {
            entries: HashTable::new(),
            hasher: FixedState::with_seed(seed),
        }
    }

    #[inline]
    fn hash<K: Hash>(&self, key: &K) -> u32 {
        self.hasher.hash_one(key) as u32
    }

    /// What the table goes by: the lowest bits of it, and the highest ones.
    #[inline]
    fn spread(hash: u32) -> u64 {
        u64::from(hash) << 32 | u64::from(hash)
    }

    /// The identifier under `key` of which `is_it` says that it is that of the key.
    #[inline]
    pub(crate) fn get<K: Hash>(&self, key: &K, is_it: impl Fn(I) -> bool) -> Option<I> {
        let hash = self.hash(key);
        let found = self
            .entries
            .find(Self::spread(hash), |e| e.hash == hash && is_it(e.id));
        found.map(|e| e.id)
    }

    /// True when this identifier is under `key`.
    pub(crate) fn has<K: Hash>(&self, key: &K, id: I) -> bool {
        self.get(key, |known| known == id).is_some()
    }

    /// Puts an identifier under `key`, under which there must be none.
    pub(crate) fn insert<K: Hash>(&mut self, key: &K, id: I) {
        let hash = self.hash(key);
        let entry = Entry { hash, id };
        self.entries
            .insert_unique(Self::spread(hash), entry, |e| Self::spread(e.hash));
    }

    /// Removes an identifier that is under `key`; false when it is not.
    pub(crate) fn remove<K: Hash>(&mut self, key: &K, id: I) -> bool {
        let hash = self.hash(key);
        let is_it = |e: &Entry<I>| e.hash == hash && e.id == id;
        let entry = self.entries.find_entry(Self::spread(hash), is_it);
        entry.map(|entry| entry.remove()).is_ok()
    }

    /// The number of identifiers.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Removes everything and releases the memory.
    pub(crate) fn reset(&mut self) {
        self.entries = HashTable::new();
    }
}

/// What says by itself under which key it is kept.
pub(crate) trait Keyed {
    /// Its key.
    type Key: Copy + Eq + Hash;

    /// Its key; as long as it is kept, the same.
    fn key(&self) -> Self::Key;
}

/// A [`Map`] of values that have their key in them: for such as are laid out in memory with care, which the
/// pairs of a map are not.
#[derive(Debug, Clone)]
pub(crate) struct Table<V> {
    values: HashTable<V>,
    hasher: FixedState,
}

impl<V: Keyed> Table<V> {
    /// An empty table; allocates nothing.
    pub(crate) fn seeded(seed: u64) -> Table<V> {
        Table {
            values: HashTable::new(),
            hasher: FixedState::with_seed(seed),
        }
    }

    /// The value under `key`.
    #[inline]
    pub(crate) fn get(&self, key: V::Key) -> Option<&V> {
        let hash = self.hasher.hash_one(key);
        self.values.find(hash, |value| value.key() == key)
    }

    /// The value under `key`, mutable.
    #[inline]
    pub(crate) fn get_mut(&mut self, key: V::Key) -> Option<&mut V> {
        let hash = self.hasher.hash_one(key);
        self.values.find_mut(hash, |value| value.key() == key)
    }

    /// Keeps a value, in place of the one under its key.
    pub(crate) fn insert(&mut self, value: V) {
        let (key, hasher) = (value.key(), &self.hasher);
        let hash_of = |value: &V| hasher.hash_one(value.key());
        let hash = hasher.hash_one(key);
        let entry = self.values.entry(hash, |v| v.key() == key, hash_of);
        entry.insert(value);
    }

    /// Removes the value under `key` and returns it.
    pub(crate) fn remove(&mut self, key: V::Key) -> Option<V> {
        let hash = self.hasher.hash_one(key);
        let entry = self.values.find_entry(hash, |value| value.key() == key);
        Some(entry.ok()?.remove().0)
    }
}

//! A map in the order of its keys that costs little memory while it has few entries: a B-tree's first
//! entry pays for eleven, and a process may hold a hundred thousand vnets with one address or two.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::mem;

/// Entries up to which they are in a vector, unless a type says another number. Inserting into it moves all of them.
const FEW: usize = 32;
/// Entries up to which it takes less to look at one after the other than to search.
const VERY_FEW: usize = 8;

/// A sorted map. Lookups take logarithmic time, and so does every change of one with more than `MOST` entries.
#[derive(Clone, Debug)]
pub(crate) enum Sorted<K, V, const MOST: usize = FEW> {
    /// By key, with no room to spare.
    Few(Box<[(K, V)]>),
    /// It has been larger than `MOST`, and not empty since. In a box, so that one without entries is as small as can be.
    #[expect(
        clippy::box_collection,
        reason = "few have many entries, and all would have room for a tree"
    )]
    Many(Box<BTreeMap<K, V>>),
}

impl<K, V, const MOST: usize> Default for Sorted<K, V, MOST> {
    /// Empty, without memory.
    fn default() -> Sorted<K, V, MOST> {
        Sorted::Few(Box::default())
    }
}

impl<K: Ord, V, const MOST: usize> Sorted<K, V, MOST> {
    /// Inserts a value, in place of the one that the key has.
    pub(crate) fn insert(&mut self, key: K, value: V) {
        match self {
            Sorted::Few(few) => match few.binary_search_by(|(k, _)| k.cmp(&key)) {
                Ok(at) => few[at].1 = value,
                Err(at) if few.len() < MOST => {
                    let mut entries = mem::take(few).into_vec();
                    entries.reserve_exact(1);
                    entries.insert(at, (key, value));
                    *few = entries.into_boxed_slice();
                }
                Err(_) => {
                    let mut many: BTreeMap<K, V> = mem::take(few).into_iter().collect();
                    many.insert(key, value);
                    *self = Sorted::Many(Box::new(many));
                }
            },
            Sorted::Many(many) => {
                many.insert(key, value);
            }
        }
    }

    /// Removes the value of a key. A map that becomes empty gives its memory back.
    pub(crate) fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let removed = match self {
            Sorted::Few(few) => {
                let at = few.binary_search_by(|(k, _)| k.borrow().cmp(key)).ok()?;
                let mut entries = mem::take(few).into_vec();
                let (_, removed) = entries.remove(at);
                *few = entries.into_boxed_slice();
                Some(removed)
            }
            Sorted::Many(many) => many.remove(key),
        };
        if self.is_empty() {
            *self = Sorted::default();
        }
        removed
    }

    /// The value of a key.
    pub(crate) fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        match self {
            Sorted::Few(few) => {
                let at = few.binary_search_by(|(k, _)| k.borrow().cmp(key)).ok()?;
                Some(&few[at].1)
            }
            Sorted::Many(many) => many.get(key),
        }
    }

    /// The value of a key, to be changed.
    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        match self {
            Sorted::Few(few) => {
                let at = few.binary_search_by(|(k, _)| k.cmp(key)).ok()?;
                Some(&mut few[at].1)
            }
            Sorted::Many(many) => many.get_mut(key),
        }
    }

    /// Removes all entries for which `keep` is false, in the order of their keys.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        match self {
            Sorted::Few(few) => {
                let mut entries = mem::take(few).into_vec();
                entries.retain_mut(|(k, v)| keep(k, v));
                *few = entries.into_boxed_slice();
            }
            Sorted::Many(many) => many.retain(keep),
        }
        if self.is_empty() {
            *self = Sorted::default();
        }
    }

    /// The first entry whose key is not less than `key`. `is_less` says the same of a key as `< key`,
    /// which may take less than to compare all of both.
    #[inline]
    pub(crate) fn first_from(&self, key: &K, is_less: impl Fn(&K) -> bool) -> Option<(&K, &V)> {
        match self {
            Sorted::Few(few) => {
                let at = match few.len() <= VERY_FEW {
                    true => few.iter().take_while(|(k, _)| is_less(k)).count(),
                    false => few.partition_point(|(k, _)| is_less(k)),
                };
                few.get(at).map(|(k, v)| (k, v))
            }
            Sorted::Many(many) => many.range(key..).next(),
        }
    }

    /// Entries whose keys are not less than `key`, in order.
    pub(crate) fn from(&self, key: K) -> impl Iterator<Item = (&K, &V)> {
        let (few, many) = match self {
            Sorted::Few(few) => {
                let at = few.partition_point(|(k, _)| *k < key);
                (Some(&few[at..]), None)
            }
            Sorted::Many(many) => (None, Some(many.range(key..))),
        };
        let few = few.into_iter().flatten().map(|(k, v)| (k, v));
        few.chain(many.into_iter().flatten())
    }

    /// All entries, in the order of their keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let (few, many) = match self {
            Sorted::Few(few) => (Some(few), None),
            Sorted::Many(many) => (None, Some(many.iter())),
        };
        let few = few.into_iter().flatten().map(|(k, v)| (k, v));
        few.chain(many.into_iter().flatten())
    }

    /// The values, in the order of their keys.
    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, v)| v)
    }

    /// The same, to be changed.
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        let (few, many) = match self {
            Sorted::Few(few) => (Some(few), None),
            Sorted::Many(many) => (None, Some(many.values_mut())),
        };
        let few = few.into_iter().flatten().map(|(_, v)| v);
        few.chain(many.into_iter().flatten())
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        match self {
            Sorted::Few(few) => few.len(),
            Sorted::Many(many) => many.len(),
        }
    }

    /// True when there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn behaves_as_a_tree(acts in prop::collection::vec((0..80u8, any::<bool>()), 0..400)) {
            let (mut sorted, mut tree) = (Sorted::<u8, usize>::default(), BTreeMap::new());
            for (n, (key, is_in)) in acts.into_iter().enumerate() {
                match is_in {
                    true => {
                        sorted.insert(key, n);
                        tree.insert(key, n);
                    }
                    false => prop_assert_eq!(sorted.remove(&key), tree.remove(&key)),
                }
                prop_assert_eq!(sorted.len(), tree.len());
                prop_assert!(sorted.from(key).eq(tree.range(key..)));
                prop_assert_eq!(sorted.first_from(&key, |k| *k < key), tree.range(key..).next());
                prop_assert!(sorted.values().eq(tree.values()));
                prop_assert_eq!(sorted.get(&key), tree.get(&key));
                prop_assert_eq!(sorted.get_mut(&key), tree.get_mut(&key));
                if key == 79 {
                    sorted.retain(|k, v| (usize::from(*k) + *v) % 3 > 0);
                    tree.retain(|k, v| (usize::from(*k) + *v) % 3 > 0);
                    prop_assert!(sorted.iter().eq(tree.iter()));
                }
            }
        }
    }

    /// None takes two words, whatever its entries are.
    const _: () = assert!(size_of::<Sorted<u64, [u64; 8]>>() == 16);

    #[test]
    fn one_entry_takes_the_memory_of_one() {
        let mut sorted = Sorted::<i32, char>::default();
        sorted.insert(1, 'a');
        let Sorted::Few(few) = &sorted else {
            panic!("there is but one");
        };
        assert_eq!(few.len(), 1);
        assert_eq!(sorted.remove(&1), Some('a'));
        assert!(matches!(&sorted, Sorted::Few(few) if few.is_empty()));
    }
}

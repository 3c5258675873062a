//! The routes of a table by prefix: a list in order while they are few, a trie once they are many. Lookups in a
//! long list have another form ([`flat`](crate::ip::flat)), so what counts is that a list takes no more memory than its
//! routes: networks of a thousand routers have hundreds of routes in each of them.

use std::ops::Range;

use prefix_trie::{Prefix, PrefixMap};
use smallvec::{SmallVec, smallvec};

use super::entry::Route;
use crate::ip::family::Family;

/// Routes up to which they are in a list, of which a change moves half. Fewer in tests, which try both.
const FEW: usize = if cfg!(test) { 10 } else { 1024 };
/// Routes up to which it takes less to look at one after the other than to search.
const VERY_FEW: usize = if cfg!(test) { 4 } else { 8 };

/// The routes to one prefix, in a trie.
type List<F> = SmallVec<[Route<F>; 1]>;
type Trie<F> = PrefixMap<<F as Family>::Net, List<F>>;

/// Routes by prefix and then by metric.
pub(super) enum Table<F: Family> {
    /// In order: what is around a prefix is before it.
    Few(Vec<Route<F>>),
    /// There have been more than [`FEW`], and at least one since. No list is empty.
    Many(Box<Trie<F>>),
}

impl<F: Family> Default for Table<F> {
    /// Empty, without memory.
    fn default() -> Table<F> {
        Table::Few(Vec::new())
    }
}

/// Where the routes of a list to a prefix are.
#[inline]
fn same<F: Family>(few: &[Route<F>], net: F::Net) -> Range<usize> {
    let begin = match few.len() <= VERY_FEW {
        true => few.iter().take_while(|route| route.dst < net).count(),
        false => few.partition_point(|route| route.dst < net),
    };
    let same = few[begin..].iter().take_while(|route| route.dst == net);
    begin..begin + same.count()
}

/// The routes of a list to the longest prefix that `net` is in, itself included.
fn longest_around<F: Family>(few: &[Route<F>], mut net: F::Net) -> Option<&[Route<F>]> {
    loop {
        // All that are around it are before what comes behind it, and the longest one is the last of these, unless that
        // is beside it.
        let behind = few.partition_point(|route| route.dst <= net);
        let last = few.get(behind.checked_sub(1)?)?.dst;
        let common = common::<F>(last, net);
        if common == last {
            return Some(&few[same(few, last)]);
        }
        net = common;
    }
}

/// The longest prefix that two are in.
fn common<F: Family>(one: F::Net, other: F::Net) -> F::Net {
    let same = F::shared_bits(F::addr(one), F::addr(other));
    let len = F::prefix_len(one).min(F::prefix_len(other)).min(same);
    cut::<F>(one, len)
}

/// The first bits of a prefix.
fn cut<F: Family>(net: F::Net, len: u8) -> F::Net {
    F::trunc(F::Net::from_repr_len(net.repr(), len))
}

impl<F: Family> Table<F> {
    /// The routes to a prefix.
    pub(super) fn get(&self, net: F::Net) -> &[Route<F>] {
        match self {
            Table::Few(few) => &few[same(few, net)],
            Table::Many(many) => many.get(&net).map_or(&[], |list| list),
        }
    }

    /// The same, to be changed but for where they lead; they have to be in order again afterwards.
    pub(super) fn get_mut(&mut self, net: F::Net) -> &mut [Route<F>] {
        match self {
            Table::Few(few) => {
                let same = same(few, net);
                &mut few[same]
            }
            Table::Many(many) => many.get_mut(&net).map_or(&mut [], |list| list),
        }
    }

    /// Adds a route, of which there is none with its prefix and metric.
    pub(super) fn insert(&mut self, route: Route<F>) {
        let key = |route: &Route<F>| (route.dst, route.metric);
        match self {
            Table::Few(few) if few.len() < FEW => {
                if few.len() == few.capacity() {
                    few.reserve_exact(1 + few.len() / 16);
                }
                let at = few.partition_point(|other| key(other) < key(&route));
                few.insert(at, route);
            }
            Table::Few(few) => {
                let mut many = Trie::<F>::default();
                for other in std::mem::take(few).into_iter().chain([route]) {
                    insert_into(&mut many, other);
                }
                *self = Table::Many(Box::new(many));
            }
            Table::Many(many) => insert_into(many, route),
        }
    }

    /// Removes the route with this prefix and metric.
    pub(super) fn remove(&mut self, net: F::Net, metric: u32) -> Option<Route<F>> {
        match self {
            Table::Few(few) => {
                let at = same(few, net).find(|at| few[*at].metric == metric)?;
                Some(few.remove(at))
            }
            Table::Many(many) => {
                let list = many.get_mut(&net)?;
                let nth = list.iter().position(|route| route.metric == metric)?;
                let removed = list.remove(nth);
                if list.is_empty() {
                    many.remove(&net);
                }
                Some(removed)
            }
        }
    }

    /// Removes the routes that `keep` rejects, and returns their prefixes.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&Route<F>) -> bool) -> Vec<F::Net> {
        let mut changed = Vec::new();
        let mut keep = |route: &Route<F>| {
            let is_kept = keep(route);
            if !is_kept && changed.last() != Some(&route.dst) {
                changed.push(route.dst);
            }
            is_kept
        };
        match self {
            Table::Few(few) => few.retain(keep),
            Table::Many(many) => {
                for (_, list) in many.iter_mut() {
                    list.retain(|route| keep(route));
                }
                many.retain(|_, list| !list.is_empty());
            }
        }
        changed
    }

    /// All prefixes, in order, each with the routes to it.
    pub(super) fn iter(&self) -> impl Iterator<Item = (F::Net, &[Route<F>])> {
        let (few, many) = match self {
            Table::Few(few) => (&few[..], None),
            Table::Many(many) => (&[][..], Some(many)),
        };
        let few = few.chunk_by(|a, b| a.dst == b.dst);
        let many = many.into_iter().flat_map(|many| many.values());
        let groups = few.chain(many.map(|list| &list[..]));
        groups.filter_map(|group| Some((group.first()?.dst, group)))
    }

    /// The prefixes that `net` is in, itself included, the shortest first.
    pub(super) fn cover(&self, net: F::Net) -> impl Iterator<Item = (F::Net, &[Route<F>])> {
        let mut around: SmallVec<[&[Route<F>]; 4]> = smallvec![];
        match self {
            Table::Few(few) => {
                let mut next = Some(net);
                while let Some(group) = next.and_then(|net| longest_around(few, net)) {
                    around.push(group);
                    let longest = group[0].dst;
                    let shorter = F::prefix_len(longest).checked_sub(1);
                    next = shorter.map(|len| cut::<F>(longest, len));
                }
                around.reverse();
            }
            Table::Many(many) => around.extend(many.cover(&net).map(|(_, list)| &list[..])),
        }
        around.into_iter().map(|group| (group[0].dst, group))
    }

    /// The routes to the longest prefix that an address is in.
    pub(super) fn longest(&self, addr: F::Addr) -> Option<&[Route<F>]> {
        let host = F::host(addr);
        match self {
            Table::Few(few) => longest_around(few, host),
            Table::Many(many) => many.get_lpm(&host).map(|(_, list)| &list[..]),
        }
    }

    /// Whether there are longer prefixes in `net`.
    pub(super) fn has_longer(&self, net: F::Net) -> bool {
        let is_longer = |n: F::Net| F::prefix_len(n) > F::prefix_len(net);
        match self {
            // What is in it follows it.
            Table::Few(few) => {
                let behind = few.partition_point(|route| route.dst <= net);
                let next = few.get(behind);
                next.is_some_and(|r| is_longer(r.dst) && F::contains(net, F::addr(r.dst)))
            }
            // The first of them may be the prefix itself.
            Table::Many(many) => many.children(&net).take(2).any(|(n, _)| is_longer(n)),
        }
    }
}

fn insert_into<F: Family>(trie: &mut Trie<F>, route: Route<F>) {
    match trie.get_mut(&route.dst) {
        None => {
            trie.insert(route.dst, smallvec![route]);
        }
        Some(list) => {
            let at = list.partition_point(|other| other.metric < route.metric);
            list.insert(at, route);
        }
    }
}

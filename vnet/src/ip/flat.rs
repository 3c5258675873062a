//! The forwarding table as ranges of addresses, for tables so large that a walk through their tree would wait for memory
//! at every step.
//!
//! All prefixes together cut the addresses into ranges with one answer each. Their first addresses are sorted, in a
//! tree of blocks of sixteen, of which a lookup reads one on each level: five levels for a million routes. It is built
//! from the table when that has been asked often enough since its last change to be worth it, so it costs a constant
//! time for each lookup, and a table that changes all the time goes without. An answer is never out of date, because it
//! is known for one generation of the table only.

use std::collections::BTreeMap;

use super::family::Family;
use super::fib::{NextHop, RouteHit};
use crate::base::id::IfId;

/// The fewest routes for which ranges are worth their memory.
pub(super) const MIN_ROUTES: usize = if cfg!(test) { 2 } else { 256 };

/// Of how many routes one lookup by the table pays for.
const ROUTES_PER_LOOKUP: usize = 8;

/// Keys of a block.
const BLOCK: usize = 16;

/// What a range leads to, by its number; [`NOWHERE`] and [`ASK`] have a meaning of their own.
type Answer = u32;

/// No route leads there.
pub(super) const NOWHERE: Answer = 0;
/// Prefixes longer than a key are there: the table knows.
const ASK: Answer = Answer::MAX;

/// The ranges of one generation of a table, or how often it has been asked without them.
pub(super) struct Flat<F: Family> {
    generation: u64,
    asked: usize,
    ranges: Option<Box<Ranges<F>>>,
}

struct Ranges<F: Family> {
    /// From the root to the level above the leaves. The key at `n` of a block is the first of the child `n + 1`.
    levels: Vec<Vec<[u64; BLOCK]>>,
    leaves: Vec<Leaf>,
    hits: Vec<Option<RouteHit<F>>>,
}

/// The first keys of ranges and where these lead. What is left over repeats the last one.
#[derive(Clone, Copy)]
struct Leaf {
    keys: [u64; BLOCK],
    answers: [Answer; BLOCK],
}

impl<F: Family> Default for Flat<F> {
    /// Of no generation; allocates nothing.
    fn default() -> Flat<F> {
        Flat {
            generation: 0,
            asked: 0,
            ranges: None,
        }
    }
}

impl<F: Family> Flat<F> {
    /// True when the ranges of this generation are there. Those of an earlier one are forgotten.
    #[inline]
    pub(super) fn is_ready(&mut self, generation: u64) -> bool {
        if self.generation != generation {
            *self = Flat {
                generation,
                ..Flat::default()
            };
        }
        self.ranges.is_some()
    }

    /// Counts a lookup without ranges; true when that was the last one that a table of so many routes needs.
    pub(super) fn is_due(&mut self, routes: usize) -> bool {
        self.asked += 1;
        self.asked >= routes / ROUTES_PER_LOOKUP
    }

    pub(super) fn set(&mut self, builder: Builder<F>) {
        self.ranges = Some(Box::new(builder.finish()));
    }

    /// What is known of an address: `None` when the table has to be asked.
    #[inline]
    pub(super) fn find(&self, dst: F::Addr) -> Option<Option<RouteHit<F>>> {
        let ranges = self.ranges.as_ref()?;
        match ranges.answer(F::key(dst)) {
            ASK => None,
            answer => Some(ranges.hits[answer as usize]),
        }
    }
}

impl<F: Family> Ranges<F> {
    #[inline]
    fn answer(&self, key: u64) -> Answer {
        let mut block = 0;
        for level in &self.levels {
            // Only what is left over in the last blocks can lead beyond them.
            let keys = &level[block.min(level.len() - 1)];
            block = block * (BLOCK + 1) + not_above(keys, key);
        }
        let leaf = &self.leaves[block.min(self.leaves.len() - 1)];
        // The first range begins at zero, so one of them is not above.
        leaf.answers[not_above(&leaf.keys, key).saturating_sub(1)]
    }
}

/// How many keys of a block are not above `key`, without a branch for any.
#[inline]
fn not_above(keys: &[u64; BLOCK], key: u64) -> usize {
    keys.iter().map(|k| usize::from(*k <= key)).sum()
}

/// What differs between hits, so that equal ones have one number.
type Order<F> = (IfId, Option<<F as Family>::Addr>, u8, u8);

/// Makes ranges of prefixes that come in their order, each before those within it.
pub(super) struct Builder<F: Family> {
    /// Where ranges begin, and what they lead to.
    starts: Vec<(u64, Answer)>,
    /// The prefixes around the next one: their last key, and what they lead to.
    around: Vec<(u64, Answer)>,
    hits: Vec<Option<RouteHit<F>>>,
    numbers: BTreeMap<Order<F>, Answer>,
}

impl<F: Family> Builder<F> {
    pub(super) fn new() -> Builder<F> {
        Builder {
            starts: vec![(0, NOWHERE)],
            around: vec![(u64::MAX, NOWHERE)],
            hits: vec![None],
            numbers: BTreeMap::new(),
        }
    }

    /// Adds a prefix. `choose` is given what leads to the addresses around it, for those that have nothing else.
    pub(super) fn add(&mut self, net: F::Net, choose: impl FnOnce() -> Choice<F>) {
        let first = F::key(F::addr(F::trunc(net)));
        let len = F::prefix_len(net).min(F::KEY_BITS);
        let size = (F::KEY_BITS - len) as u32;
        let last = first | 1u64.checked_shl(size).map_or(u64::MAX, |n| n - 1);
        self.leave(first);
        let answer = match choose() {
            _ if F::prefix_len(net) > F::KEY_BITS => ASK,
            Choice::Hit(hit) => self.number(hit),
            Choice::Nowhere => NOWHERE,
            Choice::AsAround => self.around.last().map_or(NOWHERE, |(_, answer)| *answer),
        };
        self.start(first, answer);
        self.around.push((last, answer));
    }

    fn number(&mut self, hit: RouteHit<F>) -> Answer {
        let gateway = match hit.next_hop {
            NextHop::Direct => None,
            NextHop::Gateway(gateway) => Some(gateway),
        };
        let order = (hit.ifid, gateway, hit.origin as u8, hit.kind as u8);
        *self.numbers.entry(order).or_insert_with(|| {
            self.hits.push(Some(hit));
            (self.hits.len() - 1) as Answer
        })
    }

    /// Leaves the prefixes that end before `key`.
    fn leave(&mut self, key: u64) {
        while let [.., (_, outer), (last, _)] = self.around[..]
            && last < key
        {
            self.around.pop();
            self.start(last + 1, outer);
        }
    }

    fn start(&mut self, key: u64, answer: Answer) {
        if self.starts.last().is_some_and(|(at, _)| *at == key) {
            self.starts.pop();
        }
        if self
            .starts
            .last()
            .is_none_or(|(_, before)| *before != answer)
        {
            self.starts.push((key, answer));
        }
    }

    fn finish(mut self) -> Ranges<F> {
        self.leave(u64::MAX);
        let leaf = |starts: &[(u64, Answer)]| {
            let at = |n: usize| starts[n.min(starts.len() - 1)];
            Leaf {
                keys: std::array::from_fn(|n| starts.get(n).map_or(u64::MAX, |(key, _)| *key)),
                answers: std::array::from_fn(|n| at(n).1),
            }
        };
        let leaves: Vec<Leaf> = self.starts.chunks(BLOCK).map(leaf).collect();
        let mut firsts: Vec<u64> = leaves.iter().map(|leaf| leaf.keys[0]).collect();
        let mut levels = Vec::new();
        while firsts.len() > 1 {
            let above = firsts.chunks(BLOCK + 1);
            let keys = |children: &[u64]| {
                std::array::from_fn(|n| children.get(n + 1).copied().unwrap_or(u64::MAX))
            };
            levels.push(above.clone().map(keys).collect());
            firsts = above.map(|children| children[0]).collect();
        }
        levels.reverse();
        Ranges {
            levels,
            leaves,
            hits: self.hits,
        }
    }
}

/// What the routes of one prefix make of the addresses in it.
pub(super) enum Choice<F: Family> {
    /// One of them is taken.
    Hit(RouteHit<F>),
    /// None is in use, and no other may be taken.
    Nowhere,
    /// None is in use.
    AsAround,
}

#[cfg(test)]
mod tests {
    use super::super::fib::{Fib, Origin, Route};
    use super::*;
    use crate::base::rng::Rng;
    use crate::ip::family::testing::Drawn;
    use crate::ip::family::{V4, V6};
    use crate::ip::testing::interfaces;

    /// Enough routes for several levels of blocks, nested and side by side: the ranges say what the table says.
    fn agree_on_a_large_table<F: Drawn>() {
        let ifids = interfaces();
        let mut fib = Fib::<F>::new();
        let mut rng = Rng::seeded(7);
        let draw = |rng: &mut Rng| rng.below(u32::MAX) & 0xff3f_ffc3;
        for n in 0..20_000u32 {
            let len = [1, 8, 13, 16, 20, 22, 24, 24, 24, 28, 32][rng.below(11) as usize];
            let gateway = NextHop::Gateway(F::addr_of(1 + n % 7));
            let (net, ifid) = (
                F::net_of(draw(&mut rng), len),
                ifids[n as usize % ifids.len()],
            );
            // Some are there already.
            let _ = fib.add(Route::new(net, gateway, ifid, Origin::Static));
        }
        assert!(fib.len() > 10_000);
        let mut found = 0;
        for _ in 0..50_000 {
            let dst = F::addr_of(draw(&mut rng));
            let by_table = fib.route(dst).map(|r| (r.ifid, r.next_hop));
            let by_ranges = fib.lookup(dst).map(|hit| (hit.ifid, hit.next_hop));
            assert_eq!(by_table, by_ranges, "{dst}");
            found += usize::from(by_table.is_some());
        }
        assert!(found > 1000);
    }

    #[test]
    fn ranges_agree_with_the_table() {
        agree_on_a_large_table::<V4>();
        agree_on_a_large_table::<V6>();
    }

    #[test]
    fn the_first_and_the_last_address_are_in_a_range() {
        let ifids = interfaces();
        let mut fib = Fib::<V4>::new();
        for (n, net) in ["0.0.0.0/32", "255.255.255.255/32", "128.0.0.0/1"]
            .iter()
            .enumerate()
        {
            let net = net.parse().expect("a prefix");
            let gateway = NextHop::Gateway(std::net::Ipv4Addr::new(192, 0, 2, n as u8));
            let route = Route::new(net, gateway, ifids[0], Origin::Static);
            fib.add(route).expect("it is new");
        }
        let mut by = |dst: &str| {
            fib.lookup(dst.parse().expect("an address"))
                .map(|hit| hit.next_hop)
        };
        let gateway = |n| Some(NextHop::Gateway(std::net::Ipv4Addr::new(192, 0, 2, n)));
        assert_eq!(by("0.0.0.0"), gateway(0));
        assert_eq!(by("0.0.0.1"), None);
        assert_eq!(by("127.255.255.255"), None);
        assert_eq!(by("128.0.0.0"), gateway(2));
        assert_eq!(by("255.255.255.254"), gateway(2));
        assert_eq!(by("255.255.255.255"), gateway(1));
    }

    /// What costs much is done only when many lookups share it, and is forgotten with the next change.
    #[test]
    fn ranges_are_made_for_many_lookups_of_one_generation() {
        let mut flat = Flat::<V4>::default();
        assert!(!flat.is_ready(1));
        let before = (1..).find(|_| flat.is_due(800)).expect("some time");
        assert_eq!(before, 100);
        flat.set(Builder::new());
        assert!(flat.is_ready(1));
        assert!(!flat.is_ready(2));
        assert!(!flat.is_due(800));
    }
}

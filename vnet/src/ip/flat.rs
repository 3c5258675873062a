//! The forwarding table in a flat form, for tables so large that a walk through a binary tree would wait for memory at
//! every step.
//!
//! Six bits of the address at a time lead through *directories* of 64 slots to a *bucket*: the prefixes behind a slot, up
//! to [`SPLIT`] of them, side by side and searched without branches, in one of three forms ([`Line`] and [`narrow`]): by how
//! many bits they have to tell apart. A bucket that grows beyond that becomes a directory, one that shrinks is a bucket
//! again, so the depth follows the table: three directories and one bucket for a million routes of IPv4, five and one for
//! IPv6. A prefix that ends within a directory's six bits is known to each
//! slot that it covers; what is on the way is remembered, and the last is the longest. So no prefix is known to anything
//! below the directory or bucket in which it ends, and a change costs at most one of either, whatever it covers.
//!
//! The table itself ([`fib`](super::fib)) has the routes. Here is only a number for what is said of packets, equal ones
//! having one number: most large tables have few gateways. Prefixes longer than a key ([`Family::KEY_BITS`]) are left to
//! the table.

mod narrow;

use std::collections::BTreeMap;

use smallvec::SmallVec;

use super::family::Family;
use super::fib::{NextHop, RouteHit};
use crate::base::id::IfId;

/// The fewest routes for which this form is worth its memory.
pub(super) const MIN_ROUTES: usize = if cfg!(test) { 2 } else { 256 };
/// The most that can be numbered.
pub(super) const MAX_ROUTES: usize = 1 << 23;

/// Bits of the address that one directory looks at.
const STRIDE: u32 = 6;
const SLOTS: usize = 1 << STRIDE;

/// The most prefixes of a bucket that could be a directory. Where few bits are left, a bucket has no more than fit.
const SPLIT: usize = if cfg!(test) { 3 } else { 32 };
/// The most prefixes for which a directory becomes a bucket again.
const MERGE: usize = if cfg!(test) { 1 } else { 8 };
/// The most lines of a bucket.
const LINES: usize = 8;
/// The most of a narrow one.
const NARROW_LINES: usize = 2;

/// What is said of packets, by its number; [`NOWHERE`] and [`ASK`] have a meaning of their own.
type Answer = u32;
/// No route leads there.
const NOWHERE: Answer = 0;
/// The table knows.
const ASK: Answer = 1;
/// The first that is a hit.
const FIRST: Answer = 2;

/// What a table says of the packets to one prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said<F: Family> {
    /// They are passed on so.
    Hit(RouteHit<F>),
    /// More than is known here: longer prefixes are in it.
    Ask,
}

/// The flat form of one table.
pub(super) struct Flat<F: Family> {
    dirs: Vec<Dir<F::Key>>,
    free_dirs: Vec<u32>,
    lines: Lines,
    hits: Hits<F>,
}

/// 64 ways to go on, and the prefixes that end on the way to them.
struct Dir<K> {
    slots: [Slot; SLOTS],
    /// The prefixes that end here, by their length.
    own: Vec<Entry<K>>,
    /// How many prefixes end here or below.
    count: usize,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    next: Next,
    /// What the longest prefix says that ends here and covers the slot.
    answer: Answer,
}

/// What is behind a slot: where it is, and in the last four bits how many lines it has. A directory has none. Nothing
/// is behind a slot of zero, as the directory there is the first, which is behind none. Lines beyond [`LINES`] are narrow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Next(u32);

impl Next {
    const NOTHING: Next = Next(0);

    fn dir(at: u32) -> Next {
        Next(at << 4)
    }

    fn bucket(at: u32, lines: usize) -> Next {
        Next(at << 4 | lines as u32)
    }

    fn narrow(at: u32, lines: usize) -> Next {
        Next(at << 4 | (LINES + lines) as u32)
    }

    #[inline]
    fn lines(self) -> usize {
        (self.0 & 0xf) as usize
    }

    /// How many lines there are, when they are narrow.
    #[inline]
    fn narrow_lines(self) -> Option<usize> {
        self.lines().checked_sub(LINES).filter(|lines| *lines > 0)
    }

    #[inline]
    fn at(self) -> usize {
        (self.0 >> 4) as usize
    }
}

/// A prefix, and what is said of packets to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry<K> {
    key: K,
    len: u8,
    answer: Answer,
}

impl<F: Family> Flat<F> {
    pub(super) fn new() -> Flat<F> {
        let mut flat = Flat {
            dirs: Vec::new(),
            free_dirs: Vec::new(),
            lines: Lines::default(),
            hits: Hits::default(),
        };
        flat.add_dir();
        flat
    }

    /// What is known of an address.
    #[inline]
    pub(super) fn find(&self, dst: F::Addr) -> Option<Said<F>> {
        let key = F::key(dst);
        match self.answer(key.into()) {
            NOWHERE => None,
            ASK => Some(Said::Ask),
            answer => self.hits.get(answer).map(Said::Hit),
        }
    }

    #[inline]
    fn answer(&self, key: u64) -> Answer {
        let (mut best, mut dir, mut shift) = (NOWHERE, 0, Self::first_shift());
        loop {
            let slot = self.dirs[dir].slots[slot_of(key, shift)];
            if slot.answer != NOWHERE {
                best = slot.answer;
            }
            if slot.next.lines() > 0 {
                return self.lines.search(slot.next, shift, key, best);
            }
            if slot.next == Next::NOTHING {
                return best;
            }
            (dir, shift) = (slot.next.at(), shift - STRIDE);
        }
    }

    /// How far a key is shifted for the slot in the first directory.
    const fn first_shift() -> u32 {
        F::KEY_BITS as u32 - STRIDE
    }

    /// Has a prefix that is no longer than a key say this, or nothing any more.
    pub(super) fn set(&mut self, net: F::Net, said: Option<Said<F>>) {
        let key = F::key(F::addr(F::trunc(net)));
        let len = F::prefix_len(net);
        debug_assert!(len <= F::KEY_BITS, "longer ones are left to the table");
        let answer = said.map(|said| match said {
            Said::Ask => ASK,
            Said::Hit(hit) => self.hits.take(hit),
        });
        let old = self.put(key, len, answer);
        if let Some(old) = old {
            self.hits.give_back(old);
        }
    }

    /// Puts an answer in the place of that which the prefix has, which is returned.
    fn put(&mut self, key: F::Key, len: u8, answer: Option<Answer>) -> Option<Answer> {
        let (mut dir, mut shift) = (0, Self::first_shift());
        let mut way: SmallVec<[(usize, usize); 11]> = SmallVec::new();
        let old = loop {
            if u32::from(len) + shift <= F::KEY_BITS.into() {
                let old = edit(&mut self.dirs[dir].own, key, len, answer);
                self.dirs[dir].cover(shift, F::KEY_BITS);
                way.push((dir, 0));
                break old;
            }
            let slot = slot_of(key.into(), shift);
            way.push((dir, slot));
            let next = self.dirs[dir].slots[slot].next;
            if next != Next::NOTHING && next.lines() == 0 {
                (dir, shift) = (next.at(), shift - STRIDE);
                continue;
            }
            let mut list = self.lines.read(next, shift, key.into(), F::KEY_BITS);
            let old = edit(&mut list, key, len, answer);
            self.lines.free(next);
            self.dirs[dir].slots[slot].next = self.place(&list, shift);
            break old;
        };
        let count = |n: usize| n + usize::from(answer.is_some()) - usize::from(old.is_some());
        for (dir, _) in &way {
            self.dirs[*dir].count = count(self.dirs[*dir].count);
        }
        if old.is_some() && answer.is_none() {
            self.merge(&way, key.into());
        }
        old
    }

    /// A bucket or a directory for these prefixes, behind a directory whose slot is found by `shift`.
    fn place(&mut self, list: &[Entry<F::Key>], shift: u32) -> Next {
        if list.len() <= SPLIT || shift < STRIDE {
            return self.lines.write(list, shift, F::KEY_BITS);
        }
        let (at, shift) = (self.add_dir(), shift - STRIDE);
        let ends_here = |e: &Entry<F::Key>| u32::from(e.len) + shift <= F::KEY_BITS.into();
        let (own, mut below): (Vec<_>, Vec<_>) = list.iter().copied().partition(ends_here);
        let slot = |e: &Entry<F::Key>| slot_of(e.key.into(), shift);
        below.sort_by_key(slot);
        for part in below.chunk_by(|a, b| slot(a) == slot(b)) {
            let next = self.place(part, shift);
            self.dirs[at].slots[slot(&part[0])].next = next;
        }
        let dir = &mut self.dirs[at];
        (dir.own, dir.count) = (own, list.len());
        dir.cover(shift, F::KEY_BITS);
        Next::dir(at as u32)
    }

    /// Makes a bucket of the first directory on this way, which is that to `key`, that has few prefixes left.
    fn merge(&mut self, way: &[(usize, usize)], key: u64) {
        let pairs = way.windows(2).map(|pair| (pair[0], pair[1].0));
        let is_small =
            |(_, (_, dir)): &(u32, ((usize, usize), usize))| self.dirs[*dir].count <= MERGE;
        let shifts = (0..).map(|depth| Self::first_shift() - depth * STRIDE);
        if let Some((shift, ((above, slot), dir))) = shifts.zip(pairs).find(is_small) {
            let mut list = Vec::new();
            self.collect(dir, shift - STRIDE, key, &mut list);
            list.sort_by_key(|e| (e.len, e.key));
            let next = self.lines.write(&list, shift, F::KEY_BITS);
            self.dirs[above].slots[slot].next = next;
        }
    }

    /// Takes the prefixes of a directory and of all that is below it, and frees these. `shift` finds its slots, and
    /// `path` is a key that leads there.
    fn collect(&mut self, at: usize, shift: u32, path: u64, list: &mut Vec<Entry<F::Key>>) {
        let dir = std::mem::take(&mut self.dirs[at]);
        self.free_dirs.push(at as u32);
        list.extend(dir.own);
        let above = path & !((SLOTS as u64) << shift).wrapping_sub(1);
        for (slot, next) in (0..).zip(dir.slots.map(|slot| slot.next)) {
            let path = above | slot << shift;
            if next.lines() > 0 {
                list.extend(self.lines.read::<F::Key>(next, shift, path, F::KEY_BITS));
                self.lines.free(next);
            } else if next != Next::NOTHING {
                self.collect(next.at(), shift - STRIDE, path, list);
            }
        }
    }

    fn add_dir(&mut self) -> usize {
        match self.free_dirs.pop() {
            Some(at) => at as usize,
            None => {
                self.dirs.push(Dir::default());
                self.dirs.len() - 1
            }
        }
    }
}

#[inline]
fn slot_of(key: u64, shift: u32) -> usize {
    (key >> shift) as usize % SLOTS
}

/// Puts a prefix into a list by length, in the place of itself, or takes it out. Returns the answer that it had.
fn edit<K: Copy + Ord>(
    list: &mut Vec<Entry<K>>,
    key: K,
    len: u8,
    answer: Option<Answer>,
) -> Option<Answer> {
    let found = list.binary_search_by_key(&(len, key), |e| (e.len, e.key));
    match (found, answer) {
        (Ok(at), Some(answer)) => Some(std::mem::replace(&mut list[at].answer, answer)),
        (Ok(at), None) => Some(list.remove(at).answer),
        (Err(at), Some(answer)) => {
            list.insert(at, Entry { key, len, answer });
            None
        }
        (Err(_), None) => None,
    }
}

impl<K> Default for Dir<K> {
    fn default() -> Dir<K> {
        Dir {
            slots: [Slot::default(); SLOTS],
            own: Vec::new(),
            count: 0,
        }
    }
}

impl<K: Copy + Into<u64>> Dir<K> {
    /// Tells each slot of the longest prefix here that covers it.
    fn cover(&mut self, shift: u32, key_bits: u8) {
        for slot in &mut self.slots {
            slot.answer = NOWHERE;
        }
        // By their length: a longer one comes later.
        for one in &self.own {
            let free = u32::from(key_bits - one.len) - shift;
            let (first, many) = (slot_of(one.key.into(), shift), SLOTS.min(1 << free));
            for slot in &mut self.slots[first..first + many] {
                slot.answer = one.answer;
            }
        }
    }
}

/// The lines of all buckets.
#[derive(Default)]
struct Lines {
    words: Slab<Line, LINES>,
    narrow: Slab<narrow::Line, NARROW_LINES>,
}

/// Lines of one kind, some of which are one bucket. Those that are free are used again for buckets of the same size.
struct Slab<L, const MOST: usize> {
    lines: Vec<L>,
    /// By the number of lines, less one.
    free: [Vec<u32>; MOST],
}

impl<L, const MOST: usize> Default for Slab<L, MOST> {
    fn default() -> Slab<L, MOST> {
        Slab {
            lines: Vec::new(),
            free: [const { Vec::new() }; MOST],
        }
    }
}

impl<L: Copy, const MOST: usize> Slab<L, MOST> {
    #[inline]
    fn of(&self, at: usize, lines: usize) -> &[L] {
        &self.lines[at..][..lines]
    }

    /// Keeps the lines of a bucket. Returns where they are.
    fn put(&mut self, bucket: &[L]) -> u32 {
        match self.free[bucket.len() - 1].pop() {
            Some(at) => {
                self.lines[at as usize..][..bucket.len()].copy_from_slice(bucket);
                at
            }
            None => {
                self.lines.extend_from_slice(bucket);
                (self.lines.len() - bucket.len()) as u32
            }
        }
    }

    fn free(&mut self, at: usize, lines: usize) {
        self.free[lines - 1].push(at as u32);
    }
}

/// Some prefixes of a bucket, in one line of a processor's cache, in such a form that all are compared without a branch.
/// What is left over repeats the last.
///
/// Most prefixes are one word, *packed*: first as many of the last bits of a key as a bucket may have to tell apart
/// ([`PACKED_BITS`]), then the answer, then the number of bits of the word that do not matter, which are these two and what
/// is behind the prefix. In a bucket with more bits to tell apart, which only a table with few prefixes for its bits has,
/// a prefix is a key in the first half of the line, and an answer with its number of bits in the second.
#[derive(Clone, Copy, Default)]
#[repr(align(64))]
struct Line([u64; WORDS]);

const WORDS: usize = 8;
/// Prefixes of a line whose keys are whole.
const WHOLE: usize = WORDS / 2;

/// Bits of a key in a packed prefix.
const PACKED_BITS: u32 = 34;
/// Bits of the number of bits.
const WIDTH: u32 = 6;
/// Bits beside those of a key in a packed prefix.
const SAID_BITS: u32 = u64::BITS - PACKED_BITS;

#[inline]
const fn answer_of(word: u64) -> Answer {
    (word as u32 % (1 << SAID_BITS)) >> WIDTH
}

impl Lines {
    /// How many prefixes a line has, in buckets behind a slot that is found by `shift`.
    #[inline]
    fn per_line(shift: u32) -> usize {
        if shift <= PACKED_BITS { WORDS } else { WHOLE }
    }

    /// What the longest prefix of a bucket says that has this key, or `otherwise`.
    #[inline]
    fn search(&self, bucket: Next, shift: u32, key: u64, otherwise: Answer) -> Answer {
        if let Some(lines) = bucket.narrow_lines() {
            let lines = self.narrow.of(bucket.at(), lines);
            return lines
                .iter()
                .fold(otherwise, |best, line| line.last(key, best));
        }
        let lines = self.words.of(bucket.at(), bucket.lines());
        let mut found = 0;
        if shift <= PACKED_BITS {
            let key = key << SAID_BITS;
            for line in lines {
                for word in line.0 {
                    let differs = (key ^ word) >> (word % (1 << WIDTH));
                    found = if differs == 0 { word } else { found };
                }
            }
        } else {
            for line in lines {
                let (keys, said) = line.0.split_at(WHOLE);
                for (other, said) in keys.iter().zip(said) {
                    let differs = (key ^ other) >> (said % (1 << WIDTH));
                    found = if differs == 0 { *said } else { found };
                }
            }
        }
        match answer_of(found) {
            NOWHERE => otherwise,
            answer => answer,
        }
    }

    /// The prefixes of a bucket, of which nothing has none. `path` is a key that leads there.
    fn read<K: TryFrom<u64> + Copy + Ord>(
        &self,
        bucket: Next,
        shift: u32,
        path: u64,
        key_bits: u8,
    ) -> Vec<Entry<K>> {
        let mut list = Vec::new();
        let mut push = |key: u64, free: u32, answer| {
            let Ok(key) = K::try_from(key) else {
                unreachable!("its bits are those of a key")
            };
            list.push(Entry {
                key,
                len: key_bits - free as u8,
                answer,
            });
        };
        let above = |bits: u32| path & !((1 << bits) - 1);
        if let Some(lines) = bucket.narrow_lines() {
            let lines = self.narrow.of(bucket.at(), lines);
            for (key, free, answer) in lines.iter().flat_map(narrow::Line::all) {
                push(above(narrow::BITS) | key, free, answer);
            }
        } else {
            for line in self.words.of(bucket.at(), bucket.lines()) {
                if shift <= PACKED_BITS {
                    for word in line.0 {
                        let free = (word % (1 << WIDTH)) as u32 - SAID_BITS;
                        let key = above(PACKED_BITS) | word >> SAID_BITS;
                        push(key, free, answer_of(word));
                    }
                } else {
                    for (key, said) in line.0[..WHOLE].iter().zip(&line.0[WHOLE..]) {
                        push(*key, (said % (1 << WIDTH)) as u32, answer_of(*said));
                    }
                }
            }
        }
        list.dedup();
        list
    }

    /// A bucket with these prefixes, behind a slot that is found by `shift`.
    fn write<K: Copy + Into<u64>>(&mut self, list: &[Entry<K>], shift: u32, key_bits: u8) -> Next {
        let Some(last) = list.last() else {
            return Next::NOTHING;
        };
        let free = |entry: &Entry<K>| u32::from(key_bits - entry.len);
        if shift <= narrow::BITS && list.iter().all(|e| e.answer <= narrow::MAX_ANSWER) {
            let lines = in_lines(list, last, narrow::PER_LINE, |line, at, entry| {
                let line: &mut narrow::Line = line;
                line.put(at, entry.key.into(), free(entry), entry.answer);
            });
            return Next::narrow(self.narrow.put(&lines), lines.len());
        }
        let lines = in_lines(list, last, Self::per_line(shift), |line, at, entry| {
            let (Line(words), key, free) = (line, entry.key.into(), free(entry));
            let said = u64::from(entry.answer) << WIDTH;
            if shift <= PACKED_BITS {
                words[at] = key << SAID_BITS | said | u64::from(free + SAID_BITS);
            } else {
                (words[at], words[WHOLE + at]) = (key, said | u64::from(free));
            }
        });
        Next::bucket(self.words.put(&lines), lines.len())
    }

    fn free(&mut self, bucket: Next) {
        match (bucket.narrow_lines(), bucket.lines()) {
            (Some(lines), _) => self.narrow.free(bucket.at(), lines),
            (None, 0) => {}
            (None, lines) => self.words.free(bucket.at(), lines),
        }
    }
}

/// A bucket's prefixes in lines of so many, each put in its place by `put`, and the last in those that are left over.
fn in_lines<K, L: Default>(
    list: &[Entry<K>],
    last: &Entry<K>,
    per_line: usize,
    put: impl Fn(&mut L, usize, &Entry<K>),
) -> SmallVec<[L; 2]> {
    let line = |part: &[Entry<K>]| {
        let mut line = L::default();
        for at in 0..per_line {
            put(&mut line, at, part.get(at).unwrap_or(last));
        }
        line
    };
    list.chunks(per_line).map(line).collect()
}

/// What is said of packets, with a number for each that differs.
struct Hits<F: Family> {
    /// From [`FIRST`] on, with the prefixes that say so.
    hits: Vec<(RouteHit<F>, u32)>,
    free: Vec<Answer>,
    numbers: BTreeMap<Order<F>, Answer>,
}

/// What differs between hits.
type Order<F> = (IfId, Option<<F as Family>::Addr>, u8, u8);

fn order<F: Family>(hit: &RouteHit<F>) -> Order<F> {
    let gateway = match hit.next_hop {
        NextHop::Direct => None,
        NextHop::Gateway(gateway) => Some(gateway),
    };
    (hit.ifid, gateway, hit.origin as u8, hit.kind as u8)
}

impl<F: Family> Default for Hits<F> {
    fn default() -> Hits<F> {
        Hits {
            hits: Vec::new(),
            free: Vec::new(),
            numbers: BTreeMap::new(),
        }
    }
}

impl<F: Family> Hits<F> {
    #[inline]
    fn get(&self, answer: Answer) -> Option<RouteHit<F>> {
        self.hits
            .get((answer - FIRST) as usize)
            .map(|(hit, _)| *hit)
    }

    /// The number of a hit, for one more prefix.
    fn take(&mut self, hit: RouteHit<F>) -> Answer {
        let Hits {
            hits,
            free,
            numbers,
        } = self;
        let answer = *numbers.entry(order(&hit)).or_insert_with(|| {
            free.pop().unwrap_or_else(|| {
                hits.push((hit, 0));
                hits.len() as Answer - 1 + FIRST
            })
        });
        let (known, prefixes) = &mut hits[(answer - FIRST) as usize];
        (*known, *prefixes) = (hit, *prefixes + 1);
        answer
    }

    /// One prefix less has an answer.
    fn give_back(&mut self, answer: Answer) {
        let Some(index) = answer.checked_sub(FIRST) else {
            return;
        };
        let (hit, prefixes) = &mut self.hits[index as usize];
        *prefixes -= 1;
        if *prefixes == 0 {
            self.numbers.remove(&order(hit));
            self.free.push(answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fib::{Fib, Origin, Route};
    use super::*;
    use crate::base::rng::Rng;
    use crate::ip::family::testing::Drawn;
    use crate::ip::family::{V4, V6};
    use crate::ip::testing::interfaces;

    /// Enough routes for all depths, nested and side by side, some of which are taken away again and others put in
    /// their place: what is found is what the table says.
    fn agrees_on_a_large_table<F: Drawn>() {
        let ifids = interfaces();
        let mut fib = Fib::<F>::new();
        let mut rng = Rng::seeded(7);
        let draw = |rng: &mut Rng| rng.below(u32::MAX) & 0xff3f_ffc3;
        let mut nets = Vec::new();
        for round in 0..3 {
            for n in 0..7_000u32 {
                let len = [1, 8, 13, 16, 20, 22, 24, 24, 24, 28, 32][rng.below(11) as usize];
                let gateway = NextHop::Gateway(F::addr_of(1 + n % 7));
                let ifid = ifids[n as usize % ifids.len()];
                let net = F::net_of(draw(&mut rng), len);
                // Some are there already.
                if fib
                    .add(Route::new(net, gateway, ifid, Origin::Static))
                    .is_ok()
                {
                    nets.push(net);
                }
            }
            let mut found = 0;
            for _ in 0..20_000 {
                let dst = F::addr_of(draw(&mut rng));
                let by_table = fib.route(dst).map(|r| (r.ifid, r.next_hop));
                let flat = fib.lookup(dst).map(|hit| (hit.ifid, hit.next_hop));
                assert_eq!(by_table, flat, "{dst}");
                found += usize::from(by_table.is_some());
            }
            assert!(found > 1000);
            let keep = [2_000, 100, 0][round];
            while nets.len() > keep {
                let net = nets.swap_remove(rng.below(nets.len() as u32) as usize);
                fib.remove(net, None).expect("it was added");
            }
        }
        assert_eq!(fib.len(), 0);
    }

    #[test]
    fn what_is_found_is_what_the_table_says() {
        agrees_on_a_large_table::<V4>();
        agrees_on_a_large_table::<V6>();
    }

    #[test]
    fn the_first_and_the_last_address_are_found() {
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

    /// All that could be told apart within the last bits of a key: there is no directory for it.
    #[test]
    fn the_last_bits_of_a_key_fit_a_bucket() {
        let mut flat = Flat::<V6>::new();
        let ifid = interfaces()[0];
        let nets: Vec<_> = (61..=64u8)
            .flat_map(|len| (0..1u128 << (len - 60)).map(move |n| (n, len)))
            .map(|(n, len)| {
                let addr = 0x2001_0db8_u128 << 96 | n << (128 - len);
                ipnet::Ipv6Net::new_assert(addr.into(), len)
            })
            .collect();
        assert_eq!(nets.len(), 30);
        let hop = |net: &ipnet::Ipv6Net| {
            let mut end = net.addr().segments();
            end[7] = net.prefix_len().into();
            NextHop::Gateway(end.into())
        };
        for net in &nets {
            let hit = RouteHit::through(ifid, hop(net));
            flat.set(*net, Some(Said::Hit(hit)));
        }
        for len in (61..=64).rev() {
            for net in &nets {
                let longest = nets
                    .iter()
                    .rev()
                    .find(|n| n.prefix_len() <= len && n.contains(net));
                let found = flat.find(net.addr());
                let expected = longest.filter(|_| net.prefix_len() >= 64).map(hop);
                if let Some(expected) = expected {
                    let expected = RouteHit::through(ifid, expected);
                    assert_eq!(found, Some(Said::Hit(expected)), "{net}");
                }
            }
            for net in nets.iter().filter(|n| n.prefix_len() == len) {
                flat.set(*net, None);
            }
        }
        assert_eq!(flat.find(nets[0].addr()), None);
    }

    /// A bucket is narrow where its bits and its answers fit, and holds the same as another.
    #[test]
    fn narrow_buckets_hold_the_same() {
        let mut lines = Lines::default();
        for (shift, most, is_narrow) in [(14, 900, true), (14, 70_000, false), (20, 900, false)] {
            let list: Vec<Entry<u32>> = (0..SPLIT as u32)
                .map(|n| Entry {
                    key: 0x0102_0000 | n << 8,
                    len: 24,
                    answer: most - n,
                })
                .collect();
            let bucket = lines.write(&list, shift, 32);
            assert_eq!(bucket.narrow_lines().is_some(), is_narrow);
            let path = u64::from(list[0].key);
            assert_eq!(lines.read::<u32>(bucket, shift, path, 32), list);
            for entry in &list {
                let key = u64::from(entry.key) | 7;
                assert_eq!(lines.search(bucket, shift, key, NOWHERE), entry.answer);
                assert_eq!(lines.search(bucket, shift, key ^ 0x2000, ASK), ASK);
            }
            lines.free(bucket);
        }
    }

    /// What comes and goes takes the same room each time.
    #[test]
    fn what_is_freed_is_used_again() {
        let mut flat = Flat::<V4>::new();
        let ifid = interfaces()[0];
        let mut sizes = Vec::new();
        for round in 0..5u32 {
            let nets = (0..2_000u32).map(|n| {
                let net = n.wrapping_mul(0x9e37_79b1) & 0x0fff_ff00;
                ipnet::Ipv4Net::new_assert(net.into(), 24)
            });
            for net in nets.clone() {
                let gateway =
                    NextHop::Gateway(((round << 8) | (u32::from(net.addr()) % 251)).into());
                flat.set(net, Some(Said::Hit(RouteHit::through(ifid, gateway))));
            }
            for net in nets {
                flat.set(net, None);
            }
            assert!(flat.hits.numbers.is_empty());
            assert_eq!(flat.free_dirs.len() + 1, flat.dirs.len());
            sizes.push((
                flat.dirs.len(),
                (flat.lines.words.lines.len(), flat.lines.narrow.lines.len()),
                flat.hits.hits.len(),
            ));
        }
        assert_eq!(sizes[1..], [sizes[0]; 4]);
    }
}

//! Buckets with few bits to tell apart, as those of IPv4's large tables are: twice as many prefixes in a line as where a
//! prefix is a word, so that mostly there is one line to wait for. The instructions for a line are few, too, as four
//! prefixes of a word are compared at once, and none of them is a branch: a processor is at the next lookups while it waits.
//!
//! A key is its last [`BITS`] bits and one more, which is set. A prefix has all bits of its key, then one that is set, and
//! then zeros: its last bit that is set says where it ends.

use std::hint;

/// The most bits of a key that a bucket in this form tells apart.
pub(super) const BITS: u32 = LANE - 1;
/// The greatest answer that fits.
pub(super) const MAX_ANSWER: u32 = LAST as u32;
/// Prefixes of a line.
pub(super) const PER_LINE: usize = WORDS * LANES;

/// Bits of a prefix, and of an answer.
const LANE: u32 = u16::BITS;
const LANES: usize = (u64::BITS / LANE) as usize;
const WORDS: usize = 4;

/// One in each lane of a word.
const EACH: u64 = u64::MAX / LAST;
/// All bits of the last lane.
const LAST: u64 = u16::MAX as u64;
/// The first bit of each lane.
const FIRST_BITS: u64 = EACH << (LANE - 1);

/// Some prefixes of a bucket, in one line of a processor's cache. They fill the last lane of each word, and then that
/// before it; what is left over repeats the last.
#[derive(Clone, Copy, Default)]
#[repr(align(64))]
pub(super) struct Line {
    prefixes: [u64; WORDS],
    answers: [u64; WORDS],
}

impl Line {
    /// Puts a prefix in a place: its key, how many bits of it are behind the prefix, and the answer.
    pub(super) fn put(&mut self, at: usize, key: u64, free: u32, answer: u32) {
        let (word, lane) = (at % WORDS, (at / WORDS) as u32 * LANE);
        let prefix = key << 1 & LAST | 1 << free;
        for (words, value) in [
            (&mut self.prefixes, prefix),
            (&mut self.answers, answer.into()),
        ] {
            words[word] = words[word] & !(LAST << lane) | value << lane;
        }
    }

    /// What was put there: the last bits of the key, how many are behind the prefix, and the answer.
    pub(super) fn all(&self) -> impl Iterator<Item = (u64, u32, u32)> {
        (0..PER_LINE).map(|at| {
            let (word, lane) = (at % WORDS, (at / WORDS) as u32 * LANE);
            let [prefix, answer] = [self.prefixes, self.answers].map(|of| of[word] >> lane & LAST);
            let key = (prefix & (prefix - 1)) >> 1;
            (key, prefix.trailing_zeros(), answer as u32)
        })
    }

    /// The answer of the last prefix that has this key, or `otherwise`.
    #[inline]
    pub(super) fn last(&self, key: u64, otherwise: u32) -> u32 {
        let keys = (key << 1 & LAST | 1) * EACH;
        let mut found = 0;
        for (n, word) in self.prefixes.iter().enumerate() {
            // No lane borrows from the next, as none is zero.
            let ends = word ^ (word - EACH);
            let differs = (keys ^ word) & !ends;
            let is_not_zero = ((differs & !FIRST_BITS) + !FIRST_BITS) | differs;
            found |= (!is_not_zero & FIRST_BITS) >> (WORDS - 1 - n);
        }
        // The bits of a lane that are set are those of its words, in their order.
        let at = (found | 1).ilog2();
        let (word, lane) = (at % WORDS as u32, at / LANE * LANE);
        let answer = (self.answers[word as usize] >> lane & LAST) as u32;
        hint::select_unpredictable(found == 0, otherwise, answer)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// What a line says is what a scan of its prefixes says, and what was put there can be read.
        #[test]
        fn a_line_says_what_a_scan_says(
            prefixes in vec((0..1u64 << BITS, 0..BITS, 1..=MAX_ANSWER), 1..=PER_LINE),
            keys in vec((any::<prop::sample::Index>(), 0..1u64 << BITS, 0..=BITS), 64),
            above in 0..1u64 << (64 - BITS),
        ) {
            let prefixes: Vec<_> = prefixes
                .into_iter()
                .map(|(key, free, answer)| (key >> free << free, free, answer))
                .collect();
            let full = prefixes.iter().chain(std::iter::repeat(&prefixes[prefixes.len() - 1]));
            let full: Vec<_> = full.copied().take(PER_LINE).collect();
            let mut line = Line::default();
            for (at, (key, free, answer)) in full.iter().enumerate() {
                line.put(at, above << BITS | key, *free, *answer);
            }
            prop_assert_eq!(line.all().collect::<Vec<_>>(), full);
            for (near, other, bits) in keys {
                // So many of its last bits are others than those of a prefix.
                let key = near.get(&prefixes).0 ^ (other & ((1 << bits) - 1));
                let has = |(of, free, _): &&(u64, u32, u32)| (of ^ key) >> free == 0;
                let by_scan = prefixes.iter().rev().find(has).map_or(0, |(_, _, answer)| *answer);
                prop_assert_eq!(line.last(above << BITS | key, 0), by_scan);
            }
        }
    }
}

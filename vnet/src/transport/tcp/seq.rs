//! Sequence numbers (RFC 9293, section 3.4): 32 bits that wrap.
//!
//! Of two numbers on a circle neither is before the other: at a distance of 2^31 each would be
//! both. So there is no `<` here. There is only the distance from one end, [`SeqNum::since`],
//! counted forward, and what follows from it; each question names its end:
//!
//! | question | asked with |
//! |---|---|
//! | does a number lie in a window? | [`SeqNum::is_in`], [`SeqNum::offset_in`] |
//! | which of two comes first, seen from an end that is before both? | [`SeqNum::precedes`], [`SeqNum::earlier`], [`SeqNum::later`] |
//! | is a number newer than a mark that has no other end? | [`SeqNum::is_newer_than`] |
//!
//! Every answer holds for any numbers at all, those that a peer made up included.

use std::fmt;
use std::ops::{Add, AddAssign, Range, RangeInclusive, Sub};

/// A sequence number, or a timestamp, which wraps in the same way.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct SeqNum(pub u32);

impl SeqNum {
    /// The distance from `end` forward to `self`, from 0 to 2^32 - 1. Right behind `end` it is
    /// huge; whoever subtracts or indexes with it has asked [`SeqNum::is_in`] before, or keeps
    /// `self` at or behind `end`.
    #[inline]
    pub(super) const fn since(self, end: SeqNum) -> u32 {
        self.0.wrapping_sub(end.0)
    }

    /// Whether `self` lies in `window`, both ends included.
    #[inline]
    pub(super) fn is_in(self, window: RangeInclusive<SeqNum>) -> bool {
        let start = *window.start();
        self.since(start) <= window.end().since(start)
    }

    /// How far into `window` it is, if it lies in it. The end is outside; an empty window holds
    /// nothing.
    #[inline]
    pub(super) fn offset_in(self, window: Range<SeqNum>) -> Option<u32> {
        let offset = self.since(window.start);
        (offset < window.end.since(window.start)).then_some(offset)
    }

    /// Seen from `self`, whether `a` comes before `b`.
    #[inline]
    pub(super) const fn precedes(self, a: SeqNum, b: SeqNum) -> bool {
        a.since(self) < b.since(self)
    }

    /// Seen from `self`, the one of the two that comes first.
    #[inline]
    pub(super) const fn earlier(self, a: SeqNum, b: SeqNum) -> SeqNum {
        if self.precedes(b, a) { b } else { a }
    }

    /// Seen from `self`, the one of the two that comes last.
    #[inline]
    pub(super) const fn later(self, a: SeqNum, b: SeqNum) -> SeqNum {
        if self.precedes(a, b) { b } else { a }
    }

    /// Whether `self` is one of the 2^31 - 1 numbers behind `mark`. What is not newer than a mark
    /// is the mark, or older, or half a circle away: `!a.is_newer_than(b)` is not
    /// `b.is_newer_than(a)`.
    // RFC 7323 5.2: "s is less than t if 0 < (t - s) < 2^31".
    #[inline]
    pub(super) const fn is_newer_than(self, mark: SeqNum) -> bool {
        matches!(self.since(mark), 1..=0x7fff_ffff)
    }
}

impl Add<u32> for SeqNum {
    type Output = SeqNum;
    #[inline]
    fn add(self, n: u32) -> SeqNum {
        SeqNum(self.0.wrapping_add(n))
    }
}

impl AddAssign<u32> for SeqNum {
    #[inline]
    fn add_assign(&mut self, n: u32) {
        *self = *self + n;
    }
}

impl Sub<u32> for SeqNum {
    type Output = SeqNum;
    #[inline]
    fn sub(self, n: u32) -> SeqNum {
        SeqNum(self.0.wrapping_sub(n))
    }
}

impl fmt::Debug for SeqNum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Distances at and around those where a comparison could change its mind.
    pub(in crate::transport::tcp) fn edge() -> impl Strategy<Value = u32> {
        let at = prop::sample::select(vec![0, 1 << 16, 1 << 30, 1 << 31, 3 << 30]);
        prop_oneof![
            3 => (at, -2i32..=2).prop_map(|(at, by): (u32, i32)| at.wrapping_add_signed(by)),
            1 => any::<u32>(),
        ]
    }

    proptest! {
        /// On a number line without an end, where `x` stands for `x + k * 2^32` for all k: a
        /// window holds a number if one of those lies in it, and the distance from an end is
        /// that to the next of them.
        #[test]
        fn windows_are_those_of_a_wide_integer(
            start in edge(),
            len in edge(),
            at in edge(),
            near_end in any::<bool>(),
            by in -2i64..=2,
        ) {
            const CIRCLE: i64 = 1 << 32;
            let (first, last) = (i64::from(start), i64::from(start) + i64::from(len));
            let x = if near_end { last + by } else { i64::from(at) };
            let seq = |x: i64| SeqNum(x.rem_euclid(CIRCLE) as u32);
            let stands_for = || (-2..=3).map(|k| x.rem_euclid(CIRCLE) + k * CIRCLE);

            let within = stands_for().any(|x| (first..=last).contains(&x));
            prop_assert_eq!(seq(x).is_in(seq(first)..=seq(last)), within);
            let offset = stands_for().find(|x| (first..last).contains(x)).map(|x| (x - first) as u32);
            prop_assert_eq!(seq(x).offset_in(seq(first)..seq(last)), offset);

            let next = stands_for().find(|x| *x >= first).expect("one of them");
            prop_assert_eq!(i64::from(seq(x).since(seq(first))), next - first);
            prop_assert_eq!(seq(first) + (next - first) as u32, seq(x));
            prop_assert_eq!(seq(next) - (next - first) as u32, seq(first));
            prop_assert_eq!(seq(x).is_newer_than(seq(first)), 0 < next - first && next - first < 1 << 31);
        }

        /// Seen from one end, any two numbers are ordered as the integers they stand for, and
        /// never both ways round.
        #[test]
        fn seen_from_an_end_numbers_are_ordered(end in edge(), a in edge(), b in edge()) {
            let (end, x, y) = (SeqNum(end), SeqNum(end) + a, SeqNum(end) + b);
            prop_assert_eq!(end.precedes(x, y), a < b);
            prop_assert_eq!(end.earlier(x, y), end + a.min(b));
            prop_assert_eq!(end.later(x, y), end + a.max(b));
            prop_assert!(!(x.is_newer_than(y) && y.is_newer_than(x)));
        }
    }
}

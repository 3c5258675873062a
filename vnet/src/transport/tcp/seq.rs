//! Sequence numbers (RFC 9293, section 3.4): 32 bits that wrap.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};

/// A sequence number. Two of them compare meaningfully while they are less than 2^31 apart,
/// which every window guarantees; hence no `Ord`, which would promise more.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SeqNum(pub u32);

impl SeqNum {
    /// How far `self` is behind `earlier`, wrapping. The caller knows that it is not before it.
    #[inline]
    pub const fn since(self, earlier: SeqNum) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }

    /// Strictly before `other`.
    #[inline]
    pub const fn lt(self, other: SeqNum) -> bool {
        (self.0.wrapping_sub(other.0) as i32) < 0
    }

    /// Before `other` or equal to it.
    #[inline]
    pub const fn le(self, other: SeqNum) -> bool {
        (self.0.wrapping_sub(other.0) as i32) <= 0
    }

    /// Strictly after `other`.
    #[inline]
    pub const fn gt(self, other: SeqNum) -> bool {
        other.lt(self)
    }

    /// After `other` or equal to it.
    #[inline]
    pub const fn ge(self, other: SeqNum) -> bool {
        other.le(self)
    }

    /// The later of the two.
    #[inline]
    pub const fn max(self, other: SeqNum) -> SeqNum {
        if self.lt(other) { other } else { self }
    }

    /// The earlier of the two.
    #[inline]
    pub const fn min(self, other: SeqNum) -> SeqNum {
        if self.lt(other) { self } else { other }
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Near each other, wrapped numbers behave as the integers they stand for.
        #[test]
        fn behaves_as_an_integer(base in any::<u32>(), a in 0i64..1 << 31, b in 0i64..1 << 31) {
            let seq = |x: i64| SeqNum(((i64::from(base) + x) & 0xffff_ffff) as u32);
            let (x, y) = (seq(a), seq(b));
            prop_assert_eq!(x.lt(y), a < b);
            prop_assert_eq!(x.le(y), a <= b);
            prop_assert_eq!(x.gt(y), a > b);
            prop_assert_eq!(x.ge(y), a >= b);
            prop_assert_eq!(x.max(y), seq(a.max(b)));
            prop_assert_eq!(x.min(y), seq(a.min(b)));
            if a >= b {
                prop_assert_eq!(i64::from(x.since(y)), a - b);
                prop_assert_eq!(y + (a - b) as u32, x);
                prop_assert_eq!(x - (a - b) as u32, y);
            }
        }
    }
}

//! Bytes by reference: a short list of refcounted slices. Cutting, joining and cloning a payload
//! never copies a byte.

use std::ops::Range;

use bytes::{Buf, Bytes};
use smallvec::SmallVec;

/// What is as long as this holds no more than four times its length: the largest slices are of
/// 64 KiB.
const COMPACT: usize = 16 << 10;

/// A sequence of bytes in one or more refcounted slices. No slice is empty.
#[derive(Clone, Debug, Default)]
pub struct Payload {
    slices: SmallVec<[Bytes; 2]>,
    len: usize,
}

impl Payload {
    /// No bytes.
    pub(crate) fn new() -> Payload {
        Payload {
            slices: SmallVec::new(),
            len: 0,
        }
    }

    /// The number of bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when there are no bytes.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The slices, in order.
    pub fn slices(&self) -> &[Bytes] {
        &self.slices
    }

    /// The slices, in order, by value.
    #[inline]
    pub(crate) fn into_slices(self) -> impl Iterator<Item = Bytes> {
        self.slices.into_iter()
    }

    /// Appends a slice.
    #[inline]
    pub(crate) fn push(&mut self, slice: Bytes) {
        if !slice.is_empty() {
            self.len += slice.len();
            self.slices.push(slice);
        }
    }

    /// Appends all of `other`.
    pub(crate) fn append(&mut self, other: Payload) {
        self.len += other.len;
        self.slices.extend(other.slices);
    }

    /// The bytes of `range`, by reference.
    ///
    /// # Panics
    /// When the range reaches past the end.
    pub(crate) fn slice(&self, range: Range<usize>) -> Payload {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "slice {range:?} of a payload of {} bytes",
            self.len
        );
        let mut out = Payload::new();
        let mut skip = range.start;
        let mut want = range.end - range.start;
        for s in &self.slices {
            if want == 0 {
                break;
            }
            if skip >= s.len() {
                skip -= s.len();
                continue;
            }
            let take = want.min(s.len() - skip);
            out.push(s.slice(skip..skip + take));
            want -= take;
            skip = 0;
        }
        out
    }

    /// Drops the first `n` bytes.
    ///
    /// # Panics
    /// When there are fewer.
    pub(crate) fn advance(&mut self, mut n: usize) {
        assert!(n <= self.len, "advance by {n} in {} bytes", self.len);
        self.len -= n;
        let mut whole = 0;
        for s in &mut self.slices {
            if n < s.len() {
                // In place: the slice is no other's, and its memory stays as shared as it is.
                Buf::advance(s, n);
                break;
            }
            n -= s.len();
            whole += 1;
        }
        if whole > 0 {
            self.slices.drain(..whole);
        }
    }

    /// Takes the first `n` bytes off.
    ///
    /// # Panics
    /// When there are fewer.
    pub(crate) fn split_to(&mut self, n: usize) -> Payload {
        match self.slices.first_mut() {
            // The usual case of a payload that is cut: from a slice that is longer.
            Some(first) if n < first.len() => {
                self.len -= n;
                Payload::from(first.split_to(n))
            }
            _ if n == self.len => std::mem::take(self),
            _ => {
                let front = self.slice(0..n);
                self.advance(n);
                front
            }
        }
    }

    /// Keeps the first `n` bytes; does nothing when there are no more than that.
    pub(crate) fn truncate(&mut self, n: usize) {
        if n >= self.len {
            return;
        }
        let mut left = n;
        let mut keep = 0;
        for s in &mut self.slices {
            if left == 0 {
                break;
            }
            keep += 1;
            if left < s.len() {
                s.truncate(left);
                break;
            }
            left -= s.len();
        }
        self.slices.truncate(keep);
        self.len = n;
    }

    /// Lets go of memory that is shared with others, by copying what is so small that it may be the
    /// last to hold much more: a queue that is long, and limited by the bytes it holds, must not hold
    /// the memory of what was cut off or lost as well. Returns what was let go of: whoever dropped it
    /// may run what the program wants to be told by.
    pub(crate) fn compact(&mut self) -> Option<Payload> {
        if !(1..COMPACT).contains(&self.len) {
            return None;
        }
        let mut copy = vec![0; self.len];
        self.copy_to(0, &mut copy);
        Some(std::mem::replace(self, Payload::from(copy)))
    }

    /// Copies the bytes from `offset` on into `to` and returns how many there were.
    pub(crate) fn copy_to(&self, offset: usize, to: &mut [u8]) -> usize {
        let mut skip = offset;
        let mut done = 0;
        for s in &self.slices {
            if skip >= s.len() {
                skip -= s.len();
                continue;
            }
            let take = (s.len() - skip).min(to.len() - done);
            to[done..done + take].copy_from_slice(&s[skip..skip + take]);
            done += take;
            skip = 0;
            if done == to.len() {
                break;
            }
        }
        done
    }

    /// All the bytes in one slice; copies only when there are several.
    pub fn to_bytes(&self) -> Bytes {
        match self.slices.as_slice() {
            [] => Bytes::new(),
            [one] => one.clone(),
            _ => {
                let mut all = Vec::with_capacity(self.len);
                for s in &self.slices {
                    all.extend_from_slice(s);
                }
                all.into()
            }
        }
    }
}

impl From<Bytes> for Payload {
    fn from(slice: Bytes) -> Payload {
        let mut p = Payload::new();
        p.push(slice);
        p
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Payload {
        Bytes::from(bytes).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn build(parts: &[Vec<u8>]) -> (Payload, Vec<u8>) {
        let mut p = Payload::new();
        for part in parts {
            p.push(Bytes::copy_from_slice(part));
        }
        (p, parts.concat())
    }

    proptest! {
        /// Every operation agrees with the same one on a plain vector.
        #[test]
        fn behaves_as_a_vector(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6),
            a in any::<prop::sample::Index>(),
            b in any::<prop::sample::Index>(),
        ) {
            let (payload, model) = build(&parts);
            let (a, b) = (a.index(model.len() + 1), b.index(model.len() + 1));
            let (low, high) = (a.min(b), a.max(b));
            prop_assert_eq!(&payload.to_bytes()[..], &model[..]);
            prop_assert_eq!(&payload.slice(low..high).to_bytes()[..], &model[low..high]);
            let mut advanced = payload.clone();
            advanced.advance(a);
            prop_assert_eq!(&advanced.to_bytes()[..], &model[a..]);
            let mut rest = payload.clone();
            let front = rest.split_to(a);
            prop_assert_eq!((front.len(), rest.len()), (a, model.len() - a));
            prop_assert_eq!(&front.to_bytes()[..], &model[..a]);
            prop_assert_eq!(&rest.to_bytes()[..], &model[a..]);
            prop_assert!(front.slices().iter().chain(rest.slices()).all(|s| !s.is_empty()));
            let mut cut = payload.clone();
            cut.truncate(b);
            prop_assert_eq!(cut.len(), b);
            prop_assert_eq!(&cut.to_bytes()[..], &model[..b]);
            let mut copied = vec![0; high - low];
            prop_assert_eq!(payload.copy_to(low, &mut copied), high - low);
            prop_assert_eq!(&copied[..], &model[low..high]);
        }
    }
}

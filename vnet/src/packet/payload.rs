//! Bytes by reference: a short list of refcounted slices. Cutting, joining and cloning a payload
//! never copies a byte of them. A handful of bytes is not worth a reference: a payload can hold it itself.

use std::ops::Range;

use bytes::{Buf, Bytes};
use smallvec::SmallVec;

/// What is as long as this holds no more than four times its length: the largest slices are of
/// 64 KiB.
const COMPACT: usize = 16 << 10;

/// The most bytes that a payload holds itself. A list with room for two slices takes as much.
pub(crate) const SHORT: usize = 64;

/// A sequence of bytes: a few that it holds itself, or refcounted slices. A small message costs no memory of its own
/// that way, and a large one is never copied.
#[derive(Clone, Debug)]
pub struct Payload {
    held: Held,
    len: usize,
}

/// Takes bytes from a queue, in order.
pub(crate) trait Taker {
    /// Takes a slice, by reference.
    fn take(&mut self, slice: Bytes);

    /// Takes a copy.
    fn take_copy(&mut self, bytes: &[u8]);

    /// True when it has taken nothing.
    fn is_empty(&self) -> bool;
}

impl Taker for Payload {
    #[inline]
    fn take(&mut self, slice: Bytes) {
        self.push(slice);
    }

    #[inline]
    fn take_copy(&mut self, bytes: &[u8]) {
        self.push_copy(bytes);
    }

    #[inline]
    fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// Where the bytes of a payload are.
#[derive(Clone, Debug)]
enum Held {
    /// In it, at the beginning. There is one at least.
    Short([u8; SHORT]),
    /// In slices, in order. No slice is empty.
    Slices(SmallVec<[Bytes; 2]>),
}

impl Default for Payload {
    fn default() -> Payload {
        Payload::new()
    }
}

impl Payload {
    /// No bytes.
    #[inline]
    pub(crate) fn new() -> Payload {
        Payload {
            held: Held::Slices(SmallVec::new()),
            len: 0,
        }
    }

    /// A copy of bytes.
    #[inline]
    pub(crate) fn copied(bytes: &[u8]) -> Payload {
        match bytes.len() {
            0 => Payload::new(),
            len @ 1..=SHORT => {
                let mut short = [0; SHORT];
                short[..len].copy_from_slice(bytes);
                Payload {
                    held: Held::Short(short),
                    len,
                }
            }
            _ => Payload::from(Bytes::copy_from_slice(bytes)),
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

    /// The bytes, in pieces, in order.
    #[inline]
    pub fn slices(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        let (short, slices) = match &self.held {
            Held::Short(bytes) => (Some(&bytes[..self.len]), &[][..]),
            Held::Slices(slices) => (None, &slices[..]),
        };
        Slices {
            short,
            slices: slices.iter(),
        }
    }

    /// The bytes that it holds itself, if it does.
    #[inline]
    pub(crate) fn short(&self) -> Option<&[u8]> {
        match &self.held {
            Held::Short(bytes) => Some(&bytes[..self.len]),
            Held::Slices(_) => None,
        }
    }

    /// The bytes in slices, by value.
    #[inline]
    pub(crate) fn into_slices(self) -> impl Iterator<Item = Bytes> {
        let slices = match self.held {
            Held::Short(bytes) => SmallVec::from_iter([Bytes::copy_from_slice(&bytes[..self.len])]),
            Held::Slices(slices) => slices,
        };
        slices.into_iter()
    }

    /// The slices, to be changed: what it holds itself moves into one.
    #[inline]
    fn slices_mut(&mut self) -> &mut SmallVec<[Bytes; 2]> {
        if let Held::Short(bytes) = &self.held {
            let slice = Bytes::copy_from_slice(&bytes[..self.len]);
            self.held = Held::Slices(SmallVec::from_iter([slice]));
        }
        match &mut self.held {
            Held::Slices(slices) => slices,
            Held::Short(_) => unreachable!("it has moved into a slice"),
        }
    }

    /// Appends a slice.
    #[inline]
    pub(crate) fn push(&mut self, slice: Bytes) {
        if !slice.is_empty() {
            let len = slice.len();
            self.slices_mut().push(slice);
            self.len += len;
        }
    }

    /// Appends a copy of bytes.
    #[inline]
    pub(crate) fn push_copy(&mut self, bytes: &[u8]) {
        match self.is_empty() {
            true => *self = Payload::copied(bytes),
            false => self.push(Bytes::copy_from_slice(bytes)),
        }
    }

    /// Appends all of `other`.
    pub(crate) fn append(&mut self, other: Payload) {
        if self.is_empty() {
            *self = other;
            return;
        }
        let len = other.len;
        let slices = self.slices_mut();
        match other.held {
            // The usual case: a segment behind others.
            Held::Slices(mut one) if one.len() == 1 => slices.extend(one.pop()),
            _ => slices.extend(other.into_slices()),
        }
        self.len += len;
    }

    /// The bytes of `range`, by reference unless it holds them itself.
    ///
    /// # Panics
    /// When the range reaches past the end.
    pub(crate) fn slice(&self, range: Range<usize>) -> Payload {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "slice {range:?} of a payload of {} bytes",
            self.len
        );
        let slices = match &self.held {
            Held::Short(bytes) => return Payload::copied(&bytes[range]),
            Held::Slices(slices) => slices,
        };
        let mut out = Payload::new();
        let mut skip = range.start;
        let mut want = range.end - range.start;
        for s in slices {
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
        if n == self.len {
            *self = Payload::new();
            return;
        }
        let len = self.len;
        self.len -= n;
        let slices = match &mut self.held {
            Held::Short(bytes) => return bytes.copy_within(n..len, 0),
            Held::Slices(slices) => slices,
        };
        let mut whole = 0;
        for s in &mut *slices {
            if n < s.len() {
                // In place: the slice is no other's, and its memory stays as shared as it is.
                Buf::advance(s, n);
                break;
            }
            n -= s.len();
            whole += 1;
        }
        if whole > 0 {
            slices.drain(..whole);
        }
    }

    /// Takes the first `n` bytes off.
    ///
    /// # Panics
    /// When there are fewer.
    pub(crate) fn split_to(&mut self, n: usize) -> Payload {
        if let Held::Slices(slices) = &mut self.held
            && let Some(first) = slices.first_mut()
            && n < first.len()
        {
            // The usual case of a payload that is cut: from a slice that is longer.
            self.len -= n;
            return Payload::from(first.split_to(n));
        }
        if n == self.len {
            return std::mem::take(self);
        }
        let front = self.slice(0..n);
        self.advance(n);
        front
    }

    /// Keeps the first `n` bytes; does nothing when there are no more than that.
    pub(crate) fn truncate(&mut self, n: usize) {
        if n >= self.len {
            return;
        }
        if n == 0 {
            *self = Payload::new();
            return;
        }
        self.len = n;
        let Held::Slices(slices) = &mut self.held else {
            return;
        };
        let mut left = n;
        let mut keep = 0;
        for s in &mut *slices {
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
        slices.truncate(keep);
    }

    /// Lets go of memory that is shared with others, by copying what is so small that it may be the
    /// last to hold much more: a queue that is long, and limited by the bytes it holds, must not hold
    /// the memory of what was cut off or lost as well. Returns what was let go of: whoever dropped it
    /// may run what the program wants to be told by.
    pub(crate) fn compact(&mut self) -> Option<Payload> {
        if !(1..COMPACT).contains(&self.len) || self.short().is_some() {
            return None;
        }
        let mut copy = vec![0; self.len];
        self.copy_to(0, &mut copy);
        Some(std::mem::replace(self, Payload::from(copy)))
    }

    /// Copies the bytes from `offset` on into `to` and returns how many there were.
    #[inline]
    pub(crate) fn copy_to(&self, offset: usize, to: &mut [u8]) -> usize {
        let mut skip = offset;
        let mut done = 0;
        for s in self.slices() {
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

    /// All the bytes in one slice; copies where they are in several, or few.
    pub fn to_bytes(&self) -> Bytes {
        match &self.held {
            Held::Slices(slices) if slices.len() <= 1 => {
                slices.first().cloned().unwrap_or_default()
            }
            _ => {
                let mut all = Vec::with_capacity(self.len);
                for s in self.slices() {
                    all.extend_from_slice(s);
                }
                all.into()
            }
        }
    }
}

/// The pieces of a payload.
struct Slices<'a> {
    short: Option<&'a [u8]>,
    slices: std::slice::Iter<'a, Bytes>,
}

impl<'a> Iterator for Slices<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        self.short
            .take()
            .or_else(|| self.slices.next().map(|slice| &slice[..]))
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        let len = self.slices.len() + usize::from(self.short.is_some());
        (len, Some(len))
    }
}

impl ExactSizeIterator for Slices<'_> {}

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

    #[test]
    fn what_is_short_takes_no_more_room_than_a_list_of_two_slices() {
        let list = size_of::<SmallVec<[Bytes; 2]>>();
        // What tells the two apart, and the length.
        assert!(size_of::<Payload>() <= list + 2 * size_of::<usize>());
    }

    /// A payload of parts; those for which `copies` says so are appended as copies.
    fn build(parts: &[(bool, Vec<u8>)]) -> (Payload, Vec<u8>) {
        let mut p = Payload::new();
        for (copies, part) in parts {
            match copies {
                true => p.push_copy(part),
                false => p.push(Bytes::copy_from_slice(part)),
            }
        }
        let model = parts.iter().flat_map(|(_, part)| part).copied();
        (p, model.collect())
    }

    proptest! {
        /// Every operation agrees with the same one on a plain vector.
        #[test]
        fn behaves_as_a_vector(
            parts in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..80)), 0..5),
            behind in prop::collection::vec(any::<u8>(), 0..80),
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
            prop_assert!(front.slices().chain(rest.slices()).all(|s| !s.is_empty()));
            let mut cut = payload.clone();
            cut.truncate(b);
            prop_assert_eq!(cut.len(), b);
            prop_assert_eq!(&cut.to_bytes()[..], &model[..b]);
            let mut copied = vec![0; high - low];
            prop_assert_eq!(payload.copy_to(low, &mut copied), high - low);
            prop_assert_eq!(&copied[..], &model[low..high]);
            let pieces: Vec<&[u8]> = payload.slices().collect();
            prop_assert_eq!(payload.slices().len(), pieces.len());
            prop_assert_eq!(pieces.concat(), &model[..]);
            let by_value: Vec<Bytes> = payload.clone().into_slices().collect();
            prop_assert_eq!(by_value.concat(), &model[..]);
            let mut compact = payload.clone();
            compact.compact();
            prop_assert_eq!(&compact.to_bytes()[..], &model[..]);
            let mut joined = payload.clone();
            joined.append(Payload::copied(&behind));
            prop_assert_eq!(joined.len(), model.len() + behind.len());
            prop_assert_eq!(&joined.to_bytes()[..], &[&model[..], &behind[..]].concat());
        }
    }
}

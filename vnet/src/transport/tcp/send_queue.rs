//! Data that has been written and has not been acknowledged.
//!
//! Slices are kept as they came, each with its sequence number, so that the bytes at any
//! position are found by binary search. Small writes are copied into an open tail, so that a
//! thousand one-byte writes do not become a thousand slices.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

use super::seq::SeqNum;
use crate::packet::payload::{Payload, SHORT};

/// Writes up to this size are copied into the tail.
pub(super) const SMALL_WRITE: usize = 4096;
/// Room for writes after each other when there is none; for those that are short, of which a connection may have one
/// and then rest for long, and for those of a few bytes.
const FIRST_TAIL: usize = 512;
const SHORT_TAIL: usize = 2 * SHORT;
const LEAST_TAIL: usize = 24;
const LARGE_TAIL: usize = 4096;
/// What a slice costs besides its bytes.
const SLICE_COST: usize = 64;

#[derive(Debug)]
struct Chunk {
    seq: SeqNum,
    bytes: Bytes,
}

/// The bytes from the oldest unacknowledged one to the last one written.
#[derive(Debug, Default)]
pub(super) struct SendQueue {
    chunks: VecDeque<Chunk>,
    /// Written bytes behind the last chunk; still growing.
    tail: BytesMut,
    base: SeqNum,
    end: SeqNum,
    /// Bytes of the first chunk that are acknowledged, and whose memory is still held.
    spent: usize,
}

impl SendQueue {
    /// An empty queue whose next byte has sequence number `base`.
    pub(super) fn new(base: SeqNum) -> SendQueue {
        SendQueue {
            base,
            end: base,
            ..SendQueue::default()
        }
    }

    /// Bytes held.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.end.since(self.base) as usize
    }

    /// Whether it is as good as a new one at `una`, apart from the room that it has.
    pub(super) fn is_drained(&self, una: SeqNum) -> bool {
        let is_empty = self.chunks.is_empty() && self.tail.is_empty();
        is_empty && self.spent == 0 && self.base == una && self.end == una
    }

    /// Bytes of memory held: those that wait, those that share their memory, and what it takes to
    /// find them.
    pub(super) fn cost(&self) -> usize {
        let tail = self.tail.capacity() - self.tail.len();
        self.len() + self.spent + tail + self.chunks.len() * SLICE_COST
    }

    /// The sequence number behind the last byte.
    #[inline]
    pub(super) fn end(&self) -> SeqNum {
        self.end
    }

    /// Appends by reference.
    pub(super) fn push(&mut self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        self.freeze_tail();
        let seq = self.end;
        self.end += bytes.len() as u32;
        self.chunks.push_back(Chunk { seq, bytes });
    }

    /// Appends a copy.
    pub(super) fn push_copy(&mut self, data: &[u8]) {
        if self.tail.capacity() - self.tail.len() < data.len() {
            self.make_room(data.len());
        }
        self.tail.extend_from_slice(data);
        self.end += data.len() as u32;
    }

    /// Makes room for a write of so many bytes.
    fn make_room(&mut self, len: usize) {
        let held = self.tail.len();
        if held > 0 && self.tail.capacity() < SHORT_TAIL && held + len <= SHORT_TAIL {
            return self.tail.reserve(SHORT_TAIL - held);
        }
        // A tail that filled up between two transmissions belongs to a writer of many small
        // pieces: it gets a larger one.
        let want = match held {
            0 if len <= LEAST_TAIL => LEAST_TAIL,
            0 if len <= SHORT => SHORT_TAIL,
            0 => FIRST_TAIL,
            _ => LARGE_TAIL,
        };
        self.freeze_tail();
        // Takes the old memory over when nobody refers to it any more.
        self.tail.reserve(want.max(len));
    }

    /// The `len` bytes from `from` on, by reference; or a copy, of a few that were copied when they were written.
    ///
    /// # Panics
    /// When they are not all held: the caller derives the range from this queue.
    pub(super) fn slice(&mut self, from: SeqNum, len: usize) -> Payload {
        let skip = from.since(self.base) as usize;
        assert!(
            skip + len <= self.len(),
            "sending bytes that are not queued"
        );
        let tail_start = self.len() - self.tail.len();
        if skip + len > tail_start {
            if len <= SHORT && skip >= tail_start {
                return Payload::copied(&self.tail[skip - tail_start..][..len]);
            }
            self.freeze_tail();
        }
        let mut out = Payload::new();
        let base = self.base;
        let mut at = match self.chunks.len() {
            // The usual case of a request and its reply.
            1 => 0,
            _ => self
                .chunks
                .partition_point(|c| c.seq.since(base) as usize <= skip)
                .saturating_sub(1),
        };
        let mut want = len;
        let mut from = from;
        while want > 0 {
            let chunk = &self.chunks[at];
            let offset = from.since(chunk.seq) as usize;
            let take = want.min(chunk.bytes.len() - offset);
            out.push(chunk.bytes.slice(offset..offset + take));
            want -= take;
            from += take as u32;
            at += 1;
        }
        out
    }

    /// Forgets the bytes before `una`, which lies within the queue.
    pub(super) fn release_to(&mut self, una: SeqNum) {
        debug_assert!(una.is_in(self.base..=self.end), "released what is not held");
        if una == self.end {
            // Everything; also the common case of a request and its reply.
            self.chunks.clear();
            self.tail.clear();
            self.spent = 0;
            self.base = una;
            return;
        }
        let base = std::mem::replace(&mut self.base, una);
        while let Some(front) = self.chunks.front_mut() {
            let end = front.seq + front.bytes.len() as u32;
            if !base.precedes(una, end) {
                self.chunks.pop_front();
                self.spent = 0;
                continue;
            }
            if base.precedes(front.seq, una) {
                let n = una.since(front.seq) as usize;
                front.bytes = front.bytes.slice(n..);
                front.seq = una;
                self.spent += n;
            }
            return;
        }
        // The rest of it is in the tail, of which a few bytes can have been sent.
        let tail_seq = self.end - self.tail.len() as u32;
        self.tail.advance(una.since(tail_seq) as usize);
    }

    fn freeze_tail(&mut self) {
        if self.tail.is_empty() {
            return;
        }
        let bytes = self.tail.split().freeze();
        let seq = self.end - bytes.len() as u32;
        // Small pieces that went out one by one are still separate; that is the price of not
        // copying them again.
        self.chunks.push_back(Chunk { seq, bytes });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Op {
        Push(Vec<u8>),
        Copy(Vec<u8>),
        Slice(prop::sample::Index, prop::sample::Index),
        Release(prop::sample::Index),
    }

    fn op() -> impl Strategy<Value = Op> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..600);
        prop_oneof![
            bytes().prop_map(Op::Push),
            bytes().prop_map(Op::Copy),
            any::<(prop::sample::Index, prop::sample::Index)>().prop_map(|(a, b)| Op::Slice(a, b)),
            any::<prop::sample::Index>().prop_map(Op::Release),
        ]
    }

    proptest! {
        /// Agrees with one long vector, across the wrap of the sequence space.
        #[test]
        fn behaves_as_a_vector(base in prop_oneof![Just(u32::MAX - 700), any::<u32>()],
                               ops in prop::collection::vec(op(), 0..60)) {
            let mut queue = SendQueue::new(SeqNum(base));
            let mut model: Vec<u8> = Vec::new();
            let mut start = SeqNum(base);
            for op in ops {
                match op {
                    Op::Push(b) => { model.extend(&b); queue.push(b.into()); }
                    Op::Copy(b) => { model.extend(&b); queue.push_copy(&b); }
                    Op::Slice(a, b) => {
                        let (a, b) = (a.index(model.len() + 1), b.index(model.len() + 1));
                        let (a, b) = (a.min(b), a.max(b));
                        let got = queue.slice(start + a as u32, b - a);
                        prop_assert_eq!(&got.to_bytes()[..], &model[a..b]);
                    }
                    Op::Release(n) => {
                        let n = n.index(model.len() + 1);
                        model.drain(..n);
                        start += n as u32;
                        queue.release_to(start);
                    }
                }
                prop_assert_eq!(queue.len(), model.len());
                prop_assert_eq!(queue.end(), start + model.len() as u32);
            }
        }
    }

    #[test]
    fn many_tiny_writes_become_few_slices() {
        let mut queue = SendQueue::new(SeqNum(0));
        for i in 0..10_000u32 {
            queue.push_copy(&[i as u8]);
        }
        assert!(queue.slice(SeqNum(0), 10_000).slices().len() <= 5);
    }
}

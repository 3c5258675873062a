//! Data that has arrived and has not been read: bytes in order, and blocks beyond a gap.
//!
//! Slices are kept by reference. A tiny segment behind another tiny one is copied into an open
//! tail instead, so that a peer cannot make us hold far more memory than the bytes it sends;
//! blocks beyond a gap are charged an overhead for the same reason.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};
use smallvec::SmallVec;

use super::seq::SeqNum;
use crate::packet::header::SackBlocks;
use crate::packet::payload::{Payload, SHORT, Taker};
use crate::transport::edge::ReadMode;

/// Segments below this are merged when they pile up.
const TINY: usize = 512;
const TAIL: usize = 4096;
/// The first tail, which is kept for the next message where there is no more than it; and the same for messages of a few
/// bytes, as long as there are no longer ones.
const FIRST_TAIL: usize = 2 * SHORT;
const LEAST_TAIL: usize = 24;
/// What a slice ahead of a gap costs besides its bytes.
const BLOCK_OVERHEAD: usize = 256;
/// Above so many bytes, overhead included, blocks ahead of a gap are copied out of the memory that
/// they share with what may have been lost.
const MUCH_AHEAD: usize = 64 << 10;

/// Received bytes of one connection.
#[derive(Debug, Default)]
pub(super) struct RecvQueue {
    slices: VecDeque<Bytes>,
    /// In-order bytes behind the last slice; still growing.
    tail: BytesMut,
    /// In-order bytes, the tail included.
    len: usize,
    /// Bytes of the first slice that were read, and whose memory is still held.
    spent: usize,
    /// Made with the first segment that arrives out of order or twice, and gone when there is nothing more to say of it.
    gap: Option<Box<Gap>>,
}

/// What arrived ahead of a gap, and what the peer is to be told of it.
#[derive(Debug, Default)]
struct Gap {
    ahead: VecDeque<Block>,
    ahead_charge: usize,
    report: Report,
}

/// What became of a segment ahead of a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ahead {
    Stored,
    /// Every byte of it was here already.
    Duplicate,
    /// It would cost more than the buffer may hold.
    NoRoom,
}

#[derive(Debug)]
struct Block {
    start: SeqNum,
    payload: Payload,
}

impl Block {
    fn end(&self) -> SeqNum {
        self.start + self.payload.len() as u32
    }

    fn charge(&self) -> usize {
        self.payload.len() + self.payload.slices().len() * BLOCK_OVERHEAD
    }
}

/// The first contiguous range of one segment that was here already (RFC 2883 4).
#[derive(Debug, Default)]
struct Duplicate(Option<(SeqNum, SeqNum)>);

impl Duplicate {
    /// Adds a range, seen from `nxt`; it may be empty.
    fn add(&mut self, nxt: SeqNum, start: SeqNum, end: SeqNum) {
        if !nxt.precedes(start, end) {
            return;
        }
        match &mut self.0 {
            None => self.0 = Some((start, end)),
            Some(first) if first.1 == start => first.1 = end,
            Some(_) => {}
        }
    }
}

/// What the next selective acknowledgement says.
#[derive(Debug, Default)]
struct Report {
    /// The runs that grew most recently, latest first (RFC 2018 4).
    recent: SmallVec<[(SeqNum, SeqNum); SackBlocks::MAX]>,
    /// A range that arrived twice, to be reported once (RFC 2883).
    duplicate: Option<(SeqNum, SeqNum)>,
}

impl RecvQueue {
    /// In-order bytes that wait to be read.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether it is as good as a new one, apart from the room that it has.
    pub(super) fn is_drained(&self) -> bool {
        let is_empty = self.slices.is_empty() && self.tail.is_empty();
        is_empty && self.len == 0 && self.spent == 0 && self.gap.is_none()
    }

    /// Bytes of memory held: those that can be read, those that share their memory, and those ahead
    /// of a gap with what they cost besides.
    pub(super) fn cost(&self) -> usize {
        let ahead = self.gap.as_ref().map_or(0, |gap| gap.ahead_charge);
        self.len + self.spent + ahead
    }

    /// Bytes ahead of a gap.
    #[cfg(test)]
    pub(super) fn ahead_len(&self) -> usize {
        let gap = self.gap.iter();
        gap.flat_map(|gap| &gap.ahead)
            .map(|b| b.payload.len())
            .sum()
    }

    /// True when there is a gap with data behind it.
    #[inline]
    pub(super) fn has_gap(&self) -> bool {
        self.gap.as_ref().is_some_and(|gap| !gap.ahead.is_empty())
    }

    /// Appends in-order bytes.
    #[inline]
    pub(super) fn push(&mut self, payload: Payload) {
        let len = payload.len();
        if self.len == 0
            && let Some(bytes) = payload.short()
        {
            self.tail.reserve(match len <= LEAST_TAIL {
                true => LEAST_TAIL,
                false => FIRST_TAIL,
            });
            self.tail.extend_from_slice(bytes);
            self.len = len;
            return;
        }
        if len < TINY && self.len > 0 && self.absorb(&payload) {
            self.len += len;
            return;
        }
        self.freeze_tail();
        self.len += len;
        self.slices.extend(payload.into_slices());
    }

    /// Copies a tiny payload behind the tail, or behind a tiny last slice.
    fn absorb(&mut self, payload: &Payload) -> bool {
        if self.tail.is_empty() {
            match self.slices.back() {
                Some(last) if last.len() < TINY => {}
                _ => return false,
            }
            self.tail.reserve(TAIL);
            if let Some(last) = self.slices.pop_back() {
                self.tail.extend_from_slice(&last);
            }
            if self.slices.is_empty() {
                self.spent = 0;
            }
        }
        let (held, room) = (self.tail.len(), self.tail.capacity());
        if room - held < payload.len() {
            if room < FIRST_TAIL && held + payload.len() <= FIRST_TAIL {
                self.tail.reserve(FIRST_TAIL - held);
            } else {
                self.freeze_tail();
                self.tail.reserve(TAIL);
            }
        }
        for slice in payload.slices() {
            self.tail.extend_from_slice(slice);
        }
        true
    }

    /// Stores a segment ahead of a gap. What is held already is kept, as the first copy came
    /// from the same peer. `budget` is what all blocks together may cost. `nxt` is what is
    /// expected next: the end from which everything ahead of it is seen.
    pub(super) fn insert_ahead(
        &mut self,
        nxt: SeqNum,
        seq: SeqNum,
        payload: Payload,
        budget: usize,
    ) -> Ahead {
        let gap = self.gap.get_or_insert_default();
        let outcome = gap.insert(nxt, seq, payload, budget);
        self.drop_gap_if_over();
        outcome
    }

    fn drop_gap_if_over(&mut self) {
        self.gap.take_if(|gap| gap.is_over());
    }

    /// Moves blocks that are now in order behind the in-order bytes and returns the new `nxt`.
    /// What was expected next has moved from `old` to `nxt`.
    #[inline]
    pub(super) fn close_gap(&mut self, old: SeqNum, nxt: SeqNum) -> SeqNum {
        let Some(mut gap) = self.gap.take_if(|gap| !gap.ahead.is_empty()) else {
            return nxt;
        };
        let segment_end = nxt;
        let mut nxt = nxt;
        let mut duplicate = Duplicate::default();
        while let Some(front) = gap.ahead.front() {
            if old.precedes(nxt, front.start) {
                break;
            }
            let Some(mut block) = gap.ahead.pop_front() else {
                break;
            };
            gap.ahead_charge -= block.charge();
            let end = block.end();
            duplicate.add(old, block.start, old.earlier(end, segment_end));
            if old.precedes(nxt, end) {
                block.payload.advance(nxt.since(block.start) as usize);
                nxt = end;
                self.push(block.payload);
            }
        }
        let report = &mut gap.report;
        report.recent.retain(|(_, end)| old.precedes(nxt, *end));
        // What is old already of the same segment comes before it.
        report.duplicate = report.duplicate.or(duplicate.0);
        self.gap = Some(gap);
        self.drop_gap_if_over();
        nxt
    }

    /// Forgets what is ahead of a gap: the stream ends before it.
    pub(super) fn discard_ahead(&mut self) {
        if let Some(gap) = &mut self.gap {
            gap.ahead.clear();
            gap.ahead_charge = 0;
            gap.report.recent.clear();
            self.drop_gap_if_over();
        }
    }

    /// Notes that `range` arrived although it was here (RFC 2883).
    pub(super) fn note_duplicate(&mut self, range: (SeqNum, SeqNum)) {
        self.gap.get_or_insert_default().report.duplicate = Some(range);
    }

    /// The blocks to report now, at most `max`.
    pub(super) fn sack_blocks(&mut self, max: usize) -> SackBlocks {
        let mut blocks = SackBlocks::NONE;
        let Some(gap) = &mut self.gap else {
            return blocks;
        };
        // RFC 2883 4: the duplicate comes first, and in one acknowledgement only.
        let duplicate = gap.report.duplicate.take();
        let recent = gap.report.recent.iter().copied();
        for (start, end) in duplicate.into_iter().chain(recent) {
            if blocks.as_slice().len() == max || !blocks.push((start.0, end.0)) {
                break;
            }
        }
        self.drop_gap_if_over();
        blocks
    }

    /// How many blocks there are to report.
    #[inline]
    pub(super) fn sack_count(&self) -> usize {
        self.gap.as_ref().map_or(0, |gap| gap.report.len())
    }

    /// Hands out up to `max` bytes and returns how many.
    pub(super) fn read(&mut self, max: usize, into: &mut impl Taker, mode: ReadMode) -> usize {
        let want = max.min(self.len);
        let mut left = want;
        if mode == ReadMode::Peek {
            for slice in &self.slices {
                let take = left.min(slice.len());
                into.take(slice.slice(..take));
                left -= take;
            }
            into.take_copy(&self.tail[..left]);
            return want;
        }
        self.len -= want;
        while left > 0 {
            let Some(front) = self.slices.front_mut() else {
                if left <= SHORT && into.is_empty() {
                    into.take_copy(&self.tail[..left]);
                    match left == self.tail.len() {
                        // Its beginning is free again, as well.
                        true => self.tail.clear(),
                        false => self.tail.advance(left),
                    }
                } else {
                    into.take(self.tail.split_to(left).freeze());
                }
                break;
            };
            if front.len() > left {
                into.take(front.split_to(left));
                self.spent += left;
                break;
            }
            left -= front.len();
            into.take(std::mem::take(front));
            self.slices.pop_front();
            self.spent = 0;
        }
        if self.len == 0 {
            match self.tail.capacity() <= FIRST_TAIL {
                true => self.tail.clear(),
                false => self.tail = BytesMut::new(),
            }
            self.spent = 0;
        }
        want
    }

    fn freeze_tail(&mut self) {
        if !self.tail.is_empty() {
            self.slices.push_back(self.tail.split().freeze());
        }
    }
}

impl Gap {
    /// Nothing is ahead, and nothing is to be said.
    fn is_over(&self) -> bool {
        self.ahead.is_empty() && self.report.len() == 0
    }

    /// See [`RecvQueue::insert_ahead`].
    fn insert(&mut self, nxt: SeqNum, seq: SeqNum, payload: Payload, budget: usize) -> Ahead {
        let (start, end) = (seq, seq + payload.len() as u32);
        let mut at = self.behind(nxt, start);
        let mut from = start;
        if at > 0 {
            from = nxt.later(from, self.ahead[at - 1].end());
        }
        let mut stored = false;
        let mut duplicate = Duplicate::default();
        duplicate.add(nxt, start, nxt.earlier(from, end));
        // Fill the holes between the blocks that overlap the segment.
        while nxt.precedes(from, end) {
            let next = self.ahead.get(at);
            let upto = next.map_or(end, |next| nxt.earlier(next.start, end));
            if nxt.precedes(from, upto) {
                let range = from.since(start) as usize..upto.since(start) as usize;
                let mut block = Block {
                    start: from,
                    payload: payload.slice(range),
                };
                if self.ahead_charge > MUCH_AHEAD {
                    block.payload.compact();
                }
                if self.ahead_charge + block.charge() > budget.max(BLOCK_OVERHEAD * 4) {
                    if !stored {
                        return Ahead::NoRoom;
                    }
                    break;
                }
                self.ahead_charge += block.charge();
                self.ahead.insert(at, block);
                stored = true;
                at += 1;
            }
            let Some(next) = self.ahead.get(at) else {
                break;
            };
            from = nxt.later(upto, next.end());
            duplicate.add(nxt, upto, nxt.earlier(from, end));
            at += 1;
        }
        // RFC 2883 4: "the second SACK block [...] should specify that (possibly larger) block",
        // which is also what RFC 2018 4 asks for.
        let run = self.run_around(nxt, start);
        self.report.note(nxt, run);
        self.report.duplicate = duplicate.0.or(self.report.duplicate);
        match stored {
            true => Ahead::Stored,
            false => Ahead::Duplicate,
        }
    }

    /// How many blocks begin at `seq` or before it.
    fn behind(&self, nxt: SeqNum, seq: SeqNum) -> usize {
        let before = |b: &Block| !nxt.precedes(seq, b.start);
        self.ahead.iter().rposition(before).map_or(0, |i| i + 1)
    }

    /// The contiguous run of blocks that contains `seq`.
    fn run_around(&self, nxt: SeqNum, seq: SeqNum) -> (SeqNum, SeqNum) {
        let at = self.behind(nxt, seq).saturating_sub(1);
        let (mut first, mut last) = (at, at);
        while first > 0 && self.ahead[first - 1].end() == self.ahead[first].start {
            first -= 1;
        }
        while last + 1 < self.ahead.len() && self.ahead[last].end() == self.ahead[last + 1].start {
            last += 1;
        }
        (self.ahead[first].start, self.ahead[last].end())
    }
}

impl Report {
    /// How many blocks there are to report.
    fn len(&self) -> usize {
        self.recent.len() + usize::from(self.duplicate.is_some())
    }

    fn note(&mut self, nxt: SeqNum, run: (SeqNum, SeqNum)) {
        self.recent
            .retain(|(start, end)| nxt.precedes(*start, run.0) || nxt.precedes(run.1, *end));
        self.recent.truncate(SackBlocks::MAX - 1);
        self.recent.insert(0, run);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn payload(range: std::ops::Range<u32>) -> Payload {
        Payload::copied(&range.map(|i| i as u8).collect::<Vec<u8>>())
    }

    proptest! {
        /// Segments in any order, overlapping at will, come out as the stream they were cut
        /// from, and the reported blocks are what a bitmap says is there.
        #[test]
        fn reassembles_like_a_bitmap(
            base in prop_oneof![Just(u32::MAX - 500), any::<u32>()],
            segments in prop::collection::vec((0u32..900, 1u32..200), 1..60),
            read in 1usize..400,
        ) {
            let mut queue = RecvQueue::default();
            let mut have = vec![false; 1200];
            let mut nxt = 0u32;
            let mut out = Payload::new();
            let abs = |i: u32| SeqNum(base) + i;
            for (start, len) in segments {
                let end = start + len;
                if end > nxt {
                    let from = start.max(nxt);
                    let p = payload(from..end);
                    // The first run of cells that were filled already.
                    let cells = || (from..end).map(|i| have[i as usize]);
                    let first = cells().position(|h| h).map(|n| n as u32);
                    let twice = first.map(|n| {
                        let len = cells().skip(n as usize).take_while(|h| *h).count() as u32;
                        (abs(from + n), abs(from + n + len))
                    });
                    if from == nxt {
                        queue.push(p);
                        nxt = queue.close_gap(abs(nxt), abs(end)).since(SeqNum(base));
                    } else {
                        let new = (from..end).any(|i| !have[i as usize]);
                        let did = queue.insert_ahead(abs(nxt), abs(from), p, 1 << 20);
                        prop_assert_eq!(did, if new { Ahead::Stored } else { Ahead::Duplicate });
                    }
                    let duplicate = queue.gap.as_ref().and_then(|gap| gap.report.duplicate);
                    prop_assert_eq!(duplicate, twice);
                    have[from as usize..end as usize].fill(true);
                }
                let model_nxt = have.iter().skip(nxt as usize).position(|h| !h);
                prop_assert_eq!(model_nxt, Some(0));
                if nxt > 0 {
                    prop_assert!(have[nxt as usize - 1]);
                }
                if let Some(gap) = &mut queue.gap {
                    gap.report.duplicate = None;
                }
                for &(l, r) in queue.sack_blocks(4).as_slice() {
                    let (l, r) = (SeqNum(l).since(SeqNum(base)), SeqNum(r).since(SeqNum(base)));
                    prop_assert!((l..r).all(|i| have[i as usize]));
                    prop_assert!(!have[r as usize]);
                    prop_assert!(l > nxt && !have[l as usize - 1]);
                }
                let mut peeked = Payload::new();
                queue.read(read, &mut peeked, ReadMode::Peek);
                let before = out.len();
                queue.read(read, &mut out, ReadMode::Consume);
                let read_now = out.slice(before..out.len()).to_bytes();
                prop_assert_eq!(peeked.to_bytes(), read_now);
                prop_assert_eq!(out.len() + queue.len(), nxt as usize);
            }
            queue.read(usize::MAX, &mut out, ReadMode::Consume);
            // Nothing that was read is counted as held any more.
            let ahead = queue.gap.as_ref().map_or(0, |gap| gap.ahead_charge);
            prop_assert_eq!(queue.cost(), ahead);
            prop_assert_eq!(out.to_bytes(), payload(0..nxt).to_bytes());
            prop_assert_eq!(queue.has_gap(), have.iter().skip(nxt as usize).any(|h| *h));
        }
    }

    #[test]
    fn the_latest_block_is_reported_first_and_a_duplicate_before_it() {
        let mut queue = RecvQueue::default();
        for start in [100, 300, 500, 700, 900] {
            queue.insert_ahead(SeqNum(0), SeqNum(start), payload(0..50), 1 << 20);
        }
        let blocks = |q: &mut RecvQueue, n| q.sack_blocks(n).as_slice().to_vec();
        assert_eq!(blocks(&mut queue, 3), [(900, 950), (700, 750), (500, 550)]);
        // A block next to another one grows it.
        queue.insert_ahead(SeqNum(0), SeqNum(350), payload(0..50), 1 << 20);
        assert_eq!(blocks(&mut queue, 2), [(300, 400), (900, 950)]);
        queue.note_duplicate((SeqNum(10), SeqNum(20)));
        assert_eq!(blocks(&mut queue, 2), [(10, 20), (300, 400)]);
        assert_eq!(blocks(&mut queue, 1), [(300, 400)]);
    }

    #[test]
    fn tiny_segments_do_not_pile_up_slices() {
        let mut queue = RecvQueue::default();
        for i in 0..8192u32 {
            queue.push(payload(i..i + 1));
        }
        assert!(queue.slices.len() <= 4);
        let mut out = Payload::new();
        assert_eq!(queue.read(usize::MAX, &mut out, ReadMode::Consume), 8192);
        assert_eq!(out.to_bytes(), payload(0..8192).to_bytes());
    }

    #[test]
    fn tiny_blocks_ahead_of_a_gap_are_bounded_by_what_they_cost() {
        let mut queue = RecvQueue::default();
        let mut stored = 0;
        for i in 0..1000 {
            let seq = SeqNum(10 + 2 * i);
            if queue.insert_ahead(SeqNum(0), seq, payload(0..1), 25_700) == Ahead::Stored {
                stored += 1;
            }
        }
        assert_eq!(stored, 100);
    }
}

//! What was sent and is not acknowledged: one queue of ranges, each with the time of its last transmission, whether
//! that was the first one, and what is known of its fate. Loss detection, round-trip times and undo read it.
//!
//! The ranges are contiguous from `una` on. Neighbours that left in the same instant and fared alike are one range, and
//! so are neighbours that the peer holds: what is here follows from the holes, not from the number of segments.

use std::collections::VecDeque;

use super::seq::SeqNum;
use crate::base::time::Instant;

/// So many runs of selectively acknowledged bytes are recorded in any case, and one for each two segments that are on their
/// way: where every other one was lost, there are as many. A peer that reports more is not worth the work.
const ENOUGH_RUNS: u32 = 1024;
/// What is sent again at once is no larger than a large segment.
const ENOUGH: u32 = 65_535;
/// What an empty queue may keep allocated.
const KEPT: usize = 4;

/// What is known of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// It is on its way.
    Flying,
    /// The peer has it (RFC 2018).
    Sacked,
    /// It is taken for lost, and was not sent again since.
    Lost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) end: SeqNum,
    /// When it was last sent.
    pub(super) at: Instant,
    pub(super) mark: Mark,
    /// It was sent more than once.
    pub(super) again: bool,
    /// Parts of it left later than `at`: it was merged from several.
    rough: bool,
}

impl Range {
    pub(super) fn transmission(&self) -> Transmission {
        Transmission {
            at: self.at,
            end: self.end,
            again: self.again,
        }
    }
}

/// The last transmission of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Transmission {
    pub(super) at: Instant,
    pub(super) end: SeqNum,
    pub(super) again: bool,
}

impl Transmission {
    /// Whether it left after `other`.
    // RFC 8985 6.2, RACK_sent_after: of what was sent in one instant, the later bytes left later. That does not hold
    // between what was sent for the first time and what was sent again; which of them left later is not known.
    pub(super) fn is_after(&self, other: &Transmission) -> bool {
        // Both were on their way at once, so neither is half a circle from the other.
        let later = self.again == other.again && self.end.is_newer_than(other.end);
        self.at > other.at || (self.at == other.at && later)
    }
}

/// What one acknowledgement says has arrived.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Delivered {
    /// Bytes that were not known to have arrived.
    pub(super) bytes: u32,
    /// The one of them that was sent last.
    pub(super) latest: Option<Transmission>,
    /// The one of those sent once that was sent last.
    pub(super) latest_once: Option<Transmission>,
    /// When the first one of them was sent, where that is known exactly.
    pub(super) first: Option<Instant>,
    /// Some of them were sent more than once.
    pub(super) again: bool,
    /// Some of them were sent once.
    pub(super) once: bool,
    /// Some of them were sent once, before others that arrived earlier.
    pub(super) overtaken: bool,
}

/// The queue.
#[derive(Clone, Debug, Default)]
pub(super) struct Sent {
    una: SeqNum,
    ranges: VecDeque<Range>,
    /// Bytes by mark; the rest is flying.
    sacked: u32,
    lost: u32,
    /// Ranges that are marked as sacked.
    runs: u32,
    /// The end of what is known to have arrived; not behind `una`.
    highest: SeqNum,
    /// No byte before it is marked as lost.
    lost_from: SeqNum,
    /// What was taken for lost since somebody asked, and when the last of it had left.
    newly_lost: u32,
    newly_lost_at: Instant,
}

impl Sent {
    /// Whether nothing is on its way from `una` on, and nobody has to be told of what was.
    pub(super) fn is_quiet(&self, una: SeqNum) -> bool {
        self.ranges.is_empty()
            && self.una == una
            && self.highest == una
            && self.sacked == 0
            && self.lost == 0
            && self.runs == 0
            && self.newly_lost == 0
            && self.newly_lost_at == Instant::ZERO
    }

    /// What one that is quiet has to keep.
    pub(super) fn lost_from(&self) -> SeqNum {
        self.lost_from
    }

    /// One that was quiet.
    pub(super) fn rested(una: SeqNum, lost_from: SeqNum) -> Sent {
        Sent {
            una,
            highest: una,
            lost_from,
            ..Sent::default()
        }
    }

    /// Bytes selectively acknowledged.
    #[inline]
    pub(super) fn sacked(&self) -> u32 {
        self.sacked
    }

    /// Bytes taken for lost and not sent again.
    #[inline]
    pub(super) fn lost(&self) -> u32 {
        self.lost
    }

    /// What was taken for lost since the last call, in bytes, and when the last of it had left.
    pub(super) fn take_newly_lost(&mut self) -> (u32, Option<Instant>) {
        let bytes = std::mem::take(&mut self.newly_lost);
        let at = std::mem::take(&mut self.newly_lost_at);
        (bytes, (bytes > 0).then_some(at))
    }

    /// When the oldest unacknowledged bytes were last sent.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.ranges.front().map(|r| r.at)
    }

    /// The end of what was sent.
    fn nxt(&self) -> SeqNum {
        self.ranges.back().map_or(self.una, |r| r.end)
    }

    /// `start..end` was sent for the first time.
    #[inline]
    pub(super) fn push(&mut self, start: SeqNum, end: SeqNum, now: Instant) {
        match self.ranges.back_mut() {
            Some(last) if last.at == now && last.mark == Mark::Flying && !last.again => {
                last.end = end;
                return;
            }
            Some(_) => {}
            None => {
                self.una = start;
                self.highest = start;
                // Many connections never have more than one; a second one gets room for four.
                self.ranges.reserve_exact(1);
            }
        }
        self.ranges.push_back(Range {
            end,
            at: now,
            mark: Mark::Flying,
            again: false,
            rough: false,
        });
    }

    /// Everything before `una` is acknowledged, where that is plain: within the first range, which was sent once, with
    /// nothing that arrived before it. Returns when it was sent; otherwise nothing has happened.
    #[inline]
    pub(super) fn advance_plainly(&mut self, una: SeqNum) -> Option<Instant> {
        let (start, front) = (self.una, *self.ranges.front()?);
        let plain = front.mark == Mark::Flying && !front.again && !front.rough;
        let within = una == front.end || start.precedes(una, front.end);
        if !plain || !within || self.lost > 0 || self.highest != start {
            return None;
        }
        if una == front.end {
            self.ranges.pop_front();
            if self.ranges.is_empty() && self.ranges.capacity() > KEPT {
                self.ranges = VecDeque::new();
            }
        }
        self.una = una;
        self.highest = una;
        Some(front.at)
    }

    /// Everything before `una` is acknowledged.
    pub(super) fn advance(&mut self, una: SeqNum, delivered: &mut Delivered) {
        while let Some(front) = self.ranges.front() {
            let (start, range) = (self.una, *front);
            if start.precedes(una, range.end) {
                if una != start {
                    self.leave(start, Range { end: una, ..range }, delivered);
                    self.una = una;
                }
                break;
            }
            self.ranges.pop_front();
            self.leave(start, range, delivered);
            self.runs -= u32::from(range.mark == Mark::Sacked);
            self.una = range.end;
        }
        if self.ranges.is_empty() {
            self.una = una;
            self.highest = una;
            if self.ranges.capacity() > KEPT {
                self.ranges = VecDeque::new();
            }
        }
    }

    /// A range that begins at `start`, which is `una`, leaves the queue.
    fn leave(&mut self, start: SeqNum, range: Range, delivered: &mut Delivered) {
        if start.precedes(self.lost_from, range.end) {
            self.lost_from = range.end;
        }
        if range.mark == Mark::Sacked {
            self.sacked -= range.end.since(start);
            return;
        }
        self.arrive(start, range, delivered);
        if start.precedes(self.highest, range.end) {
            self.highest = range.end;
        }
    }

    /// A range that begins at `start` has arrived. Its mark is the caller's business.
    fn arrive(&mut self, start: SeqNum, range: Range, delivered: &mut Delivered) {
        let len = range.end.since(start);
        if range.mark == Mark::Lost {
            self.lost -= len;
        }
        delivered.bytes += len;
        if !range.rough {
            delivered.first = Some(delivered.first.map_or(range.at, |at| at.min(range.at)));
        }
        let this = range.transmission();
        let later = |known: Option<Transmission>| known.is_none_or(|known| !known.is_after(&this));
        if range.again {
            delivered.again = true;
        } else {
            delivered.once = true;
            delivered.overtaken |= self.una.precedes(range.end, self.highest);
            if later(delivered.latest_once) {
                delivered.latest_once = Some(this);
            }
        }
        if later(delivered.latest) {
            delivered.latest = Some(this);
        }
    }

    /// The index of the range that contains `seq`, which lies between `una` and `nxt`.
    fn find(&self, seq: SeqNum) -> usize {
        let una = self.una;
        self.ranges.partition_point(|r| !una.precedes(seq, r.end))
    }

    fn start_of(&self, i: usize) -> SeqNum {
        match i {
            0 => self.una,
            _ => self.ranges[i - 1].end,
        }
    }

    /// Sees to it that a range begins at `seq`, and returns its index.
    fn cut(&mut self, seq: SeqNum) -> usize {
        let i = self.find(seq);
        if i == self.ranges.len() || self.start_of(i) == seq {
            return i;
        }
        let left = Range {
            end: seq,
            ..self.ranges[i]
        };
        debug_assert!(left.mark != Mark::Sacked, "what the peer holds stays whole");
        self.ranges.insert(i, left);
        i + 1
    }

    /// The peer holds `start..end`. A block that does not lie above `una` and within what was sent is ignored: it is
    /// a duplicate report (RFC 2883), old, or forged. Segments are of `mss` bytes.
    // What is not recorded is taken for lost as soon as something later has arrived.
    pub(super) fn sack(&mut self, start: SeqNum, end: SeqNum, mss: u32, delivered: &mut Delivered) {
        let (una, nxt) = (self.una, self.nxt());
        // One that begins at `una` would have been acknowledged instead.
        if start == una || !end.is_in(una..=nxt) || !una.precedes(start, end) {
            return;
        }
        let held = |r: &Range| r.mark == Mark::Sacked;
        let i = self.find(start);
        let joins_inside = held(&self.ranges[i]);
        let joins_before =
            !joins_inside && i > 0 && self.start_of(i) == start && held(&self.ranges[i - 1]);
        if joins_inside && !una.precedes(self.ranges[i].end, end) {
            self.highest = una.later(self.highest, end);
            return;
        }
        // The range that holds the byte at `end` joins if it is held as well.
        let j = self.find(end);
        let joins_behind = self.ranges.get(j).is_some_and(held);
        let stop = if joins_behind { j + 1 } else { j };
        let known = self
            .ranges
            .range(i..stop.max(i))
            .filter(|r| held(r))
            .count() as u32
            + u32::from(joins_before);
        let most = ENOUGH_RUNS.max(nxt.since(una) / mss.saturating_mul(2).max(1));
        if known == 0 && self.runs >= most {
            return;
        }
        let first = match (joins_inside, joins_before) {
            (true, _) => i,
            (_, true) => i - 1,
            _ => self.cut(start),
        };
        let last = if joins_behind {
            self.find(end)
        } else {
            self.cut(end) - 1
        };
        let mut from = self.start_of(first);
        for k in first..=last {
            let range = self.ranges[k];
            if range.mark != Mark::Sacked {
                self.arrive(from, range, delivered);
                self.sacked += range.end.since(from);
            }
            from = range.end;
        }
        self.ranges[first].end = from;
        self.ranges[first].mark = Mark::Sacked;
        self.ranges.drain(first + 1..=last);
        self.runs = self.runs + 1 - known;
        self.highest = una.later(self.highest, end);
    }

    /// Takes flying ranges for lost, in order, until `fate` says that there can be none beyond.
    pub(super) fn lose(&mut self, mut fate: impl FnMut(SeqNum, &Range) -> Fate) {
        let mut start = self.una;
        let mut walked = 0;
        let mut before = None;
        let mut merge = false;
        for range in &mut self.ranges {
            if range.mark == Mark::Flying {
                match fate(start, range) {
                    Fate::Kept => {}
                    Fate::Lost => {
                        if self.lost == 0 || self.una.precedes(start, self.lost_from) {
                            self.lost_from = start;
                        }
                        range.mark = Mark::Lost;
                        let len = range.end.since(start);
                        self.lost += len;
                        self.newly_lost = self.newly_lost.saturating_add(len);
                        self.newly_lost_at = self.newly_lost_at.max(range.at);
                    }
                    Fate::End => break,
                }
            }
            let kind = (range.mark == Mark::Lost).then_some(range.again);
            merge |= kind.is_some() && kind == before;
            before = kind;
            walked += 1;
            start = range.end;
        }
        if merge {
            self.merge_lost(walked);
        }
    }

    /// Makes one of neighbours that are lost, among the first `n` ranges: whoever looks for losses again passes them
    /// in one step.
    fn merge_lost(&mut self, n: usize) {
        let mut kept = 0;
        for i in 1..n {
            let range = self.ranges[i];
            let last = &mut self.ranges[kept];
            let lost = range.mark == Mark::Lost && last.mark == Mark::Lost;
            if lost && range.again == last.again {
                last.end = range.end;
                last.rough |= range.rough || range.at != last.at;
            } else {
                kept += 1;
                self.ranges[kept] = range;
            }
        }
        self.ranges.drain(kept + 1..n);
    }

    /// How many of the first `len` bytes left together.
    pub(super) fn first_segment(&self, len: u32) -> u32 {
        let first = self.ranges.front().map_or(0, |r| r.end.since(self.una));
        first.min(len)
    }

    /// The first `len` bytes are lost.
    pub(super) fn lose_first(&mut self, len: u32) {
        let end = self.una + len.min(self.nxt().since(self.una));
        let around = self.ranges.get(self.find(end));
        if around.is_some_and(|r| r.mark != Mark::Sacked) {
            self.cut(end);
        }
        let una = self.una;
        self.lose(|start, _| match una.precedes(start, end) {
            true => Fate::Lost,
            false => Fate::End,
        });
    }

    /// Everything that the peer does not hold is lost.
    pub(super) fn lose_all(&mut self) {
        self.lose(|_, _| Fate::Lost);
    }

    /// Nothing is held by the peer any more (RFC 2018 8): it may have thrown away what it reported.
    pub(super) fn forget_sacks(&mut self) {
        for range in &mut self.ranges {
            if range.mark == Mark::Sacked {
                // When its parts were sent, and how often, was not kept.
                *range = Range {
                    end: range.end,
                    at: Instant::ZERO,
                    mark: Mark::Flying,
                    again: true,
                    rough: true,
                };
            }
        }
        self.sacked = 0;
        self.runs = 0;
    }

    /// What was taken for lost is on its way after all.
    pub(super) fn find_again(&mut self) {
        for range in &mut self.ranges {
            if range.mark == Mark::Lost {
                range.mark = Mark::Flying;
            }
        }
        self.lost = 0;
    }

    /// True when the peer reported the bytes that it now says it waits for.
    pub(super) fn is_reneged(&self) -> bool {
        self.ranges.front().is_some_and(|r| r.mark == Mark::Sacked)
    }

    /// The first bytes that are lost and were not sent again; of many, as much as one large segment holds.
    #[inline]
    pub(super) fn next_lost(&mut self) -> Option<(SeqNum, SeqNum)> {
        if self.lost == 0 {
            return None;
        }
        let from = self.find(self.lost_from);
        let lost = |r: &Range| r.mark == Mark::Lost;
        let i = from + self.ranges.range(from..).position(lost)?;
        let start = self.start_of(i);
        self.lost_from = start;
        let mut end = start;
        for range in self.ranges.range(i..).take_while(|r| lost(r)) {
            end = range.end;
            if end.since(start) > ENOUGH {
                break;
            }
        }
        Some((start, end))
    }

    /// `start..end` was sent again.
    pub(super) fn again(&mut self, start: SeqNum, end: SeqNum, now: Instant) {
        let first = self.cut(start);
        let last = self.cut(end);
        let mut from = start;
        let mut whole = true;
        for range in self.ranges.range_mut(first..last) {
            match range.mark {
                Mark::Sacked => whole = false,
                Mark::Lost => self.lost -= range.end.since(from),
                // A tail loss probe.
                Mark::Flying => {}
            }
            from = range.end;
            if range.mark != Mark::Sacked {
                *range = Range {
                    end: range.end,
                    at: now,
                    mark: Mark::Flying,
                    again: true,
                    rough: false,
                };
            }
        }
        if whole && first < last {
            let before = first.checked_sub(1).map(|i| self.ranges[i]);
            let same = |r: Range| (Range { end, ..r }) == self.ranges[last - 1];
            let into = match before.is_some_and(same) {
                true => first - 1,
                false => first,
            };
            self.ranges[into].end = end;
            self.ranges.drain(into + 1..last);
        }
        if start == self.lost_from {
            self.lost_from = end;
        }
    }
}

/// What becomes of a range in [`Sent::lose`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Lost,
    Kept,
    /// Neither it nor any range beyond is lost.
    End,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Cell {
        at: u64,
        mark: Mark,
        again: bool,
    }

    #[derive(Clone, Debug)]
    enum Op {
        Push(u32),
        Advance(u32),
        Sack(u32, u32),
        LoseFirst(u32),
        LoseOld(u64),
        LoseAll,
        Forget,
        Found,
        Again(u32),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            4 => (1u32..20).prop_map(Op::Push),
            2 => (0u32..30).prop_map(Op::Advance),
            6 => (0u32..80, 1u32..20).prop_map(|(a, n)| Op::Sack(a, a + n)),
            1 => (1u32..10).prop_map(Op::LoseFirst),
            3 => (0u64..40).prop_map(Op::LoseOld),
            1 => Just(Op::LoseAll),
            1 => Just(Op::Forget),
            1 => Just(Op::Found),
            4 => (1u32..9).prop_map(Op::Again),
        ]
    }

    proptest! {
        /// Agrees with a record for each byte, across the wrap.
        #[test]
        fn behaves_as_a_record_for_each_byte(
            base in prop_oneof![Just(u32::MAX - 100), any::<u32>()],
            ops in prop::collection::vec(op(), 0..80),
        ) {
            let mut sent = Sent::default();
            let mut model: VecDeque<Cell> = VecDeque::new();
            let mut una = SeqNum(base);
            for (n, op) in ops.into_iter().enumerate() {
                // Two operations in each instant.
                let now = n as u64 / 2;
                let at = Instant::from_nanos(now);
                let nxt = una + model.len() as u32;
                let len = model.len() as u32;
                let mut delivered = Delivered::default();
                let mut bytes = 0;
                match op {
                    Op::Push(len) => {
                        sent.push(nxt, nxt + len, at);
                        for _ in 0..len {
                            model.push_back(Cell { at: now, mark: Mark::Flying, again: false });
                        }
                    }
                    Op::Advance(by) => {
                        let by = by.min(len);
                        una += by;
                        sent.advance(una, &mut delivered);
                        bytes = model.drain(..by as usize).filter(|c| c.mark != Mark::Sacked).count();
                    }
                    Op::Sack(a, b) => {
                        sent.sack(una + a, una + b, 1, &mut delivered);
                        if a > 0 && b <= len {
                            for cell in model.range_mut(a as usize..b as usize) {
                                bytes += usize::from(cell.mark != Mark::Sacked);
                                cell.mark = Mark::Sacked;
                            }
                        }
                    }
                    Op::LoseFirst(by) => {
                        sent.lose_first(by);
                        for cell in model.iter_mut().take(by as usize) {
                            if cell.mark == Mark::Flying {
                                cell.mark = Mark::Lost;
                            }
                        }
                    }
                    Op::LoseOld(before) => {
                        sent.lose(|_, r| match r.at.as_nanos() < before {
                            true => Fate::Lost,
                            false => Fate::Kept,
                        });
                        for cell in &mut model {
                            if cell.mark == Mark::Flying && cell.at < before {
                                cell.mark = Mark::Lost;
                            }
                        }
                    }
                    Op::LoseAll => {
                        sent.lose_all();
                        for cell in &mut model {
                            if cell.mark == Mark::Flying {
                                cell.mark = Mark::Lost;
                            }
                        }
                    }
                    Op::Forget => {
                        sent.forget_sacks();
                        for cell in &mut model {
                            if cell.mark == Mark::Sacked {
                                *cell = Cell { at: 0, mark: Mark::Flying, again: true };
                            }
                        }
                    }
                    Op::Found => {
                        sent.find_again();
                        for cell in &mut model {
                            if cell.mark == Mark::Lost {
                                cell.mark = Mark::Flying;
                            }
                        }
                    }
                    Op::Again(most) => {
                        let expected = model.iter().position(|c| c.mark == Mark::Lost);
                        let lost = sent.next_lost();
                        prop_assert_eq!(lost.map(|l| l.0), expected.map(|i| una + i as u32));
                        if let Some((start, end)) = lost {
                            let end = una.earlier(end, start + most);
                            sent.again(start, end, at);
                            let (a, b) = (start.since(una) as usize, end.since(una) as usize);
                            for cell in model.range_mut(a..b) {
                                prop_assert_eq!(cell.mark, Mark::Lost);
                                *cell = Cell { at: now, mark: Mark::Flying, again: true };
                            }
                        }
                    }
                }
                // Neighbours that are lost alike are as old as the first of them.
                for i in 1..model.len() {
                    let (before, cell) = (model[i - 1], model[i]);
                    let lost = before.mark == Mark::Lost && cell.mark == Mark::Lost;
                    if lost && before.again == cell.again {
                        model[i].at = before.at;
                    }
                }
                prop_assert_eq!(delivered.bytes as usize, bytes);
                let count = |mark| model.iter().filter(|c| c.mark == mark).count();
                prop_assert_eq!(sent.sacked() as usize, count(Mark::Sacked));
                prop_assert_eq!(sent.lost() as usize, count(Mark::Lost));
                if !model.is_empty() {
                    prop_assert_eq!(sent.nxt().since(una) as usize, model.len());
                }
                let runs = sent.ranges.iter().filter(|r| r.mark == Mark::Sacked).count();
                prop_assert_eq!(sent.runs as usize, runs);
                let mut from = una;
                for range in &sent.ranges {
                    prop_assert!(range.end != from, "an empty range");
                    let (a, b) = (from.since(una) as usize, range.end.since(una) as usize);
                    for cell in model.range(a..b) {
                        prop_assert_eq!(cell.mark, range.mark);
                        if cell.mark != Mark::Sacked {
                            prop_assert_eq!((cell.at, cell.again), (range.at.as_nanos(), range.again));
                        }
                    }
                    from = range.end;
                }
            }
        }
    }

    fn seq(n: u32) -> SeqNum {
        SeqNum(n)
    }

    #[test]
    fn what_left_in_one_instant_is_one_range_and_runs_that_the_peer_holds_are_one() {
        let mut sent = Sent::default();
        for i in 0..100 {
            sent.push(
                seq(i * 10),
                seq(i * 10 + 10),
                Instant::from_nanos(u64::from(i) / 10),
            );
        }
        assert_eq!(sent.ranges.len(), 10);
        let mut delivered = Delivered::default();
        for i in (1..100).rev() {
            sent.sack(seq(i * 10), seq(i * 10 + 10), 10, &mut delivered);
        }
        assert_eq!((sent.ranges.len(), sent.sacked()), (2, 990));
        assert!(delivered.overtaken);
        sent.advance(seq(1000), &mut delivered);
        assert_eq!((sent.ranges.capacity(), delivered.bytes), (0, 1000));
    }

    #[test]
    fn neighbours_that_are_lost_are_one_range_whose_age_is_not_known() {
        let mut sent = Sent::default();
        for i in 0..1000 {
            sent.push(
                seq(i * 100),
                seq(i * 100 + 100),
                Instant::from_nanos(u64::from(i)),
            );
        }
        let mut delivered = Delivered::default();
        sent.sack(seq(90_000), seq(100_000), 100, &mut delivered);
        sent.lose(|_, _| Fate::Lost);
        assert_eq!(sent.ranges.len(), 2);
        let (start, end) = sent.next_lost().expect("lost");
        assert_eq!((start, end), (seq(0), seq(90_000)));
        sent.find_again();
        let mut delivered = Delivered::default();
        sent.advance(seq(90_000), &mut delivered);
        assert_eq!((delivered.bytes, delivered.first), (90_000, None));
    }

    // Bounded work, whatever a peer reports.
    #[test]
    fn a_flood_of_blocks_is_bounded() {
        for (mss, most) in [(1000, ENOUGH_RUNS), (100, (1 << 20) / 200)] {
            let mut sent = Sent::default();
            sent.push(seq(0), seq(1 << 20), Instant::ZERO);
            let mut delivered = Delivered::default();
            for i in 0..100_000 {
                sent.sack(seq(4 * i + 1), seq(4 * i + 2), mss, &mut delivered);
            }
            assert_eq!(sent.sacked(), most);
            assert!(sent.ranges.len() <= 2 * most as usize + 1);
        }
    }
}

//! What the peer has selectively acknowledged (RFC 2018), and what that says about the rest
//! (RFC 6675).

use smallvec::SmallVec;

use super::seq::SeqNum;

/// Ranges beyond this are forgotten: a peer that reports so many is not worth the memory.
const MAX_RANGES: usize = 512;

/// Selectively acknowledged ranges: sorted, disjoint, not adjacent, all above `snd_una`.
#[derive(Clone, Debug, Default)]
pub(super) struct Scoreboard {
    /// `snd_una`, as of the last change: the end from which everything here is seen. It says
    /// nothing while there are no ranges.
    una: SeqNum,
    ranges: SmallVec<[(SeqNum, SeqNum); 2]>,
    bytes: u32,
}

impl Scoreboard {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Bytes covered.
    #[inline]
    pub(super) fn bytes(&self) -> u32 {
        self.bytes
    }

    /// Adds a block and returns how many of its bytes are new. A block that does not lie between
    /// `una` and `nxt` is ignored: it is a duplicate report (RFC 2883), old, or forged.
    pub(super) fn add(&mut self, block: (SeqNum, SeqNum), una: SeqNum, nxt: SeqNum) -> u32 {
        let (mut start, mut end) = block;
        // One that begins at `una` would have been acknowledged instead.
        if start == una || !end.is_in(una..=nxt) || !una.precedes(start, end) {
            return 0;
        }
        if self.ranges.is_empty() {
            self.una = una;
        }
        let base = self.una;
        // The ranges that touch the block: [first, last).
        let first = self.ranges.partition_point(|r| base.precedes(r.1, start));
        let last = self.ranges.partition_point(|r| !base.precedes(end, r.0));
        let mut covered = 0;
        for r in &self.ranges[first..last] {
            covered += r.1.since(r.0);
        }
        if first < last {
            start = base.earlier(start, self.ranges[first].0);
            end = base.later(end, self.ranges[last - 1].1);
            self.ranges[first] = (start, end);
            if last - first > 1 {
                self.ranges.drain(first + 1..last);
            }
        } else if self.ranges.len() == MAX_RANGES {
            return 0;
        } else {
            self.ranges.insert(first, (start, end));
        }
        let new = end.since(start) - covered;
        self.bytes += new;
        new
    }

    /// Forgets what lies below `una`, which has been acknowledged.
    pub(super) fn advance(&mut self, una: SeqNum) {
        let mut gone = 0;
        let base = self.una;
        for r in &mut self.ranges {
            if !base.precedes(una, r.1) {
                self.bytes -= r.1.since(r.0);
                gone += 1;
                continue;
            }
            if base.precedes(r.0, una) {
                self.bytes -= una.since(r.0);
                r.0 = una;
            }
            break;
        }
        self.una = una;
        if gone > 0 {
            self.ranges.drain(..gone);
        }
    }

    pub(super) fn clear(&mut self) {
        self.ranges.clear();
        self.bytes = 0;
    }

    /// The end of what counts as lost: every byte below it that is not acknowledged is lost.
    // RFC 6675 4, IsLost: three discontiguous ranges above, or more than two segments of bytes.
    // Being lost is monotone, so one edge says it for every byte.
    pub(super) fn lost_edge(&self, mss: u32) -> Option<SeqNum> {
        let mut above = 0;
        for (i, r) in self.ranges.iter().rev().enumerate() {
            above += r.1.since(r.0);
            if i >= 2 || above > 2 * mss {
                return Some(r.0);
            }
        }
        None
    }

    /// The first hole that begins at `from` or contains it, with its end; `nxt` bounds the last.
    /// `from` lies between `una` and `nxt`.
    pub(super) fn hole(&self, from: SeqNum, nxt: SeqNum) -> (SeqNum, SeqNum) {
        let una = self.una;
        let i = self.ranges.partition_point(|r| !una.precedes(from, r.1));
        match self.ranges.get(i) {
            Some(r) if !una.precedes(from, r.0) => {
                let end = self.ranges.get(i + 1).map_or(nxt, |next| next.0);
                (r.1, end)
            }
            Some(r) => (from, r.0),
            None => (from, nxt),
        }
    }

    /// The end of the highest range.
    pub(super) fn highest(&self) -> Option<SeqNum> {
        self.ranges.last().map(|r| r.1)
    }

    /// Bytes covered between `from` and `to`, which lie between `una` and `nxt`.
    pub(super) fn covered(&self, from: SeqNum, to: SeqNum) -> u32 {
        let mut sum = 0;
        for r in &self.ranges {
            let start = self.una.later(r.0, from).since(self.una);
            let end = self.una.earlier(r.1, to).since(self.una);
            sum += end.saturating_sub(start);
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Agrees with a bitmap, across the wrap.
        #[test]
        fn behaves_as_a_bitmap(
            base in prop_oneof![Just(u32::MAX - 100), any::<u32>()],
            ops in prop::collection::vec((0u32..300, 0u32..60, 0u8..5), 0..60),
            probes in prop::collection::vec((0u32..300, 0u32..300), 8),
        ) {
            let seq = |i: u32| SeqNum(base) + i;
            let nxt = 300;
            let mut board = Scoreboard::default();
            let mut map = [false; 300];
            let mut una = 0u32;
            for (at, len, kind) in ops {
                if kind == 0 {
                    una = una.max(at.min(una + 40));
                    map[..una as usize].fill(false);
                    board.advance(seq(una));
                } else {
                    let end = at + len;
                    let ok = len > 0 && at > una && end <= nxt;
                    let new = if ok {
                        let cells = &mut map[at as usize..end as usize];
                        let n = cells.iter().filter(|c| !**c).count();
                        cells.fill(true);
                        n
                    } else { 0 };
                    prop_assert_eq!(board.add((seq(at), seq(end)), seq(una), seq(nxt)), new as u32);
                }
                prop_assert_eq!(board.bytes() as usize, map.iter().filter(|c| **c).count());
                prop_assert_eq!(board.is_empty(), board.bytes() == 0);
                for (a, b) in &probes {
                    let (a, b) = ((*a.min(b)).max(una), (*a.max(b)).max(una));
                    let n = map[a as usize..b as usize].iter().filter(|c| **c).count();
                    prop_assert_eq!(board.covered(seq(a), seq(b)) as usize, n);
                    let start = (a..nxt).find(|i| !map[*i as usize]).unwrap_or(nxt);
                    let end = (start..nxt).find(|i| map[*i as usize]).unwrap_or(nxt);
                    prop_assert_eq!(board.hole(seq(a), seq(nxt)), (seq(start), seq(end)));
                }
            }
        }
    }

    #[test]
    fn what_is_lost_follows_from_what_arrived_above() {
        let mut board = Scoreboard::default();
        let seq = SeqNum;
        board.add((seq(1000), seq(2000)), seq(0), seq(9000));
        board.add((seq(3000), seq(4000)), seq(0), seq(9000));
        assert_eq!(board.lost_edge(1000), None);
        // Three separate ranges above the hole at 0.
        board.add((seq(5000), seq(5010)), seq(0), seq(9000));
        assert_eq!(board.lost_edge(1000), Some(seq(1000)));
        // More than two segments above the hole at 4000.
        board.add((seq(5000), seq(7001)), seq(0), seq(9000));
        assert_eq!(board.lost_edge(1000), Some(seq(5000)));
    }
}

//! Loss recovery: which bytes are considered lost and are retransmitted, and how many bytes are still in flight. RFC 6675 where the peer reports selective acknowledgements, RFC 6582 (NewReno)
//! where it does not: there each duplicate acknowledgement stands for one segment that arrived
//! somewhere above the first hole. RFC 3042 (limited transmit) follows from the accounting.

use super::scoreboard::Scoreboard;
use super::seq::SeqNum;

/// RFC 6675 2: DupThresh.
const DUP_THRESHOLD: u32 = 3;

#[derive(Clone, Debug)]
pub(super) struct Recovery {
    pub(super) board: Scoreboard,
    phase: Phase,
    /// Duplicate acknowledgements, each standing for a segment that arrived (no SACK only).
    dup_acks: u32,
    /// Everything not acknowledged below this counts as lost. Meaningful outside `Open`, where it
    /// is not below `snd_una`.
    lost_to: SeqNum,
    /// Everything below this was sent again in this episode (RFC 6675 2: HighRxt). As above.
    high_rxt: SeqNum,
    /// Where the last episode ended; NewReno does not begin another below it (RFC 6582 4).
    recover: Option<SeqNum>,
    /// RFC 6675 5, step 4.3: the first retransmission goes out whatever the window says.
    owed: Owed,
    /// RFC 6675 4, rule 4: one rescue retransmission an episode.
    rescue: Owed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing is taken for lost.
    Open,
    /// Fast recovery, until `point` is acknowledged.
    Fast { point: SeqNum },
    /// After a timeout, until `point` is acknowledged.
    Loss { point: SeqNum },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owed {
    Yes,
    No,
}

/// What an acknowledgement means for recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// Nothing changed.
    None,
    /// A loss was noticed: congestion control must hear of it.
    Enter,
}

impl Recovery {
    pub(super) fn new() -> Recovery {
        Recovery {
            board: Scoreboard::default(),
            phase: Phase::Open,
            dup_acks: 0,
            lost_to: SeqNum(0),
            high_rxt: SeqNum(0),
            recover: None,
            owed: Owed::No,
            rescue: Owed::No,
        }
    }

    /// No loss, no hole, no duplicate acknowledgement: the common case.
    #[inline]
    pub(super) fn is_quiet(&self) -> bool {
        self.phase == Phase::Open && self.dup_acks == 0 && self.board.is_empty()
    }

    #[inline]
    pub(super) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// True while the congestion window grows although something was lost: after a timeout.
    pub(super) fn is_loss(&self) -> bool {
        matches!(self.phase, Phase::Loss { .. })
    }

    /// `snd_una` moved up to `una`, by `acked` bytes.
    pub(super) fn on_progress(&mut self, una: SeqNum, acked: u32, mss: u32, sack: SackUse) {
        if self.is_quiet() {
            return;
        }
        self.board.advance(una);
        // Everything remembered of an episode is seen from where `snd_una` was.
        let before = una - acked;
        let point = match self.phase {
            Phase::Open => {
                self.dup_acks = 0;
                return;
            }
            Phase::Fast { point } | Phase::Loss { point } => point,
        };
        self.high_rxt = before.later(self.high_rxt, una);
        self.lost_to = before.later(self.lost_to, una);
        if !before.precedes(una, point) {
            self.phase = Phase::Open;
            self.recover = Some(point);
            self.dup_acks = 0;
            self.owed = Owed::No;
            self.rescue = Owed::No;
            return;
        }
        if sack == SackUse::No && matches!(self.phase, Phase::Fast { .. }) {
            // RFC 6582 3.2, partial acknowledgement: the next hole begins here. Of the segments
            // that the duplicates stood for, those just acknowledged are no longer above it.
            let segments = acked.div_ceil(mss).saturating_sub(1);
            self.dup_acks = self.dup_acks.saturating_sub(segments);
            self.lost_to = una + mss;
            self.high_rxt = una;
            self.owed = Owed::Yes;
        }
    }

    /// A duplicate acknowledgement, or new SACK blocks that are already on the board.
    pub(super) fn on_duplicate(
        &mut self,
        una: SeqNum,
        nxt: SeqNum,
        mss: u32,
        sack: SackUse,
    ) -> Signal {
        let edge = match sack {
            SackUse::Yes => self.board.lost_edge(mss),
            SackUse::No => {
                let room = nxt.since(una) / mss;
                self.dup_acks = (self.dup_acks + 1).min(room);
                None
            }
        };
        match self.phase {
            Phase::Open => {
                let lost_to = match edge {
                    Some(edge) => edge,
                    None if self.dup_acks >= DUP_THRESHOLD
                        && !self.recover.is_some_and(|r| r.is_in(una..=nxt)) =>
                    {
                        una + mss.min(nxt.since(una))
                    }
                    None => return Signal::None,
                };
                self.enter(una, nxt, lost_to);
                Signal::Enter
            }
            Phase::Fast { .. } | Phase::Loss { .. } => {
                if let Some(edge) = edge {
                    self.lost_to = una.later(self.lost_to, edge);
                }
                Signal::None
            }
        }
    }

    fn enter(&mut self, una: SeqNum, nxt: SeqNum, lost_to: SeqNum) {
        self.phase = Phase::Fast { point: nxt };
        self.lost_to = lost_to;
        self.high_rxt = una;
        self.owed = Owed::Yes;
        self.rescue = Owed::Yes;
    }

    /// The path turned out to be narrower: everything on its way is sent again, without blame.
    pub(super) fn resend_all(&mut self, una: SeqNum, nxt: SeqNum) {
        if una != nxt {
            self.enter(una, nxt, nxt);
        }
    }

    /// The retransmission timer went off. True when it had not done so for this data before.
    // RFC 5681 3.1 and RFC 6675 5.1: everything outstanding counts as lost.
    pub(super) fn on_timeout(&mut self, una: SeqNum, nxt: SeqNum) -> FirstTimeout {
        let first = if self.is_loss() {
            // RFC 2018 8: the receiver may have thrown away what it reported.
            self.board.clear();
            FirstTimeout::No
        } else {
            FirstTimeout::Yes
        };
        // The same when it acknowledges what lies below something it had reported.
        if self.board.hole(una, nxt).0 != una {
            self.board.clear();
        }
        self.phase = Phase::Loss { point: nxt };
        self.lost_to = nxt;
        self.high_rxt = una;
        self.dup_acks = 0;
        self.owed = Owed::Yes;
        self.rescue = Owed::No;
        first
    }

    /// Bytes believed to be on their way.
    // RFC 6675 4, SetPipe.
    #[inline]
    pub(super) fn pipe(&self, una: SeqNum, nxt: SeqNum, mss: u32) -> u32 {
        let flight = nxt.since(una);
        if self.is_quiet() {
            return flight;
        }
        let arrived = self.board.bytes() + self.dup_acks.saturating_mul(mss);
        let outstanding = flight.saturating_sub(arrived);
        if self.phase == Phase::Open {
            return outstanding;
        }
        // Lost and not sent again: the holes between high_rxt and lost_to.
        let from = self.high_rxt;
        let to = una.earlier(self.lost_to, nxt);
        let lost = if una.precedes(from, to) {
            to.since(from) - self.board.covered(from, to)
        } else {
            0
        };
        outstanding.saturating_sub(lost)
    }

    /// The next range to send again, if any; not longer than the hole it lies in.
    #[inline]
    pub(super) fn next_hole(&self, una: SeqNum, nxt: SeqNum) -> Option<(SeqNum, SeqNum)> {
        if self.phase == Phase::Open {
            return None;
        }
        let (start, end) = self.board.hole(self.high_rxt, nxt);
        let end = una.earlier(end, self.lost_to);
        una.precedes(start, end).then_some((start, end))
    }

    /// What to send again when nothing else can be sent: a hole below the highest report, or
    /// once an episode the end of what is outstanding.
    // RFC 6675 4, NextSeg rules 3 and 4.
    pub(super) fn next_rescue(
        &mut self,
        una: SeqNum,
        nxt: SeqNum,
        mss: u32,
    ) -> Option<((SeqNum, SeqNum), Why)> {
        let Phase::Fast { point } = self.phase else {
            return None;
        };
        let highest = self.board.highest()?;
        let (start, end) = self.board.hole(self.high_rxt, nxt);
        if una.precedes(start, end) && una.precedes(start, highest) {
            let len = end.since(start).min(mss);
            return Some(((start, start + len), Why::Lost));
        }
        if self.rescue == Owed::Yes && una != point && highest != nxt {
            self.rescue = Owed::No;
            let start = una.later(highest, nxt - mss.min(nxt.since(una)));
            return Some(((start, nxt), Why::Rescue));
        }
        None
    }

    /// True when the next retransmission ignores the congestion window.
    #[inline]
    pub(super) fn is_owed(&self) -> bool {
        self.owed == Owed::Yes
    }

    /// The bytes up to `end` were sent again.
    pub(super) fn on_retransmit(&mut self, end: SeqNum, why: Why) {
        // RFC 6675 5, step C.2: a rescue does not move HighRxt.
        if why == Why::Lost {
            self.high_rxt = end;
        }
        self.owed = Owed::No;
    }
}

/// Why something is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// It is taken for lost.
    Lost,
    /// Nothing else can be sent, and the end of what is outstanding may be lost.
    Rescue,
}

/// Whether the connection negotiated selective acknowledgements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SackUse {
    Yes,
    No,
}

/// Whether the retransmission timer went off for the first time in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FirstTimeout {
    Yes,
    No,
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: u32 = 1000;

    fn seq(n: u32) -> SeqNum {
        SeqNum(n)
    }

    #[test]
    fn sack_recovery_resends_each_hole_once_and_counts_the_pipe() {
        let mut r = Recovery::new();
        let (una, nxt) = (seq(0), seq(10_000));
        assert_eq!(r.pipe(una, nxt, MSS), 10_000);
        // Segments 0 and 3 are lost; 1, 2 and 4 to 6 arrive.
        r.board.add((seq(1000), seq(3000)), una, nxt);
        assert_eq!(r.on_duplicate(una, nxt, MSS, SackUse::Yes), Signal::None);
        assert_eq!(r.pipe(una, nxt, MSS), 8_000); // limited transmit has room
        r.board.add((seq(4000), seq(7000)), una, nxt);
        assert_eq!(r.on_duplicate(una, nxt, MSS, SackUse::Yes), Signal::Enter);
        assert_eq!(r.pipe(una, nxt, MSS), 3_000);
        assert_eq!(r.next_hole(una, nxt), Some((seq(0), seq(1000))));
        r.on_retransmit(seq(1000), Why::Lost);
        assert_eq!(r.pipe(una, nxt, MSS), 4_000);
        assert_eq!(r.next_hole(una, nxt), Some((seq(3000), seq(4000))));
        r.on_retransmit(seq(4000), Why::Lost);
        assert_eq!(r.next_hole(una, nxt), None);
        assert_eq!(
            r.next_rescue(una, nxt, MSS),
            Some(((seq(9000), nxt), Why::Rescue))
        );
        r.on_retransmit(nxt, Why::Rescue);
        assert_eq!(r.pipe(una, nxt, MSS), 5_000);
        assert_eq!(r.next_rescue(una, nxt, MSS), None);
        r.on_progress(seq(3000), 3000, MSS, SackUse::Yes);
        assert!(!r.is_open());
        r.on_progress(nxt, 7000, MSS, SackUse::Yes);
        assert!(r.is_quiet());
    }

    #[test]
    fn without_sack_three_duplicates_resend_the_first_and_partial_acks_the_next() {
        let mut r = Recovery::new();
        let (una, nxt) = (seq(0), seq(8_000));
        let dup = |r: &mut Recovery| r.on_duplicate(una, nxt, MSS, SackUse::No);
        assert_eq!(dup(&mut r), Signal::None);
        assert_eq!(dup(&mut r), Signal::None);
        assert_eq!(dup(&mut r), Signal::Enter);
        assert_eq!(r.next_hole(una, nxt), Some((seq(0), seq(1000))));
        r.on_retransmit(seq(1000), Why::Lost);
        assert_eq!(r.next_hole(una, nxt), None);
        assert_eq!(r.pipe(una, nxt, MSS), 5_000);
        r.on_progress(seq(3000), 3000, MSS, SackUse::No);
        assert_eq!(r.next_hole(seq(3000), nxt), Some((seq(3000), seq(4000))));
        r.on_progress(nxt, 5000, MSS, SackUse::No);
        assert!(r.is_quiet());
    }

    #[test]
    fn a_timeout_resends_everything_that_was_not_reported() {
        let mut r = Recovery::new();
        let (una, nxt) = (seq(0), seq(5_000));
        r.board.add((seq(1000), seq(2000)), una, nxt);
        assert_eq!(r.on_timeout(una, nxt), FirstTimeout::Yes);
        assert_eq!(r.pipe(una, nxt, MSS), 0);
        assert_eq!(r.next_hole(una, nxt), Some((seq(0), seq(1000))));
        r.on_retransmit(seq(1000), Why::Lost);
        assert_eq!(r.next_hole(una, nxt), Some((seq(2000), seq(5000))));
        assert_eq!(r.on_timeout(una, nxt), FirstTimeout::No);
        assert_eq!(r.next_hole(una, nxt), Some((seq(0), seq(5000))));
    }

    #[test]
    fn a_receiver_that_takes_back_what_it_reported_is_sent_it_again() {
        let mut r = Recovery::new();
        let nxt = seq(5_000);
        r.board.add((seq(1000), nxt), seq(0), nxt);
        // It acknowledges the middle of what it had reported, and not the rest.
        r.on_progress(seq(2000), 2000, MSS, SackUse::Yes);
        r.on_timeout(seq(2000), nxt);
        assert_eq!(r.next_hole(seq(2000), nxt), Some((seq(2000), nxt)));
    }
}

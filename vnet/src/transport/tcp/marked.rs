//! The AccECN option (RFC 9768 3.2.3): what each side says of the bytes that arrived with marks.
//!
//! The number of marked packets that every segment has ([`ecn`](super::ecn)) goes round after eight, and says nothing of how
//! large they were. The option has the bytes of data that arrived as ECT(0), CE and ECT(1), modulo 2^24. It goes with each
//! acknowledgement after which one of them has moved; selective acknowledgements come first, up to two blocks. Not every path
//! lets options through that it does not know, so the first ones are watched, and everything works without.

use super::ecn::{CE, ECT0, ECT1, MASK};
use super::seq::SeqNum;
use crate::base::switch::Switch;
use crate::packet::header::{MarkOrder, MarkedBytes, TcpOptions};

/// The places of the counters.
const AT_ECT0: usize = 0;
const AT_CE: usize = 1;
const AT_ECT1: usize = 2;
/// RFC 9768 3.2.1: where the counters begin, so that one that something on the way has zeroed is recognised.
const INITIAL: [u32; MarkedBytes::MAX] = [1, 0, 1];
/// Bytes of options in a header.
const SPACE: usize = 40;
/// What two blocks of a selective acknowledgement take, or one.
const fn sack_space(blocks: usize) -> usize {
    if blocks == 0 { 0 } else { 4 + 8 * blocks }
}
/// RFC 9768 3.2.3.3: blocks that come before this option.
const FIRST_BLOCKS: usize = 2;
/// A counter that moves by more has been overtaken.
const HALF: u32 = 1 << 23;

/// What one connection with accurate feedback knows of marked bytes.
#[derive(Clone, Debug)]
pub(super) struct MarkedData {
    /// Bytes that arrived (r.e0b, r.ceb and r.e1b), and what the last option said of them.
    received: [u32; MarkedBytes::MAX],
    said: [u32; MarkedBytes::MAX],
    /// Which of them have ever moved.
    moved: [bool; MarkedBytes::MAX],
    says: Switch,
    /// The next segment has all counters: it is the first.
    is_first: bool,
    probe: Probe,
    heard: Heard,
    /// Bytes that the peer has reported as marked, modulo 2^24 (s.ceb).
    reported: u32,
    /// What was taken for marked by the count of packets, since the last option.
    guessed: u32,
    /// The shortest segment of data that was sent.
    least: u32,
}

/// The first segment of data with an option, which must not be lost for it.
// RFC 9768 3.2.3.2.1 and 3.2.3.2.2
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probe {
    Due,
    Sent(SeqNum),
}

/// Whether the peer's options arrive.
// RFC 9768 3.2.3.2.3 and 3.2.3.2.4
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    /// None did when the connection was opened.
    Nothing,
    Options,
    /// The path changes them.
    Nonsense,
}

/// What an option that arrives adds to the count of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct News {
    /// Bytes that were marked.
    pub(super) marked: u32,
    /// The option and the count contradict each other.
    pub(super) is_mangled: bool,
}

/// The option of the answer to a SYN with these other options: as much of it as there is room for.
// RFC 9768 3.2.3.2.1
pub(super) fn initial(others: &TcpOptions) -> Option<MarkedBytes> {
    let room = SPACE.checked_sub(others.len())?;
    let n = (0..=MarkedBytes::MAX)
        .rev()
        .find(|n| MarkedBytes::space(*n) <= room)?;
    Some(MarkedBytes::new(MarkOrder::Ect0First, INITIAL, n))
}

impl MarkedData {
    /// `first` is the option of the segment by which the peer has opened the connection.
    pub(super) fn new(says: Switch, first: Option<MarkedBytes>) -> MarkedData {
        MarkedData {
            received: INITIAL,
            said: INITIAL,
            moved: [false; MarkedBytes::MAX],
            says,
            is_first: false,
            probe: Probe::Due,
            heard: match first {
                None => Heard::Nothing,
                Some(first)
                    if [AT_ECT0, AT_ECT1]
                        .iter()
                        .any(|at| first.get(*at) == Some(0)) =>
                {
                    Heard::Nonsense
                }
                Some(_) => Heard::Options,
            },
            reported: INITIAL[AT_CE],
            guessed: 0,
            least: u32::MAX,
        }
    }

    /// The same on the side that asked, whose next segment acknowledges the answer.
    pub(super) fn connected(self) -> MarkedData {
        MarkedData {
            is_first: true,
            ..self
        }
    }

    /// So many bytes of data arrived in this traffic class.
    pub(super) fn on_data(&mut self, traffic_class: u8, len: u32) {
        let at = match traffic_class & MASK {
            ECT0 => AT_ECT0,
            ECT1 => AT_ECT1,
            CE => AT_CE,
            _ => return,
        };
        if len > 0 {
            self.received[at] = self.received[at].wrapping_add(len);
            self.moved[at] = true;
        }
    }

    /// The option of the next segment, which has these others and so many blocks to report. `seq` is where its data begins,
    /// if it has any.
    // RFC 9768 3.2.3.3
    pub(super) fn option(
        &self,
        others: &TcpOptions,
        blocks: usize,
        seq: Option<SeqNum>,
    ) -> Option<MarkedBytes> {
        if !self.says.is_on() {
            return None;
        }
        let whole = self.is_first || (seq.is_some() && self.probe == Probe::Due);
        let is_new = |at: usize| self.received[at] != self.said[at];
        let any = is_new(AT_ECT0) | is_new(AT_CE) | is_new(AT_ECT1);
        if !whole && !any {
            return None;
        }
        // What has to be left out is the last, so that is one that has not moved lately, or never did.
        let ect1_matters = self.moved[AT_ECT1] && !(self.moved[AT_ECT0] && is_new(AT_ECT0));
        let (order, places) = match ect1_matters {
            false => (MarkOrder::Ect0First, [AT_ECT0, AT_CE, AT_ECT1]),
            true => (MarkOrder::Ect1First, [AT_ECT1, AT_CE, AT_ECT0]),
        };
        let up_to = |wanted: &dyn Fn(usize) -> bool| {
            let last = places.iter().rposition(|at| wanted(*at));
            last.map_or(0, |last| last + 1)
        };
        let least = up_to(&is_new);
        let most = match whole {
            true => MarkedBytes::MAX,
            false => up_to(&|at| self.moved[at]),
        };
        let first_blocks = sack_space(blocks.min(FIRST_BLOCKS));
        let room = SPACE.checked_sub(others.len() + first_blocks)?;
        let n = (least..=most)
            .rev()
            .find(|n| MarkedBytes::space(*n) <= room)?;
        Some(MarkedBytes::new(order, self.received, n))
    }

    /// A segment leaves with an option.
    pub(super) fn on_said(&mut self, seq: Option<SeqNum>) {
        self.said = self.received;
        self.is_first = false;
        if let (Some(seq), Probe::Due) = (seq, self.probe) {
            self.probe = Probe::Sent(seq);
        }
    }

    /// Data from `seq` on is sent again. If it was the first with an option, that may have been why it was lost.
    // RFC 9768 3.2.3.2.2
    pub(super) fn on_sent_again(&mut self, seq: SeqNum) {
        if self.probe == Probe::Sent(seq) {
            self.says = Switch::Off;
        }
    }

    /// Data of so many bytes leaves, in segments of `piece` bytes.
    #[inline]
    pub(super) fn on_sent(&mut self, len: u32, piece: u32) {
        let last = match len % piece.max(1) {
            0 => len.min(piece),
            rest => rest,
        };
        self.least = self.least.min(last);
    }

    /// An acknowledgement of `acked` bytes has this option, and by its count of packets `guess` bytes more were marked.
    // RFC 9768 3.2.3.1 and 3.2.3.2.5
    pub(super) fn hear(&mut self, option: Option<&MarkedBytes>, guess: u32, acked: u32) -> News {
        let guessed = News {
            marked: guess,
            is_mangled: false,
        };
        let Some(option) = option.filter(|_| self.heard != Heard::Nonsense) else {
            self.guessed = self.guessed.saturating_add(guess);
            return guessed;
        };
        // Options are no longer held back, if they were.
        self.heard = Heard::Options;
        let more = match option.get(AT_CE) {
            Some(said) => said.wrapping_sub(self.reported) & 0x00ff_ffff,
            // One that is left out has not moved.
            None => 0,
        };
        if more >= HALF {
            return guessed;
        }
        self.reported = self.reported.wrapping_add(more);
        // What was counted since the last option is part of it.
        let marked = more.saturating_sub(std::mem::take(&mut self.guessed));
        // So few were acknowledged that the count cannot have gone round, which it does after eight segments.
        let is_certain = more <= acked && acked < self.least.saturating_mul(8) && marked == more;
        News {
            marked,
            is_mangled: more > 0 && guess == 0 && is_certain,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: u32 = 1000;

    fn said(counts: [u32; 3], n: usize) -> MarkedBytes {
        MarkedBytes::new(MarkOrder::Ect0First, counts, n)
    }

    fn fresh() -> MarkedData {
        MarkedData::new(Switch::On, Some(said(INITIAL, 3)))
    }

    fn with_timestamp() -> TcpOptions {
        TcpOptions {
            timestamp: Some((1, 2)),
            ..TcpOptions::default()
        }
    }

    // RFC 9768 3.2.3.3, the recommended scheme and its examples.
    #[test]
    fn counters_that_have_moved_are_said_once_they_move() {
        let none = TcpOptions::default();
        let mut m = fresh();
        let mut next = |class, len| {
            m.on_data(class, len);
            let option = m.option(&none, 0, None);
            if option.is_some() {
                m.on_said(None);
            }
            option
        };
        assert_eq!(next(0, 500), None, "not capable");
        assert_eq!(next(ECT0, 0), None, "no data");
        assert_eq!(next(ECT0, 100), Some(said([101, 0, 1], 1)));
        assert_eq!(next(0, 100), None, "nothing new");
        assert_eq!(next(CE, 10), Some(said([101, 10, 1], 2)));
        assert_eq!(next(ECT0, 1), Some(said([102, 10, 1], 2)));
        let other = MarkedBytes::new(MarkOrder::Ect1First, [102, 10, 6], 3);
        assert_eq!(next(ECT1, 5), Some(other));
        assert_eq!(next(ECT0, 1), Some(said([103, 10, 6], 3)));
        // What never moved is not said.
        let mut m = fresh();
        m.on_data(ECT1, 5);
        let other = |counts, n| Some(MarkedBytes::new(MarkOrder::Ect1First, counts, n));
        assert_eq!(m.option(&none, 0, None), other([1, 0, 6], 1));
        m.on_data(CE, 7);
        assert_eq!(m.option(&none, 0, None), other([1, 7, 6], 2));
    }

    // RFC 9768 3.2.3.3: two blocks come first; what has moved since the last option is said, or nothing.
    #[test]
    fn two_blocks_leave_room_for_two_counters() {
        let others = with_timestamp();
        let mut m = fresh();
        m.on_data(ECT0, 100);
        m.on_data(CE, 10);
        for blocks in 0..=4 {
            let option = m.option(&others, blocks, None);
            assert_eq!(option, Some(said([101, 10, 1], 2)), "{blocks}");
        }
        m.on_data(ECT1, 5);
        assert!(
            m.option(&others, 1, None)
                .is_some_and(|o| o.get(2) == Some(6))
        );
        assert_eq!(m.option(&others, 2, None), None, "three have moved");
        m.on_said(None);
        m.on_data(CE, 1);
        // The third has not moved since.
        assert_eq!(
            m.option(&others, 2, None),
            Some(MarkedBytes::new(MarkOrder::Ect1First, [101, 11, 6], 2))
        );
        m.on_data(ECT0, 1);
        assert_eq!(m.option(&others, 2, None), Some(said([102, 11, 6], 2)));
    }

    // RFC 9768 3.2.3.2.1
    #[test]
    fn the_answer_has_as_much_as_there_is_room_for() {
        let mut others = TcpOptions {
            mss: Some(1460),
            window_scale: Some(7),
            sack_permitted: Some(crate::packet::header::tcp::SackPermitted),
            ..with_timestamp()
        };
        assert_eq!(initial(&others), Some(said(INITIAL, 3)));
        for (len, n) in [
            (0, Some(3)),
            (4, Some(2)),
            (8, Some(0)),
            (12, None),
            (16, None),
        ] {
            others.fast_open = crate::packet::header::FastOpenCookie::new(&vec![7; len]);
            assert_eq!(
                initial(&others).map(|o| o.get(1).is_some()),
                n.map(|n| n > 1),
                "{len}"
            );
            if let Some(option) = initial(&others) {
                let all = TcpOptions {
                    marked: Some(option),
                    ..others
                };
                assert!(all.len() <= 40, "{len}");
            }
        }
    }

    // RFC 9768 3.2.3.2.1 and 3.2.3.2.2
    #[test]
    fn the_first_acknowledgement_and_the_first_data_have_all_counters_and_are_watched() {
        let none = TcpOptions::default();
        let mut m = fresh().connected();
        assert_eq!(m.option(&none, 0, None), Some(said(INITIAL, 3)));
        m.on_said(None);
        assert_eq!(m.option(&none, 0, None), None);
        assert_eq!(
            m.option(&none, 0, Some(SeqNum(100))),
            Some(said(INITIAL, 3))
        );
        m.on_said(Some(SeqNum(100)));
        assert_eq!(m.option(&none, 0, Some(SeqNum(100))), None);
        m.on_sent_again(SeqNum(200));
        m.on_data(CE, 1);
        assert!(m.option(&none, 0, None).is_some());
        m.on_sent_again(SeqNum(100));
        assert_eq!(m.option(&none, 0, None), None);
        // What the peer says still counts.
        assert_eq!(m.hear(Some(&said([1, 9, 1], 2)), MSS, MSS).marked, 9);
    }

    #[test]
    fn bytes_are_counted_once_whether_they_are_guessed_or_said() {
        let mut m = fresh();
        let mut heard = |option: Option<MarkedBytes>, guess| {
            let news = m.hear(option.as_ref(), guess, 20 * MSS);
            assert!(!news.is_mangled);
            news.marked
        };
        assert_eq!(heard(Some(said([1, 300, 1], 2)), MSS), 300);
        assert_eq!(heard(Some(said([500, 0, 0], 1)), 0), 0);
        assert_eq!(heard(None, MSS), MSS);
        assert_eq!(heard(Some(said([1, 1900, 1], 3)), MSS), 600);
        // It was overtaken.
        assert_eq!(heard(Some(said([1, 1800, 1], 3)), 0), 0);
        assert_eq!(heard(Some(said([1, 1901, 1], 3)), MSS), 1);
        // It goes round.
        assert_eq!(
            heard(Some(said([1, 0x7f_ffff, 1], 3)), MSS),
            0x7f_ffff - 1901
        );
        assert_eq!(heard(Some(said([1, 0xff_fff0, 1], 3)), MSS), 0x7f_fff1);
        assert_eq!(heard(Some(said([1, 0x100_0010, 1], 3)), MSS), 0x20);
    }

    // RFC 9768 3.2.3.2.3 and 3.2.3.2.4
    #[test]
    fn zeroed_options_are_ignored_and_missing_ones_may_come_later() {
        for (first, marked) in [
            (None, 9),
            (Some(said([2, 0, 9], 3)), 9),
            (Some(said([1, 0, 1], 0)), 9),
            (Some(said([0, 0, 1], 3)), MSS),
            (Some(said([1, 0, 0], 3)), MSS),
            (Some(said([1, 0, 0], 1)), 9),
        ] {
            let mut m = MarkedData::new(Switch::On, first);
            let news = m.hear(Some(&said([1, 9, 1], 3)), MSS, MSS);
            assert_eq!(news.marked, marked, "{first:?}");
        }
    }

    // RFC 9768 3.2.3.2.5
    #[test]
    fn bytes_without_a_packet_are_a_contradiction_unless_the_count_may_have_gone_round() {
        for (sent, guess, acked, mangled) in [
            (MSS, 0, MSS, true),
            (MSS, MSS, MSS, false),
            (MSS, 0, 8 * MSS, false),
            (3 * MSS, 0, 3 * MSS, true),
            // Eight short ones.
            (MSS / 8, 0, MSS, false),
            (2 * MSS + MSS / 8, 0, MSS, false),
            // It was reported selectively before.
            (MSS, 0, 0, false),
        ] {
            let mut m = fresh();
            m.on_sent(sent, MSS);
            let news = m.hear(Some(&said([1, MSS, 1], 2)), guess, acked);
            assert_eq!(news.is_mangled, mangled, "{sent} {guess} {acked}");
        }
    }
}

//! Explicit congestion notification: who asks for it, and what is said of marks.
//!
//! A connection that agreed on it marks its data as capable (ECT(0)); routers mark such packets instead of dropping them.
//! With the feedback of RFC 3168 the receiver echoes a mark until the sender says that it has reduced its window, as for
//! a loss. With that of RFC 9768 (AccECN) each segment has the number of marked packets that arrived, modulo eight, in
//! three flags (ACE); and, where there is room, how many bytes that were ([`marked`](super::marked)).

use super::seq::SeqNum;
use crate::base::switch::Switch;
use crate::packet::header::TcpFlags;

/// The last two bits of the traffic class (RFC 3168 5).
pub(super) const MASK: u8 = 0b11;
pub(super) const CE: u8 = 0b11;
/// What data of a connection that agreed on it carries.
pub(super) const ECT0: u8 = 0b10;
/// What it carries where queues tell by it that the sender shrinks its window by the share of marks (RFC 9331 4.1).
pub(super) const ECT1: u8 = 0b01;
/// RFC 9768 3.2.1: where both counters of marked packets begin.
const INITIAL: u8 = 5;
/// RFC 9768 table 2: a SYN that asks for accurate feedback; of an answer, that the peer only reflects flags.
const ALL: u8 = 0b111;

/// Whether a vnet uses explicit congestion notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum EcnUse {
    /// Neither asked for nor granted.
    Off,
    /// Asked for, with the feedback of RFC 3168, and granted.
    Ask,
    /// Granted to peers that ask, with the feedback that they ask for.
    #[default]
    Grant,
    /// Asked for, with accurate feedback or else that of RFC 3168, and granted.
    Accurate,
}

/// How marks are reported, in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) enum Feedback {
    /// There are none.
    #[default]
    None,
    /// RFC 3168.
    Classic,
    /// RFC 9768.
    Accurate,
}

impl EcnUse {
    /// The names of the values, in the order of their numbers as a tunable.
    pub(crate) const NAMES: &'static [&'static str] = &["off", "ask", "grant", "accurate"];

    /// What a SYN has in its flags. One that is sent again does not ask, or not for long: something on the way may not
    /// like it.
    // RFC 3168 6.1.1 and 6.1.1.1; RFC 9768 3.1.1 and 3.1.4.1
    pub(super) fn syn(self, retries: u8) -> TcpFlags {
        let asks = match self {
            EcnUse::Ask if retries == 0 => TcpFlags::ECE | TcpFlags::CWR,
            EcnUse::Accurate if retries <= 1 => TcpFlags::of_ace(ALL),
            _ => TcpFlags::NONE,
        };
        TcpFlags::SYN | asks
    }

    /// What a SYN with these flags is granted.
    // RFC 9768 3.1.2, table 2; 3.1.3: what is not known yet is taken for a request for accurate feedback.
    pub(super) fn grants(self, syn: TcpFlags) -> Feedback {
        match syn.ace() {
            _ if self == EcnUse::Off => Feedback::None,
            0b000 => Feedback::None,
            0b011 => Feedback::Classic,
            _ => Feedback::Accurate,
        }
    }

    /// What both have agreed on when the SYN, sent again so many times, is answered with these flags.
    // RFC 3168 6.1.1: ECE alone. RFC 9768 3.1.2, table 2, and 3.1.3 for 0b101.
    pub(super) fn agreed(self, retries: u8, answer: TcpFlags) -> Feedback {
        match (self, answer.ace()) {
            (EcnUse::Ask, 0b001 | 0b101) if retries == 0 => Feedback::Classic,
            (EcnUse::Accurate, 0b000 | ALL) => Feedback::None,
            (EcnUse::Accurate, 0b001) => Feedback::Classic,
            (EcnUse::Accurate, _) => Feedback::Accurate,
            _ => Feedback::None,
        }
    }
}

/// Whether a segment's packet was marked on the way.
pub(super) fn is_marked(traffic_class: u8) -> bool {
    traffic_class & MASK == CE
}

/// How a SYN arrived, in the flags of its answer; how that arrived, in those of its acknowledgement.
// RFC 9768, tables 2 and 3
fn arrived(traffic_class: u8) -> TcpFlags {
    TcpFlags::of_ace(match traffic_class & MASK {
        0b00 => 0b010,
        0b01 => 0b011,
        ECT0 => 0b100,
        _ => 0b110,
    })
}

/// The answer to a SYN, until the peer has said how it arrived; of accurate feedback, that is in the next acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
enum Answer {
    /// Nothing more is said of it.
    #[default]
    Known,
    /// It leaves as not capable of marks, or as capable (ECT(0)).
    Plain,
    Capable,
}

/// What one connection knows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ecn {
    pub(super) feedback: Feedback,
    /// What is sent says that it may be marked. Not where the peer may have missed that both agreed, or where the path
    /// changes what is said.
    pub(super) marks: bool,
    /// The flags that every segment has in addition; before the handshake is complete, those of its answer.
    says: TcpFlags,
    /// The next segment of new data says that the window was reduced.
    says_reduced: bool,
    /// The window was reduced; not again before that is acknowledged.
    is_reduced: bool,
    until: SeqNum,
    /// Marked packets that arrived (r.cep), and that the peer has reported (s.cep).
    received: u8,
    reported: u8,
    /// Marked packets since an acknowledgement was last asked for, and whether the last one was.
    unsaid: u8,
    last_marked: bool,
    answer: Answer,
    /// What the peer reports cannot be believed.
    is_deaf: bool,
}

impl Ecn {
    /// A SYN that arrived in this traffic class was granted this. `capable` is whether the answer may be marked.
    pub(super) fn granted(feedback: Feedback, traffic_class: u8, capable: Switch) -> Ecn {
        Ecn {
            feedback,
            answer: match capable.is_on() && feedback != Feedback::None {
                true => Answer::Capable,
                false => Answer::Plain,
            },
            marks: feedback != Feedback::None,
            says: match feedback {
                Feedback::None => TcpFlags::NONE,
                Feedback::Classic => TcpFlags::ECE,
                Feedback::Accurate => arrived(traffic_class),
            },
            ..Ecn::default()
        }
    }

    /// The SYN came again, and asks for this now. False when it contradicts the one before.
    pub(super) fn on_syn_again(&mut self, asks: Feedback, traffic_class: u8) -> bool {
        match (self.feedback, asks) {
            // RFC 9768 3.1.5: the connection is to be reset.
            (Feedback::Classic, Feedback::Accurate) | (Feedback::Accurate, Feedback::Classic) => {
                return false;
            }
            // RFC 3168 6.1.1.1: a SYN that is sent again may no longer ask.
            (Feedback::Classic, Feedback::None) => *self = Ecn::default(),
            (Feedback::Accurate, _) => {
                // RFC 9768 3.1.5: the answer is about the latest; and without knowing how the peer sees it, nothing is
                // marked as capable.
                self.says = arrived(traffic_class);
                self.marks &= asks == Feedback::Accurate;
            }
            _ => {}
        }
        true
    }

    /// Whether an answer to a SYN still grants what was asked for when it has been sent again so many times.
    // RFC 3168 6.1.1.1; RFC 9768 3.2.3.2.2
    fn still_grants(&self, retries: u8) -> bool {
        retries <= u8::from(self.feedback == Feedback::Accurate)
    }

    /// The same for an answer that never says that it may be marked.
    pub(super) fn answered_plainly(self) -> Ecn {
        Ecn {
            answer: Answer::Plain,
            ..self
        }
    }

    /// What the answer to a SYN has in the traffic class of its packet.
    // RFC 5562 3.2: one that is sent again may have been dropped because it could be marked.
    pub(super) fn answer_ect(&self, retries: u8) -> u8 {
        match self.answer == Answer::Capable && retries == 0 {
            true => ECT0,
            false => 0,
        }
    }

    /// Whether the answer to the SYN was marked, by the flags of the segment that completes the handshake.
    pub(super) fn answer_was_marked(&self, retries: u8, flags: TcpFlags) -> bool {
        self.answer_ect(retries) != 0
            && match self.feedback {
                Feedback::None => false,
                Feedback::Classic => flags.has(TcpFlags::ECE),
                Feedback::Accurate => flags.ace() == 0b110,
            }
    }

    /// The flags of the answer to a SYN.
    pub(super) fn answer(&self, retries: u8) -> TcpFlags {
        match self.still_grants(retries) {
            true => TcpFlags::SYN | self.says,
            false => TcpFlags::SYN,
        }
    }

    /// The handshake is complete on the side that answered, after so many repetitions. `is_first` is whether the segment
    /// that completes it is nothing but an acknowledgement.
    pub(super) fn accepted(self, retries: u8, is_first: bool) -> Ecn {
        let begun = self.begun(TcpFlags::of_ace(INITIAL));
        Ecn {
            // RFC 9768 3.1.5 and RFC 3168 6.1.1.1: the peer may have got an answer that did not grant it.
            marks: self.marks && self.still_grants(retries),
            answer: match is_first && self.feedback == Feedback::Accurate {
                true if self.answer_ect(retries) != 0 => Answer::Capable,
                true => Answer::Plain,
                false => Answer::Known,
            },
            ..begun
        }
    }

    /// The answer to the SYN was marked: the window is as small as it gets, and the peer may end its echo.
    // RFC 5562 3.2
    pub(super) fn on_marked_answer(&mut self, una: SeqNum) {
        self.says_reduced = self.feedback == Feedback::Classic;
        // Not again for what it goes on echoing until it has heard.
        (self.is_reduced, self.until) = (true, una + 1);
    }

    /// The handshake is complete on the side that asked, with this answer.
    pub(super) fn connected(feedback: Feedback, answer: TcpFlags, traffic_class: u8) -> Ecn {
        let begun = Ecn {
            feedback,
            ..Ecn::default()
        }
        .begun(arrived(traffic_class));
        match feedback {
            Feedback::None => Ecn::default(),
            Feedback::Classic => Ecn {
                marks: true,
                // RFC 5562 3.2
                says: match is_marked(traffic_class) {
                    true => TcpFlags::ECE,
                    false => TcpFlags::NONE,
                },
                ..begun
            },
            Feedback::Accurate => Ecn {
                // RFC 9768 3.2.2.3: the SYN left as not capable, and should have arrived so.
                marks: matches!(answer.ace(), 0b010 | 0b101),
                // RFC 9768 3.2.2.2
                received: INITIAL + u8::from(is_marked(traffic_class)),
                ..begun
            },
        }
    }

    fn begun(self, says: TcpFlags) -> Ecn {
        Ecn {
            says: match self.feedback {
                Feedback::Accurate => says,
                _ => TcpFlags::NONE,
            },
            received: INITIAL,
            reported: INITIAL,
            ..self
        }
    }

    /// A segment arrived, of so many packets, and with data or not. `owes` is whether data waits to be acknowledged. True
    /// when an acknowledgement is due at once.
    pub(super) fn on_segment(
        &mut self,
        flags: TcpFlags,
        traffic_class: u8,
        has_data: bool,
        packets: u32,
        owes: bool,
    ) -> bool {
        let marked = is_marked(traffic_class);
        if self.feedback == Feedback::Classic {
            // RFC 3168 6.1.3: CWR ends the echo, unless the segment was marked itself.
            if has_data && flags.has(TcpFlags::CWR) {
                self.says = TcpFlags::NONE;
            }
            if has_data && marked {
                self.says = TcpFlags::ECE;
            }
            return false;
        }
        let changes = marked && !self.last_marked && has_data;
        self.last_marked = marked;
        if marked {
            self.received = self.received.wrapping_add(packets as u8);
            self.unsaid = self.unsaid.saturating_add(packets.min(7) as u8);
        }
        self.counts();
        // RFC 9768 3.2.2.5.1
        let due = changes || self.unsaid >= if owes || has_data { 2 } else { 3 };
        if due {
            self.unsaid = 0;
        }
        due
    }

    /// From now on segments have the number of marked packets.
    fn counts(&mut self) {
        if self.feedback == Feedback::Accurate {
            self.says = TcpFlags::of_ace(self.received);
        }
    }

    /// How many packets had marks, by an acknowledgement with these flags of so many packets.
    // RFC 9768 3.2.2.2
    pub(super) fn on_count(&mut self, flags: TcpFlags, packets: u32) -> u32 {
        let said = flags.ace();
        let answer = std::mem::take(&mut self.answer);
        if answer != Answer::Known {
            // RFC 9768, table 4, and 3.2.2.3: the answer left as not capable, or as ECT(0).
            self.is_deaf = said == 0;
            self.marks &= match answer {
                Answer::Capable => !matches!(said, 0b000 | 0b010 | 0b011),
                _ => !matches!(said, 0b000 | 0b011 | 0b100 | 0b110),
            };
            self.reported += u8::from(said == 0b110);
            return u32::from(said == 0b110);
        }
        let more = said.wrapping_sub(self.reported) & 7;
        self.reported = self.reported.wrapping_add(more);
        let more = u32::from(more);
        if self.is_deaf {
            return 0;
        }
        // RFC 9768 3.2.2.5.2: as many as may have been, where there were some.
        match more > 0 && packets > 7 {
            true => packets - ((packets - more) & 7),
            false => more,
        }
    }

    /// The peer reports a mark. True when the window is to be reduced: once in a round trip.
    // RFC 3168 6.1.2
    pub(super) fn on_echo(&mut self, una: SeqNum, nxt: SeqNum) -> bool {
        if self.is_reduced && self.until != una && self.until.is_in(una..=nxt) {
            return false;
        }
        // RFC 9768 3.1.5: with accurate feedback the flag is part of a number.
        self.says_reduced = self.feedback == Feedback::Classic;
        (self.is_reduced, self.until) = (true, nxt);
        true
    }

    /// The flags that every segment has in addition.
    #[inline]
    pub(super) fn flags(&self) -> TcpFlags {
        self.says
    }

    /// What the peer reports contradicts itself: data is no longer marked as capable.
    // RFC 9768 3.2.3.2.5
    #[cold]
    pub(super) fn on_mangled(&mut self) {
        self.marks = false;
    }

    /// Those of the segment that leaves now. Only the acknowledgement of the answer to the SYN says how that arrived.
    // RFC 9768 3.2.2.1
    #[inline]
    pub(super) fn next_flags(&mut self) -> TcpFlags {
        let says = self.says;
        self.counts();
        says
    }

    /// Whether a segment can stand for several. CWR would be in the first one only.
    #[inline]
    pub(super) fn may_be_large(&self) -> bool {
        !self.says.has(TcpFlags::CWR)
    }

    /// New data leaves: the flags that it has besides, and the bits in the traffic class of its packet.
    // RFC 3168 6.1.5: not when it is sent again. RFC 9331 4.2: ECT(1) takes accurate feedback.
    pub(super) fn on_data_sent(&mut self, ect1: Switch) -> (TcpFlags, u8) {
        self.counts();
        let ect = match ect1.is_on() && self.feedback == Feedback::Accurate {
            true => ECT1,
            false => ECT0,
        };
        match (self.marks, std::mem::take(&mut self.says_reduced)) {
            (false, _) => (TcpFlags::NONE, 0),
            (true, false) => (TcpFlags::NONE, ect),
            (true, true) => (TcpFlags::CWR, ect),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CE_CLASS: u8 = CE;

    fn accurate() -> Ecn {
        let connected = Ecn::connected(Feedback::Accurate, TcpFlags::of_ace(0b010), 0);
        assert!(connected.marks);
        connected
    }

    #[test]
    fn the_window_is_reduced_once_a_round_trip() {
        let mut e = Ecn::default();
        let seq = SeqNum;
        assert!(e.on_echo(seq(0), seq(10)));
        assert!(!e.on_echo(seq(1), seq(20)));
        assert!(!e.on_echo(seq(9), seq(20)));
        assert!(e.on_echo(seq(10), seq(20)));
        // A round that was passed unseen is over.
        assert!(e.on_echo(seq(500), seq(600)));
    }

    #[test]
    fn marks_are_echoed_until_the_sender_has_heard() {
        let mut e = Ecn::connected(Feedback::Classic, TcpFlags::ECE, 0);
        let mut says = |flags, class| {
            assert!(!e.on_segment(flags, class, true, 1, true));
            e.flags()
        };
        assert_eq!(says(TcpFlags::NONE, CE_CLASS), TcpFlags::ECE);
        assert_eq!(says(TcpFlags::NONE, ECT0), TcpFlags::ECE);
        assert_eq!(says(TcpFlags::CWR, CE_CLASS), TcpFlags::ECE);
        assert_eq!(says(TcpFlags::CWR, ECT0), TcpFlags::NONE);
    }

    #[test]
    fn a_syn_asks_once_or_twice() {
        let asks = |ecn: EcnUse| [0, 1, 2].map(|retries| ecn.syn(retries).ace());
        assert_eq!(asks(EcnUse::Ask), [0b011, 0, 0]);
        assert_eq!(asks(EcnUse::Accurate), [0b111, 0b111, 0]);
        assert_eq!(asks(EcnUse::Grant), [0, 0, 0]);
        assert_eq!(asks(EcnUse::Off), [0, 0, 0]);
    }

    // RFC 9768, table 2, the server's side, and 3.1.3.
    #[test]
    fn a_syn_is_granted_what_it_asks_for() {
        use Feedback::{Accurate, Classic, None};
        for (ace, granted) in [None, Accurate, Accurate, Classic]
            .into_iter()
            .chain([Accurate; 4])
            .enumerate()
        {
            let syn = TcpFlags::SYN | TcpFlags::of_ace(ace as u8);
            for ecn in [EcnUse::Grant, EcnUse::Ask, EcnUse::Accurate] {
                assert_eq!(ecn.grants(syn), granted, "{ace:03b}");
            }
            assert_eq!(EcnUse::Off.grants(syn), None);
        }
    }

    // RFC 9768, table 2, the client's side; 0b101 by 3.1.3.
    #[test]
    fn an_answer_is_taken_as_the_table_says() {
        use Feedback::{Accurate, Classic, None};
        let accurate = [
            None, Classic, Accurate, Accurate, Accurate, Accurate, Accurate, None,
        ];
        let classic = [None, Classic, None, None, None, Classic, None, None];
        for ace in 0..8u8 {
            let answer = TcpFlags::SYN | TcpFlags::of_ace(ace);
            let n = usize::from(ace);
            assert_eq!(EcnUse::Accurate.agreed(0, answer), accurate[n], "{ace:03b}");
            assert_eq!(EcnUse::Ask.agreed(0, answer), classic[n], "{ace:03b}");
            assert_eq!(EcnUse::Ask.agreed(1, answer), None);
            assert_eq!(EcnUse::Grant.agreed(0, answer), None);
            // RFC 9768 3.2.2.3: what the path changed says that it changes things.
            let connected = Ecn::connected(accurate[n], answer, 0);
            assert_eq!(connected.marks, [1, 2, 5].contains(&ace), "{ace:03b}");
        }
    }

    // RFC 9768, tables 2 and 3, and 3.2.2.2.
    #[test]
    fn how_the_handshake_arrived_is_said_in_it() {
        for (class, said) in [(0, 0b010), (1, 0b011), (2, 0b100), (3, 0b110)] {
            let granted = Ecn::granted(Feedback::Accurate, class, Switch::Off);
            let answers = [0, 1, 2].map(|retries| granted.answer(retries).ace());
            assert_eq!(answers, [said, said, 0]);
            let mut connected = Ecn::connected(Feedback::Accurate, TcpFlags::of_ace(0b010), class);
            assert_eq!(connected.flags().ace(), said);
            connected.on_data_sent(Switch::Off);
            let counted = if class == 3 { 6 } else { 5 };
            assert_eq!(connected.flags().ace(), counted);
        }
    }

    // RFC 9768, table 4.
    #[test]
    fn the_acknowledgement_of_the_answer_is_no_count() {
        for ace in 0..8u8 {
            let granted = Ecn::granted(Feedback::Accurate, 0, Switch::Off);
            let mut e = granted.accepted(0, true);
            assert_eq!(e.flags().ace(), 5);
            assert_eq!(e.on_count(TcpFlags::of_ace(ace), 0), u32::from(ace == 6));
            assert_eq!(e.marks, [1, 2, 5, 7].contains(&ace), "{ace:03b}");
            let next = if ace == 6 { 7 } else { 6 };
            let heard = e.on_count(TcpFlags::of_ace(next), 1);
            assert_eq!(heard, u32::from(ace != 0), "{ace:03b}");
            // With data, it is one.
            let mut e = granted.accepted(0, false);
            assert_eq!(e.on_count(TcpFlags::of_ace(6), 1), 1);
        }
    }

    // RFC 9768 3.1.5
    #[test]
    fn requests_that_contradict_each_other_are_found() {
        use Feedback::{Accurate, Classic, None};
        for (first, then, good, feedback, marks) in [
            (Accurate, Accurate, true, Accurate, true),
            (Accurate, None, true, Accurate, false),
            (Accurate, Classic, false, Accurate, true),
            (Classic, Classic, true, Classic, true),
            (Classic, None, true, None, false),
            (Classic, Accurate, false, Classic, true),
            (None, Accurate, true, None, false),
        ] {
            let mut e = Ecn::granted(first, 0, Switch::Off);
            assert_eq!(e.on_syn_again(then, 1), good, "{first:?} {then:?}");
            assert_eq!((e.feedback, e.marks), (feedback, marks));
            if good && feedback == Accurate {
                assert_eq!(e.answer(0).ace(), 0b011, "how the latest arrived");
            }
        }
        for (retries, marks) in [(0, true), (1, true), (2, false)] {
            let e = Ecn::granted(Accurate, 0, Switch::Off).accepted(retries, true);
            assert_eq!(e.marks, marks);
        }
    }

    // RFC 9768 3.2.2.5.1
    #[test]
    fn the_first_mark_and_every_second_one_are_acknowledged_at_once() {
        let mut e = accurate();
        let mut due = |class, data| e.on_segment(TcpFlags::NONE, class, data, 1, false);
        let dues = [3, 3, 3, 3, 2, 3].map(|class| due(class, true));
        assert_eq!(dues, [true, false, true, false, false, true]);
        // Without data a third one.
        assert!(!due(3, false) && !due(3, false) && due(3, false));
        assert_eq!(e.flags().ace(), (5 + 8) % 8);
    }

    // RFC 9768 3.2.2.2 and 3.2.2.5.2
    #[test]
    fn counts_go_round_and_are_taken_for_as_many_as_may_have_been() {
        let mut e = accurate();
        let mut heard = |ace, packets| e.on_count(TcpFlags::of_ace(ace), packets);
        assert_eq!(heard(5, 1), 0);
        assert_eq!(heard(7, 2), 2);
        assert_eq!(heard(1, 2), 2);
        // Of twenty packets, two, ten or eighteen.
        assert_eq!(heard(3, 20), 18);
        // None or sixteen: where there were none before, none.
        assert_eq!(heard(3, 20), 0);
        // More than were acknowledged: others were marked as well.
        assert_eq!(heard(6, 1), 3);
    }

    #[test]
    fn a_number_with_cwr_is_not_in_large_segments() {
        let mut e = accurate();
        assert!(!e.may_be_large(), "how the answer arrived");
        e.on_data_sent(Switch::Off);
        assert!(e.may_be_large());
        e.on_segment(TcpFlags::NONE, CE_CLASS, true, 1, false);
        assert!(!e.may_be_large(), "6");
    }
}

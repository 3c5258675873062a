//! Explicit congestion notification (RFC 3168): who asks for it, and what is said of marks.
//!
//! A connection that agreed on it marks its data as capable (ECT(0)); routers mark such packets instead of dropping them.
//! The receiver echoes a mark until the sender says that it has reduced its window, as for a loss.

use super::seq::SeqNum;
use crate::packet::header::TcpFlags;

/// The last two bits of the traffic class (RFC 3168 5).
const MASK: u8 = 0b11;
const CE: u8 = 0b11;
/// What data of a connection that agreed on it carries.
pub(super) const ECT0: u8 = 0b10;

/// Whether a vnet uses explicit congestion notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum EcnUse {
    /// Neither asked for nor granted.
    Off,
    /// Asked for and granted.
    Ask,
    /// Granted to peers that ask.
    #[default]
    Grant,
}

impl EcnUse {
    /// The names of the values, in the order of their numbers as a tunable.
    pub(crate) const NAMES: &'static [&'static str] = &["off", "ask", "grant"];

    /// What a SYN has in its flags. One that is sent again does not ask: something on the way may not like it.
    // RFC 3168 6.1.1 and 6.1.1.1
    pub(super) fn syn(self, retries: u8) -> TcpFlags {
        match self {
            EcnUse::Ask if retries == 0 => TcpFlags::SYN | TcpFlags::ECE | TcpFlags::CWR,
            _ => TcpFlags::SYN,
        }
    }

    /// Whether a SYN with these flags is granted what it asks for.
    // RFC 3168 6.1.1
    pub(super) fn grants(self, syn: TcpFlags) -> bool {
        self != EcnUse::Off && syn.has(TcpFlags::ECE | TcpFlags::CWR)
    }
}

/// Whether a segment's packet was marked on the way.
pub(super) fn is_marked(traffic_class: u8) -> bool {
    traffic_class & MASK == CE
}

/// What one connection knows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ecn {
    /// Both sides agreed.
    pub(super) agreed: bool,
    /// What is sent says that it may be marked. Not where the peer may have missed that both agreed.
    pub(super) marks: bool,
    /// Marks are echoed until the peer says that it has heard.
    echoes: bool,
    /// The next segment of new data says that the window was reduced.
    says_reduced: bool,
    /// The window was reduced; not again before this is acknowledged.
    until: Option<SeqNum>,
}

impl Ecn {
    /// A segment with data arrived.
    // RFC 3168 6.1.3: CWR ends the echo, unless the segment was marked itself.
    pub(super) fn on_data(&mut self, flags: TcpFlags, traffic_class: u8) {
        if flags.has(TcpFlags::CWR) {
            self.echoes = false;
        }
        if is_marked(traffic_class) {
            self.echoes = true;
        }
    }

    /// An acknowledgement echoes a mark. True when the window is to be reduced: once in a round trip.
    // RFC 3168 6.1.2
    pub(super) fn on_echo(&mut self, una: SeqNum, nxt: SeqNum) -> bool {
        if self
            .until
            .is_some_and(|end| end != una && end.is_in(una..=nxt))
        {
            return false;
        }
        self.says_reduced = true;
        self.until = Some(nxt);
        true
    }

    /// The flags that every segment has in addition.
    #[inline]
    pub(super) fn flags(&self) -> TcpFlags {
        match self.echoes {
            true => TcpFlags::ECE,
            false => TcpFlags::NONE,
        }
    }

    /// Those of a segment of new data.
    #[inline]
    pub(super) fn take_flags(&mut self) -> TcpFlags {
        match std::mem::take(&mut self.says_reduced) {
            true => TcpFlags::CWR,
            false => TcpFlags::NONE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let mut e = Ecn::default();
        e.on_data(TcpFlags::NONE, CE);
        e.on_data(TcpFlags::NONE, ECT0);
        assert_eq!(e.flags(), TcpFlags::ECE);
        e.on_data(TcpFlags::CWR, CE);
        assert_eq!(e.flags(), TcpFlags::ECE);
        e.on_data(TcpFlags::CWR, ECT0);
        assert_eq!(e.flags(), TcpFlags::NONE);
    }

    #[test]
    fn a_syn_asks_once() {
        let asks = |flags: TcpFlags| flags.has(TcpFlags::ECE | TcpFlags::CWR);
        assert!(asks(EcnUse::Ask.syn(0)) && !asks(EcnUse::Ask.syn(1)));
        assert!(!asks(EcnUse::Grant.syn(0)));
        assert!(EcnUse::Grant.grants(EcnUse::Ask.syn(0)));
        assert!(!EcnUse::Grant.grants(TcpFlags::SYN | TcpFlags::ECE));
        assert!(!EcnUse::Off.grants(EcnUse::Ask.syn(0)));
    }
}

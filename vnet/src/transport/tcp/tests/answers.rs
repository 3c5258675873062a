//! Every state's answer to every kind of segment, as a table.

use super::fuzz::prepare;
use super::*;

/// What comes back at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Nothing,
    /// An acknowledgement: SND.NXT, RCV.NXT, and no other control bit.
    Ack,
    SynAck,
    Reset,
}

use Answer::{Ack, Nothing, Reset, SynAck};

/// Where a segment's number lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seq {
    /// The peer's SYN.
    Irs,
    /// Before what is expected next.
    Old,
    /// What is expected next.
    Next,
    /// In the window, behind it.
    Ahead,
    /// At the window's right edge.
    Edge,
    /// A gibibyte behind it.
    Beyond,
}

/// What a segment acknowledges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Acks {
    /// It has no ACK bit.
    None,
    /// Everything sent.
    All,
    /// One more than everything.
    Unsent,
    /// Far more: half the sequence space.
    Half,
    /// Less than the peer's window ever was.
    Stale,
}

const NONE: TcpFlags = TcpFlags::NONE;
const FIN: TcpFlags = TcpFlags::FIN;
const SYN: TcpFlags = TcpFlags::SYN;
const RST: TcpFlags = TcpFlags::RST;
const URG: TcpFlags = TcpFlags::URG;

/// B's states, as `fuzz::prepare` numbers them.
const SYN_SENT: u8 = 0;
const HALF_OPEN: u8 = 1;
/// ESTABLISHED, FIN-WAIT-1, FIN-WAIT-2, CLOSE-WAIT, LAST-ACK and CLOSING.
const SYNCHRONIZED: std::ops::RangeInclusive<u8> = 2..=7;

type Segment = (TcpFlags, Seq, Acks, usize);

/// Brings B into a state and gives it a segment; returns what it says, and its state afterwards.
fn give(state: u8, (flags, seq, acks, len): Segment) -> (Vec<Answer>, Option<TcpState>) {
    let mut w = World::with(3, Net::default(), TcpConfig::default());
    let b = prepare(&mut w, state);
    let said = *w
        .trace
        .iter()
        .rfind(|t| t.1 == B)
        .map(|t| &t.2)
        .expect("B spoke");
    let c = b.and_then(|b| w.hosts[B].tcp.connections.get(b));
    let c = c.as_deref();
    let (irs, nxt, adv, sent) = match c {
        // A has not said anything; any number will do.
        Some(c) if state == SYN_SENT => (7000, 7001, 7001, c.snd.nxt.0),
        Some(c) => (
            c.rcv.nxt.0 - 1,
            c.rcv.nxt.0,
            c.rcv.advertised.0,
            c.snd.nxt.0,
        ),
        None => {
            let nxt = said.ack.expect("a SYN-ACK");
            let adv = nxt.wrapping_add(u32::from(said.window));
            (nxt.wrapping_sub(1), nxt, adv, said.seq.wrapping_add(1))
        }
    };
    let seq = match seq {
        Seq::Irs => irs,
        Seq::Old => nxt.wrapping_sub(1 + len as u32),
        Seq::Next => nxt,
        Seq::Ahead => nxt.wrapping_add(100),
        Seq::Edge => adv,
        Seq::Beyond => adv.wrapping_add(1 << 30),
    };
    let ack = match acks {
        Acks::None => None,
        Acks::All => Some(sent),
        Acks::Unsent => Some(sent.wrapping_add(1)),
        Acks::Half => Some(sent.wrapping_add(1 << 31)),
        Acks::Stale => Some(sent.wrapping_sub(1 << 30)),
    };
    let known = c.and_then(|c| c.negotiated.ts).map(|ts| ts.recent);
    let timestamp = said.options.timestamp;
    let timestamp = timestamp.map(|(value, echo)| (known.unwrap_or(echo), value));
    let (src, dst) = (w.addr(A, said.dst_port), w.addr(B, said.src_port));
    let header = TcpHeader {
        src_port: said.dst_port,
        dst_port: said.src_port,
        seq,
        ack,
        flags,
        window: 1000,
        urgent: 0,
        options: crate::packet::header::TcpOptions {
            timestamp,
            ..Default::default()
        },
    };
    w.net.loss = 1.0;
    w.trace.clear();
    w.deliver(B, arriving(src, dst, header, Payload::from(vec![1; len])));
    let answer = |h: &TcpHeader| match (h.flags.has(SYN), h.flags.has(RST)) {
        (false, false) => {
            assert_eq!((h.seq, h.flags), (sent, NONE), "{state}: {header:?}");
            Ack
        }
        (true, false) => SynAck,
        _ => Reset,
    };
    let answers = w.trace.iter().map(|t| answer(&t.2)).collect();
    let after = match b {
        Some(b) => w.state(B, b),
        None => w.hosts[B].tcp.sockets().iter().map(|s| s.state).next_back(),
    };
    (answers, after)
}

/// Whether the segment ends the connection, or opens it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Stays,
    Goes(TcpState),
}

use Then::{Goes, Stays};

#[track_caller]
fn assert_answers(states: impl Iterator<Item = u8>, table: &[(Segment, Answer, Then)]) {
    for state in states {
        let before = give(state, (RST, Seq::Old, Acks::None, 0)).1;
        for &(segment, answer, then) in table {
            let (said, after) = give(state, segment);
            let expected = match answer {
                Nothing => vec![],
                answer => vec![answer],
            };
            assert_eq!(said, expected, "{before:?}: {segment:?}");
            let state = match then {
                Stays => before,
                Goes(to) => Some(to),
            };
            assert_eq!(after, state, "{before:?} after {segment:?}");
        }
    }
}

// RFC 9293 3.10.7.4, RFC 5961 3.2, 4.2 and 5.2.
#[test]
fn every_synchronized_state_answers_by_the_rfc() {
    let quiet = (RST, Seq::Old, Acks::None, 0);
    let states: Vec<_> = SYNCHRONIZED.map(|s| give(s, quiet).1).collect();
    let names = [
        TcpState::Established,
        TcpState::FinWait1,
        TcpState::FinWait2,
        TcpState::CloseWait,
        TcpState::LastAck,
        TcpState::Closing,
    ];
    assert_eq!(states, names.map(Some));
    let closed = Goes(TcpState::Closed);
    assert_answers(
        SYNCHRONIZED,
        &[
            // Resets: by their number alone.
            ((RST, Seq::Next, Acks::None, 0), Nothing, closed),
            ((RST, Seq::Next, Acks::Unsent, 0), Nothing, closed),
            ((RST, Seq::Next, Acks::All, 5), Nothing, closed),
            ((RST | SYN, Seq::Next, Acks::None, 0), Nothing, closed),
            ((RST, Seq::Ahead, Acks::All, 0), Ack, Stays),
            ((RST | FIN, Seq::Ahead, Acks::None, 5), Ack, Stays),
            ((RST, Seq::Edge, Acks::All, 0), Nothing, Stays),
            ((RST, Seq::Old, Acks::All, 0), Nothing, Stays),
            ((RST, Seq::Beyond, Acks::None, 0), Nothing, Stays),
            // SYNs: whatever their number.
            ((SYN, Seq::Irs, Acks::None, 0), Ack, Stays),
            ((SYN, Seq::Next, Acks::None, 0), Ack, Stays),
            ((SYN, Seq::Next, Acks::All, 0), Ack, Stays),
            ((SYN, Seq::Ahead, Acks::All, 5), Ack, Stays),
            ((SYN | FIN, Seq::Edge, Acks::None, 0), Ack, Stays),
            ((SYN, Seq::Beyond, Acks::None, 0), Ack, Stays),
            // Without the ACK bit.
            ((NONE, Seq::Next, Acks::None, 0), Nothing, Stays),
            ((NONE, Seq::Next, Acks::None, 5), Nothing, Stays),
            ((FIN, Seq::Next, Acks::None, 0), Nothing, Stays),
            ((FIN | URG, Seq::Ahead, Acks::None, 5), Nothing, Stays),
            // Acknowledgements of what was never sent, or long ago.
            ((NONE, Seq::Next, Acks::Unsent, 0), Ack, Stays),
            ((NONE, Seq::Next, Acks::Unsent, 5), Ack, Stays),
            ((FIN, Seq::Next, Acks::Half, 0), Ack, Stays),
            ((FIN, Seq::Next, Acks::Stale, 5), Ack, Stays),
            // Outside the window.
            ((NONE, Seq::Old, Acks::Unsent, 0), Ack, Stays),
            ((NONE, Seq::Old, Acks::Half, 5), Ack, Stays),
            ((FIN, Seq::Old, Acks::Unsent, 0), Ack, Stays),
            ((NONE, Seq::Beyond, Acks::All, 0), Ack, Stays),
            ((NONE, Seq::Beyond, Acks::All, 5), Ack, Stays),
            ((FIN, Seq::Beyond, Acks::All, 5), Ack, Stays),
        ],
    );
}

// RFC 9293 3.10.7.4, a passive SYN-RECEIVED.
#[test]
fn a_half_open_request_answers_by_the_rfc() {
    let listens = Goes(TcpState::Listen);
    assert_answers(
        [HALF_OPEN].into_iter(),
        &[
            ((RST, Seq::Next, Acks::None, 0), Nothing, listens),
            ((RST, Seq::Next, Acks::Unsent, 5), Nothing, listens),
            ((RST, Seq::Ahead, Acks::All, 0), Ack, Stays),
            ((RST, Seq::Edge, Acks::All, 0), Nothing, Stays),
            ((RST, Seq::Beyond, Acks::All, 0), Nothing, Stays),
            ((RST | SYN, Seq::Irs, Acks::None, 0), Nothing, Stays),
            ((SYN, Seq::Irs, Acks::None, 0), SynAck, Stays),
            ((SYN, Seq::Irs, Acks::All, 0), Ack, Stays),
            ((SYN, Seq::Next, Acks::None, 0), Ack, Stays),
            ((SYN, Seq::Beyond, Acks::None, 0), Ack, Stays),
            ((NONE, Seq::Next, Acks::None, 5), Nothing, Stays),
            ((FIN, Seq::Next, Acks::None, 0), Nothing, Stays),
            ((NONE, Seq::Next, Acks::Unsent, 0), Reset, Stays),
            ((FIN, Seq::Ahead, Acks::Half, 5), Reset, Stays),
            ((NONE, Seq::Next, Acks::Stale, 0), Reset, Stays),
            ((NONE, Seq::Old, Acks::All, 0), Ack, Stays),
            ((NONE, Seq::Beyond, Acks::All, 5), Ack, Stays),
            (
                (NONE, Seq::Next, Acks::All, 0),
                Nothing,
                Goes(TcpState::Established),
            ),
        ],
    );
}

// RFC 9293 3.10.7.3
#[test]
fn a_connection_attempt_answers_by_the_rfc() {
    let closed = Goes(TcpState::Closed);
    assert_answers(
        [SYN_SENT].into_iter(),
        &[
            ((RST, Seq::Next, Acks::None, 0), Nothing, Stays),
            ((RST, Seq::Next, Acks::Unsent, 0), Nothing, Stays),
            ((RST, Seq::Next, Acks::Half, 5), Nothing, Stays),
            ((RST, Seq::Beyond, Acks::All, 0), Nothing, closed),
            ((RST | SYN, Seq::Irs, Acks::All, 0), Nothing, closed),
            ((NONE, Seq::Next, Acks::All, 0), Nothing, Stays),
            ((FIN, Seq::Next, Acks::All, 5), Nothing, Stays),
            ((NONE, Seq::Next, Acks::None, 5), Nothing, Stays),
            ((NONE, Seq::Next, Acks::Unsent, 0), Reset, Stays),
            ((SYN, Seq::Irs, Acks::Half, 0), Reset, Stays),
            ((SYN, Seq::Irs, Acks::Stale, 5), Reset, Stays),
            (
                (SYN, Seq::Irs, Acks::None, 0),
                SynAck,
                Goes(TcpState::SynReceived),
            ),
            (
                (SYN | FIN, Seq::Irs, Acks::None, 5),
                SynAck,
                Goes(TcpState::SynReceived),
            ),
            (
                (SYN, Seq::Irs, Acks::All, 0),
                Ack,
                Goes(TcpState::Established),
            ),
            (
                (SYN | URG, Seq::Irs, Acks::All, 5),
                Ack,
                Goes(TcpState::Established),
            ),
            (
                (SYN | FIN, Seq::Irs, Acks::All, 5),
                Ack,
                Goes(TcpState::CloseWait),
            ),
        ],
    );
}

//! The state machine of a connection (RFC 9293, section 3.3.2): the transitions that events cause.
//!
//! LISTEN and a passive SYN-RECEIVED are not here: they are a [`listener`](super::listener) and
//! its half-open records. Nor is TIME-WAIT's substance: that is a [`time_wait`](super::time_wait)
//! record; the state of that name only remains for the socket to see.

use super::seq::SeqNum;
use crate::base::time::Instant;

/// ```text
///                    connect
///                       │
///                  ┌────▼────┐   SYN (simultaneous open)   ┌─────────────┐
///                  │ SynSent ├────────────────────────────►│ SynReceived │
///                  └────┬────┘                             └──────┬──────┘
///              SYN+ACK  │                                         │ ACK of SYN
///                  ┌────▼────────┐◄───────────────────────────────┘
///   (listener) ───►│ Established ├──────────────────────┐
///                  └────┬────────┘                      │ FIN
///                 close │                               │
///                  ┌────▼─────┐    FIN   ┌─────────┐  ┌─▼─────────┐
///                  │ FinWait1 ├─────────►│ Closing │  │ CloseWait │
///                  └────┬─────┘          └────┬────┘  └─┬─────────┘
///            ACK of FIN │   └─ FIN+ACK ─┐     │ ACK     │ close
///                  ┌────▼─────┐  FIN  ┌─▼─────▼──┐    ┌─▼───────┐
///                  │ FinWait2 ├──────►│ TimeWait │    │ LastAck │
///                  └──────────┘       └──────────┘    └─┬───────┘
///                                                       │ ACK of FIN
///        any ── reset, abort, timeout ──►  Closed  ◄────┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    SynSent(SynSent),
    SynReceived(SynReceived),
    Established,
    FinWait1(Closing),
    FinWait2,
    Closing(Closing),
    TimeWait,
    CloseWait,
    LastAck(Closing),
    Closed,
}

/// We have sent a SYN, or are about to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SynSent {
    pub(super) syn: Due,
    /// When the SYN left for the first time.
    pub(super) sent_at: Option<Instant>,
}

/// Both have sent a SYN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SynReceived {
    /// The SYN-ACK.
    pub(super) syn_ack: Due,
    pub(super) sends: Sends,
}

/// Whether data goes both ways before the handshake is complete: the SYN had data that was taken (RFC 7413 4.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sends {
    Yes,
    No,
}

/// We have closed, and our FIN is not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Closing {
    /// The FIN's sequence number: the one behind the last byte.
    pub(super) fin: SeqNum,
}

/// Whether something is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// When there is something to send with it.
    Later,
    Now,
    Sent,
}

impl State {
    /// True once both sides have synchronised and until the connection is over.
    #[inline]
    pub(super) fn is_synchronized(self) -> bool {
        !matches!(
            self,
            State::SynSent(_) | State::SynReceived(_) | State::TimeWait | State::Closed
        )
    }

    /// True while the peer may send data.
    #[inline]
    pub(super) fn receives(self) -> bool {
        matches!(
            self,
            State::Established
                | State::FinWait1(_)
                | State::FinWait2
                | State::SynReceived(SynReceived {
                    sends: Sends::Yes,
                    ..
                })
        )
    }

    /// True while the application may write.
    #[inline]
    pub(super) fn sends(self) -> bool {
        matches!(
            self,
            State::Established
                | State::CloseWait
                | State::SynReceived(SynReceived {
                    sends: Sends::Yes,
                    ..
                })
        )
    }

    /// True when nothing is exchanged any more.
    pub(super) fn is_over(self) -> bool {
        matches!(self, State::TimeWait | State::Closed)
    }

    /// The sequence number of our FIN, once we have closed.
    #[inline]
    pub(super) fn fin(self) -> Option<SeqNum> {
        match self {
            State::FinWait1(c) | State::Closing(c) | State::LastAck(c) => Some(c.fin),
            _ => None,
        }
    }

    /// The application closes its side; `fin` follows the last byte written.
    pub(super) fn on_close(self, fin: SeqNum) -> State {
        match self {
            State::Established => State::FinWait1(Closing { fin }),
            State::CloseWait => State::LastAck(Closing { fin }),
            State::SynSent(_) => State::Closed,
            other => other,
        }
    }

    /// The peer's FIN arrived in order.
    pub(super) fn on_fin(self) -> State {
        match self {
            State::Established => State::CloseWait,
            State::FinWait1(c) => State::Closing(c),
            State::FinWait2 => State::TimeWait,
            other => other,
        }
    }

    /// Our FIN was acknowledged.
    pub(super) fn on_fin_acked(self) -> State {
        match self {
            State::FinWait1(_) => State::FinWait2,
            State::Closing(_) => State::TimeWait,
            State::LastAck(_) => State::Closed,
            other => other,
        }
    }

    /// The state as reported to users.
    pub(super) fn report(self) -> TcpState {
        match self {
            State::SynSent(_) => TcpState::SynSent,
            State::SynReceived(_) => TcpState::SynReceived,
            State::Established => TcpState::Established,
            State::FinWait1(_) => TcpState::FinWait1,
            State::FinWait2 => TcpState::FinWait2,
            State::Closing(_) => TcpState::Closing,
            State::TimeWait => TcpState::TimeWait,
            State::CloseWait => TcpState::CloseWait,
            State::LastAck(_) => TcpState::LastAck,
            State::Closed => TcpState::Closed,
        }
    }
}

/// The state of a connection, in the words of RFC 9293 3.3.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TcpState {
    /// Waiting for a connection request.
    Listen,
    /// A request was sent.
    SynSent,
    /// A request was received and answered.
    SynReceived,
    /// Data flows both ways.
    Established,
    /// We have closed.
    FinWait1,
    /// We have closed and the peer knows.
    FinWait2,
    /// Both have closed at the same time.
    Closing,
    /// Over; waiting for old segments to die out.
    TimeWait,
    /// The peer has closed.
    CloseWait,
    /// The peer has closed, then we.
    LastAck,
    /// Over.
    Closed,
}

impl TcpState {
    /// The state's name as in `ss` and `netstat`.
    pub const fn as_str(self) -> &'static str {
        match self {
            TcpState::Listen => "listen",
            TcpState::SynSent => "syn-sent",
            TcpState::SynReceived => "syn-received",
            TcpState::Established => "established",
            TcpState::FinWait1 => "fin-wait-1",
            TcpState::FinWait2 => "fin-wait-2",
            TcpState::Closing => "closing",
            TcpState::TimeWait => "time-wait",
            TcpState::CloseWait => "close-wait",
            TcpState::LastAck => "last-ack",
            TcpState::Closed => "closed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIN: SeqNum = SeqNum(7);
    const CLOSING: Closing = Closing { fin: FIN };

    #[test]
    fn every_way_to_close_ends_where_the_diagram_says() {
        let s = State::Established;
        // We close first.
        let closed = s.on_close(FIN);
        assert_eq!(closed, State::FinWait1(CLOSING));
        assert_eq!(closed.on_fin_acked().on_fin(), State::TimeWait);
        // Both at once, the FINs crossing.
        assert_eq!(closed.on_fin(), State::Closing(CLOSING));
        assert_eq!(closed.on_fin().on_fin_acked(), State::TimeWait);
        // The peer first.
        assert_eq!(s.on_fin().on_close(FIN).on_fin_acked(), State::Closed);
        // Events that do not concern a state leave it alone.
        assert_eq!(State::CloseWait.on_fin(), State::CloseWait);
        assert_eq!(State::FinWait2.on_close(FIN), State::FinWait2);
        assert_eq!(State::Established.on_fin_acked(), State::Established);
    }
}

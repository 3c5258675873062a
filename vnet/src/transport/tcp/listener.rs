//! Listeners: a SYN queue of small records and an accept queue of established connections. The
//! backlog limits the accept queue; while that is full, SYNs are not answered, and handshakes in progress
//! do not complete. The SYN queue has its own limit: when it is reached, the oldest record is dropped, so that
//! incomplete requests do not keep others out.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use super::challenge::Challenge;
use super::config::Feature;
use super::ecn::Feedback;
use super::ids::{ConnId, FourTuple, ListenerId};
use super::marked;
use super::options::{Negotiated, Options, Path};
use super::requests::{Links, Requests};
use super::segment::SegmentOut;
use super::seq::SeqNum;
use crate::base::deadline::Armed;
use crate::base::id::IfId;
use crate::base::time::{Duration, Instant};
use crate::packet::header::{TcpFlags, TcpHeader, TcpOptions};
use crate::transport::edge::Waiters;
use crate::transport::ports::Reuse;

/// A socket that listens, or is bound and may.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) local: SocketAddr,
    /// Connections that may wait to be accepted; zero while the socket is bound and does not listen.
    pub(super) backlog: usize,
    pub(super) reuse: Reuse,
    pub(super) options: Arc<Options>,
    /// Requests that were answered and are not complete.
    pub(super) requests: Requests,
    pub(super) ready: VecDeque<ConnId>,
    /// Connections whose data was taken before their handshake was complete; some of them may be long since.
    pub(super) pending: Vec<Pending>,
    pub(super) waiters: Waiters,
}

impl Listener {
    /// Whether it listens, or is only bound.
    pub(super) fn listens(&self) -> bool {
        self.backlog > 0
    }

    /// Whether as many connections wait to be accepted as may.
    pub(super) fn is_full(&self) -> bool {
        self.ready.len() >= self.backlog
    }
}

/// A connection whose data was taken before its handshake was complete.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    pub(super) conn: ConnId,
    /// Until when it counts whatever has become of it, once it was reset.
    pub(super) until: Option<Instant>,
}

/// Where a request is whose connection is to be accepted with its first data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deferral {
    /// The handshake is not complete, or nothing is to be waited for.
    None,
    /// The handshake is complete, and took this long; data is waited for.
    Waits(Duration),
    /// The wait is over, or there is none: the next acknowledgement is enough.
    Over(Duration),
}

/// A connection request that was answered (passive SYN-RECEIVED).
#[derive(Debug)]
pub(super) struct HalfOpen {
    pub(super) listener: ListenerId,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) iss: SeqNum,
    pub(super) irs: SeqNum,
    /// The peer's window, as it came in the SYN: never scaled.
    pub(super) peer_window: u32,
    pub(super) negotiated: Negotiated,
    /// What the SYN-ACK says, timestamps apart.
    pub(super) syn_ack: TcpOptions,
    /// The answer has the option of accurate feedback, if that was agreed on.
    pub(super) says_marked: Feature,
    pub(super) window: u16,
    pub(super) path: Path,
    pub(super) ttl: u8,
    pub(super) tos: u8,
    pub(super) by: Option<IfId>,
    /// When the SYN-ACK was last sent.
    pub(super) sent_at: Instant,
    /// How often it was sent again because nothing came.
    pub(super) retries: u8,
    /// The request came again and was answered again, so which answer is acknowledged is not known.
    pub(super) is_answered_twice: bool,
    pub(super) deferral: Deferral,
    pub(super) resend_at: Instant,
    pub(super) armed: Armed,
    pub(super) challenge: Challenge,
    pub(super) links: [Links; 2],
}

impl HalfOpen {
    /// Its four-tuple.
    pub(super) fn key(&self) -> FourTuple {
        FourTuple::new(self.local, self.remote)
    }

    pub(super) fn syn_ack(&self, now: Instant) -> SegmentOut {
        let mut options = TcpOptions {
            timestamp: self.timestamp(now),
            ..self.syn_ack
        };
        // RFC 9768 3.2.3.2.2: without it if the answer was lost, or may have been.
        if self.says_marked.is_on()
            && self.negotiated.ecn.feedback == Feedback::Accurate
            && self.retries == 0
            && !self.is_answered_twice
        {
            options.marked = marked::initial(&options);
        }
        let flags = self.negotiated.ecn.answer(self.retries);
        SegmentOut {
            tos: self.tos | self.negotiated.ecn.answer_ect(self.retries),
            ..self.reply(self.iss, flags, options)
        }
    }

    pub(super) fn plain_ack(&self, now: Instant) -> SegmentOut {
        let options = TcpOptions {
            timestamp: self.timestamp(now),
            ..TcpOptions::default()
        };
        let flags = self.negotiated.ecn.accepted(self.retries, false).flags();
        self.reply(self.iss + 1, flags, options)
    }

    fn timestamp(&self, now: Instant) -> Option<(u32, u32)> {
        self.negotiated.ts.map(|ts| (ts.value(now), ts.recent))
    }

    fn reply(&self, seq: SeqNum, flags: TcpFlags, options: TcpOptions) -> SegmentOut {
        let header = TcpHeader {
            seq: seq.0,
            ack: Some((self.irs + 1).0),
            flags,
            window: self.window,
            options,
            ..TcpHeader::default()
        };
        SegmentOut {
            by: self.by,
            ..SegmentOut::new(self.local, self.remote, self.ttl, self.tos, header)
        }
    }
}

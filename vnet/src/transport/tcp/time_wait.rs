//! TIME-WAIT (RFC 9293 3.6.1, RFC 1337, RFC 6191): all that is left of a connection that was
//! closed in order, so that a lost last acknowledgement can be repeated and old duplicates are
//! recognised.

use std::net::SocketAddr;

use super::options::Timestamps;
use super::seq::SeqNum;
use super::{FourTuple, SegmentIn, SegmentOut};
use crate::base::deadline::Armed;
use crate::base::time::{Duration, Instant};
use crate::packet::Payload;
use crate::packet::header::{TcpFlags, TcpHeader, TcpOptions};

/// One connection in TIME-WAIT.
#[derive(Debug)]
pub(super) struct TimeWait {
    pub(super) key: FourTuple,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) snd_nxt: SeqNum,
    pub(super) rcv_nxt: SeqNum,
    pub(super) window: u16,
    pub(super) ts: Option<Timestamps>,
    pub(super) ttl: u8,
    pub(super) tos: u8,
    pub(super) until: Instant,
    pub(super) armed: Armed,
    /// When an acknowledgement that repeats nothing was last sent.
    pub(super) last_ack: Option<Instant>,
}

/// What a segment means to a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disposition {
    /// Nothing to say.
    Ignore,
    /// The last acknowledgement is to be repeated.
    Acknowledge,
    /// A new incarnation of the connection begins: the record makes way.
    Reincarnate,
}

/// An acknowledgement for a stray segment without data, at most this often.
const STRAY_ACK_INTERVAL: Duration = Duration::from_millis(500);

impl TimeWait {
    pub(super) fn segment(
        &mut self,
        now: Instant,
        time_wait: Duration,
        seg: &SegmentIn<'_>,
    ) -> Disposition {
        let h = seg.header;
        // RFC 1337 3, fix F1: a reset does not end TIME-WAIT.
        if h.flags.has(TcpFlags::RST) {
            return Disposition::Ignore;
        }
        if h.flags.has(TcpFlags::SYN) {
            if h.ack.is_none() && self.is_newer(now, h) {
                return Disposition::Reincarnate;
            }
            return self.stray(now);
        }
        if h.flags.has(TcpFlags::FIN) || !seg.payload.is_empty() {
            // RFC 9293 3.10.7.4: a repeated FIN is acknowledged and restarts the 2 MSL timeout.
            if h.flags.has(TcpFlags::FIN) {
                self.until = now + time_wait;
            }
            return Disposition::Acknowledge;
        }
        if SeqNum(h.seq) == self.rcv_nxt {
            return Disposition::Ignore;
        }
        self.stray(now)
    }

    /// Whether a SYN cannot be an old duplicate.
    // RFC 6191 2: by timestamp where both sides use them; RFC 9293 3.6.1 (MAY-2): by sequence number.
    fn is_newer(&self, now: Instant, h: &TcpHeader) -> bool {
        let later_seq = SeqNum(h.seq).is_newer_than(self.rcv_nxt);
        match (self.ts, h.options.timestamp) {
            (Some(ts), Some((tsval, _))) => {
                SeqNum(tsval).is_newer_than(SeqNum(ts.recent))
                    || (tsval == ts.recent && later_seq)
                    || (later_seq && !ts.is_old(now, tsval))
            }
            _ => later_seq,
        }
    }

    fn stray(&mut self, now: Instant) -> Disposition {
        match self.last_ack {
            Some(at) if now.since(at) < STRAY_ACK_INTERVAL => Disposition::Ignore,
            _ => {
                self.last_ack = Some(now);
                Disposition::Acknowledge
            }
        }
    }

    pub(super) fn ack(&self, now: Instant) -> SegmentOut {
        SegmentOut {
            src: self.local,
            dst: self.remote,
            header: TcpHeader {
                src_port: self.local.port(),
                dst_port: self.remote.port(),
                seq: self.snd_nxt.0,
                ack: Some(self.rcv_nxt.0),
                window: self.window,
                options: TcpOptions {
                    timestamp: self.ts.map(|ts| (ts.value(now), ts.recent)),
                    ..TcpOptions::default()
                },
                ..TcpHeader::default()
            },
            payload: Payload::new(),
            gso: None,
            ttl: self.ttl,
            tos: self.tos,
        }
    }
}

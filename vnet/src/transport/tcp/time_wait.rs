//! TIME-WAIT (RFC 9293 3.6.1, RFC 1337, RFC 6191): the record that remains of a connection that was closed in order, so
//! that a lost final acknowledgement can be repeated and old duplicates are recognised.

use std::net::SocketAddr;

use super::challenge::Challenge;
use super::config::TcpConfig;
use super::ids::FourTuple;
use super::options::Timestamps;
use super::segment::{SegmentIn, SegmentOut};
use super::seq::SeqNum;
use super::stats::TcpStats;
use crate::base::deadline::Armed;
use crate::base::id::IfId;
use crate::base::time::Instant;
use crate::packet::header::{TcpFlags, TcpHeader, TcpOptions};

/// One connection in TIME-WAIT.
#[derive(Debug)]
pub(super) struct TimeWait {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) snd_nxt: SeqNum,
    pub(super) rcv_nxt: SeqNum,
    pub(super) window: u16,
    /// What its segments say of marks.
    pub(super) flags: TcpFlags,
    pub(super) ts: Option<Timestamps>,
    pub(super) ttl: u8,
    pub(super) tos: u8,
    /// The interface that its answers must leave by.
    pub(super) by: Option<IfId>,
    pub(super) until: Instant,
    pub(super) armed: Armed,
    pub(super) challenge: Challenge,
}

/// What a segment means to a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disposition {
    /// It is what a peer may still say, and needs no answer.
    Ignore,
    /// The FIN was repeated, so the last acknowledgement is, too.
    Acknowledge,
    /// It is refused without a word.
    Refuse,
    /// It is refused, and the sender is told where the connection stands.
    Challenge,
    /// A new incarnation of the connection begins, if somebody listens: the record makes way.
    Reincarnate,
}

/// An acknowledgement farther behind what we sent than any window is nobody's.
const OLDEST_ACK: u32 = 1 << 30;

impl TimeWait {
    /// Its four-tuple.
    pub(super) fn key(&self) -> FourTuple {
        FourTuple::new(self.local, self.remote)
    }

    /// What to do about a segment (RFC 9293 3.10.7.4):
    ///
    /// | segment | answer |
    /// |---|---|
    /// | RST | none (RFC 1337) |
    /// | SYN alone, newer than the connection | none here: whoever listens takes it |
    /// | any other SYN | challenge (RFC 5961 4.2) |
    /// | without ACK | none |
    /// | older than what was seen (PAWS), or with an ACK of what was never sent | challenge |
    /// | the FIN again, with data or without | acknowledgement, and 2 MSL begin again |
    /// | nothing in it, at the expected sequence number | none |
    /// | any other: old data, or beyond the FIN | challenge |
    pub(super) fn segment(
        &mut self,
        now: Instant,
        config: &TcpConfig,
        stats: &mut TcpStats,
        seg: &SegmentIn<'_>,
    ) -> Disposition {
        let h = seg.header;
        // RFC 1337 3, fix F1: a reset does not end TIME-WAIT.
        if h.flags.has(TcpFlags::RST) {
            return Disposition::Ignore;
        }
        let fin = h.flags.has(TcpFlags::FIN);
        if h.flags.has(TcpFlags::SYN) {
            if h.ack.is_none() && !fin && self.is_newer(now, h) {
                return Disposition::Reincarnate;
            }
            return self.refuse(now, config, stats);
        }
        let Some(ack) = h.ack else {
            return Disposition::Refuse;
        };
        let tsval = h.options.timestamp.map(|(tsval, _)| tsval);
        let old = match (self.ts, tsval) {
            (Some(ts), Some(tsval)) => ts.is_old(now, tsval),
            _ => false,
        };
        if old || !SeqNum(ack).is_in(self.snd_nxt - OLDEST_ACK..=self.snd_nxt) {
            return self.refuse(now, config, stats);
        }
        let len = seg.payload.len() as u32 + u32::from(fin);
        if SeqNum(h.seq) + len != self.rcv_nxt {
            return self.refuse(now, config, stats);
        }
        if !fin {
            return match len {
                0 => Disposition::Ignore,
                _ => self.refuse(now, config, stats),
            };
        }
        if let (Some(ts), Some(tsval)) = (&mut self.ts, tsval) {
            ts.update(now, tsval);
        }
        self.until = now + config.msl * 2;
        Disposition::Acknowledge
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

    /// Refuses a segment, with an answer unless there were too many lately (RFC 5961 7).
    pub(super) fn refuse(
        &mut self,
        now: Instant,
        config: &TcpConfig,
        stats: &mut TcpStats,
    ) -> Disposition {
        if !self.challenge.may_send(now, config, stats) {
            return Disposition::Refuse;
        }
        stats.challenge_acks += 1;
        Disposition::Challenge
    }

    pub(super) fn ack(&self, now: Instant) -> SegmentOut {
        let header = TcpHeader {
            seq: self.snd_nxt.0,
            ack: Some(self.rcv_nxt.0),
            flags: self.flags,
            window: self.window,
            options: TcpOptions {
                timestamp: self.ts.map(|ts| (ts.value(now), ts.recent)),
                ..TcpOptions::default()
            },
            ..TcpHeader::default()
        };
        SegmentOut {
            by: self.by,
            ..SegmentOut::new(self.local, self.remote, self.ttl, self.tos, header)
        }
    }
}

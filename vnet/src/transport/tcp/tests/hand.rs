//! Segments made by hand.

use super::*;

pub(super) const NONE: TcpFlags = TcpFlags::NONE;

/// What B would receive from A: a segment made by hand on an established connection.
pub(super) struct Hand {
    pub w: World,
    pub a: ConnId,
    pub b: ConnId,
    pub seq: u32,
    pub ack: u32,
    pub ts: Option<(u32, u32)>,
}

impl Hand {
    pub(crate) fn new() -> Hand {
        Hand::with(TcpConfig::default())
    }

    pub(crate) fn with(config: TcpConfig) -> Hand {
        let mut w = World::with(1, Net::default(), config);
        let (a, b) = w.pair();
        let (_, _, h, _) = *w.trace.iter().rfind(|t| t.1 == A).expect("A spoke");
        w.trace.clear();
        w.verdicts.clear();
        // A's own stack stays out of it.
        w.net.loss = 1.0;
        Hand {
            w,
            a,
            b,
            seq: h.seq,
            ack: h.ack.expect("established"),
            ts: h.options.timestamp,
        }
    }

    pub(crate) fn segment(&self, offset: i64, flags: TcpFlags, data: &[u8]) -> SegmentOut {
        let src = self.w.hosts[A].tcp.local_addr(self.a).expect("bound");
        arriving(
            src,
            self.w.addr(B, 80),
            TcpHeader {
                src_port: src.port(),
                dst_port: 80,
                seq: self.seq.wrapping_add(offset as u32),
                ack: Some(self.ack),
                flags,
                window: 1000,
                urgent: 0,
                options: crate::packet::header::TcpOptions {
                    timestamp: self.ts,
                    ..Default::default()
                },
            },
            Payload::from(data.to_vec()),
        )
    }

    /// Delivers it to B and returns what B says at once.
    pub(crate) fn give(&mut self, offset: i64, flags: TcpFlags, data: &[u8]) -> Vec<TcpHeader> {
        let s = self.segment(offset, flags, data);
        self.give_segment(s)
    }

    pub(crate) fn give_segment(&mut self, s: SegmentOut) -> Vec<TcpHeader> {
        self.w.trace.clear();
        self.w.deliver(B, s);
        self.w.trace.iter().map(|t| t.2).collect()
    }

    /// Delivers segments in one moment, as from an inbox, and returns what B says then.
    pub(crate) fn give_at_once(&mut self, segments: &[SegmentOut]) -> Vec<TcpHeader> {
        self.w.trace.clear();
        let path = self.w.net.path;
        self.w.on(B, |tcp, cx| {
            for s in segments {
                tcp.input(cx, heard(s, path));
            }
        });
        self.w.trace.iter().map(|t| t.2).collect()
    }

    pub(crate) fn acked(&self, h: &TcpHeader) -> u32 {
        h.ack.expect("an acknowledgement").wrapping_sub(self.seq)
    }
}

//! Joining segments: the inverse of cutting, against which the tests hold it.

use super::*;
use crate::packet::checksum;
use crate::packet::meta::Gso;

/// Where the checksum is in a TCP header.
const CHECKSUM: usize = TCP_CSUM_OFFSET as usize;

pub(super) const ACK: u8 = 0x10;

/// Joins consecutive segments of one flow, as they come in one batch, into a [`Gso`] packet.
///
/// Segments are joined when they could have been cut from one packet: the headers are equal but
/// for lengths, identifications, sequence numbers and PSH; each begins where the one before ends
/// and is as long as the first, except the last, which may be shorter. Only plain data is joined:
/// no flags but ACK and PSH, no IP options, no fragments. Checksums that are not known to be good
/// are verified, because afterwards nobody could.
#[derive(Debug, Default)]
pub(crate) struct Gro {
    held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    packet: Packet,
    layout: Layout,
    ip: Ipv4Header,
    segment_size: usize,
    segments: u16,
    next_seq: u32,
}

impl Gro {
    /// Takes the next frame of a batch, with its IP header `l3_offset` bytes into it, and gives
    /// `out` what can no longer grow, in order of arrival.
    pub(crate) fn push(
        &mut self,
        mut packet: Packet,
        l3_offset: usize,
        out: &mut impl FnMut(Packet),
    ) {
        let Some(candidate) = Candidate::of(&mut packet, l3_offset) else {
            self.flush(out);
            return out(packet);
        };
        let verdict = match &self.held {
            Some(held) => held.verdict(&packet, &candidate),
            None => Join::Apart,
        };
        match verdict {
            Join::Apart => {
                self.flush(out);
                let held = Held::new(packet, candidate);
                if candidate.pushed == Pushed::Yes {
                    return out(held.packet);
                }
                self.held = Some(held);
            }
            Join::Grow => self.join(packet, &candidate),
            Join::Close => {
                self.join(packet, &candidate);
                self.flush(out);
            }
        }
    }

    /// Ends the batch.
    pub(crate) fn flush(&mut self, out: &mut impl FnMut(Packet)) {
        if let Some(held) = self.held.take() {
            out(held.finish());
        }
    }

    fn join(&mut self, mut packet: Packet, candidate: &Candidate) {
        let Some(held) = &mut self.held else {
            return;
        };
        let flags = packet.head()[candidate.layout.l4 + FLAGS];
        held.packet.head_mut()[held.layout.l4 + FLAGS] |= flags & PSH;
        packet.strip(candidate.layout.headers_len);
        held.packet.payload.append(packet.into_payload());
        held.next_seq = held.next_seq.wrapping_add(candidate.payload_len as u32);
        held.segments += 1;
    }
}

/// What becomes of a segment.
#[derive(Clone, Copy, Debug)]
enum Join {
    /// It starts anew.
    Apart,
    /// It is joined, and more may follow.
    Grow,
    /// It is joined, and is the last.
    Close,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pushed {
    Yes,
    No,
}

/// A segment that may be joined.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    layout: Layout,
    ip: Ipv4Header,
    seq: u32,
    payload_len: usize,
    pushed: Pushed,
}

impl Candidate {
    fn of(packet: &mut Packet, l3: usize) -> Option<Candidate> {
        if packet.meta.gso.is_some() {
            return None;
        }
        let layout = Layout::of(packet, l3).ok()?;
        let Layout {
            l4, headers_len, ..
        } = layout;
        let Network::V4(ip) = layout.ip else {
            return None;
        };
        let payload_len = packet.len().checked_sub(headers_len)?;
        if l4 - l3 != ipv4::MIN_LEN
            || payload_len == 0
            || usize::from(ip.total_len) != packet.len() - l3
        {
            return None;
        }
        let flags = packet.head()[l4 + FLAGS];
        if flags & !PSH != ACK {
            return None;
        }
        if packet.meta.csum == Csum::Unknown {
            Ipv4Header::parse(&packet.head()[l3..l4]).ok()?;
            let head = &packet.head()[l4..];
            let mut sum =
                checksum::pseudo_header(ip.src.into(), ip.dst.into(), ip.proto, packet.len() - l4);
            sum.add(head);
            sum.add_payload(&packet.payload);
            if !sum.is_valid() {
                return None;
            }
            packet.meta.csum = Csum::Verified;
        }
        Some(Candidate {
            layout,
            ip,
            seq: seq_of(&packet.head()[l4..]),
            payload_len,
            pushed: match flags & PSH {
                0 => Pushed::No,
                _ => Pushed::Yes,
            },
        })
    }
}

impl Held {
    fn new(packet: Packet, first: Candidate) -> Held {
        Held {
            packet,
            layout: first.layout,
            ip: first.ip,
            segment_size: first.payload_len,
            segments: 1,
            next_seq: first.seq.wrapping_add(first.payload_len as u32),
        }
    }

    fn verdict(&self, packet: &Packet, next: &Candidate) -> Join {
        let ip = &self.ip;
        let total_len = self.packet.len() - self.layout.l3 + next.payload_len;
        let ident = ip.ident.wrapping_add(self.segments);
        if next.layout.headers_len != self.layout.headers_len
            || next.layout.l3 != self.layout.l3
            || next.seq != self.next_seq
            || next.payload_len > self.segment_size
            || total_len > ipv4::MAX_TOTAL_LEN
            || (next.ip.ident != ident && !ip.dont_fragment())
            || packet.meta.rcvif != self.packet.meta.rcvif
            || !self.same_headers(packet)
        {
            return Join::Apart;
        }
        match next.pushed == Pushed::Yes || next.payload_len < self.segment_size {
            true => Join::Close,
            false => Join::Grow,
        }
    }

    /// Compares what must be equal, which is all but a few fields.
    fn same_headers(&self, packet: &Packet) -> bool {
        let (l3, l4) = (self.layout.l3, self.layout.l4);
        let (ours, other) = (self.packet.head(), packet.head());
        let equal = |range: std::ops::Range<usize>| ours[range.clone()] == other[range];
        // IP: all but total length and identification, and the checksum over them.
        equal(0..l3 + 2)
            && equal(l3 + 6..l3 + 10)
            && equal(l3 + 12..l4 + SEQ.start)
            // TCP: all but the sequence number, the flags (plain data both) and the checksum.
            && equal(l4 + SEQ.end..l4 + FLAGS)
            && equal(l4 + FLAGS + 1..l4 + CHECKSUM)
            && equal(l4 + CHECKSUM + 2..self.layout.headers_len)
    }

    fn finish(self) -> Packet {
        let Held {
            mut packet,
            layout,
            ip,
            segment_size,
            segments,
            ..
        } = self;
        if segments == 1 {
            return packet;
        }
        let piece = Piece {
            total_len: (packet.len() - layout.l3) as u16,
            ident: ip.ident,
            flags: ip.flags,
            fragment_offset: 0,
        };
        let header_len = layout.l4 - layout.l3;
        ipv4::rewrite_piece(&mut packet.head_mut()[layout.l3..], header_len, piece);
        packet.meta.csum = layout.partial();
        packet.meta.gso = Some(Gso {
            kind: GsoKind::Tcp4,
            segment_size: segment_size as u16,
        });
        packet
    }
}

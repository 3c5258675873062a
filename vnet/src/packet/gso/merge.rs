//! Joining segments that come in one after another: the inverse of cutting, and software GRO.

use super::*;
use crate::packet::checksum;
use crate::packet::meta::Gso;

/// Where the checksum is in a TCP header.
const CHECKSUM: usize = TCP_CSUM_OFFSET as usize;

pub(super) const ACK: u8 = 0x10;
/// What a segment of plain data may say: of congestion, and that it is to be read.
const PLAIN: u8 = ACK | PSH | CWR | 0x40;
/// Bytes in the longest packet that segments are joined to, from its IP header on.
pub(super) const LONGEST: usize = ipv4::MAX_TOTAL_LEN;

/// Joins consecutive segments of one flow into a [`Gso`] packet.
///
/// Segments are joined when they could have been cut from one packet: the headers are equal but
/// for lengths, identifications, sequence numbers and PSH; each begins where the one before ends
/// and is as long as the first, except the last, which may be shorter. Only plain data is joined:
/// neither SYN, FIN, RST nor URG, no IP options or extension headers, no fragments. Checksums that are not known
/// to be good are verified, because afterwards nobody could.
#[derive(Debug, Default)]
pub(crate) struct Gro {
    held: Option<Held>,
}

/// What a segment is joined to.
#[derive(Debug)]
struct Held {
    packet: Packet,
    flow: Flow,
}

/// What is known of the segments that are joined.
#[derive(Clone, Copy, Debug)]
struct Flow {
    l3: u8,
    l4: u8,
    headers_len: u8,
    kind: GsoKind,
    segment_size: u16,
    segments: u16,
    next_seq: u32,
}

/// What comes after a segment that was joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Joined {
    /// Perhaps more of it.
    More,
    /// Nothing: it was the last.
    Last,
}

impl Gro {
    /// True when there is nothing to which a segment could be joined.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_none()
    }

    /// Joins a frame to what is held, if it is the next of it.
    ///
    /// # Errors
    /// The frame, if it is not.
    #[inline]
    pub(crate) fn join(&mut self, mut packet: Packet) -> Result<Joined, Packet> {
        match self
            .held
            .as_mut()
            .and_then(|h| h.follows(&mut packet).map(|next| (h, next)))
        {
            Some((held, next)) => Ok(held.append(packet, next)),
            None => Err(packet),
        }
    }

    /// Holds a frame with its IP header `l3` bytes into it as the first to which others are joined. What was held
    /// has been [taken](Gro::take).
    ///
    /// # Errors
    /// The frame, if none could be joined to it.
    pub(crate) fn hold(&mut self, mut packet: Packet, l3: usize) -> Result<(), Packet> {
        match Flow::of(&mut packet, l3) {
            Some(flow) => {
                self.held = Some(Held { packet, flow });
                Ok(())
            }
            None => Err(packet),
        }
    }

    /// Takes what is held, and says of how many segments it was joined.
    pub(crate) fn take(&mut self) -> Option<(Packet, u16)> {
        self.held.take().map(Held::finish)
    }
}

/// A segment that is the next.
#[derive(Clone, Copy, Debug)]
struct Next {
    payload_len: usize,
    flags: u8,
}

impl Flow {
    /// What is known from the first segment, if others can be joined to it.
    fn of(packet: &mut Packet, l3: usize) -> Option<Flow> {
        if packet.meta.gso.is_some() {
            return None;
        }
        let layout = Layout::of(packet, l3).ok()?;
        let (l4, headers_len) = (layout.l4, layout.headers_len);
        let (kind, ip_len) = (layout.kind(), l4 - l3);
        let payload_len = packet.len().checked_sub(headers_len)?;
        let is_plain = match kind {
            GsoKind::Tcp4 => ip_len == ipv4::MIN_LEN,
            GsoKind::Tcp6 => ip_len == ipv6::MIN_LEN,
            GsoKind::Udp => false,
        };
        let head = packet.head();
        let flags = head[l4 + FLAGS];
        if !is_plain
            || flags & !PLAIN != 0
            || flags & (ACK | PSH) != ACK
            || payload_len == 0
            || said_len(kind == GsoKind::Tcp4, &head[l3..]) != packet.len() - l3
            || !is_sound(packet, kind, l3, l4)
        {
            return None;
        }
        let next_seq = seq_of(&packet.head()[l4..]).wrapping_add(payload_len as u32);
        Some(Flow {
            l3: l3 as u8,
            l4: l4 as u8,
            headers_len: headers_len as u8,
            kind,
            segment_size: u16::try_from(payload_len).ok()?,
            segments: 1,
            next_seq,
        })
    }

    /// Where the headers of IP and of TCP are.
    #[inline]
    fn headers(&self) -> (usize, usize) {
        (usize::from(self.l3), usize::from(self.l4))
    }
}

impl Held {
    /// Asks whether a frame is the next.
    #[inline]
    fn follows(&self, packet: &mut Packet) -> Option<Next> {
        let flow = &self.flow;
        let (l3, l4) = flow.headers();
        let len = packet.len();
        let payload_len = len.checked_sub(flow.headers_len.into())?;
        if packet.meta.gso.is_some()
            || packet.meta.rcvif != self.packet.meta.rcvif
            || payload_len == 0
            || payload_len > flow.segment_size.into()
            || self.packet.len() - l3 + payload_len > LONGEST
        {
            return None;
        }
        let head = packet.pull_up(flow.headers_len.into())?;
        let flags = head[l4 + FLAGS];
        if seq_of(&head[l4..]) != flow.next_seq
            || said_len(flow.kind == GsoKind::Tcp4, &head[l3..]) != len - l3
            || !self.has_headers(head)
            || !is_sound(packet, flow.kind, l3, l4)
        {
            return None;
        }
        Some(Next { payload_len, flags })
    }

    /// Compares what must be equal, which is all but a few fields.
    #[inline]
    fn has_headers(&self, other: &[u8]) -> bool {
        let flow = &self.flow;
        let (l3, l4) = flow.headers();
        let ours = self.packet.head();
        let equal = |range: std::ops::Range<usize>| ours[range.clone()] == other[range];
        let is_v4 = flow.kind == GsoKind::Tcp4;
        let ip = network_follows(is_v4, &ours[l3..], &other[l3..], flow.segments);
        let flags = |head: &[u8]| head[l4 + FLAGS] & !PSH;
        // TCP: all but the sequence number, PSH and the checksum.
        ip && equal(0..l3)
            && ours[l4..][..4] == other[l4..][..4]
            && ours[l4..][8..13] == other[l4..][8..13]
            && flags(ours) == flags(other)
            && ours[l4..][14..16] == other[l4..][14..16]
            && equal(l4 + CHECKSUM + 2..flow.headers_len.into())
    }

    #[inline]
    fn append(&mut self, mut packet: Packet, next: Next) -> Joined {
        let flow = &mut self.flow;
        let l4 = usize::from(flow.l4);
        self.packet.head_mut()[l4 + FLAGS] |= next.flags & PSH;
        packet.strip(flow.headers_len.into());
        self.packet.payload.append(packet.into_payload());
        flow.next_seq = flow.next_seq.wrapping_add(next.payload_len as u32);
        flow.segments += 1;
        match next.flags & PSH != 0 || next.payload_len < flow.segment_size.into() {
            true => Joined::Last,
            false => Joined::More,
        }
    }

    fn finish(self) -> (Packet, u16) {
        let Held { mut packet, flow } = self;
        if flow.segments == 1 {
            return (packet, 1);
        }
        let (l3, l4) = flow.headers();
        let len = packet.len() - l3;
        let head = &mut packet.head_mut()[l3..];
        set_len(flow.kind == GsoKind::Tcp4, head, len);
        packet.meta.csum = Csum::Partial {
            start: (l4 - l3) as u16,
            offset: TCP_CSUM_OFFSET,
        };
        packet.meta.gso = Some(Gso {
            kind: flow.kind,
            segment_size: flow.segment_size,
        });
        (packet, flow.segments)
    }
}

/// Whether two IP headers without options could be those of the first and of the nth after it of what was cut from one
/// packet: they are equal but for lengths and identifications, and the checksum over them.
#[inline]
pub(super) fn network_follows(is_v4: bool, first: &[u8], other: &[u8], nth: u16) -> bool {
    match is_v4 {
        true => {
            let ident = word(first, 4).wrapping_add(nth);
            first[..2] == other[..2]
                && first[6..10] == other[6..10]
                && first[12..20] == other[12..20]
                && (word(other, 4) == ident || ipv4::dont_fragment(first))
        }
        false => first[..4] == other[..4] && first[6..40] == other[6..40],
    }
}

/// The length of a packet by its IP header.
#[inline]
pub(super) fn said_len(is_v4: bool, ip: &[u8]) -> usize {
    match is_v4 {
        true => word(ip, 2).into(),
        false => usize::from(word(ip, 4)) + ipv6::MIN_LEN,
    }
}

/// Has an IP header say so.
pub(super) fn set_len(is_v4: bool, ip: &mut [u8], len: usize) {
    match is_v4 {
        true => {
            let ident = word(ip, 4);
            ipv4::set_len_and_ident(ip, len as u16, ident);
        }
        false => ipv6::set_payload_len(ip, (len - ipv6::MIN_LEN) as u16),
    }
}

/// The two bytes from `at` on.
#[inline]
pub(super) fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// Verifies the checksums of a frame that came from outside.
#[inline]
fn is_sound(packet: &mut Packet, kind: GsoKind, l3: usize, l4: usize) -> bool {
    packet.meta.csum != Csum::Unknown || verify(packet, kind, l3, l4).is_some()
}

fn verify(packet: &mut Packet, kind: GsoKind, l3: usize, l4: usize) -> Option<()> {
    let ip = &packet.head()[l3..l4];
    let (src, dst) = match kind {
        GsoKind::Tcp4 => {
            let header = Ipv4Header::parse(ip).ok()?;
            (header.src.into(), header.dst.into())
        }
        GsoKind::Tcp6 | GsoKind::Udp => {
            let header = ipv6::Ipv6Header::parse(ip).ok()?;
            (header.src.into(), header.dst.into())
        }
    };
    let mut sum = checksum::pseudo_header(src, dst, IpProto::TCP, packet.len() - l4);
    sum.add(&packet.head()[l4..]);
    sum.add_payload(&packet.payload);
    if !sum.is_valid() {
        return None;
    }
    packet.meta.csum = Csum::Verified;
    Some(())
}

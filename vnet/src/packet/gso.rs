//! Cutting a large TCP segment, or several UDP datagrams in one, into frames: software GSO.
//!
//! A [`Gso`] packet stands for the segments that [`segment`] makes of it. It has one set of
//! headers, those of its first segment, but for FIN and PSH, which belong to its last.

use super::buf::Packet;
use super::header::ipv4::{self, Ipv4Header, Piece};
use super::header::tcp::{TCP_CSUM_OFFSET, TCP_LEN};
use super::header::udp::{UDP_CHECKSUM_OFFSET, UDP_LEN};
use super::header::{HeaderError, IpProto, ip, ipv6};
use super::meta::{Csum, GsoKind};
use super::payload::Payload;

/// Gives `out` the segments of `packet` in order. Its IP header starts `l3_offset` bytes into it;
/// what is in front of that is repeated before each segment. The payload is referred to. A packet
/// that stands for itself is passed through.
///
/// The transport's checksums are left [`Csum::Partial`].
///
/// # Errors
/// [`HeaderError`] when the headers are not those of the packet's [`GsoKind`], or longer than a
/// packet's header area; nothing is given to `out` then.
pub(crate) fn segment(
    mut packet: Packet,
    l3_offset: usize,
    out: &mut impl FnMut(Packet),
) -> Result<(), HeaderError> {
    let Some(gso) = packet.meta.gso.take() else {
        out(packet);
        return Ok(());
    };
    let layout = Layout::of(&mut packet, l3_offset)?;
    if gso.kind != layout.kind() || gso.segment_size == 0 {
        return Err(HeaderError::WrongFormat);
    }
    let segment_size = usize::from(gso.segment_size);
    let longest = packet.len().min(layout.headers_len + segment_size) - l3_offset;
    if longest > layout.ip.max_len() {
        return Err(HeaderError::BadLength);
    }
    packet.meta.csum = layout.partial();
    let mut template = take_headers(&mut packet, &layout);
    if let Network::V4(ip) = &layout.ip {
        // The pieces correct this checksum, whoever wrote it.
        let piece = Piece {
            total_len: ip.total_len,
            ident: ip.ident,
            flags: ip.flags,
            fragment_offset: 0,
        };
        ipv4::rewrite_piece(&mut template[l3_offset..], layout.l4 - l3_offset, piece);
    }
    let mut rest = std::mem::take(&mut packet.payload);
    let mut nth = 0u32;
    loop {
        let payload = rest.split_to(segment_size.min(rest.len()));
        let place = Place {
            nth,
            offset: nth as usize * segment_size,
            rank: match (nth, rest.is_empty()) {
                (0, true) => Rank::Only,
                (0, false) => Rank::First,
                (_, false) => Rank::Middle,
                (_, true) => Rank::Last,
            },
        };
        let mut piece = Packet::outgoing(payload);
        piece.meta = packet.meta;
        let total_len = layout.headers_len - l3_offset + piece.len();
        let head = piece.prepend(layout.headers_len);
        head.copy_from_slice(&template[..layout.headers_len]);
        layout.adjust(head, total_len, place);
        out(piece);
        if rest.is_empty() {
            return Ok(());
        }
        nth += 1;
    }
}

/// The length of the longest frame that `packet` stands for: its own, unless it stands for several.
///
/// # Errors
/// As [`segment`].
pub(crate) fn longest_frame(packet: &mut Packet, l3_offset: usize) -> Result<usize, HeaderError> {
    let Some(gso) = packet.meta.gso else {
        return Ok(packet.len());
    };
    let layout = Layout::of(packet, l3_offset)?;
    let longest = layout.headers_len + usize::from(gso.segment_size);
    Ok(longest.min(packet.len()))
}

/// What a device wants to know of the headers that it repeats before each segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Headers {
    /// Bytes in front of the payload.
    pub(crate) len: usize,
    /// What they are headers of.
    pub(crate) kind: GsoKind,
    /// The sender says that it has reduced its congestion window (RFC 3168).
    pub(crate) cwr: bool,
}

/// Looks at the headers of a packet that is to be cut.
///
/// # Errors
/// As [`segment`].
pub(crate) fn headers(packet: &mut Packet, l3_offset: usize) -> Result<Headers, HeaderError> {
    let layout = Layout::of(packet, l3_offset)?;
    let cwr = match layout.transport {
        Transport::Tcp => packet.head()[layout.l4 + FLAGS] & CWR != 0,
        Transport::Udp => false,
    };
    Ok(Headers {
        len: layout.headers_len,
        kind: layout.kind(),
        cwr,
    })
}

/// Copies the headers out of the packet and leaves the payload, all of it, as its payload.
fn take_headers(packet: &mut Packet, layout: &Layout) -> [u8; super::buf::HEAD_CAPACITY] {
    let mut template = [0; super::buf::HEAD_CAPACITY];
    template[..layout.headers_len].copy_from_slice(&packet.head()[..layout.headers_len]);
    packet.strip(layout.headers_len);
    if !packet.head().is_empty() {
        // Payload that was pulled up with the headers: at most a few bytes.
        let mut payload = Payload::copied(packet.head());
        payload.append(std::mem::take(&mut packet.payload));
        packet.payload = payload;
        packet.strip(packet.head().len());
    }
    template
}

/// The length of the longest IP packet that will leave for `packet`, which is at its IP header.
pub(crate) fn longest_packet(packet: &mut Packet) -> usize {
    match longest_frame(packet, 0) {
        Ok(longest) => longest,
        Err(_) => packet.len(),
    }
}

/// Where the headers are.
#[derive(Clone, Copy, Debug)]
struct Layout {
    l3: usize,
    l4: usize,
    headers_len: usize,
    ip: Network,
    transport: Transport,
}

/// What is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transport {
    /// A segment: pieces differ in their sequence numbers and flags.
    Tcp,
    /// Datagrams that have the same ports: pieces differ in their lengths.
    Udp,
}

impl Transport {
    fn of(proto: IpProto) -> Result<Transport, HeaderError> {
        match proto {
            IpProto::TCP => Ok(Transport::Tcp),
            IpProto::UDP => Ok(Transport::Udp),
            _ => Err(HeaderError::WrongFormat),
        }
    }
}

/// What of the IP header differs between segments.
#[derive(Clone, Copy, Debug)]
enum Network {
    /// Its length and identification, and the checksum over them.
    V4(Ipv4Header),
    /// Its length.
    V6,
}

impl Network {
    /// Bytes in the longest packet.
    fn max_len(&self) -> usize {
        match self {
            Network::V4(_) => ipv4::MAX_TOTAL_LEN,
            Network::V6 => ipv6::MIN_LEN + ipv6::MAX_PAYLOAD,
        }
    }
}

/// Which of its packet's segments one is.
#[derive(Clone, Copy, Debug)]
struct Place {
    nth: u32,
    /// Of the segment's first byte, in the payload.
    offset: usize,
    rank: Rank,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rank {
    Only,
    First,
    Middle,
    Last,
}

impl Layout {
    /// Pulls the headers up and looks at them.
    fn of(packet: &mut Packet, l3: usize) -> Result<Layout, HeaderError> {
        let head = packet.pull_up(l3 + 1).ok_or(HeaderError::Truncated)?;
        let (ip, proto, l4) = match ip::version(&head[l3..]) {
            4 => {
                let l4 = l3 + ipv4::header_len(&head[l3..])?;
                let head = packet.pull_up(l4).ok_or(HeaderError::Truncated)?;
                let ip = Ipv4Header::parse_trusted(&head[l3..])?;
                if ip.is_fragment() {
                    return Err(HeaderError::WrongFormat);
                }
                (Network::V4(ip), ip.proto, l4)
            }
            6 => match ipv6::transport(packet, l3) {
                Some((proto, at)) => (Network::V6, proto, l3 + at),
                None => return Err(HeaderError::WrongFormat),
            },
            _ => return Err(HeaderError::WrongFormat),
        };
        let transport = Transport::of(proto)?;
        let headers_len = match transport {
            Transport::Tcp => {
                let head = packet.pull_up(l4 + TCP_LEN).ok_or(HeaderError::Truncated)?;
                let tcp_len = usize::from(head[l4 + DATA_OFFSET] >> 4) * 4;
                if tcp_len < TCP_LEN {
                    return Err(HeaderError::BadLength);
                }
                l4 + tcp_len
            }
            Transport::Udp => l4 + UDP_LEN,
        };
        packet.pull_up(headers_len).ok_or(HeaderError::Truncated)?;
        Ok(Layout {
            l3,
            l4,
            headers_len,
            ip,
            transport,
        })
    }

    fn kind(&self) -> GsoKind {
        match (self.transport, &self.ip) {
            (Transport::Tcp, Network::V4(_)) => GsoKind::Tcp4,
            (Transport::Tcp, Network::V6) => GsoKind::Tcp6,
            (Transport::Udp, _) => GsoKind::Udp,
        }
    }

    fn partial(&self) -> Csum {
        Csum::Partial {
            start: (self.l4 - self.l3) as u16,
            offset: match self.transport {
                Transport::Tcp => TCP_CSUM_OFFSET,
                Transport::Udp => UDP_CHECKSUM_OFFSET,
            },
        }
    }

    /// Turns the packet's headers into those of one segment.
    fn adjust(&self, head: &mut [u8], total_len: usize, place: Place) {
        let network = &mut head[self.l3..];
        match &self.ip {
            Network::V4(ip) => {
                let ident = ip.ident.wrapping_add(place.nth as u16);
                ipv4::set_len_and_ident(network, total_len as u16, ident);
            }
            Network::V6 => ipv6::set_payload_len(network, (total_len - ipv6::MIN_LEN) as u16),
        }
        if self.transport == Transport::Udp {
            let len = total_len - (self.l4 - self.l3);
            head[self.l4..][LEN].copy_from_slice(&(len as u16).to_be_bytes());
            return;
        }
        let tcp = &mut head[self.l4..];
        let seq = seq_of(tcp).wrapping_add(place.offset as u32);
        tcp[SEQ].copy_from_slice(&seq.to_be_bytes());
        if matches!(place.rank, Rank::First | Rank::Middle) {
            tcp[FLAGS] &= !(FIN | PSH);
        }
        if matches!(place.rank, Rank::Middle | Rank::Last) {
            // RFC 3168 section 6.1.2: CWR is said once.
            tcp[FLAGS] &= !CWR;
        }
    }
}

fn seq_of(tcp: &[u8]) -> u32 {
    u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]])
}

/// Of a UDP header: how long header and payload are.
const LEN: std::ops::Range<usize> = 4..6;
const SEQ: std::ops::Range<usize> = 4..8;
const DATA_OFFSET: usize = 12;
const FLAGS: usize = 13;
const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

mod datagrams;
mod merge;
pub(crate) use merge::{Gro, Joined};

#[cfg(test)]
#[path = "gso/tests.rs"]
mod tests;

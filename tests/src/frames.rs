//! Frames built byte by byte, independently of the library's own headers: what a peer that the
//! library did not write would send. The builders fill in every length and checksum; tests then
//! break what they like.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;
/// EtherType of ARP.
pub const ARP: u16 = 0x0806;
/// Bytes of an Ethernet header.
pub const ETHER_LEN: usize = 14;

/// A station on a wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Station {
    /// Its Ethernet address.
    pub mac: [u8; 6],
    /// Its IP address.
    pub ip: Ipv4Addr,
}

/// An Ethernet frame.
pub fn ethernet(dst: [u8; 6], src: [u8; 6], ether_type: u16, body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(ETHER_LEN + body.len());
    frame.extend(dst);
    frame.extend(src);
    frame.extend(ether_type.to_be_bytes());
    frame.extend(body);
    frame
}

/// The same frame with tags, each of a TPID and its control information, from the outer one inwards.
///
/// # Panics
/// When `frame` is shorter than two addresses.
pub fn tagged(frame: &[u8], tags: &[(u16, u16)]) -> Vec<u8> {
    let mut tagged = frame[..12].to_vec();
    for (tpid, tci) in tags {
        tagged.extend(tpid.to_be_bytes());
        tagged.extend(tci.to_be_bytes());
    }
    tagged.extend(&frame[12..]);
    tagged
}

/// The ARP packet (RFC 826) with which `from` asks for or tells (`op` 1 or 2) about `to`.
pub fn arp(op: u16, from: Station, to: Station) -> Vec<u8> {
    let mut body = vec![0, 1, 8, 0, 6, 4];
    body.extend(op.to_be_bytes());
    body.extend(from.mac);
    body.extend(from.ip.octets());
    body.extend(to.mac);
    body.extend(to.ip.octets());
    body
}

/// What an IPv4 header says besides its lengths and checksum.
#[derive(Clone, Debug)]
pub struct Ip4 {
    /// Source.
    pub src: Ipv4Addr,
    /// Destination.
    pub dst: Ipv4Addr,
    /// Protocol number.
    pub proto: u8,
    /// Time to live.
    pub ttl: u8,
    /// Identification.
    pub ident: u16,
    /// Flags and fragment offset as they stand on the wire.
    pub fragment: u16,
    /// Options; padded to a multiple of four.
    pub options: Vec<u8>,
}

impl Ip4 {
    /// A plain header.
    pub fn new(src: Ipv4Addr, dst: Ipv4Addr, proto: u8) -> Ip4 {
        Ip4 {
            src,
            dst,
            proto,
            ttl: 64,
            ident: 1,
            fragment: 0,
            options: Vec::new(),
        }
    }

    /// The packet with this header and the given body.
    pub fn packet(&self, body: &[u8]) -> Vec<u8> {
        let mut options = self.options.clone();
        options.resize(options.len().next_multiple_of(4), 0);
        let header_len = 20 + options.len();
        let total = (header_len + body.len()) as u16;
        let mut packet = vec![0x40 | (header_len / 4) as u8, 0];
        packet.extend(total.to_be_bytes());
        packet.extend(self.ident.to_be_bytes());
        packet.extend(self.fragment.to_be_bytes());
        packet.extend([self.ttl, self.proto, 0, 0]);
        packet.extend(self.src.octets());
        packet.extend(self.dst.octets());
        packet.extend(options);
        let sum = checksum(&[&packet]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet.extend(body);
        packet
    }
}

/// "More fragments" in [`Ip4::fragment`].
pub const MORE_FRAGMENTS: u16 = 0x2000;

/// The Internet checksum (RFC 1071) of the given pieces, each but the last of even length.
pub fn checksum(pieces: &[&[u8]]) -> u16 {
    let mut sum = 0u32;
    for word in pieces.iter().flat_map(|piece| piece.chunks(2)) {
        sum += u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// The checksum of a transport's packet behind the pseudo header (RFC 768, RFC 9293).
pub fn transport_checksum(
    src: impl Into<IpAddr>,
    dst: impl Into<IpAddr>,
    proto: u8,
    packet: &[u8],
) -> u16 {
    // The pseudo header of IPv6 (RFC 8200 section 8.1) has more zeros, which add nothing.
    let [len_high, len_low] = (packet.len() as u16).to_be_bytes();
    let tail = [0, proto, len_high, len_low];
    let [src, dst] = [src.into(), dst.into()].map(|ip| match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    });
    checksum(&[&src, &dst, &tail, packet])
}

/// An IPv6 packet's fixed header, and the headers between it and its body: the type of each and what is behind its
/// length.
#[derive(Clone, Debug)]
pub struct Ip6 {
    /// Source.
    pub src: Ipv6Addr,
    /// Destination.
    pub dst: Ipv6Addr,
    /// Hop limit.
    pub hop_limit: u8,
    /// Extension headers, padded to eight bytes.
    pub extensions: Vec<(u8, Vec<u8>)>,
}

impl Ip6 {
    /// A header without extensions.
    pub fn new(src: Ipv6Addr, dst: Ipv6Addr) -> Ip6 {
        Ip6 {
            src,
            dst,
            hop_limit: 255,
            extensions: Vec::new(),
        }
    }

    /// The packet with these headers and a body of protocol `proto`.
    pub fn packet(&self, proto: u8, body: &[u8]) -> Vec<u8> {
        let types = self.extensions.iter().map(|(kind, _)| *kind);
        let types: Vec<u8> = types.chain([proto]).collect();
        let mut rest = Vec::new();
        for ((_, content), next) in self.extensions.iter().zip(&types[1..]) {
            let len = (2 + content.len()).next_multiple_of(8);
            let end = rest.len() + len;
            rest.extend([*next, (len / 8 - 1) as u8]);
            rest.extend(content);
            rest.resize(end, 0);
        }
        rest.extend(body);
        let mut packet = vec![0x60, 0, 0, 0];
        packet.extend((rest.len() as u16).to_be_bytes());
        packet.extend([types[0], self.hop_limit]);
        packet.extend(self.src.octets());
        packet.extend(self.dst.octets());
        packet.extend(rest);
        packet
    }

    /// The packet with an ICMPv6 message (RFC 4443): type, code, what is behind the checksum.
    pub fn icmp(&self, kind: u8, code: u8, rest: &[u8]) -> Vec<u8> {
        let mut message = vec![kind, code, 0, 0];
        message.extend(rest);
        let sum = transport_checksum(self.src, self.dst, 58, &message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        self.packet(58, &message)
    }
}

/// An IPv6 packet with a message of MLD (RFC 3810), for routers to look at: addresses and hop limit; type; the response
/// code, which a report of version 2 does not have; what is behind that.
pub fn mld(
    (src, dst, hops): (Ipv6Addr, Ipv6Addr, u8),
    kind: u8,
    code: u16,
    rest: &[u8],
) -> Vec<u8> {
    let mut body = Vec::new();
    if kind != 143 {
        body.extend(code.to_be_bytes());
        body.extend([0, 0]);
    }
    body.extend(rest);
    let mut ip = Ip6::new(src, dst);
    ip.hop_limit = hops;
    ip.extensions = vec![(0, vec![5, 2, 0, 0, 1, 0])];
    ip.icmp(kind, 0, &body)
}

/// A UDP datagram, header and body.
pub fn udp(src: impl Into<SocketAddr>, dst: impl Into<SocketAddr>, body: &[u8]) -> Vec<u8> {
    let (src, dst) = (src.into(), dst.into());
    let mut datagram = Vec::new();
    datagram.extend(src.port().to_be_bytes());
    datagram.extend(dst.port().to_be_bytes());
    datagram.extend((8 + body.len() as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(body);
    let sum = match transport_checksum(src.ip(), dst.ip(), 17, &datagram) {
        0 => 0xffff,
        sum => sum,
    };
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    datagram
}

/// FIN.
pub const FIN: u8 = 0x01;
/// SYN.
pub const SYN: u8 = 0x02;
/// RST.
pub const RST: u8 = 0x04;
/// PSH.
pub const PSH: u8 = 0x08;
/// ACK.
pub const ACK: u8 = 0x10;

/// What a TCP header says besides its ports, length and checksum.
#[derive(Clone, Debug, Default)]
pub struct Segment {
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// The control bits.
    pub flags: u8,
    /// The window as it stands on the wire.
    pub window: u16,
    /// Options; padded to a multiple of four.
    pub options: Vec<u8>,
}

/// A TCP segment, header and body.
pub fn tcp(
    src: impl Into<SocketAddr>,
    dst: impl Into<SocketAddr>,
    segment: &Segment,
    body: &[u8],
) -> Vec<u8> {
    let (src, dst) = (src.into(), dst.into());
    let mut options = segment.options.clone();
    options.resize(options.len().next_multiple_of(4), 0);
    let mut bytes = Vec::new();
    bytes.extend(src.port().to_be_bytes());
    bytes.extend(dst.port().to_be_bytes());
    bytes.extend(segment.seq.to_be_bytes());
    bytes.extend(segment.ack.to_be_bytes());
    bytes.push((((20 + options.len()) / 4) << 4) as u8);
    bytes.push(segment.flags);
    bytes.extend(segment.window.to_be_bytes());
    bytes.extend([0, 0, 0, 0]);
    bytes.extend(options);
    bytes.extend(body);
    let sum = transport_checksum(src.ip(), dst.ip(), 6, &bytes);
    bytes[16..18].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// The options of a modern SYN: segment size, SACK permitted, timestamps, window scale.
pub fn syn_options() -> Vec<u8> {
    vec![
        2, 4, 0x05, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7,
    ]
}

/// An ICMP message (RFC 792): type, code, the second word of its header, body.
pub fn icmp(kind: u8, code: u8, word: u32, body: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0];
    message.extend(word.to_be_bytes());
    message.extend(body);
    let sum = checksum(&[&message]);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

/// Fills in the checksums of an Ethernet frame after it was changed, as far as its lengths make
/// sense: the IPv4 header's, and that of ICMP, UDP or TCP behind it, or behind an IPv6 header, unless it is a fragment
/// or behind extension headers. So a changed frame gets as far as its change lets it.
pub fn fix_checksums(frame: &mut [u8]) {
    let Some(packet) = frame.get_mut(ETHER_LEN..) else {
        return;
    };
    if packet.first().is_some_and(|first| first >> 4 == 6) {
        fix_v6(packet);
    } else if packet.len() >= 20 {
        fix_v4(packet);
    }
}

fn fix_v6(packet: &mut [u8]) {
    let Some((header, rest)) = packet.split_first_chunk_mut::<40>() else {
        return;
    };
    let len = usize::from(u16::from_be_bytes([header[4], header[5]])).min(rest.len());
    let address = |at: usize| {
        let octets: [u8; 16] = header[at..at + 16].try_into().expect("sixteen bytes");
        Ipv6Addr::from(octets)
    };
    fix_transport(
        address(8).into(),
        address(24).into(),
        header[6],
        &mut rest[..len],
    );
}

fn fix_v4(packet: &mut [u8]) {
    let header_len = usize::from(packet[0] & 0x0f) * 4;
    if header_len < 20 || header_len > packet.len() {
        return;
    }
    packet[10..12].fill(0);
    let sum = checksum(&[&packet[..header_len]]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    let total = usize::from(u16::from_be_bytes([packet[2], packet[3]])).min(packet.len());
    let is_fragment = u16::from_be_bytes([packet[6], packet[7]]) & 0x3fff != 0;
    if total < header_len || is_fragment {
        return;
    }
    let address = |at: usize| {
        let octets: [u8; 4] = packet[at..at + 4].try_into().expect("four bytes");
        Ipv4Addr::from(octets)
    };
    let (src, dst, proto) = (address(12), address(16), packet[9]);
    fix_transport(
        src.into(),
        dst.into(),
        proto,
        &mut packet[header_len..total],
    );
}

fn fix_transport(src: IpAddr, dst: IpAddr, proto: u8, body: &mut [u8]) {
    let at = match (proto, src) {
        (1, IpAddr::V4(_)) | (58, IpAddr::V6(_)) => 2,
        (6, _) => 16,
        (17, _) => 6,
        _ => return,
    };
    if body.len() < at + 2 {
        return;
    }
    body[at..at + 2].fill(0);
    let sum = match proto {
        1 => checksum(&[body]),
        _ => transport_checksum(src, dst, proto, body),
    };
    body[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 1071, section 3, has this example.
    #[test]
    fn the_checksum_is_that_of_the_rfc() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(checksum(&[&bytes]), !0xddf2);
        assert_eq!(
            checksum(&[&bytes, &[0xab]]),
            checksum(&[&bytes, &[0xab, 0]])
        );
    }

    #[test]
    fn fixing_leaves_a_frame_alone_that_is_right() {
        let src = (Ipv4Addr::new(10, 0, 0, 1), 5);
        let dst = (Ipv4Addr::new(10, 0, 0, 2), 6);
        let bodies = [
            (17, udp(src, dst, b"odd")),
            (6, tcp(src, dst, &Segment::default(), b"odd")),
            (1, icmp(8, 0, 7, b"odd")),
        ];
        for (proto, body) in bodies {
            let packet = Ip4::new(src.0, dst.0, proto).packet(&body);
            let right = ethernet([2; 6], [4; 6], IPV4, &packet);
            let mut fixed = right.clone();
            fix_checksums(&mut fixed);
            assert_eq!(fixed, right, "protocol {proto}");
        }
    }

    #[test]
    fn fixing_leaves_a_frame_of_ipv6_alone_that_is_right() {
        let [src, dst]: [Ipv6Addr; 2] =
            [1, 2].map(|n| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n));
        let ip = Ip6::new(src, dst);
        let packets = [
            ip.packet(17, &udp((src, 5), (dst, 6), b"odd")),
            ip.packet(6, &tcp((src, 5), (dst, 6), &Segment::default(), b"odd")),
            ip.icmp(128, 0, b"odd"),
        ];
        for packet in packets {
            let right = ethernet([2; 6], [4; 6], IPV6, &packet);
            let mut fixed = right.clone();
            fix_checksums(&mut fixed);
            assert_eq!(fixed, right);
            let at = ETHER_LEN + 40;
            fixed[at] ^= 1;
            let changed = fixed.clone();
            fix_checksums(&mut fixed);
            assert_ne!(fixed, changed, "what was changed has another sum");
        }
    }
}

//! The Internet checksum (RFC 1071) over a packet's pieces.
//!
//! A checksum that is [`Csum::Partial`] is a promise to fill it in where the packet leaves the
//! process. What the field holds until then does not matter: [`finish`] takes the pseudo-header
//! from the IP header, so nothing has to be kept in step when a header is rewritten on the way.
//! A device that fills in checksums itself wants the pseudo-header's sum there: [`leave_to_device`].

use std::net::{IpAddr, Ipv6Addr};

use super::buf::Packet;
use super::header::HeaderError;
use super::header::{IpInfo, IpProto, ip, ipv4, ipv6, zone};
use super::meta::Csum;
use super::payload::Payload;

/// A running ones' complement sum. Pieces may end at odd places.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Checksum {
    /// Native byte order; far from overflowing, since each piece is folded before it is added.
    sum: u32,
    /// Bytes summed so far, modulo 2.
    odd: usize,
}

impl Checksum {
    /// The sum of nothing.
    pub(crate) fn new() -> Checksum {
        Checksum::default()
    }

    /// Adds the next piece.
    #[inline]
    pub(crate) fn add(&mut self, piece: &[u8]) {
        let mut sum = sum_native(piece);
        if self.odd == 1 {
            // RFC 1071 section 2 (B): the sum of swapped bytes is the swapped sum.
            sum = sum.swap_bytes();
        }
        self.sum = u32::from(fold32(self.sum + u32::from(sum)));
        self.odd ^= piece.len() & 1;
    }

    /// Adds the next pieces.
    pub(crate) fn add_payload(&mut self, payload: &Payload) {
        for slice in payload.slices() {
            self.add(slice);
        }
    }

    /// The sum so far, in host order. [`Checksum::complement`] is what goes into a header.
    pub(crate) fn sum(self) -> u16 {
        u16::from_be(fold32(self.sum))
    }

    /// The checksum: the complement of the sum, in host order.
    pub(crate) fn complement(self) -> u16 {
        !self.sum()
    }

    /// True when what was summed contained its own correct checksum.
    pub(crate) fn is_valid(self) -> bool {
        self.sum() == 0xffff
    }
}

/// The checksum of one piece of memory.
#[inline]
pub(crate) fn of(bytes: &[u8]) -> u16 {
    !u16::from_be(sum_native(bytes))
}

/// Fills in a [`Csum::Partial`] checksum of a packet whose IP header starts `l3_offset`
/// bytes into `packet`. Any other state is left alone.
///
/// # Errors
/// When the offsets point outside the packet's headers; the packet is unchanged.
pub(crate) fn finish(packet: &mut Packet, l3_offset: usize) -> Result<(), HeaderError> {
    let Csum::Partial { .. } = packet.meta.csum else {
        return Ok(());
    };
    let partial = Located::of(packet, l3_offset)?;
    partial.write(packet, 0);
    let mut sum = partial.pseudo_header;
    sum.add(&packet.head()[partial.start..]);
    sum.add_payload(&packet.payload);
    partial.write(packet, field_value(sum, partial.proto));
    packet.meta.csum = Csum::Verified;
    Ok(())
}

/// As [`finish`], for a packet that was stripped to its transport header: what a raw socket is shown
/// should be what a wire would have shown.
///
/// # Errors
/// When the offset points outside the packet's headers; the packet is unchanged.
pub(crate) fn finish_transport(packet: &mut Packet, info: &IpInfo) -> Result<(), HeaderError> {
    let Csum::Partial { offset, .. } = packet.meta.csum else {
        return Ok(());
    };
    let field = usize::from(offset)..usize::from(offset) + 2;
    let mut sum = pseudo_header(info.src, info.dst, info.proto, packet.len());
    let head = packet.pull_up(field.end).ok_or(HeaderError::BadLength)?;
    head[field.clone()].fill(0);
    sum.add(packet.head());
    sum.add_payload(&packet.payload);
    packet.head_mut()[field].copy_from_slice(&field_value(sum, info.proto).to_be_bytes());
    packet.meta.csum = Csum::Verified;
    Ok(())
}

/// Leaves a [`Csum::Partial`] checksum to a device that sums TCP and UDP: the pseudo-header's sum is
/// written into the field, which is what such a device starts from. The checksum of any other
/// protocol is filled in.
///
/// # Errors
/// As [`finish`].
pub(crate) fn leave_to_device(packet: &mut Packet, l3_offset: usize) -> Result<(), HeaderError> {
    let Csum::Partial { .. } = packet.meta.csum else {
        return Ok(());
    };
    let partial = Located::of(packet, l3_offset)?;
    match partial.proto {
        IpProto::TCP | IpProto::UDP => {
            partial.write(packet, partial.pseudo_header.sum());
            Ok(())
        }
        _ => finish(packet, l3_offset),
    }
}

/// Verifies the transport checksum of `packet`, which starts at its transport header. A checksum that is known to be good, or was never filled in
/// because the packet has not left memory, is not looked at.
///
/// # Errors
/// [`HeaderError::BadChecksum`], or [`HeaderError::Truncated`] when there is no room for a
/// checksum at all. Protocols whose checksum this module does not know always pass.
pub(crate) fn verify_transport(packet: &mut Packet, info: &IpInfo) -> Result<(), HeaderError> {
    if packet.meta.csum != Csum::Unknown {
        return Ok(());
    }
    match info.proto {
        IpProto::ICMP | IpProto::TCP | IpProto::ICMPV6 => {}
        IpProto::UDP => {
            let header = packet.pull_up(8).ok_or(HeaderError::Truncated)?;
            // RFC 768: "An all zero transmitted checksum value means that the transmitter
            // generated no checksum". RFC 8200 section 8.1: IPv6 receivers discard such packets.
            if header[6..8] == [0, 0] {
                if info.src.is_ipv6() {
                    return Err(HeaderError::BadChecksum);
                }
                return Ok(());
            }
        }
        _ => return Ok(()),
    }
    let mut sum = pseudo_header(info.src, info.dst, info.proto, packet.len());
    sum.add(packet.head());
    sum.add_payload(&packet.payload);
    if !sum.is_valid() {
        return Err(HeaderError::BadChecksum);
    }
    packet.meta.csum = Csum::Verified;
    Ok(())
}

/// A partial checksum whose offsets have been checked and whose field is in the header area.
struct Located {
    /// Where summing starts, from the start of the header area.
    start: usize,
    /// Where the checksum field is, from the start of the header area.
    field: usize,
    proto: IpProto,
    pseudo_header: Checksum,
}

impl Located {
    fn of(packet: &mut Packet, l3_offset: usize) -> Result<Located, HeaderError> {
        let Csum::Partial { start, offset } = packet.meta.csum else {
            return Err(HeaderError::WrongFormat);
        };
        let (start, offset) = (usize::from(start), usize::from(offset));
        if start < ipv4::MIN_LEN {
            return Err(HeaderError::BadLength);
        }
        let (behind, start) = (start, l3_offset + start);
        let field = start + offset;
        let len = packet.len();
        let head = packet.pull_up(field + 2).ok_or(HeaderError::BadLength)?;
        let header = &head[l3_offset..];
        let (proto, pseudo_header) = match ip::version(header) {
            6 => {
                let ip = ipv6::Ipv6Header::parse(header)?;
                let proto = match behind {
                    ipv6::MIN_LEN => ip.next,
                    _ => match ipv6::transport(packet, l3_offset) {
                        Some((proto, at)) if at == behind => proto,
                        _ => return Err(HeaderError::BadLength),
                    },
                };
                // As it is on the wire: in a group, what is elsewhere a link's number may be part of it.
                (proto, pseudo_header_v6(ip.src, ip.dst, proto, len - start))
            }
            _ => {
                let ip = ipv4::Addresses::peek(header)?;
                let sum = pseudo_header(ip.src.into(), ip.dst.into(), ip.proto, len - start);
                (ip.proto, sum)
            }
        };
        Ok(Located {
            start,
            field,
            proto,
            pseudo_header,
        })
    }

    fn write(&self, packet: &mut Packet, value: u16) {
        packet.head_mut()[self.field..self.field + 2].copy_from_slice(&value.to_be_bytes());
    }
}

/// What a transport checksum begins with, for `len` bytes of transport header and payload: the
/// pseudo-header of RFC 793 section 3.1 and RFC 768, or of RFC 8200 section 8.1. ICMP for IPv4 has
/// none.
pub(crate) fn pseudo_header(src: IpAddr, dst: IpAddr, proto: IpProto, len: usize) -> Checksum {
    let mut sum = Checksum::new();
    match (src, dst) {
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            return pseudo_header_v6(zone::wire(src), zone::wire(dst), proto, len);
        }
        _ if proto == IpProto::ICMP => {}
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let mut bytes = [0; 12];
            bytes[..4].copy_from_slice(&src.octets());
            bytes[4..8].copy_from_slice(&dst.octets());
            bytes[9] = proto.0;
            // Lengths above 65535 wrap; IPv4 has none.
            bytes[10..].copy_from_slice(&(len as u16).to_be_bytes());
            sum.add(&bytes);
        }
        // Nobody sends from one version to the other.
        _ => {}
    }
    sum
}

fn pseudo_header_v6(src: Ipv6Addr, dst: Ipv6Addr, proto: IpProto, len: usize) -> Checksum {
    let mut sum = Checksum::new();
    sum.add(&src.octets());
    sum.add(&dst.octets());
    sum.add(&(len as u32).to_be_bytes());
    sum.add(&[0, 0, 0, proto.0]);
    sum
}

fn field_value(sum: Checksum, proto: IpProto) -> u16 {
    match sum.complement() {
        // RFC 768: "If the computed checksum is zero, it is transmitted as all ones".
        0 if proto == IpProto::UDP => 0xffff,
        value => value,
    }
}

/// The ones' complement sum of one piece in native byte order (RFC 1071 section 2 (B): the sum
/// does not depend on the order as long as loads and stores agree).
#[inline]
fn sum_native(bytes: &[u8]) -> u16 {
    // Eight accumulators of 32-bit words: independent, so the compiler may keep them in vector
    // registers. Their sum would overflow behind 16 GiB, which is not a piece of a packet.
    let mut lanes = [0u64; 8];
    let mut blocks = bytes.chunks_exact(32);
    for block in &mut blocks {
        for (lane, word) in lanes.iter_mut().zip(block.chunks_exact(4)) {
            *lane += u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
        }
    }
    let mut sum = u64::from(fold64(lanes.iter().sum()));
    let mut pairs = blocks.remainder().chunks_exact(2);
    for pair in &mut pairs {
        sum += u64::from(u16::from_ne_bytes([pair[0], pair[1]]));
    }
    if let [last] = pairs.remainder() {
        sum += u64::from(u16::from_ne_bytes([*last, 0]));
    }
    fold64(sum)
}

#[inline]
fn fold64(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    fold32(sum as u32)
}

#[inline]
fn fold32(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::header::Fragmentation;
    use crate::packet::header::ipv4::Ipv4Header;
    use bytes::Bytes;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    /// Pairs of bytes, most significant first, with an end-around carry after every addition.
    fn model(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for (i, byte) in bytes.iter().enumerate() {
            sum += u32::from(*byte) << (8 * (1 - i % 2));
            if sum > 0xffff {
                sum -= 0xffff;
            }
        }
        sum as u16
    }

    fn info(proto: IpProto) -> IpInfo {
        IpInfo {
            src: Ipv4Addr::new(192, 0, 2, 1).into(),
            dst: Ipv4Addr::new(192, 0, 2, 2).into(),
            proto,
            hop_limit: 64,
            traffic_class: 0,
            label: 7,
            fragmentation: Fragmentation::Allowed,
        }
    }

    fn datagram(proto: IpProto, transport: &[u8], csum: Csum) -> Packet {
        let header = Ipv4Header::example(proto, transport.len());
        let mut packet = Packet::outgoing(Payload::from(transport.to_vec()));
        header.emit(packet.prepend(20));
        packet.meta.csum = csum;
        packet
    }

    #[test]
    fn the_example_of_rfc_1071() {
        // Section 3: the sum of these bytes is ddf2.
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(of(&bytes), !0xddf2);
    }

    #[test]
    fn the_pseudo_header_of_ipv6() {
        // RFC 8200 section 8.1: addresses, length in 32 bits, zeros, next header.
        let (src, dst) = ("2001:db8::1", "2001:db8:0:1::2");
        let [src, dst] = [src, dst].map(|ip| ip.parse::<Ipv6Addr>().expect("an address"));
        let mut bytes = [src.octets(), dst.octets()].concat();
        bytes.extend([0, 1, 0, 4, 0, 0, 0, 6]);
        let sum = pseudo_header(src.into(), dst.into(), IpProto::TCP, 0x1_0004);
        assert_eq!(sum.sum(), model(&bytes));
    }

    #[test]
    fn a_udp_sum_of_zero_is_sent_as_all_ones() {
        // The word at the end is chosen so that the whole sums to ffff.
        let mut udp = vec![0, 7, 0, 9, 0, 10, 0xaa, 0xaa, 0, 0];
        let IpInfo {
            src, dst, proto, ..
        } = info(IpProto::UDP);
        let mut sum = pseudo_header(src, dst, proto, 10);
        sum.add(&udp[..6]);
        udp[8..].copy_from_slice(&sum.complement().to_be_bytes());
        let csum = Csum::Partial {
            start: 20,
            offset: 6,
        };
        let mut packet = datagram(IpProto::UDP, &udp, csum);
        finish(&mut packet, 0).expect("offsets are right");
        assert_eq!(packet.to_vec()[26..28], [0xff, 0xff]);
        assert_eq!(packet.meta.csum, Csum::Verified);
    }

    #[test]
    fn a_udp_datagram_without_checksum_passes_in_ipv4() {
        let mut packet = Packet::incoming(vec![0, 7, 0, 9, 0, 8, 0, 0]);
        let udp = info(IpProto::UDP);
        assert_eq!(verify_transport(&mut packet, &udp), Ok(()));
        let in_ipv6 = IpInfo {
            src: Ipv6Addr::LOCALHOST.into(),
            dst: Ipv6Addr::LOCALHOST.into(),
            ..udp
        };
        assert_eq!(
            verify_transport(&mut packet, &in_ipv6),
            Err(HeaderError::BadChecksum)
        );
        let mut short = Packet::incoming(vec![0; 7]);
        assert_eq!(
            verify_transport(&mut short, &udp),
            Err(HeaderError::Truncated)
        );
    }

    /// An IPv6 packet with `extensions` headers of options in front of what it carries.
    fn packet6(proto: IpProto, transport: &[u8], extensions: usize) -> Packet {
        let named = |left: usize| match left {
            0 => proto,
            _ => IpProto::DESTINATION,
        };
        let mut packet = Packet::outgoing(Payload::from(transport.to_vec()));
        for left in 0..extensions {
            packet
                .prepend(8)
                .copy_from_slice(&[named(left).0, 0, 1, 4, 0, 0, 0, 0]);
        }
        let header = ipv6::Ipv6Header {
            src: "2001:db8::1".parse().expect("an address"),
            dst: "2001:db8::2".parse().expect("an address"),
            next: named(extensions),
            hop_limit: 64,
            traffic_class: 0,
            flow_label: 0,
            payload_len: packet.len() as u16,
        };
        header.emit(packet.prepend(ipv6::MIN_LEN));
        packet
    }

    proptest! {
        #[test]
        fn another_verifies_what_is_filled_in_over_ipv6(
            mut data in prop::collection::vec(any::<u8>(), 20..200),
            proto in prop::sample::select(vec![IpProto::UDP, IpProto::TCP, IpProto::ICMPV6]),
            extensions in 0usize..4,
        ) {
            use smoltcp::wire::{Icmpv6Packet, TcpPacket, UdpPacket};
            let len = data.len() as u16;
            let offset = match proto {
                IpProto::UDP => {
                    data[4..6].copy_from_slice(&len.to_be_bytes());
                    6
                }
                IpProto::TCP => {
                    data[12] = 0x50;
                    16
                }
                _ => 2,
            };
            let mut packet = packet6(proto, &data, extensions);
            let start = (ipv6::MIN_LEN + 8 * extensions) as u16;
            packet.meta.csum = Csum::Partial { start, offset };
            finish(&mut packet, 0).expect("the offsets are right");
            let bytes = packet.to_vec();
            let ip = ipv6::Ipv6Header::parse(&bytes).expect("a header");
            let carried = &bytes[usize::from(start)..];
            let holds = match proto {
                IpProto::UDP => UdpPacket::new_unchecked(carried)
                    .verify_checksum(&ip.src.into(), &ip.dst.into()),
                IpProto::TCP => TcpPacket::new_unchecked(carried)
                    .verify_checksum(&ip.src.into(), &ip.dst.into()),
                _ => Icmpv6Packet::new_unchecked(carried).verify_checksum(&ip.src, &ip.dst),
            };
            prop_assert!(holds);
        }

        #[test]
        fn pieces_sum_to_what_the_whole_sums_to(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..150), 0..6),
            large in prop::collection::vec(prop_oneof![Just(0xffu8), any::<u8>()], 0..3000),
        ) {
            let mut payload = Payload::new();
            for part in &parts {
                payload.push(Bytes::copy_from_slice(part));
            }
            let mut sum = Checksum::new();
            sum.add_payload(&payload);
            sum.add(&large);
            let mut whole = parts.concat();
            whole.extend(&large);
            prop_assert_eq!(sum.sum(), model(&whole));
            prop_assert_eq!(of(&whole), !model(&whole));
        }

        #[test]
        fn what_finish_fills_in_verifies_and_a_flipped_bit_does_not(
            data in prop::collection::vec(any::<u8>(), 8..200),
            udp in prop::sample::select(vec![IpProto::UDP, IpProto::ICMP]),
            flip in any::<prop::sample::Index>(),
            l2 in prop::sample::select(vec![0usize, 14]),
        ) {
            let offset = if udp == IpProto::UDP { 6 } else { 2 };
            let mut packet = datagram(udp, &data, Csum::Partial { start: 20, offset });
            packet.prepend(l2).fill(0xee);
            let mut stripped = packet.clone();
            finish(&mut packet, l2).expect("offsets are right");
            let mut bytes = packet.to_vec().split_off(l2 + 20);
            let info = info(udp);
            stripped.strip(l2 + 20);
            finish_transport(&mut stripped, &info).expect("the offset is right");
            prop_assert_eq!(stripped.to_vec(), &bytes[..]);
            let mut back = Packet::incoming(bytes.clone());
            prop_assert_eq!(verify_transport(&mut back, &info), Ok(()));
            let at = flip.index(bytes.len() * 8);
            bytes[at / 8] ^= 1 << (at % 8);
            prop_assume!(udp != IpProto::UDP || bytes[6..8] != [0, 0]);
            let mut bad = Packet::incoming(bytes);
            prop_assert_eq!(
                verify_transport(&mut bad, &info),
                Err(HeaderError::BadChecksum)
            );
        }

        #[test]
        fn lying_offsets_are_refused(
            bytes in prop::collection::vec(any::<u8>(), 0..120),
            start in any::<u16>(), offset in any::<u16>(), small in 0u16..64, l3 in 0usize..20,
        ) {
            for csum in [
                Csum::Partial { start, offset },
                Csum::Partial { start: small, offset: offset % 64 },
            ] {
                let mut packet = Packet::incoming(bytes.clone());
                packet.meta.csum = csum;
                let _ = leave_to_device(&mut packet, l3);
                let _ = finish_transport(&mut packet.clone(), &info(IpProto::TCP));
                let _ = finish(&mut packet, l3);
                prop_assert_eq!(packet.len(), bytes.len());
            }
        }
    }
}

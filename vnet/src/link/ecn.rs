//! What a queue discipline looks at in a frame: its differentiated services field (RFC 2474), of
//! which the last two bits are for explicit congestion notification (RFC 3168), and its flow.
//!
//! IPv4 and IPv6 are looked at. Whatever else there is has class 0, takes no part in ECN, and is one
//! flow for each pair of stations.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::packet::Packet;
use crate::packet::header::ether::{self, ETHER_LEN};
use crate::packet::header::{EtherType, IpProto, ip, ipv4, ipv6};

/// The ECN codepoints of RFC 3168, section 5.
const ECN_MASK: u8 = 0b11;
const CE: u8 = 0b11;

/// The fixed IP header of a frame, and where it begins.
enum Network<'a> {
    V4(usize, &'a mut [u8]),
    V6(usize, &'a mut [u8]),
}

fn network(packet: &mut Packet) -> Option<Network<'_>> {
    let at = ether::network_offset(packet);
    let bytes = packet.pull_up(at + ipv4::MIN_LEN)?;
    match (EtherType::at(bytes, at - 2), ip::version(&bytes[at..])) {
        (EtherType::IPV4, 4) => Some(Network::V4(
            at,
            &mut packet.pull_up(at + ipv4::MIN_LEN)?[at..],
        )),
        (EtherType::IPV6, 6) => Some(Network::V6(
            at,
            &mut packet.pull_up(at + ipv6::MIN_LEN)?[at..],
        )),
        _ => None,
    }
}

fn traffic_class(packet: &mut Packet) -> Option<u8> {
    Some(match network(packet)? {
        Network::V4(_, ip) => ip[1],
        Network::V6(_, ip) => ip[0] << 4 | ip[1] >> 4,
    })
}

/// The six bits of the differentiated services codepoint; 0 for what is not IP.
pub(crate) fn dscp(packet: &mut Packet) -> u8 {
    traffic_class(packet).map_or(0, |class| class >> 2)
}

/// Replaces the differentiated services codepoint, if the frame has one. Its header checksum stays right.
pub(crate) fn set_dscp(packet: &mut Packet, dscp: u8) {
    let Some(class) = traffic_class(packet) else {
        return;
    };
    set_class(packet, dscp << 2 | class & ECN_MASK);
}

fn set_class(packet: &mut Packet, class: u8) {
    match network(packet) {
        Some(Network::V4(_, ip)) => ipv4::set_tos(ip, class),
        Some(Network::V6(_, ip)) => ipv6::set_traffic_class(ip, class),
        None => {}
    }
}

/// Marks a frame as having met congestion (RFC 3168, section 5), if its sender takes part in that.
/// Its header checksum stays right. False when it does not, and must be dropped instead.
pub(crate) fn mark(packet: &mut Packet) -> bool {
    let Some(class) = traffic_class(packet).filter(|class| class & ECN_MASK != 0) else {
        return false;
    };
    set_class(packet, class | CE);
    true
}

/// A hash of the frame's flow: tags, addresses, protocol and, of TCP or UDP, ports (RFC 8290, section
/// 4.1). Only the first fragment has ports, so they are left out for all fragments.
pub(crate) fn flow(packet: &mut Packet, seed: u64) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(seed, 0);
    for tag in packet.meta.tags.iter() {
        hasher.write(&tag.tci.to_be_bytes());
    }
    let (proto, ports) = match network(packet) {
        Some(Network::V4(at, ip)) => {
            hasher.write(&ip[12..20]);
            hasher.write(&[ip[9]]);
            let is_fragment = (u16::from_be_bytes([ip[6], ip[7]]) & 0x3fff) != 0;
            let ports = at + usize::from(ip[0] & 0xf) * 4;
            (IpProto(ip[9]), (!is_fragment).then_some(ports))
        }
        Some(Network::V6(at, ip)) => {
            hasher.write(&ip[8..40]);
            // Where the protocol is cannot be said of a fragment: the others have none.
            match ipv6::transport(packet, at) {
                Some((proto, behind)) => {
                    hasher.write(&[proto.0]);
                    (proto, Some(at + behind))
                }
                None => (IpProto::NONE, None),
            }
        }
        None => {
            let stations = packet.pull_up(ETHER_LEN);
            hasher.write(stations.as_deref().unwrap_or(&[]));
            (IpProto::NONE, None)
        }
    };
    if matches!(proto, IpProto::TCP | IpProto::UDP)
        && let Some(at) = ports
    {
        let mut bytes = [0; 4];
        if packet.copy_to(at, &mut bytes) == bytes.len() {
            hasher.write(&bytes);
        }
    }
    hasher.finish()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::packet::tag::{Tag, Tpid};

    /// The headers of an IPv4 frame without tags.
    const FIXED: usize = ETHER_LEN + ipv4::MIN_LEN;
    use crate::packet::checksum;
    use crate::packet::payload::Payload;

    /// An IPv4 frame with UDP ports and `len` bytes in all.
    pub(in crate::link) fn frame(tos: u8, port: u16, len: usize) -> Packet {
        let mut bytes = vec![0; len.max(FIXED + 8)];
        bytes[12] = 8;
        bytes[14] = 0x45;
        bytes[15] = tos;
        let total = (bytes.len() - ETHER_LEN) as u16;
        bytes[16..18].copy_from_slice(&total.to_be_bytes());
        bytes[22] = 64;
        bytes[23] = 17;
        bytes[26..34].copy_from_slice(&[192, 0, 2, 1, 192, 0, 2, 2]);
        bytes[36..38].copy_from_slice(&port.to_be_bytes());
        let sum = checksum::of(&bytes[ETHER_LEN..FIXED]);
        bytes[24..26].copy_from_slice(&sum.to_be_bytes());
        Packet::incoming(bytes)
    }

    #[test]
    fn only_who_takes_part_is_marked_and_the_checksum_stays_right() {
        for dscp in [0, 46] {
            for ecn in 0..4u8 {
                let mut packet = frame(dscp << 2 | ecn, 7, 100);
                assert_eq!(mark(&mut packet), ecn != 0);
                let bytes = packet.to_vec();
                let expected = if ecn == 0 { 0 } else { CE };
                assert_eq!(bytes[15], dscp << 2 | expected);
                assert_eq!(checksum::of(&bytes[ETHER_LEN..FIXED]), 0);
                assert_eq!(super::dscp(&mut packet), dscp);
            }
        }
        let mut arp = Packet::outgoing(Payload::from(vec![8; 60]));
        assert!(!mark(&mut arp));
        assert_eq!(dscp(&mut arp), 0);
    }

    #[test]
    fn a_flow_is_told_by_addresses_and_ports() {
        let seen = |port, seed| flow(&mut frame(0, port, 100), seed);
        assert_eq!(seen(1, 5), seen(1, 5));
        assert_ne!(seen(1, 5), seen(2, 5));
        assert_ne!(
            seen(1, 5),
            seen(1, 6),
            "an outsider cannot know which flows meet"
        );
        let mut fragment = frame(0, 1, 100);
        fragment.pull_up(FIXED).expect("long enough")[21] = 9;
        let mut other = frame(0, 2, 100);
        other.pull_up(FIXED).expect("long enough")[21] = 9;
        assert_eq!(flow(&mut fragment, 5), flow(&mut other, 5));
    }

    /// An IPv6 frame with UDP ports behind `extensions` headers of options.
    fn frame6(class: u8, port: u16, extensions: usize) -> Packet {
        let mut bytes = vec![2; 12];
        bytes.extend([0x86, 0xdd, 0x60 | class >> 4, class << 4, 1, 2, 0, 0]);
        bytes.extend([if extensions > 0 { 60 } else { 17 }, 64]);
        bytes.extend([0x20; 16]);
        bytes.extend([0x21; 16]);
        for left in (0..extensions).rev() {
            bytes.extend([if left > 0 { 60 } else { 17 }, 0, 1, 4, 0, 0, 0, 0]);
        }
        bytes.extend(port.to_be_bytes());
        bytes.extend([0; 100]);
        Packet::incoming(bytes)
    }

    #[test]
    fn ipv6_is_marked_and_told_apart_as_well() {
        for dscp in [0, 46] {
            for ecn in 0..4u8 {
                let mut packet = frame6(dscp << 2 | ecn, 7, 0);
                assert_eq!(mark(&mut packet), ecn != 0);
                let class = if ecn == 0 { dscp << 2 } else { dscp << 2 | CE };
                assert_eq!(packet.to_vec(), frame6(class, 7, 0).to_vec());
                assert_eq!(super::dscp(&mut packet), dscp);
            }
        }
        let seen = |port, extensions| flow(&mut frame6(0, port, extensions), 5);
        assert_ne!(seen(1, 0), seen(2, 0));
        assert_eq!(seen(1, 0), seen(1, 3), "it carries the same");
        let fragment = |port: u16| {
            let mut packet = frame6(0, port, 1).to_vec();
            (packet[20], packet[57]) = (44, 1);
            flow(&mut Packet::incoming(packet), 5)
        };
        assert_eq!(fragment(1), fragment(2));
        let mut short = Packet::incoming(frame6(0, 1, 0).to_vec()[..50].to_vec());
        assert_eq!((super::dscp(&mut short), mark(&mut short)), (0, false));
    }

    #[test]
    fn tags_hide_nothing_wherever_they_are() {
        let tag = Tag {
            tpid: Tpid::Dot1q,
            tci: 5,
        };
        let plain = frame(46 << 2 | 1, 7, 100);
        for push in 1..5 {
            let mut tagged = plain.clone();
            (0..push).for_each(|_| tagged.push_tag(tag));
            let in_bytes = tagged.with_tags();
            for mut packet in [tagged, in_bytes] {
                assert_eq!(dscp(&mut packet), 46);
                assert!(mark(&mut packet));
                assert_eq!(packet.to_vec()[packet.len() - 85], 46 << 2 | CE);
                assert_ne!(flow(&mut packet, 5), flow(&mut frame(0, 8, 100), 5));
            }
        }
    }
}

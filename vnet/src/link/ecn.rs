//! What a queue discipline looks at in a frame: its differentiated services field (RFC 2474), of
//! which the last two bits are for explicit congestion notification (RFC 3168), and its flow.
//!
//! Only IPv4 is looked at. Whatever else there is has class 0, takes no part in ECN, and is one flow
//! for each pair of stations.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::packet::Packet;
use crate::packet::header::ether::{self, ETHER_LEN};
use crate::packet::header::ipv4::{self, set_tos};
use crate::packet::header::{EtherType, IpProto};

/// The ECN codepoints of RFC 3168, section 5.
const ECN_MASK: u8 = 0b11;
const CE: u8 = 0b11;

/// The IPv4 header of a frame without options, and where it begins.
fn ip(packet: &mut Packet) -> Option<(usize, &mut [u8])> {
    let at = ether::network_offset(packet);
    let bytes = packet.pull_up(at + ipv4::MIN_LEN)?;
    let is_ipv4 = EtherType::at(bytes, at - 2) == EtherType::IPV4 && bytes[at] >> 4 == 4;
    is_ipv4.then_some((at, &mut bytes[at..]))
}

/// The six bits of the differentiated services codepoint; 0 for what is not IPv4.
pub(crate) fn dscp(packet: &mut Packet) -> u8 {
    ip(packet).map_or(0, |(_, ip)| ip[1] >> 2)
}

/// Marks a frame as having met congestion (RFC 3168, section 5), if its sender takes part in that.
/// Its header checksum stays right. False when it does not, and must be dropped instead.
pub(crate) fn mark(packet: &mut Packet) -> bool {
    match ip(packet) {
        Some((_, ip)) if ip[1] & ECN_MASK != 0 => {
            let tos = ip[1] | CE;
            set_tos(ip, tos);
            true
        }
        _ => false,
    }
}

/// A hash of the frame's flow: tags, addresses, protocol and, of TCP or UDP, ports (RFC 8290, section
/// 4.1). Only the first fragment has ports, so they are left out for all fragments.
pub(crate) fn flow(packet: &mut Packet, seed: u64) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(seed, 0);
    for tag in packet.meta.tags.iter() {
        hasher.write(&tag.tci.to_be_bytes());
    }
    let Some((at, ip)) = ip(packet) else {
        let stations = packet.pull_up(ETHER_LEN);
        hasher.write(stations.as_deref().unwrap_or(&[]));
        return hasher.finish();
    };
    let ports = at + usize::from(ip[0] & 0xf) * 4;
    let is_fragment = (u16::from_be_bytes([ip[6], ip[7]]) & 0x3fff) != 0;
    let with_ports = matches!(IpProto(ip[9]), IpProto::TCP | IpProto::UDP) && !is_fragment;
    hasher.write(&ip[12..20]);
    hasher.write(&[ip[9]]);
    if with_ports && let Some(bytes) = packet.pull_up(ports + 4) {
        hasher.write(&bytes[ports..]);
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

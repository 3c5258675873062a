//! Which flow a frame belongs to.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use super::config::LaggHash;
use crate::packet::Packet;
use crate::packet::header::ether::{self, ETHER_LEN};
use crate::packet::header::{EtherType, IpProto};

/// Bytes of the two stations' addresses.
const STATIONS: usize = 12;
/// Bytes of the two port numbers.
const PORTS: usize = 4;

/// Where in an IP packet its addresses and its protocol are, and its ports, if they are known to be
/// there.
struct Layout {
    addresses: std::ops::Range<usize>,
    protocol: usize,
    ports: Option<usize>,
}

impl Layout {
    /// `ip` begins with a header of at least 40 bytes, or with all that there is.
    fn of(ether_type: EtherType, ip: &[u8]) -> Option<Layout> {
        match (ether_type, ip.first()? >> 4) {
            (EtherType::IPV4, 4) if ip.len() >= 20 => {
                let is_fragment = u16::from_be_bytes([ip[6], ip[7]]) & 0x3fff != 0;
                Some(Layout {
                    addresses: 12..20,
                    protocol: 9,
                    ports: (!is_fragment).then_some(usize::from(ip[0] & 0xf) * 4),
                })
            }
            // Behind extension headers, there are no ports: a fragment has one.
            (EtherType::IPV6, 6) if ip.len() >= 40 => Some(Layout {
                addresses: 8..40,
                protocol: 6,
                ports: Some(40),
            }),
            _ => None,
        }
    }
}

/// A hash of what makes frames one flow.
pub(crate) fn flow(packet: &mut Packet, depth: LaggHash, seed: u64) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(seed, 0);
    // IEEE 802.1Q-2018, clause 9.6: the priority says nothing about whose frame it is.
    for tag in packet.meta.tags.iter() {
        hasher.write_u16(tag.vid());
    }
    let at = ether::network_offset(packet);
    let len = packet.len().min(at + 40);
    let Some(head) = packet.pull_up(len) else {
        return hasher.finish();
    };
    hasher.write(&head[..STATIONS.min(len)]);
    if depth == LaggHash::L2 || len <= at || at < ETHER_LEN {
        return hasher.finish();
    }
    let Some(layout) = Layout::of(EtherType::at(head, at - 2), &head[at..]) else {
        return hasher.finish();
    };
    let protocol = head[at + layout.protocol];
    hasher.write(&head[at..][layout.addresses]);
    hasher.write_u8(protocol);
    let has_ports = matches!(IpProto(protocol), IpProto::TCP | IpProto::UDP);
    if let (LaggHash::L4, true, Some(ports)) = (depth, has_ports, layout.ports)
        && let Some(bytes) = packet.pull_up(at + ports + PORTS)
    {
        hasher.write(&bytes[at + ports..][..PORTS]);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::tag::{Tag, Tpid};

    /// A frame from station `mac` of a UDP packet from 192.0.2.`host`, port `port`.
    fn frame(mac: u8, host: u8, port: u8) -> Vec<u8> {
        let mut bytes = vec![0; 60];
        bytes[11] = mac;
        bytes[12] = 8;
        bytes[14] = 0x45;
        bytes[23] = 17;
        bytes[26..30].copy_from_slice(&[192, 0, 2, host]);
        bytes[35] = port;
        bytes
    }

    fn of(bytes: Vec<u8>, depth: LaggHash) -> u64 {
        flow(&mut Packet::incoming(bytes), depth, 1)
    }

    #[test]
    fn a_flow_is_as_deep_as_the_configuration_says() {
        use LaggHash::{L2, L3, L4};
        let one = |depth| of(frame(1, 1, 1), depth);
        for (depth, same_host, same_port) in
            [(L2, true, true), (L3, false, true), (L4, false, false)]
        {
            assert_ne!(of(frame(2, 1, 1), depth), one(depth));
            assert_eq!(
                of(frame(1, 2, 1), depth) == one(depth),
                same_host,
                "{depth:?}"
            );
            assert_eq!(
                of(frame(1, 1, 2), depth) == one(depth),
                same_port,
                "{depth:?}"
            );
        }
    }

    #[test]
    fn fragments_of_one_packet_are_one_flow() {
        let fragment = |offset: u8, port| {
            let mut bytes = frame(1, 1, port);
            bytes[20] = if offset == 0 { 0x20 } else { 0 };
            bytes[21] = offset;
            of(bytes, LaggHash::L4)
        };
        assert_eq!(fragment(0, 1), fragment(9, 2));
    }

    #[test]
    fn version_6_has_flows_too() {
        let six = |host: u8, port: u8| {
            let mut bytes = vec![0; 80];
            (bytes[12], bytes[13], bytes[14], bytes[20]) = (0x86, 0xdd, 0x60, 6);
            (bytes[37], bytes[55]) = (host, port);
            bytes
        };
        let all = [(1, 1), (1, 2), (2, 1)].map(|(h, p)| of(six(h, p), LaggHash::L4));
        assert!(all[0] != all[1] && all[0] != all[2]);
        assert_eq!(of(six(1, 1), LaggHash::L3), of(six(1, 2), LaggHash::L3));
    }

    #[test]
    fn a_vlan_counts_and_its_priority_does_not() {
        let tagged = |tci| {
            let mut packet = Packet::incoming(frame(1, 1, 1));
            packet.push_tag(Tag {
                tpid: Tpid::Dot1q,
                tci,
            });
            flow(&mut packet, LaggHash::L2, 1)
        };
        assert_eq!(tagged(0x6005), tagged(5));
        assert_ne!(tagged(6), tagged(5));
    }

    #[test]
    fn frames_of_any_length_and_content_have_a_flow() {
        let bytes = frame(1, 1, 1);
        for len in 0..bytes.len() {
            for depth in [LaggHash::L2, LaggHash::L3, LaggHash::L4] {
                of(bytes[..len].to_vec(), depth);
                of([&bytes[..len], &[0xff; 40]].concat(), depth);
            }
        }
    }
}

//! Sending: the header in front of our own packets, and whether a packet fits its link (RFC 8200).
//!
//! Only the source cuts packets, so that a forwarded one fits or does not.

use std::net::Ipv6Addr;

use crate::ip::Outgoing;
use crate::packet::header::ipv6::{FRAGMENT_LEN, Ipv6Header, MAX_PAYLOAD, MIN_LEN, Piece};
use crate::packet::header::{IpInfo, IpProto};
use crate::packet::{Csum, Packet, checksum};

/// The packet would be longer than IPv6 can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("IPv6 packets have at most 65535 bytes behind their header")]
pub(crate) struct TooLong;

/// Puts an IPv6 header in front of a transport's packet.
///
/// # Errors
/// [`TooLong`]; the packet is unchanged.
pub(crate) fn prepend(
    hop_limit: u8,
    src: Ipv6Addr,
    dst: Ipv6Addr,
    to: &Outgoing,
    packet: &mut Packet,
) -> Result<(), TooLong> {
    if packet.len() > MAX_PAYLOAD {
        return Err(TooLong);
    }
    let header = Ipv6Header {
        src,
        dst,
        next: to.proto,
        hop_limit,
        traffic_class: to.traffic_class,
        flow_label: 0,
        payload_len: packet.len() as u16,
    };
    header.emit(packet.prepend(MIN_LEN));
    // Where the transport header starts is known from here on.
    if let Csum::Partial { start, .. } = &mut packet.meta.csum {
        *start += MIN_LEN as u16;
    }
    Ok(())
}

/// The header that a packet came with, but for its length.
pub(crate) fn header(src: Ipv6Addr, dst: Ipv6Addr, info: &IpInfo) -> Ipv6Header {
    Ipv6Header {
        src,
        dst,
        next: info.proto,
        hop_limit: info.hop_limit,
        traffic_class: info.traffic_class,
        flow_label: info.label,
        payload_len: 0,
    }
}

/// Puts a packet that was stripped of its headers back together, for an ICMP error that quotes it.
/// Extension headers are lost.
///
/// # Panics
/// When what is behind the header is longer than an IPv6 packet allows.
pub(crate) fn restore(header: &Ipv6Header, mut packet: Packet) -> Packet {
    let header = Ipv6Header {
        payload_len: u16::try_from(packet.len()).expect("it came in an IPv6 packet"),
        ..*header
    };
    header.emit(packet.prepend(MIN_LEN));
    packet
}

/// Takes one from the hop limit of the header at the start of `bytes`. Zero stays zero.
pub(crate) fn decrement_hop_limit(bytes: &mut [u8]) {
    bytes[HOP_LIMIT] = bytes[HOP_LIMIT].saturating_sub(1);
}

/// Cuts a packet of ours at its IP header into pieces of at most `ip_mtu` bytes; `None` when it must
/// not or cannot be cut. TCP is told instead, and makes its segments shorter.
pub(crate) fn cut(ident: u32, mut packet: Packet, ip_mtu: usize) -> Option<Vec<Packet>> {
    let ours = packet.meta.rcvif.is_none() && packet.meta.gso.is_none();
    checksum::finish(&mut packet, 0).ok()?;
    let header = Ipv6Header::parse(packet.pull_up(MIN_LEN)?).ok()?;
    let space = ip_mtu.checked_sub(MIN_LEN + FRAGMENT_LEN)? & !7;
    if !ours || header.next == IpProto::TCP || header.next.is_extension() || space == 0 {
        return None;
    }
    packet.strip(MIN_LEN);
    let meta = packet.meta;
    let mut rest = packet.into_payload();
    let mut pieces = Vec::with_capacity(rest.len().div_ceil(space));
    let mut offset = 0;
    while !rest.is_empty() {
        let take = rest.len().min(space);
        let mut piece = Packet::outgoing(rest.slice(0..take));
        rest.advance(take);
        piece.meta = meta;
        let fragment = Piece {
            next: header.next,
            offset: offset as u16,
            more: !rest.is_empty(),
            ident,
        };
        let bytes = piece.prepend(FRAGMENT_LEN);
        fragment.emit(bytes.first_chunk_mut().expect("as many as were asked for"));
        let next = IpProto::FRAGMENT;
        pieces.push(restore(&Ipv6Header { next, ..header }, piece));
        offset += take;
    }
    Some(pieces)
}

const HOP_LIMIT: usize = 7;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Payload;
    use crate::packet::header::ipv6::Chain;
    use proptest::prelude::*;

    fn packet(proto: IpProto, data: &[u8]) -> Packet {
        let src = Ipv6Addr::LOCALHOST;
        let dst: Ipv6Addr = "2001:db8::1".parse().expect("an address");
        let to = Outgoing::new(src.into(), dst.into(), proto);
        let mut packet = Packet::outgoing(Payload::from(data.to_vec()));
        packet.meta.csum = Csum::Verified;
        prepend(64, src, dst, &to, &mut packet).expect("it is short");
        packet
    }

    #[test]
    fn more_than_ipv6_can_say_is_refused() {
        let any = Ipv6Addr::LOCALHOST;
        let to = Outgoing::new(any.into(), any.into(), IpProto::UDP);
        let mut packet = Packet::outgoing(Payload::from(vec![0; 65_536]));
        assert_eq!(prepend(64, any, any, &to, &mut packet), Err(TooLong));
        packet.truncate(65_535);
        assert_eq!(prepend(64, any, any, &to, &mut packet), Ok(()));
        assert_eq!(packet.len(), 65_575);
    }

    #[test]
    fn what_is_not_ours_and_what_is_tcp_stays_whole() {
        assert!(cut(1, packet(IpProto::TCP, &[0; 2000]), 1280).is_none());
        let mut others = packet(IpProto::UDP, &[0; 2000]);
        assert!(cut(1, others.clone(), 1280).is_some());
        assert!(cut(1, others.clone(), 55).is_none());
        let [ifid, _] = crate::ip::testing::interfaces();
        others.meta.rcvif = Some(ifid);
        assert!(cut(1, others, 1280).is_none());
    }

    proptest! {
        #[test]
        fn fragments_cover_the_payload_in_order(
            data in prop::collection::vec(any::<u8>(), 1..5000),
            ip_mtu in 56usize..1600,
        ) {
            let pieces = cut(9, packet(IpProto::UDP, &data), ip_mtu).expect("it is ours");
            let mut bytes: Vec<u8> = Vec::new();
            let count = pieces.len();
            for (n, piece) in pieces.into_iter().enumerate() {
                prop_assert!(piece.len() <= ip_mtu);
                let header = Ipv6Header::parse(piece.head()).expect("a header");
                prop_assert_eq!(usize::from(header.payload_len), piece.len() - MIN_LEN);
                let mut chain = Chain::of(&piece, 0);
                let extension = chain.next().expect("a fragment header").expect("whole");
                let fragment = Piece::parse(&extension.start);
                prop_assert_eq!(fragment.next, IpProto::UDP);
                prop_assert_eq!((fragment.more, fragment.ident), (n + 1 < count, 9));
                prop_assert_eq!(usize::from(fragment.offset), bytes.len());
                bytes.extend(&piece.to_vec()[chain.at..]);
            }
            prop_assert_eq!(bytes, data);
        }
    }
}

//! Output: the header of our own packets, and whether a packet fits the MTU (RFC 791 section 3.2, RFC 6864).
//!
//! A packet passes [`prepend`], the stack's route lookup, and [`fit`], which compares it with the interface's MTU. A
//! forwarded packet enters at [`fit`].

use std::net::Ipv4Addr;

use super::fragment::Fragments;
use crate::ip::Outgoing;
use crate::ip::family::V4;
use crate::ip::state::IpState;
use crate::ip::versions::Fit;
use crate::packet::header::ipv4::{self, Ipv4Flags, Ipv4Header, MAX_TOTAL_LEN, MIN_LEN};
use crate::packet::header::{Fragmentation, IpInfo};
use crate::packet::{Csum, Packet, gso};

/// The packet would be longer than IPv4 can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("IPv4 packets have at most 65535 bytes")]
pub(crate) struct TooLong;

/// Puts an IPv4 header in front of a transport's packet and returns it.
///
/// # Errors
/// [`TooLong`] when the whole would exceed 65535 bytes; the packet is unchanged.
#[inline]
pub(crate) fn prepend(
    state: &mut IpState<V4>,
    src: Ipv4Addr,
    dst: Ipv4Addr,
    to: &Outgoing,
    packet: &mut Packet,
) -> Result<Ipv4Header, TooLong> {
    let total_len = packet.len() + MIN_LEN;
    if total_len > MAX_TOTAL_LEN {
        return Err(TooLong);
    }
    let (ident, flags) = match to.fragmentation {
        // RFC 6864 section 4.1: of a datagram that cannot be fragmented the field says nothing.
        Fragmentation::Forbidden => (0, Ipv4Flags::DONT_FRAGMENT),
        Fragmentation::Allowed => {
            let packets = match packet.meta.gso {
                Some(gso) => packet.len().div_ceil(usize::from(gso.segment_size).max(1)),
                None => 1,
            };
            (state.take_idents(packets as u32) as u16, Ipv4Flags::NONE)
        }
    };
    let header = Ipv4Header {
        src,
        dst,
        proto: to.proto,
        ttl: to.hop_limit.unwrap_or(state.tunables.default_ttl),
        tos: to.traffic_class,
        ident,
        flags,
        fragment_offset: 0,
        total_len: total_len as u16,
        header_len: MIN_LEN as u8,
    };
    header.emit(packet.prepend(MIN_LEN));
    // Where the transport header starts is known from here on.
    if let Csum::Partial { start, .. } = &mut packet.meta.csum {
        *start += MIN_LEN as u16;
    }
    Ok(header)
}

/// The header that a packet came with, but for its lengths.
pub(crate) fn header(src: Ipv4Addr, dst: Ipv4Addr, info: &IpInfo) -> Ipv4Header {
    Ipv4Header {
        src,
        dst,
        proto: info.proto,
        ttl: info.hop_limit,
        tos: info.traffic_class,
        ident: info.label as u16,
        flags: match info.fragmentation {
            Fragmentation::Allowed => Ipv4Flags::NONE,
            Fragmentation::Forbidden => Ipv4Flags::DONT_FRAGMENT,
        },
        fragment_offset: 0,
        total_len: 0,
        header_len: MIN_LEN as u8,
    }
}

/// Puts a packet that was stripped to its transport header back together, for an ICMP error that
/// quotes it. Options are lost.
///
/// # Panics
/// When the transport's part is longer than an IPv4 packet allows.
pub(crate) fn restore(header: &Ipv4Header, mut packet: Packet) -> Packet {
    let total_len = packet.len() + MIN_LEN;
    let header = Ipv4Header {
        header_len: MIN_LEN as u8,
        total_len: u16::try_from(total_len).expect("it came in an IPv4 packet"),
        ..*header
    };
    header.emit(packet.prepend(MIN_LEN));
    packet
}

/// Sees to it that a packet at its IP header fits a link that takes IP packets of up to `ip_mtu`
/// bytes. Of a packet that stands for several segments, each segment must fit.
pub(crate) fn fit(mut packet: Packet, ip_mtu: usize) -> Fit {
    if gso::longest_packet(&mut packet) <= ip_mtu {
        return Fit::Whole(packet);
    }
    let header = packet.pull_up(MIN_LEN);
    if header.is_none_or(|bytes| ipv4::dont_fragment(bytes)) {
        return Fit::TooBig(packet);
    }
    match Fragments::new(&packet, ip_mtu) {
        Ok(fragments) => Fit::Fragments(Box::new(fragments)),
        Err(_) => Fit::TooBig(packet),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;
    use crate::packet::header::IpProto;
    use crate::packet::{Gso, GsoKind, Payload};

    const SRC: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const DST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

    fn outgoing() -> Outgoing {
        Outgoing::new(SRC.into(), DST.into(), IpProto::UDP)
    }

    #[test]
    fn packets_that_may_be_cut_have_different_identifications() {
        let mut state = IpState::new(&mut Rng::seeded(1));
        let mut ident = |to: Outgoing, len: usize| {
            let mut packet = Packet::outgoing(Payload::from(vec![0; len]));
            let header = prepend(&mut state, SRC, DST, &to, &mut packet).expect("it is short");
            assert_eq!(Ipv4Header::parse(packet.head()), Ok(header));
            assert_eq!(header.ttl, 64);
            header.ident
        };
        let first = ident(outgoing(), 8);
        assert_eq!(ident(outgoing(), 8), first.wrapping_add(1));
        let atomic = Outgoing {
            fragmentation: Fragmentation::Forbidden,
            ..outgoing()
        };
        assert_eq!(ident(atomic, 8), 0);
        assert_eq!(ident(outgoing(), 8), first.wrapping_add(2));
    }

    #[test]
    fn more_than_ipv4_can_say_is_refused() {
        let mut state = IpState::new(&mut Rng::seeded(1));
        let mut packet = Packet::outgoing(Payload::from(vec![0; 65_516]));
        assert_eq!(
            prepend(&mut state, SRC, DST, &outgoing(), &mut packet),
            Err(TooLong)
        );
        assert_eq!(packet.len(), 65_516);
        packet.truncate(65_515);
        assert!(prepend(&mut state, SRC, DST, &outgoing(), &mut packet).is_ok());
    }

    #[test]
    fn a_packet_of_many_segments_fits_by_its_segments() {
        let mut state = IpState::new(&mut Rng::seeded(1));
        let to = Outgoing {
            proto: IpProto::TCP,
            fragmentation: Fragmentation::Forbidden,
            ..outgoing()
        };
        let mut packet = Packet::outgoing(Payload::from(vec![0; 10_000]));
        packet.prepend(32).fill(0x80);
        packet.meta.gso = Some(Gso {
            kind: GsoKind::Tcp4,
            segment_size: 1448,
        });
        prepend(&mut state, SRC, DST, &to, &mut packet).expect("it is short");
        assert!(matches!(fit(packet.clone(), 1500), Fit::Whole(_)));
        assert!(matches!(fit(packet.clone(), 1499), Fit::TooBig(_)));
        packet.meta.gso = None;
        assert!(matches!(fit(packet, 1500), Fit::TooBig(_)));
    }
}

//! Sending: the header in front of our own packets, and whether a packet fits its link
//! (RFC 791 section 3.2, RFC 6864).
//!
//! The path is: [`prepend`], the stack looks up the route, [`fit`] against the interface's MTU.
//! A forwarded packet joins at [`fit`].

use std::net::Ipv4Addr;

use super::fragment::Fragments;
use crate::ip::family::V4;
use crate::ip::state::IpState;
use crate::packet::Packet;
use crate::packet::header::ipv4::{Ipv4Flags, Ipv4Header, MAX_TOTAL_LEN, MIN_LEN};
use crate::packet::header::{Fragmentation, IpProto};

/// What a transport asks of IPv4 for one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outgoing {
    /// The sender: an address of this vnet, or 0.0.0.0 while it has none.
    pub src: Ipv4Addr,
    /// The receiver.
    pub dst: Ipv4Addr,
    /// What is carried.
    pub proto: IpProto,
    /// How many hops it may take; `None` for the vnet's default.
    pub ttl: Option<u8>,
    /// The type of service octet.
    pub tos: u8,
    /// May it be cut?
    pub fragmentation: Fragmentation,
}

impl Outgoing {
    /// A packet that may be fragmented, with the vnet's time to live and routine service.
    pub(crate) fn new(src: Ipv4Addr, dst: Ipv4Addr, proto: IpProto) -> Outgoing {
        Outgoing {
            src,
            dst,
            proto,
            ttl: None,
            tos: 0,
            fragmentation: Fragmentation::Allowed,
        }
    }
}

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
        src: to.src,
        dst: to.dst,
        proto: to.proto,
        ttl: to.ttl.unwrap_or(state.tunables.default_ttl),
        tos: to.tos,
        ident,
        flags,
        fragment_offset: 0,
        total_len: total_len as u16,
        header_len: MIN_LEN as u8,
    };
    header.emit(packet.prepend(MIN_LEN));
    Ok(header)
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

/// How a packet fits its link.
#[derive(Debug)]
pub(crate) enum Fit {
    /// It fits as it is.
    Whole(Packet),
    /// It was cut; every piece fits.
    Fragments(Fragments),
    /// It does not fit and must not, or cannot, be cut: "fragmentation needed".
    TooBig(Packet),
}

/// Sees to it that a packet at its IP header, with `header` parsed from it, fits a link that
/// takes IP packets of up to `ip_mtu` bytes. Of a packet that stands for several segments, each
/// segment must fit.
#[inline]
pub(crate) fn fit(header: &Ipv4Header, packet: Packet, ip_mtu: usize) -> Fit {
    if longest_piece(header, &packet) <= ip_mtu {
        return Fit::Whole(packet);
    }
    if header.dont_fragment() {
        return Fit::TooBig(packet);
    }
    match Fragments::new(&packet, ip_mtu) {
        Ok(fragments) => Fit::Fragments(fragments),
        Err(_) => Fit::TooBig(packet),
    }
}

/// The length of the longest IP packet that will leave for this one.
#[inline]
pub(crate) fn longest_piece(header: &Ipv4Header, packet: &Packet) -> usize {
    match packet.meta.gso {
        None => packet.len(),
        Some(gso) => {
            let transport = usize::from(header.header_len) + TCP_DATA_OFFSET;
            // The transport's header length; when it is not pulled up yet, the longest there is.
            let tcp_len = match packet.head().get(transport) {
                Some(offset) => usize::from(offset >> 4) * 4,
                None => peek(packet, transport).map_or(60, |offset| usize::from(offset >> 4) * 4),
            };
            let piece = usize::from(header.header_len) + tcp_len + usize::from(gso.segment_size);
            piece.min(packet.len())
        }
    }
}

fn peek(packet: &Packet, at: usize) -> Option<u8> {
    let mut byte = [0];
    let in_payload = at.checked_sub(packet.head().len())?;
    (packet.payload.copy_to(in_payload, &mut byte) == 1).then_some(byte[0])
}

/// Where a TCP header says how long it is.
const TCP_DATA_OFFSET: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;
    use crate::packet::{Gso, GsoKind, Payload};

    fn outgoing() -> Outgoing {
        let (src, dst) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        Outgoing::new(src, dst, IpProto::UDP)
    }

    #[test]
    fn packets_that_may_be_cut_have_different_identifications() {
        let mut state = IpState::new(&mut Rng::seeded(1));
        let mut ident = |to: Outgoing, len: usize| {
            let mut packet = Packet::outgoing(Payload::from(vec![0; len]));
            let header = prepend(&mut state, &to, &mut packet).expect("it is short");
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
        assert_eq!(prepend(&mut state, &outgoing(), &mut packet), Err(TooLong));
        assert_eq!(packet.len(), 65_516);
        packet.truncate(65_515);
        assert!(prepend(&mut state, &outgoing(), &mut packet).is_ok());
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
        let header = prepend(&mut state, &to, &mut packet).expect("it is short");
        assert!(matches!(fit(&header, packet.clone(), 1500), Fit::Whole(_)));
        assert!(matches!(fit(&header, packet.clone(), 1499), Fit::TooBig(_)));
        packet.meta.gso = None;
        assert!(matches!(fit(&header, packet, 1500), Fit::TooBig(_)));
    }
}

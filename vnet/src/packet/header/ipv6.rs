//! IPv6 headers (RFC 8200): the fixed one, and the chain of extension headers behind it.
//!
//! A chain is read one header at a time and is bounded: [`MAX_EXTENSIONS`] headers.

use std::net::Ipv6Addr;

use super::HeaderError;
use super::ip::{Fragmentation, IpInfo, IpProto};
use super::zone;
use crate::packet::buf::Packet;

/// Bytes in the fixed header.
pub(crate) const MIN_LEN: usize = 40;
/// The most bytes behind the fixed header, extension headers included (RFC 8200 section 3).
pub(crate) const MAX_PAYLOAD: usize = 65_535;
/// Extension headers of one packet that are read. RFC 8504 section 5.3 lets a host set a limit; each
/// kind is there once in what anybody sends, destination options twice (RFC 8200 section 4.1).
pub(crate) const MAX_EXTENSIONS: usize = 8;

/// What the fixed header means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ipv6Header {
    /// Where the packet is from.
    pub src: Ipv6Addr,
    /// Where it goes.
    pub dst: Ipv6Addr,
    /// The header behind this one: an extension or what is carried.
    pub next: IpProto,
    /// How many more hops it may take.
    pub hop_limit: u8,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// The flow it belongs to: 20 bits (RFC 6437).
    pub flow_label: u32,
    /// Bytes behind this header.
    pub payload_len: u16,
}

impl Ipv6Header {
    /// Reads the header from the start of `bytes`.
    ///
    /// # Errors
    /// [`HeaderError::Truncated`] when there are fewer than [`MIN_LEN`] bytes,
    /// [`HeaderError::WrongFormat`] when it is not version 6.
    #[inline]
    pub(crate) fn parse(bytes: &[u8]) -> Result<Ipv6Header, HeaderError> {
        let fixed: &[u8; MIN_LEN] = bytes.first_chunk().ok_or(HeaderError::Truncated)?;
        if fixed[0] >> 4 != 6 {
            return Err(HeaderError::WrongFormat);
        }
        let [a, b, c, d, ..] = *fixed;
        Ok(Ipv6Header {
            src: address(fixed, SRC),
            dst: address(fixed, DST),
            next: IpProto(fixed[NEXT]),
            hop_limit: fixed[HOP_LIMIT],
            traffic_class: a << 4 | b >> 4,
            flow_label: u32::from_be_bytes([0, b & 0xf, c, d]),
            payload_len: u16::from_be_bytes([fixed[4], fixed[5]]),
        })
    }

    /// Writes the header, its addresses as they are on a wire.
    ///
    /// # Panics
    /// When `bytes` is shorter than [`MIN_LEN`].
    #[inline]
    pub(crate) fn emit(&self, bytes: &mut [u8]) {
        let first =
            6 << 28 | u32::from(self.traffic_class) << 20 | self.flow_label & FLOW_LABEL_MASK;
        bytes[..4].copy_from_slice(&first.to_be_bytes());
        bytes[PAYLOAD_LEN].copy_from_slice(&self.payload_len.to_be_bytes());
        bytes[NEXT] = self.next.0;
        bytes[HOP_LIMIT] = self.hop_limit;
        bytes[SRC..DST].copy_from_slice(&zone::wire(self.src).octets());
        bytes[DST..MIN_LEN].copy_from_slice(&zone::wire(self.dst).octets());
    }

    /// What both versions of IP say, of a packet that carries `proto`.
    #[inline]
    pub(crate) fn info(&self, proto: IpProto) -> IpInfo {
        IpInfo {
            src: self.src.into(),
            dst: self.dst.into(),
            proto,
            hop_limit: self.hop_limit,
            traffic_class: self.traffic_class,
            label: self.flow_label,
            // RFC 8200 section 4.5: only its source cuts a packet.
            fragmentation: Fragmentation::Forbidden,
        }
    }
}

fn address(fixed: &[u8; MIN_LEN], at: usize) -> Ipv6Addr {
    let octets: [u8; 16] = *fixed[at..].first_chunk().expect("16 bytes of the 40");
    octets.into()
}

/// Replaces the traffic class of the header at the start of `bytes`.
///
/// # Panics
/// When `bytes` has fewer than two.
pub(crate) fn set_traffic_class(bytes: &mut [u8], traffic_class: u8) {
    bytes[0] = 0x60 | traffic_class >> 4;
    bytes[1] = traffic_class << 4 | bytes[1] & 0xf;
}

/// Writes how many bytes are behind the header at the start of `bytes`.
///
/// # Panics
/// When `bytes` is shorter than the field.
pub(crate) fn set_payload_len(bytes: &mut [u8], payload_len: u16) {
    bytes[PAYLOAD_LEN].copy_from_slice(&payload_len.to_be_bytes());
}

/// One extension header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Extension {
    /// What it is.
    pub kind: IpProto,
    /// Where it begins, in bytes from the start of the IP header.
    pub at: usize,
    /// Its bytes.
    pub len: usize,
    /// Where the octet is that names it, which an error points to.
    pub named_at: usize,
    /// Its first eight bytes.
    pub start: [u8; 8],
}

/// The extension headers of a packet, one at a time. Once it has ended without an error,
/// [`Chain::next`] and [`Chain::at`] say what is behind them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chain<'a> {
    packet: &'a Packet,
    l3: usize,
    /// What comes next.
    pub next: IpProto,
    /// Where that begins, in bytes from the start of the IP header.
    pub at: usize,
    /// Where the octet is that says what comes next, likewise.
    pub named_at: usize,
    left: usize,
}

impl<'a> Chain<'a> {
    /// The chain of a packet whose fixed header begins `l3` bytes into it.
    pub(crate) fn of(packet: &'a Packet, l3: usize) -> Chain<'a> {
        let mut next = [IpProto::NONE.0];
        packet.copy_to(l3 + NEXT, &mut next);
        Chain {
            packet,
            l3,
            next: IpProto(next[0]),
            at: MIN_LEN,
            named_at: NEXT,
            left: MAX_EXTENSIONS,
        }
    }

    /// The rest of a chain, of which a fragment header named the first as `next`: `packet` begins there.
    pub(crate) fn behind_fragment(packet: &'a Packet, next: IpProto) -> Chain<'a> {
        Chain {
            packet,
            l3: 0,
            next,
            at: 0,
            named_at: 0,
            left: MAX_EXTENSIONS,
        }
    }
}

impl Iterator for Chain<'_> {
    type Item = Result<Extension, HeaderError>;

    /// The next extension header; `None` at what is no extension header.
    ///
    /// # Errors
    /// [`HeaderError::Truncated`] when it goes beyond the packet, [`HeaderError::BadLength`] when
    /// there are too many. The chain has ended then.
    fn next(&mut self) -> Option<Result<Extension, HeaderError>> {
        if !self.next.is_extension() {
            return None;
        }
        let mut start = [0; 8];
        let there = self.packet.copy_to(self.l3 + self.at, &mut start);
        let kind = self.next;
        let len = match kind {
            // RFC 8200 section 4.5: the octet is reserved.
            IpProto::FRAGMENT => FRAGMENT_LEN,
            _ => 8 + usize::from(start[1]) * 8,
        };
        let too_many = self.left == 0;
        if too_many || there < start.len() || self.l3 + self.at + len > self.packet.len() {
            self.next = IpProto::NONE;
            return Some(Err(match too_many {
                true => HeaderError::BadLength,
                false => HeaderError::Truncated,
            }));
        }
        let extension = Extension {
            kind,
            at: self.at,
            len,
            named_at: self.named_at,
            start,
        };
        self.left -= 1;
        self.next = IpProto(start[0]);
        self.named_at = self.at;
        self.at += len;
        Some(Ok(extension))
    }
}

/// Where what a packet carries begins, from the start of its IP header `l3` bytes into it, and what it
/// is. `None` when that cannot be told: the chain is broken, or the packet a fragment.
pub(crate) fn transport(packet: &Packet, l3: usize) -> Option<(IpProto, usize)> {
    carried(packet, l3)
        .filter(|(_, _, piece)| piece.is_none_or(|piece| !piece.is_fragment()))
        .map(|(proto, at, _)| (proto, at))
}

/// The same, of a fragment that is the first as well.
pub(crate) fn first_transport(packet: &Packet, l3: usize) -> Option<(IpProto, usize)> {
    carried(packet, l3).map(|(proto, at, _)| (proto, at))
}

fn carried(packet: &Packet, l3: usize) -> Option<(IpProto, usize, Option<Piece>)> {
    let mut chain = Chain::of(packet, l3);
    let mut piece = None;
    for extension in &mut chain {
        let extension = extension.ok()?;
        if extension.kind == IpProto::FRAGMENT {
            piece = Some(Piece::parse(&extension.start));
        }
        if piece.is_some_and(|piece| piece.offset != 0) {
            return None;
        }
    }
    Some((chain.next, chain.at, piece))
}

/// Bytes in a fragment header.
pub(crate) const FRAGMENT_LEN: usize = 8;

/// What a fragment header means (RFC 8200 section 4.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Piece {
    /// What the fragmentable part begins with.
    pub next: IpProto,
    /// Where this piece belongs in that part, in bytes; a multiple of 8.
    pub offset: u16,
    /// More pieces follow.
    pub more: bool,
    /// Tells the packets apart to which fragments belong.
    pub ident: u32,
}

impl Piece {
    /// Reads a fragment header.
    pub(crate) fn parse(bytes: &[u8; FRAGMENT_LEN]) -> Piece {
        let [next, _, hi, lo, a, b, c, d] = *bytes;
        Piece {
            next: IpProto(next),
            offset: u16::from_be_bytes([hi, lo & 0xf8]),
            more: lo & 1 != 0,
            ident: u32::from_be_bytes([a, b, c, d]),
        }
    }

    /// Writes a fragment header.
    pub(crate) fn emit(&self, bytes: &mut [u8; FRAGMENT_LEN]) {
        let [hi, lo] = self.offset.to_be_bytes();
        let [a, b, c, d] = self.ident.to_be_bytes();
        *bytes = [
            self.next.0,
            0,
            hi,
            lo & 0xf8 | u8::from(self.more),
            a,
            b,
            c,
            d,
        ];
    }

    /// False for a packet that is all in one piece (RFC 6946).
    pub(crate) fn is_fragment(&self) -> bool {
        self.more || self.offset != 0
    }
}

const FLOW_LABEL_MASK: u32 = 0xf_ffff;
const PAYLOAD_LEN: std::ops::Range<usize> = 4..6;
const NEXT: usize = 6;
const HOP_LIMIT: usize = 7;
const SRC: usize = 8;
const DST: usize = 24;

#[cfg(test)]
impl Ipv6Header {
    /// A header of a packet from `::1` to itself, in front of `len` bytes.
    pub(crate) fn example(next: IpProto, len: usize) -> Ipv6Header {
        Ipv6Header {
            src: Ipv6Addr::LOCALHOST,
            dst: Ipv6Addr::LOCALHOST,
            next,
            hop_limit: 64,
            traffic_class: 0,
            flow_label: 0,
            payload_len: len as u16,
        }
    }

    /// A packet with these bytes behind such a header.
    pub(crate) fn example_packet(next: u8, rest: &[u8]) -> Packet {
        let mut packet = Packet::outgoing(crate::packet::Payload::from(rest.to_vec()));
        let header = Ipv6Header::example(IpProto(next), rest.len());
        header.emit(packet.prepend(MIN_LEN));
        packet
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use smoltcp::wire;

    fn any_header() -> impl Strategy<Value = Ipv6Header> {
        (
            any::<(u128, u128, u8, u8, u8, u16)>(),
            0u32..=FLOW_LABEL_MASK,
        )
            .prop_map(
                |((src, dst, next, hop_limit, class, len), label)| Ipv6Header {
                    src: zone::wire(src.into()),
                    dst: zone::wire(dst.into()),
                    next: IpProto(next),
                    hop_limit,
                    traffic_class: class,
                    flow_label: label,
                    payload_len: len,
                },
            )
    }

    fn bytes_of(header: &Ipv6Header) -> [u8; MIN_LEN] {
        let mut bytes = [0xaa; MIN_LEN];
        header.emit(&mut bytes);
        bytes
    }

    #[test]
    fn a_chain_is_followed_to_what_is_carried() {
        // Hop-by-hop options, a routing header of 24 bytes, a fragment header, UDP.
        let mut rest = vec![43, 0, 1, 4, 0, 0, 0, 0];
        rest.extend([44, 2, 4, 0]);
        rest.extend([0; 20]);
        rest.extend([17, 0, 0, 0, 1, 2, 3, 4]);
        rest.extend([9; 8]);
        let packet = Ipv6Header::example_packet(0, &rest);
        let mut chain = Chain::of(&packet, 0);
        let found: Vec<_> = chain
            .by_ref()
            .map(|e| e.expect("it is whole"))
            .map(|e| (e.kind.0, e.at, e.len, e.named_at))
            .collect();
        assert_eq!(found, [(0, 40, 8, 6), (43, 48, 24, 40), (44, 72, 8, 48)]);
        assert_eq!((chain.next, chain.at), (IpProto::UDP, 80));
        assert_eq!(transport(&packet, 0), Some((IpProto::UDP, 80)));
    }

    #[test]
    fn neither_the_chain_nor_a_header_of_it_is_endless() {
        let again: Vec<u8> = [60, 0, 1, 4, 0, 0, 0, 0].repeat(MAX_EXTENSIONS);
        let mut enough = again.clone();
        enough[8 * (MAX_EXTENSIONS - 1)] = 59;
        assert_eq!(
            transport(&Ipv6Header::example_packet(60, &enough), 0).map(|t| t.1),
            Some(40 + again.len())
        );
        let mut too_many = again;
        too_many.extend([59, 0, 1, 4, 0, 0, 0, 0]);
        assert_eq!(
            transport(&Ipv6Header::example_packet(60, &too_many), 0),
            None
        );
        assert_eq!(
            transport(
                &Ipv6Header::example_packet(60, &[59, 1, 1, 4, 0, 0, 0, 0]),
                0
            ),
            None
        );
        assert_eq!(
            transport(&Ipv6Header::example_packet(60, &[59, 0, 1, 4, 0, 0, 0]), 0),
            None
        );
        // A fragment has no ports to be found, unless it is the whole.
        assert_eq!(
            transport(
                &Ipv6Header::example_packet(44, &[17, 0, 0, 1, 0, 0, 0, 1]),
                0
            ),
            None
        );
        assert!(
            transport(
                &Ipv6Header::example_packet(44, &[17, 0, 0, 0, 0, 0, 0, 1]),
                0
            )
            .is_some()
        );
    }

    proptest! {
        #[test]
        fn emit_and_parse_are_inverse(header in any_header()) {
            prop_assert_eq!(Ipv6Header::parse(&bytes_of(&header)), Ok(header));
        }

        #[test]
        fn another_reads_what_is_written(header in any_header()) {
            let bytes = bytes_of(&header);
            let other = wire::Ipv6Packet::new_unchecked(&bytes[..]);
            prop_assert_eq!(other.version(), 6);
            prop_assert_eq!(other.traffic_class(), header.traffic_class);
            prop_assert_eq!(other.flow_label(), header.flow_label);
            prop_assert_eq!(other.payload_len(), header.payload_len);
            prop_assert_eq!(u8::from(other.next_header()), header.next.0);
            prop_assert_eq!(other.hop_limit(), header.hop_limit);
            prop_assert_eq!((other.src_addr(), other.dst_addr()), (header.src, header.dst));
        }

        #[test]
        fn the_traffic_class_is_replaced_alone(header in any_header(), class: u8) {
            let mut bytes = bytes_of(&header);
            set_traffic_class(&mut bytes, class);
            let changed = Ipv6Header { traffic_class: class, ..header };
            prop_assert_eq!(Ipv6Header::parse(&bytes), Ok(changed));
        }

        #[test]
        fn a_fragment_header_is_what_another_says(bytes: [u8; 8]) {
            let piece = Piece::parse(&bytes);
            let other = wire::Ipv6FragmentHeader::new_unchecked(&bytes[2..]);
            prop_assert_eq!(other.frag_offset() * 8, piece.offset);
            prop_assert_eq!((other.more_frags(), other.ident()), (piece.more, piece.ident));
            let mut back = [0xaa; 8];
            piece.emit(&mut back);
            prop_assert_eq!(Piece::parse(&back), piece);
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(
            mut bytes in prop::collection::vec(any::<u8>(), 0..200),
            chained in prop::collection::vec(prop::sample::select(vec![0u8, 43, 44, 60, 17, 59]), 0..12),
        ) {
            let parsed = Ipv6Header::parse(&bytes);
            let is_six = bytes.first().is_some_and(|first| first >> 4 == 6);
            prop_assert_eq!(parsed.is_ok(), is_six && bytes.len() >= MIN_LEN);
            // Headers of eight bytes, so that a chain gets somewhere.
            if bytes.len() > NEXT {
                bytes[NEXT] = chained.first().copied().unwrap_or(17);
            }
            for (n, kind) in chained.iter().skip(1).enumerate() {
                if let Some(two) = bytes.get_mut(40 + 8 * n..42 + 8 * n) {
                    two.copy_from_slice(&[*kind, 0]);
                }
            }
            let packet = Packet::incoming(bytes);
            let mut chain = Chain::of(&packet, 0);
            let found = chain.by_ref().filter(Result::is_ok).count();
            prop_assert!(found <= MAX_EXTENSIONS && chain.at <= packet.len().max(MIN_LEN));
            if let Some((_, at)) = transport(&packet, 0) {
                prop_assert!(at == MIN_LEN || at <= packet.len());
            }
        }
    }
}

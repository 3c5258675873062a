//! IPv4 headers (RFC 791).
//!
//! Options are accepted and ignored on input; none is ever emitted. A source route is the
//! exception: [`has_source_route`] finds it, so that the packet can be refused.

use std::net::Ipv4Addr;

use smoltcp::wire::Ipv4Packet;

use super::HeaderError;
use super::ip::{Fragmentation, IpInfo, IpProto};
use crate::packet::checksum;

/// The least MTU that a link has (RFC 791, section 3.2).
pub(crate) const MIN_IP_MTU: u16 = 68;
/// Bytes in an IPv4 header without options.
pub(crate) const MIN_LEN: usize = 20;
/// Bytes in an IPv4 header with as many options as fit.
pub(crate) const MAX_LEN: usize = 60;
/// The largest IPv4 packet.
pub(crate) const MAX_TOTAL_LEN: usize = 65_535;

/// The two flags of an IPv4 header.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub(crate) struct Ipv4Flags(u8);

impl Ipv4Flags {
    /// Neither flag.
    pub(crate) const NONE: Ipv4Flags = Ipv4Flags(0);
    /// "Don't fragment".
    pub(crate) const DONT_FRAGMENT: Ipv4Flags = Ipv4Flags(1);
    /// "More fragments".
    pub(crate) const MORE_FRAGMENTS: Ipv4Flags = Ipv4Flags(2);

    /// These flags and those of `other`.
    #[must_use]
    pub(crate) const fn with(self, other: Ipv4Flags) -> Ipv4Flags {
        Ipv4Flags(self.0 | other.0)
    }

    /// These flags but those of `other`.
    #[must_use]
    pub(crate) const fn without(self, other: Ipv4Flags) -> Ipv4Flags {
        Ipv4Flags(self.0 & !other.0)
    }

    /// True when every flag of `other` is among these.
    pub(crate) const fn contains(self, other: Ipv4Flags) -> bool {
        self.0 & other.0 == other.0
    }
}

/// What an IPv4 header means. Its options are not part of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ipv4Header {
    /// Where the packet is from.
    pub src: Ipv4Addr,
    /// Where it goes.
    pub dst: Ipv4Addr,
    /// What it carries.
    pub proto: IpProto,
    /// How many more hops it may take.
    pub ttl: u8,
    /// The type of service octet: DSCP and ECN.
    pub tos: u8,
    /// Tells the datagrams apart to which fragments belong.
    pub ident: u16,
    /// May it be fragmented, and is it the last piece?
    pub flags: Ipv4Flags,
    /// Where the payload belongs in its datagram, in bytes; a multiple of 8.
    pub fragment_offset: u16,
    /// Bytes in header and payload.
    pub total_len: u16,
    /// Bytes in the header, options included: a multiple of 4 from 20 to 60.
    pub header_len: u8,
}

/// The number of bytes of the IPv4 header that begins with `start`, to know how much to pull up.
///
/// # Errors
/// [`HeaderError::Truncated`] when `start` is empty, [`HeaderError::WrongFormat`] when the
/// version is not 4, and [`HeaderError::BadLength`] when the length is below 20.
#[inline]
pub(crate) fn header_len(start: &[u8]) -> Result<usize, HeaderError> {
    let first = *start.first().ok_or(HeaderError::Truncated)?;
    if first >> 4 != 4 {
        return Err(HeaderError::WrongFormat);
    }
    match usize::from(first & 0xf) * 4 {
        len if len < MIN_LEN => Err(HeaderError::BadLength),
        len => Ok(len),
    }
}

impl Ipv4Header {
    /// Reads a header from its own bytes, options included, and verifies its checksum.
    ///
    /// # Errors
    /// What [`Ipv4Header::parse_trusted`] says, or [`HeaderError::BadChecksum`].
    #[inline]
    pub(crate) fn parse(bytes: &[u8]) -> Result<Ipv4Header, HeaderError> {
        let header = Ipv4Header::parse_trusted(bytes)?;
        // RFC 1122 section 3.2.1.2: a host MUST verify the checksum of every datagram.
        if checksum::of(&bytes[..usize::from(header.header_len)]) != 0 {
            return Err(HeaderError::BadChecksum);
        }
        Ok(header)
    }

    /// Reads a header from its own bytes, without looking at the checksum: for a packet that has
    /// not left memory, or that a device has checked. Bytes behind the header are ignored.
    ///
    /// # Errors
    /// [`HeaderError::Truncated`] when bytes are missing, [`HeaderError::WrongFormat`] when it is
    /// not version 4, [`HeaderError::BadLength`] when its lengths contradict each other.
    #[inline]
    pub(crate) fn parse_trusted(bytes: &[u8]) -> Result<Ipv4Header, HeaderError> {
        let header_len = header_len(bytes)?;
        let fixed: &[u8; MIN_LEN] = bytes.first_chunk().ok_or(HeaderError::Truncated)?;
        if bytes.len() < header_len {
            return Err(HeaderError::Truncated);
        }
        let packet = Ipv4Packet::new_unchecked(fixed);
        let header = Ipv4Header {
            src: packet.src_addr(),
            dst: packet.dst_addr(),
            proto: IpProto(packet.next_header().into()),
            ttl: packet.hop_limit(),
            tos: fixed[1],
            ident: packet.ident(),
            flags: Ipv4Flags((fixed[6] >> 6 & 1) | (fixed[6] >> 4 & 2)),
            fragment_offset: packet.frag_offset(),
            total_len: packet.total_len(),
            header_len: header_len as u8,
        };
        if usize::from(header.total_len) < header_len {
            return Err(HeaderError::BadLength);
        }
        Ok(header)
    }

    /// Writes the header with its checksum. Options are not written, so `header_len` must be 20
    /// for the result to mean the same.
    ///
    /// # Panics
    /// When `bytes` is shorter than [`MIN_LEN`].
    #[inline]
    pub(crate) fn emit(&self, bytes: &mut [u8]) {
        let mut fixed = [0; MIN_LEN];
        let mut packet = Ipv4Packet::new_unchecked(&mut fixed);
        packet.set_version(4);
        packet.set_header_len(MIN_LEN as u8);
        packet.set_dscp(self.tos >> 2);
        packet.set_ecn(self.tos & 3);
        packet.set_total_len(self.total_len);
        packet.set_ident(self.ident);
        packet.set_dont_frag(self.dont_fragment());
        packet.set_more_frags(self.more_fragments());
        packet.set_frag_offset(self.fragment_offset);
        packet.set_hop_limit(self.ttl);
        packet.set_next_header(self.proto.0.into());
        packet.set_src_addr(self.src);
        packet.set_dst_addr(self.dst);
        let sum = checksum::of(&fixed);
        fixed[CHECKSUM].copy_from_slice(&sum.to_be_bytes());
        bytes[..MIN_LEN].copy_from_slice(&fixed);
    }

    /// What both versions of IP say.
    #[inline]
    pub(crate) fn info(&self) -> IpInfo {
        IpInfo {
            src: self.src.into(),
            dst: self.dst.into(),
            proto: self.proto,
            hop_limit: self.ttl,
            traffic_class: self.tos,
            label: self.ident.into(),
            fragmentation: match self.dont_fragment() {
                true => Fragmentation::Forbidden,
                false => Fragmentation::Allowed,
            },
        }
    }

    /// Bytes of payload.
    #[inline]
    #[cfg(test)]
    pub(crate) fn payload_len(&self) -> usize {
        usize::from(self.total_len).saturating_sub(usize::from(self.header_len))
    }

    /// True when the packet must not be fragmented on its way.
    #[inline]
    pub(crate) fn dont_fragment(&self) -> bool {
        self.flags.contains(Ipv4Flags::DONT_FRAGMENT)
    }

    /// True for every piece of a datagram but the last.
    #[inline]
    pub(crate) fn more_fragments(&self) -> bool {
        self.flags.contains(Ipv4Flags::MORE_FRAGMENTS)
    }

    /// True when this is a piece of a datagram.
    #[inline]
    pub(crate) fn is_fragment(&self) -> bool {
        self.more_fragments() || self.fragment_offset != 0
    }
}

/// The fields of an IPv4 header that a transport checksum covers.
#[derive(Clone, Copy, Debug)]
pub(in crate::packet) struct Addresses {
    pub(in crate::packet) src: Ipv4Addr,
    pub(in crate::packet) dst: Ipv4Addr,
    pub(in crate::packet) proto: IpProto,
}

impl Addresses {
    #[inline]
    pub(in crate::packet) fn peek(bytes: &[u8]) -> Result<Addresses, HeaderError> {
        header_len(bytes)?;
        let fixed: &[u8; MIN_LEN] = bytes.first_chunk().ok_or(HeaderError::Truncated)?;
        let packet = Ipv4Packet::new_unchecked(fixed);
        Ok(Addresses {
            src: packet.src_addr(),
            dst: packet.dst_addr(),
            proto: IpProto(packet.next_header().into()),
        })
    }
}

/// True when the header at the start of `bytes` forbids to fragment its packet.
///
/// # Panics
/// When `bytes` is shorter than [`MIN_LEN`].
pub(crate) fn dont_fragment(bytes: &[u8]) -> bool {
    bytes[6] & 0x40 != 0
}

/// Takes one from the time to live of the header at the start of `bytes` and corrects the
/// checksum incrementally. A time to live of zero stays zero.
///
/// # Panics
/// When `bytes` is shorter than [`MIN_LEN`].
#[inline]
pub(crate) fn decrement_ttl(bytes: &mut [u8]) {
    let before = u16::from_be_bytes([bytes[8], bytes[9]]);
    let Some(after) = before.checked_sub(0x100) else {
        return;
    };
    bytes[8] -= 1;
    correct_checksum(bytes, before, after);
}

/// Replaces the type of service octet of the header at the start of `bytes` and corrects the
/// checksum incrementally.
///
/// # Panics
/// When `bytes` is shorter than [`MIN_LEN`].
pub(crate) fn set_tos(bytes: &mut [u8], tos: u8) {
    let before = u16::from_be_bytes([bytes[0], bytes[1]]);
    bytes[1] = tos;
    let after = u16::from_be_bytes([bytes[0], bytes[1]]);
    correct_checksum(bytes, before, after);
}

/// Writes the total length and the identification of the header at the start of `bytes`, and corrects the checksum
/// incrementally.
///
/// # Panics
/// When `bytes` is shorter than [`MIN_LEN`].
#[inline]
pub(in crate::packet) fn set_len_and_ident(bytes: &mut [u8], total_len: u16, ident: u16) {
    let word = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let before = u32::from(!word(2)) + u32::from(!word(4));
    bytes[2..4].copy_from_slice(&total_len.to_be_bytes());
    bytes[4..6].copy_from_slice(&ident.to_be_bytes());
    correct_by(bytes, before + u32::from(total_len) + u32::from(ident));
}

/// Follows a change of one 16-bit word of the header.
#[inline]
fn correct_checksum(bytes: &mut [u8], before: u16, after: u16) {
    correct_by(bytes, u32::from(!before) + u32::from(after));
}

/// Adds to the checksum of a header the complements of words that were changed, and what they are now (RFC 1624,
/// equation 3).
#[inline]
fn correct_by(bytes: &mut [u8], change: u32) {
    let old = u16::from_be_bytes([bytes[10], bytes[11]]);
    // HC' = ~(~HC + ~m + m')
    let sum = u32::from(!old) + change;
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = ((sum & 0xffff) + (sum >> 16)) as u16;
    bytes[CHECKSUM].copy_from_slice(&(!sum).to_be_bytes());
}

/// Rewrites what differs between the pieces of a packet, and the checksum of the header of
/// `header_len` bytes at the start of `bytes`.
///
/// # Panics
/// When `bytes` is shorter than `header_len`, or that below [`MIN_LEN`].
pub(crate) fn rewrite_piece(bytes: &mut [u8], header_len: usize, piece: Piece) {
    let header = &mut bytes[..header_len];
    header[0] = 0x40 | (header_len / 4) as u8;
    let mut packet = Ipv4Packet::new_unchecked(&mut *header);
    packet.set_total_len(piece.total_len);
    packet.set_ident(piece.ident);
    packet.set_dont_frag(piece.flags.contains(Ipv4Flags::DONT_FRAGMENT));
    packet.set_more_frags(piece.flags.contains(Ipv4Flags::MORE_FRAGMENTS));
    packet.set_frag_offset(piece.fragment_offset);
    packet.set_checksum(0);
    let sum = checksum::of(header);
    header[CHECKSUM].copy_from_slice(&sum.to_be_bytes());
}

/// What [`rewrite_piece`] writes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    pub(crate) total_len: u16,
    pub(crate) ident: u16,
    pub(crate) flags: Ipv4Flags,
    pub(crate) fragment_offset: u16,
}

/// The options of an IPv4 header, one at a time: its type and all its bytes. Ends at the
/// end-of-list option, or where a length contradicts the space that is left.
#[derive(Clone, Debug)]
pub(crate) struct Options<'a>(&'a [u8]);

impl<'a> Options<'a> {
    /// The options in a header's own bytes.
    pub(crate) fn of(header: &'a [u8]) -> Options<'a> {
        Options(header.get(MIN_LEN..).unwrap_or_default())
    }
}

impl<'a> Iterator for Options<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let len = match *self.0 {
            [] | [OPTION_END, ..] | [_] => return None,
            [OPTION_NOP, ..] => 1,
            [_, len, ..] => usize::from(len),
        };
        // RFC 791 section 3.1: the length counts the type and length octets.
        if len == 0 || len > self.0.len() || (len == 1 && self.0[0] != OPTION_NOP) {
            return None;
        }
        let (option, rest) = self.0.split_at(len);
        self.0 = rest;
        Some((option[0], option))
    }
}

/// True when a header, given by its own bytes, asks for a route of the sender's choice, loose or
/// strict. Hosts and routers refuse those (RFC 7126 sections 4.3 and 4.4).
#[inline]
pub(crate) fn has_source_route(header: &[u8]) -> bool {
    header.len() > MIN_LEN
        && Options::of(header).any(|(kind, _)| matches!(kind, OPTION_LSRR | OPTION_SSRR))
}

const CHECKSUM: std::ops::Range<usize> = 10..12;
const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const OPTION_LSRR: u8 = 131;
const OPTION_SSRR: u8 = 137;

#[cfg(test)]
impl Ipv4Header {
    /// A header of a packet from 192.0.2.1 to 192.0.2.2, with `len` bytes behind it.
    pub(crate) fn example(proto: IpProto, len: usize) -> Ipv4Header {
        Ipv4Header {
            src: Ipv4Addr::new(192, 0, 2, 1),
            dst: Ipv4Addr::new(192, 0, 2, 2),
            proto,
            ttl: 64,
            tos: 0,
            ident: 7,
            flags: Ipv4Flags::NONE,
            fragment_offset: 0,
            total_len: (MIN_LEN + len) as u16,
            header_len: MIN_LEN as u8,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(ttl: u8, tos: u8, ident: u16, flags: u8, units: u16) -> Ipv4Header {
        Ipv4Header {
            src: Ipv4Addr::new(10, 1, 2, 3),
            dst: Ipv4Addr::new(10, 9, 8, 7),
            proto: IpProto::UDP,
            ttl,
            tos,
            ident,
            flags: Ipv4Flags(flags & 3),
            fragment_offset: (units & 0x1fff) * 8,
            total_len: 500,
            header_len: 20,
        }
    }

    #[test]
    fn a_header_from_a_capture() {
        // The example most textbooks use; its checksum is b861.
        let bytes = [
            0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8,
            0x00, 0x01, 0xc0, 0xa8, 0x00, 0xc7,
        ];
        let header = Ipv4Header::parse(&bytes).expect("a good header");
        assert_eq!(header.src, Ipv4Addr::new(192, 168, 0, 1));
        assert_eq!(header.proto, IpProto::UDP);
        assert!(header.dont_fragment() && !header.is_fragment());
        assert_eq!(header.payload_len(), 95);
        let mut again = [0; 20];
        header.emit(&mut again);
        assert_eq!(again, bytes);
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        let mut bytes = [0; 20];
        header(64, 0, 0, 0, 0).emit(&mut bytes);
        assert_eq!(Ipv4Header::parse(&bytes[..19]), Err(HeaderError::Truncated));
        assert_eq!(Ipv4Header::parse(&[]), Err(HeaderError::Truncated));
        bytes[0] = 0x44;
        assert_eq!(Ipv4Header::parse(&bytes), Err(HeaderError::BadLength));
        bytes[0] = 0x46;
        assert_eq!(Ipv4Header::parse(&bytes), Err(HeaderError::Truncated));
        bytes[0] = 0x65;
        assert_eq!(Ipv4Header::parse(&bytes), Err(HeaderError::WrongFormat));
        bytes[0] = 0x45;
        bytes[2..4].copy_from_slice(&[0, 19]);
        assert_eq!(Ipv4Header::parse(&bytes), Err(HeaderError::BadLength));
        bytes[2..4].copy_from_slice(&[0, 20]);
        assert_eq!(Ipv4Header::parse(&bytes), Err(HeaderError::BadChecksum));
    }

    #[test]
    fn source_routes_are_found_behind_other_options() {
        let mut bytes = vec![0x48; 32];
        bytes[20..].copy_from_slice(&[1, 7, 3, 4, 131, 7, 4, 10, 0, 0, 1, 0]);
        assert!(has_source_route(&bytes));
        bytes[20] = 0; // the end-of-list option hides what follows
        assert!(!has_source_route(&bytes));
        bytes[20..].fill(7); // record route of 7 bytes, then one that does not fit
        assert_eq!(Options::of(&bytes).count(), 1);
        bytes[20..22].copy_from_slice(&[7, 0]); // a length of zero would never end
        assert_eq!(Options::of(&bytes).count(), 0);
    }

    proptest! {
        #[test]
        fn emit_and_parse_are_inverse(
            ttl: u8, tos: u8, ident: u16, flags: u8, units: u16,
        ) {
            let header = header(ttl, tos, ident, flags, units);
            let mut bytes = [0xaa; 20];
            header.emit(&mut bytes);
            prop_assert_eq!(Ipv4Header::parse(&bytes), Ok(header));
        }

        #[test]
        fn decrementing_keeps_the_checksum_right(ttl: u8, tos: u8, ident: u16, units: u16) {
            let mut bytes = [0; 20];
            header(ttl, tos, ident, 0, units).emit(&mut bytes);
            decrement_ttl(&mut bytes);
            let parsed = Ipv4Header::parse(&bytes);
            prop_assert_eq!(parsed.map(|h| h.ttl), Ok(ttl.saturating_sub(1)));
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(header) = Ipv4Header::parse_trusted(&bytes) {
                let own = &bytes[..usize::from(header.header_len)];
                let _ = has_source_route(own);
                prop_assert!(Options::of(own).count() <= 40);
            }
            let _ = Ipv4Header::parse(&bytes);
        }
    }
}

//! Fragmentation (RFC 791 section 2.3 and 3.2).
//!
//! The payload is referenced, not copied. A fragment can be fragmented again. The first fragment keeps all options; the
//! others keep those whose type requires it.

use smallvec::SmallVec;

use crate::packet::header::HeaderError;
use crate::packet::header::ipv4::Ipv4Flags;
use crate::packet::header::ipv4::{self, Ipv4Header, MAX_LEN, MIN_LEN, Options, Piece};
use crate::packet::{Meta, Packet, Payload, checksum, gso};

/// The fragments of a packet, made one by one.
#[derive(Debug)]
pub(crate) struct Fragments {
    ip_mtu: usize,
    current: Option<Cut>,
    /// The other segments of a packet that stood for several.
    segments: std::vec::IntoIter<Packet>,
}

/// A packet in the middle of being cut.
#[derive(Debug)]
struct Cut {
    header: Ipv4Header,
    /// The header of the next fragment: the packet's own, later that with fewer options.
    bytes: SmallVec<[u8; MAX_LEN]>,
    rest: Payload,
    offset: usize,
    meta: Meta,
}

/// Why a packet cannot be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FragmentError {
    /// The link does not take even eight bytes of payload at once.
    #[error("the link is too narrow for a fragment")]
    TooNarrow,
    /// The headers make no sense.
    #[error(transparent)]
    Malformed(#[from] HeaderError),
}

impl Fragments {
    /// Prepares to cut a packet at its IP header into pieces of at most `ip_mtu` bytes. The
    /// transport's checksum is filled in first, since no fragment could do it later. "Don't
    /// fragment" is the caller's business.
    ///
    /// # Errors
    /// [`FragmentError`] when it cannot be cut.
    pub(crate) fn new(packet: &Packet, ip_mtu: usize) -> Result<Fragments, FragmentError> {
        let mut segments = Vec::new();
        if packet.meta.gso.is_some() {
            gso::segment(packet.clone(), 0, &mut |piece| segments.push(piece))?;
        } else {
            segments.push(packet.clone());
        }
        let mut segments = segments.into_iter();
        let first = segments.next().ok_or(HeaderError::Truncated)?;
        let cut = Cut::new(first)?;
        if cut.bytes.len() + 8 > ip_mtu {
            return Err(FragmentError::TooNarrow);
        }
        Ok(Fragments {
            ip_mtu,
            current: Some(cut),
            segments,
        })
    }
}

impl Iterator for Fragments {
    type Item = Packet;

    fn next(&mut self) -> Option<Packet> {
        if self.current.is_none() {
            // Segments of one packet have the header it had, so what was true for the first of
            // them is true for these.
            self.current = Some(Cut::new(self.segments.next()?).ok()?);
        }
        let cut = self.current.as_mut()?;
        let fragment = cut.next(self.ip_mtu);
        if cut.rest.is_empty() {
            self.current = None;
        }
        Some(fragment)
    }
}

impl Cut {
    fn new(mut packet: Packet) -> Result<Cut, HeaderError> {
        checksum::finish(&mut packet, 0)?;
        let start = packet.pull_up(MIN_LEN).ok_or(HeaderError::Truncated)?;
        let header_len = ipv4::header_len(start)?;
        let head = packet.pull_up(header_len).ok_or(HeaderError::Truncated)?;
        let header = Ipv4Header::parse_trusted(head)?;
        let bytes = SmallVec::from_slice(head);
        packet.strip(header_len);
        Ok(Cut {
            header,
            bytes,
            offset: usize::from(header.fragment_offset),
            meta: packet.meta,
            rest: packet.into_payload(),
        })
    }

    /// Takes the next fragment off.
    fn next(&mut self, ip_mtu: usize) -> Packet {
        let header_len = self.bytes.len();
        let space = ip_mtu - header_len;
        // RFC 791: all but the last are multiples of eight bytes.
        let take = match self.rest.len() {
            left if left <= space => left,
            _ => space & !7,
        };
        let mut more = self.header.more_fragments();
        more |= take < self.rest.len();
        let mut fragment = Packet::outgoing(self.rest.slice(0..take));
        fragment.meta = self.meta;
        let bytes = fragment.prepend(header_len);
        bytes.copy_from_slice(&self.bytes);
        let flags = self.header.flags.without(Ipv4Flags::MORE_FRAGMENTS);
        let piece = Piece {
            total_len: (header_len + take) as u16,
            ident: self.header.ident,
            flags: match more {
                true => flags.with(Ipv4Flags::MORE_FRAGMENTS),
                false => flags,
            },
            fragment_offset: self.offset as u16,
        };
        ipv4::rewrite_piece(bytes, header_len, piece);
        self.rest.advance(take);
        if self.offset == 0 {
            self.bytes = with_copied_options(&self.bytes);
        }
        self.offset += take;
        fragment
    }
}

/// A header with only those options that every fragment must have (RFC 791 section 3.1: the
/// "copied flag" is the highest bit of an option's type).
fn with_copied_options(header: &[u8]) -> SmallVec<[u8; MAX_LEN]> {
    let mut kept = SmallVec::from_slice(&header[..MIN_LEN]);
    for (kind, option) in Options::of(header) {
        if kind & 0x80 != 0 {
            kept.extend_from_slice(option);
        }
    }
    while !kept.len().is_multiple_of(4) {
        kept.push(0);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::header::IpProto;
    use crate::packet::{Csum, Gso, GsoKind};
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    fn packet(data: &[u8], options: &[u8], offset: u16, flags: Ipv4Flags) -> Packet {
        let len = MIN_LEN + options.len();
        let header = Ipv4Header {
            src: Ipv4Addr::new(10, 0, 0, 1),
            dst: Ipv4Addr::new(10, 0, 0, 2),
            proto: IpProto::UDP,
            ttl: 9,
            tos: 0,
            ident: 77,
            flags,
            fragment_offset: offset,
            total_len: 0,
            header_len: 20,
        };
        let mut packet = Packet::outgoing(Payload::from(data.to_vec()));
        let bytes = packet.prepend(len);
        header.emit(bytes);
        bytes[MIN_LEN..].copy_from_slice(options);
        let piece = Piece {
            total_len: (len + data.len()) as u16,
            ident: 77,
            flags,
            fragment_offset: offset,
        };
        ipv4::rewrite_piece(bytes, len, piece);
        packet.meta.csum = Csum::Verified;
        packet
    }

    /// Cuts, checks every fragment by itself, and lays the payloads out where they belong.
    fn layout(fragments: Vec<Packet>, ip_mtu: usize) -> (Vec<u8>, bool) {
        let mut bytes = Vec::new();
        let mut more = true;
        for fragment in fragments {
            assert!(fragment.len() <= ip_mtu);
            assert!(more, "nothing may follow the last fragment");
            let header = Ipv4Header::parse(fragment.head()).expect("a good header");
            assert_eq!(usize::from(header.total_len), fragment.len());
            assert_eq!((header.ident, header.ttl), (77, 9));
            more = header.more_fragments();
            assert!(!more || header.payload_len().is_multiple_of(8));
            assert_eq!(usize::from(header.fragment_offset), bytes.len());
            bytes.extend(&fragment.to_vec()[usize::from(header.header_len)..]);
        }
        (bytes, more)
    }

    #[test]
    fn options_follow_their_copied_flag() {
        // No operation, record route (not copied), a stream identifier (copied), end of list.
        let options = [1, 7, 3, 4, 0x88, 4, 0xab, 0xcd, 0, 0, 0, 0];
        let all = packet(&[5; 200], &options, 0, Ipv4Flags::NONE);
        let fragments: Vec<_> = Fragments::new(&all, 80)
            .expect("it is wide enough")
            .collect();
        let heads: Vec<_> = fragments.iter().map(|f| f.head()[20..].to_vec()).collect();
        assert_eq!(heads[0], options);
        assert_eq!(heads[1], [0x88, 4, 0xab, 0xcd]);
        assert_eq!(heads[2], heads[1]);
    }

    #[test]
    fn a_link_too_narrow_for_eight_bytes_is_refused() {
        let all = packet(&[5; 100], &[], 0, Ipv4Flags::NONE);
        let refused = Fragments::new(&all, 27).map(|_| ());
        assert_eq!(refused, Err(FragmentError::TooNarrow));
        assert!(Fragments::new(&all, 28).is_ok());
    }

    #[test]
    fn the_checksum_is_filled_in_before_the_cut() {
        let mut all = packet(&[5; 100], &[], 0, Ipv4Flags::NONE);
        all.meta.csum = Csum::Partial {
            start: 20,
            offset: 6,
        };
        let fragments: Vec<_> = Fragments::new(&all, 60)
            .expect("it is wide enough")
            .collect();
        assert!(fragments.iter().all(|f| f.meta.csum == Csum::Verified));
        assert_ne!(fragments[0].to_vec()[26..28], [5, 5]);
    }

    #[test]
    fn segments_are_cut_one_after_the_other() {
        let mut tcp = vec![0; 20];
        tcp[12] = 0x50;
        tcp.extend([1; 250]);
        let mut all = packet(&tcp, &[], 0, Ipv4Flags::NONE);
        all.head_mut()[9] = 6;
        all.meta.gso = Some(Gso {
            kind: GsoKind::Tcp4,
            segment_size: 100,
        });
        let fragments: Vec<_> = Fragments::new(&all, 100)
            .expect("it is wide enough")
            .collect();
        let headers: Vec<_> = fragments
            .iter()
            .map(|f| Ipv4Header::parse(f.head()).expect("a good header"))
            .map(|h| (h.ident, h.fragment_offset, h.payload_len()))
            .collect();
        assert_eq!(
            headers,
            [
                (77, 0, 80),
                (77, 80, 40),
                (78, 0, 80),
                (78, 80, 40),
                (79, 0, 70)
            ]
        );
    }

    proptest! {
        #[test]
        fn fragments_cover_the_payload_in_order(
            data in prop::collection::vec(any::<u8>(), 0..3000),
            ip_mtu in 28usize..1600,
        ) {
            let all = packet(&data, &[], 0, Ipv4Flags::NONE);
            let fragments = Fragments::new(&all, ip_mtu).expect("it is wide enough");
            prop_assert_eq!(layout(fragments.collect(), ip_mtu), (data, false));
        }

        #[test]
        fn fragments_can_be_cut_again(
            data in prop::collection::vec(any::<u8>(), 600..2000),
            first in 576usize..1000, second in 28usize..576,
        ) {
            let all = packet(&data, &[], 0, Ipv4Flags::NONE);
            let twice = Fragments::new(&all, first)
                .expect("it is wide enough")
                .flat_map(|f| Fragments::new(&f, second).expect("it is wide enough"));
            prop_assert_eq!(layout(twice.collect(), second), (data, false));
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(
            mut bytes in prop::collection::vec(any::<u8>(), 0..200),
            ip_mtu in 0usize..300,
            gso in prop::option::of(1u16..100),
        ) {
            if let Some(first) = bytes.first_mut() {
                *first = 0x40 | (*first & 0xf);
            }
            let mut packet = Packet::incoming(bytes);
            packet.meta.gso = gso.map(|segment_size| Gso { kind: GsoKind::Tcp4, segment_size });
            if let Ok(fragments) = Fragments::new(&packet, ip_mtu) {
                prop_assert!(fragments.count() > 0);
            }
        }
    }
}

//! The virtio-net header: what a packet's metadata says, in the form in which TAP devices, packet
//! sockets and virtual machines exchange it.
//!
//! The layout is that of `struct virtio_net_hdr` in virtio 1.2, section 5.1.6, with its last field, in
//! little-endian order. What it says of a frame from outside is believed only as far as it cannot harm
//! anybody else: offsets are compared with the frame's own headers, and a checksum that is not where
//! TCP or UDP has it is filled in at once.

use super::buf::Packet;
use super::checksum;
use super::gso;
use super::header::ether::{self, EtherType};
use super::header::ipv6::{self, Ipv6Header};
use super::header::tcp::{TCP_CSUM_OFFSET, TCP_LEN};
use super::header::udp::{UDP_CHECKSUM_OFFSET, UDP_LEN};
use super::header::{HeaderError, IpProto, Ipv4Header, ipv4};
use super::meta::{Csum, Gso, GsoKind};

/// Bytes in the header.
pub(crate) const VIRTIO_HEADER_LEN: usize = 12;

/// The least payload of a segment: what Linux sends when a peer has announced the smallest MSS and
/// every TCP option is in use. A smaller one only multiplies frames.
pub(super) const MIN_SEGMENT_SIZE: u16 = 8;

/// The most datagrams in one frame: what Linux lets a program send at once (`UDP_MAX_SEGMENTS`). Each becomes a
/// frame of its own.
pub(super) const MAX_DATAGRAMS: usize = 128;

/// `flags`: the checksum is to be filled in.
const NEEDS_CSUM: u8 = 1;
/// `flags`: the checksum has been verified.
const DATA_VALID: u8 = 2;
/// `gso_type`: a frame that stands for itself.
const GSO_NONE: u8 = 0;
/// `gso_type`: TCP over IPv4.
const GSO_TCPV4: u8 = 1;
/// `gso_type`: TCP over IPv6.
const GSO_TCPV6: u8 = 4;
/// `gso_type`: datagrams of UDP, over IPv4 or IPv6.
const GSO_UDP_L4: u8 = 5;
/// `gso_type`, in addition: TCP with ECN. CWR is in the first segment only, which holds for all.
const GSO_ECN: u8 = 0x80;

impl Packet {
    /// The virtio-net header of a frame from a [`Port`](crate::Port), for a device or a guest that
    /// segments and sums by itself: what the interface's [`Offload`](crate::Offload) left undone is
    /// said there (virtio 1.2, section 5.1.6; little-endian). The checksum field in the bytes is made
    /// what such a device starts from: the sum of the pseudo-header.
    ///
    /// `None` when the frame's headers are not those that would be segmented or summed: it is
    /// malformed, and to be dropped.
    pub fn virtio_header(&mut self) -> Option<[u8; 12]> {
        write(self).ok()
    }
}

/// Reads a header into the metadata of the frame that it came with.
///
/// # Errors
/// The header does not describe the frame, or asks for what is not offered.
pub(crate) fn read(
    header: &[u8; VIRTIO_HEADER_LEN],
    frame: &mut Packet,
) -> Result<(), HeaderError> {
    let [flags, gso_type, ..] = *header;
    let field = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    // Bytes 2 and 3 are a hint how long the headers are, which the frame itself says.
    let (gso_size, start, offset) = (field(4), field(6), field(8));
    // Where the network header of a frame begins whose checksum is left open.
    let mut open = None;
    if flags & NEEDS_CSUM != 0 {
        let network = ether::network_offset(frame);
        match transport_of(frame, network) {
            Some((transport, at, end)) if (transport, at) == (start.into(), offset) => {
                // What is behind the IP packet is not summed.
                frame.truncate(end);
                frame.meta.csum = Csum::Partial {
                    start: start - network as u16,
                    offset,
                };
                open = Some(network);
            }
            _ => fill_in(frame, start.into(), offset.into())?,
        }
    } else if flags & DATA_VALID != 0 {
        frame.meta.csum = Csum::Verified;
    }
    let kind = match gso_type & !GSO_ECN {
        GSO_NONE if gso_type == GSO_NONE => return Ok(()),
        GSO_UDP_L4 if gso_type == GSO_UDP_L4 => GsoKind::Udp,
        GSO_TCPV4 => GsoKind::Tcp4,
        GSO_TCPV6 => GsoKind::Tcp6,
        _ => return Err(HeaderError::WrongFormat),
    };
    // Whoever cuts a segment fills in the checksums of the pieces.
    let network = open.ok_or(HeaderError::BadChecksum)?;
    stand_for_several(frame, network, kind, gso_size)
}

/// The header of a frame that leaves, whose checksum field is made ready for the device.
///
/// # Errors
/// The frame's headers are not those that its metadata speaks of.
pub(crate) fn write(frame: &mut Packet) -> Result<[u8; VIRTIO_HEADER_LEN], HeaderError> {
    let (mut flags, mut gso_type) = (0, GSO_NONE);
    // Bytes 2 to 9: the length of the headers, the payload of a segment, where the checksum begins,
    // and where it goes from there.
    let mut fields = [0u16; 4];
    let network = match frame.meta.csum {
        Csum::Partial { .. } => ether::network_offset(frame),
        _ if frame.meta.gso.is_some() => return Err(HeaderError::BadChecksum),
        _ => 0,
    };
    checksum::leave_to_device(frame, network)?;
    match frame.meta.csum {
        Csum::Unknown => {}
        Csum::Verified => flags = DATA_VALID,
        Csum::Partial { start, offset } => {
            flags = NEEDS_CSUM;
            fields[2] = network as u16 + start;
            fields[3] = offset;
        }
    }
    if let Some(gso) = frame.meta.gso {
        let headers = gso::headers(frame, network)?;
        gso_type = match gso.kind {
            GsoKind::Tcp4 => GSO_TCPV4,
            GsoKind::Tcp6 => GSO_TCPV6,
            GsoKind::Udp => GSO_UDP_L4,
        };
        if headers.cwr {
            gso_type |= GSO_ECN;
        }
        fields[0] = headers.len as u16;
        fields[1] = gso.segment_size;
    }
    let mut header = [0; VIRTIO_HEADER_LEN];
    header[0] = flags;
    header[1] = gso_type;
    for (bytes, field) in header[2..10].chunks_exact_mut(2).zip(fields) {
        bytes.copy_from_slice(&field.to_le_bytes());
    }
    Ok(header)
}

/// Where the transport header of a frame that carries TCP or UDP begins, where its checksum is from
/// there, and where the IP packet ends.
fn transport_of(frame: &mut Packet, network: usize) -> Option<(usize, u16, usize)> {
    let head = frame.pull_up(network + 1)?;
    let (proto, transport, end) = match EtherType::at(head, network - 2) {
        EtherType::IPV4 => {
            let transport = network + ipv4::header_len(&head[network..]).ok()?;
            let head = frame.pull_up(transport)?;
            let ip = Ipv4Header::parse(&head[network..]).ok()?;
            if ip.is_fragment() {
                return None;
            }
            (ip.proto, transport, network + usize::from(ip.total_len))
        }
        EtherType::IPV6 => {
            let head = frame.pull_up(network + ipv6::MIN_LEN)?;
            let ip = Ipv6Header::parse(&head[network..]).ok()?;
            let (proto, at) = ipv6::transport(frame, network)?;
            let end = network + ipv6::MIN_LEN + usize::from(ip.payload_len);
            (proto, network + at, end)
        }
        _ => return None,
    };
    let (offset, least) = match proto {
        IpProto::TCP => (TCP_CSUM_OFFSET, TCP_LEN),
        IpProto::UDP => (UDP_CHECKSUM_OFFSET, UDP_LEN),
        _ => return None,
    };
    if end > frame.len() || transport + least > end {
        return None;
    }
    Some((transport, offset, end))
}

/// Fills in a checksum that is somewhere else: of an inner header of a tunnel, of another protocol.
#[cold]
fn fill_in(frame: &mut Packet, start: usize, offset: usize) -> Result<(), HeaderError> {
    let mut bytes = frame.to_vec();
    let field = start + offset..start + offset + 2;
    if field.end > bytes.len() {
        return Err(HeaderError::BadLength);
    }
    // What is in the field already is part of the sum: the pseudo-header's.
    let value = match checksum::of(&bytes[start..]) {
        // The checksum of zero means none where there may be none (RFC 768), and is the same sum.
        0 => 0xffff,
        value => value,
    };
    bytes[field].copy_from_slice(&value.to_be_bytes());
    let mut filled = Packet::incoming(bytes);
    filled.meta = frame.meta;
    *frame = filled;
    Ok(())
}

/// Makes a frame stand for the segments that its payload is cut to.
fn stand_for_several(
    frame: &mut Packet,
    network: usize,
    kind: GsoKind,
    segment_size: u16,
) -> Result<(), HeaderError> {
    if segment_size < MIN_SEGMENT_SIZE {
        return Err(HeaderError::BadLength);
    }
    let headers = gso::headers(frame, network)?;
    if headers.kind != kind {
        return Err(HeaderError::WrongFormat);
    }
    let payload = frame.len().saturating_sub(headers.len);
    if kind == GsoKind::Udp && payload > MAX_DATAGRAMS * usize::from(segment_size) {
        return Err(HeaderError::BadLength);
    }
    if payload > usize::from(segment_size) {
        frame.meta.gso = Some(Gso { kind, segment_size });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Payload;
    use proptest::prelude::*;

    /// A frame with `tags` VLAN tags and this protocol and transport bytes, and padding behind it.
    fn frame(tags: usize, proto: IpProto, transport: &[u8], padding: usize) -> Vec<u8> {
        let mut bytes = vec![2; 12];
        for _ in 0..tags {
            bytes.extend([0x81, 0, 0, 5]);
        }
        bytes.extend([8, 0]);
        let at = bytes.len();
        bytes.resize(at + 20, 0);
        let header = Ipv4Header::example(proto, transport.len());
        header.emit(&mut bytes[at..]);
        bytes.extend(transport);
        bytes.resize(bytes.len() + padding, 0);
        bytes
    }

    /// A TCP header with these flags, and `len` bytes behind it.
    fn segment(flags: u8, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; 20];
        bytes[12] = 0x50;
        bytes[13] = flags;
        bytes.extend((0..len).map(|n| n as u8));
        bytes
    }

    fn header(flags: u8, gso_type: u8, fields: [u16; 4]) -> [u8; VIRTIO_HEADER_LEN] {
        let mut header = [flags, gso_type, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        for (n, field) in fields.iter().enumerate() {
            header[2 + 2 * n..4 + 2 * n].copy_from_slice(&field.to_le_bytes());
        }
        header
    }

    #[test]
    fn a_large_segment_goes_out_as_it_came_in() {
        for tags in 0..3 {
            let network = 14 + 4 * tags as u16;
            let said = header(1, 0x81, [network + 40, 1000, network + 20, 16]);
            let bytes = frame(tags, IpProto::TCP, &segment(0x98, 3000), 0);
            let mut packet = Packet::incoming(bytes);
            assert_eq!(read(&said, &mut packet), Ok(()));
            assert_eq!(
                packet.meta.csum,
                Csum::Partial {
                    start: 20,
                    offset: 16
                }
            );
            assert_eq!(packet.meta.gso.map(|gso| gso.segment_size), Some(1000));
            assert_eq!(write(&mut packet), Ok(said), "{tags} tags");
        }
    }

    /// A TCP segment over IPv6, with `extensions` headers of options in front of it.
    fn frame6(extensions: usize, transport: &[u8]) -> Vec<u8> {
        let mut bytes = vec![2; 12];
        bytes.extend([0x86, 0xdd]);
        let named = |left: usize| {
            if left > 0 {
                IpProto::DESTINATION
            } else {
                IpProto::TCP
            }
        };
        bytes.resize(54, 0);
        let header = Ipv6Header {
            src: "2001:db8::1".parse().expect("an address"),
            dst: "2001:db8::2".parse().expect("an address"),
            next: named(extensions),
            hop_limit: 64,
            traffic_class: 0,
            flow_label: 0,
            payload_len: (8 * extensions + transport.len()) as u16,
        };
        header.emit(&mut bytes[14..]);
        for left in (0..extensions).rev() {
            bytes.extend([named(left).0, 0, 1, 4, 0, 0, 0, 0]);
        }
        bytes.extend(transport);
        bytes
    }

    #[test]
    fn a_large_segment_over_ipv6_goes_out_as_it_came_in() {
        for extensions in 0..3 {
            let start = 54 + 8 * extensions as u16;
            let said = header(1, 0x84, [start + 20, 1000, start, 16]);
            let bytes = frame6(extensions, &segment(0x98, 3000));
            let mut packet = Packet::incoming(bytes.clone());
            assert_eq!(read(&said, &mut packet), Ok(()));
            assert_eq!(packet.meta.gso.map(|gso| gso.kind), Some(GsoKind::Tcp6));
            assert_eq!(write(&mut packet), Ok(said), "{extensions} extensions");
            let lie = header(1, 0x81, [start + 20, 1000, start, 16]);
            assert!(read(&lie, &mut Packet::incoming(bytes)).is_err());
        }
    }

    /// A large TCP segment with so many tags and bytes of options, the header that describes it, and
    /// where its network header is.
    fn large(tags: usize, v6: bool, ip_options: usize, tcp_options: usize) -> (Vec<u8>, [u8; 12]) {
        let mut tcp = segment(0x18, tcp_options + 3000);
        tcp[12] = (((20 + tcp_options) / 4) << 4) as u8;
        let (mut bytes, network) = match v6 {
            true => (frame6(ip_options / 8, &tcp), 40 + ip_options / 8 * 8),
            false => {
                let mut bytes = frame(
                    0,
                    IpProto::TCP,
                    &[&vec![1; ip_options], &tcp[..]].concat(),
                    0,
                );
                bytes[14] = 0x40 | ((20 + ip_options) / 4) as u8;
                bytes[24..26].fill(0);
                let sum = checksum::of(&bytes[14..34 + ip_options]);
                bytes[24..26].copy_from_slice(&sum.to_be_bytes());
                (bytes, 20 + ip_options)
            }
        };
        for _ in 0..tags {
            bytes.splice(12..12, [0x81, 0, 0, 5]);
        }
        let start = (14 + 4 * tags + network) as u16;
        let len = start + 20 + tcp_options as u16;
        let kind = if v6 { 4 } else { 1 };
        (bytes, header(1, kind, [len, 1000, start, 16]))
    }

    #[test]
    fn a_large_segment_is_taken_whatever_options_it_has() {
        for tags in 0..3 {
            for (v6, most) in [(false, 40), (true, 16)] {
                for ip_options in (0..=most).step_by(8) {
                    for tcp_options in (0..=40).step_by(4) {
                        let case = (tags, v6, ip_options, tcp_options);
                        let (bytes, said) = large(tags, v6, ip_options, tcp_options);
                        let mut packet = Packet::incoming(bytes.clone());
                        assert_eq!(read(&said, &mut packet), Ok(()), "{case:?}");
                        assert_eq!(write(&mut packet), Ok(said), "{case:?}");
                        let network = ether::network_offset(&mut packet);
                        let mut cut = Vec::new();
                        let done = gso::segment(packet, network, &mut |mut piece| {
                            checksum::finish(&mut piece, network).unwrap();
                            cut.extend_from_slice(&piece.to_vec()[usize::from(field(&said, 0))..]);
                        });
                        assert_eq!(done, Ok(()), "{case:?}");
                        assert!(cut == bytes[usize::from(field(&said, 0))..], "{case:?}");
                    }
                }
            }
        }
    }

    /// A field of a header, counted from the length of the headers.
    fn field(header: &[u8; 12], nth: usize) -> u16 {
        u16::from_le_bytes([header[2 + 2 * nth], header[3 + 2 * nth]])
    }

    #[test]
    fn datagrams_in_one_frame_are_cut_in_either_version() {
        for v6 in [false, true] {
            let mut datagrams = vec![0x12, 0x34, 0x56, 0x78, 0, 0, 0, 0];
            datagrams.extend((0..2500).map(|n| n as u8));
            let (mut bytes, l4) = match v6 {
                false => (frame(1, IpProto::UDP, &datagrams, 0), 38),
                true => (frame6(0, &datagrams), 54),
            };
            if v6 {
                bytes[14 + 6] = IpProto::UDP.0;
            }
            let said = header(1, 5, [l4 + 8, 1000, l4, 6]);
            let mut packet = Packet::incoming(bytes.clone());
            assert_eq!(read(&said, &mut packet), Ok(()));
            assert_eq!(write(&mut packet.clone()), Ok(said));
            let network = ether::network_offset(&mut packet);
            let mut sizes = Vec::new();
            let mut payload = Vec::new();
            gso::segment(packet, network, &mut |mut piece| {
                checksum::finish(&mut piece, network).unwrap();
                let piece = piece.to_vec();
                let l4 = usize::from(l4);
                assert_eq!(piece[l4..l4 + 4], [0x12, 0x34, 0x56, 0x78]);
                let len = u16::from_be_bytes([piece[l4 + 4], piece[l4 + 5]]);
                assert_eq!(usize::from(len), piece.len() - l4);
                let mut said = Packet::incoming(piece.clone());
                assert_eq!(transport_of(&mut said, network), Some((l4, 6, piece.len())));
                sizes.push(len - 8);
                payload.extend_from_slice(&piece[l4 + 8..]);
            })
            .unwrap();
            assert_eq!(sizes, [1000, 1000, 500]);
            assert_eq!(payload, datagrams[8..]);
        }
    }

    #[test]
    fn what_stands_for_itself_is_not_cut() {
        let said = header(1, 1, [54, 1000, 34, 16]);
        let mut packet = Packet::incoming(frame(0, IpProto::TCP, &segment(0x18, 1000), 0));
        assert_eq!(read(&said, &mut packet), Ok(()));
        assert!(packet.meta.gso.is_none());
    }

    #[test]
    fn padding_is_not_summed() {
        let datagram = [0, 7, 0, 7, 0, 9, 0, 0, 1];
        let whole = |padding| {
            let mut packet = Packet::incoming(frame(0, IpProto::UDP, &datagram, padding));
            read(&header(1, 0, [0, 0, 34, 6]), &mut packet).unwrap();
            checksum::finish(&mut packet, 14).unwrap();
            packet.to_vec()
        };
        assert_eq!(whole(0), whole(17));
    }

    #[test]
    fn a_checksum_that_is_somewhere_else_is_filled_in() {
        // As of a protocol inside a tunnel: over the last 40 bytes, and in the last two of these.
        let inner: Vec<u8> = (0..100).collect();
        let bytes = frame(0, IpProto(47), &inner, 0);
        let len = bytes.len();
        let said = header(1, 0, [0, 0, (len - 40) as u16, 38]);
        let mut packet = Packet::incoming(bytes);
        assert_eq!(read(&said, &mut packet), Ok(()));
        assert_eq!(packet.meta.csum, Csum::Unknown);
        // The sum of all is zero but for what was in the field before: the pseudo-header's.
        assert_eq!(checksum::of(&packet.to_vec()[len - 40..]), 0x6263);
    }

    #[test]
    fn a_ping_leaves_with_its_checksum() {
        let mut packet = Packet::incoming(frame(0, IpProto::ICMP, &[8, 0, 0, 0, 0, 1, 0, 1], 0));
        packet.meta.csum = Csum::Partial {
            start: 20,
            offset: 2,
        };
        assert_eq!(write(&mut packet), Ok(header(2, 0, [0; 4])));
        assert_eq!(checksum::of(&packet.to_vec()[34..]), 0);
    }

    #[test]
    fn what_is_not_offered_is_refused() {
        let tcp = frame(0, IpProto::TCP, &segment(0x18, 3000), 0);
        let udp = frame(0, IpProto::UDP, &[0; 3000], 0);
        for (why, said, bytes) in [
            (
                "no checksum to fill in",
                header(0, 1, [54, 1000, 34, 16]),
                &tcp,
            ),
            (
                "a checksum known to be good",
                header(2, 1, [54, 1000, 34, 16]),
                &tcp,
            ),
            ("segments of nothing", header(1, 1, [54, 0, 34, 16]), &tcp),
            (
                "segments of seven bytes",
                header(1, 1, [54, 7, 34, 16]),
                &tcp,
            ),
            ("the wrong place", header(1, 1, [54, 1000, 33, 16]), &tcp),
            ("IPv6 that is IPv4", header(1, 4, [54, 1000, 34, 16]), &tcp),
            ("UDP that is TCP", header(1, 5, [54, 1000, 34, 16]), &tcp),
            ("UDP with ECN", header(1, 0x85, [42, 1000, 34, 6]), &udp),
            ("too many datagrams", header(1, 5, [42, 23, 34, 6]), &udp),
            ("fragments", header(1, 3, [42, 1000, 34, 6]), &udp),
            ("only ECN", header(1, 0x80, [54, 1000, 34, 16]), &tcp),
            ("beyond the end", header(1, 0, [0, 0, 60_000, 16]), &tcp),
            ("TCP that is UDP", header(1, 1, [42, 1000, 34, 6]), &udp),
        ] {
            let mut packet = Packet::incoming(bytes.clone());
            assert!(read(&said, &mut packet).is_err(), "{why}");
        }
    }

    /// `VNET_GUEST_CASES`, or as many as every run of the tests can have.
    fn cases() -> u32 {
        let asked = std::env::var("VNET_GUEST_CASES").ok();
        asked.map_or(50_000, |n| n.parse().expect("a number of cases"))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(cases()))]

        /// Whatever a header says of whatever frame: it is refused, or what is made of it can be cut,
        /// summed and sent, each piece of the bytes that were there.
        #[test]
        fn lies_are_bounded(
            said in any::<[u8; VIRTIO_HEADER_LEN]>(),
            flags in 0u8..4,
            kind in prop::sample::select(vec![0u8, 1, 4, 5, 0x81]),
            near in -3i16..4,
            tags in 0usize..4,
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            honest in any::<bool>(),
        ) {
            let mut said = said;
            let bytes = if honest { frame(tags, IpProto::TCP, &segment(0x18, 500), 9) } else { bytes };
            if honest {
                (said[0], said[1]) = (flags, kind);
                let start = (34 + 4 * tags as i16 + near) as u16;
                said[6..8].copy_from_slice(&start.to_le_bytes());
                said[8..10].copy_from_slice(&16u16.to_le_bytes());
            }
            let mut packet = Packet::incoming(bytes.clone());
            if read(&said, &mut packet).is_ok() {
                prop_assert!(packet.len() <= bytes.len());
                let _ = write(&mut packet.clone());
                let network = ether::network_offset(&mut packet);
                let mut left = packet.len();
                let mut pieces = 0;
                let _ = gso::segment(packet, network, &mut |mut piece| {
                    pieces += 1;
                    left = left.saturating_sub(piece.payload.len());
                    let _ = checksum::finish(&mut piece, network);
                });
                prop_assert!(pieces <= 1 + bytes.len() / usize::from(MIN_SEGMENT_SIZE));
            }
        }
    }

    #[test]
    fn every_length_of_frame_is_looked_at_safely() {
        let whole = frame(2, IpProto::TCP, &segment(0x18, 60), 0);
        for len in 0..=whole.len() {
            let mut packet = Packet::incoming(Payload::from(whole[..len].to_vec()));
            let _ = read(&header(1, 1, [62, 20, 42, 16]), &mut packet);
            let _ = write(&mut packet);
        }
    }
}

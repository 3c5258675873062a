use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::merge::ACK;
use super::*;
use crate::packet::checksum;
use crate::packet::header::{IpProto, Ipv4Flags};
use crate::packet::meta::Gso;

const L2: usize = 14;

/// A frame with an Ethernet header of fours and a TCP header of `32` bytes.
fn frame(seq: u32, flags: u8, data: &[u8], segment_size: Option<u16>) -> Packet {
    let mut packet = Packet::outgoing(Payload::from(data.to_vec()));
    let tcp = packet.prepend(32);
    tcp.fill(1);
    tcp[SEQ].copy_from_slice(&seq.to_be_bytes());
    tcp[DATA_OFFSET] = 0x80;
    tcp[FLAGS] = flags;
    let header = Ipv4Header {
        src: Ipv4Addr::new(10, 0, 0, 1),
        dst: Ipv4Addr::new(10, 0, 0, 2),
        proto: IpProto::TCP,
        ttl: 64,
        tos: 2,
        ident: 0xffff,
        flags: Ipv4Flags::DONT_FRAGMENT,
        fragment_offset: 0,
        total_len: (52 + data.len()) as u16,
        header_len: 20,
    };
    header.emit(packet.prepend(20));
    packet.prepend(L2).fill(4);
    packet.meta.csum = Csum::Partial {
        start: 20,
        offset: 16,
    };
    packet.meta.gso = segment_size.map(|segment_size| Gso {
        kind: GsoKind::Tcp4,
        segment_size,
    });
    packet
}

fn cut(packet: Packet) -> Vec<Packet> {
    let mut pieces = Vec::new();
    segment(packet, L2, &mut |piece| pieces.push(piece)).expect("the headers are right");
    pieces
}

fn merged(frames: Vec<Packet>) -> Vec<Packet> {
    let (mut gro, mut out) = (Gro::default(), Vec::new());
    for frame in frames {
        let frame = match gro.join(frame) {
            Ok(Joined::More) => continue,
            Ok(Joined::Last) => {
                out.extend(gro.take().map(|(whole, _)| whole));
                continue;
            }
            Err(frame) => frame,
        };
        out.extend(gro.take().map(|(whole, _)| whole));
        out.extend(gro.hold(frame, L2).err());
    }
    out.extend(gro.take().map(|(whole, _)| whole));
    out
}

/// Fills the checksum in and forgets where the frame came from.
fn through_a_wire(mut frame: Packet) -> Packet {
    checksum::finish(&mut frame, L2).expect("the offsets are right");
    Packet::incoming(frame.to_vec())
}

#[test]
fn flags_that_are_said_once_are_said_in_their_place() {
    let pieces = cut(frame(0, ACK | FIN | PSH | CWR, &[0; 25], Some(10)));
    let flags: Vec<_> = pieces.iter().map(|p| p.head()[L2 + 20 + FLAGS]).collect();
    assert_eq!(flags, [ACK | CWR, ACK, ACK | FIN | PSH]);
    let pieces = cut(frame(0, ACK | FIN | PSH | CWR, &[0; 10], Some(10)));
    assert_eq!(pieces[0].head()[L2 + 20 + FLAGS], ACK | FIN | PSH | CWR);
}

#[test]
fn a_packet_that_stands_for_itself_passes() {
    let whole = frame(0, ACK, &[0; 25], None);
    let before = whole.to_vec();
    let pieces = cut(whole);
    assert_eq!(pieces.len(), 1);
    assert_eq!(pieces[0].to_vec(), before);
}

#[test]
fn only_neighbours_of_one_flow_are_joined() {
    let at = |seq: u32, len: usize| through_a_wire(frame(seq, ACK, &vec![9; len], None));
    let sizes = |frames| -> Vec<_> { merged(frames).iter().map(|p| p.len() - 66).collect() };
    assert_eq!(sizes(vec![at(0, 10), at(10, 10), at(20, 4)]), [24]);
    assert_eq!(sizes(vec![at(0, 10), at(20, 10), at(10, 10)]), [10, 10, 10]);
    assert_eq!(sizes(vec![at(0, 4), at(4, 10)]), [4, 10]);
    assert_eq!(sizes(vec![at(0, 10), at(10, 4), at(14, 10)]), [14, 10]);
    let mut stranger = frame(10, ACK, &[9; 10], None);
    stranger.head_mut()[L2 + 20] = 77; // another source port
    assert_eq!(sizes(vec![at(0, 10), through_a_wire(stranger)]), [10, 10]);
    let fin = through_a_wire(frame(10, ACK | FIN, &[9; 10], None));
    assert_eq!(sizes(vec![at(0, 10), fin]), [10, 10]);
    let mut wrong = at(10, 10).to_vec();
    wrong[70] ^= 1;
    let wrong = Packet::incoming(wrong);
    assert_eq!(sizes(vec![at(0, 10), wrong]), [10, 10]);
}

#[test]
fn a_push_ends_the_packet() {
    let frames = vec![
        frame(0, ACK, &[1; 10], None),
        frame(10, ACK | PSH, &[2; 10], None),
        frame(20, ACK, &[3; 10], None),
    ];
    let out = merged(frames);
    assert_eq!(out.len(), 2);
    assert_eq!(out[0].head()[L2 + 20 + FLAGS], ACK | PSH);
}

proptest! {
    #[test]
    fn the_pieces_are_the_stream(
        data in prop::collection::vec(any::<u8>(), 0..5000),
        seq: u32,
        segment_size in 1u16..2000,
    ) {
        let pieces = cut(frame(seq, ACK | PSH, &data, Some(segment_size)));
        let mut stream = Vec::new();
        let count = pieces.len();
        prop_assert_eq!(count, data.len().div_ceil(usize::from(segment_size)).max(1));
        for (nth, piece) in pieces.into_iter().enumerate() {
            prop_assert!(piece.len() <= L2 + 52 + usize::from(segment_size));
            prop_assert!(piece.meta.gso.is_none());
            let mut piece = through_a_wire(piece);
            prop_assert_eq!(piece.pull_up(L2).map(|h| h.to_vec()), Some(vec![4; L2]));
            piece.strip(L2);
            let ip = Ipv4Header::parse(piece.pull_up(20).expect("a header"));
            let ip = ip.expect("a good header");
            prop_assert_eq!(usize::from(ip.total_len), piece.len());
            prop_assert_eq!(ip.ident, 0xffffu16.wrapping_add(nth as u16));
            piece.strip(20);
            prop_assert_eq!(
                checksum::verify_transport(&mut piece, &ip.info()), Ok(()));
            let tcp = piece.pull_up(32).expect("a header");
            prop_assert_eq!(seq_of(tcp), seq.wrapping_add(stream.len() as u32));
            prop_assert_eq!(tcp[FLAGS] & PSH != 0, nth + 1 == count);
            piece.strip(32);
            stream.extend(piece.to_vec());
        }
        prop_assert_eq!(stream, data);
    }

    #[test]
    fn joining_undoes_cutting(
        data in prop::collection::vec(any::<u8>(), 1..5000),
        seq: u32,
        segment_size in 1u16..2000,
    ) {
        let mut whole = frame(seq, ACK | PSH, &data, Some(segment_size));
        let pieces = cut(whole.clone()).into_iter().map(through_a_wire).collect();
        let mut back = merged(pieces);
        prop_assert_eq!(back.len(), 1);
        let back = &mut back[0];
        if data.len() > usize::from(segment_size) {
            prop_assert_eq!(back.meta.gso, whole.meta.gso);
        }
        checksum::finish(back, L2).expect("the offsets are right");
        checksum::finish(&mut whole, L2).expect("the offsets are right");
        prop_assert_eq!(back.to_vec(), whole.to_vec());
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..160),
        l3 in 0usize..20,
        segment_size: u16,
        plausible: bool,
    ) {
        let mut bytes = bytes;
        if plausible && bytes.len() > l3 + 9 {
            bytes[l3] = 0x45;
            bytes[l3 + 6] = 0;
            bytes[l3 + 7] = 0;
            bytes[l3 + 9] = 6;
        }
        let mut gro = Gro::default();
        let is_held = gro.hold(Packet::incoming(bytes.clone()), l3).is_ok();
        let _ = gro.join(Packet::incoming(bytes.clone()));
        prop_assert_eq!(gro.take().is_some(), is_held);
        prop_assert!(gro.is_empty());
        let mut packet = Packet::incoming(bytes);
        packet.meta.gso = Some(Gso { kind: GsoKind::Tcp4, segment_size });
        let _ = segment(packet, l3, &mut |_| ());
    }
}

#[test]
fn segments_over_ipv6_are_as_long_as_their_headers_say() {
    let header = |payload_len: usize| ipv6::Ipv6Header {
        src: "2001:db8::1".parse().expect("an address"),
        dst: "2001:db8::2".parse().expect("an address"),
        next: IpProto::DESTINATION,
        hop_limit: 64,
        traffic_class: 0x42,
        flow_label: 0x1_2345,
        payload_len: payload_len as u16,
    };
    let data: Vec<u8> = (0..=255).collect();
    let mut packet = Packet::outgoing(Payload::from(data.clone()));
    let tcp = packet.prepend(20);
    tcp.fill(1);
    tcp[DATA_OFFSET] = 0x50;
    tcp[FLAGS] = ACK | PSH;
    let options = packet.prepend(8);
    options.copy_from_slice(&[IpProto::TCP.0, 0, 1, 4, 0, 0, 0, 0]);
    header(28 + data.len()).emit(packet.prepend(ipv6::MIN_LEN));
    packet.meta.csum = Csum::Partial {
        start: 48,
        offset: 16,
    };
    let gso = |kind| Gso {
        kind,
        segment_size: 100,
    };
    packet.meta.gso = Some(gso(GsoKind::Tcp4));
    let refused = segment(packet.clone(), 0, &mut |_| panic!("it is of another kind"));
    assert_eq!(refused, Err(HeaderError::WrongFormat));
    packet.meta.gso = Some(gso(GsoKind::Tcp6));
    assert_eq!(longest_packet(&mut packet), 168);
    let mut pieces = Vec::new();
    segment(packet, 0, &mut |piece| pieces.push(piece)).expect("the headers are right");
    let mut carried = Vec::new();
    for (n, piece) in pieces.iter_mut().enumerate() {
        checksum::finish(piece, 0).expect("the offsets are right");
        let bytes = piece.to_vec();
        assert_eq!(
            ipv6::Ipv6Header::parse(&bytes),
            Ok(header(bytes.len() - 40))
        );
        let tcp = smoltcp::wire::TcpPacket::new_unchecked(&bytes[48..]);
        let (src, dst) = (header(0).src.into(), header(0).dst.into());
        assert!(tcp.verify_checksum(&src, &dst));
        assert_eq!(seq_of(&bytes[48..]), 0x0101_0101 + 100 * n as u32);
        assert_eq!(tcp.psh(), n == 2, "only the last is pushed");
        carried.extend(&bytes[68..]);
    }
    assert_eq!((pieces.len(), carried), (3, data));
}

#[test]
fn joining_undoes_cutting_over_ipv6() {
    let header = |payload_len: usize| ipv6::Ipv6Header {
        src: "2001:db8::1".parse().expect("an address"),
        dst: "2001:db8::2".parse().expect("an address"),
        next: IpProto::TCP,
        hop_limit: 64,
        traffic_class: 1,
        flow_label: 7,
        payload_len: payload_len as u16,
    };
    let whole = |data: &[u8], segment_size| {
        let mut packet = Packet::outgoing(Payload::from(data.to_vec()));
        let tcp = packet.prepend(20);
        tcp.fill(1);
        tcp[DATA_OFFSET] = 0x50;
        tcp[FLAGS] = ACK | PSH;
        header(20 + data.len()).emit(packet.prepend(ipv6::MIN_LEN));
        packet.prepend(L2).fill(4);
        packet.meta.csum = Csum::Partial {
            start: 40,
            offset: 16,
        };
        packet.meta.gso = Some(Gso {
            kind: GsoKind::Tcp6,
            segment_size,
        });
        packet
    };
    let data: Vec<u8> = (0..=255).cycle().take(1000).collect();
    let pieces = cut(whole(&data, 300));
    assert_eq!(pieces.len(), 4);
    let mut back = merged(pieces.into_iter().map(through_a_wire).collect());
    assert_eq!(back.len(), 1);
    assert_eq!(back[0].meta.gso, whole(&data, 300).meta.gso);
    let mut whole_again = whole(&data, 300);
    for packet in [&mut back[0], &mut whole_again] {
        checksum::finish(packet, L2).expect("the offsets are right");
    }
    assert_eq!(back[0].to_vec(), whole_again.to_vec());
    // Another flow label is another flow.
    let mut pieces = cut(whole(&data, 500));
    pieces[1].head_mut()[L2 + 3] = 8;
    assert_eq!(merged(pieces).len(), 2);
}

/// A datagram that leaves, with an Ethernet header of fours.
#[derive(Clone, Debug)]
struct Leaving {
    v6: bool,
    len: usize,
    port: u8,
    ident: u16,
    dont_fragment: bool,
    /// What keeps it apart from all others.
    oddity: u8,
}

impl Leaving {
    fn frame(&self, nth: usize) -> Packet {
        let data: Vec<u8> = (0..self.len).map(|at| (at * 7 + nth) as u8).collect();
        let mut packet = Packet::outgoing(Payload::from(data));
        let udp_len = (UDP_LEN + self.len) as u16;
        let udp = packet.prepend(UDP_LEN);
        udp.copy_from_slice(&[1, 2, 3, self.port, 0, 0, 0, 0]);
        udp[LEN].copy_from_slice(&udp_len.to_be_bytes());
        let network = match self.v6 {
            true => {
                let ip = packet.prepend(ipv6::MIN_LEN);
                ip.fill(0);
                ip[0] = 0x60;
                ip[4..6].copy_from_slice(&udp_len.to_be_bytes());
                ip[6] = IpProto::UDP.0;
                ip[7] = 64 - u8::from(self.oddity == 1);
                [ip[8], ip[24]] = [0x20, 0x20];
                ipv6::MIN_LEN
            }
            false => {
                let header = Ipv4Header {
                    src: Ipv4Addr::new(192, 0, 2, 1),
                    dst: Ipv4Addr::new(192, 0, 2, 2),
                    proto: IpProto::UDP,
                    ttl: 64 - u8::from(self.oddity == 1),
                    tos: 0,
                    ident: self.ident,
                    flags: match (self.dont_fragment, self.oddity) {
                        (true, _) => Ipv4Flags::DONT_FRAGMENT,
                        (false, 2) => Ipv4Flags::MORE_FRAGMENTS,
                        (false, _) => Ipv4Flags::NONE,
                    },
                    fragment_offset: 0,
                    total_len: 20 + udp_len,
                    header_len: 20,
                };
                header.emit(packet.prepend(20));
                20
            }
        };
        packet.prepend(L2).fill(4);
        let ether_type = if self.v6 { [0x86, 0xdd] } else { [8, 0] };
        packet.head_mut()[12..L2].copy_from_slice(&ether_type);
        packet.meta.csum = match self.oddity {
            3 => Csum::Unknown,
            _ => Csum::Partial {
                start: network as u16,
                offset: UDP_CHECKSUM_OFFSET,
            },
        };
        packet
    }
}

/// What is on the wire of a frame. The identification of what may not be fragmented means nothing (RFC 6864, section 4.1).
fn on_the_wire(mut frame: Packet) -> Vec<u8> {
    checksum::finish(&mut frame, L2).expect("the offsets are right");
    let mut bytes = frame.to_vec();
    if bytes[12] == 8 && ipv4::dont_fragment(&bytes[L2..]) {
        ipv4::set_len_and_ident(&mut bytes[L2..], frame.len() as u16 - L2 as u16, 0);
    }
    bytes
}

/// Frames, as many joined as can be.
fn joined(frames: impl Iterator<Item = Packet>) -> Vec<Packet> {
    let mut out: Vec<Packet> = Vec::new();
    for frame in frames {
        let left = match out.last_mut() {
            Some(last) => last.join(frame).err(),
            None => Some(frame),
        };
        out.extend(left);
    }
    out
}

fn leaving(v6: bool, len: usize, nth: u16) -> Leaving {
    let ident = 0xfff0u16.wrapping_add(nth);
    Leaving {
        v6,
        len,
        port: 1,
        ident,
        dont_fragment: false,
        oddity: 0,
    }
}

#[test]
fn datagrams_that_leave_one_after_another_are_joined() {
    for v6 in [false, true] {
        let sizes = |lens: &[usize]| -> Vec<(usize, Option<u16>)> {
            let frames = lens.iter().enumerate();
            let frames = frames.map(|(nth, len)| leaving(v6, *len, nth as u16).frame(nth));
            let headers = L2 + if v6 { 40 } else { 20 } + UDP_LEN;
            let of = |p: &Packet| (p.len() - headers, p.meta.gso.map(|gso| gso.segment_size));
            joined(frames).iter().map(of).collect()
        };
        assert_eq!(sizes(&[100, 100, 40]), [(240, Some(100))]);
        // The last may be shorter, and nothing comes behind it; none may be longer.
        assert_eq!(sizes(&[100, 40, 40]), [(140, Some(100)), (40, None)]);
        assert_eq!(sizes(&[100, 101]), [(100, None), (101, None)]);
        // What is too short multiplies frames; what is empty adds nothing.
        assert_eq!(sizes(&[7, 7]), [(7, None), (7, None)]);
        assert_eq!(sizes(&[64, 0, 64]), [(64, None), (0, None), (64, None)]);
        let many = sizes(&[64; 130]);
        assert_eq!(many, [(128 * 64, Some(64)), (128, Some(64))]);
        // No packet is longer than IP can say.
        let long: Vec<_> = sizes(&[9000; 8]).iter().map(|(len, _)| *len).collect();
        assert_eq!(long, [63_000, 9000]);
    }
}

proptest! {
    /// Whatever leaves, a device that cuts what was joined puts the same on the wire.
    #[test]
    fn joined_datagrams_are_cut_to_what_they_were(
        steps in prop::collection::vec(
            (0usize..4, 0u8..12, 0u8..8, any::<bool>(), 0u8..20), 1..60,
        ),
        v6 in any::<bool>(),
        length in 8usize..3000,
    ) {
        let mut ident = 7u16;
        let all: Vec<Leaving> = steps.iter().map(|&(shorter, port, jump, dont_fragment, oddity)| {
            ident = ident.wrapping_add(if jump == 0 { 5 } else { 1 });
            Leaving {
                v6: v6 ^ (oddity == 19),
                len: length - shorter / 3 * 5,
                port: port / 11,
                ident,
                dont_fragment: dont_fragment && jump % 2 == 0,
                oddity,
            }
        }).collect();
        let frames = || all.iter().enumerate().map(|(nth, one)| one.frame(nth));
        let whole: Vec<_> = frames().map(on_the_wire).collect();
        let cut: Vec<_> = joined(frames()).into_iter().flat_map(cut).map(on_the_wire).collect();
        prop_assert_eq!(cut, whole);
    }
}

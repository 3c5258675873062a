use proptest::prelude::*;

use super::*;
use crate::base::rng::Rng;
use crate::ip::Outgoing;
use crate::ip::testing::{Surroundings, addressed, from_wire, header, interfaces, received};
use crate::ip::v4::fragment::Fragments;
use crate::ip::versions::Fit;
use crate::packet::header::{IpProto, Ipv4Flags};
use crate::packet::{Payload, checksum};

struct Bench {
    around: Surroundings,
    state: IpState<V4>,
    ingress: Ingress,
}

/// What becomes of a packet.
#[derive(Debug)]
enum Verdict {
    Local {
        info: IpInfo,
        cast: Cast,
        packet: Packet,
    },
    Forward {
        packet: Packet,
    },
    Held,
    Drop(DropReason),
}

impl Bench {
    /// A vnet with 10.0.0.1/24 and 10.0.1.1/24, and packets coming in at the first.
    fn new() -> Bench {
        let [a, b] = interfaces();
        Bench {
            around: Surroundings::new(),
            state: addressed(&[(a, "10.0.0.1/24"), (b, "10.0.1.1/24")]),
            ingress: from_wire(a),
        }
    }

    fn router() -> Bench {
        let mut bench = Bench::new();
        bench.state.tunables.forwarding = Forwarding::Enabled;
        bench
    }

    /// Asks one question after the other, as `stack/rx.rs` does.
    fn take(&mut self, mut packet: Packet) -> Verdict {
        let (state, ingress) = (&mut self.state, self.ingress);
        let header = match check(state, ingress, &mut packet) {
            Ok(header) => header,
            Err(reason) => return Verdict::Drop(reason),
        };
        let cast = match V4::destination(state, ingress, &header) {
            Ok(Destination::Local(cast)) => cast,
            Ok(Destination::Other) => return Verdict::Forward { packet },
            Err(reason) => return Verdict::Drop(reason),
        };
        packet.strip(usize::from(header.header_len));
        let (info, packet) = match header.is_fragment() {
            false => (header.info(), packet),
            true => {
                match V4::reassemble(&mut self.around.cx(), state, ingress, &header, cast, packet) {
                    Reassembled::Whole(info, packet) => (info, packet),
                    Reassembled::Held => return Verdict::Held,
                    Reassembled::Drop(reason) => return Verdict::Drop(reason),
                }
            }
        };
        Verdict::Local { info, cast, packet }
    }

    /// What becomes of a packet between these addresses, in a word.
    fn fate(&mut self, src: &str, dst: &str) -> String {
        match self.take(received(&header(src, dst, 4), b"data")) {
            Verdict::Local { cast, packet, .. } => {
                assert_eq!(packet.to_vec(), b"data");
                format!("{cast:?}")
            }
            Verdict::Forward { packet, .. } => {
                assert_eq!((packet.len(), packet.head().len()), (24, 20));
                "forward".to_owned()
            }
            Verdict::Held => "held".to_owned(),
            Verdict::Drop(reason) => reason.to_string(),
        }
    }
}

#[test]
fn destinations() {
    for (dst, host, router) in [
        ("10.0.0.1", "Unicast", "Unicast"),
        ("10.0.1.1", "Unicast", "Unicast"), // the weak host model
        ("10.0.0.255", "Broadcast", "Broadcast"),
        ("10.0.1.255", "Broadcast", "Broadcast"),
        ("255.255.255.255", "Broadcast", "Broadcast"),
        ("224.0.0.1", "Multicast", "Multicast"),
        ("239.1.1.1", "not-for-us", "not-for-us"),
        ("10.0.0.2", "not-forwarding", "forward"),
        ("192.0.2.1", "not-forwarding", "forward"),
        ("169.254.1.1", "not-forwarding", "martian"),
        ("127.0.0.1", "martian", "martian"),
        ("0.0.0.0", "martian", "martian"),
        ("241.0.0.1", "martian", "martian"),
    ] {
        assert_eq!(Bench::new().fate("10.0.0.9", dst), host, "{dst}");
        assert_eq!(Bench::router().fate("10.0.0.9", dst), router, "{dst}");
    }
}

#[test]
fn sources() {
    for (src, expected) in [
        ("10.0.0.9", "Unicast"),
        ("169.254.1.1", "Unicast"),
        ("10.0.0.1", "martian"), // that is us
        ("10.0.0.255", "martian"),
        ("255.255.255.255", "martian"),
        ("224.0.0.1", "martian"),
        ("127.0.0.1", "martian"),
        ("0.0.0.0", "martian"),
        ("0.0.0.9", "martian"),
        ("250.0.0.1", "martian"),
    ] {
        assert_eq!(Bench::router().fate(src, "10.0.0.1"), expected, "{src}");
    }
    // DHCP: a host without an address speaks to everyone on its link, and no further.
    assert_eq!(Bench::new().fate("0.0.0.0", "255.255.255.255"), "Broadcast");
    assert_eq!(Bench::router().fate("169.254.1.1", "192.0.2.1"), "martian");
}

#[test]
fn over_loopback_we_may_speak_to_ourselves() {
    let mut bench = Bench::new();
    bench.ingress.medium = Medium::Loopback;
    assert_eq!(bench.fate("127.0.0.1", "127.0.0.5"), "Unicast");
    assert_eq!(bench.fate("10.0.0.1", "10.0.0.1"), "Unicast");
}

#[test]
fn a_frame_for_everyone_must_hold_a_packet_for_everyone() {
    for cast in [Cast::Broadcast, Cast::Multicast] {
        let mut bench = Bench::router();
        bench.ingress.cast = cast;
        assert_eq!(bench.fate("10.0.0.9", "10.0.0.1"), "not-for-us");
        assert_eq!(bench.fate("10.0.0.9", "192.0.2.1"), "not-for-us");
        assert_eq!(bench.fate("10.0.0.9", "10.0.0.255"), "Broadcast");
    }
}

#[test]
fn padding_is_cut_off_and_a_short_packet_refused() {
    let header = header("10.0.0.9", "10.0.0.1", 4);
    let mut bench = Bench::new();
    let padded = received(&header, b"data and padding");
    match bench.take(padded) {
        Verdict::Local { packet, .. } => assert_eq!(packet.to_vec(), b"data"),
        other => panic!("{other:?}"),
    }
    let short = bench.take(received(&header, b"dat"));
    assert!(matches!(short, Verdict::Drop(DropReason::Malformed)));
}

#[test]
fn checksums_are_verified_only_when_unknown() {
    let mut bytes = received(&header("10.0.0.9", "10.0.0.1", 4), b"data").to_vec();
    bytes[8] ^= 1;
    let mut bench = Bench::new();
    let unknown = bench.take(Packet::incoming(bytes.clone()));
    assert!(matches!(unknown, Verdict::Drop(DropReason::BadChecksum)));
    let mut trusted = Packet::incoming(bytes);
    trusted.meta.csum = Csum::Verified;
    assert!(matches!(bench.take(trusted), Verdict::Local { .. }));
}

#[test]
fn a_source_route_is_refused_and_other_options_are_ignored() {
    for (kind, refused) in [(131, true), (137, true), (7, false)] {
        let options = [kind, 7, 4, 1, 2, 3, 4, 0];
        let mut bytes = received(&header("10.0.0.9", "10.0.0.1", 8), &options).to_vec();
        bytes[0] = 0x47;
        let mut packet = Packet::incoming(bytes);
        packet.meta.csum = Csum::Verified;
        match Bench::new().take(packet) {
            Verdict::Drop(DropReason::SourceRoute) => assert!(refused),
            Verdict::Local { packet, .. } => assert!(!refused && packet.is_empty()),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn fragments_for_us_are_joined_and_others_forwarded() {
    let data: Vec<u8> = (0..100).collect();
    for (dst, forwarded) in [("10.0.0.1", 0), ("192.0.2.1", 3)] {
        let mut bench = Bench::router();
        let packet = received(&header("10.0.0.9", dst, data.len()), &data);
        let fragments = Fragments::new(&packet, 60).expect("it is wide enough");
        let (mut held, mut passed) = (0, 0);
        for fragment in fragments {
            match bench.take(Packet::incoming(fragment.to_vec())) {
                Verdict::Held => held += 1,
                Verdict::Forward { .. } => passed += 1,
                Verdict::Local { packet, .. } => {
                    assert_eq!(held, 2);
                    assert_eq!(packet.to_vec(), data);
                }
                Verdict::Drop(reason) => panic!("{reason}"),
            }
        }
        assert_eq!(passed, forwarded);
        assert!(bench.state.reassembly.is_empty());
    }
}

#[test]
fn every_truncation_is_a_counted_drop() {
    let whole = received(&header("10.0.0.9", "10.0.0.1", 30), &[1; 30]).to_vec();
    for len in 0..whole.len() {
        let verdict = Bench::new().take(Packet::incoming(whole[..len].to_vec()));
        assert!(
            matches!(verdict, Verdict::Drop(DropReason::Malformed)),
            "{len} bytes: {verdict:?}"
        );
    }
}

proptest! {
    /// Down one vnet and up another, with a narrow link between them.
    #[test]
    fn a_datagram_survives_the_way(
        data in prop::collection::vec(any::<u8>(), 0..3000),
        ip_mtu in 28usize..1600,
        order in any::<u64>(),
        memory: bool,
    ) {
        let mut sender = IpState::new(&mut Rng::seeded(order));
        let (src, dst) = (Ipv4Addr::new(10, 0, 0, 9), Ipv4Addr::new(10, 0, 0, 1));
        let mut packet = Packet::outgoing(Payload::from(data.clone()));
        let udp = packet.prepend(8);
        udp.fill(0);
        packet.meta.csum = Csum::Partial { start: 0, offset: 6 };
        let to = Outgoing::new(src.into(), dst.into(), IpProto::UDP);
        output::prepend(&mut sender, src, dst, &to, &mut packet).expect("it is short");
        let mut pieces: Vec<Packet> = match output::fit(packet, ip_mtu) {
            Fit::Whole(mut packet) => {
                checksum::finish(&mut packet, 0).expect("the offsets are right");
                vec![packet]
            }
            Fit::Fragments(fragments) => fragments.collect(),
            Fit::Pieces(_) | Fit::TooBig(_) => panic!("it may be cut"),
        };
        let mut bench = Bench::new();
        let mut rng = Rng::seeded(order);
        let mut arrived = None;
        while !pieces.is_empty() {
            let mut next = pieces.swap_remove(rng.below(pieces.len() as u32) as usize);
            prop_assert!(next.len() <= ip_mtu);
            if !memory {
                next = Packet::incoming(next.to_vec());
            }
            match bench.take(next) {
                Verdict::Held => prop_assert!(!pieces.is_empty()),
                Verdict::Local { info, packet, .. } => {
                    prop_assert!(pieces.is_empty());
                    prop_assert_eq!(packet.meta.csum == Csum::Verified, memory);
                    arrived = Some((info, packet));
                }
                other => panic!("{other:?}"),
            }
        }
        let (info, mut packet) = arrived.expect("all pieces were delivered");
        packet.meta.csum = Csum::Unknown;
        let sum = checksum::verify_transport(&mut packet, &info);
        prop_assert_eq!(sum, Ok(()));
        prop_assert_eq!(packet.to_vec().split_off(8), data);
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..120),
        known: bool, to_us: bool, start: u16, offset: u16,
    ) {
        let mut bytes = bytes;
        if to_us && bytes.len() >= 20 {
            bytes[0] = 0x40 | (bytes[0] & 0xf);
            bytes[2] = 0;
            bytes[12..16].copy_from_slice(&[10, 0, 0, 9]);
            bytes[16..20].copy_from_slice(&[10, 0, 0, 1]);
        }
        let mut packet = Packet::incoming(bytes);
        if known {
            packet.meta.csum = Csum::Partial { start, offset };
        }
        let mut bench = Bench::router();
        if let Verdict::Local { packet, .. } = bench.take(packet) {
            prop_assert!(packet.len() <= 100);
        }
    }

    #[test]
    fn one_wrong_byte_does_not_panic(at in 0usize..40, value: u8, flags: u8) {
        let mut header = header("10.0.0.9", "10.0.0.1", 30);
        if flags & 1 != 0 {
            header.flags = Ipv4Flags::MORE_FRAGMENTS;
        }
        let mut bytes = received(&header, &[1; 30]).to_vec();
        bytes[at] = value;
        let mut packet = Packet::incoming(bytes);
        packet.meta.csum = Csum::Verified;
        let _ = Bench::router().take(packet);
    }
}

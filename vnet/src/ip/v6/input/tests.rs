use proptest::prelude::*;

use super::*;
use crate::ip::testing::{Surroundings, addressed, fixed6, from_wire, interfaces, ip6, received6};
use crate::packet::header::ipv6::{FRAGMENT_LEN, Piece};

struct Bench {
    around: Surroundings,
    state: IpState<V6>,
    ingress: Ingress,
}

impl Bench {
    /// A vnet with 2001:db8:1::1/64 and fe80::1 on its first interface, where packets come in, and
    /// 2001:db8:2::1/64 and fe80::1 on its second.
    fn new() -> Bench {
        let [a, b] = interfaces();
        let mut state = addressed::<V6>(&[
            (a, "2001:db8:1::1/64"),
            (a, "fe80:1::1/64"),
            (b, "2001:db8:2::1/64"),
            (b, "fe80:2::2/64"),
        ]);
        // As whoever gives an interface an address does.
        for addr in state.addrs.iter() {
            let group = crate::ip::v6::solicited_node(addr.addr());
            state.groups.join(group, addr.ifid);
        }
        Bench {
            around: Surroundings::new(),
            state,
            ingress: from_wire(a),
        }
    }

    /// Asks one question after the other, as `stack/rx.rs` does.
    fn take(&mut self, mut packet: Packet) -> String {
        let (state, ingress) = (&mut self.state, self.ingress);
        let mut header = match check(state, ingress, &mut packet) {
            Ok(header) => header,
            Err(reason) => return reason.to_string(),
        };
        let cast = match V6::destination(state, ingress, &header) {
            Ok(Destination::Local(cast)) => cast,
            Ok(Destination::Other) => return "forward".to_owned(),
            Err(reason) => return reason.to_string(),
        };
        if let Err(error) = V6::open(cast, &mut header, &mut packet) {
            return format!("{error:?}");
        }
        V6::strip(&header, &mut packet);
        if !V6::is_fragment(&header) {
            return format!("{cast:?} {} {}", header.proto.0, packet.len());
        }
        match V6::reassemble(&mut self.around.cx(), state, ingress, &header, cast, packet) {
            Reassembled::Whole(info, packet) => format!("whole {} {}", info.proto.0, packet.len()),
            Reassembled::Held => "held".to_owned(),
            Reassembled::Drop(reason) => reason.to_string(),
        }
    }

    fn fate(&mut self, src: &str, dst: &str) -> String {
        self.take(received6(&fixed6(src, dst, IpProto::UDP, 4), b"data"))
    }

    fn fragment(&mut self, ident: u32, next: u8, offset: u16, more: bool, data: &[u8]) -> String {
        let mut rest = vec![0; FRAGMENT_LEN];
        let piece = Piece {
            next: IpProto(next),
            offset,
            more,
            ident,
        };
        piece.emit(rest.first_chunk_mut().expect("eight bytes"));
        rest.extend(data);
        let fixed = fixed6(
            "2001:db8:1::9",
            "2001:db8:1::1",
            IpProto::FRAGMENT,
            rest.len(),
        );
        self.take(received6(&fixed, &rest))
    }
}

#[test]
fn ours_others_and_nobodys() {
    let mut bench = Bench::new();
    let far = "2001:db8:1::9";
    for (src, dst, expected) in [
        (far, "2001:db8:1::1", "Unicast 17 4"),
        (far, "2001:db8:2::1", "Unicast 17 4"), // the weak model
        (far, "fe80::1", "Unicast 17 4"),
        (far, "fe80::2", "not-forwarding"), // it is on another link
        ("fe80::9", "fe80::1", "Unicast 17 4"),
        (far, "2001:db8:1::5", "not-forwarding"),
        (far, "ff02::1", "Multicast 17 4"),
        (far, "ff02::1:ff00:1", "Multicast 17 4"),
        (far, "ff02::1:ff00:2", "not-for-us"), // that of the other link
        (far, "ff02::2", "not-for-us"),
        (far, "::1", "martian"),
        (far, "::", "martian"),
        (far, "::ffff:192.0.2.1", "martian"),
        ("::", "ff02::1", "Multicast 17 4"),
        ("::", "2001:db8:1::1", "martian"),
        ("::1", "2001:db8:1::1", "martian"),
        ("ff02::1", "2001:db8:1::1", "martian"),
        ("2001:db8:1::1", "2001:db8:1::1", "martian"),
        ("fe80::1", "fe80::1", "martian"),
        ("fe80::2", "fe80::1", "Unicast 17 4"), // ours is on the other link
    ] {
        assert_eq!(bench.fate(src, dst), expected, "{src} {dst}");
    }
    bench.state.tunables.forwarding = Forwarding::Enabled;
    assert_eq!(bench.fate(far, "2001:db8:9::1"), "forward");
    assert_eq!(bench.fate(far, "fe80::9"), "martian");
    assert_eq!(bench.fate("fe80::9", "2001:db8:9::1"), "martian");
    assert_eq!(bench.fate(far, "::1"), "martian");
    bench.ingress.cast = Cast::Multicast;
    assert_eq!(bench.fate(far, "2001:db8:1::1"), "not-for-us");
}

#[test]
fn what_we_send_ourselves_is_on_the_link_of_its_address() {
    let mut bench = Bench::new();
    bench.ingress.medium = Medium::Loopback;
    for dst in ["::1", "fe80::1", "fe80::2", "2001:db8:2::1"] {
        if dst == "fe80::2" {
            // The caller knows from the frame which link it is of.
            bench.ingress.ifid = interfaces()[1];
        }
        if dst == "::1" {
            let net = "::1/128".parse().expect("a prefix");
            bench
                .state
                .addrs
                .add(bench.ingress.ifid, net)
                .expect("it is new");
        }
        assert_eq!(bench.fate(dst, dst), "Unicast 17 4", "{dst}");
    }
}

#[test]
fn lengths_that_lie_and_padding() {
    let mut bench = Bench::new();
    let (src, dst) = ("2001:db8:1::9", "2001:db8:1::1");
    let long = fixed6(src, dst, IpProto::UDP, 5);
    assert_eq!(bench.take(received6(&long, b"data")), "malformed");
    let short = fixed6(src, dst, IpProto::UDP, 3);
    assert_eq!(bench.take(received6(&short, b"data")), "Unicast 17 3");
    let mut bytes = received6(&short, b"data").to_vec();
    for len in 0..40 {
        let cut = Packet::incoming(bytes[..len].to_vec());
        assert_eq!(bench.take(cut), "malformed");
    }
    bytes[0] = 0x45;
    assert_eq!(bench.take(Packet::incoming(bytes)), "malformed");
}

#[test]
fn fragments_are_put_together_and_overlaps_are_not() {
    let mut bench = Bench::new();
    assert_eq!(bench.fragment(1, 17, 8, false, &[1; 5]), "held");
    assert_eq!(bench.fragment(1, 17, 0, true, &[2; 8]), "whole 17 13");
    // RFC 6946: it is whole by itself, and leaves those alone that wait.
    assert_eq!(bench.fragment(2, 17, 0, true, &[2; 8]), "held");
    assert_eq!(bench.fragment(2, 17, 0, false, &[2; 9]), "Unicast 17 9");
    assert_eq!(bench.state.reassembly.fragments(), 1);
    // RFC 5722: an overlap spoils the packet for good.
    assert_eq!(bench.fragment(2, 17, 0, true, &[3; 16]), "fragment-overlap");
    assert_eq!(bench.fragment(2, 17, 8, false, &[3; 8]), "fragment-overlap");
    assert_eq!(bench.state.reassembly.fragments(), 0);
    // What is in front of what is carried was cut as well.
    let mut options = vec![17, 0, 1, 4, 0, 0, 0, 0];
    options.extend([5; 8]);
    assert_eq!(bench.fragment(3, 60, 16, false, &[5; 8]), "held");
    assert_eq!(bench.fragment(3, 60, 0, true, &options), "whole 17 16");
    // RFC 8200 section 4.5: what is carried is said by the first, and does not tell packets apart.
    assert_eq!(bench.fragment(4, 17, 0, true, &[2; 8]), "held");
    assert_eq!(bench.fragment(4, 6, 8, false, &[2; 8]), "whole 17 16");
}

#[test]
fn an_address_of_a_link_has_no_number_on_the_wire() {
    let mut bench = Bench::new();
    assert_eq!(bench.fate("fe80::9", "fe80::1"), "Unicast 17 4");
    for (src, dst, fate) in [
        ("fe80:dead::9", "fe80::1", "martian"),
        ("fe80::9", "fe80:1::1", "martian"),
        ("fe80:1::9", "2001:db8:1::1", "martian"),
        ("fe80::9", "ff02::1", "Multicast 17 4"),
        ("fe80::9", "ff02:1::1", "not-for-us"),
        ("fe80::9", "ff32:40:2001:db8::1", "not-for-us"),
    ] {
        // Who writes a header leaves the number out.
        let mut bytes = received6(&fixed6(src, dst, IpProto::UDP, 4), b"data").to_vec();
        bytes[8..24].copy_from_slice(&ip6(src).octets());
        bytes[24..40].copy_from_slice(&ip6(dst).octets());
        let taken = bench.take(Packet::incoming(bytes));
        assert_eq!(taken, fate, "{src} to {dst}");
    }
}

#[test]
fn discovery_in_fragments_is_ignored() {
    let mut bench = Bench::new();
    for kind in 133..=137 {
        let ident = u32::from(kind);
        let message = [kind, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(bench.fragment(ident, 58, 0, true, &message), "held");
        assert_eq!(bench.fragment(ident, 58, 8, false, &[0; 16]), "martian");
        assert_eq!(
            bench.fragment(ident, 58, 0, false, &message),
            "Drop(Martian)"
        );
        // Behind options as well.
        let mut options = vec![58, 0, 1, 4, 0, 0, 0, 0];
        options.extend(message);
        assert_eq!(bench.fragment(ident, 60, 16, false, &[0; 16]), "held");
        assert_eq!(bench.fragment(ident, 60, 0, true, &options), "martian");
    }
    assert_eq!(bench.fragment(1, 58, 0, true, &[128; 8]), "held");
    assert_eq!(bench.fragment(1, 58, 8, false, &[0; 16]), "whole 58 24");
}

#[test]
fn a_first_fragment_is_quoted_as_it_came() {
    let mut bench = Bench::new();
    assert_eq!(bench.fragment(7, 17, 0, true, &[2; 16]), "held");
    bench.around.now = crate::base::time::Instant::from_nanos(u64::MAX / 2);
    let expired = bench.state.reassembly.on_deadline(&mut bench.around.cx());
    let [expired] = <[_; 1]>::try_from(expired).expect("one packet was given up");
    let packet = V6::restore(&expired.header, expired.packet).to_vec();
    let header = Ipv6Header::parse(&packet).expect("a header");
    assert_eq!(
        (header.next, header.src),
        (IpProto::FRAGMENT, ip6("2001:db8:1::9"))
    );
    assert_eq!((usize::from(header.payload_len), packet.len()), (24, 64));
    assert_eq!(packet[40..48], [17, 0, 0, 1, 0, 0, 0, 7]);
}

proptest! {
    #[test]
    fn any_packet_has_a_fate(
        next in prop::sample::select(vec![0u8, 6, 17, 43, 44, 58, 59, 60]),
        rest in prop::collection::vec(prop_oneof![
            prop::sample::select(vec![0u8, 1, 17, 43, 44, 60]), any::<u8>()
        ], 0..200),
        len in prop::option::of(0usize..220),
    ) {
        let mut bench = Bench::new();
        let len = len.unwrap_or(rest.len());
        let fixed = fixed6("2001:db8:1::9", "2001:db8:1::1", IpProto(next), len);
        let fate = bench.take(received6(&fixed, &rest));
        prop_assert_eq!(len > rest.len(), fate == "malformed" && len > rest.len());
    }
}

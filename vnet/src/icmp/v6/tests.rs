use proptest::prelude::*;

use super::*;
use crate::icmp::limit::Limit;
use crate::ip::addr::LocalAddrs;
use crate::ip::family::V6;
use crate::ip::testing::{Surroundings, fixed6, interfaces, ip6, received6};
use crate::ip::v6::output;
use crate::ip::v6::policy::Policy;

const OURS: &str = "2001:db8::1";
const THEIRS: &str = "2001:db8::9";

struct Bench {
    around: Surroundings,
    addrs: LocalAddrs<V6>,
    limit: Limit,
}

impl Bench {
    fn new() -> Bench {
        let [ifid, _] = interfaces();
        let mut addrs = LocalAddrs::default();
        for net in ["2001:db8::1/64", "fe80:1::1/64"] {
            let net = net.parse().expect("a prefix");
            addrs.add(ifid, net).expect("it is new");
        }
        Bench {
            around: Surroundings::new(),
            addrs,
            limit: Limit::default(),
        }
    }

    fn error(&mut self, header: &Ipv6Header, rest: &[u8], refusal: Refusal) -> Option<Message> {
        let mut packet = received6(header, rest);
        packet.meta.rcvif = Some(interfaces()[0]);
        error::error(
            &mut self.limit,
            &mut self.around.cx(),
            (&self.addrs, &Policy::default()),
            packet,
            refusal,
        )
    }
}

fn info(hop_limit: u8, proto: IpProto) -> IpInfo {
    Ipv6Header {
        hop_limit,
        ..fixed6(THEIRS, OURS, proto, 0)
    }
    .info(proto)
}

/// A message of ours as somebody else receives it.
fn arrived(message: Message) -> (IpInfo, Packet) {
    let (IpAddr::V6(src), IpAddr::V6(dst)) = (message.to.src, message.to.dst) else {
        panic!("it is of IPv6");
    };
    let mut packet = message.packet;
    let hop_limit = message.to.hop_limit.unwrap_or(64);
    output::prepend(hop_limit, src, dst, &message.to, &mut packet).expect("it is short");
    checksum::finish(&mut packet, 0).expect("the offsets are right");
    let bytes = packet.to_vec();
    let header = Ipv6Header::parse(&bytes).expect("a header");
    (
        header.info(header.next),
        Packet::incoming(bytes[40..].to_vec()),
    )
}

#[test]
fn an_error_is_understood_by_the_one_it_is_for() {
    for refusal in [
        Refusal::NoRoute,
        Refusal::HostUnreachable,
        Refusal::Port,
        Refusal::Prohibited,
        Refusal::Unreachable { code: 2 },
        Refusal::Protocol,
        Refusal::PacketTooBig { mtu: 1400 },
        Refusal::HopLimit,
        Refusal::Reassembly,
        Refusal::Header {
            code: 2,
            pointer: 77,
        },
    ] {
        let mut bench = Bench::new();
        let data: Vec<u8> = (0..=255).cycle().take(2000).collect();
        let about = fixed6(THEIRS, OURS, IpProto::UDP, data.len());
        let message = bench.error(&about, &data, refusal).expect("it may be sent");
        assert_eq!(message.to.src, IpAddr::V6(ip6(OURS)));
        let (info, packet) = arrived(message);
        assert_eq!(packet.len() + 40, 1280);
        match input(&info, Cast::Unicast, packet) {
            Verdict::Error {
                refusal: told,
                quoted,
                ..
            } => {
                assert_eq!(told, refusal);
                assert_eq!(quoted.transport, [0, 1, 2, 3, 4, 5, 6, 7]);
                assert_eq!((quoted.src, quoted.dst), (info.dst, IpAddr::V6(ip6(OURS))));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn silence_where_it_is_due() {
    let about = |src, dst, next| fixed6(src, dst, next, 8);
    let udp = about(THEIRS, OURS, IpProto::UDP);
    let icmp = about(THEIRS, OURS, IpProto::ICMPV6);
    let many = about(THEIRS, "ff02::1", IpProto::UDP);
    let too_big = Refusal::PacketTooBig { mtu: 1280 };
    let option = |code| Refusal::Header { code, pointer: 40 };
    let fragment = about(THEIRS, OURS, IpProto::FRAGMENT);
    for (header, rest, refusal, sent) in [
        (udp, [0; 8], Refusal::Port, true),
        (many, [0; 8], Refusal::Port, false),
        (many, [0; 8], too_big, true),
        (many, [0; 8], option(2), true),
        (many, [0; 8], option(0), false),
        (about("::", "ff02::1", IpProto::UDP), [0; 8], too_big, false),
        (
            about("ff02::1", OURS, IpProto::UDP),
            [0; 8],
            Refusal::Port,
            false,
        ),
        (icmp, [128; 8], Refusal::HopLimit, true), // about an echo request
        (icmp, [1; 8], Refusal::HopLimit, false),  // about an error
        (icmp, [137; 8], Refusal::HopLimit, false), // about a redirect
        (fragment, [58, 0, 1, 0, 0, 0, 0, 1], too_big, true),
    ] {
        let message = Bench::new().error(&header, &rest, refusal);
        assert_eq!(message.is_some(), sent, "{header:?} {rest:?} {refusal:?}");
    }
    let mut bench = Bench::new();
    let sent = (0..60).filter(|_| bench.error(&udp, &[0; 8], Refusal::Port).is_some());
    assert_eq!(sent.count(), 50);
    assert_eq!(bench.around.stats.icmp_rate_limited, 10);
}

#[test]
fn an_echo_comes_back_from_the_address_that_was_asked() {
    let request = Icmp6::EchoRequest {
        code: 0,
        ident: 7,
        seq: 9,
    };
    let to = Outgoing::new(ip6(THEIRS).into(), ip6(OURS).into(), IpProto::ICMPV6);
    let asked = |cast| {
        let packet = message(request, Payload::from(b"data".to_vec()));
        let (info, packet) = arrived(Message { to, packet });
        input(&info, cast, packet)
    };
    let Verdict::Reply(reply) = asked(Cast::Unicast) else {
        panic!("it is answered");
    };
    assert_eq!((reply.to.src, reply.to.dst), (to.dst, to.src));
    let (info, packet) = arrived(reply);
    match input(&info, Cast::Unicast, packet) {
        Verdict::EchoReply {
            ident: 7,
            seq: 9,
            payload,
        } => assert_eq!(payload.to_bytes(), "data"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(
        asked(Cast::Multicast),
        Verdict::Drop(DropReason::IcmpIgnored)
    ));
}

#[test]
fn lies_about_paths_and_neighbours_are_ignored() {
    let told = |mtu| {
        let quoted = received6(&fixed6(OURS, THEIRS, IpProto::UDP, 8), &[0; 8]);
        let packet = message(Icmp6::PacketTooBig { mtu }, quoted.into_payload());
        let to = Outgoing::new(ip6(THEIRS).into(), ip6(OURS).into(), IpProto::ICMPV6);
        let (info, packet) = arrived(Message { to, packet });
        matches!(input(&info, Cast::Unicast, packet), Verdict::Error { .. })
    };
    // RFC 8201 section 4.
    assert!(told(1280) && !told(1279));
    let question = Ndp::Solicitation {
        target: ip6(OURS),
        source: None,
        nonce: None,
    };
    let asked = |hop_limit| {
        let to = Outgoing {
            hop_limit: Some(hop_limit),
            ..Outgoing::new(ip6(THEIRS).into(), ip6(OURS).into(), IpProto::ICMPV6)
        };
        let packet = discovery_message(&question);
        let (info, packet) = arrived(Message { to, packet });
        input(&info, Cast::Unicast, packet)
    };
    assert!(matches!(asked(255), Verdict::Discovery(q) if q == question));
    assert!(matches!(asked(254), Verdict::Drop(DropReason::Martian)));
}

/// RFC 4861 sections 7.1.1 and 7.1.2.
#[test]
fn what_is_for_many_is_no_answer_and_who_has_no_address_asks_those_concerned() {
    let heard = |src: &str, dst: &str, message: &Ndp| {
        let to = Outgoing {
            hop_limit: Some(255),
            ..Outgoing::new(ip6(src).into(), ip6(dst).into(), IpProto::ICMPV6)
        };
        let packet = discovery_message(message);
        let (info, packet) = arrived(Message { to, packet });
        matches!(
            input(&info, Cast::Multicast, packet),
            Verdict::Discovery(heard) if heard == *message
        )
    };
    let question = |source| Ndp::Solicitation {
        target: ip6(OURS),
        source,
        nonce: None,
    };
    let mac = crate::packet::MacAddr([2, 0, 0, 0, 0, 9]);
    assert!(heard("::", "ff02::1:ff00:1", &question(None)));
    assert!(!heard("::", "ff02::1:ff00:2", &question(None)));
    assert!(!heard("::", "ff02::1", &question(None)));
    assert!(!heard("::", OURS, &question(None)));
    assert!(!heard("::", "ff02::1:ff00:1", &question(Some(mac))));
    assert!(heard(THEIRS, "ff02::1:ff00:1", &question(Some(mac))));
    assert!(heard(THEIRS, OURS, &question(None)));
    let said = |flags| Ndp::Advertisement {
        target: ip6(THEIRS),
        station: Some(mac),
        flags,
    };
    let answer = Flags::SOLICITED.with(Flags::OVERRIDE);
    assert!(heard(THEIRS, OURS, &said(answer)));
    assert!(heard(THEIRS, "ff02::1", &said(Flags::OVERRIDE)));
    assert!(!heard(THEIRS, "ff02::1", &said(answer)));
}

proptest! {
    #[test]
    fn any_message_has_a_fate(
        kind in prop::sample::select(vec![1u8, 2, 3, 4, 128, 129, 133, 134, 135, 136, 137, 200]),
        rest in prop::collection::vec(any::<u8>(), 0..120),
        verified: bool,
    ) {
        let mut bytes = vec![kind];
        bytes.extend(rest);
        let mut packet = Packet::incoming(bytes);
        if verified {
            packet.meta.csum = Csum::Verified;
        }
        let _ = input(&info(255, IpProto::ICMPV6), Cast::Unicast, packet);
    }

    #[test]
    fn any_packet_may_be_quoted(
        next in prop::sample::select(vec![0u8, 6, 17, 43, 44, 58, 60]),
        rest in prop::collection::vec(any::<u8>(), 0..2000),
    ) {
        let about = fixed6(THEIRS, OURS, IpProto(next), rest.len());
        if let Some(message) = Bench::new().error(&about, &rest, Refusal::Port) {
            prop_assert!(message.packet.len() <= 1240);
        }
    }
}

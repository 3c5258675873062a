//! Scripts of ARP packets.

use super::*;
use crate::neigh::NeighConfig;
use crate::neigh::cache::tests::{OUR_IP, OUR_MAC, World, host, mac};
use proptest::prelude::*;

fn world() -> World {
    World::new(NeighConfig::default())
}

fn packet(op: ArpOp, from: (Ipv4Addr, MacAddr), target_ip: Ipv4Addr) -> ArpPacket {
    ArpPacket {
        op,
        sender_mac: from.1,
        sender_ip: from.0,
        target_mac: MacAddr::ZERO,
        target_ip,
    }
}

#[track_caller]
fn dropped(verdict: ArpVerdict) -> DropReason {
    match verdict {
        ArpVerdict::Drop(reason) => reason,
        other => panic!("expected a drop, found {other:?}"),
    }
}

#[test]
fn a_question_for_us_is_answered_and_remembered() {
    let mut w = world();
    let question = ArpPacket::request(mac(2), host(2), OUR_IP);
    let ArpVerdict::Accepted { reply, release } = w.hear(question) else {
        panic!("not accepted");
    };
    let reply = reply.expect("an answer");
    assert_eq!(
        (reply.op, reply.sender_mac, reply.sender_ip),
        (ArpOp::Reply, OUR_MAC, OUR_IP)
    );
    assert_eq!((reply.target_mac, reply.target_ip), (mac(2), host(2)));
    assert!(release.is_none());
    assert_eq!(w.state(2), Some("stale"));
    assert_eq!(w.send(2, 1), format!("to {}", mac(2)));
}

#[test]
fn a_question_can_be_answer_enough() {
    let mut w = world();
    w.send(2, 1);
    let ArpVerdict::Accepted { reply, release } =
        w.hear(ArpPacket::request(mac(2), host(2), OUR_IP))
    else {
        panic!("not accepted");
    };
    assert!(reply.is_some());
    assert_eq!(release.expect("the packet").packets.len(), 1);
    // It knows us, but whether it hears us is not known yet.
    assert_eq!(w.state(2), Some("stale"));
}

#[test]
fn the_talk_of_others_teaches_nothing_new() {
    let mut w = world();
    for (op, target) in [
        (ArpOp::Request, host(3)),
        (ArpOp::Request, host(2)), // gratuitous
        (ArpOp::Reply, host(3)),
        (ArpOp::Reply, OUR_IP), // an answer nobody asked for
    ] {
        let verdict = w.hear(packet(op, (host(2), mac(2)), target));
        assert_eq!(dropped(verdict), DropReason::NotForUs);
        assert!(w.cache.is_empty());
    }
}

#[test]
fn a_known_neighbour_may_move() {
    let mut w = world();
    w.send(2, 1);
    w.answer(2, 2);
    // The same address again changes nothing.
    w.hear(packet(ArpOp::Request, (host(2), mac(2)), host(3)));
    assert_eq!(w.state(2), Some("reachable"));
    // A gratuitous ARP with a new one is believed and will be checked.
    w.hear(announce(host(2), mac(22)));
    assert_eq!(w.state(2), Some("stale"));
    assert_eq!(w.send(2, 2), format!("to {}", mac(22)));
    // An answer that was not asked for confirms nothing either.
    w.answer(2, 33);
    assert_eq!(w.state(2), Some("stale"));
}

#[test]
fn a_late_answer_helps_the_next_packet() {
    let mut w = world();
    w.send(2, 1);
    w.until(3);
    assert_eq!(w.state(2), Some("failed"));
    w.answer(2, 2);
    assert_eq!(w.send(2, 2), format!("to {}", mac(2)));
}

#[test]
fn lies_are_dropped() {
    let mut w = world();
    for (op, ip, mac, reason) in [
        (
            ArpOp::Request,
            host(2),
            MacAddr::BROADCAST,
            DropReason::Malformed,
        ),
        (
            ArpOp::Reply,
            host(2),
            MacAddr([1, 0, 0x5e, 0, 0, 1]),
            DropReason::Malformed,
        ),
        (
            ArpOp::Request,
            host(2),
            MacAddr::ZERO,
            DropReason::Malformed,
        ),
        (ArpOp::Request, OUR_IP, OUR_MAC, DropReason::NotForUs),
        (
            ArpOp::Request,
            Ipv4Addr::BROADCAST,
            mac(2),
            DropReason::Martian,
        ),
        (
            ArpOp::Request,
            Ipv4Addr::LOCALHOST,
            mac(2),
            DropReason::Martian,
        ),
        (
            ArpOp::Request,
            Ipv4Addr::new(224, 0, 0, 1),
            mac(2),
            DropReason::Martian,
        ),
        (
            ArpOp::Reply,
            Ipv4Addr::UNSPECIFIED,
            mac(2),
            DropReason::Martian,
        ),
    ] {
        assert_eq!(
            dropped(w.hear(packet(op, (ip, mac), OUR_IP))),
            reason,
            "{op:?} {ip} {mac}"
        );
    }
    assert!(w.cache.is_empty());
}

/// RFC 826 knows no prefixes.
#[test]
fn a_stranger_is_answered_but_not_remembered() {
    let mut w = world();
    let stranger = Ipv4Addr::new(192, 0, 2, 1);
    let ArpVerdict::Accepted {
        reply: Some(reply),
        release: None,
    } = w.hear(ArpPacket::request(mac(2), stranger, OUR_IP))
    else {
        panic!("not answered");
    };
    assert_eq!((reply.sender_ip, reply.target_ip), (OUR_IP, stranger));
    assert!(w.cache.is_empty(), "no route leads there");
    // What we asked is answered by whom we asked, wherever its address lies.
    w.send_to(stranger, 1);
    let answer = ArpPacket::request(OUR_MAC, OUR_IP, stranger).answered_by(mac(2));
    let ArpVerdict::Accepted { release, .. } = w.hear(answer) else {
        panic!("not accepted");
    };
    assert_eq!(release.expect("the packet").packets.len(), 1);
}

#[test]
fn a_probe_is_answered_and_teaches_nothing() {
    let mut w = world();
    let probe = ArpPacket::request(mac(2), Ipv4Addr::UNSPECIFIED, OUR_IP);
    let ArpVerdict::Accepted {
        reply: Some(reply),
        release: None,
    } = w.hear(probe)
    else {
        panic!("not answered");
    };
    assert_eq!(
        (reply.sender_ip, reply.target_ip),
        (OUR_IP, Ipv4Addr::UNSPECIFIED)
    );
    assert!(w.cache.is_empty());
    let probe = ArpPacket::request(mac(2), Ipv4Addr::UNSPECIFIED, host(9));
    assert_eq!(dropped(w.hear(probe)), DropReason::NotForUs);
}

#[test]
fn our_address_is_defended_once_in_ten_seconds() {
    let mut w = world();
    let mut defences = Vec::new();
    for second in [0, 1, 9, 10, 15, 21] {
        w.until(second);
        let ArpVerdict::Conflict(conflict) = w.hear(announce(OUR_IP, mac(66))) else {
            panic!("not noticed");
        };
        assert_eq!((conflict.ip, conflict.mac), (OUR_IP, mac(66)));
        if let Some(defence) = conflict.defence {
            assert_eq!(defence, announce(OUR_IP, OUR_MAC));
            defences.push(second);
        }
    }
    assert_eq!(defences, [0, 10, 21]);
    assert_eq!(w.cache.stats().conflicts, 6);
    assert!(w.cache.is_empty(), "our own address is no neighbour");
}

proptest! {
    /// Nothing is learned that the sender could not have said, whatever is sent.
    #[test]
    fn only_plausible_neighbours_get_in(
        packets in prop::collection::vec(
            (any::<bool>(), any::<[u8; 6]>(), any::<[u8; 4]>(), 0..20u8, 0..4u8), 0..60),
    ) {
        let mut w = world();
        for (reply, mac, ip, n, near) in packets {
            let sender = if near > 0 { host(n) } else { ip.into() };
            let arp = ArpPacket {
                op: if reply { ArpOp::Reply } else { ArpOp::Request },
                sender_mac: MacAddr(mac),
                sender_ip: sender,
                target_mac: OUR_MAC,
                target_ip: if near > 1 { OUR_IP } else { host(n) },
            };
            w.hear(arp);
        }
        for info in w.cache.list(w.now) {
            let mac = info.mac.expect("learned from a packet");
            prop_assert!(!mac.is_multicast() && mac != MacAddr::ZERO && mac != OUR_MAC);
            prop_assert!(info.ip != IpAddr::V4(OUR_IP));
        }
    }
}

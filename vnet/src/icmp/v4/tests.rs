use proptest::prelude::*;

use super::*;
use crate::ip::testing::{header, ip};

/// A message as it comes off a wire, with a correct checksum.
fn received(bytes: &[u8]) -> Packet {
    let mut bytes = bytes.to_vec();
    bytes[2..4].fill(0);
    let sum = checksum::of(&bytes);
    bytes[2..4].copy_from_slice(&sum.to_be_bytes());
    Packet::incoming(bytes)
}

fn take(cast: Cast, packet: Packet) -> Verdict {
    let header = Ipv4Header {
        proto: IpProto::ICMP,
        tos: 0x2b,
        ..header("10.0.0.9", "10.0.0.1", packet.len())
    };
    input(&header.info(), cast, packet)
}

/// An error that quotes an echo request of 1500 bytes.
fn quoting(kind: u8, code: u8, rest: [u8; 4]) -> Vec<u8> {
    let mut original = header("10.0.0.1", "192.0.2.1", 1480);
    original.proto = IpProto::ICMP;
    let mut bytes = vec![kind, code, 0, 0];
    bytes.extend(rest);
    bytes.extend([0; 20]);
    original.emit(&mut bytes[8..]);
    bytes.extend([8, 0, 0xaa, 0xaa, 0, 7, 0, 9]);
    bytes
}

fn error(bytes: &[u8]) -> Option<Refusal> {
    match take(Cast::Unicast, received(bytes)) {
        Verdict::Error {
            refusal, quoted, ..
        } => {
            assert_eq!(quoted.dst, ip("192.0.2.1"));
            assert_eq!(quoted.echo(), Some((7, 9)));
            Some(refusal)
        }
        _ => None,
    }
}

#[test]
fn an_echo_comes_back_with_what_it_carried() {
    for code in [0, 1, 255] {
        let request = [b"\x08", &[code][..], b"\0\0\0\x07\0\x09payload"].concat();
        let verdict = take(Cast::Unicast, received(&request));
        let Verdict::Reply(Message { to, mut packet }) = verdict else {
            panic!("a host answers");
        };
        assert_eq!(
            (to.src, to.dst, to.traffic_class),
            (ip("10.0.0.1").into(), ip("10.0.0.9").into(), 0x28)
        );
        let reply = Icmp4::EchoReply {
            code,
            ident: 7,
            seq: 9,
        };
        assert_eq!(packet.pull_up(8).map(|b| Icmp4::parse(b)), Some(Ok(reply)));
        packet.strip(8);
        assert_eq!(packet.into_payload().to_bytes(), "payload");
    }
}

#[test]
fn nobody_answers_when_everyone_was_asked() {
    for cast in [Cast::Broadcast, Cast::Multicast] {
        let verdict = take(cast, received(b"\x08\0\0\0\0\x07\0\x09"));
        assert!(matches!(verdict, Verdict::Drop(DropReason::IcmpIgnored)));
    }
}

#[test]
fn an_answer_reaches_whoever_asked() {
    match take(Cast::Unicast, received(b"\0\0\0\0\0\x07\0\x09payload")) {
        Verdict::EchoReply {
            ident,
            seq,
            payload,
        } => {
            assert_eq!((ident, seq), (7, 9));
            assert_eq!(payload.to_bytes(), "payload");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn errors_are_told_apart() {
    for (code, refusal) in [
        (0, Refusal::NoRoute),
        (1, Refusal::HostUnreachable),
        (2, Refusal::Protocol),
        (3, Refusal::Port),
        (5, Refusal::Unreachable { code: 5 }),
        (13, Refusal::Prohibited),
    ] {
        assert_eq!(error(&quoting(3, code, [0; 4])), Some(refusal));
        assert_eq!(unreachable_code(refusal), Some(UnreachableCode(code)));
    }
    assert_eq!(error(&quoting(11, 0, [0; 4])), Some(Refusal::HopLimit));
    assert_eq!(error(&quoting(11, 1, [0; 4])), Some(Refusal::Reassembly));
    let gateway = ip("10.0.0.2");
    assert_eq!(
        error(&quoting(5, 1, gateway.octets())),
        Some(Refusal::Redirect {
            gateway: gateway.into()
        })
    );
    let pointer = Refusal::Header {
        code: 0,
        pointer: 20,
    };
    assert_eq!(error(&quoting(12, 0, [20, 0, 0, 0])), Some(pointer));
}

#[test]
fn the_mtu_is_guessed_when_it_is_not_told() {
    let mtu = |rest| match error(&quoting(3, 4, rest)) {
        Some(Refusal::PacketTooBig { mtu }) => mtu,
        other => panic!("{other:?}"),
    };
    assert_eq!(mtu([0, 0, 0x05, 0x78]), 1400);
    assert_eq!(mtu([0, 0, 0, 0]), 1492);
    assert_eq!(mtu([0, 0, 0, 1]), 68);
}

#[test]
fn what_is_wrong_is_dropped_for_a_reason() {
    let reason = |packet| match take(Cast::Unicast, packet) {
        Verdict::Drop(reason) => reason,
        other => panic!("{other:?}"),
    };
    let mut bad = received(b"\x08\0\0\0\0\x07\0\x09").to_vec();
    bad[7] ^= 1;
    assert_eq!(reason(Packet::incoming(bad)), DropReason::BadChecksum);
    assert_eq!(reason(Packet::incoming(vec![8; 7])), DropReason::Malformed);
    assert_eq!(reason(received(&[13; 20])), DropReason::IcmpIgnored);
    let whole = quoting(3, 3, [0; 4]);
    for len in 8..whole.len() {
        assert_eq!(
            reason(received(&whole[..len])),
            DropReason::Malformed,
            "{len}"
        );
    }
    let mut fragment = whole;
    fragment[8 + 7] = 1;
    assert_eq!(reason(received(&fragment)), DropReason::Malformed);
}

proptest! {
    #[test]
    fn arbitrary_bytes_do_not_panic(
        bytes in prop::collection::vec(any::<u8>(), 8..120), kind in 0u8..14, wrong: bool,
    ) {
        let mut bytes = bytes;
        bytes[0] = kind;
        bytes[1] &= 1;
        if bytes.len() > 8 {
            bytes[8] = 0x40 | (bytes[8] & 0xf);
        }
        let packet = match wrong {
            true => Packet::incoming(bytes),
            false => received(&bytes),
        };
        let _ = take(Cast::Unicast, packet);
    }
}

//! Promise: whatever comes in from outside over IPv6, a vnet does not panic, and counts each frame under exactly one
//! heading.

use std::net::Ipv6Addr;
use std::time::Duration;

use proptest::prelude::*;
use vnet::net::{EchoSocket, RawSocket, TcpListener, UdpSocket};
use vnet::{DropReason, Forwarding, MacAddr, OwnedVnet, Port, Stats, System};
use vnet_tests::accounts::{assert_clean, assert_conserved, drops, run_until_idle};
use vnet_tests::cases::{extension_headers, frames, run_cases};
use vnet_tests::frames::{ACK, IPV6, Ip6, SYN, Segment, ethernet, syn_options, tcp, udp};
use vnet_tests::topology::vnet;

const UDP_PORT: u16 = 7;
const TCP_PORT: u16 = 80;
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// A neighbour at the second port.
const FAR: &str = "2001:db8:2::9";
const PEER: [u8; 6] = [2, 0, 0, 0, 0, 9];

fn ip(text: &str) -> Ipv6Addr {
    text.parse().expect("an address")
}

/// A router with two ports and sockets.
struct Target {
    system: System,
    vnet: OwnedVnet,
    ports: [Port; 2],
    udp: UdpSocket,
    raw: RawSocket,
    _kept: (EchoSocket, TcpListener),
    sent: u64,
    /// Questions for the neighbour behind the second port that it has answered.
    answered: u64,
}

impl Target {
    fn new() -> Target {
        let system = System::manual(1);
        let vnet = vnet(&system, "target");
        vnet.set_forwarding(Forwarding::Enabled).unwrap();
        let ports = [("eth0", Some(MacAddr(MAC))), ("eth1", None)];
        let ports = ports.map(|(name, mac)| vnet.port(name, mac).unwrap());
        for (name, net) in [
            ("eth0", "2001:db8:1::1/64"),
            ("eth0", "fe80::1/64"),
            ("eth1", "2001:db8:2::1/64"),
        ] {
            vnet.add_address(name, net.parse().unwrap()).unwrap();
        }
        let udp = UdpSocket::bind_in(&vnet, ("::", UDP_PORT)).unwrap();
        udp.set_nonblocking(true).unwrap();
        let raw = RawSocket::open_in(&vnet, 89).unwrap();
        raw.set_nonblocking(true).unwrap();
        let echo = EchoSocket::bind_in(&vnet).unwrap();
        let listener = TcpListener::bind_in(&vnet, ("::", TCP_PORT)).unwrap();
        // Whatever an address has to wait for.
        system.poll(system.now() + Duration::from_secs(5));
        Target {
            system,
            vnet,
            ports,
            udp,
            raw,
            _kept: (echo, listener),
            sent: 0,
            answered: 0,
        }
    }

    fn stats(&self) -> Stats {
        self.vnet.stats().unwrap()
    }

    /// Sends a frame, lets the vnet take it in, and clears away what it sends back.
    fn feed(&mut self, frame: Vec<u8>) {
        self.ports[0].send(frame).unwrap();
        self.sent += 1;
        let step = match self.sent % 64 {
            0 => Duration::from_millis(300),
            _ => Duration::ZERO,
        };
        self.system.poll(self.system.now() + step);
        while self.ports[0].recv().is_some() {}
        while let Some(sent) = self.ports[1].recv() {
            let sent = sent.to_vec();
            if sent[12..14] == IPV6.to_be_bytes() && sent[20] == 58 && sent[54] == 135 {
                self.answer(&sent);
            }
        }
        let mut buf = [0; 64];
        let _ = self.udp.recv_from(&mut buf);
        let _ = self.raw.recv_from(&mut buf);
    }

    /// Answers for the neighbour behind the second port (RFC 4861 section 4.4), if that is who is asked for.
    fn answer(&mut self, question: &[u8]) {
        let (asker, far) = (ip("2001:db8:2::1"), ip(FAR));
        if question.get(62..78) != Some(&far.octets()) {
            return;
        }
        let mut answer = vec![0x60, 0, 0, 0];
        answer.extend(far.octets());
        answer.extend([2, 1]);
        answer.extend(PEER);
        let answer = Ip6::new(far, asker).icmp(136, 0, &answer);
        let to = question[6..12].try_into().expect("six octets");
        self.ports[1]
            .send(ethernet(to, PEER, IPV6, &answer))
            .unwrap();
        self.answered += 1;
        self.system.poll(self.system.now());
    }

    /// Sends a frame that must be dropped, and counted as that.
    #[track_caller]
    fn refuse(&mut self, frame: Vec<u8>, why: &str) {
        let (before, answered) = (self.stats(), self.answered);
        self.feed(frame);
        let (after, answered) = (self.stats(), self.answered - answered);
        assert_eq!(after.received, before.received + 1 + answered, "{why}");
        let delivered = after.delivered - before.delivered;
        assert_eq!(delivered, answered, "{why}: {}", drops(&after));
        assert_eq!(after.forwarded, before.forwarded, "{why}");
        assert_eq!(after.rx_dropped(), before.rx_dropped() + 1, "{why}");
        assert_conserved(&self.vnet);
    }

    fn finish(self) -> Stats {
        assert_conserved(&self.vnet);
        let stats = self.stats();
        drop((self.udp, self.raw, self._kept));
        run_until_idle(&self.system, 10_000);
        assert_conserved(&self.vnet);
        assert_eq!(self.vnet.pending(), Ok(0), "everything that waited gave up");
        assert_clean(&self.vnet.destroy());
        stats
    }
}

fn frame(packet: &[u8]) -> Vec<u8> {
    ethernet(MAC, PEER, IPV6, packet)
}

fn to_us() -> Ip6 {
    Ip6::new(ip("2001:db8:1::9"), ip("2001:db8:1::1"))
}

fn with(extensions: &[(u8, &[u8])]) -> Ip6 {
    let owned = extensions
        .iter()
        .map(|(kind, content)| (*kind, content.to_vec()));
    Ip6 {
        extensions: owned.collect(),
        ..to_us()
    }
}

/// Of neighbour discovery: reserved octets, addresses, options.
fn discovery(addresses: &[&str], options: &[u8]) -> Vec<u8> {
    let mut rest = vec![0; 4];
    addresses.iter().for_each(|a| rest.extend(ip(a).octets()));
    rest.extend(options);
    rest
}

const LINK_ADDRESS: [u8; 8] = [1, 1, 2, 0, 0, 0, 0, 9];

fn datagram(header: &Ip6, port: u16) -> Vec<u8> {
    udp((header.src, 5), (header.dst, port), b"twelve bytes")
}

/// A valid packet of every sort, by name.
fn valid() -> Vec<(&'static str, Vec<u8>)> {
    let us = to_us();
    let quoted = Ip6::new(us.dst, us.src).packet(17, &datagram(&Ip6::new(us.dst, us.src), 5));
    let error = |word: u32| [&word.to_be_bytes()[..], &quoted].concat();
    let padding: &[u8] = &[1, 4, 0, 0, 0, 0];
    let syn = Segment {
        seq: 7,
        flags: SYN,
        window: 1000,
        options: syn_options(),
        ..Segment::default()
    };
    let stray = Segment {
        flags: ACK,
        ..syn.clone()
    };
    let ends = ((us.src, 41_000), (us.dst, TCP_PORT));
    let through = Ip6::new(us.src, ip(FAR));
    let whole = datagram(&us, UDP_PORT);
    vec![
        ("echo request", us.icmp(128, 0, b"\0\x01\0\x01payload")),
        ("echo reply", us.icmp(129, 0, b"\0\x01\0\x01payload")),
        (
            "solicitation",
            us.icmp(135, 0, &discovery(&["2001:db8:1::1"], &LINK_ADDRESS)),
        ),
        (
            "advertisement",
            us.icmp(
                136,
                0,
                &discovery(&["2001:db8:1::9"], &[2, 1, 2, 0, 0, 0, 0, 9]),
            ),
        ),
        ("too big", us.icmp(2, 0, &error(1280))),
        ("port unreachable", us.icmp(1, 4, &error(0))),
        ("time exceeded", us.icmp(3, 0, &error(0))),
        ("parameter problem", us.icmp(4, 0, &error(0))),
        ("datagram", us.packet(17, &whole)),
        (
            "datagram behind headers",
            with(&[
                (0, padding),
                (60, padding),
                (43, &[2, 0, 0, 0, 0, 0]),
                (60, padding),
            ])
            .packet(17, &whole),
        ),
        (
            "first fragment",
            with(&[(44, &[0, 1, 0, 0, 0, 7])]).packet(17, &whole[..16]),
        ),
        (
            "last fragment",
            with(&[(44, &[0, 16, 0, 0, 0, 7])]).packet(17, &whole[16..]),
        ),
        (
            "for another host",
            through.packet(17, &datagram(&through, 7)),
        ),
        ("syn", us.packet(6, &tcp(ends.0, ends.1, &syn, &[]))),
        (
            "stray segment",
            us.packet(6, &tcp(ends.0, ends.1, &stray, b"x")),
        ),
        ("raw protocol", us.packet(89, b"hello from a router")),
        ("unknown protocol", us.packet(200, b"hello")),
        ("nothing inside", us.packet(59, &[])),
    ]
}

#[test]
fn the_frames_that_others_are_made_from_are_valid() {
    let mut target = Target::new();
    for (name, packet) in valid() {
        let before = target.stats();
        target.feed(frame(&packet));
        let after = target.stats();
        for reason in [
            DropReason::Malformed,
            DropReason::BadChecksum,
            DropReason::Martian,
        ] {
            let [before, after] = [&before, &after].map(|stats| stats.rx_drops(reason));
            assert_eq!(after, before, "{name}: {reason}");
        }
    }
    let stats = target.finish();
    assert!(
        stats.delivered > 5 && stats.forwarded > 0,
        "{}",
        drops(&stats)
    );
}

#[test]
fn every_frame_cut_short_at_every_byte_is_dropped() {
    let mut target = Target::new();
    for (name, packet) in valid() {
        for len in 0..packet.len() {
            target.refuse(frame(&packet[..len]), &format!("{name} cut to {len} bytes"));
        }
    }
    let stats = target.finish();
    assert_eq!(stats.rx_drops(DropReason::Malformed), stats.rx_dropped());
}

#[test]
fn every_payload_length_that_lies_is_dropped() {
    let mut target = Target::new();
    for (name, packet) in valid() {
        let truth = packet.len() - 40;
        let far = (truth + 64..0xffff)
            .step_by(997)
            .chain([0x7fff, 0x8000, 0xffff]);
        for claimed in (0..truth + 64).chain(far) {
            let mut lie = packet.clone();
            lie[4..6].copy_from_slice(&(claimed as u16).to_be_bytes());
            match claimed > truth {
                true => target.refuse(frame(&lie), &format!("{name} that claims {claimed} bytes")),
                // Shorter than it was is as good as padded.
                false => target.feed(frame(&lie)),
            }
        }
        assert_conserved(&target.vnet);
    }
    target.finish();
}

#[test]
fn every_version_that_is_not_six_is_dropped() {
    let mut target = Target::new();
    for (name, packet) in valid() {
        for version in (0..16u8).filter(|version| *version != 6) {
            let mut lie = packet.clone();
            lie[0] = version << 4;
            target.refuse(frame(&lie), &format!("{name} of IP version {version}"));
        }
    }
    target.finish();
}

/// Each octet of each extension header in turn, with every value: types, lengths, options and what is in them.
#[test]
fn every_octet_of_an_extension_header_that_lies_is_survived() {
    let mut target = Target::new();
    let option: &[u8] = &[1, 1, 0, 0x3e, 0, 0];
    for chain in [
        &[(0u8, option)][..],
        &[(60, option)],
        &[(43, &[2, 0, 0, 0, 0, 0])],
        &[(44, &[0, 1, 0, 0, 0, 7])],
        &[
            (0, option),
            (43, &[2, 0, 0, 0, 0, 0]),
            (44, &[0, 0, 0, 0, 0, 1]),
            (60, option),
        ],
    ] {
        let header = with(chain);
        let packet = header.packet(17, &datagram(&header, UDP_PORT));
        for at in 40..40 + 8 * chain.len() {
            for value in 0..=255 {
                let mut lie = packet.clone();
                lie[at] = value;
                target.feed(frame(&lie));
            }
            assert_conserved(&target.vnet);
        }
    }
    let stats = target.finish();
    assert!(
        stats.rx_drops(DropReason::Malformed) > 0,
        "{}",
        drops(&stats)
    );
}

/// Each octet of each message about neighbours, routers and groups, with every third value, the checksum right, to a
/// router and to a host that obeys routers: so each gets as far as what it says lets it.
#[test]
fn every_octet_of_a_message_that_lies_is_survived() {
    for role in [Forwarding::Enabled, Forwarding::Disabled] {
        let target = Target::new();
        target.vnet.set_forwarding(role).unwrap();
        target
            .vnet
            .set_sysctl("net.inet6.ip6.accept_rtadv", 1)
            .unwrap();
        let stats = lie_about_each_octet(target);
        // Who is a router does not hear other routers.
        let least = if role == Forwarding::Enabled {
            2_000
        } else {
            8_000
        };
        assert!(
            stats.delivered > least,
            "{}: {}",
            stats.delivered,
            drops(&stats)
        );
    }
}

fn lie_about_each_octet(mut target: Target) -> Stats {
    let prefix: &[u8] = &[
        3, 4, 64, 0xc0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0x20, 1, 0x0d, 0xb8, 0, 9, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0,
    ];
    let lifetimes: &[u8] = &[64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
    let messages = [
        (133, discovery(&[], &LINK_ADDRESS)),
        (134, [lifetimes, prefix, &[5, 1, 0, 0, 0, 0, 5, 0]].concat()),
        (135, discovery(&["2001:db8:1::1"], &LINK_ADDRESS)),
        (136, discovery(&["2001:db8:1::9"], &LINK_ADDRESS)),
        (137, discovery(&["fe80::9", "2001:db8:7::1"], &LINK_ADDRESS)),
        (130, discovery(&["ff02::1:ff00:1"], &[2, 125, 0, 0])),
        (131, discovery(&["ff02::1:ff00:1"], &[])),
        (143, discovery(&[], &[4, 0, 0, 0])),
    ];
    for (kind, message) in messages {
        for src in ["fe80::9", "2001:db8:1::9"] {
            for dst in ["2001:db8:1::1", "ff02::1"] {
                let mut header = Ip6::new(ip(src), ip(dst));
                if matches!(kind, 130..=132 | 143) {
                    header.hop_limit = 1;
                    header.extensions = vec![(0, vec![5, 2, 0, 0, 1, 0])];
                }
                for at in 0..message.len() {
                    for value in (0..=255).step_by(3) {
                        let mut lie = message.clone();
                        lie[at] = value;
                        target.feed(frame(&header.icmp(kind, 0, &lie)));
                    }
                }
            }
        }
        assert_conserved(&target.vnet);
    }
    target.finish()
}

/// What is in a random packet.
#[derive(Clone, Debug)]
enum Inside {
    Datagram(u16),
    Message(u8, Vec<u8>),
    Noise(u8, Vec<u8>),
}

fn inside() -> impl Strategy<Value = Inside> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..60);
    let kind = prop::sample::select(vec![
        1u8, 2, 3, 4, 128, 129, 130, 131, 133, 134, 135, 136, 137, 143,
    ]);
    prop_oneof![
        2 => prop::sample::select(vec![UDP_PORT, 9]).prop_map(Inside::Datagram),
        2 => (kind, bytes()).prop_map(|(kind, rest)| Inside::Message(kind, rest)),
        1 => (any::<u8>(), bytes()).prop_map(|(proto, rest)| Inside::Noise(proto, rest)),
    ]
}

#[test]
fn a_hundred_thousand_random_chains_of_headers_are_counted_one_by_one() {
    let cases = frames(100_000);
    let mut target = Target::new();
    target
        .vnet
        .set_sysctl("net.inet6.ip6.accept_rtadv", 1)
        .unwrap();
    let place = |texts: &[&'static str]| prop::sample::select(texts.to_vec());
    let packet = (
        place(&["2001:db8:1::9", "fe80::9", "::", "2001:db8:1::1", "ff02::1"]),
        place(&[
            "2001:db8:1::1",
            "fe80::1",
            FAR,
            "2001:db8:9::9",
            "ff02::1",
            "ff05::2",
        ]),
        prop::sample::select(vec![0u8, 1, 64, 255]),
        extension_headers(),
        inside(),
    );
    let ran = run_cases(
        cases,
        3,
        &packet,
        |(src, dst, hop_limit, extensions, inside)| {
            let header = Ip6 {
                hop_limit,
                extensions,
                ..Ip6::new(ip(src), ip(dst))
            };
            let packet = match inside {
                Inside::Datagram(port) => header.packet(17, &datagram(&header, port)),
                Inside::Message(kind, rest) => header.icmp(kind, 0, &rest),
                Inside::Noise(proto, rest) => header.packet(proto, &rest),
            };
            // Some of them to a host, which hears what a router does not.
            match target.sent % 1_000 {
                0 => target.vnet.set_forwarding(Forwarding::Enabled).unwrap(),
                700 => target.vnet.set_forwarding(Forwarding::Disabled).unwrap(),
                _ => {}
            }
            let before = target.stats().received;
            target.feed(frame(&packet));
            assert!(target.stats().received > before, "it was not even counted");
            assert_conserved(&target.vnet);
        },
    );
    assert_eq!(ran, cases, "none was left out");
    let stats = target.finish();
    for reason in [
        DropReason::Malformed,
        DropReason::NoSocket,
        DropReason::Martian,
    ] {
        assert!(
            stats.rx_drops(reason) > 0,
            "nothing {reason}: {}",
            drops(&stats)
        );
    }
    assert!(
        stats.delivered > 1_000 && stats.forwarded > 1_000,
        "{}",
        drops(&stats)
    );
}

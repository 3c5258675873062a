//! Promise: whatever comes in from outside, a vnet does not panic, and counts each frame under
//! exactly one heading.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use proptest::prelude::*;
use vnet::net::{EchoSocket, RawSocket, TcpListener, TcpStream, UdpSocket};
use vnet::{DropReason, Forwarding, OwnedVnet, PortError, Stats, System};
use vnet_tests::accounts::{assert_clean, assert_conserved, drops, run_until_idle};
use vnet_tests::cases::{frames, run_cases};
use vnet_tests::frames::{
    ACK, ARP, ETHER_LEN, FIN, IPV4, Ip4, MORE_FRAGMENTS, PSH, RST, SYN, Segment, Station, arp,
    checksum, ethernet, fix_checksums, icmp, syn_options, tcp, udp,
};
use vnet_tests::peer::{Conversation, Peer};
use vnet_tests::topology::vnet;

/// A router with two ports and a socket of every kind, one of them connected.
struct Target {
    system: System,
    vnet: OwnedVnet,
    peer: Peer,
    other: Peer,
    talk: Conversation,
    udp: UdpSocket,
    echo: EchoSocket,
    raw: RawSocket,
    stream: TcpStream,
    _listener: TcpListener,
    sent: u64,
}

const UDP_PORT: u16 = 7;
const TCP_PORT: u16 = 80;
const PEER_PORT: u16 = 40_000;

impl Target {
    fn new() -> Target {
        let system = System::manual(1);
        let vnet = vnet(&system, "target");
        vnet.set_forwarding(Forwarding::Enabled).unwrap();
        let peer = Peer::new(&system, &vnet, "eth0", 2);
        let other = Peer::new(&system, &vnet, "eth1", 3);
        let udp = UdpSocket::bind_in(&vnet, ("0.0.0.0", UDP_PORT)).unwrap();
        let echo = EchoSocket::bind_in(&vnet).unwrap();
        let raw = RawSocket::open_in(&vnet, 89).unwrap();
        let listener = TcpListener::bind_in(&vnet, ("0.0.0.0", TCP_PORT)).unwrap();
        let talk = peer.open(PEER_PORT, TCP_PORT);
        let (stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        Target {
            system,
            vnet,
            peer,
            other,
            talk,
            udp,
            echo,
            raw,
            stream,
            _listener: listener,
            sent: 0,
        }
    }

    fn stats(&self) -> Stats {
        self.vnet.stats().unwrap()
    }

    /// ARP replies that the peers have sent by themselves.
    fn answered(&self) -> u64 {
        self.peer.answered.get() + self.other.answered.get()
    }

    /// Sends a frame, lets the vnet take it in, and clears away what it sends back. Now and then
    /// the clock moves, so that deadlines come up in between.
    fn feed(&mut self, frame: Vec<u8>) {
        self.peer.port.send(frame).unwrap();
        self.sent += 1;
        let step = match self.sent % 64 {
            0 => Duration::from_millis(300),
            _ => Duration::ZERO,
        };
        self.system.poll(self.system.now() + step);
        self.peer.exchange();
        self.other.exchange();
        // Sockets stay readable, so that frames go all the way.
        let mut buf = [0; 64];
        let _ = self.udp.recv_from(&mut buf);
        let _ = self.raw.recv_from(&mut buf);
        let _ = self.echo.recv();
        let _ = std::io::Read::read(&mut self.stream, &mut buf);
    }

    /// Sends a frame that must be dropped, and counted as that.
    #[track_caller]
    fn refuse(&mut self, frame: Vec<u8>, why: &str) {
        let (before, answered) = (self.stats(), self.answered());
        self.feed(frame);
        let (after, answered) = (self.stats(), self.answered() - answered);
        assert_eq!(after.received, before.received + 1 + answered, "{why}");
        assert_eq!(
            after.delivered,
            before.delivered + answered,
            "{why}: {}",
            drops(&after)
        );
        assert_eq!(
            after.forwarded,
            before.forwarded,
            "{why}: {}",
            drops(&after)
        );
        assert_eq!(after.rx_dropped(), before.rx_dropped() + 1, "{why}");
        assert_conserved(&self.vnet);
    }

    /// Checks the books, waits for everything that is still to happen, and tears down.
    fn finish(self) -> Stats {
        assert_conserved(&self.vnet);
        let stats = self.stats();
        drop((self.udp, self.echo, self.raw, self.stream, self._listener));
        run_until_idle(&self.system, 10_000);
        assert_conserved(&self.vnet);
        assert_eq!(
            self.vnet.pending(),
            Ok(0),
            "reassembly and neighbours gave up"
        );
        let report = self.vnet.destroy();
        assert_clean(&report);
        stats
    }

    fn src(&self) -> SocketAddrV4 {
        self.peer.addr(PEER_PORT)
    }

    fn dst(&self, port: u16) -> SocketAddrV4 {
        SocketAddrV4::new(self.peer.vnet.ip, port)
    }

    fn frame(&self, packet: &[u8]) -> Vec<u8> {
        ethernet(self.peer.vnet.mac, self.peer.me.mac, IPV4, packet)
    }

    fn ip(&self, proto: u8) -> Ip4 {
        Ip4::new(self.peer.me.ip, self.peer.vnet.ip, proto)
    }

    /// A valid frame of every sort, by name.
    fn valid(&self) -> Vec<(&'static str, Vec<u8>)> {
        let (me, us) = (self.peer.me, self.peer.vnet);
        let arp_frame = |op, to| ethernet(us.mac, me.mac, ARP, &arp(op, me, to));
        let segment = |flags, options| Segment {
            seq: self.talk.seq,
            ack: self.talk.ack,
            flags,
            window: 1000,
            options,
        };
        let tcp_frame = |port, segment: Segment, body: &[u8]| {
            let from = self.peer.addr(port);
            self.frame(
                &self
                    .ip(6)
                    .packet(&tcp(from, self.dst(TCP_PORT), &segment, body)),
            )
        };
        let datagram = udp(self.src(), self.dst(UDP_PORT), b"twelve bytes");
        let ours = udp(self.dst(UDP_PORT), self.src(), b"ours");
        let quoted = Ip4::new(us.ip, me.ip, 17).packet(&ours);
        let fragment = |at: u16, more| Ip4 {
            fragment: at | more,
            ident: 77,
            ..self.ip(17)
        };
        let with_options = Ip4 {
            // Record route, time stamp, router alert.
            options: vec![7, 7, 4, 0, 0, 0, 0, 68, 8, 5, 0, 0, 0, 0, 0, 148, 4, 0, 0],
            ..self.ip(17)
        };
        let elsewhere = Ip4::new(me.ip, self.other.me.ip, 17);
        let error =
            |kind, code, word| self.frame(&self.ip(1).packet(&icmp(kind, code, word, &quoted)));
        vec![
            ("arp request", arp_frame(1, us)),
            ("arp reply", arp_frame(2, us)),
            (
                "echo request",
                self.frame(&self.ip(1).packet(&icmp(8, 0, 0x0001_0001, b"payload"))),
            ),
            (
                "echo reply",
                self.frame(&self.ip(1).packet(&icmp(0, 0, 0x0001_0001, b"payload"))),
            ),
            ("port unreachable", error(3, 3, 0)),
            ("fragmentation needed", error(3, 4, 600)),
            ("time exceeded", error(11, 0, 0)),
            ("redirect", error(5, 1, 0xc000_0209)),
            ("parameter problem", error(12, 0, 0)),
            ("datagram", self.frame(&self.ip(17).packet(&datagram))),
            (
                "datagram with IP options",
                self.frame(&with_options.packet(&datagram)),
            ),
            (
                "datagram to nobody",
                self.frame(&self.ip(17).packet(&udp(self.src(), self.dst(9), b"who?"))),
            ),
            (
                "datagram for another host",
                self.frame(&elsewhere.packet(&udp(self.src(), self.other.addr(7), b"pass on"))),
            ),
            (
                "first fragment",
                self.frame(&fragment(0, MORE_FRAGMENTS).packet(&datagram[..16])),
            ),
            (
                "last fragment",
                self.frame(&fragment(2, 0).packet(&datagram[16..])),
            ),
            (
                "raw protocol",
                self.frame(&self.ip(89).packet(b"hello from a router")),
            ),
            (
                "unknown protocol",
                self.frame(&self.ip(200).packet(b"hello")),
            ),
            ("syn", tcp_frame(41_000, segment(SYN, syn_options()), &[])),
            (
                "data",
                tcp_frame(PEER_PORT, segment(ACK | PSH, Vec::new()), b"twelve bytes"),
            ),
            (
                "ack with options",
                tcp_frame(
                    PEER_PORT,
                    segment(ACK, vec![1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 2]),
                    &[],
                ),
            ),
            (
                "stray fin",
                tcp_frame(41_001, segment(FIN | ACK, Vec::new()), &[]),
            ),
            (
                "stray rst",
                tcp_frame(41_002, segment(RST, Vec::new()), &[]),
            ),
        ]
    }
}

fn set_half(frame: &mut [u8], at: usize, value: u16) {
    frame[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

#[test]
fn the_frames_that_others_are_made_from_are_valid() {
    let mut target = Target::new();
    for (name, frame) in target.valid() {
        let before = target.stats();
        target.feed(frame);
        let after = target.stats();
        for reason in [
            DropReason::Malformed,
            DropReason::BadChecksum,
            DropReason::Martian,
        ] {
            assert_eq!(
                after.rx_drops(reason),
                before.rx_drops(reason),
                "{name}: {reason}"
            );
        }
    }
    target.finish();
}

#[test]
fn every_frame_cut_short_at_every_byte_is_dropped() {
    let mut target = Target::new();
    for (name, frame) in target.valid() {
        for len in 0..frame.len() {
            let cut = frame[..len].to_vec();
            match len {
                0..ETHER_LEN => {
                    assert_eq!(target.peer.port.send(cut), Err(PortError::BadLength(len)));
                }
                _ => target.refuse(cut, &format!("{name} cut to {len} bytes")),
            }
        }
    }
    let stats = target.finish();
    assert_eq!(
        stats.rx_drops(DropReason::Malformed),
        stats.rx_dropped(),
        "for what it is"
    );
}

// The IP header tells the truth here, and what is in it is too short for its own header.
#[test]
fn every_transport_header_cut_short_at_every_byte_is_dropped() {
    let mut target = Target::new();
    let minimum = |proto| match proto {
        1 => 8,
        6 => 20,
        _ => 8,
    };
    for (name, frame) in target.valid() {
        let proto = frame[ETHER_LEN + 9];
        let for_us = frame[ETHER_LEN + 16..ETHER_LEN + 20] == target.peer.vnet.ip.octets();
        let is_fragment = frame[ETHER_LEN + 6] & 0x3f != 0 || frame[ETHER_LEN + 7] != 0;
        let is_ip = frame[12..14] == IPV4.to_be_bytes();
        if !is_ip || !for_us || is_fragment || ![1, 6, 17].contains(&proto) {
            continue;
        }
        let header_len = usize::from(frame[ETHER_LEN] & 15) * 4;
        for len in 0..minimum(proto) {
            let mut cut = frame[..ETHER_LEN + header_len + len].to_vec();
            set_half(&mut cut, ETHER_LEN + 2, (header_len + len) as u16);
            fix_checksums(&mut cut);
            target.refuse(cut, &format!("{name} with {len} bytes of its header"));
        }
    }
    target.finish();
}

#[test]
fn every_ip_header_length_that_lies_is_dropped() {
    let mut target = Target::new();
    for (name, frame) in target.valid() {
        if frame[12..14] != IPV4.to_be_bytes() {
            continue;
        }
        for words in 0..16u8 {
            let mut lie = frame.clone();
            lie[ETHER_LEN] = 0x40 | words;
            fix_checksums(&mut lie);
            let too_long = usize::from(words) * 4 > frame.len() - ETHER_LEN;
            if words < 5 || too_long {
                target.refuse(lie, &format!("{name} with a header of {words} words"));
            } else {
                target.feed(lie);
            }
        }
        for version in (0..16u8).filter(|v| *v != 4) {
            let mut lie = frame.clone();
            lie[ETHER_LEN] = version << 4 | 5;
            fix_checksums(&mut lie);
            target.refuse(lie, &format!("{name} of IP version {version}"));
        }
    }
    target.finish();
}

#[test]
fn every_ip_total_length_that_lies_is_dropped() {
    let mut target = Target::new();
    for (name, frame) in target.valid() {
        if frame[12..14] != IPV4.to_be_bytes() {
            continue;
        }
        let truth = (frame.len() - ETHER_LEN) as u16;
        let header_len = u16::from(frame[ETHER_LEN] & 15) * 4;
        let near = 0..truth + 64;
        let far = (truth + 64..u16::MAX)
            .step_by(997)
            .chain([0x7fff, 0x8000, u16::MAX]);
        for total in near.chain(far) {
            let mut lie = frame.clone();
            set_half(&mut lie, ETHER_LEN + 2, total);
            fix_checksums(&mut lie);
            if total < header_len || total > truth {
                target.refuse(lie, &format!("{name} that claims {total} bytes"));
            } else {
                // Shorter than it was is as good as padded.
                target.feed(lie);
            }
        }
    }
    target.finish();
}

#[test]
fn every_udp_length_that_lies_is_dropped() {
    let mut target = Target::new();
    let datagram = udp(target.src(), target.dst(UDP_PORT), b"twelve bytes");
    for len in 0..=u16::MAX {
        let mut lie = target.frame(&target.ip(17).packet(&datagram));
        set_half(&mut lie, ETHER_LEN + 20 + 4, len);
        fix_checksums(&mut lie);
        if len < 8 || usize::from(len) > datagram.len() {
            target.refuse(lie, &format!("a datagram that claims {len} bytes"));
        } else {
            target.feed(lie);
        }
    }
    let stats = target.finish();
    assert!(stats.rx_drops(DropReason::Malformed) >= 65_536 - 13);
}

#[test]
fn every_tcp_header_length_and_option_length_that_lies_is_survived() {
    let mut target = Target::new();
    let segment = Segment {
        seq: target.talk.seq,
        ack: target.talk.ack,
        flags: ACK,
        window: 1000,
        options: syn_options(),
    };
    let bytes = tcp(target.src(), target.dst(TCP_PORT), &segment, b"body");
    let frame = target.frame(&target.ip(6).packet(&bytes));
    let at = ETHER_LEN + 20;
    for words in 0..16u8 {
        let mut lie = frame.clone();
        lie[at + 12] = words << 4;
        fix_checksums(&mut lie);
        let too_long = usize::from(words) * 4 > bytes.len();
        if words < 5 || too_long {
            target.refuse(lie, &format!("a segment with a header of {words} words"));
        } else {
            target.feed(lie);
        }
    }
    // Every byte of the options in turn, with every value: kinds, lengths and contents; in the
    // handshake and after it.
    for flags in [ACK, SYN, SYN | ACK] {
        for option in 0..segment.options.len() {
            for value in 0..=255 {
                let mut lie = frame.clone();
                lie[at + 13] = flags;
                lie[at + 20 + option] = value;
                fix_checksums(&mut lie);
                target.feed(lie);
            }
        }
        assert_conserved(&target.vnet);
    }
    target.finish();
}

#[test]
fn every_ip_option_length_that_lies_is_survived() {
    let mut target = Target::new();
    let valid = target.valid();
    let carriers = ["datagram with IP options", "datagram for another host"];
    for (_, frame) in valid.iter().filter(|(name, _)| carriers.contains(name)) {
        let body = frame[ETHER_LEN + usize::from(frame[ETHER_LEN] & 15) * 4..].to_vec();
        let dst = Ipv4Addr::from(<[u8; 4]>::try_from(&frame[30..34]).unwrap());
        for kind in [0u8, 1, 7, 68, 82, 130, 131, 136, 137, 148, 255] {
            for len in 0..=255u8 {
                for pointer in [0, 3, 4, 5, 8, 9, 40, 255] {
                    let header = Ip4 {
                        options: vec![kind, len, pointer, 0, 10, 0, 0, 1, 7, 3, 4, 0],
                        ..Ip4::new(target.peer.me.ip, dst, 17)
                    };
                    let packet = header.packet(&body);
                    target.feed(target.frame(&packet));
                }
            }
        }
        assert_conserved(&target.vnet);
    }
    target.finish();
}

#[test]
fn every_length_quoted_in_an_icmp_error_that_lies_is_survived() {
    let mut target = Target::new();
    let ours = udp(target.dst(UDP_PORT), target.src(), b"ours");
    let quoted = Ip4::new(target.peer.vnet.ip, target.peer.me.ip, 17).packet(&ours);
    for kind in [3, 4, 5, 11, 12] {
        for code in 0..=16 {
            for first in 0..=255 {
                let mut lie = quoted.clone();
                lie[0] = first;
                for len in [0, 1, 19, 20, 24, 27, 28, quoted.len()] {
                    let message = icmp(kind, code, 0xffff_ffff, &lie[..len]);
                    target.feed(target.frame(&target.ip(1).packet(&message)));
                }
            }
        }
    }
    for total in 0..=u16::MAX {
        let mut lie = quoted.clone();
        set_half(&mut lie, 2, total);
        let sum = checksum(&[&lie[..10], &[0, 0], &lie[12..20]]);
        set_half(&mut lie, 10, sum);
        let message = icmp(3, 4, u32::from(total), &lie);
        target.feed(target.frame(&target.ip(1).packet(&message)));
    }
    target.finish();
}

#[test]
fn every_arp_length_and_type_that_lies_is_dropped() {
    let mut target = Target::new();
    let (me, us) = (target.peer.me, target.peer.vnet);
    let frame = ethernet(us.mac, me.mac, ARP, &arp(1, me, us));
    // Hardware type, protocol type, both lengths: each byte with each wrong value.
    for at in 0..6 {
        for value in 0..=255 {
            let mut lie = frame.clone();
            lie[ETHER_LEN + at] = value;
            if lie != frame {
                target.refuse(lie, &format!("ARP byte {at} set to {value}"));
            }
        }
    }
    let nobody = Station {
        mac: [0; 6],
        ip: Ipv4Addr::UNSPECIFIED,
    };
    for op in 0..=u16::MAX {
        for to in [us, nobody] {
            target.feed(ethernet(us.mac, me.mac, ARP, &arp(op, me, to)));
        }
    }
    target.finish();
}

#[test]
fn every_fragment_offset_and_flag_is_survived() {
    let mut target = Target::new();
    let body = vec![0; 64];
    for fragment in 0..=u16::MAX {
        let header = Ip4 {
            fragment,
            ident: fragment % 100,
            ..target.ip(17)
        };
        let packet = header.packet(&body);
        target.feed(target.frame(&packet));
        if fragment % 1024 == 0 {
            assert_conserved(&target.vnet);
        }
    }
    let stats = target.finish();
    assert!(
        stats.rx_drops(DropReason::Malformed) > 0,
        "a datagram that would end past 65535 bytes is none"
    );
}

/// Bytes that get to a given depth before they turn into noise.
#[derive(Clone, Debug)]
enum Noise {
    /// Nothing but noise.
    Frame(Vec<u8>),
    /// For our station and of a known EtherType.
    Packet(u16, Vec<u8>),
    /// Behind an IPv4 header that is right, to us (0), through us (1) or to everyone (2).
    Body(u8, u8, u16, Vec<u8>),
    /// As that, with checksums that are right, and ports of a socket or (nonzero) nobody's.
    Transport(u8, u8, u16, Vec<u8>),
}

fn noise() -> impl Strategy<Value = Noise> {
    let bytes = |n| prop::collection::vec(any::<u8>(), 0..n);
    let proto = || prop::sample::select(vec![1u8, 6, 17, 89, 2, 200]);
    prop_oneof![
        bytes(120).prop_map(Noise::Frame),
        (
            prop::sample::select(vec![IPV4, ARP, 0x86dd, 0x8100, 0]),
            bytes(100)
        )
            .prop_map(|(ether_type, body)| Noise::Packet(ether_type, body)),
        (
            proto(),
            0..3u8,
            prop_oneof![3 => Just(0), 1 => any::<u16>()],
            bytes(80)
        )
            .prop_map(|(proto, to, fragment, body)| Noise::Body(proto, to, fragment, body)),
        (proto(), 0..2u8, 0..2u16, bytes(80))
            .prop_map(|(proto, to, miss, body)| Noise::Transport(proto, to, miss, body)),
    ]
}

fn realise(target: &Target, noise: Noise) -> Vec<u8> {
    let (me, us) = (target.peer.me, target.peer.vnet);
    let addressed = |proto, to| match to {
        0 => Ip4::new(me.ip, us.ip, proto),
        1 => Ip4::new(me.ip, target.other.me.ip, proto),
        _ => Ip4::new(me.ip, Ipv4Addr::BROADCAST, proto),
    };
    match noise {
        Noise::Frame(mut bytes) => {
            let len = bytes.len().max(ETHER_LEN);
            bytes.resize(len, 0);
            bytes
        }
        Noise::Packet(ether_type, body) => ethernet(us.mac, me.mac, ether_type, &body),
        Noise::Body(proto, to, fragment, body) => {
            let header = Ip4 {
                fragment,
                ..addressed(proto, to)
            };
            target.frame(&header.packet(&body))
        }
        Noise::Transport(proto, to, miss, mut body) => {
            let ports = match proto {
                6 => Some((PEER_PORT, TCP_PORT + miss)),
                17 => Some((PEER_PORT, UDP_PORT + miss)),
                _ => None,
            };
            if let (Some((src, dst)), true) = (ports, body.len() >= 6) {
                set_half(&mut body, 0, src);
                set_half(&mut body, 2, dst);
                if proto == 17 {
                    let len = body.len() as u16;
                    set_half(&mut body, 4, len);
                }
            }
            let mut frame = target.frame(&addressed(proto, to).packet(&body));
            fix_checksums(&mut frame);
            frame
        }
    }
}

#[test]
fn a_hundred_thousand_random_frames_are_counted_one_by_one() {
    let mut target = Target::new();
    let cases = frames(100_000);
    let ran = run_cases(cases, 1, &noise(), |noise| {
        let frame = realise(&target, noise);
        let before = target.stats().received;
        target.feed(frame);
        assert!(target.stats().received > before, "it was not even counted");
        assert_conserved(&target.vnet);
    });
    assert_eq!(ran, cases, "none was left out");
    let stats = target.finish();
    // The noise reached every depth that it was made for.
    let reached = [
        DropReason::NotForUs,
        DropReason::UnknownProtocol,
        DropReason::Malformed,
        DropReason::BadChecksum,
        DropReason::NoSocket,
        DropReason::IcmpIgnored,
        DropReason::TcpUnacceptable,
    ];
    for reason in reached {
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

#[test]
fn valid_frames_with_a_few_bytes_changed_are_counted_one_by_one() {
    let mut target = Target::new();
    let valid = target.valid();
    let change = (
        0..valid.len(),
        prop::collection::vec((any::<u16>(), any::<u8>()), 1..6),
        any::<bool>(),
    );
    run_cases(40_000, 2, &change, |(which, changes, fix)| {
        let mut frame = valid[which].1.clone();
        for (at, value) in changes {
            // Past the Ethernet header, most of the time: what is not for us goes nowhere.
            let at = match at % 16 {
                0 => usize::from(at) % frame.len(),
                _ => ETHER_LEN + usize::from(at) % (frame.len() - ETHER_LEN),
            };
            frame[at] = value;
        }
        if fix {
            fix_checksums(&mut frame);
        }
        target.feed(frame);
        assert_conserved(&target.vnet);
    });
    let stats = target.finish();
    assert!(stats.delivered > 1_000, "{}", drops(&stats));
}

// RFC 9293, section 3.9.2.3 (MUST-57)
#[test]
fn a_segment_to_many_is_not_answered() {
    let mut t = Target::new();
    let [a, b, c, _] = t.peer.vnet.ip.octets();
    let said = |t: &Target| t.vnet.protocol_stats().unwrap().get("tcp.segments_out");
    let before = said(&t);
    for to in [
        Ipv4Addr::BROADCAST,
        Ipv4Addr::new(a, b, c, 255),
        Ipv4Addr::new(224, 0, 0, 1),
    ] {
        for port in [TCP_PORT, 1] {
            let segment = Segment {
                flags: SYN,
                window: 1000,
                ..Segment::default()
            };
            let body = tcp(t.src(), SocketAddrV4::new(to, port), &segment, b"");
            let packet = Ip4::new(t.peer.me.ip, to, 6).packet(&body);
            let frame = ethernet([0xff; 6], t.peer.me.mac, IPV4, &packet);
            t.refuse(frame, &to.to_string());
        }
    }
    assert_eq!(said(&t), before);
    t.finish();
}

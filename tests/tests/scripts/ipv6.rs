//! What the scripts' worlds are in IPv6: addresses, packets from outside, and who answers in the end.

use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use vnet::{OwnedVnet, System};
use vnet_tests::frames::{IPV6, Ip6, Segment, ethernet, tcp, udp};
use vnet_tests::peer::Peer;

use super::World;
use super::acts::Six;

impl World {
    /// The same of IPv6.
    pub(crate) fn places_6(&self) -> [Ipv6Addr; 18] {
        let count = self.vnets.len();
        [
            six(9, 0, 1),
            six(9, 1 % count, 1),
            six(9, 2 % count, 1),
            six(12, 0, 1),
            six(12, 1 % count, 1),
            six(12, 0, 9),
            six(12, 1 % count, 9),
            six(12, 0, 77),
            six(1, 0x11, 2),
            six(22, 1, 1),
            "fe80::9".parse().unwrap(),
            "fe80::ff:fe00:1".parse().unwrap(),
            "ff02::1".parse().unwrap(),
            "ff02::1:ff00:1".parse().unwrap(),
            "ff05::2".parse().unwrap(),
            "::ffff:192.0.0.1".parse().unwrap(),
            Ipv6Addr::LOCALHOST,
            Ipv6Addr::UNSPECIFIED,
        ]
    }

    pub(crate) fn place_6(&self, n: usize) -> Ipv6Addr {
        self.places_6()[n % 18]
    }

    pub(crate) fn packet_6(&self, header: &Ip6, inside: Six) -> Vec<u8> {
        let ends = |src, dst| {
            let (src, dst) = ((header.src, src), (header.dst, dst));
            (SocketAddr::from(src), SocketAddr::from(dst))
        };
        match inside {
            Six::Datagram(port, body) => {
                let (src, dst) = ends(7, port);
                header.packet(17, &udp(src, dst, &body))
            }
            Six::Segment(flags, seq, body) => {
                let (src, dst) = ends(1 + (seq % 3) as u16, 1 + (seq % 5) as u16);
                let segment = Segment {
                    seq,
                    ack: seq ^ 0x5555,
                    flags,
                    window: seq as u16,
                    options: Vec::new(),
                };
                header.packet(6, &tcp(src, dst, &segment, &body))
            }
            Six::Message(kind, word, addresses, options) => {
                let mut rest = word.to_be_bytes().to_vec();
                for n in addresses {
                    rest.extend(self.place_6(n).octets());
                }
                for (kind, content) in options {
                    let end = rest.len() + (2 + content.len()).next_multiple_of(8);
                    rest.extend([kind, (2 + content.len()).div_ceil(8) as u8]);
                    rest.extend(content);
                    rest.resize(end, 0);
                }
                header.icmp(kind, 0, &rest)
            }
            Six::Noise(proto, body) => header.packet(proto, &body),
        }
    }
}

/// The same over IPv6, by a new address and with a neighbour that says who it is.
pub(crate) fn assert_serves_ipv6(system: &System, v: &OwnedVnet, peer: &Peer, i: usize) {
    let (us, them) = (six(12, 100 + i, 1), six(12, 100 + i, 9));
    let net = format!("{us}/64").parse().unwrap();
    v.add_address("new", net).unwrap();
    system.poll(system.now() + Duration::from_secs(3));
    let header = Ip6::new(them, us);
    // RFC 4861, section 4.3: a question with the address of who asks.
    let mut asks = vec![0; 4];
    asks.extend(us.octets());
    asks.extend([1, 1]);
    asks.extend(peer.me.mac);
    let ping = header.icmp(128, 0, b"\x12\x34\0\x01still there?");
    for packet in [header.icmp(135, 0, &asks), ping] {
        peer.send_frame(ethernet(peer.vnet.mac, peer.me.mac, IPV6, &packet));
    }
    system.poll(system.now());
    let frames: Vec<_> = std::iter::from_fn(|| peer.port.recv()).collect();
    let is_reply =
        |frame: &[u8]| frame[12..14] == [0x86, 0xdd] && frame[20] == 58 && frame[54] == 129;
    assert!(
        frames.iter().any(|f| is_reply(&f.to_vec())),
        "no answer over IPv6"
    );
}

/// Gives a vnet its addresses. What routers say is obeyed while it is none itself.
pub(crate) fn speak_ipv6(v: &OwnedVnet, i: usize) {
    for (name, net) in [("lo0", six(9, i, 1)), ("port", six(12, i, 1))] {
        let net = format!("{net}/64").parse().unwrap();
        v.add_address(name, net).unwrap();
    }
    v.set_sysctl("net.inet6.ip6.accept_rtadv", 1).unwrap();
}

/// From where the station beside vnet `at` says something: what routers say, and what is about groups, counts from the
/// link only (RFC 4861, sections 6.1.2 and 8.1; RFC 3810, section 5).
pub(crate) fn source_6(at: usize, inside: &Six) -> Ipv6Addr {
    match inside {
        Six::Message(130..=132 | 134 | 137 | 143, ..) => "fe80::9".parse().unwrap(),
        _ => six(12, at, 9),
    }
}

/// An address of a network that the tests use for something, of a vnet or a link.
pub(crate) fn six(what: u16, which: usize, host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, what, which as u16, 0, 0, 0, host)
}

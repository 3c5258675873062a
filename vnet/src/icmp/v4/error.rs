//! Errors about packets: when one may be sent, from which address, and what it quotes
//! (RFC 1122 section 3.2.2, RFC 1812 section 4.3.2).

use std::net::Ipv4Addr;

use super::{message, unreachable_code};
use crate::base::id::IfId;
use crate::icmp::limit::Limit;
use crate::icmp::message::Message;
use crate::ip::addr::{self, Cast, LocalAddrs};
use crate::ip::family::V4;
use crate::ip::{Outgoing, Refusal};
use crate::packet::header::IpProto;
use crate::packet::header::icmp4::{self, ICMP_LEN, Icmp4, TimeExceededCode};
use crate::packet::header::ipv4::{self, Ipv4Header, MIN_LEN};
use crate::packet::{Cx, Packet, checksum};

/// The packet an error is about.
#[derive(Debug)]
pub(crate) struct About {
    /// Its IP header.
    pub header: Ipv4Header,
    /// Whom its frame was addressed to.
    pub link_cast: Cast,
    /// The packet at its IP header.
    pub packet: Packet,
}

impl About {
    /// About a packet at its IP header; `None` when that makes no sense.
    pub(crate) fn of(mut packet: Packet, link_cast: Cast) -> Option<About> {
        let start = packet.pull_up(MIN_LEN)?;
        let header_len = ipv4::header_len(start).ok()?;
        let header = Ipv4Header::parse_trusted(packet.pull_up(header_len)?).ok()?;
        Some(About {
            header,
            link_cast,
            packet,
        })
    }
}

/// The error to send about a packet; `None` when none may be sent, or not now. The packet is
/// gone either way and counted by the caller.
pub(crate) fn error(
    limit: &mut Limit,
    cx: &mut Cx<'_>,
    addrs: &LocalAddrs<V4>,
    about: About,
    refusal: Refusal,
) -> Option<Message> {
    if !permitted(addrs, &about) {
        return None;
    }
    let says = says(refusal)?;
    let src = source(addrs, &about.header, about.packet.meta.rcvif)?;
    if !limit.take(cx.now) {
        cx.stats.icmp_rate_limited += 1;
        return None;
    }
    let About {
        header, mut packet, ..
    } = about;
    // What is quoted should be what would have been seen on a wire.
    let _ = checksum::finish(&mut packet, 0);
    packet.truncate(MAX_QUOTE);
    let to = Outgoing {
        // RFC 1812 section 4.3.2.5: precedence "internetwork control", otherwise as the
        // packet; RFC 3168: no ECN.
        traffic_class: (header.tos & TOS) | INTERNETWORK_CONTROL,
        ..Outgoing::new(src.into(), header.src.into(), IpProto::ICMP)
    };
    let quoted = packet.meta.bridges;
    let mut packet = message(says, packet.into_payload());
    packet.meta.bridges.quote(quoted);
    Some(Message { to, packet })
}

/// The message that tells of a refusal; `None` of one that IPv4 has no message for.
fn says(refusal: Refusal) -> Option<Icmp4> {
    if let Some(code) = unreachable_code(refusal) {
        let next_hop_mtu = match refusal {
            Refusal::PacketTooBig { mtu } => u16::try_from(mtu).unwrap_or(u16::MAX),
            _ => 0,
        };
        return Some(Icmp4::Unreachable { code, next_hop_mtu });
    }
    match refusal {
        Refusal::HopLimit => Some(Icmp4::TimeExceeded {
            code: TimeExceededCode::TTL,
        }),
        Refusal::Reassembly => Some(Icmp4::TimeExceeded {
            code: TimeExceededCode::REASSEMBLY,
        }),
        Refusal::Header { code: 0, pointer } => Some(Icmp4::ParameterProblem {
            pointer: u8::try_from(pointer).ok()?,
        }),
        // RFC 1812 section 5.2.7.2: routers send redirects for a host, not for a network.
        Refusal::Redirect {
            gateway: std::net::IpAddr::V4(gateway),
        } => Some(Icmp4::Redirect { code: 1, gateway }),
        _ => None,
    }
}

/// RFC 1122 section 3.2.2: an error is never about an error, a broadcast or multicast, by link or
/// by IP address, a fragment other than the first, or a packet whose source is not one host.
fn permitted(addrs: &LocalAddrs<V4>, about: &About) -> bool {
    let header = &about.header;
    about.link_cast == Cast::Unicast
        && addrs.cast(header.dst) == Cast::Unicast
        && addrs.cast(header.src) == Cast::Unicast
        && addr::is_host::<V4>(header.src)
        && header.fragment_offset == 0
        && !is_icmp_error(about)
}

fn is_icmp_error(about: &About) -> bool {
    if about.header.proto != IpProto::ICMP {
        return false;
    }
    let at = usize::from(about.header.header_len);
    let head = about.packet.head();
    let mut kind = [0];
    match head.get(at) {
        Some(byte) => kind[0] = *byte,
        None => {
            if about.packet.payload.copy_to(at - head.len(), &mut kind) == 0 {
                return true;
            }
        }
    }
    !icmp4::is_query(kind[0])
}

/// The address to speak from: the one that was spoken to, or else (RFC 1812 section 4.3.2.4) one
/// of the interface the packet came in on, which is what makes a traceroute show the way.
fn source(addrs: &LocalAddrs<V4>, header: &Ipv4Header, rcvif: Option<IfId>) -> Option<Ipv4Addr> {
    if addrs.contains(header.dst) || header.dst.is_loopback() {
        return Some(header.dst);
    }
    match rcvif {
        Some(ifid) => {
            let on_link = addrs
                .on_interface(ifid)
                .find(|a| a.net.contains(&header.src));
            on_link
                .or_else(|| addrs.on_interface(ifid).next())
                .or_else(|| addrs.iter().find(|a| !a.addr().is_loopback()))
                .map(|a| a.addr())
        }
        None => addrs.iter().map(|a| a.addr()).find(|a| !a.is_loopback()),
    }
}

/// RFC 1812 section 4.3.2.3: as much of the packet as fits without the error exceeding 576 bytes.
const MAX_QUOTE: usize = 576 - MIN_LEN - ICMP_LEN;
const TOS: u8 = 0x1c;
const INTERNETWORK_CONTROL: u8 = 0xc0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;
    use crate::base::time::Instant;
    use crate::icmp::message::{Quoted, Verdict};
    use crate::icmp::v4::input;
    use crate::ip::state::IpState;
    use crate::ip::testing::{Surroundings, header, interfaces, ip, received};
    use crate::ip::v4::output;
    use crate::packet::header::Ipv4Flags;
    use proptest::prelude::*;

    const PORT: Refusal = Refusal::Port;

    struct Bench {
        around: Surroundings,
        state: IpState<V4>,
        limit: Limit,
        ifid: IfId,
    }

    impl Bench {
        fn new() -> Bench {
            let [a, b] = interfaces();
            let mut state = IpState::new(&mut Rng::seeded(1));
            for (ifid, net) in [(b, "10.0.1.1/24"), (a, "10.0.0.1/24")] {
                let net = net.parse().expect("a prefix");
                state.addrs.add(ifid, net).expect("it is new");
            }
            Bench {
                around: Surroundings::new(),
                state,
                limit: Limit::default(),
                ifid: a,
            }
        }

        fn error(&mut self, header: Ipv4Header, data: &[u8], link_cast: Cast) -> Option<Message> {
            let mut packet = received(&header, data);
            packet.meta.rcvif = Some(self.ifid);
            let about = About {
                header,
                link_cast,
                packet,
            };
            let mut cx = self.around.cx();
            error(&mut self.limit, &mut cx, &self.state.addrs, about, PORT)
        }
    }

    #[test]
    fn an_error_is_understood_by_the_one_it_is_for() {
        let mut bench = Bench::new();
        let data: Vec<u8> = (0..200).chain(0..200).chain(0..200).collect();
        let original = Ipv4Header {
            tos: 0xb9,
            ..header("10.0.0.9", "10.0.0.1", data.len())
        };
        let Message { to, mut packet } = bench
            .error(original, &data, Cast::Unicast)
            .expect("it may be sent");
        assert_eq!(
            (to.src, to.dst, to.traffic_class),
            (ip("10.0.0.1").into(), ip("10.0.0.9").into(), 0xd8)
        );
        let header = output::prepend(
            &mut bench.state,
            ip("10.0.0.1"),
            ip("10.0.0.9"),
            &to,
            &mut packet,
        )
        .expect("it is short");
        assert_eq!(packet.len(), 576);
        checksum::finish(&mut packet, 0).expect("the offsets are right");
        let mut received = Packet::incoming(packet.to_vec().split_off(20));
        received.pull_up(8);
        match input(&header.info(), Cast::Unicast, received) {
            Verdict::Error {
                refusal, quoted, ..
            } => {
                assert_eq!(refusal, PORT);
                let expected = Quoted {
                    src: ip("10.0.0.9").into(),
                    dst: ip("10.0.0.1").into(),
                    proto: IpProto::UDP,
                    ip_len: original.total_len.into(),
                    transport: [0, 1, 2, 3, 4, 5, 6, 7],
                };
                assert_eq!(quoted, expected);
                assert_eq!(quoted.ports(), (0x0001, 0x0203));
                assert_eq!(quoted.tcp_seq(), 0x0405_0607);
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_router_speaks_from_where_the_packet_came_in() {
        let mut bench = Bench::new();
        let through = header("10.0.0.9", "192.0.2.1", 8);
        let message = bench.error(through, &[0; 8], Cast::Unicast);
        assert_eq!(message.map(|m| m.to.src), Some(ip("10.0.0.1").into()));
    }

    #[test]
    fn silence_where_it_is_due() {
        let plain = header("10.0.0.9", "10.0.0.1", 8);
        let from = |src| Ipv4Header { src, ..plain };
        let icmp = Ipv4Header {
            proto: IpProto::ICMP,
            ..plain
        };
        let second = Ipv4Header {
            fragment_offset: 8,
            ..plain
        };
        let first = Ipv4Header {
            flags: Ipv4Flags::MORE_FRAGMENTS,
            ..plain
        };
        let to = |dst| Ipv4Header { dst, ..plain };
        let one = Cast::Unicast;
        for (header, data, link_cast, sent) in [
            (plain, [0; 8], one, true),
            (plain, [0; 8], Cast::Broadcast, false),
            (plain, [0; 8], Cast::Multicast, false),
            (to(ip("10.0.0.255")), [0; 8], one, false),
            (to(ip("255.255.255.255")), [0; 8], one, false),
            (to(ip("224.0.0.1")), [0; 8], one, false),
            (from(ip("0.0.0.0")), [0; 8], one, false),
            (from(ip("10.0.1.255")), [0; 8], one, false),
            (from(ip("224.0.0.1")), [0; 8], one, false),
            (from(ip("250.0.0.1")), [0; 8], one, false),
            (first, [0; 8], one, true),
            (second, [0; 8], one, false),
            (icmp, [8; 8], one, true),  // about an echo request
            (icmp, [3; 8], one, false), // about an error
            (icmp, [200; 8], one, false),
        ] {
            let message = Bench::new().error(header, &data, link_cast);
            assert_eq!(message.is_some(), sent, "{header:?} {data:?}");
        }
    }

    #[test]
    fn what_the_limit_holds_back_is_counted() {
        let mut bench = Bench::new();
        let plain = header("10.0.0.9", "10.0.0.1", 8);
        let sent = (0..60).filter(|_| bench.error(plain, &[0; 8], Cast::Unicast).is_some());
        assert_eq!(sent.count(), 50);
        assert_eq!(bench.around.stats.icmp_rate_limited, 10);
        bench.around.now = Instant::from_nanos(1_000_000);
        assert!(bench.error(plain, &[0; 8], Cast::Unicast).is_some());
    }

    proptest! {
        #[test]
        fn any_packet_may_be_quoted(
            data in prop::collection::vec(any::<u8>(), 0..700),
            header_len in 5u8..16, proto in 0u8..3, stripped: bool,
        ) {
            let mut bench = Bench::new();
            let header = Ipv4Header {
                proto: IpProto(proto),
                ..header("10.0.0.9", "10.0.0.1", data.len())
            };
            let mut packet = received(&header, &data);
            if stripped {
                packet.pull_up(20);
                packet.strip(20);
                packet = output::restore(&header, packet);
            }
            let header = Ipv4Header { header_len: header_len * 4, ..header };
            let about = About { header, link_cast: Cast::Unicast, packet };
            let mut cx = bench.around.cx();
            if let Some(message) = error(&mut bench.limit, &mut cx, &bench.state.addrs, about, PORT) {
                prop_assert!(message.packet.len() <= 556);
            }
        }
    }
}

//! What a router does between input and output (RFC 1812 section 5.2.1 and 5.3).
//!
//! Martian addresses, broadcasts and link-local packets do not get here:
//! [`input`](super::v4::input) drops them.

use std::net::Ipv4Addr;

use super::family::V4;
use super::fib::RouteHit;
use super::state::{IpState, Redirects};
use super::v4::output;
use crate::base::stats::DropReason;
use crate::packet::Packet;
use crate::packet::header::icmp4::{IcmpKind, TimeExceededCode, UnreachableCode};
use crate::packet::header::ipv4::{self, Ipv4Header};

/// What becomes of a packet for another host.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It goes on, its time to live decremented. [`fit`](output::fit) is still to be asked.
    Send {
        /// Its header, as it is now.
        header: Ipv4Header,
        /// The way.
        route: RouteHit<V4>,
        /// The sender would have a shorter way through this host; it may be told.
        redirect: Option<Ipv4Addr>,
    },
    /// It does not, and its sender is to be told why. It is as it came.
    Refuse {
        /// What to tell.
        kind: IcmpKind,
        /// What to count.
        reason: DropReason,
    },
}

/// A way out of this router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Egress {
    /// The route found for the packet's destination.
    pub route: RouteHit<V4>,
    /// The largest IP packet that the route's interface takes.
    pub ip_mtu: usize,
}

/// Decides on a packet that [`input`](super::v4::input::input) said is to be forwarded. `egress` is
/// where its destination's route leads, `None` when there is no route. The packet stays where it is:
/// moved in and out with the verdict it would be copied twice.
pub(crate) fn forward(
    state: &IpState<V4>,
    header: &Ipv4Header,
    packet: &mut Packet,
    egress: Option<Egress>,
) -> Verdict {
    // RFC 1812 section 5.3.1: a packet that has no more hops left is not passed on, whatever is
    // to be said about its route.
    if header.ttl <= 1 {
        let code = TimeExceededCode::TTL;
        return refuse(IcmpKind::TimeExceeded { code }, DropReason::TtlExceeded);
    }
    let Some(Egress { route, ip_mtu }) = egress else {
        let code = UnreachableCode::NET;
        return refuse(IcmpKind::Unreachable { code }, DropReason::NoRoute);
    };
    if header.dont_fragment() && output::longest_piece(header, packet) > ip_mtu {
        let mtu = u16::try_from(ip_mtu).unwrap_or(u16::MAX);
        return refuse(IcmpKind::FragmentationNeeded { mtu }, DropReason::TooBig);
    }
    let redirect = redirect(state, header, packet, route);
    ipv4::decrement_ttl(packet.head_mut());
    Verdict::Send {
        header: Ipv4Header {
            ttl: header.ttl - 1,
            ..*header
        },
        route,
        redirect,
    }
}

fn refuse(kind: IcmpKind, reason: DropReason) -> Verdict {
    Verdict::Refuse { kind, reason }
}

/// RFC 1812 section 5.2.7.2: the packet leaves where it came in, and its sender is on that link.
fn redirect(
    state: &IpState<V4>,
    header: &Ipv4Header,
    packet: &Packet,
    route: RouteHit<V4>,
) -> Option<Ipv4Addr> {
    if state.tunables.redirects == Redirects::Silent || packet.meta.rcvif != Some(route.ifid) {
        return None;
    }
    let hop = route.hop(header.dst);
    let reachable = |addr| state.addrs.is_on_link(route.ifid, addr);
    (reachable(header.src) && reachable(hop)).then_some(hop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::IfId;
    use crate::base::rng::Rng;
    use crate::ip::fib::{NextHop, Origin};
    use crate::packet::header::{IpProto, Ipv4Flags};
    use crate::packet::{Gso, GsoKind, Payload};

    struct Bench {
        state: IpState<V4>,
        egress: Egress,
    }

    impl Bench {
        fn new(ip_mtu: usize) -> Bench {
            let mut table = slotmap::SlotMap::<IfId, ()>::with_key();
            let ifid = table.insert(());
            let mut state = IpState::new(&mut Rng::seeded(1));
            let net = "10.0.0.1/24".parse().expect("a prefix");
            state.addrs.add(ifid, net).expect("it is the first");
            let route = RouteHit {
                ifid,
                next_hop: NextHop::Gateway(Ipv4Addr::new(10, 0, 0, 9)),
                origin: Origin::Static,
            };
            Bench {
                state,
                egress: Egress { route, ip_mtu },
            }
        }

        fn packet(&self, ttl: u8, flags: Ipv4Flags, len: usize) -> (Ipv4Header, Packet) {
            let header = Ipv4Header {
                src: Ipv4Addr::new(10, 0, 0, 7),
                dst: Ipv4Addr::new(192, 0, 2, 1),
                proto: IpProto::TCP,
                ttl,
                tos: 0,
                ident: 1,
                flags,
                fragment_offset: 0,
                total_len: 20 + len as u16,
                header_len: 20,
            };
            let mut packet = Packet::outgoing(Payload::from(vec![0x50; len]));
            header.emit(packet.prepend(20));
            packet.meta.rcvif = Some(self.egress.route.ifid);
            (header, packet)
        }

        fn forward(&self, ttl: u8, flags: Ipv4Flags, len: usize) -> (Verdict, Packet) {
            let (header, mut packet) = self.packet(ttl, flags, len);
            let verdict = forward(&self.state, &header, &mut packet, Some(self.egress));
            (verdict, packet)
        }
    }

    fn refusal(verdict: Verdict) -> Option<(IcmpKind, DropReason)> {
        match verdict {
            Verdict::Refuse { kind, reason, .. } => Some((kind, reason)),
            Verdict::Send { .. } => None,
        }
    }

    #[test]
    fn the_last_hop_is_not_taken() {
        let bench = Bench::new(1500);
        let time = IcmpKind::TimeExceeded {
            code: TimeExceededCode::TTL,
        };
        for ttl in [0, 1] {
            let (verdict, _) = bench.forward(ttl, Ipv4Flags::NONE, 10);
            assert_eq!(refusal(verdict), Some((time, DropReason::TtlExceeded)));
        }
        let (Verdict::Send { header, .. }, packet) = bench.forward(2, Ipv4Flags::NONE, 10) else {
            panic!("two hops are enough");
        };
        assert_eq!(Ipv4Header::parse(packet.head()), Ok(header));
        assert_eq!(header.ttl, 1);
    }

    #[test]
    fn no_route() {
        let bench = Bench::new(1500);
        let (header, mut packet) = bench.packet(9, Ipv4Flags::NONE, 10);
        let code = UnreachableCode::NET;
        assert_eq!(
            refusal(forward(&bench.state, &header, &mut packet, None)),
            Some((IcmpKind::Unreachable { code }, DropReason::NoRoute))
        );
    }

    #[test]
    fn too_big_by_the_packet_or_by_its_segments() {
        let bench = Bench::new(1000);
        let too_big = IcmpKind::FragmentationNeeded { mtu: 1000 };
        let forbidden = Ipv4Flags::DONT_FRAGMENT;
        assert_eq!(
            refusal(bench.forward(9, forbidden, 981).0),
            Some((too_big, DropReason::TooBig))
        );
        assert_eq!(refusal(bench.forward(9, forbidden, 980).0), None);
        assert_eq!(refusal(bench.forward(9, Ipv4Flags::NONE, 981).0), None);
        for (segment_size, expected) in [(960, None), (961, Some((too_big, DropReason::TooBig)))] {
            let (header, mut packet) = bench.packet(9, forbidden, 9000);
            packet.meta.gso = Some(Gso {
                kind: GsoKind::Tcp4,
                segment_size,
            });
            let verdict = forward(&bench.state, &header, &mut packet, Some(bench.egress));
            assert_eq!(refusal(verdict), expected, "{segment_size}");
        }
    }

    #[test]
    fn a_shorter_way_is_seen_only_when_asked_for() {
        let mut bench = Bench::new(1500);
        let redirect = |bench: &Bench| match bench.forward(9, Ipv4Flags::NONE, 9).0 {
            Verdict::Send { redirect, .. } => redirect,
            Verdict::Refuse { .. } => panic!("it can be sent"),
        };
        assert_eq!(redirect(&bench), None);
        bench.state.tunables.redirects = Redirects::Sent;
        assert_eq!(redirect(&bench), Some(Ipv4Addr::new(10, 0, 0, 9)));
        bench.egress.route.next_hop = NextHop::Gateway(Ipv4Addr::new(10, 0, 1, 9));
        assert_eq!(redirect(&bench), None);
    }
}

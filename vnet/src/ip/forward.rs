//! What a router does between input and output (RFC 1812 section 5.2.1 and 5.3).
//!
//! Martian addresses, broadcasts and link-local packets never arrive here, because the input of their version drops them.

use std::net::IpAddr;

use super::{Ip, NoWay, Refusal, Way, versions};
use crate::base::stats::DropReason;
use crate::packet::header::{Fragmentation, IpInfo};
use crate::packet::{Packet, gso};

/// What becomes of a packet for another host.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It goes on, its hop limit decremented. Whether it fits its link is still to be asked.
    Send {
        /// The way.
        way: Way,
        /// The sender would have a shorter way through this host; it may be told.
        redirect: Option<IpAddr>,
    },
    /// It does not, and nobody is to be told.
    Drop(DropReason),
    /// It does not, and its sender is to be told why. It is as it came.
    Refuse {
        /// What to tell.
        refusal: Refusal,
        /// What to count.
        reason: DropReason,
    },
}

/// A way out of this router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Egress {
    /// The way found to the packet's destination.
    pub way: Way,
    /// The largest IP packet that its interface takes.
    pub ip_mtu: usize,
}

/// Decides on a packet that its version's input said is to be forwarded. `egress` is where the way to
/// its destination leads, or why there is none. The packet stays where it is: moved in and out
/// with the verdict it would be copied twice.
pub(crate) fn forward(
    ip: &Ip,
    info: &IpInfo,
    packet: &mut Packet,
    egress: Result<Egress, NoWay>,
) -> Verdict {
    // RFC 1812 section 5.3.1: a packet that has no more hops left is not passed on, whatever is
    // to be said about its route.
    if info.hop_limit <= 1 {
        return refuse(Refusal::HopLimit, DropReason::TtlExceeded);
    }
    let Egress { way, ip_mtu } = match egress {
        Ok(egress) => egress,
        Err(why) => {
            return match why.refusal() {
                Some(refusal) => refuse(refusal, why.reason()),
                None => Verdict::Drop(why.reason()),
            };
        }
    };
    if info.fragmentation == Fragmentation::Forbidden && gso::longest_packet(packet) > ip_mtu {
        let mtu = u32::try_from(ip_mtu).unwrap_or(u32::MAX);
        return refuse(Refusal::PacketTooBig { mtu }, DropReason::TooBig);
    }
    // RFC 1812 section 5.2.7.2: the packet leaves where it came in, and its sender is on that link.
    let comes_back = packet.meta.rcvif == Some(way.ifid);
    let redirect = (comes_back && ip.may_redirect(info.src, &way)).then_some(way.hop);
    versions::decrement_hop_limit(info.dst, packet);
    Verdict::Send { way, redirect }
}

fn refuse(refusal: Refusal, reason: DropReason) -> Verdict {
    Verdict::Refuse { refusal, reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    use crate::base::id::IfId;
    use crate::base::rng::Rng;
    use crate::ip::fib::Origin;
    use crate::ip::state::Redirects;
    use crate::packet::header::{IpProto, Ipv4Flags, Ipv4Header};
    use crate::packet::{Gso, GsoKind, Payload};

    struct Bench {
        ip: Ip,
        egress: Egress,
    }

    impl Bench {
        fn new(ip_mtu: usize) -> Bench {
            let mut table = slotmap::SlotMap::<IfId, ()>::with_key();
            let ifid = table.insert(());
            let mut ip = Ip::new(&mut Rng::seeded(1));
            let net = "10.0.0.1/24".parse().expect("a prefix");
            ip.v4.addrs.add(ifid, net).expect("it is the first");
            let way = Way {
                ifid,
                hop: Ipv4Addr::new(10, 0, 0, 9).into(),
                origin: Origin::Static,
            };
            Bench {
                ip,
                egress: Egress { way, ip_mtu },
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
            packet.meta.rcvif = Some(self.egress.way.ifid);
            (header, packet)
        }

        fn forward(&self, ttl: u8, flags: Ipv4Flags, len: usize) -> (Verdict, Packet) {
            let (header, mut packet) = self.packet(ttl, flags, len);
            let verdict = forward(&self.ip, &header.info(), &mut packet, Ok(self.egress));
            (verdict, packet)
        }
    }

    fn refusal(verdict: Verdict) -> Option<(Refusal, DropReason)> {
        match verdict {
            Verdict::Refuse { refusal, reason } => Some((refusal, reason)),
            Verdict::Send { .. } | Verdict::Drop(_) => None,
        }
    }

    #[test]
    fn the_last_hop_is_not_taken() {
        let bench = Bench::new(1500);
        for ttl in [0, 1] {
            let (verdict, _) = bench.forward(ttl, Ipv4Flags::NONE, 10);
            assert_eq!(
                refusal(verdict),
                Some((Refusal::HopLimit, DropReason::TtlExceeded))
            );
        }
        let (Verdict::Send { .. }, packet) = bench.forward(2, Ipv4Flags::NONE, 10) else {
            panic!("two hops are enough");
        };
        let header = Ipv4Header::parse(packet.head());
        assert_eq!(header.map(|header| header.ttl), Ok(1));
    }

    #[test]
    fn without_a_way_its_sender_is_told_why() {
        let bench = Bench::new(1500);
        let verdict = |why| {
            let (header, mut packet) = bench.packet(9, Ipv4Flags::NONE, 10);
            forward(&bench.ip, &header.info(), &mut packet, Err(why))
        };
        for (why, expected) in [
            (NoWay::NoRoute, (Refusal::NoRoute, DropReason::NoRoute)),
            (
                NoWay::Unreachable,
                (Refusal::HostUnreachable, DropReason::UnreachableRoute),
            ),
            (
                NoWay::Prohibited,
                (Refusal::Prohibited, DropReason::Prohibited),
            ),
        ] {
            assert_eq!(refusal(verdict(why)), Some(expected), "{why:?}");
        }
        assert!(matches!(
            verdict(NoWay::Blackhole),
            Verdict::Drop(DropReason::Blackhole)
        ));
    }

    #[test]
    fn too_big_by_the_packet_or_by_its_segments() {
        let bench = Bench::new(1000);
        let too_big = Refusal::PacketTooBig { mtu: 1000 };
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
            let verdict = forward(&bench.ip, &header.info(), &mut packet, Ok(bench.egress));
            assert_eq!(refusal(verdict), expected, "{segment_size}");
        }
    }

    #[test]
    fn a_shorter_way_is_seen_only_when_asked_for() {
        let mut bench = Bench::new(1500);
        let redirect = |bench: &Bench| match bench.forward(9, Ipv4Flags::NONE, 9).0 {
            Verdict::Send { redirect, .. } => redirect,
            Verdict::Refuse { .. } | Verdict::Drop(_) => panic!("it can be sent"),
        };
        assert_eq!(redirect(&bench), None);
        bench.ip.v4.tunables.redirects = Redirects::Sent;
        assert_eq!(redirect(&bench), Some(bench.egress.way.hop));
        bench.egress.way.hop = Ipv4Addr::new(10, 0, 1, 9).into();
        assert_eq!(redirect(&bench), None);
    }
}

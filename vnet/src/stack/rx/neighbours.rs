//! What comes in of ARP and neighbour discovery: handed to [`neigh`](crate::neigh) with what the packet is
//! to this vnet, and answered.

use std::net::{IpAddr, Ipv6Addr};

use crate::base::id::IfId;
use crate::base::stats::DropReason;
use crate::icmp;
use crate::ip::addr::{self, Cast, Kind, Ours};
use crate::ip::dad::Phase;
use crate::ip::family::{Family, V4, V6};
use crate::ip::fib::Route;
use crate::ip::input::Version;
use crate::ip::state::Forwarding;
use crate::neigh::arp::ArpVerdict;
use crate::neigh::ndp::NdpVerdict;
use crate::neigh::verdict::{NeighIngress, NeighLimit, Release, Scope};
use crate::packet::header::arp::ARP_LEN;
use crate::packet::header::ndp::{Flags, Ndp};
use crate::packet::header::{ArpOp, ArpPacket, EtherType, IpInfo, ipv6, zone};
use crate::packet::{Cx, MacAddr, Packet};
use crate::stack::Stack;
use crate::stack::{tx, ways};

pub(super) fn arp(s: &mut Stack, cx: &mut Cx, ifid: IfId, mac: MacAddr, mut packet: Packet) {
    let Some(arp) = packet
        .pull_up(ARP_LEN)
        .and_then(|bytes| ArpPacket::parse(bytes).ok())
    else {
        return cx.stats.drop_rx(DropReason::Malformed);
    };
    // RFC 5227 section 2.1.1: somebody has an address that we want, or wants it as well.
    let claimed = match arp.sender_ip.is_unspecified() {
        true => arp.target_ip,
        false => arp.sender_ip,
    };
    let phase = s.ip.dad.phase(ifid, claimed.into());
    if arp.sender_mac != mac && phase == Some(Phase::Tentative) {
        cx.stats.delivered += 1;
        return s.duplicate(ifid, claimed.into());
    }
    let ingress = NeighIngress {
        ifid,
        mac,
        round_trip: ways::round_trip(s, ifid),
        sender: sender::<V4>(s, ifid, arp.sender_ip),
        target: match s.ip.v4.addrs.answers(ifid, arp.target_ip) {
            true => Scope::Ours,
            false if s.neigh.config().proxy.is_on() && is_proxied(s, ifid, &arp) => Scope::Ours,
            false => Scope::Stranger,
        },
    };
    match s.neigh.input(cx.now, ingress, &arp) {
        ArpVerdict::Drop(reason) => cx.stats.drop_rx(reason),
        ArpVerdict::Accepted { reply, release } => {
            cx.stats.delivered += 1;
            if let Some(reply) = reply {
                tx::neighbours::arp(s, cx, ifid, reply.target_mac, &reply);
            }
            send(s, cx, ifid, EtherType::IPV4, release);
        }
        ArpVerdict::Conflict(conflict) => {
            cx.stats.delivered += 1;
            tracing::debug!(
                target: "vnet::neigh",
                ip = %conflict.ip, mac = %conflict.mac,
                "another station uses an address of ours"
            );
            match conflict.defence {
                Some(defence) => {
                    tx::neighbours::arp(s, cx, ifid, MacAddr::BROADCAST, &defence);
                }
                // RFC 3927 section 2.5 (b): one that the interface gave itself is not fought for.
                None if s.ip.link_local.of(ifid) == Some(conflict.ip) => {
                    s.ip.dad.conflict(ifid);
                    s.leave_link_local(ifid, conflict.ip);
                }
                None => {}
            }
        }
    }
}

/// RFC 1027, section 2.4: true when the target of a question is a station behind this router, seen from the interface.
/// Whoever asks whether an address is free asks about this link only, and so is a link-local address of it (RFC 3927,
/// section 2.7).
#[cold]
fn is_proxied(s: &mut Stack, ifid: IfId, arp: &ArpPacket) -> bool {
    let is_question = arp.op == ArpOp::Request
        && !arp.sender_ip.is_unspecified()
        && arp.sender_ip != arp.target_ip;
    is_question
        && s.ip.v4.tunables.forwarding == Forwarding::Enabled
        && addr::is_station::<V4>(arp.target_ip)
        && !arp.target_ip.is_link_local()
        && !s.ip.v4.addrs.contains(arp.target_ip)
        && !s.ip.v4.addrs.is_broadcast(arp.target_ip)
        && (s.ip.lookup(arp.target_ip.into())).is_ok_and(|way| way.ifid != ifid)
}

/// RFC 4389 section 4.1.3: the same of IPv6. A group that is asked whether an address is free is asked about its link.
#[cold]
fn is_proxied_v6(s: &mut Stack, ifid: IfId, src: Ipv6Addr, message: &Ndp) -> bool {
    let Ndp::Solicitation { target, .. } = *message else {
        return false;
    };
    s.ip.v6().tunables.forwarding == Forwarding::Enabled
        && !src.is_unspecified()
        && V6::kind(target) == Kind::Unicast
        && !s.ip.v6().addrs.contains(target)
        && !s.ip.dad.holds(target.into())
        && (s.ip.lookup(target.into())).is_ok_and(|way| way.ifid != ifid)
}

/// RFC 4389 section 4.1.3.2: a neighbour asks this router, in whose place it thinks another is, whether that is there. True
/// when the packet, at its IP header, was that.
#[cold]
pub(super) fn is_probe_of_proxied(
    s: &mut Stack,
    cx: &mut Cx,
    info: &IpInfo,
    packet: &Packet,
) -> bool {
    let (IpAddr::V6(src), Some(ifid)) = (info.src, packet.meta.rcvif) else {
        return false;
    };
    if !s.ip.v6().tunables.proxies.is_on() {
        return false;
    }
    let mut copy = packet.clone();
    copy.strip(ipv6::MIN_LEN);
    match icmp::input(info, Cast::Unicast, copy) {
        icmp::Verdict::Discovery(message) if is_proxied_v6(s, ifid, src, &message) => {
            discovery(s, cx, info, Some(ifid), message);
            true
        }
        _ => false,
    }
}

/// Sends the packets that waited for a neighbour.
fn send(s: &mut Stack, cx: &mut Cx, ifid: IfId, ether_type: EtherType, release: Option<Release>) {
    let Some(Release { mac, packets }) = release else {
        return;
    };
    for packet in packets {
        tx::ether(s, cx, ifid, mac, ether_type, packet);
    }
}

impl Stack {
    /// Sets a neighbour's address by hand.
    ///
    /// # Errors
    /// The table is full of entries that cannot go.
    pub(crate) fn set_neighbour(
        &mut self,
        cx: &mut Cx,
        ifid: IfId,
        ip: IpAddr,
        mac: MacAddr,
    ) -> Result<(), NeighLimit> {
        let release = self.neigh.set_permanent(cx.now, ifid, ip, mac)?;
        send(self, cx, ifid, EtherType::of(ip), release);
        Ok(())
    }
}

/// What the sender of a packet of ARP or neighbour discovery is to us.
fn sender<V: Version>(s: &Stack, ifid: IfId, ip: V::Addr) -> Scope {
    let state = V::of(&s.ip);
    match state.addrs.find(ip) {
        Some(Ours::Address(on)) if on == ifid => return Scope::Ours,
        // Also what an interface of ours says that is on the same link.
        Some(Ours::Address(_) | Ours::Broadcast(_) | Ours::Anycast(_)) => {
            return Scope::Impossible;
        }
        None if !addr::is_station::<V>(ip) => return Scope::Impossible,
        None => {}
    }
    let leads_there =
        |route: &Route<V>| route.ifid == ifid && route.hop(ip) == ip && route.kind.is_default();
    match state.addrs.is_on_link(ifid, ip) || state.fib.route(ip).is_some_and(leads_there) {
        true => Scope::Neighbour,
        false => Scope::Stranger,
    }
}

/// RFC 4862 sections 5.4.3 and 5.4.4: true when the sender has the target, or wants one that we have not had
/// before it.
fn claims(phase: Phase, src: Ipv6Addr, ours: MacAddr, message: Ndp) -> bool {
    match message {
        Ndp::Solicitation { .. } => src.is_unspecified() && phase != Phase::InUse,
        Ndp::Advertisement { station, .. } => station != Some(ours),
    }
}

/// A message of neighbour discovery came in.
#[inline(never)]
pub(super) fn discovery(
    s: &mut Stack,
    cx: &mut Cx,
    info: &IpInfo,
    rcvif: Option<IfId>,
    message: Ndp,
) {
    let (IpAddr::V6(src), Some(netif)) = (info.src, rcvif.and_then(|id| s.ifs.get(id))) else {
        return cx.stats.drop_rx(DropReason::Malformed);
    };
    let (ifid, mac) = (netif.id, netif.mac);
    if !netif.can().needs_neighbours {
        return cx.stats.drop_rx(DropReason::NotForUs);
    }
    let number = zone::number(ifid).unwrap_or_default();
    let message = message.on_link(number);
    let target = message.target();
    // What others say of an anycast address is no conflict: they have it as well.
    let is_anycast = matches!(message, Ndp::Solicitation { .. })
        && s.ip.v6().addrs.is_anycast_on(ifid, target)
        && !s.ip.v6().addrs.contains(target);
    let answers = s.ip.v6().addrs.answers(ifid, target);
    // RFC 4861 sections 7.2.7 and 7.2.8: others may answer as well.
    let is_shared = is_anycast
        || !answers && s.ip.v6().tunables.proxies.is_on() && is_proxied_v6(s, ifid, src, &message);
    let ingress = NeighIngress {
        ifid,
        mac,
        round_trip: ways::round_trip(s, ifid),
        sender: sender::<V6>(s, ifid, src),
        target: match answers || is_shared {
            true => Scope::Ours,
            false => Scope::Stranger,
        },
    };
    if let Some(phase) = s.ip.dad.phase(ifid, message.target().into()) {
        // RFC 7527 section 4.2: what a loop brings back says nothing.
        if let Ndp::Solicitation {
            target,
            nonce: Some(nonce),
            ..
        } = message
            && s.ip.dad.is_own(ifid, target.into(), nonce)
        {
            return cx.stats.drop_rx(DropReason::NotForUs);
        }
        if claims(phase, src, mac, message) {
            cx.stats.delivered += 1;
            return s.duplicate(ifid, message.target().into());
        }
    }
    // RFC 4861 section 7.2.5: who is a router no more is none to be taken.
    let retires = match message {
        Ndp::Advertisement { target, flags, .. } => !flags.has(Flags::ROUTER) && target == src,
        Ndp::Solicitation { .. } => false,
    };
    match s.neigh.discovered(cx.now, ingress, src, message) {
        NdpVerdict::Drop(reason) => cx.stats.drop_rx(reason),
        NdpVerdict::Accepted { answer, release } => {
            cx.stats.delivered += 1;
            match answer {
                Some(answer) if is_shared => {
                    tx::neighbours::advertise_later(s, cx, ifid, answer);
                }
                Some(answer) => tx::neighbours::advertise(s, cx, ifid, answer),
                None => {}
            }
            send(s, cx, ifid, EtherType::IPV6, release);
            if retires {
                s.retire_router(ifid, src);
            }
        }
        NdpVerdict::Conflict { ip } => {
            cx.stats.delivered += 1;
            tracing::debug!(
                target: "vnet::neigh", %ip,
                "another station uses an address of ours"
            );
        }
    }
}

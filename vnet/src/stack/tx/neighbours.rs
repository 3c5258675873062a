//! What goes out of ARP and neighbour discovery: questions, answers and announcements.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{ether, hop};
use crate::base::id::IfId;
use crate::icmp;
use crate::ip::dad::{Due, Phase};
use crate::ip::family::{Family, V6};
use crate::ip::fib::Origin;
use crate::ip::state::Forwarding;
use crate::ip::v6::anycast::Waiting;
use crate::ip::{Outgoing, Way, v6};
use crate::neigh;
use crate::neigh::ndp::Answer;
use crate::netif::Netif;
use crate::packet::header::arp::ARP_LEN;
use crate::packet::header::ndp::{Flags, Ndp};
use crate::packet::header::{ArpPacket, EtherType, IpProto, zone};
use crate::packet::meta::Crossed;
use crate::packet::{Csum, Cx, MacAddr, Packet, Payload};
use crate::stack::Stack;

/// Sends an ARP packet.
pub(in crate::stack) fn arp(s: &mut Stack, cx: &mut Cx, ifid: IfId, to: MacAddr, arp: &ArpPacket) {
    let mut packet = Packet::outgoing(Payload::new());
    arp.emit(packet.prepend(ARP_LEN));
    packet.meta.csum = Csum::Verified;
    ether(s, cx, ifid, to, EtherType::ARP, packet);
}

pub(super) fn request(s: &mut Stack, cx: &mut Cx, probe: neigh::ProbeOut) {
    let Some(netif) = s.ifs.get(probe.ifid) else {
        return;
    };
    let mac = netif.mac;
    match probe.ip {
        IpAddr::V4(target) => arp_request(s, cx, &probe, mac, target),
        IpAddr::V6(target) => solicit(s, cx, &probe, mac, target),
    }
}

fn arp_request(
    s: &mut Stack,
    cx: &mut Cx,
    probe: &neigh::ProbeOut,
    mac: MacAddr,
    target: Ipv4Addr,
) {
    // Best the address in whose prefix the target is; an interface without addresses borrows one.
    // A vnet that has none asks as a station that does not know its own yet (RFC 5227 section 1.1).
    let source = s.ip.v4.addrs.source_for(target, probe.ifid, target);
    let source = source.unwrap_or(Ipv4Addr::UNSPECIFIED);
    let question = ArpPacket::request(mac, source, target);
    let to = probe.unicast_to.unwrap_or(MacAddr::BROADCAST);
    arp(s, cx, probe.ifid, to, &question);
}

pub(super) fn announce(s: &mut Stack, cx: &mut Cx, ifid: IfId, addr: IpAddr) {
    let Some(netif) = s.ifs.get(ifid) else { return };
    if !(netif.can().needs_neighbours && netif.is_running()) {
        return;
    }
    let mac = netif.mac;
    let retrans = s.neigh.retrans(ifid);
    let dad = s.ip.dad.made();
    match dad.and_then(|dad| dad.start(cx.now, retrans, ifid, addr)) {
        Some(true) => {
            s.ip.note_deadlines();
            return ask_for_ourselves(s, cx, ifid, addr);
        }
        // It was begun with before, or the first question is to wait.
        Some(false) => return s.ip.note_deadlines(),
        None => {}
    }
    match addr {
        IpAddr::V4(addr) => {
            let announcement = neigh::arp::announce(addr, mac);
            arp(s, cx, ifid, MacAddr::BROADCAST, &announcement);
        }
        IpAddr::V6(target) => {
            let (station, flags) = (Some(mac), Flags::OVERRIDE);
            let said = Ndp::Advertisement {
                target,
                station,
                flags: and_router(s, flags),
            };
            let group = zone::bind(V6::ALL_NODES, zone::number(ifid).unwrap_or_default());
            ndp(
                s,
                cx,
                ifid,
                (target, group),
                MacAddr::of_group(group.into()),
                &said,
            );
        }
    }
}

/// Goes on asking whether others have addresses of ours, and begins to use those that nobody has.
pub(in crate::stack) fn detect(s: &mut Stack, cx: &mut Cx) {
    let Stack { ip, neigh, .. } = &mut *s;
    let dad = ip.dad.made();
    let due = dad.map(|dad| dad.take_due(cx.now, |ifid| neigh.retrans(ifid)));
    for (ifid, net, due) in due.unwrap_or_default() {
        let is_running = s.ifs.get(ifid).is_some_and(Netif::is_running);
        match due {
            // Nobody may have heard the question: it begins again when the interface runs.
            Due::Ask if !is_running => s.ip.dad.pause(ifid, net.addr()),
            Due::Unique(phase) if !is_running => s.ip.dad.begin(ifid, net, phase),
            Due::Ask => ask_for_ourselves(s, cx, ifid, net.addr()),
            // It is announced with the next output.
            Due::Unique(Phase::Tentative) => s.unique(ifid, net),
            Due::Unique(_) => announce(s, cx, ifid, net.addr()),
            // RFC 5227 section 2.3, while it is ours.
            Due::Announce if s.ip.contains(net.addr()) => announce(s, cx, ifid, net.addr()),
            Due::Announce => {}
        }
    }
}

/// RFC 4862 section 5.4.2, RFC 5227 section 2.1.1: the question whether somebody has an address that we want comes from
/// nobody.
fn ask_for_ourselves(s: &mut Stack, cx: &mut Cx, ifid: IfId, target: IpAddr) {
    let target = match (target, s.ifs.get(ifid)) {
        (IpAddr::V4(target), Some(netif)) => {
            let question = ArpPacket::request(netif.mac, Ipv4Addr::UNSPECIFIED, target);
            return arp(s, cx, ifid, MacAddr::BROADCAST, &question);
        }
        (IpAddr::V6(target), Some(_)) => target,
        (_, None) => return,
    };
    let question = Ndp::Solicitation {
        target,
        source: None,
        nonce: s.ip.dad.nonce(ifid, target.into()),
    };
    let group = v6::solicited_node(target);
    let to = MacAddr::of_group(group.into());
    let ends = (Ipv6Addr::UNSPECIFIED, group);
    ndp(s, cx, ifid, ends, to, &question);
}

/// Asks for a neighbour by neighbour discovery (RFC 4861 section 7.2.2).
fn solicit(s: &mut Stack, cx: &mut Cx, probe: &neigh::ProbeOut, mac: MacAddr, target: Ipv6Addr) {
    let ifid = probe.ifid;
    let number = zone::number(ifid).unwrap_or_default();
    let Some(src) = s.ip.source_for_v6(target, ifid) else {
        return;
    };
    let (dst, to) = match probe.unicast_to {
        Some(station) => (target, station),
        None => {
            let group = v6::solicited_node(target);
            (zone::bind(group, number), MacAddr::of_group(group.into()))
        }
    };
    let source = Some(mac);
    let question = Ndp::Solicitation {
        target,
        source,
        nonce: None,
    };
    ndp(s, cx, ifid, (src, dst), to, &question);
}

/// Answers a question of neighbour discovery (RFC 4861 section 7.2.4).
pub(in crate::stack) fn advertise(s: &mut Stack, cx: &mut Cx, ifid: IfId, answer: Answer) {
    let Some(netif) = s.ifs.get(ifid) else { return };
    let flags = match answer.to {
        Some(_) => Flags::SOLICITED,
        None => Flags(0),
    };
    let is_ours = s.ip.v6().addrs.contains(answer.target);
    // RFC 4429 section 3.3: who may not be the only one to have an address contradicts nobody; nor does who speaks for
    // another, or for many (RFC 4861 sections 7.2.7 and 7.2.8).
    let flags = match s.ip.dad.phase(ifid, answer.target.into()) {
        None | Some(Phase::InUse) if is_ours => flags.with(Flags::OVERRIDE),
        _ => flags,
    };
    let src = match is_ours {
        true => Some(answer.target),
        false => s.link_local_of(ifid),
    };
    let Some(src) = src else { return };
    let said = Ndp::Advertisement {
        target: answer.target,
        station: Some(netif.mac),
        flags: and_router(s, flags),
    };
    let number = zone::number(ifid).unwrap_or_default();
    let dst = answer.to.unwrap_or(zone::bind(V6::ALL_NODES, number));
    match (answer.to, answer.station) {
        (Some(_), Some(station)) => ndp(s, cx, ifid, (src, dst), station, &said),
        (Some(_), None) => {
            let packet = ndp_packet(s, cx, (src, dst), &said);
            to_neighbour(s, cx, ifid, dst.into(), packet);
        }
        (None, _) => {
            let group = MacAddr::of_group(dst.into());
            ndp(s, cx, ifid, (src, dst), group, &said);
        }
    }
}

/// RFC 4861 sections 7.2.7 and 7.2.8: answers later for an address for which others may answer as well.
#[cold]
pub(in crate::stack) fn advertise_later(s: &mut Stack, cx: &mut Cx, ifid: IfId, answer: Answer) {
    let Answer {
        target,
        to,
        station,
    } = answer;
    let waiting = Waiting {
        ifid,
        target,
        to,
        station,
    };
    s.ip.anycast.wait(cx.now, waiting);
    s.ip.note_deadlines();
}

/// Gives the answers that have waited.
pub(in crate::stack) fn answer_late(s: &mut Stack, cx: &mut Cx) {
    while let Some(waiting) = s.ip.anycast.made().and_then(|a| a.take_due(cx.now)) {
        let Waiting {
            ifid,
            target,
            to,
            station,
        } = waiting;
        // It may have ceased to speak for others meanwhile.
        if !s.ip.v6().addrs.is_anycast_on(ifid, target) && !s.ip.v6().tunables.proxies.is_on() {
            continue;
        }
        let answer = Answer {
            target,
            to,
            station,
        };
        advertise(s, cx, ifid, answer);
    }
}

/// Sends a message of neighbour discovery to a station.
fn ndp(
    s: &mut Stack,
    cx: &mut Cx,
    ifid: IfId,
    ends: (Ipv6Addr, Ipv6Addr),
    to: MacAddr,
    message: &Ndp,
) {
    let packet = ndp_packet(s, cx, ends, message);
    ether(s, cx, ifid, to, EtherType::IPV6, packet);
}

/// Sends a message of router discovery to a group.
pub(in crate::stack) fn discover(
    s: &mut Stack,
    cx: &mut Cx,
    ifid: IfId,
    ends: (Ipv6Addr, Ipv6Addr),
    bytes: Vec<u8>,
) {
    let packet = router_packet(s, cx, ends, bytes);
    let to = MacAddr::of_group(ends.1.into());
    ether(s, cx, ifid, to, EtherType::IPV6, packet);
}

/// Sends a message of router discovery to one neighbour, which quotes a packet that has crossed `quoted`.
pub(in crate::stack) fn quote_to_one(
    s: &mut Stack,
    cx: &mut Cx,
    ifid: IfId,
    ends: (Ipv6Addr, Ipv6Addr),
    bytes: Vec<u8>,
    quoted: Crossed,
) {
    let mut packet = router_packet(s, cx, ends, bytes);
    packet.meta.bridges.quote(quoted);
    to_neighbour(s, cx, ifid, ends.1.into(), packet);
}

/// Sends a packet to a neighbour whose station has to be found.
fn to_neighbour(s: &mut Stack, cx: &mut Cx, ifid: IfId, neighbour: IpAddr, packet: Packet) {
    let way = Way {
        ifid,
        hop: neighbour,
        origin: Origin::Connected,
    };
    hop(s, cx, neighbour, packet, way);
}

fn router_packet(s: &mut Stack, cx: &Cx, ends: (Ipv6Addr, Ipv6Addr), bytes: Vec<u8>) -> Packet {
    let mut packet = Packet::outgoing(Payload::from(bytes));
    packet.meta.csum = icmp::v6::PARTIAL;
    headed(s, cx, ends, packet)
}

fn ndp_packet(s: &mut Stack, cx: &Cx, ends: (Ipv6Addr, Ipv6Addr), message: &Ndp) -> Packet {
    headed(s, cx, ends, icmp::v6::discovery_message(message))
}

fn headed(s: &mut Stack, cx: &Cx, ends: (Ipv6Addr, Ipv6Addr), mut packet: Packet) -> Packet {
    let (src, dst) = ends;
    let to = Outgoing {
        // Who receives it can tell that no router has passed it on.
        hop_limit: Some(255),
        ..Outgoing::new(src.into(), dst.into(), IpProto::ICMPV6)
    };
    let headed = s.ip.prepend(cx.now, None, &to, &mut packet);
    debug_assert!(headed.is_ok(), "it is short");
    packet
}

/// These flags, and that this is a router if it is.
fn and_router(s: &Stack, flags: Flags) -> Flags {
    match s.ip.v6().tunables.forwarding {
        Forwarding::Enabled => flags.with(Flags::ROUTER),
        Forwarding::Disabled => flags,
    }
}

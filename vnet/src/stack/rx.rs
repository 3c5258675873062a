//! The stages that an incoming frame passes. Each function is one stage: it is given the packet by value, asks one
//! protocol for a verdict, and hands the packet on. Nothing calls back.
//!
//! ```text
//! take_in ── frame ─ arrive ─┬─ bridge ─┬─► members    a loop over the verdicts
//!                            └──────────┴─ ether ─┬─ arp      of interfaces
//!                          ┌──────────────────────┘
//!                          └─ ipv4 ─ prerouting ─┬─ input ─┬─ icmp
//!                                                │         ├─ udp
//!                                                │         ├─ tcp
//!                                                │         └─ raw
//!                                                └─ forward ──► tx::postrouting
//! ```
//!
//! What comes in of ARP and neighbour discovery is in `rx/neighbours.rs`.
//!
//! `prerouting`, `input` and `forward`, and `output_by` and `postrouting` in [`tx`], are the five stages at
//! which a filter would decide. A stage has the packet, its header and the interface in hand before
//! anything is decided about it.

mod merging;
mod neighbours;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::limits::Resource;
use super::merging::Station;
use super::tx::{self, MAX_DEPTH, Trail};
use super::{Stack, errors, ways};
use super::{classes, discovery, groups, listening, options};
use crate::base::id::IfId;
use crate::base::stats::DropReason;
use crate::icmp;
use crate::ip::addr::Cast;
use crate::ip::family::{V4, V6};
use crate::ip::forward::{self, Egress};
use crate::ip::input::{Destination, Ingress as IpIngress, Medium, Reassembled, Unopened, Version};
use crate::ip::state::ReversePath;
use crate::ip::{NoWay, Refusal, v4, v6, versions};
use crate::netif::bridge::{self, Bridge, BridgeId, Flood, Ingress};
use crate::netif::inbox::Batch;
use crate::netif::lagg::config::LaggMembership;
use crate::netif::lagg::pdu::SLOW_PROTOCOLS;
use crate::netif::member::Member;
use crate::netif::vlan::{Above, VlanConfig};
use crate::netif::wire::WireEnd;
use crate::netif::{AdminState, IfTable, Item, Netif};
use crate::packet::cx::Carrier;
use crate::packet::header::ether::ETHER_LEN;
use crate::packet::header::tcp as tcp_header;
use crate::packet::header::udp::UDP_LEN;
use crate::packet::header::{
    EtherHeader, EtherType, IpInfo, IpProto, TcpFlags, TcpHeader, UdpHeader,
};
use crate::packet::header::{ipv4, zone};
use crate::packet::{Csum, Cx, MacAddr, Packet, checksum};
use crate::transport::datagram::Verdict as SocketVerdict;
use crate::transport::echo::EchoEvent;
use crate::transport::raw::RawMeta;
use crate::transport::tcp::{Path, SegmentIn, Verdict as TcpVerdict};
use crate::transport::udp::{Addressing, Arrived};

/// Takes in what came out of the inbox in one go.
pub(crate) fn take_in_all(s: &mut Stack, cx: &mut Cx, due: &mut Batch) {
    while let Some(item) = due.next() {
        s.merging.more = due.len() > 0;
        take_in(s, cx, item);
    }
    merging::flush(s, cx);
}

fn take_in(s: &mut Stack, cx: &mut Cx, item: Item) {
    match item {
        Item::Frame(packet) => {
            cx.stats.received += 1;
            arrive(s, cx, packet);
        }
        Item::Leaving(packet) => leave(s, cx, packet),
        Item::Carrier(ifid, news) => {
            merging::flush(s, cx);
            s.hear(cx, ifid, news);
        }
    }
}

/// A frame of a VLAN interface in another vnet goes out by its parent.
fn leave(s: &mut Stack, cx: &mut Cx, mut packet: Packet) {
    cx.stats.received += 1;
    let parent = packet.meta.rcvif.take();
    // It may have been sent before the interface heard of its carrier.
    match parent.and_then(|id| s.ifs.get(id)) {
        Some(parent) if parent.carrier_above() == Carrier::Up => {
            cx.stats.forwarded += 1;
            let parent = parent.id;
            tx::send(s, cx, parent, packet, &mut Trail::default());
        }
        _ => cx.stats.drop_rx(DropReason::InterfaceDown),
    }
}

/// What an interface does with a frame that is at it.
enum Verdict {
    /// It takes it in.
    Up(Station, EtherHeader),
    /// It gives it to the bridge that it is a member of.
    Bridged(BridgeId, Ingress, EtherHeader),
    /// It leaves it to the interface that stands on it: to a VLAN interface, without its outer tag, or to
    /// the lagg that it is a member of.
    Above(IfId),
    /// It gives it to the protocols of the lagg that it is a member of.
    Slow(IfId),
    /// It hears from this station who is at the other end of its wire.
    Nearest(IfId, MacAddr),
    /// It leaves it to one that is in another vnet, by this wire.
    Away(Arc<WireEnd>),
    /// It drops it.
    Drop(DropReason),
}

/// How a frame has come to the interface at which it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    /// By its wire.
    Wire,
    /// The bridge that it is on has said that it is for this interface.
    Bridge,
}

/// Takes in a frame that has come to an interface, from interface to interface.
fn arrive(s: &mut Stack, cx: &mut Cx, mut packet: Packet) {
    let mut by = By::Wire;
    let mut watched = Vec::new();
    for _ in 0..MAX_DEPTH {
        match at_interface(s, cx, by, &mut watched, &mut packet) {
            Verdict::Up(station, header) => {
                #[cfg(test)]
                s.pass(super::failure::Place::Frame);
                merging::take_in(s, cx, station, header, packet);
                return show_taken_in(s, cx, &mut watched);
            }
            Verdict::Bridged(id, from, header) => {
                match bridge(s, cx, id, from, header, &mut watched, packet) {
                    Some(ours) => (packet, by) = (ours, By::Bridge),
                    None => return show_taken_in(s, cx, &mut watched),
                }
            }
            Verdict::Above(above) => {
                if s.ifs.classifies() && s.ifs.get(above).is_some_and(|i| i.kind.vlan().is_some()) {
                    classes::classify(&s.ifs, above, &mut packet);
                }
                (packet.meta.rcvif, by) = (Some(above), By::Wire);
            }
            Verdict::Slow(lagg) => {
                match s.slow_protocol(cx, lagg, &mut packet) {
                    Ok(()) => cx.stats.delivered += 1,
                    Err(reason) => cx.stats.drop_rx(reason),
                }
                return show_taken_in(s, cx, &mut watched);
            }
            Verdict::Nearest(ifid, from) => {
                discovery::hear(s, cx, ifid, from, packet);
                return show_taken_in(s, cx, &mut watched);
            }
            Verdict::Away(to) => {
                cx.stats.forwarded += 1;
                packet.meta.rcvif = None;
                tx::hand_over(cx, &to, packet);
                return show_taken_in(s, cx, &mut watched);
            }
            Verdict::Drop(reason) => {
                cx.stats.drop_rx(reason);
                return show_taken_in(s, cx, &mut watched);
            }
        }
    }
    cx.stats.drop_rx(DropReason::NestedTooDeep);
    show_taken_in(s, cx, &mut watched);
}

/// Asks the interface at which a frame is. `watched` names those that have shown it to somebody.
#[inline]
fn at_interface(
    s: &mut Stack,
    cx: &mut Cx,
    by: By,
    watched: &mut Vec<IfId>,
    packet: &mut Packet,
) -> Verdict {
    let netif = packet.meta.rcvif.and_then(|id| s.ifs.get_mut(id));
    let is_open = |n: &&mut Netif| n.admin == AdminState::Up || by == By::Bridge;
    let Some(netif) = netif.filter(is_open) else {
        return Verdict::Drop(DropReason::InterfaceDown);
    };
    if by == By::Wire {
        netif.received(cx, packet);
        if !netif.taps.is_empty() {
            watch(cx, netif.id, watched);
        }
    }
    let Some(mut header) = link_header(packet) else {
        return Verdict::Drop(DropReason::Malformed);
    };
    if by == By::Wire {
        if header.ether_type == EtherType::LLDP
            && discovery::listens(&s.lldp, &s.bridges, netif, &header, packet)
        {
            return Verdict::Nearest(netif.id, header.src);
        }
        match &netif.member {
            None => {}
            Some(Member::Bridge(member)) => {
                let from = Ingress {
                    ifid: netif.id,
                    config: member.config,
                    state: member.state,
                };
                return Verdict::Bridged(member.bridge, from, header);
            }
            Some(Member::Lagg(member)) => {
                return aggregated(*member, &header, packet);
            }
        }
    }
    let medium = match netif.can().needs_neighbours {
        true => Medium::Wire,
        false => Medium::Loopback,
    };
    let station = Station {
        ifid: netif.id,
        mac: netif.mac,
        medium,
    };
    if !packet.meta.tags.is_plain() {
        match tagged(netif, header, packet) {
            Ok(untagged) => header = untagged,
            Err(verdict) => return verdict,
        }
        if s.ifs.classifies() {
            classes::classify(&s.ifs, station.ifid, packet);
        }
    }
    Verdict::Up(station, header)
}

/// What a member of a lagg does with a frame.
#[inline(never)]
fn aggregated(member: LaggMembership, header: &EtherHeader, packet: &Packet) -> Verdict {
    let is_slow = header.ether_type == EtherType::SLOW_PROTOCOLS && header.dst == SLOW_PROTOCOLS;
    match member.takes {
        // They are taken in whatever becomes of other frames: by them it is agreed what that is.
        _ if is_slow && packet.meta.tags.is_empty() => Verdict::Slow(member.lagg),
        true => Verdict::Above(member.lagg),
        false => Verdict::Drop(DropReason::LaggInactive),
    }
}

/// Takes off a frame the tags that have only a priority, and returns the header behind them. Another tag
/// behind one of them says nothing: the frame would be in a VLAN for those alone who look behind it.
///
/// # Errors
/// To which VLAN interface it goes, if it has other tags, or why to none.
#[cold]
fn tagged(
    netif: &Netif,
    mut header: EtherHeader,
    packet: &mut Packet,
) -> Result<EtherHeader, Verdict> {
    let mut is_outermost = true;
    while let Some(tag) = packet.meta.tags.outer() {
        // A bridge gives a member what is for its address, but nothing on a member has anything.
        let looks = netif.member.is_none() && std::mem::replace(&mut is_outermost, false);
        let vlans = looks.then_some(&netif.vlans);
        let above = vlans.and_then(|vlans| vlans.get(VlanConfig::of(tag)));
        if above.is_none() && tag.vid() != 0 {
            return Err(Verdict::Drop(DropReason::UnknownVlan));
        }
        packet.pop_tag();
        packet.meta.tags.set_priority(tag.priority());
        if tag.vid() == 0 {
            // There may be more than two, the others in the bytes.
            if packet.meta.tags.is_empty() {
                header = link_header(packet).ok_or(Verdict::Drop(DropReason::Malformed))?;
            }
            if packet.meta.tags.outer().is_some_and(|tag| tag.vid() != 0) {
                return Err(Verdict::Drop(DropReason::UnknownVlan));
            }
        }
        match above {
            Some(Above::Here(id)) => return Err(Verdict::Above(*id)),
            Some(Above::Away(_, to)) => return Err(Verdict::Away(Arc::clone(to))),
            // IEEE 802.1Q-2018, clause 6.9: it is treated as if it had no tag.
            None => {}
        }
    }
    Ok(header)
}

/// Notes that an interface has shown a frame to somebody, who is to hear what becomes of it.
#[cold]
fn watch(cx: &mut Cx, ifid: IfId, watched: &mut Vec<IfId>) {
    cx.stats.take_refused();
    watched.push(ifid);
}

/// Says what became of a frame to those who were shown it and have not heard yet.
#[inline]
fn show_taken_in(s: &mut Stack, cx: &mut Cx, watched: &mut Vec<IfId>) {
    if !watched.is_empty() {
        tell_watchers(s, cx, watched);
    }
}

#[cold]
fn tell_watchers(s: &mut Stack, cx: &mut Cx, watched: &mut Vec<IfId>) {
    let refused = cx.stats.take_refused();
    // The last one was shown it last.
    for ifid in watched.drain(..).rev() {
        if let Some(netif) = s.ifs.get_mut(ifid) {
            netif.show_taken_in(cx, refused);
        }
    }
}

/// Hands a frame on that came in by a member of a bridge, and returns it when it is for the vnet itself,
/// as one that came in on the interface that the bridge says.
// Apart: the stack frame of every other frame's way is smaller without it.
#[inline(never)]
fn bridge(
    s: &mut Stack,
    cx: &mut Cx,
    id: BridgeId,
    from: Ingress,
    header: EtherHeader,
    watched: &mut Vec<IfId>,
    mut packet: Packet,
) -> Option<Packet> {
    let bridge = s.bridges.get_mut(id).expect("a member's bridge is there");
    let itself = s.ifs.get_mut(bridge.ifid);
    let Some(itself) = itself.filter(|i| i.admin == AdminState::Up) else {
        cx.stats.drop_rx(DropReason::InterfaceDown);
        return None;
    };
    // Whoever watches the bridge sees all that it is given, as in the reference.
    itself.received(cx, &packet);
    if !itself.taps.is_empty() {
        watch(cx, itself.id, watched);
    }
    // What comes in by one of them is dropped, and no other's to see.
    if !bridge.spans.is_empty() && !from.config.span.is_on() {
        tx::to_spans(s, cx, id, &packet, &mut Trail::default());
    }
    let bridge = s.bridges.get_mut(id).expect(tx::FLOODS);
    let sent = match bridge.input(cx.now, from, &header, &mut packet) {
        bridge::Verdict::Up(ifid) => {
            packet.meta.rcvif = Some(ifid);
            return Some(packet);
        }
        bridge::Verdict::Drop(reason) => Err(reason),
        bridge::Verdict::Bpdu => {
            match s.bridges.bpdu(&mut s.ifs, cx.now, from.ifid, &mut packet) {
                Ok(()) => cx.stats.delivered += 1,
                Err(reason) => cx.stats.drop_rx(reason),
            }
            return None;
        }
        bridge::Verdict::Forward(to) => tx::to_member(s, cx, id, from, to, packet),
        bridge::Verdict::Flood(why, up) => {
            let up = up.or_else(|| above_hears(s, id, header.dst, &packet));
            if why == Flood::Routers {
                s.bridges.tend(id);
            }
            let sent = tx::to_members(
                s,
                cx,
                id,
                Some(from),
                why,
                &mut packet,
                &mut Trail::default(),
            );
            if let Some(ifid) = up {
                packet.meta.rcvif = Some(ifid);
                s.bridges.get(id).expect(tx::FLOODS).to_host(&mut packet);
                if sent.is_ok() {
                    // What others were sent is one frame; what we take in is another.
                    cx.stats.forwarded += 1;
                    cx.stats.received += 1;
                    show_taken_in(s, cx, watched);
                }
                return Some(packet);
            }
            sent
        }
    };
    match sent {
        Ok(()) => cx.stats.forwarded += 1,
        Err(reason) => cx.stats.drop_rx(reason),
    }
    None
}

/// The interface of a bridge, if a frame for a station of which the bridge does not know may be for one of
/// those that stand on it.
#[inline]
fn above_hears(s: &mut Stack, id: BridgeId, dst: MacAddr, packet: &Packet) -> Option<IfId> {
    let bridge = s.bridges.get_mut(id)?;
    match s.ifs.get(bridge.ifid)?.vlans.is_empty() {
        true => None,
        false => vlan_hears(&s.ifs, bridge, dst, packet),
    }
}

#[cold]
fn vlan_hears(ifs: &IfTable, bridge: &mut Bridge, dst: MacAddr, packet: &Packet) -> Option<IfId> {
    let tag = bridge.tag_for_host(packet)?;
    let hears = !dst.is_multicast() && ifs.leads_to(bridge.ifid, VlanConfig::of(tag), dst);
    bridge.counters.delivered += u64::from(hears);
    hears.then_some(bridge.ifid)
}

/// Reads the link header of a frame, and takes its tags off.
#[inline]
fn link_header(packet: &mut Packet) -> Option<EtherHeader> {
    let header = EtherHeader::parse(packet.pull_up(ETHER_LEN)?).ok()?;
    match header.ether_type.is_tag() {
        true => tagged_header(packet),
        false => Some(header),
    }
}

#[cold]
fn tagged_header(packet: &mut Packet) -> Option<EtherHeader> {
    packet.take_tags_off().ok()?;
    EtherHeader::parse(packet.pull_up(ETHER_LEN)?).ok()
}

fn ether(s: &mut Stack, cx: &mut Cx, at: Station, header: EtherHeader, mut packet: Packet) {
    let Station { ifid, mac, medium } = at;
    packet.strip(ETHER_LEN);
    let cast = match header.dst {
        dst if dst == mac => Cast::Unicast,
        dst if dst.is_broadcast() => Cast::Broadcast,
        dst if dst.is_multicast() => Cast::Multicast,
        _ => return cx.stats.drop_rx(DropReason::NotForUs),
    };
    match header.ether_type {
        EtherType::IPV4 => ipv4(s, cx, IpIngress { ifid, medium, cast }, packet),
        EtherType::ARP => neighbours::arp(s, cx, ifid, mac, packet),
        EtherType::IPV6 => ipv6(s, cx, IpIngress { ifid, medium, cast }, header.src, packet),
        _ => cx.stats.drop_rx(DropReason::UnknownProtocol),
    }
}

fn ipv4(s: &mut Stack, cx: &mut Cx, ingress: IpIngress, mut packet: Packet) {
    match v4::input::check(&s.ip.v4, ingress, &mut packet) {
        Ok(mut header) => {
            let has_options = usize::from(header.header_len) > ipv4::MIN_LEN;
            if has_options {
                options::keep(s, &header, &packet);
            }
            prerouting::<V4>(s, cx, ingress, &mut header, packet);
            if has_options {
                s.options = Box::default();
            }
        }
        Err(reason) => cx.stats.drop_rx(reason),
    }
}

// Apart: the way of an IPv4 packet stays in one piece.
#[inline(never)]
fn ipv6(s: &mut Stack, cx: &mut Cx, mut ingress: IpIngress, station: MacAddr, mut packet: Packet) {
    if ingress.medium == Medium::Loopback && station != MacAddr::ZERO {
        // What we send to ourselves is of a link all the same.
        let Some(on) = s.ifs.iter().find(|i| zone::station(i.id) == Some(station)) else {
            return cx.stats.drop_rx(DropReason::InterfaceDown);
        };
        ingress.ifid = on.id;
        packet.meta.rcvif = Some(on.id);
    }
    // An interface without an address of IPv6 does not speak it.
    if !s.ip.speaks_v6(ingress.ifid) {
        return cx.stats.drop_rx(DropReason::UnknownProtocol);
    }
    match v6::input::check(s.ip.v6(), ingress, &mut packet) {
        Ok(mut header) => prerouting::<V6>(s, cx, ingress, &mut header, packet),
        Err(reason) => cx.stats.drop_rx(reason),
    }
}

/// The stage before it is asked whom a packet is for, which everything passes that came in. Fragments
/// are put together here, if they are for us.
fn prerouting<V: Version>(
    s: &mut Stack,
    cx: &mut Cx,
    ingress: IpIngress,
    header: &mut V::Header,
    mut packet: Packet,
) {
    let ip = s.ip.quietly();
    let whom = V::destination(V::of(ip), ingress, header);
    if V::of(ip).tunables.reverse_path != ReversePath::Unchecked
        && !ip.comes_from_there(ingress, &V::info(header), &whom)
    {
        return cx.stats.drop_rx(DropReason::ReversePath);
    }
    let cast = match whom {
        Ok(Destination::Local(cast)) => cast,
        Ok(Destination::Other) => return forward(s, cx, &V::info(header), packet),
        Err(reason) => return cx.stats.drop_rx(reason),
    };
    match V::open(cast, header, &mut packet) {
        Ok(()) => {}
        Err(Unopened::Drop(reason)) => return cx.stats.drop_rx(reason),
        Err(Unopened::Refuse(refusal, reason)) => {
            cx.stats.drop_rx(reason);
            if ingress.cast == Cast::Unicast || cast != Cast::Unicast {
                tx::icmp_error(s, cx, refusal, packet);
            }
            return;
        }
    }
    V::strip(header, &mut packet);
    // What came in as a broadcast frame is no better than a broadcast packet.
    let addressed = match ingress.cast {
        Cast::Unicast => cast,
        link => link,
    };
    if !V::is_fragment(header) {
        return input(s, cx, &V::info(header), addressed, packet);
    }
    let reassembled = V::reassemble(cx, V::of_mut(&mut s.ip), ingress, header, cast, packet);
    s.ip.note_fragments(cx.stats);
    match reassembled {
        Reassembled::Whole(info, packet) => input(s, cx, &info, addressed, packet),
        Reassembled::Held => {}
        Reassembled::Drop(reason) => cx.stats.drop_rx(reason),
    }
}

/// The stage of what is for us.
fn input(s: &mut Stack, cx: &mut Cx, info: &IpInfo, cast: Cast, packet: Packet) {
    let seen_raw = s.listens_raw(info.proto) && raw_copy(s, cx, info, &packet);
    match info.proto {
        IpProto::TCP => tcp(s, cx, info, cast, packet),
        IpProto::UDP => udp(s, cx, info, cast, packet),
        IpProto::ICMP if info.src.is_ipv4() => icmp(s, cx, info, cast, packet),
        IpProto::ICMPV6 if info.src.is_ipv6() => icmp(s, cx, info, cast, packet),
        IpProto::IGMP if info.src.is_ipv4() => listening::igmp(s, cx, info, packet),
        _ if seen_raw => cx.stats.delivered += 1,
        // RFC 8200 section 4.7: there is nothing to be said about nothing.
        IpProto::NONE if info.src.is_ipv6() => cx.stats.drop_rx(DropReason::UnknownProtocol),
        _ => {
            let reason = DropReason::UnknownProtocol;
            refuse_local(s, cx, Refusal::Protocol, reason, info, cast, packet);
        }
    }
}

/// Shows a packet to the raw sockets of its protocol; true when one took it.
fn raw_copy(s: &mut Stack, cx: &mut Cx, info: &IpInfo, packet: &Packet) -> bool {
    let meta = RawMeta {
        src: zone::wire_ip(info.src),
        dst: zone::wire_ip(info.dst),
        proto: info.proto.0,
        ttl: info.hop_limit,
        tos: info.traffic_class,
        ident: info.label as u16,
    };
    let mut copy = packet.clone();
    // A socket sees what a wire would have shown.
    let _ = checksum::finish_transport(&mut copy, info);
    let copy = copy.into_payload();
    s.datagrams.raw.input(cx, &meta, &copy) == SocketVerdict::Delivered
}

fn icmp(s: &mut Stack, cx: &mut Cx, info: &IpInfo, cast: Cast, packet: Packet) {
    let rcvif = packet.meta.rcvif;
    match icmp::input(info, cast, packet) {
        icmp::Verdict::Reply(mut reply) => {
            cx.stats.delivered += 1;
            if cast == Cast::Anycast
                && let Ok(src) = ways::source_for(s, info.src)
            {
                reply.to.src = src;
            }
            match s.options.is_empty() {
                true => tx::icmp(s, cx, reply),
                false => options::answer(s, cx, reply),
            }
        }
        icmp::Verdict::EchoReply {
            ident,
            seq,
            payload,
        } => {
            let reply = EchoEvent::Reply {
                from: zone::wire_ip(info.src),
                seq,
                len: payload.len(),
                ttl: info.hop_limit,
            };
            let datagrams = s.datagrams.made();
            match datagrams.map_or(SocketVerdict::NoSocket, |d| d.echo.input(cx, ident, reply)) {
                SocketVerdict::Delivered => cx.stats.delivered += 1,
                SocketVerdict::NoSocket => cx.stats.drop_rx(DropReason::IcmpIgnored),
                SocketVerdict::Drop(reason) => cx.stats.drop_rx(reason),
            }
        }
        icmp::Verdict::Error {
            refusal,
            quoted,
            extensions,
        } => {
            let said = errors::Said {
                from: info.src,
                refusal,
                extensions,
            };
            match errors::hear(s, cx, rcvif, said, &quoted) {
                true => cx.stats.delivered += 1,
                false => cx.stats.drop_rx(DropReason::IcmpIgnored),
            }
        }
        icmp::Verdict::Discovery(message) => neighbours::discovery(s, cx, info, rcvif, message),
        icmp::Verdict::Router(message) => s.hear_router(cx, info.src, rcvif, message),
        icmp::Verdict::Listeners(message) => s.hear_groups(cx, info, rcvif, &message),
        icmp::Verdict::Drop(reason) => cx.stats.drop_rx(reason),
    }
}

fn udp(s: &mut Stack, cx: &mut Cx, info: &IpInfo, cast: Cast, mut packet: Packet) {
    if !transport_checksum_holds(info, &mut packet) {
        return cx.stats.drop_rx(DropReason::BadChecksum);
    }
    let rcvif = packet.meta.rcvif;
    let available = packet.len();
    let Some(udp) = packet
        .pull_up(UDP_LEN)
        .and_then(|bytes| UdpHeader::parse(bytes.first_chunk()?).ok())
        .filter(|udp| (UDP_LEN..=available).contains(&usize::from(udp.len)))
    else {
        return cx.stats.drop_rx(DropReason::Malformed);
    };
    packet.truncate(usize::from(udp.len));
    let addressing = match cast {
        Cast::Unicast | Cast::Anycast => Addressing::Unicast,
        Cast::Broadcast | Cast::Multicast => Addressing::Broadcast,
    };
    packet.strip(UDP_LEN);
    let mut payload = packet.into_payload();
    let (ip, group) = (&s.ip, info.dst);
    let hears = |id| {
        !group.is_multicast() || rcvif.is_some_and(|on| groups::hears(ip, id, on, group, info.src))
    };
    let arrived = Arrived {
        src: SocketAddr::new(info.src, udp.src_port),
        dst: info.dst,
        on: rcvif,
        ttl: info.hop_limit,
        tos: info.traffic_class,
    };
    let port = udp.dst_port;
    match s
        .datagrams
        .udp
        .input(cx, arrived, port, addressing, hears, &mut payload)
    {
        SocketVerdict::Delivered => cx.stats.delivered += 1,
        SocketVerdict::Drop(reason) => cx.stats.drop_rx(reason),
        SocketVerdict::NoSocket => {
            let mut packet = Packet::outgoing(payload);
            packet.meta.rcvif = rcvif;
            tx::put_udp_header(&mut packet, &udp);
            let reason = DropReason::NoSocket;
            refuse_local(s, cx, Refusal::Port, reason, info, cast, packet);
        }
    }
}

fn tcp(s: &mut Stack, cx: &mut Cx, info: &IpInfo, cast: Cast, mut packet: Packet) {
    // RFC 9293, section 3.9.2.3: a segment addressed to many is discarded; and so is one to an anycast address, because
    // the next one may come to another vnet.
    if cast != Cast::Unicast {
        return cx.stats.drop_rx(DropReason::NotForUs);
    }
    if !transport_checksum_holds(info, &mut packet) {
        return cx.stats.drop_rx(DropReason::BadChecksum);
    }
    let parsed = packet
        .pull_up(tcp_header::TCP_LEN)
        .and_then(|fixed| tcp_header::header_len(fixed).ok())
        .and_then(|len| Some((TcpHeader::read(packet.pull_up(len)?).ok()?, len)));
    let Some((tcp, len)) = parsed else {
        return cx.stats.drop_rx(DropReason::Malformed);
    };
    packet.strip(len);
    let gso_segment = packet.meta.gso.map(|g| g.segment_size);
    let on = packet.meta.rcvif;
    let payload = packet.into_payload();
    let keeps = !payload.is_empty() || tcp.flags.any(TcpFlags::SYN | TcpFlags::FIN);
    let starved = keeps && s.limits.buffers_are_full;
    if starved {
        s.limits.refuse(Resource::BufferedBytes);
        if tcp.flags.has(TcpFlags::SYN) {
            return cx.stats.drop_rx(DropReason::SocketBufferFull);
        }
    }
    // Only a segment that may open a connection is asked for the way back.
    let path = match tcp.flags.has(TcpFlags::SYN) || s.tcp.takes_cookies(cx.now) {
        true => s.path_to(cx.now, info.src).unwrap_or(NO_PATH),
        false => NO_PATH,
    };
    let segment = SegmentIn {
        src: SocketAddr::new(info.src, tcp.src_port),
        dst: SocketAddr::new(info.dst, tcp.dst_port),
        header: &tcp,
        payload,
        traffic_class: info.traffic_class,
        gso_segment,
        on,
        path,
    };
    let verdict = match starved {
        true => s.tcp.input_without_room(cx, segment),
        false => s.tcp.input(cx, segment),
    };
    match verdict {
        TcpVerdict::Delivered => cx.stats.delivered += 1,
        TcpVerdict::Drop(reason) => cx.stats.drop_rx(reason),
    }
}

/// What is known of a path to where there is no route.
const NO_PATH: Path = Path {
    ip_mtu: 576,
    gso_max: 0,
};

/// Verifies the checksum of a packet that came from outside.
fn transport_checksum_holds(info: &IpInfo, packet: &mut Packet) -> bool {
    packet.meta.csum != Csum::Unknown || checksum::verify_transport(packet, info).is_ok()
}

/// Drops a packet that was for us and tells its sender why.
fn refuse_local(
    s: &mut Stack,
    cx: &mut Cx,
    refusal: Refusal,
    reason: DropReason,
    info: &IpInfo,
    cast: Cast,
    packet: Packet,
) {
    cx.stats.drop_rx(reason);
    if matches!(cast, Cast::Unicast | Cast::Anycast)
        && let Some(packet) = versions::restore(info, packet)
    {
        tx::icmp_error(s, cx, refusal, packet);
    }
}

/// How a header of IPv4 begins that has no options.
const NO_OPTIONS: u8 = 0x45;

/// The stage of what is for others.
fn forward(s: &mut Stack, cx: &mut Cx, info: &IpInfo, mut packet: Packet) {
    let egress = s.ip.quietly().lookup(info.dst).and_then(|way| {
        let netif = s.ifs.get(way.ifid).ok_or(NoWay::NoRoute)?;
        let ip_mtu = usize::from(netif.mtu_to(info.dst));
        Ok(Egress { way, ip_mtu })
    });
    match forward::forward(&s.ip, info, &mut packet, egress) {
        forward::Verdict::Send { way, redirect } => {
            match redirect {
                Some(gateway @ IpAddr::V4(_)) => {
                    tx::icmp_error(s, cx, Refusal::Redirect { gateway }, packet.clone());
                }
                Some(IpAddr::V6(hop)) => s.redirect(cx, info, way.ifid, hop, &packet),
                None => {}
            }
            if info.dst.is_ipv4() {
                if packet.head()[0] != NO_OPTIONS {
                    options::pass(s, cx, &way, &mut packet);
                }
            } else if info.hop_limit == 255
                && info.proto == IpProto::ICMPV6
                && neighbours::is_probe_of_proxied(s, cx, info, &packet)
            {
                return;
            }
            let _ = tx::postrouting(s, cx, info.dst, packet, way, tx::WHOLE_PATH);
        }
        forward::Verdict::Drop(reason) => cx.stats.drop_rx(reason),
        forward::Verdict::Refuse { refusal, reason } => {
            tx::refuse(s, cx, None, refusal, reason, packet);
        }
    }
}

//! The stages that an outgoing packet passes. Each function is one stage, as in [`rx`](super::rx).
//!
//! ```text
//! flush ─┬─ segment (TCP) ─┐
//!        └─ probe (ARP)    │
//! datagram (UDP, raw) ─────┼─ output ─ output_by ─ postrouting ─ hop ─ ether ──► netif
//! icmp, icmp_error ────────┘                            ▲                  └─ send ─► interface by interface
//!                                         rx::forward ──┘
//! ```
//!
//! A packet that leaves by an interface that stands on others passes from one to the next: each returns a verdict, and
//! [`send`] follows them.
//!
//! What goes out of ARP and neighbour discovery is in `tx/neighbours.rs`.
//!
//! `meta.rcvif` decides how a drop is counted: a packet that came in on an interface counts as received until it has
//! left again.

pub(super) mod neighbours;

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZero;
use std::sync::Arc;

use bytes::Bytes;

use super::{Stack, classes, errors, paths, ways};
use crate::base::id::IfId;
use crate::base::stats::DropReason;
use crate::icmp;
use crate::ip::fib::Origin;
use crate::ip::input::Version;
use crate::ip::versions::{self, Fit, PrependError};
use crate::ip::{Outgoing, Refusal, Way};
use crate::neigh::{self, NeighCache};
use crate::netif::bridge::introduce::Introduction;
use crate::netif::bridge::snooping::read::Question;
use crate::netif::bridge::spanning::Said;
use crate::netif::bridge::stp::bpdu::{self, Encoded};
use crate::netif::bridge::{self, BridgeId, Flood, Ingress, Sender};
use crate::netif::{Kind, Netif};
use crate::packet::cx::Sink;
use crate::packet::header::arp::{ARP_LEN, ArpPacket};
use crate::packet::header::ether::ETHER_LEN;
use crate::packet::header::tcp::TCP_CSUM_OFFSET;
use crate::packet::header::udp::{UDP_CHECKSUM_OFFSET, UDP_LEN};
use crate::packet::header::zone;
use crate::packet::header::{EtherHeader, EtherType, Fragmentation, IpProto, UdpHeader};
use crate::packet::tag::{Priority, Tag, Tags};
use crate::packet::{Csum, Cx, Gso, GsoKind, MacAddr, Packet, Payload};
use crate::transport::error::SocketError;
use crate::transport::tcp::SegmentOut;
use crate::transport::udp::{Broadcast, DatagramOut};

/// Interfaces that may stand on each other: a frame that has passed so many goes no further.
pub(super) const MAX_DEPTH: u8 = 16;
/// Copies of a frame that bridges may make that stand on a bridge with a copy of it.
const MAX_COPIES: u32 = 65_536;
/// Why a bridge is there that sends a frame.
pub(super) const FLOODS: &str = "to send a frame removes no bridge";

/// Sends every segment that TCP has ready, and says whether there was any. The last thing each entry into a vnet does, but
/// for what the [rest](super::rest) of the stack has to send.
#[inline]
pub(crate) fn flush(s: &mut Stack, cx: &mut Cx) -> bool {
    let mut has_sent = false;
    // Looked at where it is: it is some hundred bytes.
    while let Some(out) = &mut s.tcp.poll_transmit(cx) {
        has_sent = true;
        segment(s, cx, out);
    }
    has_sent
}

/// Sends everything else that the protocols have ready.
pub(super) fn flush_rest(s: &mut Stack, cx: &mut Cx) {
    while let Some(probe) = s.neigh.made().and_then(NeighCache::poll_request) {
        neighbours::request(s, cx, probe);
    }
    while let Some(said) = s.bridges.made().and_then(|b| b.poll_transmit(cx.now)) {
        match said {
            Said::Bpdu(ifid, bpdu) => spanning_tree(s, cx, ifid, &bpdu),
            Said::Question(id, question) => ask_for_groups(s, cx, id, &question),
            Said::Introduction(id, who) => introduce(s, cx, id, who),
        }
    }
    while let Some((ifid, addr)) = s.announcements.pop() {
        neighbours::announce(s, cx, ifid, addr);
    }
}

fn segment(s: &mut Stack, cx: &mut Cx, out: &mut SegmentOut) {
    let (src, dst) = (out.src.ip(), out.dst.ip());
    // RFC 4861 7.3.1: while a connection makes progress, the neighbour on its way is reachable.
    if out.confirms
        && let Ok(way) = match out.by {
            None => s.ip.quietly().lookup(dst),
            Some(_) => ways::way_by(s, dst, out.by),
        }
        && let Some(neigh) = s.neigh.quietly().made()
    {
        neigh.confirm(cx.now, way.ifid, way.hop);
    }
    let header_len = out.header.len();
    let segment_len = header_len + out.gso.map_or(out.payload.len(), usize::from);
    let mut packet = Packet::outgoing(std::mem::take(&mut out.payload));
    out.header.emit(packet.prepend(header_len));
    packet.meta.csum = Csum::Partial {
        start: 0,
        offset: TCP_CSUM_OFFSET,
    };
    packet.meta.gso = out.gso.map(|segment_size| Gso {
        kind: match dst {
            IpAddr::V4(_) => GsoKind::Tcp4,
            IpAddr::V6(_) => GsoKind::Tcp6,
        },
        segment_size,
    });
    let to = Outgoing {
        hop_limit: NonZero::new(out.ttl).map(NonZero::get),
        traffic_class: out.tos,
        fragmentation: versions::fragmentation(dst, segment_len),
        ..Outgoing::new(src, dst, IpProto::TCP)
    };
    let _ = match out.by {
        None => output(s, cx, &to, packet),
        Some(_) => output_bound(s, cx, &to, packet, out.by),
    };
}

/// Sends a UDP datagram.
///
/// # Errors
/// No route; too long for the path.
pub(super) fn datagram(
    s: &mut Stack,
    cx: &mut Cx,
    out: &DatagramOut,
    payload: Payload,
) -> Result<(), SocketError> {
    let dst = out.dst.ip();
    if out.broadcast == Broadcast::Forbidden && s.ip.is_broadcast(dst) {
        return Err(SocketError::BroadcastForbidden);
    }
    let src = match (out.src, out.by) {
        (Some(src), _) => src,
        (None, None) => ways::source_for(s, dst)?,
        (None, Some(_)) => ways::source_by(s, dst, out.by)?,
    };
    let packet = udp_packet(payload, out.src_port, out.dst.port())?;
    let to = Outgoing {
        hop_limit: NonZero::new(out.ttl).map(NonZero::get),
        traffic_class: out.tos,
        fragmentation: out.fragmentation,
        ..Outgoing::new(src, dst, IpProto::UDP)
    };
    match out.by {
        None => output(s, cx, &to, packet),
        Some(_) => output_bound(s, cx, &to, packet, out.by),
    }
}

/// Sends a packet of ours by the interface that its socket is bound to.
#[cold]
fn output_bound(
    s: &mut Stack,
    cx: &mut Cx,
    to: &Outgoing,
    packet: Packet,
    by: Option<IfId>,
) -> Result<(), SocketError> {
    match ways::way_by(s, to.dst, by) {
        Ok(way) => output_by(s, cx, to, packet, way),
        Err(why) => {
            cx.stats.drop_tx(why.reason());
            Err(ways::no_way(why))
        }
    }
}

/// A UDP datagram without its checksum.
#[inline]
pub(super) fn udp_packet(
    payload: Payload,
    src_port: u16,
    dst_port: u16,
) -> Result<Packet, SocketError> {
    let mut packet = Packet::outgoing(payload);
    let len = packet.len() + UDP_LEN;
    let header = UdpHeader {
        src_port,
        dst_port,
        len: u16::try_from(len).map_err(|_| SocketError::MessageTooLong)?,
    };
    put_udp_header(&mut packet, &header);
    packet.meta.csum = Csum::Partial {
        start: 0,
        offset: UDP_CHECKSUM_OFFSET,
    };
    Ok(packet)
}

pub(super) fn put_udp_header(packet: &mut Packet, header: &UdpHeader) {
    let room = packet.prepend(UDP_LEN).first_chunk_mut();
    header.emit(room.expect("as many bytes as were asked for"));
}

/// Sends an ICMP message.
pub(super) fn icmp(s: &mut Stack, cx: &mut Cx, message: icmp::Message) {
    let _ = output(s, cx, &message.to, message.packet);
}

/// Finds the way for a packet of ours and sends it. A failure is counted here and reported.
pub(super) fn output(
    s: &mut Stack,
    cx: &mut Cx,
    to: &Outgoing,
    packet: Packet,
) -> Result<(), SocketError> {
    match ways::way(s, to.dst) {
        Ok(way) => output_by(s, cx, to, packet, way),
        Err(why) => {
            cx.stats.drop_tx(why.reason());
            Err(ways::no_way(why))
        }
    }
}

/// The stage of what is ours, with its way known.
#[inline]
pub(super) fn output_by(
    s: &mut Stack,
    cx: &mut Cx,
    to: &Outgoing,
    mut packet: Packet,
    way: Way,
) -> Result<(), SocketError> {
    let way = match way.origin {
        Origin::Host => ways::to_ourselves(way, to),
        Origin::Connected | Origin::Static | Origin::Advertised => way,
    };
    // TCP is told of a segment that is too long, and makes it shorter.
    if to.fragmentation == Fragmentation::Forbidden && to.proto != IpProto::TCP {
        paths::whole(s, cx, to, &packet, &way)?;
    }
    let ip = s.ip.quietly();
    let (reason, error) = match ip.prepend(cx.now, Some(way.ifid), to, &mut packet) {
        Ok(()) => return postrouting(s, cx, to.dst, packet, way, WHOLE_PATH),
        Err(PrependError::Narrow(path_mtu)) => {
            return postrouting(s, cx, to.dst, packet, way, path_mtu);
        }
        Err(PrependError::TooLong) => (DropReason::TooBig, SocketError::MessageTooLong),
        Err(PrependError::Family) => (DropReason::NoRoute, SocketError::NetworkUnreachable),
    };
    cx.stats.drop_tx(reason);
    Err(error)
}

/// The MTU of a path of which nothing is known but our own link.
pub(super) const WHOLE_PATH: u32 = u32::MAX;

/// The stage of everything that leaves, ours and others', with its way known. Then sees to it that it fits
/// the interface, and what is known of the path behind it.
pub(super) fn postrouting(
    s: &mut Stack,
    cx: &mut Cx,
    dst: IpAddr,
    packet: Packet,
    way: Way,
    path_mtu: u32,
) -> Result<(), SocketError> {
    let Some(netif) = s.ifs.get(way.ifid) else {
        drop_outgoing(cx, &packet, DropReason::InterfaceDown);
        return Err(SocketError::NetworkUnreachable);
    };
    let mtu = path_mtu.min(netif.mtu_to(dst).into());
    // Nearly every packet fits.
    if packet.meta.gso.is_none() && packet.len() <= mtu as usize {
        hop(s, cx, dst, packet, way);
        return Ok(());
    }
    fit(s, cx, dst, packet, way, mtu)
}

/// Sees to it that a packet fits what its link or its path takes.
// Apart: nearly every packet fits.
#[inline(never)]
fn fit(
    s: &mut Stack,
    cx: &mut Cx,
    dst: IpAddr,
    packet: Packet,
    way: Way,
    ip_mtu: u32,
) -> Result<(), SocketError> {
    match s.ip.quietly().fit(dst, packet, ip_mtu as usize) {
        Fit::Whole(packet) => hop(s, cx, dst, packet, way),
        Fit::Fragments(fragments) => hop_each(s, cx, dst, fragments, way),
        Fit::Pieces(pieces) => hop_each(s, cx, dst, pieces.into_iter(), way),
        Fit::TooBig(packet) => {
            let refusal = Refusal::PacketTooBig { mtu: ip_mtu };
            refuse(s, cx, Some(way), refusal, DropReason::TooBig, packet);
            return Err(SocketError::MessageTooLong);
        }
    }
    Ok(())
}

fn hop_each(
    s: &mut Stack,
    cx: &mut Cx,
    dst: IpAddr,
    fragments: impl Iterator<Item = Packet>,
    way: Way,
) {
    for (n, mut fragment) in fragments.enumerate() {
        if n > 0 {
            // One packet came in, however many go out: the first stands for it.
            fragment.meta.rcvif = None;
        }
        hop(s, cx, dst, fragment, way);
    }
}

/// Finds the station of the next hop.
fn hop(s: &mut Stack, cx: &mut Cx, dst: IpAddr, packet: Packet, way: Way) {
    let (ifid, ether_type) = (way.ifid, EtherType::of(dst));
    if s.ifs.get(ifid).is_some_and(|i| !i.can().needs_neighbours) {
        return match way.hop {
            IpAddr::V6(hop) if zone::is_scoped(hop) => loop_back(s, cx, ifid, hop, packet),
            _ => ether(s, cx, ifid, MacAddr::ZERO, ether_type, packet),
        };
    }
    // A broadcast of another interface's subnet is on its way there, by a gateway.
    if s.ip.is_broadcast_on(ifid, dst) {
        return ether(s, cx, ifid, MacAddr::BROADCAST, ether_type, packet);
    }
    if dst.is_multicast() {
        return ether(s, cx, ifid, MacAddr::of_group(dst), ether_type, packet);
    }
    let station = way.hop;
    let neigh = s.neigh.quietly().made();
    if let Some(mac) = neigh.and_then(|neigh| neigh.lookup(cx.now, ifid, station)) {
        return ether(s, cx, ifid, mac, ether_type, packet);
    }
    let round_trip = ways::round_trip(s, ifid);
    match s.neigh.resolve(cx, ifid, station, round_trip, packet) {
        neigh::Verdict::Resolved(mac, packet) => ether(s, cx, ifid, mac, ether_type, packet),
        neigh::Verdict::Held => {}
        neigh::Verdict::Drop(reason, packet) => {
            refuse(s, cx, Some(way), Refusal::HostUnreachable, reason, packet);
        }
    }
}

/// Sends a packet to ourselves that is of the link that `hop` is on.
#[cold]
fn loop_back(s: &mut Stack, cx: &mut Cx, ifid: IfId, hop: Ipv6Addr, mut packet: Packet) {
    let number = zone::split(hop).1;
    let on = s.ifs.iter().find(|i| zone::number(i.id) == Some(number));
    let station = on.and_then(|i| zone::station(i.id));
    let (Some(src), Some(netif)) = (station, s.ifs.get_mut(ifid)) else {
        return drop_outgoing(cx, &packet, DropReason::InterfaceDown);
    };
    let header = EtherHeader {
        dst: netif.mac,
        src,
        ether_type: EtherType::IPV6,
    };
    header.emit(packet.prepend(ETHER_LEN));
    packet.meta.bridges.begin();
    netif.transmit(cx, packet);
}

/// Puts the link header in front and hands the frame to its interface.
pub(super) fn ether(
    s: &mut Stack,
    cx: &mut Cx,
    ifid: IfId,
    dst: MacAddr,
    ether_type: EtherType,
    mut packet: Packet,
) {
    #[cfg(test)]
    s.pass(super::failure::Place::Output);
    let Some(netif) = s.ifs.get_mut(ifid) else {
        return drop_outgoing(cx, &packet, DropReason::InterfaceDown);
    };
    let header = EtherHeader {
        dst,
        src: netif.mac,
        ether_type,
    };
    header.emit(packet.prepend(ETHER_LEN));
    if packet.meta.rcvif.take().is_some() {
        cx.stats.forwarded += 1;
    }
    packet.meta.bridges.begin();
    packet.meta.tags = Tags::default();
    match netif.kind {
        Kind::Loopback(_) | Kind::Epair(_) | Kind::Port(_) => netif.transmit(cx, packet),
        Kind::Bridge(_) | Kind::Vlan(_) | Kind::Lagg(_) => {
            if s.ifs.classifies() {
                classes::prioritise(&s.ifs, ifid, &mut packet);
            }
            send(s, cx, ifid, packet, &mut Trail::default());
        }
    }
}

/// What a frame has passed on its way out.
#[derive(Default)]
pub(super) struct Trail {
    /// Interfaces that have had this copy before.
    depth: u8,
    /// A bridge has made copies of it.
    is_copied: bool,
    /// Copies that were made of copies.
    copies: u32,
}

/// What an interface does with a frame that it is to send.
enum Sent {
    /// It keeps it: the frame is on a wire, waits for one, or is dropped.
    Out,
    /// It leaves it, as it is now, to the interface below.
    Down(IfId, Packet),
}

/// Sends a complete frame, from interface to interface.
// Apart: the stack frame of every other frame's way is smaller without it.
#[inline(never)]
pub(super) fn send(
    s: &mut Stack,
    cx: &mut Cx,
    mut ifid: IfId,
    mut packet: Packet,
    trail: &mut Trail,
) {
    while trail.depth < MAX_DEPTH {
        trail.depth += 1;
        match step(s, cx, ifid, packet, trail) {
            Sent::Out => return,
            Sent::Down(below, frame) => (ifid, packet) = (below, frame),
        }
    }
    drop_outgoing(cx, &packet, DropReason::NestedTooDeep);
}

fn step(s: &mut Stack, cx: &mut Cx, ifid: IfId, mut packet: Packet, trail: &mut Trail) -> Sent {
    let Some(netif) = s.ifs.get_mut(ifid) else {
        drop_outgoing(cx, &packet, DropReason::InterfaceDown);
        return Sent::Out;
    };
    match netif.kind {
        Kind::Loopback(_) | Kind::Epair(_) | Kind::Port(_) => {
            // On a wire, only a tag has a priority.
            packet.meta.tags.set_priority(Priority::default());
            netif.transmit(cx, packet);
            Sent::Out
        }
        Kind::Bridge(id) => bridge(s, cx, id, packet, trail),
        Kind::Vlan(_) => vlan(cx, netif, packet),
        Kind::Lagg(_) => lagg(cx, netif, packet),
    }
}

/// A frame leaves by a VLAN interface: with its tag, by what it stands on.
fn vlan(cx: &mut Cx, netif: &mut Netif, mut packet: Packet) -> Sent {
    if netif.is_running() {
        netif.sent(cx, &packet);
    }
    let (true, Kind::Vlan(vlan)) = (netif.is_running(), &netif.kind) else {
        netif.transmit(cx, packet);
        return Sent::Out;
    };
    // Behind a tag that has only a priority, another would say in which VLAN the frame is: who has the
    // interface with VID 0 would choose.
    if vlan.config.vid == 0 && !packet.meta.tags.is_empty() {
        cx.stats.drop_tx(DropReason::VlanFiltered);
        return Sent::Out;
    }
    let tags = packet.meta.tags;
    let priority = tags.outer().map_or(tags.priority(), Tag::priority);
    packet.push_tag(vlan.config.tag(priority));
    match &vlan.away {
        None => Sent::Down(vlan.parent, packet),
        Some(passage) => {
            cx.stats.sent += 1;
            hand_over(cx, passage, packet);
            Sent::Out
        }
    }
}

/// A frame leaves by a lagg: by one of its members.
fn lagg(cx: &mut Cx, netif: &mut Netif, mut packet: Packet) -> Sent {
    let sender = match netif.is_running() {
        true => netif.kind.lagg().and_then(|lagg| lagg.sender(&mut packet)),
        false => None,
    };
    match sender {
        Some(member) => {
            netif.sent(cx, &packet);
            Sent::Down(member, packet)
        }
        None => {
            netif.transmit(cx, packet);
            Sent::Out
        }
    }
}

/// Sends a frame into another vnet as it is, at once, by no interface's link.
pub(super) fn hand_over<S: Sink + 'static>(cx: &mut Cx, to: &Arc<S>, packet: Packet) {
    cx.out.send(None, to, cx.now, packet);
}

/// A frame of ours leaves by a bridge.
fn bridge(s: &mut Stack, cx: &mut Cx, id: BridgeId, mut packet: Packet, trail: &mut Trail) -> Sent {
    let bridge = s.bridges.get_mut(id).expect("a bridge's interface has it");
    let itself = s.ifs.get_mut(bridge.ifid).filter(|i| i.is_running());
    let header = packet
        .pull_up(ETHER_LEN)
        .map(|bytes| EtherHeader::parse(bytes));
    let (Some(itself), Some(Ok(EtherHeader { dst, src, .. }))) = (itself, header) else {
        cx.stats.drop_tx(DropReason::InterfaceDown);
        return Sent::Out;
    };
    itself.sent(cx, &packet);
    let sender = match src == itself.mac {
        true => Sender::Itself,
        false => Sender::Above(src),
    };
    if !bridge.spans.is_empty() {
        to_spans(s, cx, id, &packet, trail);
    }
    let bridge = s.bridges.get_mut(id).expect(FLOODS);
    let refused = match bridge.output(cx.now, sender, dst, &mut packet) {
        bridge::Output::Drop(reason) => Err(reason),
        bridge::Output::Flood(why) => {
            if why == Flood::Routers {
                s.bridges.tend(id);
            }
            to_members(s, cx, id, None, why, &mut packet, trail)
        }
        bridge::Output::Forward(to) => {
            match bridge.forward(&s.ifs, cx.now, None, to, &mut packet) {
                Ok(()) => return Sent::Down(to, packet),
                Err(reason) => Err(reason),
            }
        }
    };
    if let Err(reason) = refused {
        cx.stats.drop_tx(reason);
    }
    Sent::Out
}

/// Shows a frame to the members of a bridge that only watch.
#[cold]
pub(super) fn to_spans(
    s: &mut Stack,
    cx: &mut Cx,
    id: BridgeId,
    packet: &Packet,
    trail: &mut Trail,
) {
    let bridge = s.bridges.get(id).expect(FLOODS);
    let Some(copy) = bridge.watched(packet) else {
        return;
    };
    let depth = trail.depth;
    for to in bridge.spans.clone() {
        if trail.copies == MAX_COPIES {
            cx.stats.drop_tx(DropReason::TooManyCopies);
            break;
        }
        let (mut copy, bridge) = (copy.clone(), s.bridges.get_mut(id).expect(FLOODS));
        if bridge.shows(&s.ifs, to, &mut copy) {
            (trail.depth, trail.copies) = (depth, trail.copies + 1);
            send(s, cx, to, copy, trail);
        }
    }
    trail.depth = depth;
}

/// Hands a frame that came in by one member of a bridge to another one.
///
/// # Errors
/// Why it does not go there, to be counted by the caller.
pub(super) fn to_member(
    s: &mut Stack,
    cx: &mut Cx,
    id: BridgeId,
    from: Ingress,
    to: IfId,
    mut packet: Packet,
) -> Result<(), DropReason> {
    let bridge = s.bridges.get_mut(id).expect(FLOODS);
    bridge.forward(&s.ifs, cx.now, Some(from), to, &mut packet)?;
    send(s, cx, to, packet, &mut Trail::default());
    Ok(())
}

/// Hands copies of a frame to the members of a bridge, but for the one by which it came in.
///
/// # Errors
/// Why it goes to none, or to no more, to be counted by the caller.
pub(super) fn to_members(
    s: &mut Stack,
    cx: &mut Cx,
    id: BridgeId,
    from: Option<Ingress>,
    why: Flood,
    packet: &mut Packet,
    trail: &mut Trail,
) -> Result<(), DropReason> {
    let bridge = s.bridges.get(id).expect(FLOODS);
    let mut flooding = bridge.flood(cx.now, from, why, packet)?;
    let depth = trail.depth;
    let is_copy = std::mem::replace(&mut trail.is_copied, true);
    loop {
        let bridge = s.bridges.get_mut(id).expect(FLOODS);
        let Some((to, form)) = bridge.next_member(&s.ifs, &mut flooding) else {
            return bridge.flooded(&flooding);
        };
        if is_copy {
            // Each bridge multiplies what the one above has multiplied.
            if trail.copies == MAX_COPIES {
                return Err(DropReason::TooManyCopies);
            }
            trail.copies += 1;
        }
        trail.depth = depth;
        send(s, cx, to, flooding.copy(packet, form), trail);
    }
}

/// Sends a BPDU by a member of a bridge, whatever that does with other frames.
fn spanning_tree(s: &mut Stack, cx: &mut Cx, ifid: IfId, bpdu: &Encoded) {
    let netif = s.ifs.get(ifid);
    let bridge = netif.and_then(|i| s.bridges.get(i.on_bridge()?.bridge));
    if let (Some(netif), Some(bridge)) = (netif, bridge)
        && bridge.speaks_by(ifid)
    {
        let frame = bpdu::frame(bridge.group(), netif.mac, bpdu);
        let mut packet = Packet::outgoing(Payload::from(frame));
        packet.meta.csum = Csum::Verified;
        send(s, cx, ifid, packet, &mut Trail::default());
    }
}

/// Asks who behind the members of a bridge is in which group.
fn ask_for_groups(s: &mut Stack, cx: &mut Cx, id: BridgeId, question: &Question) {
    let Some(bridge) = s.bridges.get_mut(id) else {
        return;
    };
    let Some(itself) = s.ifs.get(bridge.ifid).filter(|i| i.is_running()) else {
        return;
    };
    let (group, ip) = question.packet();
    let header = EtherHeader {
        dst: MacAddr::of_group(group),
        src: itself.mac,
        ether_type: EtherType::of(group),
    };
    let mut packet = Packet::outgoing(Payload::from(ip));
    header.emit(packet.prepend(ETHER_LEN));
    packet.meta.csum = Csum::Verified;
    bridge.put_in_vlan(question.vlan, &mut packet);
    let members = match question.to {
        None => bridge.members.clone(),
        Some(to) => bridge
            .members
            .iter()
            .copied()
            .filter(|m| *m == to)
            .collect(),
    };
    let mut is_sent = false;
    for to in members {
        let (mut copy, bridge) = (packet.clone(), s.bridges.get_mut(id).expect(FLOODS));
        if bridge.lets_out(&s.ifs, cx.now, None, to, Flood::Multicast, &mut copy) {
            is_sent = true;
            send(s, cx, to, copy, &mut Trail::default());
        }
    }
    let bridge = s.bridges.get_mut(id).expect(FLOODS);
    if let Some(snooper) = &mut bridge.snooper {
        snooper.counters.queries_out += u64::from(is_sent);
    }
}

/// Sends a frame in a station's stead, from which switches learn where it is.
fn introduce(s: &mut Stack, cx: &mut Cx, id: BridgeId, who: Introduction) {
    let mut packet = Packet::outgoing(Payload::new());
    ArpPacket::emit_reverse_request(who.mac, packet.prepend(ARP_LEN));
    let header = EtherHeader {
        dst: MacAddr::BROADCAST,
        src: who.mac,
        ether_type: EtherType::RARP,
    };
    header.emit(packet.prepend(ETHER_LEN));
    packet.meta.csum = Csum::Verified;
    let bridge = s.bridges.get_mut(id).expect(FLOODS);
    if bridge.introduce(&s.ifs, cx.now, who, &mut packet) {
        send(s, cx, who.by, packet, &mut Trail::default());
    }
}

/// Drops a packet that cannot go on, and tells its sender why: by ICMP when it is another host,
/// by its socket when it is us. `way` is that of a packet of ours.
pub(super) fn refuse(
    s: &mut Stack,
    cx: &mut Cx,
    way: Option<Way>,
    refusal: Refusal,
    reason: DropReason,
    mut packet: Packet,
) {
    drop_outgoing(cx, &packet, reason);
    if packet.meta.rcvif.is_some() {
        icmp_error(s, cx, refusal, packet);
    } else if let (Some(mut quoted), Some(way)) = (icmp::quoted(&mut packet), way) {
        quoted.bind(match way.hop {
            IpAddr::V6(hop) if way.origin == Origin::Host => zone::split(hop).1,
            _ => zone::number(way.ifid).unwrap_or_default(),
        });
        let said = errors::Said {
            from: quoted.src,
            refusal,
            extensions: Bytes::new(),
        };
        errors::tell(s, cx, said, &quoted);
    }
}

/// Sends an ICMP error about a packet at its IP header, if one may be sent.
pub(super) fn icmp_error(s: &mut Stack, cx: &mut Cx, refusal: Refusal, packet: Packet) {
    if let Some(mut message) = s.icmp.error(cx, &s.ip, packet, refusal) {
        // RFC 1812, section 4.3.2.4: a router speaks from the interface it answers through.
        if !s.ip.contains(message.to.src)
            && let Ok(src) = ways::source_for(s, message.to.dst)
        {
            message.to.src = src;
        }
        icmp(s, cx, message);
    }
}

/// Gives up the datagrams whose fragments did not all come in time, and tells their senders.
pub(super) fn reassembly_expired<V: Version>(s: &mut Stack, cx: &mut Cx) {
    for expired in V::of_mut(&mut s.ip).reassembly.on_deadline(cx) {
        let packet = V::restore(&expired.header, expired.packet);
        icmp_error(s, cx, Refusal::Reassembly, packet);
    }
}

fn drop_outgoing(cx: &mut Cx, packet: &Packet, reason: DropReason) {
    match packet.meta.rcvif {
        Some(_) => cx.stats.drop_rx(reason),
        None => cx.stats.drop_tx(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::System;
    use crate::packet::cx::Carrier;

    #[test]
    fn interfaces_that_stand_on_each_other_in_a_loop_are_no_trap() {
        let system = System::manual(1);
        let a = system.create("a").expect("a free name");
        let names = ["b0", "b1"];
        for name in names {
            a.bridge(name).expect("a free name");
        }
        let dropped = a.core.with(|stack, cx| {
            let [b0, b1] = names.map(|name| stack.ifs.id_of(name).expect("it was made"));
            // The API has no way to say this.
            for (bridge, member) in [(b0, b1), (b1, b0)] {
                let id = stack.ifs.get(bridge).and_then(|i| i.kind.bridge());
                let id = id.expect("a bridge");
                stack.bridges.join(&mut stack.ifs, cx.now, id, member);
            }
            for ifid in [b0, b1] {
                stack.ifs.get_mut(ifid).expect("it was made").carrier = Carrier::Up;
            }
            let packet = Packet::outgoing(Payload::from(vec![0; 46]));
            ether(stack, cx, b0, MacAddr::BROADCAST, EtherType::ARP, packet);
            cx.stats.tx_drops(DropReason::NestedTooDeep)
        });
        assert_eq!(dropped.expect("alive"), 1);
    }
}

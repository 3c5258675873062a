//! What leaves by a bridge: frames of the vnet's own, copies for members and spans, and what bridges say themselves.

use super::{Sent, Trail, send};
use crate::base::id::IfId;
use crate::base::stats::DropReason;
use crate::netif::bridge::introduce::Introduction;
use crate::netif::bridge::snooping::read::Question;
use crate::netif::bridge::stp::bpdu::{self, Encoded};
use crate::netif::bridge::{self, BridgeId, Flood, Ingress, Sender};
use crate::packet::header::arp::{ARP_LEN, ArpPacket};
use crate::packet::header::ether::ETHER_LEN;
use crate::packet::header::{EtherHeader, EtherType};
use crate::packet::{Csum, Cx, MacAddr, Packet, Payload};
use crate::stack::Stack;

/// Copies of a frame that bridges may make that stand on a bridge with a copy of it.
const MAX_COPIES: u32 = 65_536;
/// Why a bridge is there that sends a frame.
pub(in crate::stack) const FLOODS: &str = "to send a frame removes no bridge";

/// A frame of ours leaves by a bridge.
pub(super) fn output(
    s: &mut Stack,
    cx: &mut Cx,
    id: BridgeId,
    mut packet: Packet,
    trail: &mut Trail,
) -> Sent {
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
pub(in crate::stack) fn to_spans(
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
pub(in crate::stack) fn to_member(
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
pub(in crate::stack) fn to_members(
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
pub(super) fn spanning_tree(s: &mut Stack, cx: &mut Cx, ifid: IfId, bpdu: &Encoded) {
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
pub(super) fn ask_for_groups(s: &mut Stack, cx: &mut Cx, id: BridgeId, question: &Question) {
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
pub(super) fn introduce(s: &mut Stack, cx: &mut Cx, id: BridgeId, who: Introduction) {
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

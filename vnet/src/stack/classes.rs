//! The traffic class of packets and the priority of VLAN tags, where they follow each other: as a VLAN interface maps
//! them, or else, by a tunable, each class selector (RFC 2474, section 4.2.2) and the priority with the same number.
//!
//! A tag that comes in says what class a packet is in; by the tunable, only where its sender has not said so. A packet
//! that leaves by a VLAN interface, or by what has VLANs below, has the priority of its class.

use crate::base::id::IfId;
use crate::link::ecn;
use crate::netif::vlan::classes::Classes;
use crate::netif::{IfTable, Netif};
use crate::packet::Packet;
use crate::packet::tag::Priority;

/// The maps of an interface.
fn maps(netif: &Netif) -> Option<&Classes> {
    netif.kind.vlan()?.classes.as_deref()
}

/// A frame has come to the interface `at`, with a tag that is off now. What a bridge forwards is not ours to change,
/// nor what is in a VLAN on that interface.
#[cold]
pub(super) fn classify(ifs: &IfTable, at: IfId, packet: &mut Packet) {
    let netif = ifs.get(at).filter(|i| i.member.is_none());
    let Some(netif) = netif.filter(|_| packet.meta.tags.is_empty()) else {
        return;
    };
    let priority = packet.meta.tags.priority();
    if let Some(maps) = maps(netif) {
        if let Some(dscp) = maps.dscp(priority) {
            ecn::set_dscp(packet, dscp);
        }
    } else if ifs.vlan_classes.is_on() && priority.pcp() != 0 && ecn::dscp(packet) == 0 {
        ecn::set_dscp(packet, priority.pcp() << 3);
    }
}

/// A frame of ours leaves by the interface `by`.
#[cold]
pub(super) fn prioritise(ifs: &IfTable, by: IfId, packet: &mut Packet) {
    let dscp = ecn::dscp(packet);
    let priority = match ifs.get(by).and_then(maps) {
        Some(maps) => maps.priority(dscp),
        None if ifs.vlan_classes.is_on() => Priority::of(dscp >> 3),
        None => return,
    };
    packet.meta.tags.set_priority(priority);
}

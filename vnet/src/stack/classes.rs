//! The traffic class of packets and the priority of VLAN tags, where they follow each other: each class
//! selector (RFC 2474, section 4.2.2) and the priority with the same number.
//!
//! A tag that comes in says what class a packet is in whose sender has not said so. A packet that leaves by a
//! VLAN interface, or by what has VLANs below, has the priority of its class.

use crate::base::id::IfId;
use crate::link::ecn;
use crate::netif::IfTable;
use crate::packet::Packet;
use crate::packet::tag::Priority;

/// A frame has come to the interface `above`, with a tag that is off now.
#[cold]
pub(super) fn classify(ifs: &IfTable, above: IfId, packet: &mut Packet) {
    let pcp = packet.meta.tags.priority().pcp();
    // What a bridge forwards is not ours to change.
    let is_ours = ifs.get(above).is_some_and(|i| i.member.is_none());
    if is_ours && pcp != 0 && ecn::dscp(packet) == 0 {
        ecn::set_dscp(packet, pcp << 3);
    }
}

/// A frame of ours leaves.
#[cold]
pub(super) fn prioritise(packet: &mut Packet) {
    let selector = ecn::dscp(packet) >> 3;
    packet.meta.tags.set_priority(Priority::of(selector));
}

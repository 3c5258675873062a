//! Segments of one connection that come in one after another are taken as one packet, as by a network adapter's large
//! receive offload. Each is a frame of its own to the wire, the counters and whoever watches; what is spared is the way
//! from the link's header up to the connection, for all but one of them.
//!
//! Only what is for this vnet is joined: what a router passes on stays as it came.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::ether;
use crate::ip::addr::Ours;
use crate::packet::gso::Joined;
use crate::packet::header::ether::ETHER_LEN;
use crate::packet::header::{EtherHeader, EtherType, IpProto, ipv4, ipv6, zone};
use crate::packet::{Cx, Packet};
use crate::stack::Stack;
use crate::stack::merging::Station;

/// Takes in a frame of an interface, perhaps together with the next ones.
#[inline]
pub(super) fn take_in(
    s: &mut Stack,
    cx: &mut Cx,
    at: Station,
    header: EtherHeader,
    packet: Packet,
) {
    if s.merging.gro.is_empty() && (!s.merging.more || is_other(&header, &packet)) {
        return ether(s, cx, at, header, packet);
    }
    merge(s, cx, at, header, packet);
}

/// True for a frame that brings something other than TCP, as far as that is at hand.
#[inline]
fn is_other(header: &EtherHeader, packet: &Packet) -> bool {
    let proto = match header.ether_type {
        EtherType::IPV4 => ETHER_LEN + 9,
        EtherType::IPV6 => ETHER_LEN + 6,
        _ => return true,
    };
    let proto = packet.head().get(proto);
    proto.is_some_and(|proto| *proto != IpProto::TCP.0)
}

#[inline(never)]
fn merge(s: &mut Stack, cx: &mut Cx, at: Station, header: EtherHeader, packet: Packet) {
    let packet = match s.merging.gro.join(packet) {
        Ok(Joined::More) => return,
        Ok(Joined::Last) => return flush(s, cx),
        Err(packet) => packet,
    };
    flush(s, cx);
    if !s.merging.more || !is_for_a_connection(s, at, &header, &packet) {
        return ether(s, cx, at, header, packet);
    }
    match s.merging.gro.hold(packet, ETHER_LEN) {
        Ok(()) => s.merging.from = Some((at, header)),
        Err(packet) => ether(s, cx, at, header, packet),
    }
}

/// Takes in what has waited: no more is joined to it.
#[inline]
pub(crate) fn flush(s: &mut Stack, cx: &mut Cx) {
    if !s.merging.gro.is_empty() {
        take_in_held(s, cx);
    }
}

#[inline(never)]
fn take_in_held(s: &mut Stack, cx: &mut Cx) {
    let (Some((packet, frames)), Some((at, header))) =
        (s.merging.gro.take(), s.merging.from.take())
    else {
        return;
    };
    cx.stats.take_refused();
    ether(s, cx, at, header, packet);
    // Each of the frames has been counted as received.
    let others = u64::from(frames) - 1;
    match cx.stats.take_refused() {
        Some(reason) => cx.stats.drop_more_rx(reason, others),
        None => cx.stats.delivered += others,
    }
}

/// True for a frame that brings TCP to an address of this vnet's. Raw sockets see each segment for itself.
fn is_for_a_connection(s: &Stack, at: Station, header: &EtherHeader, packet: &Packet) -> bool {
    if header.dst != at.mac || s.listens_raw(IpProto::TCP) {
        return false;
    }
    let mut ip = [0; ipv6::MIN_LEN];
    let there = packet.copy_to(ETHER_LEN, &mut ip);
    match header.ether_type {
        EtherType::IPV4 if there >= ipv4::MIN_LEN && ip[9] == IpProto::TCP.0 => {
            let [.., a, b, c, d] = *ip.first_chunk::<{ ipv4::MIN_LEN }>().expect("40 bytes");
            let found = s.ip.v4.addrs.find(Ipv4Addr::new(a, b, c, d));
            matches!(found, Some(Ours::Address(_)))
        }
        EtherType::IPV6 if there == ip.len() && ip[6] == IpProto::TCP.0 => {
            let dst: [u8; 16] = *ip.last_chunk().expect("40 bytes");
            let number = zone::number(at.ifid).unwrap_or_default();
            let dst = zone::bind(Ipv6Addr::from(dst), number);
            matches!(s.ip.v6().addrs.find(dst), Some(Ours::Address(_)))
        }
        _ => false,
    }
}

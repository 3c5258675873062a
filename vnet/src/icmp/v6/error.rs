//! Errors about packets: when one may be sent, from which address, and what it quotes
//! (RFC 4443 section 2.4).

use std::net::{IpAddr, Ipv6Addr};

use super::{message, unreachable_code};
use crate::base::switch::Switch;
use crate::icmp::limit::Limit;
use crate::icmp::message::Message;
use crate::ip::addr::{self, Kind, LocalAddrs};
use crate::ip::family::{Family, V6};
use crate::ip::v6::policy::Policy;
use crate::ip::v6::select;
use crate::ip::{Outgoing, Refusal};
use crate::packet::header::icmp6::{self, ICMP_LEN, Icmp6};
use crate::packet::header::ipv6::{self, Ipv6Header, MIN_LEN};
use crate::packet::header::{IpProto, zone};
use crate::packet::{Cx, Packet, checksum};

/// The error to send about a packet at its IP header, whose frame was for us alone; `None` when none may
/// be sent, or not now. The packet is gone either way and counted by the caller.
pub(crate) fn error(
    limit: &mut Limit,
    cx: &mut Cx<'_>,
    (addrs, policy): (&LocalAddrs<V6>, &Policy),
    mut packet: Packet,
    refusal: Refusal,
) -> Option<Message> {
    let ifid = packet.meta.rcvif?;
    let number = zone::number(ifid)?;
    let header = Ipv6Header::parse(packet.pull_up(MIN_LEN)?).ok()?;
    let [src, dst] = [header.src, header.dst].map(|addr| zone::bind(addr, number));
    let says = says(refusal)?;
    if !permitted(src, dst, says, &packet) {
        return None;
    }
    // Before there is more to do, of which whoever provokes it could cause any amount.
    if !limit.take(cx.now) {
        cx.stats.icmp_rate_limited += 1;
        return None;
    }
    // RFC 4443 section 2.2: the address that the packet was for, or one of where it came in.
    let from = match addrs.contains(dst) {
        true => dst,
        false => select::source(addrs, policy, |_| None, Switch::Off, src, ifid)?,
    };
    // What is quoted should be what would have been seen on a wire.
    let _ = checksum::finish(&mut packet, 0);
    packet.truncate(MAX_QUOTE);
    let to = Outgoing {
        traffic_class: header.traffic_class & DSCP,
        ..Outgoing::new(from.into(), IpAddr::V6(src), IpProto::ICMPV6)
    };
    let quoted = packet.meta.bridges;
    let mut packet = message(says, packet.into_payload());
    packet.meta.bridges.quote(quoted);
    Some(Message { to, packet })
}

/// The message that tells of a refusal; `None` of one that IPv6 has no message for.
fn says(refusal: Refusal) -> Option<Icmp6> {
    if let Some(code) = unreachable_code(refusal) {
        return Some(Icmp6::Unreachable { code });
    }
    match refusal {
        Refusal::PacketTooBig { mtu } => Some(Icmp6::PacketTooBig { mtu }),
        Refusal::HopLimit => Some(Icmp6::TimeExceeded { code: 0 }),
        Refusal::Reassembly => Some(Icmp6::TimeExceeded {
            code: icmp6::REASSEMBLY,
        }),
        // The extension headers of what is quoted are lost: the fixed header names what it carries.
        Refusal::Protocol => Some(Icmp6::ParameterProblem {
            code: icmp6::UNKNOWN_NEXT_HEADER,
            pointer: NEXT_HEADER,
        }),
        Refusal::Header { code, pointer } => Some(Icmp6::ParameterProblem { code, pointer }),
        _ => None,
    }
}

/// RFC 4443 section 2.4 (e): an error is never about an error or a redirect, nor about what a group got,
/// with two exceptions; nor does it go to what is not one host.
fn permitted(src: Ipv6Addr, dst: Ipv6Addr, says: Icmp6, packet: &Packet) -> bool {
    let told_of_groups = matches!(
        says,
        Icmp6::PacketTooBig { .. }
            | Icmp6::ParameterProblem {
                code: icmp6::UNKNOWN_OPTION,
                ..
            }
    );
    addr::is_host::<V6>(src)
        && (told_of_groups || V6::kind(dst) != Kind::Multicast)
        && !is_icmp_error(packet)
}

fn is_icmp_error(packet: &Packet) -> bool {
    // Of what does not say, it is none: errors fit the least MTU, and are not fragments.
    let Some((proto, at)) = ipv6::first_transport(packet, 0) else {
        return false;
    };
    let mut kind = [0];
    proto == IpProto::ICMPV6
        && (packet.copy_to(at, &mut kind) == 0
            || !icmp6::is_informational(kind[0])
            || kind[0] == icmp6::REDIRECT)
}

/// RFC 4443 section 2.4 (c): as much as fits the least MTU.
const MAX_QUOTE: usize = 1280 - MIN_LEN - ICMP_LEN;
/// Where the fixed header says what it carries.
const NEXT_HEADER: u32 = 6;
/// No ECN (RFC 3168).
const DSCP: u8 = 0xfc;

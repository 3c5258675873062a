//! ICMP for IPv6: answering echoes, telling senders what went wrong, and hearing it (RFC 4443).
//!
//! | part | what it is |
//! |---|---|
//! | [`error`] | errors about packets: when one may be sent, and what it quotes |
//!
//! What neighbour, router and listener discovery say is handed up. Not here: node information.

pub(crate) mod error;

use std::net::IpAddr;

use super::message::{Message, Quoted, RouterMessage, Verdict};
use crate::base::stats::DropReason;
use crate::ip::addr::Cast;
use crate::ip::v6::{MIN_MTU, solicited_node};
use crate::ip::{Outgoing, Refusal};
use crate::packet::header::icmp_ext;
use crate::packet::header::icmp6::{self, ICMP_CHECKSUM_OFFSET, ICMP_LEN, Icmp6};
use crate::packet::header::ipv6::{self, Ipv6Header};
use crate::packet::header::mld;
use crate::packet::header::ndp::{self, Flags, Ndp};
use crate::packet::header::ra::{self, Advert};
use crate::packet::header::redirect::Redirect;
use crate::packet::header::{IpInfo, IpProto, zone};
use crate::packet::{Csum, Packet, Payload, checksum};

/// Takes a message at its ICMP header: `info` is what its IP header says and `cast` whom it was
/// addressed to.
pub(crate) fn input(info: &IpInfo, cast: Cast, mut packet: Packet) -> Verdict {
    if packet.len() < ICMP_LEN {
        return Verdict::Drop(DropReason::Malformed);
    }
    if checksum::verify_transport(&mut packet, info).is_err() {
        return Verdict::Drop(DropReason::BadChecksum);
    }
    let Some(bytes) = packet.pull_up(ICMP_LEN) else {
        return Verdict::Drop(DropReason::Malformed);
    };
    let words = usize::from(bytes[4]);
    let Ok(message) = Icmp6::parse(bytes) else {
        return Verdict::Drop(DropReason::Malformed);
    };
    match message {
        Icmp6::EchoRequest { code, ident, seq } => {
            packet.strip(ICMP_LEN);
            let reply = Icmp6::EchoReply { code, ident, seq };
            answer(info, cast, reply, packet)
        }
        Icmp6::EchoReply { ident, seq, .. } => {
            packet.strip(ICMP_LEN);
            Verdict::EchoReply {
                ident,
                seq,
                payload: packet.into_payload(),
            }
        }
        Icmp6::Other {
            kind: ndp::SOLICITATION | ndp::ADVERTISEMENT,
            ..
        } => discovery(info, &packet),
        Icmp6::Other {
            kind: kind @ (ndp::ROUTER_SOLICITATION | ra::ROUTER_ADVERTISEMENT | icmp6::REDIRECT),
            ..
        } => router(info, kind, &packet),
        Icmp6::Other { kind, .. } if mld::is_mld(kind) => listeners(info, &packet),
        Icmp6::Other { .. } => Verdict::Drop(DropReason::IcmpIgnored),
        _ => {
            let extends = matches!(
                message,
                Icmp6::Unreachable { .. } | Icmp6::TimeExceeded { .. }
            );
            packet.strip(ICMP_LEN);
            // RFC 4884 section 4.2: how long the quote is, in words of eight bytes.
            let quote_len = if extends { 8 * words } else { 0 };
            // What a wrong length says of extensions takes nothing from the error itself.
            let extensions = icmp_ext::objects(&packet, quote_len).unwrap_or_default();
            match (refusal(message), quoted(&packet)) {
                (_, None) => Verdict::Drop(DropReason::Malformed),
                (Some(refusal), Some(mut quoted)) => {
                    // It was sent on the link on which it was told about.
                    if let IpAddr::V6(ours) = info.dst {
                        quoted.bind(zone::split(ours).1);
                    }
                    Verdict::Error {
                        refusal,
                        quoted,
                        extensions,
                    }
                }
                (None, Some(_)) => Verdict::Drop(DropReason::IcmpIgnored),
            }
        }
    }
}

/// RFC 3810 section 5: messages of listener discovery have come over one hop.
#[cold]
fn listeners(info: &IpInfo, packet: &Packet) -> Verdict {
    if info.hop_limit != 1 {
        return Verdict::Drop(DropReason::Martian);
    }
    let mut bytes = vec![0; packet.len()];
    packet.copy_to(0, &mut bytes);
    Verdict::Listeners(bytes)
}

/// RFC 4861 sections 6.1.1, 6.1.2 and 8.1: what a message of router discovery, or a redirect, must be.
#[cold]
fn router(info: &IpInfo, kind: u8, packet: &Packet) -> Verdict {
    let IpAddr::V6(src) = info.src else {
        return Verdict::Drop(DropReason::Malformed);
    };
    let is_of_router = kind != ndp::ROUTER_SOLICITATION;
    if info.hop_limit != 255 || is_of_router && !src.is_unicast_link_local() {
        return Verdict::Drop(DropReason::Martian);
    }
    let mut bytes = vec![0; packet.len()];
    packet.copy_to(0, &mut bytes);
    let bytes = &bytes;
    let message = match kind {
        ra::ROUTER_ADVERTISEMENT => Advert::parse(bytes)
            .map(Box::new)
            .map(RouterMessage::Advert)
            .ok(),
        icmp6::REDIRECT => Redirect::parse(bytes).map(RouterMessage::Redirect).ok(),
        _ => match ra::parse_solicitation(bytes) {
            // Who has no address has nowhere to be answered at.
            Ok(Some(_)) if src.is_unspecified() => None,
            Ok(_) => Some(RouterMessage::Solicitation),
            Err(_) => None,
        },
    };
    message.map_or(Verdict::Drop(DropReason::Malformed), Verdict::Router)
}

/// RFC 4861 sections 7.1.1 and 7.1.2: what a message of neighbour discovery must be.
fn discovery(info: &IpInfo, packet: &Packet) -> Verdict {
    // A router would have decremented it: the sender is on the link.
    if info.hop_limit != 255 {
        return Verdict::Drop(DropReason::Martian);
    }
    // More than options that anybody sends.
    let mut bytes = [0; 512];
    let len = packet.copy_to(0, &mut bytes);
    let message = match Ndp::parse(&bytes[..len]) {
        // Where our number is to stand, an address has nothing.
        Ok(message) if len == packet.len() && zone::split(message.target()).1 == 0 => message,
        _ => return Verdict::Drop(DropReason::Malformed),
    };
    let (IpAddr::V6(src), IpAddr::V6(dst)) = (info.src, info.dst) else {
        return Verdict::Drop(DropReason::Malformed);
    };
    let is_valid = match message {
        // Who has no address looks for somebody who may have the one that it wants.
        Ndp::Solicitation { target, source, .. } if src.is_unspecified() => {
            source.is_none() && zone::wire(dst) == solicited_node(target)
        }
        Ndp::Solicitation { .. } => true,
        // What many are told is no answer to any of them.
        Ndp::Advertisement { flags, .. } => !(dst.is_multicast() && flags.has(Flags::SOLICITED)),
    };
    match is_valid {
        true => Verdict::Discovery(message),
        false => Verdict::Drop(DropReason::Malformed),
    }
}

/// What an error says; `None` of a message that is none.
fn refusal(message: Icmp6) -> Option<Refusal> {
    Some(match message {
        Icmp6::Unreachable { code } => match code {
            icmp6::NO_ROUTE => Refusal::NoRoute,
            icmp6::PROHIBITED => Refusal::Prohibited,
            icmp6::ADDRESS => Refusal::HostUnreachable,
            icmp6::PORT => Refusal::Port,
            code => Refusal::Unreachable { code },
        },
        // RFC 8201 section 4: a node must not reduce its estimate below the least link MTU.
        Icmp6::PacketTooBig { mtu } if mtu < MIN_MTU => return None,
        Icmp6::PacketTooBig { mtu } => Refusal::PacketTooBig { mtu },
        Icmp6::TimeExceeded {
            code: icmp6::REASSEMBLY,
        } => Refusal::Reassembly,
        Icmp6::TimeExceeded { .. } => Refusal::HopLimit,
        Icmp6::ParameterProblem {
            code: icmp6::UNKNOWN_NEXT_HEADER,
            ..
        } => Refusal::Protocol,
        Icmp6::ParameterProblem { code, pointer } => Refusal::Header { code, pointer },
        Icmp6::EchoRequest { .. } | Icmp6::EchoReply { .. } | Icmp6::Other { .. } => return None,
    })
}

/// The code of a message that says "unreachable"; `None` of a refusal that is said otherwise.
pub(crate) fn unreachable_code(refusal: Refusal) -> Option<u8> {
    match refusal {
        Refusal::NoRoute => Some(icmp6::NO_ROUTE),
        Refusal::Prohibited => Some(icmp6::PROHIBITED),
        Refusal::HostUnreachable => Some(icmp6::ADDRESS),
        Refusal::Port => Some(icmp6::PORT),
        Refusal::Unreachable { code } => Some(code),
        Refusal::Protocol
        | Refusal::PacketTooBig { .. }
        | Refusal::HopLimit
        | Refusal::Reassembly
        | Refusal::Header { .. }
        | Refusal::Redirect { .. } => None,
    }
}

/// A message with this header, and a checksum to be filled in where it leaves.
pub(crate) fn message(header: Icmp6, payload: Payload) -> Packet {
    let mut packet = Packet::outgoing(payload);
    header.emit(packet.prepend(ICMP_LEN));
    packet.meta.csum = PARTIAL;
    packet
}

/// A message of neighbour discovery, likewise.
pub(crate) fn discovery_message(message: &Ndp) -> Packet {
    let mut packet = Packet::outgoing(Payload::new());
    message.emit(packet.prepend(message.len()));
    packet.meta.csum = PARTIAL;
    packet
}

/// How the checksum of a message is left to whoever sends it out.
pub(crate) const PARTIAL: Csum = Csum::Partial {
    start: 0,
    offset: ICMP_CHECKSUM_OFFSET,
};

/// RFC 4443 section 4.2: every node answers. Not when a group was asked, which the section leaves to the
/// node: a forged source would get all the answers.
fn answer(info: &IpInfo, cast: Cast, reply: Icmp6, packet: Packet) -> Verdict {
    if !matches!(cast, Cast::Unicast | Cast::Anycast) || info.src.is_unspecified() {
        return Verdict::Drop(DropReason::IcmpIgnored);
    }
    let to = Outgoing {
        traffic_class: info.traffic_class & DSCP,
        ..Outgoing::new(info.dst, info.src, IpProto::ICMPV6)
    };
    let packet = message(reply, packet.into_payload());
    Verdict::Reply(Message { to, packet })
}

/// What an error about `packet`, at its IP header, would quote.
pub(super) fn quoted(packet: &Packet) -> Option<Quoted> {
    let mut bytes = [0; ipv6::MIN_LEN];
    packet.copy_to(0, &mut bytes);
    let header = Ipv6Header::parse(&bytes).ok()?;
    let (proto, at) = ipv6::first_transport(packet, 0)?;
    let mut transport = [0; 8];
    if packet.copy_to(at, &mut transport) < transport.len() {
        return None;
    }
    Some(Quoted {
        src: header.src.into(),
        dst: header.dst.into(),
        proto,
        ip_len: ipv6::MIN_LEN as u32 + u32::from(header.payload_len),
        transport,
    })
}

/// The part of the traffic class that an answer repeats.
const DSCP: u8 = 0xfc;

#[cfg(test)]
mod tests;

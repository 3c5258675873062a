//! ICMP for IPv4: answering echoes, telling senders what went wrong, and hearing it
//! (RFC 792, RFC 1122 section 3.2.2, RFC 1812 section 4.3).
//!
//! | part | what it is |
//! |---|---|
//! | [`error`] | errors about packets: when one may be sent, and what it quotes |
//!
//! Not here: source quench (RFC 6633 abolished it), timestamps, address masks and router
//! discovery. Redirects are handed up.

pub(crate) mod error;

use super::message::{Message, Quoted, Verdict};
use crate::base::stats::DropReason;
use crate::ip::addr::Cast;
use crate::ip::{Outgoing, Refusal};
use crate::packet::header::icmp_ext;
use crate::packet::header::icmp4::{
    ICMP_CHECKSUM_OFFSET, ICMP_LEN, Icmp4, TimeExceededCode, UnreachableCode,
};
use crate::packet::header::ipv4::{self, Ipv4Header};
use crate::packet::header::{IpInfo, IpProto};
use crate::packet::{Csum, Packet, Payload, checksum};

/// Takes a message at its ICMP header, as [`ip::v4::input`](crate::ip::v4::input) delivered it:
/// `info` is what its IP header says and `cast` whom it was addressed to.
pub(crate) fn input(info: &IpInfo, cast: Cast, mut packet: Packet) -> Verdict {
    if packet.len() < ICMP_LEN {
        return Verdict::Drop(DropReason::Malformed);
    }
    let sum = checksum::verify_transport(&mut packet, info);
    if sum.is_err() {
        return Verdict::Drop(DropReason::BadChecksum);
    }
    let Some(bytes) = packet.pull_up(ICMP_LEN) else {
        return Verdict::Drop(DropReason::Malformed);
    };
    // RFC 4884 section 4.1: where an error says how long its quote is, in words.
    let words = bytes[5];
    let Ok(message) = Icmp4::parse(bytes) else {
        return Verdict::Drop(DropReason::Malformed);
    };
    packet.strip(ICMP_LEN);
    match message {
        Icmp4::EchoRequest { code, ident, seq } => {
            let reply = Icmp4::EchoReply { code, ident, seq };
            return answer(info, cast, reply, packet);
        }
        Icmp4::EchoReply { ident, seq, .. } => {
            return Verdict::EchoReply {
                ident,
                seq,
                payload: packet.into_payload(),
            };
        }
        Icmp4::Other { .. } => return Verdict::Drop(DropReason::IcmpIgnored),
        _ => {}
    }
    let quote_len = match message {
        Icmp4::Redirect { .. } => 0,
        _ => 4 * usize::from(words),
    };
    // What a wrong length says of extensions takes nothing from the error itself.
    let extensions = icmp_ext::objects(&packet, quote_len).unwrap_or_default();
    let Some((quoted, total_len)) = quoted(&mut packet) else {
        return Verdict::Drop(DropReason::Malformed);
    };
    match refusal(message, total_len) {
        Some(refusal) => Verdict::Error {
            refusal,
            quoted,
            extensions,
        },
        None => Verdict::Drop(DropReason::IcmpIgnored),
    }
}

/// What an error says about a packet of `total_len` bytes; `None` of a message that is none.
fn refusal(message: Icmp4, total_len: u16) -> Option<Refusal> {
    Some(match message {
        Icmp4::Unreachable {
            code,
            next_hop_mtu: mtu,
        } => match code {
            UnreachableCode::NET => Refusal::NoRoute,
            UnreachableCode::HOST => Refusal::HostUnreachable,
            UnreachableCode::PROTOCOL => Refusal::Protocol,
            UnreachableCode::PORT => Refusal::Port,
            UnreachableCode::ADMINISTRATIVELY_PROHIBITED => Refusal::Prohibited,
            UnreachableCode::FRAGMENTATION_NEEDED => Refusal::PacketTooBig {
                mtu: known_mtu(mtu, total_len).into(),
            },
            UnreachableCode(code) => Refusal::Unreachable { code },
        },
        Icmp4::TimeExceeded { code } => match code {
            TimeExceededCode::REASSEMBLY => Refusal::Reassembly,
            _ => Refusal::HopLimit,
        },
        Icmp4::Redirect { gateway, .. } => Refusal::Redirect {
            gateway: gateway.into(),
        },
        Icmp4::ParameterProblem { pointer } => Refusal::Header {
            code: 0,
            pointer: pointer.into(),
        },
        Icmp4::EchoRequest { .. } | Icmp4::EchoReply { .. } | Icmp4::Other { .. } => return None,
    })
}

/// The code of a message that says "unreachable"; `None` of a refusal that is said otherwise.
pub(crate) fn unreachable_code(refusal: Refusal) -> Option<UnreachableCode> {
    Some(match refusal {
        Refusal::NoRoute => UnreachableCode::NET,
        Refusal::HostUnreachable => UnreachableCode::HOST,
        Refusal::Protocol => UnreachableCode::PROTOCOL,
        Refusal::Port => UnreachableCode::PORT,
        Refusal::Prohibited => UnreachableCode::ADMINISTRATIVELY_PROHIBITED,
        Refusal::PacketTooBig { .. } => UnreachableCode::FRAGMENTATION_NEEDED,
        Refusal::Unreachable { code } => UnreachableCode(code),
        Refusal::HopLimit
        | Refusal::Reassembly
        | Refusal::Header { .. }
        | Refusal::Redirect { .. } => return None,
    })
}

/// A message with this header, and a checksum to be filled in where it leaves.
pub(crate) fn message(header: Icmp4, payload: Payload) -> Packet {
    let mut packet = Packet::outgoing(payload);
    header.emit(packet.prepend(ICMP_LEN));
    packet.meta.csum = Csum::Partial {
        start: 0,
        offset: ICMP_CHECKSUM_OFFSET,
    };
    packet
}

/// RFC 1122 section 3.2.2.6: every host answers; not when everyone was asked, since a forged
/// source would get all the answers (the section allows it, and so do all kernels by default).
///
/// The code is not looked at, and comes back as it was: so do Linux (`icmp_echo`) and FreeBSD
/// (`icmp_input`), which change the type alone.
fn answer(info: &IpInfo, cast: Cast, reply: Icmp4, packet: Packet) -> Verdict {
    if cast != Cast::Unicast || info.src.is_unspecified() {
        return Verdict::Drop(DropReason::IcmpIgnored);
    }
    let to = Outgoing {
        // "MUST be the same as the specific-destination address of the corresponding request".
        traffic_class: info.traffic_class & DSCP,
        ..Outgoing::new(info.dst, info.src, IpProto::ICMP)
    };
    let packet = message(reply, packet.into_payload());
    Verdict::Reply(Message { to, packet })
}

/// What an error about `packet`, at its IP header, would quote, and how long the packet is.
pub(super) fn quoted(packet: &mut Packet) -> Option<(Quoted, u16)> {
    let start = packet.pull_up(ipv4::MIN_LEN)?;
    let header_len = ipv4::header_len(start).ok()?;
    let bytes = packet.pull_up(header_len + 8)?;
    let header = Ipv4Header::parse_trusted(bytes).ok()?;
    if header.fragment_offset != 0 {
        return None;
    }
    let quoted = Quoted {
        src: header.src.into(),
        dst: header.dst.into(),
        proto: header.proto,
        ip_len: header.total_len.into(),
        transport: bytes[header_len..].first_chunk().copied()?,
    };
    Some((quoted, header.total_len))
}

/// Fills in what a router from before RFC 1191 leaves out: the next MTU in use that is below the
/// packet's length (section 7.1, "plateaus"). No link has less than 68 (RFC 791).
fn known_mtu(mtu: u16, total_len: u16) -> u16 {
    match mtu {
        0 => PLATEAUS
            .into_iter()
            .find(|plateau| *plateau < total_len)
            .unwrap_or(MIN_MTU),
        mtu => mtu.max(MIN_MTU),
    }
}

const PLATEAUS: [u16; 8] = [32_000, 17_914, 8166, 4352, 2002, 1492, 1006, 508];
const MIN_MTU: u16 = 68;
/// The part of the type of service octet that an answer repeats.
const DSCP: u8 = 0xfc;

#[cfg(test)]
mod tests;

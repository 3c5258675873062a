//! ICMP for IPv4: answering echoes, telling senders what went wrong, and hearing it
//! (RFC 792, RFC 1122 section 3.2.2, RFC 1812 section 4.3).
//!
//! | part | what it is |
//! |---|---|
//! | [`error`] | errors about packets: when one may be sent, and what it quotes |
//!
//! Not here: source quench (RFC 6633 abolished it), timestamps, address masks and router
//! discovery. Redirects are heard and handed up, and nobody acts on them.

pub(crate) mod error;

use std::net::Ipv4Addr;

pub(crate) use crate::packet::header::icmp4::{Icmp4, IcmpKind, UnreachableCode};
pub(crate) use error::Icmp;

use crate::base::stats::DropReason;
use crate::ip::addr::Cast;
use crate::ip::v4::output::Outgoing;
use crate::packet::header::IpProto;
use crate::packet::header::icmp4::{ICMP_CHECKSUM_OFFSET, ICMP_LEN};
use crate::packet::header::ipv4::{self, Ipv4Header};
use crate::packet::{Csum, Packet, Payload, checksum};

/// A message on its way out: what [`prepend`](crate::ip::v4::output::prepend) wants.
#[derive(Debug)]
pub(crate) struct Message {
    /// The header to put in front.
    pub to: Outgoing,
    /// The message, at its ICMP header.
    pub packet: Packet,
}

/// What becomes of a received message.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It is answered.
    Reply(Message),
    /// It answers an echo request; whoever asked has the identifier.
    EchoReply {
        /// As in the request.
        ident: u16,
        /// As in the request.
        seq: u16,
        /// What the request carried.
        payload: Payload,
    },
    /// It is about a packet that this vnet, or somebody in its name, sent.
    Error {
        /// What it says.
        kind: IcmpKind,
        /// The packet it is about.
        quoted: Quoted,
    },
    /// It concerns nobody. To be counted by the caller.
    Drop(DropReason),
}

/// What an error quotes of the packet it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quoted {
    /// The packet's sender.
    pub src: Ipv4Addr,
    /// Where it went.
    pub dst: Ipv4Addr,
    /// What it carried.
    pub proto: IpProto,
    /// How long it was.
    pub total_len: u16,
    /// The first eight bytes after its IP header, which is all that is always there.
    pub transport: [u8; 8],
}

impl Quoted {
    /// What an error about `packet`, at its IP header, would quote; `None` when it is too short,
    /// or a fragment other than the first.
    pub(crate) fn of(packet: &mut Packet) -> Option<Quoted> {
        quoted(packet)
    }

    /// Source and destination port, for the protocols that begin with them.
    pub(crate) fn ports(&self) -> (u16, u16) {
        let [a, b, c, d, ..] = self.transport;
        (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
    }

    /// The sequence number of a TCP segment, to be checked against what is in flight
    /// (RFC 5927 section 4.1).
    pub(crate) fn tcp_seq(&self) -> u32 {
        let [.., a, b, c, d] = self.transport;
        u32::from_be_bytes([a, b, c, d])
    }

    /// The header of an ICMP message, to find the echo request that went wrong.
    pub(crate) fn icmp(&self) -> Option<Icmp4> {
        match self.proto {
            IpProto::ICMP => Icmp4::parse(&self.transport).ok(),
            _ => None,
        }
    }
}

/// Takes a message at its ICMP header, as [`ip::input`](crate::ip::v4::input::input) delivered it:
/// `header` is its IP header and `cast` whom it was addressed to.
pub(crate) fn input(header: &Ipv4Header, cast: Cast, mut packet: Packet) -> Verdict {
    if packet.len() < ICMP_LEN {
        return Verdict::Drop(DropReason::Malformed);
    }
    let sum = checksum::verify_transport(&mut packet, header.src, header.dst, IpProto::ICMP);
    if sum.is_err() {
        return Verdict::Drop(DropReason::BadChecksum);
    }
    let message = packet
        .pull_up(ICMP_LEN)
        .and_then(|bytes| Icmp4::parse(bytes).ok());
    let Some(message) = message else {
        return Verdict::Drop(DropReason::Malformed);
    };
    packet.strip(ICMP_LEN);
    let kind = match message {
        Icmp4::EchoRequest { code, ident, seq } => {
            let reply = Icmp4::EchoReply { code, ident, seq };
            return answer(header, cast, reply, packet);
        }
        Icmp4::EchoReply { ident, seq, .. } => {
            return Verdict::EchoReply {
                ident,
                seq,
                payload: packet.into_payload(),
            };
        }
        Icmp4::Unreachable { code, next_hop_mtu } => match code {
            UnreachableCode::FRAGMENTATION_NEEDED => {
                IcmpKind::FragmentationNeeded { mtu: next_hop_mtu }
            }
            code => IcmpKind::Unreachable { code },
        },
        Icmp4::TimeExceeded { code } => IcmpKind::TimeExceeded { code },
        Icmp4::Redirect { gateway, .. } => IcmpKind::Redirect { gateway },
        Icmp4::ParameterProblem { pointer } => IcmpKind::ParameterProblem { pointer },
        Icmp4::Other { .. } => return Verdict::Drop(DropReason::IcmpIgnored),
    };
    let Some(quoted) = quoted(&mut packet) else {
        return Verdict::Drop(DropReason::Malformed);
    };
    Verdict::Error {
        kind: known_mtu(kind, &quoted),
        quoted,
    }
}

/// A message with this header, and a checksum to be filled in where it leaves.
pub(crate) fn message(header: Icmp4, payload: Payload) -> Packet {
    let mut packet = Packet::outgoing(payload);
    header.emit(packet.prepend(ICMP_LEN));
    packet.meta.csum = Csum::Partial {
        start: ipv4::MIN_LEN as u16,
        offset: ICMP_CHECKSUM_OFFSET,
    };
    packet
}

/// RFC 1122 section 3.2.2.6: every host answers; not when everyone was asked, since a forged
/// source would get all the answers (the section allows it, and so do all kernels by default).
///
/// The code is not looked at, and comes back as it was: so do Linux (`icmp_echo`) and FreeBSD
/// (`icmp_input`), which change the type alone.
fn answer(header: &Ipv4Header, cast: Cast, reply: Icmp4, packet: Packet) -> Verdict {
    if cast != Cast::Unicast || header.src.is_unspecified() {
        return Verdict::Drop(DropReason::IcmpIgnored);
    }
    let to = Outgoing {
        // "MUST be the same as the specific-destination address of the corresponding request".
        tos: header.tos & DSCP,
        ..Outgoing::new(header.dst, header.src, IpProto::ICMP)
    };
    let packet = message(reply, packet.into_payload());
    Verdict::Reply(Message { to, packet })
}

fn quoted(packet: &mut Packet) -> Option<Quoted> {
    let start = packet.pull_up(ipv4::MIN_LEN)?;
    let header_len = ipv4::header_len(start).ok()?;
    let bytes = packet.pull_up(header_len + 8)?;
    let header = Ipv4Header::parse_trusted(bytes).ok()?;
    if header.fragment_offset != 0 {
        return None;
    }
    Some(Quoted {
        src: header.src,
        dst: header.dst,
        proto: header.proto,
        total_len: header.total_len,
        transport: bytes[header_len..].first_chunk().copied()?,
    })
}

/// Fills in what a router from before RFC 1191 leaves out: the next MTU in use that is below the
/// packet's length (section 7.1, "plateaus"). No link has less than 68 (RFC 791).
fn known_mtu(kind: IcmpKind, quoted: &Quoted) -> IcmpKind {
    let IcmpKind::FragmentationNeeded { mtu } = kind else {
        return kind;
    };
    let mtu = match mtu {
        0 => PLATEAUS
            .into_iter()
            .find(|plateau| *plateau < quoted.total_len)
            .unwrap_or(MIN_MTU),
        mtu => mtu.max(MIN_MTU),
    };
    IcmpKind::FragmentationNeeded { mtu }
}

const PLATEAUS: [u16; 8] = [32_000, 17_914, 8166, 4352, 2002, 1492, 1006, 508];
const MIN_MTU: u16 = 68;
/// The part of the type of service octet that an answer repeats.
const DSCP: u8 = 0xfc;

#[cfg(test)]
mod tests;

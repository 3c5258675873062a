//! ICMP: answering echoes, telling senders what went wrong, and hearing it.
//!
//! | part | what it is |
//! |---|---|
//! | [`message`] | what comes and goes, whichever version of IP it is of |
//! | [`v4`] | the messages of IPv4 (RFC 792) |
//! | [`v6`] | the messages of IPv6 (RFC 4443) |
//! | [`limit`] | how many errors a second |
//!
//! What a message says is the same in both versions of IP, a [`Refusal`] or an echo; how it says so is
//! its version's.

pub(crate) mod limit;
pub(crate) mod message;
pub(crate) mod v4;
pub(crate) mod v6;

pub(crate) use message::{Message, Quoted, Verdict};

use std::net::IpAddr;

use crate::ip::addr::Cast;
use crate::ip::{Ip, Refusal};
use crate::packet::header::icmp6::Icmp6;
use crate::packet::header::{Icmp4, IpInfo, IpProto, ip};
use crate::packet::{Cx, Packet, Payload};
use limit::Limit;

/// One vnet's ICMP.
#[derive(Clone, Debug, Default)]
pub(crate) struct Icmp {
    /// How many errors it sends.
    pub limit: Limit,
}

impl Icmp {
    /// The error to send about a packet at its IP header, whose frame was for us alone; `None` when
    /// none may be sent, or not now.
    pub(crate) fn error(
        &mut self,
        cx: &mut Cx<'_>,
        ip: &Ip,
        mut packet: Packet,
        refusal: Refusal,
    ) -> Option<Message> {
        match ip::version(packet.pull_up(1)?) {
            4 => {
                let about = v4::error::About::of(packet, Cast::Unicast)?;
                v4::error::error(&mut self.limit, cx, &ip.v4.addrs, about, refusal)
            }
            6 => v6::error::error(
                &mut self.limit,
                cx,
                (&ip.v6().addrs, &ip.policy),
                packet,
                refusal,
            ),
            _ => None,
        }
    }
}

/// Takes a message at its ICMP header: `info` is what its IP header says and `cast` whom it was
/// addressed to.
#[inline]
pub(crate) fn input(info: &IpInfo, cast: Cast, packet: Packet) -> Verdict {
    match info.src {
        IpAddr::V4(_) => v4::input(info, cast, packet),
        IpAddr::V6(_) => v6::input(info, cast, packet),
    }
}

/// A request for an echo from `dst`, and the protocol that carries it.
pub(crate) fn echo_request(
    dst: IpAddr,
    ident: u16,
    seq: u16,
    payload: Payload,
) -> (IpProto, Packet) {
    let code = 0;
    match dst {
        IpAddr::V4(_) => {
            let header = Icmp4::EchoRequest { code, ident, seq };
            (IpProto::ICMP, v4::message(header, payload))
        }
        IpAddr::V6(_) => {
            let header = Icmp6::EchoRequest { code, ident, seq };
            (IpProto::ICMPV6, v6::message(header, payload))
        }
    }
}

/// The code with which "unreachable" is said about a packet to `dst`; `None` of a refusal that is said
/// otherwise.
pub(crate) fn unreachable_code(dst: IpAddr, refusal: Refusal) -> Option<u8> {
    match dst {
        IpAddr::V4(_) => v4::unreachable_code(refusal).map(|code| code.0),
        IpAddr::V6(_) => v6::unreachable_code(refusal),
    }
}

/// What an error about `packet`, at its IP header, would quote; `None` when it is too short, or a
/// fragment other than the first.
pub(crate) fn quoted(packet: &mut Packet) -> Option<Quoted> {
    match ip::version(packet.pull_up(1)?) {
        4 => v4::quoted(packet).map(|(quoted, _)| quoted),
        6 => v6::quoted(packet),
        _ => None,
    }
}

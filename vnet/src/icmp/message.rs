//! What comes and goes as ICMP messages, whichever version of IP they are of.

use std::net::IpAddr;

use bytes::Bytes;

use crate::base::stats::DropReason;
use crate::ip::{Outgoing, Refusal};
use crate::packet::header::icmp6::Icmp6;
use crate::packet::header::ndp::Ndp;
use crate::packet::header::ra::Advert;
use crate::packet::header::redirect::Redirect;
use crate::packet::header::{Icmp4, IpProto, zone};
use crate::packet::{Packet, Payload};

/// A message on its way out: what [`Ip::prepend`](crate::ip::Ip::prepend) wants.
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
        refusal: Refusal,
        /// The packet it is about.
        quoted: Quoted,
        /// What else it says (RFC 4884): objects of extensions.
        extensions: Bytes,
    },
    /// It is of neighbour discovery.
    Discovery(Ndp),
    /// It is of router discovery.
    Router(RouterMessage),
    /// It is of multicast listener discovery: all its bytes.
    Listeners(Vec<u8>),
    /// It concerns nobody. To be counted by the caller.
    Drop(DropReason),
}

/// A message of router discovery (RFC 4861 section 6).
#[derive(Debug)]
pub(crate) enum RouterMessage {
    /// Somebody asks for routers.
    Solicitation,
    /// A router says what there is.
    Advert(Box<Advert>),
    /// A router knows a better first hop.
    Redirect(Redirect),
}

/// What an error quotes of the packet it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quoted {
    /// The packet's sender.
    pub src: IpAddr,
    /// Where it went.
    pub dst: IpAddr,
    /// What it carried.
    pub proto: IpProto,
    /// How long it was, by its own account: its IP header and all behind it.
    pub ip_len: u32,
    /// The first eight bytes after its IP header, which is all that is always there.
    pub transport: [u8; 8],
}

impl Quoted {
    /// Puts the number of the link on which it was into addresses that need one.
    pub(crate) fn bind(&mut self, number: u16) {
        for addr in [&mut self.src, &mut self.dst] {
            if let IpAddr::V6(addr) = addr {
                *addr = zone::bind(*addr, number);
            }
        }
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

    /// Identifier and sequence number of an echo request.
    pub(crate) fn echo(&self) -> Option<(u16, u16)> {
        match self.proto {
            IpProto::ICMP => match Icmp4::parse(&self.transport) {
                Ok(Icmp4::EchoRequest { ident, seq, .. }) => Some((ident, seq)),
                _ => None,
            },
            IpProto::ICMPV6 => match Icmp6::parse(&self.transport) {
                Ok(Icmp6::EchoRequest { ident, seq, .. }) => Some((ident, seq)),
                _ => None,
            },
            _ => None,
        }
    }

    /// True for an answer to an echo request of IPv6.
    pub(crate) fn is_echo_reply(&self) -> bool {
        self.proto == IpProto::ICMPV6
            && matches!(Icmp6::parse(&self.transport), Ok(Icmp6::EchoReply { .. }))
    }
}

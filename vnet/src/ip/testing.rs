//! What tests of this layer and the next share.

use std::fmt::Debug;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::base::id::IfId;
use crate::base::rng::Rng;
use crate::base::stats::Stats;
use crate::base::time::Instant;
use crate::ip::addr::Cast;
use crate::ip::family::Family;
use crate::ip::input::{Ingress, Medium};
use crate::ip::state::IpState;
use crate::ip::v6;
use crate::packet::header::ipv6::{self, Ipv6Header};
use crate::packet::header::{IpProto, Ipv4Header};
use crate::packet::{Cx, Out, Packet, Payload};

/// Everything a [`Cx`] refers to.
pub(crate) struct Surroundings {
    pub(crate) now: Instant,
    pub(crate) rng: Rng,
    pub(crate) stats: Stats,
    pub(crate) out: Out,
}

impl Surroundings {
    pub(crate) fn new() -> Surroundings {
        Surroundings {
            now: Instant::ZERO,
            rng: Rng::seeded(7),
            stats: Stats::default(),
            out: Out::default(),
        }
    }

    pub(crate) fn cx(&mut self) -> Cx<'_> {
        Cx {
            now: self.now,
            rng: &mut self.rng,
            stats: &mut self.stats,
            out: &mut self.out,
        }
    }
}

/// Two interfaces of one vnet.
pub(crate) fn interfaces() -> [IfId; 2] {
    let mut table = slotmap::SlotMap::<IfId, ()>::with_key();
    [table.insert(()), table.insert(())]
}

/// The state of a family of a vnet whose interfaces have these addresses.
pub(crate) fn addressed<F: Family>(nets: &[(IfId, &str)]) -> IpState<F>
where
    F::Net: FromStr<Err: Debug>,
{
    let mut state = IpState::new(&mut Rng::seeded(1));
    for (ifid, net) in nets {
        let net = net.parse().expect("a prefix");
        state.addrs.add(*ifid, net).expect("it is new");
    }
    state
}

/// How a packet comes in from a wire that is for this station.
pub(crate) fn from_wire(ifid: IfId) -> Ingress {
    Ingress {
        ifid,
        medium: Medium::Wire,
        cast: Cast::Unicast,
    }
}

pub(crate) fn ip(text: &str) -> Ipv4Addr {
    text.parse().expect("an address")
}

/// A header of a UDP datagram with `len` bytes behind the header.
pub(crate) fn header(src: &str, dst: &str, len: usize) -> Ipv4Header {
    Ipv4Header {
        src: ip(src),
        dst: ip(dst),
        ident: 1,
        ..Ipv4Header::example(IpProto::UDP, len)
    }
}

/// A packet as it comes off a wire.
pub(crate) fn received(header: &Ipv4Header, data: &[u8]) -> Packet {
    let mut packet = Packet::outgoing(Payload::from(data.to_vec()));
    header.emit(packet.prepend(20));
    Packet::incoming(packet.to_vec())
}

pub(crate) fn ip6(text: &str) -> Ipv6Addr {
    text.parse().expect("an address")
}

/// What the headers of a fragment of a UDP datagram say.
pub(crate) fn header6(src: &str, dst: &str, ident: u32) -> v6::Header {
    v6::Header {
        fixed: fixed6(src, dst, IpProto::FRAGMENT, 0),
        proto: IpProto::UDP,
        len: ipv6::MIN_LEN + ipv6::FRAGMENT_LEN,
        piece: Some(ipv6::Piece {
            next: IpProto::UDP,
            offset: 0,
            more: true,
            ident,
        }),
    }
}

/// A fixed header in front of `len` bytes.
pub(crate) fn fixed6(src: &str, dst: &str, next: IpProto, len: usize) -> Ipv6Header {
    Ipv6Header {
        src: ip6(src),
        dst: ip6(dst),
        ..Ipv6Header::example(next, len)
    }
}

/// A packet as it comes off a wire, with these bytes behind its fixed header.
pub(crate) fn received6(header: &Ipv6Header, rest: &[u8]) -> Packet {
    let mut packet = Packet::outgoing(Payload::from(rest.to_vec()));
    header.emit(packet.prepend(ipv6::MIN_LEN));
    Packet::incoming(packet.to_vec())
}

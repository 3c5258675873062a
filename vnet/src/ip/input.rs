//! What the stages ask a version of IP about one of its headers.
//!
//! The code is generic and compiled for each version, so that a stage is written once and costs nothing extra.

use std::net::IpAddr;

use super::Refusal;
use super::addr::Cast;
use super::family::Family;
use super::state::{IpState, ReversePath};
use super::versions::Ip;
use crate::base::id::IfId;
use crate::base::stats::DropReason;
use crate::packet::header::{IpInfo, IpProto, zone};
use crate::packet::{Cx, Packet};

/// How a packet came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ingress {
    /// The interface.
    pub ifid: IfId,
    /// What is at the interface's other end.
    pub medium: Medium,
    /// Whom the frame was addressed to. Unicast where links have no addresses.
    pub cast: Cast,
}

/// What is at an interface's other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Medium {
    /// This vnet itself.
    Loopback,
    /// Somebody else.
    Wire,
}

/// Whom a packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// Us alone, or us among others.
    Local(Cast),
    /// Another host, and this is a router: see [`forward`](crate::ip::forward).
    Other,
}

/// Why a packet for us goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unopened {
    /// Nobody is to be told.
    Drop(DropReason),
    /// Its sender is to be told.
    Refuse(Refusal, DropReason),
}

/// What becomes of a fragment.
#[derive(Debug)]
pub(crate) enum Reassembled {
    /// It was the last one that was missing: this is the datagram, with what its header would have
    /// said, stripped to its transport header.
    Whole(IpInfo, Packet),
    /// It waits for the others.
    Held,
    /// It is of no use.
    Drop(DropReason),
}

/// A version of IP, as the stages see it.
pub(crate) trait Version: Family {
    /// This version in a vnet.
    fn of(ip: &Ip) -> &IpState<Self>;

    /// The same, to be changed.
    fn of_mut(ip: &mut Ip) -> &mut IpState<Self>;

    /// What the header says, whichever version it is of.
    fn info(header: &Self::Header) -> IpInfo;

    /// Goes through what is between the header of a packet for us and what it carries.
    ///
    /// # Errors
    /// Why the packet goes no further.
    fn open(cast: Cast, header: &mut Self::Header, packet: &mut Packet) -> Result<(), Unopened>;

    /// Takes off what is in front of what the packet carries, or of its part of that.
    fn strip(header: &Self::Header, packet: &mut Packet);

    /// True when the packet is a piece of a datagram.
    fn is_fragment(header: &Self::Header) -> bool;

    /// Whom a packet is for.
    ///
    /// # Errors
    /// Why it is for nobody.
    fn destination(
        state: &IpState<Self>,
        ingress: Ingress,
        header: &Self::Header,
    ) -> Result<Destination, DropReason>;

    /// Puts a fragment of what is for us, stripped to what is behind its header, to the others.
    fn reassemble(
        cx: &mut Cx<'_>,
        state: &mut IpState<Self>,
        ingress: Ingress,
        header: &Self::Header,
        cast: Cast,
        packet: Packet,
    ) -> Reassembled;

    /// Puts a packet that was stripped to its transport header back together, for an ICMP error that
    /// quotes it. Options are lost.
    ///
    /// # Panics
    /// When the transport's part is longer than a packet allows.
    fn restore(header: &Self::Header, packet: Packet) -> Packet;
}

impl Ip {
    /// Whether packets of both versions must come from where their source is.
    pub(crate) fn set_reverse_path(&mut self, reverse_path: ReversePath) {
        self.v4.tunables.reverse_path = reverse_path;
        self.v6_mut().tunables.reverse_path = reverse_path;
    }

    /// True when a packet may have come in by this interface, as far as routes to its source say.
    #[cold]
    pub(crate) fn comes_from_there(
        &mut self,
        ingress: Ingress,
        info: &IpInfo,
        whom: &Result<Destination, DropReason>,
    ) -> bool {
        let src = info.src;
        // RFC 4861 section 7.1: what neighbours say has passed no router, whichever address they say it from.
        let is_said_here = matches!(whom, Ok(Destination::Local(_)))
            && info.proto == IpProto::ICMPV6
            && info.hop_limit == 255;
        let is_of_the_link = match src {
            // Who has no address yet asks for one (RFC 2131 section 4.1, RFC 4862 section 5.4).
            _ if src.is_unspecified() => true,
            IpAddr::V4(_) => false,
            IpAddr::V6(src) => zone::is_scoped(src),
        };
        if is_said_here || is_of_the_link || ingress.medium == Medium::Loopback {
            return true;
        }
        let is_strict = self.v4.tunables.reverse_path == ReversePath::Strict;
        let way = self.lookup(src);
        way.is_ok_and(|way| !is_strict || way.ifid == ingress.ifid)
    }
}

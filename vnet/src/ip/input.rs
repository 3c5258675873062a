//! What the stages ask a version of IP about one of its headers.
//!
//! The code is generic and compiled for each version, so that a stage is written once and costs nothing extra.

use super::Refusal;
use super::addr::Cast;
use super::family::Family;
use super::state::IpState;
use super::versions::Ip;
use crate::base::id::IfId;
use crate::base::stats::DropReason;
use crate::packet::header::IpInfo;
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

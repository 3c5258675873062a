//! What the headers of both versions of IP say, each in its own way.
//!
//! A version's input reads its header once; what goes on from there, to the transports, to sockets
//! and to ICMP, is an [`IpInfo`]. Nothing behind it asks which version a packet came in.

use std::net::IpAddr;

/// What an IP packet carries, in IANA's numbering.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct IpProto(pub u8);

impl IpProto {
    /// Internet Control Message Protocol, for IPv4.
    pub(crate) const ICMP: IpProto = IpProto(1);
    /// Transmission Control Protocol.
    pub(crate) const TCP: IpProto = IpProto(6);
    /// User Datagram Protocol.
    pub(crate) const UDP: IpProto = IpProto(17);
}

/// May a router cut the packet?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Fragmentation {
    /// Yes: the packet arrives, sooner or later.
    #[default]
    Allowed,
    /// No: the packet finds the path's MTU or does not arrive (RFC 1191). IPv6 knows no other.
    Forbidden,
}

/// What the header of a received packet said, whichever version of IP it was. Of a datagram that
/// came in fragments, what the header of the whole would have said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IpInfo {
    /// Where the packet is from.
    pub src: IpAddr,
    /// Where it goes. Of the same family as `src`.
    pub dst: IpAddr,
    /// What it carries.
    pub proto: IpProto,
    /// How many more hops it might have taken: IPv4's time to live.
    pub hop_limit: u8,
    /// DSCP and ECN: IPv4's type of service.
    pub traffic_class: u8,
    /// IPv4's identification, IPv6's flow label.
    pub label: u32,
    /// May it be cut?
    pub fragmentation: Fragmentation,
}

/// The version of the IP header that begins with `start`; zero when that is empty.
#[inline]
pub(crate) fn version(start: &[u8]) -> u8 {
    start.first().map_or(0, |first| first >> 4)
}

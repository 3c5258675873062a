//! What the headers of both versions of IP say, each in its own way.
//!
//! A version's input reads its header once; what goes on from there, to the transports, to sockets
//! and to ICMP, is an [`IpInfo`]. Nothing behind it asks which version a packet came in.

use std::net::IpAddr;

/// What an IP packet carries, in IANA's numbering.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct IpProto(pub u8);

impl IpProto {
    /// Hop-by-hop options of IPv6.
    pub(crate) const HOP_BY_HOP: IpProto = IpProto(0);
    /// Internet Control Message Protocol, for IPv4.
    pub(crate) const ICMP: IpProto = IpProto(1);
    /// Internet Group Management Protocol, of IPv4.
    pub(crate) const IGMP: IpProto = IpProto(2);
    /// Transmission Control Protocol.
    pub(crate) const TCP: IpProto = IpProto(6);
    /// User Datagram Protocol.
    pub(crate) const UDP: IpProto = IpProto(17);
    /// A routing header of IPv6.
    pub(crate) const ROUTING: IpProto = IpProto(43);
    /// A fragment header of IPv6.
    pub(crate) const FRAGMENT: IpProto = IpProto(44);
    /// Internet Control Message Protocol, for IPv6.
    pub(crate) const ICMPV6: IpProto = IpProto(58);
    /// Protocol Independent Multicast, by which routers speak of groups.
    pub(crate) const PIM: IpProto = IpProto(103);
    /// Nothing (RFC 8200 section 4.7).
    pub(crate) const NONE: IpProto = IpProto(59);
    /// Options of IPv6 for the destination.
    pub(crate) const DESTINATION: IpProto = IpProto(60);

    /// True for the extension headers of IPv6 that are read here. Those of IPsec and what else IANA lists
    /// are to a node without them as any protocol that it does not know.
    pub(crate) const fn is_extension(self) -> bool {
        matches!(
            self,
            IpProto::HOP_BY_HOP | IpProto::ROUTING | IpProto::FRAGMENT | IpProto::DESTINATION
        )
    }
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

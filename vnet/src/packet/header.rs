//! Header formats, most of them read and written by `smoltcp::wire`, the others held against it in tests.
//!
//! Each type is what the header *means*; `parse` is given the header's own bytes (the payload is
//! elsewhere) and says what is wrong with them, `emit` writes the bytes. Checksums over payload
//! are in [`checksum`](super::checksum).

pub(crate) mod arp;
pub(crate) mod ether;
pub(crate) mod icmp4;
pub(crate) mod icmp6;
pub(crate) mod icmp_ext;
pub(crate) mod igmp;
pub(crate) mod ip;
pub(crate) mod ipv4;
pub(crate) mod ipv6;
pub(crate) mod mld;
pub(crate) mod ndp;
pub(crate) mod ra;
pub(crate) mod redirect;
pub(crate) mod tcp;
pub(crate) mod udp;
pub(crate) mod zone;

pub(crate) use arp::{ArpOp, ArpPacket};
pub(crate) use ether::{EtherHeader, EtherType};
pub(crate) use icmp4::Icmp4;
pub(crate) use ip::{Fragmentation, IpInfo, IpProto};
#[cfg(test)]
pub(crate) use ipv4::Ipv4Flags;
pub(crate) use ipv4::Ipv4Header;
pub(crate) use tcp::{
    FastOpenCookie, MarkOrder, MarkedBytes, SackBlocks, TcpFlags, TcpHeader, TcpOptions,
};
pub(crate) use udp::UdpHeader;

/// A header that cannot be what it claims. The packet is dropped as
/// [`DropReason::Malformed`](crate::DropReason::Malformed) unless said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeaderError {
    /// Fewer bytes than the fixed part of the header.
    #[error("header truncated")]
    Truncated,
    /// A length field that contradicts the packet's length or the format.
    #[error("length field contradicts the packet")]
    BadLength,
    /// A version or type field with a value this format does not have.
    #[error("not this format")]
    WrongFormat,
    /// The header's own checksum does not match.
    #[error("header checksum does not match")]
    BadChecksum,
}

//! Header formats, read and written by `smoltcp::wire`.
//!
//! Each type is what the header *means*; `parse` is given the header's own bytes (the payload is
//! elsewhere) and says what is wrong with them, `emit` writes the bytes. Checksums over payload
//! are in [`checksum`](super::checksum).

pub mod arp;
pub mod ether;
pub mod icmp4;
pub mod ipv4;
pub mod tcp;
pub mod udp;

pub use arp::{ArpOp, ArpPacket};
pub use ether::{EtherHeader, EtherType};
pub use icmp4::{Icmp4, IcmpKind};
pub use ipv4::{IpProto, Ipv4Flags, Ipv4Header};
pub use tcp::{SackBlocks, TcpFlags, TcpHeader, TcpOptions};
pub use udp::UdpHeader;

/// A header that cannot be what it claims. The packet is dropped as
/// [`DropReason::Malformed`](crate::DropReason::Malformed) unless said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
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

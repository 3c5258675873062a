//! Why a packet is not forwarded or delivered, for any version of IP.
//!
//! Code that gives up a packet returns one of these. The ICMP of the packet's version converts it to a message to the
//! sender ([`icmp`](crate::icmp)), and converts messages of other hosts back.

use std::net::IpAddr;

/// Why a packet goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No route leads to its destination.
    NoRoute,
    /// The last hop does not answer.
    HostUnreachable,
    /// Nobody speaks the protocol that it carries.
    Protocol,
    /// Nobody listens at its port.
    Port,
    /// A filter forbids it.
    Prohibited,
    /// Its destination cannot be reached, for a reason that only the version it is of knows.
    Unreachable {
        /// The reason, in that version's numbering.
        code: u8,
    },
    /// It is larger than a link on its way, and must not be fragmented.
    PacketTooBig {
        /// The largest IP packet that passes, in bytes.
        mtu: u32,
    },
    /// It has taken as many hops as it may.
    HopLimit,
    /// Not all of its fragments came in time.
    Reassembly,
    /// Its header makes no sense.
    Header {
        /// What is wrong, in that version's numbering.
        code: u8,
        /// The octet that is wrong.
        pointer: u32,
    },
    /// It does go on, but there is a shorter way.
    Redirect {
        /// Its first hop.
        gateway: IpAddr,
    },
}

//! What travels with a packet outside its bytes, as a NIC's descriptor would carry it.

use super::tag::Tags;
use crate::base::id::IfId;
use crate::base::time::Instant;

/// Metadata of one packet.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Meta {
    /// The interface it came in on; `None` for a packet that starts here.
    pub rcvif: Option<IfId>,
    /// How far the transport checksum can be trusted.
    pub csum: Csum,
    /// Set when the packet stands for several segments.
    pub gso: Option<Gso>,
    /// When it arrived at the vnet that now has it.
    pub arrived: Instant,
    /// Bridges it has crossed since a host or a router sent it.
    pub bridges: Crossed,
    /// The VLAN tags of a frame that are not in its bytes.
    pub(crate) tags: Tags,
}

/// How many bridges a frame has crossed; and whether its bytes are from outside, where somebody
/// [witnesses](super::witness) what is sent: in all other builds, that is not kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Crossed(u8);

/// The bit that says of a frame that its bytes are from outside.
const FOREIGN: u8 = match cfg!(any(test, feature = "witness")) {
    true => 0x80,
    false => 0,
};

impl Crossed {
    /// How many there were.
    #[inline]
    pub(crate) fn count(self) -> u8 {
        self.0 & !FOREIGN
    }

    /// It crosses one more.
    #[inline]
    pub(crate) fn cross(&mut self) {
        self.0 += 1;
    }

    /// A host or a router sends it.
    #[inline]
    pub(crate) fn begin(&mut self) {
        self.0 &= FOREIGN;
    }

    /// Its bytes are not the work of a stack of ours: somebody outside has made them, a program, or errors on a wire.
    #[inline]
    pub(crate) fn mark_foreign(&mut self) {
        self.0 |= FOREIGN;
    }

    /// It has bytes of another one in it.
    #[inline]
    pub(crate) fn quote(&mut self, other: Crossed) {
        self.0 |= other.0 & FOREIGN;
    }

    /// They are known to be from outside.
    #[cfg(any(test, feature = "witness"))]
    #[inline]
    pub(crate) fn is_foreign(self) -> bool {
        self.0 & FOREIGN != 0
    }
}

/// State of the transport checksum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Csum {
    /// Came from outside: must be verified.
    #[default]
    Unknown,
    /// Verified, or filled in by us.
    Verified,
    /// Not filled in. Whoever sends the packet out of the process sums from `start` bytes into
    /// the L3 packet to its end and stores the result at `start + offset`. Until then the packet
    /// is as good as verified, since it never left memory.
    Partial {
        /// Where the transport header starts, in bytes from the start of the IP header.
        start: u16,
        /// Where the checksum field is, in bytes from `start`.
        offset: u16,
    },
}

/// A packet that stands for several: "generic segmentation offload".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gso {
    /// What is to be cut.
    pub kind: GsoKind,
    /// Payload bytes (after the transport header) of each piece but the last. Never zero.
    pub segment_size: u16,
}

/// What a [`Gso`] packet is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GsoKind {
    /// TCP over IPv4.
    Tcp4,
    /// TCP over IPv6.
    Tcp6,
    /// UDP over either: datagrams between the same ports. A [`Port`](crate::Port) cuts them before a vnet sees them.
    Udp,
}

/// Which way a frame passed the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Into the vnet.
    In,
    /// Out of the vnet.
    Out,
}

//! Seeing frames as they pass an interface.

use crate::base::time::Instant;
use crate::packet::{Direction, Packet};

/// Something that wants to see every frame of an interface, as tcpdump does: outgoing frames
/// before the link's impairments, incoming ones before any check.
///
/// It is called with the vnet's lock held: it must be quick and must not call the vnet. The
/// packet is borrowed; its payload can be kept without copying by cloning it.
pub trait FrameTap: Send + Sync {
    /// A frame passed at `at`. The transport checksum may still be
    /// [partial](crate::packet::Csum::Partial), and the frame may be larger than the MTU when it
    /// has not been segmented yet.
    fn frame(&self, at: Instant, direction: Direction, packet: &Packet);
}

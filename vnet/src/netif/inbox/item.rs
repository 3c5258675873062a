//! What is in an inbox, and its place there.

use super::shares::Payer;
use crate::base::id::IfId;
use crate::base::time::Instant;
use crate::packet::Packet;
use crate::packet::cx::Carrier;

/// Something for a vnet to take in.
#[derive(Debug)]
pub(crate) enum Item {
    /// A frame; `meta.rcvif` says where it came in and `meta.arrived` when.
    Frame(Packet),
    /// A frame of a VLAN interface in another vnet, which is to leave by its parent, `meta.rcvif`.
    Leaving(Packet),
    /// The wire at an interface came up or went down.
    Carrier(IfId, News),
}

impl Item {
    /// The interface at which it came in; nothing at the outside end of a port.
    #[inline]
    pub(super) fn ifid(&self) -> Option<IfId> {
        match self {
            Item::Frame(packet) | Item::Leaving(packet) => packet.meta.rcvif,
            Item::Carrier(ifid, _) => Some(*ifid),
        }
    }

    /// The frame, and whose share of the queue it takes up.
    #[inline]
    pub(super) fn frame(&self) -> Option<(&Packet, Payer)> {
        match self {
            Item::Frame(packet) => Some((packet, Payer::Wire(packet.meta.rcvif))),
            Item::Leaving(packet) => {
                let tag = packet.meta.tags.outer().map(|tag| (tag.tpid, tag.vid()));
                Some((packet, Payer::Lent(packet.meta.rcvif, tag)))
            }
            Item::Carrier(..) => None,
        }
    }
}

/// What one end of a wire tells the other of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct News {
    /// Whether it is there.
    pub carrier: Carrier,
    /// Its place among what that end has told. Whoever has heard a later one does not listen.
    pub number: u64,
}

/// When it arrives, its place among those of the same time and interface, and what it is.
pub(super) type Arrival = (Instant, u64, Item);

/// An item's place in the queue.
pub(super) type Place = (Instant, Option<IfId>, u64);

pub(super) fn place((at, seq, item): &Arrival) -> Place {
    (*at, item.ifid(), *seq)
}

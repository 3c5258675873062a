//! The kinds of interfaces: the name, the capabilities and the state of each.
//!
//! A kind is a variant of [`Kind`], with its state, and a variant of [`IfKind`], its name, with a row in the table of
//! [`Capabilities`]. Code that treats kinds alike consults the table; outside this file, only `stack/tx.rs` and `netif/transmit.rs`, to send a frame, and
//! `netif/stacked.rs`, to find what an interface stands on, match on every [`Kind`].

use std::fmt;
use std::sync::Arc;

use super::bridge::config::BridgeId;
use super::lagg::Lagg;
use super::vlan::Vlan;
use super::wire::{Loop, WireEnd};
use crate::base::id::IfId;

/// The kind of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IfKind {
    /// The loopback interface, which leads back to its own vnet.
    Loopback,
    /// One end of a pair of interfaces.
    Epair,
    /// A port, which leads to something outside of the library: a guest's NIC, a TAP device, a test.
    Port,
    /// A bridge: the interface by which the vnet itself is connected to it.
    Bridge,
    /// A VLAN interface on another interface.
    Vlan,
    /// Several interfaces used as one (link aggregation).
    Lagg,
}

impl fmt::Display for IfKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            IfKind::Loopback => "loopback",
            IfKind::Epair => "epair",
            IfKind::Port => "port",
            IfKind::Bridge => "bridge",
            IfKind::Vlan => "vlan",
            IfKind::Lagg => "lagg",
        })
    }
}

/// What the far end of an interface can process beyond plain Ethernet frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Offload {
    /// Large segments and partial checksums: the far end is in this process, or is a device that segments and computes
    /// checksums itself.
    Full,
    /// Partial checksums, in frames that fit the MTU.
    Checksum,
    /// Only frames that fit the MTU, with all checksums filled in.
    None,
}

/// What can be done with the interfaces of one kind, and what they need.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capabilities {
    /// It can be removed and renamed. What cannot is there for as long as its vnet.
    pub(crate) removable: bool,
    /// It can be moved to another vnet.
    pub(crate) movable: bool,
    /// It can be a member of a bridge.
    pub(crate) bridgeable: bool,
    /// It can be a member of a lagg.
    pub(crate) aggregable: bool,
    /// What it sends passes a link of its own, which can be configured.
    pub(crate) has_link: bool,
    /// What its far end can take at first, and whether that can be configured.
    pub(crate) offload: OffloadSetting,
    /// VLAN interfaces can stand on it.
    pub(crate) carries_tags: bool,
    /// Others are on it: a packet needs the address of a station, and what comes in is not our own.
    pub(crate) needs_neighbours: bool,
}

/// What the far end of the interfaces of one kind can take, unless something else is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OffloadSetting {
    /// This at first.
    Initially(Offload),
    /// Each interface that it sends by decides for itself.
    OfEachBelow,
}

impl IfKind {
    /// The table of capabilities.
    #[inline]
    pub(crate) const fn can(self) -> Capabilities {
        let wire = Capabilities {
            removable: true,
            movable: true,
            bridgeable: true,
            aggregable: true,
            has_link: true,
            offload: OffloadSetting::Initially(Offload::Full),
            carries_tags: true,
            needs_neighbours: true,
        };
        match self {
            IfKind::Loopback => Capabilities {
                removable: false,
                movable: false,
                bridgeable: false,
                aggregable: false,
                has_link: false,
                offload: OffloadSetting::Initially(Offload::Full),
                carries_tags: false,
                needs_neighbours: false,
            },
            IfKind::Epair => wire,
            // Most of what is plugged into a port expects complete frames.
            IfKind::Port => Capabilities {
                offload: OffloadSetting::Initially(Offload::None),
                ..wire
            },
            IfKind::Bridge => Capabilities {
                movable: false,
                bridgeable: false,
                aggregable: false,
                has_link: false,
                offload: OffloadSetting::OfEachBelow,
                ..wire
            },
            IfKind::Lagg => Capabilities {
                movable: false,
                aggregable: false,
                has_link: false,
                offload: OffloadSetting::OfEachBelow,
                ..wire
            },
            IfKind::Vlan => Capabilities {
                aggregable: false,
                has_link: false,
                offload: OffloadSetting::OfEachBelow,
                ..wire
            },
        }
    }
}

/// The state of an interface that only its kind has. It says where frames go that leave by it.
pub(crate) enum Kind {
    /// Back to the same vnet's inbox.
    Loopback(Arc<Loop>),
    /// To the other end of a wire, which is in a vnet.
    Epair(Arc<WireEnd>),
    /// To the other end of a wire, which is outside.
    Port(Arc<WireEnd>),
    /// To the members of this bridge.
    Bridge(BridgeId),
    /// To the interface that it stands on.
    Vlan(Box<Vlan>),
    /// To one of the members of this lagg.
    Lagg(Box<Lagg>),
}

impl Kind {
    /// Its name.
    #[inline]
    pub(crate) const fn name(&self) -> IfKind {
        match self {
            Kind::Loopback(_) => IfKind::Loopback,
            Kind::Epair(_) => IfKind::Epair,
            Kind::Port(_) => IfKind::Port,
            Kind::Bridge(_) => IfKind::Bridge,
            Kind::Vlan(_) => IfKind::Vlan,
            Kind::Lagg(_) => IfKind::Lagg,
        }
    }

    /// The wire that it is plugged into, seen from its end.
    pub(crate) const fn wire(&self) -> Option<&Arc<WireEnd>> {
        match self {
            Kind::Epair(end) | Kind::Port(end) => Some(end),
            Kind::Loopback(_) | Kind::Bridge(_) | Kind::Vlan(_) | Kind::Lagg(_) => None,
        }
    }

    /// The VLAN that it is.
    pub(crate) const fn vlan(&self) -> Option<&Vlan> {
        match self {
            Kind::Vlan(vlan) => Some(vlan),
            Kind::Loopback(_)
            | Kind::Bridge(_)
            | Kind::Epair(_)
            | Kind::Port(_)
            | Kind::Lagg(_) => None,
        }
    }

    /// The lagg that it is.
    pub(crate) const fn lagg(&self) -> Option<&Lagg> {
        match self {
            Kind::Lagg(lagg) => Some(lagg),
            Kind::Loopback(_)
            | Kind::Bridge(_)
            | Kind::Epair(_)
            | Kind::Port(_)
            | Kind::Vlan(_) => None,
        }
    }

    /// The interface of the same vnet that it stands on.
    pub(crate) fn parent(&self) -> Option<IfId> {
        self.vlan().filter(|v| v.away.is_none()).map(|v| v.parent)
    }

    /// The bridge that it is.
    pub(crate) const fn bridge(&self) -> Option<BridgeId> {
        match self {
            Kind::Bridge(id) => Some(*id),
            Kind::Loopback(_) | Kind::Epair(_) | Kind::Port(_) | Kind::Vlan(_) | Kind::Lagg(_) => {
                None
            }
        }
    }
}

//! VLAN interfaces (IEEE 802.1Q), and the table of those that stand on an interface.
//!
//! A VLAN interface is identified by *(parent, TPID, VID)*. Its parent has a table of those that stand
//! on it ([`Vlans`]), in which a tagged frame that comes in is looked up; they know their parent
//! ([`Vlan`]). So one VID on two parents, or one on top of the other, never meet.
//!
//! A VLAN interface that is lent is in another vnet than its parent. Then frames go to it by a wire, and
//! from it into the inbox of the parent's vnet, as ones that are to leave by the parent
//! ([`Passage`]).

pub(crate) mod classes;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use self::classes::Classes;
use super::inbox::{Inbox, Item, News};
use super::wire::{End, Plug, Wire, WireEnd};
use crate::base::id::IfId;
use crate::base::time::Instant;
use crate::packet::Packet;
use crate::packet::cx::{Carrier, Pushed, PushedMany, Sink};
use crate::packet::header::ipv4::MIN_IP_MTU;
use crate::packet::tag::{MAX_VID, Priority, TAG_LEN, Tag, Tpid, UNCOUNTED_TAGS};

/// The VLAN of a VLAN interface.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(deny_unknown_fields)]
pub struct VlanConfig {
    /// The protocol identifier of its tags; by default that of customers' tags (802.1Q).
    #[serde(default)]
    pub tpid: Tpid,
    /// The VLAN identifier, 0 to [`VlanConfig::MAX_VID`]. The interface with 0 receives frames whose tags have only a
    /// priority; if there is none, its parent receives them.
    pub vid: u16,
}

impl VlanConfig {
    /// The largest VLAN identifier.
    pub const MAX_VID: u16 = MAX_VID;

    /// How many VLAN interfaces may stand on each other.
    pub const MAX_DEPTH: u8 = 8;

    pub(crate) const fn new(tpid: Tpid, vid: u16) -> VlanConfig {
        VlanConfig { tpid, vid }
    }

    /// A customer's VLAN (IEEE 802.1Q).
    pub const fn dot1q(vid: u16) -> VlanConfig {
        VlanConfig::new(Tpid::Dot1q, vid)
    }

    /// A service provider's VLAN (IEEE 802.1ad).
    pub const fn dot1ad(vid: u16) -> VlanConfig {
        VlanConfig::new(Tpid::Dot1ad, vid)
    }

    /// The VLAN that a tag is of.
    pub(crate) const fn of(tag: Tag) -> VlanConfig {
        VlanConfig::new(tag.tpid, tag.vid())
    }

    /// What its frames of this priority are tagged with.
    #[inline]
    pub(crate) const fn tag(self, priority: Priority) -> Tag {
        Tag {
            tpid: self.tpid,
            tci: priority.tci(self.vid),
        }
    }
}

/// Whether a VLAN interface has something from its parent or of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// It has its parent's, and follows it.
    Parent,
    /// It was set by hand.
    Hand,
}

/// The state of a VLAN interface.
#[derive(Clone)]
pub(crate) struct Vlan {
    /// Which one.
    pub(crate) config: VlanConfig,
    /// What it stands on, in its home.
    pub(crate) parent: IfId,
    /// What that was called when the interface last left its home, or was made.
    pub(crate) parent_name: Box<str>,
    /// How many VLAN interfaces stand on each other there, this one included.
    pub(crate) depth: u8,
    /// Whose its MAC address is.
    pub(crate) mac: Origin,
    /// The MTU that it was given by hand; without one, it has what its parent can carry.
    pub(crate) ip_mtu: Option<u16>,
    /// What that can carry; while the interface is in another vnet, what it could when that last was known.
    pub(crate) room: u16,
    /// How it maps between classes and priorities, if not as its vnet does.
    pub(crate) classes: Option<Box<Classes>>,
    /// The way to the parent, while the interface is in another vnet.
    pub(crate) away: Option<Arc<Passage>>,
}

impl Vlan {
    /// What a VLAN interface can carry that stands on one with this MTU. Frames may be longer by two tags; where
    /// more VLANs stand on each other, each of them has less.
    pub(crate) fn room_on(depth: u8, ip_mtu: u16) -> u16 {
        match usize::from(depth) > UNCOUNTED_TAGS {
            true => ip_mtu.saturating_sub(TAG_LEN as u16).max(MIN_IP_MTU),
            false => ip_mtu,
        }
    }

    /// Its MTU.
    pub(crate) fn mtu(&self) -> u16 {
        self.ip_mtu.map_or(self.room, |own| own.min(self.room))
    }
}

/// Where a VLAN interface is, as its parent sees it.
#[derive(Clone)]
pub(crate) enum Above {
    /// In the same vnet.
    Here(IfId),
    /// In another one, on the loan of this number.
    Away(u64, Arc<WireEnd>),
}

/// The VLAN interfaces that stand on an interface, in the order of what they are.
#[derive(Default)]
pub(crate) struct Vlans(Vec<(VlanConfig, Above)>);

impl Vlans {
    fn place(&self, of: VlanConfig) -> Result<usize, usize> {
        self.0.binary_search_by_key(&of, |(config, _)| *config)
    }

    /// The one that is this VLAN.
    #[inline]
    pub(crate) fn get(&self, of: VlanConfig) -> Option<&Above> {
        self.place(of).ok().map(|at| &self.0[at].1)
    }

    /// Notes where the one is that is this VLAN.
    pub(crate) fn set(&mut self, of: VlanConfig, above: Above) {
        match self.place(of) {
            Ok(at) => self.0[at].1 = above,
            Err(at) => self.0.insert(at, (of, above)),
        }
    }

    /// Forgets the one that is this VLAN.
    pub(crate) fn remove(&mut self, of: VlanConfig) -> Option<Above> {
        let at = self.place(of).ok()?;
        Some(self.0.remove(at).1)
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Above> {
        self.0.iter().map(|(_, above)| above)
    }

    /// Those in the same vnet.
    pub(crate) fn here(&self) -> Vec<IfId> {
        let here = self.iter().filter_map(|above| match above {
            Above::Here(id) => Some(*id),
            Above::Away(..) => None,
        });
        here.collect()
    }

    /// True when one of them is in another vnet.
    pub(crate) fn has_away(&self) -> bool {
        self.iter().any(|above| matches!(above, Above::Away(..)))
    }

    /// True when there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The way between a VLAN interface and its parent in another vnet.
pub(crate) struct Passage {
    /// From the parent, plugged in at end A, to the interface, at end B. Nothing is sent the other way:
    /// what comes from the interface has not come in by the parent.
    wire: Arc<Wire>,
    /// The parent, and the queue of its vnet.
    inbox: Arc<Inbox>,
    parent: IfId,
}

impl Passage {
    /// A way from the interface `parent`, whose vnet has this queue, to nowhere yet.
    pub(crate) fn new(inbox: Arc<Inbox>, parent: IfId) -> Passage {
        let wire = Wire::new();
        let plug = Plug {
            inbox: Arc::clone(&inbox),
            ifid: Some(parent),
        };
        wire.plug(End::A, plug);
        Passage {
            wire,
            inbox,
            parent,
        }
    }

    /// What the parent sends to.
    pub(crate) fn sender(&self) -> Arc<WireEnd> {
        self.wire.sender(End::A)
    }

    /// Leads to another place, and says what that is to know of the parent.
    pub(crate) fn lead_to(&self, plug: Plug) -> News {
        self.wire.plug(End::B, plug)
    }

    /// Leads nowhere any more.
    pub(crate) fn close(&self) {
        self.wire.unplug(End::B);
    }
}

impl Sink for Passage {
    fn push(&self, at: Instant, mut packet: Packet) -> Pushed {
        packet.meta.rcvif = Some(self.parent);
        packet.meta.arrived = at;
        Arc::clone(&self.inbox).put(at, Item::Leaving(packet))
    }

    fn push_many(&self, frames: &mut dyn Iterator<Item = (Instant, Packet)>) -> PushedMany {
        Arc::clone(&self.inbox).put_many(frames, Some(self.parent), Item::Leaving)
    }

    fn carrier(&self, _at: Instant, _carrier: Carrier) -> Pushed {
        // A parent does not depend on what stands on it.
        Pushed::Refused
    }
}

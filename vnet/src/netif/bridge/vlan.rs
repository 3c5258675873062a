//! VLANs of a bridge (IEEE 802.1Q-2018, clause 8): in which one a frame is, and which members are in it.
//!
//! A frame that comes in is given its VLAN's tag, unless it has it already, and is inside the bridge as if
//! all members were tagged. Where it leaves without a tag, that is taken off its copy. So its priority
//! and drop eligibility stay with it for as long as it is tagged.
//!
//! | part | what it is |
//! |---|---|
//! | [`config`] | how a bridge tells VLANs apart, and in which ones its members are |
//! | [`set`] | sets of VIDs |

pub(crate) mod config;
pub(crate) mod set;

use slotmap::SecondaryMap;

use self::config::{BridgeVlans, MemberVlans, TagPolicy, VlanLearning};
use self::set::Bits;
use super::fdb::{Class, Fid};
use crate::base::id::IfId;
use crate::packet::Packet;
use crate::packet::tag::{MAX_VID, Tag, Tpid};

/// How frames of a VLAN leave by a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// With the VLAN's tag.
    Tagged,
    /// Without it.
    Untagged,
}

/// The VLANs of a member.
struct Port {
    /// That of frames without a tag; 0 where there is none.
    pvid: u16,
    tagged: Bits,
    untagged: Bits,
    tags: TagPolicy,
    filters: bool,
}

impl Port {
    fn new(vlans: &MemberVlans) -> Port {
        Port {
            pvid: vlans.pvid.unwrap_or(0),
            tagged: Bits::of(&vlans.tagged),
            untagged: Bits::of(&vlans.untagged),
            tags: vlans.tags,
            filters: vlans.ingress_filter.is_on(),
        }
    }

    #[inline]
    fn form(&self, vid: u16) -> Option<Form> {
        if self.tagged.contains(vid) {
            return Some(Form::Tagged);
        }
        self.untagged.contains(vid).then_some(Form::Untagged)
    }

    /// Finds the VLAN of a frame that comes in, and gives it that VLAN's tag.
    fn classify(&self, tpid: Tpid, packet: &mut Packet) -> Option<u16> {
        let tag = packet.meta.tags.outer().filter(|tag| tag.tpid == tpid);
        let vid = match tag {
            Some(tag) if self.tags != TagPolicy::Ignore => {
                // IEEE 802.1Q-2018, clause 6.9: VID 0 says that there is only a priority.
                if tag.vid() != 0 {
                    // Clause 6.9.1: frames with a VID are not admitted here.
                    (self.tags == TagPolicy::Obey).then_some(tag.vid())?
                } else {
                    let vid = self.pvid()?;
                    packet.pop_tag();
                    let tci = tag.tci | vid;
                    packet.push_tag(Tag { tpid, tci });
                    vid
                }
            }
            _ => {
                let vid = self.pvid()?;
                packet.push_tag(Tag { tpid, tci: vid });
                vid
            }
        };
        // Clause 8.6.2, and table 9-2: 4095 is no VLAN's.
        let passes = vid <= MAX_VID && (!self.filters || self.form(vid).is_some());
        passes.then_some(vid)
    }

    fn pvid(&self) -> Option<u16> {
        (self.pvid != 0).then_some(self.pvid)
    }
}

/// The VLANs of a bridge.
pub(super) struct Vlans {
    tpid: Tpid,
    learning: VlanLearning,
    host: Port,
    ports: SecondaryMap<IfId, Port>,
}

impl Vlans {
    /// Those of a bridge without members.
    pub(super) fn new(config: &BridgeVlans) -> Vlans {
        Vlans {
            tpid: config.tpid,
            learning: config.learning,
            host: Port::new(&config.host),
            ports: SecondaryMap::new(),
        }
    }

    /// A member is in these VLANs from now on.
    pub(super) fn set(&mut self, member: IfId, vlans: &MemberVlans) {
        self.ports.insert(member, Port::new(vlans));
    }

    /// A member is none any more.
    pub(super) fn remove(&mut self, member: IfId) {
        self.ports.remove(member);
    }

    /// Finds the VLAN of a frame whose tags are off, and gives it that VLAN's tag; `None` when it is in
    /// none. It has come in by a member, or from the vnet itself.
    pub(super) fn classify(&self, from: Option<IfId>, packet: &mut Packet) -> Option<Class> {
        let port = match from {
            Some(member) => self.ports.get(member)?,
            None => &self.host,
        };
        let vlan = Fid::of(port.classify(self.tpid, packet)?);
        let learned_in = match self.learning {
            VlanLearning::Independent => vlan,
            VlanLearning::Shared => Fid::ALL,
        };
        Some(Class { vlan, learned_in })
    }

    /// How frames of a VLAN leave by a member; `None` when it is not in that VLAN.
    #[inline]
    pub(super) fn form(&self, member: IfId, vlan: Fid) -> Option<Form> {
        self.ports.get(member)?.form(vlan.vid()?)
    }

    /// How the vnet itself receives frames of a VLAN, if it does.
    pub(super) fn host_form(&self, vlan: Fid) -> Option<Form> {
        self.host.form(vlan.vid()?)
    }
}

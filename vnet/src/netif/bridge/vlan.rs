//! VLANs of a bridge (IEEE 802.1Q-2018, clause 8): in which one a frame is, and which members are in it.
//!
//! A frame that comes in is given its VLAN's tag, unless it has it already, and is inside the bridge as if
//! all members were tagged. Where it leaves without a tag, that is taken off its copy. So its priority
//! and drop eligibility stay with it for as long as it is tagged.
//!
//! A tag says in which VLAN a frame is where it is the outermost one, and nowhere else. So a frame with a
//! second tag of the bridge's protocol does not leave without the first, but into a tunnel ([`Behind`]).
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

/// What the tag behind the outer one says to a bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behind {
    /// Nothing: there is none, or it is of another protocol than the bridge's tags.
    NoVlan,
    /// In which VLAN the frame would be without the outer one.
    Vlan,
}

impl Behind {
    #[inline]
    fn of(tpid: Tpid, packet: &Packet) -> Behind {
        match packet.meta.tags.inner() {
            Some(tag) if tag.tpid == tpid => Behind::Vlan,
            _ => Behind::NoVlan,
        }
    }
}

/// The VLANs of a member.
struct Port {
    /// That of frames without a tag; 0 where there is none.
    pvid: u16,
    /// How frames of that one leave, so that it need not be looked up: most are of it.
    of_pvid: Option<Form>,
    tags: TagPolicy,
    filters: bool,
    tagged: Bits,
    untagged: Bits,
}

impl Port {
    fn new(vlans: &MemberVlans) -> Port {
        let mut port = Port {
            pvid: vlans.pvid.unwrap_or(0),
            of_pvid: None,
            tags: vlans.tags,
            filters: vlans.ingress_filter.is_on(),
            tagged: Bits::of(&vlans.tagged),
            untagged: Bits::of(&vlans.untagged),
        };
        port.of_pvid = port.find(port.pvid);
        port
    }

    /// How frames of a VLAN leave, whatever is behind its tag.
    #[inline]
    fn find(&self, vid: u16) -> Option<Form> {
        match self.tagged.contains(vid) {
            true => Some(Form::Tagged),
            false => self.untagged.contains(vid).then_some(Form::Untagged),
        }
    }

    /// How a frame leaves that is inside the bridge in this VLAN.
    #[inline]
    fn form(&self, vid: u16, behind: Behind) -> Option<Form> {
        let form = match vid == self.pvid {
            true => self.of_pvid,
            false => self.find(vid),
        };
        // Without its own tag, it would be in the VLAN of the one behind it.
        let stays = behind == Behind::NoVlan || self.tags == TagPolicy::Ignore;
        form.filter(|form| *form == Form::Tagged || stays)
    }

    /// Finds the VLAN of a frame that comes in, and gives it that VLAN's tag.
    #[inline]
    fn classify(&self, tpid: Tpid, packet: &mut Packet) -> Option<u16> {
        if packet.meta.tags.is_empty() {
            let vid = self.pvid()?;
            let tci = packet.meta.tags.priority().tci(vid);
            packet.push_tag(Tag { tpid, tci });
            return (!self.filters || self.of_pvid.is_some()).then_some(vid);
        }
        self.classify_tagged(tpid, packet)
    }

    fn classify_tagged(&self, tpid: Tpid, packet: &mut Packet) -> Option<u16> {
        let tag = packet.meta.tags.outer().filter(|tag| tag.tpid == tpid);
        let vid = match tag {
            Some(tag) if self.tags != TagPolicy::Ignore => {
                // IEEE 802.1Q-2018, clause 6.9: VID 0 says that there is only a priority.
                if tag.vid() != 0 {
                    // Clause 6.9.1: frames with a VID are not admitted here.
                    (self.tags == TagPolicy::Obey).then_some(tag.vid())?
                } else {
                    let vid = self.pvid()?;
                    // A priority does not hide a tag behind it.
                    if self.tags == TagPolicy::Refuse && Behind::of(tpid, packet) == Behind::Vlan {
                        return None;
                    }
                    packet.pop_tag();
                    let tci = tag.tci | vid;
                    packet.push_tag(Tag { tpid, tci });
                    vid
                }
            }
            _ => {
                let vid = self.pvid()?;
                let tci = packet.meta.tags.priority().tci(vid);
                packet.push_tag(Tag { tpid, tci });
                vid
            }
        };
        // Clause 8.6.2, and table 9-2: 4095 is no VLAN's.
        let is_in = self.find(vid).is_some();
        (vid <= MAX_VID && (!self.filters || is_in)).then_some(vid)
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

    /// The VLAN of frames that come in by a member without a tag, if there is one.
    pub(super) fn pvid(&self, member: IfId) -> Option<u16> {
        self.ports.get(member)?.pvid()
    }

    /// Which tags say in which VLAN a frame is.
    pub(super) fn tpid(&self) -> Tpid {
        self.tpid
    }

    /// True when tags mean nothing on a member.
    pub(super) fn is_tunnel(&self, member: IfId) -> bool {
        let port = self.ports.get(member);
        port.is_some_and(|port| port.tags == TagPolicy::Ignore)
    }

    /// Finds the VLAN of a frame whose tags are off, and gives it that VLAN's tag; `None` when it is in
    /// none. It has come in by a member, or from the vnet itself.
    #[inline]
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

    /// The VLAN of a frame that is inside the bridge, and what is behind its tag.
    #[inline]
    pub(super) fn place(&self, packet: &Packet) -> (Fid, Behind) {
        let vlan = packet.meta.tags.outer().map(|tag| Fid::of(tag.vid()));
        (vlan.unwrap_or(Fid::ALL), Behind::of(self.tpid, packet))
    }

    /// How a frame leaves by a member; `None` when it does not, because the member is not in its VLAN, or
    /// the frame would be in another one.
    #[inline]
    pub(super) fn form(&self, member: IfId, (vlan, behind): (Fid, Behind)) -> Option<Form> {
        self.ports.get(member)?.form(vlan.vid()?, behind)
    }

    /// The tag of frames in the VLAN with this VID.
    pub(super) const fn tag(&self, vid: u16) -> Tag {
        Tag {
            tpid: self.tpid,
            tci: vid,
        }
    }

    /// How the vnet itself receives a frame, if it does.
    pub(super) fn host_form(&self, (vlan, behind): (Fid, Behind)) -> Option<Form> {
        self.host.form(vlan.vid()?, behind)
    }
}

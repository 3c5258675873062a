//! How a bridge tells VLANs apart, and in which ones its members are.

use serde::{Deserialize, Serialize};

use super::set::{VidSet, bad_vid};
use crate::base::config::ConfigError;
use crate::base::switch::Switch;
use crate::packet::tag::{MAX_VID, Tpid};

/// How a bridge tells VLANs apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BridgeVlans {
    /// Which tags say in which VLAN a frame is: a customer's (802.1Q) at first. Others are the
    /// frame's own business, so that a bridge with a provider's tags (802.1ad) carries a customer's frames,
    /// tags and all.
    pub tpid: Tpid,
    /// Whether each VLAN has a forwarding database of its own, which it has at first.
    pub learning: VlanLearning,
    /// Stations that are learned in each VLAN with a database of its own, if there is a limit to them. When
    /// there are as many, others are not learned, and frames for them go to all members of the VLAN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_stations: Option<u32>,
    /// In which VLANs the vnet itself is, by the bridge's interface.
    pub host: MemberVlans,
}

impl BridgeVlans {
    /// Checks what has a range.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        self.host.check()
    }
}

/// Whether VLANs share a forwarding database (IEEE 802.1Q-2018, clause 8.8.8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VlanLearning {
    /// Each has its own: a station may be somewhere else in each.
    #[default]
    Independent,
    /// There is one: what is learned in one VLAN counts in all.
    Shared,
}

/// In which VLANs a member of a bridge is, where the bridge tells them apart (IEEE 802.1Q-2018, clauses
/// 6.9 and 8.6). At first, in VLAN 1 without tags.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MemberVlans {
    /// The VLAN of frames that come in without a tag, or with one that has only a priority. Where there is
    /// none, they are dropped.
    #[serde(with = "pvid")]
    pub pvid: Option<u16>,
    /// The VLANs whose frames leave with a tag.
    pub tagged: VidSet,
    /// The VLANs whose frames leave without a tag. None is in both sets.
    pub untagged: VidSet,
    /// What a tag means on a frame that comes in.
    pub tags: TagPolicy,
    /// Frames of VLANs in which the member is not are dropped when they come in; on at first. Off, they
    /// are sent to the VLAN's members.
    pub ingress_filter: Switch,
}

/// What a tag means on a frame that comes in by a member of a bridge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TagPolicy {
    /// It says in which VLAN the frame is.
    #[default]
    Obey,
    /// The frame is dropped, unless the tag has only a priority.
    Refuse,
    /// Nothing: the frame is in the VLAN of those without a tag, and keeps its tags there (a tunnel).
    Ignore,
}

impl MemberVlans {
    /// A member that leads to stations of one VLAN, which know nothing of it.
    pub fn access(vid: u16) -> MemberVlans {
        MemberVlans {
            pvid: Some(vid),
            tagged: VidSet::default(),
            untagged: [vid].into_iter().collect(),
            tags: TagPolicy::Refuse,
            ingress_filter: Switch::On,
        }
    }

    /// A member that leads to another bridge, with frames of these VLANs, all of them tagged.
    ///
    /// A native VLAN, whose frames have no tag, is one that is the [`pvid`](MemberVlans::pvid) and
    /// [`untagged`](MemberVlans::untagged) as well.
    pub fn trunk(vids: VidSet) -> MemberVlans {
        MemberVlans {
            pvid: None,
            tagged: vids,
            untagged: VidSet::default(),
            tags: TagPolicy::Obey,
            ingress_filter: Switch::On,
        }
    }

    /// A member that leads to a customer, all of whose frames are in one VLAN of the provider's, with
    /// the tags that the customer gave them.
    pub fn tunnel(vid: u16) -> MemberVlans {
        MemberVlans {
            tags: TagPolicy::Ignore,
            ..MemberVlans::access(vid)
        }
    }

    /// Checks what has a range.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        self.tagged.check("tagged")?;
        self.untagged.check("untagged")?;
        if let Some(vid) = self.untagged.iter().find(|vid| self.tagged.contains(*vid)) {
            return Err(ConfigError::new(
                "untagged",
                format!("VLAN {vid} cannot be both tagged and untagged on one member"),
            ));
        }
        match self.pvid {
            // IEEE 802.1Q-2018, table 9-2.
            Some(vid) if vid == 0 || vid > MAX_VID => Err(bad_vid("pvid", vid)),
            Some(vid) if self.ingress_filter.is_on() && !self.carries(vid) => {
                Err(ConfigError::new(
                    "pvid",
                    format!(
                        "the PVID is {vid}, but the member is not in VLAN {vid}: add it, or turn the ingress filter off"
                    ),
                ))
            }
            None if self.tags != TagPolicy::Obey => Err(ConfigError::new(
                "pvid",
                "a member that does not obey tags needs a PVID",
            )),
            _ => Ok(()),
        }
    }

    /// True when the member is in that VLAN.
    pub(crate) fn carries(&self, vid: u16) -> bool {
        self.tagged.contains(vid) || self.untagged.contains(vid)
    }

    pub(crate) fn is_default(&self) -> bool {
        *self == MemberVlans::default()
    }
}

impl Default for MemberVlans {
    fn default() -> MemberVlans {
        MemberVlans {
            tags: TagPolicy::Obey,
            ..MemberVlans::access(1)
        }
    }
}

/// A PVID in records, which have no word for nothing: 0 says that there is none.
mod pvid {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(pvid: &Option<u16>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u16(pvid.unwrap_or(0))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u16>, D::Error> {
        let vid = u16::deserialize(from)?;
        Ok((vid != 0).then_some(vid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_contradicts_itself_is_refused() {
        let of = |change: fn(&mut MemberVlans)| {
            let mut vlans = MemberVlans::default();
            change(&mut vlans);
            vlans.check().map_err(|refused| refused.setting)
        };
        let set = |text: &str| text.parse::<VidSet>().expect("a set");
        assert_eq!(of(|_| {}), Ok(()));
        for good in [MemberVlans::access(4094), MemberVlans::tunnel(1)] {
            assert_eq!(good.check(), Ok(()));
        }
        assert_eq!(MemberVlans::trunk(set("2-4094")).check(), Ok(()));
        let range = MemberVlans::access(4095).check().map_err(|e| e.setting);
        assert_eq!(range, Err("untagged"));
        let both = MemberVlans {
            tagged: set("1-5"),
            ..MemberVlans::default()
        };
        assert_eq!(both.check().map_err(|e| e.setting), Err("untagged"));
        assert_eq!(of(|v| v.pvid = Some(2)), Err("pvid"));
        assert_eq!(of(|v| v.pvid = Some(0)), Err("pvid"));
        let open = |v: &mut MemberVlans| (v.pvid, v.ingress_filter) = (Some(2), Switch::Off);
        assert_eq!(of(open), Ok(()));
        let shut = |v: &mut MemberVlans| (v.pvid, v.tags) = (None, TagPolicy::Refuse);
        assert_eq!(of(shut), Err("pvid"));
    }
}

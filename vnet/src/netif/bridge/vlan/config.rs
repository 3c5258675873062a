//! How a bridge tells VLANs apart, and in which ones its members are.

use serde::{Deserialize, Serialize};

use super::set::{VidSet, bad_vid};
use crate::base::config::ConfigError;
use crate::base::switch::Switch;
use crate::packet::tag::{MAX_VID, Tpid};

/// How a bridge distinguishes VLANs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BridgeVlans {
    /// Which tags say in which VLAN a frame is: a customer's (802.1Q) at first. Others are the
    /// frame's own business, so that a bridge with a provider's tags (802.1ad) carries a customer's frames,
    /// tags and all.
    pub tpid: Tpid,
    /// Whether each VLAN has a forwarding database of its own, as it does by default.
    pub learning: VlanLearning,
    /// Stations that are learned in each VLAN with a database of its own, if there is a limit to them. When
    /// there are as many, others are not learned, and frames for them go to all members of the VLAN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_stations: Option<u32>,
    /// The VLANs that the vnet itself is in, through the bridge's interface.
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
    /// Each has its own: a station may be in a different place in each VLAN.
    #[default]
    Independent,
    /// There is one: what is learned in one VLAN holds in all.
    Shared,
}

/// The VLANs that a member of a bridge is in, if the bridge distinguishes them (IEEE 802.1Q-2018, clauses 6.9 and
/// 8.6). By default, VLAN 1 without tags.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MemberVlans {
    /// The VLAN of frames that are received without a tag, or with a priority tag. If there is none, they are
    /// dropped.
    #[serde(with = "pvid")]
    pub pvid: Option<u16>,
    /// The VLANs whose frames leave with a tag.
    pub tagged: VidSet,
    /// The VLANs whose frames leave without a tag. None is in both sets.
    pub untagged: VidSet,
    /// What a tag on a received frame means.
    pub tags: TagPolicy,
    /// Whether received frames are dropped if the member is not in their VLAN; on by default. If it is off, they are
    /// sent to the VLAN's members.
    pub ingress_filter: Switch,
}

/// What a tag on a frame received by a member of a bridge means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TagPolicy {
    /// The frame is in the VLAN that it names.
    #[default]
    Obey,
    /// The frame is dropped, unless the tag is a priority tag.
    Refuse,
    /// Nothing: the frame is treated as one without a tag, and keeps its tags (a tunnel).
    Ignore,
}

impl MemberVlans {
    /// A member that leads to stations of one VLAN, which do not use tags.
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

    /// A member that leads to a customer, whose frames are all in one VLAN of the provider's and keep the tags that
    /// the customer gave them.
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

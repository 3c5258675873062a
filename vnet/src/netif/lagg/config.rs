//! How a lagg works, and what an interface keeps while it is a member of one.

use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

use crate::base::config::ConfigError;
use crate::base::id::IfId;
use crate::base::switch::Switch;
use crate::packet::MacAddr;

/// Which members of a lagg are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LaggMode {
    /// The first one that is running, in the order in which they joined. Frames received by other members are
    /// dropped.
    Failover,
    /// All that are running. The other end must do the same, since nothing is negotiated.
    Balance,
    /// Those on which both ends agree by LACP (IEEE 802.1AX); this end sends LACPDUs unasked.
    #[default]
    LacpActive,
    /// The same, but this end sends LACPDUs only if the other end does.
    LacpPassive,
}

impl LaggMode {
    /// True when it speaks LACP.
    pub(crate) const fn is_lacp(self) -> bool {
        matches!(self, LaggMode::LacpActive | LaggMode::LacpPassive)
    }
}

/// What identifies a flow. Frames of one flow are sent by one member, so they keep their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LaggHash {
    /// The stations and the VLAN tags.
    L2,
    /// As [`LaggHash::L2`], and for IP packets the addresses and the protocol.
    L3,
    /// As [`LaggHash::L3`], and for TCP and UDP the ports. Fragments have no ports, so a flow of which only some
    /// packets are fragmented is two flows.
    #[default]
    L4,
}

/// The configuration of a lagg.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LaggConfig {
    /// Which members are used.
    pub mode: LaggMode,
    /// What identifies a flow, if several members are used.
    pub hash: LaggHash,
    /// With LACP: on when the partner is asked to speak every second, and given up after three; off
    /// for 30 and 90 seconds. A member whose carrier goes is given up at once in any case.
    pub fast: Switch,
    /// With LACP: this system's priority. Lower values are preferred.
    pub system_priority: u16,
    /// With LACP: this system's address; if none is given, that of the lagg's interface. Laggs of several vnets with
    /// one `system` and one `key` look like one system to the other ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<MacAddr>,
    /// With LACP: the number of this lagg in its system; if none is given, one that no other lagg of the vnet uses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<NonZeroU16>,
}

impl LaggConfig {
    /// Checks what has a range.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        match self.system {
            Some(mac) if !mac.is_station() => Err(ConfigError::new(
                "system",
                format!("system: the address of a station, not {mac}"),
            )),
            _ => Ok(()),
        }
    }
}

impl Default for LaggConfig {
    fn default() -> LaggConfig {
        LaggConfig {
            mode: LaggMode::default(),
            hash: LaggHash::default(),
            fast: Switch::Off,
            // IEEE 802.1AX-2020, clause 6.3.2: the value recommended.
            system_priority: 0x8000,
            system: None,
            key: None,
        }
    }
}

/// The membership of an interface of a lagg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LaggMembership {
    /// The lagg's interface.
    pub(crate) lagg: IfId,
    /// True when frames are taken that come in by it.
    pub(crate) takes: bool,
    /// The address that it has again when it leaves.
    pub(crate) mac: MacAddr,
    /// The IP MTU that it has again when it leaves.
    pub(crate) ip_mtu: u16,
}

//! How a bridge works and how it treats its members.

use std::fmt;

use slotmap::new_key_type;

use super::stp::config::{RstpConfig, RstpPort, StpConfigError};
use super::stp::state::PortState;
use super::stp::vector::PortNumber;
use super::vlan::config::{BridgeVlans, MemberVlans, VlanConfigError};
pub use crate::base::switch::Switch as Switchable;
use crate::base::time::Duration;

new_key_type! {
    /// A bridge within one vnet.
    pub struct BridgeId;
}

/// Whether a bridge looks where stations are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BridgeMode {
    /// It learns, and sends a frame only to where its station is.
    #[default]
    Switch,
    /// It does not: every frame goes everywhere.
    Hub,
}

/// Whether the vnet itself is on its bridge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostPort {
    /// It hears and speaks by the bridge's interface.
    #[default]
    Attached,
    /// The bridge carries frames for others only: a switch without an address.
    Detached,
}

/// Whether a bridge takes part in a spanning tree, so that bridges may be connected in loops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stp {
    /// It does not: all of its members forward, and BPDUs are dropped as what is for other groups of bridges.
    #[default]
    Off,
    /// It speaks the rapid spanning tree protocol, and the older one with bridges that know no other.
    Rstp(RstpConfig),
}

impl Stp {
    fn is_off(&self) -> bool {
        *self == Stp::Off
    }
}

/// How a bridge works. The bounds are those of `ifconfig bridge0 timeout` and `maxaddr`.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BridgeConfig {
    /// Switch or hub.
    pub mode: BridgeMode,
    /// Whether the vnet itself is on it.
    pub host_port: HostPort,
    /// How long a station is remembered after its last frame; zero is for ever. 1200 s at first,
    /// as in FreeBSD (IEEE 802.1D recommends 300 s).
    pub max_age: Duration,
    /// Stations that are remembered, besides static ones; 2000 at first, as in FreeBSD. When there
    /// are as many, others are not learned, and frames for them go everywhere.
    pub max_stations: usize,
    /// Its part in a spanning tree; none at first.
    #[serde(skip_serializing_if = "Stp::is_off")]
    pub stp: Stp,
    /// How it tells VLANs apart. At first it does not: frames pass with whatever tags they have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlans: Option<BridgeVlans>,
}

/// What is wrong with how a bridge, or a member, is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ConfigError {
    /// Its part in a spanning tree.
    Stp(StpConfigError),
    /// Its VLANs.
    Vlans(VlanConfigError),
}

impl BridgeConfig {
    /// Checks what has a range.
    ///
    /// # Errors
    /// Parameters of the spanning tree, or VLANs, that are out of range, or contradict each other.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if let Stp::Rstp(config) = &self.stp {
            config.check().map_err(ConfigError::Stp)?;
        }
        if let Some(vlans) = &self.vlans {
            vlans.check().map_err(ConfigError::Vlans)?;
        }
        Ok(())
    }
}

/// What is off is not mentioned.
impl fmt::Debug for BridgeConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BridgeConfig {
            mode,
            host_port,
            max_age,
            max_stations,
            stp,
            vlans,
        } = self;
        let mut all = f.debug_struct("BridgeConfig");
        all.field("mode", mode).field("host_port", host_port);
        all.field("max_age", max_age);
        all.field("max_stations", max_stations);
        if let Stp::Rstp(config) = stp {
            all.field("stp", config);
        }
        if let Some(vlans) = vlans {
            all.field("vlans", vlans);
        }
        all.finish()
    }
}

impl Default for BridgeConfig {
    fn default() -> BridgeConfig {
        BridgeConfig {
            mode: BridgeMode::default(),
            host_port: HostPort::default(),
            max_age: Duration::from_secs(1200),
            max_stations: 2000,
            stp: Stp::default(),
            vlans: None,
        }
    }
}

/// How a bridge treats a member.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MemberConfig {
    /// Stations behind it are learned; on at first.
    pub learn: Switchable,
    /// It is sent what is for stations that nobody knows; on at first. Frames to groups it is sent
    /// in any case.
    pub discover: Switchable,
    /// Nothing passes between it and others that are private as well; off at first.
    pub private: Switchable,
    /// Its part in the bridge's spanning tree, if it has one.
    #[serde(skip_serializing_if = "RstpPort::is_default")]
    pub rstp: RstpPort,
    /// In which VLANs it is, if the bridge tells them apart; in VLAN 1 at first.
    #[serde(skip_serializing_if = "MemberVlans::is_default")]
    pub vlans: MemberVlans,
}

impl MemberConfig {
    /// Checks what has a range.
    ///
    /// # Errors
    /// Parameters of the spanning tree, or VLANs, that are out of range, or contradict each other.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        self.rstp.check().map_err(ConfigError::Stp)?;
        self.vlans.check().map_err(ConfigError::Vlans)
    }
}

/// What is as at first in the spanning tree, or of VLANs, is not mentioned.
impl fmt::Debug for MemberConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MemberConfig {
            learn,
            discover,
            private,
            rstp,
            vlans,
        } = self;
        let mut all = f.debug_struct("MemberConfig");
        all.field("learn", learn).field("discover", discover);
        all.field("private", private);
        if !rstp.is_default() {
            all.field("rstp", rstp);
        }
        if !vlans.is_default() {
            all.field("vlans", vlans);
        }
        all.finish()
    }
}

impl Default for MemberConfig {
    fn default() -> MemberConfig {
        MemberConfig {
            learn: Switchable::On,
            discover: Switchable::On,
            private: Switchable::Off,
            rstp: RstpPort::default(),
            vlans: MemberVlans::default(),
        }
    }
}

/// What frames need to know of how a bridge treats a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Treatment {
    pub(crate) learn: Switchable,
    pub(crate) discover: Switchable,
    pub(crate) private: Switchable,
    pub(crate) rstp: RstpPort,
}

impl From<&MemberConfig> for Treatment {
    fn from(config: &MemberConfig) -> Treatment {
        let MemberConfig {
            learn,
            discover,
            private,
            rstp,
            // Looked up in the bridge.
            vlans: _,
        } = *config;
        Treatment {
            learn,
            discover,
            private,
            rstp,
        }
    }
}

/// That an interface is a member of a bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Membership {
    /// The bridge.
    pub(crate) bridge: BridgeId,
    /// How it treats the member.
    pub(crate) config: Treatment,
    /// What it does with frames.
    pub(crate) state: PortState,
    /// Which port of the bridge's spanning tree it is.
    pub(crate) port: Option<PortNumber>,
}

impl Membership {
    /// One that is in no spanning tree.
    pub(super) fn new(bridge: BridgeId, config: Treatment) -> Membership {
        Membership {
            bridge,
            config,
            state: PortState::Forwarding,
            port: None,
        }
    }
}

//! How a bridge works and how it treats its members.

use slotmap::new_key_type;

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

/// How a bridge works. The bounds are those of `ifconfig bridge0 timeout` and `maxaddr`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
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
}

impl Default for BridgeConfig {
    fn default() -> BridgeConfig {
        BridgeConfig {
            mode: BridgeMode::default(),
            host_port: HostPort::default(),
            max_age: Duration::from_secs(1200),
            max_stations: 2000,
        }
    }
}

/// How a bridge treats a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MemberConfig {
    /// Stations behind it are learned; on at first.
    pub learn: Switchable,
    /// It is sent what is for stations that nobody knows; on at first. Frames to groups it is sent
    /// in any case.
    pub discover: Switchable,
    /// Nothing passes between it and others that are private as well; off at first.
    pub private: Switchable,
}

impl Default for MemberConfig {
    fn default() -> MemberConfig {
        MemberConfig {
            learn: Switchable::On,
            discover: Switchable::On,
            private: Switchable::Off,
        }
    }
}

/// That an interface is a member of a bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Membership {
    /// The bridge.
    pub(crate) bridge: BridgeId,
    /// How it treats the member.
    pub(crate) config: MemberConfig,
}

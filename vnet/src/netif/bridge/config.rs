//! How a bridge works and how it treats its members.

use slotmap::new_key_type;

use super::fdb::Origin;
use super::snooping::config::Snooping;
use super::storm::StormLimits;
use super::stp::config::{RstpConfig, RstpPort};
use super::stp::state::PortState;
use super::stp::vector::PortNumber;
use super::vlan::config::{BridgeVlans, MemberVlans};
use crate::base::config::ConfigError;
pub use crate::base::switch::Switch as Switchable;
use crate::base::time::Duration;

new_key_type! {
    /// A bridge within one vnet.
    pub struct BridgeId;
}

/// Whether a bridge learns where stations are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BridgeMode {
    /// It learns, and sends a frame only to the member that its destination is behind.
    #[default]
    Switch,
    /// It does not learn: it sends every frame to all members.
    Hub,
}

/// A spanning tree as records write it: by the name of the protocol.
mod stp {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::netif::bridge::stp::config::RstpConfig;

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Written {
        Off,
        Rstp(RstpConfig),
    }

    pub(super) fn serialize<S: Serializer>(
        stp: &Option<RstpConfig>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        stp.map_or(Written::Off, Written::Rstp)
            .serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<RstpConfig>, D::Error> {
        Ok(match Written::deserialize(deserializer)? {
            Written::Off => None,
            Written::Rstp(config) => Some(config),
        })
    }
}

/// Whether the vnet is on its bridge, as records write it.
mod host_port {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::base::switch::Switch as Switchable;

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Written {
        Attached,
        Detached,
    }

    pub(super) fn serialize<S: Serializer>(
        host_port: &Switchable,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match host_port {
            Switchable::On => Written::Attached,
            Switchable::Off => Written::Detached,
        }
        .serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Switchable, D::Error> {
        Ok(match Written::deserialize(deserializer)? {
            Written::Attached => Switchable::On,
            Written::Detached => Switchable::Off,
        })
    }
}

/// The configuration of a bridge. `max_age` and `max_stations` correspond to `timeout` and `maxaddr` in `ifconfig(8)`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BridgeConfig {
    /// Whether it is a switch or a hub.
    pub mode: BridgeMode,
    /// Whether the vnet itself is connected to it, by the bridge's interface; it is by default. If not, the bridge only
    /// forwards between its members, like a switch without an address.
    #[serde(with = "host_port")]
    pub host_port: Switchable,
    /// How long a station is remembered after its last frame; zero means for ever. The default is 1200 s, as in
    /// FreeBSD (IEEE 802.1D recommends 300 s).
    pub max_age: Duration,
    /// The number of stations that are remembered, not counting static ones; the default is 2000, as in FreeBSD. When
    /// it is reached, no more are learned, and frames to other stations are flooded.
    pub max_stations: usize,
    /// Its part in a spanning tree, which allows loops between bridges: it uses the rapid spanning tree protocol, and the
    /// older protocol with bridges that support no other. Without one, which is the default, all its members forward, and
    /// BPDUs are dropped, like frames to other reserved groups.
    #[serde(with = "stp", skip_serializing_if = "Option::is_none")]
    pub stp: Option<RstpConfig>,
    /// How it learns from IGMP and MLD where packets to groups have to go. By default it does not, and they go
    /// everywhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snooping: Option<Snooping>,
    /// How it distinguishes VLANs. By default it does not: frames pass with whatever tags they have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlans: Option<BridgeVlans>,
}

impl BridgeConfig {
    /// Bridges that a frame may cross between two stations. IEEE 802.1D-2004 (section 17.14) never
    /// lets a path have more than 40.
    pub const MAX_BRIDGES: u8 = 64;

    /// Checks that every parameter is in range.
    ///
    /// # Errors
    /// Parameters of the spanning tree, of snooping, or VLANs, are out of range or contradict each other.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if let Some(config) = &self.stp {
            config.check()?;
        }
        if let Some(snooping) = &self.snooping {
            snooping.check()?;
        }
        if let Some(vlans) = &self.vlans {
            vlans.check()?;
        }
        Ok(())
    }
}

impl Default for BridgeConfig {
    fn default() -> BridgeConfig {
        BridgeConfig {
            mode: BridgeMode::default(),
            host_port: Switchable::On,
            max_age: Duration::from_secs(1200),
            max_stations: 2000,
            stp: None,
            snooping: None,
            vlans: None,
        }
    }
}

fn is_on(switch: &Switchable) -> bool {
    switch.is_on()
}

fn is_off(switch: &Switchable) -> bool {
    !switch.is_on()
}

/// The configuration of a member of a bridge.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MemberConfig {
    /// Whether stations behind it are learned; on by default.
    pub learn: Switchable,
    /// Whether frames to unknown stations are sent to it; on by default.
    pub discover: Switchable,
    /// Whether it is private: no frames pass between private members. Off by default.
    pub private: Switchable,
    /// Whether broadcasts are sent to it; on by default.
    #[serde(skip_serializing_if = "is_on")]
    pub broadcast: Switchable,
    /// Whether multicasts are sent to it; on by default.
    #[serde(skip_serializing_if = "is_on")]
    pub multicast: Switchable,
    /// Whether it leads to a router: a snooping bridge then sends all packets to groups, and all reports about them,
    /// to it. Off by default: the bridge finds out from what routers behind it send.
    #[serde(skip_serializing_if = "is_off")]
    pub router: Switchable,
    /// Whether stations learned behind it stay: they neither age nor move. Off by default; needs `max_stations`.
    #[serde(skip_serializing_if = "is_off")]
    pub sticky: Switchable,
    /// The number of stations that are learned behind it; no limit by default. Frames of other stations are
    /// dropped, also of those for which the bridge has no room. It needs `learn`, and has no effect on a hub.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_stations: Option<u32>,
    /// The number of stations that are learned behind it in each VLAN that has a forwarding database of its own; no
    /// limit by default. Frames of other stations are dropped, as with `max_stations`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_stations_in_vlan: Option<u32>,
    /// How many broadcasts, multicasts and frames to unknown stations it may bring in; no limit by default.
    #[serde(skip_serializing_if = "StormLimits::is_default")]
    pub storm: StormLimits,
    /// Whether it only watches: it is sent a copy of each frame that the bridge receives, from members and from
    /// the vnet itself, as it came, and nothing else; what it brings in is dropped. Off by default.
    #[serde(skip_serializing_if = "is_off")]
    pub span: Switchable,
    /// Its settings in the bridge's spanning tree, if there is one.
    #[serde(skip_serializing_if = "RstpPort::is_default")]
    pub rstp: RstpPort,
    /// The VLANs that it is in, if the bridge distinguishes them; by default VLAN 1.
    #[serde(skip_serializing_if = "MemberVlans::is_default")]
    pub vlans: MemberVlans,
}

impl MemberConfig {
    /// Checks that every parameter is in range, and that they do not contradict each other.
    ///
    /// # Errors
    /// The first parameter that is not, or does.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.rstp.check()?;
        for (setting, limit) in [
            ("max_stations", self.max_stations),
            ("max_stations_in_vlan", self.max_stations_in_vlan),
        ] {
            if limit.is_some() && !self.learn.is_on() {
                return Err(ConfigError::new(
                    setting,
                    "where no stations are learned, they are not counted: set `learn`, or no limit",
                ));
            }
        }
        if self.sticky.is_on() && self.max_stations.is_none() {
            return Err(ConfigError::new(
                "sticky",
                "stations that stay need a limit, `max_stations`: they would take up the bridge's room for ever",
            ));
        }
        self.vlans.check()
    }
}

impl Default for MemberConfig {
    fn default() -> MemberConfig {
        MemberConfig {
            learn: Switchable::On,
            discover: Switchable::On,
            private: Switchable::Off,
            broadcast: Switchable::On,
            multicast: Switchable::On,
            router: Switchable::Off,
            sticky: Switchable::Off,
            max_stations: None,
            max_stations_in_vlan: None,
            storm: StormLimits::default(),
            span: Switchable::Off,
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
    pub(crate) broadcast: Switchable,
    pub(crate) multicast: Switchable,
    pub(crate) router: Switchable,
    /// How stations behind it are remembered.
    pub(crate) remembers: Origin,
    /// How many of them.
    pub(crate) max_stations: u32,
    /// How many of them in each VLAN.
    pub(crate) max_in_vlan: u32,
    /// It brings in only so many frames that go to many.
    pub(crate) is_limited: bool,
    pub(crate) span: Switchable,
    pub(crate) rstp: RstpPort,
}

impl From<&MemberConfig> for Treatment {
    fn from(config: &MemberConfig) -> Treatment {
        let MemberConfig {
            learn,
            discover,
            private,
            broadcast,
            multicast,
            router,
            sticky,
            max_stations,
            max_stations_in_vlan,
            storm,
            span,
            rstp,
            // Looked up in the bridge.
            vlans: _,
        } = *config;
        Treatment {
            learn,
            discover,
            private,
            broadcast,
            multicast,
            router,
            remembers: match sticky {
                Switchable::On => Origin::Sticky,
                Switchable::Off => Origin::Learned,
            },
            max_stations: max_stations.unwrap_or(u32::MAX),
            max_in_vlan: max_stations_in_vlan.unwrap_or(u32::MAX),
            is_limited: !storm.is_default(),
            span,
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

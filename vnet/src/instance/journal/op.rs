//! [`Op`], one operation of configuration.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::instance::privilege::Privileges;
use crate::ip::state::Forwarding;
use crate::link::LinkConfig;
use crate::netif::AdminState;
use crate::netif::Offload;
use crate::netif::bridge::{BridgeConfig, MemberConfig};
use crate::packet::MacAddr;
use crate::stack::limits::{Resource, UNLIMITED};

/// One operation of configuration, as a [record](crate::record::Record) lists it. Every administrative
/// method of [`Vnet`](crate::Vnet) has one, and does nothing else.
///
/// As data an operation is a table with its name, in snake case, under `op`:
///
/// ```
/// use vnet::record::Op;
///
/// let op = Op::AddAddress {
///     interface: "eth0".into(),
///     address: "192.0.2.1/24".parse()?,
///     metric: 0,
/// };
/// let text = "op = \"add_address\"\ninterface = \"eth0\"\naddress = \"192.0.2.1/24\"\n";
/// assert_eq!(toml::to_string(&op)?, text);
/// assert_eq!(op.to_string(), "add_address eth0 192.0.2.1/24");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Op {
    /// [`Vnet::epair`](crate::Vnet::epair), as seen from one of its ends; the other end's vnet has
    /// the mirror image.
    Epair {
        /// This end.
        interface: String,
        /// The vnet at the other end, by its full name.
        peer: String,
        /// The interface there, as it was called when the pair was made.
        peer_interface: String,
        /// The number of the wire between the two, by which the ends of a pair find each other
        /// also when one of them has another name by now. No operation depends on it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        wire: Option<u64>,
    },
    /// [`Vnet::port`](crate::Vnet::port).
    Port {
        /// Its name.
        interface: String,
        /// Its address, when one was asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mac: Option<MacAddr>,
    },
    /// [`Vnet::bridge`](crate::Vnet::bridge).
    Bridge {
        /// Its name.
        interface: String,
    },
    /// [`Vnet::set_bridge`](crate::Vnet::set_bridge).
    SetBridge {
        /// The bridge.
        interface: String,
        /// How it works.
        config: BridgeConfig,
    },
    /// [`Vnet::add_member`](crate::Vnet::add_member).
    AddMember {
        /// To this bridge.
        interface: String,
        /// The interface that joins it.
        member: String,
    },
    /// [`Vnet::remove_member`](crate::Vnet::remove_member).
    RemoveMember {
        /// From this bridge.
        interface: String,
        /// The interface that leaves it.
        member: String,
    },
    /// [`Vnet::set_member`](crate::Vnet::set_member).
    SetMember {
        /// Of this bridge.
        interface: String,
        /// The member.
        member: String,
        /// How the bridge treats it.
        config: MemberConfig,
    },
    /// [`Vnet::add_station`](crate::Vnet::add_station).
    AddStation {
        /// To this bridge.
        interface: String,
        /// The member that the station is behind.
        member: String,
        /// The station.
        mac: MacAddr,
    },
    /// [`Vnet::remove_station`](crate::Vnet::remove_station) of a static one.
    RemoveStation {
        /// From this bridge.
        interface: String,
        /// The station.
        mac: MacAddr,
    },
    /// [`Vnet::remove_interface`](crate::Vnet::remove_interface).
    RemoveInterface {
        /// Its name.
        interface: String,
    },
    /// [`Vnet::rename_interface`](crate::Vnet::rename_interface).
    RenameInterface {
        /// Its name so far.
        interface: String,
        /// Its new name.
        name: String,
    },
    /// [`Vnet::set_mac`](crate::Vnet::set_mac).
    SetMac {
        /// Of this interface.
        interface: String,
        /// The new address.
        mac: MacAddr,
    },
    /// [`Vnet::set_ip_mtu`](crate::Vnet::set_ip_mtu).
    SetIpMtu {
        /// Of this interface.
        interface: String,
        /// In bytes.
        ip_mtu: u16,
    },
    /// [`Vnet::set_up`](crate::Vnet::set_up).
    SetUp {
        /// Of this interface.
        interface: String,
        /// In or out of use.
        state: AdminState,
    },
    /// [`Vnet::set_offload`](crate::Vnet::set_offload).
    SetOffload {
        /// Of this interface.
        interface: String,
        /// What its far end takes.
        offload: Offload,
    },
    /// [`Vnet::set_link`](crate::Vnet::set_link).
    SetLink {
        /// Of this interface.
        interface: String,
        /// The impairments of its outgoing direction.
        link: Box<LinkConfig>,
    },
    /// [`Vnet::add_address`](crate::Vnet::add_address).
    AddAddress {
        /// To this interface.
        interface: String,
        /// With the length of its prefix.
        address: IpNet,
        /// The metric of the route to its prefix, if it is free. Above zero where another
        /// interface had the prefix before.
        #[serde(default, skip_serializing_if = "is_zero")]
        metric: u32,
    },
    /// [`Vnet::remove_address`](crate::Vnet::remove_address).
    RemoveAddress {
        /// From this interface.
        interface: String,
        /// Without its prefix.
        address: IpAddr,
    },
    /// [`Vnet::add_route`](crate::Vnet::add_route). A record names the interface also where a
    /// gateway was given: the address that led to the gateway may be gone.
    AddRoute {
        /// The destinations.
        dst: IpNet,
        /// The router, unless the destinations are on the link.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gateway: Option<IpAddr>,
        /// The interface it leaves by; without one, that which leads to the gateway.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        interface: Option<String>,
    },
    /// [`Vnet::remove_route`](crate::Vnet::remove_route).
    RemoveRoute {
        /// The destinations.
        dst: IpNet,
    },
    /// [`Vnet::set_forwarding`](crate::Vnet::set_forwarding).
    SetForwarding {
        /// Host or router.
        forwarding: Forwarding,
    },
    /// [`Vnet::set_sysctl`](crate::Vnet::set_sysctl).
    SetSysctl {
        /// The tunable.
        name: String,
        /// Its value, as [`Vnet::set_sysctl`](crate::Vnet::set_sysctl) takes it.
        value: String,
    },
    /// [`OwnedVnet::set_limit`](crate::OwnedVnet::set_limit).
    SetLimit {
        /// What is limited.
        resource: Resource,
        /// To how much; as text `unlimited` is [`UNLIMITED`](crate::UNLIMITED).
        #[serde(with = "limit")]
        limit: u64,
    },
    /// [`OwnedVnet::set_privileges`](crate::OwnedVnet::set_privileges).
    SetPrivileges {
        /// What tenants may do.
        privileges: Privileges,
    },
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

impl Op {
    /// Its name, as given under `op` in a record.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Epair { .. } => "epair",
            Op::Port { .. } => "port",
            Op::Bridge { .. } => "bridge",
            Op::SetBridge { .. } => "set_bridge",
            Op::AddMember { .. } => "add_member",
            Op::RemoveMember { .. } => "remove_member",
            Op::SetMember { .. } => "set_member",
            Op::AddStation { .. } => "add_station",
            Op::RemoveStation { .. } => "remove_station",
            Op::RemoveInterface { .. } => "remove_interface",
            Op::RenameInterface { .. } => "rename_interface",
            Op::SetMac { .. } => "set_mac",
            Op::SetIpMtu { .. } => "set_ip_mtu",
            Op::SetUp { .. } => "set_up",
            Op::SetOffload { .. } => "set_offload",
            Op::SetLink { .. } => "set_link",
            Op::AddAddress { .. } => "add_address",
            Op::RemoveAddress { .. } => "remove_address",
            Op::AddRoute { .. } => "add_route",
            Op::RemoveRoute { .. } => "remove_route",
            Op::SetForwarding { .. } => "set_forwarding",
            Op::SetSysctl { .. } => "set_sysctl",
            Op::SetLimit { .. } => "set_limit",
            Op::SetPrivileges { .. } => "set_privileges",
        }
    }

    /// The interface it concerns; an operation on a route concerns the one it leaves by.
    pub fn interface(&self) -> Option<&str> {
        match self {
            Op::Epair { interface, .. }
            | Op::Port { interface, .. }
            | Op::Bridge { interface }
            | Op::SetBridge { interface, .. }
            | Op::AddMember { interface, .. }
            | Op::RemoveMember { interface, .. }
            | Op::SetMember { interface, .. }
            | Op::AddStation { interface, .. }
            | Op::RemoveStation { interface, .. }
            | Op::RemoveInterface { interface }
            | Op::RenameInterface { interface, .. }
            | Op::SetMac { interface, .. }
            | Op::SetIpMtu { interface, .. }
            | Op::SetUp { interface, .. }
            | Op::SetOffload { interface, .. }
            | Op::SetLink { interface, .. }
            | Op::AddAddress { interface, .. }
            | Op::RemoveAddress { interface, .. } => Some(interface),
            Op::AddRoute { interface, .. } => interface.as_deref(),
            Op::RemoveRoute { .. }
            | Op::SetForwarding { .. }
            | Op::SetSysctl { .. }
            | Op::SetLimit { .. }
            | Op::SetPrivileges { .. } => None,
        }
    }

    /// The same operation when the interface `from` is called `to`, whatever it is to it.
    pub(super) fn renamed(mut self, from: &str, to: &str) -> Op {
        let rename = |name: &mut String| {
            if name == from {
                to.clone_into(name);
            }
        };
        match &mut self {
            Op::Epair { interface, .. }
            | Op::Port { interface, .. }
            | Op::Bridge { interface }
            | Op::SetBridge { interface, .. }
            | Op::RemoveStation { interface, .. }
            | Op::RemoveInterface { interface }
            | Op::RenameInterface { interface, .. }
            | Op::SetMac { interface, .. }
            | Op::SetIpMtu { interface, .. }
            | Op::SetUp { interface, .. }
            | Op::SetOffload { interface, .. }
            | Op::SetLink { interface, .. }
            | Op::AddAddress { interface, .. }
            | Op::RemoveAddress { interface, .. } => rename(interface),
            Op::AddMember { interface, member }
            | Op::RemoveMember { interface, member }
            | Op::SetMember {
                interface, member, ..
            }
            | Op::AddStation {
                interface, member, ..
            } => {
                rename(interface);
                rename(member);
            }
            Op::AddRoute { interface, .. } => interface.iter_mut().for_each(rename),
            Op::RemoveRoute { .. }
            | Op::SetForwarding { .. }
            | Op::SetSysctl { .. }
            | Op::SetLimit { .. }
            | Op::SetPrivileges { .. } => {}
        }
        self
    }

    /// The member of a bridge that it concerns, besides the bridge itself.
    pub fn member(&self) -> Option<&str> {
        match self {
            Op::AddMember { member, .. }
            | Op::RemoveMember { member, .. }
            | Op::SetMember { member, .. }
            | Op::AddStation { member, .. } => Some(member),
            _ => None,
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        if let (Some(interface), false) = (self.interface(), matches!(self, Op::AddRoute { .. })) {
            write!(f, " {interface}")?;
        }
        match self {
            Op::Epair {
                peer,
                peer_interface,
                ..
            } => write!(f, " to {peer}:{peer_interface}"),
            Op::Port { mac, .. } => mac.map_or(Ok(()), |mac| write!(f, " {mac}")),
            Op::Bridge { .. } | Op::RemoveInterface { .. } => Ok(()),
            Op::SetBridge { config, .. } => write!(f, " {config:?}"),
            Op::AddMember { member, .. } | Op::RemoveMember { member, .. } => {
                write!(f, " {member}")
            }
            Op::SetMember { member, config, .. } => write!(f, " {member} {config:?}"),
            Op::AddStation { member, mac, .. } => write!(f, " {mac} behind {member}"),
            Op::RemoveStation { mac, .. } => write!(f, " {mac}"),
            Op::RenameInterface { name, .. } => write!(f, " to {name}"),
            Op::SetMac { mac, .. } => write!(f, " {mac}"),
            Op::SetIpMtu { ip_mtu, .. } => write!(f, " {ip_mtu}"),
            Op::SetUp { state, .. } => write!(f, " {state:?}"),
            Op::SetOffload { offload, .. } => write!(f, " {offload:?}"),
            Op::SetLink { link, .. } => write!(f, " {link:?}"),
            Op::AddAddress { address, .. } => write!(f, " {address}"),
            Op::RemoveAddress { address, .. } => write!(f, " {address}"),
            Op::AddRoute {
                dst,
                gateway,
                interface,
            } => {
                write!(f, " {dst}")?;
                gateway.map_or(Ok(()), |gateway| write!(f, " via {gateway}"))?;
                let interface = interface.as_deref();
                interface.map_or(Ok(()), |interface| write!(f, " on {interface}"))
            }
            Op::RemoveRoute { dst } => write!(f, " {dst}"),
            Op::SetForwarding { forwarding } => write!(f, " {forwarding:?}"),
            Op::SetSysctl { name, value } => write!(f, " {name}={value}"),
            Op::SetLimit { resource, limit } => match *limit {
                UNLIMITED => write!(f, " {resource} unlimited"),
                limit => write!(f, " {resource} {limit}"),
            },
            Op::SetPrivileges { privileges } => write!(f, " {privileges}"),
        }
    }
}

/// A limit as data: a number, or `unlimited`. Numbers that a signed 64-bit integer cannot hold,
/// which TOML has no others than, are written as text.
mod limit {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::stack::limits::UNLIMITED;

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Number(u64),
        Word(String),
    }

    pub(super) fn serialize<S: Serializer>(limit: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        match *limit {
            UNLIMITED => serializer.serialize_str("unlimited"),
            limit if i64::try_from(limit).is_ok() => serializer.serialize_u64(limit),
            limit => serializer.collect_str(&limit),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let expected = "a limit is a number, or \"unlimited\"";
        match Written::deserialize(deserializer).map_err(|_| D::Error::custom(expected))? {
            Written::Number(limit) => Ok(limit),
            Written::Word(word) if word == "unlimited" => Ok(UNLIMITED),
            Written::Word(word) => word.parse().map_err(|_| D::Error::custom(expected)),
        }
    }
}

//! [`Op`], one operation of configuration.
//!
//! An operation is declared once, below, in its group, with its name in records. In records it is
//! flat: a table with its name under `op`, the interface that it concerns, and its fields.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::instance::privilege::Privileges;
use crate::ip::fib::RouteKind;
use crate::ip::state::Forwarding;
use crate::ip::v6::policy::AddressPolicy;
use crate::ip::v6::router::RouterConfig;
use crate::link::LinkConfig;
use crate::netif::AdminState;
use crate::netif::Offload;
use crate::netif::bridge::{BridgeConfig, MemberConfig};
use crate::netif::lagg::config::LaggConfig;
use crate::netif::vlan::classes::ClassMaps;
use crate::packet::MacAddr;
use crate::packet::tag::Tpid;
use crate::stack::limits::Resource;

/// One operation of configuration. Every administrative method of [`Vnet`](crate::Vnet) has one, and does nothing else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "Flat", from = "Flat")]
pub(crate) enum Op {
    /// What is done to the interface of this name, or makes it.
    Interface(String, IfOp),
    /// What is done to the bridge whose interface has this name.
    Bridge(String, BridgeOp),
    /// What is done to the routes.
    Route(RouteOp),
    /// What is done to the instance as a whole.
    Vnet(VnetOp),
}

/// Declares the operations by groups: an enum for each group, what each operation is called in
/// records, and [`Flat`], which is what records consist of.
macro_rules! operations {
    (
        on interface: {$(
            $(#[doc = $doc:literal])+
            $group:ident($ops:ident) {
                $(
                    $(#[doc = $op_doc:literal])+
                    $op:ident = $name:literal {
                        $($(#[doc = $field_doc:literal])+ $(#[serde($($serde:tt)+)])? $field:ident: $type:ty,)*
                    },
                )+
            }
        )+}
        on vnet: {$(
            $(#[doc = $whole_doc:literal])+
            $whole_group:ident($whole_ops:ident) {
                $(
                    $(#[doc = $whole_op_doc:literal])+
                    $whole_op:ident = $whole_name:literal {
                        $($(#[doc = $whole_field_doc:literal])+ $(#[serde($($whole_serde:tt)+)])? $whole_field:ident: $whole_type:ty,)*
                    },
                )+
            }
        )+}
    ) => {
        $(group! { $(#[doc = $doc])+ $ops { $($(#[doc = $op_doc])+ $op = $name { $($(#[doc = $field_doc])+ $field: $type,)* },)+ } })+
        $(group! { $(#[doc = $whole_doc])+ $whole_ops { $($(#[doc = $whole_op_doc])+ $whole_op = $whole_name { $($(#[doc = $whole_field_doc])+ $whole_field: $whole_type,)* },)+ } })+

        /// An operation as records have it.
        #[derive(Serialize, Deserialize)]
        #[serde(tag = "op", deny_unknown_fields, rename = "Op")]
        enum Flat {
            $($(
                #[serde(rename = $name)]
                $op { interface: String, $($(#[serde($($serde)+)])? $field: $type,)* },
            )+)+
            $($(
                #[serde(rename = $whole_name)]
                $whole_op { $($(#[serde($($whole_serde)+)])? $whole_field: $whole_type,)* },
            )+)+
        }

        impl From<Op> for Flat {
            fn from(op: Op) -> Flat {
                match op {
                    $($(Op::$group(interface, $ops::$op { $($field,)* }) => Flat::$op { interface, $($field,)* },)+)+
                    $($(Op::$whole_group($whole_ops::$whole_op { $($whole_field,)* }) => Flat::$whole_op { $($whole_field,)* },)+)+
                }
            }
        }

        impl From<Flat> for Op {
            fn from(flat: Flat) -> Op {
                match flat {
                    $($(Flat::$op { interface, $($field,)* } => Op::$group(interface, $ops::$op { $($field,)* }),)+)+
                    $($(Flat::$whole_op { $($whole_field,)* } => Op::$whole_group($whole_ops::$whole_op { $($whole_field,)* }),)+)+
                }
            }
        }
    };
}

/// Declares the operations of one group.
macro_rules! group {
    (
        $(#[doc = $doc:literal])+
        $ops:ident {
            $($(#[doc = $op_doc:literal])+ $op:ident = $name:literal {
                $($(#[doc = $field_doc:literal])+ $field:ident: $type:ty,)*
            },)+
        }
    ) => {
        $(#[doc = $doc])+
        #[derive(Clone, Debug, PartialEq)]
        // They are named after the methods.
        #[allow(clippy::enum_variant_names)]
        pub(crate) enum $ops {
            $($(#[doc = $op_doc])+ $op { $($(#[doc = $field_doc])+ $field: $type,)* },)+
        }

        impl $ops {
            /// Its name, as given under `op` in a record.
            pub(super) fn name(&self) -> &'static str {
                match self {
                    $($ops::$op { .. } => $name,)+
                }
            }
        }
    };
}

operations! {
    on interface: {
        /// What is done to an interface, or makes it.
        Interface(IfOp) {
            /// [`Vnet::epair`](crate::Vnet::epair), as seen from one of its ends; the other end's vnet has
            /// the mirror image.
            Epair = "epair" {
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
            Port = "port" {
                /// Its address, when one was asked for.
                #[serde(default, skip_serializing_if = "Option::is_none")]
                mac: Option<MacAddr>,
            },
            /// [`Vnet::bridge`](crate::Vnet::bridge).
            Bridge = "bridge" {},
            /// [`Vnet::vlan`](crate::Vnet::vlan).
            Vlan = "vlan" {
                /// The interface that it stands on.
                parent: String,
                /// The protocol of its tags.
                #[serde(default)]
                tpid: Tpid,
                /// The VLAN.
                vid: u16,
            },
            /// [`Vnet::set_vlan`](crate::Vnet::set_vlan).
            SetVlan = "set_vlan" {
                /// The protocol of its tags.
                #[serde(default)]
                tpid: Tpid,
                /// The VLAN.
                vid: u16,
            },
            /// [`Vnet::set_vlan_classes`](crate::Vnet::set_vlan_classes).
            SetVlanClasses = "set_vlan_classes" {
                /// Its maps, if it has any.
                #[serde(default, skip_serializing_if = "Option::is_none")]
                classes: Option<ClassMaps>,
            },
            /// [`Vnet::lagg`](crate::Vnet::lagg).
            Lagg = "lagg" {
                /// How it works.
                config: LaggConfig,
            },
            /// [`Vnet::set_lagg`](crate::Vnet::set_lagg).
            SetLagg = "set_lagg" {
                /// How it works.
                config: LaggConfig,
            },
            /// [`Vnet::remove_interface`](crate::Vnet::remove_interface).
            RemoveInterface = "remove_interface" {},
            /// [`Vnet::rename_interface`](crate::Vnet::rename_interface).
            RenameInterface = "rename_interface" {
                /// Its new name.
                name: String,
            },
            /// [`Vnet::set_mac`](crate::Vnet::set_mac).
            SetMac = "set_mac" {
                /// The new address.
                mac: MacAddr,
            },
            /// [`Vnet::set_ip_mtu`](crate::Vnet::set_ip_mtu).
            SetIpMtu = "set_ip_mtu" {
                /// In bytes.
                ip_mtu: u16,
            },
            /// [`Vnet::set_up`](crate::Vnet::set_up).
            SetUp = "set_up" {
                /// In or out of use.
                state: AdminState,
            },
            /// [`Vnet::set_offload`](crate::Vnet::set_offload).
            SetOffload = "set_offload" {
                /// What its far end takes.
                offload: Offload,
            },
            /// [`Vnet::set_link`](crate::Vnet::set_link).
            SetLink = "set_link" {
                /// The impairments of its outgoing direction.
                link: Box<LinkConfig>,
            },
            /// [`Vnet::set_router`](crate::Vnet::set_router).
            SetRouter = "set_router" {
                /// What it says, if anything else than what follows from its addresses.
                #[serde(default, skip_serializing_if = "Option::is_none")]
                config: Option<Box<RouterConfig>>,
            },
            /// [`Vnet::add_address`](crate::Vnet::add_address).
            AddAddress = "add_address" {
                /// With the length of its prefix.
                address: IpNet,
                /// The metric of the route to its prefix, if it is free. Above zero where another
                /// interface had the prefix before.
                #[serde(default, skip_serializing_if = "is_zero")]
                metric: u32,
            },
            /// [`Vnet::add_anycast`](crate::Vnet::add_anycast).
            AddAnycast = "add_anycast" {
                /// It has no prefix.
                address: Ipv6Addr,
            },
            /// [`Vnet::remove_address`](crate::Vnet::remove_address).
            RemoveAddress = "remove_address" {
                /// Without its prefix.
                address: IpAddr,
            },
            /// [`Vnet::add_neighbour`](crate::Vnet::add_neighbour).
            AddNeighbour = "add_neighbour" {
                /// The neighbour's IP address.
                address: IpAddr,
                /// Its Ethernet address.
                mac: MacAddr,
            },
            /// [`Vnet::remove_neighbour`](crate::Vnet::remove_neighbour) of one set by hand.
            RemoveNeighbour = "remove_neighbour" {
                /// The neighbour's IP address.
                address: IpAddr,
            },
        }
        /// What is done to a bridge, or to the members of a lagg. The interface that is named is the bridge or
        /// the lagg.
        Bridge(BridgeOp) {
            /// [`Vnet::set_bridge`](crate::Vnet::set_bridge).
            SetBridge = "set_bridge" {
                /// How it works.
                config: Box<BridgeConfig>,
            },
            /// [`Vnet::add_member`](crate::Vnet::add_member).
            AddMember = "add_member" {
                /// The interface that joins the bridge or the lagg.
                member: String,
            },
            /// [`Vnet::remove_member`](crate::Vnet::remove_member).
            RemoveMember = "remove_member" {
                /// The interface that leaves the bridge or the lagg.
                member: String,
            },
            /// [`Vnet::set_member`](crate::Vnet::set_member).
            SetMember = "set_member" {
                /// The member.
                member: String,
                /// How the bridge treats it.
                config: Box<MemberConfig>,
            },
            /// [`Vnet::add_station`](crate::Vnet::add_station).
            AddStation = "add_station" {
                /// The member that the station is behind.
                member: String,
                /// The station.
                mac: MacAddr,
                /// The VLAN in which it is there, if it is not in all of them.
                #[serde(default, skip_serializing_if = "Option::is_none")]
                vid: Option<u16>,
            },
            /// [`Vnet::remove_station`](crate::Vnet::remove_station) of a static one.
            RemoveStation = "remove_station" {
                /// The station.
                mac: MacAddr,
                /// The VLAN that the entry is for, if it is not for all of them.
                #[serde(default, skip_serializing_if = "Option::is_none")]
                vid: Option<u16>,
            },
        }
    }
    on vnet: {
        /// What is done to the routes.
        Route(RouteOp) {
            /// [`Vnet::add_route`](crate::Vnet::add_route). A record names the interface also where a
            /// gateway was given: the address that led to the gateway may be gone.
            AddRoute = "add_route" {
                /// The destinations.
                dst: IpNet,
                /// The router, unless the destinations are on the link.
                #[serde(default, skip_serializing_if = "Option::is_none")]
                gateway: Option<IpAddr>,
                /// The interface it leaves by; without one, that which leads to the gateway.
                #[serde(default, skip_serializing_if = "Option::is_none")]
                interface: Option<String>,
                /// What becomes of packets to the destinations.
                #[serde(default, skip_serializing_if = "RouteKind::is_default")]
                kind: RouteKind,
                /// Of routes to the same destinations, the one with the lowest metric counts.
                #[serde(default, skip_serializing_if = "is_zero")]
                metric: u32,
            },
            /// [`Vnet::remove_route`](crate::Vnet::remove_route).
            RemoveRoute = "remove_route" {
                /// The destinations.
                dst: IpNet,
                /// Its metric.
                #[serde(default, skip_serializing_if = "is_zero")]
                metric: u32,
            },
        }
        /// What is done to the instance as a whole.
        Vnet(VnetOp) {
            /// [`Vnet::set_forwarding`](crate::Vnet::set_forwarding).
            SetForwarding = "set_forwarding" {
                /// Host or router.
                forwarding: Forwarding,
            },
            /// [`Vnet::set_sysctl`](crate::Vnet::set_sysctl).
            SetSysctl = "set_sysctl" {
                /// The tunable.
                name: String,
                /// Its value, as [`Vnet::set_sysctl`](crate::Vnet::set_sysctl) takes it.
                value: String,
            },
            /// [`Vnet::set_address_policy`](crate::Vnet::set_address_policy).
            SetAddressPolicy = "set_address_policy" {
                /// Its rows, if they are others than those of RFC 6724.
                #[serde(default, skip_serializing_if = "Option::is_none")]
                table: Option<Vec<AddressPolicy>>,
            },
            /// [`OwnedVnet::set_limit`](crate::OwnedVnet::set_limit).
            SetLimit = "set_limit" {
                /// What is limited.
                resource: Resource,
                /// To how much; as text `unlimited` is [`Resource::UNLIMITED`].
                #[serde(with = "limit")]
                limit: u64,
            },
            /// [`OwnedVnet::set_privileges`](crate::OwnedVnet::set_privileges).
            SetPrivileges = "set_privileges" {
                /// What tenants may do.
                privileges: Privileges,
            },
        }
    }
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

impl Op {
    /// Its name, as given under `op` in a record.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Op::Interface(_, op) => op.name(),
            Op::Bridge(_, op) => op.name(),
            Op::Route(op) => op.name(),
            Op::Vnet(op) => op.name(),
        }
    }

    /// The interface it concerns; an operation on a route concerns the one it leaves by.
    pub(crate) fn interface(&self) -> Option<&str> {
        match self {
            Op::Interface(name, _) | Op::Bridge(name, _) => Some(name),
            Op::Route(RouteOp::AddRoute { interface, .. }) => interface.as_deref(),
            Op::Route(RouteOp::RemoveRoute { .. }) | Op::Vnet(_) => None,
        }
    }

    /// The other interface that it names: the member of a bridge or a lagg, or the parent of a VLAN interface.
    pub(crate) fn member(&self) -> Option<&str> {
        match self {
            Op::Bridge(_, op) => op.member(),
            Op::Interface(_, IfOp::Vlan { parent, .. }) => Some(parent),
            Op::Interface(..) | Op::Route(_) | Op::Vnet(_) => None,
        }
    }

    /// The same operation when the interface `from` is called `to`, whatever it is to it.
    pub(super) fn renamed(mut self, from: &str, to: &str) -> Op {
        let (interface, member) = match &mut self {
            Op::Interface(name, IfOp::Vlan { parent, .. }) => (Some(name), Some(parent)),
            Op::Interface(name, _) => (Some(name), None),
            Op::Bridge(name, op) => (Some(name), op.member_mut()),
            Op::Route(RouteOp::AddRoute { interface, .. }) => (interface.as_mut(), None),
            Op::Route(RouteOp::RemoveRoute { .. }) | Op::Vnet(_) => (None, None),
        };
        for name in interface.into_iter().chain(member) {
            if name == from {
                to.clone_into(name);
            }
        }
        self
    }
}

impl BridgeOp {
    fn member(&self) -> Option<&str> {
        match self {
            BridgeOp::AddMember { member, .. }
            | BridgeOp::RemoveMember { member, .. }
            | BridgeOp::SetMember { member, .. }
            | BridgeOp::AddStation { member, .. } => Some(member),
            BridgeOp::SetBridge { .. } | BridgeOp::RemoveStation { .. } => None,
        }
    }

    fn member_mut(&mut self) -> Option<&mut String> {
        match self {
            BridgeOp::AddMember { member, .. }
            | BridgeOp::RemoveMember { member, .. }
            | BridgeOp::SetMember { member, .. }
            | BridgeOp::AddStation { member, .. } => Some(member),
            BridgeOp::SetBridge { .. } | BridgeOp::RemoveStation { .. } => None,
        }
    }
}

/// Its name, what it is done to, and how.
impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name();
        match self {
            Op::Interface(interface, op) => write!(f, "{name} {interface}{op}"),
            Op::Bridge(bridge, op) => write!(f, "{name} {bridge}{op}"),
            Op::Route(op) => write!(f, "{name}{op}"),
            Op::Vnet(op) => write!(f, "{name}{op}"),
        }
    }
}

/// How it is done, each word with a space before it.
impl fmt::Display for IfOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IfOp::Epair {
                peer,
                peer_interface,
                ..
            } => write!(f, " to {peer}:{peer_interface}"),
            IfOp::Vlan { parent, tpid, vid } => write!(f, " on {parent} {tpid} {vid}"),
            IfOp::SetVlan { tpid, vid } => write!(f, " {tpid} {vid}"),
            IfOp::SetVlanClasses { classes: None } => f.write_str(" as the vnet"),
            IfOp::SetVlanClasses {
                classes: Some(maps),
            } => write!(f, " {maps}"),
            IfOp::Lagg { config } | IfOp::SetLagg { config } => write!(f, " {config:?}"),
            IfOp::Port { mac } => mac.map_or(Ok(()), |mac| write!(f, " {mac}")),
            IfOp::Bridge {} | IfOp::RemoveInterface {} => Ok(()),
            IfOp::RenameInterface { name } => write!(f, " to {name}"),
            IfOp::SetMac { mac } => write!(f, " {mac}"),
            IfOp::SetIpMtu { ip_mtu } => write!(f, " {ip_mtu}"),
            IfOp::SetUp { state } => write!(f, " {state:?}"),
            IfOp::SetOffload { offload } => write!(f, " {offload:?}"),
            IfOp::SetLink { link } => write!(f, " {link}"),
            IfOp::SetRouter { config: None } => f.write_str(" by its addresses"),
            IfOp::SetRouter {
                config: Some(config),
            } => write!(f, " {config:?}"),
            IfOp::AddAddress { address, .. } => write!(f, " {address}"),
            IfOp::AddAnycast { address } => write!(f, " {address}"),
            IfOp::RemoveAddress { address } | IfOp::RemoveNeighbour { address } => {
                write!(f, " {address}")
            }
            IfOp::AddNeighbour { address, mac } => write!(f, " {address} at {mac}"),
        }
    }
}

/// How it is done, each word with a space before it.
impl fmt::Display for BridgeOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BridgeOp::SetBridge { config } => write!(f, " {config}"),
            BridgeOp::AddMember { member } | BridgeOp::RemoveMember { member } => {
                write!(f, " {member}")
            }
            BridgeOp::SetMember { member, config } => write!(f, " {member} {config}"),
            BridgeOp::AddStation { member, mac, vid } => {
                write!(f, " {mac}")?;
                vid.map_or(Ok(()), |vid| write!(f, " in VLAN {vid}"))?;
                write!(f, " behind {member}")
            }
            BridgeOp::RemoveStation { mac, vid } => {
                write!(f, " {mac}")?;
                vid.map_or(Ok(()), |vid| write!(f, " in VLAN {vid}"))
            }
        }
    }
}

fn with_metric(f: &mut fmt::Formatter<'_>, metric: u32) -> fmt::Result {
    match metric {
        0 => Ok(()),
        metric => write!(f, " metric {metric}"),
    }
}

/// How it is done, each word with a space before it.
impl fmt::Display for RouteOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RouteOp::AddRoute {
                dst,
                gateway,
                interface,
                kind,
                metric,
            } => {
                write!(f, " {dst}")?;
                if *kind != RouteKind::Unicast {
                    write!(f, " {}", kind.as_str())?;
                    return with_metric(f, *metric);
                }
                gateway.map_or(Ok(()), |gateway| write!(f, " via {gateway}"))?;
                let interface = interface.as_deref();
                interface.map_or(Ok(()), |interface| write!(f, " on {interface}"))?;
                with_metric(f, *metric)
            }
            RouteOp::RemoveRoute { dst, metric } => {
                write!(f, " {dst}")?;
                with_metric(f, *metric)
            }
        }
    }
}

/// How it is done, each word with a space before it.
impl fmt::Display for VnetOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VnetOp::SetForwarding { forwarding } => write!(f, " {forwarding:?}"),
            VnetOp::SetSysctl { name, value } => write!(f, " {name}={value}"),
            VnetOp::SetAddressPolicy { table: None } => f.write_str(" of RFC 6724"),
            VnetOp::SetAddressPolicy { table: Some(table) } => {
                table.iter().try_for_each(|row| write!(f, " {row}"))
            }
            VnetOp::SetLimit { resource, limit } => match *limit {
                Resource::UNLIMITED => write!(f, " {resource} unlimited"),
                limit => write!(f, " {resource} {limit}"),
            },
            VnetOp::SetPrivileges { privileges } => write!(f, " {privileges}"),
        }
    }
}

/// A limit as data: a number, or `unlimited`. Numbers that a signed 64-bit integer cannot hold,
/// which TOML has no others than, are written as text.
mod limit {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::stack::limits::Resource;

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Number(u64),
        Word(String),
    }

    pub(super) fn serialize<S: Serializer>(limit: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        match *limit {
            Resource::UNLIMITED => serializer.serialize_str("unlimited"),
            limit if i64::try_from(limit).is_ok() => serializer.serialize_u64(limit),
            limit => serializer.collect_str(&limit),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let expected = "a limit is a number, or \"unlimited\"";
        match Written::deserialize(deserializer).map_err(|_| D::Error::custom(expected))? {
            Written::Number(limit) => Ok(limit),
            Written::Word(word) if word == "unlimited" => Ok(Resource::UNLIMITED),
            Written::Word(word) => word.parse().map_err(|_| D::Error::custom(expected)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every operation, as records have it.
    const RECORD: &str = r#"
[[ops]]
op = "epair"
interface = "eth0"
peer = "b"
peer_interface = "eth1"
wire = 7

[[ops]]
op = "port"
interface = "port0"
mac = "02:00:00:00:00:01"

[[ops]]
op = "bridge"
interface = "br0"

[[ops]]
op = "remove_interface"
interface = "eth0"

[[ops]]
op = "rename_interface"
interface = "eth0"
name = "eth1"

[[ops]]
op = "set_mac"
interface = "eth0"
mac = "02:00:00:00:00:01"

[[ops]]
op = "set_ip_mtu"
interface = "eth0"
ip_mtu = 1400

[[ops]]
op = "set_up"
interface = "eth0"
state = "down"

[[ops]]
op = "set_offload"
interface = "eth0"
offload = "none"

[[ops]]
op = "add_address"
interface = "eth0"
address = "192.0.2.1/24"

[[ops]]
op = "add_address"
interface = "eth0"
address = "192.0.2.1/24"
metric = 1

[[ops]]
op = "add_anycast"
interface = "eth0"
address = "2001:db8::53"

[[ops]]
op = "remove_address"
interface = "eth0"
address = "192.0.2.1"

[[ops]]
op = "add_member"
interface = "br0"
member = "eth0"

[[ops]]
op = "remove_member"
interface = "br0"
member = "eth0"

[[ops]]
op = "add_station"
interface = "br0"
member = "eth0"
mac = "02:00:00:00:00:02"

[[ops]]
op = "add_station"
interface = "br0"
member = "eth0"
mac = "02:00:00:00:00:02"
vid = 5

[[ops]]
op = "remove_station"
interface = "br0"
mac = "02:00:00:00:00:02"

[[ops]]
op = "remove_station"
interface = "br0"
mac = "02:00:00:00:00:02"
vid = 5

[[ops]]
op = "add_route"
dst = "198.51.100.0/24"
gateway = "192.0.2.2"
interface = "eth0"

[[ops]]
op = "remove_route"
dst = "198.51.100.0/24"

[[ops]]
op = "set_forwarding"
forwarding = "enabled"

[[ops]]
op = "set_sysctl"
name = "net.inet.ip.ttl"
value = "32"

[[ops]]
op = "set_address_policy"

[[ops.table]]
prefix = "::/0"
precedence = 40
label = 1

[[ops]]
op = "set_limit"
resource = "sockets"
limit = "unlimited"

[[ops]]
op = "set_privileges"
privileges = "raw-sockets,routes"
"#;

    #[derive(Serialize, Deserialize)]
    struct Ops {
        ops: Vec<Op>,
    }

    /// What is large is in a box, since each operation in a journal takes what the largest takes.
    #[test]
    fn an_operation_is_small() {
        assert!(size_of::<Op>() <= 96, "{} bytes", size_of::<Op>());
    }

    #[test]
    fn the_text_of_records_is_flat() {
        let read: Ops = toml::from_str(RECORD).expect("each is an operation");
        let written = toml::to_string(&read).expect("each can be written");
        assert_eq!(written.trim(), RECORD.trim());
        let wrong = "op = \"set_ip_mtu\"\ninterface = \"eth0\"\nip_mtu = 1400\nmtu = 1";
        let error = toml::from_str::<Op>(wrong).expect_err("no operation has such a key");
        let expected = "unknown field `mtu`, expected `interface` or `ip_mtu`";
        assert_eq!(error.message(), expected);
    }
}

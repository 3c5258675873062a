//! What goes wrong when a vnet is configured: one type for interfaces, addresses, bridges, laggs, VLANs,
//! moves, routes, tunables and privileges. It is here because interfaces are the lowest layer with such errors.

use std::net::IpAddr;

use ipnet::IpNet;

use super::IfKind;
use super::vlan::VlanConfig;
use crate::base::config::ConfigError;
use crate::packet::MacAddr;
use crate::packet::tag::{MAX_VID, Tpid};

/// Why a vnet refuses a change of its configuration.
///
/// All administrative methods share this type, so that a function that sets up a network needs no other. Each
/// method says what it can fail with. After an error the vnet is as it was.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// The vnet is gone; or the home of a borrowed interface is, and the interface with it.
    #[error("the vnet is gone")]
    Gone,
    /// The vnet's tenants lack the named privilege.
    #[error("denied: this vnet's tenants lack the privilege {0}")]
    Denied(&'static str),
    /// The vnet holds as much of the named resource as it may.
    #[error("this vnet has reached its limit of {0}")]
    Limit(&'static str),
    /// No interface of that name.
    #[error("no interface {0:?} in this vnet")]
    NotFound(String),
    /// An interface of that name exists already.
    #[error("interface {0:?} already exists")]
    Exists(String),
    /// A name is 1 to 15 letters, digits, `.`, `_` or `-`.
    #[error("{0:?} is not a valid interface name: use 1 to 15 letters, digits, '.', '_' and '-'")]
    BadName(String),
    /// An interface of this kind cannot do that.
    #[error("an interface of kind {kind} {what}")]
    Unsupported {
        /// The kind.
        kind: IfKind,
        /// What it cannot do, such as `has no link`.
        what: &'static str,
    },
    /// A setting of a link, a script or a spanning tree, or a tunable, is out of range.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The MTU is out of range.
    #[error("an IP MTU of {0} bytes is out of range: use 68 to 65535")]
    BadMtu(u16),
    /// The MAC address is a group's, or zero.
    #[error("{0} is not a unicast MAC address")]
    BadMac(MacAddr),
    /// The gateway is of another family than the destination.
    #[error("the gateway of a route to {0} must be of the same address family")]
    FamilyNotSupported(IpNet),
    /// The address cannot be an interface's.
    #[error("{0} cannot be the address of an interface")]
    BadAddress(IpNet),
    /// The vnet has the address already.
    #[error("address {0} is already in use in this vnet")]
    AddressInUse(IpAddr),
    /// The interface does not have the address.
    #[error("address {0} is not on this interface")]
    NoSuchAddress(IpAddr),
    /// The interface has no such neighbour.
    #[error("{0} is not a neighbour on this interface")]
    NoSuchNeighbour(IpAddr),
    /// The gateway is not on any of the vnet's links.
    #[error("gateway {0} is not on any of this vnet's links")]
    GatewayUnreachable(IpAddr),
    /// There is a route with this prefix and metric.
    #[error("a route to {0} with this metric already exists")]
    RouteExists(IpNet),
    /// There is no such route.
    #[error("no route to {0}")]
    NoSuchRoute(IpNet),
    /// There is no tunable of that name.
    #[error("there is no tunable {0:?}")]
    NoSuchTunable(String),
    /// The tunable cannot be changed.
    #[error("{0} is read-only")]
    ReadOnly(&'static str),
    /// Tenants cannot change it.
    #[error("only the owner of the vnet can change {0}")]
    OwnerOnly(&'static str),
    /// The parent of the vnet lacks these privileges.
    #[error("the parent of this vnet lacks {0}")]
    BeyondParent(String),
    /// There is no vnet of that name to be joined to.
    #[error("there is no vnet {0:?}")]
    NoSuchVnet(String),
    /// Something is already connected to the port.
    #[error("port {0:?} is already connected")]
    PluggedIn(String),
    /// The two vnets belong to different systems.
    #[error("the two vnets belong to different systems")]
    OtherSystem,

    /// The interface is a member of a bridge. Its addresses belong on the bridge's interface.
    #[error("interface {0:?} is a member of a bridge: addresses belong on the bridge")]
    BridgeMember(String),
    /// The interface is a member of a lagg. The addresses belong on the lagg, which also determines the MAC address
    /// and MTU of its members.
    #[error("interface {0:?} is a member of a lagg: configure the lagg instead")]
    LaggMember(String),
    /// The interface has addresses, which members of a bridge or a lagg must not have.
    #[error("interface {0:?} has addresses: move them to the bridge or lagg first")]
    HasAddresses(String),
    /// The interface is already a member of a bridge or a lagg.
    #[error("interface {member:?} is already a member of {bridge:?}")]
    AlreadyMember {
        /// The interface.
        member: String,
        /// Its bridge, or its lagg.
        bridge: String,
    },
    /// The interface stands on the bridge: it is a VLAN interface on it, or a bridge with such a member.
    #[error("interface {member:?} stands on {bridge:?} and cannot be a member of it")]
    StandsOnBridge {
        /// The interface.
        member: String,
        /// The bridge.
        bridge: String,
    },
    /// The interface is not a member of this bridge or lagg.
    #[error("interface {member:?} is not a member of {bridge:?}")]
    NotAMember {
        /// The interface.
        member: String,
        /// The bridge or lagg.
        bridge: String,
    },
    /// A bridge with a spanning tree, or a lagg, has reached its maximum number of members.
    #[error("there can be at most {0} members")]
    TooManyMembers(usize),
    /// The address is the bridge's own or that of a member.
    #[error("{0} is an address of the bridge itself")]
    OwnAddress(MacAddr),
    /// The bridge does not know the station.
    #[error("the bridge does not know the station {0}")]
    NoSuchStation(MacAddr),

    /// The VID is not valid for frames.
    #[error("VID {0} is out of range: use 0 to {MAX_VID}")]
    BadVid(u16),
    /// The parent already has an interface for that VLAN.
    #[error("interface {parent:?} already has a VLAN interface for {tpid} VID {vid}")]
    VlanTaken {
        /// The parent.
        parent: String,
        /// The protocol of the tags.
        tpid: Tpid,
        /// The VLAN.
        vid: u16,
    },
    /// As many VLAN interfaces as may do so stand on each other already.
    #[error(
        "no VLAN interface can stand on {0:?}: at most {most} can be stacked",
        most = VlanConfig::MAX_DEPTH
    )]
    TooDeep(String),

    /// The interface is borrowed: it can be returned to its home, and can be removed only there.
    #[error("interface {name:?} is borrowed from vnet {home:?}: it can only be returned")]
    Borrowed {
        /// The interface's name here.
        name: String,
        /// The vnet that it belongs to.
        home: String,
    },
    /// The vnet that an interface was to move to is gone, or is being torn down.
    #[error("the vnet to which the interface was to be moved is gone")]
    TargetGone,
    /// The interface is in that vnet already.
    #[error("interface {0:?} is already in that vnet")]
    SameVnet(String),
    /// Tenants and borrowers can lend interfaces to descendants of their vnet only.
    #[error("vnet {0:?} is not a descendant of this vnet")]
    NotDescendant(String),
    /// No interface of that name is lent.
    #[error("this vnet has not lent an interface {0:?}")]
    NotLent(String),
    /// The interface is at home.
    #[error("interface {0:?} is not lent: it is in its own vnet")]
    AtHome(String),
    /// VLAN interfaces stand on it, and would be removed.
    #[error("interface {0:?} has VLAN interfaces: remove them first")]
    HasVlans(String),
    /// It is a VLAN interface on a borrowed interface, and is removed when that one returns.
    #[error("interface {0:?} stands on a borrowed interface and cannot be lent")]
    OnBorrowed(String),
    /// Another call is moving it at this moment.
    #[error("interface {0:?} is already being moved")]
    Busy(String),
}

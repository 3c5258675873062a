//! Creating and changing bridges.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::record::{BridgeOp, IfOp, Op};
use crate::base::config::ConfigError;
use crate::base::id::IfId;
use crate::base::time::{Duration, Instant};
use crate::instance::privilege::Privilege;
use crate::instance::vnet::Vnet;
use crate::netif::bridge::fdb::{FdbEntry, Fid, Origin, is_learned};
use crate::netif::bridge::stp::state::{PortState, Role, StpCounters};
use crate::netif::bridge::stp::vector::{BridgeIdentifier, PortNumber};
use crate::netif::bridge::tree::Tree;
use crate::netif::bridge::vlan::set::bad_vid;
use crate::netif::bridge::{
    Bridge, BridgeConfig, BridgeCounters, BridgeId, MemberConfig, SnoopingCounters,
};
use crate::netif::member::Member;
use crate::netif::{AdminError, Kind, Netif};
use crate::packet::tag::MAX_VID;
use crate::packet::{Cx, MacAddr};
use crate::stack::Stack;
use crate::stack::limits::Resource;

/// The configuration of a bridge, and what it has learned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeInfo {
    /// Its configuration.
    pub config: BridgeConfig,
    /// Its members and their settings, in the order in which they joined; in an [`Inspection`](crate::Inspection), in
    /// the order of their names.
    pub members: Vec<MemberInfo>,
    /// Its static stations, in the order of their addresses.
    pub stations: Vec<StaticStation>,
    /// All stations that it knows, in the order of their addresses and VLANs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fdb: Vec<StationInfo>,
    /// Its part in a spanning tree, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stp: Option<StpInfo>,
    /// What it knows about multicast groups, if it snoops.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snooping: Option<SnoopingInfo>,
    /// Its counters.
    #[serde(default)]
    pub counters: BridgeCounters,
}

/// What a bridge knows about multicast groups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnoopingInfo {
    /// True if it is the querier in some VLAN.
    pub is_querier: bool,
    /// The groups with members, in the order of VLANs and addresses.
    pub groups: Vec<GroupInfo>,
    /// The members that lead to routers, as far as these have announced themselves.
    pub routers: Vec<String>,
    /// Its counters.
    pub counters: SnoopingCounters,
}

/// A multicast group with members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupInfo {
    /// Its address.
    pub group: IpAddr,
    /// The VLAN; none where the bridge does not tell VLANs apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vid: Option<u16>,
    /// The members of the bridge behind which somebody has joined the group.
    pub members: Vec<String>,
}

/// A static station of a bridge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StaticStation {
    /// Its address.
    pub mac: MacAddr,
    /// The member that it is behind.
    pub interface: String,
    /// Its VLAN; every VLAN, if none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vid: Option<u16>,
}

/// Label of the random stream of a filtering database's hash.
const FDB_STREAM: u64 = 0x0066_6462;

/// What a bridge knows about its spanning tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StpInfo {
    /// The identifier of the bridge.
    pub bridge: BridgeIdentifier,
    /// The identifier of the root; the bridge's own while it knows no better one.
    pub root: BridgeIdentifier,
    /// The cost of the path to the root.
    pub root_cost: u32,
    /// The member that leads to the root; the root has none.
    pub root_port: Option<String>,
    /// Changes of the topology that the bridge has seen or heard of.
    pub topology_changes: u64,
    /// Its ports, in the order of their numbers.
    pub ports: Vec<StpPortInfo>,
}

/// What a member of a bridge is in the spanning tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StpPortInfo {
    /// The interface's name.
    pub name: String,
    /// What it is in the tree.
    pub role: Role,
    /// What it does with frames.
    pub state: PortState,
    /// The path cost of its link.
    pub cost: u32,
    /// True if it leads only to hosts, as far as is known or configured.
    pub is_edge: bool,
    /// True if it uses the rapid protocol, false if a bridge on its segment knows only the older one.
    pub speaks_rstp: bool,
    /// What it did.
    pub counters: StpCounters,
}

/// A member of a bridge.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct MemberInfo {
    /// The interface's name.
    pub name: String,
    /// How the bridge treats it.
    pub config: MemberConfig,
}

/// A station that a bridge knows, as `ifconfig bridge0 addr` lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StationInfo {
    /// Its address.
    pub mac: MacAddr,
    /// The interface it is behind; of a local one, the interface itself.
    pub interface: String,
    /// Its VLAN, if the entry does not hold in all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vid: Option<u16>,
    /// Where the entry comes from.
    pub origin: Origin,
    /// For a learned entry, how long ago a frame from it was seen; for any other, how long the
    /// entry has existed.
    pub idle: Duration,
    /// How often it has moved to another member since it became known. A station that keeps moving is in two places,
    /// or there is a loop.
    pub moves: u32,
}

impl Vnet {
    /// Creates a bridge without members: an interface of this vnet, up, through which the vnet
    /// itself is on the bridge. [`Vnet::remove_interface`] removes it and releases its members.
    ///
    /// # Errors
    /// The name is invalid or taken, a limit is reached, or a privilege is missing.
    ///
    /// ```
    /// use vnet::System;
    ///
    /// let system = System::virtual_time(1);
    /// let (a, b, s) = (system.create("a")?, system.create("b")?, system.create("switch")?);
    /// s.bridge("bridge0")?;
    /// for (host, address) in [(&a, "192.0.2.1/24"), (&b, "192.0.2.2/24")] {
    ///     host.epair("eth0", &s, host.name())?;
    ///     host.add_address("eth0", address.parse()?)?;
    ///     s.add_member("bridge0", host.name())?;
    /// }
    /// let ping = vnet::net::EchoSocket::bind_in(&a)?;
    /// ping.send_to(1, b"hello", "192.0.2.2".parse()?)?;
    /// ping.recv()?;
    /// assert_eq!(s.bridge_info("bridge0")?.counters.learned, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn bridge(&self, name: &str) -> Result<(), AdminError> {
        self.require(Privilege::InterfaceCreate)?;
        let mac = self.core.system.next_mac();
        self.configure(|stack, cx| {
            stack.admit_interface(name)?;
            let seed = cx.rng.split(FDB_STREAM).u64();
            let bridges = &mut stack.bridges;
            let id = stack.ifs.insert(name, |id| {
                let bridge = bridges.create(cx.now, id, mac, seed);
                Netif::new(id, name, Kind::Bridge(bridge), mac)
            })?;
            stack.appeared(id);
            let interface = name.to_owned();
            Ok(Op::Interface(interface, IfOp::Bridge {}))
        })
    }

    /// Makes an interface a member of a bridge or of a [lagg](Vnet::lagg): what it receives goes to that.
    ///
    /// # Errors
    /// There is no bridge, lagg or interface of that name; the interface is a loopback interface or a
    /// bridge, is a member already, stands on this bridge (as a VLAN of it does), or has addresses; a
    /// bridge with a spanning tree has 4095 members. A lagg has at most 32, which are epairs or ports.
    pub fn add_member(&self, bridge: &str, member: &str) -> Result<(), AdminError> {
        self.require(Privilege::InterfaceConfig)?;
        self.configure(|stack, cx| {
            let itself = stack.ifs.by_name(bridge)?;
            if itself.kind.lagg().is_some() {
                let lagg = itself.id;
                let ifid = candidate(stack, member)?;
                super::lagg::add_member(stack, cx, lagg, ifid)?;
                let (interface, member) = (bridge.to_owned(), member.to_owned());
                return Ok(Op::Bridge(interface, BridgeOp::AddMember { member }));
            }
            let id = bridge_id(stack, bridge)?;
            let ifid = stack.ifs.id_of(member)?;
            let netif = netif_of(stack, ifid);
            if !netif.can().bridgeable {
                let kind = netif.kind.name();
                return Err(AdminError::Unsupported {
                    kind,
                    what: CANNOT_JOIN,
                });
            }
            // Frames would circulate, or multiply, inside this vnet, and the two would keep up each
            // other's carrier.
            let itself = stack.ifs.id_of(bridge)?;
            if stack.ifs.stands_on(&stack.bridges, ifid, itself) {
                let (member, bridge) = (member.to_owned(), bridge.to_owned());
                return Err(AdminError::StandsOnBridge { member, bridge });
            }
            candidate(stack, member)?;
            check_size(stack, id, 1)?;
            stack.bridges.join(&mut stack.ifs, cx.now, id, ifid);
            stack.membership_changed(cx, ifid);
            stack.state_changed(cx, itself);
            let (interface, member) = (bridge.to_owned(), member.to_owned());
            Ok(Op::Bridge(interface, BridgeOp::AddMember { member }))
        })
    }

    /// Removes a member from a bridge or a lagg. A bridge forgets the stations behind it; a member of a lagg
    /// has its own MAC address and IP MTU again.
    ///
    /// # Errors
    /// There is no bridge, lagg or interface of that name, or the interface is not a member.
    pub fn remove_member(&self, bridge: &str, member: &str) -> Result<(), AdminError> {
        self.require(Privilege::InterfaceConfig)?;
        self.configure(|stack, cx| {
            let itself = stack.ifs.by_name(bridge)?;
            if itself.kind.lagg().is_some() {
                let lagg = itself.id;
                let netif = stack.ifs.by_name(member)?;
                let ifid = netif.id;
                if netif.on_lagg().is_none_or(|m| m.lagg != lagg) {
                    return Err(not_a_member(bridge, member));
                }
                stack.leave_lagg(cx, ifid);
                return Ok(super::lagg::removal(bridge, member));
            }
            let (_, ifid) = member_of(stack, bridge, member)?;
            stack.bridges.forget(&mut stack.ifs, cx.now, ifid);
            stack.membership_changed(cx, ifid);
            let itself = stack.ifs.id_of(bridge)?;
            stack.state_changed(cx, itself);
            let (interface, member) = (bridge.to_owned(), member.to_owned());
            Ok(Op::Bridge(interface, BridgeOp::RemoveMember { member }))
        })
    }

    /// Sets how a bridge treats a member. Changing its VLANs needs [`Privilege::InterfaceCreate`], because they decide
    /// whose frames the member receives.
    ///
    /// # Errors
    /// As [`Vnet::remove_member`]; also, a parameter of the spanning tree, or a VLAN, that is out of range, or
    /// VLANs that contradict each other.
    pub fn set_member(
        &self,
        bridge: &str,
        member: &str,
        config: MemberConfig,
    ) -> Result<(), AdminError> {
        self.require(Privilege::InterfaceConfig)?;
        config.validate()?;
        self.configure(|stack, cx| {
            let (id, ifid) = member_of(stack, bridge, member)?;
            let bridges = &mut stack.bridges;
            let old = bridges.get(id).and_then(|b| b.member_config(ifid));
            if old.is_none_or(|old| old.vlans != config.vlans) {
                self.require(Privilege::InterfaceCreate)?;
            }
            let was_span = old.is_some_and(|old| old.span.is_on());
            bridges.set_member(&mut stack.ifs, cx.now, ifid, config.clone());
            if was_span != config.span.is_on() {
                let itself = stack.ifs.id_of(bridge)?;
                stack.state_changed(cx, itself);
            }
            Ok(Op::Bridge(
                bridge.to_owned(),
                BridgeOp::SetMember {
                    member: member.to_owned(),
                    config: Box::new(config),
                },
            ))
        })
    }

    /// Sets how a bridge works, from the next frame on. Changing its VLANs needs [`Privilege::InterfaceCreate`], as in
    /// [`Vnet::set_member`].
    ///
    /// # Errors
    /// No bridge of that name; a parameter of the spanning tree, or a VLAN, that is out of range; VLANs that
    /// contradict each other; more members than a spanning tree has ports for.
    pub fn set_bridge(&self, bridge: &str, config: BridgeConfig) -> Result<(), AdminError> {
        self.require(Privilege::InterfaceConfig)?;
        config.validate()?;
        self.configure(|stack, cx| {
            let id = bridge_id(stack, bridge)?;
            if config.stp.is_some() {
                check_size(stack, id, 0)?;
            }
            let bridges = &mut stack.bridges;
            if bridges
                .get(id)
                .is_none_or(|b| b.config.vlans != config.vlans)
            {
                self.require(Privilege::InterfaceCreate)?;
            }
            bridges.set_config(&mut stack.ifs, cx.now, id, config.clone());
            let (interface, config) = (bridge.to_owned(), Box::new(config));
            Ok(Op::Bridge(interface, BridgeOp::SetBridge { config }))
        })
    }

    /// Adds a static entry: the station is behind this member until the member leaves or
    /// [`Vnet::remove_station`] is called, whatever frames indicate. Where the bridge tells VLANs apart, it is
    /// there in the VLAN `vid`, or in all of them.
    ///
    /// # Errors
    /// As [`Vnet::remove_member`]; also, an address that is not a unicast address, or is the
    /// bridge's own; a member that only watches; a VID that is out of range; a limit is reached.
    pub fn add_station(
        &self,
        bridge: &str,
        member: &str,
        mac: MacAddr,
        vid: Option<u16>,
    ) -> Result<(), AdminError> {
        self.require(Privilege::InterfaceConfig)?;
        if !mac.is_station() {
            return Err(AdminError::BadMac(mac));
        }
        let fid = fid(vid)?;
        self.configure(|stack, cx| {
            let (id, ifid) = member_of(stack, bridge, member)?;
            let bridge_of = stack.bridges.get_mut(id).expect(THERE);
            if bridge_of.spans.contains(&ifid) {
                let message = "nobody is behind a member that only watches";
                return Err(ConfigError::new("member", message).into());
            }
            let fdb = &mut bridge_of.fdb;
            let known = fdb.lookup(cx.now, Fid::ALL, mac);
            if known.is_some_and(|s| s.origin == Origin::Local) {
                return Err(AdminError::OwnAddress(mac));
            }
            let is_there = fdb
                .lookup(cx.now, fid, mac)
                .is_some_and(|s| s.fid == fid && s.origin == Origin::Static);
            if !is_there && !fdb.admits_one() {
                return Err(AdminError::Limit(Resource::Stations.as_str()));
            }
            fdb.set(cx.now, fid, mac, ifid, Origin::Static);
            Ok(Op::Bridge(
                bridge.to_owned(),
                BridgeOp::AddStation {
                    member: member.to_owned(),
                    mac,
                    vid,
                },
            ))
        })
    }

    /// Makes a bridge forget a station, learned or static: the entry for the VLAN `vid`, or the one for all.
    ///
    /// # Errors
    /// There is no bridge of that name, it has no such entry, or the address is its own; a VID that is out
    /// of range.
    pub fn remove_station(
        &self,
        bridge: &str,
        mac: MacAddr,
        vid: Option<u16>,
    ) -> Result<(), AdminError> {
        self.require(Privilege::InterfaceConfig)?;
        let fid = fid(vid)?;
        self.configure(|stack, cx| {
            let id = bridge_id(stack, bridge)?;
            let fdb = &mut stack.bridges.get_mut(id).expect(THERE).fdb;
            // Also the entry for all VLANs is found; that one is meant only when no VLAN is named.
            let known = fdb.lookup(cx.now, fid, mac).filter(|s| s.fid == fid);
            match known.map(|s| (s.origin, s.ifid)) {
                None => Err(AdminError::NoSuchStation(mac)),
                Some((Origin::Local, _)) => Err(AdminError::OwnAddress(mac)),
                Some((origin, ifid)) => {
                    fdb.remove(fid, mac);
                    let interface = bridge.to_owned();
                    // What was learned is no configuration, and what is behind a borrowed member
                    // was never noted.
                    let is_borrowed = stack.ifs.is_on_borrowed(ifid);
                    let is_noted = origin == Origin::Static && !is_borrowed;
                    let op = BridgeOp::RemoveStation { mac, vid };
                    Ok(is_noted.then_some(Op::Bridge(interface, op)))
                }
            }
        })
    }

    /// Makes a bridge forget every station that it has learned, sticky ones included; static ones stay.
    ///
    /// # Errors
    /// No bridge of that name.
    pub fn flush_stations(&self, bridge: &str) -> Result<(), AdminError> {
        self.require(Privilege::InterfaceConfig)?;
        self.with_bridge(bridge, |bridge, _| {
            bridge.fdb.remove_if(is_learned);
        })
    }

    /// A bridge's configuration, its members, what it knows, and its counters.
    ///
    /// # Errors
    /// No bridge of that name.
    pub fn bridge_info(&self, bridge: &str) -> Result<BridgeInfo, AdminError> {
        self.core.with(|stack, cx| {
            let id = bridge_id(stack, bridge)?;
            let bridge = stack.bridges.get(id).expect(THERE);
            Ok(info(stack, bridge, cx.now))
        })?
    }

    /// The stations that a bridge knows, in the order of their addresses and VLANs.
    ///
    /// # Errors
    /// No bridge of that name.
    pub fn stations(&self, bridge: &str) -> Result<Vec<StationInfo>, AdminError> {
        self.core.with(|stack, cx| {
            let id = bridge_id(stack, bridge)?;
            let bridge = stack.bridges.get(id).expect(THERE);
            Ok(stations(stack, bridge, cx.now))
        })?
    }

    fn with_bridge<R>(
        &self,
        name: &str,
        f: impl FnOnce(&mut Bridge, &mut Cx) -> R,
    ) -> Result<R, AdminError> {
        self.core.with(|stack, cx| {
            let id = bridge_id(stack, name)?;
            Ok(f(stack.bridges.get_mut(id).expect(THERE), cx))
        })?
    }
}

/// What is said of an interface whose kind bridges do not take.
const CANNOT_JOIN: &str = "cannot be a member of a bridge";
/// Why a bridge that an interface's role names can be had.
const THERE: &str = "a bridge goes with its interface, and its members are freed then";

/// The entries for that VLAN, or those for all.
fn fid(vid: Option<u16>) -> Result<Fid, ConfigError> {
    match vid {
        None => Ok(Fid::ALL),
        Some(vid @ 1..=MAX_VID) => Ok(Fid::of(vid)),
        Some(vid) => Err(bad_vid("vid", vid)),
    }
}

fn netif_of(stack: &Stack, ifid: IfId) -> &Netif {
    let netif = stack.ifs.get(ifid);
    netif.expect("an interface that goes leaves its bridge first")
}

fn bridge_id(stack: &Stack, name: &str) -> Result<BridgeId, AdminError> {
    let netif = stack.ifs.by_name(name)?;
    let bridge = netif.kind.bridge();
    bridge.ok_or_else(|| AdminError::Unsupported {
        kind: netif.kind.name(),
        what: "is not a bridge",
    })
}

fn member_of(stack: &Stack, bridge: &str, member: &str) -> Result<(BridgeId, IfId), AdminError> {
    let id = bridge_id(stack, bridge)?;
    let netif = stack.ifs.by_name(member)?;
    match netif.on_bridge() {
        Some(member) if member.bridge == id => Ok((id, netif.id)),
        _ => Err(not_a_member(bridge, member)),
    }
}

fn not_a_member(bridge: &str, member: &str) -> AdminError {
    AdminError::NotAMember {
        member: member.to_owned(),
        bridge: bridge.to_owned(),
    }
}

/// The interface of that name, which is to become a member of something.
fn candidate(stack: &Stack, member: &str) -> Result<IfId, AdminError> {
    let netif = stack.ifs.by_name(member)?;
    if let Some(bridge) = has_member(stack, netif) {
        let member = member.to_owned();
        return Err(AdminError::AlreadyMember { member, bridge });
    }
    // Those that follow from its own MAC address or the word of routers end when it joins.
    if stack.ip.given_on(netif.id).next().is_some() {
        return Err(AdminError::HasAddresses(member.to_owned()));
    }
    Ok(netif.id)
}

/// The name of the bridge or lagg that an interface is a member of.
pub(super) fn has_member(stack: &Stack, netif: &Netif) -> Option<String> {
    let ifid = match netif.member.as_ref()? {
        Member::Bridge(member) => stack.bridges.get(member.bridge).expect(THERE).ifid,
        Member::Lagg(member) => member.lagg,
    };
    Some(netif_of(stack, ifid).name.to_string())
}

/// Checks that there is a port for so many more members, if it has a spanning tree or is to have
/// one.
fn check_size(stack: &Stack, id: BridgeId, more: usize) -> Result<(), AdminError> {
    let bridge = stack.bridges.get(id).expect(THERE);
    let is_too_large = bridge.members.len() + more > usize::from(PortNumber::MAX);
    match is_too_large && (bridge.tree.is_some() || more == 0) {
        true => Err(AdminError::TooManyMembers(PortNumber::MAX.into())),
        false => Ok(()),
    }
}

/// The stations that a bridge knows, in the order of their addresses and VLANs.
fn stations(stack: &Stack, bridge: &Bridge, now: Instant) -> Vec<StationInfo> {
    let info = |s: FdbEntry| StationInfo {
        mac: s.mac,
        interface: netif_of(stack, s.ifid).name.to_string(),
        vid: s.fid.vid(),
        origin: s.origin,
        idle: now - s.seen,
        moves: s.moves,
    };
    let mut stations: Vec<StationInfo> = bridge.fdb.list(now).map(info).collect();
    stations.sort_by_key(|s| (s.mac, s.vid));
    stations
}

fn snooping_info(stack: &Stack, bridge: &Bridge, now: Instant) -> Option<SnoopingInfo> {
    let snooper = bridge.snooper.as_deref()?;
    let name = |ifid: &IfId| netif_of(stack, *ifid).name.to_string();
    let group = |(vlan, group, members): (Fid, IpAddr, Vec<IfId>)| GroupInfo {
        group,
        vid: vlan.vid(),
        members: members.iter().map(name).collect(),
    };
    let routers: BTreeSet<IfId> = snooper.routers(now).collect();
    let all = bridge.members.iter().chain([&bridge.ifid]);
    Some(SnoopingInfo {
        is_querier: snooper.asks(now),
        groups: snooper.groups(now).map(group).collect(),
        routers: all
            .filter(|ifid| routers.contains(ifid))
            .map(name)
            .collect(),
        counters: snooper.counters,
    })
}

fn stp_info(stack: &Stack, tree: &Tree) -> StpInfo {
    let name = |ifid: IfId| netif_of(stack, ifid).name.to_string();
    let engine = &tree.engine;
    let (root, root_cost) = engine.root();
    let root_port = engine.root_port().and_then(|port| tree.member(port));
    let ports = tree.ports().filter_map(|(number, ifid)| {
        let port = engine.port(number)?;
        Some(StpPortInfo {
            name: name(ifid),
            role: port.role,
            state: port.state,
            cost: port.cost,
            is_edge: port.is_edge,
            speaks_rstp: port.speaks_rstp,
            counters: port.counters,
        })
    });
    StpInfo {
        bridge: engine.id(),
        root,
        root_cost,
        root_port: root_port.map(name),
        topology_changes: engine.topology_changes(),
        ports: ports.collect(),
    }
}

fn member_infos(stack: &Stack, bridge: &Bridge) -> Vec<MemberInfo> {
    let members = bridge.members.iter().map(|ifid| netif_of(stack, *ifid));
    let config = |netif: &Netif| bridge.member_config(netif.id).cloned();
    let info = |netif: &Netif| MemberInfo {
        name: netif.name.to_string(),
        config: config(netif).unwrap_or_default(),
    };
    members.map(info).collect()
}

/// What an inspection lists of a bridge; nothing for other interfaces.
pub(super) fn view(stack: &Stack, netif: &Netif, now: Instant) -> Option<BridgeInfo> {
    let bridge = stack.bridges.get(netif.kind.bridge()?).expect(THERE);
    let mut seen = info(stack, bridge, now);
    seen.members.sort_by(|a, b| a.name.cmp(&b.name));
    Some(seen)
}

fn info(stack: &Stack, bridge: &Bridge, now: Instant) -> BridgeInfo {
    let is_static = |s: &FdbEntry| s.origin == Origin::Static;
    let station = |s: FdbEntry| StaticStation {
        mac: s.mac,
        interface: netif_of(stack, s.ifid).name.to_string(),
        vid: s.fid.vid(),
    };
    let listed = bridge.fdb.list(now).filter(is_static).map(station);
    let mut stations: Vec<StaticStation> = listed.collect();
    stations.sort_by_key(|s| (s.mac, s.vid));
    BridgeInfo {
        config: bridge.config.clone(),
        members: member_infos(stack, bridge),
        stations,
        fdb: self::stations(stack, bridge, now),
        stp: bridge.tree.as_deref().map(|tree| stp_info(stack, tree)),
        snooping: snooping_info(stack, bridge, now),
        counters: bridge.counters,
    }
}

/// The names of the members of a bridge or a lagg; nothing for other interfaces.
pub(super) fn members_of(stack: &Stack, netif: &Netif) -> Vec<String> {
    let name = |ifid: IfId| netif_of(stack, ifid).name.to_string();
    match netif.kind.bridge() {
        Some(id) => {
            let bridge = stack.bridges.get(id).expect(THERE);
            bridge.members.iter().copied().map(name).collect()
        }
        None => {
            let members = stack.ifs.members_of_lagg(netif.id);
            members.into_iter().map(name).collect()
        }
    }
}

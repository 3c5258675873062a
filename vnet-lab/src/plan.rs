//! From a topology to what is done to the library: vnets, links, routes and jobs, by number
//! instead of by name, and the way packets will take.
//!
//! | part | what it is |
//! |---|---|
//! | `build` | what a topology comes to |
//! | `routes` | shortest paths |
//! | `aggregate` | fewer routes for the same ways |
//! | `trace` | following the routes |
//! | `reach` | finding out beforehand what cannot be reached |

mod aggregate;
mod build;
pub(crate) mod reach;
mod routes;
mod trace;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use ipnet::IpNet;
use vnet::link::Change;
use vnet::net::AddressPolicy;
use vnet::{BridgeConfig, ClassMaps, LinkConfig, MacAddr, MemberConfig, RouterConfig, VlanConfig};

pub use trace::Unreachable;

use crate::family::{Family, is_link_local};
use crate::job::Task;
use crate::topology::{CaptureFormat, Door, Event, Lacp, Lagg, NodeKind, Station, Target, Via};

/// What to build and what to run on it.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The topology's name.
    pub name: String,
    /// The vnets, in the order of the file.
    pub vnets: Vec<PlannedVnet>,
    /// The links, in the order of the file.
    pub links: Vec<PlannedLink>,
    /// What is attached from outside, in the order of the file.
    pub attach: Vec<PlannedAttach>,
    /// What changes over time, as it is written.
    pub events: Vec<Event>,
    /// The same by direction of a link.
    pub scripts: Vec<PlannedScript>,
    /// How captures are made, when they are asked for.
    pub capture: CaptureFormat,
    /// The jobs, in the order of the file.
    pub jobs: Vec<PlannedJob>,
    /// The vnet that has each address, and on which segment if it means something there only.
    owners: BTreeMap<(IpAddr, Option<usize>), usize>,
    /// The number of each vnet.
    numbers: BTreeMap<String, usize>,
}

/// A vnet to make.
#[derive(Clone, Debug)]
pub struct PlannedVnet {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: NodeKind,
    /// How its bridge works, at a switch or hub.
    pub bridge: Option<BridgeConfig>,
    /// Whether it speaks LLDP.
    pub lldp: bool,
    /// Its tunables and their values, by name.
    pub sysctl: Vec<(String, String)>,
    /// The policy by which it selects addresses, if the file says so.
    pub address_policy: Option<Vec<AddressPolicy>>,
    /// Its name servers, in the order in which they are asked.
    pub dns: Vec<IpAddr>,
    /// Its interfaces, in the order of the file.
    pub interfaces: Vec<PlannedInterface>,
    /// Its routes besides the connected ones.
    pub routes: Vec<PlannedRoute>,
}

impl PlannedVnet {
    /// True for a switch that takes part in a spanning tree.
    pub(crate) fn speaks_rstp(&self) -> bool {
        let bridge = self.bridge.as_ref();
        bridge.is_some_and(|bridge| bridge.stp.is_some())
    }
}

/// An interface of a vnet.
#[derive(Clone, Debug)]
pub struct PlannedInterface {
    /// Its name.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<IpNet>,
    /// Its anycast addresses.
    pub anycast: Vec<Ipv6Addr>,
    /// Its MAC address, when the file says so.
    pub mac: Option<MacAddr>,
    /// The largest IP packet it sends, when the file says so.
    pub ip_mtu: Option<u16>,
    /// The link it is an end of.
    pub link: usize,
    /// Its segment, as a number: that of all links that switches join to its own, in its VLAN.
    pub(crate) segment: usize,
    /// How the bridge treats it, at a switch or hub.
    pub member: Option<MemberConfig>,
    /// Whether the file says if it leads to hosts only.
    pub(crate) says_edge: bool,
    /// The stations that the bridge knows to be behind it.
    pub stations: Vec<Station>,
    /// Its VLAN and the number of the interface that it stands on, if it is a VLAN interface.
    pub vlan: Option<(VlanConfig, usize)>,
    /// How it maps between priorities of tags and classes of packets, if it is a VLAN interface and the file says so.
    pub classes: Option<ClassMaps>,
    /// What it says as a router, when the file says so.
    pub advertise: Option<RouterConfig>,
    /// Its part in LACP, when the file says so.
    pub lacp: Option<Lacp>,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedRoute {
    /// The addresses it is for.
    pub destination: IpNet,
    /// Where they are sent.
    pub via: Via,
    /// Of routes to the same addresses, the one with the lowest metric is used.
    pub metric: u32,
}

/// A link to make.
#[derive(Clone, Debug)]
pub struct PlannedLink {
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Whether it is captured when captures are asked for; `None` when the file does not say.
    pub capture: Option<bool>,
    /// How its wires are used as one, when it has several.
    pub lagg: Option<Lagg>,
    /// Both ends: number of the vnet, number of the interface in it.
    pub ends: [(usize, usize); 2],
    /// The segments that cross it.
    pub(crate) segments: Vec<usize>,
    /// From each end to the other.
    pub outgoing: [LinkConfig; 2],
}

/// Something outside to attach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedAttach {
    /// The number of the vnet that is the switch between it and its node.
    pub vnet: usize,
    /// What it is.
    pub door: Door,
}

/// What changes over time in one direction of a link.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedScript {
    /// The number of the link.
    pub link: usize,
    /// The end that sends: 0 or 1.
    pub end: usize,
    /// The wire of the link: 0, unless it has several.
    pub wire: usize,
    /// The events, in the order of the file.
    pub events: Vec<(Duration, Change)>,
}

/// A job to run.
#[derive(Clone, Debug)]
pub struct PlannedJob {
    /// Its name in reports.
    pub name: String,
    /// When it starts; `None` is after the jobs before it.
    pub start: Option<Duration>,
    /// How long it may take before it has failed.
    pub timeout: Duration,
    /// The vnet it starts from.
    pub from: usize,
    /// The vnet it goes to.
    pub to: usize,
    /// The address it goes to.
    pub address: IpAddr,
    /// What it does; nodes by name, as they are reported.
    pub task: Task<String>,
}

impl Plan {
    /// The address meant by `target`, seen from a vnet: the first of a family that it speaks, or of `family`; `None`
    /// when there is none.
    fn address(&self, from: usize, target: &Target, family: Option<Family>) -> Option<IpAddr> {
        let (node, interface) = match target {
            Target::Address(address) => return Some(*address),
            Target::Node(node) => (node, None),
            Target::Interface(node, interface) => (node, Some(interface)),
        };
        let meant = |i: &&PlannedInterface| interface.is_none_or(|name| i.name == *name);
        let interfaces = self.vnets[self.number(node)?].interfaces.iter();
        let addresses = interfaces.filter(meant).flat_map(|i| &i.addresses);
        let mut addresses = addresses.map(IpNet::addr).filter(|address| {
            !is_link_local(*address) && family.is_none_or(|f| f == Family::of(*address))
        });
        let spoken = addresses
            .clone()
            .find(|a| self.speaks(from, Family::of(*a)));
        spoken.or_else(|| addresses.next())
    }

    /// True when a vnet has an address of the family that means something beyond its link.
    fn speaks(&self, vnet: usize, family: Family) -> bool {
        let mut nets = self.vnets[vnet]
            .interfaces
            .iter()
            .flat_map(|i| &i.addresses);
        nets.any(|net| Family::of(net.addr()) == family && !is_link_local(net.addr()))
    }

    /// Whether a vnet is a bridge that others may have to be in a spanning tree with: one before what is
    /// attached from outside is not.
    pub(crate) fn speaks_for_itself(&self, vnet: usize) -> bool {
        let is_before_outside = self.attach.iter().any(|attach| attach.vnet == vnet);
        self.vnets[vnet].kind.is_bridge() && !is_before_outside
    }

    /// The number of the vnet of that name.
    pub fn number(&self, name: &str) -> Option<usize> {
        self.numbers.get(name).copied()
    }

    /// The number of the vnet that has `address`.
    pub fn owner(&self, address: IpAddr) -> Option<usize> {
        self.owners.get(&(address, None)).copied()
    }

    /// The number of the vnet that has `address`, seen from a segment.
    fn owner_on(&self, segment: usize, address: IpAddr) -> Option<usize> {
        let there = is_link_local(address).then_some(segment);
        self.owners.get(&(address, there)).copied()
    }

    /// Each address and the name of the vnet that has it.
    pub fn names(&self) -> BTreeMap<IpAddr, String> {
        let name = |vnet: &usize| self.vnets[*vnet].name.clone();
        let everywhere = self.owners.iter().filter(|((_, on), _)| on.is_none());
        everywhere.map(|((a, _), vnet)| (*a, name(vnet))).collect()
    }

    /// The name of the vnet that has `address`; the address itself when none has.
    pub fn name_of(&self, address: IpAddr) -> String {
        match self.owner(address) {
            Some(vnet) => self.vnets[vnet].name.clone(),
            None => address.to_string(),
        }
    }

    /// An end of a link, and the VLAN interfaces on it, which come after it.
    pub(crate) fn with_vlans(
        &self,
        (vnet, end): (usize, usize),
    ) -> impl Iterator<Item = (usize, usize)> {
        let after = self.vnets[vnet].interfaces[end + 1..].iter();
        // What stands on these comes before the next end.
        let above = after.take_while(move |i| i.vlan.is_some_and(|(_, parent)| parent >= end));
        (end..=end + above.count()).map(move |interface| (vnet, interface))
    }

    fn interface(&self, (vnet, interface): (usize, usize)) -> &PlannedInterface {
        &self.vnets[vnet].interfaces[interface]
    }

    /// `NODE-INTERFACE` of one end of a link, as files and interfaces of captures are called. No two
    /// ends have the same: a `-` in a name is a `~` here, which no name has.
    pub fn end_name(&self, (vnet, interface): (usize, usize)) -> String {
        let vnet = &self.vnets[vnet];
        let [node, interface] =
            [&vnet.name, &vnet.interfaces[interface].name].map(|name| name.replace('-', "~"));
        format!("{node}-{interface}")
    }

    /// `NODE-INTERFACE--NODE-INTERFACE` of a link, in the manner of [`Plan::end_name`]. No two links
    /// have the same.
    pub fn link_name(&self, link: &PlannedLink) -> String {
        let [a, b] = link.ends.map(|end| self.end_name(end));
        format!("{a}--{b}")
    }

    /// The number of the link that is meant: by its name, by an end as `NODE:INTERFACE`, or by its
    /// [`Plan::link_name`], in this order.
    pub fn link(&self, meant: &str) -> Option<usize> {
        let is_name = |link: &PlannedLink| link.name.as_deref() == Some(meant);
        let is_end = |link: &PlannedLink| {
            meant.split_once(':').is_some_and(|(node, interface)| {
                let is_it = |end: &(usize, usize)| {
                    self.vnets[end.0].name == node && self.interface(*end).name == interface
                };
                link.ends.iter().any(is_it)
            })
        };
        let mut links = self.links.iter();
        links
            .clone()
            .position(is_name)
            .or_else(|| links.clone().position(is_end))
            .or_else(|| links.position(|link| self.link_name(link) == meant))
    }
}

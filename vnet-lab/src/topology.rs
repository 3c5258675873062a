//! A topology: nodes, the links between them, and the jobs to run over it. It is read from TOML;
//! `docs/topology.md` lists every key, unit, default and error.
//!
//! | part | what it is |
//! |---|---|
//! | `parse` | nodes and links |
//! | `end` | one end of a link: `node:interface address/prefix` |
//! | `switch`, `port` | what is said of a switch, and of its ports |
//! | `lagg` | several wires used as one link |
//! | `link` | what happens to frames in a direction of a link |
//! | `event` | what changes over time |
//! | `attach` | what is attached from outside |
//! | `capture` | how captures are made |
//! | `job` | what to run |
//! | `segments` | which links switches join |
//! | `validate` | what no single table can know: names, addresses |
//!
//! Who forwards what to whom is decided in [`plan`](crate::plan).

mod advertise;
mod attach;
mod capture;
mod end;
mod event;
mod job;
mod lagg;
mod link;
pub(crate) mod parse;
mod port;
pub(crate) mod segments;
mod switch;
pub(crate) mod validate;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;
use toml::Spanned;
use vnet::net::AddressPolicy;
use vnet::{ClassMaps, LinkConfig, MacAddr, RouteKind, RouterConfig, RstpConfig, VlanConfig};

pub(crate) use attach::place_of as place_of_attach;
pub use attach::{Attach, DOORS, Door, Emulator, HostNic, HostTap};
pub use capture::CaptureFormat;
pub use event::{Event, EventTarget};
pub use job::Job;
pub use lagg::{Lacp, Lagg};
pub use port::{Port, PortTree, Station};
pub use switch::{SpanningTree, Switch};

pub use crate::file::name::Target;
pub use crate::job::Task;
pub use crate::job::input::Content;

/// A topology as it was written, every name in it known to mean something.
#[derive(Clone, Debug, Default)]
pub struct Topology {
    /// The topology's name.
    pub name: String,
    /// Where routes come from.
    pub routing: Routing,
    /// What switches speak that do not say it themselves.
    pub stp: SpanningTree,
    /// Whether nodes speak LLDP that do not say it themselves.
    pub lldp: bool,
    /// The nodes, in the order of the file.
    pub nodes: Vec<Node>,
    /// The links, in the order of the file.
    pub links: Vec<Link>,
    /// What is attached from outside, in the order of the file. Its switches are the last of the nodes,
    /// and its links the last of the links.
    pub attach: Vec<Attach>,
    /// The events, in the order of the file.
    pub events: Vec<Event>,
    /// How captures are made, when they are asked for.
    pub capture: CaptureFormat,
    /// The jobs, in the order of the file.
    pub jobs: Vec<Job>,
    /// Where it was written.
    pub(crate) origin: Origin,
}

/// The file that a topology was read from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origin {
    pub(crate) file: String,
    pub(crate) source: Arc<str>,
}

/// Where routes come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Routing {
    /// From each node's `routes` only.
    #[default]
    Static,
    /// Shortest paths by delay, in addition to each node's `routes`.
    Auto,
}

/// A node: one vnet.
#[derive(Clone, Debug)]
pub struct Node {
    /// Unique.
    pub name: Spanned<String>,
    /// What it is.
    pub kind: NodeKind,
    /// What it speaks to keep loops of switches open, when the file says so.
    pub stp: Option<Spanned<SpanningTree>>,
    /// Its bridge priority, when the file says so.
    pub stp_priority: Option<Spanned<u16>>,
    /// Whether it speaks LLDP, when the file says so.
    pub lldp: Option<bool>,
    /// What it says of the bridge that it is.
    pub switch: Switch,
    /// Its tunables, by name.
    pub sysctl: Vec<(Spanned<String>, String)>,
    /// The policy by which it selects addresses, when the file says so.
    pub address_policy: Option<Vec<AddressPolicy>>,
    /// Its name servers.
    pub dns: Vec<Spanned<IpAddr>>,
    /// Its static routes.
    pub routes: Vec<Spanned<Route>>,
}

/// What a node is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NodeKind {
    /// Does not forward.
    #[default]
    Host,
    /// Forwards between its interfaces.
    Router,
    /// A learning bridge over its interfaces, without an address.
    Switch,
    /// The same without learning: every frame goes everywhere.
    Hub,
}

/// A static route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The addresses it is for.
    pub destination: IpNet,
    /// Where they are sent.
    pub via: Via,
    /// Of routes to the same addresses, the one with the lowest metric is used whose interface is up.
    pub metric: u32,
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Via {
    /// A neighbour's address.
    Gateway(IpAddr),
    /// An interface, on whose link the destination itself is.
    Interface(String),
    /// A neighbour's address on the link of an interface, whatever the prefixes there.
    OnLink(IpAddr, String),
    /// Nowhere: packets are dropped, and their senders told so in the words of the kind.
    Nowhere(RouteKind),
}

/// A wire between two interfaces.
#[derive(Clone, Debug)]
pub struct Link {
    /// Its name, with which events refer to both directions.
    pub name: Option<Spanned<String>>,
    /// Whether it is captured when captures are asked for; `None` when the file does not say.
    pub capture: Option<bool>,
    /// Both ends.
    pub ends: [End; 2],
    /// How the wires are used as one, when it has several.
    pub lagg: Option<Lagg>,
    /// From the first end to the second.
    pub forward: LinkConfig,
    /// From the second end to the first.
    pub backward: LinkConfig,
}

/// The tags of frames, the outermost first.
pub(crate) type Tags = Vec<VlanConfig>;

/// What a link carries of one VLAN: the link's number, and the tags on it; none for what has no tag.
pub(crate) type Strand = (usize, Tags);

/// One end of a link: an interface of a node.
#[derive(Clone, Debug)]
pub struct End {
    /// The node's name.
    pub node: Spanned<String>,
    /// The interface's name; unique in the node.
    pub interface: Spanned<String>,
    /// Its addresses. At least one; none at a switch or hub.
    pub addresses: Vec<Spanned<IpNet>>,
    /// Its anycast addresses, which other nodes may have as well.
    pub anycast: Vec<Spanned<Ipv6Addr>>,
    /// Its MAC address, when the file says so.
    pub mac: Option<Spanned<MacAddr>>,
    /// The largest IP packet it sends, when the file says so.
    pub ip_mtu: Option<u16>,
    /// How a switch treats it.
    pub port: Port,
    /// Its part in LACP, when the file says so.
    pub lacp: Option<Spanned<Lacp>>,
    /// How a VLAN interface maps between priorities of tags and classes of packets, when the file says so.
    pub classes: Option<ClassMaps>,
    /// What a router advertises there, when the file says so.
    pub advertise: Option<Spanned<RouterConfig>>,
    /// The VLAN interfaces on it, at a host or router.
    pub vlans: Vec<(VlanConfig, End)>,
}

impl End {
    /// This end and the VLAN interfaces on it, with what is below first, and the tags of each.
    fn all<'a>(&'a self, tags: Tags, found: &mut Vec<(Tags, &'a End)>) {
        found.push((tags.clone(), self));
        for (vlan, above) in &self.vlans {
            let mut tags = tags.clone();
            tags.push(*vlan);
            above.all(tags, found);
        }
    }
}

impl Topology {
    /// How a node takes part in the rapid spanning tree protocol, if it does.
    pub(crate) fn rstp(&self, node: &Node) -> Option<RstpConfig> {
        let stp = node.stp.as_ref().map_or(self.stp, |stp| *stp.get_ref());
        match (node.kind, stp) {
            (NodeKind::Switch, SpanningTree::Rstp(config)) => {
                let priority = node.stp_priority.as_ref();
                Some(RstpConfig {
                    priority: priority.map_or(config.priority, |priority| *priority.get_ref()),
                    ..config
                })
            }
            _ => None,
        }
    }

    /// All link ends and the VLAN interfaces on them, with the strand that each is an end of.
    pub(crate) fn ends(&self) -> impl Iterator<Item = (Strand, &End)> {
        let ends = self.links.iter().enumerate();
        let ends = ends.flat_map(|(n, link)| link.ends.iter().map(move |end| (n, end)));
        ends.flat_map(|(link, end)| {
            let mut all = Vec::new();
            end.all(Tags::new(), &mut all);
            all.into_iter().map(move |(tags, end)| ((link, tags), end))
        })
    }

    /// The switches that tell VLANs apart, because they or an end of a link at them say so.
    pub(crate) fn tells_vlans_apart(&self) -> BTreeSet<&str> {
        let ends = self.links.iter().flat_map(|link| &link.ends);
        let by_port = ends.filter(|end| end.port.vlans.is_some());
        let by_port = by_port.map(|end| end.node.get_ref().as_str());
        let nodes = self.nodes.iter();
        let by_node = nodes.filter(|node| node.switch.config.vlans.is_some());
        by_port
            .chain(by_node.map(|node| node.name.get_ref().as_str()))
            .collect()
    }

    /// What a message about an unknown node ends with: the names of those that there are.
    pub(crate) fn expected_nodes(&self) -> String {
        let names = self.nodes.iter().take(12);
        let names: Vec<&str> = names.map(|n| n.name.get_ref().as_str()).collect();
        match self.nodes.len() {
            0 => "the topology has no nodes".to_owned(),
            1 => format!("expected {}", names[0]),
            n if n > 12 => format!("expected one of {}, … ({n} nodes)", names.join(", ")),
            _ => format!("expected one of {}", names.join(", ")),
        }
    }
}

/// One direction of one wire of a link: the link's number, that of the end which sends, and the wire's.
pub(crate) type Direction = (usize, usize, usize);

/// The directions of links that events can be about.
pub(crate) struct Directions<'a> {
    of_link: BTreeMap<&'a str, Vec<Direction>>,
    of_interface: BTreeMap<(&'a str, String), Vec<Direction>>,
}

impl<'a> Directions<'a> {
    pub(crate) fn of(topology: &'a Topology) -> Directions<'a> {
        let mut directions = Directions {
            of_link: BTreeMap::new(),
            of_interface: BTreeMap::new(),
        };
        for (number, link) in topology.links.iter().enumerate() {
            let mut all = Vec::new();
            for (end, near) in link.ends.iter().enumerate() {
                let (node, interface) = (near.node.get_ref().as_str(), near.interface.get_ref());
                let wires = Lagg::wires_of(link.lagg.as_ref(), interface);
                let one_way: Vec<Direction> = (0..wires.len()).map(|n| (number, end, n)).collect();
                for (wire, direction) in wires.into_iter().zip(&one_way) {
                    let place = (node, wire);
                    directions.of_interface.insert(place, vec![*direction]);
                }
                all.extend(&one_way);
                let place = (node, interface.clone());
                directions.of_interface.insert(place, one_way);
            }
            if let Some(name) = &link.name {
                directions.of_link.insert(name.get_ref(), all);
            }
        }
        directions
    }

    /// What `target` means.
    pub(crate) fn meant_by(&self, target: &EventTarget) -> Vec<Direction> {
        let meant = match target {
            EventTarget::Link(name) => self.of_link.get(name.as_str()),
            EventTarget::Interface(node, interface) => {
                self.of_interface.get(&(node.as_str(), interface.clone()))
            }
        };
        meant.cloned().unwrap_or_default()
    }
}

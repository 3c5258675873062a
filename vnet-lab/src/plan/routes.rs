//! `routing = "auto"`: shortest paths.
//!
//! The length of a path is the sum of its delays; of paths with equal delay the one with fewer
//! hops is shorter, then that through fewer switches, and of those the one over the link that comes
//! first in the file. Hosts do not forward, so no path leads through one. A route is added for each
//! prefix of each segment; a host whose only link leads to one router gets a default route instead.
//!
//! A switch is a place of the network once for each prefix behind it: what enters it with one
//! leaves with the same, since a gateway has to be in a prefix of its neighbour.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::ops::Add;

use ipnet::Ipv4Net;
use petgraph::algo::dijkstra;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::{EdgeFiltered, EdgeRef, Reversed};

use super::{Plan, PlannedLink, PlannedRoute};
use crate::topology::{NodeKind, Via};

/// An edge leads to a neighbour, whose address it has, or (without one) to a switch, or from a
/// vnet to a prefix it is on.
struct Step {
    gateway: Option<Ipv4Addr>,
    length: Length,
}

/// Length of a path: nanoseconds of delay, then hops, then switches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Length {
    delay_ns: u128,
    hops: u32,
    switches: u32,
}

impl Add for Length {
    type Output = Length;

    fn add(self, other: Length) -> Length {
        Length {
            delay_ns: self.delay_ns + other.delay_ns,
            hops: self.hops + other.hops,
            switches: self.switches + other.switches,
        }
    }
}

/// What a packet passes.
#[derive(Clone, Copy)]
enum Place {
    /// A host or router, by its number.
    Vnet(usize),
    /// A switch, as far as packets of one prefix are concerned.
    Switch,
    /// A prefix.
    Goal,
}

/// Vnets by their number, then switches, then at most one prefix.
type Network = DiGraph<Place, Step>;

/// Adds the routes that `plan` does not have yet.
pub(super) fn add_shortest_paths(plan: &mut Plan) {
    let written: Vec<usize> = plan.vnets.iter().map(|v| v.routes.len()).collect();
    let stations = stations(plan);
    let lone: Vec<Option<Ipv4Addr>> = (0..plan.vnets.len())
        .map(|n| only_gateway(plan, &stations, n))
        .collect();
    // A host with a default route asks for no way, and is on nobody's way but that to an address
    // which nobody else has in its prefix. Most of a large network are such hosts.
    let aside = |n: usize| lone[n].is_some() && !has_address_of_its_own(plan, n);
    let mut network = network(plan, aside);
    for (number, gateway) in lone.iter().enumerate() {
        if let Some(gateway) = gateway {
            add(plan, number, Ipv4Net::default(), *gateway, written[number]);
        }
    }
    for (prefix, attached) in prefixes(plan) {
        let goal = network.add_node(Place::Goal);
        for &vnet in &attached {
            let arrive = Step {
                gateway: None,
                length: Length::default(),
            };
            network.add_edge(NodeIndex::new(vnet), goal, arrive);
        }
        // A host stands for its own address only, not for others on its links.
        let own = if prefix.prefix_len() == 32 {
            &attached[..]
        } else {
            &[]
        };
        let open = |vnet: usize| plan.vnets[vnet].kind == NodeKind::Router || own.contains(&vnet);
        let hops = next_hops(&network, goal, open);
        for (number, gateway) in hops {
            if lone[number].is_none() {
                add(plan, number, prefix, gateway, written[number]);
            }
        }
        // It is the newest, so the others keep their numbers.
        network.remove_node(goal);
    }
}

/// The vnets and the steps between those that are not left `aside`.
fn network(plan: &Plan, aside: impl Fn(usize) -> bool) -> Network {
    let mut network = Network::new();
    for number in 0..plan.vnets.len() {
        network.add_node(Place::Vnet(number));
    }
    let mut switches: BTreeMap<(usize, Ipv4Net), NodeIndex> = BTreeMap::new();
    let behind = behind(plan);
    let open = |link: &&PlannedLink| !link.ends.iter().any(|(vnet, _)| aside(*vnet));
    for link in plan.links.iter().filter(open) {
        let [a, b] = link.ends.map(|end| plan.vnets[end.0].kind.is_bridge());
        if !a && !b {
            join(plan, &mut network, link);
            continue;
        }
        let prefixes = link.segments.iter().filter_map(|segment| {
            let prefixes = behind.get(segment)?;
            Some(prefixes.iter().map(move |prefix| (*segment, prefix)))
        });
        for (segment, prefix) in prefixes.flatten() {
            let ends = link.ends.map(|end| {
                let is_switch = plan.vnets[end.0].kind.is_bridge();
                let station = || {
                    let mut own = plan.with_vlans(end);
                    let own = own.find(|end| plan.interface(*end).segment == segment)?;
                    let address = address_in(plan, own, *prefix)?;
                    Some((NodeIndex::new(end.0), Some(address)))
                };
                match is_switch {
                    true => {
                        let place = switches.entry((end.0, *prefix));
                        let place = place.or_insert_with(|| network.add_node(Place::Switch));
                        Some((*place, None))
                    }
                    false => station(),
                }
            });
            let [Some(a), Some(b)] = ends else { continue };
            for (near, from, (to, gateway)) in [(0, a.0, b), (1, b.0, a)] {
                let length = Length {
                    delay_ns: link.outgoing[near].delay.as_nanos(),
                    hops: u32::from(gateway.is_some()),
                    switches: u32::from(gateway.is_none()),
                };
                network.add_edge(from, to, Step { gateway, length });
            }
        }
    }
    network
}

/// Adds a link between two vnets with addresses, and its VLANs.
fn join(plan: &Plan, network: &mut Network, link: &PlannedLink) {
    for near in plan.with_vlans(link.ends[0]) {
        let segment = |end| plan.interface(end).segment;
        let mut others = plan.with_vlans(link.ends[1]);
        if let Some(far) = others.find(|far| segment(*far) == segment(near)) {
            join_ends(plan, network, link, [near, far]);
        }
    }
}

fn join_ends(plan: &Plan, network: &mut Network, link: &PlannedLink, ends: [(usize, usize); 2]) {
    for (near, far) in [(0, 1), (1, 0)] {
        let Some(gateway) = gateway(plan, ends[near], ends[far]) else {
            continue;
        };
        let step = Step {
            gateway: Some(gateway),
            length: Length {
                delay_ns: link.outgoing[near].delay.as_nanos(),
                hops: 1,
                switches: 0,
            },
        };
        let (from, to) = (ends[near].0, ends[far].0);
        network.add_edge(NodeIndex::new(from), NodeIndex::new(to), step);
    }
}

/// The prefixes of each segment.
fn behind(plan: &Plan) -> BTreeMap<usize, BTreeSet<Ipv4Net>> {
    let mut behind: BTreeMap<usize, BTreeSet<Ipv4Net>> = BTreeMap::new();
    for interface in plan.vnets.iter().flat_map(|v| &v.interfaces) {
        let prefixes = behind.entry(interface.segment).or_default();
        prefixes.extend(interface.addresses.iter().map(Ipv4Net::trunc));
    }
    behind
}

/// The first address of an end in a prefix.
fn address_in(plan: &Plan, end: (usize, usize), prefix: Ipv4Net) -> Option<Ipv4Addr> {
    let mut addresses = plan.interface(end).addresses.iter();
    let found = addresses.find(|net| net.trunc() == prefix)?;
    Some(found.addr())
}

/// Each prefix and the vnets that are on it.
fn prefixes(plan: &Plan) -> BTreeMap<Ipv4Net, Vec<usize>> {
    let mut prefixes: BTreeMap<Ipv4Net, Vec<usize>> = BTreeMap::new();
    for (number, vnet) in plan.vnets.iter().enumerate() {
        for net in vnet.interfaces.iter().flat_map(|i| &i.addresses) {
            let at = prefixes.entry(net.trunc()).or_default();
            if !at.contains(&number) {
                at.push(number);
            }
        }
    }
    prefixes
}

/// For each vnet that is not on the prefix itself, the gateway on the shortest path to `goal`
/// through vnets that are `open`.
fn next_hops(
    network: &Network,
    goal: NodeIndex,
    open: impl Fn(usize) -> bool,
) -> Vec<(usize, Ipv4Addr)> {
    let passable = |target: NodeIndex| match network[target] {
        Place::Vnet(number) => open(number),
        Place::Switch | Place::Goal => true,
    };
    let passes = EdgeFiltered::from_fn(network, |edge| passable(edge.target()));
    let rest = dijkstra(Reversed(&passes), goal, None, |edge| edge.weight().length);
    let next = |place: NodeIndex| {
        let steps = network.edges(place).filter(|edge| passable(edge.target()));
        let lengths = steps.filter_map(|edge| {
            let length = edge.weight().length + *rest.get(&edge.target())?;
            Some(((length, edge.id()), edge))
        });
        lengths
            .min_by_key(|(length, _)| *length)
            .map(|(_, edge)| edge)
    };
    let mut hops = Vec::new();
    for place in network.node_indices() {
        let Place::Vnet(number) = network[place] else {
            continue;
        };
        let mut step = next(place);
        // Each switch on the way is nearer to the goal than the one before.
        while let Some(edge) = step
            && let Place::Switch = network[edge.target()]
        {
            step = next(edge.target());
        }
        // The step into the prefix itself has no gateway.
        if let Some(gateway) = step.and_then(|edge| edge.weight().gateway) {
            hops.push((number, gateway));
        }
    }
    hops
}

/// The first address of `far` in a prefix that `near` is in as well.
fn gateway(plan: &Plan, near: (usize, usize), far: (usize, usize)) -> Option<Ipv4Addr> {
    let near = &plan.vnets[near.0].interfaces[near.1].addresses;
    let far = &plan.vnets[far.0].interfaces[far.1].addresses;
    let shared = |net: &&Ipv4Net| near.iter().any(|n| n.trunc() == net.trunc());
    far.iter().find(shared).map(|net| net.addr())
}

/// The gateway of a host that has one link, which leads to one router.
fn only_gateway(plan: &Plan, stations: &Stations, number: usize) -> Option<Ipv4Addr> {
    let vnet = &plan.vnets[number];
    let (NodeKind::Host, [interface]) = (vnet.kind, &vnet.interfaces[..]) else {
        return None;
    };
    let there = stations.get(&interface.segment)?.iter();
    let mut routers = there.filter(|end| plan.vnets[end.0].kind == NodeKind::Router);
    let (Some(router), None) = (routers.next(), routers.next()) else {
        return None;
    };
    gateway(plan, (number, 0), *router)
}

/// The ends on each segment that are no switches.
type Stations = BTreeMap<usize, Vec<(usize, usize)>>;

fn stations(plan: &Plan) -> Stations {
    let mut stations = Stations::new();
    let with_address = |end: &(usize, usize)| !plan.vnets[end.0].kind.is_bridge();
    let ends = plan.links.iter().flat_map(|link| link.ends);
    for end in ends
        .filter(with_address)
        .flat_map(|end| plan.with_vlans(end))
    {
        let segment = plan.interface(end).segment;
        stations.entry(segment).or_default().push(end);
    }
    stations
}

/// True when the vnet has an address with a prefix of 32 bits.
fn has_address_of_its_own(plan: &Plan, number: usize) -> bool {
    let mut nets = plan.vnets[number]
        .interfaces
        .iter()
        .flat_map(|i| &i.addresses);
    nets.any(|net| net.prefix_len() == 32)
}

/// Adds a route unless one of the first `written`, which the file gives, is to the same prefix.
fn add(plan: &mut Plan, vnet: usize, destination: Ipv4Net, gateway: Ipv4Addr, written: usize) {
    let routes = &mut plan.vnets[vnet].routes;
    if !routes[..written]
        .iter()
        .any(|r| r.destination == destination)
    {
        routes.push(PlannedRoute {
            destination,
            via: Via::Gateway(gateway),
        });
    }
}

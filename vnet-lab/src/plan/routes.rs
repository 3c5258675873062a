//! `routing = "auto"`: shortest paths.
//!
//! The length of a path is the sum of its delays; of paths with equal delay the one with fewer
//! hops is shorter, then that through fewer switches, and of those the one over the link that comes
//! first in the file. Hosts do not forward, so no path leads through one. The prefix of each segment is routed, neighbouring
//! ones with one way [together](super::aggregate); a host whose only link leads to one router gets a default route
//! instead. Each family has its own paths: a way of one may lead through routers that do not speak the other.
//!
//! A switch is a place of the network once for each prefix behind it: what enters it with one
//! leaves with the same, since a gateway has to be in a prefix of its neighbour.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Add;

use ipnet::IpNet;
use petgraph::algo::dijkstra;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::{EdgeFiltered, EdgeRef, Reversed};

use super::aggregate::{Blocks, Gateway};
use super::{Plan, PlannedInterface, PlannedLink, PlannedRoute};
use crate::family::{Family, is_link_local, stands_alone};
use crate::topology::{NodeKind, Via};

/// An edge leads to a neighbour, whose address it has, or (without one) to a switch, or from a
/// vnet to a prefix it is on.
struct Step {
    gateway: Option<IpAddr>,
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
    for family in Family::ALL {
        add_of_family(plan, family, &stations, &written);
    }
}

/// The same of one family. The first `written` of the routes of each vnet are those of the file.
fn add_of_family(plan: &mut Plan, family: Family, stations: &Stations, written: &[usize]) {
    let prefixes = prefixes(plan, family);
    if prefixes.is_empty() {
        return;
    }
    let lone: Vec<Option<IpAddr>> = (0..plan.vnets.len())
        .map(|n| only_gateway(plan, family, stations, n))
        .collect();
    // A host with a default route asks for no way, and is on nobody's way but that to an address
    // which nobody else has in its prefix. Most of a large network are such hosts.
    let aside = |n: usize| lone[n].is_some() && !has_address_of_its_own(plan, family, n);
    let mut network = network(plan, family, aside);
    for (number, gateway) in lone.iter().enumerate() {
        if let Some(gateway) = gateway {
            let everything = family.everything();
            add(plan, number, everything, *gateway, written[number]);
        }
    }
    let asks = |n: &usize| lone[*n].is_none() && !plan.vnets[*n].kind.is_bridge();
    let askers: Vec<usize> = (0..plan.vnets.len()).filter(asks).collect();
    // What leads to one of two prefixes at the same places leads to the other.
    let mut gateways = Gateways::default();
    let mut known: BTreeMap<Vec<usize>, Vec<Gateway>> = BTreeMap::new();
    let doors = prefixes.iter().map(|(prefix, attached)| {
        // A host stands for its own address only, not for others on its links.
        let is_own = stands_alone(*prefix);
        let is_open = |n: &&usize| is_own || plan.vnets[**n].kind == NodeKind::Router;
        attached.iter().filter(is_open).copied().collect()
    });
    let doors: Vec<Vec<usize>> = doors.collect();
    for doors in &doors {
        if !known.contains_key(doors) {
            let hops = next_hops(plan, &mut network, doors, &askers);
            let hops = hops
                .into_iter()
                .map(|hop| hop.map(|to| gateways.number(to)));
            known.insert(doors.clone(), hops.collect());
        }
    }
    let ways: Vec<&[Gateway]> = doors.iter().map(|doors| &known[doors][..]).collect();
    let nets: Vec<IpNet> = prefixes.iter().map(|(prefix, _)| *prefix).collect();
    let routers = plan.vnets.iter().zip(written);
    let routers = routers.filter(|(vnet, _)| vnet.kind == NodeKind::Router);
    let anywhere = routers.flat_map(|(vnet, written)| &vnet.routes[..*written]);
    let anywhere = anywhere.map(|route| route.destination);
    let anywhere: BTreeSet<IpNet> = anywhere
        .filter(|net| Family::of(net.addr()) == family)
        .collect();
    let anywhere: Vec<IpNet> = anywhere.into_iter().collect();
    let blocks = Blocks::of(&nets, &anywhere);
    for (rank, number) in askers.into_iter().enumerate() {
        let routes = &mut plan.vnets[number].routes;
        let of_file = routes[..written[number]].iter().map(|r| r.destination);
        let of_file: Vec<IpNet> = of_file
            .filter(|net| Family::of(net.addr()) == family)
            .collect();
        let gateway = |n: usize| {
            let (prefix, attached) = &prefixes[n];
            let is_known = attached.binary_search(&number).is_ok() || of_file.contains(prefix);
            ways[n][rank].filter(|_| !is_known)
        };
        let found = blocks.routes(gateway, &of_file);
        routes.extend(found.into_iter().map(|(destination, to)| PlannedRoute {
            destination,
            via: Via::Gateway(gateways.all[to as usize]),
            metric: 0,
        }));
    }
}

/// Numbers for the addresses of gateways.
#[derive(Default)]
struct Gateways {
    numbers: BTreeMap<IpAddr, u32>,
    all: Vec<IpAddr>,
}

impl Gateways {
    fn number(&mut self, gateway: IpAddr) -> u32 {
        *self.numbers.entry(gateway).or_insert_with(|| {
            self.all.push(gateway);
            (self.all.len() - 1) as u32
        })
    }
}

/// The vnets, and the steps that a family has between those that are not left `aside`.
fn network(plan: &Plan, family: Family, aside: impl Fn(usize) -> bool) -> Network {
    let mut network = Network::new();
    for number in 0..plan.vnets.len() {
        network.add_node(Place::Vnet(number));
    }
    let mut switches: BTreeMap<(usize, IpNet), NodeIndex> = BTreeMap::new();
    let behind = behind(plan, family);
    let open = |link: &&PlannedLink| !link.ends.iter().any(|(vnet, _)| aside(*vnet));
    for link in plan.links.iter().filter(open) {
        let [a, b] = link.ends.map(|end| plan.vnets[end.0].kind.is_bridge());
        if !a && !b {
            join(plan, family, &mut network, link);
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
fn join(plan: &Plan, family: Family, network: &mut Network, link: &PlannedLink) {
    for near in plan.with_vlans(link.ends[0]) {
        let segment = |end| plan.interface(end).segment;
        let mut others = plan.with_vlans(link.ends[1]);
        if let Some(far) = others.find(|far| segment(*far) == segment(near)) {
            let gateways = [(near, far), (far, near)].map(|(a, b)| gateway(plan, family, a, b));
            join_ends(network, link, [near.0, far.0], gateways);
        }
    }
}

/// Adds the steps between two vnets: from each to the gateway that it has in the other.
fn join_ends(
    network: &mut Network,
    link: &PlannedLink,
    vnets: [usize; 2],
    gateways: [Option<IpAddr>; 2],
) {
    for (near, far) in [(0, 1), (1, 0)] {
        let Some(gateway) = gateways[near] else {
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
        let [from, to] = [near, far].map(|end| NodeIndex::new(vnets[end]));
        network.add_edge(from, to, step);
    }
}

/// The prefixes of an interface that routes lead to: those of a family, but for what means something on its link only.
fn routed(interface: &PlannedInterface, family: Family) -> impl Iterator<Item = IpNet> {
    let nets = interface.addresses.iter();
    let routed =
        nets.filter(move |net| Family::of(net.addr()) == family && !is_link_local(net.addr()));
    routed.map(IpNet::trunc)
}

/// The prefixes of each segment.
fn behind(plan: &Plan, family: Family) -> BTreeMap<usize, BTreeSet<IpNet>> {
    let mut behind: BTreeMap<usize, BTreeSet<IpNet>> = BTreeMap::new();
    for interface in plan.vnets.iter().flat_map(|v| &v.interfaces) {
        let prefixes = behind.entry(interface.segment).or_default();
        prefixes.extend(routed(interface, family));
    }
    behind
}

/// The first address of an end in a prefix.
fn address_in(plan: &Plan, end: (usize, usize), prefix: IpNet) -> Option<IpAddr> {
    let mut addresses = plan.interface(end).addresses.iter();
    let found = addresses.find(|net| net.trunc() == prefix)?;
    Some(found.addr())
}

/// Each prefix and the vnets that are on it, both in their order.
fn prefixes(plan: &Plan, family: Family) -> Vec<(IpNet, Vec<usize>)> {
    let mut prefixes: BTreeMap<IpNet, Vec<usize>> = BTreeMap::new();
    for (number, vnet) in plan.vnets.iter().enumerate() {
        for prefix in vnet.interfaces.iter().flat_map(|i| routed(i, family)) {
            let at = prefixes.entry(prefix).or_default();
            if at.last() != Some(&number) {
                at.push(number);
            }
        }
    }
    let mut prefixes: Vec<_> = prefixes.into_iter().collect();
    prefixes.sort_by_key(|(prefix, _)| (prefix.network(), prefix.prefix_len()));
    prefixes
}

/// For each of the vnets that ask, the gateway on the shortest path to a place that the vnets at its `doors` are at; none for
/// those that are there themselves, or that no path leads from.
fn next_hops(
    plan: &Plan,
    network: &mut Network,
    doors: &[usize],
    askers: &[usize],
) -> Vec<Option<IpAddr>> {
    let goal = network.add_node(Place::Goal);
    for &vnet in doors {
        let arrive = Step {
            gateway: None,
            length: Length::default(),
        };
        network.add_edge(NodeIndex::new(vnet), goal, arrive);
    }
    let passable = |target: NodeIndex| match network[target] {
        Place::Vnet(number) => {
            plan.vnets[number].kind == NodeKind::Router || doors.binary_search(&number).is_ok()
        }
        Place::Switch | Place::Goal => true,
    };
    let passes = EdgeFiltered::from_fn(&*network, |edge| passable(edge.target()));
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
    let hop = |number: &usize| {
        let mut step = next(NodeIndex::new(*number));
        // Each switch on the way is nearer to the goal than the one before.
        while let Some(edge) = step
            && let Place::Switch = network[edge.target()]
        {
            step = next(edge.target());
        }
        // The step into the prefix itself has no gateway.
        step.and_then(|edge| edge.weight().gateway)
    };
    let hops = askers.iter().map(hop).collect();
    // It is the newest, so the others keep their numbers.
    network.remove_node(goal);
    hops
}

/// The first address of `far` in a prefix that `near` is in as well.
fn gateway(
    plan: &Plan,
    family: Family,
    near: (usize, usize),
    far: (usize, usize),
) -> Option<IpAddr> {
    let near: BTreeSet<IpNet> = routed(plan.interface(near), family).collect();
    let mut far = plan.interface(far).addresses.iter();
    far.find(|net| near.contains(&net.trunc())).map(IpNet::addr)
}

/// The gateway of a host that has one link, which leads to one router.
fn only_gateway(plan: &Plan, family: Family, stations: &Stations, number: usize) -> Option<IpAddr> {
    let vnet = &plan.vnets[number];
    let (NodeKind::Host, [interface]) = (vnet.kind, &vnet.interfaces[..]) else {
        return None;
    };
    let there = stations.get(&interface.segment)?.iter();
    let mut routers = there.filter(|end| plan.vnets[end.0].kind == NodeKind::Router);
    let (Some(router), None) = (routers.next(), routers.next()) else {
        return None;
    };
    gateway(plan, family, (number, 0), *router)
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

/// True when the vnet has an address without others in its prefix.
fn has_address_of_its_own(plan: &Plan, family: Family, number: usize) -> bool {
    let interfaces = plan.vnets[number].interfaces.iter();
    let mut nets = interfaces.flat_map(|i| routed(i, family));
    nets.any(stands_alone)
}

/// Adds a route unless one of the first `written`, which the file gives, is to the same prefix.
fn add(plan: &mut Plan, vnet: usize, destination: IpNet, gateway: IpAddr, written: usize) {
    let routes = &mut plan.vnets[vnet].routes;
    if !routes[..written]
        .iter()
        .any(|r| r.destination == destination)
    {
        routes.push(PlannedRoute {
            destination,
            via: Via::Gateway(gateway),
            metric: 0,
        });
    }
}

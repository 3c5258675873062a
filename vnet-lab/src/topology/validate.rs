//! What no single table can know: that names are unique and mean something, and that addresses
//! fit together. Ends, links and jobs are all looked at, whatever is wrong with the others.

mod switches;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use ipnet::IpNet;
use toml::Spanned;
use vnet::MacAddr;

use super::segments::Segments;
use super::{
    Directions, Door, End, EventTarget, Lagg, Link, Node, NodeKind, Strand, Topology, Via,
};
use crate::family::{Family, is_link_local, stands_alone};
use crate::file::name::{Target, interface_name};
use crate::file::source::{Problems, Span};
use crate::job::Task;
use crate::job::input::Content;

/// What names and addresses there are, to be looked up.
struct Known<'a> {
    topology: &'a Topology,
    nodes: BTreeMap<&'a str, usize>,
    interfaces: BTreeSet<(&'a str, &'a str)>,
    addresses: BTreeSet<IpAddr>,
    /// Some of the nodes, for messages.
    expected_nodes: String,
}

impl<'a> Known<'a> {
    fn of(topology: &'a Topology) -> Known<'a> {
        let names = topology.nodes.iter().map(|n| n.name.get_ref().as_str());
        let nets = topology.ends().flat_map(|(_, end)| &end.addresses);
        let interface = |(_, end): (Strand, &'a End)| {
            (
                end.node.get_ref().as_str(),
                end.interface.get_ref().as_str(),
            )
        };
        Known {
            topology,
            nodes: names.zip(0..).collect(),
            interfaces: topology.ends().map(interface).collect(),
            addresses: nets.map(|net| net.get_ref().addr()).collect(),
            expected_nodes: topology.expected_nodes(),
        }
    }

    fn node(&self, name: &str) -> Option<&'a Node> {
        self.nodes.get(name).map(|at| &self.topology.nodes[*at])
    }
}

/// Checks nodes, links and routes.
pub(crate) fn network(topology: &Topology, problems: &mut Problems<'_>) {
    node_names(topology, problems);
    let segments = Segments::of(topology);
    let known = Known::of(topology);
    for link in &topology.links {
        ends(&known, link, problems);
        prefixes(&known, link, problems);
    }
    lans(&known, &segments, problems);
    switches::check(topology, &segments, problems);
    interfaces(topology, problems);
    addresses(topology, &segments, problems);
    mtus(topology, problems);
    adverts(&known, problems);
    overlaps(topology, &segments, problems);
    routes(topology, problems);
    events(topology, problems);
    doors(topology, problems);
}

/// Two doors cannot be at one place.
fn doors(topology: &Topology, problems: &mut Problems<'_>) {
    let mut places = BTreeSet::new();
    for attach in &topology.attach {
        let place = match &attach.door {
            // Each gets a number of its own.
            Door::Tap(tap) if tap.name.contains("%d") => continue,
            Door::Tap(tap) => (tap.netns.as_deref(), tap.name.as_str()),
            Door::Nic(nic) => (None, nic.name.as_str()),
            Door::Socket { place, .. } if place.ends_with(":0") => continue,
            Door::Socket { place, .. } => (Some(Path::new("")), place.as_str()),
        };
        if !places.insert(place) {
            let message = format!(
                "duplicate name: something else is attached at `{}`",
                place.1
            );
            problems.push(attach.place.clone(), message);
        }
    }
}

/// Checks that names of links are unique, and that events are about links.
fn events(topology: &Topology, problems: &mut Problems<'_>) {
    let mut names = BTreeSet::new();
    for name in topology.links.iter().filter_map(|l| l.name.as_ref()) {
        if !names.insert(name.get_ref().as_str()) {
            let name_text = name.get_ref();
            let message = format!("duplicate name: there already is a link `{name_text}`");
            problems.push(name.span(), message);
        }
    }
    let directions = Directions::of(topology);
    let known: Vec<&str> = names.iter().copied().take(12).collect();
    let known = match names.len() {
        0 => "no link has a name".to_owned(),
        n if n > known.len() => format!("links with a name are {}, … ({n})", known.join(", ")),
        _ => format!("links with a name are {}", known.join(", ")),
    };
    for event in &topology.events {
        if !directions.meant_by(event.target.get_ref()).is_empty() {
            continue;
        }
        let message = match event.target.get_ref() {
            EventTarget::Link(name) => {
                format!("unknown link `{name}`: {known}; a direction is \"NODE:INTERFACE\"")
            }
            EventTarget::Interface(node, interface) => {
                format!("no link has an end `{node}:{interface}`")
            }
        };
        problems.push(event.target.span(), message);
    }
}

/// What standard input is used for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stdin {
    Free,
    /// The topology is read from it.
    Topology,
    /// A job sends it.
    Job,
}

/// Checks jobs, as far as that is possible without knowing the way packets take.
pub(crate) fn jobs(
    topology: &Topology,
    here: &Path,
    mut stdin: Stdin,
    problems: &mut Problems<'_>,
) {
    let known = Known::of(topology);
    for job in &topology.jobs {
        match known.node(job.from.get_ref()) {
            None => unknown_node(&known, job.from.get_ref(), job.from.span(), problems),
            Some(node) => no_bridge(node, job.from.span(), problems),
        }
        target(&known, &job.to, problems);
        if let (Target::Address(address), Some(family)) = (job.to.get_ref(), job.family)
            && Family::of(*address) != family
        {
            let family = family.as_str();
            let message =
                format!("expected an address of {family}, as `family` says, found {address}");
            problems.push(job.to.span(), message);
        }
        for node in job.task.nodes() {
            target(&known, node, problems);
        }
        let Task::Transfer(transfer) = &job.task else {
            continue;
        };
        match &transfer.content {
            Content::Generated(_) => {}
            Content::File(file) => {
                let path = here.join(file.get_ref());
                if let Some(why) = unreadable(&path) {
                    problems.push(
                        file.span(),
                        format!("expected a file at {}: {why}", path.display()),
                    );
                }
            }
            Content::Stdin(place) => {
                let message = match stdin {
                    Stdin::Free => {
                        stdin = Stdin::Job;
                        continue;
                    }
                    Stdin::Topology => "the topology is read from standard input: expected a file",
                    Stdin::Job => "standard input is sent by another job already: expected a file",
                };
                problems.push(place.clone(), message);
            }
        }
    }
}

/// Why nothing can be read from there, if nothing can. What is no regular file is left closed: opening
/// a FIFO waits for a writer.
fn unreadable(path: &Path) -> Option<String> {
    match fs::metadata(path) {
        Err(error) => Some(error.to_string()),
        Ok(file) if file.is_dir() => Some("it is a directory".to_owned()),
        Ok(file) if file.is_file() => File::open(path).err().map(|e| e.to_string()),
        Ok(_) => None,
    }
}

fn node_names(topology: &Topology, problems: &mut Problems<'_>) {
    let mut seen = BTreeSet::new();
    for node in &topology.nodes {
        let name = node.name.get_ref();
        if !seen.insert(name.as_str()) {
            problems.push(
                node.name.span(),
                format!("duplicate name: there already is a node `{name}`"),
            );
        }
    }
}

fn unknown_node(known: &Known<'_>, name: &str, place: Span, problems: &mut Problems<'_>) {
    problems.push(
        place,
        format!("there is no node `{name}`: {}", known.expected_nodes),
    );
}

fn ends(known: &Known<'_>, link: &Link, problems: &mut Problems<'_>) {
    for end in &link.ends {
        if known.node(end.node.get_ref()).is_none() {
            problems.push(
                end.node.span(),
                format!(
                    "link to nowhere: there is no node `{}`: {}",
                    end.node.get_ref(),
                    known.expected_nodes
                ),
            );
        }
    }
    let [a, b] = &link.ends;
    if a.node == b.node {
        problems.push(
            b.node.span(),
            format!(
                "both ends of the link are at `{}`: expected another node",
                b.node.get_ref()
            ),
        );
    }
}

/// Each address must have a partner in its prefix at the other end. A /32 or /128 needs none, nor do ends
/// that have a route to the link, and so say that they mean it.
fn prefixes(known: &Known<'_>, link: &Link, problems: &mut Problems<'_>) {
    let [a, b] = &link.ends;
    with_vlans(known, [a, b], problems);
}

fn with_vlans(known: &Known<'_>, [a, b]: [&End; 2], problems: &mut Problems<'_>) {
    partners(known, [a, b], problems);
    for (vlan, above) in &a.vlans {
        if let Some((_, far)) = b.vlans.iter().find(|(other, _)| other == vlan) {
            with_vlans(known, [above, far], problems);
        }
    }
}

fn partners(known: &Known<'_>, [a, b]: [&End; 2], problems: &mut Problems<'_>) {
    if a.addresses.is_empty() || b.addresses.is_empty() {
        return;
    }
    if routes_to_link(known, a) || routes_to_link(known, b) {
        return;
    }
    let alone = |end: &End, other: &End| -> Vec<Spanned<IpNet>> {
        let paired = |net: &IpNet| {
            let mut others = other.addresses.iter();
            others.any(|o| o.get_ref().trunc() == net.trunc())
        };
        let alone =
            |net: &&Spanned<IpNet>| needs_partner(end, net.get_ref()) && !paired(net.get_ref());
        end.addresses.iter().filter(alone).cloned().collect()
    };
    let outside = |net: &Spanned<IpNet>, other: &End, problems: &mut Problems<'_>| {
        let family = Family::of(net.get_ref().addr());
        let theirs = other.addresses.iter().map(|o| o.get_ref().trunc());
        let theirs = theirs.filter(|o| Family::of(o.addr()) == family);
        let theirs: Vec<String> = theirs.map(|o| o.to_string()).collect();
        let (net_text, other) = (net.get_ref(), other.node.get_ref());
        let what = match theirs.is_empty() {
            true => format!(
                "the other end at `{other}` has no {} address",
                family.as_str()
            ),
            false => format!(
                "{net_text} is not in {} as the other end at `{other}` is",
                theirs.join(" or ")
            ),
        };
        problems.push(net.span(), format!("address outside its prefix: {what}"));
    };
    let (alone_a, alone_b) = (alone(a, b), alone(b, a));
    for net in &alone_b {
        outside(net, a, problems);
    }
    if alone_b.is_empty() {
        for net in &alone_a {
            outside(net, b, problems);
        }
    }
}

/// True when the node at an end has a route to the end's link that does not need a prefix there.
fn routes_to_link(known: &Known<'_>, end: &End) -> bool {
    let node = known.node(end.node.get_ref());
    let mut routes = node.into_iter().flat_map(|node| &node.routes);
    routes.any(|route| match &route.get_ref().via {
        Via::Interface(name) | Via::OnLink(_, name) => *name == *end.interface.get_ref(),
        Via::Gateway(_) | Via::Nowhere(_) => false,
    })
}

/// Of the addresses on one segment with switches, each must have a partner in its prefix. A /32 or /128
/// needs none, nor does any when somebody there has a route to the segment.
fn lans(known: &Known<'_>, segments: &Segments, problems: &mut Problems<'_>) {
    let mut lans: BTreeMap<usize, Vec<(usize, &End)>> = BTreeMap::new();
    for (strand, end) in known.topology.ends() {
        lans.entry(segments.of_strand(&strand))
            .or_default()
            .push((strand.0, end));
    }
    // Those behind a door to the outside may be in any prefix.
    for attach in &known.topology.attach {
        let is_door = |link: &Link| link.ends.iter().any(|end| end.node == attach.node);
        let doors = known.topology.links.iter().enumerate();
        for (number, _) in doors.filter(|(_, link)| is_door(link)) {
            for segment in segments.of_link(number) {
                lans.remove(&segment);
            }
        }
    }
    // A segment of one link has been looked at.
    lans.retain(|_, ends| ends.iter().any(|(link, _)| *link != ends[0].0));
    lans.retain(|_, ends| !ends.iter().any(|(_, end)| routes_to_link(known, end)));
    for ends in lans.values() {
        let mut partners: BTreeMap<IpNet, BTreeSet<(&str, &str)>> = BTreeMap::new();
        let nets = ends
            .iter()
            .flat_map(|(_, end)| end.addresses.iter().map(move |net| (*end, net)));
        let nets: Vec<(&End, &Spanned<IpNet>)> = nets
            .filter(|(end, net)| needs_partner(end, net.get_ref()))
            .collect();
        for (end, net) in &nets {
            let place = (
                end.node.get_ref().as_str(),
                end.interface.get_ref().as_str(),
            );
            partners
                .entry(net.get_ref().trunc())
                .or_default()
                .insert(place);
        }
        let alone = nets
            .iter()
            .filter(|(_, net)| partners[&net.get_ref().trunc()].len() < 2);
        // The first is as right as any when all are alone.
        let all_alone = partners.values().all(|places| places.len() < 2);
        for (_, net) in alone.skip(usize::from(all_alone)) {
            let own = net.get_ref().trunc();
            let family = Family::of(own.addr());
            let others = partners.keys().filter(|prefix| **prefix != own);
            let others = others.filter(|prefix| Family::of(prefix.addr()) == family);
            let mut theirs: Vec<String> = others.map(IpNet::to_string).collect();
            if theirs.len() > 3 {
                theirs.truncate(3);
                theirs.push("others".to_owned());
            }
            let what = match theirs.is_empty() {
                true => format!(
                    "nobody else behind the same switch has an {} address",
                    family.as_str()
                ),
                false => format!(
                    "{} is not in {} as those behind the same switch are",
                    net.get_ref(),
                    theirs.join(" or "),
                ),
            };
            problems.push(net.span(), format!("address outside its prefix: {what}"));
        }
    }
}

/// Notes that a node is a switch or hub where one with an address is expected.
fn no_bridge(node: &Node, place: Span, problems: &mut Problems<'_>) {
    if node.kind.is_bridge() {
        let (name, kind) = (node.name.get_ref(), node.kind.as_str());
        problems.push(
            place,
            format!("`{name}` is a {kind} and has no address: expected a host or router"),
        );
    }
}

fn interfaces(topology: &Topology, problems: &mut Problems<'_>) {
    let mut names = BTreeSet::new();
    let mut macs: BTreeMap<MacAddr, &End> = BTreeMap::new();
    for ((link, tags), end) in topology.ends() {
        let (node, interface) = (end.node.get_ref(), end.interface.get_ref());
        let mut all = vec![interface.clone()];
        if let Some(lagg) = topology.links[link]
            .lagg
            .as_ref()
            .filter(|_| tags.is_empty())
        {
            all.extend(Lagg::wires_of(Some(lagg), interface));
            if let Some(long) = all.iter().find(|name| interface_name(name).is_err()) {
                problems.push(
                    end.interface.span(),
                    format!(
                        "the interface of a wire would be called `{long}`: expected a shorter name"
                    ),
                );
            }
        }
        for interface in all {
            if !names.insert((node, interface.clone())) {
                problems.push(
                    end.interface.span(),
                    format!("duplicate name: `{node}` already has an interface `{interface}`"),
                );
            }
        }
        let Some(mac) = &end.mac else { continue };
        match macs.get(mac.get_ref()) {
            Some(other) => problems.push(
                mac.span(),
                format!(
                    "duplicate MAC address: {} is already at {}:{}",
                    mac.get_ref(),
                    other.node.get_ref(),
                    other.interface.get_ref()
                ),
            ),
            None => {
                macs.insert(*mac.get_ref(), end);
            }
        }
    }
}

/// Only routers advertise themselves (RFC 4861 section 6.2.2).
fn adverts(known: &Known<'_>, problems: &mut Problems<'_>) {
    for (_, end) in known.topology.ends() {
        let node = known.node(end.node.get_ref());
        let host = node.filter(|node| node.kind != NodeKind::Router);
        if let (Some(host), Some(said)) = (host, &end.advertise) {
            let (name, kind) = (host.name.get_ref(), host.kind.as_str());
            let message = format!("only a router advertises itself: `{name}` is a {kind}");
            problems.push(said.span(), message);
        }
    }
}

fn addresses(topology: &Topology, segments: &Segments, problems: &mut Problems<'_>) {
    let mut owners: BTreeMap<(IpAddr, Option<usize>), &End> = BTreeMap::new();
    for (strand, end) in topology.ends() {
        for net in &end.addresses {
            let addr = net.get_ref().addr();
            let place = (
                addr,
                is_link_local(addr).then(|| segments.of_strand(&strand)),
            );
            if let Some(owner) = owners.get(&place) {
                problems.push(
                    net.span(),
                    format!(
                        "duplicate address: {addr} is already at {}:{}",
                        owner.node.get_ref(),
                        owner.interface.get_ref()
                    ),
                );
            } else {
                owners.insert(place, end);
            }
        }
    }
    for (strand, end) in topology.ends() {
        let mut own = BTreeSet::new();
        for addr in &end.anycast {
            let addr_text = addr.get_ref();
            let ip = IpAddr::from(*addr_text);
            let on = is_link_local(ip).then(|| segments.of_strand(&strand));
            let owner = owners.get(&(ip, on)).copied();
            let again = (!own.insert(ip)).then_some(end);
            if let Some(owner) = owner.or(again) {
                let (node, interface) = (owner.node.get_ref(), owner.interface.get_ref());
                let message =
                    format!("duplicate address: {addr_text} is already at {node}:{interface}");
                problems.push(addr.span(), message);
            }
        }
    }
}

/// An interface with an address of IPv6 sends packets of 1280 bytes whole (RFC 8200 section 5).
fn mtus(topology: &Topology, problems: &mut Problems<'_>) {
    for end in topology.links.iter().flat_map(|link| &link.ends) {
        mtus_of(end, u16::MAX, problems);
    }
}

/// The same of an end and the VLAN interfaces on it, where what it stands on carries `below`.
fn mtus_of(end: &End, below: u16, problems: &mut Problems<'_>) {
    let ip_mtu = end.ip_mtu.map_or(below, |own| own.min(below));
    let mut nets = end.addresses.iter();
    let net = nets.find(|net| net.get_ref().addr().is_ipv6());
    let place = net
        .map(Spanned::span)
        .or(end.anycast.first().map(Spanned::span));
    if let Some(place) = place.filter(|_| ip_mtu < IPV6_MIN_MTU) {
        problems.push(
            place,
            format!("IPv6 needs an `ip_mtu` of {IPV6_MIN_MTU} or more: it is {ip_mtu} here"),
        );
    }
    for (_, above) in &end.vlans {
        mtus_of(above, ip_mtu, problems);
    }
}

const IPV6_MIN_MTU: u16 = 1280;

/// Two segments may not have overlapping prefixes. Sorted by network, a prefix can only overlap the
/// widest one that began before it.
fn overlaps(topology: &Topology, segments: &Segments, problems: &mut Problems<'_>) {
    let mut prefixes: Vec<(IpNet, usize, Span, &End)> = Vec::new();
    for (strand, end) in topology.ends() {
        let segment = segments.of_strand(&strand);
        for net in end
            .addresses
            .iter()
            .filter(|n| needs_partner(end, n.get_ref()))
        {
            prefixes.push((net.get_ref().trunc(), segment, net.span(), end));
        }
    }
    prefixes
        .sort_by_key(|(net, link, span, _)| (net.network(), net.prefix_len(), *link, span.start));
    let mut said = BTreeSet::new();
    let mut widest: Option<&(IpNet, usize, Span, &End)> = None;
    for this in &prefixes {
        match widest {
            Some(wide) if wide.0.contains(&this.0) => {
                if wide.1 != this.1 && said.insert((wide.1, this.1)) {
                    // The one that comes later in the file is the one to change.
                    let (first, second) = match wide.2.start < this.2.start {
                        true => (wide, this),
                        false => (this, wide),
                    };
                    problems.push(
                        second.2.clone(),
                        format!(
                            "overlapping address: {} overlaps {} of the link at {}:{}",
                            second.0,
                            first.0,
                            first.3.node.get_ref(),
                            first.3.interface.get_ref()
                        ),
                    );
                }
            }
            _ => widest = Some(this),
        }
    }
}

/// True for an address that is for neighbours in its prefix, which is that of one segment. Every interface has
/// link-local addresses.
fn needs_partner(end: &End, net: &IpNet) -> bool {
    // Others may have an address of what a router advertises.
    let is_advertised = end.advertise.is_some() && net.addr().is_ipv6();
    !stands_alone(*net) && !is_link_local(net.addr()) && !is_advertised
}

/// The prefixes that every node is in.
const LOOPBACK: [IpNet; 2] = [
    IpNet::new_assert(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8),
    IpNet::new_assert(IpAddr::V6(Ipv6Addr::LOCALHOST), 128),
];

fn routes(topology: &Topology, problems: &mut Problems<'_>) {
    let mut ends: BTreeMap<&str, Vec<&End>> = BTreeMap::new();
    for (_, end) in topology.ends() {
        ends.entry(end.node.get_ref()).or_default().push(end);
    }
    for node in &topology.nodes {
        let name = node.name.get_ref();
        let own = ends.get(name.as_str()).map_or(&[][..], Vec::as_slice);
        let mut seen = BTreeSet::new();
        for route in &node.routes {
            let destination = route.get_ref().destination;
            let mut nets = own.iter().flat_map(|end| &end.addresses);
            // The library has a route to each prefix, and one to each address.
            let connected = nets.any(|net| {
                let net = net.get_ref();
                [net.trunc(), IpNet::from(net.addr())].contains(&destination)
            });
            let metric = route.get_ref().metric;
            if metric == 0 && (connected || LOOPBACK.contains(&destination)) {
                problems.push(
                    route.span(),
                    format!("duplicate route: `{name}` is in {destination} itself"),
                );
            }
            if !seen.insert((destination, metric)) {
                problems.push(
                    route.span(),
                    format!("duplicate route: `{name}` already has one to {destination}"),
                );
            }
            match &route.get_ref().via {
                Via::Interface(interface) | Via::OnLink(_, interface) => {
                    if !own.iter().any(|end| end.interface.get_ref() == interface) {
                        problems.push(
                            route.span(),
                            format!("`{name}` has no interface `{interface}`"),
                        );
                    }
                }
                Via::Nowhere(_) => {}
                Via::Gateway(gateway) => {
                    let mut nets = own.iter().flat_map(|end| &end.addresses);
                    let is_own = nets.clone().any(|n| n.get_ref().addr() == *gateway);
                    let connected = nets.any(|n| n.get_ref().contains(gateway));
                    let mut routes = node.routes.iter().map(Spanned::get_ref);
                    let by_route = routes.any(|r| {
                        matches!(r.via, Via::Interface(_)) && r.destination.contains(gateway)
                    });
                    if is_own || !(connected || by_route) {
                        problems.push(
                            route.span(),
                            format!("expected a gateway on a link of `{name}`, found {gateway}"),
                        );
                    }
                }
            }
        }
        let alone = node.kind != NodeKind::Host && own.is_empty();
        if alone && !topology.links.is_empty() {
            let kind = node.kind.as_str();
            problems.push(node.name.span(), format!("{kind} `{name}` has no link"));
        }
    }
}

fn target(known: &Known<'_>, to: &Spanned<Target>, problems: &mut Problems<'_>) {
    let (name, interface) = match to.get_ref() {
        Target::Node(name) => (name, None),
        Target::Interface(name, interface) => (name, Some(interface)),
        Target::Address(address) => {
            if is_link_local(*address) {
                let message = format!(
                    "expected an address that means the same on every link, found {address}, which is link-local"
                );
                problems.push(to.span(), message);
            } else if !known.addresses.contains(address) {
                problems.push(
                    to.span(),
                    format!("expected an address of a node, found {address}"),
                );
            }
            return;
        }
    };
    match (known.node(name), interface) {
        (None, _) => unknown_node(known, name, to.span(), problems),
        (Some(node), _) if node.kind.is_bridge() => no_bridge(node, to.span(), problems),
        (Some(_), Some(interface)) if !known.interfaces.contains(&(name, interface)) => {
            problems.push(
                to.span(),
                format!("`{name}` has no interface `{interface}`"),
            );
        }
        _ => {}
    }
}

//! What can be wrong with switches: what only they can have, and loops of them.

use std::collections::{BTreeMap, BTreeSet};

use toml::Spanned;
use vnet::{BridgeVlans, LaggMode, VlanLearning};

use super::super::segments::{Segments, member_vlans};
use super::super::switch::SHARED;
use super::super::{Node, NodeKind, Topology};
use crate::file::name::interface_name;
use crate::file::source::Problems;
use crate::topology::End;

/// Checks switches and their ports.
pub(super) fn check(topology: &Topology, segments: &Segments, problems: &mut Problems<'_>) {
    bridges(topology, segments, problems);
    spanning_trees(topology, problems);
    settings(topology, problems);
    ports(topology, problems);
    lacp(topology, problems);
    for end in topology.links.iter().flat_map(|link| &link.ends) {
        names(end, problems);
    }
}

/// Ends have a part in LACP where the wires are agreed on by it, and somebody has to begin.
fn lacp(topology: &Topology, problems: &mut Problems<'_>) {
    for link in &topology.links {
        let mode = link.lagg.map(|lagg| lagg.config.mode);
        let said = || link.ends.iter().filter_map(|end| end.lacp.as_ref());
        if mode != Some(LaggMode::LacpActive) {
            for lacp in said() {
                let message = "the link does not use LACP: expected `lagg` with mode \"lacp\"";
                problems.push(lacp.span(), message);
            }
        } else if let Some(last) = said().next_back()
            && said().filter(|lacp| lacp.get_ref().passive).count() == 2
        {
            let message = "both ends wait for the other to begin: expected one that is not passive";
            problems.push(last.span(), message);
        }
    }
}

/// Switches and hubs have no addresses and no routes, and are joined as a tree unless they find one.
fn bridges(topology: &Topology, segments: &Segments, problems: &mut Problems<'_>) {
    let kinds: BTreeMap<&str, NodeKind> = topology
        .nodes
        .iter()
        .filter(|n| n.kind.is_bridge())
        .map(|n| (n.name.get_ref().as_str(), n.kind))
        .collect();
    for (_, end) in topology.ends() {
        let Some(kind) = kinds.get(end.node.get_ref().as_str()) else {
            continue;
        };
        let (node, kind) = (end.node.get_ref(), kind.as_str());
        let net = end.addresses.first();
        let net = net.map(|net| (net.span(), net.get_ref().to_string()));
        let anycast = end.anycast.first();
        let anycast = || anycast.map(|addr| (addr.span(), addr.get_ref().to_string()));
        if let Some((place, found)) = net.or_else(anycast) {
            let message =
                format!("`{node}` is a {kind} and has no address: expected none, found {found}");
            problems.push(place, message);
        }
    }
    for node in topology.nodes.iter().filter(|n| n.kind.is_bridge()) {
        if let Some(route) = node.routes.first() {
            let (name, kind) = (node.name.get_ref(), node.kind.as_str());
            problems.push(
                route.span(),
                format!("`{name}` is a {kind} and has no routes"),
            );
        }
    }
    if let Some(link) = segments.excess() {
        let place = topology.links[link].ends[0].node.span();
        let message = "too many stacks of VLAN tags pass here: expected tunnels that do not lead into each other";
        problems.push(place, message);
    }
    for link in segments.loops() {
        let [a, b] = &topology.links[*link].ends;
        if a.node != b.node {
            problems.push(
                b.node.span(),
                format!(
                    "loop of switches: `{}` and `{}` are joined already: expected a tree, or \
                     `stp = \"rstp\"` on every switch of the loop",
                    a.node.get_ref(),
                    b.node.get_ref()
                ),
            );
        }
    }
}

/// Only switches take part in a spanning tree.
fn spanning_trees(topology: &Topology, problems: &mut Problems<'_>) {
    for node in &topology.nodes {
        let stp = node.stp.as_ref().map(Spanned::span);
        let priority = node.stp_priority.as_ref().map(Spanned::span);
        let (name, kind) = (node.name.get_ref(), node.kind.as_str());
        if node.kind != NodeKind::Switch {
            if let Some(place) = stp.or(priority) {
                let message =
                    format!("`{name}` is a {kind}: only a switch takes part in a spanning tree");
                problems.push(place, message);
            }
        } else if let Some(place) = priority
            && topology.rstp(node).is_none()
        {
            let message = format!(
                "`{name}` takes part in no spanning tree: expected `stp = \"rstp\"` as well"
            );
            problems.push(place, message);
        }
    }
}

/// Only switches have settings of bridges.
fn settings(topology: &Topology, problems: &mut Problems<'_>) {
    for node in topology.nodes.iter().filter(|n| n.kind != NodeKind::Switch) {
        if let Some(place) = &node.switch.place {
            let (name, kind) = (node.name.get_ref(), node.kind.as_str());
            let message = format!("`{name}` is a {kind}: only a switch has this setting");
            problems.push(place.clone(), message);
        }
    }
}

/// Only switches treat their ports differently, and a port is in a spanning tree and in VLANs if the switch is.
fn ports(topology: &Topology, problems: &mut Problems<'_>) {
    let nodes = topology.nodes.iter().map(|n| (n.name.get_ref(), n));
    let nodes: BTreeMap<&String, &Node> = nodes.collect();
    let aware = topology.tells_vlans_apart();
    let mut stations = BTreeSet::new();
    for end in topology.links.iter().flat_map(|link| &link.ends) {
        let (name, port) = (end.node.get_ref(), &end.port);
        let Some(node) = nodes.get(name) else {
            continue;
        };
        if let Some(place) = &port.place
            && node.kind != NodeKind::Switch
        {
            let kind = node.kind.as_str();
            let message = format!("`{name}` is a {kind}: only a switch has ports with settings");
            problems.push(place.clone(), message);
            continue;
        }
        let shared = |vlans: &BridgeVlans| vlans.learning == VlanLearning::Shared;
        if let Some(place) = &port.per_vlan {
            let message = match &node.switch.config.vlans {
                Some(vlans) if shared(vlans) => Some(SHARED.to_owned()),
                _ if !aware.contains(name.as_str()) => Some(format!(
                    "`{name}` does not tell VLANs apart: expected `max_stations`"
                )),
                _ => None,
            };
            if let Some(message) = message {
                problems.push(place.clone(), message);
            }
        }
        if let Some(place) = &port.watching
            && !port.stations.is_empty()
        {
            let message = "nobody is behind a port that only watches: expected no `stations`";
            problems.push(place.clone(), message);
        }
        if let Some(place) = &port.leads
            && node.switch.config.snooping.is_none()
        {
            let message = format!("`{name}` does not snoop: expected `snooping` there as well");
            problems.push(place.clone(), message);
        }
        if let Some(tree) = &port.rstp
            && topology.rstp(node).is_none()
        {
            let message = format!(
                "`{name}` takes part in no spanning tree: expected `stp = \"rstp\"` there as well"
            );
            problems.push(tree.span(), message);
        }
        for station in &port.stations {
            let known = *station.get_ref();
            if known.vid.is_some() && !aware.contains(name.as_str()) {
                let message = format!("`{name}` does not tell VLANs apart: expected no VLAN");
                problems.push(station.span(), message);
            } else if let Some(vid) = known.vid
                && let vlans = member_vlans(end)
                && !vlans.tagged.contains(vid)
                && !vlans.untagged.contains(vid)
            {
                let message = format!("the port is not in VLAN {vid}");
                problems.push(station.span(), message);
            }
            if !stations.insert((name, known)) {
                let message = format!("duplicate station: `{name}` knows {} already", known.mac);
                problems.push(station.span(), message);
            }
        }
    }
}

/// The names that VLAN interfaces have by themselves may be too long.
fn names(end: &End, problems: &mut Problems<'_>) {
    for (_, above) in &end.vlans {
        match interface_name(above.interface.get_ref()) {
            Err(message) => problems.push(above.interface.span(), message),
            Ok(_) => names(above, problems),
        }
    }
}

//! What a topology comes to: names become numbers, and routes are found.

use std::collections::BTreeMap;
use std::path::Path;

use toml::Spanned;
use vnet::{BridgeConfig, BridgeMode, BridgeVlans, Switchable};

use super::{
    Plan, PlannedAttach, PlannedInterface, PlannedJob, PlannedLink, PlannedRoute, PlannedScript,
    PlannedVnet, routes,
};
use crate::family::is_link_local;
use crate::topology::segments::{Segments, member_vlans};
use crate::topology::{
    Directions, End, Job, Node, NodeKind, PortTree, Routing, Strand, Tags, Target, Topology,
};

impl Plan {
    /// Plans a topology whose network is sound. Jobs that name what does not exist are left out.
    /// Files are looked for in `here`.
    pub(crate) fn new(topology: &Topology, here: &Path) -> Plan {
        let mut plan = Plan {
            name: topology.name.clone(),
            vnets: Vec::new(),
            links: Vec::new(),
            attach: Vec::new(),
            events: topology.events.clone(),
            scripts: Vec::new(),
            capture: topology.capture,
            jobs: Vec::new(),
            owners: BTreeMap::new(),
            numbers: BTreeMap::new(),
        };
        let segments = Segments::of(topology);
        let aware = topology.tells_vlans_apart();
        for node in &topology.nodes {
            let routes = node.routes.iter().map(|route| PlannedRoute {
                destination: route.get_ref().destination,
                via: route.get_ref().via.clone(),
                metric: route.get_ref().metric,
            });
            let sysctl = node.sysctl.iter();
            let sysctl = sysctl.map(|(name, value)| (name.get_ref().clone(), value.clone()));
            plan.vnets.push(PlannedVnet {
                name: node.name.get_ref().clone(),
                kind: node.kind,
                bridge: bridge(topology, node, aware.contains(node.name.get_ref().as_str())),
                lldp: node.lldp.unwrap_or(topology.lldp),
                sysctl: sysctl.collect(),
                address_policy: node.address_policy.clone(),
                dns: node.dns.iter().map(|ip| *ip.get_ref()).collect(),
                interfaces: Vec::new(),
                routes: routes.collect(),
            });
        }
        let names = plan.vnets.iter().map(|vnet| vnet.name.clone());
        plan.numbers = names.zip(0..).collect();
        let attached = topology.attach.iter().filter_map(|attach| {
            Some(PlannedAttach {
                vnet: plan.number(attach.node.get_ref())?,
                door: attach.door.clone(),
            })
        });
        plan.attach = attached.collect();
        for (number, link) in topology.links.iter().enumerate() {
            let ends = link.ends.each_ref().map(|end| {
                let vnet = plan.number(end.node.get_ref());
                let vnet = vnet.expect("a sound network has no link to nowhere");
                (
                    vnet,
                    plan.add_end(vnet, (number, Tags::new()), end, &segments),
                )
            });
            plan.links.push(PlannedLink {
                name: link.name.as_ref().map(|name| name.get_ref().clone()),
                capture: link.capture,
                lagg: link.lagg,
                ends,
                segments: segments.of_link(number),
                outgoing: [link.forward.clone(), link.backward.clone()],
            });
        }
        if topology.routing == Routing::Auto {
            routes::add_shortest_paths(&mut plan);
        }
        plan.add_scripts(topology);
        plan.jobs = topology
            .jobs
            .iter()
            .filter_map(|job| plan.job(job, here))
            .collect();
        plan
    }

    fn add_scripts(&mut self, topology: &Topology) {
        let directions = Directions::of(topology);
        let mut places = BTreeMap::new();
        for event in &topology.events {
            for (link, end, wire) in directions.meant_by(event.target.get_ref()) {
                let place = *places.entry((link, end, wire)).or_insert_with(|| {
                    self.scripts.push(PlannedScript {
                        link,
                        end,
                        wire,
                        events: Vec::new(),
                    });
                    self.scripts.len() - 1
                });
                self.scripts[place].events.push(event.event);
            }
        }
    }

    /// Adds an end and the VLAN interfaces on it, and says which interface it has become.
    fn add_end(&mut self, vnet: usize, strand: Strand, end: &End, segments: &Segments) -> usize {
        let segment = segments.of_strand(&strand);
        for net in &end.addresses {
            let address = net.get_ref().addr();
            let there = is_link_local(address).then_some(segment);
            self.owners.insert((address, there), vnet);
        }
        let member = self.vnets[vnet].bridge.as_ref().map(|bridge| {
            let mut config = end.port.config.clone();
            if bridge.vlans.is_some() {
                config.vlans = member_vlans(end);
            }
            if let Some(tree) = &end.port.rstp {
                config.rstp = tree.get_ref().config;
            }
            config
        });
        let says_edge = |tree: &Spanned<PortTree>| tree.get_ref().says_edge;
        let interfaces = &mut self.vnets[vnet].interfaces;
        let number = interfaces.len();
        interfaces.push(PlannedInterface {
            name: end.interface.get_ref().clone(),
            addresses: end.addresses.iter().map(|net| *net.get_ref()).collect(),
            anycast: end.anycast.iter().map(|addr| *addr.get_ref()).collect(),
            mac: end.mac.as_ref().map(|mac| *mac.get_ref()),
            ip_mtu: end.ip_mtu,
            link: strand.0,
            segment,
            member,
            says_edge: end.port.rstp.as_ref().is_some_and(says_edge),
            stations: end.port.stations.iter().map(|s| *s.get_ref()).collect(),
            vlan: None,
            classes: end.classes.clone(),
            advertise: end.advertise.as_ref().map(|said| said.get_ref().clone()),
            lacp: end.lacp.as_ref().map(|lacp| *lacp.get_ref()),
        });
        for (vlan, above) in &end.vlans {
            let (link, mut tags) = strand.clone();
            tags.push(*vlan);
            let interface = self.add_end(vnet, (link, tags), above, segments);
            self.vnets[vnet].interfaces[interface].vlan = Some((*vlan, number));
        }
        number
    }

    fn job(&self, job: &Job, here: &Path) -> Option<PlannedJob> {
        let from = self.number(job.from.get_ref())?;
        let address = self.address(from, job.to.get_ref(), job.family)?;
        let name = |hop: &Spanned<Target>| match hop.get_ref() {
            Target::Address(address) => self.name_of(*address),
            Target::Node(node) | Target::Interface(node, _) => node.clone(),
        };
        let task = job.task.planned(here, name);
        Some(PlannedJob {
            name: job.name.clone(),
            start: job.start,
            timeout: job.timeout,
            from,
            to: self.owner(address)?,
            address,
            task,
        })
    }
}

/// How the bridge of a switch or hub works, which carries frames for others only.
fn bridge(topology: &Topology, node: &Node, tells_vlans_apart: bool) -> Option<BridgeConfig> {
    let mode = match node.kind {
        NodeKind::Host | NodeKind::Router => return None,
        NodeKind::Switch => BridgeMode::Switch,
        NodeKind::Hub => BridgeMode::Hub,
    };
    let said = node.switch.config.clone();
    Some(BridgeConfig {
        mode,
        host_port: Switchable::Off,
        stp: topology.rstp(node),
        vlans: said
            .vlans
            .or_else(|| tells_vlans_apart.then(BridgeVlans::default)),
        ..said
    })
}

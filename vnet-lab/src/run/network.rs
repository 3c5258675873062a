//! Vnets, links and routes of a plan: up, and down again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use vnet::{
    AdminError, BridgeConfig, DestroyReport, DropReason, Forwarding, IfKind, LaggConfig,
    LinkConfig, LinkScript, LldpNeighbour, MacAddr, MemberConfig, NextHop, OwnedVnet, Released,
    RouteKind, Stats, StpEdge, StpPortInfo, System, Vnet,
};

use super::capture::Captures;
use super::error::RunError;
use super::options::Options;
use crate::plan::{Plan, PlannedInterface, PlannedRoute, PlannedVnet};
use crate::report::{
    Counts, LinkReport, SpanningTreeReport, StationReport, Teardown, TreePortReport, VlanReport,
    VnetReport,
};
use crate::topology::{Lagg, NodeKind, Via};

/// The tunable that makes a vnet speak LLDP, and the interval of the standard, in milliseconds.
const LLDP: (&str, &str) = ("net.link.lldp.interval", "30000");

/// The tunable that makes a router advertise itself, and the longest interval of RFC 4861 section 6.2.1 unless another is
/// configured, in milliseconds.
const ADVERTISE: (&str, &str) = ("net.inet6.ip6.rtadv_interval", "600000");

/// A topology that is up. Dropping it destroys its vnets.
///
/// ```
/// use vnet::System;
/// use vnet::net::ToSocketAddrs;
/// use vnet_lab::Topology;
/// use vnet_lab::run::{Network, Options};
///
/// let (_, plan) = Topology::parse("triangle.toml", vnet_lab::TRIANGLE)?;
/// let network = Network::build(&System::virtual_time(1), &plan, &Options::default())?;
/// let first = network.vnet(0);
/// assert_eq!(first.name(), plan.vnets[0].name);
/// let addrs = {
///     let _first = first.enter();
///     (plan.vnets[1].name.as_str(), 80).to_socket_addrs()?
/// };
/// assert_ne!(addrs.count(), 0, "every node knows the names of all");
/// drop(network);
/// assert!(first.stats().is_err(), "it went with the network");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Network {
    vnets: Vec<OwnedVnet>,
    captures: Captures,
    /// The scripts of the plan, in its order.
    scripts: Vec<LinkScript>,
}

impl Network {
    /// Makes everything that `plan` says in `system`, and starts the captures that `options` ask
    /// for. What was made goes away again on an error.
    ///
    /// # Errors
    /// What the library says of a vnet, an interface or a route, or a capture that cannot be
    /// written.
    pub fn build(system: &System, plan: &Plan, options: &Options) -> Result<Network, RunError> {
        let mut network = Network::unwired(system, plan, options)?;
        network.wire(plan)?;
        Ok(network)
    }

    /// Makes the instances and their bridges, without a link between them.
    ///
    /// # Errors
    /// As for [`Network::build`].
    pub(super) fn unwired(
        system: &System,
        plan: &Plan,
        options: &Options,
    ) -> Result<Network, RunError> {
        let mut network = Network {
            vnets: Vec::new(),
            captures: Captures::start(plan, options)?,
            scripts: Vec::new(),
        };
        let given = given_macs(plan);
        for planned in &plan.vnets {
            let vnet = system
                .create(&planned.name)
                .map_err(|source| RunError::Create {
                    name: planned.name.clone(),
                    source,
                })?;
            vnet.set_forwarding(match planned.kind {
                NodeKind::Router => Forwarding::Enabled,
                NodeKind::Host | NodeKind::Switch | NodeKind::Hub => Forwarding::Disabled,
            })
            .expect("its owner is here, so the vnet is not gone");
            for (name, value) in &planned.sysctl {
                vnet.set_sysctl(name, value)
                    .map_err(|source| RunError::Sysctl {
                        node: planned.name.clone(),
                        name: name.clone(),
                        source,
                    })?;
            }
            if let Some(table) = &planned.address_policy {
                vnet.set_address_policy(Some(table.clone()))
                    .expect("its owner is here, and the table was checked");
            }
            if let Some(config) = &planned.bridge {
                add_bridge(&vnet, planned, config)?;
                keep_clear_of(&given, &vnet, &bridge_name(planned))?;
            }
            network.vnets.push(vnet);
        }
        Ok(network)
    }

    /// Joins the instances by links, and gives them addresses and what else is planned.
    ///
    /// # Errors
    /// As for [`Network::build`].
    pub(super) fn wire(&mut self, plan: &Plan) -> Result<(), RunError> {
        let given = given_macs(plan);
        for number in 0..plan.links.len() {
            self.add_link(plan, number, &given)?;
        }
        for (vnet, planned) in self.vnets.iter().zip(&plan.vnets) {
            add_routes(vnet, planned)?;
            let advertises = planned.interfaces.iter().any(|i| i.advertise.is_some());
            for ((name, value), is_wanted) in [(LLDP, planned.lldp), (ADVERTISE, advertises)] {
                let is_said = planned.sysctl.iter().any(|(said, _)| said == name);
                if is_wanted && !is_said {
                    vnet.set_sysctl(name, value)
                        .expect("its owner is here, and the value is in range");
                }
            }
        }
        for (vnet, planned) in self.vnets.iter().zip(&plan.vnets) {
            if !planned.dns.is_empty() {
                let config = vnet_dns::Config::of(planned.dns.iter().copied());
                vnet_dns::install(vnet, config).map_err(|source| RunError::Dns {
                    node: planned.name.clone(),
                    source,
                })?;
            }
        }
        let hosts = names(plan);
        for vnet in &self.vnets {
            vnet.set_hosts(Arc::clone(&hosts))
                .expect("its owner is here, so the vnet is not gone");
        }
        Ok(())
    }

    fn add_link(
        &mut self,
        plan: &Plan,
        number: usize,
        given: &BTreeSet<MacAddr>,
    ) -> Result<(), RunError> {
        let link = &plan.links[number];
        let [near, far] = link.ends.map(|(vnet, interface)| {
            let interface = &plan.vnets[vnet].interfaces[interface];
            (&self.vnets[vnet], interface)
        });
        let wires =
            [near, far].map(|(_, interface)| Lagg::wires_of(link.lagg.as_ref(), &interface.name));
        for (here, there) in wires[0].iter().zip(&wires[1]) {
            near.0
                .epair(here, far.0, there)
                .map_err(|source| RunError::Interface {
                    interface: format!("{}:{here}", near.0.name()),
                    source,
                })?;
        }
        for ((vnet, interface), wires) in [near, far].into_iter().zip(&wires) {
            if let Some(lagg) = &link.lagg {
                wires
                    .iter()
                    .try_for_each(|wire| keep_clear_of(given, vnet, wire))?;
                let name = &interface.name;
                let own = interface.lacp.unwrap_or_default();
                let config = own.config(lagg.config);
                aggregate(vnet, name, config, wires).map_err(|source| RunError::Interface {
                    interface: format!("{}:{name}", vnet.name()),
                    source,
                })?;
            }
            if interface.mac.is_none() {
                keep_clear_of(given, vnet, &interface.name)?;
            }
        }
        for (end, (vnet, interface)) in link.ends.iter().zip([near, far]) {
            let planned = &plan.vnets[end.0];
            if let Some(config) = &interface.member {
                let leads_to_host = link
                    .ends
                    .iter()
                    .all(|other| other == end || !plan.speaks_for_itself(other.0));
                let mut config = config.clone();
                // Where no other bridge can be, it forwards at once.
                if leads_to_host && !interface.says_edge && planned.speaks_rstp() {
                    config.rstp.edge = StpEdge::Yes;
                }
                add_member(vnet, planned, interface, config).map_err(|source| {
                    RunError::Interface {
                        interface: format!("{}:{}", planned.name, interface.name),
                        source,
                    }
                })?;
            }
        }
        let taps = self.captures.taps(plan, number)?;
        for (end, (vnet, interface)) in [near, far].into_iter().enumerate() {
            let name = interface.name.as_str();
            let set_up = |interface: &PlannedInterface| {
                let name = interface.name.as_str();
                if let Some(mac) = interface.mac {
                    vnet.set_mac(name, mac)?;
                }
                if let Some(ip_mtu) = interface.ip_mtu {
                    vnet.set_ip_mtu(name, ip_mtu)?;
                }
                if let Some(config) = &interface.advertise {
                    vnet.set_router(name, Some(config.clone()))?;
                }
                Ok(())
            };
            let failed = |interface: &str, source| RunError::Interface {
                interface: format!("{}:{interface}", vnet.name()),
                source,
            };
            let of_link = || {
                set_up(interface)?;
                if link.outgoing[end] != LinkConfig::default() {
                    for wire in &wires[end] {
                        vnet.set_link(wire, link.outgoing[end].clone())?;
                    }
                }
                for tap in &taps[end] {
                    vnet.capture(name, Arc::clone(tap))?;
                }
                Ok(())
            };
            of_link().map_err(|source| failed(name, source))?;
            for (vnet_number, number) in plan.with_vlans(link.ends[end]) {
                let interfaces = &plan.vnets[vnet_number].interfaces;
                let interface = &interfaces[number];
                let own = interface.name.as_str();
                if let Some((vlan, parent)) = interface.vlan {
                    let made = vnet.vlan(&interfaces[parent].name, own, vlan);
                    let classes = || match &interface.classes {
                        Some(maps) => vnet.set_vlan_classes(own, Some(maps.clone())),
                        None => Ok(()),
                    };
                    made.and_then(|()| set_up(interface))
                        .and_then(|()| classes())
                        .map_err(|source| RunError::Vlan {
                            interface: format!("{}:{own}", vnet.name()),
                            source,
                        })?;
                }
                // Last: an address announces itself, which a capture should show.
                for address in &interface.addresses {
                    vnet.add_address(own, *address)
                        .map_err(|source| failed(own, source))?;
                }
                for address in &interface.anycast {
                    vnet.add_anycast(own, *address)
                        .map_err(|source| failed(own, source))?;
                }
            }
        }
        Ok(())
    }

    /// Begins what changes over time: it is time zero.
    pub(crate) fn start_scripts(&mut self, plan: &Plan) -> Result<(), RunError> {
        for planned in &plan.scripts {
            let link = &plan.links[planned.link];
            let (vnet, interface) = link.ends[planned.end];
            let name = &plan.vnets[vnet].interfaces[interface].name;
            let name = &Lagg::wires_of(link.lagg.as_ref(), name)[planned.wire];
            let vnet = &self.vnets[vnet];
            let script =
                vnet.script_link(name, &planned.events)
                    .map_err(|source| RunError::Script {
                        interface: format!("{}:{name}", vnet.name()),
                        source,
                    })?;
            self.scripts.push(script);
        }
        Ok(())
    }

    /// What the directions of links have done that have parameters, or changed.
    pub(super) fn link_reports(&self, plan: &Plan) -> Vec<LinkReport> {
        let mut reports = Vec::new();
        let scripts = plan.scripts.iter().map(|s| (s.link, s.end, s.wire));
        let scripts: BTreeMap<_, usize> = scripts.zip(0..).collect();
        for (number, link) in plan.links.iter().enumerate() {
            let wires = link.ends.map(|(vnet, interface)| {
                let name = &plan.vnets[vnet].interfaces[interface].name;
                Lagg::wires_of(link.lagg.as_ref(), name)
            });
            let name = |end: usize, wire: usize| {
                let (vnet, _) = link.ends[end];
                format!("{}:{}", plan.vnets[vnet].name, wires[end][wire])
            };
            for (end, wire) in (0..2).flat_map(|end| (0..wires[0].len()).map(move |n| (end, n))) {
                let script = scripts.get(&(number, end, wire)).copied();
                if script.is_none() && link.outgoing[end] == LinkConfig::default() {
                    continue;
                }
                let (vnet, _) = link.ends[end];
                let stats = self.vnets[vnet].link_stats(&wires[end][wire]);
                reports.push(LinkReport {
                    from: name(end, wire),
                    to: name(1 - end, wire),
                    changes: script.map_or(0, |script| self.scripts[script].changes()),
                    stats: stats.expect("its owner is here, and interfaces stay"),
                });
            }
        }
        reports
    }

    /// A handle of the vnet of that number in the plan.
    ///
    /// # Panics
    /// When the plan has no vnet of that number.
    pub fn vnet(&self, number: usize) -> Vnet {
        Vnet::clone(&self.vnets[number])
    }

    /// The vnets alone.
    pub(super) fn into_vnets(self) -> Vec<OwnedVnet> {
        self.vnets
    }

    /// Takes everything down, in the order of the file, and says what it found.
    ///
    /// # Errors
    /// A capture that could not be finished.
    pub fn tear_down(self) -> Result<Vec<VnetReport>, RunError> {
        let mut reports = Vec::new();
        for vnet in self.vnets {
            let stats = vnet
                .stats()
                .expect("its owner is here, so the vnet is not gone");
            let tree = spanning_tree(&vnet);
            let vlans = vlans(&vnet).unwrap_or_default();
            let speaks_lldp = vnet.sysctl(LLDP.0).is_ok_and(|interval| interval != "0");
            let seen = speaks_lldp.then(|| vnet.inspect().ok()).flatten();
            let lldp = seen.map_or_else(Vec::new, |seen| seen.lldp);
            reports.push(report(&stats, tree, vlans, lldp, vnet.destroy()));
        }
        self.captures.finish()?;
        Ok(reports)
    }
}

/// The MAC addresses that are given by hand.
fn given_macs(plan: &Plan) -> BTreeSet<MacAddr> {
    let interfaces = plan.vnets.iter().flat_map(|vnet| &vnet.interfaces);
    interfaces.filter_map(|i| i.mac).collect()
}

/// Every node's name, with all its addresses.
fn names(plan: &Plan) -> Arc<BTreeMap<String, Vec<IpAddr>>> {
    let named = plan.vnets.iter().map(|vnet| {
        let addresses = vnet.interfaces.iter().flat_map(|i| &i.addresses);
        let addresses = addresses.map(|address| address.addr()).collect();
        (vnet.name.to_ascii_lowercase(), addresses)
    });
    Arc::new(named.collect())
}

/// Sees to it that an interface which chose its MAC address itself has none that the topology gives to
/// another one, now or later.
fn keep_clear_of(given: &BTreeSet<MacAddr>, vnet: &Vnet, interface: &str) -> Result<(), RunError> {
    if given.is_empty() {
        return Ok(());
    }
    let failed = |source| RunError::Interface {
        interface: format!("{}:{interface}", vnet.name()),
        source,
    };
    let interfaces = vnet.interfaces().map_err(|gone| failed(gone.into()))?;
    let own = interfaces.iter().find(|i| i.name == interface);
    let Some(taken) = own.map(|i| i.mac).filter(|mac| given.contains(mac)) else {
        return Ok(());
    };
    // Each address that is given has one of its own in its place: locally administered (IEEE 802c),
    // and under a prefix that the library does not begin with.
    let rank = given.range(..taken).count() as u64;
    let own = |n: u64| {
        let [.., c, d, e, f] = n.to_be_bytes();
        MacAddr([0x06, 0x76, c, d, e, f])
    };
    // Another remainder for each, so that no two come to the same.
    let mut own = (rank..).step_by(given.len()).map(own);
    let free = own.find(|mac| !given.contains(mac));
    let free = free.expect("there are more addresses than given ones");
    vnet.set_mac(interface, free).map_err(failed)
}

/// A bridge; its members come with the links.
fn add_bridge(vnet: &Vnet, planned: &PlannedVnet, config: &BridgeConfig) -> Result<(), RunError> {
    let name = bridge_name(planned);
    vnet.bridge(&name)
        .and_then(|()| vnet.set_bridge(&name, config.clone()))
        .map_err(|source| bridge_error(planned, source))
}

/// Makes an interface of several.
fn aggregate(
    vnet: &Vnet,
    name: &str,
    config: LaggConfig,
    wires: &[String],
) -> Result<(), AdminError> {
    vnet.lagg(name, config)?;
    let mut wires = wires.iter();
    wires.try_for_each(|wire| vnet.add_member(name, wire))
}

/// Adds a member to the bridge of a switch or hub.
fn add_member(
    vnet: &Vnet,
    planned: &PlannedVnet,
    interface: &PlannedInterface,
    config: MemberConfig,
) -> Result<(), AdminError> {
    let (bridge, name) = (bridge_name(planned), &interface.name);
    vnet.add_member(&bridge, name)?;
    if config != MemberConfig::default() {
        vnet.set_member(&bridge, name, config)?;
    }
    let mut stations = interface.stations.iter();
    stations.try_for_each(|station| vnet.add_station(&bridge, name, station.mac, station.vid))
}

/// The first `bridgeN` that no interface of the node is called.
pub(super) fn bridge_name(planned: &PlannedVnet) -> String {
    let is_free = |name: &String| planned.interfaces.iter().all(|i| i.name != *name);
    (0..)
        .map(|n| format!("bridge{n}"))
        .find(is_free)
        .expect("there are more numbers than interfaces")
}

/// What a switch is in its spanning tree, if it is in one.
fn spanning_tree(vnet: &Vnet) -> Option<SpanningTreeReport> {
    let interfaces = vnet.interfaces().ok()?;
    let bridge = interfaces.iter().find(|i| i.kind == IfKind::Bridge)?;
    let stp = vnet.bridge_info(&bridge.name).ok()?.stp?;
    let port = |port: StpPortInfo| TreePortReport {
        interface: port.name,
        role: port.role.to_string(),
        state: port.state.to_string(),
        cost: port.cost,
        bpdus_in: port.counters.received,
        bpdus_out: port.counters.sent,
    };
    Some(SpanningTreeReport {
        bridge: stp.bridge.to_string(),
        root: stp.root.to_string(),
        root_cost: stp.root_cost,
        topology_changes: stp.topology_changes,
        ports: stp.ports.into_iter().map(port).collect(),
    })
}

/// The VLANs of a switch, if it tells them apart: those that have a member without tags, or a station.
fn vlans(vnet: &Vnet) -> Option<Vec<VlanReport>> {
    let interfaces = vnet.interfaces().ok()?;
    let bridge = interfaces.iter().find(|i| i.kind == IfKind::Bridge)?;
    let info = vnet.bridge_info(&bridge.name).ok()?;
    info.config.vlans?;
    let mut stations: BTreeMap<u16, Vec<StationReport>> = BTreeMap::new();
    for member in &info.members {
        for vid in member.config.vlans.untagged.iter() {
            stations.entry(vid).or_default();
        }
    }
    for station in vnet.stations(&bridge.name).ok()? {
        if let Some(vid) = station.vid {
            stations.entry(vid).or_default().push(StationReport {
                mac: station.mac.to_string(),
                interface: station.interface,
            });
        }
    }
    let members = |is_in: &dyn Fn(&MemberConfig) -> bool| {
        let members = info.members.iter().filter(|m| is_in(&m.config));
        members.map(|m| m.name.clone()).collect()
    };
    let report = |(vid, stations)| VlanReport {
        vid,
        untagged: members(&|config| config.vlans.untagged.contains(vid)),
        tagged: members(&|config| config.vlans.tagged.contains(vid)),
        stations,
    };
    Some(stations.into_iter().map(report).collect())
}

fn bridge_error(planned: &PlannedVnet, source: AdminError) -> RunError {
    RunError::Bridge {
        name: planned.name.clone(),
        source,
    }
}

fn add_routes(vnet: &Vnet, planned: &PlannedVnet) -> Result<(), RunError> {
    // A gateway may be on a link by one of the routes to links, wherever that stands in the file.
    let leads_to_link = |route: &&PlannedRoute| matches!(route.via, Via::Interface(_));
    let (links, gateways): (Vec<_>, Vec<_>) = planned.routes.iter().partition(leads_to_link);
    for route in links.into_iter().chain(gateways) {
        let via = match &route.via {
            Via::Gateway(gateway) => NextHop::from(*gateway),
            Via::Interface(name) => NextHop::Interface(name.clone()),
            Via::OnLink(gateway, interface) => NextHop::OnLink {
                gateway: *gateway,
                interface: interface.clone(),
            },
            Via::Nowhere(RouteKind::Unreachable) => NextHop::Unreachable,
            Via::Nowhere(RouteKind::Prohibit) => NextHop::Prohibit,
            Via::Nowhere(_) => NextHop::Blackhole,
        };
        vnet.add_route_at(route.destination, via, route.metric)
            .map_err(|source| RunError::Route {
                name: planned.name.clone(),
                destination: route.destination,
                source,
            })?;
    }
    Ok(())
}

fn report(
    stats: &Stats,
    spanning_tree: Option<SpanningTreeReport>,
    vlans: Vec<VlanReport>,
    lldp: Vec<LldpNeighbour>,
    destroyed: DestroyReport,
) -> VnetReport {
    let dropped: BTreeMap<&'static str, u64> = DropReason::ALL
        .iter()
        .map(|&reason| {
            (
                reason.as_str(),
                stats.rx_drops(reason) + stats.tx_drops(reason),
            )
        })
        .filter(|(_, count)| *count > 0)
        .collect();
    VnetReport {
        name: destroyed.vnet,
        received: stats.received,
        delivered: stats.delivered,
        forwarded: stats.forwarded,
        sent: stats.sent,
        dropped,
        spanning_tree,
        vlans,
        lldp,
        teardown: Teardown {
            steps: destroyed.steps.into_iter().map(|step| step.name).collect(),
            released: counts(&destroyed.released),
            leaked: counts(&destroyed.leaked),
            failure: destroyed.failure.map(|failure| failure.to_string()),
        },
    }
}

fn counts(released: &Released) -> Counts {
    Counts {
        sockets: released.sockets(),
        connections: released.connections(),
        interfaces: released.interfaces(),
        stations: released.stations(),
        packets: released.packets(),
        deadlines: released.deadlines(),
    }
}

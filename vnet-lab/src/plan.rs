//! From a topology to what is done to the library: vnets, links, routes and jobs, by number
//! instead of by name, and the way packets will take.
//!
//! | part | what it is |
//! |---|---|
//! | `routes` | shortest paths |
//! | `trace` | following the routes, to find out beforehand what cannot be reached |

mod routes;
mod trace;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::Ipv4Net;
use vnet::link::LinkEvent;
use vnet::{LinkConfig, MacAddr};

pub use trace::Unreachable;

use crate::run::CaptureSettings;
use crate::topology::{
    Content, Directions, End, NodeKind, Problems, Routing, Segments, Target, Task, Topology, Via,
};

/// What to build and what to run on it.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The topology's name.
    pub name: String,
    /// The vnets, in the order of the file.
    pub vnets: Vec<PlannedVnet>,
    /// The links, in the order of the file.
    pub links: Vec<PlannedLink>,
    /// What changes over time.
    pub scripts: Vec<PlannedScript>,
    /// How captures are made, when they are asked for.
    pub capture: CaptureSettings,
    /// The jobs, in the order of the file.
    pub jobs: Vec<PlannedJob>,
    owners: BTreeMap<Ipv4Addr, usize>,
    /// The number of each vnet.
    numbers: BTreeMap<String, usize>,
    /// The segment of each link, as a number.
    segments: Vec<usize>,
}

/// A vnet to make.
#[derive(Clone, Debug)]
pub struct PlannedVnet {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: NodeKind,
    /// Its interfaces, in the order of the file.
    pub interfaces: Vec<PlannedInterface>,
    /// Its routes besides the connected ones.
    pub routes: Vec<PlannedRoute>,
}

/// An interface of a vnet.
#[derive(Clone, Debug)]
pub struct PlannedInterface {
    /// Its name.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<Ipv4Net>,
    /// Its MAC address, when the file says so.
    pub mac: Option<MacAddr>,
    /// The largest IP packet it sends, when the file says so.
    pub ip_mtu: Option<u16>,
    /// The link it is an end of.
    pub link: usize,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedRoute {
    /// The addresses it is for.
    pub destination: Ipv4Net,
    /// Where they are sent.
    pub via: Via,
}

/// A link to make.
#[derive(Clone, Debug)]
pub struct PlannedLink {
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Whether it is captured when captures are asked for; `None` when the file does not say.
    pub capture: Option<bool>,
    /// Both ends: number of the vnet, number of the interface in it.
    pub ends: [(usize, usize); 2],
    /// From each end to the other.
    pub outgoing: [LinkConfig; 2],
}

/// What changes over time in one direction of a link.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedScript {
    /// The number of the link.
    pub link: usize,
    /// The end that sends: 0 or 1.
    pub end: usize,
    /// The events, in the order of the file.
    pub events: Vec<LinkEvent>,
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
    pub address: Ipv4Addr,
    /// What it does.
    pub task: PlannedTask,
}

/// What a job does, as [`Task`] says it.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "each field is documented at `Task`")]
pub enum PlannedTask {
    /// See [`Task::Ping`].
    Ping {
        count: u16,
        interval: Duration,
        wait: Duration,
        bytes: u16,
        max_loss: Option<f64>,
        max_rtt: Option<Duration>,
    },
    /// See [`Task::Traceroute`]; the hops by name, as they are reported.
    Traceroute {
        expect: Option<Vec<String>>,
        max_hops: u8,
        tries: u8,
        wait: Duration,
    },
    /// See [`Task::Transfer`].
    Transfer { source: Source, port: u16 },
    /// See [`Task::Throughput`].
    Throughput {
        time: Duration,
        port: u16,
        min_rate_bps: Option<u64>,
    },
}

/// Where the content of a transfer comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// That many bytes, generated from the seed.
    Generated(u64),
    /// A file of any kind, to its end.
    File(PathBuf),
    /// The standard input, to its end.
    Stdin,
}

/// The time to live of packets, for which nobody has asked otherwise (RFC 1340).
const DEFAULT_TTL: usize = 64;

impl Plan {
    /// Plans a topology whose network is sound. Jobs that name what does not exist are left out.
    /// Files are looked for in `here`.
    pub(crate) fn new(topology: &Topology, here: &Path) -> Plan {
        let mut plan = Plan {
            name: topology.name.clone(),
            vnets: Vec::new(),
            links: Vec::new(),
            scripts: Vec::new(),
            capture: topology.capture.clone(),
            jobs: Vec::new(),
            owners: BTreeMap::new(),
            numbers: BTreeMap::new(),
            segments: Segments::of(topology).into_numbers(),
        };
        for node in &topology.nodes {
            let routes = node.routes.iter().map(|route| PlannedRoute {
                destination: route.get_ref().destination,
                via: route.get_ref().via.clone(),
            });
            plan.vnets.push(PlannedVnet {
                name: node.name.get_ref().clone(),
                kind: node.kind,
                interfaces: Vec::new(),
                routes: routes.collect(),
            });
        }
        let names = plan.vnets.iter().map(|vnet| vnet.name.clone());
        plan.numbers = names.zip(0..).collect();
        for (number, link) in topology.links.iter().enumerate() {
            let ends = link.ends.each_ref().map(|end| {
                let vnet = plan.number(end.node.get_ref());
                let vnet = vnet.expect("a sound network has no link to nowhere");
                plan.add_end(vnet, number, end)
            });
            plan.links.push(PlannedLink {
                name: link.name.as_ref().map(|name| name.get_ref().clone()),
                capture: link.capture,
                ends,
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
            for (link, end) in directions.meant_by(event.target.get_ref()) {
                let place = *places.entry((link, end)).or_insert_with(|| {
                    self.scripts.push(PlannedScript {
                        link,
                        end,
                        events: Vec::new(),
                    });
                    self.scripts.len() - 1
                });
                self.scripts[place].events.push(event.event);
            }
        }
    }

    fn add_end(&mut self, vnet: usize, link: usize, end: &End) -> (usize, usize) {
        for net in &end.addresses {
            self.owners.insert(net.get_ref().addr(), vnet);
        }
        let interfaces = &mut self.vnets[vnet].interfaces;
        interfaces.push(PlannedInterface {
            name: end.interface.get_ref().clone(),
            addresses: end.addresses.iter().map(|net| *net.get_ref()).collect(),
            mac: end.mac.as_ref().map(|mac| *mac.get_ref()),
            ip_mtu: end.ip_mtu,
            link,
        });
        (vnet, interfaces.len() - 1)
    }

    fn job(&self, job: &crate::topology::Job, here: &Path) -> Option<PlannedJob> {
        let from = self.number(job.from.get_ref())?;
        let address = self.address(job.to.get_ref())?;
        let task = match &job.task {
            Task::Ping {
                count,
                interval,
                wait,
                bytes,
                max_loss,
                max_rtt,
            } => PlannedTask::Ping {
                count: *count,
                interval: *interval,
                wait: *wait,
                bytes: *bytes,
                max_loss: *max_loss,
                max_rtt: *max_rtt,
            },
            Task::Traceroute {
                expect,
                max_hops,
                tries,
                wait,
            } => PlannedTask::Traceroute {
                expect: expect.as_ref().map(|hops| {
                    let name = |hop: &Target| match hop {
                        Target::Address(address) => self.name_of(*address),
                        Target::Node(node) | Target::Interface(node, _) => node.clone(),
                    };
                    hops.iter().map(|hop| name(hop.get_ref())).collect()
                }),
                max_hops: *max_hops,
                tries: *tries,
                wait: *wait,
            },
            Task::Transfer { content, port } => PlannedTask::Transfer {
                source: match content {
                    Content::Generated(bytes) => Source::Generated(*bytes),
                    Content::File(path) => Source::File(here.join(path.get_ref())),
                    Content::Stdin(_) => Source::Stdin,
                },
                port: *port,
            },
            Task::Throughput {
                time,
                port,
                min_rate_bps,
            } => PlannedTask::Throughput {
                time: *time,
                port: *port,
                min_rate_bps: *min_rate_bps,
            },
        };
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

    /// The address meant by `target`; `None` when it has none.
    fn address(&self, target: &Target) -> Option<Ipv4Addr> {
        let (node, interface) = match target {
            Target::Address(address) => return Some(*address),
            Target::Node(node) => (node, None),
            Target::Interface(node, interface) => (node, Some(interface)),
        };
        let vnet = &self.vnets[self.number(node)?];
        let mut interfaces = vnet.interfaces.iter();
        let wanted = interfaces.find(|i| interface.is_none_or(|name| i.name == *name))?;
        wanted.addresses.first().map(|net| net.addr())
    }

    /// The number of the vnet of that name.
    pub fn number(&self, name: &str) -> Option<usize> {
        self.numbers.get(name).copied()
    }

    /// The number of the vnet that has `address`.
    pub fn owner(&self, address: Ipv4Addr) -> Option<usize> {
        self.owners.get(&address).copied()
    }

    /// Each address and the name of the vnet that has it.
    pub fn names(&self) -> BTreeMap<Ipv4Addr, String> {
        let name = |vnet: &usize| self.vnets[*vnet].name.clone();
        self.owners
            .iter()
            .map(|(a, vnet)| (*a, name(vnet)))
            .collect()
    }

    /// The name of the vnet that has `address`; the address itself when none has.
    pub fn name_of(&self, address: Ipv4Addr) -> String {
        match self.owner(address) {
            Some(vnet) => self.vnets[vnet].name.clone(),
            None => address.to_string(),
        }
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

    /// The segment of a link: that of all links that switches join to it.
    pub(crate) fn segment(&self, link: usize) -> usize {
        self.segments[link]
    }

    /// Notes each job whose packets, or the answers to them, cannot arrive.
    pub(crate) fn check_reachability(&self, topology: &Topology, problems: &mut Problems<'_>) {
        for job in &topology.jobs {
            let is_station = |number: &usize| !self.vnets[*number].kind.is_bridge();
            let Some(from) = self.number(job.from.get_ref()).filter(is_station) else {
                continue;
            };
            let Some(to) = self.address(job.to.get_ref()) else {
                // What does not exist was noted before; what is left has no link at all.
                if let Target::Node(name) = job.to.get_ref()
                    && self.number(name).is_some_and(|n| is_station(&n))
                {
                    problems.push(
                        job.to.span(),
                        format!("unreachable: `{name}` has no address"),
                    );
                }
                continue;
            };
            let exists = self.owner(to).is_some();
            let reach = match &job.task {
                Task::Traceroute { max_hops, .. } => usize::from(*max_hops).max(DEFAULT_TTL),
                _ => DEFAULT_TTL,
            };
            if exists && let Err(why) = self.round_trip(from, to, reach) {
                problems.push(
                    job.to.span(),
                    format!(
                        "{} is unreachable from {}: {why}",
                        job.to.get_ref(),
                        job.from.get_ref()
                    ),
                );
            }
        }
    }
}

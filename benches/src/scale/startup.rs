//! How long it takes until 1 000 hosts are there: by the API, and from a TOML file as `vnet run`
//! takes it.
//!
//! The network is what a campus looks like: a core router, access routers around it, 25 hosts at
//! each of those; a link for every host and every access router, a default route in every host.

use std::fmt::Write;

use serde::Serialize;
use vnet::{Forwarding, LinkConfig, NextHop, OwnedVnet, System};
use vnet_lab::Topology;

use super::network::BuildError;
use super::trial::Stopwatch;

/// Hosts at one access router; with the router's ends of their links they fit into a /26.
const HOSTS_EACH: usize = 25;
/// The most hosts that fit into 198.18.0.0/16.
pub const MAX_HOSTS: usize = 25_000;

/// Why a network did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartupError {
    /// None, or more than there are addresses for.
    #[error("1 to {MAX_HOSTS} hosts, found {0}")]
    Hosts(usize),
    /// The library said no.
    #[error("the network could not be made")]
    Build(#[from] BuildError),
    /// The file is not a topology.
    #[error("the generated file is not sound: {0}")]
    Invalid(#[from] vnet_lab::Invalid),
    /// It could not be brought up.
    #[error("the generated topology could not be brought up")]
    Run(#[from] vnet_lab::run::RunError),
}

/// Wall time of a start, in seconds, part by part.
#[derive(Clone, Debug, Serialize)]
pub struct Startup {
    /// `api` or `toml`.
    pub by: &'static str,
    /// How many hosts.
    pub hosts: usize,
    /// How many vnets, routers included.
    pub vnets: usize,
    /// How many routes, without those to a vnet's own links.
    pub routes: usize,
    /// The parts, in the order in which they ran.
    pub phases: Vec<(&'static str, f64)>,
    /// The sum of those that a user waits for before the first packet.
    pub total: f64,
}

/// `198.18.a.b/31` of a host (`end` 1) or its access router (`end` 0) on the host's link.
fn host_end(host: usize, end: usize) -> String {
    let address = (host / HOSTS_EACH) * 64 + (host % HOSTS_EACH) * 2 + end;
    format!("198.18.{}.{}/31", address >> 8, address & 255)
}

/// `198.19.a.b/31` of an access router (`end` 1) or the core (`end` 0) on their link.
fn access_end(access: usize, end: usize) -> String {
    let address = access * 2 + end;
    format!("198.19.{}.{}/31", address >> 8, address & 255)
}

fn check(hosts: usize) -> Result<usize, StartupError> {
    match hosts {
        1..=MAX_HOSTS => Ok(hosts.div_ceil(HOSTS_EACH)),
        _ => Err(StartupError::Hosts(hosts)),
    }
}

/// The network as a file for `vnet run`, with `routing = "auto"`.
///
/// # Errors
/// [`StartupError::Hosts`].
pub fn toml(hosts: usize) -> Result<String, StartupError> {
    let accesses = check(hosts)?;
    let list = |prefix: &str, count: usize| {
        let names: Vec<String> = (0..count).map(|n| format!("\"{prefix}{n}\"")).collect();
        names.join(", ")
    };
    let mut text = format!(
        "name = \"campus\"\nrouting = \"auto\"\nhosts = [{}]\nrouters = [\"core\", {}]\n",
        list("h", hosts),
        list("a", accesses)
    );
    let mut link = |near: &str, far: &str| {
        let ends = format!("ends = [\"{near}\", \"{far}\"]");
        writeln!(
            text,
            "[[link]]\n{ends}\nrate = \"1Gbit/s\"\ndelay = \"50us\""
        )
        .expect("a string takes what is written to it");
    };
    for a in 0..accesses {
        let core = format!("core:eth{a} {}", access_end(a, 0));
        link(&core, &format!("a{a}:up {}", access_end(a, 1)));
    }
    for h in 0..hosts {
        let access = format!(
            "a{}:eth{} {}",
            h / HOSTS_EACH,
            h % HOSTS_EACH,
            host_end(h, 0)
        );
        link(&access, &format!("h{h}:eth0 {}", host_end(h, 1)));
    }
    Ok(text)
}

/// Starts the network from a file: reads it, checks it, plans its routes, and makes it.
///
/// # Errors
/// [`StartupError`].
pub fn by_toml(hosts: usize) -> Result<Startup, StartupError> {
    let text = toml(hosts)?;
    let mut clock = Stopwatch::start();
    let (_, plan) = Topology::parse("campus.toml", &text)?;
    let parse = clock.lap();
    let system = System::virtual_time(1);
    let network =
        vnet_lab::run::Network::build(&system, &plan, &vnet_lab::run::Options::default())?;
    let build = clock.lap();
    drop(network);
    let teardown = clock.lap();
    Ok(Startup {
        by: "toml",
        hosts,
        vnets: plan.vnets.len(),
        routes: plan.vnets.iter().map(|v| v.routes.len()).sum(),
        phases: vec![
            ("read, check and plan", parse),
            ("build", build),
            ("teardown", teardown),
        ],
        total: parse + build,
    })
}

/// Starts the network by calls of the library.
///
/// # Errors
/// [`StartupError`].
pub fn by_api(hosts: usize) -> Result<Startup, StartupError> {
    let accesses = check(hosts)?;
    let mut clock = Stopwatch::start();
    let system = System::virtual_time(1);
    let campus = Campus::create(&system, hosts, accesses)?;
    let vnets = clock.lap();
    campus.join()?;
    let links = clock.lap();
    let routes = campus.route()?;
    let routed = clock.lap();
    let made = 1 + campus.accesses.len() + campus.hosts.len();
    drop(campus);
    let teardown = clock.lap();
    Ok(Startup {
        by: "api",
        hosts,
        vnets: made,
        routes,
        phases: vec![
            ("vnets", vnets),
            ("links and addresses", links),
            ("routes", routed),
            ("teardown", teardown),
        ],
        total: vnets + links + routed,
    })
}

struct Campus {
    core: OwnedVnet,
    accesses: Vec<OwnedVnet>,
    hosts: Vec<OwnedVnet>,
}

impl Campus {
    fn create(system: &System, hosts: usize, accesses: usize) -> Result<Campus, BuildError> {
        let router = |name: String| -> Result<OwnedVnet, BuildError> {
            let router = system.create(&name)?;
            router.set_forwarding(Forwarding::Enabled)?;
            Ok(router)
        };
        let host = |n| Ok(system.create(&format!("h{n}"))?);
        Ok(Campus {
            core: router("core".to_owned())?,
            accesses: (0..accesses)
                .map(|n| router(format!("a{n}")))
                .collect::<Result<_, _>>()?,
            hosts: (0..hosts).map(host).collect::<Result<_, BuildError>>()?,
        })
    }

    fn join(&self) -> Result<(), BuildError> {
        for (a, access) in self.accesses.iter().enumerate() {
            let core = (&self.core, format!("eth{a}"), access_end(a, 0));
            join(core, (access, "up".to_owned(), access_end(a, 1)))?;
        }
        for (h, host) in self.hosts.iter().enumerate() {
            let access = &self.accesses[h / HOSTS_EACH];
            let access = (access, format!("eth{}", h % HOSTS_EACH), host_end(h, 0));
            join(access, (host, "eth0".to_owned(), host_end(h, 1)))?;
        }
        Ok(())
    }

    /// Adds the routes and says how many.
    fn route(&self) -> Result<usize, BuildError> {
        let address = |end: String| -> ipnet::Ipv4Net { end.parse().expect("an address") };
        let default = |vnet: &OwnedVnet, gateway: String| {
            let gateway = NextHop::Gateway(address(gateway).addr().into());
            vnet.add_route(ipnet::Ipv4Net::default().into(), gateway)
        };
        for (a, access) in self.accesses.iter().enumerate() {
            default(access, access_end(a, 0))?;
            let block = format!("198.18.{}.{}/26", (a * 64) >> 8, (a * 64) & 255);
            let gateway = address(access_end(a, 1)).addr();
            self.core
                .add_route(address(block).into(), NextHop::Gateway(gateway.into()))?;
        }
        for (h, host) in self.hosts.iter().enumerate() {
            default(host, host_end(h, 0))?;
        }
        Ok(2 * self.accesses.len() + self.hosts.len())
    }
}

type End<'a> = (&'a OwnedVnet, String, String);

fn join(near: End<'_>, far: End<'_>) -> Result<(), BuildError> {
    near.0.epair(&near.1, far.0, &far.1)?;
    for (vnet, interface, address) in [near, far] {
        let link = LinkConfig {
            rate_bps: Some(1_000_000_000),
            delay: std::time::Duration::from_micros(50),
            ..LinkConfig::default()
        };
        vnet.set_link(&interface, link)?;
        vnet.add_address(&interface, address.parse().expect("an address"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_make_the_same_hosts() {
        let (api, toml) = (
            by_api(60).expect("it starts"),
            by_toml(60).expect("it starts"),
        );
        assert_eq!(
            (api.vnets, toml.vnets),
            (64, 64),
            "60 hosts, 3 access routers, a core"
        );
        assert!(api.routes >= 66 && toml.routes >= 66);
    }

    #[test]
    fn hosts_without_addresses_are_an_error() {
        for hosts in [0, MAX_HOSTS + 1] {
            assert!(matches!(by_api(hosts), Err(StartupError::Hosts(h)) if h == hosts));
            assert!(matches!(by_toml(hosts), Err(StartupError::Hosts(h)) if h == hosts));
        }
    }
}

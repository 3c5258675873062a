//! Lookups in tables of routes: a large table against one with a single route.
//!
//! Destinations are drawn from the prefixes of the table, so that no part of it is left out, and each is looked up once
//! before any is looked up again: what is in a processor's caches is not what was asked last. They are looked up as
//! packets' destinations are, in one entry of the vnet for all of them.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use vnet::{NextHop, OwnedVnet, Rng, System};

use crate::case::Options;
use crate::compare::{Contest, Side, SideError, Unit};

/// Destinations that are looked up in turn.
const DESTINATIONS: u32 = 1 << 20;

/// A version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V4,
    V6,
}

/// # Errors
/// When routes or lookups are refused.
pub fn thousand_v4(options: &Options) -> Result<Contest, SideError> {
    contest(options, Version::V4, 1000)
}

/// # Errors
/// As [`thousand_v4`].
pub fn hundred_thousand_v4(options: &Options) -> Result<Contest, SideError> {
    contest(options, Version::V4, 100_000)
}

/// # Errors
/// As [`thousand_v4`].
pub fn million_v4(options: &Options) -> Result<Contest, SideError> {
    contest(options, Version::V4, 1_000_000)
}

/// # Errors
/// As [`thousand_v4`].
pub fn thousand_v6(options: &Options) -> Result<Contest, SideError> {
    contest(options, Version::V6, 1000)
}

/// # Errors
/// As [`thousand_v4`].
pub fn hundred_thousand_v6(options: &Options) -> Result<Contest, SideError> {
    contest(options, Version::V6, 100_000)
}

/// # Errors
/// As [`thousand_v4`].
pub fn million_v6(options: &Options) -> Result<Contest, SideError> {
    contest(options, Version::V6, 1_000_000)
}

fn contest(options: &Options, version: Version, routes: usize) -> Result<Contest, SideError> {
    let side = |routes| -> Result<Box<dyn Side>, SideError> {
        Ok(Box::new(Table::new(options.time, version, routes)?))
    };
    Ok(Contest {
        unit: Unit::LookupsPerSecond,
        ours: side(routes)?,
        peer: side(1)?,
        peer_name: "one route".to_owned(),
    })
}

fn fail(error: impl std::fmt::Display) -> SideError {
    SideError::new(error.to_string())
}

/// A vnet with routes, and where packets might go.
struct Table {
    time: Duration,
    vnet: OwnedVnet,
    destinations: Vec<IpAddr>,
    _system: System,
}

impl Table {
    fn new(time: Duration, version: Version, routes: usize) -> Result<Table, SideError> {
        let system = System::manual(1);
        let [vnet, peer] = ["router", "peer"].map(|name| system.create(name));
        let (vnet, peer) = (vnet.map_err(fail)?, peer.map_err(fail)?);
        vnet.epair("eth0", &peer, "eth0").map_err(fail)?;
        let (own, gateways) = match version {
            Version::V4 => ("198.18.0.1/16", "198.18.1."),
            Version::V6 => ("2001:2::1/64", "2001:2::"),
        };
        let own: IpNet = own.parse().map_err(fail)?;
        vnet.add_address("eth0", own).map_err(fail)?;
        let mut rng = Rng::seeded(1);
        let prefixes = prefixes(version, routes, &mut rng);
        for (n, prefix) in prefixes.iter().enumerate() {
            let gateway: IpAddr = format!("{gateways}{}", 10 + n % 16).parse().map_err(fail)?;
            let added = vnet.add_route(*prefix, NextHop::Gateway(gateway));
            added.map_err(fail)?;
        }
        let mut within = |_| {
            let prefix = prefixes[rng.below(routes as u32) as usize];
            host_of(prefix, &mut rng)
        };
        let mut table = Table {
            time,
            vnet,
            destinations: (0..DESTINATIONS).map(&mut within).collect(),
            _system: system,
        };
        table.look_up()?;
        Ok(table)
    }

    /// Looks up all destinations.
    fn look_up(&mut self) -> Result<(), SideError> {
        let found = self.vnet.count_routed(&self.destinations).map_err(fail)?;
        match found == self.destinations.len() {
            true => Ok(()),
            false => Err(fail(format!("{found} of {DESTINATIONS} have a route"))),
        }
    }
}

impl Side for Table {
    fn measure(&mut self) -> Result<f64, SideError> {
        let start = Instant::now();
        let mut done = 0u64;
        loop {
            self.look_up()?;
            done += u64::from(DESTINATIONS);
            let took = start.elapsed();
            if took >= self.time {
                return Ok(done as f64 / took.as_secs_f64());
            }
        }
    }
}

/// Different prefixes, with lengths about as often as in the tables of the Internet's routers, some within others.
fn prefixes(version: Version, count: usize, rng: &mut Rng) -> Vec<IpNet> {
    let lengths: [u8; 20] = match version {
        Version::V4 => [
            24, 24, 24, 24, 24, 24, 24, 24, 24, 24, 24, 24, 23, 23, 22, 22, 21, 20, 19, 16,
        ],
        Version::V6 => [
            48, 48, 48, 48, 48, 48, 48, 48, 48, 48, 44, 44, 40, 40, 36, 32, 32, 32, 29, 64,
        ],
    };
    let mut seen = BTreeSet::new();
    let mut prefixes = Vec::new();
    while prefixes.len() < count {
        let length = lengths[rng.below(20) as usize];
        let address: IpAddr = match version {
            // From 1.0.0.0 to 126.255.255.255: what is behind is not all unicast.
            Version::V4 => IpAddr::V4((0x0100_0000 + rng.below(0x7e00_0000)).into()),
            // Of 2000::/3, in 65536 allocations of registries.
            Version::V6 => {
                let allocation = 0x2400_0000 + (u128::from(rng.below(1 << 16)) << 3);
                let rest = (u128::from(rng.below(u32::MAX)) << 64) & ((1 << 96) - 1);
                IpAddr::V6((allocation << 96 | rest).into())
            }
        };
        let net = IpNet::new_assert(address, length).trunc();
        if seen.insert(net) {
            prefixes.push(net);
        }
    }
    prefixes
}

/// An address in a prefix.
fn host_of(prefix: IpNet, rng: &mut Rng) -> IpAddr {
    let bits = u128::from(rng.u64()) << 64 | u128::from(rng.u64());
    match prefix {
        IpNet::V4(net) => {
            IpAddr::V4((net.network().to_bits() | (bits as u32 & net.hostmask().to_bits())).into())
        }
        IpNet::V6(net) => {
            IpAddr::V6((net.network().to_bits() | (bits & net.hostmask().to_bits())).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_have_the_routes_that_they_are_measured_with() {
        for version in [Version::V4, Version::V6] {
            let few = Table::new(Duration::from_millis(1), version, 1).unwrap();
            let many = Table::new(Duration::from_millis(1), version, 5000).unwrap();
            let routes = |table: &Table| table.vnet.routes().unwrap().len();
            assert_eq!(routes(&many) - routes(&few), 4999);
            let different: BTreeSet<&IpAddr> = many.destinations.iter().collect();
            assert!(different.len() > 500_000, "{}", different.len());
            for mut table in [few, many] {
                assert!(table.measure().unwrap() > 0.0);
            }
        }
    }
}

//! A topology from code: two offices, each with a switch, a router and some hosts, and two lines between the routers, in IPv4
//! and IPv6. The fast line fails, the routes are changed to the slow one, and every host still reaches every other by its name.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::io::{Read, Write};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use vnet::net::{TcpListener, TcpStream};
use vnet::{Carrier, Forwarding, LinkConfig, OwnedVnet, System, Vnet};

type Failure = Box<dyn Error>;

/// An office: its hosts are at 10.OFFICE.0.10 and 2001:db8:OFFICE::10 and after, its router at 10.OFFICE.0.1 and
/// 2001:db8:OFFICE::1.
struct Office {
    switch: OwnedVnet,
    router: OwnedVnet,
    hosts: Vec<OwnedVnet>,
}

impl Office {
    fn new(system: &System, number: usize, hosts: usize) -> Result<Office, Failure> {
        let mut office = Office {
            switch: system.create(&format!("switch{number}"))?,
            router: system.create(&format!("router{number}"))?,
            hosts: Vec::new(),
        };
        office.switch.bridge("bridge0")?;
        office.join(&office.router, "lan", (number, 1))?;
        office.router.set_forwarding(Forwarding::Enabled)?;
        for n in 0..hosts {
            let host = system.create(&format!("host{number}-{n}"))?;
            office.join(&host, "eth0", (number, n + 10))?;
            for (all, gateway) in [
                ("0.0.0.0/0", format!("10.{number}.0.1")),
                ("::/0", format!("2001:db8:{number}::1")),
            ] {
                let gateway: IpAddr = gateway.parse()?;
                host.add_route(all.parse()?, gateway)?;
            }
            office.hosts.push(host);
        }
        Ok(office)
    }

    /// Plugs `node` into the switch, by 1 Gbit/s, as host `n` of the office.
    fn join(
        &self,
        node: &Vnet,
        interface: &str,
        (office, n): (usize, usize),
    ) -> Result<(), Failure> {
        let port = node.name();
        node.epair(interface, &self.switch, port)?;
        self.switch.add_member("bridge0", port)?;
        node.add_address(interface, format!("10.{office}.0.{n}/24").parse()?)?;
        node.add_address(interface, format!("2001:db8:{office}::{n}/64").parse()?)?;
        let cable = LinkConfig {
            rate_bps: Some(1_000_000_000),
            delay: Duration::from_micros(5),
            ..LinkConfig::default()
        };
        node.set_link(interface, cable.clone())?;
        Ok(self.switch.set_link(port, cable)?)
    }
}

/// What the addresses on a line begin with, in either family: the routers are 1 and 2 there.
type Networks = [&'static str; 2];

/// A line between two routers.
fn line(
    [a, b]: [&Office; 2],
    name: &str,
    [v4, v6]: Networks,
    config: &LinkConfig,
) -> Result<(), Failure> {
    a.router.epair(name, &b.router, name)?;
    for (office, number) in [(a, 1), (b, 2)] {
        for address in [format!("{v4}{number}/30"), format!("{v6}{number}/64")] {
            office.router.add_address(name, address.parse()?)?;
        }
        office.router.set_link(name, config.clone())?;
    }
    Ok(())
}

/// Sends the other office's traffic over a line.
fn route([a, b]: [&Office; 2], [v4, v6]: Networks) -> Result<(), Failure> {
    for (office, other, far) in [(a, 2, 2), (b, 1, 1)] {
        for (destination, network) in [
            (format!("10.{other}.0.0/24"), v4),
            (format!("2001:db8:{other}::/64"), v6),
        ] {
            let destination = destination.parse()?;
            let _ = office.router.remove_route(destination);
            let gateway: IpAddr = format!("{network}{far}").parse()?;
            office.router.add_route(destination, gateway)?;
        }
    }
    Ok(())
}

/// The time in which `from` gets a megabyte from the host of this name, or with this address. Of the addresses of a name, that
/// of IPv6 is tried first.
fn fetch(system: &System, from: &Vnet, host: &str) -> Result<Duration, Failure> {
    let start = system.now();
    let mut all = Vec::new();
    TcpStream::connect_in(from, (host, 80))?.read_to_end(&mut all)?;
    assert_eq!(all.len(), 1_000_000);
    Ok(system.now().since(start))
}

/// Runs it; says how long a transfer takes by the fast line and by the slow one.
pub(crate) fn run() -> Result<(Duration, Duration), Failure> {
    let system = System::virtual_time(1);
    let (north, south) = (Office::new(&system, 1, 3)?, Office::new(&system, 2, 2)?);
    let both = [&north, &south];
    let fast = LinkConfig {
        rate_bps: Some(100_000_000),
        delay: Duration::from_millis(5),
        ..LinkConfig::default()
    };
    let slow = LinkConfig {
        rate_bps: Some(2_000_000),
        delay: Duration::from_millis(30),
        loss: 0.001.into(),
        ..LinkConfig::default()
    };
    let by_fast = ["192.0.2.", "2001:db8:f::"];
    let by_slow = ["198.51.100.", "2001:db8:5::"];
    line(both, "fast", by_fast, &fast)?;
    line(both, "slow", by_slow, &slow)?;
    route(both, by_fast)?;

    // Every host knows all names.
    let all: Vec<&OwnedVnet> = north.hosts.iter().chain(&south.hosts).collect();
    let mut names = BTreeMap::new();
    for host in &all {
        let inspection = host.inspect()?;
        let eth0 = inspection.interfaces.iter().find(|i| i.info.name == "eth0");
        let addresses = eth0.map(|i| i.info.addresses.iter().map(|net| net.addr()));
        let addresses: BTreeSet<IpAddr> = addresses.into_iter().flatten().collect();
        // A link-local address is no name's: which link it is on is not the same for all.
        let is_on_link = |ip: &IpAddr| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
        let of_all = addresses.into_iter().filter(|ip| !is_on_link(ip));
        names.insert(host.name().to_owned(), of_all.collect());
    }
    let names = Arc::new(names);
    for host in &all {
        host.set_hosts(Arc::clone(&names))?;
        let listener = TcpListener::bind_in(host, "[::]:80")?;
        host.spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let _ = stream.write_all(&vec![7; 1_000_000]);
            }
        })?;
    }

    let fetch_both = |from: &Vnet| -> Result<Duration, Failure> {
        let over_v4 = fetch(&system, from, "10.2.0.11")?;
        Ok(over_v4.max(fetch(&system, from, "host2-1")?))
    };
    let fast_time = fetch_both(&north.hosts[0])?;
    let dead = LinkConfig {
        state: Carrier::Down,
        ..fast
    };
    north.router.set_link("fast", dead)?;
    route(both, by_slow)?;
    let slow_time = fetch_both(&north.hosts[0])?;
    // Inside an office, nobody has noticed.
    assert!(fetch_both(&south.hosts[0])? < fast_time);
    Ok((fast_time, slow_time))
}

#[allow(dead_code)] // A test runs the example as a module.
fn main() -> Result<(), Failure> {
    let (fast, slow) = run()?;
    println!("a megabyte takes {fast:?} by the fast line, and {slow:?} by the slow one");
    Ok(())
}

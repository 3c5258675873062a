//! A topology from code: two offices, each with a switch, a router and some hosts, and two lines between the routers. The fast
//! line fails, the routes are changed to the slow one, and every host still reaches every other by its name.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::io::{Read, Write};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use vnet::net::{TcpListener, TcpStream};
use vnet::{Carrier, Forwarding, LinkConfig, OwnedVnet, System, Vnet};

type Failure = Box<dyn Error>;

/// An office: its hosts are at 10.OFFICE.0.10 and after, its router at 10.OFFICE.0.1.
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
        office.join(&office.router, "lan", &format!("10.{number}.0.1/24"))?;
        office.router.set_forwarding(Forwarding::Enabled)?;
        for n in 0..hosts {
            let host = system.create(&format!("host{number}-{n}"))?;
            office.join(&host, "eth0", &format!("10.{number}.0.{}/24", n + 10))?;
            let gateway: IpAddr = format!("10.{number}.0.1").parse()?;
            host.add_route("0.0.0.0/0".parse()?, gateway)?;
            office.hosts.push(host);
        }
        Ok(office)
    }

    /// Plugs `node` into the switch, by 1 Gbit/s.
    fn join(&self, node: &Vnet, interface: &str, address: &str) -> Result<(), Failure> {
        let port = node.name();
        node.epair(interface, &self.switch, port)?;
        self.switch.add_member("bridge0", port)?;
        node.add_address(interface, address.parse()?)?;
        let cable = LinkConfig {
            rate_bps: Some(1_000_000_000),
            delay: Duration::from_micros(5),
            ..LinkConfig::default()
        };
        node.set_link(interface, cable.clone())?;
        Ok(self.switch.set_link(port, cable)?)
    }
}

/// A line between two routers, which are .1 and .2 of a network there.
fn line(
    [a, b]: [&Office; 2],
    name: &str,
    network: &str,
    config: &LinkConfig,
) -> Result<(), Failure> {
    a.router.epair(name, &b.router, name)?;
    for (office, number) in [(a, 1), (b, 2)] {
        let address = format!("{network}.{number}/30");
        office.router.add_address(name, address.parse()?)?;
        office.router.set_link(name, config.clone())?;
    }
    Ok(())
}

/// Sends the other office's traffic over the line of `network`.
fn route([a, b]: [&Office; 2], network: &str) -> Result<(), Failure> {
    for (office, other, far) in [(a, 2, 2), (b, 1, 1)] {
        let destination = format!("10.{other}.0.0/24").parse()?;
        let _ = office.router.remove_route(destination);
        let gateway: IpAddr = format!("{network}.{far}").parse()?;
        office.router.add_route(destination, gateway)?;
    }
    Ok(())
}

/// The time in which `from` gets a megabyte from the host of this name.
fn fetch(system: &System, from: &Vnet, name: &str) -> Result<Duration, Failure> {
    let start = system.now();
    let mut all = Vec::new();
    TcpStream::connect_in(from, (name, 80))?.read_to_end(&mut all)?;
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
    line(both, "fast", "192.0.2", &fast)?;
    line(both, "slow", "198.51.100", &slow)?;
    route(both, "192.0.2")?;

    // Every host knows all names.
    let all: Vec<&OwnedVnet> = north.hosts.iter().chain(&south.hosts).collect();
    let mut names = BTreeMap::new();
    for host in &all {
        let inspection = host.inspect()?;
        let eth0 = inspection.interfaces.iter().find(|i| i.info.name == "eth0");
        let addresses = eth0.map(|i| i.info.addresses.iter().map(|net| net.addr()));
        let addresses: BTreeSet<IpAddr> = addresses.into_iter().flatten().collect();
        let v4 = addresses.into_iter().filter(IpAddr::is_ipv4).collect();
        names.insert(host.name().to_owned(), v4);
    }
    let names = Arc::new(names);
    for host in &all {
        host.set_hosts(Arc::clone(&names))?;
        let listener = TcpListener::bind_in(host, "0.0.0.0:80")?;
        host.spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let _ = stream.write_all(&vec![7; 1_000_000]);
            }
        })?;
    }

    let by_fast = fetch(&system, &north.hosts[0], "host2-1")?;
    let dead = LinkConfig {
        state: Carrier::Down,
        ..fast
    };
    north.router.set_link("fast", dead)?;
    route(both, "198.51.100")?;
    let by_slow = fetch(&system, &north.hosts[0], "host2-1")?;
    // Inside an office, nobody has noticed.
    assert!(fetch(&system, &south.hosts[0], "host2-1")? < by_fast);
    Ok((by_fast, by_slow))
}

#[allow(dead_code)] // A test runs the example as a module.
fn main() -> Result<(), Failure> {
    let (fast, slow) = run()?;
    println!("a megabyte takes {fast:?} by the fast line, and {slow:?} by the slow one");
    Ok(())
}

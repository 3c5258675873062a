//! Promise: a host finds its router, its addresses and its routes by itself, and only if it is told to.

use std::net::IpAddr;
use std::time::Duration;

use vnet::net::{EchoEvent, EchoSocket, RawSocket};
use vnet::{AdminState, DropReason, Forwarding, NextHop, OwnedVnet, System, Vnet};
use vnet_tests::accounts::assert_conserved;

type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// A host that obeys, a router that advertises 2001:db8:1::/64 every ten seconds, and a host beyond it.
fn path(system: &System) -> Result<[OwnedVnet; 3]> {
    let all = [
        system.create("host")?,
        system.create("router")?,
        system.create("far")?,
    ];
    let [host, router, far] = &all;
    host.epair("eth0", router, "eth0")?;
    far.epair("eth0", router, "eth1")?;
    router.set_forwarding(Forwarding::Enabled)?;
    router.add_address("eth0", "2001:db8:1::ff/64".parse()?)?;
    router.add_address("eth1", "2001:db8:2::ff/64".parse()?)?;
    router.set_sysctl("net.inet6.ip6.rtadv_interval", 10_000)?;
    far.add_address("eth0", "2001:db8:2::1/64".parse()?)?;
    far.add_route("::/0".parse()?, NextHop::Gateway("2001:db8:2::ff".parse()?))?;
    Ok(all)
}

fn obey(host: &Vnet) -> Result {
    Ok(host.set_sysctl("net.inet6.ip6.accept_rtadv", 1)?)
}

/// Lets time pass.
fn pass(vnet: &Vnet, secs: u64) -> Result {
    let socket = EchoSocket::bind_in(vnet)?;
    socket.set_read_timeout(Some(Duration::from_secs(secs)))?;
    assert!(socket.recv().is_err(), "nobody sends");
    Ok(())
}

fn answers(from: &Vnet, to: &str) -> Result<bool> {
    let socket = EchoSocket::bind_in(from)?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    if socket.send_to(1, b"data", to.parse()?).is_err() {
        return Ok(false);
    }
    Ok(matches!(socket.recv(), Ok((EchoEvent::Reply { .. }, _))))
}

fn autoconfigured(vnet: &Vnet) -> Result<Vec<IpAddr>> {
    let interfaces = vnet.inspect()?.interfaces;
    let eth0 = interfaces.into_iter().find(|i| i.info.name == "eth0");
    Ok(eth0.expect("it has the interface").autoconfigured)
}

/// How many routes were advertised, and whether one of them is a default route.
fn advertised(vnet: &Vnet) -> Result<(usize, bool)> {
    let routes = vnet.inspect()?.routes;
    let mut advertised = routes
        .iter()
        .filter(|r| format!("{:?}", r.origin) == "Advertised");
    let count = advertised.clone().count();
    Ok((count, advertised.any(|r| r.dst.prefix_len() == 0)))
}

#[test]
fn a_host_that_is_told_to_obeys() -> Result {
    let system = System::virtual_time(1);
    let [host, router, far] = path(&system)?;
    pass(&host, 20)?;
    assert!(autoconfigured(&host)?.is_empty(), "nobody has told it");
    assert_eq!(host.stats()?.sent, 0);
    obey(&host)?;
    assert!(answers(&far, "2001:db8:2::ff")?);
    let all = autoconfigured(&host)?;
    let [IpAddr::V6(addr)] = all[..] else {
        panic!("{all:?}");
    };
    assert_eq!(addr.segments()[..4], [0x2001, 0xdb8, 1, 0]);
    assert_eq!(advertised(&host)?, (2, true));
    assert!(answers(&host, "2001:db8:2::1")?);
    assert!(answers(&far, &addr.to_string())?);
    assert!(answers(&router, &addr.to_string())?);
    // The same again after it has been down, and nothing of it is configuration.
    let record = host.record()?.to_toml()?;
    assert!(!record.contains(&addr.to_string()), "{record}");
    host.set_up("eth0", AdminState::Down)?;
    host.set_up("eth0", AdminState::Up)?;
    pass(&host, 2)?;
    assert_eq!(autoconfigured(&host)?, all);
    assert!(host.remove_address("eth0", addr.into()).is_err());
    let twin = host.clone_as("twin")?;
    assert_eq!(twin.inspect()?.normalised(), host.inspect()?.normalised());
    // Who is told to obey no more has nothing of it left.
    host.set_sysctl("net.inet6.ip6.accept_rtadv", 0)?;
    assert!(autoconfigured(&host)?.is_empty());
    assert_eq!(advertised(&host)?, (0, false));
    for vnet in [&host, &router, &far] {
        assert_conserved(vnet);
    }
    for vnet in [host, router, far] {
        assert!(vnet.destroy().leaked.is_zero());
    }
    Ok(())
}

#[test]
fn what_is_configured_stays() -> Result {
    let system = System::virtual_time(1);
    let [host, router, far] = path(&system)?;
    host.add_address("eth0", "2001:db8:1::5/64".parse()?)?;
    host.add_route("::/0".parse()?, NextHop::Blackhole)?;
    obey(&host)?;
    pass(&host, 2)?;
    assert_eq!(advertised(&host)?, (2, true));
    assert!(
        !answers(&host, "2001:db8:2::1")?,
        "the route that is configured is taken"
    );
    assert!(answers(&host, "2001:db8:1::ff")?);
    host.remove_route("::/0".parse()?)?;
    assert!(answers(&host, "2001:db8:2::1")?);
    // An address that is configured is that from now on.
    let addr = autoconfigured(&host)?[0];
    host.add_address("eth0", format!("{addr}/64").parse()?)?;
    assert!(autoconfigured(&host)?.is_empty());
    pass(&host, 30)?;
    host.set_sysctl("net.inet6.ip6.accept_rtadv", 0)?;
    assert!(answers(&router, &addr.to_string())?);
    for vnet in [&host, &router, &far] {
        assert_conserved(vnet);
    }
    Ok(())
}

#[test]
fn a_router_that_is_silent_or_takes_leave_is_one_no_more() -> Result {
    let system = System::virtual_time(1);
    let [host, router, far] = path(&system)?;
    obey(&host)?;
    pass(&host, 100)?;
    assert_eq!(advertised(&host)?, (2, true), "it says so again and again");
    router.set_sysctl("net.inet6.ip6.rtadv_interval", 0)?;
    pass(&host, 1)?;
    assert_eq!(advertised(&host)?, (1, false), "it has taken leave");
    assert!(answers(&router, &autoconfigured(&host)?[0].to_string())?);
    router.set_sysctl("net.inet6.ip6.rtadv_interval", 10_000)?;
    pass(&host, 4)?;
    assert_eq!(advertised(&host)?, (2, true));
    router.set_up("eth0", AdminState::Down)?;
    pass(&host, 31)?;
    assert_eq!(advertised(&host)?, (1, false), "three intervals of silence");
    // A host that forwards is a router, and obeys nobody.
    router.set_up("eth0", AdminState::Up)?;
    host.set_forwarding(Forwarding::Enabled)?;
    pass(&host, 20)?;
    assert_eq!(advertised(&host)?, (1, false));
    for vnet in [&host, &router, &far] {
        assert_conserved(vnet);
    }
    Ok(())
}

#[test]
fn nobody_beyond_the_link_is_a_router() -> Result {
    let system = System::virtual_time(1);
    let (host, other) = (system.create("host")?, system.create("other")?);
    host.epair("eth0", &other, "eth0")?;
    other.add_address("eth0", "2001:db8:9::9/64".parse()?)?;
    obey(&host)?;
    pass(&host, 2)?;
    let raw = RawSocket::open_in(&other, 58)?;
    let mut advert = vec![134, 0, 0, 0, 64, 0, 0, 60];
    advert.extend([0; 8]);
    for (ttl, martians, routers) in [(254, 1, 0), (255, 1, 1)] {
        raw.set_ttl(ttl)?;
        raw.send_to(&advert, "ff02::1".parse()?)?;
        pass(&host, 1)?;
        assert_eq!(host.stats()?.rx_drops(DropReason::Martian), martians);
        assert_eq!(advertised(&host)?.0, routers);
    }
    assert_conserved(&host);
    Ok(())
}

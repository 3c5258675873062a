//! Promise: a router tells a host of a better first hop, and a host that is to obey takes it: from the router by which it
//! sends, from nobody else, and until that hop is silent.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use vnet::net::{EchoEvent, EchoSocket, RawSocket};
use vnet::{AdminState, DropReason, Forwarding, MacAddr, NextHop, OwnedVnet, System, Vnet};
use vnet_tests::accounts::assert_conserved;
use vnet_tests::frames::{IPV4, Ip4, ethernet, icmp};

type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

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

/// How many routes were advertised, and whether one of them is a default route.
fn advertised(vnet: &Vnet) -> Result<(usize, bool)> {
    let routes = vnet.inspect()?.routes;
    let mut advertised = routes
        .iter()
        .filter(|r| format!("{:?}", r.origin) == "Advertised");
    let count = advertised.clone().count();
    Ok((count, advertised.any(|r| r.dst.prefix_len() == 0)))
}

/// A host and two routers on one link, of which the second has 198.51.100.1. The host sends by the first, which names
/// the second.
fn triangle_v4(system: &System) -> Result<[OwnedVnet; 4]> {
    let all = ["host", "first", "second", "switch"].map(|n| system.create(n).expect("a free name"));
    let [host, first, second, switch] = &all;
    switch.bridge("bridge0")?;
    for (n, station) in [host, first, second].into_iter().enumerate() {
        let port = format!("p{n}");
        station.epair("eth0", switch, &port)?;
        switch.add_member("bridge0", &port)?;
        station.add_address("eth0", format!("198.18.1.{}/24", n + 1).parse()?)?;
    }
    second.add_address("lo0", "198.51.100.1/32".parse()?)?;
    for router in [first, second] {
        router.set_forwarding(Forwarding::Enabled)?;
    }
    first.set_sysctl("net.inet.ip.redirect", 1)?;
    first.add_route(
        "198.51.100.0/24".parse()?,
        NextHop::Gateway("198.18.1.3".parse()?),
    )?;
    host.add_route(
        "0.0.0.0/0".parse()?,
        NextHop::Gateway("198.18.1.2".parse()?),
    )?;
    Ok(all)
}

/// The first hop to 198.51.100.1 that a router has named.
fn named(host: &Vnet) -> Result<Option<IpAddr>> {
    let routes = host.routes()?;
    let route = routes
        .iter()
        .find(|r| r.dst.to_string() == "198.51.100.1/32");
    Ok(route.and_then(|route| route.gateway))
}

/// RFC 1122 section 3.2.2.2: a host that is asked to takes the router that the one by which it sends names, until that
/// one does not answer.
#[test]
fn a_router_names_a_better_one_and_a_host_takes_it_v4() -> Result {
    for drops in [1, 0] {
        let system = System::virtual_time(1);
        let all = triangle_v4(&system)?;
        let [host, first, second, _] = &all;
        assert_eq!(host.sysctl("net.inet.icmp.drop_redirect")?, "1");
        host.set_sysctl("net.inet.icmp.drop_redirect", drops)?;
        assert!(answers(host, "198.51.100.1")?);
        let better = (drops == 0).then(|| "198.18.1.3".parse()).transpose()?;
        assert_eq!(named(host)?, better);
        let forwarded = first.stats()?.forwarded;
        assert!(answers(host, "198.51.100.1")?);
        assert_eq!(first.stats()?.forwarded - forwarded, drops);
        assert!(!host.record()?.to_toml()?.contains("198.51.100.1"));
        if drops == 0 {
            second.set_up("eth0", AdminState::Down)?;
            // It is found out when it is used, and asked for when it is used again.
            for _ in 0..3 {
                assert!(!answers(host, "198.51.100.1")?);
                system.sleep(Duration::from_secs(60))?;
            }
            assert_eq!(named(host)?, None);
            second.set_up("eth0", AdminState::Up)?;
            assert!(answers(host, "198.51.100.1")?);
            assert_eq!(named(host)?, better);
            // A router obeys nobody.
            host.set_forwarding(Forwarding::Enabled)?;
            assert_eq!(named(host)?, None);
        }
        for vnet in &all {
            assert_conserved(vnet);
        }
    }
    Ok(())
}

/// What a router has named is forgotten with the address in whose prefix it is, or whatever else changes the way.
#[test]
fn what_a_router_has_named_goes_with_the_addresses_of_the_link_v4() -> Result {
    let system = System::manual(1);
    let host = system.create("host")?;
    let port = host.port("eth0", Some(MacAddr([2, 0, 0, 0, 0, 1])))?;
    host.add_address("eth0", "198.18.1.1/24".parse()?)?;
    host.set_sysctl("net.inet.icmp.drop_redirect", 0)?;
    let default = || -> Result {
        let first = NextHop::OnLink {
            gateway: "198.18.1.2".parse()?,
            interface: "eth0".to_owned(),
        };
        Ok(host.add_route("0.0.0.0/0".parse()?, first)?)
    };
    default()?;
    let redirect = || -> Result {
        let quote = Ip4::new("198.18.1.1".parse()?, "198.51.100.1".parse()?, 17).packet(&[0; 8]);
        let message = icmp(5, 1, "198.18.2.3".parse::<Ipv4Addr>()?.into(), &quote);
        let packet = Ip4::new("198.18.1.2".parse()?, "198.18.1.1".parse()?, 1).packet(&message);
        let ends = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 9]);
        port.send(ethernet(ends.0, ends.1, IPV4, &packet))?;
        system.poll(system.now());
        assert_eq!(named(&host)?, Some("198.18.2.3".parse()?));
        Ok(())
    };
    let second = "198.18.2.1/24".parse::<ipnet::IpNet>()?;
    let changes: [&dyn Fn() -> Result; 5] = [
        &|| Ok(host.remove_address("eth0", second.addr())?),
        &|| Ok(host.add_address("eth0", "192.0.2.1/24".parse()?)?),
        &|| Ok(host.remove_address("eth0", "192.0.2.1".parse()?)?),
        &|| Ok(host.remove_route("0.0.0.0/0".parse()?)?),
        &|| Ok(host.add_route("203.0.113.0/24".parse()?, NextHop::Blackhole)?),
    ];
    for (n, change) in changes.into_iter().enumerate() {
        if host.add_address("eth0", second).is_err() {
            assert!(n > 1, "it was taken away by the first");
        }
        redirect()?;
        change()?;
        assert_eq!(named(&host)?, None, "{n}");
        if host.routes()?.iter().all(|r| r.dst.prefix_len() > 0) {
            default()?;
        }
    }
    assert_conserved(&host);
    Ok(())
}

/// The same section: nobody but the router that is used now is believed, and only about a hop on the link.
#[test]
fn nobody_else_redirects_v4() -> Result {
    let system = System::manual(1);
    let host = system.create("host")?;
    let port = host.port("eth0", Some(MacAddr([2, 0, 0, 0, 0, 1])))?;
    host.add_address("eth0", "198.18.1.1/24".parse()?)?;
    host.add_route(
        "0.0.0.0/0".parse()?,
        NextHop::Gateway("198.18.1.2".parse()?),
    )?;
    host.set_sysctl("net.inet.icmp.drop_redirect", 0)?;
    let ignored = || -> Result<u64> { Ok(host.stats()?.rx_drops(DropReason::IcmpIgnored)) };
    let is_taken = |from: &str, gateway: &str, src: &str, dst: &str| -> Result<bool> {
        let (from, gateway): (Ipv4Addr, Ipv4Addr) = (from.parse()?, gateway.parse()?);
        let quote = Ip4::new(src.parse()?, dst.parse()?, 17).packet(&[0, 7, 0, 9, 0, 8, 0, 0]);
        let message = icmp(5, 1, gateway.into(), &quote);
        let packet = Ip4::new(from, "198.18.1.1".parse()?, 1).packet(&message);
        let before = ignored()?;
        port.send(ethernet(
            [2, 0, 0, 0, 0, 1],
            [2, 0, 0, 0, 0, 9],
            IPV4,
            &packet,
        ))?;
        system.poll(system.now());
        let is_taken = host
            .routes()?
            .iter()
            .any(|r| format!("{:?}", r.origin) == "Advertised");
        assert_eq!(ignored()? == before, is_taken);
        Ok(is_taken)
    };
    let (router, better, ours, there) = ("198.18.1.2", "198.18.1.3", "198.18.1.1", "198.51.100.1");
    for (from, gateway, src, dst) in [
        ("198.18.1.9", better, ours, there),
        (router, "198.18.2.3", ours, there),
        (router, ours, ours, there),
        (router, router, ours, there),
        (router, "198.18.1.255", ours, there),
        (router, better, "198.18.1.7", there),
        (router, better, ours, "224.0.0.5"),
        (router, better, ours, "255.255.255.255"),
        (router, better, ours, "198.18.1.5"),
    ] {
        assert!(
            !is_taken(from, gateway, src, dst)?,
            "{from} {gateway} {src} {dst}"
        );
    }
    assert!(is_taken(router, better, ours, there)?);
    assert_eq!(named(&host)?, Some(better.parse()?));
    // It is the first hop now, and may name another.
    assert!(is_taken(better, "198.18.1.4", ours, there)?);
    assert_eq!(named(&host)?, Some("198.18.1.4".parse()?));
    assert_conserved(&host);
    Ok(())
}

/// A host with a configured default route by `first`, which reaches 2001:db8:2::/64 by `second`, all on one link.
fn triangle_v6(system: &System) -> Result<[OwnedVnet; 4]> {
    let all = [
        system.create("host")?,
        system.create("first")?,
        system.create("second")?,
        system.create("switch")?,
    ];
    let [host, first, second, switch] = &all;
    switch.bridge("bridge0")?;
    for (n, station) in [host, first, second].into_iter().enumerate() {
        let port = format!("p{n}");
        station.epair("eth0", switch, &port)?;
        switch.add_member("bridge0", &port)?;
        station.add_address("eth0", format!("2001:db8:1::{}/64", n + 1).parse()?)?;
    }
    second.add_address("lo0", "2001:db8:2::1/128".parse()?)?;
    let link_local = second.inspect()?.interfaces;
    let eth0 = link_local.iter().find(|i| i.info.name == "eth0");
    let addresses = &eth0.expect("it has the interface").info.addresses;
    let is_link_local = |net: &&ipnet::IpNet| net.to_string().starts_with("fe80");
    let own = addresses
        .iter()
        .find(is_link_local)
        .expect("it has one")
        .addr();
    for router in [first, second] {
        router.set_forwarding(Forwarding::Enabled)?;
    }
    first.set_sysctl("net.inet6.ip6.redirect", 1)?;
    first.add_route(
        "2001:db8:2::/64".parse()?,
        NextHop::OnLink {
            gateway: own,
            interface: "eth0".to_owned(),
        },
    )?;
    host.add_route("::/0".parse()?, NextHop::Gateway("2001:db8:1::2".parse()?))?;
    pass(host, 2)?;
    Ok(all)
}

#[test]
fn a_router_names_a_better_one_and_a_host_takes_it_v6() -> Result {
    for obeys in [0, 1] {
        let system = System::virtual_time(1);
        let all = triangle_v6(&system)?;
        let [host, first, second, _] = &all;
        host.set_sysctl("net.inet6.icmp6.rediraccept", obeys)?;
        // Redirects come from link-local addresses, and so must the router be known by it.
        let own = first.inspect()?.interfaces;
        let eth0 = own
            .iter()
            .find(|i| i.info.name == "eth0")
            .expect("it is there");
        let mut own = eth0.info.addresses.iter().map(|net| net.addr());
        let own = own
            .rfind(|a| a.to_string().starts_with("fe80"))
            .expect("it has one");
        host.remove_route("::/0".parse()?)?;
        host.add_route(
            "::/0".parse()?,
            NextHop::OnLink {
                gateway: own,
                interface: "eth0".to_owned(),
            },
        )?;
        assert!(answers(host, "2001:db8:2::1")?);
        assert_eq!(advertised(host)?.0, usize::try_from(obeys)?);
        let forwarded = first.stats()?.forwarded;
        for _ in 0..3 {
            assert!(answers(host, "2001:db8:2::1")?);
        }
        let through_first = first.stats()?.forwarded - forwarded;
        assert_eq!(through_first, if obeys == 1 { 0 } else { 3 });
        assert!(!host.record()?.to_toml()?.contains("2001:db8:2::1"));
        if obeys == 1 {
            // The better one is gone: after a while the first is asked again.
            second.set_up("eth0", AdminState::Down)?;
            let _ = answers(host, "2001:db8:2::1")?;
            pass(host, 60)?;
            let _ = answers(host, "2001:db8:2::1")?;
            pass(host, 60)?;
            assert_eq!(advertised(host)?.0, 0);
        }
        for vnet in &all {
            assert_conserved(vnet);
        }
        for vnet in all {
            assert!(vnet.destroy().leaked.is_zero());
        }
    }
    Ok(())
}

/// RFC 4861 section 8.1: only the router that is used now is believed.
#[test]
fn nobody_else_redirects_v6() -> Result {
    let system = System::virtual_time(1);
    let all = triangle_v6(&system)?;
    let [host, _, second, _] = &all;
    let raw = RawSocket::open_in(second, 58)?;
    let mut redirect = vec![137, 0, 0, 0, 0, 0, 0, 0];
    for addr in ["fe80::1", "2001:db8:2::1"] {
        redirect.extend(addr.parse::<std::net::Ipv6Addr>()?.octets());
    }
    for (ttl, reason) in [(254, DropReason::Martian), (255, DropReason::IcmpIgnored)] {
        raw.set_ttl(ttl)?;
        let before = host.stats()?.rx_drops(reason);
        raw.send_to(&redirect, "ff02::1".parse()?)?;
        pass(host, 1)?;
        assert_eq!(host.stats()?.rx_drops(reason), before + 1);
    }
    assert_eq!(advertised(host)?.0, 0);
    for vnet in &all {
        assert_conserved(vnet);
    }
    Ok(())
}

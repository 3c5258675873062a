//! Promise: a host finds its router, its addresses and its routes by itself, and only if it is told to.

use std::net::IpAddr;
use std::time::Duration;

use vnet::net::{EchoEvent, EchoSocket, RawSocket, UdpSocket};
use vnet::{
    AdminState, DropReason, Forwarding, LinkConfig, MacAddr, NextHop, OwnedVnet, RouterConfig,
    RouterPreference, RouterPrefix, RouterRoute, System, Vnet,
};
use vnet_tests::accounts::assert_conserved;
use vnet_tests::frames::{IPV6, Ip6, ethernet};

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
    // A router that is asked answers within half a second.
    pass(&host, 1)?;
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
    let lossy = |loss: f64| LinkConfig {
        loss: loss.into(),
        ..LinkConfig::default()
    };
    router.set_link("eth0", lossy(1.0))?;
    pass(&host, 31)?;
    assert_eq!(advertised(&host)?, (1, false), "three intervals of silence");
    router.set_link("eth0", lossy(0.0))?;
    pass(&host, 11)?;
    assert_eq!(advertised(&host)?, (2, true));
    // RFC 4861 section 6.2.5: an interface that goes out of use takes leave.
    router.set_up("eth0", AdminState::Down)?;
    pass(&host, 1)?;
    assert_eq!(advertised(&host)?, (1, false));
    router.set_up("eth0", AdminState::Up)?;
    pass(&host, 5)?;
    assert_eq!(advertised(&host)?, (2, true));
    // A router that is told to be none says so at once.
    router.set_forwarding(Forwarding::Disabled)?;
    pass(&host, 1)?;
    assert_eq!(advertised(&host)?, (1, false));
    router.set_forwarding(Forwarding::Enabled)?;
    pass(&host, 5)?;
    assert_eq!(advertised(&host)?, (2, true));
    // A host that forwards is a router: it obeys nobody, and nothing is left of what it has obeyed.
    host.set_forwarding(Forwarding::Enabled)?;
    assert_eq!(advertised(&host)?, (0, false));
    assert!(autoconfigured(&host)?.is_empty());
    pass(&host, 20)?;
    assert_eq!(advertised(&host)?, (0, false));
    host.set_forwarding(Forwarding::Disabled)?;
    pass(&host, 5)?;
    assert_eq!(advertised(&host)?, (2, true), "it asks again");
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

/// An advertisement with these options.
fn advert(lifetime: u16, options: &[Vec<u8>]) -> Vec<u8> {
    let [high, low] = lifetime.to_be_bytes();
    let mut bytes = vec![134, 0, 0, 0, 64, 0, high, low];
    bytes.extend([0; 8]);
    bytes.extend(options.concat());
    bytes
}

/// A prefix as options: that a router leads there, and that it is on the link; for ever.
fn options(prefix: &str) -> [Vec<u8>; 2] {
    let net: ipnet::Ipv6Net = prefix.parse().expect("a prefix");
    let (len, octets) = (net.prefix_len(), net.network().octets());
    let mut route = vec![24, 3, len, 0];
    route.extend([0xff; 4]);
    route.extend(octets);
    let mut on_link = vec![3, 4, len, 0x80];
    on_link.extend([0xff; 8]);
    on_link.extend([0; 4]);
    on_link.extend(octets);
    [route, on_link]
}

#[test]
fn nobody_pushes_aside_what_is_configured() -> Result {
    let system = System::virtual_time(1);
    let all = ["host", "liar", "side"].map(|name| system.create(name));
    let [host, liar, side] = all;
    let (host, liar, side) = (host?, liar?, side?);
    host.epair("eth0", &liar, "eth0")?;
    host.epair("eth1", &side, "eth0")?;
    liar.add_address("eth0", "2001:db8:9::9/64".parse()?)?;
    side.add_address("eth0", "2001:db8:5::2/64".parse()?)?;
    side.add_address("eth0", "fe80::2/64".parse()?)?;
    host.add_address("eth1", "2001:db8:5::1/64".parse()?)?;
    host.add_route("::/0".parse()?, NextHop::Gateway("2001:db8:5::2".parse()?))?;
    host.add_route("2001:db8:7::/48".parse()?, NextHop::Blackhole)?;
    obey(&host)?;
    pass(&host, 20)?;
    let before = host.inspect()?.routes.len();
    let raw = RawSocket::open_in(&liar, 58)?;
    raw.set_ttl(255)?;
    for prefix in [
        "2000::/3",
        "2001:db8:5::/65",
        "2001:db8:5:0:8000::/65",
        "2001:db8:7:1::/64",
        "fe80:2::/65",
        "fe80:3::/65",
        "fe80:3:0:0:8000::/65",
        "fe80::/10",
        "ff05::/16",
        "8000::/1",
        "::/1",
    ] {
        raw.send_to(&advert(0, &options(prefix)), "ff02::1".parse()?)?;
        pass(&host, 1)?;
        assert_eq!(host.inspect()?.routes.len(), before, "{prefix}");
    }
    assert!(answers(&host, "2001:db8:5::2")?);
    let number = host.inspect()?.interfaces.len();
    assert_eq!(number, 3, "lo0, eth0 and eth1");
    // What is configured later has its place in front as well.
    let free = options("2001:db8:a:b::/64");
    raw.send_to(&advert(0, &free), "ff02::1".parse()?)?;
    pass(&host, 1)?;
    assert_eq!(advertised(&host)?.0, 1, "a link of hosts may be there");
    host.add_route("2001:db8:a::/48".parse()?, NextHop::Blackhole)?;
    assert_eq!(advertised(&host)?.0, 0);
    host.remove_route("2001:db8:a::/48".parse()?)?;
    assert_eq!(advertised(&host)?.0, 1);
    for vnet in [&host, &liar, &side] {
        assert_conserved(vnet);
    }
    Ok(())
}

#[test]
fn interfaces_that_are_made_later_take_part() -> Result {
    let system = System::virtual_time(1);
    let [host, router] = ["host", "router"].map(|name| system.create(name));
    let (host, router) = (host?, router?);
    obey(&host)?;
    router.set_forwarding(Forwarding::Enabled)?;
    router.set_sysctl("net.inet6.ip6.rtadv_interval", 1_800_000)?;
    host.epair("eth0", &router, "eth0")?;
    router.add_address("eth0", "2001:db8:1::ff/64".parse()?)?;
    pass(&host, 5)?;
    assert_eq!(autoconfigured(&host)?.len(), 1);
    // A VLAN, on both sides.
    for vnet in [&host, &router] {
        vnet.vlan("eth0", "vlan7", vnet::VlanConfig::dot1q(7))?;
    }
    router.add_address("vlan7", "2001:db8:7::ff/64".parse()?)?;
    pass(&host, 5)?;
    let all = host.inspect()?.interfaces;
    let vlan = all.iter().find(|i| i.info.name == "vlan7");
    assert_eq!(vlan.map(|v| v.autoconfigured.len()), Some(1));
    assert_conserved(&host);
    Ok(())
}

#[test]
fn a_member_of_a_bridge_obeys_nobody_and_does_so_again_afterwards() -> Result {
    let system = System::virtual_time(1);
    let [host, router, far] = path(&system)?;
    obey(&host)?;
    pass(&host, 5)?;
    assert_eq!(advertised(&host)?, (2, true));
    host.bridge("bridge0")?;
    host.add_member("bridge0", "eth0")?;
    assert!(autoconfigured(&host)?.is_empty());
    pass(&host, 30)?;
    // The bridge itself is an interface like any other.
    assert!(autoconfigured(&host)?.is_empty());
    host.remove_member("bridge0", "eth0")?;
    pass(&host, 5)?;
    assert_eq!(autoconfigured(&host)?.len(), 1);
    assert_eq!(advertised(&host)?, (2, true));
    for vnet in [&host, &router, &far] {
        assert_conserved(vnet);
    }
    Ok(())
}

#[test]
fn of_two_routers_the_one_is_taken_that_is_there() -> Result {
    let system = System::virtual_time(1);
    let host = system.create("host")?;
    let mut routers = Vec::new();
    for n in 0..2 {
        let router = system.create(&format!("r{n}"))?;
        router.epair("eth0", &host, &format!("eth{n}"))?;
        router.set_forwarding(Forwarding::Enabled)?;
        router.add_address("eth0", format!("2001:db8:{n}::ff/64").parse()?)?;
        router.add_address("lo0", "2001:db8:ff::1/128".parse()?)?;
        router.set_sysctl("net.inet6.ip6.rtadv_interval", 1_800_000)?;
        routers.push(router);
    }
    obey(&host)?;
    pass(&host, 5)?;
    let default = || -> Result<Option<String>> {
        let routes = host.inspect()?.routes;
        let default = routes.iter().find(|r| r.dst.to_string() == "::/0");
        Ok(default.map(|r| r.interface.clone()))
    };
    assert_eq!(default()?.as_deref(), Some("eth0"));
    host.set_up("eth0", AdminState::Down)?;
    assert_eq!(default()?.as_deref(), Some("eth1"));
    assert!(answers(&host, "2001:db8:ff::1")?);
    host.set_up("eth0", AdminState::Up)?;
    pass(&host, 5)?;
    assert_eq!(default()?.as_deref(), Some("eth0"));
    // It says nothing, and does not answer: after a while it is taken for gone (RFC 4861 section 6.3.6).
    routers[0].set_up("eth0", AdminState::Down)?;
    routers[0].set_up("eth0", AdminState::Up)?;
    host.remove_interface("eth0")?;
    assert_eq!(default()?.as_deref(), Some("eth1"));
    assert!(answers(&host, "2001:db8:ff::1")?);
    assert_conserved(&host);
    Ok(())
}

#[test]
fn who_is_on_another_link_forgets_what_the_first_one_said() -> Result {
    let system = System::virtual_time(1);
    let [host, router] = ["host", "router"].map(|name| system.create(name));
    let (host, router) = (host?, router?);
    host.epair("eth0", &router, "eth0")?;
    router.set_forwarding(Forwarding::Enabled)?;
    router.set_sysctl("net.inet6.ip6.rtadv_interval", 1_800_000)?;
    for vid in [10, 20] {
        let name = format!("vlan{vid}");
        router.vlan("eth0", &name, vnet::VlanConfig::dot1q(vid))?;
        router.add_address(&name, format!("2001:db8:{vid}::ff/64").parse()?)?;
    }
    obey(&host)?;
    host.vlan("eth0", "vlan", vnet::VlanConfig::dot1q(10))?;
    pass(&host, 5)?;
    let nets = || -> Result<Vec<String>> {
        let routes = host.inspect()?.routes;
        let advertised = routes
            .iter()
            .filter(|r| format!("{:?}", r.origin) == "Advertised" && r.interface == "vlan");
        Ok(advertised.map(|r| r.dst.to_string()).collect())
    };
    assert_eq!(nets()?, ["::/0", "2001:db8:10::/64"]);
    host.set_vlan("vlan", vnet::VlanConfig::dot1q(20))?;
    assert_eq!(nets()?, [""; 0]);
    pass(&host, 5)?;
    assert_eq!(nets()?, ["::/0", "2001:db8:20::/64"]);
    assert_conserved(&host);
    Ok(())
}

/// RFC 4861 section 6.3.2: what a router says of the hop limit is said of its link, for sockets as for others.
#[test]
fn the_hop_limit_is_that_of_each_link() -> Result {
    let system = System::manual(1);
    let host = system.create("host")?;
    obey(&host)?;
    let (us, peer) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 9]);
    let ports = [
        host.port("eth0", Some(MacAddr(us)))?,
        host.port("eth1", Some(MacAddr(us)))?,
    ];
    for (n, name) in ["eth0", "eth1"].into_iter().enumerate() {
        host.add_address(name, format!("2001:db8:{n}::1/64").parse()?)?;
        let there = format!("2001:db8:{n}::9").parse()?;
        host.add_neighbour(name, there, MacAddr(peer))?;
    }
    system.poll(system.now() + Duration::from_secs(3));
    let socket = UdpSocket::bind_in(&host, "[::]:0")?;
    let hop_limits = || -> Result<Vec<u8>> {
        let mut all = Vec::new();
        for (n, port) in ports.iter().enumerate() {
            while port.recv().is_some() {}
            socket.send_to(b"x", (format!("2001:db8:{n}::9").parse::<IpAddr>()?, 9))?;
            system.poll(system.now());
            let frame = port.recv().ok_or("nothing was sent")?.to_vec();
            assert_eq!(frame[20], 17, "a datagram");
            all.push(frame[21]);
        }
        Ok(all)
    };
    let says = |hop_limit: u8| -> Result {
        let mut rest = vec![hop_limit, 0, 7, 8];
        rest.extend([0; 8]);
        let header = Ip6::new("fe80::9".parse()?, "ff02::1".parse()?);
        let frame = ethernet(
            [0x33, 0x33, 0, 0, 0, 1],
            peer,
            IPV6,
            &header.icmp(134, 0, &rest),
        );
        ports[0].send(frame)?;
        system.poll(system.now());
        Ok(())
    };
    assert_eq!(hop_limits()?, [64, 64]);
    says(33)?;
    assert_eq!(hop_limits()?, [33, 64]);
    // One that ends at the first router is not believed.
    says(1)?;
    assert_eq!(hop_limits()?, [33, 64]);
    // A router does not hear other routers, and what they said is forgotten.
    host.set_forwarding(Forwarding::Enabled)?;
    assert_eq!(hop_limits()?, [64, 64]);
    assert_conserved(&host);
    Ok(())
}

/// RFC 4861 section 6.3.4: the hop limit and the MTU are those of the link.
#[test]
fn a_host_obeys_what_is_said_of_its_link() -> Result {
    let system = System::virtual_time(1);
    let (host, other) = (system.create("host")?, system.create("other")?);
    host.epair("eth0", &other, "eth0")?;
    other.add_address("eth0", "2001:db8:9::9/64".parse()?)?;
    obey(&host)?;
    pass(&host, 2)?;
    let [_, mut prefix] = options("2001:db8:9::/64");
    prefix[3] = 0xc0;
    let raw = RawSocket::open_in(&other, 58)?;
    raw.set_ttl(255)?;
    let says = |hop_limit: u8, mtu: u32| -> Result {
        let mtu = [&[5, 1, 0, 0][..], &mtu.to_be_bytes()].concat();
        let mut bytes = advert(1800, &[prefix.clone(), mtu]);
        bytes[4] = hop_limit;
        raw.send_to(&bytes, "ff02::1".parse()?)?;
        pass(&host, 3)
    };
    // The hop limit of the answer, and in how many frames it comes.
    let asks = |len: usize| -> Result<(u8, u64)> {
        let addr = autoconfigured(&host)?[0];
        let sent = || -> Result<u64> {
            let all = host.interfaces()?;
            Ok(all.iter().map(|i| i.counters.tx_frames).sum())
        };
        let before = sent()?;
        let socket = EchoSocket::bind_in(&other)?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        socket.send_to(1, &vec![7; len], addr)?;
        match socket.recv()?.0 {
            EchoEvent::Reply { ttl, .. } => Ok((ttl, sent()? - before)),
            event => Err(format!("{event:?}").into()),
        }
    };
    says(33, 1400)?;
    asks(8)?;
    assert_eq!(asks(1352)?, (33, 1));
    assert_eq!(asks(1353)?, (33, 2));
    // What cannot be is not heard, and nothing said leaves all as it was.
    for mtu in [1279, 1501, 70_000] {
        says(0, mtu)?;
        assert_eq!(asks(1353)?, (33, 2), "{mtu}");
    }
    // What is configured comes first.
    host.set_sysctl("net.inet.ip.ttl", 99)?;
    says(33, 1280)?;
    assert_eq!(asks(1232)?, (99, 1));
    assert_eq!(asks(1233)?, (99, 2));
    assert_conserved(&host);
    Ok(())
}

/// RFC 8981: beside each address there is one that changes, which is what others see.
#[test]
fn a_host_changes_its_temporary_address() -> Result {
    let system = System::virtual_time(1);
    let [host, router, far] = path(&system)?;
    obey(&host)?;
    host.set_sysctl("net.inet6.ip6.temppltime", 100_000)?;
    host.set_sysctl("net.inet6.ip6.tempvltime", 200_000)?;
    router.set_sysctl("net.inet6.ip6.rtadv_interval", 10_000)?;
    pass(&host, 5)?;
    let stable = autoconfigured(&host)?;
    assert_eq!(stable.len(), 1);
    let seen = || -> Result<IpAddr> {
        let socket = UdpSocket::bind_in(&far, "[::]:9")?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        let from = UdpSocket::bind_in(&host, "[::]:0")?;
        from.send_to(b"who", ("2001:db8:2::1".parse::<IpAddr>()?, 9))?;
        let mut bytes = [0; 9];
        Ok(socket.recv_from(&mut bytes)?.1.ip())
    };
    assert_eq!(seen()?, stable[0]);
    host.set_sysctl("net.inet6.ip6.use_tempaddr", 1)?;
    pass(&host, 2)?;
    assert_eq!(autoconfigured(&host)?.len(), 2);
    let first = seen()?;
    assert_ne!(first, stable[0]);
    pass(&host, 100)?;
    let second = seen()?;
    assert!(second != first && second != stable[0]);
    // The one before is used on, until it is over, and the other one all the time.
    assert!(autoconfigured(&host)?.contains(&first));
    assert!(answers(&far, &first.to_string())?);
    pass(&host, 110)?;
    assert!(!autoconfigured(&host)?.contains(&first));
    assert!(!answers(&far, &first.to_string())?);
    assert!(answers(&far, &stable[0].to_string())?);
    host.set_sysctl("net.inet6.ip6.prefer_tempaddr", 0)?;
    assert_eq!(seen()?, stable[0]);
    host.set_sysctl("net.inet6.ip6.use_tempaddr", 0)?;
    pass(&host, 1)?;
    assert_eq!(autoconfigured(&host)?, stable);
    for vnet in [&host, &router, &far] {
        assert_conserved(vnet);
    }
    Ok(())
}

/// RFC 4861 sections 6.2.4, 6.2.5 and 6.2.8: what follows from an address is over when that goes, and hosts are told so.
#[test]
fn an_address_that_a_router_has_no_more_takes_its_prefix_along() -> Result {
    let system = System::virtual_time(1);
    let all = path(&system)?;
    let [host, router, _far] = &all;
    obey(host)?;
    router.add_address("eth0", "2001:db8:7::ff/64".parse()?)?;
    pass(host, 20)?;
    let on_link = || -> Result<Vec<String>> {
        let routes = host.inspect()?.routes;
        let advertised = routes
            .iter()
            .filter(|r| format!("{:?}", r.origin) == "Advertised");
        Ok(advertised.map(|r| r.dst.to_string()).collect())
    };
    let both = ["::/0", "2001:db8:1::/64", "2001:db8:7::/64"];
    assert_eq!(on_link()?, both);
    router.remove_address("eth0", "2001:db8:7::ff".parse()?)?;
    pass(host, 4)?;
    assert_eq!(on_link()?, both[..2]);
    // Its addresses there are used on for two hours (RFC 4862 section 5.5.3).
    assert_eq!(autoconfigured(host)?.len(), 2);
    // One that is given again at once was never over.
    router.add_address("eth0", "2001:db8:7::ff/64".parse()?)?;
    pass(host, 20)?;
    router.remove_address("eth0", "2001:db8:7::ff".parse()?)?;
    router.add_address("eth0", "2001:db8:7::fe/64".parse()?)?;
    for _ in 0..40 {
        pass(host, 1)?;
        assert_eq!(on_link()?, both);
    }
    // With the last address goes the one by which it was known.
    for addr in ["2001:db8:7::fe", "2001:db8:1::ff"] {
        router.remove_address("eth0", addr.parse()?)?;
    }
    pass(host, 1)?;
    assert_eq!(on_link()?, [""; 0]);
    // With another such address it is another router.
    router.add_address("eth0", "2001:db8:1::ff/64".parse()?)?;
    pass(host, 20)?;
    let default = || -> Result<Vec<IpAddr>> {
        let routes = host.inspect()?.routes;
        let default = routes.iter().filter(|r| r.dst.to_string() == "::/0");
        Ok(default.filter_map(|r| r.gateway).collect())
    };
    let before = default()?;
    assert_eq!(before.len(), 1);
    router.add_address("eth0", "fe80::77/64".parse()?)?;
    pass(host, 4)?;
    assert_eq!(default()?, ["fe80::77".parse::<IpAddr>()?]);
    assert_ne!(default()?, before);
    for vnet in &all {
        assert_conserved(vnet);
    }
    Ok(())
}

/// What a router is told to say is what hosts hear: of each link by itself.
#[test]
fn a_router_says_on_each_link_what_it_is_told() -> Result {
    let system = System::virtual_time(1);
    let all = path(&system)?;
    let [host, router, far] = &all;
    obey(host)?;
    obey(far)?;
    let told = RouterConfig {
        preference: RouterPreference::Low,
        hop_limit: Some(33),
        mtu: Some(1400),
        prefixes: Some(vec![RouterPrefix {
            net: "2001:db8:77::/64".parse()?,
            valid: 3600,
            preferred: Some(600),
        }]),
        routes: vec![RouterRoute {
            net: "2001:db8:2::/48".parse()?,
            lifetime: 1800,
            preference: RouterPreference::High,
        }],
        dns: vec!["2001:db8::53".parse()?],
        search: vec!["example.net".to_owned()],
        ..RouterConfig::default()
    };
    router.set_router("eth0", Some(told.clone()))?;
    pass(host, 20)?;
    let view = |vnet: &Vnet| -> Result<_> {
        let interfaces = vnet.inspect()?.interfaces;
        let eth0 = interfaces.into_iter().find(|i| i.info.name == "eth0");
        Ok(eth0.ok_or("it has the interface")?)
    };
    let (heard, elsewhere) = (view(host)?, view(far)?);
    assert_eq!(heard.dns, told.dns);
    assert_eq!(heard.search, told.search);
    assert!(elsewhere.dns.is_empty() && elsewhere.search.is_empty());
    let net: ipnet::Ipv6Net = "2001:db8:77::/64".parse()?;
    let is_of = |addr: &IpAddr| matches!(addr, IpAddr::V6(addr) if net.contains(addr));
    assert!(heard.autoconfigured.iter().all(is_of) && heard.autoconfigured.len() == 1);
    assert!(!elsewhere.autoconfigured.iter().any(is_of));
    // The prefix, the route, and the default route.
    assert_eq!(advertised(host)?, (3, true));
    // A router that is none says the rest of it.
    let none = RouterConfig {
        lifetime: Some(0),
        ..told.clone()
    };
    router.set_router("eth0", Some(none))?;
    pass(host, 20)?;
    assert_eq!(advertised(host)?, (2, false));
    assert_eq!(
        view(router)?.router.map(|told| told.lifetime),
        Some(Some(0))
    );
    // What it says no more is over at once, before its lifetime is (RFC 4861 section 6.2.4): but for its addresses.
    router.set_router("eth0", None)?;
    pass(host, 4)?;
    let heard = view(host)?;
    assert!(heard.dns.is_empty() && heard.search.is_empty());
    assert!(heard.autoconfigured.len() == 2 && heard.autoconfigured.iter().any(is_of));
    // The prefix of the router's address, and the default route.
    assert_eq!(advertised(host)?, (2, true));
    router.set_router("eth0", Some(told.clone()))?;
    pass(host, 4)?;
    assert_eq!(view(host)?.dns, told.dns);
    // And one that leaves takes all but addresses with it.
    router.set_sysctl("net.inet6.ip6.rtadv_interval", 0)?;
    pass(host, 5)?;
    assert_eq!(view(host)?.dns.len(), 0);
    router.set_router("eth0", None)?;
    assert_eq!(view(router)?.router, None);
    for vnet in &all {
        assert_conserved(vnet);
    }
    Ok(())
}

#[test]
fn what_a_router_cannot_say_is_refused() -> Result {
    let system = System::manual(1);
    let router = system.create("router")?;
    let _port = router.port("eth0", None)?;
    let refused = |config: RouterConfig, why: &str| {
        let error = router.set_router("eth0", Some(config)).expect_err(why);
        assert!(error.to_string().contains(why), "{error}");
    };
    let base = RouterConfig::default;
    refused(
        RouterConfig {
            lifetime: Some(9001),
            ..base()
        },
        "9000 s",
    );
    refused(
        RouterConfig {
            hop_limit: Some(0),
            ..base()
        },
        "hop limit",
    );
    refused(
        RouterConfig {
            mtu: Some(1279),
            ..base()
        },
        "MTU",
    );
    refused(
        RouterConfig {
            search: vec!["a b".to_owned()],
            ..base()
        },
        "domain",
    );
    let prefix = RouterPrefix {
        net: "2001:db8::/64".parse()?,
        valid: 1,
        preferred: Some(2),
    };
    refused(
        RouterConfig {
            prefixes: Some(vec![prefix]),
            ..base()
        },
        "preferred no longer",
    );
    let prefix = RouterPrefix {
        preferred: None,
        ..prefix
    };
    refused(
        RouterConfig {
            prefixes: Some(vec![prefix; 17]),
            ..base()
        },
        "16 prefixes",
    );
    let much = vec!["2001:db8::53".parse()?; 80];
    refused(
        RouterConfig {
            dns: much,
            ..base()
        },
        "one message",
    );
    assert!(router.set_router("lo0", None).is_err());
    assert!(router.set_router("eth9", None).is_err());
    router.set_router(
        "eth0",
        Some(RouterConfig {
            prefixes: Some(vec![prefix; 16]),
            ..base()
        }),
    )?;
    Ok(())
}

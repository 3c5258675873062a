//! Promise: what a router is asked to look at beyond routes, it looks at: where a packet comes from, whom a broadcast is
//! for, for whom it answers, what packets want to have written into them, and whom it tells that it is a router.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use vnet::net::{EchoEvent, EchoSocket, UdpSocket};
use vnet::{DropReason, Forwarding, MacAddr, NextHop, OwnedVnet, System, Vnet};
use vnet_tests::accounts::assert_conserved;
use vnet_tests::frames::{IPV4, IPV6, Ip4, Ip6, ethernet, icmp};
use vnet_tests::judge;

type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// Two hosts, and a router between them, in both families. The hosts have default routes.
fn network(system: &System) -> Result<[OwnedVnet; 3]> {
    let [a, router, b] = ["a", "router", "b"].map(|name| system.create(name).expect("a free name"));
    router.epair("eth0", &a, "eth0")?;
    router.epair("eth1", &b, "eth0")?;
    for (net, interface, host) in [(1, "eth0", &a), (2, "eth1", &b)] {
        router.add_address(interface, format!("198.18.{net}.254/24").parse()?)?;
        router.add_address(interface, format!("2001:db8:{net}::ff/64").parse()?)?;
        host.add_address("eth0", format!("198.18.{net}.1/24").parse()?)?;
        host.add_address("eth0", format!("2001:db8:{net}::1/64").parse()?)?;
        let gateway: IpAddr = format!("198.18.{net}.254").parse()?;
        host.add_route("0.0.0.0/0".parse()?, gateway)?;
        let gateway: IpAddr = format!("2001:db8:{net}::ff").parse()?;
        host.add_route("::/0".parse()?, gateway)?;
    }
    router.set_forwarding(Forwarding::Enabled)?;
    judge::watch(&[&router]);
    Ok([a, router, b])
}

fn answers(from: &Vnet, to: &str) -> bool {
    let socket = EchoSocket::bind_in(from).expect("a socket");
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .expect("not zero");
    let sent = socket.send_to(1, b"ping", to.parse().expect("an address"));
    sent.is_ok() && matches!(socket.recv(), Ok((EchoEvent::Reply { .. }, _)))
}

#[test]
fn a_packet_must_come_from_where_its_source_is() -> Result {
    let system = System::virtual_time(1);
    let [a, router, b] = network(&system)?;
    // Addresses that are elsewhere, or nowhere, by the router's routes.
    a.add_address("eth0", "198.18.2.77/32".parse()?)?;
    a.add_address("eth0", "203.0.113.7/32".parse()?)?;
    a.add_address("eth0", "2001:db8:2::77/128".parse()?)?;
    let (own, elsewhere, nowhere) = ("198.18.1.1:7", "198.18.2.77:7", "203.0.113.7:7");
    let (own_6, elsewhere_6) = ("[2001:db8:1::1]:7", "[2001:db8:2::77]:7");
    let passes = |from: &str| -> Result<bool> {
        let to = if from.starts_with('[') {
            "[2001:db8:2::1]:9"
        } else {
            "198.18.2.1:9"
        };
        let receiver = UdpSocket::bind_in(&b, "[::]:9")?;
        receiver.set_read_timeout(Some(Duration::from_secs(5)))?;
        UdpSocket::bind_in(&a, from)?.send_to(b"x", to)?;
        Ok(receiver.recv(&mut [0; 4]).is_ok())
    };
    let all = [own, elsewhere, nowhere, own_6, elsewhere_6];
    for (mode, expected) in [
        (0, [true, true, true, true, true]),
        (1, [true, false, false, true, false]),
        (2, [true, true, false, true, true]),
    ] {
        router.set_sysctl("net.inet.ip.rp_filter", mode)?;
        let before = router.stats()?.rx_drops(DropReason::ReversePath);
        for (from, expected) in all.into_iter().zip(expected) {
            assert_eq!(passes(from)?, expected, "mode {mode}, from {from}");
        }
        let dropped = router.stats()?.rx_drops(DropReason::ReversePath) - before;
        let expected = expected.iter().filter(|passes| !**passes).count();
        assert_eq!(dropped, expected as u64, "mode {mode}");
    }
    // A default route leads everywhere.
    router.set_sysctl("net.inet.ip.rp_filter", 2)?;
    router.add_route(
        "0.0.0.0/0".parse()?,
        NextHop::Gateway("198.18.2.1".parse()?),
    )?;
    assert!(passes(nowhere)?);
    // What is for the router itself is looked at in the same way.
    router.set_sysctl("net.inet.ip.rp_filter", 1)?;
    let own = UdpSocket::bind_in(&router, "198.18.1.254:9")?;
    own.set_nonblocking(true)?;
    UdpSocket::bind_in(&a, elsewhere)?.send_to(b"x", "198.18.1.254:9")?;
    system.run_for(Duration::from_secs(5))?;
    assert!(own.recv(&mut [0; 4]).is_err());
    for vnet in [&a, &router, &b] {
        assert_conserved(vnet);
    }
    judge::judge();
    Ok(())
}

#[test]
fn a_broadcast_to_another_link_is_passed_on_where_that_is_asked_for() -> Result {
    let system = System::virtual_time(1);
    let [a, router, b] = network(&system)?;
    let sender = UdpSocket::bind_in(&a, "0.0.0.0:0")?;
    let far = UdpSocket::bind_in(&b, "0.0.0.0:9")?;
    let near = UdpSocket::bind_in(&router, "0.0.0.0:9")?;
    for socket in [&far, &near] {
        socket.set_nonblocking(true)?;
    }
    for (passes_on, at_far, at_near) in [(0, false, true), (1, true, false)] {
        router.set_sysctl("net.inet.ip.directed-broadcast", passes_on)?;
        sender.send_to(b"all", "198.18.2.255:9")?;
        system.run_for(Duration::from_secs(5))?;
        assert_eq!(far.recv(&mut [0; 4]).is_ok(), at_far, "{passes_on}");
        assert_eq!(near.recv(&mut [0; 4]).is_ok(), at_near, "{passes_on}");
        // That of the link by which it comes in is for the router.
        sender.set_broadcast(true)?;
        sender.send_to(b"all", "198.18.1.255:9")?;
        system.run_for(Duration::from_secs(5))?;
        assert!(near.recv(&mut [0; 4]).is_ok() && far.recv(&mut [0; 4]).is_err());
    }
    for vnet in [&a, &router, &b] {
        assert_conserved(vnet);
    }
    judge::judge();
    Ok(())
}

#[test]
fn a_router_answers_for_those_behind_it_where_that_is_asked_for() -> Result {
    let system = System::virtual_time(1);
    let [a, router, b] = network(&system)?;
    // A host that takes everything for its own link.
    for net in ["0.0.0.0/0", "::/0"] {
        a.remove_route(net.parse()?)?;
        a.add_route(net.parse()?, NextHop::Interface("eth0".to_owned()))?;
    }
    assert!(!answers(&a, "198.18.2.1") && !answers(&a, "2001:db8:2::1"));
    router.set_sysctl("net.link.ether.inet.proxyall", 1)?;
    router.set_sysctl("net.inet6.icmp6.nd6_proxyall", 1)?;
    system.run_for(Duration::from_secs(60))?;
    assert!(answers(&a, "198.18.2.1") && answers(&a, "2001:db8:2::1"));
    let at = |ip: &str| -> Result<Option<MacAddr>> {
        let ip: IpAddr = ip.parse()?;
        let neighbours = a.inspect()?.neighbours;
        Ok(neighbours.iter().find(|n| n.ip == ip).and_then(|n| n.mac))
    };
    let own = router
        .interfaces()?
        .into_iter()
        .find(|i| i.name == "eth0")
        .map(|i| i.mac);
    assert_eq!((at("198.18.2.1")?, at("2001:db8:2::1")?), (own, own));
    // Whoever is asked whether it is still there is asked in the router's place, which answers: the entries last.
    system.run_for(Duration::from_secs(100))?;
    assert!(answers(&a, "198.18.2.1") && answers(&a, "2001:db8:2::1"));
    system.run_for(Duration::from_secs(20))?;
    assert_eq!((at("198.18.2.1")?, at("2001:db8:2::1")?), (own, own));
    // Of IPv6 after a while, which is another one each time: others may answer as well (RFC 4861 section 7.2.8).
    let mut waits = std::collections::BTreeSet::new();
    for n in 0x10..0x18 {
        let addr = format!("2001:db8:2::{n:x}");
        b.add_address("eth0", format!("{addr}/128").parse()?)?;
        let asked = system.now();
        assert!(answers(&a, &addr), "{addr}");
        waits.insert(system.now() - asked);
    }
    assert!(waits.len() == 8 && waits.iter().all(|wait| *wait <= Duration::from_secs(1)));
    // Not for those on the same link, nor for those to whom it has no way, nor while it is a host.
    assert!(!answers(&a, "198.18.1.9"));
    assert!(!answers(&a, "203.0.113.9"));
    assert!(!answers(&a, "2001:db8:1::9") && !answers(&a, "2001:db8:9::9"));
    // Nor for one of which somebody wants to know whether it is free.
    a.add_address("eth0", "2001:db8:2::7/128".parse()?)?;
    system.run_for(Duration::from_secs(5))?;
    let eth0 = a.inspect()?.interfaces;
    assert!(eth0.iter().all(|i| i.duplicate.is_empty()));
    router.set_forwarding(Forwarding::Disabled)?;
    assert!(!answers(&a, "198.18.2.2") && !answers(&a, "2001:db8:2::2"));
    for vnet in [&a, &router, &b] {
        assert_conserved(vnet);
    }
    judge::judge();
    Ok(())
}

#[test]
fn a_packet_that_asks_for_it_tells_where_it_has_passed() -> Result {
    let system = System::manual(1);
    let [router, far] = ["router", "far"].map(|name| system.create(name).expect("a free name"));
    let port = router.port("eth0", None)?;
    router.epair("eth1", &far, "eth0")?;
    router.add_address("eth0", "198.18.1.254/24".parse()?)?;
    router.add_address("eth1", "198.18.2.254/24".parse()?)?;
    far.add_address("eth0", "198.18.2.1/24".parse()?)?;
    far.add_route(
        "0.0.0.0/0".parse()?,
        NextHop::Gateway("198.18.2.254".parse()?),
    )?;
    router.set_forwarding(Forwarding::Enabled)?;
    let (me, mac) = (Ipv4Addr::new(198, 18, 1, 1), [2, 0, 0, 0, 0, 9]);
    router.add_neighbour("eth0", me.into(), MacAddr(mac))?;
    judge::watch(&[&router, &far]);
    let ping = |options: Vec<u8>| -> Option<Vec<u8>> {
        let header = Ip4 {
            options,
            ..Ip4::new(me, Ipv4Addr::new(198, 18, 2, 1), 1)
        };
        let request = icmp(8, 0, 7 << 16 | 1, b"where to?");
        let frame = ethernet(router_mac(&router), mac, IPV4, &header.packet(&request));
        port.send(frame).expect("it is there");
        system.poll(system.now());
        let mut reply = None;
        while let Some(frame) = port.recv() {
            let frame = frame.to_vec();
            if frame[12..14] == [8, 0] && frame[23] == 1 {
                let kind = frame[14 + 4 * usize::from(frame[14] & 0xf)];
                assert_eq!(kind, 0, "an echo reply: {frame:?}");
                reply = Some(frame[14..].to_vec());
            }
        }
        reply
    };
    let passed = |reply: &[u8], option: usize| -> Vec<Ipv4Addr> {
        let option = &reply[20 + option..];
        let all = option[3..usize::from(option[2]) - 1].chunks(4);
        all.map(|a| Ipv4Addr::new(a[0], a[1], a[2], a[3])).collect()
    };
    // The way there, the host itself, and the way back.
    let record = [&[7, 19, 4][..], &[0; 16]].concat();
    let reply = ping(record).expect("an answer");
    let route = [[198, 18, 2, 254], [198, 18, 2, 1], [198, 18, 1, 254]].map(Ipv4Addr::from);
    assert_eq!(passed(&reply, 0), route);
    assert_eq!(reply[0], 0x4a);
    // Times with addresses; the last one finds no room, and is counted.
    let stamps = [&[68, 20, 5, 1][..], &[0; 16]].concat();
    let reply = ping(stamps).expect("an answer");
    assert_eq!(reply[20..24], [68, 20, 21, 0x11]);
    assert_eq!(reply[24..28], [198, 18, 2, 254]);
    assert!(reply[28] & 0x80 != 0, "the time of day is not known");
    assert_eq!(reply[32..36], [198, 18, 2, 1]);
    // Without options, an answer has none.
    assert_eq!(ping(Vec::new()).expect("an answer")[0], 0x45);
    // A route of the sender's choice is refused, and counted.
    for kind in [131, 137] {
        let before = router.stats()?.rx_drops(DropReason::SourceRoute);
        assert_eq!(ping(vec![kind, 7, 4, 198, 18, 2, 1]), None);
        assert_eq!(
            router.stats()?.rx_drops(DropReason::SourceRoute),
            before + 1
        );
    }
    for vnet in [&router, &far] {
        assert_conserved(vnet);
    }
    judge::judge();
    Ok(())
}

/// The lifetime of the router in each advertisement that came to a port, and where it is unicast.
fn lifetimes(port: &vnet::Port) -> Vec<u16> {
    let mut all = Vec::new();
    while let Some(frame) = port.recv() {
        let frame = frame.to_vec();
        // ICMPv6 type 134 behind an IPv6 header: hop limit and flags, and then the lifetime.
        if frame[12..14] == IPV6.to_be_bytes() && frame[20] == 58 && frame[54] == 134 {
            all.push(u16::from_be_bytes([frame[60], frame[61]]));
        }
    }
    all
}

/// RFC 4861 sections 6.2.4 to 6.2.6: each interface has its own times, and who asks on one link is answered there.
#[test]
fn a_router_speaks_on_each_link_by_itself_and_takes_leave_where_it_goes() -> Result {
    let system = System::manual(1);
    let router = system.create("router")?;
    let [one, two, three] = [0, 1, 2].map(|n| {
        let name = format!("port{n}");
        let port = router.port(&name, None).expect("a free name");
        let net = format!("2001:db8:{n}::1/64").parse().expect("a prefix");
        router.add_address(&name, net).expect("a free address");
        port
    });
    router.set_forwarding(Forwarding::Enabled)?;
    router.set_sysctl("net.inet6.ip6.rtadv_interval", 600_000)?;
    let pass = |secs: u64| system.poll(system.now() + Duration::from_secs(secs));
    let heard = || [&one, &two, &three].map(lifetimes);
    for _ in 0..60 {
        pass(1);
    }
    assert_eq!(
        heard(),
        [vec![1800; 3], vec![1800; 3], vec![1800; 3]],
        "what is new"
    );
    // From then on, no two of them speak at once.
    let mut spoken = 0;
    for _ in 0..6000 {
        pass(1);
        let now = heard().map(|all| all.len());
        assert!(now.iter().sum::<usize>() <= 2, "{now:?}");
        spoken += now.iter().sum::<usize>();
    }
    assert!((30..=90).contains(&spoken), "{spoken}");
    pass(5);
    let _ = heard();
    let host: std::net::Ipv6Addr = "fe80::9".parse()?;
    let all_routers: std::net::Ipv6Addr = "ff02::2".parse()?;
    let mut asks = Ip6::new(host, all_routers);
    asks.hop_limit = 255;
    let asks = asks.icmp(133, 0, &[0; 4]);
    one.send(ethernet(
        [0x33, 0x33, 0, 0, 0, 2],
        [2, 0, 0, 0, 0, 9],
        IPV6,
        &asks,
    ))?;
    let mut answers = [0; 3];
    for _ in 0..4 {
        pass(1);
        for (n, all) in heard().iter().enumerate() {
            answers[n] += all.len();
        }
    }
    assert!(
        answers[0] >= 1 && answers[1] + answers[2] <= 1,
        "{answers:?}"
    );
    // Each way in which an interface ceases to advertise is told on its link, and there alone.
    router.remove_interface("port0")?;
    pass(0);
    assert_eq!(lifetimes(&one), [0]);
    let other = system.create("other")?;
    router.move_interface("port1", &other)?;
    pass(0);
    assert_eq!(lifetimes(&two).last(), Some(&0));
    assert!(!lifetimes(&three).contains(&0));
    drop(router);
    assert_eq!(lifetimes(&three).last(), Some(&0), "with its last breath");
    Ok(())
}

fn router_mac(router: &Vnet) -> [u8; 6] {
    let interfaces = router.interfaces().expect("it is alive");
    let eth0 = interfaces.iter().find(|i| i.name == "eth0");
    eth0.expect("it has one").mac.0
}

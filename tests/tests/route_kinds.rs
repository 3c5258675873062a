//! Promise: a route may lead nowhere. Packets are then dropped without a word, or refused in the words of
//! its kind, whether they are forwarded or start here; and such a route is recorded as others are.

use std::io::ErrorKind;
use std::time::Duration;

use vnet::net::{EchoEvent, EchoSocket, TcpStream, UdpSocket};
use vnet::{DropReason, Forwarding, NextHop, OwnedVnet, RouteKind, System};
use vnet_tests::topology::{join, vnet};

const KINDS: [(&str, NextHop, RouteKind, DropReason); 3] = [
    (
        "203.0.113.1",
        NextHop::Blackhole,
        RouteKind::Blackhole,
        DropReason::Blackhole,
    ),
    (
        "203.0.113.2",
        NextHop::Unreachable,
        RouteKind::Unreachable,
        DropReason::UnreachableRoute,
    ),
    (
        "203.0.113.3",
        NextHop::Prohibit,
        RouteKind::Prohibit,
        DropReason::Prohibited,
    ),
];

/// A host with a router in front of it that would know a way, but for the routes of each kind.
fn network(system: &System) -> [OwnedVnet; 3] {
    let [host, router, far] = ["host", "router", "far"].map(|name| vnet(system, name));
    join(&host, "eth0 192.0.2.1/24", &router, "eth0 192.0.2.254/24");
    join(
        &router,
        "eth1 198.51.100.1/24",
        &far,
        "eth0 198.51.100.2/24",
    );
    router.set_forwarding(Forwarding::Enabled).unwrap();
    let any = "0.0.0.0/0".parse().unwrap();
    let gateway = |address: &str| NextHop::Gateway(address.parse().unwrap());
    host.add_route(any, gateway("192.0.2.254")).unwrap();
    router.add_route(any, gateway("198.51.100.2")).unwrap();
    for (dst, via, ..) in KINDS {
        let dst: std::net::IpAddr = dst.parse().unwrap();
        router.add_route(dst.into(), via).unwrap();
    }
    [host, router, far]
}

#[test]
fn what_is_forwarded_is_dropped_or_refused() {
    let system = System::virtual_time(1);
    let [host, router, _far] = network(&system);
    for (dst, .., reason) in KINDS {
        let socket = EchoSocket::bind_in(&host).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(1)))
            .unwrap();
        socket.send_to(1, b"x", dst.parse().unwrap()).unwrap();
        let told = socket.recv().map(|(event, _)| event);
        match (reason, told) {
            (DropReason::Blackhole, Err(error)) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
            }
            (
                DropReason::UnreachableRoute | DropReason::Prohibited,
                Ok(EchoEvent::Unreachable { .. }),
            ) => {}
            (_, told) => panic!("{reason}: {told:?}"),
        }
        assert_eq!(router.stats().unwrap().rx_drops(reason), 1, "{reason}");
    }
}

#[test]
fn what_starts_here_fails_with_the_error_of_its_kind() {
    let system = System::virtual_time(1);
    let [_host, router, _far] = network(&system);
    for ((dst, ..), expected) in KINDS.into_iter().zip([
        ErrorKind::InvalidInput,
        ErrorKind::HostUnreachable,
        ErrorKind::PermissionDenied,
    ]) {
        let connected = TcpStream::connect_in(&router, (dst, 80));
        assert_eq!(connected.map(drop).map_err(|e| e.kind()), Err(expected));
        let socket = UdpSocket::bind_in(&router, "198.51.100.1:0").unwrap();
        let sent = socket.send_to(b"x", (dst, 7));
        assert_eq!(sent.map_err(|e| e.kind()), Err(expected), "{dst}");
    }
}

#[test]
fn they_are_listed_recorded_and_removed() {
    let system = System::virtual_time(1);
    let [_host, router, _far] = network(&system);
    let twin = router.clone_as("twin").unwrap();
    for (dst, _, kind, _) in KINDS {
        let dst = dst.parse::<std::net::IpAddr>().unwrap().into();
        for vnet in [&router, &twin] {
            let routes = vnet.routes().unwrap();
            let listed = routes.iter().find(|r| r.dst == dst).unwrap();
            assert_eq!((listed.kind, listed.gateway), (kind, None));
            assert!(vnet.inspect().unwrap().to_string().contains(kind.as_str()));
        }
        twin.remove_route(dst).unwrap();
        let routes = twin.routes().unwrap();
        assert!(routes.iter().all(|r| r.dst != dst));
    }
    let text = router.record().unwrap().to_toml().unwrap();
    assert!(text.contains("kind = \"prohibit\""), "{text}");
}

#[test]
fn over_ipv6_they_are_refused_in_its_words() {
    let system = System::virtual_time(1);
    let [host, router] = ["host", "router"].map(|name| vnet(&system, name));
    join(
        &host,
        "eth0 2001:db8:1::1/64",
        &router,
        "eth0 2001:db8:1::ff/64",
    );
    router.set_forwarding(Forwarding::Enabled).unwrap();
    let gateway: std::net::IpAddr = "2001:db8:1::ff".parse().unwrap();
    host.add_route("::/0".parse().unwrap(), gateway).unwrap();
    // RFC 4443 section 3.1: address unreachable, and administratively prohibited.
    for (n, (_, via, _, reason), code) in [
        (1, KINDS[0].clone(), None),
        (2, KINDS[1].clone(), Some(3)),
        (3, KINDS[2].clone(), Some(1)),
    ] {
        let dst: std::net::IpAddr = format!("2001:db8:ffff::{n}").parse().unwrap();
        router.add_route(dst.into(), via).unwrap();
        let socket = EchoSocket::bind_in(&host).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(1)))
            .unwrap();
        socket.send_to(1, b"x", dst).unwrap();
        let told = match socket.recv() {
            Ok((EchoEvent::Unreachable { code, .. }, _)) => Some(code),
            Ok((event, _)) => panic!("{event:?}"),
            Err(_) => None,
        };
        assert_eq!(told, code, "{reason}");
        assert_eq!(router.stats().unwrap().rx_drops(reason), 1, "{reason}");
    }
}

#[test]
fn of_several_routes_the_lowest_metric_in_use_counts_from_the_next_packet_on() {
    let system = System::virtual_time(1);
    let [a, b] = ["a", "b"].map(|name| vnet(&system, name));
    join(&a, "eth0 192.0.2.1/24", &b, "eth0 192.0.2.2/24");
    join(&a, "eth1 198.51.100.1/24", &b, "eth1 198.51.100.2/24");
    b.add_address("lo0", "203.0.113.9/32".parse().unwrap())
        .unwrap();
    let dst = "203.0.113.0/24".parse().unwrap();
    let by = |gateway: &str| NextHop::Gateway(gateway.parse().unwrap());
    a.add_route_at(dst, by("198.51.100.2"), 20).unwrap();
    let sent = |name: &str| {
        let interfaces = a.interfaces().unwrap();
        let interface = interfaces.iter().find(|i| i.name == name).unwrap();
        interface.counters.tx_frames
    };
    let listener = vnet::net::TcpListener::bind_in(&b, "0.0.0.0:80").unwrap();
    let mut client = TcpStream::connect_in(&a, "203.0.113.9:80").unwrap();
    let (mut server, _) = listener.accept().unwrap();
    let mut goes_by = |name: &str| {
        use std::io::{Read, Write};
        let other = if name == "eth0" { "eth1" } else { "eth0" };
        let before = (sent(name), sent(other));
        client.write_all(b"x").unwrap();
        server.read_exact(&mut [0]).unwrap();
        assert!(sent(name) > before.0 && sent(other) == before.1, "{name}");
    };
    goes_by("eth1");
    // A better one is taken by the next segment of a connection that is there.
    a.add_route_at(dst, by("192.0.2.2"), 10).unwrap();
    goes_by("eth0");
    a.set_up("eth0", vnet::AdminState::Down).unwrap();
    goes_by("eth1");
    a.set_up("eth0", vnet::AdminState::Up).unwrap();
    goes_by("eth0");
    let again = a.add_route_at(dst, by("198.51.100.2"), 10);
    assert_eq!(again, Err(vnet::AdminError::RouteExists(dst)));
    // A next hop must be on a link.
    let off_link = "203.0.113.1".parse().unwrap();
    let nowhere = a.add_route_at(dst, NextHop::Gateway(off_link), 30);
    assert_eq!(nowhere, Err(vnet::AdminError::GatewayUnreachable(off_link)));
    // A twin has them all; the lowest goes first.
    let twin = a.clone_as("twin").unwrap();
    assert!(
        a.record()
            .unwrap()
            .to_toml()
            .unwrap()
            .contains("metric = 20")
    );
    let metrics = |v: &OwnedVnet| -> Vec<u32> {
        let routes = v.routes().unwrap().into_iter();
        routes.filter(|r| r.dst == dst).map(|r| r.metric).collect()
    };
    assert_eq!(metrics(&twin), metrics(&a));
    assert_eq!(metrics(&a), [10, 20]);
    a.remove_route(dst).unwrap();
    assert_eq!(metrics(&a), [20]);
    goes_by("eth1");
}

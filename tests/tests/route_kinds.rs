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

//! Promise: two vnets share nothing but the wires between them.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;

use vnet::net::{EchoSocket, RawSocket, TcpListener, TcpStream, UdpSocket};
use vnet::{
    AdminError, AdminState, Carrier, DropReason, Forwarding, Gone, LinkConfig, MacAddr, NextHop,
    PortError, SocketError, System, Vnet,
};
use vnet_tests::accounts::{assert_clean, assert_conserved};
use vnet_tests::topology::{join, pair, vnet};
use vnet_tests::trace::Trace;

/// Two networks that could not be more alike: every name, address and port is the same, only the
/// vnets differ.
fn twins(system: &System) -> [(vnet::OwnedVnet, vnet::OwnedVnet); 2] {
    ["x", "y"].map(|side| {
        let a = vnet(system, &format!("a-{side}"));
        let b = vnet(system, &format!("b-{side}"));
        join(&a, "eth0 10.0.0.1/24", &b, "eth0 10.0.0.2/24");
        (a, b)
    })
}

fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buf = [0; 64];
    let (n, from) = socket.recv_from(&mut buf).expect("a datagram comes");
    (buf[..n].to_vec(), from)
}

#[test]
fn datagrams_stay_in_their_own_network_though_every_address_is_the_same() {
    let system = System::virtual_time(1);
    let twins = twins(&system);
    let traces = [Trace::default(), Trace::default()];
    let ends: Vec<(UdpSocket, UdpSocket)> = twins
        .iter()
        .zip(&traces)
        .map(|((a, b), trace)| {
            trace.watch_all(a);
            trace.watch_all(b);
            let server = UdpSocket::bind_in(b, "10.0.0.2:53").expect("the port is free here");
            let client = UdpSocket::bind_in(a, "10.0.0.1:5000").expect("the port is free here");
            (client, server)
        })
        .collect();
    for ((client, _), word) in ends.iter().zip([b"to x", b"to y"]) {
        client
            .send_to(word, "10.0.0.2:53")
            .expect("there is a route");
    }
    for ((_, server), word) in ends.iter().zip([b"to x", b"to y"]) {
        assert_eq!(
            receive(server),
            (word.to_vec(), "10.0.0.1:5000".parse().unwrap())
        );
        server.set_nonblocking(true).unwrap();
        let nothing_more = server.recv_from(&mut [0; 8]).unwrap_err();
        assert_eq!(nothing_more.kind(), ErrorKind::WouldBlock);
    }
    // Not one frame of the one network was seen anywhere in the other.
    for (trace, (own, other)) in traces.iter().zip([(b"to x", b"to y"), (b"to y", b"to x")]) {
        let seen = trace.take();
        let carries = |word: &[u8; 4]| seen.iter().filter(|f| f.bytes.ends_with(word)).count();
        assert_eq!((carries(own), carries(other)), (2, 0), "once out, once in");
    }
    for (a, b) in &twins {
        assert_conserved(a);
        assert_conserved(b);
    }
}

#[test]
fn connections_stay_in_their_own_network_though_every_address_is_the_same() {
    let system = System::virtual_time(2);
    let twins = twins(&system);
    let listeners: Vec<TcpListener> = twins
        .iter()
        .map(|(_, b)| TcpListener::bind_in(b, "10.0.0.2:80").expect("the port is free here"))
        .collect();
    for ((a, _), (listener, word)) in twins.iter().zip(listeners.iter().zip([b"x", b"y"])) {
        let mut client = TcpStream::connect_in(a, "10.0.0.2:80").expect("somebody listens");
        client.write_all(word).unwrap();
        let (mut server, _) = listener.accept().expect("the connection is there");
        let mut got = [0];
        server.read_exact(&mut got).unwrap();
        assert_eq!(&got, word);
    }
    for listener in &listeners {
        listener.set_nonblocking(true).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    }
}

#[test]
fn what_nobody_wired_together_cannot_be_reached() {
    let system = System::virtual_time(3);
    let (a, b) = (vnet(&system, "a"), vnet(&system, "b"));
    for v in [&a, &b] {
        v.add_address("lo0", "10.0.0.1/32".parse().unwrap())
            .unwrap();
    }
    let _listener = TcpListener::bind_in(&b, "10.0.0.1:80").unwrap();
    let refused = TcpStream::connect_in(&a, "10.0.0.1:80").unwrap_err();
    assert_eq!(
        refused.kind(),
        ErrorKind::ConnectionRefused,
        "a's own 10.0.0.1 has no listener"
    );
    let elsewhere = TcpStream::connect_in(&a, "10.0.0.2:80").unwrap_err();
    assert_eq!(elsewhere.kind(), ErrorKind::NetworkUnreachable);
}

#[test]
fn a_port_taken_in_one_vnet_is_free_in_the_other() {
    let system = System::virtual_time(4);
    let (a, b) = pair(&system);
    let _a = UdpSocket::bind_in(&a, "0.0.0.0:53").unwrap();
    let again = UdpSocket::bind_in(&a, "0.0.0.0:53").unwrap_err();
    assert_eq!(again.kind(), ErrorKind::AddrInUse);
    UdpSocket::bind_in(&b, "0.0.0.0:53").expect("b has ports of its own");
    let not_ours = UdpSocket::bind_in(&b, "10.0.0.1:54").unwrap_err();
    assert_eq!(
        not_ours.kind(),
        ErrorKind::AddrNotAvailable,
        "10.0.0.1 is a's"
    );
}

#[test]
fn a_socket_stays_in_its_vnet_whatever_is_current() {
    let system = System::virtual_time(5);
    let (a, b) = pair(&system);
    let stranger = vnet(&system, "stranger");
    let server = {
        let _b = b.enter();
        UdpSocket::bind("0.0.0.0:7").unwrap()
    };
    let client = {
        let _a = a.enter();
        UdpSocket::bind("0.0.0.0:0").unwrap()
    };
    let _elsewhere = stranger.enter();
    client
        .send_to(b"hello", "10.0.0.2:7")
        .expect("the client's vnet has the route");
    let (data, from) = receive(&server);
    assert_eq!(
        (&data[..], from.ip().to_string().as_str()),
        (&b"hello"[..], "10.0.0.1")
    );
    assert!(
        Vnet::current().unwrap().is(&stranger),
        "using a socket leaves the caller's alone"
    );
    assert_eq!(stranger.stats().unwrap().received, 0);
    assert_eq!(stranger.stats().unwrap().sent, 0);
}

#[test]
fn an_accepted_connection_is_in_its_listeners_vnet() {
    let system = System::virtual_time(6);
    let (a, b) = pair(&system);
    let stranger = vnet(&system, "stranger");
    let listener = TcpListener::bind_in(&b, "0.0.0.0:80").unwrap();
    let mut client = TcpStream::connect_in(&a, "10.0.0.2:80").unwrap();
    let (mut server, peer) = {
        let _elsewhere = stranger.enter();
        listener.accept().unwrap()
    };
    assert_eq!(peer, client.local_addr().unwrap());
    server.write_all(b"from b").unwrap();
    let mut got = [0; 6];
    client.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"from b");
    assert_clean(&b.destroy());
    assert!(
        SocketError::is_gone(&server.write(b"x").unwrap_err()),
        "it went with b"
    );
}

#[test]
fn counters_count_in_their_own_vnet_only() {
    let system = System::virtual_time(7);
    let (a, b) = pair(&system);
    let c = vnet(&system, "c");
    join(
        &c,
        "eth0 10.0.0.1/24",
        &vnet_of(&system, "d"),
        "eth0 10.0.0.2/24",
    );
    system.sleep(std::time::Duration::from_secs(1)).unwrap();
    let before = c.stats().unwrap();
    let server = UdpSocket::bind_in(&b, "0.0.0.0:9").unwrap();
    let client = UdpSocket::bind_in(&a, "0.0.0.0:0").unwrap();
    for _ in 0..10 {
        client.send_to(b"x", "10.0.0.2:9").unwrap();
        receive(&server);
    }
    client.send_to(b"nobody", "10.0.0.2:10").unwrap();
    let _ = client.recv_from(&mut [0; 8]);
    assert_eq!(b.stats().unwrap().rx_drops(DropReason::NoSocket), 1);
    assert_eq!(a.stats().unwrap().rx_drops(DropReason::NoSocket), 0);
    assert_eq!(format!("{:?}", c.stats().unwrap()), format!("{before:?}"));
}

/// A vnet that lives as long as its system's test: its owner is leaked on purpose.
fn vnet_of(system: &System, name: &str) -> Vnet {
    let owner = vnet(system, name);
    let handle = Vnet::clone(&owner);
    std::mem::forget(owner);
    handle
}

#[test]
fn names_and_addresses_are_one_systems_own() {
    let (one, two) = (System::virtual_time(8), System::virtual_time(8));
    let (a, b) = (vnet(&one, "same"), vnet(&two, "same"));
    assert!(!a.is(&b));
    assert!(one.vnet("same").unwrap().is(&a) && two.vnet("same").unwrap().is(&b));
    assert_eq!(a.epair("eth0", &b, "eth0"), Err(AdminError::OtherSystem));
    for v in [&a, &b] {
        assert_eq!(v.interfaces().unwrap().len(), 1, "nothing was made");
    }
}

// Row 20 of the reference's catalogue: a capture survived and watched the next tenant.
#[test]
fn a_capture_ends_with_its_interface_and_never_sees_the_next_of_that_name() {
    let system = System::virtual_time(9);
    let (a, b) = pair(&system);
    let trace = Trace::default();
    trace.watch(&a, "eth0");
    a.remove_interface("eth0").unwrap();
    trace.take();
    a.epair("eth0", &b, "eth1").unwrap();
    a.add_address("eth0", "10.0.0.1/24".parse().unwrap())
        .unwrap();
    let ping = EchoSocket::bind_in(&a).unwrap();
    ping.send_to(1, b"x", "10.0.0.1".parse().unwrap()).unwrap();
    ping.recv().unwrap();
    ping.send_to(2, b"x", "10.0.0.2".parse().unwrap()).unwrap();
    let _ = ping.recv();
    assert!(
        a.interfaces()
            .unwrap()
            .iter()
            .any(|i| i.name == "eth0" && i.counters.tx_frames > 0)
    );
    assert_eq!(trace.take(), []);
}

// Row 6: an index taken for a live one. Frames that were on their way to an interface that went
// are dropped and counted, not handed to the next interface of that name.
#[test]
fn frames_on_their_way_to_an_interface_that_went_reach_no_other() {
    let system = System::virtual_time(10);
    let (a, b) = pair(&system);
    let slow = LinkConfig {
        delay: std::time::Duration::from_millis(50),
        ..LinkConfig::default()
    };
    let server = UdpSocket::bind_in(&b, "0.0.0.0:9").unwrap();
    server
        .set_read_timeout(Some(std::time::Duration::from_secs(1)))
        .unwrap();
    let client = UdpSocket::bind_in(&a, "0.0.0.0:0").unwrap();
    client
        .send_to(b"resolves the neighbour", "10.0.0.2:9")
        .unwrap();
    receive(&server);
    a.set_link("eth0", slow).unwrap();
    client.send_to(b"late", "10.0.0.2:9").unwrap();
    b.remove_interface("eth0").unwrap();
    b.epair("eth0", &a, "eth1").unwrap();
    b.add_address("eth0", "10.0.0.2/24".parse().unwrap())
        .unwrap();
    let missed = server.recv_from(&mut [0; 8]).unwrap_err();
    assert_eq!(missed.kind(), ErrorKind::WouldBlock);
    assert!(b.stats().unwrap().rx_drops(DropReason::InterfaceDown) >= 1);
    assert_conserved(&b);
}

#[test]
fn everything_that_outlives_its_vnet_says_so_with_a_type() {
    let system = System::virtual_time(11);
    let (a, b) = pair(&system);
    let port = a.port("port0", None).unwrap();
    let udp = UdpSocket::bind_in(&a, "10.0.0.1:7").unwrap();
    let echo = EchoSocket::bind_in(&a).unwrap();
    let raw = RawSocket::open_in(&a, 89).unwrap();
    let listener = TcpListener::bind_in(&a, "0.0.0.0:80").unwrap();
    let mut stream = TcpStream::connect_in(&b, "10.0.0.1:80").unwrap();
    let (mut accepted, _) = listener.accept().unwrap();
    let handle = Vnet::clone(&a);
    assert_clean(&a.destroy());

    // The handle.
    assert_eq!(handle.name(), "a", "what is left of it is a name");
    assert_eq!(handle.stats().unwrap_err(), Gone);
    assert_eq!(handle.pending(), Err(Gone));
    assert_eq!(handle.interfaces(), Err(Gone));
    assert_eq!(handle.routes(), Err(Gone));
    assert_eq!(handle.inspect().unwrap_err(), Gone);
    assert_eq!(
        handle.set_forwarding(Forwarding::Enabled),
        Err(AdminError::Gone)
    );
    assert_eq!(
        handle.set_up("eth0", AdminState::Down),
        Err(AdminError::Gone)
    );
    assert_eq!(handle.set_ip_mtu("eth0", 1500), Err(AdminError::Gone));
    assert_eq!(
        handle.set_mac("eth0", MacAddr([2, 0, 0, 0, 0, 9])),
        Err(AdminError::Gone)
    );
    assert_eq!(handle.remove_interface("eth0"), Err(AdminError::Gone));
    assert_eq!(
        handle.add_address("lo0", "10.1.0.1/32".parse().unwrap()),
        Err(AdminError::Gone)
    );
    assert_eq!(
        handle.remove_address("lo0", "127.0.0.1".parse().unwrap()),
        Err(AdminError::Gone)
    );
    assert_eq!(
        handle.set_link("eth0", LinkConfig::default()),
        Err(AdminError::Gone)
    );
    assert_eq!(handle.epair("eth9", &b, "eth9"), Err(AdminError::Gone));
    assert_eq!(b.epair("eth9", &handle, "eth9"), Err(AdminError::Gone));
    assert_eq!(b.interfaces().unwrap().len(), 2, "half a pair is no pair");
    assert!(matches!(handle.port("p", None), Err(AdminError::Gone)));
    let route = "10.5.0.0/16".parse().unwrap();
    let via = || NextHop::Interface("eth0".into());
    assert_eq!(handle.add_route(route, via()), Err(AdminError::Gone));
    assert_eq!(handle.remove_route(route), Err(AdminError::Gone));
    assert!(system.vnet("a").is_none());

    // The outside end of a port.
    assert!(port.is_gone());
    assert_eq!(port.send(vec![0; 60]), Err(PortError::Gone));

    // Sockets: old ones, and new ones through an old handle.
    let mut buf = [0; 8];
    let all = [
        udp.send_to(b"x", "10.0.0.2:7").map(drop),
        udp.recv_from(&mut buf).map(drop),
        udp.connect("10.0.0.2:7"),
        udp.local_addr().map(drop),
        udp.set_ttl(3),
        echo.send_to(1, b"x", "10.0.0.2".parse().unwrap()),
        echo.recv().map(drop),
        raw.send_to(b"x", "10.0.0.2".parse().unwrap()).map(drop),
        raw.recv_from(&mut buf).map(drop),
        listener.accept().map(drop),
        accepted.write(b"x").map(drop),
        accepted.read(&mut buf).map(drop),
        accepted.set_nodelay(true),
        accepted.shutdown(std::net::Shutdown::Both),
        UdpSocket::bind_in(&handle, "0.0.0.0:0").map(drop),
        EchoSocket::bind_in(&handle).map(drop),
        RawSocket::open_in(&handle, 89).map(drop),
        TcpListener::bind_in(&handle, "0.0.0.0:0").map(drop),
        TcpStream::connect_in(&handle, "10.0.0.2:80").map(drop),
    ];
    for (n, result) in all.into_iter().enumerate() {
        let error = result.expect_err(&format!("operation {n} must fail"));
        assert!(SocketError::is_gone(&error), "operation {n}: {error:?}");
        assert_eq!(error.kind(), ErrorKind::ConnectionAborted, "operation {n}");
    }

    // The peer is alive: it sees the wire go down, and an aborted connection at most.
    let error = stream.read(&mut buf).unwrap_err();
    assert_ne!(
        SocketError::of(&error),
        Some(SocketError::Gone),
        "b is not gone: {error:?}"
    );
    let eth0 = b
        .interfaces()
        .unwrap()
        .into_iter()
        .find(|i| i.name == "eth0")
        .unwrap();
    assert_eq!(eth0.carrier, Carrier::Down);
}

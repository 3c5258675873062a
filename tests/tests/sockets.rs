//! Promise: what programs do with `socket2`, `recvmsg`, `sendmmsg` and the error queue, they do with ours.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use vnet::net::{
    DatagramError, Domain, EchoEvent, EchoSocket, IcmpObject, Message, Protocol, Socket,
    SocketOptions, TcpKeepalive, TcpListener, TcpStream, Type, UdpSocket,
};
use vnet::{LinkConfig, MacAddr, NextHop, OwnedVnet, SocketError, System};
use vnet_tests::frames::{IPV4, IPV6, Ip4, Ip6, checksum, ethernet, icmp};

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// Two vnets on a link, one of which has a second interface.
fn two() -> (System, OwnedVnet, OwnedVnet) {
    let system = System::virtual_time(1);
    let [a, b] = ["a", "b"].map(|name| system.create(name).expect("a free name"));
    for (name, net) in [("eth0", "192.0.2"), ("eth1", "198.51.100")] {
        a.epair(name, &b, name).expect("free names");
        for (vnet, n) in [(&a, 1), (&b, 2)] {
            let addr = format!("{net}.{n}/24").parse().expect("an address");
            vnet.add_address(name, addr).expect("an address");
        }
    }
    (system, a, b)
}

fn stream(vnet: &OwnedVnet) -> Socket {
    Socket::new_in(vnet, Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).expect("a socket")
}

#[test]
fn a_socket_is_bound_then_listens_or_connects() {
    let (_system, a, b) = two();
    let server = stream(&b);
    assert_eq!(server.local_addr().unwrap(), at("0.0.0.0:0"));
    server.set_reuse_address(true).unwrap();
    server.set_recv_buffer_size(50_000).unwrap();
    server.set_tcp_nodelay(true).unwrap();
    server.bind(&at("192.0.2.2:0")).unwrap();
    let here = server.local_addr().unwrap();
    assert_ne!(here.port(), 0);
    // Bound, it answers nobody, and nobody else may have the port.
    let early = stream(&a);
    let refused = early.connect(&here).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    let taken = UdpSocket::bind_in(&b, here).and(TcpListener::bind_in(&b, here).map(drop));
    assert!(taken.is_ok(), "both share addresses, and neither listens");
    assert!(stream(&b).bind(&here).is_err());
    server.listen(4).unwrap();
    let second = server.bind(&at("192.0.2.2:1")).unwrap_err();
    assert_eq!(second.kind(), ErrorKind::InvalidInput);

    let client = stream(&a);
    client.bind(&at("192.0.2.1:0")).unwrap();
    let from = client.local_addr().unwrap();
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(5))
        .with_interval(Duration::from_secs(1))
        .with_retries(2);
    client.set_tcp_keepalive(&keepalive).unwrap();
    client.connect(&here).unwrap();
    let (accepted, peer) = server.accept().unwrap();
    assert_eq!((peer, client.peer_addr().unwrap()), (from, here));
    assert_eq!(accepted.recv_buffer_size().unwrap(), 50_000);
    assert!(accepted.tcp_nodelay().unwrap() && client.keepalive().unwrap());
    let options = client.options().unwrap();
    let times = (options.keepalive_idle, options.keepalive_probes);
    assert_eq!(times, (Some(Duration::from_secs(5)), Some(2)));

    let (mut client, mut accepted) = (TcpStream::from(client), TcpStream::from(accepted));
    client.write_all(b"hello").unwrap();
    let mut buf = [0; 5];
    accepted.read_exact(&mut buf).unwrap();
    assert_eq!(&buf, b"hello");
    // And back, to reach an option by its name.
    let same = Socket::from(client.try_clone().unwrap());
    same.set_linger(Some(Duration::ZERO)).unwrap();
    assert_eq!(client.linger().unwrap(), Some(Duration::ZERO));
    drop((client, same));
    let reset = accepted.read(&mut buf).unwrap_err();
    assert_eq!(reset.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn options_are_checked_and_what_is_set_is_read_back() {
    let (_system, a, _b) = two();
    let socket = stream(&a);
    for mss in [0, 87] {
        let refused = socket.set_tcp_mss(mss).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    }
    let user_timeout = Some(Duration::from_millis(1500));
    socket.set_tcp_user_timeout(user_timeout).unwrap();
    socket.set_tos_v4(0xbb).unwrap();
    socket.set_tcp_cork(true).unwrap();
    assert_eq!(socket.tcp_user_timeout().unwrap(), user_timeout);
    // The congestion marks are TCP's.
    assert_eq!(socket.tos_v4().unwrap(), 0xb8);
    assert!(socket.tcp_cork().unwrap());
    let wrong = Socket::new_in(&a, Domain::IPV6, Type::DGRAM, Some(Protocol::TCP));
    assert_eq!(wrong.unwrap_err().kind(), ErrorKind::InvalidInput);
    let v6 = Socket::new_in(&a, Domain::IPV6, Type::STREAM, None).unwrap();
    assert!(v6.bind(&at("192.0.2.1:80")).is_err());
    v6.set_only_v6(true).unwrap();
    v6.bind(&at("[::]:80")).unwrap();
    v6.listen(1).unwrap();
    // So IPv4 is another's.
    let v4 = stream(&a);
    v4.bind(&at("0.0.0.0:80")).unwrap();
    v4.listen(1).unwrap();
}

#[test]
fn a_user_timeout_ends_a_connection_whose_peer_is_cut_off() {
    let (system, a, b) = two();
    let listener = TcpListener::bind_in(&b, "192.0.2.2:80").unwrap();
    let mut client = TcpStream::connect_in(&a, "192.0.2.2:80").unwrap();
    let _server = listener.accept().unwrap();
    let impatient = SocketOptions {
        user_timeout: Some(Duration::from_secs(3)),
        ..client.options().unwrap()
    };
    client.set_options(&impatient).unwrap();
    b.set_up("eth0", vnet::AdminState::Down).unwrap();
    let before = system.now();
    client.write_all(b"anybody?").unwrap();
    let error = client.read(&mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_eq!(system.now() - before, Duration::from_secs(3));
}

#[test]
fn a_datagram_says_where_it_was_sent_by_which_interface_and_how_it_is_marked() {
    let (_system, a, b) = two();
    let server = UdpSocket::bind_in(&b, "0.0.0.0:53").unwrap();
    let client = UdpSocket::bind_in(&a, "0.0.0.0:0").unwrap();
    let mut buf = [0; 16];
    let mut seen = Vec::new();
    for to in ["192.0.2.2:53", "198.51.100.2:53", "192.0.2.255:53"] {
        client.set_broadcast(true).unwrap();
        let message = Message {
            peer: Some(at(to)),
            ttl: Some(7),
            tos: Some(0xb9),
            ..Message::default()
        };
        assert_eq!(client.send_msg(b"who", &message).unwrap(), 3);
        let (n, known) = server.recv_msg(&mut buf).unwrap();
        assert_eq!((n, known.ttl, known.tos), (3, Some(7), Some(0xb9)));
        assert_eq!(known.local, Some(at(to).ip()));
        seen.push(known);
    }
    assert_eq!(seen[0].interface, seen[2].interface);
    assert_ne!(seen[0].interface, seen[1].interface);
    // What was said was for these alone.
    client.send_to(b"plain", "192.0.2.2:53").unwrap();
    let (_, known) = server.recv_msg(&mut buf).unwrap();
    assert_eq!((known.ttl, known.tos), (Some(64), Some(0)));
    let never = Message {
        peer: Some(at("192.0.2.2:53")),
        ttl: Some(0),
        ..Message::default()
    };
    let refused = client.send_msg(b"never", &never).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);

    // The answer leaves from the address that was asked, by the interface that is named.
    let answer = Message {
        local: seen[1].local,
        peer: seen[1].peer,
        ..Message::default()
    };
    server.send_msg(b"me", &answer).unwrap();
    let (_, known) = client.recv_msg(&mut buf).unwrap();
    assert_eq!(known.peer, Some(at("198.51.100.2:53")));
    // A broadcast to all leaves by the interface that is named, from its address.
    for known in &seen[..2] {
        let here = Message {
            peer: Some(at("255.255.255.255:53")),
            interface: known.interface,
            ..Message::default()
        };
        client.send_msg(b"all", &here).unwrap();
        let (_, heard) = server.recv_msg(&mut buf).unwrap();
        assert_eq!(heard.interface, known.interface);
        assert_eq!(heard.peer, known.peer);
    }
    let foreign = Message {
        local: Some(at("203.0.113.1:0").ip()),
        ..answer
    };
    let refused = server.send_msg(b"x", &foreign).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AddrNotAvailable);
}

#[test]
fn datagrams_are_sent_and_received_many_at_a_time() {
    let (system, a, b) = two();
    let server = UdpSocket::bind_in(&b, "0.0.0.0:53").unwrap();
    let client = UdpSocket::bind_in(&a, "0.0.0.0:0").unwrap();
    client.connect("192.0.2.2:53").unwrap();
    let mut messages: Vec<_> = (0..10u8)
        .map(|n| (vec![n; 5].into(), Message::default()))
        .collect();
    assert_eq!(client.send_many(&messages).unwrap(), 10);
    system.sleep(Duration::from_millis(1)).unwrap();
    let first = server.recv_many(4).unwrap();
    let rest = server.recv_many(100).unwrap();
    assert_eq!((first.len(), rest.len()), (4, 6));
    let bytes: Vec<_> = first
        .iter()
        .chain(&rest)
        .map(|(d, _)| d.to_bytes()[0])
        .collect();
    assert_eq!(bytes, (0..10).collect::<Vec<_>>());
    server.set_nonblocking(true).unwrap();
    let none = server.recv_many(4).unwrap_err();
    assert_eq!(none.kind(), ErrorKind::WouldBlock);
    // The one that cannot be sent ends it.
    messages[3].0 = vec![0; 70_000].into();
    assert_eq!(client.send_many(&messages).unwrap(), 3);
    assert!(client.send_many(&messages[3..]).is_err());
}

#[test]
fn errors_about_datagrams_are_kept_for_who_asks_even_without_a_peer() {
    let (system, a, _b) = two();
    let client = UdpSocket::bind_in(&a, "0.0.0.0:0").unwrap();
    client.send_to(b"?", "192.0.2.2:9").unwrap();
    system.sleep(Duration::from_millis(10)).unwrap();
    assert!(client.take_error().unwrap().is_none());
    assert_eq!(client.recv_error().unwrap(), None);
    client.set_recv_errors(true).unwrap();
    for port in [9, 10] {
        // The pending error is reported once, as ever.
        let _ = client.take_error().unwrap();
        client.send_to(b"?", ("192.0.2.2", port)).unwrap();
        system.sleep(Duration::from_millis(10)).unwrap();
    }
    for port in [9, 10] {
        let told = DatagramError {
            error: SocketError::ConnectionRefused,
            peer: SocketAddr::new(at("192.0.2.2:0").ip(), port),
            from: at("192.0.2.2:0").ip(),
            path_mtu: None,
            extensions: Default::default(),
        };
        assert_eq!(client.recv_error().unwrap(), Some(told));
    }
    assert_eq!(client.recv_error().unwrap(), None);
    client.set_recv_errors(false).unwrap();
}

/// RFC 4884 and RFC 4950: what a router says beside an error, of packets of UDP and of echo requests, in both families.
#[test]
fn what_a_router_says_beside_an_error_is_told() {
    let system = System::manual(1);
    let host = system.create("host").unwrap();
    let port = host.port("eth0", None).unwrap();
    let mac = host.interfaces().unwrap()[1].mac;
    let addresses = [
        ("192.0.2.1/24", "192.0.2.9", "192.0.2.254"),
        ("2001:db8::1/64", "2001:db8::9", "2001:db8::ff"),
    ];
    // Two labels, and the interface by its number (RFC 5837).
    let objects = [
        0, 12, 1, 1, 0, 1, 0, 1, 0, 1, 0x15, 1, 0, 8, 2, 10, 0, 0, 0, 7,
    ];
    let label = |label, class, is_bottom| IcmpObject::Label {
        label,
        class,
        is_bottom,
        ttl: 1,
    };
    let expected = vec![
        label(16, 0, false),
        label(17, 2, true),
        IcmpObject::Other {
            class: 2,
            kind: 10,
            data: vec![0, 0, 0, 7].into(),
        },
    ];
    let mut extension = vec![0x20, 0, 0, 0];
    extension.extend(objects);
    let sum = checksum(&[&extension]);
    extension[2..4].copy_from_slice(&sum.to_be_bytes());
    for (own, to, router) in addresses {
        host.add_address("eth0", own.parse().unwrap()).unwrap();
        for neighbour in [to, router] {
            let station = MacAddr([2, 0, 0, 0, 0, 9]);
            host.add_neighbour("eth0", neighbour.parse().unwrap(), station)
                .unwrap();
        }
        system.poll(system.now() + Duration::from_secs(9));
        while port.recv().is_some() {}
        let (to, router): (IpAddr, IpAddr) = (to.parse().unwrap(), router.parse().unwrap());
        // An error about the packet that was just sent: time exceeded, or a port that is not there.
        let refuse = |is_time: bool| {
            let frame = port.recv().expect("it was sent").to_vec();
            let mut quote = frame[14..].to_vec();
            quote.resize(128, 0);
            let rest = [&quote[..], &extension].concat();
            let packet = match (router, to) {
                (IpAddr::V4(router), IpAddr::V4(_)) => {
                    let (kind, code) = if is_time { (11, 0) } else { (3, 3) };
                    let message = icmp(kind, code, 32 << 16, &rest);
                    let own = Ipv4Addr::new(192, 0, 2, 1);
                    Ip4::new(router, own, 1).packet(&message)
                }
                (IpAddr::V6(router), IpAddr::V6(_)) => {
                    let (kind, code) = if is_time { (3, 0) } else { (1, 4) };
                    let own = "2001:db8::1".parse().unwrap();
                    let body = [&[16, 0, 0, 0][..], &rest].concat();
                    Ip6::new(router, own).icmp(kind, code, &body)
                }
                _ => unreachable!("one family"),
            };
            let ether_type = if to.is_ipv4() { IPV4 } else { IPV6 };
            let frame = ethernet(mac.0, [2, 0, 0, 0, 0, 9], ether_type, &packet);
            port.send(frame).unwrap();
            system.poll(system.now());
        };
        let echo = EchoSocket::bind_in(&host).unwrap();
        echo.set_nonblocking(true).unwrap();
        echo.send_to(7, &[1; 32], to).unwrap();
        refuse(true);
        let (event, _) = echo.recv().unwrap();
        let told = EchoEvent::TimeExceeded {
            from: router,
            seq: 7,
            extensions: expected.clone(),
        };
        assert_eq!(event, told);
        echo.send_to(8, &[1; 32], to).unwrap();
        refuse(false);
        let (event, _) = echo.recv().unwrap();
        assert!(
            matches!(&event, EchoEvent::Unreachable { seq: 8, extensions, .. } if *extensions == expected),
            "{event:?}"
        );
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind_in(&host, any).unwrap();
        socket.set_recv_errors(true).unwrap();
        socket.send_to(&[1; 32], (to, 9)).unwrap();
        refuse(false);
        let told = socket.recv_error().unwrap().expect("it was refused");
        assert_eq!((told.from, told.extensions), (router, expected.clone()));
    }
    vnet_tests::accounts::assert_conserved(&host);
}

#[test]
fn a_socket_bound_to_an_interface_is_reached_and_sends_by_it_alone() {
    let (system, a, b) = two();
    let none = stream(&b).bind_device(Some(b"eth7")).unwrap_err();
    assert_eq!(none.kind(), ErrorKind::AddrNotAvailable);
    let server = stream(&b);
    server.bind_device(Some(b"eth1")).unwrap();
    server.bind(&at("0.0.0.0:80")).unwrap();
    server.listen(4).unwrap();
    let refused = TcpStream::connect_in(&a, "192.0.2.2:80").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    let _client = TcpStream::connect_in(&a, "198.51.100.2:80").unwrap();
    let (accepted, _) = server.accept().unwrap();
    assert_eq!(accepted.local_addr().unwrap(), at("198.51.100.2:80"));
    server.bind_device(None).unwrap();
    assert!(TcpStream::connect_in(&a, "192.0.2.2:80").is_ok());

    // Datagrams: one socket for each interface, at one address.
    let [first, second] = [b"eth0", b"eth1"].map(|name| {
        let socket = Socket::new_in(&b, Domain::IPV4, Type::DGRAM, None).unwrap();
        // The one does not take back the other.
        socket.set_reuse_port(true).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.set_reuse_port(false).unwrap();
        socket.bind_device(Some(name)).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket.bind(&at("0.0.0.0:67")).unwrap();
        UdpSocket::from(socket)
    });
    let client = UdpSocket::bind_in(&a, "0.0.0.0:0").unwrap();
    client.send_to(b"zero", "192.0.2.2:67").unwrap();
    client.send_to(b"one", "198.51.100.2:67").unwrap();
    system.sleep(Duration::from_millis(10)).unwrap();
    let mut buf = [0; 8];
    let (n, from) = first.recv_from(&mut buf).unwrap();
    assert_eq!(
        (&buf[..n], from.ip()),
        (&b"zero"[..], at("192.0.2.1:0").ip())
    );
    assert_eq!(second.recv(&mut buf).unwrap(), 3);
    for socket in [&first, &second] {
        let nothing = socket.recv(&mut buf).unwrap_err();
        assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
    }
    // So it is where they share the port between them.
    let [shares, _other] = [b"eth0", b"eth1"].map(|name| {
        let socket = Socket::new_in(&b, Domain::IPV4, Type::DGRAM, None).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind_device(Some(name)).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket.bind(&at("0.0.0.0:69")).unwrap();
        UdpSocket::from(socket)
    });
    for _ in 0..16 {
        let client = UdpSocket::bind_in(&a, "0.0.0.0:0").unwrap();
        client.send_to(b"zero", "192.0.2.2:69").unwrap();
    }
    system.sleep(Duration::from_millis(10)).unwrap();
    let heard = std::iter::from_fn(|| shares.recv(&mut buf).ok());
    assert_eq!(heard.count(), 16);
    // A broadcast to all leaves by the interface, as a server of DHCP needs it.
    let hears = UdpSocket::bind_in(&a, "0.0.0.0:68").unwrap();
    second.set_broadcast(true).unwrap();
    second.send_to(b"offer", "255.255.255.255:68").unwrap();
    let (_, known) = hears.recv_msg(&mut buf).unwrap();
    assert_eq!(known.peer, Some(at("198.51.100.2:67")));
}

/// The last acknowledgement of a connection, and what its record answers later, leave as everything did before.
#[test]
fn what_remains_of_a_connection_bound_to_an_interface_answers_by_it() {
    let (system, a, b) = two();
    // By the table, everything to this address of a leaves by eth0, and is lost there.
    b.add_route(
        "198.51.100.1/32".parse().unwrap(),
        NextHop::Interface("eth0".to_owned()),
    )
    .unwrap();
    let lost = LinkConfig {
        loss: 1.0.into(),
        ..LinkConfig::default()
    };
    b.set_link("eth0", lost).unwrap();
    let server = stream(&b);
    server.bind_device(Some(b"eth1")).unwrap();
    server.bind(&at("0.0.0.0:80")).unwrap();
    server.listen(4).unwrap();
    let client = TcpStream::connect_in(&a, "198.51.100.2:80").unwrap();
    let (accepted, _) = server.accept().unwrap();
    drop(accepted);
    system.sleep(Duration::from_millis(100)).unwrap();
    drop(client);
    system.sleep(Duration::from_secs(1)).unwrap();
    let left = a.inspect().unwrap().sockets;
    assert!(left.is_empty(), "{left:?}");
}

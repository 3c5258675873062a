//! Promise: a program that binds `[::]` serves both families, and a socket for IPv6 alone leaves IPv4 to others.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use proptest::prelude::*;
use vnet::net::{TcpListener, TcpStream, UdpSocket};
use vnet::{OwnedVnet, SocketError, System};
use vnet_tests::accounts::assert_conserved;
use vnet_tests::judge;
use vnet_tests::sockets::Bound;

type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// Two vnets on one wire, with addresses of both families.
fn pair(system: &System) -> Result<(OwnedVnet, OwnedVnet)> {
    let (a, b) = (system.create("a")?, system.create("b")?);
    a.epair("eth0", &b, "eth0")?;
    for (vnet, host) in [(&a, 1), (&b, 2)] {
        vnet.add_address("eth0", format!("192.0.2.{host}/24").parse()?)?;
        vnet.add_address("eth0", format!("2001:db8::{host}/64").parse()?)?;
    }
    Ok((a, b))
}

fn at(text: &str) -> SocketAddr {
    text.parse().expect("a socket address")
}

fn only_v6(only: bool) -> Bound {
    Bound {
        reuse: false,
        only_v6: Some(only),
    }
}

#[track_caller]
fn fails<T: std::fmt::Debug>(result: std::io::Result<T>, why: SocketError) {
    let error = result.expect_err("it is refused");
    assert_eq!(SocketError::of(&error), Some(why), "{error}");
}

#[test]
fn a_listener_serves_clients_of_both_families() -> Result {
    let system = System::virtual_time(1);
    let (a, b) = pair(&system)?;
    judge::watch(&[&a]);
    let listener = TcpListener::bind_in(&b, "[::]:80")?;
    assert_eq!(listener.local_addr()?, at("[::]:80"));
    // Where to, who comes, whom the client sees.
    for (to, peer, local) in [
        ("192.0.2.2:80", "::ffff:192.0.2.1", "[::ffff:192.0.2.2]:80"),
        ("[2001:db8::2]:80", "2001:db8::1", "[2001:db8::2]:80"),
        (
            "[::ffff:192.0.2.2]:80",
            "::ffff:192.0.2.1",
            "[::ffff:192.0.2.2]:80",
        ),
    ] {
        let mut client = TcpStream::connect_in(&a, to)?;
        let (mut server, from) = listener.accept()?;
        assert_eq!(from.ip().to_string(), peer);
        assert_eq!(
            (server.peer_addr()?, server.local_addr()?),
            (from, at(local))
        );
        assert_eq!(client.peer_addr()?, at(to));
        // A client that gave an IPv4 address sees IPv4, one that gave a mapped address sees IPv6.
        assert_eq!(client.local_addr()?.is_ipv4(), at(to).is_ipv4());
        assert_eq!(client.local_addr()?.port(), from.port());
        client.write_all(b"hello")?;
        let mut got = [0; 5];
        server.read_exact(&mut got)?;
        assert_eq!(&got, b"hello");
    }
    assert_conserved(&a);
    assert_conserved(&b);
    judge::judge();
    Ok(())
}

#[test]
fn a_udp_socket_serves_clients_of_both_families() -> Result {
    let system = System::virtual_time(1);
    let (a, b) = pair(&system)?;
    judge::watch(&[&a]);
    let server = UdpSocket::bind_in(&b, "[::]:7")?;
    server.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut buf = [0; 16];
    for (mine, to, seen) in [
        ("192.0.2.1:5000", "192.0.2.2:7", "[::ffff:192.0.2.1]:5000"),
        (
            "[2001:db8::1]:5000",
            "[2001:db8::2]:7",
            "[2001:db8::1]:5000",
        ),
        (
            "[::]:5001",
            "[::ffff:192.0.2.2]:7",
            "[::ffff:192.0.2.1]:5001",
        ),
        ("[::]:5002", "192.0.2.2:7", "[::ffff:192.0.2.1]:5002"),
    ] {
        let client = UdpSocket::bind_in(&a, mine)?;
        client.send_to(b"who?", to)?;
        let (len, from) = server.recv_from(&mut buf)?;
        assert_eq!((&buf[..len], from), (&b"who?"[..], at(seen)));
        server.send_to(b"you", from)?;
        let (len, from) = client.recv_from(&mut buf)?;
        assert_eq!((&buf[..len], from.port()), (&b"you"[..], 7));
        assert_eq!(from.is_ipv4(), at(mine).is_ipv4());
    }
    // Connected, it hears that nobody is there, of either family.
    for to in ["[::ffff:192.0.2.2]:9", "[2001:db8::2]:9"] {
        let client = UdpSocket::bind_in(&a, "[::]:0")?;
        client.connect(to)?;
        assert_eq!(client.peer_addr()?, at(to));
        client.send(b"x")?;
        client.set_read_timeout(Some(Duration::from_secs(1)))?;
        let refused = client.recv(&mut buf).expect_err("nobody is there");
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{to}");
    }
    // A broadcast reaches it, and one for IPv6 alone does not hear it.
    let deaf = only_v6(true).udp(&b, "[::]:8")?;
    deaf.set_nonblocking(true)?;
    let client = UdpSocket::bind_in(&a, "0.0.0.0:0")?;
    client.set_broadcast(true)?;
    for port in [7, 8] {
        client.send_to(b"all", ("192.0.2.255", port))?;
    }
    assert_eq!(server.recv(&mut buf)?, 3);
    assert_eq!(
        deaf.recv(&mut buf).map_err(|e| e.kind()),
        Err(ErrorKind::WouldBlock)
    );
    judge::judge();
    Ok(())
}

#[test]
fn a_socket_speaks_what_it_was_made_for() -> Result {
    let system = System::virtual_time(1);
    let (a, b) = pair(&system)?;
    let (v4, both) = (
        UdpSocket::bind_in(&a, "0.0.0.0:0")?,
        UdpSocket::bind_in(&a, "[::]:0")?,
    );
    let v6 = only_v6(true).udp(&a, "[::]:0")?;
    let mapped = "[::ffff:192.0.2.2]:7";
    fails(
        v4.send_to(b"x", "[2001:db8::2]:7"),
        SocketError::InvalidInput,
    );
    fails(v4.send_to(b"x", mapped), SocketError::InvalidInput);
    fails(v6.send_to(b"x", "192.0.2.2:7"), SocketError::InvalidInput);
    fails(v6.send_to(b"x", mapped), SocketError::AddrNotAvailable);
    fails(v6.connect(mapped), SocketError::AddrNotAvailable);
    for to in [mapped, "192.0.2.2:7", "[2001:db8::2]:7"] {
        both.send_to(b"x", to)?;
    }
    // An address of one's own is of one family.
    let one = UdpSocket::bind_in(&a, "[::ffff:192.0.2.1]:0")?;
    assert_eq!(one.local_addr()?.ip().to_string(), "::ffff:192.0.2.1");
    one.send_to(b"x", mapped)?;
    fails(
        one.send_to(b"x", "[2001:db8::2]:7"),
        SocketError::InvalidInput,
    );
    let theirs = UdpSocket::bind_in(&a, "[::ffff:192.0.2.2]:0");
    fails(theirs, SocketError::AddrNotAvailable);
    // In a vnet that says so, sockets are for IPv6 alone unless they say otherwise.
    b.set_sysctl("net.inet6.ip6.v6only", 1)?;
    let _v6 = TcpListener::bind_in(&b, "[::]:80")?;
    let _v4 = TcpListener::bind_in(&b, "0.0.0.0:80")?;
    fails(
        TcpStream::connect_in(&b, "[::ffff:192.0.2.1]:80"),
        SocketError::AddrNotAvailable,
    );
    let _both = only_v6(false).listener(&b, "[::]:81", 128)?;
    let _client = TcpStream::connect_in(&a, "192.0.2.2:81")?;
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Who is refused a port, and who gets what comes for it, follows from one rule, for TCP and UDP: a socket at
    /// `[::]` that is not for IPv6 alone is at `0.0.0.0`, too.
    #[test]
    fn ports_are_shared_by_one_rule(kinds in prop::collection::vec((0usize..5, any::<bool>()), 1..6)) {
        const AT: [(&str, bool); 5] = [
            ("0.0.0.0:80", false),
            ("192.0.2.2:80", false),
            ("[::]:80", true),
            ("[::]:80", false),
            ("[2001:db8::2]:80", false),
        ];
        let holds = |kind: usize| -> &[&str] {
            [&["0.0.0.0"][..], &["192.0.2.2"], &["::"], &["0.0.0.0", "::"], &["2001:db8::2"]][kind]
        };
        let overlap = |a: &str, b: &str| {
            let family = |x: &str| x.contains(':');
            let any = |x: &str| x == "0.0.0.0" || x == "::";
            a == b || family(a) == family(b) && (any(a) || any(b))
        };
        let system = System::virtual_time(1);
        let (a, b) = pair(&system).expect("a pair");
        let mut udp: Vec<(usize, bool, UdpSocket)> = Vec::new();
        let mut tcp: Vec<(usize, bool, TcpListener)> = Vec::new();
        for (kind, shared) in kinds {
            let (addr, only_v6) = AT[kind];
            let options = Bound { reuse: shared, only_v6: Some(only_v6) };
            let clash = |other: usize, other_shares: bool| {
                let meet = holds(kind).iter().any(|x| holds(other).iter().any(|y| overlap(x, y)));
                meet && !(shared && other_shares)
            };
            let same = |other: usize| holds(kind).iter().any(|x| holds(other).contains(x));
            let socket = options.udp(&b, addr);
            prop_assert_eq!(socket.is_err(), udp.iter().any(|(k, s, _)| clash(*k, *s)), "udp {}", addr);
            udp.extend(socket.ok().map(|s| (kind, shared, s)));
            let listener = options.listener(&b, addr, 128);
            let refused = tcp.iter().any(|(k, s, _)| clash(*k, *s) || same(*k));
            prop_assert_eq!(listener.is_err(), refused, "tcp {}", addr);
            tcp.extend(listener.ok().map(|l| (kind, shared, l)));
        }
        for (to, exact) in [("192.0.2.2", 1), ("2001:db8::2", 4)] {
            let any = if exact == 1 { [0, 3] } else { [2, 3] };
            let best = |held: &[usize]| {
                let last = |wanted: &[usize]| held.iter().rposition(|k| wanted.contains(k));
                last(&[exact]).or_else(|| last(&any))
            };
            let client = UdpSocket::bind_in(&a, if exact == 1 { "0.0.0.0:0" } else { "[::]:0" }).expect("a socket");
            client.send_to(b"x", SocketAddr::new(to.parse().expect("an address"), 80)).expect("sent");
            system.run_for(Duration::from_secs(1)).expect("nothing hangs");
            let mut got = None;
            for (at, (_, _, socket)) in udp.iter().enumerate() {
                socket.set_nonblocking(true).expect("it exists");
                if socket.recv(&mut [0; 4]).is_ok() {
                    got = Some(at);
                }
            }
            let held: Vec<usize> = udp.iter().map(|(k, ..)| *k).collect();
            prop_assert_eq!(got, best(&held));
            let held: Vec<usize> = tcp.iter().map(|(k, ..)| *k).collect();
            let connected = TcpStream::connect_in(&a, (to, 80));
            prop_assert_eq!(connected.is_ok(), best(&held).is_some());
            system.run_for(Duration::from_secs(1)).expect("nothing hangs");
            if let Some(at) = best(&held) {
                tcp[at].2.set_nonblocking(true).expect("it exists");
                prop_assert!(tcp[at].2.accept().is_ok());
            }
        }
        assert_conserved(&b);
    }
}

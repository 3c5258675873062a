//! Promise: what works over IPv4 works over IPv6, and who has no address of IPv6 sees nothing of it.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use proptest::prelude::*;
use vnet::net::{EchoEvent, EchoSocket, RawSocket, TcpListener, TcpStream, UdpSocket};
use vnet::time::Instant;
use vnet::{AdminState, DropReason, Forwarding, NextHop, Offload, OwnedVnet, System, Vnet};
use vnet_tests::accounts::assert_conserved;
use vnet_tests::{judge, topology};

type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// Two vnets on one wire, with 2001:db8::1 and 2001:db8::2.
fn pair(system: &System) -> Result<(OwnedVnet, OwnedVnet)> {
    let (a, b) = (system.create("a")?, system.create("b")?);
    a.epair("eth0", &b, "eth0")?;
    a.add_address("eth0", "2001:db8::1/64".parse()?)?;
    b.add_address("eth0", "2001:db8::2/64".parse()?)?;
    judge::watch(&[&a]);
    Ok((a, b))
}

/// A host, a router, a host, as in the tests of IPv4.
fn path(system: &System) -> [OwnedVnet; 3] {
    let vnets = topology::path(
        system,
        ["2001:db8:1::1/64", "2001:db8:1::ff/64"],
        ["2001:db8:2::ff/64", "2001:db8:2::1/64"],
    );
    judge::watch(&[&vnets[1]]);
    vnets
}

/// A vnet with a wire to each of two others, which have the same link-local address.
fn star(system: &System) -> Result<(OwnedVnet, [OwnedVnet; 2])> {
    let hub = system.create("hub")?;
    let spokes = [system.create("spoke0")?, system.create("spoke1")?];
    for (n, spoke) in spokes.iter().enumerate() {
        hub.epair(&format!("eth{n}"), spoke, "eth0")?;
        hub.add_address(&format!("eth{n}"), format!("2001:db8:{n}::1/64").parse()?)?;
        spoke.add_address("eth0", "fe80::5/64".parse()?)?;
    }
    judge::watch(&[&hub]);
    Ok((hub, spokes))
}

fn ping(from: &Vnet, to: &str, len: usize) -> Result<Option<EchoEvent>> {
    ping_with(from, to, len, None)
}

fn ping_with(from: &Vnet, to: &str, len: usize, ttl: Option<u32>) -> Result<Option<EchoEvent>> {
    let socket = EchoSocket::bind_in(from)?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    if let Some(ttl) = ttl {
        socket.set_ttl(ttl)?;
    }
    socket.send_to(1, &vec![7; len], to.parse()?)?;
    Ok(socket.recv().ok().map(|(event, _)| event))
}

#[track_caller]
fn answers(from: &Vnet, to: &str, len: usize) {
    match ping(from, to, len) {
        Ok(Some(EchoEvent::Reply { from, len: got, .. })) => {
            let to: IpAddr = to.parse().expect("an address");
            assert_eq!((from, got), (to, len));
        }
        other => panic!("{to} with {len} bytes: {other:?}"),
    }
}

/// The books are right, and so is what was sent.
fn is_clean(vnets: &[&Vnet]) {
    for vnet in vnets {
        assert_conserved(vnet);
    }
    judge::judge();
}

#[test]
fn neighbours_find_each_other_and_echo_at_any_size() -> Result {
    let system = System::virtual_time(1);
    let (a, b) = pair(&system)?;
    for len in [0, 1, 1232, 1452, 1453, 9000, 65_507] {
        answers(&a, "2001:db8::2", len);
        answers(&b, "2001:db8::1", len);
    }
    answers(&a, "::1", 8);
    answers(&a, "2001:db8::1", 8);
    is_clean(&[&a, &b]);
    Ok(())
}

#[test]
fn an_interface_has_a_link_local_address_while_it_has_another() -> Result {
    let system = System::virtual_time(1);
    let (a, b) = (system.create("a")?, system.create("b")?);
    a.epair("eth0", &b, "eth0")?;
    let addresses = |name: &str| -> Result<Vec<String>> {
        let all = a.interfaces()?;
        let one = all.iter().find(|i| i.name == name);
        Ok(one.map_or(Vec::new(), |i| {
            i.addresses.iter().map(ToString::to_string).collect()
        }))
    };
    a.add_address("eth0", "192.0.2.1/24".parse()?)?;
    assert_eq!(addresses("eth0")?, ["192.0.2.1/24"]);
    a.set_mac("eth0", "02:00:00:00:00:0a".parse()?)?;
    a.add_address("eth0", "2001:db8::1/64".parse()?)?;
    let own = "fe80::ff:fe00:a/64";
    assert_eq!(addresses("eth0")?, ["192.0.2.1/24", "2001:db8::1/64", own]);
    assert_eq!(addresses("lo0")?, ["127.0.0.1/8", "::1/128"]);
    // It cannot be taken away alone, and can be given for good.
    assert!(
        a.remove_address("eth0", "fe80::ff:fe00:a".parse()?)
            .is_err()
    );
    a.add_address("eth0", "fe80::7/64".parse()?)?;
    assert_eq!(
        addresses("eth0")?,
        ["192.0.2.1/24", "2001:db8::1/64", "fe80::7/64"]
    );
    a.remove_address("eth0", "fe80::7".parse()?)?;
    assert_eq!(addresses("eth0")?, ["192.0.2.1/24", "2001:db8::1/64", own]);
    a.remove_address("eth0", "2001:db8::1".parse()?)?;
    assert_eq!(addresses("eth0")?, ["192.0.2.1/24"]);
    assert_eq!(addresses("lo0")?, ["127.0.0.1/8"]);
    Ok(())
}

#[test]
fn the_same_link_local_address_on_two_links() -> Result {
    let system = System::virtual_time(1);
    let (hub, spokes) = star(&system)?;
    for (n, spoke) in spokes.iter().enumerate() {
        let server = UdpSocket::bind_in(spoke, "[::]:7")?;
        server.set_read_timeout(Some(Duration::from_secs(5)))?;
        // lo0 is 1.
        let scope = n as u32 + 2;
        let to = SocketAddrV6::new("fe80::5".parse()?, 7, 0, scope);
        let client = UdpSocket::bind_in(&hub, "[::]:0")?;
        client.set_read_timeout(Some(Duration::from_secs(5)))?;
        client.send_to(b"ping", to)?;
        let mut buf = [0; 16];
        let (_, from) = server.recv_from(&mut buf)?;
        let SocketAddr::V6(from) = from else {
            panic!("{from}");
        };
        assert!(from.ip().is_unicast_link_local());
        assert_eq!(from.scope_id(), 2);
        server.send_to(b"pong", from)?;
        let (len, from) = client.recv_from(&mut buf)?;
        assert_eq!((&buf[..len], from), (&b"pong"[..], SocketAddr::V6(to)));

        let listener = TcpListener::bind_in(spoke, "[::]:80")?;
        let mut stream = TcpStream::connect_in(&hub, to_port(to, 80))?;
        stream.write_all(b"over the link")?;
        let (mut accepted, peer) = listener.accept()?;
        assert!(matches!(peer, SocketAddr::V6(peer) if peer.scope_id() == 2));
        drop(stream);
        let mut all = Vec::new();
        accepted.read_to_end(&mut all)?;
        assert_eq!(all, b"over the link");
    }
    // Without a scope, one link is meant only if there is but one.
    let anywhere = UdpSocket::bind_in(&hub, "[::]:0")?;
    assert!(anywhere.send_to(b"x", "[fe80::5]:7").is_err());
    let near = EchoSocket::bind_in(&spokes[0])?;
    near.send_to(1, b"x", "fe80::5".parse()?)?;
    assert!(matches!(near.recv()?.0, EchoEvent::Reply { .. }));
    is_clean(&[&hub, &spokes[0], &spokes[1]]);
    Ok(())
}

#[test]
fn over_the_loopback_interface_each_link_has_its_own_addresses() -> Result {
    let system = System::virtual_time(1);
    let (hub, spokes) = star(&system)?;
    for name in ["eth0", "eth1"] {
        hub.add_address(name, "fe80::1/64".parse()?)?;
    }
    for scope in [2, 3] {
        let at = |port| SocketAddrV6::new("fe80::1".parse().expect("an address"), port, 0, scope);
        let listener = TcpListener::bind_in(&hub, at(80))?;
        let client = TcpStream::connect_in(&hub, at(80))?;
        let (_, peer) = listener.accept()?;
        assert_eq!(peer, client.local_addr()?);
        assert!(matches!(peer, SocketAddr::V6(peer) if peer.scope_id() == scope));
        // From an address of a link to one of none.
        let here = UdpSocket::bind_in(&hub, at(9))?;
        let there = UdpSocket::bind_in(&hub, "[2001:db8:0::1]:9")?;
        here.send_to(b"x", "[2001:db8:0::1]:9")?;
        assert_eq!(there.recv_from(&mut [0; 8])?.1, SocketAddr::V6(at(9)));
        // Nobody listens there, and it is the sender that is told.
        here.connect(at(10))?;
        here.set_read_timeout(Some(Duration::from_secs(5)))?;
        here.send(b"x")?;
        let refused = here.recv(&mut [0; 8]).expect_err("nobody listens");
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    }
    is_clean(&[&hub, &spokes[0], &spokes[1]]);
    Ok(())
}

fn to_port(mut addr: SocketAddrV6, port: u16) -> SocketAddrV6 {
    addr.set_port(port);
    addr
}

#[test]
fn tcp_and_udp_by_a_router() -> Result {
    for offload in [Offload::Full, Offload::None] {
        let system = System::virtual_time(1);
        let [a, r, b] = path(&system);
        for (vnet, name) in [(&a, "eth0"), (&r, "eth0"), (&r, "eth1"), (&b, "eth0")] {
            vnet.set_offload(name, offload)?;
        }
        let data: Vec<u8> = (0..300_000u32).map(|n| n as u8).collect();
        let listener = TcpListener::bind_in(&b, "[2001:db8:2::1]:80")?;
        let sent = data.clone();
        let sender = a.spawn(move || TcpStream::connect("[2001:db8:2::1]:80")?.write_all(&sent))?;
        let (mut stream, peer) = listener.accept()?;
        assert_eq!(peer.ip(), "2001:db8:1::1".parse::<IpAddr>()?);
        let mut received = Vec::new();
        stream.read_to_end(&mut received)?;
        sender.join().expect("the sender does not panic")?;
        assert!(received == data);

        let server = UdpSocket::bind_in(&b, "[::]:9")?;
        server.set_read_timeout(Some(Duration::from_secs(5)))?;
        let client = UdpSocket::bind_in(&a, "[::]:0")?;
        let mut buf = vec![0; 70_000];
        for len in [0, 1, 1452, 1453, 20_000, 65_527] {
            client.send_to(&data[..len], "[2001:db8:2::1]:9")?;
            let (got, _) = server.recv_from(&mut buf)?;
            assert!(buf[..got] == data[..len], "{len}");
        }
        is_clean(&[&a, &r, &b]);
    }
    Ok(())
}

#[test]
fn no_other_link_gets_what_is_for_one_link() -> Result {
    let system = System::virtual_time(1);
    let (hub, spokes) = star(&system)?;
    for (n, spoke) in spokes.iter().enumerate() {
        spoke.add_address("eth0", format!("2001:db8:{n}::5/64").parse()?)?;
    }
    // The router on the other link has the same address there.
    hub.add_route("::/0".parse()?, NextHop::Gateway("2001:db8:1::5".parse()?))?;
    answers(&hub, "2001:db8:1::5", 8);
    let client = UdpSocket::bind_in(&hub, "[::]:0")?;
    let other = UdpSocket::bind_in(&spokes[1], "[::]:7")?;
    other.set_read_timeout(Some(Duration::from_secs(5)))?;
    // lo0 is 1, eth0 2 and eth1 3; 77 is none.
    client.send_to(b"x", SocketAddrV6::new("fe80::5".parse()?, 7, 0, 3))?;
    assert_eq!(other.recv_from(&mut [0; 8])?.0, 1);
    hub.set_up("eth0", AdminState::Down)?;
    for scope in [0, 2, 77] {
        let to = SocketAddrV6::new("fe80::5".parse()?, 7, 0, scope);
        assert!(client.send_to(b"x", to).is_err(), "scope {scope}");
    }
    assert!(other.recv_from(&mut [0; 8]).is_err());
    is_clean(&[&hub, &spokes[0], &spokes[1]]);
    Ok(())
}

/// How many frames have left by eth0.
fn frames(vnet: &Vnet) -> u64 {
    let interfaces = vnet.interfaces().unwrap_or_default();
    let eth0 = interfaces.iter().find(|i| i.name == "eth0");
    eth0.map_or(0, |i| i.counters.tx_frames)
}

/// "Packet too big" (RFC 4443, section 3.2) about a datagram of 2001:db8::1.
fn too_big(mtu: u32, dst: &str, src_port: u16) -> Vec<u8> {
    let mut claim = vec![2, 0, 0, 0];
    claim.extend(mtu.to_be_bytes());
    claim.extend([0x60, 0, 0, 0, 5, 0xb0, 17, 64]);
    for addr in ["2001:db8::1", dst] {
        let addr: std::net::Ipv6Addr = addr.parse().expect("an address");
        claim.extend(addr.octets());
    }
    claim.extend(src_port.to_be_bytes());
    claim.extend([0, 7, 5, 0xb0, 0, 0]);
    claim
}

#[test]
fn only_of_what_was_sent_is_it_believed_that_it_was_too_big() -> Result {
    let system = System::virtual_time(1);
    let (a, b) = pair(&system)?;
    let raw = RawSocket::open_in(&b, 58)?;
    let receiver = UdpSocket::bind_in(&b, "[::]:7")?;
    let sender = UdpSocket::bind_in(&a, "[::]:12345")?;
    let claim = |dst: &str, port| -> Result<u64> {
        let before = a.stats()?.rx_drops(DropReason::IcmpIgnored);
        raw.send_to(&too_big(1280, dst, port), "2001:db8::1".parse()?)?;
        answers(&b, "2001:db8::1", 8);
        Ok(a.stats()?.rx_drops(DropReason::IcmpIgnored) - before)
    };
    let send = |len| -> Result<u64> {
        let before = frames(&a);
        sender.send_to(&vec![7; len], "[2001:db8::2]:7")?;
        assert_eq!(receiver.recv_from(&mut [0; 2000])?.0, len);
        Ok(frames(&a) - before)
    };
    answers(&a, "2001:db8::2", 8);
    // A short datagram gets through everywhere.
    assert_eq!(send(1232)?, 1);
    assert_eq!(claim("2001:db8::2", 12345)?, 1, "nothing was too big");
    assert_eq!(send(1400)?, 1);
    assert_eq!(claim("2001:db8::2", 12346)?, 1, "nobody has that port");
    assert_eq!(claim("2001:db8::3", 12345)?, 1, "nothing went there");
    assert_eq!(send(1400)?, 1, "none of this was believed");
    assert_eq!(claim("2001:db8::2", 12345)?, 0);
    assert_eq!(send(1400)?, 2, "in fragments");
    // The socket has not failed, and nobody else is told twice.
    assert_eq!(claim("2001:db8::2", 12345)?, 1);
    is_clean(&[&a, &b]);
    Ok(())
}

#[test]
fn nobody_makes_a_link_take_more_than_it_does() -> Result {
    let system = System::virtual_time(1);
    let (a, b) = pair(&system)?;
    let raw = RawSocket::open_in(&b, 58)?;
    let receiver = UdpSocket::bind_in(&b, "[::]:7")?;
    let sender = UdpSocket::bind_in(&a, "[::]:12345")?;
    sender.send_to(&[7; 9000], "[2001:db8::2]:7")?;
    assert_eq!(receiver.recv_from(&mut [0; 9001])?.0, 9000);
    // An MTU beyond the link's.
    raw.send_to(&too_big(5000, "2001:db8::2", 12345), "2001:db8::1".parse()?)?;
    answers(&a, "2001:db8::2", 8);
    let before = frames(&a);
    sender.send_to(&[7; 9000], "[2001:db8::2]:7")?;
    assert_eq!(receiver.recv_from(&mut [0; 9001])?.0, 9000);
    assert_eq!(frames(&a) - before, 7, "fragments of 1500 bytes");
    is_clean(&[&a, &b]);
    Ok(())
}

#[test]
fn a_path_that_is_narrower_is_found_out() -> Result {
    for ip_mtu in [1280, 1281, 1400, 1499] {
        let system = System::virtual_time(u64::from(ip_mtu));
        let [a, r, b] = path(&system);
        r.set_ip_mtu("eth1", ip_mtu)?;
        // The first is too big, and what is told of it is remembered.
        let len = 1452;
        assert!(ping(&a, "2001:db8:2::1", len)?.is_none());
        assert_eq!(r.stats()?.rx_drops(DropReason::TooBig), 1);
        answers(&a, "2001:db8:2::1", len);
        answers(&a, "2001:db8:2::1", 30_000);
        let listener = TcpListener::bind_in(&b, "[::]:80")?;
        let data: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
        let sent = data.clone();
        let sender = a.spawn(move || TcpStream::connect("[2001:db8:2::1]:80")?.write_all(&sent))?;
        let (mut stream, _) = listener.accept()?;
        let mut received = Vec::new();
        stream.read_to_end(&mut received)?;
        sender.join().expect("the sender does not panic")?;
        assert!(received == data, "{ip_mtu}");
        // It was known already.
        assert_eq!(r.stats()?.rx_drops(DropReason::TooBig), 1, "{ip_mtu}");
        is_clean(&[&a, &r, &b]);
    }
    Ok(())
}

#[test]
fn tcp_finds_out_by_itself_what_a_path_takes() -> Result {
    let system = System::virtual_time(1);
    let [a, r, b] = path(&system);
    r.set_ip_mtu("eth1", 1300)?;
    let listener = TcpListener::bind_in(&b, "[::]:80")?;
    let sender =
        a.spawn(move || TcpStream::connect("[2001:db8:2::1]:80")?.write_all(&[5; 100_000]))?;
    let (mut stream, _) = listener.accept()?;
    let mut received = Vec::new();
    stream.read_to_end(&mut received)?;
    sender.join().expect("the sender does not panic")?;
    assert!(received == [5; 100_000]);
    is_clean(&[&a, &r, &b]);
    Ok(())
}

#[test]
fn senders_are_told_why() -> Result {
    let system = System::virtual_time(1);
    let [a, r, b] = path(&system);
    let far = "2001:db8:2::1";
    let router: IpAddr = "2001:db8:1::ff".parse()?;
    match ping_with(&a, far, 8, Some(1))? {
        Some(EchoEvent::TimeExceeded { from, seq: 1, .. }) => assert_eq!(from, router),
        other => panic!("{other:?}"),
    }
    // Nobody there.
    match ping(&a, "2001:db8:2::77", 8)? {
        Some(EchoEvent::Unreachable { from, code: 3, .. }) => assert_eq!(from, router),
        other => panic!("{other:?}"),
    }
    match ping(&a, "2001:db8:9::1", 8)? {
        Some(EchoEvent::Unreachable { from, code: 0, .. }) => assert_eq!(from, router),
        other => panic!("{other:?}"),
    }
    r.add_route("2001:db8:8::/48".parse()?, NextHop::Prohibit)?;
    match ping(&a, "2001:db8:8::1", 8)? {
        Some(EchoEvent::Unreachable { code: 1, .. }) => {}
        other => panic!("{other:?}"),
    }
    let socket = UdpSocket::bind_in(&a, "[::]:0")?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    socket.connect((far, 9))?;
    socket.send(b"x")?;
    let refused = socket.recv(&mut [0; 8]).expect_err("nobody listens");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    let refused = TcpStream::connect_in(&a, (far, 9)).expect_err("nobody listens");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    // Our own stack says so when there is no neighbour.
    let none = TcpStream::connect_in(&b, "[2001:db8:2::55]:80").expect_err("nobody is there");
    assert_eq!(none.kind(), std::io::ErrorKind::HostUnreachable);
    is_clean(&[&a, &r, &b]);
    Ok(())
}

#[test]
fn raw_sockets_see_icmpv6_and_have_its_checksum_filled_in() -> Result {
    let system = System::virtual_time(1);
    let (a, b) = pair(&system)?;
    let raw = RawSocket::open_in(&a, 58)?;
    raw.set_read_timeout(Some(Duration::from_secs(5)))?;
    raw.send_to(&[128, 0, 0, 0, 0, 9, 0, 1, 5], "2001:db8::2".parse()?)?;
    let mut buf = [0; 64];
    loop {
        let (len, meta) = raw.recv_from(&mut buf)?;
        if buf[0] == 129 {
            assert_eq!((&buf[4..len], meta.ttl), (&[0, 9, 0, 1, 5][..], 64));
            break;
        }
    }
    is_clean(&[&a, &b]);
    Ok(())
}

#[test]
fn who_has_no_address_of_ipv6_sees_nothing_of_it() -> Result {
    let system = System::virtual_time(1);
    let (a, b) = pair(&system)?;
    answers(&b, "2001:db8::1", 8);
    a.remove_address("eth0", "2001:db8::1".parse()?)?;
    let dropped = a.stats()?.rx_drops(DropReason::UnknownProtocol);
    let sent = a.stats()?.sent;
    let event = ping(&b, "2001:db8::1", 8)?;
    assert!(event.is_none(), "{event:?}");
    assert!(a.stats()?.rx_drops(DropReason::UnknownProtocol) > dropped);
    assert_eq!(a.stats()?.sent, sent, "it says nothing");
    let none = UdpSocket::bind_in(&a, "[::]:0")?.send_to(b"x", "[2001:db8::2]:9");
    assert!(none.is_err());
    is_clean(&[&a, &b]);
    Ok(())
}

#[test]
fn an_interface_that_comes_up_again_says_so() -> Result {
    let system = System::virtual_time(1);
    let (a, b) = pair(&system)?;
    answers(&a, "2001:db8::2", 8);
    a.set_up("eth0", AdminState::Down)?;
    a.set_up("eth0", AdminState::Up)?;
    answers(&b, "2001:db8::1", 8);
    is_clean(&[&a, &b]);
    Ok(())
}

#[test]
fn a_twin_has_the_same_addresses_and_routes() -> Result {
    let system = System::virtual_time(1);
    let [_a, r, _b] = path(&system);
    r.add_route(
        "2001:db8:9::/48".parse()?,
        NextHop::OnLink {
            gateway: "fe80::5".parse()?,
            interface: "eth1".to_owned(),
        },
    )?;
    r.add_address("eth1", "fe80::7/64".parse()?)?;
    let twin = r.clone_as("twin")?;
    assert_eq!(
        twin.inspect()?.normalised(),
        r.inspect()?.normalised(),
        "as far as it is configuration"
    );
    let text = r.record()?.to_toml()?;
    assert!(
        !text.contains("::1/128"),
        "what it has by itself is no record: {text}"
    );
    let elsewhere = System::virtual_time(2);
    let again = elsewhere.replay(&vnet::record::Record::from_toml(&text)?, "again")?;
    assert_eq!(again.inspect()?.normalised(), r.inspect()?.normalised());
    for origin in twin.destroy().leaked.to_string().lines() {
        assert_eq!(origin, "nothing");
    }
    Ok(())
}

/// What stands behind the fixed header in a random frame: often something that begins a chain.
fn rest() -> impl Strategy<Value = Vec<u8>> {
    let octet = prop_oneof![
        prop::sample::select(vec![0u8, 0, 1, 6, 17, 43, 44, 58, 60, 128, 135, 136]),
        any::<u8>(),
    ];
    prop::collection::vec(octet, 0..160)
}

/// A frame to a station, with these addresses and octets.
fn frame(to: [u8; 6], ends: (&str, &str), next: u8, hop_limit: u8, rest: &[u8]) -> Vec<u8> {
    let mut frame = to.to_vec();
    frame.extend([2, 0, 0, 0, 0, 0x77, 0x86, 0xdd, 0x60, 0, 0, 0]);
    frame.extend((rest.len() as u16).to_be_bytes());
    frame.extend([next, hop_limit]);
    for end in [ends.0, ends.1] {
        frame.extend(
            end.parse::<std::net::Ipv6Addr>()
                .expect("an address")
                .octets(),
        );
    }
    frame.extend(rest);
    frame
}

/// A piece of a datagram of 1408 bytes behind the IP header, in two: in an Ethernet frame.
fn fragment(to: [u8; 6], version: u8, ident: u16, first: bool) -> Vec<u8> {
    let (offset, len) = if first { (0, 1400) } else { (1400, 8) };
    // UDP to port 9, without a checksum.
    let mut data = vec![0, 7, 0, 9, 5, 0x80, 0, 0];
    data.resize(1400, 0);
    let data = if first { &data[..] } else { &[0; 8][..] };
    if version == 6 {
        let mut rest = vec![17, 0];
        rest.extend((offset | u16::from(first)).to_be_bytes());
        rest.extend(u32::from(ident).to_be_bytes());
        rest.extend(data);
        return frame(to, ("2001:db8:1::9", "2001:db8:1::1"), 44, 64, &rest);
    }
    let mut header = vec![0x45, 0];
    header.extend((20 + len as u16).to_be_bytes());
    header.extend(ident.to_be_bytes());
    header.extend(((offset / 8) | (u16::from(first) << 13)).to_be_bytes());
    header.extend([64, 17, 0, 0, 192, 0, 2, 9, 192, 0, 2, 1]);
    let sum = header
        .chunks(2)
        .map(|w| u32::from(w[0]) << 8 | u32::from(w[1]));
    let sum: u32 = sum.sum();
    let sum = !((sum >> 16) + (sum & 0xffff)) as u16;
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut frame = to.to_vec();
    frame.extend([2, 0, 0, 0, 0, 0x77, 0x08, 0]);
    frame.extend(header);
    frame.extend(data);
    frame
}

/// Fragments of one version wait for ever; a datagram of the other still comes together.
#[test]
fn fragments_of_one_version_leave_the_other_its_half() -> Result {
    for (flooding, victim) in [(6, 4), (4, 6)] {
        let system = System::manual(1);
        let vnet = system.create("vnet")?;
        let port = vnet.port("eth0", None)?;
        vnet.add_address("eth0", "192.0.2.1/24".parse()?)?;
        vnet.add_address("eth0", "2001:db8:1::1/64".parse()?)?;
        let mac = vnet.interfaces()?[1].mac.0;
        let mut at = 0;
        let mut send = |version, ident, first| -> Result {
            port.send(fragment(mac, version, ident, first))?;
            at += 1000;
            system.poll(Instant::from_nanos(at));
            Ok(())
        };
        for ident in 0..4000 {
            send(flooding, ident, true)?;
        }
        let lost = |vnet: &Vnet| vnet.stats().map(|s| s.rx_drops(DropReason::FragmentLimit));
        let before = lost(&vnet)?;
        assert!(before > 0, "there is no room for more");
        for ident in 0..10 {
            send(victim, ident, true)?;
        }
        assert_eq!(vnet.stats()?.rx_drops(DropReason::NoSocket), 0);
        assert_eq!(lost(&vnet)? - before, 10, "the flood makes room");
        for ident in 0..10 {
            send(victim, ident, false)?;
        }
        // A datagram of IPv6 without a checksum is refused for that, but it is whole.
        let stats = vnet.stats()?;
        let whole = stats.rx_drops(DropReason::NoSocket) + stats.rx_drops(DropReason::BadChecksum);
        assert_eq!(whole, 10);
        assert_conserved(&vnet);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Received is delivered, forwarded, dropped or pending, whatever comes in, at a host and a router.
    #[test]
    fn every_frame_is_accounted_for(
        forwarding in prop::sample::select(vec![Forwarding::Disabled, Forwarding::Enabled]),
        frames in prop::collection::vec((
            prop::sample::select(vec![0u8, 6, 17, 43, 44, 58, 59, 60]),
            prop::sample::select(vec!["2001:db8:1::9", "fe80::9", "::", "2001:db8:1::1", "ff02::1"]),
            prop::sample::select(vec![
                "2001:db8:1::1", "fe80::1", "2001:db8:2::9", "2001:db8:9::9", "ff02::1",
                "ff02::1:ff00:1", "ff05::2", "::1",
            ]),
            prop::sample::select(vec![0u8, 1, 64, 255]),
            any::<bool>(),
            rest(),
        ), 1..12),
    ) {
        let system = System::manual(1);
        let vnet = system.create("vnet").expect("the name is free");
        let port = vnet.port("eth0", None).expect("the name is free");
        let _far = vnet.port("eth1", None).expect("the name is free");
        for (name, net) in [
            ("eth0", "2001:db8:1::1/64"),
            ("eth0", "fe80::1/64"),
            ("eth1", "2001:db8:2::1/64"),
        ] {
            let net = net.parse().expect("a prefix");
            vnet.add_address(name, net).expect("it is free");
        }
        vnet.set_forwarding(forwarding).expect("alive");
        let mac = vnet.interfaces().expect("alive")[1].mac.0;
        for (n, (next, src, dst, hop_limit, group, rest)) in frames.iter().enumerate() {
            let to = if *group { [0x33, 0x33, 0, 0, 0, 1] } else { mac };
            let sent = port.send(frame(to, (src, dst), *next, *hop_limit, rest));
            sent.expect("there is room");
            system.poll(Instant::from_nanos(n as u64 * 1_000_000));
            assert_conserved(&vnet);
        }
        // What waits is given up in the end.
        for secs in 1..200 {
            system.poll(Instant::from_nanos(secs * 1_000_000_000));
        }
        assert_conserved(&vnet);
        prop_assert_eq!(vnet.pending().expect("alive"), 0);
        let report = vnet.destroy();
        prop_assert!(report.leaked.is_zero(), "{}", report);
    }
}

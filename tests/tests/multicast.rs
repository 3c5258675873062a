//! Promise: a socket hears what is sent to the groups that it has joined, on the interface where it has joined them and
//! from the sources that it wants to hear, and nothing else; and routers are told, in the words of the oldest of them.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV6};
use std::time::Duration;

use vnet::net::UdpSocket;
use vnet::{DropReason, Forwarding, NextHop, OwnedVnet, Port, SocketError, System, Vnet};
use vnet_tests::accounts::assert_conserved;
use vnet_tests::frames::{IPV4, Ip4, checksum, ethernet};
use vnet_tests::judge;
use vnet_tests::sockets::Bound;

type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

const GROUP: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 3);
const OTHER: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 4);
const GROUP_6: Ipv6Addr = Ipv6Addr::new(0xff0e, 0, 0, 0, 0, 0, 1, 3);
const ANY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
const PORT: u16 = 50000;

/// A vnet with a wire to each of three others. Its interfaces have the numbers 2 to 4, each other vnet's has 2.
fn star(system: &System) -> Result<(OwnedVnet, Vec<OwnedVnet>)> {
    let hub = system.create("hub")?;
    let mut others = Vec::new();
    for n in 1..=3 {
        let other = system.create(&format!("v{n}"))?;
        hub.epair(&format!("eth{n}"), &other, "eth0")?;
        hub.add_address(&format!("eth{n}"), format!("198.18.{n}.1/24").parse()?)?;
        other.add_address("eth0", format!("198.18.{n}.2/24").parse()?)?;
        hub.add_address(&format!("eth{n}"), format!("2001:db8:{n}::1/64").parse()?)?;
        other.add_address("eth0", format!("2001:db8:{n}::2/64").parse()?)?;
        others.push(other);
    }
    judge::watch(&[&hub]);
    Ok((hub, others))
}

/// A socket that others may share their address with.
fn shared(vnet: &Vnet, addr: &str) -> UdpSocket {
    let options = Bound {
        reuse: true,
        only_v6: None,
    };
    let socket = options.udp(vnet, addr).expect("a shared address");
    socket.set_nonblocking(true).expect("it exists");
    socket
}

/// Everything that a socket has received, as text.
fn heard(socket: &UdpSocket) -> String {
    let mut all = Vec::new();
    let mut buf = [0; 64];
    while let Ok(len) = socket.recv(&mut buf) {
        all.push(String::from_utf8_lossy(&buf[..len]).into_owned());
    }
    all.join(" ")
}

#[track_caller]
fn fails(result: std::io::Result<()>, why: SocketError) {
    let error = result.expect_err("it is refused");
    assert_eq!(SocketError::of(&error), Some(why), "{error}");
}

#[test]
fn a_group_is_heard_where_it_was_joined_and_by_those_who_joined_it() -> Result {
    let system = System::virtual_time(1);
    let (hub, others) = star(&system)?;
    let eth1 = Ipv4Addr::new(198, 18, 1, 1);
    let (joined, bound, deaf) = (
        shared(&hub, "0.0.0.0:50000"),
        shared(&hub, "239.1.2.3:50000"),
        shared(&hub, "0.0.0.0:50000"),
    );
    joined.join_multicast_v4(&GROUP, &eth1)?;
    bound.join_multicast_v4(&GROUP, &Ipv4Addr::new(198, 18, 2, 1))?;
    bound.join_multicast_v4(&OTHER, &eth1)?;
    let both = shared(&hub, "[::]:50000");
    both.join_multicast_v4(&OTHER, &eth1)?;
    both.join_multicast_v6(&GROUP_6, 3)?;
    let all = [&joined, &bound, &deaf, &both];
    for (n, other) in others.iter().enumerate() {
        let sender = UdpSocket::bind_in(other, "[::]:0")?;
        for group in [IpAddr::from(GROUP), OTHER.into(), GROUP_6.into()] {
            let text = format!("{}>{group}", n + 1);
            sender.send_to(text.as_bytes(), (group, PORT))?;
        }
    }
    system.run_for(Duration::from_secs(1))?;
    let said = all.map(heard);
    assert_eq!(said[0], "1>239.1.2.3");
    // What is bound to a group hears only that.
    assert_eq!(said[1], "2>239.1.2.3");
    assert_eq!(said[2], "");
    assert_eq!(said[3], "1>239.1.2.4 2>ff0e::1:3");
    // Who has left hears no more, and a socket that is closed is in no group.
    joined.leave_multicast_v4(&GROUP, &eth1)?;
    drop(bound);
    let sender = UdpSocket::bind_in(&others[0], "0.0.0.0:0")?;
    sender.send_to(b"x", (GROUP, PORT))?;
    system.run_for(Duration::from_secs(1))?;
    assert_eq!(heard(&joined), "");
    assert_eq!(
        hub.stats()?.rx_drops(DropReason::NoSocket),
        0,
        "nobody listens on eth1"
    );
    assert_conserved(&hub);
    judge::judge();
    Ok(())
}

#[test]
fn sources_are_told_apart() -> Result {
    let system = System::virtual_time(1);
    let (hub, others) = star(&system)?;
    others[0].add_address("eth0", "198.18.1.3/24".parse()?)?;
    others[0].add_address("eth0", "2001:db8:1::3/64".parse()?)?;
    let socket = shared(&hub, "[::]:50000");
    let from = |n: u8| IpAddr::from([198, 18, 1, n]);
    socket.join_source(from(3), GROUP.into(), 2)?;
    socket.join_source("2001:db8:1::3".parse()?, GROUP_6.into(), 2)?;
    let say = |text: &str| -> Result<String> {
        for (host, group, name) in [
            ("198.18.1.2:0", IpAddr::from(GROUP), ".2"),
            ("198.18.1.3:0", GROUP.into(), ".3"),
            ("[2001:db8:1::2]:0", GROUP_6.into(), "::2"),
            ("[2001:db8:1::3]:0", GROUP_6.into(), "::3"),
        ] {
            let sender = UdpSocket::bind_in(&others[0], host)?;
            let text = format!("{text}{name}");
            sender.send_to(text.as_bytes(), (group, PORT))?;
        }
        system.run_for(Duration::from_secs(1))?;
        Ok(heard(&socket))
    };
    assert_eq!(say("a")?, "a.3 a::3");
    socket.join_source(from(2), GROUP.into(), 2)?;
    socket.leave_source("2001:db8:1::3".parse()?, GROUP_6.into(), 2)?;
    assert_eq!(say("b")?, "b.2 b.3");
    fails(
        socket.join_source(from(2), GROUP.into(), 2),
        SocketError::AddrInUse,
    );
    fails(
        socket.join_multicast_v4(&GROUP, &Ipv4Addr::new(198, 18, 1, 1)),
        SocketError::InvalidInput,
    );
    fails(
        socket.leave_source(from(9), GROUP.into(), 2),
        SocketError::AddrNotAvailable,
    );
    fails(
        socket.join_source("::1".parse()?, GROUP.into(), 2),
        SocketError::InvalidInput,
    );
    assert_conserved(&hub);
    judge::judge();
    Ok(())
}

/// What is sent on one link comes from an address of that link, which has no number in it where it is named.
#[test]
fn a_source_may_be_of_one_link() -> Result {
    let system = System::virtual_time(1);
    let (hub, others) = star(&system)?;
    others[0].add_address("eth0", "fe80::7/64".parse()?)?;
    let group = "ff32::1234".parse::<Ipv6Addr>()?;
    let (joined, other) = (shared(&hub, "[::]:50000"), shared(&hub, "[::]:50000"));
    joined.join_source("fe80::7".parse()?, group.into(), 2)?;
    other.join_source("fe80::8".parse()?, group.into(), 2)?;
    let sender = UdpSocket::bind_in(&others[0], "[::]:0")?;
    sender.send_to(b"x", SocketAddrV6::new(group, PORT, 0, 2))?;
    system.run_for(Duration::from_secs(1))?;
    assert_eq!([&joined, &other].map(heard), ["x", ""]);
    joined.leave_source("fe80::7".parse()?, group.into(), 2)?;
    assert_conserved(&hub);
    Ok(())
}

#[test]
fn what_is_sent_by_the_loopback_interface_is_heard_once() -> Result {
    let system = System::virtual_time(1);
    let (hub, _others) = star(&system)?;
    let (socket, sender) = (shared(&hub, "[::]:50000"), shared(&hub, "[::]:50001"));
    socket.join_multicast_v6(&GROUP_6, 1)?;
    socket.join_multicast_v4(&GROUP, &Ipv4Addr::LOCALHOST)?;
    sender.set_multicast_interface(1)?;
    for group in [IpAddr::from(GROUP_6), GROUP.into()] {
        sender.send_to(group.to_string().as_bytes(), (group, PORT))?;
    }
    system.run_for(Duration::from_secs(1))?;
    assert_eq!(heard(&socket), "ff0e::1:3 239.1.2.3");
    assert_conserved(&hub);
    Ok(())
}

#[test]
fn what_routes_chose_can_be_left_when_they_have_changed() -> Result {
    let system = System::virtual_time(1);
    let (hub, _others) = star(&system)?;
    let socket = shared(&hub, "0.0.0.0:50000");
    hub.add_route("0.0.0.0/0".parse()?, Ipv4Addr::new(198, 18, 2, 2))?;
    socket.join_multicast_v4(&GROUP, &ANY)?;
    hub.remove_route("0.0.0.0/0".parse()?)?;
    hub.add_route("0.0.0.0/0".parse()?, Ipv4Addr::new(198, 18, 3, 2))?;
    socket.leave_multicast_v4(&GROUP, &ANY)?;
    fails(
        socket.leave_multicast_v4(&GROUP, &ANY),
        SocketError::AddrNotAvailable,
    );
    // A route that leads nowhere is one.
    hub.add_route("239.0.0.0/8".parse()?, NextHop::Prohibit)?;
    let sent = socket.send_to(b"x", (GROUP, PORT)).map(drop);
    fails(sent, SocketError::Prohibited);
    assert_conserved(&hub);
    Ok(())
}

#[test]
fn a_sender_chooses_the_interface_the_hops_and_who_hears_it_here() -> Result {
    let system = System::virtual_time(1);
    let (hub, others) = star(&system)?;
    let sender = shared(&hub, "[::]:50000");
    sender.join_multicast_v6(&GROUP_6, 3)?;
    let there: Vec<UdpSocket> = others.iter().map(|v| shared(v, "[::]:50000")).collect();
    for socket in &there {
        socket.join_multicast_v4(&GROUP, &ANY)?;
        socket.join_multicast_v6(&GROUP_6, 0)?;
    }
    let say = |text: &str| -> Result<[String; 4]> {
        for group in [IpAddr::from(GROUP), GROUP_6.into()] {
            let text = format!("{text}{}", if group.is_ipv4() { 4 } else { 6 });
            sender.send_to(text.as_bytes(), (group, PORT))?;
        }
        system.run_for(Duration::from_secs(1))?;
        Ok([
            heard(&sender),
            heard(&there[0]),
            heard(&there[1]),
            heard(&there[2]),
        ])
    };
    // No route: the first that can.
    assert_eq!(say("a")?, ["", "a4 a6", "", ""]);
    sender.set_multicast_interface(3)?;
    assert_eq!(say("b")?, ["b6", "", "b4 b6", ""]);
    sender.join_multicast_v4(&GROUP, &Ipv4Addr::new(198, 18, 2, 1))?;
    assert_eq!(say("c")?, ["c4 c6", "", "c4 c6", ""]);
    sender.set_multicast_loop_v6(false)?;
    sender.set_multicast_ttl_v4(0)?;
    assert_eq!(say("d")?, ["d4", "", "d6", ""]);
    assert_eq!(
        (sender.multicast_loop_v4()?, sender.multicast_loop_v6()?),
        (true, false)
    );
    assert_eq!(
        (sender.multicast_ttl_v4()?, sender.multicast_hops_v6()?),
        (0, 1)
    );
    sender.set_multicast_interface(0)?;
    hub.add_route(
        "239.0.0.0/8".parse()?,
        vnet::NextHop::Interface("eth3".to_owned()),
    )?;
    sender.set_multicast_ttl_v4(1)?;
    assert_eq!(say("e")?, ["", "e6", "", "e4"]);
    fails(
        sender.set_multicast_interface(77),
        SocketError::AddrNotAvailable,
    );
    fails(sender.set_multicast_ttl_v4(256), SocketError::InvalidInput);
    judge::judge();
    Ok(())
}

#[test]
fn what_cannot_be_joined_is_refused() -> Result {
    let system = System::virtual_time(1);
    let (hub, _others) = star(&system)?;
    let socket = shared(&hub, "0.0.0.0:50000");
    let eth1 = Ipv4Addr::new(198, 18, 1, 1);
    fails(
        socket.join_multicast_v4(&eth1, &ANY),
        SocketError::InvalidInput,
    );
    fails(
        socket.join_multicast_v6(&GROUP_6, 0),
        SocketError::InvalidInput,
    );
    let elsewhere = Ipv4Addr::new(198, 18, 1, 2);
    fails(
        socket.join_multicast_v4(&GROUP, &elsewhere),
        SocketError::AddrNotAvailable,
    );
    fails(
        socket.join_source(eth1.into(), GROUP.into(), 9),
        SocketError::AddrNotAvailable,
    );
    fails(
        socket.leave_multicast_v4(&GROUP, &eth1),
        SocketError::AddrNotAvailable,
    );
    socket.join_multicast_v4(&GROUP, &eth1)?;
    fails(
        socket.join_multicast_v4(&GROUP, &eth1),
        SocketError::AddrInUse,
    );
    let alone = system.create("alone")?;
    let lonely = shared(&alone, "0.0.0.0:50000");
    let error = lonely
        .join_multicast_v4(&GROUP, &ANY)
        .expect_err("no interface");
    assert_eq!(error.kind(), ErrorKind::NetworkUnreachable);
    Ok(())
}

/// A vnet whose interface leads to the test, which is the router.
struct Link {
    system: System,
    vnet: OwnedVnet,
    port: Port,
}

impl Link {
    fn new() -> Link {
        let system = System::manual(1);
        let vnet = system.create("v").expect("a free name");
        let port = vnet.port("eth0", None).expect("a free name");
        vnet.add_address("eth0", "198.18.1.1/24".parse().expect("an address"))
            .expect("it is free");
        judge::watch(&[&vnet]);
        let link = Link { system, vnet, port };
        link.said(1);
        link
    }

    /// What was said by IGMP in so many seconds: to whom, and the message behind its checksum.
    fn said(&self, secs: u64) -> Vec<(Ipv4Addr, Vec<u8>)> {
        let mut all = Vec::new();
        let until = self.system.now() + Duration::from_secs(secs);
        let mut now = self.system.now();
        loop {
            let next = self.system.poll(now);
            while let Some(frame) = self.port.recv() {
                let frame = frame.to_vec();
                if frame[12..14] != [8, 0] || frame[14 + 9] != 2 {
                    continue;
                }
                let ip = &frame[14..];
                assert_eq!(
                    (ip[0], ip[1], ip[8], &ip[20..24]),
                    (0x46, 0xc0, 1, &[0x94, 4, 0, 0][..])
                );
                assert_eq!(checksum(&[&ip[..24]]), 0);
                assert_eq!(checksum(&[&ip[24..]]), 0);
                let dst = Ipv4Addr::new(ip[16], ip[17], ip[18], ip[19]);
                let message = [&ip[24..26], &ip[28..]].concat();
                all.push((dst, message));
            }
            match next {
                Some(at) if at <= until => now = at.max(now),
                _ => break,
            }
        }
        self.system.poll(until);
        all
    }

    fn hears(&self, ttl: u8, dst: Ipv4Addr, message: Vec<u8>) {
        self.hears_from(Ipv4Addr::new(198, 18, 1, 254), ttl, dst, message);
    }

    fn hears_from(&self, src: Ipv4Addr, ttl: u8, dst: Ipv4Addr, mut message: Vec<u8>) {
        let sum = checksum(&[&message]);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        let header = Ip4 {
            ttl,
            options: vec![0x94, 4, 0, 0],
            ..Ip4::new(src, dst, 2)
        };
        let [_, b, c, d] = dst.octets();
        let mac = [1, 0, 0x5e, b & 0x7f, c, d];
        let frame = ethernet(mac, [2, 0, 0, 0, 0, 9], IPV4, &header.packet(&message));
        self.port.send(frame).expect("the port is there");
        self.system.poll(self.system.now());
    }

    /// The groups that the interface is in.
    fn joined(&self) -> Vec<IpAddr> {
        let all = self.vnet.inspect().expect("it is alive").interfaces;
        let eth0 = all.into_iter().find(|i| i.info.name == "eth0");
        eth0.expect("it is there").groups
    }

    fn socket(&self) -> UdpSocket {
        shared(&self.vnet, "0.0.0.0:50000")
    }
}

const ALL: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);
const V3_ROUTERS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 22);

/// A report of version 3 with one record.
fn report(kind: u8, group: Ipv4Addr, sources: &[Ipv4Addr]) -> (Ipv4Addr, Vec<u8>) {
    let mut message = vec![0x22, 0, 0, 0, 0, 1, kind, 0, 0, sources.len() as u8];
    message.extend(group.octets());
    message.extend(sources.iter().flat_map(|source| source.octets()));
    (V3_ROUTERS, message)
}

/// A message of version 1 or 2.
fn older(dst: Ipv4Addr, kind: u8, group: Ipv4Addr) -> (Ipv4Addr, Vec<u8>) {
    (dst, [&[kind, 0][..], &group.octets()].concat())
}

fn query(code: u8, group: Ipv4Addr, more: &[u8]) -> Vec<u8> {
    [&[0x11, code, 0, 0][..], &group.octets(), more].concat()
}

#[test]
fn changes_are_told_twice_and_questions_are_answered() {
    let link = Link::new();
    let socket = link.socket();
    socket.join_multicast_v4(&GROUP, &ANY).unwrap();
    assert_eq!(
        link.said(10),
        [report(4, GROUP, &[]), report(4, GROUP, &[])]
    );
    assert_eq!(link.joined(), [IpAddr::from(GROUP)]);
    // Nothing more is said until somebody asks.
    assert_eq!(link.said(1000), []);
    link.hears(1, ALL, query(20, ANY, &[2, 125, 0, 0]));
    assert_eq!(link.said(3), [report(2, GROUP, &[])]);
    link.hears(1, GROUP, query(10, GROUP, &[2, 125, 0, 0]));
    assert_eq!(link.said(2), [report(2, GROUP, &[])]);
    // A switch without an address asks, too (RFC 4541, section 2.1.1).
    link.hears_from(ANY, 1, ALL, query(20, ANY, &[2, 125, 0, 0]));
    assert_eq!(link.said(3), [report(2, GROUP, &[])]);
    // Of sources, those that are heard.
    link.hears(1, GROUP, query(10, GROUP, &[2, 125, 0, 1, 198, 18, 1, 7]));
    assert_eq!(
        link.said(2),
        [report(1, GROUP, &[Ipv4Addr::new(198, 18, 1, 7)])]
    );
    let one = Ipv4Addr::new(198, 18, 1, 7);
    socket.join_source(one.into(), OTHER.into(), 0).unwrap();
    assert_eq!(
        link.said(10),
        [report(5, OTHER, &[one]), report(5, OTHER, &[one])]
    );
    drop(socket);
    let said = link.said(10);
    assert_eq!(said.len(), 2, "{said:?}");
    for (dst, message) in said {
        assert_eq!(
            (dst, &message[..6]),
            (V3_ROUTERS, &[0x22, 0, 0, 0, 0, 2][..])
        );
    }
    assert_conserved(&link.vnet);
    judge::judge();
}

/// RFC 1812 section 4.3.3.10 and RFC 9776 section 6: a router is in the group of routers, of which who asks is told.
#[test]
fn a_router_is_in_the_group_of_routers() {
    let link = Link::new();
    let routers = Ipv4Addr::new(224, 0, 0, 2);
    link.vnet.set_forwarding(Forwarding::Enabled).unwrap();
    assert_eq!(link.said(10), []);
    link.hears(1, ALL, query(20, ANY, &[2, 125, 0, 0]));
    assert_eq!(link.said(3), [report(2, routers, &[])]);
    assert_eq!(link.joined(), [] as [IpAddr; 0]);
    link.vnet.set_forwarding(Forwarding::Disabled).unwrap();
    assert_eq!(
        link.said(10),
        [report(3, routers, &[]), report(3, routers, &[])]
    );
    assert_conserved(&link.vnet);
    judge::judge();
}

#[test]
fn questions_that_cannot_be_are_counted_and_not_answered() {
    let link = Link::new();
    let socket = link.socket();
    socket.join_multicast_v4(&GROUP, &ANY).unwrap();
    link.said(10);
    // A question that has come from elsewhere, and one that is shorter than it says.
    let malformed = |link: &Link| link.vnet.stats().unwrap().rx_drops(DropReason::Malformed);
    link.hears(2, ALL, query(20, ANY, &[2, 125, 0, 0]));
    link.hears(1, ALL, query(20, ANY, &[2, 125, 0, 9]));
    assert_eq!((link.said(5), malformed(&link)), (vec![], 2));
    assert_conserved(&link.vnet);
}

#[test]
fn routers_of_older_versions_are_told_in_their_words() {
    for (code, joined, left) in [(100, 0x16, true), (0, 0x12, false)] {
        let link = Link::new();
        link.hears(1, ALL, query(code, ANY, &[]));
        let socket = link.socket();
        socket.join_multicast_v4(&GROUP, &ANY).unwrap();
        let member = older(GROUP, joined, GROUP);
        assert_eq!(link.said(30), [member.clone(), member.clone()]);
        link.hears(1, ALL, query(code, ANY, &[]));
        assert_eq!(link.said(11), [member]);
        // Another station has answered: that will do.
        link.hears(1, ALL, query(code, ANY, &[]));
        link.hears(1, GROUP, [&[joined, 0, 0, 0][..], &GROUP.octets()].concat());
        assert_eq!(link.said(11), []);
        drop(socket);
        let leave = older(Ipv4Addr::new(224, 0, 0, 2), 0x17, GROUP);
        assert_eq!(link.said(11), vec![leave; usize::from(left)]);
        // The old router is gone after a while.
        link.said(600);
        let socket = link.socket();
        socket.join_multicast_v4(&GROUP, &ANY).unwrap();
        assert_eq!(
            link.said(10),
            [report(4, GROUP, &[]), report(4, GROUP, &[])]
        );
        assert_conserved(&link.vnet);
    }
    judge::judge();
}

#[test]
fn an_interface_that_comes_up_tells_of_its_groups() {
    let link = Link::new();
    let socket = link.socket();
    socket.join_multicast_v4(&GROUP, &ANY).unwrap();
    assert_eq!(link.said(10).len(), 2);
    link.vnet.set_up("eth0", vnet::AdminState::Down).unwrap();
    link.said(10);
    link.vnet.set_up("eth0", vnet::AdminState::Up).unwrap();
    assert_eq!(
        link.said(10),
        [report(4, GROUP, &[]), report(4, GROUP, &[])]
    );
}

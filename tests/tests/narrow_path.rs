//! Paths that are narrower than their first link. TCP gets through whatever the MTU: large segments find it out, small
//! ones are cut. Datagrams are cut to what is known, or refused if they must not be cut.

use std::io::{ErrorKind, Read, Write};
use std::net::IpAddr;
use std::time::Duration;

use vnet::net::{EchoEvent, EchoSocket, RawSocket, TcpListener, TcpStream, UdpSocket};
use vnet::{DropReason, OwnedVnet, SocketError, System};
use vnet_tests::accounts::assert_conserved;
use vnet_tests::frames::{Ip4, Ip6, icmp, udp};
use vnet_tests::topology;

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A host, a router, a host; the second link takes IP packets of `ip_mtu` bytes.
fn transfer_through(ip_mtu: u16) -> Result {
    let system = System::virtual_time(u64::from(ip_mtu));
    let [a, r, b] = topology::path(
        &system,
        ["192.0.2.1/24", "192.0.2.254/24"],
        ["198.51.100.254/24", "198.51.100.1/24"],
    );
    // Only the router knows: neither end can tell from its own interface.
    r.set_ip_mtu("eth1", ip_mtu)?;

    let data: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
    let listener = TcpListener::bind_in(&b, "198.51.100.1:80")?;
    let sent = data.clone();
    let sender = a.spawn(move || TcpStream::connect("198.51.100.1:80")?.write_all(&sent))?;
    let (mut stream, _) = listener.accept()?;
    let mut received = Vec::new();
    stream.read_to_end(&mut received)?;
    sender.join().expect("the sender does not panic")?;
    assert!(received == data, "what arrived differs, at MTU {ip_mtu}");
    Ok(())
}

#[test]
fn tcp_gets_through_a_path_of_any_mtu() -> Result {
    for ip_mtu in [68, 69, 103, 296, 551, 552, 576, 577, 1006, 1492] {
        transfer_through(ip_mtu)?;
    }
    Ok(())
}

#[test]
fn tcp_gets_out_of_an_interface_of_any_mtu() -> Result {
    for ip_mtu in [68, 103, 575, 1280, 65_535] {
        let system = System::virtual_time(1);
        let (a, b) = (system.create("a")?, system.create("b")?);
        a.epair("eth0", &b, "eth0")?;
        a.add_address("eth0", "192.0.2.1/24".parse()?)?;
        b.add_address("eth0", "192.0.2.2/24".parse()?)?;
        a.set_ip_mtu("eth0", ip_mtu)?;
        b.set_ip_mtu("eth0", ip_mtu)?;
        let listener = TcpListener::bind_in(&b, "192.0.2.2:80")?;
        let mut client = TcpStream::connect_in(&a, "192.0.2.2:80")?;
        client.write_all(&[7; 20_000])?;
        drop(client);
        let mut received = Vec::new();
        listener.accept()?.0.read_to_end(&mut received)?;
        assert_eq!(received.len(), 20_000, "at MTU {ip_mtu}");
    }
    Ok(())
}

/// RFC 1191 section 6.3: what one connection has learned of a path the next one knows, until it is time to look again.
#[test]
fn what_a_path_takes_is_known_to_the_next_connection() -> Result {
    let system = System::virtual_time(1);
    let [a, r, b] = topology::path(
        &system,
        ["192.0.2.1/24", "192.0.2.254/24"],
        ["198.51.100.254/24", "198.51.100.1/24"],
    );
    r.set_ip_mtu("eth1", 1400)?;
    let listener = TcpListener::bind_in(&b, "198.51.100.1:80")?;
    let connect = || -> Result<_> {
        let client = TcpStream::connect_in(&a, "198.51.100.1:80")?;
        Ok((client, listener.accept()?.0))
    };
    // How many packets the router refuses while the client sends this, and what it takes the path for then.
    let sends = |client: &mut TcpStream, server: &mut TcpStream| {
        let refused = || r.stats().map(|stats| stats.rx_drops(DropReason::TooBig));
        let before = refused()?;
        client.write_all(&[7; 20_000])?;
        server.read_exact(&mut [0; 20_000])?;
        let path_mtu = client.info()?.path_mtu;
        Ok::<_, Box<dyn std::error::Error>>((refused()? - before > 0, path_mtu))
    };
    let (mut client, mut server) = connect()?;
    assert_eq!(client.info()?.path_mtu, 1500);
    assert_eq!(sends(&mut client, &mut server)?, (true, 1400));
    let (mut second, mut server) = connect()?;
    assert_eq!(sends(&mut second, &mut server)?, (false, 1400));
    // After ten minutes it is tried again.
    system.sleep(Duration::from_secs(601))?;
    let (mut third, mut server) = connect()?;
    assert_eq!(third.info()?.path_mtu, 1500);
    assert_eq!(sends(&mut third, &mut server)?, (true, 1400));
    // Nobody is told anything of other paths.
    let other = TcpListener::bind_in(&r, "192.0.2.254:80")?;
    let near = TcpStream::connect_in(&a, "192.0.2.254:80")?;
    assert_eq!(
        (near.info()?.path_mtu, other.accept().is_ok()),
        (1500, true)
    );
    Ok(())
}

/// A path of one family: the addresses, and how long the headers of a datagram are.
struct Family {
    near: [&'static str; 2],
    far: [&'static str; 2],
    headers: usize,
    any: &'static str,
}

const FAMILIES: [Family; 2] = [
    Family {
        near: ["192.0.2.1/24", "192.0.2.254/24"],
        far: ["198.51.100.254/24", "198.51.100.1/24"],
        headers: 28,
        any: "0.0.0.0:0",
    },
    Family {
        near: ["2001:db8:1::1/64", "2001:db8:1::ff/64"],
        far: ["2001:db8:2::ff/64", "2001:db8:2::1/64"],
        headers: 48,
        any: "[::]:0",
    },
];

fn ip(net: &str) -> IpAddr {
    let (addr, _) = net.split_once('/').expect("a prefix");
    addr.parse().expect("an address")
}

/// A host, a router and a host, when their addresses are in use; only the router knows that its second link takes packets
/// of `ip_mtu` bytes.
fn narrow(family: &Family, ip_mtu: u16) -> Result<(System, [OwnedVnet; 3])> {
    let system = System::virtual_time(u64::from(ip_mtu));
    let path = topology::path(&system, family.near, family.far);
    path[1].set_ip_mtu("eth1", ip_mtu)?;
    system.sleep(Duration::from_secs(5))?;
    Ok((system, path))
}

/// RFC 1191, RFC 8201, RFC 3542 section 11.
#[test]
fn datagrams_that_must_not_be_cut_learn_what_their_path_takes() -> Result {
    for family in &FAMILIES {
        let (system, [a, r, b]) = narrow(family, 1400)?;
        let (to, own) = (ip(family.far[1]), ip(family.near[0]));
        let receiver = UdpSocket::bind_in(&b, (to, 7))?;
        receiver.set_read_timeout(Some(Duration::from_secs(1)))?;
        let sender = UdpSocket::bind_in(&a, family.any)?;
        let refused = || r.stats().map(|stats| stats.rx_drops(DropReason::TooBig));
        let forwarded = || r.stats().map(|stats| stats.forwarded);
        let datagram = |ip_len: usize| vec![7; ip_len - family.headers];
        let arrives = || {
            receiver
                .recv(&mut [0; 2000])
                .map(|len| len + family.headers)
        };
        assert!(!sender.dont_fragment()?);
        assert_eq!(
            sender.path_mtu().expect_err("no peer").kind(),
            ErrorKind::NotConnected
        );
        sender.connect((to, 7))?;
        sender.set_dont_fragment(true)?;
        sender.set_recv_errors(true)?;
        assert!(sender.dont_fragment()?);
        let says = |error: &std::io::Error| SocketError::of(error);
        // Longer than the first link: it is known before anything is sent.
        assert_eq!(sender.path_mtu()?, 1500);
        let error = sender.send(&datagram(1501)).expect_err("too long");
        assert_eq!(
            (error.kind(), says(&error)),
            (ErrorKind::InvalidInput, Some(SocketError::MessageTooLong))
        );
        let told = sender.recv_error()?.expect("it is kept");
        assert_eq!((told.from, told.path_mtu), (own, Some(1500)));
        assert!(sender.take_error()?.is_none(), "the call has returned it");
        // Longer than the second one: the router says so.
        sender.send(&datagram(1500))?;
        system.sleep(Duration::from_millis(10))?;
        let error = sender.take_error()?.expect("the router has said so");
        assert_eq!(says(&error), Some(SocketError::MessageTooLong));
        let told = sender.recv_error()?.expect("it is kept");
        assert_eq!((told.from, told.path_mtu), (ip(family.near[1]), Some(1400)));
        assert_eq!((sender.path_mtu()?, refused()?), (1400, 1));
        let seen = a.inspect()?;
        assert!(seen.path_mtus.iter().eq([(&to, &1400)]));
        let line = format!("\npath to {to} mtu 1400\n");
        assert!(seen.to_string().contains(&line));
        let error = sender.send(&datagram(1401)).expect_err("too long");
        assert_eq!(says(&error), Some(SocketError::MessageTooLong));
        assert_eq!(sender.recv_error()?.and_then(|e| e.path_mtu), Some(1400));
        assert_eq!(refused()?, 1, "it was not sent");
        let before = forwarded()?;
        sender.send(&datagram(1400))?;
        assert_eq!((arrives()?, forwarded()? - before), (1400, 1));
        // What may be cut is cut where it is made, in both families: the router forwards two.
        sender.set_dont_fragment(false)?;
        let before = forwarded()?;
        sender.send(&datagram(1500))?;
        assert_eq!((arrives()?, forwarded()? - before), (1500, 2));
        assert_eq!(refused()?, 1);
        // It is known to TCP, to other sockets, and of no other path.
        let listener = TcpListener::bind_in(&b, (to, 80))?;
        let client = TcpStream::connect_in(&a, (to, 80))?;
        assert_eq!(client.info()?.path_mtu, 1400);
        assert_eq!(sender.path_mtu_to(ip(family.near[1]))?, 1500);
        drop((client, listener));
        // After ten minutes larger ones are tried again, or when the vnet says.
        system.sleep(Duration::from_secs(601))?;
        assert_eq!(sender.path_mtu()?, 1500);
        assert!(a.inspect()?.path_mtus.is_empty());
        a.set_sysctl("net.inet.ip.path_mtu_expire", 300_000)?;
        sender.set_dont_fragment(true)?;
        sender.send(&datagram(1500))?;
        system.sleep(Duration::from_secs(299))?;
        assert_eq!(sender.path_mtu()?, 1400);
        system.sleep(Duration::from_secs(2))?;
        assert_eq!(sender.path_mtu()?, 1500);
        let known = a.set_sysctl("net.inet.ip.path_mtu_expire", 299_999);
        assert!(
            known.is_err(),
            "RFC 1191 section 6.3: not below five minutes"
        );
        for vnet in [&a, &r, &b] {
            assert_conserved(vnet);
        }
    }
    Ok(())
}

#[test]
fn requests_and_raw_packets_that_must_not_be_cut_learn_it_too() -> Result {
    for family in &FAMILIES {
        let (system, [a, r, _b]) = narrow(family, 1400)?;
        let to = ip(family.far[1]);
        let header = family.headers - 8;
        let too_big = || r.stats().map(|stats| stats.rx_drops(DropReason::TooBig));
        let ping = EchoSocket::bind_in(&a)?;
        ping.set_nonblocking(true)?;
        let raw = RawSocket::open_in(&a, 253)?;
        for is_raw in [false, true] {
            let socket_mtu = || match is_raw {
                false => ping.path_mtu_to(to),
                true => raw.path_mtu_to(to),
            };
            let send = |ip_len: usize| match is_raw {
                false => ping.send_to(1, &vec![7; ip_len - family.headers], to),
                true => raw.send_to(&vec![7; ip_len - header], to).map(drop),
            };
            assert_eq!(socket_mtu()?, 1500);
            let before = too_big()?;
            match is_raw {
                false => ping.set_dont_fragment(true)?,
                true => raw.set_dont_fragment(true)?,
            }
            assert_eq!(
                SocketError::of(&send(1501).expect_err("too long")),
                Some(SocketError::MessageTooLong)
            );
            send(1500)?;
            system.sleep(Duration::from_millis(10))?;
            assert_eq!((socket_mtu()?, too_big()?), (1400, before + 1));
            if !is_raw {
                let told = EchoEvent::TooBig {
                    from: ip(family.near[1]),
                    seq: 1,
                    path_mtu: 1400,
                    extensions: Vec::new(),
                };
                assert_eq!(ping.recv()?.0, told);
            }
            let error = send(1401).expect_err("it is known");
            assert_eq!(SocketError::of(&error), Some(SocketError::MessageTooLong));
            assert_eq!(too_big()?, before + 1);
            send(1400)?;
            system.sleep(Duration::from_secs(601))?;
            if !is_raw {
                assert!(
                    matches!(ping.recv()?.0, EchoEvent::Reply { len, .. } if len + family.headers == 1400)
                );
                // Who lets them be cut is told nothing, and gets through.
                ping.set_dont_fragment(false)?;
                send(1500)?;
                system.sleep(Duration::from_secs(601))?;
                let answer = ping.recv();
                if to.is_ipv4() {
                    assert!(matches!(answer?.0, EchoEvent::Reply { .. }));
                } else {
                    // The first one is lost: only the source cuts packets of IPv6.
                    assert_eq!(answer.expect_err("lost").kind(), ErrorKind::WouldBlock);
                }
                system.sleep(Duration::from_secs(601))?;
            }
        }
    }
    Ok(())
}

/// What a router might say of a datagram of `len` bytes behind the IP header: an ICMP message.
fn claim(own: IpAddr, to: IpAddr, ports: [u16; 2], len: usize, mtu: u32) -> Vec<u8> {
    let datagram = udp((own, ports[0]), (to, ports[1]), &vec![7; len - 8]);
    match (own, to) {
        (IpAddr::V4(own), IpAddr::V4(to)) => {
            let mut quote = Ip4::new(own, to, 17).packet(&datagram);
            quote.truncate(28);
            icmp(3, 4, mtu, &quote)
        }
        (IpAddr::V6(own), IpAddr::V6(to)) => {
            let mut quote = Ip6::new(own, to).packet(17, &datagram);
            quote.truncate(48);
            [&[2, 0, 0, 0][..], &mtu.to_be_bytes(), &quote].concat()
        }
        _ => unreachable!("one family"),
    }
}

/// RFC 5927 section 7.2, RFC 8201 section 4.
#[test]
fn lies_about_the_path_of_a_datagram_are_not_believed() -> Result {
    for family in &FAMILIES {
        let (system, [a, _r, b]) = narrow(family, 1500)?;
        let (own, to) = (ip(family.near[0]), ip(family.far[1]));
        let (proto, header, least) = match to {
            IpAddr::V4(_) => (1, 20, 576),
            IpAddr::V6(_) => (58, 40, 1280),
        };
        let liar = RawSocket::open_in(&b, proto)?;
        let receiver = UdpSocket::bind_in(&b, (to, 7))?;
        let sender = UdpSocket::bind_in(&a, family.any)?;
        let port = sender.local_addr()?.port();
        let says = |ports, ip_len: usize, mtu| -> Result<u32> {
            liar.send_to(&claim(own, to, ports, ip_len - header, mtu), own)?;
            system.sleep(Duration::from_millis(10))?;
            Ok(sender.path_mtu_to(to)?)
        };
        let ports = [port, 7];
        sender.connect((to, 7))?;
        if to.is_ipv4() {
            // Routers cut what may be cut: it cannot have been too long.
            sender.send(&[7; 1400])?;
            assert_eq!(says(ports, 1428, 1300)?, 1500, "it may be cut");
            assert!(sender.take_error()?.is_none());
        }
        sender.set_dont_fragment(true)?;
        assert_eq!(says([port, 9], 600, 590)?, 1500, "nothing so long was sent");
        let _ = sender.take_error()?;
        sender.send(&vec![7; 1500 - family.headers])?;
        for (ports, ip_len, mtu, why) in [
            ([port ^ 1, 7], 1500, 1300, "nobody has that port"),
            (ports, 1300, 1300, "it was not longer than that"),
            (ports, 1500, 1500, "it is what the link takes"),
            (ports, 1500, 9000, "it is more than the link takes"),
        ] {
            assert_eq!(says(ports, ip_len, mtu)?, 1500, "{why}");
            assert!(sender.take_error()?.is_none(), "{why}");
        }
        if to.is_ipv6() {
            assert_eq!(says(ports, 1500, 1279)?, 1500, "every link takes more");
            assert!(sender.take_error()?.is_none());
        }
        assert_eq!(says(ports, 1500, 1400)?, 1400);
        assert_eq!(says(ports, 1500, 1450)?, 1400, "never more than is known");
        // The least there is: 68 bytes are more than any link of IPv4 needs to take, and are not believed.
        let lowest = if to.is_ipv4() { 68 } else { 1280 };
        assert_eq!(says(ports, 1500, lowest)?, least);
        let _ = sender.take_error()?;
        sender.set_dont_fragment(false)?;
        let received = (0..2).filter(|_| receiver.recv(&mut [0; 2000]).is_ok());
        assert_eq!(received.count(), 1 + usize::from(to.is_ipv4()));
        sender.send(&vec![7; 65_000])?;
        assert_eq!(receiver.recv(&mut vec![0; 70_000])?, 65_000);
        for vnet in [&a, &b] {
            assert_conserved(vnet);
        }
    }
    Ok(())
}

//! Promise: stations on one link find each other, whatever their prefixes are and however long an
//! answer takes; and nobody can be found where nothing says that it is.

use std::io::{Read, Write};
use std::time::Duration;

use vnet::link::LinkConfig;
use vnet::net::{EchoEvent, EchoSocket, TcpListener, TcpStream, UdpSocket};
use vnet::{AdminError, MacAddr, NextHop, Resource, System, Vnet};
use vnet_tests::onlink::PAIRS;
use vnet_tests::topology::{pair, vnet};

/// Sends one echo request and returns what comes of it within `patience`.
fn ping(from: &Vnet, to: &str, seq: u16, patience: Duration) -> Option<EchoEvent> {
    let socket = EchoSocket::bind_in(from).expect("there is room");
    socket
        .set_read_timeout(Some(patience))
        .expect("a time above zero");
    let to = to.parse().expect("an address");
    socket.send_to(seq, b"x", to).expect("there is a route");
    socket.recv().ok().map(|(event, _)| event)
}

fn answers(from: &Vnet, to: &str) -> bool {
    let event = ping(from, to, 1, Duration::from_secs(10));
    matches!(event, Some(EchoEvent::Reply { .. }))
}

#[test]
fn neighbours_need_no_common_prefix() {
    for case in PAIRS {
        // Whoever speaks first must be heard by one that has not asked for it.
        for first in 0..2 {
            for wired in [true, false] {
                let system = System::virtual_time(1);
                let (a, b) = (vnet(&system, "a"), vnet(&system, "b"));
                let mut kept = Vec::new();
                if wired {
                    a.epair("eth0", &b, "eth0").expect("the names are free");
                } else {
                    // On a switch there are others, of yet another prefix.
                    let (switch, other) = (vnet(&system, "sw"), vnet(&system, "other"));
                    switch.bridge("bridge0").expect("the name is free");
                    for (n, station) in [&a, &b, &other].into_iter().enumerate() {
                        let port = format!("port{n}");
                        let joined = station.epair("eth0", &switch, &port);
                        joined.expect("the names are free");
                        let member = switch.add_member("bridge0", &port);
                        member.expect("it is in no bridge");
                    }
                    let address = "198.18.0.1/15".parse().expect("an address");
                    other.add_address("eth0", address).expect("it is free");
                    kept.extend([switch, other]);
                }
                case.stations[0].set_up(&a, "eth0");
                case.stations[1].set_up(&b, "eth0");
                let vnets = [&*a, &*b];
                for from in [first, 1 - first] {
                    let to = case.stations[1 - from].pinged_at;
                    assert!(
                        answers(vnets[from], to),
                        "{}: no answer from {to}, wired: {wired}, first: {first}",
                        case.name
                    );
                }
            }
        }
    }
}

/// An interface with addresses answers for those only: a vnet with two interfaces on one link would
/// otherwise be found at both.
#[test]
fn an_address_elsewhere_is_not_answered_for() {
    let system = System::virtual_time(1);
    let (a, b) = pair(&system);
    b.add_address("lo0", "203.0.113.9/32".parse().unwrap())
        .unwrap();
    let link = NextHop::Interface("eth0".to_owned());
    a.add_route("203.0.113.9/32".parse().unwrap(), link)
        .unwrap();
    let event = ping(&a, "203.0.113.9", 1, Duration::from_secs(10));
    assert!(
        matches!(event, Some(EchoEvent::Unreachable { code: 1, .. })),
        "{event:?}"
    );
    // A gateway is another matter.
    a.remove_route("203.0.113.9/32".parse().unwrap()).unwrap();
    let gateway = NextHop::Gateway("10.0.0.2".parse().unwrap());
    a.add_route("203.0.113.9/32".parse().unwrap(), gateway)
        .unwrap();
    assert!(answers(&a, "203.0.113.9"));
}

fn delayed(delay: Duration) -> LinkConfig {
    LinkConfig {
        delay,
        ..LinkConfig::default()
    }
}

#[test]
fn what_is_sent_first_over_a_long_link_arrives() {
    let hour = 3600;
    for secs in [1, 2, 5, 60, hour, 24 * hour] {
        let system = System::virtual_time(secs);
        let (a, b) = pair(&system);
        for v in [&a, &b] {
            v.set_link("eth0", delayed(Duration::from_secs(secs)))
                .unwrap();
        }
        // Asked for and answered, then sent and answered.
        let patience = Duration::from_secs(4 * secs + 1);
        for seq in 0..20 {
            let event = ping(&a, "10.0.0.2", seq, patience);
            assert!(
                matches!(event, Some(EchoEvent::Reply { .. })),
                "delay {secs} s, number {seq}: {event:?}"
            );
            // Long enough for what was confirmed to become old.
            system.sleep(Duration::from_secs(40)).unwrap();
        }
    }
}

#[test]
fn tcp_connects_over_a_long_link() {
    for secs in [3, 5, 20] {
        let system = System::virtual_time(secs);
        let (a, b) = pair(&system);
        for v in [&a, &b] {
            v.set_link("eth0", delayed(Duration::from_secs(secs)))
                .unwrap();
        }
        let listener = TcpListener::bind_in(&b, "10.0.0.2:80").unwrap();
        let client = TcpStream::connect_in(&a, "10.0.0.2:80").unwrap();
        let (server, _) = listener.accept().unwrap();
        assert_eq!(server.peer_addr().unwrap(), client.local_addr().unwrap());
    }
}

/// The delay is behind a switch, where a station cannot know of it.
#[test]
fn a_late_answer_is_an_answer() {
    for secs in [3, 30, 3600] {
        let system = System::virtual_time(secs);
        let (a, b, switch) = (vnet(&system, "a"), vnet(&system, "b"), vnet(&system, "sw"));
        switch.bridge("bridge0").unwrap();
        for (station, port) in [(&a, "port0"), (&b, "port1")] {
            station.epair("eth0", &switch, port).unwrap();
            switch.add_member("bridge0", port).unwrap();
        }
        let far = Duration::from_secs(secs);
        switch.set_link("port1", delayed(far)).unwrap();
        b.set_link("eth0", delayed(far)).unwrap();
        a.add_address("eth0", "10.0.0.1/24".parse().unwrap())
            .unwrap();
        b.add_address("eth0", "10.0.0.2/24".parse().unwrap())
            .unwrap();
        let patience = Duration::from_secs(4 * secs + 1);
        // What was announced when the addresses were new has come, and taught nothing.
        system.sleep(10 * far).unwrap();
        let first = ping(&a, "10.0.0.2", 0, patience);
        assert!(
            matches!(first, Some(EchoEvent::Unreachable { .. })),
            "{first:?}"
        );
        system.sleep(Duration::from_secs(2 * secs)).unwrap();
        // From the first late answer on nothing is lost, whatever is forgotten or grows old.
        for seq in 1..20 {
            let event = ping(&a, "10.0.0.2", seq, patience);
            assert!(
                matches!(event, Some(EchoEvent::Reply { .. })),
                "delay {secs} s, number {seq}: {event:?}"
            );
            system.sleep(Duration::from_secs(40)).unwrap();
        }
    }
}

/// Every fragment of the longest datagram waits for the answer, and is put together at the far end.
#[test]
fn the_first_datagram_arrives_however_small_its_pieces() {
    for ip_mtu in [68, 256, 576, 1500] {
        let system = System::virtual_time(1);
        let (a, b) = pair(&system);
        for v in [&a, &b] {
            v.set_ip_mtu("eth0", ip_mtu).unwrap();
        }
        let socket = EchoSocket::bind_in(&a).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let to = "10.0.0.2".parse().unwrap();
        socket.send_to(1, &[7; 65_507], to).unwrap();
        let (event, _) = socket.recv().unwrap();
        assert!(
            matches!(event, EchoEvent::Reply { len: 65_507, .. }),
            "MTU {ip_mtu}: {event:?}"
        );
        for v in [&a, &b] {
            let stats = v.stats().unwrap();
            assert_eq!(stats.tx_dropped(), 0, "{stats:?}");
        }
    }
}

/// How many questions about neighbours `vnet` has asked.
fn asked(vnet: &Vnet) -> u64 {
    vnet.protocol_stats()
        .unwrap()
        .get("neighbours.requests")
        .expect("it is counted")
}

/// RFC 4861 7.3.1: whoever gets acknowledgements of what it sends need not ask. Of datagrams nothing is known.
#[test]
fn a_connection_that_makes_progress_keeps_its_neighbour_reachable() {
    let system = System::virtual_time(1);
    let (a, b) = pair(&system);
    let listener = TcpListener::bind_in(&b, "10.0.0.2:80").unwrap();
    let mut client = TcpStream::connect_in(&a, "10.0.0.2:80").unwrap();
    let (mut server, _) = listener.accept().unwrap();
    let before = (asked(&a), asked(&b));
    let mut byte = [0];
    for _ in 0..100 {
        client.write_all(&[1]).unwrap();
        server.read_exact(&mut byte).unwrap();
        system.sleep(Duration::from_secs(7)).unwrap();
    }
    assert_eq!((asked(&a), asked(&b)), before);
    let udp = UdpSocket::bind_in(&a, "10.0.0.1:9").unwrap();
    for _ in 0..20 {
        udp.send_to(&[1], "10.0.0.2:9").unwrap();
        system.sleep(Duration::from_secs(7)).unwrap();
    }
    assert!(asked(&a) > before.0, "nobody else confirms it");
}

#[test]
fn a_neighbour_set_by_hand_is_neither_asked_nor_believed_otherwise() {
    let system = System::virtual_time(1);
    let (a, b) = pair(&system);
    let mac = b.interfaces().unwrap()[1].mac;
    let there = "10.0.0.2".parse().unwrap();
    let before = asked(&a);
    a.add_neighbour("eth0", there, mac).unwrap();
    assert!(answers(&a, "10.0.0.2"));
    assert_eq!(asked(&a), before);
    // The wrong address, and nobody answers; nothing that is heard changes it.
    a.add_neighbour("eth0", there, MacAddr([2, 0, 0, 0, 0, 7]))
        .unwrap();
    assert!(!answers(&a, "10.0.0.2"));
    assert!(!answers(&b, "10.0.0.1"));
    a.remove_neighbour("eth0", there).unwrap();
    assert!(answers(&a, "10.0.0.2"));
    // What was learned goes as well, and is asked for again.
    a.remove_neighbour("eth0", there).unwrap();
    assert!(a.neighbours().unwrap().is_empty());
    let gone = a.remove_neighbour("eth0", there);
    assert_eq!(gone, Err(AdminError::NoSuchNeighbour(there)));
}

#[test]
fn what_waits_for_a_neighbour_is_sent_when_it_is_set() {
    let system = System::virtual_time(1);
    let (a, b) = (vnet(&system, "a"), vnet(&system, "b"));
    a.epair("eth0", &b, "eth0").unwrap();
    a.add_address("eth0", "10.0.0.1/24".parse().unwrap())
        .unwrap();
    let udp = UdpSocket::bind_in(&a, "10.0.0.1:9").unwrap();
    udp.send_to(b"waits", "10.0.0.2:9").unwrap();
    assert_eq!(a.neighbours().unwrap()[0].held_packets, 1);
    let received = |v: &Vnet| v.interfaces().unwrap()[1].counters.rx_frames;
    system.sleep(Duration::from_millis(1)).unwrap();
    let before = received(&b);
    let mac = MacAddr([2, 0, 0, 0, 0, 7]);
    a.add_neighbour("eth0", "10.0.0.2".parse().unwrap(), mac)
        .unwrap();
    system.sleep(Duration::from_millis(1)).unwrap();
    assert_eq!(received(&b), before + 1);
}

#[test]
fn what_cannot_be_a_neighbour_is_refused() {
    let system = System::virtual_time(1);
    let (a, b) = pair(&system);
    let mac = b.interfaces().unwrap()[1].mac;
    let add = |name, address: &str, mac| a.add_neighbour(name, address.parse().unwrap(), mac);
    for address in [
        "0.0.0.0",
        "127.0.0.1",
        "255.255.255.255",
        "224.0.0.1",
        "ff02::1",
        "::",
    ] {
        let refused = add("eth0", address, mac);
        assert_eq!(
            refused,
            Err(AdminError::BadAddress(
                address.parse::<std::net::IpAddr>().unwrap().into()
            ))
        );
    }
    let own = add("eth0", "10.0.0.1", mac);
    assert_eq!(
        own,
        Err(AdminError::AddressInUse("10.0.0.1".parse().unwrap()))
    );
    let group = add("eth0", "10.0.0.2", MacAddr::BROADCAST);
    assert_eq!(group, Err(AdminError::BadMac(MacAddr::BROADCAST)));
    let loopback = add("lo0", "10.0.0.2", mac);
    assert!(
        matches!(loopback, Err(AdminError::Unsupported { .. })),
        "{loopback:?}"
    );
    assert!(matches!(
        add("eth9", "10.0.0.2", mac),
        Err(AdminError::NotFound(_))
    ));
    a.set_limit(Resource::Neighbours, 1).unwrap();
    add("eth0", "10.0.0.2", mac).unwrap();
    let full = add("eth0", "10.0.0.3", mac);
    assert!(matches!(full, Err(AdminError::Limit(_))), "{full:?}");
}

//! Promise: a neighbour has its share of what a vnet takes in, and no more: however much it sends,
//! and however long that is on its way, others are heard.

use std::net::SocketAddr;
use std::time::Duration;

use vnet::net::UdpSocket;
use vnet::{DropReason, LinkConfig, OwnedVnet, Resource, System};
use vnet_tests::accounts::assert_conserved;
use vnet_tests::topology::{join, vnet};

const HOUR: Duration = Duration::from_secs(3600);

/// A vnet with a neighbour on each of several wires, who know each other's addresses already.
struct Star {
    system: System,
    hub: OwnedVnet,
    server: UdpSocket,
    spokes: Vec<(OwnedVnet, UdpSocket, SocketAddr)>,
}

fn star(spokes: u8) -> Star {
    let system = System::virtual_time(1);
    let hub = vnet(&system, "hub");
    let server = UdpSocket::bind_in(&hub, "0.0.0.0:7").unwrap();
    let spoke = |n: u8| {
        let spoke = vnet(&system, &format!("spoke{n}"));
        let (near, far) = (format!("10.0.{n}.1/24"), format!("10.0.{n}.2/24"));
        join(
            &spoke,
            &format!("eth0 {near}"),
            &hub,
            &format!("eth{n} {far}"),
        );
        let socket = UdpSocket::bind_in(&spoke, "0.0.0.0:0").unwrap();
        let to = SocketAddr::from(([10, 0, n, 2], 7));
        socket.send_to(b"hello", to).unwrap();
        server.recv_from(&mut [0; 8]).unwrap();
        (spoke, socket, to)
    };
    let spokes = (0..spokes).map(spoke).collect();
    server.set_read_timeout(Some(HOUR)).unwrap();
    Star {
        system,
        hub,
        server,
        spokes,
    }
}

#[test]
fn frames_that_are_on_their_way_for_a_day_deafen_nobody() {
    let star = star(4);
    let (bad, good) = star.spokes.split_at(3);
    let far = LinkConfig {
        delay: Duration::from_secs(86_400),
        ..LinkConfig::default()
    };
    let limit = 3000;
    star.hub.set_limit(Resource::QueuedPackets, limit).unwrap();
    let received = star.hub.stats().unwrap().received;
    for (bad, socket, to) in bad {
        // What a tenant may do in its own vnet.
        bad.set_link("eth0", far.clone()).unwrap();
        for _ in 0..limit {
            socket.send_to(b"x", *to).unwrap();
        }
    }
    let usage = star.hub.usage(Resource::QueuedPackets).unwrap();
    assert!(
        usage.current < limit && usage.current > limit * 9 / 10,
        "{usage}"
    );
    // What was dropped is counted now, not when the rest arrives.
    assert_eq!(usage.current + usage.refused, 3 * limit, "{usage}");
    let stats = star.hub.stats().unwrap();
    assert_eq!(stats.rx_drops(DropReason::InboxFull), usage.refused);
    assert_eq!(stats.received, received + usage.refused);
    assert_conserved(&star.hub);
    // The one who has been quiet is heard, time after time.
    for (_, socket, to) in good {
        for n in 0..100 {
            let sent = [n; 4];
            socket.send_to(&sent, *to).unwrap();
            let mut got = [0; 4];
            star.server.recv_from(&mut got).expect("it comes at once");
            assert_eq!(got, sent);
        }
    }
    assert!(star.system.now() < vnet::time::Instant::ZERO + HOUR);
}

#[test]
fn a_long_fat_path_fits_a_wire_that_is_alone() {
    let star = star(1);
    let (spoke, socket, to) = &star.spokes[0];
    // 10 Gbit/s and 100 ms are 83 334 frames of 1500 bytes; each is sent when the last is out.
    let config = LinkConfig {
        delay: Duration::from_millis(100),
        ..LinkConfig::default()
    };
    spoke.set_link("eth0", config).unwrap();
    for _ in 0..84_000 {
        socket.send_to(&[0; 1472], *to).unwrap();
    }
    let usage = star.hub.usage(Resource::QueuedPackets).unwrap();
    assert_eq!((usage.current, usage.refused), (84_000, 0), "{usage}");
}

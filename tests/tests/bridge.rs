//! Promise: a bridge makes one Ethernet segment of its members, forgets who has left, and goes
//! away with everything it knows.

use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::time::Duration;

use vnet::net::{EchoSocket, TcpListener, TcpStream};
use vnet::{
    AdminError, AdminState, BridgeConfig, BridgeMode, Carrier, DropReason, Forwarding, IfKind,
    LinkConfig, MacAddr, MemberConfig, NextHop, Offload, OwnedVnet, StationOrigin, Switchable,
    System, Vnet,
};
use vnet_tests::accounts::{assert_clean, assert_conserved};
use vnet_tests::bridge::{Bench, EVERYONE, NOWHERE, OTHER, station};
use vnet_tests::frames::{ARP, Station, arp, ethernet};
use vnet_tests::reach::reaches;
use vnet_tests::topology::vnet;
use vnet_tests::trace::Trace;

/// A vnet `s` with a bridge, and hosts `h1`, `h2`, ... behind its members, with addresses
/// 10.0.0.1, 10.0.0.2, ...
fn lan(system: &System, hosts: usize) -> (OwnedVnet, Vec<OwnedVnet>) {
    let s = vnet(system, "s");
    s.bridge("bridge0").unwrap();
    let hosts = (1..=hosts).map(|n| {
        let host = vnet(system, &format!("h{n}"));
        plug(&s, &host, &format!("h{n}"), &format!("10.0.0.{n}/24"));
        host
    });
    let hosts = hosts.collect();
    (s, hosts)
}

fn plug(switch: &Vnet, host: &Vnet, port: &str, address: &str) {
    host.epair("eth0", switch, port).unwrap();
    switch.add_member("bridge0", port).unwrap();
    host.add_address("eth0", address.parse().unwrap()).unwrap();
}

#[test]
fn a_frame_goes_to_where_its_station_is_known_to_be() {
    let b = Bench::new(3);
    assert_eq!(b.send(0, station(2), station(1)), [1, 2], "nobody knows 2");
    assert_eq!(b.send(1, station(1), station(2)), [0]);
    assert_eq!(b.send(0, station(2), station(1)), [1]);
    assert_eq!(b.send(2, station(2), station(3)), [1]);
    assert_eq!(b.send(0, EVERYONE, station(1)), [1, 2]);
    assert_eq!(b.send(0, [1, 0, 0x5e, 0, 0, 1], station(1)), [1, 2]);
    let counters = b.vnet.bridge_info("bridge0").unwrap().counters;
    assert_eq!(
        (counters.received, counters.forwarded, counters.flooded),
        (6, 3, 3)
    );
    assert_eq!((counters.learned, counters.delivered), (3, 2));
}

#[test]
fn a_frame_for_a_station_on_its_own_side_is_not_repeated() {
    let b = Bench::new(2);
    b.send(0, EVERYONE, station(1));
    b.send(0, EVERYONE, station(2));
    assert_eq!(b.send(0, station(2), station(1)), NOWHERE);
    assert_eq!(b.drops(DropReason::BridgeFiltered), 1);
}

#[test]
fn a_station_that_moves_is_followed() {
    let b = Bench::new(3);
    b.send(0, EVERYONE, station(1));
    b.send(2, EVERYONE, station(1));
    assert_eq!(b.send(1, station(1), station(2)), [2]);
    let counters = b.vnet.bridge_info("bridge0").unwrap().counters;
    assert_eq!((counters.learned, counters.moved), (2, 1));
}

#[test]
fn a_silent_station_is_forgotten_and_nobody_is_woken_for_it() {
    let b = Bench::new(3);
    b.send(0, EVERYONE, station(1));
    b.config(|c| c.max_age = Duration::from_secs(60));
    assert_eq!(
        b.system.poll(b.system.now() + Duration::from_secs(59)),
        None
    );
    assert_eq!(b.send(1, station(1), station(2)), [0]);
    b.system.poll(b.system.now() + Duration::from_secs(1));
    assert_eq!(b.send(1, station(1), station(2)), [0, 2]);
    assert_eq!(b.learned().len(), 1, "only station 2");
}

#[test]
fn a_full_table_learns_no_more_and_floods_instead() {
    let b = Bench::new(3);
    b.config(|c| c.max_stations = 1);
    b.send(0, EVERYONE, station(1));
    b.send(1, EVERYONE, station(2));
    assert_eq!(b.send(2, station(2), station(1)), [0, 1]);
    assert_eq!(
        b.vnet.bridge_info("bridge0").unwrap().counters.table_full,
        1
    );
    assert_eq!(b.learned().len(), 1);
}

#[test]
fn reserved_groups_stay_on_their_wire() {
    let b = Bench::new(2);
    for last in 0..=0x0f {
        assert_eq!(b.send(0, [1, 0x80, 0xc2, 0, 0, last], station(1)), NOWHERE);
    }
    assert_eq!(b.drops(DropReason::BridgeFiltered), 16);
    assert_eq!(b.send(0, [1, 0x80, 0xc2, 0, 0, 0x10], station(1)), [1]);
}

#[test]
fn static_stations_are_believed_whatever_frames_say() {
    let b = Bench::new(3);
    let mac = MacAddr(station(1));
    b.vnet.add_station("bridge0", "p1", mac, None).unwrap();
    b.send(0, EVERYONE, station(1));
    assert_eq!(b.send(2, station(1), station(2)), [1]);
    b.vnet.flush_stations("bridge0").unwrap();
    assert!(b.learned().is_empty());
    assert_eq!(b.send(2, station(1), station(2)), [1]);
    b.vnet.remove_station("bridge0", mac, None).unwrap();
    assert_eq!(b.send(2, station(1), station(2)), [0, 1]);
    let own = b.vnet.interfaces().unwrap();
    let own = own.iter().find(|i| i.name == "p1").unwrap().mac;
    let group = MacAddr([1, 0, 0, 0, 0, 1]);
    let unknown = MacAddr(station(9));
    let v = &b.vnet;
    assert_eq!(
        v.add_station("bridge0", "p0", own, None),
        Err(AdminError::OwnAddress(own))
    );
    assert_eq!(
        v.remove_station("bridge0", own, None),
        Err(AdminError::OwnAddress(own))
    );
    assert_eq!(
        v.add_station("bridge0", "p0", group, None),
        Err(AdminError::BadMac(group))
    );
    assert_eq!(
        v.remove_station("bridge0", unknown, None),
        Err(AdminError::NoSuchStation(unknown))
    );
}

#[test]
fn members_can_be_kept_from_learning_discovery_and_one_another() {
    let b = Bench::new(3);
    let set = |name, change: fn(&mut MemberConfig)| {
        let mut config = MemberConfig::default();
        change(&mut config);
        b.vnet.set_member("bridge0", name, config).unwrap();
    };
    set("p0", |c| c.learn = Switchable::Off);
    b.send(0, EVERYONE, station(1));
    assert!(b.learned().is_empty());
    set("p0", |c| c.discover = Switchable::Off);
    assert_eq!(b.send(1, station(9), station(2)), [2]);
    assert_eq!(b.send(1, EVERYONE, station(2)), [0, 2]);
    set("p0", |c| c.private = Switchable::On);
    set("p1", |c| c.private = Switchable::On);
    assert_eq!(
        b.send(0, station(2), station(1)),
        NOWHERE,
        "2 is known to be private, too"
    );
    assert_eq!(b.send(0, EVERYONE, station(1)), [2]);
    assert_eq!(b.send(2, EVERYONE, station(3)), [0, 1]);
}

#[test]
fn a_hub_repeats_everything_and_learns_nothing() {
    let b = Bench::new(3);
    b.send(0, EVERYONE, station(1));
    b.config(|c| c.mode = BridgeMode::Hub);
    assert_eq!(b.send(1, station(1), station(2)), [0, 2]);
    assert_eq!(b.send(0, station(1), station(1)), [1, 2]);
    assert_eq!(b.send(0, [1, 0x80, 0xc2, 0, 0, 0], station(1)), [1, 2]);
    assert!(b.learned().is_empty());
}

#[test]
fn a_frame_too_large_for_a_member_is_counted_and_does_not_leave() {
    let b = Bench::new(2);
    b.vnet.set_ip_mtu("p1", 500).unwrap();
    let frame = |len| ethernet(EVERYONE, station(1), OTHER, &vec![7; len]);
    assert_eq!(b.send_frame(0, frame(500)), [1]);
    b.config(|c| c.host_port = Switchable::Off);
    assert_eq!(b.send_frame(0, frame(501)), NOWHERE);
    assert_eq!(b.drops(DropReason::TooBig), 1);
    // A tag is no part of what the MTU counts.
    let tagged = |len| ethernet(EVERYONE, station(1), 0x8100, &vec![7; len]);
    assert_eq!(b.send_frame(0, tagged(504)), [1]);
    assert_eq!(b.send_frame(0, tagged(505)), NOWHERE);
    b.send(1, EVERYONE, station(2));
    assert_eq!(
        b.send_frame(0, ethernet(station(2), station(1), OTHER, &[7; 501])),
        NOWHERE
    );
    assert_eq!(b.drops(DropReason::TooBig), 3);
    assert_eq!(b.vnet.bridge_info("bridge0").unwrap().counters.too_big, 3);
}

#[test]
fn what_is_for_the_bridge_or_a_member_comes_up() {
    let b = Bench::new(2);
    b.vnet
        .add_address("bridge0", "10.0.0.1/24".parse().unwrap())
        .unwrap();
    b.system.poll(b.system.now());
    while b.ports.iter().any(|p| p.recv().is_some()) {}
    let mac = |name: &str| {
        let all = b.vnet.interfaces().unwrap();
        all.iter().find(|i| i.name == name).unwrap().mac.0
    };
    let asker = Station {
        mac: station(1),
        ip: Ipv4Addr::new(10, 0, 0, 7),
    };
    let asked = Station {
        mac: [0; 6],
        ip: Ipv4Addr::new(10, 0, 0, 1),
    };
    let request = ethernet(EVERYONE, asker.mac, ARP, &arp(1, asker, asked));
    b.ports[0].send(request).unwrap();
    b.system.poll(b.system.now());
    let answer = b.ports[0].recv().expect("the bridge answers").to_vec();
    assert_eq!(
        (&answer[..6], &answer[6..12]),
        (&station(1)[..], &mac("bridge0")[..])
    );
    let before = b.vnet.stats().unwrap();
    assert_eq!(
        (before.received, before.delivered, before.forwarded),
        (2, 1, 1)
    );
    for target in ["bridge0", "p0", "p1"] {
        b.ports[0]
            .send(ethernet(mac(target), station(1), OTHER, b""))
            .unwrap();
        b.system.poll(b.system.now());
    }
    assert_eq!(
        b.drops(DropReason::UnknownProtocol),
        3,
        "they came up, and nobody speaks it"
    );
    assert_eq!(b.vnet.bridge_info("bridge0").unwrap().counters.delivered, 4);
    assert_conserved(&b.vnet);
}

#[test]
fn an_address_that_changes_is_the_bridges_own_from_then_on() {
    let b = Bench::new(2);
    b.vnet.set_mac("p1", MacAddr(station(7))).unwrap();
    b.vnet.set_mac("bridge0", MacAddr(station(8))).unwrap();
    assert_eq!(b.send(0, station(7), station(1)), NOWHERE);
    assert_eq!(b.send(0, station(8), station(1)), NOWHERE);
    b.vnet.set_mac("p1", MacAddr(station(6))).unwrap();
    assert_eq!(b.send(0, station(7), station(1)), [1]);
    b.vnet.remove_member("bridge0", "p1").unwrap();
    let local = |s: &vnet::StationInfo| s.origin == StationOrigin::Local;
    let known = b.vnet.stations("bridge0").unwrap();
    assert_eq!(
        known.iter().filter(|s| local(s)).count(),
        2,
        "bridge0 and p0"
    );
}

#[test]
fn hosts_on_one_bridge_reach_one_another_and_the_bridge() {
    let system = System::virtual_time(1);
    let (s, hosts) = lan(&system, 3);
    s.add_address("bridge0", "10.0.0.254/24".parse().unwrap())
        .unwrap();
    for host in &hosts {
        for to in ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.254"] {
            assert!(reaches(host, to), "{} to {to}", host.name());
        }
    }
    assert!(reaches(&s, "10.0.0.2"));
    assert!(!reaches(&s, "10.0.0.77"));
    for v in hosts.iter().chain([&s]) {
        assert_conserved(v);
    }
}

#[test]
fn a_router_whose_lan_is_a_bridge_routes() {
    let system = System::virtual_time(1);
    let (s, hosts) = lan(&system, 2);
    s.add_address("bridge0", "10.0.0.254/24".parse().unwrap())
        .unwrap();
    s.set_forwarding(Forwarding::Enabled).unwrap();
    let far = vnet(&system, "far");
    far.epair("eth0", &s, "wan").unwrap();
    s.add_address("wan", "10.1.0.254/24".parse().unwrap())
        .unwrap();
    far.add_address("eth0", "10.1.0.1/24".parse().unwrap())
        .unwrap();
    far.add_route(
        "0.0.0.0/0".parse().unwrap(),
        NextHop::Gateway("10.1.0.254".parse().unwrap()),
    )
    .unwrap();
    for host in &hosts {
        let gateway = NextHop::Gateway("10.0.0.254".parse().unwrap());
        host.add_route("0.0.0.0/0".parse().unwrap(), gateway)
            .unwrap();
        assert!(reaches(host, "10.1.0.1"));
    }
    assert_conserved(&s);
}

/// Sends `bytes` by TCP from `h1` to `h2`.
fn transfer(system: &System, hosts: &[OwnedVnet], bytes: usize) {
    let listener = TcpListener::bind_in(&hosts[1], "0.0.0.0:80").unwrap();
    let server = hosts[1]
        .spawn(move || {
            let mut all = Vec::new();
            listener.accept().unwrap().0.read_to_end(&mut all).unwrap();
            all
        })
        .unwrap();
    let mut client = TcpStream::connect_in(&hosts[0], "10.0.0.2:80").unwrap();
    let content: Vec<u8> = (0..bytes).map(|n| (n % 251) as u8).collect();
    client.write_all(&content).unwrap();
    drop(client);
    assert!(server.join().unwrap() == content, "the content differs");
    system.sleep(Duration::from_secs(1)).unwrap();
}

#[test]
fn large_segments_cross_whole_and_are_cut_where_a_link_needs_it() {
    let longest = |impaired: bool| {
        let system = System::virtual_time(1);
        let (s, hosts) = lan(&system, 2);
        if impaired {
            let rate = LinkConfig {
                rate_bps: Some(100_000_000),
                ..LinkConfig::default()
            };
            s.set_link("h2", rate).unwrap();
        }
        let trace = Trace::default();
        trace.watch(&hosts[1], "eth0");
        trace.watch(&s, "h1");
        transfer(&system, &hosts, 300_000);
        let seen = trace.take();
        let at = |place: &str| {
            seen.iter()
                .filter(|f| f.place == place)
                .map(|f| f.bytes.len())
                .max()
        };
        (at("s/h1").unwrap(), at("h2/eth0").unwrap())
    };
    let (at_switch, at_host) = longest(false);
    assert!(
        at_switch > 10_000 && at_host == at_switch,
        "{at_switch} {at_host}"
    );
    let (at_switch, at_host) = longest(true);
    assert!(
        at_switch > 10_000 && at_host <= 1514,
        "{at_switch} {at_host}"
    );
}

#[test]
fn segments_larger_than_a_members_mtu_do_not_slip_through_uncut() {
    let system = System::virtual_time(1);
    let (s, hosts) = lan(&system, 2);
    s.set_ip_mtu("h2", 1000).unwrap();
    let listener = TcpListener::bind_in(&hosts[1], "0.0.0.0:80").unwrap();
    let mut client = TcpStream::connect_in(&hosts[0], "10.0.0.2:80").unwrap();
    client.write_all(&[1; 50_000]).unwrap();
    system.sleep(Duration::from_secs(2)).unwrap();
    assert!(s.stats().unwrap().rx_drops(DropReason::TooBig) >= 1);
    let (stream, _) = listener.accept().unwrap();
    stream.set_nonblocking(true).unwrap();
    assert!(
        (&stream).read(&mut [0; 100]).is_err(),
        "nothing that large came through"
    );
}

#[test]
fn unfinished_checksums_are_filled_in_where_a_frame_leaves_the_process() {
    let system = System::virtual_time(1);
    let (s, hosts) = lan(&system, 2);
    s.set_offload("h2", Offload::None).unwrap();
    hosts[1].set_offload("eth0", Offload::None).unwrap();
    transfer(&system, &hosts, 100_000);
    assert_eq!(
        hosts[1].stats().unwrap().rx_drops(DropReason::BadChecksum),
        0
    );
}

#[test]
fn a_capture_sees_frames_at_members_and_at_the_bridge() {
    let system = System::virtual_time(1);
    let (s, hosts) = lan(&system, 2);
    // Both have announced themselves.
    system.sleep(Duration::from_millis(1)).unwrap();
    let trace = Trace::default();
    trace.watch(&s, "bridge0");
    trace.watch(&s, "h2");
    assert!(reaches(&hosts[0], "10.0.0.2"));
    let seen = trace.take();
    let count = |place: &str| seen.iter().filter(|f| f.place == place).count();
    // Request and answer of ARP and of echo; the bridge notes each as it comes in.
    assert_eq!((count("s/bridge0"), count("s/h2")), (4, 4));
}

#[test]
fn misuse_is_a_typed_error() {
    let system = System::virtual_time(1);
    let v = vnet(&system, "v");
    v.bridge("b0").unwrap();
    v.bridge("b1").unwrap();
    v.epair("x0", &v, "x1").unwrap();
    v.add_address("x1", "10.0.0.1/24".parse().unwrap()).unwrap();
    let name = |s: &str| s.to_owned();
    assert_eq!(v.bridge("b0"), Err(AdminError::Exists(name("b0"))));
    assert_eq!(
        v.bridge("no good"),
        Err(AdminError::BadName(name("no good")))
    );
    assert_eq!(
        v.add_member("x0", "x1"),
        Err(AdminError::Unsupported {
            kind: IfKind::Epair,
            what: "is not a bridge",
        })
    );
    assert_eq!(
        v.add_member("b0", "x9"),
        Err(AdminError::NotFound(name("x9")))
    );
    for (other, kind) in [
        ("lo0", IfKind::Loopback),
        ("b1", IfKind::Bridge),
        ("b0", IfKind::Bridge),
    ] {
        assert_eq!(
            v.add_member("b0", other),
            Err(AdminError::Unsupported {
                kind,
                what: "cannot be a member of a bridge",
            })
        );
    }
    assert_eq!(
        v.add_member("b0", "x1"),
        Err(AdminError::HasAddresses(name("x1")))
    );
    v.add_member("b0", "x0").unwrap();
    let (member, bridge) = (name("x0"), name("b0"));
    assert_eq!(
        v.add_member("b1", "x0"),
        Err(AdminError::AlreadyMember { member, bridge })
    );
    let (member, bridge) = (name("x0"), name("b1"));
    assert_eq!(
        v.remove_member("b1", "x0"),
        Err(AdminError::NotAMember { member, bridge })
    );
    let address = "10.0.1.1/24".parse().unwrap();
    assert_eq!(
        v.add_address("x0", address),
        Err(AdminError::BridgeMember(name("x0")))
    );
    assert!(matches!(
        v.set_link("b0", LinkConfig::default()),
        Err(AdminError::Unsupported { .. })
    ));
    assert!(matches!(
        v.set_offload("b0", Offload::None),
        Err(AdminError::Unsupported { .. })
    ));
    let handle = Vnet::clone(&v);
    v.set_privileges(vnet::Privileges::NONE).unwrap();
    let denied = |r| matches!(r, Err(AdminError::Denied(_)));
    assert!(denied(handle.bridge("b2")));
    assert!(denied(handle.remove_member("b0", "x0")));
    assert!(denied(handle.flush_stations("b0")));
    v.set_privileges(vnet::Privileges::ALL).unwrap();
    v.destroy();
    assert_eq!(handle.bridge("b2"), Err(AdminError::Gone));
}

#[test]
fn members_are_listed_and_freed_when_the_bridge_goes() {
    let mut b = Bench::new(2);
    let of = |v: &Vnet, name: &str| {
        v.interfaces()
            .unwrap()
            .into_iter()
            .find(|i| i.name == name)
            .unwrap()
    };
    assert_eq!(of(&b.vnet, "bridge0").members, ["p0", "p1"]);
    assert_eq!(of(&b.vnet, "p0").member_of.as_deref(), Some("bridge0"));
    b.send(0, EVERYONE, station(1));
    b.vnet.remove_interface("bridge0").unwrap();
    assert_eq!(of(&b.vnet, "p0").member_of, None);
    assert_eq!(b.send(0, EVERYONE, station(1)), NOWHERE);
    b.vnet.bridge("bridge0").unwrap();
    b.vnet.add_member("bridge0", "p1").unwrap();
    b.vnet.add_member("bridge0", "p0").unwrap();
    b.add_port();
    assert_eq!(b.send(0, EVERYONE, station(1)).len(), 2);
}

#[test]
fn a_bridge_that_is_down_passes_nothing() {
    let b = Bench::new(2);
    b.vnet.set_up("bridge0", AdminState::Down).unwrap();
    assert_eq!(b.send(0, EVERYONE, station(1)), NOWHERE);
    assert_eq!(b.drops(DropReason::InterfaceDown), 1);
    b.vnet.set_up("bridge0", AdminState::Up).unwrap();
    assert_eq!(b.send(0, EVERYONE, station(1)), [1]);
}

#[test]
fn a_storm_in_a_circle_of_bridges_ends() {
    let system = System::virtual_time(1);
    let (s, hosts) = lan(&system, 1);
    let t = vnet(&system, "t");
    t.bridge("bridge0").unwrap();
    for name in ["x", "y"] {
        s.epair(name, &t, name).unwrap();
        s.add_member("bridge0", name).unwrap();
        t.add_member("bridge0", name).unwrap();
    }
    assert!(
        !reaches(&hosts[0], "10.0.0.99"),
        "and the question for it goes round"
    );
    let looped = |v: &Vnet| v.stats().unwrap().rx_drops(DropReason::BridgeLoop);
    assert!(looped(&s) + looped(&t) >= 1);
    assert_conserved(&s);
    assert_conserved(&t);
}

#[test]
fn a_line_of_as_many_bridges_as_may_be_works() {
    let system = System::virtual_time(1);
    let switches: Vec<OwnedVnet> = (0..BridgeConfig::MAX_BRIDGES)
        .map(|n| vnet(&system, &format!("s{n}")))
        .collect();
    for s in &switches {
        s.bridge("bridge0").unwrap();
    }
    for pair in switches.windows(2) {
        pair[0].epair("next", &pair[1], "last").unwrap();
        pair[0].add_member("bridge0", "next").unwrap();
        pair[1].add_member("bridge0", "last").unwrap();
    }
    let (a, z) = (vnet(&system, "a"), vnet(&system, "z"));
    plug(&switches[0], &a, "a", "10.0.0.1/24");
    plug(&switches[switches.len() - 1], &z, "z", "10.0.0.2/24");
    assert!(reaches(&a, "10.0.0.2"));
    let last = vnet(&system, "last");
    let end = &switches[switches.len() - 1];
    z.remove_interface("eth0").unwrap();
    last.bridge("bridge0").unwrap();
    end.epair("far", &last, "near").unwrap();
    end.add_member("bridge0", "far").unwrap();
    last.add_member("bridge0", "near").unwrap();
    plug(&last, &z, "z", "10.0.0.2/24");
    assert!(!reaches(&a, "10.0.0.2"), "one bridge more than may be");
    assert!(last.stats().unwrap().rx_drops(DropReason::BridgeLoop) >= 1);
}

/// Row 4 of the reference's catalogue of failures: an event on an interface that is leaving, or
/// has left, its bridge finds half of what it needs.
#[test]
fn row_04_events_on_an_interface_leaving_a_bridge() {
    let system = System::manual(1);
    let (s, mut hosts) = lan(&system, 3);
    let settle = || {
        system.poll(system.now());
    };
    let slow = LinkConfig {
        delay: Duration::from_millis(5),
        ..LinkConfig::default()
    };
    hosts[0].set_link("eth0", slow).unwrap();
    let ping = EchoSocket::bind_in(&hosts[0]).unwrap();
    ping.send_to(1, b"", "10.0.0.2".parse().unwrap()).unwrap();
    // The wire's state changes before, while and after the member leaves; frames are on their way.
    hosts[0].set_up("eth0", AdminState::Down).unwrap();
    s.remove_member("bridge0", "h1").unwrap();
    hosts[0].set_up("eth0", AdminState::Up).unwrap();
    settle();
    system.poll(system.now() + Duration::from_millis(5));
    assert_conserved(&s);
    s.add_member("bridge0", "h1").unwrap();
    hosts[0].set_up("eth0", AdminState::Down).unwrap();
    s.remove_interface("h1").unwrap();
    settle();
    // The far end of a member goes, and its bridge with an event under way.
    drop(hosts.remove(1));
    s.remove_interface("bridge0").unwrap();
    settle();
    s.set_up("h3", AdminState::Down).unwrap();
    s.set_up("h3", AdminState::Up).unwrap();
    s.set_mac("h3", MacAddr(station(3))).unwrap();
    settle();
    assert_conserved(&s);
    let report = s.destroy();
    assert_clean(&report);
    assert_eq!(report.released.stations(), 0, "they went with the bridge");
}

/// Row 13: a bridge is taken apart before its interfaces, or they before it, and whoever is told of
/// their departure finds it gone.
#[test]
fn row_13_bridges_and_members_go_in_any_order() {
    for bridge_first in [true, false] {
        let system = System::manual(1);
        let (s, far) = (vnet(&system, "s"), vnet(&system, "far"));
        if bridge_first {
            s.bridge("bridge0").unwrap();
        }
        for name in ["x", "y"] {
            far.epair(name, &s, name).unwrap();
        }
        if !bridge_first {
            s.bridge("bridge0").unwrap();
        }
        for (name, address) in [("x", "10.0.0.1/24"), ("y", "10.0.1.1/24")] {
            s.add_member("bridge0", name).unwrap();
            far.add_address(name, address.parse().unwrap()).unwrap();
        }
        s.add_address("bridge0", "10.0.0.2/24".parse().unwrap())
            .unwrap();
        system.poll(system.now());
        // An event and frames are in the inbox when the vnet goes.
        far.set_up("x", AdminState::Down).unwrap();
        far.set_up("x", AdminState::Up).unwrap();
        let ping = EchoSocket::bind_in(&far).unwrap();
        ping.send_to(1, b"", "10.0.0.2".parse().unwrap()).unwrap();
        let tenant = Vnet::clone(&s);
        let report = s.destroy();
        assert_clean(&report);
        // Two members, the bridge and both stations of the far side.
        assert_eq!(report.released.stations(), 5, "{report}");
        system.poll(system.now());
        let wires = far.interfaces().unwrap();
        assert!(
            wires.iter().skip(1).all(|i| i.carrier == Carrier::Down),
            "{wires:?}"
        );
        assert_eq!(tenant.stations("bridge0"), Err(AdminError::Gone));
        assert_clean(&far.destroy());
    }
}

#[test]
fn what_a_bridge_knows_of_a_member_goes_with_it() {
    let b = Bench::new(3);
    for n in 0..3 {
        b.send(n, EVERYONE, station(n as u8));
    }
    b.vnet
        .add_station("bridge0", "p1", MacAddr(station(9)), None)
        .unwrap();
    b.vnet.remove_interface("p1").unwrap();
    let behind: Vec<String> = b
        .vnet
        .stations("bridge0")
        .unwrap()
        .into_iter()
        .map(|s| s.interface)
        .collect();
    assert_eq!(
        behind.iter().filter(|i| *i == "p1").count(),
        0,
        "{behind:?}"
    );
    assert_eq!(b.send(0, station(1), station(0)), [2]);
    assert_eq!(b.send(0, station(9), station(0)), [2]);
    // An interface of the same name is another one.
    let _port = b.vnet.port("p1", None).unwrap();
    assert_eq!(b.send(0, station(1), station(0)), [2]);
    let report = b.vnet.destroy();
    assert_clean(&report);
    assert!(report.released.stations() >= 5, "{report}");
}

#[test]
fn a_member_that_loses_its_carrier_loses_its_stations() {
    let system = System::manual(1);
    let (s, hosts) = lan(&system, 2);
    let settle = || {
        system.poll(system.now());
    };
    settle();
    let learned = || {
        let known = s.stations("bridge0").unwrap();
        known
            .iter()
            .filter(|k| k.origin == StationOrigin::Learned)
            .count()
    };
    let carrier = || {
        let all = s.interfaces().unwrap();
        all.iter()
            .find(|i| i.kind == IfKind::Bridge)
            .unwrap()
            .carrier
    };
    assert_eq!(
        (learned(), carrier()),
        (2, Carrier::Up),
        "both have announced themselves"
    );
    hosts[0].set_up("eth0", AdminState::Down).unwrap();
    settle();
    assert_eq!((learned(), carrier()), (1, Carrier::Up));
    s.set_up("h2", AdminState::Down).unwrap();
    assert_eq!((learned(), carrier()), (0, Carrier::Down));
    s.set_up("h2", AdminState::Up).unwrap();
    assert_eq!(carrier(), Carrier::Up);
}

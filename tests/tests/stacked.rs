//! Promise: interfaces stand on each other, in whatever vnets they are, without circles, and what one of
//! them is told or loses is its own affair.

use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use vnet::capture::{CaptureOptions, FrameTap, Recorder};
use vnet::record::Operation;
use vnet::time::Instant;
use vnet::{
    AdminError, AdminState, BridgeConfig, Carrier, Direction, DropReason, LaggConfig, MacAddr,
    MemberConfig, NextHop, OwnedVnet, Packet, Port, RstpConfig, RstpPort, StationOrigin, StpEdge,
    Switchable, System, VlanConfig, Vnet,
};
use vnet_tests::accounts::{assert_clean, assert_conserved};
use vnet_tests::frames::{ARP, Station, arp, ethernet};
use vnet_tests::reach::reaches;
use vnet_tests::topology::vnet;

const PEER: Station = Station {
    mac: [2, 0xaa, 0, 0, 0, 1],
    ip: Ipv4Addr::new(192, 0, 2, 9),
};

/// A question for 192.0.2.1, tagged for a VLAN.
fn question(dst: MacAddr, vid: u16) -> Vec<u8> {
    let to = Station {
        mac: [0; 6],
        ip: Ipv4Addr::new(192, 0, 2, 1),
    };
    let mut body = vid.to_be_bytes().to_vec();
    body.extend(ARP.to_be_bytes());
    body.extend(arp(1, PEER, to));
    ethernet(dst.0, PEER.mac, 0x8100, &body)
}

fn vlan(vnet: &Vnet, parent: &str, vid: u16) -> String {
    let name = format!("{parent}.{vid}");
    vnet.vlan(parent, &name, VlanConfig::dot1q(vid)).unwrap();
    name
}

fn address(vnet: &Vnet, interface: &str, address: &str) {
    vnet.add_address(interface, address.parse().unwrap())
        .unwrap();
}

fn carrier(vnet: &Vnet, interface: &str) -> Carrier {
    let all = vnet.interfaces().unwrap();
    all.iter().find(|i| i.name == interface).unwrap().carrier
}

/// A vnet with bridges `br0` to `br3`.
fn bridges(system: &System) -> OwnedVnet {
    let v = vnet(system, "v");
    for n in 0..4 {
        v.bridge(&format!("br{n}")).unwrap();
    }
    v
}

#[test]
fn bridges_do_not_stand_on_each_other_in_a_circle() {
    let system = System::manual(1);
    let v = bridges(&system);
    let port = v.port("p0", None).unwrap();
    v.add_member("br0", "p0").unwrap();
    let [five, six, seven] = [("br0", 5), ("br1", 6), ("br2", 7)].map(|(b, n)| vlan(&v, b, n));
    let deep = vlan(&v, &seven, 8);
    v.add_member("br1", &five).unwrap();
    v.add_member("br2", &six).unwrap();
    for (bridge, member) in [
        ("br0", &seven),
        ("br0", &deep),
        ("br1", &seven),
        ("br2", &seven),
    ] {
        let refused = v.add_member(bridge, member);
        let (bridge, member) = (bridge.to_owned(), member.clone());
        assert_eq!(refused, Err(AdminError::StandsOnBridge { member, bridge }));
    }
    // A carrier comes from a wire, and goes with it.
    assert_eq!(carrier(&v, "br2"), Carrier::Up);
    drop(port);
    system.poll(system.now());
    for name in ["br0", &five, "br1", &six, "br2", &seven] {
        assert_eq!(carrier(&v, name), Carrier::Down, "{name}");
    }
    // It is the circle that is refused: elsewhere, or the other way round, it may be.
    v.add_member("br3", &deep).unwrap();
    v.remove_member("br1", &five).unwrap();
    v.add_member("br0", &seven).unwrap();
    let refused = v.add_member("br1", &five);
    assert!(matches!(refused, Err(AdminError::StandsOnBridge { .. })));
    // Nor does a record make one.
    let mut record = v.record().unwrap();
    let twin = system.replay(&record, "twin").unwrap();
    let circle = format!("op = 'add_member'\ninterface = 'br1'\nmember = '{five}'");
    let circle: Operation = toml::from_str(&circle).expect("an operation");
    record.ops.push(circle);
    assert!(system.replay(&record, "circle").is_err());
    assert_clean(&twin.destroy());
    assert_clean(&v.destroy());
}

#[test]
fn an_interface_that_comes_home_is_in_no_circle() {
    let system = System::manual(1);
    let (v, away) = (bridges(&system), vnet(&system, "away"));
    let five = vlan(&v, "br0", 5);
    v.add_member("br1", &five).unwrap();
    v.move_interface(&five, &away).unwrap();
    let six = vlan(&v, "br1", 6);
    v.add_member("br0", &six).unwrap();
    v.reclaim_interface(&five).unwrap();
    assert!(v.bridge_info("br1").unwrap().members.is_empty());
    assert!(v.add_member("br1", &five).is_err());
    for v in [away, v] {
        assert_clean(&v.destroy());
    }
}

#[test]
fn copies_of_copies_are_bounded_and_what_is_above_is_counted() {
    const WIDTH: u16 = 17;
    let system = System::manual(1);
    let v = vnet(&system, "v");
    let _port = v.port("p0", None).unwrap();
    let on_the_wire = || v.stats().unwrap().sent;
    for n in 0..5 {
        v.bridge(&format!("br{n}")).unwrap();
    }
    v.add_member("br0", "p0").unwrap();
    let mut sent = Vec::new();
    for n in 1..5 {
        for vid in 1..=WIDTH {
            let member = vlan(&v, &format!("br{}", n - 1), vid);
            v.add_member(&format!("br{n}"), &member).unwrap();
        }
        // Its announcement goes to everybody.
        let before = on_the_wire();
        address(&v, &format!("br{n}"), &format!("192.0.2.{n}/32"));
        system.poll(system.now());
        sent.push(on_the_wire() - before);
    }
    let each = u64::from(WIDTH);
    assert_eq!(sent[..3], [each, each * each, each.pow(3)]);
    // 17^4 is more than is made of one frame by all bridges but the first.
    let by_each = [
        sent[3].div_ceil(each * each),
        sent[3].div_ceil(each),
        sent[3],
        sent[3],
    ];
    let copies: u64 = by_each.iter().sum();
    assert!((65_530..=65_536).contains(&copies), "{copies}");
    let dropped = v.stats().unwrap().tx_drops(DropReason::TooManyCopies);
    assert!(dropped > 0);
    assert_conserved(&v);
    assert_clean(&v.destroy());
}

#[test]
fn nothing_that_stands_on_a_member_has_a_frame() {
    let system = System::manual(1);
    let v = vnet(&system, "v");
    let ports = ["p0", "p1"].map(|name| v.port(name, None).unwrap());
    v.bridge("br0").unwrap();
    address(&v, &vlan(&v, "p1", 5), "192.0.2.1/24");
    for name in ["p0", "p1"] {
        v.add_member("br0", name).unwrap();
    }
    let mac = v.interfaces().unwrap()[2].mac;
    let delivered = || v.stats().unwrap().delivered;
    ports[0].send(question(mac, 5)).unwrap();
    system.poll(system.now());
    assert_eq!(delivered(), 0);
    v.set_up("p1", AdminState::Down).unwrap();
    ports[0].send(question(mac, 5)).unwrap();
    system.poll(system.now());
    assert_eq!(delivered(), 0);
    let dropped = v.stats().unwrap().rx_drops(DropReason::UnknownVlan);
    assert_eq!(dropped, 2);
    assert_conserved(&v);
}

#[test]
fn what_stands_on_a_member_sends_nothing_past_the_bridge_or_the_lagg() {
    let system = System::virtual_time(1);
    let (v, guest) = (vnet(&system, "v"), vnet(&system, "guest"));
    let far = vnet(&system, "far");
    v.epair("eth0", &far, "eth0").unwrap();
    let five = vlan(&v, "eth0", 5);
    v.vlan_in("eth0", &guest, "lan0", VlanConfig::dot1q(6))
        .unwrap();
    for (vid, address) in [(5, "192.0.2.5/25"), (6, "192.0.2.130/25")] {
        self::address(&far, &vlan(&far, "eth0", vid), address);
    }
    self::address(&v, &five, "192.0.2.1/25");
    self::address(&guest, "lan0", "192.0.2.129/25");
    let works = || [reaches(&v, "192.0.2.5"), reaches(&guest, "192.0.2.130")];
    let mac = |name: &str| {
        let all = v.interfaces().unwrap();
        all.iter().find(|i| i.name == name).unwrap().mac
    };
    v.bridge("br0").unwrap();
    v.lagg("lagg0", LaggConfig::default()).unwrap();
    let own = mac("eth0");
    for (n, above) in ["br0", "lagg0", "br0", "lagg0"].into_iter().enumerate() {
        assert_eq!(works(), [true; 2], "before {above}");
        v.add_member(above, "eth0").unwrap();
        system.sleep(Duration::from_secs(1)).unwrap();
        assert_eq!(carrier(&v, &five), Carrier::Down, "{above}");
        assert_eq!(carrier(&guest, "lan0"), Carrier::Down, "{above}");
        let sent = || far.interfaces().unwrap()[1].counters.rx_bytes;
        let before = sent();
        assert_eq!(works(), [false; 2], "{above}");
        if above == "br0" {
            assert_eq!(sent(), before, "nothing came by");
        } else {
            assert_eq!((mac("eth0"), mac(&five)), (mac("lagg0"), mac("lagg0")));
        }
        match n {
            0 | 1 => v.remove_member(above, "eth0").unwrap(),
            _ => v.remove_interface(above).unwrap(),
        }
        system.sleep(Duration::from_secs(1)).unwrap();
        assert_eq!((mac("eth0"), mac(&five)), (own, own), "{above}");
    }
    assert_eq!(works(), [true; 2]);
    // One that is made on a member has no carrier from the beginning.
    v.bridge("br0").unwrap();
    v.add_member("br0", "eth0").unwrap();
    assert_eq!(carrier(&v, &vlan(&v, "eth0", 7)), Carrier::Down);
    for v in [guest, far, v] {
        assert_conserved(&v);
        assert_clean(&v.destroy());
    }
}

#[test]
fn what_was_known_in_one_vlan_is_unknown_in_another() {
    let system = System::virtual_time(1);
    let (v, far) = (vnet(&system, "v"), vnet(&system, "far"));
    v.epair("eth0", &far, "eth0").unwrap();
    let five = vlan(&v, "eth0", 5);
    address(&v, &five, "192.0.2.1/24");
    for vid in [5, 6] {
        // The same address in both, at stations with addresses of their own.
        let there = vlan(&far, "eth0", vid);
        far.set_mac(&there, MacAddr([2, 0xbb, 0, 0, 0, vid as u8]))
            .unwrap();
    }
    address(&far, "eth0.5", "192.0.2.2/24");
    assert!(reaches(&v, "192.0.2.2"));
    far.remove_address("eth0.5", "192.0.2.2".parse().unwrap())
        .unwrap();
    address(&far, "eth0.6", "192.0.2.2/24");
    v.set_vlan(&five, VlanConfig::dot1q(6)).unwrap();
    assert!(v.neighbours().unwrap().is_empty());
    assert!(reaches(&v, "192.0.2.2"));
    assert_eq!(
        v.neighbours().unwrap()[0].mac,
        Some(MacAddr([2, 0xbb, 0, 0, 0, 6]))
    );

    // Nor does a bridge know who was behind it.
    v.remove_address(&five, "192.0.2.1".parse().unwrap())
        .unwrap();
    v.bridge("br0").unwrap();
    v.add_member("br0", &five).unwrap();
    let sticky = MemberConfig {
        sticky: Switchable::On,
        max_stations: Some(9),
        ..MemberConfig::default()
    };
    v.set_member("br0", &five, sticky).unwrap();
    address(&v, "br0", "192.0.2.1/24");
    assert!(reaches(&v, "192.0.2.2"));
    let behind = || {
        let stations = v.stations("br0").unwrap();
        let behind =
            |s: &&vnet::StationInfo| s.interface == five && s.origin == StationOrigin::Sticky;
        stations.iter().filter(behind).count()
    };
    assert_eq!(behind(), 1);
    v.set_vlan(&five, VlanConfig::dot1q(5)).unwrap();
    assert_eq!(behind(), 0);
    for v in [v, far] {
        assert_conserved(&v);
        assert_clean(&v.destroy());
    }
}

#[test]
fn a_circle_of_bridges_through_lent_vlans_ends() {
    let system = System::manual(1);
    let (home, guest) = (bridges(&system), vnet(&system, "guest"));
    let port = home.port("p0", None).unwrap();
    home.add_member("br0", "p0").unwrap();
    home.vlan_in("br0", &guest, "lan0", VlanConfig::dot1q(5))
        .unwrap();
    guest.bridge("br").unwrap();
    guest.add_member("br", "lan0").unwrap();
    guest
        .vlan_in("br", &home, "x6", VlanConfig::dot1q(6))
        .unwrap();
    home.add_member("br0", "x6").unwrap();
    system.poll(system.now());
    let hops = |v: &Vnet| v.stats().unwrap().received;
    let before = hops(&home) + hops(&guest);
    let frame = ethernet([0xff; 6], PEER.mac, 0x88b5, b"round and round");
    port.send(frame).unwrap();
    system.poll(system.now());
    let hops = hops(&home) + hops(&guest) - before;
    assert!(
        hops <= 2 * u64::from(vnet::BridgeConfig::MAX_BRIDGES),
        "{hops}"
    );
    let looped = [&home, &guest].map(|v| v.stats().unwrap().tx_drops(DropReason::BridgeLoop));
    assert_eq!(looped.iter().sum::<u64>(), 1);
    for v in [guest, home] {
        assert_conserved(&v);
        assert_clean(&v.destroy());
    }
}

/// A vnet with a port, `eth0`, and one that has borrowed it.
fn borrowed(system: &System) -> (OwnedVnet, OwnedVnet, Port) {
    let (home, tenant) = (vnet(system, "home"), vnet(system, "tenant"));
    let port = home.port("eth0", None).unwrap();
    home.move_interface("eth0", &tenant).unwrap();
    (home, tenant, port)
}

#[test]
fn what_is_undone_on_a_borrowed_interfaces_vlan_is_not_noted() {
    let system = System::manual(1);
    let (_home, tenant, _port) = borrowed(&system);
    let empty = tenant.record().unwrap().ops;
    let [five, six] = [5, 6].map(|vid| vlan(&tenant, "eth0", vid));
    address(&tenant, &five, "192.0.2.1/24");
    let dst = "198.51.100.0/24".parse().unwrap();
    let hop = NextHop::Gateway("192.0.2.9".parse().unwrap());
    tenant.add_route(dst, hop).unwrap();
    tenant.remove_route(dst).unwrap();
    assert_eq!(tenant.record().unwrap().ops, empty);

    tenant.bridge("br0").unwrap();
    let with_bridge = tenant.record().unwrap().ops;
    tenant.add_member("br0", &six).unwrap();
    let mac = MacAddr(PEER.mac);
    tenant.add_station("br0", &six, mac, None).unwrap();
    tenant.remove_station("br0", mac, None).unwrap();
    tenant.remove_member("br0", &six).unwrap();
    assert_eq!(tenant.record().unwrap().ops, with_bridge);
    // A route that was noted is struck out, and one that a step made would be noted to be gone.
    let hop = NextHop::Interface("br0".to_owned());
    tenant.add_route(dst, hop).unwrap();
    let is_route = |op: &Operation| op.name() == "add_route";
    assert!(tenant.record().unwrap().ops.iter().any(is_route));
    tenant.remove_route(dst).unwrap();
    assert_eq!(tenant.record().unwrap().ops, with_bridge);
}

/// A child to which a vnet lends `x`, a VLAN interface on a bridge of its own.
fn with_vlan_lent(tenant: &OwnedVnet) -> OwnedVnet {
    let child = tenant.create_child("child").unwrap();
    tenant.bridge("br0").unwrap();
    tenant.vlan("br0", "x", VlanConfig::dot1q(7)).unwrap();
    tenant.move_interface("x", &child).unwrap();
    child
}

#[test]
fn what_is_lent_is_in_the_record_when_a_borrowed_interfaces_vlan_has_its_name() {
    let system = System::manual(1);
    let (_home, tenant, _port) = borrowed(&system);
    let _child = with_vlan_lent(&tenant);
    tenant.vlan("eth0", "x", VlanConfig::dot1q(5)).unwrap();
    let is_it = |op: &Operation| op.name() == "vlan" && op.interface() == Some("x");
    assert!(tenant.record().unwrap().ops.iter().any(is_it));
}

#[test]
fn the_name_of_what_went_with_its_parent_is_anothers_afterwards() {
    let system = System::manual(1);
    let (_home, tenant, _port) = borrowed(&system);
    // One of the vnet's own has the name, and while it is away one on what is borrowed.
    let child = with_vlan_lent(&tenant);
    let five = vlan(&tenant, "eth0", 5);
    tenant.vlan(&five, "x", VlanConfig::dot1q(6)).unwrap();
    tenant.remove_interface(&five).unwrap();
    child.return_interface("x").unwrap();
    tenant.set_up("x", AdminState::Down).unwrap();
    let twin = system.replay(&tenant.record().unwrap(), "twin").unwrap();
    let its = twin.interfaces().unwrap();
    assert_eq!(its.len(), 3);
    assert_eq!((&*its[2].name, its[2].admin), ("x", AdminState::Down));
}

/// The ends of frames that came in, as a tap is told of them.
#[derive(Default)]
struct Ends(Mutex<Vec<Option<Option<DropReason>>>>);

impl FrameTap for Ends {
    fn frame(&self, _: Instant, direction: Direction, _: &Packet) {
        if direction == Direction::In {
            self.0.lock().unwrap().push(None);
        }
    }

    fn taken_in(&self, _: Instant, refused: Option<DropReason>) {
        let mut frames = self.0.lock().unwrap();
        let last = frames.last_mut().expect("one that was shown");
        assert_eq!(*last, None, "told twice");
        *last = Some(refused);
    }
}

#[test]
fn whoever_watches_a_member_or_its_bridge_hears_what_becomes_of_every_frame() {
    let system = System::manual(1);
    let s = system.create("s").unwrap();
    s.bridge("br0").unwrap();
    let ports = ["p0", "p1"].map(|name| s.port(name, None).unwrap());
    for name in ["p0", "p1"] {
        s.add_member("br0", name).unwrap();
    }
    s.vlan("br0", "v5", VlanConfig::dot1q(5)).unwrap();
    let stp = Some(RstpConfig::default());
    let edge = MemberConfig {
        rstp: RstpPort {
            edge: StpEdge::Yes,
            ..RstpPort::default()
        },
        ..MemberConfig::default()
    };
    for name in ["p0", "p1"] {
        s.set_member("br0", name, edge.clone()).unwrap();
    }
    s.set_bridge(
        "br0",
        BridgeConfig {
            stp,
            ..BridgeConfig::default()
        },
    )
    .unwrap();
    let nowhere = |_| Ok(Box::new(io::sink()) as Box<dyn io::Write + Send>);
    let recorder = Recorder::new(nowhere, CaptureOptions::default()).unwrap();
    let watched = ["p0", "br0", "v5"];
    let taps = watched.map(|name| {
        let ends = Arc::new(Ends::default());
        let info = s.capture(name, Arc::<Ends>::clone(&ends));
        info.unwrap();
        s.capture(name, recorder.tap(name).unwrap()).unwrap();
        ends
    });
    let (near, far) = ([2, 0xaa, 0, 0, 0, 1], [2, 0xaa, 0, 0, 0, 2]);
    ports[1]
        .send(ethernet(near, far, 0x9000, &[0; 46]))
        .unwrap();
    system.poll(system.now());
    let own = s.interfaces().unwrap()[1].mac.0;
    let tagged = |vid: u8| {
        let body = [&[0, vid, 0x90, 0][..], &[0; 46]].concat();
        ethernet([0xff; 6], near, 0x8100, &body)
    };
    let unknown = DropReason::UnknownProtocol;
    let filtered = DropReason::BridgeFiltered;
    let plain = |dst| ethernet(dst, near, 0x9000, &[0; 46]);
    // What each of the watched is told of it, where it is shown it.
    type Told = Option<Option<DropReason>>;
    let rows: [(&str, Vec<u8>, [Told; 3]); 7] = [
        ("forwarded", plain(far), [Some(None), Some(None), None]),
        (
            "flooded",
            plain([2, 9, 9, 9, 9, 9]),
            [Some(None), Some(None), None],
        ),
        (
            "flooded and taken in",
            plain([0xff; 6]),
            [Some(None), Some(None), None],
        ),
        (
            "taken in",
            plain(own),
            [Some(Some(unknown)), Some(Some(unknown)), None],
        ),
        (
            "filtered",
            plain(near),
            [Some(Some(filtered)), Some(Some(filtered)), None],
        ),
        (
            "a VLAN's",
            tagged(5),
            [Some(None), Some(None), Some(Some(unknown))],
        ),
        ("no VLAN's", tagged(6), [Some(None), Some(None), None]),
    ];
    let take = || {
        taps.each_ref()
            .map(|tap| std::mem::take(&mut *tap.0.lock().unwrap()))
    };
    take();
    for (what, frame, told) in rows {
        let before = recorder.report().frames;
        ports[0].send(frame).unwrap();
        system.poll(system.now());
        let expected = told.map(|told| told.map(Some).into_iter().collect::<Vec<_>>());
        assert_eq!(take(), expected, "{what}");
        let shown = told.iter().flatten().count() as u64;
        assert_eq!(recorder.report().frames - before, shown, "{what}: written");
    }
    // A frame for the spanning tree that is none.
    for body in [&[0; 46][..], &[0x42, 0x42, 3, 0, 0, 0, 0]] {
        let mut frame = [&[0x01, 0x80, 0xc2, 0, 0, 0][..], &near].concat();
        frame.extend((body.len() as u16).to_be_bytes());
        frame.extend(body);
        ports[0].send(frame).unwrap();
        system.poll(system.now());
        let [member, bridge, _] = take();
        assert!(matches!(member[..], [Some(Some(_))]), "{member:?}");
        assert_eq!(member, bridge);
    }
}

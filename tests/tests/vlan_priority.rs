//! Promise: the traffic class of IP packets and the priority of VLAN tags follow each other where that is said,
//! and nowhere else.

use std::net::Ipv4Addr;

use vnet::{ClassMaps, ClassRule, Forwarding, MacAddr, OwnedVnet, Port, System, VlanConfig, Vnet};
use vnet_tests::accounts::assert_conserved;
use vnet_tests::frames::{Ip4, Station, checksum, ethernet, fix_checksums, icmp, tagged};
use vnet_tests::topology::vnet;

const PEER: Station = Station {
    mac: [2, 0xaa, 0, 0, 0, 1],
    ip: Ipv4Addr::new(192, 0, 2, 9),
};

#[test]
fn classes_and_priorities_follow_each_other_where_that_is_said() {
    let system = System::manual(1);
    let v = vnet(&system, "v");
    let near = v.port("eth0", None).unwrap();
    let far = v.port("eth1", None).unwrap();
    for (parent, vid, net) in [("eth0", 5, "192.0.2.1/25"), ("eth1", 6, "192.0.2.129/25")] {
        let name = format!("v{vid}");
        v.vlan(parent, &name, VlanConfig::dot1q(vid)).unwrap();
        v.add_address(&name, net.parse().unwrap()).unwrap();
    }
    v.set_forwarding(Forwarding::Enabled).unwrap();
    let next = Ipv4Addr::new(192, 0, 2, 130);
    v.add_neighbour("v6", next.into(), MacAddr(PEER.mac))
        .unwrap();
    let router = v.interfaces().unwrap()[1].mac;
    // The tag, the type of service, and the header's checksum of a packet that is forwarded.
    let forwarded = |pcp: u16, tos: u8| {
        let mut plain = ethernet(
            router.0,
            PEER.mac,
            0x0800,
            &Ip4::new(PEER.ip, next, 17).packet(b"body"),
        );
        plain[15] = tos;
        fix_checksums(&mut plain);
        while far.recv().is_some() {}
        near.send(tagged(&plain, &[(0x8100, pcp << 13 | 5)]))
            .unwrap();
        system.poll(system.now());
        let seen = far.recv().unwrap().to_vec();
        assert_eq!(checksum(&[&seen[18..38]]), 0);
        (u16::from_be_bytes([seen[14], seen[15]]), seen[19])
    };
    assert_eq!(forwarded(5, 0), (6, 0));
    assert_eq!(forwarded(0, 0xb8), (6, 0xb8));
    v.set_sysctl("net.link.vlan.classes", "1").unwrap();
    assert_eq!(forwarded(0, 0), (6, 0));
    assert_eq!(forwarded(0, 0xb9), (5 << 13 | 6, 0xb9));
    // ECN is no part of the class; and a sender that says its class is believed.
    assert_eq!(forwarded(3, 0x02), (3 << 13 | 6, 3 << 5 | 0x02));
    assert_eq!(forwarded(3, 0xb8), (5 << 13 | 6, 0xb8));
    assert_conserved(&v);
}

/// A vnet with `v5` on a port, with an address and a neighbour on it.
fn host(system: &System) -> (OwnedVnet, Port) {
    let v = vnet(system, "v");
    let port = v.port("eth0", None).unwrap();
    v.vlan("eth0", "v5", VlanConfig::dot1q(5)).unwrap();
    v.add_address("v5", "192.0.2.1/24".parse().unwrap())
        .unwrap();
    v.add_neighbour("v5", PEER.ip.into(), MacAddr(PEER.mac))
        .unwrap();
    system.poll(system.now());
    while port.recv().is_some() {}
    (v, port)
}

/// An echo request of this priority and type of service; the tag and the type of service of the answer, which has
/// the class in which the request was taken in.
fn echoed(system: &System, v: &Vnet, port: &Port, tci: u16, tos: u8) -> (u16, u8) {
    let mac = v.interfaces().unwrap()[1].mac;
    let own = Ipv4Addr::new(192, 0, 2, 1);
    let request = icmp(8, 0, 0x1_0001, b"x");
    let mut plain = ethernet(
        mac.0,
        PEER.mac,
        0x0800,
        &Ip4::new(PEER.ip, own, 1).packet(&request),
    );
    plain[15] = tos;
    fix_checksums(&mut plain);
    port.send(tagged(&plain, &[(0x8100, tci)])).unwrap();
    system.poll(system.now());
    let seen = port.recv().expect("an answer").to_vec();
    (u16::from_be_bytes([seen[14], seen[15]]), seen[19])
}

fn rule(pcp: u8, dei: bool, dscp: u8) -> ClassRule {
    ClassRule { pcp, dei, dscp }
}

#[test]
fn an_interface_may_have_maps_of_its_own() {
    let system = System::manual(1);
    let (v, port) = host(&system);
    v.set_sysctl("net.link.vlan.classes", "1").unwrap();
    let echoed = |tci, tos| echoed(&system, &v, &port, tci, tos);
    assert_eq!(
        echoed(3 << 13 | 5, 0),
        (3 << 13 | 5, 24 << 2),
        "as the tunable says"
    );
    let maps = ClassMaps {
        ingress: vec![rule(5, false, 46), rule(5, true, 10), rule(0, false, 8)],
        egress: vec![rule(6, true, 46), rule(1, false, 8)],
    };
    v.set_vlan_classes("v5", Some(maps.clone())).unwrap();
    let dei = 1 << 12;
    // Whatever the sender has said, and as far as the maps say.
    assert_eq!(echoed(5 << 13 | 5, 0), (6 << 13 | dei | 5, 46 << 2));
    assert_eq!(
        echoed(5 << 13 | 5, 20 << 2 | 1),
        (6 << 13 | dei | 5, 46 << 2)
    );
    assert_eq!(echoed(5 << 13 | dei | 5, 0), (5, 10 << 2));
    assert_eq!(echoed(5, 0), (1 << 13 | 5, 8 << 2));
    assert_eq!(echoed(7 << 13 | 5, 20 << 2), (5, 20 << 2));
    let info = v.interfaces().unwrap().remove(2);
    assert_eq!(info.vlan.unwrap().classes, Some(maps.clone()));
    // Twins have them, and they can be taken back.
    let twin = System::manual(2)
        .replay(&v.record().unwrap(), "twin")
        .unwrap();
    assert_eq!(
        twin.interfaces().unwrap().remove(2).vlan.unwrap().classes,
        Some(maps)
    );
    v.set_vlan_classes("v5", None).unwrap();
    assert_eq!(echoed(3 << 13 | 5, 0), (3 << 13 | 5, 24 << 2));
    v.set_sysctl("net.link.vlan.classes", "0").unwrap();
    assert_eq!(echoed(3 << 13 | 5, 0), (5, 0));
    assert!(
        v.set_vlan_classes("eth0", None).is_err(),
        "no VLAN interface"
    );
    let twice = ClassMaps {
        egress: vec![rule(1, false, 8), rule(2, false, 8)],
        ..ClassMaps::default()
    };
    assert!(v.set_vlan_classes("v5", Some(twice)).is_err());
    assert_conserved(&v);
}

/// A borrower's maps hold in its vnet, and come home with the interface.
#[test]
fn maps_go_with_an_interface_that_is_lent() {
    let system = System::manual(1);
    let (home, guest) = (vnet(&system, "home"), vnet(&system, "guest"));
    let port = home.port("eth0", None).unwrap();
    home.vlan("eth0", "v5", VlanConfig::dot1q(5)).unwrap();
    home.move_interface("v5", &guest).unwrap();
    guest
        .add_address("v5", "192.0.2.1/24".parse().unwrap())
        .unwrap();
    guest
        .add_neighbour("v5", PEER.ip.into(), MacAddr(PEER.mac))
        .unwrap();
    let maps = ClassMaps {
        ingress: vec![rule(5, false, 46)],
        egress: vec![rule(6, false, 46)],
    };
    guest.set_vlan_classes("v5", Some(maps.clone())).unwrap();
    system.poll(system.now());
    while port.recv().is_some() {}
    assert_eq!(
        echoed(&system, &guest, &port, 5 << 13 | 5, 0),
        (6 << 13 | 5, 46 << 2)
    );
    guest.return_interface("v5").unwrap();
    let classes = |v: &Vnet| v.interfaces().unwrap().remove(2).vlan.unwrap().classes;
    assert_eq!(classes(&home), Some(maps.clone()));
    let twin = home.clone_as("twin").unwrap();
    assert_eq!(classes(&twin), Some(maps));
}

/// The tag that comes off last says the class, where the packet is taken in; what is bridged keeps its own.
#[test]
fn only_what_is_taken_in_is_classified_and_by_its_last_tag() {
    let system = System::manual(1);
    let v = vnet(&system, "v");
    let [near, far] = ["eth0", "eth1"].map(|name| v.port(name, None).unwrap());
    v.vlan("eth0", "s", VlanConfig::dot1ad(5)).unwrap();
    v.vlan("s", "c", VlanConfig::dot1q(7)).unwrap();
    v.bridge("br0").unwrap();
    for member in ["c", "eth1"] {
        v.add_member("br0", member).unwrap();
    }
    v.set_sysctl("net.link.vlan.classes", "1").unwrap();
    let body = Ip4::new(PEER.ip, Ipv4Addr::BROADCAST, 17).packet(b"x");
    let plain = ethernet([0xff; 6], PEER.mac, 0x0800, &body);
    near.send(tagged(&plain, &[(0x88a8, 5 << 13 | 5), (0x8100, 7)]))
        .unwrap();
    system.poll(system.now());
    assert_eq!(far.recv().expect("it is bridged").to_vec(), plain);
    // A tag with only a priority says a class, too.
    let system = System::manual(1);
    let w = vnet(&system, "w");
    let port = w.port("eth0", None).unwrap();
    w.add_address("eth0", "192.0.2.1/24".parse().unwrap())
        .unwrap();
    w.add_neighbour("eth0", PEER.ip.into(), MacAddr(PEER.mac))
        .unwrap();
    w.set_sysctl("net.link.vlan.classes", "1").unwrap();
    system.poll(system.now());
    while port.recv().is_some() {}
    let own = Ipv4Addr::new(192, 0, 2, 1);
    let request = icmp(8, 0, 0x1_0001, b"x");
    let mac = w.interfaces().unwrap()[1].mac;
    let asked = ethernet(
        mac.0,
        PEER.mac,
        0x0800,
        &Ip4::new(PEER.ip, own, 1).packet(&request),
    );
    port.send(tagged(&asked, &[(0x8100, 3 << 13)])).unwrap();
    system.poll(system.now());
    assert_eq!(port.recv().expect("an answer").to_vec()[15], 24 << 2);
}

//! Records of bridges, of interfaces that are lent, and of those who borrow them.

use std::time::Duration;

use vnet::net::UdpSocket;
use vnet::record::{Operation, Record};
use vnet::{
    AdminError, AdminState, BridgeConfig, Carrier, InitRecord, LinkConfig, MacAddr, MemberConfig,
    NextHop, OwnedVnet, Stage, Switchable, System, VlanConfig, Vnet,
};

const STATION: MacAddr = MacAddr([2, 8, 8, 8, 8, 1]);

fn three(system: &System) -> [OwnedVnet; 3] {
    let [a, b, far] = ["a", "b", "far"].map(|name| system.create(name).expect("a free name"));
    a.epair("eth0", &far, "eth0").expect("free names");
    [a, b, far]
}

#[track_caller]
fn has_twin(vnet: &Vnet) {
    let record = vnet.record().expect("alive");
    let text = record.to_toml().expect("it can be said");
    let read = Record::from_toml(&text).expect("what was written");
    assert_eq!(read, record);
    let elsewhere = System::virtual_time(9);
    let twin = elsewhere.replay(&read, "twin").expect("possible");
    let look = |vnet: &Vnet| vnet.inspect().expect("alive").normalised();
    assert_eq!(look(&twin), look(vnet));
    assert_eq!(twin.record().expect("alive").ops, record.ops);
}

fn said(vnet: &Vnet) -> Vec<String> {
    let record = vnet.record().expect("alive");
    record.ops.iter().map(Operation::to_string).collect()
}

#[test]
fn a_bridge_with_members_and_stations_has_a_twin() {
    let system = System::virtual_time(1);
    let [a, _b, far] = three(&system);
    a.epair("eth1", &far, "eth1").unwrap();
    a.bridge("bridge0").unwrap();
    a.add_member("bridge0", "eth0").unwrap();
    a.add_member("bridge0", "eth1").unwrap();
    let private = MemberConfig {
        private: Switchable::On,
        ..MemberConfig::default()
    };
    a.set_member("bridge0", "eth1", private.clone()).unwrap();
    let config = BridgeConfig {
        max_age: Duration::from_secs(7),
        max_stations: 3,
        ..BridgeConfig::default()
    };
    a.set_bridge("bridge0", config.clone()).unwrap();
    a.add_station("bridge0", "eth1", STATION, None).unwrap();
    has_twin(&a);

    let seen = a.inspect().unwrap();
    let view = seen.interfaces.iter().find_map(|i| i.bridging.as_ref());
    let view = view.expect("one is a bridge");
    assert_eq!(view.config, config);
    assert_eq!(view.members[1].config, private);
    assert_eq!(
        (view.stations[0].mac, &*view.stations[0].interface),
        (STATION, "eth1")
    );
    assert!(
        seen.to_string()
            .contains("02:08:08:08:08:01 -    eth1             static")
    );

    // What concerned the membership goes with it, and the bridge takes along all of it.
    a.remove_member("bridge0", "eth1").unwrap();
    assert!(
        said(&a)
            .iter()
            .all(|op| !op.contains("behind") && !op.contains("set_member"))
    );
    has_twin(&a);
    a.remove_interface("bridge0").unwrap();
    assert_eq!(
        said(&a),
        ["epair eth0 to far:eth0", "epair eth1 to far:eth1"]
    );
    has_twin(&a);
}

#[test]
fn a_member_that_is_removed_or_lent_leaves_its_bridge_in_the_record_too() {
    let system = System::virtual_time(1);
    let [a, b, _far] = three(&system);
    let _port = a.port("guest", None).unwrap();
    a.bridge("bridge0").unwrap();
    for member in ["eth0", "guest"] {
        a.add_member("bridge0", member).unwrap();
    }
    a.add_station("bridge0", "guest", STATION, None).unwrap();
    a.remove_interface("guest").unwrap();
    assert_eq!(
        said(&a),
        [
            "epair eth0 to far:eth0",
            "bridge bridge0",
            "add_member bridge0 eth0"
        ]
    );
    a.move_interface("eth0", &b).unwrap();
    assert_eq!(said(&a), ["epair eth0 to far:eth0", "bridge bridge0"]);
    a.reclaim_interface("eth0").unwrap();
    has_twin(&a);
}

#[test]
fn a_station_that_was_learned_is_no_configuration() {
    let system = System::virtual_time(1);
    let [a, _b, far] = three(&system);
    a.bridge("bridge0").unwrap();
    a.add_member("bridge0", "eth0").unwrap();
    a.add_address("bridge0", "192.0.2.1/24".parse().unwrap())
        .unwrap();
    far.add_address("eth0", "192.0.2.2/24".parse().unwrap())
        .unwrap();
    let from = UdpSocket::bind_in(&far, "0.0.0.0:0").unwrap();
    from.send_to(b"x", "192.0.2.1:7").unwrap();
    system.sleep(Duration::from_millis(1)).unwrap();
    let before = said(&a);
    let learned = far.interfaces().unwrap()[1].mac;
    a.remove_station("bridge0", learned, None).unwrap();
    assert_eq!(said(&a), before);
    has_twin(&a);
}

#[test]
fn an_interface_that_was_lent_and_changed_is_recorded_as_it_is_now() {
    let system = System::virtual_time(1);
    let [a, b, _far] = three(&system);
    a.add_address("eth0", "192.0.2.1/24".parse().unwrap())
        .unwrap();
    a.add_route(
        "198.51.100.0/24".parse().unwrap(),
        NextHop::Interface("eth0".into()),
    )
    .unwrap();
    a.set_ip_mtu("eth0", 1400).unwrap();
    a.move_interface_as("eth0", &b, "lan0").unwrap();
    assert_eq!(said(&a), ["epair eth0 to far:eth0", "set_ip_mtu eth0 1400"]);
    let seen = a.inspect().unwrap();
    assert_eq!(seen.lent[0].to_string(), "eth0 lent to b");
    assert_eq!(seen.pins.lent, seen.lent);
    // The twin of a home has its interfaces at home.
    let twin = a.clone_as("twin").unwrap();
    assert_eq!(twin.interfaces().unwrap()[1].ip_mtu, 1400);

    b.set_ip_mtu("lan0", 1300).unwrap();
    b.set_up("lan0", AdminState::Down).unwrap();
    let slow = LinkConfig {
        delay: Duration::from_millis(3),
        ..LinkConfig::default()
    };
    b.set_link("lan0", slow).unwrap();
    // At the borrower's end.
    drop(b);
    let ops = said(&a);
    assert!(ops.contains(&"set_ip_mtu eth0 1300".to_owned()), "{ops:?}");
    assert_eq!(ops.len(), 4, "{ops:?}");
    has_twin(&a);
}

#[test]
fn an_interface_that_comes_home_under_another_name_is_recorded_under_it() {
    let system = System::virtual_time(1);
    let [a, b, far] = three(&system);
    a.set_ip_mtu("eth0", 1400).unwrap();
    a.move_interface("eth0", &b).unwrap();
    a.epair("eth0", &far, "eth9").unwrap();
    // There cannot be two of one name, so that the one that is away is left out.
    assert_eq!(said(&a), ["epair eth0 to far:eth9"]);
    has_twin(&a);
    let moved = b.return_interface("eth0").unwrap();
    assert_eq!(moved, "eth1");
    assert_eq!(
        said(&a),
        [
            "epair eth1 to far:eth0",
            "set_ip_mtu eth1 1400",
            "epair eth0 to far:eth9"
        ]
    );
    has_twin(&a);
}

/// What a borrower sets counts, also where it is what was inherited: it no longer follows the parent.
#[test]
fn what_a_borrower_sets_to_what_it_is_comes_home_as_set() {
    let system = System::virtual_time(1);
    let [a, b, _far] = three(&system);
    a.vlan("eth0", "v5", vnet::VlanConfig::dot1q(5)).unwrap();
    a.move_interface("v5", &b).unwrap();
    let was = b.interfaces().unwrap().pop().unwrap();
    b.set_ip_mtu("v5", was.ip_mtu).unwrap();
    b.set_mac("v5", was.mac).unwrap();
    b.return_interface("v5").unwrap();
    a.set_ip_mtu("eth0", 9000).unwrap();
    has_twin(&a);
}

#[test]
fn what_is_done_to_a_borrowed_interface_is_not_the_borrowers_configuration() {
    let system = System::virtual_time(1);
    let [a, b, _far] = three(&system);
    b.bridge("bridge0").unwrap();
    let before = said(&b);
    a.move_interface("eth0", &b).unwrap();
    let dst = "198.51.100.0/24".parse().unwrap();
    b.set_ip_mtu("eth0", 1300).unwrap();
    b.add_address("eth0", "192.0.2.1/24".parse().unwrap())
        .unwrap();
    b.add_route(dst, "192.0.2.2".parse::<std::net::Ipv4Addr>().unwrap())
        .unwrap();
    b.remove_route(dst).unwrap();
    b.remove_address("eth0", "192.0.2.1".parse().unwrap())
        .unwrap();
    b.add_member("bridge0", "eth0").unwrap();
    b.add_station("bridge0", "eth0", STATION, None).unwrap();
    b.remove_station("bridge0", STATION, None).unwrap();
    assert_eq!(said(&b), before);
    let record = b.record().unwrap();
    system
        .replay(&record, "twin")
        .expect("it names nothing borrowed");
    b.return_interface("eth0").unwrap();
    has_twin(&b);
}

#[test]
fn a_bridge_stays_where_it_was_made() {
    let system = System::virtual_time(1);
    let [a, b, _far] = three(&system);
    a.bridge("bridge0").unwrap();
    for name in ["bridge0", "lo0"] {
        let refused = a.move_interface_as(name, &b, "new0");
        assert!(
            matches!(refused, Err(AdminError::Unsupported { .. })),
            "{name}: {refused:?}"
        );
    }
    has_twin(&a);
}

#[test]
fn a_bridge_comes_up_when_a_port_of_its_twin_is_plugged_in() {
    let system = System::virtual_time(1);
    let a = system.create("a").unwrap();
    let _outside = a.port("p0", None).unwrap();
    a.bridge("bridge0").unwrap();
    a.add_member("bridge0", "p0").unwrap();
    let twin = system.replay(&a.record().unwrap(), "twin").unwrap();
    let carrier = || twin.interfaces().unwrap().pop().unwrap().carrier;
    assert_eq!(carrier(), Carrier::Down, "nobody is outside");
    let _port = twin.plug_port("p0").unwrap();
    assert_eq!(carrier(), Carrier::Up);
}

#[test]
fn what_a_step_made_comes_home_under_another_name_and_has_a_twin() {
    let system = System::virtual_time(1);
    let make = |vnet: &Vnet| Ok(vnet.epair("svc0", vnet, "far0")?);
    let step = InitRecord::new("service", Stage::Services, 0, make, |_| Ok(()));
    system.register(step).unwrap();
    let [a, b] = ["a", "b"].map(|name| system.create(name).unwrap());
    let twin = || {
        let twin = system.replay(&a.record().unwrap(), "twin").unwrap();
        assert_eq!(twin.record().unwrap().ops, a.record().unwrap().ops);
        twin.inspect().unwrap().normalised()
    };
    a.set_ip_mtu("svc0", 1400).unwrap();
    a.move_interface_as("svc0", &b, "lan0").unwrap();
    let _port = a.port("svc0", None).unwrap();
    // Its name has been given away, so that the twin has the new one only.
    assert_eq!(said(&a), ["remove_interface svc0", "port svc0"]);
    twin();
    let moved = b.return_interface("lan0").unwrap();
    assert_eq!(moved, "svc1");
    assert_eq!(
        said(&a),
        [
            "rename_interface svc0 to svc1",
            "set_ip_mtu svc1 1400",
            "port svc0"
        ]
    );
    assert_eq!(twin(), a.inspect().unwrap().normalised());
    a.remove_interface("svc1").unwrap();
    assert_eq!(said(&a), ["remove_interface svc0", "port svc0"]);
    assert_eq!(twin(), a.inspect().unwrap().normalised());
}

#[test]
fn vlans_that_a_step_made_change_places_with_each_other_and_with_others() {
    let system = System::virtual_time(1);
    let make = |vnet: &Vnet| {
        vnet.bridge("br0")?;
        for n in 1..4 {
            vnet.vlan("br0", &format!("v{n}"), VlanConfig::dot1q(n))?;
        }
        Ok(())
    };
    let step = InitRecord::new("service", Stage::Services, 0, make, |_| Ok(()));
    system.register(step).unwrap();
    let [a, other] = ["a", "other"].map(|name| system.create(name).unwrap());
    let retag = |name: &str, vid| a.set_vlan(name, VlanConfig::dot1q(vid)).unwrap();
    a.set_ip_mtu("br0", 1400).unwrap();
    a.vlan("br0", "own", VlanConfig::dot1q(9)).unwrap();
    // Round by a free one: 1 is 2, 2 is 3, 3 is 1.
    for (name, vid) in [("v3", 7), ("v2", 3), ("v1", 2), ("v3", 1)] {
        retag(name, vid);
    }
    a.rename_interface("v1", "first").unwrap();
    let looks = || a.inspect().unwrap().normalised();
    let twin = || {
        let twin = system.replay(&a.record().unwrap(), "twin").unwrap();
        assert_eq!(twin.record().unwrap().ops, a.record().unwrap().ops);
        twin.inspect().unwrap().normalised()
    };
    assert_eq!(twin(), looks());
    // One that was made later has what a step's had, and has been noted to be made with it.
    retag("v3", 8);
    retag("own", 1);
    assert_eq!(twin(), looks());
    a.set_up("br0", AdminState::Down).unwrap();
    a.move_interface_as("v2", &other, "moved").unwrap();
    let record = a.record().unwrap();
    let twin_of_lent = system.replay(&record, "lent").unwrap();
    a.reclaim_interface("v2").unwrap();
    assert_eq!(twin_of_lent.inspect().unwrap().normalised(), looks());
}

#[test]
fn of_two_that_are_lent_under_one_name_one_is_recorded() {
    let system = System::virtual_time(1);
    let [a, b, far] = three(&system);
    a.move_interface_as("eth0", &b, "one").unwrap();
    a.epair("eth0", &far, "eth1").unwrap();
    a.move_interface_as("eth0", &b, "two").unwrap();
    assert_eq!(said(&a), ["epair eth0 to far:eth0"]);
    has_twin_when_home(&a);
}

/// The record of a vnet with lent interfaces can be replayed; and when all are at home, makes a twin.
#[track_caller]
fn has_twin_when_home(vnet: &Vnet) {
    let elsewhere = System::virtual_time(9);
    elsewhere.replay(&vnet.record().unwrap(), "twin").unwrap();
    for lent in vnet.pins().unwrap().lent {
        vnet.reclaim_interface(&lent.name).unwrap();
    }
    has_twin(vnet);
}

#[test]
fn the_ends_of_a_pair_find_each_other_under_other_names() {
    let system = System::virtual_time(1);
    let [a, b, far] = three(&system);
    a.epair("eth1", &far, "eth1").unwrap();
    // By way of another vnet, and by hand; at both ends, and crossed.
    a.move_interface("eth0", &b).unwrap();
    a.epair("eth0", &b, "x").unwrap();
    assert_eq!(b.return_interface("eth0").unwrap(), "eth2");
    far.rename_interface("eth0", "tmp").unwrap();
    far.rename_interface("eth1", "eth0").unwrap();
    far.rename_interface("tmp", "eth1").unwrap();
    system.sleep(Duration::from_millis(1)).unwrap();
    let records = [&a, &far].map(|v| v.record().unwrap());
    let twins = system.replay_all(&records, |n| format!("{n}2")).unwrap();
    let net = |host: u8| format!("192.0.2.{host}/24").parse().unwrap();
    for (from, to) in [("eth2", "eth1"), ("eth1", "eth0")] {
        twins[0].add_address(from, net(1)).unwrap();
        twins[1].add_address(to, net(2)).unwrap();
        let at = UdpSocket::bind_in(&twins[1], "192.0.2.2:7").unwrap();
        let socket = UdpSocket::bind_in(&twins[0], "192.0.2.1:0").unwrap();
        socket.send_to(b"hello", "192.0.2.2:7").unwrap();
        assert_eq!(at.recv(&mut [0; 8]).unwrap(), 5, "{from} to {to}");
        twins[0]
            .remove_address(from, "192.0.2.1".parse().unwrap())
            .unwrap();
        twins[1]
            .remove_address(to, "192.0.2.2".parse().unwrap())
            .unwrap();
    }
}

#[test]
fn an_address_on_a_borrowed_interface_takes_the_place_of_a_route_for_good() {
    let system = System::virtual_time(1);
    let [a, b, _far] = three(&system);
    let host = "192.0.2.1/32".parse().unwrap();
    b.add_route(host, NextHop::Interface("lo0".into())).unwrap();
    a.move_interface("eth0", &b).unwrap();
    b.add_address("eth0", "192.0.2.1/24".parse().unwrap())
        .unwrap();
    b.return_interface("eth0").unwrap();
    assert!(said(&b).is_empty());
    has_twin(&b);
}

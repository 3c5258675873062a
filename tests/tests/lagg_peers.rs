//! Promise: whoever is at the other ends of a lagg's links finds those who are behind it, gets answers, and may be
//! several vnets.

use std::time::Duration;

use vnet::{
    AdminState, BridgeConfig, BridgeVlans, Carrier, DropReason, LaggConfig, LaggMode, MacAddr,
    MemberConfig, MemberVlans, OwnedVnet, Port, Switchable, System, VlanConfig, VlanLearning, Vnet,
};
use vnet_tests::accounts::{assert_clean, assert_conserved};
use vnet_tests::frames::ethernet;
use vnet_tests::reach::reaches;
use vnet_tests::topology::vnet;

/// LACP has agreed by then: it waits two seconds for ports that may join together.
const AGREED: Duration = Duration::from_secs(4);
const SLOW: [u8; 6] = [0x01, 0x80, 0xc2, 0, 0, 2];
const PEER: [u8; 6] = [2, 0, 0, 0, 0, 9];

fn of(mode: LaggMode) -> LaggConfig {
    LaggConfig {
        mode,
        ..LaggConfig::default()
    }
}

fn fast(mode: LaggMode) -> LaggConfig {
    LaggConfig {
        fast: Switchable::On,
        ..of(mode)
    }
}

fn eth(n: usize) -> String {
    format!("eth{n}")
}

fn senders(vnet: &Vnet) -> Vec<String> {
    let members = vnet.lagg_info("lagg0").unwrap().members.into_iter();
    members.filter(|m| m.sends).map(|m| m.name).collect()
}

fn info(vnet: &Vnet, interface: &str) -> vnet::IfInfo {
    let all = vnet.interfaces().unwrap();
    all.into_iter().find(|i| i.name == interface).unwrap()
}

/// The other end is a switch with independent ports: where the lagg was is where it sends to, until it learns
/// better. So everybody is introduced to whom the lagg is the way, in whatever vnet.
#[test]
fn a_switch_learns_the_new_way_to_all_who_are_behind_a_lagg() {
    let system = System::virtual_time(1);
    let [a, switch, x, y] = ["a", "switch", "x", "y"].map(|n| vnet(&system, n));
    switch.bridge("br0").unwrap();
    a.lagg("lagg0", of(LaggMode::Failover)).unwrap();
    for n in 0..2 {
        a.epair(&eth(n), &switch, &format!("p{n}")).unwrap();
        a.add_member("lagg0", &eth(n)).unwrap();
        switch.add_member("br0", &format!("p{n}")).unwrap();
    }
    y.epair("eth0", &switch, "py").unwrap();
    switch.add_member("br0", "py").unwrap();
    a.bridge("br0").unwrap();
    x.epair("eth0", &a, "px").unwrap();
    let station = info(&x, "eth0").mac;
    for member in ["px", "lagg0"] {
        a.add_member("br0", member).unwrap();
    }
    for (vnet, address) in [(&x, "192.0.2.1/24"), (&y, "192.0.2.2/24")] {
        vnet.add_address("eth0", address.parse().unwrap()).unwrap();
    }
    assert!(reaches(&y, "192.0.2.1"));
    let behind = |mac: &MacAddr| {
        let all = switch.stations("br0").unwrap();
        let station = all.into_iter().find(|s| s.mac == *mac);
        station.map(|s| s.interface).unwrap_or_default()
    };
    for (state, now_by) in [(AdminState::Down, "p1"), (AdminState::Up, "p0")] {
        a.set_up("eth0", state).unwrap();
        system.run_for(Duration::from_millis(1)).unwrap();
        assert_eq!(behind(&station), now_by);
    }
    // Nobody but them is behind it.
    assert_eq!(behind(&info(&y, "eth0").mac), "py");
    assert!(reaches(&y, "192.0.2.1"));
    for vnet in [a, switch, x, y] {
        assert_conserved(&vnet);
        assert_clean(&vnet.destroy());
    }
}

/// A switch with a lagg of two ports in these VLANs, and a member `x` of VLAN 10 behind which a station is.
fn trunked(
    learning: VlanLearning,
    change: impl FnOnce(&mut MemberConfig),
) -> (System, OwnedVnet, [Port; 3]) {
    let system = System::manual(1);
    let v = vnet(&system, "v");
    v.bridge("br0").unwrap();
    let config = BridgeConfig {
        vlans: Some(BridgeVlans {
            learning,
            ..BridgeVlans::default()
        }),
        ..BridgeConfig::default()
    };
    v.set_bridge("br0", config).unwrap();
    v.lagg("lagg0", of(LaggMode::Failover)).unwrap();
    let ports = ["eth0", "eth1", "x"].map(|name| v.port(name, None).unwrap());
    for n in 0..2 {
        v.add_member("lagg0", &eth(n)).unwrap();
    }
    let mut trunk = MemberConfig {
        vlans: MemberVlans::trunk("10,20".parse().unwrap()),
        ..MemberConfig::default()
    };
    change(&mut trunk);
    let access = MemberConfig {
        vlans: MemberVlans::access(10),
        private: trunk.private,
        ..MemberConfig::default()
    };
    for (member, config) in [("lagg0", trunk), ("x", access)] {
        v.add_member("br0", member).unwrap();
        v.set_member("br0", member, config).unwrap();
    }
    (system, v, ports)
}

/// The frames that the second port sends when the first one goes down.
fn fail_over(system: &System, v: &Vnet, ports: &[Port; 3]) -> Vec<Vec<u8>> {
    ports[2]
        .send(ethernet([0xff; 6], PEER, 0x88b5, b"x"))
        .unwrap();
    system.poll(system.now());
    while ports[..2].iter().any(|p| p.recv().is_some()) {}
    v.set_up("eth0", AdminState::Down).unwrap();
    system.poll(system.now());
    std::iter::from_fn(|| ports[1].recv().map(|f| f.to_vec())).collect()
}

/// Without the tag of its VLAN, a station would be learned in the native one of the switch there.
#[test]
fn stations_are_introduced_in_their_vlan_and_nowhere_else() {
    for learning in [VlanLearning::Independent, VlanLearning::Shared] {
        let (system, v, ports) = trunked(learning, |_| {});
        // One in every VLAN is behind a member of one; another, in the VLAN that is named.
        v.add_station("br0", "x", MacAddr([2, 0, 0, 0, 0, 7]), None)
            .unwrap();
        v.add_station("br0", "x", MacAddr([2, 0, 0, 0, 0, 8]), Some(20))
            .unwrap();
        let mut said = fail_over(&system, &v, &ports);
        said.retain(|f| f[16..18] == [0x80, 0x35]);
        let mut said: Vec<(u8, Vec<u8>)> =
            said.iter().map(|f| (f[11], f[12..16].to_vec())).collect();
        said.sort();
        let ten = vec![0x81, 0, 0, 10];
        let all = [(7, ten.clone()), (8, vec![0x81, 0, 0, 20]), (9, ten)];
        assert_eq!(said, all, "{learning:?}");
        assert_conserved(&v);
        assert_clean(&v.destroy());
    }
}

#[test]
fn nobody_is_introduced_by_a_member_that_is_not_to_hear_of_them() {
    let quiet: [fn(&mut MemberConfig); 3] = [
        |c| c.broadcast = Switchable::Off,
        |c| c.private = Switchable::On,
        |c| c.vlans = MemberVlans::trunk("20".parse().unwrap()),
    ];
    for change in quiet {
        let (system, v, ports) = trunked(VlanLearning::Shared, change);
        assert_eq!(fail_over(&system, &v, &ports), Vec::<Vec<u8>>::new());
        assert_conserved(&v);
        assert_clean(&v.destroy());
    }
}

/// A carrier that comes and goes is whoever's at the other end: it does not multiply.
#[test]
fn a_way_that_comes_and_goes_introduces_everybody_once_in_a_while() {
    let (system, v, ports) = trunked(VlanLearning::Independent, |_| {});
    let first = fail_over(&system, &v, &ports).len();
    for _ in 0..100 {
        for state in [AdminState::Up, AdminState::Down] {
            v.set_up("eth0", state).unwrap();
            system.poll(system.now());
        }
    }
    let count = || {
        let all = ports[..2]
            .iter()
            .map(|p| std::iter::from_fn(|| p.recv()).count());
        all.sum::<usize>()
    };
    // Twice at once, and then once in each second.
    assert_eq!((first, count()), (1, 1));
    for (seconds, expected) in [(1, 1), (2, 0)] {
        system.poll(system.now() + Duration::from_secs(seconds));
        assert_eq!(count(), expected);
    }
    assert_clean(&v.destroy());
}

/// What stands on a member of a bridge has no carrier, whatever way the member leads.
#[test]
fn a_new_way_gives_no_carrier_to_who_has_none() {
    let system = System::virtual_time(1);
    let [v, guest] = ["v", "guest"].map(|name| vnet(&system, name));
    v.lagg("lagg0", of(LaggMode::Failover)).unwrap();
    let _ports = [0, 1].map(|n| {
        let port = v.port(&eth(n), None).unwrap();
        v.add_member("lagg0", &eth(n)).unwrap();
        port
    });
    v.vlan("lagg0", "v5", VlanConfig::dot1q(5)).unwrap();
    for (parent, name, vid) in [("lagg0", "q", 6), ("v5", "r", 7)] {
        v.vlan_in(parent, &guest, name, VlanConfig::dot1q(vid))
            .unwrap();
    }
    let carriers = || {
        system.run_for(Duration::from_millis(1)).unwrap();
        ["q", "r"].map(|name| info(&guest, name).carrier)
    };
    v.set_up("v5", AdminState::Down).unwrap();
    v.set_up("eth0", AdminState::Down).unwrap();
    assert_eq!(carriers(), [Carrier::Up, Carrier::Down]);
    v.bridge("br0").unwrap();
    v.add_member("br0", "lagg0").unwrap();
    v.set_up("eth0", AdminState::Up).unwrap();
    assert_eq!(carriers(), [Carrier::Down; 2]);
    for vnet in [v, guest] {
        assert_clean(&vnet.destroy());
    }
}

/// Two vnets that say that they are one system, and are used as one by the third.
#[test]
fn one_system_may_be_several_vnets() {
    let system = System::virtual_time(1);
    let [one, two, c] = ["one", "two", "c"].map(|name| vnet(&system, name));
    let half = LaggConfig {
        system: Some(MacAddr([2, 0, 0, 0, 0, 0x55])),
        key: std::num::NonZeroU16::new(9),
        ..fast(LaggMode::LacpActive)
    };
    c.lagg("lagg0", fast(LaggMode::LacpActive)).unwrap();
    for (n, vnet) in [&one, &two].into_iter().enumerate() {
        vnet.epair("eth0", &c, &eth(n)).unwrap();
        vnet.lagg("lagg0", half).unwrap();
        vnet.add_member("lagg0", "eth0").unwrap();
        c.add_member("lagg0", &eth(n)).unwrap();
    }
    system.run_for(AGREED).unwrap();
    assert_eq!(senders(&c), ["eth0", "eth1"]);
    for vnet in [one, two, c] {
        assert_clean(&vnet.destroy());
    }
}

/// IEEE 802.1AX-2020, clause 6.5.4.2: the responder is not optional.
#[test]
fn markers_are_answered_but_not_without_bound() {
    let system = System::manual(1);
    let v = vnet(&system, "v");
    let port = v.port("eth0", None).unwrap();
    v.lagg("lagg0", of(LaggMode::Balance)).unwrap();
    v.add_member("lagg0", "eth0").unwrap();
    let mut marker = vec![2, 1, 1, 16, 0, 7, 2, 0, 0, 0, 0, 9, 1, 2, 3, 4];
    marker.resize(110, 0);
    let mut answer = marker.clone();
    answer[2] = 2;
    let put = |body: &[u8]| {
        port.send(ethernet(SLOW, PEER, 0x8809, body)).unwrap();
        system.poll(system.now());
        assert_conserved(&v);
        std::iter::from_fn(|| port.recv()).collect::<Vec<_>>()
    };
    let said = put(&marker);
    let [frame] = &said[..] else {
        panic!("one answer, not {said:?}");
    };
    let frame = frame.to_vec();
    assert_eq!((&frame[..6], &frame[12..14]), (&SLOW[..], &[0x88, 9][..]));
    assert_eq!(frame[14..], answer);
    // An answer is no question.
    assert!(put(&answer).is_empty());
    let answers: usize = (0..100).map(|_| put(&marker).len()).sum();
    assert_eq!(answers, 9, "ten in a second");
    let limited = v.stats().unwrap().rx_drops(DropReason::RateLimited);
    assert_eq!(limited, 91);
    assert_clean(&v.destroy());
}

/// With failover, the first member is the one that is used.
#[test]
fn laggs_with_their_members_in_another_order_are_no_twins() {
    let system = System::virtual_time(1);
    let made = |name, order: [usize; 2]| {
        let vnet = vnet(&system, name);
        for n in 0..2 {
            vnet.port(&eth(n), None).unwrap();
        }
        vnet.lagg("lagg0", of(LaggMode::Failover)).unwrap();
        for n in order {
            vnet.add_member("lagg0", &eth(n)).unwrap();
        }
        vnet
    };
    let all = [made("a", [0, 1]), made("b", [0, 1]), made("c", [1, 0])];
    let [a, b, c] = all.each_ref().map(|v| v.inspect().unwrap().normalised());
    assert_eq!(a, b);
    assert_ne!(a, c);
}

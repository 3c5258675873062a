//! Open vSwitch and vnets are neighbours on TAPs: VLANs, the spanning tree, and link aggregation with
//! LACP, each spoken by two implementations that know nothing of each other.
//!
//! Open vSwitch is in a network namespace of the test's own. Where it is not installed, or namespaces or
//! TAPs are not permitted, every test says so and counts as skipped. The kernel's own bonds and bridges are
//! peers where it has them.

use std::net::IpAddr;
use std::time::Duration;

use vnet::net::EchoSocket;
use vnet::{
    AdminState, BridgeConfig, BridgeVlans, Carrier, DropReason, LaggConfig, LaggMode, MemberConfig,
    MemberVlans, OwnedVnet, RstpConfig, StpRole, StpState, Switchable, System, VlanConfig, Vnet,
};
use vnet_tap::{NetNs, Tap, TapConfig};
use vnet_tests::ovs::Ovs;
use vnet_tests::reach::reaches;
use vnet_tests::skip::{without_device, without_tap};

/// A vnet with an address, and what plugs it into the switch.
struct Host {
    vnet: OwnedVnet,
    _tap: Tap,
}

fn host(ovs: &Ovs, system: &System, name: &str, address: &str, settings: &str) -> Host {
    let vnet = system.create(name).unwrap();
    let tap = ovs.port(&vnet, "eth0", name, settings);
    add_address(&vnet, "eth0", address);
    Host { vnet, _tap: tap }
}

fn add_address(vnet: &Vnet, interface: &str, address: &str) {
    vnet.add_address(interface, address.parse().unwrap())
        .unwrap();
}

fn comes_to_reach(ovs: &Ovs, from: &Vnet, to: &str) -> Duration {
    ovs.wait_for(&format!("{} reaches {to}", from.name()), |_| {
        reaches(from, to)
    })
}

/// Sends so many echo requests, whether they are answered or not.
fn knock(from: &Vnet, to: &str, times: u16) {
    let to: IpAddr = to.parse().unwrap();
    let echo = EchoSocket::bind_in(from).unwrap();
    for n in 0..times {
        echo.send_to(n, b"x", to).unwrap();
    }
}

#[test]
fn access_and_trunk_ports_have_their_vlans_and_no_others() {
    let Some(ovs) = Ovs::start() else { return };
    let system = System::threads();
    let five = host(&ovs, &system, "five", "192.0.2.5/24", "tag=5");
    let six = host(&ovs, &system, "six", "192.0.2.6/24", "tag=6");
    let native = host(&ovs, &system, "native", "192.0.2.7/24", "tag=7");
    // A router on a stick: VLAN 7 comes to it without a tag.
    let stick = system.create("stick").unwrap();
    let settings = "vlan_mode=native-untagged tag=7 trunks=5,6,7";
    let _tap = ovs.port(&stick, "eth0", "stick", settings);
    add_address(&stick, "eth0", "192.0.2.107/24");
    for vid in [5, 6, 8] {
        let name = format!("eth0.{vid}");
        stick.vlan("eth0", &name, VlanConfig::dot1q(vid)).unwrap();
        add_address(&stick, &name, &format!("198.18.{vid}.1/24"));
    }
    for (host, vid) in [(&five, 5), (&six, 6)] {
        add_address(&host.vnet, "eth0", &format!("198.18.{vid}.2/24"));
        comes_to_reach(&ovs, &host.vnet, &format!("198.18.{vid}.1"));
        comes_to_reach(&ovs, &stick, &format!("198.18.{vid}.2"));
    }
    comes_to_reach(&ovs, &native.vnet, "192.0.2.107");
    // Access ports of different VLANs do not meet, nor does a VLAN that the trunk does not carry.
    assert!(!reaches(&five.vnet, "192.0.2.6") && !reaches(&native.vnet, "192.0.2.5"));
    add_address(&six.vnet, "eth0", "198.51.8.2/24");
    assert!(!reaches(&stick, "198.51.8.2"));
    assert_eq!(stick.stats().unwrap().rx_drops(DropReason::UnknownVlan), 0);
    // What the switch sends to a port that is a trunk for all is dropped where there is no interface.
    ovs.vsctl("set port stick trunks=5,6,7,9");
    ovs.vsctl("set port six tag=9");
    knock(&six.vnet, "192.0.2.99", 1);
    ovs.wait_for("a frame of VLAN 9 comes in", |_| {
        stick.stats().unwrap().rx_drops(DropReason::UnknownVlan) > 0
    });
}

/// The VLAN-aware bridge of a vnet and the switch, joined by a trunk; access ports on both.
#[test]
fn a_vlan_aware_bridge_and_the_switch_share_a_trunk() {
    let Some(ovs) = Ovs::start() else { return };
    let system = System::threads();
    let hosts = [5, 6].map(|vid| {
        let address = format!("192.0.2.{vid}/24");
        host(
            &ovs,
            &system,
            &format!("far{vid}"),
            &address,
            &format!("tag={vid}"),
        )
    });
    let switch = system.create("switch").unwrap();
    switch.bridge("bridge0").unwrap();
    let config = BridgeConfig {
        vlans: Some(BridgeVlans::default()),
        ..BridgeConfig::default()
    };
    switch.set_bridge("bridge0", config).unwrap();
    let member = |name: &str, vlans: MemberVlans| {
        let config = MemberConfig {
            vlans,
            ..MemberConfig::default()
        };
        switch.add_member("bridge0", name).unwrap();
        switch.set_member("bridge0", name, config).unwrap();
    };
    let _tap = ovs.port(&switch, "trunk", "trunk", "trunks=5,6");
    member("trunk", MemberVlans::trunk("5,6".parse().unwrap()));
    let near = [5, 6].map(|vid| {
        let near = system.create(&format!("near{vid}")).unwrap();
        near.epair("eth0", &switch, &format!("port{vid}")).unwrap();
        add_address(&near, "eth0", &format!("192.0.2.{}/24", 100 + vid));
        member(&format!("port{vid}"), MemberVlans::access(vid));
        near
    });
    for (n, vid) in [5, 6].into_iter().enumerate() {
        comes_to_reach(&ovs, &near[n], &format!("192.0.2.{vid}"));
        comes_to_reach(&ovs, &hosts[n].vnet, &format!("192.0.2.{}", 100 + vid));
        assert!(!reaches(&near[n], &format!("192.0.2.{}", 11 - vid)));
    }
}

/// The switch puts a provider's tag around a customer's.
#[test]
fn a_tag_in_a_tag_is_understood_both_ways() {
    let Some(ovs) = Ovs::start() else { return };
    let system = System::threads();
    let (customer, provider) = (
        system.create("customer").unwrap(),
        system.create("provider").unwrap(),
    );
    let tunnel = "vlan_mode=dot1q-tunnel tag=100 other_config:qinq-ethtype=802.1ad";
    let _taps = [
        ovs.port(&customer, "eth0", "customer", tunnel),
        ovs.port(&provider, "eth0", "provider", "trunks=100"),
    ];
    customer.vlan("eth0", "c5", VlanConfig::dot1q(5)).unwrap();
    provider
        .vlan("eth0", "s100", VlanConfig::dot1ad(100))
        .unwrap();
    provider.vlan("s100", "c5", VlanConfig::dot1q(5)).unwrap();
    add_address(&customer, "c5", "192.0.2.1/24");
    add_address(&provider, "c5", "192.0.2.2/24");
    comes_to_reach(&ovs, &customer, "192.0.2.2");
    comes_to_reach(&ovs, &provider, "192.0.2.1");
}

#[test]
fn the_spanning_tree_has_its_root_on_either_side_and_survives_a_cut() {
    for root_is_ours in [true, false] {
        let Some(ovs) = Ovs::start() else { return };
        let system = System::threads();
        let (ours, theirs) = match root_is_ours {
            true => (0x1000, 0x8000),
            false => (0x8000, 0x1000),
        };
        ovs.vsctl(&format!(
            "set bridge br0 rstp_enable=true other_config:rstp-priority={theirs}"
        ));
        let far = host(&ovs, &system, "far", "192.0.2.2/24", "");
        let switch = system.create("switch").unwrap();
        switch.bridge("bridge0").unwrap();
        let rstp = RstpConfig {
            priority: ours,
            ..RstpConfig::default()
        };
        let config = BridgeConfig {
            stp: Some(rstp),
            ..BridgeConfig::default()
        };
        switch.set_bridge("bridge0", config).unwrap();
        add_address(&switch, "bridge0", "192.0.2.1/24");
        let _taps = ["link0", "link1"].map(|name| {
            let tap = ovs.port(&switch, name, name, "");
            switch.add_member("bridge0", name).unwrap();
            tap
        });
        let roles = || {
            let ports = switch.bridge_info("bridge0").unwrap().stp.unwrap().ports;
            ports
                .into_iter()
                .map(|p| (p.role, p.state))
                .collect::<Vec<_>>()
        };
        let expected = match root_is_ours {
            true => [(StpRole::Designated, StpState::Forwarding); 2],
            false => [
                (StpRole::Root, StpState::Forwarding),
                (StpRole::Alternate, StpState::Discarding),
            ],
        };
        let took = ovs.wait_for("the tree stands", |ovs| {
            let shown = ovs.appctl("rstp/show br0");
            let blocked = shown.matches("Alternate").count();
            let mut roles = roles();
            roles.sort_by_key(|(role, _)| *role != StpRole::Root);
            roles == expected && blocked == usize::from(root_is_ours)
        });
        eprintln!("root ours: {root_is_ours}; the tree stands after {took:?}");
        comes_to_reach(&ovs, &switch, "192.0.2.2");
        comes_to_reach(&ovs, &far.vnet, "192.0.2.1");
        // The link in use is cut at the switch's end; ours has a carrier still.
        let ports = switch.bridge_info("bridge0").unwrap().stp.unwrap().ports;
        let in_use = match root_is_ours {
            false => ports
                .iter()
                .find(|p| p.role == StpRole::Root)
                .unwrap()
                .name
                .clone(),
            true => {
                let shown = ovs.appctl("rstp/show br0");
                let root = shown
                    .lines()
                    .find(|l| l.contains("Root ") && l.contains("link"));
                let words = root.unwrap_or_else(|| panic!("no root port: {shown}"));
                words.split_whitespace().next().unwrap().to_owned()
            }
        };
        ovs.ns.ip(&format!("link set {in_use} down")).unwrap();
        let took = comes_to_reach(&ovs, &switch, "192.0.2.2");
        eprintln!("root ours: {root_is_ours}; {in_use} is cut, and reached again after {took:?}");
        comes_to_reach(&ovs, &far.vnet, "192.0.2.1");
    }
}

/// A lagg of two TAPs, and whatever is at its other end.
fn lagg(ovs: &Ovs, system: &System, mode: LaggMode) -> (OwnedVnet, [Tap; 2]) {
    let vnet = system.create("lagged").unwrap();
    let config = LaggConfig {
        mode,
        fast: Switchable::On,
        ..LaggConfig::default()
    };
    vnet.lagg("lagg0", config).unwrap();
    add_address(&vnet, "lagg0", "192.0.2.1/24");
    let taps = ["link0", "link1"].map(|name| {
        let tap = ovs.tap(&vnet, name, name);
        vnet.add_member("lagg0", name).unwrap();
        tap
    });
    (vnet, taps)
}

fn sending(vnet: &Vnet) -> Vec<String> {
    let members = vnet.lagg_info("lagg0").unwrap().members;
    let sending = members.into_iter().filter(|m| m.sends && m.receives);
    sending.map(|m| m.name).collect()
}

#[test]
fn lacp_agrees_whoever_speaks_first_and_a_link_can_be_cut() {
    for (mode, theirs) in [
        (LaggMode::LacpActive, "active"),
        (LaggMode::LacpActive, "passive"),
        (LaggMode::LacpPassive, "active"),
    ] {
        let Some(ovs) = Ovs::start() else { return };
        let system = System::threads();
        let far = host(&ovs, &system, "far", "192.0.2.2/24", "");
        let (vnet, _taps) = lagg(&ovs, &system, mode);
        ovs.vsctl(&format!(
            "add-bond br0 bond0 link0 link1 lacp={theirs} bond_mode=balance-tcp other_config:lacp-time=fast"
        ));
        let took = ovs.wait_for("both links are agreed on", |ovs| {
            let shown = ovs.appctl("bond/show bond0");
            sending(&vnet) == ["link0", "link1"]
                && shown.contains("lacp_status: negotiated")
                && shown.matches(": enabled").count() == 2
        });
        eprintln!("ours {mode:?}, theirs {theirs}: agreed after {took:?}");
        comes_to_reach(&ovs, &vnet, "192.0.2.2");
        comes_to_reach(&ovs, &far.vnet, "192.0.2.1");
        let partner = vnet.lagg_info("lagg0").unwrap().members[0].partner.unwrap();
        assert_eq!(partner.state & 0x3c, 0x3c, "{partner:?}");

        // Ours goes down at once; theirs is told, for the other end of a TAP does not hear of it.
        vnet.set_up("link0", AdminState::Down).unwrap();
        assert_eq!(sending(&vnet), ["link1"]);
        let took = comes_to_reach(&ovs, &far.vnet, "192.0.2.1");
        eprintln!("a link is cut, and we are reached again after {took:?}");
        ovs.wait_for("the switch gives the link up", |ovs| {
            ovs.appctl("bond/show bond0").matches(": enabled").count() == 1
        });
        vnet.set_up("link0", AdminState::Up).unwrap();
        ovs.wait_for("both links are in use again", |ovs| {
            sending(&vnet).len() == 2
                && ovs.appctl("bond/show bond0").matches(": enabled").count() == 2
        });
        comes_to_reach(&ovs, &vnet, "192.0.2.2");
    }
}

/// Two that only answer agree on nothing.
#[test]
fn lacp_needs_one_that_speaks_first() {
    let Some(ovs) = Ovs::start() else { return };
    let system = System::threads();
    let (vnet, _taps) = lagg(&ovs, &system, LaggMode::LacpPassive);
    ovs.vsctl("add-bond br0 bond0 link0 link1 lacp=passive bond_mode=balance-tcp");
    assert!(!reaches(&vnet, "192.0.2.2"));
    let info = vnet.lagg_info("lagg0").unwrap();
    assert!(
        info.members.iter().all(|m| m.pdus_out == 0 && !m.sends),
        "{info:?}"
    );
    let lagg0 = vnet.interfaces().unwrap();
    let lagg0 = lagg0.iter().find(|i| i.name == "lagg0").unwrap();
    assert_eq!(lagg0.carrier, Carrier::Down);
}

/// Runs `ip` commands in a namespace until one fails, which is said aloud: not every kernel has every kind
/// of device.
fn kernel_has(ns: &NetNs, commands: &[&str]) -> bool {
    let failed = commands.iter().find_map(|c| ns.ip(c).err());
    if let Some(why) = &failed {
        without_device(why);
    }
    failed.is_none()
}

fn tap_in(ns: &NetNs, vnet: &Vnet, name: &'static str) -> Tap {
    let inside = vnet.clone();
    let config = TapConfig {
        host_name: Some(name.to_owned()),
        ..TapConfig::default()
    };
    ns.run(move || Tap::attach(&inside, name, config)).unwrap()
}

fn namespace() -> Option<NetNs> {
    let ns = NetNs::new().map_err(|e| without_tap(&e)).ok()?;
    let probed = ns.run(vnet_tap::probe);
    probed.map_err(|e| without_tap(&e)).ok()?;
    Some(ns)
}

fn comes_to_be_reached(from: &Vnet, to: &str) {
    let answered = (0..60).any(|_| reaches(from, to));
    assert!(answered, "{} does not reach {to}", from.name());
}

/// The kernel's own bonding, where it has any.
#[test]
fn the_kernels_bond_agrees_as_well() {
    let Some(ns) = namespace() else { return };
    if !kernel_has(
        &ns,
        &["link add bond0 type bond mode 802.3ad miimon 100 lacp_rate fast"],
    ) {
        return;
    }
    let system = System::threads();
    let (vnet, names) = (system.create("lagged").unwrap(), ["link0", "link1"]);
    let config = LaggConfig {
        fast: Switchable::On,
        ..LaggConfig::default()
    };
    vnet.lagg("lagg0", config).unwrap();
    add_address(&vnet, "lagg0", "192.0.2.1/24");
    let _taps = names.map(|name| {
        let tap = tap_in(&ns, &vnet, name);
        vnet.add_member("lagg0", name).unwrap();
        ns.ip(&format!("link set {name} down")).unwrap();
        ns.ip(&format!("link set {name} master bond0")).unwrap();
        tap
    });
    ns.ip("addr add 192.0.2.2/24 dev bond0").unwrap();
    ns.ip("link set bond0 up").unwrap();
    comes_to_be_reached(&vnet, "192.0.2.2");
    vnet.set_up("link0", AdminState::Down).unwrap();
    comes_to_be_reached(&vnet, "192.0.2.2");
}

/// The kernel's own bridge, where it has any: it speaks the older spanning tree protocol.
#[test]
fn the_kernels_bridge_and_ours_make_one_tree() {
    let Some(ns) = namespace() else { return };
    let bridge =
        "link add br0 type bridge stp_state 1 forward_delay 400 hello_time 100 max_age 600";
    if !kernel_has(
        &ns,
        &[bridge, "addr add 192.0.2.2/24 dev br0", "link set br0 up"],
    ) {
        return;
    }
    let system = System::threads();
    let switch = system.create("switch").unwrap();
    switch.bridge("bridge0").unwrap();
    let config = BridgeConfig {
        stp: Some(RstpConfig::default()),
        ..BridgeConfig::default()
    };
    switch.set_bridge("bridge0", config).unwrap();
    add_address(&switch, "bridge0", "192.0.2.1/24");
    let _taps = ["link0", "link1"].map(|name| {
        let tap = tap_in(&ns, &switch, name);
        switch.add_member("bridge0", name).unwrap();
        ns.ip(&format!("link set {name} master br0")).unwrap();
        ns.ip(&format!("link set {name} up")).unwrap();
        tap
    });
    comes_to_be_reached(&switch, "192.0.2.2");
    // What a port speaks is settled three seconds after it has come up.
    let speaks_rstp = |_: &u32| {
        let ports = switch.bridge_info("bridge0").unwrap().stp.unwrap().ports;
        std::thread::sleep(Duration::from_millis(100));
        ports.iter().any(|p| p.speaks_rstp)
    };
    assert!((0..600).take_while(speaks_rstp).count() < 600);
    ns.ip("link set link0 down").unwrap();
    comes_to_be_reached(&switch, "192.0.2.2");
}

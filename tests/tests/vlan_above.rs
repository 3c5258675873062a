//! Promise: whoever stands on a bridge's interface by a VLAN is a station of the bridge like those behind its
//! members: an interface with a MAC address of its own, another bridge and all that is behind it, another vnet.

use std::time::Duration;

use vnet::{BridgeConfig, BridgeVlans, MacAddr, MemberVlans, OwnedVnet, System, VlanConfig, Vnet};
use vnet_tests::accounts::{assert_clean, assert_conserved};
use vnet_tests::reach::reaches;
use vnet_tests::topology::vnet;

/// A vnet with a bridge.
fn switch(system: &System, name: &str, vlans: Option<BridgeVlans>) -> OwnedVnet {
    let v = vnet(system, name);
    add_bridge(&v, "bridge0", vlans);
    v
}

fn add_bridge(v: &Vnet, name: &str, vlans: Option<BridgeVlans>) {
    v.bridge(name).unwrap();
    let config = BridgeConfig {
        vlans,
        ..BridgeConfig::default()
    };
    v.set_bridge(name, config).unwrap();
}

/// A host with an address behind a member of a bridge, with a tag or without.
fn host(system: &System, at: (&Vnet, &str), address: &str, vid: Option<u16>) -> OwnedVnet {
    let (switch, bridge) = at;
    let name = format!("h{}", address.replace('.', "-").replace("/24", ""));
    let host = vnet(system, &name);
    host.epair("eth0", switch, &name).unwrap();
    switch.add_member(bridge, &name).unwrap();
    let mut interface = "eth0".to_owned();
    if let Some(vid) = vid {
        interface = format!("v{vid}");
        host.vlan("eth0", &interface, VlanConfig::dot1q(vid))
            .unwrap();
    }
    host.add_address(&interface, address.parse().unwrap())
        .unwrap();
    host
}

/// All VLANs, tagged, for the vnet itself.
fn aware(host: &str) -> Option<BridgeVlans> {
    Some(BridgeVlans {
        host: MemberVlans::trunk(host.parse().unwrap()),
        ..BridgeVlans::default()
    })
}

fn set_vlans(switch: &Vnet, member: &str, vlans: MemberVlans) {
    let config = vnet::MemberConfig {
        vlans,
        ..vnet::MemberConfig::default()
    };
    switch.set_member("bridge0", member, config).unwrap();
}

fn end(all: impl IntoIterator<Item = OwnedVnet>) {
    for v in all {
        assert_conserved(&v);
        assert_clean(&v.destroy());
    }
}

#[test]
fn a_vlan_interface_has_a_mac_address_of_its_own() {
    for vlans in [None, aware("10")] {
        let system = System::virtual_time(1);
        let s = switch(&system, "s", vlans.clone());
        let a = host(&system, (&s, "bridge0"), "192.0.2.1/24", Some(10));
        let b = host(&system, (&s, "bridge0"), "192.0.2.2/24", Some(10));
        if vlans.is_some() {
            for member in ["h192-0-2-1", "h192-0-2-2"] {
                set_vlans(&s, member, MemberVlans::trunk("10".parse().unwrap()));
            }
        }
        s.vlan("bridge0", "vlan10", VlanConfig::dot1q(10)).unwrap();
        s.add_address("vlan10", "192.0.2.9/24".parse().unwrap())
            .unwrap();
        assert!(reaches(&a, "192.0.2.9"));
        s.set_mac("vlan10", MacAddr([2, 0x77, 0, 0, 0, 1])).unwrap();
        // It says so to everybody.
        system.sleep(Duration::from_millis(1)).unwrap();
        assert!(reaches(&a, "192.0.2.9") && reaches(&s, "192.0.2.2"));
        // Once its station is known, others do not hear what is for it.
        let heard = |v: &Vnet| v.interfaces().unwrap()[1].counters.rx_frames;
        let before = heard(&b);
        assert!(reaches(&a, "192.0.2.9"));
        assert_eq!(heard(&b), before);
        // Nor does it matter that the bridge has forgotten it.
        s.flush_stations("bridge0").unwrap();
        assert!(reaches(&a, "192.0.2.9"));
        end([s, a, b]);
    }
}

#[test]
fn a_bridge_above_a_bridge_leads_both_ways() {
    for (lent, vlans) in [
        (false, None),
        (true, None),
        (false, aware("10")),
        (true, aware("10")),
    ] {
        let system = System::virtual_time(1);
        let s = switch(&system, "s", vlans.clone());
        let other = vnet(&system, "other");
        let upper: &Vnet = if lent { &other } else { &s };
        s.vlan_in("bridge0", upper, "up", VlanConfig::dot1q(10))
            .unwrap();
        add_bridge(upper, "bridge1", None);
        upper.add_member("bridge1", "up").unwrap();
        let below = host(&system, (&s, "bridge0"), "192.0.2.1/24", Some(10));
        let above = host(&system, (upper, "bridge1"), "192.0.2.2/24", None);
        if vlans.is_some() {
            set_vlans(&s, "h192-0-2-1", MemberVlans::trunk("10".parse().unwrap()));
        }
        assert!(reaches(&below, "192.0.2.2"), "lent: {lent}, {vlans:?}");
        assert!(reaches(&above, "192.0.2.1"), "lent: {lent}, {vlans:?}");
        let stations = s.stations("bridge0").unwrap();
        let up = stations.iter().filter(|s| s.interface == "bridge0");
        assert_eq!(up.count(), 2, "the bridge itself, and who is above it");
        end([below, above, other, s]);
    }
}

#[test]
fn a_guest_is_reached_whatever_address_the_bridge_gets() {
    let system = System::virtual_time(1);
    let s = switch(&system, "s", None);
    let guest = vnet(&system, "guest");
    s.vlan_in("bridge0", &guest, "lan0", VlanConfig::dot1q(10))
        .unwrap();
    guest
        .add_address("lan0", "192.0.2.9/24".parse().unwrap())
        .unwrap();
    let a = host(&system, (&s, "bridge0"), "192.0.2.1/24", Some(10));
    assert!(reaches(&a, "192.0.2.9"));
    s.set_mac("bridge0", MacAddr([2, 0x77, 0, 0, 0, 2]))
        .unwrap();
    assert!(reaches(&a, "192.0.2.9") && reaches(&guest, "192.0.2.1"));
    end([a, guest, s]);
}

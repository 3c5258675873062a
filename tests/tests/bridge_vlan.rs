//! Promise: a bridge that tells VLANs apart keeps each frame in its VLAN, and says why it drops one.

use vnet::{
    AdminError, BridgeConfig, BridgeVlans, DropReason, MacAddr, MemberConfig, MemberVlans,
    OwnedVnet, Privilege, RstpConfig, StpState, Switchable, System, TagPolicy, Tpid, VidSet,
    VlanConfig, VlanLearning, Vnet,
};
use vnet_tests::accounts::{assert_clean, assert_conserved};
use vnet_tests::bridge::{Bench, EVERYONE, OTHER, station};
use vnet_tests::frames::{ethernet, tagged};
use vnet_tests::reach::reaches;
use vnet_tests::topology::vnet;

const Q: u16 = 0x8100;
const AD: u16 = 0x88a8;

fn set(text: &str) -> VidSet {
    text.parse().expect("a set of VIDs")
}

/// A trunk with a native VLAN.
fn native(vid: u16, tagged: &str) -> MemberVlans {
    MemberVlans {
        pvid: Some(vid),
        untagged: [vid].into_iter().collect(),
        ..MemberVlans::trunk(set(tagged))
    }
}

fn configure(vnet: &Vnet, member: &str, vlans: MemberVlans) {
    let config = MemberConfig {
        vlans,
        ..MemberConfig::default()
    };
    vnet.set_member("bridge0", member, config).unwrap();
}

/// A bridge that tells VLANs apart, with a member for each of these.
fn bench(members: &[MemberVlans]) -> Bench {
    let b = Bench::new(members.len());
    b.config(|c| c.vlans = Some(BridgeVlans::default()));
    for (n, vlans) in members.iter().enumerate() {
        configure(&b.vnet, &format!("p{n}"), vlans.clone());
    }
    b
}

/// Sends a frame to a station with these tags, and says by which ports and with which tags it left.
fn send_to(b: &Bench, from: usize, dst: [u8; 6], src: u8, tags: &[(u16, u16)]) -> Vec<String> {
    let plain = ethernet(dst, station(src), OTHER, b"payload");
    b.ports[from].send(tagged(&plain, tags)).unwrap();
    b.system.poll(b.system.now());
    assert_conserved(&b.vnet);
    let mut out = Vec::new();
    for (n, port) in b.ports.iter().enumerate() {
        while let Some(seen) = port.recv() {
            let seen = seen.to_vec();
            let tags = seen.len() - plain.len();
            assert_eq!(seen[..12], plain[..12], "the addresses");
            assert_eq!(seen[12 + tags..], plain[12..], "the rest");
            let words = seen[12..12 + tags].chunks(4).map(|tag| {
                let [a, b, c, d] = [tag[0], tag[1], tag[2], tag[3]].map(u16::from);
                let (tpid, tci) = (a << 8 | b, c << 8 | d);
                format!(" {tpid:04x}:{}/{}", tci & 0xfff, tci >> 12)
            });
            out.push(format!("p{n}{}", words.collect::<String>()));
        }
    }
    out
}

fn send(b: &Bench, from: usize, tags: &[(u16, u16)]) -> Vec<String> {
    send_to(b, from, EVERYONE, 1, tags)
}

fn dropped(b: &Bench) -> u64 {
    b.drops(DropReason::VlanFiltered)
}

#[test]
fn a_frame_stays_in_its_vlan_and_is_tagged_where_that_is_said() {
    let b = bench(&[
        MemberVlans::access(10),
        MemberVlans::access(10),
        MemberVlans::access(20),
        MemberVlans::trunk(set("10,20-30")),
        native(20, "10"),
    ]);
    assert_eq!(send(&b, 0, &[]), ["p1", "p3 8100:10/0", "p4 8100:10/0"]);
    assert_eq!(send(&b, 2, &[]), ["p3 8100:20/0", "p4"]);
    assert_eq!(send(&b, 3, &[(Q, 10)]), ["p0", "p1", "p4 8100:10/0"]);
    // Priority and drop eligibility stay with the frame where it has a tag.
    assert_eq!(send(&b, 3, &[(Q, 0xf00a)])[2], "p4 8100:10/15");
    assert_eq!(send(&b, 4, &[]), ["p2", "p3 8100:20/0"]);
    // IEEE 802.1Q-2018, clause 6.9: VID 0 is only a priority.
    assert_eq!(send(&b, 4, &[(Q, 0xa000)]), ["p2", "p3 8100:20/10"]);
    assert_eq!(send(&b, 0, &[(Q, 0xa000)])[1], "p3 8100:10/10");
    assert_eq!(dropped(&b), 0);
    let nothing: [&str; 0] = [];
    assert_eq!(send(&b, 3, &[(Q, 25)]), nothing, "nobody else is there");
    assert_eq!(b.drops(DropReason::BridgeFiltered), 1);
    assert_clean(&b.vnet.destroy());
}

#[test]
fn what_is_in_no_vlan_is_dropped_with_a_reason() {
    let b = bench(&[
        MemberVlans::access(10),
        MemberVlans::trunk(set("10,20")),
        native(10, "20"),
    ]);
    let bad: [(usize, &[(u16, u16)]); 7] = [
        // An access port takes no tags, not even those of its own VLAN.
        (0, &[(Q, 10)]),
        (0, &[(Q, 20)]),
        // A trunk without a native VLAN takes nothing without one.
        (1, &[]),
        (1, &[(Q, 0)]),
        // VLANs that the trunk does not carry, and one that there cannot be.
        (1, &[(Q, 11)]),
        (2, &[(Q, 11)]),
        (2, &[(Q, 4095)]),
    ];
    for (n, (from, tags)) in bad.into_iter().enumerate() {
        assert!(send(&b, from, tags).is_empty(), "{tags:?}");
        assert_eq!(dropped(&b), n as u64 + 1, "{tags:?}");
    }
    let counters = b.vnet.bridge_info("bridge0").unwrap().counters;
    assert_eq!((counters.vlan_filtered, counters.received), (7, 7));
    assert_eq!(counters.learned, 0, "nobody is learned from them");
    // A tag of another protocol is no tag to this bridge.
    assert_eq!(send(&b, 0, &[(AD, 20)])[0], "p1 8100:10/0 88a8:20/0");
    // Without the filter, a VLAN in which the member is not goes in, but never out.
    let open = MemberVlans {
        ingress_filter: Switchable::Off,
        ..MemberVlans::trunk(set("10"))
    };
    configure(&b.vnet, "p1", open);
    assert_eq!(send(&b, 1, &[(Q, 20)]), ["p2 8100:20/0"]);
    assert!(send(&b, 2, &[(Q, 20)]).is_empty());
    assert!(send(&b, 1, &[(Q, 4095)]).is_empty());
}

#[test]
fn a_tag_behind_another_leads_into_no_other_vlan() {
    let b = bench(&[
        MemberVlans::access(1),
        MemberVlans::default(),
        native(1, "10"),
        MemberVlans::trunk(set("1,10")),
        MemberVlans::tunnel(1),
    ]);
    b.vnet
        .vlan("bridge0", "vlan10", VlanConfig::dot1q(10))
        .unwrap();
    let heard = || b.vnet.interfaces().unwrap().pop().unwrap();
    let nothing: [&str; 0] = [];
    // By a priority tag, a member that refuses tags would have one let in.
    assert_eq!(send(&b, 0, &[(Q, 0), (Q, 10)]), nothing);
    assert_eq!(send(&b, 0, &[(Q, 0), (Q, 0)]), nothing);
    assert_eq!(dropped(&b), 2);
    // The frame is in VLAN 1, and leaves only where it is not in VLAN 10 afterwards: with both tags, or
    // where tags mean nothing.
    let stacked = ["p3 8100:1/0 8100:10/0", "p4 8100:10/0"];
    assert_eq!(send(&b, 1, &[(Q, 1), (Q, 10)]), stacked);
    assert_eq!(send(&b, 1, &[(Q, 0), (Q, 10)]), stacked);
    // Another protocol's tags are none of the bridge's business, and nobody looks behind them.
    let passed = send(&b, 0, &[(AD, 0), (Q, 10)]);
    assert_eq!(passed[1], "p2 88a8:0/0 8100:10/0");
    let heard = heard();
    assert_eq!((&*heard.name, heard.counters.rx_frames), ("vlan10", 0));
    assert_conserved(&b.vnet);
}

#[test]
fn truncated_tags_are_malformed_and_go_nowhere() {
    let b = bench(&[native(10, "20"), native(10, "20")]);
    let whole = tagged(&ethernet(EVERYONE, station(1), OTHER, &[]), &[(Q, 20)]);
    for len in 14..whole.len() {
        b.ports[0].send(whole[..len].to_vec()).unwrap();
        b.system.poll(b.system.now());
        assert!(b.ports[1].recv().is_none(), "{len}");
    }
    assert_eq!(b.drops(DropReason::Malformed), whole.len() as u64 - 14);
    assert_conserved(&b.vnet);
}

#[test]
fn each_vlan_has_its_own_stations_unless_they_share() {
    let b = bench(&[
        MemberVlans::trunk(set("10,20")),
        MemberVlans::trunk(set("10,20")),
        MemberVlans::trunk(set("10,20")),
    ]);
    // The same station in two VLANs, on different sides.
    send(&b, 0, &[(Q, 10)]);
    send(&b, 1, &[(Q, 20)]);
    let to_one = |vid| send_to(&b, 2, station(1), 2, &[(Q, vid)]);
    assert_eq!(to_one(10), ["p0 8100:10/0"]);
    assert_eq!(to_one(20), ["p1 8100:20/0"]);
    let known = b.vnet.stations("bridge0").unwrap();
    let known = known.iter().filter(|s| s.mac == MacAddr(station(1)));
    let known: Vec<_> = known.map(|s| (s.vid, s.interface.as_str())).collect();
    assert_eq!(known, [(Some(10), "p0"), (Some(20), "p1")]);

    let shared = BridgeVlans {
        learning: VlanLearning::Shared,
        ..BridgeVlans::default()
    };
    b.config(|c| c.vlans = Some(shared));
    assert!(
        b.learned().is_empty(),
        "what was learned before is forgotten"
    );
    send(&b, 0, &[(Q, 10)]);
    assert_eq!(to_one(20), ["p0 8100:20/0"], "learned in another VLAN");
    // But a member gets nothing of a VLAN in which it is not.
    configure(&b.vnet, "p0", MemberVlans::trunk(set("10")));
    send(&b, 0, &[(Q, 10)]);
    assert!(to_one(20).is_empty());
    assert_eq!(dropped(&b), 1);
}

#[test]
fn there_is_a_limit_to_what_is_learned_in_each_vlan() {
    let trunk = || MemberVlans::trunk(set("10,20"));
    let b = bench(&[trunk(), trunk()]);
    b.config(|c| {
        c.vlans = Some(BridgeVlans {
            max_stations: Some(2),
            ..BridgeVlans::default()
        });
    });
    for (vid, src) in [(10, 1), (10, 2), (10, 3), (20, 3), (20, 4)] {
        let seen = send_to(&b, 0, EVERYONE, src, &[(Q, vid)]);
        assert_eq!(seen.len(), 1, "what is not learned passes all the same");
    }
    let known = b.vnet.stations("bridge0").unwrap();
    let known = known.iter().filter_map(|s| Some((s.vid?, s.mac.0[5])));
    let known: std::collections::BTreeSet<_> = known.collect();
    assert_eq!(known, [(10, 1), (10, 2), (20, 3), (20, 4)].into());
    let counters = b.vnet.bridge_info("bridge0").unwrap().counters;
    assert_eq!((counters.table_full, counters.learned), (1, 4));
}

#[test]
fn a_static_station_is_in_one_vlan_or_in_all() {
    let b = bench(&[
        MemberVlans::trunk(set("10,20")),
        MemberVlans::trunk(set("10,20")),
        MemberVlans::trunk(set("10,20,30")),
    ]);
    let v = &b.vnet;
    let mac = MacAddr(station(1));
    v.add_station("bridge0", "p1", mac, Some(10)).unwrap();
    let to_one = |vid| send_to(&b, 2, station(1), 2, &[(Q, vid)]);
    assert_eq!(to_one(10), ["p1 8100:10/0"]);
    assert_eq!(to_one(20), ["p0 8100:20/0", "p1 8100:20/0"]);
    v.add_station("bridge0", "p0", mac, None).unwrap();
    assert_eq!(to_one(10), ["p1 8100:10/0"]);
    assert_eq!(to_one(20), ["p0 8100:20/0"]);
    assert!(to_one(30).is_empty(), "p0 is not in that VLAN");
    assert_eq!(dropped(&b), 1);
    let unknown = v.remove_station("bridge0", mac, Some(20));
    assert_eq!(unknown, Err(AdminError::NoSuchStation(mac)));
    let range = v.add_station("bridge0", "p0", mac, Some(0));
    assert!(matches!(range, Err(AdminError::Config(e)) if e.setting == "vid"));
    v.remove_station("bridge0", mac, None).unwrap();
    assert_eq!(to_one(20).len(), 2);
    v.remove_station("bridge0", mac, Some(10)).unwrap();
    assert_eq!(to_one(10).len(), 2);
}

#[test]
fn a_tunnel_carries_a_customers_frames_in_a_providers_vlan() {
    let b = bench(&[
        MemberVlans::tunnel(100),
        MemberVlans::tunnel(200),
        MemberVlans::trunk(set("100,200")),
    ]);
    let provider = |b: &Bench| {
        let vlans = BridgeVlans {
            tpid: Tpid::Dot1ad,
            ..BridgeVlans::default()
        };
        b.config(|c| c.vlans = Some(vlans));
    };
    provider(&b);
    let none: [&str; 0] = [];
    assert_eq!(send(&b, 0, &[(Q, 5)]), ["p2 88a8:100/0 8100:5/0"]);
    assert_eq!(send(&b, 1, &[(Q, 5)]), ["p2 88a8:200/0 8100:5/0"]);
    assert_eq!(send(&b, 0, &[]), ["p2 88a8:100/0"]);
    let deep = [(AD, 200), (AD, 200), (Q, 0xf005), (Q, 6)];
    assert_eq!(
        send(&b, 0, &deep),
        ["p2 88a8:100/0 88a8:200/0 88a8:200/0 8100:5/15 8100:6/0"]
    );
    assert_eq!(send(&b, 2, &[(AD, 100), (Q, 5)]), ["p0 8100:5/0"]);
    assert_eq!(
        send(&b, 2, &[(AD, 200), (Q, 5), (AD, 6), (Q, 7)]),
        ["p1 8100:5/0 88a8:6/0 8100:7/0"]
    );
    assert_eq!(send(&b, 2, &[(Q, 100)]), none, "no provider's tag");
    assert_eq!(dropped(&b), 1);
    // The same with the tags of customers, as many switches do it.
    b.config(|c| c.vlans = Some(BridgeVlans::default()));
    assert_eq!(send(&b, 0, &[(Q, 5)]), ["p2 8100:100/0 8100:5/0"]);
    assert_eq!(send(&b, 2, &[(Q, 100), (Q, 200)]), ["p0 8100:200/0"]);
}

/// A host with an address on the VLAN interface `v`, or on its epair.
fn host(system: &System, switch: &Vnet, name: &str, address: &str, tag: Option<u16>) -> OwnedVnet {
    let host = vnet(system, name);
    host.epair("eth0", switch, name).unwrap();
    switch.add_member("bridge0", name).unwrap();
    let interface = match tag {
        Some(vid) => {
            host.vlan("eth0", "v", VlanConfig::dot1q(vid)).unwrap();
            "v"
        }
        None => "eth0",
    };
    host.add_address(interface, address.parse().unwrap())
        .unwrap();
    host
}

#[test]
fn a_vlan_interface_on_a_bridge_is_the_way_in_and_a_router_between_vlans() {
    let system = System::virtual_time(1);
    let s = vnet(&system, "s");
    s.bridge("bridge0").unwrap();
    let vlans = BridgeVlans {
        host: MemberVlans::trunk(set("10,20")),
        ..BridgeVlans::default()
    };
    let config = BridgeConfig {
        vlans: Some(vlans),
        ..BridgeConfig::default()
    };
    s.set_bridge("bridge0", config.clone()).unwrap();
    let a = host(&system, &s, "a", "192.0.2.2/25", None);
    let b = host(&system, &s, "b", "192.0.2.3/25", Some(10));
    let c = host(&system, &s, "c", "192.0.2.130/25", None);
    configure(&s, "a", MemberVlans::access(10));
    configure(&s, "b", MemberVlans::trunk(set("10,30")));
    configure(&s, "c", MemberVlans::access(20));
    for (vid, address) in [(10, "192.0.2.1/25"), (20, "192.0.2.129/25")] {
        let name = format!("vlan{vid}");
        s.vlan("bridge0", &name, VlanConfig::dot1q(vid)).unwrap();
        s.add_address(&name, address.parse().unwrap()).unwrap();
    }
    for (vnet, gateway) in [(&a, "192.0.2.1"), (&b, "192.0.2.1"), (&c, "192.0.2.129")] {
        let gateway: std::net::IpAddr = gateway.parse().unwrap();
        vnet.add_route("0.0.0.0/0".parse().unwrap(), gateway)
            .unwrap();
    }
    assert!(reaches(&a, "192.0.2.3") && reaches(&b, "192.0.2.2"));
    assert!(reaches(&a, "192.0.2.1") && reaches(&c, "192.0.2.129"));
    assert!(reaches(&s, "192.0.2.2") && reaches(&s, "192.0.2.130"));
    assert!(!reaches(&a, "192.0.2.130"), "nobody routes");
    s.set_forwarding(vnet::Forwarding::Enabled).unwrap();
    assert!(reaches(&a, "192.0.2.130") && reaches(&c, "192.0.2.3"));
    for v in [&s, &a, &b, &c] {
        assert_conserved(v);
    }
    // When the vnet is not in a VLAN, it hears and says nothing there.
    let mut without = config.clone();
    without.vlans.as_mut().unwrap().host = MemberVlans::trunk(set("20"));
    s.set_bridge("bridge0", without).unwrap();
    assert!(!reaches(&a, "192.0.2.1") && reaches(&c, "192.0.2.129"));
    assert!(!reaches(&s, "192.0.2.2"));
    assert!(s.stats().unwrap().tx_drops(DropReason::VlanFiltered) > 0);
    let mut detached = config;
    detached.host_port = Switchable::Off;
    s.set_bridge("bridge0", detached).unwrap();
    assert!(!reaches(&c, "192.0.2.129") && reaches(&a, "192.0.2.3"));
    for v in [s, a, b, c] {
        assert_clean(&v.destroy());
    }
}

#[test]
fn the_vnet_itself_is_untagged_where_that_is_said() {
    let system = System::virtual_time(1);
    let s = vnet(&system, "s");
    s.bridge("bridge0").unwrap();
    let config = BridgeConfig {
        vlans: Some(BridgeVlans {
            host: MemberVlans::access(10),
            ..BridgeVlans::default()
        }),
        ..BridgeConfig::default()
    };
    s.set_bridge("bridge0", config).unwrap();
    let a = host(&system, &s, "a", "192.0.2.2/24", Some(10));
    let b = host(&system, &s, "b", "192.0.2.3/24", None);
    configure(&s, "a", MemberVlans::trunk(set("10,20")));
    configure(&s, "b", MemberVlans::access(20));
    s.add_address("bridge0", "192.0.2.1/24".parse().unwrap())
        .unwrap();
    assert!(reaches(&a, "192.0.2.1") && reaches(&s, "192.0.2.2"));
    assert!(!reaches(&b, "192.0.2.1") && !reaches(&s, "192.0.2.3"));
}

#[test]
fn what_is_for_a_members_own_address_does_not_come_in_by_it() {
    let b = bench(&[MemberVlans::access(10), MemberVlans::access(20)]);
    // On its own, a member is in no VLAN, whatever stands on it.
    b.vnet.vlan("p1", "behind", VlanConfig::dot1q(10)).unwrap();
    let members = b.vnet.interfaces().unwrap();
    let of = |name: &str| members.iter().find(|i| i.name == name).unwrap().mac.0;
    for (n, name) in ["p1", "p0", "bridge0"].into_iter().enumerate() {
        assert!(send_to(&b, 0, of(name), 1, &[]).is_empty());
        assert_eq!(b.drops(DropReason::BridgeFiltered), n as u64 + 1);
    }
    // The vnet itself is in VLAN 10 from now on, without tags.
    b.config(|c| c.vlans.as_mut().unwrap().host = MemberVlans::access(10));
    assert!(send_to(&b, 0, of("bridge0"), 1, &[]).is_empty());
    let unknown = b.drops(DropReason::UnknownProtocol);
    assert_eq!((unknown, b.drops(DropReason::BridgeFiltered)), (1, 3));
    assert!(send_to(&b, 1, of("bridge0"), 2, &[]).is_empty());
    assert_eq!(b.drops(DropReason::BridgeFiltered), 4);
}

#[test]
fn a_bridge_with_vlans_runs_a_spanning_tree_on_ports_that_take_only_tags() {
    let system = System::virtual_time(1);
    let switches = ["s0", "s1"].map(|name| vnet(&system, name));
    let config = BridgeConfig {
        stp: Some(RstpConfig::default()),
        vlans: Some(BridgeVlans::default()),
        ..BridgeConfig::default()
    };
    for s in &switches {
        s.bridge("bridge0").unwrap();
        s.set_bridge("bridge0", config.clone()).unwrap();
    }
    for name in ["x", "y"] {
        switches[0].epair(name, &switches[1], name).unwrap();
        for s in &switches {
            s.add_member("bridge0", name).unwrap();
            configure(s, name, MemberVlans::trunk(set("10")));
        }
    }
    system.sleep(std::time::Duration::from_secs(1)).unwrap();
    let idle = |s: &OwnedVnet| {
        let ports = s.bridge_info("bridge0").unwrap().stp.unwrap().ports;
        let discards = |p: &&vnet::StpPortInfo| p.state == StpState::Discarding;
        ports.iter().filter(discards).count()
    };
    assert_eq!(switches.iter().map(idle).sum::<usize>(), 1);
}

#[test]
fn a_providers_spanning_tree_is_none_of_its_customers_business() {
    for (tpid, passes) in [(Tpid::Dot1ad, true), (Tpid::Dot1q, false)] {
        let system = System::virtual_time(1);
        let [provider, a, b] = ["provider", "a", "b"].map(|name| vnet(&system, name));
        let tree = |priority| {
            let config = RstpConfig {
                priority,
                ..RstpConfig::default()
            };
            BridgeConfig {
                stp: Some(config),
                ..BridgeConfig::default()
            }
        };
        for (v, priority) in [(&provider, 0), (&a, 0x4000), (&b, 0x8000)] {
            v.bridge("bridge0").unwrap();
            v.set_bridge("bridge0", tree(priority)).unwrap();
        }
        let mut config = tree(0);
        config.vlans = Some(BridgeVlans {
            tpid,
            ..BridgeVlans::default()
        });
        provider.set_bridge("bridge0", config).unwrap();
        for customer in [&a, &b] {
            customer.epair("up", &provider, customer.name()).unwrap();
            customer.add_member("bridge0", "up").unwrap();
            provider.add_member("bridge0", customer.name()).unwrap();
            configure(&provider, customer.name(), MemberVlans::tunnel(100));
        }
        // Long enough for members that hear nobody.
        system.sleep(std::time::Duration::from_secs(40)).unwrap();
        let root = |v: &OwnedVnet| v.bridge_info("bridge0").unwrap().stp.unwrap().root;
        assert_ne!(root(&a), root(&provider), "{tpid}");
        assert_eq!(root(&a) == root(&b), passes, "{tpid}");
        for v in [&a, &b] {
            v.add_address(
                "bridge0",
                format!("192.0.2.{}/24", v.name().as_bytes()[0])
                    .parse()
                    .unwrap(),
            )
            .unwrap();
        }
        assert!(reaches(&a, "192.0.2.98"), "{tpid}");
        for v in [provider, a, b] {
            assert_conserved(&v);
            assert_clean(&v.destroy());
        }
    }
}

#[test]
fn two_tags_are_in_addition_to_the_mtu_and_more_are_not() {
    let b = bench(&[MemberVlans::default(), MemberVlans::trunk(set("1,7"))]);
    b.vnet.set_ip_mtu("p1", 100).unwrap();
    let sent = |tags: &[(u16, u16)], len: usize| {
        let frame = ethernet(EVERYONE, station(1), OTHER, &vec![1; len]);
        b.ports[0].send(tagged(&frame, tags)).unwrap();
        b.system.poll(b.system.now());
        std::iter::from_fn(|| b.ports[1].recv()).count()
    };
    configure(&b.vnet, "p0", MemberVlans::tunnel(7));
    assert_eq!([sent(&[], 100), sent(&[], 101)], [1, 0]);
    assert_eq!([sent(&[(Q, 5)], 100), sent(&[(Q, 5)], 101)], [1, 0]);
    let three = [(Q, 5), (Q, 6)];
    assert_eq!(
        [sent(&three, 100), sent(&three, 97), sent(&three, 96)],
        [0, 0, 1]
    );
    assert_eq!(b.drops(DropReason::TooBig), 4);
}

#[test]
fn who_may_not_make_interfaces_has_no_other_vlans_either() {
    let system = System::manual(1);
    let house = vnet(&system, "house");
    let flat = house.create_child("flat").unwrap();
    flat.bridge("bridge0").unwrap();
    let _port = flat.port("p0", None).unwrap();
    flat.add_member("bridge0", "p0").unwrap();
    let config = BridgeConfig {
        vlans: Some(BridgeVlans::default()),
        ..BridgeConfig::default()
    };
    flat.set_bridge("bridge0", config.clone()).unwrap();
    flat.set_privileges(Privilege::InterfaceConfig.into())
        .unwrap();
    let tenant: Vnet = flat.clone();
    let denied = |said: Result<(), AdminError>| {
        assert!(matches!(said, Err(AdminError::Denied(_))), "{said:?}");
    };
    let mut other = config.clone();
    other.vlans.as_mut().unwrap().host = MemberVlans::access(20);
    denied(tenant.set_bridge("bridge0", other));
    denied(tenant.set_bridge("bridge0", BridgeConfig::default()));
    let mut member = MemberConfig {
        vlans: MemberVlans::access(20),
        ..MemberConfig::default()
    };
    denied(tenant.set_member("bridge0", "p0", member.clone()));
    // All else is theirs.
    member.vlans = MemberVlans::default();
    member.private = Switchable::On;
    tenant.set_member("bridge0", "p0", member).unwrap();
    let hub = BridgeConfig {
        mode: vnet::BridgeMode::Hub,
        ..config
    };
    tenant.set_bridge("bridge0", hub).unwrap();
}

#[test]
fn vlans_that_cannot_be_are_refused_and_leave_everything_as_it_was() {
    let b = bench(&[MemberVlans::access(10)]);
    let before = b.vnet.bridge_info("bridge0").unwrap();
    let refused = |vlans: MemberVlans, setting: &str| {
        let member = MemberConfig {
            vlans: vlans.clone(),
            ..MemberConfig::default()
        };
        let said = b.vnet.set_member("bridge0", "p0", member);
        assert!(matches!(said, Err(AdminError::Config(e)) if e.setting == setting));
        let mut config = before.config.clone();
        config.vlans.as_mut().unwrap().host = vlans;
        let said = b.vnet.set_bridge("bridge0", config);
        assert!(matches!(said, Err(AdminError::Config(e)) if e.setting == setting));
    };
    refused(MemberVlans::access(0), "untagged");
    refused(MemberVlans::trunk(set("1-4095")), "tagged");
    let both = MemberVlans {
        tagged: set("10"),
        ..MemberVlans::access(10)
    };
    refused(both, "untagged");
    let elsewhere = MemberVlans {
        pvid: Some(11),
        ..MemberVlans::access(10)
    };
    refused(elsewhere, "pvid");
    let shut = MemberVlans {
        tags: TagPolicy::Refuse,
        ..MemberVlans::trunk(set("10"))
    };
    refused(shut, "pvid");
    assert_eq!(b.vnet.bridge_info("bridge0").unwrap(), before);
}

#[test]
fn what_is_learned_goes_when_vlans_change() {
    let b = bench(&[native(10, "20"), native(10, "20")]);
    send(&b, 0, &[]);
    send_to(&b, 1, EVERYONE, 2, &[]);
    assert_eq!(b.learned().len(), 2);
    configure(&b.vnet, "p0", native(20, "10"));
    assert_eq!(b.learned().len(), 1, "only those behind p1");
    b.config(|c| c.vlans = None);
    assert!(b.learned().is_empty());
    // From then on, all tags pass as they are.
    assert_eq!(send(&b, 0, &[(Q, 77)]), ["p1 8100:77/0"]);
}

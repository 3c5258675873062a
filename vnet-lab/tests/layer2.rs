//! What topologies say of the second layer: the examples pass under both drivers, each key does what it says, and what
//! is wrong is shown at its key.

mod running;

use std::sync::Arc;
use std::time::Duration;

use running::{DRIVERS, example, options, passes};
use vnet::{
    BridgeConfig, BridgeInfo, ClassMaps, ClassRule, Inspection, LaggConfig, LaggHash, LaggMode,
    MacAddr, MemberConfig, MemberVlans, RstpConfig, Snooping, StpEdge, StpSegment, Switchable,
    TagPolicy, Tpid, VlanLearning,
};
use vnet_lab::report::{Figures, Layout};
use vnet_lab::run::{Network, Options};
use vnet_lab::{Plan, Topology};

fn plan_of(source: &str) -> Plan {
    let (_, plan) = Topology::parse("x.toml", source).unwrap_or_else(|e| panic!("{e}"));
    plan
}

#[test]
fn the_example_of_a_campus_passes_under_both_drivers() {
    for driver in DRIVERS {
        let report = passes(&example("campus.toml"), &options(driver, 1));
        let Figures::Ping(between_guests) = &report.jobs[2].figures else {
            panic!("{report:?}");
        };
        assert_eq!(between_guests.requests.received, 0, "guests are private");
        let node = |name: &str| {
            let mut vnets = report.vnets.iter();
            vnets.find(|v| v.name == name).expect("it is there")
        };
        let tree = node("core").spanning_tree.as_ref().expect("a tree");
        assert_eq!(tree.bridge, tree.root);
        let watched = node("watcher").received;
        assert!(watched > 20, "it was sent copies: {watched}");
    }
}

#[test]
fn the_example_of_qinq_passes_under_both_drivers() {
    for driver in DRIVERS {
        let report = passes(&example("qinq.toml"), &options(driver, 1));
        let switch = report.vnets.iter().find(|v| v.name == "p1");
        let vids: Vec<u16> = switch
            .iter()
            .flat_map(|v| &v.vlans)
            .map(|v| v.vid)
            .collect();
        assert_eq!(vids, [100, 200]);
    }
}

fn bridge_of(seen: &Inspection) -> &BridgeInfo {
    let mut bridges = seen.interfaces.iter().filter_map(|i| i.bridging.as_ref());
    bridges.next().expect("it has a bridge")
}

/// A host and a switch with a port of which this is said, and the switch itself.
fn port(switch: &str, port: &str) -> String {
    format!(
        "hosts = ['a']\nnode.s = {{ kind = 'switch'{switch} }}\n\
         link = [{{ ends = ['a 192.0.2.1/24', {{ node = 's'{port} }}] }}]"
    )
}

#[test]
fn every_key_of_a_port_comes_to_what_the_library_has() {
    use Switchable::{Off, On};
    let plain = MemberConfig::default();
    let vlans = |vlans: MemberVlans| MemberConfig {
        vlans,
        ..MemberConfig::default()
    };
    let tree = |change: fn(&mut MemberConfig)| {
        let mut config = MemberConfig::default();
        change(&mut config);
        config
    };
    let set = |text: &str| text.parse().expect("a set of VIDs");
    let cases = [
        (
            "learn = false",
            MemberConfig {
                learn: Off,
                ..plain.clone()
            },
        ),
        (
            "discover = false",
            MemberConfig {
                discover: Off,
                ..plain.clone()
            },
        ),
        (
            "private = true",
            MemberConfig {
                private: On,
                ..plain.clone()
            },
        ),
        (
            "broadcast = false",
            MemberConfig {
                broadcast: Off,
                ..plain.clone()
            },
        ),
        (
            "multicast = false",
            MemberConfig {
                multicast: Off,
                ..plain.clone()
            },
        ),
        (
            "router = true",
            MemberConfig {
                router: On,
                ..plain.clone()
            },
        ),
        (
            "span = true",
            MemberConfig {
                span: On,
                ..plain.clone()
            },
        ),
        (
            "sticky = true, max_stations = 3",
            MemberConfig {
                sticky: On,
                max_stations: Some(3),
                ..plain.clone()
            },
        ),
        (
            "access = 5, max_stations_per_vlan = 3",
            MemberConfig {
                max_stations_in_vlan: Some(3),
                ..vlans(MemberVlans::access(5))
            },
        ),
        (
            "storm = { broadcast = 7 }",
            tree(|c| c.storm.broadcast = 7.try_into().ok()),
        ),
        (
            "storm = { multicast = 7 }",
            tree(|c| c.storm.multicast = 7.try_into().ok()),
        ),
        (
            "storm = { unknown = 7 }",
            tree(|c| c.storm.unknown = 7.try_into().ok()),
        ),
        ("stp = { priority = 16 }", tree(|c| c.rstp.priority = 16)),
        (
            "stp = { path_cost = 5 }",
            tree(|c| c.rstp.path_cost = 5.try_into().ok()),
        ),
        ("stp = { edge = 'no' }", tree(|c| c.rstp.edge = StpEdge::No)),
        ("stp = { edge = 'auto' }", plain.clone()),
        (
            "stp = { segment = 'shared' }",
            tree(|c| c.rstp.segment = StpSegment::Shared),
        ),
        (
            "stp = { bpdu_guard = true }",
            tree(|c| c.rstp.bpdu_guard = On),
        ),
        (
            "stp = { root_guard = true }",
            tree(|c| c.rstp.root_guard = On),
        ),
        ("access = 5", vlans(MemberVlans::access(5))),
        ("trunk = '5-7'", vlans(MemberVlans::trunk(set("5-7")))),
        ("tunnel = 5", vlans(MemberVlans::tunnel(5))),
        (
            "vids = { pvid = 1, tagged = '3', untagged = '1-2', tags = 'ignore', ingress_filter = false }",
            vlans(MemberVlans {
                pvid: Some(1),
                tagged: set("3"),
                untagged: set("1-2"),
                tags: TagPolicy::Ignore,
                ingress_filter: Off,
            }),
        ),
    ];
    for (keys, mut expected) in cases {
        let in_tree = keys.contains("stp");
        let switch = match keys {
            _ if in_tree => ", stp = 'rstp'",
            "router = true" => ", snooping = true",
            _ => "",
        };
        // A port to a host forwards at once, unless the file says otherwise.
        if in_tree && !keys.contains("edge") {
            expected.rstp.edge = StpEdge::Yes;
        }
        let plan = plan_of(&port(switch, &format!(", {keys}")));
        let seen = vnet_lab::record::show(&plan).expect("it can be built");
        let bridge = bridge_of(&seen[1]);
        let given = &bridge.members[0].config;
        assert_eq!(*given, expected, "{keys}");
    }
}

#[test]
fn every_key_of_a_switch_comes_to_what_the_library_has() {
    let seconds = Duration::from_secs;
    let rstp = RstpConfig {
        priority: 8192,
        hello_time: seconds(1),
        max_age: seconds(10),
        forward_delay: seconds(7),
        tx_hold_count: 3,
    };
    let of = |keys: &str| -> BridgeConfig {
        let plan = plan_of(&port(&format!(", {keys}"), ""));
        let seen = vnet_lab::record::show(&plan).expect("it can be built");
        let bridge = bridge_of(&seen[1]);
        bridge.config.clone()
    };
    let all = "stp = { priority = 8192, hello_time = '1s', max_age = '10s', forward_delay = '7s', tx_hold_count = 3 }";
    assert_eq!(of(all).stp, Some(rstp));
    let all = "snooping = { querier = '192.0.2.9', querier_v6 = 'fe80::9', query_interval = '30s', fast_leave = true, \
               unknown = false, max_groups = 7 }";
    let snooping = Snooping {
        querier: Some([192, 0, 2, 9].into()),
        querier_v6: "fe80::9".parse().ok(),
        query_interval: seconds(30),
        fast_leave: Switchable::On,
        unknown: Switchable::Off,
        max_groups: 7,
    };
    assert_eq!(of(all).snooping, Some(snooping));
    assert_eq!(of("snooping = true").snooping, Some(Snooping::default()));
    assert_eq!(of("snooping = false").snooping, None);
    for (keys, most, learning) in [
        (
            "max_stations_per_vlan = 9",
            Some(9),
            VlanLearning::Independent,
        ),
        ("learning = 'shared'", None, VlanLearning::Shared),
    ] {
        let keys = format!("fdb = {{ max_age = '7s', max_stations = 8, {keys} }}");
        let BridgeConfig {
            max_age,
            max_stations,
            vlans,
            ..
        } = of(&keys);
        assert_eq!((max_age, max_stations), (seconds(7), 8));
        let vlans = vlans.expect("it tells VLANs apart");
        assert_eq!((vlans.max_stations, vlans.learning), (most, learning));
    }
    let vlans = of("tags = '802.1ad'").vlans.expect("it tells VLANs apart");
    assert_eq!(vlans.tpid, Tpid::Dot1ad);
    assert_eq!(of("fdb = { max_age = '0s' }").vlans, None);
}

#[test]
fn each_end_has_its_own_part_in_lacp() {
    let source = |ends: &str, link: &str| {
        format!("hosts = ['a', 'b']\nlink = [{{ ends = [{ends}]{link} }}]")
    };
    let ends = "'a:l 192.0.2.1/24', { node = 'b', interface = 'l', address = '192.0.2.2/24', lacp = { passive = true, \
                system = '02:00:00:00:00:07', system_priority = 7, key = 9 } }";
    let plan = plan_of(&format!(
        "{}\njob = [{{ ping = {{ from = 'a', to = 'b' }}, start = '4s' }}]",
        source(ends, ", lagg = { wires = 2, hash = 'l2' }")
    ));
    let seen = vnet_lab::record::show(&plan).expect("it can be built");
    let configs: Vec<LaggConfig> = seen
        .iter()
        .flat_map(|vnet| {
            vnet.interfaces
                .iter()
                .filter_map(|i| i.aggregation.as_ref())
        })
        .map(|lagg| lagg.config)
        .collect();
    let active = LaggConfig {
        mode: LaggMode::LacpActive,
        hash: LaggHash::L2,
        fast: Switchable::On,
        ..LaggConfig::default()
    };
    let passive = LaggConfig {
        mode: LaggMode::LacpPassive,
        system: Some(MacAddr([2, 0, 0, 0, 0, 7])),
        system_priority: 7,
        key: 9.try_into().ok(),
        ..active
    };
    assert_eq!(configs, [active, passive]);
    let report = vnet_lab::run(&plan, &Options::default(), Arc::new(|_| {})).expect("a run");
    assert!(report.passed, "{}", report.to_text(Layout::default()));
    let silent = "{ node = 'a', address = '192.0.2.1/24', lacp = { passive = true } }, \
                  { node = 'b', address = '192.0.2.2/24', lacp.passive = true }";
    for (link, expected) in [
        (
            ", lagg = { wires = 2 }",
            "both ends wait for the other to begin",
        ),
        ("", "the link does not use LACP"),
        (
            ", lagg = { wires = 2, mode = 'balance' }",
            "the link does not use LACP",
        ),
    ] {
        let invalid = Topology::parse("x.toml", &source(silent, link)).expect_err(link);
        assert!(invalid.to_string().contains(expected), "{invalid}");
    }
}

#[test]
fn a_vlan_interface_maps_priorities_as_the_file_says() {
    let source = |classes: &str| {
        format!(
            "hosts = ['a', 'b']\nlink = [{{ ends = [\n\
             {{ node = 'a', vlan = {{ 5 = {{ address = '192.0.2.1/24', classes = {classes} }} }} }},\n\
             {{ node = 'b', vlan = {{ 5 = '192.0.2.2/24' }} }}] }}]"
        )
    };
    let right = "{ ingress = [{ pcp = 5, dscp = 46 }, { pcp = 5, dei = true, dscp = 40 }], egress = [{ pcp = 5, dscp = 46 }] }";
    let seen = vnet_lab::record::show(&plan_of(&source(right))).expect("it can be built");
    let mut interfaces = seen[0].interfaces.iter();
    let vlan = interfaces
        .find(|i| i.info.name == "eth0.5")
        .expect("it is there");
    let rule = |pcp, dei, dscp| ClassRule { pcp, dei, dscp };
    let maps = ClassMaps {
        ingress: vec![rule(5, false, 46), rule(5, true, 40)],
        egress: vec![rule(5, false, 46)],
    };
    assert_eq!(
        vlan.info.vlan.as_ref().and_then(|v| v.classes.clone()),
        Some(maps)
    );
    for (wrong, expected) in [
        (
            "{ ingress = [{ pcp = 8, dscp = 0 }] }",
            "3:87: expected an integer from 0 to 7 for `pcp`",
        ),
        (
            "{ ingress = [{ pcp = 1 }] }",
            "3:79: each of `ingress` needs `dscp`: expected a class, 0 to 63",
        ),
        (
            "{ egress = [{ pcp = 1, dscp = 9 }, { pcp = 2, dscp = 9 }] }",
            "3:101: a rule above is about the same: expected one",
        ),
    ] {
        let invalid = Topology::parse("x.toml", &source(wrong)).expect_err(wrong);
        assert!(invalid.to_string().contains(expected), "{invalid}");
    }
}

/// Each tunnel puts its tag in front of what another one has: in whatever order, there is no end to it.
#[test]
fn stacks_of_tags_without_end_are_refused() {
    let source = |links: usize| {
        let tunnels = (1..=links).map(|n| {
            format!(
                "{{ ends = [{{ node = 'p', trunk = '1-10' }}, {{ node = 'q', tunnel = {n} }}] }},\n"
            )
        });
        format!(
            "node.p = {{ kind = 'switch', tags = '802.1ad', stp = 'rstp' }}\n\
             node.q = {{ kind = 'switch', tags = '802.1ad', stp = 'rstp' }}\nlink = [\n\
             {{ ends = [{{ node = 'p', trunk = '1-10' }}, {{ node = 'q', trunk = '1-10' }}] }},\n{}]",
            tunnels.collect::<String>()
        )
    };
    let invalid = Topology::parse("x.toml", &source(10)).expect_err("10^8 stacks");
    let expected = "too many stacks of VLAN tags pass here";
    assert!(invalid.to_string().contains(expected), "{invalid}");
    let few = Topology::parse("x.toml", &source(2));
    let is_said = few.is_err_and(|invalid| invalid.to_string().contains(expected));
    assert!(!is_said);
}

#[test]
fn stations_that_a_switch_is_told_of_are_there() {
    let stations = ", access = 10, stations = ['02:00:00:00:00:07', '02:00:00:00:00:08 vlan 10']";
    let seen = vnet_lab::record::show(&plan_of(&port("", stations))).expect("it can be built");
    let bridge = bridge_of(&seen[1]);
    let told: Vec<_> = bridge
        .stations
        .iter()
        .map(|s| (s.mac.0[5], s.vid))
        .collect();
    assert_eq!(told, [(7, None), (8, Some(10))]);
}

#[test]
fn vlan_interfaces_stand_on_each_other_and_have_what_is_said_of_them() {
    let plan = plan_of(
        "hosts = ['a', 'b']\n[[link]]\nends = [\n\
         { node = 'a', vlan.s7 = { ip_mtu = 1400, vlan = { 9 = '192.0.2.1/24', 10 = { interface = 'ten', address = '198.51.100.1/24', mac = '02:00:00:00:00:09' } } } },\n\
         { node = 'b', vlan = { s7.vlan = { 9 = ['192.0.2.2/24'], 10 = '198.51.100.2/24' }, 7 = '203.0.113.1/32' } },\n]\n\
         [[job]]\nping = { from = 'a', to = 'b:eth0.s7.9' }\n[[job]]\nping = { from = 'b', to = 'a:ten' }",
    );
    let seen = vnet_lab::record::show(&plan).expect("it can be built");
    let mut names: Vec<&str> = seen[0].interfaces.iter().map(|i| &*i.info.name).collect();
    names.sort_unstable();
    assert_eq!(names, ["eth0", "eth0.s7", "eth0.s7.9", "lo0", "ten"]);
    let mtu = |name: &str| {
        let mut interfaces = seen[0].interfaces.iter();
        interfaces
            .find(|i| i.info.name == name)
            .map(|i| i.info.ip_mtu)
    };
    assert_eq!(
        (mtu("eth0"), mtu("eth0.s7"), mtu("ten")),
        (Some(1500), Some(1400), Some(1400))
    );
    let report = vnet_lab::run(&plan, &Options::default(), Arc::new(|_| {})).expect("a run");
    assert!(report.passed, "{}", report.to_text(Layout::default()));
}

#[test]
fn what_is_wrong_is_shown_at_its_key() {
    let problem = |source: &str| {
        let invalid = Topology::parse("x.toml", source).expect_err(source);
        let shown = |p: &vnet_lab::Problem| format!("{}:{}: {}", p.line, p.column, p.message);
        invalid.problems.iter().map(shown).collect::<Vec<_>>()
    };
    let ports = [
        (
            ", sticky = true",
            "3:51: stations that stay need a limit, `max_stations`: they would take up the bridge's room for ever",
        ),
        (
            ", learn = false, max_stations = 3",
            "3:66: where no stations are learned, they are not counted: set `learn`, or no limit",
        ),
        (
            ", learn = 1",
            "3:59: expected true or false for `learn`, found an integer",
        ),
        (
            ", storm = { broadcast = 0 }",
            "3:73: expected an integer from 1 to 4294967295 for `broadcast`",
        ),
        (
            ", storm = 5",
            "3:59: expected a table for `storm`, found an integer",
        ),
        (
            ", stp = { priority = 17 }",
            "3:59: a port's priority is a multiple of 16 up to 240, not 17",
        ),
        (
            ", tunnel = 5, native = 5",
            "3:51: a tunnel carries frames with whatever tags they have: expected `tunnel` alone",
        ),
        (
            ", access = 5, vids = { pvid = 5, untagged = '5' }",
            "3:63: expected `vids` alone: it says everything about the VLANs of the port",
        ),
        (
            ", vids = { pvid = 5 }",
            "3:60: the PVID is 5, but the member is not in VLAN 5: add it, or turn the ingress filter off",
        ),
        (
            ", vids = { tagged = '5', untagged = '5' }",
            "3:74: VLAN 5 cannot be both tagged and untagged on one member",
        ),
        (
            ", stations = ['02:00:00:00:00:01 vlan 5']",
            "3:63: `s` does not tell VLANs apart: expected no VLAN",
        ),
        (
            ", access = 4, stations = ['02:00:00:00:00:01 vlan 5']",
            "3:75: the port is not in VLAN 5",
        ),
        (
            ", max_stations_per_vlan = 5",
            "3:51: `s` does not tell VLANs apart: expected `max_stations`",
        ),
        (
            ", router = true",
            "3:51: `s` does not snoop: expected `snooping` there as well",
        ),
        (
            ", span = true, stations = ['02:00:00:00:00:01']",
            "3:51: nobody is behind a port that only watches: expected no `stations`",
        ),
        (
            ", vlan = { 5.vlan = {} }",
            "3:69: expected VLANs and their addresses, as in { 10 = \"192.0.2.1/24\" }, found none",
        ),
        (
            ", stations = ['03:00:00:00:00:01']",
            "3:63: expected a unicast MAC address, found 03:00:00:00:00:01",
        ),
        (
            ", stations = ['02:00:00:00:00:01', '02:00:00:00:00:01']",
            "3:84: duplicate station: `s` knows 02:00:00:00:00:01 already",
        ),
    ];
    let (mut found, mut said) = (Vec::new(), Vec::new());
    for (keys, expected) in ports {
        let switch = match keys.contains("stp") {
            true => ", stp = 'rstp'",
            false => "",
        };
        found.push(problem(&port(switch, keys)));
        said.push(vec![expected.to_owned()]);
    }
    assert_eq!(found, said);
    assert_eq!(
        problem(&port("", ", stp = { edge = 'yes' }")),
        ["3:57: `s` takes part in no spanning tree: expected `stp = \"rstp\"` there as well"]
    );
    let switches = [
        (
            ", snooping = 5",
            "expected true, false or a table for `snooping`, found an integer",
        ),
        (
            ", snooping = { query_interval = '5s' }",
            "query_interval: 10 s to 1 h, not 5s",
        ),
        (
            ", snooping = { querier = '239.1.1.1' }",
            "querier: the address of a host, not 239.1.1.1",
        ),
        (
            ", stp = { hello_time = '5s' }",
            "the hello time is 1 s to 2 s, not 5s",
        ),
        (
            ", stp = 5",
            "expected \"off\", \"rstp\" or a table for `stp`, found an integer",
        ),
        (
            ", tags = 'isl'",
            "expected \"802.1Q\" or \"802.1ad\", found \"isl\"",
        ),
        (
            ", fdb = { learning = 'none' }",
            "expected \"independent\" or \"shared\", found \"none\"",
        ),
        (", fdb = { max_age = '1' }", "expected a time such as"),
        (
            ", fdb = { max_stations_per_vlan = 5, learning = 'shared' }",
            "VLANs that share a database have no limit of their own: expected `max_stations`",
        ),
        (
            ", snooping = { querier_v6 = '2001:db8::1' }",
            "querier_v6: a link-local address, not 2001:db8::1",
        ),
    ];
    for (keys, expected) in switches {
        let found = problem(&port(keys, ""));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].starts_with("2:") && found[0].contains(expected),
            "{found:?}"
        );
    }
    // Only a switch has them.
    let host = |keys: &str| {
        format!(
            "node.a = {{{keys} }}\nhosts = ['b']\n\
             link = [{{ ends = ['a 192.0.2.1/24', {{ node = 'b', address = '192.0.2.2/24', private = true }}] }}]"
        )
    };
    assert_eq!(
        problem(&host(" fdb = { max_stations = 5 }")),
        [
            "1:12: `a` is a host: only a switch has this setting",
            "3:77: `b` is a host: only a switch has ports with settings"
        ]
    );
    let nested = (0..9).fold("'192.0.2.1/24'".to_owned(), |below, n| {
        format!("{{ vlan = {{ {} = {below} }} }}", 1 + n)
    });
    let found = problem(&format!(
        "hosts = ['b', 'c']\nlink = [{{ ends = [{{ node = 'c', vlan = {{ 1 = {nested} }} }}, 'b 192.0.2.2/24'] }}]"
    ));
    // The names that they would have are too long as well.
    let is_said = |p: &String| p.contains("at most 8 VLAN interfaces can stand on each other");
    assert!(found.iter().any(is_said), "{found:?}");
}

/// Where a frame can be is what `check` says: the same tags behind another tag are another VLAN.
#[test]
fn tunnels_and_stacks_are_segments_of_their_own() {
    let source = example("qinq.toml");
    let with = |job: &str| format!("{source}\n[[job]]\n{job}\n");
    plan_of(&with("ping = { from = 'probe', to = 'a2' }"));
    for wrong in ["from = 'a1', to = 'b2'", "from = 'probe', to = 'b1'"] {
        let source = with(&format!("ping = {{ {wrong} }}"));
        let invalid = Topology::parse("x.toml", &source).expect_err("it is another VLAN");
        assert!(invalid.to_string().contains("unreachable"), "{invalid}");
    }
    // With the provider's tags taken for payload, the two tunnels are one, and so are the customers' prefixes.
    let plain = source.replace("tunnel = 200", "tunnel = 100");
    let invalid = Topology::parse("x.toml", &plain);
    assert!(
        invalid.is_ok(),
        "two networks on one segment are nobody's mistake"
    );
}

#[test]
fn tunables_are_set_and_refused_at_their_key() {
    for name in ["'net.link.vlan.classes'", "net.link.vlan.classes"] {
        let source = format!(
            "[node.a]\nsysctl = {{ {name} = 1, net.inet.ip.ttl = '32' }}\n[node.b]\n\
             [[link]]\nends = ['a 192.0.2.1/24', 'b 192.0.2.2/24']"
        );
        let system = vnet::System::virtual_time(1);
        let network = Network::build(&system, &plan_of(&source), &Options::default());
        let network = network.expect("it can be built");
        let value = |node, name| network.vnet(node).sysctl(name).expect("a tunable");
        assert_eq!(value(0, "net.link.vlan.classes"), "1");
        assert_eq!(value(0, "net.inet.ip.ttl"), "32");
        assert_eq!(value(1, "net.link.vlan.classes"), "0");
    }
    let wrong = [
        ("'net.nothing' = 1", "2:12: "),
        ("net.inet.ip.ttl = 70000", "2:24: "),
    ];
    for (wrong, place) in wrong {
        let source = format!("[node.a]\nsysctl = {{ {wrong} }}");
        let (topology, plan) = Topology::parse("x.toml", &source).unwrap_or_else(|e| panic!("{e}"));
        let invalid = topology.try_out(&plan).expect_err(wrong);
        let found = &invalid.problems[0];
        let shown = format!("{}:{}: {}", found.line, found.column, found.message);
        assert!(
            shown.starts_with(place) && shown.contains("cannot set net."),
            "{shown}"
        );
    }
}

#[test]
fn a_node_asks_its_name_servers_for_what_is_no_node() {
    let system = vnet::System::virtual_time(1);
    let plan = plan_of(
        "[node.a]\ndns = ['192.0.2.2']\n[node.b]\n\
         [[link]]\nends = ['a 192.0.2.1/24', 'b 192.0.2.2/24']",
    );
    let network = Network::build(&system, &plan, &Options::default());
    let network = network.expect("it can be built");
    let look_up = |node, name| system.block_on(network.vnet(node).lookup(name));
    let found = look_up(0, "b").expect("nothing waits").expect("a node");
    assert_eq!(found[0].to_string(), "192.0.2.2");
    // Nobody serves names there; without servers, nobody is asked.
    let refused = look_up(0, "www.example").expect("it is refused");
    let why = refused.expect_err("nobody knows it");
    let why = vnet_dns::cause(&why).expect("it was asked for").to_string();
    assert!(why.contains("192.0.2.2:53"), "{why}");
    let unknown = look_up(1, "www.example").expect("nothing waits");
    assert!(vnet_dns::cause(&unknown.expect_err("nobody knows it")).is_none());
}

#[test]
fn name_servers_are_addresses_of_hosts() {
    for wrong in ["192.0.2", "224.0.0.251", "::", "fe80::53"] {
        let source = format!("[node.a]\ndns = ['192.0.2.53', '{wrong}']");
        let invalid = Topology::parse("x.toml", &source).expect_err(wrong);
        let found = &invalid.problems[0];
        assert_eq!((found.line, found.column), (2, 22), "{}", found.message);
    }
    let many = "'192.0.2.53', ".repeat(17);
    let source = format!("[node.a]\ndns = [{many}]");
    assert!(Topology::parse("x.toml", &source).is_err());
}

/// The examples in the pages about bridges and VLANs do what these say.
#[test]
fn the_examples_of_the_pages_pass_under_both_drivers() {
    let pages = [
        include_str!("../../docs/bridges.md"),
        include_str!("../../docs/vlans.md"),
    ];
    for page in pages {
        let blocks = page.split("```toml\n").skip(1);
        let blocks: Vec<&str> = blocks
            .filter_map(|block| block.split("```").next())
            .collect();
        assert_eq!(blocks.len(), 1);
        for driver in DRIVERS {
            passes(blocks[0], &options(driver, 1));
        }
    }
}

//! Records read back whatever was written, and make a twin of whatever was done.

#[path = "records/history.rs"]
mod history;

use std::net::Ipv4Addr;
use std::num::NonZeroU32;
use std::time::Duration;

use history::{act, duration, edge_number, link, perform};
use ipnet::{Ipv4Net, Ipv6Net};
use proptest::prelude::*;
use serde_json::{Value, json};
use vnet::net::AddressPolicy;
use vnet::record::{InitStep, Operation, Record};
use vnet::{
    AdminState, BridgeConfig, BridgeMode, BridgeVlans, Forwarding, InitRecord, Inspection,
    LaggConfig, LaggHash, LaggMode, MacAddr, MemberConfig, MemberVlans, Offload, Privilege,
    Privileges, Resource, RouteKind, RstpConfig, RstpPort, Snooping, Stage, StormLimits, StpEdge,
    StpSegment, Switchable, System, TagPolicy, Tpid, VlanConfig, VlanLearning, Vnet,
};

/// Any text: records are also written of what was never possible.
fn text() -> impl Strategy<Value = String> {
    let marks = [
        "", "\"", "'", "\\", "\"\"\"", "'''", "#", "[a]", "a = 1", "\n", "\r", "\r\n", "\0",
    ];
    let marks = [
        &marks[..],
        &["\u{7f}", "\u{1b}[31m", "\u{feff}", "\u{2028}", "\u{1f600}"],
    ]
    .concat();
    let marks = prop::sample::select(marks).prop_map(str::to_owned);
    prop_oneof![marks, any::<String>(), "[a-z0-9._-]{1,15}"]
}

fn mac() -> impl Strategy<Value = MacAddr> {
    any::<[u8; 6]>().prop_map(MacAddr)
}

fn prefix() -> impl Strategy<Value = Ipv4Net> {
    (any::<u32>(), 0..=32_u8).prop_map(|(a, len)| Ipv4Net::new_assert(Ipv4Addr::from(a), len))
}

fn address() -> impl Strategy<Value = Ipv4Addr> {
    any::<u32>().prop_map(Ipv4Addr::from)
}

fn switch() -> impl Strategy<Value = Switchable> {
    prop_oneof![Just(Switchable::On), Just(Switchable::Off)]
}

fn bridge_config() -> impl Strategy<Value = BridgeConfig> {
    let mode = prop_oneof![Just(BridgeMode::Switch), Just(BridgeMode::Hub)];
    let host = prop_oneof![Just(Switchable::On), Just(Switchable::Off)];
    let age = duration(Duration::MAX);
    let vlans = prop::option::of(bridge_vlans());
    let querier = prop::option::of(address());
    let querier_v6 = prop::option::of(any::<u128>().prop_map(std::net::Ipv6Addr::from));
    let snooping = (
        (querier, querier_v6),
        duration(Duration::MAX),
        switch(),
        switch(),
        any::<u32>(),
    );
    let snooping = snooping.prop_map(
        |((querier, querier_v6), query_interval, fast_leave, unknown, max_groups)| Snooping {
            querier,
            querier_v6,
            query_interval,
            fast_leave,
            unknown,
            max_groups,
        },
    );
    let snooping = prop::option::of(snooping);
    let all = (mode, host, age, edge_number(), stp(), snooping, vlans);
    all.prop_map(
        |(mode, host_port, max_age, n, stp, snooping, vlans)| BridgeConfig {
            mode,
            host_port,
            max_age,
            max_stations: n as usize,
            stp,
            snooping,
            vlans,
        },
    )
}

/// Any VLANs of a bridge, possible or not.
fn bridge_vlans() -> impl Strategy<Value = BridgeVlans> {
    let tpid = prop_oneof![Just(Tpid::Dot1q), Just(Tpid::Dot1ad)];
    let learning = prop_oneof![Just(VlanLearning::Independent), Just(VlanLearning::Shared)];
    let all = (tpid, learning, any::<Option<u32>>(), member_vlans());
    all.prop_map(|(tpid, learning, max_stations, host)| BridgeVlans {
        tpid,
        learning,
        max_stations,
        host,
    })
}

fn member_vlans() -> impl Strategy<Value = MemberVlans> {
    let pvid = prop::option::of(1..=u16::MAX);
    let vids = || prop::collection::vec(any::<u16>(), 0..5);
    let tags = vec![TagPolicy::Obey, TagPolicy::Refuse, TagPolicy::Ignore];
    let all = (pvid, vids(), vids(), prop::sample::select(tags), switch());
    all.prop_map(
        |(pvid, tagged, untagged, tags, ingress_filter)| MemberVlans {
            pvid,
            tagged: tagged.into_iter().collect(),
            untagged: untagged.into_iter().collect(),
            tags,
            ingress_filter,
        },
    )
}

/// Any policy table, possible or not.
fn policy() -> impl Strategy<Value = Vec<AddressPolicy>> {
    let row = (any::<u128>(), 0..=128_u8, any::<u8>(), any::<u8>());
    let row = row.prop_map(|(addr, len, precedence, label)| AddressPolicy {
        prefix: Ipv6Net::new_assert(addr.into(), len),
        precedence,
        label,
    });
    prop::collection::vec(row, 0..5)
}

/// Any spanning tree, possible or not.
fn stp() -> impl Strategy<Value = Option<RstpConfig>> {
    let times = || duration(Duration::MAX);
    let all = (any::<u16>(), times(), times(), times(), any::<u8>());
    let rstp = all.prop_map(
        |(priority, hello_time, max_age, forward_delay, tx_hold_count)| {
            Some(RstpConfig {
                priority,
                hello_time,
                max_age,
                forward_delay,
                tx_hold_count,
            })
        },
    );
    prop_oneof![Just(None), rstp]
}

fn rstp_port() -> impl Strategy<Value = RstpPort> {
    let edge = prop_oneof![Just(StpEdge::Auto), Just(StpEdge::Yes), Just(StpEdge::No)];
    let segment = prop_oneof![Just(StpSegment::PointToPoint), Just(StpSegment::Shared)];
    let cost = any::<Option<NonZeroU32>>();
    let all = (any::<u8>(), cost, edge, segment, switch(), switch());
    all.prop_map(
        |(priority, path_cost, edge, segment, bpdu_guard, root_guard)| RstpPort {
            priority,
            path_cost,
            edge,
            segment,
            bpdu_guard,
            root_guard,
        },
    )
}

fn lagg_config() -> impl Strategy<Value = LaggConfig> {
    let modes = vec![
        LaggMode::Failover,
        LaggMode::Balance,
        LaggMode::LacpActive,
        LaggMode::LacpPassive,
    ];
    let hashes = vec![LaggHash::L2, LaggHash::L3, LaggHash::L4];
    let (mode, hash) = (prop::sample::select(modes), prop::sample::select(hashes));
    let system = prop::option::of(any::<u32>());
    let all = (mode, hash, switch(), any::<u16>(), system, any::<u16>());
    all.prop_map(
        |(mode, hash, fast, system_priority, system, key)| LaggConfig {
            mode,
            hash,
            fast,
            system_priority,
            system: system.map(|n| {
                let [a, b, c, d] = n.to_be_bytes();
                MacAddr([2, 0, a, b, c, d])
            }),
            key: std::num::NonZeroU16::new(key),
        },
    )
}

fn member_config() -> impl Strategy<Value = MemberConfig> {
    let switches = prop::array::uniform8(switch());
    let limits = prop::array::uniform3(any::<u32>()).prop_map(|rates| {
        let [broadcast, multicast, unknown] = rates.map(std::num::NonZeroU32::new);
        StormLimits {
            broadcast,
            multicast,
            unknown,
        }
    });
    let all = (
        switches,
        any::<Option<u32>>(),
        limits,
        rstp_port(),
        member_vlans(),
    );
    all.prop_map(|(switches, max_stations, storm, rstp, vlans)| {
        let [
            mut learn,
            discover,
            private,
            broadcast,
            multicast,
            mut sticky,
            span,
            router,
        ] = switches;
        match max_stations {
            Some(_) => learn = Switchable::On,
            None => sticky = Switchable::Off,
        }
        MemberConfig {
            learn,
            discover,
            private,
            broadcast,
            multicast,
            sticky,
            max_stations,
            max_stations_in_vlan: max_stations.map(|most| most / 2),
            storm,
            span,
            router,
            rstp,
            vlans,
        }
    })
}

/// The operation that data such as `{"op": "bridge", "interface": "br0"}` is.
fn op(data: Value) -> Operation {
    serde_json::from_value(data).expect("an operation")
}

/// Any operation, possible or not.
fn any_op() -> impl Strategy<Value = Operation> {
    let (a, b, c) = (text, text, text);
    let interfaces = prop_oneof![
        (a(), b(), c(), any::<Option<u64>>()).prop_map(|(a, b, c, wire)| json!({
            "op": "epair", "interface": a, "peer": b, "peer_interface": c, "wire": wire,
        })),
        (a(), prop::option::of(mac()))
            .prop_map(|(a, mac)| json!({"op": "port", "interface": a, "mac": mac})),
        a().prop_map(|a| json!({"op": "bridge", "interface": a})),
        (a(), bridge_config())
            .prop_map(|(a, config)| json!({"op": "set_bridge", "interface": a, "config": config})),
        (a(), b()).prop_map(|(a, b)| json!({"op": "add_member", "interface": a, "member": b})),
        (a(), b()).prop_map(|(a, b)| json!({"op": "remove_member", "interface": a, "member": b})),
        (a(), b(), member_config()).prop_map(|(a, b, config)| json!({
            "op": "set_member", "interface": a, "member": b, "config": config,
        })),
        (a(), b(), mac(), any::<Option<u16>>()).prop_map(|(a, b, mac, vid)| json!({
            "op": "add_station", "interface": a, "member": b, "mac": mac, "vid": vid,
        })),
        (a(), mac(), any::<Option<u16>>()).prop_map(|(a, mac, vid)| json!({
            "op": "remove_station", "interface": a, "mac": mac, "vid": vid,
        })),
        (a(), lagg_config())
            .prop_map(|(a, config)| json!({"op": "lagg", "interface": a, "config": config})),
        (a(), lagg_config())
            .prop_map(|(a, config)| json!({"op": "set_lagg", "interface": a, "config": config})),
        a().prop_map(|a| json!({"op": "remove_interface", "interface": a})),
        (a(), b()).prop_map(|(a, b)| json!({"op": "rename_interface", "interface": a, "name": b})),
    ];
    let tpid = || prop_oneof![Just(Tpid::Dot1q), Just(Tpid::Dot1ad)];
    let vlans = prop_oneof![
        (a(), b(), tpid(), any::<u16>()).prop_map(|(a, b, tpid, vid)| json!({
            "op": "vlan", "interface": a, "parent": b, "tpid": tpid, "vid": vid,
        })),
        (a(), tpid(), any::<u16>()).prop_map(|(a, tpid, vid)| json!({
            "op": "set_vlan", "interface": a, "tpid": tpid, "vid": vid,
        })),
    ];
    let state = prop_oneof![Just(AdminState::Up), Just(AdminState::Down)];
    let offload = prop_oneof![
        Just(Offload::Full),
        Just(Offload::Checksum),
        Just(Offload::None)
    ];
    let forwarding = prop_oneof![Just(Forwarding::Enabled), Just(Forwarding::Disabled)];
    let kind = prop_oneof![
        Just(RouteKind::Unicast),
        Just(RouteKind::Blackhole),
        Just(RouteKind::Unreachable),
        Just(RouteKind::Prohibit)
    ];
    let resource = prop::sample::select(Resource::ALL.to_vec());
    let mask = any::<u16>().prop_map(|bits| {
        let chosen = Privilege::ALL
            .iter()
            .enumerate()
            .filter(|(n, _)| bits & (1 << n) != 0);
        chosen.fold(Privileges::NONE, |mask, (_, p)| mask | *p)
    });
    let limit = prop_oneof![
        any::<u64>().prop_map(|n| json!(n)),
        any::<u64>().prop_map(|n| json!(n.to_string())),
        Just(json!("unlimited")),
    ];
    let settings = prop_oneof![
        (a(), mac()).prop_map(|(a, mac)| json!({"op": "set_mac", "interface": a, "mac": mac})),
        (a(), any::<u16>())
            .prop_map(|(a, mtu)| json!({"op": "set_ip_mtu", "interface": a, "ip_mtu": mtu})),
        (a(), state).prop_map(|(a, state)| json!({"op": "set_up", "interface": a, "state": state})),
        (a(), offload)
            .prop_map(|(a, off)| json!({"op": "set_offload", "interface": a, "offload": off})),
        (
            a(),
            prop::option::of((any::<u8>(), any::<bool>(), any::<u8>()))
        )
            .prop_map(|(a, rule)| {
                let rule =
                    rule.map(|(pcp, dei, dscp)| json!({"pcp": pcp, "dei": dei, "dscp": dscp}));
                let Some(rule) = rule else {
                    return json!({"op": "set_vlan_classes", "interface": a});
                };
                let classes = json!({"ingress": [rule], "egress": [rule]});
                json!({"op": "set_vlan_classes", "interface": a, "classes": classes})
            }),
        (a(), any::<u16>(), any::<bool>()).prop_map(|(a, n, is_set)| {
            let config = json!({
                "lifetime": n, "preference": "high", "mtu": n, "search": ["example"],
                "routes": [{"net": "2001:db8::/32", "lifetime": n}],
            });
            match is_set {
                true => json!({"op": "set_router", "interface": a, "config": config}),
                false => json!({"op": "set_router", "interface": a}),
            }
        }),
        (a(), link()).prop_map(|(a, link)| json!({"op": "set_link", "interface": a, "link": link})),
        (a(), prefix(), any::<u32>()).prop_map(|(a, address, metric)| json!({
            "op": "add_address", "interface": a, "address": address, "metric": metric,
        })),
        (a(), any::<u128>()).prop_map(|(a, address)| json!({
            "op": "add_anycast", "interface": a, "address": std::net::Ipv6Addr::from(address),
        })),
        (a(), address()).prop_map(|(a, address)| json!({
            "op": "remove_address", "interface": a, "address": address,
        })),
        (a(), address(), mac()).prop_map(|(a, address, mac)| json!({
            "op": "add_neighbour", "interface": a, "address": address, "mac": mac,
        })),
        (a(), address()).prop_map(|(a, address)| json!({
            "op": "remove_neighbour", "interface": a, "address": address,
        })),
        (
            prefix(),
            prop::option::of(address()),
            prop::option::of(a()),
            kind,
            any::<u32>()
        )
            .prop_map(|(dst, gateway, a, kind, metric)| json!({
                "op": "add_route", "dst": dst, "gateway": gateway, "interface": a, "kind": kind,
                "metric": metric,
            })),
        (prefix(), any::<u32>()).prop_map(|(dst, metric)| json!({
            "op": "remove_route", "dst": dst, "metric": metric,
        })),
        forwarding.prop_map(|f| json!({"op": "set_forwarding", "forwarding": f})),
        (a(), b()).prop_map(|(a, b)| json!({"op": "set_sysctl", "name": a, "value": b})),
        prop::option::of(policy()).prop_map(|table| match table {
            Some(table) => json!({"op": "set_address_policy", "table": table}),
            None => json!({"op": "set_address_policy"}),
        }),
        (resource, limit)
            .prop_map(|(r, limit)| json!({"op": "set_limit", "resource": r, "limit": limit})),
        mask.prop_map(|mask| json!({"op": "set_privileges", "privileges": mask})),
    ];
    prop_oneof![interfaces, vlans, settings].prop_map(op)
}

fn record() -> impl Strategy<Value = Record> {
    let stage = prop_oneof![Just(Stage::Interfaces), Just(Stage::Services)];
    let step = (text(), stage, any::<i32>(), edge_number());
    let step = step.prop_map(|(name, stage, order, took_ns)| InitStep {
        name,
        stage,
        order,
        took_ns,
    });
    let init = prop::collection::vec(step, 0..4);
    let ops = prop::collection::vec(any_op(), 0..12);
    (text(), init, ops).prop_map(|(name, init, ops)| Record {
        version: 1,
        name,
        init,
        ops,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Names with any characters, every operation, every number at its ends.
    #[test]
    fn what_was_written_is_read(records in prop::collection::vec(record(), 0..3)) {
        for record in &records {
            let text = record.to_toml().expect("it can be said");
            prop_assert_eq!(&Record::from_toml(&text).expect("what was written"), record);
            let json = serde_json::to_string(record).expect("it can be said");
            prop_assert_eq!(&serde_json::from_str::<Record>(&json).expect("what was written"), record);
        }
        let text = Record::all_to_toml(&records).expect("it can be said");
        prop_assert_eq!(Record::all_from_toml(&text).expect("what was written"), records);
    }

    /// A text that was changed somewhere is read, or is an error of one line that can be shown.
    #[test]
    fn what_was_spoiled_is_a_short_error(record in record(), at in any::<prop::sample::Index>(), by in text()) {
        let text = record.to_toml().expect("it can be said");
        let at = (0..=at.index(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let spoiled = format!("{}{by}{}", &text[..at], &text[at..]);
        if let Err(error) = Record::all_from_toml(&spoiled) {
            let said = error.to_string();
            prop_assert!(said.len() < 1000 && !said.contains(char::is_control), "{said:?}");
        }
    }
}

/// But for what names the other end's vnet, which is another one.
fn peerless(record: &Record) -> Vec<Operation> {
    let ops = record.ops.iter().filter(|op| op.name() != "epair");
    ops.cloned().collect()
}

/// Names what differs, not all there is.
fn same(one: &Inspection, other: &Inspection) -> Result<(), TestCaseError> {
    let lines = |seen| {
        format!("{seen:#?}")
            .lines()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let (left, right) = (lines(one), lines(other));
    let at = left.iter().zip(&right).position(|(a, b)| a != b);
    let at = at.unwrap_or(left.len().min(right.len())).saturating_sub(12);
    let part = |lines: &[String]| lines.iter().skip(at).take(24).cloned().collect::<Vec<_>>();
    prop_assert!(
        one == other,
        "{:#?}\nis not\n{:#?}",
        part(&left),
        part(&right)
    );
    Ok(())
}

fn normalised(vnet: &Vnet) -> Inspection {
    vnet.inspect().expect("alive").normalised()
}

/// What an init step makes: names that histories use as well.
fn step() -> InitRecord {
    let make = |vnet: &Vnet| {
        vnet.epair("if1", vnet, "step")?;
        vnet.add_address("if1", "10.0.0.1/24".parse()?)?;
        vnet.bridge("if2")?;
        vnet.epair("if3", vnet, "joined")?;
        vnet.add_member("if2", "if3")?;
        vnet.lagg("if4", LaggConfig::default())?;
        vnet.add_member("if4", "joined")?;
        for (name, vid) in [("if0", 0), ("v1", 1)] {
            vnet.vlan("step", name, VlanConfig::dot1ad(vid))?;
        }
        Ok(())
    };
    InitRecord::new("step", Stage::Services, 0, make, |_| Ok(()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever was done in whatever order, lent, returned and renamed, the record is no longer than
    /// what there is, and makes a twin: alone and together with its peer.
    #[test]
    fn any_history_gives_a_twin(
        has_steps in any::<bool>(),
        acts in prop::collection::vec((any::<bool>(), act()), 1..120),
    ) {
        let system = System::virtual_time(1);
        if has_steps {
            system.register(step()).expect("a free name");
        }
        let [a, b] = ["a", "b"].map(|name| system.create(name).expect("a free name"));
        for (which, act) in &acts {
            let (vnet, peer) = if *which { (&a, &b) } else { (&b, &a) };
            let before = vnet.record().expect("alive");
            if !perform(vnet, peer, act) {
                prop_assert_eq!(vnet.record().expect("alive"), before, "{:?} has failed", act);
            }
        }
        // A twin has at home what is lent: it can be made, and looks the same when all is at home.
        let records = [&a, &b].map(|v| v.record().expect("alive"));
        system.replay_all(&records, |name| format!("{name}1")).expect("possible");
        for vnet in [&a, &b] {
            for lent in vnet.pins().expect("alive").lent {
                vnet.reclaim_interface(&lent.name).expect("it is there");
            }
        }
        system.sleep(Duration::from_millis(1)).expect("virtual");
        let records = [&a, &b].map(|v| v.record().expect("alive"));
        for (vnet, record) in [&a, &b].into_iter().zip(&records) {
            let seen = vnet.inspect().expect("alive");
            let text = record.to_toml().expect("it can be said");
            prop_assert_eq!(&Record::from_toml(&text).expect("what was written"), record);
            let stations = seen.interfaces.iter().filter_map(|i| i.bridging.as_ref());
            let stations: usize = stations.map(|b| b.stations.len()).sum();
            let things = stations + seen.interfaces.len() * 8 + seen.routes.len() + seen.tunables.len()
                + 30 + seen.interfaces.iter().map(|i| i.info.addresses.len()).sum::<usize>();
            prop_assert!(record.ops.len() <= things, "{:?}", record.ops);
            let twin = system.replay(record, "twin").expect("possible");
            same(&seen.normalised(), &normalised(&twin))?;
            prop_assert_eq!(peerless(&twin.record().expect("alive")), peerless(record));
        }
        // Ports have nothing plugged in, here as there: only carriers of pairs are left to differ.
        let made = system.replay_all(&records, |name| format!("{name}2")).expect("possible");
        system.sleep(Duration::from_millis(1)).expect("virtual");
        for (vnet, twin) in [&a, &b].into_iter().zip(&made) {
            let wired = |vnet: &Vnet| vnet.inspect().expect("alive").normalised_wired();
            same(&wired(vnet), &wired(twin))?;
            let again = twin.record().expect("alive");
            prop_assert_eq!(peerless(&again), peerless(&vnet.record().expect("alive")));
        }
    }
}

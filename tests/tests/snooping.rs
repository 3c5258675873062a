//! Promise: where a bridge snoops, packets to a group go to those who are in it and to routers, and to nobody else
//! (RFC 4541). What cannot be read is counted and changes nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::Duration;

use proptest::prelude::*;
use vnet::{
    BridgeVlans, DropReason, MemberConfig, MemberVlans, NextHop, Resource, Snooping, SnoopingInfo,
    StormLimits, Switchable, VlanConfig,
};
use vnet_tests::accounts::{assert_clean, assert_conserved};
use vnet_tests::bridge::{Bench, NOWHERE, station};
use vnet_tests::frames::{self, IPV4, IPV6, Ip4, checksum, ethernet, tagged};

const GROUP: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 3);
const OTHER: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 4);
const ALL_HOSTS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);
const ALL_REPORTS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 22);

/// How long hosts may take to answer.
const ANSWERED: Duration = Duration::from_secs(10);

fn mac(group: Ipv4Addr) -> [u8; 6] {
    let [_, b, c, d] = group.octets();
    [1, 0, 0x5e, b & 0x7f, c, d]
}

/// A packet of that protocol from host `n` to a group.
fn packet(n: u8, dst: Ipv4Addr, proto: u8, body: &[u8]) -> Vec<u8> {
    let src = match n {
        0 => Ipv4Addr::UNSPECIFIED,
        n => Ipv4Addr::new(192, 0, 2, n),
    };
    let ip = Ip4::new(src, dst, proto).packet(body);
    ethernet(mac(dst), station(n), IPV4, &ip)
}

fn data(n: u8, dst: Ipv4Addr) -> Vec<u8> {
    packet(n, dst, 17, &[0, 9, 0, 9, 0, 8, 0, 0])
}

fn igmp(mut body: Vec<u8>) -> Vec<u8> {
    let sum = checksum(&[&body]);
    body[2..4].copy_from_slice(&sum.to_be_bytes());
    body
}

/// A message of version 2.
fn v2(n: u8, dst: Ipv4Addr, kind: u8, code: u8, group: Ipv4Addr) -> Vec<u8> {
    let body = [&[kind, code, 0, 0][..], &group.octets()].concat();
    packet(n, dst, 2, &igmp(body))
}

fn joins(n: u8, group: Ipv4Addr) -> Vec<u8> {
    v2(n, group, 0x16, 0, group)
}

fn leaves(n: u8, group: Ipv4Addr) -> Vec<u8> {
    v2(n, Ipv4Addr::new(224, 0, 0, 2), 0x17, 0, group)
}

fn asks(n: u8) -> Vec<u8> {
    v2(n, ALL_HOSTS, 0x11, 100, Ipv4Addr::UNSPECIFIED)
}

/// A report of version 3, with records of a kind, a group and a number of sources.
fn v3(n: u8, records: &[(u8, Ipv4Addr, u8)]) -> Vec<u8> {
    let mut body = vec![0x22, 0, 0, 0, 0, 0, 0, records.len() as u8];
    for (kind, group, sources) in records {
        body.extend([*kind, 0, 0, *sources]);
        body.extend(group.octets());
        body.extend(vec![10; 4 * usize::from(*sources)]);
    }
    packet(n, ALL_REPORTS, 2, &igmp(body))
}

/// A bridge that snoops, over that many ports, of which the vnet itself is none. A switch without an address has asked
/// behind `p0` who is in which group of IPv4, and all have had the time to answer.
fn bench(ports: usize, change: impl FnOnce(&mut Snooping)) -> Bench {
    let b = Bench::new(ports);
    let mut snooping = Snooping::default();
    change(&mut snooping);
    b.config(|c| {
        c.host_port = Switchable::Off;
        c.snooping = Some(snooping);
    });
    b.ports[0].send(asks(0)).unwrap();
    b.system.poll(b.system.now());
    b.system.poll(b.system.now() + ANSWERED);
    hush(&b);
    b
}

fn hush(b: &Bench) {
    for port in &b.ports {
        while port.recv().is_some() {}
    }
}

fn known(b: &Bench) -> SnoopingInfo {
    b.vnet.bridge_info("bridge0").unwrap().snooping.unwrap()
}

#[test]
fn a_group_goes_to_its_members_and_to_routers_only() {
    let b = bench(5, |_| {});
    // Nobody is known in it: to all.
    assert_eq!(b.send_frame(0, data(1, GROUP)), [1, 2, 3, 4]);
    assert_eq!(b.send_frame(1, joins(2, GROUP)), NOWHERE);
    assert_eq!(b.send_frame(0, data(1, GROUP)), [1]);
    // A router asks, and hears what is said of groups from then on, and what is sent to them.
    assert_eq!(b.send_frame(4, asks(9)), [0, 1, 2, 3]);
    assert_eq!(known(&b).routers, ["p4"]);
    assert_eq!(b.send_frame(2, v3(3, &[(4, GROUP, 0), (1, OTHER, 2)])), [4]);
    assert_eq!(b.send_frame(0, data(1, GROUP)), [1, 2, 4]);
    assert_eq!(b.send_frame(0, data(1, OTHER)), [2, 4]);
    assert_eq!(b.send_frame(1, data(2, GROUP)), [2, 4], "not back");
    // 239.129.2.3 has the same MAC address as 239.1.2.3.
    let alias = Ipv4Addr::new(239, 129, 2, 3);
    assert_eq!(b.send_frame(0, data(1, alias)), [1, 2, 3, 4]);
    // Groups of the link, what is not IPv4, and one station are none of this.
    assert_eq!(b.send_frame(0, data(1, ALL_HOSTS)), [1, 2, 3, 4]);
    assert_eq!(b.send(0, mac(GROUP), station(1)), [1, 2, 3, 4]);
    // A host that leaves is gone when nobody answers the router's question.
    assert_eq!(b.send_frame(1, leaves(2, GROUP)), [4]);
    assert_eq!(b.send_frame(0, data(1, GROUP)), [1, 2, 4]);
    b.send_frame(4, v2(9, GROUP, 0x11, 10, GROUP));
    b.send_frame(2, joins(3, GROUP));
    b.system.poll(b.system.now() + Duration::from_secs(2));
    assert_eq!(b.send_frame(0, data(1, GROUP)), [2, 4]);
    // A question about single sources, or one that lowers nobody's timers, is no reason to forget anybody.
    for more in [
        [2, 125, 0, 1, 192, 0, 2, 77].as_slice(),
        &[2 | 8, 125, 0, 0],
    ] {
        let mut body = [&[0x11, 10, 0, 0][..], &GROUP.octets(), more].concat();
        body = igmp(body);
        b.send_frame(4, packet(9, GROUP, 2, &body));
        b.system.poll(b.system.now() + Duration::from_secs(3));
        assert_eq!(b.send_frame(0, data(1, GROUP)), [2, 4]);
    }
    // A member that is down has nobody behind it.
    b.vnet.set_up("p2", vnet::AdminState::Down).unwrap();
    b.vnet.set_up("p2", vnet::AdminState::Up).unwrap();
    assert_eq!(known(&b).groups, []);
    let seen = b.vnet.inspect().unwrap();
    assert_eq!(
        seen.interfaces[1].bridging.as_ref().unwrap().snooping,
        Some(known(&b))
    );
    assert_clean(&b.vnet.destroy());
}

#[test]
fn unknown_groups_may_be_kept_from_all_but_routers() {
    let b = bench(4, |c| c.unknown = Switchable::Off);
    assert_eq!(b.send_frame(0, data(1, GROUP)), NOWHERE);
    let router = MemberConfig {
        router: Switchable::On,
        ..MemberConfig::default()
    };
    b.vnet.set_member("bridge0", "p3", router).unwrap();
    assert_eq!(b.send_frame(0, data(1, GROUP)), [3]);
    assert_eq!(b.send_frame(1, joins(2, GROUP)), [3]);
    assert_eq!(b.send_frame(0, data(1, GROUP)), [1, 3]);
    // Of PIM, too, it is read who is a router (RFC 7761: hello, to all PIM routers).
    let pim = Ipv4Addr::new(224, 0, 0, 13);
    b.send_frame(2, packet(7, pim, 103, &[0x20, 0, 0, 0]));
    assert_eq!(b.send_frame(0, data(1, OTHER)), [2, 3]);
}

#[test]
fn a_bridge_asks_where_nobody_does_and_gives_way_to_who_is_better() {
    let b = Bench::new(2);
    b.config(|c| {
        c.snooping = Some(Snooping {
            querier: Some(Ipv4Addr::new(192, 0, 2, 50)),
            ..Snooping::default()
        });
    });
    b.system.poll(b.system.now());
    let asked = || {
        let frames = b
            .ports
            .iter()
            .map(|p| std::iter::from_fn(|| p.recv()).collect::<Vec<_>>());
        frames
            .map(|f| f.into_iter().map(|p| p.to_vec()).collect())
            .collect::<Vec<Vec<Vec<u8>>>>()
    };
    let first = asked();
    assert_eq!((first[0].len(), first[1].len()), (1, 1));
    let frame = &first[0][0];
    assert_eq!(frame[..6], mac(ALL_HOSTS));
    let ip = &frame[14..];
    assert_eq!(
        (ip[0], ip[8], ip[9]),
        (0x46, 1, 2),
        "with the router alert option, for one hop"
    );
    assert_eq!((checksum(&[&ip[..24]]), checksum(&[&ip[24..]])), (0, 0));
    assert_eq!(ip[12..16], [192, 0, 2, 50]);
    assert_eq!((ip[24], ip[25], &ip[28..32]), (0x11, 100, &[0; 4][..]));
    // Who leaves is asked for, there and nowhere else, and again a second later.
    b.send_frame(1, joins(2, GROUP));
    b.ports[1].send(leaves(2, GROUP)).unwrap();
    b.system.poll(b.system.now());
    let counts = |all: Vec<Vec<Vec<u8>>>| all.iter().map(Vec::len).collect::<Vec<_>>();
    assert_eq!(counts(asked()), [0, 1]);
    b.system.poll(b.system.now() + Duration::from_secs(1));
    assert_eq!(counts(asked()), [0, 1]);
    // Better than the bridge is whoever has a lesser address; without one, nobody is.
    for (n, is_querier) in [(0, true), (60, true), (40, false)] {
        b.ports[0].send(asks(n)).unwrap();
        b.system.poll(b.system.now());
        assert_eq!(known(&b).is_querier, is_querier, "{n}");
    }
    asked();
    b.system.poll(b.system.now() + Duration::from_secs(254));
    assert_eq!(counts(asked()), [0, 0]);
    b.system.poll(b.system.now() + Duration::from_secs(1));
    assert_eq!(counts(asked()), [1, 1]);
    assert_conserved(&b.vnet);
    assert_clean(&b.vnet.destroy());
}

/// What is in one VLAN is in no other; and it asks in those in which there are hosts.
#[test]
fn vlans_have_groups_of_their_own() {
    let b = Bench::new(4);
    for (n, vid) in [(0, 5), (1, 5), (2, 6), (3, 6)] {
        let config = MemberConfig {
            vlans: MemberVlans::access(vid),
            ..MemberConfig::default()
        };
        b.vnet
            .set_member("bridge0", &format!("p{n}"), config)
            .unwrap();
    }
    b.config(|c| {
        c.vlans = Some(BridgeVlans::default());
        c.snooping = Some(Snooping {
            querier: Some(Ipv4Addr::new(192, 0, 2, 50)),
            ..Snooping::default()
        });
    });
    b.system.poll(b.system.now());
    for port in &b.ports {
        let first = port.recv().expect("a question").to_vec();
        assert_eq!(first[12..14], [8, 0], "without a tag");
        assert!(port.recv().is_none());
    }
    b.send_frame(0, joins(1, GROUP));
    assert_eq!(b.send_frame(1, data(2, GROUP)), [0]);
    // Nobody is known in it there.
    assert_eq!(b.send_frame(2, data(3, GROUP)), [3]);
    b.send_frame(3, joins(4, OTHER));
    let groups = known(&b).groups;
    let known: Vec<_> = groups
        .iter()
        .map(|g| (g.vid, g.group, &*g.members[0]))
        .collect();
    assert_eq!(
        known,
        [(Some(5), GROUP.into(), "p0"), (Some(6), OTHER.into(), "p3")]
    );
}

/// The vnet's own packets to a group, and those to it.
#[test]
fn the_vnet_itself_sends_to_members_only_and_hears_all() {
    let b = bench(3, |_| {});
    b.config(|c| c.host_port = Switchable::On);
    b.vnet
        .add_address("bridge0", "192.0.2.100/24".parse().unwrap())
        .unwrap();
    b.system.poll(b.system.now());
    hush(&b);
    b.send_frame(1, joins(2, GROUP));
    let socket = vnet::net::UdpSocket::bind_in(&b.vnet, "192.0.2.100:9").unwrap();
    let groups = "239.0.0.0/8".parse().unwrap();
    b.vnet
        .add_route(groups, NextHop::Interface("bridge0".into()))
        .unwrap();
    for (group, expected) in [(GROUP, vec![1]), (OTHER, vec![0, 1, 2])] {
        socket.send_to(b"x", (group, 9)).unwrap();
        b.system.poll(b.system.now());
        let out: Vec<usize> = (0..3).filter(|n| b.ports[*n].recv().is_some()).collect();
        assert_eq!(out, expected, "{group}");
    }
    // What comes in for a group comes to the vnet, too, whoever is in it.
    let before = b.vnet.stats().unwrap().received;
    b.send_frame(0, data(1, GROUP));
    assert_eq!(b.vnet.stats().unwrap().received, before + 2);
}

#[test]
fn messages_that_cannot_be_read_are_counted_and_change_nothing() {
    let b = bench(3, |_| {});
    let good = v3(1, &[(4, GROUP, 3), (4, OTHER, 0)]);
    let mut bad = 0;
    // Truncated, at every length at which the IP header says so.
    let body = &good[34..];
    for len in 0..body.len() {
        let cut = igmp_or(&body[..len]);
        assert_eq!(b.send_frame(0, packet(1, ALL_REPORTS, 2, &cut)), NOWHERE);
        bad += 1;
        assert_eq!(known(&b).counters.malformed, bad, "{len}");
    }
    // A checksum, a group that is none, more records than there are.
    let mut sum = good.clone();
    sum[37] ^= 1;
    let no_group = v3(1, &[(4, Ipv4Addr::new(192, 0, 2, 1), 0)]);
    let mut more = body.to_vec();
    more[2..4].fill(0);
    more[7] = 200;
    let more = packet(1, ALL_REPORTS, 2, &igmp(more));
    for frame in [sum, no_group, more] {
        assert_eq!(b.send_frame(0, frame), NOWHERE);
        bad += 1;
        assert_eq!(known(&b).counters.malformed, bad);
    }
    assert_eq!(b.drops(DropReason::Malformed), bad);
    assert_eq!((known(&b).groups.len(), known(&b).counters.reports), (0, 0));
    b.send_frame(0, good);
    assert_eq!(known(&b).groups.len(), 2);
}

fn igmp_or(bytes: &[u8]) -> Vec<u8> {
    match bytes.len() {
        0..4 => bytes.to_vec(),
        _ => {
            let mut bytes = bytes.to_vec();
            bytes[2..4].fill(0);
            igmp(bytes)
        }
    }
}

#[test]
fn a_flood_of_groups_fills_a_table_that_is_bounded() {
    let b = bench(2, |c| c.max_groups = 10);
    for n in 0..=255 {
        let group = Ipv4Addr::new(239, 7, 7, n);
        b.send_frame(0, joins(1, group));
    }
    let info = known(&b);
    assert_eq!((info.groups.len(), info.counters.groups_full), (10, 246));
    let all = info.groups.iter().map(|g| g.members.len());
    assert_eq!(all.sum::<usize>(), 10);
    // Those for which there is no room go to all, as before.
    assert_eq!(b.send_frame(1, data(2, Ipv4Addr::new(239, 7, 7, 200))), [0]);
    assert_clean(&b.vnet.destroy());
}

/// Reports are frames to a group, and so under the limit of those.
#[test]
fn the_storm_limit_holds_for_groups_that_are_known() {
    let b = bench(2, |_| {});
    b.send_frame(1, joins(2, GROUP));
    let storm = StormLimits {
        multicast: NonZeroU32::new(4),
        ..StormLimits::default()
    };
    let config = MemberConfig {
        storm,
        ..MemberConfig::default()
    };
    b.vnet.set_member("bridge0", "p0", config).unwrap();
    let passed = (0..10).filter(|_| b.send_frame(0, data(1, GROUP)) == [1]);
    assert_eq!(passed.count(), 4);
}

/// What a storm limit drops, the bridge has not heard.
#[test]
fn reports_beyond_the_storm_limit_say_nothing() {
    let b = bench(2, |_| {});
    let storm = StormLimits {
        multicast: NonZeroU32::new(1),
        ..StormLimits::default()
    };
    let config = MemberConfig {
        storm,
        ..MemberConfig::default()
    };
    b.vnet.set_member("bridge0", "p0", config).unwrap();
    for n in 0..100 {
        b.send_frame(0, joins(1, Ipv4Addr::new(239, 7, 7, n)));
    }
    b.send_frame(0, asks(1));
    let info = known(&b);
    assert_eq!((info.groups.len(), info.counters.reports), (1, 1));
    assert_eq!(info.routers, [""; 0]);
    assert_eq!(b.drops(DropReason::RateLimited), 100);
}

/// Of a VLAN that the bridge does not tell apart it knows nothing: neither who is in which group there, nor who
/// asks.
#[test]
fn what_is_behind_tags_is_of_no_concern() {
    let provider = BridgeVlans {
        tpid: vnet::Tpid::Dot1ad,
        ..BridgeVlans::default()
    };
    for vlans in [None, Some(provider)] {
        let b = bench(3, |c| c.querier = Some(Ipv4Addr::new(192, 0, 2, 50)));
        b.config(|c| c.vlans = vlans.clone());
        b.system.poll(b.system.now());
        b.system.poll(b.system.now() + ANSWERED);
        hush(&b);
        for vid in [5, 6] {
            let tag = |frame: Vec<u8>| tagged(&frame, &[(0x8100, vid)]);
            assert_eq!(b.send_frame(0, tag(asks(1))), [1, 2]);
            assert_eq!(b.send_frame(0, tag(joins(1, GROUP))), [1, 2]);
            assert_eq!(b.send_frame(1, tag(data(2, GROUP))), [0, 2]);
        }
        let info = known(&b);
        assert!(info.is_querier && info.groups.is_empty() && info.routers.is_empty());
        assert_eq!(b.send_frame(0, joins(1, GROUP)), NOWHERE);
        assert_eq!(b.send_frame(1, data(2, GROUP)), [0]);
    }
}

/// A host does not say again by itself in which groups it is when its switch has lost its carrier.
#[test]
fn whoever_is_behind_a_member_that_is_back_is_asked_and_not_left_out() {
    let mut b = bench(3, |c| c.querier = Some(Ipv4Addr::new(192, 0, 2, 50)));
    for n in [1, 2] {
        b.send_frame(n, joins(1 + n as u8, GROUP));
    }
    assert_eq!(b.send_frame(0, data(1, GROUP)), [1, 2]);
    b.vnet.set_up("p1", vnet::AdminState::Down).unwrap();
    assert_eq!(b.send_frame(0, data(1, GROUP)), [2]);
    b.vnet.set_up("p1", vnet::AdminState::Up).unwrap();
    b.add_port();
    b.system.poll(b.system.now());
    let asked = b
        .ports
        .iter()
        .map(|p| std::iter::from_fn(|| p.recv()).count());
    assert_eq!(asked.collect::<Vec<_>>(), [0, 1, 0, 1]);
    assert_eq!(b.send_frame(0, data(1, GROUP)), [1, 2, 3]);
    // No host is to hear it.
    assert_eq!(b.send_frame(1, joins(2, GROUP)), NOWHERE);
    b.system.poll(b.system.now() + Duration::from_secs(10));
    assert_eq!(b.send_frame(0, data(1, GROUP)), [1, 2]);
    assert_clean(&b.vnet.destroy());
}

#[test]
fn groups_are_of_the_vlans_in_which_they_were_learned() {
    let b = bench(2, |_| {});
    b.send_frame(0, joins(1, GROUP));
    b.config(|c| c.vlans = Some(BridgeVlans::default()));
    assert_eq!(known(&b).groups, []);
    b.send_frame(0, joins(1, GROUP));
    assert_eq!(known(&b).groups[0].vid, Some(1));
}

/// Groups, members and routers are remembered at the cost of the vnet whose bridge it is.
#[test]
fn what_is_remembered_of_groups_is_under_the_limit_of_stations() {
    let b = bench(2, |c| c.max_groups = u32::MAX);
    b.send_frame(0, joins(1, GROUP));
    let held = b.vnet.usage(Resource::Stations).unwrap().current;
    b.vnet.set_limit(Resource::Stations, held + 10).unwrap();
    for n in 0..100 {
        b.send_frame(0, joins(1, Ipv4Addr::new(239, 7, 7, n)));
    }
    let info = known(&b);
    assert_eq!((info.groups.len(), info.counters.groups_full), (11, 90));
    let usage = b.vnet.usage(Resource::Stations).unwrap();
    assert_eq!((usage.current, usage.limit), (held + 10, held + 10));
    b.config(|c| c.snooping = None);
    let stations = b.vnet.usage(Resource::Stations).unwrap().current;
    assert_eq!(stations, 2, "who has asked, and who has joined");
    assert_clean(&b.vnet.destroy());
}

/// Nothing is dropped where there is nobody to ask.
#[test]
fn nobody_is_asked_where_nobody_is() {
    let b = bench(1, |c| c.querier = Some(Ipv4Addr::new(192, 0, 2, 50)));
    b.vnet.remove_member("bridge0", "p0").unwrap();
    let state = || {
        let stats = b.vnet.stats().unwrap();
        let drops = DropReason::ALL
            .iter()
            .map(|r| stats.tx_drops(*r))
            .sum::<u64>();
        (stats.sent, drops, known(&b).counters)
    };
    let before = state();
    b.system.poll(b.system.now() + Duration::from_secs(600));
    assert_eq!(state(), before);
    // Nor is a member that takes no groups.
    let mut config = MemberConfig {
        multicast: Switchable::Off,
        ..MemberConfig::default()
    };
    b.vnet.add_member("bridge0", "p0").unwrap();
    b.system.poll(b.system.now());
    hush(&b);
    b.vnet.set_member("bridge0", "p0", config.clone()).unwrap();
    b.system.poll(b.system.now() + Duration::from_secs(600));
    assert!(b.ports[0].recv().is_none());
    // In a VLAN that its last member has left, too.
    config = MemberConfig::default();
    config.vlans = MemberVlans::access(7);
    b.config(|c| c.vlans = Some(BridgeVlans::default()));
    b.vnet.set_member("bridge0", "p0", config).unwrap();
    b.system.poll(b.system.now() + Duration::from_secs(600));
    hush(&b);
    let before = state();
    b.vnet.remove_member("bridge0", "p0").unwrap();
    b.system.poll(b.system.now() + Duration::from_secs(600));
    assert_eq!(state(), before);
    assert_clean(&b.vnet.destroy());
}

/// A router that stands on the bridge's interface, in another vnet, asks like any other.
#[test]
fn a_router_above_the_bridge_is_heard() {
    let b = bench(2, |c| c.querier = Some(Ipv4Addr::new(192, 0, 2, 50)));
    b.config(|c| c.host_port = Switchable::On);
    b.vnet.vlan("bridge0", "v0", VlanConfig::dot1q(5)).unwrap();
    b.vnet.bridge("above").unwrap();
    let outside = b.vnet.port("outside", None).unwrap();
    for member in ["v0", "outside"] {
        b.vnet.add_member("above", member).unwrap();
    }
    let vlans = BridgeVlans {
        host: MemberVlans::trunk("5".parse().unwrap()),
        ..BridgeVlans::default()
    };
    b.config(|c| c.vlans = Some(vlans));
    for member in ["p0", "p1"] {
        let config = MemberConfig {
            vlans: MemberVlans::access(5),
            ..MemberConfig::default()
        };
        b.vnet.set_member("bridge0", member, config).unwrap();
    }
    b.system.poll(b.system.now());
    hush(&b);
    assert!(known(&b).is_querier);
    b.send_frame(0, joins(1, GROUP));
    outside.send(asks(9)).unwrap();
    b.system.poll(b.system.now());
    let info = known(&b);
    assert!(!info.is_querier, "one with a lesser address asks");
    assert_eq!(info.routers, ["bridge0"]);
    hush(&b);
    // What is said of groups reaches it.
    assert_eq!(b.send_frame(1, joins(2, OTHER)), NOWHERE);
    let seen: Vec<Vec<u8>> = std::iter::from_fn(|| outside.recv().map(|f| f.to_vec())).collect();
    assert_eq!(seen.last(), Some(&joins(2, OTHER)));
    assert_clean(&b.vnet.destroy());
}

fn mac6(group: Ipv6Addr) -> [u8; 6] {
    let [.., a, b, c, d] = group.octets();
    [0x33, 0x33, a, b, c, d]
}

fn g6(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

/// A message of MLD from host `n`, as it has to be sent.
fn mld(n: u8, dst: Ipv6Addr, kind: u8, code: u16, rest: &[u8]) -> Vec<u8> {
    let src = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, n.into());
    mld_from(src, n, dst, 1, kind, code, rest)
}

fn mld_from(
    src: Ipv6Addr,
    n: u8,
    dst: Ipv6Addr,
    hops: u8,
    kind: u8,
    code: u16,
    rest: &[u8],
) -> Vec<u8> {
    let ip = frames::mld((src, dst, hops), kind, code, rest);
    ethernet(mac6(dst), station(n), IPV6, &ip)
}

fn joins6(n: u8, group: Ipv6Addr) -> Vec<u8> {
    mld(n, group, 131, 0, &group.octets())
}

fn leaves6(n: u8, group: Ipv6Addr) -> Vec<u8> {
    mld(n, g6("ff02::2"), 132, 0, &group.octets())
}

fn asks6(n: u8, group: Ipv6Addr) -> Vec<u8> {
    let dst = if group.is_unspecified() {
        g6("ff02::1")
    } else {
        group
    };
    let rest = [&group.octets()[..], &[2, 125, 0, 0]].concat();
    mld(n, dst, 130, 1000, &rest)
}

/// A report of version 2, with records of a kind, a group and a number of sources.
fn report6(n: u8, records: &[(u8, Ipv6Addr, u8)]) -> Vec<u8> {
    let mut rest = vec![0, 0, 0, records.len() as u8];
    for (kind, group, sources) in records {
        rest.extend([*kind, 0, 0, *sources]);
        rest.extend(group.octets());
        rest.extend(vec![0x20; 16 * usize::from(*sources)]);
    }
    mld(n, g6("ff02::16"), 143, 0, &rest)
}

fn data6(n: u8, dst: Ipv6Addr) -> Vec<u8> {
    let mut ip = vec![0x60, 0, 0, 0, 0, 8, 17, 9];
    ip.extend(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n.into()).octets());
    ip.extend(dst.octets());
    ip.extend([0, 9, 0, 9, 0, 8, 0, 0]);
    ethernet(mac6(dst), station(n), IPV6, &ip)
}

/// The same of IPv6 (RFC 4541 section 3), by both versions of MLD.
#[test]
fn groups_of_ipv6_go_to_their_members_and_to_routers_only() {
    let b = bench(5, |_| {});
    let [group, other] = ["ff05::1:3", "ff05::1:4"].map(g6);
    // Nobody asks: who has not said that he is in a group may still be in it.
    assert_eq!(b.send_frame(0, data6(1, group)), [1, 2, 3, 4]);
    assert_eq!(b.send_frame(1, joins6(2, group)), [0, 2, 3, 4]);
    assert_eq!(b.send_frame(0, data6(1, group)), [1, 2, 3, 4]);
    assert_eq!(
        b.send_frame(4, asks6(9, Ipv6Addr::UNSPECIFIED)),
        [0, 1, 2, 3]
    );
    assert_eq!(known(&b).routers, ["p4"]);
    assert_eq!(b.send_frame(0, data6(1, group)), [1, 2, 3, 4]);
    assert_eq!(b.send_frame(1, joins6(2, group)), [4]);
    b.system.poll(b.system.now() + ANSWERED);
    assert_eq!(b.send_frame(0, data6(1, group)), [1, 4]);
    let records = [(4, group, 0), (1, other, 2)];
    assert_eq!(b.send_frame(2, report6(3, &records)), [4]);
    assert_eq!(b.send_frame(0, data6(1, group)), [1, 2, 4]);
    assert_eq!(b.send_frame(0, data6(1, other)), [2, 4]);
    // The last four bytes decide about the MAC address, all of them about the group.
    assert_eq!(b.send_frame(0, data6(1, g6("ff08::1:3"))), [1, 2, 3, 4]);
    assert_eq!(b.send_frame(0, data6(1, g6("ff02::1"))), [1, 2, 3, 4]);
    // IPv4 is none of it.
    assert_eq!(b.send_frame(0, data(1, GROUP)), [1, 2, 3, 4]);
    // Who leaves is gone when nobody answers the router.
    assert_eq!(b.send_frame(1, leaves6(2, group)), [4]);
    b.send_frame(4, asks6(9, group));
    b.send_frame(2, report6(3, &[(2, group, 0)]));
    b.system.poll(b.system.now() + Duration::from_secs(2));
    assert_eq!(b.send_frame(0, data6(1, group)), [2, 4]);
    let groups: Vec<_> = known(&b).groups.iter().map(|g| g.group).collect();
    assert_eq!(groups, [IpAddr::from(group), other.into()]);
    assert_clean(&b.vnet.destroy());
}

#[test]
fn a_bridge_asks_by_mld_and_gives_way_to_who_is_better() {
    let b = bench(2, |c| c.querier_v6 = Some(g6("fe80::50")));
    let group = g6("ff05::1:3");
    let asked = || {
        b.system.poll(b.system.now());
        [0, 1].map(|n| {
            std::iter::from_fn(|| b.ports[n].recv().map(|f| f.to_vec())).collect::<Vec<_>>()
        })
    };
    b.system.poll(b.system.now() + Duration::from_secs(32));
    let first = asked();
    let frame = &first[0][0];
    assert_eq!(
        (&frame[..6], &frame[12..14]),
        (&mac6(g6("ff02::1"))[..], &[0x86, 0xdd][..])
    );
    let ip = &frame[14..];
    assert_eq!(
        (ip[6], ip[7], &ip[40..48]),
        (0, 1, &[58, 0, 5, 2, 0, 0, 1, 0][..])
    );
    assert_eq!(ip[8..24], g6("fe80::50").octets());
    let body = &ip[48..];
    assert_eq!(
        (body[0], body.len(), &body[4..6]),
        (130, 28, &10_000u16.to_be_bytes()[..])
    );
    let len = (body.len() as u32).to_be_bytes();
    assert_eq!(checksum(&[&ip[8..40], &len, &[0, 0, 0, 58], body]), 0);
    b.send_frame(1, joins6(2, group));
    b.ports[1].send(leaves6(2, group)).unwrap();
    let [none, one] = asked();
    assert_eq!((none.len(), one.len()), (0, 1));
    assert_eq!(
        (&one[0][..6], &one[0][70..86]),
        (&mac6(group)[..], &group.octets()[..])
    );
    for (n, is_querier) in [(0x60, true), (0x40, false)] {
        b.ports[0].send(asks6(n, Ipv6Addr::UNSPECIFIED)).unwrap();
        b.system.poll(b.system.now());
        assert_eq!(known(&b).is_querier, is_querier);
    }
    let refused = b.vnet.set_bridge(
        "bridge0",
        vnet::BridgeConfig {
            snooping: Some(Snooping {
                querier_v6: Some(g6("2001:db8::1")),
                ..Snooping::default()
            }),
            ..vnet::BridgeConfig::default()
        },
    );
    assert!(refused.is_err(), "hosts would not answer");
    assert_clean(&b.vnet.destroy());
}

#[test]
fn messages_of_mld_that_cannot_be_read_are_counted_and_change_nothing() {
    let b = bench(3, |_| {});
    let group = g6("ff05::1:3");
    let near = g6("fe80::1");
    let mut sum = joins6(1, group);
    *sum.last_mut().unwrap() ^= 1;
    let mut all = vec![
        sum,
        mld_from(near, 1, group, 2, 131, 0, &group.octets()),
        mld_from(g6("2001:db8::1"), 1, group, 1, 131, 0, &group.octets()),
        mld_from(
            Ipv6Addr::UNSPECIFIED,
            1,
            g6("ff02::1"),
            1,
            130,
            1000,
            &[0; 16],
        ),
        mld(1, group, 131, 0, &near.octets()),
        mld(1, g6("ff02::16"), 143, 0, &[0, 0, 0, 2, 4, 0, 0, 0]),
    ];
    all.extend((1..16).map(|len| mld(1, group, 131, 0, &group.octets()[..len])));
    all.extend((17..20).map(|len| mld(1, g6("ff02::1"), 130, 0, &vec![0; len])));
    for (n, frame) in (1..).zip(all) {
        assert_eq!(b.send_frame(0, frame), NOWHERE);
        assert_eq!(known(&b).counters.malformed, n);
    }
    let info = known(&b);
    assert_eq!(
        (info.groups.len(), info.routers.len(), info.counters.reports),
        (0, 0, 0)
    );
    // A report of a host that has no address yet is believed (RFC 3590).
    b.send_frame(
        0,
        mld_from(Ipv6Addr::UNSPECIFIED, 1, group, 1, 131, 0, &group.octets()),
    );
    assert_eq!(known(&b).groups.len(), 1);
}

proptest! {
    /// Any bytes of IGMP are counted once, and no table grows beyond its bound.
    #[test]
    fn any_bytes_are_taken_in_or_counted(
        bodies in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..80), any::<bool>(), 0..3_usize), 1..40),
    ) {
        let b = bench(3, |c| (c.max_groups, c.querier) = (5, Some(Ipv4Addr::new(192, 0, 2, 50))));
        for (mut body, is_good, from) in bodies {
            if is_good && body.len() >= 8 {
                body[0] = [0x11, 0x12, 0x16, 0x17, 0x22][usize::from(body[1]) % 5];
                match body[0] {
                    0x22 => (body[6], body[7]) = (0, body[7] % 4),
                    _ => body[4] = 239,
                }
                for at in [12, 20, 28] {
                    if body[0] == 0x22 && body.len() > at {
                        body[at] = 239;
                        body[at - 3..at].fill(0);
                    }
                }
                body[2..4].fill(0);
                body = igmp(body);
            }
            b.ports[from].send(packet(1 + from as u8, GROUP, 2, &body)).unwrap();
            b.system.poll(b.system.now() + Duration::from_millis(700));
            assert_conserved(&b.vnet);
            prop_assert!(known(&b).groups.len() <= 5);
        }
        assert_clean(&b.vnet.destroy());
    }
}

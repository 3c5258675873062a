//! Promise: a member of a bridge is sent what it is to be sent, and the stations behind it stay, or are
//! few, where that is said.

use std::num::NonZeroU32;
use std::time::Duration;

use vnet::{
    AdminError, AdminState, BridgeMode, BridgeVlans, Carrier, DropReason, MacAddr, MemberConfig,
    MemberVlans, Resource, RstpConfig, StationOrigin, StormLimits, Switchable,
};
use vnet_tests::accounts::assert_clean;
use vnet_tests::bridge::{Bench, EVERYONE, NOWHERE, station};
use vnet_tests::frames::{ethernet, tagged};

/// Sets how a member is treated, from the defaults on.
fn treat(b: &Bench, member: &str, change: impl FnOnce(&mut MemberConfig)) {
    let mut config = MemberConfig::default();
    change(&mut config);
    b.vnet.set_member("bridge0", member, config).unwrap();
}

#[test]
fn a_member_can_be_kept_from_broadcasts_and_multicasts() {
    let b = Bench::new(3);
    let group = [1, 0, 0x5e, 0, 0, 1];
    treat(&b, "p1", |c| c.broadcast = Switchable::Off);
    assert_eq!(b.send(0, EVERYONE, station(1)), [2]);
    assert_eq!(b.send(0, group, station(1)), [1, 2]);
    treat(&b, "p1", |c| c.multicast = Switchable::Off);
    assert_eq!(b.send(0, EVERYONE, station(1)), [1, 2]);
    assert_eq!(b.send(0, group, station(1)), [2]);
    assert_eq!(b.send(0, station(2), station(1)), [1, 2], "nobody knows 2");
    treat(&b, "p2", |c| c.multicast = Switchable::Off);
    let before = b.drops(DropReason::BridgeFiltered);
    b.config(|c| c.host_port = Switchable::Off);
    assert_eq!(b.send(0, group, station(1)), NOWHERE);
    assert_eq!(b.drops(DropReason::BridgeFiltered), before + 1);
}

#[test]
fn stations_behind_a_sticky_member_stay_there() {
    let b = Bench::new(3);
    treat(&b, "p0", |c| {
        (c.sticky, c.max_stations) = (Switchable::On, Some(4));
    });
    b.config(|c| c.max_age = Duration::from_secs(60));
    b.send(0, EVERYONE, station(1));
    b.system.poll(b.system.now() + Duration::from_secs(600));
    // Whatever another one says of itself, and although the member was down.
    b.send(1, EVERYONE, station(1));
    b.vnet.set_up("p0", AdminState::Down).unwrap();
    b.vnet.set_up("p0", AdminState::Up).unwrap();
    assert_eq!(b.send(2, station(1), station(2)), [0]);
    let known = b.vnet.stations("bridge0").unwrap();
    let one = known.iter().find(|s| s.mac == MacAddr(station(1))).unwrap();
    assert_eq!(one.origin, StationOrigin::Sticky);
    let counters = b.vnet.bridge_info("bridge0").unwrap().counters;
    assert_eq!(counters.moved, 0);
    b.vnet.flush_stations("bridge0").unwrap();
    b.send(1, EVERYONE, station(1));
    assert_eq!(b.send(2, station(1), station(2)), [1]);
    assert_clean(&b.vnet.destroy());
}

#[test]
fn nobody_passes_a_limited_member_because_the_table_is_full() {
    let b = Bench::new(2);
    treat(&b, "p0", |c| c.max_stations = Some(2));
    b.config(|c| c.max_stations = 1);
    assert_eq!(b.send(1, EVERYONE, station(1)), [0]);
    assert_eq!(b.send(0, EVERYONE, station(2)), NOWHERE);
    assert_eq!(b.send(1, EVERYONE, station(3)), [0]);
    assert_eq!(b.drops(DropReason::BridgeStations), 1);
    for cannot_be in [
        MemberConfig {
            learn: Switchable::Off,
            max_stations: Some(2),
            ..MemberConfig::default()
        },
        MemberConfig {
            sticky: Switchable::On,
            ..MemberConfig::default()
        },
    ] {
        let said = b.vnet.set_member("bridge0", "p0", cannot_be);
        assert!(matches!(said, Err(AdminError::Config(_))), "{said:?}");
    }
}

#[test]
fn a_vnet_has_a_limit_of_stations_on_all_its_bridges() {
    let b = Bench::new(2);
    let v = &b.vnet;
    v.bridge("bridge1").unwrap();
    let _port = v.port("other", None).unwrap();
    v.add_member("bridge1", "other").unwrap();
    v.set_limit(Resource::Stations, 2).unwrap();
    let add = |bridge, member, n| v.add_station(bridge, member, MacAddr(station(n)), None);
    add("bridge1", "other", 9).unwrap();
    b.send(0, EVERYONE, station(1));
    assert_eq!(
        b.send(0, EVERYONE, station(2)),
        [1],
        "not learned, but forwarded"
    );
    assert_eq!(b.learned().len(), 1);
    assert_eq!(
        add("bridge1", "other", 8),
        Err(AdminError::Limit("stations"))
    );
    add("bridge1", "other", 9).unwrap();
    let usage = v.usage(Resource::Stations).unwrap();
    assert_eq!((usage.current, usage.limit, usage.refused), (2, 2, 2));
    // What goes makes room.
    v.remove_interface("bridge1").unwrap();
    b.send(0, EVERYONE, station(2));
    assert_eq!(b.learned().len(), 2);
    assert_eq!(v.usage(Resource::Stations).unwrap().current, 2);
    assert_clean(&b.vnet.destroy());
}

#[test]
fn more_stations_than_may_be_behind_a_member_are_turned_away() {
    let b = Bench::new(2);
    treat(&b, "p0", |c| c.max_stations = Some(2));
    for n in 1..=2 {
        assert_eq!(b.send(0, EVERYONE, station(n)), [1]);
    }
    assert_eq!(b.send(0, EVERYONE, station(3)), NOWHERE);
    assert_eq!(b.send(0, EVERYONE, station(2)), [1]);
    // Nor does one move there that is known elsewhere.
    b.send(1, EVERYONE, station(4));
    assert_eq!(b.send(0, EVERYONE, station(4)), NOWHERE);
    assert_eq!(b.learned()[&MacAddr(station(4))], "p1");
    assert_eq!(b.drops(DropReason::BridgeStations), 2);
    let counters = b.vnet.bridge_info("bridge0").unwrap().counters;
    assert_eq!((counters.refused, counters.learned), (2, 3));
    // When one has aged, there is room for another.
    b.config(|c| c.max_age = Duration::from_secs(60));
    b.system.poll(b.system.now() + Duration::from_secs(60));
    assert_eq!(b.send(0, EVERYONE, station(3)), [1]);
    assert_clean(&b.vnet.destroy());
}

/// One VLAN of a member does not take the room of its others.
#[test]
fn each_vlan_of_a_member_may_have_a_limit() {
    let b = Bench::new(2);
    b.config(|c| c.vlans = Some(BridgeVlans::default()));
    for member in ["p0", "p1"] {
        treat(&b, member, |c| {
            c.vlans = MemberVlans::trunk("5,6".parse().unwrap());
            c.max_stations_in_vlan = (member == "p0").then_some(2);
        });
    }
    let send = |from, vid, n| {
        let frame = ethernet(EVERYONE, station(n), 0x88b5, b"x");
        b.send_frame(from, tagged(&frame, &[(0x8100, vid)]))
    };
    for vid in [5, 6] {
        assert_eq!(send(0, vid, 1), [1]);
        assert_eq!(send(0, vid, 2), [1]);
        assert_eq!(send(0, vid, 3), NOWHERE, "VLAN {vid} is full");
    }
    assert_eq!(send(0, 5, 1), [1]);
    // Nor does one move there that is known elsewhere.
    assert_eq!(send(1, 5, 4), [0]);
    assert_eq!(send(0, 5, 4), NOWHERE);
    assert_eq!(b.drops(DropReason::BridgeStations), 3);
    // Whoever moves away, or is forgotten, makes room.
    assert_eq!(send(1, 5, 1), [0]);
    assert_eq!(send(0, 5, 3), [1]);
    b.vnet
        .remove_station("bridge0", MacAddr(station(2)), Some(6))
        .unwrap();
    assert_eq!(send(0, 6, 3), [1]);
    let refused = MemberConfig {
        learn: Switchable::Off,
        max_stations_in_vlan: Some(1),
        ..MemberConfig::default()
    };
    assert!(b.vnet.set_member("bridge0", "p0", refused).is_err());
    assert_clean(&b.vnet.destroy());
}

#[test]
fn a_storm_ends_at_the_member_that_brings_it_in() {
    let b = Bench::new(3);
    let group = [1, 0, 0x5e, 0, 0, 9];
    treat(&b, "p0", |c| {
        c.storm = StormLimits {
            broadcast: NonZeroU32::new(10),
            multicast: NonZeroU32::new(5),
            unknown: NonZeroU32::new(3),
        };
    });
    let passed = |from: usize, dst: [u8; 6]| {
        let sent = (0..100).map(|_| b.send(from, dst, station(1 + from as u8)));
        sent.filter(|out| !out.is_empty()).count()
    };
    let all = [EVERYONE, group, station(99)];
    assert_eq!(all.map(|dst| passed(0, dst)), [10, 5, 3]);
    assert_eq!(
        all.map(|dst| passed(1, dst)),
        [100; 3],
        "others are not limited"
    );
    // What goes to one station is no storm.
    assert_eq!(passed(0, station(2)), 100);
    b.system.poll(b.system.now() + Duration::from_millis(500));
    assert_eq!(all.map(|dst| passed(0, dst)), [5, 2, 1]);
    let dropped = (300 - 18) + (300 - 8);
    assert_eq!(b.drops(DropReason::RateLimited), dropped);
    let counters = b.vnet.bridge_info("bridge0").unwrap().counters;
    assert_eq!(counters.storms, dropped);
    // The limit goes with the configuration.
    treat(&b, "p0", |_| {});
    assert_eq!(passed(0, EVERYONE), 100);
    assert_clean(&b.vnet.destroy());
}

#[test]
fn a_span_member_sees_what_the_bridge_is_given_and_is_heard_by_nobody() {
    let b = Bench::new(4);
    treat(&b, "p3", |c| c.span = Switchable::On);
    assert_eq!(b.send(0, EVERYONE, station(1)), [1, 2, 3]);
    b.send(1, EVERYONE, station(2));
    assert_eq!(
        b.send(0, station(2), station(1)),
        [1, 3],
        "what is for another one, too"
    );
    // What the bridge drops it has been given, too.
    assert_eq!(b.send(0, station(1), station(1)), [3]);
    assert_eq!(b.send(0, [1, 0x80, 0xc2, 0, 0, 0], station(1)), [3]);
    // What it says, nobody hears, and nobody is behind it.
    assert_eq!(b.send(3, EVERYONE, station(9)), NOWHERE);
    assert!(!b.learned().contains_key(&MacAddr(station(9))));
    // Of hubs and of what the vnet itself sends, as well.
    b.config(|c| c.mode = BridgeMode::Hub);
    assert_eq!(b.send(0, station(2), station(1)), [1, 2, 3]);
    b.vnet
        .add_address("bridge0", "192.0.2.1/24".parse().unwrap())
        .unwrap();
    b.system.poll(b.system.now());
    let seen = b
        .ports
        .iter()
        .map(|p| std::iter::from_fn(|| p.recv()).count());
    assert_eq!(
        seen.collect::<Vec<_>>(),
        [1; 4],
        "it has announced its address"
    );
    assert_clean(&b.vnet.destroy());
}

/// As it came: with its tags, before the bridge has said in which VLAN it is.
#[test]
fn a_span_member_sees_every_vlan() {
    let b = Bench::new(3);
    b.config(|c| c.vlans = Some(BridgeVlans::default()));
    treat(&b, "p0", |c| c.vlans = MemberVlans::access(5));
    treat(&b, "p2", |c| c.span = Switchable::On);
    assert_eq!(b.send(0, EVERYONE, station(1)), [2]);
    assert_eq!(b.send(1, EVERYONE, station(2)), [2]);
}

/// A member that only watches is in no spanning tree: it would hear, and be heard, one way only.
#[test]
fn a_span_member_is_no_port_of_a_spanning_tree() {
    let b = Bench::new(3);
    b.config(|c| c.stp = Some(RstpConfig::default()));
    let ports = || {
        let info = b.vnet.bridge_info("bridge0").unwrap();
        info.stp
            .unwrap()
            .ports
            .into_iter()
            .map(|p| p.name)
            .collect::<Vec<_>>()
    };
    treat(&b, "p2", |c| c.span = Switchable::On);
    assert_eq!(ports(), ["p0", "p1"]);
    b.system.poll(b.system.now());
    while b.ports[2].recv().is_some() {}
    b.system.poll(b.system.now() + Duration::from_secs(60));
    assert!(b.ports[2].recv().is_none() && b.ports[1].recv().is_some());
    // A tree that is planted later has no such port, either; and the member is a port when it does more.
    b.config(|c| c.stp = None);
    b.config(|c| c.stp = Some(RstpConfig::default()));
    assert_eq!(ports(), ["p0", "p1"]);
    treat(&b, "p2", |_| {});
    assert_eq!(ports(), ["p0", "p1", "p2"]);
    assert_clean(&b.vnet.destroy());
}

/// Two that watch would multiply what each brings in.
#[test]
fn what_a_span_member_brings_in_is_shown_to_no_other() {
    let b = Bench::new(3);
    for member in ["p1", "p2"] {
        treat(&b, member, |c| c.span = Switchable::On);
    }
    assert_eq!(b.send(0, EVERYONE, station(1)), [1, 2]);
    assert_eq!(b.send(1, EVERYONE, station(2)), NOWHERE);
}

#[test]
fn a_span_member_holds_up_no_bridge_and_is_behind_nobody() {
    let b = Bench::new(2);
    treat(&b, "p1", |c| c.span = Switchable::On);
    let carrier = || {
        let all = b.vnet.interfaces().unwrap();
        all.into_iter()
            .find(|i| i.name == "bridge0")
            .unwrap()
            .carrier
    };
    b.vnet.set_up("p0", AdminState::Down).unwrap();
    assert_eq!(carrier(), Carrier::Down);
    treat(&b, "p1", |_| {});
    assert_eq!(carrier(), Carrier::Up);
    treat(&b, "p1", |c| c.span = Switchable::On);
    assert_eq!(carrier(), Carrier::Down);
    let refused = b
        .vnet
        .add_station("bridge0", "p1", MacAddr(station(5)), None);
    assert!(matches!(refused, Err(AdminError::Config(_))), "{refused:?}");
    // One that is down, or takes smaller frames, drops nothing of the vnet's.
    b.vnet.set_up("p0", AdminState::Up).unwrap();
    b.vnet.set_ip_mtu("p1", 600).unwrap();
    let long = ethernet(EVERYONE, station(1), 0x88b5, &[0; 1000]);
    assert_eq!(b.send_frame(0, long), NOWHERE);
    b.vnet.set_up("p1", AdminState::Down).unwrap();
    assert_eq!(b.send(0, EVERYONE, station(1)), NOWHERE);
    let counters = b.vnet.bridge_info("bridge0").unwrap().counters;
    assert_eq!((counters.too_big, counters.member_down), (1, 1));
    assert_eq!(
        b.vnet.stats().unwrap().tx_drops(DropReason::InterfaceDown),
        0
    );
    assert_clean(&b.vnet.destroy());
}

/// Each move is counted, of the bridge and of the station.
#[test]
fn a_station_that_moves_is_found_out() {
    let b = Bench::new(3);
    for n in [0, 1, 0, 0, 2, 1] {
        b.send(n, EVERYONE, station(1));
    }
    b.send(0, EVERYONE, station(2));
    let moves = |n: u8| {
        let known = b.vnet.stations("bridge0").unwrap();
        known
            .iter()
            .find(|s| s.mac == MacAddr(station(n)))
            .unwrap()
            .moves
    };
    assert_eq!((moves(1), moves(2)), (4, 0));
    assert_eq!(b.vnet.bridge_info("bridge0").unwrap().counters.moved, 4);
}

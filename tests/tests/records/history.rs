//! Histories of what administrators do, for the tests of records.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnet::Ipv4Net;
use proptest::prelude::*;
use vnet::link::{Codel, Discipline, Ecn, FqCodel, Jitter, Loss, Order, QueueConfig, Red, Reorder};
use vnet::net::AddressPolicy;
use vnet::sysctl;
use vnet::{
    AdminState, BridgeConfig, BridgeVlans, Carrier, Forwarding, LaggConfig, LaggMode, LinkConfig,
    MacAddr, MemberConfig, MemberVlans, NextHop, Offload, OwnedVnet, Privilege, Privileges,
    Resource, RouterConfig, RstpConfig, Switchable, VlanConfig, Vnet,
};

fn net(text: &str) -> Ipv4Net {
    text.parse().expect("a prefix")
}

/// Something that an administrator does. Numbers choose among few names, so that things meet.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Epair(u8, u8),
    Port(u8),
    Remove(u8),
    Mtu(u8, u16),
    Up(u8, bool),
    Offload(u8),
    Link(u8, u8),
    Mac(u8, u8),
    Add(u8, u8, u8),
    Del(u8, u8),
    Anycast(u8, u8),
    Unanycast(u8, u8),
    Neighbour(u8, u8, u8),
    Unneighbour(u8, u8),
    RouteVia(u8, u8),
    RouteOn(u8, u8),
    RouteDel(u8),
    RouteNowhere(u8, u8),
    RouteAt(u8, u8, u8),
    Forward(bool),
    Ttl(u8),
    Policy(u8),
    Router(u8, u8),
    Limit(u8),
    Privileges(u16),
    Bridge(u8),
    Vlan(u8, u8, u16),
    Retag(u8, u16),
    Lagg(u8, u8),
    SetLagg(u8, u8),
    Join(u8, u8),
    Leave(u8, u8),
    Member(u8, u8),
    Age(u8, u8),
    Station(u8, u8, u8),
    Unstation(u8, u8),
    Rename(u8, u8),
    Lend(u8, u8),
    Return(u8),
    Reclaim(u8),
    AnyLink(u8, Box<LinkConfig>),
    AnyAge(u8, Duration, usize),
    AnySysctl(usize, Edge),
    AnyLimit(usize, u64),
    Offloads(u8, u8),
}

/// The ends of a range, and the next ones to them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Edge {
    Least,
    AboveLeast,
    BelowMost,
    Most,
}

pub(crate) fn act() -> impl Strategy<Value = Act> {
    let name = 0..5_u8;
    let host = 1..8_u8;
    prop_oneof![
        3 => (name.clone(), name.clone()).prop_map(|(n, m)| Act::Epair(n, m)),
        1 => name.clone().prop_map(Act::Port),
        2 => name.clone().prop_map(Act::Remove),
        1 => (name.clone(), 60..2000_u16).prop_map(|(n, m)| Act::Mtu(n, m)),
        1 => (name.clone(), any::<bool>()).prop_map(|(n, up)| Act::Up(n, up)),
        1 => name.clone().prop_map(Act::Offload),
        1 => (name.clone(), any::<u8>()).prop_map(|(n, d)| Act::Link(n, d)),
        1 => (name.clone(), any::<u8>()).prop_map(|(n, m)| Act::Mac(n, m)),
        5 => (name.clone(), host.clone(), 24..=32_u8).prop_map(|(n, h, l)| Act::Add(n, h, l)),
        3 => (name.clone(), host.clone()).prop_map(|(n, h)| Act::Del(n, h)),
        2 => (name.clone(), 1..4_u8).prop_map(|(n, h)| Act::Anycast(n, h)),
        1 => (name.clone(), 1..4_u8).prop_map(|(n, h)| Act::Unanycast(n, h)),
        3 => (name.clone(), host.clone(), any::<u8>()).prop_map(|(n, h, m)| Act::Neighbour(n, h, m)),
        2 => (name.clone(), host.clone()).prop_map(|(n, h)| Act::Unneighbour(n, h)),
        2 => (host.clone(), host.clone()).prop_map(|(d, g)| Act::RouteVia(d, g)),
        2 => (host.clone(), name).prop_map(|(d, n)| Act::RouteOn(d, n)),
        2 => host.clone().prop_map(Act::RouteDel),
        1 => (host.clone(), 0..3_u8).prop_map(|(d, k)| Act::RouteNowhere(d, k)),
        2 => (host.clone(), host, 0..4_u8).prop_map(|(d, g, m)| Act::RouteAt(d, g, m)),
        1 => any::<bool>().prop_map(Act::Forward),
        1 => any::<u8>().prop_map(Act::Ttl),
        1 => (0..4_u8).prop_map(Act::Policy),
        1 => (any::<u8>(), any::<u8>()).prop_map(|(a, n)| Act::Router(a, n)),
        1 => (4..20_u8).prop_map(Act::Limit),
        1 => any::<u16>().prop_map(Act::Privileges),
        8 => bridge_act(),
        5 => vlan_act(),
        4 => lagg_act(),
        8 => move_act(),
        6 => edge_act(),
    ]
}

fn move_act() -> impl Strategy<Value = Act> {
    let name = 0..5_u8;
    let two = (name.clone(), name.clone());
    prop_oneof![
        2 => two.clone().prop_map(|(n, m)| Act::Rename(n, m)),
        4 => two.prop_map(|(n, m)| Act::Lend(n, m)),
        2 => name.clone().prop_map(Act::Return),
        2 => name.prop_map(Act::Reclaim),
    ]
}

/// What has a range, at its edges.
fn edge_act() -> impl Strategy<Value = Act> {
    let name = 0..5_u8;
    let edge = prop_oneof![
        Just(Edge::Least),
        Just(Edge::AboveLeast),
        Just(Edge::BelowMost),
        Just(Edge::Most),
    ];
    // What limits interfaces and routes has an act of its own, that leaves room for others.
    let limit = prop_oneof![Just(0), Just(1), Just(u64::MAX), edge_number()];
    prop_oneof![
        3 => (name.clone(), link()).prop_map(|(n, l)| Act::AnyLink(n, Box::new(l))),
        1 => (name.clone(), duration(Duration::MAX), edge_size()).prop_map(|(n, d, s)| Act::AnyAge(n, d, s)),
        3 => (0..200_usize, edge).prop_map(|(n, e)| Act::AnySysctl(n, e)),
        1 => (0..Resource::ALL.len(), limit).prop_map(|(r, l)| Act::AnyLimit(r, l)),
        1 => (name, 0..3_u8).prop_map(|(n, o)| Act::Offloads(n, o)),
    ]
}

/// Numbers above zero, and mostly where a width ends.
pub(crate) fn edge_number() -> impl Strategy<Value = u64> {
    let end = i64::MAX as u64;
    let edges = [1, 2, 1 << 32, end - 1, end, end + 1, u64::MAX - 1, u64::MAX];
    prop_oneof![prop::sample::select(edges.to_vec()), 1..=u64::MAX]
}

fn edge_size() -> impl Strategy<Value = usize> {
    edge_number().prop_map(|n| n as usize)
}

pub(crate) fn duration(most: Duration) -> impl Strategy<Value = Duration> {
    let any = (0..=most.as_secs(), 0..1_000_000_000_u32);
    let any = any.prop_map(move |(secs, nanos)| Duration::new(secs, nanos).min(most));
    prop_oneof![
        Just(Duration::ZERO),
        Just(Duration::from_nanos(1)),
        Just(most),
        any
    ]
}

/// Probabilities, the smallest and the least round ones among them.
pub(crate) fn probability() -> impl Strategy<Value = f64> {
    let edges = vec![
        0.0,
        1.0,
        5e-324,
        f64::MIN_POSITIVE,
        0.1 + 0.2,
        1.0 - f64::EPSILON / 2.0,
    ];
    prop_oneof![prop::sample::select(edges), 0.0..=1.0]
}

fn order() -> impl Strategy<Value = Order> {
    prop_oneof![Just(Order::Kept), Just(Order::Free)]
}

fn jitter() -> impl Strategy<Value = Jitter> {
    let length = || duration(LinkConfig::MAX_DELAY);
    let shape = prop_oneof![Just(f64::MAX), Just(5e-324), 1e-9..10.0];
    prop_oneof![
        Just(Jitter::None),
        (length(), order()).prop_map(|(amplitude, order)| Jitter::Uniform { amplitude, order }),
        (length(), order()).prop_map(|(deviation, order)| Jitter::Normal { deviation, order }),
        (length(), shape, order()).prop_map(|(scale, shape, order)| Jitter::Pareto {
            scale,
            shape,
            order
        }),
        (prop::collection::vec(length(), 1..4), order()).prop_map(|(delays, order)| {
            Jitter::Trace {
                delays: delays.into(),
                order,
            }
        }),
    ]
}

fn loss() -> impl Strategy<Value = Loss> {
    let four = (probability(), probability(), probability(), probability());
    prop_oneof![
        Just(Loss::None),
        probability().prop_map(Loss::Random),
        four.prop_map(|(p, r, h, k)| Loss::GilbertElliott { p, r, h, k }),
        edge_number().prop_map(Loss::Every),
        prop::collection::vec(any::<bool>(), 1..9).prop_map(|trace| Loss::Trace(trace.into())),
    ]
}

fn ecn() -> impl Strategy<Value = Ecn> {
    prop_oneof![Just(Ecn::Off), Just(Ecn::Mark)]
}

fn codel() -> impl Strategy<Value = Codel> {
    let length = || duration(LinkConfig::MAX_DELAY);
    (length(), length(), ecn()).prop_map(|(target, interval, ecn)| Codel {
        target,
        interval: interval.max(Duration::from_nanos(1)),
        ecn,
    })
}

fn discipline() -> impl Strategy<Value = Discipline> {
    let red = (1..=u64::MAX, probability(), 0..=32_u8, ecn());
    let fq = (codel(), prop_oneof![Just(1), Just(65_536)], 1..=u32::MAX);
    let weights = prop::collection::vec(1..=u32::MAX, 1..=64);
    prop_oneof![
        Just(Discipline::DropTail),
        Just(Discipline::StrictPriority),
        red.prop_map(
            |(max_bytes, max_probability, weight_shift, ecn)| Discipline::Red(Red {
                min_bytes: max_bytes - 1,
                max_bytes,
                max_probability,
                weight_shift,
                ecn,
            })
        ),
        codel().prop_map(Discipline::Codel),
        fq.prop_map(|(codel, flows, quantum)| Discipline::FqCodel(FqCodel {
            codel,
            flows,
            quantum
        })),
        (weights, 1..=u32::MAX).prop_map(|(weights, quantum)| Discipline::Drr {
            weights: weights.into(),
            quantum
        }),
        (edge_number(), edge_number()).prop_map(|(rate_bps, burst_bytes)| {
            Discipline::TokenBucket {
                rate_bps,
                burst_bytes,
            }
        }),
    ]
}

/// Any link that can be.
pub(crate) fn link() -> impl Strategy<Value = LinkConfig> {
    let state = prop_oneof![Just(Carrier::Up), Just(Carrier::Down)];
    let queue = (discipline(), edge_size(), prop::option::of(edge_size()));
    let queue = queue.prop_map(|(discipline, limit_frames, limit_bytes)| QueueConfig {
        discipline,
        limit_frames,
        limit_bytes,
    });
    let reorder = (probability(), 1..=u32::MAX);
    let reorder = reorder.prop_map(|(probability, gap)| Reorder { probability, gap });
    let numbers = (
        prop::option::of(edge_number()),
        prop::option::of(edge_number()),
        0..=LinkConfig::MAX_OVERHEAD,
        prop::option::of(edge_number()),
        probability(),
        duration(LinkConfig::MAX_DELAY),
    );
    (state, queue, reorder, jitter(), loss(), numbers).prop_map(
        |(state, queue, reorder, jitter, loss, numbers)| {
            let (rate_bps, corrupt_undetected, overhead_bytes, corrupt, duplicate, delay) = numbers;
            LinkConfig {
                state,
                rate_bps,
                overhead_bytes,
                queue,
                delay,
                jitter,
                loss,
                duplicate,
                reorder,
                corrupt,
                corrupt_undetected,
            }
        },
    )
}

fn vlan_act() -> impl Strategy<Value = Act> {
    let name = 0..5_u8;
    prop_oneof![
        3 => (name.clone(), name.clone(), 0..3_u16).prop_map(|(n, m, v)| Act::Vlan(n, m, v)),
        1 => (name, 0..3_u16).prop_map(|(n, v)| Act::Retag(n, v)),
    ]
}

fn lagg_act() -> impl Strategy<Value = Act> {
    let name = 0..5_u8;
    prop_oneof![
        3 => (name.clone(), 0..4_u8).prop_map(|(n, mode)| Act::Lagg(n, mode)),
        1 => (name, 0..4_u8).prop_map(|(n, mode)| Act::SetLagg(n, mode)),
    ]
}

fn lagg(mode: u8) -> LaggConfig {
    let modes = [
        LaggMode::Failover,
        LaggMode::Balance,
        LaggMode::LacpActive,
        LaggMode::LacpPassive,
    ];
    LaggConfig {
        mode: modes[usize::from(mode)],
        ..LaggConfig::default()
    }
}

fn bridge_act() -> impl Strategy<Value = Act> {
    let name = 0..5_u8;
    let two = (name.clone(), name.clone());
    prop_oneof![
        2 => name.clone().prop_map(Act::Bridge),
        4 => two.clone().prop_map(|(n, m)| Act::Join(n, m)),
        1 => two.clone().prop_map(|(n, m)| Act::Leave(n, m)),
        1 => two.prop_map(|(n, m)| Act::Member(n, m)),
        1 => (name.clone(), any::<u8>()).prop_map(|(n, s)| Act::Age(n, s)),
        2 => (name.clone(), name.clone(), 0..3_u8).prop_map(|(n, m, s)| Act::Station(n, m, s)),
        1 => (name, 0..3_u8).prop_map(|(n, s)| Act::Unstation(n, s)),
    ]
}

/// `lo0` and four others.
fn interface(n: u8) -> String {
    match n {
        0 => "lo0".to_owned(),
        n => format!("if{n}"),
    }
}

/// Destinations that are also the prefixes of addresses, and addresses themselves.
fn destination(n: u8) -> Ipv4Net {
    match n {
        1 => net("10.0.0.0/24"),
        2 => net("10.0.0.0/25"),
        3 => net("10.0.0.3/32"),
        4 => net("0.0.0.0/0"),
        n => Ipv4Net::new_assert(Ipv4Addr::new(172, 16, n, 0), 24),
    }
}

/// An anycast address, of a link or not.
fn shared(n: u8) -> Ipv6Addr {
    match n {
        1 => Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x53),
        n => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n.into()),
    }
}

fn station(n: u8) -> MacAddr {
    MacAddr([2, 8, 8, 8, 8, n])
}

/// The VLAN in which a static station is.
fn vlan_of(station: u8) -> Option<u16> {
    (station > 0).then_some(u16::from(station))
}

/// Does it, or does not: what fails must leave no trace.
pub(crate) fn perform(vnet: &OwnedVnet, peer: &Vnet, act: &Act) -> bool {
    match act {
        Act::Epair(n, m) if n == m => vnet.epair(&interface(*n), vnet, "self").is_ok(),
        Act::Epair(n, m) => vnet.epair(&interface(*n), peer, &interface(*m)).is_ok(),
        Act::Port(n) => vnet.port(&interface(*n), None).is_ok(),
        Act::Remove(n) => vnet.remove_interface(&interface(*n)).is_ok(),
        Act::Mtu(n, mtu) => vnet.set_ip_mtu(&interface(*n), *mtu).is_ok(),
        Act::Router(n, what) => {
            let config = RouterConfig {
                lifetime: Some(u16::from(*what) * 60),
                mtu: (*what > 99).then_some(1400),
                dns: vec!["2001:db8::53".parse().expect("an address")],
                ..RouterConfig::default()
            };
            let config = (*what > 9).then_some(config);
            vnet.set_router(&interface(*n), config).is_ok()
        }
        Act::Up(n, up) => {
            let state = if *up {
                AdminState::Up
            } else {
                AdminState::Down
            };
            vnet.set_up(&interface(*n), state).is_ok()
        }
        Act::Offload(n) => vnet.set_offload(&interface(*n), Offload::None).is_ok(),
        Act::Link(n, ms) => {
            let delay = Duration::from_millis(u64::from(*ms));
            let link = LinkConfig {
                delay,
                ..LinkConfig::default()
            };
            vnet.set_link(&interface(*n), link).is_ok()
        }
        Act::Mac(n, m) => vnet
            .set_mac(&interface(*n), MacAddr([2, 9, 9, 9, 9, *m]))
            .is_ok(),
        Act::Add(n, host, len) => {
            let address = Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 0, *host), *len);
            vnet.add_address(&interface(*n), address.into()).is_ok()
        }
        Act::Del(n, host) => {
            let address = Ipv4Addr::new(10, 0, 0, *host);
            vnet.remove_address(&interface(*n), address.into()).is_ok()
        }
        Act::Anycast(n, host) => vnet.add_anycast(&interface(*n), shared(*host)).is_ok(),
        Act::Unanycast(n, host) => {
            let address = shared(*host).into();
            vnet.remove_address(&interface(*n), address).is_ok()
        }
        Act::Neighbour(n, host, m) => {
            let (address, mac) = (Ipv4Addr::new(10, 0, 0, *host), station(*m));
            vnet.add_neighbour(&interface(*n), address.into(), mac)
                .is_ok()
        }
        Act::Unneighbour(n, host) => {
            let address = Ipv4Addr::new(10, 0, 0, *host);
            vnet.remove_neighbour(&interface(*n), address.into())
                .is_ok()
        }
        Act::RouteVia(d, g) => {
            let gateway = Ipv4Addr::new(10, 0, 0, *g);
            vnet.add_route(destination(*d).into(), gateway).is_ok()
        }
        Act::RouteAt(d, g, metric) => {
            let gateway = Ipv4Addr::new(10, 0, 0, *g);
            let dst = destination(*d).into();
            vnet.add_route_at(dst, gateway, (*metric).into()).is_ok()
        }
        Act::RouteOn(d, n) => {
            let via = NextHop::Interface(interface(*n));
            vnet.add_route(destination(*d).into(), via).is_ok()
        }
        Act::RouteNowhere(d, kind) => {
            let via = match kind {
                0 => NextHop::Blackhole,
                1 => NextHop::Unreachable,
                _ => NextHop::Prohibit,
            };
            vnet.add_route(destination(*d).into(), via).is_ok()
        }
        Act::RouteDel(d) => vnet.remove_route(destination(*d).into()).is_ok(),
        Act::Forward(on) => {
            let forwarding = if *on {
                Forwarding::Enabled
            } else {
                Forwarding::Disabled
            };
            vnet.set_forwarding(forwarding).is_ok()
        }
        Act::Ttl(ttl) => vnet.set_sysctl("net.inet.ip.ttl", ttl).is_ok(),
        Act::Policy(rows) => {
            // None, one that is refused because it lacks `::/0`, and two that are not.
            let prefixes = ["2001:db8::/32", "::/0", "fc00::/7"];
            let row = |prefix: &&str| AddressPolicy {
                prefix: prefix.parse().expect("a prefix"),
                precedence: 40,
                label: *rows,
            };
            let table = prefixes[..usize::from(*rows)].iter().map(row).collect();
            let table = (*rows > 0).then_some(table);
            vnet.set_address_policy(table).is_ok()
        }
        Act::Limit(n) => {
            let resource = [Resource::Routes, Resource::Interfaces][usize::from(n % 2)];
            vnet.set_limit(resource, u64::from(*n)).is_ok()
        }
        Act::Bridge(n) => vnet.bridge(&interface(*n)).is_ok(),
        Act::Vlan(n, m, vid) => {
            let (parent, name) = (interface(*m), interface(*n));
            vnet.vlan(&parent, &name, VlanConfig::dot1q(*vid)).is_ok()
        }
        Act::Retag(n, vid) => {
            let config = VlanConfig::dot1ad(*vid);
            vnet.set_vlan(&interface(*n), config).is_ok()
        }
        Act::Lagg(n, mode) => vnet.lagg(&interface(*n), lagg(*mode)).is_ok(),
        Act::SetLagg(n, mode) => vnet.set_lagg(&interface(*n), lagg(*mode)).is_ok(),
        Act::Join(n, m) => vnet.add_member(&interface(*n), &interface(*m)).is_ok(),
        Act::Leave(n, m) => vnet.remove_member(&interface(*n), &interface(*m)).is_ok(),
        Act::Member(n, m) => {
            let config = MemberConfig {
                learn: Switchable::Off,
                vlans: MemberVlans::access(1 + u16::from(*m)),
                ..MemberConfig::default()
            };
            let (bridge, member) = (interface(*n), interface(*m));
            vnet.set_member(&bridge, &member, config).is_ok()
        }
        Act::Age(n, seconds) => {
            let config = BridgeConfig {
                max_age: Duration::from_secs(u64::from(*seconds)),
                stp: match seconds % 2 {
                    0 => None,
                    _ => Some(RstpConfig::default()),
                },
                vlans: (seconds % 3 == 0).then(BridgeVlans::default),
                ..BridgeConfig::default()
            };
            vnet.set_bridge(&interface(*n), config).is_ok()
        }
        Act::Station(n, m, s) => {
            let (bridge, member) = (interface(*n), interface(*m));
            let vid = vlan_of(*s);
            vnet.add_station(&bridge, &member, station(*s), vid).is_ok()
        }
        Act::Unstation(n, s) => {
            let bridge = interface(*n);
            vnet.remove_station(&bridge, station(*s), vlan_of(*s))
                .is_ok()
        }
        Act::Rename(n, m) => vnet
            .rename_interface(&interface(*n), &interface(*m))
            .is_ok(),
        Act::Lend(n, m) => {
            let (name, there) = (interface(*n), interface(*m));
            vnet.move_interface_as(&name, peer, &there).is_ok()
        }
        Act::Return(n) => vnet.return_interface(&interface(*n)).is_ok(),
        Act::Reclaim(n) => vnet.reclaim_interface(&interface(*n)).is_ok(),
        Act::AnyLink(n, link) => vnet.set_link(&interface(*n), (**link).clone()).is_ok(),
        Act::AnyAge(n, max_age, max_stations) => {
            let config = BridgeConfig {
                max_age: *max_age,
                max_stations: *max_stations,
                ..BridgeConfig::default()
            };
            vnet.set_bridge(&interface(*n), config).is_ok()
        }
        Act::AnySysctl(n, edge) => {
            let names: Vec<&str> = sysctl::Description::names("").collect();
            let name = names[n % names.len()];
            let told = sysctl::Description::of(name).expect("it is named");
            let value = match edge {
                Edge::Least => told.least,
                Edge::AboveLeast => told.least + 1,
                Edge::BelowMost => told.most.saturating_sub(1),
                Edge::Most => told.most,
            };
            vnet.set_sysctl(name, value).is_ok()
        }
        Act::AnyLimit(n, limit) => match Resource::ALL[*n] {
            Resource::Routes | Resource::Interfaces => false,
            resource => vnet.set_limit(resource, *limit).is_ok(),
        },
        Act::Offloads(n, offload) => {
            let kinds = [Offload::Full, Offload::Checksum, Offload::None];
            vnet.set_offload(&interface(*n), kinds[usize::from(*offload)])
                .is_ok()
        }
        Act::Privileges(bits) => {
            let chosen = Privilege::ALL
                .iter()
                .enumerate()
                .filter(|(n, _)| bits & (1 << n) != 0);
            let mask = chosen.fold(Privileges::NONE, |mask, (_, p)| mask | *p);
            vnet.set_privileges(mask).is_ok()
        }
    }
}

//! The networks that more than one test uses.

use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::IpNet;
use vnet::link::{Discipline, FqCodel, QueueConfig, Reorder};
use vnet::{Carrier, Forwarding, LinkConfig, NextHop, OwnedVnet, System, Vnet};

/// Makes a vnet.
///
/// # Panics
/// When the name is taken.
pub fn vnet(system: &System, name: &str) -> OwnedVnet {
    system.create(name).expect("the name is free")
}

/// Joins two vnets by an epair whose ends have the given names and addresses, such as
/// `"eth0 10.0.0.1/24"`.
///
/// # Panics
/// When a name is taken or an address is none.
pub fn join(a: &Vnet, end_a: &str, b: &Vnet, end_b: &str) {
    let split = |end: &str| {
        let (name, address) = end.split_once(' ').expect("a name and an address");
        (name.to_owned(), address.to_owned())
    };
    let ((name_a, addr_a), (name_b, addr_b)) = (split(end_a), split(end_b));
    a.epair(&name_a, b, &name_b).expect("both names are free");
    a.add_address(&name_a, addr_a.parse().expect("an address"))
        .expect("the address is free");
    b.add_address(&name_b, addr_b.parse().expect("an address"))
        .expect("the address is free");
}

/// Two vnets `a` and `b`, 192.0.2.1 and 192.0.2.2, joined at `eth0`.
///
/// # Panics
/// When the names are taken.
pub fn hosts(system: &System) -> (OwnedVnet, OwnedVnet) {
    let (a, b) = (vnet(system, "a"), vnet(system, "b"));
    join(&a, "eth0 192.0.2.1/24", &b, "eth0 192.0.2.2/24");
    (a, b)
}

/// Two vnets `a` and `b`, 10.0.0.1 and 10.0.0.2, joined at `eth0`.
///
/// # Panics
/// When the names are taken.
pub fn pair(system: &System) -> (OwnedVnet, OwnedVnet) {
    let (a, b) = (vnet(system, "a"), vnet(system, "b"));
    join(&a, "eth0 10.0.0.1/24", &b, "eth0 10.0.0.2/24");
    (a, b)
}

/// A host `a`, a router `r` and a host `b`. Each pair of addresses is that of one link, from left to
/// right; the router's are the gateways of the hosts. The links are at `eth0` of the hosts, and at `eth0`
/// and `eth1` of the router.
///
/// # Panics
/// When the names are taken or an address is none.
pub fn path(system: &System, [a0, r0]: [&str; 2], [r1, b0]: [&str; 2]) -> [OwnedVnet; 3] {
    let (a, r, b) = (vnet(system, "a"), vnet(system, "r"), vnet(system, "b"));
    join(&a, &format!("eth0 {a0}"), &r, &format!("eth0 {r0}"));
    join(&r, &format!("eth1 {r1}"), &b, &format!("eth0 {b0}"));
    r.set_forwarding(Forwarding::Enabled)
        .expect("the vnet is alive");
    for (host, gateway) in [(&a, r0), (&b, r1)] {
        let gateway: IpNet = gateway.parse().expect("an address");
        let all = match gateway {
            IpNet::V4(_) => "0.0.0.0/0",
            IpNet::V6(_) => "::/0",
        };
        host.add_route(
            all.parse().expect("a prefix"),
            NextHop::Gateway(gateway.addr()),
        )
        .expect("the gateway is a neighbour");
    }
    [a, r, b]
}

/// Three routers `r0`, `r1`, `r2` in a triangle. Router *i* is joined to router *j* at interface
/// `to<j>`, over the network 10.0.*n*.0/24 (*n* is ten times the lower index and the higher one) in which it is host *i* + 1.
/// Each has a network of its own, 10.9.*i*.0/24, on its loopback interface.
///
/// # Panics
/// When the names are taken.
pub fn triangle(system: &System) -> Vec<OwnedVnet> {
    let routers: Vec<OwnedVnet> = (0..3)
        .map(|i| {
            let router = vnet(system, &format!("r{i}"));
            router
                .set_forwarding(Forwarding::Enabled)
                .expect("the vnet is alive");
            router
                .add_address("lo0", format!("10.9.{i}.1/24").parse().expect("an address"))
                .expect("the address is free");
            router
        })
        .collect();
    for (i, j) in [(0, 1), (1, 2), (0, 2)] {
        wire(&routers[i], i, &routers[j], j);
    }
    routers
}

/// Joins router `i` to router `j` of a [`triangle`], with addresses and routes. What is there
/// already stays.
pub fn wire(a: &Vnet, i: usize, b: &Vnet, j: usize) {
    let (near, far) = (format!("to{j}"), format!("to{i}"));
    let _ = a.epair(&near, b, &far);
    let net = format!("10.0.{}", i.min(j) * 10 + i.max(j));
    for (v, name, host, other) in [(a, &near, i + 1, j), (b, &far, j + 1, i)] {
        let _ = v.add_address(
            name,
            format!("{net}.{host}/24").parse().expect("an address"),
        );
        let gateway: Ipv4Addr = format!("{net}.{}", other + 1).parse().expect("an address");
        let prefix = format!("10.9.{other}.0/24").parse().expect("a prefix");
        let _ = v.add_route(prefix, NextHop::Gateway(gateway.into()));
    }
}

/// A link with a rate, a delay and a loss probability.
pub fn link(rate_bps: u64, delay: Duration, loss: f64) -> LinkConfig {
    LinkConfig {
        rate_bps: Some(rate_bps),
        delay,
        loss: loss.into(),
        ..LinkConfig::default()
    }
}

/// Links of all kinds, by number: the last ones hold frames, or change them.
pub fn impairments(n: u8) -> LinkConfig {
    let plain = LinkConfig::default();
    match n {
        0 => plain,
        1 => LinkConfig {
            loss: 0.3.into(),
            ..plain
        },
        2 => LinkConfig {
            loss: 1.0.into(),
            ..plain
        },
        3 => LinkConfig {
            delay: Duration::from_millis(30),
            ..plain
        },
        4 => LinkConfig {
            rate_bps: Some(100_000),
            queue: QueueConfig::frames(3),
            ..plain
        },
        5 => LinkConfig {
            rate_bps: Some(200_000),
            queue: QueueConfig {
                discipline: Discipline::FqCodel(FqCodel::default()),
                limit_frames: 20,
                limit_bytes: None,
            },
            ..plain
        },
        6 => LinkConfig {
            rate_bps: Some(50_000),
            queue: QueueConfig {
                discipline: Discipline::StrictPriority,
                limit_frames: 5,
                limit_bytes: Some(8_000),
            },
            ..plain
        },
        7 => LinkConfig {
            duplicate: 0.3,
            corrupt_undetected: Some(5_000),
            reorder: Reorder {
                probability: 0.2,
                gap: 2,
            },
            delay: Duration::from_millis(5),
            ..plain
        },
        8 => LinkConfig {
            state: Carrier::Down,
            ..plain
        },
        _ => LinkConfig {
            delay: Duration::from_secs(100),
            loss: 0.1.into(),
            ..plain
        },
    }
}

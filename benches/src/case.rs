//! The cases by name.

use std::time::Duration;

use crate::compare::{Contest, SideError};
use crate::{asynchronous, bulk, context, fib, local, rr, tap, vlan};

/// What a run of a case is given.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long one measurement lasts.
    pub time: Duration,
    /// How many bytes one bulk measurement moves; `None` leaves it to `time`.
    pub bytes: Option<u64>,
}

/// One thing to compare.
#[derive(Clone, Copy)]
pub struct Case {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it shows, in a line.
    pub about: &'static str,
    /// Makes both sides ready.
    pub prepare: fn(&Options) -> Result<Contest, SideError>,
}

/// Every case, in the order in which `all` runs them.
pub const CASES: &[Case] = &[
    Case {
        name: "tcp-bulk-64k",
        about: "one TCP connection, one thread, IP MTU 65535, against smoltcp",
        prepare: bulk::mtu_64k,
    },
    Case {
        name: "tcp-bulk-1500",
        about: "one TCP connection, one thread, IP MTU 1500, against smoltcp",
        prepare: bulk::mtu_1500,
    },
    Case {
        name: "tcp-bulk-1500-cut",
        about: "the same, with every one of our segments cut to 1500-byte packets on the way",
        prepare: bulk::mtu_1500_cut,
    },
    Case {
        name: "tcp-bulk-1500-tso",
        about: "the same, with segmentation offload for smoltcp as well",
        prepare: bulk::mtu_1500_tso,
    },
    Case {
        name: "tcp-rr",
        about: "one byte there and back over TCP, one thread at both ends, against the kernel",
        prepare: rr::tcp_one_thread,
    },
    Case {
        name: "udp-rr",
        about: "one byte there and back over UDP, one thread at both ends, against the kernel",
        prepare: rr::udp_one_thread,
    },
    Case {
        name: "tcp-rr-2t",
        about: "one byte there and back over TCP, a thread at each end, against the kernel",
        prepare: rr::tcp_two_threads,
    },
    Case {
        name: "udp-rr-2t",
        about: "one byte there and back over UDP, a thread at each end, against the kernel",
        prepare: rr::udp_two_threads,
    },
    Case {
        name: "context",
        about: "entering a vnet and leaving it, against swapping a thread-local",
        prepare: context::context,
    },
    Case {
        name: "local",
        about: "adding to a virtualized variable of the current vnet, against a plain atomic",
        prepare: local::local,
    },
];

/// Streams by tokio's traits: not among `all`.
pub const ASYNC_CASES: &[Case] = &[
    Case {
        name: "async-echo",
        about: "one byte there and back by vnet-tokio, one thread, against tokio over the kernel's loopback",
        prepare: asynchronous::echo,
    },
    Case {
        name: "async-echo-64k",
        about: "the same with 64 KiB",
        prepare: asynchronous::echo_64k,
    },
    Case {
        name: "async-bulk",
        about: "64 KiB at a time, one way, by vnet-tokio, one thread, against tokio over the kernel's loopback",
        prepare: asynchronous::bulk,
    },
];

/// What VLANs and bridges cost: the peer is a vnet as well, so these are not among `all`.
pub const VLAN_CASES: &[Case] = &[
    Case {
        name: "vlan-bulk",
        about: "one TCP connection over a VLAN of an epair, against the epair alone",
        prepare: vlan::over_an_epair,
    },
    Case {
        name: "vlan-bridge",
        about: "the same through a VLAN-aware bridge, by access ports, against a plain one",
        prepare: vlan::through_a_bridge,
    },
    Case {
        name: "vlan-trunk",
        about: "the same from a VLAN interface on a trunk to an access port",
        prepare: vlan::from_a_trunk,
    },
    Case {
        name: "fdb-100000",
        about: "a frame through a bridge that knows 100 000 stations, against 10",
        prepare: vlan::many_stations,
    },
    Case {
        name: "fdb-100000-vlan",
        about: "the same in a VLAN of a VLAN-aware bridge",
        prepare: vlan::many_stations_of_a_vlan,
    },
];

/// What IPv6 costs, and large tables of routes: not among `all`, because both sides are vnets.
pub const IP_CASES: &[Case] = &[
    Case {
        name: "tcp-bulk-64k-v6",
        about: "as tcp-bulk-64k in IPv6, against IPv4",
        prepare: bulk::mtu_64k_v6,
    },
    Case {
        name: "tcp-bulk-1500-v6",
        about: "as tcp-bulk-1500 in IPv6, against IPv4",
        prepare: bulk::mtu_1500_v6,
    },
    Case {
        name: "tcp-bulk-1500-cut-v6",
        about: "as tcp-bulk-1500-cut in IPv6, against IPv4",
        prepare: bulk::mtu_1500_cut_v6,
    },
    Case {
        name: "fib-1000-v4",
        about: "lookups in 1 000 routes of IPv4, against one route",
        prepare: fib::thousand_v4,
    },
    Case {
        name: "fib-100000-v4",
        about: "lookups in 100 000 routes of IPv4, against one route",
        prepare: fib::hundred_thousand_v4,
    },
    Case {
        name: "fib-1000000-v4",
        about: "lookups in 1 000 000 routes of IPv4, against one route",
        prepare: fib::million_v4,
    },
    Case {
        name: "fib-1000-v6",
        about: "lookups in 1 000 routes of IPv6, against one route",
        prepare: fib::thousand_v6,
    },
    Case {
        name: "fib-100000-v6",
        about: "lookups in 100 000 routes of IPv6, against one route",
        prepare: fib::hundred_thousand_v6,
    },
    Case {
        name: "fib-1000000-v6",
        about: "lookups in 1 000 000 routes of IPv6, against one route",
        prepare: fib::million_v6,
    },
];

/// What needs the right to make TAPs and network namespaces: not among `all`.
pub const TAP_CASES: &[Case] = &[
    Case {
        name: "tap-out-1500",
        about: "bulk from a vnet to the kernel over a TAP, MTU 1500, against veth",
        prepare: tap::out_1500,
    },
    Case {
        name: "tap-in-1500",
        about: "the same the other way",
        prepare: tap::in_1500,
    },
    Case {
        name: "tap-out-65520",
        about: "bulk from a vnet to the kernel over a TAP, MTU 65520, against veth",
        prepare: tap::out_65520,
    },
    Case {
        name: "tap-in-65520",
        about: "the same the other way",
        prepare: tap::in_65520,
    },
    Case {
        name: "tap-rr",
        about: "one byte there and back over TCP and a TAP, against veth",
        prepare: tap::request_reply,
    },
    Case {
        name: "tap-connect",
        about: "connections from the kernel to a vnet over a TAP, against veth",
        prepare: tap::connect,
    },
    Case {
        name: "tap-plain-out-1500",
        about: "as tap-out-1500, over a TAP that carries complete frames",
        prepare: tap::plain_out_1500,
    },
    Case {
        name: "tap-plain-in-1500",
        about: "the same the other way",
        prepare: tap::plain_in_1500,
    },
];

/// The cases that a name on the command line stands for: `all`, `async`, `tap`, `vlan`, `ipv6`, `fib`, or that of one.
/// Empty when it stands for none.
pub fn find(name: &str) -> Vec<Case> {
    match name {
        "all" => CASES.to_vec(),
        "async" => ASYNC_CASES.to_vec(),
        "tap" => TAP_CASES.to_vec(),
        "vlan" => VLAN_CASES.to_vec(),
        "fib" | "ipv6" => {
            let is_of = |case: &&Case| case.name.starts_with("fib-") == (name == "fib");
            IP_CASES.iter().filter(is_of).copied().collect()
        }
        _ => every().filter(|case| case.name == name).copied().collect(),
    }
}

/// Every case there is.
pub fn every() -> impl Iterator<Item = &'static Case> {
    let groups = [CASES, ASYNC_CASES, VLAN_CASES, IP_CASES, TAP_CASES];
    groups.into_iter().flatten()
}

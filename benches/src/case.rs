//! The cases by name.

use std::time::Duration;

use crate::compare::{Contest, SideError};
use crate::{
    asynchronous, bulk, context, cores, datagrams, demux, fib, hogs, instances, local, rr, stream,
    tap, vlan,
};

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
    /// The ratio that is aimed at, where there is one.
    pub aim: Option<f64>,
    /// Makes both sides ready.
    pub prepare: fn(&Options) -> Result<Contest, SideError>,
}

/// Every case, in the order in which `all` runs them.
pub const CASES: &[Case] = &[
    Case {
        name: "tcp-bulk-64k",
        aim: Some(2.0),
        about: "one TCP connection, one thread, IP MTU 65535, against smoltcp",
        prepare: bulk::mtu_64k,
    },
    Case {
        name: "tcp-bulk-1500",
        aim: None,
        about: "one TCP connection, one thread, IP MTU 1500, against smoltcp",
        prepare: bulk::mtu_1500,
    },
    Case {
        name: "tcp-bulk-1500-cut",
        aim: Some(2.0),
        about: "the same, with every one of our segments cut to 1500-byte packets on the way",
        prepare: bulk::mtu_1500_cut,
    },
    Case {
        name: "tcp-bulk-1500-tso",
        aim: None,
        about: "the same, with segmentation offload for smoltcp as well",
        prepare: bulk::mtu_1500_tso,
    },
    Case {
        name: "tcp-rr",
        aim: Some(10.0),
        about: "one byte there and back over TCP, one thread at both ends, against the kernel",
        prepare: rr::tcp_one_thread,
    },
    Case {
        name: "udp-rr",
        aim: Some(10.0),
        about: "one byte there and back over UDP, one thread at both ends, against the kernel",
        prepare: rr::udp_one_thread,
    },
    Case {
        name: "tcp-rr-2t",
        aim: None,
        about: "one byte there and back over TCP, a thread at each end, against the kernel",
        prepare: rr::tcp_two_threads,
    },
    Case {
        name: "udp-rr-2t",
        aim: None,
        about: "one byte there and back over UDP, a thread at each end, against the kernel",
        prepare: rr::udp_two_threads,
    },
    Case {
        name: "tcp-bulk-gso",
        about: "one TCP connection, two threads, IP MTU 1500, whole segments, against the kernel over veth",
        aim: Some(5.0),
        prepare: stream::bulk,
    },
    Case {
        name: "tcp-bulk-bytes",
        about: "the same by reference (send_bytes, recv_bytes), against the same",
        aim: Some(10.0),
        prepare: stream::bulk_bytes,
    },
    Case {
        name: "tcp-crr",
        about: "connect, one byte each way, close; one thread, against the kernel over veth",
        aim: Some(10.0),
        prepare: stream::connections,
    },
    Case {
        name: "udp-pps",
        about: "64-byte datagrams one way, a call each, one thread, against sendto and recvfrom over veth",
        aim: Some(5.0),
        prepare: datagrams::single,
    },
    Case {
        name: "udp-pps-batch",
        about: "the same in batches, against sendmmsg and recvmmsg",
        aim: Some(5.0),
        prepare: datagrams::batches,
    },
    Case {
        name: "forward-1",
        about: "64-byte frames through 1 router(s), one thread, against as many namespaces",
        aim: Some(5.0),
        prepare: datagrams::forward_1,
    },
    Case {
        name: "forward-2",
        about: "64-byte frames through 2 router(s), one thread, against as many namespaces",
        aim: Some(5.0),
        prepare: datagrams::forward_2,
    },
    Case {
        name: "forward-4",
        about: "64-byte frames through 4 router(s), one thread, against as many namespaces",
        aim: Some(5.0),
        prepare: datagrams::forward_4,
    },
    Case {
        name: "forward-8",
        about: "64-byte frames through 8 router(s), one thread, against as many namespaces",
        aim: Some(5.0),
        prepare: datagrams::forward_8,
    },
    Case {
        name: "demux-1000",
        about: "a byte there and back on any of 1 000 connections, against one",
        aim: Some(0.67),
        prepare: demux::thousand,
    },
    Case {
        name: "demux-100000",
        about: "the same with 100 000",
        aim: Some(0.67),
        prepare: demux::hundred_thousand,
    },
    Case {
        name: "demux-1000000",
        about: "the same with 1 000 000",
        aim: Some(0.67),
        prepare: demux::million,
    },
    Case {
        name: "demux-idle-1000000",
        about: "the same on one connection beside 1 000 000 idle ones",
        aim: Some(0.67),
        prepare: demux::million_idle,
    },
    Case {
        name: "instances",
        about: "create, wire, address and destroy an instance, against unshare alone",
        aim: Some(30.0),
        prepare: instances::against_unshare,
    },
    Case {
        name: "cores-pairs",
        about: "two pairs that ask and answer, on all cores, against one core",
        aim: Some(1.8),
        prepare: cores::pairs,
    },
    Case {
        name: "cores-chain",
        about: "a stream in 1500-byte frames through 8 routers, on all cores, against one core",
        aim: Some(1.5),
        prepare: cores::chain,
    },
    Case {
        name: "cores-simulation",
        about: "100 flows in a random network of 100 routers in virtual time, two threads against one",
        aim: None,
        prepare: cores::simulation,
    },
    Case {
        name: "hog-flood",
        about: "requests of a pair beside a flood of datagrams at a bystander, against beside a busy thread outside",
        aim: Some(0.9),
        prepare: hogs::flood,
    },
    Case {
        name: "hog-syn",
        about: "the same beside a flood of connection requests",
        aim: Some(0.9),
        prepare: hogs::syn,
    },
    Case {
        name: "hog-broadcast",
        about: "the same beside a storm of broadcasts (ARP requests)",
        aim: Some(0.9),
        prepare: hogs::broadcast,
    },
    Case {
        name: "hog-fragments",
        about: "the same beside halves of datagrams that are kept for the other halves",
        aim: Some(0.9),
        prepare: hogs::fragments,
    },
    Case {
        name: "hog-buffers",
        about: "the same beside writers that fill buffers which nobody reads",
        aim: Some(0.9),
        prepare: hogs::buffers,
    },
    Case {
        name: "hog-sockets",
        about: "the same beside one that opens sockets by the thousand",
        aim: Some(0.9),
        prepare: hogs::sockets,
    },
    Case {
        name: "hog-spinner",
        about: "the same beside a reader that asks again and again instead of waiting",
        aim: Some(0.9),
        prepare: hogs::spinner,
    },
    Case {
        name: "hog-task",
        about: "the same beside a task that is always ready",
        aim: Some(0.9),
        prepare: hogs::task,
    },
    Case {
        name: "context",
        aim: Some(0.67),
        about: "entering a vnet and leaving it, against swapping a thread-local",
        prepare: context::context,
    },
    Case {
        name: "local",
        aim: Some(0.5),
        about: "adding to a virtualized variable of the current vnet, against a plain atomic",
        prepare: local::local,
    },
];

/// Streams by tokio's traits: not among `all`.
pub const ASYNC_CASES: &[Case] = &[
    Case {
        name: "async-echo",
        aim: Some(3.0),
        about: "one byte there and back by vnet-tokio, one thread, against tokio over the kernel's loopback",
        prepare: asynchronous::echo,
    },
    Case {
        name: "async-echo-64k",
        aim: Some(2.0),
        about: "the same with 64 KiB",
        prepare: asynchronous::echo_64k,
    },
    Case {
        name: "async-bulk",
        aim: Some(2.0),
        about: "64 KiB at a time, one way, by vnet-tokio, one thread, against tokio over the kernel's loopback",
        prepare: asynchronous::bulk,
    },
];

/// What VLANs and bridges cost: the peer is a vnet as well, so these are not among `all`.
pub const VLAN_CASES: &[Case] = &[
    Case {
        name: "vlan-bulk",
        aim: None,
        about: "one TCP connection over a VLAN of an epair, against the epair alone",
        prepare: vlan::over_an_epair,
    },
    Case {
        name: "vlan-bridge",
        aim: None,
        about: "the same through a VLAN-aware bridge, by access ports, against a plain one",
        prepare: vlan::through_a_bridge,
    },
    Case {
        name: "vlan-trunk",
        aim: None,
        about: "the same from a VLAN interface on a trunk to an access port",
        prepare: vlan::from_a_trunk,
    },
    Case {
        name: "fdb-100000",
        aim: None,
        about: "a frame through a bridge that knows 100 000 stations, against 10",
        prepare: vlan::many_stations,
    },
    Case {
        name: "fdb-100000-vlan",
        aim: None,
        about: "the same in a VLAN of a VLAN-aware bridge",
        prepare: vlan::many_stations_of_a_vlan,
    },
];

/// What IPv6 costs, and large tables of routes: not among `all`, because both sides are vnets.
pub const IP_CASES: &[Case] = &[
    Case {
        name: "tcp-bulk-64k-v6",
        aim: None,
        about: "as tcp-bulk-64k in IPv6, against IPv4",
        prepare: bulk::mtu_64k_v6,
    },
    Case {
        name: "tcp-bulk-1500-v6",
        aim: None,
        about: "as tcp-bulk-1500 in IPv6, against IPv4",
        prepare: bulk::mtu_1500_v6,
    },
    Case {
        name: "tcp-bulk-1500-cut-v6",
        aim: None,
        about: "as tcp-bulk-1500-cut in IPv6, against IPv4",
        prepare: bulk::mtu_1500_cut_v6,
    },
    Case {
        name: "fib-1000-v4",
        aim: None,
        about: "lookups in 1 000 routes of IPv4, against one route",
        prepare: fib::thousand_v4,
    },
    Case {
        name: "fib-100000-v4",
        aim: None,
        about: "lookups in 100 000 routes of IPv4, against one route",
        prepare: fib::hundred_thousand_v4,
    },
    Case {
        name: "fib-1000000-v4",
        aim: None,
        about: "lookups in 1 000 000 routes of IPv4, against one route",
        prepare: fib::million_v4,
    },
    Case {
        name: "fib-1000-v6",
        aim: None,
        about: "lookups in 1 000 routes of IPv6, against one route",
        prepare: fib::thousand_v6,
    },
    Case {
        name: "fib-100000-v6",
        aim: None,
        about: "lookups in 100 000 routes of IPv6, against one route",
        prepare: fib::hundred_thousand_v6,
    },
    Case {
        name: "fib-1000000-v6",
        aim: None,
        about: "lookups in 1 000 000 routes of IPv6, against one route",
        prepare: fib::million_v6,
    },
];

/// How long one measurement of a case with a TAP lasts.
pub const TAP_TIME: Duration = Duration::from_millis(200);

/// What needs the right to make TAPs and network namespaces: not among `all`. There are many: each is measured for
/// [`TAP_TIME`] if nothing is said.
pub const TAP_CASES: &[Case] = &[
    Case {
        name: "tap-out-1500",
        aim: Some(0.8),
        about: "bulk from a vnet to the kernel over a TAP, MTU 1500, against veth",
        prepare: tap::out_1500,
    },
    Case {
        name: "tap-in-1500",
        aim: Some(0.8),
        about: "the same the other way",
        prepare: tap::in_1500,
    },
    Case {
        name: "tap-out-65520",
        aim: Some(0.8),
        about: "bulk from a vnet to the kernel over a TAP, MTU 65520, against veth",
        prepare: tap::out_65520,
    },
    Case {
        name: "tap-in-65520",
        aim: Some(0.8),
        about: "the same the other way",
        prepare: tap::in_65520,
    },
    Case {
        name: "tap-4-out-1500",
        aim: Some(0.8),
        about: "as tap-out-1500, four streams",
        prepare: tap::four_out_1500,
    },
    Case {
        name: "tap-4-in-1500",
        aim: Some(0.8),
        about: "as tap-in-1500, four streams",
        prepare: tap::four_in_1500,
    },
    Case {
        name: "tap-4-out-65520",
        aim: Some(0.8),
        about: "as tap-out-65520, four streams",
        prepare: tap::four_out_65520,
    },
    Case {
        name: "tap-4-in-65520",
        aim: Some(0.8),
        about: "as tap-in-65520, four streams",
        prepare: tap::four_in_65520,
    },
    Case {
        name: "tap-out-1500-bytes",
        aim: Some(0.8),
        about: "as tap-out-1500, by reference (send_bytes, recv_bytes)",
        prepare: tap::out_1500_bytes,
    },
    Case {
        name: "tap-in-1500-bytes",
        aim: Some(0.8),
        about: "the same the other way",
        prepare: tap::in_1500_bytes,
    },
    Case {
        name: "tap-4-out-1500-bytes",
        aim: Some(0.8),
        about: "as tap-4-out-1500, by reference",
        prepare: tap::four_out_1500_bytes,
    },
    Case {
        name: "tap-4-in-1500-bytes",
        aim: Some(0.8),
        about: "the same the other way",
        prepare: tap::four_in_1500_bytes,
    },
    Case {
        name: "tap-rr",
        aim: Some(1.0),
        about: "one byte there and back over TCP and a TAP, against veth",
        prepare: tap::request_reply,
    },
    Case {
        name: "tap-connect",
        aim: Some(1.0),
        about: "connections from the kernel to a vnet over a TAP, against veth",
        prepare: tap::connect,
    },
    Case {
        name: "tap-small-out",
        aim: None,
        about: "64-byte datagrams from a vnet to the kernel, in batches: how many arrive, against veth",
        prepare: tap::small_out,
    },
    Case {
        name: "tap-small-in",
        aim: None,
        about: "the same the other way",
        prepare: tap::small_in,
    },
    Case {
        name: "tap-plain-out-1500",
        aim: None,
        about: "as tap-out-1500, over a TAP that carries complete frames",
        prepare: tap::plain_out_1500,
    },
    Case {
        name: "tap-plain-in-1500",
        aim: None,
        about: "the same the other way",
        prepare: tap::plain_in_1500,
    },
    Case {
        name: "tap-2-queues-out",
        aim: None,
        about: "tap-4-out-1500 over a TAP with two queues, against one",
        prepare: tap::queues_2_out,
    },
    Case {
        name: "tap-2-queues-in",
        aim: None,
        about: "tap-4-in-1500 over a TAP with two queues, against one",
        prepare: tap::queues_2_in,
    },
    Case {
        name: "tap-4-queues-out",
        aim: None,
        about: "tap-4-out-1500 over a TAP with four queues, against one",
        prepare: tap::queues_4_out,
    },
    Case {
        name: "tap-4-queues-in",
        aim: None,
        about: "tap-4-in-1500 over a TAP with four queues, against one",
        prepare: tap::queues_4_in,
    },
];

/// The cases that a name on the command line stands for: `all`, `async`, `tap`, `vlan`, `ipv6`, `fib`, `tcp-bulk`,
/// `forward`, `demux`, `cores`, `hog`, or that of one.
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
        // `demux` is all that begin with `demux-`, and so on.
        "forward" | "demux" | "cores" | "hog" | "tcp-bulk" => {
            let is_of = |case: &&Case| {
                let rest = case.name.strip_prefix(name);
                rest.is_some_and(|rest| rest.starts_with('-'))
            };
            CASES.iter().filter(is_of).copied().collect()
        }
        _ => every().filter(|case| case.name == name).copied().collect(),
    }
}

/// Every case there is.
pub fn every() -> impl Iterator<Item = &'static Case> {
    let groups = [CASES, ASYNC_CASES, VLAN_CASES, IP_CASES, TAP_CASES];
    groups.into_iter().flatten()
}

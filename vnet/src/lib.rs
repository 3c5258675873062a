//! Many TCP/IP stacks in one process.
//!
//! A *vnet* is a complete stack with its own interfaces, addresses, routes, neighbours, sockets and
//! counters. A [`System`] contains as many vnets as memory allows, connected by emulated links, and
//! drives them with worker threads, in virtual time, or from the embedder's own loop. Two vnets share
//! nothing but the wires between them, and dropping a vnet tears it down in order and leaves nothing.
//!
//! ```
//! use std::io::{Read, Write};
//! use std::time::Duration;
//! use vnet::net::{TcpListener, TcpStream};
//! use vnet::{LinkConfig, System};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let system = System::virtual_time(1);
//! let (a, b) = (system.create("a")?, system.create("b")?);
//! a.epair("eth0", &b, "eth0")?;
//! a.add_address("eth0", "192.0.2.1/24".parse()?)?;
//! b.add_address("eth0", "192.0.2.2/24".parse()?)?;
//! let slow = LinkConfig { delay: Duration::from_millis(20), ..LinkConfig::default() };
//! a.set_link("eth0", slow.clone())?;
//! b.set_link("eth0", slow)?;
//!
//! let server = b.spawn(|| {
//!     let (mut peer, _) = TcpListener::bind("0.0.0.0:7")?.accept()?;
//!     std::io::copy(&mut peer.try_clone()?, &mut peer)
//! })?;
//! system.sleep(Duration::from_millis(1))?;
//! let mut client = TcpStream::connect_in(&a, "192.0.2.2:7")?;
//! client.write_all(b"hello")?;
//! client.shutdown(std::net::Shutdown::Write)?;
//! let mut echo = String::new();
//! client.read_to_string(&mut echo)?;
//! assert_eq!(echo, "hello");
//! assert_eq!(server.join().unwrap()?, 5);
//! assert!(a.destroy().leaked.is_zero());
//! # Ok(())
//! # }
//! ```
//!
//! The calls are those of `std::net`, and block; none of it takes real time. In the example one
//! thread is in vnet `b` (see [`Vnet::spawn`]), and the client's socket is created in `a` by name. The
//! vnet to which a socket belongs is decided when the socket is created: by the
//! [current vnet](Vnet::enter) of the thread, or by a `*_in` constructor.
//!
//! # The path of a packet
//!
//! ```text
//!   write()                                                          read()
//!     │        ┌──────── vnet a ────────┐     ┌──────── vnet b ────────┐   ▲
//!     └─ copy ─► tcp ─ ip ─ neigh ─ eth0 ─────► inbox ─ ether ─ ip ─ tcp ─ copy
//!              └────────────────────────┘  ▲  └────────────────────────┘
//!                                   rate, loss, delay
//! ```
//!
//! On the way out, the socket's bytes are copied once and only referred to from then on. TCP makes
//! segments of up to 64 KiB, IP finds the route, the neighbour cache finds the link-layer address, and
//! the interface hands the frame to its link, which says when it arrives. Then the vnet is left, and the
//! frame is pushed into the inbox of the vnet at the other end. On the way in, that vnet is serviced when
//! the frame is due; each protocol returns a verdict, and the bytes wait in the socket's buffer for the
//! reader.
//!
//! # Where to look
//!
//! | what | where |
//! |---|---|
//! | creating systems and vnets | [`System`] |
//! | interfaces, addresses, links, routes; entering | [`Vnet`] |
//! | destroying | [`OwnedVnet::destroy`], [`DestroyReport`] |
//! | sockets | [`net`] |
//! | names of hosts | [`Vnet::set_hosts`], [`Vnet::set_resolver`], [`Vnet::lookup`] |
//! | connecting something from outside | [`Vnet::port`], [`Port`] |
//! | your own init steps in every vnet | [`InitRecord`] |
//! | per-vnet variables | [`vnet_local!`] |
//! | what tenants may do, how much a vnet may hold | [`Privileges`], [`Resource`] |
//! | tunables | [`sysctl`] |
//! | links: impairments, queues, scripts | [`Vnet::set_link`], [`LinkConfig`], [`Vnet::script_link`] |
//! | bridges, switches and hubs | [`Vnet::bridge`] |
//! | VLANs | [`Vnet::vlan`], [`Vnet::vlan_in`] |
//! | link aggregation | [`Vnet::lagg`] |
//! | captures | [`Vnet::start_capture`], [`capture`] |
//! | children of vnets | [`Vnet::create_child`] |
//! | twins from recorded configuration | [`record`], [`System::replay`], [`OwnedVnet::clone_as`] |
//! | inspecting a whole vnet | [`Vnet::inspect`], [`Inspection`] |
//! | messages of a vnet | [`Vnet::messages`], [`MessageLayer`] |
//! | what the protocols have counted (`netstat -s`) | [`Vnet::protocol_stats`] |
//! | time | [`time`] |
//! | futures: tasks, sleeping | [`Vnet::spawn_future`], [`System::sleep_async`] |
//! | running a simulation | [`System::run_until`], [`System::run_until_idle`] |
//! | comparing two runs | [`System::record_fingerprint`], [`Fingerprint`] |
//! | finding out why nothing happens | [`System::pending`], [`Deadlock`] |
//!
//! `docs/architecture.md` describes how the library is built.

mod admin;
mod base;
mod icmp;
mod instance;
mod ip;
pub mod link;
mod neigh;
mod netif;
pub mod packet;
mod runtime;
mod socket;
mod stack;
mod tasks;
mod trace;
mod transport;

pub use admin::bridges::{
    BridgeInfo, GroupInfo, MemberInfo, SnoopingInfo, StaticStation, StationInfo, StpInfo,
    StpPortInfo,
};
pub use admin::inspect::{Inspection, InterfaceView, NeighbourInfo, SocketInfo, SocketKind};
pub use admin::interfaces::{IfInfo, VlanInfo};
pub use admin::lagg::{LacpPort, LaggInfo, LaggMember};
pub use admin::netstat::ProtocolStats;
pub use admin::record;
pub use admin::routes::RouteInfo;
pub use admin::scripts::LinkScript;
pub use admin::sysctl;
pub use admin::{
    InterfacePin, LentInterface, NextHopSpec as NextHop, Pins, Port, PortError, ReturnedInterface,
    SocketPin, ThreadPin,
};
pub use base::config::{ConfigError, ParseError};
pub use base::rng::Rng;
pub use base::stats::{DropReason, Stats};
pub use instance::RegisterError;
pub use instance::driver::Vain;
pub use instance::messages::MessageLayer;
pub use instance::phase::PhaseName;
pub use instance::{
    CreateError, Denied, DestroyReport, Entered, Failure, Gone, Graceful, InitRecord, Local,
    LocalError, Outcome, OwnedVnet, Privilege, Privileges, Released, Resource, ShutdownError,
    Stage, StepReport, System, Usage, Vnet,
};
pub use ip::fib::RouteKind;
pub use ip::state::Forwarding;
pub use ip::v6::router::{RouterConfig, RouterPrefix, RouterRoute};
pub use link::{LinkConfig, LinkStats};
pub use netif::Offload;
pub use netif::bridge::fdb::Origin as StationOrigin;
pub use netif::bridge::stp::config::{
    Edge as StpEdge, RstpConfig, RstpPort, Segment as StpSegment,
};
pub use netif::bridge::stp::state::{PortState as StpState, Role as StpRole, StpCounters};
pub use netif::bridge::stp::vector::BridgeIdentifier;
pub use netif::bridge::{
    BridgeConfig, BridgeCounters, BridgeMode, BridgeVlans, MemberConfig, MemberVlans, Snooping,
    SnoopingCounters, StormLimits, Switchable, TagPolicy, VidSet, VlanLearning,
};
pub use netif::fingerprint::Fingerprint;
pub use netif::lagg::config::{LaggConfig, LaggHash, LaggMode};
pub use netif::lagg::lacp::LacpState;
pub use netif::vlan::VlanConfig;
pub use netif::vlan::classes::{ClassMaps, ClassRule};
pub use netif::{AdminError, AdminState, IfCounters, IfKind, LldpNeighbour};
pub use packet::cx::Carrier;
pub use packet::header::ra::Preference as RouterPreference;
pub use packet::tag::Tpid;
pub use packet::{Direction, MacAddr, Packet, Payload};
pub use runtime::cost::VirtualConfig;
pub use runtime::threads::ThreadsConfig;
pub use tasks::pending::{PendingTask, PendingThread, PendingVnet};
pub use tasks::{Deadlock, Panic, Pending, RunError, RunLimit, Sleep, TaskError, TaskHandle};
pub use transport::error::SocketError;
pub use transport::tcp::{Congestion, TcpInfo, TcpState};

/// How far several threads carry out a simulation. See `docs/determinism.md`.
pub mod parallel {
    pub use crate::instance::parallel::{Feature, Obstacle, Parallel};
}

/// Recording the frames of an interface. See `docs/captures.md`.
pub mod capture {
    pub use crate::admin::captures::Capture;
    pub use crate::netif::FrameTap;
    pub use crate::netif::capture::output::{CaptureSink, Flush, Writing};
    pub use crate::netif::capture::recorder::{
        CaptureError, CaptureOptions, CaptureReport, LargeSegments, Recorder, Rotate,
    };
}

#[doc(hidden)]
pub mod beside {
    pub use crate::instance::beside::{
        Attendance, Beside, Carried, Clock, HeardNames, Line, Trials, as_task, heard_names,
        is_polling, random_stream,
    };
}

/// Time as the stack sees it.
pub mod time {
    pub use crate::base::time::Instant;
    #[doc(no_inline)]
    pub use std::time::Duration;
}

/// Threads with the names of `std::thread`, for programs written for it: `use vnet::{net, thread}` in the place of
/// `use std::{net, thread}` has them take turns in virtual time.
pub mod thread {
    pub use crate::tasks::thread::{JoinHandle, sleep, spawn};
}

/// Sockets with the names of `std::net`, and its addresses.
pub mod net {
    #[doc(no_inline)]
    pub use std::net::{
        AddrParseError, IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, SocketAddrV4,
        SocketAddrV6,
    };

    pub use crate::ip::v6::policy::AddressPolicy;
    pub use crate::socket::{
        DatagramError, Domain, EchoEvent, EchoSocket, IcmpObject, Incoming, Interest, Message,
        Protocol, RawSocket, Readiness, SendFlags, Socket, SocketOptions, TcpKeepalive,
        TcpListener, TcpStream, ToSocketAddrs, Type, UdpSocket,
    };
}

/// The project's documents, whose examples are run as tests.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../../README.md")]
    mod readme {}
    #[doc = include_str!("../README.md")]
    mod readme_of_crate {}
    #[doc = include_str!("../../docs/architecture.md")]
    mod architecture {}
    #[doc = include_str!("../../docs/bridges.md")]
    mod bridges {}
    #[doc = include_str!("../../docs/captures.md")]
    mod captures {}
    #[doc = include_str!("../../docs/determinism.md")]
    mod determinism {}
    #[doc = include_str!("../../docs/ipv6.md")]
    mod ipv6 {}
    #[doc = include_str!("../../docs/lagg.md")]
    mod lagg {}
    #[doc = include_str!("../../docs/links.md")]
    mod links {}
    #[doc = include_str!("../../docs/lifecycle.md")]
    mod lifecycle {}
    #[doc = include_str!("../../docs/records.md")]
    mod records {}
    #[doc = include_str!("../../docs/tcp.md")]
    mod tcp {}
    #[doc = include_str!("../../docs/sockets.md")]
    mod sockets {}
    #[doc = include_str!("../../docs/tenancy.md")]
    mod tenancy {}
    #[doc = include_str!("../../docs/vlans.md")]
    mod vlans {}
}

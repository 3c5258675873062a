//! Many TCP/IP stacks in one process.

pub mod base;
pub mod icmp;
pub mod instance;
pub mod ip;
pub mod link;
pub mod neigh;
pub mod netif;
pub mod packet;
pub mod runtime;
pub mod socket;
pub mod stack;
pub mod transport;

pub use base::stats::{DropReason, Stats};
pub use instance::interfaces::IfInfo;
pub use instance::registry::RegisterError;
pub use instance::routes::RouteInfo;
pub use instance::sysctl;
pub use instance::{
    AdminError, CreateError, Denied, DestroyReport, Entered, Gone, InitRecord, JoinHandle, Local,
    LocalError, NextHopSpec as NextHop, OwnedVnet, ParsePrivilegeError, Port, PortError, Privilege,
    PrivilegeError, Privileges, Released, Resource, RouteError, Scope, Stage, StepError,
    StepReport, System, UNLIMITED, Usage, Vnet,
};
pub use ip::state::Forwarding;
pub use link::{LinkConfig, LinkConfigError};
pub use netif::table::Offload;
pub use netif::{AdminState, Direction, FrameTap, IfCounters, IfKind, NetifError};
pub use packet::cx::Carrier;
pub use packet::{MacAddr, Packet, ParseMacError, Payload};
pub use runtime::threads::ThreadsConfig;
pub use transport::error::SocketError;

/// Time as the stack sees it.
pub mod time {
    pub use crate::base::time::{Duration, Instant};
}

/// Sockets with the names of `std::net`.
pub mod net {
    pub use crate::socket::{
        EchoEvent, EchoSocket, Incoming, NoCurrentVnet, RawSocket, Shutdown, TcpListener,
        TcpStream, ToSocketAddrs, UdpSocket, is_gone, socket_error,
    };
    pub use crate::transport::ports::Reuse;
}

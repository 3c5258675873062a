//! What a socket is made of, with the names of the crate `socket2`.

use std::net::SocketAddr;

use crate::base::time::Duration;

/// The family of a socket's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Domain {
    /// IPv4.
    IPV4,
    /// IPv6; a socket that is not for it alone ([`Socket::set_only_v6`](super::Socket::set_only_v6)) speaks IPv4 as well.
    IPV6,
}

impl Domain {
    /// The family of an address.
    pub const fn for_address(address: SocketAddr) -> Domain {
        match address {
            SocketAddr::V4(_) => Domain::IPV4,
            SocketAddr::V6(_) => Domain::IPV6,
        }
    }
}

/// The kind of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// A stream: TCP.
    STREAM,
    /// Datagrams: UDP.
    DGRAM,
}

/// The protocol of a socket, which its [`Type`] says as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    TCP,
    /// UDP.
    UDP,
}

/// When an idle connection is probed; see [`Socket::set_tcp_keepalive`](super::Socket::set_tcp_keepalive). What is
/// not set stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpKeepalive {
    pub(super) time: Option<Duration>,
    pub(super) interval: Option<Duration>,
    pub(super) retries: Option<u32>,
}

impl TcpKeepalive {
    /// Leaves everything as it is.
    pub const fn new() -> TcpKeepalive {
        TcpKeepalive {
            time: None,
            interval: None,
            retries: None,
        }
    }

    /// Silence after which the connection is probed.
    #[must_use]
    pub const fn with_time(self, time: Duration) -> TcpKeepalive {
        TcpKeepalive {
            time: Some(time),
            ..self
        }
    }

    /// Time between two probes.
    #[must_use]
    pub const fn with_interval(self, interval: Duration) -> TcpKeepalive {
        TcpKeepalive {
            interval: Some(interval),
            ..self
        }
    }

    /// Probes without an answer before the connection fails, at most 255.
    #[must_use]
    pub const fn with_retries(self, retries: u32) -> TcpKeepalive {
        TcpKeepalive {
            retries: Some(retries),
            ..self
        }
    }
}

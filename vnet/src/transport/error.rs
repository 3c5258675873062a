//! Errors of sockets, in the terms of the socket API. The `socket` layer converts them to [`std::io::Error`]s of the
//! kinds that BSD sockets return.

use thiserror::Error;

/// An error of a socket operation, or a pending error of a socket (`SO_ERROR`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SocketError {
    /// The socket is closed, or its vnet is gone.
    #[error("the socket is gone")]
    Gone,
    /// A socket was to be created, but no vnet is current; see [`Vnet::enter`](crate::Vnet::enter).
    #[error(
        "no vnet is current on this thread: call `vnet.enter()` first, or use a `*_in` constructor"
    )]
    NoCurrentVnet,
    /// The operation cannot complete without waiting.
    #[error("the operation would block")]
    WouldBlock,
    /// The address or port is in use.
    #[error("address already in use")]
    AddrInUse,
    /// The address does not belong to this vnet.
    #[error("address not available in this vnet")]
    AddrNotAvailable,
    /// No ephemeral port is free.
    #[error("no ephemeral port left")]
    PortsExhausted,
    /// The peer refused the connection or the datagram (TCP reset in SYN-SENT, ICMP port unreachable).
    #[error("connection refused")]
    ConnectionRefused,
    /// The peer reset the connection.
    #[error("connection reset by peer")]
    ConnectionReset,
    /// The connection was aborted on this side.
    #[error("connection aborted")]
    ConnectionAborted,
    /// The peer has not answered for too long.
    #[error("connection timed out")]
    TimedOut,
    /// There is no route to the network.
    #[error("network unreachable")]
    NetworkUnreachable,
    /// A route drops packets to the destination silently.
    #[error("the route to the destination is a blackhole")]
    Blackhole,
    /// A route prohibits communication with the destination.
    #[error("communication with the destination is prohibited")]
    Prohibited,
    /// The host does not answer.
    #[error("host unreachable")]
    HostUnreachable,
    /// The destination does not support the protocol.
    #[error("protocol unreachable")]
    ProtocolUnreachable,
    /// The socket has no peer.
    #[error("not connected")]
    NotConnected,
    /// The socket already has a peer.
    #[error("already connected")]
    AlreadyConnected,
    /// The write side has been shut down.
    #[error("broken pipe")]
    BrokenPipe,
    /// The datagram is larger than the protocol or the path allows.
    #[error("message too long")]
    MessageTooLong,
    /// An argument is invalid for this operation, such as port 0.
    #[error("invalid destination")]
    InvalidInput,
    /// The destination is a broadcast address, and the socket lacks permission (`SO_BROADCAST`).
    #[error("broadcasting needs permission")]
    BroadcastForbidden,
    /// The vnet has reached a limit, whose name this is.
    #[error("limit reached: {0}")]
    Limit(&'static str),
    /// The vnet's tenants lack a privilege, whose name this is.
    #[error("denied: this vnet's tenants lack the privilege {0}")]
    Denied(&'static str),
}

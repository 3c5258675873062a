//! What can be wrong with a socket, in the words of the socket API. The `socket` layer turns these
//! into [`std::io::Error`]s of the kinds a BSD socket gives.

use thiserror::Error;

/// An error of a socket operation, or one that waits on a socket to be reported (`SO_ERROR`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SocketError {
    /// The socket is closed, or its vnet is gone.
    #[error("the socket is gone")]
    Gone,
    /// The operation cannot complete now.
    #[error("the operation would block")]
    WouldBlock,
    /// The address or port is taken.
    #[error("address already in use")]
    AddrInUse,
    /// The address is not one of this vnet's.
    #[error("address not available in this vnet")]
    AddrNotAvailable,
    /// No ephemeral port is left.
    #[error("no ephemeral port left")]
    PortsExhausted,
    /// The peer refused (TCP reset in SYN-SENT, ICMP port unreachable).
    #[error("connection refused")]
    ConnectionRefused,
    /// The peer reset the connection.
    #[error("connection reset by peer")]
    ConnectionReset,
    /// The connection was aborted on this side.
    #[error("connection aborted")]
    ConnectionAborted,
    /// Nothing was heard from the peer for too long.
    #[error("connection timed out")]
    TimedOut,
    /// No route to the network.
    #[error("network unreachable")]
    NetworkUnreachable,
    /// A route says that packets to the destination are dropped without a word.
    #[error("the route to the destination is a blackhole")]
    Blackhole,
    /// A route says that communication with the destination is prohibited.
    #[error("communication with the destination is prohibited")]
    Prohibited,
    /// The host does not answer.
    #[error("host unreachable")]
    HostUnreachable,
    /// The protocol is not spoken there.
    #[error("protocol unreachable")]
    ProtocolUnreachable,
    /// The socket has no peer.
    #[error("not connected")]
    NotConnected,
    /// The socket has a peer already.
    #[error("already connected")]
    AlreadyConnected,
    /// Writing after the write side was shut down.
    #[error("broken pipe")]
    BrokenPipe,
    /// The datagram is larger than the protocol or the path can carry.
    #[error("message too long")]
    MessageTooLong,
    /// The destination is not one this operation can have (broadcast without permission, port 0).
    #[error("invalid destination")]
    InvalidInput,
    /// A broadcast from a socket that was not given permission (`SO_BROADCAST`).
    #[error("broadcasting needs permission")]
    BroadcastForbidden,
    /// A limit of the vnet is reached.
    #[error("limit reached: {0}")]
    Limit(&'static str),
    /// The vnet's tenants lack a privilege, whose name this is.
    #[error("denied: this vnet's tenants lack the privilege {0}")]
    Denied(&'static str),
}

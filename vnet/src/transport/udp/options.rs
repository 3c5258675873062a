//! What a UDP socket can be told.

use crate::transport::ports::Reuse;

/// What new sockets start with, and the limits of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UdpConfig {
    /// Time to live of datagrams sent.
    pub ttl: u8,
    /// Receive buffer in bytes; each datagram costs
    /// [`ITEM_OVERHEAD`](crate::transport::datagram::ITEM_OVERHEAD) besides its own.
    pub recv_buffer: usize,
    /// Sockets the vnet may have.
    pub max_sockets: usize,
}

impl Default for UdpConfig {
    fn default() -> UdpConfig {
        UdpConfig {
            ttl: 64,
            recv_buffer: 1 << 20,
            max_sockets: 1 << 20,
        }
    }
}

/// Whether a socket may send to broadcast addresses (`SO_BROADCAST`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Broadcast {
    /// It may not.
    #[default]
    Forbidden,
    /// It may.
    Allowed,
}

/// The options of one socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UdpOptions {
    /// Time to live of datagrams sent.
    pub ttl: u8,
    /// Type of service of datagrams sent.
    pub tos: u8,
    /// Whether it may send to broadcast addresses.
    pub broadcast: Broadcast,
    /// Whether its address may be shared; looked at by [`Udp::bind`](super::Udp::bind).
    pub reuse: Reuse,
    /// Receive buffer in bytes.
    pub recv_buffer: usize,
}

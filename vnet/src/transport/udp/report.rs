//! What goes between the UDP table and the stack: datagrams, listings, counts.

use std::net::{IpAddr, SocketAddr};

use super::UdpId;
use super::options::Broadcast;
use crate::packet::Payload;

/// How a datagram was addressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Addressing {
    /// To one host: one socket gets it.
    Unicast,
    /// To all hosts, or a group: every matching socket gets it.
    Broadcast,
}

/// A datagram to send. The stack routes it, fills in the source address, and refuses it when it
/// goes to a subnet's broadcast address and `broadcast` forbids that.
#[derive(Clone, Debug)]
pub(crate) struct DatagramOut {
    /// The source address, when the socket has one; otherwise the route decides.
    pub src: Option<IpAddr>,
    /// The source port.
    pub src_port: u16,
    /// Where it goes.
    pub dst: SocketAddr,
    /// What it carries.
    pub payload: Payload,
    /// Time to live.
    pub ttl: u8,
    /// Type of service.
    pub tos: u8,
    /// Whether the destination may be a broadcast address.
    pub broadcast: Broadcast,
}

/// One socket, for a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UdpInfo {
    /// The socket.
    pub id: UdpId,
    /// Its own address, once bound.
    pub local: Option<SocketAddr>,
    /// Its peer, while connected.
    pub peer: Option<SocketAddr>,
    /// Datagrams in its receive queue.
    pub queued: usize,
    /// Bytes in its receive queue, overhead included.
    pub queued_bytes: usize,
    /// Datagrams that found the queue full.
    pub overflows: u64,
}

/// Counters of the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct UdpStats {
    /// Datagrams that at least one socket took.
    pub delivered: u64,
    /// Datagrams for a port nobody has.
    pub no_socket: u64,
    /// Datagrams that found the receive buffer full.
    pub buffer_full: u64,
    /// Datagrams handed to the stack to send.
    pub sent: u64,
}

/// What a removal gave back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct UdpReleased {
    /// Sockets closed.
    pub sockets: usize,
    /// Datagrams nobody will read.
    pub datagrams: usize,
}

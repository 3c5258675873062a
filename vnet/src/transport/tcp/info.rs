//! What TCP reports about its connections and listeners.

use std::net::SocketAddr;

use super::state::TcpState;
use crate::base::time::Duration;

/// A connection's inner life (`TCP_INFO`). Sizes are in bytes; what has not been measured yet is `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpInfo {
    /// State.
    pub state: TcpState,
    /// Smoothed round-trip time, once measured.
    pub srtt: Option<Duration>,
    /// Mean deviation of the round-trip time, once measured (RFC 6298).
    pub rttvar: Option<Duration>,
    /// The least round-trip time that was measured.
    pub min_rtt: Option<Duration>,
    /// The retransmission timeout, as it is now, doubled for each time that it went off in vain.
    pub rto: Duration,
    /// Congestion window, in bytes.
    pub cwnd: u32,
    /// Slow-start threshold, in bytes.
    pub ssthresh: u32,
    /// Payload of a full segment, in bytes.
    pub mss: u32,
    /// Payload of a full segment of the peer's, in bytes, as observed.
    pub peer_mss: u32,
    /// The largest packet for this path, IP header included, in bytes.
    pub path_mtu: u32,
    /// Sequence numbers sent and not acknowledged.
    pub in_flight: u32,
    /// Bytes written and not sent.
    pub unsent: u32,
    /// Bytes received and not read.
    pub unread: usize,
    /// Bytes that the send buffer may hold now.
    pub send_buffer: usize,
    /// Bytes that the receive buffer may hold now.
    pub recv_buffer: usize,
    /// The peer's window, in bytes.
    pub peer_window: u32,
    /// The window promised to the peer, in bytes.
    pub window: u32,
    /// Retransmissions and window probes since the peer last acknowledged something.
    pub retries: u8,
}

/// One line of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TcpSocketInfo {
    /// Local address.
    pub local: SocketAddr,
    /// The peer; `None` for a listener.
    pub remote: Option<SocketAddr>,
    /// State.
    pub state: TcpState,
    /// Bytes received and not read; for a listener, connections that wait to be accepted.
    pub recv_queue: usize,
    /// Bytes written and not acknowledged; for a listener, its backlog.
    pub send_queue: usize,
}

/// How many of what there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TcpCounts {
    /// Connections, those without a socket included.
    pub connections: usize,
    /// Listeners.
    pub listeners: usize,
    /// Connection requests that were answered.
    pub half_open: usize,
    /// TIME-WAIT records.
    pub time_wait: usize,
}

//! What TCP reports about its connections and listeners.

use std::net::SocketAddr;

use super::ids::ConnId;
use super::state::TcpState;
use crate::base::time::Duration;

/// A connection's inner life (`TCP_INFO`). Sizes are in bytes; what has not been measured yet is `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
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
    /// Segments sent, those without data and those sent again included. A large segment counts as those that it is cut into.
    pub segments_out: u64,
    /// Segments received. What the stack has joined counts as the segments that arrived.
    pub segments_in: u64,
    /// Segments with data sent, those sent again included.
    pub data_segments_out: u64,
    /// Segments with data received, duplicates included.
    pub data_segments_in: u64,
    /// Segments sent again.
    pub retransmits: u64,
    /// Bytes of data sent, those sent again included.
    pub bytes_sent: u64,
    /// Bytes of data sent again.
    pub bytes_retransmitted: u64,
    /// Bytes of data that the peer has acknowledged.
    pub bytes_acked: u64,
    /// Bytes of data that have arrived at the peer: acknowledged, or reported selectively (RFC 2018).
    pub bytes_delivered: u64,
    /// Bytes of data that arrived at the peer with a mark of congestion, as far as it tells (RFC 9768): exactly with the
    /// AccECN option, and full segments otherwise; with the feedback of RFC 3168, what was acknowledged while it echoed one.
    pub bytes_marked: u64,
    /// Bytes of data received in order, whether read or not.
    pub bytes_received: u64,
    /// Times that something arrived at the peer which had been overtaken, or was taken for lost and was only late.
    pub reorderings: u64,
    /// Bytes of data per second that were acknowledged in the last round trip, once there was one.
    pub delivery_rate: Option<u64>,
    /// Whether in that round trip less was sent than the congestion window had room for, so that the rate says less of the
    /// path than of the application.
    pub is_app_limited: bool,
    /// Bytes per second at which segments leave, where they are spread over time.
    pub pacing_rate: Option<u64>,
    /// How long there was data to send or on its way.
    pub busy_time: Duration,
    /// Of that, how long the peer's window kept data from leaving that the congestion window had room for.
    pub window_limited_time: Duration,
    /// Of that, how long everything was on its way, the congestion window had room for more, and the application waited for
    /// room in the send buffer.
    pub buffer_limited_time: Duration,
    /// How long ago data was last sent.
    pub since_data_sent: Option<Duration>,
    /// How long ago data last arrived.
    pub since_data_received: Option<Duration>,
    /// How long ago a segment last arrived; all that belong to a connection acknowledge.
    pub since_ack_received: Duration,
}

/// One line of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TcpSocketInfo {
    /// The connection; not of one that is not complete, or over.
    pub id: Option<ConnId>,
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

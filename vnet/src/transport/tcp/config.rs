//! The tunables of TCP, per vnet.

use super::congestion::Congestion;
use super::ecn::EcnUse;
use crate::base::on_use::part;
/// Whether an optional part of the protocol is used: when the peer agrees, or neither offered nor
/// accepted.
pub(crate) use crate::base::switch::Switch as Feature;
use crate::base::time::Duration;

/// Tunables of TCP in one vnet. A change concerns connections and listeners made from then on,
/// except where noted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TcpConfig {
    /// Send buffer of a new connection, in bytes.
    pub send_buffer: usize,
    /// Receive buffer of a new connection, in bytes: the largest window it will offer, until it
    /// grows.
    pub recv_buffer: usize,
    /// Send buffers grow with what the path carries. Takes effect at once.
    pub send_buffer_auto: Feature,
    /// Receive buffers grow with what the path carries. Takes effect at once.
    pub recv_buffer_auto: Feature,
    /// The size to which buffers grow, in bytes; the window shift of a new connection is chosen for it. Takes effect at
    /// once.
    pub max_buffer: usize,
    /// Congestion control of a new connection.
    pub congestion: Congestion,
    /// Windows of more than 64 KiB are spread over round trips of a millisecond or more. With a model of the path, segments
    /// always are. Takes effect at once.
    pub pacing: Feature,
    /// Connections whose full segments time out several times go on with smaller ones (RFC 8899). Takes effect at once.
    pub black_holes: Feature,
    /// Explicit congestion notification of a new connection.
    pub ecn: EcnUse,
    /// Answers to SYNs that ask for congestion notification may be marked themselves (RFC 5562). Takes effect at once.
    pub ecn_syn_ack: Feature,
    /// Connections with accurate feedback say how many bytes were marked, too (RFC 9768 3.2.3).
    pub ecn_option: Feature,
    /// Data of connections with accurate feedback is sent as ECT(1) (RFC 9331). Takes effect at once.
    pub ect1: Feature,
    /// Marks shrink the window less than losses (RFC 8511). Takes effect at once.
    pub abe: Feature,
    /// Initial congestion window in segments (RFC 6928 allows 10).
    pub initial_cwnd_segments: u32,
    /// Retransmission timeout before the first measurement (RFC 6298 2.1: 1 s).
    pub initial_rto: Duration,
    /// Least retransmission timeout. RFC 6298 2.4 says 1 s; Linux and FreeBSD are below, so are we.
    pub min_rto: Duration,
    /// Largest retransmission timeout (RFC 6298 2.5: at least 60 s).
    pub max_rto: Duration,
    /// How long an acknowledgement may wait for company (RFC 9293 3.8.6.3: below 500 ms).
    pub delayed_ack: Duration,
    /// Maximum segment lifetime; TIME-WAIT lasts twice as long.
    pub msl: Duration,
    /// Retransmissions of a SYN before the attempt fails.
    pub syn_retries: u8,
    /// Retransmissions of a SYN-ACK before the attempt is forgotten.
    pub syn_ack_retries: u8,
    /// Retransmissions of data before the connection fails.
    pub data_retries: u8,
    /// The same for a connection that no socket refers to any more.
    pub orphan_retries: u8,
    /// Connections that no socket refers to any more and that go on by themselves; beyond that they are reset. Takes
    /// effect at once.
    pub max_orphans: usize,
    /// How long a connection without a socket waits in FIN-WAIT-2.
    pub fin_wait2: Duration,
    /// Silence after which a connection with keepalive is probed.
    pub keepalive_idle: Duration,
    /// Time between keepalive probes.
    pub keepalive_interval: Duration,
    /// Probes without an answer before the connection fails.
    pub keepalive_probes: u8,
    /// Largest backlog of a listener (`somaxconn`).
    pub max_backlog: usize,
    /// Connection requests of one listener that were answered and are not complete; beyond that
    /// the oldest one makes room. Takes effect at once.
    pub max_half_open: usize,
    /// Beyond that, answer with cookies (RFC 4987 3.6) instead. Takes effect at once.
    pub syn_cookies: Feature,
    /// Connections of one listener whose data was taken before their handshake was complete (RFC 7413 5.1); beyond that,
    /// data of SYNs is not taken. Takes effect at once.
    pub fast_open_pending: usize,
    /// Challenge acknowledgements of one connection in five seconds (RFC 5961 7).
    pub challenge_acks: u8,
    /// Connections and listeners in the vnet. Takes effect at once.
    pub max_sockets: usize,
    /// TIME-WAIT records in the vnet; beyond that a connection is forgotten at once. Takes
    /// effect at once.
    pub max_time_wait: usize,
    /// Offer and accept timestamps (RFC 7323 3).
    pub timestamps: Feature,
    /// Offer and accept window scaling (RFC 7323 2).
    pub window_scaling: Feature,
    /// Offer and accept selective acknowledgements (RFC 2018).
    pub sack: Feature,
}

part!(TcpConfig, const TcpConfig::DEFAULT);

impl Default for TcpConfig {
    fn default() -> TcpConfig {
        TcpConfig::DEFAULT
    }
}

impl TcpConfig {
    const DEFAULT: TcpConfig = {
        TcpConfig {
            send_buffer: 1 << 20,
            recv_buffer: 1 << 20,
            send_buffer_auto: Feature::On,
            recv_buffer_auto: Feature::On,
            max_buffer: 16 << 20,
            congestion: Congestion::Cubic,
            pacing: Feature::On,
            black_holes: Feature::On,
            ecn: EcnUse::Grant,
            ecn_syn_ack: Feature::Off,
            ecn_option: Feature::On,
            ect1: Feature::Off,
            abe: Feature::On,
            initial_cwnd_segments: 10,
            initial_rto: Duration::from_secs(1),
            min_rto: Duration::from_millis(200),
            max_rto: Duration::from_secs(120),
            delayed_ack: Duration::from_millis(40),
            msl: Duration::from_secs(30),
            syn_retries: 6,
            syn_ack_retries: 5,
            data_retries: 15,
            orphan_retries: 8,
            max_orphans: 1 << 18,
            fin_wait2: Duration::from_secs(60),
            keepalive_idle: Duration::from_secs(7200),
            keepalive_interval: Duration::from_secs(75),
            keepalive_probes: 9,
            max_backlog: 4096,
            max_half_open: 1024,
            syn_cookies: Feature::On,
            fast_open_pending: 256,
            challenge_acks: 10,
            max_sockets: 1 << 20,
            max_time_wait: 1 << 18,
            timestamps: Feature::On,
            window_scaling: Feature::On,
            sack: Feature::On,
        }
    };
}

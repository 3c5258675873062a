//! What a connection knows of its troubles. Most have none, so it is made with the first of them.

use crate::transport::error::SocketError;
use crate::transport::tcp::challenge::Challenge;

#[derive(Clone, Debug, Default)]
pub(super) struct Trouble {
    /// An ICMP error that does not end the connection (RFC 5461); the reason given if it fails.
    pub(super) soft_error: Option<SocketError>,
    pub(super) challenge: Challenge,
    /// Segments that were sent again, and their payload bytes, for `TcpInfo`.
    pub(super) segments_again: u64,
    pub(super) bytes_again: u64,
    /// Payload bytes that the peer has reported as marked.
    pub(super) bytes_marked: u64,
}

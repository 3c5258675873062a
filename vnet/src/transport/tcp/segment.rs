//! What goes into TCP and what comes out of it: segments, verdicts and ICMP errors.

use std::net::SocketAddr;

use super::options::Path;
use crate::base::id::IfId;
use crate::base::stats::DropReason;
use crate::packet::Payload;
use crate::packet::header::TcpHeader;
use crate::transport::error::SocketError;

/// A segment that arrived, its checksum verified or known to be good, for an address of this
/// vnet. Broadcast and multicast never get here (RFC 9293 3.9.2.3, MUST-57).
pub(crate) struct SegmentIn<'a> {
    /// Who sent it.
    pub src: SocketAddr,
    /// Whom it is for.
    pub dst: SocketAddr,
    /// Its header.
    pub header: &'a TcpHeader,
    /// What follows the header.
    pub payload: Payload,
    /// The traffic class of its packet: DSCP and ECN.
    pub traffic_class: u8,
    /// Payload bytes of each piece, when it stands for several segments.
    pub gso_segment: Option<u16>,
    /// The interface it came in by. Looked at only when the segment opens a connection.
    pub on: Option<IfId>,
    /// The path a reply takes. Looked at only when the segment opens a connection.
    pub path: Path,
}

/// What became of a segment. A reply, if any, waits in [`poll_transmit`](super::Tcp::poll_transmit).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A connection, listener or record took it.
    Delivered,
    /// It was dropped.
    Drop(DropReason),
}

/// A segment to be sent.
#[derive(Clone, Debug)]
pub(crate) struct SegmentOut {
    /// From.
    pub src: SocketAddr,
    /// To.
    pub dst: SocketAddr,
    /// Header; its checksum is the caller's business.
    pub header: TcpHeader,
    /// What follows it, by reference.
    pub payload: Payload,
    /// Payload bytes of each piece, when it is to be cut below; the last may be shorter.
    pub gso: Option<u16>,
    /// Time to live; zero means the vnet's default.
    pub ttl: u8,
    /// Type of service.
    pub tos: u8,
    /// The interface that it must leave by.
    pub by: Option<IfId>,
    /// The peer has lately got what was sent to it: the way there works.
    pub confirms: bool,
}

impl SegmentOut {
    /// A segment without payload. The ports of `header` are filled in.
    #[inline]
    pub(super) fn new(
        src: SocketAddr,
        dst: SocketAddr,
        ttl: u8,
        tos: u8,
        header: TcpHeader,
    ) -> SegmentOut {
        SegmentOut::carrying(src, dst, ttl, tos, header, Payload::new())
    }

    /// A segment. The ports of `header` are filled in.
    #[inline]
    pub(super) fn carrying(
        src: SocketAddr,
        dst: SocketAddr,
        ttl: u8,
        tos: u8,
        mut header: TcpHeader,
        payload: Payload,
    ) -> SegmentOut {
        header.src_port = src.port();
        header.dst_port = dst.port();
        SegmentOut {
            src,
            dst,
            header,
            payload,
            gso: None,
            ttl,
            tos,
            by: None,
            confirms: false,
        }
    }
}

/// How a write belongs to what follows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SendFlags {
    /// More comes at once (`MSG_MORE`): what does not fill a segment waits for it, for 200 ms at most.
    pub more: bool,
    /// A record ends with the write (`MSG_EOR`): what follows begins a segment of its own.
    pub end_of_record: bool,
}

/// An ICMP error about a segment of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IcmpKind {
    /// Destination unreachable, in the words of a socket: the host, the network, the protocol,
    /// or the port (which is [`SocketError::ConnectionRefused`]).
    Unreachable(SocketError),
    /// Fragmentation needed, or IPv6 packet too big.
    FragmentationNeeded {
        /// The MTU of the hop that could not take the packet.
        ip_mtu: u32,
    },
    /// Time to live, or reassembly time, exceeded.
    TimeExceeded,
}

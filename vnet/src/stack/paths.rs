//! Packets of ours that must not be cut, and what their paths take.

use std::net::IpAddr;

use bytes::Bytes;

use super::Stack;
use super::errors::{Said, tell};
use crate::base::stats::DropReason;
use crate::icmp::Quoted;
use crate::ip::{Outgoing, Refusal, Way};
use crate::packet::header::{IpProto, ipv4, ipv6};
use crate::packet::{Cx, Packet};
use crate::transport::error::SocketError;

/// Sees to it that a packet of ours that must not be cut, at its transport header, fits its link, and its path as far as
/// that is known. One that does not is counted.
///
/// # Errors
/// It is longer.
#[inline(never)]
pub(super) fn whole(
    s: &mut Stack,
    cx: &mut Cx,
    to: &Outgoing,
    packet: &Packet,
    way: &Way,
) -> Result<(), SocketError> {
    let Some(netif) = s.ifs.get(way.ifid) else {
        return Ok(());
    };
    let header_len = match to.dst {
        IpAddr::V4(_) => ipv4::MIN_LEN,
        IpAddr::V6(_) => ipv6::MIN_LEN,
    };
    let ip_len = (packet.len() + header_len) as u32;
    let mtu = s.ip.path_mtu(cx.now, to.dst, netif.mtu_to(to.dst).into());
    if ip_len <= mtu {
        s.ip.sends_whole(cx.now, to.dst, ip_len);
        return Ok(());
    }
    cx.stats.drop_tx(DropReason::TooBig);
    let mut transport = [0; 8];
    packet.copy_to(0, &mut transport);
    let quoted = Quoted {
        src: to.src,
        dst: to.dst,
        proto: to.proto,
        ip_len,
        transport,
    };
    // Who keeps errors reads there what the path takes. An echo socket keeps answers alone.
    if to.proto == IpProto::UDP {
        let said = Said {
            from: to.src,
            refusal: Refusal::PacketTooBig { mtu },
            extensions: Bytes::new(),
        };
        tell(s, cx, said, &quoted);
    }
    Err(SocketError::MessageTooLong)
}

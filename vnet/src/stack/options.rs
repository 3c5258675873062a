//! Packets of IPv4 with options: routers and hosts write into them that they have passed, and an echo reply has those of
//! its request (RFC 1122 section 3.2.2.6).

use std::net::IpAddr;

use super::{Stack, tx, ways};
use crate::base::stats::DropReason;
use crate::icmp;
use crate::ip::Way;
use crate::ip::v4::options;
use crate::packet::header::IpProto;
use crate::packet::header::ipv4::{self, Ipv4Header, MIN_LEN};
use crate::packet::{Csum, Cx, Packet};

/// Keeps the options of an echo request, at its IP header, until it is answered.
#[cold]
pub(super) fn keep(s: &mut Stack, header: &Ipv4Header, packet: &Packet) {
    if header.proto == IpProto::ICMP && !header.is_fragment() {
        let bytes = &packet.head()[..usize::from(header.header_len)];
        s.options = options::for_answer(bytes).into_boxed_slice();
    }
}

/// Writes into a packet that is forwarded, at its IP header, that it has passed here.
#[cold]
pub(super) fn pass(s: &mut Stack, cx: &Cx, way: &Way, packet: &mut Packet) {
    let Ok(header_len) = ipv4::header_len(packet.head()) else {
        return;
    };
    let IpAddr::V4(hop) = way.hop else { return };
    let addrs = &s.ip.v4.addrs;
    let own = addrs.source_for(hop, way.ifid, hop);
    if let (Some(own), Some(header)) = (own, packet.head_mut().get_mut(..header_len)) {
        options::record(header, cx.now, own, |addr| addrs.contains(addr));
    }
}

/// Sends an answer with the options that were kept, filled in as this host's.
#[cold]
pub(super) fn answer(s: &mut Stack, cx: &mut Cx, message: icmp::Message) {
    let mut kept = std::mem::take(&mut s.options);
    let icmp::Message { to, mut packet } = message;
    let IpAddr::V4(src) = to.src else {
        return;
    };
    let addrs = &s.ip.v4.addrs;
    options::fill_in(&mut kept, cx.now, src, |addr| addrs.contains(addr));
    let way = match ways::way(s, to.dst) {
        Ok(way) => way,
        Err(why) => return cx.stats.drop_tx(why.reason()),
    };
    packet.prepend(kept.len()).copy_from_slice(&kept);
    if let Csum::Partial { start, .. } = &mut packet.meta.csum {
        *start += kept.len() as u16;
    }
    if s.ip
        .prepend(cx.now, Some(way.ifid), &to, &mut packet)
        .is_err()
    {
        return cx.stats.drop_tx(DropReason::TooBig);
    }
    let header = &mut packet.head_mut()[..MIN_LEN + kept.len()];
    header[0] = 0x40 | (header.len() / 4) as u8;
    options::sum(header);
    let _ = tx::postrouting(s, cx, to.dst, packet, way, tx::WHOLE_PATH);
}

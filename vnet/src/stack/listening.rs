//! What routers are told of groups, and heard to ask: by IGMP of those of IPv4 (RFC 3376, RFC 2236, RFC 1112), by multicast
//! listener discovery of those of IPv6 (RFC 3810, RFC 2710).
//!
//! When what is told is said in [`ip::multicast`](crate::ip::multicast), once for both; here are the messages.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Stack, tx};
use crate::base::id::IfId;
use crate::base::stats::DropReason;
use crate::base::time::Duration;
use crate::ip::Ip;
use crate::ip::family::{Family, V4, V6};
use crate::ip::multicast::Groups;
use crate::ip::multicast::report::{Dialect, Query, Record, Said, packed};
use crate::netif::Netif;
use crate::packet::header::igmp::{self, Igmp};
use crate::packet::header::mld::{self, Mld};
use crate::packet::header::{EtherType, HeaderError, IpInfo, ipv6};
use crate::packet::{Csum, Cx, MacAddr, Packet, Payload};

/// A version of IP in whose groups hosts are.
pub(super) trait Listening: Family {
    /// Bytes of headers, and of the fixed part of a report, before its records.
    const BEFORE_RECORDS: usize;

    /// The groups.
    fn groups(ip: &mut Ip) -> &mut Groups<Self>;
    /// From where is told about groups on an interface.
    fn source(s: &Stack, ifid: IfId) -> Self::Addr;
    /// A report of the latest version.
    fn report(records: &[Record<Self>]) -> (Self::Addr, Vec<u8>);
    /// A report of an earlier one, about one group.
    fn member(group: Self::Addr, dialect: Dialect) -> Vec<u8>;
    /// That nobody is in a group any more, in an earlier version.
    fn left(group: Self::Addr) -> (Self::Addr, Vec<u8>);
    /// A message as a packet.
    fn packet(src: Self::Addr, dst: Self::Addr, message: Vec<u8>) -> Vec<u8>;
}

impl Listening for V4 {
    // A header with a router alert.
    const BEFORE_RECORDS: usize = 24 + 8;

    fn groups(ip: &mut Ip) -> &mut Groups<V4> {
        &mut ip.v4.groups
    }

    /// RFC 9776 section 4.2.14: a host without an address says so.
    fn source(s: &Stack, ifid: IfId) -> Ipv4Addr {
        let mut addrs = s.ip.v4.addrs.on_interface(ifid);
        addrs.next().map_or(Ipv4Addr::UNSPECIFIED, |a| a.addr())
    }

    fn report(records: &[Record<V4>]) -> (Ipv4Addr, Vec<u8>) {
        let records = records.iter();
        let records = records.map(|r| (r.kind as u8, r.group, &r.sources[..]));
        (igmp::ROUTERS_V3, igmp::report_v3(records))
    }

    fn member(group: Ipv4Addr, dialect: Dialect) -> Vec<u8> {
        match dialect {
            Dialect::Members => igmp::report_v1(group),
            _ => igmp::report_v2(group),
        }
    }

    fn left(group: Ipv4Addr) -> (Ipv4Addr, Vec<u8>) {
        (igmp::ROUTERS, igmp::leave(group))
    }

    fn packet(src: Ipv4Addr, dst: Ipv4Addr, message: Vec<u8>) -> Vec<u8> {
        igmp::packet(src, dst, &message)
    }
}

impl Listening for V6 {
    // A header, and a router alert.
    const BEFORE_RECORDS: usize = ipv6::MIN_LEN + 8 + 8;

    fn groups(ip: &mut Ip) -> &mut Groups<V6> {
        &mut ip.v6_mut().groups
    }

    /// RFC 3590 section 4: who has no address yet tells of his groups all the same.
    fn source(s: &Stack, ifid: IfId) -> Ipv6Addr {
        s.link_local_of(ifid).unwrap_or(Ipv6Addr::UNSPECIFIED)
    }

    fn report(records: &[Record<V6>]) -> (Ipv6Addr, Vec<u8>) {
        let records = records.iter();
        let records: Vec<_> = records.map(|r| (r.kind, r.group, &r.sources[..])).collect();
        (mld::ROUTERS_V2, mld::report_v2(&records))
    }

    fn member(group: Ipv6Addr, _: Dialect) -> Vec<u8> {
        mld::report_v1(group)
    }

    fn left(group: Ipv6Addr) -> (Ipv6Addr, Vec<u8>) {
        (mld::ROUTERS, mld::done(group))
    }

    fn packet(src: Ipv6Addr, dst: Ipv6Addr, message: Vec<u8>) -> Vec<u8> {
        mld::packet(src, dst, message)
    }
}

/// Tells routers what is due.
pub(super) fn say<F: Listening>(s: &mut Stack, cx: &mut Cx) {
    for (ifid, all) in F::groups(&mut s.ip).take_due(cx.now) {
        let speaks = |i: &&Netif| i.can().needs_neighbours && i.is_running() && i.member.is_none();
        let Some(netif) = s.ifs.get(ifid).filter(speaks) else {
            continue;
        };
        let room = usize::from(netif.ip_mtu).saturating_sub(F::BEFORE_RECORDS);
        let src = F::source(s, ifid);
        for said in all {
            match said {
                Said::Records(records) => {
                    for records in packed(records, room) {
                        send::<F>(s, cx, ifid, src, F::report(&records));
                    }
                }
                Said::Member(group, dialect) => {
                    send::<F>(s, cx, ifid, src, (group, F::member(group, dialect)));
                }
                Said::Left(group) => send::<F>(s, cx, ifid, src, F::left(group)),
            }
        }
    }
}

fn send<F: Listening>(
    s: &mut Stack,
    cx: &mut Cx,
    ifid: IfId,
    src: F::Addr,
    (dst, message): (F::Addr, Vec<u8>),
) {
    let mut packet = Packet::outgoing(Payload::from(F::packet(src, dst, message)));
    packet.meta.csum = Csum::Verified;
    let dst: IpAddr = dst.into();
    tx::ether(
        s,
        cx,
        ifid,
        MacAddr::of_group(dst),
        EtherType::of(dst),
        packet,
    );
}

/// A message of IGMP came in.
#[inline(never)]
pub(super) fn igmp(s: &mut Stack, cx: &mut Cx, info: &IpInfo, packet: Packet) {
    let netif = packet.meta.rcvif.and_then(|id| s.ifs.get(id));
    let Some(netif) = netif.filter(|i| i.can().needs_neighbours) else {
        return cx.stats.drop_rx(DropReason::NotForUs);
    };
    let ifid = netif.id;
    let bytes = packet.to_vec();
    let heard = Igmp::parse(&bytes).and_then(|message| match message {
        // RFC 9776 section 4: one from elsewhere has come through a router that passes on what it must not.
        Igmp::Query(_) if info.hop_limit != 1 => Err(HeaderError::WrongFormat),
        Igmp::Query(query) => {
            let (dialect, robustness, interval, sources) = match igmp::query_v3(&bytes)? {
                Some(more) => (
                    Dialect::Sources,
                    more.robustness,
                    more.interval,
                    more.sources,
                ),
                None if bytes[1] == 0 => (Dialect::Members, 0, Default::default(), Vec::new()),
                None => (Dialect::Groups, 0, Default::default(), Vec::new()),
            };
            let query = Query {
                group: query.group,
                sources,
                max_response: query.max_response,
                dialect,
                robustness,
                interval,
            };
            s.ip.v4.groups.asked(cx.now, ifid, &query);
            Ok(())
        }
        Igmp::Report(group) => {
            s.ip.v4.groups.heard_member(cx.now, ifid, group);
            Ok(())
        }
        // Routers look at these.
        Igmp::Leave(_) | Igmp::Records(_) | Igmp::Other => Ok(()),
    });
    match heard {
        Ok(()) => cx.stats.delivered += 1,
        Err(HeaderError::BadChecksum) => cx.stats.drop_rx(DropReason::BadChecksum),
        Err(_) => cx.stats.drop_rx(DropReason::Malformed),
    }
    s.ip.note_deadlines();
}

impl Stack {
    /// A message came in that is about groups, with a checksum that holds.
    #[cold]
    pub(super) fn hear_groups(
        &mut self,
        cx: &mut Cx,
        info: &IpInfo,
        rcvif: Option<IfId>,
        message: &[u8],
    ) {
        let (Some(ifid), Ok(message)) = (rcvif, Mld::parse(message)) else {
            return cx.stats.drop_rx(DropReason::Malformed);
        };
        match message {
            Mld::Query(asked) => {
                // RFC 3810 section 5.1.14, RFC 2710 section 5: a router of the link asks.
                let is_of_link = matches!(info.src, IpAddr::V6(src) if src.is_unicast_link_local());
                if !is_of_link {
                    return cx.stats.drop_rx(DropReason::Martian);
                }
                let more = asked.more;
                let query = Query::<V6> {
                    group: asked.group,
                    sources: more.iter().flat_map(|more| more.sources.iter()).collect(),
                    max_response: asked.max_response,
                    dialect: match more {
                        Some(_) => Dialect::Sources,
                        None => Dialect::Groups,
                    },
                    robustness: more.map_or(0, |more| more.robustness),
                    interval: more.map_or(Duration::ZERO, |more| more.interval),
                };
                self.ip.v6_mut().groups.asked(cx.now, ifid, &query);
            }
            Mld::Report(group) => self.ip.v6_mut().groups.heard_member(cx.now, ifid, group),
            // That is for routers.
            Mld::Done(_) | Mld::Records(_) => {
                return cx.stats.drop_rx(DropReason::IcmpIgnored);
            }
        }
        cx.stats.delivered += 1;
        self.ip.note_deadlines();
    }
}

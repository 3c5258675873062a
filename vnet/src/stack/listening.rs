//! Multicast listener discovery in one stack: routers are told of groups of IPv6, and heard (RFC 3810, and RFC 2710
//! for those of version 1).

use std::net::{IpAddr, Ipv6Addr};

use super::{Stack, tx};
use crate::base::id::IfId;
use crate::base::stats::DropReason;
use crate::base::time::Duration;
use crate::ip::family::V6;
use crate::ip::multicast::report::{Dialect, Query, Said, packed};
use crate::netif::Netif;
use crate::packet::header::mld::{self, Mld};
use crate::packet::header::{EtherType, IpInfo, ipv6};
use crate::packet::{Csum, Cx, MacAddr, Packet, Payload};

/// Bytes of the router alert in front of a message, and of the fixed part of a report.
const BEFORE_RECORDS: usize = 8 + 8;

impl Stack {
    /// Tells routers what is due.
    pub(super) fn tell_groups(&mut self, cx: &mut Cx) {
        for (ifid, said) in self.ip.v6.groups.take_due(cx.now) {
            let speaks =
                |i: &&Netif| i.can().needs_neighbours && i.is_running() && i.member.is_none();
            let Some(netif) = self.ifs.get(ifid).filter(speaks) else {
                continue;
            };
            let room = usize::from(netif.ip_mtu).saturating_sub(ipv6::MIN_LEN + BEFORE_RECORDS);
            for said in said {
                match said {
                    Said::Records(records) => {
                        for records in packed(records, room) {
                            let records: Vec<_> = records
                                .iter()
                                .map(|r| (r.kind, r.group, &r.sources[..]))
                                .collect();
                            let report = mld::report_v2(&records);
                            self.tell(cx, ifid, mld::ROUTERS_V2, report);
                        }
                    }
                    Said::Member(group, _) => self.tell(cx, ifid, group, mld::report_v1(group)),
                    Said::Left(group) => self.tell(cx, ifid, mld::ROUTERS, mld::done(group)),
                }
            }
        }
    }

    fn tell(&mut self, cx: &mut Cx, ifid: IfId, dst: Ipv6Addr, message: Vec<u8>) {
        // RFC 3590 section 4: who has no address yet tells of his groups all the same.
        let src = self.link_local_of(ifid);
        let bytes = mld::packet(src.unwrap_or(Ipv6Addr::UNSPECIFIED), dst, message);
        let mut packet = Packet::outgoing(Payload::from(bytes));
        packet.meta.csum = Csum::Verified;
        let to = MacAddr::of_group(dst.into());
        tx::ether(self, cx, ifid, to, EtherType::IPV6, packet);
    }

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
                self.ip.v6.groups.asked(cx.now, ifid, &query);
            }
            Mld::Report(group) => self.ip.v6.groups.heard_member(cx.now, ifid, group),
            // That is for routers.
            Mld::Done(_) | Mld::Records(_) => {
                return cx.stats.drop_rx(DropReason::IcmpIgnored);
            }
        }
        cx.stats.delivered += 1;
        self.ip.note_deadlines();
    }
}

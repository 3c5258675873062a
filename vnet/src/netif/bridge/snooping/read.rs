//! What a frame says of groups and of routers, and to which group it is; and what a question of the bridge's own looks
//! like: the only place that knows IGMP and MLD.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::asking::Version;
use crate::base::id::IfId;
use crate::base::time::Duration;
use crate::netif::bridge::fdb::Fid;
use crate::packet::header::ether::ETHER_LEN;
use crate::packet::header::igmp::{self, Igmp, Membership};
use crate::packet::header::ipv4::{self, Ipv4Header};
use crate::packet::header::ipv6::{self, Chain, Ipv6Header};
use crate::packet::header::mld::{self, Mld};
use crate::packet::header::{EtherHeader, EtherType, HeaderError, IpProto};
use crate::packet::{Csum, Packet, checksum};

/// How long a router is believed that speaks PIM and does not say (RFC 7761 section 4.11).
const PIM_HOLD: Duration = Duration::from_secs(105);

/// What a bridge asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    /// In which VLAN.
    pub(crate) vlan: Fid,
    /// By which member; by all, when none is named.
    pub(crate) to: Option<IfId>,
    /// From which address, of the version of IP in which it asks.
    pub(crate) src: IpAddr,
    /// How often it asks everybody.
    pub(crate) interval: Duration,
    /// Who is in which group; in any, when none is named.
    pub(crate) group: Option<IpAddr>,
    /// How long an answer may take.
    pub(crate) response: Duration,
}

/// What somebody says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    /// In which version of IP.
    pub(crate) version: Version,
    /// Who, unless they have no address.
    pub(crate) from: Option<IpAddr>,
    pub(crate) says: Says,
}

/// What there is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Says {
    /// Who is in this group as a whole, or in any? The answer may take so long.
    Query {
        group: Option<IpAddr>,
        response: Duration,
    },
    /// Somebody is in these groups, or has left them.
    Memberships(Vec<(IpAddr, bool)>),
    /// Here is a router, for so long.
    Hello(Duration),
}

/// A frame to a group of IP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ToGroup {
    /// It says something of groups or routers.
    Heard(Heard),
    /// It is to this group.
    Data(IpAddr),
}

/// What there is in a packet for whoever snoops.
enum Part {
    /// Nothing: it is to a group.
    Data,
    /// A message that is not known.
    Unknown,
    /// A message.
    Heard(Heard),
}

/// Reads a frame to a group, whose tags are off; `None` when it is of something on which is not snooped, and goes
/// everywhere.
///
/// # Errors
/// A header that cannot be read, or a message.
pub(crate) fn read(
    header: &EtherHeader,
    packet: &mut Packet,
) -> Result<Option<ToGroup>, HeaderError> {
    let (group, part) = match header.ether_type {
        EtherType::IPV4 => read_v4(packet)?,
        EtherType::IPV6 => read_v6(packet)?,
        _ => return Ok(None),
    };
    Ok(match part {
        Part::Heard(heard) => Some(ToGroup::Heard(heard)),
        // RFC 4541 section 2.1.1 (5): what is not known goes everywhere. What is for one station of IP is for all who
        // listen to the group.
        Part::Unknown => None,
        Part::Data => group.is_multicast().then_some(ToGroup::Data(group)),
    })
}

/// The first bytes of a packet behind its Ethernet header.
fn start(packet: &mut Packet, len: usize) -> Result<&[u8], HeaderError> {
    let bytes = packet.pull_up(ETHER_LEN + len);
    let bytes = bytes.and_then(|b| b.get(ETHER_LEN..));
    bytes.ok_or(HeaderError::Truncated)
}

fn read_v4(packet: &mut Packet) -> Result<(IpAddr, Part), HeaderError> {
    let header_len = ipv4::header_len(start(packet, ipv4::MIN_LEN)?)?;
    let header = Ipv4Header::parse_trusted(start(packet, header_len)?)?;
    let part = match header.proto {
        IpProto::IGMP | IpProto::PIM if !header.is_fragment() => message_v4(packet, &header)?,
        _ => Part::Data,
    };
    Ok((header.dst.into(), part))
}

/// Reads a message of IGMP or PIM.
#[cold]
fn message_v4(packet: &Packet, header: &Ipv4Header) -> Result<Part, HeaderError> {
    let bytes = packet.to_vec();
    let ip = bytes
        .get(ETHER_LEN..)
        .and_then(|b| b.get(..usize::from(header.total_len)));
    let ip = ip.ok_or(HeaderError::BadLength)?;
    Ipv4Header::parse(ip)?;
    let body = &ip[usize::from(header.header_len)..];
    let version = Version::V4;
    let from = (!header.src.is_unspecified()).then_some(IpAddr::V4(header.src));
    let says = match header.proto {
        IpProto::PIM => pim(body),
        _ => igmp(body)?,
    };
    Ok(heard(version, from, says))
}

fn heard(version: Version, from: Option<IpAddr>, says: Option<Says>) -> Part {
    let heard = |says| Heard {
        version,
        from,
        says,
    };
    says.map_or(Part::Unknown, |says| Part::Heard(heard(says)))
}

fn igmp(body: &[u8]) -> Result<Option<Says>, HeaderError> {
    Ok(Some(match Igmp::parse(body)? {
        Igmp::Query(query) => Says::Query {
            group: query.group.filter(|_| query.is_whole).map(IpAddr::V4),
            response: query.max_response,
        },
        Igmp::Report(group) => Says::Memberships(vec![(group.into(), true)]),
        Igmp::Leave(group) => Says::Memberships(vec![(group.into(), false)]),
        Igmp::Records(records) => memberships(records.iter().map(|(g, says)| (g.into(), says))),
        Igmp::Other => return Ok(None),
    }))
}

fn read_v6(packet: &mut Packet) -> Result<(IpAddr, Part), HeaderError> {
    let header = Ipv6Header::parse(start(packet, ipv6::MIN_LEN)?)?;
    let part = match header.next {
        IpProto::HOP_BY_HOP | IpProto::PIM => message_v6(packet, &header)?,
        // RFC 3810 section 5: in front of each message is an option of packets at which routers look.
        _ => Part::Data,
    };
    Ok((header.dst.into(), part))
}

/// Reads a message of MLD or PIM.
#[cold]
fn message_v6(packet: &Packet, header: &Ipv6Header) -> Result<Part, HeaderError> {
    let mut chain = Chain::of(packet, ETHER_LEN);
    for extension in chain.by_ref() {
        if extension?.kind == IpProto::FRAGMENT {
            return Ok(Part::Data);
        }
    }
    let bytes = packet.to_vec();
    let end = ETHER_LEN + ipv6::MIN_LEN + usize::from(header.payload_len);
    let body = bytes.get(ETHER_LEN + chain.at..end);
    let body = body.ok_or(HeaderError::BadLength)?;
    let (src, dst) = (IpAddr::from(header.src), IpAddr::from(header.dst));
    let says = match chain.next {
        IpProto::PIM => pim(body),
        IpProto::ICMPV6 if body.first().is_some_and(|kind| mld::is_mld(*kind)) => {
            let says = mld(body)?;
            let asks = matches!(says, Says::Query { .. });
            // RFC 3810 sections 5.1.14 and 5.2.13, RFC 3590: others are not believed.
            let is_near =
                header.src.is_unicast_link_local() || header.src.is_unspecified() && !asks;
            if header.hop_limit != 1 || !is_near {
                return Err(HeaderError::WrongFormat);
            }
            Some(says)
        }
        _ => return Ok(Part::Data),
    };
    if packet.meta.csum == Csum::Unknown && says.is_some() {
        let mut sum = checksum::pseudo_header(src, dst, chain.next, body.len());
        sum.add(body);
        if !sum.is_valid() {
            return Err(HeaderError::BadChecksum);
        }
    }
    let version = Version::V6;
    let from = (!src.is_unspecified()).then_some(src);
    Ok(heard(version, from, says))
}

fn mld(body: &[u8]) -> Result<Says, HeaderError> {
    Ok(match Mld::parse(body)? {
        Mld::Query(query) => Says::Query {
            group: query.group.filter(|_| query.is_whole()).map(IpAddr::V6),
            response: query.max_response,
        },
        Mld::Report(group) => Says::Memberships(vec![(group.into(), true)]),
        Mld::Done(group) => Says::Memberships(vec![(group.into(), false)]),
        Mld::Records(records) => {
            let groups = records.iter().filter(|r| r.group.is_multicast());
            memberships(groups.map(|r| (r.group.into(), r.says())))
        }
    })
}

fn memberships(records: impl Iterator<Item = (IpAddr, Membership)>) -> Says {
    let says = |(group, says)| match says {
        Membership::Member => Some((group, true)),
        Membership::Left => Some((group, false)),
        Membership::Unchanged => None,
    };
    Says::Memberships(records.filter_map(says).collect())
}

/// Reads a message of PIM, of which only a hello says something (RFC 7761 section 4.9.2).
fn pim(body: &[u8]) -> Option<Says> {
    const HOLD: u16 = 1;
    // Version 2, type 0.
    let mut options = body.strip_prefix(&[0x20])?.get(3..).unwrap_or_default();
    let mut hold = PIM_HOLD;
    while let Some(([a, b, c, d], rest)) = options.split_first_chunk::<4>() {
        let value = rest.get(..usize::from(u16::from_be_bytes([*c, *d])))?;
        if let (HOLD, [high, low]) = (u16::from_be_bytes([*a, *b]), value) {
            hold = Duration::from_secs(u16::from_be_bytes([*high, *low]).into());
        }
        options = &rest[value.len()..];
    }
    Some(Says::Hello(hold))
}

impl Question {
    /// The question as a packet, in the form of the latest version, to which hosts of all versions answer; and where
    /// it goes.
    pub(crate) fn packet(&self) -> (IpAddr, Vec<u8>) {
        match self.src {
            IpAddr::V4(src) => {
                let group = self.group.and_then(|group| match group {
                    IpAddr::V4(group) => Some(group),
                    IpAddr::V6(_) => None,
                });
                let query = igmp::Query {
                    group,
                    max_response: self.response,
                    is_whole: true,
                };
                let dst = group.unwrap_or(Ipv4Addr::new(224, 0, 0, 1));
                (dst.into(), query.packet(src, self.interval))
            }
            IpAddr::V6(src) => {
                let group = self.group.and_then(|group| match group {
                    IpAddr::V6(group) => Some(group),
                    IpAddr::V4(_) => None,
                });
                let query = mld::Query {
                    group,
                    max_response: self.response,
                    more: Some(mld::QueryV2 {
                        suppress: false,
                        // RFC 3810 section 9.1: all messages of a kind may be lost but one of two.
                        robustness: 2,
                        interval: self.interval,
                        sources: mld::Sources::default(),
                    }),
                };
                let dst: Ipv6Addr = group.unwrap_or(mld::NODES);
                (dst.into(), mld::packet(src, dst, query.to_bytes()))
            }
        }
    }
}

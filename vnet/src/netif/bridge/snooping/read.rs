//! What a frame says of groups and of routers, and to which group it is: the only place that knows IGMP.

use std::net::IpAddr;

use crate::base::time::Duration;
use crate::packet::Packet;
use crate::packet::header::ether::ETHER_LEN;
use crate::packet::header::igmp::{Igmp, Membership, Query};
use crate::packet::header::ipv4::{self, Ipv4Header};
use crate::packet::header::{EtherHeader, EtherType, HeaderError, IpProto};

/// What somebody says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
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
    /// Here is a router.
    Hello,
}

/// A frame to a group of a version of IP on which is snooped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ToGroup {
    /// It says something of groups or routers.
    Heard(Heard),
    /// It is to this group.
    Data(IpAddr),
}

/// Reads a frame to a group, whose tags are off; `None` when it is of something on which is not snooped.
///
/// # Errors
/// A header that cannot be read, or a message.
pub(crate) fn read(
    header: &EtherHeader,
    packet: &mut Packet,
) -> Result<Option<ToGroup>, HeaderError> {
    match header.ether_type {
        EtherType::IPV4 => read_v4(packet),
        _ => Ok(None),
    }
}

fn read_v4(packet: &mut Packet) -> Result<Option<ToGroup>, HeaderError> {
    let fixed = packet.pull_up(ETHER_LEN + ipv4::MIN_LEN);
    let start = fixed
        .and_then(|b| b.get(ETHER_LEN..))
        .ok_or(HeaderError::Truncated)?;
    let header_len = ipv4::header_len(start)?;
    let whole = packet.pull_up(ETHER_LEN + header_len);
    let whole = whole
        .and_then(|b| b.get(ETHER_LEN..))
        .ok_or(HeaderError::Truncated)?;
    let header = Ipv4Header::parse_trusted(whole)?;
    let data = ToGroup::Data(header.dst.into());
    if !matches!(header.proto, IpProto::IGMP | IpProto::PIM) || header.is_fragment() {
        return Ok(Some(data));
    }
    message(packet, &header).map(|heard| Some(heard.map_or(data, ToGroup::Heard)))
}

/// Reads a message of IGMP or PIM; `None` when it says nothing of groups or routers.
#[cold]
fn message(packet: &Packet, header: &Ipv4Header) -> Result<Option<Heard>, HeaderError> {
    let bytes = packet.to_vec();
    let ip = bytes
        .get(ETHER_LEN..)
        .and_then(|b| b.get(..usize::from(header.total_len)));
    let ip = ip.ok_or(HeaderError::BadLength)?;
    Ipv4Header::parse(ip)?;
    let body = &ip[usize::from(header.header_len)..];
    let from = (!header.src.is_unspecified()).then_some(IpAddr::V4(header.src));
    let heard = |says| Ok(Some(Heard { from, says }));
    if header.proto == IpProto::PIM {
        // RFC 7761 section 4.9: version 2, type 0.
        return match body.first() {
            Some(0x20) => heard(Says::Hello),
            _ => Ok(None),
        };
    }
    match Igmp::parse(body)? {
        Igmp::Query(Query {
            group,
            max_response,
            is_whole,
        }) => heard(Says::Query {
            group: group.filter(|_| is_whole).map(IpAddr::V4),
            response: max_response,
        }),
        Igmp::Report(group) => heard(Says::Memberships(vec![(group.into(), true)])),
        Igmp::Leave(group) => heard(Says::Memberships(vec![(group.into(), false)])),
        Igmp::Records(records) => {
            let says = |says| match says {
                Membership::Member => Some(true),
                Membership::Left => Some(false),
                Membership::Unchanged => None,
            };
            let all = records
                .iter()
                .filter_map(|(group, record)| Some((group.into(), says(record)?)));
            heard(Says::Memberships(all.collect()))
        }
        // RFC 4541 section 2.1.1 (5): what is not known goes everywhere.
        Igmp::Other => Ok(None),
    }
}

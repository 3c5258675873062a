//! IGMP (RFC 2236, RFC 9776): who is in which group of IPv4, and the question who is.
//!
//! A message is read whole before anything of it counts. Sources are read over: what is said of a group is
//! whether there is somebody in it.

use std::net::Ipv4Addr;

use super::{HeaderError, IpProto};
use crate::base::time::Duration;
use crate::packet::checksum;

/// Bytes in a message of versions 1 and 2.
const IGMP_LEN: usize = 8;
/// Bytes in a question of version 3 without sources.
const QUERY_V3_LEN: usize = 12;
/// Bytes of a record before its sources.
const RECORD_LEN: usize = 8;

/// Types of messages.
mod kind {
    pub(super) const QUERY: u8 = 0x11;
    pub(super) const REPORT_V1: u8 = 0x12;
    pub(super) const REPORT_V2: u8 = 0x16;
    pub(super) const LEAVE: u8 = 0x17;
    pub(super) const REPORT_V3: u8 = 0x22;
}

/// What a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Igmp<'a> {
    /// Who is in this group, or in any?
    Query(Query),
    /// Somebody is in this group (versions 1 and 2).
    Report(Ipv4Addr),
    /// Somebody has left it (version 2).
    Leave(Ipv4Addr),
    /// All of that, of several groups (version 3).
    Records(Records<'a>),
    /// Something else, such as a message of a routing protocol.
    Other,
}

/// A question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Query {
    /// Which group it asks about; any, when there is none.
    pub(crate) group: Option<Ipv4Addr>,
    /// How long an answer may take.
    pub(crate) max_response: Duration,
    /// All who are in the group are to answer, and whoever does not has left it.
    pub(crate) is_whole: bool,
}

/// The records of a report of version 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Records<'a> {
    bytes: &'a [u8],
    count: u16,
}

/// What a record says of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Membership {
    /// Somebody is in it.
    Member,
    /// Somebody has left it.
    Left,
    /// Somebody in it wants to hear less of some sources.
    Unchanged,
}

impl<'a> Igmp<'a> {
    /// Reads a message, which is all of an IP packet behind its header.
    ///
    /// # Errors
    /// A message that is shorter than it says, whose checksum does not match, or about what is no group.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Igmp<'a>, HeaderError> {
        if bytes.len() < IGMP_LEN {
            return Err(HeaderError::Truncated);
        }
        if checksum::of(bytes) != 0 {
            return Err(HeaderError::BadChecksum);
        }
        // RFC 9776 section 7.1: a question of another length is of no version.
        if bytes[0] == kind::QUERY && (IGMP_LEN + 1..QUERY_V3_LEN).contains(&bytes.len()) {
            return Err(HeaderError::BadLength);
        }
        let address = Ipv4Addr::new(bytes[4], bytes[5], bytes[6], bytes[7]);
        let group = match address.is_multicast() {
            true => Ok(address),
            false => Err(HeaderError::WrongFormat),
        };
        Ok(match bytes[0] {
            kind::QUERY => Igmp::Query(Query {
                group: match address.is_unspecified() {
                    true => None,
                    false => Some(group?),
                },
                max_response: max_response(bytes),
                is_whole: is_whole(bytes),
            }),
            kind::REPORT_V1 | kind::REPORT_V2 => Igmp::Report(group?),
            kind::LEAVE => Igmp::Leave(group?),
            kind::REPORT_V3 => {
                let count = u16::from_be_bytes([bytes[6], bytes[7]]);
                let bytes = &bytes[IGMP_LEN..];
                let records = Records { bytes, count };
                records.check()?;
                Igmp::Records(records)
            }
            _ => Igmp::Other,
        })
    }
}

/// How long an answer may take (RFC 9776 sections 4.1.1 and 7.1).
fn max_response(bytes: &[u8]) -> Duration {
    let tenths = match bytes[1] {
        // Version 1 does not say.
        0 if bytes.len() == IGMP_LEN => 100,
        code if bytes.len() > IGMP_LEN => interval_of_code(code),
        tenths => tenths.into(),
    };
    Duration::from_millis(100 * tenths)
}

/// The code of such a time in a question of version 3.
fn response_code(time: Duration) -> u8 {
    floor_code(u64::try_from(time.as_millis() / 100).unwrap_or(u64::MAX))
}

/// How many units of time a code of eight bits stands for (RFC 9776 sections 4.1.1 and 4.1.7, RFC 3810 section
/// 5.1.9).
pub(super) fn interval_of_code(code: u8) -> u64 {
    let code = u64::from(code);
    match code {
        0x80.. => (code & 0xf | 0x10) << ((code >> 4 & 7) + 3),
        units => units,
    }
}

/// The code of the shortest time that is not shorter than so many units, or of the longest that there is: whoever
/// adopts it is not to take the querier for gone.
pub(super) fn interval_code(units: u64) -> u8 {
    let code = floor_code(units);
    code.saturating_add(u8::from(interval_of_code(code) < units))
}

/// The code of the longest time that is not longer than so many units, or of the longest that there is.
fn floor_code(units: u64) -> u8 {
    match units {
        0..0x80 => units as u8,
        _ => {
            let exponent = (units.ilog2() - 7).min(7);
            let mantissa = (units >> (exponent + 3)).min(0x1f) & 0xf;
            0x80 | (exponent as u8) << 4 | mantissa as u8
        }
    }
}

/// Whether a question is about its group as a whole. One of version 3 may ask who wants to hear some sources,
/// or say that timers are not to be lowered (RFC 9776 sections 4.1.5, 4.1.8 and 6.6.1).
fn is_whole(bytes: &[u8]) -> bool {
    const SUPPRESS: u8 = 1 << 3;
    match bytes.get(IGMP_LEN..IGMP_LEN + 4) {
        None => true,
        Some(more) => more[0] & SUPPRESS == 0 && more[2..] == [0, 0],
    }
}

impl<'a> Records<'a> {
    /// Checks that all are there, and whole; what is behind them is read over (RFC 9776 section 4.2.11).
    fn check(self) -> Result<(), HeaderError> {
        if self.iter().count() != usize::from(self.count) {
            return Err(HeaderError::Truncated);
        }
        match self.iter().all(|(group, _)| group.is_multicast()) {
            true => Ok(()),
            false => Err(HeaderError::WrongFormat),
        }
    }

    /// What each says of its group.
    pub(crate) fn iter(self) -> impl Iterator<Item = (Ipv4Addr, Membership)> + use<'a> {
        let mut rest = self.bytes;
        let next = move || {
            let head: &[u8; RECORD_LEN] = rest.first_chunk()?;
            let sources = usize::from(u16::from_be_bytes([head[2], head[3]]));
            let len = RECORD_LEN + 4 * sources + 4 * usize::from(head[1]);
            rest = rest.get(len..)?;
            let group = Ipv4Addr::new(head[4], head[5], head[6], head[7]);
            // Section 4.2.12: in none but these sources, in all but these, or a change of that.
            let says = match (head[0], sources) {
                (1 | 3, 0) => Membership::Left,
                (5, 0) => Membership::Unchanged,
                (1..=5, _) => Membership::Member,
                _ => Membership::Unchanged,
            };
            Some((group, says))
        };
        std::iter::from_fn(next).take(self.count.into())
    }
}

/// Bytes of an IPv4 header with the option of packets at which routers look (RFC 2113).
const ALERT_HEADER_LEN: usize = 24;

/// Section 8.1: all messages of a kind may be lost but one of two.
const ROBUSTNESS: u8 = 2;

/// Where reports of version 3 go.
pub(crate) const ROUTERS_V3: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 22);
/// Where it is said that somebody has left a group, in version 2.
pub(crate) const ROUTERS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 2);

impl Query {
    /// The question as an IPv4 packet, in the form of version 3, to which hosts of all versions answer. It is
    /// asked every `interval`.
    pub(crate) fn packet(&self, src: Ipv4Addr, interval: Duration) -> Vec<u8> {
        let dst = self.group.unwrap_or(Ipv4Addr::new(224, 0, 0, 1));
        let group = self.group.unwrap_or(Ipv4Addr::UNSPECIFIED);
        let mut message = message(kind::QUERY, response_code(self.max_response), group);
        message.extend([ROBUSTNESS, interval_code(interval.as_secs()), 0, 0]);
        packet(src, dst, &message)
    }
}

/// What a question of version 3 says besides (RFC 9776 sections 4.1.6 to 4.1.9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QueryV3 {
    /// Of how many messages one is expected to arrive; 0 when the sender does not say.
    pub(crate) robustness: u8,
    /// How often the sender asks everybody.
    pub(crate) interval: Duration,
    /// Who wants to hear these sources in the group? Any, when there are none.
    pub(crate) sources: Vec<Ipv4Addr>,
}

/// What a question says that only version 3 does; `None` of an older one.
///
/// # Errors
/// It is shorter than it says.
// Section 7.1: a question of 9 to 11 bytes is of no version.
pub(crate) fn query_v3(bytes: &[u8]) -> Result<Option<QueryV3>, HeaderError> {
    if bytes.len() == IGMP_LEN {
        return Ok(None);
    }
    let head = bytes.get(IGMP_LEN..QUERY_V3_LEN);
    let Some(&[flags, interval, high, low]) = head else {
        return Err(HeaderError::Truncated);
    };
    let len = 4 * usize::from(u16::from_be_bytes([high, low]));
    let sources = bytes.get(QUERY_V3_LEN..QUERY_V3_LEN + len);
    let (sources, _) = sources.ok_or(HeaderError::Truncated)?.as_chunks::<4>();
    Ok(Some(QueryV3 {
        robustness: flags & 7,
        interval: Duration::from_secs(interval_of_code(interval)),
        sources: sources.iter().map(|octets| (*octets).into()).collect(),
    }))
}

/// That somebody is in a group, in version 1.
pub(crate) fn report_v1(group: Ipv4Addr) -> Vec<u8> {
    message(kind::REPORT_V1, 0, group)
}

/// The same in version 2.
pub(crate) fn report_v2(group: Ipv4Addr) -> Vec<u8> {
    message(kind::REPORT_V2, 0, group)
}

/// That the last one who was in a group has left it, in version 2.
pub(crate) fn leave(group: Ipv4Addr) -> Vec<u8> {
    message(kind::LEAVE, 0, group)
}

/// A report of version 3, of a record for each group, with its kind (section 4.2.12) and its sources. There are at most
/// 65 535 of either.
pub(crate) fn report_v3<'a>(
    records: impl ExactSizeIterator<Item = (u8, Ipv4Addr, &'a [Ipv4Addr])>,
) -> Vec<u8> {
    let [high, low] = (records.len() as u16).to_be_bytes();
    let mut bytes = vec![kind::REPORT_V3, 0, 0, 0, 0, 0, high, low];
    for (kind, group, sources) in records {
        let [high, low] = (sources.len() as u16).to_be_bytes();
        bytes.extend([kind, 0, high, low]);
        bytes.extend(group.octets());
        for source in sources {
            bytes.extend(source.octets());
        }
    }
    bytes
}

/// The first eight bytes of a message, without its checksum.
fn message(kind: u8, code: u8, group: Ipv4Addr) -> Vec<u8> {
    let mut bytes = vec![kind, code, 0, 0];
    bytes.extend(group.octets());
    bytes
}

/// The IPv4 packet in which a message is sent: over one hop, and routers look at it (section 4). The message gets its
/// checksum.
pub(crate) fn packet(src: Ipv4Addr, dst: Ipv4Addr, message: &[u8]) -> Vec<u8> {
    /// Section 4: internetwork control, and no router passes it on.
    const TOS: u8 = 0xc0;
    let [high, low] = ((ALERT_HEADER_LEN + message.len()) as u16).to_be_bytes();
    let mut bytes = vec![0x46, TOS, high, low, 0, 0, 0, 0, 1, IpProto::IGMP.0, 0, 0];
    bytes.extend(src.octets());
    bytes.extend(dst.octets());
    bytes.extend([0x94, 4, 0, 0]);
    let sum = checksum::of(&bytes);
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    bytes.extend(message);
    let sum = checksum::of(&bytes[ALERT_HEADER_LEN..]);
    bytes[ALERT_HEADER_LEN + 2..][..2].copy_from_slice(&sum.to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::packet::header::Ipv4Header;

    const GROUP: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 3);

    fn summed(mut bytes: Vec<u8>) -> Vec<u8> {
        bytes[2..4].fill(0);
        let sum = checksum::of(&bytes);
        bytes[2..4].copy_from_slice(&sum.to_be_bytes());
        bytes
    }

    fn record(kind: u8, group: Ipv4Addr, sources: u8) -> Vec<u8> {
        let mut bytes = vec![kind, 0, 0, sources];
        bytes.extend(group.octets());
        bytes.extend(vec![7; 4 * usize::from(sources)]);
        bytes
    }

    fn report(records: &[Vec<u8>]) -> Vec<u8> {
        let head = [0x22, 0, 0, 0, 0, 0, 0, records.len() as u8];
        summed([&head[..], &records.concat()].concat())
    }

    #[test]
    fn messages_of_all_versions_are_read() {
        let v2 = |kind: u8, code: u8, group: Ipv4Addr| {
            summed([&[kind, code, 0, 0][..], &group.octets()].concat())
        };
        let query = |group, millis| {
            let max_response = Duration::from_millis(millis);
            Igmp::Query(Query {
                group,
                max_response,
                is_whole: true,
            })
        };
        let none = Ipv4Addr::UNSPECIFIED;
        for (bytes, says) in [
            (v2(0x11, 0, none), query(None, 10_000)),
            (v2(0x11, 100, none), query(None, 10_000)),
            (v2(0x11, 10, GROUP), query(Some(GROUP), 1000)),
            (v2(0x12, 0, GROUP), Igmp::Report(GROUP)),
            (v2(0x16, 0, GROUP), Igmp::Report(GROUP)),
            (v2(0x17, 0, GROUP), Igmp::Leave(GROUP)),
            (v2(0x13, 0, GROUP), Igmp::Other),
        ] {
            assert_eq!(Igmp::parse(&bytes), Ok(says), "{bytes:x?}");
            for len in 0..bytes.len() {
                assert!(Igmp::parse(&bytes[..len]).is_err());
            }
            for more in 1..4 {
                let longer = summed([&bytes[..], &[0; 3][..more]].concat());
                assert_eq!(Igmp::parse(&longer).is_err(), bytes[0] == 0x11);
            }
        }
        for kind in [0x11, 0x12, 0x16, 0x17] {
            let to_one = v2(kind, 0, Ipv4Addr::new(192, 0, 2, 1));
            assert_eq!(Igmp::parse(&to_one), Err(HeaderError::WrongFormat));
        }
    }

    #[test]
    fn a_report_has_a_record_for_each_group() {
        let all = [
            record(1, GROUP, 0),
            record(1, GROUP, 2),
            record(2, GROUP, 0),
            record(3, GROUP, 0),
            record(4, GROUP, 3),
            record(5, GROUP, 1),
            record(5, GROUP, 0),
            record(6, GROUP, 1),
            record(9, GROUP, 0),
        ];
        let bytes = report(&all);
        let Ok(Igmp::Records(records)) = Igmp::parse(&bytes) else {
            panic!("a report");
        };
        use Membership::{Left, Member, Unchanged};
        let says: Vec<Membership> = records.iter().map(|(_, says)| says).collect();
        let expected = [
            Left, Member, Member, Left, Member, Member, Unchanged, Unchanged, Unchanged,
        ];
        assert_eq!(says, expected);
        for len in 0..bytes.len() {
            assert!(
                Igmp::parse(&summed(bytes[..len.max(8)].to_vec())).is_err() || len == bytes.len()
            );
        }
    }

    #[test]
    fn what_is_asked_is_read() {
        for group in [None, Some(GROUP)] {
            let asked = Query {
                group,
                max_response: Duration::from_millis(3000),
                is_whole: true,
            };
            let src = Ipv4Addr::new(192, 0, 2, 1);
            let packet = asked.packet(src, Duration::from_secs(125));
            let header = Ipv4Header::parse(&packet).expect("its checksum holds");
            let dst = group.unwrap_or(Ipv4Addr::new(224, 0, 0, 1));
            assert_eq!((header.src, header.dst, header.ttl), (src, dst, 1));
            assert_eq!(usize::from(header.total_len), packet.len());
            let mut bytes = packet[usize::from(header.header_len)..].to_vec();
            assert_eq!(Igmp::parse(&bytes), Ok(Igmp::Query(asked)));
            assert_eq!(bytes[8..], [2, 125, 0, 0]);
            bytes[4] ^= 1;
            assert_eq!(Igmp::parse(&bytes), Err(HeaderError::BadChecksum));
        }
    }

    #[test]
    fn long_intervals_are_said_and_not_shorter_than_they_are() {
        for code in 0..=u8::MAX {
            let units = interval_of_code(code);
            assert_eq!((interval_code(units), floor_code(units)), (code, code));
        }
        assert_eq!((interval_code(137), floor_code(151)), (0x82, 0x82));
        assert_eq!(interval_of_code(interval_code(3600)), 3712);
        assert_eq!((interval_code(1 << 40), floor_code(1 << 40)), (0xff, 0xff));
    }

    #[test]
    fn what_a_host_says_is_read() {
        let src = Ipv4Addr::new(192, 0, 2, 1);
        let said = |message: &[u8]| packet(src, GROUP, message)[ALERT_HEADER_LEN..].to_vec();
        for (message, says) in [
            (report_v1(GROUP), Igmp::Report(GROUP)),
            (report_v2(GROUP), Igmp::Report(GROUP)),
            (leave(GROUP), Igmp::Leave(GROUP)),
        ] {
            assert_eq!(Igmp::parse(&said(&message)), Ok(says));
        }
        let sources = [src, Ipv4Addr::new(192, 0, 2, 2)];
        let all = [
            (4, GROUP, &sources[..]),
            (3, GROUP, &[]),
            (6, GROUP, &sources),
        ];
        let bytes = said(&report_v3(all.into_iter()));
        let Ok(Igmp::Records(records)) = Igmp::parse(&bytes) else {
            panic!("a report");
        };
        use Membership::{Left, Member, Unchanged};
        let says: Vec<_> = records.iter().collect();
        assert_eq!(says, [(GROUP, Member), (GROUP, Left), (GROUP, Unchanged)]);
    }

    #[test]
    fn what_only_version_3_asks_is_read_whole_or_not_at_all() {
        let mut bytes = message(0x11, 20, GROUP);
        assert_eq!(query_v3(&bytes), Ok(None));
        bytes.extend([0x0b, 0x8f, 0, 2, 192, 0, 2, 1, 192, 0, 2, 2]);
        let asked = QueryV3 {
            robustness: 3,
            interval: Duration::from_secs(0x1f << 3),
            sources: vec![Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)],
        };
        assert_eq!(query_v3(&bytes), Ok(Some(asked.clone())));
        for len in 9..bytes.len() {
            assert_eq!(query_v3(&bytes[..len]), Err(HeaderError::Truncated));
        }
        // Section 4.1.10: what is behind them is read over.
        bytes.push(0);
        assert_eq!(query_v3(&bytes), Ok(Some(asked)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(
            kind in prop::sample::select(vec![0x11, 0x12, 0x16, 0x17, 0x22]),
            count in 0u8..4,
            records in prop::collection::vec((any::<u8>(), any::<bool>(), 0u8..3, 0u8..2), 0..4),
            cut in 0usize..12,
        ) {
            let mut bytes = vec![kind, 100, 0, 0, 0, 0, 0, count];
            for (kind, is_group, sources, aux) in &records {
                let group = if *is_group { GROUP } else { Ipv4Addr::new(192, 0, 2, 1) };
                bytes.extend(record(*kind, group, *sources));
                let at = bytes.len() - RECORD_LEN - 4 * usize::from(*sources);
                bytes[at + 1] = *aux;
                bytes.extend(vec![0; 4 * usize::from(*aux)]);
            }
            bytes.truncate((bytes.len() - cut.min(bytes.len())).max(8));
            let bytes = summed(bytes);
            let read = Igmp::parse(&bytes);
            if kind == 0x22 {
                let first = &records[..records.len().min(count.into())];
                let is_good = first.iter().all(|(_, is_group, ..)| *is_group);
                let is_whole = records.len() >= count.into() && (cut == 0 || records.len() > count.into());
                match read {
                    Ok(Igmp::Records(read)) => {
                        prop_assert_eq!(read.iter().count(), usize::from(count));
                        prop_assert!(is_good);
                    }
                    Ok(other) => prop_assert!(false, "{:?}", other),
                    Err(_) => prop_assert!(!is_good || !is_whole || cut > 0),
                }
            }
        }
    }
}

//! Multicast listener discovery (RFC 2710, RFC 3810): who is in which group of IPv6, and the question who is.
//!
//! A message is an ICMPv6 message, and is read whole before anything of it counts; its checksum, which covers
//! addresses as well, is its reader's to verify. Each is written with a checksum of zero, but by [`packet`], which
//! puts a message into an IPv6 packet as it has to be sent.

use std::net::Ipv6Addr;

use super::icmp6::{ICMP_CHECKSUM_OFFSET, ICMP_LEN, Icmp6};
use super::igmp::{Membership, interval_code, interval_of_code};
use super::{HeaderError, IpProto, ipv6, zone};
use crate::base::time::Duration;
use crate::packet::checksum;

/// The type of a question.
pub(crate) const QUERY: u8 = 130;
/// The type of a report of version 1.
pub(crate) const REPORT_V1: u8 = 131;
/// The type of a message that says that somebody has left a group, in version 1.
pub(crate) const DONE: u8 = 132;
/// The type of a report of version 2.
pub(crate) const REPORT_V2: u8 = 143;

/// Where reports of version 2 go (RFC 3810 section 5.2.14).
pub(crate) const ROUTERS_V2: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);
/// Where it is said that somebody has left a group, in version 1 (RFC 2710 section 3.4).
pub(crate) const ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// Where general questions go.
pub(crate) const NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Bytes of an address.
const ADDRESS_LEN: usize = 16;
/// Bytes of a message of version 1.
const MLD_LEN: usize = ICMP_LEN + ADDRESS_LEN;
/// Bytes of a question of version 2 before its sources.
const QUERY_V2_LEN: usize = MLD_LEN + 4;
/// Bytes of a record before its sources.
const RECORD_LEN: usize = 4 + ADDRESS_LEN;

/// What a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mld<'a> {
    /// Who is in this group, or in any?
    Query(Query<'a>),
    /// Somebody is in this group (version 1).
    Report(Ipv6Addr),
    /// Somebody has left it (version 1).
    Done(Ipv6Addr),
    /// All of that, of several groups (version 2).
    Records(Records<'a>),
}

/// A question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Query<'a> {
    /// Which group it asks about; any, when there is none.
    pub(crate) group: Option<Ipv6Addr>,
    /// How long an answer may take.
    pub(crate) max_response: Duration,
    /// What only version 2 says; `None` in a question of version 1.
    pub(crate) more: Option<QueryV2<'a>>,
}

/// What a question of version 2 says besides (RFC 3810 sections 5.1.7 to 5.1.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueryV2<'a> {
    /// Other routers are not to lower their timers.
    pub(crate) suppress: bool,
    /// Of how many messages one is expected to arrive; 0 when the sender does not say.
    pub(crate) robustness: u8,
    /// How often the sender asks everybody.
    pub(crate) interval: Duration,
    /// Who wants to hear these sources in the group? Any, when there are none.
    pub(crate) sources: Sources<'a>,
}

/// Addresses of sources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sources<'a>(&'a [u8]);

impl<'a> Sources<'a> {
    /// Each of them.
    pub(crate) fn iter(self) -> impl Iterator<Item = Ipv6Addr> + use<'a> {
        let (all, _) = self.0.as_chunks::<ADDRESS_LEN>();
        all.iter().map(|octets| Ipv6Addr::from(*octets))
    }

    /// True when there are none.
    pub(crate) fn is_empty(self) -> bool {
        self.0.is_empty()
    }
}

/// What kind a record of a report of version 2 is of (RFC 3810 section 5.2.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum RecordKind {
    /// Now, it wants to hear these sources.
    IsInclude = 1,
    /// Now, it wants to hear all but these.
    IsExclude = 2,
    /// From now on, these only.
    ToInclude = 3,
    /// From now on, all but these.
    ToExclude = 4,
    /// These as well.
    Allow = 5,
    /// These no more.
    Block = 6,
}

impl RecordKind {
    fn of(number: u8) -> Option<RecordKind> {
        use RecordKind::{Allow, Block, IsExclude, IsInclude, ToExclude, ToInclude};
        let all = [IsInclude, IsExclude, ToInclude, ToExclude, Allow, Block];
        all.into_iter().find(|kind| *kind as u8 == number)
    }
}

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    /// Its kind; `None` for one that is not known, which is read over.
    pub(crate) kind: Option<RecordKind>,
    /// Its group.
    pub(crate) group: Ipv6Addr,
    /// Its sources.
    pub(crate) sources: Sources<'a>,
}

impl Record<'_> {
    /// Whether there is somebody in its group.
    pub(crate) fn says(&self) -> Membership {
        use RecordKind::{Allow, Block, IsExclude, IsInclude, ToExclude, ToInclude};
        match self.kind {
            Some(IsInclude | ToInclude) if self.sources.is_empty() => Membership::Left,
            Some(Allow) if self.sources.is_empty() => Membership::Unchanged,
            Some(IsInclude | IsExclude | ToInclude | ToExclude | Allow) => Membership::Member,
            Some(Block) | None => Membership::Unchanged,
        }
    }
}

/// The records of a report of version 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Records<'a> {
    bytes: &'a [u8],
    count: u16,
}

impl<'a> Records<'a> {
    /// Each of them.
    pub(crate) fn iter(self) -> impl Iterator<Item = Record<'a>> + use<'a> {
        let mut rest = self.bytes;
        let next = move || {
            let head: &[u8; RECORD_LEN] = rest.first_chunk()?;
            let sources = ADDRESS_LEN * usize::from(u16::from_be_bytes([head[2], head[3]]));
            let len = RECORD_LEN + sources + 4 * usize::from(head[1]);
            let record = Record {
                kind: RecordKind::of(head[0]),
                group: address(&head[4..])?,
                sources: Sources(rest.get(RECORD_LEN..RECORD_LEN + sources)?),
            };
            rest = rest.get(len..)?;
            Some(record)
        };
        std::iter::from_fn(next).take(self.count.into())
    }
}

/// True for the type of a message of listener discovery.
pub(crate) fn is_mld(kind: u8) -> bool {
    matches!(kind, QUERY | REPORT_V1 | DONE | REPORT_V2)
}

impl<'a> Mld<'a> {
    /// Reads a message: all of an ICMPv6 message. Its checksum is not looked at.
    ///
    /// # Errors
    /// Another type; a message that is shorter than it says; or about what is no group.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Mld<'a>, HeaderError> {
        let fixed: &[u8; ICMP_LEN] = bytes.first_chunk().ok_or(HeaderError::Truncated)?;
        let [kind, _, _, _, a, b, c, d] = *fixed;
        if kind == REPORT_V2 {
            let count = u16::from_be_bytes([c, d]);
            let records = Records {
                bytes: &bytes[ICMP_LEN..],
                count,
            };
            // What is behind the last one is read over (RFC 3810 section 5.2.11).
            return match records.iter().count() == usize::from(count) {
                true => Ok(Mld::Records(records)),
                false => Err(HeaderError::Truncated),
            };
        }
        let address = address(&bytes[ICMP_LEN..]).ok_or(HeaderError::Truncated)?;
        let group = match address.is_multicast() {
            true => Ok(address),
            false => Err(HeaderError::WrongFormat),
        };
        match kind {
            QUERY => Ok(Mld::Query(Query {
                group: match address.is_unspecified() {
                    true => None,
                    false => Some(group?),
                },
                max_response: response_of_code(u16::from_be_bytes([a, b]), bytes.len() > MLD_LEN),
                more: match bytes.len() {
                    MLD_LEN => None,
                    _ => Some(QueryV2::parse(bytes)?),
                },
            })),
            REPORT_V1 => Ok(Mld::Report(group?)),
            DONE => Ok(Mld::Done(group?)),
            _ => Err(HeaderError::WrongFormat),
        }
    }
}

impl<'a> QueryV2<'a> {
    /// RFC 3810 section 8.1: a question of 25 to 27 bytes is of no version.
    fn parse(bytes: &'a [u8]) -> Result<QueryV2<'a>, HeaderError> {
        const SUPPRESS: u8 = 1 << 3;
        let head = bytes.get(MLD_LEN..QUERY_V2_LEN);
        let Some(&[flags, interval, high, low]) = head else {
            return Err(HeaderError::Truncated);
        };
        let sources = ADDRESS_LEN * usize::from(u16::from_be_bytes([high, low]));
        let sources = bytes.get(QUERY_V2_LEN..QUERY_V2_LEN + sources);
        Ok(QueryV2 {
            suppress: flags & SUPPRESS != 0,
            robustness: flags & 7,
            interval: Duration::from_secs(interval_of_code(interval)),
            sources: Sources(sources.ok_or(HeaderError::Truncated)?),
        })
    }
}

impl Query<'_> {
    /// Whether all who are in the group are to answer, and whoever does not has left it (RFC 3810 section 7.6.1).
    pub(crate) fn is_whole(&self) -> bool {
        let asks_all = |more: &QueryV2<'_>| !more.suppress && more.sources.is_empty();
        self.more.as_ref().is_none_or(asks_all)
    }

    /// The message, in the form of version 2 when it says what only that does.
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let code = response_code(self.max_response, self.more.is_some());
        let group = self.group.unwrap_or(Ipv6Addr::UNSPECIFIED);
        let mut bytes = message(QUERY, code, group);
        if let Some(more) = self.more {
            let count = (more.sources.0.len() / ADDRESS_LEN) as u16;
            let suppress = u8::from(more.suppress) << 3;
            bytes.push(suppress | more.robustness & 7);
            bytes.push(interval_code(more.interval.as_secs()));
            bytes.extend(count.to_be_bytes());
            bytes.extend(more.sources.0);
        }
        bytes
    }
}

/// A report of version 1.
pub(crate) fn report_v1(group: Ipv6Addr) -> Vec<u8> {
    message(REPORT_V1, 0, group)
}

/// That the last one who was in a group has left it, in version 1.
pub(crate) fn done(group: Ipv6Addr) -> Vec<u8> {
    message(DONE, 0, group)
}

/// A report of version 2, of a record for each group, with its sources. There are at most 65 535 of either.
pub(crate) fn report_v2(records: &[(RecordKind, Ipv6Addr, &[Ipv6Addr])]) -> Vec<u8> {
    let [high, low] = (records.len() as u16).to_be_bytes();
    let mut bytes = header(REPORT_V2, [0, 0, high, low]);
    for (kind, group, sources) in records {
        let [high, low] = (sources.len() as u16).to_be_bytes();
        bytes.extend([*kind as u8, 0, high, low]);
        bytes.extend(zone::wire(*group).octets());
        for source in *sources {
            bytes.extend(zone::wire(*source).octets());
        }
    }
    bytes
}

/// The IPv6 packet in which a message is sent: over one hop, and routers look at it (RFC 3810 section 5).
pub(crate) fn packet(src: Ipv6Addr, dst: Ipv6Addr, mut message: Vec<u8>) -> Vec<u8> {
    /// A router alert (RFC 2711) with the value of listener discovery, and two bytes of padding.
    const ALERT: [u8; 8] = [IpProto::ICMPV6.0, 0, 5, 2, 0, 0, 1, 0];
    let (src, dst) = (zone::wire(src), zone::wire(dst));
    let field = usize::from(ICMP_CHECKSUM_OFFSET);
    message[field..field + 2].fill(0);
    let mut sum = checksum::pseudo_header(src.into(), dst.into(), IpProto::ICMPV6, message.len());
    sum.add(&message);
    message[field..field + 2].copy_from_slice(&sum.complement().to_be_bytes());
    let fixed = ipv6::Ipv6Header {
        src,
        dst,
        next: IpProto::HOP_BY_HOP,
        hop_limit: 1,
        traffic_class: 0,
        flow_label: 0,
        payload_len: (ALERT.len() + message.len()) as u16,
    };
    let mut bytes = vec![0; ipv6::MIN_LEN];
    fixed.emit(&mut bytes);
    bytes.extend(ALERT);
    bytes.append(&mut message);
    bytes
}

fn message(kind: u8, code: u16, group: Ipv6Addr) -> Vec<u8> {
    let [high, low] = code.to_be_bytes();
    let mut bytes = header(kind, [high, low, 0, 0]);
    bytes.extend(zone::wire(group).octets());
    bytes
}

fn header(kind: u8, rest: [u8; 4]) -> Vec<u8> {
    let mut bytes = vec![0; ICMP_LEN];
    Icmp6::Other {
        kind,
        code: 0,
        rest,
    }
    .emit(&mut bytes);
    bytes
}

fn address(bytes: &[u8]) -> Option<Ipv6Addr> {
    bytes
        .first_chunk::<ADDRESS_LEN>()
        .copied()
        .map(Ipv6Addr::from)
}

/// How long an answer may take (RFC 3810 section 5.1.3; in version 1, the code is in milliseconds).
fn response_of_code(code: u16, is_v2: bool) -> Duration {
    let code = u64::from(code);
    Duration::from_millis(match code {
        0x8000.. if is_v2 => (code & 0xfff | 0x1000) << ((code >> 12 & 7) + 3),
        millis => millis,
    })
}

/// The code of the longest time that is not longer, or of the longest that there is.
fn response_code(time: Duration, is_v2: bool) -> u16 {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    match millis {
        0..0x8000 => millis as u16,
        _ if !is_v2 => u16::try_from(millis).unwrap_or(u16::MAX),
        _ => {
            let exponent = (millis.ilog2() - 15).min(7);
            let mantissa = (millis >> (exponent + 3)).min(0x1fff) & 0xfff;
            0x8000 | (exponent as u16) << 12 | mantissa as u16
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use smoltcp::wire::{Icmpv6Packet, MldRepr};

    use super::*;

    const GROUP: Ipv6Addr = Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 1, 3);
    const SOURCE: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

    fn query(group: Option<Ipv6Addr>, more: Option<QueryV2<'_>>) -> Query<'_> {
        Query {
            group,
            max_response: Duration::from_millis(10_000),
            more,
        }
    }

    fn more(sources: &[u8]) -> Option<QueryV2<'_>> {
        Some(QueryV2 {
            suppress: false,
            robustness: 2,
            interval: Duration::from_secs(125),
            sources: Sources(sources),
        })
    }

    #[test]
    fn what_is_written_is_read() {
        let sources = [SOURCE.octets(), GROUP.octets()].concat();
        for asked in [
            query(None, None),
            query(Some(GROUP), None),
            query(None, more(&[])),
            query(Some(GROUP), more(&sources)),
        ] {
            let bytes = asked.to_bytes();
            assert_eq!(Mld::parse(&bytes), Ok(Mld::Query(asked)));
            for len in 0..bytes.len() {
                // Shorter by what is of version 2 alone, it is one of version 1.
                let is_v1 = len == MLD_LEN;
                assert_eq!(Mld::parse(&bytes[..len]).is_ok(), is_v1, "{len}");
            }
        }
        assert_eq!(Mld::parse(&report_v1(GROUP)), Ok(Mld::Report(GROUP)));
        assert_eq!(Mld::parse(&done(GROUP)), Ok(Mld::Done(GROUP)));
        for about_one in [
            report_v1(SOURCE),
            done(SOURCE),
            query(Some(SOURCE), None).to_bytes(),
        ] {
            assert_eq!(Mld::parse(&about_one), Err(HeaderError::WrongFormat));
        }
        assert_eq!(
            Mld::parse(&message(134, 0, GROUP)),
            Err(HeaderError::WrongFormat)
        );
    }

    #[test]
    fn a_question_about_sources_or_without_timers_ends_no_membership() {
        let with = |change: fn(&mut QueryV2<'_>)| {
            let mut more = more(&[]).expect("version 2");
            change(&mut more);
            query(Some(GROUP), Some(more)).is_whole()
        };
        assert!(query(Some(GROUP), None).is_whole() && with(|_| {}));
        assert!(!with(|m| m.suppress = true));
        assert!(!with(|m| m.sources = Sources(&[0; ADDRESS_LEN])));
    }

    #[test]
    fn a_report_has_a_record_for_each_group() {
        use RecordKind::{Allow, Block, IsExclude, IsInclude, ToExclude, ToInclude};
        let some: &[Ipv6Addr] = &[SOURCE, SOURCE];
        let records: [(RecordKind, Ipv6Addr, &[Ipv6Addr]); 8] = [
            (IsInclude, GROUP, &[]),
            (IsInclude, GROUP, some),
            (IsExclude, GROUP, &[]),
            (ToInclude, GROUP, &[]),
            (ToExclude, GROUP, some),
            (Allow, GROUP, some),
            (Allow, GROUP, &[]),
            (Block, GROUP, some),
        ];
        let mut bytes = report_v2(&records);
        let Ok(Mld::Records(read)) = Mld::parse(&bytes) else {
            panic!("a report");
        };
        let again: Vec<_> = read
            .iter()
            .map(|r| (r.kind, r.sources.iter().count()))
            .collect();
        let expected = records.map(|(kind, _, sources)| (Some(kind), sources.len()));
        assert_eq!(again, expected);
        use Membership::{Left, Member, Unchanged};
        let says: Vec<Membership> = read.iter().map(|r| r.says()).collect();
        let expected = [
            Left, Member, Member, Left, Member, Member, Unchanged, Unchanged,
        ];
        assert_eq!(says, expected);
        for len in 0..bytes.len() {
            assert!(Mld::parse(&bytes[..len]).is_err(), "{len}");
        }
        // A kind that is not known is read over.
        bytes[ICMP_LEN] = 9;
        let Ok(Mld::Records(read)) = Mld::parse(&bytes) else {
            panic!("a report");
        };
        assert_eq!(read.iter().next().map(|r| r.says()), Some(Unchanged));
    }

    #[test]
    fn a_packet_is_one_of_listener_discovery() {
        let src = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
        let bytes = packet(src, GROUP, report_v1(GROUP));
        let fixed = ipv6::Ipv6Header::parse(&bytes).expect("a header");
        assert_eq!((fixed.src, fixed.dst, fixed.hop_limit), (src, GROUP, 1));
        assert_eq!(usize::from(fixed.payload_len), bytes.len() - ipv6::MIN_LEN);
        let body = &bytes[ipv6::MIN_LEN + 8..];
        assert_eq!(Mld::parse(body), Ok(Mld::Report(GROUP)));
        let mut sum =
            checksum::pseudo_header(src.into(), GROUP.into(), IpProto::ICMPV6, body.len());
        sum.add(body);
        assert!(sum.is_valid());
    }

    proptest! {
        #[test]
        fn times_are_rounded_down_and_codes_are_kept(millis in 0u64..10_000_000, code in any::<u16>()) {
            let time = Duration::from_millis(millis);
            let back = response_of_code(response_code(time, true), true);
            let longest = response_of_code(u16::MAX, true);
            prop_assert!(back <= time);
            prop_assert!(back == longest || (time - back) * 4096 <= time, "{:?} {:?}", time, back);
            prop_assert_eq!(response_code(response_of_code(code, true), true), code);
        }

        #[test]
        fn any_bytes_are_read_or_refused(
            kind in prop::sample::select(vec![QUERY, REPORT_V1, DONE, REPORT_V2]),
            count in 0u8..4,
            rest in prop::collection::vec(any::<u8>(), 0..120),
            sources in 0u8..3,
        ) {
            let mut bytes = vec![kind, 0, 0, 0, 0, 0, 0, count];
            bytes.extend(rest);
            for at in [11, 27] {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = sources;
                }
            }
            if let Ok(Mld::Records(records)) = Mld::parse(&bytes) {
                prop_assert_eq!(records.iter().count(), usize::from(count));
            }
        }

        #[test]
        fn another_reads_the_same_question(group in any::<u128>(), millis in 0u64..0x8000, sources in 0usize..4) {
            let group = Some(Ipv6Addr::from(group | 0xff << 120));
            let list = vec![0x20; sources * ADDRESS_LEN];
            let asked = Query { max_response: Duration::from_millis(millis), ..query(group, more(&list)) };
            let bytes = asked.to_bytes();
            let theirs = MldRepr::parse(&Icmpv6Packet::new_unchecked(&bytes[..]));
            match theirs.expect("a message") {
                MldRepr::Query { max_resp_code, mcast_addr, s_flag, qrv, qqic, num_srcs, data } => {
                    prop_assert_eq!(u64::from(max_resp_code), millis);
                    prop_assert_eq!(Some(mcast_addr), asked.group.map(zone::wire));
                    prop_assert_eq!((s_flag, qrv, qqic), (false, 2, 125));
                    prop_assert_eq!((usize::from(num_srcs), data), (sources, &list[..]));
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }
}

//! Router discovery (RFC 4861 sections 4.1 and 4.2), with preferences and routes (RFC 4191), DNS servers and domains
//! (RFC 8106).
//!
//! Options that are not known here are skipped; of those that may come more than once, the first
//! [`MAX_OPTIONS`] of a kind are read.

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;
use smallvec::SmallVec;

use super::HeaderError;
use super::icmp6::{ICMP_LEN, Icmp6};
use super::ndp::{self, ROUTER_SOLICITATION};
use crate::packet::addr::MacAddr;

/// The type of a router advertisement.
pub(crate) const ROUTER_ADVERTISEMENT: u8 = 134;
/// Options of a kind that are read.
pub(crate) const MAX_OPTIONS: usize = 16;
/// A lifetime without end, in seconds.
pub(crate) const FOREVER: u32 = u32::MAX;

/// What a router says of itself and of its link.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Advert {
    /// The hop limit that hosts are to use; zero for none in particular.
    pub hop_limit: u8,
    /// Whether it is to be preferred as a default router.
    pub preference: Preference,
    /// For how many seconds it is a default router; zero if it is not one.
    pub lifetime: u16,
    /// For how many milliseconds a neighbour is taken to be reachable; zero if that is not said.
    pub reachable: u32,
    /// After how many milliseconds a neighbour is asked again; zero if that is not said.
    pub retrans: u32,
    /// Where it is.
    pub source: Option<MacAddr>,
    /// The MTU of the link.
    pub mtu: Option<u32>,
    /// What is on the link.
    pub prefixes: SmallVec<[Prefix; 2]>,
    /// Where else it leads.
    pub routes: SmallVec<[Route; 1]>,
    /// DNS servers and domains, as many times as it says some.
    pub dns: Vec<Dns>,
}

/// DNS servers, or domains in which names are looked up (RFC 8106 sections 5.1 and 5.2).
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Dns {
    /// For how many seconds that holds.
    pub lifetime: u32,
    /// Servers.
    pub servers: Vec<Ipv6Addr>,
    /// Domains.
    pub search: Vec<String>,
}

/// A prefix of a link (RFC 4861 section 4.6.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Prefix {
    /// The prefix.
    pub net: Ipv6Net,
    /// What is in it is on the link.
    pub is_on_link: bool,
    /// Hosts may give themselves addresses of it.
    pub is_autonomous: bool,
    /// For how many seconds that holds.
    pub valid: u32,
    /// For how many seconds such addresses are preferred.
    pub preferred: u32,
}

/// A route (RFC 4191 section 2.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Route {
    /// Where it leads.
    pub net: Ipv6Net,
    /// Whether it is to be preferred.
    pub preference: Preference,
    /// For how many seconds it holds.
    pub lifetime: u32,
}

/// Whether one router is to be preferred to another (RFC 4191 section 2.1). The best is the greatest.
#[derive(
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Debug,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Preference {
    /// After all others.
    Low,
    /// As any.
    #[default]
    Medium,
    /// Before all others.
    High,
}

impl Preference {
    /// `None` for the reserved value.
    fn of(flags: u8) -> Option<Preference> {
        match flags >> 3 & 3 {
            0 => Some(Preference::Medium),
            1 => Some(Preference::High),
            3 => Some(Preference::Low),
            _ => None,
        }
    }

    fn flags(self) -> u8 {
        match self {
            Preference::Medium => 0,
            Preference::High => 1 << 3,
            Preference::Low => 3 << 3,
        }
    }
}

/// Reads a router solicitation: where the sender is.
///
/// # Errors
/// [`HeaderError::WrongFormat`] for another type or code, and what
/// [`Ndp::parse`](super::ndp::Ndp::parse) says of options.
pub(crate) fn parse_solicitation(bytes: &[u8]) -> Result<Option<MacAddr>, HeaderError> {
    fixed(bytes, ROUTER_SOLICITATION)?;
    ndp::link_address(&bytes[ICMP_LEN..], ndp::SOURCE)
}

/// A router solicitation from where `source` is, with a checksum of zero.
pub(crate) fn solicitation(source: Option<MacAddr>) -> Vec<u8> {
    let mut bytes = header(ROUTER_SOLICITATION, [0; 4]);
    put_source(&mut bytes, source);
    bytes
}

impl Advert {
    /// Reads an advertisement: all its bytes.
    ///
    /// # Errors
    /// [`HeaderError::Truncated`] for less than the fixed part, [`HeaderError::WrongFormat`] for another
    /// type or code, [`HeaderError::BadLength`] for an option of no length or beyond the end
    /// (section 6.1.2).
    pub(crate) fn parse(bytes: &[u8]) -> Result<Advert, HeaderError> {
        let [hop_limit, flags, lifetime @ ..] = fixed(bytes, ROUTER_ADVERTISEMENT)?;
        let options = bytes.get(ADVERT_LEN..).ok_or(HeaderError::Truncated)?;
        let times = bytes[ICMP_LEN..].first_chunk::<8>();
        let [a, b, c, d, e, f, g, h] = *times.ok_or(HeaderError::Truncated)?;
        let mut advert = Advert {
            hop_limit,
            // RFC 4191 section 2.2: the reserved value is read as medium.
            preference: Preference::of(flags).unwrap_or_default(),
            lifetime: u16::from_be_bytes(lifetime),
            reachable: u32::from_be_bytes([a, b, c, d]),
            retrans: u32::from_be_bytes([e, f, g, h]),
            source: ndp::link_address(options, ndp::SOURCE)?,
            mtu: None,
            prefixes: SmallVec::new(),
            routes: SmallVec::new(),
            dns: Vec::new(),
        };
        for option in ndp::options(options) {
            let option = option?;
            match *option {
                [MTU, 1, _, _, a, b, c, d] => advert.mtu = Some(u32::from_be_bytes([a, b, c, d])),
                [PREFIX, 4, ..] if advert.prefixes.len() < MAX_OPTIONS => {
                    advert.prefixes.extend(prefix(option));
                }
                [ROUTE, 1..=3, ..] if advert.routes.len() < MAX_OPTIONS => {
                    advert.routes.extend(route(option));
                }
                [RDNSS, ..] if advert.dns.len() < MAX_OPTIONS => {
                    advert.dns.extend(servers(option));
                }
                [DNSSL, ..] if advert.dns.len() < MAX_OPTIONS => {
                    advert.dns.extend(search(option));
                }
                _ => {}
            }
        }
        Ok(advert)
    }

    /// The bytes of the message, with a checksum of zero.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let [high, low] = self.lifetime.to_be_bytes();
        let flags = self.preference.flags();
        let mut bytes = header(ROUTER_ADVERTISEMENT, [self.hop_limit, flags, high, low]);
        bytes.extend(self.reachable.to_be_bytes());
        bytes.extend(self.retrans.to_be_bytes());
        put_source(&mut bytes, self.source);
        if let Some(mtu) = self.mtu {
            bytes.extend([MTU, 1, 0, 0]);
            bytes.extend(mtu.to_be_bytes());
        }
        for prefix in &self.prefixes {
            let flags = u8::from(prefix.is_on_link) << 7 | u8::from(prefix.is_autonomous) << 6;
            bytes.extend([PREFIX, 4, prefix.net.prefix_len(), flags]);
            bytes.extend(prefix.valid.to_be_bytes());
            bytes.extend(prefix.preferred.to_be_bytes());
            bytes.extend([0; 4]);
            bytes.extend(prefix.net.network().octets());
        }
        for route in &self.routes {
            bytes.extend([ROUTE, 3, route.net.prefix_len(), route.preference.flags()]);
            bytes.extend(route.lifetime.to_be_bytes());
            bytes.extend(route.net.network().octets());
        }
        for dns in &self.dns {
            if !dns.servers.is_empty() {
                let octets = dns.servers.iter().flat_map(|addr| addr.octets());
                put_dns(&mut bytes, RDNSS, dns.lifetime, octets.collect());
            }
            if !dns.search.is_empty() {
                let mut names = Vec::new();
                for label in dns.search.iter().flat_map(|name| labels(name).chain([""])) {
                    names.push(label.len() as u8);
                    names.extend(label.as_bytes());
                }
                put_dns(&mut bytes, DNSSL, dns.lifetime, names);
            }
        }
        bytes
    }
}

impl Advert {
    /// What this says of prefixes, routes and names that another one does not speak of, with lifetimes of zero.
    pub(crate) fn over(&self, now: &Advert) -> Advert {
        let is_over = |net| move |said: &Ipv6Net| *said != net;
        let prefixes = self.prefixes.iter().map(|prefix| Prefix {
            valid: 0,
            preferred: 0,
            ..*prefix
        });
        let routes = self.routes.iter().map(|route| Route {
            lifetime: 0,
            ..*route
        });
        let dns = self.dns.iter().map(|dns| {
            let (mut servers, mut search) = (dns.servers.clone(), dns.search.clone());
            servers.retain(|addr| !now.dns.iter().any(|dns| dns.servers.contains(addr)));
            search.retain(|name| !now.dns.iter().any(|dns| dns.search.contains(name)));
            Dns {
                lifetime: 0,
                servers,
                search,
            }
        });
        Advert {
            prefixes: prefixes
                .filter(|prefix| now.prefixes.iter().map(|p| &p.net).all(is_over(prefix.net)))
                .collect(),
            routes: routes
                .filter(|route| now.routes.iter().map(|r| &r.net).all(is_over(route.net)))
                .collect(),
            dns: dns
                .filter(|dns| !dns.servers.is_empty() || !dns.search.is_empty())
                .collect(),
            ..self.clone()
        }
    }

    /// True when it speaks of no prefix, route or name.
    pub(crate) fn is_bare(&self) -> bool {
        self.prefixes.is_empty() && self.routes.is_empty() && self.dns.is_empty()
    }
}

/// The four bytes behind the checksum of a message of this type.
fn fixed(bytes: &[u8], wanted: u8) -> Result<[u8; 4], HeaderError> {
    match Icmp6::parse(bytes)? {
        Icmp6::Other {
            kind,
            code: 0,
            rest,
        } if kind == wanted => Ok(rest),
        _ => Err(HeaderError::WrongFormat),
    }
}

fn header(kind: u8, rest: [u8; 4]) -> Vec<u8> {
    let mut bytes = vec![0; ICMP_LEN];
    let header = Icmp6::Other {
        kind,
        code: 0,
        rest,
    };
    header.emit(&mut bytes);
    bytes
}

fn put_source(bytes: &mut Vec<u8>, source: Option<MacAddr>) {
    if let Some(mac) = source {
        bytes.extend([ndp::SOURCE, 1]);
        bytes.extend(mac.0);
    }
}

fn prefix(option: &[u8]) -> Option<Prefix> {
    let word = |at: usize| Some(u32::from_be_bytes(*option.get(at..)?.first_chunk()?));
    let addr: [u8; 16] = *option.get(16..)?.first_chunk()?;
    let (len, flags) = (*option.get(2)?, *option.get(3)?);
    Some(Prefix {
        net: Ipv6Net::new(addr.into(), len).ok()?.trunc(),
        is_on_link: flags & 0x80 != 0,
        is_autonomous: flags & 0x40 != 0,
        valid: word(4)?,
        preferred: word(8)?,
    })
}

/// RFC 4191 section 2.3: as many bytes of the prefix as its length needs. One with the reserved preference
/// is ignored.
fn route(option: &[u8]) -> Option<Route> {
    let (len, flags) = (*option.get(2)?, *option.get(3)?);
    let lifetime = u32::from_be_bytes(*option.get(4..)?.first_chunk()?);
    let given = option.get(8..)?;
    if usize::from(len).div_ceil(8) > given.len() {
        return None;
    }
    let mut addr = [0; 16];
    addr[..given.len()].copy_from_slice(given);
    Some(Route {
        net: Ipv6Net::new(Ipv6Addr::from(addr), len).ok()?.trunc(),
        preference: Preference::of(flags)?,
        lifetime,
    })
}

fn put_dns(bytes: &mut Vec<u8>, kind: u8, lifetime: u32, mut content: Vec<u8>) {
    content.resize(content.len().next_multiple_of(8), 0);
    bytes.extend([kind, (1 + content.len() / 8) as u8, 0, 0]);
    bytes.extend(lifetime.to_be_bytes());
    bytes.extend(content);
}

/// RFC 8106 section 5.1.
fn servers(option: &[u8]) -> Option<Dns> {
    let lifetime = u32::from_be_bytes(*option.get(4..)?.first_chunk()?);
    let (addrs, rest) = option.get(8..)?.as_chunks::<16>();
    (rest.is_empty() && !addrs.is_empty()).then(|| Dns {
        lifetime,
        servers: addrs.iter().copied().map(Ipv6Addr::from).collect(),
        search: Vec::new(),
    })
}

/// RFC 8106 section 5.2: names without compression, and zeros behind them.
fn search(option: &[u8]) -> Option<Dns> {
    let lifetime = u32::from_be_bytes(*option.get(4..)?.first_chunk()?);
    let mut rest = option.get(8..)?;
    let mut search = Vec::new();
    while rest.first().is_some_and(|len| *len > 0) {
        let mut name = String::new();
        while let Some((len, more)) = rest.split_first()
            && *len > 0
        {
            let (label, more) = more.split_at_checked(usize::from(*len))?;
            if !name.is_empty() {
                name.push('.');
            }
            name.push_str(str::from_utf8(label).ok().filter(|l| !l.contains('.'))?);
            rest = more;
        }
        rest = rest.strip_prefix(&[0])?;
        if !is_name(&name) {
            return None;
        }
        search.push(name);
    }
    (!search.is_empty()).then_some(Dns {
        lifetime,
        servers: Vec::new(),
        search,
    })
}

fn labels(name: &str) -> impl Iterator<Item = &str> {
    name.split('.')
}

/// True of the name of a domain, without a dot at its end (RFC 1035 section 2.3.4).
pub(crate) fn is_name(name: &str) -> bool {
    let may = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let is_label = |label: &str| matches!(label.len(), 1..=63) && label.bytes().all(may);
    name.len() <= 253 && labels(name).all(is_label)
}

/// Bytes in the fixed part of an advertisement.
const ADVERT_LEN: usize = ICMP_LEN + 8;
const PREFIX: u8 = 3;
const MTU: u8 = 5;
const ROUTE: u8 = 24;
const RDNSS: u8 = 25;
const DNSSL: u8 = 31;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use smoltcp::wire::{Icmpv6Packet, NdiscRepr};

    use super::*;

    fn net(text: &str) -> Ipv6Net {
        text.parse().expect("a prefix")
    }

    fn full() -> Advert {
        Advert {
            hop_limit: 63,
            preference: Preference::High,
            lifetime: 1800,
            reachable: 20_000,
            retrans: 500,
            source: Some(MacAddr([2, 0, 0, 0, 0, 1])),
            mtu: Some(1400),
            prefixes: SmallVec::from_slice(&[Prefix {
                net: net("2001:db8:1::/64"),
                is_on_link: true,
                is_autonomous: true,
                valid: 86_400,
                preferred: FOREVER,
            }]),
            routes: SmallVec::from_slice(&[Route {
                net: net("2001:db8:9::/48"),
                preference: Preference::Low,
                lifetime: 600,
            }]),
            dns: vec![
                Dns {
                    lifetime: 60,
                    servers: vec![net("2001:db8::53/128").addr(), net("fe80::53/128").addr()],
                    search: Vec::new(),
                },
                Dns {
                    lifetime: 61,
                    servers: Vec::new(),
                    search: vec!["example".to_owned(), "a-b.example.net".to_owned()],
                },
            ],
        }
    }

    #[test]
    fn what_is_said_is_read_and_another_agrees() {
        let advert = full();
        let bytes = advert.to_bytes();
        assert_eq!(Advert::parse(&bytes), Ok(advert.clone()));
        let other = NdiscRepr::parse(&Icmpv6Packet::new_unchecked(&bytes[..]));
        let Ok(NdiscRepr::RouterAdvert {
            hop_limit: 63,
            router_lifetime,
            mtu: Some(1400),
            prefix_info: Some(prefix),
            ..
        }) = other
        else {
            panic!("{other:?}");
        };
        assert_eq!(router_lifetime.secs(), 1800);
        assert_eq!(
            (prefix.prefix, prefix.prefix_len),
            (advert.prefixes[0].net.addr(), 64)
        );
        assert_eq!(prefix.valid_lifetime.secs(), 86_400);
        let source = Some(MacAddr([2, 0, 0, 0, 0, 9]));
        assert_eq!(parse_solicitation(&solicitation(source)), Ok(source));
        assert_eq!(parse_solicitation(&solicitation(None)), Ok(None));
    }

    #[test]
    fn names_that_are_none_are_not_read() {
        let with = |names: &[u8]| {
            let mut bytes = Advert::default().to_bytes();
            put_dns(&mut bytes, DNSSL, 9, names.to_vec());
            Advert::parse(&bytes).expect("whole").dns
        };
        assert_eq!(with(b"\x01a\x01b\0")[0].search, ["a.b"]);
        for not in [
            // A label beyond the end, names without an end, and what is no letter.
            &b"\x09a"[..],
            b"\x01a\x01b\x01c\x01d",
            b"\xc0\x01\0",
            b"\x03a.b\0",
            b"\x02\xff\xfe\0",
            b"\x01 \0",
            b"\x01a\0\x01 \0",
        ] {
            assert!(with(not).is_empty(), "{not:?}");
        }
        assert!(with(&[0; 8]).is_empty());
        assert!(!is_name("") && !is_name("a..b") && !is_name("a.b.") && is_name("_tcp.a"));
        assert!(
            !is_name(&"a".repeat(64)) && !is_name(&"a.".repeat(127)) && is_name(&"a".repeat(63))
        );
    }

    #[test]
    fn short_routes_and_much_of_one_kind() {
        let mut bytes = Advert {
            routes: SmallVec::new(),
            ..full()
        }
        .to_bytes();
        // A default route needs no bytes of the prefix; one with a reserved preference is none.
        bytes.extend([ROUTE, 1, 0, 0, 0, 0, 0, 9]);
        bytes.extend([ROUTE, 1, 0, 2 << 3, 0, 0, 0, 9]);
        bytes.extend([ROUTE, 1, 64, 0, 0, 0, 0, 9]);
        let read = Advert::parse(&bytes).expect("whole");
        assert_eq!(read.routes.len(), 1);
        assert_eq!(read.routes[0].net, net("::/0"));
        for _ in 0..100 {
            bytes.extend([ROUTE, 1, 0, 0, 0, 0, 0, 9]);
        }
        assert_eq!(
            Advert::parse(&bytes).expect("whole").routes.len(),
            MAX_OPTIONS
        );
        bytes.extend([ROUTE, 0]);
        assert_eq!(Advert::parse(&bytes), Err(HeaderError::BadLength));
        assert_eq!(Advert::parse(&bytes[..12]), Err(HeaderError::Truncated));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            for kind in [ROUTER_SOLICITATION, ROUTER_ADVERTISEMENT] {
                if let [first, code, ..] = &mut bytes[..] {
                    (*first, *code) = (kind, 0);
                }
                let _ = (Advert::parse(&bytes), parse_solicitation(&bytes));
            }
        }
    }
}

//! From which address of ours a packet is sent (RFC 6724 section 5), and which of several destinations is tried first
//! (section 6). Of the latter, addresses of IPv4 are mapped ones.
//!
//! Candidates for the first are the addresses of the outgoing interface and, as routers may, those of others that mean
//! something there. Rule 4 is about a kind of address that a vnet does not have.

use std::cmp::Reverse;
use std::net::{IpAddr, Ipv6Addr};

use super::policy::Policy;
use crate::base::id::IfId;
use crate::base::switch::Switch;
use crate::ip::addr::{Kind, LocalAddr, LocalAddrs};
use crate::ip::family::{Family, V6};
use crate::packet::header::zone;

/// How an address came about that follows from what routers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Derived {
    /// It is preferred.
    Preferred,
    /// The same, and it changes with time (RFC 8981).
    Temporary,
    /// It is used on, but no more taken for something new (RFC 4862 section 5.5.4).
    Deprecated,
}

/// The source of a packet to `dst` that leaves through `ifid`; `None` when there is none. Of addresses that are
/// configured, `derived` says nothing. Whether temporary ones come before others, `temporary` says. `policy` has the labels.
pub(crate) fn source(
    addrs: &LocalAddrs<V6>,
    policy: &Policy,
    derived: impl Fn(&LocalAddr<V6>) -> Option<Derived>,
    temporary: Switch,
    dst: Ipv6Addr,
    ifid: IfId,
) -> Option<Ipv6Addr> {
    // Rule 1.
    if addrs.contains(dst) {
        return Some(dst);
    }
    let usable = |a: &&LocalAddr<V6>| match V6::kind(a.addr()) {
        Kind::Loopback => false,
        Kind::LinkLocal => a.ifid == ifid,
        _ => true,
    };
    let (to, label) = (scope(dst), policy.label(dst));
    // Of equals the first, so that the order of configuration decides.
    let best = addrs.iter().filter(usable).min_by_key(|a| {
        let from = scope(a.addr());
        let derived = derived(a);
        // Their prefix is that of their link, whatever they were added with.
        let prefix_len = match derived {
            Some(_) => 64,
            None => V6::prefix_len(a.net),
        };
        (
            // Rule 2: the smallest scope that reaches, else the largest there is.
            from < to,
            if from < to { u8::MAX - from } else { from },
            // Rule 3.
            derived == Some(Derived::Deprecated),
            // Rule 5.
            a.ifid != ifid,
            // Rule 6.
            policy.label(a.addr()) != label,
            // Rule 7.
            (derived == Some(Derived::Temporary)) != temporary.is_on(),
            // Rule 8.
            Reverse(common(a.addr(), dst).min(prefix_len)),
        )
    });
    best.map(LocalAddr::addr)
}

/// An address of ours from which a packet to some destination is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    /// The address.
    pub addr: IpAddr,
    /// How long the prefix of its link is.
    pub prefix_len: u8,
    /// Whether it is preferred.
    pub derived: Option<Derived>,
}

/// The place of a destination among others, of which smaller ones are tried first (section 6), with the address that it is
/// sent to from, if there is a way and an address. Equal ones are left as they were given (rule 10).
///
/// Rule 4 is about addresses at home and rule 7 about tunnels: a vnet has neither. Rule 9 compares only addresses of one
/// family; those of IPv4 alone have their precedence (rule 6), so that it comes to no others.
pub(crate) fn preference(policy: &Policy, dst: IpAddr, source: Option<Source>) -> impl Ord + use<> {
    let to = mapped(dst);
    let Some(source) = source else {
        // Rule 1.
        return (
            true,
            [true; 3],
            Reverse(policy.precedence(to)),
            0,
            Reverse(0),
        );
    };
    let from = mapped(source.addr);
    let mapped_bits = match source.addr {
        IpAddr::V4(_) => 96,
        IpAddr::V6(_) => 0,
    };
    let prefix_len = match source.derived {
        Some(_) => 64,
        None => source.prefix_len + mapped_bits,
    };
    let avoided = [
        // Rule 2.
        scope(from) != scope(to),
        // Rule 3.
        source.derived == Some(Derived::Deprecated),
        // Rule 5.
        policy.label(from) != policy.label(to),
    ];
    (
        false,
        avoided,
        // Rule 6.
        Reverse(policy.precedence(to)),
        // Rule 8.
        scope(to),
        // Rule 9.
        Reverse(common(from, to).min(prefix_len)),
    )
}

fn mapped(addr: IpAddr) -> Ipv6Addr {
    match addr {
        IpAddr::V4(addr) => addr.to_ipv6_mapped(),
        IpAddr::V6(addr) => addr,
    }
}

/// Section 3.1, in the numbers of multicast scopes (RFC 4291 section 2.7).
fn scope(addr: Ipv6Addr) -> u8 {
    // Section 3.2.
    if let Some(addr) = addr.to_ipv4_mapped() {
        return match addr.is_link_local() || addr.is_loopback() {
            true => 2,
            false => 14,
        };
    }
    match V6::kind(addr) {
        Kind::Multicast => addr.octets()[1] & 0xf,
        Kind::Loopback | Kind::LinkLocal => 2,
        _ if addr.octets()[0] == 0xfe && addr.octets()[1] & 0xc0 == 0xc0 => 5,
        _ => 14,
    }
}

/// Section 2.2: how long the common prefix is; what counts is no longer than that of the source.
fn common(source: Ipv6Addr, dst: Ipv6Addr) -> u8 {
    let differ = u128::from(zone::wire(source)) ^ u128::from(zone::wire(dst));
    differ.leading_zeros() as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ip::testing::interfaces;
    use crate::ip::v6::policy::tests::with;
    use ipnet::{IpNet, Ipv4Net};

    fn chosen(dst: &str, addresses: &[(usize, &str)]) -> String {
        chosen_with(Switch::On, dst, addresses)
    }

    fn chosen_with(temporary: Switch, dst: &str, addresses: &[(usize, &str)]) -> String {
        let ifids = interfaces();
        let mut addrs = LocalAddrs::<V6>::default();
        for (at, net) in addresses {
            let net = net.parse().expect("a prefix");
            addrs.add(ifids[*at], net).expect("it is new");
        }
        let dst = dst.parse().expect("an address");
        // In the tests, what ends in dead is deprecated, and in beef preferred.
        let derived = |a: &LocalAddr<V6>| match a.addr().segments()[7] {
            0xdead => Some(Derived::Deprecated),
            0xbeef => Some(Derived::Preferred),
            0xd5e3 | 0x22e8 => Some(Derived::Temporary),
            _ => None,
        };
        let policy = Policy::default();
        let source = source(&addrs, &policy, derived, temporary, dst, ifids[0]);
        source.map_or_else(|| "none".to_owned(), |source| source.to_string())
    }

    #[test]
    fn deprecated_addresses_come_last_and_derived_ones_have_64_bits_of_prefix() {
        let both = [(0, "2001:db8:1::dead/128"), (0, "2001:db8:2::1/64")];
        assert_eq!(chosen("2001:db8:1::1", &both), "2001:db8:2::1");
        // Rule 2 comes before: it is better than an address that does not reach.
        let both = [(0, "2001:db8:1::dead/128"), (0, "fe80::1/64")];
        assert_eq!(chosen("2001:db8:9::1", &both), "2001:db8:1::dead");
        // The first of equals, however many bits behind the prefix are like the destination's.
        let both = [(0, "2001:db8:1::5/64"), (0, "2001:db8:1::beef/128")];
        assert_eq!(chosen("2001:db8:1::bee0", &both), "2001:db8:1::5");
    }

    #[test]
    fn temporary_addresses_come_before_others_where_they_are_preferred() {
        let both = [(0, "2001:db8:1::d5e3/128"), (0, "2001:db8:1::2/64")];
        for (temporary, expected) in [
            (Switch::On, "2001:db8:1::d5e3"),
            (Switch::Off, "2001:db8:1::2"),
        ] {
            assert_eq!(chosen_with(temporary, "2001:db8:1::9", &both), expected);
            // Before the longest prefix, and after the interface and the label.
            assert_eq!(chosen_with(temporary, "2001:db8:1::3", &both), expected);
            let other = [(1, "2001:db8:1::d5e3/128"), (0, "2001:db8:1::2/64")];
            assert_eq!(
                chosen_with(temporary, "2001:db8:1::9", &other),
                "2001:db8:1::2"
            );
        }
    }

    /// RFC 6724 section 10.1, but for the rule about addresses at home.
    #[test]
    fn the_examples_of_rfc_6724() {
        for (dst, addresses, expected) in [
            (
                "2001:db8:1::1",
                &["2001:db8:3::1/64", "fe80::1/64"][..],
                "2001:db8:3::1",
            ),
            (
                "ff05::1",
                &["2001:db8:3::1/64", "fe80::1/64"],
                "2001:db8:3::1",
            ),
            (
                "2001:db8:1::1",
                &["2001:db8:1::1/64", "2001:db8:2::1/64"],
                "2001:db8:1::1",
            ),
            ("fe80::1", &["fe80::2/64", "2001:db8:1::1/64"], "fe80::2"),
            (
                "2001:db8:1::1",
                &["2001:db8:1::2/64", "2001:db8:3::2/64"],
                "2001:db8:1::2",
            ),
            (
                "2002:c633:6401::1",
                &[
                    "2001:db8:1::d5e3:7953:13eb:22e8/64",
                    "2002:c633:6401::d5e3:7953:13eb:22e8/64",
                ],
                "2002:c633:6401:0:d5e3:7953:13eb:22e8",
            ),
            (
                "2002:c633:6401::1",
                &["2001:db8:1::2/64", "2002:c633:6401::d5e3/64"],
                "2002:c633:6401::d5e3",
            ),
        ] {
            let addresses: Vec<_> = addresses.iter().map(|net| (0, *net)).collect();
            assert_eq!(chosen(dst, &addresses), expected, "{dst}");
        }
    }

    /// The destinations in the order in which they are tried, where these are our addresses, on one link.
    fn tried(destinations: &[&str], addresses: &[&str]) -> Vec<String> {
        let all = tried_with(&Policy::default(), destinations, addresses);
        all.into_iter().map(|(dst, _)| dst).collect()
    }

    /// The same with a policy, and with the source of each.
    fn tried_with(
        policy: &Policy,
        destinations: &[&str],
        addresses: &[&str],
    ) -> Vec<(String, String)> {
        let [ifid, _] = interfaces();
        let mut addrs = LocalAddrs::<V6>::default();
        let mut v4: Vec<Ipv4Net> = Vec::new();
        for net in addresses {
            match net.parse() {
                Ok(IpNet::V4(net)) => v4.push(net),
                Ok(IpNet::V6(net)) => addrs.add(ifid, net).expect("it is new"),
                Err(_) => panic!("{net}"),
            }
        }
        let derived = |a: &LocalAddr<V6>| {
            let is_deprecated = a.addr().segments()[7] == 0xdead;
            is_deprecated.then_some(Derived::Deprecated)
        };
        let source_of = |dst: IpAddr| match dst {
            IpAddr::V4(_) => v4.first().map(|net| Source {
                addr: net.addr().into(),
                prefix_len: net.prefix_len(),
                derived: None,
            }),
            IpAddr::V6(dst) => {
                let addr = source(&addrs, policy, derived, Switch::On, dst, ifid)?;
                let own = addrs.iter().find(|a| a.addr() == addr)?;
                Some(Source {
                    addr: addr.into(),
                    prefix_len: own.net.prefix_len(),
                    derived: derived(own),
                })
            }
        };
        let all = destinations
            .iter()
            .map(|dst| dst.parse().expect("an address"));
        let mut all: Vec<IpAddr> = all.collect();
        all.sort_by_cached_key(|dst| preference(policy, *dst, source_of(*dst)));
        let from = |dst: &IpAddr| source_of(*dst).map(|source| source.addr.to_string());
        let both = |dst: &IpAddr| (dst.to_string(), from(dst).unwrap_or_default());
        all.iter().map(both).collect()
    }

    /// RFC 6724 section 10.2, but for the example about addresses at home; each in both orders.
    #[test]
    fn the_examples_of_rfc_6724_for_destinations() {
        for (why, expected, addresses) in [
            (
                "matching scope",
                ["2001:db8:1::1", "198.51.100.121"],
                &["2001:db8:1::2/64", "fe80::1/64", "169.254.13.78/16"][..],
            ),
            (
                "matching scope",
                ["198.51.100.121", "2001:db8:1::1"],
                &["fe80::1/64", "198.51.100.117/24"],
            ),
            (
                "higher precedence",
                ["2001:db8:1::1", "10.1.2.3"],
                &["2001:db8:1::2/64", "fe80::1/64", "10.1.2.4/24"],
            ),
            (
                "smaller scope",
                ["fe80::1", "2001:db8:1::1"],
                &["2001:db8:1::2/64", "fe80::2/64"],
            ),
            (
                "deprecated",
                ["2001:db8:1::1", "fe80::1"],
                &["2001:db8:1::2/64", "fe80::dead/64"],
            ),
            (
                "longest matching prefix",
                ["2001:db8:1::1", "2001:db8:3ffe::1"],
                &["2001:db8:1::2/64", "2001:db8:3f44::2/64", "fe80::2/64"],
            ),
            (
                "matching label",
                ["2002:c633:6401::1", "2001:db8:1::1"],
                &["2002:c633:6401::2/64", "fe80::2/64"],
            ),
            (
                "higher precedence",
                ["2001:db8:1::1", "2002:c633:6401::1"],
                &["2002:c633:6401::2/64", "2001:db8:1::2/64", "fe80::2/64"],
            ),
        ] {
            let [first, second] = expected;
            for given in [[first, second], [second, first]] {
                assert_eq!(tried(&given, addresses), expected, "{why}");
            }
        }
        // Of those that cannot be reached and of equals, as given.
        for given in [["192.0.2.9", "192.0.2.8"], ["2001:db8::9", "2001:db8::8"]] {
            assert_eq!(tried(&given, &[]), given);
            assert_eq!(tried(&given, &["10.0.0.1/8", "2001:db8:9::1/64"]), given);
        }
        // What is like behind the prefix of a link says nothing.
        let near = ["10.0.0.254", "192.0.2.9", "10.0.0.2"];
        let expected = ["10.0.0.254", "10.0.0.2", "192.0.2.9"];
        assert_eq!(tried(&near, &["10.0.0.1/24"]), expected);
    }

    /// RFC 6724 sections 10.3 to 10.7, each in both orders: what configured tables change, and what they do not.
    #[test]
    fn the_examples_of_rfc_6724_for_policies() {
        let v4_first = with(&[("::ffff:0:0/96", 100, 4)]);
        let link_local = with(&[("fe80::/10", 33, 1)]);
        let sites = with(&[("2001:db8:1aaa::/48", 43, 6), ("2001:db8:1bbb::/48", 43, 6)]);
        let own_ula = with(&[("fd11:1111:1111::/48", 45, 14)]);
        let native_6to4 = with(&[("2002:c633:6401::/48", 45, 14)]);
        let default = Policy::default();
        let site_a = &["2001:db8:1aaa::a/64", "2001:db8:70aa::a/64", "fe80::a/64"][..];
        let ula = &["2001:db8:1::1/64", "fd11:1111:1111:1::1/64"][..];
        let checks = [
            (
                &v4_first,
                &["2001:db8::2/64", "fe80::1/64", "169.254.13.78/16"][..],
                [
                    ("2001:db8::1", "2001:db8::2"),
                    ("198.51.100.121", "169.254.13.78"),
                ],
            ),
            (
                &v4_first,
                &["fe80::1/64", "198.51.100.117/24"],
                [
                    ("198.51.100.121", "198.51.100.117"),
                    ("2001:db8::1", "fe80::1"),
                ],
            ),
            (
                &v4_first,
                &["2001:db8::2/64", "fe80::1/64", "10.1.2.4/24"],
                [("10.1.2.3", "10.1.2.4"), ("2001:db8::1", "2001:db8::2")],
            ),
            (
                &link_local,
                &["2001:db8::2/64", "fe80::2/64"],
                [("2001:db8::1", "2001:db8::2"), ("fe80::1", "fe80::2")],
            ),
            (
                &link_local,
                &["2001:db8::dead/64", "fe80::2/64"],
                [("fe80::1", "fe80::2"), ("2001:db8::1", "2001:db8::dead")],
            ),
            // The site's own provider, and the expensive one that it shares with the other.
            (
                &default,
                site_a,
                [
                    ("2001:db8:70bb::b", "2001:db8:70aa::a"),
                    ("2001:db8:1bbb::b", "2001:db8:1aaa::a"),
                ],
            ),
            (
                &sites,
                site_a,
                [
                    ("2001:db8:1bbb::b", "2001:db8:1aaa::a"),
                    ("2001:db8:70bb::b", "2001:db8:70aa::a"),
                ],
            ),
            (
                &default,
                site_a,
                [
                    ("2001:db8:1ccc::c", "2001:db8:1aaa::a"),
                    ("2001:db8:6ccc::c", "2001:db8:70aa::a"),
                ],
            ),
            (
                &sites,
                site_a,
                [
                    ("2001:db8:6ccc::c", "2001:db8:70aa::a"),
                    ("2001:db8:1ccc::c", "2001:db8:70aa::a"),
                ],
            ),
            (
                &default,
                ula,
                [
                    ("2001:db8:2::2", "2001:db8:1::1"),
                    ("fd11:1111:1111:2::2", "fd11:1111:1111:1::1"),
                ],
            ),
            (
                &own_ula,
                ula,
                [
                    ("fd11:1111:1111:2::2", "fd11:1111:1111:1::1"),
                    ("2001:db8:2::2", "2001:db8:1::1"),
                ],
            ),
            (
                &default,
                &["2002:c633:6401::2/64", "10.1.2.3/24"],
                [
                    ("203.0.113.1", "10.1.2.3"),
                    ("2001:db8:1::1", "2002:c633:6401::2"),
                ],
            ),
            // A 6to4 prefix that a site uses natively, by default and by a row of its own.
            (
                &default,
                &["2002:c633:6401:1::1/64", "10.1.2.3/24"],
                [
                    ("203.0.113.1", "10.1.2.3"),
                    ("2002:c633:6401:2::2", "2002:c633:6401:1::1"),
                ],
            ),
            (
                &native_6to4,
                &["2002:c633:6401:1::1/64", "10.1.2.3/24"],
                [
                    ("2002:c633:6401:2::2", "2002:c633:6401:1::1"),
                    ("203.0.113.1", "10.1.2.3"),
                ],
            ),
        ];
        for (policy, addresses, expected) in checks {
            let [first, second] = expected.map(|(dst, _)| dst);
            let expected = expected.map(|(dst, src)| (dst.to_owned(), src.to_owned()));
            for given in [[first, second], [second, first]] {
                assert_eq!(
                    tried_with(policy, &given, addresses),
                    expected,
                    "{policy:?}"
                );
            }
        }
    }

    #[test]
    fn another_interface_lends_what_means_something_elsewhere() {
        let borrowed = [
            (0, "fe80::1/64"),
            (1, "2001:db8::1/64"),
            (1, "fe80:2::2/64"),
        ];
        assert_eq!(chosen("2001:db8:9::9", &borrowed), "2001:db8::1");
        assert_eq!(chosen("fe80::9", &borrowed), "fe80::1");
        assert_eq!(chosen("fe80::9", &borrowed[1..]), "2001:db8::1");
        assert_eq!(chosen("2001:db8::9", &[(1, "fe80::1/64")]), "none");
        let own = [(1, "2001:db8::1/64"), (0, "2001:db8:5::1/64")];
        assert_eq!(chosen("2001:db8::9", &own), "2001:db8:5::1");
    }
}

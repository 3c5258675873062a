//! From which address of ours a packet is sent (RFC 6724 section 5).
//!
//! Candidates are the addresses of the outgoing interface and, as routers may, those of others that mean
//! something there. Rule 4 is about a kind of address that a vnet does not have.

use std::cmp::Reverse;
use std::net::Ipv6Addr;

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
/// configured, `derived` says nothing. Whether temporary ones come before others, `temporary` says.
pub(crate) fn source(
    addrs: &LocalAddrs<V6>,
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
    let (to, label) = (scope(dst), label(dst));
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
            self::label(a.addr()) != label,
            // Rule 7.
            (derived == Some(Derived::Temporary)) != temporary.is_on(),
            // Rule 8.
            Reverse(common(a.addr(), dst).min(prefix_len)),
        )
    });
    best.map(LocalAddr::addr)
}

/// Section 3.1, in the numbers of multicast scopes (RFC 4291 section 2.7).
fn scope(addr: Ipv6Addr) -> u8 {
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

/// The labels of the default policy table (section 2.1): longer prefixes first.
fn label(addr: Ipv6Addr) -> u8 {
    match addr.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => 0,
        [0, 0, 0, 0, 0, 0xffff, ..] => 4,
        [0, 0, 0, 0, 0, 0, ..] => 3,
        [0x2001, 0, ..] => 5,
        [0x2002, ..] => 2,
        [0x3ffe, ..] => 12,
        [first, ..] if first & 0xffc0 == 0xfec0 => 11,
        [first, ..] if first & 0xfe00 == 0xfc00 => 13,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ip::testing::interfaces;

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
        let source = source(&addrs, derived, temporary, dst, ifids[0]);
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

//! The policy table of address selection (RFC 6724 section 2.1): to whom an address is like, and how much it is wanted.

use std::fmt;
use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

use crate::base::config::ConfigError;
use crate::packet::header::zone;

/// A row of the policy table by which addresses are selected (RFC 6724 section 2.1); see
/// [`Vnet::set_address_policy`](crate::Vnet::set_address_policy). Addresses of IPv4 are in `::ffff:0:0/96`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddressPolicy {
    /// The addresses that it is about, but for those of rows with longer prefixes.
    pub prefix: Ipv6Net,
    /// Of several destinations, those with a higher precedence are tried first.
    pub precedence: u8,
    /// A source address with the label of the destination is preferred.
    pub label: u8,
}

/// As in the tables of RFC 6724: the prefix, the precedence and the label.
impl fmt::Display for AddressPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.prefix, self.precedence, self.label)
    }
}

impl AddressPolicy {
    /// The most rows that a table may have.
    pub const MAX_ROWS: usize = 64;

    /// Checks that these rows are a table.
    ///
    /// # Errors
    /// A prefix that has bits set behind its length, or that two rows have; no row for `::/0`; too many rows.
    pub fn validate(table: &[AddressPolicy]) -> Result<(), ConfigError> {
        let fails = |message: String| Err(ConfigError::new("address_policy", message));
        if table.len() > AddressPolicy::MAX_ROWS {
            let (most, rows) = (AddressPolicy::MAX_ROWS, table.len());
            return fails(format!(
                "a policy table has at most {most} rows, not {rows}"
            ));
        }
        for (at, row) in table.iter().enumerate() {
            let prefix = row.prefix;
            if prefix != prefix.trunc() {
                let meant = prefix.trunc();
                return fails(format!(
                    "{prefix} is no prefix: {meant} is the one it is in"
                ));
            }
            if table[..at].iter().any(|other| other.prefix == prefix) {
                return fails(format!("two rows of the policy table are for {prefix}"));
            }
        }
        match table.iter().any(|row| row.prefix.prefix_len() == 0) {
            true => Ok(()),
            false => fails("a policy table needs a row for ::/0".to_owned()),
        }
    }
}

/// The table of one vnet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Policy(Option<Box<[AddressPolicy]>>);

impl Policy {
    /// One that was checked; without one, that of RFC 6724.
    pub(crate) fn new(table: Option<Vec<AddressPolicy>>) -> Policy {
        Policy(table.map(Vec::into_boxed_slice))
    }

    /// The rows, if they are not those of RFC 6724.
    pub(crate) fn configured(&self) -> Option<&[AddressPolicy]> {
        self.0.as_deref()
    }

    /// Addresses with the same label are meant for each other.
    #[inline]
    pub(crate) fn label(&self, addr: Ipv6Addr) -> u8 {
        match &self.0 {
            None => label(addr),
            Some(table) => row(table, addr).map_or(DEFAULT_LABEL, |row| row.label),
        }
    }

    /// Destinations with a higher one are tried first.
    pub(crate) fn precedence(&self, addr: Ipv6Addr) -> u8 {
        match &self.0 {
            None => precedence(addr),
            Some(table) => row(table, addr).map_or(DEFAULT_PRECEDENCE, |row| row.precedence),
        }
    }
}

/// The row with the longest prefix of an address, whatever the link that it is of.
fn row(table: &[AddressPolicy], addr: Ipv6Addr) -> Option<&AddressPolicy> {
    let addr = zone::wire(addr);
    let matching = table.iter().filter(|row| row.prefix.contains(&addr));
    matching.max_by_key(|row| row.prefix.prefix_len())
}

const DEFAULT_PRECEDENCE: u8 = 40;
const DEFAULT_LABEL: u8 = 1;

/// The precedences of the default policy table.
fn precedence(addr: Ipv6Addr) -> u8 {
    match addr.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => 50,
        [0, 0, 0, 0, 0, 0xffff, ..] => 35,
        [0x2002, ..] => 30,
        [0x2001, 0, ..] => 5,
        [0xfc00..=0xfdff, ..] => 3,
        [0, 0, 0, 0, 0, 0, ..] | [0xfec0..=0xfeff, ..] | [0x3ffe, ..] => 1,
        _ => DEFAULT_PRECEDENCE,
    }
}

/// The labels of the default policy table: longer prefixes first.
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
        _ => DEFAULT_LABEL,
    }
}

#[cfg(test)]
pub(in crate::ip) mod tests {
    use super::*;

    /// RFC 6724 section 2.1.
    const DEFAULT: &[(&str, u8, u8)] = &[
        ("::1/128", 50, 0),
        ("::/0", 40, 1),
        ("::ffff:0:0/96", 35, 4),
        ("2002::/16", 30, 2),
        ("2001::/32", 5, 5),
        ("fc00::/7", 3, 13),
        ("::/96", 1, 3),
        ("fec0::/10", 1, 11),
        ("3ffe::/16", 1, 12),
    ];

    pub(in crate::ip) fn rows(rows: &[(&str, u8, u8)]) -> Vec<AddressPolicy> {
        let row = |(prefix, precedence, label): &(&str, u8, u8)| AddressPolicy {
            prefix: prefix.parse().expect("a prefix"),
            precedence: *precedence,
            label: *label,
        };
        rows.iter().map(row).collect()
    }

    /// The default table with other rows in the place of some, and more.
    pub(in crate::ip) fn with(changed: &[(&str, u8, u8)]) -> Policy {
        let mut table = rows(changed);
        let is_other = |row: &AddressPolicy| table.iter().all(|new| new.prefix != row.prefix);
        let rest: Vec<_> = rows(DEFAULT).into_iter().filter(is_other).collect();
        table.extend(rest);
        AddressPolicy::validate(&table).expect("a table");
        Policy::new(Some(table))
    }

    #[test]
    fn the_default_table_is_that_of_the_rfc_row_by_row() {
        let (table, built_in) = (with(&[]), Policy::default());
        let mut addresses = vec![Ipv6Addr::UNSPECIFIED, Ipv6Addr::from(u128::MAX)];
        for row in rows(DEFAULT) {
            // Both ends of each prefix, and what is next to them.
            let (first, last) = (row.prefix.network(), row.prefix.broadcast());
            for end in [first, last].map(u128::from) {
                let near = [end.wrapping_sub(1), end, end.wrapping_add(1)];
                addresses.extend(near.map(Ipv6Addr::from));
            }
        }
        addresses.extend(
            ["fe80:3::5", "ff02::1", "2001:db8::1"].map(|a| a.parse::<Ipv6Addr>().expect("one")),
        );
        for addr in addresses {
            let of = |policy: &Policy| (policy.precedence(addr), policy.label(addr));
            assert_eq!(of(&table), of(&built_in), "{addr}");
        }
    }

    #[test]
    fn the_row_with_the_longest_prefix_counts_wherever_it_stands() {
        let policy = with(&[
            ("fe80::/10", 33, 1),
            ("2001:db8::/32", 7, 9),
            ("2001:db8:1::/48", 8, 10),
        ]);
        let of = |addr: &str| {
            let addr = addr.parse().expect("an address");
            (policy.precedence(addr), policy.label(addr))
        };
        assert_eq!(of("2001:db8:1::5"), (8, 10));
        assert_eq!(of("2001:db8:2::5"), (7, 9));
        assert_eq!(of("2001:db9::5"), (40, 1));
        // The number of a link in an address is none of its own bits.
        assert_eq!(of("fe80:7::5"), (33, 1));
    }

    #[test]
    fn what_is_no_table_is_refused_and_it_is_said_why() {
        let refused = |table: &[(&str, u8, u8)]| {
            let error = AddressPolicy::validate(&rows(table)).expect_err("it is none");
            error.to_string()
        };
        assert_eq!(refused(&[]), "a policy table needs a row for ::/0");
        assert_eq!(
            refused(&[("::/0", 1, 1), ("2001:db8::1/32", 1, 1)]),
            "2001:db8::1/32 is no prefix: 2001:db8::/32 is the one it is in"
        );
        assert_eq!(
            refused(&[("::/0", 1, 1), ("fc00::/7", 1, 1), ("fc00::/7", 2, 2)]),
            "two rows of the policy table are for fc00::/7"
        );
        let mut most = rows(&[("::/0", 1, 1)]);
        for n in 1..AddressPolicy::MAX_ROWS as u16 {
            let prefix = Ipv6Net::new_assert(Ipv6Addr::from([0x2001, n, 0, 0, 0, 0, 0, 0]), 32);
            let row = AddressPolicy { prefix, ..most[0] };
            most.push(row);
        }
        assert_eq!(AddressPolicy::validate(&most), Ok(()));
        let one_more = Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128);
        most.push(AddressPolicy {
            prefix: one_more,
            ..most[0]
        });
        let error = AddressPolicy::validate(&most).expect_err("too many");
        assert_eq!(
            error.to_string(),
            "a policy table has at most 64 rows, not 65"
        );
    }
}

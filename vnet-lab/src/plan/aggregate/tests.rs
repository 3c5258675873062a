//! Routes to blocks against a route to each prefix.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::*;

fn net(text: &str) -> IpNet {
    text.parse().expect("a prefix")
}

fn of(prefixes: &[(&str, Gateway)], written: &[&str]) -> Vec<(String, u32)> {
    let mut prefixes: Vec<(IpNet, Gateway)> = prefixes.iter().map(|(p, g)| (net(p), *g)).collect();
    prefixes.sort_unstable();
    let nets: Vec<IpNet> = prefixes.iter().map(|(net, _)| *net).collect();
    let written: Vec<IpNet> = written.iter().map(|w| net(w)).collect();
    let routes = Blocks::of(&nets, &[]).routes(|n| prefixes[n].1, &written);
    routes
        .into_iter()
        .map(|(net, to)| (net.to_string(), to))
        .collect()
}

fn routes(expected: &[(&str, u32)]) -> Vec<(String, u32)> {
    expected
        .iter()
        .map(|(net, to)| ((*net).to_owned(), *to))
        .collect()
}

#[test]
fn neighbours_of_one_way_are_one_route() {
    let both = [("192.0.2.0/25", Some(1)), ("192.0.2.128/25", Some(1))];
    assert_eq!(of(&both, &[]), routes(&[("192.0.2.0/24", 1)]));
    // Three quarters are enough, less than half is not.
    let most = [("192.0.2.0/26", Some(1)), ("192.0.2.128/25", Some(1))];
    assert_eq!(of(&most, &[]), routes(&[("192.0.2.0/24", 1)]));
    let few = [("192.0.2.0/26", Some(1)), ("192.0.2.192/27", Some(1))];
    assert_eq!(
        of(&few, &[]),
        routes(&[("192.0.2.0/26", 1), ("192.0.2.192/27", 1)])
    );
    let far = [("192.0.2.0/24", Some(1)), ("198.51.100.0/24", Some(1))];
    assert_eq!(
        of(&far, &[]),
        routes(&[("192.0.2.0/24", 1), ("198.51.100.0/24", 1)])
    );
    let v6 = [
        ("2001:db8:0:2::/64", Some(1)),
        ("2001:db8:0:3::/64", Some(1)),
    ];
    assert_eq!(of(&v6, &[]), routes(&[("2001:db8:0:2::/63", 1)]));
}

#[test]
fn what_goes_elsewhere_stays_apart() {
    for other in [None, Some(2)] {
        let prefixes = [
            ("192.0.2.0/26", Some(1)),
            ("192.0.2.64/26", Some(1)),
            ("192.0.2.128/25", other),
        ];
        let mut expected = vec![("192.0.2.0/25", 1)];
        expected.extend(other.map(|to| ("192.0.2.128/25", to)));
        assert_eq!(of(&prefixes, &[]), routes(&expected));
    }
    // An address of its own inside another prefix.
    let inside = [("192.0.2.0/24", Some(1)), ("192.0.2.5/32", Some(2))];
    assert_eq!(
        of(&inside, &[]),
        routes(&[("192.0.2.0/24", 1), ("192.0.2.5/32", 2)])
    );
    let same = [("192.0.2.0/24", Some(1)), ("192.0.2.5/32", Some(1))];
    assert_eq!(of(&same, &[]), routes(&[("192.0.2.0/24", 1)]));
    // The rest of a block inside a prefix is that prefix's.
    let three = [
        ("192.0.2.0/24", Some(1)),
        ("192.0.2.4/32", Some(2)),
        ("192.0.2.6/31", Some(2)),
    ];
    let expected = [
        ("192.0.2.0/24", 1),
        ("192.0.2.4/32", 2),
        ("192.0.2.6/31", 2),
    ];
    assert_eq!(of(&three, &[]), routes(&expected));
}

#[test]
fn what_the_file_says_is_left_as_it_is() {
    let both = [("192.0.2.0/25", Some(1)), ("192.0.2.128/25", Some(1))];
    let apart = routes(&[("192.0.2.0/25", 1), ("192.0.2.128/25", 1)]);
    for written in ["0.0.0.0/0", "192.0.2.0/24", "192.0.2.7/32"] {
        assert_eq!(of(&both, &[written]), apart, "{written}");
    }
    assert_eq!(
        of(&both, &["198.51.100.0/24"]),
        routes(&[("192.0.2.0/24", 1)])
    );
}

/// Where an address is sent: the longest prefix wins.
fn longest(routes: &[(IpNet, Gateway)], to: IpAddr) -> Option<Gateway> {
    let matching = routes.iter().filter(|(net, _)| net.contains(&to));
    matching
        .max_by_key(|(net, _)| net.prefix_len())
        .map(|(_, to)| *to)
}

fn prefix() -> impl Strategy<Value = IpNet> {
    // Few bits, so that there are neighbours and prefixes in each other.
    (0_u32..256, 0_u8..=8).prop_map(|(low, len)| {
        let address = Ipv4Addr::from_bits(0xc612_0000 | low);
        IpNet::new(address.into(), 24 + len)
            .expect("in range")
            .trunc()
    })
}

proptest! {
    /// For every address: a route to each prefix and routes to blocks send it the same way, if it is in a prefix; if not, the
    /// latter send it nowhere, or as what is around it.
    #[test]
    fn no_address_in_a_prefix_changes_its_way(
        ways in prop::collection::btree_map(prefix(), prop::option::weighted(0.8, 1_u32..4), 1..40),
        local in prop::collection::vec(prefix(), 0..3),
        written in prop::collection::vec((prefix(), 7_u32..9), 0..3),
    ) {
        // A prefix that the vnet is in, or that the file has a route to, needs no other.
        let written: BTreeMap<IpNet, u32> = written.into_iter().collect();
        let ways: BTreeMap<IpNet, Gateway> = ways
            .into_iter()
            .map(|(net, to)| {
                let is_known = local.contains(&net) || written.contains_key(&net);
                (net, to.filter(|_| !is_known))
            })
            .collect();
        let nets: Vec<IpNet> = ways.keys().copied().collect();
        let files: Vec<IpNet> = written.keys().copied().collect();
        let blocks = Blocks::of(&nets, &[]).routes(|n| ways[&nets[n]], &files);
        let known: Vec<(IpNet, Gateway)> = written
            .iter()
            .map(|(net, to)| (*net, Some(*to)))
            .chain(local.iter().filter(|net| ways.contains_key(net)).map(|net| (*net, None)))
            .collect();
        let mut each: Vec<(IpNet, Gateway)> = known.clone();
        each.extend(ways.iter().filter(|(_, to)| to.is_some()).map(|(net, to)| (*net, *to)));
        let mut few = known;
        few.extend(blocks.iter().map(|(net, to)| (*net, Some(*to))));
        prop_assert!(blocks.len() <= ways.len());
        for low in 0..256 {
            let to = IpAddr::from(Ipv4Addr::from_bits(0xc612_0000 | low));
            let (before, after) = (longest(&each, to), longest(&few, to));
            let is_somebodys = nets.iter().any(|net| net.contains(&to));
            let is_written = files.iter().any(|net| net.contains(&to));
            if is_somebodys || is_written || after.is_none() {
                prop_assert_eq!(before, after, "{}", to);
                continue;
            }
            // The least block with the address and a prefix in it: all prefixes there go this way.
            let least = (0..=32)
                .rev()
                .map(|len| IpNet::new(to, len).expect("in range").trunc())
                .find(|block| nets.iter().any(|net| block.contains(net)))
                .expect("the block of everything has a prefix");
            for net in nets.iter().filter(|net| least.contains(*net)) {
                prop_assert_eq!(Some(ways[net]), after, "{} as {}", to, net);
            }
        }
    }
}

//! Shortest paths, and following them.

use std::net::IpAddr;

use proptest::prelude::*;

use crate::family::Family;
use crate::topology::{NodeKind, Topology, Via};

use super::{Plan, PlannedRoute, PlannedVnet, Unreachable};

#[path = "../../tests/in_ipv6/mod.rs"]
mod in_ipv6;

use in_ipv6::{in_both, in_ipv6};

fn plan(source: &str) -> Plan {
    match Topology::parse("t.toml", source) {
        Ok((_, plan)) => plan,
        Err(invalid) => panic!("{invalid}"),
    }
}

/// The names on the way from the vnet `from` to the first address of `to`.
fn way(plan: &Plan, from: &str, to: &str) -> Result<Vec<String>, Unreachable> {
    let number = |name: &str| {
        plan.vnets
            .iter()
            .position(|v| v.name == name)
            .expect("a node")
    };
    let address = plan.vnets[number(to)].interfaces[0].addresses[0].addr();
    let path = plan.trace(number(from), address)?;
    Ok(path
        .into_iter()
        .map(|n| plan.vnets[n].name.clone())
        .collect())
}

#[test]
fn in_the_triangle_packets_take_the_way_with_less_delay() {
    let plan = plan(crate::TRIANGLE);
    assert_eq!(
        way(&plan, "a1", "b1").expect("a way"),
        ["ra", "rc", "rb", "b1"]
    );
    assert_eq!(
        way(&plan, "b1", "a1").expect("a way"),
        ["rb", "rc", "ra", "a1"]
    );
    assert_eq!(way(&plan, "a1", "a2").expect("a way"), ["ra", "a2"]);
    let a1 = &plan.vnets[plan.vnets.iter().position(|v| v.name == "a1").expect("a1")];
    assert_eq!(
        a1.routes.len(),
        1,
        "a host with one neighbour needs one route"
    );
    assert_eq!(plan.link_name(&plan.links[5]), "ra-wan~c--rc-wan~a");
}

#[test]
fn equal_delays_are_decided_by_hops_and_then_by_the_file() {
    // a - r1 - r2 - b directly, and r1 - r3 - r2; then twice the same between r1 and r2.
    let source = "routing = 'auto'\nhosts = ['a', 'b']\nrouters = ['r1', 'r2', 'r3']\nlink = [\n\
        { ends = ['a 192.0.2.1/30', 'r1 192.0.2.2/30'] },\n\
        { ends = ['r1 192.0.2.5/30', 'r3 192.0.2.6/30'] },\n\
        { ends = ['r3 192.0.2.9/30', 'r2 192.0.2.10/30'] },\n\
        { ends = ['r1 192.0.2.13/30', 'r2 192.0.2.14/30'] },\n\
        { ends = ['r1 192.0.2.17/30', 'r2 192.0.2.18/30'] },\n\
        { ends = ['r2 192.0.2.21/30', 'b 192.0.2.22/30'] }]";
    let plan = plan(source);
    assert_eq!(way(&plan, "a", "b").expect("a way"), ["r1", "r2", "b"]);
    let to_b = plan
        .vnets
        .iter()
        .find(|v| v.name == "r1")
        .expect("r1")
        .routes
        .iter();
    let mut to_b = to_b.filter(|r| r.destination.to_string() == "192.0.2.20/30");
    let gateway = Via::Gateway("192.0.2.14".parse().expect("an address"));
    assert_eq!(to_b.next().map(|r| &r.via), Some(&gateway));
}

#[test]
fn delays_may_differ_by_direction() {
    let source = "routing = 'auto'\nhosts = ['a', 'b']\nrouters = ['r1', 'r2', 'r3']\nlink = [\n\
        { ends = ['a 192.0.2.1/30', 'r1 192.0.2.2/30'] },\n\
        { ends = ['r1 192.0.2.5/30', 'r3 192.0.2.6/30'], delay = '1ms' },\n\
        { ends = ['r3 192.0.2.9/30', 'r2 192.0.2.10/30'], delay = '1ms' },\n\
        { ends = ['r1 192.0.2.13/30', 'r2 192.0.2.14/30'], forward = { delay = '5ms' } },\n\
        { ends = ['r2 192.0.2.21/30', 'b 192.0.2.22/30'] }]";
    let plan = plan(source);
    assert_eq!(
        way(&plan, "a", "b").expect("a way"),
        ["r1", "r3", "r2", "b"]
    );
    assert_eq!(way(&plan, "b", "a").expect("a way"), ["r2", "r1", "a"]);
}

#[test]
fn a_route_in_the_file_comes_before_a_computed_one() {
    let source = "routing = 'auto'\nhosts = ['a', 'b']\n[node.r1]\nkind = 'router'\n\
        routes = ['192.0.2.20/30 via 192.0.2.14']\n[node.r2]\nkind = 'router'\n[[link]]\n\
        ends = ['a 192.0.2.1/30', 'r1 192.0.2.2/30']\n[[link]]\n\
        ends = ['r1 192.0.2.9/30', 'r2 192.0.2.10/30']\n[[link]]\n\
        ends = ['r1 192.0.2.13/30', 'r2 192.0.2.14/30']\ndelay = '5ms'\n[[link]]\n\
        ends = ['r2 192.0.2.21/30', 'b 192.0.2.22/30']";
    let plan = plan(source);
    let r1 = plan.vnets.iter().find(|v| v.name == "r1").expect("r1");
    let to_b: Vec<_> = r1
        .routes
        .iter()
        .filter(|r| r.destination.to_string() == "192.0.2.20/30")
        .collect();
    assert_eq!(to_b.len(), 1);
    assert_eq!(
        to_b[0].via,
        Via::Gateway("192.0.2.14".parse().expect("an address"))
    );
}

#[test]
fn a_route_to_a_link_needs_no_prefix_there() {
    for (to_a, ok) in [
        ("'192.0.2.1/32 dev eth0'", true),
        ("'default via 192.0.2.1 dev eth0 onlink'", true),
        ("'192.0.2.1/32 via 192.0.2.1 dev eth0'", true),
        ("", false),
    ] {
        let source = format!(
            "hosts = ['c']\n[node.a]\n\
             routes = ['203.0.113.0/24 via 198.51.100.2', '198.51.100.2/32 dev eth0']\n\
             [node.b]\nkind = 'router'\nroutes = [{to_a}]\n\
             [[link]]\nends = ['a 192.0.2.1/32', 'b 198.51.100.2/32']\n\
             [[link]]\nends = ['b 203.0.113.2/24', 'c 203.0.113.3/24']"
        );
        let plan = plan(&source);
        assert_eq!(way(&plan, "a", "b").expect("a way"), ["b"], "{to_a}");
        assert_eq!(way(&plan, "a", "c").expect("a way"), ["b", "c"], "{to_a}");
        assert_eq!(way(&plan, "b", "a").is_ok(), ok, "{to_a}");
    }
}

#[test]
fn loops_and_missing_neighbours_are_found() {
    let source = "[node.r1]\nkind = 'router'\nroutes = ['default via 192.0.2.2']\n\
        [node.r2]\nkind = 'router'\nroutes = ['default via 192.0.2.1']\n\
        [[link]]\nends = ['r1 192.0.2.1/29', 'r2 192.0.2.2/29']";
    let plan = plan(source);
    let outside = "203.0.113.1".parse().expect("an address");
    assert!(matches!(
        plan.trace(0, outside),
        Err(Unreachable::Loop { .. })
    ));
    let nobody = "192.0.2.3".parse().expect("an address");
    assert!(matches!(
        plan.trace(0, nobody),
        Err(Unreachable::NoGateway { .. })
    ));
}

/// What one router sends along with its neighbours' prefixes, another one may send back by a route of the file.
#[test]
fn what_nobody_has_goes_in_no_loop() {
    let source = |routes: &str| {
        format!(
            "routing = 'auto'\nrouters = ['r1']\nhosts = ['a', 'b']\nnode.r2 = {{ kind = 'router', routes = [{routes}] }}\n\
             link = [{{ ends = ['r1 198.51.100.1/30', 'r2 198.51.100.2/30'] }},\n\
             {{ ends = ['a 192.0.2.1/26', 'r2 192.0.2.2/26'] }}, {{ ends = ['b 192.0.2.129/25', 'r2 192.0.2.130/25'] }}]"
        )
    };
    let sent = |routes: &str| {
        let plan = plan(&source(routes));
        let r1 = plan.number("r1").expect("a node");
        let mut ways = Vec::new();
        for last in 0..=255 {
            let to = IpAddr::from([192, 0, 2, last]);
            match plan.trace(r1, to) {
                Err(Unreachable::Loop { .. }) => panic!("{to} goes around"),
                Err(Unreachable::NoRoute { at, .. }) => ways.push(at),
                Ok(_) | Err(_) => {}
            }
        }
        (ways, plan.vnets[r1].routes.len())
    };
    let at = |node: &str, ways: &[String]| ways.iter().filter(|at| *at == node).count();
    let (ways, routes) = sent("");
    assert_eq!((at("r1", &ways), at("r2", &ways), routes), (0, 64, 1));
    for written in [
        "'default via 198.51.100.1'",
        "'192.0.2.64/26 via 192.0.2.1'",
    ] {
        let (ways, routes) = sent(written);
        assert_eq!(
            (at("r1", &ways), at("r2", &ways), routes),
            (64, 0, 2),
            "{written}"
        );
    }
}

#[test]
fn hosts_behind_switches_are_neighbours_and_have_one_router() {
    let source = "routing = 'auto'\nhosts = ['a', 'b', 'c']\nrouters = ['r']\n\
        switches = ['s', 't']\nhubs = ['u']\nlink = [\n\
        { ends = ['a 192.0.2.1/24', 's'] }, { ends = ['t', 'b 192.0.2.2/24'] },\n\
        { ends = ['s', 't'] }, { ends = ['t:up', 'r 192.0.2.254/24'] },\n\
        { ends = ['r 198.51.100.254/24', 'u'] }, { ends = ['c 198.51.100.1/24', 'u'] }]";
    let plan = plan(source);
    assert_eq!(way(&plan, "a", "b").expect("a way"), ["b"]);
    assert_eq!(way(&plan, "a", "c").expect("a way"), ["r", "c"]);
    assert_eq!(way(&plan, "c", "b").expect("a way"), ["r", "b"]);
    let routes = |name: &str| {
        let vnet = plan.vnets.iter().find(|v| v.name == name);
        &vnet.expect("a node").routes
    };
    assert_eq!(routes("a").len(), 1);
    assert_eq!(routes("a")[0].destination.prefix_len(), 0);
    assert!(routes("s").is_empty() && routes("r").is_empty());
}

#[test]
fn a_host_behind_a_switch_with_two_routers_takes_the_nearer_one() {
    let source = "routing = 'auto'\nhosts = ['a', 'b']\nrouters = ['r1', 'r2']\nswitches = ['s']\nlink = [\n\
        { ends = ['a 192.0.2.1/24', 's'] },\n\
        { ends = ['r1 192.0.2.2/24', 's'], delay = '5ms' }, { ends = ['r2 192.0.2.3/24', 's'] },\n\
        { ends = ['r1 198.51.100.1/30', 'b 198.51.100.2/30'] },\n\
        { ends = ['r2 198.51.100.5/30', 'b 198.51.100.6/30'], delay = '6ms' }]";
    let plan = plan(source);
    assert_eq!(way(&plan, "a", "b").expect("a way"), ["r1", "b"]);
    let far = "198.51.100.6".parse().expect("an address");
    assert_eq!(plan.trace(0, far).expect("a way").len(), 2, "over r2");
}

#[test]
fn stations_of_other_prefixes_behind_one_switch_are_no_neighbours() {
    let source = "routing = 'auto'\nhosts = ['a', 'b', 'c', 'd']\nswitches = ['s']\nlink = [\n\
        { ends = ['a 192.0.2.1/24', 's'] }, { ends = ['b 192.0.2.2/24', 's'] },\n\
        { ends = ['c 198.51.100.1/24', 's'] }, { ends = ['d 198.51.100.2/24', 's'] }]";
    let plan = plan(source);
    assert_eq!(way(&plan, "a", "b").expect("a way"), ["b"]);
    assert!(matches!(
        way(&plan, "a", "c"),
        Err(Unreachable::NoRoute { .. })
    ));
}

#[test]
fn an_address_of_its_own_is_reached_at_a_host_with_one_link() {
    let source = "routing = 'auto'\nhosts = ['a', 'b']\nrouters = ['r1', 'r2']\nlink = [\n\
        { ends = ['a 192.0.2.1/30', 'r1 192.0.2.2/30'] },\n\
        { ends = ['r1 192.0.2.5/30', 'r2 192.0.2.6/30'] },\n\
        { ends = ['r2 192.0.2.9/30', { node = 'b', \
          addresses = ['192.0.2.10/30', '203.0.113.1/32'] }] }]";
    let plan = plan(source);
    let own = "203.0.113.1".parse().expect("an address");
    assert_eq!(plan.trace(0, own).expect("a way"), [2, 3, 1]);
    let b = &plan.vnets[1];
    assert_eq!(b.routes.len(), 1, "it has a default route all the same");
}

/// A random network of routers with a host at each, as TOML.
fn network(delays: &[(usize, usize, u64)], routers: usize) -> String {
    let names = |letter: char| -> String {
        let names: Vec<String> = (0..routers).map(|n| format!("'{letter}{n}'")).collect();
        names.join(", ")
    };
    let mut text = format!(
        "routing = 'auto'\nhosts = [{}]\nrouters = [{}]\n",
        names('h'),
        names('r')
    );
    for n in 0..routers {
        text += &format!("[[link]]\nends = ['h{n} 192.0.{n}.1/30', 'r{n}:lan 192.0.{n}.2/30']\n");
    }
    for (k, (a, b, delay)) in delays.iter().enumerate() {
        text += &format!(
            "[[link]]\nends = ['r{a} 198.18.{k}.1/30', 'r{b} 198.18.{k}.2/30']\ndelay = '{delay}ms'\n"
        );
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Following the routes costs what Floyd and Warshall say is the least, or there is no way.
    #[test]
    fn paths_are_shortest(
        delays in prop::collection::vec((0usize..6, 0usize..6, 1u64..9), 0..12),
    ) {
        let delays: Vec<_> = delays.into_iter().filter(|(a, b, _)| a != b).collect();
        let mut least = [[u64::MAX; 6]; 6];
        least.iter_mut().enumerate().for_each(|(n, row)| row[n] = 0);
        for &(a, b, delay) in &delays {
            least[a][b] = least[a][b].min(delay);
            least[b][a] = least[b][a].min(delay);
        }
        for k in 0..6 {
            for a in 0..6 {
                for b in 0..6 {
                    let over = least[a][k].saturating_add(least[k][b]);
                    least[a][b] = least[a][b].min(over);
                }
            }
        }
        // A router needs a link; each has its host.
        let text = network(&delays, 6);
        for text in [in_ipv6(&text), text] {
            let plan = plan(&text);
            for (a, row) in least.iter().enumerate() {
                for b in (0..6).filter(|b| *b != a) {
                    let path = way(&plan, &format!("h{a}"), &format!("h{b}"));
                    let Ok(path) = path else {
                        prop_assert_eq!(row[b], u64::MAX);
                        continue;
                    };
                    let routers: Vec<usize> = path[..path.len() - 1]
                        .iter()
                        .map(|name| name[1..].parse().expect("r and a number"))
                        .collect();
                    let step = |a: usize, b: usize| {
                        let fits = |d: &&(usize, usize, u64)| (d.0, d.1) == (a, b) || (d.0, d.1) == (b, a);
                        delays.iter().filter(fits).map(|d| d.2).min().expect("a link")
                    };
                    let cost: u64 = routers.windows(2).map(|w| step(w[0], w[1])).sum();
                    prop_assert_eq!(cost, row[b]);
                    prop_assert!(plan.vnets.iter().filter(|v| v.kind == NodeKind::Host).all(|v| v.routes.len() <= 1));
                }
            }
        }
    }
}

/// Routers with a host each, joined by switches: each LAN has some routers with a delay to the
/// switch, and may be of two switches in a row.
fn lans(lans: &[Vec<(usize, u64)>], routers: usize) -> String {
    let mut text = network(&[], routers);
    let names: Vec<String> = (0..lans.len()).map(|k| format!("'s{k}', 't{k}'")).collect();
    text = format!("switches = [{}]\n{text}", names.join(", "));
    for (k, lan) in lans.iter().enumerate() {
        text += &format!("[[link]]\nends = ['s{k}', 't{k}']\n");
        for (n, (router, delay)) in lan.iter().enumerate() {
            let switch = if n % 2 == 0 { 's' } else { 't' };
            text += &format!(
                "[[link]]\nends = ['r{router} 198.18.{k}.{}/24', '{switch}{k}']\ndelay = '{delay}ms'\n",
                router + 1
            );
        }
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The same over LANs: what it costs to cross one is both delays to its switches.
    #[test]
    fn paths_over_switches_are_shortest(
        drawn in prop::collection::vec(prop::collection::btree_map(0usize..6, 0u64..9, 2..5), 0..5),
    ) {
        let drawn: Vec<Vec<(usize, u64)>> =
            drawn.into_iter().map(|lan| lan.into_iter().collect()).collect();
        let step = |a: usize, b: usize| {
            let cost = |lan: &Vec<(usize, u64)>| {
                let at = |n| lan.iter().find(|(router, _)| *router == n).map(|(_, delay)| *delay);
                Some(at(a)? + at(b)?)
            };
            drawn.iter().filter_map(cost).min().unwrap_or(u64::MAX)
        };
        let mut least = [[0; 6]; 6];
        for (a, row) in least.iter_mut().enumerate() {
            for (b, cost) in row.iter_mut().enumerate() {
                *cost = if a == b { 0 } else { step(a, b) };
            }
        }
        for k in 0..6 {
            for a in 0..6 {
                for b in 0..6 {
                    let over = least[a][k].saturating_add(least[k][b]);
                    least[a][b] = least[a][b].min(over);
                }
            }
        }
        let text = lans(&drawn, 6);
        for text in [in_ipv6(&text), text] {
            let plan = plan(&text);
            for (a, row) in least.iter().enumerate() {
                for b in (0..6).filter(|b| *b != a) {
                    let path = way(&plan, &format!("h{a}"), &format!("h{b}"));
                    let Ok(path) = path else {
                        prop_assert_eq!(row[b], u64::MAX);
                        continue;
                    };
                    let routers: Vec<usize> = path[..path.len() - 1]
                        .iter()
                        .map(|name| name[1..].parse().expect("r and a number"))
                        .collect();
                    let cost: u64 = routers.windows(2).map(|w| step(w[0], w[1])).sum();
                    prop_assert_eq!(cost, row[b]);
                }
            }
        }
    }
}

/// Each family takes its own way: here the shorter one has a router that speaks IPv4 only.
#[test]
fn each_family_has_its_own_shortest_paths() {
    let source = "routing = 'auto'\nhosts = ['a', 'b']\nrouters = ['r1', 'old', 'r2']\nlink = [\n\
        { ends = ['a 192.0.2.1/30 2001:db8::1/64', 'r1 192.0.2.2/30 2001:db8::2/64'] },\n\
        { ends = ['r1 192.0.2.5/30', 'old 192.0.2.6/30'] },\n\
        { ends = ['old 192.0.2.9/30', 'r2 192.0.2.10/30'] },\n\
        { ends = ['r1 192.0.2.13/30 2001:db8:0:1::1/64', 'r2 192.0.2.14/30 2001:db8:0:1::2/64'], delay = '1ms' },\n\
        { ends = ['r2 192.0.2.17/30 2001:db8:0:2::1/64', 'b 192.0.2.18/30 2001:db8:0:2::2/64'] }]";
    let plan = plan(source);
    let names = |to: &str| -> Vec<String> {
        let way = plan.trace(0, to.parse().expect("an address"));
        let way = way.expect("a way").into_iter();
        way.map(|n| plan.vnets[n].name.clone()).collect()
    };
    assert_eq!(names("192.0.2.18"), ["r1", "old", "r2", "b"]);
    assert_eq!(names("2001:db8:0:2::2"), ["r1", "r2", "b"]);
    let routes = |n: usize| -> Vec<String> {
        let routes = plan.vnets[n].routes.iter();
        routes
            .map(|route| format!("{} {:?}", route.destination, route.via))
            .collect()
    };
    assert_eq!(
        routes(0),
        ["0.0.0.0/0 Gateway(192.0.2.2)", "::/0 Gateway(2001:db8::2)"]
    );
    assert!(
        !routes(3)
            .iter()
            .any(|route| route.contains(':') && !route.contains("2001"))
    );
}

/// Nothing that is planned of one family is different where the other is, too.
#[test]
fn beside_another_family_the_plan_of_each_is_the_same() {
    let text = network(&[(0, 1, 3), (1, 2, 1), (2, 0, 1)], 3);
    let routes = |text: &str, family: Family| -> Vec<Vec<PlannedRoute>> {
        let of = |route: &&PlannedRoute| Family::of(route.destination.addr()) == family;
        let of_vnet = |v: &PlannedVnet| v.routes.iter().filter(of).cloned().collect();
        plan(text).vnets.iter().map(of_vnet).collect()
    };
    let (v6, both) = (in_ipv6(&text), in_both(&text));
    assert_eq!(routes(&text, Family::V4), routes(&both, Family::V4));
    assert_eq!(routes(&v6, Family::V6), routes(&both, Family::V6));
    assert!(
        routes(&text, Family::V4)
            .iter()
            .any(|routes| !routes.is_empty())
    );
}

/// A node that is named stands for its first address of a family that the other one speaks.
#[test]
fn a_name_means_an_address_that_the_other_side_can_use() {
    let source = "routing = 'auto'\nhosts = ['a4', 'a6', 'b']\nswitches = ['s']\nlink = [\n\
        { ends = ['a4 192.0.2.1/24', 's'] }, { ends = ['a6 2001:db8::1/64', 's'] },\n\
        { ends = ['b fe80::2/64 192.0.2.2/24 2001:db8::2/64', 's'] }]\n\
        job = [{ ping = { from = 'a4', to = 'b' } }, { ping = { from = 'a6', to = 'b' } },\n\
        { ping = { from = 'b', to = 'a6' } }, { ping = { from = 'b', to = 'b:eth0', family = 'v6' } }]";
    let plan = plan(source);
    let to: Vec<String> = plan
        .jobs
        .iter()
        .map(|job| job.address.to_string())
        .collect();
    assert_eq!(
        to,
        ["192.0.2.2", "2001:db8::2", "2001:db8::1", "2001:db8::2"]
    );
    assert_eq!(plan.jobs[3].name, "ping b → b:eth0 over IPv6");
}

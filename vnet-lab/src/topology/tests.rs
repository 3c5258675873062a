//! Each error a topology file can have, with the exact place and words.

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::Problem;
use crate::job::ping::Ping;
use crate::job::throughput::Throughput;
use vnet::link::Loss;

/// Every problem as `line:column: message`.
fn errors(source: &str) -> Vec<String> {
    let Err(invalid) = Topology::parse("t.toml", source) else {
        return Vec::new();
    };
    let shown = |p: &Problem| format!("{}:{}: {}", p.line, p.column, p.message);
    invalid.problems.iter().map(shown).collect()
}

#[track_caller]
fn only(source: &str, expected: &str) {
    assert_eq!(errors(source), [expected]);
}

/// Two hosts and whatever else is said of the link between them.
fn link(more: &str) -> String {
    format!("hosts = ['a', 'b']\n[[link]]\nends = ['a 192.0.2.1/30', 'b 192.0.2.2/30']\n{more}\n")
}

/// Two linked hosts and a job.
fn job(more: &str) -> String {
    link(&format!("[[job]]\n{more}"))
}

#[test]
fn the_built_in_topology_is_valid() {
    let (topology, plan) = Topology::parse("triangle.toml", crate::TRIANGLE).expect("valid");
    assert_eq!((topology.nodes.len(), topology.links.len()), (7, 7));
    assert_eq!(plan.jobs.len(), topology.jobs.len());
}

#[test]
fn the_short_and_the_long_form_mean_the_same() {
    let short = "routing = 'auto'\nhosts = ['h1']\nrouters = ['r1']\n\
        link = [{ ends = ['h1 192.0.2.1/24', 'r1:lan 192.0.2.254/24'], rate = '1Mbit', delay = '5ms' }]";
    let long = "routing = 'auto'\n[node.h1]\n[node.r1]\nkind = 'router'\n[[link]]\nrate = '2Mbit/s'\n\
        ends = [{ node = 'h1', address = '192.0.2.1/24' },\n\
        { node = 'r1', interface = 'lan', addresses = ['192.0.2.254/24'] }]\n\
        forward = { rate = '1Mbit/s', delay = '5ms' }\nbackward = { rate = '1Mbit/s', delay = '5ms' }";
    let shape = |source: &str| {
        let (t, _) = Topology::parse("t.toml", source).expect("valid");
        let mut nodes: Vec<_> = t
            .nodes
            .iter()
            .map(|n| (n.name.get_ref().clone(), n.kind))
            .collect();
        nodes.sort_by(|a, b| a.0.cmp(&b.0));
        let ends = t.links[0].ends.clone().map(|e| {
            let addresses: Vec<_> = e.addresses.into_iter().map(Spanned::into_inner).collect();
            (e.node.into_inner(), e.interface.into_inner(), addresses)
        });
        format!(
            "{nodes:?} {ends:?} {:?} {:?}",
            t.links[0].forward, t.links[0].backward
        )
    };
    assert_eq!(shape(short), shape(long));
}

#[test]
fn everything_that_can_be_said_is_read() {
    let source = "hosts = ['a', 'b']\n[[link]]\nends = [\n\
        { node = 'a', interface = 'x', addresses = ['192.0.2.1/30', '192.0.2.9/32'], mac = '02:00:00:00:00:09', ip_mtu = 1400 },\n\
        { node = 'b', address = '192.0.2.2/30' }]\nloss = '1%'\nqueue = 7\nbackward = { loss = '0%' }\n\
        [[job]]\nname = 'p'\nstart = '1s'\ntimeout = '2s'\n\
        ping = { from = 'b', to = 'a:x', count = 1, interval = '1ms', wait = '2ms', bytes = 3, dont_fragment = true, max_loss = '50%' }\n\
        [[job]]\ntraceroute = { from = 'a', to = '192.0.2.2', expect = ['b'], max_hops = 4, tries = 1, wait = '5ms' }\n\
        [[job]]\nthroughput = { from = 'a', to = 'b', seconds = 0.25, port = 5001, min_rate = '1kbit/s' }\n";
    let (t, plan) = Topology::parse("t.toml", source).expect("valid");
    let end = &t.links[0].ends[0];
    assert_eq!(
        end.mac.as_ref().map(|m| m.get_ref().to_string()).as_deref(),
        Some("02:00:00:00:00:09")
    );
    assert_eq!((end.ip_mtu, end.addresses.len()), (Some(1400), 2));
    assert_eq!(
        (&t.links[0].forward.loss, &t.links[0].backward.loss),
        (&Loss::Random(0.01), &Loss::None)
    );
    assert_eq!(t.links[0].backward.queue.limit_frames, 7);
    assert_eq!(t.jobs[0].name, "p");
    assert_eq!(t.jobs[0].start, Some(Duration::from_secs(1)));
    assert_eq!(t.jobs[0].timeout, Duration::from_secs(2));
    let ping = Task::Ping(Ping {
        count: 1,
        interval: Duration::from_millis(1),
        wait: Duration::from_millis(2),
        bytes: 3,
        dont_fragment: true,
        max_loss: Some(0.5),
        max_rtt: None,
    });
    assert_eq!(t.jobs[0].task, ping);
    assert_eq!(t.jobs[1].name, "traceroute a → 192.0.2.2");
    let throughput = Task::Throughput(Throughput {
        time: Duration::from_millis(250),
        port: 5001,
        min_rate_bps: Some(1000),
    });
    assert_eq!(t.jobs[2].task, throughput);
    assert_eq!(plan.jobs[0].address.to_string(), "192.0.2.1");
}

#[test]
fn not_toml() {
    only(
        "hosts = ['a'\n",
        "1:13: not TOML: unclosed array, expected `]`",
    );
    only(
        "hosts = [\"a\",\nx y",
        "2:1: not TOML: string values must be quoted, expected literal string",
    );
}

#[test]
fn not_readable() {
    let invalid = Topology::from_file(Path::new("/nonexistent/t.toml")).expect_err("no file");
    assert!(
        invalid
            .to_string()
            .starts_with("/nonexistent/t.toml: cannot read the file: ")
    );
}

#[test]
fn unknown_key() {
    only(
        "hosts = ['a']\nhsots = ['b']",
        "2:1: unknown key `hsots` in the topology: expected one of name, routing, stp, lldp, hosts, routers, switches, hubs, node, link, attach, event, capture, job",
    );
    only(
        "[node.a]\nkind = 'host'\n  ip = 1",
        "3:3: unknown key `ip` in node `a`: expected one of kind, stp, stp_priority, lldp, snooping, tags, fdb, sysctl, address_policy, dns, routes",
    );
    only(
        &link("speed = '1Mbit'"),
        "4:1: unknown key `speed` in link: expected one of ends, name, capture, lagg, state, rate, overhead, delay, jitter, loss, duplicate, reorder, corrupt, corrupt_undetected, queue, forward, backward",
    );
    only(
        &link("forward = { speed = 5 }"),
        "4:13: unknown key `speed` in `forward`: expected one of state, rate, overhead, delay, jitter, loss, duplicate, reorder, corrupt, corrupt_undetected, queue",
    );
    only(
        &job("ping = { from = 'a', to = 'b', seconds = 5 }"),
        "5:32: unknown key `seconds` in `ping`: expected one of from, to, family, count, interval, wait, bytes, dont_fragment, max_loss, max_rtt",
    );
    only(
        "hosts = ['a', 'b']\n[[link]]\nends = ['a 192.0.2.1/30', { node = 'b', address = '192.0.2.2/30', mtu = 5 }]",
        "3:67: unknown key `mtu` in link end: expected one of node, interface, address, addresses, anycast, mac, ip_mtu, advertise, vlan, access, trunk, native, tunnel, vids, learn, discover, private, broadcast, multicast, router, sticky, span, max_stations, max_stations_per_vlan, storm, stp, stations, lacp",
    );
}

#[test]
fn wrong_type() {
    only(
        "name = 5\nhosts = ['a']",
        "1:8: expected a string for `name`, found an integer",
    );
    only(
        "hosts = 'a'",
        "1:9: expected an array for `hosts`, found a string",
    );
    only(
        "hosts = ['a', 5]",
        "1:15: expected a string for each of `hosts`, found an integer",
    );
    only(
        "hosts = ['a']\nlink = [true]",
        "2:9: expected a table for link, found a boolean",
    );
    only(
        "node = 5",
        "1:8: expected tables [node.NAME], found an integer",
    );
    only(
        &link("queue = 0"),
        "4:9: expected an integer from 1 to 1000000 for `queue`",
    );
    only(
        &link("forward = 5"),
        "4:11: expected a table for `forward`, found an integer",
    );
    only(
        "hosts = ['a']\n[[link]]\nends = ['a 192.0.2.1/30']",
        "3:8: expected an array of two ends for `ends`",
    );
}

#[test]
fn unknown_word() {
    only(
        "hosts = ['a']\nrouting = 'rip'",
        "2:11: expected \"static\" or \"auto\", found \"rip\"",
    );
    only(
        "[node.a]\nkind = 'bridge'",
        "2:8: expected \"host\", \"router\", \"switch\" or \"hub\", found \"bridge\"",
    );
}

#[test]
fn no_nodes() {
    only(
        "",
        "1:1: expected at least one node in `hosts`, `routers`, `switches`, `hubs` or a table [node.NAME]",
    );
    only(
        "hosts = []",
        "1:1: expected at least one node in `hosts`, `routers`, `switches`, `hubs` or a table [node.NAME]",
    );
}

#[test]
fn bad_name() {
    only(
        "hosts = ['a b']",
        "1:10: expected a node name of at most 63 letters, digits, '-' and '_', found \"a b\"",
    );
    only(
        "hosts = ['a', 'b']\n[[link]]\nends = ['a:../etc 192.0.2.1/30', 'b 192.0.2.2/30']",
        "3:12: expected an interface name of at most 15 letters, digits, '-', '_' and '.', found \"../etc\"",
    );
}

#[test]
fn duplicate_name() {
    only(
        "hosts = ['a', 'a']",
        "1:15: duplicate name: there already is a node `a`",
    );
    only(
        "hosts = ['a']\n[node.a]",
        "2:7: duplicate name: there already is a node `a`",
    );
    only(
        "[node.a]\n[node.a]",
        "2:7: duplicate name: `a` is already there",
    );
    only(
        "hosts = ['a', 'b']\n[[link]]\nends = ['a:e 192.0.2.1/30', 'b 192.0.2.2/30']\n\
         [[link]]\nends = ['a:e 192.0.2.5/30', 'b 192.0.2.6/30']",
        "5:12: duplicate name: `a` already has an interface `e`",
    );
    only(
        "hosts = ['a', 'b']\n[[link]]\nends = [{ node = 'a', address = '192.0.2.1/30', mac = '02:00:00:00:00:01' },\n\
         { node = 'b', address = '192.0.2.2/30', mac = '02:00:00:00:00:01' }]",
        "4:47: duplicate MAC address: 02:00:00:00:00:01 is already at a:eth0",
    );
}

#[test]
fn overlapping_address() {
    only(
        "hosts = ['a', 'b', 'c']\n[[link]]\nends = ['a 192.0.2.1/24', 'b 192.0.2.2/24']\n\
         [[link]]\nends = ['b 192.0.2.129/30', 'c 192.0.2.130/30']",
        "5:12: overlapping address: 192.0.2.128/30 overlaps 192.0.2.0/24 of the link at a:eth0",
    );
    // The wider one may come second.
    only(
        "hosts = ['a', 'b', 'c']\n[[link]]\nends = ['b 192.0.2.129/30', 'c 192.0.2.130/30']\n\
         [[link]]\nends = ['a 192.0.2.1/24', 'b 192.0.2.2/24']",
        "5:12: overlapping address: 192.0.2.0/24 overlaps 192.0.2.128/30 of the link at b:eth0",
    );
}

#[test]
fn duplicate_address() {
    only(
        "hosts = ['a', 'b']\n[[link]]\nends = ['a 192.0.2.1/30', 'b 192.0.2.1/30']",
        "3:30: duplicate address: 192.0.2.1 is already at a:eth0",
    );
}

#[test]
fn link_to_nowhere() {
    assert_eq!(
        errors("[[link]]\nends = ['a 192.0.2.1/30', 'b 192.0.2.2/30']"),
        [
            "1:1: expected at least one node in `hosts`, `routers`, `switches`, `hubs` or a table [node.NAME]",
            "2:10: link to nowhere: there is no node `a`: the topology has no nodes",
            "2:28: link to nowhere: there is no node `b`: the topology has no nodes",
        ]
    );
    only(
        "hosts = ['a', 'b']\n[[link]]\nends = ['a 192.0.2.1/30', 'c:eth0 192.0.2.2/30']",
        "3:28: link to nowhere: there is no node `c`: expected one of a, b",
    );
    only(
        "hosts = ['a', 'b']\n[[link]]\nends = ['a 192.0.2.1/30', 'a 192.0.2.2/30']",
        "3:28: both ends of the link are at `a`: expected another node",
    );
    only(
        "hosts = ['a']\n[[link]]\nrate = '1Mbit'",
        "2:1: link needs `ends`: expected an array of two ends",
    );
    only(
        "hosts = ['a']\n[[link]]\nends = ['a 192.0.2.1/30', '']",
        "3:27: expected an end such as \"h1:eth0 192.0.2.1/24\" or \
         { node = \"h1\", address = \"192.0.2.1/24\" }, found nothing",
    );
    only(
        "hosts = ['a', 'b']\n[[link]]\nends = ['a 192.0.2.1/30', { address = '192.0.2.2/30' }]",
        "3:27: link end needs `node`: expected the name of a node",
    );
}

#[test]
fn address_outside_its_prefix() {
    only(
        "hosts = ['a', 'b']\n[[link]]\nends = ['a 192.0.2.1/24', 'b 198.51.100.1/24']",
        "3:30: address outside its prefix: 198.51.100.1/24 is not in 192.0.2.0/24 as the other end at `a` is",
    );
    only(
        "hosts = ['a', 'b']\n[[link]]\nends = ['a 192.0.2.1/24', 'b 192.0.2.2/25']",
        "3:30: address outside its prefix: 192.0.2.2/25 is not in 192.0.2.0/24 as the other end at `a` is",
    );
    only(
        "hosts = ['a', 'b']\n[[link]]\nends = ['a 192.0.2.1/24 198.51.100.1/24', 'b 192.0.2.2/24']",
        "3:25: address outside its prefix: 198.51.100.1/24 is not in 192.0.2.0/24 as the other end at `b` is",
    );
}

#[test]
fn not_a_stations_address() {
    let end =
        |net: &str| format!("hosts = ['a', 'b']\n[[link]]\nends = ['a {net}', 'b 192.0.2.2/24']");
    only(
        &end("192.0.2.0/24"),
        "3:12: 192.0.2.0 is the network's own address in 192.0.2.0/24: expected that of an interface",
    );
    only(
        &end("192.0.2.255/24"),
        "3:12: 192.0.2.255 is the broadcast address in 192.0.2.255/24: expected that of an interface",
    );
    for bad in [
        "224.0.0.1/24",
        "127.0.0.1/8",
        "0.0.0.0/32",
        "0.1.2.3/8",
        "240.0.0.1/8",
        "192.0.2.1/0",
    ] {
        only(
            &end(bad),
            &format!("3:12: expected an address that an interface can have, found {bad}"),
        );
    }
    for bad in [
        "192.0.2.1",
        "192.0.2.1/33",
        "192.0.2.256/24",
        "2001:db8::1/129",
    ] {
        only(
            &end(bad),
            &format!(
                "3:12: expected an address with its prefix length such as 192.0.2.1/24, found \"{bad}\""
            ),
        );
    }
    only(
        "hosts = ['a', 'b']\n[[link]]\nends = ['a', 'b 192.0.2.2/24']",
        "3:10: this end at `a` has no address: expected one such as 192.0.2.1/24",
    );
    // RFC 3021: a /31 has neither.
    assert_eq!(
        errors("hosts = ['a', 'b']\n[[link]]\nends = ['a 192.0.2.0/31', 'b 192.0.2.1/31']"),
        [""; 0]
    );
}

#[test]
fn bad_unit() {
    only(
        &link("rate = '100MB/s'"),
        "4:8: expected a rate such as \"100Mbit/s\" (in bit/s, kbit/s, Mbit/s or Gbit/s; a whole number of bit/s), found \"100MB/s\"",
    );
    only(
        &link("delay = '5'"),
        "4:9: expected a time such as \"5ms\" (in ns, us, ms, s or min; a whole number of ns), found \"5\"",
    );
    only(
        &link("backward = { loss = '101%' }"),
        "4:21: expected a percentage from \"0%\" to \"100%\", found \"101%\"",
    );
    only(
        &job("transfer = { from = 'a', to = 'b', size = '1M' }"),
        "5:43: expected a size such as \"1MiB\" (in B, kB, MB, GB, KiB, MiB or GiB; a whole number of bytes), found \"1M\"",
    );
    only(
        &job("throughput = { from = 'a', to = 'b', seconds = 0 }"),
        "5:48: expected a positive number of seconds for `seconds`, found 0",
    );
    only(
        &job("throughput = { from = 'a', to = 'b', seconds = '2s' }"),
        "5:48: expected a number of seconds for `seconds`, found a string",
    );
    only(
        &job("timeout = '0s'\nping = { from = 'a', to = 'b' }"),
        "5:11: expected a time longer than zero, found \"0s\"",
    );
    only(
        "hosts = ['a', 'b']\n[[link]]\nends = ['a 192.0.2.1/30', { node = 'b', address = '192.0.2.2/30', mac = '01:00:5e:00:00:01' }]",
        "3:73: expected a unicast MAC address, found 01:00:5e:00:00:01",
    );
}

#[test]
fn bad_job() {
    let kinds = crate::job::KINDS.map(|(key, _)| key).join(", ");
    only(
        &job("name = 'x'"),
        &format!("4:1: expected exactly one of {kinds} in a job"),
    );
    only(
        &job("ping = { from = 'a', to = 'b' }\ntransfer = { from = 'a', to = 'b', size = '1B' }"),
        &format!("6:1: expected exactly one of {kinds} in a job"),
    );
    only(
        &job("ping = { from = 'a' }"),
        "5:8: `ping` needs `to`: expected the name of a node",
    );
    only(
        &job("ping = { from = 'x', to = 'b' }"),
        "5:17: there is no node `x`: expected one of a, b",
    );
    only(
        &job("ping = { from = 'a', to = 'x' }"),
        "5:27: there is no node `x`: expected one of a, b",
    );
    only(
        &job("ping = { from = 'a', to = 'b:eth7' }"),
        "5:27: `b` has no interface `eth7`",
    );
    only(
        &job("ping = { from = 'a', to = '192.0.2.3' }"),
        "5:27: expected an address of a node, found 192.0.2.3",
    );
    only(
        &job("traceroute = { from = 'a', to = 'b', expect = ['b', 'x'] }"),
        "5:53: there is no node `x`: expected one of a, b",
    );
    only(
        &job("transfer = { from = 'a', to = 'b' }"),
        "5:12: `transfer` needs `size`: expected a `size` such as \"1MiB\", or a `file`",
    );
    only(
        &job("transfer = { from = 'a', to = 'b', size = '1B', file = 'x' }"),
        "5:49: expected either `size` or `file`, found both",
    );
    only(
        &job("transfer = { from = 'a', to = 'b', file = 'no/such' }"),
        "5:43: expected a file at no/such: No such file or directory (os error 2)",
    );
    only(
        &job("transfer = { from = 'a', to = 'b', file = '/' }"),
        "5:43: expected a file at /: it is a directory",
    );
    let twice = format!(
        "{}\n[[job]]\ntransfer = {{ from = 'b', to = 'a', file = '-' }}",
        job("transfer = { from = 'a', to = 'b', file = '-' }")
    );
    only(
        &twice,
        "8:43: standard input is sent by another job already: expected a file",
    );
}

#[test]
fn unreachable_destination() {
    let two_links = "hosts = ['a', 'c']\n[node.b]\nkind = 'router'\nroutes = []\n\
        [[link]]\nends = ['a 192.0.2.1/30', 'b 192.0.2.2/30']\n\
        [[link]]\nends = ['b 192.0.2.5/30', 'c 192.0.2.6/30']\n\
        [[job]]\nping = { from = 'a', to = 'c' }";
    only(
        two_links,
        "10:27: c is unreachable from a: a has no route to 192.0.2.6",
    );
    let there = two_links.replace(
        "hosts = ['a', 'c']",
        "hosts = ['c']\n[node.a]\nroutes = ['default via 192.0.2.2']",
    );
    only(
        &there,
        "12:27: c is unreachable from a: c has no route to 192.0.2.1",
    );
    let lone = "hosts = ['a', 'b', 'c']\n[[link]]\nends = ['a 192.0.2.1/30', 'b 192.0.2.2/30']\n\
        [[job]]\nping = { from = 'a', to = 'c' }";
    only(lone, "5:27: unreachable: `c` has no address");
    // A host in the middle does not forward.
    let host = two_links
        .replace("kind = 'router'", "kind = 'host'")
        .replace("hosts", "routing = 'auto'\nhosts");
    only(
        &host,
        "11:27: c is unreachable from a: a has no route to 192.0.2.6",
    );
}

#[test]
fn routes_have_kinds_and_metrics() {
    let links = "[node.b]\n[[link]]\nends = ['a 192.0.2.1/30', 'b 192.0.2.2/30']";
    let routes = |routes: &str| format!("[node.a]\nroutes = [{routes}]\n{links}");
    let source = routes(
        "'blackhole 203.0.113.0/24', 'prohibit 2001:db8:f::/48 metric 7', \
         'default via 192.0.2.2 metric 20', 'default dev eth0 metric 10', '192.0.2.0/30 dev eth0 metric 1'",
    );
    assert_eq!(errors(&source), [""; 0]);
    let (topology, _) = Topology::parse("t.toml", &source).expect("it is sound");
    let a = topology
        .nodes
        .iter()
        .find(|node| node.name.get_ref() == "a");
    let read: Vec<_> = a
        .expect("it is there")
        .routes
        .iter()
        .map(|r| r.get_ref())
        .collect();
    assert_eq!(read[0].via, Via::Nowhere(vnet::RouteKind::Blackhole));
    assert_eq!(
        (&read[1].via, read[1].metric),
        (&Via::Nowhere(vnet::RouteKind::Prohibit), 7)
    );
    assert_eq!(read[2].metric, 20);
    let job = "\n[[job]]\nping = { from = 'a', to = '192.0.2.2' }";
    only(
        &(routes("'unreachable 192.0.2.2/32'") + job),
        "7:27: 192.0.2.2 is unreachable from a: the route of a to 192.0.2.2 leads nowhere: unreachable",
    );
    only(
        &routes("'default dev eth0 metric 1', 'blackhole 0.0.0.0/0 metric 1'"),
        "2:40: duplicate route: `a` already has one to 0.0.0.0/0",
    );
}

#[test]
fn bad_route() {
    let routes = |routes: &str| {
        format!(
            "[node.a]\nroutes = [{routes}]\n[node.b]\n[[link]]\nends = ['a 192.0.2.1/30', 'b 192.0.2.2/30']"
        )
    };
    only(
        &routes("'default 192.0.2.2'"),
        "2:11: expected a route such as \"default via 192.0.2.254\" or \
         \"198.51.100.0/24 dev eth0\", found \"default 192.0.2.2\"",
    );
    only(
        &routes("'198.51.100.1/24 via 192.0.2.2'"),
        "2:11: 198.51.100.1/24 has bits set behind its prefix: expected 198.51.100.0/24",
    );
    only(
        &routes("'default via 192.0.2.9'"),
        "2:11: expected a gateway on a link of `a`, found 192.0.2.9",
    );
    only(
        &routes("'default dev eth7'"),
        "2:11: `a` has no interface `eth7`",
    );
    only(
        &routes("'default via 192.0.2.2', 'default dev eth0'"),
        "2:36: duplicate route: `a` already has one to 0.0.0.0/0",
    );
    only(
        "routers = ['r']\nhosts = ['a', 'b']\n[[link]]\nends = ['a 192.0.2.1/30', 'b 192.0.2.2/30']",
        "1:12: router `r` has no link",
    );
}

#[test]
fn every_problem_is_reported_in_the_order_of_the_file() {
    let source = "routing = 'x'\nhosts = ['a', 'b', 'a']\nfoo = 1\n[[link]]\nrate = '1'\n\
        ends = ['a 192.0.2.1/24', 'z 192.0.2.2/24']\n[[job]]\nping = { from = 'q', to = 'b' }";
    let found = errors(source);
    let places: Vec<&str> = found.iter().filter_map(|e| e.split(": ").next()).collect();
    assert_eq!(places, ["1:11", "2:20", "3:1", "5:8", "6:28", "8:17"]);
}

/// Two hosts with these ends and a job.
fn ends(a: &str, b: &str, rest: &str) -> String {
    format!("hosts = ['a', 'b']\nlink = [{{ ends = [{a}, {b}] }}]\n{rest}")
}

#[test]
fn addresses_of_ipv6_are_checked_as_those_of_ipv4() {
    let station = "2:22: expected an address that an interface can have, found ";
    for text in [
        "::/128",
        "::1/128",
        "ff02::1/64",
        "::ffff:192.0.2.1/128",
        "2001:db8::1/0",
    ] {
        let source = ends(&format!("'a {text}'"), "'b 2001:db8::2/64'", "");
        only(&source, &format!("{station}{text}"));
    }
    let source = ends("'a 2001:db8::/64'", "'b 2001:db8::2/64'", "");
    only(
        &source,
        "2:22: 2001:db8:: is the network's own address in 2001:db8::/64: expected that of an interface",
    );
    // The last address of a prefix is one like any other, and both of a /127 are.
    assert_eq!(
        errors(&ends("'a 2001:db8::ffff/112'", "'b 2001:db8::1/112'", "")),
        [""; 0]
    );
    assert_eq!(
        errors(&ends("'a 2001:db8::/127'", "'b 2001:db8::1/127'", "")),
        [""; 0]
    );
    only(
        &ends("'a 2001:db8::1/64'", "'b 2001:db8:0:1::2/64'", ""),
        "2:42: address outside its prefix: 2001:db8:0:1::2/64 is not in 2001:db8::/64 as the other end at `a` is",
    );
    only(
        &ends("'a 192.0.2.1/24'", "'b 192.0.2.2/24 2001:db8::2/64'", ""),
        "2:53: address outside its prefix: the other end at `a` has no IPv6 address",
    );
    only(
        &ends("'a 2001:db8::1/64'", "'b 2001:db8::1/64'", ""),
        "2:42: duplicate address: 2001:db8::1 is already at a:eth0",
    );
    // Each link has link-local addresses of its own, but only one of each.
    only(
        &ends("'a fe80::1/64'", "'b fe80::1/64'", ""),
        "2:38: duplicate address: fe80::1 is already at a:eth0",
    );
    only(
        &ends(
            "{ node = 'a', address = '2001:db8::1/64', ip_mtu = 1279 }",
            "'b 2001:db8::2/64'",
            "",
        ),
        "2:43: IPv6 needs an `ip_mtu` of 1280 or more: it is 1279 here",
    );
}

#[test]
fn anycast_addresses_are_checked() {
    let with = |said: &str| {
        let a = format!("{{ node = 'a', address = '2001:db8::1/64', anycast = {said} }}");
        ends(&a, "'b 2001:db8::2/64'", "")
    };
    assert_eq!(
        errors(&with("['2001:db8::53', 'fe80::53', '2001:db8::']")),
        [""; 0]
    );
    for (said, expected) in [
        (
            "['2001:db8::53/64']",
            "expected an IPv6 address such as 2001:db8::53, found \"2001:db8::53/64\"",
        ),
        (
            "['192.0.2.53']",
            "expected an IPv6 address such as 2001:db8::53, found \"192.0.2.53\"",
        ),
        (
            "['ff02::53']",
            "expected an address that interfaces can have, found ff02::53",
        ),
        (
            "['2001:db8::1']",
            "duplicate address: 2001:db8::1 is already at a:eth0",
        ),
        (
            "['2001:db8::2']",
            "duplicate address: 2001:db8::2 is already at b:eth0",
        ),
    ] {
        only(&with(said), &format!("2:72: {expected}"));
    }
    only(
        &with("['2001:db8::53', '2001:db8::53']"),
        "2:88: duplicate address: 2001:db8::53 is already at a:eth0",
    );
    only(
        "hosts = ['a', 'b']\nswitches = ['s']\nlink = [{ ends = ['a 192.0.2.1/24', 's'] },\n\
         { ends = ['b 192.0.2.2/24', { node = 's', anycast = ['2001:db8::53'] }] }]",
        "4:54: `s` is a switch and has no address: expected none, found 2001:db8::53",
    );
    only(
        &ends(
            "{ node = 'a', address = '192.0.2.1/24', ip_mtu = 1000, anycast = ['2001:db8::53'] }",
            "'b 192.0.2.2/24'",
            "",
        ),
        "2:85: IPv6 needs an `ip_mtu` of 1280 or more: it is 1000 here",
    );
}

#[test]
fn prefixes_of_ipv6_do_not_overlap() {
    let source = "hosts = ['a', 'c']\nrouters = ['b']\nlink = [{ ends = ['a 2001:db8::1/48', 'b 2001:db8::2/48'] },\n\
        { ends = ['b fe80::1/64 2001:db8:0:1::1/64', 'c fe80::1:1/64 2001:db8:0:1::2/64'] }]";
    only(
        source,
        "4:25: overlapping address: 2001:db8:0:1::/64 overlaps 2001:db8::/48 of the link at a:eth0",
    );
}

#[test]
fn routes_of_ipv6_are_checked_as_those_of_ipv4() {
    let routes = |text: &str| {
        ends(
            "'a 192.0.2.1/24 2001:db8::1/64'",
            "'b 192.0.2.2/24 2001:db8::2/64'",
            "",
        )
        .replace("hosts = ['a', 'b']", "hosts = ['b']")
            + &format!("[node.a]\nroutes = ['{text}']")
    };
    for text in [
        "::/0 via 2001:db8::2",
        "default via 2001:db8::2",
        "2001:db8:1::/48 dev eth0",
        "ff00::/8 dev eth0",
    ] {
        assert_eq!(errors(&routes(text)), [""; 0], "{text}");
    }
    let of_a = |text: &str, expected: &str| only(&routes(text), &format!("4:11: {expected}"));
    of_a(
        "::/0 via 192.0.2.2",
        "expected a gateway of IPv6 to ::/0, found 192.0.2.2",
    );
    of_a(
        "198.51.100.0/24 via 2001:db8::2",
        "expected a gateway of IPv4 to 198.51.100.0/24, found 2001:db8::2",
    );
    of_a(
        "::/0 via 2001:db8:9::2",
        "expected a gateway on a link of `a`, found 2001:db8:9::2",
    );
    of_a(
        "2001:db8::/64 via 2001:db8::2",
        "duplicate route: `a` is in 2001:db8::/64 itself",
    );
    of_a(
        "::1/128 dev eth0",
        "duplicate route: `a` is in ::1/128 itself",
    );
}

#[test]
fn families_of_jobs() {
    let ping = |more: &str| {
        ends(
            "'a 192.0.2.1/24 fe80::1/64'",
            "'b 192.0.2.2/24 fe80::2/64'",
            &format!("job = [{{ ping = {{ from = 'a', {more} }} }}]"),
        )
    };
    assert_eq!(errors(&ping("to = 'b', family = 'v4'")), [""; 0]);
    only(
        &ping("to = 'b', family = 'ipv6'"),
        "3:50: expected \"v4\" or \"v6\", found \"ipv6\"",
    );
    only(
        &ping("to = 'b', family = 'v6'"),
        "3:36: unreachable: `b` has no IPv6 address",
    );
    only(
        &ping("to = 'b:eth0', family = 'v6'"),
        "3:36: unreachable: `b:eth0` has no IPv6 address",
    );
    only(
        &ping("to = '192.0.2.2', family = 'v6'"),
        "3:36: expected an address of IPv6, as `family` says, found 192.0.2.2",
    );
    only(
        &ping("to = '2001:db8::1'"),
        "3:36: expected an address of a node, found 2001:db8::1",
    );
    only(
        &ping("to = 'fe80::2'"),
        "3:36: expected an address that means the same on every link, found fe80::2, which is link-local",
    );
}

//! The JSON schema of topologies says what the parser says: every topology of the project is valid
//! by both, both refuse the same mistakes, and both know the same keys.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jsonschema::Validator;
use serde_json::Value;
use vnet::capture::LargeSegments;
use vnet::link::{Change, Shape};
use vnet::{RouterPreference, System};
use vnet_lab::Topology;
use vnet_lab::run::{Network, Options};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn schema() -> Value {
    let file = repository().join("docs/topology.schema.json");
    let text = fs::read_to_string(file).expect("the schema is there");
    serde_json::from_str(&text).expect("it is JSON")
}

fn validator() -> Validator {
    jsonschema::draft202012::new(&schema()).expect("it is a schema")
}

/// What the schema has against a topology.
fn refused(validator: &Validator, source: &str) -> Option<String> {
    let table: toml::Table = source.parse().expect("TOML");
    let value = serde_json::to_value(table).expect("TOML without dates is JSON");
    let error = validator.iter_errors(&value).next()?;
    Some(error.to_string())
}

fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory").flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|e| e == "toml") {
            found.push(path);
        }
    }
}

/// Every topology of the project: the files, and the examples in documents.
fn examples() -> Vec<(String, String)> {
    let mut paths = Vec::new();
    files(&repository().join("vnet-lab/topologies"), &mut paths);
    let read = |path: &Path| fs::read_to_string(path).expect("readable");
    let mut examples: Vec<(String, String)> = paths
        .iter()
        .map(|path| (path.display().to_string(), read(path)))
        .collect();
    for page in [
        "README.md",
        "docs/topology.md",
        "docs/bridges.md",
        "docs/vlans.md",
    ] {
        let text = read(&repository().join(page));
        for block in text.split("```toml\n").skip(1) {
            let block = block.split("```").next().expect("a fence ends");
            examples.push((page.to_owned(), block.to_owned()));
        }
    }
    examples
}

#[test]
fn every_example_is_valid_by_both() {
    let validator = validator();
    let examples = examples();
    assert!(examples.len() >= 10, "{}", examples.len());
    for (place, source) in examples {
        assert_eq!(refused(&validator, &source), None, "{place}\n{source}");
        Topology::parse("x.toml", &source).unwrap_or_else(|e| panic!("{place}\n{e}"));
    }
}

/// A sound topology with one more line in its link, another top-level part, and another job.
fn with(link: &str, rest: &str, job: &str) -> String {
    format!(
        "hosts = ['a', 'b']\n\
         link = [{{ ends = ['a 192.0.2.1/30', 'b 192.0.2.2/30']{link} }}]\n\
         job = [{{ ping = {{ from = 'a', to = 'b'{job} }} }}]\n{rest}"
    )
}

#[test]
fn both_accept_every_form_of_every_key() {
    let validator = validator();
    let links = [
        ", name = 'l', state = 'down', rate = '1.5Mbit/s', overhead = 24, delay = '5 ms'",
        ", jitter = '1ms', loss = '1%', duplicate = '0.5%', reorder = '10%', corrupt = 1000000, corrupt_undetected = 9000",
        ", jitter = { normal = '1ms', order = 'free' }, reorder = { probability = '1%', gap = 5 }",
        ", jitter = { pareto = '1ms', shape = 2.5 }, loss = { p = '1%', r = '30%', h = '0%', k = '90%' }",
        ", jitter = { trace = ['1ms', '0s'] }, loss = { trace = '0010' }, queue = 7",
        ", jitter = { uniform = '1ms', order = 'kept' }, loss = { every = 9 }, queue = { frames = 5, bytes = '1MiB' }",
        ", queue = { discipline = 'red', min = '10kB', max = '30kB', max_probability = '5%', weight_shift = 4, ecn = true }",
        ", queue = { discipline = 'codel', target = '5ms', interval = '100ms', ecn = false }",
        ", forward = { queue = { discipline = 'fq-codel', flows = 16, quantum = '300B', target = '1ms' } }",
        ", backward = { queue = { discipline = 'drr', weights = [1, 2], quantum = '500B', frames = 9 } }",
        ", queue = { discipline = 'strict-priority' }",
        ", lagg = { wires = 2 }",
        ", lagg = { wires = 32, mode = 'balance', hash = 'l2', fast = false }",
        ", lagg = { wires = 3, mode = 'failover', hash = 'l3' }, loss = '1%'",
        ", queue = { discipline = 'token-bucket', rate = '1Mbit/s', burst = '10kB' }",
    ];
    for link in links {
        let source = with(link, "", ", max_rtt = '1s'");
        assert_eq!(refused(&validator, &source), None, "{source}");
        Topology::parse("x.toml", &source).unwrap_or_else(|e| panic!("{e}"));
    }
    let events = [
        "link = 'l', state = 'down'",
        "link = 'a:eth0', rate = { ramp = ['1Mbit/s', '2Mbit/s'], over = '5s', every = '1s' }",
        "link = 'l', delay = { random = ['1ms', '2ms'], every = '1s' }",
        "link = 'l', loss = { square = ['0%', '5%'], every = '1s' }",
        "link = 'l', duplicate = '1%'",
        "link = 'l', corrupt = { square = [1000, 2000], every = '1s' }",
        "link = 'l', corrupt_undetected = { square = [1000, 2000], every = '1s' }",
        "link = 'l', queue = 50",
    ];
    for event in events {
        let source = with(
            ", name = 'l'",
            &format!("event = [{{ at = '1s', {event} }}]"),
            "",
        );
        assert_eq!(refused(&validator, &source), None, "{source}");
        Topology::parse("x.toml", &source).unwrap_or_else(|e| panic!("{e}"));
    }
}

#[test]
fn both_agree_about_switches_and_vlans() {
    let validator = validator();
    let with = |switch: &str, port: &str, vlan: &str| {
        format!(
            "hosts = ['a']\nnode.s = {{ kind = 'switch', stp = 'rstp'{switch} }}\n\
             link = [{{ ends = [{{ node = 'a', address = '192.0.2.1/24'{vlan} }}, {{ node = 's'{port} }}] }}]"
        )
    };
    let all_of_port = ", trunk = '5', native = 6, private = true, learn = true, discover = false, broadcast = false, \
        multicast = false, router = true, sticky = true, max_stations = 9, max_stations_per_vlan = 4, span = false, \
        storm = { broadcast = 1, multicast = 2, unknown = 3 }, stations = ['02:00:00:00:00:01', '02:00:00:00:00:02 vlan 5'], \
        stp = { priority = 32, path_cost = 7, edge = 'no', segment = 'shared', bpdu_guard = true, root_guard = true }";
    let all_of_vids = ", vids = { pvid = 5, tagged = '6-9', untagged = '5', tags = 'ignore', ingress_filter = true }";
    let all_of_switch = ", tags = '802.1ad', snooping = { querier = '192.0.2.9', querier_v6 = 'fe80::9', query_interval = '1min', fast_leave = true, \
        unknown = false, max_groups = 5 }, fdb = { max_age = '5min', max_stations = 5, max_stations_per_vlan = 3, \
        learning = 'independent' }, sysctl = { 'net.inet.ip.ttl' = 5, net.link.vlan.classes = '1' }, dns = ['192.0.2.53', '2001:db8::53'], \
        address_policy = [{ prefix = '::/0', precedence = 0, label = 255 }, { prefix = '::ffff:0:0/96', precedence = 100, label = 4 }]";
    let all_of_vlan = ", vlan = { 5 = '198.51.100.1/32', s5 = ['198.51.100.2/32'], 6 = { interface = 'x', mac = '02:00:00:00:00:05', \
        ip_mtu = 1400, classes = { ingress = [{ pcp = 5, dei = true, dscp = 46 }], egress = [{ pcp = 1, dscp = 0 }] }, \
        addresses = ['198.51.100.3/32'], vlan.7 = '198.51.100.4/32' } }";
    for right in [
        with(", snooping = true", all_of_port, ""),
        with(
            ", fdb = { learning = 'shared' }",
            ", trunk = '5, 10 - 20'",
            "",
        ),
        with("", all_of_vids, ""),
        with("", ", tunnel = 5", ""),
        with(all_of_switch, "", ""),
        with(", snooping = true", "", ""),
        with("", "", all_of_vlan),
    ] {
        assert_eq!(refused(&validator, &right), None, "{right}");
        Topology::parse("x.toml", &right).unwrap_or_else(|e| panic!("{e}"));
    }
    for wrong in [
        with("", ", tunnel = 0", ""),
        with("", ", storm = 5", ""),
        with("", ", storm = { broadcast = 0 }", ""),
        with("", ", stp = { edge = true }", ""),
        with("", ", stp = { priority = 17 }", ""),
        with("", ", stations = '02:00:00:00:00:01'", ""),
        with("", ", stations = ['02:00:00:00:00']", ""),
        with("", ", vids = { tags = 'drop' }", ""),
        with(", snooping = 'igmp'", "", ""),
        with(", snooping = { querier = 5 }", "", ""),
        with(", fdb = { learning = 'both' }", "", ""),
        with(", tags = '802.1aq'", "", ""),
        with(", sysctl = 5", "", ""),
        with(", sysctl = { a = true }", "", ""),
        with(", dns = '192.0.2.53'", "", ""),
        with(", address_policy = []", "", ""),
        with(
            ", address_policy = [{ prefix = '::/0', precedence = 256, label = 1 }]",
            "",
            "",
        ),
        with(
            ", address_policy = [{ prefix = '::/0', precedence = 1 }]",
            "",
            "",
        ),
        with(
            ", address_policy = [{ prefix = '0.0.0.0/0', precedence = 1, label = 1 }]",
            "",
            "",
        ),
        with(", dns = ['192.0.2.53/24']", "", ""),
        with("", "", ", vlan = { x5 = '198.51.100.1/32' }"),
        with("", "", ", vlan = { 5 = { ip_mtu = 1400 } }"),
    ] {
        assert!(refused(&validator, &wrong).is_some(), "{wrong}");
        assert!(Topology::parse("x.toml", &wrong).is_err(), "{wrong}");
    }
}

#[test]
fn both_agree_about_what_a_router_advertises() {
    let validator = validator();
    let with = |said: &str| {
        format!(
            "hosts = ['h']\nrouters = ['r']\nlink = [{{ ends = ['h 2001:db8::1/64', \
             {{ node = 'r', address = '2001:db8::ff/64', advertise = {said} }}] }}]"
        )
    };
    let all = "{ lifetime = '30min', preference = 'high', hop_limit = 9, mtu = 1400, dns = ['2001:db8::53'], \
        search = ['example.com'], routes = [{ net = '2001:db8:1::/48', lifetime = 'forever' }, \
        { net = '::/0', lifetime = '0s', preference = 'low' }], prefixes = ['2001:db8::/64', '2001:db8:9::/48', \
        { net = '2001:db8:0:1::/64', valid = '60min', preferred = '30min' }, \
        { net = '2001:db8:0:2::/64', valid = 'forever', autonomous = false }] }";
    for right in ["{ }", "{ lifetime = '0s' }", "{ prefixes = [] }", all] {
        let source = with(right);
        assert_eq!(refused(&validator, &source), None, "{source}");
        Topology::parse("x.toml", &source).unwrap_or_else(|e| panic!("{e}"));
    }
    let (_, plan) = Topology::parse("x.toml", &with(all)).unwrap_or_else(|e| panic!("{e}"));
    let said = plan.vnets[1].interfaces[0]
        .advertise
        .as_ref()
        .expect("said");
    assert_eq!(
        (said.lifetime, said.hop_limit, said.mtu),
        (Some(1800), Some(9), Some(1400))
    );
    assert_eq!(
        (said.dns.len(), &*said.search),
        (1, &["example.com".to_owned()][..])
    );
    assert_eq!(said.preference, RouterPreference::High);
    let routes: Vec<_> = said
        .routes
        .iter()
        .map(|r| (r.lifetime, r.preference))
        .collect();
    assert_eq!(
        routes,
        [
            (u32::MAX, RouterPreference::Medium),
            (0, RouterPreference::Low)
        ]
    );
    let prefixes = said.prefixes.iter().flatten();
    let prefixes: Vec<_> = prefixes.map(|p| (p.valid, p.preferred)).collect();
    let (month, week) = (30 * 86_400, 7 * 86_400);
    assert_eq!(
        prefixes,
        [
            (month, Some(week)),
            (month, None),
            (3600, Some(1800)),
            (u32::MAX, None)
        ]
    );
    for wrong in [
        "true",
        "{ lifetime = 30 }",
        "{ preference = 'first' }",
        "{ hop_limit = 0 }",
        "{ mtu = 1279 }",
        "{ prefixes = '2001:db8::/64' }",
        "{ prefixes = ['192.0.2.0/24'] }",
        "{ prefixes = [{ valid = '1s' }] }",
        "{ routes = [{ net = '2001:db8::/64' }] }",
        "{ routes = [{ net = '2001:db8::/64', lifetime = 'never' }] }",
        "{ dns = ['192.0.2.53'] }",
    ] {
        let source = with(wrong);
        assert!(refused(&validator, &source).is_some(), "{source}");
        assert!(Topology::parse("x.toml", &source).is_err(), "{source}");
    }
    // What only the parser can know.
    for (wrong, why) in [
        ("{ lifetime = '151min' }", "at most 9000"),
        ("{ lifetime = '1.5s' }", "whole seconds"),
        (
            "{ prefixes = ['2001:db8::1/64'] }",
            "bits set behind its prefix",
        ),
        (
            "{ prefixes = [{ net = '2001:db8::/64', valid = '1s', preferred = '2s' }] }",
            "preferred no longer",
        ),
        ("{ search = ['-..'] }", "a domain has labels"),
    ] {
        let error = Topology::parse("x.toml", &with(wrong))
            .expect_err(wrong)
            .to_string();
        assert!(error.contains(why), "{error}");
    }
    // What follows from it, the host has.
    let page = include_str!("../../docs/topology.md");
    let example = page
        .split("```toml\n")
        .find(|block| block.starts_with("name = \"advertised\""));
    let example = example
        .and_then(|block| block.split("```").next())
        .expect("it is there");
    let (_, plan) = Topology::parse("x.toml", example).unwrap_or_else(|e| panic!("{e}"));
    let system = System::virtual_time(1);
    let network = Network::build(&system, &plan, &Options::default()).expect("it can be built");
    system.sleep(Duration::from_secs(10)).expect("time passes");
    let host = plan
        .vnets
        .iter()
        .position(|v| v.name == "h")
        .expect("a node");
    let seen = network.vnet(host).inspect().expect("it is there");
    let eth0 = seen.interfaces.iter().find(|i| i.info.name == "eth0");
    let dns = eth0.map(|i| i.dns.clone());
    assert_eq!(dns, Some(vec!["2001:db8::53".parse().expect("an address")]));
    let own = eth0.map(|i| i.autoconfigured.len());
    assert_eq!(own, Some(1));
    let host = with(all)
        .replace("node = 'r'", "node = 'h'")
        .replace("'h 2001", "'r 2001");
    let error = Topology::parse("x.toml", &host)
        .expect_err("a host")
        .to_string();
    assert!(error.contains("only a router advertises itself"), "{error}");
}

#[test]
fn nodes_have_the_anycast_addresses_that_the_topology_says() {
    let with = |said: &str| {
        format!(
            "hosts = ['a', 'b', 'c']\nswitches = ['s']\nlink = [{{ ends = ['a 2001:db8::1/64', 's'] }},\n\
             {{ ends = [{{ node = 'b', address = '2001:db8::2/64', anycast = {said} }}, 's'] }},\n\
             {{ ends = [{{ node = 'c', vlan = {{ 7 = {{ address = '2001:db8::3/128', anycast = {said} }} }} }}, 's'] }}]"
        )
    };
    let validator = validator();
    for (said, is_right) in [
        ("['2001:db8::53', 'fe80::53']", true),
        ("[]", true),
        ("'2001:db8::53'", false),
        ("['192.0.2.53']", false),
        ("['2001:db8::53/64']", false),
    ] {
        let source = with(said);
        assert_eq!(refused(&validator, &source).is_none(), is_right, "{source}");
        assert_eq!(
            Topology::parse("x.toml", &source).is_ok(),
            is_right,
            "{source}"
        );
    }
    let (_, plan) = Topology::parse("x.toml", &with("['2001:db8::53']")).expect("it is right");
    let system = System::virtual_time(1);
    let network = Network::build(&system, &plan, &Options::default()).expect("it can be built");
    for node in ["b", "c"] {
        let number = plan.vnets.iter().position(|v| v.name == node);
        let vnet = network.vnet(number.expect("a node"));
        let interfaces = vnet.inspect().expect("it is there").interfaces;
        let given: Vec<_> = interfaces.iter().flat_map(|i| &i.anycast).collect();
        assert_eq!(
            given,
            [&"2001:db8::53".parse::<std::net::Ipv6Addr>().expect("one")]
        );
    }
}

#[test]
fn how_captures_are_made_is_for_the_topology_to_say() {
    let capture = "capture = { snaplen = 96, gso = 'cut', rotate = { bytes = '1MB', files = 3 } }";
    let source = with("", capture, "");
    assert_eq!(refused(&validator(), &source), None);
    let (_, plan) = Topology::parse("x.toml", &source).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(plan.capture.snaplen, Some(96));
    assert_eq!(plan.capture.large, LargeSegments::Cut);
    let rotate = plan.capture.rotate.expect("given");
    assert_eq!((rotate.max_bytes, rotate.max_files), (1_000_000, 3));
    for wrong in ["gso = 'half'", "snaplen = 0", "rotate = { files = 3 }"] {
        let source = with("", &format!("capture = {{ {wrong} }}"), "");
        assert!(refused(&validator(), &source).is_some(), "{source}");
        assert!(Topology::parse("x.toml", &source).is_err(), "{source}");
    }
}

#[test]
fn both_know_addresses_and_jobs_of_either_family() {
    let validator = validator();
    let of = |address: &str, family: &str| {
        format!(
            "hosts = ['a', 'b']\n\
             link = [{{ ends = [{{ node = 'a', address = '{address}' }}, 'b 192.0.2.2/24 2001:db8::2/64'] }}]\n\
             job = [{{ ping = {{ from = 'a', to = 'b', family = {family} }} }}]"
        )
    };
    for (address, family) in [
        (
            "192.0.2.1/24', addresses = ['2001:db8::1/64'], interface = 'x",
            "'v4'",
        ),
        (
            "2001:db8::1/64', addresses = ['192.0.2.1/24'], interface = 'x",
            "'v6'",
        ),
        (
            "2001:DB8::192.0.2.1/64', addresses = ['192.0.2.1/24'], interface = 'x",
            "'v6'",
        ),
    ] {
        let source = of(address, family);
        assert_eq!(refused(&validator, &source), None, "{source}");
        Topology::parse("x.toml", &source).unwrap_or_else(|e| panic!("{e}"));
    }
    for (address, family) in [
        ("2001:db8::1", "'v6'"),
        ("2001-db8--1/64", "'v6'"),
        ("fe80::1%x/64", "'v6'"),
        ("192.0.2.1/24", "'ipv4'"),
        ("192.0.2.1/24", "4"),
    ] {
        let source = of(address, family);
        assert!(refused(&validator, &source).is_some(), "{source}");
        assert!(Topology::parse("x.toml", &source).is_err(), "{source}");
    }
}

#[test]
fn both_refuse_the_same_mistakes() {
    let validator = validator();
    let links = [
        ", rate = '0.5MB/s'",
        ", rate = 5",
        ", overhead = 70000",
        ", delay = '5'",
        ", state = 'away'",
        ", jitter = { }",
        ", jitter = { normal = '1ms', pareto = '1ms' }",
        ", jitter = { normal = '1ms', order = 'none' }",
        ", jitter = { trace = [] }",
        ", jitter = { normal = '1ms', shape = 2 }",
        ", loss = '1'",
        ", loss = { p = '1%' }",
        ", loss = { trace = '0120' }",
        ", loss = { every = 0 }",
        ", loss = { every = 3, r = '1%' }",
        ", loss = { trace = '01', k = '90%' }",
        ", duplicate = 0.5",
        ", reorder = { gap = 5 }",
        ", corrupt = 0",
        ", corrupt_undetected = 0",
        ", queue = 0",
        ", queue = 'fq-codel'",
        ", lagg = 2",
        ", lagg = { }",
        ", lagg = { wires = 1 }",
        ", lagg = { wires = 33 }",
        ", lagg = { wires = 2, mode = 'bond' }",
        ", lagg = { wires = 2, hash = 4 }",
        ", lagg = { wires = 2, fast = 1 }",
        ", lagg = { wires = 2, links = 2 }",
        ", queue = { discipline = 'sfq' }",
        ", queue = { discipline = 'drr' }",
        ", queue = { discipline = 'drr', weights = [0] }",
        ", queue = { discipline = 'codel', flows = 4 }",
        ", queue = { discipline = 'token-bucket', rate = '1Mbit/s' }",
        ", queue = { discipline = 'red', ecn = 'yes' }",
    ];
    for link in links {
        let source = with(link, "", "");
        assert!(refused(&validator, &source).is_some(), "{source}");
        assert!(Topology::parse("x.toml", &source).is_err(), "{source}");
    }
    let events = [
        "link = 'l'",
        "link = 'l', state = 'down', rate = '1Mbit/s'",
        "link = 'l', rate = { ramp = ['1Mbit/s'], over = '5s', every = '1s' }",
        "link = 'l', rate = { ramp = ['1Mbit/s', '2Mbit/s'], every = '1s' }",
        "link = 'l', rate = { random = ['1Mbit/s', '2Mbit/s'] }",
        "link = 'l', loss = 1",
        "link = 'l', queue = '50'",
        "link = 'l', queue = 0",
        "link = 'l', corrupt = { square = ['1000', 2000], every = '1s' }",
        "link = 'l', rate = { square = ['1Mbit/s', '2Mbit/s'], every = '1s', over = '5s' }",
        "rate = '1Mbit/s'",
    ];
    for event in events {
        let source = with(
            ", name = 'l'",
            &format!("event = [{{ at = '1s', {event} }}]"),
            "",
        );
        assert!(refused(&validator, &source).is_some(), "{source}");
        assert!(Topology::parse("x.toml", &source).is_err(), "{source}");
    }
}

#[test]
fn both_agree_about_what_is_attached() {
    let validator = validator();
    let with = |attach: &str| {
        format!(
            "hosts = ['h']\nswitches = ['s']\n\
             link = [{{ ends = ['h 192.0.2.1/24', 's'] }}]\nattach = [{{ {attach} }}]"
        )
    };
    for right in [
        "to = 's', tap = 'vnet%d'",
        "to = 's', tap = { name = 'vnet0', netns = '/run/netns/a', bridge = 'br0', up = true }",
        "to = 'h 198.51.100.1/24', qemu = 'lan.sock', guests = 64",
        "to = { node = 's', trunk = '10,20', native = 1 }, qemu = '127.0.0.1:5001', name = 'guests'",
        "to = { node = 's', access = 10 }, qemu-dgram = 'a', rate = '1Gbit/s', loss = '1%'",
        "to = 's', vfkit = '/run/vfkit', forward = { delay = '1ms' }",
        "to = { node = 'h', addresses = ['198.51.100.1/24'], ip_mtu = 9000 }, hyperkit = 'a'",
        "to = 's', bess = 'a'",
        "to = 's', nic = 'eth1'",
        "to = 's', nic = { name = 'eth1', queues = 2 }",
        "to = 's', nic = { name = 'eth1', xdp = 'where-possible' }",
        "to = 's', tap = { name = 'vnet0', queues = 256 }",
        "to = 's', vhost-user = 'lan.sock', guests = 2",
        "to = 's', tap = 'vnet%d' }, { to = 's', tap = 'vnet%d'",
        "to = 's', qemu = './a:5'",
    ] {
        let source = with(right);
        assert_eq!(refused(&validator, &source), None, "{source}");
        Topology::parse("x.toml", &source).unwrap_or_else(|e| panic!("{e}"));
    }
    for wrong in [
        "to = 's'",
        "tap = 'vnet0'",
        "to = 's', tap = 'vnet0', qemu = 'a'",
        "to = 's', tap = ''",
        "to = 's', tap = 'a b'",
        "to = 's', tap = { up = true }",
        "to = 's', tap = { name = 'a', up = 1 }",
        "to = 's', tap = { name = 'a', queues = 0 }",
        "to = 's', tap = { name = 'a', queues = 257 }",
        "to = 's', nic = { name = 'a', queues = 0 }",
        "to = 's', nic = { queues = 2 }",
        "to = 's', nic = { name = 'a', xdp = 'sometimes' }",
        "to = 's', qemu = ''",
        "to = 's', qemu = 5",
        "to = 's', qemu = 'a', guests = 0",
        "to = 's', qemu = 'a', name = 'a b'",
        "to = 's', qemu = 'a', ends = ['s', 'h']",
    ] {
        let source = with(wrong);
        assert!(refused(&validator, &source).is_some(), "{source}");
        assert!(Topology::parse("x.toml", &source).is_err(), "{source}");
    }
    for (wrong, expected) in [
        (
            "to = 's', qemu = 'localhost:5555'",
            "a file of that name is \"./localhost:5555\"",
        ),
        ("to = 's', qemu = '192.0.2.1:99999'", "a numeric address"),
        (
            "to = 's', bess = '127.0.0.1:5000'",
            "expected a path, found",
        ),
        (
            "to = 's', tap = 'a%x'",
            "expected a name for an interface of this machine",
        ),
        (
            "to = 's', tap = '..'",
            "expected a name for an interface of this machine",
        ),
        (
            "to = 's', tap = { name = 'a', bridge = 'br%d' }",
            "expected the name of a bridge of this machine",
        ),
        (
            "to = 's', tap = 'a' }, { to = 's', tap = 'a'",
            "something else is attached at `a`",
        ),
        (
            "to = 's', qemu = 'x' }, { to = 's', vfkit = 'x'",
            "something else is attached at `x`",
        ),
        ("to = 'x', tap = 'a'", "there is no node `x`"),
        ("to = 'h', tap = 'a'", "has no address"),
        (
            "to = 's', tap = 'a', name = 'h'",
            "there already is a node `h`",
        ),
        (
            "to = 's', vfkit = 'a', guests = 2",
            "vfkit has one guest at a time",
        ),
        ("to = 'h 192.0.2.1/24', tap = 'a'", "192.0.2.1"),
    ] {
        let error = Topology::parse("x.toml", &with(wrong))
            .expect_err(wrong)
            .to_string();
        assert!(error.contains(expected), "{wrong}: {error}");
    }
}

/// Those outside are in the prefixes of a LAN, too.
#[test]
fn a_lan_with_a_door_may_have_addresses_alone() {
    let with = |attach: &str| {
        format!(
            "hosts = ['a', 'b']\nswitches = ['s']\nlink = [\n{{ ends = ['a 192.0.2.1/24 2001:db8::1/64', 's'] }},\n\
             {{ ends = ['b 198.51.100.1/24', 's'] }}]\n{attach}"
        )
    };
    Topology::parse("x.toml", &with("attach = [{ to = 's', qemu = 'a' }]"))
        .unwrap_or_else(|e| panic!("{e}"));
    assert!(Topology::parse("x.toml", &with("")).is_err());
}

#[test]
fn what_only_the_parser_can_know_is_said_at_its_place() {
    for (event, expected) in [
        (
            "link = 'm', state = 'down'",
            "unknown link `m`: links with a name are l",
        ),
        (
            "link = 'a:eth7', state = 'down'",
            "no link has an end `a:eth7`",
        ),
        (
            "link = 'l', loss = { random = ['5%', '1%'], every = '1s' }",
            "the bounds for random values of the loss are in the wrong order",
        ),
    ] {
        let source = with(
            ", name = 'l'",
            &format!("event = [{{ at = '1s', {event} }}]"),
            "",
        );
        let error = Topology::parse("x.toml", &source)
            .expect_err("wrong")
            .to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_number_of_an_event_has_the_radix_it_is_written_in() {
    let source = with(
        ", name = 'l'",
        "event = [{ at = '1s', link = 'l', queue = 0x10 }]",
        "",
    );
    let (topology, _) = Topology::parse("x.toml", &source).unwrap_or_else(|e| panic!("{e}"));
    let change = topology.events[0].event.1;
    assert_eq!(change, Change::QueueFrames(Shape::Const(16)));
}

/// The keys that the parser knows in a table: it lists them when it meets one that it does not know.
fn known(source: &str) -> BTreeSet<String> {
    let error = Topology::parse("x.toml", source)
        .expect_err("an unknown key")
        .to_string();
    let line = error
        .lines()
        .find(|l| l.contains("unknown key `zzz`"))
        .unwrap_or_else(|| panic!("{error}"));
    let (_, keys) = line.split_once("expected one of ").expect("a list");
    keys.split(", ").map(|key| key.trim().to_owned()).collect()
}

/// The keys of an object of the schema, at a path of keys and indices.
fn keys(schema: &Value, path: &str) -> BTreeSet<String> {
    let object = schema.pointer(path).unwrap_or_else(|| panic!("no {path}"));
    let properties = object["properties"].as_object().expect("an object");
    properties.keys().cloned().collect()
}

#[test]
fn both_know_the_same_keys() {
    let schema = schema();
    let zzz = "zzz = 1";
    let of_end =
        |key: &str| format!("hosts = ['a']\nlink = [{{ ends = [{{ node = 'a', {key} }}, 'a'] }}]");
    let tables = [
        ("", with("", zzz, "")),
        ("/$defs/link", with(", zzz = 1", "", "")),
        ("/$defs/direction", with(", forward = { zzz = 1 }", "", "")),
        (
            "/$defs/jitter/oneOf/1",
            with(", jitter = { zzz = 1 }", "", ""),
        ),
        ("/$defs/loss/oneOf/1", with(", loss = { zzz = 1 }", "", "")),
        (
            "/$defs/reorder/oneOf/1",
            with(", reorder = { zzz = 1 }", "", ""),
        ),
        ("/$defs/capture", with("", "capture = { zzz = 1 }", "")),
        (
            "/$defs/capture/properties/rotate",
            with("", "capture.rotate = { zzz = 1 }", ""),
        ),
        ("/$defs/event", with("", "event = [{ zzz = 1 }]", "")),
        (
            "/$defs/event/properties/rate/oneOf/1",
            with("", "event = [{ rate = { zzz = 1 } }]", ""),
        ),
        ("/$defs/attach", with("", "attach = [{ zzz = 1 }]", "")),
        (
            "/$defs/attach/properties/tap/oneOf/1",
            with("", "attach = [{ tap = { zzz = 1 } }]", ""),
        ),
        (
            "/$defs/attach/properties/nic/oneOf/1",
            with("", "attach = [{ nic = { zzz = 1 } }]", ""),
        ),
        ("/$defs/node", with("", "node.c = { zzz = 1 }", "")),
        ("/$defs/ping", with("", "", ", zzz = 1")),
        (
            "/$defs/job",
            "hosts = ['a']\njob = [{ zzz = 1 }]".to_owned(),
        ),
        ("/$defs/stp/oneOf/1", with("", "stp = { zzz = 1 }", "")),
        (
            "/$defs/node/properties/fdb",
            with("", "node.c.fdb = { zzz = 1 }", ""),
        ),
        (
            "/$defs/node/properties/snooping/oneOf/1",
            with("", "node.c.snooping = { zzz = 1 }", ""),
        ),
        ("/$defs/end/oneOf/1/properties/stp", of_end("stp.zzz = 1")),
        ("/$defs/end/oneOf/1/properties/vids", of_end("vids.zzz = 1")),
        (
            "/$defs/end/oneOf/1/properties/storm",
            of_end("storm.zzz = 1"),
        ),
        ("/$defs/advertise", of_end("advertise.zzz = 1")),
        (
            "/$defs/advertise/properties/prefixes/items/oneOf/1",
            of_end("advertise.prefixes = [{ zzz = 1 }]"),
        ),
        (
            "/$defs/advertise/properties/routes/items",
            of_end("advertise.routes = [{ zzz = 1 }]"),
        ),
        (
            "/$defs/vlan/additionalProperties/oneOf/2",
            of_end("vlan.s5.zzz = 1"),
        ),
        (
            "/$defs/end/oneOf/1",
            "hosts = ['a']\nlink = [{ ends = [{ zzz = 1 }, 'a'] }]".to_owned(),
        ),
    ];
    for (path, source) in tables {
        assert_eq!(known(&source), keys(&schema, path), "{path}");
    }
    // A link, what is attached and each of their directions know the same forms of every key that they
    // share.
    for key in keys(&schema, "/$defs/direction") {
        let form = |of: &str| schema["$defs"][of]["properties"][&key].clone();
        assert_eq!(form("link"), form("direction"), "{key}");
        assert_eq!(form("attach"), form("direction"), "{key}");
    }
    let kinds = schema["$defs"]["job"]["oneOf"].as_array();
    for kind in kinds.expect("a list") {
        let kind = kind["required"][0].as_str().expect("a name");
        let source = format!("hosts = ['a']\njob = [{{ {kind} = {{ zzz = 1 }} }}]");
        assert_eq!(
            known(&source),
            keys(&schema, &format!("/$defs/{kind}")),
            "{kind}"
        );
    }
    let disciplines = schema["$defs"]["queue"]["oneOf"]
        .as_array()
        .expect("a list");
    assert_eq!(disciplines.len(), 7);
    for (n, discipline) in disciplines.iter().enumerate() {
        let name = discipline["properties"]["discipline"]["const"]
            .as_str()
            .expect("a name");
        let source = with(
            &format!(", queue = {{ discipline = '{name}', zzz = 1 }}"),
            "",
            "",
        );
        let path = format!("/$defs/queue/oneOf/{n}");
        assert_eq!(known(&source), keys(&schema, &path), "{name}");
    }
}

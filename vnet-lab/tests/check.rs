//! `check` refuses whatever `run` would refuse: both read the same file, and what reads well can be
//! brought up. Files are drawn by chance, sound ones and such as are slightly broken.

use std::cell::Cell;
use std::fs;
use std::process::{Command, Output};

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use vnet::System;
use vnet_lab::Topology;
use vnet_lab::run::{Network, Options};

fn vnet(content: &str, args: &[&str]) -> Output {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("t.toml"), content).expect("a file");
    Command::new(env!("CARGO_BIN_EXE_vnet"))
        .current_dir(directory.path())
        .args(args)
        .env_remove("RUST_LOG")
        .output()
        .expect("it starts")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Mostly nothing, else one of `values`.
fn seldom(once_in: u32, values: Vec<&'static str>) -> impl Strategy<Value = &'static str> {
    prop_oneof![once_in - 1 => Just(""), 1 => select(values)]
}

/// One end: mostly what can be, now and then what is near the edge of it or beyond.
fn end(node: &'static str, third: u8, host: u8) -> impl Strategy<Value = String> {
    let names = ":eth0 :e-1 :lo0 :bridge0 :eth1.2 :0 :a23456789012345 :a234567890123456";
    let odd = "127.0.0.1/8 10.0.0.0/24 10.0.0.255/24 10.9.0.1/31 10.9.0.0/31 10.8.8.8/32 \
        224.0.0.1/24 0.1.2.3/8 255.255.255.255/32 10.0.0.1/0 240.0.0.1/8 1.2.3.4/1 \
        169.254.1.1/16 10.0.0.7/30 10.0.0.7/24 10.0.1.8/24 10.7.7.7/32";
    let mtus = vec![
        "ip_mtu = 68",
        "ip_mtu = 65535",
        "ip_mtu = 67",
        "ip_mtu = 9000",
    ];
    let macs = "02:00:00:00:00:01 02:00:00:00:00:06 01:00:00:00:00:01 00:00:00:00:00:00";
    let words = |text: &'static str| text.split_whitespace().collect::<Vec<_>>();
    // An address in the link's prefix; seldom another one besides.
    let parts = (
        seldom(6, words(names)),
        seldom(8, words(odd)),
        seldom(8, mtus),
        seldom(8, words(macs)),
    );
    parts.prop_map(move |(name, more, mtu, mac)| {
        let mut addresses = vec![format!("10.0.{third}.{host}/24")];
        addresses.extend((!more.is_empty()).then(|| more.to_owned()));
        if mtu.is_empty() && mac.is_empty() {
            return format!("'{node}{name} {}'", addresses.join(" "));
        }
        let mut keys = vec![
            format!("node = '{node}'"),
            format!("addresses = {addresses:?}"),
        ];
        keys.extend(name.strip_prefix(':').map(|n| format!("interface = '{n}'")));
        keys.extend((!mtu.is_empty()).then(|| mtu.to_owned()));
        keys.extend((!mac.is_empty()).then(|| format!("mac = '{mac}'")));
        format!("{{ {} }}", keys.join(", "))
    })
}

fn parameters() -> impl Strategy<Value = String> {
    let all = vec![
        "delay = '1440min'",
        "delay = '1441min'",
        "rate = '1bit/s'",
        "overhead = 65535",
        "jitter = { pareto = '1ms', shape = 0.001 }",
        "jitter = { trace = ['1ms', '0s'] }",
        "loss = { p = '0%', r = '0%' }",
        "loss = { trace = '1' }",
        "queue = 1",
        "queue = { discipline = 'drr', weights = [1, 4294967295] }",
        "corrupt = 1",
        "queue = { discipline = 'drr', weights = [] }",
        "corrupt_undetected = 10000000000000",
        "queue = { discipline = 'token-bucket', rate = '1bit/s', burst = '1B' }",
        "queue = { discipline = 'red', min = '0B', max = '1B' }",
        "queue = { discipline = 'red', min = '1B', max = '1B' }",
        "queue = { discipline = 'codel', target = '1440min', interval = '1ns' }",
        "queue = { discipline = 'fq-codel', flows = 65536, quantum = '4GiB' }",
        "queue = { discipline = 'strict-priority', frames = 1000000, bytes = '18446744073GB' }",
        "reorder = { probability = '100%', gap = 4294967295 }",
        "state = 'down'",
        "lagg = { wires = 2 }",
        "lagg = { wires = 3, mode = 'failover' }",
        "lagg = { wires = 1 }",
    ];
    seldom(2, all).prop_map(|p| {
        if p.is_empty() {
            String::new()
        } else {
            format!(", {p}")
        }
    })
}

fn routes() -> impl Strategy<Value = String> {
    let all = vec![
        "default via 10.0.0.1",
        "default via 10.0.0.2",
        "10.0.0.0/24 via 10.0.0.2",
        "10.0.1.0/24 dev eth0",
        "10.0.0.0/24 dev eth0",
        "10.0.0.2/32 via 10.0.0.2",
        "127.0.0.0/8 via 10.0.0.2",
        "0.0.0.0/1 via 10.0.0.2",
        "224.0.0.0/4 dev eth0",
        "default dev eth0",
        "255.255.255.255/32 dev eth0",
        "10.0.0.1/32 dev eth0",
        "127.0.0.1/32 dev lo0",
        "10.0.0.255/32 via 10.0.0.2",
        "default dev lo0",
        "10.5.0.0/16 via 127.0.0.1",
        "10.6.0.0/16 via 10.0.0.255",
    ];
    prop::collection::vec(seldom(3, all), 0..3).prop_map(|mut routes| {
        routes.retain(|route| !route.is_empty());
        format!("{routes:?}")
    })
}

fn events() -> impl Strategy<Value = String> {
    let all = vec![
        "{ at = '0s', link = 'l', rate = '1bit/s' }",
        "{ at = '1s', link = 'a:eth0', delay = '1440min' }",
        "{ at = '18446744073s', link = 'l', state = 'down' }",
        "{ at = '1s', link = 'l', loss = { random = ['1%', '0%'], every = '1s' } }",
        "{ at = '1s', link = 'l', loss = { random = ['0%', '100%'], every = '1us' } }",
        "{ at = '1s', link = 'l', delay = { ramp = ['0s', '1440min'], over = '0s', every = '1s' } }",
        "{ at = '1s', link = 'm', state = 'up' }",
    ];
    seldom(2, all).prop_map(str::to_owned)
}

/// A topology of up to three links between three nodes, of which two may be joined by a switch.
fn topology() -> impl Strategy<Value = String> {
    let middle = select(vec!["host", "router", "switch", "hub"]);
    let link = |a: &'static str, b: &'static str, third: u8| {
        let host = 2 * third + 1;
        let ends = (end(a, third, host), end(b, third, host + 1));
        (ends, parameters()).prop_map(|((a, b), more)| (a, b, more))
    };
    let links = (
        link("a", "b", 0),
        link("b", "c", 1),
        link("a", "c", 2),
        1usize..4,
    );
    let routing = select(vec!["static", "auto"]);
    (middle, links, routes(), events(), routing).prop_map(
        |(middle, (first, second, third, count), routes, event, routing)| {
            let is_bridge = ["switch", "hub"].contains(&middle);
            let plain = |end: String, at_bridge: bool| match at_bridge && is_bridge {
                true => "'b'".to_owned(),
                // Behind one switch is one prefix.
                false if is_bridge => end.replace("10.0.1.", "10.0.0."),
                false => end,
            };
            let links = [(first, false, true, "name = 'l', "), (second, true, false, ""), (third, false, false, "")];
            let links: Vec<String> = links
                .into_iter()
                .take(count)
                .map(|((a, b, more), a_at, b_at, name)| {
                    let (a, b) = (plain(a, a_at), plain(b, b_at));
                    format!("{{ {name}ends = [{a}, {b}]{more} }}")
                })
                .collect();
            format!(
                "routing = '{routing}'\nlink = [{}]\nevent = [{event}]\n[node.a]\nroutes = {routes}\n\
                 [node.b]\nkind = '{middle}'\n[node.c]\n",
                links.join(", ")
            )
        },
    )
}

#[test]
fn what_reads_well_can_be_brought_up() {
    let [broken, refused, sound] = [const { Cell::new(0) }; 3];
    let count = |what: &Cell<u32>| what.set(what.get() + 1);
    let mut runner = TestRunner::new_with_rng(
        Config {
            cases: 3000,
            failure_persistence: None,
            ..Config::default()
        },
        proptest::test_runner::TestRng::deterministic_rng(
            proptest::test_runner::RngAlgorithm::ChaCha,
        ),
    );
    let tried = runner.run(&topology(), |content| {
        let Ok((topology, plan)) = Topology::parse("t.toml", &content) else {
            count(&broken);
            return Ok(());
        };
        let built = Network::build(&System::virtual_time(1), &plan, &Options::default());
        match (built, topology.try_out(&plan)) {
            (Ok(_), tried) => {
                prop_assert!(tried.is_ok(), "{}\n{content}", tried.unwrap_err());
                count(&sound);
            }
            // What only the library knows is refused by both, and shown at its place.
            (Err(error), Err(invalid)) => {
                prop_assert!(error.is_of_the_topology(), "{error:?}\n{content}");
                let problem = &invalid.problems[0];
                prop_assert!(
                    (problem.line, problem.column) != (1, 1),
                    "{invalid}\n{content}"
                );
                count(&refused);
            }
            (Err(error), Ok(())) => {
                return Err(TestCaseError::fail(format!("{error:?}\n{content}")));
            }
        }
        Ok(())
    });
    if let Err(error) = tried {
        panic!("{error}");
    }
    // No kind is rare, but for what only the library can know.
    let counts = [sound.get(), broken.get(), refused.get()];
    assert!(counts[0] > 300 && counts[1] > 300, "{counts:?}");
    assert!(counts[2] < 100, "{counts:?}");
}

#[test]
fn what_the_library_refuses_is_shown_at_its_place() {
    // By hand, since the file would be refused before: an interface that is there already.
    let source = "hosts = ['a', 'b']\nlink = [{ ends = ['a:x 10.0.0.1/24', 'b 10.0.0.2/24'] }]\n";
    let (topology, mut plan) = Topology::parse("t.toml", source).expect("sound");
    plan.vnets[0].interfaces[0].ip_mtu = Some(1);
    let invalid = topology.try_out(&plan).expect_err("an MTU that cannot be");
    let shown = invalid.to_string();
    assert!(
        shown.starts_with("t.toml:2:22: cannot set up interface a:x: "),
        "{shown}"
    );
}

#[test]
fn all_tunables_that_are_refused_are_told_at_once() {
    let content = "[node.a]\nsysctl = { net.inet.ip.ttl = 0, net.inet.ip.tll = 5, net.inet.tcp.msl = 5000 }\n\
        [node.b]\nsysctl = { net.inet.tcp.cc = 'vegas' }\n\
        [[link]]\nends = ['a 192.0.2.1/24', 'b 192.0.2.2/24']\n";
    for command in ["check", "run"] {
        let output = vnet(content, &[command, "t.toml"]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let said = said(&output);
        let places = ["t.toml:2:24: ", "t.toml:2:45: ", "t.toml:4:25: "];
        let told = places.map(|place| said.matches(place).count());
        match command {
            "check" => assert_eq!(told, [1; 3], "{said}"),
            _ => assert_eq!(told[0], 1, "{said}"),
        }
        assert!(
            said.contains("net.inet.ip.ttl takes 1 to 255, not 0"),
            "{said}"
        );
    }
}

#[test]
fn an_interface_cannot_have_the_name_of_the_loopback_interface() {
    let content =
        "hosts = ['a', 'b']\nlink = [{ ends = ['a:lo0 10.0.0.1/24', 'b 10.0.0.2/24'] }]\n";
    for command in ["check", "run"] {
        let output = vnet(content, &[command, "t.toml"]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let said = said(&output);
        assert!(
            said.contains("t.toml:2:22: expected another name of an interface"),
            "{said}"
        );
    }
}

/// A row of routers with a host at each end, and a job from one to the other.
fn row(routers: usize, job: &str) -> String {
    let mut content = String::from("routing = 'auto'\nhosts = ['a', 'b']\n");
    let names: Vec<String> = (0..routers).map(|n| format!("r{n}")).collect();
    content += &format!("routers = {names:?}\n");
    let nodes: Vec<String> = std::iter::once("a".to_owned())
        .chain(names)
        .chain(["b".to_owned()])
        .collect();
    for (n, pair) in nodes.windows(2).enumerate() {
        let [left, right] = pair else { unreachable!() };
        content += &format!("[[link]]\nends = ['{left} 10.0.{n}.1/30', '{right} 10.0.{n}.2/30']\n");
    }
    content + "[[job]]\n" + job
}

#[test]
fn a_way_longer_than_the_time_to_live_is_refused() {
    let ping = "ping = { from = 'a', to = 'b', count = 1 }";
    let output = vnet(&row(63, ping), &["run", "t.toml"]);
    assert_eq!(output.status.code(), Some(0), "64 hops: {output:?}");
    for command in ["check", "run"] {
        let output = vnet(&row(64, ping), &[command, "t.toml"]);
        assert_eq!(output.status.code(), Some(2), "65 hops: {output:?}");
        let said = said(&output);
        assert!(
            said.contains("has 65 hops, and a packet's time to live is 64"),
            "{said}"
        );
    }
}

#[test]
fn what_is_hardly_meant_is_warned_of() {
    let pair = |more: &str, job: &str| {
        format!(
            "hosts = ['a', 'b']\nlink = [{{ ends = ['a 10.0.0.1/24', 'b 10.0.0.2/24']{more} }}]\n[[job]]\n{job}\n"
        )
    };
    let unlimited = "throughput = { from = 'a', to = 'b', seconds = 1 }";
    for (content, expected) in [
        (
            pair("", unlimited),
            Some("no link on its way has a `rate` or a `delay`"),
        ),
        (pair(", rate = '1Gbit/s'", unlimited), None),
        (pair(", delay = '1ms'", unlimited), None),
        (
            pair(
                "",
                "ping = { from = 'a', to = 'b', count = 100, interval = '1s' }",
            ),
            Some("it will fail"),
        ),
        (
            pair(
                "",
                "ping = { from = 'a', to = 'b', count = 60, interval = '1s' }",
            ),
            None,
        ),
        (
            pair(
                ", delay = '1ms'",
                "timeout = '1s'\nthroughput = { from = 'a', to = 'b', seconds = 1 }",
            ),
            Some("it will fail"),
        ),
        (
            pair(
                "",
                "transfer = { from = 'a', to = 'b', file = '/dev/zero' }",
            ),
            Some("may never end"),
        ),
        (
            row(4, "traceroute = { from = 'a', to = 'b', max_hops = 4 }"),
            Some("it is 5 hops away"),
        ),
        (
            row(4, "traceroute = { from = 'a', to = 'b', max_hops = 5 }"),
            None,
        ),
    ] {
        let output = vnet(&content, &["check", "t.toml"]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let said = said(&output);
        match expected {
            None => assert_eq!(said, "", "{content}"),
            Some(words) => {
                assert!(
                    said.contains(": warning: job `") && said.contains(words),
                    "{said}"
                );
                assert!(said.ends_with("\n1 warning\n"), "{said}");
            }
        }
    }
}

#[test]
fn many_faults_are_told_in_part_and_at_once() {
    let nodes: String = (0..2000).map(|n| format!("'n{n}',")).collect();
    let links: String = (0..1000)
        .map(|n| {
            let (third, fourth) = (n / 60, 4 * (n % 60));
            let (a, b) = (2 * n, 2 * n + 1);
            format!(
                "[[link]]\nends = ['n{a} 10.0.{third}.{}/30', 'n{b} 10.0.{third}.{}/30']\n",
                fourth + 1,
                fourth + 2
            )
        })
        .collect();
    let many = |line: &str| line.repeat(40_000);
    let kinds = [
        many("[[job]]\nping = { from = 'n0', to = 'nobody' }\n"),
        many("[[job]]\nping = { from = 'n0', to = 'n7:gone' }\n"),
        many("[[job]]\nping = { from = 'n0', to = 'n1999' }\n"),
        many("[[event]]\nat = '1s'\nlink = 'none'\nstate = 'up'\n"),
        many("[[event]]\nat = '1s'\nlink = 'n5:eth7'\nstate = 'up'\n"),
        many("[[link]]\nends = ['n0 10.9.0.1/30', 'nobody 10.9.0.1/30']\n"),
        many("[[link]]\nnonsense = 1\n"),
        format!("x = [{}]\n", many("1,")),
        format!(
            "[node]\n{}",
            (0..40_000)
                .map(|n| format!("m{n} = 1\n"))
                .collect::<String>()
        ),
    ];
    for kind in kinds {
        let (top, tables) = match kind.starts_with('x') {
            true => (kind.as_str(), ""),
            false => ("", kind.as_str()),
        };
        let content = format!("{top}hosts = [{nodes}]\n{links}{tables}");
        let output = vnet(&content, &["check", "t.toml"]);
        assert_eq!(output.status.code(), Some(2), "{}", &kind[..60]);
        // A megabyte of faults is a page.
        assert!(
            output.stderr.len() < 50_000,
            "{} bytes: {}",
            output.stderr.len(),
            &kind[..60]
        );
    }
}

#[test]
fn names_are_escaped_wherever_they_are_printed() {
    let hostile = r#"name = "top\u001b[31m\nlogy"
hosts = ["a", "b"]
link = [{ ends = ["a 10.0.0.1/24", "b 10.0.0.2/24"], delay = "1ms" }]
job = [{ name = "job\u001b]0;x\u0007\u202e\n", ping = { from = "a", to = "b", count = 1 } },
       { name = "fails\u001b[2J", traceroute = { from = "a", to = "b", expect = ["a"] } }]
"#;
    let bad = "hosts = [\"a\\u001b[31m\"]\n\"key\\u0007\" = 1\n# \u{9b}31m \u{202e}\nrouting = \"x\\u009b\"\n";
    for (content, args, status) in [
        (hostile, &["check", "t.toml"][..], 0),
        (hostile, &["run", "t.toml"], 1),
        (
            hostile,
            &["run", "t.toml", "--pcap-live", "l\u{1b}[31m=x"],
            2,
        ),
        (hostile, &["check", "no-such\u{1b}[31m"], 2),
        (hostile, &["record", "t.toml", "no\u{1b}[31m"], 2),
        (hostile, &["replay", "no-such\u{1b}[31m"], 2),
        (bad, &["check", "t.toml"], 2),
        ("a = \"\u{1b}[31m\u{202e}", &["check", "t.toml"], 2),
    ] {
        let output = vnet(content, args);
        assert_eq!(output.status.code(), Some(status), "{args:?} {output:?}");
        for printed in [&output.stdout, &output.stderr] {
            let printed = String::from_utf8(printed.clone()).expect("UTF-8");
            let unseen = |c: char| c != '\n' && c.is_control() || c == '\u{202e}';
            assert!(!printed.contains(unseen), "{args:?} {printed:?}");
        }
    }
}

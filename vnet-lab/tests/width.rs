//! What people read fits their terminal: no line of `vnet show` or of a report is wider, and nothing is left out for it.

use std::sync::Arc;
use std::time::Duration;

use vnet::{GroupInfo, Inspection, System};
use vnet_lab::report::{Detail, Layout};
use vnet_lab::run::{Network, Options};
use vnet_lab::{Plan, Topology};

const LONG: &str = "a-node-whose-name-is-as-long-as-the-name-of-a-node-may-be-at-all";

/// Switches in a ring with a link of several wires, names as long as they may be, and more VLANs than fit a line.
fn plan() -> Plan {
    let long = &LONG[..63];
    let vids: Vec<String> = (10..130).step_by(2).map(|vid| vid.to_string()).collect();
    let vids = vids.join(",");
    let trunk = |node: &str, name: &str| {
        format!("{{ node = \"{node}\", interface = \"{name}\", trunk = \"{vids},200-299\" }}")
    };
    let mut links = vec![
        format!(
            "{{ lagg.wires = 2, ends = [{}, {}] }}",
            trunk(long, "uplink-to-sw"),
            trunk("sw", "uplink-to-lo")
        ),
        format!(
            "{{ ends = [{}, {}] }}",
            trunk(long, "port-to-the-3rd"),
            trunk("third", "port-to-the-1st")
        ),
        format!(
            "{{ ends = [{}, {}], delay = \"1ms\" }}",
            trunk("sw", "port-to-the-3rd"),
            trunk("third", "port-to-the-2nd")
        ),
    ];
    let hosts: Vec<String> = (1..=12).map(|n| format!("h{n}")).collect();
    for (n, host) in (1..).zip(&hosts) {
        links.push(format!(
            "{{ ends = [\"{host} 192.0.2.{n}/24 2001:db8::1:2:3:{n}/64\", {{ node = \"{long}\", interface = \"a-long-name-{n:03}\", access = 12, \
             private = false, max_stations = 5, sticky = true, storm = {{ broadcast = 100, multicast = 200, unknown = 300 }}, \
             stp = {{ path_cost = 12345, bpdu_guard = true }}, stations = [\"02:00:00:00:00:{n:02x} vlan 12\"] }}] }}"
        ));
    }
    let source = format!(
        "name = \"wide\"\nlldp = true\nstp = \"rstp\"\nhosts = {hosts:?}\nswitches = [\"sw\"]\n\
         [node.{long}]\nkind = \"switch\"\nsnooping = {{ querier = \"192.0.2.254\", query_interval = \"61s\", fast_leave = true, unknown = false, max_groups = 77 }}\n\
         [node.third]\nkind = \"switch\"\nsnooping = true\nfdb = {{ max_age = \"77s\", max_stations = 777, max_stations_per_vlan = 99 }}\n\
         [[link]]\nends = [\"h1 198.51.100.1/24\", \"h2 198.51.100.2/24\"]\njitter = {{ pareto = \"1ms\", shape = 2.5 }}\nloss = {{ p = \"1%\", r = \"30%\", h = \"1%\", k = \"90%\" }}\n\
         rate = \"100Mbit/s\"\ndelay = \"1ms\"\nqueue = {{ discipline = \"fq-codel\", frames = 77, bytes = \"100kB\", flows = 16 }}\n{}\
         [[job]]\nping = {{ from = \"h1\", to = \"h12\", count = 3 }}\n",
        links
            .iter()
            .map(|link| format!("[[link]]\n{}\n", inline(link)))
            .collect::<String>()
    );
    let (_, plan) = Topology::parse("wide.toml", &source).unwrap_or_else(|e| panic!("{e}"));
    plan
}

/// The keys of an inline table, each on a line of its own.
fn inline(table: &str) -> String {
    let keys = table.trim_start_matches("{ ").trim_end_matches(" }");
    match keys.split_once(", ends") {
        Some((first, ends)) => format!("{first}\nends{}", own_line(ends)),
        None => own_line(keys),
    }
}

fn own_line(keys: &str) -> String {
    keys.replace("], delay", "]\ndelay")
}

/// Columns, where tabs lead to every eighth.
fn columns(line: &str) -> usize {
    line.chars().fold(0, |column, c| match c {
        '\t' => (column / 8 + 1) * 8,
        _ => column + 1,
    })
}

fn assert_fits(text: &str, width: usize) {
    for line in text.lines() {
        let wide = columns(line);
        assert!(wide <= width, "{wide} columns of {width}: {line:?}\n{text}");
    }
}

/// All nodes after some traffic, and after somebody has joined groups.
fn seen() -> Vec<Inspection> {
    let (system, plan) = (System::virtual_time(1), plan());
    let network = Network::build(&system, &plan, &Options::default()).expect("it can be built");
    system.sleep(Duration::from_secs(10)).expect("time passes");
    let vnets = (0..plan.vnets.len()).map(|n| network.vnet(n).inspect());
    let mut all: Vec<Inspection> = vnets.map(|seen| seen.expect("it is there")).collect();
    let group = |group: &str, members: &[String]| GroupInfo {
        group: group.parse().expect("an address"),
        vid: Some(12),
        members: members.to_vec(),
    };
    let snooping = all.iter_mut().flat_map(|seen| &mut seen.interfaces);
    let bridges = snooping.filter_map(|interface| interface.bridging.as_mut());
    for bridge in bridges {
        let members: Vec<String> = bridge.members.iter().map(|m| m.name.clone()).collect();
        if let Some(snooping) = &mut bridge.snooping {
            snooping.groups.push(group("239.255.255.250", &members));
            let long = "ff3e:1234:5678:9abc:def0:1234:5678:9abc";
            snooping.groups.push(group(long, &members));
            snooping.routers = members;
        }
    }
    all
}

#[test]
fn what_is_shown_fits_terminals_and_is_all_there() {
    let all = seen();
    for width in [80, 120] {
        for seen in &all {
            let text = format!("{seen:width$}");
            assert_fits(&text, width);
            let words: String = text.split_whitespace().collect();
            for interface in &seen.interfaces {
                assert!(words.contains(&interface.info.name), "{text}");
                let Some(bridge) = &interface.bridging else {
                    continue;
                };
                for member in &bridge.members {
                    let how: String = member.config.to_string().split_whitespace().collect();
                    assert!(words.contains(&how), "{how}\n{text}");
                }
                for station in &bridge.fdb {
                    assert!(text.contains(&station.mac.to_string()), "{text}");
                }
                for group in bridge.snooping.iter().flat_map(|s| &s.groups) {
                    assert!(text.contains(&group.group.to_string()), "{text}");
                }
            }
            assert_eq!(format!("{seen}"), format!("{seen:80}"));
        }
    }
    // VLANs with the same members are one entry.
    let text = format!(
        "{:80}",
        all.iter().find(|s| s.name == "sw").expect("it is there")
    );
    assert_eq!(text.matches("tagged: ").count(), 1, "{text}");
}

#[test]
fn a_report_fits_terminals() {
    let options = Options {
        until: Some(Duration::from_secs(10)),
        ..Options::default()
    };
    let report = vnet_lab::run(&plan(), &options, Arc::new(|_| {})).expect("a run");
    for width in [80, 120] {
        for detail in [Detail::Normal, Detail::Verbose] {
            assert_fits(&report.to_text(Layout { width, detail }), width.into());
        }
    }
}

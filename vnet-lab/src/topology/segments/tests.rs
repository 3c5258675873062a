//! What can be wrong with switches, with the exact place and words.

use crate::topology::Topology;

#[track_caller]
fn only(source: &str, expected: &str) {
    let Err(invalid) = Topology::parse("t.toml", source) else {
        panic!("nothing is wrong with it");
    };
    let shown = |p: &crate::Problem| format!("{}:{}: {}", p.line, p.column, p.message);
    let errors: Vec<String> = invalid.problems.iter().map(shown).collect();
    assert_eq!(errors, [expected]);
}

#[track_caller]
fn valid(source: &str) {
    if let Err(invalid) = Topology::parse("t.toml", source) {
        panic!("{invalid}");
    }
}

/// Two hosts behind switch `s`, and whatever else is said.
fn lan(more: &str) -> String {
    format!(
        "hosts = ['a', 'b', 'c']\nswitches = ['s', 't']\n\
         link = [{{ ends = ['a 192.0.2.1/24', 's'] }}, {{ ends = ['b 192.0.2.2/24', 's'] }}, {{ ends = ['s', 't'] }},\n{more}\n"
    )
}

#[test]
fn a_lan_is_read_in_all_its_forms() {
    valid(&lan("]"));
    valid(&lan("{ ends = ['c 192.0.2.3/24', 't:port7'] }]"));
    valid(&lan(
        "{ ends = ['c 192.0.2.3/24', { node = 't', ip_mtu = 1400 }] }]",
    ));
    valid("hosts = ['a']\n[node.h]\nkind = 'hub'\n[[link]]\nends = ['a 192.0.2.1/24', 'h']");
    valid(&lan("{ ends = ['c 192.0.2.3/24 203.0.113.1/32', 't'] }]"));
}

#[test]
fn an_end_at_a_host_needs_an_address_still() {
    only(
        &lan("{ ends = ['c', 't'] }]"),
        "4:12: this end at `c` has no address: expected one such as 192.0.2.1/24",
    );
}

#[test]
fn a_switch_has_no_address_and_no_routes() {
    only(
        &lan("{ ends = ['c 192.0.2.3/24', 't 192.0.2.9/24'] }]"),
        "4:32: `t` is a switch and has no address: expected none, found 192.0.2.9/24",
    );
    only(
        "hosts = ['a']\n[node.h]\nkind = 'hub'\nroutes = ['default dev eth0']\n[[link]]\nends = ['a 192.0.2.1/24', 'h']",
        "4:11: `h` is a hub and has no routes",
    );
}

#[test]
fn everybody_in_a_lan_needs_a_partner() {
    only(
        &lan("{ ends = ['c 198.51.100.1/24', 't'] }]"),
        "4:14: address outside its prefix: 198.51.100.1/24 is not in 192.0.2.0/24 as those behind the same switch are",
    );
    only(
        "hosts = ['a', 'b']\nswitches = ['s']\nlink = [\n{ ends = ['a 192.0.2.1/24', 's'] },\n{ ends = ['b 198.51.100.1/24', 's'] }]",
        "5:14: address outside its prefix: 198.51.100.1/24 is not in 192.0.2.0/24 as those behind the same switch are",
    );
    // Two networks on one switch are nobody's mistake.
    valid(&lan(
        "{ ends = ['c 198.51.100.1/24', 't'] }, { ends = ['b 198.51.100.2/24', 't'] }]",
    ));
}

#[test]
fn lans_overlap_with_others_only() {
    only(
        &lan("{ ends = ['c 192.0.2.129/30', 'b 192.0.2.130/30'] }]"),
        "4:14: overlapping address: 192.0.2.128/30 overlaps 192.0.2.0/24 of the link at a:eth0",
    );
}

#[test]
fn switches_form_a_tree() {
    only(
        &lan("{ ends = ['t', 's'] }]"),
        "4:17: loop of switches: `t` and `s` are joined already: expected a tree, or `stp = \"rstp\"` on every switch of the loop",
    );
    only(
        &lan("{ ends = ['t', 't:eth9'] }]"),
        "4:17: both ends of the link are at `t`: expected another node",
    );
}

/// Switches `s`, `t` and `u` in a ring, with what is said of each.
fn ring(top: &str, nodes: &str) -> String {
    format!(
        "{top}hosts = ['a']\nlink = [\n{{ ends = ['a 192.0.2.1/24', 's'] }},\n{{ ends = ['s', 't'] }},\n\
         {{ ends = ['t', 'u'] }},\n{{ ends = ['u', 's'] }}]\n{nodes}"
    )
}

#[test]
fn switches_that_speak_a_protocol_may_form_a_loop() {
    let nodes = |of_u: &str| {
        format!(
            "[node]\ns = {{ kind = 'switch' }}\nt = {{ kind = 'switch' }}\nu = {{ kind = 'switch'{of_u} }}"
        )
    };
    let rstp = "stp = 'rstp'\n";
    valid(&ring(rstp, &nodes(", stp_priority = 4096")));
    only(
        &ring(rstp, &nodes(", stp = 'off'")),
        "7:17: loop of switches: `u` and `s` are joined already: expected a tree, or `stp = \"rstp\"` on every switch of the loop",
    );
    only(
        &ring(rstp, &nodes(", stp_priority = 5")),
        "11:39: a bridge's priority is a multiple of 4096 up to 61440, not 5",
    );
}

#[test]
fn only_switches_take_part_in_a_spanning_tree() {
    let with = |of_b: &str| {
        format!(
            "hosts = ['a']\nlink = [{{ ends = ['a 192.0.2.1/24', 'b 192.0.2.2/24'] }}]\nnode.b = {{ {of_b} }}"
        )
    };
    only(
        &with("stp = 'rstp'"),
        "3:18: `b` is a host: only a switch takes part in a spanning tree",
    );
    only(
        "hosts = ['a']\nlink = [{ ends = ['a 192.0.2.1/24', 'b'] }]\nnode.b = { kind = 'switch', stp_priority = 4096 }",
        "3:44: `b` takes part in no spanning tree: expected `stp = \"rstp\"` as well",
    );
}

#[test]
fn a_switch_alone_is_noted() {
    only(
        "hosts = ['a', 'b']\nhubs = ['h']\nlink = [{ ends = ['a 192.0.2.1/24', 'b 192.0.2.2/24'] }]",
        "2:9: hub `h` has no link",
    );
}

#[test]
fn jobs_are_between_stations() {
    let job = |job: &str| format!("{}[[job]]\n{job}", lan("]"));
    let no_station = "`s` is a switch and has no address: expected a host or router";
    only(
        &job("ping = { from = 's', to = 'b' }"),
        &format!("6:17: {no_station}"),
    );
    only(
        &job("ping = { from = 'a', to = 's' }"),
        &format!("6:27: {no_station}"),
    );
    only(
        &job("ping = { from = 'a', to = 's:eth0' }"),
        &format!("6:27: {no_station}"),
    );
    only(
        &job("traceroute = { from = 'a', to = 'b', expect = ['s', 'b'] }"),
        &format!("6:48: {no_station}"),
    );
}

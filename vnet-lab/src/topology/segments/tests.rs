//! What can be wrong with switches, with the exact place and words.

use crate::topology::Topology;

#[track_caller]
fn only(source: &str, expected: &str) {
    assert_eq!(problems(source), [expected]);
}

fn problems(source: &str) -> Vec<String> {
    let Err(invalid) = Topology::parse("t.toml", source) else {
        panic!("nothing is wrong with it");
    };
    let shown = |p: &crate::Problem| format!("{}:{}: {}", p.line, p.column, p.message);
    invalid.problems.iter().map(shown).collect()
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

/// Switches with VLANs: `a` and `b` in VLAN 10, `c` in 20, and whatever else is said.
fn vlans(more: &str) -> String {
    let access = |host: &str, n: u8, switch: &str, vid: u16| {
        format!(
            "{{ ends = ['{host} 192.0.{vid}.{n}/24', {{ node = '{switch}', access = {vid} }}] }}"
        )
    };
    let routers = match more.contains("'r'") {
        true => "routers = ['r']",
        false => "",
    };
    format!(
        "routing = 'auto'\nhosts = ['a', 'b', 'c']\n{routers}\nswitches = ['s', 't']\n\
         link = [{}, {}, {},\n\
         {{ ends = [{{ node = 's', trunk = '10,20' }}, {{ node = 't', trunk = '10,20' }}] }},\n{more}]\n",
        access("a", 1, "s", 10),
        access("b", 2, "t", 10),
        access("c", 3, "t", 20),
    )
}

const STICK: &str = "{ ends = [{ node = 'r', vlan = { 10 = '192.0.10.254/24', 20 = '192.0.20.254/24' } }, { node = 's', trunk = '10,20' }] },";

#[test]
fn vlans_are_segments_of_their_own() {
    let routed = format!(
        "{}job = [{{ ping = {{ from = 'a', to = 'c' }} }}, {{ ping = {{ from = 'a', to = 'r:eth0.10' }} }}]",
        vlans(STICK)
    );
    let (_, plan) = Topology::parse("t.toml", &routed).unwrap_or_else(|e| panic!("{e}"));
    let way = |from: &str, to: &str| {
        let address = to.parse().expect("an address");
        let way = plan.trace(plan.number(from).expect("it is there"), address);
        let way = way.unwrap_or_else(|e| panic!("{from} to {to}: {e}"));
        let names = way.iter().map(|n| plan.vnets[*n].name.clone());
        names.collect::<Vec<String>>()
    };
    assert_eq!(way("a", "192.0.10.2"), ["b"]);
    assert_eq!(way("a", "192.0.20.3"), ["r", "c"]);
    assert_eq!(way("c", "192.0.10.1"), ["r", "a"]);
    let unrouted = format!(
        "{}job = [{{ ping = {{ from = 'a', to = 'c' }} }}]",
        vlans(&STICK.replace("'192.0.20.254/24'", "'198.51.100.1/24'"))
    );
    let Err(invalid) = Topology::parse("t.toml", &unrouted) else {
        panic!("VLAN 20 has another prefix");
    };
    assert!(invalid.to_string().contains("address outside its prefix"));
}

#[test]
fn one_prefix_in_two_vlans_overlaps() {
    let same = "{ ends = [{ node = 'r', vlan = { 10 = '192.0.10.254/24', 30 = '192.0.10.253/24' } }, { node = 's', trunk = '10,30' }] },";
    only(
        &vlans(same),
        "7:63: overlapping address: 192.0.10.0/24 overlaps 192.0.10.0/24 of the link at a:eth0",
    );
}

#[test]
fn a_native_vlan_joins_what_has_no_tag() {
    let native = vlans("").replace(
        "{ node = 's', trunk = '10,20' }, { node = 't', trunk = '10,20' }",
        "{ node = 's', trunk = '20', native = 10 }, { node = 't', trunk = '20', native = 10 }",
    );
    let reach = "job = [{ ping = { from = 'a', to = 'b' } }]";
    valid(&format!("{native}{reach}"));
    // With another one at the other end, the two are not in one VLAN any more.
    let mismatch = native.replacen("native = 10", "native = 30", 1);
    let Err(invalid) = Topology::parse("t.toml", &format!("{mismatch}{reach}")) else {
        panic!("b is in another VLAN");
    };
    assert!(
        invalid.to_string().contains("overlapping address"),
        "{invalid}"
    );
}

#[test]
fn what_is_wrong_with_vlans_is_said() {
    let end = |end: &str| {
        format!("hosts = ['a']\nswitches = ['s']\nlink = [{{ ends = ['a 192.0.2.1/24',\n{end}] }}]")
    };
    let (mut said, mut all) = (Vec::new(), Vec::new());
    for (wrong, expected) in [
        (
            "{ node = 's', access = 4095 }",
            "4:24: expected an integer from 1 to 4094 for `access`",
        ),
        (
            "{ node = 's', trunk = '10,x' }",
            "4:23: \"10,x\" is not a set of VIDs: use numbers and ranges, as in \"1,10-19\"",
        ),
        (
            "{ node = 's', trunk = '10-4095' }",
            "4:23: expected VIDs from 1 to 4094, found 4095",
        ),
        (
            "{ node = 's', trunk = '' }",
            "4:23: expected VIDs such as \"10,20-29\", found none",
        ),
        (
            "{ node = 's', access = 1, trunk = '10' }",
            "4:27: an access port is in one VLAN: expected `access`, or `trunk` and `native`",
        ),
        (
            "{ node = 's', access = 1, native = 1 }",
            "4:27: an access port is in one VLAN: expected `access`, or `trunk` and `native`",
        ),
        (
            "{ node = 's', native = 1 }",
            "4:15: expected `trunk` as well, with the VLANs whose frames have tags",
        ),
        (
            "{ node = 's', trunk = '1-9', native = 5 }",
            "4:39: VLAN 5 has tags here: expected another one",
        ),
        (
            "{ node = 's', vlan = { 10 = '198.51.100.2/24' } }",
            "4:29: `s` is a switch and has no address: expected none, found 198.51.100.2/24",
        ),
        (
            "{ node = 's', vlan = { 0 = '192.0.2.2/24' } }",
            "4:24: expected a VID from 1 to 4094, found \"0\"",
        ),
        (
            "{ node = 's', vlan = { 10 = [] } }",
            "4:29: expected an address such as 192.0.2.1/24, found none",
        ),
        (
            "{ node = 's', vlan = 10 }",
            "4:22: expected VLANs and their addresses, as in { 10 = \"192.0.2.1/24\" }, found an integer",
        ),
    ] {
        said.push(problems(&end(wrong)));
        all.push(vec![expected.to_owned()]);
    }
    assert_eq!(said, all);
    only(
        "hosts = ['a', 'b']\nlink = [{ ends = ['a 192.0.2.1/24',\n{ node = 'b', address = '192.0.2.2/24', access = 5 }] }]",
        "3:41: `b` is a host: only a switch has ports with settings",
    );
    only(
        "hosts = ['a', 'b']\nlink = [{ ends = ['a 192.0.2.1/24',\n{ node = 'b', interface = 'a-long-one-ab', address = '192.0.2.2/24', vlan = { 4094 = '198.51.100.1/24' } }] }]",
        "3:79: expected an interface name of at most 15 letters, digits, '-', '_' and '.', found \"a-long-one-ab.4094\"",
    );
}

#[test]
fn a_loop_in_one_vlan_is_a_loop_and_links_of_different_vlans_are_none() {
    let second = |vlans: &str| {
        format!(
            "{{ ends = [{{ node = 's', trunk = '{vlans}' }}, {{ node = 't', trunk = '{vlans}' }}] }},"
        )
    };
    valid(&vlans(&second("30")));
    only(
        &vlans(&second("20,30")),
        "7:53: loop of switches: `s` and `t` are joined already: expected a tree, or `stp = \"rstp\"` on every switch of the loop",
    );
}

//! The JSON report is what `docs/topology.md` says: every time in it is a whole number of nanoseconds.

use std::process::Command;

use serde_json::Value;

const PAGE: &str = include_str!("../../docs/topology.md");

const EVERYTHING: &str = "hosts = ['a', 'b']\n\
    lldp = true\n\
    link = [{ ends = ['a 192.0.2.1/24', 'b 192.0.2.2/24'], name = 'l', rate = '10Mbit/s', delay = '1ms',\n\
      queue = { discipline = 'fq-codel' } }]\n\
    event = [{ at = '1s', link = 'l', rate = '20Mbit/s' }]\n\
    job = [{ ping = { from = 'a', to = 'b' } }, { traceroute = { from = 'a', to = 'b' } },\n\
      { transfer = { from = 'a', to = 'b', size = '100kB' } },\n\
      { throughput = { from = 'a', to = 'b', seconds = 1 } },\n\
      { timeout = '1s', ping = { from = 'a', to = 'b', count = 9, interval = '1s' } }]\n";

fn report() -> Value {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("t.toml"), EVERYTHING).expect("a file");
    let output = Command::new(env!("CARGO_BIN_EXE_vnet"))
        .current_dir(directory.path())
        .args(["run", "t.toml", "--json", "--fingerprint"])
        .output()
        .expect("it starts");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Calls `look` with each key of each object, the keys that lead there, and its value.
fn walk(value: &Value, way: &str, look: &mut impl FnMut(&str, &str, &Value)) {
    match value {
        Value::Object(entries) => {
            for (key, value) in entries {
                look(way, key, value);
                walk(value, &format!("{way}/{key}"), look);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| walk(item, way, look)),
        _ => {}
    }
}

#[test]
fn every_time_is_a_whole_number_of_nanoseconds() {
    let report = report();
    let mut times = 0;
    walk(&report, "", &mut |way, key, value| {
        assert!(
            !["secs", "nanos"].contains(&key),
            "{way} is no number of nanoseconds"
        );
        let is_time =
            key.ends_with("_ns") || ["busy", "since"].contains(&key) || way.ends_with("/sojourn");
        if is_time {
            assert!(value.is_u64(), "{way}/{key} is {value}");
            times += 1;
        }
        assert!(
            !value.is_f64(),
            "{way}/{key} is {value}, in units that nobody knows"
        );
    });
    // The run's end, two for each of five jobs, round trips, two durations, and two directions.
    assert!(times >= 1 + 2 * 5 + 3 * 2 + 2 + 2 * 6, "{times}");
    let busy = report["links"][0]["busy"].as_u64().expect("a number");
    let ended = report["ended_ns"].as_u64().expect("a number");
    assert!(500_000_000 < busy && busy < ended, "{busy} ns");
}

#[test]
fn every_key_is_told_in_the_page() {
    walk(&report(), "", &mut |way, key, _| {
        // Names of steps, of reasons and of what is held are told elsewhere; so are counters of links.
        let elsewhere = [
            "/vnets/dropped",
            "/vnets/teardown/released",
            "/vnets/teardown/leaked",
        ];
        let counter = way == "/links" && !["from", "to", "changes", "busy", "since"].contains(&key);
        if !elsewhere.contains(&way) && !counter {
            assert!(
                PAGE.contains(&format!("`{key}`")),
                "{way}/{key} is not in the page"
            );
        }
    });
}

#[test]
fn what_is_plugged_in_where_is_in_the_report() {
    let report = report();
    let heard = &report["vnets"][0]["lldp"][0];
    let says = ["interface", "chassis", "port", "capabilities"].map(|key| heard[key].as_str());
    assert_eq!(says, ["eth0", "b", "eth0", "station"].map(Some));
}

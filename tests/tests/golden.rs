//! Promise: the same program with the same seed gives the same packets in every process; and a
//! change of what a network does does not go unnoticed. Each scenario is run in two processes of
//! its own and in this one, and its fingerprint is compared with the one in
//! `tests/golden/fingerprints.toml`.
//!
//! When a change is meant, run `VNET_GOLDEN=update cargo test -p vnet-tests --test golden` and commit
//! the file with the change.

#[path = "golden/scenarios.rs"]
mod scenarios;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use scenarios::{SCENARIOS, Scenario};
use vnet::Fingerprint;

/// The seed of the fingerprints in the file.
const SEED: u64 = 20_240_601;

/// Names the scenario, and the seed, that a child process is to run.
const CHILD: &str = "VNET_GOLDEN_CHILD";
/// What a child writes in front of its result.
const MARK: &str = "fingerprint of the scenario: ";

/// What to do when a fingerprint is not the one in the file.
const HOW: &str = "if the change is meant, run \
    `VNET_GOLDEN=update cargo test -p vnet-tests --test golden` and commit the file";

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/fingerprints.toml")
}

fn golden() -> BTreeMap<String, Fingerprint> {
    let text = std::fs::read_to_string(file()).unwrap_or_default();
    let table: toml::Table = text.parse().expect("the file is TOML");
    let entry = |(name, value): (String, toml::Value)| {
        let text = value.as_str().expect("a string for each scenario");
        (name, text.parse().expect("a fingerprint"))
    };
    table.into_iter().map(entry).collect()
}

/// Runs a scenario in a process of its own.
fn in_a_process(scenario: &Scenario, seed: u64) -> Fingerprint {
    let me = std::env::current_exe().expect("this test has a path");
    let out = Command::new(me)
        .args(["--exact", "the_child", "--ignored", "--nocapture"])
        .env(CHILD, format!("{} {seed}", scenario.name))
        .output()
        .expect("this test can be run");
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(
        out.status.success(),
        "{}: {text}{}",
        scenario.name,
        String::from_utf8_lossy(&out.stderr)
    );
    let at = text.find(MARK).expect("the child has run the scenario") + MARK.len();
    let end = text[at..].find(char::is_whitespace).map(|n| at + n);
    text[at..end.unwrap_or(text.len())]
        .parse()
        .expect("a fingerprint")
}

/// Not a test: the part of the others that runs in a process of its own.
#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn the_child() {
    let Ok(what) = std::env::var(CHILD) else {
        return;
    };
    let (name, seed) = what.split_once(' ').expect("a scenario and a seed");
    let scenario = SCENARIOS.iter().find(|s| s.name == name);
    let run = scenario.expect("a scenario of that name").run;
    println!("{MARK}{}", run(seed.parse().expect("a seed")));
}

#[test]
fn two_processes_give_the_same_packets() {
    for scenario in SCENARIOS {
        let here = (scenario.run)(SEED);
        let (one, two) = (in_a_process(scenario, SEED), in_a_process(scenario, SEED));
        assert_eq!(one, two, "{} in two processes", scenario.name);
        assert_eq!(one, here, "{} in a child and here", scenario.name);
    }
}

#[test]
fn another_seed_gives_other_packets() {
    for scenario in SCENARIOS {
        let other = in_a_process(scenario, SEED + 1);
        assert_ne!((scenario.run)(SEED), other, "{}", scenario.name);
    }
}

#[test]
fn scenarios_have_the_fingerprints_in_the_file() {
    let found: BTreeMap<String, Fingerprint> = SCENARIOS
        .iter()
        .map(|s| (s.name.to_owned(), (s.run)(SEED)))
        .collect();
    if std::env::var("VNET_GOLDEN").as_deref() == Ok("update") {
        let mut text = format!("# Fingerprints of the scenarios in tests/golden/, seed {SEED}.\n");
        text += "# Written by VNET_GOLDEN=update cargo test -p vnet-tests --test golden.\n";
        for (name, fingerprint) in &found {
            text += &format!("{name} = \"{fingerprint}\"\n");
        }
        std::fs::write(file(), text).expect("the file can be written");
        return;
    }
    let golden = golden();
    let names = |map: &BTreeMap<String, Fingerprint>| map.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&found), names(&golden), "scenarios; {HOW}");
    for (name, fingerprint) in &found {
        assert_eq!(fingerprint, &golden[name], "{name} has changed; {HOW}");
    }
}

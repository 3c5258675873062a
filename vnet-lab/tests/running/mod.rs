//! Topologies, run by tests to their end.

#![allow(dead_code, reason = "each test file uses what it needs")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use vnet_lab::report::Layout;
use vnet_lab::run::{Driver, Options};
use vnet_lab::{Report, Topology};

pub(crate) const DRIVERS: [Driver; 2] = [Driver::Virtual, Driver::Threads];

pub(crate) fn options(driver: Driver, seed: u64) -> Options {
    Options {
        driver,
        seed,
        fingerprint: driver == Driver::Virtual,
        ..Options::default()
    }
}

/// The directory of the examples.
pub(crate) fn topologies() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("topologies")
}

/// The text of an example.
#[track_caller]
pub(crate) fn example(name: &str) -> String {
    std::fs::read_to_string(topologies().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// The examples in `topologies/imunes`, by name.
pub(crate) fn imunes() -> Vec<PathBuf> {
    let directory = topologies().join("imunes");
    let entries = std::fs::read_dir(directory).expect("the directory is part of the package");
    let mut files: Vec<PathBuf> = entries.map(|e| e.expect("an entry").path()).collect();
    files.sort();
    files
}

/// A topology whose jobs pass in real time: how fast that is depends on what else the machine does, and which frames a
/// link loses on the order in which they come. A neighbour that is asked for the second or third time is late.
pub(crate) fn in_real_time(text: &str) -> String {
    const RATE: &str = ", min_rate = \"";
    let line = |line: &str| {
        let mut line = line.to_owned();
        if let Some(at) = line.find(RATE) {
            let rate = line[at + RATE.len()..].find('"').expect("a rate ends");
            line.replace_range(at..at + RATE.len() + rate + 1, "");
        }
        match line.contains("wait = ") {
            true => line,
            false => line.replace("ping = { from", "ping = { wait = \"4s\", from"),
        }
    };
    let lines: Vec<String> = text.lines().map(line).collect();
    lines.join("\n")
}

/// Runs a topology, in whatever way it ends. It has jobs, and each of them is planned.
#[track_caller]
pub(crate) fn run(text: &str, options: &Options) -> Report {
    let text = match options.driver {
        Driver::Virtual => text.to_owned(),
        Driver::Threads => in_real_time(text),
    };
    let text = text.as_str();
    let (topology, plan) =
        Topology::parse("t.toml", text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    assert_eq!(plan.jobs.len(), topology.jobs.len());
    assert!(!plan.jobs.is_empty(), "{text}");
    topology.try_out(&plan).unwrap_or_else(|e| panic!("{e}"));
    vnet_lab::run(&plan, options, Arc::new(|_| {})).expect("a run")
}

/// Runs a topology all of whose jobs pass.
#[track_caller]
pub(crate) fn passes(text: &str, options: &Options) -> Report {
    let report = run(text, options);
    let shown = report.to_text(Layout::default());
    assert!(report.passed, "{text}\n{shown}");
    report
}

/// Calls `test` with each case, all at once: what runs on threads waits most of the time.
pub(crate) fn at_once<T: Sync>(cases: &[T], test: impl Fn(&T) + Sync) {
    std::thread::scope(|scope| {
        let test = &test;
        let running: Vec<_> = cases
            .iter()
            .map(|case| scope.spawn(move || test(case)))
            .collect();
        for run in running {
            if let Err(panicked) = run.join() {
                std::panic::resume_unwind(panicked);
            }
        }
    });
}

//! The basic examples of IMUNES, as files that a user can run: every job passes under both drivers.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use vnet_lab::Topology;
use vnet_lab::run::{CaptureSettings, Driver, Options};

/// The examples in `topologies/imunes`, by name.
fn files() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("topologies/imunes");
    let entries = std::fs::read_dir(directory).expect("the directory is part of the package");
    let mut files: Vec<PathBuf> = entries.map(|e| e.expect("an entry").path()).collect();
    files.sort();
    files
}

fn all_pass(driver: Driver) {
    for file in files() {
        let (topology, plan) = Topology::from_file(&file).unwrap_or_else(|e| panic!("{e}"));
        assert!(!plan.jobs.is_empty(), "{}", file.display());
        assert_eq!(plan.jobs.len(), topology.jobs.len());
        let options = Options {
            driver,
            seed: 1,
            capture: CaptureSettings::default(),
        };
        let report = vnet_lab::run(&plan, &options, Arc::new(|_| {})).expect("a run");
        assert!(report.passed, "{}\n{}", file.display(), report.to_table());
    }
}

#[test]
fn each_example_is_there() {
    let files = files();
    let names: Vec<_> = files
        .iter()
        .filter_map(|f| f.file_stem()?.to_str())
        .collect();
    let expected = [
        "hub",
        "lossy-link",
        "ping",
        "static-routing",
        "switch",
        "traceroute",
    ];
    assert_eq!(names, expected);
    let page = include_str!("../../docs/topology.md");
    for name in names {
        let shown = format!("vnet run vnet-lab/topologies/imunes/{name}.toml");
        assert!(
            page.contains(&shown),
            "docs/topology.md does not show `{shown}`"
        );
    }
}

#[test]
fn every_job_passes_in_virtual_time() {
    all_pass(Driver::Virtual);
}

#[test]
fn every_job_passes_on_threads() {
    all_pass(Driver::Threads);
}

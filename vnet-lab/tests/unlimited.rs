//! Nothing limits what a link without rate and delay carries, and a run over it ends all the same: the jobs on
//! it by themselves, by their time limits, and at the end of the run.

use std::process::{Command, Stdio};

use serde_json::Value;

/// Runs a job on a link with the defaults; returns its report, and whether it passed.
fn job(job: &str, args: &[&str]) -> (Value, bool) {
    let directory = tempfile::tempdir().expect("a directory");
    let content = format!(
        "hosts = ['a', 'b']\nlink = [{{ ends = ['a 192.0.2.1/24', 'b 192.0.2.2/24'] }}]\njob = [{{ {job} }}]\n"
    );
    std::fs::write(directory.path().join("t.toml"), content).expect("a file");
    let output = Command::new(env!("CARGO_BIN_EXE_vnet"))
        .current_dir(directory.path())
        .args(["run", "t.toml", "--json"])
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .output()
        .expect("it starts");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let passed = report["passed"] == true;
    assert_eq!(output.status.code(), Some(i32::from(!passed)), "{report}");
    (report["jobs"][0].clone(), passed)
}

fn ended_ns(job: &Value) -> u64 {
    job["ended_ns"].as_u64().unwrap_or_else(|| panic!("{job}"))
}

const MILLISECOND: u64 = 1_000_000;

#[test]
fn a_throughput_job_ends_with_a_result() {
    let (job, passed) = job("throughput = { from = 'a', to = 'b', seconds = 0.2 }", &[]);
    assert!(passed, "{job}");
    let ended = ended_ns(&job);
    assert!((200..210).contains(&(ended / MILLISECOND)), "{job}");
}

#[test]
fn a_job_is_cut_off_by_its_time_limit_and_by_the_end_of_the_run() {
    let endless = "throughput = { from = 'a', to = 'b', seconds = 3600 }";
    let limited = format!("timeout = '100ms', {endless}");
    for (endless, args) in [(&*limited, &[][..]), (endless, &["--until", "100ms"])] {
        let (job, passed) = job(endless, args);
        assert!(!passed, "{job}");
        let ended = ended_ns(&job);
        assert!((100..110).contains(&(ended / MILLISECOND)), "{job}");
    }
}

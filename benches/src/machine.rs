//! What was measured, and on what.

use std::fs;
use std::process::Command;
use std::thread;

/// The processor, its cores, the kernel, how busy the machine is, and the commit that is checked out, in a line. What
/// cannot be told is `?`.
pub fn line() -> String {
    let model = read("/proc/cpuinfo").and_then(|text| {
        let line = text.lines().find(|l| l.starts_with("model name"))?;
        Some(line.split_once(": ")?.1.to_owned())
    });
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg").and_then(|text| Some(text.split_once(' ')?.0.to_owned()));
    let [model, kernel, load, commit] = [model, kernel, load, commit()]
        .map(|known| known.map_or_else(|| "?".to_owned(), |known| known.trim().to_owned()));
    format!("{model}, {cores} cores, Linux {kernel}, load {load} at the start; commit {commit}")
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// The commit, with a `+` if files have been changed since.
fn commit() -> Option<String> {
    let output = Command::new("git")
        .args(["-C", env!("CARGO_MANIFEST_DIR")])
        .args(["describe", "--always", "--exclude=*", "--dirty=+"])
        .output()
        .ok()?;
    let told = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !told.trim().is_empty()).then_some(told)
}

//! What a transfer sends: whatever a file yields until it ends, of whatever kind it is.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;
use sha2::{Digest, Sha256};

fn vnet(directory: &tempfile::TempDir, file: &str, more: &str) -> Command {
    let content = format!(
        "hosts = ['a', 'b']\n\
         link = [{{ ends = ['a 192.0.2.1/30', 'b 192.0.2.2/30'], rate = '10Mbit/s' }}]\n\
         [[job]]\n{more}\ntransfer = {{ from = 'a', to = 'b', file = '{file}' }}\n"
    );
    fs::write(directory.path().join("t.toml"), content).expect("a file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_vnet"));
    command
        .current_dir(directory.path())
        .args(["run", "t.toml", "--json"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}

fn job(stdout: &[u8]) -> Value {
    let report: Value = serde_json::from_slice(stdout).expect("JSON");
    report["jobs"][0].clone()
}

#[track_caller]
fn arrived(job: &Value, content: &[u8]) {
    let digest = Sha256::digest(content);
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(job["passed"], true, "{job}");
    assert_eq!(job["bytes"], content.len(), "{job}");
    assert_eq!(job["sha256"], hex, "{job}");
}

#[test]
fn a_pipe_is_sent_to_its_end() {
    let directory = tempfile::tempdir().expect("a directory");
    let content = vec![7; 300_000];
    let mut run = vnet(&directory, "-", "")
        .stdin(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut pipe = run.stdin.take().expect("piped");
    pipe.write_all(&content).expect("it is read");
    drop(pipe);
    let output = run.wait_with_output().expect("it ends");
    arrived(&job(&output.stdout), &content);

    // The same by a name, and one that ends at once.
    let fifo = directory.path().join("fifo");
    let made = Command::new("mkfifo").arg(&fifo).status().expect("mkfifo");
    assert!(made.success());
    let run = vnet(&directory, "fifo", "").spawn().expect("it starts");
    fs::write(&fifo, b"abc").expect("somebody reads it");
    let output = run.wait_with_output().expect("it ends");
    arrived(&job(&output.stdout), b"abc");
    let output = vnet(&directory, "-", "").output().expect("it starts");
    arrived(&job(&output.stdout), b"");
}

#[test]
fn a_file_that_says_it_is_empty_is_sent_to_its_end() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = "/proc/filesystems";
    let Ok(content) = fs::read(path) else {
        eprintln!("SKIPPED: there is no {path}");
        return;
    };
    assert_eq!(fs::metadata(path).expect("it is there").len(), 0);
    let output = vnet(&directory, path, "").output().expect("it starts");
    arrived(&job(&output.stdout), &content);
}

#[test]
fn what_never_ends_is_cut_off_by_the_timeout() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut endless = vnet(&directory, "/dev/zero", "timeout = '2s'");
    let output = endless.output().expect("it starts");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let cut = job(&output.stdout);
    assert_eq!(cut["reason"], "not done within its timeout of 2s", "{cut}");
    let bytes = cut["bytes"].as_u64().expect("a number");
    assert!((2_000_000..2_500_000).contains(&bytes), "{cut}");
}

#[test]
fn what_never_comes_is_waited_for_as_long_as_the_timeout() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut run = vnet(&directory, "-", "timeout = '100ms'")
        .stdin(Stdio::piped())
        .spawn()
        .expect("it starts");
    let held = run.stdin.take();
    let output = run.wait_with_output().expect("it ends");
    drop(held);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let reason = "what is to be sent did not come within the job's timeout";
    assert_eq!(job(&output.stdout)["reason"], reason);
}

#[test]
fn what_cannot_be_read_is_said() {
    let directory = tempfile::tempdir().expect("a directory");
    for file in ["no-such", "/"] {
        let output = vnet(&directory, file, "").output().expect("it starts");
        assert_eq!(output.status.code(), Some(2), "{output:?}");
    }
}

//! The `vnet` command as a user meets it: what it prints, what it writes, how it exits.

mod running;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use running::in_real_time;
use tempfile::TempDir;
use vnet_tests::judge::{self, BAD};
use vnet_tests::skip::has_tshark;

fn vnet(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vnet"))
        .args(args)
        .env_remove("RUST_LOG")
        .output()
        .expect("the binary starts")
}

#[track_caller]
fn exits(output: &Output, status: i32) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(status), "{out}\n{err}");
}

/// A file of that content in a directory that goes away.
fn file(content: &str) -> (TempDir, String) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("t.toml");
    fs::write(&path, content).expect("a file");
    let path = path.to_str().expect("a path in UTF-8").to_owned();
    (directory, path)
}

const PAIR: &str = "hosts = ['a', 'b']\nlink = [{ ends = ['a 192.0.2.1/30', 'b 192.0.2.2/30'] }]\n";

/// The captures in a directory, by name.
fn captures(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(directory).expect("the directory of captures");
    let mut paths: Vec<PathBuf> = entries.map(|e| e.expect("an entry").path()).collect();
    paths.sort();
    let read = |path: PathBuf| {
        let bytes = fs::read(&path).expect("a capture");
        (PathBuf::from(path.file_name().expect("a name")), bytes)
    };
    paths.into_iter().map(read).collect()
}

#[test]
fn every_job_of_the_built_in_topology_passes_under_virtual_time() {
    let output = vnet(&["run"]);
    exits(&output, 0);
    let shown = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(shown.contains("ra → rc → rb → b1"), "{shown}");
    assert!(
        shown.contains("triangle: all 8 jobs passed (virtual driver, seed 1"),
        "{shown}"
    );
    assert!(
        output.stderr.is_empty(),
        "no progress line without a terminal"
    );
}

#[test]
fn every_job_of_the_built_in_topology_passes_on_threads() {
    let (_directory, path) = file(&in_real_time(vnet_lab::TRIANGLE));
    exits(&vnet(&["run", &path, "--driver", "threads"]), 0);
}

#[test]
fn equal_seeds_give_equal_bytes_and_others_do_not() {
    let run = |seed: &str| {
        let directory = tempfile::tempdir().expect("a directory");
        let pcap = directory.path().join("deeper");
        let pcap_arg = pcap.to_str().expect("a path in UTF-8");
        let output = vnet(&["run", "--seed", seed, "--json", "--pcap", pcap_arg]);
        exits(&output, 0);
        (output.stdout, captures(&pcap))
    };
    let (first, again, other) = (run("7"), run("7"), run("8"));
    assert!(first.0 == again.0, "the JSON differs");
    assert!(first.1 == again.1, "the captures differ");
    assert_eq!(first.1.len(), 7, "one for each link");
    assert_eq!(first.1[0].0, Path::new("a1-eth0--ra-lan0.pcapng"));
    let without_seed =
        |json: &[u8]| String::from_utf8_lossy(json).replacen("\"seed\":8", "\"seed\":7", 1);
    assert_ne!(without_seed(&first.0), without_seed(&other.0));
    assert!(first.1 != other.1, "another seed gives the same captures");
}

#[test]
fn the_captures_are_sound_says_tshark() {
    if !has_tshark() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let pcap = directory.path().to_str().expect("a path in UTF-8");
    exits(&vnet(&["run", "--pcap", pcap]), 0);
    let tshark = |name: &Path, filter: &str| {
        let output = judge::tshark(&directory.path().join(name))
            .args(["-Y", filter])
            .output()
            .expect("tshark starts");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    for (name, _) in captures(directory.path()) {
        assert_eq!(tshark(&name, BAD), "", "in {}", name.display());
        // That the filter sees anything at all: every link has heard an announcement.
        assert_ne!(tshark(&name, "arp"), "", "in {}", name.display());
    }
    let tcp = Path::new("ra-wan~c--rc-wan~a.pcapng");
    assert_ne!(tshark(tcp, "tcp.checksum.status == 1"), "");
}

#[test]
fn a_job_that_fails_is_status_1_and_says_why() {
    let (_directory, path) = file(&format!(
        "{PAIR}job = [{{ traceroute = {{ from = 'a', to = 'b', expect = ['a', 'b'] }} }}]"
    ));
    let output = vnet(&["run", &path]);
    exits(&output, 1);
    let shown = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(
        shown.contains("expected a → b") && shown.contains("1 of 1 jobs FAILED"),
        "{shown}"
    );
    let json = vnet(&["run", &path, "--json"]);
    exits(&json, 1);
    let value: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(value["passed"], false);
    assert_eq!(value["jobs"][0]["reason"], "expected a → b");
    assert_eq!(value["jobs"][0]["hops"], serde_json::json!(["b"]));
}

#[test]
fn a_job_that_cannot_finish_fails_when_its_time_is_over() {
    let (_directory, path) = file(
        "hosts = ['a', 'b']\nlink = [{ ends = ['a 192.0.2.1/30', 'b 192.0.2.2/30'], loss = '100%' }]\n\
         [[job]]\ntimeout = '3s'\ntransfer = { from = 'a', to = 'b', size = '1kB' }\n\
         [[job]]\ntimeout = '3s'\nthroughput = { from = 'a', to = 'b' }\n\
         [[job]]\ntimeout = '3s'\nping = { from = 'a', to = 'b', count = 60000 }\n\
         [[job]]\nping = { from = 'a', to = 'b', count = 1, max_loss = '100%' }\n",
    );
    let output = vnet(&["run", &path, "--json"]);
    exits(&output, 1);
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let passed: Vec<_> = (0..4)
        .map(|n| value["jobs"][n]["passed"].as_bool())
        .collect();
    assert_eq!(passed, [Some(false), Some(false), Some(false), Some(true)]);
    for n in 0..3 {
        let job = &value["jobs"][n];
        assert!(job["reason"].is_string(), "{job}");
        let took = job["ended_ns"].as_u64().zip(job["started_ns"].as_u64());
        assert!(
            took.is_some_and(|(end, start)| end - start <= 4_000_000_000),
            "{job}"
        );
    }
}

#[test]
fn a_job_with_a_start_runs_beside_the_others() {
    let (_directory, path) = file(&format!(
        "{PAIR}[[job]]\nstart = '100ms'\nping = {{ from = 'a', to = 'b', count = 3 }}\n\
         [[job]]\nping = {{ from = 'b', to = 'a', count = 3 }}\n\
         [[job]]\nping = {{ from = 'b', to = 'a', count = 1 }}\n"
    ));
    let output = vnet(&["run", &path, "--json"]);
    exits(&output, 0);
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let at = |n: usize, key: &str| value["jobs"][n][key].as_u64().expect("a time");
    assert_eq!(at(0, "started_ns"), 100_000_000);
    assert_eq!(at(1, "started_ns"), 0);
    assert!(at(1, "ended_ns") > at(0, "started_ns"), "they overlap");
    assert_eq!(at(2, "started_ns"), at(1, "ended_ns"));
}

#[test]
fn a_bad_topology_is_status_2_and_all_of_it_is_said() {
    let (_directory, path) = file("hosts = ['a', 'a']\nfoo = 1\n");
    for what in ["check", "run"] {
        let output = vnet(&[what, &path]);
        exits(&output, 2);
        assert!(output.stdout.is_empty());
        let said = String::from_utf8(output.stderr).expect("UTF-8");
        assert!(
            said.contains(&format!("{path}:1:15: duplicate name")),
            "{said}"
        );
        assert!(
            said.contains(&format!("{path}:2:1: unknown key `foo`")),
            "{said}"
        );
        assert!(said.ends_with("2 errors\n"), "{said}");
    }
}

#[test]
fn bad_usage_is_status_2() {
    for args in [
        &["run", "--driver", "steam"][..],
        &["run", "--seed", "x"],
        &["check"],
        &[],
    ] {
        exits(&vnet(args), 2);
    }
    exits(&vnet(&["check", "/nonexistent.toml"]), 2);
    let (directory, path) = file(PAIR);
    // A file where the directory of captures should be.
    exits(&vnet(&["run", &path, "--pcap", &path]), 2);
    drop(directory);
}

#[test]
fn check_says_what_it_has_seen() {
    let (_directory, path) = file(PAIR);
    let output = vnet(&["check", &path]);
    exits(&output, 0);
    assert_eq!(output.stdout, b"unnamed: 2 nodes, 1 link, 0 jobs\n");
}

#[test]
fn what_is_generated_is_a_topology() {
    let output = vnet(&[
        "generate", "random", "9", "--hosts", "2", "--flows", "3", "--seed", "5",
    ]);
    exits(&output, 0);
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let (_directory, path) = file(&text);
    let checked = vnet(&["check", &path]);
    exits(&checked, 0);
    let said = String::from_utf8(checked.stdout).expect("UTF-8");
    assert!(said.starts_with("random-9: 36 nodes, "), "{said}");
    exits(&vnet(&["generate", "ring", "1"]), 2);
    exits(&vnet(&["generate", "cube", "9"]), 2);
}

#[test]
fn a_file_of_the_users_own_is_sent_as_it_is() {
    let (directory, path) = file(&format!(
        "{PAIR}job = [{{ transfer = {{ from = 'a', to = 'b', file = 'content' }} }}]"
    ));
    fs::write(directory.path().join("content"), b"abc").expect("a file");
    let output = vnet(&["run", &path, "--json"]);
    exits(&output, 0);
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(value["jobs"][0]["bytes"], 3);
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(value["jobs"][0]["sha256"], abc);
}

#[test]
fn a_mac_address_that_is_given_is_given_to_nobody_else() {
    // Whatever the library would choose by itself: each of a row of addresses, given to the first or to
    // the last of four stations.
    for given in 1..=12 {
        for station in [0, 3] {
            let mut links = String::new();
            for (n, name) in ["a", "b", "c", "d"].into_iter().enumerate() {
                let mac = match n == station {
                    true => format!(", mac = '02:00:00:00:00:{given:02x}'"),
                    false => String::new(),
                };
                links += &format!(
                    "[[link]]\nends = [{{ node = '{name}', address = '10.0.0.{}/24'{mac} }}, 'sw']\n",
                    n + 1
                );
            }
            let pings: String = ["a", "b", "c", "d"]
                .windows(2)
                .map(|pair| {
                    format!(
                        "[[job]]\nping = {{ from = '{}', to = '{}', max_loss = '0%' }}\n",
                        pair[0], pair[1]
                    )
                })
                .collect();
            let (_directory, path) = file(&format!(
                "hosts = ['a', 'b', 'c', 'd']\nswitches = ['sw']\n{links}{pings}"
            ));
            exits(&vnet(&["run", &path]), 0);
            let shown = vnet(&["show", &path, "--json"]);
            exits(&shown, 0);
            let shown = String::from_utf8(shown.stdout).expect("UTF-8");
            let mac = format!("02:00:00:00:00:{given:02x}");
            // Once as an interface's, and nowhere else.
            assert_eq!(
                shown.matches(&format!("\"mac\":\"{mac}\"")).count(),
                1,
                "{shown}"
            );
        }
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("UTF-8")
}

/// Runs it with that as its standard input.
fn fed(input: &str, args: &[&str]) -> Output {
    let mut run = Command::new(env!("CARGO_BIN_EXE_vnet"))
        .args(args)
        .env_remove("RUST_LOG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut stdin = run.stdin.take().expect("piped");
    stdin.write_all(input.as_bytes()).expect("it is read");
    drop(stdin);
    run.wait_with_output().expect("it ends")
}

#[test]
fn a_topology_is_read_from_the_standard_input() {
    let job = "job = [{ ping = { from = 'a', to = 'b' } }]\n";
    let output = fed(&format!("{PAIR}{job}"), &["run", "-", "--quiet"]);
    exits(&output, 0);
    let shown = text(output.stdout);
    assert!(shown.starts_with("unnamed: 1 job passed ("), "{shown}");
    assert_eq!(shown.lines().count(), 1, "{shown}");
    exits(&fed(PAIR, &["check", "-"]), 0);
    exits(&fed(PAIR, &["show", "-"]), 0);
    exits(&fed(PAIR, &["record", "-"]), 0);

    let output = fed("hosts = ['a', 'a']\n", &["run", "-"]);
    exits(&output, 2);
    let said = text(output.stderr);
    assert!(said.starts_with("<stdin>:1:15: duplicate name"), "{said}");
    let sends = "job = [{ transfer = { from = 'a', to = 'b', file = '-' } }]\n";
    let output = fed(&format!("{PAIR}{sends}"), &["run", "-"]);
    exits(&output, 2);
    let said = text(output.stderr);
    assert!(
        said.contains("the topology is read from standard input"),
        "{said}"
    );
}

#[test]
fn quiet_leaves_what_failed_and_the_verdict() {
    let jobs = "[[job]]\nping = { from = 'a', to = 'b' }\n\
        [[job]]\ntraceroute = { from = 'a', to = 'b', expect = ['a', 'b'] }\n";
    let (_directory, path) = file(&format!("{PAIR}{jobs}"));
    let output = vnet(&["run", &path, "-q"]);
    exits(&output, 1);
    assert!(output.stderr.is_empty());
    let shown = text(output.stdout);
    assert!(
        shown.contains("traceroute a → b   FAILED   expected a → b"),
        "{shown}"
    );
    assert!(!shown.contains("ping"), "{shown}");
    let last = shown.lines().last().expect("a verdict");
    assert!(last.starts_with("unnamed: 1 of 2 jobs FAILED ("), "{shown}");
    for args in [&["--json"][..], &["--verbose"]] {
        exits(&vnet(&[&["run", &path, "--quiet"], args].concat()), 2);
    }
}

#[test]
fn tables_are_as_wide_as_columns_says() {
    for columns in [80, 120] {
        let output = Command::new(env!("CARGO_BIN_EXE_vnet"))
            .arg("run")
            .env("COLUMNS", columns.to_string())
            .output()
            .expect("the binary starts");
        exits(&output, 0);
        let shown = text(output.stdout);
        let widest = shown.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(columns), "{shown}");
        assert!(shown.contains("queue p50/p90/p99"), "{shown}");
    }
}

#[test]
fn it_says_what_it_is_and_how_it_is_called() {
    let output = vnet(&["--version"]);
    exits(&output, 0);
    let version = concat!("vnet ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(text(output.stdout), version);
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = vnet(&["completions", shell]);
        exits(&output, 0);
        assert!(text(output.stdout).contains("pcap-rotate"), "{shell}");
    }
    let output = vnet(&["man"]);
    exits(&output, 0);
    let page = text(output.stdout);
    assert!(
        page.contains(".TH vnet 1") && page.contains("Exit status"),
        "{page}"
    );
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().to_str().expect("a path in UTF-8");
    exits(&vnet(&["man", path]), 0);
    assert!(directory.path().join("vnet-run.1").exists());
    exits(&vnet(&["man", "/nonexistent/directory"]), 2);
}

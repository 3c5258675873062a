//! A job that is cut off has failed, whatever cut it off, and says what it did until then.

use std::process::{Command, Stdio};

use serde_json::Value;

/// A job of each kind that would go on for an hour, on a link that carries what it sends.
const ENDLESS: [(&str, &str); 4] = [
    (
        "ping",
        "ping = { from = 'a', to = 'b', count = 3600, interval = '1s', max_loss = '100%' }",
    ),
    // More than an hour of silence behind the first hop.
    (
        "traceroute",
        "traceroute = { from = 'a', to = 'gone', max_hops = 255, tries = 100, wait = '1min' }",
    ),
    (
        "transfer",
        "transfer = { from = 'a', to = 'b', size = '10GB' }",
    ),
    (
        "throughput",
        "throughput = { from = 'a', to = 'b', seconds = 3600 }",
    ),
];

/// A network where `gone` is behind a router that knows it, and a link that goes down after half a
/// second. The job begins at one second.
fn topology(timeout: &str, job: &str) -> String {
    format!(
        "routing = 'auto'\nhosts = ['a', 'b', 'gone']\nrouters = ['r']\n\
         link = [\n\
           {{ ends = ['a 192.0.2.1/24', 'b 192.0.2.2/24'], rate = '1Mbit/s', delay = '1ms' }},\n\
           {{ ends = ['a 198.51.100.1/24', 'r 198.51.100.2/24'] }},\n\
           {{ ends = ['r 203.0.113.1/24', 'gone 203.0.113.2/24'], name = 'cut' }},\n\
         ]\n\
         event = [{{ at = '500ms', link = 'cut', state = 'down' }}]\n\
         [[job]]\nstart = '1s'\ntimeout = '{timeout}'\n{job}\n\
         [[job]]\nping = {{ from = 'r', to = 'gone', count = 1 }}\n"
    )
}

fn vnet(directory: &tempfile::TempDir, content: &str, args: &[&str]) -> Command {
    std::fs::write(directory.path().join("t.toml"), content).expect("a file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_vnet"));
    command
        .current_dir(directory.path())
        .args(["run", "t.toml", "--json"])
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}

/// Runs it, and returns its only job.
fn job(mut command: Command, status: i32) -> Value {
    let output = command.output().expect("it starts");
    assert_eq!(output.status.code(), Some(status), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["passed"], false, "{report}");
    report["jobs"][0].clone()
}

/// That the job says what it did in the 15 s before it was cut off.
#[track_caller]
fn said_what_it_did(kind: &str, job: &Value) {
    let number = |key: &str| job[key].as_u64().unwrap_or_else(|| panic!("{key}: {job}"));
    assert_eq!(job["passed"], false, "{job}");
    assert_eq!(number("ended_ns"), 16_000_000_000, "{job}");
    match kind {
        "ping" => {
            assert_eq!((number("sent"), number("received")), (15, 15), "{job}");
            assert_eq!((number("unsent"), number("waiting")), (3585, 0), "{job}");
            assert!(job["rtt"]["mean_ns"].as_u64() > Some(2_000_000), "{job}");
        }
        "traceroute" => assert_eq!(job["hops"], serde_json::json!(["r"]), "{job}"),
        // A megabit in a second, less headers and the beginning.
        _ => {
            let bytes = number("bytes");
            assert!((1_500_000..1_875_000).contains(&bytes), "{job}");
            assert!(number("took_ns") > 14_000_000_000, "{job}");
        }
    }
    if kind == "transfer" {
        assert_eq!(job["sha256"], "", "there is no digest of a part");
    }
}

#[test]
fn by_its_own_timeout() {
    for (kind, text) in ENDLESS {
        let directory = tempfile::tempdir().expect("a directory");
        let content = topology("15s", text);
        let job = job(vnet(&directory, &content, &[]), 1);
        said_what_it_did(kind, &job);
        assert_eq!(
            job["reason"], "not done within its timeout of 15s",
            "{kind}"
        );
    }
}

#[test]
fn by_the_end_of_the_run() {
    for (kind, text) in ENDLESS {
        let directory = tempfile::tempdir().expect("a directory");
        let content = topology("100min", text);
        let job = job(vnet(&directory, &content, &["--until", "16s"]), 1);
        said_what_it_did(kind, &job);
        let reason = job["reason"].as_str().expect("a reason");
        assert!(
            reason.starts_with("not done when the run ended, at "),
            "{reason}"
        );
    }
}

/// Whether a process has a handler for SIGINT, as the kernel tells; `true` once it is gone.
fn heeds_interrupts(process: u32) -> bool {
    const SIGINT_BIT: u64 = 1 << 1;
    let Ok(status) = std::fs::read_to_string(format!("/proc/{process}/status")) else {
        return true;
    };
    let caught = status.lines().find_map(|l| l.strip_prefix("SigCgt:"));
    let mask = caught.and_then(|m| u64::from_str_radix(m.trim(), 16).ok());
    mask.is_none_or(|m| m & SIGINT_BIT != 0)
}

#[test]
fn by_an_interrupt_under_both_drivers() {
    for driver in ["virtual", "threads"] {
        for (kind, text) in ENDLESS {
            let directory = tempfile::tempdir().expect("a directory");
            // Under virtual time the hour would be over at once: the world waits for a pipe.
            let text = match (driver, kind) {
                ("virtual", "transfer") => "transfer = { from = 'a', to = 'b', file = '-' }",
                ("virtual", _) => continue,
                _ => text,
            };
            let content = topology("100min", text);
            let mut command = vnet(&directory, &content, &["--driver", driver]);
            let mut run = command.stdin(Stdio::piped()).spawn().expect("it starts");
            let held = run.stdin.take();
            // Before it heeds interrupts it would just end, as any program.
            while !heeds_interrupts(run.id()) {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            let killed = Command::new("kill")
                .args(["-INT", &run.id().to_string()])
                .status();
            assert!(killed.expect("kill").success());
            let output = run.wait_with_output().expect("it ends");
            drop(held);
            assert_eq!(output.status.code(), Some(130), "{kind}: {output:?}");
            let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
            assert_eq!(report["interrupted"], true);
            assert_eq!(report["passed"], false);
            let reason = report["jobs"][0]["reason"].as_str().expect("a reason");
            assert!(reason.starts_with("interrupted"), "{kind}: {reason}");
            assert_eq!(report["vnets"][0]["teardown"]["leaked"]["sockets"], 0);
        }
    }
}

/// Only one end of a job hears that the other cannot be reached.
#[test]
fn by_what_one_of_its_ends_meets() {
    // Each asks three times, a second apart: `b` is asked by the job's own node, `gone` by the router.
    for (to, who) in [("b", "a"), ("gone", "r")] {
        let content = |job: &str| {
            format!(
                "routing = 'auto'\nhosts = ['a', 'b', 'gone']\nrouters = ['r']\n\
                 link = [\n\
                   {{ ends = ['a 192.0.2.1/24', 'b 192.0.2.2/24'], loss = '100%' }},\n\
                   {{ ends = ['a 198.51.100.1/24', 'r 198.51.100.2/24'] }},\n\
                   {{ ends = ['r 203.0.113.1/24', 'gone 203.0.113.2/24'], loss = '100%' }},\n\
                 ]\n\
                 [[job]]\n{job}\n\
                 [[job]]\nping = {{ from = 'a', to = 'r', count = 1 }}\n"
            )
        };
        for job in [
            format!("transfer = {{ from = 'a', to = '{to}', size = '1MB' }}"),
            format!("throughput = {{ from = 'a', to = '{to}' }}"),
        ] {
            let directory = tempfile::tempdir().expect("a directory");
            let mut command = vnet(&directory, &content(&job), &[]);
            let output = command.output().expect("it starts");
            let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
            let failed = &report["jobs"][0];
            assert_eq!(failed["reason"], "a: host unreachable", "{who}: {report}");
            assert_eq!(failed["ended_ns"], 3_000_000_000u64, "{who}: {report}");
            assert_eq!(report["jobs"][1]["passed"], true, "{report}");
            for vnet in report["vnets"].as_array().expect("they are listed") {
                assert_eq!(vnet["teardown"]["leaked"]["sockets"], 0, "{vnet}");
            }
        }
    }
}

#[test]
fn a_ping_tells_late_from_lost_from_unsent() {
    // Answers take 3 s; a request goes every second all the same, and is waited for for 2 s.
    let content = |job: &str| {
        format!(
            "hosts = ['a', 'b']\n\
             link = [{{ ends = ['a 192.0.2.1/24', 'b 192.0.2.2/24'], delay = '1500ms' }}]\n\
             event = [{{ at = '6s', link = 'a:eth0', state = 'down' }}]\n[[job]]\n{job}\n"
        )
    };
    let directory = tempfile::tempdir().expect("a directory");
    let ping = "ping = { from = 'a', to = 'b', count = 10, interval = '1s', wait = '2s' }";
    let all = job(vnet(&directory, &content(ping), &[]), 1);
    let counts = |job: &Value| {
        ["sent", "received", "late", "lost", "waiting", "unsent"].map(|key| job[key].clone())
    };
    // The first waits for the neighbour, too: it and those of the first six seconds come late, the
    // rest meet a link that is down.
    let seen = counts(&all);
    assert_eq!(seen[0], 10, "{all}");
    assert_eq!(
        (&seen[1], &seen[4], &seen[5]),
        (&0.into(), &0.into(), &0.into())
    );
    let (late, lost) = (seen[2].as_u64(), seen[3].as_u64());
    assert_eq!(late.zip(lost).map(|(a, b)| a + b), Some(10), "{all}");
    assert!(late >= Some(5) && lost >= Some(2), "{all}");
    assert_eq!(
        all["ended_ns"], 11_000_000_000u64,
        "nine intervals and a wait"
    );
    assert_eq!(all["reason"], "no answer in time");

    // Any loss may pass, if it is known what was lost: a job that was cut off does not know.
    let any = ping.replace("wait", "max_loss = '100%', wait");
    let mut passes = vnet(&directory, &content(&any), &[]);
    assert_eq!(passes.output().expect("it starts").status.code(), Some(0));
    let cut = format!("timeout = '5s'\n{any}");
    let cut = job(vnet(&directory, &content(&cut), &[]), 1);
    assert_eq!(cut["unsent"], 5, "{cut}");
    assert_eq!(cut["sent"], 5, "{cut}");
}

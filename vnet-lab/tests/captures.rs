//! The options of `vnet run` that concern captures.

mod in_ipv6;
mod running;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use in_ipv6::in_ipv6;
use running::{at_once, example, imunes};
use vnet_tests::judge::{self, BAD};
use vnet_tests::skip::has_tshark;

const LOSSY: &str = "hosts = ['a', 'b']\n\
    link = [{ ends = ['a 192.0.2.1/30', 'b 192.0.2.2/30'], loss = '3%' }]\n\
    job = [{ transfer = { from = 'a', to = 'b', size = '200kB' } }]\n";
const CLEAN: &str = "hosts = ['a', 'b']\n\
    link = [{ ends = ['a 192.0.2.1/30', 'b 192.0.2.2/30'] }]\n\
    job = [{ transfer = { from = 'a', to = 'b', size = '200kB' } },\n\
           { ping = { from = 'a', to = 'b', count = 3 } }]\n";
const LINK: &str = "a-eth0--b-eth0";

struct Place(tempfile::TempDir);

impl Place {
    fn new(topology: &str) -> Place {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("t.toml"), topology).expect("a file");
        Place(directory)
    }

    /// `vnet run t.toml` with more arguments, in the directory.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vnet"));
        command.current_dir(self.0.path()).args(["run", "t.toml"]);
        command.args(args);
        command
    }

    fn run(&self, status: i32, args: &[&str]) -> Output {
        let output = self.command(args).output().expect("it starts");
        assert_eq!(output.status.code(), Some(status), "{output:?}");
        output
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }
}

fn tshark(path: &Path, filter: &str, field: &str) -> Vec<String> {
    let output = judge::tshark(path)
        .args(["-Y", filter, "-T", "fields", "-e", field])
        .output()
        .expect("tshark starts");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().map(str::to_owned).collect()
}

/// What the jobs of every example send in IPv6, over links that lose and cut and through VLANs: nothing is malformed,
/// and every checksum is right.
#[test]
fn tshark_finds_no_fault_with_ipv6() {
    if !has_tshark() {
        return;
    }
    let read = |file| fs::read_to_string(file).expect("readable");
    let mut examples: Vec<String> = imunes().iter().map(read).collect();
    examples.push(vnet_lab::TRIANGLE.to_owned());
    examples.push(NARROW.to_owned());
    for text in examples {
        let text = in_ipv6(&text);
        let place = Place::new(&text);
        place.run(0, &["--pcap-live", "all.pcapng", "--gso", "cut"]);
        let all = place.path("all.pcapng");
        for protocol in ["ipv6", "icmpv6.type == 135"] {
            assert!(!tshark(&all, protocol, "frame.number").is_empty(), "{text}");
        }
        assert_eq!(tshark(&all, BAD, "frame.number"), [""; 0], "{text}");
    }
}

/// What the examples of the second layer send under both drivers, in full: nothing is malformed, and all that they are
/// about is there.
#[test]
fn tshark_finds_no_fault_with_the_second_layer() {
    if !has_tshark() {
        return;
    }
    let examples = [
        (
            "imunes/vlan.toml",
            &["vlan.id == 10", "vlan.id == 20", "tcp"][..],
        ),
        // A BPDU of the rapid protocol, and one that says that the topology has changed.
        (
            "imunes/rstp.toml",
            &["stp.version == 2", "stp.flags.tc == 1"],
        ),
        ("campus.toml", &["stp.version == 2", "vlan.id == 20"]),
        (
            "qinq.toml",
            &[
                "ieee8021ad.id == 100",
                "ieee8021ad.id == 200",
                "vlan.id == 10",
            ],
        ),
        ("lagg.toml", &["ip"]),
    ];
    at_once(&examples, |(file, there)| {
        let place = Place::new(&example(file));
        for driver in ["virtual", "threads"] {
            let live = format!("{driver}.pcapng");
            let until = ["--pcap-live", &live, "--gso", "cut", "--driver", driver];
            place.run(0, &until);
            let all = place.path(&live);
            for what in *there {
                let found = tshark(&all, what, "frame.number");
                assert!(!found.is_empty(), "{file} under {driver}: {what}");
            }
            let bad = "_ws.malformed || _ws.expert.severity == error || ip.checksum.status == 0 \
                || tcp.checksum.status == 0 || icmp.checksum.status == 0 && icmp.type != 11";
            let found = tshark(&all, bad, "frame.number");
            assert_eq!(found, [""; 0], "{file} under {driver}");
        }
    });
}

/// Fragments, and routers that say what their links take.
const NARROW: &str = "routing = 'auto'\nhosts = ['a', 'b']\nrouters = ['r']\nlink = [\n\
    { ends = ['a 192.0.2.1/30', 'r 192.0.2.2/30'] },\n\
    { ends = [{ node = 'r', address = '192.0.2.5/30', ip_mtu = 1280 }, \
      { node = 'b', address = '192.0.2.6/30', ip_mtu = 1280 }] }]\n\
    job = [{ transfer = { from = 'a', to = 'b', size = '100kB' } },\n\
    { ping = { from = 'a', to = 'b', count = 3, bytes = 4000 } }]";

#[test]
fn what_a_link_dropped_is_marked() {
    let place = Place::new(LOSSY);
    let report = place.run(0, &["--pcap", "c", "--json"]).stdout;
    let report: serde_json::Value = serde_json::from_slice(&report).expect("JSON");
    let lost = |n: usize| report["vnets"][n]["dropped"]["link-loss"].as_u64();
    let lost = lost(0).unwrap_or(0) + lost(1).unwrap_or(0);
    assert!(lost > 0, "{report}");
    let path = place.path(&format!("c/{LINK}.pcapng"));
    if has_tshark() {
        let comments = tshark(&path, "frame.comment", "frame.comment");
        assert_eq!(comments.len() as u64, lost);
        let is_loss = |c: &String| c == "dropped by the link: link-loss";
        assert!(comments.iter().all(is_loss), "{comments:?}");
    }
}

#[test]
fn files_are_bounded_in_bytes_and_number() {
    let place = Place::new(LOSSY);
    place.run(0, &["--pcap", "c", "--pcap-rotate", "20000,3"]);
    let mut names = Vec::new();
    for entry in fs::read_dir(place.path("c")).expect("the directory") {
        let entry = entry.expect("an entry");
        assert!(entry.metadata().expect("a file").len() <= 20_000);
        if has_tshark() {
            assert!(!tshark(&entry.path(), "frame", "frame.number").is_empty());
        }
        names.push(entry.file_name().into_string().expect("UTF-8"));
    }
    names.sort();
    assert_eq!(
        names,
        [0, 1, 2].map(|n| format!("{LINK}.{n}.pcapng")),
        "it came round"
    );
}

#[test]
fn frames_are_snapped_and_segments_cut_when_asked() {
    let place = Place::new(CLEAN);
    place.run(0, &["--pcap", "whole"]);
    place.run(0, &["--pcap", "cut", "--gso", "cut", "--snaplen", "60"]);
    if has_tshark() {
        let longest = |directory: &str, field: &str| {
            let path = place.path(&format!("{directory}/{LINK}.pcapng"));
            let lengths = tshark(&path, "frame", field);
            let lengths = lengths.iter().map(|l| l.parse::<u32>().expect("a number"));
            lengths.max().expect("frames")
        };
        assert!(longest("whole", "frame.len") > 1514);
        assert_eq!(longest("cut", "frame.len"), 1514);
        assert_eq!(longest("cut", "frame.cap_len"), 60);
    }
}

#[test]
fn the_standard_output_is_a_capture_and_the_report_goes_elsewhere() {
    let place = Place::new(CLEAN);
    let first = place.run(0, &["--pcap-live", "-"]);
    let again = place.run(0, &["--pcap-live", "-"]);
    assert_eq!(first.stdout[..4], [0x0a, 0x0d, 0x0d, 0x0a]);
    assert!(first.stdout == again.stdout, "the bytes differ");
    assert!(String::from_utf8_lossy(&first.stderr).contains("all 2 jobs passed"));
}

#[test]
fn a_reader_of_a_fifo_follows_under_both_drivers() {
    if !has_tshark() {
        return;
    }
    for driver in ["virtual", "threads"] {
        let place = Place::new(CLEAN);
        let fifo = place.path("fifo");
        let made = Command::new("mkfifo").arg(&fifo).status().expect("mkfifo");
        assert!(made.success());
        let live = format!("{LINK}=fifo");
        let mut run = place
            .command(&["--driver", driver, "--pcap-live", &live])
            .stdout(Stdio::null())
            .spawn()
            .expect("it starts");
        let mut reader = Command::new("tshark")
            .args(["-l", "-n", "-r"])
            .arg(&fifo)
            .args(["-Y", "icmp.type == 8", "-T", "fields"])
            .args(["-e", "frame.interface_name"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("tshark starts");
        let shown = BufReader::new(reader.stdout.take().expect("piped"));
        let lines: Vec<String> = shown.lines().map(|l| l.expect("UTF-8")).collect();
        assert!(run.wait().expect("it ends").success());
        assert!(reader.wait().expect("it ends").success());
        assert_eq!(lines, ["a-eth0"; 3], "{driver}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let place = Place::new(CLEAN);
    for driver in ["virtual", "threads"] {
        let mut run = place
            .command(&["--driver", driver, "--pcap-live", "-"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        drop(run.stdout.take());
        assert_eq!(run.wait().expect("it ends").code(), Some(0), "{driver}");
    }
}

/// The names of the captures in `c`.
fn names(place: &Place) -> Vec<String> {
    let entries = fs::read_dir(place.path("c")).expect("the directory");
    let name = |entry: std::io::Result<fs::DirEntry>| {
        let name = entry.expect("an entry").file_name();
        name.into_string().expect("UTF-8")
    };
    let mut names: Vec<String> = entries.map(name).collect();
    names.sort();
    names
}

#[test]
fn no_two_links_have_one_file() {
    // Every way to put hyphens into two names of a link.
    let parts = ["a", "a-b", "a--b", "b", "b--a", "a-", "a--"];
    let mut ends = Vec::new();
    for node in parts {
        for interface in parts {
            ends.push(format!("{node}:{interface}"));
        }
    }
    let mut content = String::new();
    for name in parts {
        content += &format!("[node.{name}]\n");
    }
    let mut links = 0;
    for pair in ends.chunks(2) {
        let [left, right] = pair else { continue };
        if left.split(':').next() == right.split(':').next() {
            continue;
        }
        content += &format!(
            "[[link]]\nends = ['{left} 10.0.{links}.1/24', '{right} 10.0.{links}.2/24']\n"
        );
        links += 1;
    }
    // And those of which the old names were equal.
    content += "[node.x]\n[node.y]\n[node.z]\n\
        [[link]]\nends = ['x:e 10.1.0.1/24', 'y:f--z-g 10.1.0.2/24']\n\
        [[link]]\nends = ['x:e--y-f 10.1.1.1/24', 'z:g 10.1.1.2/24']\n";
    let place = Place::new(&content);
    place.run(0, &["--pcap", "c"]);
    assert_eq!(names(&place).len(), links + 2);
    assert!(names(&place).contains(&"x-e--y-f~~z~g.pcapng".to_owned()));
}

const THREE: &str = "hosts = ['a', 'b', 'c']\n\
    link = [\n\
      { ends = ['a:x 10.0.0.1/24', 'b:x 10.0.0.2/24'], name = 'first' ONE },\n\
      { ends = ['b:y 10.0.1.1/24', 'c:y 10.0.1.2/24'], name = 'second' TWO },\n\
      { ends = ['a:z 10.0.2.1/24', 'c:z 10.0.2.2/24'] },\n\
    ]\n";

#[test]
fn single_links_are_captured() {
    let [first, second, third] = ["a-x--b-x", "b-y--c-y", "a-z--c-z"];
    for (one, two, options, expected) in [
        ("", "", &[][..], &[first, third, second][..]),
        (", capture = true", "", &[], &[first]),
        ("", ", capture = false", &[], &[first, third]),
        (", capture = true", ", capture = false", &[], &[first]),
        ("", "", &["--pcap-link", "second"], &[second]),
        (", capture = true", "", &["--pcap-link", "c:z"], &[third]),
        (
            "",
            "",
            &["--pcap-link", first, "--pcap-link", "b:y"],
            &[first, second],
        ),
    ] {
        let place = Place::new(&THREE.replace("ONE", one).replace("TWO", two));
        place.run(0, &[&["--pcap", "c"], options].concat());
        let expected: Vec<String> = expected.iter().map(|n| format!("{n}.pcapng")).collect();
        assert_eq!(names(&place), expected, "{one} {two} {options:?}");
    }
}

#[test]
fn a_live_capture_takes_the_name_of_a_link_an_end_or_a_file() {
    let place = Place::new(&THREE.replace("ONE", "").replace("TWO", ""));
    let read = |link: &str| place.run(0, &["--pcap-live", &format!("{link}=-")]).stdout;
    let by_name = read("second");
    assert!(!by_name.is_empty());
    assert!(by_name == read("b:y") && by_name == read("b-y--c-y"));
    assert!(by_name != read("first"));
}

#[test]
fn more_captures_than_the_soft_limit_of_open_files() {
    let mut content = String::from("hosts = ['hub'");
    (0..90).for_each(|n| content += &format!(", 'h{n}'"));
    content += "]\n";
    for n in 0..90 {
        content += &format!("[[link]]\nends = ['hub 10.0.{n}.1/24', 'h{n} 10.0.{n}.2/24']\n");
    }
    let place = Place::new(&content);
    let limited = |limit: &str| {
        let run = format!("ulimit {limit} 64; exec \"$0\" run t.toml --pcap c");
        let mut command = Command::new("sh");
        command.args(["-c", &run, env!("CARGO_BIN_EXE_vnet")]);
        command.current_dir(place.0.path());
        command.output().expect("a shell")
    };
    let raised = limited("-S -n");
    assert_eq!(raised.status.code(), Some(0), "{raised:?}");
    assert_eq!(names(&place).len(), 90);
    let refused = limited("-n");
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        said.contains("may have 64 files open") && said.contains("--pcap-link"),
        "{said}"
    );
}

#[test]
fn options_that_cannot_be_are_status_2() {
    let place = Place::new(CLEAN);
    for args in [
        &["--pcap-live", "no-such-link=-"][..],
        &["--pcap", "c", "--pcap-link", "no-such-link"],
        &["--pcap-link", LINK],
        &["--pcap-live", "/nonexistent/fifo"],
        &["--pcap-live", "x="],
        &["--pcap", "c", "--pcap-rotate", "100,3"],
        &["--pcap", "c", "--pcap-rotate", "20000"],
        &["--pcap-rotate", "20000,3"],
        &["--snaplen", "0"],
        &["--gso", "half"],
    ] {
        place.run(2, args);
    }
}

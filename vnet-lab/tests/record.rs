//! `vnet show`, `vnet record` and `vnet replay` as a user meets them.

use std::fs;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

fn vnet(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vnet"))
        .args(args)
        .env_remove("RUST_LOG")
        .output()
        .expect("the binary starts")
}

/// What it prints, when all is well.
#[track_caller]
fn prints(args: &[&str]) -> String {
    let output = vnet(args);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.is_empty(), "{said}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// What it says, when it cannot be done.
#[track_caller]
fn refuses(args: &[&str]) -> String {
    let output = vnet(args);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    String::from_utf8(output.stderr).expect("UTF-8")
}

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&prints(args)).expect("JSON")
}

const TWO_LANS: &str = r#"
routing = "auto"
hosts = ["h1", "h2"]
routers = ["r1"]
link = [
  { ends = ["h1 192.0.2.1/24", "r1 192.0.2.254/24"], rate = "1Gbit/s", delay = "1ms" },
  { ends = ["r1 198.51.100.254/24", "h2 198.51.100.1/24"], loss = "1%" },
]
job = [{ ping = { from = "h1", to = "h2", count = 1, max_loss = "100%" } }]
"#;

/// The routes of each version are a table, in which each address is shown as what it is.
#[test]
fn both_versions_are_shown() {
    let files = Files::new();
    let file = files.write(
        "both.toml",
        "link = [{ ends = ['a 192.0.2.1/24 2001:db8::1/64', 'b 192.0.2.2/24 2001:db8::2/64'] }]\n\
         [node.a]\nroutes = ['2001:db8:9::/48 via 2001:db8::2', '2001:db8::/32 via 2001:db8::2']\n\
         [node.b]\n",
    );
    let shown = prints(&["show", &file]);
    let of_a = shown.split("vnet b").next().expect("two vnets");
    let table = |title: &str| -> Vec<Vec<&str>> {
        let (_, table) = of_a.split_once(title).expect("a table");
        let lines = table.trim_start().lines().skip(1);
        let lines = lines.take_while(|line| !line.is_empty());
        lines
            .map(|line| line.split_whitespace().collect())
            .collect()
    };
    assert!(!table("Internet:\n").iter().any(|row| row[0].contains("::")));
    let rows = table("Internet6:\n");
    for row in [
        ["2001:db8::/32", "2001:db8::2", "UGS", "0", "eth0"],
        ["2001:db8:9::/48", "2001:db8::2", "UGS", "0", "eth0"],
        ["2001:db8::1", "link", "UH", "0", "lo0"],
        ["fe80::/64", "link", "U", "0", "eth0"],
    ] {
        assert!(rows.iter().any(|r| *r == row), "{row:?} in\n{shown}");
    }
    let record = files.write("record.toml", &prints(&["record", &file]));
    let again = prints(&["replay", &record]);
    assert!(again.contains("2001:db8:9::/48"), "{again}");
}

struct Files(TempDir);

impl Files {
    fn new() -> Files {
        Files(tempfile::tempdir().expect("a directory"))
    }

    fn write(&self, name: &str, content: &str) -> String {
        let path = self.0.path().join(name);
        fs::write(&path, content).expect("a file");
        path.to_str().expect("a path in UTF-8").to_owned()
    }
}

#[test]
fn show_prints_every_vnet_of_a_topology() {
    let files = Files::new();
    let topology = files.write("t.toml", TWO_LANS);
    let text = prints(&["show", &topology]);
    for expected in [
        "vnet h1: up, host, at 0.000000000s\n",
        "vnet r1: up, router, ",
        "\tinet 192.0.2.1 netmask 0xffffff00 broadcast 192.0.2.255\n",
        "\tmedia: epair to r1:eth0\n\tstatus: active\n",
        "default            192.0.2.254        UGS     0       eth0\n",
        "\ttcp          Protocols/0\n",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
    }
    let seen = json(&["show", &topology, "--json"]);
    let names: Vec<_> = (0..3).map(|n| seen[n]["name"].as_str()).collect();
    assert_eq!(names, [Some("h1"), Some("h2"), Some("r1")]);
    assert_eq!(seen[0]["interfaces"][1]["ip_mtu"], 1500);
    assert_eq!(seen[0]["sockets"], Value::Array(vec![]), "no job has run");
    assert_eq!(
        json(&["show", "--json"]).as_array().map(Vec::len),
        Some(7),
        "the built-in one"
    );
}

/// What is configuration, of a list of vnets.
fn configuration(mut seen: Value) -> Value {
    for vnet in seen.as_array_mut().expect("a list of vnets") {
        for key in ["at", "counters", "usages", "locals"] {
            vnet[key] = Value::Null;
        }
        for step in vnet["init"].as_array_mut().expect("steps") {
            step["took_ns"] = Value::Null;
        }
        for interface in vnet["interfaces"].as_array_mut().expect("interfaces") {
            for key in ["mac", "counters", "link_stats"] {
                interface[key] = Value::Null;
            }
        }
    }
    seen
}

#[test]
fn what_is_recorded_is_replayed() {
    let files = Files::new();
    let topology = files.write("t.toml", TWO_LANS);
    let shown = configuration(json(&["show", &topology, "--json"]));
    // All in one file.
    let all = files.write("all.toml", &prints(&["record", &topology]));
    assert_eq!(configuration(json(&["replay", &all, "--json"])), shown);
    // A file each.
    let each = ["h1", "h2", "r1"].map(|node| {
        let text = prints(&["record", &topology, node]);
        assert!(
            text.starts_with(&format!("version = 1\nname = \"{node}\"\n")),
            "{text}"
        );
        files.write(node, &text)
    });
    let [h1, h2, r1] = &each;
    assert_eq!(
        configuration(json(&["replay", h1, h2, r1, "--json"])),
        shown
    );
    // One alone has nobody at the other end.
    let alone = json(&["replay", h1, "--json"]);
    assert_eq!(alone[0]["interfaces"][1]["carrier"], "down");
    assert!(prints(&["replay", h1]).contains("\tstatus: no carrier\n"));
}

#[test]
fn what_cannot_be_done_is_status_2_and_says_why() {
    let files = Files::new();
    let topology = files.write("t.toml", TWO_LANS);
    let said = refuses(&["record", &topology, "h3"]);
    assert_eq!(said, "there is no node \"h3\"; there are: h1, h2, r1\n");
    let record = prints(&["record", &topology, "h1"]);
    let newer = files.write("newer", &record.replacen("version = 1", "version = 7", 1));
    let said = refuses(&["replay", &newer]);
    assert!(
        said.ends_with("newer: the record has version 7; this library reads version 1\n"),
        "{said}"
    );
    let bad = files.write("bad", &record.replacen("192.0.2.1/24", "192.0.2.0/24", 1));
    let said = refuses(&["replay", &bad]);
    let expected =
        "(add_address eth0 192.0.2.0/24): 192.0.2.0/24 cannot be the address of an interface\n";
    assert!(said.ends_with(expected), "{said}");
    let typo = files.write("typo", &record.replacen("interface =", "interfaze =", 1));
    assert!(refuses(&["replay", &typo]).contains("unknown field `interfaze`"));
    assert!(refuses(&["replay", "/nonexistent"]).starts_with("cannot read /nonexistent"));
    let good = files.write("good", &record);
    assert!(refuses(&["replay", &good, &good]).contains("two of the records are for \"h1\""));
    for usage in [&["replay"][..], &["record"], &["show", "/nonexistent"]] {
        assert_eq!(vnet(usage).status.code(), Some(2), "{usage:?}");
    }
}

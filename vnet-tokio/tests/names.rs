//! What `tokio::net` has, this crate has under the same name. The names are read from the source of tokio that the tests
//! are built with, so a new version that adds something is noticed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A file of tokio's, ours, and what is left out.
const FILES: [(&str, &str, &[&str]); 6] = [
    ("tcp/listener.rs", "listener.rs", &[]),
    ("tcp/stream.rs", "stream.rs", &[]),
    ("tcp/split.rs", "tcp.rs", &[]),
    ("tcp/split_owned.rs", "tcp.rs", &[]),
    (
        "tcp/socket.rs",
        "socket.rs",
        // The library does not tell to which interface a socket is bound.
        &["device"],
    ),
    ("udp.rs", "udp.rs", &["device"]),
];

/// The names of public functions in `file`.
fn names(file: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let word = |rest: &str| {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
        rest[..end.unwrap_or(rest.len())].to_owned()
    };
    let lines = text.lines().map(str::trim_start);
    let functions = lines.filter_map(|line| {
        let rest = line.strip_prefix("pub ")?;
        let rest = rest.strip_prefix("const ").unwrap_or(rest);
        let rest = rest.strip_prefix("async ").unwrap_or(rest);
        rest.strip_prefix("fn ").map(word)
    });
    functions.filter(|name| !name.is_empty()).collect()
}

/// Where the source of tokio is that this is built with, if it is where cargo unpacks crates of a registry.
fn tokio() -> Option<PathBuf> {
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock");
    let lock = std::fs::read_to_string(lock).ok()?;
    let version = lock.split("name = \"tokio\"\nversion = \"").nth(1)?;
    let folder = format!("tokio-{}", version.split('"').next()?);
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(std::env::home_dir()?.join(".cargo")))?;
    let registries = std::fs::read_dir(home.join("registry/src")).ok()?;
    let sources = registries.filter_map(|registry| Some(registry.ok()?.path().join(&folder)));
    sources
        .map(|source| source.join("src/net"))
        .find(|source| source.is_dir())
}

#[test]
fn what_tokio_has_is_here_or_said_to_be_missing() {
    let Some(theirs) = tokio() else {
        println!("skipped: the source of tokio is not where cargo unpacks crates");
        return;
    };
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/net");
    let shared = names(&ours.join("mod.rs"));
    let packets = names(&ours.join("options.rs"));
    let options = std::fs::read_to_string(ours.join("socket.rs")).unwrap();
    for (file, mine, left_out) in FILES {
        let there = names(&theirs.join(file));
        assert!(there.len() > 5, "{file}: {there:?}");
        let mut here = names(&ours.join(mine));
        if mine == "stream.rs" || mine == "udp.rs" {
            here.extend(shared.iter().cloned());
            // The macro has the two names as arguments.
            let kind = if mine == "udp.rs" {
                ["poll_recv_ready", "poll_send_ready"]
            } else {
                ["poll_read_ready", "poll_write_ready"]
            };
            here.extend(kind.map(str::to_owned));
        }
        if mine == "socket.rs" || mine == "udp.rs" {
            here.extend(packets.iter().cloned());
        }
        if mine == "socket.rs" {
            here.extend(
                there
                    .iter()
                    .filter(|name| options.contains(&format!("{name}, set_")))
                    .cloned(),
            );
            here.extend(
                there
                    .iter()
                    .filter(|name| options.contains(&format!(", {name}:")))
                    .cloned(),
            );
        }
        let left_out: BTreeSet<_> = left_out.iter().map(|name| (*name).to_owned()).collect();
        let missing: BTreeSet<_> = there.difference(&here).cloned().collect();
        assert_eq!(missing, left_out, "{file}");
    }
}

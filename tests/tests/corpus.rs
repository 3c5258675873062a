//! Promise: what a fuzzer once found interesting breaks nothing. Each input in `fuzz/corpus` is given to its target,
//! and so are its beginnings and versions of it with a byte or two changed. `VNET_CORPUS_CHANGES` asks for more of these.

use std::fs;
use std::panic;
use std::path::{Path, PathBuf};

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng as _, SeedableRng};
use vnet_tests::fuzz::{self, TARGETS, Target};

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus")
}

/// The inputs of a target, in the order of their names.
fn inputs(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = corpus().join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut all: Vec<_> = entries
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into();
            (name, fs::read(&path).expect("an input"))
        })
        .collect();
    all.sort();
    all
}

/// How many changed versions of each input are tried.
fn changes() -> usize {
    let given = std::env::var("VNET_CORPUS_CHANGES").ok();
    given.map_or(300, |n| n.parse().expect("VNET_CORPUS_CHANGES is a number"))
}

fn changed(input: &[u8], dice: &mut Xoshiro256PlusPlus) -> Vec<u8> {
    let mut changed = input.to_vec();
    for _ in 0..1 + dice.next_u64() % 3 {
        let len = changed.len() as u64;
        if len == 0 {
            break;
        }
        let at = (dice.next_u64() % len) as usize;
        match dice.next_u64() % 4 {
            0 => changed.truncate(at),
            1 => changed[at] ^= 1 << (dice.next_u64() % 8),
            2 => changed[at] = [0, 0xff, 0x7f, 0x80][(dice.next_u64() % 4) as usize],
            _ => changed[at] = dice.next_u64() as u8,
        }
    }
    changed
}

/// Gives the target everything that the corpus has for it.
fn replay(name: &str) {
    let target: Target = fuzz::target(name);
    let inputs = inputs(name);
    assert!(!inputs.is_empty(), "nothing for {name}");
    let mut dice = Xoshiro256PlusPlus::seed_from_u64(1);
    for (file, input) in &inputs {
        let versions = (0..changes()).map(|_| changed(input, &mut dice));
        let versions: Vec<_> = std::iter::once(input.clone()).chain(versions).collect();
        for version in versions {
            if let Err(panicked) = panic::catch_unwind(|| target(&version)) {
                let hex: String = version.iter().map(|b| format!("{b:02x}")).collect();
                eprintln!("{name}/{file}, or a version of it: {hex}");
                panic::resume_unwind(panicked);
            }
        }
    }
}

#[test]
fn hosts_survive() {
    replay("host");
}

#[test]
fn bridges_survive() {
    replay("bridge");
}

#[test]
fn guests_cost_themselves_only() {
    replay("guest");
}

#[test]
fn guests_by_vhost_user_cost_themselves_only() {
    replay("vhost");
}

#[test]
fn records_are_read_or_refused() {
    replay("record");
}

#[test]
fn topologies_are_read_or_refused() {
    replay("topology");
}

#[test]
fn connections_end_whatever_happens_to_them() {
    replay("tcp");
}

/// Scripts of chance for both ends of a connection; `VNET_TCP_STEPS` asks for more steps.
#[test]
fn connections_end_after_any_script() {
    let given = std::env::var("VNET_TCP_STEPS").ok();
    let steps = given.map_or(20_000, |n| n.parse().expect("VNET_TCP_STEPS is a number"));
    let mut dice = Xoshiro256PlusPlus::seed_from_u64(2);
    let mut done = 0;
    while done < steps {
        let input: Vec<u8> = (0..64 + dice.next_u64() % 256)
            .map(|_| dice.next_u64() as u8)
            .collect();
        // An operation has three bytes at the most, and one and a half on average.
        done += input.len() * 2 / 3;
        if let Err(panicked) = panic::catch_unwind(|| fuzz::tcp(&input)) {
            let hex: String = input.iter().map(|b| format!("{b:02x}")).collect();
            eprintln!("tcp: {hex}");
            panic::resume_unwind(panicked);
        }
    }
}

#[test]
fn every_target_has_a_binary_and_a_corpus() {
    let fuzz = corpus().join("..");
    let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).expect("the fuzzer's manifest");
    for (name, _) in TARGETS {
        assert!(!inputs(name).is_empty(), "{name}");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
        let source = fs::read_to_string(fuzz.join(format!("targets/{name}.rs")));
        let source = source.expect("the target's file");
        assert!(source.contains(&format!("fuzz::{name}(")), "{name}");
    }
}

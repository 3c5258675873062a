//! Tests in a process of their own: those that count what a process holds, while other tests come and go in this one.

use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

const INSIDE: &str = "VNET_TEST_INSIDE";

/// Runs an ignored test of this file, of that name, in another process. What it prints is printed if it fails.
pub(crate) fn in_a_process_of_its_own(test: &str) {
    let me = std::env::current_exe().expect("this is a program");
    let output = Command::new(me)
        .args(["--exact", "--ignored", test])
        .env(INSIDE, "1")
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout);
    let why = String::from_utf8_lossy(&output.stderr);
    // A harness that has no test of that name is content.
    let has_run = said.contains("1 passed");
    assert!(output.status.success() && has_run, "{said}\n{why}");
    // Such as that it was skipped.
    eprint!("{why}");
}

/// Whether this is such a process: others run ignored tests, too.
pub(crate) fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Descriptors and threads of this process.
pub(crate) fn holdings() -> (usize, usize) {
    let count = |path: &str| std::fs::read_dir(path).expect("it is there").count();
    (count("/proc/self/fd"), count("/proc/self/task"))
}

/// How many come and go: `VNET_GUEST_ROUNDS`, or as many as every run of the tests can have.
#[allow(dead_code, reason = "not every file with such tests asks")]
pub(crate) fn rounds(as_ever: usize) -> usize {
    let asked = std::env::var("VNET_GUEST_ROUNDS").ok();
    asked.map_or(as_ever, |n| n.parse().expect("a number of rounds"))
}

/// Does `once` as often as `rounds` says, and checks that nothing is left of it: descriptors, threads, memory maps,
/// and what `look` sees besides.
#[allow(dead_code, reason = "not every file with such tests has rounds")]
pub(crate) fn leaves_nothing<T: PartialEq + std::fmt::Debug>(
    rounds: usize,
    look: impl Fn() -> T,
    mut once: impl FnMut(usize),
) {
    // What is made once is there after a few.
    (0..16).for_each(&mut once);
    let (had, other) = once_steady(|| ((holdings(), maps()), look()));
    (16..16 + rounds).for_each(&mut once);
    let (has, others) = once_steady(|| ((holdings(), maps()), look()));
    let ((fds, threads), mapped) = has;
    let ((had_fds, had_threads), had_mapped) = had;
    // Stacks and arenas may be mapped anew, and a driver have a thread more, but not for each.
    assert!(
        fds <= had_fds + 8 && threads <= had_threads + 8 && mapped <= had_mapped + 64,
        "{has:?} after {rounds} rounds, {had:?} before"
    );
    assert_eq!(others, other);
}

/// Memory maps of this process.
fn maps() -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("it is there");
    maps.lines().count()
}

/// What `look` sees once it has seen the same for a while.
pub(crate) fn once_steady<T: PartialEq>(look: impl Fn() -> T) -> T {
    let mut seen = look();
    let mut times = 0;
    while times < 60 {
        sleep(Duration::from_millis(5));
        let now = look();
        times = if now == seen { times + 1 } else { 0 };
        seen = now;
    }
    seen
}

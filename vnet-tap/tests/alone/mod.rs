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

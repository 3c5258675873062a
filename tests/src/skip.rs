//! What to do with a test that cannot run here.

use std::fmt::Display;
use std::io::Write;

/// Set where TAP devices can be made: a test that needs one and cannot run fails then.
pub const REQUIRE_TAP: &str = "VNET_REQUIRE_TAP";

/// Set where Open vSwitch is installed: a test that needs it and cannot run fails then.
pub const REQUIRE_OVS: &str = "VNET_REQUIRE_OVS";

/// Set where tshark is installed: a test that needs it and cannot run fails then.
pub const REQUIRE_TSHARK: &str = "VNET_REQUIRE_TSHARK";

/// Says why a test that needs a TAP device is skipped, on the standard error itself: the test
/// harness keeps what a test that passes prints to itself.
///
/// # Panics
/// When [`REQUIRE_TAP`] is set in the environment, to anything but nothing.
pub fn without_tap(why: &dyn Display) {
    refuse_if_set(REQUIRE_TAP, why);
    without_device(why);
}

/// Says why a test that needs Open vSwitch is skipped.
///
/// # Panics
/// When [`REQUIRE_OVS`] is set in the environment, to anything but nothing.
pub fn without_ovs(why: &dyn Display) {
    refuse_if_set(REQUIRE_OVS, why);
    without_device(&format_args!("Open vSwitch: {why}"));
}

/// Says why a test is skipped that needs a kind of device that not every kernel has.
pub fn without_device(why: &dyn Display) {
    // Nobody to tell it to is no reason to fail.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}

/// True when tshark can be run; says so when a test has to do without its judgement.
///
/// # Panics
/// When [`REQUIRE_TSHARK`] is set in the environment, to anything but nothing, and there is none.
pub fn has_tshark() -> bool {
    let mut command = std::process::Command::new("tshark");
    let Err(why) = command.arg("--version").output() else {
        return true;
    };
    refuse_if_set(REQUIRE_TSHARK, &why);
    without_device(&format_args!("tshark: {why}"));
    false
}

/// Fails a test that must not be skipped here.
fn refuse_if_set(variable: &str, why: &dyn Display) {
    let required = std::env::var_os(variable).is_some_and(|v| !v.is_empty());
    assert!(!required, "{variable} is set, but: {why}");
}

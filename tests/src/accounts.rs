//! The laws that every vnet's counters and every teardown are held to.

use std::time::Duration;

use vnet::time::Instant;
use vnet::{DestroyReport, Stats, System, Vnet};

/// Asserts that every frame that came into `vnet` is accounted for exactly once.
///
/// # Panics
/// When it is not, with all counters; when the vnet is gone.
#[track_caller]
pub fn assert_conserved(vnet: &Vnet) {
    let stats = vnet.stats().expect("the vnet is alive");
    let pending = vnet.pending().expect("the vnet is alive");
    let accounted = stats.delivered + stats.forwarded + stats.rx_dropped() + pending;
    assert_eq!(
        stats.received,
        accounted,
        "{}: received {} but delivered {} + forwarded {} + dropped {} + pending {pending}; {}",
        vnet.name(),
        stats.received,
        stats.delivered,
        stats.forwarded,
        stats.rx_dropped(),
        drops(&stats),
    );
}

/// The drops of received packets by reason, as text.
pub fn drops(stats: &Stats) -> String {
    let mut text = String::from("rx drops:");
    for reason in vnet::DropReason::ALL {
        match stats.rx_drops(*reason) {
            0 => {}
            n => text.push_str(&format!(" {reason}={n}")),
        }
    }
    text
}

/// Asserts that a teardown left nothing, that no step of it failed, and that the stack had not.
///
/// # Panics
/// When something is left, with the report.
#[track_caller]
pub fn assert_clean(report: &DestroyReport) {
    assert!(report.leaked.is_zero(), "{report}");
    assert!(report.failure.is_none(), "{report}");
    assert!(report.steps.iter().all(|s| s.failure.is_none()), "{report}");
}

/// A deadline later than this is no work that a network does for itself.
pub const FAR: Duration = Duration::from_secs(24 * 3600);

/// Moves a manual system from deadline to deadline until nothing is left to do, or only what is
/// a day or more away.
///
/// # Panics
/// When it is still busy after `polls` polls.
#[track_caller]
pub fn run_until_idle(system: &System, polls: usize) -> Instant {
    let mut now = system.now();
    for _ in 0..polls {
        match system.poll(now) {
            None => return now,
            Some(next) if next - now >= FAR => return now,
            Some(next) => now = next.max(now),
        }
    }
    panic!("still busy at {now} after {polls} polls");
}

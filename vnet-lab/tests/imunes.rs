//! The basic examples of IMUNES, as files that a user can run: every job passes under both drivers.

mod running;

use running::{DRIVERS, at_once, example, imunes, options, passes, run};
use vnet_lab::Family;
use vnet_lab::report::Layout;
use vnet_lab::run::{Driver, Options};

#[test]
fn each_example_is_there() {
    let files = imunes();
    let names: Vec<_> = files
        .iter()
        .filter_map(|f| f.file_stem()?.to_str())
        .collect();
    let expected = [
        "hub",
        "lossy-link",
        "ping",
        "rstp",
        "static-routing",
        "switch",
        "traceroute",
        "vlan",
    ];
    assert_eq!(names, expected);
    let page = include_str!("../../docs/topology.md");
    for name in names {
        let shown = format!("vnet run vnet-lab/topologies/imunes/{name}.toml");
        assert!(
            page.contains(&shown),
            "docs/topology.md does not show `{shown}`"
        );
    }
}

#[test]
fn every_job_passes_under_both_drivers() {
    let read = |file| std::fs::read_to_string(file).expect("readable");
    let examples: Vec<String> = imunes().iter().map(read).collect();
    at_once(&examples, |text| {
        for driver in DRIVERS {
            passes(text, &options(driver, 1));
        }
    });
}

/// A link of several wires goes on without one of them.
#[test]
fn the_example_of_link_aggregation_passes_under_both_drivers() {
    for driver in DRIVERS {
        let report = passes(&example("lagg.toml"), &options(driver, 1));
        let text = report.to_text(Layout::default());
        let wires: Vec<&str> = report.links.iter().map(|l| l.from.as_str()).collect();
        let expected = [
            "left:lagg0-1",
            "left:lagg0-2",
            "left:lagg0-3",
            "right:lagg0-1",
            "right:lagg0-2",
            "right:lagg0-3",
        ];
        assert_eq!(wires, expected, "{text}");
        assert_eq!(report.links[0].changes, 1, "{text}");
        // Nothing but LACPDUs was sent by the wire that failed, and those are lost.
        assert!(report.links[0].stats.down > 0, "{text}");
    }
}

/// IPv4 takes the shorter path, and IPv6 the one whose routers speak it.
#[test]
fn the_example_of_both_families_passes_under_both_drivers() {
    for driver in DRIVERS {
        let report = passes(&example("dual-stack.toml"), &options(driver, 1));
        let over: Vec<Family> = report.jobs.iter().map(|job| job.family).collect();
        assert_eq!(over[0], Family::V4);
        assert!(over[1..].iter().all(|family| *family == Family::V6));
    }
}

/// Links that do something: they are cut, they lose in bursts, they queue.
#[test]
fn the_examples_of_links_pass_and_their_events_happen() {
    let run = |name, until| {
        let options = Options {
            until,
            ..options(Driver::Virtual, 1)
        };
        run(&example(name), &options)
    };
    let satellite = run("satellite.toml", None);
    assert!(satellite.passed, "{}", satellite.to_text(Layout::default()));
    let [up, down] = &satellite.links[..] else {
        panic!("{}", satellite.to_text(Layout::default()));
    };
    assert!(up.stats.down > 0 && up.stats.lost > 0, "{}", up.stats);
    assert!(up.changes > 2 && down.changes == 2);
    assert_eq!(satellite, run("satellite.toml", None));

    let bloated = run("bufferbloat.toml", None);
    assert!(bloated.passed, "{}", bloated.to_text(Layout::default()));
    let half_a_second = std::time::Duration::from_millis(500);
    assert!(bloated.links[0].stats.sojourn.p90 > half_a_second);

    // The ramp goes on after the jobs, and is cut off here.
    let longer = run("satellite.toml", Some(std::time::Duration::from_secs(60)));
    assert_eq!(longer.ended_ns, 60_000_000_000);
    assert_eq!(longer.links[0].changes, 2 + 11);
    let shorter = run("satellite.toml", Some(std::time::Duration::from_secs(4)));
    assert!(!shorter.passed);
    let reason = shorter.jobs[1].reason.as_deref().expect("it failed");
    assert!(reason.contains("when the run ended"), "{reason}");
}

use super::*;
use crate::family::Family;
use crate::job::ping::{self, RequestCounts, RoundTrips};
use crate::job::traceroute;
use std::time::Duration;

fn report() -> Report {
    Report {
        topology: "t".to_owned(),
        driver: "virtual",
        seed: Some(7),
        passed: false,
        interrupted: false,
        ended_ns: 1_500_000_000,
        fingerprint: None,
        events: Vec::new(),
        attached: Vec::new(),
        links: Vec::new(),
        jobs: vec![
            JobReport {
                name: "ping a → b".to_owned(),
                from: "a".to_owned(),
                to: "b".to_owned(),
                family: Family::V4,
                passed: true,
                state: JobState::Passed,
                reason: None,
                started_ns: 0,
                ended_ns: 5,
                figures: Figures::Ping(ping::Figures {
                    requests: RequestCounts {
                        sent: 2,
                        received: 2,
                        ..RequestCounts::default()
                    },
                    rtt: RoundTrips::of(&[
                        Duration::from_millis(10),
                        Duration::from_micros(10_501),
                    ]),
                }),
            },
            JobReport {
                name: "traceroute a → b".to_owned(),
                from: "a".to_owned(),
                to: "b".to_owned(),
                family: Family::V4,
                passed: false,
                state: JobState::Failed,
                reason: Some("took r, *, b; expected r, b".to_owned()),
                started_ns: 5,
                ended_ns: 6,
                figures: Figures::Traceroute(traceroute::Figures {
                    hops: vec![Some("r".to_owned()), None, Some("b".to_owned())],
                    labels: Vec::new(),
                }),
            },
        ],
        vnets: vec![VnetReport {
            name: "a".to_owned(),
            received: 10,
            delivered: 9,
            forwarded: 0,
            sent: 12,
            dropped: BTreeMap::from([("no-socket", 1)]),
            spanning_tree: None,
            vlans: Vec::new(),
            lldp: Vec::new(),
            teardown: Teardown {
                steps: vec!["ip".to_owned()],
                released: Counts {
                    sockets: 2,
                    ..Counts::default()
                },
                leaked: Counts::default(),
                failure: None,
            },
        }],
    }
}

#[test]
fn as_json_it_is_one_object_with_fixed_order() {
    let zero =
        r#"{"sockets":0,"connections":0,"interfaces":0,"stations":0,"packets":0,"deadlines":0}"#;
    let two = zero.replacen('0', "2", 1);
    let expected = [
        r#"{"topology":"t","driver":"virtual","seed":7,"passed":false,"interrupted":false,"ended_ns":1500000000,"jobs":["#,
        r#"{"name":"ping a → b","from":"a","to":"b","passed":true,"started_ns":0,"ended_ns":5,"#,
        r#""kind":"ping","sent":2,"received":2,"late":0,"lost":0,"waiting":0,"unsent":0,"rtt":{"min_ns":10000000,"mean_ns":10250500,"max_ns":10501000}},"#,
        r#"{"name":"traceroute a → b","from":"a","to":"b","passed":false,"#,
        r#""reason":"took r, *, b; expected r, b","started_ns":5,"ended_ns":6,"#,
        r#""kind":"traceroute","hops":["r",null,"b"]}],"#,
        r#""links":[],"vnets":[{"name":"a","received":10,"delivered":9,"forwarded":0,"sent":12,"#,
        r#""dropped":{"no-socket":1},"teardown":{"steps":["ip"],"released":"#,
        &two,
        r#","leaked":"#,
        zero,
        "}}]}",
    ];
    assert_eq!(report().to_json(), expected.concat());
}

#[test]
fn requests_are_told_apart() {
    let figures = Figures::Ping(ping::Figures {
        requests: RequestCounts {
            sent: 9,
            received: 2,
            late: 3,
            lost: 3,
            waiting: 1,
            unsent: 4,
        },
        rtt: None,
    });
    assert_eq!(
        figures.to_string(),
        "2 of 13 answered, 3 late, 3 lost, 1 not waited for, 4 not sent"
    );
}

#[test]
fn an_interrupt_says_how_far_each_job_got() {
    let mut report = report();
    report.interrupted = true;
    let mut job = report.jobs[0].clone();
    job.state = JobState::Interrupted;
    job.reason = Some("interrupted".to_owned());
    report.jobs.push(job.clone());
    job.state = JobState::NotStarted;
    report.jobs.push(job);
    let shown = report.to_text(Layout::default());
    for part in [
        "ping a → b         cut off       2 of 2 answered, rtt",
        "ping a → b         not started\n",
        "t: interrupted, 1 passed, 1 cut off, 1 not started, 1 of 4 jobs FAILED (",
    ] {
        assert!(shown.contains(part), "{part:?} is not in\n{shown}");
    }
}

#[test]
fn a_leak_is_shown_however_little_is_said() {
    let mut report = report();
    report.vnets[0].teardown.leaked.packets = 3;
    let shown = shown(&report, 80, Detail::Quiet);
    assert!(shown.contains("vnet a LEAKED: 3 packets\n"), "{shown}");
    assert!(shown.contains(", 1 vnet FAILED or LEAKED ("), "{shown}");
}

#[test]
fn a_vnet_that_ended_by_itself_is_shown() {
    let mut report = report();
    let teardown = &mut report.vnets[0].teardown;
    assert!(teardown.is_clean());
    teardown.failure = Some("the stack panicked".to_owned());
    assert!(!teardown.is_clean());
    assert!(
        report
            .to_text(Layout::default())
            .contains("vnet a FAILED: the stack panicked\n")
    );
    assert!(
        report
            .to_json()
            .contains(r#""failure":"the stack panicked"}}]}"#)
    );
}

fn shown(report: &Report, width: u16, detail: Detail) -> String {
    report.to_text(Layout { width, detail })
}

/// A direction of a link that carried so many frames, of which one in a hundred was lost.
fn link(from: &str, to: &str, frames: u64) -> LinkReport {
    LinkReport {
        from: from.to_owned(),
        to: to.to_owned(),
        changes: 0,
        stats: LinkStats {
            offered: frames,
            offered_bytes: frames * 1000,
            lost: frames / 100,
            sojourn: vnet::link::Sojourn {
                p50: Duration::from_nanos(123_456),
                p90: Duration::from_nanos(1_234_567),
                p99: Duration::from_nanos(12_345_678),
                max: Duration::from_millis(20),
            },
            ..LinkStats::default()
        },
    }
}

/// What a run with a job that failed, an event and drops comes to.
fn eventful() -> Report {
    let mut report = report();
    report.links = vec![
        link("client:eth0", "gateway:lan0", 12_345),
        link("gateway:lan0", "client:eth0", 0),
    ];
    report.links[0].stats.queue_full = 7;
    report.links[0].changes = 1;
    report.events = vec![EventReport {
        at: Duration::from_millis(1500),
        link: "uplink".to_owned(),
        change: "rate from 10.0 Mbit/s to 1.00 Mbit/s over 5s, in steps of 500ms".to_owned(),
    }];
    report.jobs[1].reason =
        Some("expected gateway → backbone → server, and not another way".to_owned());
    report
}

#[track_caller]
fn is_laid_out_as(width: u16, expected: &str) {
    let shown = shown(&eventful(), width, Detail::Normal);
    assert_eq!(shown, expected, "\n{shown}");
}

#[test]
fn the_layout_at_80_and_120_columns() {
    is_laid_out_as(80, include_str!("tests/80-columns.txt"));
    is_laid_out_as(120, include_str!("tests/120-columns.txt"));
}

/// As many vnets, links and jobs, with names of up to 63 letters; every hundredth job failed.
fn many(n: u64) -> Report {
    let mut report = eventful();
    let (passed, failed) = (report.jobs[0].clone(), report.jobs[1].clone());
    let vnet = report.vnets[0].clone();
    let name = |k: u64| format!("{}{k}", "n".repeat(k as usize % 60));
    report.jobs = (1..=n)
        .map(|k| JobReport {
            name: format!("{} → {}", name(k), name(k + 1)),
            ..if k % 100 == 0 {
                failed.clone()
            } else {
                passed.clone()
            }
        })
        .collect();
    // Half of the links are idle.
    report.links = (1..=n)
        .map(|k| link(&name(k), &name(k + 1), k / (n / 2) * 100 * k))
        .collect();
    report.events = vec![report.events[0].clone(); n as usize];
    report.vnets = (1..=n)
        .map(|k| VnetReport {
            name: name(k),
            ..vnet.clone()
        })
        .collect();
    report
}

#[test]
fn vlans_are_shown_with_their_ports_and_how_many_stations_are_known() {
    let mut report = many(2);
    let station = StationReport {
        mac: "02:00:00:00:00:01".to_owned(),
        interface: "eth0".to_owned(),
    };
    let vlan = |vid, untagged: &[&str], stations: usize| VlanReport {
        vid,
        untagged: untagged.iter().map(|name| (*name).to_owned()).collect(),
        tagged: vec!["eth9".to_owned()],
        stations: vec![station.clone(); stations],
    };
    report.vnets[1].vlans = vec![vlan(10, &["eth0", "eth1"], 3), vlan(20, &[], 0)];
    let text = shown(&report, 120, Detail::Normal);
    let rows = switches(&text);
    assert_eq!(
        rows[0],
        ["switch", "VLAN", "untagged", "tagged", "stations"]
    );
    assert_eq!(rows[2][1..], ["10", "eth0,", "eth1", "eth9", "3"], "{text}");
    assert_eq!(rows[3][1..], ["20", "–", "eth9", "0"], "{text}");
}

/// The first four lines of the table of switches, column by column.
fn switches(text: &str) -> Vec<Vec<&str>> {
    let from = text.find(" switch ").expect("a table");
    let lines = text[from..].lines().take(4);
    lines.map(|l| l.split_whitespace().collect()).collect()
}

fn tree(bridge: &str, root_cost: u32, ports: &[(&str, &str)]) -> Option<SpanningTreeReport> {
    let port = |(n, (role, state)): (usize, &(&str, &str))| TreePortReport {
        interface: format!("eth{n}"),
        role: (*role).to_owned(),
        state: (*state).to_owned(),
        cost: 20_000,
        bpdus_in: 1,
        bpdus_out: 2,
    };
    Some(SpanningTreeReport {
        bridge: bridge.to_owned(),
        root: "4096.02:00:00:00:00:01".to_owned(),
        root_cost,
        topology_changes: 3,
        ports: ports.iter().enumerate().map(port).collect(),
    })
}

#[test]
fn spanning_trees_are_shown_from_the_root_on() {
    let mut report = many(2);
    let designated = ("designated", "forwarding");
    let others = [
        ("root", "forwarding"),
        ("alternate", "discarding"),
        designated,
    ];
    report.vnets[0].spanning_tree = tree("32768.02:00:00:00:00:02", 20_000, &others);
    report.vnets[1].spanning_tree = tree("4096.02:00:00:00:00:01", 0, &[designated; 9]);
    let text = shown(&report, 120, Detail::Normal);
    let rows = switches(&text);
    let [header, _, root, other] = &rows[..] else {
        panic!("{text}");
    };
    assert_eq!(
        header[..],
        ["switch", "path", "cost", "changes", "ports"],
        "{text}"
    );
    assert_eq!(root[1..], ["root", "3", "9", "designated"], "{text}");
    assert_eq!(other[1..3], ["20", "000"], "{text}");
    assert!(
        other
            .join(" ")
            .ends_with("3 eth0 root, eth1 alternate (discarding), 1 designated"),
        "{text}"
    );
}

#[test]
fn tables_fit_and_are_short_whatever_there_is_to_say() {
    let report = many(3000);
    for width in [80, 120] {
        let shown = shown(&report, width, Detail::Normal);
        for line in shown.lines() {
            assert!(line.chars().count() <= usize::from(width), "{line}");
        }
        // Thirty jobs that failed, in full, and twenty rows of everything else.
        let lines = shown.lines().count();
        assert!(lines < 30 * 8 + 3 * 20 * 5 + 40, "{lines} lines\n{shown}");
        assert_eq!(shown.matches("FAILED").count(), 30 + 1);
        for part in [
            "… jobs not listed: 2 970 passed; --verbose shows all",
            "… and 1 481 more links, and 1 499 idle; --verbose shows all",
            "… and 2 980 more events; --verbose shows all",
            "… and 2 980 more vnets; --verbose shows all",
            "t: 30 of 3 000 jobs FAILED",
        ] {
            let shown = shown.replace('\n', " ");
            assert!(shown.contains(part), "{part:?} is not in\n{shown}");
        }
    }
    let all = shown(&report, 120, Detail::Verbose);
    assert!(all.lines().count() > 4 * 3000);
    assert!(!all.contains("--verbose"));
}

#[test]
fn of_many_jobs_that_failed_the_first_are_listed() {
    let mut report = many(3000);
    let failed = report.jobs[99].clone();
    report.jobs.fill(failed);
    for (detail, lines) in [
        (Detail::Normal, 40 * 8 + 3 * 20 * 5 + 40),
        (Detail::Quiet, 40 * 8 + 10),
    ] {
        let shown = shown(&report, 80, detail);
        assert!(shown.lines().count() < lines, "{shown}");
        // The last two are in the count of the others, and in the verdict.
        assert_eq!(shown.matches("FAILED").count(), 40 + 2);
        let rest = "\n… jobs not listed: 2 960 FAILED; --verbose shows all\n";
        assert!(shown.contains(rest), "{shown}");
        assert!(shown.contains("t: 3 000 of 3 000 jobs FAILED"), "{shown}");
    }
}

#[test]
fn links_without_a_queue_have_no_column_for_it() {
    let mut report = eventful();
    let heading = "queue p50/p90/p99";
    assert!(shown(&report, 80, Detail::Normal).contains(heading));
    for link in &mut report.links {
        link.stats.sojourn = vnet::link::Sojourn::default();
    }
    let shown = shown(&report, 80, Detail::Normal);
    assert!(!shown.contains("p50"), "{shown}");
    assert!(
        shown.contains("12.3 MB   123 lost, 7 queue full,"),
        "{shown}"
    );
}

#[test]
fn quiet_says_what_failed_and_the_verdict() {
    let mut report = eventful();
    let quiet = shown(&report, 80, Detail::Quiet);
    assert!(
        !quiet.contains("ping") && quiet.contains("traceroute a → b   FAILED"),
        "{quiet}"
    );
    assert!(
        !quiet.contains("link") && !quiet.contains("vnet "),
        "{quiet}"
    );
    report.jobs.truncate(1);
    assert_eq!(
        shown(&report, 80, Detail::Quiet),
        "t: 1 job passed (virtual driver, seed 7, 1.50 s simulated)\n"
    );
}

#[test]
fn verbose_lists_idle_links_and_the_teardown() {
    let verbose = shown(&eventful(), 80, Detail::Verbose);
    for part in [" 0/2 ", "Teardown, as leaked/held", " 0 B "] {
        assert!(verbose.contains(part), "{part:?} is not in\n{verbose}");
    }
}

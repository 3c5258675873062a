use super::*;
use crate::job::ping::{self, RequestCounts, RoundTrips};
use crate::job::{traceroute, transfer};
use crate::quantity::bits_per_second;
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
        links: Vec::new(),
        jobs: vec![
            JobReport {
                name: "ping a → b".to_owned(),
                from: "a".to_owned(),
                to: "b".to_owned(),
                passed: true,
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
                passed: false,
                reason: Some("took r, *, b; expected r, b".to_owned()),
                started_ns: 5,
                ended_ns: 6,
                figures: Figures::Traceroute(traceroute::Figures {
                    hops: vec![Some("r".to_owned()), None, Some("b".to_owned())],
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
fn as_a_table_it_says_what_failed_and_why() {
    let shown = report().to_table();
    for part in [
        "passed   2/2 answers, rtt 10.000/10.250/10.501 ms",
        "FAILED   took r, *, b; expected r, b",
        "r → * → b",
        "0/2",
        "torn down: nothing left of what was held\n",
        "t: 1 of 2 jobs FAILED (virtual driver, seed 7, 1.500 s of its time)\n",
    ] {
        assert!(shown.contains(part), "{part:?} is not in\n{shown}");
    }
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
        "2/13 answers, 3 late, 3 lost, 1 not waited for, 4 not sent"
    );
}

#[test]
fn an_interrupt_is_shown() {
    let mut report = report();
    report.interrupted = true;
    report.jobs.clear();
    assert!(report.to_table().contains("t: interrupted ("));
}

#[test]
fn a_leak_is_shown() {
    let mut report = report();
    report.vnets[0].teardown.leaked.packets = 3;
    let shown = report.to_table();
    assert!(shown.contains("1 vnets LEFT SOMETHING BEHIND") && shown.contains("3/0"));
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
            .to_table()
            .contains("vnet a FAILED: the stack panicked\n")
    );
    assert!(
        report
            .to_json()
            .contains(r#""failure":"the stack panicked"}}]}"#)
    );
}

#[test]
fn rates_are_exact() {
    assert_eq!(bits_per_second(1_250_000, 1_000_000_000), 10_000_000);
    assert_eq!(bits_per_second(u64::MAX, 1), u64::MAX);
    assert_eq!(bits_per_second(5, 0), 0);
    let transfer = Figures::Transfer(transfer::Figures {
        bytes: 1_048_576,
        took_ns: 838_860_800,
        sha256: "0123456789abcdef".to_owned(),
    });
    assert_eq!(
        transfer.to_string(),
        "1048576 bytes in 0.838 s, 10.00 Mbit/s, sha256 0123456789ab…"
    );
}

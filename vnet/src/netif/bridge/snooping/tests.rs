//! Who is believed to be where, of what is said at what time.

use std::net::Ipv4Addr;

use slotmap::KeyData;

use super::*;
use crate::base::switch::Switch;

const VLAN: Fid = Fid::of(5);
const OWN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 5);

fn member(n: u64) -> IfId {
    KeyData::from_ffi(n + (1 << 32)).into()
}

fn at(seconds: u64) -> Instant {
    Instant::ZERO + Duration::from_secs(seconds)
}

fn group(n: u8) -> IpAddr {
    Ipv4Addr::new(239, 0, 0, n).into()
}

fn host(n: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, n).into()
}

fn snooper(change: impl FnOnce(&mut Snooping)) -> Snooper {
    let mut config = Snooping::default();
    change(&mut config);
    let mut snooper = Snooper::new(config, Arc::new(Account::new(u64::MAX)));
    snooper.ask_in(at(0), &BTreeSet::from([VLAN]));
    snooper
}

/// One where a switch without an address asks in a VLAN, so that groups are known 10 s later.
fn asked_snooper(change: impl FnOnce(&mut Snooping)) -> Snooper {
    let mut snooper = snooper(change);
    asks(&mut snooper, 0, 9, None, None);
    snooper
}

fn heard(from: Option<IpAddr>, says: Says) -> Heard {
    let group = match &says {
        Says::Memberships(records) => records.first().map(|(group, _)| *group),
        Says::Query { group, .. } => *group,
        Says::Hello(_) => None,
    };
    let address = from.or(group).unwrap_or(OWN.into());
    Heard {
        version: Version::of(address),
        from,
        says,
    }
}

fn is_in(vlan: Fid) -> bool {
    vlan == VLAN
}

fn says(snooper: &mut Snooper, now: u64, from: u64, n: u8, is_member: bool) {
    let says = Says::Memberships(vec![(group(n), is_member)]);
    let report = heard(Some(host(from as u8)), says);
    snooper.heard(at(now), VLAN, member(from), &report);
}

fn asks(snooper: &mut Snooper, now: u64, by: u64, from: Option<IpAddr>, group: Option<IpAddr>) {
    let response = match group {
        Some(_) => LAST_MEMBER,
        None => RESPONSE,
    };
    let says = Says::Query { group, response };
    snooper.heard(at(now), VLAN, member(by), &heard(from, says));
}

fn members(snooper: &Snooper, now: u64, n: u8) -> Vec<u64> {
    let is_in = |m: &u64| snooper.is_member(at(now), VLAN, group(n), member(*m));
    (1..5).filter(is_in).collect()
}

/// The questions that it asks until then, with their times in milliseconds.
fn asked(snooper: &mut Snooper, until: u64) -> Vec<(u64, Option<IfId>, Option<IpAddr>)> {
    let mut all = Vec::new();
    let mut now = at(0);
    loop {
        while let Some(question) = snooper.poll(now) {
            all.push((now.as_nanos() / 1_000_000, question.to, question.group));
        }
        match snooper.next_deadline() {
            Some(next) if next <= at(until) => now = now.max(next),
            _ => return all,
        }
    }
}

#[test]
fn a_report_holds_for_two_questions_and_an_answer() {
    let mut s = asked_snooper(|_| {});
    asks(&mut s, 200, 9, None, None);
    says(&mut s, 0, 1, 1, true);
    says(&mut s, 100, 2, 1, true);
    assert_eq!(members(&s, 100, 1), [1, 2]);
    assert_eq!(members(&s, 260, 1), [2]);
    assert_eq!(
        s.audience(at(260), VLAN, group(1)),
        Audience::Members(group(1))
    );
    assert_eq!(s.audience(at(360), VLAN, group(1)), Audience::All);
    assert_eq!(
        s.audience(at(260), Fid::of(6), group(1)),
        Audience::All,
        "another VLAN"
    );
}

#[test]
fn groups_in_which_all_are_go_to_all() {
    let mut s = asked_snooper(|c| c.unknown = Switch::Off);
    let all: IpAddr = Ipv4Addr::new(224, 0, 0, 251).into();
    let says = Says::Memberships(vec![(all, true)]);
    s.heard(at(0), VLAN, member(1), &heard(None, says));
    assert_eq!(s.audience(at(10), VLAN, all), Audience::All);
    assert_eq!(s.groups(at(10)).count(), 0);
    assert_eq!(
        s.audience(at(10), VLAN, group(1)),
        Audience::Members(group(1))
    );
}

#[test]
fn who_asks_with_an_address_is_a_router() {
    let mut s = snooper(|_| {});
    asks(&mut s, 0, 1, None, None);
    assert_eq!(s.routers(at(0)).count(), 0);
    asks(&mut s, 0, 1, Some(host(1)), None);
    assert!(s.is_router(at(254), VLAN, member(1)));
    assert!(!s.is_router(at(255), VLAN, member(1)) && !s.is_router(at(1), VLAN, member(2)));
    s.heard(
        at(0),
        VLAN,
        member(3),
        &heard(None, Says::Hello(Duration::from_secs(105))),
    );
    assert!(s.is_router(at(104), VLAN, member(3)) && !s.is_router(at(105), VLAN, member(3)));
}

#[test]
fn who_leaves_is_asked_for_twice_and_stays_in_when_somebody_answers() {
    let mut s = snooper(|c| c.querier = Some(OWN));
    assert_eq!(asked(&mut s, 32).len(), 2, "it begins with two");
    for n in [1, 2] {
        says(&mut s, 32, n, 1, true);
    }
    says(&mut s, 40, 1, 1, false);
    // Again, which changes nothing.
    says(&mut s, 40, 1, 1, false);
    let group_1 = Some(group(1));
    let first = (40_000, Some(member(1)), group_1);
    assert_eq!(
        asked(&mut s, 41),
        [first, (41_000, Some(member(1)), group_1)]
    );
    assert_eq!(members(&s, 41, 1), [1, 2]);
    assert_eq!(members(&s, 42, 1), [2]);
    says(&mut s, 43, 2, 1, false);
    says(&mut s, 44, 2, 1, true);
    assert_eq!(
        members(&s, 100, 1),
        [2],
        "another host behind it is still there"
    );
}

#[test]
fn with_fast_leave_nobody_is_asked() {
    let mut s = snooper(|c| (c.fast_leave, c.querier) = (Switch::On, Some(OWN)));
    says(&mut s, 1, 1, 1, true);
    says(&mut s, 1, 1, 1, false);
    assert_eq!(members(&s, 1, 1), []);
    assert!(asked(&mut s, 10).iter().all(|(.., group)| group.is_none()));
}

/// The router that asks also asks for those who have left.
#[test]
fn a_question_about_a_group_of_another_shortens_what_is_known() {
    let mut s = snooper(|_| {});
    for n in [1, 2] {
        says(&mut s, 0, n, 1, true);
    }
    asks(&mut s, 10, 3, Some(host(1)), Some(group(1)));
    says(&mut s, 11, 2, 1, true);
    assert_eq!(members(&s, 11, 1), [1, 2]);
    assert_eq!(members(&s, 12, 1), [2]);
}

#[test]
fn of_several_who_ask_the_one_with_the_least_address_goes_on() {
    let mut s = snooper(|c| c.querier = Some(OWN));
    let times = |all: Vec<(u64, Option<IfId>, Option<IpAddr>)>| -> Vec<u64> {
        all.into_iter().map(|(at, ..)| at / 1000).collect()
    };
    assert_eq!(times(asked(&mut s, 300)), [0, 31, 62, 187]);
    // One with a greater address gives way itself.
    asks(&mut s, 300, 1, Some(host(9)), None);
    assert!(s.asks(at(300)));
    asks(&mut s, 300, 1, Some(host(1)), None);
    assert!(!s.asks(at(300)));
    assert_eq!(times(asked(&mut s, 554)), []);
    assert!(s.asks(at(555)), "it is silent for too long");
    assert_eq!(times(asked(&mut s, 700)), [555, 680]);
}

#[test]
fn groups_for_which_there_is_no_room_are_counted_until_others_are_gone() {
    let mut s = snooper(|c| c.max_groups = 3);
    for n in 0..100 {
        says(&mut s, 0, 1, n, true);
    }
    assert_eq!((s.groups(at(0)).count(), s.counters.groups_full), (3, 97));
    says(&mut s, 0, 2, 1, true);
    assert_eq!(members(&s, 0, 1), [1, 2], "one that is known");
    says(&mut s, 260, 1, 50, true);
    assert_eq!(members(&s, 260, 50), [1]);
    assert_eq!(s.len(), 1);
}

#[test]
fn when_the_network_changes_groups_go_everywhere_until_all_were_asked() {
    let mut s = snooper(|c| c.querier = Some(OWN));
    asked(&mut s, 40);
    says(&mut s, 40, 1, 1, true);
    s.is_stale = true;
    assert!(s.poll(at(50)).is_some(), "it asks at once");
    assert_eq!(s.audience(at(184), VLAN, group(1)), Audience::All);
    assert_eq!(
        s.audience(at(185), VLAN, group(1)),
        Audience::Members(group(1))
    );
    s.forget(member(1));
    assert_eq!(s.groups(at(185)).count(), 0);
}

/// Whoever leaves and joins in one message is asked for once, and again when that has been answered.
#[test]
fn one_question_is_asked_at_a_time() {
    let mut s = snooper(|c| c.querier = Some(OWN));
    asked(&mut s, 32);
    says(&mut s, 32, 1, 1, true);
    for _ in 0..1000 {
        says(&mut s, 40, 1, 1, false);
        says(&mut s, 40, 1, 1, true);
    }
    let mut times = asked(&mut s, 61);
    times.retain(|(.., group)| group.is_some());
    // Asked from 40 s on at 0 and 1 s, and, because somebody has left since, twice again.
    let times: Vec<u64> = times.into_iter().map(|(at, ..)| at / 1000).collect();
    assert_eq!(times, [40, 41, 42, 43]);
    assert_eq!(members(&s, 44, 1), [], "nobody answers");
    assert!(s.doubts.is_empty() && s.pending.is_empty());
}

/// What was to be asked behind a member that has gone, or where another one asks by now, is not.
#[test]
fn a_question_does_not_outlive_its_reason() {
    let gone: [fn(&mut Snooper); 3] = [
        |s| s.remove(member(1)),
        |s| asks(s, 40, 3, Some(host(1)), None),
        |s| {
            s.set_config(at(40), Snooping::default());
            s.ask_in(at(40), &BTreeSet::from([VLAN]));
        },
    ];
    for reason in gone {
        let mut s = snooper(|c| c.querier = Some(OWN));
        asked(&mut s, 32);
        says(&mut s, 32, 1, 1, true);
        says(&mut s, 40, 1, 1, false);
        assert!(s.poll(at(40)).is_some());
        reason(&mut s);
        let mut all = asked(&mut s, 60);
        all.retain(|(_, to, _)| to.is_some());
        assert_eq!(all, []);
    }
}

#[test]
fn a_shorter_interval_holds_at_once() {
    let mut s = snooper(|c| (c.querier, c.query_interval) = (Some(OWN), Duration::from_secs(3600)));
    asked(&mut s, 2000);
    let config = Snooping {
        query_interval: Duration::from_secs(10),
        ..s.config
    };
    s.set_config(at(2000), config);
    let times: Vec<u64> = asked(&mut s, 2020)
        .iter()
        .map(|(at, ..)| at / 1000)
        .collect();
    assert_eq!(times, [2010, 2020]);
    // Nor is one waited for any longer that has asked before.
    asks(&mut s, 2020, 1, Some(host(1)), None);
    let wait = |s: &mut Snooper, seconds| {
        let query_interval = Duration::from_secs(seconds);
        s.set_config(
            at(2020),
            Snooping {
                query_interval,
                ..config
            },
        );
    };
    wait(&mut s, 3600);
    asks(&mut s, 2020, 1, Some(host(1)), None);
    wait(&mut s, 10);
    assert!(!s.asks(at(2044)) && s.asks(at(2045)));
}

/// Both versions of IP are asked in, each by who is best in it.
#[test]
fn each_version_of_ip_has_a_querier() {
    let mut s = snooper(|c| (c.querier, c.querier_v6) = (Some(OWN), "fe80::5".parse().ok()));
    let versions = |s: &mut Snooper, now| -> Vec<Version> {
        std::iter::from_fn(|| s.poll(at(now)))
            .map(|q| Version::of(q.src))
            .collect()
    };
    assert_eq!(versions(&mut s, 0), [Version::V4, Version::V6]);
    let other: IpAddr = "fe80::1".parse().expect("an address");
    asks(&mut s, 1, 1, Some(other), None);
    assert_eq!(versions(&mut s, 40), [Version::V4]);
    let group: IpAddr = "ff05::1:3".parse().expect("a group");
    let says = Says::Memberships(vec![(group, true)]);
    s.heard(at(40), VLAN, member(2), &heard(None, says));
    assert_eq!(s.audience(at(41), VLAN, group), Audience::Members(group));
    assert!(s.wants(at(41), VLAN, group, member(2)) && !s.wants(at(41), VLAN, group, member(3)));
}

/// Discovery of neighbours needs groups of the link in which not everybody says that he is, whether or not somebody
/// has.
#[test]
fn groups_of_a_link_go_everywhere() {
    let mut s = snooper(|c| c.unknown = Switch::Off);
    let says = Says::Memberships(vec![("ff02::1:ff00:1".parse().expect("a group"), true)]);
    s.heard(at(0), VLAN, member(2), &heard(None, says));
    asks(&mut s, 0, 9, "fe80::9".parse().ok(), None);
    for (group, is_for_all) in [
        ("ff02::1", true),
        ("ff02::1:ff00:1", true),
        ("ff05::2", false),
    ] {
        let group = group.parse().expect("a group");
        let audience = s.audience(at(10), VLAN, group);
        assert_eq!(audience == Audience::All, is_for_all, "{group}");
    }
}

#[test]
fn a_member_that_is_back_is_asked_and_sent_all_until_it_has_answered() {
    let mut s = snooper(|c| c.querier = Some(OWN));
    asked(&mut s, 40);
    for n in [1, 2] {
        says(&mut s, 40, n, 1, true);
    }
    s.absent(member(1));
    let wants = |s: &Snooper, now| s.wants(at(now), VLAN, group(1), member(1));
    assert!(!wants(&s, 41));
    s.is_back(at(41), member(1), is_in);
    s.is_back(at(41), member(1), is_in);
    let question = s.poll(at(41)).expect("a question");
    assert_eq!((question.to, question.group), (Some(member(1)), None));
    assert_eq!(s.poll(at(41)), None);
    assert!(wants(&s, 50) && !wants(&s, 51) && !s.wants(at(42), VLAN, group(1), member(3)));
    // However often its carrier comes and goes.
    for _ in 0..100 {
        s.absent(member(1));
        s.is_back(at(41), member(1), is_in);
    }
    assert_eq!(s.poll(at(41)), None);
    assert!(s.poll(at(42)).is_some() && s.poll(at(60)).is_none());
    // Where another one asks, it may be an interval until it does.
    asks(&mut s, 61, 3, Some(host(1)), None);
    s.absent(member(1));
    s.is_back(at(61), member(1), is_in);
    assert!(s.poll(at(61)).is_none() && wants(&s, 195) && !wants(&s, 196));
}

#[test]
fn what_is_remembered_is_on_the_account_and_given_back() {
    let account = Arc::new(Account::new(5));
    let config = Snooping {
        fast_leave: Switch::On,
        ..Snooping::default()
    };
    let mut s = Snooper::new(config, Arc::clone(&account));
    let check = |s: &Snooper, held| {
        assert_eq!((account.held(), s.len() as u64), (held, held));
    };
    for n in 0..100 {
        says(&mut s, 0, 1, n, true);
    }
    check(&s, 5);
    assert_eq!(s.counters.groups_full, 95);
    asks(&mut s, 0, 3, Some(host(1)), None);
    assert!(!s.is_router(at(0), VLAN, member(3)), "no room");
    says(&mut s, 1, 1, 1, false);
    check(&s, 4);
    assert_eq!(s.groups.len(), 4, "a group goes with its last member");
    asks(&mut s, 1, 3, Some(host(1)), None);
    check(&s, 5);
    // What is too old makes room; a router that says goodbye, too.
    says(&mut s, 1000, 2, 9, true);
    check(&s, 1);
    let hello = |seconds| heard(Some(host(1)), Says::Hello(Duration::from_secs(seconds)));
    for (seconds, held) in [(105, 2), (0, 1), (0, 1)] {
        s.heard(at(1000), VLAN, member(3), &hello(seconds));
        check(&s, held);
    }
    s.forget(member(2));
    check(&s, 0);
    says(&mut s, 1000, 2, 9, true);
    drop(s);
    assert_eq!(account.held(), 0);
}

/// Hosts say in which groups they are when they are asked. Whoever has not been has said nothing, and nothing is known of
/// a group in which only somebody else has said that he is.
#[test]
fn where_nobody_asks_groups_go_everywhere() {
    let group_6: IpAddr = "ff05::1:3".parse().expect("a group");
    let mut s = snooper(|c| c.unknown = Switch::Off);
    let joins = |s: &mut Snooper, now| {
        for group in [group(1), group_6] {
            let report = heard(None, Says::Memberships(vec![(group, true)]));
            s.heard(at(now), VLAN, member(1), &report);
        }
    };
    let audiences = |s: &Snooper, now| {
        [group(1), group_6].map(|group| match s.audience(at(now), VLAN, group) {
            Audience::All => "all",
            Audience::Members(_) => "members",
        })
    };
    joins(&mut s, 0);
    assert_eq!(audiences(&s, 0), ["all"; 2]);
    let router = Some(host(1));
    // That somebody has left one group says nothing of others.
    asks(&mut s, 0, 2, router, Some(group(7)));
    assert_eq!(audiences(&s, 20), ["all"; 2]);
    asks(&mut s, 20, 2, router, None);
    assert_eq!(audiences(&s, 29), ["all"; 2], "not all have answered");
    assert_eq!(audiences(&s, 30), ["members", "all"]);
    asks(&mut s, 40, 2, "fe80::1".parse().ok(), None);
    assert_eq!(audiences(&s, 50), ["members"; 2]);
    assert_eq!(s.audience(at(50), Fid::of(6), group(1)), Audience::All);
    // A router is silent for too long.
    assert_eq!(audiences(&s, 274), ["members"; 2]);
    assert_eq!(audiences(&s, 275), ["all", "members"]);
    assert_eq!(audiences(&s, 295), ["all"; 2]);
    // The bridge itself asks, and does so anew when it was down.
    let mut s = snooper(|c| c.querier = Some(OWN));
    asks(&mut s, 0, 2, router, None);
    joins(&mut s, 5);
    assert_eq!(audiences(&s, 10), ["members", "all"]);
    s.runs(at(35), true);
    assert!(s.poll(at(35)).is_none(), "it was not down");
    s.runs(at(36), false);
    s.runs(at(40), true);
    assert!(s.poll(at(40)).is_some(), "it asks at once");
    assert_eq!(audiences(&s, 49), ["all"; 2]);
    assert_eq!(audiences(&s, 50), ["members", "all"]);
}

/// In one VLAN the bridge asks itself, in another one it has to wait for a router.
#[test]
fn a_member_that_is_back_is_sent_all_in_each_vlan_until_it_has_answered_there() {
    let other = Fid::of(6);
    let mut s = snooper(|c| c.querier = Some(OWN));
    asked(&mut s, 40);
    let question = Says::Query {
        group: None,
        response: RESPONSE,
    };
    s.heard(at(0), other, member(3), &heard(Some(host(1)), question));
    for vlan in [VLAN, other] {
        let report = heard(None, Says::Memberships(vec![(group(1), true)]));
        s.heard(at(40), vlan, member(2), &report);
    }
    s.absent(member(1));
    s.is_back(at(41), member(1), |vlan| vlan == VLAN || vlan == other);
    let wants =
        |s: &Snooper, now| [VLAN, other].map(|vlan| s.wants(at(now), vlan, group(1), member(1)));
    assert_eq!(wants(&s, 50), [true, true]);
    assert_eq!(wants(&s, 51), [false, true]);
    assert_eq!(wants(&s, 175), [false, true]);
    assert_eq!(wants(&s, 176), [false, false]);
}

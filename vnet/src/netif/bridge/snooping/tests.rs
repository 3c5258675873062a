//! Who is believed to be where, of what is said at what time.

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
    let mut snooper = Snooper::new(config);
    snooper.ask_in(at(0), &[VLAN]);
    snooper
}

fn says(snooper: &mut Snooper, now: u64, from: u64, n: u8, is_member: bool) {
    let says = Says::Memberships(vec![(group(n), is_member)]);
    let from_host = Some(host(from as u8));
    let heard = Heard {
        from: from_host,
        says,
    };
    snooper.heard(at(now), VLAN, member(from), &heard);
}

fn asks(snooper: &mut Snooper, now: u64, by: u64, from: Option<IpAddr>, group: Option<IpAddr>) {
    let response = match group {
        Some(_) => LAST_MEMBER,
        None => RESPONSE,
    };
    let says = Says::Query { group, response };
    snooper.heard(at(now), VLAN, member(by), &Heard { from, says });
}

fn members(snooper: &Snooper, now: u64, n: u8) -> Vec<u64> {
    let is_in = |m: &u64| snooper.is_member(at(now), VLAN, group(n), member(*m));
    (1..5).filter(is_in).collect()
}

/// The questions that it asks until then, with their times in milliseconds.
fn asked(snooper: &mut Snooper, until: u64) -> Vec<(u64, Option<IfId>, Option<Ipv4Addr>)> {
    let mut all = Vec::new();
    let mut now = at(0);
    loop {
        while let Some(question) = snooper.poll(now) {
            all.push((
                now.as_nanos() / 1_000_000,
                question.to,
                question.query.group,
            ));
        }
        match snooper.next_deadline() {
            Some(next) if next <= at(until) => now = now.max(next),
            _ => return all,
        }
    }
}

#[test]
fn a_report_holds_for_two_questions_and_an_answer() {
    let mut s = snooper(|_| {});
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
    let mut s = snooper(|c| c.unknown = Switch::Off);
    let all: IpAddr = Ipv4Addr::new(224, 0, 0, 251).into();
    let says = Says::Memberships(vec![(all, true)]);
    s.heard(at(0), VLAN, member(1), &Heard { from: None, says });
    assert_eq!(s.audience(at(1), VLAN, all), Audience::All);
    assert_eq!(s.groups(at(1)).count(), 0);
    assert_eq!(s.audience(at(1), VLAN, group(1)), Audience::Routers);
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
        &Heard {
            from: None,
            says: Says::Hello,
        },
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
    let group_1 = Some(Ipv4Addr::new(239, 0, 0, 1));
    let first = (0, Some(member(1)), group_1);
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
    let times = |all: Vec<(u64, Option<IfId>, Option<Ipv4Addr>)>| -> Vec<u64> {
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

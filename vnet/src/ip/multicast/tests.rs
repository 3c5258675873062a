use std::collections::BTreeSet;

use proptest::prelude::*;

use super::report::{Dialect, Query, Record, RecordKind, Said, packed};
use super::*;
use crate::base::time::Duration;
use crate::ip::family::testing::Drawn;
use crate::ip::family::{V4, V6};
use crate::ip::multicast::filter::Mode;
use crate::ip::testing::interfaces;

fn at(millis: u64) -> Instant {
    Instant::ZERO + Duration::from_millis(millis)
}

#[test]
fn a_group_is_left_when_the_last_has_left() {
    comes_and_goes::<V4>();
    comes_and_goes::<V6>();
}

fn comes_and_goes<F: Drawn>() {
    let [a, b] = interfaces();
    let group = F::group_of(7);
    let mut groups = Groups::<F>::new(1);
    groups.leave(group, a);
    assert!(groups.join(group, a));
    assert!(!groups.join(group, a));
    assert!(groups.is_member(group, a) && !groups.is_member(group, b));
    assert!(groups.is_member(F::ALL_NODES, b));
    assert!(!groups.leave(group, a));
    assert!(groups.is_member(group, a));
    assert!(groups.leave(group, a));
    assert!(!groups.is_member(group, a) && groups.len() == 0);
    groups.join(group, b);
    groups.remove_interface(b);
    assert_eq!(groups.len(), 0);
}

#[test]
fn a_listener_hears_what_it_wants_and_the_interface_what_any_does() {
    listens::<V4>();
    listens::<V6>();
}

fn listens<F: Drawn>() {
    let [a, b] = interfaces();
    let (group, [one, two]) = (F::group_of(7), [1, 2].map(F::addr_of));
    let mut groups = Groups::<F>::new(1);
    let only = |source| Filter {
        mode: Mode::Include,
        sources: BTreeSet::from([source]),
    };
    let (first, second) = (Listener(1), Listener(2));
    assert_eq!(groups.listen(group, a, first, only(one)), Ok(()));
    assert!(groups.hears(group, a, one) && !groups.hears(group, a, two));
    assert!(!groups.hears(group, b, one));
    assert_eq!(groups.listen(group, a, second, only(two)), Ok(()));
    assert!(groups.hears(group, a, two));
    let heard = |groups: &Groups<F>, who| groups.filter(group, a, who).map(|f| f.passes(two));
    assert_eq!(
        [first, second].map(|who| heard(&groups, who)),
        [Some(false), Some(true)]
    );
    groups.join(group, a);
    assert_eq!(groups.wanted(group, a), Filter::any());
    groups.leave(group, a);
    assert_eq!(groups.of_listener(second), [(group, a)]);
    groups.remove_listener(second);
    assert!(!groups.hears(group, a, two) && groups.hears(group, a, one));
    assert_eq!(groups.listen(group, a, first, Filter::none()), Ok(()));
    assert_eq!(groups.len(), 0);
    let many = Filter {
        mode: Mode::Exclude,
        sources: (0..=MAX_SOURCES as u32).map(F::addr_of).collect(),
    };
    assert_eq!(
        groups.listen(group, a, first, many),
        Err(GroupError::Sources)
    );
}

#[test]
fn memberships_and_their_sources_are_bounded_together() {
    let [a, b] = interfaces();
    let mut groups = Groups::<V6>::new(1);
    // What the vnet itself is in does not count.
    for n in 0..MAX_JOINED as u16 {
        groups.join(V6::group_of(n), a);
    }
    let group = V6::group_of(1);
    for n in 0..MAX_JOINED as u64 {
        assert_eq!(groups.listen(group, a, Listener(n), Filter::any()), Ok(()));
    }
    let one_more = Listener(MAX_JOINED as u64);
    let more = groups.listen(group, b, one_more, Filter::any());
    assert_eq!(more, Err(GroupError::Groups));
    groups.remove_listener(Listener(7));
    let sources = |n: usize| Filter {
        mode: Mode::Include,
        sources: (0..n as u32).map(V6::addr_of).collect(),
    };
    assert_eq!(
        groups.listen(group, a, one_more, sources(MAX_SOURCES)),
        Ok(())
    );
    for n in 10..9 + (MAX_JOINED / MAX_SOURCES) as u64 {
        let done = groups.listen(group, a, Listener(n), sources(MAX_SOURCES));
        assert_eq!(done, Ok(()));
    }
    let too_many = groups.listen(group, a, Listener(MAX_JOINED as u64 - 1), sources(1));
    assert_eq!(too_many, Err(GroupError::Sources));
    groups.remove_interface(a);
    assert_eq!((groups.held, groups.len()), (Held::default(), 0));
}

#[test]
fn a_question_about_sources_leaves_one_about_the_group_as_it_is() {
    let [a, _] = interfaces();
    let mut groups = Groups::<V4>::new(1);
    let group = V4::group_of(7);
    groups
        .listen(group, a, Listener(1), Filter::any())
        .expect("it is one");
    while groups.next_deadline().is_some() {
        groups.take_due(Instant::MAX);
    }
    let ask = |sources| Query {
        group: Some(group),
        sources,
        max_response: Duration::from_secs(1),
        dialect: Dialect::Sources,
        robustness: 2,
        interval: Duration::ZERO,
    };
    groups.asked(Instant::ZERO, a, &ask(Vec::new()));
    groups.asked(Instant::ZERO, a, &ask(vec![V4::addr_of(1)]));
    let said = groups.take_due(Instant::ZERO + Duration::from_secs(2));
    let whole = Record {
        kind: RecordKind::IsExclude,
        group,
        sources: Vec::new(),
    };
    assert_eq!(said, [(a, vec![Said::Records(vec![whole])])]);
}

fn filters() -> impl Strategy<Value = Filter<V6>> {
    let sources = prop::collection::btree_set(0..6u32, 0..6);
    (any::<bool>(), sources).prop_map(|(includes, sources)| Filter {
        mode: match includes {
            true => Mode::Include,
            false => Mode::Exclude,
        },
        sources: sources.into_iter().map(V6::addr_of).collect(),
    })
}

proptest! {
    #[test]
    fn merged_filters_pass_what_any_of_them_passes(all in prop::collection::vec(filters(), 0..5)) {
        let merged = Filter::merged(all.iter());
        for source in (0..8).map(V6::addr_of) {
            prop_assert_eq!(merged.passes(source), all.iter().any(|f| f.passes(source)));
        }
    }

    // What a router makes of the reports is what is wanted, whatever has changed in between (RFC 3376 section
    // 6.4).
    #[test]
    fn a_router_that_hears_every_report_knows_what_is_wanted(
        acts in prop::collection::vec((0..3u64, filters(), 0..3000u64), 0..30),
    ) {
        let [a, _] = interfaces();
        let group = V6::group_of(1);
        let mut groups = Groups::<V6>::new(1);
        let mut known = Filter::<V6>::none();
        let mut now = 0;
        let mut run = |groups: &mut Groups<V6>, until: Instant| {
            while let Some(due) = groups.next_deadline().filter(|due| *due <= until) {
                for (_, said) in groups.take_due(due.max(until)) {
                    for said in said {
                        let Said::Records(records) = said else { panic!("not to old routers") };
                        for record in records {
                            hear(&mut known, record);
                        }
                    }
                }
            }
            known.clone()
        };
        for (who, filter, wait) in acts {
            groups.listen(group, a, Listener(who), filter).expect("there is room");
            let known = run(&mut groups, at(now));
            prop_assert_eq!(known, groups.wanted(group, a));
            now += wait;
        }
        let known = run(&mut groups, at(now + 60_000));
        prop_assert_eq!(known, groups.wanted(group, a));
        prop_assert_eq!(groups.next_deadline(), None);
    }

    #[test]
    fn messages_have_room_for_what_is_in_them(
        sizes in prop::collection::vec((1..=6u8, 0..90u32), 0..12), room in 24..1232usize,
    ) {
        use RecordKind::*;
        let kinds = [IsInclude, IsExclude, ToInclude, ToExclude, Allow, Block];
        let records: Vec<_> = sizes.iter().map(|(kind, count)| Record::<V6> {
            kind: kinds[usize::from(*kind - 1)],
            group: V6::group_of(1),
            sources: (0..*count).map(V6::addr_of).collect(),
        }).collect();
        let len = |r: &Record<V6>| 20 + 16 * r.sources.len();
        let told = |kind: RecordKind, all: &[Record<V6>]| {
            all.iter().filter(|r| r.kind == kind).map(|r| r.sources.len()).sum::<usize>()
        };
        let messages = packed(records.clone(), room.max(36));
        prop_assert!(messages.iter().all(|m| m.iter().map(len).sum::<usize>() <= room.max(36)));
        let all = messages.concat();
        for kind in [IsInclude, ToInclude, Allow, Block] {
            prop_assert_eq!(told(kind, &all), told(kind, &records));
        }
    }
}

/// RFC 3376 section 6.4, with nobody else on the link and every timer run off.
fn hear(known: &mut Filter<V6>, record: Record<V6>) {
    let sources: BTreeSet<_> = record.sources.into_iter().collect();
    match record.kind {
        RecordKind::ToExclude | RecordKind::IsExclude => {
            *known = Filter {
                mode: Mode::Exclude,
                sources,
            };
        }
        RecordKind::ToInclude | RecordKind::IsInclude => {
            *known = Filter {
                mode: Mode::Include,
                sources,
            };
        }
        RecordKind::Allow | RecordKind::Block => {
            let adds = (record.kind == RecordKind::Allow) == (known.mode == Mode::Include);
            for source in sources {
                match adds {
                    true => known.sources.insert(source),
                    false => known.sources.remove(&source),
                };
            }
        }
    }
}

fn asks<F: Family>(group: Option<F::Addr>, dialect: Dialect) -> Query<F> {
    Query {
        group,
        sources: Vec::new(),
        max_response: Duration::from_secs(10),
        dialect,
        robustness: 0,
        interval: Duration::ZERO,
    }
}

/// Everything that is said until then.
fn said<F: Family>(groups: &mut Groups<F>, until: Instant) -> Vec<Said<F>> {
    let mut all = Vec::new();
    while let Some(due) = groups.next_deadline().filter(|due| *due <= until) {
        let now = groups.take_due(due).into_iter();
        all.extend(now.flat_map(|(_, said)| said));
    }
    all
}

#[test]
fn changes_are_told_as_often_as_is_said() {
    let [a, _] = interfaces();
    let group = V4::group_of(5);
    let mut groups = Groups::<V4>::new(1);
    groups.join(V4::ALL_NODES, a);
    assert_eq!(groups.next_deadline(), None, "of everybody nobody is told");
    groups.join(group, a);
    let record = |kind| {
        Said::Records(vec![Record {
            kind,
            group,
            sources: Vec::new(),
        }])
    };
    assert_eq!(
        groups.take_due(at(0)),
        [(a, vec![record(RecordKind::ToExclude)])]
    );
    assert_eq!(said(&mut groups, at(1000)), [record(RecordKind::ToExclude)]);
    assert_eq!(groups.next_deadline(), None);
    groups.leave(group, a);
    assert_eq!(
        said(&mut groups, at(3000)),
        vec![record(RecordKind::ToInclude); 2]
    );
    groups.join(group, a);
    groups.leave(group, a);
    assert_eq!(
        said(&mut groups, at(9000)),
        vec![record(RecordKind::ToInclude); 2]
    );
}

#[test]
fn questions_are_answered_with_what_is_wanted_then() {
    let [a, b] = interfaces();
    let (group, other) = (V6::group_of(1), V6::group_of(2));
    let [one, two, three] = [1, 2, 3].map(V6::addr_of);
    let mut groups = Groups::<V6>::new(1);
    let but_one = Filter {
        mode: Mode::Exclude,
        sources: BTreeSet::from([one]),
    };
    groups
        .listen(group, a, Listener(1), but_one)
        .expect("there is room");
    groups.join(other, b);
    said(&mut groups, at(5000));
    groups.asked(at(6000), a, &asks(Some(other), Dialect::Sources));
    assert_eq!(groups.next_deadline(), None, "nobody is in it here");
    groups.asked(at(6000), a, &asks(None, Dialect::Sources));
    groups.asked(at(6000), a, &asks(None, Dialect::Sources));
    let record = |kind, sources: &[_]| {
        Said::Records(vec![Record {
            kind,
            group,
            sources: sources.to_vec(),
        }])
    };
    let all = record(RecordKind::IsExclude, &[one]);
    assert_eq!(said(&mut groups, at(16_000)), [all]);
    let mut about = asks(Some(group), Dialect::Sources);
    about.sources = vec![one, two];
    groups.asked(at(20_000), a, &about);
    about.sources = vec![three];
    groups.asked(at(20_000), a, &about);
    let heard = record(RecordKind::IsInclude, &[two, three]);
    assert_eq!(said(&mut groups, at(30_000)), [heard]);
    about.sources = vec![one];
    groups.asked(at(40_000), a, &about);
    assert_eq!(said(&mut groups, at(50_000)), [], "it is not heard");
}

#[test]
fn routers_of_older_versions_hear_what_they_understand() {
    let [a, _] = interfaces();
    let group = V4::group_of(5);
    let mut groups = Groups::<V4>::new(1);
    groups.join(group, a);
    groups.asked(at(0), a, &asks(None, Dialect::Groups));
    let member = Said::Member(group, Dialect::Groups);
    assert_eq!(said(&mut groups, at(10_000)), std::slice::from_ref(&member));
    groups.asked(at(20_000), a, &asks(None, Dialect::Groups));
    groups.heard_member(at(20_000), a, group);
    assert_eq!(said(&mut groups, at(40_000)), [], "another has said so");
    groups.leave(group, a);
    assert_eq!(said(&mut groups, at(50_000)), [Said::Left(group)]);
    groups.join(group, a);
    assert_eq!(said(&mut groups, at(70_000)), vec![member; 2]);
    groups.asked(at(80_000), a, &asks(None, Dialect::Members));
    let oldest = Said::Member(group, Dialect::Members);
    assert_eq!(said(&mut groups, at(90_000)), [oldest]);
    groups.leave(group, a);
    assert_eq!(
        said(&mut groups, at(100_000)),
        [],
        "it has no word for that"
    );
    // They are gone: two intervals of 125 seconds, and the time of an answer.
    groups.join(group, a);
    said(&mut groups, at(120_000));
    groups.asked(at(340_001), a, &asks(None, Dialect::Sources));
    assert!(matches!(
        said(&mut groups, at(360_000))[..],
        [Said::Records(_)]
    ));
}

#[test]
fn the_groups_of_addresses_are_told_where_somebody_asks() {
    let [a, b] = interfaces();
    let [one, two] = [1, 2].map(|n| crate::ip::v6::solicited_node(V6::addr_of(n)));
    let mut groups = Groups::<V6>::new(1);
    groups.join(one, a);
    groups.tell_again(a);
    assert_eq!(groups.next_deadline(), None, "nobody has asked");
    groups.asked(at(0), a, &asks(None, Dialect::Sources));
    assert_eq!(said(&mut groups, at(10_000)).len(), 1);
    groups.join(two, a);
    groups.join(two, b);
    assert_eq!(
        said(&mut groups, at(20_000)).len(),
        2,
        "once, and once more"
    );
    groups.tell_again(a);
    assert_eq!(said(&mut groups, at(30_000)).len(), 2);
}

#[test]
fn an_interface_that_comes_up_tells_again() {
    let [a, b] = interfaces();
    let group = V6::group_of(1);
    let mut groups = Groups::<V6>::new(1);
    groups.join(group, a);
    said(&mut groups, at(5000));
    groups.tell_again(b);
    assert_eq!(groups.next_deadline(), None);
    groups.tell_again(a);
    assert_eq!(said(&mut groups, at(9000)).len(), 2);
    groups.tell_again(a);
    groups.remove_interface(a);
    assert_eq!((groups.next_deadline(), groups.len()), (None, 0));
}

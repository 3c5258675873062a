//! Moves as seen from inside: what is in the inboxes, in the tables, and what a name becomes.

use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;
use crate::base::stats::DropReason;
use crate::base::time::Instant;
use crate::instance::{OwnedVnet, System};
use crate::netif::inbox::Batch;
use crate::netif::vlan::VlanConfig;
use crate::netif::wire::End;
use crate::netif::{Item, Kind, Wire};
use crate::packet::MacAddr;

fn three(system: &System) -> [OwnedVnet; 3] {
    let [a, b, far] = ["a", "b", "far"].map(|n| system.create(n).expect("a free name"));
    a.epair("eth0", &far, "eth0").expect("free names");
    [a, b, far]
}

fn items(vnet: &Vnet) -> Vec<Item> {
    let mut due = Batch::default();
    vnet.core.inbox.take_due(Instant::MAX, 100, &mut due);
    due.drain().collect()
}

/// What came in of wires.
fn news(items: &[Item]) -> Vec<Carrier> {
    let carrier = |item: &Item| match item {
        Item::Carrier(_, news) => Some(news.carrier),
        Item::Frame(_) | Item::Leaving(_) => None,
    };
    items.iter().filter_map(carrier).collect()
}

fn id(vnet: &Vnet, name: &str) -> IfId {
    let found = vnet.core.with(|stack, _| stack.ifs.id_of(name));
    found.expect("alive").expect("it is there")
}

#[test]
fn the_far_end_sees_the_wire_go_down_and_up() {
    let system = System::manual(1);
    let [a, b, far] = three(&system);
    items(&far);
    let at_far = id(&far, "eth0");
    a.move_interface("eth0", &b).expect("nothing is in the way");
    let seen = items(&far);
    assert_eq!(news(&seen), [Carrier::Down, Carrier::Up]);
    let here = |item: &Item| matches!(item, Item::Carrier(id, _) if *id == at_far);
    assert!(seen.iter().all(here), "{seen:?}");
    // One that is administratively down stays so, and says nothing of being up.
    b.set_up("eth0", AdminState::Down).expect("it is there");
    items(&far);
    b.return_interface("eth0").expect("its home is alive");
    let seen = items(&far);
    assert_eq!(news(&seen), [Carrier::Down]);
    // Its end is gone for good: once down, no more.
    a.set_up("eth0", AdminState::Up).expect("it is there");
    a.move_interface("eth0", &b).expect("nothing is in the way");
    items(&far);
    assert!(a.destroy().leaked.is_zero());
    let seen = items(&far);
    assert_eq!(news(&seen), [Carrier::Down]);
}

#[test]
fn an_identifier_from_before_the_move_resolves_to_nothing_where_it_was() {
    let system = System::manual(1);
    let [a, b, _far] = three(&system);
    b.port("first", None).expect("a free name");
    let before = id(&a, "eth0");
    a.move_interface("eth0", &b).expect("nothing is in the way");
    let there = id(&b, "eth0");
    b.return_interface("eth0").expect("its home is alive");
    let after = id(&a, "eth0");
    assert_ne!(before, after);
    let resolves = |v: &Vnet, id| v.core.with(|stack, _| stack.ifs.get(id).is_some());
    assert_eq!(resolves(&a, before), Ok(false));
    assert_eq!(resolves(&b, there), Ok(false));
    assert_eq!(resolves(&a, after), Ok(true));
}

// Row 16 of the reference's catalogue: references on multicast groups were counted wrong, or
// released twice.
#[test]
fn row_16_groups_are_left_once_whoever_goes_first() {
    let group = Ipv4Addr::new(224, 1, 2, 3);
    let joined = |v: &Vnet| v.core.with(|stack, _| stack.ip.v4.groups.len());
    let join = |v: &Vnet, name: &str| {
        let on = id(v, name);
        let joined = v.core.with(|stack, _| stack.ip.v4.groups.join(group, on));
        joined.expect("alive");
        on
    };
    for order in 0..5 {
        let system = System::manual(1);
        let [a, b, far] = three(&system);
        let on = join(&a, "eth0");
        join(&a, "eth0");
        join(&far, "eth0");
        assert_eq!(joined(&a), Ok(1));
        let leave = || {
            let left = a.core.with(|stack, _| stack.ip.v4.groups.leave(group, on));
            left.expect("alive");
        };
        match order {
            // The socket, then the interface; the other way round, with one join left over.
            0 => {
                leave();
                leave();
                a.remove_interface("eth0").expect("its own");
            }
            1 => {
                a.remove_interface("eth0").expect("its own");
                leave();
            }
            // A membership is the vnet's: it does not move, and is not there on return.
            2 => {
                a.move_interface("eth0", &b).expect("nothing is in the way");
                leave();
                assert_eq!((joined(&a), joined(&b)), (Ok(0), Ok(0)));
                b.return_interface("eth0").expect("its home is alive");
            }
            3 => {
                a.move_interface("eth0", &b).expect("nothing is in the way");
                join(&b, "eth0");
                b.return_interface("eth0").expect("its home is alive");
                assert_eq!(joined(&b), Ok(0));
            }
            // The instance with all of it.
            _ => {}
        }
        if order != 4 {
            assert_eq!(joined(&a), Ok(0), "order {order}");
        }
        assert!(a.destroy().leaked.is_zero());
        assert_eq!(joined(&far), Ok(1), "another's membership is another's");
        assert!(far.destroy().leaked.is_zero() && b.destroy().leaked.is_zero());
    }
}

#[test]
fn a_home_that_goes_in_the_middle_of_a_move_takes_the_interface_along() {
    let system = System::manual(1);
    let [a, b, far] = three(&system);
    let take = |a: &OwnedVnet| {
        a.core.system.registry().note_lender(&a.core);
        a.core.take(Entry::User, |inside| {
            let id = inside.stack.ifs.id_of("eth0")?;
            lend(&a.core, inside, id, &b.core)?;
            Ok::<_, AdminError>(id)
        })
    };
    // Taken out, not yet put in.
    let flight = take(&a).expect("it is there");
    let old = Arc::clone(&a.core);
    assert!(a.destroy().returned.is_empty(), "it is nowhere to be found");
    assert_eq!(
        old.hand_over(flight, &b.core, "eth0"),
        Err(AdminError::Gone)
    );
    assert_eq!(b.interfaces().expect("alive").len(), 1);
    assert!(!far.core.with(|s, _| s.ifs.is_empty()).expect("alive"));
    let seen = items(&far);
    assert!(news(&seen).last() == Some(&Carrier::Down), "{seen:?}");
}

#[test]
fn a_borrower_that_goes_in_the_middle_of_a_move_leaves_the_interface_at_home() {
    let system = System::manual(1);
    let [a, b, _far] = three(&system);
    a.core.system.registry().note_lender(&a.core);
    let flight = a.core.take(Entry::User, |inside| {
        let id = inside.stack.ifs.id_of("eth0")?;
        lend(&a.core, inside, id, &b.core)?;
        Ok::<_, AdminError>(id)
    });
    // Meanwhile its name is given away, and b goes.
    a.port("eth0", None).expect("the name is free");
    let gone = Arc::clone(&b.core);
    drop(b);
    let flight = flight.expect("it is there");
    let moved = a.core.hand_over(flight, &gone, "eth0");
    assert_eq!(moved, Err(AdminError::TargetGone));
    let back = a.interfaces().expect("alive");
    assert_eq!((&*back[2].name, &*back[2].home), ("eth1", "a"));
    assert!(a.pins().expect("alive").lent.is_empty());
    assert!(a.destroy().leaked.is_zero());
}

#[test]
fn an_interface_that_is_lost_by_a_panic_leaves_its_wire() {
    let system = System::manual(1);
    let a = system.create("a").expect("a free name");
    let port = a.port("tap0", None).expect("a free name");
    let id = id(&a, "tap0");
    let flight = a
        .core
        .take(Entry::User, |_| Ok::<_, AdminError>(id))
        .expect("it is there");
    assert!(!port.is_gone());
    drop(flight);
    assert!(port.is_gone());
}

proptest! {
    /// A fresh name is a name, and nobody's.
    #[test]
    fn a_free_name_is_free(names in prop::collection::vec("[a-z]{0,15}[0-9]{0,15}", 1..40)) {
        let mut ifs = IfTable::default();
        for name in names {
            let name = &name[..name.len().min(MAX_NAME)];
            if name.is_empty() {
                continue;
            }
            let fresh = free_name(&ifs, name);
            prop_assert_eq!(ifs.check_name(&fresh), Ok(()), "for {}", name);
            prop_assert!(ifs.id_of(name).is_ok() || fresh == name);
            let kind = Kind::Port(Wire::new().sender(End::A));
            let netif = |id| crate::netif::Netif::new(id, &fresh, kind, MacAddr::ZERO);
            prop_assert!(ifs.insert(&fresh, netif).is_ok());
        }
    }
}

/// A vnet with a port that has a VLAN interface in another one.
fn with_lent_vlan(system: &System) -> [OwnedVnet; 2] {
    let [home, tenant] = ["home", "tenant"].map(|n| system.create(n).expect("a free name"));
    home.port("eth0", None).expect("a free name");
    home.vlan_in("eth0", &tenant, "v5", VlanConfig::dot1q(5))
        .expect("free names");
    [home, tenant]
}

#[test]
fn what_comes_home_to_no_parent_is_gone_from_the_record_too() {
    let system = System::manual(1);
    let [home, tenant] = with_lent_vlan(&system);
    // Another thread has removed the parent, and has not got to those that are lent.
    let parent = id(&home, "eth0");
    home.configure(|stack, cx| {
        crate::admin::interfaces::remove_interface(stack, cx, parent);
        let op = crate::admin::record::IfOp::RemoveInterface {};
        Ok::<_, Gone>(crate::admin::record::Op::Interface("eth0".into(), op))
    })
    .expect("alive");
    let back = tenant.return_interface("v5");
    assert_eq!(back, Err(AdminError::Gone));
    home.core.end_orphans();
    assert!(home.record().expect("alive").ops.is_empty());
    assert!(home.pins().expect("alive").lent.is_empty());
    assert!(home.destroy().leaked.is_zero());
}

#[test]
fn what_finds_nobody_at_the_end_of_a_loan_is_not_lost_on_the_parents_link() {
    let system = System::manual(1);
    let [home, peer, tenant] = ["home", "peer", "tenant"].map(|n| system.create(n).expect("free"));
    home.epair("eth0", &peer, "eth0").expect("free names");
    peer.vlan("eth0", "v5", VlanConfig::dot1q(5))
        .expect("a free name");
    home.set_link("eth0", crate::link::LinkConfig::default())
        .expect("a good one");
    home.vlan_in("eth0", &tenant, "v5", VlanConfig::dot1q(5))
        .expect("free names");
    let lent = id(&tenant, "v5");
    let flight = tenant
        .core
        .take(Entry::User, |_| Ok::<_, AdminError>(lent))
        .expect("it is there");
    drop(flight);
    peer.add_address("v5", "192.0.2.1/24".parse().expect("a prefix"))
        .expect("a free address");
    system.poll(system.now());
    let stats = home.stats().expect("alive");
    assert_eq!(
        (stats.received, stats.forwarded),
        (1, 1),
        "the announcement"
    );
    assert_eq!(stats.tx_drops(DropReason::LinkUnplugged), 1);
    let link = home.link_stats("eth0").expect("it has one");
    assert_eq!((link.offered, link.unplugged), (0, 0));
}

#[test]
fn a_vlan_that_finds_no_place_goes_and_what_has_its_name_by_then_stays() {
    let system = System::manual(1);
    let [home, other] = ["home", "other"].map(|n| system.create(n).expect("a free name"));
    home.port("eth0", None).expect("a free name");
    home.vlan("eth0", "v5", VlanConfig::dot1q(5))
        .expect("a free name");
    home.core.system.registry().note_lender(&home.core);
    let flight = home.core.take(Entry::User, |inside| {
        let id = inside.stack.ifs.id_of("v5")?;
        lend(&home.core, inside, id, &other.core)?;
        Ok::<_, AdminError>(id)
    });
    home.bridge("v5").expect("the name is free");
    let gone = Arc::clone(&other.core);
    drop(other);
    let placed = home.core.place(flight.expect("it is there"), &gone, "v5");
    let Err((Some(flight), AdminError::TargetGone)) = placed else {
        panic!("there is no place");
    };
    home.core.withdraw(flight);
    let left = home.interfaces().expect("alive");
    assert_eq!((left.len(), &*left[2].name), (3, "v5"));
    assert_eq!(left[2].kind, crate::netif::IfKind::Bridge);
    assert_eq!(home.record().expect("alive").ops.len(), 2);
    home.vlan("eth0", "again", VlanConfig::dot1q(5))
        .expect("the VLAN is free");
    assert!(home.pins().expect("alive").lent.is_empty());
    assert!(home.destroy().leaked.is_zero());
}

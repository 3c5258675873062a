//! Promise: no Ethernet address is given out twice in a system, and two systems give different ones.

use std::collections::BTreeSet;

use vnet::{MacAddr, System};

/// The addresses of `n` pairs of interfaces, after those in `by_hand` were given to ports.
fn macs(system: &System, n: usize, by_hand: &[MacAddr]) -> Vec<MacAddr> {
    let v = system.create("v").unwrap();
    for (i, mac) in by_hand.iter().enumerate() {
        v.port(&format!("port{i}"), Some(*mac)).unwrap();
    }
    for i in 0..n {
        v.epair(&format!("a{i}"), &v, &format!("b{i}")).unwrap();
    }
    v.bridge("bridge0").unwrap();
    let interfaces = v.interfaces().unwrap();
    let macs = interfaces.iter().map(|i| i.mac);
    macs.filter(|mac| *mac != MacAddr::ZERO).collect()
}

#[test]
fn what_was_given_by_hand_is_not_given_again() {
    let coming = macs(&System::virtual_time(7), 10, &[]);
    let by_hand = [coming[0], coming[5], coming[20]];
    let given = macs(&System::virtual_time(7), 10, &by_hand);
    assert_eq!(given.len(), 3 + 20 + 1);
    let different: BTreeSet<MacAddr> = given.iter().copied().collect();
    assert_eq!(different.len(), given.len(), "{given:?}");
}

#[test]
fn systems_differ_and_a_seed_decides() {
    let of = |seed| macs(&System::virtual_time(seed), 5, &[]);
    assert_eq!(of(1), of(1));
    let many: BTreeSet<MacAddr> = (0..100).flat_map(of).collect();
    assert_eq!(many.len(), 100 * 11);
    assert!(many.iter().all(|mac| mac.is_local() && mac.is_station()));
    let threads = || macs(&System::threads(), 5, &[]);
    assert_ne!(threads(), threads());
}

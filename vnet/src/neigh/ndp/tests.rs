//! Scripts of messages of neighbour discovery.

use super::*;
use crate::neigh::NeighConfig;
use crate::neigh::cache::tests::{OUR_MAC, World, iface, mac};
use crate::neigh::state::StateName;
use proptest::prelude::*;

const OURS: &str = "2001:db8::1";
const ASKED: Flags = Flags::SOLICITED.with(Flags::OVERRIDE);

fn world() -> World {
    World::new(NeighConfig::default())
}

fn ip(text: &str) -> Ipv6Addr {
    text.parse().expect("an address")
}

fn host(n: u8) -> Ipv6Addr {
    ip(&format!("2001:db8::{n}"))
}

fn hear(w: &mut World, src: Ipv6Addr, message: Ndp) -> NdpVerdict {
    let scope = |addr: Ipv6Addr| match addr {
        addr if addr == ip(OURS) => Scope::Ours,
        addr if addr.is_multicast() => Scope::Impossible,
        addr if addr.segments()[..2] == [0x2001, 0xdb8] => Scope::Neighbour,
        _ => Scope::Stranger,
    };
    let ingress = NeighIngress {
        ifid: iface(1),
        mac: OUR_MAC,
        round_trip: w.round_trip,
        sender: scope(src),
        target: scope(message.target()),
    };
    w.cache.discovered(w.now, ingress, src, message)
}

fn question(target: &str, source: Option<MacAddr>) -> Ndp {
    Ndp::Solicitation {
        target: ip(target),
        source,
        nonce: None,
    }
}

fn said(n: u8, station: Option<MacAddr>, flags: Flags) -> Ndp {
    Ndp::Advertisement {
        target: host(n),
        station,
        flags,
    }
}

/// What host `n` says, in a word, and how many packets that sets free.
fn advertise(w: &mut World, n: u8, station: Option<MacAddr>, flags: Flags) -> String {
    match hear(w, host(n), said(n, station, flags)) {
        NdpVerdict::Accepted {
            answer: None,
            release,
        } => {
            format!("accepted {}", release.map_or(0, |r| r.packets.len()))
        }
        NdpVerdict::Drop(reason) => reason.to_string(),
        other => panic!("{other:?}"),
    }
}

fn state(w: &World, n: u8) -> Option<StateName> {
    let mut all = w.cache.list(w.now);
    all.find(|info| info.ip == host(n)).map(|info| info.state)
}

#[test]
fn a_question_for_us_is_answered_and_remembered() {
    let mut w = world();
    let verdict = hear(&mut w, host(2), question(OURS, Some(mac(2))));
    let NdpVerdict::Accepted { answer, release } = verdict else {
        panic!("not accepted");
    };
    let expected = Answer {
        target: ip(OURS),
        to: Some(host(2)),
        station: Some(mac(2)),
    };
    assert_eq!((answer, release.is_none()), (Some(expected), true));
    assert_eq!(state(&w, 2), Some(StateName::Stale));
    assert_eq!(w.send_to(host(2), 1), format!("to {}", mac(2)));
}

#[test]
fn questions_that_teach_nothing() {
    let mut w = world();
    let answered = |verdict| match verdict {
        NdpVerdict::Accepted { answer, .. } => answer.map(|a| (a.to, a.station)),
        _ => None,
    };
    // Who has no address yet looks whether it may have ours (RFC 4862 section 5.4.3).
    let verdict = hear(&mut w, Ipv6Addr::UNSPECIFIED, question(OURS, None));
    assert_eq!(answered(verdict), Some((None, None)));
    // Who does not say where it is has to be asked.
    let verdict = hear(&mut w, host(2), question(OURS, None));
    assert_eq!(answered(verdict), Some((Some(host(2)), None)));
    // A stranger is answered, and no packet of ours goes to it here.
    let verdict = hear(&mut w, ip("fd00::5"), question(OURS, Some(mac(5))));
    assert_eq!(answered(verdict), Some((Some(ip("fd00::5")), Some(mac(5)))));
    for (src, message) in [
        (host(2), question("2001:db8::3", Some(mac(2)))),
        (ip(OURS), question(OURS, Some(mac(2)))),
        (host(2), question(OURS, Some(MacAddr::BROADCAST))),
        // Nobody else is where we are.
        (host(2), question(OURS, Some(OUR_MAC))),
        // To find a stranger, we would have to ask for it.
        (ip("fd00::5"), question(OURS, None)),
    ] {
        let verdict = hear(&mut w, src, message);
        assert!(matches!(verdict, NdpVerdict::Drop(_)), "{message:?}");
    }
    assert!(w.cache.is_empty());
}

#[test]
fn nobody_is_where_we_are() {
    let mut w = world();
    assert_eq!(w.send_to(host(2), 1), "held");
    assert_eq!(advertise(&mut w, 2, Some(OUR_MAC), ASKED), "not-for-us");
    assert_eq!(state(&w, 2), Some(StateName::Incomplete));
}

/// RFC 4861 section 7.2.5 and appendix C, line by line.
#[test]
fn advertisements_do_what_their_flags_say() {
    let mut w = world();
    let none = Flags(0);
    assert_eq!(advertise(&mut w, 2, Some(mac(2)), ASKED), "not-for-us");
    assert_eq!(w.send_to(host(2), 1), "held");
    // Incomplete: nothing is said of where it is.
    assert_eq!(advertise(&mut w, 2, None, ASKED), "accepted 0");
    assert_eq!(state(&w, 2), Some(StateName::Incomplete));
    assert_eq!(
        advertise(&mut w, 2, Some(mac(2)), Flags::SOLICITED),
        "accepted 1"
    );
    assert_eq!(state(&w, 2), Some(StateName::Reachable));
    // Reachable: another station that is not sure makes us doubt, one that is sure is believed.
    assert_eq!(advertise(&mut w, 2, Some(mac(3)), none), "accepted 0");
    assert_eq!(state(&w, 2), Some(StateName::Stale));
    assert_eq!(
        advertise(&mut w, 2, Some(mac(3)), Flags::SOLICITED),
        "accepted 0"
    );
    assert_eq!(w.send_to(host(2), 1), format!("to {}", mac(2)));
    assert_eq!(
        advertise(&mut w, 2, Some(mac(3)), Flags::OVERRIDE),
        "accepted 0"
    );
    assert_eq!(state(&w, 2), Some(StateName::Stale));
    assert_eq!(w.send_to(host(2), 1), format!("to {}", mac(3)));
    // Incomplete: unasked, it is not sure that it hears us.
    assert_eq!(w.send_to(host(4), 1), "held");
    assert_eq!(advertise(&mut w, 4, Some(mac(4)), none), "accepted 1");
    assert_eq!(state(&w, 4), Some(StateName::Stale));
    assert_eq!(
        advertise(&mut w, 4, Some(MacAddr::ZERO), ASKED),
        "malformed"
    );
}

#[test]
fn a_probe_is_answered_without_an_address() {
    let mut w = world();
    w.send_to(host(2), 1);
    advertise(&mut w, 2, Some(mac(2)), ASKED);
    w.until(60);
    w.send_to(host(2), 1);
    assert_eq!(state(&w, 2), Some(StateName::Delay));
    w.until(66);
    assert_eq!(state(&w, 2), Some(StateName::Probe));
    // RFC 4861 section 4.4: who is asked at its own address need not say it.
    assert_eq!(advertise(&mut w, 2, None, ASKED), "accepted 0");
    assert_eq!(state(&w, 2), Some(StateName::Reachable));
}

#[test]
fn another_with_our_address_is_noticed() {
    let mut w = world();
    let claim = |mac| Ndp::Advertisement {
        target: ip(OURS),
        station: Some(mac),
        flags: Flags::OVERRIDE,
    };
    let verdict = hear(&mut w, ip(OURS), claim(mac(9)));
    assert!(matches!(verdict, NdpVerdict::Conflict { ip: on } if on == ip(OURS)));
    let verdict = hear(&mut w, ip(OURS), claim(OUR_MAC));
    assert!(matches!(verdict, NdpVerdict::Drop(DropReason::NotForUs)));
    assert_eq!(w.cache.stats().conflicts, 1);
}

proptest! {
    /// Whatever is said, only those are in the table who asked for us or were asked for.
    #[test]
    fn gossip_does_not_fill_the_table(
        acts in prop::collection::vec((0u8..3, 1u8..9, 0u8..9, 0u8..8), 0..60)
    ) {
        let mut w = world();
        let mut known = std::collections::BTreeSet::new();
        for (act, n, m, flags) in acts {
            let station = (m > 0).then(|| mac(m));
            match act {
                0 => {
                    w.send_to(host(n), 1);
                    if host(n) != ip(OURS) {
                        known.insert(n);
                    }
                    known.insert(n);
                }
                1 => {
                    hear(&mut w, host(n), question(OURS, station));
                    if m > 0 && host(n) != ip(OURS) {
                        known.insert(n);
                    }
                }
                _ => drop(hear(&mut w, host(n), said(n, station, Flags(flags << 5)))),
            }
        }
        prop_assert_eq!(w.cache.len(), known.len());
    }
}

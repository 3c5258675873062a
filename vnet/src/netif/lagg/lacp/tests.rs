//! Two and more systems on wires that can be cut and plugged in elsewhere.

use proptest::prelude::*;
use slotmap::KeyData;

use super::*;
use crate::packet::MacAddr;

fn ifid(n: usize) -> IfId {
    KeyData::from_ffi(n as u64 + (1 << 32) + 1).into()
}

fn params(system: u8, active: bool, fast: bool) -> Params {
    Params {
        active,
        fast,
        system: SystemId {
            priority: 0x8000,
            mac: MacAddr([2, 0, 0, 0, 0, system]),
        },
        key: u16::from(system),
        port_priority: 0x8000,
    }
}

/// A system's port.
type End = (usize, usize);

struct World {
    now: Instant,
    systems: Vec<Lacp>,
    /// The wires, whose two ends are in different systems or in one.
    wires: Vec<(End, End)>,
    /// LACPDUs sent.
    sent: u64,
}

impl World {
    fn new(all: &[Params], ports: usize) -> World {
        let systems = all.iter().map(|p| {
            let mut lacp = Lacp::new(*p);
            (0..ports).for_each(|n| lacp.add_port(ifid(n), n as u16 + 1));
            lacp
        });
        World {
            now: Instant::from_nanos(0),
            systems: systems.collect(),
            wires: Vec::new(),
            sent: 0,
        }
    }

    fn plug(&mut self, a: End, b: End) {
        self.wires.push((a, b));
        for (system, port) in [a, b] {
            self.systems[system].set_link(self.now, ifid(port), true);
        }
    }

    fn cut(&mut self, a: End) {
        let at = self.wires.iter().position(|w| w.0 == a || w.1 == a);
        let (a, b) = self.wires.remove(at.expect("it is plugged in"));
        for (system, port) in [a, b] {
            self.systems[system].set_link(self.now, ifid(port), false);
        }
    }

    fn far_end(&self, of: End) -> Option<End> {
        self.wires.iter().find_map(|(a, b)| match of {
            of if of == *a => Some(*b),
            of if of == *b => Some(*a),
            _ => None,
        })
    }

    fn run(&mut self, span: Duration) {
        let until = self.now + span;
        loop {
            for n in 0..self.systems.len() {
                while let Some((from, du)) = self.systems[n].poll_transmit(self.now) {
                    self.sent += 1;
                    let port = (0..64).find(|p| ifid(*p) == from).expect("a port");
                    if let Some((system, port)) = self.far_end((n, port)) {
                        self.systems[system].input(self.now, ifid(port), &du);
                    }
                }
            }
            let next = self.systems.iter().filter_map(Lacp::next_deadline).min();
            match next {
                Some(at) if at <= until => self.now = self.now.max(at),
                _ => break,
            }
            for system in &mut self.systems {
                system.on_deadline(self.now);
            }
        }
        self.now = until;
    }

    /// The ports of a system that send.
    fn distributing(&self, system: usize) -> Vec<usize> {
        let ports = self.systems[system].ports().iter();
        let sending = ports.filter(|p| p.mux == Mux::Distributing);
        sending
            .map(|p| (0..64).find(|n| ifid(*n) == p.ifid).expect("a port"))
            .collect()
    }
}

const SETTLED: Duration = Duration::from_secs(10);

#[test]
fn all_links_to_one_partner_are_used() {
    for (active, fast) in [(true, true), (true, false), (false, true), (false, false)] {
        let mut w = World::new(&[params(1, true, fast), params(2, active, !fast)], 4);
        (0..4).for_each(|n| w.plug((0, n), (1, 3 - n)));
        w.run(SETTLED);
        assert_eq!(w.distributing(0), [0, 1, 2, 3]);
        assert_eq!(w.distributing(1), [0, 1, 2, 3]);
    }
}

#[test]
fn two_passive_ends_say_nothing() {
    let mut w = World::new(&[params(1, false, true), params(2, false, true)], 2);
    w.plug((0, 0), (1, 0));
    w.run(SETTLED);
    assert_eq!(w.sent, 0);
    assert!(w.distributing(0).is_empty());
}

#[test]
fn a_cut_link_is_left_at_once_and_comes_back() {
    let mut w = World::new(&[params(1, true, true), params(2, true, true)], 2);
    (0..2).for_each(|n| w.plug((0, n), (1, n)));
    w.run(SETTLED);
    w.cut((0, 1));
    assert_eq!(w.distributing(0), [0]);
    assert_eq!(w.distributing(1), [0]);
    w.plug((0, 1), (1, 1));
    w.run(SETTLED);
    assert_eq!(w.distributing(0), [0, 1]);
}

#[test]
fn a_partner_that_falls_silent_is_left_after_two_timeouts() {
    let mut w = World::new(&[params(1, true, true), params(2, true, true)], 1);
    w.plug((0, 0), (1, 0));
    w.run(SETTLED);
    assert_eq!(w.distributing(0), [0]);
    w.wires.clear();
    w.run(SHORT_TIMEOUT + Duration::from_millis(1));
    assert_eq!(w.systems[0].ports()[0].rx, Rx::Expired);
    assert!(w.distributing(0).is_empty());
    w.run(SHORT_TIMEOUT);
    assert_eq!(w.systems[0].ports()[0].rx, Rx::Defaulted);
    assert_eq!(w.systems[0].partner(), None);
}

#[test]
fn a_link_that_leads_elsewhere_stands_by_until_the_partner_is_gone() {
    let mut w = World::new(&[1, 2, 3].map(|n| params(n, true, true)), 3);
    w.plug((0, 0), (1, 0));
    w.plug((0, 1), (1, 1));
    w.plug((0, 2), (2, 0));
    w.run(SETTLED);
    assert_eq!(w.distributing(0), [0, 1]);
    assert!(w.distributing(2).is_empty());
    w.cut((0, 0));
    w.cut((0, 1));
    w.run(SETTLED);
    assert_eq!(w.distributing(0), [2]);
    assert_eq!(w.distributing(2), [0]);
}

/// The links stay up: without a word, the other end would go on sending for 90 seconds.
#[test]
fn whoever_leaves_says_so_at_once() {
    type Leave = fn(&mut World);
    let leave: [(&str, Leave); 4] = [
        ("a port is removed", |w| {
            let now = w.now;
            (0..2).for_each(|n| w.systems[0].remove_port(now, ifid(n)));
        }),
        ("the aggregate is closed", |w| {
            let now = w.now;
            w.systems[0].set_open(now, false);
        }),
        ("another system, which waits to be spoken to", |w| {
            w.systems[0].restart(params(3, false, false));
        }),
        ("no LACP any more", |w| {
            let lacp = std::mem::replace(&mut w.systems[0], Lacp::new(params(9, false, false)));
            for (port, du) in lacp.end() {
                w.systems[1].input(w.now, port, &du);
            }
        }),
    ];
    for (how, leave) in leave {
        let mut w = World::new(&[params(1, true, false), params(2, true, false)], 2);
        (0..2).for_each(|n| w.plug((0, n), (1, n)));
        w.run(SETTLED);
        assert_eq!(w.distributing(1), [0, 1], "{how}");
        leave(&mut w);
        w.run(Duration::ZERO);
        assert!(w.distributing(1).is_empty(), "{how}");
    }
}

#[test]
fn an_aggregate_that_was_closed_is_agreed_on_again() {
    let mut w = World::new(&[params(1, true, false), params(2, true, false)], 2);
    (0..2).for_each(|n| w.plug((0, n), (1, n)));
    w.run(SETTLED);
    let now = w.now;
    w.systems[0].set_open(now, false);
    w.run(SETTLED);
    let now = w.now;
    w.systems[0].set_open(now, true);
    w.run(SETTLED);
    assert_eq!(
        (w.distributing(0), w.distributing(1)),
        (vec![0, 1], vec![0, 1])
    );
}

/// It has this end right, so nothing else makes this end speak (clause 6.4.15, NTT in DETACHED).
#[test]
fn a_partner_with_another_key_is_told_that_it_was_left() {
    let mut w = World::new(&[params(1, true, false), params(2, true, false)], 1);
    w.plug((0, 0), (1, 0));
    w.run(SETTLED);
    let ours = params(1, true, false);
    let port = &w.systems[1].ports()[0];
    let mut actor = port.actor(&params(2, true, false));
    actor.key += 1;
    let partner = w.systems[0].ports()[0].actor(&ours);
    let now = w.now;
    w.systems[0].input(now, ifid(0), &LacpDu { actor, partner });
    let (_, said) = w.systems[0].poll_transmit(now).expect("it says so");
    assert!(!said.actor.state.has(PortState::SYNCHRONIZATION));
}

#[test]
fn whoever_speaks_first_does_not_keep_the_others_out() {
    let mut w = World::new(&[1, 2, 3].map(|n| params(n, true, true)), 4);
    w.plug((0, 3), (1, 0));
    w.run(Duration::from_millis(100));
    (0..3).for_each(|n| w.plug((0, n), (2, n)));
    w.run(SETTLED);
    assert_eq!(w.distributing(0), [0, 1, 2]);
    assert_eq!(w.distributing(2), [0, 1, 2]);
}

/// It says that it is there on most links, and is in step on none.
#[test]
fn a_partner_that_is_never_ready_does_not_keep_out_one_that_is() {
    let mut w = World::new(&[params(1, true, true), params(2, true, true)], 4);
    let foreign = params(3, true, true);
    let loud = |w: &mut World| {
        for n in 1..4 {
            let now = w.now;
            let actor = Port::new(ifid(n), n as u16, &foreign).actor(&foreign);
            let partner = PortInfo::default();
            w.systems[0].input(now, ifid(n), &LacpDu { actor, partner });
        }
    };
    (1..4).for_each(|n| w.systems[0].set_link(w.now, ifid(n), true));
    loud(&mut w);
    w.plug((0, 0), (1, 0));
    for _ in 0..20 {
        loud(&mut w);
        w.run(Duration::from_millis(500));
    }
    assert_eq!((w.distributing(0), w.distributing(1)), (vec![0], vec![0]));
}

/// Clause 6.4.14: each that came later would move flows again.
#[test]
fn ports_that_come_up_within_two_seconds_join_together() {
    let mut w = World::new(&[params(1, true, true), params(2, true, true)], 3);
    for n in 0..3 {
        w.plug((0, n), (1, n));
        w.run(Duration::from_millis(600));
    }
    w.run(Duration::from_millis(1399));
    assert!(w.distributing(0).is_empty(), "the last has not waited yet");
    w.run(Duration::from_millis(1));
    assert_eq!(w.distributing(0), [0, 1, 2]);
}

#[test]
fn a_port_that_begins_again_and_again_holds_nobody_up_for_long() {
    let mut w = World::new(&[params(1, true, true), params(2, true, true)], 2);
    w.plug((0, 0), (1, 0));
    for _ in 0..10 {
        w.plug((0, 1), (1, 1));
        w.run(Duration::from_millis(700));
        w.cut((0, 1));
    }
    assert_eq!(w.distributing(0), [0]);
}

#[test]
fn a_link_back_to_the_same_system_is_not_used() {
    let mut w = World::new(&[params(1, true, true)], 2);
    w.plug((0, 0), (0, 1));
    w.run(SETTLED);
    assert!(w.distributing(0).is_empty());
}

#[test]
fn a_port_is_not_made_to_send_more_than_three_in_a_second() {
    let mut lacp = Lacp::new(params(1, true, true));
    lacp.add_port(ifid(0), 1);
    let mut now = Instant::from_nanos(0);
    lacp.set_link(now, ifid(0), true);
    let mut sent = 0;
    for n in 0..1000_u16 {
        let peer = PortInfo {
            port: n,
            ..Port::new(ifid(1), n, &params(2, true, true)).actor(&params(2, true, true))
        };
        let partner = PortInfo::default();
        lacp.input(
            now,
            ifid(0),
            &LacpDu {
                actor: peer,
                partner,
            },
        );
        while lacp.poll_transmit(now).is_some() {
            sent += 1;
        }
        now += Duration::from_millis(10);
    }
    assert!((20..=33).contains(&sent), "{sent} in ten seconds");
}

proptest! {
    /// Whatever is plugged in where: once nothing changes any more, the ends of a link agree whether
    /// it is used, all links in use of a system lead to one other system, and somebody uses all that
    /// lead to its partner, who has chosen it too.
    #[test]
    fn ends_agree(
        steps in prop::collection::vec((0..3_usize, 0..3_usize, 0..3_usize, 0..3_usize, 0..5_000_u64), 1..20),
        fast in any::<[bool; 3]>(),
    ) {
        let all = [0, 1, 2].map(|n| params(n as u8 + 1, true, fast[n]));
        let mut w = World::new(&all, 3);
        for (a, p, b, q, pause) in steps {
            let (a, b) = ((a, p), (b, q));
            for end in [a, b] {
                if w.far_end(end).is_some() {
                    w.cut(end);
                }
            }
            if a != b {
                w.plug(a, b);
            }
            w.run(Duration::from_millis(pause));
        }
        w.run(Duration::from_secs(200));
        for system in 0..3 {
            let sending = w.distributing(system);
            let far: Vec<End> = sending.iter().filter_map(|p| w.far_end((system, *p))).collect();
            prop_assert_eq!(far.len(), sending.len());
            for (end, far) in sending.iter().zip(&far) {
                prop_assert!(w.distributing(far.0).contains(&far.1), "{:?} - {:?}", end, far);
            }
            prop_assert!(far.windows(2).all(|f| f[0].0 == f[1].0));
        }
    }

    #[test]
    fn no_lacpdu_is_a_trap(dus in prop::collection::vec((any::<[u8; 110]>(), any::<u8>(), 0..4_000_u64), 1..50)) {
        let mut lacp = Lacp::new(params(1, true, false));
        (0..3).for_each(|n| lacp.add_port(ifid(n), n as u16 + 1));
        let mut now = Instant::from_nanos(0);
        (0..3).for_each(|n| lacp.set_link(now, ifid(n), true));
        for (mut bytes, port, pause) in dus {
            (bytes[0], bytes[2], bytes[3], bytes[22], bytes[23], bytes[42], bytes[43]) = (1, 1, 20, 2, 20, 3, 16);
            if let Ok(du) = LacpDu::parse(&bytes, bytes.len()) {
                lacp.input(now, ifid(usize::from(port) % 3), &du);
            }
            now += Duration::from_millis(pause);
            lacp.on_deadline(now);
            while lacp.poll_transmit(now).is_some() {}
            prop_assert!(lacp.next_deadline().is_none_or(|at| at > now));
        }
    }
}

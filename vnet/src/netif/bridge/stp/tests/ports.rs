//! Ports of one and two bridges: hosts, guards, bridges that speak the older protocol, costs.

use std::num::NonZeroU32;

use super::super::bpdu::{BpduError, Config, Rst};
use super::super::config::{Edge, Segment};
use super::super::vector::{PortIdentifier, Ticks, Times, Vector};
use super::*;
use crate::base::switch::Switch as Switchable;

fn at(seconds: f64) -> Instant {
    Instant::ZERO + Duration::from_secs_f64(seconds)
}

/// A bridge with one port that has just come up.
fn alone(config: RstpPort) -> Rstp {
    let mut bridge = Rstp::new(bridge_id(9, 0x8000), RstpConfig::default());
    bridge.add_port(port(1), config, 2_000);
    bridge.port_up(Instant::ZERO, port(1));
    bridge
}

fn state(bridge: &Rstp) -> (Role, PortState) {
    let port = bridge.port(port(1)).expect("it was added");
    (port.role, port.state)
}

/// Lets time pass; what was sent.
fn pass(bridge: &mut Rstp, now: &mut Instant, until: Instant) -> Vec<(Instant, Bpdu)> {
    let mut sent = Vec::new();
    loop {
        while let Some((_, bpdu)) = bridge.poll_transmit(*now) {
            sent.push((*now, bpdu));
        }
        match bridge.next_deadline().filter(|at| *at <= until) {
            Some(next) => *now = next,
            None => break,
        }
        bridge.on_deadline(*now);
    }
    *now = until;
    sent
}

fn path(root: usize, cost: u32) -> (Vector, Times) {
    let vector = Vector {
        root: bridge_id(root, 0x4000),
        cost,
        bridge: bridge_id(root, 0x4000),
        port: PortIdentifier::new(128, port(7)),
    };
    (vector, RstpConfig::default().times())
}

fn config(root: usize) -> Bpdu {
    let (vector, times) = path(root, 0);
    Bpdu::Config(Config {
        vector,
        times,
        topology_change: false,
        acknowledgement: false,
    })
}

fn proposal(root: usize) -> Bpdu {
    let (vector, times) = path(root, 0);
    Bpdu::Rst(Rst {
        vector,
        times,
        role: Role::Designated,
        topology_change: false,
        proposal: true,
        agreement: false,
        learning: false,
        forwarding: false,
    })
}

fn hear(bridge: &mut Rstp, now: Instant, bpdu: &Bpdu) -> Result<(), Refusal> {
    bridge.input(now, port(1), Ok(bpdu.emit().as_slice()))
}

#[test]
fn a_port_forwards_at_once_to_hosts_that_are_declared_and_soon_to_those_that_are_found() {
    let mut now = Instant::ZERO;
    let edge = |edge| RstpPort {
        edge,
        ..RstpPort::default()
    };
    let mut declared = alone(edge(Edge::No));
    declared.set_port(now, port(1), edge(Edge::Yes), 2_000);
    assert_eq!(state(&declared), (Role::Designated, PortState::Forwarding));
    assert_eq!(
        state(&alone(edge(Edge::Yes))),
        (Role::Designated, PortState::Forwarding)
    );

    let mut found = alone(edge(Edge::Auto));
    pass(&mut found, &mut now, at(2.9));
    assert_eq!(state(&found), (Role::Designated, PortState::Discarding));
    pass(&mut found, &mut now, at(3.1));
    assert_eq!(state(&found), (Role::Designated, PortState::Forwarding));

    // Without that it listens for the maximum age and learns for a hello time.
    let (mut now, mut unknown) = (Instant::ZERO, alone(edge(Edge::No)));
    for (until, then) in [
        (19.9, PortState::Discarding),
        (21.9, PortState::Learning),
        (22.1, PortState::Forwarding),
    ] {
        pass(&mut unknown, &mut now, at(until));
        assert_eq!(state(&unknown), (Role::Designated, then), "{now}");
    }
}

#[test]
fn a_bridge_says_that_it_is_there_each_hello_time_and_not_more_often_than_it_may() {
    let (mut now, mut bridge) = (Instant::ZERO, alone(RstpPort::default()));
    let sent = pass(&mut bridge, &mut now, at(20.5));
    assert!((10..=14).contains(&sent.len()), "{} BPDUs", sent.len());
    // A neighbour that goes on proposing is answered with so many in a second.
    let mut answers = 0;
    for n in 0..100 {
        let when = at(21.0 + f64::from(n) * 0.005);
        hear(&mut bridge, when, &proposal(1)).expect("a good BPDU");
        answers += pass(&mut bridge, &mut now, when).len();
    }
    assert_eq!(answers, 6);
}

#[test]
fn a_proposal_of_a_better_bridge_is_agreed_to_and_its_silence_is_noticed() {
    let (mut now, mut bridge) = (Instant::ZERO, alone(RstpPort::default()));
    pass(&mut bridge, &mut now, at(1.0));
    hear(&mut bridge, now, &proposal(1)).expect("a good BPDU");
    assert_eq!(state(&bridge), (Role::Root, PortState::Forwarding));
    let sent = pass(&mut bridge, &mut now, at(1.0));
    let agrees = |(_, bpdu): &(Instant, Bpdu)| matches!(bpdu, Bpdu::Rst(r) if r.agreement && r.role == Role::Root);
    assert!(sent.iter().any(agrees), "{sent:?}");
    pass(&mut bridge, &mut now, at(6.9));
    assert_eq!(bridge.root(), (bridge_id(1, 0x4000), 2_000));
    // Three hello times without a word.
    pass(&mut bridge, &mut now, at(7.1));
    assert_eq!(bridge.root(), (bridge.id(), 0));
}

#[test]
fn a_bridge_of_the_older_protocol_is_answered_in_it_until_it_learns_the_newer() {
    let (mut now, mut bridge) = (Instant::ZERO, alone(RstpPort::default()));
    pass(&mut bridge, &mut now, at(4.0));
    // The first goes by before it is known that nobody speaks the newer one.
    let older = |bridge: &mut Rstp, now: &mut Instant, until: f64| {
        while *now < at(until) {
            let next = *now + Duration::from_secs(1);
            let (mut vector, times) = path(8, 0);
            vector.root.priority = 0x9000;
            vector.bridge.priority = 0x9000;
            let worse = Bpdu::Config(Config {
                vector,
                times,
                topology_change: false,
                acknowledgement: false,
            });
            hear(bridge, *now, &worse).expect("a good BPDU");
            pass(bridge, now, next);
        }
    };
    older(&mut bridge, &mut now, 8.0);
    assert!(!bridge.port(port(1)).expect("it was added").speaks_rstp);
    let sent = pass(&mut bridge, &mut now, at(12.0));
    assert!(
        !sent.is_empty() && sent.iter().all(|(_, b)| matches!(b, Bpdu::Config(_))),
        "{sent:?}"
    );
    // A better root of that protocol: no agreement, but twice the forward delay.
    let start = now;
    let listens = |bridge: &mut Rstp, now: &mut Instant, seconds: u64| {
        while *now < start + Duration::from_secs(seconds) {
            hear(bridge, *now, &config(1)).expect("a good BPDU");
            let next = *now + Duration::from_secs(1);
            pass(bridge, now, next);
        }
    };
    listens(&mut bridge, &mut now, 2);
    assert_eq!(bridge.root().0, bridge_id(1, 0x4000));
    hear(&mut bridge, now, &proposal(1)).expect("a good BPDU");
    pass(&mut bridge, &mut now, start + Duration::from_secs(6));
    hear(&mut bridge, now, &proposal(1)).expect("a good BPDU");
    assert!(bridge.port(port(1)).expect("it was added").speaks_rstp);
}

#[test]
fn a_bpdu_guard_closes_its_port_until_it_was_down() {
    let guard = RstpPort {
        bpdu_guard: Switchable::On,
        edge: Edge::Yes,
        ..RstpPort::default()
    };
    let mut bridge = alone(guard);
    assert_eq!(state(&bridge).1, PortState::Forwarding);
    // What is no BPDU closes nothing, whatever group it is for.
    for bad in [Ok(&[0, 0, 0, 0][..]), Ok(&[]), Err(BpduError::NotABpdu)] {
        let refused = bridge.input(at(0.5), port(1), bad);
        assert!(matches!(refused, Err(Refusal::Bad(_))), "{refused:?}");
    }
    assert_eq!(state(&bridge).1, PortState::Forwarding);
    assert_eq!(
        hear(&mut bridge, at(1.0), &proposal(1)),
        Err(Refusal::Guarded)
    );
    assert_eq!(state(&bridge), (Role::Disabled, PortState::Guarded));
    assert_eq!(
        hear(&mut bridge, at(2.0), &proposal(1)),
        Err(Refusal::Guarded)
    );
    assert_eq!(bridge.root(), (bridge.id(), 0));
    bridge.port_down(at(3.0), port(1));
    bridge.port_up(at(4.0), port(1));
    assert_eq!(state(&bridge), (Role::Designated, PortState::Forwarding));
    hear(&mut bridge, at(5.0), &proposal(1)).expect_err("it is still guarded");
    bridge.set_port(at(6.0), port(1), RstpPort::default(), 2_000);
    hear(&mut bridge, at(7.0), &proposal(1)).expect("it is not any more");
    assert_eq!(
        bridge.port(port(1)).expect("it was added").counters.guarded,
        3
    );
}

#[test]
fn a_root_guard_keeps_the_root_where_it_is() {
    let guard = RstpPort {
        root_guard: Switchable::On,
        ..RstpPort::default()
    };
    let (mut now, mut bridge) = (Instant::ZERO, alone(guard));
    pass(&mut bridge, &mut now, at(3.5));
    assert_eq!(state(&bridge).1, PortState::Forwarding);
    hear(&mut bridge, now, &proposal(1)).expect("a good BPDU");
    assert_eq!(state(&bridge), (Role::Alternate, PortState::Guarded));
    assert_eq!(bridge.root(), (bridge.id(), 0));
    pass(&mut bridge, &mut now, at(10.0));
    assert_eq!(
        state(&bridge).0,
        Role::Designated,
        "whoever claimed that is silent"
    );
}

#[test]
fn what_is_no_good_changes_nothing() {
    let mut bridge = alone(RstpPort {
        segment: Segment::Shared,
        ..RstpPort::default()
    });
    let (mut vector, times) = path(1, 0);
    let before = state(&bridge);
    vector.bridge = bridge.id();
    vector.port = PortIdentifier::new(128, port(1));
    let own = Bpdu::Config(Config {
        vector,
        times,
        topology_change: true,
        acknowledgement: true,
    });
    assert_eq!(hear(&mut bridge, at(0.1), &own), Err(Refusal::Own));
    for len in 0..4 {
        let cut = bridge.input(at(0.2), port(1), Ok(&[0, 0, 0, 0][..len]));
        assert!(matches!(cut, Err(Refusal::Bad(_))));
    }
    assert_eq!(bridge.input(at(0.3), port(2), Ok(&[])), Err(Refusal::Down));
    assert_eq!(state(&bridge), before);
    let counters = bridge.port(port(1)).expect("it was added").counters;
    assert_eq!((counters.received, counters.refused), (5, 5));
    // A root whose word expires at once is none.
    let (vector, times) = path(1, 0);
    let old = Rst {
        vector,
        times: Times {
            message_age: Ticks::of(Duration::from_secs(20)),
            ..times
        },
        ..rst()
    };
    hear(&mut bridge, at(0.4), &Bpdu::Rst(old)).expect("a good BPDU");
    assert_eq!(bridge.root(), (bridge.id(), 0));
}

fn rst() -> Rst {
    match proposal(1) {
        Bpdu::Rst(rst) => rst,
        _ => unreachable!("a proposal is one"),
    }
}

#[test]
fn of_two_ports_on_one_segment_one_is_a_backup_and_costs_and_priorities_decide() {
    let [better, worse] = [bridge_id(1, 0x8000), bridge_id(2, 0x8000)];
    let mut net = Net::new(&[better, worse], RstpConfig::default());
    for _ in 0..2 {
        net.link([0, 1], [2_000, 2_000], Duration::from_micros(50));
    }
    (0..2).for_each(|link| net.set_up(link, true));
    net.run_for(Duration::from_secs(10));
    let roles =
        |net: &Net| [1, 2].map(|n| net.bridges[1].port(port(n)).expect("it was added").role);
    assert_eq!(roles(&net), [Role::Root, Role::Alternate]);
    // The designated port's priority counts, not the own one.
    let preferred = RstpPort {
        priority: 16,
        ..RstpPort::default()
    };
    net.bridges[0].set_port(net.now, port(2), preferred, 2_000);
    net.take(0);
    net.run_for(Duration::from_secs(10));
    assert_eq!(roles(&net), [Role::Alternate, Role::Root]);
    let cheap = RstpPort {
        path_cost: NonZeroU32::new(7),
        ..RstpPort::default()
    };
    net.bridges[1].set_port(net.now, port(1), cheap, cheap.cost(None));
    net.take(1);
    net.run_for(Duration::from_secs(10));
    assert_eq!(roles(&net), [Role::Root, Role::Alternate]);
    assert_eq!(net.bridges[1].root(), (better, 7));

    // What one port says comes in by another one.
    let mut bridge = alone(RstpPort::default());
    bridge.add_port(port(2), RstpPort::default(), 2_000);
    bridge.port_up(Instant::ZERO, port(2));
    let mut said = None;
    while let Some((from, bpdu)) = bridge.poll_transmit(Instant::ZERO) {
        if from == port(1) {
            said = Some(bpdu);
        }
    }
    let said = said.expect("a designated port proposes").emit();
    bridge
        .input(at(0.1), port(2), Ok(said.as_slice()))
        .expect("a good BPDU");
    assert_eq!(
        bridge.port(port(2)).expect("it was added").role,
        Role::Backup
    );
}

#[test]
fn hosts_of_which_nobody_can_agree_are_not_cut_off_when_the_root_is_farther() {
    let never = RstpPort {
        edge: Edge::No,
        ..RstpPort::default()
    };
    let (mut now, mut bridge) = (Instant::ZERO, alone(RstpPort::default()));
    bridge.add_port(port(2), never, 2_000);
    bridge.port_up(now, port(2));
    let says = |cost| {
        let (vector, times) = path(1, cost);
        let proposal = false;
        let rst = rst();
        Bpdu::Rst(Rst {
            vector,
            times,
            proposal,
            ..rst
        })
    };
    let hosts = |bridge: &Rstp| bridge.port(port(2)).expect("it was added").state;
    for _ in 0..30 {
        hear(&mut bridge, now, &says(0)).expect("a good BPDU");
        let next = now + Duration::from_secs(1);
        pass(&mut bridge, &mut now, next);
    }
    assert_eq!(hosts(&bridge), PortState::Forwarding);
    for _ in 0..8 {
        hear(&mut bridge, now, &says(200_000)).expect("a good BPDU");
        assert_eq!(hosts(&bridge), PortState::Forwarding, "{now}");
        let next = now + Duration::from_secs(1);
        pass(&mut bridge, &mut now, next);
    }
    assert_eq!(bridge.root().1, 202_000);
    // A bridge that is there may stand on what it heard before.
    let (mut vector, times) = path(9, 0);
    vector.root = bridge_id(1, 0x4000);
    vector.cost = 300_000;
    let other = Bpdu::Rst(Rst {
        vector,
        times,
        ..rst()
    });
    bridge
        .input(now, port(2), Ok(other.emit().as_slice()))
        .expect("a good BPDU");
    hear(&mut bridge, now, &says(250_000)).expect("a good BPDU");
    assert_eq!(hosts(&bridge), PortState::Discarding);
}

#[test]
fn what_many_ports_say_is_found_in_one_walk() {
    let mut bridge = Rstp::new(bridge_id(9, 0x8000), RstpConfig::default());
    for n in 1..=200 {
        bridge.add_port(port(n), RstpPort::default(), 2_000);
        bridge.port_up(Instant::ZERO, port(n));
    }
    let before = bridge.walked.steps();
    let events = std::iter::from_fn(|| bridge.poll_event()).count();
    let sent = std::iter::from_fn(|| bridge.poll_transmit(Instant::ZERO)).count();
    assert_eq!(sent, 200);
    let walked = bridge.walked.steps() - before;
    assert!(
        walked <= 400 + events as u64,
        "{walked} for {events} and {sent}"
    );
}

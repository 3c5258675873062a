//! Losses, delays and reordering of chosen segments: what is sent again, when, and what is taken back.

use std::cell::RefCell;
use std::rc::Rc;

use super::hand::{Hand, NONE};
use super::*;

const MS: Duration = Duration::from_millis(1);
const FULL: usize = 1448;
/// There and back.
const RTT: Duration = Duration::from_millis(10);

/// A connection whose sender has a window of `segments`, all acknowledged.
fn open(config: TcpConfig) -> (World, ConnId, ConnId) {
    let mut w = World::with(1, Net::default(), config);
    let (a, b) = w.pair();
    w.trace.clear();
    (w, a, b)
}

fn plain() -> TcpConfig {
    TcpConfig {
        timestamps: Feature::Off,
        ..TcpConfig::default()
    }
}

/// Does to the `n`th data segment of A, retransmissions included, what `fate` says.
fn on_data(w: &mut World, mut fate: impl FnMut(usize) -> Fate + 'static) {
    let mut n = 0;
    w.fate = Some(Box::new(move |_, host, s| {
        if host != A || s.payload.is_empty() {
            return Fate::Arrives;
        }
        n += 1;
        fate(n - 1)
    }));
}

/// Writes segments at A, reads all at B, and returns how long that took.
fn carry(w: &mut World, a: ConnId, b: ConnId, segments: usize) -> Duration {
    let data = pattern(FULL * segments, 3);
    let (began, mut sent, mut got) = (w.now, 0, Vec::new());
    while got.len() < data.len() {
        sent += w.write(A, a, &data[sent..]).unwrap_or(0);
        if let Ok(mut more) = w.read(B, b, 1 << 20) {
            got.append(&mut more);
        }
        assert!(got.len() == data.len() || w.step(), "stuck");
    }
    assert!(got == data);
    let took = w.now - began;
    w.run_for(MS * 500);
    took
}

fn cwnd(w: &World, a: ConnId) -> u32 {
    w.info(A, a).expect("there").cwnd
}

// RFC 8985 3.4 and 6.2: RFC 6675 has to wait for the timer here.
#[test]
fn a_retransmission_that_is_lost_is_sent_again_without_the_timer() {
    let (mut w, a, b) = open(TcpConfig::default());
    // The first segment, and its first retransmission, which follows the tenth, eleventh and twelfth.
    let seen = Rc::new(RefCell::new(0));
    let first = w.hosts[A].tcp.connections.get(a).expect("there").snd.nxt;
    let times = Rc::clone(&seen);
    w.fate = Some(Box::new(move |_, host, s| {
        if host == A && !s.payload.is_empty() && s.header.seq == first.0 {
            *times.borrow_mut() += 1;
            if *times.borrow() <= 2 {
                return Fate::Lost;
            }
        }
        Fate::Arrives
    }));
    let took = carry(&mut w, a, b, 60);
    let stats = w.hosts[A].tcp.stats();
    assert_eq!(
        (*seen.borrow(), stats.timeouts, stats.fast_recoveries),
        (3, 0, 1)
    );
    assert!(took < RTT * 10, "{took:?}");
}

// RFC 8985 7: the last segments are lost, and nothing that follows tells of it.
#[test]
fn a_lost_tail_is_probed_before_the_timer_and_the_window_shrinks() {
    for lost in [2, 3] {
        let (mut w, a, b) = open(TcpConfig::default());
        on_data(&mut w, move |n| match n {
            5..10 if n >= 10 - lost => Fate::Lost,
            _ => Fate::Arrives,
        });
        let before = cwnd(&w, a);
        let took = carry(&mut w, a, b, 10);
        let stats = w.hosts[A].tcp.stats();
        assert_eq!((stats.timeouts, stats.tail_probes), (0, 1), "{lost}");
        assert_eq!(stats.retransmits, lost as u64);
        // The timer would have gone off after 210 ms at the earliest.
        assert!(took < MS * 200, "{lost}: {took:?}");
        // Slow start has counted each of those that arrived.
        let grown = before + before / 10 * (10 - lost) as u32;
        assert!(cwnd(&w, a) < grown * 3 / 4, "{lost}");
    }
}

#[test]
fn a_probe_of_a_single_segment_waits_for_the_slowest_acknowledgement() {
    let (mut w, a, b) = open(TcpConfig::default());
    // B delays the acknowledgement of one segment by 40 ms: neither a probe nor a timeout.
    carry(&mut w, a, b, 1);
    let stats = w.hosts[A].tcp.stats();
    assert_eq!((stats.tail_probes, stats.retransmits), (0, 0));
}

// RFC 5681 3.2 and 3042: the first two segments that arrive above a hole let new ones leave.
#[test]
fn segments_that_arrive_above_a_hole_let_new_ones_leave() {
    for sack in [Feature::On, Feature::Off] {
        let config = TcpConfig {
            sack,
            ..TcpConfig::default()
        };
        let (mut w, a, b) = open(config);
        on_data(&mut w, |n| if n == 0 { Fate::Lost } else { Fate::Arrives });
        carry(&mut w, a, b, 30);
        let sent: Vec<_> = w.trace.iter().filter(|t| t.1 == A && t.3 > 0).collect();
        let first = sent[0].2.seq;
        let again = sent
            .iter()
            .rposition(|t| t.2.seq == first)
            .expect("sent again");
        assert_eq!(again, 12, "ten, two, and the first again");
        assert_eq!(w.hosts[A].tcp.stats().timeouts, 0);
    }
}

// RFC 8985 6.2.4, 3522 and 4015: the first time a segment is overtaken by more than a quarter of the round trip, it is
// sent again for nothing, and that is taken back; from then on there is more patience.
#[test]
fn reordering_is_mistaken_once_undone_and_learnt() {
    let (mut w, a, b) = open(TcpConfig::default());
    on_data(&mut w, |n| match n {
        // Both among the first of a flight.
        1 | 41 => Fate::Late(MS * 4),
        _ => Fate::Arrives,
    });
    let before = cwnd(&w, a);
    carry(&mut w, a, b, 20);
    let stats = w.hosts[A].tcp.stats();
    assert_eq!((stats.fast_recoveries, stats.undone_recoveries), (1, 1));
    assert_eq!((stats.retransmits, stats.timeouts), (1, 0));
    assert!(cwnd(&w, a) >= before);
    carry(&mut w, a, b, 60);
    let stats = w.hosts[A].tcp.stats();
    assert_eq!((stats.fast_recoveries, stats.retransmits), (1, 1));
}

// RFC 3522 and 4015 with timestamps, RFC 5682 without.
#[test]
fn a_timeout_by_a_sudden_delay_is_undone() {
    for config in [TcpConfig::default(), plain()] {
        let (mut w, a, b) = open(config);
        carry(&mut w, a, b, 20);
        let before = cwnd(&w, a);
        let until = w.now + MS * 450;
        w.fate = Some(Box::new(move |now, host, _| {
            // The path stalls, and goes on in order.
            match host == A && now < until {
                true => Fate::Late((until + MS * 50).since(now)),
                false => Fate::Arrives,
            }
        }));
        carry(&mut w, a, b, 40);
        let stats = w.hosts[A].tcp.stats();
        assert_eq!(stats.timeouts, 1);
        // What leaves after the delay may overtake what left before its end, which is a mistake as well.
        let all = stats.timeouts + stats.fast_recoveries;
        assert_eq!(stats.undone_recoveries, all, "{stats:?}");
        assert!(cwnd(&w, a) >= before, "{} {before}", cwnd(&w, a));
        // Not the whole flight.
        assert!(stats.retransmits < 10, "{}", stats.retransmits);
    }
}

#[test]
fn a_timeout_by_a_loss_is_not_undone() {
    for config in [TcpConfig::default(), plain()] {
        let (mut w, a, b) = open(config);
        carry(&mut w, a, b, 20);
        let until = w.now + MS * 100;
        w.fate = Some(Box::new(move |now, host, _| {
            match host == A && now < until {
                true => Fate::Lost,
                false => Fate::Arrives,
            }
        }));
        carry(&mut w, a, b, 30);
        let stats = w.hosts[A].tcp.stats();
        assert!(stats.timeouts >= 1);
        assert_eq!(stats.undone_recoveries, 0);
    }
}

// RFC 7765: of two segments the second is lost. The acknowledgement of the first does not give it another whole
// timeout.
#[test]
fn the_timeout_counts_from_the_oldest_segment_when_there_are_few() {
    let config = TcpConfig {
        sack: Feature::Off,
        ..plain()
    };
    let (mut w, a, b) = open(config);
    on_data(&mut w, |n| if n == 1 { Fate::Lost } else { Fate::Arrives });
    w.write(A, a, &pattern(FULL * 2, 3)).expect("space");
    w.run_for(MS * 600);
    assert_eq!(w.read(B, b, 1 << 20).map(|d| d.len()), Ok(2 * FULL));
    let sent: Vec<_> = w.trace.iter().filter(|t| t.1 == A && t.3 > 0).collect();
    assert_eq!(sent.len(), 3);
    let waited = sent[2].0 - sent[0].0;
    // The acknowledgement came after 10 ms and 40 ms of waiting for company, and RTTVAR has its floor.
    assert!(waited < MS * 225, "{waited:?}");
}

// A copy that the network made says nothing of the loss.
#[test]
fn a_segment_that_the_network_doubled_does_not_undo_a_recovery() {
    let (mut w, a, b) = open(TcpConfig::default());
    on_data(&mut w, |n| match n {
        4 => Fate::Lost,
        6 => Fate::Twice(MS * 3),
        _ => Fate::Arrives,
    });
    carry(&mut w, a, b, 10);
    let stats = w.hosts[A].tcp.stats();
    assert_eq!((stats.fast_recoveries, stats.retransmits), (1, 1));
    assert_eq!(stats.undone_recoveries, 0);
}

// RFC 8985 7.3: the timeout after a probe is a whole one, so that its answer can come before.
#[test]
fn a_probe_is_answered_before_the_timeout() {
    let net = Net {
        delay: MS * 30,
        ..Net::default()
    };
    let mut w = World::new(1, net);
    let (a, b) = w.pair();
    for _ in 0..8 {
        carry(&mut w, a, b, 20);
    }
    on_data(&mut w, |n| match n {
        2 | 3 => Fate::Lost,
        _ => Fate::Arrives,
    });
    carry(&mut w, a, b, 4);
    let stats = w.hosts[A].tcp.stats();
    assert_eq!((stats.tail_probes, stats.timeouts), (1, 0));
}

// RFC 8985 7.2: what follows a single segment is probed for as what follows many.
#[test]
fn the_probe_is_timed_by_what_is_on_its_way_at_the_end_of_a_burst() {
    let (mut w, a, b) = open(TcpConfig::default());
    carry(&mut w, a, b, 20);
    on_data(&mut w, |n| if n < 6 { Fate::Lost } else { Fate::Arrives });
    w.write(A, a, &[0; 100]).expect("space");
    w.write(A, a, &[0; 5 * FULL]).expect("space");
    w.run_for(MS * 120);
    let stats = w.hosts[A].tcp.stats();
    assert_eq!((stats.tail_probes, stats.timeouts), (1, 0));
}

// RFC 5682 2.1, step 2b: without a segment that could be sent, a timeout is dealt with as ever.
#[test]
fn with_crumbs_to_send_only_a_timeout_repairs_at_once() {
    let config = TcpConfig {
        sack: Feature::Off,
        ..plain()
    };
    let (mut w, a, b) = open(config);
    carry(&mut w, a, b, 20);
    on_data(&mut w, |n| if n < 5 { Fate::Lost } else { Fate::Arrives });
    w.write(A, a, &pattern(4 * FULL + 100, 1)).expect("space");
    w.write(A, a, b"ten bytes!").expect("space");
    w.run_for(MS * 600);
    assert_eq!(w.read(B, b, 1 << 20).map(|d| d.len()), Ok(4 * FULL + 110));
    assert_eq!(w.hosts[A].tcp.stats().timeouts, 1);
}

// RFC 5682 2.1: a timeout in the middle of a recovery may be a mistake; the loss before it was none.
#[test]
fn a_timeout_by_a_delay_does_not_undo_the_recovery_before_it() {
    let (mut w, a, b) = open(plain());
    let (mut n, until) = (0, w.now + MS * 100);
    w.fate = Some(Box::new(move |now, host, s| {
        if host != A || s.payload.is_empty() {
            return Fate::Arrives;
        }
        n += 1;
        match n {
            1 => Fate::Lost,
            11.. if now < until => Fate::Late(MS * 300),
            _ => Fate::Arrives,
        }
    }));
    carry(&mut w, a, b, 40);
    let stats = w.hosts[A].tcp.stats();
    assert_eq!((stats.fast_recoveries, stats.timeouts), (1, 1));
    assert_eq!(stats.undone_recoveries, 0);
}

// RFC 2018 8: a receiver may throw away what it has reported. When it waits for something of that, everything is sent again.
#[test]
fn what_a_peer_has_reported_and_thrown_away_is_sent_again() {
    let mut t = Hand::with(plain());
    t.w.write(B, t.b, &pattern(10 * FULL, 1)).expect("space");
    t.w.run_for(MS * 10);
    let first = t.ack;
    let at = |n: usize| first.wrapping_add((n * FULL) as u32);
    for n in 2..=10 {
        let mut s = t.segment(0, NONE, b"");
        s.header.options.sack.push((at(1), at(n)));
        t.give_segment(s);
    }
    // The first one arrives when it comes again, and nothing else is there any more.
    let mut again = vec![false; 10 * FULL];
    for n in 1..10 {
        t.ack = at(n);
        t.give(0, NONE, b"");
        t.w.run_for(Duration::from_secs(3));
        for (_, _, h, len) in &t.w.trace {
            // The path may be taken for a narrow one by then, and pieces be smaller.
            let from = h.seq.wrapping_sub(first) as usize;
            again[from..from + len].fill(true);
        }
    }
    assert!(again[FULL..].iter().all(|sent| *sent));
    t.ack = at(10);
    t.give(0, NONE, b"");
    assert_eq!(t.w.info(B, t.b).expect("there").in_flight, 0);
    assert_eq!(t.w.state(B, t.b), Some(TcpState::Established));
}

//! Explicit congestion notification: who agrees, what is marked, and what follows.

use super::*;

const MS: Duration = Duration::from_millis(1);
const FULL: usize = 1448;

fn with(ecn: EcnUse) -> TcpConfig {
    TcpConfig {
        ecn,
        ..TcpConfig::default()
    }
}

/// A asks, B has `answers`.
fn open(answers: EcnUse) -> (World, ConnId, ConnId) {
    between(EcnUse::Ask, answers)
}

fn between(asks: EcnUse, answers: EcnUse) -> (World, ConnId, ConnId) {
    let mut w = World::with(1, Net::default(), with(answers));
    w.hosts[A].tcp.config_mut().ecn = asks;
    let (a, b) = w.pair();
    (w, a, b)
}

fn carry(w: &mut World, a: ConnId, b: ConnId, segments: usize) {
    w.carry(a, b, FULL * segments);
    w.run_for(MS * 500);
}

// RFC 9768 3.2.2.1: whatever follows the acknowledgement of the answer has the count, data or not.
#[test]
fn only_one_acknowledgement_says_how_the_answer_arrived() {
    let (mut w, a, _) = between(EcnUse::Accurate, EcnUse::Grant);
    let said = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let seen = said.clone();
    w.fate = Some(Box::new(move |_, host, s| {
        if host == A {
            seen.borrow_mut().push(s.header.flags.ace());
        }
        Fate::Arrives
    }));
    w.shutdown(A, a);
    w.run_for(MS * 500);
    assert_eq!(*said.borrow(), [0b101]);
}

// RFC 3168 6.1.1, each pair of sides.
#[test]
fn both_have_to_agree() {
    for (answers, agreed) in [
        (EcnUse::Grant, true),
        (EcnUse::Ask, true),
        (EcnUse::Off, false),
    ] {
        let (mut w, a, b) = open(answers);
        let syns: Vec<_> = w
            .flags(A)
            .into_iter()
            .take(1)
            .chain(w.flags(B).into_iter().take(1))
            .collect();
        w.trace.clear();
        w.befall(Fate::Marked, |nth| nth == 3);
        carry(&mut w, a, b, 10);
        let marks = w.hosts[B].tcp.stats().ecn_marks_in;
        assert_eq!(marks, u64::from(agreed), "{answers:?} {syns:?}");
    }
}

// RFC 3168 6.1.2 and 6.1.3: one mark halves (or, with CUBIC, shrinks) the window once, without a retransmission, and is
// echoed until the sender has said that it heard.
#[test]
fn a_mark_shrinks_the_window_once() {
    let (mut w, a, b) = open(EcnUse::Grant);
    carry(&mut w, a, b, 20);
    let cwnd = |w: &World| w.info(A, a).expect("there").cwnd;
    let before = cwnd(&w);
    w.trace.clear();
    w.befall(Fate::Marked, |nth| nth == 5);
    carry(&mut w, a, b, 40);
    let stats = w.hosts[A].tcp.stats();
    assert_eq!((stats.ecn_reductions, stats.retransmits), (1, 0));
    assert!(cwnd(&w) < before, "{} {before}", cwnd(&w));
    let says = |host: usize, flag: TcpFlags| {
        let all = w
            .trace
            .iter()
            .filter(|t| t.1 == host && t.2.flags.has(flag));
        all.count()
    };
    assert!(says(B, TcpFlags::ECE) > 0);
    assert_eq!(says(A, TcpFlags::CWR), 1);
    let last = w.trace.iter().rfind(|t| t.1 == B).expect("B spoke");
    assert!(!last.2.flags.has(TcpFlags::ECE), "the echo has ended");
}

// RFC 3168 6.1.1.1: something on the way may drop SYNs that ask.
#[test]
fn a_syn_that_is_sent_again_does_not_ask() {
    let mut w = World::with(1, Net::default(), with(EcnUse::Ask));
    w.fate = Some(Box::new(|_, host, s| {
        match host == A && s.header.flags.has(TcpFlags::ECE) {
            true => Fate::Lost,
            false => Fate::Arrives,
        }
    }));
    let l = w.listen(B, 80, 8);
    let a = w.connect(A, 80);
    w.run_for(MS * 1500);
    let b = w.accept(B, l);
    carry(&mut w, a, b, 10);
    assert_eq!(w.hosts[A].tcp.stats().timeouts, 1);
}

// RFC 3168 6.1.5 and 6.1.4: what is sent again, and bare acknowledgements, are not marked as capable.
#[test]
fn only_new_data_is_marked_as_capable() {
    let (mut w, a, b) = open(EcnUse::Grant);
    let first = w.hosts[A].tcp.connections.get(a).expect("there").snd.nxt;
    let mut times = 0;
    w.fate = Some(Box::new(move |_, host, s| {
        let again = host == A && s.header.seq == first.0 && !s.payload.is_empty();
        times += u32::from(again);
        let capable = s.tos & 3 == 2;
        assert_eq!(
            capable,
            host == A && !s.payload.is_empty() && !(again && times > 1)
        );
        match again && times == 1 {
            true => Fate::Lost,
            false => Fate::Arrives,
        }
    }));
    carry(&mut w, a, b, 10);
    assert_eq!(w.hosts[A].tcp.stats().retransmits, 1);
}

/// The number in AE, CWR and ECE of the first segments of a host.
fn aces(w: &World, host: usize, segments: usize) -> Vec<u8> {
    let mine = w.trace.iter().filter(|t| t.1 == host);
    mine.take(segments).map(|t| t.2.flags.ace()).collect()
}

// RFC 9768 3.1.1 and 3.2.2.1: what is asked and answered, how the handshake arrived, and then the count.
#[test]
fn accurate_feedback_is_agreed_on_and_counts_from_five() {
    let (mut w, a, b) = between(EcnUse::Accurate, EcnUse::Grant);
    assert_eq!(w.flags(A)[..2], ["SEWe", "WA"]);
    assert_eq!(w.flags(B)[..1], ["SWA"]);
    w.trace.clear();
    w.befall(Fate::Marked, |nth| nth == 5);
    carry(&mut w, a, b, 10);
    // Nothing of B's was marked, and one packet of A's.
    assert!(aces(&w, A, 99).iter().all(|ace| *ace == 5));
    let said = aces(&w, B, 99);
    assert_eq!((said[0], said.last()), (5, Some(&6)), "{said:?}");
    let stats = w.hosts[A].tcp.stats();
    assert_eq!((stats.ecn_reductions, stats.retransmits), (1, 0));
    assert_eq!(w.hosts[B].tcp.stats().ecn_marks_in, 1);
}

// RFC 9768, table 2: the feedback that both know, or none.
#[test]
fn feedback_falls_back_to_what_both_know() {
    use EcnUse::{Accurate, Ask, Grant, Off};
    for (asks, answers, syn, answer, marks) in [
        (Accurate, Accurate, 7, 2, 1),
        (Accurate, Ask, 7, 2, 1),
        (Accurate, Off, 7, 0, 0),
        (Ask, Accurate, 3, 1, 1),
        (Ask, Grant, 3, 1, 1),
        (Ask, Off, 3, 0, 0),
        (Grant, Accurate, 0, 0, 0),
        (Off, Accurate, 0, 0, 0),
    ] {
        let (mut w, a, b) = between(asks, answers);
        let case = format!("{asks:?} {answers:?}");
        assert_eq!(aces(&w, A, 1), [syn], "{case}");
        assert_eq!(aces(&w, B, 1), [answer], "{case}");
        w.befall(Fate::Marked, |nth| nth == 3);
        carry(&mut w, a, b, 10);
        assert_eq!(w.hosts[B].tcp.stats().ecn_marks_in, marks, "{case}");
        assert_eq!(w.hosts[A].tcp.stats().ecn_reductions, marks, "{case}");
    }
}

// RFC 9768 3.1.4.1
#[test]
fn the_third_syn_does_not_ask_for_accurate_feedback() {
    let mut w = World::with(1, Net::default(), with(EcnUse::Accurate));
    w.fate = Some(Box::new(|_, host, s| {
        match host == A && s.header.flags.ace() == 7 {
            true => Fate::Lost,
            false => Fate::Arrives,
        }
    }));
    let l = w.listen(B, 80, 8);
    let a = w.connect(A, 80);
    w.run_for(MS * 4000);
    let b = w.accept(B, l);
    assert_eq!(aces(&w, A, 4), [7, 7, 0, 0]);
    assert_eq!(aces(&w, B, 1), [0]);
    w.fate = None;
    w.befall(Fate::Marked, |nth| nth == 3);
    carry(&mut w, a, b, 10);
    assert_eq!(w.hosts[B].tcp.stats().ecn_marks_in, 0);
}

/// The bare SYN that `pair` would send, with this number in its flags.
fn syn(w: &World, ace: u8) -> SegmentOut {
    let header = TcpHeader {
        src_port: 5000,
        dst_port: 80,
        seq: 1000,
        flags: TcpFlags::SYN | TcpFlags::of_ace(ace),
        window: 1000,
        ..TcpHeader::default()
    };
    arriving(w.addr(A, 5000), w.addr(B, 80), header, Payload::new())
}

// RFC 9768 3.1.5
#[test]
fn a_request_for_both_kinds_of_feedback_is_reset() {
    for (first, then) in [(7, 3), (3, 7)] {
        let mut w = World::with(1, Net::default(), with(EcnUse::Grant));
        w.listen(B, 80, 8);
        let (one, other) = (syn(&w, first), syn(&w, then));
        w.deliver(B, one);
        assert_eq!(w.trace.len(), 1);
        w.deliver(B, other);
        let last = w.trace.last().expect("an answer").2;
        assert!(last.flags.has(TcpFlags::RST) && last.ack == Some(1001));
        assert_eq!(w.hosts[B].tcp.counts().half_open, 0);
    }
    // One that asks no longer is answered as before, and nothing is marked as capable.
    let mut w = World::with(1, Net::default(), with(EcnUse::Grant));
    w.listen(B, 80, 8);
    let (one, other) = (syn(&w, 7), syn(&w, 0));
    w.deliver(B, one);
    w.deliver(B, other);
    assert_eq!(aces(&w, B, 2), [2, 2]);
}

// RFC 9768 3.2.2.1, table 4: where the flags are zeroed on the way, nothing is marked as capable any more.
#[test]
fn a_zero_from_the_peer_ends_the_marking_of_data() {
    let mut w = World::with(1, Net::default(), with(EcnUse::Grant));
    let l = w.listen(B, 80, 8);
    let asks = syn(&w, 7);
    w.deliver(B, asks);
    let iss = w.trace[0].2.seq;
    let mut ack = syn(&w, 0);
    ack.header.flags = TcpFlags::NONE;
    (ack.header.seq, ack.header.ack) = (1001, Some(iss.wrapping_add(1)));
    w.deliver(B, ack);
    let b = w.accept(B, l);
    let mut capable = 0;
    let seen = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&seen);
    w.fate = Some(Box::new(move |_, host, s| {
        capable += usize::from(host == B && s.tos & 3 != 0);
        count.store(capable, std::sync::atomic::Ordering::Relaxed);
        Fate::Lost
    }));
    w.write(B, b, &[1; 500]).expect("space");
    assert!(!w.trace.last().expect("data").2.flags.any(TcpFlags::SYN));
    assert_eq!(seen.load(std::sync::atomic::Ordering::Relaxed), 0);
}

// RFC 8257 3: with few marks the window shrinks by little, and the share is known because feedback is accurate.
#[test]
fn a_window_shrinks_by_the_share_of_marks() {
    let cwnd = |congestion| {
        let config = TcpConfig {
            congestion,
            abe: Feature::Off,
            ..with(EcnUse::Grant)
        };
        let mut w = World::with(1, Net::default(), config);
        if congestion != Congestion::Dctcp {
            w.hosts[A].tcp.config_mut().ecn = EcnUse::Accurate;
        }
        let (a, b) = w.pair();
        assert_eq!(aces(&w, A, 1), [7]);
        let mut n = 0;
        w.fate = Some(Box::new(move |_, host, s| {
            n += usize::from(host == A && !s.payload.is_empty());
            match host == A && !s.payload.is_empty() && n % 50 == 0 {
                true => Fate::Marked,
                false => Fate::Arrives,
            }
        }));
        let mut least = u32::MAX;
        for _ in 0..20 {
            carry(&mut w, a, b, 200);
            least = least.min(w.info(A, a).expect("there").cwnd);
        }
        least
    };
    let (share, half) = (cwnd(Congestion::Dctcp), cwnd(Congestion::Reno));
    assert!(share > 2 * half, "{share} {half}");
}

// RFC 8511 3.1: in congestion avoidance a mark shrinks the window less than a loss, unless that is turned off; in slow start
// as much.
#[test]
fn a_mark_leaves_more_of_the_window_than_a_loss() {
    for (congestion, abe, left) in [
        (Congestion::Cubic, Feature::On, [70, 85]),
        (Congestion::Cubic, Feature::Off, [70, 70]),
        (Congestion::Reno, Feature::On, [50, 80]),
        (Congestion::Reno, Feature::Off, [50, 50]),
    ] {
        let config = TcpConfig {
            congestion,
            abe,
            initial_cwnd_segments: 40,
            ..with(EcnUse::Accurate)
        };
        let mut w = World::with(1, Net::default(), config);
        let (a, b) = w.pair();
        let info = |w: &World| w.info(A, a).expect("there");
        for (n, left) in (1..).zip(left) {
            w.befall(Fate::Marked, |nth| nth == 1);
            // All that the window holds: its first segment is marked.
            let before = info(&w).cwnd;
            w.write(A, a, &pattern(before as usize, 1)).expect("space");
            let flight = info(&w).in_flight;
            assert!(flight + 2 * FULL as u32 > before, "{congestion:?}");
            while w.hosts[A].tcp.stats().ecn_reductions < n {
                assert!(w.step(), "{congestion:?}");
            }
            let shrunk = info(&w);
            let expected = flight.min(before) * left / 100;
            assert!(
                shrunk.ssthresh.abs_diff(expected) <= 2,
                "{congestion:?} {abe:?}: {} {expected}",
                shrunk.ssthresh
            );
            w.fate = None;
            w.run_for(MS * 100);
            assert!(w.read(B, b, 1 << 20).is_ok());
        }
    }
}

// RFC 9331 4.1 and 4.2: ECT(1) by choice, and only with accurate feedback.
#[test]
fn data_is_sent_as_either_kind_of_capable() {
    for (ecn, ect1, expected) in [
        (EcnUse::Accurate, Feature::Off, 0b10),
        (EcnUse::Accurate, Feature::On, 0b01),
        (EcnUse::Ask, Feature::On, 0b10),
    ] {
        let config = TcpConfig { ect1, ..with(ecn) };
        let mut w = World::with(1, Net::default(), config);
        let (a, b) = w.pair();
        let seen = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
        let sees = seen.clone();
        w.fate = Some(Box::new(move |_, host, s| {
            if host == A && !s.payload.is_empty() {
                sees.borrow_mut().push(s.tos & 3);
            }
            Fate::Arrives
        }));
        carry(&mut w, a, b, 10);
        assert!(seen.borrow().len() >= 10);
        assert!(seen.borrow().iter().all(|ect| *ect == expected), "{ecn:?}");
    }
}

// RFC 5562 3.2: a SYN-ACK may be marked by choice, the first time; a mark leaves an initial window of one segment.
#[test]
fn an_answer_to_a_syn_may_be_marked_instead_of_dropped() {
    for asks in [EcnUse::Ask, EcnUse::Accurate] {
        for (capable, marked) in [
            (Feature::Off, false),
            (Feature::On, false),
            (Feature::On, true),
        ] {
            let config = TcpConfig {
                ecn_syn_ack: capable,
                ..with(asks)
            };
            let mut w = World::with(1, Net::default(), config);
            let seen = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
            let sees = seen.clone();
            w.fate = Some(Box::new(move |_, host, s| {
                let is_answer = host == B && s.header.flags.has(TcpFlags::SYN);
                if is_answer {
                    sees.borrow_mut().push(s.tos & 3);
                }
                match is_answer && marked {
                    true => Fate::Marked,
                    false => Fate::Arrives,
                }
            }));
            let (a, b) = w.pair();
            let ect = if capable.is_on() { 0b10 } else { 0 };
            assert_eq!(*seen.borrow(), [ect]);
            let info = w.info(B, b).expect("there");
            let segments = if marked { 1 } else { 10 };
            assert_eq!(info.cwnd, segments * FULL as u32, "{asks:?}");
            // Data of both is still sent as capable, and the echo ends.
            w.write(B, b, &pattern(5 * FULL, 1)).expect("space");
            carry(&mut w, a, b, 5);
            let reductions = w.hosts[B].tcp.stats().ecn_reductions;
            assert_eq!(reductions, u64::from(marked), "{asks:?}");
            let says = |f: TcpFlags| {
                w.trace
                    .iter()
                    .filter(|t| t.2.flags.has(f) && t.3 > 0)
                    .count()
            };
            if asks == EcnUse::Ask {
                assert_eq!(says(TcpFlags::CWR), usize::from(marked));
            }
        }
    }
}

// RFC 5562 3.2: a path may drop what can be marked.
#[test]
fn an_answer_that_is_sent_again_cannot_be_marked() {
    let config = TcpConfig {
        ecn_syn_ack: Feature::On,
        ..with(EcnUse::Ask)
    };
    let mut w = World::with(1, Net::default(), config);
    w.fate = Some(Box::new(|_, _, s| {
        match s.header.flags.has(TcpFlags::SYN) && s.tos & 3 != 0 {
            true => Fate::Lost,
            false => Fate::Arrives,
        }
    }));
    let l = w.listen(B, 80, 4);
    let a = w.connect(A, 80);
    w.run_for(Duration::from_secs(3));
    w.accept(B, l);
    assert_eq!(w.state(A, a), Some(TcpState::Established));
}

// Google's BBRv3 for Linux: where the round trip is 5 ms at most. And where marks are counted.
#[test]
fn a_model_of_a_short_path_hears_of_marks_and_no_other_is_marked() {
    let run = |ecn: EcnUse, delay: u32, marks: bool| {
        let config = TcpConfig {
            congestion: Congestion::Bbr,
            ..with(ecn)
        };
        let net = Net {
            delay: MS * delay,
            ..Net::default()
        };
        let mut w = World::with(1, net, config);
        let (a, b) = w.pair();
        let seen = std::rc::Rc::new(std::cell::RefCell::new([0; 4]));
        let sees = seen.clone();
        w.fate = Some(Box::new(move |_, host, s| {
            if host == A && !s.payload.is_empty() {
                sees.borrow_mut()[usize::from(s.tos & 3)] += 1;
            }
            match marks && host == A && s.tos & 3 != 0 {
                true => Fate::Marked,
                false => Fate::Arrives,
            }
        }));
        for _ in 0..40 {
            w.carry(a, b, FULL * 50);
        }
        let info = w.info(A, a).expect("there");
        let seen = *seen.borrow();
        (seen, info.bytes_marked, info.cwnd)
    };
    let (seen, marked, free) = run(EcnUse::Accurate, 1, false);
    // The first flight left before the round trip was known.
    assert!(seen[0] > 0 && seen[2] > seen[0], "{seen:?}");
    assert_eq!(marked, 0);
    let (_, marked, bound) = run(EcnUse::Accurate, 1, true);
    assert!(marked > 0 && bound < free / 2, "{marked} {bound} {free}");
    for (ecn, delay) in [(EcnUse::Accurate, 5), (EcnUse::Ask, 1)] {
        let (seen, marked, _) = run(ecn, delay, true);
        assert_eq!((seen[1], seen[2], seen[3], marked), (0, 0, 0, 0), "{ecn:?}");
    }
}

// RFC 3168 6.1.3: the peer echoes until it hears of the reduction.
#[test]
fn the_echo_of_a_mark_ends_although_a_model_takes_over() {
    let (mut w, a, b) = open(EcnUse::Grant);
    carry(&mut w, a, b, 20);
    w.befall(Fate::Marked, |nth| nth == 5);
    w.write(A, a, &pattern(20 * FULL, 1)).expect("space");
    while w.hosts[A].tcp.stats().ecn_reductions == 0 {
        assert!(w.step());
    }
    w.fate = None;
    w.on(A, |tcp, cx| {
        tcp.set_options(cx, a, |o| o.congestion = Congestion::Bbr)
    })
    .expect("open");
    w.trace.clear();
    w.run_for(MS * 500);
    assert_eq!(w.read(B, b, 1 << 20).map(|d| d.len()), Ok(20 * FULL));
    carry(&mut w, a, b, 40);
    let last = w.trace.iter().rfind(|t| t.1 == B).expect("B spoke");
    assert!(!last.2.flags.has(TcpFlags::ECE), "the echo has ended");
    assert_eq!(w.hosts[A].tcp.stats().ecn_reductions, 1);
}

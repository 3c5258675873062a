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
    let mut w = World::with(1, Net::default(), with(answers));
    w.hosts[A].tcp.config_mut().ecn = EcnUse::Ask;
    let (a, b) = w.pair();
    (w, a, b)
}

fn carry(w: &mut World, a: ConnId, b: ConnId, segments: usize) {
    let data = pattern(FULL * segments, 3);
    let (mut sent, mut got) = (0, Vec::new());
    while got.len() < data.len() {
        sent += w.write(A, a, &data[sent..]).unwrap_or(0);
        if let Ok(mut more) = w.read(B, b, 1 << 20) {
            got.append(&mut more);
        }
        assert!(got.len() == data.len() || w.step(), "stuck");
    }
    assert!(got == data);
    w.run_for(MS * 500);
}

/// Marks the `n`th data segment of A.
fn mark(w: &mut World, n: usize) {
    let mut seen = 0;
    w.fate = Some(Box::new(move |_, host, s| {
        seen += usize::from(host == A && !s.payload.is_empty());
        match host == A && !s.payload.is_empty() && seen == n {
            true => Fate::Marked,
            false => Fate::Arrives,
        }
    }));
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
        mark(&mut w, 3);
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
    let cwnd = |w: &World| w.hosts[A].tcp.info(a).expect("there").cwnd;
    let before = cwnd(&w);
    w.trace.clear();
    mark(&mut w, 5);
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

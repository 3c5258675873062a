//! Peers that want more than their share (Savage et al., "TCP congestion control with a misbehaving receiver", 1999), and
//! programs that leave their connections to themselves.

use super::hand::{Hand, NONE};
use super::*;

const MSS: u32 = 1448;

/// B, which has sent ten segments.
fn sender(congestion: Congestion) -> Hand {
    let mut t = Hand::with(TcpConfig {
        congestion,
        ..TcpConfig::default()
    });
    t.w.write(B, t.b, &[1; 10 * MSS as usize]).expect("space");
    assert_eq!(in_flight(&t), 10 * MSS);
    t
}

fn in_flight(t: &Hand) -> u32 {
    t.w.hosts[B].tcp.info(t.b).expect("there").in_flight
}

fn cwnd(t: &Hand) -> u32 {
    t.w.hosts[B].tcp.info(t.b).expect("there").cwnd
}

/// So many bytes more are acknowledged.
fn acknowledge(t: &mut Hand, bytes: u32) {
    t.ack = t.ack.wrapping_add(bytes);
    t.give(0, NONE, b"");
}

// RFC 3465 and RFC 5681 3.1: bytes count, not acknowledgements.
#[test]
fn acknowledging_a_segment_in_pieces_gains_nothing() {
    for congestion in [Congestion::Reno, Congestion::Cubic] {
        let mut whole = sender(congestion);
        whole.w.run_for(Duration::from_millis(10));
        let before = cwnd(&whole);
        acknowledge(&mut whole, MSS);
        let honest = cwnd(&whole) - before;
        assert!((1..=MSS).contains(&honest), "{congestion:?}: {honest}");

        let mut pieces = sender(congestion);
        pieces.w.run_for(Duration::from_millis(10));
        for _ in 0..MSS / 8 {
            acknowledge(&mut pieces, 8);
        }
        assert_eq!(in_flight(&pieces), in_flight(&whole), "{congestion:?}");
        let greedy = cwnd(&pieces) - before;
        assert!(greedy <= honest, "{congestion:?}: {greedy}, {honest}");
    }
}

// RFC 5681 3.1: one acknowledgement counts for two segments at most, so who acknowledges all at once, whether it has
// arrived or not, does not cause a burst.
#[test]
fn acknowledging_everything_at_once_counts_for_two_segments() {
    for congestion in [Congestion::Reno, Congestion::Cubic] {
        let mut t = sender(congestion);
        t.w.run_for(Duration::from_millis(10));
        let before = cwnd(&t);
        acknowledge(&mut t, 10 * MSS);
        assert_eq!(cwnd(&t) - before, 2 * MSS, "{congestion:?}");
    }
}

// RFC 5961 5.2, RFC 9293 3.10.7.4: what was never sent cannot have arrived.
#[test]
fn acknowledging_ahead_of_what_was_sent_is_not_believed() {
    let mut t = sender(Congestion::Cubic);
    let before = cwnd(&t);
    t.ack = t.ack.wrapping_add(10 * MSS + 1);
    for _ in 0..100 {
        t.give(0, NONE, b"");
    }
    assert_eq!((cwnd(&t), in_flight(&t)), (before, 10 * MSS));
    // Each was answered, within the limit for such answers.
    assert_eq!(t.w.hosts[B].tcp.stats().challenge_acks, 10);
    assert_eq!(t.w.state(B, t.b), Some(TcpState::Established));
}

// RFC 6675, RFC 8985: where both use SACK, an acknowledgement without blocks says that nothing has arrived, however often it
// is repeated.
#[test]
fn repeating_an_acknowledgement_inflates_nothing() {
    let mut t = Hand::new();
    t.w.write(B, t.b, &[1; 100 * MSS as usize]).expect("space");
    let (sent, before) = (in_flight(&t), cwnd(&t));
    for _ in 0..1000 {
        t.give(0, NONE, b"");
    }
    assert_eq!((in_flight(&t), cwnd(&t)), (sent, before));
}

// As Linux's tcp_max_orphans.
#[test]
fn connections_that_nobody_refers_to_are_bounded() {
    let config = TcpConfig {
        max_orphans: 2,
        ..TcpConfig::default()
    };
    let mut w = World::with(1, Net::default(), config);
    let l = w.listen(B, 80, 8);
    let all: Vec<_> = (0..4).map(|_| w.connect(A, 80)).collect();
    w.run_for(Duration::from_millis(100));
    let peers: Vec<_> = all.iter().map(|_| w.accept(B, l)).collect();
    for a in &all[..3] {
        w.write(A, *a, b"last words").expect("space");
        w.close(A, *a);
    }
    w.run_for(Duration::from_millis(100));
    assert_eq!(w.hosts[A].tcp.stats().orphans_reset, 1);
    // All of it had left when the third one was closed: only its end differs.
    let mut ends = Vec::new();
    for b in &peers {
        if w.read(B, *b, 100).is_ok_and(|words| words == b"last words") {
            ends.push(w.read(B, *b, 100));
        }
    }
    let reset = Err(SocketError::ConnectionReset);
    assert_eq!(ends.len(), 3);
    assert_eq!(ends.iter().filter(|end| **end == reset).count(), 1);
    assert_eq!(ends.iter().filter(|end| **end == Ok(vec![])).count(), 2);
    // The others end, and then there is room again.
    for b in &peers {
        w.close(B, *b);
    }
    w.run_for(Duration::from_secs(120));
    assert_eq!(w.hosts[A].tcp.orphans, 0);
    w.close(A, all[3]);
    w.on(B, |tcp, cx| tcp.close_listener(cx, l));
    w.run_out();
    assert_eq!(w.hosts[A].tcp.stats().orphans_reset, 1);
    w.assert_empty();
    assert_eq!((w.hosts[A].tcp.orphans, w.hosts[B].tcp.orphans), (0, 0));
}

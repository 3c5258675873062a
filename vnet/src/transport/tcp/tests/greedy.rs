//! Peers that want more than their share (Savage et al., "TCP congestion control with a misbehaving receiver", 1999), and
//! programs that leave their connections to themselves.

use super::hand::{Hand, NONE};
use super::*;

const MSS: u32 = 1448;

/// B, which has sent ten segments.
fn sender(congestion: Congestion) -> Hand {
    sender_with(TcpConfig {
        congestion,
        ..TcpConfig::default()
    })
}

fn sender_with(config: TcpConfig) -> Hand {
    let mut t = Hand::with(config);
    t.w.write(B, t.b, &[1; 10 * MSS as usize]).expect("space");
    assert_eq!(in_flight(&t), 10 * MSS);
    t
}

fn in_flight(t: &Hand) -> u32 {
    t.w.info(B, t.b).expect("there").in_flight
}

fn cwnd(t: &Hand) -> u32 {
    t.w.info(B, t.b).expect("there").cwnd
}

/// So many bytes more are acknowledged.
fn acknowledge(t: &mut Hand, bytes: u32) {
    t.ack = t.ack.wrapping_add(bytes);
    t.give(0, NONE, b"");
}

/// The window at the end of each of five round trips, in segments. There is always something to send, and `acknowledge` says what
/// is acknowledged, and how.
fn windows(t: &mut Hand, mut acknowledge: impl FnMut(&mut Hand)) -> Vec<u32> {
    t.w.write(B, t.b, &[1; 400 * MSS as usize]).expect("space");
    let round_trip = |_| {
        t.w.run_for(Duration::from_millis(10));
        let window = cwnd(t) / MSS;
        acknowledge(t);
        window
    };
    (0..5).map(round_trip).collect()
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

// RFC 5681 3.1: one acknowledgement counts for two segments at most, or eight where HyStart++ watches the round trips (RFC 9406
// 4.3), so who acknowledges all at once, whether it has arrived or not, does not cause a burst.
#[test]
fn acknowledging_everything_at_once_counts_for_some_segments() {
    for (congestion, most) in [(Congestion::Reno, 2), (Congestion::Cubic, 8)] {
        let mut t = sender_with(TcpConfig {
            congestion,
            pacing: Feature::Off,
            ..TcpConfig::default()
        });
        t.w.run_for(Duration::from_millis(10));
        let before = cwnd(&t);
        acknowledge(&mut t, 10 * MSS);
        assert_eq!(cwnd(&t) - before, most * MSS, "{congestion:?}");
    }
}

// Each of them finds what those before it have freed; but what they acknowledge has left when the window was full.
#[test]
fn acknowledgements_that_come_together_count_as_if_each_came_alone() {
    for congestion in [Congestion::Reno, Congestion::Cubic] {
        let mut t = sender(congestion);
        let windows = windows(&mut t, |t| {
            let pairs = (0..in_flight(t) / MSS / 2).map(|_| {
                t.ack = t.ack.wrapping_add(2 * MSS);
                t.segment(0, NONE, b"")
            });
            let pairs: Vec<_> = pairs.collect();
            t.give_at_once(&pairs);
        });
        assert_eq!(windows, [10, 20, 40, 80, 160], "{congestion:?}");
    }
}

// RFC 7661 4.2, and Linux: half of the window in use is enough for slow start, and the window is what a loss takes its share of.
#[test]
fn slow_start_goes_on_to_twice_what_the_peer_lets_leave() {
    for congestion in [Congestion::Reno, Congestion::Cubic] {
        let mut t = sender_with(TcpConfig {
            congestion,
            window_scaling: Feature::Off,
            ..TcpConfig::default()
        });
        let windows = windows(&mut t, |t| {
            t.ack = t.ack.wrapping_add(in_flight(t));
            let mut s = t.segment(0, NONE, b"");
            s.header.window = 20 * MSS as u16;
            t.give_segment(s);
        });
        assert_eq!(windows, [10, 20, 40, 40, 40], "{congestion:?}");
    }
}

// The same where windows are spread over time: all counts, and no more leaves at once than a large packet.
#[test]
fn acknowledging_everything_at_once_causes_no_burst_where_windows_are_spread() {
    for congestion in [Congestion::Reno, Congestion::Cubic] {
        let mut t = sender(congestion);
        let windows = windows(&mut t, |t| {
            let sent = in_flight(t);
            acknowledge(t, sent);
        });
        assert_eq!(windows, [10, 20, 40, 80, 160], "{congestion:?}");
        let mut at_once = std::collections::BTreeMap::new();
        for (at, .., len) in t.w.trace.iter().filter(|t| t.1 == B) {
            *at_once.entry(*at).or_insert(0) += len;
        }
        let most = at_once.values().max();
        assert!(
            most.is_some_and(|most| *most <= 65_535),
            "{congestion:?}: {most:?}"
        );
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

// RFC 5681 3.2, step 4: where SACK is not used, each duplicate stands for a segment that arrived, and lets another one leave;
// but no more than were on their way, and those that leave for them cause none before a round trip has passed.
#[test]
fn repeating_an_acknowledgement_lets_no_more_leave_than_was_on_its_way() {
    for congestion in [Congestion::Reno, Congestion::Cubic] {
        let mut t = Hand::with(TcpConfig {
            congestion,
            sack: Feature::Off,
            ..TcpConfig::default()
        });
        t.w.write(B, t.b, &[1; 100 * MSS as usize]).expect("space");
        t.w.run_for(Duration::from_millis(10));
        assert_eq!(in_flight(&t), 10 * MSS);
        // The first one has another window than before.
        t.give(0, NONE, b"");
        let before = cwnd(&t);
        let mut left = [0; 3];
        let mut so_far = 0;
        for (left, n) in left.iter_mut().zip([3, 20, 1000]) {
            for _ in 0..n {
                t.give(0, NONE, b"");
                so_far += t.w.trace.iter().filter(|s| s.3 > 0).count();
            }
            *left = so_far;
        }
        // Two by limited transmit, and the retransmission.
        assert_eq!(left[0], 3, "{congestion:?}");
        // As many as were on their way at the most, and then none.
        assert!((4..=11).contains(&left[1]), "{congestion:?}: {left:?}");
        assert_eq!(left[1], left[2], "{congestion:?}");
        assert!(cwnd(&t) <= before, "{congestion:?}");
    }
}

// RFC 9293 3.8.6.2.1: a window of a few bytes, where there was more before, is not filled at once, however often it is said.
#[test]
fn a_sliver_of_a_window_is_left_alone() {
    let mut t = sender(Congestion::Cubic);
    t.w.write(B, t.b, &[1; 50 * MSS as usize]).expect("space");
    t.w.run_for(Duration::from_millis(10));
    t.ack = t.ack.wrapping_add(10 * MSS);
    let mut left = 0;
    for _ in 0..100 {
        let mut s = t.segment(0, NONE, b"");
        s.header.window = 1;
        t.give_segment(s);
        left += t.w.trace.iter().filter(|s| s.3 > 0).count();
    }
    assert_eq!(left, 0);
    // Tried after a while, and then less and less often.
    t.w.run_for(Duration::from_secs(60));
    let tried = t.w.trace.len();
    assert!((1..=10).contains(&tried), "{tried}");
}

// A peer whose largest segment is a byte would have a packet sent for each byte.
#[test]
fn a_tiny_segment_size_is_not_taken_at_its_word() {
    let mut w = World::new(1, Net::default());
    let l = w.listen(B, 80, 4);
    w.net.loss = 1.0;
    let (src, dst) = (w.addr(A, 4000), w.addr(B, 80));
    let mut header = TcpHeader {
        src_port: 4000,
        dst_port: 80,
        seq: 1000,
        flags: TcpFlags::SYN,
        window: 60_000,
        options: crate::packet::header::TcpOptions {
            mss: Some(1),
            ..Default::default()
        },
        ..TcpHeader::default()
    };
    w.deliver(B, arriving(src, dst, header, Payload::new()));
    let answer = w.trace.last().expect("a SYN-ACK").2;
    header = TcpHeader {
        seq: 1001,
        ack: Some(answer.seq.wrapping_add(1)),
        flags: NONE,
        options: Default::default(),
        ..header
    };
    w.deliver(B, arriving(src, dst, header, Payload::new()));
    let b = w.accept(B, l);
    w.trace.clear();
    w.write(B, b, &[1; 6400]).expect("space");
    let lens: Vec<usize> = w.trace.iter().map(|t| t.3).collect();
    assert!(!lens.is_empty());
    assert!(lens.iter().all(|len| *len >= 52), "{lens:?}");
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

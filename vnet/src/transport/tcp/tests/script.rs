//! One rule, one script.

use super::hand::{Hand, NONE};
use super::*;
use crate::packet::header::SackBlocks;

#[test]
fn an_acknowledgement_waits_for_a_second_segment_or_forty_milliseconds() {
    let mut t = Hand::new();
    assert_eq!(t.give(0, NONE, &[0; 1448]), []);
    let acks = t.give(1448, NONE, &[0; 1448]);
    assert_eq!(acks.iter().map(|h| t.acked(h)).collect::<Vec<_>>(), [2896]);
    assert_eq!(t.give(2896, NONE, b"x"), []);
    t.w.run_for(Duration::from_millis(39));
    assert!(t.w.trace.is_empty());
    t.w.run_for(Duration::from_millis(2));
    assert_eq!(t.acked(&t.w.trace[0].2), 2897);
}

/// What B has acknowledged at once when it has read so many bytes.
fn read(t: &mut Hand, bytes: usize) -> Vec<u32> {
    t.w.trace.clear();
    assert_eq!(t.w.read(B, t.b, bytes).map(|d| d.len()), Ok(bytes));
    t.w.trace.iter().map(|s| t.acked(&s.2)).collect()
}

// Linux does so too. The peer writes the next when it has heard of the last, and a small window stands still meanwhile.
#[test]
fn what_is_read_is_acknowledged_at_once_where_nothing_of_ours_could_carry_it() {
    let mut t = Hand::new();
    let waits = Duration::from_millis(41);
    // It may be a request.
    assert_eq!(t.give(0, TcpFlags::PSH, &[1; 100]), []);
    assert_eq!(read(&mut t, 100), []);
    // It was not.
    t.w.run_for(waits);
    assert_eq!(t.acked(&t.w.trace[0].2), 100);
    assert_eq!(t.give(100, TcpFlags::PSH, &[1; 100]), []);
    assert_eq!(read(&mut t, 60), []);
    assert_eq!(read(&mut t, 40), [200]);
    assert_eq!(read(&mut t, 0), []);
    // More is to follow.
    assert_eq!(t.give(200, NONE, &[1; 100]), []);
    assert_eq!(read(&mut t, 100), []);
    assert_eq!(t.give(300, TcpFlags::PSH, &[1; 100]), []);
    assert_eq!(read(&mut t, 100), [400]);
    // An answer: more of them may follow.
    assert_eq!(t.w.write(B, t.b, b"answer"), Ok(6));
    assert_eq!(t.give(400, TcpFlags::PSH, &[1; 100]), []);
    assert_eq!(read(&mut t, 100), []);
    // After a loss, nobody waits for an answer.
    t.w.run_for(waits);
    assert_eq!(t.w.write(B, t.b, b"answer"), Ok(6));
    assert_eq!(t.give(510, NONE, &[1; 10]).len(), 1);
    assert_eq!(t.give(500, NONE, &[1; 10]).len(), 1);
    let mut end = 520;
    while t.give(end, TcpFlags::PSH, &[1; 10]).len() == 1 {
        end += 10;
    }
    assert_eq!(read(&mut t, end as usize + 10 - 500), [end as u32 + 10]);
}

#[test]
fn a_large_segment_is_acknowledged_at_once() {
    let mut t = Hand::new();
    let mut s = t.segment(0, NONE, &[0; 2 * 1448]);
    s.gso = Some(1448);
    assert_eq!(t.give_segment(s).len(), 1);
}

#[test]
fn gaps_are_acknowledged_at_once_with_sack_and_so_is_their_end() {
    let mut t = Hand::new();
    let sack = |h: &TcpHeader, t: &Hand| {
        let seq = t.seq;
        let rel = |(l, r): &(u32, u32)| (l.wrapping_sub(seq), r.wrapping_sub(seq));
        h.options
            .sack
            .as_slice()
            .iter()
            .map(rel)
            .collect::<Vec<_>>()
    };
    let h = t.give(100, NONE, &[1; 100]);
    assert_eq!((t.acked(&h[0]), sack(&h[0], &t)), (0, vec![(100, 200)]));
    let h = t.give(300, NONE, &[1; 100]);
    assert_eq!(sack(&h[0], &t), [(300, 400), (100, 200)]);
    // Part of it again: reported once as a duplicate.
    let h = t.give(300, NONE, &[1; 50]);
    assert_eq!(sack(&h[0], &t)[0], (300, 350));
    let h = t.give(0, NONE, &[1; 100]);
    assert_eq!((t.acked(&h[0]), sack(&h[0], &t)), (200, vec![(300, 400)]));
    let h = t.give(0, NONE, &[1; 100]);
    assert_eq!(sack(&h[0], &t), [(0, 100), (300, 400)]);
    let h = t.give(200, NONE, &[1; 100]);
    assert_eq!((t.acked(&h[0]), sack(&h[0], &t)), (400, vec![]));
    assert_eq!(t.w.read(B, t.b, 1000).map(|d| d.len()), Ok(400));
}

/// Data that arrives in one moment.
fn give_together(t: &mut Hand, segments: &[(i64, &[u8])]) -> Vec<TcpHeader> {
    let segments: Vec<_> = segments
        .iter()
        .map(|(offset, data)| t.segment(*offset, NONE, data))
        .collect();
    t.give_at_once(&segments)
}

// RFC 5681 4.2. A sender that has lost something has a small window: if many segments share an
// acknowledgement, and it is lost, nothing but its timer is left to it.
#[test]
fn after_a_loss_segments_are_acknowledged_one_by_one_even_when_they_come_together() {
    for sack in [Feature::On, Feature::Off] {
        let config = TcpConfig {
            sack,
            ..TcpConfig::default()
        };
        let mut t = Hand::with(config);
        let full = &[1; 1448][..];
        let at = |n: i64| n * 1448;
        let acks = |t: &Hand, h: &[TcpHeader]| -> Vec<u32> {
            h.iter().map(|h| t.acked(h) / 1448).collect()
        };
        // Nothing is lost yet: one for two at least.
        let h = give_together(&mut t, &[(0, full), (at(1), full), (at(2), full)]);
        assert_eq!(acks(&t, &h), [3]);
        let h = give_together(&mut t, &[(at(4), full), (at(5), full), (at(3), full)]);
        assert_eq!(acks(&t, &h), [3, 3, 6]);
        let h = give_together(&mut t, &[(at(6), full), (at(7), b"x")]);
        assert_eq!(acks(&t, &h), [7, 7]);
    }
}

// RFC 7323 4.3. Linux and FreeBSD do the same.
#[test]
fn the_latest_segment_again_is_echoed_and_an_older_one_is_not() {
    let mut t = Hand::new();
    let (tsval, echo) = t.ts.expect("negotiated");
    let echoed = |h: &[TcpHeader]| {
        let (_, echoed) = h[0].options.timestamp.expect("negotiated");
        echoed.wrapping_sub(tsval)
    };
    let later = |ms: u32| Some((tsval.wrapping_add(ms), echo));
    t.give(0, NONE, &[1; 1448]);
    assert_eq!(echoed(&t.give(1448, NONE, &[1; 1448])), 0);
    t.ts = later(300);
    assert_eq!(echoed(&t.give(1448, NONE, &[1; 1448])), 300);
    t.ts = later(500);
    assert_eq!(echoed(&t.give(0, NONE, &[1; 1448])), 300);
    // Not when its acknowledgement is one of something never sent.
    t.ack = t.ack.wrapping_add(9);
    assert_eq!(echoed(&t.give(1448, NONE, &[1; 1448])), 300);
}

#[test]
fn without_sack_each_segment_ahead_of_a_gap_has_a_plain_acknowledgement() {
    let config = TcpConfig {
        sack: Feature::Off,
        ..TcpConfig::default()
    };
    let mut t = Hand::with(config);
    for offset in [100, 300, 300, 150] {
        let h = t.give(offset, NONE, &[1; 100]);
        assert_eq!(h.len(), 1);
        assert_eq!(t.acked(&h[0]), 0);
        assert!(h[0].options.sack.is_empty());
    }
}

/// Gives B a segment that its vnet has no room for, and returns its verdict and what it says.
fn give_without_room(t: &mut Hand, s: SegmentOut) -> (Verdict, Vec<TcpHeader>) {
    t.w.trace.clear();
    let path = t.w.net.path;
    let verdict =
        t.w.on(B, |tcp, cx| tcp.input_without_room(cx, heard(&s, path)));
    (verdict, t.w.trace.iter().map(|t| t.2).collect())
}

#[test]
fn what_a_vnet_has_no_room_for_is_answered_and_comes_again() {
    let mut t = Hand::new();
    t.give(0, NONE, b"kept");
    t.w.run_for(Duration::from_millis(50));
    let full = Verdict::Drop(crate::DropReason::SocketBufferFull);
    let window = t.give(4, NONE, &[0; 3000])[0].window;
    // In order, ahead of a gap, with a FIN, and a FIN alone: each has its answer, of what is held.
    for (offset, flags, data) in [
        (3004, NONE, &b"text"[..]),
        (3010, NONE, b"ahead"),
        (3004, TcpFlags::FIN, b"end"),
        (3004, TcpFlags::FIN, b""),
    ] {
        let s = t.segment(offset, flags, data);
        let (verdict, said) = give_without_room(&mut t, s);
        assert_eq!((verdict, said.len()), (full, 1), "{offset}");
        assert_eq!(t.acked(&said[0]), 3004);
        assert_eq!(said[0].window, window);
    }
    assert_eq!(t.w.state(B, t.b), Some(TcpState::Established));
    // Its acknowledgement counts, and there is room again.
    let h = t.give(3004, TcpFlags::FIN, b"text");
    assert_eq!(t.acked(&h[0]), 3009);
    assert_eq!(t.w.state(B, t.b), Some(TcpState::CloseWait));
}

#[test]
fn a_fin_ahead_of_a_gap_waits_for_it() {
    let mut t = Hand::new();
    assert_eq!(t.give(10, TcpFlags::FIN, b"world").len(), 1);
    assert_eq!(t.w.state(B, t.b), Some(TcpState::Established));
    let h = t.give(0, NONE, b"hello ---x");
    assert_eq!(t.acked(&h[0]), 16);
    assert_eq!(t.w.state(B, t.b), Some(TcpState::CloseWait));
    assert_eq!(t.w.read(B, t.b, 99), Ok(b"hello ---xworld".to_vec()));
    assert_eq!(t.w.read(B, t.b, 99), Ok(vec![]));
    // The FIN again is acknowledged again; bytes behind it are not believed.
    let h = t.give(15, TcpFlags::FIN, b"");
    assert_eq!(t.acked(&h[0]), 16);
    t.give(16, NONE, b"more");
    assert_eq!(t.w.read(B, t.b, 99), Ok(vec![]));
}

#[test]
fn resets_and_syns_in_the_window_are_challenged() {
    let mut t = Hand::new();
    let next = t.w.info(B, t.b).map(|i| i.state);
    assert_eq!(next, Ok(TcpState::Established));
    // RFC 5961 3.2: in the window, but not exact.
    let h = t.give(5, TcpFlags::RST, b"");
    assert_eq!(t.acked(&h[0]), 0);
    // Outside: dropped without a word.
    assert_eq!(t.give(-5, TcpFlags::RST, b""), []);
    // RFC 5961 4.2
    let h = t.give(0, TcpFlags::SYN, b"");
    assert_eq!(t.acked(&h[0]), 0);
    // RFC 5961 5.2: an acknowledgement of something never sent.
    t.ack = t.ack.wrapping_add(100);
    assert_eq!(t.give(0, NONE, b"x").len(), 1);
    t.ack = t.ack.wrapping_sub(100);
    assert_eq!(t.w.hosts[B].tcp.stats().challenge_acks, 3);
    for _ in 0..20 {
        t.give(5, TcpFlags::RST, b"");
    }
    assert_eq!(t.w.hosts[B].tcp.stats().challenge_acks, 10);
    t.w.run_for(Duration::from_secs(5));
    assert_eq!(t.give(5, TcpFlags::RST, b"").len(), 1);
    // Exact: believed.
    assert_eq!(t.give(0, TcpFlags::RST, b""), []);
    assert_eq!(t.w.read(B, t.b, 1), Err(SocketError::ConnectionReset));
}

#[test]
fn old_timestamps_are_refused() {
    let mut t = Hand::new();
    let (tsval, echo) = t.ts.expect("negotiated");
    t.ts = Some((tsval.wrapping_add(10), echo));
    t.give(0, NONE, &[0; 3000]);
    t.ts = Some((tsval.wrapping_add(9), echo));
    let h = t.give(3000, NONE, b"old");
    assert_eq!(t.acked(&h[0]), 3000);
    assert_eq!(t.w.hosts[B].tcp.stats().paws_drops, 1);
    assert_eq!(
        t.w.verdicts.last(),
        Some(&Verdict::Drop(crate::DropReason::TcpUnacceptable))
    );
    // A reset is believed all the same (RFC 7323 5.2).
    t.give(3000, TcpFlags::RST, b"");
    assert_eq!(t.w.state(B, t.b), Some(TcpState::Closed));
}

#[test]
fn a_segment_is_cut_to_the_window_and_urgent_data_is_data() {
    let config = TcpConfig {
        recv_buffer: 1000,
        max_buffer: 1000,
        ..TcpConfig::default()
    };
    let mut t = Hand::with(config);
    let h = t.give(0, TcpFlags::URG, &[7; 1500]);
    assert_eq!((t.acked(&h[0]), h[0].window), (1000, 0));
    assert_eq!(t.w.read(B, t.b, 5000).map(|d| d.len()), Ok(1000));
}

#[test]
fn the_window_never_shrinks_and_opens_in_large_steps() {
    let config = TcpConfig {
        recv_buffer: 10_000,
        window_scaling: Feature::Off,
        ..TcpConfig::default()
    };
    let mut t = Hand::with(config);
    let h = t.give(0, NONE, &[0; 9500]);
    assert_eq!(h[0].window, 500);
    t.w.trace.clear();
    // A small read frees too little to be worth telling.
    assert_eq!(t.w.read(B, t.b, 200).map(|d| d.len()), Ok(200));
    assert_eq!(t.w.trace.len(), 0);
    let h = t.give(9500, NONE, &[0; 500]);
    assert!(h.is_empty() || h[0].window == 0);
    t.w.trace.clear();
    assert_eq!(t.w.read(B, t.b, 4800).map(|d| d.len()), Ok(4800));
    assert_eq!(t.w.trace[0].2.window, 5000);
}

#[test]
fn nagle_holds_a_second_small_segment_and_nodelay_does_not() {
    let mut w = World::new(1, Net::default());
    let (a, b) = w.pair();
    w.trace.clear();
    for _ in 0..3 {
        w.write(A, a, b"abc").expect("space");
    }
    assert_eq!(w.flags(A), ["PAd"]);
    w.on(A, |tcp, cx| tcp.set_options(cx, a, |o| o.nodelay = true))
        .expect("there");
    assert_eq!(w.flags(A), ["PAd", "PAd"]);
    assert_eq!(w.trace[1].3, 6);
    w.write(A, a, b"d").expect("space");
    assert_eq!(w.flags(A).len(), 3);
    w.run_for(Duration::from_millis(100));
    assert_eq!(w.read(B, b, 99), Ok(b"abcabcabcd".to_vec()));
}

#[test]
fn a_closed_window_is_probed_until_it_opens() {
    let config = TcpConfig {
        recv_buffer: 5_000,
        ..TcpConfig::default()
    };
    let mut w = World::with(1, Net::default(), config);
    let (a, b) = w.pair();
    let data = pattern(12_000, 1);
    assert_eq!(w.write(A, a, &data), Ok(12_000));
    w.run_for(Duration::from_secs(3600));
    assert_eq!(w.state(A, a), Some(TcpState::Established));
    assert_eq!(w.info(A, a).map(|i| i.peer_window), Ok(0));
    let probes = w.hosts[A].tcp.stats().window_probes;
    assert!((20..60).contains(&probes), "{probes} probes in an hour");
    assert_eq!(w.hosts[A].tcp.stats().retransmits, 0);
    // The window update is lost; the next probe finds out.
    w.net.loss = 1.0;
    let mut got = w.read(B, b, 5_000).expect("full");
    w.net.loss = 0.0;
    while got.len() < data.len() {
        w.run_for(Duration::from_secs(130));
        got.append(&mut w.read(B, b, 5_000).expect("more"));
    }
    assert_eq!(got, data);
}

#[test]
fn a_peer_that_vanishes_with_a_closed_window_is_given_up() {
    let config = TcpConfig {
        recv_buffer: 5_000,
        ..TcpConfig::default()
    };
    let mut w = World::with(1, Net::default(), config);
    let (a, _) = w.pair();
    w.write(A, a, &[0; 9_000]).expect("space");
    w.run_for(Duration::from_secs(10));
    w.net.loss = 1.0;
    w.run_for(Duration::from_secs(3600));
    assert_eq!(w.write(A, a, b"x"), Err(SocketError::TimedOut));
}

#[test]
fn keepalive_probes_an_idle_connection_and_gives_it_up() {
    let mut w = World::new(1, Net::default());
    let (a, _) = w.pair();
    w.on(A, |tcp, cx| tcp.set_options(cx, a, |o| o.keepalive = true))
        .expect("there");
    w.run_for(Duration::from_secs(3 * 7200));
    let probes = w.hosts[A].tcp.stats().keepalive_probes;
    assert!((2..=3).contains(&probes), "{probes}");
    assert_eq!(w.state(A, a), Some(TcpState::Established));
    w.net.loss = 1.0;
    w.run_for(Duration::from_secs(7200 + 9 * 75 + 10));
    assert_eq!(w.hosts[A].tcp.stats().keepalive_probes, probes + 9);
    assert_eq!(w.read(A, a, 1), Err(SocketError::TimedOut));
}

#[test]
fn silence_after_data_times_out_after_fifteen_retransmissions() {
    let mut w = World::new(1, Net::default());
    let (a, _) = w.pair();
    w.net.loss = 1.0;
    w.trace.clear();
    w.write(A, a, b"hello?").expect("space");
    w.run_for(Duration::from_secs(3600));
    assert_eq!(w.trace.len(), 16);
    assert_eq!(w.trace[1].0 - w.trace[0].0, Duration::from_millis(210));
    assert_eq!(w.trace[2].0 - w.trace[1].0, Duration::from_millis(420));
    assert_eq!(w.write(A, a, b"x"), Err(SocketError::TimedOut));
}

/// Loses the segments of the next write at the given places and returns the world after it.
fn lose(config: TcpConfig, lost: &[usize]) -> (World, ConnId) {
    let mut w = World::with(1, Net::default(), config);
    let (a, b) = w.pair();
    w.trace.clear();
    let data = pattern(1448 * 10, 9);
    w.write(A, a, &data).expect("space");
    assert_eq!(w.trace.len(), 10);
    let mut flying: Vec<_> = w.wire.drain().map(|r| r.0).collect();
    flying.sort_unstable();
    for (i, f) in flying.into_iter().enumerate() {
        if !lost.contains(&i) {
            w.wire.push(Reverse(f));
        }
    }
    w.run_for(Duration::from_millis(100));
    assert_eq!(w.read(B, b, 1 << 20), Ok(data));
    (w, a)
}

#[test]
fn holes_are_filled_in_one_round_trip_with_sack() {
    let config = TcpConfig {
        congestion: Congestion::Reno,
        ..TcpConfig::default()
    };
    let (w, a) = lose(config, &[1, 3, 5]);
    let stats = w.hosts[A].tcp.stats();
    assert_eq!((stats.retransmits, stats.timeouts), (3, 0));
    assert_eq!(stats.fast_recoveries, 1);
    let info = w.info(A, a).expect("there");
    assert!(info.cwnd < 10 * 1448 && info.in_flight == 0);
}

#[test]
fn holes_are_filled_one_a_round_trip_without_sack() {
    let config = TcpConfig {
        sack: Feature::Off,
        ..TcpConfig::default()
    };
    let (w, _) = lose(config, &[1, 3, 5]);
    let stats = w.hosts[A].tcp.stats();
    assert_eq!((stats.retransmits, stats.timeouts), (3, 0));
    assert_eq!(stats.fast_recoveries, 1);
}

#[test]
fn a_narrower_path_sends_again_in_smaller_pieces() {
    let mut w = World::new(1, Net::default());
    let (a, b) = w.pair();
    w.trace.clear();
    let data = pattern(6_000, 4);
    w.net.loss = 1.0; // a router on the way drops them
    w.write(A, a, &data).expect("space");
    w.net.loss = 0.0;
    let (_, _, h, _) = w.trace[0];
    let (local, remote) = (w.hosts[A].tcp.local_addr(a).expect("bound"), w.addr(B, 80));
    let before = w.info(A, a).map(|i| i.cwnd);
    w.trace.clear();
    let v = w.on(A, |tcp, cx| {
        let what = IcmpKind::FragmentationNeeded { ip_mtu: 1000 };
        tcp.on_icmp_error(cx, local, remote, h.seq, what)
    });
    assert_eq!(v, Verdict::Delivered);
    w.run_for(Duration::from_millis(50));
    assert_eq!(w.info(A, a).map(|i| i.cwnd), before);
    assert!(w.trace.iter().all(|t| t.3 <= 1000 - 52));
    assert_eq!(w.read(B, b, 1 << 20), Ok(data));
    assert_eq!(w.hosts[A].tcp.stats().timeouts, 0);
}

#[test]
fn large_segments_are_multiples_of_the_mss_but_for_the_last() {
    let net = Net {
        path: Path {
            ip_mtu: 1500,
            gso_max: 65_000,
        },
        ..Net::default()
    };
    for cut in [true, false] {
        let mut w = World::new(1, Net { cut, ..net });
        let (a, b) = w.pair();
        w.trace.clear();
        let data = pattern(1 << 20, 6);
        let mut sent = 0;
        let mut got = Vec::new();
        while got.len() < data.len() {
            sent += w.write(A, a, &data[sent..]).unwrap_or(0);
            if let Ok(mut d) = w.read(B, b, 1 << 20) {
                got.append(&mut d);
            }
            assert!(w.step());
        }
        assert_eq!(got, data);
        let sizes: Vec<_> = w.trace.iter().filter(|t| t.3 > 0).map(|t| t.3).collect();
        assert_eq!(sizes[0], 10 * 1448); // the initial window
        let odd = sizes.iter().filter(|s| *s % 1448 != 0).count();
        assert!(odd <= 1, "{odd} of {}", sizes.len());
        // Where nothing cuts them, one acknowledgement releases a large segment.
        assert!(cut || sizes.iter().max() > Some(&40_000));
        assert_eq!(w.hosts[A].tcp.stats().retransmits, 0);
    }
}

#[test]
fn forged_sack_blocks_do_no_harm() {
    let mut w = World::new(1, Net::default());
    let (a, b) = w.pair();
    w.net.loss = 1.0;
    w.write(A, a, &[1; 5000]).expect("space");
    w.net.loss = 0.0;
    let (src, dst) = (w.addr(B, 80), w.hosts[A].tcp.local_addr(a).expect("bound"));
    let (_, _, h, _) = *w.trace.iter().find(|t| t.3 > 0).expect("sent");
    let mut sack = SackBlocks::NONE;
    sack.push((5, 1));
    sack.push((0, u32::MAX));
    sack.push((h.seq.wrapping_sub(10_000), h.seq));
    sack.push((h.seq, h.seq.wrapping_add(90_000)));
    let forged = arriving(
        src,
        dst,
        TcpHeader {
            src_port: 80,
            dst_port: dst.port(),
            seq: h.ack.expect("established"),
            ack: Some(h.seq),
            window: 9999,
            options: crate::packet::header::TcpOptions {
                sack,
                ..Default::default()
            },
            ..TcpHeader::default()
        },
        Payload::new(),
    );
    w.deliver(A, forged);
    w.run_for(Duration::from_secs(5));
    assert_eq!(w.read(B, b, 1 << 20), Ok(vec![1; 5000]));
}

/// A receiver with a buffer of 64 KiB that does not grow, and windows in steps of 512 bytes.
fn coarse() -> Hand {
    Hand::with(TcpConfig {
        recv_buffer: 1 << 16,
        recv_buffer_auto: Feature::Off,
        ..TcpConfig::default()
    })
}

// RFC 7323 2.4: the window field may be rounded, but not to more than there is room for.
#[test]
fn a_reader_that_does_not_read_is_not_sent_more_than_its_buffer_holds() {
    let mut t = coarse();
    for n in 0..2000 {
        for h in t.give(n * 100, NONE, &[0; 100]) {
            let edge = t.acked(&h) + (u32::from(h.window) << 9);
            assert!(edge <= 1 << 16, "{n}: {edge}");
        }
    }
    let held = t.w.read(B, t.b, 1 << 20).map(|d| d.len());
    assert!(held.is_ok_and(|n| n <= 1 << 16), "{held:?}");
}

#[test]
fn what_the_window_promises_is_kept_ahead_of_a_gap_too() {
    let mut t = coarse();
    let segments = (1 << 16) / 1448;
    for n in 1..segments {
        t.give(n * 1448, NONE, &[0; 1448]);
    }
    let h = t.give(0, NONE, &[0; 1448]);
    assert_eq!(i64::from(t.acked(&h[0])), segments * 1448);
}

//! Longer transfers in virtual time.

use super::*;

/// Seconds that `bytes` take from A to B.
fn seconds(w: &mut World, bytes: usize) -> f64 {
    let (a, b) = w.pair();
    let data = pattern(bytes, 8);
    let begin = w.now;
    let (mut sent, mut got) = (0, 0);
    while got < bytes {
        sent += w
            .write(A, a, &data[sent..(sent + 100_000).min(bytes)])
            .unwrap_or(0);
        while let Ok(d) = w.read(B, b, 1 << 20) {
            assert!(!d.is_empty() && d == data[got..got + d.len()]);
            got += d.len();
        }
        assert!(w.step());
    }
    (w.now - begin).as_secs_f64()
}

#[test]
fn a_clean_link_is_filled() {
    let net = Net {
        delay: Duration::from_millis(20),
        bits_per_second: Some(100_000_000),
        ..Net::default()
    };
    let mut w = World::new(1, net);
    let mbps = 10e6 * 8.0 / seconds(&mut w, 10_000_000) / 1e6;
    assert!(mbps > 75.0, "{mbps:.1} Mbit/s of 100");
    assert_eq!(w.hosts[A].tcp.stats().retransmits, 0);
}

#[test]
fn some_loss_does_not_stop_a_transfer() {
    let net = Net {
        delay: Duration::from_millis(20),
        bits_per_second: Some(100_000_000),
        loss: 0.01,
        ..Net::default()
    };
    let mut w = World::new(1, net);
    let mbps = 4e6 * 8.0 / seconds(&mut w, 4_000_000) / 1e6;
    // Reno's law says about 3.5 Mbit/s here.
    assert!(mbps > 2.0, "{mbps:.2} Mbit/s");
    let stats = w.hosts[A].tcp.stats();
    // What was lost is sent again, and little else.
    assert!(stats.retransmitted_bytes < 4_000_000 / 50, "{stats:?}");
    assert!(stats.timeouts <= 6, "{stats:?}");
}

#[test]
fn the_sequence_space_wraps() {
    for timestamps in [Feature::On, Feature::Off] {
        let config = TcpConfig {
            timestamps,
            ..TcpConfig::default()
        };
        for loss in [0.0, 0.02] {
            let mut w = World::with(3, Net::default(), config.clone());
            let (from, to) = (w.addr(A, 1234), w.addr(B, 80));
            // The number moves by one every 4 us: begin when it is just below the wrap.
            let key = FourTuple::new(from, to);
            let isn = w.hosts[A].tcp.secret.isn(Instant::ZERO, &key);
            let ticks = u64::from((u32::MAX - 200_000).wrapping_sub(isn.0));
            w.now = Instant::from_nanos(ticks * 4_000);
            let l = w.listen(B, 80, 8);
            let (path, options) = (w.net.path, w.options(A));
            let a = w
                .on(A, |tcp, cx| {
                    tcp.connect(cx, from, to, path, options, Reuse::Exclusive)
                })
                .expect("free");
            assert_eq!(w.trace[0].2.seq, u32::MAX - 200_000);
            w.run_for(Duration::from_millis(100));
            let b = w.accept(B, l);
            w.net.loss = loss;
            let data = pattern(600_000, 2);
            assert_eq!(w.write(A, a, &data), Ok(data.len()));
            w.close(A, a);
            let mut got = Vec::new();
            while got.len() < data.len() {
                assert!(w.step());
                if let Ok(mut d) = w.read(B, b, 1 << 20) {
                    got.append(&mut d);
                }
            }
            assert_eq!(got, data);
            w.net.loss = 0.0;
            w.close(B, b);
            w.run_out();
            w.assert_empty();
        }
    }
}

#[test]
fn requests_and_replies_carry_each_others_acknowledgements() {
    let mut w = World::new(1, Net::default());
    let (a, b) = w.pair();
    w.trace.clear();
    for i in 0..100u8 {
        w.write(A, a, &[i]).expect("space");
        while w.read(B, b, 1) != Ok(vec![i]) {
            assert!(w.step());
        }
        w.write(B, b, &[i]).expect("space");
        while w.read(A, a, 1) != Ok(vec![i]) {
            assert!(w.step());
        }
    }
    assert_eq!(w.trace.len(), 200);
}

#[test]
fn many_connections_take_turns() {
    let mut w = World::new(1, Net::default());
    let l = w.listen(B, 80, 64);
    let clients: Vec<_> = (0..50).map(|_| w.connect(A, 80)).collect();
    w.run_for(Duration::from_millis(100));
    let servers: Vec<_> = (0..50).map(|_| w.accept(B, l)).collect();
    let data = pattern(14_480, 7);
    let before = w.trace.len();
    // All become ready within one entry, as they would from one timer or one busy socket thread.
    w.on(A, |tcp, cx| {
        for c in &clients {
            assert_eq!(tcp.send_copy(cx, *c, &data), Ok(data.len()));
        }
    });
    let mut seen = std::collections::BTreeSet::new();
    for t in &w.trace[before..before + 50] {
        assert!(seen.insert(t.2.src_port), "the same connection twice");
    }
    w.run_for(Duration::from_secs(2));
    for s in servers {
        let id = w.hosts[B].tcp.peer_addr(s);
        assert!(id.is_ok());
        assert_eq!(w.read(B, s, 1 << 20), Ok(data.clone()));
    }
}

#[test]
fn the_same_seed_gives_the_same_segments() {
    let run = |seed| {
        let net = Net {
            loss: 0.05,
            reorder: 0.1,
            ..Net::default()
        };
        let w = super::lossy::exchange(seed, net, TcpConfig::default(), [50_000, 20_000]);
        w.trace
    };
    assert_eq!(run(4), run(4));
    assert_ne!(run(4), run(5));
}

#[test]
fn an_idle_tcp_has_no_memory_and_a_connection_little() {
    let tcp = Tcp::new(&mut Rng::seeded(1));
    assert!(size_of_val(&tcp) < 1024);
    assert!(tcp.connections.ready_room() == 0 && tcp.replies.capacity() == 0);
    // Counters for `info` are a seventh of it.
    assert!(
        size_of::<Connection>() <= 1040,
        "{}",
        size_of::<Connection>()
    );
    assert!(size_of::<HalfOpen>() <= 352, "{}", size_of::<HalfOpen>());
    assert!(size_of::<TimeWait>() < 208, "{}", size_of::<TimeWait>());
}

/// Megabits per second that a writer carries who writes when it is told that there is room, over 1 Gbit/s and a round
/// trip of 20 ms, in the second half of two seconds.
fn carried_when_told(config: TcpConfig) -> (f64, [usize; 2]) {
    let net = Net {
        delay: Duration::from_millis(10),
        bits_per_second: Some(1_000_000_000),
        ..Net::default()
    };
    let mut w = World::with(1, net, config);
    let (a, b) = w.pair();
    let data = vec![7; 1 << 16];
    let (began, half) = (w.now, Duration::from_secs(1));
    let mut got = 0;
    while w.now - began < half * 2 {
        while w.hosts[A].tcp.readiness(a).expect("there").writable {
            w.write(A, a, &data).expect("writable");
        }
        while let Ok(d) = w.read(B, b, 1 << 20) {
            if w.now - began >= half {
                got += d.len();
            }
        }
        assert!(w.step());
    }
    let buffers = [(A, a), (B, b)].map(|(host, id)| {
        let info = w.info(host, id).expect("there");
        [info.send_buffer, info.recv_buffer][host]
    });
    (got as f64 * 8.0 / 1e6, buffers)
}

#[test]
fn buffers_grow_until_they_do_not_limit_and_no_further_than_they_may() {
    let config = TcpConfig {
        max_buffer: 6 << 20,
        ..TcpConfig::default()
    };
    let (mbps, buffers) = carried_when_told(config);
    assert!(mbps > 900.0, "{mbps:.0} Mbit/s");
    assert!(
        buffers.iter().all(|b| (2 << 20..=6 << 20).contains(b)),
        "{buffers:?}"
    );
}

// 1 MiB in 20 ms is 419 Mbit/s.
#[test]
fn a_buffer_of_a_fixed_size_is_used_whole() {
    let config = TcpConfig {
        send_buffer_auto: Feature::Off,
        recv_buffer: 4 << 20,
        ..TcpConfig::default()
    };
    let (mbps, buffers) = carried_when_told(config);
    assert_eq!(buffers[0], 1 << 20);
    assert!(mbps > 400.0, "{mbps:.0} Mbit/s");
}

// A window beyond 64 KiB leaves in pieces of what its rate sends in a millisecond, over the round trip; BBR's always does. What
// is acknowledged at once would otherwise leave at once.
#[test]
fn large_windows_are_spread_over_the_round_trip() {
    let far = Net {
        delay: Duration::from_millis(25),
        ..Net::default()
    };
    for (congestion, pacing, spread) in [
        (Congestion::Cubic, Feature::On, true),
        (Congestion::Reno, Feature::On, true),
        (Congestion::Cubic, Feature::Off, false),
        (Congestion::Bbr, Feature::Off, true),
    ] {
        let config = TcpConfig {
            congestion,
            pacing,
            ..TcpConfig::default()
        };
        let mut w = World::with(1, far, config);
        let (a, b) = w.pair();
        w.trace.clear();
        w.carry(a, b, 4 << 20);
        let mut bursts: Vec<(Instant, usize)> = Vec::new();
        for (at, _, _, len) in w.trace.iter().filter(|t| t.1 == A) {
            match bursts.last_mut() {
                Some(last) if last.0 == *at => last.1 += len,
                _ => bursts.push((*at, *len)),
            }
        }
        let most = bursts.iter().map(|b| b.1).max().expect("something left");
        let names = (congestion, pacing);
        match spread {
            true => assert!(most <= 65_535 + 1448, "{names:?}: {most}"),
            false => assert!(most > 4 * 65_535, "{names:?}: {most}"),
        }
    }
}

// Threads meet deadlines late. What a window lets leave in a round trip leaves all the same.
#[test]
fn a_spread_window_is_filled_though_deadlines_are_met_late() {
    let net = Net {
        delay: Duration::from_millis(25),
        tick: Duration::from_millis(4),
        ..Net::default()
    };
    let mut w = World::new(1, net);
    let (a, b) = w.pair();
    // Slow start ends.
    w.befall(Fate::Lost, |nth| nth == 600);
    let data = pattern(1 << 20, 1);
    let (begin, mut shares) = (w.now, Vec::new());
    while w.now.since(begin) < Duration::from_secs(3) {
        let _ = w.write(A, a, &data);
        let _ = w.read(B, b, 1 << 20);
        assert!(w.step());
        let i = w.info(A, a).expect("there");
        if w.now.since(begin) > Duration::from_secs(1) {
            assert!(i.cwnd > 65_535, "not spread");
            shares.push(f64::from(i.in_flight) / f64::from(i.cwnd));
        }
    }
    let mean = shares.iter().sum::<f64>() / shares.len() as f64;
    assert!(mean > 0.9, "{mean:.2} of the window");
}

// The window that the receiver offers grows ahead of one that doubles.
#[test]
fn a_receiver_does_not_hold_slow_start_up() {
    let net = Net {
        delay: Duration::from_millis(25),
        ..Net::default()
    };
    let config = TcpConfig {
        max_buffer: 64 << 20,
        ..TcpConfig::default()
    };
    let mut w = World::with(1, net, config);
    let (a, b) = w.pair();
    let data = pattern(1 << 20, 1);
    let sender = |w: &World| w.info(A, a).expect("there");
    // Its program reads now and then.
    let mut next = w.now;
    while sender(&w).cwnd < 10 << 20 {
        while w.write(A, a, &data).is_ok() {}
        if w.now >= next {
            next += Duration::from_millis(20);
            let _ = w.read(B, b, 16 << 20);
        }
        assert!(w.step());
    }
    assert_eq!(sender(&w).window_limited_time, Duration::ZERO);
}

// RFC 9438 4.6: seven tenths of the window remain, also where a late thread hears of a loss together with much that arrived.
#[test]
fn a_loss_shrinks_the_window_as_much_when_acknowledgements_come_in_bursts() {
    for tick in [0, 1, 4, 15] {
        let net = Net {
            delay: Duration::from_millis(25),
            tick: Duration::from_millis(tick),
            ..Net::default()
        };
        let mut w = World::new(1, net);
        let (a, b) = w.pair();
        w.befall(Fate::Lost, |nth| nth % 333 == 0);
        let data = pattern(1 << 20, 1);
        let begin = w.now;
        let (mut before, mut reductions) = (w.info(A, a).expect("there"), 0);
        while w.now.since(begin) < Duration::from_secs(5) {
            let _ = w.write(A, a, &data);
            let _ = w.read(B, b, 1 << 20);
            assert!(w.step());
            let now = w.info(A, a).expect("there");
            if now.ssthresh < before.ssthresh {
                let left = f64::from(now.ssthresh) / f64::from(before.cwnd);
                assert!((0.65..0.71).contains(&left), "{tick} ms: {left:.2}");
                reductions += 1;
            }
            before = now;
        }
        assert!(reductions > 3, "{tick} ms: {reductions}");
    }
}

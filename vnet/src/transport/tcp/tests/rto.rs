//! The retransmission timeout: what it is measured from, and when it is backed off (RFC 6298).

use super::*;

const MS: Duration = Duration::from_millis(1);

fn plain() -> TcpConfig {
    TcpConfig {
        timestamps: Feature::Off,
        ..TcpConfig::default()
    }
}

/// Writes at A while the wire loses everything, until the segment was sent so many times; then
/// the wire is whole again. Returns how long A waited each time.
fn lost_until(w: &mut World, a: ConnId, times: usize) -> Vec<Duration> {
    w.net.loss = 1.0;
    w.trace.clear();
    w.write(A, a, b"data").expect("space");
    while w.trace.len() < times {
        assert!(w.step());
    }
    w.net.loss = 0.0;
    w.trace.windows(2).map(|t| t[1].0 - t[0].0).collect()
}

// RFC 6298 5.5 to 5.7 and RFC 9293 3.8.1 (MUST-18): Karn's algorithm.
#[test]
fn the_backoff_outlives_the_acknowledgement_of_what_was_sent_twice() {
    let mut w = World::with(1, Net::default(), plain());
    let (a, _) = w.pair();
    // The round trip is 10 ms, and the variance counts for 200 ms at least.
    assert_eq!(lost_until(&mut w, a, 3), [MS * 210, MS * 420]);
    // The fourth try arrives. Which of the four was answered, nobody can say.
    w.run_for(MS * 840 + MS * 100);
    assert_eq!(w.info(A, a).map(|i| i.in_flight), Ok(0));
    assert_eq!(lost_until(&mut w, a, 2), [MS * 1680]);
    w.run_for(MS * 3360 + MS * 100);
    assert_eq!(w.info(A, a).map(|i| i.in_flight), Ok(0));
    // What was sent once, and is acknowledged, brings back the timeout that was measured: the
    // answer took 10 ms and waited 40 ms for company.
    w.write(A, a, b"data").expect("space");
    w.run_for(MS * 100);
    assert_eq!(lost_until(&mut w, a, 2), [MS * 215]);
}

// RFC 7323 4: a timestamp tells which of several copies was answered.
#[test]
fn an_echo_of_the_last_copy_ends_the_backoff() {
    let mut w = World::new(1, Net::default());
    let (a, _) = w.pair();
    assert_eq!(lost_until(&mut w, a, 3), [MS * 210, MS * 420]);
    w.run_for(MS * 840 + MS * 100);
    assert_eq!(lost_until(&mut w, a, 2), [MS * 215]);
}

/// A zero-window probe that is not answered says nothing of the path.
#[test]
fn probes_of_a_closed_window_back_off_by_themselves() {
    let config = TcpConfig {
        recv_buffer: 5_000,
        ..plain()
    };
    let mut w = World::with(1, Net::default(), config);
    let (a, b) = w.pair();
    w.write(A, a, &[7; 10_000]).expect("space");
    w.run_for(MS * 60_000);
    let probes = w.hosts[A].tcp.stats().window_probes;
    assert!(probes > 3, "{probes}");
    while w.info(A, a).is_ok_and(|i| i.unsent > 0) {
        w.run_for(MS * 500);
        let _ = w.read(B, b, 9_000);
    }
    w.run_for(MS * 500);
    assert_eq!(w.info(A, a).map(|i| i.in_flight), Ok(0));
    let gap = lost_until(&mut w, a, 2)[0];
    assert!(gap < MS * 300, "{gap:?}");
}

// RFC 8985 6.3
#[test]
fn what_was_written_just_before_a_timeout_is_not_sent_again() {
    let mut w = World::new(1, Net::default());
    let (a, b) = w.pair();
    w.on(A, |tcp, cx| tcp.set_options(cx, a, |o| o.nodelay = true))
        .expect("open");
    w.net.loss = 1.0;
    w.write(A, a, b"lost").expect("space");
    w.run_for(MS * 207);
    w.net.loss = 0.0;
    w.write(A, a, b"late").expect("space");
    w.run_for(MS * 100);
    assert_eq!(w.read(B, b, 100), Ok(b"lostlate".to_vec()));
    let stats = w.hosts[A].tcp.stats();
    assert_eq!(
        (stats.timeouts, stats.retransmits, stats.retransmitted_bytes),
        (1, 1, 4)
    );
    assert_eq!(w.hosts[B].tcp.stats().duplicates_in, 0);
}

/// Runs a transfer over a path that loses much, and holds each timeout against the path.
fn transfer(seed: u64, loss: f64, delay: Duration, config: TcpConfig) -> Duration {
    let net = Net {
        loss,
        delay,
        ..Net::default()
    };
    let min_rto = config.min_rto;
    let initial = [config.initial_rto, Duration::from_secs(3)];
    let mut w = World::with(seed, net, config);
    let began = w.now;
    let l = w.listen(B, 80, 8);
    let a = w.connect(A, 80);
    let mut b = None;
    let data = pattern(300_000, 3);
    let (mut sent, mut got) = (0, Vec::new());
    // Nothing takes longer than there and back, a delayed acknowledgement in between, and a
    // tick of the timestamps. An acknowledgement that was lost may be repeated by one that
    // follows within the same flight.
    let honest = (delay * 2 + MS * 41) * 2;
    let bound = honest + (honest * 4).max(min_rto);
    while got.len() < data.len() {
        if b.is_none() {
            b = w.on(B, |tcp, cx| tcp.accept(cx, l)).ok().map(|x| x.0);
        }
        if w.state(A, a) == Some(TcpState::Established) {
            sent += w.write(A, a, &data[sent..]).unwrap_or(0);
        }
        if let Some(mut d) = b.and_then(|b| w.read(B, b, 1 << 20).ok()) {
            got.append(&mut d);
        }
        assert!(w.step(), "seed {seed}: nothing can happen any more");
        for (host, id) in [(A, Some(a)), (B, b)] {
            let Some(c) = id.and_then(|id| w.hosts[host].tcp.connections.get(id)) else {
                continue;
            };
            let base = c.rtt.base();
            let ok = base <= bound || (c.rtt.srtt().is_none() && initial.contains(&base));
            assert!(ok, "seed {seed}: {base:?} at {loss}, {delay:?}; {bound:?}");
        }
    }
    assert!(got == data);
    w.now - began
}

#[test]
fn timeouts_keep_to_the_round_trip_of_the_path_whatever_is_lost() {
    for timestamps in [Feature::On, Feature::Off] {
        for loss in [0.05, 0.1, 0.2] {
            for delay in [Duration::ZERO, MS * 10, MS * 100] {
                for seed in 0..20 {
                    let config = TcpConfig {
                        timestamps,
                        ..TcpConfig::default()
                    };
                    transfer(seed, loss, delay, config);
                }
            }
        }
    }
}

//! Links do what they say, measured against what was asked for: exactly in time, within three
//! standard deviations in chance.

use std::collections::BTreeMap;

use proptest::prelude::*;
use vnet::Rng;
use vnet::link::{
    Codel, Discipline, FqCodel, Jitter, Link, LinkState, Loss, Order, QueueConfig, Red, Reorder,
    Verdict,
};
use vnet::net::{EchoSocket, TcpListener, TcpStream, UdpSocket};
use vnet::time::{Duration, Instant};
use vnet::{DropReason, LinkConfig, OwnedVnet, Packet, System};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn link(config: LinkConfig) -> Link {
    Link::new(config, Instant::ZERO, Rng::seeded(11)).expect("a valid link")
}

fn packet(len: usize) -> Packet {
    Packet::incoming(vec![0; len])
}

/// A pair of hosts with a link from `a` to `b`.
fn pair(system: &System, config: LinkConfig) -> (OwnedVnet, OwnedVnet) {
    let (a, b) = (
        system.create("a").expect("a free name"),
        system.create("b").expect("a free name"),
    );
    a.epair("eth0", &b, "eth0").expect("free names");
    a.add_address("eth0", "192.0.2.1/24".parse().expect("a prefix"))
        .expect("a host's address");
    b.add_address("eth0", "192.0.2.2/24".parse().expect("a prefix"))
        .expect("a host's address");
    a.set_link("eth0", config).expect("a valid link");
    (a, b)
}

/// Sends datagrams of `len` bytes of payload for `time`, one every `every`.
fn flood(from: &OwnedVnet, len: usize, every: Duration, time: Duration) -> vnet::JoinHandle<()> {
    let system = from.system();
    from.spawn(move || {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a free port");
        let end = system.now() + time;
        while system.now() < end {
            let _ = socket.send_to(&vec![7; len], "192.0.2.2:9");
            system.sleep(every).expect("virtual time passes");
        }
    })
    .expect("a thread")
}

#[test]
fn the_rate_is_within_a_thousandth() {
    for (rate, overhead_bytes) in [(1_000_000, 0), (10_000_000, 24), (333_333_333, 24)] {
        let system = System::virtual_time(1);
        let config = LinkConfig {
            rate_bps: Some(rate),
            overhead_bytes,
            queue: QueueConfig::frames(50),
            ..LinkConfig::default()
        };
        let (a, b) = pair(&system, config);
        // Twice as much as goes through: frames of 1042 bytes.
        let every = Duration::from_nanos(1042 * 8 * 1_000_000_000 / rate / 2);
        let flood = flood(&a, 1000, every, 3 * SECOND);
        let received = |at| {
            system.run_until(Instant::ZERO + at).expect("virtual time");
            b.interfaces().expect("alive")[1].counters
        };
        let (before, after) = (received(SECOND), received(3 * SECOND));
        let frames = after.rx_frames - before.rx_frames;
        let bytes = after.rx_bytes - before.rx_bytes + frames * overhead_bytes as u64;
        let measured = bytes as f64 * 8.0 / 2.0;
        let error = (measured / rate as f64 - 1.0).abs();
        // A frame more or less at either end of the interval.
        let frame = 1066.0 * 8.0 / 2.0 / rate as f64;
        assert!(error <= 0.001_f64.max(frame), "{measured} of {rate} bit/s");
        let stats = a.link_stats("eth0").expect("an interface");
        let busy = stats.utilisation(system.now());
        assert!(busy > 0.99 && busy <= 1.0, "{busy}");
        assert!(stats.queue_full > 0 && stats.queue_high_water == 50);
        flood.join().expect("no panic");
    }
}

#[test]
fn the_delay_is_exact_to_the_nanosecond() {
    let system = System::virtual_time(1);
    let delay = Duration::from_nanos(20_000_001);
    let (a, b) = pair(
        &system,
        LinkConfig {
            delay,
            ..LinkConfig::default()
        },
    );
    let to = UdpSocket::bind_in(&b, "192.0.2.2:9").expect("a free port");
    let from = UdpSocket::bind_in(&a, "0.0.0.0:0").expect("a free port");
    // The address is known: it was announced when it was given.
    for _ in 0..3 {
        let sent = system.now();
        from.send_to(b"x", "192.0.2.2:9").expect("there is a route");
        to.recv_from(&mut [0; 8]).expect("a datagram");
        assert_eq!(system.now() - sent, delay);
    }
}

/// Which of a million frames a model loses.
fn losses(loss: Loss) -> Vec<bool> {
    let mut link = link(LinkConfig {
        loss,
        ..LinkConfig::default()
    });
    let mut packet = packet(100);
    (0..1_000_000)
        .map(|n| match link.offer(Instant::from_nanos(n), &mut packet) {
            Verdict::Drop(DropReason::LinkLoss) => true,
            Verdict::DeliverAt(_) => false,
            other => panic!("{other:?}"),
        })
        .collect()
}

fn lost(pattern: &[bool]) -> f64 {
    pattern.iter().filter(|lost| **lost).count() as f64
}

#[test]
fn independent_loss_is_within_three_sigma() {
    for p in [0.0_f64, 0.001, 0.02, 0.5, 1.0] {
        let expected = 1e6 * p;
        let sigma = (expected * (1.0 - p)).sqrt();
        let found = lost(&losses(p.into()));
        assert!((found - expected).abs() <= 3.0 * sigma, "{found} at {p}");
    }
}

#[test]
fn periodic_loss_and_traces_are_exact() {
    let every = losses(Loss::Every(7));
    assert!(
        every
            .iter()
            .enumerate()
            .all(|(n, lost)| *lost == (n % 7 == 6))
    );
    let pattern = [true, false, false, true, false];
    let traced = losses(Loss::Trace(pattern.into()));
    assert!(
        traced
            .iter()
            .enumerate()
            .all(|(n, lost)| *lost == pattern[n % 5])
    );
}

#[test]
fn bursts_of_loss_have_the_lengths_of_gilbert_and_elliott() {
    let (p, r) = (0.01_f64, 0.25_f64);
    let pattern = losses(Loss::GilbertElliott {
        p,
        r,
        h: 0.0,
        k: 1.0,
    });
    // How often the bad state is: p / (p + r). Frames are correlated, so the variance is larger
    // than that of independent ones, by (2 - p - r) / (p + r).
    let bad = p / (p + r);
    let sigma = (1e6 * bad * (1.0 - bad) * (2.0 - p - r) / (p + r)).sqrt();
    assert!((lost(&pattern) - 1e6 * bad).abs() <= 3.0 * sigma);

    let mut bursts: BTreeMap<usize, f64> = BTreeMap::new();
    let mut length = 0;
    for lost in pattern {
        match lost {
            true => length += 1,
            false if length > 0 => {
                *bursts.entry(length).or_default() += 1.0;
                length = 0;
            }
            false => {}
        }
    }
    let total: f64 = bursts.values().sum();
    // Lengths follow a geometric distribution; those above 15 are taken together.
    let expected = |n: usize| total * r * (1.0_f64 - r).powi(n as i32 - 1);
    let mut chi_square = 0.0;
    for n in 1..=15 {
        let found = bursts.get(&n).copied().unwrap_or(0.0);
        chi_square += (found - expected(n)).powi(2) / expected(n);
    }
    let tail: f64 = bursts.range(16..).map(|(_, n)| n).sum();
    let expected_tail = total * (1.0_f64 - r).powi(15);
    chi_square += (tail - expected_tail).powi(2) / expected_tail;
    // 15 degrees of freedom: exceeded once in a thousand times.
    assert!(chi_square < 37.7, "{chi_square} of {total} bursts");
}

#[test]
fn all_four_parameters_of_gilbert_and_elliott_count() {
    let (p, r, h, k) = (0.05_f64, 0.1_f64, 0.02_f64, 0.6_f64);
    let found = lost(&losses(Loss::GilbertElliott { p, r, h, k }));
    let bad = p / (p + r);
    let expected = 1e6 * (bad * k + (1.0 - bad) * h);
    let spread = (k - h).powi(2) * bad * (1.0 - bad) * (2.0 - p - r) / (p + r);
    let sigma = (1e6 * (spread + bad * k * (1.0 - k) + (1.0 - bad) * h * (1.0 - h))).sqrt();
    assert!(
        (found - expected).abs() <= 3.0 * sigma,
        "{found}, not {expected}"
    );
}

/// What is added to a delay of 50 ms, in nanoseconds.
fn jitters(jitter: Jitter) -> Vec<f64> {
    let delay = 50 * MS;
    let mut link = link(LinkConfig {
        delay,
        jitter,
        ..LinkConfig::default()
    });
    let mut packet = packet(100);
    (0..200_000u64)
        .map(|n| {
            let now = Instant::from_nanos(n * 1_000_000_000);
            let Verdict::DeliverAt(at) = link.offer(now, &mut packet) else {
                panic!("nothing is lost");
            };
            (at - now).as_nanos() as f64 - delay.as_nanos() as f64
        })
        .collect()
}

/// The largest distance of a sample's distribution from `cdf` (Kolmogorov and Smirnov) is below
/// what chance exceeds once in a thousand times.
fn follows(mut sample: Vec<f64>, cdf: impl Fn(f64) -> f64) {
    sample.sort_by(f64::total_cmp);
    let n = sample.len() as f64;
    let distance = sample
        .iter()
        .enumerate()
        .map(|(i, x)| {
            let (below, above) = (i as f64 / n, (i + 1) as f64 / n);
            (cdf(*x) - below).abs().max((cdf(*x) - above).abs())
        })
        .fold(0.0, f64::max);
    assert!(distance < 1.95 / n.sqrt(), "{distance}");
}

#[test]
fn jitter_follows_its_distribution() {
    let order = Order::Free;
    let amplitude = 5 * MS;
    let a = amplitude.as_nanos() as f64;
    follows(jitters(Jitter::Uniform { amplitude, order }), |x| {
        (x + a) / (2.0 * a)
    });

    let (scale, shape) = (2 * MS, 3.0);
    let s = scale.as_nanos() as f64;
    let pareto = jitters(Jitter::Pareto {
        scale,
        shape,
        order,
    });
    follows(pareto, |x| 1.0 - (1.0 + x / s).powf(-shape));

    // Ten standard deviations fit into the delay: it is not cut off at zero.
    let deviation = 5 * MS;
    let normal = jitters(Jitter::Normal { deviation, order });
    let d = deviation.as_nanos() as f64;
    let n = normal.len() as f64;
    let mean = normal.iter().sum::<f64>() / n;
    assert!(mean.abs() <= 3.0 * d / n.sqrt(), "{mean}");
    for (within, part) in [(1.0, 0.682_689_5), (2.0, 0.954_499_7), (3.0, 0.997_300_2)] {
        let found = normal.iter().filter(|x| x.abs() <= within * d).count() as f64;
        let sigma = (n * part * (1.0 - part)).sqrt();
        assert!(
            (found - n * part).abs() <= 3.0 * sigma,
            "{found} within {within}"
        );
    }

    let delays = [Duration::ZERO, 7 * MS, 3 * MS];
    let traced = jitters(Jitter::Trace {
        delays: delays.into(),
        order,
    });
    let expected = |n: usize| delays[n % 3].as_nanos() as f64;
    assert!(traced.iter().enumerate().all(|(n, x)| *x == expected(n)));
}

#[test]
fn jitter_overtakes_only_where_that_is_allowed() {
    for (order, overtakes) in [(Order::Kept, false), (Order::Free, true)] {
        let amplitude = 5 * MS;
        let mut link = link(LinkConfig {
            delay: 10 * MS,
            jitter: Jitter::Uniform { amplitude, order },
            ..LinkConfig::default()
        });
        let mut packet = packet(100);
        let arrivals: Vec<Instant> = (0..1000)
            .map(
                |n| match link.offer(Instant::from_nanos(n * 100_000), &mut packet) {
                    Verdict::DeliverAt(at) => at,
                    other => panic!("{other:?}"),
                },
            )
            .collect();
        assert_eq!(!arrivals.is_sorted(), overtakes);
    }
}

#[test]
fn duplicates_and_overtakers_are_as_many_as_asked() {
    let reorder = Reorder {
        probability: 0.3,
        gap: 5,
    };
    let mut link = link(LinkConfig {
        delay: 10 * MS,
        duplicate: 0.05,
        reorder,
        ..LinkConfig::default()
    });
    let mut packet = packet(100);
    let (mut twice, mut early) = (0.0, 0.0);
    for n in 0..100_000 {
        let now = Instant::from_nanos(n * 1000);
        let at = match link.offer(now, &mut packet) {
            Verdict::DeliverAt(at) => vec![at],
            Verdict::Twice(first, second) => {
                twice += 1.0;
                vec![first, second]
            }
            other => panic!("{other:?}"),
        };
        early += at.iter().filter(|at| **at == now).count() as f64;
    }
    assert!(
        (twice - 5_000.0f64).abs() <= 3.0 * (5_000.0f64 * 0.95).sqrt(),
        "{twice}"
    );
    // Every fifth of 105 000 is a candidate.
    let expected = (100_000.0 + twice) / 5.0 * 0.3;
    assert!(
        (early - expected).abs() <= 3.0 * (expected * 0.7).sqrt() + 1.0,
        "{early}"
    );
    let stats = link.stats(Instant::MAX);
    assert_eq!(stats.duplicated as f64, twice);
    assert_eq!(stats.reordered as f64, early);
    assert_eq!(stats.delivered, 100_000 + stats.duplicated);
}

#[test]
fn one_bit_in_so_many_is_flipped() {
    for bits in [1u64, 100, 10_000, 1_000_000] {
        let mut link = link(LinkConfig {
            corrupt_undetected: Some(bits),
            ..LinkConfig::default()
        });
        let (mut flipped, mut sent) = (0.0, 0.0);
        for len in (60..1514).cycle().take(20_000) {
            sent += 8.0 * len as f64;
            if link.corrupts(len) {
                let bytes = link.corrupted(&packet(len)).to_vec();
                assert_eq!(bytes.len(), len);
                let ones = bytes.iter().map(|b| b.count_ones()).sum::<u32>();
                assert!(ones > 0, "a frame that is hit is changed");
                flipped += f64::from(ones);
            }
        }
        let expected = sent / bits as f64;
        let sigma = (expected * (1.0 - 1.0 / bits as f64)).sqrt();
        assert!(
            (flipped - expected).abs() <= 3.0 * sigma,
            "{flipped} at 1 in {bits}"
        );
    }
}

#[test]
fn what_the_frame_check_shows_does_not_arrive_and_is_counted() {
    for (corrupt, duplicate) in [(1, 0.0), (20_000, 0.0), (20_000, 0.5)] {
        let system = System::virtual_time(3);
        let (a, b) = pair(&system, LinkConfig::default());
        let socket = UdpSocket::bind_in(&a, "192.0.2.1:0").expect("a free port");
        let sink = UdpSocket::bind_in(&b, "192.0.2.2:9").expect("a free port");
        // The neighbour is found first: of what is sent then, each frame is one datagram.
        socket.send_to(b"?", "192.0.2.2:9").expect("room");
        sink.recv_from(&mut [0; 1]).expect("it arrives");
        sink.set_nonblocking(true).expect("alive");
        let config = LinkConfig {
            corrupt: Some(corrupt),
            duplicate,
            ..LinkConfig::default()
        };
        a.set_link("eth0", config).expect("a valid link");
        let before = a.link_stats("eth0").expect("an interface");
        let mut intact = 0;
        for _ in 0..1000 {
            socket.send_to(&[0x55; 1000], "192.0.2.2:9").expect("room");
            system.run_for(MS).expect("it goes on");
            let mut bytes = [0; 1500];
            while let Ok((len, _)) = sink.recv_from(&mut bytes) {
                assert_eq!(
                    bytes[..len],
                    [0x55; 1000],
                    "nothing arrives with flipped bits"
                );
                intact += 1;
            }
        }
        let stats = a.link_stats("eth0").expect("an interface");
        let offered = stats.offered - before.offered + stats.duplicated - before.duplicated;
        assert_eq!(
            offered,
            stats.delivered - before.delivered + stats.corrupted - before.corrupted
        );
        assert_eq!(intact, stats.delivered - before.delivered);
        let (counted, theirs) = (a.stats().expect("alive"), b.stats().expect("alive"));
        assert_eq!(counted.tx_drops(DropReason::LinkCorrupt), stats.corrupted);
        assert_eq!(theirs.rx_drops(DropReason::BadChecksum), 0);
        assert_eq!(stats.corrupted_undetected, 0);
        match corrupt {
            1 => assert_eq!(intact, 0),
            // 1042 bytes: a third of them is hit, give or take.
            _ => assert!(stats.corrupted > 100 && intact > 100, "{stats}"),
        }
    }
}

#[test]
fn corrupted_frames_are_found_out_and_tcp_repairs_them() {
    let system = System::virtual_time(3);
    let config = LinkConfig {
        delay: MS,
        // About one frame in eight.
        corrupt_undetected: Some(100_000),
        ..LinkConfig::default()
    };
    let (a, b) = pair(&system, config);
    let listener = TcpListener::bind_in(&b, "192.0.2.2:80").expect("a free port");
    let data: Vec<u8> = (0..300_000u32).map(|n| (n * 7 % 251) as u8).collect();
    let sent = data.clone();
    let sender = a
        .spawn(move || {
            use std::io::Write;
            TcpStream::connect("192.0.2.2:80")?.write_all(&sent)
        })
        .expect("a thread");
    let mut received = Vec::new();
    let (mut stream, _) = listener.accept().expect("a connection");
    std::io::Read::read_to_end(&mut stream, &mut received).expect("the data");
    sender.join().expect("no panic").expect("sent");
    assert!(received == data, "what arrives is what was sent");
    let stats = a.link_stats("eth0").expect("an interface");
    assert!(stats.corrupted_undetected > 10, "{stats}");
    assert_eq!(stats.corrupted, 0);
    let counted = b.stats().expect("alive");
    let refused = [
        DropReason::BadChecksum,
        DropReason::Malformed,
        DropReason::NotForUs,
    ];
    let refused: u64 = refused.iter().map(|r| counted.rx_drops(*r)).sum();
    assert!(refused > 10, "{counted:?}");
}

/// The longest round trip of pings through a link that is flooded, and how many were lost.
fn rtt_under_load(discipline: Discipline) -> (Duration, usize) {
    let system = System::virtual_time(5);
    let config = LinkConfig {
        rate_bps: Some(10_000_000),
        delay: 5 * MS,
        queue: QueueConfig {
            discipline,
            ..QueueConfig::default()
        },
        ..LinkConfig::default()
    };
    let (a, b) = pair(&system, config);
    let flood = flood(&a, 1400, Duration::from_micros(900), 45 * SECOND);
    system.sleep(SECOND).expect("virtual time");
    let ping = EchoSocket::bind_in(&a).expect("room for a socket");
    ping.set_read_timeout(Some(2 * SECOND)).expect("not zero");
    let (mut longest, mut lost) = (Duration::ZERO, 0);
    for n in 0..20 {
        let sent = system.now();
        ping.send_to(n, b"hello", "192.0.2.2".parse().expect("an address"))
            .expect("there is a route");
        match ping.recv() {
            Ok(_) => longest = longest.max(system.now() - sent),
            Err(_) => lost += 1,
        }
        system.sleep(100 * MS).expect("virtual time");
    }
    flood.join().expect("no panic");
    let stats = a.link_stats("eth0").expect("an interface");
    assert!(stats.queue_full + stats.aqm > 0, "{stats}");
    assert!(stats.sojourn.p50 <= stats.sojourn.p99 && stats.sojourn.p99 <= stats.sojourn.max);
    // What waits goes with the vnet, in no time.
    let report = a.destroy();
    assert!(report.leaked.is_zero(), "{report}");
    drop(b);
    (longest, lost)
}

#[test]
fn flow_queues_keep_a_ping_short_where_one_queue_does_not() {
    let (bloated, _) = rtt_under_load(Discipline::DropTail);
    let (fair, lost) = rtt_under_load(Discipline::FqCodel(FqCodel::default()));
    // A thousand frames of 1442 bytes take 1.15 s at 10 Mbit/s.
    assert!(bloated > SECOND, "{bloated:?}");
    // Its delay, and a round of the other flow.
    assert!(fair < 5 * MS + 4 * MS && lost == 0, "{fair:?}, {lost} lost");
    let (controlled, _) = rtt_under_load(Discipline::Codel(Codel::default()));
    assert!(controlled < bloated, "{controlled:?}");
}

#[test]
fn frames_that_wait_are_counted_and_released() {
    let system = System::virtual_time(1);
    let config = LinkConfig {
        rate_bps: Some(8_000),
        queue: QueueConfig {
            discipline: Discipline::FqCodel(FqCodel::default()),
            ..QueueConfig::default()
        },
        ..LinkConfig::default()
    };
    let (a, b) = pair(&system, config.clone());
    let to = UdpSocket::bind_in(&b, "192.0.2.2:9").expect("a free port");
    let socket = UdpSocket::bind_in(&a, "0.0.0.0:0").expect("a free port");
    socket
        .send_to(b"x", "192.0.2.2:9")
        .expect("there is a route");
    system.run_for(SECOND).expect("virtual time");
    for _ in 0..20 {
        socket
            .send_to(&[0; 1000], "192.0.2.2:9")
            .expect("there is a route");
    }
    let stats = a.link_stats("eth0").expect("an interface");
    assert_eq!(stats.queued, 19, "one is being clocked out: {stats}");
    // Another discipline takes over what waits.
    let plain = LinkConfig {
        queue: QueueConfig::default(),
        ..config
    };
    a.set_link("eth0", plain.clone()).expect("a valid link");
    let stats = a.link_stats("eth0").expect("an interface");
    assert_eq!((stats.queued, stats.delivered), (19, 22), "{stats}");
    system.run_for(30 * SECOND).expect("virtual time");
    to.set_nonblocking(true).expect("alive");
    let arrived = std::iter::from_fn(|| to.recv_from(&mut [0; 1000]).ok()).count();
    assert_eq!(arrived, 21);

    let fair = LinkConfig {
        queue: QueueConfig {
            discipline: Discipline::StrictPriority,
            ..QueueConfig::default()
        },
        ..plain
    };
    a.set_link("eth0", fair).expect("a valid link");
    for _ in 0..5 {
        socket
            .send_to(&[0; 1000], "192.0.2.2:9")
            .expect("there is a route");
    }
    let report = a.destroy();
    assert!(report.leaked.is_zero(), "{report}");
    assert!(report.released.packets() >= 4, "{report}");
}

#[test]
fn a_link_that_is_down_loses_everything_and_comes_back() {
    let system = System::virtual_time(1);
    let (a, b) = pair(&system, LinkConfig::default());
    let to = UdpSocket::bind_in(&b, "192.0.2.2:9").expect("a free port");
    let from = UdpSocket::bind_in(&a, "0.0.0.0:0").expect("a free port");
    let set = |state| {
        let config = LinkConfig {
            state,
            ..LinkConfig::default()
        };
        a.set_link("eth0", config).expect("a valid link");
    };
    set(LinkState::Down);
    from.send_to(b"lost", "192.0.2.2:9")
        .expect("there is a route");
    to.set_read_timeout(Some(SECOND / 2)).expect("not zero");
    assert!(to.recv_from(&mut [0; 8]).is_err());
    assert!(a.link_stats("eth0").expect("an interface").down > 0);
    set(LinkState::Up);
    system.sleep(2 * SECOND).expect("virtual time");
    from.send_to(b"there", "192.0.2.2:9")
        .expect("there is a route");
    assert!(to.recv_from(&mut [0; 8]).is_ok());
}

#[test]
fn a_stage_that_is_switched_on_leaves_the_draws_of_the_others() {
    let pattern = |more: LinkConfig| {
        let mut link = link(LinkConfig {
            loss: 0.3.into(),
            ..more
        });
        (0..2_000u64)
            .map(|n| {
                let verdict = link.offer(Instant::from_nanos(n), &mut packet(100));
                matches!(verdict, Verdict::Drop(_))
            })
            .collect::<Vec<bool>>()
    };
    let alone = pattern(LinkConfig::default());
    let order = Order::Free;
    let others = pattern(LinkConfig {
        delay: 20 * MS,
        jitter: Jitter::Normal {
            deviation: MS,
            order,
        },
        duplicate: 0.5,
        reorder: Reorder {
            probability: 0.5,
            gap: 1,
        },
        corrupt: Some(1000),
        corrupt_undetected: Some(1000),
        ..LinkConfig::default()
    });
    assert_eq!(alone, others);
}

fn configs() -> impl Strategy<Value = LinkConfig> {
    let disciplines = prop_oneof![
        Just(Discipline::DropTail),
        Just(Discipline::Red(Red::default())),
        Just(Discipline::Codel(Codel::default())),
        Just(Discipline::FqCodel(FqCodel::default())),
        Just(Discipline::Drr {
            weights: [1, 3].into(),
            quantum: 700
        }),
        Just(Discipline::StrictPriority),
        Just(Discipline::TokenBucket {
            rate_bps: 1_000_000,
            burst_bytes: 3000
        }),
    ];
    (
        (disciplines, 1usize..30, prop::option::of(1000usize..30_000)),
        prop::option::of(100_000u64..10_000_000),
        0.0f64..0.3,
        0.0f64..0.3,
        prop::bool::weighted(0.1),
    )
        .prop_map(|(queue, rate_bps, loss, duplicate, down)| LinkConfig {
            state: if down { LinkState::Down } else { LinkState::Up },
            rate_bps,
            loss: loss.into(),
            duplicate,
            queue: QueueConfig {
                discipline: queue.0,
                limit_frames: queue.1,
                limit_bytes: queue.2,
            },
            ..LinkConfig::default()
        })
}

proptest! {
    /// Whatever is offered, changed and waited for: each frame is somewhere.
    #[test]
    fn every_frame_is_accounted_for(
        first in configs(),
        acts in prop::collection::vec(
            prop_oneof![
                8 => (60usize..1515).prop_map(Ok),
                1 => configs().prop_map(Err),
            ],
            1..200,
        ),
        gaps in prop::collection::vec(0u64..5_000_000, 200),
    ) {
        let mut link = link(first);
        let mut now = Instant::ZERO;
        let (mut arrived, mut dropped) = (0u64, 0u64);
        let mut count = |verdict| match verdict {
            Verdict::DeliverAt(_) => arrived += 1,
            Verdict::Twice(..) => arrived += 2,
            Verdict::Drop(_) => dropped += 1,
        };
        for (act, gap) in acts.iter().zip(gaps) {
            now += Duration::from_nanos(gap);
            while let Some(released) = link.release(now) {
                count(released.verdict);
            }
            match act {
                Err(config) => link.set_config(now, config.clone()).expect("a valid link"),
                Ok(len) if link.holds() => link.hold(now, packet(*len)),
                Ok(len) => count(link.offer(now, &mut packet(*len))),
            }
            while let Some(released) = link.release(now) {
                count(released.verdict);
            }
            prop_assert!(link.next_deadline().is_none_or(|at| at > now));
        }
        let held = link.held_frames() as u64;
        let stats = link.stats(now);
        prop_assert_eq!(stats.delivered, arrived);
        prop_assert_eq!(stats.dropped(), dropped);
        prop_assert_eq!(stats.offered + stats.duplicated, stats.delivered + stats.dropped() + held);
        prop_assert_eq!(link.tear_down().len() as u64, held);
        prop_assert_eq!(link.held_frames(), 0);
    }
}

#[test]
fn statistics_are_written_with_times_in_nanoseconds() {
    let system = System::virtual_time(1);
    let config = LinkConfig {
        rate_bps: Some(1_000_000),
        ..LinkConfig::default()
    };
    let (a, _b) = pair(&system, config);
    system.run_for(SECOND).expect("it goes on");
    flood(&a, 500, 10 * MS, SECOND).join().expect("no panic");
    let stats = a.link_stats("eth0").expect("an interface");
    assert!(stats.busy > Duration::ZERO && stats.sojourn.max > Duration::ZERO);
    let written = toml::to_string(&stats).expect("TOML");
    let busy = format!("busy = {}\n", stats.busy.as_nanos());
    let max = format!("max = {}\n", stats.sojourn.max.as_nanos());
    assert!(
        written.contains(&busy) && written.contains(&max),
        "{written}"
    );
    let read: vnet::LinkStats = toml::from_str(&written).expect("what was written");
    assert_eq!(read, stats);
    // What was written before times were numbers.
    let old =
        "offered = 3\nbusy = { secs = 1, nanos = 5 }\n[sojourn]\np50 = { secs = 0, nanos = 7 }\n";
    let read: vnet::LinkStats = toml::from_str(old).expect("the older form");
    assert_eq!(read.busy, Duration::new(1, 5));
    assert_eq!(read.sojourn.p50, Duration::from_nanos(7));
}

//! What links do by chance is what was asked for, within three standard deviations, and frames that a
//! queue marks or drops are those that its rule says.

use crate::packet::cx::Carrier;
use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::base::rng::Rng;
use crate::base::time::Duration;

const MS: Duration = Duration::from_millis(1);

fn link(config: LinkConfig) -> Link {
    Link::new(config, Instant::ZERO, Rng::seeded(11)).expect("a valid link")
}

fn packet(len: usize) -> Packet {
    Packet::incoming(vec![0; len])
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
            if let Some(corrupted) = link.corrupts(&packet(len)) {
                let bytes = corrupted.to_vec();
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
            state: if down { Carrier::Down } else { Carrier::Up },
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
fn red_drops_before_the_queue_is_full_and_marks_who_takes_part() {
    // The average is held at 20 000 bytes: halfway up to 10 %.
    let red = |ecn| LinkConfig {
        rate_bps: Some(1_000),
        queue: QueueConfig {
            discipline: Discipline::Red(Red {
                min_bytes: 10_000,
                max_bytes: 30_000,
                max_probability: 0.1,
                weight_shift: 0,
                ecn,
            }),
            limit_frames: 1_000_000,
            limit_bytes: None,
        },
        ..LinkConfig::default()
    };
    let mut plain = link(red(Ecn::Off));
    let mut grown = 0;
    // A queue of nearly nothing but what has just come: it grows to the corner, and from there on
    // each frame that is dropped leaves it as long as it was.
    while plain.queued(Instant::ZERO).1 < 20_000 {
        plain.offer(Instant::ZERO, &mut packet(20));
        grown += 1;
    }
    let before = plain.stats(Instant::ZERO);
    assert!(
        before.aqm > 0,
        "between 10 000 and 20 000 bytes some are dropped, of {grown}"
    );
    let mut others = link(red(Ecn::Mark));
    for _ in 0..2_000 {
        others.offer(Instant::ZERO, &mut packet(20));
    }
    let stats = others.stats(Instant::ZERO);
    assert!(
        stats.aqm > 0 && stats.marked == 0,
        "none of these takes part in ECN"
    );

    // Who takes part is marked, and nothing else of the frame changes but its header's checksum.
    let mut marking = link(red(Ecn::Mark));
    let mut marked = 0;
    for _ in 0..500 {
        let sent = ect0_frame();
        let mut frame = Packet::incoming(sent.clone());
        let verdict = marking.offer(Instant::ZERO, &mut frame);
        assert!(matches!(verdict, Verdict::DeliverAt(_)), "{verdict:?}");
        let mut arrives = frame.to_vec();
        assert_eq!(ones_complement(&arrives[14..34]), 0xffff);
        if arrives[15] & 3 == 3 {
            marked += 1;
            arrives[15] = sent[15];
            arrives[24..26].copy_from_slice(&sent[24..26]);
        }
        assert_eq!(arrives, sent);
    }
    let stats = marking.stats(Instant::ZERO);
    assert!(marked > 0, "{stats}");
    assert_eq!((stats.marked, stats.aqm), (marked, 0), "{stats}");
}

/// How many of the frames that find `bytes` in the queue are dropped.
fn red_drops_at(bytes: usize) -> f64 {
    let red = Red {
        min_bytes: 10_000,
        max_bytes: 30_000,
        max_probability: 0.1,
        weight_shift: 0,
        ecn: Ecn::Off,
    };
    let config = |discipline| LinkConfig {
        // A frame is out after a year.
        rate_bps: Some(1),
        queue: QueueConfig {
            discipline,
            limit_frames: 1_000_000,
            limit_bytes: None,
        },
        ..LinkConfig::default()
    };
    let frames = 20_000;
    let mut link = link(config(Discipline::DropTail));
    link.offer(Instant::ZERO, &mut packet(bytes));
    link.set_config(Instant::ZERO, config(Discipline::Red(red)))
        .expect("a valid link");
    for _ in 0..frames {
        // Of no length, so that the queue stays as long as it is.
        link.offer(Instant::ZERO, &mut packet(0));
    }
    link.stats(Instant::ZERO).aqm as f64 / f64::from(frames)
}

/// The paper spreads drops evenly: with a probability `p` on the curve, gaps between drops are uniform
/// from 1 to 1/`p`, so the part that is dropped is 2 / (1/p + 1).
#[test]
fn red_drops_by_the_average_length_of_the_queue() {
    assert_eq!(red_drops_at(9_999), 0.0);
    for (bytes, p) in [(14_000, 0.02_f64), (20_000, 0.05), (26_000, 0.08)] {
        let longest = (1.0 / p).round();
        let expected = 2.0 / (longest + 1.0);
        // The variance of a gap, and so of the number of drops (a renewal process).
        let (mean, variance) = (1.0 / expected, (longest * longest - 1.0) / 12.0);
        let sigma = (variance / (20_000.0 * mean.powi(3))).sqrt();
        let found = red_drops_at(bytes);
        // Where 1/p is no whole number, or is not told exactly, the last gap is one off at most.
        let slack = expected * p / 2.0;
        assert!(
            (found - expected).abs() <= 3.0 * sigma + slack,
            "{found} at {bytes} bytes, not {expected}"
        );
    }
    // Gentle: no cliff at the upper threshold, and a certain drop at twice that.
    let gentle = red_drops_at(45_000);
    // With a probability of 0.55 a gap is 1, otherwise 2.
    assert!((gentle - 1.0 / 1.45).abs() < 0.01, "{gentle}");
    assert_eq!(red_drops_at(60_000), 1.0);
}

/// A UDP datagram whose sender takes part in ECN.
fn ect0_frame() -> Vec<u8> {
    let mut frame = vec![0; 60];
    frame[12] = 8;
    frame[14] = 0x45;
    frame[15] = 46 << 2 | 0b10;
    frame[17] = 46;
    frame[22] = 64;
    frame[23] = 17;
    frame[26..34].copy_from_slice(&[192, 0, 2, 1, 192, 0, 2, 2]);
    let sum = !ones_complement(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// The one's complement sum of a header (RFC 1071): all ones when its checksum is right.
fn ones_complement(header: &[u8]) -> u16 {
    let words = header.chunks(2);
    let sum: u32 = words
        .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])))
        .sum();
    let once = (sum & 0xffff) + (sum >> 16);
    ((once & 0xffff) + (once >> 16)) as u16
}

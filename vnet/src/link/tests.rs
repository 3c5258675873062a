//! Links as they can be measured from outside.

use super::*;
use crate::base::rng::Rng;
use crate::base::time::Duration;
use proptest::prelude::*;

fn link(config: LinkConfig) -> Link {
    Link::new(config, Instant::ZERO, Rng::seeded(42)).expect("a valid link")
}

fn nanos(n: u64) -> Instant {
    Instant::from_nanos(n)
}

fn offer(l: &mut Link, now: u64, len: usize) -> Verdict {
    l.offer(nanos(now), &mut Packet::incoming(vec![0; len]))
}

fn at(verdict: Verdict) -> u64 {
    match verdict {
        Verdict::DeliverAt(at) => at.as_nanos(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn without_impairments_a_frame_arrives_at_once() {
    let mut l = link(LinkConfig::default());
    assert!(l.config().is_transparent());
    for now in [0, 0, 5, 1_000_000] {
        assert_eq!(at(offer(&mut l, now, 1514)), now);
    }
    assert_eq!(l.stats(Instant::MAX).queue_high_water, 0);
}

#[test]
fn delay_is_exact_and_follows_the_last_bit() {
    let mut l = link(LinkConfig {
        delay: Duration::from_nanos(20_000_001),
        ..LinkConfig::default()
    });
    assert_eq!(at(offer(&mut l, 7, 9000)), 20_000_008);
    let mut l = link(LinkConfig {
        rate_bps: Some(10_000_000),
        delay: Duration::from_millis(3),
        overhead_bytes: 24,
        ..LinkConfig::default()
    });
    // (1226 + 24) bytes at 10 Mbit/s are exactly 1 ms.
    assert_eq!(at(offer(&mut l, 0, 1226)), 4_000_000);
    assert_eq!(at(offer(&mut l, 0, 1226)), 5_000_000);
    assert_eq!(at(offer(&mut l, 10_000_000, 1226)), 14_000_000);
}

#[test]
fn a_saturated_link_carries_its_rate() {
    for bps in [64_000, 3_333_333, 100_000_000, 10_000_000_000] {
        let mut l = link(LinkConfig {
            rate_bps: Some(bps),
            queue: QueueConfig::frames(4),
            ..LinkConfig::default()
        });
        // Offered at more than twice the rate for a second.
        let gap = 1514 * 8 * 1_000_000_000 / bps / 2;
        let (mut now, mut bits) = (0, 0u64);
        while now < 1_000_000_000 {
            if let Verdict::DeliverAt(at) = offer(&mut l, now, 1514)
                && at <= nanos(1_000_000_000)
            {
                bits += 1514 * 8;
            }
            now += gap.max(1);
        }
        let error = bits.abs_diff(bps);
        assert!(
            error <= bps / 1000 + 1514 * 8,
            "{bits} bit/s instead of {bps}"
        );
    }
}

#[test]
fn the_queue_limit_is_exact() {
    let mut l = link(LinkConfig {
        rate_bps: Some(8_000), // a byte a millisecond
        queue: QueueConfig::frames(3),
        ..LinkConfig::default()
    });
    let full = Verdict::Drop(DropReason::LinkQueueFull);
    for departure in [100, 200, 300] {
        assert_eq!(at(offer(&mut l, 0, 100)), departure * 1_000_000);
    }
    assert_eq!(offer(&mut l, 0, 100), full);
    assert_eq!(offer(&mut l, 99_999_999, 100), full);
    assert_eq!(l.queued(nanos(99_999_999)).0, 3);
    // The first is out: there is room for one.
    assert_eq!(l.queued(nanos(100_000_000)).0, 2);
    assert_eq!(at(offer(&mut l, 100_000_000, 100)), 400_000_000);
    assert_eq!(offer(&mut l, 100_000_000, 100), full);
    let stats = l.stats(Instant::MAX);
    assert_eq!(
        (stats.offered, stats.delivered, stats.queue_full),
        (7, 4, 3)
    );
    assert_eq!((stats.offered_bytes, stats.delivered_bytes), (700, 400));
    assert_eq!(stats.queue_high_water, 3);
}

#[test]
fn loss_is_as_likely_as_asked() {
    const FRAMES: u64 = 1_000_000;
    for loss in [0.0, 0.001, 0.01, 0.3, 1.0] {
        let mut l = link(LinkConfig {
            loss: loss.into(),
            ..LinkConfig::default()
        });
        for n in 0..FRAMES {
            offer(&mut l, n, 100);
        }
        let expected = FRAMES as f64 * loss;
        let sigma = (expected * (1.0 - loss)).sqrt();
        let lost = l.stats(Instant::MAX).lost;
        assert!(
            (lost as f64 - expected).abs() <= 3.0 * sigma,
            "{lost} lost at {loss}"
        );
        assert_eq!(l.stats(Instant::MAX).delivered + lost, FRAMES);
    }
}

#[test]
fn a_lost_frame_took_its_time_on_the_wire() {
    let mut l = link(LinkConfig {
        rate_bps: Some(8_000_000_000), // a byte a nanosecond
        loss: (1.0).into(),
        ..LinkConfig::default()
    });
    assert_eq!(offer(&mut l, 0, 500), Verdict::Drop(DropReason::LinkLoss));
    let lossless = LinkConfig {
        loss: (0.0).into(),
        ..l.config().clone()
    };
    l.set_config(Instant::ZERO, lossless).expect("valid");
    assert_eq!(at(offer(&mut l, 0, 500)), 1000);
}

#[test]
fn a_change_keeps_what_waits_and_the_order() {
    let slow = LinkConfig {
        rate_bps: Some(8_000_000), // a byte a microsecond
        delay: Duration::from_millis(10),
        queue: QueueConfig::frames(10),
        ..LinkConfig::default()
    };
    let mut l = link(slow.clone());
    assert_eq!(at(offer(&mut l, 0, 1000)), 11_000_000);
    assert_eq!(at(offer(&mut l, 0, 1000)), 12_000_000);
    let fast = LinkConfig {
        rate_bps: Some(8_000_000_000),
        queue: QueueConfig::frames(2),
        ..slow.clone()
    };
    l.set_config(Instant::ZERO, fast.clone()).expect("valid");
    // Two wait still, so the new limit is reached.
    assert_eq!(
        offer(&mut l, 0, 1),
        Verdict::Drop(DropReason::LinkQueueFull)
    );
    // After the first is out, a frame queues behind the second.
    assert_eq!(at(offer(&mut l, 1_000_000, 1000)), 12_001_000);
    // A shorter wire does not let frames overtake.
    let near = LinkConfig {
        delay: Duration::ZERO,
        ..fast
    };
    l.set_config(Instant::ZERO, near).expect("valid");
    assert_eq!(at(offer(&mut l, 3_000_000, 1000)), 12_001_000);
    assert_eq!(at(offer(&mut l, 20_000_000, 1000)), 20_001_000);
    // Without a rate nothing waits any more.
    l.set_config(Instant::ZERO, LinkConfig::default())
        .expect("valid");
    assert_eq!(at(offer(&mut l, 20_000_500, 1000)), 20_001_000);
    assert_eq!(at(offer(&mut l, 30_000_000, 1000)), 30_000_000);
}

#[test]
fn links_that_cannot_be_are_refused() {
    let good = LinkConfig::default;
    let bad = [
        (
            LinkConfig {
                rate_bps: Some(0),
                ..good()
            },
            "rate_bps",
        ),
        (
            LinkConfig {
                queue: QueueConfig::frames(0),
                ..good()
            },
            "queue",
        ),
        (
            LinkConfig {
                loss: (1.5).into(),
                ..good()
            },
            "loss",
        ),
        (
            LinkConfig {
                loss: (-0.1).into(),
                ..good()
            },
            "loss",
        ),
        (
            LinkConfig {
                delay: Duration::from_secs(90_000),
                ..good()
            },
            "delay",
        ),
        (
            LinkConfig {
                overhead_bytes: 65_536,
                ..good()
            },
            "overhead_bytes",
        ),
    ];
    let mut l = link(good());
    for (config, setting) in bad {
        let refused = config.validate().expect_err("it is out of range");
        assert_eq!(refused.setting, setting);
        assert_eq!(l.set_config(Instant::ZERO, config), Err(refused));
        assert_eq!(l.config(), &good());
    }
    let nan = LinkConfig {
        loss: (f64::NAN).into(),
        ..good()
    };
    assert_eq!(nan.validate().map_err(|e| e.setting), Err("loss"));
}

#[test]
fn the_same_seed_gives_the_same_link() {
    let run = |seed| {
        let config = LinkConfig {
            loss: (0.5).into(),
            ..LinkConfig::default()
        };
        let mut l = Link::new(config, Instant::ZERO, Rng::seeded(seed)).expect("valid");
        (0..64).map(|n| offer(&mut l, n, 1)).collect::<Vec<_>>()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

proptest! {
    /// Against a plain list of departures: the same frames are dropped, and the rest arrive in
    /// order, never before their time.
    #[test]
    fn behaves_as_a_list_of_departures(
        bps in 1_000..1_000_000_000u64,
        limit in 1..20usize,
        frames in prop::collection::vec((0..2_000_000u64, 0..2000usize), 0..200),
    ) {
        let mut l = link(LinkConfig {
            rate_bps: Some(bps),
            queue: QueueConfig::frames(limit),
            delay: Duration::from_micros(5),
            ..LinkConfig::default()
        });
        let (mut now, mut last) = (0, 0);
        let mut departures: Vec<u64> = Vec::new();
        for (gap, len) in frames {
            now += gap;
            let waiting = departures.iter().filter(|at| **at > now).count();
            prop_assert_eq!(l.queued(nanos(now)).0, waiting);
            match offer(&mut l, now, len) {
                Verdict::Drop(reason) => {
                    prop_assert_eq!(reason, DropReason::LinkQueueFull);
                    prop_assert_eq!(waiting, limit);
                }
                Verdict::DeliverAt(at) => {
                    prop_assert!(waiting < limit);
                    let departure = at.as_nanos() - 5_000;
                    let least = len as u64 * 8 * 1_000_000_000 / bps;
                    prop_assert!(departure >= now.max(last) + least);
                    prop_assert!(departure <= now.max(last) + least + 1);
                    last = departure;
                    departures.push(departure);
                }
                Verdict::Twice(..) => prop_assert!(false, "nothing is duplicated"),
            }
        }
        let stats = l.stats(Instant::MAX);
        prop_assert_eq!(stats.offered, stats.delivered + stats.lost + stats.queue_full);
        prop_assert!(stats.queue_high_water <= limit);
    }
}

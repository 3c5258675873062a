//! `compare -- fairness`: what transfers do to each other, to a queue, and what reordering does to them, in virtual time.
//!
//! All data goes over one link. A figure counts from the second half of a run on, and is the median of the seeds.

use std::time::Duration;

use comfy_table::Table;
use vnet::LinkConfig;
use vnet::link::{Discipline, Ecn, FqCodel, Jitter, Order, QueueConfig, Red};

use crate::compare::{SideError, median};
use crate::paths::{Carried, World};

/// A link with a rate, a delay and a queue, and transfers over it.
#[derive(Clone, Debug)]
pub struct Scene {
    /// Its name in the table.
    pub name: String,
    /// Bits per second.
    pub rate_bps: u64,
    /// There and back, of the link that all share.
    pub rtt: Duration,
    /// The queue of the data.
    pub queue: QueueConfig,
    /// How long single frames of the data are late.
    pub jitter: Jitter,
    /// The congestion control of each transfer, and how much longer its way is, there and back.
    pub transfers: Vec<(&'static str, Duration)>,
    /// Tunables of all vnets.
    pub set: &'static [(&'static str, &'static str)],
    /// How long is simulated.
    pub time: Duration,
}

/// What was seen.
#[derive(Clone, Debug)]
pub struct Seen {
    /// What each transfer carried in the second half, in megabits per second.
    pub shares: Vec<f64>,
    /// How long all but a hundredth of the frames waited for the link, in milliseconds.
    pub wait_p99: f64,
    /// Segments sent again though nothing was lost, in percent of all.
    pub spurious: f64,
    /// Segments that the queue dropped, in percent of all.
    pub dropped: f64,
    /// Recoveries that were undone.
    pub undone: u64,
}

impl Scene {
    /// Transfers that share 100 Mbit/s and 40 ms, with a queue of the path's volume.
    pub fn shared(name: impl Into<String>, transfers: Vec<(&'static str, Duration)>) -> Scene {
        Scene {
            name: name.into(),
            rate_bps: 100_000_000,
            rtt: Duration::from_millis(40),
            queue: QueueConfig::frames(330),
            jitter: Jitter::None,
            transfers,
            set: &[],
            time: Duration::from_secs(60),
        }
    }

    /// The same on a slower and shorter link, whose frames a test has time for.
    #[must_use]
    pub fn small(self) -> Scene {
        Scene {
            rate_bps: 20_000_000,
            rtt: Duration::from_millis(20),
            queue: QueueConfig {
                limit_frames: 33,
                ..self.queue
            },
            time: Duration::from_secs(16),
            ..self
        }
    }

    /// Plays it.
    ///
    /// # Errors
    /// When the world cannot be set up.
    pub fn play(&self, seed: u64) -> Result<Seen, SideError> {
        let link = LinkConfig {
            rate_bps: Some(self.rate_bps),
            delay: self.rtt / 2,
            ..LinkConfig::default()
        };
        let data = LinkConfig {
            queue: self.queue.clone(),
            jitter: self.jitter.clone(),
            ..link.clone()
        };
        let delays: Vec<Duration> = self.transfers.iter().map(|(_, d)| *d).collect();
        let mut world = World::joined(seed, [data, link], &delays)?;
        for (name, value) in self.set {
            world.set(name, value)?;
        }
        for (n, (control, _)) in self.transfers.iter().enumerate() {
            world.start(n, control)?;
        }
        let carried = world.run(self.time)?;
        let link = world.link()?;
        let again = world.count("tcp.retransmitted_bytes")? as f64;
        let sent = world.count("tcp.bytes_out")? as f64;
        // Each frame that was dropped has to be sent again.
        let needed = (link.dropped() * SEGMENT) as f64;
        Ok(Seen {
            shares: carried.iter().map(|Carried { late, .. }| *late).collect(),
            wait_p99: link.sojourn.p99.as_secs_f64() * 1e3,
            spurious: (again - needed).max(0.0) / sent * 100.0,
            dropped: needed / sent * 100.0,
            undone: world.count("tcp.undone_recoveries")?,
        })
    }

    /// The share of the link that the application's bytes of all transfers take.
    fn used(&self, seen: &Seen) -> f64 {
        seen.shares.iter().sum::<f64>() * 1e6 / self.rate_bps as f64
    }
}

/// Queues may mark packets instead of dropping them.
const MARKED: &[(&str, &str)] = &[("net.inet.tcp.ecn", "accurate")];
/// And marks count as losses do.
const AS_LOSSES: &[(&str, &str)] = &[MARKED[0], ("net.inet.tcp.cc.abe", "0")];
/// Bytes of a full segment.
const SEGMENT: u64 = 1448;

/// Jain's index of fairness: 1 when all have the same.
pub fn jain(shares: &[f64]) -> f64 {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|s| s * s).sum();
    sum * sum / (shares.len() as f64 * squares)
}

/// So many transfers with the same congestion control and the same way.
pub fn alike(control: &'static str, transfers: usize) -> Vec<(&'static str, Duration)> {
    vec![(control, Duration::ZERO); transfers]
}

/// This share of the frames, in no apparent order, is late by so much, and overtaken.
pub fn late(share: f64, by: Duration) -> Jitter {
    // Of numbers below a prime, multiplied by another: each once.
    let is_late = |n: u32| f64::from(n * 7919 % 1009) < share * 1009.0;
    let delays = (0..1009).map(|n| if is_late(n) { by } else { Duration::ZERO });
    Jitter::Trace {
        delays: delays.collect(),
        order: Order::Free,
    }
}

/// The scenes of the table.
pub fn scenes() -> Vec<Scene> {
    let ms = Duration::from_millis;
    let mut all: Vec<Scene> = [2, 8, 32]
        .map(|n| Scene::shared(format!("{n} x cubic"), alike("cubic", n)))
        .into();
    let both = vec![("cubic", Duration::ZERO), ("bbr", Duration::ZERO)];
    // Both go in cycles of seconds, which set the share of any minute apart from that of the next one.
    all.push(Scene {
        time: Duration::from_secs(240),
        ..Scene::shared("cubic, bbr", both)
    });
    for control in ["cubic", "bbr", "reno"] {
        let name = format!("{control}, 20 and 80 ms");
        let two = vec![(control, ms(0)), (control, ms(60))];
        all.push(Scene {
            rtt: ms(20),
            ..Scene::shared(name, two)
        });
    }
    for (name, set) in [("", MARKED), (", marks as losses", AS_LOSSES)] {
        let name = format!("cubic, ECN, fq-codel{name}");
        all.push(Scene {
            queue: fq_codel(),
            set,
            ..Scene::shared(name, alike("cubic", 1))
        });
    }
    all.push(Scene {
        queue: QueueConfig::frames(1000),
        ..Scene::shared("bbr, 1000 frames", alike("bbr", 1))
    });
    for control in ["dctcp", "bbr"] {
        let name = format!("2 x {control}, marks from 10 frames on");
        all.push(Scene {
            rtt: ms(4),
            queue: step(10),
            set: MARKED,
            ..Scene::shared(name, alike(control, 2))
        });
    }
    for (share, by) in [(0.0, 0), (0.01, 5), (0.3, 1)] {
        let name = format!("cubic, {} % late by {by} ms", share * 100.0);
        all.push(Scene {
            queue: QueueConfig::default(),
            jitter: late(share, ms(by)),
            ..Scene::shared(name, alike("cubic", 1))
        });
    }
    all
}

/// Flow queues with controlled delay, which mark.
pub fn fq_codel() -> QueueConfig {
    QueueConfig {
        discipline: Discipline::FqCodel(FqCodel::default()),
        ..QueueConfig::default()
    }
}

/// A queue that marks each frame that finds so many before it.
// RFC 8257, section 3.1.
pub fn step(frames: u64) -> QueueConfig {
    let red = Red {
        min_bytes: frames * 1514 - 1,
        max_bytes: frames * 1514,
        max_probability: 1.0,
        weight_shift: 0,
        ecn: Ecn::Mark,
    };
    QueueConfig {
        discipline: Discipline::Red(red),
        ..QueueConfig::default()
    }
}

/// The table: medians over the seeds `1..=seeds`.
///
/// # Errors
/// When a world cannot be set up.
pub fn measure(seeds: u64) -> Result<Table, SideError> {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
    table.set_header([
        "transfers",
        "Mbit/s each",
        "Jain",
        "of the rate %",
        "waits p99 ms",
        "spurious %",
        "undone",
    ]);
    for scene in scenes() {
        let seen: Vec<Seen> = (1..=seeds)
            .map(|seed| scene.play(seed))
            .collect::<Result<_, _>>()?;
        let middle = |of: &dyn Fn(&Seen) -> f64| median(seen.iter().map(of).collect());
        let shares: Vec<String> = (0..scene.transfers.len())
            .map(|n| format!("{:.1}", middle(&|s| s.shares[n])))
            .collect();
        let row = [
            scene.name.clone(),
            match shares.len() > 8 {
                true => format!("{} ...", shares[..4].join(" ")),
                false => shares.join(" "),
            },
            format!("{:.3}", middle(&|s| jain(&s.shares))),
            format!("{:.1}", middle(&|s| scene.used(s) * 100.0)),
            format!("{:.1}", middle(&|s| s.wait_p99)),
            format!("{:.3}", middle(&|s| s.spurious)),
            format!("{:.0}", middle(&|s| s.undone as f64)),
        ];
        eprintln!("{}", row.join(", "));
        table.add_row(row);
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn play(scene: Scene) -> Seen {
        scene.small().play(1).unwrap()
    }

    #[test]
    fn the_index_of_fairness_is_one_for_equals_and_a_share_for_a_tyrant() {
        assert_eq!(jain(&[3.0, 3.0, 3.0]), 1.0);
        assert_eq!(jain(&[5.0, 0.0, 0.0, 0.0]), 0.25);
    }

    #[test]
    fn the_scenes_of_the_table_can_be_played() {
        for scene in scenes() {
            let short = Scene {
                time: Duration::from_millis(300),
                ..scene
            };
            let seen = short.play(1).unwrap();
            assert!(seen.shares.iter().sum::<f64>() > 0.0, "{seen:?}");
        }
    }

    #[test]
    fn transfers_share_a_bottleneck_fairly_and_use_it() {
        for n in [2, 8] {
            let scene = Scene::shared("alike", alike("cubic", n)).small();
            let seen = scene.play(1).unwrap();
            assert!(jain(&seen.shares) >= 0.95, "{seen:?}");
            assert!(scene.used(&seen) > 0.85, "{seen:?}");
        }
    }

    #[test]
    fn neither_cubic_nor_a_model_of_the_path_starves_the_other() {
        let both = vec![("cubic", Duration::ZERO), ("bbr", Duration::ZERO)];
        let seen = play(Scene::shared("both", both));
        let sum: f64 = seen.shares.iter().sum();
        assert!(seen.shares.iter().all(|s| s / sum >= 0.2), "{seen:?}");
    }

    #[test]
    fn marks_keep_a_queue_short_and_the_link_busy() {
        let scene = Scene {
            queue: fq_codel(),
            set: MARKED,
            ..Scene::shared("marked", alike("cubic", 1))
        };
        // Its queue is as long as it may be: the marks alone keep it short.
        let scene = Scene {
            queue: fq_codel(),
            ..scene.small()
        };
        let seen = scene.play(1).unwrap();
        // In a run this short, a hundredth of the frames is from slow start, before CoDel's first interval is over.
        assert!(seen.wait_p99 < 60.0 && scene.used(&seen) > 0.9, "{seen:?}");
    }

    #[test]
    fn a_share_of_marks_keeps_a_queue_shorter_still() {
        for control in ["dctcp", "bbr"] {
            let scene = Scene {
                rtt: Duration::from_millis(4),
                queue: step(10),
                set: MARKED,
                time: Duration::from_secs(4),
                ..Scene::shared("step", alike(control, 2))
            };
            let seen = scene.play(1).unwrap();
            assert!(seen.wait_p99 < 3.0 && scene.used(&seen) > 0.9, "{seen:?}");
            assert!(jain(&seen.shares) > 0.9, "{seen:?}");
            assert!(seen.dropped < 0.1, "{seen:?}");
        }
    }

    #[test]
    fn a_model_of_the_path_does_not_fill_a_long_queue() {
        let scene = Scene {
            queue: QueueConfig::frames(1000),
            ..Scene::shared("long", alike("bbr", 1)).small()
        };
        let seen = scene.play(1).unwrap();
        assert!(seen.wait_p99 < 30.0 && scene.used(&seen) > 0.85, "{seen:?}");
    }

    #[test]
    fn reordering_costs_less_than_a_tenth() {
        let with = |share, by| {
            let scene = Scene::shared("late", alike("cubic", 1)).small();
            let scene = Scene {
                queue: QueueConfig::default(),
                jitter: late(share, Duration::from_millis(by)),
                ..scene
            };
            scene.play(1).unwrap()
        };
        let whole = with(0.0, 0).shares[0];
        for (share, by) in [(0.01, 5), (0.3, 1)] {
            let seen = with(share, by);
            assert!(seen.shares[0] > whole * 0.9, "{whole} {seen:?}");
            assert!(seen.spurious < 1.0, "{seen:?}");
        }
    }
}

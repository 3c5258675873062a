//! The stages that most links do not have.

use super::bucket::Bucket;
use super::config::{Discipline, LinkConfig};
use super::corrupt::Corrupt;
use super::delay::{Overtake, Vary};
use super::loss::Loss;
use super::red::Red;
use crate::base::rng::Rng;

/// Labels of the stages' random streams. A number, once given, stays.
#[derive(Clone, Copy)]
enum Stage {
    Loss = 1,
    Jitter,
    Reorder,
    Duplicate,
    CorruptUndetected,
    Red,
    Flows,
    Corrupt,
}

/// The seed of what a link's queue discipline tells flows apart by.
pub(super) fn flow_seed(seed: u64) -> u64 {
    stream(seed, Stage::Flows).u64()
}

fn stream(seed: u64, stage: Stage) -> Rng {
    Rng::seeded(seed).split(stage as u64)
}

/// One of each, which may be off.
#[derive(Debug)]
pub(super) struct Impairments {
    pub(super) red: Red,
    pub(super) bucket: Bucket,
    pub(super) loss: Loss,
    pub(super) duplicate: Rng,
    /// Bits that the frame check sequence shows.
    pub(super) corrupt: Corrupt,
    pub(super) corrupt_undetected: Corrupt,
    pub(super) overtake: Overtake,
    pub(super) vary: Vary,
}

impl Impairments {
    /// All of them off, with random streams derived from a link's seed.
    pub(super) fn new(seed: u64) -> Impairments {
        let stream = |stage| stream(seed, stage);
        Impairments {
            red: Red::new(stream(Stage::Red)),
            bucket: Bucket::default(),
            loss: Loss::new(stream(Stage::Loss)),
            duplicate: stream(Stage::Duplicate),
            corrupt: Corrupt::new(stream(Stage::Corrupt)),
            corrupt_undetected: Corrupt::new(stream(Stage::CorruptUndetected)),
            overtake: Overtake::new(stream(Stage::Reorder)),
            vary: Vary::new(stream(Stage::Jitter)),
        }
    }

    /// True when a link that is configured like this has one of them.
    pub(super) fn are_in(config: &LinkConfig) -> bool {
        config.is_impaired() || matches!(config.queue.discipline, Discipline::Red(_))
    }

    /// Sets all of them as a link is configured.
    pub(super) fn set(&mut self, config: &LinkConfig) {
        self.vary.set(config.jitter.clone());
        self.loss.set(config.loss.clone());
        self.overtake.set(config.reorder);
        self.corrupt.set(config.corrupt);
        self.corrupt_undetected.set(config.corrupt_undetected);
        let queue = &config.queue.discipline;
        if !matches!(queue, Discipline::Red(_)) {
            self.red.forget();
        }
        self.bucket.set(match *queue {
            Discipline::TokenBucket {
                rate_bps,
                burst_bytes,
            } => Some((rate_bps, burst_bytes)),
            _ => None,
        });
    }
}

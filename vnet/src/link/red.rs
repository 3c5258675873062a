//! Random early detection (Floyd and Jacobson, 1993), in its gentle form: drops or marks frames with
//! a probability that grows with the average length of the queue, before the queue is full.
//!
//! | average length | probability |
//! |---|---|
//! | below `min_bytes` | none |
//! | to `max_bytes` | grows to `max_probability` |
//! | to twice `max_bytes` | grows to 1 |
//! | above | all |
//!
//! Between two picks the probability is spread evenly (section 7 of the paper): with a constant
//! average the number of frames from one pick to the next is uniformly distributed.

use super::config;
use crate::base::rng::Rng;
use crate::base::time::Instant;

/// The length of a frame, in bytes, by which the time of an idle link is counted.
const TYPICAL_FRAME: u64 = 1000;

/// The RED stage.
#[derive(Debug)]
pub(crate) struct Red {
    /// Average length of the queue in bytes.
    average: f64,
    /// Frames passed over since the last pick, while the average was in the range.
    since: u64,
    rng: Rng,
}

impl Red {
    /// Nothing seen yet, with the stage's own random stream.
    pub(crate) fn new(rng: Rng) -> Red {
        Red {
            average: 0.0,
            since: 0,
            rng,
        }
    }

    /// Forgets what it has seen: another discipline is in force.
    pub(crate) fn forget(&mut self) {
        self.average = 0.0;
        self.since = 0;
    }

    /// The average length of the queue, in bytes.
    #[cfg(test)]
    pub(crate) fn average(&self) -> f64 {
        self.average
    }

    /// Looks at the queue as a frame comes at `now` and finds `bytes` before it; `empty_since` is
    /// when the last of an empty queue went out. True when the frame is picked.
    pub(crate) fn picks(
        &mut self,
        config: &config::Red,
        now: Instant,
        bytes: usize,
        empty_since: Option<Instant>,
        rate_bps: Option<u64>,
    ) -> bool {
        let weight = 1.0 / (1u64 << config.weight_shift) as f64;
        if let (0, Some(since), Some(rate)) = (bytes, empty_since, rate_bps) {
            // As if so many frames had found the queue empty.
            let frame_ns = TYPICAL_FRAME * 8 * 1_000_000_000 / rate.max(1);
            let frames = (now - since).as_nanos() as f64 / frame_ns.max(1) as f64;
            self.average *= libm::pow(1.0 - weight, frames);
        }
        self.average += (bytes as f64 - self.average) * weight;
        let probability = probability(config, self.average);
        if probability <= 0.0 {
            self.since = 0;
            return false;
        }
        let spread = 1.0 - self.since as f64 * probability;
        self.since += 1;
        let picked = spread <= 0.0 || self.rng.chance(probability / spread);
        if picked {
            self.since = 0;
        }
        picked
    }
}

/// The probability at an average length, before it is spread.
fn probability(config: &config::Red, average: f64) -> f64 {
    let (min, max) = (config.min_bytes as f64, config.max_bytes as f64);
    let top = config.max_probability;
    if average < min {
        0.0
    } else if average < max {
        top * (average - min) / (max - min)
    } else if average < 2.0 * max {
        top + (1.0 - top) * (average - max) / max
    } else {
        1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: config::Red = config::Red {
        min_bytes: 10_000,
        max_bytes: 30_000,
        max_probability: 0.1,
        weight_shift: 4,
        ecn: config::Ecn::Off,
    };

    #[test]
    fn the_curve_has_its_corners() {
        for (average, expected) in [
            (9_999.0, 0.0),
            (20_000.0, 0.05),
            (30_000.0, 0.1),
            (45_000.0, 0.55),
            (60_000.0, 1.0),
        ] {
            let found = probability(&CONFIG, average);
            assert!((found - expected).abs() < 1e-9, "{average}: {found}");
        }
    }

    /// At a constant average, picks come at intervals that are uniform from 1 to 1/p: on average
    /// half of that, and never longer.
    #[test]
    fn picks_are_spread() {
        let mut red = Red::new(Rng::seeded(1));
        let mut gaps = Vec::new();
        let mut since = 0;
        for n in 0..200_000 {
            since += 1;
            let picked = red.picks(&CONFIG, Instant::ZERO, 20_000, None, Some(1));
            if picked && n > 1000 {
                gaps.push(since);
            }
            if picked {
                since = 0;
            }
        }
        let mean = gaps.iter().sum::<u32>() as f64 / gaps.len() as f64;
        assert!((red.average() - 20_000.0).abs() < 1.0);
        assert!((mean - 10.5).abs() < 0.2, "{mean}");
        assert!(gaps.iter().all(|gap| *gap <= 20), "1/p is 20");
    }

    #[test]
    fn an_idle_link_forgets() {
        let mut red = Red::new(Rng::seeded(1));
        for _ in 0..200 {
            red.picks(&CONFIG, Instant::ZERO, 25_000, None, Some(8_000_000));
        }
        assert!(red.average() > 24_000.0);
        // A thousand bytes take a millisecond: as if 100 frames had come.
        let later = Instant::from_nanos(100_000_000);
        assert!(!red.picks(&CONFIG, later, 0, Some(Instant::ZERO), Some(8_000_000)));
        assert!(red.average() < 100.0, "{}", red.average());
    }
}

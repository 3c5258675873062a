//! One direction of an emulated link: a pipeline of stages that decide when, and whether, a
//! frame arrives.
//!
//! | stage | what it does to a frame |
//! |---|---|
//! | [`queue`] | drops it when too many wait for the transmitter |
//! | [`rate`] | makes it wait until it has been clocked out |
//! | [`loss`] | loses it on the wire, after it took up its time there |
//! | [`delay`] | lets it travel |
//!
//! Each stage takes the time at which a frame reaches it and returns the time at which the frame
//! leaves it, or drops it. A stage that needs chance has a random stream of its own, derived from
//! the link's seed and the stage's label, so that switching one stage on leaves the draws of the
//! others as they were. Jitter, reordering, duplication, corruption, burst loss and queue
//! disciplines that look at the time in the queue are not here yet; each is a stage of the same
//! form.

pub mod delay;
pub mod loss;
pub mod queue;
pub mod rate;

use crate::base::rng::Rng;
use crate::base::stats::DropReason;
use crate::base::time::{Duration, Instant};

use delay::Delay;
use loss::Loss;
use queue::Queue;
use rate::Rate;

/// How one direction of a link behaves. The default carries everything at once.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LinkConfig {
    /// Bits a second that the transmitter clocks out; `None` for no limit.
    pub rate_bps: Option<u64>,
    /// Time a frame travels after its last bit was clocked out.
    pub delay: Duration,
    /// Probability that a frame is lost on the way, each frame by itself.
    pub loss: f64,
    /// Frames that may wait for the transmitter, the one being clocked out included. Without a
    /// rate nothing ever waits.
    pub queue_frames: usize,
    /// Bytes that each frame takes up on the wire besides its own: 24 for Ethernet's preamble,
    /// frame check sequence and gap.
    pub overhead_bytes: usize,
}

impl Default for LinkConfig {
    fn default() -> LinkConfig {
        LinkConfig {
            rate_bps: None,
            delay: Duration::ZERO,
            loss: 0.0,
            queue_frames: 1000,
            overhead_bytes: 0,
        }
    }
}

/// A link that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum LinkConfigError {
    /// A rate of zero never delivers.
    #[error("a rate of zero would never deliver; leave the rate out for no limit")]
    ZeroRate,
    /// A probability is a number from 0 to 1.
    #[error("loss must be a number from 0 to 1, found {0}")]
    LossOutOfRange(f64),
    /// Not even the frame being clocked out would have room.
    #[error("the queue must hold at least one frame")]
    ZeroQueue,
    /// Longer than [`LinkConfig::MAX_DELAY`].
    #[error("a delay may be at most {max:?}, found {0:?}", max = LinkConfig::MAX_DELAY)]
    DelayTooLong(Duration),
    /// More than [`LinkConfig::MAX_OVERHEAD`].
    #[error("overhead may be at most {max} bytes a frame, found {0}", max = LinkConfig::MAX_OVERHEAD)]
    OverheadTooLarge(usize),
}

impl LinkConfig {
    /// The longest delay: a day, which is farther than any planet.
    pub const MAX_DELAY: Duration = Duration::from_secs(86_400);
    /// The largest overhead a frame can have, in bytes.
    pub const MAX_OVERHEAD: usize = 65_535;

    /// Says whether the link can be.
    ///
    /// # Errors
    /// The first field that is out of range, as a [`LinkConfigError`].
    pub fn validate(&self) -> Result<(), LinkConfigError> {
        let LinkConfig {
            rate_bps,
            delay,
            loss,
            queue_frames,
            overhead_bytes,
        } = self;
        if *rate_bps == Some(0) {
            return Err(LinkConfigError::ZeroRate);
        }
        if *delay > LinkConfig::MAX_DELAY {
            return Err(LinkConfigError::DelayTooLong(*delay));
        }
        if !(0.0..=1.0).contains(loss) {
            return Err(LinkConfigError::LossOutOfRange(*loss));
        }
        if *queue_frames == 0 {
            return Err(LinkConfigError::ZeroQueue);
        }
        if *overhead_bytes > LinkConfig::MAX_OVERHEAD {
            return Err(LinkConfigError::OverheadTooLarge(*overhead_bytes));
        }
        Ok(())
    }

    /// True when every frame arrives at the moment it is sent: there is nothing to emulate, and
    /// a segment that stands for several frames need not be cut.
    pub fn is_transparent(&self) -> bool {
        self.rate_bps.is_none() && self.delay.is_zero() && self.loss == 0.0
    }
}

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It arrives at the far end at this time.
    DeliverAt(Instant),
    /// It does not arrive: [`DropReason::LinkQueueFull`] or [`DropReason::LinkLoss`].
    Drop(DropReason),
}

/// Counters of one direction: `offered = delivered + lost + queue_full`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LinkStats {
    /// Frames offered.
    pub offered: u64,
    /// Their bytes, without overhead.
    pub offered_bytes: u64,
    /// Frames that arrived or are on the way.
    pub delivered: u64,
    /// Their bytes, without overhead.
    pub delivered_bytes: u64,
    /// Frames lost on the wire.
    pub lost: u64,
    /// Frames that found the queue full.
    pub queue_full: u64,
    /// Most frames that waited at a time, the one being clocked out included.
    pub queue_high_water: usize,
}

/// One direction of a link. See the [module](self).
#[derive(Debug)]
pub struct Link {
    config: LinkConfig,
    queue: Queue,
    rate: Rate,
    loss: Loss,
    delay: Delay,
    stats: LinkStats,
}

impl Link {
    /// An idle link, with random streams derived from `rng`.
    ///
    /// # Errors
    /// See [`LinkConfig::validate`].
    pub fn new(config: LinkConfig, mut rng: Rng) -> Result<Link, LinkConfigError> {
        config.validate()?;
        let seed = rng.u64();
        let stream = |stage: Stage| Rng::seeded(seed).split(stage as u64);
        let mut link = Link {
            config: LinkConfig::default(),
            queue: Queue::default(),
            rate: Rate::default(),
            loss: Loss::new(stream(Stage::Loss)),
            delay: Delay::default(),
            stats: LinkStats::default(),
        };
        link.apply(config);
        Ok(link)
    }

    /// Takes a frame of `frame_len` L2 bytes at `now` and says what becomes of it. `now` must not
    /// run backwards.
    pub fn offer(&mut self, now: Instant, frame_len: usize) -> Verdict {
        self.stats.offered += 1;
        let bytes = frame_len as u64;
        self.stats.offered_bytes = self.stats.offered_bytes.saturating_add(bytes);
        if !self.queue.has_room(now) {
            self.stats.queue_full += 1;
            return Verdict::Drop(DropReason::LinkQueueFull);
        }
        let departure = self
            .rate
            .depart(now, frame_len.saturating_add(self.config.overhead_bytes));
        let waiting = self.queue.enter(now, departure);
        self.stats.queue_high_water = self.stats.queue_high_water.max(waiting);
        if self.loss.loses() {
            self.stats.lost += 1;
            return Verdict::Drop(DropReason::LinkLoss);
        }
        self.stats.delivered += 1;
        self.stats.delivered_bytes = self.stats.delivered_bytes.saturating_add(bytes);
        Verdict::DeliverAt(self.delay.arrive(departure))
    }

    /// Changes how the link behaves from now on. Frames that wait or travel keep the times they
    /// were promised; frames to come queue up behind them and do not overtake them.
    ///
    /// # Errors
    /// See [`LinkConfig::validate`]; the link stays as it was.
    pub fn set_config(&mut self, config: LinkConfig) -> Result<(), LinkConfigError> {
        config.validate()?;
        self.apply(config);
        Ok(())
    }

    /// How the link behaves.
    pub fn config(&self) -> &LinkConfig {
        &self.config
    }

    /// The counters.
    pub fn stats(&self) -> LinkStats {
        self.stats
    }

    /// Frames that wait for the transmitter at `now`, the one being clocked out included.
    pub fn queued(&self, now: Instant) -> usize {
        self.queue.waiting(now)
    }

    fn apply(&mut self, config: LinkConfig) {
        let LinkConfig {
            rate_bps,
            delay,
            loss,
            queue_frames,
            overhead_bytes: _,
        } = config;
        self.rate.set(rate_bps);
        self.delay.set(delay);
        self.loss.set(loss);
        self.queue.set_limit(queue_frames);
        self.config = config;
    }
}

/// Labels of the stages' random streams. A number, once given, stays.
#[derive(Clone, Copy)]
enum Stage {
    Loss = 1,
}

#[cfg(test)]
mod tests;

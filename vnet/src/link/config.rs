//! How one direction of a link behaves, as it is written down. Plain data: what it means is told
//! at the stages.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::base::time::Duration;

/// How one direction of a link behaves. The default carries everything at once.
///
/// ```
/// use vnet::LinkConfig;
/// use vnet::link::{Jitter, Loss, Order};
/// use std::time::Duration;
///
/// let satellite = LinkConfig {
///     rate_bps: Some(20_000_000),
///     delay: Duration::from_millis(270),
///     jitter: Jitter::Uniform { amplitude: Duration::from_millis(5), order: Order::Kept },
///     loss: Loss::GilbertElliott { p: 0.001, r: 0.2, h: 0.0, k: 1.0 },
///     ..LinkConfig::default()
/// };
/// assert_eq!(satellite.validate(), Ok(()));
/// assert!(LinkConfig { loss: 1.5.into(), ..satellite }.validate().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LinkConfig {
    /// Whether it carries anything at all.
    pub state: LinkState,
    /// Bits a second that the transmitter clocks out; `None` for no limit.
    pub rate_bps: Option<u64>,
    /// Bytes that each frame takes up on the wire besides its own: 24 for Ethernet's preamble,
    /// frame check sequence and gap.
    pub overhead_bytes: usize,
    /// What waits for the transmitter, and how.
    pub queue: QueueConfig,
    /// Time a frame travels after its last bit was clocked out.
    pub delay: Duration,
    /// What is added to the delay of each frame.
    pub jitter: Jitter,
    /// Which frames are lost on the way.
    pub loss: Loss,
    /// Probability that a frame arrives twice.
    pub duplicate: f64,
    /// Frames that overtake those before them.
    pub reorder: Reorder,
    /// One bit in so many is flipped on the way, and the frame check sequence shows it: the frame is
    /// lost, as on Ethernet. `None` for no such errors. IMUNES' BER.
    pub corrupt: Option<u64>,
    /// One bit in so many is flipped on the way, and nothing below the IP layer shows it: the frame
    /// arrives with them. `None` for no such errors.
    pub corrupt_undetected: Option<u64>,
}

/// A link that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkConfigError {
    /// A rate of zero never delivers.
    #[error("a rate of zero would never deliver; leave the rate out for no limit")]
    ZeroRate,
    /// A probability is a number from 0 to 1.
    #[error("{parameter} must be a number from 0 to 1, found {found}")]
    Probability {
        /// Which one.
        parameter: &'static str,
        /// What was given.
        found: f64,
    },
    /// Not even the frame being clocked out would have room.
    #[error("the queue must hold at least one frame")]
    ZeroQueue,
    /// Longer than [`LinkConfig::MAX_DELAY`].
    #[error("a delay may be at most {max:?}, found {0:?}", max = LinkConfig::MAX_DELAY)]
    DelayTooLong(Duration),
    /// More than [`LinkConfig::MAX_OVERHEAD`].
    #[error("overhead may be at most {max} bytes per frame, found {0}", max = LinkConfig::MAX_OVERHEAD)]
    OverheadTooLarge(usize),
    /// A trace without a value says nothing.
    #[error("a trace of {0} must have a value, and at most {max}", max = LinkConfig::MAX_TRACE)]
    TraceLength(&'static str),
    /// A number that must be above zero.
    #[error("{0} must be above zero")]
    Zero(&'static str),
    /// Pareto's shape is a number above zero.
    #[error("the shape of a Pareto distribution must be a number above zero, found {0}")]
    Shape(f64),
    /// Lengths of a queue of which the first must be below the second.
    #[error("RED needs min_bytes below max_bytes")]
    RedOrder,
    /// RED's weight is a part of one.
    #[error("RED's weight_shift must be 0 to 32, found {0}")]
    RedWeight(u8),
    /// Classes of deficit round robin.
    #[error("deficit round robin needs 1 to 64 classes with weights above zero")]
    Weights,
    /// Queues of flow queueing.
    #[error("flow queueing needs 1 to 65536 queues, found {0}")]
    Flows(u32),
}

impl LinkConfig {
    /// The longest delay: a day, which is farther than any planet.
    pub const MAX_DELAY: Duration = Duration::from_secs(86_400);
    /// The largest overhead a frame can have, in bytes.
    pub const MAX_OVERHEAD: usize = 65_535;
    /// The longest trace.
    pub const MAX_TRACE: usize = 1 << 20;

    /// Says whether the link can be.
    ///
    /// # Errors
    /// The first field that is out of range, as a [`LinkConfigError`].
    pub fn validate(&self) -> Result<(), LinkConfigError> {
        let LinkConfig {
            state: _,
            rate_bps,
            overhead_bytes,
            queue,
            delay,
            jitter,
            loss,
            duplicate,
            reorder,
            corrupt,
            corrupt_undetected,
        } = self;
        if *rate_bps == Some(0) {
            return Err(LinkConfigError::ZeroRate);
        }
        if *overhead_bytes > LinkConfig::MAX_OVERHEAD {
            return Err(LinkConfigError::OverheadTooLarge(*overhead_bytes));
        }
        queue.validate()?;
        within_max(*delay)?;
        jitter.validate()?;
        loss.validate()?;
        probability("duplicate", *duplicate)?;
        probability("reorder", reorder.probability)?;
        above_zero("the gap of reordering", reorder.gap.into())?;
        above_zero("the bits between two errors", corrupt.unwrap_or(1))?;
        above_zero(
            "the bits between two undetected errors",
            corrupt_undetected.unwrap_or(1),
        )
    }

    /// How long a small frame travels when none is before it: what a station may know of its own
    /// medium. Jitter counts as far as it has a usual size.
    pub(crate) fn expected_latency(&self) -> Duration {
        /// The bits of a minimal frame.
        const BITS: u64 = 64 * 8;
        let jitter = match &self.jitter {
            Jitter::None | Jitter::Trace { .. } => Duration::ZERO,
            Jitter::Uniform { amplitude, .. } => *amplitude,
            Jitter::Normal { deviation, .. } => deviation.saturating_mul(3),
            Jitter::Pareto { scale, .. } => *scale,
        };
        let bits = BITS + 8 * self.overhead_bytes as u64;
        let clocked = self.rate_bps.filter(|rate| *rate > 0);
        let clocked = clocked.map_or(0, |rate| bits.saturating_mul(1_000_000_000) / rate);
        let travel = self.delay.saturating_add(jitter);
        travel.saturating_add(Duration::from_nanos(clocked))
    }

    /// True when every frame arrives at the moment it is sent, as it is: there is nothing to
    /// emulate, and a segment that stands for several frames need not be cut.
    pub(crate) fn is_transparent(&self) -> bool {
        // Without `..`: of a new impairment it must be said that frames have to be cut for it.
        let LinkConfig {
            state,
            rate_bps,
            overhead_bytes: _,
            queue,
            delay,
            jitter,
            loss,
            duplicate,
            reorder,
            corrupt,
            corrupt_undetected,
        } = self;
        *state == LinkState::Up
            && rate_bps.is_none()
            && !matches!(queue.discipline, Discipline::TokenBucket { .. })
            && delay.is_zero()
            && *jitter == Jitter::None
            && *loss == Loss::None
            && *duplicate == 0.0
            && reorder.probability == 0.0
            && corrupt.is_none()
            && corrupt_undetected.is_none()
    }
}

impl Default for LinkConfig {
    fn default() -> LinkConfig {
        LinkConfig {
            state: LinkState::Up,
            rate_bps: None,
            overhead_bytes: 0,
            queue: QueueConfig::default(),
            delay: Duration::ZERO,
            jitter: Jitter::None,
            loss: Loss::None,
            duplicate: 0.0,
            reorder: Reorder::default(),
            corrupt: None,
            corrupt_undetected: None,
        }
    }
}

fn probability(parameter: &'static str, found: f64) -> Result<(), LinkConfigError> {
    match (0.0..=1.0).contains(&found) {
        true => Ok(()),
        false => Err(LinkConfigError::Probability { parameter, found }),
    }
}

fn above_zero(what: &'static str, number: u64) -> Result<(), LinkConfigError> {
    match number {
        0 => Err(LinkConfigError::Zero(what)),
        _ => Ok(()),
    }
}

fn within_max(delay: Duration) -> Result<(), LinkConfigError> {
    match delay > LinkConfig::MAX_DELAY {
        true => Err(LinkConfigError::DelayTooLong(delay)),
        false => Ok(()),
    }
}

fn trace(what: &'static str, len: usize) -> Result<(), LinkConfigError> {
    match (1..=LinkConfig::MAX_TRACE).contains(&len) {
        true => Ok(()),
        false => Err(LinkConfigError::TraceLength(what)),
    }
}

/// Whether a link direction carries anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkState {
    /// It loses every frame.
    Down,
    /// It carries frames.
    #[default]
    Up,
}

/// Whether frames may overtake each other because of their jitter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// A frame arrives no earlier than the one before it.
    #[default]
    Kept,
    /// A frame arrives when its own delay is over.
    Free,
}

/// How the delay of frames varies. A delay is never below zero.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Jitter {
    /// It does not.
    #[default]
    None,
    /// By anything from `-amplitude` to `amplitude`, uniformly.
    Uniform {
        /// Half the width of the distribution.
        amplitude: Duration,
        /// Whether frames may overtake each other.
        #[serde(default)]
        order: Order,
    },
    /// By a normal distribution around zero.
    Normal {
        /// Its standard deviation.
        deviation: Duration,
        /// Whether frames may overtake each other.
        #[serde(default)]
        order: Order,
    },
    /// By a Pareto distribution (Lomax, it begins at zero): mostly little, seldom a lot.
    Pareto {
        /// Its scale.
        scale: Duration,
        /// Its shape, above zero: the mean is `scale / (shape - 1)` above 1, and without bound
        /// below.
        shape: f64,
        /// Whether frames may overtake each other.
        #[serde(default)]
        order: Order,
    },
    /// By these values in turn, from the first again after the last.
    Trace {
        /// What is added to the delay.
        delays: Arc<[Duration]>,
        /// Whether frames may overtake each other.
        #[serde(default)]
        order: Order,
    },
}

impl Jitter {
    fn validate(&self) -> Result<(), LinkConfigError> {
        match self {
            Jitter::None => Ok(()),
            Jitter::Uniform { amplitude, .. } => within_max(*amplitude),
            Jitter::Normal { deviation, .. } => within_max(*deviation),
            Jitter::Pareto { scale, shape, .. } => {
                if !(shape.is_finite() && *shape > 0.0) {
                    return Err(LinkConfigError::Shape(*shape));
                }
                within_max(*scale)
            }
            Jitter::Trace { delays, .. } => {
                trace("delays", delays.len())?;
                delays.iter().try_for_each(|delay| within_max(*delay))
            }
        }
    }

    /// Whether frames may overtake each other.
    pub(crate) fn order(&self) -> Order {
        match self {
            Jitter::None => Order::Kept,
            Jitter::Uniform { order, .. }
            | Jitter::Normal { order, .. }
            | Jitter::Pareto { order, .. }
            | Jitter::Trace { order, .. } => *order,
        }
    }
}

/// Which frames are lost.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Loss {
    /// None.
    #[default]
    None,
    /// Each by itself, with this probability (Bernoulli).
    Random(f64),
    /// In bursts, by two states (Gilbert-Elliott). The parameters are those of netem's `gemodel`,
    /// but for `h` and `k` being what is lost and not what is delivered.
    GilbertElliott {
        /// Probability of going from good to bad with each frame.
        p: f64,
        /// Probability of going from bad to good with each frame.
        r: f64,
        /// Probability of loss while good.
        h: f64,
        /// Probability of loss while bad.
        k: f64,
    },
    /// Every so many frames, beginning with the `n`th.
    Every(u64),
    /// By this pattern in turn: `true` is lost.
    Trace(Arc<[bool]>),
}

impl From<f64> for Loss {
    fn from(probability: f64) -> Loss {
        match probability {
            0.0 => Loss::None,
            p => Loss::Random(p),
        }
    }
}

impl Loss {
    fn validate(&self) -> Result<(), LinkConfigError> {
        match self {
            Loss::None => Ok(()),
            Loss::Random(p) => probability("loss", *p),
            Loss::GilbertElliott { p, r, h, k } => {
                probability("loss's p", *p)?;
                probability("loss's r", *r)?;
                probability("loss's h", *h)?;
                probability("loss's k", *k)
            }
            Loss::Every(n) => above_zero("the frames from one loss to the next", *n),
            Loss::Trace(pattern) => trace("losses", pattern.len()),
        }
    }
}

/// Frames that do not wait out the delay, and so overtake others, as netem's `reorder`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reorder {
    /// Probability for each candidate.
    pub probability: f64,
    /// Every how many frames there is a candidate; 1 is all of them.
    pub gap: u32,
}

impl Default for Reorder {
    fn default() -> Reorder {
        Reorder {
            probability: 0.0,
            gap: 1,
        }
    }
}

/// The queue in front of the transmitter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueueConfig {
    /// Who may wait, and who goes first.
    pub discipline: Discipline,
    /// Frames that may wait for the transmitter, the one being clocked out included. Without a
    /// rate nothing ever waits.
    pub limit_frames: usize,
    /// Their bytes; `None` for no limit.
    pub limit_bytes: Option<usize>,
}

impl Default for QueueConfig {
    fn default() -> QueueConfig {
        QueueConfig {
            discipline: Discipline::DropTail,
            limit_frames: 1000,
            limit_bytes: None,
        }
    }
}

impl QueueConfig {
    /// Drop-tail with room for so many frames.
    ///
    /// ```
    /// use vnet::LinkConfig;
    /// use vnet::link::QueueConfig;
    ///
    /// let short = LinkConfig { queue: QueueConfig::frames(50), ..LinkConfig::default() };
    /// assert_eq!(short.queue.limit_frames, 50);
    /// ```
    pub fn frames(limit_frames: usize) -> QueueConfig {
        QueueConfig {
            limit_frames,
            ..QueueConfig::default()
        }
    }

    fn validate(&self) -> Result<(), LinkConfigError> {
        if self.limit_frames == 0 || self.limit_bytes == Some(0) {
            return Err(LinkConfigError::ZeroQueue);
        }
        match &self.discipline {
            Discipline::DropTail | Discipline::StrictPriority => Ok(()),
            Discipline::Red(red) => red.validate(),
            Discipline::Codel(codel) => codel.validate(),
            Discipline::FqCodel(fq) => {
                if !(1..=65_536).contains(&fq.flows) {
                    return Err(LinkConfigError::Flows(fq.flows));
                }
                above_zero("the quantum", fq.quantum.into())?;
                fq.codel.validate()
            }
            Discipline::Drr { weights, quantum } => {
                let some = (1..=64).contains(&weights.len());
                if !some || weights.contains(&0) {
                    return Err(LinkConfigError::Weights);
                }
                above_zero("the quantum", (*quantum).into())
            }
            Discipline::TokenBucket {
                rate_bps,
                burst_bytes,
            } => {
                above_zero("the rate of a token bucket", *rate_bps)?;
                above_zero("the burst of a token bucket", *burst_bytes)
            }
        }
    }
}

/// What a discipline does to a frame that it wants its sender to slow down for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ecn {
    /// Drops it.
    #[default]
    Off,
    /// Marks it if it takes part in ECN (RFC 3168), drops it otherwise.
    Mark,
}

/// Who may wait for the transmitter, and who goes first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Discipline {
    /// First come, first served; who finds the queue full is dropped.
    #[default]
    DropTail,
    /// Random early detection (Floyd and Jacobson 1993): drops or marks with a probability that
    /// grows with the average length of the queue.
    Red(Red),
    /// Controlled delay (RFC 8289).
    Codel(Codel),
    /// Flow queues with controlled delay (RFC 8290).
    FqCodel(FqCodel),
    /// Deficit round robin over classes with weights (Shreedhar and Varghese 1995).
    Drr {
        /// The weight of each class, all above zero, 1 to 64 of them. A frame's class is its
        /// differentiated services field's six bits, modulo the number of classes.
        weights: Arc<[u32]>,
        /// Bytes that a class of weight 1 may send in a round.
        quantum: u32,
    },
    /// Strict priority by the precedence of the differentiated services field (its first three
    /// bits): class selector 7 first.
    StrictPriority,
    /// A token bucket in front of the transmitter.
    TokenBucket {
        /// Bits a second that flow into the bucket.
        rate_bps: u64,
        /// Bytes that the bucket holds: the largest burst.
        burst_bytes: u64,
    },
}

/// Random early detection, in its gentle form.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Red {
    /// Average length in bytes below which nothing is dropped.
    pub min_bytes: u64,
    /// Average length in bytes at which `max_probability` is reached. From there it grows to 1 at
    /// twice this length.
    pub max_bytes: u64,
    /// The probability at `max_bytes`.
    pub max_probability: f64,
    /// The weight of the newest length in the average is 2 to the power of minus this.
    pub weight_shift: u8,
    /// What it does to a frame that it picks.
    pub ecn: Ecn,
}

impl Default for Red {
    fn default() -> Red {
        Red {
            min_bytes: 30_000,
            max_bytes: 90_000,
            max_probability: 0.1,
            weight_shift: 9,
            ecn: Ecn::Off,
        }
    }
}

impl Red {
    fn validate(&self) -> Result<(), LinkConfigError> {
        if self.min_bytes >= self.max_bytes {
            return Err(LinkConfigError::RedOrder);
        }
        if self.weight_shift > 32 {
            return Err(LinkConfigError::RedWeight(self.weight_shift));
        }
        probability("max_probability", self.max_probability)
    }
}

/// The parameters of controlled delay (RFC 8289, section 4).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Codel {
    /// The time in the queue that is acceptable.
    pub target: Duration,
    /// How long it may be exceeded: about the largest round trip.
    pub interval: Duration,
    /// What it does to a frame that it picks.
    pub ecn: Ecn,
}

impl Default for Codel {
    fn default() -> Codel {
        Codel {
            target: Duration::from_millis(5),
            interval: Duration::from_millis(100),
            ecn: Ecn::Off,
        }
    }
}

impl Codel {
    fn validate(&self) -> Result<(), LinkConfigError> {
        within_max(self.target)?;
        within_max(self.interval)?;
        match self.interval.is_zero() {
            true => Err(LinkConfigError::Zero("CoDel's interval")),
            false => Ok(()),
        }
    }
}

/// The parameters of flow queues with controlled delay (RFC 8290, section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FqCodel {
    /// Of each queue.
    pub codel: Codel,
    /// Queues, over which flows are spread by a seeded hash: 1 to 65536.
    pub flows: u32,
    /// Bytes that a queue may send in a round.
    pub quantum: u32,
}

impl Default for FqCodel {
    fn default() -> FqCodel {
        FqCodel {
            codel: Codel {
                ecn: Ecn::Mark,
                ..Codel::default()
            },
            flows: 1024,
            quantum: 1514,
        }
    }
}

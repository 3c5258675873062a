//! The configuration of one direction of a link. It is plain data; the stages implement it.

use crate::packet::cx::Carrier;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::base::config::ConfigError;
use crate::base::time::{Duration, nanos};

/// How one direction of a link behaves. The default delivers every frame immediately.
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
    pub state: Carrier,
    /// The transmitter's rate in bits per second; `None` for no limit.
    pub rate_bps: Option<u64>,
    /// Bytes that each frame occupies on the wire in addition to its own: 24 for Ethernet's preamble, frame
    /// check sequence and interframe gap.
    pub overhead_bytes: usize,
    /// The queue in front of the transmitter.
    pub queue: QueueConfig,
    /// The propagation delay: how long a frame travels after its last bit has been sent.
    pub delay: Duration,
    /// What is added to the delay of each frame.
    pub jitter: Jitter,
    /// Which frames are lost on the wire.
    pub loss: Loss,
    /// Probability that a frame arrives twice.
    pub duplicate: f64,
    /// Which frames overtake earlier ones.
    pub reorder: Reorder,
    /// One bit in this many is flipped on the wire, and the frame check sequence shows it: the frame is lost, as
    /// on Ethernet. `None` for no such errors. This is IMUNES' BER.
    pub corrupt: Option<u64>,
    /// One bit in this many is flipped on the wire, and nothing below the IP layer shows it: the frame arrives
    /// with the flipped bits. `None` for no such errors.
    pub corrupt_undetected: Option<u64>,
}

impl LinkConfig {
    /// The longest delay: a day, longer than the light from any planet takes.
    pub const MAX_DELAY: Duration = Duration::from_secs(86_400);
    /// The largest overhead a frame can have, in bytes.
    pub const MAX_OVERHEAD: usize = 65_535;
    /// The longest trace.
    pub const MAX_TRACE: usize = 1 << 20;

    /// Checks that every parameter is in range.
    ///
    /// # Errors
    /// The first field that is out of range, as a [`ConfigError`].
    pub fn validate(&self) -> Result<(), ConfigError> {
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
            return Err(ConfigError::new(
                "rate_bps",
                "a rate of zero would never deliver; leave the rate out for no limit",
            ));
        }
        if *overhead_bytes > LinkConfig::MAX_OVERHEAD {
            let max = LinkConfig::MAX_OVERHEAD;
            return Err(ConfigError::new(
                "overhead_bytes",
                format!("overhead may be at most {max} bytes per frame, found {overhead_bytes}"),
            ));
        }
        queue.validate()?;
        within_max("delay", *delay)?;
        jitter.validate()?;
        loss.validate()?;
        probability("duplicate", *duplicate)?;
        probability("reorder", reorder.probability)?;
        above_zero("reorder", "the gap of reordering", reorder.gap.into())?;
        above_zero(
            "corrupt",
            "the bits between two errors",
            corrupt.unwrap_or(1),
        )?;
        above_zero(
            "corrupt_undetected",
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
        self.state == Carrier::Up
            && self.rate_bps.is_none()
            && self.delay.is_zero()
            && !self.is_impaired()
    }

    /// True when frames are lost, changed, held up or put out of order, other than by the rate, the delay and the queue
    /// that every link may have.
    pub(super) fn is_impaired(&self) -> bool {
        // Without `..`: of a new impairment it must be said that frames have to be cut for it.
        let LinkConfig {
            state: _,
            rate_bps: _,
            overhead_bytes: _,
            queue,
            delay: _,
            jitter,
            loss,
            duplicate,
            reorder,
            corrupt,
            corrupt_undetected,
        } = self;
        matches!(queue.discipline, Discipline::TokenBucket { .. })
            || *jitter != Jitter::None
            || *loss != Loss::None
            || *duplicate != 0.0
            || reorder.probability != 0.0
            || corrupt.is_some()
            || corrupt_undetected.is_some()
    }
}

impl Default for LinkConfig {
    fn default() -> LinkConfig {
        LinkConfig {
            state: Carrier::Up,
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

fn probability(parameter: &'static str, found: f64) -> Result<(), ConfigError> {
    match (0.0..=1.0).contains(&found) {
        true => Ok(()),
        false => Err(ConfigError::new(
            parameter,
            format!("{parameter} must be a number from 0 to 1, found {found}"),
        )),
    }
}

fn above_zero(setting: &'static str, what: &'static str, number: u64) -> Result<(), ConfigError> {
    match number {
        0 => Err(ConfigError::new(
            setting,
            format!("{what} must be above zero"),
        )),
        _ => Ok(()),
    }
}

fn within_max(setting: &'static str, delay: Duration) -> Result<(), ConfigError> {
    match delay > LinkConfig::MAX_DELAY {
        true => Err(ConfigError::new(
            setting,
            format!(
                "a delay may be at most {:?}, found {delay:?}",
                LinkConfig::MAX_DELAY
            ),
        )),
        false => Ok(()),
    }
}

fn trace(setting: &'static str, what: &'static str, len: usize) -> Result<(), ConfigError> {
    match (1..=LinkConfig::MAX_TRACE).contains(&len) {
        true => Ok(()),
        false => Err(ConfigError::new(
            setting,
            format!(
                "a trace of {what} must have a value, and at most {}",
                LinkConfig::MAX_TRACE
            ),
        )),
    }
}

/// Whether frames may overtake each other because of their jitter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// A frame arrives no earlier than the one before it.
    #[default]
    Kept,
    /// A frame arrives after its own delay, whatever the others' are.
    Free,
}

/// How the delay of frames varies. A delay is never below zero.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Jitter {
    /// It does not.
    #[default]
    None,
    /// Uniformly, from `-amplitude` to `amplitude`.
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
    /// By a Pareto distribution (Lomax, which begins at zero): mostly a little, rarely a lot.
    Pareto {
        /// Its scale.
        scale: Duration,
        /// Its shape, above zero: the mean is `scale / (shape - 1)` for a shape above 1, and infinite otherwise.
        shape: f64,
        /// Whether frames may overtake each other.
        #[serde(default)]
        order: Order,
    },
    /// By these values in turn, starting again after the last one.
    Trace {
        /// What is added to the delay.
        delays: Arc<[Duration]>,
        /// Whether frames may overtake each other.
        #[serde(default)]
        order: Order,
    },
}

impl Jitter {
    fn validate(&self) -> Result<(), ConfigError> {
        match self {
            Jitter::None => Ok(()),
            Jitter::Uniform { amplitude, .. } => within_max("jitter", *amplitude),
            Jitter::Normal { deviation, .. } => within_max("jitter", *deviation),
            Jitter::Pareto { scale, shape, .. } => {
                if !(shape.is_finite() && *shape > 0.0) {
                    return Err(ConfigError::new(
                        "jitter",
                        format!(
                            "the shape of a Pareto distribution must be a number above zero, found {shape}"
                        ),
                    ));
                }
                within_max("jitter", *scale)
            }
            Jitter::Trace { delays, .. } => {
                trace("jitter", "delays", delays.len())?;
                delays
                    .iter()
                    .try_for_each(|delay| within_max("jitter", *delay))
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
    /// Each frame independently, with this probability (Bernoulli).
    Random(f64),
    /// In bursts, by two states (Gilbert-Elliott). The parameters are those of netem's `gemodel`, except that `h`
    /// and `k` are probabilities of loss, not of delivery.
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
    /// Every `n`th frame, beginning with the `n`th.
    Every(u64),
    /// By this pattern, repeated: `true` means lost.
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
    fn validate(&self) -> Result<(), ConfigError> {
        match self {
            Loss::None => Ok(()),
            Loss::Random(p) => probability("loss", *p),
            Loss::GilbertElliott { p, r, h, k } => {
                probability("loss's p", *p)?;
                probability("loss's r", *r)?;
                probability("loss's h", *h)?;
                probability("loss's k", *k)
            }
            Loss::Every(n) => above_zero("loss", "the frames from one loss to the next", *n),
            Loss::Trace(pattern) => trace("loss", "losses", pattern.len()),
        }
    }
}

/// Frames that skip the delay, and so overtake others, like netem's `reorder`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reorder {
    /// Probability for each candidate.
    pub probability: f64,
    /// Every how many frames there is a candidate; 1 makes every frame one.
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
    /// Which frames may wait, and which goes first.
    pub discipline: Discipline,
    /// The number of frames that may wait for the transmitter, including the one being sent. Without a rate no
    /// frame ever waits.
    pub limit_frames: usize,
    /// The number of bytes in the frames that may wait; `None` for no limit.
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
    /// A drop-tail queue of this many frames.
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

    fn validate(&self) -> Result<(), ConfigError> {
        if self.limit_frames == 0 || self.limit_bytes == Some(0) {
            return Err(ConfigError::new(
                "queue",
                "the queue must hold at least one frame",
            ));
        }
        match &self.discipline {
            Discipline::DropTail | Discipline::StrictPriority => Ok(()),
            Discipline::Red(red) => red.validate(),
            Discipline::Codel(codel) => codel.validate(),
            Discipline::FqCodel(fq) => {
                if !(1..=65_536).contains(&fq.flows) {
                    return Err(ConfigError::new(
                        "flows",
                        format!("flow queueing needs 1 to 65536 queues, found {}", fq.flows),
                    ));
                }
                above_zero("quantum", "the quantum", fq.quantum.into())?;
                fq.codel.validate()
            }
            Discipline::Drr { weights, quantum } => {
                let some = (1..=64).contains(&weights.len());
                if !some || weights.contains(&0) {
                    return Err(ConfigError::new(
                        "weights",
                        "deficit round robin needs 1 to 64 classes with weights above zero",
                    ));
                }
                above_zero("quantum", "the quantum", (*quantum).into())
            }
            Discipline::TokenBucket {
                rate_bps,
                burst_bytes,
            } => {
                above_zero("rate_bps", "the rate of a token bucket", *rate_bps)?;
                above_zero("burst_bytes", "the burst of a token bucket", *burst_bytes)
            }
        }
    }
}

/// How a discipline tells a frame's sender to slow down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ecn {
    /// It drops the frame.
    #[default]
    Off,
    /// It marks the frame if it is ECN-capable (RFC 3168), and drops it otherwise.
    Mark,
}

/// Which frames may wait for the transmitter, and which goes first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Discipline {
    /// First come, first served; a frame that finds the queue full is dropped.
    #[default]
    DropTail,
    /// Random early detection (Floyd and Jacobson 1993): frames are dropped or marked with a probability that grows
    /// with the average length of the queue.
    Red(Red),
    /// Controlled delay (RFC 8289).
    Codel(Codel),
    /// Flow queues with controlled delay (RFC 8290).
    FqCodel(FqCodel),
    /// Deficit round robin over classes with weights (Shreedhar and Varghese 1995).
    Drr {
        /// The weights of 1 to 64 classes, all above zero. A frame's class is the value of its differentiated
        /// services field (six bits), modulo the number of classes.
        weights: Arc<[u32]>,
        /// Bytes that a class of weight 1 may send in a round.
        quantum: u32,
    },
    /// Strict priority by the precedence of the differentiated services field (its first three
    /// bits): class selector 7 first.
    StrictPriority,
    /// A token bucket in front of the transmitter.
    TokenBucket {
        /// The rate at which the bucket fills, in bits per second.
        rate_bps: u64,
        /// The size of the bucket in bytes: the largest burst.
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
    /// The weight of the newest length in the average is 2 to the power of minus this number.
    pub weight_shift: u8,
    /// What happens to the frames that it picks.
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
    fn validate(&self) -> Result<(), ConfigError> {
        if self.min_bytes >= self.max_bytes {
            return Err(ConfigError::new(
                "min_bytes",
                "RED needs min_bytes below max_bytes",
            ));
        }
        if self.weight_shift > 32 {
            return Err(ConfigError::new(
                "weight_shift",
                format!(
                    "RED's weight_shift must be 0 to 32, found {}",
                    self.weight_shift
                ),
            ));
        }
        probability("max_probability", self.max_probability)
    }
}

/// The parameters of controlled delay (RFC 8289, section 4).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Codel {
    /// The acceptable time in the queue.
    pub target: Duration,
    /// How long it may be exceeded: about the longest round-trip time.
    pub interval: Duration,
    /// What happens to the frames that it picks.
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
    fn validate(&self) -> Result<(), ConfigError> {
        within_max("target", self.target)?;
        within_max("interval", self.interval)?;
        let interval = nanos(self.interval);
        above_zero("interval", "CoDel's interval", interval)
    }
}

/// The parameters of flow queues with controlled delay (RFC 8290, section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FqCodel {
    /// The parameters of each flow's queue.
    pub codel: Codel,
    /// The number of queues, 1 to 65536, to which a seeded hash assigns the flows.
    pub flows: u32,
    /// Bytes that a queue may send in one round.
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

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
/// use vnet::time::Duration;
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
    /// One bit in so many is flipped on the way; `None` for none. IMUNES' BER.
    pub corrupt: Option<u64>,
}

/// Whether a link direction carries anything.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize,
)]
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

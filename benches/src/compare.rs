//! Alternation and medians: what makes two figures comparable.

use std::fmt;

/// Something that can be measured again and again.
pub trait Side {
    /// Measures once and returns the figure in the case's unit.
    ///
    /// # Errors
    /// When the side does not do what it is measured for: data is lost, wrong, or stuck.
    fn measure(&mut self) -> Result<f64, SideError>;
}

/// A side failed; the text says how.
#[derive(Debug)]
pub struct SideError {
    what: String,
    /// The machine lacks something, which is no fault of either side.
    pub is_skipped: bool,
}

impl SideError {
    /// An error that says `what`.
    pub fn new(what: impl Into<String>) -> SideError {
        SideError {
            what: what.into(),
            is_skipped: false,
        }
    }

    /// This cannot be measured here, for want of a right, a tool or memory; the text says which.
    pub fn skipped(what: impl fmt::Display) -> SideError {
        SideError {
            what: what.to_string(),
            is_skipped: true,
        }
    }

    fn of(self, side: &str) -> SideError {
        SideError {
            what: format!("{side}: {}", self.what),
            ..self
        }
    }
}

impl fmt::Display for SideError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for SideError {}

impl From<std::io::Error> for SideError {
    fn from(e: std::io::Error) -> SideError {
        SideError::new(e.to_string())
    }
}

/// A unit of measurement, and which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Gigabits of payload a second; more is better.
    GbitPerSecond,
    /// Requests answered a second; more is better.
    TransactionsPerSecond,
    /// Lookups a second; more is better.
    LookupsPerSecond,
    /// Datagrams that arrive a second; more is better.
    DatagramsPerSecond,
    /// Frames that are carried over simulated links a second; more is better.
    FramesPerSecond,
    /// Nanoseconds an operation; less is better.
    NanosPerOperation,
    /// Bytes of resident memory each; less is better.
    BytesEach,
}

impl Unit {
    /// The unit as it is printed.
    pub fn name(self) -> &'static str {
        match self {
            Unit::GbitPerSecond => "Gbit/s",
            Unit::TransactionsPerSecond => "transactions/s",
            Unit::LookupsPerSecond => "lookups/s",
            Unit::DatagramsPerSecond => "datagrams/s",
            Unit::FramesPerSecond => "frames/s",
            Unit::NanosPerOperation => "ns/op",
            Unit::BytesEach => "bytes each",
        }
    }

    /// How far `ours` is ahead of `peer`: above 1 when it is better.
    pub fn ratio(self, ours: f64, peer: f64) -> f64 {
        match self {
            Unit::GbitPerSecond
            | Unit::TransactionsPerSecond
            | Unit::LookupsPerSecond
            | Unit::FramesPerSecond
            | Unit::DatagramsPerSecond => ours / peer,
            Unit::NanosPerOperation | Unit::BytesEach => peer / ours,
        }
    }
}

/// The two sides of a case, ready to be measured.
pub struct Contest {
    /// What both are measured in.
    pub unit: Unit,
    /// Vnet.
    pub ours: Box<dyn Side>,
    /// The other one.
    pub peer: Box<dyn Side>,
    /// What the other one is.
    pub peer_name: String,
}

/// The figures of one side.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The least.
    pub min: f64,
    /// The middle one.
    pub median: f64,
    /// The greatest.
    pub max: f64,
}

impl Spread {
    pub(crate) fn of(figures: Vec<f64>) -> Spread {
        Spread {
            min: figures.iter().copied().fold(f64::INFINITY, f64::min),
            max: figures.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            median: median(figures),
        }
    }
}

/// The figures of both sides.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// What both were measured in.
    pub unit: Unit,
    /// Ours.
    pub ours: Spread,
    /// The peer's.
    pub peer: Spread,
    /// What the peer is.
    pub peer_name: String,
}

impl Contest {
    /// Measures both sides `runs` times, in turns, after one unrecorded turn each that warms
    /// caches and windows.
    ///
    /// # Errors
    /// The first error of a side, with the side's name.
    pub fn run(mut self, runs: usize) -> Result<Outcome, SideError> {
        let (mut ours, mut peer) = (Vec::with_capacity(runs), Vec::with_capacity(runs));
        for run in 0..=runs {
            let our_figure = self.ours.measure().map_err(|e| e.of("vnet"))?;
            let peer_figure = self.peer.measure().map_err(|e| e.of(&self.peer_name))?;
            if run > 0 {
                ours.push(our_figure);
                peer.push(peer_figure);
            }
        }
        Ok(Outcome {
            unit: self.unit,
            ours: Spread::of(ours),
            peer: Spread::of(peer),
            peer_name: self.peer_name,
        })
    }
}

/// Measures one side `runs` times, after one unrecorded time, and returns the median.
///
/// # Errors
/// The side's first error.
pub fn run_alone(mut side: Box<dyn Side>, runs: usize) -> Result<f64, SideError> {
    side.measure()?;
    let figures: Result<Vec<f64>, SideError> = (0..runs).map(|_| side.measure()).collect();
    figures.map(median)
}

/// The middle value, or the mean of the two in the middle.
///
/// # Panics
/// When there is no value.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        (values[middle - 1] + values[middle]) / 2.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    struct Script(&'static str, Vec<f64>, Arc<Mutex<String>>);

    impl Side for Script {
        fn measure(&mut self) -> Result<f64, SideError> {
            self.2.lock().unwrap().push_str(self.0);
            self.1.pop().ok_or_else(|| SideError::new("no more"))
        }
    }

    fn contest(ours: Vec<f64>, peer: Vec<f64>) -> (Contest, Arc<Mutex<String>>) {
        let log = Arc::new(Mutex::new(String::new()));
        let contest = Contest {
            unit: Unit::NanosPerOperation,
            ours: Box::new(Script("o", ours, Arc::clone(&log))),
            peer: Box::new(Script("p", peer, Arc::clone(&log))),
            peer_name: "script".into(),
        };
        (contest, log)
    }

    #[test]
    fn sides_take_turns_and_the_first_turn_does_not_count() {
        let (contest, log) = contest(vec![3.0, 1.0, 2.0, 900.0], vec![6.0, 5.0, 4.0, 900.0]);
        let outcome = contest.run(3).unwrap();
        assert_eq!(*log.lock().unwrap(), "opopopop");
        let spread = |s: Spread| [s.min, s.median, s.max];
        assert_eq!(spread(outcome.ours), [1.0, 2.0, 3.0]);
        assert_eq!(spread(outcome.peer), [4.0, 5.0, 6.0]);
        let (ours, peer) = (outcome.ours.median, outcome.peer.median);
        assert_eq!(outcome.unit.ratio(ours, peer), 2.5);
    }

    #[test]
    fn an_error_names_its_side() {
        let (contest, _) = contest(vec![1.0; 9], vec![1.0]);
        assert_eq!(contest.run(3).unwrap_err().to_string(), "script: no more");
    }

    #[test]
    fn medians() {
        assert_eq!(median(vec![9.0, 1.0, 5.0]), 5.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 9.0]), 3.0);
    }
}

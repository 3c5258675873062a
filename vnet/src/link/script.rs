//! Link parameters that change over time by a script, like the event lists of IMUNES. From a point in time on, a
//! parameter follows a function of time, until the next event for the same parameter.
//!
//! | shape | the parameter |
//! |---|---|
//! | [`Shape::Const`] | takes a value and keeps it |
//! | [`Shape::Ramp`] | goes from one value to another in equal steps, and stays there |
//! | [`Shape::Random`] | takes a new value at regular intervals, uniformly between two bounds |
//! | [`Shape::Square`] | alternates between two values at regular intervals |
//!
//! A [`Script`] is data. It tells when its next change is due and applies it to a [`LinkConfig`];
//! [`Vnet::script_link`](crate::Vnet::script_link) calls it in time.

use super::LinkConfig;
use crate::base::config::ConfigError;
use crate::base::rng::Rng;
use crate::base::time::{Duration, Instant, nanos};
use crate::packet::cx::Carrier;

/// How the value of a parameter changes from the start of an event on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape<T> {
    /// It takes this value.
    Const(T),
    /// It goes from `from` to `to` during `over`, with a step every `every`.
    Ramp {
        /// The value at the start.
        from: T,
        /// The value at the end, which it keeps.
        to: T,
        /// How long it takes.
        over: Duration,
        /// The time between two steps.
        every: Duration,
    },
    /// It takes a random value from `low` to `high`, inclusive, at regular intervals.
    Random {
        /// The least value.
        low: T,
        /// The greatest value.
        high: T,
        /// The time between two values.
        every: Duration,
    },
    /// It alternates between `first` and `second`.
    Square {
        /// The value at the start.
        first: T,
        /// The other value.
        second: T,
        /// How long it keeps each value: half a period.
        every: Duration,
    },
}

/// What an event changes in one direction of a link.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Change {
    /// [`LinkConfig::state`]: whether the link carries frames.
    State(Shape<Carrier>),
    /// [`LinkConfig::rate_bps`]: bits per second.
    Rate(Shape<u64>),
    /// [`LinkConfig::delay`].
    Delay(Shape<Duration>),
    /// [`LinkConfig::loss`]: the probability for each frame, independently.
    Loss(Shape<f64>),
    /// [`LinkConfig::duplicate`]: a probability.
    Duplicate(Shape<f64>),
    /// [`LinkConfig::corrupt`]: one error in this many bits.
    Corrupt(Shape<u64>),
    /// [`QueueConfig::limit_frames`](super::QueueConfig::limit_frames): frames that may wait for the transmitter.
    QueueFrames(Shape<u64>),
    /// [`LinkConfig::corrupt_undetected`]: one error in this many bits.
    CorruptUndetected(Shape<u64>),
}

macro_rules! parameters {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)+) => {
        /// A parameter that a script can change.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        enum Parameter { $($(#[doc = $doc])+ $name,)+ }

        impl Parameter {
            /// The word for it in topologies and messages.
            const fn as_str(self) -> &'static str {
                match self { $(Parameter::$name => $text,)+ }
            }
        }

        impl Change {
            const fn kind(&self) -> Parameter {
                match self { $(Change::$name(_) => Parameter::$name,)+ }
            }

            /// The name of the parameter that it changes, as in a topology.
            pub const fn parameter(&self) -> &'static str {
                self.kind().as_str()
            }

            /// From one step to the next; `None` when there is one step only.
            fn every(&self) -> Option<Duration> {
                match self { $(Change::$name(shape) => shape.every(),)+ }
            }

            /// How long it takes, when it is a ramp.
            fn over(&self) -> Option<Duration> {
                match self { $(Change::$name(shape) => shape.over(),)+ }
            }

            /// The number of its steps; `None` when they never end.
            fn steps(&self) -> Option<u64> {
                match self { $(Change::$name(shape) => shape.steps(),)+ }
            }

            fn is_ordered(&self) -> bool {
                match self { $(Change::$name(shape) => shape.is_ordered(),)+ }
            }

            /// The changes to each of the values that the shape is bounded by.
            fn bounds(&self) -> [Change; 2] {
                match self {
                    $(Change::$name(shape) => shape.bounds().map(|v| Change::$name(Shape::Const(v))),)+
                }
            }
        }
    };
}

parameters! {
    /// Up or down.
    State = "state",
    /// Bits a second.
    Rate = "rate",
    /// Time of travel.
    Delay = "delay",
    /// Probability of loss.
    Loss = "loss",
    /// Probability of duplication.
    Duplicate = "duplicate",
    /// One error in so many bits.
    Corrupt = "corrupt",
    /// Frames that may wait.
    QueueFrames = "queue",
    /// One undetected error in so many bits.
    CorruptUndetected = "corrupt_undetected",
}

/// A kind of value that can be between two others.
pub trait Between: Copy + PartialOrd {
    /// The value `part` of `whole` on the way from `from` to `to`. `part` is at most `whole`.
    fn between(from: Self, to: Self, part: u64, whole: u64) -> Self;

    /// A value from `low` to `high`, uniformly.
    fn draw(low: Self, high: Self, rng: &mut Rng) -> Self;
}

impl Between for u64 {
    fn between(from: u64, to: u64, part: u64, whole: u64) -> u64 {
        let way = from.abs_diff(to);
        let gone = u128::from(way) * u128::from(part) / u128::from(whole.max(1));
        // At most `way`, which is a `u64`.
        let gone = gone as u64;
        match from <= to {
            true => from + gone,
            false => from - gone,
        }
    }

    fn draw(low: u64, high: u64, rng: &mut Rng) -> u64 {
        let values = u128::from(high.saturating_sub(low)) + 1;
        low + ((u128::from(rng.u64()) * values) >> 64) as u64
    }
}

impl Between for Duration {
    fn between(from: Duration, to: Duration, part: u64, whole: u64) -> Duration {
        Duration::from_nanos(u64::between(nanos(from), nanos(to), part, whole))
    }

    fn draw(low: Duration, high: Duration, rng: &mut Rng) -> Duration {
        Duration::from_nanos(u64::draw(nanos(low), nanos(high), rng))
    }
}

impl Between for f64 {
    fn between(from: f64, to: f64, part: u64, whole: u64) -> f64 {
        match part >= whole {
            true => to,
            false => from + (to - from) * (part as f64 / whole as f64),
        }
    }

    fn draw(low: f64, high: f64, rng: &mut Rng) -> f64 {
        low + (high - low) * rng.unit()
    }
}

/// There is nothing between up and down: a ramp changes at its end.
impl Between for Carrier {
    fn between(from: Carrier, to: Carrier, part: u64, whole: u64) -> Carrier {
        match part >= whole {
            true => to,
            false => from,
        }
    }

    fn draw(low: Carrier, high: Carrier, rng: &mut Rng) -> Carrier {
        match rng.chance(0.5) {
            true => low,
            false => high,
        }
    }
}

impl<T: Between> Shape<T> {
    fn every(&self) -> Option<Duration> {
        match self {
            Shape::Const(_) => None,
            Shape::Ramp { every, .. }
            | Shape::Random { every, .. }
            | Shape::Square { every, .. } => Some(*every),
        }
    }

    fn over(&self) -> Option<Duration> {
        match self {
            Shape::Ramp { over, .. } => Some(*over),
            _ => None,
        }
    }

    fn steps(&self) -> Option<u64> {
        match self {
            Shape::Const(_) => Some(1),
            Shape::Ramp { over, every, .. } => {
                Some(nanos(*over).div_ceil(nanos(*every).max(1)) + 1)
            }
            Shape::Random { .. } | Shape::Square { .. } => None,
        }
    }

    fn is_ordered(&self) -> bool {
        match self {
            Shape::Random { low, high, .. } => low <= high,
            _ => true,
        }
    }

    fn bounds(&self) -> [T; 2] {
        match *self {
            Shape::Const(value) => [value, value],
            Shape::Ramp { from, to, .. } => [from, to],
            Shape::Random { low, high, .. } => [low, high],
            Shape::Square { first, second, .. } => [first, second],
        }
    }

    /// The value of the `step`th step.
    fn value(&self, step: u64, rng: &mut Rng) -> T {
        match *self {
            Shape::Const(value) => value,
            Shape::Ramp {
                from,
                to,
                over,
                every,
            } => {
                let whole = nanos(over);
                let part = nanos(every).saturating_mul(step).min(whole);
                match whole {
                    0 => to,
                    _ => T::between(from, to, part, whole),
                }
            }
            Shape::Random { low, high, .. } => T::draw(low, high, rng),
            Shape::Square { first, second, .. } => match step % 2 {
                0 => first,
                _ => second,
            },
        }
    }
}

impl Change {
    /// The shortest interval between two changes of one parameter.
    pub const MIN_INTERVAL: Duration = Duration::from_micros(1);

    /// Does the `step`th step to a link's configuration.
    fn apply(&self, step: u64, rng: &mut Rng, config: &mut LinkConfig) {
        match self {
            Change::State(shape) => config.state = shape.value(step, rng),
            Change::Rate(shape) => config.rate_bps = Some(shape.value(step, rng)),
            Change::Delay(shape) => config.delay = shape.value(step, rng),
            Change::Loss(shape) => config.loss = shape.value(step, rng).into(),
            Change::Duplicate(shape) => config.duplicate = shape.value(step, rng),
            Change::Corrupt(shape) => config.corrupt = Some(shape.value(step, rng)),
            Change::CorruptUndetected(shape) => {
                config.corrupt_undetected = Some(shape.value(step, rng));
            }
            Change::QueueFrames(shape) => {
                let frames = shape.value(step, rng);
                config.queue.limit_frames = usize::try_from(frames).unwrap_or(usize::MAX);
            }
        }
    }

    /// Checks that the change is possible.
    ///
    /// # Errors
    /// Steps less than [`Change::MIN_INTERVAL`] apart, bounds in the wrong order, or values that are out of range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let parameter = self.parameter();
        match self.every() {
            // Steps closer than that would leave no time for anything else.
            Some(every) if every < Change::MIN_INTERVAL => {
                return Err(ConfigError::new(
                    parameter,
                    format!(
                        "a parameter may change at most once every {:?}, found {every:?}",
                        Change::MIN_INTERVAL
                    ),
                ));
            }
            _ => {}
        }
        if !self.is_ordered() {
            return Err(ConfigError::new(
                parameter,
                format!("the bounds for random values of the {parameter} are in the wrong order"),
            ));
        }
        // Between two values that a link takes there is none that it does not take.
        for bound in self.bounds() {
            let mut config = LinkConfig::default();
            bound.apply(0, &mut Rng::seeded(0), &mut config);
            config.validate().map_err(|e| {
                ConfigError::new(
                    parameter,
                    format!("a value of the {parameter} is not valid for a link: {e}"),
                )
            })?;
        }
        Ok(())
    }
}

/// The events of one link direction while they happen.
#[derive(Debug)]
pub(crate) struct Script {
    /// Events that have not begun, the next one last.
    to_come: Vec<(Instant, Change)>,
    /// Those that go on, in the order in which they began.
    going_on: Vec<Track>,
    rng: Rng,
}

/// An event that goes on.
#[derive(Debug)]
struct Track {
    change: Change,
    began: Instant,
    /// The step that comes next.
    step: u64,
    rng: Rng,
}

impl Track {
    fn next(&self) -> Option<Instant> {
        if self.change.steps().is_some_and(|steps| self.step >= steps) {
            return None;
        }
        let every = self.change.every().unwrap_or_default();
        let after = nanos(every).saturating_mul(self.step);
        let at = self.began + Duration::from_nanos(after);
        // A ramp is over when it says, even if its last step is a short one.
        Some(match self.change.over() {
            Some(over) => at.min(self.began + over),
            None => at,
        })
    }
}

impl Script {
    /// A script that starts at `start`, with random values from `seed`. Events may be given in any
    /// order; of several for one parameter at one time the last one counts.
    ///
    /// # Errors
    /// Values that a link does not take, or changes that follow each other too closely.
    pub(crate) fn new(
        events: &[(Duration, Change)],
        start: Instant,
        seed: u64,
    ) -> Result<Script, ConfigError> {
        for (_, change) in events {
            change.validate()?;
        }
        let mut to_come: Vec<_> = events
            .iter()
            .map(|(at, change)| (start + *at, *change))
            .collect();
        to_come.sort_by_key(|(at, _)| *at);
        to_come.reverse();
        Ok(Script {
            to_come,
            going_on: Vec::new(),
            rng: Rng::seeded(seed),
        })
    }

    /// When [`Script::advance`] has something to do; `None` when the script is over.
    #[allow(clippy::should_implement_trait)] // It is a deadline, as everywhere here.
    pub(crate) fn next(&self) -> Option<Instant> {
        let begins = self.to_come.last().map(|(at, _)| *at);
        let goes_on = self.going_on.iter().filter_map(Track::next).min();
        match (begins, goes_on) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Does what is due at `now`. When `now` is past several steps of one event, the last of them
    /// counts.
    pub(crate) fn advance(&mut self, now: Instant, config: &mut LinkConfig) {
        while self.to_come.last().is_some_and(|(at, _)| *at <= now) {
            let (began, change) = self.to_come.pop().expect("there is a last one");
            let parameter = change.kind();
            self.going_on.retain(|t| t.change.kind() != parameter);
            // Each parameter draws from a stream of its own.
            let rng = self.rng.split(parameter as u64 + 1);
            self.going_on.push(Track {
                change,
                began,
                step: 0,
                rng,
            });
        }
        for track in &mut self.going_on {
            while let Some(at) = track.next()
                && at <= now
            {
                track.catch_up(now);
                track.change.apply(track.step, &mut track.rng, config);
                track.step += 1;
            }
        }
        self.going_on.retain(|t| t.next().is_some());
    }
}

impl Track {
    /// Leaves out steps that are over: the clock may jump.
    fn catch_up(&mut self, now: Instant) {
        let every = nanos(self.change.every().unwrap_or_default());
        if every == 0 {
            return;
        }
        let due = (now - self.began).as_nanos() as u64 / every;
        let last = self.change.steps().map_or(u64::MAX, |steps| steps - 1);
        self.step = self.step.max(due.min(last));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64, change: Change) -> (Duration, Change) {
        (Duration::from_secs(secs), change)
    }

    /// Times in seconds and what `f` says of the configuration after each step.
    fn run<T>(
        events: &[(Duration, Change)],
        until: u64,
        f: impl Fn(&LinkConfig) -> T,
    ) -> Vec<(u64, T)> {
        let mut script = Script::new(events, Instant::ZERO, 7).expect("a valid script");
        let mut config = LinkConfig::default();
        let mut seen = Vec::new();
        while let Some(next) = script.next() {
            let second = next.as_nanos() / 1_000_000_000;
            if second > until {
                break;
            }
            script.advance(next, &mut config);
            seen.push((second, f(&config)));
        }
        seen
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_ramp_arrives_on_time_even_if_its_last_step_is_short() {
        let ramp = |from, to| Shape::Ramp {
            from,
            to,
            over: Duration::from_secs(5),
            every: 2 * SECOND,
        };
        let seen = run(&[at(1, Change::Rate(ramp(10, 60)))], 99, |c| c.rate_bps);
        assert_eq!(
            seen,
            [(1, Some(10)), (3, Some(30)), (5, Some(50)), (6, Some(60))]
        );
        let down = run(&[at(0, Change::Rate(ramp(60, 10)))], 99, |c| c.rate_bps);
        assert_eq!(down.last(), Some(&(5, Some(10))));
    }

    #[test]
    fn a_later_event_of_the_same_parameter_ends_an_earlier_one() {
        let square = Shape::Square {
            first: Duration::ZERO,
            second: SECOND,
            every: SECOND,
        };
        let events = [
            at(3, Change::Delay(Shape::Const(5 * SECOND))),
            at(0, Change::Delay(square)),
            at(2, Change::Loss(Shape::Const(0.5))),
        ];
        let seen = run(&events, 99, |c| c.delay.as_secs());
        assert_eq!(seen, [(0, 0), (1, 1), (2, 0), (3, 5)]);
    }

    #[test]
    fn random_values_keep_within_bounds_and_follow_the_seed() {
        let random = Shape::Random {
            low: 10,
            high: 12,
            every: SECOND,
        };
        let events = [at(0, Change::Rate(random))];
        let seen = run(&events, 200, |c| c.rate_bps.expect("set by the script"));
        assert!(seen.iter().all(|(_, rate)| (10..=12).contains(rate)));
        for value in 10..=12 {
            assert!(seen.iter().any(|(_, rate)| *rate == value), "{value}");
        }
        assert_eq!(seen, run(&events, 200, |c| c.rate_bps.unwrap_or(0)));
        // Another parameter's script leaves the draws as they were.
        let loss = Shape::Random {
            low: 0.0,
            high: 0.1,
            every: SECOND,
        };
        let both = [events[0], at(500, Change::Loss(loss))];
        assert_eq!(seen, run(&both, 200, |c| c.rate_bps.unwrap_or(0)));
    }

    #[test]
    fn a_clock_that_jumps_is_caught_up_with() {
        let square = Shape::Square {
            first: 1,
            second: 2,
            every: Change::MIN_INTERVAL,
        };
        let events = [at(0, Change::Rate(square))];
        let mut script = Script::new(&events, Instant::ZERO, 1).expect("a valid script");
        let mut config = LinkConfig::default();
        let year = Instant::from_nanos(365 * 86_400 * 1_000_000_000);
        script.advance(year, &mut config);
        assert_eq!(config.rate_bps, Some(1), "an even number of steps");
        assert_eq!(script.next(), Some(year + Change::MIN_INTERVAL));
    }

    #[test]
    fn nonsense_is_refused() {
        let error = |change| Script::new(&[at(0, change)], Instant::ZERO, 1).map(drop);
        let every = Duration::from_nanos(1);
        let square = Shape::Square {
            first: 1,
            second: 2,
            every,
        };
        let too_often = error(Change::Rate(square)).expect_err("every nanosecond");
        assert!(
            too_often.message.contains("at most once every"),
            "{too_often}"
        );
        let random = Shape::Random {
            low: 0.2,
            high: 0.1,
            every: SECOND,
        };
        let bounds = error(Change::Loss(random)).expect_err("the lower one is above the upper one");
        assert!(bounds.message.contains("in the wrong order"), "{bounds}");
        for bad in [
            Change::Loss(Shape::Const(1.5)),
            Change::Rate(Shape::Const(0)),
            Change::QueueFrames(Shape::Const(0)),
        ] {
            let refused = error(bad).expect_err("no link takes it");
            assert_eq!(refused.setting, bad.parameter());
        }
    }
}

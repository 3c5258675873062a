//! What changes over time: `[[event]]`.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;
use vnet::Carrier;
use vnet::link::{Change, Shape};

use super::link;
use crate::file::name::{interface_name, node_name};
use crate::file::source::Problems;
use crate::file::table::{Table, Value, as_array, as_integer, as_string, checked};
use crate::file::units;
use crate::quantity;

/// Something that changes at a link.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Where.
    pub target: Spanned<EventTarget>,
    /// When, from the start of the run, and what.
    pub event: (Duration, Change),
}

/// What an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventTarget {
    /// Both directions of the link of that name.
    Link(String),
    /// What an interface of a node sends.
    Interface(String, String),
}

impl fmt::Display for EventTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EventTarget::Link(name) => f.write_str(name),
            EventTarget::Interface(node, interface) => write!(f, "{node}:{interface}"),
        }
    }
}

impl Event {
    /// What changes, in words such as `rate 10.0 Mbit/s`.
    pub fn in_words(&self) -> String {
        let change = &self.event.1;
        let percent = |part: f64| format!("{} %", (part * 1e14).round() / 1e12);
        let errors = |bits: u64| format!("1 bit in {}", quantity::count(bits));
        let to = match change {
            Change::State(shape) => moves(shape, |state| match state {
                Carrier::Up => "up".to_owned(),
                Carrier::Down => "down".to_owned(),
            }),
            Change::Rate(shape) => moves(shape, quantity::rate),
            Change::Delay(shape) => moves(shape, quantity::time),
            Change::Loss(shape) | Change::Duplicate(shape) => moves(shape, percent),
            Change::Corrupt(shape) | Change::CorruptUndetected(shape) => moves(shape, errors),
            Change::QueueFrames(shape) => moves(shape, |n| quantity::counted(n, "frame")),
            _ => String::new(),
        };
        format!("{} {to}", change.parameter())
    }
}

/// How a value moves, in words.
fn moves<T: Copy>(shape: &Shape<T>, value: impl Fn(T) -> String) -> String {
    match *shape {
        Shape::Const(to) => value(to),
        Shape::Ramp {
            from,
            to,
            over,
            every,
        } => {
            let (from, to) = (value(from), value(to));
            format!("from {from} to {to} over {over:?}, in steps of {every:?}")
        }
        Shape::Random { low, high, every } => {
            let (low, high) = (value(low), value(high));
            format!("between {low} and {high} at random, every {every:?}")
        }
        Shape::Square {
            first,
            second,
            every,
        } => {
            let (first, second) = (value(first), value(second));
            format!("{first} and {second} in turn, every {every:?}")
        }
    }
}

const PARAMETERS: [&str; 8] = [
    "state",
    "rate",
    "delay",
    "loss",
    "duplicate",
    "corrupt",
    "corrupt_undetected",
    "queue",
];

/// The name of a link.
pub(super) fn link_name(text: &str) -> Result<String, String> {
    node_name(text).map_err(|_| {
        format!(
            "expected a link's name: 1 to 63 letters, digits, `-` and `_`, starting with a letter \
             or digit; found \"{text}\""
        )
    })
}

/// Reads one element of `event`.
pub(super) fn read(value: Value<'_>, problems: &mut Problems<'_>) -> Option<Event> {
    let mut table = Table::of("event", value, problems)?;
    let at = table.read("at", units::duration, problems);
    let target = table.read("link", target, problems);
    for (key, expected) in [
        ("at", "a time such as \"5s\""),
        ("link", "a link's name, or \"NODE:INTERFACE\""),
    ] {
        if table.key_span(key).is_none() {
            table.missing(key, expected, problems);
        }
    }
    let parameter = table.only_one(&PARAMETERS, "", problems);
    table.finish(problems);
    let (key, value) = parameter?;
    let change = match key {
        "state" => Change::State(shape(key, value, problems, text(key, link::state))?),
        "rate" => Change::Rate(shape(key, value, problems, text(key, units::rate))?),
        "delay" => Change::Delay(shape(key, value, problems, text(key, link::delay))?),
        "loss" => Change::Loss(shape(key, value, problems, text(key, units::percentage))?),
        "duplicate" => {
            Change::Duplicate(shape(key, value, problems, text(key, units::percentage))?)
        }
        "corrupt" => Change::Corrupt(shape(key, value, problems, number(key, link::BITS))?),
        "corrupt_undetected" => {
            Change::CorruptUndetected(shape(key, value, problems, number(key, link::BITS))?)
        }
        _ => Change::QueueFrames(shape(key, value, problems, number(key, link::FRAMES))?),
    };
    let event = (at?.into_inner(), change);
    // What the single values do not show: bounds in the wrong order, steps that are too short.
    if let Err(error) = event.1.validate() {
        problems.push(value.span(), error.to_string());
        return None;
    }
    Some(Event {
        target: target?,
        event,
    })
}

fn target(text: &str) -> Result<EventTarget, String> {
    match text.split_once(':') {
        Some((node, interface)) => Ok(EventTarget::Interface(
            node_name(node)?,
            interface_name(interface)?,
        )),
        None => Ok(EventTarget::Link(link_name(text)?)),
    }
}

/// Reads values with a unit, or that are words.
fn text<T>(
    key: &str,
    read: impl Fn(&str) -> Result<T, String>,
) -> impl Fn(Value<'_>, &mut Problems<'_>) -> Option<T> {
    let what = format!("`{key}`");
    move |value, problems| {
        let text = as_string(value, &what, problems)?;
        checked(text, &read, problems).map(Spanned::into_inner)
    }
}

/// Reads numbers without a unit.
fn number(
    key: &str,
    range: RangeInclusive<u64>,
) -> impl Fn(Value<'_>, &mut Problems<'_>) -> Option<u64> {
    move |value, problems| as_integer(key, value, range.clone(), problems).map(Spanned::into_inner)
}

/// A value, or a table that says how it moves.
fn shape<T: Copy>(
    key: &'static str,
    value: Value<'_>,
    problems: &mut Problems<'_>,
    read: impl Fn(Value<'_>, &mut Problems<'_>) -> Option<T>,
) -> Option<Shape<T>> {
    if !matches!(value.get_ref(), DeValue::Table(_)) {
        return read(value, problems).map(Shape::Const);
    }
    let mut table = Table::of(format!("`{key}`"), value, problems)?;
    let over = table.read("over", link::delay, problems);
    let every = table.read("every", interval, problems);
    let moved = table.only_one(&["ramp", "random", "square"], "", problems);
    if table.key_span("every").is_none() {
        table.missing("every", "a time such as \"1s\"", problems);
    }
    let is_ramp = moved.is_some_and(|(how, _)| how == "ramp");
    match is_ramp {
        true if table.key_span("over").is_none() => {
            table.missing("over", "a time such as \"10s\"", problems);
        }
        false if moved.is_some() => link::belongs_to("ramp", &["over"], &table, problems),
        _ => {}
    }
    table.finish(problems);
    let (how, pair) = moved?;
    let [first, second] = two(how, pair, problems, read)?;
    let every = every?.into_inner();
    Some(match how {
        "ramp" => Shape::Ramp {
            from: first,
            to: second,
            over: over?.into_inner(),
            every,
        },
        "random" => Shape::Random {
            low: first,
            high: second,
            every,
        },
        _ => Shape::Square {
            first,
            second,
            every,
        },
    })
}

fn interval(text: &str) -> Result<Duration, String> {
    let every = link::delay(text)?;
    match every < Change::MIN_INTERVAL {
        true => Err(format!(
            "expected at least {:?}, found \"{text}\"",
            Change::MIN_INTERVAL
        )),
        false => Ok(every),
    }
}

fn two<T: Copy>(
    key: &str,
    value: Value<'_>,
    problems: &mut Problems<'_>,
    read: impl Fn(Value<'_>, &mut Problems<'_>) -> Option<T>,
) -> Option<[T; 2]> {
    let items = as_array(key, value, problems)?;
    let values: Vec<Option<T>> = items.map(|item| read(item, problems)).collect();
    let Ok([first, second]) = <[Option<T>; 2]>::try_from(values) else {
        problems.push(value.span(), format!("expected two values for `{key}`"));
        return None;
    };
    Some([first?, second?])
}

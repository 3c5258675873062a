//! What changes over time: `[[event]]`.

use toml::Spanned;
use toml::de::DeValue;
use vnet::link::script::{Change, LinkEvent, MIN_INTERVAL, Script, Shape};
use vnet::time::{Duration, Instant};

use super::end::{interface_name, node_name};
use super::link::{self, all, only_one};
use super::source::Problems;
use super::table::{Table, Value, as_string, kind};
use super::units;

/// Something that changes at a link.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Where.
    pub target: Spanned<EventTarget>,
    /// When, from the start of the run, and what.
    pub event: LinkEvent,
}

/// What an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventTarget {
    /// Both directions of the link of that name.
    Link(String),
    /// What an interface of a node sends.
    Interface(String, String),
}

const PARAMETERS: [&str; 7] = [
    "state",
    "rate",
    "delay",
    "loss",
    "duplicate",
    "corrupt",
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
    let parameter = only_one(&mut table, &PARAMETERS, problems);
    table.finish(problems);
    let (key, value) = parameter?;
    let change = match key {
        "state" => Change::State(shape(key, value, problems, link::state)?),
        "rate" => Change::Rate(shape(key, value, problems, units::rate)?),
        "delay" => Change::Delay(shape(key, value, problems, link::delay)?),
        "loss" => Change::Loss(shape(key, value, problems, units::percentage)?),
        "duplicate" => Change::Duplicate(shape(key, value, problems, units::percentage)?),
        "corrupt" => Change::Corrupt(shape(key, value, problems, bits)?),
        _ => Change::QueueFrames(shape(key, value, problems, frames)?),
    };
    let event = LinkEvent {
        at: at?.into_inner(),
        change,
    };
    // What the single values do not show: bounds in the wrong order, steps that are too short.
    if let Err(error) = Script::new(&[event], Instant::ZERO, 0) {
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

fn bits(text: &str) -> Result<u64, String> {
    count(text, *link::BITS.end())
}

fn frames(text: &str) -> Result<u64, String> {
    count(text, 1_000_000)
}

fn count(text: &str, most: u64) -> Result<u64, String> {
    let number = text.parse().ok().filter(|n| (1..=most).contains(n));
    number.ok_or_else(|| format!("expected a number from 1 to {most}, found \"{text}\""))
}

/// A value, or a table that says how it moves.
fn shape<T: Copy>(
    key: &'static str,
    value: Value<'_>,
    problems: &mut Problems<'_>,
    read: impl Fn(&str) -> Result<T, String>,
) -> Option<Shape<T>> {
    let mut noted = |place, message| {
        problems.push(place, message);
        None
    };
    match value.get_ref() {
        DeValue::String(text) => match read(text) {
            Ok(value) => return Some(Shape::Const(value)),
            Err(message) => return noted(value.span(), message),
        },
        // Numbers without a unit.
        DeValue::Integer(n) => match read(n.as_str()) {
            Ok(value) => return Some(Shape::Const(value)),
            Err(message) => return noted(value.span(), message),
        },
        DeValue::Table(_) => {}
        other => {
            let found = kind(other);
            let message = format!("expected a value or a table for `{key}`, found {found}");
            return noted(value.span(), message);
        }
    }
    let mut table = Table::of(format!("`{key}`"), value, problems)?;
    let over = table.read("over", link::delay, problems);
    let every = table.read("every", interval, problems);
    let moved = only_one(&mut table, &["ramp", "random", "square"], problems);
    if table.key_span("every").is_none() {
        table.missing("every", "a time such as \"1s\"", problems);
    }
    let is_ramp = moved.is_some_and(|(how, _)| how == "ramp");
    match table.key_span("over") {
        None if is_ramp => table.missing("over", "a time such as \"10s\"", problems),
        Some(place) if moved.is_some() && !is_ramp => {
            problems.push(place, "expected `over` with `ramp` only");
        }
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
    match every < MIN_INTERVAL {
        true => Err(format!(
            "expected at least {MIN_INTERVAL:?}, found \"{text}\""
        )),
        false => Ok(every),
    }
}

fn two<T: Copy>(
    key: &str,
    value: Value<'_>,
    problems: &mut Problems<'_>,
    read: impl Fn(&str) -> Result<T, String>,
) -> Option<[T; 2]> {
    let values = match value.get_ref() {
        DeValue::Array(items)
            if items
                .iter()
                .any(|i| matches!(i.get_ref(), DeValue::Integer(_))) =>
        {
            numbers(items, problems, read)?
        }
        _ => {
            let read = all(key, value, problems, read)?;
            read.into_iter().map(Spanned::into_inner).collect()
        }
    };
    let two = <[T; 2]>::try_from(values);
    if two.is_err() {
        problems.push(value.span(), format!("expected two values for `{key}`"));
    }
    two.ok()
}

fn numbers<T>(
    items: &[Spanned<DeValue<'_>>],
    problems: &mut Problems<'_>,
    read: impl Fn(&str) -> Result<T, String>,
) -> Option<Vec<T>> {
    let mut values = Vec::new();
    for item in items {
        let read = match item.get_ref() {
            DeValue::Integer(n) => read(n.as_str()),
            _ => read(as_string(item, "each value", problems)?.get_ref()),
        };
        match read {
            Ok(value) => values.push(value),
            Err(message) => {
                problems.push(item.span(), message);
                return None;
            }
        }
    }
    Some(values)
}

//! What happens to frames in one direction of a link, key by key. Short forms are strings and
//! numbers, long forms are tables.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;
use vnet::link::{Codel, Discipline, Ecn, FqCodel, Jitter, Loss, Order, QueueConfig, Red, Reorder};
use vnet::{Carrier, LinkConfig};

use crate::file::source::Problems;
use crate::file::table::{Table, Value, as_array, as_integer, as_string, checked, kind};
use crate::file::units;

/// Frames that a queue may hold.
pub(super) const FRAMES: RangeInclusive<u64> = 1..=1_000_000;
/// Bits from one error to the next, as IMUNES has it.
pub(super) const BITS: RangeInclusive<u64> = 1..=10_000_000_000_000;

/// Reads what is said of one direction alone, beside what is said of both.
pub(super) fn direction(
    table: &mut Table<'_>,
    key: &'static str,
    both: &LinkConfig,
    problems: &mut Problems<'_>,
) -> LinkConfig {
    let Some(value) = table.value(key) else {
        return both.clone();
    };
    let Some(mut table) = Table::of(format!("`{key}`"), value, problems) else {
        return both.clone();
    };
    let own = read(&mut table, both, problems);
    table.finish(problems);
    own
}

/// Reads the keys that say how a direction behaves; what is left out is as in `default`.
pub(super) fn read(
    table: &mut Table<'_>,
    default: &LinkConfig,
    problems: &mut Problems<'_>,
) -> LinkConfig {
    let mut config = default.clone();
    if let Some(up) = table.read("state", state, problems) {
        config.state = up.into_inner();
    }
    if let Some(rate) = table.read("rate", units::rate, problems) {
        config.rate_bps = Some(rate.into_inner());
    }
    if let Some(overhead) = table.integer("overhead", 0..=65_535, problems) {
        config.overhead_bytes = overhead.into_inner() as usize;
    }
    if let Some(delay) = table.read("delay", delay, problems) {
        config.delay = delay.into_inner();
    }
    if let Some(value) = table.value("jitter") {
        config.jitter = jitter(value, problems).unwrap_or_default();
    }
    if let Some(value) = table.value("loss") {
        config.loss = loss(value, problems).unwrap_or_default();
    }
    if let Some(duplicate) = table.read("duplicate", units::percentage, problems) {
        config.duplicate = duplicate.into_inner();
    }
    if let Some(value) = table.value("reorder") {
        config.reorder = reorder(value, problems).unwrap_or_default();
    }
    if let Some(bits) = table.integer("corrupt", BITS, problems) {
        config.corrupt = Some(bits.into_inner());
    }
    if let Some(bits) = table.integer("corrupt_undetected", BITS, problems) {
        config.corrupt_undetected = Some(bits.into_inner());
    }
    if let Some(value) = table.value("queue") {
        config.queue = queue(value, problems).unwrap_or_default();
    }
    config
}

pub(super) fn state(text: &str) -> Result<Carrier, String> {
    match text {
        "up" => Ok(Carrier::Up),
        "down" => Ok(Carrier::Down),
        _ => Err(format!("expected \"up\" or \"down\", found \"{text}\"")),
    }
}

/// A time that a frame may travel.
pub(super) fn delay(text: &str) -> Result<Duration, String> {
    let delay = units::duration(text)?;
    match delay > LinkConfig::MAX_DELAY {
        true => Err(format!("expected a day at most, found \"{text}\"")),
        false => Ok(delay),
    }
}

fn order(text: &str) -> Result<Order, String> {
    match text {
        "kept" => Ok(Order::Kept),
        "free" => Ok(Order::Free),
        _ => Err(format!("expected \"kept\" or \"free\", found \"{text}\"")),
    }
}

/// A string that `read` understands, or a table for `long`.
fn short_or_long<T>(
    key: &'static str,
    value: Value<'_>,
    problems: &mut Problems<'_>,
    short: impl FnOnce(&str) -> Result<T, String>,
    long: impl FnOnce(&mut Table<'_>, &mut Problems<'_>) -> Option<T>,
) -> Option<T> {
    match value.get_ref() {
        DeValue::String(text) => {
            let text = Spanned::new(value.span(), &**text);
            checked(text, short, problems).map(Spanned::into_inner)
        }
        DeValue::Table(_) => {
            let mut table = Table::of(format!("`{key}`"), value, problems)?;
            let read = long(&mut table, problems);
            table.finish(problems);
            read
        }
        other => {
            let found = kind(other);
            let message = format!("expected a string or a table for `{key}`, found {found}");
            problems.push(value.span(), message);
            None
        }
    }
}

/// Notes every one of `keys` that is there: they belong to `owner`, and it is not.
pub(super) fn belongs_to(
    owner: &str,
    keys: &[&str],
    table: &Table<'_>,
    problems: &mut Problems<'_>,
) {
    for key in keys {
        if let Some(place) = table.key_span(key) {
            problems.push(place, format!("expected `{key}` with `{owner}` only"));
        }
    }
}

fn jitter(value: Value<'_>, problems: &mut Problems<'_>) -> Option<Jitter> {
    let short = |text: &str| {
        Ok(Jitter::Uniform {
            amplitude: delay(text)?,
            order: Order::Kept,
        })
    };
    short_or_long("jitter", value, problems, short, |table, problems| {
        let order = table
            .read("order", order, problems)
            .map_or_else(Order::default, Spanned::into_inner);
        let shape = table.number("shape", 1e-3..=1e6, problems);
        let keys = ["uniform", "normal", "pareto", "trace"];
        let (key, value) = table.only_one(&keys, "", problems)?;
        if key != "pareto" {
            belongs_to("pareto", &["shape"], table, problems);
        }
        if key == "trace" {
            let items = as_array(key, value, problems)?;
            let delays: Vec<_> = items
                .map(|item| {
                    let text = as_string(item, "each of `trace`", problems)?;
                    checked(text, delay, problems)
                })
                .collect();
            let delays: Option<Arc<[Duration]>> = delays
                .into_iter()
                .map(|delay| delay.map(Spanned::into_inner))
                .collect();
            let delays = delays?;
            if delays.is_empty() {
                problems.push(value.span(), "expected at least one time in `trace`");
                return None;
            }
            return Some(Jitter::Trace { delays, order });
        }
        let text = as_string(value, &format!("`{key}`"), problems)?;
        let time = checked(text, delay, problems)?.into_inner();
        Some(match key {
            "uniform" => Jitter::Uniform {
                amplitude: time,
                order,
            },
            "normal" => Jitter::Normal {
                deviation: time,
                order,
            },
            _ => Jitter::Pareto {
                scale: time,
                shape: shape.map_or(3.0, Spanned::into_inner),
                order,
            },
        })
    })
}

fn loss(value: Value<'_>, problems: &mut Problems<'_>) -> Option<Loss> {
    let short = |text: &str| Ok(Loss::from(units::percentage(text)?));
    short_or_long("loss", value, problems, short, |table, problems| {
        let mut part = |key, default: f64| {
            let given = table.read(key, units::percentage, problems);
            given.map_or(default, Spanned::into_inner)
        };
        let (r, h, k) = (part("r", 0.0), part("h", 0.0), part("k", 1.0));
        let (key, value) = table.only_one(&["p", "every", "trace"], "", problems)?;
        if key != "p" {
            belongs_to("p", &["r", "h", "k"], table, problems);
        }
        match key {
            "p" => {
                if table.key_span("r").is_none() {
                    table.missing("r", "how likely a burst ends with each frame", problems);
                }
                let text = as_string(value, "`p`", problems)?;
                let p = checked(text, units::percentage, problems)?.into_inner();
                Some(Loss::GilbertElliott { p, r, h, k })
            }
            "every" => {
                let every = table.integer("every", 1..=u64::from(u32::MAX), problems)?;
                Some(Loss::Every(every.into_inner()))
            }
            _ => {
                let text = as_string(value, "`trace`", problems)?;
                let pattern: Option<Arc<[bool]>> = text
                    .get_ref()
                    .chars()
                    .map(|c| match c {
                        '0' => Some(false),
                        '1' => Some(true),
                        _ => None,
                    })
                    .collect();
                let pattern = pattern.filter(|p| (1..=LinkConfig::MAX_TRACE).contains(&p.len()));
                if pattern.is_none() {
                    let message = "expected a pattern such as \"00010\" (1 is lost)";
                    problems.push(text.span(), message);
                }
                Some(Loss::Trace(pattern?))
            }
        }
    })
}

fn reorder(value: Value<'_>, problems: &mut Problems<'_>) -> Option<Reorder> {
    let short = |text: &str| {
        Ok(Reorder {
            probability: units::percentage(text)?,
            gap: 1,
        })
    };
    short_or_long("reorder", value, problems, short, |table, problems| {
        let probability = table.read("probability", units::percentage, problems);
        let gap = table.integer("gap", 1..=u64::from(u32::MAX), problems);
        if table.key_span("probability").is_none() {
            table.missing("probability", "a percentage", problems);
        }
        Some(Reorder {
            probability: probability?.into_inner(),
            gap: gap.map_or(1, |gap| gap.into_inner() as u32),
        })
    })
}

/// The names of queue disciplines.
const DISCIPLINES: [&str; 7] = [
    "drop-tail",
    "red",
    "codel",
    "fq-codel",
    "drr",
    "strict-priority",
    "token-bucket",
];

fn queue(value: Value<'_>, problems: &mut Problems<'_>) -> Option<QueueConfig> {
    if let DeValue::Integer(_) = value.get_ref() {
        let frames = as_integer("queue", value, FRAMES, problems)?;
        return Some(QueueConfig::frames(frames.into_inner() as usize));
    }
    let named = |text: &str| match DISCIPLINES.contains(&text) {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "expected one of {}, found \"{text}\"",
            DISCIPLINES.join(", ")
        )),
    };
    let mut table = Table::of("`queue`", value, problems)?;
    let name = table.read("discipline", named, problems);
    let frames = table.integer("frames", FRAMES, problems);
    let bytes = table.read("bytes", size, problems);
    let name = name.map_or_else(|| "drop-tail".to_owned(), Spanned::into_inner);
    let discipline = discipline(&name, &mut table, problems);
    table.finish(problems);
    let default = QueueConfig::default();
    Some(QueueConfig {
        discipline: discipline?,
        limit_frames: frames.map_or(default.limit_frames, |n| n.into_inner() as usize),
        limit_bytes: bytes.map(|n| n.into_inner() as usize),
    })
}

/// A number of bytes above zero.
fn size(text: &str) -> Result<u64, String> {
    match units::size(text)? {
        0 => Err("a size must be at least 1B here".to_owned()),
        n => Ok(n),
    }
}

fn discipline(
    name: &str,
    table: &mut Table<'_>,
    problems: &mut Problems<'_>,
) -> Option<Discipline> {
    Some(match name {
        "drop-tail" => Discipline::DropTail,
        "strict-priority" => Discipline::StrictPriority,
        "red" => {
            let default = Red::default();
            let bytes = |n: Option<Spanned<u64>>, or| n.map_or(or, Spanned::into_inner);
            let red = Red {
                min_bytes: bytes(table.read("min", units::size, problems), default.min_bytes),
                max_bytes: bytes(table.read("max", size, problems), default.max_bytes),
                max_probability: table
                    .read("max_probability", units::percentage, problems)
                    .map_or(default.max_probability, Spanned::into_inner),
                weight_shift: table
                    .integer("weight_shift", 0..=32, problems)
                    .map_or(default.weight_shift, |n| n.into_inner() as u8),
                ecn: ecn(table, default.ecn, problems),
            };
            if red.min_bytes >= red.max_bytes {
                let place = table.key_span("max").or_else(|| table.key_span("min"));
                problems.push(
                    place.unwrap_or(table.span()),
                    "expected `min` below `max` of RED",
                );
            }
            Discipline::Red(red)
        }
        "codel" => Discipline::Codel(codel(table, Codel::default(), problems)),
        "fq-codel" => {
            let default = FqCodel::default();
            Discipline::FqCodel(FqCodel {
                codel: codel(table, default.codel, problems),
                flows: table
                    .integer("flows", 1..=65_536, problems)
                    .map_or(default.flows, |n| n.into_inner() as u32),
                quantum: quantum(table, default.quantum, problems),
            })
        }
        "drr" => {
            let quantum = quantum(table, 1514, problems);
            let Some(value) = table.value("weights") else {
                table.missing("weights", "an array such as [1, 4]", problems);
                return None;
            };
            Discipline::Drr {
                weights: weights(value, problems)?,
                quantum,
            }
        }
        _ => {
            let rate = table.read("rate", units::rate, problems);
            let burst = table.read("burst", size, problems);
            for (key, expected) in [("rate", "a rate"), ("burst", "a size")] {
                if table.key_span(key).is_none() {
                    table.missing(key, expected, problems);
                }
            }
            Discipline::TokenBucket {
                rate_bps: rate?.into_inner(),
                burst_bytes: burst?.into_inner(),
            }
        }
    })
}

fn ecn(table: &mut Table<'_>, default: Ecn, problems: &mut Problems<'_>) -> Ecn {
    match table.boolean("ecn", problems) {
        None => default,
        Some(true) => Ecn::Mark,
        Some(false) => Ecn::Off,
    }
}

fn codel(table: &mut Table<'_>, default: Codel, problems: &mut Problems<'_>) -> Codel {
    let positive = |text: &str| {
        units::positive_duration(text)?;
        delay(text)
    };
    Codel {
        target: table
            .read("target", delay, problems)
            .map_or(default.target, Spanned::into_inner),
        interval: table
            .read("interval", positive, problems)
            .map_or(default.interval, Spanned::into_inner),
        ecn: ecn(table, default.ecn, problems),
    }
}

fn quantum(table: &mut Table<'_>, default: u32, problems: &mut Problems<'_>) -> u32 {
    let quantum = table.read("quantum", size, problems);
    quantum.map_or(default, |n| {
        u32::try_from(n.into_inner()).unwrap_or(u32::MAX)
    })
}

fn weights(value: Value<'_>, problems: &mut Problems<'_>) -> Option<Arc<[u32]>> {
    let weight = |item: &Spanned<DeValue<'_>>| match item.get_ref() {
        DeValue::Integer(n) => u32::from_str_radix(n.as_str(), n.radix()).ok(),
        _ => None,
    };
    let weights: Option<Arc<[u32]>> = match value.get_ref() {
        DeValue::Array(items) => items.iter().map(weight).collect(),
        _ => None,
    };
    let weights = weights.filter(|w| (1..=64).contains(&w.len()) && !w.contains(&0));
    if weights.is_none() {
        let message = "expected 1 to 64 integers above zero for `weights`";
        problems.push(value.span(), message);
    }
    weights
}

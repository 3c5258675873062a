//! Records from text: first the version, then the record, and for an invalid record the position of
//! the error.
//!
//! An operation is read as a whole before it is known which one it is, and the reader of TOML loses
//! places on that way. So what is wrong is looked for a second time, operation by operation and key
//! by key.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::{Spanned, Table, Value};

use super::{Op, Record, RecordError};

/// Bytes of a message about a text: what it quotes may be as long as the text.
const MAX_MESSAGE: usize = 400;
/// Characters of a line that are quoted.
const MAX_EXCERPT: usize = 60;

/// Several records in one file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Several {
    record: Vec<Record>,
}

/// What is looked at before anything else: another version may have other keys.
#[derive(Deserialize)]
struct Head {
    version: Option<Value>,
    record: Option<Vec<Head>>,
}

pub(super) fn one(text: &str) -> Result<Record, RecordError> {
    let head: Head = parse(text)?;
    head.check_version()?;
    parse(text)
}

pub(super) fn all(text: &str) -> Result<Vec<Record>, RecordError> {
    let head: Head = parse(text)?;
    let Some(records) = head.record else {
        head.check_version()?;
        return Ok(vec![parse(text)?]);
    };
    records.iter().try_for_each(Head::check_version)?;
    Ok(parse::<Several>(text)?.record)
}

impl Head {
    fn check_version(&self) -> Result<(), RecordError> {
        match &self.version {
            None => Err(RecordError::NoVersion),
            Some(Value::Integer(version)) if *version != i64::from(Record::VERSION) => {
                Err(RecordError::Version(*version))
            }
            // What is no number is an error of the value, which names its place.
            Some(_) => Ok(()),
        }
    }
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, RecordError> {
    toml::from_str(text).map_err(|error| {
        let place = || {
            let at = error.span()?.start;
            let line = text.get(at..)?.lines().next().unwrap_or_default();
            let line = format!(
                "{}{line}",
                text[..at].rsplit('\n').next().unwrap_or_default()
            );
            Some((
                at,
                format!("{}, in {:?}", shortened(error.message()), excerpt(&line)),
            ))
        };
        let found = wrong_op(text, error.message()).or_else(place);
        let (at, message) = match found {
            Some((at, message)) => (Some(at), message),
            None => (None, shortened(error.message())),
        };
        let (line, column) = at.map(|at| place_of(text, at)).unzip();
        RecordError::Read {
            line,
            column,
            message,
        }
    })
}

/// A text that may be one of records, with places.
#[derive(Deserialize)]
struct Loose {
    record: Option<Vec<LooseRecord>>,
    #[serde(default)]
    ops: Vec<LooseOp>,
}

#[derive(Deserialize)]
struct LooseRecord {
    #[serde(default)]
    ops: Vec<LooseOp>,
}

type LooseOp = BTreeMap<Spanned<String>, Spanned<Value>>;

/// The first operation that is none, if `message` is about one: the place of the key that is
/// wrong, and what is.
fn wrong_op(text: &str, message: &str) -> Option<(usize, String)> {
    let loose: Loose = toml::from_str(text).ok()?;
    let records = loose.record.into_iter().flatten().map(|record| record.ops);
    let lists = std::iter::once(loose.ops).chain(records);
    let numbered = lists.flat_map(|ops| ops.into_iter().enumerate());
    numbered
        .into_iter()
        .find_map(|(index, op)| explain(index, &op, message))
}

fn explain(index: usize, op: &LooseOp, message: &str) -> Option<(usize, String)> {
    let entries = op
        .iter()
        .map(|(key, value)| (key.get_ref(), value.get_ref()));
    let said = |entries: &mut dyn Iterator<Item = (&String, &Value)>| {
        let table: Table = entries.map(|(k, v)| (k.clone(), v.clone())).collect();
        let error = Op::deserialize(Value::Table(table)).err()?;
        Some(error.message().to_owned())
    };
    if said(&mut entries.clone())? != message {
        return None;
    }
    let name = entries.clone().find(|(key, _)| *key == "op");
    // With its name and one key alone, the key that is wrong says the same.
    let is_wrong = |key: &str| {
        let mut alone = entries.clone().filter(|(k, _)| *k == "op" || *k == key);
        said(&mut alone).is_some_and(|said| said == message)
    };
    // A field that is missing may be one of the operation itself; else it is one of a table in it.
    let is_missing = message.starts_with("missing field");
    let may_lack = |value: &Value| !is_missing || value.is_table() || value.is_array();
    let suspects = op.iter().filter(|(_, value)| may_lack(value.get_ref()));
    let wrong = suspects.map(|(key, _)| key);
    let wrong = wrong.filter(|key| is_wrong(key.get_ref()));
    // When the name is wrong, every key seems to be.
    let wrong = wrong.max_by_key(|key| key.get_ref() == "op");
    let place = wrong.or_else(|| op.keys().next())?.span().start;
    let named = match name {
        Some((_, Value::String(name))) => format!(" ({})", shortened(excerpt(name))),
        _ => String::new(),
    };
    let key = match wrong {
        Some(key) => format!("{}: ", shortened(excerpt(key.get_ref()))),
        None => String::new(),
    };
    let message = format!("operation {index}{named}: {key}{message}");
    Some((place, shortened(&message)))
}

/// A line and a column, from 1.
fn place_of(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |end| end + 1);
    (line, before[start..].chars().count() + 1)
}

/// The beginning of a line.
fn excerpt(line: &str) -> &str {
    let end = line.char_indices().nth(MAX_EXCERPT).map(|(at, _)| at);
    line[..end.unwrap_or(line.len())].trim()
}

/// A message as it can be shown on one line.
fn shortened(message: &str) -> String {
    let mut short = String::new();
    for c in message.trim_end().chars() {
        if short.len() > MAX_MESSAGE {
            return short + "...";
        }
        match c.is_control() {
            true => short.extend(c.escape_default()),
            false => short.push(c),
        }
    }
    short
}

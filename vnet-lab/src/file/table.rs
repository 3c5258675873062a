//! Reading a TOML table key by key: each key is asked for by name, what nobody asked for is
//! unknown, and everything that is wrong is noted with its place.

use std::fmt::Display;
use std::ops::RangeInclusive;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::source::{Problems, Span};

/// A value with its place in the source.
pub(crate) type Value<'a> = &'a Spanned<DeValue<'a>>;

/// One table of the file while it is being read.
pub(crate) struct Table<'a> {
    /// What the table is, for messages: "node `h1`".
    what: String,
    span: Span,
    entries: Vec<Entry<'a>>,
    known: Vec<&'static str>,
}

struct Entry<'a> {
    key: &'a Spanned<DeString<'a>>,
    value: Value<'a>,
    seen: bool,
}

impl<'a> Table<'a> {
    pub(crate) fn new(what: impl Into<String>, span: Span, table: &'a DeTable<'a>) -> Table<'a> {
        Table {
            what: what.into(),
            span,
            entries: in_file_order(table)
                .into_iter()
                .map(|(key, value)| Entry {
                    key,
                    value,
                    seen: false,
                })
                .collect(),
            known: Vec::new(),
        }
    }

    /// Reads `value` as a table; notes a problem when it is something else.
    pub(crate) fn of(
        what: impl Into<String>,
        value: Value<'a>,
        problems: &mut Problems<'_>,
    ) -> Option<Table<'a>> {
        let what = what.into();
        match value.get_ref() {
            DeValue::Table(table) => Some(Table::new(what, value.span(), table)),
            other => {
                let found = kind(other);
                problems.push(
                    value.span(),
                    format!("expected a table for {what}, found {found}"),
                );
                None
            }
        }
    }

    /// Where the table is.
    pub(crate) fn span(&self) -> Span {
        self.span.clone()
    }

    /// The value of `key`, whatever it is.
    pub(crate) fn value(&mut self, key: &'static str) -> Option<Value<'a>> {
        self.known.push(key);
        let entry = self.entries.iter_mut().find(|e| e.key.get_ref() == key)?;
        entry.seen = true;
        Some(entry.value)
    }

    /// The place of `key`, if it is there.
    pub(crate) fn key_span(&self, key: &str) -> Option<Span> {
        let entry = self.entries.iter().find(|e| e.key.get_ref() == key)?;
        Some(entry.key.span())
    }

    /// A string.
    pub(crate) fn string(
        &mut self,
        key: &'static str,
        problems: &mut Problems<'_>,
    ) -> Option<Spanned<&'a str>> {
        let value = self.value(key)?;
        as_string(value, &format!("`{key}`"), problems)
    }

    /// A string that `read` turns into something else.
    pub(crate) fn read<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&str) -> Result<T, String>,
        problems: &mut Problems<'_>,
    ) -> Option<Spanned<T>> {
        checked(self.string(key, problems)?, read, problems)
    }

    /// An integer within `range`.
    pub(crate) fn integer(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u64>,
        problems: &mut Problems<'_>,
    ) -> Option<Spanned<u64>> {
        as_integer(key, self.value(key)?, range, problems)
    }

    /// A number, whole or not, within `range`.
    pub(crate) fn number(
        &mut self,
        key: &'static str,
        range: RangeInclusive<f64>,
        problems: &mut Problems<'_>,
    ) -> Option<Spanned<f64>> {
        let value = self.value(key)?;
        let number: Option<f64> = match value.get_ref() {
            DeValue::Integer(n) if n.radix() == 10 => n.as_str().parse().ok(),
            DeValue::Float(n) => n.as_str().parse().ok(),
            _ => None,
        };
        within("a number", key, value, number, range, problems)
    }

    /// `true` or `false`.
    pub(crate) fn boolean(
        &mut self,
        key: &'static str,
        problems: &mut Problems<'_>,
    ) -> Option<bool> {
        let value = self.value(key)?;
        match value.get_ref() {
            DeValue::Boolean(yes) => Some(*yes),
            other => {
                let found = kind(other);
                problems.push(
                    value.span(),
                    format!("expected true or false for `{key}`, found {found}"),
                );
                None
            }
        }
    }

    /// The elements of an array; empty when the key is not there.
    pub(crate) fn array(
        &mut self,
        key: &'static str,
        problems: &mut Problems<'_>,
    ) -> Vec<Value<'a>> {
        let value = self.value(key);
        let items = value.and_then(|value| as_array(key, value, problems));
        items.map_or_else(Vec::new, |items| items.collect())
    }

    /// The one of `keys` that is there, and its value; notes a problem `within` the table when there
    /// is none, or more than one.
    pub(crate) fn only_one(
        &mut self,
        keys: &[&'static str],
        within: &str,
        problems: &mut Problems<'_>,
    ) -> Option<(&'static str, Value<'a>)> {
        let given: Vec<_> = keys
            .iter()
            .filter_map(|key| Some((*key, self.value(key)?)))
            .collect();
        if let [one] = given[..] {
            return Some(one);
        }
        let second = given.get(1).and_then(|(key, _)| self.key_span(key));
        problems.push(
            second.unwrap_or(self.span()),
            format!("expected exactly one of {}{within}", keys.join(", ")),
        );
        None
    }

    /// The strings of an array; empty when the key is not there.
    pub(crate) fn strings(
        &mut self,
        key: &'static str,
        problems: &mut Problems<'_>,
    ) -> Vec<Spanned<&'a str>> {
        self.array(key, problems)
            .into_iter()
            .filter_map(|v| as_string(v, &format!("each of `{key}`"), problems))
            .collect()
    }

    /// Notes that `key` is needed.
    pub(crate) fn missing(&self, key: &str, expected: &str, problems: &mut Problems<'_>) {
        problems.push(
            self.span(),
            format!("{} needs `{key}`: expected {expected}", self.what),
        );
    }

    /// Notes every key that nobody asked for.
    pub(crate) fn finish(self, problems: &mut Problems<'_>) {
        for e in self.entries.iter().filter(|e| !e.seen) {
            problems.push(
                e.key.span(),
                format!(
                    "unknown key `{}` in {}: expected one of {}",
                    e.key.get_ref(),
                    self.what,
                    self.known.join(", ")
                ),
            );
        }
    }
}

/// A table's entries in the order of the file.
pub(crate) fn in_file_order<'a>(
    table: &'a DeTable<'a>,
) -> Vec<(&'a Spanned<DeString<'a>>, Value<'a>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

/// An integer within `range`, in any radix.
pub(crate) fn as_integer(
    key: &str,
    value: Value<'_>,
    range: RangeInclusive<u64>,
    problems: &mut Problems<'_>,
) -> Option<Spanned<u64>> {
    let number = match value.get_ref() {
        DeValue::Integer(n) => u64::from_str_radix(n.as_str(), n.radix()).ok(),
        _ => None,
    };
    within("an integer", key, value, number, range, problems)
}

/// A number that was read from `value`, if it is one and within `range`.
fn within<T: Copy + PartialOrd + Display>(
    what: &str,
    key: &str,
    value: Value<'_>,
    number: Option<T>,
    range: RangeInclusive<T>,
    problems: &mut Problems<'_>,
) -> Option<Spanned<T>> {
    match number.filter(|n| range.contains(n)) {
        Some(n) => Some(Spanned::new(value.span(), n)),
        None => {
            let (low, high) = range.into_inner();
            problems.push(
                value.span(),
                format!("expected {what} from {low} to {high} for `{key}`"),
            );
            None
        }
    }
}

/// Reads `value` as an array.
pub(crate) fn as_array<'a>(
    key: &str,
    value: Value<'a>,
    problems: &mut Problems<'_>,
) -> Option<std::slice::Iter<'a, Spanned<DeValue<'a>>>> {
    match value.get_ref() {
        DeValue::Array(items) => Some(items.iter()),
        other => {
            let found = kind(other);
            problems.push(
                value.span(),
                format!("expected an array for `{key}`, found {found}"),
            );
            None
        }
    }
}

/// Turns a text into what `read` makes of it, or notes what that says.
pub(crate) fn checked<T>(
    text: Spanned<&str>,
    read: impl FnOnce(&str) -> Result<T, String>,
    problems: &mut Problems<'_>,
) -> Option<Spanned<T>> {
    match read(text.get_ref()) {
        Ok(value) => Some(Spanned::new(text.span(), value)),
        Err(message) => {
            problems.push(text.span(), message);
            None
        }
    }
}

/// Reads `value` as a string.
pub(crate) fn as_string<'a>(
    value: Value<'a>,
    what: &str,
    problems: &mut Problems<'_>,
) -> Option<Spanned<&'a str>> {
    match value.get_ref() {
        DeValue::String(text) => Some(Spanned::new(value.span(), &**text)),
        other => {
            let found = kind(other);
            problems.push(
                value.span(),
                format!("expected a string for {what}, found {found}"),
            );
            None
        }
    }
}

/// What a value is, in words.
pub(crate) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

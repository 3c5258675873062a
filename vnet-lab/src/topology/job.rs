//! What to run over the network once it is up.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use super::end::{interface_name, node_name};
use super::source::{Problems, Span};
use super::table::{Table, Value, checked, kind};
use super::units;

/// One job.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its name in reports.
    pub name: String,
    /// When it starts; `None` is after the jobs before it.
    pub start: Option<Duration>,
    /// How long it may take before it has failed.
    pub timeout: Duration,
    /// The node it starts from.
    pub from: Spanned<String>,
    /// Where it goes.
    pub to: Spanned<Target>,
    /// What it does.
    pub task: Task,
}

/// The far end of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A node: its first address in the order of the file.
    Node(String),
    /// An interface of a node: its first address.
    Interface(String, String),
    /// An address of some node.
    Address(Ipv4Addr),
}

/// What a job does.
#[derive(Clone, Debug, PartialEq)]
pub enum Task {
    /// ICMP echo requests.
    Ping {
        /// How many.
        count: u16,
        /// From one to the next.
        interval: Duration,
        /// How long to wait for each answer.
        wait: Duration,
        /// Payload of each.
        bytes: u16,
        /// The largest part that may stay without answer, from 0 to 1; without it one answer is enough.
        max_loss: Option<f64>,
        /// The longest round trip that passes.
        max_rtt: Option<Duration>,
    },
    /// The routers on the way, found by increasing the time to live.
    Traceroute {
        /// Names of nodes or addresses; without it, arriving is enough.
        expect: Option<Vec<Spanned<Target>>>,
        /// How far to look.
        max_hops: u8,
        /// How often each hop is asked before it counts as silent.
        tries: u8,
        /// How long to wait for each answer.
        wait: Duration,
    },
    /// A file over TCP, its SHA-256 compared at the far end.
    Transfer {
        /// What is sent.
        content: Content,
        /// The port it is sent to; 0 is any.
        port: u16,
    },
    /// As much over TCP as goes through.
    Throughput {
        /// For how long.
        time: Duration,
        /// The port it is sent to; 0 is any.
        port: u16,
        /// The least rate that passes, in bit/s.
        min_rate_bps: Option<u64>,
    },
}

/// What a transfer sends.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// That many bytes, generated from the seed.
    Generated(u64),
    /// An existing file of any kind, to its end.
    File(Spanned<PathBuf>),
    /// The standard input, to its end; where that is said.
    Stdin(Span),
}

/// The name of the standard input.
const STDIN: &str = "-";

const KINDS: [&str; 4] = ["ping", "traceroute", "transfer", "throughput"];

/// Reads one element of `job`.
pub(super) fn read(value: Value<'_>, problems: &mut Problems<'_>) -> Option<Job> {
    let mut table = Table::of("job", value, problems)?;
    let name = table.string("name", problems);
    let start = table.read("start", units::duration, problems);
    let timeout = table.read("timeout", units::positive_duration, problems);
    let task = table.only_one(&KINDS, " in a job", problems);
    table.finish(problems);

    let (kind, task) = task?;
    let mut table = Table::of(format!("`{kind}`"), task, problems)?;
    let from = table.read("from", node_name, problems);
    let to = table.read("to", target, problems);
    for key in ["from", "to"] {
        if table.key_span(key).is_none() {
            table.missing(key, "the name of a node", problems);
        }
    }
    let task = match kind {
        "ping" => Some(ping(&mut table, problems)),
        "traceroute" => Some(traceroute(&mut table, problems)),
        "transfer" => transfer(&mut table, problems),
        _ => Some(throughput(&mut table, problems)),
    };
    table.finish(problems);
    let (from, to, task) = (from?, to?, task?);
    let name = name.map_or_else(
        || format!("{kind} {} → {}", from.get_ref(), to.get_ref()),
        |name| name.into_inner().to_owned(),
    );
    Some(Job {
        name,
        start: start.map(Spanned::into_inner),
        timeout: timeout.map_or(Duration::from_secs(60), Spanned::into_inner),
        from,
        to,
        task,
    })
}

fn ping(table: &mut Table<'_>, problems: &mut Problems<'_>) -> Task {
    let count = table.integer("count", 1..=65_535, problems);
    let interval = table.read("interval", units::duration, problems);
    let wait = table.read("wait", units::positive_duration, problems);
    let bytes = table.integer("bytes", 0..=65_507, problems);
    let max_loss = table.read("max_loss", units::percentage, problems);
    let max_rtt = table.read("max_rtt", units::positive_duration, problems);
    Task::Ping {
        count: count.map_or(5, |n| n.into_inner() as u16),
        interval: interval.map_or(Duration::from_millis(200), Spanned::into_inner),
        wait: wait.map_or(Duration::from_secs(1), Spanned::into_inner),
        bytes: bytes.map_or(56, |n| n.into_inner() as u16),
        max_loss: max_loss.map(Spanned::into_inner),
        max_rtt: max_rtt.map(Spanned::into_inner),
    }
}

fn traceroute(table: &mut Table<'_>, problems: &mut Problems<'_>) -> Task {
    let names = table.strings("expect", problems);
    let expect = table.key_span("expect").map(|_| {
        let mut hops = Vec::new();
        for name in names {
            hops.extend(checked(name, target, problems));
        }
        hops
    });
    let max_hops = table.integer("max_hops", 1..=255, problems);
    let tries = table.integer("tries", 1..=100, problems);
    let wait = table.read("wait", units::positive_duration, problems);
    Task::Traceroute {
        expect,
        max_hops: max_hops.map_or(30, |n| n.into_inner() as u8),
        tries: tries.map_or(3, |n| n.into_inner() as u8),
        wait: wait.map_or(Duration::from_secs(1), Spanned::into_inner),
    }
}

fn transfer(table: &mut Table<'_>, problems: &mut Problems<'_>) -> Option<Task> {
    let size = table.read("size", units::size, problems);
    let file = table.string("file", problems);
    let port = port(table, problems);
    let content = match (table.key_span("size"), table.key_span("file")) {
        (Some(_), Some(span)) => {
            problems.push(span, "expected either `size` or `file`, found both");
            return None;
        }
        (None, None) => {
            table.missing("size", "a `size` such as \"1MiB\", or a `file`", problems);
            return None;
        }
        _ => match (size, file) {
            (Some(size), _) => Content::Generated(size.into_inner()),
            (None, Some(file)) if *file.get_ref() == STDIN => Content::Stdin(file.span()),
            (None, Some(file)) => {
                let span = file.span();
                Content::File(Spanned::new(span, PathBuf::from(file.into_inner())))
            }
            (None, None) => return None,
        },
    };
    Some(Task::Transfer { content, port })
}

fn throughput(table: &mut Table<'_>, problems: &mut Problems<'_>) -> Task {
    let seconds = table.value("seconds").and_then(|v| seconds(v, problems));
    let port = port(table, problems);
    let min_rate = table.read("min_rate", units::rate, problems);
    Task::Throughput {
        time: seconds.unwrap_or(Duration::from_secs(2)),
        port,
        min_rate_bps: min_rate.map(Spanned::into_inner),
    }
}

fn port(table: &mut Table<'_>, problems: &mut Problems<'_>) -> u16 {
    let port = table.integer("port", 0..=65_535, problems);
    port.map_or(0, |n| n.into_inner() as u16)
}

/// A number of seconds, whole or not.
fn seconds(value: Value<'_>, problems: &mut Problems<'_>) -> Option<Duration> {
    let text = match value.get_ref() {
        DeValue::Integer(n) if n.radix() == 10 => n.as_str(),
        DeValue::Float(n) => n.as_str(),
        other => {
            let found = kind(other);
            problems.push(
                value.span(),
                format!("expected a number of seconds for `seconds`, found {found}"),
            );
            return None;
        }
    };
    match units::positive_duration(&format!("{text}s")) {
        Ok(time) => Some(time),
        Err(_) => {
            problems.push(
                value.span(),
                format!("expected a positive number of seconds for `seconds`, found {text}"),
            );
            None
        }
    }
}

/// `node`, `node:interface` or an address.
fn target(text: &str) -> Result<Target, String> {
    if let Ok(address) = text.parse() {
        return Ok(Target::Address(address));
    }
    match text.split_once(':') {
        Some((node, interface)) => Ok(Target::Interface(
            node_name(node)?,
            interface_name(interface)?,
        )),
        None => Ok(Target::Node(node_name(text)?)),
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::Node(node) => f.write_str(node),
            Target::Interface(node, interface) => write!(f, "{node}:{interface}"),
            Target::Address(address) => write!(f, "{address}"),
        }
    }
}

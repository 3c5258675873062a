//! The jobs: what a person would type, a file each.
//!
//! | part | what it is |
//! |---|---|
//! | `kind` | what every kind of job has, and what it works with |
//! | `ping` | ICMP echo |
//! | `traceroute` | the routers on the way |
//! | `transfer` | a file over TCP, digests compared |
//! | `throughput` | what TCP carries |
//! | `input` | what a transfer sends: generated, a file, a pipe |
//! | `ends` | the two ends of a job, which fail together |
//! | `timed` | a stream between them that gives up when the job is over |
//!
//! A kind of job is one struct, which is read from a file, planned and run. This file lists the kinds;
//! everything else about one stands in its own.

pub(crate) mod kind;
pub mod ping;
pub mod throughput;
pub mod traceroute;
pub mod transfer;

mod ends;
pub mod input;
mod timed;

use std::fmt;
use std::io;
use std::path::Path;

use serde::Serialize;
use toml::Spanned;

use crate::file::name::Target;
use crate::file::source::Problems;
use crate::file::table::Table;
use kind::{Facts, Kind, Measured, Site, Verdict, joined};
use ping::Ping;
use throughput::Throughput;
use traceroute::Traceroute;
use transfer::Transfer;

/// What a job does. `T` is how it speaks of other nodes: as a [`Target`] at its place in a file, or
/// once it is planned by name.
#[derive(Clone, Debug, PartialEq)]
pub enum Task<T> {
    /// ICMP echo requests.
    Ping(Ping),
    /// The routers on the way, found by increasing the time to live.
    Traceroute(Traceroute<T>),
    /// A file over TCP, its SHA-256 compared at the far end.
    Transfer(Transfer),
    /// As much over TCP as goes through.
    Throughput(Throughput),
}

/// What a job measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Figures {
    /// Of a ping.
    Ping(ping::Figures),
    /// Of a traceroute.
    Traceroute(traceroute::Figures),
    /// Of a transfer.
    Transfer(transfer::Figures),
    /// Of a throughput measurement.
    Throughput(throughput::Figures),
}

/// Reads the table that says what a job does.
pub(crate) type Reader = fn(&mut Table<'_>, &mut Problems<'_>) -> Option<Task<Spanned<Target>>>;

/// The kinds of jobs: the key that names each, and what reads its table.
pub(crate) const KINDS: [(&str, Reader); 4] = [
    ("ping", |table, problems| {
        Some(Task::Ping(Ping::read(table, problems)))
    }),
    ("traceroute", |table, problems| {
        Some(Task::Traceroute(Traceroute::read(table, problems)))
    }),
    ("transfer", |table, problems| {
        Transfer::read(table, problems).map(Task::Transfer)
    }),
    ("throughput", |table, problems| {
        Some(Task::Throughput(Throughput::read(table, problems)))
    }),
];

impl<T> Task<T> {
    /// The same with other names for nodes. Files are looked for in `here`.
    pub(crate) fn planned<U>(&self, here: &Path, name: impl FnMut(&T) -> U) -> Task<U> {
        match self {
            Task::Ping(ping) => Task::Ping(ping.clone()),
            Task::Traceroute(traceroute) => Task::Traceroute(traceroute.planned(name)),
            Task::Transfer(transfer) => Task::Transfer(transfer.planned(here)),
            Task::Throughput(throughput) => Task::Throughput(throughput.clone()),
        }
    }

    /// The nodes that it speaks of besides those that it runs between.
    pub(crate) fn nodes(&self) -> &[T] {
        match self {
            Task::Traceroute(traceroute) => traceroute.expect.as_deref().unwrap_or_default(),
            _ => &[],
        }
    }

    /// What can be said of it before it runs.
    pub(crate) fn facts(&self) -> &dyn Facts {
        match self {
            Task::Ping(ping) => ping,
            Task::Traceroute(traceroute) => traceroute,
            Task::Transfer(transfer) => transfer,
            Task::Throughput(throughput) => throughput,
        }
    }
}

impl Task<String> {
    /// The figures of a job that measured nothing.
    pub(crate) fn nothing(&self) -> Figures {
        match self {
            Task::Ping(ping) => Figures::Ping(ping.nothing()),
            Task::Traceroute(traceroute) => Figures::Traceroute(traceroute.nothing()),
            Task::Transfer(transfer) => Figures::Transfer(transfer.nothing()),
            Task::Throughput(throughput) => Figures::Throughput(throughput.nothing()),
        }
    }

    /// Runs it to its end, in a thread of its own in the vnet it starts from. What it has measured
    /// is returned however it ended.
    pub(crate) fn run(&self, site: &Site) -> (io::Result<Verdict>, Figures) {
        match self {
            Task::Ping(ping) => carry_out(ping, site, Figures::Ping),
            Task::Traceroute(traceroute) => carry_out(traceroute, site, Figures::Traceroute),
            Task::Transfer(transfer) => carry_out(transfer, site, Figures::Transfer),
            Task::Throughput(throughput) => carry_out(throughput, site, Figures::Throughput),
        }
    }
}

fn carry_out<K: Kind>(
    kind: &K,
    site: &Site,
    figures: fn(K::Figures) -> Figures,
) -> (io::Result<Verdict>, Figures) {
    let measured = Measured::new(kind.nothing());
    let (kind, theirs, noted) = (kind.clone(), site.clone(), measured.clone());
    let thread = site.from.spawn(move || kind.run(&theirs, &noted));
    (thread.and_then(joined), figures(measured.get()))
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Figures::Ping(figures) => figures.fmt(f),
            Figures::Traceroute(figures) => figures.fmt(f),
            Figures::Transfer(figures) => figures.fmt(f),
            Figures::Throughput(figures) => figures.fmt(f),
        }
    }
}

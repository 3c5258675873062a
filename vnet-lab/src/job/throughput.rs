//! What TCP carries in a given time, as the receiver sees it.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;
use toml::Spanned;
use toml::de::DeValue;
use vnet::net::TcpListener;
use vnet::time::Instant;

use super::ends::{End, both};
use super::kind::{Facts, Kind, Measured, Site, Verdict, Way};
use super::timed::{self, TimedStream};
use crate::file::source::Problems;
use crate::file::table::{Table, Value, kind};
use crate::file::units;
use crate::quantity::{bits_per_second, carried, count};

const CHUNK: usize = 64 << 10;

/// As much over TCP as goes through.
#[derive(Clone, Debug, PartialEq)]
pub struct Throughput {
    /// For how long.
    pub time: Duration,
    /// The port it is sent to; 0 is any.
    pub port: u16,
    /// The least rate that passes, in bit/s.
    pub min_rate_bps: Option<u64>,
}

/// What a throughput job measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Figures {
    /// Bytes that arrived.
    pub bytes: u64,
    /// From the first of them to the last.
    pub took_ns: u64,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&carried(self.bytes, self.took_ns))
    }
}

impl Throughput {
    pub(super) fn read(table: &mut Table<'_>, problems: &mut Problems<'_>) -> Throughput {
        let seconds = table.value("seconds").and_then(|v| seconds(v, problems));
        let port = timed::port(table, problems);
        let min_rate = table.read("min_rate", units::rate, problems);
        Throughput {
            time: seconds.unwrap_or(Duration::from_secs(2)),
            port,
            min_rate_bps: min_rate.map(Spanned::into_inner),
        }
    }
}

impl Facts for Throughput {
    fn warning(&self, timeout: Duration, way: &dyn Way) -> Option<String> {
        let time = self.time;
        if time >= timeout {
            let message =
                format!("it sends for {time:?}, and its timeout is {timeout:?}: it will fail");
            return Some(message);
        }
        way.is_unlimited().then(|| {
            "no link on its way has a `rate` or a `delay`: what it measures is no property of the \
             network"
                .to_owned()
        })
    }
}

impl Kind for Throughput {
    type Figures = Figures;

    fn nothing(&self) -> Figures {
        Figures {
            bytes: 0,
            took_ns: 0,
        }
    }

    fn run(&self, site: &Site, measured: &Measured<Figures>) -> io::Result<Verdict> {
        let listener = TcpListener::bind_in(&site.to, SocketAddr::from((site.address, self.port)))?;
        let to = listener.local_addr()?;
        let (time, noted) = (self.time, measured.clone());
        let receive = move |end: &End| receive(&listener, end, &noted);
        let (sent, received) = both(site, |end| send(to, time, end), receive)?;

        let rate_bps = bits_per_second(received.bytes, received.took_ns());
        let failed = if received.bytes != sent {
            Some(format!("{} of {sent} bytes arrived", received.bytes))
        } else {
            let short = self.min_rate_bps.filter(|min| rate_bps < *min);
            short.map(|min| {
                let (rate, min) = (count(rate_bps), count(min));
                format!("{rate} bit/s, expected at least {min} bit/s")
            })
        };
        Ok(Verdict::of(failed))
    }
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

/// Writes for `time`, waits until all of it has arrived, and returns how much it was.
fn send(to: SocketAddr, time: Duration, end: &End) -> io::Result<u64> {
    let mut stream = TimedStream::connect(to, end)?;
    let until = end.limit.now() + time;
    let chunk = vec![0x55; CHUNK];
    let mut sent = 0;
    while end.limit.now() < until {
        sent += stream.write(&chunk)? as u64;
    }
    stream.finish_writing()?;
    // The far end closes when it has read everything.
    while stream.read(&mut [0; 1])? > 0 {}
    Ok(sent)
}

struct Received {
    bytes: u64,
    first: Instant,
    last: Instant,
}

impl Received {
    fn took_ns(&self) -> u64 {
        let took = self.last - self.first;
        u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Reads until the end.
fn receive(
    listener: &TcpListener,
    end: &End,
    measured: &Measured<Figures>,
) -> io::Result<Received> {
    let mut stream = TimedStream::accept(listener, end)?;
    let mut chunk = vec![0; 4 * CHUNK];
    let now = end.limit.now();
    let mut received = Received {
        bytes: 0,
        first: now,
        last: now,
    };
    loop {
        let n = stream.read(&mut chunk)?;
        if n == 0 {
            return Ok(received);
        }
        received.last = end.limit.now();
        if received.bytes == 0 {
            received.first = received.last;
        }
        received.bytes += n as u64;
        measured.set(Figures {
            bytes: received.bytes,
            took_ns: received.took_ns(),
        });
    }
}

//! What TCP carries in a given time, as the receiver sees it.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};

use vnet::net::TcpListener;
use vnet::time::{Duration, Instant};

use super::timed::TimedStream;
use super::{Limit, Measured, Site, Verdict, joined};
use crate::report::{Figures, bits_per_second};

const CHUNK: usize = 64 << 10;

pub(super) fn run(
    site: &Site,
    to: (Ipv4Addr, u16),
    time: Duration,
    min_rate_bps: Option<u64>,
    limit: &Limit,
    measured: &Measured,
) -> io::Result<Verdict> {
    let listener = TcpListener::bind_in(&site.to, SocketAddr::from(to))?;
    let to = listener.local_addr()?;
    let (receiver_limit, receiver_measured) = (limit.clone(), measured.clone());
    let receiver = site
        .to
        .spawn(move || receive(&listener, &receiver_limit, &receiver_measured))?;
    let sent = send(to, time, limit);
    let received = joined(receiver)?;
    let sent = sent?;

    let rate_bps = bits_per_second(received.bytes, received.took_ns());
    let failed = if received.bytes != sent {
        Some(format!("{} of {sent} bytes arrived", received.bytes))
    } else {
        let short = min_rate_bps.filter(|min| rate_bps < *min);
        short.map(|min| format!("{rate_bps} bit/s, expected at least {min}"))
    };
    Ok(Verdict::of(failed))
}

/// Writes for `time`, waits until all of it has arrived, and returns how much it was.
fn send(to: SocketAddr, time: Duration, limit: &Limit) -> io::Result<u64> {
    let mut stream = TimedStream::connect(to, limit)?;
    let until = limit.system.now() + time;
    let chunk = vec![0x55; CHUNK];
    let mut sent = 0;
    while limit.system.now() < until {
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
fn receive(listener: &TcpListener, limit: &Limit, measured: &Measured) -> io::Result<Received> {
    let mut stream = TimedStream::accept(listener, limit)?;
    let mut chunk = vec![0; 4 * CHUNK];
    let now = limit.system.now();
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
        received.last = limit.system.now();
        if received.bytes == 0 {
            received.first = received.last;
        }
        received.bytes += n as u64;
        measured.set(Figures::Throughput {
            bytes: received.bytes,
            took_ns: received.took_ns(),
        });
    }
}

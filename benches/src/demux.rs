//! What a segment costs among many connections, against the same with one.
//!
//! The connections are between two vnets that one thread drives by hand. A byte goes there and back. In the cases
//! `demux-…` each is on another connection than the one before, chosen at random, so that nothing that is known of a
//! connection is in the processor's nearest caches once there are many; in `demux-idle-…` all are on one connection, and
//! the others do nothing.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use vnet::net::TcpStream;
use vnet::{OwnedVnet, System};

use crate::case::Options;
use crate::compare::{Contest, Side, SideError, Unit};
use crate::instances::{available, listen};
use crate::rr::{IPV4, SERVER, joined_by_epair};

/// Connections to one port of the server: there are some 16 000 ports for the client's ends.
const OF_A_PORT: usize = 10_000;
/// Connections that are opened before they are accepted.
const WAVE: usize = 100;
/// How far the pretended clock moves with each byte.
const STEP: Duration = Duration::from_micros(1);
/// Memory that a connection may take, both ends.
const BYTES_EACH: u64 = 4096;
/// Bytes between two looks at the clock.
const BATCH: u32 = 1000;

macro_rules! cases {
    ($($name:ident: $count:literal, $which:ident;)*) => {
        $(
            #[doc = concat!("Among ", $count, " connections.")]
            ///
            /// # Errors
            /// When a connection cannot be opened; skipped for want of memory.
            pub fn $name(options: &Options) -> Result<Contest, SideError> {
                contest(options, $count, Which::$which)
            }
        )*
    };
}

cases! {
    thousand: 1_000, Any;
    hundred_thousand: 100_000, Any;
    million: 1_000_000, Any;
    million_idle: 1_000_000, First;
}

/// Which connection the next byte goes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Any,
    First,
}

fn contest(options: &Options, count: usize, which: Which) -> Result<Contest, SideError> {
    let (needed, available) = (count as u64 * BYTES_EACH, available());
    if available < needed {
        let what =
            format!("{count} connections need {needed} bytes, and {available} are available");
        return Err(SideError::skipped(what));
    }
    let side = |count| -> Result<Box<dyn Side>, SideError> {
        Ok(Box::new(Among {
            time: options.time,
            which,
            crowd: Crowd::open(count)?,
            random: 1,
        }))
    };
    Ok(Contest {
        unit: Unit::NanosPerOperation,
        ours: side(count)?,
        peer: side(1)?,
        peer_name: "the same with one connection".to_owned(),
    })
}

/// Connections between two vnets.
pub(crate) struct Crowd {
    system: System,
    now: vnet::time::Instant,
    streams: Vec<[TcpStream; 2]>,
    /// Alive as long as the sockets.
    vnets: [OwnedVnet; 2],
}

impl Crowd {
    /// Opens so many.
    ///
    /// # Errors
    /// When one cannot be opened.
    pub(crate) fn open(count: usize) -> Result<Crowd, SideError> {
        let system = System::manual(1);
        let vnets = joined_by_epair(&system, IPV4)?;
        let mut crowd = Crowd {
            now: system.now(),
            system,
            streams: Vec::with_capacity(count),
            vnets,
        };
        for port in 5001.. {
            let of_this_port = OF_A_PORT.min(count - crowd.streams.len());
            if of_this_port == 0 {
                break;
            }
            crowd.open_to((SERVER, port).into(), of_this_port)?;
        }
        Ok(crowd)
    }

    fn open_to(&mut self, server: SocketAddr, count: usize) -> Result<(), SideError> {
        let listener = listen(&self.vnets[1], server, WAVE)?;
        let mut left = count;
        while left > 0 {
            // The first one alone: few packets may wait for a neighbour's address.
            let wave = match self.streams.is_empty() {
                true => 1,
                false => WAVE.min(left),
            };
            left -= wave;
            let opened: Result<Vec<TcpStream>, _> = (0..wave)
                .map(|_| TcpStream::start_connect_in(&self.vnets[0], server))
                .collect();
            self.work();
            for near in opened? {
                let (far, _) = listener.accept()?;
                for stream in [&near, &far] {
                    stream.set_nonblocking(true)?;
                    stream.set_nodelay(true)?;
                }
                self.streams.push([near, far]);
            }
        }
        Ok(())
    }

    /// Does what is due, and what that makes due now.
    fn work(&mut self) {
        self.now += STEP;
        while self.system.poll(self.now).is_some_and(|at| at <= self.now) {}
    }

    /// A byte there and back on each of them.
    ///
    /// # Errors
    /// When it is not what comes back.
    pub(crate) fn all_transact(&mut self) -> Result<(), SideError> {
        (0..self.streams.len()).try_for_each(|which| self.transact(which, which as u8))
    }

    /// Lets time pass, in which everything is done that is due.
    pub(crate) fn rest(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            let due = self.system.poll(self.now);
            self.now = due.map_or(until, |at| at.max(self.now).min(until));
        }
    }

    /// A byte there and back on one of them.
    fn transact(&mut self, which: usize, byte: u8) -> Result<(), SideError> {
        for (from, to) in [(0, 1), (1, 0)] {
            (&self.streams[which][from]).write_all(&[byte])?;
            self.work();
            let mut came = [0; 2];
            match (&self.streams[which][to]).read(&mut came) {
                Ok(1) if came[0] == byte => {}
                Err(e) if e.kind() != ErrorKind::WouldBlock => return Err(e.into()),
                other => return Err(SideError::new(format!("{other:?} came of one byte"))),
            }
        }
        Ok(())
    }
}

struct Among {
    time: Duration,
    which: Which,
    crowd: Crowd,
    random: u64,
}

impl Side for Among {
    fn measure(&mut self) -> Result<f64, SideError> {
        let count = self.crowd.streams.len() as u64;
        let start = Instant::now();
        let mut done = 0u64;
        loop {
            for _ in 0..BATCH {
                // The multiplier of PCG's generator; its upper bits are random enough.
                let next = self.random.wrapping_mul(6_364_136_223_846_793_005);
                self.random = next.wrapping_add(1);
                let which = match self.which {
                    Which::Any => (self.random >> 32) % count,
                    Which::First => 0,
                };
                self.crowd.transact(which as usize, done as u8)?;
            }
            done += u64::from(BATCH);
            let took = start.elapsed();
            if took >= self.time {
                return Ok(took.as_nanos() as f64 / done as f64);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_go_over_one_and_over_any_of_many() {
        for which in [Which::Any, Which::First] {
            let mut side = Among {
                time: Duration::ZERO,
                which,
                crowd: Crowd::open(300).unwrap(),
                random: 1,
            };
            assert!(side.measure().unwrap() > 0.0);
        }
    }
}

//! What a second core brings: two independent pairs in one system, a chain of routers, and a simulation in virtual time.
//!
//! *One core* is the same system with all its threads bound to the first core that the process may use; the simulation
//! has one thread instead.

use std::io::{self, Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use vnet::net::{TcpListener, TcpStream};
use vnet::{Offload, OwnedVnet, System};

use crate::case::Options;
use crate::compare::{Contest, Side, SideError, Unit};
use crate::datagrams::row;
use crate::events::{self, ours};
use crate::rr::per_second;

/// Bytes handed to one call.
const CHUNK: usize = 64 * 1024;
/// Routers of the chain.
const ROUTERS: u8 = 8;

/// Two pairs that ask and answer, a thread each.
///
/// # Errors
/// When a side cannot be set up; skipped on one core.
pub fn pairs(options: &Options) -> Result<Contest, SideError> {
    contest(Unit::TransactionsPerSecond, |cores| {
        Pairs::new(cores, options.time)
    })
}

/// A stream in frames of 1500 bytes through routers.
///
/// # Errors
/// When a side cannot be set up; skipped on one core.
pub fn chain(options: &Options) -> Result<Contest, SideError> {
    contest(Unit::GbitPerSecond, |cores| Chain::new(cores, options.time))
}

/// A random network of 100 routers with 100 flows in virtual time, on two threads and on one.
///
/// # Errors
/// When a side cannot be set up; skipped on one core.
pub fn simulation(_: &Options) -> Result<Contest, SideError> {
    let described = events::random(100)?.to_string();
    let side = |cores| Ok(Simulation::new(cores, described.clone()));
    Ok(Contest {
        peer_name: "the same on one thread".to_owned(),
        ..contest(Unit::FramesPerSecond, side)?
    })
}

fn contest<S: Side + 'static>(
    unit: Unit,
    side: impl Fn(Cores) -> Result<S, SideError>,
) -> Result<Contest, SideError> {
    if thread::available_parallelism()?.get() < 2 {
        return Err(SideError::skipped("there is one core only"));
    }
    Ok(Contest {
        unit,
        ours: Box::new(side(Cores::All)?),
        peer: Box::new(side(Cores::One)?),
        peer_name: "the same on one core".to_owned(),
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cores {
    All,
    One,
}

impl Cores {
    /// Runs `f` on a thread that has these cores, as have all threads that it starts.
    fn run<T: Send>(self, f: impl FnOnce() -> Result<T, SideError> + Send) -> Result<T, SideError> {
        thread::scope(|scope| {
            let bound = scope.spawn(move || {
                if self == Cores::One {
                    let all = sched_getaffinity(None).map_err(io::Error::from)?;
                    let first = (0..CpuSet::MAX_CPU).find(|cpu| all.is_set(*cpu));
                    let mut one = CpuSet::new();
                    one.set(first.expect("a thread runs on some core"));
                    sched_setaffinity(None, &one).map_err(io::Error::from)?;
                }
                f()
            });
            bound.join().expect("a measurement does not panic")
        })
    }
}

/// A connection in a system, and the vnets that it passes.
struct Connection {
    client: TcpStream,
    server: TcpStream,
    /// Alive as long as the sockets.
    _row: Vec<OwnedVnet>,
}

impl Connection {
    fn open(system: &System, name: &str, routers: u8) -> Result<Connection, SideError> {
        let row = row(system, name, routers).map_err(|e| SideError::new(e.to_string()))?;
        for node in &row {
            for interface in node
                .interfaces()
                .map_err(|e| SideError::new(e.to_string()))?
            {
                // Through routers go frames of the size of the MTU.
                if routers > 0 && interface.name != "lo0" {
                    let set = node.set_offload(&interface.name, Offload::Checksum);
                    set.map_err(|e| SideError::new(e.to_string()))?;
                }
            }
        }
        let at = format!("198.18.{routers}.2:5001");
        let listener = TcpListener::bind_in(&row[row.len() - 1], &*at)?;
        let client = TcpStream::connect_in(&row[0], &*at)?;
        let (server, _) = listener.accept()?;
        for stream in [&client, &server] {
            stream.set_nodelay(true)?;
        }
        Ok(Connection {
            client,
            server,
            _row: row,
        })
    }
}

struct Pairs {
    cores: Cores,
    time: Duration,
    pairs: [Connection; 2],
}

impl Pairs {
    fn new(cores: Cores, time: Duration) -> Result<Pairs, SideError> {
        let pairs = cores.run(|| {
            let system = System::threads();
            Ok([
                Connection::open(&system, "a", 0)?,
                Connection::open(&system, "b", 0)?,
            ])
        })?;
        Ok(Pairs { cores, time, pairs })
    }
}

impl Side for Pairs {
    fn measure(&mut self) -> Result<f64, SideError> {
        let Pairs { cores, time, pairs } = self;
        cores.run(|| {
            thread::scope(|scope| {
                let each = pairs.each_mut().map(|pair| {
                    scope.spawn(|| {
                        per_second(*time, |request| {
                            let mut byte = [request];
                            pair.client.write_all(&byte)?;
                            pair.server.read_exact(&mut byte)?;
                            pair.server.write_all(&byte)?;
                            pair.client.read_exact(&mut byte)?;
                            Ok(byte[0])
                        })
                    })
                });
                let figures = each.map(|t| t.join().expect("a pair does not panic"));
                let [first, second] = figures;
                Ok(first? + second?)
            })
        })
    }
}

struct Chain {
    cores: Cores,
    time: Duration,
    chain: Connection,
}

impl Chain {
    fn new(cores: Cores, time: Duration) -> Result<Chain, SideError> {
        let chain = cores.run(|| Connection::open(&System::threads(), "chain", ROUTERS))?;
        Ok(Chain { cores, time, chain })
    }
}

impl Side for Chain {
    fn measure(&mut self) -> Result<f64, SideError> {
        let (cores, time) = (self.cores, self.time);
        let Connection { client, server, .. } = &mut self.chain;
        cores.run(|| {
            thread::scope(|scope| {
                let start = Instant::now();
                let writer = scope.spawn(move || -> io::Result<u64> {
                    let (chunk, mut sent) = (vec![0x5a; CHUNK], 0);
                    while start.elapsed() < time {
                        client.write_all(&chunk)?;
                        sent += CHUNK as u64;
                    }
                    // The connection stays open for the next time: this byte says that it was the last one.
                    client.write_all(&[0])?;
                    Ok(sent + 1)
                });
                let (mut room, mut received) = (vec![0; CHUNK], 0);
                loop {
                    let n = server.read(&mut room)?;
                    received += n as u64;
                    if n == 0 || room[n - 1] == 0 {
                        break;
                    }
                }
                let took = start.elapsed();
                let sent = writer.join().expect("the writer does not panic")?;
                if sent != received {
                    let what = format!("{received} bytes of {sent} arrived");
                    return Err(SideError::new(what));
                }
                Ok(received as f64 * 8.0 / took.as_secs_f64() / 1e9)
            })
        })
    }
}

struct Simulation {
    threads: usize,
    described: String,
}

impl Simulation {
    fn new(cores: Cores, described: String) -> Simulation {
        let threads = match cores {
            Cores::All => 2,
            Cores::One => 1,
        };
        Simulation { threads, described }
    }
}

impl Side for Simulation {
    fn measure(&mut self) -> Result<f64, SideError> {
        let figures = ours::carry(self.described.as_bytes(), self.threads)?;
        if self.threads > 1 && figures.apart < figures.events / 2 {
            let what = format!(
                "{} of {} events on two threads",
                figures.apart, figures.events
            );
            return Err(SideError::new(what));
        }
        Ok(figures.frames as f64 / figures.wall)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_work_on_all_cores_and_on_one() {
        let time = Duration::from_millis(1);
        for cores in [Cores::All, Cores::One] {
            let mut sides: [Box<dyn Side>; 2] = [
                Box::new(Pairs::new(cores, time).unwrap()),
                Box::new(Chain::new(cores, time).unwrap()),
            ];
            for side in &mut sides {
                assert!(side.measure().unwrap() > 0.0);
            }
        }
    }
}

//! What instances cost: memory of idle ones, the time to make and to destroy one, alone and among
//! many, and the time to destroy one that is full of connections.
//!
//! Nothing here is asserted; the binary `instances` prints it, with the aims beside it.

use std::hint::black_box;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use vnet::net::{Domain, Socket, TcpListener, TcpStream, Type};
use vnet::{DestroyReport, OwnedVnet, System, Vnet};
use vnet_tap::NetNs;

use crate::case::Options;
use crate::compare::{Contest, Side, SideError, Unit, median};

/// Bytes of a page, which `/proc/self/statm` counts in.
const PAGE: u64 = 4096;
/// Instances that are made, or destroyed, between two looks at the clock.
const BATCH: usize = 100;
/// Batches of which the median is taken.
const BATCHES: usize = 30;
/// Connections that are opened before the accepting side is given its turn.
const WAVE: usize = 100;

fn failed(e: impl std::fmt::Display) -> SideError {
    SideError::new(e.to_string())
}

/// Bytes of memory that the process has resident; zero where the system does not tell.
pub fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_whitespace().nth(1).and_then(|n| n.parse().ok());
    pages.unwrap_or(0) * PAGE
}

/// Bytes of memory that are available; zero where the system does not tell.
pub(crate) fn available() -> u64 {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = meminfo
        .lines()
        .find_map(|l| l.strip_prefix("MemAvailable:"));
    let kilobytes = line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

/// Making an instance, wiring it to another one, giving it an address and destroying it, against
/// `unshare(CLONE_NEWNET)` alone.
///
/// # Errors
/// When an instance cannot be made; skipped where namespaces may not be.
pub fn against_unshare(options: &Options) -> Result<Contest, SideError> {
    unshare(1).map_err(|e| SideError::skipped(format!("unshare: {e}")))?;
    let hub = System::manual(1).create("hub").map_err(failed)?;
    Ok(Contest {
        unit: Unit::NanosPerOperation,
        ours: Box::new(Wired {
            hub,
            time: options.time,
        }),
        peer: Box::new(Unshared),
        peer_name: "unshare of a network namespace".to_owned(),
    })
}

struct Wired {
    hub: OwnedVnet,
    time: Duration,
}

impl Side for Wired {
    fn measure(&mut self) -> Result<f64, SideError> {
        let address = "198.18.0.2/24".parse().map_err(failed)?;
        let system = self.hub.system();
        let (start, mut done) = (Instant::now(), 0u32);
        loop {
            for _ in 0..BATCH {
                let vnet = system.create("measured").map_err(failed)?;
                vnet.epair("eth0", &self.hub, "eth0").map_err(failed)?;
                vnet.add_address("eth0", address).map_err(failed)?;
                let report = vnet.destroy();
                if !report.leaked.is_zero() {
                    return Err(failed(&report));
                }
                // The hub keeps its end, which is of no use any more.
                self.hub.remove_interface("eth0").map_err(failed)?;
                done += 1;
            }
            // The hub hears of the wires that came and went.
            settle(&system);
            let took = start.elapsed();
            if took >= self.time {
                return Ok(took.as_nanos() as f64 / f64::from(done));
            }
        }
    }
}

/// The median of a few; the kernel cleans up in the background.
struct Unshared;

impl Side for Unshared {
    fn measure(&mut self) -> Result<f64, SideError> {
        Ok(unshare(20)? * 1e3)
    }
}

/// Idle instances, each with a loopback interface and one more address on it.
pub struct Population {
    /// The system they live in.
    pub system: System,
    /// Them.
    pub vnets: Vec<OwnedVnet>,
}

impl Population {
    /// Makes `count` of them under the manual driver.
    ///
    /// # Errors
    /// When one cannot be made.
    pub fn new(count: usize) -> Result<Population, SideError> {
        let system = System::manual(1);
        let mut vnets = Vec::with_capacity(count);
        for i in 0..count {
            let vnet = system.create(&format!("v{i}")).map_err(failed)?;
            let address = format!("10.{}.{}.{}/32", i >> 16 & 255, i >> 8 & 255, i & 255);
            // The first and the last ones of a block are hosts as well, in a prefix of 32 bits.
            let address = address.replace("10.0.0.0/", "10.255.255.1/");
            let address = address.parse().map_err(failed)?;
            vnet.add_address("lo0", address).map_err(failed)?;
            vnets.push(vnet);
        }
        Ok(Population { system, vnets })
    }
}

/// How long it takes to make an instance, and to destroy one, in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Lifetime {
    /// The median over batches of the mean time of [`System::create`].
    pub create_micros: f64,
    /// The same of [`OwnedVnet::destroy`].
    pub destroy_micros: f64,
}

/// Makes and destroys batches of instances beside those that `system` has.
///
/// # Errors
/// When one cannot be made, or leaves something.
pub fn lifetime(system: &System) -> Result<Lifetime, SideError> {
    let names: Vec<String> = (0..BATCH).map(|i| format!("measured{i}")).collect();
    let (mut create, mut destroy) = (Vec::new(), Vec::new());
    // One batch more than is counted: the first warms what is kept for reuse.
    for batch in 0..=BATCHES {
        let started = Instant::now();
        let made: Result<Vec<OwnedVnet>, _> = names.iter().map(|n| system.create(n)).collect();
        let took = started.elapsed();
        let made = made.map_err(failed)?;
        let started = Instant::now();
        let reports: Vec<DestroyReport> = made.into_iter().map(OwnedVnet::destroy).collect();
        let gone = started.elapsed();
        if let Some(leak) = reports.iter().find(|r| !r.leaked.is_zero()) {
            return Err(failed(leak));
        }
        if batch > 0 {
            create.push(micros_each(took));
            destroy.push(micros_each(gone));
        }
    }
    Ok(Lifetime {
        create_micros: median(create),
        destroy_micros: median(destroy),
    })
}

fn micros_each(batch: Duration) -> f64 {
    batch.as_secs_f64() * 1e6 / BATCH as f64
}

/// How long the kernel takes for a network namespace of a thread of its own (`unshare(2)`) whose
/// loopback interface is set up by ip(8), and to let go of it; in microseconds. The namespace
/// itself is cleaned up by the kernel later, in the background.
///
/// # Errors
/// When namespaces may not be made here.
pub fn namespaces(count: usize) -> Result<Lifetime, SideError> {
    let (mut create, mut destroy) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let started = Instant::now();
        let namespace = NetNs::new()?;
        create.push(started.elapsed().as_secs_f64() * 1e6);
        let started = Instant::now();
        drop(namespace);
        destroy.push(started.elapsed().as_secs_f64() * 1e6);
    }
    Ok(Lifetime {
        create_micros: median(create),
        destroy_micros: median(destroy),
    })
}

/// How long `unshare(CLONE_NEWNET)` alone takes, in microseconds: the median of `count` calls,
/// each on a thread of its own. It is the least that a namespace costs; its loopback is down.
///
/// # Errors
/// When namespaces may not be made here.
pub fn unshare(count: usize) -> Result<f64, SideError> {
    let times: Result<Vec<f64>, SideError> = (0..count)
        .map(|_| {
            let thread = std::thread::spawn(|| {
                let started = Instant::now();
                vnet_tap::netns::unshare_thread().map(|()| started.elapsed().as_secs_f64() * 1e6)
            });
            Ok(thread.join().expect("a system call does not panic")?)
        })
        .collect();
    times.map(median)
}

/// A listener whose queue holds `backlog` connections, and whose address may still have old ones.
pub(crate) fn listen(vnet: &Vnet, at: SocketAddr, backlog: usize) -> io::Result<TcpListener> {
    let listener = Socket::new_in(vnet, Domain::for_address(at), Type::STREAM, None)?;
    listener.set_reuse_address(true)?;
    listener.bind(&at)?;
    listener.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(listener.into())
}

/// An instance full of connections.
pub struct Crowd {
    system: System,
    /// The instance that opened the connections.
    pub client: OwnedVnet,
    server: OwnedVnet,
    streams: Vec<(TcpStream, TcpStream)>,
}

impl Crowd {
    /// Opens `count` connections and closes `time_wait` of them from the client's side, whose
    /// ends stay in TIME-WAIT.
    ///
    /// # Errors
    /// When a connection cannot be opened or closed.
    pub fn new(count: usize, time_wait: usize) -> Result<Crowd, SideError> {
        let system = System::manual(1);
        let server = system.create("server").map_err(failed)?;
        let client = system.create("client").map_err(failed)?;
        client.epair("eth0", &server, "eth0").map_err(failed)?;
        for (vnet, address) in [(&client, "10.0.0.1/24"), (&server, "10.0.0.2/24")] {
            let address = address.parse().map_err(failed)?;
            vnet.add_address("eth0", address).map_err(failed)?;
        }
        let to: SocketAddr = "10.0.0.2:80".parse().map_err(failed)?;
        let listener = listen(&server, to, WAVE)?;
        let mut streams = Vec::with_capacity(count);
        while streams.len() < count {
            // The first one alone: few packets may wait for a neighbour's address.
            let wave = match streams.len() {
                0 => count.min(1),
                open => WAVE.min(count - open),
            };
            let opened: Result<Vec<TcpStream>, _> = (0..wave)
                .map(|_| TcpStream::start_connect_in(&client, to))
                .collect();
            settle(&system);
            for near in opened? {
                let (far, _) = listener.accept()?;
                streams.push((near, far));
            }
        }
        // What closes first is what waits.
        let rest = streams.split_off(time_wait.min(streams.len()));
        let (near, far): (Vec<_>, Vec<_>) = streams.into_iter().unzip();
        drop(near);
        settle(&system);
        drop(far);
        settle(&system);
        Ok(Crowd {
            system,
            client,
            server,
            streams: rest,
        })
    }

    /// Destroys the client and returns the report and how long it took by the clock outside.
    ///
    /// # Errors
    /// When something is left of it.
    pub fn destroy(self) -> Result<(DestroyReport, Duration), SideError> {
        let Crowd {
            system,
            client,
            server,
            streams,
        } = self;
        let before = system.now();
        let started = Instant::now();
        let report = client.destroy();
        let took = started.elapsed();
        if !report.leaked.is_zero() || system.now() != before {
            return Err(failed(&report));
        }
        drop((black_box(streams), server));
        Ok((report, took))
    }
}

/// Does what is due now, and what that makes due now.
fn settle(system: &System) {
    while system
        .poll(system.now())
        .is_some_and(|at| at <= system.now())
    {}
}

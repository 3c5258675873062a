//! Our side: the network in virtual time, with two tasks for each flow.

use std::future::poll_fn;
use std::io::{self, BufRead, ErrorKind};
use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ipnet::Ipv4Net;
use vnet::link::QueueConfig;
use vnet::net::{Interest, TcpListener, TcpStream};
use vnet::{Forwarding, LinkConfig, NextHop, OwnedVnet, RunLimit, System, VirtualConfig};

use super::Figures;
use super::network::{Flow, Line, Link};
use crate::compare::SideError;

/// What is handed to a connection, and taken from it, by one call.
const CHUNK: usize = 64 * 1024;
/// Virtual time after which whatever still happens is of no interest: a connection that has ended waits for a minute.
const LONGEST: Duration = Duration::from_secs(3600);

/// Makes the network line by line, as the other side does, so that no memory is taken for the description; carries
/// the flows, on so many threads, and says what that took. The processor time is that of the calling thread.
///
/// # Errors
/// A description that cannot be read, a network that cannot be made, and a flow that did not arrive.
pub fn carry(described: impl BufRead, threads: usize) -> Result<Figures, SideError> {
    let config = VirtualConfig {
        threads,
        ..VirtualConfig::default()
    };
    let system = System::virtual_time_with(1, config);
    let mut network = Network::default();
    for line in described.lines() {
        let made = network.add(&system, line?.parse()?);
        made.map_err(|e| SideError::new(e.to_string()))?;
    }
    let Network { routers, flows, .. } = network;
    let tasks: io::Result<Vec<_>> = flows.iter().map(|flow| start(&routers, flow)).collect();
    let tasks = tasks?;
    let (start, before) = (Instant::now(), processor_seconds()?);
    let limit = RunLimit {
        events: u64::MAX,
        time: LONGEST,
    };
    let events = system.run_until_idle(limit);
    let events = events.map_err(|e| SideError::new(e.to_string()))?;
    let cpu = processor_seconds()? - before;
    let wall = start.elapsed().as_secs_f64();
    for (n, (flow, [sender, receiver])) in flows.iter().zip(tasks).enumerate() {
        for task in [sender, receiver] {
            let carried = task.join().map_err(|e| SideError::new(e.to_string()))??;
            if carried != flow.bytes {
                let what = format!("flow {n}: {carried} of {} bytes", flow.bytes);
                return Err(SideError::new(what));
            }
        }
    }
    let (mut frames, mut dropped) = (0, 0);
    for router in &routers {
        let seen = router
            .interfaces()
            .map_err(|e| SideError::new(e.to_string()))?;
        for interface in seen.iter().filter(|i| i.name != "lo0") {
            let stats = router.link_stats(&interface.name);
            let stats = stats.map_err(|e| SideError::new(e.to_string()))?;
            frames += stats.delivered;
            dropped += stats.dropped();
        }
    }
    Ok(Figures {
        frames,
        dropped,
        events,
        apart: system.parallel().events,
        cpu,
        wall,
        peak: peak()?,
        r#virtual: system.now().as_nanos() as f64 / 1e9,
    })
}

/// What has been made so far.
#[derive(Default)]
struct Network {
    routers: Vec<OwnedVnet>,
    /// How many links each router has.
    links: Vec<usize>,
    flows: Vec<Flow>,
}

impl Network {
    fn add(&mut self, system: &System, line: Line) -> Result<(), AnyError> {
        match line {
            Line::Routers(count) => {
                for n in 0..count {
                    let router = system.create(&format!("r{n}"))?;
                    router.set_forwarding(Forwarding::Enabled)?;
                    self.routers.push(router);
                }
                self.links.resize(count, 0);
            }
            Line::Address(router, address) => {
                let address = Ipv4Net::new(address, 32)?;
                self.routers[router].add_address("lo0", address.into())?;
            }
            Line::Link(link) => self.join(&link)?,
            Line::Route(route) => {
                let prefix = Ipv4Net::new(route.prefix, route.length)?;
                let gateway = NextHop::Gateway(route.gateway.into());
                self.routers[route.router].add_route(prefix.into(), gateway)?;
            }
            Line::Flow(flow) => self.flows.push(flow),
        }
        Ok(())
    }

    fn join(&mut self, link: &Link) -> Result<(), AnyError> {
        let names = link.ends.map(|(router, _)| {
            self.links[router] += 1;
            format!("eth{}", self.links[router] - 1)
        });
        let [(near, _), (far, _)] = link.ends;
        self.routers[near].epair(&names[0], &self.routers[far], &names[1])?;
        let config = LinkConfig {
            rate_bps: Some(link.rate),
            delay: Duration::from_nanos(link.delay),
            queue: QueueConfig {
                limit_frames: link.queue,
                ..QueueConfig::default()
            },
            ..LinkConfig::default()
        };
        for ((router, address), name) in link.ends.iter().zip(&names) {
            self.routers[*router].set_link(name, config.clone())?;
            let address = Ipv4Net::new(*address, 31)?;
            self.routers[*router].add_address(name, address.into())?;
        }
        Ok(())
    }
}

type AnyError = Box<dyn std::error::Error>;
type Task = vnet::TaskHandle<io::Result<usize>>;

/// A task at each end, which returns how many bytes it has sent, or received.
fn start(routers: &[OwnedVnet], flow: &Flow) -> io::Result<[Task; 2]> {
    let at = SocketAddr::from((flow.address, flow.port));
    let listener = TcpListener::bind_in(&routers[flow.to], at)?;
    let receiver = routers[flow.to].spawn_future(async move {
        let (stream, _) = poll_fn(|task| listener.poll_accept(task)).await?;
        let mut received = 0;
        loop {
            let part = poll_fn(|task| stream.poll_recv_bytes(task, CHUNK)).await?;
            match part.len() {
                0 => return Ok(received),
                n => received += n,
            }
        }
    });
    let (from, bytes) = (vnet::Vnet::clone(&routers[flow.from]), flow.bytes);
    let sender = routers[flow.from].spawn_future(async move {
        let stream = TcpStream::start_connect_in(&from, at)?;
        stream.set_nonblocking(true)?;
        poll_fn(|task| stream.poll_connect(task)).await?;
        // By reference, as the other side does: it has no bytes at all.
        let (data, mut sent) = (Bytes::from_static(&[0; CHUNK]), 0);
        while sent < bytes {
            let part = data.slice(..CHUNK.min(bytes - sent));
            match stream.send_bytes(&part) {
                Ok(n) => sent += n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    poll_fn(|task| stream.poll_ready(task, Interest::Write)).await?;
                }
                Err(e) => return Err(e),
            }
        }
        stream.shutdown(Shutdown::Write)?;
        Ok(sent)
    });
    Ok([sender, receiver])
}

/// The time that this thread has had a processor, in seconds; there is no other one. It is read from a file and not from
/// the clock, because tools that count instructions do not run what reads that.
fn processor_seconds() -> Result<f64, SideError> {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos = told.split_whitespace().next().and_then(|n| n.parse().ok());
    let nanos: f64 = nanos.ok_or_else(|| SideError::skipped("/proc: no processor time"))?;
    Ok(nanos / 1e9)
}

/// The most memory that the process has had resident, in bytes.
fn peak() -> Result<u64, SideError> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok());
    let kilobytes = kilobytes.ok_or_else(|| SideError::skipped("/proc/self/status: no VmHWM"))?;
    Ok(kilobytes * 1024)
}

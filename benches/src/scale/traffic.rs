//! What the networks carry: a ping from every router to each of its neighbours, and TCP flows
//! between random pairs.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use vnet::Rng;
use vnet::Vnet;
use vnet::net::{EchoEvent, EchoSocket, TcpListener, TcpStream};
use vnet::thread::JoinHandle;
use vnet::time::Instant;

use super::network::{Design, Network, TTL};
use super::routes::distances;

/// How long a call waits, in virtual time, before a trial has failed.
const PATIENCE: Duration = Duration::from_secs(120);
/// The port of the first flow; each has one of its own.
const FIRST_PORT: u16 = 10_000;

/// Why traffic did not arrive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrafficError {
    /// More flows than there are ports to number them.
    #[error("at most {max} flows, found {0}", max = u16::MAX - FIRST_PORT)]
    TooMany(usize),
    /// A ping.
    #[error("router {from} pinged its neighbours: {answered} of {sent} answered")]
    Ping {
        /// Who pinged.
        from: usize,
        /// How many neighbours.
        sent: usize,
        /// How many of them answered.
        answered: usize,
    },
    /// A flow broke.
    #[error("the flow from router {from} to router {to} broke")]
    Flow {
        /// Its sender.
        from: usize,
        /// Its receiver.
        to: usize,
        /// What the socket said.
        #[source]
        source: io::Error,
    },
    /// A flow carried other bytes than it was given.
    #[error("the flow from router {from} to router {to} delivered {right} of {sent} bytes right")]
    Content {
        /// Its sender.
        from: usize,
        /// Its receiver.
        to: usize,
        /// Bytes that were sent.
        sent: usize,
        /// Bytes that arrived as they were sent, before the first that did not.
        right: usize,
    },
    /// A socket could not be made.
    #[error("a socket could not be made")]
    Socket(#[from] io::Error),
}

/// A flow that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Its sender.
    pub from: usize,
    /// Its receiver.
    pub to: usize,
    /// Bytes that arrived, all of them as they were sent.
    pub bytes: usize,
    /// When the receiver had read the last one.
    pub ended: Instant,
}

/// Every router pings each of its neighbours, all at once. Returns how many pings were answered.
///
/// # Errors
/// [`TrafficError::Ping`] when a ping was not answered.
pub fn ping_neighbours(network: &Network, design: &Design) -> Result<usize, TrafficError> {
    let mut sockets = Vec::with_capacity(network.routers.len());
    for (n, router) in network.routers.iter().enumerate() {
        let socket = EchoSocket::bind_in(router)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        for interface in 0..design.graph.neighbours[n].len() {
            let to = design.neighbour_address(n, interface);
            socket.send_to(interface as u16, b"neighbour", to.into())?;
        }
        sockets.push(socket);
    }
    let mut answered = 0;
    for (n, socket) in sockets.iter().enumerate() {
        let sent = design.graph.neighbours[n].len();
        let mut seen = vec![false; sent];
        while seen.contains(&false) {
            match socket.recv() {
                Ok((EchoEvent::Reply { seq, .. }, _)) => seen[usize::from(seq)] = true,
                Ok(_) | Err(_) => {
                    let answered = seen.iter().filter(|s| **s).count();
                    let from = n;
                    return Err(TrafficError::Ping {
                        from,
                        sent,
                        answered,
                    });
                }
            }
        }
        answered += sent;
    }
    Ok(answered)
}

/// The farthest that a flow may go, in links. An answer may pass two more routers than the request:
/// it goes to an address of the first link.
pub const MAX_REACH: usize = TTL as usize - 3;

/// Random pairs of different routers, at most `reach` links apart, or [`MAX_REACH`] if that is less:
/// a packet has to live until it arrives. A reach of 0 counts as 1.
pub fn pairs(design: &Design, count: usize, reach: usize, seed: u64) -> Vec<(usize, usize)> {
    let mut rng = Rng::seeded(seed);
    let reach = reach.clamp(1, MAX_REACH);
    let mut pair = || {
        let from = rng.below(design.graph.len() as u32) as usize;
        let away = distances(&design.graph, from);
        let near: Vec<usize> = (0..away.len())
            .filter(|to| (1..=reach).contains(&away[*to]))
            .collect();
        (from, near[rng.below(near.len() as u32) as usize])
    };
    (0..count).map(|_| pair()).collect()
}

/// Carries so many random bytes over TCP from the first to the second router of each pair, all at
/// once, and compares what arrives.
///
/// # Errors
/// A flow that broke or did not deliver what it was given.
pub fn carry(
    network: &Network,
    design: &Design,
    pairs: &[(usize, usize)],
    bytes: usize,
    seed: u64,
) -> Result<Vec<Flow>, TrafficError> {
    if pairs.len() > usize::from(u16::MAX - FIRST_PORT) {
        return Err(TrafficError::TooMany(pairs.len()));
    }
    // One stream of bytes for all: each flow begins at another place in it.
    let mut rng = Rng::seeded(seed);
    let data: Arc<[u8]> = (0..bytes + pairs.len()).map(|_| rng.u32() as u8).collect();
    let mut threads = Vec::with_capacity(pairs.len());
    for (n, (from, to)) in pairs.iter().enumerate() {
        let broke = |source| TrafficError::Flow {
            from: *from,
            to: *to,
            source,
        };
        let flow = Ends {
            here: Vnet::clone(&network.routers[*from]),
            there: Vnet::clone(&network.routers[*to]),
            address: SocketAddr::new(
                IpAddr::V4(design.addressing.router(*to)),
                FIRST_PORT + n as u16,
            ),
            data: Arc::clone(&data),
            part: n..n + bytes,
        };
        threads.push((*from, *to, flow.start().map_err(broke)?));
    }
    let mut flows = Vec::with_capacity(pairs.len());
    for (from, to, (sender, receiver)) in threads {
        let broke = |source| TrafficError::Flow { from, to, source };
        joined(sender).map_err(broke)?;
        let (right, ended) = joined(receiver).map_err(broke)?;
        if right != bytes {
            let sent = bytes;
            return Err(TrafficError::Content {
                from,
                to,
                sent,
                right,
            });
        }
        flows.push(Flow {
            from,
            to,
            bytes,
            ended,
        });
    }
    Ok(flows)
}

/// One flow before it starts.
struct Ends {
    here: Vnet,
    there: Vnet,
    address: SocketAddr,
    data: Arc<[u8]>,
    part: std::ops::Range<usize>,
}

type Started<T> = JoinHandle<io::Result<T>>;

/// The sender's thread, and the receiver's, which says how many bytes were right and when the last
/// one came.
type Both = (Started<()>, Started<(usize, Instant)>);

impl Ends {
    /// Starts a thread at each end.
    fn start(self) -> io::Result<Both> {
        let listener = TcpListener::bind_in(&self.there, self.address)?;
        listener.set_accept_timeout(Some(PATIENCE))?;
        let (address, part, data) = (self.address, self.part.clone(), Arc::clone(&self.data));
        let receiver = self
            .there
            .spawn(move || receive(&listener, &self.data[self.part]))?;
        let sender = self.here.spawn(move || {
            let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
            stream.set_write_timeout(Some(PATIENCE))?;
            stream.write_all(&data[part])?;
            stream.shutdown(Shutdown::Write)
        })?;
        Ok((sender, receiver))
    }
}

/// Reads until the end; how many bytes were as `expected`, and when the last one came.
fn receive(listener: &TcpListener, expected: &[u8]) -> io::Result<(usize, Instant)> {
    let (mut stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let system = vnet::Vnet::current()
        .expect("a vnet's thread has it as its current one")
        .system();
    let mut buf = vec![0; 64 << 10];
    let mut right = 0;
    loop {
        let n = stream.read(&mut buf)?;
        if n == 0 {
            return Ok((right, system.now()));
        }
        let wanted = expected.get(right..right + n);
        if wanted != Some(&buf[..n]) {
            return Ok((right, system.now()));
        }
        right += n;
    }
}

fn joined<T>(thread: Started<T>) -> io::Result<T> {
    thread
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("a flow's thread panicked")))
}

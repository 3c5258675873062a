//! A transfer over a link that loses frames: our TCP beside the kernel's. With losses both ways, the binary `loss` says how
//! long it takes; with a rate, and losses of data alone, [`matrix`] how much arrives in a while.
//!
//! The link is one of ours in either case, and which frames it loses is a pattern made of the
//! seed, so that both meet the same losses. The kernel's ends are two network namespaces; each
//! has a TAP into a vnet that bridges it to its end of the link. Neighbours are resolved before
//! anything is lost.
//!
//! The kernel's TCP uses CUBIC, whatever the host prefers, and remembers nothing of earlier connections. Everything else is
//! at its default.
//! Both have a least retransmission timeout of 200 ms, and begin with ten segments.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use comfy_table::Table;
use vnet::link::Loss;
use vnet::{LinkConfig, OwnedVnet, System};
use vnet_tap::{NetNs, Tap, TapConfig};

use crate::compare::{SideError, median};
use crate::kernel::{self, namespace};
use crate::report::numbers_right;

/// Sender and receiver (RFC 2544, benchmarking).
const SENDER: Ipv4Addr = Ipv4Addr::new(198, 18, 2, 1);
const RECEIVER: Ipv4Addr = Ipv4Addr::new(198, 18, 2, 2);
const PORT: u16 = 5001;
/// Frames after which a pattern of losses begins again.
const PATTERN: usize = 1 << 16;
/// Bytes that an application moves at once.
const CHUNK: usize = 64 << 10;
/// What [`matrix`] measures.
const CELLS: &[Cell] = &[
    Cell::slow(0.0),
    Cell::slow(0.1),
    Cell::slow(1.0),
    Cell::slow(3.0),
    Cell {
        path: "1 Gbit/s 100 ms",
        rate_bps: 1_000_000_000,
        delay: Duration::from_millis(50),
        loss: 0.01,
        apart: Duration::from_secs(4),
    },
];
/// The kernel's settings for a fair comparison, below `/proc/sys/net/ipv4`: buffers may grow as far as vnet's.
const KERNEL: &[(&str, &str)] = &[
    ("tcp_no_metrics_save", "1"),
    ("tcp_rmem", "4096 131072 16777216"),
    ("tcp_wmem", "4096 16384 16777216"),
];

/// Whose TCP is at an end of the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// A vnet's.
    Ours,
    /// The kernel's, in a network namespace of its own.
    Kernel,
}

/// The link, and what goes over it.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// Probability that a frame is lost, of data and of acknowledgements.
    pub loss: [f64; 2],
    /// Bits per second, with a queue of 1000 frames; without a limit if there is none.
    pub rate_bps: Option<u64>,
    /// How long a frame travels, each way.
    pub delay: Duration,
    /// Which frames are lost.
    pub seed: u64,
    /// How many bytes are sent.
    pub bytes: usize,
    /// A transfer that takes longer has failed.
    pub patience: Duration,
}

/// Both ends of a link, which know each other.
struct Ends {
    from: End,
    _to: End,
    listener: Listener,
    _system: System,
}

fn join(sender: Whose, receiver: Whose, path: &Path) -> Result<Ends, SideError> {
    let system = System::threads();
    let from = End::make(&system, "sender", sender, SENDER)?;
    let to = End::make(&system, "receiver", receiver, RECEIVER)?;
    from.vnet
        .epair("wire", &to.vnet, "wire")
        .map_err(|e| SideError::new(e.to_string()))?;
    from.join(SENDER)?;
    to.join(RECEIVER)?;
    let listener = to.listen()?;
    // Neighbours find each other.
    drop(from.connect()?);
    drop(listener.accept()?);
    from.impair(path, 1)?;
    to.impair(path, 2)?;
    Ok(Ends {
        from,
        _to: to,
        listener,
        _system: system,
    })
}

/// Opens a connection over the path, sends everything and closes; returns how long it took from
/// the first SYN until the receiver has seen the end.
///
/// # Errors
/// When an end cannot be set up, or the transfer does not end in time.
pub fn transfer(sender: Whose, receiver: Whose, path: &Path) -> Result<Duration, SideError> {
    let ends = join(sender, receiver, path)?;
    let Ends { from, listener, .. } = &ends;
    let listener = listener.try_clone()?;
    let (done, result) = mpsc::channel();
    let bytes = path.bytes;
    let begun = Instant::now();
    // Detached: an end that is stuck ends with its vnet, or with its namespace's addresses.
    thread::spawn(move || {
        let received = listener.accept().and_then(|mut stream| {
            let n = io::copy(&mut stream, &mut io::sink())?;
            if n == bytes as u64 {
                Ok(())
            } else {
                Err(io::Error::other(format!("{n} of {bytes} bytes")))
            }
        });
        // Nobody waits for it any more when patience has ended.
        let _ = done.send(received.map(|()| begun.elapsed()));
    });
    let sending = from.send(bytes);
    let took = result
        .recv_timeout(path.patience)
        .map_err(|_| SideError::new("patience has ended"))?;
    drop(sending);
    Ok(took?)
}

/// How many megabits per second arrive in so much time, from the first SYN on, of a transfer without an end.
///
/// # Errors
/// When an end cannot be set up, or the transfer ends.
pub fn carried(
    sender: Whose,
    receiver: Whose,
    path: &Path,
    time: Duration,
) -> Result<f64, SideError> {
    let ends = join(sender, receiver, path)?;
    let arrived = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let stream = ends.from.connect()?;
    let received = ends.listener.accept()?;
    let (mut reader, mut writer) = (received.try_clone()?, stream.try_clone()?);
    let count = Arc::clone(&arrived);
    let receiving = thread::spawn(move || -> io::Result<()> {
        let mut buf = vec![0; CHUNK];
        loop {
            match reader.read(&mut buf)? {
                0 => return Ok(()),
                n => count.fetch_add(n as u64, Ordering::Relaxed),
            };
        }
    });
    let sending = thread::spawn(move || -> io::Result<()> {
        let data = vec![7; CHUNK];
        loop {
            writer.write_all(&data)?;
        }
    });
    thread::sleep(time.saturating_sub(begun.elapsed()));
    let (bytes, took) = (arrived.load(Ordering::Relaxed), begun.elapsed());
    if receiving.is_finished() || sending.is_finished() {
        return Err(SideError::new("the transfer ended early"));
    }
    // Each by itself: what one says to the other may be lost.
    stream.abort()?;
    received.abort()?;
    let _ = sending.join();
    let _ = receiving.join();
    Ok(bytes as f64 * 8.0 / took.as_secs_f64() / 1e6)
}

/// Who sends and who receives, in the order of a table's rows.
pub const KINDS: &[(&str, Whose, Whose)] = &[
    ("kernel to kernel", Whose::Kernel, Whose::Kernel),
    ("vnet to vnet", Whose::Ours, Whose::Ours),
    ("vnet to kernel", Whose::Ours, Whose::Kernel),
    ("kernel to vnet", Whose::Kernel, Whose::Ours),
];

/// A path with its losses.
#[derive(Clone, Copy, Debug)]
struct Cell {
    path: &'static str,
    rate_bps: u64,
    /// Each way.
    delay: Duration,
    /// Of a hundred frames of data.
    loss: f64,
    /// All kinds of transfers run beside each other, each over a link of its own, and begin one so long after the other:
    /// slow starts at this rate would be too much at once.
    apart: Duration,
}

impl Cell {
    const fn slow(loss: f64) -> Cell {
        Cell {
            path: "100 Mbit/s 40 ms",
            rate_bps: 100_000_000,
            delay: Duration::from_millis(20),
            loss,
            apart: Duration::ZERO,
        }
    }

    /// What one kind of transfer carries.
    fn run(&self, kind: usize, seed: u64, time: Duration) -> Result<f64, SideError> {
        let (_, from, to) = KINDS[kind];
        let path = Path {
            loss: [self.loss / 100.0, 0.0],
            rate_bps: Some(self.rate_bps),
            delay: self.delay,
            seed,
            bytes: 0,
            patience: Duration::ZERO,
        };
        carried(from, to, &path, time)
    }

    /// What each kind of transfer carries.
    fn run_all(self, seed: u64, time: Duration) -> Result<Vec<f64>, SideError> {
        let together: Vec<_> = (0..KINDS.len())
            .map(|kind| {
                thread::spawn(move || {
                    thread::sleep(self.apart * kind as u32);
                    self.run(kind, seed, time)
                })
            })
            .collect();
        let ended = together.into_iter().map(|run| run.join());
        ended
            .map(|run| run.map_err(|_| SideError::new("a run panicked"))?)
            .collect()
    }

    /// How long all of them take.
    fn takes(&self, time: Duration) -> Duration {
        time + self.apart * (KINDS.len() as u32 - 1)
    }
}

/// `compare -- loss-linux`: what arrives over 100 Mbit/s and 40 ms, and over 1 Gbit/s and 100 ms, in real time and with the
/// losses of as many seeds.
///
/// All kinds of transfers with the same losses run beside each other, each over a link of its own. A row has the median of
/// the seeds, how it compares with that of the kernel with itself, and the least and the most that any seed compares to.
/// Where what the first rows carry is not what the link does, the machine was too busy.
///
/// # Errors
/// Without the right to make TAPs; when a transfer fails.
pub fn matrix(seeds: u64, time: Duration) -> Result<Table, SideError> {
    let ns = NetNs::new()?;
    ns.run(vnet_tap::probe).map_err(text)?;
    let round: Duration = CELLS.iter().map(|cell| cell.takes(time)).sum();
    eprintln!("about {} s", (round * seeds as u32).as_secs());
    let mut table = Table::new();
    table.load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
    table.set_header([
        "path",
        "loss, %",
        "from and to",
        "Mbit/s",
        "ratio",
        "least",
        "most",
    ]);
    for cell in CELLS {
        // What each kind carried, by seed.
        let mut all = vec![Vec::new(); KINDS.len()];
        for seed in 1..=seeds {
            for (kind, carried) in cell.run_all(seed, time)?.into_iter().enumerate() {
                let Cell { path, loss, .. } = cell;
                eprintln!(
                    "{path}, {loss} %, seed {seed}, {}: {carried:.2}",
                    KINDS[kind].0
                );
                all[kind].push(carried);
            }
        }
        let kernel = median(all[0].clone());
        for (carried, (name, ..)) in all.iter().zip(KINDS) {
            let middle = median(carried.clone());
            let ratios: Vec<f64> = carried.iter().zip(&all[0]).map(|(a, b)| a / b).collect();
            let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
            let most = ratios.iter().copied().fold(0.0, f64::max);
            let figures = [middle, middle / kernel, least, most].map(|n| format!("{n:.2}"));
            let names = [
                cell.path.to_owned(),
                cell.loss.to_string(),
                (*name).to_owned(),
            ];
            table.add_row(names.into_iter().chain(figures));
        }
    }
    numbers_right(&mut table, 3);
    Ok(table)
}

/// One end of the link.
struct End {
    vnet: OwnedVnet,
    /// The TAP goes before the namespace it is in.
    kernel: Option<(Tap, Arc<NetNs>)>,
}

impl End {
    fn make(
        system: &System,
        name: &str,
        whose: Whose,
        address: Ipv4Addr,
    ) -> Result<End, SideError> {
        let vnet = system.create(name).map_err(text)?;
        if whose == Whose::Ours {
            return Ok(End { vnet, kernel: None });
        }
        let ns = namespace()?;
        for (key, value) in KERNEL {
            kernel::set(&ns, key, value)?;
        }
        let inside = (*vnet).clone();
        let tap = ns
            .run(move || Tap::attach(&inside, "tap0", TapConfig::default()))
            .map_err(text)?;
        let host = tap.host_name();
        ns.ip(&format!("addr add {address}/24 dev {host}"))?;
        ns.ip(&format!("link set {host} up"))?;
        let kernel = Some((tap, Arc::new(ns)));
        Ok(End { vnet, kernel })
    }

    /// Joins the end to its wire.
    fn join(&self, address: Ipv4Addr) -> Result<(), SideError> {
        if self.kernel.is_none() {
            let net = format!("{address}/24").parse().map_err(text)?;
            return self.vnet.add_address("wire", net).map_err(text);
        }
        self.vnet.bridge("bridge0").map_err(text)?;
        self.vnet.add_member("bridge0", "tap0").map_err(text)?;
        self.vnet.add_member("bridge0", "wire").map_err(text)
    }

    fn impair(&self, path: &Path, direction: u64) -> Result<(), SideError> {
        let config = LinkConfig {
            delay: path.delay,
            rate_bps: path.rate_bps,
            loss: Loss::Trace(losses(
                path.seed,
                direction,
                path.loss[direction as usize - 1],
            )),
            ..LinkConfig::default()
        };
        self.vnet.set_link("wire", config).map_err(text)
    }

    fn listen(&self) -> Result<Listener, SideError> {
        let at = SocketAddr::from((RECEIVER, PORT));
        Ok(match &self.kernel {
            None => Listener::Ours(vnet::net::TcpListener::bind_in(&self.vnet, at)?),
            Some((_, ns)) => Listener::Kernel(ns.run(move || TcpListener::bind(at))?),
        })
    }

    fn connect(&self) -> Result<Stream, SideError> {
        connect(&self.vnet, self.kernel.as_ref().map(|(_, ns)| &**ns)).map_err(Into::into)
    }

    /// Connects and sends, on a thread of its own.
    fn send(&self, bytes: usize) -> thread::JoinHandle<io::Result<()>> {
        let vnet = (*self.vnet).clone();
        let ns = self.kernel.as_ref().map(|(_, ns)| Arc::clone(ns));
        thread::spawn(move || {
            let mut stream = connect(&vnet, ns.as_deref())?;
            stream.write_all(&vec![7; bytes])?;
            stream.shutdown()
        })
    }
}

fn connect(vnet: &vnet::Vnet, ns: Option<&NetNs>) -> io::Result<Stream> {
    let to = SocketAddr::from((RECEIVER, PORT));
    Ok(match ns {
        None => Stream::Ours(vnet::net::TcpStream::connect_in(vnet, to)?),
        Some(ns) => Stream::Kernel(ns.run(move || TcpStream::connect(to))?),
    })
}

enum Listener {
    Ours(vnet::net::TcpListener),
    Kernel(TcpListener),
}

impl Listener {
    fn try_clone(&self) -> io::Result<Listener> {
        Ok(match self {
            Listener::Ours(l) => Listener::Ours(l.try_clone()?),
            Listener::Kernel(l) => Listener::Kernel(l.try_clone()?),
        })
    }

    fn accept(&self) -> io::Result<Stream> {
        Ok(match self {
            Listener::Ours(l) => Stream::Ours(l.accept()?.0),
            Listener::Kernel(l) => Stream::Kernel(l.accept()?.0),
        })
    }
}

enum Stream {
    Ours(vnet::net::TcpStream),
    Kernel(TcpStream),
}

impl Stream {
    fn try_clone(&self) -> io::Result<Stream> {
        Ok(match self {
            Stream::Ours(s) => Stream::Ours(s.try_clone()?),
            Stream::Kernel(s) => Stream::Kernel(s.try_clone()?),
        })
    }

    /// Whoever waits to read or to write fails, or is at the end.
    fn abort(&self) -> io::Result<()> {
        match self {
            Stream::Ours(s) => s.shutdown(Shutdown::Both),
            Stream::Kernel(s) => s.shutdown(Shutdown::Both),
        }
    }

    fn shutdown(&self) -> io::Result<()> {
        match self {
            Stream::Ours(s) => s.shutdown(Shutdown::Write),
            Stream::Kernel(s) => s.shutdown(Shutdown::Write),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Ours(s) => s.read(buf),
            Stream::Kernel(s) => s.read(buf),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Ours(s) => s.write(data),
            Stream::Kernel(s) => s.write(data),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Which frames of one direction are lost: each with the same probability, by the seed
/// (SplitMix64).
fn losses(seed: u64, direction: u64, probability: f64) -> Arc<[bool]> {
    let mut state = seed.wrapping_mul(2).wrapping_add(direction) << 32;
    let next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) as f64) < probability * u64::MAX as f64
    };
    std::iter::repeat_with(next).take(PATTERN).collect()
}

fn text(e: impl std::fmt::Display) -> SideError {
    SideError::new(e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_differ_by_seed_and_direction_and_lose_their_share() {
        let pattern = losses(1, 1, 0.2);
        let lost = pattern.iter().filter(|l| **l).count();
        assert!((PATTERN / 6..PATTERN / 4).contains(&lost), "{lost}");
        assert_eq!(pattern, losses(1, 1, 0.2));
        assert_ne!(pattern, losses(1, 2, 0.2));
        assert_ne!(pattern, losses(2, 1, 0.2));
    }

    #[test]
    fn a_transfer_of_ours_arrives() {
        let path = Path {
            loss: [0.0; 2],
            rate_bps: None,
            delay: Duration::ZERO,
            seed: 1,
            bytes: 100_000,
            patience: Duration::from_secs(60),
        };
        transfer(Whose::Ours, Whose::Ours, &path).unwrap();
    }
}

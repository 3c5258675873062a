//! `compare -- loss`: what a bulk transfer carries over long, fast and lossy paths, in virtual time.
//!
//! Each run is a world of its own: two vnets and a link with a rate, a delay, a queue of 1000 frames, and random losses
//! in the direction of the data. A figure is what the application has received, in megabits per second: in the second
//! half of the run, when slow start is over, and in parentheses in all of it. Times are the world's, so other load on the
//! machine changes nothing. How long is simulated depends on the rate, because a run takes real time for each frame.
//!
//! [`fairness`](crate::fairness) has what transfers do to each other and to a queue.

mod smol;

use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use comfy_table::Table;
use vnet::link::{Jitter, LinkStats, Order};
use vnet::net::{TcpListener, TcpStream};
use vnet::{LinkConfig, OwnedVnet, System, TaskHandle, Vnet};

use crate::compare::{SideError, median};

/// The receiver (RFC 2544, benchmarking); senders have the addresses that follow.
const RECEIVER: Ipv4Addr = Ipv4Addr::new(198, 18, 4, 1);
const PORT: u16 = 5001;
const WIRE: &str = "wire";
/// How much the way to the switch varies. Without it, transfers fall into step, and a full queue has room for the frames
/// of one and never for those of another (Floyd and Jacobson, 1992).
const JITTER: Duration = Duration::from_micros(250);
/// The limit of each buffer, in bytes.
const BUFFER: u64 = 16 << 20;
/// Bytes that the application moves at once.
const CHUNK: usize = 256 << 10;

/// A path.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// Its name in the table.
    pub name: &'static str,
    /// Bits per second.
    pub rate_bps: u64,
    /// There and back.
    pub rtt: Duration,
    /// How long is simulated.
    pub time: Duration,
}

/// The paths of the table.
pub const PATHS: &[Path] = &[
    Path {
        name: "100 Mbit/s x 40 ms",
        rate_bps: 100_000_000,
        rtt: Duration::from_millis(40),
        time: Duration::from_secs(30),
    },
    Path {
        name: "1 Gbit/s x 100 ms",
        rate_bps: 1_000_000_000,
        rtt: Duration::from_millis(100),
        time: Duration::from_secs(30),
    },
    Path {
        name: "10 Gbit/s x 10 ms",
        rate_bps: 10_000_000_000,
        rtt: Duration::from_millis(10),
        time: Duration::from_secs(4),
    },
];

/// Shares of the frames that are lost, in percent.
pub const LOSSES: &[f64] = &[0.0, 0.01, 0.1, 1.0, 3.0];

/// The values of `net.inet.tcp.cc` in the table; with "unpaced", `net.inet.tcp.pacing` is off. The last is another stack.
pub const ALGORITHMS: &[&str] = &["cubic", "cubic unpaced", "bbr", "reno", SMOLTCP];
const SMOLTCP: &str = "smoltcp";

/// What a transfer carried, in megabits per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Carried {
    /// In the second half of the time.
    pub late: f64,
    /// In all of it.
    pub whole: f64,
}

/// A world in which transfers run.
pub struct World {
    system: System,
    /// Where the data comes from.
    senders: Vec<OwnedVnet>,
    receiver: OwnedVnet,
    transfers: Vec<Transfer>,
}

impl World {
    /// A sender and a receiver, and a link between them with these ends: of the data, and of the acknowledgements.
    ///
    /// # Errors
    /// When the world cannot be set up.
    pub fn direct(seed: u64, [data, acks]: [LinkConfig; 2]) -> Result<World, SideError> {
        let system = System::virtual_time(seed);
        let sender = system.create("sender").map_err(text)?;
        let receiver = system.create("receiver").map_err(text)?;
        sender.epair(WIRE, &receiver, WIRE).map_err(text)?;
        equip(&sender, sender_address(0), data)?;
        equip(&receiver, RECEIVER, acks)?;
        let senders = vec![sender];
        Ok(World::of(system, senders, receiver))
    }

    /// A sender for each of these delays there and back, and a switch that joins them to a link with these ends, behind
    /// which the receiver is.
    ///
    /// # Errors
    /// When the world cannot be set up.
    pub fn joined(
        seed: u64,
        [data, acks]: [LinkConfig; 2],
        delays: &[Duration],
    ) -> Result<World, SideError> {
        let system = System::virtual_time(seed);
        let switch = system.create("switch").map_err(text)?;
        let receiver = system.create("receiver").map_err(text)?;
        switch.bridge("bridge0").map_err(text)?;
        switch.epair(WIRE, &receiver, WIRE).map_err(text)?;
        switch.add_member("bridge0", WIRE).map_err(text)?;
        switch.set_link(WIRE, data).map_err(text)?;
        equip(&receiver, RECEIVER, acks)?;
        let mut senders = Vec::new();
        for (n, delay) in delays.iter().enumerate() {
            let sender = system.create(&format!("sender{n}")).map_err(text)?;
            let port = format!("port{n}");
            sender.epair(WIRE, &switch, &port).map_err(text)?;
            switch.add_member("bridge0", &port).map_err(text)?;
            let access = LinkConfig {
                delay: *delay / 2,
                jitter: Jitter::Uniform {
                    amplitude: JITTER,
                    order: Order::Kept,
                },
                ..LinkConfig::default()
            };
            switch.set_link(&port, access.clone()).map_err(text)?;
            equip(&sender, sender_address(n), access)?;
            senders.push(sender);
        }
        senders.push(switch);
        Ok(World::of(system, senders, receiver))
    }

    fn of(system: System, senders: Vec<OwnedVnet>, receiver: OwnedVnet) -> World {
        World {
            system,
            senders,
            receiver,
            transfers: Vec::new(),
        }
    }

    /// Sets a tunable in every vnet.
    ///
    /// # Errors
    /// When there is no such tunable, or it cannot have the value.
    pub fn set(&self, name: &str, value: &str) -> Result<(), SideError> {
        for vnet in self.senders.iter().chain([&self.receiver]) {
            vnet.set_sysctl(name, value).map_err(text)?;
        }
        Ok(())
    }

    /// Starts a transfer from the `n`th sender, with one of [`ALGORITHMS`].
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&mut self, n: usize, algorithm: &str) -> Result<(), SideError> {
        let (control, pacing) = match algorithm.strip_suffix(" unpaced") {
            Some(control) => (control, 0),
            None => (algorithm, 1),
        };
        let sender = &self.senders[n];
        sender
            .set_sysctl("net.inet.tcp.cc", control)
            .map_err(text)?;
        sender
            .set_sysctl("net.inet.tcp.pacing", pacing)
            .map_err(text)?;
        let port = PORT + self.transfers.len() as u16;
        self.transfers
            .push(Transfer::start(sender, &self.receiver, port)?);
        Ok(())
    }

    /// Lets so much time pass, and returns what each transfer carried in it.
    ///
    /// # Errors
    /// When a transfer has ended.
    pub fn run(&self, time: Duration) -> Result<Vec<Carried>, SideError> {
        let received = || self.transfers.iter().map(Transfer::received).collect();
        let begin: Vec<u64> = received();
        self.system.run_for(time / 2).map_err(text)?;
        let middle: Vec<u64> = received();
        self.system.run_for(time / 2).map_err(text)?;
        let mut carried = Vec::new();
        for (n, transfer) in self.transfers.iter().enumerate() {
            if transfer.sender.is_finished() || transfer.receiver.is_finished() {
                return Err(SideError::new("the transfer ended early"));
            }
            let end = transfer.received();
            let rate = |bytes: u64, time: Duration| bytes as f64 * 8.0 / time.as_secs_f64() / 1e6;
            carried.push(Carried {
                late: rate(end - middle[n], time / 2),
                whole: rate(end - begin[n], time),
            });
        }
        Ok(carried)
    }

    /// The counters of the link that all data goes over, on its sending side.
    ///
    /// # Errors
    /// When it is gone.
    pub fn link(&self) -> Result<LinkStats, SideError> {
        let last = self.senders.last().expect("there is a sender");
        last.link_stats(WIRE).map_err(text)
    }

    /// A counter of all senders together, such as `tcp.retransmits`.
    ///
    /// # Errors
    /// When a vnet is gone.
    pub fn count(&self, name: &str) -> Result<u64, SideError> {
        let mut sum = 0;
        for sender in &self.senders {
            let counters = sender.protocol_stats().map_err(text)?;
            sum += counters.get(name).unwrap_or(0);
        }
        Ok(sum)
    }
}

fn sender_address(n: usize) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(RECEIVER) + 1 + n as u32)
}

/// Gives an end its address, its side of the wire, and its buffers.
fn equip(vnet: &Vnet, address: Ipv4Addr, link: LinkConfig) -> Result<(), SideError> {
    let net = format!("{address}/24").parse().map_err(text)?;
    vnet.add_address(WIRE, net).map_err(text)?;
    vnet.set_link(WIRE, link).map_err(text)?;
    vnet.set_sysctl("net.inet.tcp.maxbuf", BUFFER).map_err(text)
}

/// Runs one transfer and returns what it carried.
///
/// # Errors
/// When the world cannot be set up.
pub fn goodput(
    path: &Path,
    percent: f64,
    algorithm: &str,
    seed: u64,
) -> Result<Carried, SideError> {
    let link = LinkConfig {
        rate_bps: Some(path.rate_bps),
        delay: path.rtt / 2,
        ..LinkConfig::default()
    };
    let data = LinkConfig {
        loss: (percent / 100.0).into(),
        ..link.clone()
    };
    if algorithm == SMOLTCP {
        return smol::goodput(seed, [data, link], path.time);
    }
    let mut world = World::direct(seed, [data, link])?;
    world.start(0, algorithm)?;
    Ok(world.run(path.time)?[0])
}

/// A transfer that does not end.
struct Transfer {
    received: Arc<AtomicU64>,
    sender: TaskHandle<std::io::Result<()>>,
    receiver: TaskHandle<std::io::Result<()>>,
}

impl Transfer {
    fn start(a: &Vnet, b: &Vnet, port: u16) -> Result<Transfer, SideError> {
        let to = SocketAddr::from((RECEIVER, port));
        let received = Arc::new(AtomicU64::new(0));
        let listener = TcpListener::bind_in(b, to)?;
        let count = Arc::clone(&received);
        let receiver = b.spawn_future(async move {
            let (stream, _) = poll_fn(|cx| listener.poll_accept(cx)).await?;
            let mut buf = vec![0; CHUNK];
            loop {
                match poll_fn(|cx| stream.poll_read(cx, &mut buf)).await? {
                    0 => return Ok(()),
                    n => count.fetch_add(n as u64, Ordering::Relaxed),
                };
            }
        });
        let stream = TcpStream::start_connect_in(a, to)?;
        let sender = a.spawn_future(async move {
            poll_fn(|cx| stream.poll_connect(cx)).await?;
            let data = vec![7; CHUNK];
            loop {
                poll_fn(|cx| stream.poll_write(cx, &data)).await?;
            }
        });
        Ok(Transfer {
            received,
            sender,
            receiver,
        })
    }

    fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

/// The table: medians over the seeds `1..=seeds`, two runs at a time.
///
/// # Errors
/// When a world cannot be set up.
pub fn measure(seeds: u64, paths: &[Path]) -> Result<Table, SideError> {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
    let losses = LOSSES.iter().map(|p| format!("{p} %"));
    let head = ["path", "control"].map(str::to_owned);
    table.set_header(head.into_iter().chain(losses));
    for path in paths {
        for algorithm in ALGORITHMS {
            let mut row = vec![path.name.to_owned(), (*algorithm).to_owned()];
            for percent in LOSSES {
                let Carried { late, whole } = middle(path, *percent, algorithm, seeds)?;
                row.push(format!("{late:.2} ({whole:.2})"));
                eprintln!("{}", row.join(", "));
            }
            table.add_row(row);
        }
    }
    Ok(table)
}

fn middle(path: &Path, percent: f64, algorithm: &str, seeds: u64) -> Result<Carried, SideError> {
    // Without losses, nothing depends on the seed.
    let seeds = if percent == 0.0 { 1 } else { seeds };
    let run = |from: u64| {
        let mine = (from..=seeds).step_by(2);
        mine.map(|seed| goodput(path, percent, algorithm, seed))
            .collect::<Result<Vec<Carried>, SideError>>()
    };
    let (odd, even) = thread::scope(|scope| {
        let even = scope.spawn(|| run(2));
        (run(1), even.join())
    });
    let mut all = odd?;
    all.extend(even.map_err(|_| SideError::new("a run panicked"))??);
    Ok(Carried {
        late: median(all.iter().map(|c| c.late).collect()),
        whole: median(all.iter().map(|c| c.whole).collect()),
    })
}

pub(crate) fn text(e: impl std::fmt::Display) -> SideError {
    SideError::new(e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_clean_path_is_filled_and_runs_repeat() {
        let path = Path {
            name: "test",
            rate_bps: 20_000_000,
            rtt: Duration::from_millis(10),
            time: Duration::from_secs(4),
        };
        let clean = goodput(&path, 0.0, "cubic", 1).unwrap().late;
        assert!((18.0..20.0).contains(&clean), "{clean}");
        let lossy = goodput(&path, 1.0, "cubic", 1).unwrap().late;
        assert!(lossy < clean);
        assert_eq!(lossy, goodput(&path, 1.0, "cubic", 1).unwrap().late);
        let other = goodput(&path, 0.0, SMOLTCP, 1).unwrap().late;
        assert!((1.0..20.0).contains(&other), "{other}");
        // A loss in a hundred does not slow a model of the path down, where a window holds hundreds of segments.
        let path = Path {
            rate_bps: 50_000_000,
            rtt: Duration::from_millis(40),
            ..path
        };
        let model = goodput(&path, 1.0, "bbr", 1).unwrap().late;
        assert!(model > 30.0, "{model}");
    }
}

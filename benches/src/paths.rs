//! `compare -- loss`: what a bulk transfer carries over long, fast and lossy paths, in virtual time.
//!
//! Each run is a world of its own: two vnets and a link with a rate, a delay, a queue of 1000 frames, and random losses
//! in the direction of the data. A figure is what the application has received in the second half of the run, in
//! megabits per second: slow start is over by then. Times are the world's, so other load on the machine changes nothing.
//! How long is simulated depends on the rate, because a run takes real time for each frame.

use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use comfy_table::Table;
use vnet::net::{TcpListener, TcpStream};
use vnet::{LinkConfig, System, TaskHandle, Vnet};

use crate::compare::{SideError, median};

/// Sender and receiver (RFC 2544, benchmarking).
const SENDER: Ipv4Addr = Ipv4Addr::new(198, 18, 4, 1);
const RECEIVER: Ipv4Addr = Ipv4Addr::new(198, 18, 4, 2);
const PORT: u16 = 5001;
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

/// The values of `net.inet.tcp.cc` in the table; with "paced", `net.inet.tcp.pacing` is on.
pub const ALGORITHMS: &[&str] = &["cubic", "cubic paced", "bbr", "reno"];

/// Runs one transfer and returns the megabits per second that arrived in the second half of it.
///
/// # Errors
/// When the world cannot be set up.
pub fn goodput(path: &Path, percent: f64, algorithm: &str, seed: u64) -> Result<f64, SideError> {
    let link = LinkConfig {
        rate_bps: Some(path.rate_bps),
        delay: path.rtt / 2,
        ..LinkConfig::default()
    };
    let data = LinkConfig {
        loss: (percent / 100.0).into(),
        ..link.clone()
    };
    Ok(shares(path.time, [data, link], &[algorithm], seed)?[0])
}

/// Runs transfers side by side, one with each algorithm, over a link with the given ends, and returns the megabits per
/// second of each that arrived in the second half of the time.
///
/// # Errors
/// When the world cannot be set up.
pub fn shares(
    time: Duration,
    [data, acks]: [LinkConfig; 2],
    algorithms: &[&str],
    seed: u64,
) -> Result<Vec<f64>, SideError> {
    let system = System::virtual_time(seed);
    let a = system.create("sender").map_err(text)?;
    let b = system.create("receiver").map_err(text)?;
    a.epair("wire", &b, "wire").map_err(text)?;
    for (vnet, address, link) in [(&a, SENDER, data), (&b, RECEIVER, acks)] {
        let net = format!("{address}/24").parse().map_err(text)?;
        vnet.add_address("wire", net).map_err(text)?;
        vnet.set_link("wire", link).map_err(text)?;
        vnet.set_sysctl("net.inet.tcp.maxbuf", BUFFER)
            .map_err(text)?;
    }
    let mut transfers = Vec::new();
    for (n, algorithm) in algorithms.iter().enumerate() {
        let (control, pacing) = match algorithm.strip_suffix(" paced") {
            Some(control) => (control, 1),
            None => (*algorithm, 0),
        };
        a.set_sysctl("net.inet.tcp.cc", control).map_err(text)?;
        a.set_sysctl("net.inet.tcp.pacing", pacing).map_err(text)?;
        transfers.push(Transfer::start(&a, &b, PORT + n as u16)?);
    }
    let half = time / 2;
    system.run_for(half).map_err(text)?;
    let before: Vec<u64> = transfers.iter().map(Transfer::received).collect();
    system.run_for(half).map_err(text)?;
    let rate = |(t, before): (&Transfer, u64)| {
        if t.sender.is_finished() || t.receiver.is_finished() {
            return Err(SideError::new("the transfer ended early"));
        }
        let bytes = t.received() - before;
        Ok(bytes as f64 * 8.0 / half.as_secs_f64() / 1e6)
    };
    transfers.iter().zip(before).map(rate).collect()
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

/// The whole table: medians over the seeds `1..=seeds`, two runs at a time.
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
                row.push(format!("{:.2}", middle(path, *percent, algorithm, seeds)?));
                eprintln!("{}", row.join(", "));
            }
            table.add_row(row);
        }
    }
    Ok(table)
}

fn middle(path: &Path, percent: f64, algorithm: &str, seeds: u64) -> Result<f64, SideError> {
    // Without losses, nothing depends on the seed.
    let seeds = if percent == 0.0 { 1 } else { seeds };
    let run = |from: u64| {
        let mine = (from..=seeds).step_by(2);
        mine.map(|seed| goodput(path, percent, algorithm, seed))
            .collect::<Result<Vec<f64>, SideError>>()
    };
    let (odd, even) = thread::scope(|scope| {
        let even = scope.spawn(|| run(2));
        (run(1), even.join())
    });
    let mut all = odd?;
    all.extend(even.map_err(|_| SideError::new("a run panicked"))??);
    Ok(median(all))
}

fn text(e: impl std::fmt::Display) -> SideError {
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
        let clean = goodput(&path, 0.0, "cubic", 1).unwrap();
        assert!((18.0..20.0).contains(&clean), "{clean}");
        let lossy = goodput(&path, 1.0, "cubic", 1).unwrap();
        assert!(lossy < clean);
        assert_eq!(lossy, goodput(&path, 1.0, "cubic", 1).unwrap());
        // A loss in a hundred does not slow a model of the path down, where a window holds hundreds of segments.
        let path = Path {
            rate_bps: 50_000_000,
            rtt: Duration::from_millis(40),
            ..path
        };
        let model = goodput(&path, 1.0, "bbr", 1).unwrap();
        assert!(model > 30.0, "{model}");
    }
}

//! How evenly guests share a bridge: pairs of guests' sockets, each in a VLAN of its own, send as fast as
//! they can, all at once. Run it in release mode on an idle machine.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use comfy_table::Table;
use vnet::{BridgeConfig, BridgeVlans, MemberConfig, MemberVlans, System};
use vnet_tap::{Framing, Guest, Guests};

#[derive(Parser)]
struct Args {
    /// Guests: half of them send, each to one of the others.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(2..=2048))]
    guests: u16,
    /// Seconds of each run, after one second that is not counted.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Runs.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Bytes of each frame.
    #[arg(long, default_value_t = 1514, value_parser = clap::value_parser!(u32).range(14..=1514))]
    frame: u32,
}

type AnyError = Box<dyn std::error::Error>;

fn main() -> Result<(), AnyError> {
    let args = Args::parse();
    let mut table = Table::new();
    table.set_header([
        "run",
        "pairs",
        "Gbit/s",
        "least share",
        "greatest share",
        "Jain",
    ]);
    for run in 1..=args.runs {
        let bytes = carried(&args)?;
        let pairs = bytes.len() as f64;
        let sum: f64 = bytes.iter().sum();
        let squares: f64 = bytes.iter().map(|b| b * b).sum();
        let mean = sum / pairs;
        let least = bytes.iter().copied().fold(f64::INFINITY, f64::min);
        let greatest = bytes.iter().copied().fold(0.0, f64::max);
        table.add_row([
            run.to_string(),
            bytes.len().to_string(),
            format!("{:.2}", sum * 8.0 / args.seconds as f64 / 1e9),
            format!("{:.3}", least / mean),
            format!("{:.3}", greatest / mean),
            format!("{:.4}", sum * sum / (pairs * squares)),
        ]);
    }
    println!("{table}");
    println!("A share of 1 is that of the mean pair.");
    Ok(())
}

/// The bytes that each pair carried in the time that counts.
fn carried(args: &Args) -> Result<Vec<f64>, AnyError> {
    let pairs = args.guests / 2;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("lan.sock");
    let listener = UnixListener::bind(&path)?;
    let system = System::threads();
    let lan = system.create("lan")?;
    lan.bridge("br0")?;
    let config = BridgeConfig {
        vlans: Some(BridgeVlans::default()),
        ..BridgeConfig::default()
    };
    lan.set_bridge("br0", config)?;
    let inside = (*lan).clone();
    let guests = Guests::listen(listener, args.guests.into(), move |number, socket| {
        let name = format!("guest{number}");
        let guest = Guest::attach(&inside, &name, socket, Framing::Length32)?;
        inside.add_member("br0", &name)?;
        let vid = u16::try_from(number).unwrap_or(0) / 2 + 1;
        let config = MemberConfig {
            vlans: MemberVlans::access(vid),
            ..MemberConfig::default()
        };
        inside.set_member("br0", &name, config)?;
        Ok(guest)
    })?;
    let mut sockets = Vec::new();
    for n in 1..=usize::from(pairs) * 2 {
        sockets.push(UnixStream::connect(&path)?);
        // Guests are numbered as they are accepted.
        while guests.counts().connected < n {
            if guests.counts().refused > 0 {
                return Err("a guest was refused".into());
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
    let counters: Vec<AtomicU64> = (0..pairs).map(|_| AtomicU64::new(0)).collect();
    let look = || -> Vec<u64> {
        let all = counters.iter();
        all.map(|c| c.load(Ordering::Relaxed)).collect()
    };
    thread::scope(|scope| {
        for (pair, counter) in sockets.chunks_exact(2).zip(&counters) {
            let (from, to) = (&pair[0], &pair[1]);
            let frame = frame(args.frame);
            scope.spawn(move || while (&*from).write_all(&frame).is_ok() {});
            scope.spawn(move || count(to, counter));
        }
        thread::sleep(Duration::from_secs(1));
        let (began, before) = (Instant::now(), look());
        thread::sleep(Duration::from_secs(args.seconds));
        let (took, after) = (began.elapsed(), look());
        for socket in &sockets {
            // Ends the threads of both ends; the other one may have been first.
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
        let scale = args.seconds as f64 / took.as_secs_f64();
        let counted = before.iter().zip(after);
        Ok(counted.map(|(b, a)| (a - b) as f64 * scale).collect())
    })
}

/// A frame to everybody in the VLAN, which is one guest, behind its length.
fn frame(len: u32) -> Vec<u8> {
    let mut frame = len.to_be_bytes().to_vec();
    frame.extend([0xff; 6]);
    frame.extend([2, 0, 0, 0, 0, 1, 0x88, 0xb5]);
    frame.resize(len as usize + 4, 7);
    frame
}

fn count(mut from: &UnixStream, counter: &AtomicU64) {
    let mut buf = vec![0; 1 << 16];
    loop {
        match from.read(&mut buf) {
            Ok(0) => return,
            Ok(n) => {
                counter.fetch_add(n as u64, Ordering::Relaxed);
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

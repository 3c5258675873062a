//! How evenly guests share a bridge: pairs of guests' sockets, each in a VLAN of its own, send as fast as
//! they can, all at once. Run it in release mode on an idle machine.
//!
//! One thread fills the sockets of all who send, one after the other, and another empties those of all who
//! receive: the scheduler of the host does not decide who gets how much. A guest is given as many frames at
//! once as an emulator hands over whose guest has a full ring. The vnet decides, and not who fills the sockets, as
//! long as the latter finds all of them well filled and has to wait: for how much of the time is in the last column.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use comfy_table::Table;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
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

/// Bytes of frames that a guest sends at once, and that one receives at once.
const AT_ONCE: usize = 1 << 16;

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
        "loader waits",
    ]);
    for run in 1..=args.runs {
        let Carried { bytes, waiting } = carried(&args)?;
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
            format!("{:.0} %", 100.0 * waiting),
        ]);
    }
    println!("{table}");
    println!("A share of 1 is that of the mean pair.");
    Ok(())
}

/// What a run has shown.
struct Carried {
    /// That each pair carried in the time that counts.
    bytes: Vec<f64>,
    /// The part of the time for which there was no room for more in any sender's socket.
    waiting: f64,
}

fn carried(args: &Args) -> Result<Carried, AnyError> {
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
    for socket in &sockets {
        socket.set_nonblocking(true)?;
    }
    let (from, to): (Vec<_>, Vec<_>) = sockets.chunks_exact(2).map(|p| (&p[0], &p[1])).unzip();
    let counters: Vec<AtomicU64> = (0..pairs).map(|_| AtomicU64::new(0)).collect();
    let look = || -> Vec<u64> {
        let all = counters.iter();
        all.map(|c| c.load(Ordering::Relaxed)).collect()
    };
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let loader = scope.spawn(|| load(&from, args.frame, &stop));
        let counting = scope.spawn(|| count(&to, &counters, &stop));
        thread::sleep(Duration::from_secs(1));
        let (began, before) = (Instant::now(), look());
        thread::sleep(Duration::from_secs(args.seconds));
        let (took, after) = (began.elapsed(), look());
        stop.store(true, Ordering::Relaxed);
        let waiting = loader.join().map_err(|_| "the loader panicked")??;
        counting.join().map_err(|_| "the counter panicked")??;
        let scale = args.seconds as f64 / took.as_secs_f64();
        let counted = before.iter().zip(after);
        Ok(Carried {
            bytes: counted.map(|(b, a)| (a - b) as f64 * scale).collect(),
            waiting,
        })
    })
}

/// Keeps sockets full, and says for which part of the time there was nothing to do.
fn load(sockets: &[&UnixStream], len: u32, stop: &AtomicBool) -> io::Result<f64> {
    let frame = frame(len);
    let all = frame.repeat((AT_ONCE / frame.len()).max(1));
    // How much of them each has sent.
    let mut sent = vec![0; sockets.len()];
    let (began, mut waited) = (Instant::now(), Duration::ZERO);
    while !stop.load(Ordering::Relaxed) {
        let full = Instant::now();
        wait(sockets, PollFlags::OUT)?;
        waited += full.elapsed();
        for (mut socket, sent) in sockets.iter().copied().zip(&mut sent) {
            match socket.write(&all[*sent..]) {
                Ok(n) => *sent = (*sent + n) % all.len(),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
        }
    }
    Ok(waited.as_secs_f64() / began.elapsed().as_secs_f64())
}

/// Counts what comes of each.
fn count(sockets: &[&UnixStream], counters: &[AtomicU64], stop: &AtomicBool) -> io::Result<()> {
    let mut buf = vec![0; AT_ONCE];
    while !stop.load(Ordering::Relaxed) {
        wait(sockets, PollFlags::IN)?;
        for (mut socket, counter) in sockets.iter().copied().zip(counters) {
            match socket.read(&mut buf) {
                Ok(n) => {
                    counter.fetch_add(n as u64, Ordering::Relaxed);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
        }
    }
    Ok(())
}

/// Waits until one of them is ready, or for a tenth of a second.
fn wait(sockets: &[&UnixStream], flags: PollFlags) -> io::Result<()> {
    let mut all: Vec<_> = sockets.iter().map(|s| PollFd::new(*s, flags)).collect();
    let timeout = Timespec {
        tv_sec: 0,
        tv_nsec: 100_000_000,
    };
    poll(&mut all, Some(&timeout))?;
    Ok(())
}

/// A frame to everybody in the VLAN, which is one guest, behind its length.
fn frame(len: u32) -> Vec<u8> {
    let mut frame = len.to_be_bytes().to_vec();
    frame.extend([0xff; 6]);
    frame.extend([2, 0, 0, 0, 0, 1, 0x88, 0xb5]);
    frame.resize(len as usize + 4, 7);
    frame
}

//! How late frames and sleeps are under the threads driver: the time from when something was due to
//! when a thread that waited for it went on. Never negative; how much it is depends on the operating
//! system and on what else the machine does. Run it in release mode on an idle machine.

use std::time::Duration;

use clap::Parser;
use comfy_table::Table;
use vnet::net::UdpSocket;
use vnet::{LinkConfig, System, ThreadsConfig};

#[derive(Parser)]
struct Args {
    /// Frames, and sleeps, for each delay.
    #[arg(long, default_value_t = 400)]
    count: usize,
    /// Delays in microseconds.
    #[arg(long, value_delimiter = ',', default_values_t = [1000, 5000, 20_000])]
    delays: Vec<u64>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    let standard = ThreadsConfig::default();
    let mut table = Table::new();
    table.set_header(["timer_spin", "what", "delay", "median", "p99", "max"]);
    let mut spins = vec![Duration::ZERO, standard.timer_spin];
    spins.extend([100, 200].map(Duration::from_micros));
    spins.dedup();
    for timer_spin in spins {
        let config = ThreadsConfig {
            timer_spin,
            ..standard
        };
        for delay in &args.delays {
            let delay = Duration::from_micros(*delay);
            for (what, measure) in [("frame", frames as Measure), ("sleep", sleeps)] {
                let mut late = measure(config, delay, args.count)?;
                late.sort_unstable();
                table.add_row([
                    format!("{timer_spin:?}"),
                    what.to_owned(),
                    format!("{delay:?}"),
                    format!("{:.1?}", late[late.len() / 2]),
                    format!("{:.1?}", late[late.len() * 99 / 100]),
                    format!("{:.1?}", late[late.len() - 1]),
                ]);
            }
        }
    }
    println!("{table}");
    Ok(())
}

type Late = Result<Vec<Duration>, Box<dyn std::error::Error>>;
type Measure = fn(ThreadsConfig, Duration, usize) -> Late;

/// Datagrams over a link with that delay, one at a time, received by a thread that waits.
fn frames(config: ThreadsConfig, delay: Duration, count: usize) -> Late {
    let system = System::threads_with(config);
    let (a, b) = (system.create("a")?, system.create("b")?);
    a.epair("eth0", &b, "eth0")?;
    a.add_address("eth0", "192.0.2.1/24".parse()?)?;
    b.add_address("eth0", "192.0.2.2/24".parse()?)?;
    let sink = UdpSocket::bind_in(&b, "192.0.2.2:9")?;
    let source = UdpSocket::bind_in(&a, "192.0.2.1:9")?;
    source.send_to(b"who has it", "192.0.2.2:9")?;
    sink.recv(&mut [0; 16])?;
    let link = LinkConfig {
        delay,
        ..LinkConfig::default()
    };
    a.set_link("eth0", link)?;
    let mut late = Vec::with_capacity(count);
    for _ in 0..count {
        let sent = system.now();
        source.send_to(b"x", "192.0.2.2:9")?;
        // The frame's delay counts from a time within the call: what that takes is in the figure.
        sink.recv(&mut [0; 16])?;
        late.push(system.now() - sent - delay);
    }
    Ok(late)
}

/// Sleeps of a future that the calling thread blocks on.
fn sleeps(config: ThreadsConfig, delay: Duration, count: usize) -> Late {
    let system = System::threads_with(config);
    let mut late = Vec::with_capacity(count);
    for _ in 0..count {
        let until = system.now() + delay;
        system.block_on(system.sleep_until_async(until))?;
        late.push(system.now() - until);
    }
    Ok(late)
}

//! How long a transfer takes over a link that loses frames both ways, beside the kernel's TCP.
//!
//! ```text
//! cargo run --release -p vnet-benches --bin loss
//! cargo run --release -p vnet-benches --bin loss -- --loss 5,20 --delay-ms 10 --seeds 20
//! ```
//!
//! It needs root and `/dev/net/tun`, for the kernel's side; without them it says so and measures
//! ours alone. Transfers run side by side, in real time: most of it is waiting.

use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use clap::Parser;
use comfy_table::Table;
use vnet_benches::compare::median;
use vnet_benches::loss::{KINDS, Path, Whose, transfer};

#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Percentages of frames lost, each way.
    #[arg(long, value_delimiter = ',', default_values_t = [5.0, 10.0, 20.0])]
    loss: Vec<f64>,
    /// Delay each way, in milliseconds.
    #[arg(long, default_value_t = 0)]
    delay_ms: u64,
    /// Transfers of each kind.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// Bytes of a transfer.
    #[arg(long, default_value_t = 1_000_000)]
    bytes: usize,
    /// Seconds after which a transfer has failed.
    #[arg(long, default_value_t = 600)]
    patience: u64,
    /// Transfers at a time.
    #[arg(long, default_value_t = 24)]
    at_once: usize,
    /// Fails when our median, sender and receiver, is above so many times the kernel's.
    #[arg(long)]
    within: Option<f64>,
    /// Prints each transfer.
    #[arg(long)]
    each: bool,
}

struct Transfer {
    kind: usize,
    path: Path,
    seconds: Option<f64>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let kernel = match vnet_tap::NetNs::new().and_then(|ns| {
        let probed = ns.run(vnet_tap::probe);
        probed.map_err(std::io::Error::other)
    }) {
        Ok(()) => true,
        Err(e) => {
            eprintln!("loss: without the kernel: {e}");
            false
        }
    };
    let mut transfers = Vec::new();
    for loss in &arguments.loss {
        for (kind, (_, from, to)) in KINDS.iter().enumerate() {
            if !kernel && (*from, *to) != (Whose::Ours, Whose::Ours) {
                continue;
            }
            transfers.extend((1..=arguments.seeds).map(|seed| Transfer {
                kind,
                path: Path {
                    loss: [loss / 100.0; 2],
                    rate_bps: None,
                    delay: Duration::from_millis(arguments.delay_ms),
                    seed,
                    bytes: arguments.bytes,
                    patience: Duration::from_secs(arguments.patience),
                },
                seconds: None,
            }));
        }
    }
    run(&mut transfers, arguments.at_once.max(1));
    let mut ok = true;
    let mut table = Table::new();
    table
        .load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY)
        .set_header([
            "loss",
            "who",
            "median s",
            "least",
            "most",
            "of the kernel's",
        ]);
    for loss in &arguments.loss {
        let mut kernels = None;
        for (kind, (name, from, to)) in KINDS.iter().enumerate() {
            let of_it = transfers
                .iter()
                .filter(|t| t.kind == kind && t.path.loss[0] == loss / 100.0);
            // One that did not end counts as longer than any that did.
            let all: Vec<f64> = of_it.map(|t| t.seconds.unwrap_or(f64::INFINITY)).collect();
            if all.is_empty() {
                continue;
            }
            if arguments.each {
                println!("{loss} % {name}: {all:.2?}");
            }
            let least = all.iter().copied().fold(f64::INFINITY, f64::min);
            let most = all.iter().copied().fold(0.0, f64::max);
            let middle = median(all);
            if (*from, *to) == (Whose::Kernel, Whose::Kernel) {
                kernels = Some(middle);
            }
            let ratio = kernels.map(|k| middle / k);
            if (*from, *to) == (Whose::Ours, Whose::Ours)
                && let (Some(ratio), Some(within)) = (ratio, arguments.within)
            {
                ok &= ratio <= within;
            }
            table.add_row([
                format!("{loss} %"),
                (*name).to_owned(),
                format!("{middle:.2}"),
                format!("{least:.2}"),
                format!("{most:.2}"),
                ratio.map_or_else(String::new, |r| format!("{r:.2}")),
            ]);
        }
    }
    println!("{table}");
    if ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs all of them, a few at a time, in their order.
fn run(transfers: &mut [Transfer], at_once: usize) {
    let next = AtomicUsize::new(0);
    let results: Vec<_> = thread::scope(|scope| {
        let work = || {
            let mut done = Vec::new();
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                let Some(t) = transfers.get(n) else {
                    return done;
                };
                let (name, from, to) = KINDS[t.kind];
                match transfer(from, to, &t.path) {
                    Ok(took) => done.push((n, took.as_secs_f64())),
                    Err(e) => eprintln!("loss: {name}, seed {}: {e}", t.path.seed),
                }
            }
        };
        let workers: Vec<_> = (0..at_once).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .flat_map(|w| w.join().expect("a transfer returns its errors"))
            .collect()
    });
    for (n, seconds) in results {
        transfers[n].seconds = Some(seconds);
    }
}

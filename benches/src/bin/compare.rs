//! `compare`: vnet and other stacks side by side in one run.
//!
//! ```text
//! cargo run --release -p vnet-benches --bin compare -- all
//! cargo run --release -p vnet-benches --bin compare -- tcp-rr udp-rr --json
//! cargo run --release -p vnet-benches --bin compare -- async
//! cargo run --release -p vnet-benches --bin compare -- vlan
//! cargo run --release -p vnet-benches --bin compare -- ipv6 fib
//! cargo run --release -p vnet-benches --bin compare -- tap
//! cargo run --release -p vnet-benches --bin compare -- memory
//! cargo run --release -p vnet-benches --bin compare -- hog
//! cargo run --release -p vnet-benches --bin compare -- events --runs 3
//! cargo run --release -p vnet-benches --bin compare -- loss --runs 5
//! cargo run --release -p vnet-benches --bin compare -- fairness --runs 3
//! cargo run --release -p vnet-benches --bin compare -- loss-linux --seeds 5
//! ```

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use vnet_benches::asynchronous::idle;
use vnet_benches::case::{Case, Options, TAP_CASES, TAP_TIME, every, find};
use vnet_benches::compare::{Contest, SideError, run_alone};
use vnet_benches::counted::Counted;
use vnet_benches::report::{Line, table};
use vnet_benches::{events, fairness, loss, machine, memory, paths};

/// Counts for `memory`, and for nobody else.
#[global_allocator]
static ALLOCATOR: Counted = Counted::new();

/// How long a transfer of `loss-linux` lasts, in seconds, and a measurement of any other case.
const LOSS_LINUX: f64 = 30.0;
const SECONDS: f64 = 0.5;
/// What has no peer.
const IDLE: &str = "async-idle";
/// What is measured in bytes.
const MEMORY: &str = "memory";
/// What is measured in processes of their own.
const EVENTS: &str = "events";

/// Measures vnet against other stacks: alternating runs, medians, ratios (above 1: vnet is ahead).
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The cases to run; `all` for those that have an aim and what belongs to them, which takes some minutes; of these
    /// `tcp-bulk`, `forward`, `demux`, `cores`, `hog`, `memory` or `events`; `async` for streams of vnet-tokio, and idle ones (`async-idle`); `vlan` for what VLANs and
    /// bridges cost; `ipv6` for IPv6 beside IPv4; `fib` for lookups in large tables of routes; `tap` for those that need the
    /// right to make TAPs; alone, in virtual time and with a seed for each run, `loss` for long and lossy paths (megabits per
    /// second in the second half, and in all of it) or `fairness` for transfers that share a queue; alone, in real time and with the right to make TAPs,
    /// `loss-linux` for the same losses beside the kernel's TCP; or `list`.
    #[arg(required_unless_present_any = ["carry", "hold"], value_name = "CASE")]
    cases: Vec<String>,
    /// Recorded measurements of each side, or seeds; the median is reported, and below it the least and the greatest.
    #[arg(long, visible_alias = "seeds", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
    /// Length of one measurement; half a second if nothing is said, 0.2 for those of `tap`, for `loss-linux` 30.
    #[arg(long, value_parser = seconds)]
    seconds: Option<f64>,
    /// Bytes that one bulk measurement moves, instead of --seconds; 64M and 2G are understood.
    #[arg(long, value_parser = bytes)]
    bytes: Option<u64>,
    /// Connections of `async-idle`.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connections: u32,
    /// Measure one side alone and print its median: for a profiler.
    #[arg(long)]
    only: Option<Only>,
    /// One JSON object a line instead of a table.
    #[arg(long)]
    json: bool,
    /// Carries the flows of a network that is described in a file: our side of `events`.
    #[arg(long, hide = true, value_name = "FILE")]
    carry: Option<PathBuf>,
    /// Makes so many of them: our side of `memory`.
    #[arg(long, hide = true, num_args = 2, value_names = ["WHAT", "COUNT"])]
    hold: Vec<String>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Only {
    Ours,
    Peer,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let of_a_process = match (&arguments.carry, arguments.hold.as_slice()) {
        (Some(file), _) => Some(events::carry(file)),
        (None, [what, count]) => {
            let count = count
                .parse::<usize>()
                .map_err(|e| SideError::new(format!("{count}: {e}")));
            Some(count.and_then(|count| memory::hold(what, count, &ALLOCATOR)))
        }
        _ => None,
    };
    if let Some(figures) = of_a_process {
        return match figures {
            Ok(figures) => {
                println!("{figures}");
                ExitCode::SUCCESS
            }
            Err(e) => {
                eprintln!("compare: {e}");
                ExitCode::FAILURE
            }
        };
    }
    if arguments.cases.iter().any(|name| name == "list") {
        for case in every() {
            println!("{:<20} {}", case.name, case.about);
        }
        println!(
            "{MEMORY:<20} what an idle instance and an idle connection hold, beside the kernel's"
        );
        println!("{EVENTS:<20} a frame in simulated networks of up to 1 000 routers, against ns-3");
        println!("{IDLE:<20} idle connections of vnet-tokio: their memory, and what runs for them");
        return ExitCode::SUCCESS;
    }
    let seeds = arguments.runs.into();
    let time = |usual| Duration::from_secs_f64(arguments.seconds.unwrap_or(usual));
    let simulated = match arguments.cases.as_slice() {
        [name] if name == "loss" => Some(paths::measure(seeds, paths::PATHS)),
        [name] if name == "loss-linux" => Some(loss::matrix(seeds, time(LOSS_LINUX))),
        [name] if name == "fairness" => Some(fairness::measure(seeds)),
        _ => None,
    };
    match simulated {
        Some(Ok(table)) => {
            println!("{table}");
            return ExitCode::SUCCESS;
        }
        Some(Err(e)) => {
            eprintln!("compare: {e}");
            return ExitCode::FAILURE;
        }
        None => {}
    }
    let is_idle = |name: &String| name == "async" || name == IDLE;
    let with_idle = arguments.cases.iter().any(is_idle) && arguments.only.is_none();
    let cases = match select(&arguments.cases) {
        Ok(cases) => cases,
        Err(unknown) => {
            eprintln!("compare: no case {unknown:?}; `compare list` names them");
            return ExitCode::from(2);
        }
    };
    let options = |case: &Case| Options {
        time: match TAP_CASES.iter().any(|tap| tap.name == case.name) {
            true => time(TAP_TIME.as_secs_f64()),
            false => time(SECONDS),
        },
        bytes: arguments.bytes,
    };
    if let Some(only) = arguments.only {
        return alone(only, &cases, options, arguments.runs.into());
    }
    if !arguments.json {
        println!("{}", machine::line());
    }
    let mut lines = Vec::new();
    let mut failed = 0;
    let with_memory = arguments.cases.iter().any(|n| n == "all" || n == MEMORY);
    if with_memory && let Err(e) = tell_memory(arguments.json) {
        eprintln!("compare: {MEMORY}: {e}");
        failed += 1;
    }
    // First, in a process that holds nothing else.
    let idle = with_idle.then(|| idle::measure(arguments.connections as usize, time(SECONDS)));
    for case in cases {
        let outcome =
            (case.prepare)(&options(&case)).and_then(|contest| contest.run(arguments.runs.into()));
        match outcome {
            Ok(outcome) => {
                let line = Line::new(case.name, case.aim, outcome);
                if arguments.json {
                    println!("{}", line.json());
                }
                lines.push(line);
            }
            Err(e) if e.is_skipped => println!("SKIPPED: {}: {e}", case.name),
            Err(e) => {
                eprintln!("compare: {}: {e}", case.name);
                failed += 1;
            }
        }
    }
    if !arguments.json && !lines.is_empty() {
        println!("{}", table(&lines));
    }
    let with_events = arguments.cases.iter().any(|n| n == "all" || n == EVENTS);
    if with_events && let Err(e) = tell_events(arguments.runs.into(), arguments.json) {
        eprintln!("compare: {EVENTS}: {e}");
        failed += 1;
    }
    match idle {
        Some(Ok(figures)) if arguments.json => println!("{}", figures.json()),
        Some(Ok(figures)) => println!("{}", figures.table()),
        Some(Err(e)) => {
            eprintln!("compare: {IDLE}: {e}");
            failed += 1;
        }
        None => {}
    }
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn tell_memory(as_json: bool) -> Result<(), SideError> {
    let figures = memory::measure()?;
    match as_json {
        true => figures.iter().for_each(|line| println!("{}", line.json())),
        false => println!("{}", memory::table(&figures)),
    }
    Ok(())
}

fn tell_events(runs: usize, as_json: bool) -> Result<(), SideError> {
    let lines = events::measure(runs)?;
    match as_json {
        true => lines.iter().for_each(|line| println!("{}", line.json())),
        false => println!("{}", events::table(&lines)),
    }
    Ok(())
}

fn alone(only: Only, cases: &[Case], options: impl Fn(&Case) -> Options, runs: usize) -> ExitCode {
    for case in cases {
        let figure = (case.prepare)(&options(case)).and_then(|contest| {
            let Contest {
                unit, ours, peer, ..
            } = contest;
            let side = match only {
                Only::Ours => ours,
                Only::Peer => peer,
            };
            run_alone(side, runs).map(|figure| format!("{figure:.4} {}", unit.name()))
        });
        match figure {
            Ok(figure) => println!("{}: {figure}", case.name),
            Err(e) => {
                eprintln!("compare: {}: {e}", case.name);
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

fn select(names: &[String]) -> Result<Vec<Case>, &str> {
    let mut cases = Vec::new();
    for name in names {
        let found = find(name);
        if found.is_empty() && ![IDLE, MEMORY, EVENTS].contains(&&**name) {
            return Err(name);
        }
        cases.extend(found);
    }
    Ok(cases)
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if (0.001..=3600.0).contains(&value) => Ok(value),
        _ => Err("expected seconds between 0.001 and 3600".into()),
    }
}

fn bytes(text: &str) -> Result<u64, String> {
    let (number, factor) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 1 << 10),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 1 << 20),
        Some(b'g' | b'G') => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(factor))
        .filter(|n| *n > 0)
        .ok_or_else(|| "expected a number of bytes such as 1048576, 64M or 2G".into())
}

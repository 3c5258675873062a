//! The `vnet` command.
//!
//! Exit status: 0 when every job passed, 1 when one failed, 2 when the topology, a record, the
//! usage or the machine does not let it run at all, 130 when it was interrupted.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing_subscriber::EnvFilter;
use vnet::Inspection;
use vnet::capture::{LargeSegments, MIN_FILE, Rotate};
use vnet_lab::generate::{Shape, Spec};
use vnet_lab::run::{CaptureSettings, Driver, Event, LiveCapture, Options, Stop, Watcher};
use vnet_lab::text::{printable, printable_lines};
use vnet_lab::topology::CaptureFormat;
use vnet_lab::{Plan, TRIANGLE, Topology};

#[derive(Parser)]
#[command(version, about = "Many TCP/IP stacks in one process.")]
struct Command {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Bring a topology up, run its jobs, take it down.
    Run(Run),
    /// Say what is wrong with a topology, and run nothing.
    Check {
        /// The topology.
        file: PathBuf,
    },
    /// Print a topology of a given size.
    Generate(Generate),
    /// Print what a topology would create: every vnet as it is before the first job.
    Show {
        /// The topology; without it, the one of `run`.
        file: Option<PathBuf>,
        /// Print a JSON array instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Print the record of a topology's nodes as TOML.
    Record {
        /// The topology.
        file: PathBuf,
        /// This node's alone.
        node: Option<String>,
    },
    /// Make vnets from records, joined where the records say so, and print what they are.
    Replay {
        /// What `record` printed.
        #[arg(required = true, value_name = "RECORD")]
        records: Vec<PathBuf>,
        /// Print a JSON array instead of text.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
struct Generate {
    /// How its routers are joined.
    shape: Shape,
    /// How many routers.
    routers: usize,
    /// Hosts on a LAN of each router.
    #[arg(long, default_value_t = 0)]
    hosts: usize,
    /// TCP transfers between random nodes.
    #[arg(long, default_value_t = 0)]
    flows: usize,
    /// From which everything random follows.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Args)]
struct Run {
    /// The topology; without it, three routers in a triangle and two LANs of hosts.
    file: Option<PathBuf>,
    /// Who drives it.
    #[arg(long, value_enum, default_value_t)]
    driver: Driver,
    /// Under virtual time, equal seeds give equal runs.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object instead of tables.
    #[arg(long)]
    json: bool,
    /// End the run at this time, such as 30s: jobs that are not over have failed, and the network
    /// goes on until then when they are over earlier.
    #[arg(long, value_name = "TIME", value_parser = vnet_lab::time)]
    until: Option<Duration>,
    /// Print the fingerprint of all frames of the run.
    #[arg(long)]
    fingerprint: bool,
    /// Write a pcapng file of each link into this directory.
    #[arg(long, value_name = "DIR")]
    pcap: Option<PathBuf>,
    /// Write files of these links only: by the link's name, as NODE:INTERFACE, or by the name of
    /// its file without `.pcapng`.
    #[arg(long, value_name = "LINK", requires = "pcap")]
    pcap_link: Vec<String>,
    /// Write a capture for somebody who reads along: of one link (named as for --pcap-link) or of
    /// all, to a FIFO, a file or, with `-`, the standard output.
    #[arg(long, value_name = "[LINK=]FILE", value_parser = live)]
    pcap_live: Vec<LiveCapture>,
    /// Bound the files of `--pcap`: bytes of each, and how many (0: any number).
    #[arg(long, value_name = "BYTES,COUNT", value_parser = rotate, requires = "pcap")]
    pcap_rotate: Option<Rotate>,
    /// Keep at most so many bytes of each captured frame.
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..))]
    snaplen: Option<u32>,
    /// Capture segments larger than the MTU as they are, or cut as a device would.
    #[arg(long, value_enum)]
    gso: Option<Gso>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Gso {
    Whole,
    Cut,
}

fn live(text: &str) -> Result<LiveCapture, String> {
    let (link, to) = match text.split_once('=') {
        Some((link, to)) => (Some(link.to_owned()), to),
        None => (None, text),
    };
    if to.is_empty() {
        return Err("a file is needed, or `-`".to_owned());
    }
    Ok(LiveCapture {
        link,
        to: to.into(),
    })
}

fn rotate(text: &str) -> Result<Rotate, String> {
    let (bytes, count) = text.split_once(',').ok_or("BYTES,COUNT is needed")?;
    let max_bytes = bytes.parse().map_err(|e| format!("{bytes:?}: {e}"))?;
    let max_files = count.parse().map_err(|e| format!("{count:?}: {e}"))?;
    if max_bytes < MIN_FILE {
        return Err(format!("a file has at least {MIN_FILE} bytes"));
    }
    Ok(Rotate {
        max_bytes,
        max_files,
    })
}

/// The status of a run that was interrupted, as shells have it: 128 and the number of the signal.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let result = match Command::parse().what {
        What::Run(args) => run(args),
        What::Check { file } => check(&file),
        What::Generate(args) => generate(args),
        What::Show { file, json } => show(file.as_deref(), json),
        What::Record { file, node } => record(&file, node.as_deref()),
        What::Replay { records, json } => replay(&records, json),
    };
    result.unwrap_or_else(|error| {
        // An `Invalid` has lines of its own, and what quotes a record.
        eprintln!("{}", printable_lines(&format!("{error:#}")));
        ExitCode::from(2)
    })
}

fn check(file: &Path) -> anyhow::Result<ExitCode> {
    let (topology, plan) = Topology::from_file(file)?;
    topology.try_out(&plan)?;
    warn(&topology, &plan);
    say(&format!(
        "{}: {}, {}, {}\n",
        printable(&topology.name),
        count(plan.vnets.len(), "node"),
        count(plan.links.len(), "link"),
        count(plan.jobs.len(), "job")
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

fn generate(args: Generate) -> anyhow::Result<ExitCode> {
    let Generate {
        shape,
        routers,
        hosts,
        flows,
        seed,
    } = args;
    let spec = Spec {
        shape,
        routers,
        hosts,
        flows,
        seed,
    };
    say(&vnet_lab::generate::generate(&spec)?)?;
    Ok(ExitCode::SUCCESS)
}

/// A topology and its plan, or the built-in one.
fn read(file: Option<&Path>) -> anyhow::Result<(Topology, Plan)> {
    Ok(match file {
        Some(file) => Topology::from_file(file)?,
        None => Topology::parse("triangle.toml", TRIANGLE)?,
    })
}

fn plan(file: Option<&Path>) -> anyhow::Result<Plan> {
    Ok(read(file)?.1)
}

/// Says what is hardly meant.
fn warn(topology: &Topology, plan: &Plan) {
    let warnings = topology.warnings(plan);
    if !warnings.all().is_empty() {
        eprintln!("{warnings}");
    }
}

fn show(file: Option<&Path>, json: bool) -> anyhow::Result<ExitCode> {
    inspections(&vnet_lab::record::show(&plan(file)?)?, json)
}

fn record(file: &Path, node: Option<&str>) -> anyhow::Result<ExitCode> {
    say(&vnet_lab::record::record(&plan(Some(file))?, node)?)?;
    Ok(ExitCode::SUCCESS)
}

fn replay(records: &[PathBuf], json: bool) -> anyhow::Result<ExitCode> {
    inspections(&vnet_lab::record::replay(records)?, json)
}

fn inspections(seen: &[Inspection], json: bool) -> anyhow::Result<ExitCode> {
    let text = match json {
        true => serde_json::to_string(seen).context("cannot write JSON")? + "\n",
        false => {
            let texts: Vec<String> = seen.iter().map(Inspection::to_string).collect();
            texts.join("\n")
        }
    };
    say(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn run(args: Run) -> anyhow::Result<ExitCode> {
    let (topology, plan) = read(args.file.as_deref())?;
    warn(&topology, &plan);
    let options = Options {
        driver: args.driver,
        seed: args.seed,
        until: args.until,
        fingerprint: args.fingerprint,
        stop: Stop::default(),
        capture: CaptureSettings {
            directory: args.pcap,
            live: args.pcap_live,
            links: args.pcap_link,
            format: CaptureFormat {
                rotate: args.pcap_rotate.or(plan.capture.rotate),
                snaplen: args.snaplen.or(plan.capture.snaplen),
                large: match args.gso {
                    None => plan.capture.large,
                    Some(Gso::Whole) => LargeSegments::Whole,
                    Some(Gso::Cut) => LargeSegments::Cut,
                },
            },
        },
    };
    let to_stdout = |live: &LiveCapture| live.to.as_os_str() == "-";
    let taken = options.capture.live.iter().any(to_stdout);
    if let Err(error) = heed_interrupts(options.stop.clone()) {
        tracing::warn!("an interrupt will end the run without a report: {error}");
    }
    let progress = progress(&plan);
    let report = vnet_lab::run(&plan, &options, watcher(&progress));
    progress.finish_and_clear();
    let report = report.map_err(|error| match error.is_of_the_topology() {
        true => topology.blame(&error).into(),
        false => anyhow::Error::from(error),
    })?;
    let text = match args.json {
        true => report.to_json() + "\n",
        false => report.to_table(),
    };
    match taken {
        // The standard output is a capture.
        true => eprint!("{text}"),
        false => say(&text)?,
    }
    Ok(match report.interrupted {
        true => ExitCode::from(INTERRUPTED),
        false => ExitCode::from(u8::from(!report.passed)),
    })
}

/// Ends the run when somebody asks for that, and the process when somebody asks again.
fn heed_interrupts(stop: Stop) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let heed = move || {
        for signal in signals.forever() {
            if !stop.stop() {
                std::process::exit(128 + signal);
            }
        }
    };
    std::thread::Builder::new()
        .name("interrupts".to_owned())
        .spawn(heed)?;
    Ok(())
}

fn say(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .context("cannot write to the standard output")
}

/// A line on the terminal, if there is one.
fn progress(plan: &Plan) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {pos}/{len} jobs, {elapsed}: {msg}")
        .expect("the template is well formed");
    let bar = ProgressBar::new(plan.jobs.len() as u64).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

fn watcher(progress: &ProgressBar) -> Watcher {
    let progress = progress.clone();
    Arc::new(move |event| match event {
        Event::Started(name) => progress.set_message(printable(name).into_owned()),
        Event::Ended(_) => progress.inc(1),
    })
}

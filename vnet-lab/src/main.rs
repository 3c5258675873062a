//! The `vnet` command.
//!
//! Exit status: 0 when every job passed, 1 when one failed, 2 when the topology, the usage or
//! the machine does not let it run at all.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use tracing_subscriber::EnvFilter;
use vnet_lab::generate::{Shape, Spec};
use vnet_lab::run::{Driver, Event, Options, Watcher};
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
    /// Say what is wrong with a topology, and do nothing else.
    Check {
        /// The topology.
        file: PathBuf,
    },
    /// Print a topology of a given size.
    Generate(Generate),
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
    /// Write a pcapng file of each link into this directory.
    #[arg(long, value_name = "DIR")]
    pcap: Option<PathBuf>,
}

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
    };
    result.unwrap_or_else(|error| {
        eprintln!("{error:#}");
        ExitCode::from(2)
    })
}

fn check(file: &Path) -> anyhow::Result<ExitCode> {
    let (topology, plan) = Topology::from_file(file)?;
    say(&format!(
        "{}: {} nodes, {} links, {} jobs\n",
        topology.name,
        plan.vnets.len(),
        plan.links.len(),
        plan.jobs.len()
    ))?;
    Ok(ExitCode::SUCCESS)
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

fn run(args: Run) -> anyhow::Result<ExitCode> {
    let (_, plan) = match &args.file {
        Some(file) => Topology::from_file(file)?,
        None => Topology::parse("triangle.toml", TRIANGLE)?,
    };
    let options = Options {
        driver: args.driver,
        seed: args.seed,
        pcap: args.pcap,
    };
    let progress = progress(&plan);
    let report = vnet_lab::run(&plan, &options, watcher(&progress));
    progress.finish_and_clear();
    let report = report?;
    match args.json {
        true => say(&(report.to_json() + "\n"))?,
        false => say(&report.to_table())?,
    }
    Ok(ExitCode::from(u8::from(!report.passed)))
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
        Event::Started(name) => progress.set_message(name.to_owned()),
        Event::Ended(_) => progress.inc(1),
    })
}

//! The `vnet` command.
//!
//! Exit status: 0 when every job passed, 1 when one failed, 2 when the topology, a record, the
//! usage or the machine does not let it run at all.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use tracing_subscriber::EnvFilter;
use vnet::Inspection;
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
        What::Show { file, json } => show(file.as_deref(), json),
        What::Record { file, node } => record(&file, node.as_deref()),
        What::Replay { records, json } => replay(&records, json),
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

/// The plan of a topology, or of the built-in one.
fn plan(file: Option<&Path>) -> anyhow::Result<Plan> {
    let (_, plan) = match file {
        Some(file) => Topology::from_file(file)?,
        None => Topology::parse("triangle.toml", TRIANGLE)?,
    };
    Ok(plan)
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
    let plan = plan(args.file.as_deref())?;
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

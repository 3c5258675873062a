//! The `vnet` command.
//!
//! `STATUS` says what it exits with.

use std::io::{ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use indicatif::{ProgressBar, ProgressStyle};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use terminal_size::Width;
use tracing_subscriber::EnvFilter;
use vnet::Inspection;
use vnet::capture::{LargeSegments, Rotate};
use vnet_lab::generate::{Shape, Spec};
use vnet_lab::report::{Detail, Layout};
use vnet_lab::run::{CaptureSettings, Driver, Event, LiveCapture, Options, Stop, Watcher};
use vnet_lab::text::{printable, printable_lines};
use vnet_lab::topology::{CaptureFormat, DOORS};
use vnet_lab::{Family, Plan, TRIANGLE, Topology};

#[derive(Parser)]
#[command(name = "vnet", version, about = "Many TCP/IP stacks in one process", after_help = STATUS)]
struct Command {
    #[command(subcommand)]
    what: What,
}

const STATUS: &str = "\
Exit status:
  0    success; for `run`, every job passed
  1    a job failed, a vnet leaked or failed, or what was attached failed
  2    the command could not be carried out: an error in a file, on the
       command line or in the system
  130  the run was interrupted; a run with something attached, which goes on
       until it is interrupted, ends with 0 or 1";

#[derive(Subcommand)]
enum What {
    /// Start a topology, run its jobs and report the results.
    Run(Run),
    /// Attach a TAP, a network card or an emulator's guests to one vnet, and wait.
    Attach(Attach),
    /// Check a topology file without running its jobs.
    Check {
        /// The topology file; `-` reads standard input.
        file: PathBuf,
        /// Also check that it can run under this driver.
        #[arg(long, value_enum)]
        driver: Option<Driver>,
    },
    /// Print a generated topology file.
    Generate(Generate),
    /// Print the state of every vnet in a topology before the first job.
    Show {
        /// The topology file; `-` reads standard input [default: the built-in topology].
        file: Option<PathBuf>,
        /// Print a JSON array instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Print the configuration records of a topology's nodes as TOML.
    Record {
        /// The topology file; `-` reads standard input.
        file: PathBuf,
        /// Print only this node's record.
        node: Option<String>,
    },
    /// Create vnets from configuration records and print their state.
    Replay {
        /// The record files, as printed by `vnet record`.
        #[arg(required = true, value_name = "RECORD")]
        records: Vec<PathBuf>,
        /// Print a JSON array instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Print the completion script for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Print the manual page in man(7) format.
    Man {
        /// Write the manual pages of `vnet` and all subcommands to this directory instead.
        directory: Option<PathBuf>,
    },
}

#[derive(Args)]
struct Generate {
    /// The shape of the network of routers.
    shape: Shape,
    /// The number of routers.
    routers: usize,
    /// The number of hosts on each router's LAN.
    #[arg(long, default_value_t = 0)]
    hosts: usize,
    /// The number of TCP transfers between random nodes.
    #[arg(long, default_value_t = 0)]
    flows: usize,
    /// The seed for all random choices.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The versions of IP of every node; `v4,v6` is both.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "v4")]
    family: Vec<Family>,
}

#[derive(Args)]
struct Run {
    /// The topology file; `-` reads standard input [default: the built-in topology of three routers and four hosts].
    file: Option<PathBuf>,
    #[command(flatten)]
    how: How,
}

#[derive(Args)]
struct Attach {
    /// What to attach: a TAP, a network card (nic), or an emulator by the kind of its socket.
    #[arg(value_parser = DOORS)]
    what: String,
    /// The name of the interface on this machine, or the path or ADDRESS:PORT of the socket.
    place: String,
    /// The addresses of the vnet, such as 192.0.2.1/24.
    #[arg(required = true, value_name = "ADDRESS")]
    addresses: Vec<String>,
    /// When the frames of a network card pass by AF_XDP instead of a packet socket [default: never; without a
    /// value: always].
    #[arg(long, value_name = "WHEN", num_args = 0..=1, require_equals = true, default_missing_value = "always",
        value_parser = ["never", "where-possible", "always"])]
    xdp: Option<String>,
    #[command(flatten)]
    how: How,
}

#[derive(Args)]
struct How {
    /// The driver, which decides how time passes [default: virtual, or threads where something is
    /// attached from outside].
    #[arg(long, value_enum)]
    driver: Option<Driver>,
    /// The seed for all random choices; in virtual time, the same seed gives the same run.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print a JSON object instead of tables.
    #[arg(long, conflicts_with_all = ["quiet", "verbose"])]
    json: bool,
    /// Print only failures and the verdict.
    #[arg(short, long, conflicts_with = "verbose")]
    quiet: bool,
    /// Print all jobs, idle links and vnets, and the resources that each vnet released.
    #[arg(short, long)]
    verbose: bool,
    /// End the run at this time, such as 30s. Jobs that are still running then fail. If all jobs finish
    /// earlier, the network keeps running until then.
    #[arg(long, value_name = "TIME", value_parser = vnet_lab::time)]
    until: Option<Duration>,
    /// Print a fingerprint of all frames in the run.
    #[arg(long)]
    fingerprint: bool,
    /// Capture each link to a pcapng file in this directory.
    #[arg(long, value_name = "DIR")]
    pcap: Option<PathBuf>,
    /// Capture only this link, given by its name, as NODE:INTERFACE, or by its file name without
    /// `.pcapng`. May be repeated.
    #[arg(long, value_name = "LINK", requires = "pcap")]
    pcap_link: Vec<String>,
    /// Write a capture that can be read during the run to a FIFO, a file or standard output (`-`): of one
    /// link, given as for --pcap-link, or of all links. May be repeated.
    #[arg(long, value_name = "[LINK=]FILE", value_parser = live)]
    pcap_live: Vec<LiveCapture>,
    /// Rotate the files of --pcap: the size of each in bytes, and the number to keep (0 keeps all).
    #[arg(long, value_name = "BYTES,COUNT", value_parser = rotate, requires = "pcap")]
    pcap_rotate: Option<Rotate>,
    /// Capture at most this many bytes of each frame.
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..))]
    snaplen: Option<u32>,
    /// How to capture segments that are larger than the MTU.
    #[arg(long, value_enum)]
    gso: Option<Gso>,
}

impl How {
    fn detail(&self) -> Detail {
        match (self.quiet, self.verbose) {
            (true, _) => Detail::Quiet,
            (_, true) => Detail::Verbose,
            _ => Detail::Normal,
        }
    }
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Gso {
    /// Whole, as TCP sent them.
    Whole,
    /// Cut into frames, as a network card would cut them.
    Cut,
}

fn live(text: &str) -> Result<LiveCapture, String> {
    let (link, to) = match text.split_once('=') {
        Some((link, to)) => (Some(link.to_owned()), to),
        None => (None, text),
    };
    if to.is_empty() {
        return Err("expected a file or `-`".to_owned());
    }
    Ok(LiveCapture {
        link,
        to: to.into(),
    })
}

fn rotate(text: &str) -> Result<Rotate, String> {
    let (bytes, count) = text.split_once(',').ok_or("expected BYTES,COUNT")?;
    let max_bytes = bytes.parse().map_err(|e| format!("{bytes:?}: {e}"))?;
    let max_files = count.parse().map_err(|e| format!("{count:?}: {e}"))?;
    if max_bytes < Rotate::MIN_BYTES {
        return Err(format!(
            "expected at least {} bytes for each file",
            Rotate::MIN_BYTES
        ));
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
        What::Attach(args) => attach(args),
        What::Check { file, driver } => check(&file, driver),
        What::Generate(args) => generate(args),
        What::Show { file, json } => show(file.as_deref(), json),
        What::Record { file, node } => record(&file, node.as_deref()),
        What::Replay { records, json } => replay(&records, json),
        What::Completions { shell } => completions(shell),
        What::Man { directory } => man(directory.as_deref()),
    };
    result.unwrap_or_else(|error| {
        // An `Invalid` has lines of its own, and what quotes a record.
        eprintln!("{}", printable_lines(&format!("{error:#}")));
        ExitCode::from(2)
    })
}

fn check(file: &Path, driver: Option<Driver>) -> anyhow::Result<ExitCode> {
    let (topology, plan) = read(Some(file))?;
    if driver == Some(Driver::Virtual) {
        topology.try_in_simulated_time(&plan)?;
    }
    topology.try_out(&plan)?;
    warn(&topology, &plan);
    let attached = plan.attach.len();
    let mut parts = vec![
        count(plan.vnets.len() - attached, "node"),
        count(plan.links.len() - attached, "link"),
        count(plan.jobs.len(), "job"),
    ];
    if attached > 0 {
        parts.push(format!("{attached} attached"));
    }
    say(&format!(
        "{}: {}\n",
        printable(&topology.name),
        parts.join(", ")
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
        family: families,
    } = args;
    let spec = Spec {
        shape,
        routers,
        hosts,
        flows,
        seed,
        families,
    };
    say(&vnet_lab::generate::generate(&spec)?)?;
    Ok(ExitCode::SUCCESS)
}

/// A topology and its plan, or the built-in one.
fn read(file: Option<&Path>) -> anyhow::Result<(Topology, Plan)> {
    Ok(match file {
        Some(file) if file.as_os_str() == "-" => Topology::from_stdin()?,
        Some(file) => Topology::from_file(file)?,
        None => Topology::parse("triangle.toml", TRIANGLE)?,
    })
}

fn plan(file: Option<&Path>) -> anyhow::Result<Plan> {
    Ok(read(file)?.1)
}

/// Prints the warnings about a topology.
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
            let width = usize::from(width(false));
            let texts: Vec<String> = seen.iter().map(|seen| format!("{seen:width$}")).collect();
            texts.join("\n")
        }
    };
    say(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn run(args: Run) -> anyhow::Result<ExitCode> {
    let (topology, plan) = read(args.file.as_deref())?;
    carry_out(&topology, &plan, args.how)
}

/// Runs a topology of one host.
fn attach(args: Attach) -> anyhow::Result<ExitCode> {
    let text = |text: &str| toml::Value::from(text).to_string();
    let addresses: Vec<toml::Value> = args.addresses.into_iter().map(Into::into).collect();
    let place = match args.xdp {
        None => text(&args.place),
        Some(_) if args.what != "nic" => anyhow::bail!("--xdp is for a network card (nic)"),
        Some(xdp) => format!("{{ name = {}, xdp = {} }}", text(&args.place), text(&xdp)),
    };
    let source = format!(
        "name = \"attach\"\nhosts = [\"host\"]\n[[attach]]\n{} = {}\n\
         to = {{ node = \"host\", addresses = {} }}\n",
        args.what,
        place,
        toml::Value::from(addresses)
    );
    // Places in it are those of no file that the user has.
    let said = |invalid: vnet_lab::Invalid| {
        let messages = invalid.problems.iter().map(|p| p.message.as_str());
        anyhow::anyhow!("{}", messages.collect::<Vec<_>>().join("\n"))
    };
    let (topology, plan) = Topology::parse("vnet attach", &source).map_err(said)?;
    carry_out(&topology, &plan, args.how).map_err(|error| match error.downcast() {
        Ok(invalid) => said(invalid),
        Err(error) => error,
    })
}

fn carry_out(topology: &Topology, plan: &Plan, args: How) -> anyhow::Result<ExitCode> {
    let detail = args.detail();
    if detail != Detail::Quiet {
        warn(topology, plan);
    }
    let usual = match plan.attach.is_empty() {
        true => Driver::Virtual,
        false => Driver::Threads,
    };
    let options = Options {
        driver: args.driver.unwrap_or(usual),
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
    let progress = match args.quiet {
        true => ProgressBar::hidden(),
        false => progress(plan),
    };
    let report = vnet_lab::run(plan, &options, watcher(&progress, detail));
    progress.finish_and_clear();
    let report = report.map_err(|error| match error.is_of_the_topology() {
        true => topology.blame(&error).into(),
        false => anyhow::Error::from(error),
    })?;
    let text = match args.json {
        true => report.to_json() + "\n",
        false => report.to_text(Layout {
            width: width(taken),
            detail,
        }),
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

/// Ends the run at the first signal, and the process at the second.
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
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // Such as `| head`: nobody wants the rest.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot write to the standard output"),
    }
}

/// The width of what the report goes to: that of the terminal, else as `COLUMNS` says.
fn width(to_stderr: bool) -> u16 {
    let terminal = match to_stderr {
        true => terminal_size::terminal_size_of(std::io::stderr()),
        false => terminal_size::terminal_size_of(std::io::stdout()),
    };
    if let Some((Width(columns), _)) = terminal.filter(|(width, _)| width.0 > 0) {
        return columns;
    }
    let columns = std::env::var("COLUMNS").ok();
    let columns = columns.and_then(|columns| columns.parse().ok());
    columns.filter(|n| *n > 0).unwrap_or(Layout::WIDTH)
}

fn completions(shell: Shell) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Command::command(), "vnet", &mut script);
    say(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}

fn man(directory: Option<&Path>) -> anyhow::Result<ExitCode> {
    let command = Command::command();
    if let Some(directory) = directory {
        clap_mangen::generate_to(command, directory)
            .with_context(|| format!("cannot write to {}", directory.display()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page)?;
    say(&String::from_utf8_lossy(&page))?;
    Ok(ExitCode::SUCCESS)
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

fn watcher(progress: &ProgressBar, detail: Detail) -> Watcher {
    let progress = progress.clone();
    Arc::new(move |event| match event {
        Event::Started(name) => progress.set_message(printable(name).into_owned()),
        Event::Ended(_) => progress.inc(1),
        Event::Attached(what) if detail != Detail::Quiet => {
            progress.suspend(|| eprintln!("attached: {}", printable(what)));
        }
        Event::Attached(_) => {}
    })
}

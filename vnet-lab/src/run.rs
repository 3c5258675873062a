//! Bringing a planned topology up, running its jobs, and taking it down.
//!
//! | part | what it is |
//! |---|---|
//! | `network` | vnets, links, routes |
//! | `capture` | one pcapng file a link, live captures |
//! | `jobs` | ping, traceroute, transfer, throughput |
//!
//! The same code runs under both drivers: jobs are straight-line blocking code.

mod capture;
mod jobs;
mod network;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use vnet::capture::{CaptureError, LargeSegments, Rotate};
use vnet::time::Instant;
use vnet::{
    BridgeError, CreateError, JoinHandle, LinkScriptError, NetifError, OwnedVnet, RouteError,
    System,
};

use crate::plan::{Plan, PlannedJob};
use crate::report::{JobReport, Report};
use jobs::Site;

pub use network::Network;

/// How to run a topology. By default in virtual time, without captures.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Who drives it.
    pub driver: Driver,
    /// From which everything random follows. Under virtual time equal seeds give equal runs.
    pub seed: u64,
    /// What is captured, and how.
    pub capture: CaptureSettings,
    /// When the run ends, from its start: a job that is not over by then has failed, and when all are
    /// over earlier the network goes on until then. Without it the run ends with the last job.
    pub until: Option<Duration>,
    /// Whether the fingerprint of the run is reported.
    pub fingerprint: bool,
}

/// What is captured of a run, and how. Nothing by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaptureSettings {
    /// The directory where a capture file of each link goes.
    pub directory: Option<PathBuf>,
    /// Captures that are read while the run goes on.
    pub live: Vec<LiveCapture>,
    /// Bounds on the files in the directory.
    pub rotate: Option<Rotate>,
    /// Bytes of each frame to keep at most.
    pub snaplen: Option<u32>,
    /// What becomes of segments larger than the MTU.
    pub large: LargeSegments,
}

/// A capture that somebody reads while the run goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveCapture {
    /// The link's name, as that of its capture file without `.pcapng`; `None` for all links.
    pub link: Option<String>,
    /// A FIFO or a file; `-` is the standard output.
    pub to: PathBuf,
}

/// Who drives a topology.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Driver {
    /// A simulated clock: as fast as it goes, and the same every time.
    #[default]
    Virtual,
    /// Threads and the wall clock.
    Threads,
}

/// Why a run could not be made. A job that fails is no such error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// A vnet.
    #[error("cannot make vnet {name:?}")]
    Create {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: CreateError,
    },
    /// An interface, or something about it.
    #[error("cannot set up interface {interface}")]
    Interface {
        /// `NODE:INTERFACE`
        interface: String,
        /// Why.
        #[source]
        source: NetifError,
    },
    /// The bridge of a switch or hub.
    #[error("cannot make the bridge of {name:?}")]
    Bridge {
        /// The vnet's name.
        name: String,
        /// Why.
        #[source]
        source: BridgeError,
    },
    /// What changes at a link over time.
    #[error("cannot change the link of {interface} over time")]
    Script {
        /// `NODE:INTERFACE`
        interface: String,
        /// Why.
        #[source]
        source: LinkScriptError,
    },
    /// A route.
    #[error("cannot add the route to {destination} in {name:?}")]
    Route {
        /// The vnet's name.
        name: String,
        /// Where to.
        destination: ipnet::Ipv4Net,
        /// Why.
        #[source]
        source: RouteError,
    },
    /// A capture file.
    #[error("cannot write the capture {}", path.display())]
    Capture {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// How captures are to be written.
    #[error("cannot capture")]
    CaptureOptions(#[source] CaptureError),
    /// A live capture of a link that there is not.
    #[error("there is no link {0:?} to capture")]
    NoSuchLink(String),
    /// A thread.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

/// What happens during a run, for whoever watches.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// A job started.
    Started(&'a str),
    /// A job ended.
    Ended(&'a JobReport),
}

/// Watches a run; called from the jobs' threads.
pub type Watcher = Arc<dyn Fn(Event<'_>) + Send + Sync>;

/// Runs a planned topology from nothing to nothing.
///
/// # Errors
/// When the network could not be built or a capture not be written.
pub fn run(plan: &Plan, options: &Options, watcher: Watcher) -> Result<Report, RunError> {
    let (system, seed) = match options.driver {
        Driver::Virtual => (System::virtual_time(options.seed), Some(options.seed)),
        Driver::Threads => (System::threads(), None),
    };
    if options.fingerprint {
        system.record_fingerprint();
    }
    let started = system.now();
    let mut network = Network::build(&system, plan, options)?;
    network.start_scripts(plan)?;
    let jobs = run_jobs(&system, &network, plan, options, &watcher)?;
    if let Some(until) = options.until {
        go_on(&system, started + until);
    }
    let ended_ns = system.now().as_nanos();
    let links = network.link_reports(plan);
    let vnets = network.tear_down()?;
    let leaked = vnets.iter().any(|v| !v.teardown.leaked.is_zero());
    Ok(Report {
        topology: plan.name.clone(),
        driver: match options.driver {
            Driver::Virtual => "virtual",
            Driver::Threads => "threads",
        },
        seed,
        passed: !leaked && jobs.iter().all(|job| job.passed),
        ended_ns: match options.until {
            Some(_) => ended_ns,
            None => jobs.iter().map(|job| job.ended_ns).max().unwrap_or(0),
        },
        fingerprint: system.fingerprint().map(|f| f.to_string()),
        jobs,
        links,
        vnets,
    })
}

/// Makes what a planned topology consists of, in the order of the file, and runs nothing in it.
///
/// # Errors
/// When the network could not be built.
pub fn bring_up(system: &System, plan: &Plan) -> Result<Vec<OwnedVnet>, RunError> {
    Ok(Network::build(system, plan, &Options::default())?.into_vnets())
}

/// Lets the network go on until `until`.
fn go_on(system: &System, until: Instant) {
    let left = until - system.now();
    if !left.is_zero() && system.sleep(left).is_err() {
        tracing::warn!("the system does not let time pass");
    }
}

/// Runs jobs without a start one after another, and beside them each job with one at its time.
fn run_jobs(
    system: &System,
    network: &Network,
    plan: &Plan,
    options: &Options,
    watcher: &Watcher,
) -> Result<Vec<JobReport>, RunError> {
    let until = options.until.map(|until| system.now() + until);
    let names = Arc::new(plan.names());
    let mut in_turn = Vec::new();
    let mut threads = Vec::new();
    for (number, job) in plan.jobs.iter().enumerate() {
        let site = Site {
            system: system.clone(),
            from: network.vnet(job.from),
            to: network.vnet(job.to),
            names: Arc::clone(&names),
            seed: options.seed.wrapping_add(number as u64),
            until,
        };
        let job = Scheduled {
            number,
            job: job.clone(),
            site,
            watcher: Arc::clone(watcher),
        };
        match job.job.start {
            None => in_turn.push(job),
            Some(start) => threads.push(spawn(system, start, vec![job])?),
        }
    }
    threads.push(spawn(system, Duration::ZERO, in_turn)?);
    let mut reports: Vec<(usize, JobReport)> = Vec::new();
    for thread in threads {
        reports.extend(thread.join().expect("a job's panic is caught and reported"));
    }
    reports.sort_by_key(|(number, _)| *number);
    Ok(reports.into_iter().map(|(_, report)| report).collect())
}

struct Scheduled {
    number: usize,
    job: PlannedJob,
    site: Site,
    watcher: Watcher,
}

/// Runs `jobs` in turn, in a thread of the system, after `start`.
fn spawn(
    system: &System,
    start: Duration,
    jobs: Vec<Scheduled>,
) -> Result<JoinHandle<Vec<(usize, JobReport)>>, RunError> {
    let clock = system.clone();
    let work = move || {
        // A job that starts after the end of the run fails then, and nobody waits for its start.
        let until = jobs.iter().filter_map(|job| job.site.until).min();
        let start = until.map_or(start, |until| start.min(until - clock.now()));
        if !start.is_zero() && clock.sleep(start).is_err() {
            tracing::warn!("the system does not let a job wait for its start");
        }
        jobs.into_iter().map(run_one).collect()
    };
    system.spawn(work).map_err(RunError::Thread)
}

fn run_one(scheduled: Scheduled) -> (usize, JobReport) {
    let Scheduled {
        number,
        job,
        site,
        watcher,
    } = scheduled;
    watcher(Event::Started(&job.name));
    let report = jobs::run(&job, &site);
    tracing::info!(job = %report.name, passed = report.passed, figures = %report.figures);
    watcher(Event::Ended(&report));
    (number, report)
}

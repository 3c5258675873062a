//! Bringing a planned topology up, running its jobs, and taking it down.
//!
//! | part | what it is |
//! |---|---|
//! | `network` | vnets, links, routes |
//! | `capture` | one pcapng file a link, live captures |
//! | `files` | how many of them may be open |
//! | `jobs` | ping, traceroute, transfer, throughput |
//! | `stop` | ending it before its time |
//!
//! The same code runs under both drivers: jobs are straight-line blocking code.

mod capture;
mod files;
mod jobs;
mod network;
mod stop;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use vnet::capture::{CaptureError, LargeSegments, Rotate};
use vnet::time::Instant;
use vnet::{
    BridgeError, CreateError, JoinHandle, LinkScriptError, NetifError, OwnedVnet, RouteError,
    System, Vnet,
};

use crate::plan::{Plan, PlannedJob};
use crate::report::{JobReport, LinkReport, Report, VnetReport};
use crate::text::printable;
use jobs::Site;

pub use files::TooManyFiles;
pub use network::Network;
pub use stop::Stop;

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
    /// Ends the run before its time.
    pub stop: Stop,
}

/// What is captured of a run, and how. Nothing by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaptureSettings {
    /// The directory where a capture file of each link goes.
    pub directory: Option<PathBuf>,
    /// Captures that are read while the run goes on.
    pub live: Vec<LiveCapture>,
    /// Links of which files are written, as [`Plan::link`] takes them; without one, those that the
    /// topology says.
    pub links: Vec<String>,
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
    /// The link, as [`Plan::link`] takes it; `None` for all links.
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
    #[error("cannot write the capture {}", printable(&path.to_string_lossy()))]
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
    /// A capture of a link that there is not.
    #[error(
        "there is no link {0:?} to capture: expected a link's `name`, NODE:INTERFACE, or the name of \
         its file without .pcapng"
    )]
    NoSuchLink(String),
    /// More captures than the process may have files open.
    #[error(transparent)]
    TooManyFiles(#[from] TooManyFiles),
    /// A thread.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

impl RunError {
    /// True when it is the topology that asks for what is impossible, and not the machine or the
    /// options of the run.
    pub fn is_of_the_topology(&self) -> bool {
        match self {
            RunError::Create { .. }
            | RunError::Interface { .. }
            | RunError::Bridge { .. }
            | RunError::Script { .. }
            | RunError::Route { .. } => true,
            RunError::Capture { .. }
            | RunError::CaptureOptions(_)
            | RunError::NoSuchLink(_)
            | RunError::TooManyFiles(_)
            | RunError::Thread(_) => false,
        }
    }
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
    let work = Work::of(&network, plan);
    let standing = Arc::new(Standing::new(network, plan.clone()));
    let fallen = Arc::clone(&standing);
    options.stop.on_stop(move || fallen.take_down());
    let jobs = run_jobs(&system, &work, plan, options, &watcher)?;
    if let Some(until) = options.until {
        pause(&system, started + until, options);
    }
    let ended_ns = system.now().as_nanos();
    standing.take_down();
    let (links, vnets) = standing.remains()?;
    let clean = vnets.iter().all(|v| v.teardown.is_clean());
    let interrupted = options.stop.is_stopped();
    Ok(Report {
        topology: plan.name.clone(),
        driver: match options.driver {
            Driver::Virtual => "virtual",
            Driver::Threads => "threads",
        },
        seed,
        interrupted,
        passed: !interrupted && clean && jobs.iter().all(|job| job.passed),
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

/// A network that is taken down by whoever comes first: its run, or who ends that before its time.
struct Standing {
    plan: Plan,
    state: Mutex<State>,
}

enum State {
    Up(Box<Network>),
    Down(Result<Remains, RunError>),
    /// What was left has been fetched.
    Gone,
}

type Remains = (Vec<LinkReport>, Vec<VnetReport>);

impl Standing {
    fn new(network: Network, plan: Plan) -> Standing {
        let state = Mutex::new(State::Up(Box::new(network)));
        Standing { plan, state }
    }

    fn take_down(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = match std::mem::replace(&mut *state, State::Gone) {
            State::Up(network) => {
                let links = network.link_reports(&self.plan);
                State::Down(network.tear_down().map(|vnets| (links, vnets)))
            }
            other => other,
        };
    }

    /// What it left.
    fn remains(&self) -> Result<Remains, RunError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *state, State::Gone) {
            State::Down(remains) => remains,
            State::Up(_) | State::Gone => Ok((Vec::new(), Vec::new())),
        }
    }
}

/// How long a wait goes on without looking whether the run has been ended, where time is real.
const GLANCE: Duration = Duration::from_millis(200);
/// How often a wait looks at the most where time is simulated, and passes by itself.
const GLANCES: u32 = 64;

/// Lets the network go on until `until`, or until the run is ended.
fn pause(system: &System, until: Instant, options: &Options) {
    let stop = &options.stop;
    let glance = match options.driver {
        Driver::Threads => GLANCE,
        Driver::Virtual => GLANCE.max((until - system.now()) / GLANCES),
    };
    loop {
        let left = until - system.now();
        if left.is_zero() || stop.is_stopped() {
            return;
        }
        if system.sleep(left.min(glance)).is_err() {
            return tracing::warn!("the system does not let time pass");
        }
    }
}

/// The vnets that jobs run between, by number.
struct Work {
    vnets: Vec<Vnet>,
}

impl Work {
    fn of(network: &Network, plan: &Plan) -> Work {
        let numbers = 0..plan.vnets.len();
        Work {
            vnets: numbers.map(|number| network.vnet(number)).collect(),
        }
    }
}

/// Runs jobs without a start one after another, and beside them each job with one at its time.
fn run_jobs(
    system: &System,
    work: &Work,
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
            from: work.vnets[job.from].clone(),
            to: work.vnets[job.to].clone(),
            names: Arc::clone(&names),
            seed: options.seed.wrapping_add(number as u64),
            until,
            stop: options.stop.clone(),
        };
        let job = Scheduled {
            number,
            job: job.clone(),
            site,
            watcher: Arc::clone(watcher),
        };
        match job.job.start {
            None => in_turn.push(job),
            Some(start) => threads.push(spawn(system, start, vec![job], options)?),
        }
    }
    threads.push(spawn(system, Duration::ZERO, in_turn, options)?);
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
    options: &Options,
) -> Result<JoinHandle<Vec<(usize, JobReport)>>, RunError> {
    let (clock, options) = (system.clone(), options.clone());
    let start = system.now() + start;
    let work = move || {
        // A job that starts after the end of the run fails then, and nobody waits for its start.
        let until = jobs.iter().filter_map(|job| job.site.until).min();
        pause(
            &clock,
            until.map_or(start, |until| start.min(until)),
            &options,
        );
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

//! When jobs run: one after another, or each at its time.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use vnet::thread::JoinHandle;
use vnet::time::Instant;
use vnet::{System, Vnet};

use super::error::RunError;
use super::options::{Driver, Options};
use crate::family::Family;
use crate::job::kind::{Limit, Site, Verdict};
use crate::plan::{Plan, PlannedJob};
use crate::report::{JobReport, JobState};
use crate::stop::Stop;

/// What happens during a run, for a [`Watcher`].
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// A job started.
    Started(&'a str),
    /// A job ended.
    Ended(&'a JobReport),
    /// Something can be attached from outside now, or is: how it is found there.
    Attached(&'a str),
}

/// Watches a run; called from the jobs' threads.
pub type Watcher = Arc<dyn Fn(Event<'_>) + Send + Sync>;

/// How long a wait goes on without looking whether the run has been ended, where time is real.
const GLANCE: Duration = Duration::from_millis(200);
/// How often a wait looks at the most where time is simulated, and passes by itself.
const GLANCES: u32 = 64;

/// Lets the network go on until `until`, or until the run is ended.
pub(super) fn pause(system: &System, until: Instant, options: &Options) {
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

/// Lets the network go on while `goes_on`, until the run is ended.
pub(super) fn pause_while(system: &System, options: &Options, goes_on: impl Fn() -> bool) {
    while goes_on() && !options.stop.is_stopped() {
        if system.sleep(GLANCE).is_err() {
            return tracing::warn!("the system does not let time pass");
        }
    }
}

/// Runs jobs without a start one after another, and beside them each job with one at its time.
pub(super) fn run(
    system: &System,
    vnets: &[Vnet],
    plan: &Plan,
    options: &Options,
    watcher: &Watcher,
) -> Result<Vec<JobReport>, RunError> {
    let until = options.until.map(|until| system.now() + until);
    let names = Arc::new(plan.names());
    let mut in_turn = Vec::new();
    let mut threads = Vec::new();
    for (number, job) in plan.jobs.iter().enumerate() {
        let job = Scheduled {
            number,
            job: job.clone(),
            system: system.clone(),
            from: vnets[job.from].clone(),
            to: vnets[job.to].clone(),
            names: Arc::clone(&names),
            seed: options.seed.wrapping_add(number as u64),
            until,
            stop: options.stop.clone(),
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

/// A job that waits for its turn.
struct Scheduled {
    number: usize,
    job: PlannedJob,
    system: System,
    from: Vnet,
    to: Vnet,
    names: Arc<BTreeMap<IpAddr, String>>,
    seed: u64,
    /// When the run ends, whatever is still to do.
    until: Option<Instant>,
    stop: Stop,
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
        let until = jobs.iter().filter_map(|job| job.until).min();
        pause(
            &clock,
            until.map_or(start, |until| start.min(until)),
            &options,
        );
        jobs.into_iter().map(Scheduled::run).collect()
    };
    system.spawn(work).map_err(RunError::Thread)
}

impl Scheduled {
    fn run(self) -> (usize, JobReport) {
        (self.watcher)(Event::Started(&self.job.name));
        let report = self.report();
        tracing::info!(job = %report.name, passed = report.passed, figures = %report.figures);
        (self.watcher)(Event::Ended(&report));
        (self.number, report)
    }

    /// Runs the job to its end, and says what came of it.
    fn report(&self) -> JobReport {
        let (job, started) = (&self.job, self.system.now());
        let (state, reason, figures) = match self.stop.is_stopped() {
            true => {
                let why = "interrupted before it began".to_owned();
                (JobState::NotStarted, Some(why), job.task.nothing())
            }
            false => {
                let (ended, figures) = job.task.run(&self.site());
                let (state, reason) = self.state(ended);
                (state, reason, figures)
            }
        };
        JobReport {
            name: job.name.clone(),
            from: self.from.name().to_owned(),
            to: self.to.name().to_owned(),
            family: Family::of(job.address),
            passed: state == JobState::Passed,
            state,
            reason,
            started_ns: started.as_nanos(),
            ended_ns: self.system.now().as_nanos(),
            figures,
        }
    }

    /// What the end of a job says of it, and why it did not pass.
    fn state(&self, ended: io::Result<Verdict>) -> (JobState, Option<String>) {
        match ended {
            Ok(Verdict::Passed) => (JobState::Passed, None),
            Ok(Verdict::Failed(why)) => (JobState::Failed, Some(why)),
            // What the job met was the end of its network.
            Err(_) if self.stop.is_stopped() => {
                (JobState::Interrupted, Some("interrupted".to_owned()))
            }
            Err(error) => (JobState::Failed, Some(error.to_string())),
        }
    }

    fn site(&self) -> Site {
        Site {
            system: self.system.clone(),
            from: self.from.clone(),
            to: self.to.clone(),
            address: self.job.address,
            names: Arc::clone(&self.names),
            seed: self.seed,
            limit: Limit::new(&self.system, self.job.timeout, self.until),
            stop: self.stop.clone(),
        }
    }
}

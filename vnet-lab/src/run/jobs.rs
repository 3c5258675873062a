//! The jobs: what a person would type, as straight-line blocking code.
//!
//! | part | what it is |
//! |---|---|
//! | `ping` | ICMP echo |
//! | `traceroute` | the routers on the way |
//! | `transfer` | a file over TCP, digests compared |
//! | `input` | what a transfer sends: generated, a file, a pipe |
//! | `throughput` | what TCP carries |
//! | `timed` | a stream that gives up at a deadline |
//!
//! A job that is cut off has failed, and what it measured until then is reported: its threads note
//! it in [`Measured`] as they go.

mod input;
mod ping;
mod throughput;
mod timed;
mod traceroute;
mod transfer;

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use vnet::time::{Duration, Instant};
use vnet::{JoinHandle, System, Vnet};

use super::Stop;
use crate::plan::{PlannedJob, PlannedTask};
use crate::report::{Figures, JobReport, RequestCounts};

/// Where a job runs.
#[derive(Clone)]
pub(super) struct Site {
    pub(super) system: System,
    pub(super) from: Vnet,
    pub(super) to: Vnet,
    pub(super) names: Arc<BTreeMap<Ipv4Addr, String>>,
    pub(super) seed: u64,
    /// When the run ends, whatever is still to do.
    pub(super) until: Option<Instant>,
    /// Somebody may want no more of it.
    pub(super) stop: Stop,
}

/// What a job that came to its end says of what it found.
enum Verdict {
    Passed,
    Failed(String),
}

impl Verdict {
    fn of(failed: Option<String>) -> Verdict {
        failed.map_or(Verdict::Passed, Verdict::Failed)
    }
}

/// What a job has measured so far.
#[derive(Clone)]
struct Measured(Arc<Mutex<Figures>>);

impl Measured {
    fn nothing(task: &PlannedTask) -> Measured {
        Measured(Arc::new(Mutex::new(nothing(task))))
    }

    fn set(&self, figures: Figures) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = figures;
    }

    fn get(&self) -> Figures {
        let figures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        figures.clone()
    }
}

/// When a job has to be over.
#[derive(Clone)]
struct Limit {
    system: System,
    timeout: Duration,
    deadline: Instant,
    /// The run ends before the job's own time is over.
    cut_short: bool,
}

impl Limit {
    /// What is left of the time, at most `wait`.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] when nothing is left.
    fn left(&self, wait: Duration) -> io::Result<Duration> {
        let left = self.deadline - self.system.now();
        if left.is_zero() {
            return Err(self.exceeded());
        }
        Ok(left.min(wait))
    }

    fn exceeded(&self) -> io::Error {
        let said = match self.cut_short {
            true => format!("not done when the run ended, at {}", self.deadline),
            false => format!("not done within its timeout of {:?}", self.timeout),
        };
        io::Error::new(io::ErrorKind::TimedOut, said)
    }
}

/// Runs a job to its end, in a thread of its own in the vnet it starts from.
pub(super) fn run(job: &PlannedJob, site: &Site) -> JobReport {
    let started = site.system.now();
    let deadline = started + job.timeout;
    let limit = Limit {
        system: site.system.clone(),
        timeout: job.timeout,
        deadline: site.until.map_or(deadline, |until| until.min(deadline)),
        cut_short: site.until.is_some_and(|until| until < deadline),
    };
    let measured = Measured::nothing(&job.task);
    let failed = match site.stop.is_stopped() {
        true => Some("interrupted before it began".to_owned()),
        false => match carry_out(job, site, limit, &measured) {
            Ok(Verdict::Passed) => None,
            Ok(Verdict::Failed(why)) => Some(why),
            // What the job met was the end of its network.
            Err(_) if site.stop.is_stopped() => Some("interrupted".to_owned()),
            Err(error) => Some(error.to_string()),
        },
    };
    JobReport {
        name: job.name.clone(),
        from: site.from.name().to_owned(),
        to: site.to.name().to_owned(),
        passed: failed.is_none(),
        reason: failed,
        started_ns: started.as_nanos(),
        ended_ns: site.system.now().as_nanos(),
        figures: measured.get(),
    }
}

/// Does what the job is about.
///
/// # Errors
/// It did not come to its end: its time was over, or something went wrong on the way.
fn carry_out(
    job: &PlannedJob,
    site: &Site,
    limit: Limit,
    measured: &Measured,
) -> io::Result<Verdict> {
    let (address, task) = (job.address, job.task.clone());
    let (site, measured) = (site.clone(), measured.clone());
    let from = site.from.clone();
    let thread = from.spawn(move || match task {
        PlannedTask::Ping {
            count,
            interval,
            wait,
            bytes,
            max_loss,
            max_rtt,
        } => {
            let pace = ping::Pace {
                count,
                interval,
                wait,
            };
            let bounds = ping::Bounds { max_loss, max_rtt };
            ping::run(&site, address, pace, bytes, bounds, &limit, &measured)
        }
        PlannedTask::Traceroute {
            expect,
            max_hops,
            tries,
            wait,
        } => {
            let reach = traceroute::Reach {
                max_hops,
                tries,
                wait,
            };
            traceroute::run(&site, address, reach, expect.as_deref(), &limit, &measured)
        }
        PlannedTask::Transfer { source, port } => {
            transfer::run(&site, (address, port), &source, &limit, &measured)
        }
        PlannedTask::Throughput {
            time,
            port,
            min_rate_bps,
        } => throughput::run(
            &site,
            (address, port),
            time,
            min_rate_bps,
            &limit,
            &measured,
        ),
    });
    thread.and_then(joined)
}

/// The figures of a job that measured nothing.
fn nothing(task: &PlannedTask) -> Figures {
    match task {
        PlannedTask::Ping { count, .. } => Figures::Ping {
            requests: RequestCounts {
                unsent: u32::from(*count),
                ..RequestCounts::default()
            },
            rtt: None,
        },
        PlannedTask::Traceroute { .. } => Figures::Traceroute { hops: Vec::new() },
        PlannedTask::Transfer { .. } => Figures::Transfer {
            bytes: 0,
            took_ns: 0,
            sha256: String::new(),
        },
        PlannedTask::Throughput { .. } => Figures::Throughput {
            bytes: 0,
            took_ns: 0,
        },
    }
}

/// Waits for a thread that does I/O; a panic in it is an error like any other.
fn joined<T>(thread: JoinHandle<io::Result<T>>) -> io::Result<T> {
    thread
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("the job's thread panicked")))
}

//! The jobs: what a person would type, as straight-line blocking code.
//!
//! | part | what it is |
//! |---|---|
//! | `ping` | ICMP echo |
//! | `traceroute` | the routers on the way |
//! | `transfer` | a file over TCP, digests compared |
//! | `throughput` | what TCP carries |
//! | `timed` | a stream that gives up at a deadline |

mod ping;
mod throughput;
mod timed;
mod traceroute;
mod transfer;

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use vnet::time::{Duration, Instant};
use vnet::{JoinHandle, System, Vnet};

use crate::plan::{PlannedJob, PlannedTask};
use crate::report::{Figures, JobReport};

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
}

/// How a job ended: what it measured, and why it did not pass.
struct Outcome {
    figures: Figures,
    failed: Option<String>,
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
            false => format!("not done within {:?}", self.timeout),
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
    let (address, task, there) = (job.address, job.task.clone(), site.clone());
    let thread = site.from.spawn(move || match task {
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
            ping::run(&there, address, pace, bytes, bounds, &limit)
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
            traceroute::run(&there, address, reach, expect.as_deref(), &limit)
        }
        PlannedTask::Transfer { source, port } => {
            transfer::run(&there, (address, port), &source, &limit)
        }
        PlannedTask::Throughput {
            time,
            port,
            min_rate_bps,
        } => throughput::run(&there, (address, port), time, min_rate_bps, &limit),
    });
    let outcome = thread.and_then(joined).unwrap_or_else(|error| Outcome {
        figures: nothing(&job.task),
        failed: Some(error.to_string()),
    });
    JobReport {
        name: job.name.clone(),
        from: site.from.name().to_owned(),
        to: site.to.name().to_owned(),
        passed: outcome.failed.is_none(),
        reason: outcome.failed,
        started_ns: started.as_nanos(),
        ended_ns: site.system.now().as_nanos(),
        figures: outcome.figures,
    }
}

/// The figures of a job that measured nothing.
fn nothing(task: &PlannedTask) -> Figures {
    match task {
        PlannedTask::Ping { .. } => Figures::Ping {
            sent: 0,
            received: 0,
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

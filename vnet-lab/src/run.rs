//! Bringing a planned topology up, running its jobs, and taking it down.
//!
//! | part | what it is |
//! |---|---|
//! | `network` | vnets, links, routes |
//! | `capture` | one pcapng file a link, live captures |
//! | `files` | how many of them may be open |
//! | `doors` | what is attached from outside |
//! | `jobs` | when each job runs |
//! | `options` | how to run it |
//! | `error` | why it could not be run |
//!
//! The same code runs under both drivers: jobs are straight-line blocking code.

mod capture;
mod doors;
mod error;
mod files;
mod jobs;
mod network;
mod options;

use std::sync::{Arc, Mutex, PoisonError};

use vnet::{OwnedVnet, System, Vnet};

use crate::plan::Plan;
use crate::report::{AttachReport, EventReport, LinkReport, Report, VnetReport};

use doors::Doors;

pub use crate::stop::Stop;
pub use error::{AttachError, RunError};
pub use files::TooManyFiles;
pub use jobs::{Event, Watcher};
pub use network::Network;
pub use options::{CaptureSettings, Driver, LiveCapture, Options};

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
    if options.driver == Driver::Virtual
        && let Some(error) = RunError::of_simulated_time(plan)
    {
        return Err(error);
    }
    let started = system.now();
    let mut network = Network::unwired(&system, plan, options)?;
    let numbers = 0..plan.vnets.len();
    let vnets: Vec<Vnet> = numbers.map(|number| network.vnet(number)).collect();
    // Before there are addresses, which announce themselves: who is outside hears of them.
    let doors = Doors::open(plan, &vnets, &watcher)?;
    network.wire(plan)?;
    network.start_scripts(plan)?;
    let standing = Arc::new(Standing::new(network, plan.clone()));
    let fallen = Arc::clone(&standing);
    options.stop.on_stop(move || fallen.take_down());
    let reports = jobs::run(&system, &vnets, plan, options, &watcher)?;
    // A run that is kept up by what is attached has no other end than being ended. It is cut off if a job was.
    let cut_off = options.stop.is_stopped() && reports.iter().any(|job| !job.passed);
    if let Some(until) = options.until {
        jobs::pause(&system, started + until, options);
    } else {
        jobs::pause_while(&system, options, || doors.keep_it_up());
    }
    let ended_ns = system.now().as_nanos();
    let stays = !doors.is_empty();
    let attached = doors.close();
    standing.take_down();
    let (links, vnets) = standing.remains()?;
    let clean = vnets.iter().all(|v| v.teardown.is_clean());
    let interrupted = match stays {
        true => cut_off,
        false => options.stop.is_stopped(),
    };
    Ok(Report {
        topology: plan.name.clone(),
        driver: match options.driver {
            Driver::Virtual => "virtual",
            Driver::Threads => "threads",
        },
        seed,
        interrupted,
        passed: !interrupted
            && clean
            && reports.iter().all(|job| job.passed)
            && !attached.iter().any(AttachReport::has_failed),
        ended_ns: match options.until {
            Some(_) => ended_ns,
            None if stays => ended_ns,
            None => reports.iter().map(|job| job.ended_ns).max().unwrap_or(0),
        },
        fingerprint: system.fingerprint().map(|f| f.to_string()),
        jobs: reports,
        events: events(plan),
        attached,
        links,
        vnets,
    })
}

fn events(plan: &Plan) -> Vec<EventReport> {
    let event = |event: &crate::topology::Event| EventReport {
        at: event.event.0,
        link: event.target.get_ref().to_string(),
        change: event.in_words(),
    };
    plan.events.iter().map(event).collect()
}

/// Makes what a planned topology consists of, in the order of the file, and runs nothing in it.
///
/// # Errors
/// When the network could not be built.
pub fn bring_up(system: &System, plan: &Plan) -> Result<Vec<OwnedVnet>, RunError> {
    Ok(Network::build(system, plan, &Options::default())?.into_vnets())
}

/// A network that is taken down once: at the end of its run, or when that is ended early.
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

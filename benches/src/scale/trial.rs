//! One network from nothing to nothing: timed by the wall clock, counted by its own counters.

use std::time::Instant as WallInstant;

use serde::{Deserialize, Serialize};
use vnet::System;

use super::graph::Shape;
use super::network::{BuildError, Design, Network};
use super::traffic::{Flow, TrafficError, carry, pairs, ping_neighbours};

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// What the network looks like.
    pub shape: Shape,
    /// How many routers it has.
    pub routers: usize,
    /// How many TCP flows it carries.
    pub flows: usize,
    /// How many bytes each of them carries.
    pub bytes: usize,
    /// How many links apart the ends of a flow are at most.
    pub reach: usize,
    /// From which everything random follows.
    pub seed: u64,
}

/// Why a trial did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrialError {
    /// The network could not be made.
    #[error("the network could not be made")]
    Build(#[from] BuildError),
    /// Traffic did not arrive.
    #[error("traffic did not arrive")]
    Traffic(#[from] TrafficError),
    /// The network could not be looked at.
    #[error(transparent)]
    Gone(#[from] vnet::Gone),
    /// A teardown left something.
    #[error("the teardown of {vnet} left {leaked}")]
    Leaked {
        /// The vnet.
        vnet: String,
        /// What it left.
        leaked: String,
    },
}

/// What all vnets together have counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Times the driver let a vnet do what was due: the events of the simulation.
    pub services: u64,
    /// Frames that came in.
    pub received: u64,
    /// Those of them that were for the vnet itself.
    pub delivered: u64,
    /// Those of them that were sent on.
    pub forwarded: u64,
    /// Frames sent.
    pub sent: u64,
    /// Packets dropped, in either direction, for whatever reason.
    pub dropped: u64,
}

impl Totals {
    /// Adds up the counters of a network.
    ///
    /// # Errors
    /// [`vnet::Gone`] when one of its vnets is.
    pub fn of(network: &Network) -> Result<Totals, vnet::Gone> {
        let mut totals = Totals::default();
        for router in &network.routers {
            let stats = router.stats()?;
            totals.services += stats.services;
            totals.received += stats.received;
            totals.delivered += stats.delivered;
            totals.forwarded += stats.forwarded;
            totals.sent += stats.sent;
            totals.dropped += stats.rx_dropped() + stats.tx_dropped();
        }
        Ok(totals)
    }

    /// Services and frames: what happened.
    pub fn events(&self) -> u64 {
        self.services + self.received
    }
}

/// Wall time of each part of a trial, and processor time, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Phases {
    /// Graph, addresses and routes.
    pub design: f64,
    /// Vnets, links and routes.
    pub build: f64,
    /// Pings.
    pub ping: f64,
    /// TCP flows.
    pub flows: f64,
    /// Destroying every vnet.
    pub teardown: f64,
    /// What pings and flows took of the processors' time, the kernel's part included: unlike wall
    /// time it does not depend much on what else the machine does.
    pub cpu: f64,
}

/// What came of a trial. The figures of two trials with the same load are the same, but for
/// those of wall time and memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Links.
    pub links: usize,
    /// Routes, without those to a router's own links.
    pub routes: usize,
    /// Pings that were answered; all that were sent.
    pub pings: usize,
    /// The flows, each of which arrived.
    pub flows: Vec<Flow>,
    /// What was counted.
    pub totals: Totals,
    /// Virtual time at the end, in nanoseconds.
    pub virtual_ns: u64,
    /// Wall time.
    pub phases: Phases,
    /// Memory of the process before, with the network idle, and at the end of the flows, in bytes;
    /// zero where the host does not say.
    pub memory: [u64; 3],
}

/// Makes a network, lets every router ping its neighbours, carries the flows, takes it down.
///
/// # Errors
/// A ping or a flow that did not arrive, a vnet whose teardown left something.
pub fn run(load: &Load) -> Result<Outcome, TrialError> {
    let mut clock = Stopwatch::start();
    let mut phases = Phases::default();
    let before = resident_bytes();
    let design = Design::new(load.shape, load.routers, load.seed)?;
    phases.design = clock.lap();
    let system = System::virtual_time(load.seed);
    let network = design.build(&system)?;
    phases.build = clock.lap();
    let idle = resident_bytes();
    let cpu = cpu_seconds();
    let pings = ping_neighbours(&network, &design)?;
    phases.ping = clock.lap();
    let pairs = pairs(&design, load.flows, load.reach, load.seed);
    let flows = carry(&network, &design, &pairs, load.bytes, load.seed)?;
    phases.flows = clock.lap();
    phases.cpu = cpu_seconds() - cpu;
    let loaded = resident_bytes();
    let totals = Totals::of(&network)?;
    let virtual_ns = system.now().as_nanos();
    clock.lap();
    for router in network.routers {
        let report = router.destroy();
        if !report.leaked.is_zero() {
            return Err(TrialError::Leaked {
                vnet: report.vnet.clone(),
                leaked: report.leaked.to_string(),
            });
        }
    }
    phases.teardown = clock.lap();
    Ok(Outcome {
        links: design.graph.links.len(),
        routes: design.route_count(),
        pings,
        flows,
        totals,
        virtual_ns,
        phases,
        memory: [before, idle, loaded],
    })
}

/// Measures one part after another.
pub(super) struct Stopwatch(WallInstant);

impl Stopwatch {
    pub(super) fn start() -> Stopwatch {
        Stopwatch(WallInstant::now())
    }

    /// Seconds since the start or the last lap.
    pub(super) fn lap(&mut self) -> f64 {
        let now = WallInstant::now();
        let took = now - self.0;
        self.0 = now;
        took.as_secs_f64()
    }
}

/// The time that all threads of the process have had a processor, in seconds.
fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The memory that the process occupies, in bytes; zero where the host does not say.
pub(super) fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let kib = line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

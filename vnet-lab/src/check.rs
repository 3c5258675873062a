//! What `run` would refuse of a topology that reads well, and what it would do without being of use.
//!
//! The first is found out by bringing the network up, without running anything in it: so there is no
//! second list of what the library takes, which could differ from it. What the library refuses is
//! shown at its place in the file.

use std::time::Duration;

use vnet::link::Change;
use vnet::link::Discipline;
use vnet::{LinkConfig, System};

use crate::file::source::{Invalid, Problems, Span, Warnings};
use crate::job::kind::Way;
use crate::plan::{Plan, PlannedJob};
use crate::run::{Network, Options, RunError};
use crate::topology::{Lagg, Topology, place_of_attach};

impl Topology {
    /// Brings the network up and takes it down again, without running anything in it.
    ///
    /// # Errors
    /// [`Invalid`] with what the library refuses.
    pub fn try_out(&self, plan: &Plan) -> Result<(), Invalid> {
        self.try_tunables(plan)?;
        let tried = Network::build(&System::virtual_time(0), plan, &Options::default());
        match tried.and_then(|mut network| network.start_scripts(plan)) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.blame(&error)),
        }
    }

    /// Sets the tunables of all nodes, so that all those are told at once that are refused.
    fn try_tunables(&self, plan: &Plan) -> Result<(), Invalid> {
        let system = System::virtual_time(0);
        let mut problems = Problems::new(&self.origin.source);
        for planned in plan.vnets.iter().filter(|vnet| !vnet.sysctl.is_empty()) {
            // A name that cannot be had is for the building of the network to refuse.
            let Ok(vnet) = system.create(&planned.name) else {
                continue;
            };
            for (name, value) in &planned.sysctl {
                let refused = vnet
                    .set_sysctl(name, value)
                    .map_err(|source| RunError::Sysctl {
                        node: planned.name.clone(),
                        name: name.clone(),
                        source,
                    });
                if let Err(error) = refused
                    && let Some(place) = self.place_of(&error)
                {
                    problems.push(place, said(&error));
                }
            }
        }
        match problems.count() {
            0 => Ok(()),
            _ => Err(problems.located(&self.origin.file)),
        }
    }

    /// Says that a topology to which something is attached cannot run in simulated time.
    ///
    /// # Errors
    /// [`Invalid`], at the place of what is attached.
    pub fn try_in_simulated_time(&self, plan: &Plan) -> Result<(), Invalid> {
        match RunError::of_simulated_time(plan) {
            None => Ok(()),
            Some(error) => Err(self.blame(&error)),
        }
    }

    /// Shows at its place what a run met.
    pub fn blame(&self, error: &RunError) -> Invalid {
        let message = said(error);
        let Some(place) = self.place_of(error) else {
            return Invalid::of_file(&self.origin.file, message);
        };
        let mut problems = Problems::new(&self.origin.source);
        problems.push(place, message);
        problems.located(&self.origin.file)
    }

    fn place_of(&self, error: &RunError) -> Option<Span> {
        let interface = |wanted: &str| {
            let (node, name) = wanted.split_once(':')?;
            let mut ends = self.ends();
            let found = ends.find(|((link, tags), end)| {
                // The wires of a lagg have names of their own.
                let lagg = self.links[*link].lagg.as_ref().filter(|_| tags.is_empty());
                let wires = Lagg::wires_of(lagg, end.interface.get_ref());
                end.node.get_ref() == node
                    && (end.interface.get_ref() == name || wires.iter().any(|wire| wire == name))
            });
            found.map(|(_, end)| end.interface.span())
        };
        let node = |wanted: &str| self.nodes.iter().find(|n| n.name.get_ref() == wanted);
        match error {
            RunError::Create { name, .. } | RunError::Bridge { name, .. } => {
                node(name).map(|n| n.name.span())
            }
            RunError::Dns { node: on, .. } => node(on).map(|n| n.name.span()),
            RunError::Sysctl {
                node: on,
                name: wanted,
                ..
            } => node(on).map(|n| {
                let mut tunables = n.sysctl.iter();
                let found = tunables.find(|(name, _)| name.get_ref() == wanted);
                found.map_or(n.name.span(), |(name, _)| name.span())
            }),
            RunError::Interface {
                interface: name, ..
            }
            | RunError::Vlan {
                interface: name, ..
            }
            | RunError::Script {
                interface: name, ..
            } => interface(name),
            RunError::Route {
                name, destination, ..
            } => node(name).map(|n| {
                let mut routes = n.routes.iter();
                let route = routes.find(|r| r.get_ref().destination == *destination);
                route.map_or(n.name.span(), |route| route.span())
            }),
            RunError::Attach { node, .. } | RunError::SimulatedTime { node } => {
                place_of_attach(&self.attach, node)
            }
            _ => None,
        }
    }

    /// Jobs that cannot pass, and jobs that nothing in the network limits.
    pub fn warnings(&self, plan: &Plan) -> Warnings {
        let mut problems = Problems::new(&self.origin.source);
        // Each job of a sound topology is planned.
        for (job, planned) in self.jobs.iter().zip(&plan.jobs) {
            let way = WayOf { plan, job: planned };
            let facts = planned.task.facts();
            if let Some(message) = facts.warning(planned.timeout, &way) {
                problems.push(job.to.span(), format!("job `{}`: {message}", job.name));
            }
        }
        Warnings(problems.located(&self.origin.file))
    }
}

struct WayOf<'a> {
    plan: &'a Plan,
    job: &'a PlannedJob,
}

impl Way for WayOf<'_> {
    fn hops(&self) -> Option<usize> {
        let way = self.plan.trace(self.job.from, self.job.address).ok()?;
        Some(way.len())
    }

    fn is_unlimited(&self) -> bool {
        let plan = self.plan;
        let Ok(way) = plan.trace_segments(self.job.from, self.job.address) else {
            return false;
        };
        let takes_time = |number: usize| {
            let mut scripts = plan.scripts.iter().filter(|s| s.link == number);
            let configured = plan.links[number].outgoing.iter().any(limits);
            configured || scripts.any(|s| s.events.iter().any(|e| changes_limits(&e.1)))
        };
        let mut links = 0..plan.links.len();
        let crosses = |number: usize| plan.links[number].segments.iter().any(|s| way.contains(s));
        !links.any(|number| crosses(number) && takes_time(number))
    }
}

fn limits(config: &LinkConfig) -> bool {
    config.rate_bps.is_some()
        || config.delay > Duration::ZERO
        || config.jitter != vnet::link::Jitter::None
        || matches!(config.queue.discipline, Discipline::TokenBucket { .. })
}

fn changes_limits(change: &Change) -> bool {
    matches!(change, Change::Rate(_) | Change::Delay(_))
}

/// An error with its causes.
fn said(error: &RunError) -> String {
    let mut message = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        message = format!("{message}: {error}");
        cause = error.source();
    }
    message
}

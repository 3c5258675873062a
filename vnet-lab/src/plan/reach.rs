//! Which jobs cannot pass because their packets, or the answers, do not arrive.

use std::net::Ipv4Addr;

use super::Plan;
use super::trace::Unreachable;
use crate::file::source::Problems;
use crate::topology::{Target, Topology};

/// The time to live of packets, for which nobody has asked otherwise (RFC 1340).
const DEFAULT_TTL: usize = 64;

/// Notes each job whose packets, or the answers to them, cannot arrive.
pub(crate) fn check(plan: &Plan, topology: &Topology, problems: &mut Problems<'_>) {
    for job in &topology.jobs {
        let is_station = |number: &usize| !plan.vnets[*number].kind.is_bridge();
        let Some(from) = plan.number(job.from.get_ref()).filter(is_station) else {
            continue;
        };
        let Some(to) = plan.address(job.to.get_ref()) else {
            // What does not exist was noted before; what is left has no link at all.
            if let Target::Node(name) = job.to.get_ref()
                && plan.number(name).is_some_and(|n| is_station(&n))
            {
                problems.push(
                    job.to.span(),
                    format!("unreachable: `{name}` has no address"),
                );
            }
            continue;
        };
        let exists = plan.owner(to).is_some();
        let ttl = job.task.facts().ttl().map_or(DEFAULT_TTL, usize::from);
        let reach = ttl.max(DEFAULT_TTL);
        if exists && let Err(why) = plan.round_trip(from, to, reach) {
            problems.push(
                job.to.span(),
                format!(
                    "{} is unreachable from {}: {why}",
                    job.to.get_ref(),
                    job.from.get_ref()
                ),
            );
        }
    }
}

impl Plan {
    /// Follows packets to the address, which go at most `ttl` hops, and the answers back.
    fn round_trip(&self, from: usize, to: Ipv4Addr, ttl: usize) -> Result<(), Unreachable> {
        let within = |ttl: usize, to: Ipv4Addr, way: Vec<usize>| match way.len() {
            hops if hops > ttl => Err(Unreachable::TooFar { hops, ttl, to }),
            _ => Ok(()),
        };
        within(ttl, to, self.trace(from, to)?)?;
        let Some(owner) = self.owner(to).filter(|owner| *owner != from) else {
            return Ok(());
        };
        match self.hop(from, to)?.source {
            Some(source) => within(DEFAULT_TTL, source, self.trace(owner, source)?),
            None => Ok(()),
        }
    }
}

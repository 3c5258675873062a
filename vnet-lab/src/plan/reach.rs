//! Which jobs cannot pass because their packets, or the answers, do not arrive.

use std::net::IpAddr;

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
        let Some(to) = plan.address(from, job.to.get_ref(), job.family) else {
            // What does not exist was noted before; what is left has no such address.
            let exists = match job.to.get_ref() {
                Target::Address(_) => false,
                Target::Node(name) => plan.number(name).is_some_and(|n| is_station(&n)),
                Target::Interface(name, interface) => plan.number(name).is_some_and(|n| {
                    let mut interfaces = plan.vnets[n].interfaces.iter();
                    is_station(&n) && interfaces.any(|i| i.name == *interface)
                }),
            };
            if exists {
                let such = job.family.map_or("address".to_owned(), |family| {
                    format!("{} address", family.as_str())
                });
                problems.push(
                    job.to.span(),
                    format!("unreachable: `{}` has no {such}", job.to.get_ref()),
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
    fn round_trip(&self, from: usize, to: IpAddr, ttl: usize) -> Result<(), Unreachable> {
        let within = |ttl: usize, to: IpAddr, way: Vec<usize>| match way.len() {
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

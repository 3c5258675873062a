//! Which vnets of a simulation are in which part.
//!
//! Vnets that are near each other in time are one group; the groups are divided into parts of about the same weight, with
//! few links between them. Among the delays that there are, the longest is taken as the limit of what is near for
//! which the parts are even. It decides how long parts can be carried out between two meetings, and nothing else: what comes of
//! it is the same for every division.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::base::time::Duration;

/// Limits that are tried at most.
const TRIES: usize = 16;
/// How long parts are carried out at most between two meetings.
const LONGEST: Duration = Duration::from_millis(100);
/// Rounds in which vnets are moved from part to part.
const ROUNDS: usize = 8;

/// Vnets and what joins them.
#[derive(Default)]
pub(super) struct Graph {
    /// What each is expected to cost.
    pub(super) weights: Vec<u64>,
    /// From which to which, and the least time that takes; zero for those that have to be in one part.
    pub(super) links: Vec<(usize, usize, Duration)>,
}

/// A division.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// The part that each vnet is in.
    pub(super) parts: Vec<usize>,
    /// What is sent from one part to another takes so long at least.
    pub(super) least: Duration,
}

impl Graph {
    /// A division into so many parts, if there is one in which no group is heavier than the share of a part by more than so
    /// many hundredths.
    pub(super) fn divide(&self, parts: usize, uneven: u64) -> Option<Plan> {
        if self.weights.len() < parts {
            return None;
        }
        let mut delays: Vec<Duration> = self.links.iter().map(|(.., delay)| *delay).collect();
        delays.push(LONGEST);
        delays.retain(|delay| !delay.is_zero() && *delay <= LONGEST);
        delays.sort_unstable_by_key(|delay| Reverse(*delay));
        delays.dedup();
        let step = delays.len().div_ceil(TRIES).max(1);
        delays.into_iter().step_by(step).find_map(|least| {
            let parts = self.divide_at(least, parts, uneven)?;
            Some(Plan { parts, least })
        })
    }

    /// A division in which what takes less than `least` is in one part.
    fn divide_at(&self, least: Duration, parts: usize, uneven: u64) -> Option<Vec<usize>> {
        let groups = self.groups(least);
        let count = groups.len();
        let mut weights = vec![0; count];
        for (vnet, group) in groups.iter().enumerate() {
            weights[*group] += self.weights[vnet];
        }
        let total: u64 = weights.iter().sum();
        let share = total / parts as u64;
        // Whatever is in the heaviest part is what all wait for.
        let most = share + share * uneven / 100;
        if weights.iter().any(|weight| *weight > most) {
            return None;
        }
        let roots: Vec<usize> = (0..count).filter(|n| groups[*n] == *n).collect();
        if roots.len() < parts {
            return None;
        }
        let mut near = vec![Vec::new(); count];
        for (a, b, _) in &self.links {
            let (a, b) = (groups[*a], groups[*b]);
            if a != b {
                near[a].push(b);
                near[b].push(a);
            }
        }
        let mut of = grow(&roots, &near, &weights, parts, share);
        settle(&roots, &near, &weights, parts, share, &mut of);
        Some(groups.into_iter().map(|group| of[group]).collect())
    }

    /// The first vnet of the group that each is in.
    fn groups(&self, least: Duration) -> Vec<usize> {
        let mut first: Vec<usize> = (0..self.weights.len()).collect();
        for (a, b, delay) in &self.links {
            if *delay < least {
                let (a, b) = (root(&mut first, *a), root(&mut first, *b));
                first[a.max(b)] = a.min(b);
            }
        }
        (0..first.len()).map(|n| root(&mut first, n)).collect()
    }
}

fn root(first: &mut [usize], mut n: usize) -> usize {
    while first[n] != n {
        first[n] = first[first[n]];
        n = first[n];
    }
    n
}

/// Lets one part after the other grow, by the group that is joined to it by more links than to anything else.
fn grow(
    roots: &[usize],
    near: &[Vec<usize>],
    weights: &[u64],
    parts: usize,
    share: u64,
) -> Vec<usize> {
    let last = parts - 1;
    let mut of = vec![last; near.len()];
    let mut is_free = vec![true; near.len()];
    let mut left = roots.len();
    for part in 0..last {
        let mut inside = vec![0_usize; near.len()];
        let mut next = BinaryHeap::new();
        let mut corners = roots.iter().copied();
        let mut weight = 0;
        // Each later part is left a group at least.
        while weight < share && left > last - part {
            let best = loop {
                match next.pop() {
                    Some((_, Reverse(group))) if is_free[group] => break Some(group),
                    Some(_) => {}
                    // The first one, and where nothing is joined to it any more.
                    None => break corners.find(|group| is_free[*group]),
                }
            };
            let Some(group) = best else { break };
            is_free[group] = false;
            left -= 1;
            of[group] = part;
            weight += weights[group];
            for neighbour in &near[group] {
                inside[*neighbour] += 1;
                let gain = 2 * inside[*neighbour] as i64 - near[*neighbour].len() as i64;
                next.push((gain, Reverse(*neighbour)));
            }
        }
    }
    of
}

/// Moves groups to parts to which they are joined by more links, as long as the parts stay even.
fn settle(
    roots: &[usize],
    near: &[Vec<usize>],
    weights: &[u64],
    parts: usize,
    share: u64,
    of: &mut [usize],
) {
    let mut load = vec![0; parts];
    for group in roots {
        load[of[*group]] += weights[*group];
    }
    let most = share + share / 32;
    for _ in 0..ROUNDS {
        let mut is_settled = true;
        for group in roots {
            let mut joined = vec![0_usize; parts];
            for neighbour in &near[*group] {
                joined[of[*neighbour]] += 1;
            }
            let (here, weight) = (of[*group], weights[*group]);
            let fits = |part: &usize| *part != here && load[*part] + weight <= most;
            let there = (0..parts).filter(fits).max_by_key(|part| joined[*part]);
            let Some(there) = there else { continue };
            let evens = joined[there] == joined[here] && load[here] > load[there] + weight;
            if joined[there] > joined[here] || evens || load[here] > most && joined[there] > 0 {
                load[here] -= weight;
                load[there] += weight;
                of[*group] = there;
                is_settled = false;
            }
        }
        if is_settled {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn ring(count: usize, delay: impl Fn(usize) -> Duration) -> Graph {
        let links = (0..count).map(|n| (n, (n + 1) % count, delay(n)));
        Graph {
            weights: vec![10; count],
            links: links.collect(),
        }
    }

    fn cut(graph: &Graph, plan: &Plan) -> usize {
        let is_cut = |(a, b, _): &&(usize, usize, Duration)| plan.parts[*a] != plan.parts[*b];
        graph.links.iter().filter(is_cut).count()
    }

    #[test]
    fn a_ring_is_cut_in_two_places() {
        let graph = ring(100, |_| MS);
        let plan = graph.divide(2, 25).expect("it can be divided");
        assert_eq!((plan.least, cut(&graph, &plan)), (MS, 2));
        assert_eq!(plan.parts.iter().filter(|part| **part == 0).count(), 50);
    }

    #[test]
    fn what_is_near_stays_together_and_the_longest_delay_is_taken() {
        // Every tenth link is longer, and one is very long.
        let graph = ring(100, |n| match n {
            0 => 50 * MS,
            n if n % 10 == 0 => 5 * MS,
            _ => Duration::ZERO,
        });
        let plan = graph.divide(2, 25).expect("it can be divided");
        assert_eq!(plan.least, 5 * MS);
        for (a, b, delay) in &graph.links {
            assert!(plan.parts[*a] == plan.parts[*b] || *delay >= plan.least);
        }
    }

    #[test]
    fn what_is_all_near_or_in_one_vnet_is_not_divided() {
        assert_eq!(ring(100, |_| Duration::ZERO).divide(2, 25), None);
        let mut graph = ring(100, |_| MS);
        graph.weights[7] = 10_000;
        assert_eq!(graph.divide(2, 25), None);
        assert_eq!(Graph::default().divide(2, 25), None);
    }

    #[test]
    fn what_is_not_joined_is_divided_too() {
        let graph = Graph {
            weights: vec![1; 64],
            links: Vec::new(),
        };
        let plan = graph.divide(4, 25).expect("it can be divided");
        for part in 0..4 {
            assert_eq!(plan.parts.iter().filter(|of| **of == part).count(), 16);
        }
    }
}

//! Rings, trees and random networks: who is joined to whom, before there is any address.

use std::fmt;

use vnet::Rng;

/// The most neighbours a router may have: a set of them is one word.
pub const MAX_DEGREE: usize = 64;

/// What a network looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Each router is joined to the next one, the last one to the first.
    Ring,
    /// Each router has up to so many below it, filled level by level.
    Tree {
        /// How many.
        fan_out: usize,
    },
    /// Connected, with three links for every two routers: the average degree is 3.
    Random,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Shape::Ring => "ring",
            Shape::Tree { .. } => "tree",
            Shape::Random => "random",
        })
    }
}

/// Why there is no such network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GraphError {
    /// Two routers have but one link, which is no ring.
    #[error("a network has at least 3 routers, found {0}")]
    TooFew(usize),
    /// A tree in which nobody has a child, or too many.
    #[error("a fan-out is 1 to 63, found {0}")]
    FanOut(usize),
    /// A random network drew more neighbours for one router than it may have.
    #[error("router {0} has more than 64 neighbours")]
    Degree(usize),
}

/// A link between two routers. The first one gives it its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The router out of whose block the link is numbered.
    pub owner: usize,
    /// The router at the other end.
    pub other: usize,
}

/// A neighbour of a router, and the link that leads there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Its number.
    pub router: usize,
    /// The link's number.
    pub link: usize,
}

/// A connected network of routers 0, 1, 2 and so on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Graph {
    /// What it looks like.
    pub shape: Shape,
    /// The links.
    pub links: Vec<Link>,
    /// For each router its neighbours, in the order of the links. The place of a neighbour in this
    /// list is the number of the interface that leads there.
    pub neighbours: Vec<Vec<Neighbour>>,
}

impl Graph {
    /// A network of so many routers. `seed` decides what a random one looks like.
    ///
    /// Routers are numbered depth first along the links by which they joined the network, so that
    /// those that lie in the same direction have numbers, and thus addresses, close to each other.
    ///
    /// # Errors
    /// [`GraphError`] when there is no such network.
    pub fn new(shape: Shape, routers: usize, seed: u64) -> Result<Graph, GraphError> {
        if routers < 3 {
            return Err(GraphError::TooFew(routers));
        }
        let (parents, extra) = match shape {
            Shape::Ring => ((0..routers - 1).collect(), vec![(0, routers - 1)]),
            Shape::Tree { fan_out } if (1..MAX_DEGREE).contains(&fan_out) => {
                ((1..routers).map(|n| (n - 1) / fan_out).collect(), vec![])
            }
            Shape::Tree { fan_out } => return Err(GraphError::FanOut(fan_out)),
            Shape::Random => random(routers, &mut Rng::seeded(seed)),
        };
        Graph::joined(shape, &parents, &extra)
    }

    /// Router n + 1 joins at `parents[n]`; `extra` links are made besides.
    fn joined(
        shape: Shape,
        parents: &[usize],
        extra: &[(usize, usize)],
    ) -> Result<Graph, GraphError> {
        let numbers = depth_first(parents);
        let own = parents.iter().enumerate().map(|(n, p)| (n + 1, *p));
        let mut links: Vec<Link> = own
            .chain(extra.iter().copied())
            .map(|(owner, other)| Link {
                owner: numbers[owner],
                other: numbers[other],
            })
            .collect();
        links.sort_by_key(|link| (link.owner, link.other));
        let mut neighbours = vec![Vec::new(); parents.len() + 1];
        for (link, ends) in links.iter().enumerate() {
            for (near, router) in [(ends.owner, ends.other), (ends.other, ends.owner)] {
                neighbours[near].push(Neighbour { router, link });
            }
        }
        match neighbours.iter().position(|n| n.len() > MAX_DEGREE) {
            Some(router) => Err(GraphError::Degree(router)),
            None => Ok(Graph {
                shape,
                links,
                neighbours,
            }),
        }
    }

    /// How many routers there are.
    pub fn len(&self) -> usize {
        self.neighbours.len()
    }

    /// Never true: a network has at least three routers.
    pub fn is_empty(&self) -> bool {
        self.neighbours.is_empty()
    }
}

/// Each router joins one that is there already; then links are added between routers that have
/// none, until there are three for every two routers.
fn random(routers: usize, rng: &mut Rng) -> (Vec<usize>, Vec<(usize, usize)>) {
    let parents: Vec<usize> = (1..routers as u32).map(|n| rng.below(n) as usize).collect();
    let mut extra: Vec<(usize, usize)> = Vec::new();
    let mut joined: Vec<Vec<usize>> = vec![Vec::new(); routers];
    for (n, parent) in parents.iter().enumerate() {
        joined[n + 1].push(*parent);
        joined[*parent].push(n + 1);
    }
    let possible = routers * (routers - 1) / 2;
    let wanted = (routers * 3 / 2).min(possible);
    while parents.len() + extra.len() < wanted {
        let (a, b) = (
            rng.below(routers as u32) as usize,
            rng.below(routers as u32) as usize,
        );
        if a != b && !joined[a].contains(&b) {
            joined[a].push(b);
            joined[b].push(a);
            extra.push((a.max(b), a.min(b)));
        }
    }
    (parents, extra)
}

/// The place of each router on a walk that finishes with everything below a router before it goes
/// on.
fn depth_first(parents: &[usize]) -> Vec<usize> {
    let mut below = vec![Vec::new(); parents.len() + 1];
    for (n, parent) in parents.iter().enumerate() {
        below[*parent].push(n + 1);
    }
    let mut numbers = vec![0; parents.len() + 1];
    let mut stack = vec![0];
    let mut next = 0;
    while let Some(router) = stack.pop() {
        numbers[router] = next;
        next += 1;
        stack.extend(below[router].iter().rev());
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scale::routes::distances;

    const SHAPES: [Shape; 3] = [Shape::Ring, Shape::Tree { fan_out: 4 }, Shape::Random];

    #[test]
    fn every_network_is_connected_and_has_the_links_it_should() {
        for (shape, links) in SHAPES.into_iter().zip([100, 99, 150]) {
            let graph = Graph::new(shape, 100, 7).expect("there is such a network");
            assert_eq!(graph.len(), 100);
            assert_eq!(graph.links.len(), links, "{shape}");
            let reached = distances(&graph, 0);
            assert!(reached.iter().all(|d| *d < 100), "{shape} is in parts");
            for (router, neighbours) in graph.neighbours.iter().enumerate() {
                for n in neighbours {
                    let Link { owner, other } = graph.links[n.link];
                    assert!([(owner, other), (other, owner)].contains(&(router, n.router)));
                }
            }
        }
    }

    #[test]
    fn a_ring_is_half_its_length_across_and_a_tree_as_deep_as_its_levels() {
        let across = |shape, n| {
            let graph = Graph::new(shape, n, 1).expect("there is such a network");
            distances(&graph, 0).into_iter().max().expect("not empty")
        };
        assert_eq!(across(Shape::Ring, 10), 5);
        assert_eq!(across(Shape::Tree { fan_out: 4 }, 1 + 4 + 16), 2);
    }

    #[test]
    fn a_seed_decides_what_a_random_network_looks_like() {
        let of = |seed| Graph::new(Shape::Random, 50, seed).expect("there is such a network");
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }

    #[test]
    fn what_is_no_network_is_an_error() {
        assert_eq!(Graph::new(Shape::Ring, 2, 1), Err(GraphError::TooFew(2)));
        for fan_out in [0, 64] {
            let tree = Graph::new(Shape::Tree { fan_out }, 9, 1);
            assert_eq!(tree, Err(GraphError::FanOut(fan_out)));
        }
    }
}

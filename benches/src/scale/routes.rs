//! Shortest paths, and as few routes as say the same.
//!
//! All pairs of 1 000 routers would be a million routes. Routers that lie in the same direction are
//! mostly neighbours in number, so the tables are made as small as tables of longest prefixes can
//! be that send every packet the same way: the three passes of ORTC (Draves et al., "Constructing
//! Optimal IP Routing Tables", INFOCOM 1999) over the binary tree of all blocks. Blocks that nobody
//! has may go any way.

use std::collections::VecDeque;

use super::graph::Graph;

/// A route: to the `index`th prefix of those `depth` levels below the root of the tree of blocks, by
/// the interface numbered `interface`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aggregate {
    /// Levels below the root.
    pub depth: u32,
    /// Which of the prefixes of that depth.
    pub index: usize,
    /// The place of the next router among the neighbours.
    pub interface: usize,
}

/// How many links each router is away from `from`.
pub fn distances(graph: &Graph, from: usize) -> Vec<usize> {
    let mut away = vec![usize::MAX; graph.len()];
    away[from] = 0;
    let mut queue = VecDeque::from([from]);
    while let Some(at) = queue.pop_front() {
        for n in &graph.neighbours[at] {
            if away[n.router] == usize::MAX {
                away[n.router] = away[at] + 1;
                queue.push_back(n.router);
            }
        }
    }
    away
}

/// For each router the interface by which the shortest path from `from` begins; `None` for itself.
/// Of paths of the same length, one over the neighbour that comes first.
///
/// Each hop brings a packet nearer, whichever of the shortest paths the next router chooses, so
/// there are no loops.
pub fn first_hops(graph: &Graph, from: usize) -> Vec<Option<usize>> {
    let mut hops = vec![None; graph.len()];
    let mut queue = VecDeque::new();
    for (interface, n) in graph.neighbours[from].iter().enumerate() {
        hops[n.router] = Some(interface);
        queue.push_back(n.router);
    }
    while let Some(at) = queue.pop_front() {
        for n in &graph.neighbours[at] {
            if n.router != from && hops[n.router].is_none() {
                hops[n.router] = hops[at];
                queue.push_back(n.router);
            }
        }
    }
    hops
}

/// The fewest routes that lead each router's block the way of `hops`.
///
/// # Panics
/// When an interface is numbered 64 or more.
pub fn aggregate(hops: &[Option<usize>]) -> Vec<Aggregate> {
    let leaves = hops.len().next_power_of_two();
    // A heap: node n has the children 2n and 2n + 1. Each node has the set of interfaces that
    // would do for it at the least expense; a block whose way does not matter has all.
    let mut sets = vec![u64::MAX; 2 * leaves];
    for (router, hop) in hops.iter().enumerate() {
        if let Some(interface) = hop {
            assert!(*interface < 64, "a set of interfaces is one word");
            sets[leaves + router] = 1 << interface;
        }
    }
    for node in (1..leaves).rev() {
        let (left, right) = (sets[2 * node], sets[2 * node + 1]);
        sets[node] = match left & right {
            0 => left | right,
            both => both,
        };
    }
    let mut routes = Vec::new();
    let mut stack = vec![(1usize, None)];
    while let Some((node, inherited)) = stack.pop() {
        let kept = inherited.filter(|interface| sets[node] & (1u64 << interface) != 0);
        let interface = kept.unwrap_or_else(|| {
            let interface = sets[node].trailing_zeros();
            let depth = node.ilog2();
            routes.push(Aggregate {
                depth,
                index: node - (1 << depth),
                interface: interface as usize,
            });
            interface
        });
        if node < leaves {
            stack.push((2 * node + 1, Some(interface)));
            stack.push((2 * node, Some(interface)));
        }
    }
    routes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scale::graph::Shape;

    /// The interface that the longest of the prefixes around `router` says.
    fn looked_up(routes: &[Aggregate], router: usize, levels: u32) -> Option<usize> {
        let around = routes
            .iter()
            .filter(|r| router >> (levels - r.depth) == r.index);
        around.max_by_key(|r| r.depth).map(|r| r.interface)
    }

    #[test]
    fn aggregates_lead_every_router_the_way_of_the_shortest_path() {
        for shape in [Shape::Ring, Shape::Tree { fan_out: 3 }, Shape::Random] {
            let graph = Graph::new(shape, 77, 5).expect("there is such a network");
            for from in 0..graph.len() {
                let hops = first_hops(&graph, from);
                let away = distances(&graph, from);
                let routes = aggregate(&hops);
                for (to, hop) in hops.iter().enumerate().filter(|(to, _)| *to != from) {
                    assert_eq!(looked_up(&routes, to, 7), *hop, "{shape} {from} to {to}");
                    let next = graph.neighbours[from][hop.expect("it is another router")];
                    assert_eq!(distances(&graph, next.router)[to], away[to] - 1);
                }
                assert!(routes.len() < 77);
            }
        }
    }

    #[test]
    fn a_leaf_of_a_tree_needs_one_route_and_a_ring_few() {
        let tree = Graph::new(Shape::Tree { fan_out: 4 }, 1000, 1).expect("there is one");
        let leaf = (0..1000)
            .find(|n| tree.neighbours[*n].len() == 1)
            .expect("a tree has leaves");
        assert_eq!(aggregate(&first_hops(&tree, leaf)).len(), 1);
        let ring = Graph::new(Shape::Ring, 1000, 1).expect("there is one");
        assert!((0..1000).all(|n| aggregate(&first_hops(&ring, n)).len() <= 20));
    }
}

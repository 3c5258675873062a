//! Which links are one Ethernet segment: those that switches and hubs join. A link without one is
//! a segment by itself.

use std::collections::BTreeMap;

use petgraph::unionfind::UnionFind;

use super::{End, Link, NodeKind, Topology};

#[cfg(test)]
mod tests;

/// The segments of a topology.
#[derive(Debug, Default)]
pub(crate) struct Segments {
    /// The segment of each link: the number of its first link in the file.
    of_link: Vec<usize>,
    /// Links between bridges that other links join already, where no protocol keeps the loop open.
    loops: Vec<usize>,
}

impl Segments {
    /// The segments of `topology`. Ends at nodes that are not there join nothing.
    pub(crate) fn of(topology: &Topology) -> Segments {
        let links = topology.links.len();
        let mut bridges = BTreeMap::new();
        for (number, node) in topology.nodes.iter().enumerate() {
            if node.kind.is_bridge() {
                let speaks = topology.rstp(node).is_some();
                bridges.insert(node.name.get_ref().as_str(), (links + number, speaks));
            }
        }
        let mut joined = UnionFind::<usize>::new(links + topology.nodes.len());
        let mut loops = Vec::new();
        let at = |end: &End| bridges.get(end.node.get_ref().as_str()).copied();
        let ends = |link: &Link| link.ends.each_ref().map(at);
        let guarded = |link: &Link| matches!(ends(link), [Some((_, true)), Some((_, true))]);
        // A loop is kept open only if every bridge in it takes part: those links come first, so that
        // a link which closes another loop is one of a bridge that does not.
        let mut numbers: Vec<usize> = (0..links).collect();
        numbers.sort_by_key(|number| !guarded(&topology.links[*number]));
        for number in numbers {
            let link = &topology.links[number];
            match ends(link) {
                [Some((a, _)), Some((b, _))] => {
                    if !joined.union(a, b) && !guarded(link) {
                        loops.push(number);
                    }
                    joined.union(number, a);
                }
                [Some((bridge, _)), None] | [None, Some((bridge, _))] => {
                    joined.union(number, bridge);
                }
                [None, None] => {}
            }
        }
        loops.sort_unstable();
        let mut first = BTreeMap::new();
        let segment = |link| *first.entry(joined.find(link)).or_insert(link);
        Segments {
            of_link: (0..links).map(segment).collect(),
            loops,
        }
    }

    /// The segment of a link.
    pub(crate) fn of_link(&self, link: usize) -> usize {
        self.of_link[link]
    }

    /// Links that close a loop of bridges which no protocol keeps open.
    pub(crate) fn loops(&self) -> &[usize] {
        &self.loops
    }

    /// The segment of each link, by the link's number.
    pub(crate) fn into_numbers(self) -> Vec<usize> {
        self.of_link
    }
}

impl NodeKind {
    /// True for what passes frames and has no address.
    pub fn is_bridge(self) -> bool {
        matches!(self, NodeKind::Switch | NodeKind::Hub)
    }

    /// The kind as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            NodeKind::Host => "host",
            NodeKind::Router => "router",
            NodeKind::Switch => "switch",
            NodeKind::Hub => "hub",
        }
    }
}

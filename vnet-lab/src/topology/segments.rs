//! What is one Ethernet segment: the links that switches and hubs join. A link without one is a segment by
//! itself. Where there are VLANs, a link has a strand for each, and one for what has no tag; switches join
//! strands.

use std::collections::{BTreeMap, BTreeSet};

use petgraph::unionfind::UnionFind;
use vnet::MemberVlans;

use super::{End, Link, NodeKind, Strand, Topology, UNTAGGED};

#[cfg(test)]
mod tests;

/// The segments of a topology.
#[derive(Debug, Default)]
pub(crate) struct Segments {
    /// The VIDs that the file names at an end, ascending, with [`UNTAGGED`] before them: no station hears
    /// others.
    vids: Vec<u16>,
    /// The segment of each strand, by link and then by VID.
    of_strand: Vec<usize>,
    /// Links between bridges that other links join already, where no protocol keeps the loop open.
    loops: Vec<usize>,
}

/// A bridge of the topology.
struct Bridge<'a> {
    number: usize,
    /// It takes part in a spanning tree.
    speaks: bool,
    /// It tells VLANs apart.
    aware: bool,
    node: &'a str,
}

impl Segments {
    /// The segments of `topology`. Ends at nodes that are not there join nothing.
    pub(crate) fn of(topology: &Topology) -> Segments {
        let aware = topology.tells_vlans_apart();
        let mut bridges = BTreeMap::new();
        for (number, node) in topology.nodes.iter().enumerate() {
            if node.kind.is_bridge() {
                let name = node.name.get_ref().as_str();
                let bridge = Bridge {
                    number,
                    speaks: topology.rstp(node).is_some(),
                    aware: aware.contains(name),
                    node: name,
                };
                bridges.insert(name, bridge);
            }
        }
        let vids = vids(topology);
        let strands = topology.links.len() * vids.len();
        let mut joined = UnionFind::<usize>::new(strands + topology.nodes.len() * vids.len());
        let mut loops = Vec::new();
        let at = |end: &End| bridges.get(end.node.get_ref().as_str());
        let guarded = |link: &Link| {
            let ends = link.ends.each_ref().map(at);
            ends.iter().all(|b| b.is_some_and(|b| b.speaks))
        };
        // A loop is kept open only if every bridge in it takes part: those links come first, so that
        // a link which closes another loop is one of a bridge that does not.
        let mut numbers: Vec<usize> = (0..topology.links.len()).collect();
        numbers.sort_by_key(|number| !guarded(&topology.links[*number]));
        for number in numbers {
            let link = &topology.links[number];
            let mut is_loop = false;
            for (rank, vid) in vids.iter().enumerate() {
                let strand = number * vids.len() + rank;
                let bridged = link.ends.each_ref().map(|end| {
                    let bridge = at(end)?;
                    let rank = vids.binary_search(&bridge.vlan(end, *vid)?).ok()?;
                    Some(strands + bridge.number * vids.len() + rank)
                });
                match bridged {
                    [Some(a), Some(b)] => {
                        is_loop |= !joined.union(a, b);
                        joined.union(strand, a);
                    }
                    [Some(bridge), None] | [None, Some(bridge)] => {
                        joined.union(strand, bridge);
                    }
                    [None, None] => {}
                }
            }
            if is_loop && !guarded(link) {
                loops.push(number);
            }
        }
        loops.sort_unstable();
        let mut first = BTreeMap::new();
        let segment = |strand| *first.entry(joined.find(strand)).or_insert(strand);
        Segments {
            of_strand: (0..strands).map(segment).collect(),
            vids,
            loops,
        }
    }

    /// The segment of a strand.
    pub(crate) fn of_strand(&self, (link, vid): Strand) -> usize {
        let rank = self.vids.binary_search(&vid);
        let rank = rank.expect("the VIDs of all ends are known");
        self.of_strand[link * self.vids.len() + rank]
    }

    /// The segments of a link, each once.
    pub(crate) fn of_link(&self, link: usize) -> Vec<usize> {
        let strands = &self.of_strand[link * self.vids.len()..][..self.vids.len()];
        let mut segments = strands.to_vec();
        segments.sort_unstable();
        segments.dedup();
        segments
    }

    /// Links that close a loop of bridges which no protocol keeps open.
    pub(crate) fn loops(&self) -> &[usize] {
        &self.loops
    }
}

impl Bridge<'_> {
    /// In which of its VLANs frames are that come by an end with this VID, if they are in one.
    fn vlan(&self, end: &End, vid: u16) -> Option<u16> {
        debug_assert_eq!(end.node.get_ref(), self.node);
        if !self.aware {
            return Some(vid);
        }
        let vlans = member_vlans(end);
        match vid {
            UNTAGGED => vlans.pvid,
            vid => vlans.tagged.contains(vid).then_some(vid),
        }
    }
}

/// In which VLANs an end is, at a switch that tells them apart: in the first, when the file does not say.
pub(crate) fn member_vlans(end: &End) -> MemberVlans {
    let said = end.member.as_ref().map(|member| member.get_ref().clone());
    said.unwrap_or_else(|| MemberVlans::access(1))
}

/// The VIDs under which stations hear something.
fn vids(topology: &Topology) -> Vec<u16> {
    let mut vids = BTreeSet::from([UNTAGGED]);
    vids.extend(topology.ends().map(|((_, vid), _)| vid));
    if !topology.tells_vlans_apart().is_empty() {
        let ends = topology.links.iter().flat_map(|link| &link.ends);
        vids.extend(ends.filter_map(|end| member_vlans(end).pvid));
    }
    vids.into_iter().collect()
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

//! What is one Ethernet segment: the links that switches and hubs join. A link without one is a segment by
//! itself. Where there are VLANs, a link has a strand for each, and one for what has no tag; switches join
//! strands. A frame may have several tags, of which a switch looks at the outermost.

use std::collections::{BTreeMap, BTreeSet};

use petgraph::unionfind::UnionFind;
use vnet::{MemberVlans, TagPolicy, Tpid, VlanConfig};

use super::{End, Link, NodeKind, Strand, Tags, Topology};

#[cfg(test)]
mod tests;

/// The segments of a topology.
#[derive(Debug, Default)]
pub(crate) struct Segments {
    /// The segment of each strand in which a station is, or can be heard.
    of_strand: BTreeMap<Strand, usize>,
    /// Links between bridges that other links join already, where no protocol keeps the loop open.
    loops: Vec<usize>,
    /// A link on which there were more stacks of tags than are followed.
    excess: Option<usize>,
}

/// A bridge of the topology.
struct Bridge<'a> {
    number: usize,
    /// It takes part in a spanning tree.
    speaks: bool,
    /// Which tags it looks at, if it tells VLANs apart.
    aware: Option<Tpid>,
    /// Its ports: the link of each, and its end.
    ports: Vec<(usize, &'a End)>,
}

/// Where a frame is inside a bridge: its number, the VLAN if it tells them apart, and the tags that are the frame's own
/// business.
type Inside = (usize, Option<u16>, Tags);

/// What is joined to what.
#[derive(Default)]
struct Joints {
    strands: BTreeSet<Strand>,
    inside: BTreeSet<Inside>,
    /// Where frames of a strand go that come in by an end of its link, 0 or 1.
    ingress: BTreeMap<(Strand, usize), Inside>,
    /// The strands by which what is inside a bridge leaves.
    egress: BTreeSet<(Inside, Strand)>,
    /// The link of the first strand that was one too many.
    excess: Option<usize>,
}

/// Strands that are followed for each link: one for each VLAN, and as many for stacks of tags on the average. Tunnels that
/// lead into each other put tags in front of tags in any order.
const STRANDS_PER_LINK: usize = 2 * 4096;

impl Segments {
    /// The segments of `topology`. Ends at nodes that are not there join nothing.
    pub(crate) fn of(topology: &Topology) -> Segments {
        let bridges = bridges(topology);
        let joints = joints(topology, &bridges);
        let strands: BTreeMap<&Strand, usize> = joints.strands.iter().zip(0..).collect();
        let inside: BTreeMap<&Inside, usize> = joints.inside.iter().zip(strands.len()..).collect();
        let mut joined = UnionFind::<usize>::new(strands.len() + inside.len());
        let at = |end: &End| bridges.get(end.node.get_ref().as_str());
        let guarded = |link: &Link| {
            let ends = link.ends.each_ref().map(at);
            ends.iter().all(|b| b.is_some_and(|b| b.speaks))
        };
        // A loop is kept open only if every bridge in it takes part: those links come first, so that
        // a link which closes another loop is one of a bridge that does not.
        let mut order: Vec<(&Strand, usize)> = strands.iter().map(|(s, n)| (*s, *n)).collect();
        order.sort_by_key(|((link, _), _)| !guarded(&topology.links[*link]));
        let mut loops = BTreeSet::new();
        for (strand, number) in order {
            let ends = [0, 1].map(|end| {
                let place = joints.ingress.get(&(strand.clone(), end))?;
                Some(inside[place])
            });
            if let [Some(a), Some(b)] = ends
                && !joined.union(a, b)
                && !guarded(&topology.links[strand.0])
            {
                loops.insert(strand.0);
            }
            for place in ends.into_iter().flatten() {
                joined.union(number, place);
            }
        }
        // What leaves by another VLAN than it comes back in joins the two, and is no loop.
        for (place, strand) in &joints.egress {
            joined.union(inside[place], strands[strand]);
        }
        let mut first = BTreeMap::new();
        let mut segment = |strand| *first.entry(joined.find(strand)).or_insert(strand);
        let of_strand = strands
            .iter()
            .map(|(strand, number)| ((*strand).clone(), segment(*number)))
            .collect();
        Segments {
            of_strand,
            loops: loops.into_iter().collect(),
            excess: joints.excess,
        }
    }

    /// The segment of a strand that an end is at.
    pub(crate) fn of_strand(&self, strand: &Strand) -> usize {
        self.of_strand[strand]
    }

    /// The segments of a link, each once.
    pub(crate) fn of_link(&self, link: usize) -> Vec<usize> {
        let strands = self
            .of_strand
            .range((link, Tags::new())..(link + 1, Tags::new()));
        let segments: BTreeSet<usize> = strands.map(|(_, segment)| *segment).collect();
        segments.into_iter().collect()
    }

    /// A link on which there are more stacks of tags than are followed. Then there are more segments than are known.
    pub(crate) fn excess(&self) -> Option<usize> {
        self.excess
    }

    /// Links that close a loop of bridges which no protocol keeps open.
    pub(crate) fn loops(&self) -> &[usize] {
        &self.loops
    }
}

fn bridges(topology: &Topology) -> BTreeMap<&str, Bridge<'_>> {
    let aware = topology.tells_vlans_apart();
    let mut bridges = BTreeMap::new();
    for (number, node) in topology.nodes.iter().enumerate() {
        if node.kind.is_bridge() {
            let name = node.name.get_ref().as_str();
            let vlans = node.switch.config.vlans.as_ref();
            let tpid = vlans.map_or(Tpid::default(), |vlans| vlans.tpid);
            let bridge = Bridge {
                number,
                speaks: topology.rstp(node).is_some(),
                aware: aware.contains(name).then_some(tpid),
                ports: Vec::new(),
            };
            bridges.insert(name, bridge);
        }
    }
    for (number, link) in topology.links.iter().enumerate() {
        for end in &link.ends {
            // What a port brings in that only watches is dropped.
            if let Some(bridge) = bridges.get_mut(end.node.get_ref().as_str())
                && !end.port.config.span.is_on()
            {
                bridge.ports.push((number, end));
            }
        }
    }
    bridges
}

/// Follows frames from all ends through all bridges.
fn joints(topology: &Topology, bridges: &BTreeMap<&str, Bridge<'_>>) -> Joints {
    let mut joints = Joints::default();
    let untagged = (0..topology.links.len()).map(|link| (link, Tags::new()));
    let tagged = topology.ends().map(|(strand, _)| strand);
    let mut left: Vec<Strand> = untagged.chain(tagged).collect();
    let most = left.len() + topology.links.len() * STRANDS_PER_LINK;
    while let Some(strand) = left.pop() {
        if joints.strands.len() >= most {
            joints.excess = Some(strand.0);
            joints.strands.insert(strand);
            joints.strands.extend(left);
            break;
        }
        if !joints.strands.insert(strand.clone()) {
            continue;
        }
        for (n, end) in topology.links[strand.0].ends.iter().enumerate() {
            let Some(bridge) = bridges.get(end.node.get_ref().as_str()) else {
                continue;
            };
            let Some(place) = bridge.inside(end, &strand.1) else {
                continue;
            };
            joints.ingress.insert((strand.clone(), n), place.clone());
            if !joints.inside.insert(place.clone()) {
                continue;
            }
            for (link, port) in &bridge.ports {
                if let Some(tags) = bridge.outside(port, &place) {
                    let strand = (*link, tags);
                    joints.egress.insert((place.clone(), strand.clone()));
                    left.push(strand);
                }
            }
        }
    }
    joints
}

impl Bridge<'_> {
    /// Where frames with these tags are that come in by a port, if they are let in.
    fn inside(&self, port: &End, tags: &[VlanConfig]) -> Option<Inside> {
        if port.port.config.span.is_on() {
            return None;
        }
        let Some(tpid) = self.aware else {
            return Some((self.number, None, tags.to_vec()));
        };
        let vlans = member_vlans(port);
        let tag = tags.first().filter(|tag| tag.tpid == tpid);
        let (vid, rest) = match (vlans.tags, tag) {
            (TagPolicy::Obey, Some(tag)) => (tag.vid, &tags[1..]),
            (TagPolicy::Refuse, Some(_)) => return None,
            (TagPolicy::Ignore, _) | (_, None) => (vlans.pvid?, tags),
        };
        let is_in = vlans.tagged.contains(vid) || vlans.untagged.contains(vid);
        let is_let_in = is_in || !vlans.ingress_filter.is_on();
        is_let_in.then(|| (self.number, Some(vid), rest.to_vec()))
    }

    /// The tags with which frames leave by a port, if they do.
    fn outside(&self, port: &End, (_, vid, rest): &Inside) -> Option<Tags> {
        let (Some(tpid), Some(vid)) = (self.aware, *vid) else {
            return Some(rest.clone());
        };
        let vlans = member_vlans(port);
        if vlans.tagged.contains(vid) {
            let tag = VlanConfig { tpid, vid };
            let fits = rest.len() < usize::from(VlanConfig::MAX_DEPTH);
            return fits.then(|| [&[tag], &rest[..]].concat());
        }
        // A tag behind the one that is taken off leads into no other VLAN.
        let would_lead = rest.first().is_some_and(|tag| tag.tpid == tpid);
        let leaves =
            vlans.untagged.contains(vid) && (!would_lead || vlans.tags == TagPolicy::Ignore);
        leaves.then(|| rest.clone())
    }
}

/// In which VLANs an end is, at a switch that tells them apart: in the first, when the file does not say.
pub(crate) fn member_vlans(end: &End) -> MemberVlans {
    let said = end.port.vlans.as_ref().map(|vlans| vlans.get_ref().clone());
    said.unwrap_or_else(|| MemberVlans::access(1))
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

//! Promise: in a network of bridges that tell VLANs apart, trunks, tunnels, and VLAN interfaces in the
//! same vnet or another one, a frame is seen exactly where an independent model of a few rules says, with
//! the tags that it says, and nowhere else.
//!
//! The model follows a list of tags through the network, one bridge at a time, and shares nothing with
//! the library. It learns where stations are, as bridges do. Networks are trees, so that each frame ends.
//!
//! The rules that keep VLANs apart: a tag says in which VLAN a frame is where it is the outermost one, and
//! nowhere else. Behind a tag that has only a priority, none does. So no bridge sends a frame out without its
//! VLAN's tag if another tag of the same protocol would then be the outermost one, unless tags mean nothing
//! on the member by which it leaves.
//!
//! `PROPTEST_CASES=10000` tests as many networks.

use std::cell::RefCell;
use std::collections::BTreeMap;

use proptest::prelude::*;
use vnet::{
    BridgeConfig, BridgeVlans, MemberConfig, MemberVlans, OwnedVnet, Port, Switchable, System,
    TagPolicy, Tpid, VlanConfig, VlanLearning, Vnet,
};
use vnet_tests::accounts::{assert_clean, assert_conserved};
use vnet_tests::bridge::{EVERYONE, OTHER, station};
use vnet_tests::frames::{ethernet, tagged};
use vnet_tests::topology::vnet;

/// A tag: its TPID, and its control information.
type Tag = (u16, u16);

/// VIDs that networks are made of: few, so that they meet.
const VIDS: [u16; 5] = [1, 2, 3, 100, 4094];

fn number(tpid: Tpid) -> u16 {
    match tpid {
        Tpid::Dot1q => 0x8100,
        Tpid::Dot1ad => 0x88a8,
    }
}

/// What a bridge is made with, and how it is joined to one that is there.
#[derive(Clone, Debug)]
struct NewBridge {
    to: usize,
    joint: Joint,
    aware: Option<(Tpid, bool, MemberVlans)>,
    near: MemberVlans,
    far: MemberVlans,
}

#[derive(Clone, Debug)]
enum Joint {
    /// By a wire between the two.
    Trunk,
    /// By a wire, at the other end of which is a VLAN interface, or one on top of another.
    Wire(Vec<VlanConfig>),
    /// By a VLAN interface on the other bridge, which is in the same vnet or lent to the new one's.
    Host(VlanConfig, bool),
}

#[derive(Clone, Debug)]
struct Sent {
    from: usize,
    tags: Vec<Tag>,
    to: To,
    src: u8,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum To {
    Everyone,
    Unknown,
    Station(u8),
}

fn tpid() -> impl Strategy<Value = Tpid> {
    prop_oneof![3 => Just(Tpid::Dot1q), 1 => Just(Tpid::Dot1ad)]
}

fn vid() -> impl Strategy<Value = u16> {
    prop::sample::select(VIDS.to_vec())
}

fn vlan() -> impl Strategy<Value = VlanConfig> {
    let vid = prop_oneof![6 => vid(), 1 => Just(0)];
    (tpid(), vid).prop_map(|(tpid, vid)| match tpid {
        Tpid::Dot1q => VlanConfig::dot1q(vid),
        Tpid::Dot1ad => VlanConfig::dot1ad(vid),
    })
}

/// Any VLANs of a member that do not contradict each other.
fn member_vlans() -> impl Strategy<Value = MemberVlans> {
    let policy = [TagPolicy::Obey, TagPolicy::Refuse, TagPolicy::Ignore];
    let any = (
        prop::option::of(vid()),
        prop::collection::btree_set(vid(), 0..4),
        prop::collection::btree_set(vid(), 0..3),
        prop::sample::select(policy.to_vec()),
        prop_oneof![3 => Just(Switchable::On), 1 => Just(Switchable::Off)],
    );
    let any = any.prop_map(|(pvid, tagged, mut untagged, tags, ingress_filter)| {
        untagged.retain(|vid| !tagged.contains(vid));
        if let Some(pvid) = pvid
            && ingress_filter == Switchable::On
            && !tagged.contains(&pvid)
        {
            untagged.insert(pvid);
        }
        MemberVlans {
            pvid,
            tagged: tagged.into_iter().collect(),
            untagged: untagged.into_iter().collect(),
            tags: pvid.map_or(TagPolicy::Obey, |_| tags),
            ingress_filter,
        }
    });
    prop_oneof![
        2 => any,
        2 => vid().prop_map(MemberVlans::access),
        1 => vid().prop_map(MemberVlans::tunnel),
        2 => Just(MemberVlans::trunk(VIDS.into_iter().collect())),
    ]
}

fn new_bridge() -> impl Strategy<Value = NewBridge> {
    let joint = prop_oneof![
        3 => Just(Joint::Trunk),
        2 => prop::collection::vec(vlan(), 1..3).prop_map(Joint::Wire),
        2 => (vlan(), any::<bool>()).prop_map(|(vlan, lent)| Joint::Host(vlan, lent)),
    ];
    let aware = (tpid(), any::<bool>(), member_vlans());
    let aware = prop::option::weighted(0.85, aware);
    let all = (any::<usize>(), joint, aware, member_vlans(), member_vlans());
    all.prop_map(|(to, joint, aware, near, far)| NewBridge {
        to,
        joint,
        aware,
        near,
        far,
    })
}

fn sent() -> impl Strategy<Value = Sent> {
    let tag = || {
        let vid = prop_oneof![8 => vid(), 2 => Just(0), 1 => Just(4095), 1 => 0..4096u16];
        let high = prop_oneof![2 => Just(0), 1 => 0..16u16];
        let all = (tpid(), vid, high);
        all.prop_map(|(tpid, vid, high)| (number(tpid), high << 12 | vid))
    };
    let tags = prop_oneof![
        9 => prop::collection::vec(tag(), 0..4),
        1 => prop::collection::vec(tag(), 4..12),
    ];
    let to = prop_oneof![
        3 => Just(To::Everyone),
        2 => Just(To::Unknown),
        2 => (1..5u8).prop_map(To::Station),
    ];
    let all = (any::<usize>(), tags, to, 1..5u8);
    all.prop_map(|(from, tags, to, src)| Sent {
        from,
        tags,
        to,
        src,
    })
}

/// What the model knows of an interface.
struct Interface {
    kind: Kind,
    /// The bridge that it is a member of, and in which VLANs.
    member: Option<(usize, MemberVlans)>,
    /// The VLAN interfaces on it.
    vlans: BTreeMap<(u16, u16), usize>,
}

enum Kind {
    Port(usize),
    Epair(usize),
    Vlan(usize, Tag),
    Bridge(usize),
}

struct ModelBridge {
    itself: usize,
    members: Vec<usize>,
    /// The TPID, the VLANs of the bridge's own interface, and whether all VLANs share what is learned.
    aware: Option<(u16, MemberVlans, bool)>,
    /// By which interface a station is reached, in a VLAN or in all of them (0).
    stations: RefCell<BTreeMap<(u16, u8), usize>>,
}

/// What a frame is, but for its tags.
#[derive(Clone, Copy)]
struct Frame {
    to: To,
    src: u8,
    /// The priority and drop eligibility that it had when its outer tag was taken off.
    priority: u16,
}

/// Where frames go, by rules alone.
#[derive(Default)]
struct Model {
    interfaces: Vec<Interface>,
    bridges: Vec<ModelBridge>,
}

impl Model {
    fn add(&mut self, kind: Kind) -> usize {
        self.interfaces.push(Interface {
            kind,
            member: None,
            vlans: BTreeMap::new(),
        });
        self.interfaces.len() - 1
    }

    fn join(&mut self, interface: usize, bridge: usize, vlans: &MemberVlans) {
        self.interfaces[interface].member = Some((bridge, vlans.clone()));
        self.bridges[bridge].members.push(interface);
    }

    fn comes_in(&self, at: usize, tags: &[Tag], frame: Frame, seen: &mut Vec<(usize, Vec<Tag>)>) {
        match &self.interfaces[at].member {
            Some((bridge, vlans)) => self.crosses(*bridge, Some(at), vlans, tags, frame, seen),
            None => self.goes_up(at, tags, frame, seen),
        }
    }

    /// To the VLAN interface of its outer tag, if there is one.
    fn goes_up(&self, at: usize, tags: &[Tag], frame: Frame, seen: &mut Vec<(usize, Vec<Tag>)>) {
        let Some(((tpid, tci), rest)) = tags.split_first() else {
            return;
        };
        let vid = tci & 0xfff;
        let priority = tci >> 12;
        let frame = Frame { priority, ..frame };
        if let Some(above) = self.interfaces[at].vlans.get(&(*tpid, vid))
            && (vid != 0 || is_in_no_vlan(rest))
        {
            self.comes_in(*above, rest, frame, seen);
        }
    }

    fn goes_out(&self, by: usize, tags: &[Tag], frame: Frame, seen: &mut Vec<(usize, Vec<Tag>)>) {
        match &self.interfaces[by].kind {
            Kind::Port(port) => seen.push((*port, tags.to_vec())),
            // A wire has nothing but the frame.
            Kind::Epair(far) => {
                let frame = Frame {
                    priority: 0,
                    ..frame
                };
                self.comes_in(*far, tags, frame, seen);
            }
            // Who may set priorities may not choose a VLAN with them.
            Kind::Vlan(_, (_, 0)) if !tags.is_empty() => {}
            Kind::Vlan(parent, (tpid, vid)) => {
                let priority = tags.first().map_or(frame.priority, |tag| tag.1 >> 12);
                let tags = [&[(*tpid, priority << 12 | vid)], tags].concat();
                self.goes_out(*parent, &tags, frame, seen);
            }
            Kind::Bridge(bridge) => {
                let aware = self.bridges[*bridge].aware.as_ref();
                let vlans = aware.map_or_else(MemberVlans::default, |(_, host, _)| host.clone());
                self.crosses(*bridge, None, &vlans, tags, frame, seen);
            }
        }
    }

    /// In by a member, or by the bridge's own interface, and out by all others that are in the VLAN.
    fn crosses(
        &self,
        bridge: usize,
        from: Option<usize>,
        vlans: &MemberVlans,
        tags: &[Tag],
        frame: Frame,
        seen: &mut Vec<(usize, Vec<Tag>)>,
    ) {
        let ModelBridge {
            itself,
            members,
            aware,
            stations,
        } = &self.bridges[bridge];
        let entered = match aware {
            None => Some((0, 0, tags)),
            Some((tpid, ..)) => enters(vlans, *tpid, tags, frame.priority),
        };
        let Some((vid, priority, rest)) = entered else {
            return;
        };
        let fid = match aware {
            Some((_, _, true)) => 0,
            _ => vid,
        };
        let from = from.unwrap_or(*itself);
        stations.borrow_mut().insert((fid, frame.src), from);
        let is_at = match frame.to {
            To::Station(n) => stations.borrow().get(&(fid, n)).copied(),
            To::Everyone | To::Unknown => None,
        };
        if is_at == Some(from) {
            return;
        }
        let is_for = |interface: usize| is_at.is_none_or(|at| at == interface) && interface != from;
        let leaves = |vlans: &MemberVlans| match aware {
            None => Some((rest.to_vec(), frame)),
            Some((tpid, ..)) if vlans.tagged.contains(vid) => {
                Some(([&[(*tpid, priority << 12 | vid)], rest].concat(), frame))
            }
            Some((tpid, ..)) => {
                let is_taken = rest.first().is_some_and(|tag| tag.0 == *tpid);
                let would_cross = is_taken && vlans.tags != TagPolicy::Ignore;
                let untagged = (rest.to_vec(), Frame { priority, ..frame });
                (vlans.untagged.contains(vid) && !would_cross).then_some(untagged)
            }
        };
        for member in members.iter().filter(|m| is_for(**m)) {
            let (_, vlans) = self.interfaces[*member].member.as_ref().expect("a member");
            if let Some((tags, frame)) = leaves(vlans) {
                self.goes_out(*member, &tags, frame, seen);
            }
        }
        // What stands on the bridge's own interface hears what a member hears.
        let host = aware
            .as_ref()
            .map_or_else(MemberVlans::default, |(_, host, _)| host.clone());
        if is_for(*itself)
            && let Some((tags, frame)) = leaves(&host)
        {
            self.goes_up(*itself, &tags, frame, seen);
        }
    }
}

/// Whether a frame with these tags is in no VLAN.
fn is_in_no_vlan(tags: &[Tag]) -> bool {
    tags.first().is_none_or(|(_, tci)| tci & 0xfff == 0)
}

/// The VLAN of a frame that comes in, its priority, and its other tags.
fn enters<'a>(
    vlans: &MemberVlans,
    tpid: u16,
    tags: &'a [Tag],
    priority: u16,
) -> Option<(u16, u16, &'a [Tag])> {
    let outer = tags.first().filter(|tag| tag.0 == tpid);
    let (vid, priority, rest) = match (outer, vlans.tags) {
        (None, _) | (_, TagPolicy::Ignore) => (vlans.pvid?, priority, tags),
        (Some((_, tci)), policy) if tci & 0xfff == 0 => {
            let is_next = tags.get(1).is_some_and(|tag| tag.0 == tpid);
            if policy == TagPolicy::Refuse && is_next {
                return None;
            }
            (vlans.pvid?, tci >> 12, &tags[1..])
        }
        (_, TagPolicy::Refuse) => return None,
        (Some((_, tci)), TagPolicy::Obey) => (tci & 0xfff, tci >> 12, &tags[1..]),
    };
    let is_member = vlans.tagged.contains(vid) || vlans.untagged.contains(vid);
    let is_let_in = is_member || vlans.ingress_filter == Switchable::Off;
    (vid != 4095 && is_let_in).then_some((vid, priority, rest))
}

/// The network and its model, side by side.
struct World {
    system: System,
    vnets: Vec<OwnedVnet>,
    /// For each bridge, its vnet and its name.
    bridges: Vec<(usize, String)>,
    ports: Vec<Port>,
    /// The interface of each port in the model.
    at: Vec<usize>,
    model: Model,
    names: usize,
}

impl World {
    fn new() -> World {
        World {
            system: System::manual(1),
            vnets: Vec::new(),
            bridges: Vec::new(),
            ports: Vec::new(),
            at: Vec::new(),
            model: Model::default(),
            names: 0,
        }
    }

    fn name(&mut self) -> String {
        self.names += 1;
        format!("i{}", self.names)
    }

    fn new_vnet(&mut self) -> usize {
        self.vnets
            .push(vnet(&self.system, &format!("v{}", self.vnets.len())));
        self.vnets.len() - 1
    }

    /// A bridge in that vnet.
    fn new_bridge(&mut self, vnet: usize, new: &NewBridge) -> usize {
        let name = self.name();
        let v = &self.vnets[vnet];
        v.bridge(&name).unwrap();
        let vlans = new.aware.clone().map(|(tpid, shared, host)| BridgeVlans {
            tpid,
            learning: match shared {
                true => VlanLearning::Shared,
                false => VlanLearning::Independent,
            },
            host,
            ..BridgeVlans::default()
        });
        let config = BridgeConfig {
            vlans,
            ..BridgeConfig::default()
        };
        v.set_bridge(&name, config).unwrap();
        let bridge = self.bridges.len();
        let itself = self.model.add(Kind::Bridge(bridge));
        let aware = new.aware.as_ref();
        self.model.bridges.push(ModelBridge {
            itself,
            members: Vec::new(),
            aware: aware.map(|(tpid, shared, host)| (number(*tpid), host.clone(), *shared)),
            stations: RefCell::default(),
        });
        self.bridges.push((vnet, name));
        bridge
    }

    fn join(&mut self, bridge: usize, name: &str, interface: usize, vlans: &MemberVlans) {
        let (vnet, bridge_name) = &self.bridges[bridge];
        let v: &Vnet = &self.vnets[*vnet];
        v.add_member(bridge_name, name).unwrap();
        let config = MemberConfig {
            vlans: vlans.clone(),
            ..MemberConfig::default()
        };
        v.set_member(bridge_name, name, config).unwrap();
        self.model.join(interface, bridge, vlans);
    }

    fn add_port(&mut self, bridge: usize, vlans: &MemberVlans) {
        let name = self.name();
        let port = self.vnets[self.bridges[bridge].0].port(&name, None);
        let interface = self.model.add(Kind::Port(self.ports.len()));
        self.ports.push(port.unwrap());
        self.at.push(interface);
        self.join(bridge, &name, interface, vlans);
    }

    /// A wire from a bridge to another vnet: the interface's name there, and what it is to the model.
    fn wire(&mut self, from: usize, near: &MemberVlans, to: usize) -> (String, usize) {
        let (here, there) = (self.name(), self.name());
        let vnets = &self.vnets;
        let home = &vnets[self.bridges[from].0];
        home.epair(&here, &vnets[to], &there).unwrap();
        let far = self.model.interfaces.len() + 1;
        let near_end = self.model.add(Kind::Epair(far));
        let far_end = self.model.add(Kind::Epair(near_end));
        self.join(from, &here, near_end, near);
        (there, far_end)
    }

    fn model_vlan(&mut self, parent: usize, vlan: VlanConfig) -> usize {
        let tag = (number(vlan.tpid), vlan.vid);
        let interface = self.model.add(Kind::Vlan(parent, tag));
        self.model.interfaces[parent].vlans.insert(tag, interface);
        interface
    }

    fn add_bridge(&mut self, new: &NewBridge) {
        if self.bridges.is_empty() {
            let vnet = self.new_vnet();
            self.new_bridge(vnet, new);
            return;
        }
        let to = new.to % self.bridges.len();
        let (home, host) = self.bridges[to].clone();
        match &new.joint {
            Joint::Trunk => {
                let vnet = self.new_vnet();
                let (name, interface) = self.wire(to, &new.near, vnet);
                let bridge = self.new_bridge(vnet, new);
                self.join(bridge, &name, interface, &new.far);
            }
            Joint::Wire(vlans) => {
                let vnet = self.new_vnet();
                let (mut name, mut interface) = self.wire(to, &new.near, vnet);
                for vlan in vlans {
                    let above = self.name();
                    self.vnets[vnet].vlan(&name, &above, *vlan).unwrap();
                    interface = self.model_vlan(interface, *vlan);
                    name = above;
                }
                let bridge = self.new_bridge(vnet, new);
                self.join(bridge, &name, interface, &new.far);
            }
            Joint::Host(vlan, lent) => {
                let itself = self.model.bridges[to].itself;
                let tag = (number(vlan.tpid), vlan.vid);
                if self.model.interfaces[itself].vlans.contains_key(&tag) {
                    return;
                }
                let vnet = if *lent { self.new_vnet() } else { home };
                let name = self.name();
                let made = self.vnets[home].vlan_in(&host, &self.vnets[vnet], &name, *vlan);
                made.unwrap();
                let interface = self.model_vlan(itself, *vlan);
                let bridge = self.new_bridge(vnet, new);
                self.join(bridge, &name, interface, &new.far);
            }
        }
    }

    /// Sends a frame and returns where it was seen, and with which tags.
    fn send(&self, number: u16, sent: &Sent) -> Vec<(usize, Vec<Tag>)> {
        let dst = match sent.to {
            To::Everyone => EVERYONE,
            To::Unknown => station(200),
            To::Station(n) => station(n),
        };
        let plain = ethernet(dst, station(sent.src), OTHER, &number.to_be_bytes());
        let from = sent.from % self.ports.len();
        self.ports[from].send(tagged(&plain, &sent.tags)).unwrap();
        self.system.poll(self.system.now());
        let mut seen = Vec::new();
        for (n, port) in self.ports.iter().enumerate() {
            while let Some(frame) = port.recv() {
                let frame = frame.to_vec();
                let tags = frame.len() - plain.len();
                assert_eq!(frame[..12], plain[..12], "the addresses");
                assert_eq!(frame[12 + tags..], plain[12..], "the rest");
                let word = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
                let tags = (12..12 + tags).step_by(4);
                seen.push((n, tags.map(|at| (word(at), word(at + 2))).collect()));
            }
        }
        seen.sort();
        seen
    }

    fn expected(&self, sent: &Sent) -> Vec<(usize, Vec<Tag>)> {
        let Sent { to, src, .. } = *sent;
        let mut seen = Vec::new();
        let at = self.at[sent.from % self.at.len()];
        self.model.comes_in(
            at,
            &sent.tags,
            Frame {
                to,
                src,
                priority: 0,
            },
            &mut seen,
        );
        seen.sort();
        seen
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_frame_is_seen_where_the_model_says_and_nowhere_else(
        bridges in prop::collection::vec(new_bridge(), 1..7),
        ports in prop::collection::vec((any::<usize>(), member_vlans()), 2..10),
        frames in prop::collection::vec(sent(), 1..24),
    ) {
        let mut world = World::new();
        for new in &bridges {
            world.add_bridge(new);
        }
        for (bridge, vlans) in &ports {
            world.add_port(bridge % world.bridges.len(), vlans);
        }
        // Interfaces in other vnets hear of their carriers: bridges introduce stations by those that come back.
        world.system.poll(world.system.now());
        for (n, frame) in frames.iter().enumerate() {
            let seen = world.send(n as u16, frame);
            prop_assert_eq!(seen, world.expected(frame), "frame {}: {:?}", n, frame);
        }
        for vnet in &world.vnets {
            assert_conserved(vnet);
        }
        let World { vnets, ports, .. } = world;
        drop(ports);
        for vnet in vnets.into_iter().rev() {
            assert_clean(&vnet.destroy());
        }
    }
}

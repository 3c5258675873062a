//! Promise: bridges with a spanning tree may be connected in any way; every frame arrives once, before and
//! after a cut and a repair. No frame circles, not even while they converge.
//!
//! `VNET_STP_GRAPHS=1000 cargo test --release -p vnet-tests --test stp no_marked_frame` counts marked frames in so many
//! random graphs, of up to 60 bridges.

use std::num::NonZeroU32;
use std::time::Duration;

use proptest::prelude::*;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;
use vnet::link::{Change, Shape};
use vnet::record::Record;
use vnet::{
    AdminError, AdminState, BridgeConfig, BridgeInfo, DropReason, LinkConfig, MacAddr,
    MemberConfig, OwnedVnet, Port, RstpConfig, RstpPort, StpEdge, StpInfo, StpRole, StpState,
    Switchable, System, Vnet,
};
use vnet_tests::accounts::{assert_clean, assert_conserved};
use vnet_tests::bridge::{Bench, EVERYONE, OTHER, station};
use vnet_tests::frames::ethernet;
use vnet_tests::reach::reaches;
use vnet_tests::topology::vnet;

const BRIDGE: &str = "bridge0";
const NOWHERE: [usize; 0] = [];

fn rstp() -> BridgeConfig {
    BridgeConfig {
        stp: Some(RstpConfig::default()),
        ..BridgeConfig::default()
    }
}

fn edge() -> MemberConfig {
    port(|port| port.edge = StpEdge::Yes)
}

fn port(change: impl FnOnce(&mut RstpPort)) -> MemberConfig {
    let mut config = MemberConfig::default();
    change(&mut config.rstp);
    config
}

fn tree(switch: &Vnet) -> StpInfo {
    info(switch).stp.expect("it has a spanning tree")
}

fn info(switch: &Vnet) -> BridgeInfo {
    switch.bridge_info(BRIDGE).unwrap()
}

/// Switches, each with a port to the outside, and the wires between them.
struct Mesh {
    system: System,
    switches: Vec<OwnedVnet>,
    outside: Vec<Port>,
    wires: Vec<(usize, usize)>,
}

impl Mesh {
    fn new(system: System, count: usize, wires: &[(usize, usize)]) -> Mesh {
        let switches: Vec<OwnedVnet> = (0..count)
            .map(|n| vnet(&system, &format!("s{n}")))
            .collect();
        let mut outside = Vec::new();
        for switch in &switches {
            switch.bridge(BRIDGE).unwrap();
            switch.set_bridge(BRIDGE, rstp()).unwrap();
            outside.push(switch.port("out", None).unwrap());
            switch.add_member(BRIDGE, "out").unwrap();
            switch.set_member(BRIDGE, "out", edge()).unwrap();
        }
        for (n, (a, b)) in wires.iter().enumerate() {
            let name = format!("w{n}");
            switches[*a].epair(&name, &switches[*b], &name).unwrap();
            switches[*a].add_member(BRIDGE, &name).unwrap();
            switches[*b].add_member(BRIDGE, &name).unwrap();
        }
        Mesh {
            system,
            switches,
            outside,
            wires: wires.to_vec(),
        }
    }

    fn set_up(&self, wire: usize, state: AdminState) {
        let near = &self.switches[self.wires[wire].0];
        near.set_up(&format!("w{wire}"), state).unwrap();
    }

    fn pass(&self, seconds: u64) {
        self.system.sleep(Duration::from_secs(seconds)).unwrap();
    }

    /// A frame to everyone from each switch's port in turn comes out of every other port once.
    fn assert_each_frame_arrives_once(&self) {
        let stations = u8::try_from(self.outside.len()).unwrap();
        for from in 0..stations {
            let frame = ethernet(EVERYONE, station(from), OTHER, &[from]);
            self.outside[usize::from(from)].send(frame).unwrap();
            self.system.sleep(Duration::from_millis(1)).unwrap();
            for (to, port) in self.outside.iter().enumerate() {
                let copies = std::iter::from_fn(|| port.recv().map(|frame| frame.to_vec()));
                let ours = copies.filter(|f| f[12..14] == OTHER.to_be_bytes()).count();
                let expected = usize::from(to != usize::from(from));
                assert_eq!(ours, expected, "from {from} to {to}");
            }
        }
        for switch in &self.switches {
            assert_conserved(switch);
            assert_eq!(info(switch).counters.looped, 0);
        }
    }
}

#[test]
fn a_ring_of_switches_carries_everything_once_and_heals_when_it_is_cut() {
    let mesh = Mesh::new(
        System::virtual_time(1),
        4,
        &[(0, 1), (1, 2), (2, 3), (3, 0)],
    );
    let hosts: Vec<OwnedVnet> = (0..4)
        .map(|n| {
            let host = vnet(&mesh.system, &format!("h{n}"));
            let switch = &mesh.switches[n];
            host.epair("eth0", switch, "host").unwrap();
            switch.add_member(BRIDGE, "host").unwrap();
            switch.set_member(BRIDGE, "host", edge()).unwrap();
            let address = format!("192.0.2.{}/24", n + 1);
            host.add_address("eth0", address.parse().unwrap()).unwrap();
            host
        })
        .collect();
    mesh.pass(1);
    let all_reach_all = || {
        for host in &hosts {
            for n in 1..=4 {
                assert!(
                    reaches(host, &format!("192.0.2.{n}")),
                    "{} to {n}",
                    host.name()
                );
            }
        }
        mesh.assert_each_frame_arrives_once();
    };
    all_reach_all();
    let roots: Vec<bool> = mesh
        .switches
        .iter()
        .map(|s| tree(s).root_port.is_none())
        .collect();
    assert_eq!(roots.iter().filter(|is_root| **is_root).count(), 1);
    let root = mesh.switches.iter().map(|s| tree(s).bridge).min().unwrap();
    let discarding = |switch: &Vnet| {
        let ports = tree(switch).ports;
        ports
            .iter()
            .filter(|p| p.state == StpState::Discarding)
            .count()
    };
    for switch in &mesh.switches {
        assert_eq!(tree(switch).root, root);
    }
    let blocked: usize = mesh.switches.iter().map(|s| discarding(s)).sum();
    assert_eq!(blocked, 1, "a ring has one link too many");

    // Any of the links may be the one in use.
    for wire in 0..4 {
        mesh.set_up(wire, AdminState::Down);
        mesh.pass(1);
        all_reach_all();
        mesh.set_up(wire, AdminState::Up);
        mesh.pass(5);
        all_reach_all();
    }
    drop(hosts);
    for switch in mesh.switches {
        assert_clean(&switch.destroy());
    }
}

#[test]
fn switches_converge_in_real_time_on_threads() {
    let system = System::threads();
    let mesh = Mesh::new(system, 3, &[(0, 1), (1, 2), (2, 0)]);
    let has_converged = || {
        let trees: Vec<StpInfo> = mesh.switches.iter().map(|s| tree(s)).collect();
        let root = trees.iter().map(|t| t.bridge).min().unwrap();
        let ports = || trees.iter().flat_map(|t| &t.ports);
        let idle = ports().filter(|p| p.state != StpState::Forwarding);
        let idle: Vec<StpRole> = idle.map(|p| p.role).collect();
        trees.iter().all(|t| t.root == root) && idle == [StpRole::Alternate]
    };
    while !has_converged() {
        std::thread::yield_now();
    }
}

#[test]
fn a_switch_with_a_better_priority_becomes_the_root_and_costs_decide_about_paths() {
    let mesh = Mesh::new(System::virtual_time(1), 3, &[(0, 1), (1, 2), (2, 0)]);
    let first = RstpConfig {
        priority: 4096,
        ..RstpConfig::default()
    };
    let config = BridgeConfig {
        stp: Some(first),
        ..rstp()
    };
    mesh.switches[2].set_bridge(BRIDGE, config).unwrap();
    mesh.pass(5);
    let root_port = |n: usize| tree(&mesh.switches[n]).root_port;
    assert_eq!(
        (root_port(0), root_port(1)),
        (Some("w2".into()), Some("w1".into()))
    );
    assert_eq!(tree(&mesh.switches[0]).root_cost, 2_000);
    let dear = port(|port| port.path_cost = NonZeroU32::new(5_000));
    mesh.switches[0].set_member(BRIDGE, "w2", dear).unwrap();
    mesh.pass(5);
    assert_eq!(root_port(0), Some("w0".into()));
    assert_eq!(tree(&mesh.switches[0]).root_cost, 4_000);
    // By what the table says of 100 Mbit/s.
    mesh.switches[0]
        .set_member(BRIDGE, "w2", MemberConfig::default())
        .unwrap();
    let slow = vnet_tests::topology::link(100_000_000, Duration::ZERO, 0.0);
    mesh.switches[0].set_link("w0", slow).unwrap();
    mesh.pass(5);
    assert_eq!(root_port(0), Some("w2".into()));
    let costs: Vec<u32> = tree(&mesh.switches[0])
        .ports
        .iter()
        .map(|p| p.cost)
        .collect();
    assert_eq!(costs, [2_000, 200_000, 2_000]);
    mesh.assert_each_frame_arrives_once();
    // The root gets another address, and a bridge that goes down leaves the tree.
    let mac = MacAddr([2, 0, 0, 0xff, 0, 1]);
    mesh.switches[2].set_mac(BRIDGE, mac).unwrap();
    mesh.pass(5);
    assert_eq!(tree(&mesh.switches[0]).root.mac, mac);
    mesh.switches[2].set_up(BRIDGE, AdminState::Down).unwrap();
    mesh.pass(30);
    assert_ne!(tree(&mesh.switches[0]).root.mac, mac);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]

    #[test]
    fn any_mesh_carries_every_frame_once(
        count in 2..9usize,
        more in prop::collection::vec((0..64usize, 0..64usize), 1..10),
        cut in any::<prop::sample::Index>(),
        seed in 0..1000u64,
    ) {
        let mut wires: Vec<(usize, usize)> = (1..count).map(|n| (n, (n * 7 + 3) % n)).collect();
        let others = more.iter().map(|(a, b)| (a % count, b % count)).filter(|(a, b)| a != b);
        wires.extend(others);
        let mesh = Mesh::new(System::virtual_time(seed), count, &wires);
        mesh.pass(5);
        mesh.assert_each_frame_arrives_once();
        // A wire that is cut may be the only one: the first is put back before frames are counted.
        let cut = cut.index(mesh.wires.len());
        mesh.set_up(cut, AdminState::Down);
        mesh.pass(5);
        if cut >= count - 1 {
            mesh.assert_each_frame_arrives_once();
        }
        mesh.set_up(cut, AdminState::Up);
        mesh.pass(5);
        mesh.assert_each_frame_arrives_once();
    }
}

/// A bridge with ports to the outside, and a tree.
fn bench(ports: usize) -> Bench {
    let bench = Bench::new(ports);
    bench.config(|config| config.stp = Some(RstpConfig::default()));
    for n in 0..ports {
        let name = format!("p{n}");
        bench.vnet.set_member(BRIDGE, &name, edge()).unwrap();
    }
    settle(&bench);
    bench
}

/// Takes out what the bridge has sent of its own.
fn settle(bench: &Bench) {
    bench.system.poll(bench.system.now());
    for port in &bench.ports {
        while port.recv().is_some() {}
    }
}

/// A frame with an RST BPDU of a bridge with priority 0 that proposes.
fn proposal() -> Vec<u8> {
    let mut frame = vec![
        0x01, 0x80, 0xc2, 0, 0, 0, 2, 0, 0, 0, 0, 9, 0, 39, 0x42, 0x42, 0x03,
    ];
    frame.extend([0, 0, 2, 2, 0b0000_1110]);
    frame.extend([
        0, 0, 2, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 9, 0x80, 1,
    ]);
    frame.extend([0, 0, 20, 0, 2, 0, 15, 0, 0]);
    frame
}

#[test]
fn a_script_that_changes_a_links_rate_leaves_the_tree_as_it_is() {
    let mesh = Mesh::new(System::virtual_time(1), 3, &[(0, 1), (1, 2), (2, 0)]);
    mesh.pass(5);
    let costs = |n: usize| {
        let ports = tree(&mesh.switches[n]).ports;
        ports.iter().map(|p| p.cost).collect::<Vec<_>>()
    };
    let changes = || {
        let all = mesh.switches.iter().map(|s| tree(s).topology_changes);
        all.collect::<Vec<_>>()
    };
    let before = (costs(0), changes());
    let rates = Change::Rate(Shape::Square {
        first: 10_000_000,
        second: 1_000_000_000,
        every: Duration::from_secs(1),
    });
    let script = (Duration::ZERO, rates);
    let running = mesh.switches[0].script_link("w0", &[script]).unwrap();
    for _ in 0..5 {
        mesh.pass(1);
        let private = MemberConfig {
            private: Switchable::On,
            ..MemberConfig::default()
        };
        mesh.switches[0].set_member(BRIDGE, "w0", private).unwrap();
        mesh.pass(1);
        mesh.switches[0]
            .set_member(BRIDGE, "w0", MemberConfig::default())
            .unwrap();
        assert_eq!((costs(0), changes()), before);
    }
    assert!(running.changes() >= 5);
    drop(running);
    // Whoever sets a link decides what it costs.
    let slow = vnet_tests::topology::link(100_000_000, Duration::ZERO, 0.0);
    mesh.switches[0].set_link("w0", slow).unwrap();
    assert_eq!(costs(0)[1], 200_000);
}

#[test]
fn a_guarded_port_is_closed_by_a_bpdu_and_carries_nothing() {
    let b = bench(3);
    let mut guarded = edge();
    guarded.rstp.bpdu_guard = Switchable::On;
    b.vnet.set_member(BRIDGE, "p0", guarded).unwrap();
    settle(&b);
    assert_eq!(b.send(0, EVERYONE, station(1)), [1, 2]);
    b.ports[0].send(proposal()).unwrap();
    settle(&b);
    assert_eq!(b.drops(DropReason::StpGuard), 1);
    assert_eq!(b.send(0, EVERYONE, station(1)), NOWHERE);
    assert_eq!(b.send(1, EVERYONE, station(2)), [2]);
    assert_eq!(b.drops(DropReason::StpGuard), 2);
    let closed = &tree(&b.vnet).ports[0];
    assert_eq!(
        (closed.role, closed.state),
        (StpRole::Disabled, StpState::Guarded)
    );
    assert_eq!(closed.counters.guarded, 1);
    // It opens when it was down.
    for state in [AdminState::Down, AdminState::Up] {
        b.vnet.set_up("p0", state).unwrap();
    }
    settle(&b);
    assert_eq!(b.send(0, EVERYONE, station(1)), [1, 2]);
}

#[test]
fn nobody_behind_a_root_guard_becomes_the_root() {
    let b = bench(2);
    let mut guarded = edge();
    guarded.rstp.root_guard = Switchable::On;
    b.vnet.set_member(BRIDGE, "p0", guarded).unwrap();
    settle(&b);
    b.ports[0].send(proposal()).unwrap();
    settle(&b);
    let tree = tree(&b.vnet);
    assert_eq!((tree.root, tree.root_port), (tree.bridge, None));
    assert_eq!(b.send(0, EVERYONE, station(1)), NOWHERE);
    assert_eq!(b.drops(DropReason::StpGuard), 1);
}

#[test]
fn a_port_that_discards_neither_learns_nor_delivers() {
    let b = bench(2);
    let plain = MemberConfig::default();
    b.vnet.set_member(BRIDGE, "p0", plain).unwrap();
    for state in [AdminState::Down, AdminState::Up] {
        b.vnet.set_up("p0", state).unwrap();
    }
    settle(&b);
    assert_eq!(b.send(0, EVERYONE, station(1)), NOWHERE);
    assert_eq!(b.drops(DropReason::StpDiscarding), 1);
    assert!(b.learned().is_empty());
    assert_eq!(info(&b.vnet).counters.discarded, 1);
    // A bridge with a better identifier proposes: it is agreed to, and the port forwards.
    b.ports[0].send(proposal()).unwrap();
    settle(&b);
    assert_eq!(b.send(0, EVERYONE, station(1)), [1]);
    assert_eq!(tree(&b.vnet).root_port.as_deref(), Some("p0"));
    // Without a tree all ports forward at once, and BPDUs are for nobody.
    b.config(|config| config.stp = None);
    assert!(info(&b.vnet).stp.is_none());
    assert_eq!(b.send(0, [0x01, 0x80, 0xc2, 0, 0, 0], station(1)), NOWHERE);
    assert_eq!(b.drops(DropReason::BridgeFiltered), 1);
}

#[test]
fn absurd_bpdus_change_nothing_and_are_counted() {
    let b = bench(2);
    let before = tree(&b.vnet);
    let good = proposal();
    let mut sent = 0;
    for len in 14..good.len() {
        let mut bad = good[..len].to_vec();
        bad[13] = u8::try_from(len - 14).unwrap();
        b.ports[0].send(bad).unwrap();
        sent += 1;
    }
    for (at, byte) in [(12, 0x88), (14, 0), (17, 1), (19, 1), (20, 3)] {
        let mut bad = good.clone();
        bad[at] = byte;
        b.ports[0].send(bad).unwrap();
        sent += 1;
    }
    let mut tagged = good.clone();
    tagged.splice(12..12, [0x81, 0, 0, 5]);
    b.ports[0].send(tagged).unwrap();
    sent += 1;
    settle(&b);
    assert_eq!(b.drops(DropReason::Malformed), sent);
    let after = tree(&b.vnet);
    assert_eq!(
        (after.root, after.root_port),
        (before.root, before.root_port)
    );
    assert_eq!(after.ports[0].state, StpState::Forwarding);
    assert_conserved(&b.vnet);
}

#[test]
fn parameters_out_of_range_are_refused() {
    let system = System::virtual_time(1);
    let v = vnet(&system, "v");
    v.bridge(BRIDGE).unwrap();
    let _outside = v.port("p", None).unwrap();
    v.add_member(BRIDGE, "p").unwrap();
    let bad = RstpConfig {
        priority: 1,
        ..RstpConfig::default()
    };
    let config = BridgeConfig {
        stp: Some(bad),
        ..BridgeConfig::default()
    };
    let refused = v.set_bridge(BRIDGE, config).unwrap_err();
    assert!(matches!(refused, AdminError::Config(e) if e.setting == "priority"));
    let bad = port(|port| port.priority = 1);
    let refused = v.set_member(BRIDGE, "p", bad).unwrap_err();
    assert!(matches!(refused, AdminError::Config(e) if e.setting == "priority"));
    assert_eq!(info(&v).config, BridgeConfig::default());
}

#[test]
fn a_spanning_tree_is_in_the_record() {
    let system = System::virtual_time(1);
    let v = vnet(&system, "v");
    v.bridge(BRIDGE).unwrap();
    let _outside = v.port("p", None).unwrap();
    v.add_member(BRIDGE, "p").unwrap();
    let member = port(|port| {
        port.path_cost = NonZeroU32::new(7);
        port.root_guard = Switchable::On;
    });
    assert!(!v.record().unwrap().to_toml().unwrap().contains("stp"));
    v.set_member(BRIDGE, "p", member).unwrap();
    v.set_bridge(BRIDGE, rstp()).unwrap();
    let text = v.record().unwrap().to_toml().unwrap();
    let record = Record::from_toml(&text).unwrap();
    assert_eq!(record, v.record().unwrap());
    let twin = system.replay(&record, "twin").unwrap();
    let (ours, theirs) = (info(&v), info(&twin));
    assert_eq!((ours.config, ours.members), (theirs.config, theirs.members));
    assert_eq!(theirs.stp.unwrap().ports[0].cost, 7);
}

#[test]
fn the_same_seed_gives_the_same_tree_and_the_same_frames() {
    let fingerprint = || {
        let system = System::virtual_time(7);
        let mesh = Mesh::new(system, 4, &[(0, 1), (1, 2), (2, 3), (3, 0), (0, 2)]);
        mesh.pass(10);
        mesh.set_up(0, AdminState::Down);
        mesh.pass(10);
        let trees: Vec<StpInfo> = mesh.switches.iter().map(|s| tree(s)).collect();
        let sent: Vec<u64> = mesh
            .switches
            .iter()
            .map(|s| s.stats().unwrap().sent)
            .collect();
        (trees, sent)
    };
    assert_eq!(fingerprint(), fingerprint());
}

/// Numbers for one graph.
struct Random(Xoshiro256PlusPlus);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        (self.0.next_u64() % bound as u64) as usize
    }
}

/// Switches of a graph that are joined at the moment, as a number for each group of them.
fn groups(count: usize, wires: &[(usize, usize)], cut: Option<usize>) -> Vec<usize> {
    let mut groups: Vec<usize> = (0..count).collect();
    for (n, (a, b)) in wires.iter().enumerate() {
        let (from, to) = (groups[*a], groups[*b]);
        if Some(n) != cut {
            groups
                .iter_mut()
                .filter(|g| **g == from)
                .for_each(|g| *g = to);
        }
    }
    groups
}

/// A random graph in which marked frames are sent all the time.
struct Marked {
    mesh: Mesh,
    random: Random,
    /// By mark: where the frame came in, and how often it has crossed each switch.
    crossed: Vec<(usize, Vec<u8>)>,
    /// Frames that have crossed a switch more than once.
    twice: u32,
}

/// The slowest that the standard allows, so that paths may be as long as it allows.
const SLOWEST: RstpConfig = RstpConfig {
    priority: 0x8000,
    hello_time: Duration::from_secs(2),
    max_age: Duration::from_secs(40),
    forward_delay: Duration::from_secs(21),
    tx_hold_count: 6,
};
/// What is old has expired, and whoever did not get an agreement has listened and learned.
const BOUND: Duration = Duration::from_secs(40 + 2 * 21);
/// How often a frame is sent, and who has changed is looked at: at first, when most happens, and later.
const STEPS: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(1)];

impl Marked {
    fn new(seed: u64) -> Marked {
        let mut random = Random(Xoshiro256PlusPlus::seed_from_u64(seed));
        let count = 2 + random.below(59);
        let mut wires: Vec<(usize, usize)> = (1..count).map(|n| (n, random.below(n))).collect();
        for _ in 0..random.below(2 * count) {
            let a = random.below(count);
            wires.push((a, (a + 1 + random.below(count - 1)) % count));
        }
        let mesh = Mesh::new(System::virtual_time(seed), count, &wires);
        for switch in &mesh.switches {
            let config = RstpConfig {
                priority: [0x4000, 0x8000, 0x8000][random.below(3)],
                ..SLOWEST
            };
            let config = BridgeConfig {
                stp: Some(config),
                ..BridgeConfig::default()
            };
            switch.set_bridge(BRIDGE, config).unwrap();
        }
        for (n, ends) in wires.iter().enumerate() {
            let delay = Duration::from_nanos(1_000 + random.below(3_000_000) as u64);
            let cost = NonZeroU32::new([200, 2_000, 2_000, 20_000][random.below(4)]);
            for end in [ends.0, ends.1] {
                let name = format!("w{n}");
                let link = LinkConfig {
                    delay,
                    ..LinkConfig::default()
                };
                let config = port(|port| port.path_cost = cost);
                mesh.switches[end].set_link(&name, link).unwrap();
                mesh.switches[end]
                    .set_member(BRIDGE, &name, config)
                    .unwrap();
            }
        }
        Marked {
            mesh,
            random,
            crossed: Vec::new(),
            twice: 0,
        }
    }

    /// A frame to everybody comes in at a switch, with a mark.
    fn send(&mut self) {
        let from = self.random.below(self.mesh.switches.len());
        let mark = (self.crossed.len() as u32).to_be_bytes();
        let frame = ethernet(EVERYONE, station(from as u8), OTHER, &mark);
        self.mesh.outside[from].send(frame).unwrap();
        self.crossed.push((from, vec![0; self.mesh.switches.len()]));
    }

    /// Each switch sends what it floods out by its port, too: so often has the frame crossed it.
    fn count(&mut self) {
        for (switch, port) in self.mesh.outside.iter().enumerate() {
            while let Some(frame) = port.recv() {
                let frame = frame.to_vec();
                if frame[12..14] == OTHER.to_be_bytes() {
                    let mark = u32::from_be_bytes(frame[14..18].try_into().unwrap());
                    self.crossed[mark as usize].1[switch] += 1;
                }
            }
        }
    }

    /// What each switch says of its ports.
    fn states(&self) -> Vec<(StpRole, StpState)> {
        let trees = self.mesh.switches.iter().map(|s| tree(s));
        trees
            .flat_map(|t| t.ports.into_iter().map(|p| (p.role, p.state)))
            .collect()
    }

    /// Sends marked frames for as long as the bridges may take, and says how long they did.
    fn settle(&mut self, cut: Option<usize>) -> Duration {
        let start = self.crossed.len();
        let (mut took, mut now) = (Duration::ZERO, Duration::ZERO);
        let mut before = self.states();
        while now < BOUND {
            let step = STEPS[usize::from(now >= Duration::from_secs(10))];
            self.send();
            self.mesh.system.sleep(step).unwrap();
            now += step;
            self.count();
            let states = self.states();
            if states != before {
                (took, before) = (now, states);
            }
        }
        for (mark, (from, crossed)) in self.crossed.iter().enumerate().skip(start) {
            let most = crossed.iter().max().unwrap();
            // A frame that is on the way while ports change may come by the old tree and by new ones (IEEE
            // 802.1Q-2018, clause 6.5.4); one that circles comes again and again, until it has crossed as many
            // bridges as it may, which is counted as looped.
            assert!(*most <= 4, "frame {mark} from {from} circles: {crossed:?}");
            self.twice += u32::from(*most >= 2);
        }
        // From here on, each frame is to be everywhere.
        let groups = groups(self.mesh.switches.len(), &self.mesh.wires, cut);
        for _ in 0..4 {
            self.send();
            self.mesh.system.sleep(STEPS[0]).unwrap();
            self.count();
            let (from, crossed) = self.crossed.last().unwrap();
            for (switch, times) in crossed.iter().enumerate() {
                let expected = u8::from(switch != *from && groups[switch] == groups[*from]);
                assert_eq!(*times, expected, "from {from} at {switch}");
            }
        }
        took
    }

    /// Starts, cuts a wire and repairs it; how long each took, what came of it, and how many of how many frames have
    /// crossed a switch twice.
    fn live(mut self) -> ([Duration; 3], Vec<StpInfo>, [u32; 2]) {
        let start = self.settle(None);
        let wire = self.random.below(self.mesh.wires.len());
        self.mesh.set_up(wire, AdminState::Down);
        let cut = self.settle(Some(wire));
        self.mesh.set_up(wire, AdminState::Up);
        let repair = self.settle(None);
        for switch in &self.mesh.switches {
            assert_conserved(switch);
            assert_eq!(info(switch).counters.looped, 0);
        }
        let trees = self.mesh.switches.iter().map(|s| tree(s)).collect();
        let frames = u32::try_from(self.crossed.len()).unwrap();
        ([start, cut, repair], trees, [self.twice, frames])
    }
}

#[test]
fn no_marked_frame_circles_in_random_graphs_and_all_converge() {
    let graphs = std::env::var("VNET_STP_GRAPHS").ok();
    let graphs = graphs.map_or(3, |n| n.parse().expect("a number of graphs"));
    let (mut worst, mut sent) = ([Duration::ZERO; 3], [0, 0]);
    for seed in 0..graphs {
        let (times, trees, frames) = Marked::new(seed).live();
        for (sent, frames) in sent.iter_mut().zip(frames) {
            *sent += frames;
        }
        for (worst, took) in worst.iter_mut().zip(times) {
            assert!(took < BOUND, "graph {seed} takes {took:?}");
            *worst = took.max(*worst);
        }
        if seed % 8 == 0 {
            let again = Marked::new(seed).live();
            assert_eq!(
                again,
                (times, trees, frames),
                "the same seed, the same tree"
            );
        }
        if seed % 50 == 49 || seed + 1 == graphs {
            println!(
                "{} graphs; slowest start, cut and repair: {worst:?}, bound {BOUND:?}; \
                 of {} frames, {} came twice while ports changed",
                seed + 1,
                sent[1],
                sent[0]
            );
        }
    }
}

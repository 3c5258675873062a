//! Promise: a bridge sends each frame where a model of a few lines says, whatever comes and goes.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use vnet::{AdminState, BridgeMode, MacAddr};
use vnet_tests::accounts::assert_clean;
use vnet_tests::bridge::{Bench, EVERYONE, station};

#[derive(Clone, Debug)]
enum Act {
    Frame(usize, u8, u8),
    Join(usize),
    Leave(usize),
    Up(usize, bool),
    Pass(u64),
    Mode(bool),
}

fn act() -> impl Strategy<Value = Act> {
    let port = || 0..4usize;
    prop_oneof![
        // Station 0 stands for everyone.
        10 => (port(), 0..5u8, 1..5u8).prop_map(|(p, dst, src)| Act::Frame(p, dst, src)),
        2 => port().prop_map(Act::Join),
        1 => port().prop_map(Act::Leave),
        1 => (port(), any::<bool>()).prop_map(|(p, up)| Act::Up(p, up)),
        1 => prop::sample::select(vec![1u64, 100, 700]).prop_map(Act::Pass),
        1 => any::<bool>().prop_map(Act::Mode),
    ]
}

/// What a bridge is, in as few words as possible.
struct Model {
    members: Vec<bool>,
    up: Vec<bool>,
    hub: bool,
    now: u64,
    known: BTreeMap<u8, (usize, u64)>,
}

impl Model {
    fn send(&mut self, from: usize, dst: u8, src: u8) -> Vec<usize> {
        if !self.members[from] || !self.up[from] {
            return Vec::new();
        }
        if !self.hub {
            self.known.insert(src, (from, self.now));
        }
        let seen = self.known.get(&dst).filter(|(_, at)| self.now - at < 1200);
        let others = (0..4).filter(|n| *n != from && self.members[*n] && self.up[*n]);
        match (dst, seen) {
            (1.., Some((place, _))) if !self.hub => others.filter(|n| n == place).collect(),
            _ => others.collect(),
        }
    }

    fn forget(&mut self, port: usize) {
        self.known.retain(|_, (place, _)| *place != port);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(600) })]

    #[test]
    fn frames_go_where_a_simple_model_says(acts in prop::collection::vec(act(), 1..60)) {
        let b = Bench::new(4);
        let mut model = Model { members: vec![true; 4], up: vec![true; 4], hub: false, now: 0, known: BTreeMap::new() };
        for act in acts {
            match act {
                Act::Frame(from, dst, src) => {
                    let to = if dst == 0 { EVERYONE } else { station(dst) };
                    prop_assert_eq!(b.send(from, to, station(src)), model.send(from, dst, src));
                }
                Act::Join(n) => {
                    let joined = b.vnet.add_member("bridge0", &format!("p{n}")).is_ok();
                    prop_assert_eq!(joined, !model.members[n]);
                    model.members[n] = true;
                }
                Act::Leave(n) => {
                    let left = b.vnet.remove_member("bridge0", &format!("p{n}")).is_ok();
                    prop_assert_eq!(left, model.members[n]);
                    model.members[n] = false;
                    model.forget(n);
                }
                Act::Up(n, up) => {
                    let state = if up { AdminState::Up } else { AdminState::Down };
                    b.vnet.set_up(&format!("p{n}"), state).unwrap();
                    model.up[n] = up;
                    if !up {
                        model.forget(n);
                    }
                }
                Act::Pass(seconds) => {
                    b.system.poll(b.system.now() + Duration::from_secs(seconds));
                    model.now += seconds;
                }
                Act::Mode(hub) => {
                    model.hub = hub;
                    b.config(|c| c.mode = if hub { BridgeMode::Hub } else { BridgeMode::Switch });
                    if hub {
                        model.known.clear();
                    }
                }
            }
        }
        let now = model.now;
        let known = model.known.iter().filter(|(_, (_, at))| now - at < 1200);
        let known: BTreeMap<MacAddr, String> = known.map(|(n, (p, _))| (MacAddr(station(*n)), format!("p{p}"))).collect();
        prop_assert_eq!(b.learned(), known);
        assert_clean(&b.vnet.destroy());
    }
}

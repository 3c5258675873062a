//! Bridges that pass BPDUs to each other in virtual time, in random graphs, against an independent
//! model of what the tree has to be.

use std::collections::BTreeMap;

use super::bpdu::Bpdu;
use super::config::{RstpConfig, RstpPort};
use super::engine::{Event, Refusal, Rstp};
use super::state::{PortState, Role};
use super::vector::{BridgeIdentifier, PortNumber};
use crate::base::rng::Rng;
use crate::base::time::{Duration, Instant};
use crate::packet::MacAddr;

mod graphs;
mod order;
mod ports;

/// One end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End {
    bridge: usize,
    port: PortNumber,
}

struct Link {
    ends: [End; 2],
    costs: [u32; 2],
    delay: Duration,
    is_up: bool,
    /// Counts how often it was cut: what was on the way then is lost.
    life: u64,
}

struct Message {
    link: usize,
    to: usize,
    life: u64,
    bpdu: Vec<u8>,
}

/// Bridges and the links between them.
struct Net {
    now: Instant,
    bridges: Vec<Rstp>,
    links: Vec<Link>,
    /// By bridge and port: the link, and which end of it.
    plugged: BTreeMap<(usize, PortNumber), (usize, usize)>,
    states: BTreeMap<(usize, PortNumber), PortState>,
    queue: BTreeMap<(Instant, u64), Message>,
    sent: u64,
    last_change: Instant,
    /// What has happened, for comparison.
    history: u64,
}

fn port(number: usize) -> PortNumber {
    PortNumber::new(u16::try_from(number).expect("small")).expect("not zero")
}

fn bridge_id(n: usize, priority: u16) -> BridgeIdentifier {
    BridgeIdentifier {
        priority,
        mac: MacAddr([2, 0, 0, 0, 0, u8::try_from(n).expect("small")]),
    }
}

impl Net {
    fn new(ids: &[BridgeIdentifier], config: RstpConfig) -> Net {
        config.check().expect("within the ranges");
        Net {
            now: Instant::ZERO,
            bridges: ids.iter().map(|id| Rstp::new(*id, config)).collect(),
            links: Vec::new(),
            plugged: BTreeMap::new(),
            states: BTreeMap::new(),
            queue: BTreeMap::new(),
            sent: 0,
            last_change: Instant::ZERO,
            history: 0,
        }
    }

    /// Adds a link that is not up yet; says which it is.
    fn link(&mut self, bridges: [usize; 2], costs: [u32; 2], delay: Duration) -> usize {
        let number = self.links.len();
        let ends = [0, 1].map(|end| {
            let bridge = bridges[end];
            let used = self.plugged.range((bridge, port(1))..(bridge + 1, port(1)));
            let port = port(used.count() + 1);
            self.plugged.insert((bridge, port), (number, end));
            self.bridges[bridge].add_port(port, RstpPort::default(), costs[end]);
            End { bridge, port }
        });
        self.links.push(Link {
            ends,
            costs,
            delay,
            is_up: false,
            life: 0,
        });
        number
    }

    fn set_up(&mut self, link: usize, is_up: bool) {
        self.links[link].is_up = is_up;
        self.links[link].life += 1;
        for end in self.links[link].ends {
            match is_up {
                true => self.port_up(end),
                false => {
                    self.bridges[end.bridge].port_down(self.now, end.port);
                    self.take(end.bridge);
                }
            }
        }
    }

    /// One end of a link comes up, whether or not the other one is: what is sent there meanwhile is lost.
    fn port_up(&mut self, end: End) {
        let (link, _) = self.plugged[&(end.bridge, end.port)];
        self.links[link].is_up = true;
        self.bridges[end.bridge].port_up(self.now, end.port);
        self.take(end.bridge);
    }

    /// Takes what a bridge has to say, and checks that no frame could circulate.
    fn take(&mut self, bridge: usize) {
        let mut changed = false;
        while let Some(event) = self.bridges[bridge].poll_event() {
            if let Event::State(port, state) = event {
                self.states.insert((bridge, port), state);
                self.history = self.history.rotate_left(5) ^ self.now.as_nanos() ^ state as u64;
                changed = true;
            }
        }
        if changed {
            self.last_change = self.now;
            self.forwarding_links();
        }
        while let Some((port, bpdu)) = self.bridges[bridge].poll_transmit(self.now) {
            self.send(End { bridge, port }, &bpdu);
        }
    }

    fn send(&mut self, from: End, bpdu: &Bpdu) {
        let Some(&(link, end)) = self.plugged.get(&(from.bridge, from.port)) else {
            return;
        };
        let at = &self.links[link];
        if at.is_up {
            self.sent += 1;
            let message = Message {
                link,
                to: 1 - end,
                life: at.life,
                bpdu: bpdu.emit().as_slice().to_vec(),
            };
            self.queue.insert((self.now + at.delay, self.sent), message);
        }
    }

    /// Lets time pass until then.
    fn run_until(&mut self, until: Instant) {
        loop {
            let due = |(n, b): (usize, &Rstp)| Some((b.next_deadline()?, n));
            let timer = self.bridges.iter().enumerate().filter_map(due).min();
            let arrival = self.queue.first_key_value().map(|((at, _), _)| *at);
            let next = timer.map(|(at, _)| at).into_iter().chain(arrival).min();
            let Some(next) = next.filter(|at| *at <= until) else {
                break;
            };
            assert!(next >= self.now, "no deadline is in the past");
            self.now = next;
            if arrival == Some(next)
                && let Some((_, message)) = self.queue.pop_first()
            {
                let link = &self.links[message.link];
                let End { bridge, port } = link.ends[message.to];
                if link.life == message.life {
                    let known = self.bridges[bridge].port(port).expect("it was added");
                    let taken = self.bridges[bridge].input(next, port, Ok(&message.bpdu));
                    let expected = match known.role {
                        Role::Disabled => Err(Refusal::Down),
                        _ => Ok(()),
                    };
                    assert_eq!(taken, expected);
                    self.take(bridge);
                }
            } else if let Some((_, bridge)) = timer {
                self.bridges[bridge].on_deadline(next);
                self.take(bridge);
            }
        }
        self.now = until;
    }

    fn run_for(&mut self, duration: Duration) {
        self.run_until(self.now + duration);
    }

    fn state(&self, end: End) -> PortState {
        let state = self.states.get(&(end.bridge, end.port));
        state.copied().unwrap_or(PortState::Discarding)
    }

    /// The links that carry frames, which never make a circle.
    fn forwarding_links(&self) -> usize {
        let mut groups: Vec<usize> = (0..self.bridges.len()).collect();
        let mut count = 0;
        for link in &self.links {
            if link.is_up && link.ends.iter().all(|e| self.state(*e).forwards()) {
                let [a, b] = link.ends.map(|e| group(&mut groups, e.bridge));
                assert_ne!(a, b, "{}: a frame can circulate", self.now);
                groups[a] = b;
                count += 1;
            }
        }
        count
    }

    /// What the tree has to be, by looking at the whole graph: for each bridge its root, and the least cost of a
    /// path there with the bridges on it.
    fn expected(&self) -> Vec<(BridgeIdentifier, u32, usize)> {
        let mut groups: Vec<usize> = (0..self.bridges.len()).collect();
        for link in self.links.iter().filter(|l| l.is_up) {
            let [a, b] = link.ends.map(|e| group(&mut groups, e.bridge));
            groups[a] = b;
        }
        let count = self.bridges.len();
        let groups: Vec<usize> = (0..count).map(|n| group(&mut groups, n)).collect();
        let root_of = |n: usize| {
            let same = (0..count).filter(|m| groups[*m] == groups[n]);
            same.map(|m| self.bridges[m].id()).min().expect("itself")
        };
        let roots: Vec<BridgeIdentifier> = (0..count).map(root_of).collect();
        let start = |n: usize| (self.bridges[n].id() == roots[n]).then_some((0, 0));
        let mut costs: Vec<Option<(u32, usize)>> = (0..count).map(start).collect();
        // Bellman and Ford.
        for _ in 0..count {
            for link in self.links.iter().filter(|l| l.is_up) {
                for end in [0, 1] {
                    let (to, from) = (link.ends[end].bridge, link.ends[1 - end].bridge);
                    if let Some((cost, hops)) = costs[from] {
                        let path = (cost + link.costs[end], hops + 1);
                        costs[to] = costs[to].map_or(Some(path), |known| Some(known.min(path)));
                    }
                }
            }
        }
        let all = roots.into_iter().zip(costs);
        all.map(|(root, cost)| {
            let (cost, hops) = cost.expect("it is connected to its root");
            (root, cost, hops)
        })
        .collect()
    }

    /// Checks that the tree is there.
    fn check_tree(&self) {
        let expected = self.expected();
        for (bridge, (root, cost, _)) in self.bridges.iter().zip(&expected) {
            assert_eq!(bridge.root(), (*root, *cost), "at bridge {}", bridge.id());
            assert_eq!(bridge.root_port().is_none(), bridge.id() == *root);
        }
        let mut roots: Vec<BridgeIdentifier> = expected.iter().map(|e| e.0).collect();
        roots.sort();
        roots.dedup();
        // A forest of so many links has one tree in each component.
        let links = self.bridges.len() - roots.len();
        assert_eq!(self.forwarding_links(), links, "not everybody is reached");
    }
}

fn group(groups: &mut [usize], mut n: usize) -> usize {
    while groups[n] != n {
        groups[n] = groups[groups[n]];
        n = groups[n];
    }
    n
}

fn pick(rng: &mut Rng, from: usize) -> usize {
    rng.below(u32::try_from(from).expect("small")) as usize
}

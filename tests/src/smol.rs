//! A smoltcp host behind a port of a vnet, and the clock of both.
//!
//! ```text
//!   ┌ vnet ───────────┐  port   ┌ wire ───────────┐        ┌ smoltcp ──────┐
//!   │ 192.0.2.1 eth0 ─┼─────────┤ delay, loss     ├────────┤ 192.0.2.2     │
//!   └─────────────────┘         └─────────────────┘        └───────────────┘
//! ```
//!
//! The system is driven by hand: nothing happens but in [`World::run`], which moves frames until
//! nobody has more to say and then moves the clock to the next thing that is due. All chance
//! comes from one seed, so a run can be repeated byte for byte; [`World::transcript`] proves it.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use sha2::{Digest, Sha256};
use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::wire::{EthernetAddress, IpCidr};
use vnet::time::Instant;
use vnet::{OwnedVnet, Port, System};
use vnet_benches::card::{Card, MAX_FRAME_LEN};

use crate::frames::{ETHER_LEN, fix_checksums};

/// The vnet's address.
pub const VNET: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The smoltcp host's address.
pub const SMOL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// The vnet's address of IPv6.
pub const VNET_6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
/// The smoltcp host's address of IPv6.
pub const SMOL_6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);
/// One way.
const DELAY: Duration = Duration::from_millis(2);

/// Whether the application got anything done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It read or wrote something: there may be more to do at this moment.
    Some,
    /// It has to wait for the network.
    None,
    /// It has all it wanted.
    Done,
}

/// Nothing that is left to happen would help the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// When that was noticed.
    pub at: Instant,
}

/// What may happen to a frame on the wire, each with its probability, in either direction.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    /// It is lost.
    pub loss: f64,
    /// It arrives twice.
    pub duplicate: f64,
    /// It is late by up to three times the delay, and overtaken.
    pub late: f64,
    /// A bit of it is flipped, if it is an IP packet: what resolves addresses has no checksum.
    pub corrupt: f64,
    /// A queue marks it, if it says that it may be marked (RFC 3168).
    pub mark: f64,
}

impl Faults {
    /// Frames are lost, and nothing else.
    pub fn loss(loss: f64) -> Faults {
        Faults {
            loss,
            ..Faults::default()
        }
    }
}

/// Two hosts, a wire and a clock.
pub struct World {
    /// The system, driven by hand.
    pub system: System,
    /// The host under test.
    pub vnet: OwnedVnet,
    /// The other one.
    pub smol: Smol,
    now: Instant,
    wire: Wire,
}

/// The smoltcp host.
pub struct Smol {
    /// Its stack.
    pub interface: Interface,
    /// Its sockets.
    pub sockets: SocketSet<'static>,
    card: Card,
}

impl World {
    /// Two hosts that can talk over IPv4, at time zero.
    pub fn new(seed: u64, faults: Faults) -> World {
        World::between(VNET.into(), SMOL.into(), seed, faults)
    }

    /// The same with these addresses: the vnet's and smoltcp's.
    pub fn between(vnet_addr: IpAddr, smol_addr: IpAddr, seed: u64, faults: Faults) -> World {
        let system = System::manual(seed);
        let vnet = system.create("host").expect("the name is free");
        let port = vnet.port("eth0", None).expect("the name is free");
        let prefix_len = prefix_len(vnet_addr);
        let net = ipnet::IpNet::new(vnet_addr, prefix_len).expect("it is a prefix length");
        vnet.add_address("eth0", net).expect("eth0 was made above");
        // Three are all lost once in a thousand times at a loss of 5 %, and the connection then
        // fails as it should; the application of these tests does not begin again.
        vnet.set_sysctl("net.link.ether.inet.maxtries", 10)
            .expect("10 is in range");
        World {
            system,
            vnet,
            smol: Smol::new(smol_addr, seed),
            now: Instant::ZERO,
            wire: Wire {
                port,
                faults,
                chance: Chance(seed),
                to_vnet: VecDeque::new(),
                to_smol: VecDeque::new(),
                transcript: Sha256::new(),
            },
        }
    }

    /// The time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Runs both hosts until `application`, which is called whenever they have come to rest, is
    /// done.
    ///
    /// # Errors
    /// [`Stuck`] when it is not done by `deadline`, or when nothing is left that could happen.
    pub fn run(
        &mut self,
        deadline: Instant,
        mut application: impl FnMut(&mut Smol) -> Progress,
    ) -> Result<(), Stuck> {
        loop {
            let next = self.settle();
            match application(&mut self.smol) {
                Progress::Done => return Ok(()),
                Progress::Some => {}
                Progress::None => {
                    self.now = next
                        .filter(|at| *at <= deadline)
                        .ok_or(Stuck { at: self.now })?;
                }
            }
        }
    }

    /// Lets everything happen that is due now, and returns when something is due next.
    fn settle(&mut self) -> Option<Instant> {
        loop {
            let vnet_next = self.system.poll(self.now);
            let from_vnet = self.wire.take_from_vnet(self.now);
            let arrived = self.wire.deliver(self.now, &mut self.smol.card);
            let smol_next = self.smol.poll(self.now);
            let from_smol = self.wire.take_from_smol(self.now, &mut self.smol.card);
            if from_vnet || arrived || from_smol {
                continue;
            }
            // What is overdue and has not happened needs a later time, in smoltcp's unit.
            let soon = self.now + Duration::from_micros(1);
            return [vnet_next, smol_next, self.wire.next()]
                .into_iter()
                .flatten()
                .min()
                .map(|at| at.max(soon));
        }
    }

    /// A digest of every frame that was put on the wire, and when, and whether it was lost.
    pub fn transcript(&self) -> [u8; 32] {
        self.wire.transcript.clone().finalize().into()
    }
}

impl Smol {
    /// The stack and its sockets, for calls that need both.
    pub fn parts(&mut self) -> (&mut Interface, &mut SocketSet<'static>) {
        (&mut self.interface, &mut self.sockets)
    }

    fn new(addr: IpAddr, seed: u64) -> Smol {
        let mut card = Card::default();
        let mut config = Config::new(EthernetAddress([0x02, 0, 0, 0, 0, 0x99]).into());
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut card, smoltcp::time::Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            addresses
                .push(IpCidr::new(addr.into(), prefix_len(addr)))
                .expect("the interface has no address yet");
        });
        Smol {
            interface,
            sockets: SocketSet::new(Vec::new()),
            card,
        }
    }

    fn poll(&mut self, now: Instant) -> Option<Instant> {
        let time = smoltcp::time::Instant::from_micros((now.as_nanos() / 1000) as i64);
        self.interface.poll(time, &mut self.card, &mut self.sockets);
        self.interface
            .poll_at(time, &self.sockets)
            .map(|at| Instant::from_nanos(at.total_micros() as u64 * 1000))
    }
}

/// How long the prefix on the wire is.
fn prefix_len(addr: IpAddr) -> u8 {
    match addr {
        IpAddr::V4(_) => 24,
        IpAddr::V6(_) => 64,
    }
}

/// Frames under way and the chance that they get lost.
struct Wire {
    port: Port,
    faults: Faults,
    chance: Chance,
    to_vnet: VecDeque<(Instant, Vec<u8>)>,
    to_smol: VecDeque<(Instant, Vec<u8>)>,
    transcript: Sha256,
}

impl Wire {
    fn take_from_vnet(&mut self, now: Instant) -> bool {
        let mut any = false;
        while let Some(packet) = self.port.recv() {
            any = true;
            let frame = packet.to_vec();
            assert!(frame.len() <= MAX_FRAME_LEN, "a frame of {}", frame.len());
            for arrival in self.fate(b'>', now, frame) {
                insert(&mut self.to_smol, arrival);
            }
        }
        any
    }

    fn take_from_smol(&mut self, now: Instant, card: &mut Card) -> bool {
        let any = !card.outgoing.is_empty();
        for frame in card.outgoing.drain(..) {
            for arrival in self.fate(b'<', now, frame) {
                insert(&mut self.to_vnet, arrival);
            }
        }
        any
    }

    fn deliver(&mut self, now: Instant, card: &mut Card) -> bool {
        let mut any = false;
        while let Some((_, frame)) = self.to_smol.pop_front_if(|(at, _)| *at <= now) {
            any = true;
            card.incoming.push_back(frame);
        }
        while let Some((_, frame)) = self.to_vnet.pop_front_if(|(at, _)| *at <= now) {
            any = true;
            self.port.send(frame).expect("the vnet takes the frame");
        }
        any
    }

    fn next(&self) -> Option<Instant> {
        let first = |queue: &VecDeque<(Instant, Vec<u8>)>| queue.front().map(|(at, _)| *at);
        [first(&self.to_vnet), first(&self.to_smol)]
            .into_iter()
            .flatten()
            .min()
    }

    /// When the frame arrives, and what is left of it: not at all, once or twice.
    fn fate(&mut self, direction: u8, now: Instant, mut frame: Vec<u8>) -> Vec<Arrival> {
        let survives = self.chance.unit() >= self.faults.loss;
        self.transcript.update([direction, u8::from(survives)]);
        self.transcript.update(now.as_nanos().to_le_bytes());
        self.transcript.update((frame.len() as u64).to_le_bytes());
        self.transcript.update(&frame);
        if !survives {
            return Vec::new();
        }
        if self.chance.happens(self.faults.mark) {
            mark(&mut frame);
        }
        let is_ip = matches!(frame[12..14], [0x08, 0x00] | [0x86, 0xdd]);
        if self.chance.happens(self.faults.corrupt) && is_ip {
            let bits = (frame.len() - ETHER_LEN) * 8;
            let bit = (self.chance.unit() * bits as f64) as usize;
            frame[ETHER_LEN + bit / 8] ^= 1 << (bit % 8);
        }
        let twice = self.chance.happens(self.faults.duplicate);
        let mut late = || match self.chance.happens(self.faults.late) {
            true => DELAY.mul_f64(3.0 * self.chance.unit()),
            false => Duration::ZERO,
        };
        let mut arrivals = vec![(now + DELAY + late(), frame.clone())];
        if twice {
            arrivals.push((now + DELAY + late(), frame));
        }
        arrivals
    }
}

/// A frame, and when it arrives.
type Arrival = (Instant, Vec<u8>);

/// Behind all that arrive no later.
fn insert(queue: &mut VecDeque<Arrival>, arrival: Arrival) {
    let at = queue.partition_point(|(at, _)| *at <= arrival.0);
    queue.insert(at, arrival);
}

/// Marks a packet that says it may be marked.
fn mark(frame: &mut [u8]) {
    match frame[12..14] {
        [0x08, 0x00] if frame[ETHER_LEN + 1] & 3 != 0 => {
            frame[ETHER_LEN + 1] |= 3;
            fix_checksums(frame);
        }
        // The traffic class begins in the middle of the first byte.
        [0x86, 0xdd] if frame[ETHER_LEN + 1] & 0x30 != 0 => frame[ETHER_LEN + 1] |= 0x30,
        _ => {}
    }
}

/// A seeded random stream (splitmix64), apart from the vnet's own.
struct Chance(u64);

impl Chance {
    /// Whether something of this probability happens. What never does draws nothing.
    fn happens(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.unit() < probability
    }

    /// A number from 0 up to but not including 1.
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

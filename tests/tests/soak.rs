//! Promise: instances may come and go for ever. Thousands are made, wired, brought into every
//! state that TCP knows and given packets to hold; four threads destroy them in random order; and
//! round after round nothing is left of them: no object, and no allocation.
//!
//! `cargo test --release -p vnet-tests --test soak -- --nocapture` prints the figures of every
//! round.

use std::alloc::System as Malloc;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Shutdown};
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use cap::Cap;
use vnet::net::{TcpListener, TcpStream, UdpSocket};
use vnet::thread::JoinHandle;
use vnet::{LinkConfig, OwnedVnet, Released, SocketError, SocketKind, System, vnet_local};
use vnet_tests::accounts::assert_clean;
use vnet_tests::frames::{ACK, FIN, Ip4, MORE_FRAGMENTS, SYN, udp};
use vnet_tests::peer::Peer;

/// Counts what is allocated.
#[global_allocator]
static ALLOCATOR: Cap<Malloc> = Cap::new(Malloc, usize::MAX);

/// Instances of a round.
const INSTANCES: usize = 10_000;
const ROUNDS: usize = 10;
/// Threads that destroy.
const DESTROYERS: usize = 4;
/// One instance in so many has a thread that is blocked in it.
const BLOCKED_ONE_IN: usize = 50;
/// Frames on their way to each instance of a pair when it goes.
const DELAYED: usize = 3;
/// Datagrams that wait for a neighbour that does not answer.
const HELD: usize = 2;

/// Every state that a socket can be in (RFC 9293, section 3.3.2), but CLOSED, which is none.
const STATES: [&str; 10] = [
    "Listen",
    "SynSent",
    "SynReceived",
    "Established",
    "FinWait1",
    "FinWait2",
    "Closing",
    "TimeWait",
    "CloseWait",
    "LastAck",
];

/// Values of the variable below that exist.
static VALUES: AtomicI64 = AtomicI64::new(0);

struct Counted(#[allow(dead_code)] Box<[u8; 64]>);

impl Counted {
    fn new() -> Counted {
        VALUES.fetch_add(1, Ordering::Relaxed);
        Counted(Box::new([0; 64]))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        VALUES.fetch_sub(1, Ordering::Relaxed);
    }
}

vnet_local! { static VARIABLE: Counted = Counted::new() }

/// What an instance's user has left in it; it outlives the instance.
#[derive(Default)]
struct Luggage {
    listeners: Vec<TcpListener>,
    streams: Vec<TcpStream>,
    datagrams: Vec<UdpSocket>,
    peers: Vec<Peer>,
    threads: Vec<JoinHandle<std::io::Error>>,
}

/// The instances of a round.
struct Population {
    vnets: Vec<OwnedVnet>,
    luggage: Vec<Luggage>,
}

/// What a population holds.
#[derive(Debug, Default, PartialEq, Eq)]
struct Holdings {
    interfaces: u64,
    connections: u64,
    sockets: u64,
    packets: u64,
    deadlines: u64,
    locals: u64,
}

impl Holdings {
    fn add(&mut self, released: &Released) {
        self.interfaces += released.interfaces();
        self.connections += released.connections();
        self.sockets += released.sockets();
        self.packets += released.packets();
        self.deadlines += released.deadlines();
        self.locals += released.locals();
    }
}

/// A generator that needs no crate (Marsaglia, xorshift64).
struct Shuffler(u64);

impl Shuffler {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

/// Brings connections of `vnet` into every state and leaves them there.
fn load_tcp(vnet: &OwnedVnet, peer: &Peer, luggage: &mut Luggage) {
    let listener = TcpListener::bind_in(vnet, "0.0.0.0:80").unwrap();
    let accept = || listener.accept().expect("a connection waits").0;
    // The peer answers ARP and is silent about the rest.
    let connecting = TcpStream::start_connect_in(vnet, peer.addr(9).into()).unwrap();
    let syns = peer.segments();
    assert!(syns.iter().any(|s| s.flags == SYN), "{syns:?}");
    luggage.streams.push(connecting);
    peer.knock(1001, 80);
    // One with data that nobody reads, one that nobody accepts.
    let mut data = peer.open(1002, 80);
    luggage.streams.push(accept());
    peer.say(&mut data, ACK, &[7; 100]);
    // The peer is done; then we are as well, or not.
    for (port, keep) in [(1003, true), (1004, false)] {
        let mut talk = peer.open(port, 80);
        let stream = accept();
        peer.say(&mut talk, FIN | ACK, &[]);
        peer.exchange();
        if keep {
            luggage.streams.push(stream);
        }
    }
    peer.exchange();
    // We are done first, and the peer says nothing, acknowledges, crosses, or does both.
    for (port, acknowledges, closes) in [
        (1005, false, false),
        (1006, true, false),
        (1007, false, true),
        (1008, true, true),
    ] {
        let mut talk = peer.open(port, 80);
        let stream = accept();
        stream.shutdown(Shutdown::Write).unwrap();
        let fin = peer.segments().into_iter().find(|s| s.flags & FIN != 0);
        let fin = fin.expect("our FIN is out");
        if acknowledges {
            talk.ack = fin.seq.wrapping_add(1);
        }
        if acknowledges || closes {
            let flags = if closes { FIN | ACK } else { ACK };
            peer.say(&mut talk, flags, &[]);
            peer.exchange();
        }
        luggage.streams.push(stream);
    }
    peer.open(1009, 80);
    luggage.listeners.push(listener);
}

/// Gives `vnet` datagrams that wait for a neighbour, and half a datagram.
fn load_packets(vnet: &OwnedVnet, peer: &Peer, luggage: &mut Luggage) {
    let socket = UdpSocket::bind_in(vnet, "0.0.0.0:0").unwrap();
    for _ in 0..HELD {
        let silent = (Ipv4Addr::new(192, 0, 2, 77), 7);
        socket.send_to(b"held", silent).unwrap();
    }
    luggage.datagrams.push(socket);
    let datagram = udp(peer.addr(5), (Ipv4Addr::new(192, 0, 2, 1), 7), &[0; 64]);
    let half = Ip4 {
        fragment: MORE_FRAGMENTS,
        ..Ip4::new(peer.me.ip, peer.vnet.ip, 17)
    };
    peer.send_packet(&half.packet(&datagram[..32]));
    peer.exchange();
    assert_eq!(vnet.pending(), Ok(1), "the fragment waits");
}

/// Joins two instances. What the first one sends waits for a slow transmitter and is long on its
/// way; the other's neighbour is known as well.
fn wire(system: &System, a: &OwnedVnet, b: &OwnedVnet) -> [UdpSocket; 2] {
    a.epair("wire0", b, "wire0").unwrap();
    let ends = [(a, "10.0.0.1/24"), (b, "10.0.0.2/24")];
    let sockets = ends.map(|(vnet, address)| {
        vnet.add_address("wire0", address.parse().unwrap()).unwrap();
        UdpSocket::bind_in(vnet, "0.0.0.0:7").unwrap()
    });
    sockets[0].send_to(b"resolve", "10.0.0.2:7").unwrap();
    system.poll(system.now());
    sockets[1].send_to(b"resolve", "10.0.0.1:7").unwrap();
    system.poll(system.now());
    let slow = LinkConfig {
        rate_bps: Some(8_000),
        delay: Duration::from_secs(60),
        queue: vnet::link::QueueConfig::frames(100),
        ..LinkConfig::default()
    };
    a.set_link("wire0", slow).unwrap();
    for _ in 0..DELAYED {
        sockets[0].send_to(&[1; 500], "10.0.0.2:7").unwrap();
    }
    sockets
}

impl Population {
    fn new(manual: &System, threads: &System) -> Population {
        let create = |system: &System, i: usize| system.create(&format!("v{i}")).unwrap();
        let (mut vnets, mut luggage) = (Vec::new(), Vec::new());
        let blocked = INSTANCES / BLOCKED_ONE_IN;
        for i in 0..INSTANCES - blocked {
            let vnet = create(manual, i);
            let mut mine = Luggage::default();
            let peer = Peer::new(manual, &vnet, "eth0", 2);
            load_tcp(&vnet, &peer, &mut mine);
            load_packets(&vnet, &peer, &mut mine);
            mine.peers.push(peer);
            VARIABLE.of(&vnet, |_| ()).unwrap();
            vnets.push(vnet);
            luggage.push(mine);
        }
        for (pair, mine) in vnets.chunks_exact(2).zip(&mut luggage) {
            mine.datagrams.extend(wire(manual, &pair[0], &pair[1]));
        }
        // From here on nobody services anything: what is sent now stays in the inbox.
        for mine in &luggage {
            if let [_, _, far] = &mine.datagrams[..] {
                far.send_to(b"in the inbox", "10.0.0.1:7").unwrap();
            }
        }
        let running = std::sync::Arc::new(AtomicUsize::new(0));
        for i in 0..blocked {
            let vnet = create(threads, i);
            let socket = UdpSocket::bind_in(&vnet, "127.0.0.1:7").unwrap();
            let running = std::sync::Arc::clone(&running);
            let wait = move || {
                running.fetch_add(1, Ordering::Relaxed);
                socket.recv_from(&mut [0; 8]).expect_err("nothing comes")
            };
            let threads = vec![vnet.spawn(wait).unwrap()];
            VARIABLE.of(&vnet, |_| ()).unwrap();
            vnets.push(vnet);
            luggage.push(Luggage {
                threads,
                ..Luggage::default()
            });
        }
        while running.load(Ordering::Relaxed) < blocked {
            std::thread::yield_now();
        }
        Population { vnets, luggage }
    }

    /// How many sockets are in each state.
    fn states(&self) -> BTreeMap<String, u64> {
        let mut states = BTreeMap::new();
        for vnet in &self.vnets {
            for socket in vnet.sockets().unwrap() {
                if let SocketKind::Tcp(state) = socket.kind {
                    *states.entry(format!("{state:?}")).or_default() += 1;
                }
            }
        }
        states
    }

    /// Destroys every instance, in random order, from several threads.
    fn destroy(self, shuffler: &mut Shuffler) -> (Holdings, Vec<Luggage>) {
        let Population { mut vnets, luggage } = self;
        shuffler.shuffle(&mut vnets);
        let left = Mutex::new(vnets);
        let released = Mutex::new(Holdings::default());
        std::thread::scope(|scope| {
            for _ in 0..DESTROYERS {
                scope.spawn(|| {
                    loop {
                        let Some(vnet) = left.lock().unwrap().pop() else {
                            return;
                        };
                        let report = vnet.destroy();
                        assert_clean(&report);
                        released.lock().unwrap().add(&report.released);
                    }
                });
            }
        });
        (released.into_inner().unwrap(), luggage)
    }
}

/// What users left in instances that are gone is harmless, and says so.
fn put_away(luggage: Vec<Luggage>) {
    for mine in luggage {
        for stream in &mine.streams {
            assert!(SocketError::is_gone(&stream.peek(&mut [0; 8]).unwrap_err()));
        }
        for listener in &mine.listeners {
            assert!(SocketError::is_gone(&listener.accept().unwrap_err()));
        }
        for socket in &mine.datagrams {
            assert!(SocketError::is_gone(&socket.recv(&mut [0; 8]).unwrap_err()));
        }
        assert!(mine.peers.iter().all(|p| p.port.is_gone()));
        for thread in mine.threads {
            assert!(SocketError::is_gone(&thread.join().expect("no panic")));
        }
    }
}

/// Pages of memory that the process has resident, where the system tells.
fn resident() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    statm.split_whitespace().nth(1)?.parse().ok()
}

#[test]
fn instances_come_and_go_and_nothing_is_left() {
    let (manual, threads) = (System::manual(1), System::threads());
    let mut shuffler = Shuffler(0x9e37_79b9_7f4a_7c15);
    let mut after = Vec::new();
    println!("{INSTANCES} instances a round, {ROUNDS} rounds, {DESTROYERS} threads destroy");
    for round in 1..=ROUNDS {
        let population = Population::new(&manual, &threads);
        let states = population.states();
        for state in STATES {
            let count = states.get(state).copied().unwrap_or_default();
            assert!(
                count >= INSTANCES as u64 * 9 / 10,
                "{state}: {count}; {states:?}"
            );
        }
        let mut expected = Holdings {
            connections: states.values().sum::<u64>() - states["Listen"],
            locals: INSTANCES as u64,
            ..Holdings::default()
        };
        for vnet in &population.vnets {
            expected.interfaces += vnet.interfaces().unwrap().len() as u64;
        }
        assert_eq!(VALUES.load(Ordering::Relaxed), INSTANCES as i64);
        // What is resident is the allocator's affair as well: it is printed, for people to see.
        let (full, pages) = (ALLOCATOR.allocated(), resident());

        let (released, luggage) = population.destroy(&mut shuffler);
        assert_eq!(
            (released.interfaces, released.connections, released.locals),
            (expected.interfaces, expected.connections, expected.locals)
        );
        let loaded = (INSTANCES - INSTANCES / BLOCKED_ONE_IN) as u64;
        // Held for a neighbour and in reassembly by each; on the wire and in the inbox of half.
        let least = loaded * (HELD as u64 + 1) + loaded / 2 * (DELAYED as u64 + 1);
        assert!(released.packets >= least, "{released:?}, at least {least}");
        // Retransmissions of five or more connections, a neighbour's next probe.
        assert!(released.deadlines >= 5 * loaded, "{released:?}");
        assert!(released.sockets >= 9 * loaded, "{released:?}");
        put_away(luggage);

        assert_eq!(VALUES.load(Ordering::Relaxed), 0, "values of variables");
        assert!(manual.names().is_empty() && threads.names().is_empty());
        manual.poll(manual.now() + Duration::from_secs(24 * 3600));
        assert_eq!(manual.poll(manual.now()), None, "deadlines");
        let bytes = ALLOCATOR.allocated();
        println!(
            "round {round}: {released:?}; {full} B allocated and {pages:?} pages resident with \
             everybody there, then {bytes} B and {:?} pages",
            resident()
        );
        after.push(bytes);
    }

    // What is kept for reuse is there after two rounds. From then on threads' lists of where they
    // have been still grow and shrink, by a few kilobytes that do not depend on how many instances
    // there were; an instance that left its smallest object behind would leave eight bytes.
    let made = (INSTANCES * (ROUNDS - 2)) as u64;
    let (early, late) = (after[1], after[ROUNDS - 1]);
    let grown = late.saturating_sub(early) as u64;
    assert!(
        grown < made * 4,
        "{grown} B grown in {made} lives: {after:?}"
    );
}

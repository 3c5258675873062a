//! Promise: the descriptor is readable while something is ready, what is listed is what is ready, and no wake-up is lost,
//! in whatever order sockets become ready, are read and are waited for.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use proptest::prelude::*;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vnet::net::{Interest, TcpListener, TcpStream, UdpSocket};
use vnet::{LinkConfig, Port, SocketError, System};
use vnet_ready::{Event, Ready, Watched};

/// Whether the descriptor is readable within `limit`.
fn is_readable(ready: &Ready, limit: Duration) -> bool {
    let limit = Timespec::try_from(limit).unwrap();
    let mut fds = [PollFd::new(ready, PollFlags::IN)];
    poll(&mut fds, Some(&limit)).unwrap() == 1
}

const NOW: Duration = Duration::ZERO;
/// Far more than anything takes.
const LONG: Duration = Duration::from_secs(60);

/// Datagrams that wait at each socket and frames that wait at the port, as they should be.
const SOCKETS: usize = 3;

#[derive(Clone, Debug)]
enum Act {
    /// A datagram arrives at a socket.
    Arrive(usize),
    /// One is read.
    Take(usize),
    /// All are.
    Drain(usize),
    /// The descriptor is waited for, and what is ready is listed.
    Look,
    /// A socket is closed, and another one opened in its place.
    Reopen(usize),
    /// Whether it is watched at all.
    Ask(usize, bool),
    /// A frame leaves by the port.
    Frame,
    /// Frames at the port are taken.
    TakeFrames,
}

fn act() -> impl Strategy<Value = Act> {
    let one = 0..SOCKETS;
    prop_oneof![
        4 => one.clone().prop_map(Act::Arrive),
        3 => one.clone().prop_map(Act::Take),
        2 => one.clone().prop_map(Act::Drain),
        4 => Just(Act::Look),
        1 => one.clone().prop_map(Act::Reopen),
        1 => (one, any::<bool>()).prop_map(|(n, asked)| Act::Ask(n, asked)),
        1 => Just(Act::Frame),
        1 => Just(Act::TakeFrames),
    ]
}

struct One {
    socket: Watched<UdpSocket>,
    token: usize,
    waiting: usize,
    asked: bool,
}

struct World {
    system: System,
    vnet: vnet::OwnedVnet,
    ready: Ready,
    sender: UdpSocket,
    sockets: Vec<One>,
    port: Watched<Port>,
    frames: usize,
    next: usize,
}

const PORT: usize = 0;

impl World {
    fn new() -> World {
        let system = System::virtual_time(1);
        let vnet = system.create("a").unwrap();
        let ready = Ready::new().unwrap();
        let port = vnet.port("eth0", None).unwrap();
        vnet.add_address("eth0", "192.0.2.1/24".parse().unwrap())
            .unwrap();
        // Until what an interface says of itself has been said.
        system.run_for(Duration::from_secs(120)).unwrap();
        while port.recv().is_some() {}
        let mut world = World {
            sender: UdpSocket::bind_in(&vnet, "0.0.0.0:0").unwrap(),
            port: ready.watch(port, PORT, &[Interest::Read]),
            system,
            vnet,
            ready,
            sockets: Vec::new(),
            frames: 0,
            next: 1,
        };
        world.sender.set_broadcast(true).unwrap();
        for n in 0..SOCKETS {
            let one = world.open(n);
            world.sockets.push(one);
        }
        world
    }

    fn open(&mut self, n: usize) -> One {
        let socket = UdpSocket::bind_in(&self.vnet, ("127.0.0.1", 1000 + n as u16)).unwrap();
        let token = self.next;
        self.next += 1;
        One {
            socket: self.ready.watch(socket, token, &[Interest::Read]),
            token,
            waiting: 0,
            asked: true,
        }
    }

    fn act(&mut self, act: &Act) {
        match *act {
            Act::Arrive(n) => {
                self.sender
                    .send_to(b"x", ("127.0.0.1", 1000 + n as u16))
                    .unwrap();
                self.sockets[n].waiting += 1;
            }
            Act::Take(n) => {
                let one = &mut self.sockets[n];
                let taken = one.socket.recv_from(&mut [0; 1]);
                assert_eq!(taken.is_ok(), one.waiting > 0);
                one.waiting = one.waiting.saturating_sub(1);
            }
            Act::Drain(n) => {
                let one = &mut self.sockets[n];
                while one.socket.recv_from(&mut [0; 1]).is_ok() {
                    one.waiting -= 1;
                }
                assert_eq!(one.waiting, 0);
            }
            Act::Look => self.look(),
            Act::Reopen(n) => {
                let open = self.sockets.remove(n);
                drop(open);
                let one = self.open(n);
                self.sockets.insert(n, one);
            }
            Act::Ask(n, asked) => {
                let one = &mut self.sockets[n];
                one.asked = asked;
                let interests: &[Interest] = if asked { &[Interest::Read] } else { &[] };
                one.socket.set_interests(interests);
            }
            Act::Frame => {
                self.sender.send_to(b"x", "192.0.2.255:9").unwrap();
                self.frames += 1;
            }
            Act::TakeFrames => {
                while self.port.recv().is_some() {
                    self.frames -= 1;
                }
            }
        }
        self.system.run_for(Duration::from_millis(1)).unwrap();
        if self.is_anything_ready() {
            assert!(is_readable(&self.ready, NOW), "a wake-up was lost");
        }
    }

    fn expected(&self) -> Vec<usize> {
        let ready = self.sockets.iter().filter(|s| s.asked && s.waiting > 0);
        let mut tokens: Vec<usize> = ready.map(|s| s.token).collect();
        tokens.extend((self.frames > 0).then_some(PORT));
        tokens.sort_unstable();
        tokens
    }

    fn is_anything_ready(&self) -> bool {
        !self.expected().is_empty()
    }

    /// What is listed is what is ready, each once; and the descriptor says whether there was anything.
    fn look(&mut self) {
        let mut events = Vec::new();
        self.ready.events(&mut events);
        let mut listed: Vec<usize> = events.iter().map(|event| event.token).collect();
        listed.sort_unstable();
        assert_eq!(listed, self.expected());
        assert!(events.iter().all(|event| event.readiness.readable));
        assert_eq!(is_readable(&self.ready, NOW), !events.is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.min(64), ..ProptestConfig::default() })]

    #[test]
    fn what_is_ready_is_listed(acts in prop::collection::vec(act(), 0..60)) {
        let mut world = World::new();
        for act in &acts {
            world.act(act);
        }
        world.look();
    }
}

/// Sockets that many threads write to, and one loop that reads each some or all of the way: all bytes arrive.
#[test]
fn threads_lose_no_wakeups() {
    const STREAMS: usize = 4;
    const BYTES: usize = 200_000;
    let system = System::threads();
    let a = system.create("a").unwrap();
    let listener = TcpListener::bind_in(&a, "127.0.0.1:80").unwrap();
    let ready = Ready::new().unwrap();
    let listener = ready.watch(listener, 0, &[Interest::Read]);
    let writers: Vec<_> = (0..STREAMS)
        .map(|n| {
            a.spawn(move || {
                let mut stream = TcpStream::connect("127.0.0.1:80").unwrap();
                // In pieces of all sizes, so that the reader is often idle.
                let mut left = BYTES;
                while left > 0 {
                    let piece = (left * 7 + n) % 5000 + 1;
                    stream.write_all(&vec![n as u8; piece.min(left)]).unwrap();
                    left -= piece.min(left);
                }
            })
            .unwrap()
        })
        .collect();
    let mut streams: BTreeMap<usize, (Watched<TcpStream>, usize)> = BTreeMap::new();
    let (mut events, mut over): (Vec<Event>, usize) = (Vec::new(), 0);
    let mut turn = 0;
    while over < STREAMS {
        assert!(is_readable(&ready, LONG), "a wake-up was lost");
        ready.events(&mut events);
        for event in &events {
            turn += 1;
            if event.token == 0 {
                let (stream, _) = listener.accept().unwrap();
                let token = streams.len() + 1;
                streams.insert(token, (ready.watch(stream, token, &[Interest::Read]), 0));
                continue;
            }
            let (stream, read) = streams.get_mut(&event.token).unwrap();
            let mut buf = [0; 700];
            // All that is there, or one piece of it.
            for _ in 0..[1, 3, usize::MAX][turn % 3] {
                match (&**stream).read(&mut buf) {
                    Ok(0) => {
                        assert_eq!(*read, BYTES);
                        over += 1;
                        stream.set_interests(&[]);
                        break;
                    }
                    Ok(n) => *read += n,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }
    for writer in writers {
        writer.join().unwrap();
    }
}

/// A frame that an emulated link still holds back makes the descriptor readable when it arrives, and not before.
#[test]
fn a_frame_on_its_way_is_heard_when_it_arrives() {
    let system = System::virtual_time(1);
    let a = system.create("a").unwrap();
    let port = a.port("eth0", None).unwrap();
    a.add_address("eth0", "192.0.2.1/24".parse().unwrap())
        .unwrap();
    system.run_for(Duration::from_secs(120)).unwrap();
    while port.recv().is_some() {}
    let slow = LinkConfig {
        delay: Duration::from_secs(1),
        ..LinkConfig::default()
    };
    a.set_link("eth0", slow).unwrap();
    let ready = Ready::new().unwrap();
    let port = ready.watch(port, 1, &[Interest::Read]);
    let mut events = Vec::new();
    ready.events(&mut events);
    assert!(events.is_empty() && !is_readable(&ready, NOW));
    let sender = UdpSocket::bind_in(&a, "0.0.0.0:0").unwrap();
    sender.set_broadcast(true).unwrap();
    sender.send_to(b"x", "192.0.2.255:9").unwrap();
    system.run_for(Duration::from_millis(500)).unwrap();
    assert!(is_readable(&ready, NOW), "there is something to look at");
    ready.events(&mut events);
    assert!(events.is_empty() && !is_readable(&ready, NOW));
    system.run_for(Duration::from_millis(499)).unwrap();
    assert!(!is_readable(&ready, NOW));
    system.run_for(Duration::from_millis(1)).unwrap();
    assert!(is_readable(&ready, NOW));
    ready.events(&mut events);
    assert_eq!(events.len(), 1);
    assert_eq!(port.recv().unwrap().len(), 14 + 20 + 8 + 1);
}

/// What is watched says so when its vnet goes.
#[test]
fn the_end_of_a_vnet_is_heard() {
    let system = System::virtual_time(1);
    let a = system.create("a").unwrap();
    let ready = Ready::new().unwrap();
    let socket = UdpSocket::bind_in(&a, "127.0.0.1:53").unwrap();
    let socket = ready.watch(socket, 1, &[Interest::Read]);
    let port = ready.watch(a.port("eth0", None).unwrap(), 2, &[Interest::Read]);
    let mut events = Vec::new();
    ready.events(&mut events);
    assert!(events.is_empty(), "{events:?}");
    a.destroy();
    ready.events(&mut events);
    let mut seen: Vec<_> = events.iter().map(|event| event.token).collect();
    seen.sort_unstable();
    assert_eq!(seen, [1, 2]);
    assert!(events.iter().all(|event| event.readiness.read_closed));
    assert!(SocketError::is_gone(
        &socket.recv_from(&mut [0; 1]).unwrap_err()
    ));
    assert!(port.is_gone());
}

//! Promise: no script of frames, passing time and calls breaks a network of vnets. After each:
//! no panic, every vnet's counters conserve, the network comes to rest, and teardown leaves
//! nothing.

#[path = "scripts/acts.rs"]
mod acts;
#[path = "scripts/ipv6.rs"]
mod ipv6;
#[path = "scripts/sockets.rs"]
mod sockets;

use std::future::poll_fn;
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4};
use std::time::Duration;

use acts::{Action, Frame, Op, script};
use ipv6::{assert_serves_ipv6, six, source_6, speak_ipv6};
use sockets::{Sockets, pick};
use vnet::capture::{Capture, CaptureOptions, LargeSegments, Recorder, Rotate};
use vnet::net::{EchoSocket, RawSocket, TcpListener, TcpStream, UdpSocket};
use vnet::{AdminState, Forwarding, NextHop, OwnedVnet, System, TaskHandle};
use vnet_tests::accounts::{assert_clean, assert_conserved, run_until_idle};
use vnet_tests::cases::run_cases_on_all;
use vnet_tests::frames::{
    ACK, ARP, IPV4, IPV6, Ip4, Ip6, PSH, SYN, Segment, Station, arp, ethernet, icmp, syn_options,
    tcp, udp,
};
use vnet_tests::peer::Peer;
use vnet_tests::sockets::Bound;
use vnet_tests::talks::{Place, Saying, Talks};
use vnet_tests::topology::{self, vnet, wire};

/// One to three vnets, each with a port to the outside, wired to one another.
struct World {
    system: System,
    vnets: Vec<Option<OwnedVnet>>,
    peers: Vec<Option<Peer>>,
    talks: Vec<Talks>,
    sockets: Vec<Sockets>,
    /// A child of each, perhaps, to lend interfaces to.
    children: Vec<Option<OwnedVnet>>,
    recorder: Recorder,
    captures: Vec<Capture>,
    tasks: Vec<TaskHandle<()>>,
    /// What is sent and received: made once, because it takes longer to fill than most calls.
    buf: Vec<u8>,
}

impl World {
    fn new(count: usize) -> World {
        let mut world = World {
            system: System::manual(42),
            vnets: (0..count).map(|_| None).collect(),
            peers: (0..count).map(|_| None).collect(),
            talks: (0..count).map(|_| Talks::default()).collect(),
            sockets: (0..count).map(|_| Sockets::default()).collect(),
            children: (0..count).map(|_| None).collect(),
            recorder: recorder(),
            captures: Vec::new(),
            tasks: Vec::new(),
            buf: vec![0; 100_000],
        };
        for i in 0..count {
            world.create(i);
        }
        world
    }

    fn create(&mut self, i: usize) {
        let v = vnet(&self.system, &format!("r{i}"));
        v.set_forwarding(Forwarding::Enabled).unwrap();
        let loopback = format!("10.9.{i}.1/24");
        v.add_address("lo0", loopback.parse().unwrap()).unwrap();
        self.peers[i] = Some(Peer::new(&self.system, &v, "port", i as u8));
        speak_ipv6(&v, i);
        self.vnets[i] = Some(v);
        self.children[i] = None;
        self.wire(i);
    }

    /// Joins vnet `i` to all others that are there, where it is not joined.
    fn wire(&self, i: usize) {
        for (j, other) in self.vnets.iter().enumerate() {
            if let (Some(v), Some(other), true) = (&self.vnets[i], other, i != j) {
                // The other end of a removed interface is removed, so that the name is free.
                let has = |v: &OwnedVnet, n: usize| {
                    let name = format!("to{n}");
                    v.interfaces().unwrap().iter().any(|f| f.name == name)
                };
                if has(v, j) != has(other, i) {
                    let _ = v.remove_interface(&format!("to{j}"));
                    let _ = other.remove_interface(&format!("to{i}"));
                }
                wire(v, i, other, j);
                let link = 0x10 + i.min(j) * 4 + i.max(j);
                for (v, n, other) in [(v, i, j), (other, j, i)] {
                    let own = format!("{}/64", six(1, link, n as u16 + 1));
                    let _ = v.add_address(&format!("to{other}"), own.parse().unwrap());
                    let far = format!("{}/64", six(9, other, 0)).parse().unwrap();
                    let via = six(1, link, other as u16 + 1);
                    let _ = v.add_route(far, NextHop::Gateway(via.into()));
                }
            }
        }
    }

    /// Addresses that somebody has, or nobody.
    fn places(&self) -> [Ipv4Addr; 15] {
        let count = self.vnets.len() as u8;
        [
            Ipv4Addr::new(10, 9, 0, 1),
            Ipv4Addr::new(10, 9, 1 % count, 1),
            Ipv4Addr::new(10, 9, 2 % count, 1),
            Ipv4Addr::new(10, 0, 1, 2),
            Ipv4Addr::new(10, 0, 12, 3),
            Ipv4Addr::new(192, 0, 0, 1),
            Ipv4Addr::new(192, 0, 0, 9),
            Ipv4Addr::new(192, 0, 1 % count, 9),
            Ipv4Addr::new(192, 0, 0, 77),
            Ipv4Addr::new(10, 0, 1, 255),
            Ipv4Addr::new(172, 16, 0, 1),
            Ipv4Addr::LOCALHOST,
            Ipv4Addr::BROADCAST,
            Ipv4Addr::new(224, 0, 0, 1),
            Ipv4Addr::UNSPECIFIED,
        ]
    }

    fn place(&self, n: usize) -> Ipv4Addr {
        self.places()[n % 15]
    }

    /// Those of both.
    fn all_places(&self) -> Vec<IpAddr> {
        let v6 = self.places_6().map(IpAddr::from);
        self.places()
            .map(IpAddr::from)
            .into_iter()
            .chain(v6)
            .collect()
    }

    fn run(&mut self, action: Action) {
        match action {
            Action::Rx(at, frame) => self.receive(at % self.vnets.len(), frame),
            Action::Advance(time) => {
                self.system.poll(self.system.now() + time);
            }
            Action::Api(at, op) => self.call(at % self.vnets.len(), op),
        }
        // Sometimes the peers answer ARP, whenever something was sent; nothing else clears the
        // queues of their ports.
        for at in 0..self.peers.len() {
            self.listen_to(at);
        }
    }

    /// Lets a peer hear what its vnet has sent.
    fn listen_to(&mut self, at: usize) {
        if let Some(peer) = &self.peers[at] {
            self.talks[at].hear(&peer.exchange());
        }
    }

    /// The peer's side of a handshake, and somebody who takes the connection.
    fn open(&mut self, at: usize, from: u16, port: u16) {
        let (Some(peer), Some(v)) = (&self.peers[at], &self.vnets[at]) else {
            return;
        };
        let mine = &mut self.sockets[at];
        let listener = listening(true).listener(v, &format!("0.0.0.0:{port}"), 4);
        mine.listeners.extend(listener);
        let syn = Segment {
            seq: u32::from(from) << 30,
            flags: SYN,
            window: u16::MAX,
            options: syn_options(),
            ..Segment::default()
        };
        let dst = SocketAddrV4::new(peer.vnet.ip, port);
        let syn = tcp(peer.addr(from), dst, &syn, &[]);
        let packet = Ip4::new(peer.me.ip, peer.vnet.ip, 6).packet(&syn);
        let _ = peer
            .port
            .send(ethernet(peer.vnet.mac, peer.me.mac, IPV4, &packet));
        self.listen_to(at);
        let ack = Saying {
            flags: ACK,
            seq: Place::First(0),
            ack: Place::Last(0),
            window: u16::MAX,
            timestamp: Some((0, 0)),
            sack: Vec::new(),
            body: Vec::new(),
        };
        self.receive(at, Frame::Say(0, ack));
        self.listen_to(at);
        let mine = &mut self.sockets[at];
        for l in &mine.listeners {
            mine.streams.extend(l.accept().map(|(s, _)| s));
        }
    }

    fn receive(&mut self, at: usize, frame: Frame) {
        if let Frame::Open(from, port) = frame {
            return self.open(at, from, port);
        }
        let said = match &frame {
            Frame::Say(n, what) => self.talks[at].say(*n, what),
            _ => None,
        };
        let Some(peer) = &self.peers[at] else { return };
        let (me, us) = (peer.me, peer.vnet);
        let ip = |to, proto, body: &[u8]| {
            ethernet(
                us.mac,
                me.mac,
                IPV4,
                &Ip4::new(me.ip, self.place(to), proto).packet(body),
            )
        };
        let bytes = match frame {
            Frame::Noise(body) => ethernet(us.mac, me.mac, IPV4, &body),
            Frame::Arp(op, host) => {
                let from = Station {
                    mac: [2, 9, 9, 9, 9, host],
                    ip: Ipv4Addr::new(192, 0, at as u8, host),
                };
                ethernet(us.mac, from.mac, ARP, &arp(op, from, us))
            }
            Frame::Echo(to, body) => ip(to, 1, &icmp(8, 0, 0x1234_0001, &body)),
            Frame::Datagram(to, port, body) => {
                let dst = SocketAddrV4::new(self.place(to), port);
                ip(to, 17, &udp(peer.addr(port), dst, &body))
            }
            Frame::Fragment(ident, fragment, body) => {
                let header = Ip4 {
                    ident,
                    fragment,
                    ..Ip4::new(me.ip, us.ip, 17)
                };
                ethernet(us.mac, me.mac, IPV4, &header.packet(&body))
            }
            Frame::Segment(to, flags, seq, body) => {
                let segment = Segment {
                    seq,
                    ack: seq ^ 0x5555,
                    flags,
                    window: seq as u16,
                    options: if flags & SYN != 0 {
                        syn_options()
                    } else {
                        Vec::new()
                    },
                };
                let (from, port) = (1 + (seq % 3) as u16, 1 + (seq % 5) as u16);
                let dst = SocketAddrV4::new(self.place(to), port);
                ip(to, 6, &tcp(peer.addr(from), dst, &segment, &body))
            }
            Frame::Say(..) => {
                let Some((to, segment)) = said else { return };
                let packet = Ip4::new(me.ip, to, 6).packet(&segment);
                ethernet(us.mac, me.mac, IPV4, &packet)
            }
            Frame::Six(to, extensions, hop_limit, inside) => {
                let header = Ip6 {
                    hop_limit,
                    extensions,
                    ..Ip6::new(source_6(at, &inside), self.place_6(to))
                };
                ethernet(us.mac, me.mac, IPV6, &self.packet_6(&header, inside))
            }
            Frame::Open(..) => return,
        };
        let _ = peer.port.send(bytes);
    }

    fn call(&mut self, at: usize, op: Op) {
        if self.administer(at, &op) {
            return;
        }
        let places = self.all_places();
        let addr = |n: usize, port| SocketAddr::from((places[n % places.len()], port));
        let mine = &mut self.sockets[at];
        let Some(v) = &self.vnets[at] else { return };
        let buf = &mut self.buf[..];
        match op {
            Op::UdpBind(port) => {
                for all in ALL {
                    let bound = UdpSocket::bind_in(v, (all, port));
                    mine.udp
                        .extend(bound.inspect(|s| s.set_broadcast(true).unwrap()));
                }
            }
            Op::UdpSend(s, n, port, len) => {
                pick(&mine.udp, s).map(|s| s.send_to(&buf[..len], addr(n, port)));
            }
            Op::UdpConnect(s, n, port) => {
                pick(&mine.udp, s).map(|s| s.connect(addr(n, port)));
            }
            Op::UdpRecv(s) => {
                pick(&mine.udp, s).map(|s| s.recv_from(buf));
                pick(&mine.echo, s).map(|s| s.recv());
                pick(&mine.raw, s).map(|s| s.recv_from(buf));
            }
            Op::EchoOpen => mine.echo.extend(EchoSocket::bind_in(v)),
            Op::EchoSend(s, n, len) => {
                pick(&mine.echo, s).map(|s| s.send_to(len as u16, &buf[..len], addr(n, 0).ip()));
            }
            Op::RawOpen(proto) => mine.raw.extend(RawSocket::open_in(v, proto)),
            Op::Listen(port, backlog) => {
                for all in ALL {
                    // One for both families, or one for each.
                    let options = listening(backlog % 2 == 0);
                    let backlog = i32::try_from(backlog).expect("a small number");
                    let at = SocketAddr::new(all.parse().unwrap(), port).to_string();
                    mine.listeners.extend(options.listener(v, &at, backlog));
                }
            }
            Op::Accept(l) => {
                let accepted = pick(&mine.listeners, l).and_then(|l| l.accept().ok());
                mine.streams.extend(accepted.map(|(s, _)| s));
            }
            Op::Connect(n, port) => mine
                .streams
                .extend(TcpStream::start_connect_in(v, addr(n, port))),
            Op::Write(s, len) => {
                pick(&mine.streams, s)
                    .map(|mut s| std::io::Write::write(&mut s, &buf[..len.min(100_000)]));
            }
            Op::Read(s, len) => {
                pick(&mine.streams, s).map(|mut s| std::io::Read::read(&mut s, &mut buf[..len]));
            }
            Op::Peek(s) => {
                pick(&mine.streams, s).map(|s| s.peek(buf));
            }
            Op::ShutDown(s, how) => {
                let how = [Shutdown::Read, Shutdown::Write, Shutdown::Both][usize::from(how)];
                pick(&mine.streams, s).map(|s| s.shutdown(how));
            }
            Op::Option(s, which) => {
                mine.set_options(s, which);
            }
            Op::Close(n) => mine.close(n),
            _ => {}
        }
    }

    /// Acts of the administrator; false when `op` is none.
    fn administer(&mut self, at: usize, op: &Op) -> bool {
        if self.instances(at, op) {
            return true;
        }
        if let (Op::Rewire | Op::Destroy, None) = (op, &self.vnets[at]) {
            self.create(at);
            return true;
        }
        let Some(v) = &self.vnets[at] else {
            return !matches!(op, Op::Close(_));
        };
        let names: Vec<String> = v
            .interfaces()
            .unwrap()
            .into_iter()
            .map(|i| i.name)
            .collect();
        let name = |n: usize| names[n % names.len()].as_str();
        let net = |n: u8| match n {
            0..6 => format!("172.16.{n}.1/24").parse().unwrap(),
            n => format!("{}/64", six(22, n.into(), 1)).parse().unwrap(),
        };
        match op {
            Op::SetUp(i, up) => {
                let state = if *up {
                    AdminState::Up
                } else {
                    AdminState::Down
                };
                let _ = v.set_up(name(*i), state);
            }
            Op::Mtu(i, mtu) => drop(v.set_ip_mtu(name(*i), *mtu)),
            Op::AddAddress(i, n) => drop(v.add_address(name(*i), net(*n))),
            Op::RemoveAddress(i, n) => {
                let address: IpAddr = match n {
                    0 => Ipv4Addr::new(10, 9, at as u8, 1).into(),
                    1 => Ipv4Addr::new(192, 0, at as u8, 1).into(),
                    2..6 => Ipv4Addr::new(172, 16, *n, 1).into(),
                    6 => six(9, at, 1).into(),
                    7 => six(12, at, 1).into(),
                    n => six(22, (*n).into(), 1).into(),
                };
                drop(v.remove_address(name(*i), address));
            }
            Op::AddRoute(n, via) => {
                let hop = match via {
                    0..3 => NextHop::Interface(name(usize::from(*via)).to_owned()),
                    n => {
                        let places = self.all_places();
                        NextHop::Gateway(places[usize::from(*n) % places.len()])
                    }
                };
                let _ = v.add_route(net(*n), hop);
            }
            Op::RemoveRoute(n) => drop(v.remove_route(net(*n))),
            Op::Link(i, n) => drop(v.set_link(name(*i), topology::impairments(*n))),
            Op::Forward(on) => {
                let forwarding = if *on {
                    Forwarding::Enabled
                } else {
                    Forwarding::Disabled
                };
                v.set_forwarding(forwarding).unwrap();
            }
            Op::RemoveInterface(i) => drop(v.remove_interface(name(*i))),
            Op::Rewire => self.wire(at),
            Op::Bridge => drop(v.bridge("bridge")),
            Op::Join(i) => {
                // A member has no addresses.
                for address in &v.interfaces().unwrap()[*i % names.len()].addresses {
                    let _ = v.remove_address(name(*i), address.addr());
                }
                let _ = v.add_member("bridge", name(*i));
            }
            Op::Leave(i) => drop(v.remove_member("bridge", name(*i))),
            Op::Destroy => {
                assert_conserved(v);
                let v = self.vnets[at].take().expect("it was there");
                assert_clean(&v.destroy());
                self.peers[at] = None;
            }
            _ => return false,
        }
        true
    }

    /// Acts on instances as a whole, and on what goes from one to another; false when `op` is none.
    fn instances(&mut self, at: usize, op: &Op) -> bool {
        match op {
            Op::EndCapture(n) if !self.captures.is_empty() => {
                drop(self.captures.swap_remove(n % self.captures.len()));
            }
            Op::EndTask(n) if !self.tasks.is_empty() => {
                self.tasks.swap_remove(n % self.tasks.len()).abort();
            }
            _ => {}
        }
        let Some(v) = &self.vnets[at] else {
            return false;
        };
        let names: Vec<String> = v
            .interfaces()
            .unwrap()
            .into_iter()
            .map(|i| i.name)
            .collect();
        let name = |n: usize| names[n % names.len()].as_str();
        match op {
            Op::Lend(i, to, rename) => {
                let count = self.vnets.len();
                let child = self.children[at].as_ref();
                let to = match to % (count + 1) {
                    n if n < count => self.vnets[n].as_ref(),
                    _ => child,
                };
                let Some(to) = to else { return true };
                let moved = match rename {
                    true => v.move_interface_as(name(*i), to, "guest7"),
                    false => v.move_interface(name(*i), to),
                };
                if let Ok(moved) = moved {
                    let there = to.interfaces().unwrap_or_default();
                    assert!(there.iter().any(|i| i.name == moved), "{moved}");
                }
            }
            Op::Return(who, i) => {
                let child = self.children[at].as_ref().filter(|_| who % 2 == 1);
                let who = child.unwrap_or(v);
                let there = who.interfaces().unwrap_or_default();
                pick(&there, *i).map(|i| who.return_interface(&i.name));
            }
            Op::Reclaim(n) => {
                let lent = v.pins().unwrap().lent;
                if let Some(lent) = pick(&lent, *n) {
                    // Nobody else moves it meanwhile.
                    v.reclaim_interface(&lent.name).unwrap();
                }
            }
            Op::Child => match self.children[at].take() {
                Some(child) => assert_clean(&child.destroy()),
                None => self.children[at] = v.create_child("c").ok(),
            },
            Op::Capture(i) => {
                let tap = self.recorder.tap(name(*i)).unwrap();
                self.captures.push(v.start_capture(name(*i), tap).unwrap());
            }
            Op::Task(port) => {
                for all in ALL {
                    let bound = UdpSocket::bind_in(v, (all, *port));
                    self.tasks.extend(bound.map(|s| v.spawn_future(echo(s))));
                }
            }
            Op::Twin => {
                let record = v.record().unwrap();
                // What it has borrowed, and an interface whose name is gone, a twin cannot have.
                if let Ok(twin) = self.system.replay(&record, "twin") {
                    assert_clean(&twin.destroy());
                }
                assert!(!self.system.names().contains(&"twin".to_owned()));
            }
            Op::Drain => v.begin_shutdown().unwrap(),
            _ => return matches!(op, Op::EndCapture(_) | Op::EndTask(_)),
        }
        true
    }

    /// The laws that hold at any moment.
    fn check(&self) {
        for v in self.vnets.iter().flatten() {
            assert_conserved(v);
        }
        for child in self.children.iter().flatten() {
            // Its parent may have taken it along.
            if child.stats().is_ok() {
                assert_conserved(child);
            }
        }
    }

    /// The laws that hold at the end.
    fn finish(mut self) {
        self.check();
        // Nobody asks for anything any more: the network comes to rest.
        self.sockets.clear();
        self.tasks.iter().for_each(TaskHandle::abort);
        assert!(self.tasks.iter().all(TaskHandle::is_finished));
        run_until_idle(&self.system, 50_000);
        self.check();
        for v in self.vnets.iter().flatten() {
            assert_eq!(v.pending(), Ok(0), "{}", v.name());
        }
        for (i, v) in self.vnets.iter().enumerate() {
            v.iter().for_each(|v| assert_serves(&self.system, v, i));
        }
        for v in self.vnets.into_iter().flatten() {
            assert_clean(&v.destroy());
        }
        self.recorder.finish().unwrap();
        drop(self.peers);
        run_until_idle(&self.system, 1_000);
        assert_eq!(self.system.names(), [""; 0]);
    }
}

/// Whatever happened to it, it answers a new neighbour's ping and takes its connection.
fn assert_serves(system: &System, v: &OwnedVnet, i: usize) {
    let peer = Peer::new(system, v, "new", 100 + i as u8);
    peer.send(1, &icmp(8, 0, 0x1234_0001, b"still there?"));
    let answers = peer.exchange();
    assert!(answers.iter().any(|p| p[9] == 1 && p[20] == 0), "no answer");
    assert_serves_ipv6(system, v, &peer, i);
    let listener = TcpListener::bind_in(v, ("0.0.0.0", 99));
    // One that is being shut down takes no connection.
    let Ok(listener) = listener else { return };
    let mut talk = peer.open(1000, 99);
    let (stream, _) = listener.accept().expect("the handshake is over");
    peer.say(&mut talk, ACK | PSH, b"hello");
    peer.exchange();
    let mut buf = [0; 9];
    let read = std::io::Read::read(&mut &stream, &mut buf).expect("it has arrived");
    assert_eq!(&buf[..read], b"hello");
}

/// Every address of a family.
const ALL: [&str; 2] = ["::", "0.0.0.0"];

fn listening(only_v6: bool) -> Bound {
    Bound {
        reuse: true,
        only_v6: Some(only_v6),
    }
}

/// A capture with all that one can have, into nothing.
fn recorder() -> Recorder {
    let options = CaptureOptions {
        snaplen: Some(100),
        large: LargeSegments::Cut,
        rotate: Some(Rotate {
            max_bytes: 100_000,
            max_files: 3,
        }),
        ..CaptureOptions::default()
    };
    let nowhere = |_slot| Ok(Box::new(std::io::sink()) as Box<dyn std::io::Write + Send>);
    Recorder::new(nowhere, options).unwrap()
}

/// Sends back what comes, for ever.
async fn echo(socket: UdpSocket) {
    let mut buf = [0; 100];
    while let Ok((n, from)) = poll_fn(|cx| socket.poll_recv_from(cx, &mut buf)).await {
        // Not to itself, or to another of its kind.
        if from.port() > 5 {
            let _ = socket.send_to(&buf[..n], from);
        }
    }
}

fn play(count: usize, script: Vec<Action>) {
    let mut world = World::new(count);
    for action in script {
        world.run(action);
        world.check();
    }
    world.finish();
}

/// Runs a hundred thousand scripts of up to `len` acts, or as many as `VNET_SCRIPTS` says.
fn play_all(count: usize, len: usize) {
    let given = std::env::var("VNET_SCRIPTS").ok();
    let cases = given.map_or(100_000, |n| n.parse().expect("VNET_SCRIPTS is a number"));
    let ran = run_cases_on_all(cases, || script(len), |script| play(count, script));
    assert_eq!(ran, cases, "none was left out");
}

#[test]
fn one_vnet_survives_any_script() {
    play_all(1, 80);
}

#[test]
fn three_vnets_survive_any_script() {
    play_all(3, 120);
}

/// A script by hand that does reach the other end of the triangle: proof that the random ones
/// can, too.
#[test]
fn the_triangle_carries_what_the_scripts_send() {
    let mut world = World::new(3);
    let api = |at, op| Action::Api(at, op);
    for action in [
        api(1, Op::Listen(3, 3)),
        api(1, Op::UdpBind(2)),
        api(0, Op::UdpBind(1)),
        api(0, Op::UdpSend(0, 1, 2, 3000)),
        // The same sockets serve both families; the place behind those of IPv4 is of IPv6.
        api(0, Op::UdpSend(0, 16, 2, 500)),
        api(0, Op::Connect(1, 3)),
        Action::Advance(Duration::from_millis(200)),
        api(1, Op::Accept(0)),
        api(0, Op::Write(0, 50_000)),
        Action::Advance(Duration::from_millis(200)),
        Action::Rx(2, Frame::Datagram(1, 2, b"from outside".to_vec())),
        Action::Advance(Duration::from_millis(200)),
    ] {
        world.run(action);
        world.check();
    }
    let far = &world.sockets[1];
    let mut buf = vec![0; 60_000];
    assert_eq!(far.udp[0].recv(&mut buf).unwrap(), 3000);
    assert_eq!(far.udp[0].recv(&mut buf).unwrap(), 500, "over IPv6");
    assert_eq!(far.udp[0].recv(&mut buf).unwrap(), 12);
    let read = std::io::Read::read(&mut &far.streams[0], &mut buf).unwrap();
    assert!(read > 1000, "{read} bytes");
    let through = world.vnets[2].as_ref().unwrap().stats().unwrap();
    assert!(
        through.forwarded >= 1,
        "r2 passed on what came from outside"
    );
    world.finish();
}

/// The same for what goes from one instance to another.
#[test]
fn the_scripts_lend_capture_and_run_tasks() {
    let mut world = World::new(3);
    let api = |at, op| Action::Api(at, op);
    // Interface 1 of each is its port.
    for action in [
        api(0, Op::Capture(1)),
        api(0, Op::Task(2)),
        Action::Rx(0, Frame::Datagram(5, 2, b"to the task".to_vec())),
        Action::Advance(Duration::from_millis(200)),
    ] {
        world.run(action);
        world.check();
    }
    let r0 = |world: &World| vnet::Vnet::clone(world.vnets[0].as_ref().unwrap());
    assert!(world.recorder.report().frames >= 1);
    assert_eq!(r0(&world).captures("port").unwrap().len(), 1);
    for action in [
        api(0, Op::Lend(1, 1, false)),
        api(0, Op::Child),
        // The second of what is left.
        api(0, Op::Lend(1, 3, true)),
        api(0, Op::Twin),
    ] {
        world.run(action);
        world.check();
    }
    let lent = |world: &World| r0(world).pins().unwrap().lent.len();
    assert_eq!(lent(&world), 1, "the name \"port\" is taken in r1");
    world.run(api(0, Op::Lend(1, 1, true)));
    assert_eq!(lent(&world), 2);
    world.run(api(0, Op::Reclaim(1)));
    world.run(api(0, Op::Child));
    assert_eq!(lent(&world), 0, "the child is gone");
    world.run(api(0, Op::EndTask(0)));
    world.run(api(0, Op::Drain));
    world.finish();
}

/// The same for what the peer says in a conversation of its own.
#[test]
fn the_scripts_speak_to_live_connections() {
    let mut world = World::new(1);
    let say = |seq, ack, body: &[u8]| {
        let what = Saying {
            flags: ACK,
            seq: Place::First(seq),
            ack: Place::First(ack),
            window: u16::MAX,
            timestamp: Some((1, 0)),
            sack: vec![(Place::First(10), Place::First(20))],
            body: body.to_vec(),
        };
        Action::Rx(0, Frame::Say(0, what))
    };
    for action in [
        Action::Rx(0, Frame::Open(1, 3)),
        say(0, 0, b"first "),
        Action::Api(0, Op::Write(0, 100)),
        Action::Advance(Duration::from_millis(200)),
        say(0, 50, b"second"),
        say(0, 1 << 31, b"half the sequence space away"),
        Action::Advance(Duration::from_millis(200)),
    ] {
        world.run(action);
        world.check();
    }
    let stream = &world.sockets[0].streams[0];
    let mut buf = [0; 100];
    let read = std::io::Read::read(&mut &*stream, &mut buf).unwrap();
    assert_eq!(&buf[..read], b"first second");
    let state = world.vnets[0].as_ref().unwrap().inspect().unwrap();
    let waiting = state.sockets.iter().map(|s| s.send_queue).max();
    assert_eq!(
        waiting,
        Some(50),
        "half of what was written is acknowledged"
    );
    world.finish();
}

//! Scripts of datagrams, and a model of who gets which.

use super::*;
use crate::base::rng::Rng;
use crate::base::stats::{DropReason, Stats};
use crate::base::time::Instant;
use crate::packet::Cx;
use crate::transport::edge::{Interest, ReadMode};
use proptest::prelude::*;
use std::task::Waker;

const FULL: Verdict = Verdict::Drop(DropReason::SocketBufferFull);

struct World {
    udp: Udp,
    rng: Rng,
    stats: Stats,
    out: Out,
}

fn at(text: &str) -> SocketAddr {
    text.parse().expect("a socket address")
}

impl World {
    fn new() -> World {
        World {
            udp: Udp::new(Rng::seeded(1)),
            rng: Rng::seeded(2),
            stats: Stats::default(),
            out: Out::default(),
        }
    }

    fn with<R>(&mut self, f: impl FnOnce(&mut Udp, &mut Cx) -> R) -> R {
        let mut cx = Cx {
            now: Instant::ZERO,
            rng: &mut self.rng,
            stats: &mut self.stats,
            out: &mut self.out,
        };
        f(&mut self.udp, &mut cx)
    }

    fn open(&mut self) -> UdpId {
        self.udp.open().expect("room for a socket")
    }

    fn bound(&mut self, addr: &str) -> UdpId {
        let id = self.open();
        self.bind(id, addr).expect("a free address");
        id
    }

    fn shared(&mut self, addr: &str) -> UdpId {
        let id = self.open();
        self.udp.sockets.get_mut(id).unwrap().own.reuse = Reuse::Shared;
        self.bind(id, addr).expect("an address to share");
        id
    }

    fn bind(&mut self, id: UdpId, addr: &str) -> Result<SocketAddr, SocketError> {
        self.with(|udp, cx| udp.bind(cx, id, at(addr), Domain::of(at(addr), true)))
    }

    fn connect(&mut self, id: UdpId, peer: &str, src: &str) -> Result<(), SocketError> {
        let src = src.parse().expect("an address");
        self.with(|udp, cx| udp.connect(cx, id, at(peer), src))
    }

    fn send(
        &mut self,
        id: UdpId,
        dst: Option<&str>,
        len: usize,
    ) -> Result<DatagramOut, SocketError> {
        self.with(|udp, cx| udp.send(cx, id, dst.map(at), len))
    }

    fn hear(&mut self, src: &str, dst: &str, data: &[u8]) -> Verdict {
        let mut data = Payload::from(data.to_vec());
        self.with(|udp, cx| {
            udp.input(
                cx,
                arrived(src, dst),
                at(dst).port(),
                Addressing::Unicast,
                |_| true,
                &mut data,
            )
        })
    }

    fn shout(&mut self, src: &str, dst: &str, data: &[u8]) -> Verdict {
        let mut data = Payload::from(data.to_vec());
        self.with(|udp, cx| {
            udp.input(
                cx,
                arrived(src, dst),
                at(dst).port(),
                Addressing::Broadcast,
                |_| true,
                &mut data,
            )
        })
    }

    fn recv(&mut self, id: UdpId) -> Result<(String, String), SocketError> {
        let (data, arrived) = self.udp.sockets.recv(id, ReadMode::Consume)?;
        let text = String::from_utf8(data.to_bytes().to_vec()).expect("text");
        Ok((text, arrived.src.to_string()))
    }

    fn wait(&mut self, id: UdpId) {
        let waiters = &mut self.udp.sockets.get_mut(id).expect("there").waiters;
        waiters.register(&mut self.out, Interest::Read, Waker::noop());
    }

    fn local(&self, id: UdpId) -> Option<SocketAddr> {
        self.udp.sockets.get(id).expect("there").own.local()
    }

    fn queued(&self) -> Vec<usize> {
        self.udp.sockets.iter().map(|s| s.queued()).collect()
    }
}

fn arrived(src: &str, dst: &str) -> Arrived {
    Arrived {
        src: at(src),
        dst: at(dst).ip(),
        on: None,
        ttl: 64,
        tos: 0,
    }
}

fn got(data: &str, from: &str) -> Result<(String, String), SocketError> {
    Ok((data.to_owned(), from.to_owned()))
}

#[test]
fn a_datagram_is_received_where_it_was_sent() {
    let mut w = World::new();
    let id = w.bound("0.0.0.0:53");
    assert_eq!(w.recv(id), Err(SocketError::WouldBlock));
    w.wait(id);
    assert_eq!(
        w.hear("10.0.0.9:1000", "10.0.0.1:53", b"one"),
        Verdict::Delivered
    );
    assert_eq!(w.out.wakes.len(), 1);
    assert_eq!(w.hear("10.0.0.9:0", "10.0.0.1:53", b""), Verdict::Delivered);
    assert_eq!(
        w.hear("10.0.0.9:1000", "10.0.0.1:54", b"two"),
        Verdict::NoSocket
    );
    assert_eq!(w.hear("[::9]:1000", "[::1]:53", b"six"), Verdict::NoSocket);
    let (peeked, _) = w.udp.sockets.recv(id, ReadMode::Peek).unwrap();
    assert_eq!(peeked.to_bytes(), "one");
    assert_eq!(w.recv(id), got("one", "10.0.0.9:1000"));
    assert_eq!(w.recv(id), got("", "10.0.0.9:0"));
    assert_eq!(w.recv(id), Err(SocketError::WouldBlock));
    let stats = w.udp.stats();
    assert_eq!((stats.delivered, stats.no_socket), (2, 2));
}

#[test]
fn the_most_exact_socket_gets_it() {
    let mut w = World::new();
    let any = w.shared("0.0.0.0:53");
    let one = w.shared("10.0.0.1:53");
    let conn = w.shared("10.0.0.1:53");
    w.connect(conn, "10.0.0.9:1000", "10.0.0.1").unwrap();
    w.hear("10.0.0.9:1000", "10.0.0.1:53", b"connected");
    w.hear("10.0.0.9:1001", "10.0.0.1:53", b"exact");
    w.hear("10.0.0.9:1000", "10.0.0.2:53", b"any");
    assert_eq!(w.recv(conn), got("connected", "10.0.0.9:1000"));
    assert_eq!(w.recv(one), got("exact", "10.0.0.9:1001"));
    assert_eq!(w.recv(any), got("any", "10.0.0.9:1000"));
    // Of two with one address, the last has it; when it goes, the first.
    let last = w.shared("10.0.0.1:53");
    w.hear("10.0.0.9:1001", "10.0.0.1:53", b"last");
    assert_eq!(w.recv(last), got("last", "10.0.0.9:1001"));
    w.with(|udp, cx| udp.close(cx.out, last));
    w.hear("10.0.0.9:1001", "10.0.0.1:53", b"first");
    assert_eq!(w.recv(one), got("first", "10.0.0.9:1001"));
}

#[test]
fn a_broadcast_reaches_all() {
    let mut w = World::new();
    w.shared("0.0.0.0:67");
    w.shared("0.0.0.0:67");
    w.shared("10.0.0.1:67"); // bound to an address: does not hear broadcasts
    w.shared("10.0.0.255:67"); // bound to the broadcast address: does
    w.bound("0.0.0.0:68");
    assert_eq!(
        w.shout("10.0.0.9:68", "10.0.0.255:67", b"all"),
        Verdict::Delivered
    );
    assert_eq!(w.queued(), [1, 1, 0, 1, 0]);
    assert_eq!(
        w.shout("10.0.0.9:68", "10.0.0.255:69", b"none"),
        Verdict::NoSocket
    );
}

#[test]
fn sending_binds_and_says_where_from() {
    let mut w = World::new();
    let id = w.open();
    assert_eq!(w.send(id, None, 1).err(), Some(SocketError::NotConnected));
    assert_eq!(w.local(id), None);
    let out = w.send(id, Some("10.0.0.9:53"), 10).unwrap();
    assert!(out.src_port >= 49_152);
    assert_eq!((out.src, out.dst, out.ttl), (None, at("10.0.0.9:53"), 0));
    // The answer finds the way back.
    let back = format!("10.0.0.1:{}", out.src_port);
    assert_eq!(w.hear("10.0.0.9:53", &back, b"answer"), Verdict::Delivered);
    assert_eq!(w.recv(id), got("answer", "10.0.0.9:53"));
    // A second datagram keeps the port.
    assert_eq!(
        w.send(id, Some("10.0.0.8:53"), 0).unwrap().src_port,
        out.src_port
    );
    let bound = w.bound("10.0.0.1:7");
    let out = w.send(bound, Some("10.0.0.9:53"), 10).unwrap();
    assert_eq!((out.src, out.src_port), (Some(at("10.0.0.1:7").ip()), 7));
}

#[test]
fn what_cannot_be_sent() {
    let mut w = World::new();
    let id = w.bound("0.0.0.0:7");
    assert!(w.send(id, Some("10.0.0.9:53"), MAX_PAYLOAD_4).is_ok());
    for (dst, len, error) in [
        (
            "10.0.0.9:53",
            MAX_PAYLOAD_4 + 1,
            SocketError::MessageTooLong,
        ),
        ("10.0.0.9:0", 1, SocketError::InvalidInput),
        ("[::1]:53", 1, SocketError::InvalidInput),
        ("255.255.255.255:67", 1, SocketError::BroadcastForbidden),
    ] {
        assert_eq!(w.send(id, Some(dst), len).err(), Some(error), "{dst}");
    }
    w.udp.sockets.get_mut(id).unwrap().own.broadcast = Broadcast::Allowed;
    let out = w.send(id, Some("255.255.255.255:67"), 1).unwrap();
    assert_eq!(out.broadcast, Broadcast::Allowed);
}

#[test]
fn a_connected_socket_hears_its_peer_only() {
    let mut w = World::new();
    let id = w.open();
    w.connect(id, "10.0.0.9:53", "10.0.0.1").unwrap();
    let local = w.local(id).expect("bound").to_string();
    assert!(local.starts_with("10.0.0.1:"));
    assert_eq!(
        w.udp.sockets.get(id).unwrap().own.peer(),
        Some(at("10.0.0.9:53"))
    );
    assert_eq!(
        w.hear("10.0.0.9:54", &local, b"stranger"),
        Verdict::NoSocket
    );
    assert_eq!(w.hear("10.0.0.9:53", &local, b"peer"), Verdict::Delivered);
    let out = w.send(id, None, 3).unwrap();
    assert_eq!(
        (out.src, out.dst),
        (Some(at(&local).ip()), at("10.0.0.9:53"))
    );
    // Another peer, from another address.
    w.connect(id, "10.0.1.9:53", "10.0.1.1").unwrap();
    assert_eq!(w.hear("10.0.0.9:53", &local, b"former"), Verdict::NoSocket);
    let moved = local.replace("10.0.0.1:", "10.0.1.1:");
    assert_eq!(w.hear("10.0.1.9:53", &moved, b"new"), Verdict::Delivered);
    assert_eq!(w.queued(), [2]);
}

#[test]
fn an_icmp_error_reaches_the_connected_socket_once() {
    let mut w = World::new();
    let open = w.bound("0.0.0.0:7");
    let id = w.bound("10.0.0.1:8");
    w.connect(id, "10.0.0.9:53", "10.0.0.1").unwrap();
    let refused = SocketError::ConnectionRefused;
    let error = |local: &str, w: &mut World| {
        let told = DatagramError {
            error: refused,
            peer: at("10.0.0.9:53"),
            from: at("10.0.0.9:0").ip(),
            path_mtu: None,
            extensions: Default::default(),
        };
        w.udp.on_icmp_error(&mut w.out, at(local), told)
    };
    assert_eq!(error("10.0.0.1:7", &mut w), 0);
    assert_eq!(error("10.0.0.1:8", &mut w), 1);
    assert_eq!(
        w.udp.sockets.get(id).unwrap().readiness().error,
        Some(refused)
    );
    assert_eq!(w.recv(id), Err(refused));
    assert_eq!(w.recv(id), Err(SocketError::WouldBlock));
    assert_eq!(error("10.0.0.1:8", &mut w), 1);
    assert_eq!(w.send(id, None, 1).err(), Some(refused));
    assert!(w.send(id, None, 1).is_ok());
    assert_eq!(error("10.0.0.1:8", &mut w), 1);
    assert_eq!(
        w.udp.sockets.get_mut(id).unwrap().take_error(),
        Some(refused)
    );
    assert_eq!(w.udp.sockets.get_mut(open).unwrap().take_error(), None);
}

#[test]
fn the_receive_buffer_is_bounded() {
    let mut w = World::new();
    let id = w.bound("0.0.0.0:7");
    w.udp.sockets.get_mut(id).unwrap().options.recv_buffer = 10_000;
    let mut taken = 0;
    while w.hear("10.0.0.9:1", "10.0.0.1:7", &[0; 1000]) == Verdict::Delivered {
        taken += 1;
    }
    assert_eq!(taken, 7, "1000 bytes and their overhead into 10 000");
    assert_eq!(w.hear("10.0.0.9:1", "10.0.0.1:7", b""), Verdict::Delivered);
    assert_eq!(w.udp.stats().buffer_full, 1);
    assert_eq!(w.hear("10.0.0.9:1", "10.0.0.1:7", &[0; 1000]), FULL);
}

#[test]
fn closing_frees_the_port_and_wakes_everyone() {
    let mut w = World::new();
    let id = w.bound("0.0.0.0:7");
    let other = w.open();
    assert_eq!(w.bind(other, "0.0.0.0:7"), Err(SocketError::AddrInUse));
    assert_eq!(w.bind(id, "0.0.0.0:8"), Err(SocketError::InvalidInput));
    w.wait(id);
    w.hear("10.0.0.9:1", "10.0.0.1:7", b"unread");
    w.wait(id);
    w.out.wakes.clear();
    w.with(|udp, cx| udp.close(cx.out, id));
    assert_eq!(w.out.wakes.len(), 1);
    w.with(|udp, cx| udp.close(cx.out, id));
    assert_eq!(w.recv(id), Err(SocketError::Gone));
    assert_eq!(w.bind(other, "0.0.0.0:7"), Ok(at("0.0.0.0:7")));
}

#[test]
fn the_number_of_sockets_is_limited() {
    let mut w = World::new();
    w.udp.sockets.config.max_sockets = 2;
    w.open();
    w.open();
    assert_eq!(w.udp.open(), Err(SocketError::Limit("UDP sockets")));
}

#[derive(Clone, Debug)]
enum Action {
    Open {
        shared: bool,
    },
    Bind {
        n: usize,
        ip: u8,
        port: u16,
    },
    Connect {
        n: usize,
        peer: u8,
        port: u16,
    },
    Close {
        n: usize,
    },
    Hear {
        src: u8,
        src_port: u16,
        dst: u8,
        port: u16,
        all: bool,
    },
}

fn action() -> impl Strategy<Value = Action> {
    let (n, ip, port) = (0..6usize, 0..3u8, 1..4u16);
    prop_oneof![
        1 => any::<bool>().prop_map(|shared| Action::Open { shared }),
        1 => (n.clone(), ip.clone(), port.clone()).prop_map(|(n, ip, port)| Action::Bind { n, ip, port }),
        1 => (n.clone(), 1..3u8, port.clone()).prop_map(|(n, peer, port)| Action::Connect { n, peer, port }),
        1 => n.prop_map(|n| Action::Close { n }),
        4 => (1..3u8, port.clone(), 1..3u8, port, any::<bool>()).prop_map(
            |(src, src_port, dst, port, all)| Action::Hear { src, src_port, dst, port, all }),
    ]
}

/// What the model remembers of a socket: bound, connected (local, peer), datagrams got.
#[derive(Default)]
struct Model {
    bound: Option<SocketAddr>,
    link: Option<(SocketAddr, SocketAddr)>,
    order: usize,
    got: usize,
}

fn addr(ip: u8, port: u16) -> SocketAddr {
    let ip = if ip == 0 { [0; 4] } else { [10, 0, 0, ip] };
    SocketAddr::from((ip, port))
}

proptest! {
    /// Against a plain list that is searched from end to end: the same sockets get the same
    /// datagrams, and the indexes hold nothing once all is closed.
    #[test]
    fn behaves_as_a_list(script in prop::collection::vec(action(), 0..80)) {
        let mut w = World::new();
        let mut sockets: Vec<(UdpId, Model)> = Vec::new();
        let mut clock = 0;
        for action in script {
            clock += 1;
            match action {
                Action::Open { shared } => {
                    let id = w.open();
                    if shared {
                        w.udp.sockets.get_mut(id).unwrap().own.reuse = Reuse::Shared;
                    }
                    sockets.push((id, Model::default()));
                }
                Action::Bind { n, ip, port } => {
                    let Some((id, model)) = sockets.get_mut(n) else { continue };
                    if let Ok(bound) = w.bind(*id, &addr(ip, port).to_string()) {
                        prop_assert!(model.bound.is_none());
                        (model.bound, model.order) = (Some(bound), clock);
                    }
                }
                Action::Connect { n, peer, port } => {
                    let Some((id, model)) = sockets.get_mut(n) else { continue };
                    let peer = addr(peer, port);
                    w.connect(*id, &peer.to_string(), "10.0.0.1").expect("a port is free");
                    let local = w.local(*id).expect("bound");
                    let bound = model.bound.get_or_insert(addr(0, local.port()));
                    let ip = if bound.ip().is_unspecified() { addr(1, 0).ip() } else { bound.ip() };
                    prop_assert_eq!(local, SocketAddr::new(ip, bound.port()));
                    (model.link, model.order) = (Some((local, peer)), clock);
                }
                Action::Close { n } => {
                    if n < sockets.len() {
                        let (id, _) = sockets.remove(n);
                        w.with(|udp, cx| udp.close(cx.out, id));
                    }
                }
                Action::Hear { src, src_port, dst, port, all } => {
                    let (src, dst) = (addr(src, src_port), addr(dst, port));
                    let rank = |m: &Model| match (m.link, m.bound) {
                        (Some(link), _) => (link == (dst, src)).then_some(3),
                        (None, Some(b)) if b == dst => Some(2),
                        (None, Some(b)) => (b == addr(0, port)).then_some(1),
                        (None, None) => None,
                    };
                    let best = sockets.iter().filter_map(|(_, m)| Some((rank(m)?, m.order))).max();
                    for (_, m) in &mut sockets {
                        let Some(rank) = rank(m) else { continue };
                        m.got += usize::from(all || Some((rank, m.order)) == best);
                    }
                    let verdict = match all {
                        true => w.shout(&src.to_string(), &dst.to_string(), b"x"),
                        false => w.hear(&src.to_string(), &dst.to_string(), b"x"),
                    };
                    prop_assert_eq!(verdict == Verdict::Delivered, best.is_some());
                }
            }
            for (id, model) in &sockets {
                prop_assert_eq!(w.udp.sockets.get(*id).expect("there").queued(), model.got);
            }
        }
        for (id, _) in sockets {
            w.with(|udp, cx| udp.close(cx.out, id));
        }
        prop_assert!(w.udp.open.is_empty() && w.udp.connected.is_empty());
        prop_assert!(w.udp.ports.is_empty());
        prop_assert_eq!((w.udp.sockets.len(), w.udp.sockets.account().bytes()), (0, 0));
    }
}

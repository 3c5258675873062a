//! Two endpoints joined by a wire in virtual time.

mod answers;
mod arrival;
mod close;
mod ecn;
mod fast_open;
mod fuzz;
mod greedy;
mod hand;
mod handshake;
mod info;
mod listen;
mod loss;
mod lossy;
mod marked;
mod options;
mod resting;
mod rto;
mod script;
mod search;
mod sequence;
mod states;
mod transfer;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;

use super::*;
use crate::base::rng::Rng;
use crate::base::stats::Stats;
use crate::base::time::Duration;
use crate::packet::header::{TcpFlags, TcpHeader};
use crate::packet::{Cx, Out, Payload};
use crate::transport::domain::Domain;
use crate::transport::edge::{Interest, ReadMode};
use crate::transport::error::SocketError;
use crate::transport::ports::Reuse;

pub(super) const A: usize = 0;
pub(super) const B: usize = 1;

/// One endpoint.
pub(super) struct Host {
    pub tcp: Tcp,
    rng: Rng,
    stats: Stats,
    pub out: Out,
    addr: std::net::IpAddr,
}

/// What the wire does to segments.
#[derive(Clone, Copy, Debug)]
pub(super) struct Net {
    pub loss: f64,
    pub duplicate: f64,
    /// Extra delay of some segments, which lets later ones overtake.
    pub reorder: f64,
    pub delay: Duration,
    pub path: Path,
    /// Whether large segments are cut on the way.
    pub cut: bool,
    pub bits_per_second: Option<u64>,
    /// How often hosts look at what is due: not at once, as threads do.
    pub tick: Duration,
}

impl Default for Net {
    fn default() -> Net {
        Net {
            loss: 0.0,
            duplicate: 0.0,
            reorder: 0.0,
            delay: Duration::from_millis(5),
            path: Path {
                ip_mtu: 1500,
                gso_max: 0,
            },
            cut: true,
            bits_per_second: None,
            tick: Duration::ZERO,
        }
    }
}

/// What becomes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Arrives,
    Lost,
    /// It arrives, marked by a router if it may be (RFC 3168).
    Marked,
    /// It arrives later by so much.
    Late(Duration),
    /// It arrives, and once more later by so much.
    Twice(Duration),
}

type Fates = Box<dyn FnMut(Instant, usize, &SegmentOut) -> Fate>;

pub(super) struct World {
    pub hosts: [Host; 2],
    pub net: Net,
    pub now: Instant,
    rng: Rng,
    wire: BinaryHeap<Reverse<(Instant, u64, usize)>>,
    flying: Vec<Option<SegmentOut>>,
    free_at: [Instant; 2],
    /// Every segment that was sent, with its sender.
    pub trace: Vec<(Instant, usize, TcpHeader, usize)>,
    pub verdicts: Vec<Verdict>,
    /// Decides by time, sender and segment, besides `net`.
    pub fate: Option<Fates>,
}

impl World {
    pub(crate) fn info(&self, host: usize, id: ConnId) -> Result<TcpInfo, SocketError> {
        self.hosts[host].tcp.info(self.now, id)
    }

    pub(crate) fn new(seed: u64, net: Net) -> World {
        World::with(seed, net, TcpConfig::default())
    }

    pub(crate) fn with(seed: u64, net: Net, config: TcpConfig) -> World {
        let host = |n: u8| {
            let mut rng = Rng::seeded(seed ^ u64::from(n) << 32);
            let mut tcp = Tcp::new(&mut rng);
            *tcp.config_mut() = config.clone();
            Host {
                tcp,
                rng,
                stats: Stats::default(),
                out: Out::default(),
                addr: [10, 0, 0, n].into(),
            }
        };
        World {
            hosts: [host(1), host(2)],
            net,
            now: Instant::from_nanos(1_000_000_000),
            rng: Rng::seeded(seed ^ 0x5eed),
            wire: BinaryHeap::new(),
            flying: Vec::new(),
            free_at: [Instant::ZERO; 2],
            trace: Vec::new(),
            verdicts: Vec::new(),
            fate: None,
        }
    }

    /// Decides what becomes of those data segments of A that `which` picks by their number, which counts from 1.
    pub(crate) fn befall(&mut self, fate: Fate, which: impl Fn(usize) -> bool + 'static) {
        let mut sent = 0;
        self.fate = Some(Box::new(move |_, host, s| {
            if host != A || s.payload.is_empty() {
                return Fate::Arrives;
            }
            sent += 1;
            match which(sent) {
                true => fate,
                false => Fate::Arrives,
            }
        }));
    }

    pub(crate) fn addr(&self, host: usize, port: u16) -> SocketAddr {
        SocketAddr::new(self.hosts[host].addr, port)
    }

    /// Runs `f` on one host's TCP, then puts what it sends on the wire.
    pub(crate) fn on<R>(&mut self, host: usize, f: impl FnOnce(&mut Tcp, &mut Cx<'_>) -> R) -> R {
        let h = &mut self.hosts[host];
        let mut cx = Cx {
            now: self.now,
            rng: &mut h.rng,
            stats: &mut h.stats,
            out: &mut h.out,
        };
        let r = f(&mut h.tcp, &mut cx);
        let mut sent = Vec::new();
        while let Some(s) = h.tcp.poll_transmit(&mut cx) {
            sent.push(s);
        }
        for waker in h.out.wakes.drain(..) {
            waker.wake();
        }
        for s in sent {
            self.send(host, s);
        }
        r
    }

    fn send(&mut self, host: usize, s: SegmentOut) {
        self.trace.push((self.now, host, s.header, s.payload.len()));
        let pieces = match s.gso {
            Some(size) if self.net.cut => cut(&s, size),
            _ => vec![s],
        };
        for piece in pieces {
            self.put(host, piece);
        }
    }

    fn put(&mut self, host: usize, s: SegmentOut) {
        if self.rng.chance(self.net.loss) {
            return;
        }
        let now = self.now;
        let fate = self.fate.as_mut();
        let fate = fate.map_or(Fate::Arrives, |f| f(now, host, &s));
        let mut s = s;
        if fate == Fate::Marked && s.tos & 3 != 0 {
            s.tos |= 3;
        }
        let (late, again) = match fate {
            Fate::Arrives | Fate::Marked => (Duration::ZERO, None),
            Fate::Lost => return,
            Fate::Late(by) => (by, None),
            Fate::Twice(by) => (Duration::ZERO, Some(by)),
        };
        let doubled = self.rng.chance(self.net.duplicate).then_some(late);
        for late in [Some(late), doubled, again].into_iter().flatten() {
            let mut at = self.now;
            if let Some(rate) = self.net.bits_per_second {
                let bits = 8 * (s.header.len() + s.payload.len() + 20) as u64;
                at = at.max(self.free_at[host]) + Duration::from_nanos(bits * 1_000_000_000 / rate);
                self.free_at[host] = at;
            }
            at += self.net.delay + late;
            if self.rng.chance(self.net.reorder) {
                at += self.net.delay.mul_f64(2.0 * self.rng.unit());
            }
            let n = self.flying.len();
            self.flying.push(Some(s.clone()));
            self.wire.push(Reverse((at, n as u64, 1 - host)));
        }
    }

    /// Delivers a segment as it is, header bytes and all.
    pub(crate) fn deliver(&mut self, host: usize, s: SegmentOut) -> Verdict {
        let mut bytes = vec![0; s.header.len()];
        s.header.emit(&mut bytes);
        let (header, len) = TcpHeader::parse(&bytes).expect("we emit what we can parse");
        assert_eq!((header, len), (s.header, bytes.len()));
        if let Some(size) = s.gso {
            assert!(usize::from(size) < s.payload.len());
        }
        let path = self.net.path;
        let v = self.on(host, |tcp, cx| {
            tcp.input(
                cx,
                SegmentIn {
                    header: &header,
                    ..heard(&s, path)
                },
            )
        });
        self.verdicts.push(v);
        v
    }

    fn next_event(&self) -> Option<Instant> {
        let wire = self.wire.peek().map(|Reverse(e)| e.0);
        let timers = self
            .hosts
            .iter()
            .filter_map(|h| h.tcp.next_deadline())
            .min();
        wire.into_iter().chain(timers).min()
    }

    /// Makes one thing happen; false when nothing ever will.
    pub(crate) fn step(&mut self) -> bool {
        let Some(at) = self.next_event() else {
            return false;
        };
        let tick = self.net.tick.as_nanos() as u64;
        let at = match tick {
            0 => at,
            _ => Instant::from_nanos(at.as_nanos().next_multiple_of(tick)),
        };
        self.now = self.now.max(at);
        if let Some(Reverse((at, n, to))) = self.wire.peek().copied()
            && at <= self.now
        {
            self.wire.pop();
            let s = self.flying[n as usize].take().expect("delivered once");
            if self.wire.is_empty() {
                self.flying.clear();
            }
            self.deliver(to, s);
            return true;
        }
        for host in [A, B] {
            self.on(host, |tcp, cx| tcp.on_deadline(cx));
        }
        true
    }

    pub(crate) fn run_for(&mut self, d: Duration) {
        let until = self.now + d;
        while self.next_event().is_some_and(|at| at <= until) {
            self.step();
        }
        self.now = until;
    }

    /// Runs until nothing more can happen.
    pub(crate) fn run_out(&mut self) {
        let mut steps = 0;
        while self.step() {
            steps += 1;
            assert!(steps < 2_000_000, "never comes to rest");
        }
    }

    pub(crate) fn options(&self, host: usize) -> Options {
        Options::new(self.hosts[host].tcp.config(), Domain::V4)
    }

    pub(crate) fn listen(&mut self, host: usize, port: u16, backlog: usize) -> ListenerId {
        let (addr, options) = (self.addr(host, port), self.options(host));
        self.on(host, |tcp, cx| {
            tcp.listen(cx, addr, backlog, options, Reuse::Exclusive)
        })
        .expect("the port is free")
        .0
    }

    pub(crate) fn connect(&mut self, from: usize, port: u16) -> ConnId {
        let (local, remote) = (self.addr(from, 0), self.addr(1 - from, port));
        let (path, options) = (self.net.path, self.options(from));
        self.on(from, |tcp, cx| {
            tcp.connect(cx, local, remote, path, options, Reuse::Exclusive)
        })
        .expect("nothing is in the way")
    }

    pub(crate) fn accept(&mut self, host: usize, l: ListenerId) -> ConnId {
        self.on(host, |tcp, cx| tcp.accept(cx, l))
            .expect("a connection waits")
            .0
    }

    /// A connection from A to a listener at B.
    pub(crate) fn pair(&mut self) -> (ConnId, ConnId) {
        let l = self.listen(B, 80, 8);
        let a = self.connect(A, 80);
        self.run_for(Duration::from_millis(200));
        let b = self.accept(B, l);
        self.on(B, |tcp, cx| tcp.close_listener(cx, l));
        assert_eq!(self.state(A, a), Some(TcpState::Established));
        assert_eq!(self.state(B, b), Some(TcpState::Established));
        (a, b)
    }

    pub(crate) fn state(&self, host: usize, id: ConnId) -> Option<TcpState> {
        let info = self.info(host, id);
        info.ok().map(|i| i.state)
    }

    pub(crate) fn write(
        &mut self,
        host: usize,
        id: ConnId,
        data: &[u8],
    ) -> Result<usize, SocketError> {
        self.on(host, |tcp, cx| tcp.send_copy(cx, id, data))
    }

    pub(crate) fn read(
        &mut self,
        host: usize,
        id: ConnId,
        max: usize,
    ) -> Result<Vec<u8>, SocketError> {
        self.on(host, |tcp, cx| {
            let mut p = Payload::new();
            let n = tcp.recv(cx, id, max, &mut p, ReadMode::Consume)?;
            assert_eq!(n, p.len());
            Ok(p.to_bytes().to_vec())
        })
    }

    /// Carries so many bytes from A to B.
    pub(crate) fn carry(&mut self, a: ConnId, b: ConnId, bytes: usize) {
        let data = pattern(bytes, 3);
        let (mut sent, mut got) = (0, Vec::new());
        while got.len() < data.len() {
            sent += self.write(A, a, &data[sent..]).unwrap_or(0);
            if let Ok(mut more) = self.read(B, b, 1 << 20) {
                got.append(&mut more);
            }
            assert!(got.len() == data.len() || self.step(), "stuck");
        }
        assert!(got == data);
    }

    pub(crate) fn shutdown(&mut self, host: usize, id: ConnId) {
        self.on(host, |tcp, cx| {
            tcp.shutdown(cx, id, std::net::Shutdown::Write)
        })
        .expect("connected");
    }

    pub(crate) fn close(&mut self, host: usize, id: ConnId) {
        self.on(host, |tcp, cx| tcp.close(cx, id));
    }

    /// Both hosts have nothing left: no connection, record, deadline.
    pub(crate) fn assert_empty(&mut self) {
        for host in [A, B] {
            let tcp = &self.hosts[host].tcp;
            assert_eq!(
                tcp.counts(),
                TcpCounts {
                    listeners: tcp.counts().listeners,
                    ..TcpCounts::default()
                }
            );
            assert_eq!(tcp.by_tuple.len(), 0);
            assert_eq!(tcp.local_use.len(), 0);
        }
    }

    /// Flags of what `host` sent, in order, as text.
    pub(crate) fn flags(&self, host: usize) -> Vec<String> {
        self.trace
            .iter()
            .filter(|t| t.1 == host)
            .map(|t| {
                let ack = if t.2.ack.is_some() { "A" } else { "" };
                format!("{:?}{ack}{}", t.2.flags, if t.3 > 0 { "d" } else { "" })
            })
            .collect()
    }
}

fn cut(s: &SegmentOut, size: u16) -> Vec<SegmentOut> {
    let size = usize::from(size);
    let total = s.payload.len();
    (0..total)
        .step_by(size)
        .map(|at| {
            let end = (at + size).min(total);
            let mut piece = s.clone();
            piece.payload = s.payload.slice(at..end);
            piece.gso = None;
            piece.header.seq = s.header.seq.wrapping_add(at as u32);
            if end < total {
                let keep = [TcpFlags::URG, TcpFlags::ECE, TcpFlags::CWR];
                piece.header.flags = keep
                    .into_iter()
                    .filter(|f| s.header.flags.has(*f))
                    .fold(TcpFlags::NONE, |a, f| a | f);
            }
            piece
        })
        .collect()
}

/// Bytes that differ at every position one is likely to confuse with another.
pub(super) fn pattern(n: usize, salt: u32) -> Vec<u8> {
    (0..n as u32)
        .map(|i| (i.wrapping_mul(2_654_435_761).rotate_left(7) ^ salt) as u8)
        .collect()
}

/// A segment that was sent, as the other side hears it.
pub(super) fn heard(s: &SegmentOut, path: Path) -> SegmentIn<'_> {
    SegmentIn {
        src: s.src,
        dst: s.dst,
        header: &s.header,
        payload: s.payload.clone(),
        traffic_class: s.tos,
        gso_segment: s.gso,
        on: None,
        path,
    }
}

/// A segment as it comes from the other side, whoever wrote it.
pub(super) fn arriving(
    src: SocketAddr,
    dst: SocketAddr,
    header: TcpHeader,
    payload: Payload,
) -> SegmentOut {
    SegmentOut {
        payload,
        header,
        ..SegmentOut::new(src, dst, 0, 0, header)
    }
}

//! A script for a connection: what the programs at both ends do, and what happens to each segment between them, forged
//! ones included.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use vnet::net::{SocketOptions, TcpListener, TcpStream};
use vnet::{Congestion, OwnedVnet, Port, Resource, System};

use crate::accounts::{assert_clean, assert_conserved};
use crate::frames::{ETHER_LEN, IPV4, fix_checksums};
use crate::topology::vnet;

/// Where TCP's header begins in the frames of a vnet, which sends no options of IP.
const TCP: usize = ETHER_LEN + 20;
/// What one write or read moves at the most.
const CHUNK: usize = 40_000;
/// What a vnet may hold.
const HELD: u64 = 4 << 20;
/// In an honest network, everything is over after so long, and so many steps: fifteen retransmissions, or two hours of
/// keepalive, and TIME-WAIT.
const PATIENCE: Duration = Duration::from_secs(6 * 3600);
const STEPS: usize = 200_000;

/// The bytes as a script of two ends of a connection and the network between them. No panic; what is read is what was
/// written, unless segments were forged; when the network is honest again, whatever was written arrives, and when both
/// programs have closed, nothing is left before long.
pub fn tcp(input: &[u8]) {
    let mut bytes = input.iter().copied();
    let mut world = World::new(bytes.next().unwrap_or(0));
    while let Some(op) = bytes.next() {
        world.step(op, &mut bytes);
    }
    world.finish();
}

/// One end: its vnet, the outside of its port, and what its program has.
struct End {
    vnet: OwnedVnet,
    port: Port,
    stream: Option<TcpStream>,
    written: u64,
    read: u64,
    /// The program has ended its side, or the connection has failed: no more is promised.
    is_over: bool,
    /// Frames on their way from here.
    flying: VecDeque<Vec<u8>>,
    last: Vec<u8>,
}

struct World {
    system: System,
    ends: [End; 2],
    listener: Option<TcpListener>,
    is_forged: bool,
}

/// The byte of a stream at a place.
fn byte(at: u64) -> u8 {
    (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

impl World {
    /// The lowest bits say what the vnets are set to.
    fn new(kind: u8) -> World {
        let system = System::manual(1);
        let ends = ["a", "b"].map(|name| {
            let vnet = vnet(&system, name);
            let port = vnet.port("eth0", None).expect("free");
            let address = if name == "a" { 1 } else { 2 };
            let address = format!("192.0.2.{address}/24").parse().expect("a prefix");
            vnet.add_address("eth0", address).expect("free");
            vnet.set_limit(Resource::BufferedBytes, HELD)
                .expect("alive");
            let features = ["sack.enable", "timestamps", "window_scaling"];
            for (bit, name) in features.into_iter().enumerate() {
                let value = u8::from(kind >> bit & 1 == 0).to_string();
                let name = format!("net.inet.tcp.{name}");
                vnet.set_sysctl(&name, value.as_str()).expect("a value");
            }
            let ecn = if kind & 8 == 0 { "grant" } else { "accurate" };
            vnet.set_sysctl("net.inet.tcp.ecn", ecn).expect("a value");
            let control = ["cubic", "reno", "bbr", "dctcp"][usize::from(kind >> 4 & 3)];
            vnet.set_sysctl("net.inet.tcp.cc", control)
                .expect("a value");
            End {
                vnet,
                port,
                stream: None,
                written: 0,
                read: 0,
                is_over: false,
                flying: VecDeque::new(),
                last: Vec::new(),
            }
        });
        let mut world = World {
            system,
            ends,
            listener: None,
            is_forged: false,
        };
        let to = ([192, 0, 2, 2], 80).into();
        let listener = TcpListener::bind_in(&world.ends[1].vnet, to).expect("free");
        listener.set_nonblocking(true).expect("alive");
        world.listener = Some(listener);
        let stream = TcpStream::start_connect_in(&world.ends[0].vnet, to).expect("a route");
        stream.set_nonblocking(true).expect("alive");
        world.ends[0].stream = Some(stream);
        world.settle();
        world
    }

    /// Everything that is due now, up to the network.
    fn settle(&mut self) -> Option<Duration> {
        let now = self.system.now();
        let mut next = self.system.poll(now);
        loop {
            let mut any = false;
            for n in 0..2 {
                while let Some(frame) = self.ends[n].port.recv() {
                    let frame = frame.to_vec();
                    // Whoever asks for an address is answered whatever happens to segments.
                    if frame[12..14] != IPV4.to_be_bytes() {
                        let _ = self.ends[1 - n].port.send(frame);
                        any = true;
                        continue;
                    }
                    self.ends[n].last.clone_from(&frame);
                    self.ends[n].flying.push_back(frame);
                }
            }
            if !any {
                break;
            }
            next = self.system.poll(now);
        }
        if self.ends[1].stream.is_none()
            && let Some(listener) = &self.listener
            && let Ok((stream, _)) = listener.accept()
        {
            stream.set_nonblocking(true).expect("alive");
            self.ends[1].stream = Some(stream);
        }
        next.map(|at| at - now)
    }

    fn deliver(&mut self, from: usize, frame: Vec<u8>) {
        let _ = self.ends[1 - from].port.send(frame);
    }

    fn step(&mut self, op: u8, bytes: &mut impl Iterator<Item = u8>) {
        let n = usize::from(op & 1);
        let mut more = || bytes.next().unwrap_or(0);
        match op >> 1 & 15 {
            0..=3 => {
                if let Some(frame) = self.ends[n].flying.pop_front() {
                    self.deliver(n, frame);
                }
            }
            4 => drop(self.ends[n].flying.pop_front()),
            5 => {
                if let Some(frame) = self.ends[n].flying.front().cloned() {
                    self.deliver(n, frame);
                }
            }
            6 => {
                if let Some(frame) = self.ends[n].flying.pop_front() {
                    self.ends[n].flying.push_back(frame);
                }
            }
            7 => {
                let mut frame = self.ends[n].last.clone();
                forge(&mut frame, [more(), more(), more(), more()]);
                self.is_forged = true;
                self.deliver(n, frame);
            }
            8 => {
                if let Some(frame) = self.ends[n].flying.front_mut()
                    && frame[ETHER_LEN + 1] & 3 != 0
                {
                    frame[ETHER_LEN + 1] |= 3;
                    fix_checksums(frame);
                }
            }
            9 | 10 => {
                let times = [1, 5, 40, 210, 1000, 3000, 30_000, 70_000];
                let time = Duration::from_millis(times[usize::from(more() & 7)]);
                self.system.poll(self.system.now() + time);
            }
            11 | 12 => self.ends[n].write(usize::from(more()) * CHUNK / 255 + 1),
            13 => drop(self.ends[n].read(usize::from(more()) * CHUNK / 255 + 1, self.is_forged)),
            14 => self.ends[n].set(more()),
            _ => self.ends[n].end(more()),
        }
        self.settle();
        for end in &self.ends {
            assert_conserved(&end.vnet);
        }
    }

    /// An honest network: what is on its way arrives. Returns what is due next.
    fn honest(&mut self) -> Option<Duration> {
        for n in 0..2 {
            while let Some(frame) = self.ends[n].flying.pop_front() {
                self.deliver(n, frame);
            }
        }
        let next = self.settle();
        match self.ends.iter().any(|end| !end.flying.is_empty()) {
            // A moment later, as on any wire: two ends that answer each other for ever take time for it.
            true => Some(Duration::from_millis(1)),
            false => next,
        }
    }

    /// Runs an honest network until `is_done`, or nothing more is due.
    fn run(&mut self, what: &str, mut is_done: impl FnMut(&mut World) -> bool) {
        let until = self.system.now() + PATIENCE;
        for _ in 0..STEPS {
            let next = self.honest();
            if is_done(self) {
                return;
            }
            let Some(next) = next.filter(|next| *next < PATIENCE) else {
                return;
            };
            let at = self.system.now() + next.max(Duration::from_micros(1));
            if at >= until {
                // A forged window that is closed stays closed, because what the peer says of it seems older. As long as
                // the peer answers, such a connection lasts; closing it ends it.
                let waits = what == "transfer" && self.is_forged;
                assert!(waits, "{what}: still busy after {PATIENCE:?}");
                return;
            }
            self.system.poll(at);
        }
        panic!("{what}: still busy after {STEPS} steps");
    }

    fn finish(mut self) {
        // A handshake that is under way ends.
        self.run("opening", |w| {
            w.ends[1].stream.is_some() || w.ends[0].has_failed()
        });
        // What was written arrives.
        self.run("transfer", |w| {
            let forged = w.is_forged;
            w.ends
                .iter_mut()
                .for_each(|end| while end.read(CHUNK, forged) {});
            (0..2).all(|n| w.is_delivered(n))
        });
        if !self.is_forged {
            assert!(
                (0..2).all(|n| self.is_delivered(n)),
                "stuck: {}",
                self.words()
            );
        }
        // And all of it ends.
        self.listener = None;
        for end in &mut self.ends {
            end.stream = None;
        }
        self.run("closing", |_| false);
        for end in &self.ends {
            let left = end.vnet.sockets().expect("alive");
            assert!(left.is_empty(), "{left:?}");
            assert_conserved(&end.vnet);
        }
        let World { ends, .. } = self;
        for end in ends {
            drop(end.port);
            assert_clean(&end.vnet.destroy());
        }
    }

    /// Whether the end `n` has read all that the other has written, or one of them is over.
    fn is_delivered(&self, n: usize) -> bool {
        let (to, from) = (&self.ends[n], &self.ends[1 - n]);
        to.is_over || from.is_over || to.stream.is_none() || to.read == from.written
    }

    fn words(&self) -> String {
        let words = |end: &End| format!("wrote {}, read {}", end.written, end.read);
        self.ends.each_ref().map(words).join("; ")
    }
}

impl End {
    fn write(&mut self, len: usize) {
        let at = self.written;
        let data: Vec<u8> = (at..at + len as u64).map(byte).collect();
        if let Some(stream) = &mut self.stream {
            match stream.write(&data) {
                Ok(n) => self.written += n as u64,
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                Err(_) => self.is_over = true,
            }
        }
    }

    /// Reads once; true when there was something.
    fn read(&mut self, len: usize, forged: bool) -> bool {
        let mut data = vec![0; len];
        let Some(stream) = &mut self.stream else {
            return false;
        };
        match stream.read(&mut data) {
            Ok(n) => {
                let at = self.read;
                let expected = (at..at + n as u64).map(byte);
                assert!(forged || data[..n].iter().copied().eq(expected), "at {at}");
                self.read += n as u64;
                n > 0
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => false,
            Err(_) => {
                self.is_over = true;
                false
            }
        }
    }

    fn has_failed(&mut self) -> bool {
        let error = self.stream.as_ref().map(TcpStream::take_error);
        self.is_over |= matches!(error, None | Some(Ok(Some(_)) | Err(_)));
        self.is_over
    }

    fn set(&mut self, what: u8) {
        let Some(stream) = &self.stream else {
            return;
        };
        let mut options: SocketOptions = stream.options().expect("alive");
        match what & 7 {
            0 => options.nodelay = !options.nodelay,
            1 => options.cork = !options.cork,
            2 => options.quickack = !options.quickack,
            3 => options.keepalive = !options.keepalive,
            4 => options.linger = Some(Duration::from_millis(u64::from(what >> 3) * 100)),
            5 => options.recv_buffer = Some(2000 * usize::from(what >> 3) + 1),
            6 => options.send_buffer = Some(2000 * usize::from(what >> 3) + 1),
            _ => {
                let all = [
                    Congestion::Cubic,
                    Congestion::Reno,
                    Congestion::Bbr,
                    Congestion::Dctcp,
                ];
                options.congestion = all[usize::from(what >> 3 & 3)];
            }
        }
        let _ = stream.set_options(&options);
    }

    fn end(&mut self, how: u8) {
        let Some(stream) = &self.stream else {
            return;
        };
        // Half of these bytes do nothing, so that scripts are long.
        match how {
            0..40 => drop(stream.shutdown(Shutdown::Write)),
            40..60 => {
                let _ = stream.shutdown(Shutdown::Both);
                self.is_over = true;
            }
            60..80 => {
                self.stream = None;
                self.is_over = true;
            }
            _ => {}
        }
    }
}

/// Changes numbers, flags, the window or the length of a segment.
fn forge(frame: &mut Vec<u8>, [what, a, b, c]: [u8; 4]) {
    if frame.len() < TCP + 20 {
        return;
    }
    let add = |field: &mut [u8], by: u32| {
        let old = u32::from_be_bytes(field.try_into().expect("four bytes"));
        field.copy_from_slice(&old.wrapping_add(by).to_be_bytes());
    };
    // Close by, or anywhere.
    let by = match what & 0x80 {
        0 => i32::from(i16::from_be_bytes([a, b])) as u32,
        _ => u32::from_be_bytes([a, b, c, 0]),
    };
    if what & 1 != 0 {
        add(&mut frame[TCP + 4..TCP + 8], by);
    }
    if what & 2 != 0 {
        add(&mut frame[TCP + 8..TCP + 12], by);
    }
    if what & 4 != 0 {
        frame[TCP + 13] = c;
    }
    if what & 8 != 0 {
        frame[TCP + 14..TCP + 16].copy_from_slice(&[a, b]);
    }
    if what & 16 != 0 {
        let options = TCP + 20..frame.len().min(TCP + 60);
        let at = options.start + usize::from(a) % options.len().max(1);
        if let Some(byte) = frame.get_mut(at) {
            *byte = b;
        }
    }
    if what & 32 != 0 {
        let longer = usize::from(c) * 4;
        frame.resize(frame.len() + longer, 0x55);
        let total = (frame.len() - ETHER_LEN).min(1500);
        frame.truncate(ETHER_LEN + total);
        frame[ETHER_LEN + 2..ETHER_LEN + 4].copy_from_slice(&(total as u16).to_be_bytes());
    }
    fix_checksums(frame);
}

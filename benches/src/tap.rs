//! Through a TAP, against two kernels on a veth pair: one stream and four both ways, by calls that copy and by reference,
//! a byte there and back, connections a second, and small datagrams; and through a TAP with several queues, against one
//! with a single queue.
//!
//! On one side a vnet and the kernel, in a network namespace of its own, are neighbours on a TAP; on
//! the other side the kernel, in two namespaces, talks to itself over a veth pair. Both run over
//! blocking sockets with a thread at each end. It takes the right to make namespaces and TAPs.

mod small;

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroU16;
use std::thread;
use std::time::Instant;

use bytes::Bytes;
use ipnet::Ipv4Net;
use vnet::{Offload, OwnedVnet, System};
use vnet_tap::{NetNs, Tap, TapConfig};

use crate::case::Options;
use crate::compare::{Contest, Side, SideError, Unit};
use crate::kernel::namespace;
use crate::rr::per_second;
use crate::stream::hand_over;

/// The addresses of both neighbours (RFC 2544, benchmarking).
const NEAR: Ipv4Addr = Ipv4Addr::new(198, 18, 3, 1);
const FAR: Ipv4Addr = Ipv4Addr::new(198, 18, 3, 2);
/// Bytes handed to one call.
const CHUNK: usize = 128 * 1024;

/// What is done over the pair.
#[derive(Clone, Copy)]
enum Work {
    /// So many streams from the near end to the far one.
    Out(usize),
    /// So many streams from the far end to the near one.
    In(usize),
    /// One byte there and back.
    RequestReply,
    /// Connections made and closed.
    Connect,
    /// Small datagrams from the near end to the far one.
    SmallOut,
    /// Small datagrams from the far end to the near one.
    SmallIn,
}

/// How the vnet's end of a stream is given bytes, and gives them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Calls {
    /// As the kernel's: into and out of memory of the caller's.
    Copying,
    /// By reference (`send_bytes`, `recv_bytes`), which the kernel does not have.
    ByReference,
}

/// A case: work, IP MTU, what the TAP leaves undone, and how the vnet is called.
macro_rules! cases {
    ($($(#[$doc:meta])* $name:ident: $work:expr, $mtu:literal, $offload:ident, $calls:ident;)*) => {
        $($(#[$doc])*
        ///
        /// # Errors
        /// Namespaces or TAPs cannot be made here.
        pub fn $name(options: &Options) -> Result<Contest, SideError> {
            contest($work, $mtu, Offload::$offload, Calls::$calls, options)
        })*
    };
}

cases! {
    /// Bulk from the vnet, MTU 1500.
    out_1500: Work::Out(1), 1500, Full, Copying;
    /// Bulk to the vnet, MTU 1500.
    in_1500: Work::In(1), 1500, Full, Copying;
    /// Bulk from the vnet, MTU 65520.
    out_65520: Work::Out(1), 65520, Full, Copying;
    /// Bulk to the vnet, MTU 65520.
    in_65520: Work::In(1), 65520, Full, Copying;
    /// Four streams from the vnet, MTU 1500.
    four_out_1500: Work::Out(4), 1500, Full, Copying;
    /// Four streams to the vnet, MTU 1500.
    four_in_1500: Work::In(4), 1500, Full, Copying;
    /// Four streams from the vnet, MTU 65520.
    four_out_65520: Work::Out(4), 65520, Full, Copying;
    /// Four streams to the vnet, MTU 65520.
    four_in_65520: Work::In(4), 65520, Full, Copying;
    /// Bulk from the vnet by reference, MTU 1500.
    out_1500_bytes: Work::Out(1), 1500, Full, ByReference;
    /// Bulk to the vnet by reference, MTU 1500.
    in_1500_bytes: Work::In(1), 1500, Full, ByReference;
    /// Four streams from the vnet by reference, MTU 1500.
    four_out_1500_bytes: Work::Out(4), 1500, Full, ByReference;
    /// Four streams to the vnet by reference, MTU 1500.
    four_in_1500_bytes: Work::In(4), 1500, Full, ByReference;
    /// A byte there and back.
    request_reply: Work::RequestReply, 1500, Full, Copying;
    /// Connections.
    connect: Work::Connect, 1500, Full, Copying;
    /// Small datagrams from the vnet.
    small_out: Work::SmallOut, 1500, Full, Copying;
    /// Small datagrams to the vnet.
    small_in: Work::SmallIn, 1500, Full, Copying;
    /// Bulk from the vnet over a plain TAP, MTU 1500.
    plain_out_1500: Work::Out(1), 1500, None, Copying;
    /// Bulk to the vnet over a plain TAP, MTU 1500.
    plain_in_1500: Work::In(1), 1500, None, Copying;
}

/// A case with several queues: work, and how many.
macro_rules! cases_of_queues {
    ($($(#[$doc:meta])* $name:ident: $work:expr, $queues:literal;)*) => {
        $($(#[$doc])*
        ///
        /// # Errors
        /// Namespaces or TAPs with several queues cannot be made here.
        pub fn $name(options: &Options) -> Result<Contest, SideError> {
            let tap = |queues| Pair::over_tap(1500, Offload::Full, Calls::Copying, queues);
            let peer_name = "the same with one queue".into();
            Ok(sides($work, tap($queues)?, tap(1)?, peer_name, options))
        })*
    };
}

cases_of_queues! {
    /// Four streams from the vnet over two queues.
    queues_2_out: Work::Out(4), 2;
    /// Four streams to the vnet over two queues.
    queues_2_in: Work::In(4), 2;
    /// Four streams from the vnet over four queues.
    queues_4_out: Work::Out(4), 4;
    /// Four streams to the vnet over four queues.
    queues_4_in: Work::In(4), 4;
}

fn contest(
    work: Work,
    mtu: u16,
    offload: Offload,
    calls: Calls,
    options: &Options,
) -> Result<Contest, SideError> {
    let ours = Pair::over_tap(mtu, offload, calls, 1)?;
    let peer = Pair::over_veth(mtu)?;
    let peer_name = "kernel over veth".into();
    Ok(sides(work, ours, peer, peer_name, options))
}

fn sides(work: Work, ours: Pair, peer: Pair, peer_name: String, options: &Options) -> Contest {
    let unit = match work {
        Work::Out(_) | Work::In(_) => Unit::GbitPerSecond,
        Work::RequestReply | Work::Connect => Unit::TransactionsPerSecond,
        Work::SmallOut | Work::SmallIn => Unit::DatagramsPerSecond,
    };
    let side = |pair: Pair| -> Box<dyn Side> {
        Box::new(Measured {
            pair,
            work,
            options: *options,
        })
    };
    Contest {
        unit,
        ours: side(ours),
        peer: side(peer),
        peer_name,
    }
}

/// Two neighbours.
struct Pair {
    near: Station,
    far: Station,
}

/// Somebody with sockets.
enum Station {
    Kernel(NetNs, Ipv4Addr),
    Vnet {
        /// Declared first: it is detached before its vnet is destroyed.
        _tap: Tap,
        vnet: OwnedVnet,
        address: Ipv4Addr,
        calls: Calls,
    },
}

impl Pair {
    fn over_tap(mtu: u16, offload: Offload, calls: Calls, queues: u16) -> Result<Pair, SideError> {
        let fail = |e: &dyn std::error::Error| SideError::new(e.to_string());
        let kernel = namespace()?;
        let vnet = System::threads().create("near").map_err(|e| fail(&e))?;
        let inside = (*vnet).clone();
        let config = TapConfig {
            offload,
            queues: NonZeroU16::new(queues).expect("a TAP has a queue"),
            ..TapConfig::default()
        };
        let tap = kernel
            .run(move || Tap::attach(&inside, "tap0", config))
            .map_err(|e| fail(&e))?;
        let host = tap.host_name().to_owned();
        kernel.ip(&format!("link set {host} mtu {mtu} up"))?;
        kernel.ip(&format!("addr add {FAR}/24 dev {host}"))?;
        let net = Ipv4Net::new(NEAR, 24).expect("24 is a prefix length");
        vnet.set_ip_mtu("tap0", mtu).map_err(|e| fail(&e))?;
        vnet.add_address("tap0", net.into()).map_err(|e| fail(&e))?;
        Ok(Pair {
            near: Station::Vnet {
                _tap: tap,
                vnet,
                address: NEAR,
                calls,
            },
            far: Station::Kernel(kernel, FAR),
        })
    }

    fn over_veth(mtu: u16) -> Result<Pair, SideError> {
        let (near, far) = (namespace()?, namespace()?);
        near.ip(&format!(
            "link add veth0 type veth peer name veth0 netns {}",
            far.thread_id()
        ))?;
        for (kernel, address) in [(&near, NEAR), (&far, FAR)] {
            kernel.ip(&format!("addr add {address}/24 dev veth0"))?;
            kernel.ip(&format!("link set veth0 mtu {mtu} up"))?;
        }
        Ok(Pair {
            near: Station::Kernel(near, NEAR),
            far: Station::Kernel(far, FAR),
        })
    }
}

/// A connected TCP socket of anybody's.
trait Stream: Read + Write + Send {
    /// Sends all of a chunk.
    fn send(&mut self, chunk: &Bytes) -> io::Result<()> {
        self.write_all(chunk)
    }

    /// Takes what has come, up to so much.
    fn receive(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.read(room)
    }
}

impl Stream for TcpStream {}

/// A vnet's.
struct Called {
    stream: vnet::net::TcpStream,
    calls: Calls,
}

impl Called {
    fn boxed(stream: vnet::net::TcpStream, calls: Calls) -> io::Result<Box<dyn Stream>> {
        stream.set_nodelay(true)?;
        Ok(Box::new(Called { stream, calls }))
    }
}

impl Read for Called {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buf)
    }
}

impl Write for Called {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.stream.write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

impl Stream for Called {
    fn send(&mut self, chunk: &Bytes) -> io::Result<()> {
        match self.calls {
            Calls::Copying => self.write_all(chunk),
            Calls::ByReference => hand_over(&self.stream, chunk),
        }
    }

    fn receive(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match self.calls {
            Calls::Copying => self.read(room),
            Calls::ByReference => Ok(self.stream.recv_bytes(room.len())?.len()),
        }
    }
}

/// A listening one.
enum Listener {
    Kernel(TcpListener),
    Vnet(vnet::net::TcpListener, Calls),
}

impl Station {
    fn listen(&self) -> io::Result<(Listener, SocketAddr)> {
        match self {
            Station::Kernel(ns, address) => {
                let address = *address;
                let listener = ns.run(move || TcpListener::bind((address, 0)))?;
                let at = listener.local_addr()?;
                Ok((Listener::Kernel(listener), at))
            }
            Station::Vnet {
                vnet,
                address,
                calls,
                ..
            } => {
                let listener = vnet::net::TcpListener::bind_in(vnet, (*address, 0))?;
                let at = listener.local_addr()?;
                Ok((Listener::Vnet(listener, *calls), at))
            }
        }
    }

    fn connect(&self, to: SocketAddr) -> io::Result<Box<dyn Stream>> {
        match self {
            Station::Kernel(ns, _) => {
                let stream = ns.run(move || TcpStream::connect(to))?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
            Station::Vnet { vnet, calls, .. } => {
                Called::boxed(vnet::net::TcpStream::connect_in(vnet, to)?, *calls)
            }
        }
    }
}

impl Listener {
    fn accept(&self) -> io::Result<Box<dyn Stream>> {
        match self {
            Listener::Kernel(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
            Listener::Vnet(listener, calls) => Called::boxed(listener.accept()?.0, *calls),
        }
    }
}

struct Measured {
    pair: Pair,
    work: Work,
    options: Options,
}

impl Side for Measured {
    fn measure(&mut self) -> Result<f64, SideError> {
        let Pair { near, far } = &self.pair;
        match self.work {
            Work::Out(streams) => self.bulk(near, far, streams),
            Work::In(streams) => self.bulk(far, near, streams),
            Work::RequestReply => self.request_reply(far, near),
            Work::Connect => self.connections(far, near),
            Work::SmallOut => small::measure(near, far, self.options.time),
            Work::SmallIn => small::measure(far, near, self.options.time),
        }
    }
}

impl Measured {
    /// What `receiver` gets from `sender` in a second by so many streams, from the first byte to the end of the last
    /// stream.
    fn bulk(&self, sender: &Station, receiver: &Station, streams: usize) -> Result<f64, SideError> {
        let (listener, at) = receiver.listen()?;
        let pairs: io::Result<Vec<_>> = (0..streams)
            .map(|_| {
                let to = sender.connect(at)?;
                Ok((to, listener.accept()?))
            })
            .collect();
        let pairs = pairs?;
        let Options { time, bytes } = self.options;
        let bytes = bytes.map(|bytes| bytes / streams as u64);
        let start = Instant::now();
        let ends: Vec<_> = pairs
            .into_iter()
            .map(|(mut to, mut from)| {
                let writer = thread::spawn(move || -> io::Result<u64> {
                    let (chunk, mut sent) = (Bytes::from(vec![0x5a; CHUNK]), 0);
                    while bytes.map_or(start.elapsed() < time, |bytes| sent < bytes) {
                        to.send(&chunk)?;
                        sent += CHUNK as u64;
                    }
                    Ok(sent)
                });
                let reader = thread::spawn(move || -> io::Result<u64> {
                    let (mut buf, mut received) = (vec![0; CHUNK], 0);
                    loop {
                        match from.receive(&mut buf)? {
                            0 => return Ok(received),
                            n => received += n as u64,
                        }
                    }
                });
                (writer, reader)
            })
            .collect();
        let mut total = 0;
        for (writer, reader) in ends {
            let received = reader.join().expect("a reader does not panic")?;
            let sent = writer.join().expect("a writer does not panic")?;
            if sent != received {
                let what = format!("{received} bytes of {sent} arrived");
                return Err(SideError::new(what));
            }
            total += received;
        }
        Ok(total as f64 * 8.0 / start.elapsed().as_secs_f64() / 1e9)
    }

    /// A byte from `client` to `server` and back.
    fn request_reply(&self, client: &Station, server: &Station) -> Result<f64, SideError> {
        let (listener, at) = server.listen()?;
        let mut asks = client.connect(at)?;
        let mut answers = listener.accept()?;
        let server = thread::spawn(move || -> io::Result<()> {
            let mut byte = [0];
            while answers.read(&mut byte)? == 1 {
                answers.write_all(&byte)?;
            }
            Ok(())
        });
        let figure = per_second(self.options.time, |request| {
            let mut byte = [request];
            asks.write_all(&byte)?;
            asks.read_exact(&mut byte)?;
            Ok(byte[0])
        });
        drop(asks);
        server.join().expect("the server does not panic")?;
        figure
    }

    /// Connections that `client` opens, over each of which `server` sends a byte before it closes.
    fn connections(&self, client: &Station, server: &Station) -> Result<f64, SideError> {
        let (listener, at) = server.listen()?;
        per_second(self.options.time, |request| {
            let mut stream = client.connect(at)?;
            let mut accepted = listener.accept()?;
            accepted.write_all(&[request])?;
            // The server closes first: TIME-WAIT is where the ports of the client are not.
            drop(accepted);
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            if stream.read(&mut [0])? != 0 {
                return Err(SideError::new("more than one byte came"));
            }
            Ok(byte[0])
        })
    }
}

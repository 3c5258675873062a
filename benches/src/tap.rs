//! Through a TAP, against two kernels on a veth pair: bulk both ways, a byte there and back, and
//! connections a second.
//!
//! On one side a vnet and the kernel, in a network namespace of its own, are neighbours on a TAP; on
//! the other side the kernel, in two namespaces, talks to itself over a veth pair. Both run over
//! blocking sockets with a thread at each end. It takes the right to make namespaces and TAPs.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Instant;

use ipnet::Ipv4Net;
use vnet::{Offload, OwnedVnet, System};
use vnet_tap::{NetNs, Tap, TapConfig};

use crate::case::Options;
use crate::compare::{Contest, Side, SideError, Unit};
use crate::rr::per_second;

/// The addresses of both neighbours (RFC 2544, benchmarking).
const NEAR: Ipv4Addr = Ipv4Addr::new(198, 18, 3, 1);
const FAR: Ipv4Addr = Ipv4Addr::new(198, 18, 3, 2);
/// Bytes handed to one call.
const CHUNK: usize = 128 * 1024;

/// What is done over the pair.
#[derive(Clone, Copy)]
enum Work {
    /// One stream from the near end to the far one.
    Out,
    /// One stream from the far end to the near one.
    In,
    /// One byte there and back.
    RequestReply,
    /// Connections made and closed.
    Connect,
}

/// A case: work, IP MTU, and what the TAP leaves undone.
macro_rules! cases {
    ($($(#[$doc:meta])* $name:ident: $work:ident, $mtu:literal, $offload:ident;)*) => {
        $($(#[$doc])*
        ///
        /// # Errors
        /// Namespaces or TAPs cannot be made here.
        pub fn $name(options: &Options) -> Result<Contest, SideError> {
            contest(Work::$work, $mtu, Offload::$offload, options)
        })*
    };
}

cases! {
    /// Bulk from the vnet, MTU 1500.
    out_1500: Out, 1500, Full;
    /// Bulk to the vnet, MTU 1500.
    in_1500: In, 1500, Full;
    /// Bulk from the vnet, MTU 65520.
    out_65520: Out, 65520, Full;
    /// Bulk to the vnet, MTU 65520.
    in_65520: In, 65520, Full;
    /// A byte there and back.
    request_reply: RequestReply, 1500, Full;
    /// Connections.
    connect: Connect, 1500, Full;
    /// Bulk from the vnet over a plain TAP, MTU 1500.
    plain_out_1500: Out, 1500, None;
    /// Bulk to the vnet over a plain TAP, MTU 1500.
    plain_in_1500: In, 1500, None;
}

fn contest(
    work: Work,
    mtu: u16,
    offload: Offload,
    options: &Options,
) -> Result<Contest, SideError> {
    let unit = match work {
        Work::Out | Work::In => Unit::GbitPerSecond,
        Work::RequestReply | Work::Connect => Unit::TransactionsPerSecond,
    };
    let side = |pair: Pair| Measured {
        pair,
        work,
        options: *options,
    };
    Ok(Contest {
        unit,
        ours: Box::new(side(Pair::over_tap(mtu, offload)?)),
        peer: Box::new(side(Pair::over_veth(mtu)?)),
        peer_name: format!("kernel over veth, MTU {mtu}"),
    })
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
    },
}

impl Pair {
    fn over_tap(mtu: u16, offload: Offload) -> Result<Pair, SideError> {
        let fail = |e: &dyn std::error::Error| SideError::new(e.to_string());
        let kernel = NetNs::new()?;
        let vnet = System::threads().create("near").map_err(|e| fail(&e))?;
        let inside = (*vnet).clone();
        let config = TapConfig {
            offload,
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
            },
            far: Station::Kernel(kernel, FAR),
        })
    }

    fn over_veth(mtu: u16) -> Result<Pair, SideError> {
        let (near, far) = (NetNs::new()?, NetNs::new()?);
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
trait Stream: Read + Write + Send {}

impl<T: Read + Write + Send> Stream for T {}

/// A listening one.
enum Listener {
    Kernel(TcpListener),
    Vnet(vnet::net::TcpListener),
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
            Station::Vnet { vnet, address, .. } => {
                let listener = vnet::net::TcpListener::bind_in(vnet, (*address, 0))?;
                let at = listener.local_addr()?;
                Ok((Listener::Vnet(listener), at))
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
            Station::Vnet { vnet, .. } => {
                let stream = vnet::net::TcpStream::connect_in(vnet, to)?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
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
            Listener::Vnet(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
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
            Work::Out => self.bulk(near, far),
            Work::In => self.bulk(far, near),
            Work::RequestReply => self.request_reply(far, near),
            Work::Connect => self.connections(far, near),
        }
    }
}

impl Measured {
    /// What `receiver` gets from `sender` in a second, from the first byte to the end of the stream.
    fn bulk(&self, sender: &Station, receiver: &Station) -> Result<f64, SideError> {
        let (listener, at) = receiver.listen()?;
        let mut to = sender.connect(at)?;
        let mut from = listener.accept()?;
        let Options { time, bytes } = self.options;
        let writer = thread::spawn(move || -> io::Result<u64> {
            let (start, chunk, mut sent) = (Instant::now(), vec![0x5a; CHUNK], 0);
            while bytes.map_or(start.elapsed() < time, |bytes| sent < bytes) {
                to.write_all(&chunk)?;
                sent += CHUNK as u64;
            }
            Ok(sent)
        });
        let (mut buf, mut received) = (vec![0; CHUNK], 0);
        let start = Instant::now();
        loop {
            match from.read(&mut buf)? {
                0 => break,
                n => received += n as u64,
            }
        }
        let took = start.elapsed();
        let sent = writer.join().expect("the writer does not panic")?;
        if sent != received {
            return Err(SideError::new(format!(
                "{received} bytes of {sent} arrived"
            )));
        }
        Ok(received as f64 * 8.0 / took.as_secs_f64() / 1e9)
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

//! TCP with the Linux kernel over a TAP, each side as client and as server: fast open (RFC 7413) over both families here,
//! and in `interop_tcp/far.rs` what takes a link between the two: losses, marks, cookies, and a peer that is gone.
//!
//! The kernel's end is in a network namespace of the test's own, whose settings nobody else sees. Where namespaces or TAPs
//! are not permitted, every test says so and counts as skipped.

#[path = "interop_tcp/far.rs"]
mod far;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};
use std::time::Duration;

use rustix::net::{AddressFamily, SendFlags, SocketType};
use vnet::net::{Domain, Socket, SocketOptions, TcpListener, TcpStream, Type};
use vnet::{OwnedVnet, System};
use vnet_tap::{NetNs, Tap, TapConfig};
use vnet_tests::skip::without_tap;

/// Addresses on the TAP (RFC 2544, RFC 3849).
const KERNEL: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(198, 18, 1, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];
const VNET: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(198, 18, 1, 2)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2)),
];
const PORT: u16 = 5001;
/// An answer that takes longer is not coming.
const PATIENCE: Duration = Duration::from_secs(60);
/// The kernel opens fast, grants it, and does so with listeners that did not ask for it (`ip-sysctl`, `tcp_fastopen`).
const CLIENT_AND_ALL_LISTENERS: &str = "1027";
/// `MSG_FASTOPEN` (linux/socket.h).
const MSG_FASTOPEN: SendFlags = SendFlags::from_bits_retain(0x2000_0000);

/// A kernel and a vnet, joined by a TAP.
struct Neighbours {
    _tap: Tap,
    vnet: OwnedVnet,
    kernel: NetNs,
}

impl Neighbours {
    /// `None`, with the reason printed, when they cannot be made here.
    fn make() -> Option<Neighbours> {
        let kernel = NetNs::new().map_err(|e| without_tap(&e)).ok()?;
        let probed = kernel.run(vnet_tap::probe);
        probed.map_err(|e| without_tap(&e)).ok()?;
        let set = |name: &str, value: &str| {
            let path = format!("/proc/sys/net/ipv4/{name}");
            std::fs::write(path, value)
        };
        if let Err(error) = kernel.run(move || set("tcp_fastopen", CLIENT_AND_ALL_LISTENERS)) {
            println!("skipped: the kernel does not open fast: {error}");
            return None;
        }
        let vnet = System::threads().create("neighbour").unwrap();
        let inside = (*vnet).clone();
        let tap = kernel
            .run(move || Tap::attach(&inside, "tap0", TapConfig::default()))
            .unwrap();
        let host = tap.host_name();
        for (theirs, ours, bits) in [(KERNEL[0], VNET[0], 24), (KERNEL[1], VNET[1], 64)] {
            let nodad = if theirs.is_ipv6() { "nodad" } else { "" };
            let command = format!("addr add {theirs}/{bits} dev {host} {nodad}");
            kernel.ip(command.trim()).unwrap();
            vnet.add_address("tap0", format!("{ours}/{bits}").parse().unwrap())
                .unwrap();
        }
        kernel.ip(&format!("link set {host} up")).unwrap();
        Some(Neighbours {
            _tap: tap,
            vnet,
            kernel,
        })
    }

    fn count(&self, name: &str) -> u64 {
        let counters = self.vnet.protocol_stats().unwrap();
        counters.get(name).unwrap()
    }

    /// One of the kernel's counters of TCP extensions.
    fn kernels(&self, name: &str) -> u64 {
        let text = self
            .kernel
            .run(|| std::fs::read_to_string("/proc/thread-self/net/netstat"))
            .unwrap();
        let mut lines = text.lines().filter(|l| l.starts_with("TcpExt:"));
        let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
        let mut pairs = names.split(' ').zip(values.split(' '));
        let (_, value) = pairs
            .find(|(n, _)| *n == name)
            .expect("the kernel counts it");
        value.parse().unwrap()
    }

    /// A connection of ours to the kernel, which may be opened fast.
    fn connect(&self, to: SocketAddr) -> TcpStream {
        let socket = Socket::new_in(&self.vnet, Domain::for_address(to), Type::STREAM, None);
        let socket = socket.unwrap();
        let fast = SocketOptions {
            fast_open: true,
            ..socket.options().unwrap()
        };
        socket.set_options(&fast).unwrap();
        socket.connect(&to).unwrap();
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }
}

/// What one side asks, longer than a segment or not, and how it is answered: the same backwards.
fn request(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * n % 251) as u8).collect()
}

fn answer(mut stream: impl Read + Write, len: usize) {
    let mut got = vec![0; len];
    stream.read_exact(&mut got).unwrap();
    assert!(got == request(len), "a request of {len} bytes differs");
    got.reverse();
    stream.write_all(&got).unwrap();
}

fn hear(mut stream: impl Read, len: usize) {
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    got.reverse();
    assert!(
        got == request(len),
        "an answer of {} bytes differs",
        got.len()
    );
}

#[test]
fn a_vnet_opens_fast_to_the_kernel() {
    for address in KERNEL {
        let Some(neighbours) = Neighbours::make() else {
            return;
        };
        let to = SocketAddr::new(address, PORT);
        let listener = neighbours
            .kernel
            .run(move || std::net::TcpListener::bind(to))
            .unwrap();
        let exchange = |len: usize| {
            let mut stream = neighbours.connect(to);
            stream.write_all(&request(len)).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let (theirs, _) = listener.accept().unwrap();
            theirs.set_read_timeout(Some(PATIENCE)).unwrap();
            answer(theirs, len);
            hear(stream, len);
            (
                neighbours.count("tcp.fast_opens_out"),
                neighbours.kernels("TCPFastOpenPassive"),
            )
        };
        // The first one asks for a cookie.
        assert_eq!(exchange(100), (0, 0));
        assert_eq!(exchange(100), (1, 1));
        assert_eq!(exchange(50_000), (2, 2));
        // The kernel takes our cookie for none of its own: it answers with another, and the data comes again.
        neighbours
            .kernel
            .run(|| {
                let key = "01234567-89abcdef-01234567-89abcdef";
                std::fs::write("/proc/sys/net/ipv4/tcp_fastopen_key", key)
            })
            .unwrap();
        assert_eq!(exchange(100), (2, 2));
        assert_eq!(neighbours.kernels("TCPFastOpenPassiveFail"), 1);
        assert_eq!(exchange(100), (3, 3));
        // The kernel grants no more: as any other connection.
        neighbours
            .kernel
            .run(|| std::fs::write("/proc/sys/net/ipv4/tcp_fastopen", "0"))
            .unwrap();
        assert_eq!(exchange(100), (3, 3));
    }
}

#[test]
fn the_kernel_opens_fast_to_a_vnet() {
    for address in VNET {
        let Some(neighbours) = Neighbours::make() else {
            return;
        };
        let to = SocketAddr::new(address, PORT);
        let listener = TcpListener::bind_in(&neighbours.vnet, to).unwrap();
        listener.set_accept_timeout(Some(PATIENCE)).unwrap();
        let grant = |fast_open: bool| {
            let options = SocketOptions {
                fast_open,
                ..listener.options().unwrap()
            };
            listener.set_options(&options).unwrap();
        };
        let exchange = |len: usize| {
            let stream = neighbours.kernel.run(move || {
                let family = match to {
                    SocketAddr::V4(_) => AddressFamily::INET,
                    SocketAddr::V6(_) => AddressFamily::INET6,
                };
                let fd = rustix::net::socket(family, SocketType::STREAM, None).unwrap();
                let mut data = &request(len)[..];
                let sent = rustix::net::sendto(&fd, data, MSG_FASTOPEN, &to).unwrap();
                data = &data[sent..];
                let mut stream = std::net::TcpStream::from(fd);
                stream.write_all(data).unwrap();
                stream
            });
            let (ours, _) = listener.accept().unwrap();
            ours.set_read_timeout(Some(PATIENCE)).unwrap();
            answer(ours, len);
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            hear(stream, len);
            (
                neighbours.count("tcp.fast_opens_in"),
                neighbours.kernels("TCPFastOpenActive"),
            )
        };
        grant(true);
        assert_eq!(exchange(100), (0, 0));
        assert_eq!(exchange(100), (1, 1));
        assert_eq!(exchange(50_000), (2, 2));
        // We grant no more: the kernel's data comes again, in the ordinary way.
        grant(false);
        assert_eq!(exchange(100), (2, 2));
        assert_eq!(neighbours.count("tcp.timeouts"), 0);
    }
}

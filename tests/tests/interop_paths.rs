//! Path MTU discovery (RFC 1191, RFC 8201) between vnets and the Linux kernel: what one router says does not fit, the
//! other end's stack sends in smaller packets.
//!
//! The kernel is in a network namespace of the test's own, which is gone with the test. Where namespaces or TAPs are not
//! permitted, every test says so and counts as skipped.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::process::Command;
use std::thread;
use std::time::Duration;

use vnet::{DropReason, Forwarding, NextHop, OwnedVnet, System, Vnet};
use vnet_tap::{NetNs, Tap, TapConfig};
use vnet_tests::skip::without_tap;
use vnet_tests::stream::{Sink, Source, uninterrupted};

/// An answer that takes longer is not coming.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the narrow link takes, in bytes of IP.
const NARROW: u16 = 1300;
const PORT: u16 = 5001;
const AMOUNT: u64 = 1_000_000;

/// The two links of a path, by version: the prefix length, and on each link one address of either end.
struct Path {
    bits: u8,
    near: [&'static str; 2],
    far: [&'static str; 2],
    another: &'static str,
    all: &'static str,
    family: &'static str,
}

const PATHS: [Path; 2] = [
    Path {
        bits: 24,
        near: ["198.18.1.1", "198.18.1.2"],
        far: ["198.18.2.1", "198.18.2.2"],
        another: "198.18.2.3",
        all: "0.0.0.0/0",
        family: "-4",
    },
    Path {
        bits: 64,
        near: ["2001:db8:1::1", "2001:db8:1::2"],
        far: ["2001:db8:2::1", "2001:db8:2::2"],
        another: "2001:db8:2::3",
        all: "::/0",
        family: "-6",
    },
];

/// A namespace in which the kernel forwards, if there can be one with TAPs.
fn kernel(forwards: bool) -> Option<NetNs> {
    let kernel = NetNs::new().map_err(|e| without_tap(&e)).ok()?;
    let probed = kernel.run(vnet_tap::probe);
    probed.map_err(|e| without_tap(&e)).ok()?;
    let set = kernel.run(move || {
        let value = if forwards { "1" } else { "0" };
        std::fs::write("/proc/sys/net/ipv4/ip_forward", value)?;
        std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", value)
    });
    set.map_err(|e| without_tap(&e)).ok()?;
    Some(kernel)
}

fn attach(kernel: &NetNs, vnet: &Vnet, host_ip_mtu: Option<u16>) -> Tap {
    let inside = vnet.clone();
    let config = TapConfig {
        host_ip_mtu,
        ..TapConfig::default()
    };
    kernel
        .run(move || Tap::attach(&inside, "tap0", config))
        .unwrap()
}

/// Gives the kernel's end of a TAP an address, and has it up.
fn give(kernel: &NetNs, tap: &Tap, address: &str, bits: u8) {
    let host = tap.host_name();
    let nodad = if address.contains(':') { " nodad" } else { "" };
    kernel
        .ip(&format!("addr add {address}/{bits} dev {host}{nodad}"))
        .unwrap();
    kernel.ip(&format!("link set {host} up")).unwrap();
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A default route.
fn by(vnet: &Vnet, path: &Path, gateway: &str) {
    let route = vnet.add_route(path.all.parse().unwrap(), NextHop::Gateway(ip(gateway)));
    route.unwrap();
}

fn address(vnet: &Vnet, interface: &str, address: &str, bits: u8) {
    let net = format!("{address}/{bits}").parse().unwrap();
    vnet.add_address(interface, net).unwrap();
}

/// Sends bytes from one to the other and closes; all of them arrive.
fn carry(mut from: impl Write + Send, mut to: impl Read, close: impl FnOnce() + Send, seed: u64) {
    thread::scope(|scope| {
        scope.spawn(move || {
            Source::new(seed, AMOUNT).write_to(&mut from).unwrap();
            close();
        });
        let arrived = Sink::read_from(&mut to).unwrap();
        assert_eq!(arrived, Source::new(seed, AMOUNT).summary());
    });
}

/// A counter of the kernel's: how often it has said of a packet that it does not fit.
fn said_too_big(kernel: &NetNs, path: &Path) -> u64 {
    let v6 = path.family == "-6";
    kernel.run(move || match v6 {
        true => {
            let all = std::fs::read_to_string("/proc/thread-self/net/snmp6").unwrap();
            let line = all.lines().find(|l| l.starts_with("Icmp6OutPktTooBigs "));
            let line = line.expect("the kernel counts them");
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        }
        false => ipv4_counter("FragFails"),
    })
}

/// How many packets of IPv4 the kernel has cut. Those of IPv6 it never does.
fn cut_by(kernel: &NetNs) -> u64 {
    kernel.run(|| ipv4_counter("FragOKs"))
}

/// A counter of this thread's namespace.
fn ipv4_counter(counter: &str) -> u64 {
    let all = std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
    let mut lines = all.lines().filter(|l| l.starts_with("Ip: "));
    let mut fields = || lines.next().unwrap().split_whitespace();
    let at = fields().position(|name| name == counter).unwrap();
    fields().nth(at).unwrap().parse().unwrap()
}

/// The kernel is the router, and its second link is the narrow one. Both vnets believe that theirs take 1500 bytes.
#[test]
fn a_vnet_obeys_what_the_kernel_says_of_a_path() {
    for path in PATHS {
        let Some(kernel) = kernel(true) else { return };
        let system = System::threads();
        let [a, b] = ["a", "b"].map(|name| system.create(name).unwrap());
        let taps = [attach(&kernel, &a, None), attach(&kernel, &b, Some(NARROW))];
        give(&kernel, &taps[0], path.near[0], path.bits);
        give(&kernel, &taps[1], path.far[0], path.bits);
        address(&a, "tap0", path.near[1], path.bits);
        address(&b, "tap0", path.far[1], path.bits);
        by(&a, &path, path.near[0]);
        by(&b, &path, path.far[0]);
        let listener = vnet::net::TcpListener::bind_in(&b, (ip(path.far[1]), PORT)).unwrap();
        let transfer = |seed| {
            let to = SocketAddr::new(ip(path.far[1]), PORT);
            let client = vnet::net::TcpStream::connect_in(&a, to).unwrap();
            let (server, _) = listener.accept().unwrap();
            server.set_read_timeout(Some(PATIENCE)).unwrap();
            let close = || client.shutdown(Shutdown::Write).unwrap();
            carry(&client, &server, close, seed);
        };
        assert_eq!(said_too_big(&kernel, &path), 0);
        transfer(1);
        let said = said_too_big(&kernel, &path);
        assert!(said > 0, "the kernel had nothing to say: {}", path.family);
        // What is remembered of the path is for the next connection as well, and for datagrams.
        transfer(2);
        let to = SocketAddr::new(ip(path.far[1]), PORT);
        let receiver = vnet::net::UdpSocket::bind_in(&b, to).unwrap();
        receiver.set_read_timeout(Some(PATIENCE)).unwrap();
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let sender = vnet::net::UdpSocket::bind_in(&a, any).unwrap();
        sender.set_read_timeout(Some(PATIENCE)).unwrap();
        sender.connect(to).unwrap();
        assert_eq!(sender.path_mtu().unwrap(), u32::from(NARROW));
        let cut = cut_by(&kernel);
        sender.send(&[7; 20_000]).unwrap();
        let mut buf = vec![0; 30_000];
        assert_eq!(receiver.recv(&mut buf).unwrap(), 20_000);
        // One that must not be cut fits exactly, or is not sent.
        sender.set_dont_fragment(true).unwrap();
        let fits = usize::from(NARROW) - if to.is_ipv4() { 28 } else { 48 };
        assert!(sender.send(&vec![7; fits + 1]).is_err());
        sender.send(&vec![7; fits]).unwrap();
        assert_eq!(receiver.recv(&mut buf).unwrap(), fits);
        assert_eq!(said_too_big(&kernel, &path), said, "all fitted");
        assert_eq!(
            cut_by(&kernel),
            cut,
            "what was cut was cut where it was made"
        );
        // To another address, datagrams alone find it out.
        let another = SocketAddr::new(ip(path.another), PORT);
        address(&b, "tap0", path.another, path.bits);
        sender.connect(another).unwrap();
        sender.send(&vec![7; fits + 1]).unwrap();
        let error = sender.recv(&mut buf).unwrap_err();
        let why = vnet::SocketError::of(&error);
        assert_eq!(why, Some(vnet::SocketError::MessageTooLong), "{error}");
        assert_eq!(sender.path_mtu().unwrap(), u32::from(NARROW));
        assert_eq!(said_too_big(&kernel, &path), said + 1);
        drop(listener);
        let [near, far] = taps;
        near.detach();
        far.detach();
        for vnet in [a, b] {
            assert!(vnet.destroy().leaked.is_zero());
        }
    }
}

/// A router and a host behind its narrow link, and the kernel, whose router it is.
#[test]
fn the_kernel_obeys_what_a_vnet_says_of_a_path() {
    for path in PATHS {
        let Some(kernel) = kernel(false) else { return };
        let system = System::threads();
        let [router, host]: [OwnedVnet; 2] = ["router", "host"].map(|n| system.create(n).unwrap());
        let tap = attach(&kernel, &router, None);
        router.epair("eth1", &host, "eth0").unwrap();
        router.set_forwarding(Forwarding::Enabled).unwrap();
        router.set_ip_mtu("eth1", NARROW).unwrap();
        give(&kernel, &tap, path.near[0], path.bits);
        address(&router, "tap0", path.near[1], path.bits);
        address(&router, "eth1", path.far[0], path.bits);
        address(&host, "eth0", path.far[1], path.bits);
        by(&host, &path, path.far[0]);
        let family = path.family;
        kernel
            .ip(&format!(
                "{family} route add {} via {}",
                behind(&path),
                path.near[1]
            ))
            .unwrap();
        let to = SocketAddr::new(ip(path.far[1]), PORT);
        let listener = vnet::net::TcpListener::bind_in(&host, to).unwrap();
        let client = kernel
            .run(move || std::net::TcpStream::connect_timeout(&to, PATIENCE))
            .unwrap();
        let (server, _) = listener.accept().unwrap();
        server.set_read_timeout(Some(PATIENCE)).unwrap();
        let close = || client.shutdown(Shutdown::Write).unwrap();
        carry(&client, &server, close, 3);
        let too_big = || router.stats().unwrap().rx_drops(DropReason::TooBig);
        let said = too_big();
        assert!(said > 0, "the router had nothing to say: {family}");
        // The kernel remembers it, and cuts its datagrams accordingly.
        let way = kernel.run(move || {
            let command = Command::new("ip")
                .args([family, "route", "get", path.far[1]])
                .output();
            String::from_utf8_lossy(&command.unwrap().stdout).into_owned()
        });
        assert!(way.contains(&format!("mtu {NARROW}")), "{way}");
        let receiver = vnet::net::UdpSocket::bind_in(&host, to).unwrap();
        receiver.set_read_timeout(Some(PATIENCE)).unwrap();
        let sent = kernel.run(move || -> io::Result<usize> {
            let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = std::net::UdpSocket::bind(any)?;
            uninterrupted(|| socket.send_to(&[7; 20_000], to))
        });
        assert_eq!(sent.unwrap(), 20_000);
        let mut buf = vec![0; 30_000];
        assert_eq!(receiver.recv(&mut buf).unwrap(), 20_000);
        assert_eq!(too_big(), said, "all fitted");
        drop((server, listener, receiver));
        tap.detach();
        for vnet in [host, router] {
            assert!(vnet.destroy().leaked.is_zero());
        }
    }
}

/// The network behind the narrow link.
fn behind(path: &Path) -> String {
    match path.bits {
        24 => "198.18.2.0/24".to_owned(),
        bits => format!("2001:db8:2::/{bits}"),
    }
}

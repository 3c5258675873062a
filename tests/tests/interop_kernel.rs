//! A vnet and the Linux kernel are neighbours on a TAP: they ping each other and exchange
//! 100 MB each way over TCP, whoever opens the connection.
//!
//! The kernel's end is in a network namespace of the test's own, which is gone with the test.
//! Where namespaces or TAPs are not permitted, every test says so and counts as skipped.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddrV6, UdpSocket};
use std::process::Command;
use std::thread;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType, ipproto};
use vnet::net::{EchoEvent, EchoSocket};
use vnet::{OwnedVnet, System};
use vnet_tap::{NetNs, PumpEnd, Tap, TapConfig};
use vnet_tests::onlink::PAIRS;
use vnet_tests::skip::without_tap;
use vnet_tests::stream::{Sink, Source, uninterrupted};

/// Addresses on the TAP (RFC 2544, benchmarking).
const KERNEL: Ipv4Addr = Ipv4Addr::new(198, 18, 1, 1);
const VNET: Ipv4Addr = Ipv4Addr::new(198, 18, 1, 2);
/// The same over IPv6 (RFC 3849, documentation).
const KERNEL_6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
const VNET_6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);
/// The kernel's link-local address; ours is of our choice.
const KERNEL_LINK: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const VNET_LINK: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
const PORT: u16 = 5001;
/// What goes each way.
const AMOUNT: u64 = 100_000_000;
/// An answer that takes longer is not coming.
const PATIENCE: Duration = Duration::from_secs(60);

/// A kernel and a vnet, joined by a TAP.
struct Neighbours {
    tap: Tap,
    vnet: OwnedVnet,
    kernel: NetNs,
}

impl Neighbours {
    /// `None`, with the reason printed, when they cannot be made here.
    fn make() -> Option<Neighbours> {
        let neighbours = Neighbours::bare()?;
        let Neighbours { tap, vnet, kernel } = &neighbours;
        let host = tap.host_name();
        kernel
            .ip(&format!("addr add {KERNEL}/24 dev {host}"))
            .unwrap();
        kernel.ip(&format!("link set {host} up")).unwrap();
        let net = format!("{VNET}/24").parse().unwrap();
        vnet.add_address("tap0", net).unwrap();
        Some(neighbours)
    }

    /// The same over IPv6.
    fn make_6() -> Option<Neighbours> {
        let neighbours = Neighbours::bare()?;
        let Neighbours { tap, vnet, kernel } = &neighbours;
        let host = tap.host_name();
        for addr in [KERNEL_6, KERNEL_LINK] {
            let command = format!("addr add {addr}/64 dev {host} nodad");
            kernel.ip(&command).unwrap();
        }
        kernel.ip(&format!("link set {host} up")).unwrap();
        for addr in [VNET_6, VNET_LINK] {
            let net = format!("{addr}/64").parse().unwrap();
            vnet.add_address("tap0", net).unwrap();
        }
        Some(neighbours)
    }

    /// The same without addresses, the kernel's interface down.
    fn bare() -> Option<Neighbours> {
        let kernel = NetNs::new().map_err(|e| without_tap(&e)).ok()?;
        let probed = kernel.run(vnet_tap::probe);
        probed.map_err(|e| without_tap(&e)).ok()?;
        let vnet = System::threads().create("neighbour").unwrap();
        let inside = (*vnet).clone();
        let tap = kernel
            .run(move || Tap::attach(&inside, "tap0", TapConfig::default()))
            .unwrap();
        Some(Neighbours { tap, vnet, kernel })
    }

    /// The number that the kernel has for its end.
    fn kernel_scope(&self) -> u32 {
        let addresses = self
            .kernel
            .run(|| std::fs::read_to_string("/proc/thread-self/net/if_inet6"))
            .unwrap();
        let lines = addresses
            .lines()
            .map(|l| l.split_whitespace().collect::<Vec<_>>());
        let line = lines
            .into_iter()
            .find(|l| l.last() == Some(&self.tap.host_name()));
        u32::from_str_radix(line.expect("it has an address")[1], 16).unwrap()
    }

    /// Takes it all down and checks that nothing is left.
    fn part(self) {
        let Neighbours { tap, vnet, kernel } = self;
        let host = tap.host_name().to_owned();
        let report = tap.detach();
        assert!(matches!(report.end, Some(PumpEnd::Detached)), "{report}");
        assert!(report.frames_in > 0 && report.frames_out > 0, "{report}");
        kernel.wait_until_gone(&host, PATIENCE).unwrap();
        let report = vnet.destroy();
        assert!(report.leaked.is_zero(), "{report}");
    }
}

#[test]
fn the_kernel_pings_a_vnet() {
    let Some(neighbours) = Neighbours::make() else {
        return;
    };
    neighbours.kernel.run(|| {
        let socket = kernel_icmp_socket().unwrap();
        for (seq, len) in sizes(&EDGES_4).into_iter().enumerate() {
            let request = echo_request(seq as u16, len);
            socket.send(&request).unwrap();
            let reply = echo_reply(&socket, seq as u16).unwrap();
            assert!(reply == request[8..], "payload of {len} bytes");
        }
    });
    neighbours.part();
}

#[test]
fn a_vnet_pings_the_kernel() {
    let Some(neighbours) = Neighbours::make() else {
        return;
    };
    let socket = EchoSocket::bind_in(&neighbours.vnet).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    ping_all(&socket, KERNEL.into(), &sizes(&EDGES_4));
    neighbours.part();
}

/// Payloads of echo requests on either side of the edges: the longest that is whole, those that fill two and three
/// fragments, and the longest that there is.
const EDGES_4: [usize; 4] = [1472, 2952, 4432, 65_507];
/// The same of IPv6, where a fragment has eight octets less.
const EDGES_6: [usize; 4] = [1452, 2888, 4336, 65_507];

/// Sizes of payloads from 0 to the longest, by strides, and all those next to an edge.
fn sizes(edges: &[usize]) -> Vec<usize> {
    let longest = *edges.last().unwrap();
    let near = edges.iter().flat_map(|edge| edge - 1..=edge + 1);
    let strides = (0..=65_507).step_by(4093);
    let mut sizes: Vec<usize> = [1, 56, 65_507]
        .into_iter()
        .chain(strides)
        .chain(near)
        .collect();
    sizes.retain(|size| *size <= longest);
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}

/// Asks the kernel for echoes of these sizes.
fn ping_all(socket: &EchoSocket, to: IpAddr, sizes: &[usize]) {
    for (seq, size) in sizes.iter().copied().enumerate() {
        let mut payload = vec![0; size];
        Source::new(1, size as u64).peek(&mut payload);
        socket.send_to(seq as u16, &payload, to).unwrap();
        let (event, _) = socket.recv().unwrap();
        let EchoEvent::Reply {
            from,
            seq: answered,
            len,
            ..
        } = event
        else {
            panic!("no reply, but {event:?}");
        };
        assert_eq!((from, answered, len), (to, seq as u16, size));
    }
}

/// The kernel's addresses on the TAP, as text without colons, each with its flags.
fn kernel_addresses(neighbours: &Neighbours) -> Vec<(String, u32)> {
    let addresses = neighbours
        .kernel
        .run(|| std::fs::read_to_string("/proc/thread-self/net/if_inet6"))
        .unwrap();
    let fields = addresses
        .lines()
        .map(|l| l.split_whitespace().collect::<Vec<_>>());
    fields
        .filter(|f| f.last() == Some(&neighbours.tap.host_name()))
        .map(|f| (f[0].to_owned(), u32::from_str_radix(f[4], 16).unwrap()))
        .collect()
}

/// Waits for `what`, which comes sooner or later.
fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..PATIENCE.as_secs() * 20 {
        if let Some(found) = look() {
            return found;
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("{what} does not come");
}

/// The kernel's flags of an address (linux/if_addr.h).
const TENTATIVE: u32 = 0x40;

#[test]
fn what_the_kernel_has_is_a_duplicate_in_a_vnet() {
    let Some(neighbours) = Neighbours::make_6() else {
        return;
    };
    let vnet = &neighbours.vnet;
    let net = format!("{KERNEL_6}/64").parse().unwrap();
    vnet.add_address("tap0", net).unwrap();
    wait_for("the duplicate", || {
        let interfaces = vnet.inspect().unwrap().interfaces;
        let tap0 = interfaces.into_iter().find(|i| i.info.name == "tap0");
        let found = tap0.unwrap().duplicate.contains(&KERNEL_6.into());
        found.then_some(())
    });
    neighbours.part();
}

#[test]
fn the_kernel_is_a_host_of_our_router() {
    let Some(neighbours) = Neighbours::bare() else {
        return;
    };
    let Neighbours { tap, vnet, kernel } = &neighbours;
    let host = tap.host_name();
    vnet.set_forwarding(vnet::Forwarding::Enabled).unwrap();
    vnet.add_address("tap0", format!("{VNET_6}/64").parse().unwrap())
        .unwrap();
    vnet.set_sysctl("net.inet6.ip6.rtadv_interval", 1000)
        .unwrap();
    kernel.ip(&format!("link set {host} up")).unwrap();
    let addr = wait_for("the kernel's address", || {
        let all = kernel_addresses(&neighbours);
        let is_it = |(addr, flags): &&(String, u32)| {
            addr.starts_with("20010db800000000") && flags & TENTATIVE == 0
        };
        all.iter().find(is_it).map(|(addr, _)| addr.clone())
    });
    let addr = Ipv6Addr::from(u128::from_str_radix(&addr, 16).unwrap());
    let socket = EchoSocket::bind_in(vnet).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    ping_all(&socket, addr.into(), &[56, 1453]);
    // Its default route leads to us.
    let routes = kernel
        .run(|| std::fs::read_to_string("/proc/thread-self/net/ipv6_route"))
        .unwrap();
    let none = "0".repeat(32);
    let default = routes
        .lines()
        .map(|l| l.split_whitespace().collect::<Vec<_>>());
    let default = default
        .into_iter()
        .find(|f| f[0] == none && f[1] == "00" && f[4].starts_with("fe80") && f[9] == host);
    assert!(default.is_some(), "{routes}");
    neighbours.part();
}

#[test]
fn the_kernel_pings_a_vnet_over_ipv6() {
    let Some(neighbours) = Neighbours::make_6() else {
        return;
    };
    let scope = neighbours.kernel_scope();
    neighbours.kernel.run(move || {
        for (to, scope) in [(VNET_6, 0), (VNET_LINK, scope)] {
            let socket = kernel_icmp6_socket_to(to, scope).unwrap();
            // The last two are longer than what our own sockets send: IPv6 counts no header.
            let sizes = sizes(&EDGES_6).into_iter().chain([65_526, 65_527]);
            for (seq, len) in sizes.enumerate() {
                let request = echo_request_6(seq as u16, len);
                socket.send(&request).unwrap();
                let reply = echo_reply_6(&socket, seq as u16).unwrap();
                assert!(reply == request[8..], "{to}: payload of {len} bytes");
            }
        }
    });
    neighbours.part();
}

#[test]
fn a_vnet_pings_the_kernel_over_ipv6() {
    let Some(neighbours) = Neighbours::make_6() else {
        return;
    };
    let socket = EchoSocket::bind_in(&neighbours.vnet).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    for to in [KERNEL_6, KERNEL_LINK] {
        ping_all(&socket, to.into(), &sizes(&EDGES_6));
    }
    neighbours.part();
}

/// To a port of the kernel's where nobody listens, and to one of ours; by link-local addresses as well.
#[test]
fn refusals_over_ipv6_are_understood() {
    let Some(neighbours) = Neighbours::make_6() else {
        return;
    };
    let refused = std::io::ErrorKind::ConnectionRefused;
    let ours = |to: SocketAddrV6| {
        let socket = vnet::net::UdpSocket::bind_in(&neighbours.vnet, "[::]:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.connect(to).unwrap();
        socket.send(b"x").unwrap();
        socket.recv(&mut [0; 8]).unwrap_err().kind()
    };
    // tap0 is the second interface.
    assert_eq!(ours(SocketAddrV6::new(KERNEL_6, PORT, 0, 0)), refused);
    assert_eq!(ours(SocketAddrV6::new(KERNEL_LINK, PORT, 0, 2)), refused);
    let scope = neighbours.kernel_scope();
    neighbours.kernel.run(move || {
        for (to, scope) in [(VNET_6, 0), (VNET_LINK, scope)] {
            let socket = UdpSocket::bind("[::]:0").unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket
                .connect(SocketAddrV6::new(to, PORT, 0, scope))
                .unwrap();
            socket.send(b"x").unwrap();
            let answer = uninterrupted(|| socket.recv(&mut [0; 8]));
            assert_eq!(answer.unwrap_err().kind(), refused);
        }
    });
    neighbours.part();
}

/// A connection by link-local addresses, which mean something with the interface's number only, whoever opens it.
#[test]
fn connections_by_link_local_addresses_have_a_scope() {
    let Some(neighbours) = Neighbours::make_6() else {
        return;
    };
    let (vnet, kernel) = (&neighbours.vnet, &neighbours.kernel);
    let scope = neighbours.kernel_scope();
    let theirs = kernel
        .run(|| std::net::TcpListener::bind(("::", PORT)))
        .unwrap();
    let ours = vnet::net::TcpListener::bind_in(vnet, ("::", PORT)).unwrap();
    let hears = |mut from: &std::net::TcpStream, mut to: &vnet::net::TcpStream| {
        from.write_all(b"hello").unwrap();
        let mut heard = [0; 5];
        to.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"hello");
    };
    // tap0 is the second interface.
    let to_kernel = SocketAddrV6::new(KERNEL_LINK, PORT, 0, 2);
    let out = vnet::net::TcpStream::connect_in(vnet, to_kernel).unwrap();
    let (accepted, from) = theirs.accept().unwrap();
    let port = out.local_addr().unwrap().port();
    assert_eq!(from, SocketAddrV6::new(VNET_LINK, port, 0, scope).into());
    assert_eq!(
        out.local_addr().unwrap(),
        SocketAddrV6::new(VNET_LINK, port, 0, 2).into()
    );
    hears(&accepted, &out);
    let to_us = SocketAddrV6::new(VNET_LINK, PORT, 0, scope);
    let there = kernel
        .run(move || std::net::TcpStream::connect_timeout(&to_us.into(), PATIENCE))
        .unwrap();
    let (accepted, from) = ours.accept().unwrap();
    let port = there.local_addr().unwrap().port();
    assert_eq!(from, SocketAddrV6::new(KERNEL_LINK, port, 0, 2).into());
    hears(&there, &accepted);
    // Without one, it means no link of several.
    vnet.port("other", None).unwrap();
    vnet.add_address("other", "2001:db8:9::1/64".parse().unwrap())
        .unwrap();
    let nowhere = vnet::net::TcpStream::connect_in(vnet, (KERNEL_LINK, PORT));
    assert!(nowhere.is_err());
    drop((out, accepted, ours));
    neighbours.part();
}

#[test]
fn a_hundred_megabytes_each_way_over_ipv6() {
    let Some(neighbours) = Neighbours::make_6() else {
        return;
    };
    let listener = vnet::net::TcpListener::bind_in(&neighbours.vnet, (VNET_6, PORT)).unwrap();
    let client = neighbours
        .kernel
        .run(|| std::net::TcpStream::connect_timeout(&(VNET_6, PORT).into(), PATIENCE))
        .unwrap();
    let (server, from) = listener.accept().unwrap();
    assert_eq!(from, client.local_addr().unwrap());
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            source(31).write_to(&mut &client).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
        });
        scope.spawn(|| {
            source(32).write_to(&mut &server).unwrap();
            server.shutdown(Shutdown::Write).unwrap();
        });
        let at_kernel = scope.spawn(|| Sink::read_from(&mut &client).unwrap());
        assert_eq!(Sink::read_from(&mut &server).unwrap(), source(31).summary());
        assert_eq!(at_kernel.join().unwrap(), source(32).summary());
    });
    drop((server, client, listener));
    neighbours.part();
}

/// A group (RFC 2365, of an organisation).
const GROUP: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 3);

#[test]
fn groups_are_joined_on_both_sides() {
    let Some(neighbours) = Neighbours::make() else {
        return;
    };
    let Neighbours { tap, vnet, kernel } = &neighbours;
    let host = tap.host_name();
    kernel
        .ip(&format!("route add 239.0.0.0/8 dev {host}"))
        .unwrap();
    let theirs = kernel
        .run(|| UdpSocket::bind(("0.0.0.0", PORT)))
        .and_then(|socket| {
            socket.join_multicast_v4(&GROUP, &KERNEL)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            Ok(socket)
        })
        .unwrap();
    let ours = vnet::net::UdpSocket::bind_in(vnet, ("0.0.0.0", PORT)).unwrap();
    ours.join_multicast_v4(&GROUP, &VNET).unwrap();
    ours.set_multicast_loop_v4(false).unwrap();
    ours.set_read_timeout(Some(PATIENCE)).unwrap();
    let known = kernel
        .run(|| std::fs::read_to_string("/proc/thread-self/net/igmp"))
        .unwrap();
    assert!(known.contains("030201EF"), "{known}");
    let mut buf = [0; 64];
    ours.send_to(b"ours", (GROUP, PORT)).unwrap();
    let (len, from) = theirs.recv_from(&mut buf).unwrap();
    assert_eq!((&buf[..len], from.ip()), (&b"ours"[..], VNET.into()));
    theirs.set_multicast_loop_v4(false).unwrap();
    theirs.send_to(b"theirs", (GROUP, PORT)).unwrap();
    let (len, from) = ours.recv_from(&mut buf).unwrap();
    assert_eq!((&buf[..len], from.ip()), (&b"theirs"[..], KERNEL.into()));
    drop((ours, theirs));
    neighbours.part();
}

/// The groups that the kernel's bridges know to be joined.
fn joined_in_the_kernel(kernel: &NetNs) -> String {
    let output = kernel.run(|| Command::new("bridge").args(["mdb", "show"]).output());
    String::from_utf8_lossy(&output.unwrap().stdout).into_owned()
}

#[test]
fn a_bridge_that_snoops_hears_what_we_join_and_leave() {
    let Some(neighbours) = Neighbours::bare() else {
        return;
    };
    let Neighbours { tap, vnet, kernel } = &neighbours;
    let host = tap.host_name();
    let bridge = "link add br0 type bridge mcast_snooping 1 mcast_querier 1 mcast_igmp_version 3";
    if let Err(error) = kernel.ip(bridge) {
        println!("skipped: no bridge of the kernel's can be made: {error}");
        return;
    }
    for command in [
        format!("link set {host} master br0"),
        format!("addr add {KERNEL}/24 dev br0"),
        format!("link set {host} up"),
        "link set br0 up".to_owned(),
        "route add 239.0.0.0/8 dev br0".to_owned(),
    ] {
        kernel.ip(&command).unwrap();
    }
    vnet.add_address("tap0", format!("{VNET}/24").parse().unwrap())
        .unwrap();
    let ours = vnet::net::UdpSocket::bind_in(vnet, ("0.0.0.0", PORT)).unwrap();
    ours.set_read_timeout(Some(PATIENCE)).unwrap();
    ours.join_multicast_v4(&GROUP, &VNET).unwrap();
    wait_for("the bridge to know the group", || {
        joined_in_the_kernel(kernel)
            .contains(&GROUP.to_string())
            .then_some(())
    });
    let theirs = kernel.run(|| UdpSocket::bind(("0.0.0.0", 0))).unwrap();
    let mut buf = [0; 64];
    theirs.send_to(b"theirs", (GROUP, PORT)).unwrap();
    let (len, from) = ours.recv_from(&mut buf).unwrap();
    assert_eq!((&buf[..len], from.ip()), (&b"theirs"[..], KERNEL.into()));
    ours.leave_multicast_v4(&GROUP, &VNET).unwrap();
    wait_for("the bridge to forget the group", || {
        (!joined_in_the_kernel(kernel).contains(&GROUP.to_string())).then_some(())
    });
    neighbours.part();
}

/// The same pairs of stations as between two vnets (`neighbours.rs`), with the kernel as either one.
#[test]
fn neighbours_need_no_common_prefix() {
    for case in PAIRS {
        for ours in 0..2 {
            let (near, far) = (&case.stations[ours], &case.stations[1 - ours]);
            let Some(neighbours) = Neighbours::bare() else {
                return;
            };
            let Neighbours { tap, vnet, kernel } = &neighbours;
            for command in far.ip_commands(tap.host_name()) {
                kernel.ip(&command).unwrap();
            }
            near.set_up(vnet, "tap0");
            let (us, them): (Ipv4Addr, Ipv4Addr) = (
                near.pinged_at.parse().unwrap(),
                far.pinged_at.parse().unwrap(),
            );
            let place = format!("{}, the vnet as number {ours}", case.name);
            let socket = EchoSocket::bind_in(vnet).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.send_to(1, b"x", them.into()).unwrap();
            let (event, _) = socket.recv().unwrap();
            assert!(
                matches!(event, EchoEvent::Reply { .. }),
                "{place}: {event:?}"
            );
            kernel.run(move || {
                let socket = kernel_icmp_socket_to(us).unwrap();
                let request = echo_request(1, 8);
                socket.send(&request).unwrap();
                let reply = echo_reply(&socket, 1).unwrap();
                assert_eq!(reply, request[8..], "{place}");
            });
            neighbours.part();
        }
    }
}

#[test]
fn a_hundred_megabytes_each_way_when_the_kernel_connects() {
    let Some(neighbours) = Neighbours::make() else {
        return;
    };
    let listener = vnet::net::TcpListener::bind_in(&neighbours.vnet, (VNET, PORT)).unwrap();
    let client = neighbours
        .kernel
        .run(|| std::net::TcpStream::connect_timeout(&(VNET, PORT).into(), PATIENCE))
        .unwrap();
    let (server, from) = listener.accept().unwrap();
    assert_eq!(from, client.local_addr().unwrap());
    // One way after the other, the reply after the request's end.
    let there = {
        let client = client.try_clone().unwrap();
        thread::spawn(move || {
            source(11)
                .write_to(&mut &client)
                .and_then(|()| client.shutdown(Shutdown::Write))
        })
    };
    assert_eq!(Sink::read_from(&mut &server).unwrap(), source(11).summary());
    there.join().unwrap().unwrap();
    let back = thread::spawn(move || Sink::read_from(&mut &client));
    source(12).write_to(&mut &server).unwrap();
    server.shutdown(Shutdown::Write).unwrap();
    assert_eq!(back.join().unwrap().unwrap(), source(12).summary());
    drop((server, listener));
    neighbours.part();
}

#[test]
fn a_hundred_megabytes_each_way_at_once_when_the_vnet_connects() {
    let Some(neighbours) = Neighbours::make() else {
        return;
    };
    let listener = neighbours
        .kernel
        .run(|| std::net::TcpListener::bind((KERNEL, PORT)))
        .unwrap();
    let ours = vnet::net::TcpStream::connect_in(&neighbours.vnet, (KERNEL, PORT)).unwrap();
    let (theirs, _) = listener.accept().unwrap();
    ours.set_read_timeout(Some(PATIENCE)).unwrap();
    theirs.set_read_timeout(Some(PATIENCE)).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            source(21).write_to(&mut &theirs).unwrap();
            theirs.shutdown(Shutdown::Write).unwrap();
        });
        scope.spawn(|| {
            source(22).write_to(&mut &ours).unwrap();
            ours.shutdown(Shutdown::Write).unwrap();
        });
        let at_kernel = scope.spawn(|| Sink::read_from(&mut &theirs).unwrap());
        assert_eq!(Sink::read_from(&mut &ours).unwrap(), source(21).summary());
        assert_eq!(at_kernel.join().unwrap(), source(22).summary());
    });
    drop((ours, theirs));
    neighbours.part();
}

/// What goes one way.
fn source(seed: u64) -> Source {
    Source::new(seed, AMOUNT)
}

/// A raw ICMP socket of the kernel, connected to the vnet. What it receives starts with the IP
/// header.
fn kernel_icmp_socket() -> io::Result<UdpSocket> {
    kernel_icmp_socket_to(VNET)
}

fn kernel_icmp_socket_to(vnet: Ipv4Addr) -> io::Result<UdpSocket> {
    let fd = rustix::net::socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::ICMP))?;
    // Any connected socket is a `UdpSocket` to the standard library.
    let socket = UdpSocket::from(fd);
    socket.connect((vnet, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

const IDENT: u16 = 0x5eed;

fn echo_request(seq: u16, len: usize) -> Vec<u8> {
    let mut message = vec![8, 0, 0, 0];
    message.extend_from_slice(&IDENT.to_be_bytes());
    message.extend_from_slice(&seq.to_be_bytes());
    message.resize(8 + len, 0);
    Source::new(seq.into(), len as u64).peek(&mut message[8..]);
    let sum = internet_checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

/// Waits for the reply number `seq` and returns its payload.
fn echo_reply(socket: &UdpSocket, seq: u16) -> io::Result<Vec<u8>> {
    let mut buf = vec![0; 65_535];
    loop {
        let n = uninterrupted(|| socket.recv(&mut buf))?;
        let header = usize::from(buf[0] & 0x0f) * 4;
        let message = &buf[header..n];
        let ours = message[0] == 0
            && message[4..6] == IDENT.to_be_bytes()
            && message[6..8] == seq.to_be_bytes();
        if ours {
            assert_eq!(internet_checksum(message), 0, "checksum of reply {seq}");
            return Ok(message[8..].to_vec());
        }
    }
}

/// The same over IPv6. The kernel fills the checksum in and verifies it, and keeps the IP header.
fn kernel_icmp6_socket_to(vnet: Ipv6Addr, scope: u32) -> io::Result<UdpSocket> {
    let fd = rustix::net::socket(AddressFamily::INET6, SocketType::RAW, Some(ipproto::ICMPV6))?;
    let socket = UdpSocket::from(fd);
    socket.connect(SocketAddrV6::new(vnet, 0, 0, scope))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

fn echo_request_6(seq: u16, len: usize) -> Vec<u8> {
    let mut message = echo_request(seq, len);
    message[..4].copy_from_slice(&[128, 0, 0, 0]);
    message
}

fn echo_reply_6(socket: &UdpSocket, seq: u16) -> io::Result<Vec<u8>> {
    let mut buf = vec![0; 65_535];
    loop {
        let n = uninterrupted(|| socket.recv(&mut buf))?;
        let message = &buf[..n];
        let ours = message[0] == 129
            && message[4..6] == IDENT.to_be_bytes()
            && message[6..8] == seq.to_be_bytes();
        if ours {
            return Ok(message[8..].to_vec());
        }
    }
}

/// RFC 1071.
fn internet_checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

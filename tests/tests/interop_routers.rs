//! The Linux kernel routes for a vnet, and vnets route for the kernel.
//!
//! The kernel is in a network namespace of the test's own, which is gone with the test. Where namespaces or TAPs are not
//! permitted, every test says so and counts as skipped.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::thread;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType, ipproto, sockopt};
use vnet::net::{EchoEvent, EchoSocket};
use vnet::{Forwarding, NextHop, OwnedVnet, System, Vnet};
use vnet_tap::{NetNs, Tap, TapConfig};
use vnet_tests::skip::without_tap;
use vnet_tests::stream::uninterrupted;

/// An answer that takes longer is not coming.
const PATIENCE: Duration = Duration::from_secs(60);

/// A namespace in which the kernel forwards IPv6, if there can be one with TAPs.
fn kernel() -> Option<NetNs> {
    let kernel = NetNs::new().map_err(|e| without_tap(&e)).ok()?;
    let probed = kernel.run(vnet_tap::probe);
    probed.map_err(|e| without_tap(&e)).ok()?;
    let forwards = kernel.run(|| std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1"));
    forwards.map_err(|e| without_tap(&e)).ok()?;
    Some(kernel)
}

/// A TAP whose end in the kernel has these addresses.
fn attach(kernel: &NetNs, vnet: &Vnet, addresses: &[&str]) -> Tap {
    let inside = vnet.clone();
    let tap = kernel
        .run(move || Tap::attach(&inside, "tap0", TapConfig::default()))
        .unwrap();
    let host = tap.host_name();
    for address in addresses {
        let command = format!("addr add {address} dev {host} nodad");
        kernel.ip(&command).unwrap();
    }
    kernel.ip(&format!("link set {host} up")).unwrap();
    tap
}

/// Waits for `what`, which comes sooner or later.
fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..PATIENCE.as_secs() * 10 {
        if let Some(found) = look() {
            return found;
        }
        thread::sleep(Duration::from_millis(100));
    }
    panic!("{what} does not come");
}

/// The hop limit of the answer to a ping.
fn ping(from: &Vnet, to: Ipv6Addr, len: usize) -> Option<u8> {
    let socket = EchoSocket::bind_in(from).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(2)))
        .unwrap();
    socket.send_to(1, &vec![7; len], to.into()).ok()?;
    match socket.recv() {
        Ok((EchoEvent::Reply { ttl, .. }, _)) => Some(ttl),
        _ => None,
    }
}

/// A raw ICMPv6 socket of the kernel. It fills checksums in, and does not show the IP header.
fn icmp6() -> io::Result<UdpSocket> {
    let fd = rustix::net::socket(AddressFamily::INET6, SocketType::RAW, Some(ipproto::ICMPV6))?;
    let socket = UdpSocket::from(fd);
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// The same of ICMP. It does not fill checksums in, and shows the IP header.
fn icmp4() -> io::Result<UdpSocket> {
    let fd = rustix::net::socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::ICMP))?;
    let socket = UdpSocket::from(fd);
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// An advertisement (RFC 4861 section 4.2): a router for 1800 s, a hop limit of 33, an MTU of 1400, a prefix, and a DNS
/// server (RFC 8106).
fn advertisement(prefix: Ipv6Addr, dns: Ipv6Addr) -> Vec<u8> {
    let mut message = vec![134, 0, 0, 0, 33, 0];
    message.extend(1800u16.to_be_bytes());
    message.extend([0; 8]);
    message.extend([5, 1, 0, 0]);
    message.extend(1400u32.to_be_bytes());
    message.extend([3, 4, 64, 0xc0]);
    message.extend(3600u32.to_be_bytes());
    message.extend(1800u32.to_be_bytes());
    message.extend([0; 4]);
    message.extend(prefix.octets());
    message.extend([25, 3, 0, 0]);
    message.extend(600u32.to_be_bytes());
    message.extend(dns.octets());
    message
}

/// Sends an advertisement by an interface of the kernel's.
fn advertise(kernel: &NetNs, host: &str, message: Vec<u8>) {
    let host = host.to_owned();
    kernel.run(move || {
        let index = std::fs::read_to_string(format!("/sys/class/net/{host}/ifindex"));
        // `/sys` may show another namespace; `/proc` shows that of the thread.
        let table = std::fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap();
        let line = table.lines().find(|l| l.ends_with(&format!(" {host}")));
        let index = match line {
            Some(line) => u32::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap(),
            None => index.unwrap().trim().parse().unwrap(),
        };
        let socket = icmp6().unwrap();
        sockopt::set_ipv6_multicast_if(&socket, index).unwrap();
        sockopt::set_ipv6_multicast_hops(&socket, 255).unwrap();
        let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        let to = SocketAddrV6::new(all_nodes, 0, 0, index);
        socket.send_to(&message, to).unwrap();
    });
}

/// The kernel is the router of a vnet that knows nothing but what it is told, and of another one beyond it.
#[test]
fn the_kernel_is_the_router_of_our_host() {
    let Some(kernel) = kernel() else { return };
    let system = System::threads();
    let (host, far) = (
        system.create("host").unwrap(),
        system.create("far").unwrap(),
    );
    host.set_sysctl("net.inet6.ip6.accept_rtadv", 1).unwrap();
    far.add_address("lo0", "2001:db8:2::2/128".parse().unwrap())
        .unwrap();
    let near = attach(&kernel, &host, &["2001:db8:1::1/64", "fe80::1/64"]);
    let beyond = attach(&kernel, &far, &["2001:db8:2::1/64", "fe80::1/64"]);
    far.add_address("tap0", "2001:db8:2::9/64".parse().unwrap())
        .unwrap();
    far.add_route(
        "::/0".parse().unwrap(),
        NextHop::Gateway("2001:db8:2::1".parse().unwrap()),
    )
    .unwrap();
    let dns: Ipv6Addr = "2001:db8:2::53".parse().unwrap();
    let said = advertisement("2001:db8:1::".parse().unwrap(), dns);
    let own = wait_for("an address", || {
        advertise(&kernel, near.host_name(), said.clone());
        let seen = host.inspect().unwrap();
        let tap0 = seen
            .interfaces
            .into_iter()
            .find(|i| i.info.name == "tap0")?;
        assert!(tap0.autoconfigured.len() <= 1);
        let own = tap0.autoconfigured.first().copied();
        own.filter(|_| tap0.dns == [dns])
    });
    let IpAddr::V6(own) = own else {
        panic!("{own} is of IPv6")
    };
    assert_eq!(own.segments()[..4], [0x2001, 0xdb8, 1, 0]);
    let routes = host.inspect().unwrap().routes;
    let default = routes.iter().find(|r| r.dst.prefix_len() == 0).unwrap();
    assert_eq!(default.gateway, Some("fe80::1".parse().unwrap()));
    // To the router, and beyond it: whole, and in fragments where the link is said to take 1400 bytes.
    let beyond_it: Ipv6Addr = "2001:db8:2::9".parse().unwrap();
    wait_for("an answer", || {
        ping(&host, "2001:db8:1::1".parse().unwrap(), 56)
    });
    wait_for("an answer from beyond", || ping(&host, beyond_it, 56));
    for len in [0, 1352, 1353, 20_000] {
        let what = format!("an answer of {len} bytes");
        let there = wait_for(&what, || ping(&host, beyond_it, len));
        assert_eq!(there, 63, "{len}: one hop less than the other host sends");
        // Our hop limit is what was said, less one hop: the other host sees it in what it is asked.
        let back = wait_for(&what, || ping(&far, own, len));
        assert_eq!(back, 32, "{len}");
    }
    for (vnet, tap) in [(host, near), (far, beyond)] {
        tap.detach();
        assert!(vnet.destroy().leaked.is_zero());
    }
}

/// Three vnets in a row, of which the first two forward, with both families. The kernel is on the link of the first.
fn row(system: &System) -> Vec<OwnedVnet> {
    let mut all: Vec<OwnedVnet> = Vec::new();
    let add = |vnet: &Vnet, interface: &str, nets: [String; 2]| {
        for net in nets {
            vnet.add_address(interface, net.parse().unwrap()).unwrap();
        }
    };
    for n in 1..=3 {
        let vnet = system.create(&format!("r{n}")).unwrap();
        if let Some(before) = all.last() {
            let net = |host| {
                [
                    format!("2001:db8:{n}::{host}/64"),
                    format!("198.18.{n}.{host}/24"),
                ]
            };
            before.epair("eth1", &vnet, "eth0").unwrap();
            add(before, "eth1", net(1));
            add(&vnet, "eth0", net(2));
            for (all, back) in [
                ("::/0", format!("2001:db8:{n}::1")),
                ("0.0.0.0/0", format!("198.18.{n}.1")),
            ] {
                let back = NextHop::Gateway(back.parse().unwrap());
                vnet.add_route(all.parse().unwrap(), back).unwrap();
            }
        }
        all.push(vnet);
    }
    for router in &all[..2] {
        router.set_forwarding(Forwarding::Enabled).unwrap();
    }
    for (net, by) in [
        ("2001:db8:3::/64", "2001:db8:2::2"),
        ("198.18.3.0/24", "198.18.2.2"),
    ] {
        let on = NextHop::Gateway(by.parse().unwrap());
        all[0].add_route(net.parse().unwrap(), on).unwrap();
    }
    all
}

/// The numbers of what a version of ICMP says in a traceroute, and where its messages begin in what the kernel's raw
/// socket reads: of IPv4 it shows the header.
#[derive(Clone, Copy)]
struct Kinds {
    request: u8,
    reply: u8,
    exceeded: u8,
    header: usize,
    quoted_header: usize,
}

/// Who says that the hop limit is over, and who answers in the end, as the kernel's socket sees it.
fn path(kernel: &NetNs, to: &str, kinds: Kinds) -> Vec<(u8, String)> {
    let to = SocketAddr::new(to.parse().unwrap(), 0);
    kernel.run(move || {
        let socket = if to.is_ipv4() { icmp4() } else { icmp6() }.unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(500)))
            .unwrap();
        let mut path = Vec::new();
        for hops in 1..=4u8 {
            match to {
                SocketAddr::V4(_) => sockopt::set_ip_ttl(&socket, hops.into()),
                SocketAddr::V6(_) => sockopt::set_ipv6_unicast_hops(&socket, Some(hops)),
            }
            .unwrap();
            // The kernel fills the sum of ICMPv6 in.
            let sum = !(u16::from_be_bytes([kinds.request, 0]) + 0x5eed + u16::from(hops));
            let [high, low] = sum.to_be_bytes();
            let request = [kinds.request, 0, high, low, 0x5e, 0xed, 0, hops];
            path.push(wait_for("who is there", || {
                // What was lost while neighbours were looked for is asked again.
                socket.send_to(&request, to).unwrap();
                let mut bytes = [0; 1500];
                loop {
                    let got = uninterrupted(|| socket.recv_from(&mut bytes)).ok()?;
                    let (len, from) = got;
                    let message = &bytes[kinds.header..len];
                    let told = match message {
                        [kind, 0, ..] if *kind == kinds.exceeded => {
                            message.get(8 + kinds.quoted_header..)?.get(..8)?
                        }
                        [kind, 0, ..] if *kind == kinds.reply => message.get(..8)?,
                        _ => continue,
                    };
                    if told[4..] == request[4..] {
                        return Some((message[0], from.ip().to_string()));
                    }
                }
            }));
        }
        path
    })
}

/// A traceroute of either version.
#[test]
fn the_kernel_sees_the_path_through_three_vnets() {
    let Some(kernel) = kernel() else { return };
    let system = System::threads();
    let row = row(&system);
    let addresses = ["2001:db8:1::9/64", "fe80::9/64"];
    let tap = attach(&kernel, &row[0], &addresses);
    let host = tap.host_name();
    for net in ["2001:db8:1::1/64", "198.18.1.1/24"] {
        row[0].add_address("tap0", net.parse().unwrap()).unwrap();
    }
    for command in [
        "-6 route add 2001:db8:0::/32 via 2001:db8:1::1".to_owned(),
        format!("addr add 198.18.1.9/24 dev {host}"),
        "route add 198.18.0.0/15 via 198.18.1.1".to_owned(),
    ] {
        kernel.ip(&command).unwrap();
    }
    let v6 = Kinds {
        request: 128,
        reply: 129,
        exceeded: 3,
        header: 0,
        quoted_header: 40,
    };
    let v4 = Kinds {
        request: 8,
        reply: 0,
        exceeded: 11,
        header: 20,
        quoted_header: 20,
    };
    for (kinds, hops) in [
        (v6, ["2001:db8:1::1", "2001:db8:2::2", "2001:db8:3::2"]),
        (v4, ["198.18.1.1", "198.18.2.2", "198.18.3.2"]),
    ] {
        let seen = path(&kernel, hops[2], kinds);
        let [first, second, end] = hops.map(str::to_owned);
        let expected = [
            (kinds.exceeded, first),
            (kinds.exceeded, second),
            (kinds.reply, end.clone()),
            (kinds.reply, end),
        ];
        assert_eq!(seen, expected);
    }
    tap.detach();
    for vnet in row {
        assert!(vnet.destroy().leaked.is_zero());
    }
}

//! The Linux kernel and vnets on one link agree on who has an address, who is in which group, and by whom a packet
//! goes first.
//!
//! The kernel's end is in a network namespace of the test's own, which is gone with the test. Where namespaces or TAPs
//! are not permitted, or `bridge` is missing, every test says so and counts as skipped.

use std::net::{IpAddr, Ipv4Addr, TcpStream, UdpSocket};
use std::process::Command;
use std::thread;
use std::time::Duration;

use vnet::net::{EchoEvent, EchoSocket};
use vnet::{Forwarding, NextHop, OwnedVnet, Snooping, System, Vnet};
use vnet_tap::{NetNs, Tap, TapConfig};
use vnet_tests::skip::without_tap;

/// An answer that takes longer is not coming.
const PATIENCE: Duration = Duration::from_secs(60);
/// The kernel's flags of an address (linux/if_addr.h).
const DAD_FAILED: u32 = 0x08;

/// A namespace, if there can be one with TAPs.
fn kernel() -> Option<NetNs> {
    let kernel = NetNs::new().map_err(|e| without_tap(&e)).ok()?;
    let probed = kernel.run(vnet_tap::probe);
    probed.map_err(|e| without_tap(&e)).ok()?;
    Some(kernel)
}

fn attach(kernel: &NetNs, vnet: &Vnet) -> Tap {
    let inside = vnet.clone();
    kernel
        .run(move || Tap::attach(&inside, "tap0", TapConfig::default()))
        .unwrap()
}

/// What a command prints in the namespace; `None` when there is no such command.
fn output(kernel: &NetNs, command: &str) -> Option<String> {
    let words: Vec<String> = command.split(' ').map(str::to_owned).collect();
    let ran = kernel.run(move || Command::new(&words[0]).args(&words[1..]).output());
    let ran = ran.ok()?;
    Some(String::from_utf8_lossy(&ran.stdout).into_owned())
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

/// Every link-local address of an interface.
fn link_local(vnet: &Vnet, interface: &str) -> String {
    let interfaces = vnet.inspect().unwrap().interfaces;
    let found = interfaces
        .iter()
        .find(|i| i.info.name == interface)
        .unwrap();
    let mut addresses = found
        .info
        .addresses
        .iter()
        .map(|net| net.addr().to_string());
    addresses.rfind(|a| a.starts_with("fe80")).unwrap()
}

fn answers(from: &Vnet, to: &str) -> bool {
    let socket = EchoSocket::bind_in(from).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(2)))
        .unwrap();
    socket.send_to(1, b"data", to.parse().unwrap()).is_ok()
        && matches!(socket.recv(), Ok((EchoEvent::Reply { .. }, _)))
}

#[test]
fn what_a_vnet_has_is_a_duplicate_in_the_kernel() {
    let Some(kernel) = kernel() else { return };
    let vnet = System::threads().create("owner").unwrap();
    let tap = attach(&kernel, &vnet);
    let host = tap.host_name().to_owned();
    vnet.add_address("tap0", "2001:db8::2/64".parse().unwrap())
        .unwrap();
    kernel.ip(&format!("link set {host} up")).unwrap();
    // It has passed: since then it contradicts whoever wants it.
    thread::sleep(Duration::from_millis(2500));
    kernel
        .ip(&format!("addr add 2001:db8::2/64 dev {host}"))
        .unwrap();
    wait_for("the duplicate", || {
        let addresses = kernel
            .run(|| std::fs::read_to_string("/proc/thread-self/net/if_inet6"))
            .unwrap();
        let line = addresses.lines().find(|l| l.starts_with("20010db8"))?;
        let flags = line.split_whitespace().nth(4)?;
        let flags = u32::from_str_radix(flags, 16).unwrap();
        (flags & DAD_FAILED != 0).then_some(())
    });
    let interfaces = vnet.inspect().unwrap().interfaces;
    assert!(interfaces.iter().all(|i| i.duplicate.is_empty()));
    tap.detach();
    assert!(vnet.destroy().leaked.is_zero());
}

/// A bridge of the kernel asks, and has our groups in its table; when an address goes, so does its group, and what a socket
/// joins is there until it leaves.
#[test]
fn a_bridge_of_the_kernel_learns_our_groups() {
    let Some(kernel) = kernel() else { return };
    let vnet = System::threads().create("member").unwrap();
    let tap = attach(&kernel, &vnet);
    let host = tap.host_name().to_owned();
    for command in [
        "link add br0 type bridge mcast_snooping 1 mcast_querier 1 mcast_query_response_interval 100".to_owned(),
        format!("link set {host} master br0"),
        format!("link set {host} up"),
        "link set br0 up".to_owned(),
    ] {
        if let Err(error) = kernel.ip(&command) {
            return without_tap(&error);
        }
    }
    vnet.add_address("tap0", "2001:db8::ab:cdef/64".parse().unwrap())
        .unwrap();
    let has = |group: &str| {
        let table = output(&kernel, "bridge mdb show")?;
        let is_it =
            |l: &str| l.contains(&format!("port {host} ")) && l.contains(&format!("grp {group} "));
        Some(table.lines().any(is_it))
    };
    if has("ff02::1:ffab:cdef").is_none() {
        return without_tap(&std::io::Error::other(
            "no `bridge` (Debian package iproute2)",
        ));
    }
    wait_for("the group of the address", || {
        has("ff02::1:ffab:cdef").filter(|has| *has)
    });
    // It has asked: from now on, changes are told at once.
    vnet.add_address("tap0", "2001:db8::12:3456/64".parse().unwrap())
        .unwrap();
    wait_for("the next group", || {
        has("ff02::1:ff12:3456").filter(|has| *has)
    });
    vnet.remove_address("tap0", "2001:db8::12:3456".parse().unwrap())
        .unwrap();
    wait_for("its end", || has("ff02::1:ff12:3456").filter(|has| !*has));
    // So is what a socket joins, by the interface that it names: the second one.
    let socket = vnet::net::UdpSocket::bind_in(&vnet, "[::]:0").unwrap();
    let group = "ff05::1234".parse().unwrap();
    socket.join_multicast_v6(&group, 2).unwrap();
    wait_for("the socket's group", || {
        has("ff05::1234").filter(|has| *has)
    });
    socket.leave_multicast_v6(&group, 2).unwrap();
    wait_for("its end", || has("ff05::1234").filter(|has| !*has));
    tap.detach();
    assert!(vnet.destroy().leaked.is_zero());
}

/// A link of the kernel and two vnets, `routers`, of which the second has 2001:db8:2::1 and 198.18.2.1.
struct Triangle {
    kernel: NetNs,
    tap: Tap,
    routers: Vec<OwnedVnet>,
    host: String,
}

impl Triangle {
    fn make() -> Option<Triangle> {
        let kernel = kernel()?;
        let system = System::threads();
        let switch = system.create("switch").unwrap();
        let tap = attach(&kernel, &switch);
        switch.bridge("bridge0").unwrap();
        switch.add_member("bridge0", "tap0").unwrap();
        let mut routers = Vec::new();
        for n in 1..=2 {
            let router = system.create(&format!("r{n}")).unwrap();
            router.epair("eth0", &switch, &format!("p{n}")).unwrap();
            switch.add_member("bridge0", &format!("p{n}")).unwrap();
            for net in [format!("2001:db8:1::{n}/64"), format!("198.18.1.{n}/24")] {
                router.add_address("eth0", net.parse().unwrap()).unwrap();
            }
            routers.push(router);
        }
        for net in ["2001:db8:2::1/128", "198.18.2.1/32"] {
            routers[1].add_address("lo0", net.parse().unwrap()).unwrap();
        }
        let host = tap.host_name().to_owned();
        kernel
            .ip(&format!("addr add 2001:db8:1::9/64 dev {host} nodad"))
            .unwrap();
        kernel
            .ip(&format!("addr add fe80::9/64 dev {host} nodad"))
            .unwrap();
        kernel
            .ip(&format!("addr add 198.18.1.9/24 dev {host}"))
            .unwrap();
        kernel.ip(&format!("link set {host} up")).unwrap();
        routers.push(switch);
        Some(Triangle {
            kernel,
            tap,
            routers,
            host,
        })
    }

    fn part(self) {
        self.tap.detach();
        for vnet in self.routers {
            assert!(vnet.destroy().leaked.is_zero());
        }
    }
}

#[test]
fn a_vnet_takes_the_router_that_the_kernel_names() {
    let Some(link) = Triangle::make() else { return };
    let [host, second] = [&link.routers[0], &link.routers[1]];
    let (better, dev) = (link_local(second, "eth0"), link.host.clone());
    let forwards = link.kernel.run(move || {
        std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1")?;
        std::fs::write(format!("/proc/sys/net/ipv6/conf/{dev}/forwarding"), "1")
    });
    if let Err(error) = forwards {
        return without_tap(&error);
    }
    let dev = &link.host;
    link.kernel
        .ip(&format!(
            "-6 route add 2001:db8:2::/64 via {better} dev {dev}"
        ))
        .unwrap();
    let by_kernel = NextHop::OnLink {
        gateway: "fe80::9".parse().unwrap(),
        interface: "eth0".to_owned(),
    };
    host.add_route("::/0".parse().unwrap(), by_kernel).unwrap();
    let route = wait_for("the better router", || {
        let _ = answers(host, "2001:db8:2::1");
        let routes = host.inspect().unwrap().routes;
        let found = routes
            .into_iter()
            .find(|r| r.dst.to_string() == "2001:db8:2::1/128");
        found.and_then(|r| r.gateway)
    });
    assert_eq!(route.to_string(), better);
    assert!(answers(host, "2001:db8:2::1"));
    link.part();
}

/// RFC 4861 section 8.1: a redirect is obeyed where it comes from the present first hop. Linux compares its source, which
/// is link-local, with the gateway of the route: of a route by another address of the same router it takes none. It takes
/// one about a segment only while there is the connection, and one about a datagram only if its socket is there and bound
/// to the interface.
#[test]
fn the_kernel_takes_the_router_that_a_vnet_names() {
    let Some(link) = Triangle::make() else { return };
    let [first, second] = [&link.routers[0], &link.routers[1]];
    for router in [first, second] {
        router.set_forwarding(Forwarding::Enabled).unwrap();
    }
    first.set_sysctl("net.inet6.ip6.redirect", 1).unwrap();
    let (own, better) = (link_local(first, "eth0"), link_local(second, "eth0"));
    let by_second = NextHop::OnLink {
        gateway: better.parse().unwrap(),
        interface: "eth0".to_owned(),
    };
    first
        .add_route("2001:db8:2::/64".parse().unwrap(), by_second)
        .unwrap();
    let dev = &link.host;
    link.kernel
        .ip(&format!("-6 route add 2001:db8:2::/64 via {own} dev {dev}"))
        .unwrap();
    let way = || output(&link.kernel, "ip -6 route get 2001:db8:2::1");
    assert!(way().unwrap().contains(&format!("via {own} ")));
    let taken = wait_for("the better router", || {
        // Nobody listens there.
        let there = "[2001:db8:2::1]:9".parse().unwrap();
        let connect = move || TcpStream::connect_timeout(&there, Duration::from_secs(2));
        let refused = link.kernel.run(connect);
        assert!(refused.is_err());
        way().filter(|way| way.contains(&format!("via {better} ")))
    });
    assert!(taken.starts_with("2001:db8:2::1 "), "{taken}");
    link.part();
}

#[test]
fn a_vnet_takes_the_router_of_ipv4_that_the_kernel_names() {
    let Some(link) = Triangle::make() else { return };
    let host = &link.routers[0];
    let dev = link.host.clone();
    let set = link.kernel.run(move || {
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
        for of in ["all", &dev] {
            let name = format!("/proc/sys/net/ipv4/conf/{of}/send_redirects");
            std::fs::write(name, "1")?;
        }
        Ok::<(), std::io::Error>(())
    });
    if let Err(error) = set {
        return without_tap(&error);
    }
    link.kernel
        .ip("route add 198.18.2.0/24 via 198.18.1.2")
        .unwrap();
    host.set_sysctl("net.inet.icmp.drop_redirect", 0).unwrap();
    let by_kernel = NextHop::Gateway("198.18.1.9".parse().unwrap());
    host.add_route("0.0.0.0/0".parse().unwrap(), by_kernel)
        .unwrap();
    let route = wait_for("the better router", || {
        let _ = answers(host, "198.18.2.1");
        let routes = host.inspect().unwrap().routes;
        let found = routes
            .into_iter()
            .find(|r| r.dst.to_string() == "198.18.2.1/32");
        found.and_then(|r| r.gateway)
    });
    assert_eq!(route.to_string(), "198.18.1.2");
    assert!(answers(host, "198.18.2.1"));
    link.part();
}

#[test]
fn the_kernel_takes_the_router_of_ipv4_that_a_vnet_names() {
    let Some(link) = Triangle::make() else { return };
    let first = &link.routers[0];
    for router in &link.routers[..2] {
        router.set_forwarding(Forwarding::Enabled).unwrap();
    }
    first.set_sysctl("net.inet.ip.redirect", 1).unwrap();
    let by_second = NextHop::Gateway("198.18.1.2".parse().unwrap());
    first
        .add_route("198.18.2.0/24".parse().unwrap(), by_second)
        .unwrap();
    let dev = link.host.clone();
    let set = link.kernel.run(move || {
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "0")?;
        for of in ["all", &dev] {
            let name = format!("/proc/sys/net/ipv4/conf/{of}/accept_redirects");
            std::fs::write(name, "1")?;
        }
        Ok::<(), std::io::Error>(())
    });
    if let Err(error) = set {
        return without_tap(&error);
    }
    link.kernel
        .ip("route add 198.18.2.0/24 via 198.18.1.1")
        .unwrap();
    let way = || output(&link.kernel, "ip -4 route get 198.18.2.1");
    assert!(way().unwrap().contains("via 198.18.1.1 "));
    wait_for("the better router", || {
        // Nobody listens there.
        let there = "198.18.2.1:9".parse().unwrap();
        let connect = move || TcpStream::connect_timeout(&there, Duration::from_secs(2));
        assert!(link.kernel.run(connect).is_err());
        way().filter(|way| way.contains("via 198.18.1.2 "))
    });
    link.part();
}

/// What sockets of ours join is in the table of the kernel's bridge, and what the kernel's join is in that of ours, which
/// asks; in both families.
#[test]
fn joins_are_in_the_tables_of_both_sides() {
    let Some(kernel) = kernel() else { return };
    let vnet = System::threads().create("switch").unwrap();
    let tap = attach(&kernel, &vnet);
    let host = tap.host_name().to_owned();
    vnet.bridge("bridge0").unwrap();
    vnet.add_member("bridge0", "tap0").unwrap();
    let mut config = vnet.bridge_info("bridge0").unwrap().config;
    config.snooping = Some(Snooping {
        querier: Some(Ipv4Addr::new(198, 18, 1, 1)),
        querier_v6: Some("fe80::77".parse().unwrap()),
        ..Snooping::default()
    });
    vnet.set_bridge("bridge0", config).unwrap();
    for net in ["2001:db8:1::1/64", "198.18.1.1/24"] {
        vnet.add_address("bridge0", net.parse().unwrap()).unwrap();
    }
    kernel
        .ip(&format!("addr add 198.18.1.9/24 dev {host}"))
        .unwrap();
    kernel
        .ip(&format!("addr add 2001:db8:1::9/64 dev {host} nodad"))
        .unwrap();
    kernel.ip(&format!("link set {host} up")).unwrap();
    let groups: [IpAddr; 2] = ["239.1.2.3", "ff05::1234"].map(|g| g.parse().unwrap());
    let line = kernel.run(|| std::fs::read_to_string("/proc/thread-self/net/if_inet6"));
    let line = line.unwrap();
    let line = line
        .lines()
        .find(|l| l.ends_with(&format!(" {host}")))
        .unwrap();
    let index = u32::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap();
    let theirs = kernel
        .run(move || -> std::io::Result<_> {
            let (v4, v6) = (UdpSocket::bind("0.0.0.0:0")?, UdpSocket::bind("[::]:0")?);
            for group in groups {
                match group {
                    IpAddr::V4(group) => {
                        v4.join_multicast_v4(&group, &Ipv4Addr::new(198, 18, 1, 9))?
                    }
                    IpAddr::V6(group) => v6.join_multicast_v6(&group, index)?,
                }
            }
            Ok((v4, v6))
        })
        .unwrap();
    let known = |group: IpAddr| {
        let snooping = vnet.bridge_info("bridge0").unwrap().snooping.unwrap();
        let is_it = |g: &vnet::GroupInfo| g.group == group && g.members.iter().any(|m| m == "tap0");
        snooping.groups.iter().any(is_it)
    };
    for group in groups {
        wait_for("the group that the kernel joined", || {
            known(group).then_some(())
        });
    }
    drop(theirs);
    for group in groups {
        wait_for("its end", || (!known(group)).then_some(()));
    }
    tap.detach();
    assert!(vnet.destroy().leaked.is_zero());
}

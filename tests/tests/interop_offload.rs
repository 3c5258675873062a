//! Two kernels talk through a vnet, whose TAPs to them leave more or less undone: as a router and as a
//! bridge, TCP both ways at once, and large datagrams.
//!
//! Whatever one side leaves to the other, segments uncut and checksums open, has to be made good where
//! the other side wants complete frames. The kernels verify every checksum they get.

use std::net::{
    IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket,
};
use std::thread;
use std::time::Duration;

use quinn_udp::{Transmit, UdpSockRef, UdpSocketState};
use vnet::net::Message;
use vnet::{Forwarding, Offload, OwnedVnet, System};
use vnet_tap::{Layer, NetNs, Nic, Tap, TapConfig};
use vnet_tests::skip::without_tap;
use vnet_tests::stream::{Sink, Source, uninterrupted};

/// How much goes each way.
const AMOUNT: u64 = 10_000_000;
/// An answer that takes longer is not coming.
const PATIENCE: Duration = Duration::from_secs(60);

/// A kernel at the other end of a TAP of the vnet's.
struct Host {
    tap: Tap,
    kernel: NetNs,
    address: Ipv4Addr,
}

/// `None`, with the reason printed, where there are no TAPs.
fn host(vnet: &OwnedVnet, ifname: &'static str, address: &str, offload: Offload) -> Option<Host> {
    let config = TapConfig {
        offload,
        ..TapConfig::default()
    };
    host_by(vnet, ifname, address, config)
}

fn host_by(
    vnet: &OwnedVnet,
    ifname: &'static str,
    address: &str,
    config: TapConfig,
) -> Option<Host> {
    let kernel = NetNs::new().map_err(|e| without_tap(&e)).ok()?;
    let probed = kernel.run(vnet_tap::probe);
    probed.map_err(|e| without_tap(&e)).ok()?;
    let inside = (**vnet).clone();
    let tap = kernel
        .run(move || Tap::attach(&inside, ifname, config))
        .unwrap();
    let name = tap.host_name();
    kernel
        .ip(&format!("addr add {address}/24 dev {name}"))
        .unwrap();
    kernel.ip(&format!("link set {name} up")).unwrap();
    Some(Host {
        tap,
        kernel,
        address: address.parse().unwrap(),
    })
}

impl Host {
    fn leave(self) {
        let name = self.tap.host_name().to_owned();
        let report = self.tap.detach();
        assert!(report.frames_in > 0 && report.frames_out > 0, "{report}");
        self.kernel.wait_until_gone(&name, PATIENCE).unwrap();
    }
}

/// TCP both ways at once and the largest datagrams, from `a` to `b` and back.
fn talk(a: &Host, b: &Host) {
    let (to, from) = (b.address, a.address);
    let listener = b.kernel.run(move || TcpListener::bind((to, 0))).unwrap();
    let at = listener.local_addr().unwrap();
    let client = a
        .kernel
        .run(move || TcpStream::connect_timeout(&at, PATIENCE))
        .unwrap();
    let (server, _) = listener.accept().unwrap();
    thread::scope(|scope| {
        for stream in [&client, &server] {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            scope.spawn(move || {
                source().write_to(&mut &*stream).unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
            });
        }
        let at_server = scope.spawn(|| Sink::read_from(&mut &server).unwrap());
        assert_eq!(Sink::read_from(&mut &client).unwrap(), source().summary());
        assert_eq!(at_server.join().unwrap(), source().summary());
    });
    let near = a.kernel.run(move || UdpSocket::bind((from, 0))).unwrap();
    let far = b.kernel.run(move || UdpSocket::bind((to, 0))).unwrap();
    far.set_read_timeout(Some(PATIENCE)).unwrap();
    for len in [0, 1, 1472, 1473, 60_001] {
        let message: Vec<u8> = (0..len).map(|n| n as u8).collect();
        near.send_to(&message, far.local_addr().unwrap()).unwrap();
        let mut buf = vec![0; 65_535];
        let (got, _) = uninterrupted(|| far.recv_from(&mut buf)).unwrap();
        assert_eq!(buf[..got], message, "{len} bytes");
    }
    send_at_once(&near, far.local_addr().unwrap());
    for n in 0..AT_ONCE {
        let mut buf = vec![0; 65_535];
        let (got, _) = uninterrupted(|| far.recv_from(&mut buf)).unwrap();
        assert_eq!(buf[..got], datagram(n), "datagram {n}");
    }
}

/// Datagrams that a kernel is given in one call, and lets a device cut that can (`UDP_SEGMENT`).
const AT_ONCE: usize = 40;
/// The length of each but the last.
const DATAGRAM: usize = 1200;

fn datagram(n: usize) -> Vec<u8> {
    let len = if n + 1 < AT_ONCE { DATAGRAM } else { 700 };
    (0..len).map(|at| (at ^ n) as u8).collect()
}

fn send_at_once(from: &UdpSocket, destination: SocketAddr) {
    let contents: Vec<u8> = (0..AT_ONCE).flat_map(datagram).collect();
    let state = UdpSocketState::new(UdpSockRef::from(from)).unwrap();
    assert!(
        state.max_gso_segments() >= AT_ONCE,
        "the kernel does not cut"
    );
    let transmit = Transmit {
        destination,
        ecn: None,
        contents: &contents,
        segment_size: Some(DATAGRAM),
        src_ip: None,
    };
    from.set_nonblocking(false).unwrap();
    state.try_send(UdpSockRef::from(from), &transmit).unwrap();
}

/// A packet socket takes what the other end of the cable has not cut, whether or not it asks for it.
#[test]
fn datagrams_sent_at_once_arrive_one_by_one_by_a_card() {
    let Some(host) = NetNs::new().map_err(|e| without_tap(&e)).ok() else {
        return;
    };
    let made = host.ip("link add wire type veth peer name nic");
    if made.map_err(|e| without_tap(&e)).is_err() {
        return;
    }
    for command in [
        "link set nic up",
        "link set wire up",
        "addr add 198.18.7.1/24 dev wire",
    ] {
        host.ip(command).unwrap();
    }
    let vnet = System::threads().create("guest").unwrap();
    let inside = (*vnet).clone();
    let nic = host
        .run(move || Nic::attach(&inside, "eth0", "nic"))
        .unwrap();
    let ours = Ipv4Addr::new(198, 18, 7, 2);
    vnet.add_address("eth0", format!("{ours}/24").parse().unwrap())
        .unwrap();
    let far = vnet::net::UdpSocket::bind_in(&vnet, (ours, 0)).unwrap();
    far.set_read_timeout(Some(PATIENCE)).unwrap();
    let near = host.run(|| UdpSocket::bind(("198.18.7.1", 0))).unwrap();
    send_at_once(&near, far.local_addr().unwrap());
    for n in 0..AT_ONCE {
        let mut buf = vec![0; 65_535];
        let (got, _) = far.recv_from(&mut buf).unwrap();
        assert_eq!(buf[..got], datagram(n), "datagram {n}");
    }
    let report = nic.detach();
    assert_eq!(report.drops, 0, "{report}");
}

/// What a vnet sends at once crosses an offloading TAP in fewer frames, and the kernel cuts them.
#[test]
fn datagrams_of_a_vnet_leave_together_and_arrive_one_by_one() {
    for (offload, layer) in [
        (Offload::Full, Layer::Link),
        (Offload::Checksum, Layer::Link),
        (Offload::None, Layer::Link),
        (Offload::Full, Layer::Network),
    ] {
        let vnet = System::threads().create("sender").unwrap();
        let config = TapConfig {
            offload,
            layer,
            ..TapConfig::default()
        };
        let Some(host) = host_by(&vnet, "tap0", "198.18.8.2", config) else {
            return;
        };
        let name = host.tap.host_name();
        host.kernel
            .ip(&format!("addr add 2001:2:0:8::2/64 dev {name} nodad"))
            .unwrap();
        for ours in ["198.18.8.1/24", "2001:2:0:8::1/64"] {
            vnet.add_address("tap0", ours.parse().unwrap()).unwrap();
        }
        for there in ["198.18.8.2", "2001:2:0:8::2"] {
            let there: IpAddr = there.parse().unwrap();
            let far = host
                .kernel
                .run(move || UdpSocket::bind((there, 0)))
                .unwrap();
            far.set_read_timeout(Some(PATIENCE)).unwrap();
            let any: IpAddr = match there {
                IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            };
            let near = vnet::net::UdpSocket::bind_in(&vnet, (any, 0)).unwrap();
            let receive = |expected: &[u8]| {
                let mut buf = vec![0; 65_535];
                let (got, _) = uninterrupted(|| far.recv_from(&mut buf)).unwrap();
                assert_eq!(buf[..got], *expected, "{offload:?}, {layer:?}, {there}");
            };
            // Afterwards the neighbour is known.
            let to = far.local_addr().unwrap();
            near.send_to(b"first", to).unwrap();
            receive(b"first");
            let before = host.tap.report().frames_out;
            let message = Message {
                peer: Some(to),
                ..Message::default()
            };
            // Some are longer than others, as those of a media server are, and one is too long for a frame.
            let odd = [
                vec![1; 1200],
                vec![2; 900],
                vec![3; 1201],
                vec![4; 3000],
                vec![],
            ];
            let all: Vec<Vec<u8>> = (0..AT_ONCE).map(datagram).chain(odd).collect();
            let messages: Vec<_> = all
                .iter()
                .map(|one| (one.clone().into(), message))
                .collect();
            assert_eq!(near.send_many(&messages).unwrap(), all.len());
            for one in &all {
                receive(one);
            }
            let frames = host.tap.report().frames_out - before;
            match offload {
                Offload::Full => assert!(frames < all.len() as u64, "{frames}, {layer:?}, {there}"),
                _ => assert!(frames > all.len() as u64, "{frames}, {layer:?}, {there}"),
            }
        }
        host.leave();
    }
}

/// What goes each way.
fn source() -> Source {
    Source::new(7, AMOUNT)
}

/// Every pair of what two TAPs leave undone.
fn pairs() -> impl Iterator<Item = (Offload, Offload)> {
    let all = [Offload::Full, Offload::Checksum, Offload::None];
    all.into_iter()
        .flat_map(move |one| all.into_iter().map(move |other| (one, other)))
}

#[test]
fn a_router_makes_good_what_one_side_left_undone() {
    for (one, other) in pairs() {
        let vnet = System::threads().create("router").unwrap();
        let Some(a) = host(&vnet, "tap0", "198.18.4.2", one) else {
            return;
        };
        let Some(b) = host(&vnet, "tap1", "198.18.5.2", other) else {
            return;
        };
        for (ifname, net, kernel) in [("tap0", "198.18.4.1/24", &a), ("tap1", "198.18.5.1/24", &b)]
        {
            vnet.add_address(ifname, net.parse().unwrap()).unwrap();
            let gateway = net.trim_end_matches("/24");
            kernel
                .kernel
                .ip(&format!("route add default via {gateway}"))
                .unwrap();
        }
        vnet.set_forwarding(Forwarding::Enabled).unwrap();
        talk(&a, &b);
        a.leave();
        b.leave();
        let report = vnet.destroy();
        assert!(report.leaked.is_zero(), "{one:?}, {other:?}: {report}");
    }
}

#[test]
fn a_bridge_makes_good_what_one_side_left_undone() {
    for (one, other) in pairs() {
        let vnet = System::threads().create("switch").unwrap();
        let Some(a) = host(&vnet, "tap0", "198.18.6.1", one) else {
            return;
        };
        let Some(b) = host(&vnet, "tap1", "198.18.6.2", other) else {
            return;
        };
        vnet.bridge("br0").unwrap();
        for member in ["tap0", "tap1"] {
            vnet.add_member("br0", member).unwrap();
        }
        talk(&a, &b);
        a.leave();
        b.leave();
        let report = vnet.destroy();
        assert!(report.leaked.is_zero(), "{one:?}, {other:?}: {report}");
    }
}

//! What a TAP does when its surroundings change: the host's interface goes down or away, the
//! vnet is destroyed, frames are as large as they get, nothing happens at all.
//!
//! Needs root and `/dev/net/tun`; says so otherwise.

mod alone;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use alone::{in_a_process_of_its_own, is_inside, leaves_nothing, rounds};
use vnet::capture::FrameTap;
use vnet::time::Instant as VnetInstant;
use vnet::{AdminError, Direction, MacAddr, Offload, OwnedVnet, Packet, System};
use vnet_tap::{HostState, Layer, Lifetime, NetNs, PumpEnd, Tap, TapConfig, TapError};

const HOST: Ipv4Addr = Ipv4Addr::new(198, 18, 2, 1);
const VNET: Ipv4Addr = Ipv4Addr::new(198, 18, 2, 2);
const PATIENCE: Duration = Duration::from_secs(20);

struct Bench {
    tap: Tap,
    vnet: OwnedVnet,
    host: NetNs,
}

/// Says why a test is skipped, past the harness, which keeps what a passing test prints to itself.
/// With `VNET_REQUIRE_TAP` set, skipping is failing.
fn skip(why: &dyn std::fmt::Display) {
    let required = std::env::var_os("VNET_REQUIRE_TAP").is_some_and(|v| !v.is_empty());
    assert!(
        !required,
        "VNET_REQUIRE_TAP is set, but there is no TAP: {why}"
    );
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}

fn bench() -> Option<Bench> {
    let host = NetNs::new().map_err(|e| skip(&e)).ok()?;
    host.run(vnet_tap::probe).map_err(|e| skip(&e)).ok()?;
    // The kernel's own chatter (router solicitations) would count as traffic.
    host.run(|| {
        for which in ["all", "default"] {
            let path = format!("/proc/sys/net/ipv6/conf/{which}/disable_ipv6");
            // Where there is no IPv6 there is none to disable.
            let _ = std::fs::write(path, "1");
        }
    });
    let vnet = System::threads().create("guest").unwrap();
    let inside = (*vnet).clone();
    let tap = host
        .run(move || Tap::attach(&inside, "tap0", TapConfig::default()))
        .unwrap();
    vnet.add_address("tap0", format!("{VNET}/24").parse().unwrap())
        .unwrap();
    let name = tap.host_name();
    assert!(name.starts_with("vnt"), "{name}");
    host.ip(&format!("addr add {HOST}/24 dev {name}")).unwrap();
    host.ip(&format!("link set {name} up")).unwrap();
    Some(Bench { tap, vnet, host })
}

impl Bench {
    /// Sends datagrams of `len` bytes until one has come through and back.
    fn talk(&self, len: usize) {
        let theirs = self.host.run(|| UdpSocket::bind((HOST, 0))).unwrap();
        let ours = vnet::net::UdpSocket::bind_in(&self.vnet, (VNET, 0)).unwrap();
        let brief = Some(Duration::from_millis(500));
        theirs.set_read_timeout(brief).unwrap();
        ours.set_read_timeout(brief).unwrap();
        let message: Vec<u8> = (0..len).map(|n| (n % 251) as u8).collect();
        let mut buf = vec![0; 65_535];
        let give_up = Instant::now() + PATIENCE;
        while Instant::now() < give_up {
            // What is refused while an interface comes up is tried again.
            let _ = theirs.send_to(&message, ours.local_addr().unwrap());
            let Ok((n, from)) = ours.recv_from(&mut buf) else {
                continue;
            };
            assert_eq!(buf[..n], message);
            let _ = ours.send_to(&message, from);
            if let Ok((n, _)) = theirs.recv_from(&mut buf) {
                assert_eq!(buf[..n], message);
                return;
            }
        }
        panic!("no datagram of {len} bytes came through and back");
    }

    fn wait_for_the_end(&self) {
        let give_up = Instant::now() + PATIENCE;
        while self.tap.is_running() {
            assert!(Instant::now() < give_up, "the pump still runs");
            sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn deleting_the_device_ends_the_pump_with_an_error() {
    let Some(bench) = bench() else { return };
    bench
        .host
        .ip(&format!("link del {}", bench.tap.host_name()))
        .unwrap();
    bench.wait_for_the_end();
    let report = bench.tap.detach();
    assert!(matches!(report.end, Some(PumpEnd::Device(_))), "{report}");
}

#[test]
fn destroying_the_vnet_ends_the_pump() {
    let Some(bench) = bench() else { return };
    bench.talk(1);
    let Bench { tap, vnet, host } = bench;
    let report = vnet.destroy();
    assert!(report.leaked.is_zero(), "{report}");
    let vnet = System::threads().create("another").unwrap();
    let bench = Bench { tap, vnet, host };
    bench.wait_for_the_end();
    let report = bench.tap.detach();
    assert!(matches!(report.end, Some(PumpEnd::PortGone)), "{report}");
}

#[test]
fn a_host_interface_that_is_down_refuses_frames_and_recovers() {
    let Some(bench) = bench() else { return };
    bench.talk(1);
    let name = bench.tap.host_name();
    bench.host.ip(&format!("link set {name} down")).unwrap();
    let before = bench.tap.report().drops;
    let socket = vnet::net::UdpSocket::bind_in(&bench.vnet, (VNET, 0)).unwrap();
    socket.send_to(b"nobody listens", (HOST, 9)).unwrap();
    let give_up = Instant::now() + PATIENCE;
    while bench.tap.report().drops == before {
        assert!(Instant::now() < give_up, "no drop was counted");
        sleep(Duration::from_millis(5));
    }
    bench.host.ip(&format!("link set {name} up")).unwrap();
    bench.talk(1);
    let report = bench.tap.detach();
    assert!(matches!(report.end, Some(PumpEnd::Detached)), "{report}");
}

#[test]
fn the_largest_frames_of_a_tap_pass() {
    let Some(bench) = bench() else { return };
    let name = bench.tap.host_name();
    bench
        .host
        .ip(&format!("link set {name} mtu 65521"))
        .unwrap();
    bench.vnet.set_ip_mtu("tap0", 65_521).unwrap();
    bench.talk(65_521 - 28);
    // Datagrams larger than that are fragmented on both sides.
    bench.talk(65_507);
}

#[test]
fn an_idle_pump_sleeps() {
    let Some(bench) = bench() else { return };
    bench.talk(1);
    // What neighbour discovery still had to say has been said after two quiet spells.
    let mut before = bench.tap.report().wakeups;
    for _ in 0..20 {
        sleep(Duration::from_millis(200));
        let now = bench.tap.report().wakeups;
        if now == before {
            return;
        }
        before = now;
    }
    panic!("the pump woke up in every single spell: {before} times");
}

#[test]
fn a_name_in_use_is_refused_and_dropping_frees_it() {
    let Some(Bench { tap, vnet, host }) = bench() else {
        return;
    };
    let config = TapConfig {
        host_name: Some(tap.host_name().to_owned()),
        ..TapConfig::default()
    };
    let attach = |ifname: &'static str| {
        let (vnet, config) = ((*vnet).clone(), config.clone());
        host.run(move || Tap::attach(&vnet, ifname, config))
    };
    let error = attach("tap1").unwrap_err();
    assert!(matches!(error, TapError::HostNameInUse(_)), "{error}");
    drop(tap);
    host.wait_until_gone("vnt0", PATIENCE).unwrap();
    assert_eq!(attach("tap1").unwrap().host_name(), "vnt0");
    host.wait_until_gone("vnt0", PATIENCE).unwrap();
    let error = attach("lo0").unwrap_err();
    assert!(matches!(error, TapError::Port(_)), "{error}");
    host.wait_until_gone("vnt0", PATIENCE).unwrap();
}

/// A namespace with this interface in it, and what `ip` says of it.
fn told(host: &NetNs, name: &str) -> String {
    let name = name.to_owned();
    host.run(move || {
        let mut ip = std::process::Command::new("ip");
        let output = ip
            .args(["-d", "link", "show", "dev", &name])
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    })
}

#[test]
fn the_hosts_interface_is_what_the_configuration_says() {
    let Some(Bench { tap, vnet, host }) = bench() else {
        return;
    };
    drop(tap);
    host.wait_until_gone("vnt0", PATIENCE).unwrap();
    host.ip("link add br0 type bridge").unwrap();
    let config = TapConfig {
        host_name: Some("lan%d".into()),
        netns: Some(host.path()),
        host_mac: Some(MacAddr([2, 0, 0, 0, 0, 7])),
        host_ip_mtu: Some(9000),
        host_bridge: Some("br0".into()),
        host_state: HostState::Up,
        lifetime: Lifetime::Persistent,
        owner: Some(12_345),
        ..TapConfig::default()
    };
    let tap = Tap::attach(&vnet, "tap0", config.clone()).unwrap();
    assert_eq!(tap.host_name(), "lan0");
    let said = told(&host, "lan0");
    for part in [
        "mtu 9000",
        "master br0",
        "link/ether 02:00:00:00:00:07",
        "UP",
        "tun type tap",
        "persist on",
        "user 12345",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    drop(tap);
    // It outlives its user, and is found again.
    let config = TapConfig {
        host_name: Some("lan0".into()),
        host_state: HostState::Down,
        lifetime: Lifetime::WithTap,
        ..config
    };
    let give_up = Instant::now() + PATIENCE;
    let tap = loop {
        // Another thread that starts a process may hold it for a moment.
        match Tap::attach(&vnet, "tap0", config.clone()) {
            Err(TapError::HostNameInUse(_)) if Instant::now() < give_up => {
                sleep(Duration::from_millis(5));
            }
            attached => break attached.unwrap(),
        }
    };
    let said = told(&host, "lan0");
    assert!(!said.contains("persist on"), "{said}");
    assert!(said.contains("master br0"), "it is there again: {said}");
    drop(tap);
    host.wait_until_gone("lan0", PATIENCE).unwrap();
    for (wrong, is_so) in [
        (
            TapConfig {
                host_bridge: Some("nobr".into()),
                lifetime: Lifetime::Persistent,
                ..config.clone()
            },
            (|e| matches!(e, TapError::Host { what: "bridge", .. })) as fn(&TapError) -> bool,
        ),
        (
            TapConfig {
                host_ip_mtu: Some(1),
                lifetime: Lifetime::Persistent,
                ..config.clone()
            },
            |e| matches!(e, TapError::Host { what: "MTU", .. }),
        ),
        (
            TapConfig {
                netns: Some("/nowhere".into()),
                ..config.clone()
            },
            |e| matches!(e, TapError::NetNs { .. }),
        ),
        (
            TapConfig {
                host_name: Some("lo".into()),
                ..config.clone()
            },
            |e| matches!(e, TapError::NotATap(_)),
        ),
    ] {
        let error = Tap::attach(&vnet, "tap0", wrong).unwrap_err();
        assert!(is_so(&error), "{error}");
    }
    host.wait_until_gone("lan0", PATIENCE).unwrap();
}

#[test]
fn threads_stay_where_the_caller_is() {
    let Some(Bench { tap, vnet: _, host }) = bench() else {
        return;
    };
    drop(tap);
    let vnet = System::threads().create("outside").unwrap();
    let config = TapConfig {
        netns: Some(host.path()),
        ..TapConfig::default()
    };
    let _tap = Tap::attach(&vnet, "tap0", config).unwrap();
    vnet.add_address("tap0", format!("{VNET}/24").parse().unwrap())
        .unwrap();
    let here = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let task = task.unwrap().path();
        let read = |what: &str| std::fs::read_to_string(task.join(what)).unwrap_or_default();
        // Others are those of other tests.
        if read("comm").trim() == "netns" || read("comm").starts_with("vnet-") {
            continue;
        }
        let there = std::fs::read_link(task.join("ns/net"));
        assert!(there.is_err() || there.unwrap() == here, "{}", read("comm"));
    }
}

#[test]
fn a_plain_tap_takes_nothing_of_what_its_last_user_agreed_to() {
    let Some(Bench { tap, vnet, host }) = bench() else {
        return;
    };
    drop(tap);
    host.wait_until_gone("vnt0", PATIENCE).unwrap();
    let config = |offload, lifetime| TapConfig {
        host_name: Some("vnt0".into()),
        netns: Some(host.path()),
        offload,
        lifetime,
        ..TapConfig::default()
    };
    let first = config(Offload::Full, Lifetime::Persistent);
    drop(Tap::attach(&vnet, "tap0", first).unwrap());
    let give_up = Instant::now() + PATIENCE;
    let tap = loop {
        match Tap::attach(&vnet, "tap0", config(Offload::None, Lifetime::WithTap)) {
            Err(TapError::HostNameInUse(_)) if Instant::now() < give_up => {
                sleep(Duration::from_millis(5));
            }
            attached => break attached.unwrap(),
        }
    };
    host.ip(&format!("addr add {HOST}/24 dev vnt0")).unwrap();
    host.ip("link set vnt0 up").unwrap();
    // The host's kernel leaves a checksum open if it believes that somebody fills it in, and a frame
    // with a wrong one never arrives.
    Bench { tap, vnet, host }.talk(1000);
}

#[test]
fn a_descriptor_handed_in_is_as_good() {
    use rustix::fs::{Mode, OFlags, open};
    let Some(Bench { tap, vnet, host }) = bench() else {
        return;
    };
    drop(tap);
    host.wait_until_gone("vnt0", PATIENCE).unwrap();
    let file = open("/dev/null", OFlags::RDWR, Mode::empty()).unwrap();
    let error = Tap::from_fd(&vnet, "tap0", file, TapConfig::default()).unwrap_err();
    assert!(matches!(error, TapError::NotATap(_)), "{error}");
    // Nobody has said yet which device it is of.
    let none = open("/dev/net/tun", OFlags::RDWR, Mode::empty()).unwrap();
    let error = Tap::from_fd(&vnet, "tap0", none, TapConfig::default()).unwrap_err();
    assert!(matches!(error, TapError::NotATap(_)), "{error}");
}

/// Each kind of device that a launcher may hand in is known for what it is, and carries frames.
#[test]
fn a_descriptor_handed_in_carries_frames() {
    for layer in [Layer::Link, Layer::Network] {
        for offload in [Offload::Full, Offload::None] {
            let Some(Bench { tap, vnet, host }) = bench() else {
                return;
            };
            drop(tap);
            host.wait_until_gone("vnt0", PATIENCE).unwrap();
            let opened = Tap::open(&TapConfig {
                host_name: Some("given0".into()),
                netns: Some(host.path()),
                layer,
                offload,
                ..TapConfig::default()
            });
            let config = TapConfig::default();
            let tap = Tap::from_fd(&vnet, "tap0", opened.unwrap(), config).unwrap();
            assert_eq!(tap.host_name(), "given0");
            host.ip(&format!("addr add {HOST}/24 dev given0")).unwrap();
            host.ip("link set given0 up").unwrap();
            let bench = Bench { tap, vnet, host };
            bench.talk(1000);
            let report = bench.tap.detach();
            assert!(
                matches!(report.end, Some(PumpEnd::Detached)),
                "{layer:?}, {offload:?}: {report}"
            );
        }
    }
}

#[test]
fn a_tun_carries_both_families_without_link_headers() {
    for offload in [Offload::Full, Offload::Checksum, Offload::None] {
        let Some(Bench { tap, vnet, host }) = bench() else {
            return;
        };
        drop(tap);
        host.wait_until_gone("vnt0", PATIENCE).unwrap();
        let config = TapConfig {
            host_name: Some("tun%d".into()),
            layer: Layer::Network,
            netns: Some(host.path()),
            host_state: HostState::Up,
            offload,
            ..TapConfig::default()
        };
        let tap = Tap::attach(&vnet, "tun0", config).unwrap();
        vnet.remove_address("tap0", VNET.into()).unwrap();
        vnet.add_address("tun0", format!("{VNET}/24").parse().unwrap())
            .unwrap();
        vnet.add_address("tun0", "2001:db8::2/64".parse().unwrap())
            .unwrap();
        host.run(|| {
            let _ = std::fs::write("/proc/sys/net/ipv6/conf/tun0/disable_ipv6", "0");
        });
        let said = told(&host, "tun0");
        assert!(
            said.contains("tun type tun") && said.contains("link/none"),
            "{said}"
        );
        host.ip(&format!("addr add {HOST}/24 dev tun0")).unwrap();
        host.ip("addr add 2001:db8::1/64 dev tun0 nodad").unwrap();
        for (at, from) in [
            (format!("{VNET}:5001"), format!("{HOST}:0")),
            (
                "[2001:db8::2]:5001".to_owned(),
                "[2001:db8::1]:0".to_owned(),
            ),
        ] {
            let listener = vnet::net::TcpListener::bind_in(&vnet, at.as_str()).unwrap();
            let theirs = host.run(move || {
                assert!(UdpSocket::bind(from).is_ok());
                std::net::TcpStream::connect(at)
            });
            let mut theirs = theirs.unwrap();
            let (mut ours, _) = listener.accept().unwrap();
            let sent: Vec<u8> = (0..2_000_000u32).map(|n| (n % 251) as u8).collect();
            let expected = sent.clone();
            // There, and back.
            let echo = std::thread::spawn(move || {
                let mut received = vec![0; 2_000_000];
                ours.read_exact(&mut received).unwrap();
                ours.write_all(&received).unwrap();
            });
            theirs.write_all(&sent).unwrap();
            let mut received = vec![0; 2_000_000];
            theirs.read_exact(&mut received).unwrap();
            echo.join().unwrap();
            assert!(received == expected);
        }
        let bench = Bench { tap, vnet, host };
        bench.talk(1000);
        let report = bench.tap.detach();
        assert!(matches!(report.end, Some(PumpEnd::Detached)), "{report}");
    }
}

#[test]
fn taps_that_come_and_go_leave_nothing_behind() {
    in_a_process_of_its_own("taps_come_and_go_inside");
}

#[test]
#[ignore = "run by the test before, in a process of its own"]
fn taps_come_and_go_inside() {
    if !is_inside() {
        return;
    }
    let Some(Bench { tap, vnet, host }) = bench() else {
        return;
    };
    drop(tap);
    let interfaces = || {
        let list = host.run(|| std::fs::read_to_string("/proc/thread-self/net/dev").unwrap());
        list.lines().count()
    };
    let once = |n: usize| {
        let config = TapConfig {
            netns: Some(host.path()),
            host_state: HostState::Up,
            layer: [Layer::Link, Layer::Network][n % 2],
            queues: (1 + n as u16 % 3).try_into().unwrap(),
            ..TapConfig::default()
        };
        drop(Tap::attach(&vnet, "tap0", config).unwrap());
    };
    // Interfaces go a moment after their descriptors.
    leaves_nothing(rounds(200), interfaces, once);
    let report = vnet.destroy();
    assert!(report.leaked.is_zero(), "{report}");
}

#[test]
fn a_port_can_be_attached_again() {
    let Some(Bench { tap, vnet, host }) = bench() else {
        return;
    };
    let mac = |vnet: &OwnedVnet| {
        let interfaces = vnet.interfaces().unwrap();
        let tap0 = interfaces.iter().find(|i| i.name == "tap0");
        tap0.unwrap().mac
    };
    let (before, name) = (mac(&vnet), tap.host_name().to_owned());
    tap.detach();
    host.wait_until_gone(&name, PATIENCE).unwrap();
    let inside = (*vnet).clone();
    let attach = move || Tap::attach(&inside, "tap0", TapConfig::default());
    let tap = host.run(attach.clone()).unwrap();
    assert_eq!(mac(&vnet), before);
    let error = host.run(attach).unwrap_err();
    assert!(
        matches!(error, TapError::Port(AdminError::PluggedIn(_))),
        "{error}"
    );
    let name = tap.host_name();
    host.ip(&format!("addr add {HOST}/24 dev {name}")).unwrap();
    host.ip(&format!("link set {name} up")).unwrap();
    Bench { tap, vnet, host }.talk(1000);
}

/// Counts the TCP segments that a vnet sends, and those that it gets.
#[derive(Default)]
struct Segments([AtomicU64; 2]);

impl FrameTap for Segments {
    fn frame(&self, _: VnetInstant, direction: Direction, packet: &Packet) {
        let frame = packet.to_vec();
        // IPv4, and TCP in it.
        if frame.get(12..14) == Some(&[8, 0]) && frame.get(23) == Some(&6) {
            let [out, come] = &self.0;
            let count = match direction {
                Direction::Out => out,
                _ => come,
            };
            count.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn describe(&self) -> String {
        "segments".into()
    }
}

/// A plain device carries each segment for itself. Those that have come by the time at which they are read are one to the
/// connection, which answers with one acknowledgment: otherwise, there is one for two of them at least.
#[test]
fn segments_by_a_plain_tap_are_joined() {
    let Some(Bench { tap, vnet, host }) = bench() else {
        return;
    };
    tap.detach();
    let plain = || TapConfig {
        host_name: Some("plain".into()),
        host_state: HostState::Up,
        offload: Offload::None,
        ..TapConfig::default()
    };
    let fd = host.run(move || Tap::open(&plain())).unwrap();
    let attach = || Tap::from_fd(&vnet, "tap0", fd.try_clone().unwrap(), TapConfig::default());
    let tap = attach().unwrap();
    host.ip(&format!("addr add {HOST}/24 dev plain")).unwrap();
    let listener = vnet::net::TcpListener::bind_in(&vnet, (VNET, 0)).unwrap();
    let at = listener.local_addr().unwrap();
    let mut theirs = host.run(move || TcpStream::connect(at)).unwrap();
    let (mut ours, _) = listener.accept().unwrap();
    // The last segment of the handshake may still be on its way.
    theirs.write_all(&[1]).unwrap();
    ours.read_exact(&mut [0]).unwrap();
    tap.detach();
    // Nobody reads the device, which keeps what Linux sends before it is acknowledged.
    const LEN: usize = 8 * 1448;
    theirs.write_all(&[7; LEN]).unwrap();
    let segments = Arc::new(Segments::default());
    let _capture = vnet
        .start_capture("tap0", Arc::clone(&segments) as _)
        .unwrap();
    let tap = attach().unwrap();
    let mut came = vec![0; LEN];
    ours.read_exact(&mut came).unwrap();
    assert_eq!(came, [7; LEN]);
    tap.detach();
    let [out, come] = [0, 1].map(|n| segments.0[n].load(Ordering::SeqCst));
    assert!(come >= 8 && out <= 2, "{out} for {come}");
}

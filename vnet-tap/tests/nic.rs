//! A network card of the host's as a port: one end of a pair of virtual interfaces stands for it, and the host is a
//! network namespace of the test's own.
//!
//! Needs root; says so otherwise.

mod alone;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::process::{Command, Stdio};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use alone::{in_a_process_of_its_own, is_inside, leaves_nothing, rounds};
use vnet::{OwnedVnet, System, VlanConfig};
use vnet_tap::{NetNs, Nic, NicConfig, NicError, PumpEnd, Xdp};

const HOST: Ipv4Addr = Ipv4Addr::new(198, 18, 2, 1);
const VNET: Ipv4Addr = Ipv4Addr::new(198, 18, 2, 2);
const PATIENCE: Duration = Duration::from_secs(20);

fn skip(why: &dyn std::fmt::Display) {
    let required = std::env::var_os("VNET_REQUIRE_TAP").is_some_and(|v| !v.is_empty());
    assert!(
        !required,
        "VNET_REQUIRE_TAP is set, but there is no card: {why}"
    );
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}

/// A host with a cable: `wire` is the far end, where somebody else is, and `nic` the card that is taken.
fn host() -> Option<NetNs> {
    let host = NetNs::new().map_err(|e| skip(&e)).ok()?;
    host.run(|| {
        for which in ["all", "default"] {
            let path = format!("/proc/sys/net/ipv6/conf/{which}/disable_ipv6");
            let _ = std::fs::write(path, "1");
        }
    });
    let made = host.ip("link add wire type veth peer name nic");
    made.map_err(|e| skip(&e)).ok()?;
    host.ip("link set nic address 52:54:00:00:00:42 up")
        .unwrap();
    host.ip("link set wire up").unwrap();
    host.ip(&format!("addr add {HOST}/24 dev wire")).unwrap();
    // The host has both ends: it may not take what comes in at the card for its own.
    for name in ["wire", "nic"] {
        host.run(move || {
            let path = format!("/proc/sys/net/ipv4/conf/{name}/arp_ignore");
            std::fs::write(path, "1")
        })
        .unwrap();
    }
    Some(host)
}

fn taken(host: &NetNs) -> (OwnedVnet, Nic) {
    let vnet = System::threads().create("router").unwrap();
    let inside = (*vnet).clone();
    let nic = host
        .run(move || Nic::attach(&inside, "eth0", "nic"))
        .unwrap();
    (vnet, nic)
}

/// What `ip` says of the card, but for what counts.
fn state(host: &NetNs) -> String {
    state_of(host, "nic")
}

fn state_of(host: &NetNs, card: &'static str) -> String {
    let show = move || {
        Command::new("ip")
            .args(["-d", "link", "show", "dev", card])
            .output()
    };
    String::from_utf8(host.run(show).unwrap().stdout).unwrap()
}

/// Adds another card, which nothing is plugged into: it takes no tags off its frames, and can be had by AF_XDP as it is.
/// Says aloud if it can not: not every kernel has that, and not every container lets it be had.
fn add_plain_card(host: &NetNs) -> bool {
    host.ip("tuntap add plain mode tap").unwrap();
    host.ip("link set plain up").unwrap();
    let vnet = System::threads().create("probe").unwrap();
    let attached = host.run(move || Nic::attach(&vnet, "eth0", by_xdp()).map(drop));
    attached.map_err(|why| skip(&why)).is_ok()
}

fn by_xdp() -> NicConfig {
    NicConfig {
        xdp: Xdp::Always,
        ..NicConfig::from("plain")
    }
}

fn is_promiscuous(host: &NetNs) -> bool {
    state(host).contains("promiscuity 1")
}

/// Sends datagrams until one has come through and back.
fn talk(host: &NetNs, from: Ipv4Addr, vnet: &OwnedVnet, to: Ipv4Addr) {
    let theirs = host.run(move || UdpSocket::bind((from, 0))).unwrap();
    let ours = vnet::net::UdpSocket::bind_in(vnet, (to, 0)).unwrap();
    let brief = Some(Duration::from_millis(500));
    theirs.set_read_timeout(brief).unwrap();
    ours.set_read_timeout(brief).unwrap();
    let give_up = Instant::now() + PATIENCE;
    let mut buf = [0; 2000];
    while Instant::now() < give_up {
        let _ = theirs.send_to(&[7; 1000], ours.local_addr().unwrap());
        let Ok((n, from)) = ours.recv_from(&mut buf) else {
            continue;
        };
        assert_eq!(buf[..n], [7; 1000]);
        let _ = ours.send_to(&[8; 900], from);
        if let Ok((n, _)) = theirs.recv_from(&mut buf) {
            assert_eq!(buf[..n], [8; 900]);
            return;
        }
    }
    panic!("no datagram came through and back");
}

#[test]
fn a_card_is_taken_with_its_address_and_given_back_as_it_was() {
    let Some(host) = host() else { return };
    host.ip("link set nic mtu 1400").unwrap();
    let before = state(&host);
    let (vnet, nic) = taken(&host);
    assert_eq!(nic.host_name(), "nic");
    let interfaces = vnet.interfaces().unwrap();
    let ours = interfaces.iter().find(|i| i.name == "eth0").unwrap();
    assert_eq!(ours.mac.to_string(), "52:54:00:00:00:42");
    assert_eq!(ours.ip_mtu, 1400);
    assert!(is_promiscuous(&host), "{}", state(&host));
    vnet.add_address("eth0", format!("{VNET}/24").parse().unwrap())
        .unwrap();
    talk(&host, HOST, &vnet, VNET);
    let report = nic.detach();
    assert!(matches!(report.end, Some(PumpEnd::Detached)), "{report}");
    assert!(report.frames_in > 0 && report.frames_out > 0, "{report}");
    assert_eq!(state(&host), before);
}

#[test]
fn cards_that_come_and_go_leave_nothing_behind() {
    in_a_process_of_its_own("cards_come_and_go_inside");
}

#[test]
#[ignore = "run by the test before, in a process of its own"]
fn cards_come_and_go_inside() {
    if !is_inside() {
        return;
    }
    let Some(host) = host() else { return };
    let has_xdp = add_plain_card(&host);
    let vnet = System::threads().create("router").unwrap();
    leaves_nothing(
        rounds(50),
        || (state(&host), state_of(&host, "plain")),
        |n| {
            let inside = (*vnet).clone();
            let config = match n % 3 {
                2 if has_xdp => by_xdp(),
                queues => NicConfig {
                    queues: (1 + queues as u16).try_into().unwrap(),
                    ..NicConfig::from("nic")
                },
            };
            let nic = host.run(move || Nic::attach(&inside, "eth0", config));
            drop(nic.unwrap());
        },
    );
    let report = vnet.destroy();
    assert!(report.leaked.is_zero(), "{report}");
}

#[test]
fn segments_pass_uncut_and_arrive_whole() {
    let Some(host) = host() else { return };
    let (vnet, nic) = taken(&host);
    vnet.add_address("eth0", format!("{VNET}/24").parse().unwrap())
        .unwrap();
    let bytes: Vec<u8> = (0..8_000_000u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 9) as u8)
        .collect();
    let listener = host.run(|| TcpListener::bind((HOST, 0))).unwrap();
    let at = listener.local_addr().unwrap();
    let expected = bytes.clone();
    let echo = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        assert!(all == expected, "as it arrived");
        stream.write_all(&all).unwrap();
    });
    let mut stream = vnet::net::TcpStream::connect_in(&vnet, at).unwrap();
    stream.write_all(&bytes).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut back = Vec::new();
    stream.read_to_end(&mut back).unwrap();
    echo.join().unwrap();
    assert!(back == bytes, "as it came back");
    let report = nic.detach();
    // Cut to the MTU, it would be 5500 each way.
    assert!(report.frames_out < 4000, "{report}");
}

/// The kernel takes tags off what comes in, and says so beside the frame.
#[test]
fn vlan_tags_pass_though_the_kernel_takes_them_off() {
    let Some(host) = host() else { return };
    let ends = ["nic", "wire"].map(|name| {
        let vnet = System::threads().create(name).unwrap();
        let inside = (*vnet).clone();
        let nic = host
            .run(move || Nic::attach(&inside, "eth0", name))
            .unwrap();
        vnet.vlan("eth0", "eth0.10", VlanConfig::dot1q(10)).unwrap();
        (vnet, nic)
    });
    for ((vnet, _), net) in ends.iter().zip(["198.18.10.1/24", "198.18.10.2/24"]) {
        vnet.add_address("eth0.10", net.parse().unwrap()).unwrap();
    }
    let [(a, _), (b, _)] = &ends;
    let listener = vnet::net::TcpListener::bind_in(b, "198.18.10.2:7").unwrap();
    let bytes = [9; 100_000];
    let echo = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        all
    });
    let mut stream = vnet::net::TcpStream::connect_in(a, "198.18.10.2:7").unwrap();
    stream.write_all(&bytes).unwrap();
    drop(stream);
    assert!(echo.join().unwrap() == bytes);
}

#[test]
fn a_card_that_goes_down_comes_back_and_one_that_is_deleted_does_not() {
    let Some(host) = host() else { return };
    let (vnet, nic) = taken(&host);
    vnet.add_address("eth0", format!("{VNET}/24").parse().unwrap())
        .unwrap();
    talk(&host, HOST, &vnet, VNET);
    host.ip("link set nic down").unwrap();
    sleep(Duration::from_millis(20));
    assert!(nic.is_running());
    host.ip("link set nic up").unwrap();
    talk(&host, HOST, &vnet, VNET);
    host.ip("link del wire").unwrap();
    ends(nic);
}

/// Nothing comes in from there that would say so.
#[test]
fn a_card_that_is_deleted_while_it_is_down_is_missed() {
    let Some(host) = host() else { return };
    let (_vnet, nic) = taken(&host);
    host.ip("link set nic down").unwrap();
    sleep(Duration::from_millis(20));
    assert!(nic.is_running());
    host.ip("link del wire").unwrap();
    ends(nic);
}

fn ends(nic: Nic) {
    let give_up = Instant::now() + PATIENCE;
    while nic.is_running() {
        assert!(Instant::now() < give_up, "the pump still runs");
        sleep(Duration::from_millis(5));
    }
    let report = nic.detach();
    assert!(matches!(report.end, Some(PumpEnd::Device(_))), "{report}");
}

#[test]
fn what_is_no_card_is_refused() {
    let Some(host) = host() else { return };
    let vnet = System::threads().create("router").unwrap();
    for name in ["nobody", "lo", "a name that is too long", ""] {
        let inside = (*vnet).clone();
        let refused = host.run(move || Nic::attach(&inside, "eth0", name).unwrap_err());
        assert!(
            matches!(refused, NicError::NotEthernet(_)),
            "{name:?}: {refused}"
        );
    }
    let config = NicConfig {
        netns: Some("/proc/self/ns/nothing".into()),
        ..NicConfig::from("nic")
    };
    let refused = Nic::attach(&vnet, "eth0", config).unwrap_err();
    assert!(matches!(refused, NicError::NetNs { .. }), "{refused}");
}

const KILLED: &str = "VNET_TEST_TAKES";

/// Another process takes the card, and is killed.
#[test]
fn a_process_that_is_killed_leaves_the_card_as_it_was() {
    let Some(host) = host() else { return };
    let has_xdp = add_plain_card(&host);
    let me = std::env::current_exe().unwrap();
    let cards = ["nic", "plain", "nic", "plain"];
    for card in cards.into_iter().filter(|card| *card == "nic" || has_xdp) {
        let before = state_of(&host, card);
        let me = me.clone();
        let mut child = host
            .run(move || {
                Command::new(me)
                    .args(["--exact", "--ignored", "takes_the_card"])
                    .env(KILLED, card)
                    .stdout(Stdio::null())
                    .spawn()
            })
            .unwrap();
        let give_up = Instant::now() + PATIENCE;
        let is_taken = |state: String| {
            state.contains("promiscuity 1") && (card == "nic" || state.contains("prog/xdp"))
        };
        while !is_taken(state_of(&host, card)) {
            assert!(Instant::now() < give_up, "it does not take the card");
            sleep(Duration::from_millis(5));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(state_of(&host, card), before);
    }
}

#[test]
#[ignore = "for the test above"]
fn takes_the_card() {
    let Some(card) = std::env::var_os(KILLED) else {
        return;
    };
    let vnet = System::threads().create("router").unwrap();
    let config = match card == "plain" {
        true => by_xdp(),
        false => NicConfig {
            queues: 2.try_into().unwrap(),
            ..NicConfig::from("nic")
        },
    };
    let _nic = Nic::attach(&vnet, "eth0", config).unwrap();
    sleep(PATIENCE);
}

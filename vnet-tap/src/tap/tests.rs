use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use vnet::{OwnedVnet, System};

use super::*;
use crate::config::{HostState, Layer, Lifetime};
use crate::netns::NetNs;
use crate::report::PumpEnd;

const HOST: Ipv4Addr = Ipv4Addr::new(198, 18, 2, 1);
const VNET: Ipv4Addr = Ipv4Addr::new(198, 18, 2, 2);
const PATIENCE: Duration = Duration::from_secs(20);
const QUEUES: u16 = 2;

#[test]
fn names_the_kernel_would_change_are_refused() {
    for good in ["vnt%d", "tap0", "fifteen-bytes-1"] {
        assert!(check_host_name(good).is_ok(), "{good}");
    }
    for bad in [
        "",
        "sixteen-bytes-12",
        "a b",
        "a/b",
        "..",
        "a\0b",
        "a%x",
        "%d%d",
        "50%",
    ] {
        assert!(check_host_name(bad).is_err(), "{bad}");
    }
}

/// A namespace in which TAPs can be made. Says aloud where there is none.
fn host() -> Option<NetNs> {
    let host = NetNs::new().map_err(|e| e.to_string());
    let probed = host.and_then(|host| match host.run(crate::probe) {
        Ok(()) => Ok(host),
        Err(why) => Err(why.to_string()),
    });
    let host = probed.map_err(|why| {
        let required = std::env::var_os("VNET_REQUIRE_TAP").is_some_and(|v| !v.is_empty());
        assert!(!required, "VNET_REQUIRE_TAP is set: {why}");
        let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
    });
    let host = host.ok()?;
    host.run(|| {
        for which in ["all", "default"] {
            let path = format!("/proc/sys/net/ipv6/conf/{which}/disable_ipv6");
            let _ = std::fs::write(path, "1");
        }
    });
    Some(host)
}

fn config(host: &NetNs, queues: u16) -> TapConfig {
    TapConfig {
        host_name: Some("many0".into()),
        netns: Some(host.path()),
        host_state: HostState::Up,
        queues: queues.try_into().unwrap(),
        ..TapConfig::default()
    }
}

fn attached(host: &NetNs, config: TapConfig) -> (OwnedVnet, Tap) {
    let vnet = System::threads().create("guest").unwrap();
    let tap = Tap::attach(&vnet, "tap0", config).unwrap();
    let net = format!("{VNET}/24").parse().unwrap();
    vnet.add_address("tap0", net).unwrap();
    host.ip(&format!("addr add {HOST}/24 dev many0")).unwrap();
    (vnet, tap)
}

/// Segments that arrived at the host before others that were sent earlier.
fn out_of_order_at(host: &NetNs) -> u64 {
    let said = host.run(|| std::fs::read_to_string("/proc/thread-self/net/netstat").unwrap());
    let mut lines = said.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let mut both = names.split(' ').zip(values.split(' '));
    let (_, value) = both.find(|(name, _)| *name == "TCPOFOQueue").unwrap();
    value.parse().unwrap()
}

#[test]
fn each_queue_carries_flows_of_its_own_in_their_order() {
    const FLOWS: u16 = 24;
    const LEN: usize = 150_000;
    for (layer, offload) in [
        (Layer::Link, Offload::Full),
        (Layer::Link, Offload::None),
        (Layer::Network, Offload::Full),
    ] {
        let Some(host) = host() else { return };
        let config = TapConfig {
            layer,
            offload,
            ..config(&host, QUEUES)
        };
        let (vnet, tap) = attached(&host, config);
        let listener = host.run(|| TcpListener::bind((HOST, 0))).unwrap();
        let at = listener.local_addr().unwrap();
        let pattern = |flow: u16| -> Vec<u8> {
            (0..LEN)
                .map(|n| (n * 31 + usize::from(flow)) as u8)
                .collect()
        };
        let echoes = thread::spawn(move || {
            let accepted = (0..FLOWS).map(|_| listener.accept().unwrap().0);
            let echoes: Vec<_> = accepted
                .map(|mut stream| {
                    thread::spawn(move || {
                        let mut all = vec![0; LEN];
                        stream.read_exact(&mut all).unwrap();
                        stream.write_all(&all).unwrap();
                    })
                })
                .collect();
            echoes.into_iter().for_each(|echo| echo.join().unwrap());
        });
        let flows: Vec<_> = (0..FLOWS)
            .map(|flow| {
                let mut stream = vnet::net::TcpStream::connect_in(&vnet, at).unwrap();
                thread::spawn(move || {
                    stream.write_all(&pattern(flow)).unwrap();
                    let mut back = vec![0; LEN];
                    stream.read_exact(&mut back).unwrap();
                    assert!(back == pattern(flow), "flow {flow}");
                })
            })
            .collect();
        flows.into_iter().for_each(|flow| flow.join().unwrap());
        echoes.join().unwrap();
        assert_eq!(out_of_order_at(&host), 0, "{layer:?}, {offload:?}");
        for report in tap.pumps.each() {
            assert!(
                report.frames_in > 4 && report.frames_out > 4,
                "{layer:?}, {offload:?}: {report}"
            );
        }
        let report = tap.detach();
        assert!(matches!(report.end, Some(PumpEnd::Detached)), "{report}");
        host.wait_until_gone("many0", PATIENCE).unwrap();
    }
}

/// The kernel sends what belongs to a flow to the queue that the flow's frames came from.
#[test]
fn the_host_answers_a_flow_on_its_queue() {
    const ROUNDS: u64 = 200;
    let Some(host) = host() else { return };
    let (vnet, tap) = attached(&host, config(&host, QUEUES));
    let theirs = host.run(|| UdpSocket::bind((HOST, 0))).unwrap();
    let at = theirs.local_addr().unwrap();
    theirs.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut used = [false; QUEUES as usize];
    let mut port = 2000;
    while used.contains(&false) {
        port += 1;
        assert!(port < 2064, "64 flows in one queue");
        let ours = vnet::net::UdpSocket::bind_in(&vnet, (VNET, port)).unwrap();
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        let before = tap.pumps.each();
        let mut buf = [0; 100];
        for round in 0..ROUNDS {
            ours.send_to(&round.to_be_bytes(), at).unwrap();
            let (len, from) = theirs.recv_from(&mut buf).unwrap();
            theirs.send_to(&buf[..len], from).unwrap();
            let (len, _) = ours.recv_from(&mut buf).unwrap();
            assert_eq!(buf[..len], round.to_be_bytes());
        }
        let each: Vec<_> = tap
            .pumps
            .each()
            .iter()
            .zip(before)
            .map(|(now, before)| {
                (
                    now.frames_out - before.frames_out,
                    now.frames_in - before.frames_in,
                )
            })
            .collect();
        let queue = each.iter().position(|(out, _)| *out >= ROUNDS);
        let queue = queue.unwrap_or_else(|| panic!("one flow in several queues: {each:?}"));
        // All but what came before the host knew.
        assert!(each[queue].1 >= ROUNDS - 10, "{each:?}");
        used[queue] = true;
    }
}

#[test]
fn all_queues_end_with_the_device_and_with_the_vnet() {
    let Some(host) = host() else { return };
    let (vnet, tap) = attached(&host, config(&host, 4));
    host.ip("link del many0").unwrap();
    let all_ended = |tap: &Tap| {
        let give_up = Instant::now() + PATIENCE;
        while tap.pumps.each_is_running().contains(&true) {
            assert!(Instant::now() < give_up, "a queue still runs");
            sleep(Duration::from_millis(2));
        }
    };
    all_ended(&tap);
    let report = tap.detach();
    assert!(matches!(report.end, Some(PumpEnd::Device(_))), "{report}");
    let tap = Tap::attach(&vnet, "tap0", config(&host, 4)).unwrap();
    let report = vnet.destroy();
    assert!(report.leaked.is_zero(), "{report}");
    all_ended(&tap);
    let report = tap.detach();
    assert!(matches!(report.end, Some(PumpEnd::PortGone)), "{report}");
    host.wait_until_gone("many0", PATIENCE).unwrap();
}

#[test]
fn queues_that_the_kernel_does_not_give_are_an_error_of_their_own() {
    let Some(host) = host() else { return };
    let vnet = System::threads().create("guest").unwrap();
    let most = MOST_QUEUES as u16;
    // All but one are somebody else's.
    let others = Device::create(&config(&host, most - 1)).unwrap();
    let refused = Tap::attach(&vnet, "tap0", config(&host, 2)).unwrap_err();
    let TapError::Queues { wanted: 2, error } = refused else {
        panic!("{refused}");
    };
    assert_eq!(error.kind(), io::ErrorKind::ArgumentListTooLong, "{error}");
    drop(others);
    host.wait_until_gone("many0", PATIENCE).unwrap();
    let too_many = [
        Tap::attach(&vnet, "tap0", config(&host, most + 1)).map(drop),
        Tap::open(&config(&host, 2)).map(drop),
    ];
    for refused in too_many {
        let refused = refused.unwrap_err();
        assert!(matches!(refused, TapError::Queues { .. }), "{refused}");
    }
    // Made for one, it does not get two, nor the other way round.
    for (made, asked) in [(1, 2), (2, 1)] {
        let persistent = TapConfig {
            lifetime: Lifetime::Persistent,
            ..config(&host, made)
        };
        drop(Device::create(&persistent).unwrap());
        let refused = Tap::attach(&vnet, "tap0", config(&host, asked)).unwrap_err();
        assert!(matches!(refused, TapError::NotATap(_)), "{refused}");
        let again = TapConfig {
            lifetime: Lifetime::WithTap,
            ..config(&host, made)
        };
        drop(Tap::attach(&vnet, "tap0", again).unwrap());
        host.wait_until_gone("many0", PATIENCE).unwrap();
    }
    let left = vnet.destroy();
    assert!(left.leaked.is_zero(), "{left}");
}

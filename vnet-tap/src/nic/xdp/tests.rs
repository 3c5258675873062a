use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, TcpListener};
use std::process::Command;
use std::thread;
use std::time::Instant;

use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use vnet::{OwnedVnet, System};

use super::super::tests::{PATIENCE, far_end, frame, host, send, skip};
use super::super::{Nic, Xdp, in_its_namespace};
use super::*;
use crate::netns::NetNs;

/// A host whose frames are whole: the far end fills in checksums and cuts, and neither end takes tags off or leaves them
/// out.
fn whole() -> Option<NetNs> {
    let host = host()?;
    for end in ["nic", "wire"] {
        host.complete_frames(end).unwrap();
    }
    // Not every kernel has it, and not every container lets it be had.
    let open = in_its_namespace(&config(&host, Xdp::Always), generic);
    open.map_err(|why| skip(&why)).ok()?;
    Some(host)
}

fn config(host: &NetNs, xdp: Xdp) -> NicConfig {
    NicConfig {
        netns: Some(host.path()),
        xdp,
        ..NicConfig::from("nic")
    }
}

fn native(config: &NicConfig) -> Result<Taken, NicError> {
    open(config, &[Mode::Native])
}

fn generic(config: &NicConfig) -> Result<Taken, NicError> {
    open(config, &[Mode::Generic])
}

type Open = fn(&NicConfig) -> Result<Taken, NicError>;
const BOTH: [Open; 2] = [native, generic];

fn taken(host: &NetNs, by: Open) -> (OwnedVnet, Nic) {
    let vnet = System::threads().create("router").unwrap();
    let config = config(host, Xdp::Always);
    let taken = in_its_namespace(&config, by).unwrap();
    let nic = Nic::plug_in(&vnet, "eth0", config, taken).unwrap();
    (vnet, nic)
}

/// What `ip` says of the card.
fn state(host: &NetNs) -> String {
    let show = || {
        Command::new("ip")
            .args(["-d", "link", "show", "dev", "nic"])
            .output()
    };
    String::from_utf8(host.run(show).unwrap().stdout).unwrap()
}

#[test]
fn a_card_carries_both_families_both_ways_and_is_given_back() {
    const FOUR: (Ipv4Addr, Ipv4Addr) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
    const SIX: (Ipv6Addr, Ipv6Addr) = (
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1),
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2),
    );
    let Some(host) = whole() else { return };
    host.run(|| std::fs::write("/proc/sys/net/ipv6/conf/wire/disable_ipv6", "0"))
        .unwrap();
    host.ip(&format!("addr add {}/24 dev wire", FOUR.0))
        .unwrap();
    host.ip(&format!("addr add {}/64 dev wire nodad", SIX.0))
        .unwrap();
    let before = state(&host);
    let bytes: Vec<u8> = (0..3_000_000u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 9) as u8)
        .collect();
    for (by, is_what) in BOTH.into_iter().zip(["xdp", "xdpgeneric"]) {
        let (vnet, nic) = taken(&host, by);
        let during = state(&host);
        assert!(during.contains(&format!("{is_what} ")), "{during}");
        assert!(during.contains("promiscuity 1"), "{during}");
        vnet.add_address("eth0", format!("{}/24", FOUR.1).parse().unwrap())
            .unwrap();
        vnet.add_address("eth0", format!("{}/64", SIX.1).parse().unwrap())
            .unwrap();
        for there in [IpAddr::from(FOUR.0), SIX.0.into()] {
            let ping = vnet::net::EchoSocket::bind_in(&vnet).unwrap();
            ping.set_read_timeout(Some(Duration::from_millis(500)))
                .unwrap();
            let give_up = Instant::now() + PATIENCE;
            // An address of the host's may be new.
            while ping
                .send_to(1, &[7; 1000], there)
                .and_then(|()| ping.recv())
                .is_err()
            {
                assert!(Instant::now() < give_up, "no answer from {there}");
            }
            let listener = host.run(move || TcpListener::bind((there, 0))).unwrap();
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
            stream.shutdown(Shutdown::Write).unwrap();
            let mut back = Vec::new();
            stream.read_to_end(&mut back).unwrap();
            echo.join().unwrap();
            assert!(back == bytes, "as it came back");
        }
        assert!(nic.is_by_xdp());
        let report = nic.detach();
        // All of it is cut to the MTU.
        assert!(
            report.frames_in > 4000 && report.frames_out > 4000,
            "{report}"
        );
        assert_eq!(state(&host), before);
    }
}

/// A way in and a way out that nobody carries frames on.
fn still(host: &NetNs, by: Open) -> Halves {
    let taken = in_its_namespace(&config(host, Xdp::Always), by);
    taken.unwrap().queues.pop().unwrap()
}

#[test]
fn frames_for_which_there_is_no_room_are_counted() {
    const ROOM: u32 = 2048;
    let Some(host) = whole() else { return };
    for by in BOTH {
        let (mut inward, _outward) = still(&host, by);
        let far = far_end(&host);
        for number in 0..ROOM + 100 {
            send(&far, &frame(1, number, 60));
        }
        let give_up = Instant::now() + PATIENCE;
        let (mut came, mut lost) = (Vec::new(), 0);
        while came.len() as u64 + lost < u64::from(ROOM) + 100 {
            assert!(Instant::now() < give_up, "{} and {lost}", came.len());
            match inward.read().unwrap() {
                Some(frame) => came.push(frame.bytes),
                None => lost += inward.take_lost(),
            }
        }
        // Reading while they come makes room for more; what comes is what was sent first, in its order.
        assert!(came.len() as u32 >= ROOM, "{} came", came.len());
        for (number, came) in came[..ROOM as usize].iter().enumerate() {
            assert_eq!(came, &frame(1, number as u32, 60));
        }
    }
}

#[test]
fn frames_that_are_longer_than_a_piece_of_memory_are_counted() {
    let Some(host) = whole() else { return };
    let (mut inward, mut outward) = still(&host, generic);
    for name in ["nic", "wire"] {
        host.ip(&format!("link set {name} mtu 3000")).unwrap();
    }
    let far = far_end(&host);
    for number in 0..5 {
        send(&far, &frame(1, number, 1793));
    }
    send(&far, &frame(1, 5, 1792));
    let give_up = Instant::now() + PATIENCE;
    let came = loop {
        assert!(Instant::now() < give_up, "nothing came");
        if let Some(came) = inward.read().unwrap() {
            break came.bytes;
        }
    };
    assert_eq!(came, frame(1, 5, 1792));
    assert!(inward.read().unwrap().is_none());
    assert_eq!(inward.take_lost(), 5);

    let vnet = System::threads().create("router").unwrap();
    let port = vnet.port("eth0", None).unwrap();
    vnet.set_ip_mtu("eth0", 3000).unwrap();
    vnet.add_address("eth0", "192.0.2.2/24".parse().unwrap())
        .unwrap();
    let announced = port.recv().unwrap();
    assert!(matches!(outward.write(announced).unwrap(), Written::Yes));
    assert_eq!(outward.unsent(), 1);
    assert!(outward.flush().unwrap());
    assert_eq!(outward.unsent(), 0);
    vnet.add_neighbour(
        "eth0",
        "192.0.2.1".parse().unwrap(),
        vnet::MacAddr([2, 0, 0, 0, 0, 9]),
    )
    .unwrap();
    let socket = vnet::net::UdpSocket::bind_in(&vnet, "192.0.2.2:9").unwrap();
    socket.send_to(&[7; 2000], "192.0.2.1:9").unwrap();
    let give_up = Instant::now() + PATIENCE;
    let long = loop {
        assert!(Instant::now() < give_up, "nothing was sent");
        if let Some(long) = port.recv().filter(|packet| packet.len() > 2000) {
            break long;
        }
    };
    assert!(matches!(outward.write(long).unwrap(), Written::Refused));
}

/// Why a card was not taken.
fn refused(config: &NicConfig) -> String {
    match in_its_namespace(config, Taken::here) {
        Err(error @ NicError::Xdp { .. }) => error.to_string(),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("the card was taken"),
    }
}

#[test]
fn what_is_missing_is_said_or_packet_sockets_are_used() {
    let Some(host) = whole() else { return };
    let always = config(&host, Xdp::Always);
    let is_by_xdp = |config: &NicConfig| in_its_namespace(config, Taken::here).unwrap().is_by_xdp;
    let where_possible = config(&host, Xdp::WherePossible);
    assert!(is_by_xdp(&where_possible));

    let several = NicConfig {
        queues: 2.try_into().unwrap(),
        ..always.clone()
    };
    let said = refused(&several);
    assert!(said.contains("ethtool -L nic combined 2"), "{said}");

    let first = in_its_namespace(&always, Taken::here).unwrap();
    let said = refused(&always);
    assert!(said.contains("somebody else"), "{said}");
    assert!(!is_by_xdp(&where_possible));
    drop(first);
    assert!(is_by_xdp(&always));

    for name in ["nic", "wire"] {
        host.ip(&format!("link set {name} mtu 3819")).unwrap();
    }
    let said = refused(&always);
    assert!(said.contains("its MTU is 3819"), "{said}");
    host.ip("link set nic mtu 3818").unwrap();
    assert!(is_by_xdp(&always));

    let tags = |on| move || sys::ethtool(unbound()?, "nic", sys::ETHTOOL_SFLAGS, on);
    host.run(tags(1 << 8)).unwrap();
    let said = refused(&always);
    assert!(said.contains("ethtool -K nic rxvlan off"), "{said}");
    assert!(!is_by_xdp(&where_possible));
    host.run(tags(0)).unwrap();

    // Of this thread alone, which ends.
    let without = move |lost: CapabilitySet, config: NicConfig| {
        let mut sets = capabilities(None).unwrap();
        sets.effective.remove(lost | CapabilitySet::SYS_ADMIN);
        let without = move || {
            set_capabilities(None, sets).unwrap();
            Taken::here(&config).map(|taken| taken.is_by_xdp)
        };
        host.run(move || thread::spawn(without).join().unwrap())
    };
    let here = |xdp| NicConfig {
        xdp,
        ..NicConfig::from("nic")
    };
    let error = without(CapabilitySet::BPF, here(Xdp::Always)).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("CAP_BPF and CAP_NET_ADMIN are missing"),
        "{error}"
    );
    let error = without(CapabilitySet::NET_RAW, here(Xdp::Always)).unwrap_err();
    assert!(matches!(error, NicError::NotPermitted(_)), "{error}");
    assert!(!without(CapabilitySet::BPF, here(Xdp::WherePossible)).unwrap());
}

#[test]
fn a_card_that_goes_down_comes_back_and_one_that_is_deleted_does_not() {
    let Some(host) = whole() else { return };
    for by in BOTH {
        let (mut inward, _outward) = still(&host, by);
        host.ip("link set nic down").unwrap();
        assert!(inward.read().unwrap().is_none());
        host.ip("link set nic up").unwrap();
        let far = far_end(&host);
        let give_up = Instant::now() + PATIENCE;
        let came = loop {
            assert!(Instant::now() < give_up, "nothing came");
            // The link may not be up at once.
            let _ = rustix::io::write(&far, &[&[0; 10], &frame(1, 7, 60)[..]].concat());
            if let Some(came) = inward.read().unwrap() {
                break came.bytes;
            }
        };
        assert_eq!(came, frame(1, 7, 60));
    }
    let (_vnet, nic) = taken(&host, generic);
    host.ip("link del wire").unwrap();
    let give_up = Instant::now() + PATIENCE;
    while nic.is_running() {
        assert!(Instant::now() < give_up, "the pump still runs");
        thread::sleep(Duration::from_millis(5));
    }
    let report = nic.detach();
    let end = report.end;
    assert!(matches!(end, Some(crate::PumpEnd::Device(_))), "{end:?}");
}

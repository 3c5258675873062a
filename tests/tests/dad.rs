//! Promise: no two stations use one address of IPv6, and none loses one that it has had for long (RFC 4862 section 5.4);
//! nor of IPv4, where it is asked for (RFC 5227).

use std::net::IpAddr;
use std::time::Duration;

use vnet::net::{EchoEvent, EchoSocket, TcpStream, UdpSocket};
use vnet::{AdminState, MacAddr, NextHop, OwnedVnet, System, Vnet};
use vnet_tests::accounts::assert_conserved;
use vnet_tests::frames::{Ip6, ethernet};
use vnet_tests::judge;

type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// Two vnets on one wire, with 2001:db8::1 and 2001:db8::2.
fn pair(system: &System) -> Result<(OwnedVnet, OwnedVnet)> {
    let (a, b) = (system.create("a")?, system.create("b")?);
    a.epair("eth0", &b, "eth0")?;
    a.add_address("eth0", "2001:db8::1/64".parse()?)?;
    b.add_address("eth0", "2001:db8::2/64".parse()?)?;
    judge::watch(&[&a]);
    Ok((a, b))
}

fn ping(from: &Vnet, to: &str, len: usize) -> Result<Option<EchoEvent>> {
    ping_with(from, to, len, None)
}

#[track_caller]
fn answers(from: &Vnet, to: &str, len: usize) {
    match ping(from, to, len) {
        Ok(Some(EchoEvent::Reply { from, len: got, .. })) => {
            let to: IpAddr = to.parse().expect("an address");
            assert_eq!((from, got), (to, len));
        }
        other => panic!("{to} with {len} bytes: {other:?}"),
    }
}

fn ping_with(from: &Vnet, to: &str, len: usize, ttl: Option<u32>) -> Result<Option<EchoEvent>> {
    let socket = EchoSocket::bind_in(from)?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    if let Some(ttl) = ttl {
        socket.set_ttl(ttl)?;
    }
    socket.send_to(1, &vec![7; len], to.parse()?)?;
    Ok(socket.recv().ok().map(|(event, _)| event))
}

/// The books are right, and so is what was sent.
fn is_clean(vnets: &[&Vnet]) {
    for vnet in vnets {
        assert_conserved(vnet);
    }
    judge::judge();
}

/// How many frames have left by eth0.
fn frames(vnet: &Vnet) -> u64 {
    let interfaces = vnet.interfaces().unwrap_or_default();
    let eth0 = interfaces.iter().find(|i| i.name == "eth0");
    eth0.map_or(0, |i| i.counters.tx_frames)
}

/// Lets time pass.
fn pass(vnet: &Vnet, secs: u64) -> Result {
    let socket = EchoSocket::bind_in(vnet)?;
    socket.set_read_timeout(Some(Duration::from_secs(secs)))?;
    assert!(socket.recv().is_err(), "nobody sends");
    Ok(())
}

/// The addresses of eth0 that are not used: those of which it is not known yet, and duplicates.
fn unused(vnet: &Vnet) -> Result<[String; 2]> {
    let inspection = vnet.inspect()?;
    let eth0 = inspection.interfaces.iter().find(|i| i.info.name == "eth0");
    let eth0 = eth0.expect("it has the interface");
    Ok([&eth0.tentative, &eth0.duplicate].map(|all| {
        let all = all.iter().map(ToString::to_string);
        all.collect::<Vec<_>>().join(" ")
    }))
}

const NONE: [&str; 2] = [""; 2];

const SAME: &str = "2001:db8::7";

#[test]
fn who_comes_later_does_not_get_an_address_that_somebody_has() -> Result {
    let system = System::virtual_time(1);
    let (a, b) = pair(&system)?;
    a.add_address("eth0", "2001:db8::7/64".parse()?)?;
    pass(&a, 2)?;
    answers(&b, SAME, 8);
    b.add_address("eth0", "2001:db8::7/64".parse()?)?;
    pass(&b, 2)?;
    assert_eq!(unused(&b)?, ["", SAME]);
    assert_eq!(unused(&a)?, NONE);
    assert!(
        b.inspect()?
            .to_string()
            .contains("2001:db8::7 prefixlen 64 duplicated")
    );
    let local = (SAME, 80);
    assert!(UdpSocket::bind_in(&b, local).is_err());
    assert!(UdpSocket::bind_in(&a, local).is_ok());
    assert!(b.add_address("eth0", "2001:db8::7/64".parse()?).is_err());
    answers(&b, SAME, 8);
    // The configuration is what it was, and a twin has it.
    let twin = b.clone_as("twin")?;
    assert_eq!(twin.inspect()?.normalised(), b.inspect()?.normalised());
    // Who comes up again asks again.
    a.remove_address("eth0", SAME.parse()?)?;
    b.set_up("eth0", AdminState::Down)?;
    b.set_up("eth0", AdminState::Up)?;
    assert_eq!(unused(&b)?, [SAME, ""]);
    pass(&b, 2)?;
    assert_eq!(unused(&b)?, NONE);
    answers(&a, SAME, 8);
    b.remove_address("eth0", SAME.parse()?)?;
    is_clean(&[&a, &b]);
    Ok(())
}

#[test]
fn what_has_been_in_use_is_not_lost_to_who_asks_while_it_is_asked_for_again() -> Result {
    let system = System::virtual_time(1);
    let (a, b) = pair(&system)?;
    a.add_address("eth0", "2001:db8::7/64".parse()?)?;
    pass(&a, 2)?;
    // It asks again, and somebody else wants the address in the same second.
    a.set_up("eth0", AdminState::Down)?;
    a.set_up("eth0", AdminState::Up)?;
    b.add_address("eth0", "2001:db8::7/64".parse()?)?;
    pass(&a, 5)?;
    assert_eq!(unused(&a)?, NONE);
    assert_eq!(unused(&b)?[1], SAME);
    is_clean(&[&a, &b]);
    Ok(())
}

/// RFC 7527: a loop in front of an interface makes no duplicate of its addresses.
#[test]
fn a_question_that_comes_back_is_none_of_another() -> Result {
    let system = System::virtual_time(1);
    let a = system.create("a")?;
    let port = a.port("eth0", None)?;
    a.add_address("eth0", "2001:db8::7/64".parse()?)?;
    let mut returned = 0;
    for _ in 0..30 {
        let socket = EchoSocket::bind_in(&a)?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        assert!(socket.recv().is_err());
        while let Some(frame) = port.recv() {
            returned += 1;
            port.send(frame.to_vec())?;
        }
    }
    assert!(returned >= 4, "two questions and two announcements");
    assert_eq!(unused(&a)?, NONE);
    is_clean(&[&a]);
    Ok(())
}

/// The bytes of the answer to who asks whether an address is taken (RFC 4861 sections 4.4 and 7.2.4).
#[test]
fn who_asks_for_an_address_that_is_taken_is_told_so_with_everybody() -> Result {
    let system = System::virtual_time(1);
    let a = system.create("a")?;
    let port = a.port("eth0", Some(MacAddr([2, 0, 0, 0, 0, 1])))?;
    a.add_address("eth0", "2001:db8::7/64".parse()?)?;
    pass(&a, 2)?;
    while port.recv().is_some() {}
    let mut rest = vec![0; 4];
    rest.extend(SAME.parse::<std::net::Ipv6Addr>()?.octets());
    // A nonce, as the Linux kernel sends one.
    rest.extend([14, 1, 1, 2, 3, 4, 5, 6]);
    let asks = Ip6 {
        hop_limit: 255,
        ..Ip6::new("::".parse()?, "ff02::1:ff00:7".parse()?)
    };
    let asks = asks.icmp(135, 0, &rest);
    let group = [0x33, 0x33, 0xff, 0, 0, 7];
    port.send(ethernet(group, [2, 0, 0, 0, 0, 0x77], 0x86dd, &asks))?;
    pass(&a, 1)?;
    let said = port.recv().map(|frame| frame.to_vec()).ok_or("no answer")?;
    assert_eq!(said[..6], [0x33, 0x33, 0, 0, 0, 1]);
    assert_eq!(said[6..12], [2, 0, 0, 0, 0, 1]);
    assert_eq!((said[20], said[21]), (58, 255));
    let address = |at: usize| -> Result<std::net::Ipv6Addr> {
        Ok(<[u8; 16]>::try_from(&said[at..at + 16])?.into())
    };
    assert_eq!(
        [address(22)?, address(38)?],
        [SAME.parse()?, "ff02::1".parse::<std::net::Ipv6Addr>()?]
    );
    // Not solicited, and overriding.
    assert_eq!((said[54], said[58]), (136, 0x20));
    assert_eq!(address(62)?, SAME.parse::<std::net::Ipv6Addr>()?);
    assert_eq!(said[78..], [2, 1, 2, 0, 0, 0, 0, 1]);
    assert!(port.recv().is_none());
    Ok(())
}

#[test]
fn the_prefix_of_an_address_that_is_asked_for_is_on_the_link() -> Result {
    let system = System::virtual_time(1);
    let (a, b) = (system.create("a")?, system.create("b")?);
    a.epair("eth0", &b, "eth0")?;
    a.set_sysctl("net.inet6.ip6.optimistic_dad", 0)?;
    a.set_sysctl("net.inet6.ip6.dad_count", 5)?;
    a.add_address("eth0", "2001:db8::2/64".parse()?)?;
    a.add_route("::/0".parse()?, NextHop::Gateway("2001:db8::1".parse()?))?;
    assert!(unused(&a)?[0].contains("2001:db8::2"));
    // When it goes, so does its prefix.
    a.remove_address("eth0", "2001:db8::2".parse()?)?;
    let routes = a.inspect()?.routes;
    let left: Vec<_> = routes
        .iter()
        .filter(|r| r.dst.to_string() == "2001:db8::/64")
        .collect();
    assert!(left.is_empty(), "{left:?}");
    Ok(())
}

#[test]
fn of_two_who_want_an_address_at_once_none_gets_it() -> Result {
    for optimistic in [0, 1] {
        let system = System::virtual_time(1);
        let (a, b) = (system.create("a")?, system.create("b")?);
        a.epair("eth0", &b, "eth0")?;
        for vnet in [&a, &b] {
            vnet.set_sysctl("net.inet6.ip6.optimistic_dad", optimistic)?;
        }
        for vnet in [&a, &b] {
            vnet.add_address("eth0", "2001:db8::7/64".parse()?)?;
        }
        pass(&a, 5)?;
        for vnet in [&a, &b] {
            assert_eq!(unused(vnet)?[1], SAME, "{optimistic}");
            assert!(vnet.remove_address("eth0", SAME.parse()?).is_ok());
            assert_eq!(unused(vnet)?, NONE);
        }
        is_clean(&[&a, &b]);
        for vnet in [a, b] {
            assert!(vnet.destroy().leaked.is_zero());
        }
    }
    Ok(())
}

#[test]
fn what_is_tentative_neither_sends_nor_answers() -> Result {
    let system = System::virtual_time(1);
    let (a, b) = (system.create("a")?, system.create("b")?);
    a.epair("eth0", &b, "eth0")?;
    b.add_address("eth0", "2001:db8::2/64".parse()?)?;
    pass(&b, 2)?;
    a.set_sysctl("net.inet6.ip6.optimistic_dad", 0)?;
    a.set_sysctl("net.inet6.ip6.dad_count", 5)?;
    a.add_address("eth0", "2001:db8::1/64".parse()?)?;
    let sent = frames(&a);
    let tentative = unused(&a)?[0].clone();
    assert_eq!(
        tentative.split(' ').count(),
        2,
        "the link-local one as well: {tentative:?}"
    );
    assert!(UdpSocket::bind_in(&a, "[2001:db8::1]:9").is_err());
    assert!(TcpStream::connect_in(&a, "[2001:db8::2]:80").is_err());
    let asked = ping_with(&b, "2001:db8::1", 8, None)?;
    // It is asked for three times, a second each, before it is there.
    assert!(
        matches!(asked, None | Some(EchoEvent::Unreachable { .. })),
        "{asked:?}"
    );
    pass(&a, 5)?;
    assert_eq!(unused(&a)?, NONE);
    // Five questions for each of two addresses, of which the first ones were there, and an announcement.
    assert_eq!(frames(&a) - sent, 10);
    answers(&b, "2001:db8::1", 8);
    answers(&a, "2001:db8::2", 8);
    is_clean(&[&a, &b]);
    Ok(())
}

/// RFC 5227 section 2.1: three questions by nobody, the first within a second and the others one to two seconds apart; the
/// address is used two seconds after the last, and announced then and two seconds later (section 2.3).
#[test]
fn an_address_of_ipv4_is_asked_for_before_it_is_used() -> Result {
    let system = System::manual(1);
    let host = system.create("host")?;
    let port = host.port("eth0", Some(MacAddr([2, 0, 0, 0, 0, 1])))?;
    host.set_sysctl("net.inet.ip.dad_count", 3)?;
    host.add_address("eth0", "192.0.2.1/24".parse()?)?;
    // Its prefix is on the link, and so are gateways.
    host.add_route("0.0.0.0/0".parse()?, "192.0.2.254".parse::<IpAddr>()?)?;
    let mut heard = Vec::new();
    for _ in 0..200 {
        system.poll(system.now() + Duration::from_millis(100));
        while let Some(frame) = port.recv() {
            let frame = frame.to_vec();
            assert_eq!(frame[..6], [0xff; 6]);
            let arp: [u8; 28] = frame[14..42].try_into()?;
            assert_eq!((arp[7], &arp[24..]), (1, &[192, 0, 2, 1][..]));
            heard.push((system.now(), arp[14..18].to_vec()));
        }
        let [tentative, duplicate] = unused(&host)?;
        assert_eq!(tentative == "192.0.2.1", heard.len() < 4);
        let shown = host.inspect()?.to_string();
        let is_marked = shown.contains("broadcast 192.0.2.255 tentative\n");
        assert_eq!(is_marked, heard.len() < 4, "{shown}");
        assert_eq!(
            UdpSocket::bind_in(&host, "192.0.2.1:7").is_ok(),
            heard.len() >= 4
        );
        assert_eq!(duplicate, "");
    }
    let senders: Vec<_> = heard
        .iter()
        .map(|(_, sender)| sender[..].to_vec())
        .collect();
    let (nobody, own) = (vec![0; 4], vec![192, 0, 2, 1]);
    assert_eq!(
        senders,
        [nobody.clone(), nobody.clone(), nobody, own.clone(), own]
    );
    assert!(heard[0].0.as_nanos() <= 1_100_000_000, "{:?}", heard[0].0);
    let apart: Vec<_> = heard.windows(2).map(|two| two[1].0 - two[0].0).collect();
    let [first, second, last, again] = apart[..] else {
        panic!("{apart:?}")
    };
    assert_eq!(again.as_millis() / 100, 20);
    for between in [first, second] {
        assert!((1000..=2100).contains(&between.as_millis()), "{apart:?}");
    }
    assert_eq!(last.as_millis() / 100, 20);
    assert_conserved(&host);
    Ok(())
}

#[test]
fn who_comes_later_does_not_get_an_address_of_ipv4_that_somebody_has() -> Result {
    for (asks, expected) in [(0, NONE), (2, ["", "192.0.2.7"])] {
        let system = System::virtual_time(1);
        let (a, b) = pair(&system)?;
        a.add_address("eth0", "192.0.2.7/24".parse()?)?;
        pass(&a, 2)?;
        b.set_sysctl("net.inet.ip.dad_count", asks)?;
        b.add_address("eth0", "192.0.2.7/24".parse()?)?;
        b.add_address("eth0", "192.0.2.8/24".parse()?)?;
        pass(&b, 10)?;
        assert_eq!(
            (unused(&a)?, unused(&b)?),
            (NONE.map(String::from), expected.map(String::from))
        );
        assert_eq!(UdpSocket::bind_in(&b, "192.0.2.7:80").is_ok(), asks == 0);
        if asks > 0 {
            answers(&a, "192.0.2.8", 8);
            assert!(b.add_address("eth0", "192.0.2.7/24".parse()?).is_err());
            answers(&b, "192.0.2.7", 8);
            // When the other one has gone it is asked for again.
            a.remove_address("eth0", "192.0.2.7".parse()?)?;
            b.set_up("eth0", AdminState::Down)?;
            b.set_up("eth0", AdminState::Up)?;
            pass(&b, 10)?;
            assert_eq!(unused(&b)?, NONE);
            a.add_address("eth0", "192.0.2.9/24".parse()?)?;
            answers(&a, "192.0.2.7", 8);
            b.remove_address("eth0", "192.0.2.7".parse()?)?;
            assert!(b.remove_address("eth0", "192.0.2.7".parse()?).is_err());
        }
        is_clean(&[&a, &b]);
    }
    Ok(())
}

/// Both want it at once: who asks first gets it. Their first questions come after times of their own.
#[test]
fn of_two_that_ask_for_one_address_of_ipv4_at_once_one_leaves_it() -> Result {
    let mut got = std::collections::BTreeSet::new();
    for seed in 0..8 {
        let system = System::virtual_time(seed);
        let (a, b) = pair(&system)?;
        for vnet in [&a, &b] {
            vnet.set_sysctl("net.inet.ip.dad_count", 3)?;
            vnet.add_address("eth0", "192.0.2.7/24".parse()?)?;
        }
        pass(&a, 10)?;
        let of_both = [unused(&a)?, unused(&b)?];
        let left = |vnet: &[String; 2]| vnet[1] == "192.0.2.7";
        assert_eq!(of_both.iter().filter(|vnet| left(vnet)).count(), 1);
        assert!(of_both.contains(&NONE.map(String::from)));
        got.insert(left(&of_both[0]));
        is_clean(&[&a, &b]);
    }
    assert_eq!(got.len(), 2, "either may be the first");
    Ok(())
}

/// RFC 5227 section 2.1.1 and RFC 3927 section 2.2.1: after ten addresses that somebody else has, one is tried a minute.
#[test]
fn an_interface_of_which_every_address_is_taken_tries_one_a_minute() -> Result {
    let system = System::manual(1);
    let host = system.create("host")?;
    let port = host.port("eth0", Some(MacAddr([2, 0, 0, 0, 0, 1])))?;
    host.set_sysctl("net.inet.ip.link_local", 1)?;
    let mut tried = Vec::new();
    for _ in 0..6000 {
        system.poll(system.now() + Duration::from_millis(50));
        while let Some(frame) = port.recv() {
            let frame = frame.to_vec();
            // Somebody has each address that is asked for.
            if frame[12..14] == [8, 6] && frame[28..32] == [0; 4] {
                tried.push((system.now(), frame[38..42].to_vec()));
                let mut answer = frame.clone();
                answer[21] = 2;
                answer[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
                answer[22..28].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
                answer[28..32].copy_from_slice(&frame[38..42]);
                port.send(answer)?;
            }
        }
    }
    let apart: Vec<_> = tried.windows(2).map(|two| two[1].0 - two[0].0).collect();
    let (quick, slow) = apart.split_at(9);
    assert!(
        quick.iter().all(|time| time.as_millis() <= 1100),
        "{quick:?}"
    );
    assert!((4..=5).contains(&slow.len()), "{slow:?}");
    let minute = 59_900..=60_100;
    assert!(
        slow.iter().all(|time| minute.contains(&time.as_millis())),
        "{slow:?}"
    );
    let mut addresses: Vec<_> = tried.iter().map(|(_, addr)| addr.clone()).collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), tried.len(), "each is another one");
    // Once one has passed, and somebody takes it, others are tried at once again.
    for _ in 0..2000 {
        system.poll(system.now() + Duration::from_millis(50));
    }
    while port.recv().is_some() {}
    assert_eq!(unused(&host)?, NONE);
    let eth0 = host.inspect()?.interfaces.remove(1);
    let [IpAddr::V4(own)] = eth0.autoconfigured[..] else {
        panic!("{:?}", eth0.autoconfigured)
    };
    let mut claim = vec![0xff; 6];
    claim.extend([
        2, 0, 0, 0, 0, 9, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 9,
    ]);
    claim.extend(own.octets());
    claim.extend([0; 6]);
    claim.extend(own.octets());
    for _ in 0..2 {
        port.send(claim.clone())?;
        system.poll(system.now());
    }
    for _ in 0..250 {
        system.poll(system.now() + Duration::from_millis(50));
    }
    assert_eq!(unused(&host)?, NONE);
    let next = host.inspect()?.interfaces.remove(1).autoconfigured;
    assert!(next.len() == 1 && next != [IpAddr::V4(own)], "{next:?}");
    assert_conserved(&host);
    Ok(())
}

/// RFC 3927: interfaces without an address of IPv4 find one each, and leave it for one that they are given.
#[test]
fn interfaces_without_an_address_of_ipv4_find_one() -> Result {
    let system = System::virtual_time(1);
    let (a, b) = pair(&system)?;
    let own = |vnet: &Vnet| -> Result<Option<String>> {
        let inspection = vnet.inspect()?;
        let eth0 = inspection.interfaces.iter().find(|i| i.info.name == "eth0");
        let all = eth0.map(|i| i.autoconfigured.clone()).unwrap_or_default();
        assert!(
            all.len() <= 1
                && all
                    .iter()
                    .all(|addr| addr.to_string().starts_with("169.254."))
        );
        Ok(all.first().map(ToString::to_string))
    };
    for vnet in [&a, &b] {
        assert_eq!(own(vnet)?, None);
        vnet.set_sysctl("net.inet.ip.link_local", 1)?;
        assert_eq!(unused(vnet)?[0], own(vnet)?.unwrap_or_default());
    }
    pass(&a, 10)?;
    let (of_a, of_b) = (own(&a)?.ok_or("it has one")?, own(&b)?.ok_or("it has one")?);
    assert_ne!(of_a, of_b);
    assert_eq!(
        (unused(&a)?, unused(&b)?),
        (NONE.map(String::from), NONE.map(String::from))
    );
    answers(&a, &of_b, 8);
    assert!(a.remove_address("eth0", of_a.parse()?).is_err());
    assert!(!a.record()?.to_toml()?.contains(&of_a));
    // Somebody takes it: it is defended once, and then left.
    b.set_sysctl("net.inet.ip.dad_count", 0)?;
    b.set_sysctl("net.inet.ip.link_local", 0)?;
    assert_eq!(own(&b)?, None);
    for _ in 0..2 {
        b.add_address("eth0", format!("{of_a}/16").parse()?)?;
        pass(&b, 1)?;
        b.remove_address("eth0", of_a.parse()?)?;
    }
    let next = own(&a)?.ok_or("it has another one")?;
    assert_ne!(next, of_a);
    // One that somebody has before it is used is not used at all.
    b.add_address("eth0", format!("{next}/16").parse()?)?;
    pass(&b, 10)?;
    let third = own(&a)?.ok_or("it has a third one")?;
    assert_ne!(third, next);
    answers(&b, &third, 8);
    // One that is given takes its place, and gives it back.
    a.add_address("eth0", "192.0.2.1/24".parse()?)?;
    assert_eq!(own(&a)?, None);
    let twin = a.clone_as("twin")?;
    assert_eq!(twin.inspect()?.normalised(), a.inspect()?.normalised());
    a.remove_address("eth0", "192.0.2.1".parse()?)?;
    assert!(own(&a)?.is_some());
    is_clean(&[&a, &b]);
    for vnet in [a, b, twin] {
        assert!(vnet.destroy().leaked.is_zero());
    }
    Ok(())
}

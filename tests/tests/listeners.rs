//! Promise: routers and switches that ask for groups of IPv6 learn in which ones a vnet is (RFC 3810, RFC 2710).

use std::net::Ipv6Addr;
use std::time::Duration;

use vnet::net::{EchoSocket, UdpSocket};
use vnet::{DropReason, Forwarding, MacAddr, OwnedVnet, Port, System};
use vnet_tests::accounts::assert_conserved;
use vnet_tests::frames::{Ip6, ethernet};

type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

const NODES: &str = "ff02::1";
const ROUTER: &str = "fe80::77";

/// A host with 2001:db8::7 at the end of a wire.
fn host(system: &System) -> Result<(OwnedVnet, Port)> {
    let host = system.create("host")?;
    let port = host.port("eth0", Some(MacAddr([2, 0, 0, 0, 0, 1])))?;
    host.add_address("eth0", "2001:db8::7/64".parse()?)?;
    pass(&host, 2000)?;
    Ok((host, port))
}

fn pass(vnet: &OwnedVnet, millis: u64) -> Result {
    let socket = EchoSocket::bind_in(vnet)?;
    socket.set_read_timeout(Some(Duration::from_millis(millis)))?;
    assert!(socket.recv().is_err(), "nobody sends");
    Ok(())
}

/// A message of listener discovery as it was sent: its source, destination, type, and what is behind the ICMP header.
type Told = (Ipv6Addr, Ipv6Addr, u8, Vec<u8>);

/// What was told of groups since.
fn told(port: &Port) -> Vec<Told> {
    let frames = std::iter::from_fn(|| port.recv()).map(|frame| frame.to_vec());
    let is_mld = |frame: &Vec<u8>| frame[12..14] == [0x86, 0xdd] && frame[20] == 0;
    let frames = frames.filter(is_mld);
    let address = |bytes: &[u8]| {
        let octets: [u8; 16] = bytes.try_into().expect("sixteen bytes");
        Ipv6Addr::from(octets)
    };
    frames
        .map(|frame| {
            // One hop, and a router alert (RFC 3810 section 5).
            assert_eq!(frame[21], 1);
            assert_eq!(frame[54..62], [58, 0, 5, 2, 0, 0, 1, 0]);
            let (src, dst) = (address(&frame[22..38]), address(&frame[38..54]));
            assert_eq!(frame[..2], [0x33, 0x33]);
            assert_eq!(frame[2..6], dst.octets()[12..]);
            (src, dst, frame[62], frame[70..].to_vec())
        })
        .collect()
}

/// A question, of version 2 if there is more in it, by this router.
fn ask(port: &Port, router: &str, hop_limit: u8, group: Option<Ipv6Addr>, more: &[u8]) -> Result {
    let to = group.unwrap_or(NODES.parse()?);
    let header = Ip6 {
        hop_limit,
        ..Ip6::new(router.parse()?, to)
    };
    // Within a second.
    let mut rest = vec![3, 0xe8, 0, 0];
    rest.extend(group.unwrap_or(Ipv6Addr::UNSPECIFIED).octets());
    rest.extend(more);
    let [.., a, b, c, d] = to.octets();
    let mac = [0x33, 0x33, a, b, c, d];
    port.send(ethernet(
        mac,
        [2, 0, 0, 0, 0, 0x77],
        0x86dd,
        &header.icmp(130, 0, &rest),
    ))?;
    Ok(())
}

/// The groups of a report, each with the kind of its record.
fn records(message: &[u8]) -> Vec<(u8, Ipv6Addr)> {
    let records = message.chunks(20);
    records
        .map(|record| {
            assert_eq!(record[1..4], [0, 0, 0], "no sources");
            let group: [u8; 16] = record[4..20].try_into().expect("a whole record");
            (record[0], group.into())
        })
        .collect()
}

const V2: [u8; 4] = [2, 125, 0, 0];

#[test]
fn who_asks_is_told_of_the_groups_of_addresses() -> Result {
    let system = System::virtual_time(1);
    let (host, port) = host(&system)?;
    assert!(told(&port).is_empty(), "nobody has asked");
    ask(&port, ROUTER, 1, None, &V2)?;
    pass(&host, 1100)?;
    let own: Ipv6Addr = "fe80::ff:fe00:1".parse()?;
    let groups =
        ["ff02::1:ff00:1", "ff02::1:ff00:7"].map(|g| g.parse::<Ipv6Addr>().expect("a group"));
    let all = told(&port);
    let [(src, dst, 143, message)] = &all[..] else {
        panic!("{all:?}");
    };
    assert_eq!((*src, *dst), (own, "ff02::16".parse()?));
    assert_eq!(records(message), groups.map(|group| (2, group)));
    // From now on, changes are told at once, and once more.
    host.add_address("eth0", "2001:db8::8/64".parse()?)?;
    pass(&host, 1)?;
    let group: Ipv6Addr = "ff02::1:ff00:8".parse()?;
    let one = |kind: u8, all: &[Told]| {
        let records: Vec<_> = all.iter().map(|(.., message)| records(message)).collect();
        assert_eq!(records, vec![vec![(kind, group)]; records.len()]);
        records.len()
    };
    assert_eq!(one(4, &told(&port)), 1);
    pass(&host, 1100)?;
    assert_eq!(one(4, &told(&port)), 1);
    // About one group, about one that nobody is in, and about sources that are all heard.
    ask(&port, ROUTER, 1, Some(group), &V2)?;
    ask(&port, ROUTER, 1, Some("ff02::1:ff00:9".parse()?), &V2)?;
    pass(&host, 1100)?;
    assert_eq!(one(2, &told(&port)), 1);
    host.remove_address("eth0", "2001:db8::8".parse()?)?;
    pass(&host, 1100)?;
    assert_eq!(one(3, &told(&port)), 2);
    assert_conserved(&host);
    assert!(host.destroy().leaked.is_zero());
    Ok(())
}

/// RFC 3810 section 6: of all groups but that of all nodes, and so of that of routers, while this is one.
#[test]
fn a_router_is_in_the_group_of_routers_and_says_so_to_who_asks() -> Result {
    let system = System::virtual_time(1);
    let (host, port) = host(&system)?;
    let routers: Ipv6Addr = "ff02::2".parse()?;
    host.set_forwarding(Forwarding::Enabled)?;
    // As with the groups of addresses, nothing is said where nobody asks.
    pass(&host, 5000)?;
    assert!(told(&port).is_empty());
    ask(&port, ROUTER, 1, None, &V2)?;
    pass(&host, 1100)?;
    let said = |kind: u8, all: &[Told]| {
        let all = all.iter().flat_map(|(.., message)| records(message));
        all.filter(|one| *one == (kind, routers)).count()
    };
    assert_eq!(said(2, &told(&port)), 1);
    let groups = || -> Result<Vec<_>> { Ok(host.inspect()?.interfaces.remove(1).groups) };
    assert!(groups()?.is_empty());
    host.set_forwarding(Forwarding::Disabled)?;
    pass(&host, 3000)?;
    assert_eq!(said(3, &told(&port)), 2);
    // What is sent there is for routers alone.
    let to = Ip6 {
        hop_limit: 255,
        ..Ip6::new("2001:db8::9".parse()?, routers)
    };
    let mut ignored = Vec::new();
    for forwarding in [Forwarding::Enabled, Forwarding::Disabled] {
        host.set_forwarding(forwarding)?;
        let before = host.stats()?.rx_drops(DropReason::NotForUs);
        let solicitation = to.icmp(133, 0, &[0; 4]);
        let mac = [0x33, 0x33, 0, 0, 0, 2];
        port.send(ethernet(mac, [2, 0, 0, 0, 0, 9], 0x86dd, &solicitation))?;
        pass(&host, 1)?;
        ignored.push(host.stats()?.rx_drops(DropReason::NotForUs) - before);
    }
    assert_eq!(ignored, [0, 1]);
    // One that is made later as well, and one that a socket is in besides is told of at once.
    host.set_forwarding(Forwarding::Enabled)?;
    let second = host.port("eth1", None)?;
    host.add_address("eth1", "2001:db8:1::7/64".parse()?)?;
    pass(&host, 3000)?;
    assert!(told(&second).is_empty());
    ask(&second, ROUTER, 1, Some(routers), &V2)?;
    pass(&host, 1100)?;
    assert_eq!(said(2, &told(&second)), 1);
    host.set_forwarding(Forwarding::Disabled)?;
    let third = host.port("eth2", None)?;
    host.add_address("eth2", "2001:db8:2::7/64".parse()?)?;
    let socket = UdpSocket::bind_in(&host, "[::]:9")?;
    socket.join_multicast_v6(&routers, 4)?;
    pass(&host, 3000)?;
    assert_eq!(said(4, &told(&third)), 2);
    assert_conserved(&host);
    Ok(())
}

#[test]
fn routers_of_version_one_are_told_what_they_understand() -> Result {
    let system = System::virtual_time(1);
    let (host, port) = host(&system)?;
    ask(&port, ROUTER, 1, None, &[])?;
    pass(&host, 1100)?;
    let groups = |all: &[Told]| -> Vec<(u8, Ipv6Addr)> {
        let mut groups: Vec<_> = all
            .iter()
            .map(|(_, dst, kind, message)| {
                let group: [u8; 16] = message[..].try_into().expect("a group");
                assert_eq!(
                    *dst,
                    if *kind == 131 {
                        Ipv6Addr::from(group)
                    } else {
                        "ff02::2".parse().expect("a group")
                    }
                );
                (*kind, Ipv6Addr::from(group))
            })
            .collect();
        groups.sort();
        groups
    };
    let parse = |text: &str| text.parse::<Ipv6Addr>();
    assert_eq!(
        groups(&told(&port)),
        [
            (131, parse("ff02::1:ff00:1")?),
            (131, parse("ff02::1:ff00:7")?)
        ]
    );
    host.remove_address("eth0", "2001:db8::7".parse()?)?;
    pass(&host, 100)?;
    // With the last address that was given, the link-local one goes as well.
    assert_eq!(
        groups(&told(&port)),
        [
            (132, parse("ff02::1:ff00:1")?),
            (132, parse("ff02::1:ff00:7")?)
        ]
    );
    Ok(())
}

#[test]
fn nobody_is_told_who_is_no_router_of_the_link() -> Result {
    let system = System::virtual_time(1);
    let (host, port) = host(&system)?;
    for (n, (router, hop_limit)) in [(ROUTER, 2), (ROUTER, 255), ("2001:db8::77", 1), ("::", 1)]
        .into_iter()
        .enumerate()
    {
        ask(&port, router, hop_limit, None, &V2)?;
        pass(&host, 1100)?;
        assert_eq!(told(&port), []);
        assert_eq!(host.stats()?.rx_drops(DropReason::Martian), n as u64 + 1);
    }
    // Of 25 to 27 bytes: of no version (RFC 3810 section 8.1).
    ask(&port, ROUTER, 1, None, &V2[..3])?;
    // More sources than there are.
    ask(&port, ROUTER, 1, None, &[2, 125, 0, 9])?;
    pass(&host, 1100)?;
    assert_eq!(told(&port), []);
    assert_eq!(host.stats()?.rx_drops(DropReason::Malformed), 2);
    assert_conserved(&host);
    Ok(())
}

/// A flood of questions about groups and sources that nobody is in costs nothing that stays.
#[test]
fn a_flood_of_questions_is_answered_once() -> Result {
    let system = System::virtual_time(1);
    let (host, port) = host(&system)?;
    let group: Ipv6Addr = "ff02::1:ff00:7".parse()?;
    for n in 0..2000u16 {
        let mut more = vec![2, 125, 0, 2];
        for m in 0..2 {
            more.extend(Ipv6Addr::new(0x2001, 0xdb8, 1, n, 0, 0, 0, m).octets());
        }
        ask(&port, ROUTER, 1, Some(group), &more)?;
    }
    pass(&host, 1100)?;
    let all = told(&port);
    assert!(!all.is_empty() && all.len() <= 3, "{}", all.len());
    assert_conserved(&host);
    assert!(host.destroy().leaked.is_zero());
    Ok(())
}

//! What stations on a link say over IPv6: of themselves, of routers, prefixes, better first hops and groups, some of it
//! with extension headers that are right or not, and some of it lies. The vnet is a host that obeys routers, or a
//! router, and its user joins groups, sends, and changes addresses and roles meanwhile.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;
use vnet::net::UdpSocket;
use vnet::{AdminState, Forwarding, MacAddr, NextHop, OwnedVnet, Port, RouteInfo, System};
use vnet_tests::accounts::{assert_clean, assert_conserved, run_until_idle};
use vnet_tests::frames::{IPV6, Ip6, ethernet, udp};
use vnet_tests::topology::vnet;

use super::{DATAGRAMS, Dice, EPISODE};

const MAC: [u8; 6] = [2, 0, 0, 0, 2, 1];
/// The vnet's address.
const OURS: &str = "2001:db8::1";
/// Routers that are there, those of redirects among them.
const ROUTERS: [&str; 5] = [
    "2001:db8::5",
    "fe80::6",
    "fe80::9",
    "fe80::a",
    "2001:db8:6::6",
];
/// What is configured, and stays whatever the link says.
const ROUTES: [(&str, &str); 3] = [
    ("2001:db8:5::/64", "2001:db8::5"),
    ("2001:db8:6::/48", "fe80::6"),
    ("2001:db8:7::7/128", "2001:db8::5"),
];

fn address(dice: &mut Dice, from: &[&str]) -> Ipv6Addr {
    dice.of(from).parse().expect("an address")
}

/// An address that something is about.
fn subject(dice: &mut Dice) -> Ipv6Addr {
    let n = dice.below(40);
    match dice.below(3) {
        0 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n as u16),
        1 => Ipv6Addr::new(0x2001, 0xdb8, n as u16, 0, 0, 0, 0, 1),
        _ => address(
            dice,
            &[
                OURS,
                "::",
                "::1",
                "fe80::9",
                "fe80::ff:fe00:201",
                "fe80:2::9",
                "ff02::1",
                "ff0e::1",
                "2001:db8:9::9",
            ],
        ),
    }
}

/// An option of neighbour or router discovery, most of them whole.
fn option(dice: &mut Dice) -> Vec<u8> {
    let lifetime = dice
        .of(&[0u32, 1, 60, 7200, 86_400, u32::MAX])
        .to_be_bytes();
    let len = dice.of(&[0u8, 3, 48, 63, 64, 65, 127, 128, 129]);
    let subject = subject(dice).octets();
    let flags = dice.of(&[0u8, 0x40, 0x80, 0xc0, 0x08, 0x10, 0x18]);
    let mut option = match dice.below(8) {
        kind @ (0 | 1) => vec![1 + kind as u8, 1, 2, 0, 0, 0, 2, dice.below(12) as u8],
        2 | 3 => {
            let mut option = vec![3, 4, len, flags];
            option.extend(lifetime);
            option.extend(dice.of(&[lifetime, [0, 0, 0, 30]]));
            option.extend([0; 4]);
            option.extend(subject);
            option
        }
        4 | 5 => {
            let mut option = vec![24, 3, len, flags];
            option.extend(lifetime);
            option.extend(subject);
            option
        }
        6 => {
            let mtu = dice.of(&[0u32, 1279, 1280, 1400, 1500, 9000, u32::MAX]);
            [&[5, 1, 0, 0][..], &mtu.to_be_bytes()].concat()
        }
        _ => vec![14, 1, 1, 2, 3, 4, 5, dice.below(4) as u8],
    };
    if dice.one_in(20) {
        option[1] = dice.below(6) as u8;
    }
    option
}

fn options(dice: &mut Dice) -> Vec<u8> {
    let count = dice.of(&[0u64, 1, 1, 2, 3, 9, 40]);
    (0..count).flat_map(|_| option(dice)).collect()
}

/// A message behind its checksum: its type, and whether it is of discovery and not of groups.
fn message(dice: &mut Dice) -> (u8, Vec<u8>) {
    let kind = dice.of(&[
        130u8, 131, 132, 133, 134, 134, 134, 135, 135, 136, 136, 137, 137, 143, 128, 2,
    ]);
    let mut rest = match kind {
        134 => {
            let mut rest = vec![dice.of(&[0, 1, 64, 255]), dice.below(256) as u8];
            rest.extend(dice.of(&[0u16, 1, 30, 1800, u16::MAX]).to_be_bytes());
            rest.extend(dice.of(&[0u32, 1, 30_000, u32::MAX]).to_be_bytes());
            rest.extend(dice.of(&[0u32, 1, 1000, u32::MAX]).to_be_bytes());
            rest
        }
        130 => {
            let mut rest = dice
                .of(&[0u16, 1, 1000, 0x8000, u16::MAX])
                .to_be_bytes()
                .to_vec();
            rest.extend([0; 2]);
            rest.extend(match dice.below(3) {
                0 => [0; 16],
                1 => Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 1).octets(),
                _ => subject(dice).octets(),
            });
            if !dice.one_in(4) {
                let sources = dice.of(&[0u8, 1, 3, 200]);
                rest.extend([dice.below(16) as u8, dice.below(256) as u8, 0, sources]);
                let told = sources - u8::from(sources > 0 && dice.one_in(4));
                for _ in 0..told {
                    rest.extend(subject(dice).octets());
                }
            }
            return (kind, rest);
        }
        143 => {
            let mut rest = vec![0, 0, 0, 2];
            for _ in 0..2 {
                rest.extend([dice.below(8) as u8, 0, 0, dice.below(2) as u8]);
                rest.extend(subject(dice).octets());
                rest.extend(subject(dice).octets());
            }
            return (kind, rest);
        }
        128 | 2 => return (kind, vec![0, 0, 5, 0, 0x60, 0, 0, 0]),
        _ => vec![dice.of(&[0, 0x20, 0x40, 0x60, 0x80, 0xe0]), 0, 0, 0],
    };
    if kind != 133 && kind != 134 {
        rest.extend(subject(dice).octets());
    }
    if kind == 137 {
        rest.extend(subject(dice).octets());
    }
    if kind > 132 {
        rest.extend(options(dice));
    }
    (kind, rest)
}

/// Extension headers: known ones and others, with options that are to be skipped or refused, or nonsense.
fn extensions(dice: &mut Dice) -> Vec<(u8, Vec<u8>)> {
    let count = dice.of(&[0u64, 0, 0, 1, 1, 2, 3, 9]);
    let header = |dice: &mut Dice| {
        let kind = dice.of(&[0u8, 0, 60, 60, 43, 44, 44, 50, 51, 59, 135, 253]);
        let content = match (kind, dice.below(6)) {
            (44, 0..4) => {
                let at = dice.of(&[0u8, 1, 8, 9, 16]);
                vec![0, at, 0, 0, 0, dice.below(3) as u8]
            }
            (43, 0..4) => [&[dice.of(&[0, 2, 3, 4]), dice.below(2) as u8][..], &[0; 20]].concat(),
            (_, 0) => vec![5, 2, 0, 0, 1, 0],
            (_, 1) => vec![dice.of(&[0x1e, 0xde, 0x5e, 0xc2]), 4, 1, 2, 3, 4],
            (_, 2) => (0..dice.below(30)).map(|_| dice.below(256) as u8).collect(),
            _ => vec![1, 4, 0, 0, 0, 0],
        };
        (kind, content)
    };
    (0..count).map(|_| header(dice)).collect()
}

/// A frame to the vnet at `mac`.
fn frame(dice: &mut Dice, mac: [u8; 6]) -> Vec<u8> {
    let src = address(
        dice,
        &[
            "fe80::9",
            "fe80::9",
            "fe80::9",
            "fe80::a",
            "2001:db8::9",
            "::",
            OURS,
            "ff02::1",
            "fe80:3::9",
        ],
    );
    let ours = [
        OURS,
        OURS,
        "ff02::1",
        "ff02::1",
        "ff02::2",
        "ff02::16",
        "ff02::1:ff00:1",
        "fe80::ff:fe00:201",
        "2001:db8:7::7",
        "2001:db8:6::6",
    ];
    let dst = address(dice, &ours);
    let mut header = Ip6 {
        hop_limit: dice.of(&[255, 255, 255, 1, 1, 64]),
        extensions: extensions(dice),
        ..Ip6::new(src, dst)
    };
    let packet = if dice.one_in(8) {
        header.packet(
            17,
            &udp((src, 5), (dst, dice.of(&[DATAGRAMS, 9])), &[1; 100]),
        )
    } else {
        let (kind, rest) = message(dice);
        // Half of them come from whom they may come from.
        if dice.one_in(2) {
            let is_of_groups = matches!(kind, 130..=132 | 143);
            header.src = address(dice, &["fe80::9", "fe80::a"]);
            header.hop_limit = if is_of_groups { 1 } else { 255 };
            let alert = is_of_groups.then(|| (0, vec![5, 2, 0, 0, 1, 0]));
            header.extensions = alert.into_iter().collect();
        }
        header.icmp(kind, u8::from(dice.one_in(30)), &rest)
    };
    let [.., a, b, c, d] = dst.octets();
    let to = match dst.is_multicast() {
        true => [0x33, 0x33, a, b, c, d],
        false => mac,
    };
    ethernet(to, [2, 9, 9, 9, 9, dice.below(3) as u8], IPV6, &packet)
}

/// What the vnet says and has learned, over all episodes. Each has to happen.
#[derive(Debug, Default)]
pub(crate) struct Reached(BTreeMap<&'static str, u64>);

impl Reached {
    fn count(&mut self, what: &'static str, n: u64) {
        *self.0.entry(what).or_default() += n;
    }

    fn add(&mut self, other: Reached) {
        other
            .0
            .into_iter()
            .for_each(|(what, n)| self.count(what, n));
    }

    fn assert_deep(&self) {
        for what in [
            "solicitations of routers",
            "advertisements of a router",
            "questions about neighbours",
            "answers about neighbours",
            "reports of groups",
            "redirects of a router",
            "routes by the word of routers",
            "routes of single hosts by the word of routers",
            "addresses by the word of routers",
            "datagrams",
            "datagrams to groups",
        ] {
            assert!(
                self.0.get(what).is_some_and(|n| *n > 0),
                "no {what}: {self:?}"
            );
        }
    }
}

struct Scene {
    system: System,
    victim: OwnedVnet,
    port: Port,
    sockets: Vec<UdpSocket>,
    dice: Dice,
    reached: Reached,
}

impl Scene {
    fn new(seed: u64) -> Scene {
        let system = System::manual(seed);
        let victim = vnet(&system, "victim");
        let port = victim.port("eth0", Some(MacAddr(MAC))).unwrap();
        let net = format!("{OURS}/64").parse().unwrap();
        victim.add_address("eth0", net).unwrap();
        for (dst, by) in ROUTES {
            let hop = match by.parse::<Ipv6Addr>().unwrap() {
                hop if hop.is_unicast_link_local() => NextHop::OnLink {
                    gateway: hop.into(),
                    interface: "eth0".into(),
                },
                hop => NextHop::Gateway(hop.into()),
            };
            victim.add_route(dst.parse().unwrap(), hop).unwrap();
        }
        let mut dice = Dice(Xoshiro256PlusPlus::seed_from_u64(seed));
        victim.set_sysctl("net.inet6.ip6.accept_rtadv", 1).unwrap();
        victim
            .set_sysctl("net.inet6.ip6.rtadv_interval", 4000)
            .unwrap();
        let optimistic = dice.below(2);
        victim
            .set_sysctl("net.inet6.ip6.optimistic_dad", optimistic)
            .unwrap();
        if seed.is_multiple_of(3) {
            victim.set_forwarding(Forwarding::Enabled).unwrap();
        }
        // Nobody answers for our address yet.
        system.poll(system.now() + Duration::from_secs(2));
        let sockets = [DATAGRAMS, 9].map(|port| UdpSocket::bind_in(&victim, ("::", port)).unwrap());
        for socket in &sockets {
            socket.set_nonblocking(true).unwrap();
        }
        Scene {
            system,
            victim,
            port,
            sockets: sockets.into(),
            dice,
            reached: Reached::default(),
        }
    }

    /// The vnet's user does something, which may be refused.
    fn use_it(&mut self) {
        let which = self.dice.below(2) as usize;
        let socket = &self.sockets[which];
        let mut buf = [0; 2000];
        while socket.recv_from(&mut buf).is_ok() {
            self.reached.count("datagrams", 1);
        }
        let group = address(&mut self.dice, &["ff0e::1", "ff02::1:ff00:1", "ff05::7"]);
        let source = subject(&mut self.dice);
        let eth0 = 2;
        match self.dice.below(16) {
            0 => drop(socket.join_multicast_v6(&group, eth0)),
            1 => drop(socket.leave_multicast_v6(&group, eth0)),
            2 => drop(socket.join_source(source.into(), group.into(), eth0)),
            3 => drop(socket.leave_source(source.into(), group.into(), eth0)),
            4 => {
                let sent = socket.send_to(b"to all", SocketAddr::from((group, 9)));
                self.reached
                    .count("datagrams to groups", u64::from(sent.is_ok()));
            }
            5 => {
                let role = self.dice.of(&[
                    Forwarding::Enabled,
                    Forwarding::Disabled,
                    Forwarding::Disabled,
                ]);
                self.victim.set_forwarding(role).unwrap();
            }
            6 => {
                let state = self
                    .dice
                    .of(&[AdminState::Down, AdminState::Up, AdminState::Up]);
                self.victim.set_up("eth0", state).unwrap();
            }
            7 => {
                let net = format!("{source}/64").parse().unwrap();
                drop(self.victim.add_address("eth0", net));
            }
            8 if source != OURS.parse::<Ipv6Addr>().unwrap() => {
                drop(self.victim.remove_address("eth0", source.into()));
            }
            9 => {
                let accept = u8::from(!self.dice.one_in(4));
                self.victim
                    .set_sysctl("net.inet6.ip6.accept_rtadv", accept)
                    .unwrap();
            }
            _ => drop(socket.send_to(b"hello", SocketAddr::from((source, 9)))),
        }
    }

    /// Lets the vnet do what is due, and hears what it says.
    fn listen(&mut self) {
        let step = match self.dice.below(100) {
            0 => Duration::from_secs(61),
            1..5 => Duration::from_secs(1),
            5..10 => Duration::from_millis(40),
            _ => Duration::ZERO,
        };
        self.system.poll(self.system.now() + step);
        while let Some(frame) = self.port.recv() {
            let frame = frame.to_vec();
            // A router alert is before what is said of groups.
            let at = if frame[20] == 0 { 62 } else { 54 };
            let what = match frame[at] {
                133 => "solicitations of routers",
                134 => "advertisements of a router",
                135 => "questions about neighbours",
                136 => "answers about neighbours",
                137 => "redirects of a router",
                131 | 132 | 143 => "reports of groups",
                _ => continue,
            };
            self.reached.count(what, 1);
            // The routers that are configured are there, now and then.
            let asked = frame.get(at + 8..at + 24).filter(|_| frame[at] == 135);
            let asked = asked.map(|a| Ipv6Addr::from(<[u8; 16]>::try_from(a).unwrap()));
            let is_router = |a: &Ipv6Addr| ROUTERS.iter().any(|r| r.parse() == Ok(*a));
            if let Some(router) = asked.filter(is_router)
                && !self.dice.one_in(4)
            {
                let mut says = vec![0xe0, 0, 0, 0];
                says.extend(router.octets());
                says.extend([2, 1, 2, 9, 9, 9, 9, 5]);
                let to = Ipv6Addr::from(<[u8; 16]>::try_from(&frame[22..38]).unwrap());
                let packet = Ip6::new(router, to).icmp(136, 0, &says);
                let _ = self
                    .port
                    .send(ethernet(MAC, [2, 9, 9, 9, 9, 5], IPV6, &packet));
            }
        }
    }

    /// What holds at any time: what is configured is there, and what others say is bounded.
    fn check(&mut self) {
        let now = self.victim.inspect().unwrap();
        let is = |r: &RouteInfo, origin: &str| format!("{:?}", r.origin) == origin;
        let kept = now.routes.iter().filter(|r| is(r, "Static"));
        let kept: Vec<_> = kept.map(|r| (r.dst.to_string(), r.gateway)).collect();
        let configured =
            ROUTES.map(|(dst, by)| (dst.to_owned(), Some(by.parse::<IpAddr>().unwrap())));
        assert!(configured.iter().all(|one| kept.contains(one)), "{kept:?}");
        let advertised = now.routes.iter().filter(|r| is(r, "Advertised"));
        let (hosts, nets): (Vec<_>, Vec<_>) = advertised.partition(|r| r.dst.prefix_len() == 128);
        // Of prefixes, routes and routers, and of redirects.
        assert!(
            nets.len() <= 16 + 16 + 1 && hosts.len() <= 64 + 32,
            "{nets:?} {hosts:?}"
        );
        self.reached
            .count("routes by the word of routers", nets.len() as u64);
        self.reached.count(
            "routes of single hosts by the word of routers",
            hosts.len() as u64,
        );
        let eth0 = now
            .interfaces
            .iter()
            .find(|i| i.info.name == "eth0")
            .unwrap();
        assert!(eth0.autoconfigured.len() <= 16, "{eth0:?}");
        self.reached.count(
            "addresses by the word of routers",
            eth0.autoconfigured.len() as u64,
        );
    }

    /// The vnet still answers, at an address that nobody has said anything of, and goes away without a rest.
    fn finish(mut self) -> Reached {
        self.victim.set_up("eth0", AdminState::Up).unwrap();
        let us: Ipv6Addr = "2001:db8:ffff::1".parse().unwrap();
        self.victim
            .add_address("eth0", format!("{us}/64").parse().unwrap())
            .unwrap();
        // As long as a router may have it wait whether somebody else has the address.
        self.system.poll(self.system.now());
        self.system
            .poll(self.system.now() + Duration::from_secs(11));
        let (them, mac) = ("2001:db8:ffff::9".parse().unwrap(), [2, 9, 9, 9, 9, 99]);
        let mut asks = vec![0; 4];
        asks.extend(us.octets());
        asks.extend([1, 1]);
        asks.extend(mac);
        while self.port.recv().is_some() {}
        let header = Ip6::new(them, us);
        let ping = header.icmp(128, 0, b"\x12\x34\0\x01still there?");
        for packet in [header.icmp(135, 0, &asks), ping] {
            self.port.send(ethernet(MAC, mac, IPV6, &packet)).unwrap();
        }
        self.system.poll(self.system.now());
        let is_answer = |frame: &[u8]| frame[54] == 129 && frame.ends_with(b"still there?");
        let heard: Vec<_> = std::iter::from_fn(|| self.port.recv())
            .map(|f| f.to_vec())
            .collect();
        let told = || {
            format!(
                "no answer to a ping: {heard:x?} {:#?}",
                self.victim.inspect().unwrap()
            )
        };
        assert!(heard.iter().any(|frame| is_answer(frame)), "{}", told());
        self.check();
        self.sockets.clear();
        self.victim
            .set_sysctl("net.inet6.ip6.rtadv_interval", 0)
            .unwrap();
        run_until_idle(&self.system, 10_000);
        assert_conserved(&self.victim);
        assert_eq!(self.victim.pending(), Ok(0));
        assert_clean(&self.victim.destroy());
        self.reached
    }
}

/// One life of a vnet.
fn episode(seed: u64) -> Reached {
    let mut scene = Scene::new(seed);
    for n in 0..EPISODE {
        let frame = frame(&mut scene.dice, MAC);
        // The interface may be down.
        let _ = scene.port.send(frame);
        if scene.dice.one_in(8) {
            scene.use_it();
        }
        scene.listen();
        assert_conserved(&scene.victim);
        if n.is_multiple_of(100) {
            scene.check();
        }
    }
    scene.finish()
}

/// Says so many frames to one vnet after the other; what is not right is said with the seed.
pub(crate) fn say(frames: u64) {
    let mut reached = Reached::default();
    let episodes = frames.div_ceil(EPISODE);
    for seed in 1..=episodes {
        let life = std::panic::catch_unwind(|| episode(seed));
        reached.add(life.unwrap_or_else(|_| panic!("the episode of seed {seed} failed")));
    }
    println!("{frames} frames of IPv6 in {episodes} episodes reached {reached:?}");
    reached.assert_deep();
}

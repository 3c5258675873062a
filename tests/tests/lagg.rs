//! Promise: a lagg is its members used as one. It is there while one of them is, keeps the frames of a
//! flow in order, and gives back what it took from them.

use std::net::Ipv4Addr;
use std::time::Duration;

use proptest::prelude::*;
use vnet::net::UdpSocket;
use vnet::{
    AdminError, AdminState, Carrier, DropReason, IfKind, LacpPort, LaggConfig, LaggHash,
    LaggMember, LaggMode, LinkConfig, MacAddr, OwnedVnet, Switchable, System, VlanConfig, Vnet,
};
use vnet_tests::accounts::{assert_clean, assert_conserved};
use vnet_tests::frames::{IPV4, Ip4, ethernet};
use vnet_tests::reach::reaches;
use vnet_tests::topology::vnet;

/// LACP has agreed by then: it waits two seconds for ports that may join together.
const AGREED: Duration = Duration::from_secs(4);

fn of(mode: LaggMode) -> LaggConfig {
    LaggConfig {
        mode,
        ..LaggConfig::default()
    }
}

fn fast(mode: LaggMode) -> LaggConfig {
    LaggConfig {
        fast: Switchable::On,
        ..of(mode)
    }
}

/// Two vnets joined by `links` wires, with a lagg at each end.
struct Pair {
    system: System,
    a: OwnedVnet,
    b: OwnedVnet,
}

impl Pair {
    fn new(links: usize, of_a: LaggConfig, of_b: LaggConfig) -> Pair {
        let system = System::virtual_time(1);
        let (a, b) = (vnet(&system, "a"), vnet(&system, "b"));
        for n in 0..links {
            a.epair(&eth(n), &b, &eth(n)).unwrap();
        }
        for (vnet, config, host) in [(&a, of_a, 1), (&b, of_b, 2)] {
            vnet.lagg("lagg0", config).unwrap();
            for n in 0..links {
                vnet.add_member("lagg0", &eth(n)).unwrap();
            }
            let address = format!("192.0.2.{host}/24").parse().unwrap();
            vnet.add_address("lagg0", address).unwrap();
        }
        system.run_for(AGREED).unwrap();
        Pair { system, a, b }
    }

    fn same(links: usize, mode: LaggMode) -> Pair {
        Pair::new(links, fast(mode), fast(mode))
    }

    fn cut(&self, n: usize) {
        self.a.set_up(&eth(n), AdminState::Down).unwrap();
    }

    fn restore(&self, n: usize) {
        self.a.set_up(&eth(n), AdminState::Up).unwrap();
    }

    fn end(self) {
        for vnet in [&self.a, &self.b] {
            assert_conserved(vnet);
        }
        for vnet in [self.a, self.b] {
            assert_clean(&vnet.destroy());
        }
    }
}

fn eth(n: usize) -> String {
    format!("eth{n}")
}

fn members(vnet: &Vnet) -> Vec<LaggMember> {
    vnet.lagg_info("lagg0").unwrap().members
}

fn senders(vnet: &Vnet) -> Vec<String> {
    let sending = members(vnet).into_iter().filter(|m| m.sends);
    sending.map(|m| m.name).collect()
}

fn sent(vnet: &Vnet, interface: &str) -> u64 {
    info(vnet, interface).counters.tx_frames
}

fn info(vnet: &Vnet, interface: &str) -> vnet::IfInfo {
    let all = vnet.interfaces().unwrap();
    all.into_iter().find(|i| i.name == interface).unwrap()
}

#[test]
fn lacp_agrees_on_every_link_and_says_with_whom() {
    for modes in [
        [LaggMode::LacpActive, LaggMode::LacpActive],
        [LaggMode::LacpActive, LaggMode::LacpPassive],
        [LaggMode::LacpPassive, LaggMode::LacpActive],
    ] {
        let pair = Pair::new(3, fast(modes[0]), fast(modes[1]));
        assert!(reaches(&pair.a, "192.0.2.2"));
        let theirs = info(&pair.b, "lagg0").mac;
        for (n, member) in members(&pair.a).into_iter().enumerate() {
            assert!(member.sends && member.receives, "{member:?}");
            assert!(member.pdus_in > 1 && member.pdus_out > 1, "{member:?}");
            let LacpPort {
                system,
                port,
                state,
                ..
            } = member.partner.unwrap();
            assert_eq!((system, port), (theirs, n as u16 + 1));
            assert_eq!(state & 0x3c, 0x3c, "in step, collecting and distributing");
        }
        let shown = pair.a.inspect().unwrap().to_string();
        assert!(shown.contains("laggport: eth0 active, partner "), "{shown}");
        pair.end();
    }
}

#[test]
fn two_that_wait_to_be_spoken_to_say_nothing() {
    let pair = Pair::same(2, LaggMode::LacpPassive);
    assert_eq!(info(&pair.a, "lagg0").carrier, Carrier::Down);
    assert!(!reaches(&pair.a, "192.0.2.2"));
    assert!(members(&pair.a).iter().all(|m| m.pdus_out == 0));
    // Until one of them is told to speak.
    pair.a
        .set_lagg("lagg0", fast(LaggMode::LacpActive))
        .unwrap();
    pair.system.run_for(AGREED).unwrap();
    assert!(reaches(&pair.a, "192.0.2.2"));
    pair.end();
}

#[test]
fn a_link_that_is_cut_costs_no_more_than_what_was_on_it() {
    for mode in [LaggMode::Failover, LaggMode::Balance, LaggMode::LacpActive] {
        let pair = Pair::same(2, mode);
        for cut in [0, 1] {
            pair.cut(cut);
            pair.system.run_for(Duration::from_millis(1)).unwrap();
            assert_eq!(senders(&pair.a), [eth(1 - cut)], "{mode:?}");
            assert_eq!(senders(&pair.b), [eth(1 - cut)], "{mode:?}");
            assert!(reaches(&pair.a, "192.0.2.2") && reaches(&pair.b, "192.0.2.1"));
            pair.restore(cut);
            pair.system.run_for(AGREED).unwrap();
        }
        pair.cut(0);
        pair.cut(1);
        pair.system.run_for(Duration::from_millis(1)).unwrap();
        for vnet in [&pair.a, &pair.b] {
            assert_eq!(info(vnet, "lagg0").carrier, Carrier::Down, "{mode:?}");
        }
        pair.restore(1);
        pair.system.run_for(AGREED).unwrap();
        assert!(reaches(&pair.a, "192.0.2.2"), "{mode:?}");
        pair.end();
    }
}

/// A link that loses everything has a carrier: only LACP notices.
#[test]
fn lacp_gives_up_a_link_that_is_silent() {
    let pair = Pair::same(2, LaggMode::LacpActive);
    let deaf = LinkConfig {
        loss: vnet::link::Loss::Random(1.0),
        ..LinkConfig::default()
    };
    for vnet in [&pair.a, &pair.b] {
        vnet.set_link("eth0", deaf.clone()).unwrap();
    }
    // IEEE 802.1AX-2020, clause 6.4.4: after three periods of a second without an LACPDU.
    pair.system.run_for(Duration::from_millis(3001)).unwrap();
    assert_eq!(senders(&pair.a), ["eth1"]);
    assert!(reaches(&pair.a, "192.0.2.2"));
    for vnet in [&pair.a, &pair.b] {
        vnet.set_link("eth0", LinkConfig::default()).unwrap();
    }
    pair.system.run_for(AGREED + AGREED).unwrap();
    assert_eq!(senders(&pair.a), ["eth0", "eth1"]);
    pair.end();
}

#[test]
fn flows_are_spread_and_each_keeps_its_link() {
    for (hash, is_spread) in [(LaggHash::L4, true), (LaggHash::L2, false)] {
        let config = LaggConfig {
            hash,
            ..of(LaggMode::Balance)
        };
        let pair = Pair::new(4, config, config);
        let to = UdpSocket::bind_in(&pair.b, "192.0.2.2:9").unwrap();
        assert!(reaches(&pair.a, "192.0.2.2"));
        let before: Vec<u64> = (0..4).map(|n| sent(&pair.a, &eth(n))).collect();
        for port in 1000..1064 {
            let from = UdpSocket::bind_in(&pair.a, ("192.0.2.1", port)).unwrap();
            let once: Vec<u64> = (0..4).map(|n| sent(&pair.a, &eth(n))).collect();
            for _ in 0..3 {
                from.send_to(b"x", "192.0.2.2:9").unwrap();
            }
            let by: Vec<u64> = (0..4).map(|n| sent(&pair.a, &eth(n)) - once[n]).collect();
            assert!(by.contains(&3), "port {port}: {by:?}");
        }
        let used = (0..4)
            .filter(|n| sent(&pair.a, &eth(*n)) > before[*n] + 8)
            .count();
        assert_eq!(used, if is_spread { 4 } else { 1 }, "{hash:?}");
        drop(to);
        pair.end();
    }
}

#[test]
fn members_have_the_laggs_address_and_mtu_and_get_their_own_back() {
    let system = System::virtual_time(1);
    let (a, b) = (vnet(&system, "a"), vnet(&system, "b"));
    let own = MacAddr([2, 0, 0, 0, 7, 7]);
    let seen = |name: &str| (info(&a, name).mac, info(&a, name).ip_mtu);
    for n in 0..3 {
        a.epair(&eth(n), &b, &eth(n)).unwrap();
    }
    a.set_mac("eth0", own).unwrap();
    a.set_ip_mtu("eth0", 1400).unwrap();
    a.lagg("lagg0", LaggConfig::default()).unwrap();
    a.set_ip_mtu("lagg0", 9000).unwrap();
    for n in 0..3 {
        a.add_member("lagg0", &eth(n)).unwrap();
    }
    assert_eq!(seen("eth0"), seen("lagg0"));
    let other = MacAddr([2, 0, 0, 0, 7, 8]);
    a.set_mac("lagg0", other).unwrap();
    a.set_ip_mtu("lagg0", 2000).unwrap();
    assert_eq!((seen("eth0"), seen("eth2")), ((other, 2000), (other, 2000)));
    let refused = [a.set_mac("eth0", own), a.set_ip_mtu("eth0", 1500)];
    for refused in refused {
        assert_eq!(refused, Err(AdminError::LaggMember("eth0".into())));
    }
    // By leaving, by being lent, and by the end of the lagg.
    a.remove_member("lagg0", "eth0").unwrap();
    assert_eq!(seen("eth0"), (own, 1400));
    a.add_member("lagg0", "eth0").unwrap();
    a.move_interface_as("eth0", &b, "guest").unwrap();
    assert_eq!(
        (info(&b, "guest").mac, info(&b, "guest").ip_mtu),
        (own, 1400)
    );
    a.reclaim_interface("eth0").unwrap();
    assert_eq!(seen("eth0"), (own, 1400));
    assert_eq!(info(&a, "eth0").member_of, None);
    a.add_member("lagg0", "eth0").unwrap();
    a.remove_interface("lagg0").unwrap();
    assert_eq!(seen("eth0"), (own, 1400));
    a.add_address("eth0", "192.0.2.1/24".parse().unwrap())
        .unwrap();
    for vnet in [a, b] {
        assert_clean(&vnet.destroy());
    }
}

#[test]
fn vlans_and_bridges_stand_on_a_lagg() {
    let pair = Pair::same(2, LaggMode::LacpActive);
    for (vnet, host) in [(&pair.a, 1), (&pair.b, 2)] {
        vnet.vlan("lagg0", "v5", VlanConfig::dot1q(5)).unwrap();
        let address = format!("198.51.100.{host}/24").parse().unwrap();
        vnet.add_address("v5", address).unwrap();
    }
    let guest = vnet(&pair.system, "guest");
    pair.a
        .vlan_in("lagg0", &guest, "v6", VlanConfig::dot1q(6))
        .unwrap();
    pair.b.vlan("lagg0", "v6", VlanConfig::dot1q(6)).unwrap();
    for (vnet, host) in [(&guest, 1), (&pair.b, 2)] {
        let address = format!("203.0.113.{host}/24").parse().unwrap();
        vnet.add_address("v6", address).unwrap();
    }
    assert!(reaches(&pair.a, "198.51.100.2"));
    assert!(reaches(&guest, "203.0.113.2") && reaches(&pair.b, "203.0.113.1"));
    pair.cut(0);
    assert!(reaches(&pair.a, "198.51.100.2") && reaches(&guest, "203.0.113.2"));
    pair.cut(1);
    pair.system.run_for(Duration::from_millis(1)).unwrap();
    assert_eq!(info(&guest, "v6").carrier, Carrier::Down);
    assert_eq!(info(&pair.b, "v5").carrier, Carrier::Down);
    for n in 0..2 {
        pair.restore(n);
    }
    pair.system.run_for(AGREED).unwrap();

    // The lagg of one side becomes a member of a bridge, on which its address is then.
    pair.b
        .remove_address("lagg0", Ipv4Addr::new(192, 0, 2, 2).into())
        .unwrap();
    pair.b.bridge("bridge0").unwrap();
    pair.b.add_member("bridge0", "lagg0").unwrap();
    pair.b
        .add_address("bridge0", "192.0.2.2/24".parse().unwrap())
        .unwrap();
    assert!(reaches(&pair.a, "192.0.2.2"));
    pair.b.remove_interface("lagg0").unwrap();
    assert_eq!(info(&pair.b, "bridge0").members, [""; 0]);
    pair.a.remove_interface("lagg0").unwrap();
    assert_eq!(guest.interfaces().unwrap().len(), 1, "gone with its parent");
    assert_clean(&guest.destroy());
    pair.end();
}

#[test]
fn what_cannot_be_is_refused_and_says_why() {
    let system = System::virtual_time(1);
    let (a, b) = (vnet(&system, "a"), vnet(&system, "b"));
    for n in 0..34 {
        a.epair(&eth(n), &b, &eth(n)).unwrap();
    }
    a.lagg("lagg0", LaggConfig::default()).unwrap();
    a.lagg("lagg1", LaggConfig::default()).unwrap();
    a.bridge("bridge0").unwrap();
    a.vlan("lagg0", "v5", VlanConfig::dot1q(5)).unwrap();
    let join = |lagg: &str, member: &str| a.add_member(lagg, member).unwrap_err();
    // One that stands on the lagg itself among them.
    for (member, kind) in [
        ("lo0", "loopback"),
        ("lagg0", "lagg"),
        ("lagg1", "lagg"),
        ("bridge0", "bridge"),
        ("v5", "vlan"),
    ] {
        let said = match member {
            "lo0" => {
                let error = join("lagg0", member);
                assert!(matches!(error, AdminError::HasAddresses(_)), "{error}");
                continue;
            }
            member => join("lagg0", member).to_string(),
        };
        let expected = "cannot be a member of a lagg: only epairs and ports can";
        assert_eq!(said, format!("an interface of kind {kind} {expected}"));
    }
    a.add_address("eth1", "192.0.2.1/24".parse().unwrap())
        .unwrap();
    assert_eq!(
        join("lagg0", "eth1"),
        AdminError::HasAddresses("eth1".into())
    );
    a.remove_address("eth1", Ipv4Addr::new(192, 0, 2, 1).into())
        .unwrap();
    a.add_member("lagg0", "eth0").unwrap();
    let refused = a.add_address("eth0", "192.0.2.1/24".parse().unwrap());
    assert_eq!(refused, Err(AdminError::LaggMember("eth0".into())));
    for to in ["lagg0", "lagg1", "bridge0"] {
        let error = join(to, "eth0");
        let said = "interface \"eth0\" is already a member of \"lagg0\"";
        assert_eq!(error.to_string(), said);
    }
    for n in 1..32 {
        a.add_member("lagg0", &eth(n)).unwrap();
    }
    let full = AdminError::TooManyMembers(32);
    assert_eq!(join("lagg0", "eth32"), full);
    let error = a.remove_member("lagg1", "eth0").unwrap_err();
    assert!(matches!(error, AdminError::NotAMember { .. }), "{error}");
    let none = AdminError::Unsupported {
        kind: IfKind::Epair,
        what: "is not a lagg",
    };
    assert_eq!(a.set_lagg("eth0", LaggConfig::default()), Err(none.clone()));
    assert_eq!(a.lagg_info("eth0"), Err(none));
    let name = a.lagg("eth0", LaggConfig::default());
    let exists = AdminError::Exists("eth0".into());
    assert_eq!(name, Err(exists));
    for vnet in [a, b] {
        assert_clean(&vnet.destroy());
    }
}

/// A well-formed LACPDU of another system, as the standard's figure has it.
fn lacpdu() -> Vec<u8> {
    let mut body = vec![1, 1, 1, 20];
    body.extend([
        0x80, 0, 2, 0, 0, 0, 0, 9, 0, 1, 0x80, 0, 0, 1, 0x3f, 0, 0, 0,
    ]);
    body.extend([2, 20]);
    body.extend([0; 18]);
    body.extend([3, 16]);
    body.resize(110, 0);
    body
}

const SLOW: [u8; 6] = [0x01, 0x80, 0xc2, 0, 0, 2];
const PEER: [u8; 6] = [2, 0, 0, 0, 0, 9];

#[test]
fn bad_lacpdus_are_counted_and_do_nothing() {
    let system = System::manual(1);
    let v = vnet(&system, "v");
    let port = v.port("eth0", None).unwrap();
    v.lagg("lagg0", LaggConfig::default()).unwrap();
    v.add_member("lagg0", "eth0").unwrap();
    let put = |frame: Vec<u8>| {
        port.send(frame).unwrap();
        system.poll(system.now());
        while port.recv().is_some() {}
        assert_conserved(&v);
    };
    let bad = || v.lagg_info("lagg0").unwrap().bad_pdus;
    let good = lacpdu();
    for len in 0..good.len() {
        put(ethernet(SLOW, PEER, 0x8809, &good[..len]));
        assert_eq!(bad(), len as u64 + 1, "{len} bytes");
    }
    let mut count = bad();
    for (at, value) in [
        (0, 2),
        (0, 99),
        (1, 0),
        (2, 9),
        (3, 0),
        (22, 7),
        (23, 255),
        (42, 0),
        (43, 4),
    ] {
        let mut spoiled = good.clone();
        spoiled[at] = value;
        put(ethernet(SLOW, PEER, 0x8809, &spoiled));
        // Other slow protocols are not bad.
        count += u64::from(value != 99);
        assert_eq!(bad(), count, "byte {at}");
    }
    assert!(v.lagg_info("lagg0").unwrap().members[0].partner.is_none());
    // From ourselves, and from many who say that they are somebody else: what is sent is bounded.
    let mut own = good.clone();
    own[6..12].copy_from_slice(&info(&v, "lagg0").mac.0);
    put(ethernet(SLOW, PEER, 0x8809, &own));
    let before = v.lagg_info("lagg0").unwrap().members[0].pdus_out;
    for n in 0..1000_u16 {
        let mut spoofed = good.clone();
        spoofed[10..12].copy_from_slice(&n.to_be_bytes());
        put(ethernet(SLOW, PEER, 0x8809, &spoofed));
    }
    let after = v.lagg_info("lagg0").unwrap().members[0].clone();
    assert!(after.pdus_out - before <= 3, "{after:?}");
    assert_eq!(after.pdus_in, 1001);
    assert!(!after.sends && !after.receives, "it has agreed with nobody");
    // What is not for the protocols is dropped while the member is not in use.
    put(ethernet([0xff; 6], PEER, IPV4, &[0; 46]));
    let inactive = |v: &Vnet| v.stats().unwrap().rx_drops(DropReason::LaggInactive);
    assert_eq!(inactive(&v), 1);
    // Too long, tagged, or of a lagg that speaks no LACP.
    put(ethernet(
        SLOW,
        PEER,
        0x8809,
        &[&good[..], &[7; 900]].concat(),
    ));
    put(ethernet(
        SLOW,
        PEER,
        0x8100,
        &[&[0, 5, 0x88, 9], &good[..]].concat(),
    ));
    assert_eq!((bad(), inactive(&v)), (count, 2));
    v.set_lagg("lagg0", of(LaggMode::Balance)).unwrap();
    let unknown = v.stats().unwrap().rx_drops(DropReason::UnknownProtocol);
    put(ethernet(SLOW, PEER, 0x8809, &good));
    assert_eq!(
        v.stats().unwrap().rx_drops(DropReason::UnknownProtocol),
        unknown + 1
    );
    assert_clean(&v.destroy());
}

/// The links stay up: without a word, the other end would go on sending for 90 seconds.
#[test]
fn what_is_set_down_or_taken_out_is_left_by_the_other_end_at_once() {
    type Act = fn(&Vnet);
    let acts: [(Act, usize); 6] = [
        (|v| v.set_up("lagg0", AdminState::Down).unwrap(), 0),
        (|v| v.remove_interface("lagg0").unwrap(), 0),
        (|v| v.remove_member("lagg0", "eth0").unwrap(), 1),
        (|v| v.set_lagg("lagg0", of(LaggMode::Balance)).unwrap(), 0),
        (
            |v| v.set_lagg("lagg0", of(LaggMode::LacpPassive)).unwrap(),
            0,
        ),
        (
            |v| {
                let config = LaggConfig {
                    key: std::num::NonZeroU16::new(77),
                    ..of(LaggMode::LacpActive)
                };
                v.set_lagg("lagg0", config).unwrap();
            },
            0,
        ),
    ];
    for (n, (act, left)) in acts.into_iter().enumerate() {
        let slow = of(LaggMode::LacpActive);
        let pair = Pair::new(2, slow, slow);
        assert_eq!(senders(&pair.b).len(), 2);
        act(&pair.a);
        pair.system.run_for(Duration::from_millis(1)).unwrap();
        assert_eq!(senders(&pair.b).len(), left, "act {n}");
        assert_eq!(info(&pair.b, "eth0").carrier, Carrier::Up, "act {n}");
        pair.end();
    }
    // And what is up again is agreed on again.
    let pair = Pair::new(2, of(LaggMode::LacpActive), of(LaggMode::LacpActive));
    for state in [AdminState::Down, AdminState::Up] {
        pair.a.set_up("lagg0", state).unwrap();
        pair.system.run_for(AGREED).unwrap();
    }
    assert_eq!((senders(&pair.a).len(), senders(&pair.b).len()), (2, 2));
    assert!(reaches(&pair.a, "192.0.2.2"));
    pair.end();
}

#[test]
fn two_systems_with_one_address_say_why_they_do_not_agree() {
    use vnet::LacpState;
    let same = LaggConfig {
        system: Some(MacAddr([2, 0, 0, 0, 0, 0x55])),
        ..fast(LaggMode::LacpActive)
    };
    let pair = Pair::new(1, same, same);
    assert_eq!(members(&pair.a)[0].lacp, Some(LacpState::Loop));
    let shown = pair.a.inspect().unwrap().to_string();
    let why = "laggport: eth0 inactive (partner has the same system)";
    assert!(shown.contains(why), "{shown}");
    let group = MacAddr([3, 0, 0, 0, 0, 1]);
    let refused = LaggConfig {
        system: Some(group),
        ..same
    };
    let refused = pair.a.set_lagg("lagg0", refused).unwrap_err();
    assert!(refused.to_string().contains("system"), "{refused}");
    pair.a
        .set_lagg("lagg0", fast(LaggMode::LacpActive))
        .unwrap();
    pair.system.run_for(AGREED).unwrap();
    let member = &members(&pair.a)[0];
    assert_eq!(member.lacp, Some(LacpState::Distributing));
    let actor = member.actor.unwrap();
    assert_eq!(actor.system, info(&pair.a, "lagg0").mac);
    assert_eq!(members(&pair.b)[0].partner, Some(actor));
    pair.end();
}

/// What is counted of a member goes on for as long as it is one, and a partner is shown while it is heard.
#[test]
fn counters_do_not_run_backwards_and_partners_do_not_outlive_their_links() {
    let pair = Pair::same(1, LaggMode::LacpActive);
    let before = members(&pair.a)[0].clone();
    assert!(before.partner.is_some());
    let mac = info(&pair.a, "lagg0").mac;
    pair.a.set_mac("lagg0", mac).unwrap();
    assert_eq!(members(&pair.a)[0], before, "nothing has changed");
    for config in [
        of(LaggMode::LacpPassive),
        of(LaggMode::Balance),
        fast(LaggMode::LacpActive),
    ] {
        pair.a.set_lagg("lagg0", config).unwrap();
        let after = &members(&pair.a)[0];
        assert!(after.pdus_in >= before.pdus_in && after.pdus_out >= before.pdus_out);
    }
    pair.system.run_for(AGREED).unwrap();
    assert!(members(&pair.a)[0].partner.is_some());
    pair.cut(0);
    assert_eq!(members(&pair.a)[0].partner, None);
    pair.end();
}

/// What LACP has not agreed on yet is not configured otherwise.
#[test]
fn a_twin_that_has_not_agreed_yet_is_one() {
    let pair = Pair::same(2, LaggMode::LacpActive);
    pair.a.vlan("lagg0", "v5", VlanConfig::dot1q(5)).unwrap();
    let records = [&pair.a, &pair.b].map(|v| v.record().unwrap());
    let twins = pair
        .system
        .replay_all(&records, |name| format!("{name}2"))
        .unwrap();
    for (twin, of) in twins.iter().zip([&pair.a, &pair.b]) {
        assert_eq!(info(twin, "lagg0").carrier, Carrier::Down);
        let seen = |v: &Vnet| v.inspect().unwrap().normalised_wired();
        assert_eq!(seen(twin), seen(of));
    }
    for twin in twins {
        assert_clean(&twin.destroy());
    }
    pair.end();
}

/// Members were made first, but it is the lagg that has the address.
#[test]
fn a_broadcast_to_everyone_leaves_by_the_lagg() {
    let pair = Pair::same(2, LaggMode::Balance);
    let from = UdpSocket::bind_in(&pair.a, "192.0.2.1:9").unwrap();
    from.set_broadcast(true).unwrap();
    let before = sent(&pair.a, "lagg0");
    from.send_to(b"x", "255.255.255.255:9").unwrap();
    assert_eq!(sent(&pair.a, "lagg0"), before + 1);
    pair.end();
}

#[test]
fn a_standby_link_takes_nothing() {
    let pair = Pair::same(2, LaggMode::Failover);
    let port = pair.a.port("port0", None).unwrap();
    pair.a.add_member("lagg0", "port0").unwrap();
    let packet = Ip4::new(Ipv4Addr::new(192, 0, 2, 9), Ipv4Addr::new(192, 0, 2, 1), 17);
    let to = info(&pair.a, "lagg0").mac.0;
    port.send(ethernet(to, PEER, IPV4, &packet.packet(&[0; 8])))
        .unwrap();
    pair.system.run_for(Duration::from_millis(1)).unwrap();
    let dropped = pair.a.stats().unwrap().rx_drops(DropReason::LaggInactive);
    assert_eq!(dropped, 1);
    pair.end();
}

#[test]
fn a_twin_has_the_same_laggs() {
    let pair = Pair::same(2, LaggMode::LacpActive);
    pair.a.vlan("lagg0", "v5", VlanConfig::dot1q(5)).unwrap();
    let records = [&pair.a, &pair.b].map(|v| v.record().unwrap());
    let twins = pair
        .system
        .replay_all(&records, |name| format!("{name}2"))
        .unwrap();
    pair.system.run_for(AGREED).unwrap();
    for (twin, of) in twins.iter().zip([&pair.a, &pair.b]) {
        let seen = |v: &Vnet| v.inspect().unwrap().normalised_wired();
        assert_eq!(seen(twin), seen(of));
    }
    assert!(reaches(&twins[0], "192.0.2.2"));
    assert_eq!(twins[0].record().unwrap().ops.len(), records[0].ops.len());
    for twin in twins {
        assert_clean(&twin.destroy());
    }
    pair.end();
}

/// In whatever order they go.
#[test]
fn nothing_is_left_whatever_goes_first() {
    for order in [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ] {
        let pair = Pair::same(2, LaggMode::LacpActive);
        let guest = vnet(&pair.system, "guest");
        guest.lagg("lagg0", LaggConfig::default()).unwrap();
        let c = vnet(&pair.system, "c");
        c.epair("eth0", &guest, "eth0").unwrap();
        c.move_interface_as("eth0", &guest, "lent0").unwrap();
        guest.add_member("lagg0", "lent0").unwrap();
        guest.add_member("lagg0", "eth0").unwrap();
        pair.a
            .vlan_in("lagg0", &guest, "v5", VlanConfig::dot1q(5))
            .unwrap();
        let Pair { system, a, b } = pair;
        let mut all = [Some(a), Some(guest), Some(c)];
        for gone in order {
            let vnet = all[gone].take().unwrap();
            assert_clean(&vnet.destroy());
            system.run_for(Duration::from_secs(1)).unwrap();
            for vnet in all.iter().flatten() {
                assert_conserved(vnet);
            }
        }
        assert!(senders(&b).is_empty());
        assert_clean(&b.destroy());
    }
}

/// What happens to one of the links.
#[derive(Clone, Copy, Debug)]
struct Event {
    link: usize,
    /// Which end is set up or down.
    at_a: bool,
    up: bool,
    /// After so many milliseconds.
    after: u64,
}

fn event() -> impl Strategy<Value = Event> {
    let after = prop_oneof![0..50_u64, 0..6000_u64];
    (0..4_usize, any::<bool>(), any::<bool>(), after).prop_map(|(link, at_a, up, after)| Event {
        link,
        at_a,
        up,
        after,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is cut and restored, no frame of a flow overtakes another or comes twice, and when all
    /// is restored, all is in use within the bound.
    #[test]
    fn flows_keep_their_order_and_all_links_come_back(
        links in 2..=4_usize,
        modes in 0..4_usize,
        delay in 0..20_u64,
        events in prop::collection::vec(event(), 1..25),
    ) {
        use LaggMode::{Balance, LacpActive, LacpPassive};
        let modes = [[LacpActive, LacpActive], [LacpActive, LacpPassive], [LacpPassive, LacpActive], [Balance, Balance]][modes];
        let pair = Pair::new(links, fast(modes[0]), fast(modes[1]));
        let link = LinkConfig { delay: Duration::from_millis(delay), ..LinkConfig::default() };
        for n in 0..links {
            pair.a.set_link(&eth(n), link.clone()).unwrap();
            pair.b.set_link(&eth(n), link.clone()).unwrap();
        }
        prop_assert!(reaches(&pair.a, "192.0.2.2"));
        let to = UdpSocket::bind_in(&pair.b, "192.0.2.2:9").unwrap();
        to.set_nonblocking(true).unwrap();
        let flows: Vec<UdpSocket> = (0..8).map(|n| UdpSocket::bind_in(&pair.a, ("192.0.2.1", 1000 + n)).unwrap()).collect();
        let mut last = [0_u32; 8];
        let mut number = 0_u32;
        let mut heard = 0;
        let mut bytes = [0; 4];
        let mut run = |ms: u64| {
            for _ in 0..ms.div_ceil(5) {
                number += 1;
                for flow in &flows {
                    // While no link is up, this fails or is lost.
                    let _ = flow.send_to(&number.to_be_bytes(), "192.0.2.2:9");
                }
                pair.system.run_for(Duration::from_millis(5)).unwrap();
                while let Ok((_, from)) = to.recv_from(&mut bytes) {
                    let flow = usize::from(from.port() - 1000);
                    let got = u32::from_be_bytes(bytes);
                    prop_assert!(got > last[flow], "{got} after {} in flow {flow}", last[flow]);
                    last[flow] = got;
                    heard += 1;
                }
            }
            Ok(heard)
        };
        for event in &events {
            let vnet = if event.at_a { &pair.a } else { &pair.b };
            let state = if event.up { AdminState::Up } else { AdminState::Down };
            vnet.set_up(&eth(event.link % links), state).unwrap();
            run(event.after)?;
        }
        for n in 0..links {
            pair.a.set_up(&eth(n), AdminState::Up).unwrap();
            pair.b.set_up(&eth(n), AdminState::Up).unwrap();
        }
        // Two seconds of waiting for other ports (clause 6.4.4), and a second for what was said before
        // and must not be said again at once, twice.
        run(4000)?;
        let all: Vec<String> = (0..links).map(eth).collect();
        prop_assert_eq!(senders(&pair.a), all.clone());
        prop_assert_eq!(senders(&pair.b), all);
        let before = run(0)?;
        let after = run(500)?;
        prop_assert!(after - before >= 8 * 90, "{} of 800 arrived", after - before);
        for vnet in [&pair.a, &pair.b] {
            assert_conserved(vnet);
        }
    }
}

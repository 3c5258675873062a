//! Promise: a VLAN interface is what its parent and its tag say, and nothing else: it has the frames of
//! its VLAN wherever it is, gives them their tag, and goes with its parent.

use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use vnet::capture::FrameTap;
use vnet::net::{TcpListener, TcpStream};
use vnet::time::Instant;
use vnet::{
    AdminError, AdminState, Carrier, Direction, DropReason, LinkConfig, MacAddr, OwnedVnet, Packet,
    Port, System, Tpid, VlanConfig, Vnet,
};
use vnet_tests::accounts::{assert_clean, assert_conserved};
use vnet_tests::frames::{ARP, Station, arp, ethernet};
use vnet_tests::reach::reaches;
use vnet_tests::topology::vnet;
use vnet_tests::trace::Trace;

const PEER: Station = Station {
    mac: [2, 0xaa, 0, 0, 0, 1],
    ip: Ipv4Addr::new(192, 0, 2, 9),
};
const EVERYONE: [u8; 6] = [0xff; 6];

/// A frame with tags, each of a TPID and its control information, from the outer one inwards.
fn tagged(tags: &[(u16, u16)], ether_type: u16, body: &[u8]) -> Vec<u8> {
    let mut inner = Vec::new();
    let mut types: Vec<u16> = tags.iter().map(|(tpid, _)| *tpid).collect();
    types.push(ether_type);
    for ((_, tci), next) in tags.iter().zip(&types[1..]) {
        inner.extend(tci.to_be_bytes());
        inner.extend(next.to_be_bytes());
    }
    inner.extend(body);
    ethernet(EVERYONE, PEER.mac, types[0], &inner)
}

/// A question for 192.0.2.1 with these tags.
fn question(tags: &[(u16, u16)]) -> Vec<u8> {
    let to = Station {
        mac: [0; 6],
        ip: Ipv4Addr::new(192, 0, 2, 1),
    };
    tagged(tags, ARP, &arp(1, PEER, to))
}

/// A vnet with a port, under the manual driver.
struct Bench {
    system: System,
    v: OwnedVnet,
    port: Port,
}

impl Bench {
    fn new() -> Bench {
        let system = System::manual(1);
        let v = vnet(&system, "v");
        let port = v.port("eth0", None).unwrap();
        Bench { system, v, port }
    }

    /// What comes out of the port when nothing more happens.
    fn seen(&self) -> Vec<Vec<u8>> {
        self.system.poll(self.system.now());
        std::iter::from_fn(|| self.port.recv().map(|p| p.to_vec())).collect()
    }

    /// What the vnet says to a frame.
    fn answers(&self, frame: Vec<u8>) -> Vec<Vec<u8>> {
        self.seen();
        self.port.send(frame).unwrap();
        let seen = self.seen();
        assert_conserved(&self.v);
        seen
    }

    fn drops(&self, reason: DropReason) -> u64 {
        self.v.stats().unwrap().rx_drops(reason)
    }
}

fn address(vnet: &Vnet, interface: &str, address: &str) {
    vnet.add_address(interface, address.parse().unwrap())
        .unwrap();
}

#[test]
fn a_frame_leaves_with_its_tag_and_is_taken_in_without_it() {
    let b = Bench::new();
    b.v.vlan("eth0", "eth0.5", VlanConfig::dot1q(5)).unwrap();
    address(&b.v, "eth0.5", "192.0.2.1/24");
    let announced = b.seen();
    assert_eq!(announced.len(), 1);
    assert_eq!(announced[0][12..18], [0x81, 0, 0, 5, 8, 6]);
    assert_eq!(announced[0].len(), 46);

    let answer = b.answers(question(&[(0x8100, 5)]));
    assert_eq!(answer.len(), 1);
    assert_eq!(answer[0][..6], PEER.mac);
    assert_eq!(answer[0][12..18], [0x81, 0, 0, 5, 8, 6]);
    // A priority and drop eligibility are no part of the VLAN.
    assert_eq!(b.answers(question(&[(0x8100, 0xf005)])).len(), 1);

    for others in [
        &[(0x8100, 6)][..],
        &[(0x88a8, 5)],
        &[(0x8100, 4095)],
        &[(0x8100, 6), (0x8100, 5)],
    ] {
        let before = b.drops(DropReason::UnknownVlan);
        assert!(b.answers(question(others)).is_empty(), "{others:?}");
        assert_eq!(b.drops(DropReason::UnknownVlan), before + 1, "{others:?}");
    }
    // In the VLAN, but tagged again for another one.
    assert!(b.answers(question(&[(0x8100, 5), (0x8100, 5)])).is_empty());
    // A vnet answers for its addresses at all of its interfaces, there without a tag.
    assert_eq!(b.answers(question(&[]))[0][12..14], [8, 6]);
    let up = b.v.interfaces().unwrap();
    assert_eq!(up[2].counters.tx_bytes, 42 * 3);
    assert_eq!(up[1].counters.tx_bytes, 46 * 3 + 42);
    assert_clean(&b.v.destroy());
}

#[test]
fn a_tag_without_a_vlan_is_none() {
    let b = Bench::new();
    address(&b.v, "eth0", "192.0.2.1/24");
    b.v.vlan("eth0", "v5", VlanConfig::dot1q(5)).unwrap();
    let priority = (0x8100, 0xe000);
    for tags in 1..6 {
        let answer = b.answers(question(&vec![priority; tags]));
        assert_eq!(answer.len(), 1, "{tags}");
        assert_eq!(answer[0][12..14], [8, 6]);
        // Whatever is behind them, however many they are.
        let unknown = [vec![priority; tags], vec![(0x8100, 6)]].concat();
        assert!(b.answers(question(&unknown)).is_empty());
        assert_eq!(b.drops(DropReason::UnknownVlan), tags as u64);
    }
    b.v.vlan("eth0", "v7", VlanConfig::dot1q(7)).unwrap();
    let before = b.drops(DropReason::UnknownVlan);
    for behind in [
        vec![priority, (0x8100, 7)],
        vec![(0x88a8, 0), (0x8100, 7)],
        vec![priority, priority, priority, (0x8100, 7)],
    ] {
        assert!(b.answers(question(&behind)).is_empty(), "{behind:?}");
    }
    assert_eq!(b.drops(DropReason::UnknownVlan), before + 3);
    // Unless there is an interface for it.
    b.v.vlan("eth0", "v0", VlanConfig::dot1q(0)).unwrap();
    let answer = b.answers(question(&[(0x8100, 0xe000)]));
    assert_eq!(answer[0][12..18], [0x81, 0, 0, 0, 8, 6]);
    // Who has it has no VLAN by it.
    b.v.vlan("v0", "v0.7", VlanConfig::dot1q(7)).unwrap();
    address(&b.v, "v0.7", "192.0.2.77/24");
    b.system.poll(b.system.now());
    assert!(b.seen().is_empty(), "its announcement would be in VLAN 7");
    let refused = b.v.stats().unwrap().tx_drops(DropReason::VlanFiltered);
    assert!(refused > 0);
    assert!(b.answers(question(&[priority, (0x8100, 7)])).is_empty());
}

#[test]
fn a_priority_stays_with_a_frame_from_tag_to_tag() {
    let b = Bench::new();
    let far = b.v.port("eth1", None).unwrap();
    b.v.bridge("br0").unwrap();
    for (name, parent, vid) in [("in5", "eth0", 5), ("out6", "eth1", 6)] {
        b.v.vlan(parent, name, VlanConfig::dot1q(vid)).unwrap();
        b.v.add_member("br0", name).unwrap();
    }
    let plain = b.v.port("plain", None).unwrap();
    b.v.add_member("br0", "plain").unwrap();
    b.seen();
    let next = |port: &Port| port.recv().unwrap().to_vec();
    let send = |port: &Port, frame: Vec<u8>| {
        port.send(frame).unwrap();
        b.system.poll(b.system.now());
    };
    send(&b.port, question(&[(0x8100, 0xb005)]));
    // The same priority and drop eligibility behind the other VLAN; none where there is no tag.
    assert_eq!(next(&far)[12..16], [0x81, 0, 0xb0, 6]);
    assert_eq!(next(&plain)[12..14], [8, 6]);
    send(&plain, question(&[]));
    assert_eq!(next(&far)[12..16], [0x81, 0, 0, 6]);
    assert_eq!(next(&b.port)[12..16], [0x81, 0, 0, 5]);
    // An outer tag has the priority of the one behind it.
    b.v.vlan("out6", "q7", VlanConfig::dot1q(7)).unwrap();
    send(&plain, question(&[(0x8100, 0x6009)]));
    assert_eq!(next(&far)[12..20], [0x81, 0, 0x60, 6, 0x81, 0, 0x60, 9]);
    assert_conserved(&b.v);
}

#[test]
fn vlans_stand_on_vlans_as_deep_as_the_limit() {
    let b = Bench::new();
    let mut parent = "eth0".to_owned();
    let mut tags = Vec::new();
    for n in 1..=u16::from(VlanConfig::MAX_DEPTH) {
        let (config, tpid) = match n % 2 {
            0 => (VlanConfig::dot1q(7), 0x8100),
            _ => (VlanConfig::dot1ad(7), 0x88a8),
        };
        let name = format!("v{n}");
        b.v.vlan(&parent, &name, config).unwrap();
        tags.push((tpid, 7));
        parent = name;
    }
    let deeper = b.v.vlan(&parent, "deeper", VlanConfig::dot1q(7));
    assert_eq!(deeper, Err(AdminError::TooDeep(parent.clone())));
    address(&b.v, &parent, "192.0.2.1/24");
    b.seen();
    let answer = b.answers(question(&tags));
    assert_eq!(answer.len(), 1);
    assert_eq!(answer[0].len(), 42 + 4 * tags.len());
    for (n, (tpid, vid)) in tags.iter().enumerate() {
        let tag = [tpid.to_be_bytes(), vid.to_be_bytes()].concat();
        assert_eq!(answer[0][12 + 4 * n..16 + 4 * n], tag);
    }
    assert_eq!(answer[0][12 + 4 * tags.len()..][..2], [8, 6]);
    b.v.remove_interface("eth0").unwrap();
    assert_eq!(b.v.interfaces().unwrap().len(), 1);
    assert_clean(&b.v.destroy());
}

#[test]
fn what_cannot_be_is_refused_and_says_why() {
    let b = Bench::new();
    let q = VlanConfig::dot1q;
    assert_eq!(
        b.v.vlan("eth0", "v", q(4095)),
        Err(AdminError::BadVid(4095))
    );
    let said = AdminError::BadVid(4095).to_string();
    assert_eq!(said, "VID 4095 is out of range: use 0 to 4094");
    let nowhere = b.v.vlan("eth9", "v", q(5));
    assert_eq!(nowhere, Err(AdminError::NotFound("eth9".into())));
    let loopback = b.v.vlan("lo0", "v", q(5)).unwrap_err();
    assert_eq!(
        loopback.to_string(),
        "an interface of kind loopback carries no VLANs"
    );
    b.v.vlan("eth0", "v5", q(5)).unwrap();
    let taken = b.v.vlan("eth0", "v", q(5)).unwrap_err();
    let expected = "interface \"eth0\" already has a VLAN interface for 802.1Q VID 5";
    assert_eq!(taken.to_string(), expected);
    let name = b.v.vlan("eth0", "v5", q(6));
    assert_eq!(name, Err(AdminError::Exists("v5".into())));
    b.v.vlan("eth0", "v6", q(6)).unwrap();
    assert!(matches!(
        b.v.set_vlan("v6", q(5)),
        Err(AdminError::VlanTaken { .. })
    ));
    assert_eq!(b.v.set_vlan("v6", q(4095)), Err(AdminError::BadVid(4095)));
    let no_vlan = b.v.set_vlan("eth0", q(7));
    assert!(matches!(no_vlan, Err(AdminError::Unsupported { .. })));
    assert!(b.v.set_offload("v5", vnet::Offload::None).is_err());
    assert!(b.v.set_link("v5", LinkConfig::default()).is_err());
    // A bridge that is a member of itself, by way of a VLAN.
    b.v.bridge("bridge0").unwrap();
    b.v.vlan("bridge0", "b5", q(5)).unwrap();
    let member = b.v.add_member("bridge0", "b5");
    assert!(matches!(member, Err(AdminError::StandsOnBridge { .. })));
    assert_clean(&b.v.destroy());
}

#[test]
fn a_vlan_has_its_parents_address_mtu_and_carrier_until_it_is_given_its_own() {
    let system = System::manual(1);
    let (v, w) = (vnet(&system, "v"), vnet(&system, "w"));
    v.epair("eth0", &w, "eth0").unwrap();
    v.vlan("eth0", "a", VlanConfig::dot1q(5)).unwrap();
    v.vlan("a", "b", VlanConfig::dot1q(5)).unwrap();
    v.vlan_in("eth0", &w, "away", VlanConfig::dot1q(6)).unwrap();
    let of = |vnet: &Vnet, name: &str| {
        system.poll(system.now());
        let all = vnet.interfaces().unwrap();
        all.into_iter().find(|i| i.name == name).unwrap()
    };
    let mac = MacAddr([2, 0, 0, 0, 9, 9]);
    v.set_mac("eth0", mac).unwrap();
    v.set_ip_mtu("eth0", 9000).unwrap();
    assert_eq!((of(&v, "b").mac, of(&v, "b").ip_mtu), (mac, 9000));
    v.set_mac("b", MacAddr([2, 0, 0, 0, 9, 8])).unwrap();
    v.set_ip_mtu("b", 1400).unwrap();
    v.set_mac("eth0", MacAddr([2, 0, 0, 0, 9, 7])).unwrap();
    v.set_ip_mtu("eth0", 1500).unwrap();
    assert_eq!(of(&v, "b").mac.0[5], 8);
    assert_eq!((of(&v, "a").mac.0[5], of(&v, "a").ip_mtu), (7, 1500));
    assert_eq!(of(&v, "b").ip_mtu, 1400);

    // None carries more than its parent does, whatever is set and in whatever order.
    v.set_ip_mtu("b", 2000).unwrap();
    assert_eq!(of(&v, "b").ip_mtu, 1500);
    v.set_ip_mtu("eth0", 9000).unwrap();
    assert_eq!(of(&v, "b").ip_mtu, 2000);
    // There is room for two tags on every wire, and not for more.
    v.vlan("b", "c", VlanConfig::dot1q(5)).unwrap();
    v.vlan("c", "d", VlanConfig::dot1q(5)).unwrap();
    assert_eq!((of(&v, "c").ip_mtu, of(&v, "d").ip_mtu), (1996, 1992));
    v.set_ip_mtu("a", 1500).unwrap();
    assert_eq!((of(&v, "c").ip_mtu, of(&v, "d").ip_mtu), (1496, 1492));
    v.remove_interface("c").unwrap();
    v.set_ip_mtu("a", 9000).unwrap();
    v.set_ip_mtu("eth0", 1500).unwrap();
    w.set_ip_mtu("away", 9000).unwrap();
    assert_eq!(of(&w, "away").ip_mtu, 1500);

    let carriers = |expected: [Carrier; 3]| {
        let seen = [of(&v, "a"), of(&v, "b"), of(&w, "away")];
        assert_eq!(seen.map(|i| i.carrier), expected);
    };
    let (up, down) = (Carrier::Up, Carrier::Down);
    carriers([up, up, up]);
    w.set_up("eth0", AdminState::Down).unwrap();
    carriers([down, down, down]);
    w.set_up("eth0", AdminState::Up).unwrap();
    carriers([up, up, up]);
    v.set_up("eth0", AdminState::Down).unwrap();
    carriers([down, down, down]);
    v.set_up("eth0", AdminState::Up).unwrap();
    v.set_up("a", AdminState::Down).unwrap();
    carriers([up, down, up]);
    v.set_up("a", AdminState::Up).unwrap();
    v.remove_interface("eth0").unwrap();
    assert_eq!(
        w.interfaces().unwrap().len(),
        2,
        "away went with its parent"
    );
    assert_eq!(v.pins().unwrap().lent, []);
}

/// Counts frames, and the bytes of the longest.
#[derive(Default)]
struct Meter {
    frames: AtomicU64,
    longest: AtomicU64,
}

impl FrameTap for Meter {
    fn frame(&self, _: Instant, way: Direction, packet: &Packet) {
        if way == Direction::Out {
            self.frames.fetch_add(1, Ordering::Relaxed);
            self.longest
                .fetch_max(packet.len() as u64, Ordering::Relaxed);
        }
    }
}

const BULK: usize = 1 << 20;

/// Sends a megabyte from one vnet to 192.0.2.2 in the other, and says how much came there.
fn bulk_into(system: &System, a: &Vnet, b: &Vnet) -> usize {
    let server = b
        .spawn(|| {
            let (mut peer, _) = TcpListener::bind("0.0.0.0:7")?.accept()?;
            let mut all = Vec::new();
            peer.read_to_end(&mut all)
        })
        .unwrap();
    system.sleep(Duration::from_millis(1)).unwrap();
    let mut client = TcpStream::connect_in(a, "192.0.2.2:7").unwrap();
    client.write_all(&vec![7; BULK]).unwrap();
    drop(client);
    server.join().unwrap().unwrap()
}

/// Sends a megabyte from one vnet to 192.0.2.2 in the other, and meters what leaves `eth0` there.
fn bulk(system: &System, a: &Vnet, b: &Vnet) -> (u64, u64) {
    let meter = Arc::new(Meter::default());
    a.capture("eth0", Arc::<Meter>::clone(&meter)).unwrap();
    assert_eq!(bulk_into(system, a, b), BULK);
    let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
    (count(&meter.frames), count(&meter.longest))
}

#[test]
fn large_segments_cross_a_vlan_uncut_and_a_wire_with_a_rate_cuts_them_with_their_tags() {
    let frames = |vlan: bool, link: Option<LinkConfig>| {
        let system = System::virtual_time(1);
        let (a, b) = (vnet(&system, "a"), vnet(&system, "b"));
        a.epair("eth0", &b, "eth0").unwrap();
        for (v, net) in [(&a, "192.0.2.1/24"), (&b, "192.0.2.2/24")] {
            if vlan {
                v.vlan("eth0", "v", VlanConfig::dot1q(5)).unwrap();
                v.vlan("v", "w", VlanConfig::dot1q(5)).unwrap();
            }
            address(v, if vlan { "w" } else { "eth0" }, net);
            if let Some(link) = &link {
                v.set_link("eth0", link.clone()).unwrap();
            }
        }
        bulk(&system, &a, &b)
    };
    let (plain, longest) = frames(false, None);
    assert!(longest > 60_000);
    assert_eq!(frames(true, None), (plain, longest + 8));
    let slow = LinkConfig {
        rate_bps: Some(100_000_000),
        ..LinkConfig::default()
    };
    let (cut, longest) = frames(true, Some(slow));
    assert!(cut as usize > BULK / 1460);
    assert_eq!(longest, 1500 + 14 + 8);
}

#[test]
fn a_guest_in_another_vnet_is_on_the_vlan_and_nowhere_else() {
    let system = System::virtual_time(1);
    let [host, guest, peer] = ["host", "guest", "peer"].map(|n| vnet(&system, n));
    host.epair("eth0", &peer, "eth0").unwrap();
    host.vlan_in("eth0", &guest, "lan0", VlanConfig::dot1q(5))
        .unwrap();
    for vid in [5, 6] {
        let name = format!("eth0.{vid}");
        peer.vlan("eth0", &name, VlanConfig::dot1q(vid)).unwrap();
    }
    host.vlan("eth0", "eth0.6", VlanConfig::dot1q(6)).unwrap();
    address(&guest, "lan0", "192.0.2.1/24");
    address(&peer, "eth0.5", "192.0.2.2/24");
    address(&host, "eth0.6", "192.0.2.1/24");
    assert!(reaches(&guest, "192.0.2.2"));
    let trace = Trace::default();
    trace.watch(&peer, "eth0.6");
    assert_eq!(bulk_into(&system, &guest, &peer), BULK);
    assert!(trace.take().is_empty());
    assert!(!reaches(&host, "192.0.2.2"), "that is on the other VLAN");
    [&host, &guest, &peer]
        .into_iter()
        .for_each(|v| assert_conserved(v));
    let back = guest.return_interface("lan0").unwrap();
    assert_eq!(back, "lan0");
    address(&host, "lan0", "192.0.2.3/32");
    assert!(host.set_vlan("lan0", VlanConfig::dot1q(7)).is_ok());
    host.move_interface("lan0", &guest).unwrap();
    let retag = guest.set_vlan("lan0", VlanConfig::dot1q(5)).unwrap_err();
    assert!(matches!(retag, AdminError::Borrowed { .. }));
    for v in [guest, host, peer] {
        assert_clean(&v.destroy());
    }
}

#[test]
fn what_stands_on_a_borrowed_interface_goes_when_that_returns() {
    let system = System::manual(1);
    let (home, tenant) = (vnet(&system, "home"), vnet(&system, "tenant"));
    let _port = home.port("eth0", None).unwrap();
    home.vlan("eth0", "v5", VlanConfig::dot1q(5)).unwrap();
    let refused = home.move_interface("eth0", &tenant);
    assert_eq!(refused, Err(AdminError::HasVlans("eth0".into())));
    home.move_interface("v5", &tenant).unwrap();
    tenant.vlan("v5", "v5.7", VlanConfig::dot1q(7)).unwrap();
    tenant.vlan("v5.7", "deep", VlanConfig::dot1q(7)).unwrap();
    let lent = tenant.move_interface("deep", &home);
    assert_eq!(lent, Err(AdminError::OnBorrowed("deep".into())));
    let twin = system.replay(&tenant.record().unwrap(), "twin").unwrap();
    assert_eq!(twin.interfaces().unwrap().len(), 1);
    home.reclaim_interface("v5").unwrap();
    assert_eq!(tenant.interfaces().unwrap().len(), 1);
    assert_eq!(home.interfaces().unwrap()[2].name, "v5");
    home.move_interface("v5", &tenant).unwrap();
    tenant.vlan("v5", "v5.7", VlanConfig::dot1q(7)).unwrap();
    assert_clean(&tenant.destroy());
    assert_eq!(home.interfaces().unwrap().len(), 3);
    assert_clean(&home.destroy());
}

#[test]
fn a_vlan_of_a_bridge_is_the_way_in() {
    let system = System::manual(1);
    let s = vnet(&system, "s");
    s.bridge("bridge0").unwrap();
    let ports: Vec<Port> = (0..2)
        .map(|n| {
            let name = format!("p{n}");
            let port = s.port(&name, None).unwrap();
            s.add_member("bridge0", &name).unwrap();
            port
        })
        .collect();
    s.vlan("bridge0", "v5", VlanConfig::dot1q(5)).unwrap();
    address(&s, "v5", "192.0.2.1/24");
    let seen = || {
        system.poll(system.now());
        let all = ports.iter();
        all.map(|p| {
            std::iter::from_fn(|| p.recv())
                .map(|p| p.to_vec())
                .collect()
        })
        .collect::<Vec<Vec<_>>>()
    };
    let announced = seen();
    assert_eq!(announced[0].len(), 1);
    assert_eq!(announced[0], announced[1]);
    assert_eq!(announced[0][0][12..16], [0x81, 0, 0, 5]);
    ports[0].send(question(&[(0x8100, 5)])).unwrap();
    let answers = seen();
    assert_eq!(answers[1], [question(&[(0x8100, 5)])], "the broadcast");
    assert_eq!(answers[0].len(), 1);
    assert_eq!(answers[0][0][12..16], [0x81, 0, 0, 5]);
    assert_conserved(&s);
    assert_clean(&s.destroy());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever tags a frame has, and wherever it ends: it is counted, and comes out of nowhere else.
    #[test]
    fn truncated_and_absurd_tags_are_counted(
        tags in prop::collection::vec((prop::sample::select(vec![0x8100_u16, 0x88a8]), any::<u16>()), 1..40),
        cut in any::<prop::sample::Index>(),
    ) {
        let b = Bench::new();
        b.v.vlan("eth0", "v5", VlanConfig::dot1q(5)).unwrap();
        b.v.vlan("v5", "v5.5", VlanConfig::dot1q(5)).unwrap();
        address(&b.v, "v5.5", "192.0.2.1/24");
        let whole = question(&tags);
        let ours = matches!(tags[..], [(0x8100, a), (0x8100, b)] if a & 0xfff == 5 && b & 0xfff == 5);
        prop_assert_eq!(b.answers(whole.clone()).len(), usize::from(ours));
        let len = 14 + cut.index(whole.len() - 14);
        let mut cut = whole;
        cut.truncate(len);
        prop_assert!(b.answers(cut).is_empty());
    }
}

/// What happens to the interfaces of two hosts.
#[derive(Clone, Debug)]
enum Act {
    Make(u8, u8, u8, u8),
    Retag(u8, u8, u8),
    Remove(u8, u8),
    Lend(u8, u8),
    Return(u8, u8),
    Reclaim(u8, u8),
    Destroy(u8),
}

fn act() -> impl Strategy<Value = Act> {
    let (v, n) = (0..3_u8, 0..6_u8);
    prop_oneof![
        8 => (v.clone(), n.clone(), n.clone(), 0..3_u8).prop_map(|(v, p, n, t)| Act::Make(v, p, n, t)),
        2 => (v.clone(), n.clone(), 0..3_u8).prop_map(|(v, n, t)| Act::Retag(v, n, t)),
        2 => (v.clone(), n.clone()).prop_map(|(v, n)| Act::Remove(v, n)),
        4 => (v.clone(), n.clone()).prop_map(|(v, n)| Act::Lend(v, n)),
        2 => (v.clone(), n.clone()).prop_map(|(v, n)| Act::Return(v, n)),
        2 => (v.clone(), n).prop_map(|(v, n)| Act::Reclaim(v, n)),
        1 => v.prop_map(Act::Destroy),
    ]
}

/// One of a few VLANs.
fn config(n: u8) -> VlanConfig {
    match n {
        0 => VlanConfig::dot1q(5),
        1 => VlanConfig::dot1q(6),
        _ => VlanConfig::dot1ad(5),
    }
}

/// `eth0`, `eth1`, and names for VLAN interfaces that no two vnets share.
fn name(vnet: u8, n: u8) -> String {
    match n {
        0 | 1 => format!("eth{n}"),
        n => format!("v{vnet}{n}"),
    }
}

/// Where a VLAN interface of the model is, and what it is.
#[derive(Clone, Debug)]
struct Model {
    home: u8,
    at: u8,
    parent: String,
    name: String,
    config: VlanConfig,
}

/// The vnets' VLAN interfaces, as a list.
#[derive(Default)]
struct Models(Vec<Model>);

impl Models {
    fn remove(&mut self, at: u8, home: u8, name: &str) {
        // What stands on it is in the vnet that it is in, or has that for its home.
        let on: Vec<_> = self
            .0
            .iter()
            .filter(|m| m.home == at && m.parent == name)
            .cloned()
            .collect();
        self.0.retain(|m| !(m.home == home && m.name == name));
        for m in on {
            self.remove(m.at, m.home, &m.name);
        }
    }

    fn end_those_on(&mut self, at: u8, name: &str) {
        let on: Vec<_> = self
            .0
            .iter()
            .filter(|m| m.home == at && m.parent == name)
            .cloned()
            .collect();
        for m in on {
            self.remove(m.at, m.home, &m.name);
        }
    }

    fn find(&self, at: u8, name: &str) -> Option<usize> {
        self.0.iter().position(|m| m.at == at && m.name == name)
    }

    fn is_on_borrowed(&self, m: &Model) -> bool {
        match self.find(m.home, &m.parent) {
            Some(parent) => self.0[parent].home != m.home || self.is_on_borrowed(&self.0[parent]),
            None => false,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// The same few VLANs on two parents each in three vnets, stacked on each other, lent, returned,
    /// retagged and destroyed in every order: what is there is what a list says, and in the end nothing
    /// is left.
    #[test]
    fn vlans_never_collide(acts in prop::collection::vec(act(), 0..60)) {
        let system = System::manual(1);
        let make = |n: u8| {
            let v = vnet(&system, &format!("n{n}"));
            let ports = [v.port("eth0", None).unwrap(), v.port("eth1", None).unwrap()];
            (v, ports)
        };
        let mut vnets: Vec<_> = (0..3).map(make).collect();
        let mut models = Models::default();
        for act in acts {
            match act {
                Act::Make(v, parent, n, t) => {
                    // Some parents are ones that the vnet before this one may have lent to it.
                    let of = if parent < 4 { v } else { (v + 2) % 3 };
                    let (parent, new) = (name(of, parent), name(v, n));
                    let done = vnets[usize::from(v)].0.vlan(&parent, &new, config(t)).is_ok();
                    let there = parent.starts_with("eth") || models.find(v, &parent).is_some();
                    let taken = models.0.iter().any(|m| m.home == v && m.parent == parent && m.config == config(t));
                    let named = n < 2 || models.find(v, &new).is_some();
                    // One that is away and whose name was given away makes a name that is not its own.
                    let away = models.0.iter().any(|m| m.home == v && m.name == new && m.at != v);
                    if away {
                        prop_assert!(done == (there && !taken));
                        if done {
                            // No two of one name: the model would have to know them apart.
                            vnets[usize::from(v)].0.remove_interface(&new).unwrap();
                        }
                        continue;
                    }
                    prop_assert_eq!(done, there && !taken && !named, "{} on {}", new, parent);
                    if done {
                        models.0.push(Model { home: v, at: v, parent, name: new, config: config(t) });
                    }
                }
                Act::Retag(v, n, t) => {
                    let of = name(v, n);
                    let done = vnets[usize::from(v)].0.set_vlan(&of, config(t)).is_ok();
                    let at = models.find(v, &of).filter(|at| models.0[*at].home == v);
                    let free = at.is_some_and(|at| {
                        let parent = &models.0[at].parent;
                        let same = |m: &&Model| m.home == v && m.parent == *parent && m.config == config(t);
                        models.0.iter().filter(same).all(|m| m.name == of)
                    });
                    prop_assert_eq!(done, free);
                    if let (true, Some(at)) = (done, at) {
                        models.0[at].config = config(t);
                    }
                }
                Act::Remove(v, n) if n >= 2 => {
                    let of = name(v, n);
                    let done = vnets[usize::from(v)].0.remove_interface(&of).is_ok();
                    let there = models.find(v, &of).is_some_and(|at| models.0[at].home == v);
                    prop_assert_eq!(done, there);
                    if done {
                        models.remove(v, v, &of);
                    }
                }
                Act::Remove(v, n) => {
                    let (vnet, ports) = &mut vnets[usize::from(v)];
                    let of = name(v, n);
                    vnet.remove_interface(&of).unwrap();
                    models.end_those_on(v, &of);
                    ports[usize::from(n)] = vnet.port(&of, None).unwrap();
                }
                Act::Lend(v, n) if n >= 2 => {
                    let (of, to) = (name(v, n), (v + 1) % 3);
                    let done = vnets[usize::from(v)].0.move_interface(&of, &vnets[usize::from(to)].0);
                    let at = models.find(v, &of).filter(|at| {
                        let m = &models.0[*at];
                        let has = models.0.iter().any(|o| o.home == v && o.parent == of);
                        m.home == v && !has && !models.is_on_borrowed(m)
                    });
                    prop_assert_eq!(done.is_ok(), at.is_some(), "{:?}", done);
                    if let Some(at) = at {
                        models.0[at].at = to;
                    }
                }
                Act::Return(v, n) | Act::Reclaim(v, n) if n >= 2 => {
                    let (of, at) = (name(v, n), (v + 1) % 3);
                    let done = match act {
                        Act::Return(..) => vnets[usize::from(at)].0.return_interface(&of),
                        _ => vnets[usize::from(v)].0.reclaim_interface(&of),
                    };
                    let found = models.find(at, &of);
                    prop_assert_eq!(done.is_ok(), found.is_some(), "{:?}", done);
                    if let Some(found) = found {
                        models.end_those_on(at, &of);
                        let found = models.find(at, &of).unwrap_or(found);
                        models.0[found].at = v;
                    }
                }
                Act::Lend(..) | Act::Return(..) | Act::Reclaim(..) => {}
                Act::Destroy(v) => {
                    let (old, _ports) = vnets.remove(usize::from(v));
                    assert_clean(&old.destroy());
                    for m in models.0.clone() {
                        if m.at == v && m.home != v && let Some(at) = models.find(v, &m.name) {
                            models.end_those_on(v, &m.name);
                            let at = models.find(v, &m.name).unwrap_or(at);
                            models.0[at].at = m.home;
                        }
                    }
                    for m in models.0.clone() {
                        if m.home == v {
                            models.remove(m.at, v, &m.name);
                        }
                    }
                    vnets.insert(usize::from(v), make(v));
                }
            }
            for (v, (vnet, _)) in vnets.iter().enumerate() {
                let there = vnet.interfaces().unwrap();
                let mut seen: Vec<_> = there.iter().filter_map(|i| {
                    let vlan = i.vlan.as_ref()?;
                    let config = match vlan.tpid {
                        Tpid::Dot1q => VlanConfig::dot1q(vlan.vid),
                        Tpid::Dot1ad => VlanConfig::dot1ad(vlan.vid),
                    };
                    Some((i.name.clone(), vlan.parent.clone(), config, i.home.clone()))
                }).collect();
                let here = models.0.iter().filter(|m| usize::from(m.at) == v);
                let mut expected: Vec<_> = here
                    .map(|m| (m.name.clone(), m.parent.clone(), m.config, format!("n{}", m.home)))
                    .collect();
                seen.sort();
                expected.sort();
                prop_assert_eq!(seen, expected);
            }
        }
        for (v, _) in vnets {
            assert_clean(&v.destroy());
        }
    }
}

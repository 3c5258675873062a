//! Promise: with LLDP every vnet knows what is plugged in at the other ends of its wires, and nothing that
//! is farther away; and nobody makes it know more than it may.

use std::time::Duration;

use proptest::prelude::*;
use vnet::capture::{CaptureOptions, Recorder};
use vnet::{
    AdminState, BridgeConfig, BridgeMode, Carrier, DropReason, Forwarding, LaggConfig, LinkConfig,
    LldpNeighbour, OwnedVnet, Port, RstpConfig, System, VlanConfig, Vnet,
};
use vnet_tests::accounts::{assert_clean, assert_conserved};
use vnet_tests::frames::ethernet;
use vnet_tests::judge;
use vnet_tests::skip::has_tshark;
use vnet_tests::topology::vnet;

const INTERVAL: &str = "net.link.lldp.interval";
const GROUP: [u8; 6] = [0x01, 0x80, 0xc2, 0, 0, 0x0e];
const PEER: [u8; 6] = [2, 0xaa, 0, 0, 0, 1];
const LLDP: u16 = 0x88cc;

fn on(vnet: &Vnet) {
    vnet.set_sysctl(INTERVAL, "30000").unwrap();
}

/// `INTERFACE NEIGHBOUR:PORT` of all neighbours.
fn known(vnet: &Vnet) -> Vec<String> {
    let said = |n: LldpNeighbour| format!("{} {}:{}", n.interface, n.chassis, n.port);
    let all = vnet.inspect().unwrap().lldp.into_iter();
    all.map(said).collect()
}

fn pass(system: &System, seconds: u64) {
    let time = Duration::from_secs(seconds) + Duration::from_millis(1);
    system.sleep(time).unwrap();
}

/// Two hosts at a switch, one of them behind a second one; all speak.
fn lan(system: &System) -> [OwnedVnet; 4] {
    let all = ["a", "b", "s", "t"].map(|name| vnet(system, name));
    let [a, b, s, t] = &all;
    for switch in [s, t] {
        switch.bridge("br0").unwrap();
    }
    a.epair("eth0", s, "p1").unwrap();
    s.epair("up", t, "down").unwrap();
    b.epair("eth0", t, "p1").unwrap();
    for (switch, member) in [(s, "p1"), (s, "up"), (t, "down"), (t, "p1")] {
        switch.add_member("br0", member).unwrap();
    }
    all.iter().for_each(|v| on(v));
    pass(system, 0);
    all
}

#[test]
fn each_vnet_knows_what_is_plugged_in_and_nothing_behind_it() {
    let system = System::virtual_time(1);
    let all = lan(&system);
    let [a, b, s, t] = &all;
    assert_eq!(known(a), ["eth0 s:p1"]);
    assert_eq!(known(s), ["p1 a:eth0", "up t:down"]);
    assert_eq!(known(t), ["down s:up", "p1 b:eth0"]);
    let heard = &b.inspect().unwrap().lldp[0];
    assert_eq!(heard.capabilities, "bridge");
    assert_eq!(heard.system_name.as_deref(), Some("t"));
    assert_eq!(heard.port_description.as_deref(), Some("epair p1, in br0"));
    assert_eq!(heard.mac, t.interfaces().unwrap()[3].mac);
    let at_s = &s.inspect().unwrap().lldp[0];
    assert_eq!(at_s.capabilities, "station");
    a.set_forwarding(Forwarding::Enabled).unwrap();
    pass(&system, 30);
    assert_eq!(s.inspect().unwrap().lldp[0].capabilities, "router");
    let text = s.inspect().unwrap().to_string();
    assert!(text.contains("LLDP neighbours\n"), "{text}");
    assert!(
        text.lines()
            .any(|l| l.starts_with("up ") && l.contains(" down "))
    );
    for v in &all {
        assert_conserved(v);
    }
    for v in all {
        assert_clean(&v.destroy());
    }
}

#[test]
fn what_is_known_ends_with_its_time_its_wire_or_a_word() {
    let system = System::virtual_time(1);
    let all = lan(&system);
    let [a, b, s, t] = &all;
    // A word: the interface goes down, gets another name, or nothing is said any more.
    a.set_up("eth0", AdminState::Down).unwrap();
    pass(&system, 0);
    assert_eq!(known(s), ["up t:down"]);
    assert_eq!(known(a), [""; 0]);
    a.set_up("eth0", AdminState::Up).unwrap();
    pass(&system, 0);
    assert_eq!((known(s).len(), known(a).len()), (2, 1));
    b.rename_interface("eth0", "lan0").unwrap();
    pass(&system, 0);
    assert_eq!(known(t), ["down s:up", "p1 b:lan0"]);
    b.set_sysctl(INTERVAL, "0").unwrap();
    pass(&system, 0);
    assert_eq!(known(t), ["down s:up"]);
    assert_eq!(known(b), [""; 0]);
    // A wire.
    s.remove_interface("up").unwrap();
    pass(&system, 0);
    assert_eq!(known(t), [""; 0]);
    // Its time: what was said 30 s apart holds for 121 s.
    let lossy = LinkConfig {
        state: Carrier::Down,
        ..LinkConfig::default()
    };
    pass(&system, 40);
    a.set_link("eth0", lossy).unwrap();
    pass(&system, 110);
    assert_eq!(known(s), ["p1 a:eth0"]);
    pass(&system, 12);
    assert_eq!(known(s), [""; 0]);
    assert_eq!(known(a), ["eth0 s:p1"]);
    for v in all {
        assert_clean(&v.destroy());
    }
}

#[test]
fn ports_that_discard_speak_and_hubs_repeat_and_vlans_are_silent() {
    let system = System::virtual_time(1);
    let [s, t, h] = ["s", "t", "h"].map(|name| vnet(&system, name));
    let stp = BridgeConfig {
        stp: Some(RstpConfig::default()),
        ..BridgeConfig::default()
    };
    for switch in [&s, &t] {
        switch.bridge("br0").unwrap();
        switch.set_bridge("br0", stp.clone()).unwrap();
    }
    for wire in ["w0", "w1"] {
        s.epair(wire, &t, wire).unwrap();
        s.add_member("br0", wire).unwrap();
        t.add_member("br0", wire).unwrap();
    }
    s.vlan("w0", "w0.5", VlanConfig::dot1q(5)).unwrap();
    on(&s);
    on(&t);
    pass(&system, 40);
    // One of the two links is not used by frames.
    for (here, there) in [(&s, "t"), (&t, "s")] {
        let both = ["w0", "w1"].map(|wire| format!("{wire} {there}:{wire}"));
        assert_eq!(known(here), both);
    }
    // What is at the same wire as others, by a repeater, hears them all.
    h.bridge("br0").unwrap();
    let hub = BridgeConfig {
        mode: BridgeMode::Hub,
        ..BridgeConfig::default()
    };
    h.set_bridge("br0", hub).unwrap();
    for (vnet, port) in [(&s, "hs"), (&t, "ht")] {
        vnet.epair("hub", &h, port).unwrap();
        h.add_member("br0", port).unwrap();
    }
    pass(&system, 40);
    assert!(known(&s).contains(&"hub t:hub".to_owned()));
    assert!(known(&t).contains(&"hub s:hub".to_owned()));
    for v in [s, t, h] {
        assert_conserved(&v);
    }
}

#[test]
fn each_member_of_a_lagg_knows_who_is_at_its_own_wire() {
    let system = System::virtual_time(1);
    let [a, s, t] = ["a", "s", "t"].map(|name| vnet(&system, name));
    a.lagg("lagg0", LaggConfig::default()).unwrap();
    for (wire, other) in [("w0", &s), ("w1", &t)] {
        a.epair(wire, other, "up").unwrap();
        a.add_member("lagg0", wire).unwrap();
    }
    [&a, &s, &t].iter().for_each(|v| on(v));
    pass(&system, 0);
    assert_eq!(known(&a), ["w0 s:up", "w1 t:up"]);
    assert_eq!(known(&s), ["up a:w0"]);
    let said = &t.inspect().unwrap().lldp[0];
    assert_eq!(said.port_description.as_deref(), Some("epair w1, in lagg0"));
    for v in [a, s, t] {
        assert_conserved(&v);
        assert_clean(&v.destroy());
    }
}

/// As what a member of a hub brings in is: only what is for the nearest bridge stays.
#[test]
fn a_lagg_passes_on_what_is_not_for_the_nearest_bridge() {
    let system = System::manual(1);
    let v = vnet(&system, "v");
    let [inside, outside] = ["in", "out"].map(|name| v.port(name, None).unwrap());
    let balance = LaggConfig {
        mode: vnet::LaggMode::Balance,
        ..LaggConfig::default()
    };
    v.lagg("lagg0", balance).unwrap();
    v.add_member("lagg0", "in").unwrap();
    v.bridge("br0").unwrap();
    for member in ["lagg0", "out"] {
        v.add_member("br0", member).unwrap();
    }
    on(&v);
    let passed = |frame: &[u8]| {
        system.poll(system.now());
        while outside.recv().is_some() {}
        inside.send(frame.to_vec()).unwrap();
        system.poll(system.now());
        assert_conserved(&v);
        outside.recv().is_some()
    };
    let body = says("peer", 120);
    // To all nearest customer bridges, to a station, in a VLAN.
    let to = |dst: [u8; 6]| ethernet(dst, PEER, LLDP, &body);
    let tagged = [&[0, 5][..], &LLDP.to_be_bytes(), &body].concat();
    assert!(passed(&to([0x01, 0, 0x5e, 0, 0, 1])));
    assert!(passed(&to([2, 0, 0, 0, 0, 0x77])));
    assert!(passed(&ethernet(
        [2, 0, 0, 0, 0, 0x77],
        PEER,
        0x8100,
        &tagged
    )));
    assert_eq!(known(&v), [""; 0]);
    assert!(!passed(&frame(&body)));
    assert_eq!(known(&v), ["in peer:eth0"]);
}

/// Each new name is answered, but not at the rate at which they come.
#[test]
fn whoever_comes_and_goes_is_answered_no_more_than_the_standard_allows() {
    let bench = Bench::new();
    let port = &bench.ports[0];
    while port.recv().is_some() {}
    for n in 0..1000 {
        port.send(frame(&says("flaps", 120 * (n % 2)))).unwrap();
        bench.system.poll(bench.system.now());
    }
    let said = std::iter::from_fn(|| port.recv()).count();
    assert!(said <= 5, "{said} answers in no time");
}

/// A vnet with two ports under the manual driver, of which one is a bridge's.
struct Bench {
    system: System,
    v: OwnedVnet,
    ports: [Port; 2],
}

impl Bench {
    fn new() -> Bench {
        let system = System::manual(1);
        let v = vnet(&system, "v");
        let ports = ["plain", "member"].map(|name| v.port(name, None).unwrap());
        v.bridge("br0").unwrap();
        v.add_member("br0", "member").unwrap();
        on(&v);
        system.poll(system.now());
        Bench { system, v, ports }
    }

    /// Feeds it a frame by both ports; what became of each, by how it was counted.
    fn feed(&self, frame: &[u8]) -> [Option<DropReason>; 2] {
        self.ports.each_ref().map(|port| {
            let before = self.v.stats().unwrap();
            port.send(frame.to_vec()).unwrap();
            self.system.poll(self.system.now());
            let after = self.v.stats().unwrap();
            assert_conserved(&self.v);
            DropReason::ALL
                .iter()
                .copied()
                .find(|r| after.rx_drops(*r) > before.rx_drops(*r))
        })
    }
}

/// A field of an LLDPDU.
fn field(kind: u8, value: &[u8]) -> Vec<u8> {
    let head = u16::from(kind) << 9 | u16::try_from(value.len()).unwrap();
    [&head.to_be_bytes(), value].concat()
}

/// What a peer of that name says.
fn says(name: &str, ttl: u16) -> Vec<u8> {
    [
        field(1, &[&[7], name.as_bytes()].concat()),
        field(2, b"\x05eth0"),
        field(3, &ttl.to_be_bytes()),
        field(0, b""),
    ]
    .concat()
}

fn frame(body: &[u8]) -> Vec<u8> {
    ethernet(GROUP, PEER, LLDP, body)
}

#[test]
fn every_length_of_a_frame_is_taken_in_or_counted_as_malformed() {
    let bench = Bench::new();
    let whole = says("peer", 120);
    let end = whole.len() - 2;
    for len in 0..=whole.len() {
        let good = len == end || len == whole.len();
        let expected = (!good).then_some(DropReason::Malformed);
        let became = bench.feed(&frame(&whole[..len]));
        assert_eq!(became, [expected; 2], "{len}");
        assert_eq!(known(&bench.v).len(), if len < end { 0 } else { 2 });
    }
    assert_eq!(known(&bench.v), ["plain peer:eth0", "member peer:eth0"]);
}

#[test]
fn what_is_not_for_the_nearest_bridge_or_has_a_tag_tells_nothing() {
    let bench = Bench::new();
    let body = says("peer", 120);
    let (unknown, filtered) = (DropReason::UnknownProtocol, DropReason::BridgeFiltered);
    for last in [0x00, 0x03, 0x0f] {
        let mut other = frame(&body);
        other[5] = last;
        let [plain, member] = bench.feed(&other);
        assert_eq!((plain, member), (Some(unknown), Some(filtered)), "{last}");
    }
    let tagged = [&[0, 5][..], &LLDP.to_be_bytes(), &body].concat();
    let [plain, member] = bench.feed(&ethernet(GROUP, PEER, 0x8100, &tagged));
    assert_eq!(plain, Some(DropReason::UnknownVlan));
    assert_eq!(member, Some(filtered));
    assert_eq!(known(&bench.v), [""; 0]);
    // Off: as if there were no such protocol.
    bench.v.set_sysctl(INTERVAL, "0").unwrap();
    bench.system.poll(bench.system.now());
    let became = bench.feed(&frame(&body));
    assert_eq!(became, [Some(unknown), Some(filtered)]);
}

#[test]
fn a_flood_of_names_fills_its_interface_and_no_other() {
    let bench = Bench::new();
    let flooded = &bench.ports[1];
    for n in 0..1000 {
        flooded.send(frame(&says(&format!("n{n}"), 60))).unwrap();
        bench.system.poll(bench.system.now());
    }
    let stats = bench.v.stats().unwrap();
    assert_eq!(stats.rx_drops(DropReason::NeighbourLimit), 1000 - 16);
    assert_eq!(known(&bench.v).len(), 16);
    bench.ports[0].send(frame(&says("quiet", 60))).unwrap();
    bench.system.poll(bench.system.now());
    assert!(known(&bench.v).contains(&"plain quiet:eth0".to_owned()));
    // It answers those who are new to it, and nobody for ever.
    let sent = std::iter::from_fn(|| flooded.recv()).count();
    assert!((1..=17).contains(&sent), "{sent}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever comes in is counted once, and what is known stays bounded.
    #[test]
    fn any_bytes_are_counted_once(
        body in prop::collection::vec(any::<u8>(), 0..120),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let bench = Bench::new();
        bench.feed(&frame(&body));
        let mut changed = says("peer", 120);
        for (at, to) in changes {
            let at = at.index(changed.len());
            changed[at] = to;
        }
        bench.feed(&frame(&changed));
        prop_assert!(known(&bench.v).len() <= 4);
        assert_clean(&bench.v.destroy());
    }
}

#[test]
fn it_is_a_tunable_of_the_vnet_and_in_its_record() {
    let system = System::virtual_time(1);
    let all = lan(&system);
    let records = all.each_ref().map(|v| v.record().unwrap());
    let twins = system
        .replay_all(&records, |name| format!("{name}2"))
        .unwrap();
    pass(&system, 0);
    assert_eq!(known(&twins[0]), ["eth0 s2:p1"]);
    let plain = |v: &Vnet| v.inspect().unwrap().normalised_wired();
    assert_eq!(plain(&twins[2]), plain(&all[2]));
    assert!(all[0].set_sysctl(INTERVAL, "3600001").is_err());
}

#[test]
fn tshark_reads_what_is_sent_without_complaint() {
    if !has_tshark() {
        return;
    }
    let system = System::virtual_time(1);
    let [a, s] = ["a", "s"].map(|name| vnet(&system, name));
    a.epair("eth0", &s, "p1").unwrap();
    s.bridge("br0").unwrap();
    s.add_member("br0", "p1").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lldp.pcapng");
    let file = path.clone();
    let sink = move |_| {
        let file = std::fs::File::create(&file)?;
        Ok(Box::new(file) as Box<dyn std::io::Write + Send>)
    };
    let recorder = Recorder::new(sink, CaptureOptions::default()).unwrap();
    let _capture = a
        .start_capture("eth0", recorder.tap("eth0").unwrap())
        .unwrap();
    on(&a);
    on(&s);
    pass(&system, 31);
    s.set_sysctl(INTERVAL, "0").unwrap();
    pass(&system, 0);
    recorder.finish().unwrap();
    let fields = [
        "lldp.chassis.id",
        "lldp.port.id",
        "lldp.time_to_live",
        "lldp.port.desc",
        "lldp.tlv.system.name",
        "lldp.tlv.enable_system_cap.bridge",
        "_ws.malformed",
        "_ws.expert.message",
    ];
    let mut tshark = judge::tshark(&path);
    tshark.args(["-Y", "lldp", "-T", "fields", "-E", "separator=|"]);
    for field in fields {
        tshark.args(["-e", field]);
    }
    let output = tshark.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let lines: Vec<&str> = text.lines().collect();
    println!("{text}");
    assert!(lines.len() >= 5, "{text}");
    let (last, others) = lines.split_last().unwrap();
    for line in others {
        let parts: Vec<&str> = line.split('|').collect();
        // A name of its own kind is shown as bytes.
        let whose = match parts[0] {
            "61" => ["61", "eth0", "121", "epair eth0", "a", "0"],
            _ => ["73", "p1", "121", "epair p1, in br0", "s", "1"],
        };
        assert_eq!(parts[..6], whose, "{line}");
        assert_eq!(parts[6..], ["", ""], "{line}");
    }
    assert!(last.starts_with("73|p1|0|"), "{last}: it takes leave");
}

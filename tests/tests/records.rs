//! What is configured is recorded, and a record makes a twin: one by itself, several joined to each
//! other, from text or in memory. Whatever was done, and in whatever order, and undone.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::Ipv4Net;
use vnet::net::UdpSocket;
use vnet::record::{Operation, Record, RecordError, ReplayError};
use vnet::{
    AdminError, AdminState, Carrier, CreateError, Forwarding, InitRecord, LinkConfig, MacAddr,
    NextHop, Offload, OwnedVnet, Privilege, Privileges, Resource, Stage, System, Vnet,
};

fn net(text: &str) -> Ipv4Net {
    text.parse().expect("a prefix")
}

fn ip(text: &str) -> Ipv4Addr {
    text.parse().expect("an address")
}

/// The operation that a text is.
fn op(text: &str) -> Operation {
    toml::from_str(text).expect("an operation")
}

/// Two vnets with a pair between them, an address each, and some of everything else.
fn joined(system: &System) -> [OwnedVnet; 2] {
    let [a, b] = ["a", "b"].map(|name| system.create(name).expect("a free name"));
    a.epair("eth0", &b, "uplink").expect("free names");
    a.add_address("eth0", net("192.0.2.1/24").into())
        .expect("free");
    b.add_address("uplink", net("192.0.2.2/24").into())
        .expect("free");
    let slow = LinkConfig {
        rate_bps: Some(1_000_000),
        delay: Duration::from_micros(1500),
        loss: 0.25.into(),
        ..LinkConfig::default()
    };
    a.set_link("eth0", slow).expect("in range");
    a.set_ip_mtu("eth0", 1400).expect("in range");
    a.set_offload("eth0", Offload::Checksum).expect("there");
    a.add_route(net("0.0.0.0/0").into(), ip("192.0.2.2"))
        .expect("on the link");
    a.set_forwarding(Forwarding::Enabled).expect("alive");
    a.set_sysctl("net.inet.ip.ttl", 9).expect("in range");
    a.set_limit(Resource::Sockets, 7).expect("alive");
    a.set_privileges(!Privileges::from(Privilege::RawSockets))
        .expect("alive");
    [a, b]
}

#[track_caller]
fn twins(one: &Vnet, other: &Vnet) {
    let look = |vnet: &Vnet| vnet.inspect().expect("alive").normalised();
    assert_eq!(look(one), look(other));
}

#[test]
fn a_twin_looks_like_the_original_whatever_the_record_went_through() {
    let system = System::virtual_time(1);
    let [a, _b] = joined(&system);
    let record = a.record().expect("alive");
    twins(&a, &system.replay(&record, "c").expect("possible"));
    let text = record.to_toml().expect("it can be said in TOML");
    let read = Record::from_toml(&text).expect("what was written");
    assert_eq!(read, record);
    let json = serde_json::to_string(&record).expect("it can be said in JSON");
    assert_eq!(
        serde_json::from_str::<Record>(&json).expect("what was written"),
        record
    );
    // In another system, and once more from the twin.
    let elsewhere = System::virtual_time(2);
    let twin = elsewhere.replay(&read, "a").expect("possible");
    twins(&a, &twin);
    assert_eq!(twin.record().expect("alive").ops, record.ops);
    twins(&a, &twin.clone_as("again").expect("possible"));
}

#[test]
fn a_twin_has_mac_addresses_of_its_own_unless_they_were_set() {
    let system = System::virtual_time(1);
    let [a, b] = joined(&system);
    let set: MacAddr = "02:aa:00:00:00:01".parse().expect("an address");
    let _port = a.port("guest", None).expect("a free name");
    a.epair("eth1", &b, "eth1").expect("free names");
    a.set_mac("eth1", set).expect("a station's");
    let twin = a.clone_as("c").expect("possible");
    let macs = |vnet: &Vnet| -> Vec<MacAddr> {
        let interfaces = vnet.interfaces().expect("alive");
        interfaces.iter().skip(1).map(|i| i.mac).collect()
    };
    let (old, new) = (macs(&a), macs(&twin));
    assert_eq!((old[2], new[2]), (set, set));
    let all: BTreeSet<MacAddr> = old[..2].iter().chain(&new[..2]).copied().collect();
    assert_eq!(all.len(), 4, "{old:?} {new:?}");
}

#[test]
fn alone_a_twin_has_loose_ends_and_together_they_are_joined() {
    let system = System::virtual_time(1);
    let [a, b] = joined(&system);
    let c = system.create("c").expect("a free name");
    b.epair("eth9", &c, "eth9").expect("free names");
    b.epair("self0", &b, "self1").expect("free names");
    a.epair("down", &b, "down").expect("free names");
    a.set_up("down", AdminState::Down).expect("there");
    system.sleep(Duration::from_millis(10)).expect("virtual");
    let carrier = |vnet: &Vnet, name: &str| {
        let all = vnet.interfaces().expect("alive");
        let found = all.into_iter().find(|i| i.name == name);
        found.expect("an interface of that name").carrier
    };
    assert_eq!(carrier(&b, "down"), Carrier::Down, "its peer is down");

    let records = [&a, &b].map(|v| v.record().expect("alive"));
    let alone = system.replay(&records[1], "alone").expect("possible");
    twins(&b, &alone);
    for name in ["uplink", "eth9", "down"] {
        assert_eq!(carrier(&alone, name), Carrier::Down, "{name}");
    }
    assert_eq!(carrier(&alone, "self1"), Carrier::Up, "both ends are in it");

    let made = system
        .replay_all(&records, |name| format!("{name}2"))
        .expect("possible");
    let [a2, b2] = &made[..] else {
        panic!("two records")
    };
    let c2 = b2.inspect().expect("alive");
    assert_eq!(c2.interfaces[1].peer.as_deref(), Some("a2:eth0"));
    assert_eq!((a2.name(), b2.name()), ("a2", "b2"));
    assert_eq!(carrier(b2, "eth9"), Carrier::Down, "c is not among them");
    let wired = |vnet: &Vnet| vnet.inspect().expect("alive").normalised_wired();
    assert_eq!(wired(&a), wired(a2));
    // Carriers are as they were, but for the end of which the peer is missing.
    let mut original = wired(&b);
    for interface in &mut original.interfaces {
        if interface.info.name == "eth9" {
            interface.info.carrier = Carrier::Down;
        }
    }
    assert_eq!(original, wired(b2));

    // And they do carry.
    let to = UdpSocket::bind_in(b2, "0.0.0.0:7").expect("a free port");
    a2.set_link("eth0", LinkConfig::default())
        .expect("in range");
    let from = UdpSocket::bind_in(a2, "0.0.0.0:0").expect("a free port");
    from.send_to(b"hello", "192.0.2.2:7").expect("a way there");
    let mut buffer = [0; 8];
    assert_eq!(to.recv_from(&mut buffer).expect("it arrives").0, 5);
    system.sleep(Duration::from_millis(10)).expect("virtual");
    assert_eq!(
        wired(b2),
        original,
        "nothing was on its way that changes it"
    );
}

#[test]
fn an_end_that_was_joined_anew_is_not_mistaken_for_the_old_one() {
    let system = System::virtual_time(1);
    let [a, b] = ["a", "b"].map(|name| system.create(name).expect("a free name"));
    a.epair("x", &b, "old").expect("free names");
    a.remove_interface("x").expect("there");
    a.epair("x", &b, "new").expect("free again");
    let records = [&a, &b].map(|v| v.record().expect("alive"));
    let made = system
        .replay_all(&records, |name| format!("{name}2"))
        .expect("possible");
    let carriers: Vec<_> = made[1]
        .interfaces()
        .expect("alive")
        .into_iter()
        .map(|i| i.carrier)
        .collect();
    assert_eq!(carriers[1..], [Carrier::Down, Carrier::Up]);
}

#[test]
fn a_port_is_plugged_in_anew() {
    let system = System::virtual_time(1);
    let a = system.create("a").expect("a free name");
    let port = a.port("guest", None).expect("a free name");
    let b = a.clone_as("b").expect("possible");
    twins(&a, &b);
    let twin = b.plug_port("guest").expect("it is loose");
    assert_eq!(b.interfaces().expect("alive")[1].carrier, Carrier::Up);
    b.add_address("guest", net("192.0.2.1/24").into())
        .expect("free");
    assert!(twin.recv().is_some(), "the address is announced");
    let again = b.plug_port("guest").map(drop);
    assert_eq!(again, Err(AdminError::PluggedIn("guest".into())));
    assert!(matches!(
        b.plug_port("lo0"),
        Err(AdminError::Unsupported { .. })
    ));
    drop(port);
    a.plug_port("guest").expect("its outside end was dropped");
}

#[test]
fn a_million_changes_leave_one_entry() {
    let system = System::virtual_time(1);
    let [a, b] = ["a", "b"].map(|name| system.create(name).expect("a free name"));
    a.epair("eth0", &b, "eth0").expect("free names");
    let before = a.record().expect("alive").ops.len();
    for n in 0..1_000_000 {
        let overhead_bytes = n % 1000;
        let link = LinkConfig {
            overhead_bytes,
            ..LinkConfig::default()
        };
        a.set_link("eth0", link).expect("in range");
    }
    for n in 0..1000_u32 {
        let address = Ipv4Net::new_assert(Ipv4Addr::from(0x0a00_0001 + (n << 8)), 24);
        a.add_address("eth0", address.into()).expect("free");
        a.add_route(
            net("203.0.113.0/24").into(),
            NextHop::Interface("eth0".into()),
        )
        .expect("none yet");
        a.remove_route(net("203.0.113.0/24").into()).expect("there");
        a.remove_address("eth0", address.addr().into())
            .expect("there");
        a.epair("tmp", &b, "tmp").expect("free names");
        a.set_ip_mtu("tmp", 1000).expect("in range");
        a.remove_interface("tmp").expect("there");
        b.remove_interface("tmp").expect("there");
    }
    let record = a.record().expect("alive");
    assert_eq!(record.ops.len(), before + 1);
    assert_eq!(record.ops[1].name(), "set_link");
    let link = a.link("eth0").expect("there");
    assert_eq!(link.overhead_bytes, 999);
    assert_eq!(b.record().expect("alive").ops.len(), 1);
}

#[test]
fn what_failed_is_not_recorded() {
    let system = System::virtual_time(1);
    let [a, b] = ["a", "b"].map(|name| system.create(name).expect("a free name"));
    b.epair("taken", &b, "taken2").expect("free names");
    let tenant = a.clone();
    a.set_privileges(Privileges::NONE).expect("alive");
    let before = a.record().expect("alive").ops;
    assert!(a.epair("eth0", &b, "taken").is_err());
    assert!(a.set_ip_mtu("lo0", 1).is_err());
    assert!(a.set_ip_mtu("eth7", 1000).is_err());
    assert!(
        a.add_route(net("0.0.0.0/0").into(), ip("198.51.100.1"))
            .is_err()
    );
    assert!(a.set_sysctl("net.inet.ip.ttl", "0").is_err());
    assert!(tenant.set_ip_mtu("lo0", 1000).is_err());
    let limit = op("op = 'set_limit'\nresource = 'sockets'\nlimit = 3");
    assert_eq!(
        tenant.apply(&limit),
        Err(AdminError::OwnerOnly("its limits"))
    );
    assert_eq!(a.record().expect("alive").ops, before);
}

#[test]
fn an_impossible_operation_is_named_and_nothing_is_left() {
    let system = System::virtual_time(1);
    let [a, b] = joined(&system);
    let mut records = [&a, &b].map(|v| v.record().expect("alive"));
    let bad = op("op = 'set_ip_mtu'\ninterface = 'nowhere'\nip_mtu = 1000");
    records[1].ops.push(bad.clone());
    let at = records[1].ops.len() - 1;
    let before = system.names();
    let failed = system
        .replay_all(&records, |name| format!("{name}2"))
        .expect_err("impossible");
    let ReplayError::Op {
        vnet,
        index,
        op,
        source,
    } = &failed
    else {
        panic!("{failed}")
    };
    assert_eq!((vnet.as_str(), *index, &**op), ("b", at, &bad));
    assert_eq!(*source, AdminError::NotFound("nowhere".into()));
    let text =
        format!("cannot replay operation {at} of the record of \"b\" (set_ip_mtu nowhere 1000)");
    assert_eq!(failed.to_string(), text);
    assert_eq!(system.names(), before);
    for name in ["a2", "b2"] {
        system.create(name).expect("the name is free");
    }
    let taken = system
        .replay(&records[0], "a")
        .expect_err("the original has the name");
    assert!(matches!(
        taken,
        ReplayError::Create {
            source: CreateError::Exists(_),
            ..
        }
    ));
    let twice = [records[0].clone(), records[0].clone()];
    let twice = system
        .replay_all(&twice, str::to_owned)
        .expect_err("two of one");
    assert!(matches!(twice, ReplayError::Twice(name) if name == "a"));
}

#[test]
fn every_record_that_is_none_is_an_error_that_says_why() {
    let system = System::virtual_time(1);
    let [a, _b] = joined(&system);
    let text = a
        .record()
        .expect("alive")
        .to_toml()
        .expect("it can be said");
    let said = |text: &str| Record::from_toml(text).expect_err("no record").to_string();
    let newer = text.replacen("version = 1", "version = 2\nnews = true", 1);
    assert!(matches!(
        Record::from_toml(&newer),
        Err(RecordError::Version(2))
    ));
    assert!(matches!(
        Record::from_toml("name = 'x'"),
        Err(RecordError::NoVersion)
    ));
    assert!(said("{").starts_with("not a valid record: "));
    assert!(said(&text.replacen("name =", "nome =", 1)).contains("unknown field `nome`"));
    assert!(
        said(&text.replacen("op = \"epair\"", "op = \"epear\"", 1))
            .contains("unknown variant `epear`")
    );
    assert!(
        said(&text.replacen("ip_mtu = 1400", "ip_mtu = 1400\nmtu = 1", 1))
            .contains("unknown field `mtu`")
    );
    assert!(said(&text.replacen("ip_mtu = 1400", "ip_mtu = 70000", 1)).contains("70000"));
    assert!(said("version = '1'\nname = 'x'").contains("version"));
    let json = r#"{"version":3,"name":"x"}"#;
    let error = serde_json::from_str::<Record>(json).expect_err("no such version");
    assert!(
        error.to_string().contains("the record has version 3"),
        "{error}"
    );
    assert!(Record::from_toml("version = 1\nname = 'x'").is_ok_and(|r| r.ops.is_empty()));
    let many = Record::all_to_toml(&[a.record().expect("alive")]).expect("it can be said");
    assert_eq!(
        Record::all_from_toml(&many).expect("one"),
        Record::all_from_toml(&text).expect("one")
    );
    let newer = many.replacen("version = 1", "version = 2", 1);
    assert!(matches!(
        Record::all_from_toml(&newer),
        Err(RecordError::Version(2))
    ));
}

#[test]
fn limits_are_read_and_written_in_words_where_numbers_end() {
    let limit = |limit: &str| {
        op(&format!(
            "op = 'set_limit'\nresource = 'routes'\nlimit = {limit}"
        ))
    };
    let record = |ops| Record {
        version: 1,
        name: "x".into(),
        init: vec![],
        ops,
    };
    let original = record(vec![
        limit("3"),
        limit("'unlimited'"),
        limit(&format!("'{}'", Resource::UNLIMITED - 1)),
    ]);
    let text = original.to_toml().expect("it can be said");
    assert!(
        text.contains("limit = 3") && text.contains("limit = \"unlimited\""),
        "{text}"
    );
    assert_eq!(
        Record::from_toml(&text).expect("what was written"),
        original
    );
    let bad = text.replacen("limit = 3", "limit = \"some\"", 1);
    assert!(Record::from_toml(&bad).is_err_and(|e| e.to_string().contains("a limit is a number")));
}

#[test]
fn init_is_recorded_as_it_ran_and_must_be_possible_where_it_is_replayed() {
    let system = System::virtual_time(1);
    let a = system.create("a").expect("a free name");
    let make = |vnet: &Vnet| {
        vnet.epair("svc0", vnet, "svc1")?;
        vnet.add_address("svc0", "198.51.100.1/24".parse()?)?;
        vnet.add_address("svc0", "198.51.100.2/24".parse()?)?;
        Ok(())
    };
    let step = || InitRecord::new("service", Stage::Filters, 3, make, |_| Ok(()));
    system.register(step()).expect("a free name");
    a.remove_address("svc0", ip("198.51.100.2").into())
        .expect("the step has added it");
    a.set_ip_mtu("svc1", 900).expect("in range");
    let record = a.record().expect("alive");
    let ran = record.init.last().expect("steps ran");
    assert_eq!(
        (ran.name.as_str(), ran.stage, ran.order),
        ("service", Stage::Filters, 3)
    );
    assert_eq!(record.init.len(), system.init_steps().len());
    assert_eq!(
        record.ops.len(),
        2,
        "what the step did, it does again: {:?}",
        record.ops
    );
    twins(&a, &system.replay(&record, "b").expect("possible"));

    let elsewhere = System::virtual_time(1);
    let missing = elsewhere
        .replay(&record, "b")
        .expect_err("there is no such step");
    assert!(matches!(missing, ReplayError::MissingSteps { steps, .. } if steps == ["service"]));
    assert!(elsewhere.names().is_empty());
    elsewhere.register(step()).expect("a free name");
    twins(&a, &elsewhere.replay(&record, "b").expect("possible"));
}

#[test]
fn children_are_recorded_with_what_they_inherited() {
    let system = System::virtual_time(1);
    let a = system.create("a").expect("a free name");
    a.set_sysctl("net.inet.ip.ttl", 9).expect("in range");
    a.set_limit(Resource::Backlog, 100_000).expect("alive");
    a.set_limit(Resource::QueuedPackets, 50).expect("alive");
    a.set_privileges(!Privileges::from(Privilege::Capture))
        .expect("alive");
    let x = a.create_child("x").expect("a free name");
    // Later changes of the parent's do not reach the child, and not its twin either.
    a.set_sysctl("net.inet.ip.ttl", 10).expect("in range");
    a.set_sysctl("net.inet.tcp.keepcnt", 3).expect("in range");
    let y = x.clone_as("y").expect("possible");
    assert_eq!(y.name(), "a.y");
    twins(&x, &y);
    assert_eq!(y.sysctl("net.inet.ip.ttl"), Ok("9".to_owned()));
    twins(
        &x,
        &system
            .replay(&x.record().expect("alive"), "top")
            .expect("possible"),
    );
    // A lower limit of the parent's is in effect below it, but is not what the child was given.
    let record = x.record().expect("alive");
    a.set_limit(Resource::Interfaces, 5).expect("alive");
    for child in [&x, &y] {
        let usage = child.usage(Resource::Interfaces).expect("alive");
        assert_eq!(usage.limit, 5);
    }
    assert_eq!(x.record().expect("alive"), record);
    // Narrowing reaches it, and is recorded.
    a.set_privileges(Privileges::from(Privilege::Children))
        .expect("alive");
    a.set_privileges(Privileges::ALL).expect("alive");
    assert_eq!(x.privileges(), Privileges::from(Privilege::Children));
    twins(&x, &x.clone_as("z").expect("possible"));

    let records: Vec<Record> = [&x, &a].map(|v| v.record().expect("alive")).into();
    let made = system
        .replay_all(&records, |n| n.replacen('a', "c", 1))
        .expect("possible");
    assert_eq!((made[0].name(), made[1].name()), ("c.x", "c"));
    twins(&x, &made[0]);
    twins(&a, &made[1]);
    let orphan = system
        .replay_all(&records[..1], |n| format!("{n}9"))
        .expect_err("no parent");
    assert!(matches!(orphan, ReplayError::NoParent(name) if name == "a.x9"));

    a.set_privileges(Privileges::NONE).expect("alive");
    let denied = x
        .clone_as("w")
        .expect_err("the parent's tenants may make no children");
    assert!(matches!(
        denied,
        ReplayError::Create {
            source: CreateError::Denied(_),
            ..
        }
    ));
}

#[test]
fn a_vnet_that_is_gone_has_no_record() {
    let system = System::virtual_time(1);
    let a = system.create("a").expect("a free name");
    let tenant = a.clone();
    drop(a);
    assert!(tenant.record().is_err() && tenant.inspect().is_err());
    let forward = op("op = 'set_forwarding'\nforwarding = 'enabled'");
    assert!(tenant.apply(&forward).is_err());
}

#[test]
fn an_inspection_goes_through_json() {
    let system = System::virtual_time(1);
    let [a, _b] = joined(&system);
    let _socket = UdpSocket::bind_in(&a, "0.0.0.0:53").expect("a free port");
    let seen = a.inspect().expect("alive");
    let json = serde_json::to_string(&seen).expect("it can be said in JSON");
    assert_eq!(
        serde_json::from_str::<vnet::Inspection>(&json).expect("what was written"),
        seen
    );
    let text = seen.to_string();
    for expected in [
        "vnet a: up, router, at 0.000000000s\n",
        "\tprivileges: reserved-ports,interface-config,",
        "eth0: flags=<UP,BROADCAST,RUNNING,MULTICAST> mtu 1400\n",
        "\tmedia: epair to b:uplink\n\tstatus: active\n",
        "lo0: flags=<UP,LOOPBACK,RUNNING,MULTICAST> mtu 65535\n\tinet 127.0.0.1 netmask 0xff000000\n",
        "default            192.0.2.2          UGS     0       eth0\n",
        "udp4  0       0       *.53                   *.*                    \n",
        "\tsockets: 1 (most 1) of 7, 0 refused\n",
        "\tnet.inet.ip.ttl=9\n",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
    }
}

/// The line, the operation and the key are named; what is quoted is short and can be shown.
#[test]
fn a_spoiled_record_says_where() {
    let ops = [
        "[[ops]]\nop = 'set_ip_mtu'\ninterface = 'e'\nip_mtu = 1400",
        "[[ops]]\nop = 'set_link'\ninterface = 'e'\n[ops.link]\nloss = { random = 0.5 }",
    ];
    let text = format!("version = 1\nname = 'x'\n{}\n{}\n", ops[0], ops[1]);
    Record::from_toml(&text).expect("it is one");
    let long = "x".repeat(1 << 20);
    let cases = [
        (
            "1400",
            "70000",
            "line 6, column 1: operation 0 (set_ip_mtu): ip_mtu: invalid value: integer `70000`, expected u16",
        ),
        (
            "ip_mtu = ",
            "mtu = ",
            "line 6, column 1: operation 0 (set_ip_mtu): mtu: unknown field `mtu`",
        ),
        (
            "ip_mtu = 1400",
            "",
            "operation 0 (set_ip_mtu): missing field `ip_mtu`",
        ),
        (
            "0.5",
            "'a'",
            "operation 1 (set_link): link: invalid type: string \"a\", expected f64",
        ),
        (
            "set_link",
            "set_\u{fffd}",
            "line 8, column 1: operation 1 (set_\u{fffd}): op: unknown variant",
        ),
        (
            "name = 'x'",
            "name = 7",
            "line 2, column 8: invalid type: integer `7`, expected a string, in \"name = 7\"",
        ),
        ("[ops.link]", "[ops.link", "line 10, column 10: "),
        ("1400", long.as_str(), "line 6, column 10: "),
        (
            "'set_link'",
            &format!("'{long}'"),
            "xxx): op: unknown variant `xxxx",
        ),
        (
            "'set_link'",
            "\"\\u001b[31m\"",
            "line 8, column 1: operation 1 (\\u{1b}[31m): op: unknown variant `\\u{1b}[31m`",
        ),
    ];
    for (from, to, expected) in cases {
        let spoiled = text.replacen(from, to, 1);
        assert_ne!(spoiled, text);
        let several = format!(
            "[[record]]\n{}",
            spoiled
                .replace("[[ops", "[[record.ops")
                .replace("[ops", "[record.ops")
        );
        let error = Record::from_toml(&spoiled).expect_err("it is none");
        assert!(matches!(error, RecordError::Read { .. }));
        let said = error.to_string();
        assert!(
            said.starts_with("not a valid record: ") && said.contains(expected),
            "{said}"
        );
        assert!(
            said.len() < 1000 && !said.contains(char::is_control),
            "{}",
            said.len()
        );
        assert!(Record::all_from_toml(&several).is_err());
    }
}

//! Promise: an interface moves between vnets without taking anything along that is the vnet's, is
//! never in two of them, and comes home.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use vnet::capture::FrameTap;
use vnet::net::{TcpListener, TcpStream, UdpSocket};
use vnet::{
    AdminError, AdminState, Carrier, Direction, DropReason, IfInfo, IfKind, LinkConfig, MacAddr,
    NextHop, Offload, OwnedVnet, Packet, Privilege, Privileges, Resource, System, Vnet,
};
use vnet_tests::accounts::{assert_clean, assert_conserved, run_until_idle};
use vnet_tests::topology::{join, pair, vnet};

fn interface(vnet: &Vnet, name: &str) -> IfInfo {
    let all = vnet.interfaces().expect("the vnet is alive");
    let found = all.into_iter().find(|i| i.name == name);
    found.unwrap_or_else(|| panic!("{} has no {name}", vnet.name()))
}

fn names(vnet: &Vnet) -> Vec<String> {
    let all = vnet.interfaces().expect("the vnet is alive");
    all.into_iter().map(|i| i.name).collect()
}

/// `a` with `eth0`, wired to `far`; and `b`, with nothing.
fn three(system: &System) -> [OwnedVnet; 3] {
    let [a, b, far] = ["a", "b", "far"].map(|n| vnet(system, n));
    join(&a, "eth0 10.0.0.1/24", &far, "eth0 10.0.0.2/24");
    [a, b, far]
}

#[test]
fn what_is_the_interfaces_survives_a_move_and_what_is_the_vnets_does_not() {
    let system = System::virtual_time(1);
    let [a, b, far] = three(&system);
    let slow = LinkConfig {
        delay: Duration::from_millis(3),
        ..LinkConfig::default()
    };
    a.set_link("eth0", slow).unwrap();
    a.set_ip_mtu("eth0", 1300).unwrap();
    a.set_mac("eth0", MacAddr::from_number(4711)).unwrap();
    a.set_offload("eth0", Offload::None).unwrap();
    a.add_route(
        "10.9.0.0/16".parse().unwrap(),
        NextHop::Interface("eth0".into()),
    )
    .unwrap();
    let ping = UdpSocket::bind_in(&a, "0.0.0.0:7").unwrap();
    let echo = UdpSocket::bind_in(&far, "0.0.0.0:7").unwrap();
    ping.send_to(b"x", "10.0.0.2:7").unwrap();
    echo.recv_from(&mut [0; 8]).unwrap();
    assert!(!a.neighbours().unwrap().is_empty());
    let before = interface(&a, "eth0");

    assert_eq!(a.move_interface("eth0", &b).unwrap(), "eth0");
    assert_eq!(names(&a), ["lo0"]);
    assert!(a.neighbours().unwrap().is_empty());
    assert!(a.routes().unwrap().iter().all(|r| r.interface == "lo0"));
    let after = interface(&b, "eth0");
    let expected = IfInfo {
        addresses: Vec::new(),
        current: "b".to_owned(),
        ..before
    };
    assert_eq!(after, expected);
    assert_eq!(
        (&*after.home, after.ip_mtu, after.kind),
        ("a", 1300, IfKind::Epair)
    );

    // The link still takes its time, and the far end is still there.
    b.add_address("eth0", "10.0.0.3/24".parse().unwrap())
        .unwrap();
    let ping = UdpSocket::bind_in(&b, "0.0.0.0:7").unwrap();
    let from = system.now();
    ping.send_to(b"y", "10.0.0.2:7").unwrap();
    let (_, who) = echo.recv_from(&mut [0; 8]).unwrap();
    assert_eq!(who.to_string(), "10.0.0.3:7");
    assert!(system.now() - from >= Duration::from_millis(3));
    for v in [a, b, far] {
        assert_conserved(&v);
        assert_clean(&v.destroy());
    }
}

#[test]
fn whatever_cannot_be_moved_stays_with_all_it_has() {
    let system = System::manual(1);
    let [a, b, _far] = three(&system);
    let elsewhere = System::manual(2);
    let stranger = vnet(&elsewhere, "stranger");
    let full = vnet(&system, "full");
    full.set_limit(Resource::Interfaces, 1).unwrap();
    let gone = vnet(&system, "gone");
    let name_of_gone = Vnet::clone(&gone);
    gone.destroy();
    b.port("eth0", None).unwrap();
    let before = a.interfaces().unwrap();
    let tenant = Vnet::clone(&a);
    let owner: &Vnet = &a;
    type Is = fn(&AdminError) -> bool;
    let cases: [(Result<_, AdminError>, Is); 11] = [
        (owner.move_interface("eth0", &a), |e| {
            matches!(e, AdminError::SameVnet(_))
        }),
        (
            owner.move_interface("eth9", &b),
            |e| matches!(e, AdminError::NotFound(n) if n == "eth9"),
        ),
        (
            owner.move_interface("eth0", &b),
            |e| matches!(e, AdminError::Exists(n) if n == "eth0"),
        ),
        (owner.move_interface_as("eth0", &b, "a/b"), |e| {
            matches!(e, AdminError::BadName(_))
        }),
        (owner.move_interface("eth0", &stranger), |e| {
            *e == AdminError::OtherSystem
        }),
        (owner.move_interface("eth0", &full), |e| {
            matches!(e, AdminError::Limit(_))
        }),
        (owner.move_interface("eth0", &name_of_gone), |e| {
            *e == AdminError::TargetGone
        }),
        (owner.move_interface_as("lo0", &b, "lo1"), |e| {
            matches!(
                e,
                AdminError::Unsupported {
                    kind: IfKind::Loopback,
                    ..
                }
            )
        }),
        (owner.return_interface("eth0"), |e| {
            matches!(e, AdminError::AtHome(_))
        }),
        (owner.reclaim_interface("eth0"), |e| {
            matches!(e, AdminError::NotLent(_))
        }),
        (
            tenant.move_interface_as("eth0", &b, "x"),
            |e| matches!(e, AdminError::NotDescendant(n) if n == "b"),
        ),
    ];
    for (n, (result, is_expected)) in cases.iter().enumerate() {
        let error = result.as_ref().expect_err("it cannot be moved");
        assert!(is_expected(error), "case {n}: {error:?}");
        assert!(!error.to_string().is_empty());
    }
    assert_eq!(a.interfaces().unwrap(), before);
    assert!(a.pins().unwrap().lent.is_empty());
    assert_eq!(full.interfaces().unwrap().len(), 1);
    assert!(matches!(
        name_of_gone.move_interface("eth0", &a),
        Err(AdminError::Gone)
    ));
}

#[test]
fn who_may_lend_to_whom() {
    let system = System::manual(1);
    let [a, b, _far] = three(&system);
    let child = a.create_child("child").unwrap();
    let grandchild = child.create_child("grandchild").unwrap();
    let tenant = Vnet::clone(&a);
    // A tenant needs the privilege, and then may lend down.
    a.set_privileges(!Privileges::from(Privilege::InterfaceCreate))
        .unwrap();
    let denied = AdminError::Denied(Privilege::InterfaceCreate.as_str());
    assert_eq!(tenant.move_interface("eth0", &child), Err(denied.clone()));
    assert_eq!(tenant.return_interface("eth0"), Err(denied.clone()));
    assert_eq!(tenant.reclaim_interface("eth0"), Err(denied.clone()));
    assert_eq!(a.denials(Privilege::InterfaceCreate), 3);
    a.set_privileges(Privileges::ALL).unwrap();
    for below in [&child, &grandchild] {
        below.set_privileges(Privileges::ALL).unwrap();
    }
    tenant.move_interface("eth0", &child).unwrap();
    // Lending on goes further down only; the borrower cannot remove it; it can be returned.
    let borrower = Vnet::clone(&child);
    assert!(matches!(
        child.move_interface("eth0", &b),
        Err(AdminError::NotDescendant(_))
    ));
    let removed = borrower.remove_interface("eth0");
    assert!(matches!(removed, Err(AdminError::Borrowed { home, .. }) if home == "a"));
    borrower.move_interface("eth0", &grandchild).unwrap();
    assert_eq!(interface(&grandchild, "eth0").home, "a");
    assert_eq!(a.pins().unwrap().lent[0].borrower, "a.child.grandchild");
    // Home is home: the middle vnet has no say.
    assert!(matches!(
        child.reclaim_interface("eth0"),
        Err(AdminError::NotLent(_))
    ));
    let back = Vnet::clone(&grandchild).return_interface("eth0").unwrap();
    assert!(names(&a).contains(&back), "{back}");
    // An owner lends to anybody who may have it.
    b.set_privileges(Privileges::NONE).unwrap();
    let denied = a.move_interface("eth0", &b.clone());
    assert!(
        matches!(denied, Err(AdminError::Denied(_))),
        "b's tenants may not"
    );
    a.move_interface("eth0", &b).unwrap();
    let back = b.move_interface("eth0", &a).unwrap();
    assert!(names(&a).contains(&back), "moving home is returning");
    assert!(a.pins().unwrap().lent.is_empty());
    let report = a.destroy();
    assert_clean(&report);
    assert!(report.returned.is_empty());
}

#[test]
fn frames_that_had_come_in_are_counted_where_it_was_and_later_ones_come_in_where_it_is() {
    let system = System::manual(1);
    let [a, b, far] = three(&system);
    let port = a.port("tap0", None).unwrap();
    run_until_idle(&system, 100);
    let frame = |last: u8| {
        let mut frame = vec![0xff; 6];
        frame.extend([2, 0, 0, 0, 0, 9, 0x88, 0xb5]);
        frame.resize(60, last);
        frame
    };
    let before = a.stats().unwrap();
    for n in 0..5 {
        port.send(frame(n)).unwrap();
    }
    a.move_interface("tap0", &b).unwrap();
    for n in 0..3 {
        port.send(frame(n)).unwrap();
    }
    run_until_idle(&system, 100);
    let after = a.stats().unwrap();
    assert_eq!(after.received - before.received, 5);
    let down = DropReason::InterfaceDown;
    assert_eq!(after.rx_drops(down) - before.rx_drops(down), 5);
    assert_eq!(b.stats().unwrap().received, 3);
    assert_eq!(
        interface(&b, "tap0").counters.rx_frames,
        3,
        "five were never taken in"
    );
    // The outside end was not unplugged, and hears of b from now on.
    assert!(!port.is_gone());
    while port.recv().is_some() {}
    assert_eq!(port.carrier(), Carrier::Up);
    b.add_address("tap0", "192.0.2.1/24".parse().unwrap())
        .unwrap();
    run_until_idle(&system, 100);
    assert_eq!(
        port.recv().unwrap().len(),
        42,
        "the announcement of the address"
    );
    // The vnet in which the port was made may go; the port is b's now... until home calls.
    for v in [&a, &b, &far] {
        assert_conserved(v);
    }
    assert_clean(&b.destroy());
    assert_eq!(interface(&a, "tap0").current, "a");
    assert!(!port.is_gone());
    assert_clean(&a.destroy());
    assert!(port.is_gone());
}

#[test]
fn a_wire_that_went_down_on_the_eve_of_a_move_is_down_after_it() {
    let system = System::manual(1);
    let [a, b, far] = three(&system);
    run_until_idle(&system, 100);
    // The news is in a's inbox, and a never looks at it.
    far.set_up("eth0", AdminState::Down).unwrap();
    a.move_interface("eth0", &b).unwrap();
    assert_eq!(interface(&b, "eth0").carrier, Carrier::Down);
    far.set_up("eth0", AdminState::Up).unwrap();
    run_until_idle(&system, 100);
    assert_eq!(interface(&b, "eth0").carrier, Carrier::Up);
    b.set_up("eth0", AdminState::Down).unwrap();
    b.return_interface("eth0").unwrap();
    run_until_idle(&system, 100);
    assert_eq!(interface(&a, "eth0").admin, AdminState::Down);
    assert_eq!(interface(&far, "eth0").carrier, Carrier::Down);
    a.set_up("eth0", AdminState::Up).unwrap();
    run_until_idle(&system, 100);
    assert_eq!(interface(&far, "eth0").carrier, Carrier::Up);
}

#[derive(Default)]
struct Seen(AtomicUsize);

impl FrameTap for Seen {
    fn frame(&self, _: vnet::time::Instant, _: Direction, _: &Packet) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

// Row 20 of the reference's catalogue: a tap survived the move and sniffed the next tenant.
#[test]
fn row_20_a_capture_ends_when_its_interface_moves() {
    let system = System::virtual_time(1);
    let [a, b, far] = three(&system);
    let (at_a, at_b) = (Arc::new(Seen::default()), Arc::new(Seen::default()));
    a.capture("eth0", Arc::<Seen>::clone(&at_a)).unwrap();
    let talk = |v: &OwnedVnet, address: &str| {
        v.add_address("eth0", address.parse().unwrap()).unwrap();
        let socket = UdpSocket::bind_in(v, "0.0.0.0:9").unwrap();
        let sink = UdpSocket::bind_in(&far, "0.0.0.0:9").unwrap();
        socket.send_to(b"secret", "10.0.0.2:9").unwrap();
        sink.recv_from(&mut [0; 8]).unwrap();
    };
    talk(&a, "10.0.0.11/24");
    let seen = at_a.0.load(Ordering::SeqCst);
    assert!(seen > 0, "it works before the move");
    a.move_interface("eth0", &b).unwrap();
    assert_eq!(Arc::strong_count(&at_a), 1, "the interface let go of it");
    b.capture("eth0", Arc::<Seen>::clone(&at_b)).unwrap();
    talk(&b, "10.0.0.12/24");
    assert_eq!(
        at_a.0.load(Ordering::SeqCst),
        seen,
        "the home sees nothing of the borrower's"
    );
    let seen = at_b.0.load(Ordering::SeqCst);
    assert!(seen > 0);
    b.return_interface("eth0").unwrap();
    talk(&a, "10.0.0.13/24");
    assert_eq!(
        at_b.0.load(Ordering::SeqCst),
        seen,
        "nor the borrower of its home's"
    );
}

// Row 21: an interface renamed inside came back with a clashing name, or kept its unit.
#[test]
fn row_21_a_name_that_is_taken_at_home_gets_a_fresh_unit_and_the_report_says_so() {
    let system = System::manual(1);
    let [a, b, far] = three(&system);
    a.port("eth1", None).unwrap();
    a.port("wan", None).unwrap();
    let mac = interface(&a, "eth0").mac;
    a.move_interface_as("eth0", &b, "renamed").unwrap();
    a.move_interface("wan", &b).unwrap();
    // Meanwhile the names are given to others.
    a.epair("eth0", &far, "x").unwrap();
    a.port("wan", None).unwrap();
    let report = b.destroy();
    assert_clean(&report);
    let fates: Vec<_> = report
        .returned
        .iter()
        .map(|h| (&*h.interface, h.name.as_deref()))
        .collect();
    assert_eq!(fates, [("renamed", Some("eth2")), ("wan", Some("wan0"))]);
    assert!(
        report
            .to_string()
            .contains("renamed went from b home to a as eth2"),
        "{report}"
    );
    assert_eq!(interface(&a, "eth2").mac, mac);
    // The very longest name has a free unit, too.
    let c = vnet(&system, "c");
    for name in ["abcdefghijklmno", "abcdefghijklmn9"] {
        a.port(name, None).unwrap();
        a.move_interface(name, &c).unwrap();
        a.port(name, None).unwrap();
        let back = c.return_interface(name).unwrap();
        assert!(back != name && back.len() <= 15, "{back}");
        assert!(names(&a).contains(&back), "{back}");
    }
    assert_clean(&a.destroy());
}

#[test]
fn a_borrower_that_goes_sends_everything_home_and_a_home_that_goes_takes_everything_along() {
    let system = System::manual(1);
    let [a, b, far] = three(&system);
    let port = a.port("tap0", None).unwrap();
    let child = a.create_child("child").unwrap();
    let grandchild = child.create_child("grandchild").unwrap();
    child.port("own0", None).unwrap();
    child.move_interface("own0", &grandchild).unwrap();
    a.move_interface("eth0", &grandchild).unwrap();
    a.move_interface("tap0", &b).unwrap();
    grandchild
        .add_address("eth0", "10.0.0.7/24".parse().unwrap())
        .unwrap();
    // In the middle of it: the grandchild goes first, then the child.
    let report = child.destroy();
    assert_clean(&report);
    let below = &report.children[0];
    assert_clean(below);
    let told: Vec<String> = below.returned.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "own0 went from a.child.grandchild home to a.child as own0",
            "eth0 went from a.child.grandchild home to a as eth0",
        ]
    );
    assert!(
        report.returned.is_empty(),
        "own0 was at home, and went as its own"
    );
    assert_eq!(report.released.interfaces(), 2, "lo0 and own0");
    assert_eq!(interface(&a, "eth0").addresses, []);
    run_until_idle(&system, 100);
    assert_eq!(interface(&far, "eth0").carrier, Carrier::Up);
    // The home goes, and with it what b has of it.
    let report = a.destroy();
    assert_clean(&report);
    assert_eq!(report.returned.len(), 1);
    assert_eq!(
        report.returned[0].to_string(),
        "tap0 of a was destroyed in b"
    );
    assert!(port.is_gone());
    assert_eq!(names(&b), ["lo0"]);
    run_until_idle(&system, 100);
    assert_eq!(interface(&far, "eth0").carrier, Carrier::Down);
    assert_conserved(&b);
    assert_clean(&b.destroy());
}

#[test]
fn connections_of_the_old_vnet_do_not_follow_and_new_ones_are_the_new_vnets() {
    let system = System::virtual_time(1);
    let [a, b, far] = three(&system);
    let listener = TcpListener::bind_in(&far, "0.0.0.0:80").unwrap();
    let mut old = TcpStream::connect_in(&a, "10.0.0.2:80").unwrap();
    let (_accepted, _) = listener.accept().unwrap();
    a.move_interface("eth0", &b).unwrap();
    // There is no way out of a any more, and b has no part in that connection.
    assert!(b.sockets().unwrap().is_empty());
    old.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    std::io::Write::write_all(&mut old, b"lost").unwrap();
    assert!(TcpStream::connect_in(&a, "10.0.0.2:80").is_err());
    b.add_address("eth0", "10.0.0.1/24".parse().unwrap())
        .unwrap();
    let _new = TcpStream::connect_in(&b, "10.0.0.2:80").unwrap();
    let (_, peer) = listener.accept().unwrap();
    assert_eq!(peer.ip().to_string(), "10.0.0.1");
    drop((old, listener));
    for v in [a, b, far] {
        assert_clean(&v.destroy());
    }
}

#[test]
fn under_traffic_a_move_loses_no_more_than_what_was_queued_and_counts_it() {
    let system = System::manual(1);
    let [a, b, far] = three(&system);
    b.set_limit(Resource::Interfaces, 5).unwrap();
    let source = UdpSocket::bind_in(&far, "0.0.0.0:9").unwrap();
    let (mut sent, mut queued) = (0, 0);
    let mut homes = [&a, &b];
    // The neighbour is known once and for all: only datagrams cross the wire.
    run_until_idle(&system, 100);
    for round in 0..20 {
        let [here, there] = homes;
        let _ = here.add_address("eth0", "10.0.0.1/24".parse().unwrap());
        let sink = UdpSocket::bind_in(here, "0.0.0.0:9").unwrap();
        for _ in 0..10 {
            source.send_to(b"x", "10.0.0.1:9").unwrap();
            sent += 1;
            system.poll(system.now() + Duration::from_micros(100));
        }
        // A few more that are still queued when it moves.
        for _ in 0..round % 4 {
            source.send_to(b"x", "10.0.0.1:9").unwrap();
            sent += 1;
            queued += 1;
        }
        here.move_interface("eth0", there).unwrap();
        drop(sink);
        homes.reverse();
    }
    run_until_idle(&system, 1000);
    let (mut came_in, mut lost) = (0, 0);
    for v in [&a, &b] {
        assert_conserved(v);
        let stats = v.stats().unwrap();
        came_in += stats.received;
        lost += stats.rx_drops(DropReason::InterfaceDown);
        // The rest is far, which asks for a neighbour that has no address at that moment.
        let others = stats.rx_dropped() - stats.rx_drops(DropReason::InterfaceDown);
        assert_eq!(others, stats.rx_drops(DropReason::NotForUs));
    }
    assert!(lost > 0 && lost <= queued, "{lost} lost of {queued} queued");
    // Everything that left far came in somewhere: the datagrams, and what ARP said.
    assert_eq!(came_in, far.stats().unwrap().sent);
    assert!(far.stats().unwrap().sent >= sent);
}

// Rows 1 and 2: interfaces were walked, and re-added, while their vnets went.
#[test]
fn home_and_borrower_may_go_while_others_move_the_interface_about() {
    let system = System::threads();
    for round in 0..150 {
        let (home, one) = (vnet(&system, "home"), vnet(&system, "one"));
        let two = one.create_child("two").unwrap();
        let far = vnet(&system, "far");
        let port = home.port("tap0", None).unwrap();
        join(&home, "eth0 10.0.0.1/24", &far, "eth0 10.0.0.2/24");
        let source = UdpSocket::bind_in(&far, "0.0.0.0:9").unwrap();
        let stop = AtomicBool::new(false);
        let reports = Mutex::new(Vec::new());
        let note = &|report| reports.lock().unwrap().push(report);
        std::thread::scope(|s| {
            let until_stopped = |f: &dyn Fn()| {
                while !stop.load(Ordering::Relaxed) {
                    f();
                }
            };
            let handles = [Vnet::clone(&home), Vnet::clone(&one), Vnet::clone(&two)];
            let (down, back) = (handles.clone(), handles.clone());
            // The owner of home lends; it is the only one who may, and lives in the other thread.
            s.spawn(move || {
                until_stopped(&|| {
                    for name in ["eth0", "tap0"] {
                        let _ = down[1].move_interface(name, &down[2]);
                        let _ = down[2].return_interface(name);
                    }
                });
            });
            s.spawn(move || {
                until_stopped(&|| {
                    for name in ["eth0", "tap0"] {
                        let _ = back[0].reclaim_interface(name);
                    }
                    let _ = source.send_to(b"x", "10.0.0.1:9");
                    let _ = port.send(vec![0xff; 60]);
                });
            });
            for _ in 0..20 {
                for name in ["eth0", "tap0"] {
                    let _ = home.move_interface(name, &one);
                }
            }
            let (one, two) = (one, two);
            match round % 3 {
                0 => {
                    s.spawn(move || note(home.destroy()));
                    s.spawn(move || note(one.destroy()));
                }
                1 => {
                    s.spawn(move || note(one.destroy()));
                    note(home.destroy());
                }
                _ => {
                    s.spawn(move || note(two.destroy()));
                    s.spawn(move || note(home.destroy()));
                }
            }
            std::thread::sleep(Duration::from_micros(500));
            stop.store(true, Ordering::Relaxed);
        });
        for report in reports.into_inner().unwrap() {
            assert_clean(&report);
        }
        // Whatever is left of the others, nothing of home's is in it.
        assert!(system.vnet("home").is_none());
        for name in system.names() {
            let left = system.vnet(&name).unwrap();
            assert!(
                left.interfaces().unwrap().iter().all(|i| i.home != "home"),
                "{name}"
            );
        }
        assert_eq!(interface(&far, "eth0").home, "far");
        assert_clean(&far.destroy());
        let _ = system.vnet("one");
        assert!(system.names().is_empty(), "{:?}", system.names());
    }
}

#[test]
fn a_pair_within_one_vnet_moves_end_by_end() {
    let system = System::virtual_time(1);
    let (a, b) = pair(&system);
    a.epair("x0", &a, "x1").unwrap();
    a.move_interface("x0", &b).unwrap();
    a.move_interface("x1", &b).unwrap();
    assert_eq!(interface(&b, "x0").carrier, Carrier::Up);
    let report = a.destroy();
    assert_clean(&report);
    assert_eq!(report.returned.len(), 2);
    assert_eq!(names(&b), ["lo0", "eth0"]);
    assert_clean(&b.destroy());
}

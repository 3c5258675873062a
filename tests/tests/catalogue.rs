//! Promise: each way in which the teardown of network stacks has failed in practice has a test, or
//! a reason why it cannot happen here. `docs/lifecycle.md` lists them; this file has those tests
//! that belong to no other promise, and holds the list to the tree.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use vnet::net::{TcpListener, TcpStream, UdpSocket};
use vnet::{
    AdminError, AdminState, InitRecord, LinkConfig, LocalError, MacAddr, OwnedVnet, Port,
    SocketError, Stage, System, Vnet, vnet_local,
};
use vnet_tests::accounts::{assert_clean, assert_conserved, run_until_idle};
use vnet_tests::topology::{join, pair, vnet};

/// Numbers in an order that depends on `seed` only.
fn shuffled(n: usize, seed: u64) -> Vec<usize> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut order: Vec<usize> = (0..n).collect();
    for at in (1..n).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        order.swap(at, (state % (at as u64 + 1)) as usize);
    }
    order
}

// An event for an interface came after what it concerned was freed.
#[test]
fn row_04_events_on_an_interface_that_has_left_find_it_nowhere_else() {
    let system = System::threads();
    let (a, b) = pair(&system);
    let elsewhere = vnet(&system, "elsewhere");
    let stop = AtomicBool::new(false);
    let (tenant, far) = (Vnet::clone(&a), Vnet::clone(&b));
    // An interface of the same name and of the same place in the table is not the one meant.
    let stranger = elsewhere.port("eth1", None).unwrap();
    std::thread::scope(|s| {
        s.spawn(|| {
            let mut n = 0u64;
            while !stop.load(Ordering::Relaxed) {
                n += 1;
                for event in [
                    tenant.set_mac("eth0", MacAddr::from_number(1000 + n)),
                    tenant.set_ip_mtu("eth0", 1400 + (n % 100) as u16),
                    far.set_up("eth0", AdminState::Down),
                    far.set_up("eth0", AdminState::Up),
                ] {
                    let missed = matches!(&event, Err(AdminError::NotFound(_)));
                    assert!(event.is_ok() || missed, "{event:?}");
                }
            }
        });
        for _ in 0..300 {
            a.move_interface("eth0", &elsewhere).unwrap();
            elsewhere.return_interface("eth0").unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    });
    let untouched = elsewhere.interfaces().unwrap();
    assert_eq!(untouched[1].mac, stranger.mac());
    assert_eq!(untouched[1].ip_mtu, 1500);
    for v in [a, b, elsewhere] {
        assert_conserved(&v);
        assert_clean(&v.destroy());
    }
}

// The parent was freed before its list of children had been worked off.
#[test]
fn row_08_trees_of_three_levels_go_in_any_order() {
    let system = System::manual(1);
    for seed in 0..60 {
        let mut all: Vec<OwnedVnet> = Vec::new();
        for top in ["x", "y"] {
            let top = vnet(&system, top);
            top.port("tap0", None).unwrap();
            let middle: Vec<OwnedVnet> = ["m", "n"].map(|n| top.create_child(n).unwrap()).into();
            top.move_interface("tap0", &middle[0]).unwrap();
            let leaves: Vec<OwnedVnet> = middle
                .iter()
                .flat_map(|m| ["p", "q"].map(|n| m.create_child(n).unwrap()))
                .collect();
            middle[0].move_interface("tap0", &leaves[1]).unwrap();
            all.push(top);
            all.extend(middle);
            all.extend(leaves);
        }
        let mut all: Vec<Option<OwnedVnet>> = all.into_iter().map(Some).collect();
        let mut seen = Vec::new();
        fn note(report: &vnet::DestroyReport, seen: &mut Vec<String>) {
            assert_clean(report);
            for child in &report.children {
                assert!(child.vnet.starts_with(&format!("{}.", report.vnet)));
                note(child, seen);
            }
            seen.push(report.vnet.clone());
        }
        for at in shuffled(all.len(), seed) {
            let report = all[at].take().unwrap().destroy();
            match report.outcome {
                vnet::Outcome::Destroyed => note(&report, &mut seen),
                outcome => assert_eq!(outcome, vnet::Outcome::AlreadyGone),
            }
        }
        // Each went exactly once, and nothing is left of any.
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 14, "seed {seed}");
        assert!(system.names().is_empty());
    }
    // And from several threads at once.
    let system = System::threads();
    for _ in 0..60 {
        let top = vnet(&system, "x");
        let middle = top.create_child("m").unwrap();
        let leaf = middle.create_child("p").unwrap();
        std::thread::scope(|s| {
            for owner in [top, middle, leaf] {
                s.spawn(move || assert_clean(&owner.destroy()));
            }
        });
        assert!(system.names().is_empty());
    }
}

const LARGE: usize = 512 << 10;

vnet_local! {
    static FIRST: [AtomicUsize; 4] = [const { AtomicUsize::new(0) }; 4];
    static MULTICAST_ARRAYS: Vec<u8> = vec![0xaa; LARGE];
}

macro_rules! many_locals {
    ($($name:ident)*) => {
        vnet_local! { $(static $name: [u64; 512] = [7; 512];)* }
        fn touch_all() -> Result<usize, LocalError> {
            let mut n = 0;
            $(n += $name.try_with(|v| v.len())?;)*
            Ok(n)
        }
    };
}

many_locals! {
    L00 L01 L02 L03 L04 L05 L06 L07 L08 L09 L10 L11 L12 L13 L14 L15 L16 L17 L18 L19 L20 L21 L22 L23
    L24 L25 L26 L27 L28 L29 L30 L31 L32 L33 L34 L35 L36 L37 L38 L39 L40 L41 L42 L43 L44 L45 L46 L47
}

// The room for modules' variables was of a fixed size, and a late module did not fit.
#[test]
fn row_12_a_module_that_comes_late_has_room_for_large_state_in_every_instance() {
    let system = System::manual(1);
    let vnets: Vec<OwnedVnet> = (0..20).map(|n| vnet(&system, &format!("v{n}"))).collect();
    for v in &vnets {
        FIRST
            .of(v, |first| first[0].fetch_add(1, Ordering::Relaxed))
            .unwrap();
    }
    let init = |_: &Vnet| -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        assert_eq!(MULTICAST_ARRAYS.try_with(Vec::len)?, LARGE);
        assert_eq!(touch_all()?, 48 * 512);
        Ok(())
    };
    let record = InitRecord::new("large", Stage::Services, 0, init, |_| Ok(()));
    system.register(record).expect("there is always room");
    for v in &vnets {
        let all = MULTICAST_ARRAYS.of(v, |a| a.iter().all(|b| *b == 0xaa));
        assert_eq!(all, Ok(true));
        assert_eq!(
            FIRST.of(v, |first| first[0].load(Ordering::Relaxed)),
            Ok(1),
            "kept"
        );
    }
    for v in vnets {
        let report = v.destroy();
        assert_clean(&report);
        assert_eq!(report.released.locals(), 50);
    }
}

// What a feature had made was still in use when the feature was unloaded.
#[test]
fn row_13_a_feature_may_be_unloaded_while_what_it_made_is_in_use() {
    type Made = Arc<Mutex<BTreeMap<String, (Port, UdpSocket)>>>;
    let system = System::threads();
    let (a, b) = pair(&system);
    let made = Made::default();
    let (up, down) = (Arc::clone(&made), Arc::clone(&made));
    let record = InitRecord::new(
        "feature",
        Stage::InterfaceAttach,
        0,
        move |vnet| {
            let port = vnet.port("feature0", None)?;
            vnet.add_address("feature0", "198.51.100.1/24".parse()?)?;
            let socket = UdpSocket::bind_in(vnet, "198.51.100.1:4000")?;
            up.lock()
                .unwrap()
                .insert(vnet.name().to_owned(), (port, socket));
            Ok(())
        },
        move |vnet| {
            // In the wrong order, as modules do: the interface first, then who uses it.
            if vnet.remove_interface("feature0").is_err() && vnet.interfaces().is_ok() {
                return Err("it is there".into());
            }
            drop(down.lock().unwrap().remove(vnet.name()));
            Ok(())
        },
    );
    system.register(record).unwrap();
    let user = TcpListener::bind_in(&a, "198.51.100.1:80").unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|s| {
        for v in [&a, &b] {
            let handle: &Vnet = v;
            let (stop, made) = (&stop, &made);
            s.spawn(move || {
                let out = UdpSocket::bind_in(handle, "0.0.0.0:0").unwrap();
                while !stop.load(Ordering::Relaxed) {
                    let _ = out.send_to(b"x", "198.51.100.1:4000");
                    let _ = out.send_to(b"x", "198.51.100.77:4000");
                    if let Some((port, _)) = made.lock().unwrap().get(handle.name()) {
                        let _ = port.send(vec![0xff; 60]);
                    }
                }
            });
        }
        std::thread::sleep(Duration::from_millis(3));
        system.unregister("feature").unwrap();
        stop.store(true, Ordering::Relaxed);
    });
    assert!(made.lock().unwrap().is_empty());
    for v in [&a, &b] {
        assert_eq!(v.interfaces().unwrap().len(), 2, "lo0 and eth0");
        assert_conserved(v);
    }
    // A user's socket at an address that is no more is of no use, and harms nobody.
    assert!(
        TcpStream::connect_timeout_in(
            &a,
            &"198.51.100.1:80".parse().unwrap(),
            Duration::from_millis(20)
        )
        .is_err()
    );
    drop(user);
    assert_clean(&a.destroy());
    assert_clean(&b.destroy());
}

struct WontDie(Arc<AtomicUsize>);

impl Drop for WontDie {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
        panic!("node won't die");
    }
}

static DROPS: std::sync::LazyLock<Arc<AtomicUsize>> = std::sync::LazyLock::new(Default::default);

vnet_local! {
    static STUBBORN: WontDie = WontDie(Arc::clone(&DROPS));
}

// "Node won't die": a destructor that could not finish took the kernel with it.
#[test]
fn row_22_a_destructor_that_cannot_finish_is_reported_and_holds_nothing_up() {
    let system = System::manual(1);
    let wont = |_: &Vnet| -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        Err("node won't die".into())
    };
    let panics = |_: &Vnet| -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        panic!("and neither will this one")
    };
    system
        .register(InitRecord::new(
            "graph",
            Stage::LinkLayers,
            1,
            |_| Ok(()),
            wont,
        ))
        .unwrap();
    system
        .register(InitRecord::new(
            "filter",
            Stage::Filters,
            0,
            |_| Ok(()),
            panics,
        ))
        .unwrap();
    let (a, b) = pair(&system);
    let child = a.create_child("c").unwrap();
    a.move_interface("eth0", &child).unwrap();
    let socket = UdpSocket::bind_in(&a, "0.0.0.0:7").unwrap();
    STUBBORN.of(&a, |_| ()).unwrap();
    let report = a.destroy();
    let failures: Vec<&str> = report
        .steps
        .iter()
        .filter_map(|s| s.failure.as_deref())
        .collect();
    assert_eq!(failures.len(), 3, "{report}");
    assert!(failures[0].contains("neither"), "{failures:?}");
    assert_eq!(failures[1], "node won't die");
    assert!(
        failures[2].contains("node won't die"),
        "the variable's destructor"
    );
    assert_eq!(DROPS.load(Ordering::SeqCst), 1);
    assert!(
        report.leaked.is_zero() && report.children[0].leaked.is_zero(),
        "{report}"
    );
    assert!(SocketError::is_gone(
        &socket.send_to(b"x", "127.0.0.1:7").unwrap_err()
    ));
    assert_eq!(system.names(), ["b"]);
    // The name is free; the steps are still registered, and still do not like it.
    let again = vnet(&system, "a").destroy();
    assert!(again.leaked.is_zero());
    assert!(
        system.unregister("graph").is_err(),
        "it failed in b, and says so"
    );
    assert!(!system.init_steps().contains(&"graph".to_owned()));
    let _ = system.unregister("filter");
    assert_clean(&b.destroy());
}

// A VLAN's parent was destroyed under traffic, and an epoch deadlocked. What stands on something
// else here is an interface that another vnet has lent.
#[test]
fn row_23_what_an_interface_depends_on_may_be_destroyed_under_traffic() {
    let system = System::threads();
    for round in 0..60 {
        let (home, far) = pair(&system);
        let borrower = vnet(&system, "borrower");
        let slow = LinkConfig {
            delay: Duration::from_micros(200),
            ..LinkConfig::default()
        };
        home.set_link("eth0", slow).unwrap();
        home.move_interface("eth0", &borrower).unwrap();
        borrower
            .add_address("eth0", "10.0.0.1/24".parse().unwrap())
            .unwrap();
        let listener = TcpListener::bind_in(&far, "10.0.0.2:80").unwrap();
        let mut near = TcpStream::connect_in(&borrower, "10.0.0.2:80").unwrap();
        let mut served = listener.accept().unwrap().0;
        let until = Some(Duration::from_secs(20));
        near.set_write_timeout(until).unwrap();
        std::thread::scope(|s| {
            s.spawn(move || while near.write_all(&[1; 4096]).is_ok() {});
            s.spawn(move || while served.read(&mut [0; 4096]).is_ok_and(|n| n > 0) {});
            std::thread::sleep(Duration::from_micros(700));
            match round % 3 {
                0 => assert_clean(&home.destroy()),
                1 => drop(home.reclaim_interface("eth0").unwrap()),
                _ => far.remove_interface("eth0").unwrap(),
            }
            // The stream cannot know that its way is gone for good: it ends with its vnet.
            assert_clean(&borrower.destroy());
            assert_clean(&far.destroy());
        });
    }
}

// ---- The list ----

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All Rust sources below a folder.
fn sources(dir: &Path, into: &mut String) {
    let mut entries: Vec<_> = std::fs::read_dir(dir)
        .expect("a folder of the repository")
        .map(|e| e.expect("an entry").path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push_str(&std::fs::read_to_string(&path).expect("a source file"));
        }
    }
}

/// The names of all tests of the library and of its promises.
fn tests() -> Vec<String> {
    let mut text = String::new();
    for dir in ["vnet/src", "tests/tests"] {
        sources(&repository().join(dir), &mut text);
    }
    let mut found = Vec::new();
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        if line != "#[test]" {
            continue;
        }
        let after = lines.find(|l| !l.starts_with("#[") && !l.starts_with("//"));
        let name = after
            .and_then(|l| l.strip_prefix("fn "))
            .and_then(|l| l.split('(').next());
        found.extend(name.map(str::to_owned));
    }
    found
}

#[test]
fn the_list_has_every_row_and_every_test_that_it_names_exists() {
    let page = repository().join("docs/lifecycle.md");
    let page = std::fs::read_to_string(page).expect("the page is there");
    let tests = tests();
    assert!(tests.len() > 300, "the scan finds tests: {}", tests.len());
    let mut rows = Vec::new();
    for line in page.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, number, what, answer, _] = cells[..] else {
            continue;
        };
        let Ok(number) = number.parse::<u32>() else {
            continue;
        };
        assert!(!what.is_empty());
        let named: Vec<&str> = answer.split('`').skip(1).step_by(2).collect();
        assert!(
            !named.is_empty() || answer.starts_with("cannot exist:"),
            "row {number} has neither a test nor a reason: {answer}"
        );
        for name in named {
            assert!(
                tests.iter().any(|t| t == name),
                "row {number}: no test {name}"
            );
        }
        rows.push(number);
    }
    assert_eq!(rows, (1..=31).collect::<Vec<_>>());
    // And a test that says it is for a row is listed there.
    for test in tests.iter().filter(|t| t.starts_with("row_")) {
        let number: u32 = test[4..6].parse().expect("row_ and two digits");
        let row = page
            .lines()
            .find(|l| l.starts_with(&format!("| {number} |")));
        assert!(
            row.is_some_and(|r| r.contains(test.as_str())),
            "{test} is not listed"
        );
    }
}

#[test]
fn a_wire_that_is_pulled_while_frames_are_on_it_stays_accounted_for() {
    let system = System::manual(1);
    let (a, b) = pair(&system);
    let c = vnet(&system, "c");
    join(&b, "eth1 10.0.1.2/24", &c, "eth0 10.0.1.3/24");
    let slow = LinkConfig {
        delay: Duration::from_millis(5),
        ..LinkConfig::default()
    };
    a.set_link("eth0", slow).unwrap();
    let out = UdpSocket::bind_in(&a, "0.0.0.0:0").unwrap();
    let sink = UdpSocket::bind_in(&b, "0.0.0.0:9").unwrap();
    out.send_to(b"warm", "10.0.0.2:9").unwrap();
    run_until_idle(&system, 1000);
    let before = b.stats().unwrap();
    for _ in 0..4 {
        out.send_to(b"x", "10.0.0.2:9").unwrap();
    }
    // Four frames are on the wire towards b when its end moves on: they were sent to b.
    b.move_interface_as("eth0", &c, "eth9").unwrap();
    run_until_idle(&system, 1000);
    let after = b.stats().unwrap();
    assert_eq!(after.received - before.received, 4);
    assert_eq!(after.rx_dropped() - before.rx_dropped(), 4);
    for v in [&a, &b, &c] {
        assert_conserved(v);
    }
    drop(sink);
}

//! Promise: whatever uses an instance can be seen from outside, and a strict destruction names all
//! of it and changes nothing.

use std::sync::mpsc;

use vnet::net::{EchoSocket, RawSocket, TcpListener, TcpStream, UdpSocket};
use vnet::{OwnedVnet, Pins, SocketError, System, Vnet};
use vnet_tests::accounts::assert_clean;
use vnet_tests::topology::{pair, vnet};

fn pins(vnet: &Vnet) -> Pins {
    vnet.pins().expect("the vnet is alive")
}

#[track_caller]
fn refused(vnet: OwnedVnet) -> (OwnedVnet, Pins) {
    match vnet.try_destroy() {
        Ok(report) => panic!("it was destroyed: {report}"),
        Err((vnet, pins)) => (vnet, *pins),
    }
}

#[test]
fn each_socket_is_named_with_its_addresses_until_it_is_closed() {
    let system = System::virtual_time(1);
    let (a, b) = pair(&system);
    let listener = TcpListener::bind_in(&a, "10.0.0.1:80").unwrap();
    let udp = UdpSocket::bind_in(&a, "10.0.0.1:53").unwrap();
    let raw = RawSocket::open_in(&a, 89).unwrap();
    let echo = EchoSocket::bind_in(&a).unwrap();
    let client = TcpStream::connect_in(&b, "10.0.0.1:80").unwrap();
    let (served, peer) = listener.accept().unwrap();
    let (a, named) = refused(a);
    let named: Vec<String> = named.sockets.iter().map(ToString::to_string).collect();
    assert_eq!(named.len(), 5, "{named:?}");
    for expected in [
        "tcp4 Listen 10.0.0.1:80".to_owned(),
        "udp4 10.0.0.1:53".to_owned(),
        "raw proto 89".to_owned(),
        format!("tcp4 Established 10.0.0.1:80 to {peer}"),
    ] {
        assert!(named.contains(&expected), "{expected} in {named:?}");
    }
    // It goes on as if nothing had been asked.
    assert!(system.vnet("a").is_some());
    udp.send_to(b"x", "10.0.0.2:9").unwrap();
    drop((listener, udp, raw, echo));
    // A connection without a socket is named as long as it has not ended...
    drop(served);
    let (a, named) = refused(a);
    assert_eq!(named.sockets.len(), 1);
    assert!(named.sockets[0].kind.starts_with("tcp4 FinWait"), "{named}");
    // ... and not in TIME-WAIT.
    drop(client);
    system.sleep(std::time::Duration::from_millis(10)).unwrap();
    assert_eq!(a.sockets().unwrap().len(), 1);
    assert!(pins(&a).is_empty(), "{}", pins(&a));
    let report = a.try_destroy().expect("nothing uses it");
    assert_clean(&report);
    assert_eq!(report.released.connections(), 1, "the one in TIME-WAIT");
}

// Row 10 of the reference's catalogue: a handle that leaked kept its jail dying for ever, and
// nobody could tell who had it.
#[test]
fn row_10_each_thread_is_named_with_where_it_entered() {
    let system = System::threads();
    let a = vnet(&system, "a");
    let b = vnet(&system, "b");
    let (leave, left) = mpsc::channel::<()>();
    let (inside, is_inside) = mpsc::channel();
    let handle = Vnet::clone(&a);
    let spawned_at = line!() + 1;
    let spawned = handle.spawn(move || {
        inside.send(()).unwrap();
        let _ = left.recv();
    });
    is_inside.recv().unwrap();
    // The guards of this thread: a, then b, then a again.
    let outer_at = line!() + 1;
    let outer = handle.enter();
    {
        let _b = b.enter();
        let inner_at = line!() + 1;
        let _inner = handle.enter();
        let seen = pins(&a);
        let at = |line: u32| format!("{}:{line}:", file!());
        for line in [spawned_at, outer_at, inner_at] {
            let found = seen
                .threads
                .iter()
                .find(|t| t.entered_at.starts_with(&at(line)));
            let found = found.unwrap_or_else(|| panic!("line {line} in {seen}"));
            assert_eq!(found.thread == "vnet-a", line == spawned_at, "{seen}");
        }
        assert_eq!((seen.threads.len(), seen.len()), (3, 3));
        assert_eq!(pins(&b).threads.len(), 1);
    }
    assert_eq!(pins(&a).threads.len(), 2);
    assert!(pins(&b).is_empty());
    drop(outer);
    let (a, named) = refused(a);
    assert_eq!(named.threads.len(), 1);
    assert!(named.to_string().contains("vnet-a, entered at"), "{named}");
    leave.send(()).unwrap();
    spawned.unwrap().join().unwrap();
    assert_clean(&a.try_destroy().expect("nobody is inside"));
}

#[test]
fn a_guard_that_is_forgotten_pins_and_a_future_does_while_it_runs() {
    let system = System::manual(1);
    let a = vnet(&system, "a");
    let handle = Vnet::clone(&a);
    let looked = system.block_on(a.scope(async { pins(&handle).threads.len() }));
    assert_eq!(looked.unwrap(), 1);
    assert!(pins(&a).is_empty());
    let b = vnet(&system, "b");
    let b = std::thread::spawn(move || {
        std::mem::forget(b.enter());
        assert_eq!(pins(&b).threads.len(), 1, "it is still current");
        b
    });
    // It ends with its thread.
    let b = b.join().unwrap();
    assert_clean(&b.try_destroy().expect("the thread is gone"));
    assert_clean(&a.try_destroy().expect("the future is over"));
}

#[test]
fn more_guards_than_can_be_seen_work_all_the_same() {
    let system = System::manual(1);
    let a = vnet(&system, "a");
    fn nest(a: &Vnet, depth: usize) -> usize {
        let _guard = a.enter();
        match depth {
            0 => pins(a).threads.len(),
            _ => nest(a, depth - 1),
        }
    }
    assert_eq!(nest(&a, 9), 10);
    assert_eq!(nest(&a, 99), 16);
    assert_clean(&a.try_destroy().expect("all have been left"));
}

#[test]
fn interfaces_away_from_home_and_children_pin_both_sides() {
    let system = System::manual(1);
    let a = vnet(&system, "a");
    let b = a.create_child("b").unwrap();
    a.port("tap0", None).unwrap();
    a.move_interface_as("tap0", &b, "net0").unwrap();
    let seen = pins(&a);
    assert_eq!(seen.lent[0].to_string(), "tap0 lent to a.b");
    assert_eq!(seen.children, ["a.b"]);
    let (b, seen) = refused(b);
    assert_eq!(seen.borrowed[0].to_string(), "net0 borrowed from a");
    assert_eq!(seen.to_string().lines().count(), 2, "{seen}");
    let (a, _) = refused(a);
    b.return_interface("net0").unwrap();
    assert_clean(&b.try_destroy().expect("nothing is left"));
    assert_clean(&a.try_destroy().expect("nothing is left"));
}

#[test]
fn pins_are_data() {
    let system = System::manual(1);
    let a = vnet(&system, "a");
    let _socket = UdpSocket::bind_in(&a, "127.0.0.1:53").unwrap();
    let _inside = a.enter();
    let seen = pins(&a);
    let text = serde_json::to_string(&seen).unwrap();
    assert_eq!(serde_json::from_str::<Pins>(&text).unwrap(), seen);
}

#[test]
fn a_strict_destruction_may_race_with_whoever_comes_and_goes() {
    let system = System::threads();
    for _ in 0..100 {
        let a = vnet(&system, "a");
        let tenant = Vnet::clone(&a);
        std::thread::scope(|s| {
            let user = s.spawn(move || {
                let mut made = 0;
                loop {
                    match UdpSocket::bind_in(&tenant, "127.0.0.1:0") {
                        Ok(_) => made += 1,
                        Err(e) => {
                            assert!(SocketError::is_gone(&e), "{e:?}");
                            return made;
                        }
                    }
                    if let Ok(child) = tenant.create_child("c") {
                        drop(child);
                    }
                }
            });
            let mut vnet = a;
            let report = loop {
                match vnet.try_destroy() {
                    Ok(report) => break report,
                    Err((again, pins)) => {
                        assert!(!pins.is_empty());
                        vnet = again;
                    }
                }
            };
            assert_clean(&report);
            assert_eq!(
                report.released.sockets(),
                0,
                "what it refused for was gone: {report}"
            );
            assert!(report.children.is_empty());
            user.join().unwrap();
        });
    }
}

//! Promise: what is safe by itself is safe while somebody else does something else. Each test
//! lets several parts of the library meet, in threads or at the end of a system, and then asks
//! for the laws: every frame is accounted for, teardown leaves nothing, memory is given back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use vnet::capture::{CaptureOptions, Recorder, Writing};
use vnet::net::{TcpListener, TcpStream, UdpSocket};
use vnet::{
    AdminError, Forwarding, InitRecord, RunError, RunLimit, Stage, System, TaskError, Vnet,
};
use vnet_tests::accounts::{assert_clean, assert_conserved};
use vnet_tests::topology::{pair, vnet};

/// A broadcast of nobody's protocol.
fn broadcast(n: usize) -> Vec<u8> {
    let mut frame = vec![0xff; 60];
    frame[6..12].copy_from_slice(&[2, 9, 9, 9, 9, n as u8]);
    frame[12..14].copy_from_slice(&[0x88, 0xb5]);
    frame
}

/// A recorder into nothing, with a thread of its own.
fn recorder() -> Recorder {
    let nowhere = |_slot| Ok(Box::new(std::io::sink()) as Box<dyn std::io::Write + Send>);
    let writing = Writing::Queued { max_bytes: 1 << 16 };
    let options = CaptureOptions {
        writing,
        ..CaptureOptions::default()
    };
    Recorder::new(nowhere, options).unwrap()
}

#[test]
fn home_and_borrower_end_while_a_third_returns_the_interface() {
    let system = System::threads();
    for round in 0..300 {
        let (home, child_of) = (vnet(&system, "home"), vnet(&system, "other"));
        let borrower = child_of.create_child("borrower").unwrap();
        let port = home.port("p", None).unwrap();
        home.move_interface("p", &borrower).unwrap();
        let returner = Vnet::clone(&borrower);
        let start = Barrier::new(3);
        let wait = |n: usize| {
            start.wait();
            (0..(round * (n + 1)) % 7).for_each(|_| thread::yield_now());
        };
        thread::scope(|s| {
            let one = s.spawn(|| {
                wait(0);
                home.destroy()
            });
            let two = s.spawn(|| {
                wait(1);
                child_of.destroy()
            });
            wait(2);
            let returned = returner.return_interface("p");
            let is_expected = matches!(
                returned,
                Ok(_) | Err(AdminError::Gone | AdminError::NotFound(_) | AdminError::AtHome(_))
            );
            assert!(is_expected, "{returned:?}");
            for report in [one.join().unwrap(), two.join().unwrap()] {
                assert_clean(&report);
                report.children.iter().for_each(assert_clean);
            }
        });
        assert!(borrower.interfaces().is_err() && system.names().is_empty());
        while port.recv().is_some() {}
        assert_eq!(
            port.carrier(),
            vnet::Carrier::Down,
            "nobody has the interface"
        );
    }
}

#[test]
fn a_captured_member_of_a_bridge_moves_while_frames_flood() {
    let system = System::threads();
    let (hub, other) = (vnet(&system, "hub"), vnet(&system, "other"));
    hub.bridge("br").unwrap();
    let ports: Vec<_> = (0..4)
        .map(|n| {
            let name = format!("p{n}");
            let port = hub.port(&name, None).unwrap();
            hub.add_member("br", &name).unwrap();
            port
        })
        .collect();
    let (done, recorder) = (AtomicBool::new(false), recorder());
    thread::scope(|s| {
        for (n, port) in ports.iter().enumerate() {
            let done = &done;
            s.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let _ = port.send(broadcast(n));
                    while port.recv().is_some() {}
                }
            });
        }
        for _ in 0..300 {
            let tap = recorder.tap("p1").unwrap();
            let capture = hub.start_capture("p1", tap).unwrap();
            hub.move_interface("p1", &other).unwrap();
            assert!(other.captures("p1").unwrap().is_empty());
            hub.reclaim_interface("p1").unwrap();
            hub.add_member("br", "p1").unwrap();
            drop(capture);
        }
        done.store(true, Ordering::Relaxed);
    });
    recorder.finish().unwrap();
    for v in [&hub, &other] {
        assert_conserved(v);
    }
    assert_clean(&hub.destroy());
    assert_clean(&other.destroy());
}

#[test]
fn a_twin_of_what_others_are_configuring_is_one_of_its_states() {
    let system = System::threads();
    let a = vnet(&system, "a");
    a.port("p", None).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|s| {
        s.spawn(|| {
            // Always the address first and the route through its network after it.
            while !done.load(Ordering::Relaxed) {
                a.add_address("p", "10.1.0.1/24".parse().unwrap()).unwrap();
                a.add_route(
                    "10.2.0.0/16".parse().unwrap(),
                    vnet::NextHop::Gateway([10, 1, 0, 2].into()),
                )
                .unwrap();
                a.set_forwarding(Forwarding::Enabled).unwrap();
                a.remove_route("10.2.0.0/16".parse().unwrap()).unwrap();
                a.remove_address("p", [10, 1, 0, 1].into()).unwrap();
                a.set_forwarding(Forwarding::Disabled).unwrap();
            }
        });
        for _ in 0..200 {
            let record = a.record().unwrap();
            let twin = system.replay(&record, "twin").unwrap();
            let again = twin.record().unwrap();
            assert_eq!(again.ops, record.ops, "the twin's own record");
            assert_clean(&twin.destroy());
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_clean(&a.destroy());
}

#[test]
fn what_never_rests_stops_at_a_limit() {
    fn breed(system: System) {
        let again = system.clone();
        drop(system.spawn_future(async move { breed(again) }));
    }
    let system = System::virtual_time(1);
    breed(system.clone());
    let stopped = system.run_until_idle(RunLimit::events(10_000));
    assert!(
        matches!(stopped, Err(RunError::Events { .. })),
        "{stopped:?}"
    );

    // Two bridges with two wires between them: a broadcast goes round, at once, until it is old.
    let system = System::virtual_time(1);
    let (a, b) = (vnet(&system, "a"), vnet(&system, "b"));
    for name in ["e0", "e1"] {
        a.epair(name, &b, name).unwrap();
    }
    let port = a.port("p", None).unwrap();
    for (v, members) in [(&a, &["e0", "e1", "p"][..]), (&b, &["e0", "e1"])] {
        v.bridge("br").unwrap();
        members.iter().for_each(|m| v.add_member("br", m).unwrap());
    }
    port.send(broadcast(1)).unwrap();
    // Without a limit on hops this would go round at one instant for ever.
    let events = system.run_until_idle(RunLimit::events(2_000)).unwrap();
    assert!(events > 10, "it does go round: {events}");
    for v in [a, b] {
        assert_conserved(&v);
        assert_clean(&v.destroy());
    }
}

/// Makes a system in which everything refers to everything, and lets go of it in some order. The
/// token is held by an init step, and so by the system's core.
fn crowded(system: System, token: &Arc<()>, order: u32) {
    let held = Arc::clone(token);
    let step = InitRecord::new(
        "token",
        Stage::Services,
        0,
        |_| Ok(()),
        move |_| {
            let _ = &held;
            Ok(())
        },
    );
    system.register(step).unwrap();
    let (a, b) = pair(&system);
    let child = a.create_child("child").unwrap();
    let port = a.port("p", None).unwrap();
    a.move_interface("p", &child).unwrap();
    let recorder = recorder();
    let tap = recorder.tap("a:eth0").unwrap();
    let capture = a.start_capture("eth0", tap).unwrap();
    let udp = UdpSocket::bind_in(&a, "10.0.0.1:7").unwrap();
    let own = udp.try_clone().unwrap();
    let _ = own.set_nonblocking(true);
    // A socket whose list of waiters has the task, which has the socket, and its vnet.
    let me = Vnet::clone(&a);
    let task = a.spawn_future(async move {
        let mut buf = [0; 8];
        let _ = std::future::poll_fn(|cx| own.poll_recv_from(cx, &mut buf)).await;
        drop(me);
    });
    let nap = b.spawn_future(system.sleep_async(Duration::from_secs(1000)));
    let listener = TcpListener::bind_in(&b, "10.0.0.2:80").unwrap();
    let stream = TcpStream::start_connect_in(&a, "10.0.0.2:80".parse().unwrap());
    let _ = port.send(broadcast(1));
    let here = Vnet::clone(&b);
    drop(here.enter());
    match order {
        0 => {
            drop((a, b, child));
            // A worker may be polling it at that moment: then its socket tells it, and it ends by
            // itself.
            assert!(matches!(task.join(), Err(TaskError::Gone) | Ok(())));
            drop((
                nap, system, port, capture, udp, listener, stream, recorder, here,
            ));
        }
        1 => {
            drop((system, recorder, port, capture, udp, task));
            drop((child, stream, b, listener, nap, a, here));
        }
        _ => {
            drop((here, listener, stream, udp, task, nap, capture, recorder));
            drop((child, system, a, b));
            drop(port);
        }
    }
}

#[test]
fn whatever_refers_to_whatever_a_system_is_given_back() {
    for order in 0..3 {
        for make in [
            || System::manual(1),
            || System::virtual_time(1),
            System::threads as fn() -> System,
        ] {
            let token = Arc::new(());
            let theirs = Arc::clone(&token);
            // The thread keeps references to the vnets that it has entered.
            thread::spawn(move || crowded(make(), &theirs, order))
                .join()
                .unwrap();
            // A worker or a capture's thread may be the last, a moment later.
            for _ in 0..2_000 {
                if Arc::strong_count(&token) == 1 {
                    break;
                }
                thread::sleep(std::time::Duration::from_millis(1));
            }
            assert_eq!(Arc::strong_count(&token), 1, "order {order}");
        }
    }
}

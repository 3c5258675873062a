//! Promise: an instance that is shut down gracefully takes nothing new, finishes what it has, and
//! is gone at its deadline at the latest.

use std::io::{ErrorKind, Read, Write};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use vnet::net::{TcpListener, TcpStream, UdpSocket};
use vnet::{
    AdminError, CreateError, Graceful, OwnedVnet, ShutdownError, SocketError, System,
    ThreadsConfig, Vnet,
};
use vnet_tests::accounts::{assert_clean, run_until_idle};
use vnet_tests::topology::{pair, vnet};

const GRACE: Duration = Duration::from_secs(10);

fn graceful(report: &vnet::DestroyReport) -> Graceful {
    assert_clean(report);
    report.graceful.expect("it was shut down gracefully")
}

/// Connections from `a` to `b`, at both ends.
fn connect(a: &Vnet, b: &Vnet, n: usize) -> Vec<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind_in(b, "10.0.0.2:80").unwrap();
    (0..n)
        .map(|_| {
            let near = TcpStream::connect_in(a, "10.0.0.2:80").unwrap();
            (near, listener.accept().unwrap().0)
        })
        .collect()
}

#[test]
fn what_was_written_arrives_and_the_peer_sees_the_end_and_no_reset() {
    let system = System::virtual_time(1);
    let (a, b) = pair(&system);
    let mut streams = connect(&a, &b, 3);
    for (near, _) in &mut streams {
        near.write_all(&[7; 50_000]).unwrap();
    }
    let readers: Vec<_> = streams
        .into_iter()
        .map(|(near, mut far)| {
            let reader = system.spawn(move || {
                let mut all = Vec::new();
                far.read_to_end(&mut all).map(|_| all.len())
            });
            (near, reader.unwrap())
        })
        .collect();
    let report = a.shutdown(GRACE).unwrap();
    let seen = graceful(&report);
    assert_eq!((seen.closed, seen.revoked), (3, 0));
    assert!(seen.waited < Duration::from_secs(1), "{seen}");
    assert!(
        report
            .to_string()
            .contains("3 connections closed, 0 revoked"),
        "{report}"
    );
    for (mut near, reader) in readers {
        assert_eq!(reader.join().unwrap().unwrap(), 50_000);
        assert!(SocketError::is_gone(&near.read(&mut [0; 1]).unwrap_err()));
    }
    assert_clean(&b.destroy());
}

#[test]
fn nothing_new_begins_and_what_there_is_goes_on_until_it_ends() {
    let system = System::manual(1);
    let (a, b) = pair(&system);
    let listener = TcpListener::bind_in(&a, "10.0.0.1:80").unwrap();
    let udp = UdpSocket::bind_in(&a, "10.0.0.1:53").unwrap();
    let waits = TcpStream::start_connect_in(&b, "10.0.0.1:80".parse().unwrap()).unwrap();
    run_until_idle(&system, 1000);
    let served = listener.accept().unwrap().0;
    let never_accepted = TcpStream::start_connect_in(&b, "10.0.0.1:80".parse().unwrap()).unwrap();
    run_until_idle(&system, 1000);
    a.begin_shutdown().unwrap();
    a.begin_shutdown().expect("once more changes nothing");
    let tenant = Vnet::clone(&a);
    for error in [
        UdpSocket::bind_in(&tenant, "127.0.0.1:0").map(drop),
        TcpListener::bind_in(&a, "127.0.0.1:0").map(drop),
        TcpStream::start_connect_in(&a, "10.0.0.2:9".parse().unwrap()).map(drop),
        listener.accept().map(drop),
        (&served).write(b"x").map(drop).map_err(|e| {
            assert_eq!(e.kind(), ErrorKind::BrokenPipe);
            std::io::Error::other("asserted")
        }),
    ] {
        let error = error.unwrap_err();
        assert!(
            SocketError::is_gone(&error) || error.to_string() == "asserted",
            "{error:?}"
        );
    }
    assert!(matches!(a.create_child("c"), Err(CreateError::Gone)));
    b.port("tap0", None).unwrap();
    assert_eq!(b.move_interface("tap0", &a), Err(AdminError::TargetGone));
    assert!(b.pins().unwrap().lent.is_empty());
    assert_eq!(b.interfaces().unwrap().last().unwrap().name, "tap0");
    run_until_idle(&system, 1000);
    // Nobody had accepted that one.
    assert_eq!(
        (&never_accepted).read(&mut [0; 8]).unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
    // The peer has all the time of the grace, and is heard.
    assert_eq!((&waits).read(&mut [0; 8]).unwrap(), 0);
    (&waits).write_all(b"last words").unwrap();
    run_until_idle(&system, 1000);
    let mut text = [0; 32];
    let n = (&served).read(&mut text).unwrap();
    assert_eq!(&text[..n], b"last words");
    udp.send_to(b"x", "10.0.0.2:9")
        .expect("it has no connection to end");
    assert!(!a.is_drained());
    drop(waits);
    run_until_idle(&system, 1000);
    assert!(a.is_drained());
    let seen = graceful(&a.destroy());
    assert_eq!((seen.closed, seen.revoked), (2, 0));
}

#[test]
fn a_peer_that_never_closes_is_waited_for_until_the_deadline_and_then_reset() {
    let system = System::virtual_time(1);
    let (a, b) = pair(&system);
    let mut streams = connect(&a, &b, 2);
    let (_near, mut far) = streams.pop().unwrap();
    // The other one is closed from both sides, and does not count.
    drop(streams);
    system.sleep(Duration::from_millis(10)).unwrap();
    // Something goes on elsewhere all the time: the world has always something left to do.
    let busy = system.clone();
    let _busy = system.spawn(move || {
        for _ in 0..40 {
            busy.sleep(Duration::from_secs(1)).unwrap();
        }
    });
    let from = system.now();
    let report = a.shutdown(GRACE).unwrap();
    let seen = graceful(&report);
    assert_eq!((seen.closed, seen.revoked, seen.waited), (0, 1, GRACE));
    assert_eq!(system.now() - from, GRACE);
    assert_eq!(far.read(&mut [0; 8]).unwrap(), 0, "the FIN came first");
    system.sleep(Duration::from_millis(10)).unwrap();
    // A reset after the end of the stream, as BSD and Linux tell it.
    let reset = far.write(b"x").unwrap_err();
    assert_eq!(reset.kind(), ErrorKind::BrokenPipe);
}

#[test]
fn on_the_wall_clock_it_returns_as_soon_as_all_is_closed() {
    let system = System::threads();
    let (a, b) = pair(&system);
    let child = a.create_child("child").unwrap();
    let streams = connect(&a, &b, 5);
    let (near, far): (Vec<_>, Vec<_>) = streams.into_iter().unzip();
    let closer = std::thread::spawn(move || {
        for mut far in far {
            assert_eq!(far.read(&mut [0; 8]).unwrap(), 0);
        }
    });
    let report = a.shutdown(Duration::from_secs(60)).unwrap();
    let seen = graceful(&report);
    assert_eq!((seen.closed, seen.revoked), (5, 0));
    assert!(
        seen.waited < Duration::from_secs(30),
        "it did not wait for the deadline"
    );
    assert_eq!(graceful(&report.children[0]).closed, 0);
    closer.join().unwrap();
    drop((near, child));
}

#[test]
fn children_drain_with_their_parent() {
    let system = System::virtual_time(1);
    let (a, b) = pair(&system);
    let child = b.create_child("child").unwrap();
    b.move_interface("eth0", &child).unwrap();
    child
        .add_address("eth0", "10.0.0.2/24".parse().unwrap())
        .unwrap();
    let mut streams = connect(&a, &child, 1);
    let (mut near, far) = streams.pop().unwrap();
    let ends = system
        .spawn(move || near.read(&mut [0; 8]).unwrap())
        .unwrap();
    let report = b.shutdown(GRACE).unwrap();
    assert_eq!(graceful(&report).closed, 0);
    assert_eq!(graceful(&report.children[0]).closed, 1);
    assert_eq!(report.children[0].returned.len(), 1);
    assert_eq!(ends.join().unwrap(), 0);
    drop((far, child));
}

#[test]
fn all_who_wait_for_an_instance_hear_of_its_end() {
    let system = System::virtual_time(1);
    let (a, b) = pair(&system);
    let child = b.create_child("child").unwrap();
    b.move_interface("eth0", &child).unwrap();
    child
        .add_address("eth0", "10.0.0.2/24".parse().unwrap())
        .unwrap();
    let mut streams = connect(&a, &child, 1);
    let (near, far) = streams.pop().unwrap();
    let clock = system.clone();
    // The world is never at rest: who is forgotten waits for all of its time.
    let _busy = system.spawn(move || (0..200).map(|_| clock.sleep(GRACE / 10).unwrap()).count());
    let clock = system.clone();
    let peer = system.spawn(move || {
        clock.sleep(Duration::from_secs(1)).unwrap();
        drop(near);
    });
    let clock = system.clone();
    let second = system.spawn(move || {
        // After the parent's owner has begun to wait.
        clock.sleep(Duration::from_millis(10)).unwrap();
        child.shutdown(GRACE).unwrap()
    });
    let report = b.shutdown(10 * GRACE).unwrap();
    let waited = graceful(&report).waited;
    assert!(waited < Duration::from_secs(2), "{waited:?}");
    second.unwrap().join().unwrap();
    peer.unwrap().join().unwrap();
    drop(far);
}

#[test]
fn where_nobody_can_wait_the_handle_comes_back_with_an_error() {
    let system = System::manual(1);
    let (a, b) = pair(&system);
    let listener = TcpListener::bind_in(&b, "10.0.0.2:80").unwrap();
    let near = TcpStream::start_connect_in(&a, "10.0.0.2:80".parse().unwrap()).unwrap();
    run_until_idle(&system, 1000);
    let far = listener.accept().unwrap().0;
    let refused = a.shutdown(GRACE).unwrap_err();
    assert!(refused.to_string().contains("does not wait"), "{refused}");
    let ShutdownError::WouldBlock(a) = refused else {
        panic!("{refused}")
    };
    assert!(!a.is_drained());
    drop(far);
    run_until_idle(&system, 1000);
    assert!(a.is_drained());
    let report = a
        .shutdown(GRACE)
        .expect("there is nothing to wait for any more");
    assert_eq!(graceful(&report).closed, 1);
    drop(near);
    // With nothing to wait for it is as good as destroy, under any driver.
    let idle = vnet(&system, "idle");
    assert_clean(&idle.shutdown(GRACE).unwrap());
    let gone = vnet(&system, "parent");
    let child = gone.create_child("child").unwrap();
    gone.destroy();
    assert_eq!(child.begin_shutdown(), Err(vnet::Gone));
    assert!(child.is_drained());
    child.shutdown(GRACE).expect("it is gone already");
}

/// A waker that shuts an instance down.
struct Shutter(Mutex<Option<OwnedVnet>>, Mutex<Vec<String>>);

impl Wake for Shutter {
    fn wake(self: Arc<Self>) {
        let Some(victim) = self.0.lock().unwrap().take() else {
            return;
        };
        let said = match victim.shutdown(GRACE) {
            Ok(report) => format!("{:?}", report.outcome),
            Err(ShutdownError::InCallback(_)) => "InCallback".to_owned(),
            Err(error) => error.to_string(),
        };
        self.1.lock().unwrap().push(said);
    }
}

#[test]
fn a_callback_that_would_have_to_wait_is_told_so_and_the_instance_goes() {
    let one_worker = ThreadsConfig {
        workers: 1,
        ..ThreadsConfig::default()
    };
    for system in [System::virtual_time(1), System::threads_with(one_worker)] {
        let (a, b) = pair(&system);
        let streams = connect(&a, &b, 1);
        let udp = UdpSocket::bind_in(&b, "10.0.0.2:7").unwrap();
        let client = UdpSocket::bind_in(&a, "10.0.0.1:7").unwrap();
        let shutter = Arc::new(Shutter(Mutex::new(Some(b)), Mutex::default()));
        let waker = Waker::from(Arc::clone(&shutter));
        let mut task = Context::from_waker(&waker);
        assert!(udp.poll_recv_from(&mut task, &mut [0; 8]).is_pending());
        client.send_to(b"die", "10.0.0.2:7").unwrap();
        for _ in 0..2000 {
            system.sleep(Duration::from_millis(1)).unwrap();
            if !shutter.1.lock().unwrap().is_empty() {
                break;
            }
        }
        assert_eq!(*shutter.1.lock().unwrap(), ["InCallback"]);
        // The error had the handle, and was dropped.
        assert!(system.vnet("b").is_none());
        assert!(SocketError::is_gone(
            &udp.recv_from(&mut [0; 8]).unwrap_err()
        ));
        drop(streams);
    }
}

#[test]
fn neither_a_graceful_nor_an_abrupt_end_is_limited_in_whom_it_tells() {
    const MANY: usize = 2500;
    for grace in [Some(GRACE), None] {
        let system = System::virtual_time(1);
        let (a, b) = pair(&system);
        let streams = connect(&a, &b, MANY);
        let (near, far): (Vec<_>, Vec<_>) = streams.into_iter().unzip();
        let report = match grace {
            None => {
                let report = a.destroy();
                assert_clean(&report);
                report
            }
            Some(grace) => {
                let far: Vec<_> = far.iter().map(|f| f.try_clone().unwrap()).collect();
                let closer = system.spawn(move || {
                    for mut far in far {
                        assert_eq!(far.read(&mut [0; 1]).unwrap(), 0);
                        far.shutdown(std::net::Shutdown::Both).unwrap();
                    }
                });
                let report = a.shutdown(grace).unwrap();
                assert_eq!(graceful(&report).closed, MANY);
                closer.unwrap().join().unwrap();
                report
            }
        };
        assert_eq!(report.graceful.is_some(), grace.is_some());
        system.sleep(Duration::from_millis(10)).unwrap();
        let mut told = 0;
        for mut far in far {
            match far.read(&mut [0; 1]) {
                Ok(0) if grace.is_some() => told += 1,
                Err(e) if e.kind() == ErrorKind::ConnectionReset && grace.is_none() => told += 1,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(told, MANY);
        drop(near);
    }
}

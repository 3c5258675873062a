//! Promise: nobody who waits in an instance, and nothing that runs in it, keeps it from being
//! destroyed; destroying it from anywhere is safe.

use std::io::{ErrorKind, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use vnet::net::{EchoSocket, TcpListener, TcpStream, UdpSocket};
use vnet::{DestroyReport, InitRecord, OwnedVnet, SocketError, Stage, System, Vnet};
use vnet_tests::accounts::assert_clean;
use vnet_tests::topology::{pair, vnet};

/// Longer than any of these tests may take, for waits that end only when something is wrong.
const STUCK: Duration = Duration::from_secs(20);

// ---- Who waits in it ----

/// Runs `call` in a thread and waits until it blocks; what it returned comes through the channel.
fn blocked<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> mpsc::Receiver<T> {
    let (started, starts) = mpsc::channel();
    let (done, result) = mpsc::channel();
    std::thread::spawn(move || {
        started.send(()).unwrap();
        let _ = done.send(call());
    });
    starts.recv().unwrap();
    // Long enough to be inside the call nearly always; the promise holds before it as well.
    std::thread::sleep(Duration::from_millis(20));
    result
}

// Rows 10 and 28: nobody who waits in an instance keeps it from going.
#[test]
fn calls_that_wait_in_other_threads_return_gone_at_once() {
    let system = System::threads();
    let (a, b) = pair(&system);
    let listener = TcpListener::bind_in(&b, "0.0.0.0:80").unwrap();
    let outgoing = TcpStream::connect_in(&b, "10.0.0.2:80").unwrap();
    let (_accepted, _) = listener.accept().unwrap();
    let udp = UdpSocket::bind_in(&b, "0.0.0.0:7").unwrap();
    let echo = EchoSocket::bind_in(&b).unwrap();
    let connecting = Vnet::clone(&b);
    let mut reading = outgoing.try_clone().unwrap();
    let waiting = [
        blocked(move || listener.accept().map(drop)),
        blocked(move || udp.recv_from(&mut [0; 8]).map(drop)),
        blocked(move || echo.recv().map(drop)),
        blocked(move || reading.read(&mut [0; 8]).map(drop)),
        // Nobody is at that address: this waits for a neighbour.
        blocked(move || TcpStream::connect_in(&connecting, "10.0.0.99:80").map(drop)),
    ];
    for wait in &waiting {
        assert!(wait.try_recv().is_err(), "it waits");
    }
    assert_clean(&b.destroy());
    for (n, wait) in waiting.iter().enumerate() {
        let result = wait.recv_timeout(STUCK).expect("it must not hang");
        let error = result.expect_err("there was nothing to return");
        assert!(SocketError::is_gone(&error), "call {n}: {error:?}");
        assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
    }
    assert_clean(&a.destroy());
}

#[test]
fn a_writer_that_waits_for_a_full_buffer_returns_gone() {
    let system = System::threads();
    let (a, b) = pair(&system);
    let listener = TcpListener::bind_in(&b, "0.0.0.0:80").unwrap();
    let mut stream = TcpStream::connect_in(&a, "10.0.0.2:80").unwrap();
    let (_never_read, _) = listener.accept().unwrap();
    let wait = blocked(move || {
        loop {
            if let Err(e) = std::io::Write::write(&mut stream, &[0; 65_536]) {
                return e;
            }
        }
    });
    let report = a.destroy();
    assert_clean(&report);
    let error = wait.recv_timeout(STUCK).expect("it must not hang");
    assert!(SocketError::is_gone(&error), "{error:?}");
}

#[test]
fn calls_that_wait_under_virtual_time_return_gone() {
    let system = System::virtual_time(1);
    let (a, b) = pair(&system);
    let socket = UdpSocket::bind_in(&b, "0.0.0.0:7").unwrap();
    let listener = TcpListener::bind_in(&b, "0.0.0.0:80").unwrap();
    let receiving = system.spawn(move || socket.recv_from(&mut [0; 8]).unwrap_err());
    let accepting = system.spawn(move || listener.accept().unwrap_err());
    system.sleep(Duration::from_secs(1)).unwrap();
    assert_clean(&b.destroy());
    for thread in [receiving.unwrap(), accepting.unwrap()] {
        assert!(SocketError::is_gone(&thread.join().unwrap()));
    }
    assert_clean(&a.destroy());
}

#[test]
fn futures_that_wait_are_woken_and_told() {
    let system = System::manual(1);
    let a = vnet(&system, "a");
    let socket = UdpSocket::bind_in(&a, "0.0.0.0:7").unwrap();
    let listener = TcpListener::bind_in(&a, "0.0.0.0:80").unwrap();
    // A bell each: nobody may be woken by chance, with somebody else.
    let bells = [Arc::new(Flag::default()), Arc::new(Flag::default())];
    let wakers = bells.clone().map(Waker::from);
    let [mut receiving, mut accepting] = [0, 1].map(|n: usize| Context::from_waker(&wakers[n]));
    assert!(
        socket
            .poll_recv_from(&mut receiving, &mut [0; 8])
            .is_pending()
    );
    assert!(listener.poll_accept(&mut accepting).is_pending());
    assert_clean(&a.destroy());
    for bell in &bells {
        assert!(bell.0.load(Ordering::SeqCst));
    }
    let Poll::Ready(Err(error)) = socket.poll_recv_from(&mut receiving, &mut [0; 8]) else {
        panic!("there is nothing to wait for");
    };
    assert!(SocketError::is_gone(&error));
    assert!(
        matches!(listener.poll_accept(&mut accepting), Poll::Ready(Err(e)) if SocketError::is_gone(&e))
    );
}

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

// ---- From where it is destroyed ----

/// A waker that destroys an instance.
struct Destroyer {
    victim: Mutex<Option<OwnedVnet>>,
    report: Mutex<Option<DestroyReport>>,
}

impl Destroyer {
    fn of(victim: OwnedVnet) -> Arc<Destroyer> {
        Arc::new(Destroyer {
            victim: Mutex::new(Some(victim)),
            report: Mutex::new(None),
        })
    }

    fn strike(&self) {
        let victim = self.victim.lock().unwrap().take();
        if let Some(victim) = victim {
            *self.report.lock().unwrap() = Some(victim.destroy());
        }
    }

    fn report(&self) -> Option<DestroyReport> {
        self.report.lock().unwrap().take()
    }
}

impl Wake for Destroyer {
    fn wake(self: Arc<Self>) {
        self.strike();
    }
}

fn systems() -> [System; 3] {
    [
        System::manual(1),
        System::virtual_time(1),
        System::threads(),
    ]
}

/// Lets what was set off happen, under any driver.
fn settle(system: &System, done: impl Fn() -> bool) {
    for _ in 0..2_000 {
        system.poll(system.now() + Duration::from_millis(1));
        let _ = system.sleep(Duration::from_millis(1));
        if done() {
            return;
        }
    }
    panic!("it did not happen");
}

// Row 9: the removal ran on the queue that it drained.
#[test]
fn an_instance_may_be_destroyed_from_its_own_waker() {
    for system in systems() {
        let (a, b) = pair(&system);
        let socket = UdpSocket::bind_in(&b, "0.0.0.0:7").unwrap();
        let client = UdpSocket::bind_in(&a, "0.0.0.0:0").unwrap();
        let destroyer = Destroyer::of(b);
        let waker = Waker::from(Arc::clone(&destroyer));
        let mut task = Context::from_waker(&waker);
        assert!(socket.poll_recv_from(&mut task, &mut [0; 8]).is_pending());
        client.send_to(b"die", "10.0.0.2:7").unwrap();
        let report = std::cell::OnceCell::new();
        settle(&system, || match destroyer.report() {
            Some(r) => report.set(r).is_ok(),
            None => false,
        });
        assert_clean(report.get().unwrap());
        assert!(SocketError::is_gone(
            &socket.recv_from(&mut [0; 8]).unwrap_err()
        ));
        assert_clean(&a.destroy());
    }
}

#[test]
fn an_instance_may_be_destroyed_from_a_ports_callback() {
    for system in systems() {
        let a = vnet(&system, "a");
        let port = Arc::new(a.port("eth0", None).unwrap());
        let handle = Vnet::clone(&a);
        let destroyer = Destroyer::of(a);
        let strike = Arc::clone(&destroyer);
        port.on_ready(Arc::new(move || strike.strike()));
        // The announcement of the address rings the bell, in the middle of this call.
        let _ = handle.add_address("eth0", "192.0.2.1/24".parse().unwrap());
        let report = std::cell::OnceCell::new();
        settle(&system, || match destroyer.report() {
            Some(r) => report.set(r).is_ok(),
            None => false,
        });
        assert_clean(report.get().unwrap());
        assert!(port.is_gone());
        assert!(handle.interfaces().is_err());
    }
}

#[test]
fn an_instance_may_be_destroyed_by_its_own_step() {
    for system in systems() {
        let destroyer = Destroyer::of(vnet(&system, "a"));
        let undone = Arc::new(AtomicBool::new(false));
        let (strike, note) = (Arc::clone(&destroyer), Arc::clone(&undone));
        let record = InitRecord::new(
            "suicide",
            Stage::Services,
            0,
            move |_| {
                strike.strike();
                Ok(())
            },
            move |_| {
                note.store(true, Ordering::SeqCst);
                Ok(())
            },
        );
        system.register(record).expect("the step itself succeeded");
        assert_clean(&destroyer.report().expect("it was destroyed"));
        assert!(undone.load(Ordering::SeqCst), "a step that ran is undone");
        assert!(system.vnet("a").is_none());
        let b = vnet(&system, "b");
        assert_clean(&b.destroy());
    }
}

#[test]
fn an_instance_may_be_destroyed_by_its_own_thread() {
    for system in systems() {
        let a = vnet(&system, "a");
        let handle = Vnet::clone(&a);
        let report = handle.spawn(move || {
            let report = a.destroy();
            assert_eq!(
                Vnet::current().unwrap().name(),
                "a",
                "a name is left to stand in"
            );
            report
        });
        assert_clean(&report.unwrap().join().unwrap());
    }
}

#[test]
fn two_instances_may_destroy_each_other_by_way_of_their_wakers() {
    for system in systems() {
        let (a, b) = pair(&system);
        let at_a = UdpSocket::bind_in(&a, "0.0.0.0:7").unwrap();
        let at_b = UdpSocket::bind_in(&b, "0.0.0.0:7").unwrap();
        let (kill_a, kill_b) = (Destroyer::of(a), Destroyer::of(b));
        // The teardown of b wakes the socket of b, whose waker destroys a, and the other way.
        let wakers = [
            Waker::from(Arc::clone(&kill_a)),
            Waker::from(Arc::clone(&kill_b)),
        ];
        assert!(
            at_b.poll_recv_from(&mut Context::from_waker(&wakers[0]), &mut [0; 8])
                .is_pending()
        );
        assert!(
            at_a.poll_recv_from(&mut Context::from_waker(&wakers[1]), &mut [0; 8])
                .is_pending()
        );
        kill_b.strike();
        for destroyer in [kill_a, kill_b] {
            assert_clean(&destroyer.report().expect("both are gone"));
        }
        assert_eq!(system.names(), [""; 0]);
    }
}

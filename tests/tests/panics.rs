//! A callback of a program's may panic. Everything else is done all the same, under every driver;
//! and the panic goes to the call that ran the callback, if that was a call of the vnet whose
//! callback it is, and to nobody else.

use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use vnet::capture::FrameTap;
use vnet::net::{TcpListener, TcpStream, UdpSocket};
use vnet::time::Instant;
use vnet::{Direction, DropReason, OwnedVnet, Packet, System, Vnet};
use vnet_tests::accounts::{assert_clean, assert_conserved};

const PATIENCE: Duration = Duration::from_secs(20);
const SAID: &str = "a callback of the program";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Driver {
    Threads,
    Virtual,
    Manual,
}

const DRIVERS: [Driver; 3] = [Driver::Threads, Driver::Virtual, Driver::Manual];

impl Driver {
    fn system(self) -> System {
        match self {
            Driver::Threads => System::threads(),
            Driver::Virtual => System::virtual_time(1),
            Driver::Manual => System::manual(1),
        }
    }
}

/// Lets the world go on until `done`; returns what polls have panicked with.
#[track_caller]
fn until(system: &System, mut done: impl FnMut() -> bool) -> usize {
    let give_up = std::time::Instant::now() + PATIENCE;
    let mut panics = 0;
    while !done() {
        assert!(std::time::Instant::now() < give_up, "it never happens");
        let step = Duration::from_millis(1);
        if system.run_for(step).is_err() {
            let poll = AssertUnwindSafe(|| system.poll(system.now() + step));
            panics += usize::from(catch_unwind(poll).is_err());
            std::thread::yield_now();
        }
    }
    panics
}

#[derive(Default)]
struct Bomb(AtomicUsize);

impl Bomb {
    fn go_off(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
        std::panic::panic_any(SAID);
    }

    fn times(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Bomb {
    fn wake(self: Arc<Self>) {
        self.go_off();
    }
}

impl FrameTap for Bomb {
    fn frame(&self, _: Instant, _: Direction, _: &Packet) {
        self.go_off();
    }
}

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn wait_with(waker: Waker, socket: &UdpSocket) {
    let mut task = Context::from_waker(&waker);
    assert!(socket.poll_recv_from(&mut task, &mut [0; 8]).is_pending());
}

/// `a`, `b` and `c` in a row, all neighbours resolved.
fn row(system: &System) -> [OwnedVnet; 3] {
    let [a, b, c] = ["a", "b", "c"].map(|n| system.create(n).unwrap());
    for (near, far, net) in [(&a, &b, 0), (&b, &c, 1)] {
        let name = format!("eth{net}");
        near.epair(&name, far, &name).unwrap();
        for (vnet, host) in [(near, 1), (far, 2)] {
            let address = format!("192.0.2.{}/30", net * 4 + host);
            vnet.add_address(&name, address.parse().unwrap()).unwrap();
        }
    }
    passes(system, &a, &b, "192.0.2.2:7");
    passes(system, &b, &c, "192.0.2.6:7");
    [a, b, c]
}

#[track_caller]
fn passes(system: &System, from: &Vnet, to: &Vnet, at: &str) {
    let receiver = UdpSocket::bind_in(to, at).unwrap();
    receiver.set_nonblocking(true).unwrap();
    let sender = UdpSocket::bind_in(from, "0.0.0.0:0").unwrap();
    sender.send_to(b"still here", at).unwrap();
    until(system, || receiver.recv(&mut [0; 16]).is_ok());
}

/// What panics in the vnet that is sent to.
#[derive(Clone, Copy, Debug)]
enum Callback {
    Waker,
    Tap,
    OnReady,
}

/// One vnet's call makes another one ready, whose callback panics: that is none of the caller's.
#[test]
fn the_panic_of_a_neighbours_callback_is_not_the_callers() {
    let callbacks = [Callback::Waker, Callback::Tap, Callback::OnReady];
    for (driver, callback) in DRIVERS.iter().flat_map(|d| callbacks.map(|c| (*d, c))) {
        let system = driver.system();
        let [a, b, c] = row(&system);
        let bomb = Arc::new(Bomb::default());
        let port = b.port("tap0", None).unwrap();
        b.set_forwarding(vnet::Forwarding::Enabled).unwrap();
        let sockets: Vec<_> = (0..3)
            .map(|n| UdpSocket::bind_in(&b, ("192.0.2.2", 9000 + n)).unwrap())
            .collect();
        match callback {
            Callback::Waker => wait_with(Arc::clone(&bomb).into(), &sockets[0]),
            Callback::Tap => b.capture("eth0", bomb.clone()).unwrap(),
            Callback::OnReady => {
                let rings = Arc::clone(&bomb);
                b.add_address("tap0", "198.51.100.1/24".parse().unwrap())
                    .unwrap();
                while port.recv().is_some() {}
                port.on_ready(Arc::new(move || rings.go_off()));
            }
        }
        let flag = Arc::new(Flag::default());
        wait_with(Arc::clone(&flag).into(), &sockets[1]);

        // From `a`, which has nothing to do with it; the calls return as ever.
        let sender = UdpSocket::bind_in(&a, "0.0.0.0:0").unwrap();
        let mut polls_panicked = 0;
        if let Callback::OnReady = callback {
            a.add_route(
                "198.51.100.0/24".parse().unwrap(),
                vnet::NextHop::Gateway("192.0.2.2".parse().unwrap()),
            )
            .unwrap();
            sender.send_to(b"x", "198.51.100.9:9").unwrap();
            polls_panicked += until(&system, || bomb.times() > 0);
        }
        for n in 0..3 {
            sender.send_to(b"x", ("192.0.2.2", 9000 + n)).unwrap();
        }
        polls_panicked += until(&system, || {
            bomb.times() > 0 && flag.0.load(Ordering::SeqCst)
        });
        for socket in &sockets {
            socket.set_nonblocking(true).unwrap();
            polls_panicked += until(&system, || socket.recv(&mut [0; 8]).is_ok());
        }
        passes(&system, &b, &c, "192.0.2.6:7");
        // A tap that has panicked is not called again; the others go off when they are due.
        assert_eq!(bomb.times(), 1, "{driver:?} {callback:?}");
        match driver {
            // The embedder's own world: it is given the panic when all is done.
            Driver::Manual => assert_eq!((polls_panicked, b.callback_panics()), (1, 0)),
            _ => {
                // A worker counts it after the callback has gone off.
                polls_panicked += until(&system, || b.callback_panics() > 0);
                assert_eq!((polls_panicked, b.callback_panics()), (0, 1));
            }
        }
        for vnet in [&a, &b, &c] {
            assert_conserved(vnet);
            assert_eq!(vnet.failure(), None);
        }
        // It would be told of the teardown.
        port.on_ready(Arc::new(|| {}));
        let report = b.destroy();
        assert_clean(&report);
        assert_eq!(report.callback_panics, u64::from(driver != Driver::Manual));
    }
}

/// What a call of one's own vnet runs panics to the caller, and not before what the call has made
/// ready is serviced: nobody else would come for it.
#[test]
fn the_panic_of_ones_own_callback_comes_back_when_all_is_done() {
    for driver in DRIVERS {
        let system = driver.system();
        let [a, b, _c] = row(&system);
        let listener = TcpListener::bind_in(&b, "192.0.2.2:80").unwrap();
        let client = TcpStream::start_connect_in(&a, "192.0.2.2:80".parse().unwrap()).unwrap();
        listener.set_nonblocking(true).unwrap();
        let mut server = None;
        until(&system, || {
            server = server.take().or_else(|| listener.accept().ok());
            server.is_some()
        });
        let (server, _) = server.unwrap();
        let (told, hears) = mpsc::channel();
        let mut reads = None;
        let flag = Arc::new(Flag::default());
        if driver == Driver::Threads {
            let mut server = server;
            reads = Some(std::thread::spawn(move || {
                told.send(server.read(&mut [0; 8]).unwrap()).unwrap();
            }));
            std::thread::sleep(Duration::from_millis(50));
        } else {
            let waker = Waker::from(Arc::clone(&flag));
            let mut task = Context::from_waker(&waker);
            assert!(server.poll_read(&mut task, &mut [0; 8]).is_pending());
            let _ = told.send(0);
        }
        let bomb = Arc::new(Bomb::default());
        let waker = Waker::from(Arc::clone(&bomb));
        let mut task = Context::from_waker(&waker);
        assert!(client.poll_read(&mut task, &mut [0; 8]).is_pending());
        let close = AssertUnwindSafe(|| client.shutdown(std::net::Shutdown::Both));
        let panic = catch_unwind(close).expect_err("the waker is our own");
        assert_eq!(panic.downcast_ref(), Some(&SAID));
        // Without any further call under threads.
        assert_eq!(hears.recv_timeout(PATIENCE), Ok(0));
        if driver != Driver::Threads {
            until(&system, || flag.0.load(Ordering::SeqCst));
        }
        if let Some(reads) = reads {
            reads.join().unwrap();
        }
        assert_eq!((bomb.times(), a.callback_panics()), (1, 0));
    }
}

/// A socket that is dropped by a panic, and whose waker panics as well, does not end the process.
#[test]
fn a_waker_may_panic_while_its_socket_is_dropped_by_a_panic() {
    for driver in DRIVERS {
        let system = driver.system();
        let a = system.create("a").unwrap();
        let bomb = Arc::new(Bomb::default());
        let socket = UdpSocket::bind_in(&a, "127.0.0.1:9").unwrap();
        wait_with(Arc::clone(&bomb).into(), &socket);
        let first = catch_unwind(AssertUnwindSafe(|| {
            let _socket = socket;
            std::panic::panic_any("the first panic");
        }));
        let first = first.expect_err("it panics");
        assert_eq!(first.downcast_ref(), Some(&"the first panic"));
        assert_eq!((bomb.times(), a.callback_panics()), (1, 1));
        assert_clean(&a.destroy());
    }
}

/// A capture that panics on a frame costs neither that frame nor the next one.
#[test]
fn a_capture_that_panics_ends_and_the_frame_goes_its_way() {
    let system = System::manual(1);
    let [a, b, _c] = row(&system);
    let bomb = Arc::new(Bomb::default());
    a.capture("eth0", bomb.clone()).unwrap();
    let receiver = UdpSocket::bind_in(&b, "192.0.2.2:9").unwrap();
    let sender = UdpSocket::bind_in(&a, "0.0.0.0:0").unwrap();
    let sent = AssertUnwindSafe(|| sender.send_to(b"one", "192.0.2.2:9"));
    assert!(catch_unwind(sent).is_err(), "a capture of one's own");
    sender.send_to(b"two", "192.0.2.2:9").unwrap();
    system.poll(system.now());
    for _ in 0..2 {
        assert_eq!(receiver.recv(&mut [0; 8]).unwrap(), 3);
    }
    assert_eq!(bomb.times(), 1);
    assert!(a.captures("eth0").unwrap()[0].ends_with("(panicked)"));
    let stats = a.stats().unwrap();
    assert_eq!(stats.tx_drops(DropReason::VnetFailed), 0);
    assert_conserved(&a);
    assert_clean(&a.destroy());
}

/// A destructor of a capture runs with the vnet's lock held when its interface goes.
#[test]
fn a_captures_destructor_that_panics_hurts_nobody() {
    struct Last(Arc<AtomicUsize>);
    impl FrameTap for Last {
        fn frame(&self, _: Instant, _: Direction, _: &Packet) {}
    }
    impl Drop for Last {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
            std::panic::panic_any(SAID);
        }
    }
    let system = System::manual(1);
    let a = system.create("a").unwrap();
    let dropped = Arc::new(AtomicUsize::new(0));
    for name in ["eth0", "eth1"] {
        a.port(name, None).unwrap();
        a.capture(name, Arc::new(Last(Arc::clone(&dropped))))
            .unwrap();
    }
    a.remove_interface("eth0").unwrap();
    let refused = AssertUnwindSafe(|| a.capture("eth9", Arc::new(Last(Arc::clone(&dropped)))));
    assert!(catch_unwind(refused).is_err(), "dropped by the call itself");
    assert_eq!(a.failure(), None);
    assert_clean(&a.destroy());
    assert_eq!(dropped.load(Ordering::SeqCst), 3);
}

/// Timers and joiners have wakers, too.
#[test]
fn a_timers_waker_that_panics_stops_neither_worker_nor_world() {
    for driver in DRIVERS {
        let system = driver.system();
        let [a, b, _c] = row(&system);
        let bomb = Arc::new(Bomb::default());
        let waker = Waker::from(Arc::clone(&bomb));
        let mut task = Context::from_waker(&waker);
        let mut sleeps: Vec<_> = (0..8)
            .map(|n| Box::pin(system.sleep_async(Duration::from_millis(50 + n))))
            .collect();
        for sleep in &mut sleeps {
            assert!(sleep.as_mut().poll(&mut task).is_pending());
        }
        // One that is joined by the waker of a bomb.
        let ended = a.spawn_future(async {});
        let mut ended = std::pin::pin!(ended);
        let joined = ended.as_mut().poll(&mut task);
        let expected = 8 + usize::from(joined.is_pending());
        until(&system, || bomb.times() == expected);
        passes(&system, &a, &b, "192.0.2.2:7");
        assert_clean(&a.destroy());
    }
}

/// Whatever panics on the way down, an instance goes.
#[test]
fn a_waker_that_panics_does_not_hold_up_a_teardown() {
    for driver in DRIVERS {
        let system = driver.system();
        let a = system.create("a").unwrap();
        let bomb = Arc::new(Bomb::default());
        let waker = Waker::from(Arc::clone(&bomb));
        let mut task = Context::from_waker(&waker);
        let listener = TcpListener::bind_in(&a, "127.0.0.1:80").unwrap();
        let socket = UdpSocket::bind_in(&a, "127.0.0.1:9").unwrap();
        assert!(listener.poll_accept(&mut task).is_pending());
        assert!(socket.poll_recv_from(&mut task, &mut [0; 8]).is_pending());
        let forever = a.spawn_future(std::future::pending::<()>());
        let mut forever = std::pin::pin!(forever);
        assert!(forever.as_mut().poll(&mut task).is_pending());
        let report = a.destroy();
        assert_eq!(bomb.times(), 3);
        assert!(
            report.leaked.is_zero() && report.failure.is_none(),
            "{report}"
        );
        let failed = report.steps.iter().filter(|s| s.failure.is_some());
        let names: Vec<_> = failed.map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["tcp", "udp"]);
        system.create("a").unwrap();
    }
}

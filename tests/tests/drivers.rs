//! Drivers: nothing that was sent is left lying, no clock runs ahead, and what goes wrong in a
//! program's own callback stays its own affair.

use std::cell::RefCell;
use std::future::Future;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use vnet::link::LinkConfig;
use vnet::net::{TcpListener, TcpStream, UdpSocket};
use vnet::time::Instant;
use vnet::{InitRecord, OwnedVnet, Stage, System, ThreadsConfig};
use vnet_tests::topology::hosts;

/// Longer than anything here takes, so that a failure is one and not a hang.
const PATIENCE: Duration = Duration::from_secs(20);

fn at(millis: u64) -> Instant {
    Instant::ZERO + Duration::from_millis(millis)
}

fn pair(system: &System, delay: Duration) -> (OwnedVnet, OwnedVnet) {
    let link = LinkConfig {
        delay,
        ..LinkConfig::default()
    };
    let (a, b) = hosts(system);
    for vnet in [&a, &b] {
        vnet.set_link("eth0", link.clone()).expect("it is valid");
    }
    (a, b)
}

/// An entry that an earlier one has made superfluous must not make the clock jump to the next.
#[test]
fn a_manual_clock_does_not_pass_the_time_it_was_given() {
    let system = System::manual(1);
    let (a, b) = pair(&system, Duration::from_millis(5));
    let _listener = TcpListener::bind_in(&b, "192.0.2.2:80").expect("it is free");
    let to = "192.0.2.2:80".parse().expect("an address");
    let client = TcpStream::start_connect_in(&a, to).expect("there is a route");
    for millis in 0..4000 {
        let next = system.poll(at(millis));
        assert_eq!(system.now(), at(millis));
        assert!(next.is_none_or(|next| next > at(millis)));
        if millis == 50 {
            client.set_nodelay(true).expect("it is open");
            let _ = std::io::Write::write(&mut &client, b"hello").expect("it is connected");
        }
    }
}

/// Once nobody is left who could want service, a manual system has nothing more to do.
#[test]
fn a_manual_system_without_vnets_has_nothing_to_do() {
    let system = System::manual(1);
    let (a, b) = pair(&system, Duration::from_millis(5));
    let to = "192.0.2.2:80".parse().expect("an address");
    let client = TcpStream::start_connect_in(&a, to).expect("there is a route");
    assert!(system.poll(at(0)).is_some());
    drop((client, a, b));
    assert_eq!(system.poll(at(1)), None);
}

/// A vnet without any deadline, which many threads keep busier than one call may service: somebody
/// must take over, though no timer has ever started a worker.
#[test]
fn a_flood_without_timers_is_not_left_behind() {
    let system = System::threads_with(ThreadsConfig {
        workers: 1,
        ..ThreadsConfig::default()
    });
    let a = system.create("a").expect("the name is free");
    let sink = UdpSocket::bind_in(&a, "127.0.0.1:9").expect("it is free");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let source = UdpSocket::bind_in(&a, "127.0.0.1:0").expect("a port is free");
                for _ in 0..50_000 {
                    source.send_to(b"x", "127.0.0.1:9").expect("it is local");
                }
            });
        }
    });
    // To look at the counters services nothing. While the inbox is full, another datagram would be dropped.
    let begun = std::time::Instant::now();
    while a.stats().is_ok_and(|stats| stats.received < stats.sent) {
        assert!(begun.elapsed() < PATIENCE, "nobody has taken over");
        std::thread::sleep(Duration::from_millis(1));
    }
    let probe = UdpSocket::bind_in(&a, "127.0.0.1:7").expect("it is free");
    probe.set_read_timeout(Some(PATIENCE)).expect("not zero");
    sink.send_to(b"last", "127.0.0.1:7").expect("it is local");
    assert_eq!(probe.recv(&mut [0; 8]).expect("it arrives"), 4);
}

/// A socket that talks to itself for ever, from within its own waker.
struct Restless {
    socket: UdpSocket,
    me: std::sync::Weak<Restless>,
    done: AtomicBool,
}

impl Restless {
    fn start(vnet: &OwnedVnet) -> Arc<Restless> {
        let restless = Arc::new_cyclic(|me| Restless {
            socket: UdpSocket::bind_in(vnet, "127.0.0.1:9").expect("it is free"),
            me: me.clone(),
            done: AtomicBool::new(false),
        });
        Arc::clone(&restless).wake();
        restless
    }
}

impl Wake for Restless {
    fn wake(self: Arc<Self>) {
        let waker = Waker::from(self.me.upgrade().expect("it is awake"));
        let mut task = Context::from_waker(&waker);
        loop {
            match self.socket.poll_recv_from(&mut task, &mut [0; 8]) {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) => return,
                Poll::Pending => break,
            }
        }
        if !self.done.load(Ordering::Relaxed) {
            let _ = self.socket.send_to(b"x", "127.0.0.1:9");
        }
    }
}

/// Frames that are on a wire arrive although the only worker always has something else to do.
#[test]
fn timers_come_up_while_workers_are_busy() {
    let system = System::threads_with(ThreadsConfig {
        workers: 1,
        ..ThreadsConfig::default()
    });
    let (a, b) = pair(&system, Duration::from_millis(2));
    let c = system.create("c").expect("the name is free");
    let receiver = UdpSocket::bind_in(&b, "192.0.2.2:7").expect("it is free");
    receiver.set_read_timeout(Some(PATIENCE)).expect("not zero");
    let sender = UdpSocket::bind_in(&a, "192.0.2.1:7").expect("it is free");
    let restless = Restless::start(&c);
    for _ in 0..20 {
        sender
            .send_to(b"hello", "192.0.2.2:7")
            .expect("there is a route");
        receiver.recv(&mut [0; 8]).expect("it arrives");
    }
    restless.done.store(true, Ordering::Relaxed);
}

/// Many programs keep a connection per thread in a thread-local variable. It is dropped when the
/// library's own thread-local state is gone already.
#[test]
fn a_socket_in_a_thread_local_is_closed_when_the_thread_ends() {
    thread_local! {
        static KEPT: RefCell<Vec<TcpStream>> = const { RefCell::new(Vec::new()) };
    }
    let system = System::threads();
    let (a, b) = pair(&system, Duration::ZERO);
    let listener = TcpListener::bind_in(&b, "192.0.2.2:80").expect("it is free");
    let client = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            KEPT.with(|kept| {
                let mut kept = kept.borrow_mut();
                kept.push(TcpStream::connect_in(&a, "192.0.2.2:80").expect("somebody listens"));
            });
        });
        thread.join()
    });
    client.expect("the thread ends in order");
    let (mut server, _) = listener.accept().expect("the client has connected");
    server.set_read_timeout(Some(PATIENCE)).expect("not zero");
    assert_eq!(
        std::io::Read::read(&mut server, &mut [0; 8]).expect("it is closed in order"),
        0
    );
}

/// A waker that panics, as a program's own might.
struct Bomb(AtomicUsize);

impl Wake for Bomb {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
        panic!("a waker of the program's own");
    }
}

fn receive_with(bomb: &Arc<Bomb>, socket: &UdpSocket) {
    let waker = Waker::from(Arc::clone(bomb));
    let mut buf = [0; 8];
    let future = std::future::poll_fn(|task| socket.poll_recv_from(task, &mut buf));
    let polled = pin!(future).poll(&mut Context::from_waker(&waker));
    assert!(matches!(polled, Poll::Pending));
}

#[test]
fn a_waker_that_panics_does_not_stop_a_vnet() {
    for system in [System::threads(), System::virtual_time(1)] {
        let (a, b) = pair(&system, Duration::ZERO);
        let receiver = UdpSocket::bind_in(&b, "192.0.2.2:7").expect("it is free");
        let sender = UdpSocket::bind_in(&a, "192.0.2.1:7").expect("it is free");
        let bomb = Arc::new(Bomb(AtomicUsize::new(0)));
        receive_with(&bomb, &receiver);
        let blown = catch_unwind(AssertUnwindSafe(|| {
            sender
                .send_to(b"one", "192.0.2.2:7")
                .expect("there is a route");
            system.sleep(Duration::from_millis(20)).expect("it waits");
        }));
        assert_eq!(bomb.0.load(Ordering::Relaxed), 1);
        let _ = blown;
        receiver.set_read_timeout(Some(PATIENCE)).expect("not zero");
        assert_eq!(receiver.recv(&mut [0; 8]).expect("it has arrived"), 3);
        sender
            .send_to(b"second", "192.0.2.2:7")
            .expect("there is a route");
        assert_eq!(receiver.recv(&mut [0; 8]).expect("it arrives"), 6);
    }
}

/// Nothing happens at the end of a wait that nothing could end: no time passes either.
#[test]
fn a_deadlock_takes_no_time() {
    let system = System::virtual_time(1);
    let (_a, b) = pair(&system, Duration::from_millis(5));
    let socket = UdpSocket::bind_in(&b, "192.0.2.2:7").expect("it is free");
    system.sleep(Duration::from_secs(10)).expect("it waits");
    let before = system.now();
    for _ in 0..3 {
        let error = socket.recv(&mut [0; 8]).expect_err("nobody sends");
        assert_eq!(error.kind(), ErrorKind::Deadlock);
    }
    assert_eq!(system.now(), before);
}

/// A wait goes on as long as somebody sleeps, who might end it; then it is told at once.
#[test]
fn a_wait_in_a_restless_world_ends_with_the_last_sleep() {
    let system = System::virtual_time(1);
    let (a, _b) = pair(&system, Duration::from_millis(5));
    let socket = UdpSocket::bind_in(&a, "192.0.2.1:7").expect("it is free");
    let restless = {
        let system = system.clone();
        system.clone().spawn(move || {
            while system.now() < at(0) + Duration::from_secs(30 * 3600) {
                system.sleep(Duration::from_secs(600)).expect("it waits");
            }
        })
    };
    let error = socket.recv(&mut [0; 8]).expect_err("nobody sends");
    assert_eq!(error.kind(), ErrorKind::Deadlock);
    assert_eq!(system.now(), at(0) + Duration::from_secs(30 * 3600));
    restless
        .expect("a thread")
        .join()
        .expect("it ends in order");
}

/// Two threads that the system did not start: when one leaves for good, the other goes on.
#[test]
fn a_thread_that_leaves_a_virtual_world_does_not_take_the_turn_along() {
    let system = System::virtual_time(1);
    std::thread::scope(|scope| {
        for n in 1..8u64 {
            let system = &system;
            scope.spawn(move || {
                for _ in 0..50 {
                    let step = Duration::from_millis(n);
                    system.sleep(step).expect("it waits");
                }
            });
        }
    });
    assert!(system.now() >= at(350));
}

/// What an init step does to the vnet that is being made is done.
#[test]
fn an_init_step_can_use_the_vnet_it_is_for() {
    let system = System::virtual_time(1);
    let step = InitRecord::new(
        "service",
        Stage::Services,
        0,
        |vnet| {
            vnet.add_address("lo0", "192.0.2.77/32".parse()?)?;
            let socket = UdpSocket::bind("192.0.2.77:53")?;
            socket.send_to(b"x", "192.0.2.77:53")?;
            Ok(())
        },
        |_| Ok(()),
    );
    let before = system.create("before").expect("the name is free");
    system
        .register(step)
        .expect("it works in a vnet that exists");
    let after = system
        .create("after")
        .expect("it works in a vnet that is being made");
    for vnet in [before, after] {
        assert!(vnet.destroy().leaked.is_zero());
    }
}

#[test]
fn a_result_that_nobody_takes_may_panic_when_it_is_dropped() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }
    for system in [vnet::System::virtual_time(1), vnet::System::threads()] {
        let task = system.spawn_future(async { Bomb });
        // Under threads it may have ended by now: then its result goes with the
        // handle, and the panic is ours.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(task)));
        let (say, heard) = std::sync::mpsc::channel();
        let next = system.spawn_future(async move { say.send(7).unwrap() });
        next.join().expect("the world goes on");
        assert_eq!(heard.recv().unwrap(), 7);
    }
}

#[test]
fn a_task_may_be_the_last_to_hold_its_system() {
    for _ in 0..20 {
        let system = vnet::System::threads();
        let last = system.clone();
        let (say, heard) = std::sync::mpsc::channel();
        let task = system.spawn_future(async move {
            last.sleep_async(std::time::Duration::from_millis(2)).await;
            say.send(()).unwrap();
            drop(last);
        });
        drop(system);
        heard.recv().unwrap();
        // The worker that ended it must not wait for itself, nor we for a system that is gone.
        assert!(matches!(task.join(), Ok(()) | Err(vnet::TaskError::Gone)));
    }
}

//! Promise: nobody stops simulated time. Calls that do not wait cost time when there are too many of
//! them at one instant, whoever makes them; a wait ends, or is told why it does not, and a deadlock is
//! what it says.

use std::future::{pending, poll_fn};
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use vnet::net::{TcpListener, TcpStream, UdpSocket};
use vnet::time::Instant;
use vnet::{Deadlock, Resource, RunError, RunLimit, System, TaskHandle, Vain, VirtualConfig, Vnet};
use vnet_tests::topology::{join, link, pair};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn at(millis: u64) -> Instant {
    Instant::ZERO + Duration::from_millis(millis)
}

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn world(calls_free: u64) -> System {
    let config = VirtualConfig {
        call_cost: Duration::from_micros(5),
        calls_free,
        ..VirtualConfig::default()
    };
    System::virtual_time_with(1, config)
}

fn without_costs() -> System {
    let config = VirtualConfig {
        call_cost: Duration::ZERO,
        ..VirtualConfig::default()
    };
    System::virtual_time_with(1, config)
}

/// A task that wakes itself for ever.
fn spinner(system: &System) -> TaskHandle<()> {
    system.spawn_future(poll_fn(|cx| {
        cx.waker().wake_by_ref();
        Poll::<()>::Pending
    }))
}

/// A connection between the two.
fn connection(a: &Vnet, b: &Vnet) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind_in(b, "10.0.0.2:80").unwrap();
    let client = TcpStream::connect_in(a, "10.0.0.2:80").unwrap();
    let (server, _) = listener.accept().unwrap();
    (client, server)
}

/// As many calls as are free take no time at all, with the default as well.
#[test]
fn ordinary_programs_pay_nothing() {
    let system = System::virtual_time(1);
    for _ in 0..VirtualConfig::default().calls_free {
        assert_eq!(system.now(), Instant::ZERO);
    }
    assert_eq!(system.now(), at(0) + VirtualConfig::default().call_cost);
}

/// A call that does not wait.
type Try = fn(&TcpStream, &Vnet, &UdpSocket, &TaskHandle<()>);

#[test]
fn a_loop_that_tries_again_until_a_time_comes_ends() {
    let tries: [Try; 8] = [
        |_, _, _, _| {},
        |mut s, _, _, _| _ = s.write(&[1; 1000]),
        |mut s, _, _, _| _ = s.write(&[1; 5000]),
        |mut s, _, _, _| _ = s.read(&mut [0; 10]),
        |_, v, _, _| _ = v.stats().unwrap(),
        |_, v, _, _| _ = v.system().pending(),
        |_, _, u, _| _ = u.send_to(b"x", "10.0.0.2:9"),
        |_, _, _, t| assert!(!t.is_finished()),
    ];
    for (n, attempt) in tries.iter().enumerate() {
        let run = || {
            let system = world(1000);
            system.record_fingerprint();
            let (a, b) = pair(&system);
            let (client, _server) = connection(&a, &b);
            let socket = UdpSocket::bind_in(&a, "0.0.0.0:0").unwrap();
            let task = a.spawn_future(pending::<()>());
            client.set_nonblocking(true).unwrap();
            let (until, mut calls) = (at(20), 0);
            while system.now() < until {
                attempt(&client, &a, &socket, &task);
                calls += 1;
            }
            assert!(system.now() < at(21), "{n}");
            (calls, system.now(), system.fingerprint())
        };
        let (calls, ..) = run();
        assert!((500..6000).contains(&calls), "{n}: {calls}");
        assert_eq!(run(), run(), "{n}");
    }
}

/// A write that a limit refuses counts as a call, whatever its size: what was written before is acknowledged meanwhile, and
/// then there is room.
#[test]
fn a_loop_that_writes_again_until_a_limit_lets_it_ends() {
    for size in [1000, 2048, 2049, 5000, 100_000] {
        let system = world(1000);
        let (a, b) = pair(&system);
        let (mut client, mut server) = connection(&a, &b);
        client.set_nonblocking(true).unwrap();
        a.set_limit(Resource::BufferedBytes, 10_000).unwrap();
        let data = vec![1; size];
        let mut sent = 0;
        while let Ok(n) = client.write(&data) {
            sent += n;
        }
        let mut refused = 0;
        sent += loop {
            match client.write(&data) {
                Ok(n) => break n,
                Err(_) => refused += 1,
            }
            assert!(refused < 100_000, "{size}");
        };
        client.shutdown(Shutdown::Write).unwrap();
        let mut came = Vec::new();
        server.read_to_end(&mut came).unwrap();
        assert_eq!(came.len(), sent, "{size}");
    }
}

/// What is tried for comes, because the world goes on: no time need be asked for.
#[test]
fn a_loop_that_tries_again_until_it_succeeds_ends() {
    let system = world(1000);
    let (a, b) = pair(&system);
    a.set_link("eth0", link(1_000_000_000, millis(3), 0.0))
        .unwrap();
    let (mut client, server) = connection(&a, &b);
    server.set_nonblocking(true).unwrap();
    client.write_all(b"x").unwrap();
    let from = system.now();
    while (&server).read(&mut [0; 10]).is_err() {}
    assert!(system.now() - from < millis(4));

    let nap = system.clone();
    let task = system.spawn(move || nap.sleep(millis(2)).unwrap()).unwrap();
    while !task.is_finished() {}
    let future = system.spawn_future(system.sleep_async(millis(2)));
    while !future.is_finished() {}
    let listener = TcpListener::bind_in(&b, "10.0.0.2:81").unwrap();
    listener.set_nonblocking(true).unwrap();
    let connects = a.spawn(|| TcpStream::connect("10.0.0.2:81")).unwrap();
    while listener.accept().is_err() {}
    connects.join().unwrap().unwrap();
}

/// A thread that does not wait does not keep others from their turn.
#[test]
fn threads_that_do_not_wait_take_turns_all_the_same() {
    let system = world(1000);
    let done = Arc::new(AtomicBool::new(false));
    let spinners: Vec<_> = (0..3)
        .map(|_| {
            let (clock, done) = (system.clone(), Arc::clone(&done));
            let spin = move || {
                while !done.load(Ordering::SeqCst) {
                    clock.now();
                }
            };
            system.spawn(spin).unwrap()
        })
        .collect();
    system.sleep(millis(5)).unwrap();
    done.store(true, Ordering::SeqCst);
    for spinner in spinners {
        spinner.join().unwrap();
    }
    assert!(system.now() < at(6));
}

/// A wake-up that comes while a thread pays for its calls is not lost.
#[test]
fn a_wake_up_while_calls_are_paid_for_counts() {
    for free in 0..40 {
        let system = world(free);
        let (a, b) = pair(&system);
        let (mut client, mut server) = connection(&a, &b);
        let echo = b
            .spawn(move || {
                let mut buf = [0; 16];
                while let n @ 1.. = server.read(&mut buf).unwrap() {
                    server.write_all(&buf[..n]).unwrap();
                }
            })
            .unwrap();
        for n in 0..20 {
            client.write_all(&[n]).unwrap();
            let mut one = [0];
            client.read_exact(&mut one).unwrap();
            assert_eq!(one, [n]);
        }
        drop(client);
        echo.join().unwrap();
    }
}

/// Two peers on a wire without rate and delay: as fast as calls are, and not faster.
#[test]
fn a_wire_without_rate_and_delay_does_not_stop_the_clock() {
    let run = |seed| {
        let config = VirtualConfig {
            calls_free: 1000,
            ..VirtualConfig::default()
        };
        let system = System::virtual_time_with(seed, config);
        system.record_fingerprint();
        let (a, b) = pair(&system);
        let (mut client, mut server) = connection(&a, &b);
        let reader = b
            .spawn(move || {
                let (mut sum, mut buf) = (0, vec![0; 1 << 18]);
                while let n @ 1.. = server.read(&mut buf).unwrap() {
                    sum += n;
                }
                sum
            })
            .unwrap();
        let (until, mut sent) = (at(50), 0);
        while system.now() < until {
            sent += client.write(&[7; 4096]).unwrap();
        }
        drop(client);
        let received = reader.join().unwrap();
        assert_eq!(received, sent);
        assert!(system.now() < at(1000));
        (sent, system.now(), system.fingerprint())
    };
    assert_eq!(run(1), run(1));
}

/// Every wait with a limit ends, at its time, beside whatever goes round.
#[test]
fn a_wait_with_a_limit_ends_beside_what_goes_round() {
    type GoRound = fn(&System) -> Vec<TaskHandle<()>>;
    let alone: GoRound = |system| vec![spinner(system)];
    let pairs: GoRound = |system| {
        // Two that wake each other.
        let wakers: Arc<[std::sync::Mutex<Option<Waker>>; 2]> = Arc::default();
        let one = |n: usize| {
            let wakers = Arc::clone(&wakers);
            system.spawn_future(poll_fn(move |cx| {
                *wakers[n].lock().unwrap() = Some(cx.waker().clone());
                if let Some(other) = wakers[1 - n].lock().unwrap().take() {
                    other.wake();
                }
                Poll::<()>::Pending
            }))
        };
        vec![one(0), one(1)]
    };
    let chain: GoRound = |system| {
        // Each starts the next one and ends.
        fn next(system: System) {
            let successor = system.clone();
            drop(system.spawn_future(async move { next(successor) }));
        }
        next(system.clone());
        Vec::new()
    };
    for go_round in [alone, pairs, chain] {
        let system = world(1000);
        let (a, b) = pair(&system);
        let (_client, mut server) = connection(&a, &b);
        let tasks = go_round(&system);
        system.sleep(millis(5)).unwrap();
        assert_eq!(system.now(), at(5));
        server.set_read_timeout(Some(millis(5))).unwrap();
        let error = server.read(&mut [0; 8]).unwrap_err();
        assert_eq!(
            (error.kind(), system.now()),
            (ErrorKind::WouldBlock, at(10))
        );
        let asleep = system.spawn_future(system.sleep_async(millis(5)));
        asleep.join().unwrap();
        assert!((at(15)..at(16)).contains(&system.now()));
        let timeout = system.timeout(millis(5), pending::<()>());
        assert!(system.block_on(timeout).unwrap().is_err());
        assert!((at(20)..at(21)).contains(&system.now()));
        system.run_until(at(25)).unwrap();
        assert_eq!(system.now(), at(25));
        let error = system.run_until_idle(RunLimit::time(millis(5)));
        assert!(matches!(error, Err(RunError::Time { .. })), "{error:?}");
        let error = system.run_until_idle(RunLimit::events(5));
        assert!(matches!(error, Err(RunError::Events { .. })), "{error:?}");
        // Frames on a wire arrive when they are to.
        a.set_link("eth0", link(1_000_000_000, millis(5), 0.0))
            .unwrap();
        let from = system.now();
        let (source, sink) = ("10.0.0.1:7", "10.0.0.2:7");
        let sink_socket = UdpSocket::bind_in(&b, sink).unwrap();
        UdpSocket::bind_in(&a, source)
            .unwrap()
            .send_to(b"x", sink)
            .unwrap();
        sink_socket.recv(&mut [0; 8]).unwrap();
        assert!((millis(5)..millis(6)).contains(&(system.now() - from)));
        drop(tasks);
    }
}

/// In the middle of a poll the world cannot go on; what its calls cost passes all the same.
#[test]
fn a_poll_that_looks_at_the_clock_until_a_time_comes_ends() {
    let system = world(1000);
    let (clock, polls) = (system.clone(), Arc::new(AtomicU64::new(0)));
    let theirs = Arc::clone(&polls);
    let task = system.spawn_future(async move {
        while clock.now() < at(10) {
            theirs.fetch_add(1, Ordering::SeqCst);
        }
        // So does a future that is ready whenever it is asked.
        while clock.now() < at(20) {
            clock.sleep_async(Duration::ZERO).await;
        }
    });
    let other = system.spawn_future(system.sleep_async(millis(5)));
    task.join().unwrap();
    assert!((at(20)..at(21)).contains(&system.now()));
    assert_eq!(polls.load(Ordering::SeqCst), 3000 - 1);
    other.join().unwrap();

    // A future that wakes itself on a thread that blocks on it.
    let (clock, mut polls) = (system.clone(), 0);
    let spin = poll_fn(move |cx| {
        polls += 1;
        cx.waker().wake_by_ref();
        match clock.now() < at(30) {
            true => Poll::Pending,
            false => Poll::Ready(polls),
        }
    });
    let nap = system.clone();
    let asleep = system.spawn(move || nap.sleep(millis(5)).unwrap()).unwrap();
    assert!(system.block_on(spin).unwrap() < 10_000);
    assert!(asleep.is_finished());
}

/// Without costs every wait is told: with a limit or without.
#[test]
fn in_a_world_without_costs_every_wait_is_told_that_it_goes_round() {
    let system = without_costs();
    let (a, b) = pair(&system);
    let (_client, mut server) = connection(&a, &b);
    let _spin = spinner(&system);
    let told = |error: &std::io::Error| {
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        Deadlock::of(error).map(|d| (d.why, d.site.file()))
    };
    let expected = Some((Vain::GoesRound, file!()));
    // The two wait at the same time, and each is told for itself.
    let nap = system.clone();
    let asleep = system
        .spawn(move || nap.sleep(millis(1)).unwrap_err())
        .unwrap();
    server.set_read_timeout(Some(millis(1))).unwrap();
    assert_eq!(told(&server.read(&mut [0; 8]).unwrap_err()), expected);
    assert_eq!(told(&asleep.join().unwrap()), expected);
    assert_eq!(
        told(&system.block_on(pending::<()>()).unwrap_err()),
        expected
    );
    let error = system.run_for(millis(1));
    assert!(matches!(error, Err(RunError::Stalled { .. })), "{error:?}");
    assert_eq!(system.now(), Instant::ZERO);
}

/// A wait without a limit beside a task that goes round for ever is told so; but not while the
/// program sleeps, and might wake it.
#[test]
fn a_wait_without_a_limit_beside_what_goes_round_is_told() {
    let system = System::virtual_time(1);
    let _spin = spinner(&system);
    let nap = system.clone();
    let asleep = system.spawn(move || nap.sleep(Duration::from_secs(60)).unwrap());
    let error = system.block_on(pending::<()>()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    assert_eq!(Deadlock::of(&error).unwrap().why, Vain::GoesRound);
    assert!(asleep.unwrap().is_finished(), "that is 12 million events");
}

/// A deadlock is told when nothing is left that could wake anybody, however far off that is.
#[test]
fn a_wait_is_no_deadlock_while_somebody_sleeps() {
    for days in [1, 3, 400] {
        let system = System::virtual_time(1);
        let (a, b) = pair(&system);
        let socket = UdpSocket::bind_in(&b, "10.0.0.2:7").unwrap();
        let waits = move || socket.recv(&mut [0; 8]).map_err(|e| e.kind());
        let receives = b.spawn(waits).unwrap();
        let clock = system.clone();
        let sends = a.spawn(move || {
            for _ in 0..5 {
                clock.sleep(days * DAY / 5).unwrap();
            }
            let socket = UdpSocket::bind("10.0.0.1:0").unwrap();
            socket.send_to(b"x", "10.0.0.2:7").unwrap();
        });
        assert_eq!(receives.join().unwrap(), Ok(1));
        sends.unwrap().join().unwrap();
        assert_eq!(system.now().since(Instant::ZERO), days * DAY);

        // A timer of a future, and a task that sends when it goes off.
        let socket = UdpSocket::bind_in(&b, "10.0.0.2:7").unwrap();
        let timer = system.sleep_async(days * DAY);
        let task = a.spawn_future(async move {
            timer.await;
            UdpSocket::bind("10.0.0.1:0")?.send_to(b"x", "10.0.0.2:7")
        });
        assert_eq!(socket.recv(&mut [0; 8]).unwrap(), 1);
        assert!(task.join().unwrap().is_ok());
        // Nothing else: told at once, and no time passes.
        system.run_until_idle(RunLimit::default()).unwrap();
        let before = system.now();
        let error = socket.recv(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Deadlock);
        assert_eq!(Deadlock::of(&error).unwrap().why, Vain::NothingLeft);
        assert_eq!(system.now(), before);
    }
}

/// Nor while a frame is on its way, on a wire that is a day long.
#[test]
fn a_wait_is_no_deadlock_while_a_frame_is_on_its_way() {
    let system = System::virtual_time(1);
    let (a, b) = pair(&system);
    let (_client, mut server) = {
        let (client, server) = connection(&a, &b);
        // The far end is full, and is asked for room again and again.
        client.set_nonblocking(true).unwrap();
        while (&client).write(&[0; 4096]).is_ok() {}
        system.sleep(millis(500)).unwrap();
        while (&client).write(&[0; 4096]).is_ok() {}
        (client, server)
    };
    join(&a, "eth1 10.0.1.1/24", &b, "eth1 10.0.1.2/24");
    let socket = UdpSocket::bind_in(&b, "10.0.1.2:7").unwrap();
    let source = UdpSocket::bind_in(&a, "10.0.1.1:7").unwrap();
    source.send_to(b"x", "10.0.1.2:7").unwrap();
    socket.recv(&mut [0; 8]).unwrap();
    a.set_link("eth1", link(1_000_000_000, DAY, 0.0)).unwrap();
    source.send_to(b"x", "10.0.1.2:7").unwrap();
    assert_eq!(socket.recv(&mut [0; 8]).unwrap(), 1);
    // Only the probes are left: that is no deadlock, and it is told what it is.
    let from = system.now();
    let error = socket.recv(&mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    assert_eq!(Deadlock::of(&error).unwrap().why, Vain::NeverRests);
    assert!((DAY..4 * DAY).contains(&(system.now() - from)));
    assert!(server.read(&mut [0; 8]).unwrap() > 0);
}

/// Waiters that are gone take no memory: not by the thousand, and not those that came last.
#[test]
fn waiters_that_are_gone_are_forgotten() {
    struct Counted(Arc<AtomicU64>);
    impl Wake for Counted {
        fn wake(self: Arc<Self>) {}
    }
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
    for system in [
        System::virtual_time(1),
        System::threads(),
        System::manual(1),
    ] {
        let a = system.create("a").unwrap();
        let listener = TcpListener::bind_in(&a, "127.0.0.1:80").unwrap();
        let socket = UdpSocket::bind_in(&a, "127.0.0.1:80").unwrap();
        let (alive, mut buf) = (Arc::new(AtomicU64::new(0)), [0; 8]);
        let mut most = 0;
        for _ in 0..50_000 {
            alive.fetch_add(2, Ordering::SeqCst);
            let waker = || Waker::from(Arc::new(Counted(Arc::clone(&alive))));
            let accepted = listener.poll_accept(&mut Context::from_waker(&waker()));
            assert!(accepted.is_pending());
            let received = socket.poll_recv_from(&mut Context::from_waker(&waker()), &mut buf);
            assert!(received.is_pending());
            most = most.max(alive.load(Ordering::SeqCst));
        }
        assert!(most <= 5000, "{most} of 100000 were kept");
        drop((listener, socket));
        assert_eq!(alive.load(Ordering::SeqCst), 0);
    }
}

/// A deadline far off that moves each time something near is armed leaves nothing behind.
#[test]
fn a_connection_has_one_deadline() {
    for keepalive in [false, true] {
        let system = System::manual(1);
        let (a, b) = pair(&system);
        let poll = |millis: u64| system.poll(system.now() + Duration::from_millis(millis));
        let listener = TcpListener::bind_in(&b, "10.0.0.2:80").unwrap();
        let client = TcpStream::start_connect_in(&a, "10.0.0.2:80".parse().unwrap()).unwrap();
        poll(1);
        let (mut server, _) = listener.accept().unwrap();
        server.set_keepalive(keepalive).unwrap();
        server.set_nonblocking(true).unwrap();
        for _ in 0..1000 {
            (&client).write_all(b"x").unwrap();
            poll(1);
            assert_eq!(server.read(&mut [0; 4]).unwrap(), 1);
            poll(49);
        }
        let deadlines = b.destroy().released.deadlines();
        assert!(
            deadlines <= 2,
            "{deadlines}: of the connection, and the neighbour"
        );
    }
}

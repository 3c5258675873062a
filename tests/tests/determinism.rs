//! Promise: under virtual time the same program with the same seed does the same, to the byte
//! and the nanosecond, however many threads it is made of.

#[path = "determinism/networks.rs"]
mod networks;

use std::io::{ErrorKind, Read, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use vnet::net::{EchoEvent, EchoSocket, TcpListener, TcpStream, UdpSocket};
use vnet::time::Instant;
use vnet::{System, Vnet};
use vnet_tests::accounts::{assert_clean, assert_conserved};
use vnet_tests::topology::{join, link, triangle, vnet};
use vnet_tests::trace::{Seen, Trace};

/// What the threads of a program did, in the order in which they did it.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn note(&self, at: Instant, what: impl std::fmt::Display) {
        self.0.lock().unwrap().push(format!("{at} {what}"));
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

/// Everything that can be observed of a run.
#[derive(PartialEq)]
struct Run {
    frames: Vec<Seen>,
    log: Vec<String>,
    counters: Vec<String>,
}

/// A request and its answer over a network that loses datagrams: tries until it has one.
fn ask(socket: &UdpSocket, question: &[u8], log: &Log, system: &System) {
    let mut buf = [0; 64];
    for attempt in 0..50 {
        socket.send(question).expect("there is a route");
        match socket.recv(&mut buf) {
            Ok(n) => {
                return log.note(
                    system.now(),
                    format_args!("answer {:?} after {attempt}", &buf[..n]),
                );
            }
            Err(e) => assert_eq!(e.kind(), ErrorKind::WouldBlock),
        }
    }
    panic!("fifty datagrams were lost in a row");
}

fn talk(v: &Vnet, me: usize, log: &Log) {
    let system = v.system();
    let next = (me + 1) % 3;
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect(format!("10.9.{next}.1:7")).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(80)))
        .unwrap();
    for n in 0..10u8 {
        ask(&socket, &[me as u8, n], log, &system);
    }
    let ping = EchoSocket::bind().unwrap();
    ping.set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    for seq in 0..5 {
        ping.send_to(seq, b"ping", format!("10.9.{next}.1").parse().unwrap())
            .unwrap();
        match ping.recv() {
            Ok((EchoEvent::Reply { seq, ttl, .. }, at)) => {
                log.note(at, format_args!("{me} pong {seq} {ttl}"))
            }
            Ok((other, at)) => log.note(at, format_args!("{me} {other:?}")),
            Err(e) => log.note(system.now(), format_args!("{me} {:?}", e.kind())),
        }
    }
    let mut stream = TcpStream::connect(format!("10.9.{next}.1:80")).unwrap();
    let data: Vec<u8> = (0..60_000u32).map(|i| (i * 7) as u8).collect();
    stream.write_all(&data).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut sum = String::new();
    stream.read_to_string(&mut sum).unwrap();
    log.note(system.now(), format_args!("{me} sent, sum {sum}"));
}

fn serve_datagrams(me: usize, log: &Log) {
    let system = Vnet::current().unwrap().system();
    // Bound to the address that clients know: they ignore answers from any other.
    let socket = UdpSocket::bind(format!("10.9.{me}.1:7")).unwrap();
    let mut buf = [0; 64];
    while let Ok((n, from)) = socket.recv_from(&mut buf) {
        log.note(
            system.now(),
            format_args!("asked {:?} by {from}", &buf[..n]),
        );
        let _ = socket.send_to(&buf[..n], from);
    }
}

fn serve_streams(log: &Log) {
    let listener = TcpListener::bind("0.0.0.0:80").unwrap();
    while let Ok((mut stream, peer)) = listener.accept() {
        let system = Vnet::current().unwrap().system();
        let mut data = Vec::new();
        stream.read_to_end(&mut data).unwrap();
        let sum = data
            .iter()
            .fold(0u32, |s, b| s.wrapping_mul(31) + u32::from(*b));
        log.note(
            system.now(),
            format_args!("{} bytes from {peer}", data.len()),
        );
        write!(stream, "{sum}").unwrap();
    }
}

/// Three routers with lossy links, a thread for every server and client.
fn scenario(seed: u64) -> Run {
    let system = System::virtual_time(seed);
    let routers = triangle(&system);
    let (trace, log) = (Trace::default(), Log::default());
    for router in &routers {
        for interface in router
            .interfaces()
            .unwrap()
            .iter()
            .filter(|i| i.name != "lo0")
        {
            let lossy = link(10_000_000, Duration::from_millis(5), 0.05);
            router.set_link(&interface.name, lossy).unwrap();
        }
        trace.watch_all(router);
    }
    let mut servers = Vec::new();
    for (me, router) in routers.iter().enumerate() {
        let (a, b) = (log.clone(), log.clone());
        servers.push(router.spawn(move || serve_datagrams(me, &a)).unwrap());
        servers.push(router.spawn(move || serve_streams(&b)).unwrap());
    }
    let clients: Vec<_> = routers
        .iter()
        .enumerate()
        .map(|(me, router)| {
            let (handle, log) = (Vnet::clone(router), log.clone());
            router.spawn(move || talk(&handle, me, &log)).unwrap()
        })
        .collect();
    for client in clients {
        client.join().expect("a client panicked");
    }
    let mut counters = Vec::new();
    for router in &routers {
        assert_conserved(router);
        counters.push(format!("{:?}", router.stats().unwrap()));
    }
    for router in routers {
        assert_clean(&router.destroy());
    }
    for server in servers {
        server.join().expect("a server panicked");
    }
    Run {
        frames: trace.take(),
        log: log.take(),
        counters,
    }
}

#[track_caller]
fn assert_same(one: &Run, two: &Run) {
    for (n, (a, b)) in one.log.iter().zip(&two.log).enumerate() {
        assert_eq!(a, b, "line {n} of the log");
    }
    for (n, (a, b)) in one.frames.iter().zip(&two.frames).enumerate() {
        assert_eq!(a, b, "frame {n}");
    }
    assert!(
        one == two,
        "one run went on for longer, or counted otherwise"
    );
}

#[test]
fn the_same_seed_gives_the_same_frames_at_the_same_times() {
    let (one, two) = (scenario(7), scenario(7));
    assert!(
        one.frames.len() > 500,
        "{} frames are no test",
        one.frames.len()
    );
    assert_same(&one, &two);
}

#[test]
fn another_seed_gives_other_frames() {
    let (one, two) = (scenario(7), scenario(8));
    assert!(one.frames != two.frames);
    assert!(one.log != two.log, "other losses, other times");
}

#[test]
fn a_run_does_not_depend_on_what_else_the_process_does() {
    let alone = scenario(21);
    let runs: Vec<Run> = std::thread::scope(|s| {
        let threads: Vec<_> = (0..4).map(|_| s.spawn(|| scenario(21))).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    for run in &runs {
        assert_same(&alone, run);
    }
}

/// Threads that sleep, send, receive and spawn, all in one vnet.
fn turns() -> Vec<String> {
    let system = System::virtual_time(3);
    let hub = vnet(&system, "hub");
    let log = Log::default();
    let threads: Vec<_> = (0..6u16)
        .map(|me| {
            let (log, system) = (log.clone(), system.clone());
            hub.spawn(move || {
                let socket = UdpSocket::bind(("127.0.0.1", 9000 + me)).unwrap();
                socket
                    .set_read_timeout(Some(Duration::from_millis(3)))
                    .unwrap();
                let mut buf = [0; 2];
                for round in 0..20u16 {
                    let to = 9000 + (me * 5 + round * 7) % 6;
                    let _ = socket.send_to(&me.to_be_bytes(), ("127.0.0.1", to));
                    match round % 4 {
                        0 => system
                            .sleep(Duration::from_micros(u64::from(me * 37 % 5)))
                            .unwrap(),
                        1 => {
                            let child = log.clone();
                            let at = system.now();
                            let spawned =
                                system.spawn(move || child.note(at, format_args!("child of {me}")));
                            spawned.unwrap().join().unwrap();
                        }
                        _ => {
                            let got = socket.recv(&mut buf).map(|_| u16::from_be_bytes(buf));
                            log.note(
                                system.now(),
                                format_args!("{me} got {:?}", got.map_err(|e| e.kind())),
                            );
                        }
                    }
                    log.note(system.now(), format_args!("{me} round {round}"));
                }
            })
            .unwrap()
        })
        .collect();
    for thread in threads {
        thread.join().expect("a thread panicked");
    }
    assert_clean(&hub.destroy());
    log.take()
}

#[test]
fn threads_take_their_turns_in_the_same_order_fifty_times() {
    let first = turns();
    assert!(first.len() > 150, "{} events are no test", first.len());
    for repetition in 1..50 {
        let again = turns();
        for (n, (a, b)) in first.iter().zip(&again).enumerate() {
            assert_eq!(a, b, "event {n} of repetition {repetition}");
        }
        assert_eq!(first.len(), again.len());
    }
}

#[test]
fn time_stands_still_between_calls_and_jumps_in_them() {
    let system = System::virtual_time(4);
    let (a, b) = (vnet(&system, "a"), vnet(&system, "b"));
    join(&a, "eth0 10.0.0.1/24", &b, "eth0 10.0.0.2/24");
    for v in [&a, &b] {
        v.set_link("eth0", link(1_000_000_000, Duration::from_secs(3600), 0.0))
            .unwrap();
    }
    let wall = std::time::Instant::now();
    let ping = EchoSocket::bind_in(&a).unwrap();
    ping.send_to(1, b"far", "10.0.0.2".parse().unwrap())
        .unwrap();
    assert_eq!(system.now(), Instant::ZERO, "sending takes no time");
    ping.set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    assert_eq!(ping.recv().unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(
        system.now() - Instant::ZERO,
        Duration::from_secs(10),
        "to the nanosecond"
    );
    system.sleep(Duration::from_secs(86_400)).unwrap();
    assert_eq!(system.now() - Instant::ZERO, Duration::from_secs(86_410));
    assert!(
        wall.elapsed() < Duration::from_secs(3600),
        "an hour's delay is not waited for"
    );
}

#[test]
fn a_wait_that_nothing_can_end_is_an_error_and_not_a_hang() {
    let system = System::virtual_time(5);
    let a = vnet(&system, "a");
    let socket = UdpSocket::bind_in(&a, "0.0.0.0:7").unwrap();
    let listener = TcpListener::bind_in(&a, "0.0.0.0:80").unwrap();
    assert_eq!(
        socket.recv(&mut [0; 8]).unwrap_err().kind(),
        ErrorKind::Deadlock
    );
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::Deadlock);
    let never = system.block_on(std::future::pending::<()>());
    assert_eq!(never.unwrap_err().kind(), ErrorKind::Deadlock);
    // The longest waiter is told first, also when there are several.
    let log = Log::default();
    let threads: Vec<_> = (0..3u16)
        .map(|n| {
            let (log, system) = (log.clone(), system.clone());
            a.spawn(move || {
                let socket = UdpSocket::bind(("0.0.0.0", 100 + n)).unwrap();
                let error = socket.recv(&mut [0; 8]).unwrap_err();
                log.note(system.now(), format_args!("{n} {:?}", error.kind()));
            })
            .unwrap()
        })
        .collect();
    for thread in threads {
        let _ = thread.join();
    }
    let told = log.take();
    let expected: Vec<String> = (0..3)
        .map(|n| format!("{} {n} Deadlock", system.now()))
        .collect();
    assert_eq!(told, expected);
}

//! Promise: a simulated world can be run from outside, with limits that say what was pending; its
//! tasks are events like any other; and nothing of a task outlives its vnet.

use std::future::{pending, poll_fn};
use std::io::ErrorKind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use vnet::net::{TcpListener, TcpStream, UdpSocket};
use vnet::time::Instant;
use vnet::{Deadlock, RunError, RunLimit, SocketError, System, TaskError, Vnet};
use vnet_tests::accounts::assert_clean;
use vnet_tests::topology::{hosts, link, pair, vnet};

fn at(millis: u64) -> Instant {
    Instant::ZERO + Duration::from_millis(millis)
}

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Reads until the end of the stream.
async fn read_all(stream: &TcpStream) -> std::io::Result<Vec<u8>> {
    let (mut all, mut buf) = (Vec::new(), [0; 4096]);
    loop {
        match poll_fn(|cx| stream.poll_read(cx, &mut buf)).await? {
            0 => return Ok(all),
            n => all.extend_from_slice(&buf[..n]),
        }
    }
}

async fn write_all(stream: &TcpStream, mut data: &[u8]) -> std::io::Result<()> {
    while !data.is_empty() {
        let n = poll_fn(|cx| stream.poll_write(cx, data)).await?;
        data = &data[n..];
    }
    Ok(())
}

async fn connect(to: &str) -> std::io::Result<TcpStream> {
    let here = Vnet::current().expect("the task has a vnet");
    let stream = TcpStream::start_connect_in(&here, to.parse().expect("an address"))?;
    poll_fn(|cx| stream.poll_connect(cx)).await?;
    Ok(stream)
}

/// A server and a client that are tasks, over a lossy link.
fn tasks_talk(seed: u64) -> (Instant, Vec<String>) {
    let system = System::virtual_time(seed);
    let (a, b) = pair(&system);
    for v in [&a, &b] {
        v.set_link("eth0", link(10_000_000, millis(5), 0.03))
            .unwrap();
    }
    let log = Arc::new(Mutex::new(Vec::new()));
    let (to_server, clock) = (Arc::clone(&log), system.clone());
    let server = b.spawn_future(async move {
        let listener = TcpListener::bind("0.0.0.0:80")?;
        for _ in 0..3 {
            let (stream, _) = poll_fn(|cx| listener.poll_accept(cx)).await?;
            let data = read_all(&stream).await?;
            let line = format!("{} {} bytes", clock.now(), data.len());
            to_server.lock().unwrap().push(line);
            write_all(&stream, b"thanks").await?;
        }
        Ok::<_, std::io::Error>(())
    });
    let clients: Vec<_> = (1..=3)
        .map(|n| {
            a.spawn_future(async move {
                let stream = connect("10.0.0.2:80").await?;
                write_all(&stream, &vec![n; 20_000 * usize::from(n)]).await?;
                stream.shutdown(std::net::Shutdown::Write)?;
                read_all(&stream).await
            })
        })
        .collect();
    for client in clients {
        assert_eq!(client.join().unwrap().unwrap(), b"thanks");
    }
    server.join().unwrap().unwrap();
    let lines = log.lock().unwrap().clone();
    (system.now(), lines)
}

#[test]
fn tasks_are_polled_in_the_total_order() {
    let (one, two, other) = (tasks_talk(7), tasks_talk(7), tasks_talk(8));
    assert_eq!(one.1.len(), 3);
    assert_eq!(one, two);
    assert_ne!(one, other);
}

/// The vnet of a task is current at each poll, whatever the thread is in that moves the world.
#[test]
fn the_vnet_of_a_task_is_current_at_each_poll() {
    let system = System::virtual_time(1);
    let (a, b) = pair(&system);
    let clock = system.clone();
    let task = a.spawn_future(async move {
        let mut seen = Vec::new();
        for _ in 0..3 {
            seen.push(Vnet::current().unwrap().name().to_owned());
            clock.sleep_async(millis(1)).await;
        }
        seen
    });
    let none = system.spawn_future(async { Vnet::current().is_none() });
    let _inside = b.enter();
    assert_eq!(task.join().unwrap(), ["a", "a", "a"]);
    assert!(none.join().unwrap());
    assert!(Vnet::current().unwrap().is(&b));
}

/// Counts how many of it are dropped, and where.
struct Dropped(Arc<AtomicUsize>);

impl Drop for Dropped {
    fn drop(&mut self) {
        assert_eq!(Vnet::current().expect("dropped in its vnet").name(), "a");
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn tasks_go_with_their_vnet() {
    for system in [
        System::virtual_time(1),
        System::manual(1),
        System::threads(),
    ] {
        let (a, _b) = pair(&system);
        let dropped = Arc::new(AtomicUsize::new(0));
        let task = |_| {
            let (it, handle) = (Dropped(Arc::clone(&dropped)), Vnet::clone(&a));
            let socket = UdpSocket::bind_in(&a, "0.0.0.0:0").unwrap();
            let sleep = system.sleep_async(Duration::from_secs(3600));
            a.spawn_future(async move {
                sleep.await;
                drop((it, handle, socket));
            })
        };
        let mut tasks: Vec<_> = (0..5).map(task).collect();
        match system.poll(at(1)) {
            Some(next) => assert_eq!(next, at(3_600_000)),
            None => system.sleep(millis(1)).unwrap(),
        }
        tasks.remove(0).abort();
        assert!(tasks.iter().all(|t| !t.is_finished()));
        let report = a.destroy();
        assert_eq!(dropped.load(Ordering::SeqCst), 5);
        assert_clean(&report);
        assert!(system.pending().tasks.is_empty());
        assert!(system.pending().timers.is_empty(), "the sleeps are gone");
        for task in tasks {
            assert!(task.is_finished());
            assert!(matches!(task.join(), Err(TaskError::Gone)));
        }
    }
}

#[test]
fn a_task_for_a_vnet_that_is_gone_never_runs() {
    let system = System::virtual_time(1);
    let a = vnet(&system, "a");
    let handle = Vnet::clone(&a);
    drop(a);
    let task = handle.spawn_future(async { unreachable!("it must not be polled") });
    assert!(matches!(task.join(), Err(TaskError::Gone)));
}

#[test]
fn a_task_that_destroys_its_own_vnet_ends_with_it() {
    let system = System::virtual_time(1);
    let a = vnet(&system, "a");
    let handle = Vnet::clone(&a);
    let task = handle.spawn_future(async move {
        assert_clean(&a.destroy());
        pending::<()>().await;
    });
    assert!(matches!(task.join(), Err(TaskError::Gone)));
    assert!(handle.interfaces().is_err());
}

#[test]
fn an_aborted_task_and_one_that_panics_say_so() {
    let system = System::virtual_time(1);
    let a = vnet(&system, "a");
    let stuck = a.spawn_future(pending::<()>());
    stuck.abort();
    assert!(stuck.is_finished());
    assert!(matches!(stuck.join(), Err(TaskError::Aborted)));

    let fails = a.spawn_future(async { std::panic::panic_any(String::from("number 7")) });
    let Err(TaskError::Panicked(panic)) = fails.join() else {
        panic!("it panicked");
    };
    assert_eq!(panic.to_string(), "number 7");
    let payload = panic.into_payload();
    assert_eq!(*payload.downcast::<String>().unwrap(), "number 7");

    let ended = a.spawn_future(async { 7 });
    let outer = a.spawn_future(async move { ended.await.unwrap() + 1 });
    assert_eq!(outer.join().unwrap(), 8);
}

/// A blocking call in a task fails instead of stopping the world that polls it.
#[test]
fn a_task_may_not_block() {
    for system in [System::virtual_time(1), System::threads()] {
        let a = vnet(&system, "a");
        let inner = system.clone();
        let task = a.spawn_future(async move {
            let socket = UdpSocket::bind("127.0.0.1:9")?;
            let kind = |r: std::io::Result<()>| r.unwrap_err().kind();
            let receive = kind(socket.recv(&mut [0; 8]).map(drop));
            let sleep = kind(inner.sleep(millis(1)));
            let block = kind(inner.block_on(pending::<()>()));
            let thread = inner.spawn(|| ())?.join().map_err(drop);
            let other = inner.spawn_future(pending::<()>()).join();
            let run = inner.run_for(millis(1));
            let _ = thread;
            assert!(matches!(other, Err(TaskError::WouldBlock)));
            assert!(matches!(run, Err(RunError::InTask | RunError::NotVirtual)));
            Ok::<_, std::io::Error>([receive, sleep, block])
        });
        let kinds = task.join().unwrap().unwrap();
        assert_eq!(kinds, [ErrorKind::WouldBlock; 3]);
    }
}

#[test]
fn sleeps_end_when_they_said_and_leave_nothing() {
    let system = System::virtual_time(1);
    let clock = system.clone();
    let task = system.spawn_future(async move {
        let mut ends = Vec::new();
        for n in [5, 0, 1_000_000] {
            clock.sleep_async(millis(n)).await;
            ends.push(clock.now());
        }
        for _ in 0..10_000 {
            let limit = clock.timeout(Duration::from_secs(1000), std::future::ready(()));
            limit.await.unwrap();
            let late = clock.timeout(Duration::from_nanos(1), pending::<()>());
            assert!(late.await.is_err());
        }
        ends
    });
    let ends = task.join().unwrap();
    assert_eq!(ends, [at(5), at(5), at(1_000_005)]);
    assert!(system.pending().timers.is_empty());
}

/// The short report names the program's own line, even where the standard library's trait does the reading.
#[test]
fn a_deadlock_is_told_briefly_and_in_full() {
    use std::io::Read;
    let system = System::virtual_time(1);
    let (a, b) = hosts(&system);
    let listener = TcpListener::bind_in(&b, "192.0.2.2:80").unwrap();
    let mut client = TcpStream::connect_in(&a, "192.0.2.2:80").unwrap();
    let (_server, _) = listener.accept().unwrap();
    let _tasks: Vec<_> = (0..20).map(|_| a.spawn_future(pending::<()>())).collect();
    let line = line!() + 1;
    let error = client.read_exact(&mut [0; 8]).unwrap_err();
    let told = Deadlock::of(&error).expect("nobody writes");
    assert_eq!((told.site.file(), told.site.line()), (file!(), line));
    let (brief, full) = (told.to_string(), format!("{told:#}"));
    assert!(brief.lines().count() <= 11, "{brief}");
    assert!(
        brief.contains("and 12 more") && brief.contains("std::thread"),
        "{brief}"
    );
    assert!(full.contains("the last events") && !brief.contains("the last events"));
    let error = client.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(Deadlock::of(&error).unwrap().site.file(), file!());
}

/// A wait without a limit does not give up while somebody sleeps.
#[test]
fn a_sleep_of_days_is_no_deadlock() {
    let system = System::virtual_time(1);
    let days = Duration::from_secs(3 * 24 * 3600);
    system.block_on(system.sleep_async(days)).unwrap();
    let clock = system.clone();
    let task = system.spawn_future(async move { clock.sleep_async(days).await });
    task.join().unwrap();
    assert_eq!(system.now(), Instant::ZERO + 2 * days);
}

#[test]
fn a_run_stops_where_it_was_told_to() {
    let system = System::virtual_time(1);
    let (a, b) = pair(&system);
    a.set_link("eth0", link(1_000_000_000, millis(10), 0.0))
        .unwrap();
    b.set_link("eth0", link(1_000_000_000, millis(10), 0.0))
        .unwrap();
    let sink = UdpSocket::bind_in(&b, "10.0.0.2:9").unwrap();
    sink.set_nonblocking(true).unwrap();
    let source = UdpSocket::bind_in(&a, "10.0.0.1:9").unwrap();
    source.send_to(b"x", "10.0.0.2:9").unwrap();
    // The neighbour has announced itself; the datagram takes 10 ms and the time to clock it out.
    let events = system.run_until(at(10)).unwrap();
    assert_eq!(system.now(), at(10));
    assert!(events > 0);
    assert_eq!(
        sink.recv(&mut [0; 8]).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
    system.run_for(millis(1)).unwrap();
    assert_eq!(sink.recv(&mut [0; 8]).unwrap(), 1);
    assert_eq!(system.run_until(at(5)).unwrap(), 0, "that is past");
    assert_eq!(system.now(), at(11));
}

/// Everything that is due at the very end of a run happens in it.
#[test]
fn the_end_of_a_run_belongs_to_it() {
    let system = System::virtual_time(1);
    let clock = system.clone();
    let task = system.spawn_future(async move {
        clock.sleep_until_async(at(10)).await;
        for _ in 0..10 {
            clock.sleep_async(Duration::ZERO).await;
            let other = clock.spawn_future(async {});
            other.await.unwrap();
        }
        clock.now()
    });
    system.run_until(at(10)).unwrap();
    assert!(task.is_finished());
    assert_eq!(task.join().unwrap(), at(10));
}

/// Threads of the system take part in a run, and stop with it.
#[test]
fn threads_run_in_a_run() {
    let system = System::virtual_time(1);
    let ticks = Arc::new(AtomicUsize::new(0));
    let (theirs, clock) = (Arc::clone(&ticks), system.clone());
    let ticker = system
        .spawn(move || {
            for _ in 0..100 {
                clock.sleep(millis(10)).unwrap();
                theirs.fetch_add(1, Ordering::SeqCst);
            }
        })
        .unwrap();
    for round in 1..=5 {
        system.run_for(millis(100)).unwrap();
        assert_eq!(ticks.load(Ordering::SeqCst), 10 * round);
        assert_eq!(system.now(), at(100 * round as u64));
    }
    system.run_until_idle(RunLimit::default()).unwrap();
    assert_eq!(system.now(), at(1000));
    assert!(ticker.is_finished());
    ticker.join().unwrap();
}

/// A server that waits is not told of a deadlock while somebody runs the world.
#[test]
fn a_run_over_an_idle_network_ends_no_wait() {
    let system = System::virtual_time(1);
    let (a, b) = pair(&system);
    let server = b
        .spawn(|| {
            let listener = TcpListener::bind("0.0.0.0:80")?;
            listener.accept().map(drop)
        })
        .unwrap();
    system.run_until_idle(RunLimit::default()).unwrap();
    system.run_for(Duration::from_secs(60)).unwrap();
    assert!(!server.is_finished());
    TcpStream::connect_in(&a, "10.0.0.2:80").unwrap();
    server.join().unwrap().unwrap();
}

#[test]
fn a_limit_that_trips_says_what_is_pending() {
    let system = System::virtual_time(1);
    let (a, _b) = pair(&system);
    // Nobody has 10.0.0.9: neighbour discovery goes on for a while.
    let source = UdpSocket::bind_in(&a, "10.0.0.1:9").unwrap();
    source.send_to(b"x", "10.0.0.9:9").unwrap();
    let clock = system.clone();
    let line = line!() + 1;
    let ticker = a.spawn_future(async move {
        loop {
            clock.sleep_async(millis(100)).await;
        }
    });
    let error = system.run_until_idle(RunLimit::time(millis(1250)));
    let Err(RunError::Time { limit, pending }) = error else {
        panic!("{error:?}");
    };
    assert_eq!(limit, millis(1250));
    assert_eq!(
        pending.now,
        at(1250),
        "the time ran out, it did not stop short"
    );
    assert_eq!(pending.timers, [at(1300)]);
    assert_eq!(pending.tasks.len(), 1);
    assert_eq!(pending.tasks[0].site.file(), file!());
    assert_eq!(pending.tasks[0].site.line(), line);
    let waiting = &pending.vnets[0];
    assert_eq!(waiting.name, "a");
    assert!(
        waiting
            .deadlines
            .iter()
            .any(|(what, _)| *what == "neighbours"),
        "{waiting}"
    );
    let text = pending.to_string();
    for part in [
        "vnet a wants service",
        "neighbours at",
        "task 1",
        "was polled",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }

    let error = system.run_until_idle(RunLimit::events(3));
    assert!(matches!(error, Err(RunError::Events { limit: 3, .. })));
    ticker.abort();
    system.run_until_idle(RunLimit::default()).unwrap();
    assert!(system.now() > at(1250), "the neighbour was given up later");
}

#[test]
fn only_a_simulated_world_can_be_run() {
    for system in [System::threads(), System::manual(1)] {
        assert!(matches!(
            system.run_for(millis(1)),
            Err(RunError::NotVirtual)
        ));
        assert!(matches!(
            system.run_until_idle(RunLimit::default()),
            Err(RunError::NotVirtual)
        ));
    }
}

#[test]
fn a_deadlock_says_who_waits_for_what() {
    let system = System::virtual_time(1);
    let (a, b) = pair(&system);
    let accept_line = Arc::new(AtomicUsize::new(0));
    let theirs = Arc::clone(&accept_line);
    let server = b
        .spawn(move || {
            let listener = TcpListener::bind("0.0.0.0:80").unwrap();
            theirs.store(line!() as usize + 1, Ordering::SeqCst);
            let error = listener.accept().unwrap_err();
            (error.kind(), SocketError::is_gone(&error))
        })
        .unwrap();
    let _stuck = a.spawn_future(pending::<()>());
    let socket = UdpSocket::bind_in(&a, "127.0.0.1:9").unwrap();
    system.run_until_idle(RunLimit::default()).unwrap();

    let mut buf = [0; 8];
    let (error, line) = (socket.recv(&mut buf), line!());
    // The server has waited for longer: it is told first, and ends.
    assert_eq!(server.join().unwrap(), (ErrorKind::Deadlock, false));
    let error = error.unwrap_err();
    let told = Deadlock::of(&error).expect("it is one of ours");
    assert_eq!((told.site.file(), told.site.line()), (file!(), line));
    assert!(told.pending.vnets.is_empty());
    assert_eq!(told.pending.tasks.len(), 1);
    assert!(error.to_string().contains("waits to be woken"), "{error}");
    assert!(accept_line.load(Ordering::SeqCst) > 0);
}

/// While one call is told of the deadlock, the list shows who else waits, and where.
#[test]
fn the_others_are_in_the_list() {
    let system = System::virtual_time(1);
    let (a, b) = pair(&system);
    let (first, second) = (
        UdpSocket::bind_in(&a, "127.0.0.1:9").unwrap(),
        UdpSocket::bind_in(&b, "127.0.0.1:9").unwrap(),
    );
    let one = a
        .spawn(move || first.recv(&mut [0; 8]).unwrap_err())
        .unwrap();
    let two = b
        .spawn(move || second.recv(&mut [0; 8]).unwrap_err())
        .unwrap();
    let error = one.join().unwrap();
    let others = &Deadlock::of(&error).unwrap().pending.threads;
    let other = others
        .iter()
        .find(|t| t.name == "vnet-b")
        .expect("it waits");
    assert_eq!(other.site.unwrap().file(), file!());
    assert_eq!(other.until, None);
    assert!(others.iter().any(|t| t.name != "vnet-b"), "and so do we");
    assert_eq!(two.join().unwrap().kind(), ErrorKind::Deadlock);
}

/// Workers poll tasks; sleeps end on the wall clock, and never early.
#[test]
fn tasks_run_on_workers() {
    let system = System::threads();
    let (a, b) = pair(&system);
    let server = b.spawn_future(async {
        let socket = UdpSocket::bind("10.0.0.2:7")?;
        let mut buf = [0; 8];
        for _ in 0..100 {
            let (n, from) = poll_fn(|cx| socket.poll_recv_from(cx, &mut buf)).await?;
            socket.send_to(&buf[..n], from)?;
        }
        Ok::<_, std::io::Error>(())
    });
    let clock = system.clone();
    let client = a.spawn_future(async move {
        let socket = UdpSocket::bind("10.0.0.1:0")?;
        socket.connect("10.0.0.2:7")?;
        let mut buf = [0; 8];
        for n in 0..100u8 {
            let before = clock.now();
            clock.sleep_async(Duration::from_micros(50)).await;
            assert!(clock.now() - before >= Duration::from_micros(50));
            loop {
                socket.send(&[n])?;
                let answer = poll_fn(|cx| socket.poll_recv_from(cx, &mut buf));
                match clock.timeout(Duration::from_secs(20), answer).await {
                    // The server may not be there yet.
                    Ok(Err(e)) if e.kind() == ErrorKind::ConnectionRefused => {
                        clock.sleep_async(millis(1)).await;
                    }
                    Ok(answer) => {
                        assert_eq!((answer?.0, buf[0]), (1, n));
                        break;
                    }
                    Err(elapsed) => return Err(elapsed),
                }
            }
        }
        Ok::<_, std::io::Error>(())
    });
    client.join().unwrap().unwrap();
    server.join().unwrap().unwrap();
}

/// Under the threads driver a frame is never early.
#[test]
fn a_delay_is_never_shorter_than_it_was_said_to_be() {
    let system = System::threads();
    let (a, b) = pair(&system);
    let delays = [0, 1, 17, 250, 1000, 5000].map(Duration::from_micros);
    let sink = UdpSocket::bind_in(&b, "10.0.0.2:9").unwrap();
    sink.set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let source = UdpSocket::bind_in(&a, "10.0.0.1:9").unwrap();
    source.send_to(b"who has it", "10.0.0.2:9").unwrap();
    sink.recv(&mut [0; 16]).unwrap();
    for delay in delays {
        a.set_link("eth0", link(1_000_000_000_000, delay, 0.0))
            .unwrap();
        for _ in 0..50 {
            let before = system.now();
            source.send_to(b"x", "10.0.0.2:9").unwrap();
            sink.recv(&mut [0; 16]).unwrap();
            assert!(system.now() - before >= delay);
            let before = system.now();
            system.sleep(delay).unwrap();
            assert!(system.now() - before >= delay);
        }
    }
}

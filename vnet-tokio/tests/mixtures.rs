//! Programs that mix tokio with what it does not know: blocking calls, threads, other runtimes, tasks that never rest.
//! What can work does, and what cannot fails at once and says what to do.

mod common;

use std::future::{pending, poll_fn};
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use vnet::{LinkConfig, Resource, System};
use vnet_tokio::Runtime;
use vnet_tokio::net::{TcpListener, TcpStream, UdpSocket};

const SECOND: Duration = Duration::from_secs(1);

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn elapsed(system: &System) -> Duration {
    system.now().since(vnet::time::Instant::ZERO)
}

/// Counts how many of it are dropped.
struct Counts(Arc<AtomicU32>);

impl Drop for Counts {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn read(count: &AtomicU32) -> u32 {
    count.load(Ordering::Relaxed)
}

/// A task that counts seconds.
fn count_seconds(runtime: &Runtime) -> Arc<AtomicU32> {
    let count = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&count);
    runtime.spawn(async move {
        loop {
            sleep(SECOND).await;
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    count
}

#[test]
fn a_blocking_call_in_block_on_is_refused_and_harms_nobody() {
    let system = System::virtual_time(1);
    let (a, b) = common::pair(&system, &LinkConfig::default());
    let (one, two) = (Runtime::new(&a).unwrap(), Runtime::new(&b).unwrap());
    let count = count_seconds(&two);
    let napping = a.spawn_future(pending::<()>());
    let said = one.block_on(async {
        let nap = system.sleep(millis(1)).unwrap_err();
        let run = system.run_for(millis(1)).unwrap_err();
        let connect = vnet::net::TcpStream::connect("192.0.2.2:9").unwrap_err();
        let joined = napping.join().unwrap_err();
        sleep(3 * SECOND).await;
        [
            nap.to_string(),
            run.to_string(),
            connect.to_string(),
            joined.to_string(),
        ]
    });
    for said in said.unwrap() {
        assert!(said.contains("block") || said.contains("task"), "{said}");
    }
    assert_eq!((elapsed(&system), read(&count)), (3 * SECOND, 2));
}

#[test]
fn very_many_calls_in_block_on_take_time_and_harm_nobody() {
    let system = System::virtual_time(1);
    let (a, b) = common::pair(&system, &LinkConfig::default());
    let (one, two) = (Runtime::new(&a).unwrap(), Runtime::new(&b).unwrap());
    let count = count_seconds(&two);
    let took = one.block_on(async {
        let start = Instant::now();
        let socket = UdpSocket::bind("192.0.2.1:0").await.unwrap();
        for _ in 0..200_001 {
            assert!(socket.try_recv(&mut [0; 8]).is_err());
        }
        sleep(2 * SECOND).await;
        start.elapsed()
    });
    assert!(took.unwrap() >= 2 * SECOND);
    assert!(read(&count) >= 1);
}

#[test]
fn timers_of_spawned_tasks_stay_exact() {
    let system = System::virtual_time(1);
    let a = system.create("a").unwrap();
    let runtime = Runtime::new(&a).unwrap();
    let count = count_seconds(&runtime);
    system.run_for(300 * SECOND + millis(1)).unwrap();
    assert_eq!(read(&count), 300);
}

#[test]
fn the_world_may_move_inside_another_runtime() {
    let system = System::virtual_time(1);
    let (a, b) = common::pair(&system, &common::lossy());
    let server = Runtime::new(&b).unwrap();
    let count = count_seconds(&server);
    server.spawn(async {
        let socket = UdpSocket::bind("192.0.2.2:7").await.unwrap();
        let mut buf = [0; 16];
        loop {
            let (n, from) = socket.recv_from(&mut buf).await.unwrap();
            socket.send_to(&buf[..n], from).await.unwrap();
        }
    });
    let foreign = tokio::runtime::Builder::new_current_thread();
    let foreign = { foreign }.enable_all().build().unwrap();
    foreign.block_on(async {
        system.run_for(3 * SECOND + millis(1)).unwrap();
        assert_eq!(read(&count), 3);
        // Sockets of the library that block, and those of this crate in `System::block_on`.
        let socket = vnet::net::UdpSocket::bind_in(&a, "192.0.2.1:0").unwrap();
        socket.send_to(b"a", "192.0.2.2:7").unwrap();
        assert_eq!(socket.recv(&mut [0; 16]).unwrap(), 1);
        let socket = UdpSocket::from_std(socket).unwrap();
        let received = system.block_on(async {
            socket.send_to(b"bc", "192.0.2.2:7").await?;
            socket.recv(&mut [0; 16]).await
        });
        assert_eq!(received.unwrap().unwrap(), 2);
        let refused = server.block_on(async {}).unwrap_err();
        assert!(
            refused.to_string().contains("inside a tokio runtime"),
            "{refused}"
        );
    });
}

/// Whatever wakes a task is noticed at once, also after a long silence.
#[test]
fn wakes_from_outside_are_heard_at_their_time() {
    let system = System::virtual_time(1);
    let (a, b) = (system.create("a").unwrap(), system.create("b").unwrap());
    let runtime = Runtime::new(&a).unwrap();
    let (send, mut receive) = mpsc::unbounded_channel::<Duration>();
    let heard = Arc::new(AtomicU32::new(0));
    let (count, world) = (Arc::clone(&heard), system.clone());
    runtime.spawn(async move {
        while let Some(sent) = receive.recv().await {
            assert_eq!(elapsed(&world), sent);
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    let long = 40 * 24 * 3600 * SECOND + Duration::from_nanos(123_457);
    system.run_for(long).unwrap();
    // The program's own thread, a thread of a vnet, and a task of one.
    send.send(elapsed(&system)).unwrap();
    system.run_for(Duration::from_nanos(1)).unwrap();
    assert_eq!(read(&heard), 1);
    let (sender, world) = (send.clone(), system.clone());
    let thread = b.spawn(move || {
        world.sleep(Duration::from_nanos(777)).unwrap();
        sender.send(elapsed(&world)).unwrap();
        world.sleep(SECOND).unwrap();
    });
    let (sender, world) = (send.clone(), system.clone());
    let task = b.spawn_future(async move {
        world.sleep_async(Duration::from_nanos(778)).await;
        sender.send(elapsed(&world)).unwrap();
        world.sleep_async(SECOND).await;
        elapsed(&world)
    });
    // A task of tokio's that waits for one of the vnet's, and for its timer.
    let world = system.clone();
    let waits = runtime.spawn(async move {
        world.sleep_async(Duration::from_nanos(333)).await;
        let napped = elapsed(&world);
        let ended = task.await.unwrap();
        (napped, ended, elapsed(&world))
    });
    let begun = elapsed(&system);
    let (napped, ended, noticed) = system.block_on(waits).unwrap().unwrap();
    assert_eq!(napped - begun, Duration::from_nanos(333));
    assert_eq!(
        (ended, ended),
        (noticed, begun + SECOND + Duration::from_nanos(778))
    );
    thread.unwrap().join().unwrap();
    assert_eq!(read(&heard), 3);
}

/// A waker that counts.
#[derive(Default)]
struct Counted(AtomicU32);

impl Wake for Counted {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// One task's poll that succeeds does not take away the waker of another one that polled after it.
#[test]
fn the_task_that_polled_last_is_woken() {
    let system = System::virtual_time(1);
    let (a, b) = common::pair(&system, &LinkConfig::default());
    let socket = UdpSocket::bind_in(&a, "192.0.2.1:7").unwrap();
    let peer = UdpSocket::bind_in(&b, "192.0.2.2:0").unwrap();
    let mut buf = [0; 8];
    let waits = Arc::new(Counted::default());
    let poll = |waker: &Waker, buf: &mut [u8]| {
        socket.poll_recv(
            &mut Context::from_waker(waker),
            &mut tokio::io::ReadBuf::new(buf),
        )
    };
    let last = Waker::from(Arc::clone(&waits));
    assert!(poll(&last, &mut buf).is_pending());
    for round in 1..=2 {
        peer.try_send_to(b"x", "192.0.2.1:7".parse().unwrap())
            .unwrap();
        system.run_for(millis(1)).unwrap();
        assert_eq!(read(&waits.0), round);
        assert!(poll(Waker::noop(), &mut buf).is_ready());
        assert!(poll(&last, &mut buf).is_pending());
    }
}

#[test]
fn tasks_go_with_a_runtime_in_which_a_future_has_panicked() {
    let system = System::virtual_time(1);
    let a = system.create("a").unwrap();
    let ended = Arc::new(AtomicU32::new(0));
    let runtime = Runtime::new(&a).unwrap();
    let counts = Counts(Arc::clone(&ended));
    runtime.spawn(async move {
        let _counts = counts;
        let _socket = UdpSocket::bind("127.0.0.1:9").await.unwrap();
        pending::<()>().await;
    });
    runtime.block_on(sleep_for(millis(1))).unwrap();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async { panic!("as a test does that fails") })
    }));
    assert!(panicked.is_err());
    // It still runs.
    runtime.block_on(sleep_for(millis(1))).unwrap();
    drop(runtime);
    assert_eq!(read(&ended), 1);
    assert!(vnet::net::UdpSocket::bind_in(&a, "127.0.0.1:9").is_ok());
}

/// tokio's timers are made inside of a runtime.
async fn sleep_for(duration: Duration) {
    sleep(duration).await;
}

#[test]
fn a_thread_that_takes_no_turns_is_named_to_all_who_wait() {
    let system = System::virtual_time(1);
    let (a, b) = common::pair(&system, &LinkConfig::default());
    let server = Runtime::new(&b).unwrap();
    server.spawn(async {
        let listener = TcpListener::bind("192.0.2.2:80").await.unwrap();
        let (_stream, _) = listener.accept().await.unwrap();
        let _ = tokio::task::spawn_blocking(|| 1).await;
        pending::<()>().await;
    });
    let client = Runtime::new(&a).unwrap();
    for _ in 0..2 {
        let error = client.block_on(async {
            let _stream = TcpStream::connect("192.0.2.2:80").await.unwrap();
            pending::<()>().await;
        });
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        let said = error.to_string();
        assert!(
            said.contains("spawn_blocking") && said.contains("'b'"),
            "{said}"
        );
    }
    assert!(elapsed(&system) < SECOND, "at once");
}

#[test]
fn sockets_in_a_runtime_of_another_time_say_so() {
    let (system, other) = (System::virtual_time(1), System::virtual_time(2));
    let (_a, b) = common::pair(&system, &LinkConfig::default());
    let stranger = other.create("stranger").unwrap();
    let bind = || vnet::net::TcpListener::bind_in(&b, "192.0.2.2:0").unwrap();
    let foreign = tokio::runtime::Builder::new_current_thread();
    let foreign = { foreign }.enable_all().build().unwrap();
    let error = foreign.block_on(async {
        let listener = TcpListener::from_std(bind()).unwrap();
        listener.accept().await.unwrap_err()
    });
    assert!(error.to_string().contains("vnet_tokio::Runtime"), "{error}");
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let listener = TcpListener::from_std(bind()).unwrap();
        let serving = async { axum::serve(listener, axum::Router::new()).await };
        foreign.block_on(serving)
    }));
    let said = panicked.unwrap_err();
    let said = said.downcast_ref::<String>().unwrap();
    assert!(said.contains("vnet_tokio::Runtime"), "{said}");
    let runtime = Runtime::new(&stranger).unwrap();
    let listener = TcpListener::from_std(bind()).unwrap();
    let error = runtime.block_on(listener.accept()).unwrap().unwrap_err();
    assert!(error.to_string().contains("another System"), "{error}");
}

/// Sends never have to wait.
#[test]
fn a_loop_of_sends_can_be_ended() {
    let system = System::virtual_time(1);
    let (a, _b) = common::pair(&system, &LinkConfig::default());
    let one = Runtime::new(&a).unwrap();
    let sent = one.block_on(async {
        let socket = UdpSocket::bind("192.0.2.1:0").await.unwrap();
        let flood = async {
            loop {
                let sent = socket.send_to(b"x", "192.0.2.9:9").await;
                sent.unwrap();
            }
        };
        timeout(millis(10), flood).await
    });
    assert!(sent.unwrap().is_err());
}

/// What it looks for comes only as time passes.
#[test]
fn a_loop_that_looks_takes_time() {
    let system = System::virtual_time(1);
    let (a, b) = common::pair(&system, &LinkConfig::default());
    let (one, two) = (Runtime::new(&a).unwrap(), Runtime::new(&b).unwrap());
    two.spawn(async {
        let socket = UdpSocket::bind("192.0.2.2:0").await.unwrap();
        sleep(millis(20)).await;
        socket.send_to(b"x", "192.0.2.1:7").await.unwrap();
    });
    let received = one.block_on(async {
        let socket = UdpSocket::bind("192.0.2.1:7").await.unwrap();
        while socket.try_recv(&mut [0; 8]).is_err() {
            tokio::task::yield_now().await;
        }
    });
    received.unwrap();
}

/// It is beside one that is done, and one that sleeps.
#[test]
fn a_loop_that_does_nothing_takes_time() {
    let system = System::virtual_time(1);
    let a = system.create("a").unwrap();
    let one = Runtime::new(&a).unwrap();
    one.spawn(async {
        loop {
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(one.block_on(async { 7 }).unwrap(), 7);
    let start = elapsed(&system);
    one.block_on(sleep_for(millis(20))).unwrap();
    assert!(elapsed(&system) - start <= millis(25));
}

#[test]
fn a_vnet_destroyed_in_its_own_block_on_takes_its_tasks_with_it() {
    let system = System::virtual_time(1);
    let a = system.create("a").unwrap();
    let ended = Arc::new(AtomicU32::new(0));
    let runtime = Runtime::new(&a).unwrap();
    let counts = Counts(Arc::clone(&ended));
    runtime.spawn(async move {
        let _counts = counts;
        pending::<()>().await;
    });
    runtime.block_on(sleep_for(millis(1))).unwrap();
    let destroyed = runtime.block_on(async move {
        a.destroy();
    });
    destroyed.unwrap();
    assert_eq!(read(&ended), 1);
    let error = runtime.block_on(async {}).unwrap_err();
    assert!(vnet::SocketError::is_gone(&error), "{error}");
}

#[test]
fn a_runtime_that_cannot_begin_is_not_made() {
    for system in [System::virtual_time(1), System::threads()] {
        let a = system.create("a").unwrap();
        a.set_limit(Resource::Tasks, 1).unwrap();
        let first = Runtime::new(&a).unwrap();
        let error = Runtime::new(&a).unwrap_err();
        assert!(error.to_string().contains("tasks"), "{error}");
        drop(first);
        let gone = vnet::Vnet::clone(&a);
        a.destroy();
        let error = Runtime::new(&gone).unwrap_err();
        assert!(vnet::SocketError::is_gone(&error), "{error}");
    }
}

#[test]
fn with_threads_a_runtime_ends_with_its_vnet() {
    let system = System::threads();
    let (a, b) = (system.create("a").unwrap(), system.create("b").unwrap());
    let runtime = Runtime::new(&a).unwrap();
    let (started, begun) = std::sync::mpsc::channel();
    let waits = b.spawn(move || {
        let waited = runtime.block_on(poll_fn(|_| {
            let _ = started.send(());
            Poll::<()>::Pending
        }));
        (waited, runtime.block_on(async {}))
    });
    begun.recv().unwrap();
    a.destroy();
    let (waited, again) = waits.unwrap().join().unwrap();
    for error in [waited.unwrap_err(), again.unwrap_err()] {
        assert!(vnet::SocketError::is_gone(&error), "{error}");
    }
}

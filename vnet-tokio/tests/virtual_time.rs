//! tokio in virtual time: its tasks, timers and channels take turns with the rest of the simulation.

mod common;

use std::future::pending;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, interval, sleep, timeout};
use vnet::{LinkConfig, System};
use vnet_tokio::Runtime;
use vnet_tokio::net::{TcpListener, TcpStream, UdpSocket, lookup_host};

fn elapsed(system: &System) -> Duration {
    system.now().since(vnet::time::Instant::ZERO)
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn timers_go_off_at_their_time_and_take_none() {
    let system = System::virtual_time(1);
    let a = system.create("a").unwrap();
    let runtime = Runtime::new(&a).unwrap();
    let done = runtime.block_on(async {
        let start = Instant::now();
        sleep(millis(10)).await;
        assert_eq!(start.elapsed(), millis(10));
        let late = timeout(millis(250), pending::<()>()).await;
        assert!(late.is_err());
        assert_eq!(start.elapsed(), millis(260));
        let mut ticks = interval(millis(100));
        for n in 0..5 {
            ticks.tick().await;
            assert_eq!(start.elapsed(), millis(260 + n * 100));
        }
        tokio::task::yield_now().await;
        tokio::spawn(async move {
            sleep(millis(40)).await;
            start.elapsed()
        })
        .await
        .unwrap()
    });
    assert_eq!(done.unwrap(), millis(700));
    assert_eq!(elapsed(&system), millis(700));
}

#[test]
fn two_runtimes_have_one_clock() {
    let system = System::virtual_time(1);
    let link = LinkConfig {
        delay: millis(3),
        ..LinkConfig::default()
    };
    let (a, b) = common::pair(&system, &link);
    let (one, two) = (Runtime::new(&a).unwrap(), Runtime::new(&b).unwrap());
    let world = system.clone();
    let server = two.spawn(async move {
        let socket = UdpSocket::bind("192.0.2.2:9").await?;
        let mut buf = [0; 8];
        let mut times = Vec::new();
        for _ in 0..5 {
            let (n, from) = socket.recv_from(&mut buf).await?;
            times.push(elapsed(&world));
            socket.send_to(&buf[..n], from).await?;
        }
        io::Result::Ok(times)
    });
    let sent = one.block_on(async {
        let socket = UdpSocket::bind("192.0.2.1:0").await.unwrap();
        // The neighbour's address is asked for first.
        let mut sent = Vec::new();
        for _ in 0..5 {
            sleep(millis(7)).await;
            let start = Instant::now();
            sent.push(elapsed(&system));
            socket.send_to(b"x", "192.0.2.2:9").await.unwrap();
            socket.recv(&mut [0; 8]).await.unwrap();
            let took = start.elapsed();
            assert!(took >= millis(6) && took < millis(13), "{took:?}");
        }
        sent
    });
    let times = system.block_on(server).unwrap().unwrap().unwrap();
    for (sent, received) in sent.unwrap().into_iter().zip(times).skip(1) {
        assert_eq!(
            received - sent,
            millis(3),
            "exact, though tokio counts milliseconds"
        );
    }
}

#[test]
fn channels_between_vnets_wake_at_once() {
    let system = System::virtual_time(1);
    let (a, b) = (system.create("a").unwrap(), system.create("b").unwrap());
    let (one, two) = (Runtime::new(&a).unwrap(), Runtime::new(&b).unwrap());
    let (to_two, mut from_one) = mpsc::channel::<oneshot::Sender<Duration>>(1);
    let world = system.clone();
    two.spawn(async move {
        while let Some(answer) = from_one.recv().await {
            let _ = answer.send(elapsed(&world));
        }
    });
    let world = system.clone();
    let ran = one.block_on(async move {
        for n in 1..10 {
            sleep(millis(n) + Duration::from_micros(250)).await;
            let (answer, answered) = oneshot::channel();
            to_two.send(answer).await.unwrap();
            let sent = elapsed(&world);
            assert_eq!(answered.await.unwrap(), sent);
            assert_eq!(elapsed(&world), sent);
        }
    });
    ran.unwrap();
}

#[test]
fn select_and_cancellation() {
    let system = System::virtual_time(1);
    let (a, b) = common::pair(&system, &LinkConfig::default());
    let server = Runtime::new(&b).unwrap();
    server.spawn(async {
        let listener = TcpListener::bind("192.0.2.2:80").await.unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        for byte in 0..20 {
            sleep(millis(30)).await;
            stream.write_u8(byte).await.unwrap();
        }
    });
    let client = Runtime::new(&a).unwrap();
    let (bytes, ticks) = client
        .block_on(async {
            let mut stream = TcpStream::connect("192.0.2.2:80").await.unwrap();
            let (mut bytes, mut ticks) = (Vec::new(), 0);
            let mut clock = interval(millis(50));
            loop {
                tokio::select! {
                    biased;
                    read = stream.read_u8() => match read {
                        Ok(byte) => bytes.push(byte),
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
                            break;
                        }
                    },
                    _ = clock.tick() => ticks += 1,
                }
            }
            (bytes, ticks)
        })
        .unwrap();
    assert_eq!(bytes, (0..20).collect::<Vec<u8>>());
    assert!((12..=13).contains(&ticks), "{ticks}");
}

/// Days pass in no time, and a timer is late by a ten-thousandth at most.
#[test]
fn long_silences_are_jumped_over() {
    let system = System::virtual_time(1);
    let a = system.create("a").unwrap();
    let runtime = Runtime::new(&a).unwrap();
    let day = Duration::from_secs(24 * 3600);
    let took = runtime.block_on(async {
        let start = Instant::now();
        sleep(day).await;
        start.elapsed()
    });
    let late = took.unwrap() - day;
    assert!(late <= day / 10_000 + millis(1), "{late:?}");
}

#[test]
fn a_wait_in_vain_is_a_deadlock() {
    let system = System::virtual_time(1);
    let a = system.create("a").unwrap();
    let runtime = Runtime::new(&a).unwrap();
    runtime.spawn(pending::<()>());
    let error = runtime.block_on(pending::<()>()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Deadlock, "{error}");
    assert!(vnet::Deadlock::of(&error).is_some());
}

#[test]
fn tasks_end_with_their_runtime_and_their_vnet() {
    struct Counts(Arc<AtomicU32>);
    impl Drop for Counts {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let system = System::virtual_time(1);
    let a = system.create("a").unwrap();
    let ended = Arc::new(AtomicU32::new(0));
    let spawn = |runtime: &Runtime| {
        let counts = Counts(Arc::clone(&ended));
        runtime.spawn(async move {
            let _counts = counts;
            let _socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            pending::<()>().await;
        })
    };
    let runtime = Runtime::new(&a).unwrap();
    let _task = spawn(&runtime);
    runtime.block_on(async { sleep(millis(1)).await }).unwrap();
    drop(runtime);
    assert_eq!(ended.load(Ordering::Relaxed), 1);
    let runtime = Runtime::new(&a).unwrap();
    let task = spawn(&runtime);
    system.sleep(millis(5)).unwrap();
    assert!(a.destroy().leaked.is_zero());
    assert_eq!(ended.load(Ordering::Relaxed), 2);
    assert!(system.block_on(task).unwrap().unwrap_err().is_cancelled());
    let error = runtime.block_on(async {}).unwrap_err();
    assert!(vnet::SocketError::is_gone(&error), "{error}");
}

#[test]
fn mixtures_that_cannot_work_say_so() {
    let system = System::virtual_time(1);
    let (a, b) = common::pair(&system, &LinkConfig::default());
    let listener = TcpListener::bind_in(&b, "192.0.2.2:80").unwrap();
    for builder in [
        &mut tokio::runtime::Builder::new_current_thread(),
        tokio::runtime::Builder::new_multi_thread().worker_threads(1),
    ] {
        let foreign = builder.enable_all().build().unwrap();
        let error = foreign.block_on(listener.accept()).unwrap_err();
        assert!(error.to_string().contains("vnet_tokio::Runtime"), "{error}");
        let error = foreign.block_on(TcpStream::connect_in(&a, "192.0.2.2:80"));
        assert!(
            error
                .unwrap_err()
                .to_string()
                .contains("vnet_tokio::Runtime")
        );
    }
    let runtime = Runtime::new(&a).unwrap();
    let error = runtime.block_on(async { tokio::task::spawn_blocking(|| 1).await.unwrap() });
    let error = error.unwrap_err();
    assert!(error.to_string().contains("spawn_blocking"), "{error}");
}

#[test]
fn threads_and_runtimes_share_the_world() {
    let system = System::virtual_time(1);
    let (a, b) = common::pair(&system, &LinkConfig::default());
    let server = Runtime::new(&b).unwrap();
    server.spawn(async {
        let listener = TcpListener::bind("192.0.2.2:80").await.unwrap();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await
            });
        }
    });
    let clients: Vec<_> = (0..4)
        .map(|n| {
            a.spawn(move || {
                use std::io::{Read, Write};
                let mut stream = vnet::net::TcpStream::connect("192.0.2.2:80")?;
                stream.write_all(&[n; 1000])?;
                stream.shutdown(std::net::Shutdown::Write)?;
                let mut echo = Vec::new();
                stream.read_to_end(&mut echo)?;
                io::Result::Ok(echo == [n; 1000])
            })
        })
        .collect();
    // The listener is there when the first turn of a thread has come.
    for client in clients {
        assert!(client.unwrap().join().unwrap().unwrap());
    }
}

#[test]
fn with_threads_it_is_an_ordinary_runtime() {
    let system = System::threads();
    let (a, b) = common::pair(&system, &LinkConfig::default());
    let server = Runtime::new(&b).unwrap();
    let (tell, told) = oneshot::channel();
    server.spawn(async move {
        let listener = TcpListener::bind("0.0.0.0:80").await.unwrap();
        tell.send(()).unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        sleep(millis(1)).await;
        stream.write_all(b"hello").await.unwrap();
    });
    let client = Runtime::new(&a).unwrap();
    let answer = client.block_on(async {
        told.await.unwrap();
        let mut answer = String::new();
        let mut stream = TcpStream::connect("192.0.2.2:80").await.unwrap();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    });
    assert_eq!(answer.unwrap(), "hello");
}

/// Names are looked up as the simulation goes on, by a resolver that waits for sockets and timers of the vnet.
#[test]
fn names_are_looked_up_by_a_resolver_that_takes_its_time() {
    let system = System::virtual_time(1);
    let (a, b) = common::pair(&system, &LinkConfig::default());
    a.set_async_resolver(|vnet, name| {
        let (wait, known) = (vnet.system().sleep_async(millis(300)), name == "server");
        async move {
            wait.await;
            match known {
                true => Ok(vec!["192.0.2.2".parse().unwrap()]),
                false => Err(ErrorKind::NotFound.into()),
            }
        }
    })
    .unwrap();
    let server = Runtime::new(&b).unwrap();
    server.spawn(async {
        let listener = TcpListener::bind("0.0.0.0:80").await?;
        let udp = UdpSocket::bind("0.0.0.0:80").await?;
        let (_stream, _) = listener.accept().await?;
        while udp.recv(&mut [0; 8]).await? > 0 {}
        io::Result::Ok(())
    });
    let client = Runtime::new(&a).unwrap();
    let took = client.block_on(async {
        let start = Instant::now();
        let stream = TcpStream::connect("server:80").await?;
        assert_eq!(stream.peer_addr()?.to_string(), "192.0.2.2:80");
        let udp = UdpSocket::bind("0.0.0.0:0").await?;
        udp.send_to(b"x", ("server", 80)).await?;
        udp.connect(("server", 80)).await?;
        udp.send(b"x").await?;
        assert_eq!(lookup_host("server:80").await?.count(), 1);
        let unknown = TcpStream::connect("nobody:80").await.unwrap_err();
        assert_eq!(unknown.kind(), ErrorKind::NotFound);
        io::Result::Ok(start.elapsed())
    });
    let took = took.unwrap().unwrap();
    assert!(took >= millis(1500) && took < millis(1600), "{took:?}");
}

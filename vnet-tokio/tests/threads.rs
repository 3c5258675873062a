//! The sockets on an ordinary tokio runtime, with several threads, under the driver with threads.

mod common;

use std::future::{Future, poll_fn};
use std::io::{ErrorKind, IoSlice};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest};
use vnet::{LinkConfig, OwnedVnet, System};
use vnet_tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket, lookup_host};

fn network() -> (System, OwnedVnet, OwnedVnet) {
    let system = System::threads();
    let (a, b) = common::pair(&system, &LinkConfig::default());
    (system, a, b)
}

/// A connection from `a` to `b`.
async fn connection(a: &vnet::Vnet, b: &vnet::Vnet) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind_in(b, "192.0.2.2:0").unwrap();
    let to = listener.local_addr().unwrap();
    let (client, server) = tokio::join!(TcpStream::connect_in(a, to), listener.accept());
    (client.unwrap(), server.unwrap().0)
}

#[derive(Default)]
struct Counts(AtomicUsize);

impl Wake for Counts {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn echo_to_the_end_of_the_stream() {
    let (_system, a, b) = network();
    let listener = TcpListener::bind_in(&b, "192.0.2.2:7").unwrap();
    let server = tokio::spawn(async move {
        let (mut stream, peer) = listener.accept().await?;
        assert_eq!(stream.peer_addr()?, peer);
        let (mut read, mut write) = stream.split();
        tokio::io::copy(&mut read, &mut write).await
    });
    let mut client = TcpStream::connect_in(&a, "192.0.2.2:7").await.unwrap();
    client.set_nodelay(true).unwrap();
    client.write_all(b"hello").await.unwrap();
    client.shutdown().await.unwrap();
    let mut echo = Vec::new();
    client.read_to_end(&mut echo).await.unwrap();
    assert_eq!(echo, b"hello");
    assert_eq!(server.await.unwrap().unwrap(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_through_owned_halves() {
    let (_system, a, b) = network();
    let (client, server) = connection(&a, &b).await;
    let data: Vec<u8> = (0..8_u32 << 20).map(|n| (n % 251) as u8).collect();
    let expected = data.clone();
    let (mut read, mut write) = client.into_split();
    let sender = tokio::spawn(async move {
        write.write_all(&data).await.unwrap();
        // Dropping it ends the stream.
    });
    let mut received = Vec::new();
    let (mut server_read, server_write) = server.into_split();
    server_read.read_to_end(&mut received).await.unwrap();
    sender.await.unwrap();
    assert!(received == expected);
    drop(server_read.reunite(server_write).unwrap());
    assert_eq!(read.read(&mut [0; 8]).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_connections_at_once() {
    let (_system, a, b) = network();
    let a: vnet::Vnet = (*a).clone();
    let listener = TcpListener::bind_in(&b, "192.0.2.2:80").unwrap();
    const MANY: u32 = 200;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let number = stream.read_u32().await.unwrap();
                stream.write_u32(number * 2).await.unwrap();
            });
        }
    });
    let clients: Vec<_> = (0..MANY)
        .map(|number| {
            let a = a.clone();
            tokio::spawn(async move {
                let mut stream = TcpStream::connect_in(&a, "192.0.2.2:80").await.unwrap();
                stream.write_u32(number).await.unwrap();
                stream.read_u32().await.unwrap()
            })
        })
        .collect();
    for (client, number) in clients.into_iter().zip(0..) {
        assert_eq!(client.await.unwrap(), number * 2);
    }
}

/// A future that is dropped has read nothing, and nothing of its task stays with the socket.
#[tokio::test]
async fn a_dropped_future_loses_nothing_and_leaves_no_waker() {
    let (_system, a, b) = network();
    let (mut client, server) = connection(&a, &b).await;
    let udp = UdpSocket::bind_in(&b, "192.0.2.2:9").unwrap();
    let listener = TcpListener::bind_in(&b, "192.0.2.2:81").unwrap();
    let counts = Arc::new(Counts::default());
    let waker = Waker::from(Arc::clone(&counts));
    let mut cx = Context::from_waker(&waker);
    for _ in 0..100 {
        let mut buf = [0; 16];
        assert!(pin!(server.readable()).poll(&mut cx).is_pending());
        assert!(pin!(server.peek(&mut buf)).poll(&mut cx).is_pending());
        assert!(pin!(udp.recv_from(&mut buf)).poll(&mut cx).is_pending());
        assert!(pin!(listener.accept()).poll(&mut cx).is_pending());
    }
    drop(waker);
    assert_eq!(Arc::strong_count(&counts), 1, "wakers are left");
    client.write_all(b"first").await.unwrap();
    let mut buf = [0; 16];
    let n = server.peek(&mut buf).await.unwrap();
    assert!(b"first".starts_with(&buf[..n]) && n > 0);
    assert_eq!(counts.0.load(Ordering::Relaxed), 0, "nobody waited");
}

/// Whoever waits beside one that is dropped is woken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_dropped_does_not_take_the_wake_of_others() {
    let (_system, a, b) = network();
    let (mut client, server) = connection(&a, &b).await;
    let server = Arc::new(server);
    let waits = Arc::new(Counts::default());
    let waiting: Vec<_> = (0..8)
        .map(|_| {
            let (server, waits) = (Arc::clone(&server), Arc::clone(&waits));
            tokio::spawn(async move {
                let mut readable = pin!(server.readable());
                poll_fn(|cx| {
                    let polled = readable.as_mut().poll(cx);
                    waits.0.fetch_add(1, Ordering::Relaxed);
                    polled
                })
                .await
            })
        })
        .collect();
    while waits.0.load(Ordering::Relaxed) < 8 {
        tokio::task::yield_now().await;
    }
    for (at, one) in waiting.iter().enumerate() {
        if at % 2 == 0 {
            one.abort();
        }
    }
    client.write_all(b"x").await.unwrap();
    for (at, one) in waiting.into_iter().enumerate() {
        match one.await {
            Ok(ready) => ready.unwrap(),
            Err(error) => assert!(error.is_cancelled() && at % 2 == 0),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vnet_that_is_destroyed_ends_every_wait() {
    let (_system, a, b) = network();
    let (client, server) = connection(&a, &b).await;
    let listener = TcpListener::bind_in(&b, "192.0.2.2:81").unwrap();
    let accepting = tokio::spawn(async move { listener.accept().await.map(drop) });
    let reading = tokio::spawn(async move { server.readable().await });
    tokio::task::yield_now().await;
    let gone = vnet::Vnet::clone(&b);
    let destroyed = tokio::task::spawn_blocking(move || b.destroy());
    assert!(destroyed.await.unwrap().leaked.is_zero());
    let error = accepting.await.unwrap().unwrap_err();
    assert!(vnet::SocketError::is_gone(&error), "{error}");
    // It may have been told of the reset, or have found that the vnet is gone.
    let _ = reading.await.unwrap();
    drop(client);
    let error = TcpStream::connect_in(&gone, "192.0.2.1:81").await;
    assert!(vnet::SocketError::is_gone(&error.unwrap_err()));
}

/// Copying counts against a task's budget, so a reader has its turn before all is written that there is room for.
#[tokio::test]
async fn a_task_that_writes_much_lets_others_run() {
    const WRITES: usize = 16;
    let (_system, a, b) = network();
    let (mut client, _server) = connection(&a, &b).await;
    let written = Arc::new(Counts::default());
    let theirs = Arc::clone(&written);
    let writer = tokio::spawn(async move {
        let chunk = vec![7; 64 << 10];
        for _ in 0..WRITES {
            // There is room for all of it.
            client.write_all(&chunk).await.unwrap();
            theirs.0.fetch_add(1, Ordering::Relaxed);
        }
        client
    });
    let seen = tokio::spawn(async move { written.0.load(Ordering::Relaxed) });
    let seen = seen.await.unwrap();
    assert!((1..WRITES).contains(&seen), "{seen}");
    writer.await.unwrap();
}

#[tokio::test]
async fn states_and_tries() {
    let (_system, a, b) = network();
    let (client, mut server) = connection(&a, &b).await;
    let mut buf = [0; 16];
    assert_eq!(
        client.try_read(&mut buf).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
    assert!(
        client
            .ready(Interest::WRITABLE)
            .await
            .unwrap()
            .is_writable()
    );
    let both = Interest::READABLE | Interest::WRITABLE;
    let ready = client.ready(both).await.unwrap();
    assert!(ready.is_writable() && !ready.is_readable());
    let parts = [
        IoSlice::new(b"one "),
        IoSlice::new(b""),
        IoSlice::new(b"two"),
    ];
    assert!(client.is_write_vectored());
    assert_eq!(client.try_write_vectored(&parts).unwrap(), 7);
    let mut seven = [0; 7];
    server.read_exact(&mut seven).await.unwrap();
    assert_eq!(&seven, b"one two");
    // Larger than what is copied under the lock.
    let large = vec![7; 10_000];
    let parts = [IoSlice::new(b"head"), IoSlice::new(&large)];
    assert_eq!(client.try_write_vectored(&parts).unwrap(), 10_004);
    let mut all = vec![0; 10_004];
    server.read_exact(&mut all).await.unwrap();
    assert_eq!((&all[..4], &all[4..]), (&b"head"[..], &large[..]));
    server.shutdown().await.unwrap();
    let ready = client.ready(Interest::READABLE).await.unwrap();
    assert!(ready.is_readable() && ready.is_read_closed());
    assert_eq!(client.try_read(&mut buf).unwrap(), 0);
}

#[tokio::test]
async fn datagrams() {
    let (_system, a, b) = network();
    let one = UdpSocket::bind_in(&a, "192.0.2.1:0").unwrap();
    let two = UdpSocket::bind_in(&b, "192.0.2.2:9").unwrap();
    let mut buf = [0; 16];
    let error = two.try_recv_from(&mut buf).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    one.connect("192.0.2.2:9").await.unwrap();
    one.send(b"ping").await.unwrap();
    let (n, from) = two.peek_from(&mut buf).await.unwrap();
    assert_eq!((n, from), (4, one.local_addr().unwrap()));
    assert_eq!(two.recv_from(&mut buf).await.unwrap(), (4, from));
    two.send_to(b"pong!", from).await.unwrap();
    assert_eq!(one.recv(&mut buf).await.unwrap(), 5);
    assert_eq!(&buf[..5], b"pong!");
}

#[tokio::test]
async fn a_socket_is_bound_before_it_connects() {
    let (_system, a, b) = network();
    let listener = TcpListener::bind_in(&b, "192.0.2.2:80").unwrap();
    let socket = {
        let _a = a.enter();
        TcpSocket::new_v4().unwrap()
    };
    assert!(socket.bind("[2001:db8::1]:0".parse().unwrap()).is_err());
    socket.bind("192.0.2.1:5000".parse().unwrap()).unwrap();
    socket.set_nodelay(true).unwrap();
    let (client, server) = tokio::join!(
        socket.connect("192.0.2.2:80".parse().unwrap()),
        listener.accept()
    );
    let client = client.unwrap();
    assert_eq!(server.unwrap().1, "192.0.2.1:5000".parse().unwrap());
    assert!(client.nodelay().unwrap());
    let other = {
        let _a = a.enter();
        TcpSocket::new_v4().unwrap()
    };
    let error = other.bind("192.0.2.9:0".parse().unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
    other.bind("192.0.2.1:0".parse().unwrap()).unwrap();
    assert_ne!(other.local_addr().unwrap().port(), 0, "it is taken at once");
}

#[tokio::test]
async fn refusals_and_the_lack_of_a_vnet() {
    let (_system, a, _b) = network();
    let error = TcpStream::connect_in(&a, "192.0.2.2:1").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    let error = TcpListener::bind("127.0.0.1:0").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NetworkDown);
    let found: Vec<_> = lookup_host("192.0.2.2:1").await.unwrap().collect();
    assert_eq!(found, ["192.0.2.2:1".parse().unwrap()]);
    assert!(lookup_host("no name").await.is_err());
    let _b = _b.enter();
    let here: Vec<_> = lookup_host("localhost:1").await.unwrap().collect();
    assert!(here.contains(&"127.0.0.1:1".parse().unwrap()));
}

/// As with tokio, of several tasks that poll, the last one is woken.
#[tokio::test]
async fn the_task_polled_last_is_woken() {
    let (_system, a, b) = network();
    let (mut client, server) = connection(&a, &b).await;
    let (first, last) = (Arc::new(Counts::default()), Arc::new(Counts::default()));
    for counts in [&first, &last] {
        let waker = Waker::from(Arc::clone(counts));
        let polled = server.poll_read_ready(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
    }
    client.write_all(b"x").await.unwrap();
    server.readable().await.unwrap();
    poll_fn(|cx| match last.0.load(Ordering::Relaxed) {
        0 => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
        _ => Poll::Ready(()),
    })
    .await;
    assert_eq!(first.0.load(Ordering::Relaxed), 0);
}

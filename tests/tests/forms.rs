//! A call that blocks, one that does not, and a future's poll do the same: whatever the kind of
//! socket, each takes as much, fails in the same way, and registers whoever waits.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use vnet::net::{EchoSocket, Interest, RawSocket, TcpListener, TcpStream, UdpSocket};
use vnet::{OwnedVnet, Resource, SocketError, System, Vnet};
use vnet_tests::topology::hosts;

/// How an operation waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Blocking,
    Nonblocking,
    Polled,
}

const FORMS: [Form; 3] = [Form::Blocking, Form::Nonblocking, Form::Polled];
const TICK: Duration = Duration::from_millis(1);

/// How often somebody was woken.
#[derive(Default)]
struct Count(AtomicU32);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// One kind of socket, as the generic body below sees it.
trait Kind {
    fn nonblocking(&self, on: bool);
    fn timeout(&self, limit: Option<Duration>);
    fn send(&self, data: &[u8]) -> io::Result<usize>;
    fn recv(&self, buf: &mut [u8]) -> io::Result<usize>;
    /// As `send`, or `None` where sending never waits and has no such form.
    fn poll_send(&self, cx: &mut Context<'_>, data: &[u8]) -> Option<Poll<io::Result<usize>>>;
    fn poll_recv(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>>;
    fn is_ready(&self, interest: Interest) -> bool;
    fn ttl(&self, ttl: u32) -> (io::Result<()>, io::Result<u32>);
}

macro_rules! common {
    () => {
        fn nonblocking(&self, on: bool) {
            self.0.set_nonblocking(on).unwrap();
        }

        fn is_ready(&self, interest: Interest) -> bool {
            let mut cx = Context::from_waker(Waker::noop());
            self.0.poll_ready(&mut cx, interest).is_ready()
        }

        fn ttl(&self, ttl: u32) -> (io::Result<()>, io::Result<u32>) {
            (self.0.set_ttl(ttl), self.0.ttl())
        }
    };
}

struct Stream(TcpStream);

impl Kind for Stream {
    common!();

    fn timeout(&self, limit: Option<Duration>) {
        self.0.set_read_timeout(limit).unwrap();
        self.0.set_write_timeout(limit).unwrap();
    }

    fn send(&self, data: &[u8]) -> io::Result<usize> {
        (&self.0).write(data)
    }

    fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        (&self.0).read(buf)
    }

    fn poll_send(&self, cx: &mut Context<'_>, data: &[u8]) -> Option<Poll<io::Result<usize>>> {
        Some(self.0.poll_write(cx, data))
    }

    fn poll_recv(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.0.poll_read(cx, buf)
    }
}

/// What it receives are connections.
struct Listener(TcpListener);

impl Kind for Listener {
    common!();

    fn timeout(&self, limit: Option<Duration>) {
        self.0.set_accept_timeout(limit).unwrap();
    }

    fn send(&self, _: &[u8]) -> io::Result<usize> {
        Err(ErrorKind::Unsupported.into())
    }

    fn recv(&self, _: &mut [u8]) -> io::Result<usize> {
        self.0.accept().map(|_| 1)
    }

    fn poll_send(&self, _: &mut Context<'_>, _: &[u8]) -> Option<Poll<io::Result<usize>>> {
        None
    }

    fn poll_recv(&self, cx: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
        self.0.poll_accept(cx).map_ok(|_| 1)
    }
}

struct Datagrams(UdpSocket, SocketAddr);

impl Kind for Datagrams {
    common!();

    fn timeout(&self, limit: Option<Duration>) {
        self.0.set_read_timeout(limit).unwrap();
    }

    fn send(&self, data: &[u8]) -> io::Result<usize> {
        self.0.send_to(data, self.1)
    }

    fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.recv(buf)
    }

    fn poll_send(&self, _: &mut Context<'_>, _: &[u8]) -> Option<Poll<io::Result<usize>>> {
        None
    }

    fn poll_recv(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.0.poll_recv_from(cx, buf).map_ok(|(n, _)| n)
    }
}

struct Packets(RawSocket);

impl Kind for Packets {
    common!();

    fn timeout(&self, limit: Option<Duration>) {
        self.0.set_read_timeout(limit).unwrap();
    }

    fn send(&self, data: &[u8]) -> io::Result<usize> {
        self.0.send_to(data, Ipv4Addr::new(192, 0, 2, 1).into())
    }

    fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.recv_from(buf).map(|(n, _)| n)
    }

    fn poll_send(&self, _: &mut Context<'_>, _: &[u8]) -> Option<Poll<io::Result<usize>>> {
        None
    }

    fn poll_recv(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.0.poll_recv_from(cx, buf).map_ok(|(n, _)| n)
    }
}

struct Echoes(EchoSocket);

impl Kind for Echoes {
    common!();

    fn timeout(&self, limit: Option<Duration>) {
        self.0.set_read_timeout(limit).unwrap();
    }

    fn send(&self, data: &[u8]) -> io::Result<usize> {
        let to = Ipv4Addr::new(192, 0, 2, 1).into();
        self.0.send_to(1, data, to).map(|()| data.len())
    }

    fn recv(&self, _: &mut [u8]) -> io::Result<usize> {
        self.0.recv().map(|_| 1)
    }

    fn poll_send(&self, _: &mut Context<'_>, _: &[u8]) -> Option<Poll<io::Result<usize>>> {
        None
    }

    fn poll_recv(&self, cx: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
        self.0.poll_recv(cx).map_ok(|_| 1)
    }
}

/// What an operation said, without what only its form can say.
fn said(result: io::Result<usize>) -> String {
    match result {
        Ok(n) => n.to_string(),
        Err(e) if SocketError::is_gone(&e) => "gone".to_owned(),
        Err(e) => format!("{:?}", e.kind()),
    }
}

/// Does one operation in the given form. One that does not complete is a `WouldBlock` and takes a
/// tick in every form.
fn go(
    system: &System,
    form: Form,
    socket: &dyn Kind,
    call: impl Fn() -> io::Result<usize>,
    polled: impl Fn(&mut Context<'_>) -> Option<Poll<io::Result<usize>>>,
) -> String {
    socket.nonblocking(form == Form::Nonblocking);
    let limit = (form == Form::Blocking).then_some(TICK);
    socket.timeout(limit);
    let wakes = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&wakes));
    let poll = || polled(&mut Context::from_waker(&waker));
    let result = match (form == Form::Polled).then(poll).flatten() {
        Some(Poll::Pending) => Err(ErrorKind::WouldBlock.into()),
        Some(Poll::Ready(result)) => {
            assert_eq!(
                Arc::strong_count(&wakes),
                2,
                "nobody waits for what is done"
            );
            result
        }
        None => call(),
    };
    let blocked = matches!(&result, Err(e) if e.kind() == ErrorKind::WouldBlock);
    if blocked && form != Form::Blocking {
        system.run_for(TICK).unwrap();
    }
    // Whatever can move has moved before the next operation, which then cannot complete by waiting.
    system.run_for(TICK).unwrap();
    said(result)
}

fn send(system: &System, form: Form, socket: &dyn Kind, data: &[u8]) -> String {
    let call = || socket.send(data);
    go(system, form, socket, call, |cx| socket.poll_send(cx, data))
}

fn recv(system: &System, form: Form, socket: &dyn Kind, len: usize) -> String {
    let call = || socket.recv(&mut vec![0; len]);
    let polled = |cx: &mut Context<'_>| Some(socket.poll_recv(cx, &mut vec![0; len]));
    go(system, form, socket, call, polled)
}

fn world() -> (System, OwnedVnet, OwnedVnet) {
    let system = System::virtual_time(5);
    system.record_fingerprint();
    let (a, b) = hosts(&system);
    // Of both, so that what does not fit in one socket does not fit in the other.
    for vnet in [&a, &b] {
        for name in ["net.inet.tcp.sendspace", "net.inet.tcp.recvspace"] {
            vnet.set_sysctl(name, "100000").unwrap();
        }
    }
    (system, a, b)
}

/// Runs one body for every form and compares what was said, and every frame that was sent.
fn alike(body: impl Fn(Form) -> (Vec<String>, System)) -> Vec<String> {
    let mut results = FORMS.map(|form| {
        let (log, system) = body(form);
        (form, log, system.fingerprint())
    });
    let (_, first, frames) = results[0].clone();
    assert!(frames.is_some(), "simulated time has a fingerprint");
    for (form, log, prints) in &mut results {
        assert_eq!(*log, first, "{form:?}");
        assert_eq!(*prints, frames, "{form:?}");
    }
    first
}

/// What every kind does where nothing has arrived, when something does, and at the end.
fn life(
    form: Form,
    make: impl Fn(&Vnet, &Vnet) -> (Box<dyn Kind>, Box<dyn Fn()>),
) -> (Vec<String>, System) {
    let (system, a, b) = world();
    let (socket, provoke) = make(&a, &b);
    let socket = &*socket;
    let mut log = vec![recv(&system, form, socket, 100)];
    // Somebody who waits as a future is woken by what arrives, once.
    let wakes = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&wakes));
    let mut cx = Context::from_waker(&waker);
    assert!(!socket.is_ready(Interest::Read));
    assert!(socket.poll_recv(&mut cx, &mut [0; 100]).is_pending());
    provoke();
    system.run_for(TICK).unwrap();
    assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
    assert!(socket.is_ready(Interest::Read));
    log.push(recv(&system, form, socket, 100));
    log.push(recv(&system, form, socket, 100));
    assert_eq!(socket.ttl(0).0.unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(
        socket.ttl(256).0.unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
    assert_eq!(socket.ttl(7).1.unwrap(), 7);
    log.push(send(&system, form, socket, b"four"));
    system.run_for(TICK).unwrap();
    b.destroy();
    log.push(recv(&system, form, socket, 100));
    log.push(send(&system, form, socket, b"late"));
    log.push(send(&system, form, socket, &[0; 10_000]));
    (log, system)
}

#[test]
fn every_kind_reads_alike_in_every_form() {
    let streams = alike(|form| {
        life(form, |a, b| {
            let listener = TcpListener::bind_in(b, "192.0.2.2:80").unwrap();
            let client = TcpStream::connect_in(a, "192.0.2.2:80").unwrap();
            let (server, _) = listener.accept().unwrap();
            let talk = move || assert_eq!((&client).write(b"hello").unwrap(), 5);
            (Box::new(Stream(server)), Box::new(talk))
        })
    });
    assert_eq!(
        streams,
        ["WouldBlock", "5", "WouldBlock", "4", "gone", "gone", "gone"]
    );
    let listeners = alike(|form| {
        life(form, |a, b| {
            let listener = TcpListener::bind_in(b, "192.0.2.2:80").unwrap();
            let a = a.clone();
            let to = "192.0.2.2:80".parse().unwrap();
            let call = move || std::mem::forget(TcpStream::start_connect_in(&a, to).unwrap());
            (Box::new(Listener(listener)), Box::new(call))
        })
    });
    let refused = "Unsupported";
    assert_eq!(
        listeners,
        [
            "WouldBlock",
            "1",
            "WouldBlock",
            refused,
            "gone",
            refused,
            refused
        ]
    );
    let datagrams = alike(|form| {
        life(form, |a, b| {
            let peer = UdpSocket::bind_in(a, "192.0.2.1:9").unwrap();
            let socket = UdpSocket::bind_in(b, "192.0.2.2:53").unwrap();
            let talk = move || assert_eq!(peer.send_to(b"hello", "192.0.2.2:53").unwrap(), 5);
            let to = "192.0.2.1:9".parse().unwrap();
            (Box::new(Datagrams(socket, to)), Box::new(talk))
        })
    });
    assert_eq!(datagrams, streams);
    let packets = alike(|form| {
        life(form, |a, b| {
            let peer = RawSocket::open_in(a, 253).unwrap();
            let socket = RawSocket::open_in(b, 253).unwrap();
            let to = Ipv4Addr::new(192, 0, 2, 2).into();
            let talk = move || assert_eq!(peer.send_to(b"hello", to).unwrap(), 5);
            (Box::new(Packets(socket)), Box::new(talk))
        })
    });
    assert_eq!(packets, streams);
    let echoes = alike(|form| {
        life(form, |_, b| {
            let socket = EchoSocket::bind_in(b).unwrap();
            let same = socket.clone();
            let to = Ipv4Addr::new(192, 0, 2, 1).into();
            let ping = move || same.send_to(1, b"hello", to).unwrap();
            (Box::new(Echoes(socket)), Box::new(ping))
        })
    });
    assert_eq!(
        echoes,
        ["WouldBlock", "1", "WouldBlock", "4", "gone", "gone", "gone"]
    );
}

/// A stream takes as much of a write in every form: the room there is, a chunk at most.
#[test]
fn a_stream_takes_as_much_in_every_form() {
    let log = alike(|form| {
        let (system, a, b) = world();
        let listener = TcpListener::bind_in(&b, "192.0.2.2:80").unwrap();
        let client = TcpStream::connect_in(&a, "192.0.2.2:80").unwrap();
        let (server, _) = listener.accept().unwrap();
        let (client, server) = (Stream(client), Stream(server));
        let data = vec![7; 200_000];
        let put = |n: usize| send(&system, form, &client, &data[..n]);
        let mut log = vec![
            put(0),
            put(1),
            put(2048),
            put(2049),
            put(200_000),
            put(200_000),
        ];
        // Until nothing goes any more, in small pieces and in large ones.
        while !log.ends_with(&["WouldBlock".to_owned(), "WouldBlock".to_owned()]) {
            log.extend([put(150_000), put(1)]);
            system.run_for(100 * TICK).unwrap();
        }
        log.push(put(5000));
        assert!(!client.is_ready(Interest::Write));
        // Who waits for room is woken when the peer has read, and not before.
        let wakes = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let mut cx = Context::from_waker(&waker);
        assert!(client.0.poll_write(&mut cx, &data).is_pending());
        system.run_for(TICK).unwrap();
        assert_eq!(wakes.0.load(Ordering::Relaxed), 0);
        let mut buf = vec![0; 90_000];
        server.0.set_nonblocking(true).unwrap();
        while (&server.0).read(&mut buf).is_ok() {
            system.run_for(TICK).unwrap();
        }
        assert!(wakes.0.load(Ordering::Relaxed) >= 1 && client.is_ready(Interest::Write));
        log.push(put(200_000));
        // The vnet's limit holds in every form.
        a.set_limit(Resource::BufferedBytes, 1000).unwrap();
        log.extend([put(1), put(5000)]);
        a.set_limit(Resource::BufferedBytes, Resource::UNLIMITED)
            .unwrap();
        log.push(put(5000));
        client.0.shutdown(std::net::Shutdown::Write).unwrap();
        log.extend([put(1), put(5000), put(0)]);
        (log, system)
    });
    let (full, end) = ("WouldBlock", "BrokenPipe");
    assert_eq!(log[..6], ["0", "1", "2048", "2049", "65536", "65536"]);
    assert!(log.contains(&full.to_owned()) && log.contains(&"QuotaExceeded".to_owned()));
    assert_eq!(log[log.len() - 3..], [end, end, "0"]);
}

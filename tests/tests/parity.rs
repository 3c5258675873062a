//! Promise: `vnet::net` behaves as `std::net`. Each case is one piece of code, compiled once
//! against the sockets of the host (on its loopback interface) and once against those of a vnet
//! (on its own), and both must observe the same.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use vnet::System;

/// What a case observed, in words.
#[derive(Default)]
struct Observed(Vec<String>);

impl Observed {
    /// Notes a result: the value, or the kind of the error.
    fn note<T: std::fmt::Debug>(&mut self, what: &str, result: io::Result<T>) {
        let text = match result {
            Ok(value) => format!("{what}: {value:?}"),
            Err(error) => format!("{what}: error {:?}", error.kind()),
        };
        self.0.push(text);
    }
}

mod host_sockets {
    pub(super) use std::net::{TcpListener, TcpStream, UdpSocket};
}

mod our_sockets {
    pub(super) use vnet::net::{TcpListener, TcpStream, UdpSocket};
}

/// Compiles the same block against either set of sockets, and compares what both observe.
macro_rules! same {
    ($name:ident, |$seen:ident| $body:block) => {
        mod $name {
            use super::*;

            mod host {
                use super::*;
                use host_sockets::*;

                pub(super) fn run($seen: &mut Observed) -> io::Result<()> {
                    $body
                    Ok(())
                }
            }

            mod ours {
                use super::*;
                use our_sockets::*;

                pub(super) fn run($seen: &mut Observed) -> io::Result<()> {
                    $body
                    Ok(())
                }
            }

            #[test]
            fn is_the_same() {
                compare(host::run, ours::run);
            }
        }
    };
}

type Case = fn(&mut Observed) -> io::Result<()>;

fn compare(host: Case, ours: Case) {
    let mut expected = Observed::default();
    host(&mut expected).expect("the case runs on the host");
    let system = System::threads();
    let vnet = system.create("parity").expect("the name is free");
    let _current = vnet.enter();
    let mut found = Observed::default();
    let end = ours(&mut found);
    assert_eq!(found.0, expected.0, "and then {end:?}");
    end.expect("the case runs in a vnet");
    assert!(
        !expected.0.is_empty(),
        "a case that observes nothing cannot fail"
    );
}

// Where hosts differ among themselves, the library does as BSD does, and says so here: with
// `SO_REUSEADDR`, which the standard library sets, a wildcard listener and one on an address may
// share a port (Linux refuses), and the exact address is preferred.
#[test]
fn a_wildcard_listener_may_stand_beside_an_exact_one_as_on_bsd() {
    use vnet::net::{TcpListener, TcpStream};
    let system = System::virtual_time(1);
    let vnet = system.create("bsd").expect("the name is free");
    let _current = vnet.enter();
    let exact = TcpListener::bind("127.0.0.1:80").unwrap();
    let wide = TcpListener::bind("0.0.0.0:80").unwrap();
    assert!(TcpListener::bind("127.0.0.1:80").is_err() && TcpListener::bind("0.0.0.0:80").is_err());
    let _one = TcpStream::connect("127.0.0.1:80").unwrap();
    let _two = TcpStream::connect("127.0.0.2:80").unwrap();
    for (listener, ip) in [(exact, [127, 0, 0, 1]), (wide, [127, 0, 0, 2])] {
        let (stream, _) = listener.accept().unwrap();
        assert_eq!(stream.local_addr().unwrap().ip(), Ipv4Addr::from(ip));
    }
}

// And reading into nothing reads nothing, where Linux waits for data first.
#[test]
fn reading_into_an_empty_buffer_does_not_wait() {
    use vnet::net::{TcpListener, TcpStream};
    let system = System::virtual_time(1);
    let vnet = system.create("empty").expect("the name is free");
    let _current = vnet.enter();
    let listener = TcpListener::bind("127.0.0.1:80").unwrap();
    let mut stream = TcpStream::connect("127.0.0.1:80").unwrap();
    let _server = listener.accept().unwrap();
    assert_eq!(stream.read(&mut []).unwrap(), 0);
}

/// Tries until `f` does something else than to succeed, or to say that it would block: for what
/// becomes known a moment later.
fn until_error<T>(mut f: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let started = Instant::now();
    loop {
        match f() {
            Err(e) if e.kind() != ErrorKind::WouldBlock => return Err(e),
            last if started.elapsed() > Duration::from_secs(60) => return last,
            _ => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// Tries until `f` does something else than to say that it would block.
fn until_ready<T>(mut f: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let started = Instant::now();
    loop {
        match f() {
            Err(e)
                if e.kind() == ErrorKind::WouldBlock
                    && started.elapsed() < Duration::from_secs(60) =>
            {
                std::thread::sleep(Duration::from_millis(1));
            }
            result => return result,
        }
    }
}

/// A connected pair: client and server.
macro_rules! connected {
    () => {{
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let client = TcpStream::connect(listener.local_addr()?)?;
        let (server, _) = listener.accept()?;
        (client, server)
    }};
}

const SHORT: Option<Duration> = Some(Duration::from_millis(20));
const LONG: Option<Duration> = Some(Duration::from_secs(10));

same!(connect_where_nobody_listens, |seen| {
    let free = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    seen.note("connect", TcpStream::connect(free).map(drop));
    let timeout = Duration::from_secs(60);
    seen.note(
        "with a timeout",
        TcpStream::connect_timeout(&free, timeout).map(drop),
    );
    let none = TcpStream::connect_timeout(&free, Duration::ZERO);
    seen.note("with no time", none.map(drop));
});

same!(connect_tries_each_address, |seen| {
    let nobody = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let addrs = [nobody, listener.local_addr()?];
    let stream = TcpStream::connect(&addrs[..])?;
    seen.note("reached", Ok(stream.peer_addr()? == listener.local_addr()?));
    seen.note(
        "none",
        TcpStream::connect(&[][..] as &[SocketAddr]).map(drop),
    );
});

same!(bind_twice, |seen| {
    let tcp = TcpListener::bind("127.0.0.1:0")?;
    seen.note("tcp", TcpListener::bind(tcp.local_addr()?).map(drop));
    let udp = UdpSocket::bind("127.0.0.1:0")?;
    seen.note("udp", UdpSocket::bind(udp.local_addr()?).map(drop));
    let port = udp.local_addr()?.port();
    seen.note(
        "udp wildcard",
        UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).map(drop),
    );
    seen.note(
        "udp on a tcp port",
        UdpSocket::bind(tcp.local_addr()?).map(drop),
    );
    let (tcp_addr, udp_addr) = (tcp.local_addr()?, udp.local_addr()?);
    drop((tcp, udp));
    seen.note("tcp again", TcpListener::bind(tcp_addr).map(drop));
    seen.note("udp again", UdpSocket::bind(udp_addr).map(drop));
});

same!(bind_to_an_address_of_somebody_else, |seen| {
    seen.note("tcp", TcpListener::bind("192.0.2.77:0").map(drop));
    seen.note("udp", UdpSocket::bind("192.0.2.77:0").map(drop));
    seen.note(
        "no address",
        UdpSocket::bind(&[][..] as &[SocketAddr]).map(drop),
    );
});

same!(rebind_after_a_connection, |seen| {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    let client = TcpStream::connect(addr)?;
    let (server, _) = listener.accept()?;
    // The server closes first, so the listener's port is in TIME-WAIT.
    drop(server);
    let mut rest = Vec::new();
    (&client).read_to_end(&mut rest)?;
    drop(client);
    drop(listener);
    seen.note("while it lingers", TcpListener::bind(addr).map(drop));
});

same!(ephemeral_ports_are_given_and_differ, |seen| {
    let one = UdpSocket::bind("127.0.0.1:0")?;
    let two = UdpSocket::bind("127.0.0.1:0")?;
    seen.note("given", Ok(one.local_addr()?.port() != 0));
    seen.note("differ", Ok(one.local_addr()? != two.local_addr()?));
    let any = UdpSocket::bind("0.0.0.0:0")?;
    seen.note("unspecified stays", Ok(any.local_addr()?.ip()));
    let (client, server) = connected!();
    seen.note("client's", Ok(client.local_addr()?.port() >= 1024));
    seen.note(
        "both agree",
        Ok(client.local_addr()? == server.peer_addr()?),
    );
    seen.note("and", Ok(client.peer_addr()? == server.local_addr()?));
});

same!(read_after_the_peer_closed, |seen| {
    let (mut client, mut server) = connected!();
    server.write_all(b"last words")?;
    drop(server);
    let mut text = String::new();
    seen.note("rest", client.read_to_string(&mut text));
    seen.note("text", Ok(text));
    let mut buf = [0; 8];
    seen.note("again", client.read(&mut buf));
    seen.note("and again", client.read(&mut buf));
    seen.note("peek", client.peek(&mut buf));
});

same!(write_after_the_peer_closed, |seen| {
    let (mut client, server) = connected!();
    drop(server);
    let mut buf = [0; 8];
    seen.note("end", client.read(&mut buf));
    seen.note("first", client.write(b"x"));
    seen.note("later", until_error(|| client.write(b"x")));
    seen.note("once more", client.write(b"x"));
    seen.note("read", client.read(&mut buf));
});

same!(close_with_unread_data_resets, |seen| {
    let (mut client, server) = connected!();
    client.write_all(b"never read")?;
    // The data must have arrived: it would be refused otherwise, which is another case.
    server.peek(&mut [0; 1])?;
    drop(server);
    client.set_read_timeout(LONG)?;
    let mut buf = [0; 8];
    seen.note("read", client.read(&mut buf));
    seen.note("then", client.read(&mut buf));
    seen.note("write", client.write(b"x"));
    seen.note(
        "take_error",
        client.take_error().map(|e| e.map(|e| e.kind())),
    );
});

same!(take_error_takes_it_once, |seen| {
    let (mut client, server) = connected!();
    client.write_all(b"never read")?;
    server.peek(&mut [0; 1])?;
    seen.note("none yet", client.take_error().map(|e| e.map(|e| e.kind())));
    drop(server);
    let mut taken = client.take_error()?;
    let started = Instant::now();
    while taken.is_none() && started.elapsed() < Duration::from_secs(60) {
        taken = client.take_error()?;
    }
    seen.note("taken", Ok(taken.map(|e| e.kind())));
    seen.note("once", client.take_error().map(|e| e.map(|e| e.kind())));
    let mut buf = [0; 8];
    seen.note("read", client.read(&mut buf));
    seen.note("write", client.write(b"x"));
});

same!(shut_down_writing, |seen| {
    let (mut client, mut server) = connected!();
    client.write_all(b"before")?;
    seen.note("shutdown", client.shutdown(Shutdown::Write));
    seen.note("write", client.write(b"after"));
    let mut text = String::new();
    server.read_to_string(&mut text)?;
    seen.note("arrived", Ok(text));
    server.write_all(b"the other way goes on")?;
    let mut buf = [0; 21];
    client.read_exact(&mut buf)?;
    seen.note("back", Ok(String::from_utf8_lossy(&buf).into_owned()));
    seen.note("again", client.shutdown(Shutdown::Write));
});

same!(shut_down_reading, |seen| {
    let (mut client, mut server) = connected!();
    seen.note("shutdown", client.shutdown(Shutdown::Read));
    let mut buf = [0; 8];
    seen.note("read", client.read(&mut buf));
    seen.note("write", client.write(b"still"));
    server.read_exact(&mut buf[..5])?;
    seen.note("arrived", Ok(buf[..5].to_vec()));
});

same!(shut_down_both, |seen| {
    let (mut client, mut server) = connected!();
    seen.note("shutdown", client.shutdown(Shutdown::Both));
    let mut buf = [0; 8];
    seen.note("read", client.read(&mut buf));
    seen.note("write", client.write(b"x"));
    seen.note("peer reads", server.read(&mut buf));
});

same!(shut_down_after_the_peer_did, |seen| {
    let (client, server) = connected!();
    server.shutdown(Shutdown::Both)?;
    let mut buf = [0; 8];
    seen.note("end", (&client).read(&mut buf));
    seen.note("shutdown", client.shutdown(Shutdown::Both));
    drop(server);
});

same!(peeking_takes_nothing, |seen| {
    let (client, mut server) = connected!();
    server.write_all(b"look")?;
    let mut buf = [0; 8];
    seen.note("peek", client.peek(&mut buf));
    seen.note("peek again", client.peek(&mut buf[..2]));
    seen.note("read", (&client).read(&mut buf));
    seen.note("bytes", Ok(buf[..4].to_vec()));
    client.set_nonblocking(true)?;
    seen.note("nothing left", client.peek(&mut buf));
});

same!(nonblocking_streams_would_block, |seen| {
    let (mut client, mut server) = connected!();
    client.set_nonblocking(true)?;
    let mut buf = [0; 8];
    seen.note("read", client.read(&mut buf));
    server.write_all(b"now")?;
    seen.note("then", until_ready(|| client.read(&mut buf)));
    let chunk = [0; 65_536];
    // Both buffers fill up: it ends by blocking, not by failing.
    let mut stuck = None;
    for _ in 0..4096 {
        if let Err(e) = client.write(&chunk) {
            stuck = Some(e.kind());
            break;
        }
    }
    seen.note("write", Ok(stuck));
    seen.note("empty", client.write(&[]));
});

same!(nonblocking_accept_would_block, |seen| {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    seen.note("nobody", listener.accept().map(drop));
    let client = TcpStream::connect(listener.local_addr()?)?;
    let (mut accepted, peer) = until_ready(|| listener.accept())?;
    seen.note("peer", Ok(peer == client.local_addr()?));
    seen.note("none left", listener.accept().map(drop));
    seen.note("error", listener.take_error().map(|e| e.is_none()));
    // The accepted stream blocks, whatever its listener does.
    accepted.set_read_timeout(SHORT)?;
    let started = Instant::now();
    seen.note("read", accepted.read(&mut [0; 8]));
    seen.note("waited", Ok(started.elapsed() >= Duration::from_millis(10)));
});

same!(read_timeouts, |seen| {
    let (mut client, mut server) = connected!();
    seen.note("none", client.read_timeout());
    client.set_read_timeout(SHORT)?;
    seen.note("set", client.read_timeout());
    seen.note("write's is its own", client.write_timeout());
    let mut buf = [0; 8];
    seen.note("read", client.read(&mut buf));
    seen.note("peek", client.peek(&mut buf));
    server.write_all(b"late")?;
    client.set_read_timeout(LONG)?;
    seen.note("still works", client.read(&mut buf));
    seen.note("zero", client.set_read_timeout(Some(Duration::ZERO)));
    client.set_read_timeout(None)?;
    seen.note("off", client.read_timeout());
});

same!(write_timeouts, |seen| {
    let (mut client, server) = connected!();
    client.set_write_timeout(SHORT)?;
    seen.note("set", client.write_timeout());
    let chunk = [0; 65_536];
    let mut stuck = None;
    for _ in 0..4096 {
        if let Err(e) = client.write(&chunk) {
            stuck = Some(e.kind());
            break;
        }
    }
    seen.note("full", Ok(stuck));
    seen.note("zero", client.set_write_timeout(Some(Duration::ZERO)));
    drop(server);
});

same!(options_say_what_was_set, |seen| {
    let (client, _server) = connected!();
    seen.note("nodelay", client.nodelay());
    client.set_nodelay(true)?;
    seen.note("nodelay", client.nodelay());
    seen.note("ttl", client.ttl());
    client.set_ttl(7)?;
    seen.note("ttl", client.ttl());
    seen.note("ttl 0", client.set_ttl(0));
    seen.note("ttl 256", client.set_ttl(256));
    seen.note("ttl stays", client.ttl());
    seen.note("error", client.take_error().map(|e| e.is_none()));
    let udp = UdpSocket::bind("127.0.0.1:0")?;
    seen.note("udp ttl", udp.ttl());
    udp.set_ttl(9)?;
    seen.note("udp ttl", udp.ttl());
    seen.note("broadcast", udp.broadcast());
    udp.set_broadcast(true)?;
    seen.note("broadcast", udp.broadcast());
    udp.set_read_timeout(SHORT)?;
    seen.note("timeout", udp.read_timeout());
    seen.note("zero", udp.set_read_timeout(Some(Duration::ZERO)));
});

same!(clones_are_the_same_socket, |seen| {
    let (client, mut server) = connected!();
    let clone = client.try_clone()?;
    clone.set_nodelay(true)?;
    seen.note("shared", client.nodelay());
    client.set_nonblocking(true)?;
    seen.note("blocking too", (&clone).read(&mut [0; 8]));
    client.set_nonblocking(false)?;
    drop(client);
    (&clone).write_all(b"still open")?;
    let mut buf = [0; 10];
    server.read_exact(&mut buf)?;
    seen.note("arrived", Ok(buf.to_vec()));
    drop(clone);
    seen.note("closed with the last", server.read(&mut buf));
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let other = listener.try_clone()?;
    let addr = listener.local_addr()?;
    drop(listener);
    let _client = TcpStream::connect(addr)?;
    seen.note("accept", other.accept().map(drop));
});

same!(a_listener_that_goes_resets_what_it_did_not_accept, |seen| {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    let addr = listener.local_addr()?;
    drop(listener);
    client.set_read_timeout(LONG)?;
    seen.note("read", client.read(&mut [0; 8]));
    seen.note("connect", TcpStream::connect(addr).map(drop));
});

same!(vectored_calls, |seen| {
    let (mut client, mut server) = connected!();
    let parts = [
        io::IoSlice::new(b""),
        io::IoSlice::new(b"one "),
        io::IoSlice::new(b"two"),
    ];
    seen.note("written", client.write_vectored(&parts));
    let mut all = [0; 7];
    server.read_exact(&mut all)?;
    seen.note("arrived", Ok(all.to_vec()));
    // Small and large ones, none at all, and empty ones.
    let large = vec![7; 20_000];
    let parts = [&b"head"[..], &large, b"", b"tail"].map(io::IoSlice::new);
    seen.note("large", client.write_vectored(&parts));
    let mut all = vec![0; 20_008];
    server.read_exact(&mut all)?;
    let expected = [&b"head"[..], &large, b"tail"].concat();
    seen.note("whole", Ok(all == expected));
    seen.note("none", client.write_vectored(&[]));
    seen.note("empty", client.write_vectored(&[io::IoSlice::new(b"")]));
    client.write_all(b"abcdef")?;
    let (mut a, mut b) = ([0; 2], [0; 8]);
    let n =
        server.read_vectored(&mut [io::IoSliceMut::new(&mut a), io::IoSliceMut::new(&mut b)])?;
    seen.note("split", Ok((n, a, b)));
});

same!(bytes_arrive_in_order_and_complete, |seen| {
    let (mut client, mut server) = connected!();
    let sent: Vec<u8> = (0..1_000_000u32).map(|i| (i ^ (i >> 8)) as u8).collect();
    let copy = sent.clone();
    let writer = std::thread::spawn(move || client.write_all(&copy));
    let mut got = Vec::new();
    server.read_to_end(&mut got)?;
    writer.join().expect("the writer ends well")?;
    seen.note("equal", Ok(got == sent));
});

same!(datagrams_are_cut_to_the_buffer, |seen| {
    let (a, b) = (
        UdpSocket::bind("127.0.0.1:0")?,
        UdpSocket::bind("127.0.0.1:0")?,
    );
    a.send_to(b"0123456789", b.local_addr()?)?;
    a.send_to(b"", b.local_addr()?)?;
    a.send_to(b"next", b.local_addr()?)?;
    let mut buf = [0; 4];
    let (n, from) = b.recv_from(&mut buf)?;
    seen.note("cut", Ok((n, buf, from == a.local_addr()?)));
    seen.note("empty", b.recv(&mut buf));
    seen.note("peek", b.peek(&mut buf[..2]));
    seen.note("next", b.recv(&mut buf));
    b.set_nonblocking(true)?;
    seen.note("nothing", b.recv(&mut buf));
    seen.note("nothing to peek", b.peek_from(&mut buf).map(drop));
});

same!(datagrams_have_a_largest_size, |seen| {
    let (a, b) = (
        UdpSocket::bind("127.0.0.1:0")?,
        UdpSocket::bind("127.0.0.1:0")?,
    );
    let largest = vec![7; 65_507];
    seen.note("largest", a.send_to(&largest, b.local_addr()?));
    let mut buf = vec![0; 70_000];
    seen.note("arrived", b.recv(&mut buf));
    seen.note(
        "too large",
        a.send_to(&vec![7; 65_508], b.local_addr()?)
            .map_err(to_invalid),
    );
});

/// The host says `EMSGSIZE`, for which there is no stable kind; the library says what it means.
fn to_invalid(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(_) => ErrorKind::InvalidInput.into(),
        None => error,
    }
}

same!(datagram_timeouts, |seen| {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_read_timeout(SHORT)?;
    let started = Instant::now();
    seen.note("recv", socket.recv(&mut [0; 8]));
    seen.note("waited", Ok(started.elapsed() >= Duration::from_millis(10)));
    seen.note("peek", socket.peek(&mut [0; 8]));
});

same!(connected_datagram_sockets, |seen| {
    let (a, b) = (
        UdpSocket::bind("127.0.0.1:0")?,
        UdpSocket::bind("127.0.0.1:0")?,
    );
    let stranger = UdpSocket::bind("127.0.0.1:0")?;
    seen.note("no peer", a.peer_addr().map(drop));
    seen.note("send", a.send(b"whither?").map_err(to_not_connected));
    a.connect(b.local_addr()?)?;
    seen.note("peer", Ok(a.peer_addr()? == b.local_addr()?));
    seen.note("send", a.send(b"hello"));
    stranger.send_to(b"not for you", a.local_addr()?)?;
    b.send_to(b"for you", a.local_addr()?)?;
    let mut buf = [0; 16];
    seen.note("only the peer's", a.recv(&mut buf));
    a.set_nonblocking(true)?;
    seen.note("nothing else", a.recv(&mut buf));
});

/// The host says `EDESTADDRREQ`, for which there is no stable kind.
fn to_not_connected(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(_) => ErrorKind::NotConnected.into(),
        None => error,
    }
}

same!(a_connected_datagram_socket_hears_refusals, |seen| {
    let nobody = UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(nobody)?;
    socket.set_read_timeout(LONG)?;
    seen.note("send", socket.send(b"anybody?"));
    seen.note("recv", socket.recv(&mut [0; 8]));
    seen.note("send", socket.send(b"anybody?"));
    let refused = until_error(|| socket.send(b"anybody?"));
    seen.note("refused", refused.map(drop));
    let unconnected = UdpSocket::bind("127.0.0.1:0")?;
    unconnected.send_to(b"anybody?", nobody)?;
    unconnected.set_read_timeout(SHORT)?;
    seen.note("unconnected hears nothing", unconnected.recv(&mut [0; 8]));
});

same!(a_refusal_waits_as_the_sockets_error, |seen| {
    let nobody = UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(nobody)?;
    socket.send(b"anybody?")?;
    let mut taken = socket.take_error()?;
    let started = Instant::now();
    while taken.is_none() && started.elapsed() < Duration::from_secs(60) {
        taken = socket.take_error()?;
    }
    seen.note("taken", Ok(taken.map(|e| e.kind())));
    seen.note("once", socket.take_error().map(|e| e.map(|e| e.kind())));
});

same!(datagrams_to_ones_own_socket, |seen| {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let me = socket.local_addr()?;
    socket.send_to(b"note to self", me)?;
    let mut buf = [0; 16];
    let (n, from) = socket.recv_from(&mut buf)?;
    seen.note("received", Ok((n, from == me)));
    socket.connect(me)?;
    socket.send(b"again")?;
    seen.note("connected", socket.recv(&mut buf));
    let any = UdpSocket::bind("0.0.0.0:0")?;
    any.send_to(b"x", ("127.0.0.1", any.local_addr()?.port()))?;
    let (_, from) = any.recv_from(&mut buf)?;
    seen.note("source of an unspecified address", Ok(from.ip()));
});

same!(a_stream_connected_to_itself_or_to_this_host, |seen| {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let client = TcpStream::connect((Ipv4Addr::UNSPECIFIED, port))?;
    seen.note("this host is", Ok(client.peer_addr()?.ip()));
    let other = TcpStream::connect(("127.5.6.7", port)).map(drop);
    seen.note("another loopback address", other);
    let wide = TcpListener::bind("0.0.0.0:0")?;
    let wide_port = wide.local_addr()?.port();
    let client = TcpStream::connect(("127.5.6.7", wide_port))?;
    seen.note("wildcard takes it", Ok(client.peer_addr()?.ip()));
    seen.note(
        "from",
        wide.accept()
            .map(|(s, _)| s.local_addr().map(|a| a.ip()).ok()),
    );
});

same!(addresses_that_are_none, |seen| {
    seen.note("text", TcpStream::connect("127.0.0.1").map(drop));
    seen.note("port", TcpStream::connect("127.0.0.1:99999").map(drop));
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    seen.note("udp", socket.send_to(b"x", "nonsense").map(drop));
    seen.note("port 0", socket.send_to(b"x", "127.0.0.1:0").map(drop));
    let broadcast = UdpSocket::bind("0.0.0.0:0")?;
    seen.note(
        "broadcast",
        broadcast.send_to(b"x", "255.255.255.255:9").map(drop),
    );
});

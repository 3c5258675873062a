//! The same checks on `tokio::net` over the host's loopback and on `vnet_tokio::net` in a vnet: one text, compiled for
//! each. What a check says must be the same on both, or be listed with the reason.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::time::Duration;

use tokio::io::{
    AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, BufWriter, Interest, ReadBuf,
};
use tokio::time::timeout;
use vnet::System;
use vnet_tokio::Runtime;

/// A check, by name.
type Check = (
    &'static str,
    fn() -> Pin<Box<dyn Future<Output = io::Result<String>> + Send>>,
);

/// What differs, and why.
const DIFFERENCES: &[&str] = &[
    // tokio waits for data first. Here, as with read(2), nothing is read at once.
    "reading_nothing_into_nothing",
];

macro_rules! checks {
    ($module:ident, $net:path; $($name:ident $body:block)*) => {
        mod $module {
            use super::*;
            use $net as net;
            use net::{TcpListener, TcpSocket, TcpStream, UdpSocket, lookup_host};

            /// A connection's two ends.
            async fn joined() -> io::Result<(TcpStream, TcpStream)> {
                let listener = TcpListener::bind("127.0.0.1:0").await?;
                let client = TcpStream::connect(listener.local_addr()?).await?;
                let (server, from) = listener.accept().await?;
                assert_eq!(from, client.local_addr()?);
                Ok((client, server))
            }

            /// Two sockets, each connected to the other.
            async fn pair() -> io::Result<(UdpSocket, UdpSocket)> {
                let (a, b) = (UdpSocket::bind("127.0.0.1:0").await?, UdpSocket::bind("127.0.0.1:0").await?);
                a.connect(b.local_addr()?).await?;
                b.connect(a.local_addr()?).await?;
                Ok((a, b))
            }

            /// A port on which nobody listens.
            async fn closed_port() -> io::Result<u16> {
                Ok(TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port())
            }

            $(async fn $name() -> io::Result<String> $body)*

            pub(super) const CHECKS: &[Check] = &[$((stringify!($name), || Box::pin($name()))),*];
        }
    };
}

macro_rules! on_both {
    ($($body:tt)*) => {
        checks!(kernels, tokio::net; $($body)*);
        checks!(ours, vnet_tokio::net; $($body)*);
    };
}

fn text(what: impl std::fmt::Debug) -> io::Result<String> {
    Ok(format!("{what:?}"))
}

/// An error by its kind.
fn kind<T: std::fmt::Debug>(result: io::Result<T>) -> io::Result<String> {
    text(result.map_err(|error| error.kind()))
}

on_both! {
    a_listener_has_a_port {
        text(TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port() > 0)
    }
    a_listener_takes_its_address {
        let first = TcpListener::bind("127.0.0.1:0").await?;
        kind(TcpListener::bind(first.local_addr()?).await.map(drop))
    }
    a_listener_on_an_address_of_nobodys {
        kind(TcpListener::bind("192.0.2.77:0").await.map(drop))
    }
    a_listener_on_the_first_that_works {
        let addrs = ["192.0.2.77:0".parse().unwrap(), "127.0.0.1:0".parse().unwrap()];
        text(TcpListener::bind(&addrs[..]).await?.local_addr()?.ip())
    }
    an_address_that_is_none { kind(TcpListener::bind("nonsense").await.map(drop)) }
    no_address { kind(TcpListener::bind(&[][..]).await.map(drop)) }
    a_listener_has_a_ttl {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        listener.set_ttl(17)?;
        text(listener.ttl()?)
    }
    accepting_nobody {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        text(timeout(Duration::from_millis(10), listener.accept()).await.is_err())
    }
    a_listener_of_tokios_and_back {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let at = listener.local_addr()?;
        text(TcpListener::from_std(listener.into_std()?)?.local_addr()? == at)
    }
    connecting_to_nobody {
        let port = closed_port().await?;
        kind(TcpStream::connect(("127.0.0.1", port)).await.map(drop))
    }
    connecting_to_the_first_that_accepts {
        let closed = closed_port().await?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addrs = [(std::net::Ipv4Addr::LOCALHOST, closed).into(), listener.local_addr()?];
        text(TcpStream::connect(&addrs[..]).await?.peer_addr()? == listener.local_addr()?)
    }
    connecting_to_nothing { kind(TcpStream::connect(&[][..]).await.map(drop)) }
    ends_know_each_other {
        let (client, server) = joined().await?;
        text((client.peer_addr()? == server.local_addr()?, server.peer_addr()? == client.local_addr()?))
    }
    bytes_there_and_back {
        let (mut client, mut server) = joined().await?;
        client.write_all(b"there").await?;
        let mut buf = [0; 5];
        server.read_exact(&mut buf).await?;
        server.write_all(&buf).await?;
        client.read_exact(&mut buf).await?;
        text(buf)
    }
    the_end_of_a_stream {
        let (mut client, mut server) = joined().await?;
        client.write_all(b"last").await?;
        drop(client);
        let mut all = Vec::new();
        server.read_to_end(&mut all).await?;
        text((all, server.read(&mut [0; 8]).await?))
    }
    half_a_connection {
        let (mut client, mut server) = joined().await?;
        client.shutdown().await?;
        let ended = server.read(&mut [0; 8]).await?;
        server.write_all(b"still").await?;
        let mut buf = [0; 5];
        client.read_exact(&mut buf).await?;
        text((ended, buf))
    }
    shutting_down_twice {
        let (mut client, _server) = joined().await?;
        client.shutdown().await?;
        kind(client.shutdown().await)
    }
    writing_after_shutting_down {
        let (mut client, _server) = joined().await?;
        client.shutdown().await?;
        kind(client.write(b"more").await)
    }
    a_reset_by_zero_linger {
        let (client, mut server) = joined().await?;
        client.set_zero_linger()?;
        drop(client);
        kind(server.read(&mut [0; 8]).await)
    }
    writing_to_who_is_gone {
        let (mut client, server) = joined().await?;
        drop(server);
        let mut failed = None;
        while failed.is_none() {
            failed = client.write(b"x").await.err();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let kind = failed.map(|e| e.kind());
        text(matches!(kind, Some(io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)))
    }
    reading_nothing_into_nothing {
        let (mut client, _server) = joined().await?;
        kind(client.read(&mut []).await)
    }
    trying_to_read_nothing {
        let (client, _server) = joined().await?;
        kind(client.try_read(&mut [0; 8]))
    }
    trying_to_read_something {
        let (client, mut server) = joined().await?;
        server.write_all(b"data").await?;
        client.readable().await?;
        let mut buf = [0; 8];
        text((client.try_read(&mut buf)?, buf))
    }
    trying_to_read_into_a_buffer_that_grows {
        let (client, mut server) = joined().await?;
        server.write_all(b"data").await?;
        client.readable().await?;
        let mut buf = Vec::with_capacity(16);
        text((client.try_read_buf(&mut buf)?, buf))
    }
    trying_to_read_into_several {
        let (client, mut server) = joined().await?;
        server.write_all(b"data").await?;
        client.readable().await?;
        let (mut one, mut two) = ([0; 3], [0; 3]);
        let mut bufs = [io::IoSliceMut::new(&mut one), io::IoSliceMut::new(&mut two)];
        let n = client.try_read_vectored(&mut bufs)?;
        text((n, one, two))
    }
    trying_to_write {
        let (client, mut server) = joined().await?;
        client.writable().await?;
        let n = client.try_write(b"data")?;
        let mut buf = [0; 4];
        server.read_exact(&mut buf).await?;
        text((n, buf))
    }
    writing_until_there_is_no_room {
        let (client, _server) = joined().await?;
        let chunk = vec![0; 1 << 20];
        client.writable().await?;
        let failed = loop {
            if let Err(error) = client.try_write(&chunk) {
                break error.kind();
            }
        };
        text(failed)
    }
    writing_several_at_once {
        let (mut client, mut server) = joined().await?;
        let n = client.write_vectored(&[io::IoSlice::new(b"ab"), io::IoSlice::new(b"cde")]).await?;
        let mut buf = [0; 5];
        server.read_exact(&mut buf).await?;
        text((n, buf))
    }
    looking_at_bytes {
        let (client, mut server) = joined().await?;
        server.write_all(b"data").await?;
        let mut buf = [0; 2];
        let first = client.peek(&mut buf).await?;
        text((first, client.peek(&mut buf).await?, buf))
    }
    looking_at_the_end {
        let (client, server) = joined().await?;
        drop(server);
        text(client.peek(&mut [0; 2]).await?)
    }
    ready_to_write_and_not_to_read {
        let (client, _server) = joined().await?;
        let ready = client.ready(Interest::READABLE | Interest::WRITABLE).await?;
        text((ready.is_readable(), ready.is_writable()))
    }
    ready_to_read_the_end {
        let (client, server) = joined().await?;
        drop(server);
        let ready = client.ready(Interest::READABLE).await?;
        text((ready.is_readable(), ready.is_read_closed()))
    }
    nagle_is_on_at_first {
        let (client, _server) = joined().await?;
        let before = client.nodelay()?;
        client.set_nodelay(true)?;
        text((before, client.nodelay()?))
    }
    a_stream_has_a_ttl {
        let (client, _server) = joined().await?;
        client.set_ttl(9)?;
        text((client.ttl()?, kind(client.set_ttl(0)), kind(client.set_ttl(256))))
    }
    a_stream_has_no_error {
        let (client, _server) = joined().await?;
        text(client.take_error()?.is_none())
    }
    halves_that_borrow {
        let (mut client, mut server) = joined().await?;
        let (mut read, mut write) = client.split();
        write.write_all(b"abc").await?;
        let mut buf = [0; 3];
        server.read_exact(&mut buf).await?;
        server.write_all(&buf).await?;
        read.read_exact(&mut buf).await?;
        text(buf)
    }
    the_half_that_writes_ends_the_stream {
        let (client, mut server) = joined().await?;
        let (_read, write) = client.into_split();
        drop(write);
        text(server.read(&mut [0; 8]).await?)
    }
    a_half_that_is_forgotten_does_not {
        let (client, mut server) = joined().await?;
        let (_read, write) = client.into_split();
        write.forget();
        text(timeout(Duration::from_millis(10), server.read(&mut [0; 8])).await.is_err())
    }
    halves_of_one_stream {
        let (client, _server) = joined().await?;
        let at = client.local_addr()?;
        let (read, write) = client.into_split();
        text(read.reunite(write).expect("they are of one").local_addr()? == at)
    }
    halves_of_two_streams {
        let (one, two) = joined().await?;
        let (read, _write) = one.into_split();
        let (_read, write) = two.into_split();
        text(read.reunite(write).is_err())
    }
    a_stream_of_tokios_and_back {
        let (client, mut server) = joined().await?;
        let mut client = TcpStream::from_std(client.into_std()?)?;
        client.write_all(b"back").await?;
        let mut buf = [0; 4];
        server.read_exact(&mut buf).await?;
        text(buf)
    }
    much_at_once {
        let (mut client, mut server) = joined().await?;
        let sent: Vec<u8> = (0..3_000_000_u32).map(|n| n as u8).collect();
        let theirs = sent.clone();
        let sending = tokio::spawn(async move {
            client.write_all(&theirs).await?;
            client.shutdown().await
        });
        let mut got = Vec::new();
        server.read_to_end(&mut got).await?;
        sending.await.unwrap()?;
        text(got == sent)
    }
    a_socket_binds_before_it_connects {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let socket = TcpSocket::new_v4()?;
        socket.bind("127.0.0.1:0".parse().unwrap())?;
        let client = socket.connect(listener.local_addr()?).await?;
        text(listener.accept().await?.1 == client.local_addr()?)
    }
    a_socket_of_the_other_family {
        let socket = TcpSocket::new_v6()?;
        text(socket.bind("127.0.0.1:0".parse().unwrap()).is_err())
    }
    a_socket_listens {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind("127.0.0.1:0".parse().unwrap())?;
        let listener = socket.listen(16)?;
        let client = TcpStream::connect(listener.local_addr()?).await?;
        text(listener.accept().await?.1 == client.local_addr()?)
    }
    a_socket_has_options {
        let socket = TcpSocket::new_v4()?;
        let before = (socket.nodelay()?, socket.keepalive()?, socket.reuseaddr()?);
        socket.set_nodelay(true)?;
        socket.set_keepalive(true)?;
        socket.set_reuseaddr(true)?;
        text((before, socket.nodelay()?, socket.keepalive()?, socket.reuseaddr()?))
    }
    datagrams_there_and_back {
        let (a, b) = pair().await?;
        a.send(b"one").await?;
        let mut buf = [0; 8];
        let (n, from) = b.recv_from(&mut buf).await?;
        text((n, buf, from == a.local_addr()?))
    }
    an_empty_datagram {
        let (a, b) = pair().await?;
        a.send(b"").await?;
        text(b.recv(&mut [0; 8]).await?)
    }
    a_datagram_is_cut {
        let (a, b) = pair().await?;
        a.send(b"longer").await?;
        a.send(b"next").await?;
        let mut buf = [0; 4];
        let first = b.recv(&mut buf).await?;
        text((first, buf, b.recv(&mut buf).await?, buf))
    }
    a_datagram_that_is_too_long {
        let (a, _b) = pair().await?;
        text(a.send(&[0; 65_508]).await.is_err())
    }
    the_longest_datagram {
        let (a, b) = pair().await?;
        a.send(&[7; 65_507]).await?;
        text(b.recv(&mut vec![0; 65_536]).await?)
    }
    a_datagram_from_another_is_not_heard {
        let (a, b) = pair().await?;
        let other = UdpSocket::bind("127.0.0.1:0").await?;
        other.send_to(b"no", b.local_addr()?).await?;
        a.send(b"yes").await?;
        text(b.recv(&mut [0; 8]).await?)
    }
    sending_without_a_peer {
        let socket = UdpSocket::bind("127.0.0.1:0").await?;
        text(socket.send(b"x").await.is_err())
    }
    a_peer_that_is_not_there {
        let port = UdpSocket::bind("127.0.0.1:0").await?.local_addr()?.port();
        let socket = UdpSocket::bind("127.0.0.1:0").await?;
        socket.connect(("127.0.0.1", port)).await?;
        socket.send(b"x").await?;
        kind(socket.recv(&mut [0; 8]).await)
    }
    a_socket_without_a_peer_has_none {
        let socket = UdpSocket::bind("127.0.0.1:0").await?;
        kind(socket.peer_addr())
    }
    looking_at_a_datagram {
        let (a, b) = pair().await?;
        a.send(b"data").await?;
        let mut buf = [0; 4];
        let n = b.peek(&mut buf).await?;
        let from = b.peek_sender().await?;
        text((n, buf, from == a.local_addr()?, b.recv(&mut buf).await?))
    }
    trying_for_a_datagram {
        let (a, b) = pair().await?;
        let before = kind(b.try_recv(&mut [0; 8]))?;
        a.send(b"data").await?;
        b.readable().await?;
        text((before, b.try_peek(&mut [0; 8])?, b.try_recv(&mut [0; 8])?))
    }
    datagrams_into_buffers_that_grow {
        let (a, b) = pair().await?;
        a.send(b"data").await?;
        let mut buf = Vec::with_capacity(64);
        let (n, from) = b.recv_buf_from(&mut buf).await?;
        text((n, buf, from == a.local_addr()?))
    }
    a_datagram_socket_is_ready_to_send {
        let (a, _b) = pair().await?;
        let ready = a.ready(Interest::READABLE | Interest::WRITABLE).await?;
        text((ready.is_readable(), ready.is_writable()))
    }
    a_datagram_socket_has_options {
        let (a, _b) = pair().await?;
        let before = (a.broadcast()?, a.ttl()?, a.multicast_loop_v4()?, a.multicast_ttl_v4()?);
        a.set_broadcast(true)?;
        a.set_ttl(5)?;
        a.set_multicast_loop_v4(false)?;
        a.set_multicast_ttl_v4(3)?;
        text((before, a.broadcast()?, a.ttl()?, a.multicast_loop_v4()?, a.multicast_ttl_v4()?))
    }
    a_group_that_is_none {
        let (a, _b) = pair().await?;
        text(a.join_multicast_v4("192.0.2.1".parse().unwrap(), "127.0.0.1".parse().unwrap()).is_err())
    }
    two_datagram_sockets_at_one_port {
        let first = UdpSocket::bind("127.0.0.1:0").await?;
        kind(UdpSocket::bind(first.local_addr()?).await.map(drop))
    }
    the_addresses_of_text {
        let found: Vec<_> = lookup_host("127.0.0.1:80").await?.collect();
        text(found)
    }
    the_addresses_of_nonsense { text(lookup_host("127.0.0.1").await.is_err()) }
    a_socket_that_is_bound_has_its_port {
        let socket = TcpSocket::new_v4()?;
        let before = socket.local_addr()?.port();
        socket.bind("127.0.0.1:0".parse().unwrap())?;
        text((before, socket.local_addr()?.port() > 0))
    }
    a_socket_at_an_address_that_is_taken {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        kind(TcpSocket::new_v4()?.bind(listener.local_addr()?))
    }
    binding_a_socket_twice {
        let socket = TcpSocket::new_v4()?;
        socket.bind("127.0.0.1:0".parse().unwrap())?;
        kind(socket.bind("127.0.0.1:0".parse().unwrap()))
    }
    two_sockets_in_a_group {
        let (one, two) = (TcpSocket::new_v4()?, TcpSocket::new_v4()?);
        one.set_reuseport(true)?;
        two.set_reuseport(true)?;
        one.bind("127.0.0.1:0".parse().unwrap())?;
        two.bind(one.local_addr()?)?;
        let set = (one.reuseport()?, one.reuseaddr()?);
        let (one, two) = (one.listen(8)?, two.listen(8)?);
        text((set, one.local_addr()? == two.local_addr()?))
    }
    connections_have_the_options_of_their_listener {
        let socket = TcpSocket::new_v4()?;
        socket.set_nodelay(true)?;
        socket.bind("127.0.0.1:0".parse().unwrap())?;
        let listener = socket.listen(8)?;
        let _client = TcpStream::connect(listener.local_addr()?).await?;
        text(listener.accept().await?.0.nodelay()?)
    }
    connecting_a_socket_to_nobody {
        let to = ([127, 0, 0, 1], closed_port().await?).into();
        kind(TcpSocket::new_v4()?.connect(to).await.map(drop))
    }
    a_socket_listens_without_an_address {
        text(TcpSocket::new_v4()?.listen(8)?.local_addr()?.port() > 0)
    }
    a_socket_lingers {
        let socket = TcpSocket::new_v4()?;
        let before = socket.linger()?;
        socket.set_zero_linger()?;
        text((before, socket.linger()?))
    }
    a_socket_has_a_type_of_service {
        let socket = TcpSocket::new_v4()?;
        let before = socket.tos_v4()?;
        socket.set_tos_v4(0x10)?;
        text((before, socket.tos_v4()?))
    }
    a_socket_has_buffers {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(50_000)?;
        socket.set_send_buffer_size(50_000)?;
        text((socket.recv_buffer_size()? >= 50_000, socket.send_buffer_size()? >= 50_000))
    }
    a_socket_has_no_error { text(TcpSocket::new_v4()?.take_error()?.is_none()) }
    a_socket_at_no_interface {
        text(TcpSocket::new_v4()?.bind_device(Some(b"nonesuch")).is_err())
    }
    polling_a_listener {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let client = TcpStream::connect(listener.local_addr()?).await?;
        let (_server, from) = poll_fn(|cx| listener.poll_accept(cx)).await?;
        text(from == client.local_addr()?)
    }
    a_cancelled_accept_loses_no_connection {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let nobody = timeout(Duration::from_millis(2), listener.accept()).await.is_err();
        let client = TcpStream::connect(listener.local_addr()?).await?;
        text((nobody, listener.accept().await?.1 == client.local_addr()?))
    }
    connections_are_accepted_in_order {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let mut clients = Vec::new();
        for _ in 0..10 {
            clients.push(TcpStream::connect(listener.local_addr()?).await?);
        }
        let mut in_order = true;
        for client in &clients {
            in_order &= listener.accept().await?.1 == client.local_addr()?;
        }
        text(in_order)
    }
    a_cancelled_read_loses_no_byte {
        let (mut client, mut server) = joined().await?;
        let nothing = timeout(Duration::from_millis(2), client.read(&mut [0; 8])).await.is_err();
        server.write_all(b"all").await?;
        let mut buf = [0; 3];
        client.read_exact(&mut buf).await?;
        text((nothing, buf))
    }
    reading_into_a_buffer_that_grows {
        let (mut client, mut server) = joined().await?;
        server.write_all(b"data").await?;
        let mut buf = Vec::with_capacity(16);
        text((client.read_buf(&mut buf).await?, buf))
    }
    reading_past_the_end {
        let (mut client, mut server) = joined().await?;
        server.write_all(b"ab").await?;
        drop(server);
        kind(client.read_exact(&mut [0; 3]).await)
    }
    writing_nothing {
        let (mut client, _server) = joined().await?;
        text((client.write(b"").await?, client.flush().await?))
    }
    lines_by_a_reader_with_a_buffer {
        let (client, mut server) = joined().await?;
        server.write_all(b"one\ntwo\n").await?;
        drop(server);
        let mut lines = BufReader::new(client).lines();
        text((lines.next_line().await?, lines.next_line().await?, lines.next_line().await?))
    }
    a_writer_with_a_buffer {
        let (client, mut server) = joined().await?;
        let mut client = BufWriter::new(client);
        client.write_all(b"kept").await?;
        let before = timeout(Duration::from_millis(2), server.read(&mut [0; 8])).await.is_err();
        client.flush().await?;
        text((before, server.read(&mut [0; 8]).await?))
    }
    copying_until_the_end {
        let (mut client, mut server) = joined().await?;
        let echo = tokio::spawn(async move {
            let (mut read, mut write) = server.split();
            tokio::io::copy(&mut read, &mut write).await
        });
        client.write_all(&[5; 100]).await?;
        client.shutdown().await?;
        let mut back = Vec::new();
        client.read_to_end(&mut back).await?;
        text((back.len(), echo.await.unwrap()?))
    }
    after_a_reset_there_is_the_end {
        let (client, mut server) = joined().await?;
        client.set_zero_linger()?;
        drop(client);
        text((kind(server.read(&mut [0; 8]).await), kind(server.read(&mut [0; 8]).await)))
    }
    polling_for_bytes_to_look_at {
        let (client, mut server) = joined().await?;
        server.write_all(b"data").await?;
        let mut room = [0; 8];
        let mut buf = ReadBuf::new(&mut room);
        let n = poll_fn(|cx| client.poll_peek(cx, &mut buf)).await?;
        text((n, buf.filled().to_vec()))
    }
    trying_to_write_several {
        let (client, mut server) = joined().await?;
        client.writable().await?;
        let n = client.try_write_vectored(&[io::IoSlice::new(b"ab"), io::IoSlice::new(b"cde")])?;
        let mut buf = [0; 5];
        server.read_exact(&mut buf).await?;
        text((n, buf))
    }
    an_operation_of_ones_own {
        let (client, mut server) = joined().await?;
        server.write_all(b"x").await?;
        client.readable().await?;
        let tried = client.try_io(Interest::READABLE, || Ok(3))?;
        text((tried, client.async_io(Interest::WRITABLE, || Ok(4)).await?))
    }
    a_stream_lingers {
        let (client, _server) = joined().await?;
        let before = client.linger()?;
        client.set_zero_linger()?;
        text((before, client.linger()?))
    }
    acknowledging_at_once {
        let (client, _server) = joined().await?;
        kind(client.set_quickack(true))
    }
    owned_halves_try {
        let (client, mut server) = joined().await?;
        let (read, write) = client.into_split();
        write.writable().await?;
        let n = write.try_write(b"abc")?;
        server.write_all(b"de").await?;
        read.readable().await?;
        let mut buf = [0; 8];
        text((n, read.try_read(&mut buf)?, buf, read.peer_addr()? == server.local_addr()?))
    }
    owned_halves_look {
        let (client, mut server) = joined().await?;
        let (mut read, _write) = client.into_split();
        server.write_all(b"de").await?;
        text(read.peek(&mut [0; 8]).await?)
    }
    one_socket_to_several {
        let (a, b) = (UdpSocket::bind("127.0.0.1:0").await?, UdpSocket::bind("127.0.0.1:0").await?);
        let c = UdpSocket::bind("127.0.0.1:0").await?;
        a.send_to(b"to b", b.local_addr()?).await?;
        a.send_to(b"and c", c.local_addr()?).await?;
        let mut buf = [0; 8];
        let (n, from) = c.recv_from(&mut buf).await?;
        text((b.recv_from(&mut [0; 8]).await?.0, n, from == a.local_addr()?))
    }
    datagrams_stay_in_order {
        let (a, b) = pair().await?;
        let mut got = Vec::new();
        for n in 0..20 {
            a.send(&[n]).await?;
        }
        for _ in 0..20 {
            let mut buf = [0; 1];
            b.recv(&mut buf).await?;
            got.push(buf[0]);
        }
        text(got)
    }
    another_peer_instead {
        let (a, _b) = pair().await?;
        let c = UdpSocket::bind("127.0.0.1:0").await?;
        a.connect(c.local_addr()?).await?;
        a.send(b"new").await?;
        text((c.recv(&mut [0; 8]).await?, a.peer_addr()? == c.local_addr()?))
    }
    polling_for_a_datagram {
        let (a, b) = pair().await?;
        a.send(b"data").await?;
        let mut room = [0; 8];
        let mut buf = ReadBuf::new(&mut room);
        let from = poll_fn(|cx| b.poll_recv_from(cx, &mut buf)).await?;
        text((buf.filled().to_vec(), from == a.local_addr()?))
    }
    polling_to_send {
        let (a, b) = pair().await?;
        let to = b.local_addr()?;
        let n = poll_fn(|cx| a.poll_send(cx, b"one")).await?;
        let m = poll_fn(|cx| a.poll_send_to(cx, b"four", to)).await;
        text((n, m.is_ok(), b.recv(&mut [0; 8]).await?))
    }
    trying_for_a_datagram_and_its_sender {
        let (a, b) = pair().await?;
        a.send(b"data").await?;
        b.readable().await?;
        let seen = b.try_peek_from(&mut [0; 8])?;
        let got = b.try_recv_from(&mut [0; 8])?;
        text((seen == got, got.0, kind(b.try_recv_from(&mut [0; 8]))))
    }
    trying_to_send {
        let (a, b) = pair().await?;
        a.writable().await?;
        let n = a.try_send(b"abc")?;
        text((n, b.recv(&mut [0; 8]).await?))
    }
    a_cancelled_receive_loses_no_datagram {
        let (a, b) = pair().await?;
        let nothing = timeout(Duration::from_millis(2), b.recv(&mut [0; 8])).await.is_err();
        a.send(b"here").await?;
        text((nothing, b.recv(&mut [0; 8]).await?))
    }
    a_datagram_into_nothing {
        let (a, b) = pair().await?;
        a.send(b"gone").await?;
        a.send(b"ok").await?;
        text((b.recv(&mut []).await?, b.recv(&mut [0; 8]).await?))
    }
    a_datagram_to_port_zero {
        let socket = UdpSocket::bind("127.0.0.1:0").await?;
        text(socket.send_to(b"x", "127.0.0.1:0").await.is_err())
    }
    a_datagram_socket_has_a_type_of_service {
        let (a, _b) = pair().await?;
        a.set_tos_v4(0x20)?;
        text(a.tos_v4()?)
    }
    a_datagram_socket_of_tokios_and_back {
        let (a, b) = pair().await?;
        let a = UdpSocket::from_std(a.into_std()?)?;
        a.send(b"back").await?;
        text(b.recv(&mut [0; 8]).await?)
    }
    a_datagram_socket_on_the_first_that_works {
        let addrs = ["192.0.2.77:0".parse().unwrap(), "127.0.0.1:0".parse().unwrap()];
        text(UdpSocket::bind(&addrs[..]).await?.local_addr()?.ip())
    }
    datagrams_of_ipv6 {
        let (a, b) = (UdpSocket::bind("[::1]:0").await?, UdpSocket::bind("[::1]:0").await?);
        a.send_to(b"six", b.local_addr()?).await?;
        let (n, from) = b.recv_from(&mut [0; 8]).await?;
        text((n, from == a.local_addr()?))
    }
    the_addresses_of_a_pair {
        let found: Vec<_> = lookup_host(("127.0.0.1", 80)).await?.collect();
        text(found)
    }
    ipv6_there_and_back {
        let listener = TcpListener::bind("[::1]:0").await?;
        let mut client = TcpStream::connect(listener.local_addr()?).await?;
        let (mut server, from) = listener.accept().await?;
        client.write_all(b"six").await?;
        let mut buf = [0; 3];
        server.read_exact(&mut buf).await?;
        text((buf, from == client.local_addr()?))
    }
}

/// What each check says, one by one.
async fn say(checks: &[Check]) -> Vec<(&'static str, String)> {
    let mut said = Vec::new();
    for (name, check) in checks {
        let done = timeout(Duration::from_secs(60), check()).await;
        let done = done.map(|said| said.map_err(|error| error.kind()));
        said.push((*name, format!("{done:?}")));
    }
    said
}

#[test]
fn the_same_is_said_of_both() {
    let kernel = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let theirs = kernel.block_on(say(kernels::CHECKS));
    for system in [System::threads(), System::virtual_time(1)] {
        let a = system.create("a").unwrap();
        a.add_address("lo0", "::1/128".parse().unwrap()).unwrap();
        let runtime = Runtime::new(&a).unwrap();
        let mine = runtime.block_on(say(ours::CHECKS)).unwrap();
        let differ = theirs
            .iter()
            .zip(&mine)
            .filter(|(theirs, ours)| theirs != ours);
        let differ: Vec<_> = differ
            .filter(|((name, _), _)| !DIFFERENCES.contains(name))
            .collect();
        assert!(differ.is_empty(), "tokio's, and ours: {differ:#?}");
    }
    assert!(theirs.len() >= 100, "{}", theirs.len());
}

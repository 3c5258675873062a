//! [`TcpStream`].

use std::fmt;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BufMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use vnet::Vnet;
use vnet::net::{Interest as Direction, Socket};

use super::tcp::{OwnedReadHalf, OwnedWriteHalf, ReadHalf, WriteHalf, owned};
use super::{ToSocketAddrs, current, into_buf, no_address, readiness_methods, resolved};
use crate::waiters::{Waiters, copied, once_ready};

/// What is read at most into a buffer that grows.
const READ_AT_ONCE: usize = 65_536;

/// A TCP connection, as [`tokio::net::TcpStream`], of a vnet.
///
/// Dropping it closes the connection; written data is still delivered.
///
/// ```
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
/// use vnet::System;
/// use vnet_tokio::net::{TcpListener, TcpStream};
///
/// let system = System::virtual_time(1);
/// let (a, b) = (system.create("a")?, system.create("b")?);
/// a.epair("eth0", &b, "eth0")?;
/// a.add_address("eth0", "192.0.2.1/24".parse()?)?;
/// b.add_address("eth0", "192.0.2.2/24".parse()?)?;
///
/// let listener = TcpListener::bind_in(&b, "192.0.2.2:7")?;
/// let echo = b.spawn_future(async move {
///     let (mut stream, _) = listener.accept().await?;
///     let (mut read, mut write) = stream.split();
///     tokio::io::copy(&mut read, &mut write).await
/// });
/// let answer = system.block_on(async {
///     let mut stream = TcpStream::connect_in(&a, "192.0.2.2:7").await?;
///     stream.write_all(b"hello").await?;
///     stream.shutdown().await?;
///     let mut answer = String::new();
///     stream.read_to_string(&mut answer).await?;
///     std::io::Result::Ok(answer)
/// })??;
/// assert_eq!((answer.as_str(), echo.join()??), ("hello", 5));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TcpStream {
    io: vnet::net::TcpStream,
    waiters: Waiters,
}

readiness_methods!(TcpStream, poll_read_ready, poll_write_ready);

impl TcpStream {
    pub(super) fn of(io: vnet::net::TcpStream) -> TcpStream {
        // The vnet never answers that it cannot.
        let _ = io.set_nonblocking(true);
        TcpStream {
            waiters: Waiters::new(io.clock()),
            io,
        }
    }

    /// Connects from the current vnet, to the first address that accepts.
    ///
    /// # Errors
    /// As [`vnet::net::TcpStream::connect`].
    pub async fn connect<A: ToSocketAddrs>(addr: A) -> io::Result<TcpStream> {
        TcpStream::connect_in(&current()?, addr).await
    }

    /// Connects from `vnet`, to the first address that accepts.
    ///
    /// # Errors
    /// As [`vnet::net::TcpStream::connect_in`].
    pub async fn connect_in<A: ToSocketAddrs>(vnet: &Vnet, addr: A) -> io::Result<TcpStream> {
        let addrs = resolved(vnet, &addr).await?;
        let mut last = None;
        for addr in addrs {
            let connected = match vnet::net::TcpStream::start_connect_in(vnet, addr) {
                Ok(started) => TcpStream::connected(started).await,
                Err(error) => Err(error),
            };
            match connected {
                Ok(stream) => return Ok(stream),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(no_address))
    }

    /// Waits for the outcome of an attempt to connect.
    pub(super) async fn connected(started: vnet::net::TcpStream) -> io::Result<TcpStream> {
        let stream = TcpStream::of(started);
        let attempt = |cx: &mut Context<'_>| stream.io.poll_connect(cx);
        stream.waiters.wait(Direction::Write, attempt).await?;
        Ok(stream)
    }

    /// Takes over a connection of [`vnet::net`].
    ///
    /// # Errors
    /// None; the signature is tokio's.
    pub fn from_std(stream: vnet::net::TcpStream) -> io::Result<TcpStream> {
        Ok(TcpStream::of(stream))
    }

    /// The connection for the calls of [`vnet::net`]. It is nonblocking.
    ///
    /// # Errors
    /// None; the signature is tokio's.
    pub fn into_std(self) -> io::Result<vnet::net::TcpStream> {
        Ok(self.io)
    }

    /// Reads what is there now.
    ///
    /// # Errors
    /// [`ErrorKind::WouldBlock`] when there is nothing; the connection has failed.
    pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        (&self.io).read(buf)
    }

    /// As [`TcpStream::try_read`], into `buf`, which it advances.
    ///
    /// # Errors
    /// As [`TcpStream::try_read`].
    pub fn try_read_buf<B: BufMut>(&self, buf: &mut B) -> io::Result<usize> {
        let read = into_buf(buf, READ_AT_ONCE, |room| Ok((self.try_read(room)?, ())));
        read.map(|(n, ())| n)
    }

    /// As [`TcpStream::try_read`], into several buffers.
    ///
    /// # Errors
    /// As [`TcpStream::try_read`].
    pub fn try_read_vectored(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&self.io).read_vectored(bufs)
    }

    /// Writes as much as there is room for now.
    ///
    /// # Errors
    /// [`ErrorKind::WouldBlock`] when there is no room; the connection has failed.
    pub fn try_write(&self, data: &[u8]) -> io::Result<usize> {
        (&self.io).write(data)
    }

    /// As [`TcpStream::try_write`], from several buffers.
    ///
    /// # Errors
    /// As [`TcpStream::try_write`].
    pub fn try_write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        (&self.io).write_vectored(bufs)
    }

    /// Reads without taking: the bytes are read again. Cancel safe.
    ///
    /// # Errors
    /// The connection has failed.
    pub async fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        let attempt = |cx: &mut Context<'_>| self.try_peek(cx, buf);
        self.waiters.wait(Direction::Read, attempt).await
    }

    /// Polls for bytes without taking them. The task polled last is woken.
    ///
    /// # Errors
    /// The connection has failed.
    pub fn poll_peek(
        &self,
        task: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<usize>> {
        let room = buf.initialize_unfilled();
        let attempt = |cx: &mut Context<'_>| self.try_peek(cx, room);
        let peeked = self.waiters.poll(Direction::Read, task, attempt);
        peeked.map_ok(|n| {
            buf.advance(n);
            n
        })
    }

    fn try_peek(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        once_ready(
            cx,
            || self.io.peek(buf),
            |cx| self.io.poll_ready(cx, Direction::Read),
        )
    }

    pub(super) fn poll_read_shared(
        &self,
        task: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let room = buf.remaining();
        let attempt = |cx: &mut Context<'_>| self.io.poll_recv_bytes(cx, room);
        let read = self.waiters.poll(Direction::Read, task, attempt);
        read.map_ok(|taken| {
            // Nothing is written to the buffer before, as that would cost as much as the copy.
            taken.slices().for_each(|slice| buf.put_slice(slice));
            copied(task, taken.len());
        })
    }

    pub(super) fn poll_write_shared(
        &self,
        task: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let attempt = |cx: &mut Context<'_>| self.io.poll_write(cx, data);
        let written = self.waiters.poll(Direction::Write, task, attempt);
        written.map_ok(|n| {
            copied(task, n);
            n
        })
    }

    pub(super) fn poll_write_vectored_shared(
        &self,
        task: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.waiters.poll(Direction::Write, task, |cx| {
            once_ready(
                cx,
                || self.try_write_vectored(bufs),
                |cx| self.io.poll_ready(cx, Direction::Write),
            )
        });
        written.map_ok(|n| {
            copied(task, n);
            n
        })
    }

    pub(super) fn shut_down_writing(&self) -> io::Result<()> {
        match self.io.shutdown(Shutdown::Write) {
            // The peer was faster.
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(()),
            result => result,
        }
    }

    /// Splits the stream in two halves that borrow it.
    pub fn split(&mut self) -> (ReadHalf<'_>, WriteHalf<'_>) {
        (ReadHalf(self), WriteHalf(self))
    }

    /// Splits the stream in two halves that own it. Dropping the half that writes ends the stream for the peer.
    pub fn into_split(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        owned(self)
    }

    /// Whether small segments are sent at once (`TCP_NODELAY`).
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn nodelay(&self) -> io::Result<bool> {
        self.io.nodelay()
    }

    /// Sets whether small segments are sent at once, or collected by Nagle's algorithm.
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.io.set_nodelay(nodelay)
    }

    /// Whether each segment is acknowledged at once (`TCP_QUICKACK`).
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn quickack(&self) -> io::Result<bool> {
        Socket::from(self.io.try_clone()?).tcp_quickack()
    }

    /// Sets whether each segment is acknowledged at once (`TCP_QUICKACK`).
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn set_quickack(&self, quickack: bool) -> io::Result<()> {
        Socket::from(self.io.try_clone()?).set_tcp_quickack(quickack)
    }

    /// How long written data is still delivered after closing; see [`vnet::net::TcpStream::set_linger`].
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        self.io.linger()
    }

    /// Sets how long written data is still delivered after closing; see [`vnet::net::TcpStream::set_linger`].
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        self.io.set_linger(linger)
    }

    /// Has closing reset the connection (`SO_LINGER` of zero).
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn set_zero_linger(&self) -> io::Result<()> {
        self.io.set_linger(Some(Duration::ZERO))
    }
}

impl AsyncRead for TcpStream {
    fn poll_read(
        self: Pin<&mut Self>,
        task: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_read_shared(task, buf)
    }
}

impl AsyncWrite for TcpStream {
    fn poll_write(
        self: Pin<&mut Self>,
        task: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_shared(task, data)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        task: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored_shared(task, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Does nothing: what is written is on its way already.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.shut_down_writing())
    }
}

impl fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.io.fmt(f)
    }
}

impl TryFrom<vnet::net::TcpStream> for TcpStream {
    type Error = io::Error;

    fn try_from(stream: vnet::net::TcpStream) -> io::Result<TcpStream> {
        TcpStream::from_std(stream)
    }
}

//! [`UdpSocket`].

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use tokio::io::ReadBuf;
use vnet::Vnet;
use vnet::net::Interest as Direction;

use super::{ToSocketAddrs, current, current_clock, readiness_methods};
use crate::waiters::{Clock, Try, Waiters, polled};

/// A UDP socket, as [`tokio::net::UdpSocket`], of a vnet. Sending never waits.
pub struct UdpSocket {
    io: vnet::net::UdpSocket,
    waiters: Waiters,
}

readiness_methods!(UdpSocket, poll_recv_ready, poll_send_ready);

impl UdpSocket {
    /// Creates a socket in the current vnet, bound to the first address that can be bound.
    ///
    /// # Errors
    /// As [`vnet::net::UdpSocket::bind`].
    pub async fn bind<A: ToSocketAddrs>(addr: A) -> io::Result<UdpSocket> {
        UdpSocket::bind_in(&current()?, addr)
    }

    /// Creates a socket in `vnet`; see [`UdpSocket::bind`].
    ///
    /// # Errors
    /// As [`vnet::net::UdpSocket::bind`].
    pub fn bind_in<A: ToSocketAddrs>(vnet: &Vnet, addr: A) -> io::Result<UdpSocket> {
        let socket = vnet::net::UdpSocket::bind_in(vnet, addr)?;
        UdpSocket::of(socket, Clock::of(vnet))
    }

    fn of(socket: vnet::net::UdpSocket, clock: Clock) -> io::Result<UdpSocket> {
        socket.set_nonblocking(true)?;
        Ok(UdpSocket {
            io: socket,
            waiters: Waiters::new(clock),
        })
    }

    /// Takes over a socket of [`vnet::net`].
    ///
    /// # Errors
    /// None; the signature is tokio's.
    pub fn from_std(socket: vnet::net::UdpSocket) -> io::Result<UdpSocket> {
        UdpSocket::of(socket, current_clock())
    }

    /// The socket for the calls of [`vnet::net`]. It is nonblocking.
    ///
    /// # Errors
    /// None; the signature is tokio's.
    pub fn into_std(self) -> io::Result<vnet::net::UdpSocket> {
        Ok(self.io)
    }

    /// Sets the peer; see [`vnet::net::UdpSocket::connect`].
    ///
    /// # Errors
    /// There is no route to the peer.
    pub async fn connect<A: ToSocketAddrs>(&self, addr: A) -> io::Result<()> {
        self.io.connect(addr)
    }

    /// Sends a datagram to the peer.
    ///
    /// # Errors
    /// As [`vnet::net::UdpSocket::send`].
    pub async fn send(&self, data: &[u8]) -> io::Result<usize> {
        self.io.send(data)
    }

    /// Sends a datagram to the peer.
    ///
    /// # Errors
    /// As [`vnet::net::UdpSocket::send`].
    pub fn try_send(&self, data: &[u8]) -> io::Result<usize> {
        self.io.send(data)
    }

    /// Sends a datagram to the peer; never pending.
    ///
    /// # Errors
    /// As [`vnet::net::UdpSocket::send`].
    pub fn poll_send(&self, _: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(self.io.send(data))
    }

    /// Sends a datagram to the first address of `addr`.
    ///
    /// # Errors
    /// As [`vnet::net::UdpSocket::send_to`].
    pub async fn send_to<A: ToSocketAddrs>(&self, data: &[u8], addr: A) -> io::Result<usize> {
        self.io.send_to(data, addr)
    }

    /// Sends a datagram to `addr`.
    ///
    /// # Errors
    /// As [`vnet::net::UdpSocket::send_to`].
    pub fn try_send_to(&self, data: &[u8], addr: SocketAddr) -> io::Result<usize> {
        self.io.send_to(data, addr)
    }

    /// Sends a datagram to `addr`; never pending.
    ///
    /// # Errors
    /// As [`vnet::net::UdpSocket::send_to`].
    pub fn poll_send_to(
        &self,
        _: &mut Context<'_>,
        data: &[u8],
        addr: SocketAddr,
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(self.io.send_to(data, addr))
    }

    /// Waits for a datagram; what does not fit in `buf` is discarded. Cancel safe: no datagram is lost when the future
    /// is dropped.
    ///
    /// # Errors
    /// As [`vnet::net::UdpSocket::recv`].
    pub async fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.recv_from(buf).await.map(|(n, _)| n)
    }

    /// As [`UdpSocket::recv`], with the sender.
    ///
    /// # Errors
    /// As [`vnet::net::UdpSocket::recv_from`].
    pub async fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let attempt = |how: Try<'_, '_>| self.receive(how, buf);
        self.waiters.wait(Direction::Read, attempt).await
    }

    /// As [`UdpSocket::recv`], but the datagram stays in the queue.
    ///
    /// # Errors
    /// As [`vnet::net::UdpSocket::recv`].
    pub async fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.peek_from(buf).await.map(|(n, _)| n)
    }

    /// As [`UdpSocket::recv_from`], but the datagram stays in the queue.
    ///
    /// # Errors
    /// As [`vnet::net::UdpSocket::recv_from`].
    pub async fn peek_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let attempt = |how: Try<'_, '_>| self.look(how, buf);
        self.waiters.wait(Direction::Read, attempt).await
    }

    /// Receives a datagram that is there now.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when there is none; as [`vnet::net::UdpSocket::recv`].
    pub fn try_recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.io.recv(buf)
    }

    /// Receives a datagram that is there now, with its sender.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when there is none; as [`vnet::net::UdpSocket::recv_from`].
    pub fn try_recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.io.recv_from(buf)
    }

    /// Polls for a datagram. The task polled last is woken.
    ///
    /// # Errors
    /// As [`vnet::net::UdpSocket::recv`].
    pub fn poll_recv(&self, task: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_recv_from(task, buf).map_ok(drop)
    }

    /// Polls for a datagram and its sender. The task polled last is woken.
    ///
    /// # Errors
    /// As [`vnet::net::UdpSocket::recv_from`].
    pub fn poll_recv_from(
        &self,
        task: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<SocketAddr>> {
        let room = buf.initialize_unfilled();
        let attempt = |how: Try<'_, '_>| self.receive(how, room);
        let received = self.waiters.poll(Direction::Read, task, attempt);
        received.map_ok(|(n, from)| {
            buf.advance(n);
            from
        })
    }

    /// Polls for a datagram and its sender; it stays in the queue. The task polled last is woken.
    ///
    /// # Errors
    /// As [`vnet::net::UdpSocket::recv_from`].
    pub fn poll_peek_from(
        &self,
        task: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<SocketAddr>> {
        let room = buf.initialize_unfilled();
        let attempt = |how: Try<'_, '_>| self.look(how, room);
        let seen = self.waiters.poll(Direction::Read, task, attempt);
        seen.map_ok(|(n, from)| {
            buf.advance(n);
            from
        })
    }

    fn receive(&self, how: Try<'_, '_>, buf: &mut [u8]) -> Poll<io::Result<(usize, SocketAddr)>> {
        match how {
            Try::Now => polled(self.io.recv_from(buf)),
            Try::Polled(cx) => self.io.poll_recv_from(cx, buf),
        }
    }

    fn look(&self, how: Try<'_, '_>, buf: &mut [u8]) -> Poll<io::Result<(usize, SocketAddr)>> {
        how.once_ready(
            |cx| self.io.poll_ready(cx, Direction::Read),
            || self.io.peek_from(buf),
        )
    }

    /// Whether sending to broadcast addresses is allowed (`SO_BROADCAST`).
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn broadcast(&self) -> io::Result<bool> {
        self.io.broadcast()
    }

    /// Allows sending to broadcast addresses.
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn set_broadcast(&self, on: bool) -> io::Result<()> {
        self.io.set_broadcast(on)
    }
}

impl fmt::Debug for UdpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.io.fmt(f)
    }
}

impl TryFrom<vnet::net::UdpSocket> for UdpSocket {
    type Error = io::Error;

    fn try_from(socket: vnet::net::UdpSocket) -> io::Result<UdpSocket> {
        UdpSocket::from_std(socket)
    }
}

//! [`UdpSocket`].

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::task::{Context, Poll};

use bytes::BufMut;
use tokio::io::ReadBuf;
use vnet::Vnet;
use vnet::net::{Interest as Direction, Socket};

use super::options::packet_options;
use super::{ToSocketAddrs, current, into_buf, no_address, readiness_methods, resolved};
use crate::waiters::{Waiters, once_ready};

/// The largest datagram.
const DATAGRAM: usize = 65_535;

/// A UDP socket, as [`tokio::net::UdpSocket`], of a vnet. Sending never waits.
pub struct UdpSocket {
    io: vnet::net::UdpSocket,
    waiters: Waiters,
}

readiness_methods!(UdpSocket, poll_recv_ready, poll_send_ready);
packet_options!(UdpSocket, this => Socket::from(this.io.try_clone()?));

impl UdpSocket {
    /// Creates a socket in the current vnet, bound to the first address that can be bound.
    ///
    /// # Errors
    /// As [`vnet::net::UdpSocket::bind`].
    pub async fn bind<A: ToSocketAddrs>(addr: A) -> io::Result<UdpSocket> {
        let vnet = current()?;
        let addrs = resolved(&vnet, &addr).await?;
        UdpSocket::bind_in(&vnet, &addrs[..])
    }

    /// Creates a socket in `vnet`; see [`UdpSocket::bind`].
    ///
    /// # Errors
    /// As [`vnet::net::UdpSocket::bind`].
    pub fn bind_in<A: ToSocketAddrs>(vnet: &Vnet, addr: A) -> io::Result<UdpSocket> {
        let socket = vnet::net::UdpSocket::bind_in(vnet, addr)?;
        UdpSocket::of(socket)
    }

    fn of(socket: vnet::net::UdpSocket) -> io::Result<UdpSocket> {
        socket.set_nonblocking(true)?;
        Ok(UdpSocket {
            waiters: Waiters::new(socket.clock()),
            io: socket,
        })
    }

    /// Takes over a socket of [`vnet::net`].
    ///
    /// # Errors
    /// None; the signature is tokio's.
    pub fn from_std(socket: vnet::net::UdpSocket) -> io::Result<UdpSocket> {
        UdpSocket::of(socket)
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
        let addrs = resolved(&self.io.vnet(), &addr).await?;
        self.io.connect(&addrs[..])
    }

    /// Sends a datagram to the peer.
    ///
    /// # Errors
    /// As [`vnet::net::UdpSocket::send`].
    pub async fn send(&self, data: &[u8]) -> io::Result<usize> {
        poll_fn(|task| self.poll_send(task, data)).await
    }

    /// Sends a datagram to the peer.
    ///
    /// # Errors
    /// As [`vnet::net::UdpSocket::send`].
    pub fn try_send(&self, data: &[u8]) -> io::Result<usize> {
        self.io.send(data)
    }

    /// Sends a datagram to the peer; pending only to let other tasks run.
    ///
    /// # Errors
    /// As [`vnet::net::UdpSocket::send`].
    pub fn poll_send(&self, task: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Waiters::at_once(task, || self.io.send(data))
    }

    /// Sends a datagram to the first address of `addr`.
    ///
    /// # Errors
    /// As [`vnet::net::UdpSocket::send_to`].
    pub async fn send_to<A: ToSocketAddrs>(&self, data: &[u8], addr: A) -> io::Result<usize> {
        let to = match addr.numeric() {
            Some(mut addrs) => addrs.next(),
            None => resolved(&self.io.vnet(), &addr).await?.first().copied(),
        };
        let to = to.ok_or_else(no_address)?;
        poll_fn(|task| Waiters::at_once(task, || self.io.send_to(data, to))).await
    }

    /// Sends a datagram to `addr`.
    ///
    /// # Errors
    /// As [`vnet::net::UdpSocket::send_to`].
    pub fn try_send_to(&self, data: &[u8], addr: SocketAddr) -> io::Result<usize> {
        self.io.send_to(data, addr)
    }

    /// Sends a datagram to `addr`; pending only to let other tasks run.
    ///
    /// # Errors
    /// As [`vnet::net::UdpSocket::send_to`].
    pub fn poll_send_to(
        &self,
        task: &mut Context<'_>,
        data: &[u8],
        addr: SocketAddr,
    ) -> Poll<io::Result<usize>> {
        Waiters::at_once(task, || self.io.send_to(data, addr))
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
        let attempt = |cx: &mut Context<'_>| self.io.poll_recv_from(cx, buf);
        self.waiters.wait(Direction::Read, attempt).await
    }

    /// As [`UdpSocket::recv`], into `buf`, which it advances.
    ///
    /// # Errors
    /// As [`vnet::net::UdpSocket::recv`].
    pub async fn recv_buf<B: BufMut>(&self, buf: &mut B) -> io::Result<usize> {
        self.recv_buf_from(buf).await.map(|(n, _)| n)
    }

    /// As [`UdpSocket::recv_from`], into `buf`, which it advances.
    ///
    /// # Errors
    /// As [`vnet::net::UdpSocket::recv_from`].
    pub async fn recv_buf_from<B: BufMut>(&self, buf: &mut B) -> io::Result<(usize, SocketAddr)> {
        let mut room = vec![0; buf.remaining_mut().min(DATAGRAM)];
        let (n, from) = self.recv_from(&mut room).await?;
        buf.put_slice(&room[..n]);
        Ok((n, from))
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
        let attempt = |cx: &mut Context<'_>| self.look(cx, buf);
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

    /// As [`UdpSocket::try_recv`], into `buf`, which it advances.
    ///
    /// # Errors
    /// As [`UdpSocket::try_recv`].
    pub fn try_recv_buf<B: BufMut>(&self, buf: &mut B) -> io::Result<usize> {
        self.try_recv_buf_from(buf).map(|(n, _)| n)
    }

    /// As [`UdpSocket::try_recv_from`], into `buf`, which it advances.
    ///
    /// # Errors
    /// As [`UdpSocket::try_recv_from`].
    pub fn try_recv_buf_from<B: BufMut>(&self, buf: &mut B) -> io::Result<(usize, SocketAddr)> {
        into_buf(buf, DATAGRAM, |room| self.try_recv_from(room))
    }

    /// Looks at a datagram that is there now; it stays in the queue.
    ///
    /// # Errors
    /// As [`UdpSocket::try_recv`].
    pub fn try_peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.io.peek(buf)
    }

    /// Looks at a datagram that is there now, and its sender; it stays in the queue.
    ///
    /// # Errors
    /// As [`UdpSocket::try_recv_from`].
    pub fn try_peek_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.io.peek_from(buf)
    }

    /// Who has sent the datagram that is there now; it stays in the queue.
    ///
    /// # Errors
    /// As [`UdpSocket::try_recv_from`].
    pub fn try_peek_sender(&self) -> io::Result<SocketAddr> {
        self.try_peek_from(&mut []).map(|(_, from)| from)
    }

    /// Waits for a datagram, and says who has sent it; it stays in the queue.
    ///
    /// # Errors
    /// As [`vnet::net::UdpSocket::recv_from`].
    pub async fn peek_sender(&self) -> io::Result<SocketAddr> {
        self.peek_from(&mut []).await.map(|(_, from)| from)
    }

    /// Polls for a datagram, and says who has sent it; it stays in the queue. The task polled last is woken.
    ///
    /// # Errors
    /// As [`vnet::net::UdpSocket::recv_from`].
    pub fn poll_peek_sender(&self, task: &mut Context<'_>) -> Poll<io::Result<SocketAddr>> {
        self.poll_peek_from(task, &mut ReadBuf::new(&mut []))
    }

    /// Polls for a datagram; it stays in the queue. The task polled last is woken.
    ///
    /// # Errors
    /// As [`vnet::net::UdpSocket::recv`].
    pub fn poll_peek(&self, task: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_peek_from(task, buf).map_ok(drop)
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
        let attempt = |cx: &mut Context<'_>| self.io.poll_recv_from(cx, room);
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
        let attempt = |cx: &mut Context<'_>| self.look(cx, room);
        let seen = self.waiters.poll(Direction::Read, task, attempt);
        seen.map_ok(|(n, from)| {
            buf.advance(n);
            from
        })
    }

    fn look(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<(usize, SocketAddr)>> {
        once_ready(
            cx,
            || self.io.peek_from(buf),
            |cx| self.io.poll_ready(cx, Direction::Read),
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

/// Groups; the calls of [`vnet::net::UdpSocket`].
impl UdpSocket {
    /// See [`vnet::net::UdpSocket::join_multicast_v4`].
    ///
    /// # Errors
    /// As there.
    pub fn join_multicast_v4(&self, multiaddr: Ipv4Addr, interface: Ipv4Addr) -> io::Result<()> {
        self.io.join_multicast_v4(&multiaddr, &interface)
    }

    /// See [`vnet::net::UdpSocket::leave_multicast_v4`].
    ///
    /// # Errors
    /// As there.
    pub fn leave_multicast_v4(&self, multiaddr: Ipv4Addr, interface: Ipv4Addr) -> io::Result<()> {
        self.io.leave_multicast_v4(&multiaddr, &interface)
    }

    /// See [`vnet::net::UdpSocket::join_multicast_v6`].
    ///
    /// # Errors
    /// As there.
    pub fn join_multicast_v6(&self, multiaddr: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.io.join_multicast_v6(multiaddr, interface)
    }

    /// See [`vnet::net::UdpSocket::leave_multicast_v6`].
    ///
    /// # Errors
    /// As there.
    pub fn leave_multicast_v6(&self, multiaddr: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.io.leave_multicast_v6(multiaddr, interface)
    }

    /// See [`vnet::net::UdpSocket::multicast_loop_v4`].
    ///
    /// # Errors
    /// As there.
    pub fn multicast_loop_v4(&self) -> io::Result<bool> {
        self.io.multicast_loop_v4()
    }

    /// See [`vnet::net::UdpSocket::set_multicast_loop_v4`].
    ///
    /// # Errors
    /// As there.
    pub fn set_multicast_loop_v4(&self, on: bool) -> io::Result<()> {
        self.io.set_multicast_loop_v4(on)
    }

    /// See [`vnet::net::UdpSocket::multicast_loop_v6`].
    ///
    /// # Errors
    /// As there.
    pub fn multicast_loop_v6(&self) -> io::Result<bool> {
        self.io.multicast_loop_v6()
    }

    /// See [`vnet::net::UdpSocket::set_multicast_loop_v6`].
    ///
    /// # Errors
    /// As there.
    pub fn set_multicast_loop_v6(&self, on: bool) -> io::Result<()> {
        self.io.set_multicast_loop_v6(on)
    }

    /// See [`vnet::net::UdpSocket::multicast_ttl_v4`].
    ///
    /// # Errors
    /// As there.
    pub fn multicast_ttl_v4(&self) -> io::Result<u32> {
        self.io.multicast_ttl_v4()
    }

    /// See [`vnet::net::UdpSocket::set_multicast_ttl_v4`].
    ///
    /// # Errors
    /// As there.
    pub fn set_multicast_ttl_v4(&self, ttl: u32) -> io::Result<()> {
        self.io.set_multicast_ttl_v4(ttl)
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

//! UDP sockets.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::addr::{ToSocketAddrs, each_addr};
use super::block::{Flat, Mode, until_ready};
use super::error::current;
use super::tcp::ttl_in_range;
use crate::base::time::Duration;
use crate::instance::Vnet;
use crate::instance::vnet::VnetCore;
use crate::packet::{Cx, Payload};
use crate::stack::Stack;
use crate::transport::datagram::{Interest, Recv};
use crate::transport::error::SocketError;
use crate::transport::udp::{Broadcast, UdpId};

/// A UDP socket, as [`std::net::UdpSocket`].
///
/// ```
/// use vnet::net::UdpSocket;
/// use vnet::System;
///
/// let system = System::virtual_time(1);
/// let (a, b) = (system.create("a")?, system.create("b")?);
/// a.epair("eth0", &b, "eth0")?;
/// a.add_address("eth0", "192.0.2.1/24".parse()?)?;
/// b.add_address("eth0", "192.0.2.2/24".parse()?)?;
///
/// let server = UdpSocket::bind_in(&b, "0.0.0.0:53")?;
/// let client = UdpSocket::bind_in(&a, "0.0.0.0:0")?;
/// client.send_to(b"who?", "192.0.2.2:53")?;
/// let mut buf = [0; 16];
/// let (n, from) = server.recv_from(&mut buf)?;
/// assert_eq!((&buf[..n], from.ip().to_string().as_str()), (&b"who?"[..], "192.0.2.1"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct UdpSocket(Arc<Socket>);

struct Socket {
    core: Arc<VnetCore>,
    id: UdpId,
    mode: Mode,
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = self.core.with(|s, cx| s.udp.close(cx.out, self.id));
    }
}

impl UdpSocket {
    /// Makes a socket in the current vnet and binds it to the first address that can be bound;
    /// port 0 is any free port.
    ///
    /// # Errors
    /// [`io::ErrorKind::NetworkDown`] when no vnet is current, [`io::ErrorKind::AddrInUse`],
    /// [`io::ErrorKind::AddrNotAvailable`] for an address that is not the vnet's,
    /// [`io::ErrorKind::PermissionDenied`] for a port below 1024 without the privilege.
    pub fn bind(addrs: impl ToSocketAddrs) -> io::Result<UdpSocket> {
        UdpSocket::bind_in(&current()?, addrs)
    }

    /// Makes a socket in `vnet`; see [`UdpSocket::bind`].
    ///
    /// # Errors
    /// As [`UdpSocket::bind`].
    pub fn bind_in(vnet: &Vnet, addrs: impl ToSocketAddrs) -> io::Result<UdpSocket> {
        let core = &vnet.core;
        each_addr(addrs, |addr| {
            vnet.require_port(addr.port()).map_err(SocketError::from)?;
            let id = core.with(|s, cx| s.udp_bind(cx, addr)).flat()?;
            Ok(UdpSocket(Arc::new(Socket {
                core: Arc::clone(core),
                id,
                mode: Mode::default(),
            })))
        })
    }

    /// Sets the peer: only its datagrams are received, [`UdpSocket::send`] goes to it, and its
    /// refusals (ICMP port unreachable) are reported. Tries each address in turn.
    ///
    /// # Errors
    /// No route there.
    pub fn connect(&self, addrs: impl ToSocketAddrs) -> io::Result<()> {
        let id = self.0.id;
        each_addr(addrs, |addr| {
            Ok(self
                .0
                .core
                .with(|s, cx| s.udp_connect(cx, id, addr))
                .flat()?)
        })
    }

    /// Sends a datagram to `addr`.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for more than 65507 bytes, or for the broadcast address
    /// without [`UdpSocket::set_broadcast`]; no route there; an earlier refusal by the peer of a
    /// connected socket.
    pub fn send_to(&self, data: &[u8], addr: impl ToSocketAddrs) -> io::Result<usize> {
        each_addr(addrs_once(addr)?.as_slice(), |addr| {
            self.send_copy(data, Some(addr))
        })
    }

    /// Sends a datagram to the peer.
    ///
    /// # Errors
    /// As [`UdpSocket::send_to`]; [`io::ErrorKind::NotConnected`] without a peer.
    pub fn send(&self, data: &[u8]) -> io::Result<usize> {
        self.send_copy(data, None)
    }

    fn send_copy(&self, data: &[u8], to: Option<SocketAddr>) -> io::Result<usize> {
        // A datagram is one packet: the copy is made outside the vnet's lock.
        self.send_bytes(Bytes::copy_from_slice(data), to)
    }

    /// Sends a datagram without copying it, to `to` or to the peer.
    ///
    /// # Errors
    /// As [`UdpSocket::send_to`].
    pub fn send_bytes(&self, data: Bytes, to: Option<SocketAddr>) -> io::Result<usize> {
        let id = self.0.id;
        let len = data.len();
        self.0
            .core
            .with(|s, cx| s.udp_send(cx, id, to, Payload::from(data)))
            .flat()?;
        Ok(len)
    }

    /// Waits for a datagram; returns its length and where it is from. What does not fit in `buf`
    /// is lost.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when nonblocking or out of time,
    /// [`io::ErrorKind::ConnectionRefused`] when the peer of a connected socket refused.
    #[track_caller]
    pub fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let (data, from) = self.receive(Recv::Consume)?;
        Ok((data.copy_to(0, buf), from))
    }

    /// As [`UdpSocket::recv_from`], without the address.
    ///
    /// # Errors
    /// As [`UdpSocket::recv_from`].
    #[track_caller]
    pub fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.recv_from(buf).map(|(n, _)| n)
    }

    /// As [`UdpSocket::recv_from`], but the datagram stays to be received again.
    ///
    /// # Errors
    /// As [`UdpSocket::recv_from`].
    #[track_caller]
    pub fn peek_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let (data, from) = self.receive(Recv::Peek)?;
        Ok((data.copy_to(0, buf), from))
    }

    /// As [`UdpSocket::recv`], but the datagram stays to be received again.
    ///
    /// # Errors
    /// As [`UdpSocket::recv_from`].
    #[track_caller]
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.peek_from(buf).map(|(n, _)| n)
    }

    /// Receives a datagram without copying it.
    ///
    /// # Errors
    /// As [`UdpSocket::recv_from`].
    #[track_caller]
    pub fn recv_bytes(&self) -> io::Result<(Payload, SocketAddr)> {
        self.receive(Recv::Consume)
    }

    #[track_caller]
    fn receive(&self, how: Recv) -> io::Result<(Payload, SocketAddr)> {
        let id = self.0.id;
        until_ready(&self.0.core, self.0.mode.reading(), |s, cx, waker| {
            receive_or_register(s, cx, id, how, waker)
        })
    }

    /// Polls for a datagram, for futures.
    ///
    /// # Errors
    /// As [`UdpSocket::recv_from`].
    pub fn poll_recv_from(
        &self,
        task: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        let id = self.0.id;
        let received = self
            .0
            .core
            .with(|s, cx| receive_or_register(s, cx, id, Recv::Consume, Some(task.waker())));
        match received.flat() {
            Err(SocketError::WouldBlock) => Poll::Pending,
            Err(e) => Poll::Ready(Err(e.into())),
            Ok((data, from)) => Poll::Ready(Ok((data.copy_to(0, buf), from))),
        }
    }

    /// The socket's own address.
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        let addr = self.ask(|s, id| s.udp.local_addr(id))?;
        Ok(addr.expect("a UDP socket of this layer is bound when it is made"))
    }

    /// The peer's address.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotConnected`], or the vnet is gone.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.ask(|s, id| s.udp.peer_addr(id))
    }

    /// Takes the error that waits to be reported (`SO_ERROR`).
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        let error = self.ask(|s, id| s.udp.take_error(id))?;
        Ok(error.map(io::Error::from))
    }

    /// Another handle to the same socket. Settings are shared.
    ///
    /// # Errors
    /// None; the signature is the standard library's.
    pub fn try_clone(&self) -> io::Result<UdpSocket> {
        Ok(self.clone())
    }

    /// Makes receiving return [`io::ErrorKind::WouldBlock`] instead of waiting. Sending never
    /// waits.
    ///
    /// # Errors
    /// None; the signature is the standard library's.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.0.mode.set_nonblocking(nonblocking);
        Ok(())
    }

    /// Limits how long receiving waits; it fails with [`io::ErrorKind::WouldBlock`] then.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for a timeout of zero.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.0.mode.set_read_timeout(timeout)
    }

    /// Remembered, as the standard library has it; sending never waits.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for a timeout of zero.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.0.mode.set_write_timeout(timeout)
    }

    /// The limit on receiving.
    ///
    /// # Errors
    /// None; the signature is the standard library's.
    pub fn read_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.0.mode.read_timeout())
    }

    /// What [`UdpSocket::set_write_timeout`] has set.
    ///
    /// # Errors
    /// None; the signature is the standard library's.
    pub fn write_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.0.mode.write_timeout())
    }

    /// Allows sending to broadcast addresses (`SO_BROADCAST`).
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn set_broadcast(&self, broadcast: bool) -> io::Result<()> {
        let broadcast = match broadcast {
            true => Broadcast::Allowed,
            false => Broadcast::Forbidden,
        };
        self.ask(|s, id| s.udp.options_mut(id).map(|o| o.broadcast = broadcast))
    }

    /// Whether sending to broadcast addresses is allowed.
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn broadcast(&self) -> io::Result<bool> {
        self.ask(|s, id| s.udp.options(id).map(|o| o.broadcast == Broadcast::Allowed))
    }

    /// Sets the time to live of its packets.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for more than 255, or zero; the vnet is gone.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        let ttl = ttl_in_range(ttl)?;
        self.ask(|s, id| s.udp.options_mut(id).map(|o| o.ttl = ttl))
    }

    /// The time to live of its packets.
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn ttl(&self) -> io::Result<u32> {
        self.ask(|s, id| s.udp.options(id).map(|o| o.ttl))
            .map(u32::from)
    }

    fn ask<R>(&self, f: impl FnOnce(&mut Stack, UdpId) -> Result<R, SocketError>) -> io::Result<R> {
        Ok(self.0.core.with(|s, _| f(s, self.0.id)).flat()?)
    }
}

fn addrs_once(addrs: impl ToSocketAddrs) -> io::Result<Vec<SocketAddr>> {
    // Sending uses the first address only, as the standard library does.
    let mut all = addrs.to_socket_addrs()?;
    all.truncate(1);
    Ok(all)
}

fn receive_or_register(
    stack: &mut Stack,
    cx: &mut Cx,
    id: UdpId,
    how: Recv,
    waker: Option<&Waker>,
) -> Result<(Payload, SocketAddr), SocketError> {
    let result = stack.udp.recv(id, how);
    if let (Err(SocketError::WouldBlock), Some(waker)) = (&result, waker) {
        stack.udp.register(cx.out, id, Interest::Read, waker)?;
    }
    result
}

impl fmt::Debug for UdpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UdpSocket")
            .field("vnet", &self.0.core.name)
            .field("local", &self.local_addr().ok())
            .finish()
    }
}

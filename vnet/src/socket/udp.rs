//! UDP sockets.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::addr::{ToSocketAddrs, each_addr, first_addr};
use super::bind::BindOptions;
use super::error::current;
use super::handle::{Handle, Wait, poll, shared_methods};
use crate::base::time::Duration;
use crate::instance::Vnet;
use crate::packet::Payload;
use crate::transport::domain::Domain;
use crate::transport::edge::{Interest, ReadMode};
use crate::transport::error::SocketError;
use crate::transport::udp::{Broadcast, Leaving, UdpId};

/// A UDP socket, like [`std::net::UdpSocket`].
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
pub struct UdpSocket(pub(super) Handle<UdpId>, pub(super) Domain);

shared_methods!(UdpSocket: nonblocking try_clone take_error read_timeout write_timeout ttl dont_fragment);

impl UdpSocket {
    /// Creates a socket in the current vnet and binds it to the first address that can be bound; port 0 means any
    /// free port. A socket bound to `[::]` takes IPv4 as well, unless `net.inet6.ip6.v6only` says otherwise; IPv4
    /// addresses then appear as mapped ones (`::ffff:192.0.2.1`).
    ///
    /// # Errors
    /// [`io::ErrorKind::NetworkDown`] when no vnet is current, [`io::ErrorKind::AddrInUse`],
    /// [`io::ErrorKind::AddrNotAvailable`] for an address that is not the vnet's,
    /// [`io::ErrorKind::PermissionDenied`] for a port below 1024 without the privilege.
    pub fn bind(addrs: impl ToSocketAddrs) -> io::Result<UdpSocket> {
        UdpSocket::bind_in(&current()?, addrs)
    }

    /// Creates a socket in `vnet`; see [`UdpSocket::bind`].
    ///
    /// # Errors
    /// As [`UdpSocket::bind`].
    pub fn bind_in(vnet: &Vnet, addrs: impl ToSocketAddrs) -> io::Result<UdpSocket> {
        UdpSocket::bind_with(vnet, addrs, &BindOptions::default())
    }

    /// Creates a socket in `vnet` with these options; see [`UdpSocket::bind`].
    pub(super) fn bind_with(
        vnet: &Vnet,
        addrs: impl ToSocketAddrs,
        options: &BindOptions,
    ) -> io::Result<UdpSocket> {
        each_addr(&vnet.core, addrs, |addr| {
            vnet.require_port(addr.port()).map_err(SocketError::from)?;
            let mut domain = Domain::V4;
            let handle = Handle::open(&vnet.core, |s, cx| {
                domain = s.domain(addr, options.only_v6);
                s.udp_bind(cx, addr, domain, options.reuse)
            })?;
            Ok(UdpSocket(handle, domain))
        })
    }

    /// Sets the peer, trying each address in turn. Only datagrams from the peer are received, [`UdpSocket::send`]
    /// sends to it, and ICMP errors from it (port unreachable) are reported.
    ///
    /// # Errors
    /// There is no route to the peer.
    pub fn connect(&self, addrs: impl ToSocketAddrs) -> io::Result<()> {
        each_addr(self.0.core(), addrs, |addr| {
            self.0.now(|s, cx, id| s.udp_connect(cx, id, self.1, addr))
        })
    }

    /// Sends a datagram to `addr`.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for more than 65507 bytes, or for the broadcast address
    /// without [`UdpSocket::set_broadcast`]; there is no route to the destination; an earlier ICMP error from the
    /// peer of a connected socket.
    pub fn send_to(&self, data: &[u8], addr: impl ToSocketAddrs) -> io::Result<usize> {
        // Sending uses the first address only, as the standard library does.
        self.send_copy(data, Some(first_addr(self.0.core(), addr)?))
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
        self.send_payload(Payload::copied(data), to)
    }

    /// Sends a datagram without copying it, to `to` or to the peer.
    ///
    /// # Errors
    /// As [`UdpSocket::send_to`].
    pub fn send_bytes(&self, data: Bytes, to: Option<SocketAddr>) -> io::Result<usize> {
        self.send_payload(data.into(), to)
    }

    fn send_payload(&self, payload: Payload, to: Option<SocketAddr>) -> io::Result<usize> {
        let len = payload.len();
        self.0
            .now(|s, cx, id| s.udp_send(cx, id, self.1, to, payload, &Leaving::default()))?;
        Ok(len)
    }

    /// Waits for a datagram, and returns its length and its sender. Data that does not fit in `buf` is discarded.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when nonblocking, or when the timeout has expired;
    /// [`io::ErrorKind::ConnectionRefused`] when the peer of a connected socket has refused a datagram.
    #[track_caller]
    pub fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.copy(self.0.reading(), ReadMode::Consume, buf)
    }

    /// As [`UdpSocket::recv_from`], without the address.
    ///
    /// # Errors
    /// As [`UdpSocket::recv_from`].
    #[track_caller]
    pub fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.recv_from(buf).map(|(n, _)| n)
    }

    /// As [`UdpSocket::recv_from`], but the datagram stays in the queue.
    ///
    /// # Errors
    /// As [`UdpSocket::recv_from`].
    #[track_caller]
    pub fn peek_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.copy(self.0.reading(), ReadMode::Peek, buf)
    }

    /// As [`UdpSocket::recv`], but the datagram stays in the queue.
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
        self.receive(self.0.reading(), ReadMode::Consume)
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
        poll(self.copy(Wait::polled(task), ReadMode::Consume, buf))
    }

    #[track_caller]
    fn receive(&self, wait: Wait<'_>, mode: ReadMode) -> io::Result<(Payload, SocketAddr)> {
        let received = self.0.run(wait, Interest::Read, |s, _, id| {
            s.datagrams.udp.sockets.recv(id, mode)
        });
        received.map(|(data, arrived)| (data, self.1.outside(arrived.src)))
    }

    #[track_caller]
    fn copy(
        &self,
        wait: Wait<'_>,
        mode: ReadMode,
        buf: &mut [u8],
    ) -> io::Result<(usize, SocketAddr)> {
        let mut rest = None;
        let (copied, from) = self.0.run(wait, Interest::Read, |s, _, id| {
            let sockets = &mut s.datagrams.udp.sockets;
            let (data, arrived) = sockets.oldest(id)?;
            let from = arrived.src;
            // A few bytes are copied at once, others outside of the lock.
            let Some(few) = data.short() else {
                rest = Some(sockets.recv(id, mode)?.0);
                return Ok((0, from));
            };
            let copied = few.len().min(buf.len());
            buf[..copied].copy_from_slice(&few[..copied]);
            if mode == ReadMode::Consume {
                sockets.drop_oldest(id);
            }
            Ok((copied, from))
        })?;
        let copied = rest.map_or(copied, |rest| rest.copy_to(0, buf));
        Ok((copied, self.1.outside(from)))
    }

    /// The socket's own address.
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        let addr = self
            .0
            .now(|s, _, id| Ok(s.datagrams.udp.sockets.get(id)?.own.local()))?;
        let addr = addr.expect("a UDP socket of this layer is bound when it is made");
        Ok(self.1.outside(addr))
    }

    /// The peer's address.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotConnected`], or the vnet is gone.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.0.now(|s, _, id| {
            let peer = s.datagrams.udp.sockets.get(id)?.own.peer();
            let peer = peer.map(|peer| self.1.outside(peer));
            peer.ok_or(SocketError::NotConnected)
        })
    }

    /// The largest packet that the path to the peer is known to take, as [`UdpSocket::path_mtu_to`] (`IP_MTU`,
    /// `IPV6_PATHMTU`).
    ///
    /// # Errors
    /// [`io::ErrorKind::NotConnected`]; there is no route to the peer; the vnet is gone.
    pub fn path_mtu(&self) -> io::Result<u32> {
        self.0.now(|s, cx, id| {
            let peer = s.datagrams.udp.sockets.get(id)?.own.peer();
            let peer = peer.ok_or(SocketError::NotConnected)?;
            s.path_mtu_from(cx.now, id.into(), peer.ip())
        })
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
        self.0.now(|s, _, id| {
            s.datagrams.udp.sockets.get_mut(id)?.own.broadcast = broadcast;
            Ok(())
        })
    }

    /// Whether sending to broadcast addresses is allowed.
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn broadcast(&self) -> io::Result<bool> {
        self.0.now(|s, _, id| {
            Ok(s.datagrams.udp.sockets.get(id)?.own.broadcast == Broadcast::Allowed)
        })
    }
}

impl fmt::Debug for UdpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UdpSocket")
            .field("vnet", &self.0.core().name)
            .field("local", &self.local_addr().ok())
            .finish()
    }
}

//! [`TcpListener`].

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use vnet::Vnet;
use vnet::net::Interest as Direction;

use super::stream::TcpStream;
use super::{ToSocketAddrs, current, resolved};
use crate::waiters::Waiters;

/// A listening TCP socket, as [`tokio::net::TcpListener`], of a vnet.
pub struct TcpListener {
    io: vnet::net::TcpListener,
    waiters: Waiters,
}

impl TcpListener {
    /// Listens in the current vnet, on the first address that can be bound.
    ///
    /// # Errors
    /// As [`vnet::net::TcpListener::bind`].
    pub async fn bind<A: ToSocketAddrs>(addr: A) -> io::Result<TcpListener> {
        let vnet = current()?;
        let addrs = resolved(&vnet, &addr).await?;
        TcpListener::bind_in(&vnet, &addrs[..])
    }

    /// Listens in `vnet`; see [`TcpListener::bind`].
    ///
    /// # Errors
    /// As [`vnet::net::TcpListener::bind`].
    pub fn bind_in<A: ToSocketAddrs>(vnet: &Vnet, addr: A) -> io::Result<TcpListener> {
        let listener = vnet::net::TcpListener::bind_in(vnet, addr)?;
        TcpListener::of(listener)
    }

    pub(super) fn of(listener: vnet::net::TcpListener) -> io::Result<TcpListener> {
        listener.set_nonblocking(true)?;
        Ok(TcpListener {
            waiters: Waiters::new(listener.clock()),
            io: listener,
        })
    }

    /// Takes over a listener of [`vnet::net`].
    ///
    /// # Errors
    /// None; the signature is tokio's.
    pub fn from_std(listener: vnet::net::TcpListener) -> io::Result<TcpListener> {
        TcpListener::of(listener)
    }

    /// The listener for the calls of [`vnet::net`]. It is nonblocking.
    ///
    /// # Errors
    /// None; the signature is tokio's.
    pub fn into_std(self) -> io::Result<vnet::net::TcpListener> {
        Ok(self.io)
    }

    /// Waits for a connection. Cancel safe: no connection is lost when the future is dropped.
    ///
    /// # Errors
    /// The vnet is gone.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let accepted = self.waiters.wait(Direction::Read, |cx| self.try_accept(cx));
        accepted.await
    }

    /// Polls for a connection. The task polled last is woken.
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn poll_accept(&self, task: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        self.waiters
            .poll(Direction::Read, task, |cx| self.try_accept(cx))
    }

    fn try_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        let accepted = self.io.poll_accept(cx);
        accepted.map_ok(|(stream, peer)| (TcpStream::of(stream), peer))
    }

    /// The address it listens on.
    ///
    /// # Errors
    /// None; the signature is tokio's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    /// The time to live of the packets of accepted connections.
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn ttl(&self) -> io::Result<u32> {
        self.io.ttl()
    }

    /// Sets the time to live of the packets of connections that are accepted from now on.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for zero or more than 255; the vnet is gone.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.io.set_ttl(ttl)
    }
}

impl fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.io.fmt(f)
    }
}

impl TryFrom<vnet::net::TcpListener> for TcpListener {
    type Error = io::Error;

    fn try_from(listener: vnet::net::TcpListener) -> io::Result<TcpListener> {
        TcpListener::from_std(listener)
    }
}

/// So that `axum::serve` accepts it.
#[cfg(feature = "axum")]
impl axum::serve::Listener for TcpListener {
    type Io = TcpStream;
    type Addr = SocketAddr;

    /// Waits for a connection. When the vnet is gone none will come, and the future waits until it is dropped.
    ///
    /// # Panics
    /// When it is polled where it would wait in vain: the listener's vnet has simulated time, and the runtime is not a
    /// [`Runtime`](crate::Runtime) of its system.
    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        match TcpListener::accept(self).await {
            Ok(accepted) => accepted,
            Err(error) if vnet::SocketError::is_gone(&error) => std::future::pending().await,
            // `axum::serve` has no place for it, and to wait would hide it.
            Err(error) => panic!("{error}"),
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }
}

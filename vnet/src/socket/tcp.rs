//! TCP sockets.

use std::fmt;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

pub use std::net::Shutdown;

use super::addr::{ToSocketAddrs, each_addr};
use super::block::{Flat, Mode, Patience, until_ready};
use super::error::current;
use crate::base::time::Duration;
use crate::instance::Vnet;
use crate::instance::vnet::VnetCore;
use crate::packet::pool::CHUNK;
use crate::packet::{Cx, Payload};
use crate::stack::Stack;
use crate::stack::limits::Resource;
use crate::transport::error::SocketError;
use crate::transport::ports::Reuse;
use crate::transport::tcp::{
    ConnId, Interest, Linger, ListenerId, ReadMode, SocketOptions, Switch,
};

/// Writes up to this size are copied under the vnet's lock, into a buffer that collects small
/// writes; larger ones are copied outside of it.
const SMALL_WRITE: usize = 2048;
/// Reads up to this size take the bytes out under the lock.
const DEFAULT_BACKLOG: usize = 128;

/// A TCP connection, as [`std::net::TcpStream`].
///
/// Clones ([`TcpStream::try_clone`]) are the same socket; the last one dropped closes it. Data
/// that was written is still delivered then; data that was not read makes it a reset (RFC 2525,
/// section 2.17).
///
/// Every operation fails with [`ErrorKind::ConnectionAborted`] and
/// [`SocketError::Gone`] once the vnet is gone.
#[derive(Clone)]
pub struct TcpStream(Arc<Stream>);

struct Stream {
    core: Arc<VnetCore>,
    id: ConnId,
    mode: Mode,
}

impl Drop for Stream {
    fn drop(&mut self) {
        let _ = self.core.with(|s, cx| s.tcp.close(cx, self.id));
    }
}

impl TcpStream {
    fn new(core: Arc<VnetCore>, id: ConnId) -> TcpStream {
        TcpStream(Arc::new(Stream {
            core,
            id,
            mode: Mode::default(),
        }))
    }

    /// Connects from the current vnet; tries each address in turn.
    ///
    /// # Errors
    /// [`ErrorKind::NetworkDown`] when no vnet is current, and what
    /// [`TcpStream::connect_in`] returns.
    pub fn connect(addrs: impl ToSocketAddrs) -> io::Result<TcpStream> {
        TcpStream::connect_in(&current()?, addrs)
    }

    /// Connects from `vnet`; tries each address in turn.
    ///
    /// # Errors
    /// [`ErrorKind::ConnectionRefused`], [`ErrorKind::TimedOut`] when nobody answers,
    /// [`ErrorKind::NetworkUnreachable`] and [`ErrorKind::HostUnreachable`] when there is no way
    /// there, [`ErrorKind::AddrNotAvailable`] when no port is left.
    pub fn connect_in(vnet: &Vnet, addrs: impl ToSocketAddrs) -> io::Result<TcpStream> {
        each_addr(addrs, |addr| {
            TcpStream::connect_one(vnet, addr, Patience::Blocking(None))
        })
    }

    /// Connects from the current vnet, waiting at most `timeout`.
    ///
    /// # Errors
    /// As [`TcpStream::connect_in`]; [`ErrorKind::TimedOut`] when the time runs out.
    pub fn connect_timeout(addr: &SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
        TcpStream::connect_timeout_in(&current()?, addr, timeout)
    }

    /// Connects from `vnet`, waiting at most `timeout`.
    ///
    /// # Errors
    /// As [`TcpStream::connect_in`]; [`ErrorKind::TimedOut`] when the time runs out.
    pub fn connect_timeout_in(
        vnet: &Vnet,
        addr: &SocketAddr,
        timeout: Duration,
    ) -> io::Result<TcpStream> {
        if timeout.is_zero() {
            return Err(io::Error::new(ErrorKind::InvalidInput, "a timeout of zero"));
        }
        let stream = TcpStream::connect_one(vnet, *addr, Patience::Blocking(Some(timeout)));
        stream.map_err(|e| match e.kind() {
            ErrorKind::WouldBlock => SocketError::TimedOut.into(),
            _ => e,
        })
    }

    /// Starts to connect from `vnet` and does not wait. The stream is nonblocking; it becomes
    /// writable when it is connected, and [`TcpStream::take_error`] tells when that failed.
    ///
    /// # Errors
    /// As [`TcpStream::connect_in`], for what is known at once.
    pub fn start_connect_in(vnet: &Vnet, addr: SocketAddr) -> io::Result<TcpStream> {
        let id = vnet.core.with(|s, cx| s.tcp_connect(cx, addr)).flat()?;
        let stream = TcpStream::new(Arc::clone(&vnet.core), id);
        stream.0.mode.set_nonblocking(true);
        Ok(stream)
    }

    fn connect_one(vnet: &Vnet, addr: SocketAddr, patience: Patience) -> io::Result<TcpStream> {
        let core = &vnet.core;
        let id = core.with(|s, cx| s.tcp_connect(cx, addr)).flat()?;
        let stream = TcpStream::new(Arc::clone(core), id);
        until_ready(core, patience, |s, cx, waker| {
            let result = connected(s, id);
            register_on_block(s, cx, id, Interest::Write, waker, result)
        })?;
        Ok(stream)
    }

    /// Reads without copying: returns what has arrived, at most `max` bytes, by reference. No
    /// slices mean the end of the stream.
    ///
    /// # Errors
    /// As for reading into a buffer.
    #[track_caller]
    pub fn recv_bytes(&self, max: usize) -> io::Result<Payload> {
        self.receive(max, ReadMode::Consume, self.0.mode.reading())
    }

    #[track_caller]
    fn receive(&self, max: usize, mode: ReadMode, patience: Patience) -> io::Result<Payload> {
        let id = self.0.id;
        until_ready(&self.0.core, patience, |s, cx, waker| {
            let mut taken = Payload::new();
            let result = s.tcp.recv(cx, id, max, &mut taken, mode);
            register_on_block(s, cx, id, Interest::Read, waker, result).map(|_| taken)
        })
    }

    /// Sends without copying. Returns how many of the bytes were taken; the rest stays yours.
    ///
    /// # Errors
    /// As for writing from a buffer.
    #[track_caller]
    pub fn send_bytes(&self, data: &Bytes) -> io::Result<usize> {
        if data.is_empty() {
            return Ok(0);
        }
        let id = self.0.id;
        until_ready(&self.0.core, self.0.mode.writing(), |s, cx, waker| {
            let space = writable(s, cx, id, waker)?;
            let part = data.slice(..data.len().min(space));
            let taken = part.len();
            s.tcp.send_bytes(cx, id, part).map(|()| taken)
        })
    }

    #[track_caller]
    fn write_copy(&self, data: &[u8]) -> io::Result<usize> {
        let id = self.0.id;
        let core = &self.0.core;
        let patience = self.0.mode.writing();
        if data.len() <= SMALL_WRITE {
            return until_ready(core, patience, |s, cx, waker| {
                s.admit(Resource::BufferedBytes)?;
                let result = s.tcp.send_copy(cx, id, data);
                register_on_block(s, cx, id, Interest::Write, waker, result)
            });
        }
        let reserved = until_ready(core, patience, |s, cx, waker| {
            let space = writable(s, cx, id, waker)?;
            let n = space.min(data.len()).min(CHUNK);
            s.tcp.reserve(id, n).map(|()| n)
        })?;
        // The copy is made outside the vnet's lock; the space is ours already.
        let copy = core.system.pool.copy(&data[..reserved]);
        core.with(|s, cx| s.tcp.send_bytes(cx, id, copy)).flat()?;
        Ok(reserved)
    }

    /// Like reading, but the bytes stay to be read again.
    ///
    /// # Errors
    /// As for reading.
    #[track_caller]
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        let taken = self.receive(buf.len(), ReadMode::Peek, self.0.mode.reading())?;
        Ok(taken.copy_to(0, buf))
    }

    /// Shuts down reading, writing, or both. What was written before is still delivered,
    /// followed by the end of the stream.
    ///
    /// # Errors
    /// [`ErrorKind::NotConnected`].
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        let id = self.0.id;
        Ok(self
            .0
            .core
            .with(|s, cx| s.tcp.shutdown(cx, id, how))
            .flat()?)
    }

    /// Another handle to the same socket. Settings are shared.
    ///
    /// # Errors
    /// None; the signature is the standard library's.
    pub fn try_clone(&self) -> io::Result<TcpStream> {
        Ok(self.clone())
    }

    /// The address of this end.
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.ask(|s, id| s.tcp.local_addr(id))
    }

    /// The address of the other end.
    ///
    /// # Errors
    /// [`ErrorKind::NotConnected`], or the vnet is gone.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.ask(|s, id| s.tcp.peer_addr(id))
    }

    /// Takes the error that waits to be reported (`SO_ERROR`).
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        let error = self.ask(|s, id| s.tcp.take_error(id))?;
        Ok(error.map(io::Error::from))
    }

    /// Makes every operation return [`ErrorKind::WouldBlock`] instead of waiting, or wait again.
    ///
    /// # Errors
    /// None; the signature is the standard library's.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.0.mode.set_nonblocking(nonblocking);
        Ok(())
    }

    /// Limits how long reading waits; it fails with [`ErrorKind::WouldBlock`] then.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a timeout of zero.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.0.mode.set_read_timeout(timeout)
    }

    /// Limits how long writing waits; it fails with [`ErrorKind::WouldBlock`] then.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a timeout of zero.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.0.mode.set_write_timeout(timeout)
    }

    /// The limit on reading.
    ///
    /// # Errors
    /// None; the signature is the standard library's.
    pub fn read_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.0.mode.read_timeout())
    }

    /// The limit on writing.
    ///
    /// # Errors
    /// None; the signature is the standard library's.
    pub fn write_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.0.mode.write_timeout())
    }

    /// Sends small segments at once (`TCP_NODELAY`), or collects them (RFC 1122, section
    /// 4.2.3.4).
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        let (id, to) = (self.0.id, switch(nodelay));
        let core = &self.0.core;
        Ok(core.with(|s, cx| s.tcp.set_nodelay(cx, id, to)).flat()?)
    }

    /// Whether small segments are sent at once.
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn nodelay(&self) -> io::Result<bool> {
        self.option(|o| o.nodelay == Switch::On)
    }

    /// Sets the time to live of its packets.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for more than 255, or zero; the vnet is gone.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        let ttl = ttl_in_range(ttl)?;
        self.set_option(|o| o.ttl = ttl)
    }

    /// The time to live of its packets.
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn ttl(&self) -> io::Result<u32> {
        let default = self.ask(|s, _| Ok(s.ip.v4.tunables.default_ttl))?;
        self.option(|o| match o.ttl {
            0 => u32::from(default),
            ttl => u32::from(ttl),
        })
    }

    /// With `Some`, closing discards what was not sent and resets the connection when the given
    /// time is zero, or runs out before everything is acknowledged (`SO_LINGER`). Closing itself
    /// never waits.
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        let linger = linger.map_or(Linger::Background, Linger::For);
        self.ask(|s, id| s.tcp.set_linger(id, linger))
    }

    /// What [`TcpStream::set_linger`] has set.
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        self.option(|o| match o.linger {
            Linger::Background => None,
            Linger::For(time) => Some(time),
        })
    }

    /// Probes an idle connection, so that a peer that vanished is noticed (RFC 1122, section
    /// 4.2.3.6).
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn set_keepalive(&self, keepalive: bool) -> io::Result<()> {
        self.set_option(|o| o.keepalive = switch(keepalive))
    }

    /// Polls for the end of [`TcpStream::start_connect_in`], for futures.
    ///
    /// # Errors
    /// As [`TcpStream::connect_in`], for what the network says.
    pub fn poll_connect(&self, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        let id = self.0.id;
        let result = self.0.core.with(|s, cx| {
            let result = connected(s, id);
            register_on_block(s, cx, id, Interest::Write, Some(task.waker()), result)
        });
        match result.flat() {
            Err(SocketError::WouldBlock) => Poll::Pending,
            result => Poll::Ready(result.map_err(io::Error::from)),
        }
    }

    /// Polls for data, for futures: the task is woken when it is worth to poll again.
    ///
    /// # Errors
    /// As for reading.
    pub fn poll_read(&self, task: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let id = self.0.id;
        let taken = self.0.core.with(|s, cx| {
            let mut taken = Payload::new();
            let result = s.tcp.recv(cx, id, buf.len(), &mut taken, ReadMode::Consume);
            register_on_block(s, cx, id, Interest::Read, Some(task.waker()), result).map(|_| taken)
        });
        match taken.flat() {
            Err(SocketError::WouldBlock) => Poll::Pending,
            Err(e) => Poll::Ready(Err(e.into())),
            Ok(taken) => Poll::Ready(Ok(taken.copy_to(0, buf))),
        }
    }

    /// Polls for room and writes, for futures.
    ///
    /// # Errors
    /// As for writing.
    pub fn poll_write(&self, task: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let id = self.0.id;
        let sent = self.0.core.with(|s, cx| {
            let result = s.tcp.send_copy(cx, id, data);
            register_on_block(s, cx, id, Interest::Write, Some(task.waker()), result)
        });
        match sent.flat() {
            Err(SocketError::WouldBlock) => Poll::Pending,
            result => Poll::Ready(result.map_err(io::Error::from)),
        }
    }

    fn option<R>(&self, f: impl FnOnce(&SocketOptions) -> R) -> io::Result<R> {
        self.ask(|s, id| s.tcp.options(id).map(f))
    }

    fn set_option(&self, f: impl FnOnce(&mut SocketOptions)) -> io::Result<()> {
        let id = self.0.id;
        let change = |s: &mut Stack, cx: &mut Cx| {
            let mut options = s.tcp.options(id)?.clone();
            f(&mut options);
            s.tcp.set_options(cx, id, options)
        };
        Ok(self.0.core.with(change).flat()?)
    }

    fn ask<R>(
        &self,
        f: impl FnOnce(&mut Stack, ConnId) -> Result<R, SocketError>,
    ) -> io::Result<R> {
        Ok(self.0.core.with(|s, _| f(s, self.0.id)).flat()?)
    }
}

fn switch(on: bool) -> Switch {
    match on {
        true => Switch::On,
        false => Switch::Off,
    }
}

/// A time to live that fits its field.
pub(super) fn ttl_in_range(ttl: u32) -> io::Result<u8> {
    match u8::try_from(ttl) {
        Ok(ttl) if ttl > 0 => Ok(ttl),
        _ => Err(SocketError::InvalidInput.into()),
    }
}

/// Registers the waker, if there is one, when an attempt would block.
fn register_on_block<R>(
    stack: &mut Stack,
    cx: &mut Cx,
    id: ConnId,
    interest: Interest,
    waker: Option<&Waker>,
    result: Result<R, SocketError>,
) -> Result<R, SocketError> {
    if let (Err(SocketError::WouldBlock), Some(waker)) = (&result, waker) {
        stack.tcp.register(cx.out, id, interest, waker)?;
    }
    result
}

/// Whether a connection is established, or how that failed.
fn connected(stack: &mut Stack, id: ConnId) -> Result<(), SocketError> {
    if let Some(error) = stack.tcp.take_error(id)? {
        return Err(error);
    }
    match stack.tcp.readiness(id)?.connecting {
        true => Err(SocketError::WouldBlock),
        false => Ok(()),
    }
}

/// The room in the send buffer; none would block.
fn writable(
    stack: &mut Stack,
    cx: &mut Cx,
    id: ConnId,
    waker: Option<&Waker>,
) -> Result<usize, SocketError> {
    stack.admit(Resource::BufferedBytes)?;
    let space = match stack.tcp.send_space(id) {
        Ok(0) => Err(SocketError::WouldBlock),
        result => result,
    };
    register_on_block(stack, cx, id, Interest::Write, waker, space)
}

impl Read for &TcpStream {
    #[track_caller]
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        // Taken by reference under the lock, copied outside of it.
        let taken = self.receive(buf.len(), ReadMode::Consume, self.0.mode.reading())?;
        Ok(taken.copy_to(0, buf))
    }

    #[track_caller]
    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let want = bufs.iter().map(|b| b.len()).sum();
        if want == 0 {
            return Ok(0);
        }
        let taken = self.receive(want, ReadMode::Consume, self.0.mode.reading())?;
        let mut done = 0;
        for buf in bufs {
            done += taken.copy_to(done, buf);
        }
        Ok(done)
    }
}

impl Write for &TcpStream {
    #[track_caller]
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if data.is_empty() {
            return Ok(0);
        }
        self.write_copy(data)
    }

    #[track_caller]
    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        match bufs.iter().find(|b| !b.is_empty()) {
            Some(first) => self.write(first),
            None => Ok(0),
        }
    }

    /// Does nothing: what is written is on its way already.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for TcpStream {
    #[track_caller]
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buf)
    }

    #[track_caller]
    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self).read_vectored(bufs)
    }
}

impl Write for TcpStream {
    #[track_caller]
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        (&*self).write(data)
    }

    #[track_caller]
    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(bufs)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpStream")
            .field("vnet", &self.0.core.name)
            .field("local", &self.local_addr().ok())
            .field("peer", &self.peer_addr().ok())
            .finish()
    }
}

/// A TCP socket that listens, as [`std::net::TcpListener`].
///
/// The backlog is 128 connections and is enforced: while so many wait to be accepted, a connection
/// request is not answered, and the peer tries again; a handshake under way completes once there is
/// room. Requests that their senders do not complete are not part of it: of those
/// `net.inet.tcp.maxhalfopen` are kept, and the oldest makes room for the next.
#[derive(Clone)]
pub struct TcpListener(Arc<Listener>);

struct Listener {
    core: Arc<VnetCore>,
    id: ListenerId,
    local: SocketAddr,
    mode: Mode,
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.core.with(|s, cx| s.tcp.close_listener(cx, self.id));
    }
}

impl TcpListener {
    /// Listens in the current vnet, on the first address that can be bound. As the standard
    /// library on Unix, it sets `SO_REUSEADDR`: connections that linger in TIME-WAIT do not stand
    /// in the way.
    ///
    /// # Errors
    /// [`ErrorKind::NetworkDown`] when no vnet is current, [`ErrorKind::AddrInUse`],
    /// [`ErrorKind::AddrNotAvailable`] for an address that is not the vnet's.
    pub fn bind(addrs: impl ToSocketAddrs) -> io::Result<TcpListener> {
        TcpListener::bind_in(&current()?, addrs)
    }

    /// Listens in `vnet`; see [`TcpListener::bind`].
    ///
    /// # Errors
    /// As [`TcpListener::bind`].
    pub fn bind_in(vnet: &Vnet, addrs: impl ToSocketAddrs) -> io::Result<TcpListener> {
        TcpListener::bind_with(vnet, addrs, DEFAULT_BACKLOG, Reuse::Shared)
    }

    /// Listens in `vnet` with the given backlog, with or without `SO_REUSEADDR`.
    ///
    /// # Errors
    /// As [`TcpListener::bind`].
    pub fn bind_with(
        vnet: &Vnet,
        addrs: impl ToSocketAddrs,
        backlog: usize,
        reuse: Reuse,
    ) -> io::Result<TcpListener> {
        let core = &vnet.core;
        each_addr(addrs, |addr| {
            vnet.require_port(addr.port()).map_err(SocketError::from)?;
            let (id, local) = core
                .with(|s, cx| s.tcp_listen(cx, addr, backlog, reuse))
                .flat()?;
            Ok(TcpListener(Arc::new(Listener {
                core: Arc::clone(core),
                id,
                local,
                mode: Mode::default(),
            })))
        })
    }

    /// Waits for a connection and returns it with the peer's address. The connection is in the
    /// listener's vnet, whatever is current.
    ///
    /// # Errors
    /// [`ErrorKind::WouldBlock`] when nonblocking, or when the vnet is gone.
    #[track_caller]
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let id = self.0.id;
        let core = &self.0.core;
        let (conn, peer) = until_ready(core, self.0.mode.reading(), |s, cx, waker| {
            accept_or_register(s, cx, id, waker)
        })?;
        Ok((TcpStream::new(Arc::clone(core), conn), peer))
    }

    /// Polls for a connection, for futures.
    ///
    /// # Errors
    /// As [`TcpListener::accept`].
    pub fn poll_accept(&self, task: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        let core = &self.0.core;
        let accepted = core.with(|s, cx| accept_or_register(s, cx, self.0.id, Some(task.waker())));
        match accepted.flat() {
            Err(SocketError::WouldBlock) => Poll::Pending,
            Err(e) => Poll::Ready(Err(e.into())),
            Ok((conn, peer)) => Poll::Ready(Ok((TcpStream::new(Arc::clone(core), conn), peer))),
        }
    }

    /// An iterator over connections; it never ends.
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming(self)
    }

    /// The address it listens on.
    ///
    /// # Errors
    /// None; the signature is the standard library's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.0.local)
    }

    /// Makes [`TcpListener::accept`] return [`ErrorKind::WouldBlock`] instead of waiting.
    ///
    /// # Errors
    /// None; the signature is the standard library's.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.0.mode.set_nonblocking(nonblocking);
        Ok(())
    }

    /// Limits how long [`TcpListener::accept`] waits; it fails with [`ErrorKind::WouldBlock`]
    /// then.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a timeout of zero.
    pub fn set_accept_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.0.mode.set_read_timeout(timeout)
    }

    /// Another handle to the same socket.
    ///
    /// # Errors
    /// None; the signature is the standard library's.
    pub fn try_clone(&self) -> io::Result<TcpListener> {
        Ok(self.clone())
    }

    /// Takes the error that waits to be reported. A listener never has one.
    ///
    /// # Errors
    /// None; the signature is the standard library's.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(None)
    }
}

fn accept_or_register(
    stack: &mut Stack,
    cx: &mut Cx,
    id: ListenerId,
    waker: Option<&Waker>,
) -> Result<(ConnId, SocketAddr), SocketError> {
    let result = stack.tcp.accept(cx, id);
    if let (Err(SocketError::WouldBlock), Some(waker)) = (&result, waker) {
        stack.tcp.register_accept(cx.out, id, waker)?;
    }
    result
}

impl fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpListener")
            .field("vnet", &self.0.core.name)
            .field("local", &self.0.local)
            .finish()
    }
}

/// Connections as they come in; see [`TcpListener::incoming`].
pub struct Incoming<'a>(&'a TcpListener);

impl Iterator for Incoming<'_> {
    type Item = io::Result<TcpStream>;

    fn next(&mut self) -> Option<io::Result<TcpStream>> {
        Some(self.0.accept().map(|(stream, _)| stream))
    }
}

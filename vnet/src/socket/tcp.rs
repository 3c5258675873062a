//! TCP sockets.

use std::fmt;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::SocketAddr;
use std::task::{Context, Poll};

use bytes::Bytes;

use std::net::Shutdown;

use super::addr::{ToSocketAddrs, each_addr};
use super::bind::BindOptions;
use super::error::current;
use super::handle::{Handle, Wait, poll, shared_methods};
use crate::base::time::Duration;
use crate::instance::Vnet;
use crate::packet::Payload;
use crate::packet::payload::Taker;
use crate::packet::pool::CHUNK;
use crate::stack::Stack;
use crate::stack::limits::Resource;
use crate::transport::edge::{Interest, ReadMode};
use crate::transport::error::SocketError;
use crate::transport::ports::Reuse;
use crate::transport::tcp::{Congestion, ConnId, ListenerId, SendFlags, SocketOptions, TcpInfo};

/// Writes up to this size are copied under the vnet's lock, into a buffer that collects small
/// writes; larger ones are copied outside of it.
const SMALL_WRITE: usize = 2048;

/// A TCP connection, like [`std::net::TcpStream`].
///
/// Clones ([`TcpStream::try_clone`]) are handles to the same socket; dropping the last one closes it. Written data is
/// still delivered. If received data has not been read, the connection is reset instead (RFC 2525, section 2.17).
///
/// Every operation fails with [`ErrorKind::ConnectionAborted`] and
/// [`SocketError::Gone`] once the vnet is gone.
#[derive(Clone)]
pub struct TcpStream(pub(super) Handle<ConnId>);

shared_methods!(TcpStream: nonblocking try_clone take_error read_timeout write_timeout ttl);

/// A caller's buffer, to be filled from a queue: with a few bytes at once, and with what is taken by reference later, outside
/// of the lock.
struct CopyTo<'a> {
    buf: &'a mut [u8],
    filled: usize,
    rest: Option<Payload>,
}

impl CopyTo<'_> {
    /// Copies what was taken by reference, and returns how many bytes there are.
    fn finish(self) -> usize {
        let more = &mut self.buf[self.filled..];
        self.filled + self.rest.map_or(0, |rest| rest.copy_to(0, more))
    }
}

impl Taker for CopyTo<'_> {
    fn take(&mut self, slice: Bytes) {
        self.rest.get_or_insert_default().push(slice);
    }

    #[inline]
    fn take_copy(&mut self, bytes: &[u8]) {
        match &mut self.rest {
            None => {
                self.buf[self.filled..][..bytes.len()].copy_from_slice(bytes);
                self.filled += bytes.len();
            }
            Some(rest) => rest.push_copy(bytes),
        }
    }

    #[inline]
    fn is_empty(&self) -> bool {
        self.filled == 0 && self.rest.is_none()
    }
}

impl TcpStream {
    /// Connects from the current vnet, trying each address in turn.
    ///
    /// # Errors
    /// [`ErrorKind::NetworkDown`] when no vnet is current, and what
    /// [`TcpStream::connect_in`] returns.
    pub fn connect(addrs: impl ToSocketAddrs) -> io::Result<TcpStream> {
        TcpStream::connect_in(&current()?, addrs)
    }

    /// Connects from `vnet`, trying each address in turn.
    ///
    /// An unanswered SYN is retransmitted for about two minutes (`net.inet.tcp.syn_retries`). A neighbour that does
    /// not answer ARP within about 3 s makes the attempt fail earlier.
    ///
    /// # Errors
    /// [`ErrorKind::ConnectionRefused`]; [`ErrorKind::TimedOut`] when there is no answer;
    /// [`ErrorKind::NetworkUnreachable`] or [`ErrorKind::HostUnreachable`] when the destination cannot be reached;
    /// [`ErrorKind::AddrNotAvailable`] when no port is free.
    pub fn connect_in(vnet: &Vnet, addrs: impl ToSocketAddrs) -> io::Result<TcpStream> {
        each_addr(&vnet.core, addrs, |addr| {
            TcpStream::connect_one(vnet, addr, Wait::Blocking(None))
        })
    }

    /// Connects from the current vnet, waiting at most `timeout`.
    ///
    /// # Errors
    /// As [`TcpStream::connect_in`]; [`ErrorKind::TimedOut`] when the timeout expires.
    pub fn connect_timeout(addr: &SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
        TcpStream::connect_timeout_in(&current()?, addr, timeout)
    }

    /// Connects from `vnet`, waiting at most `timeout`.
    ///
    /// # Errors
    /// As [`TcpStream::connect_in`]; [`ErrorKind::TimedOut`] when the timeout expires.
    pub fn connect_timeout_in(
        vnet: &Vnet,
        addr: &SocketAddr,
        timeout: Duration,
    ) -> io::Result<TcpStream> {
        if timeout.is_zero() {
            return Err(io::Error::new(ErrorKind::InvalidInput, "a timeout of zero"));
        }
        let stream = TcpStream::connect_one(vnet, *addr, Wait::Blocking(Some(timeout)));
        stream.map_err(|e| match e.kind() {
            ErrorKind::WouldBlock => SocketError::TimedOut.into(),
            _ => e,
        })
    }

    /// Starts to connect from `vnet`, without waiting. The stream is nonblocking. It becomes writable when the
    /// attempt has ended; [`TcpStream::take_error`] then returns the error if it has failed.
    ///
    /// # Errors
    /// Those of [`TcpStream::connect_in`] that are known at once.
    pub fn start_connect_in(vnet: &Vnet, addr: SocketAddr) -> io::Result<TcpStream> {
        TcpStream::started(vnet, None, Reuse::Exclusive, addr)
    }

    fn started(
        vnet: &Vnet,
        local: Option<SocketAddr>,
        reuse: Reuse,
        addr: SocketAddr,
    ) -> io::Result<TcpStream> {
        let handle = Handle::open(&vnet.core, |s, cx| {
            s.tcp_connect(cx, local, addr, reuse, None)
        })?;
        handle.set_nonblocking(true);
        Ok(TcpStream(handle))
    }

    fn connect_one(vnet: &Vnet, addr: SocketAddr, wait: Wait<'_>) -> io::Result<TcpStream> {
        let stream = TcpStream::started(vnet, None, Reuse::Exclusive, addr)?;
        stream.0.set_nonblocking(false);
        stream.connected(wait)?;
        Ok(stream)
    }

    /// Waits until the connection is established, or says how that failed.
    pub(super) fn connected(&self, wait: Wait<'_>) -> io::Result<()> {
        self.0.run(wait, Interest::Write, |s, _, id| {
            if let Some(error) = s.tcp.take_error(id)? {
                return Err(error);
            }
            match s.tcp.readiness(id)?.connecting {
                true => Err(SocketError::WouldBlock),
                false => Ok(()),
            }
        })
    }

    /// Reads without copying: returns what has arrived, at most `max` bytes, by reference. An empty payload means
    /// the end of the stream.
    ///
    /// # Errors
    /// As for reading into a buffer.
    #[track_caller]
    pub fn recv_bytes(&self, max: usize) -> io::Result<Payload> {
        self.receive(self.0.reading(), max, ReadMode::Consume)
    }

    #[track_caller]
    fn receive(&self, wait: Wait<'_>, max: usize, mode: ReadMode) -> io::Result<Payload> {
        let mut taken = Payload::new();
        self.0.run(wait, Interest::Read, |s, cx, id| {
            s.tcp.recv(cx, id, max, &mut taken, mode)
        })?;
        Ok(taken)
    }

    #[track_caller]
    fn read_copy(&self, wait: Wait<'_>, mode: ReadMode, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let max = buf.len();
        let mut taken = CopyTo {
            buf,
            filled: 0,
            rest: None,
        };
        self.0.run(wait, Interest::Read, |s, cx, id| {
            s.tcp.recv(cx, id, max, &mut taken, mode)
        })?;
        Ok(taken.finish())
    }

    /// Sends without copying. Returns how many of the bytes were accepted; the caller keeps the rest.
    ///
    /// # Errors
    /// As for writing from a buffer.
    #[track_caller]
    pub fn send_bytes(&self, data: &Bytes) -> io::Result<usize> {
        if data.is_empty() {
            return Ok(0);
        }
        self.0.run(self.0.writing(), Interest::Write, |s, cx, id| {
            let part = data.slice(..data.len().min(space(s, id)?));
            let taken = part.len();
            s.tcp.send_bytes(cx, id, part).map(|()| taken)
        })
    }

    #[track_caller]
    fn write_copy(&self, wait: Wait<'_>, data: &[u8]) -> io::Result<usize> {
        if data.is_empty() {
            return Ok(0);
        }
        if data.len() <= SMALL_WRITE {
            return self.0.run(wait, Interest::Write, |s, cx, id| {
                s.admit(Resource::BufferedBytes)?;
                s.tcp.send_copy(cx, id, data)
            });
        }
        self.write_flagged(wait, &[IoSlice::new(data)], None)
    }

    /// Writes from several buffers, as if they were one.
    #[track_caller]
    fn write_parts(&self, wait: Wait<'_>, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let total = total_len(bufs);
        if total > SMALL_WRITE {
            return self.write_flagged(wait, bufs, None);
        }
        let (mut joined, mut at) = ([0; SMALL_WRITE], 0);
        for buf in bufs {
            joined[at..at + buf.len()].copy_from_slice(buf);
            at += buf.len();
        }
        self.write_copy(wait, &joined[..total])
    }

    #[track_caller]
    fn write_flagged(
        &self,
        wait: Wait<'_>,
        data: &[IoSlice<'_>],
        flags: Option<SendFlags>,
    ) -> io::Result<usize> {
        let len = total_len(data);
        if len == 0 {
            return Ok(0);
        }
        let reserved = self.0.run(wait, Interest::Write, |s, _, id| {
            let n = space(s, id)?.min(len).min(CHUNK);
            s.tcp.reserve(id, n).map(|()| n)
        })?;
        // The copy is made outside the vnet's lock; the space is ours already.
        let parts = data.iter().map(|part| &part[..]);
        let copy = self.0.core().system.pool.copy(reserved, parts);
        self.0.now(|s, cx, id| {
            if let Some(flags) = flags {
                let is_whole = reserved == len;
                let end_of_record = flags.end_of_record && is_whole;
                // What is left over follows at once.
                let more = flags.more || !is_whole;
                let flags = SendFlags {
                    more,
                    end_of_record,
                };
                s.tcp.flag_write(id, flags)?;
            }
            s.tcp.send_bytes(cx, id, copy)
        })?;
        Ok(reserved)
    }

    /// Like reading, but the bytes stay in the buffer and are read again.
    ///
    /// # Errors
    /// As for reading.
    #[track_caller]
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.read_copy(self.0.reading(), ReadMode::Peek, buf)
    }

    /// Shuts down reading, writing, or both. Data that was written before is still delivered, followed by the end
    /// of the stream.
    ///
    /// # Errors
    /// [`ErrorKind::NotConnected`].
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.0.now(|s, cx, id| s.tcp.shutdown(cx, id, how))
    }

    /// The address of this end.
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.now(|s, _, id| s.tcp.local_addr(id))
    }

    /// The address of the other end.
    ///
    /// # Errors
    /// [`ErrorKind::NotConnected`], or the vnet is gone.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.0.now(|s, _, id| s.tcp.peer_addr(id))
    }

    /// Sets whether small segments are sent at once (`TCP_NODELAY`) or collected by Nagle's algorithm (RFC 1122,
    /// section 4.2.3.4).
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.set_option(|o| o.nodelay = nodelay)
    }

    /// Whether small segments are sent at once.
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn nodelay(&self) -> io::Result<bool> {
        self.option(|o| o.nodelay)
    }

    /// Sets the congestion control of the connection (`TCP_CONGESTION`), which continues with the current window. A
    /// new connection uses that of the tunable `net.inet.tcp.cc`.
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn set_congestion(&self, congestion: Congestion) -> io::Result<()> {
        self.set_option(|o| o.congestion = congestion)
    }

    /// The congestion control of the connection.
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn congestion(&self) -> io::Result<Congestion> {
        self.option(|o| o.congestion)
    }

    /// Limits how long written data is still delivered after the last handle has been dropped (`SO_LINGER`). If the
    /// peer has not acknowledged everything by then, the connection is reset and the rest is discarded; with a limit
    /// of zero that happens at once. Without a limit, which is the default, TCP retransmits as often as its
    /// tunables say.
    ///
    /// Closing never waits, unlike `close` in POSIX, which blocks for that time. To know whether everything has
    /// arrived, shut down the write side and read to the end of the stream before closing.
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        self.set_option(|o| o.linger = linger)
    }

    /// The limit set by [`TcpStream::set_linger`].
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        self.option(|o| o.linger)
    }

    /// Sets whether an idle connection is probed, so that the loss of the peer is noticed (RFC 1122, section
    /// 4.2.3.6).
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn set_keepalive(&self, keepalive: bool) -> io::Result<()> {
        self.set_option(|o| o.keepalive = keepalive)
    }

    /// Polls for the outcome of [`TcpStream::start_connect_in`], for futures.
    ///
    /// # Errors
    /// Those of [`TcpStream::connect_in`] that the network reports.
    pub fn poll_connect(&self, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        poll(self.connected(Wait::polled(task)))
    }

    /// Polls for data, for futures.
    ///
    /// # Errors
    /// As for reading.
    pub fn poll_read(&self, task: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        poll(self.read_copy(Wait::polled(task), ReadMode::Consume, buf))
    }

    /// As [`TcpStream::recv_bytes`], for futures.
    ///
    /// # Errors
    /// As for reading.
    pub fn poll_recv_bytes(&self, task: &mut Context<'_>, max: usize) -> Poll<io::Result<Payload>> {
        poll(self.receive(Wait::polled(task), max, ReadMode::Consume))
    }

    /// Writes as soon as there is room, for futures.
    ///
    /// # Errors
    /// As for writing.
    pub fn poll_write(&self, task: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        poll(self.write_copy(Wait::polled(task), data))
    }

    /// What the connection knows about its path and its peer, and how much data it holds.
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn info(&self) -> io::Result<TcpInfo> {
        self.0.now(|s, cx, id| s.tcp.info(cx.now, id))
    }

    /// All options of the socket.
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn options(&self) -> io::Result<SocketOptions> {
        self.option(|o| *o)
    }

    /// Sets all options of the socket; see [`SocketOptions`].
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for times, probes and sizes of zero and a segment size below 88; the vnet is gone.
    pub fn set_options(&self, options: &SocketOptions) -> io::Result<()> {
        self.set_option(|o| *o = *options)
    }

    /// Writes, and says how the data relates to what is written next (`send` with `MSG_MORE` and `MSG_EOR`). A record
    /// ends only if all of `data` is accepted, which the result tells.
    ///
    /// # Errors
    /// As for writing.
    #[track_caller]
    pub fn send_with_flags(&self, data: &[u8], flags: SendFlags) -> io::Result<usize> {
        self.write_flagged(self.0.writing(), &[IoSlice::new(data)], Some(flags))
    }

    fn option<R>(&self, f: impl FnOnce(&SocketOptions) -> R) -> io::Result<R> {
        self.0.now(|s, _, id| s.tcp.options(id).map(|o| f(o)))
    }

    fn set_option(&self, change: impl FnOnce(&mut SocketOptions)) -> io::Result<()> {
        self.0
            .now(|s, cx, id| s.tcp.set_options(cx, id, |o| change(o)))
    }
}

/// The bytes of all buffers together.
fn total_len(bufs: &[IoSlice<'_>]) -> usize {
    bufs.iter()
        .fold(0, |total, buf| total.saturating_add(buf.len()))
}

/// The room in the send buffer.
///
/// # Errors
/// [`SocketError::WouldBlock`] when there is none; what the connection or the vnet's limits say.
fn space(stack: &mut Stack, id: ConnId) -> Result<usize, SocketError> {
    stack.admit(Resource::BufferedBytes)?;
    match stack.tcp.send_space(id) {
        Ok(0) => Err(SocketError::WouldBlock),
        result => result,
    }
}

impl Read for &TcpStream {
    #[track_caller]
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.read_copy(self.0.reading(), ReadMode::Consume, buf)
    }

    #[track_caller]
    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let want = bufs
            .iter()
            .fold(0, |total: usize, buf| total.saturating_add(buf.len()));
        if want == 0 {
            return Ok(0);
        }
        let taken = self.receive(self.0.reading(), want, ReadMode::Consume)?;
        let mut done = 0;
        for buf in bufs {
            done += taken.copy_to(done, buf);
        }
        Ok(done)
    }

    // The standard library's own would have a report of a deadlock name the library's lines.

    #[track_caller]
    fn read_exact(&mut self, mut buf: &mut [u8]) -> io::Result<()> {
        while !buf.is_empty() {
            match self.read(buf)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                n => buf = &mut buf[n..],
            }
        }
        Ok(())
    }

    #[track_caller]
    fn read_to_end(&mut self, buf: &mut Vec<u8>) -> io::Result<usize> {
        let start = buf.len();
        loop {
            let taken = self.receive(self.0.reading(), CHUNK, ReadMode::Consume)?;
            let (at, len) = (buf.len(), taken.len());
            if len == 0 {
                return Ok(at - start);
            }
            buf.resize(at + len, 0);
            taken.copy_to(0, &mut buf[at..]);
        }
    }

    #[track_caller]
    fn read_to_string(&mut self, buf: &mut String) -> io::Result<usize> {
        let mut bytes = Vec::new();
        let n = self.read_to_end(&mut bytes)?;
        let text = String::from_utf8(bytes)
            .map_err(|_| io::Error::new(ErrorKind::InvalidData, "the stream is not valid UTF-8"))?;
        buf.push_str(&text);
        Ok(n)
    }
}

impl Write for &TcpStream {
    #[track_caller]
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.write_copy(self.0.writing(), data)
    }

    #[track_caller]
    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.write_parts(self.0.writing(), bufs)
    }

    #[track_caller]
    fn write_all(&mut self, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            match self.write(data)? {
                0 => return Err(ErrorKind::WriteZero.into()),
                n => data = &data[n..],
            }
        }
        Ok(())
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

    #[track_caller]
    fn read_exact(&mut self, buf: &mut [u8]) -> io::Result<()> {
        (&*self).read_exact(buf)
    }

    #[track_caller]
    fn read_to_end(&mut self, buf: &mut Vec<u8>) -> io::Result<usize> {
        (&*self).read_to_end(buf)
    }

    #[track_caller]
    fn read_to_string(&mut self, buf: &mut String) -> io::Result<usize> {
        (&*self).read_to_string(buf)
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

    #[track_caller]
    fn write_all(&mut self, data: &[u8]) -> io::Result<()> {
        (&*self).write_all(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpStream")
            .field("vnet", &self.0.core().name)
            .field("local", &self.local_addr().ok())
            .field("peer", &self.peer_addr().ok())
            .finish()
    }
}

/// A listening TCP socket, like [`std::net::TcpListener`].
///
/// The backlog is 128 connections and is enforced. While that many wait to be accepted, connection requests are not
/// answered, and the peers try again; a handshake in progress completes once there is room. Incomplete handshakes do
/// not count: up to `net.inet.tcp.maxhalfopen` of them are kept, and what comes beyond is answered with SYN cookies.
#[derive(Clone)]
pub struct TcpListener(pub(super) Handle<ListenerId>, pub(super) SocketAddr);

shared_methods!(TcpListener: nonblocking try_clone ttl);

impl TcpListener {
    /// Listens in the current vnet, on the first address that can be bound. Like the standard library on Unix, it
    /// sets `SO_REUSEADDR`, so that connections in TIME-WAIT do not prevent it. A listener at `[::]` takes IPv4 as well,
    /// unless `net.inet6.ip6.v6only` says otherwise; peers then have mapped addresses (`::ffff:192.0.2.1`).
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
        let options = BindOptions {
            reuse: Reuse::Shared,
            ..BindOptions::default()
        };
        TcpListener::bind_with(vnet, addrs, &options)
    }

    /// Listens in `vnet` with these options.
    fn bind_with(
        vnet: &Vnet,
        addrs: impl ToSocketAddrs,
        options: &BindOptions,
    ) -> io::Result<TcpListener> {
        each_addr(&vnet.core, addrs, |addr| {
            vnet.require_port(addr.port()).map_err(SocketError::from)?;
            let mut local = addr;
            let handle = Handle::open(&vnet.core, |s, cx| {
                let domain = s.domain(addr, options.only_v6);
                let (id, bound) = s.tcp_listen(cx, addr, domain, options.backlog, options.reuse)?;
                local = bound;
                Ok(id)
            })?;
            Ok(TcpListener(handle, local))
        })
    }

    /// Waits for a connection and returns it with the peer's address. The connection is in the listener's vnet,
    /// whichever vnet is current.
    ///
    /// # Errors
    /// [`ErrorKind::WouldBlock`] when nonblocking, or when the timeout has expired; the vnet is gone.
    #[track_caller]
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.accept_one(self.0.reading())
    }

    /// Polls for a connection, for futures.
    ///
    /// # Errors
    /// As [`TcpListener::accept`].
    pub fn poll_accept(&self, task: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        poll(self.accept_one(Wait::polled(task)))
    }

    #[track_caller]
    fn accept_one(&self, wait: Wait<'_>) -> io::Result<(TcpStream, SocketAddr)> {
        let accepted = self
            .0
            .run(wait, Interest::Read, |s, cx, id| s.tcp.accept(cx, id));
        let (conn, peer) = accepted?;
        Ok((TcpStream(Handle::of(self.0.core(), conn)), peer))
    }

    /// An iterator that accepts connections; it never ends.
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming(self)
    }

    /// The address it listens on.
    ///
    /// # Errors
    /// None; the signature is the standard library's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.1)
    }

    /// Sets the timeout after which [`TcpListener::accept`] fails with [`ErrorKind::WouldBlock`].
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a timeout of zero.
    pub fn set_accept_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.0.read_timeout().set(timeout)
    }

    /// The options that accepted connections inherit.
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn options(&self) -> io::Result<SocketOptions> {
        self.0
            .now(|s, _, id| s.tcp.listener_options(id).map(|o| **o))
    }

    /// Sets the options of the listener, which are inherited by connections whose handshake completes from now on;
    /// see [`SocketOptions`].
    ///
    /// # Errors
    /// As [`TcpStream::set_options`].
    pub fn set_options(&self, options: &SocketOptions) -> io::Result<()> {
        self.0
            .now(|s, _, id| s.tcp.set_listener_options(id, options))
    }

    /// Takes the pending error (`SO_ERROR`). A listener never has one.
    ///
    /// # Errors
    /// None; the signature is the standard library's.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(None)
    }
}

impl fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpListener")
            .field("vnet", &self.0.core().name)
            .field("local", &self.1)
            .finish()
    }
}

/// An iterator over incoming connections; see [`TcpListener::incoming`].
pub struct Incoming<'a>(&'a TcpListener);

impl Iterator for Incoming<'_> {
    type Item = io::Result<TcpStream>;

    fn next(&mut self) -> Option<io::Result<TcpStream>> {
        Some(self.0.accept().map(|(stream, _)| stream))
    }
}

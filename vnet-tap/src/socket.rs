//! Sockets of emulators as lines: streams of frames behind their length, and datagrams.
//!
//! A guest may send what it likes. At most one frame is kept of what has come and of what did not fit,
//! and a stream whose lengths make no sense is given up, because nothing behind them can be found.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, SocketAddrAny, SocketFlags,
    SocketType, connect, getpeername, getsockname, recv, recvfrom, sendmsg, sendmsg_addr,
    socket_with, sockopt,
};
use vnet::packet::Packet;

use crate::device::{is_complete, with_slices};
use crate::guest::Framing;
use crate::line::{Frame, Halves, Inward, MAX_FRAME_LEN, Outward, Written};
use crate::vhost;

/// The shortest frame: an Ethernet header.
const MIN_FRAME_LEN: usize = 14;
/// Bytes read from a stream at once: two frames of the largest, or many small ones.
const STREAM_BUFFER: usize = 2 * (MAX_FRAME_LEN + 4);
/// Bytes in a frame up to which it is sent together with others: copying it costs less than a system call.
const GATHERED: usize = 4096;
/// What the client of a vfkit socket sends first, to make itself known.
const VFKIT_MAGIC: &[u8] = b"VFKT";
/// Room in a datagram socket's queues: the kernel's default holds few large frames.
const SEND_BUFFER: usize = 1 << 20;
const RECEIVE_BUFFER: usize = 4 << 20;
/// How long a TCP connection has to be silent before its peer is asked whether it is there, and how often
/// it is asked. How long what it does not acknowledge is repeated is up to the system: with
/// `TCP_USER_TIMEOUT`, a guest that is paused, and so takes nothing, would be given up though it answers.
const SILENCE: Duration = Duration::from_secs(30);
const QUESTIONS: u32 = 3;

/// Makes a line of a socket.
pub(crate) fn line(socket: OwnedFd, framing: Framing) -> io::Result<Halves> {
    rustix::io::ioctl_fionbio(&socket, true)?;
    let kind = sockopt::socket_type(&socket)?;
    match framing {
        Framing::Length32 => stream(socket, kind, 4),
        Framing::Length16 => stream(socket, kind, 2),
        Framing::Datagrams => datagrams(socket, kind),
        Framing::VhostUser => shared_memory(socket, kind),
    }
}

fn stream(socket: OwnedFd, kind: SocketType, prefix: usize) -> io::Result<Halves> {
    if kind != SocketType::STREAM {
        return Err(wrong("frames behind their length need a stream socket"));
    }
    // One that listens, or is not connected, has nobody to talk to.
    getpeername(&socket)?;
    for_tcp(&socket);
    let socket = Arc::new(socket);
    let incoming = Stream {
        socket: Arc::clone(&socket),
        prefix,
        buf: vec![0; STREAM_BUFFER].into_boxed_slice(),
        start: 0,
        end: 0,
    };
    let outgoing = ToStream {
        socket,
        prefix,
        gathered: Vec::new(),
        sent: 0,
        ends: VecDeque::new(),
    };
    Ok((Box::new(incoming), Box::new(outgoing)))
}

fn shared_memory(socket: OwnedFd, kind: SocketType) -> io::Result<Halves> {
    // Descriptors pass over Unix sockets only.
    getpeername(&socket)?;
    let is_unix = sockopt::socket_domain(&socket)? == AddressFamily::UNIX;
    match kind == SocketType::STREAM && is_unix {
        true => vhost::line(socket),
        false => Err(wrong("vhost-user needs a stream socket of the Unix kind")),
    }
}

/// Frames do not wait for more, and a peer that has vanished is noticed. Others than TCP have nothing to
/// delay, and are told of the end of their peer.
fn for_tcp(socket: &OwnedFd) {
    let _ = sockopt::set_tcp_nodelay(socket, true);
    let _ = sockopt::set_socket_keepalive(socket, true);
    let _ = sockopt::set_tcp_keepidle(socket, SILENCE);
    let _ = sockopt::set_tcp_keepintvl(socket, SILENCE / QUESTIONS);
    let _ = sockopt::set_tcp_keepcnt(socket, QUESTIONS);
}

fn datagrams(socket: OwnedFd, kind: SocketType) -> io::Result<Halves> {
    if kind == SocketType::STREAM {
        return Err(wrong("a stream socket has no datagrams"));
    }
    // The system's limits may be lower, which costs speed only.
    let _ = sockopt::set_socket_send_buffer_size(&socket, SEND_BUFFER);
    let _ = sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER);
    let is_server = getpeername(&socket).is_err();
    if is_server && kind == SocketType::SEQPACKET {
        return Err(wrong("a socket of packets in sequence has to be connected"));
    }
    let shared = Arc::new(DatagramSocket {
        is_server,
        peer: Mutex::new(None),
        is_connection: kind == SocketType::SEQPACKET,
        has_said: AtomicBool::new(false),
        socket,
    });
    let incoming = Datagrams {
        shared: Arc::clone(&shared),
        buf: Vec::new(),
    };
    Ok((Box::new(incoming), Box::new(ToDatagrams { shared })))
}

fn wrong(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

/// Frames behind their length.
struct Stream {
    socket: Arc<OwnedFd>,
    /// Bytes in the length: four, most significant first, or two, least significant first.
    prefix: usize,
    buf: Box<[u8]>,
    /// What has been read and not taken yet.
    start: usize,
    end: usize,
}

impl Stream {
    /// Takes the first frame out of the buffer, if all of it is there.
    fn take(&mut self) -> io::Result<Option<Bytes>> {
        let there = &self.buf[self.start..self.end];
        let Some((len, rest)) = there.split_at_checked(self.prefix) else {
            return Ok(None);
        };
        let len = match *len {
            [a, b] => usize::from(u16::from_le_bytes([a, b])),
            [a, b, c, d] => u32::from_be_bytes([a, b, c, d]) as usize,
            _ => 0,
        };
        if !(MIN_FRAME_LEN..=MAX_FRAME_LEN).contains(&len) {
            let what = format!("a length of {len} bytes, which no frame has");
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        let frame = rest.get(..len).map(Bytes::copy_from_slice);
        if frame.is_some() {
            self.start += self.prefix + len;
        }
        Ok(frame)
    }
}

impl Inward for Stream {
    fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn read(&mut self) -> io::Result<Option<Frame>> {
        loop {
            if let Some(bytes) = self.take()? {
                return Ok(Some(Frame {
                    header: None,
                    bytes,
                }));
            }
            // Less than a frame is left: there is room behind it for the rest.
            self.buf.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            match recv(&self.socket, &mut self.buf[self.end..], RecvFlags::empty()) {
                Ok((0, _)) | Err(Errno::CONNRESET) => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Ok((n, _)) => self.end += n,
                Err(Errno::INTR) => {}
                // The second: memory is short for the moment.
                Err(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM) => return Ok(None),
                Err(e) => return Err(e.into()),
            }
        }
    }
}

struct ToStream {
    socket: Arc<OwnedFd>,
    prefix: usize,
    /// Frames behind their lengths that have been taken and not sent: small ones are gathered, and of a
    /// large one there may be a rest.
    gathered: Vec<u8>,
    /// How much of that has been sent.
    sent: usize,
    /// Where each frame ends there.
    ends: VecDeque<usize>,
}

impl ToStream {
    /// Its length, as it is in front of a frame; `None` when it cannot be said there.
    fn length(&self, len: usize) -> Option<[u8; 4]> {
        let mut prefix = [0; 4];
        match self.prefix {
            2 => prefix[..2].copy_from_slice(&u16::try_from(len).ok()?.to_le_bytes()),
            _ => prefix = u32::try_from(len).ok()?.to_be_bytes(),
        }
        Some(prefix)
    }

    fn gather(&mut self, prefix: &[u8], packet: &Packet) {
        self.gathered.extend_from_slice(prefix);
        self.gathered.extend_from_slice(packet.head());
        for slice in packet.slices() {
            self.gathered.extend_from_slice(slice);
        }
        self.ends.push_back(self.gathered.len());
    }
}

impl Outward for ToStream {
    fn write(&mut self, packet: Packet) -> io::Result<Written> {
        let len = packet.len();
        let is_small = len <= GATHERED;
        let has_room = self.gathered.len() + self.prefix + len <= STREAM_BUFFER;
        let is_next = is_small && has_room;
        if !is_next && !self.flush()? {
            return Ok(Written::Later(packet));
        }
        let Some(packet) = complete(packet) else {
            return Ok(Written::Refused);
        };
        let Some(prefix) = self.length(len) else {
            return Ok(Written::Refused);
        };
        let prefix = &prefix[..self.prefix];
        if is_small {
            self.gather(prefix, &packet);
            return Ok(Written::Yes);
        }
        match send(&self.socket, None, prefix, &packet) {
            Sent::Bytes(n) if n < prefix.len() + len => {
                self.gather(prefix, &packet);
                self.sent = n;
                Ok(Written::Yes)
            }
            Sent::Bytes(_) => Ok(Written::Yes),
            Sent::NoRoom => Ok(Written::Later(packet)),
            Sent::Refused(Errno::PIPE | Errno::CONNRESET) => {
                Err(io::ErrorKind::UnexpectedEof.into())
            }
            Sent::Refused(Errno::NOBUFS | Errno::NOMEM) => Ok(Written::Refused),
            Sent::Refused(e) => Err(e.into()),
        }
    }

    fn flush(&mut self) -> io::Result<bool> {
        while let Some(rest @ [_, ..]) = self.gathered.get(self.sent..) {
            match rustix::net::send(&self.socket, rest, SendFlags::NOSIGNAL) {
                Ok(n) => self.sent += n,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM) => return Ok(false),
                Err(Errno::PIPE | Errno::CONNRESET) => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Err(e) => return Err(e.into()),
            }
        }
        self.gathered.clear();
        self.ends.clear();
        self.sent = 0;
        Ok(true)
    }

    fn unsent(&self) -> u64 {
        self.ends.iter().filter(|end| **end > self.sent).count() as u64
    }
}

/// A socket of datagrams, each a frame.
struct DatagramSocket {
    socket: OwnedFd,
    /// It has no peer of its own: it answers whoever makes itself known. It is never connected,
    /// because the kernel lets nobody else speak to a socket that is.
    is_server: bool,
    /// A server's: who that is.
    peer: Mutex<Option<SocketAddrAny>>,
    /// It has an end, which shows as a datagram of no bytes.
    is_connection: bool,
    /// That a peer's name leads nowhere has been said.
    has_said: AtomicBool,
}

impl DatagramSocket {
    /// Whether a server listens to what comes from there.
    fn listens_to(&self, from: Option<SocketAddrAny>, what: &[u8]) -> bool {
        let Some(from) = from else {
            // A peer without a name cannot be answered; what it sends is heard while there is no other.
            return self.peer.lock().is_none();
        };
        let mut peer = self.peer.lock();
        match &*peer {
            Some(known) if *known == from => true,
            Some(known) if !may_be_replaced(known, what) => false,
            _ => {
                *peer = Some(from);
                true
            }
        }
    }
}

/// Whether another one that says this takes the place of a client: nobody is there any more. Only of Unix
/// sockets can that be known without disturbing who is there; of others, whoever makes itself known is believed.
#[cold]
fn may_be_replaced(peer: &SocketAddrAny, what: &[u8]) -> bool {
    let family = AddressFamily::UNIX;
    if peer.address_family() != family {
        return what == VFKIT_MAGIC;
    }
    let Ok(probe) = socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None) else {
        return false;
    };
    matches!(
        connect(&probe, peer),
        Err(Errno::CONNREFUSED | Errno::NOENT)
    )
}

struct Datagrams {
    shared: Arc<DatagramSocket>,
    buf: Vec<u8>,
}

/// What has come.
enum Datagram {
    /// A frame, in the buffer.
    Frame,
    /// Something else, which costs nothing.
    Other,
    /// The end of the connection.
    End,
}

impl Datagrams {
    /// The next datagram.
    fn receive(&mut self) -> Result<Datagram, Errno> {
        let shared = &*self.shared;
        self.buf.clear();
        // One byte more than a frame has, so that a longer one is seen to be.
        self.buf.reserve_exact(MAX_FRAME_LEN + 1);
        let room = spare_capacity(&mut self.buf);
        if !shared.is_server {
            let (read, _) = recv(&shared.socket, room, RecvFlags::empty())?;
            return Ok(match (read, shared.is_connection) {
                (0, true) => Datagram::End,
                _ => Datagram::Frame,
            });
        }
        let (_, _, from) = recvfrom(&shared.socket, room, RecvFlags::empty())?;
        let is_heard = shared.listens_to(from, &self.buf);
        Ok(match is_heard && self.buf != VFKIT_MAGIC {
            true => Datagram::Frame,
            false => Datagram::Other,
        })
    }
}

impl Inward for Datagrams {
    fn fd(&self) -> BorrowedFd<'_> {
        self.shared.socket.as_fd()
    }

    fn read(&mut self) -> io::Result<Option<Frame>> {
        let is_connection = self.shared.is_connection;
        // Those that cost nothing are bounded, too: others want their turn.
        for _ in 0..AT_ONCE {
            match self.receive() {
                Ok(Datagram::End) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(Datagram::Frame) => {
                    return Ok(Some(Frame {
                        header: None,
                        bytes: Bytes::copy_from_slice(&self.buf),
                    }));
                }
                Ok(Datagram::Other) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::CONNRESET) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(e @ (Errno::BADF | Errno::NOTSOCK | Errno::INVAL | Errno::FAULT)) => {
                    return Err(e.into());
                }
                Err(e) if is_connection => return Err(e.into()),
                // Of a socket with a peer, any message of ICMP is told once: one datagram was lost.
                Err(_) => {}
            }
        }
        Ok(None)
    }
}

/// Datagrams that are no frames, and errors, that are read in a row.
const AT_ONCE: usize = 64;

/// When a server tries again to send to a peer that had no room.
const RETRY: Duration = Duration::from_millis(1);

struct ToDatagrams {
    shared: Arc<DatagramSocket>,
}

impl Outward for ToDatagrams {
    fn write(&mut self, packet: Packet) -> io::Result<Written> {
        let Some(packet) = complete(packet) else {
            return Ok(Written::Refused);
        };
        let DatagramSocket {
            socket,
            is_server,
            peer,
            is_connection,
            has_said,
        } = &*self.shared;
        let to = match is_server {
            true => match peer.lock().clone() {
                None => return Ok(Written::Refused),
                to => to,
            },
            false => None,
        };
        match send(socket, to.as_ref(), &[], &packet) {
            Sent::Bytes(_) => Ok(Written::Yes),
            Sent::NoRoom => Ok(Written::Later(packet)),
            Sent::Refused(Errno::PIPE | Errno::CONNRESET) if *is_connection => {
                Err(io::ErrorKind::UnexpectedEof.into())
            }
            Sent::Refused(errno @ (Errno::CONNREFUSED | Errno::NOENT)) if *is_server => {
                // The name is relative to another directory than this process's, or its file was removed.
                if errno == Errno::NOENT && !has_said.swap(true, Ordering::Relaxed) {
                    tracing::warn!(peer = ?to, "there is no socket by the name that a peer has bound");
                }
                // The peer is gone; the next one that speaks is answered, unless it has spoken.
                let mut peer = peer.lock();
                if *peer == to {
                    *peer = None;
                }
                Ok(Written::Refused)
            }
            // A socket of this host's, whose peer has gone, or had before.
            Sent::Refused(Errno::CONNREFUSED | Errno::NOTCONN) if !is_server && self.is_local() => {
                Err(io::ErrorKind::UnexpectedEof.into())
            }
            Sent::Refused(_) => Ok(Written::Refused),
        }
    }

    // Polling a server says whether it has room, not whether its peer has: it is not connected.
    fn retry_after(&self) -> Option<Duration> {
        self.shared.is_server.then_some(RETRY)
    }
}

impl ToDatagrams {
    fn is_local(&self) -> bool {
        let family = getsockname(&self.shared.socket).map(|name| name.address_family());
        family == Ok(AddressFamily::UNIX)
    }
}

/// A frame that a socket can carry: complete, since no header goes with it.
fn complete(mut packet: Packet) -> Option<Packet> {
    let header = packet.virtio_header()?;
    is_complete(&header).then_some(packet)
}

/// What came of a `sendmsg`.
enum Sent {
    Bytes(usize),
    NoRoom,
    Refused(Errno),
}

/// Sends a packet from where its pieces are, behind `prefix`, to `to` if the socket has no peer.
fn send(socket: &OwnedFd, to: Option<&SocketAddrAny>, prefix: &[u8], packet: &Packet) -> Sent {
    loop {
        let sent = with_slices(prefix, packet, |slices| {
            let mut nothing = SendAncillaryBuffer::default();
            match to {
                Some(to) => sendmsg_addr(socket, to, slices, &mut nothing, SendFlags::NOSIGNAL),
                None => sendmsg(socket, slices, &mut nothing, SendFlags::NOSIGNAL),
            }
        });
        return match sent {
            Ok(n) => Sent::Bytes(n),
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => Sent::NoRoom,
            Err(e) => Sent::Refused(e),
        };
    }
}

#[cfg(test)]
mod tests;

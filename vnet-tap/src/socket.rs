//! Sockets of emulators as lines: streams of frames behind their length, and datagrams.
//!
//! A guest may send what it likes. At most one frame is kept of what has come and of what did not fit,
//! and a stream whose lengths make no sense is given up, because nothing behind them can be found.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Buf, Bytes};
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::{
    RecvFlags, SendAncillaryBuffer, SendFlags, SocketType, connect, connect_unspec, getpeername,
    recv, recvfrom, sendmsg, sockopt,
};
use vnet::packet::Packet;

use crate::guest::Framing;
use crate::line::{Frame, Inward, MAX_FRAME_LEN, Outward, Written};
use crate::sys::with_slices;

/// The shortest frame: an Ethernet header.
const MIN_FRAME_LEN: usize = 14;
/// Bytes read from a stream at once: two frames of the largest, or many small ones.
const STREAM_BUFFER: usize = 2 * (MAX_FRAME_LEN + 4);
/// What the client of a vfkit socket sends first, to make itself known.
const VFKIT_MAGIC: &[u8] = b"VFKT";
/// Room in a datagram socket's queues: the kernel's default holds few large frames.
const SEND_BUFFER: usize = 1 << 20;
const RECEIVE_BUFFER: usize = 4 << 20;

/// Both directions of a socket.
pub(crate) type Halves = (Box<dyn Inward>, Box<dyn Outward>);

/// Makes a line of a socket.
pub(crate) fn line(socket: OwnedFd, framing: Framing) -> io::Result<Halves> {
    rustix::io::ioctl_fionbio(&socket, true)?;
    let kind = sockopt::socket_type(&socket)?;
    match framing {
        Framing::Length32 => stream(socket, kind, 4),
        Framing::Length16 => stream(socket, kind, 2),
        Framing::Datagrams => datagrams(socket, kind),
    }
}

fn stream(socket: OwnedFd, kind: SocketType, prefix: usize) -> io::Result<Halves> {
    if kind != SocketType::STREAM {
        return Err(wrong("frames behind their length need a stream socket"));
    }
    // TCP only; others have nothing to delay.
    let _ = sockopt::set_tcp_nodelay(&socket, true);
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
        rest: Bytes::new(),
    };
    Ok((Box::new(incoming), Box::new(outgoing)))
}

fn datagrams(socket: OwnedFd, kind: SocketType) -> io::Result<Halves> {
    if kind == SocketType::STREAM {
        return Err(wrong("a stream socket has no datagrams"));
    }
    // The system's limits may be lower, which costs speed only.
    let _ = sockopt::set_socket_send_buffer_size(&socket, SEND_BUFFER);
    let _ = sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER);
    let shared = Arc::new(DatagramSocket {
        is_server: getpeername(&socket).is_err(),
        has_peer: AtomicBool::new(false),
        is_connection: kind == SocketType::SEQPACKET,
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
                Err(Errno::AGAIN) => return Ok(None),
                Err(e) => return Err(e.into()),
            }
        }
    }
}

struct ToStream {
    socket: Arc<OwnedFd>,
    prefix: usize,
    /// What is left of a frame that has been begun.
    rest: Bytes,
}

impl Outward for ToStream {
    fn write(&mut self, packet: Packet) -> io::Result<Written> {
        if !self.flush()? {
            return Ok(Written::Later(packet));
        }
        let len = packet.len();
        let mut prefix = [0; 4];
        match self.prefix {
            2 if len > usize::from(u16::MAX) => return Ok(Written::Refused),
            2 => prefix[..2].copy_from_slice(&(len as u16).to_le_bytes()),
            _ => prefix = (len as u32).to_be_bytes(),
        }
        let prefix = &prefix[..self.prefix];
        match send(&self.socket, prefix, &packet)? {
            Sent::Bytes(n) if n < prefix.len() + len => {
                let all = Bytes::from([prefix, &packet.to_vec()].concat());
                self.rest = all.slice(n..);
                Ok(Written::Yes)
            }
            Sent::Bytes(_) => Ok(Written::Yes),
            Sent::NoRoom => Ok(Written::Later(packet)),
            Sent::Refused(Errno::PIPE | Errno::CONNRESET) => {
                Err(io::ErrorKind::UnexpectedEof.into())
            }
            Sent::Refused(e) => Err(e.into()),
        }
    }

    fn flush(&mut self) -> io::Result<bool> {
        while !self.rest.is_empty() {
            match rustix::net::send(&self.socket, &self.rest, SendFlags::NOSIGNAL) {
                Ok(n) => self.rest.advance(n),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::PIPE | Errno::CONNRESET) => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Err(e) => return Err(e.into()),
            }
        }
        Ok(true)
    }
}

/// A socket of datagrams, each a frame.
struct DatagramSocket {
    socket: OwnedFd,
    /// It had no peer at first: it answers whoever makes itself known.
    is_server: bool,
    /// A server's: somebody has.
    has_peer: AtomicBool,
    /// It has an end, which shows as a datagram of no bytes.
    is_connection: bool,
}

struct Datagrams {
    shared: Arc<DatagramSocket>,
    buf: Vec<u8>,
}

impl Datagrams {
    /// The next datagram: how long it is in `buf`.
    fn receive(&mut self) -> Result<usize, Errno> {
        let DatagramSocket {
            socket, is_server, ..
        } = &*self.shared;
        self.buf.clear();
        // One byte more than a frame has, so that a longer one is seen to be.
        self.buf.reserve_exact(MAX_FRAME_LEN + 1);
        let room = spare_capacity(&mut self.buf);
        if !is_server {
            return recv(socket, room, RecvFlags::empty()).map(|(read, _)| read);
        }
        let (read, _, from) = recvfrom(socket, room, RecvFlags::empty())?;
        if let Some(from) = from
            && !self.shared.has_peer.load(Ordering::Relaxed)
        {
            // A peer without a name cannot be answered; what it sends is heard all the same.
            let connected = connect(socket, &from).is_ok();
            self.shared.has_peer.store(connected, Ordering::Relaxed);
        }
        Ok(read)
    }
}

impl Inward for Datagrams {
    fn fd(&self) -> BorrowedFd<'_> {
        self.shared.socket.as_fd()
    }

    fn read(&mut self) -> io::Result<Option<Frame>> {
        loop {
            match self.receive() {
                Ok(0) if self.shared.is_connection => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Ok(_) if self.shared.is_server && self.buf == VFKIT_MAGIC => {}
                Ok(_) => {
                    return Ok(Some(Frame {
                        header: None,
                        bytes: Bytes::copy_from_slice(&self.buf),
                    }));
                }
                // The second: what was sent last has found nobody. What is sent next may.
                Err(Errno::INTR | Errno::CONNREFUSED) => {}
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::CONNRESET) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(e) => return Err(e.into()),
            }
        }
    }
}

struct ToDatagrams {
    shared: Arc<DatagramSocket>,
}

impl Outward for ToDatagrams {
    fn write(&mut self, packet: Packet) -> io::Result<Written> {
        let DatagramSocket {
            socket,
            is_server,
            has_peer,
            is_connection,
        } = &*self.shared;
        if *is_server && !has_peer.load(Ordering::Relaxed) {
            return Ok(Written::Refused);
        }
        match send(socket, &[], &packet)? {
            Sent::Bytes(_) => Ok(Written::Yes),
            Sent::NoRoom => Ok(Written::Later(packet)),
            Sent::Refused(Errno::PIPE | Errno::CONNRESET) if *is_connection => {
                Err(io::ErrorKind::UnexpectedEof.into())
            }
            Sent::Refused(Errno::CONNREFUSED) if *is_server => {
                // The peer is gone. The next one would not be heard by a socket that has a peer.
                let _ = connect_unspec(socket);
                has_peer.store(false, Ordering::Relaxed);
                Ok(Written::Refused)
            }
            Sent::Refused(_) => Ok(Written::Refused),
        }
    }
}

/// What came of a `sendmsg`.
enum Sent {
    Bytes(usize),
    NoRoom,
    Refused(Errno),
}

/// Sends a packet from where its pieces are, behind `prefix`.
fn send(socket: &OwnedFd, prefix: &[u8], packet: &Packet) -> io::Result<Sent> {
    loop {
        let sent = with_slices(prefix, packet, |slices| {
            let mut nothing = SendAncillaryBuffer::default();
            sendmsg(socket, slices, &mut nothing, SendFlags::NOSIGNAL)
        });
        return Ok(match sent {
            Ok(n) => Sent::Bytes(n),
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => Sent::NoRoom,
            Err(e) => Sent::Refused(e),
        });
    }
}

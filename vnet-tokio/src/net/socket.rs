//! [`TcpSocket`].

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use vnet::net::{Domain, Protocol, Socket, Type};

use super::listener::TcpListener;
use super::options::packet_options;
use super::stream::TcpStream;

/// A TCP socket that neither listens nor is connected, as [`tokio::net::TcpSocket`], of a vnet: a
/// [`vnet::net::Socket`]. Connections that a listener accepts have the options that were set here.
///
/// ```
/// use vnet::System;
/// use vnet_tokio::net::TcpSocket;
///
/// let system = System::virtual_time(1);
/// let a = system.create("a")?;
/// let _a = a.enter();
/// let socket = TcpSocket::new_v4()?;
/// socket.set_reuseaddr(true)?;
/// socket.bind("127.0.0.1:80".parse()?)?;
/// let listener = socket.listen(1024)?;
/// assert_eq!(listener.local_addr()?.port(), 80);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct TcpSocket {
    socket: Socket,
    reuse_address: AtomicBool,
    reuse_port: AtomicBool,
}

packet_options!(TcpSocket, this => this.socket);

impl TcpSocket {
    /// An IPv4 socket of the current vnet.
    ///
    /// # Errors
    /// [`io::ErrorKind::NetworkDown`] when no vnet is current.
    pub fn new_v4() -> io::Result<TcpSocket> {
        TcpSocket::new(Domain::IPV4)
    }

    /// An IPv6 socket of the current vnet.
    ///
    /// # Errors
    /// [`io::ErrorKind::NetworkDown`] when no vnet is current.
    pub fn new_v6() -> io::Result<TcpSocket> {
        TcpSocket::new(Domain::IPV6)
    }

    fn new(domain: Domain) -> io::Result<TcpSocket> {
        Socket::new(domain, Type::STREAM, Some(Protocol::TCP)).map(TcpSocket::of)
    }

    fn of(socket: Socket) -> TcpSocket {
        TcpSocket {
            socket,
            reuse_address: AtomicBool::new(false),
            reuse_port: AtomicBool::new(false),
        }
    }

    /// Takes over a socket of [`vnet::net`].
    pub fn from_std_stream(stream: vnet::net::TcpStream) -> TcpSocket {
        TcpSocket::of(Socket::from(stream))
    }

    /// Binds the socket to an address; port 0 asks for a free one.
    ///
    /// # Errors
    /// As [`Socket::bind`].
    pub fn bind(&self, addr: SocketAddr) -> io::Result<()> {
        self.socket.bind(&addr)
    }

    /// The address it is bound to.
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Takes the pending error (`SO_ERROR`).
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.socket.take_error()
    }

    /// Connects to `addr`.
    ///
    /// # Errors
    /// As [`vnet::net::TcpStream::connect`].
    pub async fn connect(self, addr: SocketAddr) -> io::Result<TcpStream> {
        self.socket.set_nonblocking(true)?;
        match self.socket.connect(&addr) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => TcpStream::connected(self.socket.into()).await,
        }
    }

    /// Listens, with room for `backlog` connections that wait to be accepted.
    ///
    /// # Errors
    /// As [`Socket::listen`].
    pub fn listen(self, backlog: u32) -> io::Result<TcpListener> {
        self.socket
            .listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
        TcpListener::of(self.socket.into())
    }

    /// Sets whether the address may be shared with sockets that allow it too (`SO_REUSEADDR`). Before binding only.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when the socket is bound.
    pub fn set_reuseaddr(&self, reuse: bool) -> io::Result<()> {
        self.socket.set_reuse_address(reuse)?;
        self.reuse_address.store(reuse, Ordering::Relaxed);
        Ok(())
    }

    /// What [`TcpSocket::set_reuseaddr`] has set.
    ///
    /// # Errors
    /// None; the signature is tokio's.
    pub fn reuseaddr(&self) -> io::Result<bool> {
        Ok(self.reuse_address.load(Ordering::Relaxed))
    }

    /// Sets whether the socket is one of a group at its address (`SO_REUSEPORT`). Before binding only.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when the socket is bound.
    pub fn set_reuseport(&self, reuse: bool) -> io::Result<()> {
        self.socket.set_reuse_port(reuse)?;
        // Turning it off leaves the address exclusive.
        self.socket.set_reuse_address(self.reuseaddr()?)?;
        self.reuse_port.store(reuse, Ordering::Relaxed);
        Ok(())
    }

    /// What [`TcpSocket::set_reuseport`] has set.
    ///
    /// # Errors
    /// None; the signature is tokio's.
    pub fn reuseport(&self) -> io::Result<bool> {
        Ok(self.reuse_port.load(Ordering::Relaxed))
    }

    /// Has closing reset the connection (`SO_LINGER` of zero).
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn set_zero_linger(&self) -> io::Result<()> {
        self.set_linger(Some(Duration::ZERO))
    }
}

/// Options that the vnet's socket has as well.
macro_rules! options {
    ($($(#[$doc:meta])* $get:ident, $set:ident: $kind:ty = $got:ident, $theirs:ident;)*) => {
        impl TcpSocket {$(
            $(#[$doc])*
            ///
            /// # Errors
            /// The vnet is gone.
            pub fn $set(&self, value: $kind) -> io::Result<()> {
                self.socket.$theirs(value)
            }

            #[doc = concat!("What [`TcpSocket::", stringify!($set), "`] has set, or the default.")]
            ///
            /// # Errors
            /// The vnet is gone.
            pub fn $get(&self) -> io::Result<$kind> {
                self.socket.$got()
            }
        )*}
    };
}
options! {
    /// Sets whether small segments are sent at once (`TCP_NODELAY`).
    nodelay, set_nodelay: bool = tcp_nodelay, set_tcp_nodelay;
    /// Sets whether an idle connection is probed (`SO_KEEPALIVE`).
    keepalive, set_keepalive: bool = keepalive, set_keepalive;
    /// Sets how long written data is still delivered after closing (`SO_LINGER`).
    linger, set_linger: Option<Duration> = linger, set_linger;
}

/// The sizes of buffers, in bytes.
impl TcpSocket {
    /// Sets the size of the send buffer (`SO_SNDBUF`).
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn set_send_buffer_size(&self, size: u32) -> io::Result<()> {
        self.socket.set_send_buffer_size(size as usize)
    }

    /// The size of the send buffer.
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn send_buffer_size(&self) -> io::Result<u32> {
        self.socket.send_buffer_size().map(as_u32)
    }

    /// Sets the size of the receive buffer (`SO_RCVBUF`).
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn set_recv_buffer_size(&self, size: u32) -> io::Result<()> {
        self.socket.set_recv_buffer_size(size as usize)
    }

    /// The size of the receive buffer.
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn recv_buffer_size(&self) -> io::Result<u32> {
        self.socket.recv_buffer_size().map(as_u32)
    }
}

fn as_u32(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}

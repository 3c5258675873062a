//! [`TcpSocket`].

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use vnet::Vnet;
use vnet::net::{BindOptions, Reuse};

use super::current;
use super::listener::TcpListener;
use super::stream::TcpStream;

/// A TCP socket that neither listens nor is connected, as [`tokio::net::TcpSocket`], of a vnet.
///
/// The address it is bound to is taken when it listens or connects; that it is taken already is an error only then.
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
    vnet: Vnet,
    settings: Mutex<Settings>,
}

#[derive(Clone, Copy, Debug)]
struct Settings {
    local: SocketAddr,
    reuse: Reuse,
    nodelay: bool,
    keepalive: bool,
    linger: Option<Duration>,
}

impl TcpSocket {
    /// An IPv4 socket of the current vnet.
    ///
    /// # Errors
    /// [`io::ErrorKind::NetworkDown`] when no vnet is current.
    pub fn new_v4() -> io::Result<TcpSocket> {
        TcpSocket::new(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))
    }

    /// An IPv6 socket of the current vnet.
    ///
    /// # Errors
    /// [`io::ErrorKind::NetworkDown`] when no vnet is current.
    pub fn new_v6() -> io::Result<TcpSocket> {
        TcpSocket::new(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)))
    }

    fn new(local: SocketAddr) -> io::Result<TcpSocket> {
        let settings = Settings {
            local,
            reuse: Reuse::Exclusive,
            nodelay: false,
            keepalive: false,
            linger: None,
        };
        Ok(TcpSocket {
            vnet: current()?,
            settings: Mutex::new(settings),
        })
    }

    fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the address from which it connects, or on which it listens.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for an address of the other family.
    pub fn bind(&self, addr: SocketAddr) -> io::Result<()> {
        let mut settings = self.settings();
        if settings.local.is_ipv4() != addr.is_ipv4() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        settings.local = addr;
        Ok(())
    }

    /// The address set by [`TcpSocket::bind`].
    ///
    /// # Errors
    /// None; the signature is tokio's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.settings().local)
    }

    /// Connects to `addr`.
    ///
    /// # Errors
    /// As [`vnet::net::TcpStream::connect`]; [`io::ErrorKind::AddrInUse`] and
    /// [`io::ErrorKind::AddrNotAvailable`] for the address it is bound to.
    pub async fn connect(self, addr: SocketAddr) -> io::Result<TcpStream> {
        let settings = *self.settings();
        let started = vnet::net::TcpStream::start_connect_from(
            &self.vnet,
            settings.local,
            settings.reuse,
            addr,
        )?;
        started.set_nodelay(settings.nodelay)?;
        started.set_keepalive(settings.keepalive)?;
        started.set_linger(settings.linger)?;
        TcpStream::connected(started).await
    }

    /// Listens, with room for `backlog` connections that wait to be accepted.
    ///
    /// # Errors
    /// As [`vnet::net::TcpListener::bind_with`].
    pub fn listen(self, backlog: u32) -> io::Result<TcpListener> {
        let settings = *self.settings();
        let backlog = usize::try_from(backlog).unwrap_or(usize::MAX);
        let options = BindOptions {
            backlog,
            reuse: settings.reuse,
            ..BindOptions::default()
        };
        let listener = vnet::net::TcpListener::bind_with(&self.vnet, settings.local, &options);
        TcpListener::of(listener?)
    }
}

/// Options that a socket keeps until it connects or listens.
macro_rules! options {
    ($($(#[$doc:meta])* $get:ident, $set:ident: $field:ident $kind:ty = $of:expr, $to:expr;)*) => {
        impl TcpSocket {$(
            $(#[$doc])*
            ///
            /// # Errors
            /// None; the signature is tokio's.
            pub fn $set(&self, value: $kind) -> io::Result<()> {
                self.settings().$field = $to(value);
                Ok(())
            }

            #[doc = concat!("What [`TcpSocket::", stringify!($set), "`] has set.")]
            ///
            /// # Errors
            /// None; the signature is tokio's.
            pub fn $get(&self) -> io::Result<$kind> {
                Ok($of(self.settings().$field))
            }
        )*}
    };
}
options! {
    /// Sets whether addresses of connections in TIME-WAIT can be bound (`SO_REUSEADDR`).
    reuseaddr, set_reuseaddr: reuse bool = |reuse| reuse == Reuse::Shared, |shared| match shared {
        true => Reuse::Shared,
        false => Reuse::Exclusive,
    };
    /// Sets whether small segments are sent at once (`TCP_NODELAY`); for connecting.
    nodelay, set_nodelay: nodelay bool = std::convert::identity, std::convert::identity;
    /// Sets whether an idle connection is probed (`SO_KEEPALIVE`); for connecting.
    keepalive, set_keepalive: keepalive bool = std::convert::identity, std::convert::identity;
    /// Sets how long written data is still delivered after closing; for connecting.
    linger, set_linger: linger Option<Duration> = std::convert::identity, std::convert::identity;
}

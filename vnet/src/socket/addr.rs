//! Conversion to socket addresses.

use std::io::{self, ErrorKind};
use std::iter::{Chain, Copied};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::sync::Arc;
use std::{option, slice, vec};

use super::names::resolve;
use crate::instance::context::within;
use crate::instance::cores::VnetCore;

/// A type that can be converted to socket addresses, like [`std::net::ToSocketAddrs`]. A name is one of the current
/// vnet's, or of the socket's: see [`Vnet::set_hosts`](crate::Vnet::set_hosts). The host's resolver is never asked.
pub trait ToSocketAddrs {
    /// The addresses one by one.
    type Iter: Iterator<Item = SocketAddr>;

    /// The addresses, if no name has to be looked up.
    #[doc(hidden)]
    fn numeric(&self) -> Option<Self::Iter> {
        None
    }

    /// The name that has to be looked up, and the port, if it is known to be one.
    #[doc(hidden)]
    fn name(&self) -> io::Result<Option<(&str, u16)>> {
        Ok(None)
    }

    /// The addresses, in the order in which to try them.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for text that is not `address:port` or `name:port`; [`ErrorKind::NotFound`] for
    /// a name that is not known; [`ErrorKind::NetworkDown`] for a name when no vnet is current.
    fn to_socket_addrs(&self) -> io::Result<Self::Iter>;
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(
        ErrorKind::InvalidInput,
        format!("expected address:port or name:port, such as 192.0.2.1:80, found {text:?}"),
    )
}

/// The name and the port of `name:port`.
fn named(text: &str) -> io::Result<(&str, u16)> {
    let (host, port) = text.rsplit_once(':').ok_or_else(|| invalid(text))?;
    let port = port.parse().map_err(|_| invalid(text))?;
    Ok((host, port))
}

/// What a text stands for: one address, for which nothing is allocated, or those of a name.
type OfText = Chain<option::IntoIter<SocketAddr>, vec::IntoIter<SocketAddr>>;

fn one(addr: SocketAddr) -> OfText {
    Some(addr).into_iter().chain(Vec::new())
}

/// The address that `host` is, if it is one.
fn address(host: &str, port: u16) -> Option<OfText> {
    let ip = host.parse().ok()?;
    Some(one(SocketAddr::new(ip, port)))
}

/// The addresses of `host`, which may be one, or a name.
fn lookup(host: &str, port: u16) -> io::Result<OfText> {
    if let Some(addr) = address(host, port) {
        return Ok(addr);
    }
    let found = resolve(host)?.into_iter();
    let found: Vec<_> = found.map(|ip| SocketAddr::new(ip, port)).collect();
    Ok(None.into_iter().chain(found))
}

macro_rules! plain {
    ($($kind:ty),*) => {$(
        impl ToSocketAddrs for $kind {
            type Iter = option::IntoIter<SocketAddr>;

            #[inline]
            fn numeric(&self) -> Option<Self::Iter> {
                Some(Some(SocketAddr::from(*self)).into_iter())
            }

            fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
                Ok(Some(SocketAddr::from(*self)).into_iter())
            }
        }
    )*};
}
plain!(
    SocketAddr,
    SocketAddrV4,
    SocketAddrV6,
    (IpAddr, u16),
    (Ipv4Addr, u16),
    (Ipv6Addr, u16)
);

impl ToSocketAddrs for str {
    type Iter = OfText;

    fn numeric(&self) -> Option<OfText> {
        self.parse().ok().map(one)
    }

    fn name(&self) -> io::Result<Option<(&str, u16)>> {
        named(self).map(Some)
    }

    fn to_socket_addrs(&self) -> io::Result<OfText> {
        if let Some(addr) = self.numeric() {
            return Ok(addr);
        }
        let (host, port) = named(self)?;
        lookup(host, port)
    }
}

impl ToSocketAddrs for String {
    type Iter = OfText;

    fn numeric(&self) -> Option<OfText> {
        self.as_str().numeric()
    }

    fn name(&self) -> io::Result<Option<(&str, u16)>> {
        self.as_str().name()
    }

    fn to_socket_addrs(&self) -> io::Result<OfText> {
        self.as_str().to_socket_addrs()
    }
}

impl ToSocketAddrs for (&str, u16) {
    type Iter = OfText;

    fn numeric(&self) -> Option<OfText> {
        address(self.0, self.1)
    }

    fn name(&self) -> io::Result<Option<(&str, u16)>> {
        Ok(Some((self.0, self.1)))
    }

    fn to_socket_addrs(&self) -> io::Result<OfText> {
        lookup(self.0, self.1)
    }
}

impl ToSocketAddrs for (String, u16) {
    type Iter = OfText;

    fn numeric(&self) -> Option<OfText> {
        address(&self.0, self.1)
    }

    fn name(&self) -> io::Result<Option<(&str, u16)>> {
        Ok(Some((&self.0, self.1)))
    }

    fn to_socket_addrs(&self) -> io::Result<OfText> {
        lookup(&self.0, self.1)
    }
}

impl<'a> ToSocketAddrs for &'a [SocketAddr] {
    type Iter = Copied<slice::Iter<'a, SocketAddr>>;

    fn numeric(&self) -> Option<Self::Iter> {
        Some(self.iter().copied())
    }

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        Ok(self.iter().copied())
    }
}

impl<T: ToSocketAddrs + ?Sized> ToSocketAddrs for &T {
    type Iter = T::Iter;

    fn numeric(&self) -> Option<Self::Iter> {
        (**self).numeric()
    }

    fn name(&self) -> io::Result<Option<(&str, u16)>> {
        (**self).name()
    }

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        (**self).to_socket_addrs()
    }
}

/// The addresses, where names are those of `core`.
#[inline]
fn addrs_in<A: ToSocketAddrs>(core: &Arc<VnetCore>, addrs: &A) -> io::Result<A::Iter> {
    match addrs.numeric() {
        Some(addrs) => Ok(addrs),
        None => within(core, || addrs.to_socket_addrs()),
    }
}

/// Tries `f` with each address in turn; the first success counts, or the last error. Names are those of `core`.
pub(super) fn each_addr<R>(
    core: &Arc<VnetCore>,
    addrs: impl ToSocketAddrs,
    mut f: impl FnMut(SocketAddr) -> io::Result<R>,
) -> io::Result<R> {
    let mut last = None;
    for addr in addrs_in(core, &addrs)? {
        match f(addr) {
            Ok(done) => return Ok(done),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(no_address))
}

/// The first address. Names are those of `core`.
pub(super) fn first_addr(
    core: &Arc<VnetCore>,
    addrs: impl ToSocketAddrs,
) -> io::Result<SocketAddr> {
    addrs_in(core, &addrs)?.next().ok_or_else(no_address)
}

#[cold]
fn no_address() -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, "no address given")
}

//! Conversion to socket addresses, without name resolution.

use std::io::{self, ErrorKind};
use std::iter::Copied;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::{option, slice};

/// A type that can be converted to socket addresses, like [`std::net::ToSocketAddrs`] but without name resolution:
/// a vnet must not ask the host's resolver, so text must be numeric.
pub trait ToSocketAddrs {
    /// The addresses one by one.
    type Iter: Iterator<Item = SocketAddr>;

    /// The addresses, in the order in which to try them.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for text that is not `address:port`.
    fn to_socket_addrs(&self) -> io::Result<Self::Iter>;
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(
        ErrorKind::InvalidInput,
        format!("expected a numeric address:port such as 192.0.2.1:80, found {text:?}"),
    )
}

fn one(addr: SocketAddr) -> option::IntoIter<SocketAddr> {
    Some(addr).into_iter()
}

macro_rules! plain {
    ($($kind:ty),*) => {$(
        impl ToSocketAddrs for $kind {
            type Iter = option::IntoIter<SocketAddr>;

            fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
                Ok(one(SocketAddr::from(*self)))
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
    type Iter = option::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        self.parse().map(one).map_err(|_| invalid(self))
    }
}

impl ToSocketAddrs for String {
    type Iter = option::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        self.as_str().to_socket_addrs()
    }
}

impl ToSocketAddrs for (&str, u16) {
    type Iter = option::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        let ip: IpAddr = self.0.parse().map_err(|_| invalid(self.0))?;
        Ok(one(SocketAddr::new(ip, self.1)))
    }
}

impl<'a> ToSocketAddrs for &'a [SocketAddr] {
    type Iter = Copied<slice::Iter<'a, SocketAddr>>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        Ok(self.iter().copied())
    }
}

impl<T: ToSocketAddrs + ?Sized> ToSocketAddrs for &T {
    type Iter = T::Iter;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        (**self).to_socket_addrs()
    }
}

/// Tries `f` with each address in turn; the first success counts, or the last error.
pub(super) fn each_addr<R>(
    addrs: impl ToSocketAddrs,
    mut f: impl FnMut(SocketAddr) -> io::Result<R>,
) -> io::Result<R> {
    let mut last = None;
    for addr in addrs.to_socket_addrs()? {
        match f(addr) {
            Ok(done) => return Ok(done),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(no_address))
}

/// The first address.
pub(super) fn first_addr(addrs: impl ToSocketAddrs) -> io::Result<SocketAddr> {
    addrs.to_socket_addrs()?.next().ok_or_else(no_address)
}

#[cold]
fn no_address() -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, "no address given")
}

//! Socket addresses from what users have at hand.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// What can be turned into socket addresses, as [`std::net::ToSocketAddrs`], but without name
/// resolution: a vnet must not ask the host's resolver, so text must be numeric.
pub trait ToSocketAddrs {
    /// The addresses, in the order in which they are to be tried; never none.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for text that is no `address:port`, and for an empty list.
    fn to_socket_addrs(&self) -> io::Result<Vec<SocketAddr>>;
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(
        ErrorKind::InvalidInput,
        format!("expected a numeric address:port such as 192.0.2.1:80, found {text:?}"),
    )
}

macro_rules! plain {
    ($($kind:ty),*) => {$(
        impl ToSocketAddrs for $kind {
            fn to_socket_addrs(&self) -> io::Result<Vec<SocketAddr>> {
                Ok(vec![SocketAddr::from(*self)])
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
    fn to_socket_addrs(&self) -> io::Result<Vec<SocketAddr>> {
        self.parse().map(|a| vec![a]).map_err(|_| invalid(self))
    }
}

impl ToSocketAddrs for String {
    fn to_socket_addrs(&self) -> io::Result<Vec<SocketAddr>> {
        self.as_str().to_socket_addrs()
    }
}

impl ToSocketAddrs for (&str, u16) {
    fn to_socket_addrs(&self) -> io::Result<Vec<SocketAddr>> {
        let ip: IpAddr = self.0.parse().map_err(|_| invalid(self.0))?;
        Ok(vec![SocketAddr::new(ip, self.1)])
    }
}

impl ToSocketAddrs for [SocketAddr] {
    fn to_socket_addrs(&self) -> io::Result<Vec<SocketAddr>> {
        match self {
            [] => Err(io::Error::new(ErrorKind::InvalidInput, "no address given")),
            all => Ok(all.to_vec()),
        }
    }
}

impl<T: ToSocketAddrs + ?Sized> ToSocketAddrs for &T {
    fn to_socket_addrs(&self) -> io::Result<Vec<SocketAddr>> {
        (**self).to_socket_addrs()
    }
}

/// Tries `f` with each address in turn; the first success counts, or the last error.
pub(super) fn each_addr<R>(
    addrs: impl ToSocketAddrs,
    mut f: impl FnMut(SocketAddr) -> io::Result<R>,
) -> io::Result<R> {
    let mut result = Err(io::Error::new(ErrorKind::InvalidInput, "no address given"));
    for addr in addrs.to_socket_addrs()? {
        result = f(addr);
        if result.is_ok() {
            break;
        }
    }
    result
}

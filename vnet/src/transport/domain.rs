//! What addresses a socket speaks: those of one family, or those of both.
//!
//! Inside a vnet an IPv4 address is an IPv4 address, whichever socket it belongs to: tables, connections and routes know
//! of no other form. The mapped form (`::ffff:192.0.2.1`, RFC 4291 section 2.5.5.2) exists only between an IPv6
//! socket and its program, and is made and unmade here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::error::SocketError;
use crate::packet::header::zone;

/// The addresses that a socket speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Domain {
    /// IPv4 (`AF_INET`).
    #[default]
    V4,
    /// IPv6 alone (`AF_INET6` with `IPV6_V6ONLY`).
    V6,
    /// IPv6, and IPv4 as mapped addresses (RFC 3493 section 3.7).
    Dual,
}

impl Domain {
    /// The domain of a socket that is made for `addr`; `only_v6` says what one for IPv6 is to be.
    #[inline]
    pub(crate) fn of(addr: SocketAddr, only_v6: bool) -> Domain {
        match (addr, only_v6) {
            (SocketAddr::V4(_), _) => Domain::V4,
            (SocketAddr::V6(_), true) => Domain::V6,
            (SocketAddr::V6(_), false) => Domain::Dual,
        }
    }

    /// True when such a socket, bound to the unspecified address of its family, is reached at `addr`.
    #[inline]
    pub(crate) fn speaks(self, addr: IpAddr) -> bool {
        match addr {
            IpAddr::V4(_) => self != Domain::V6,
            IpAddr::V6(_) => self != Domain::V4,
        }
    }

    /// An address that the program gave, as the vnet has it.
    ///
    /// # Errors
    /// [`SocketError::InvalidInput`] for one of a family that the socket does not speak,
    /// [`SocketError::AddrNotAvailable`] for a mapped one that it does not,
    /// [`SocketError::NetworkUnreachable`] for a scope that no interface can have.
    #[inline]
    pub(crate) fn inside(self, addr: SocketAddr) -> Result<IpAddr, SocketError> {
        let ip = zone::inside(addr).ok_or(SocketError::NetworkUnreachable)?;
        match ip {
            IpAddr::V6(mapped) if self != Domain::V4 => match mapped.to_ipv4_mapped() {
                None => Ok(ip),
                Some(ip) if self == Domain::Dual => Ok(ip.into()),
                Some(_) => Err(SocketError::AddrNotAvailable),
            },
            _ if self.speaks(ip) => Ok(ip),
            _ => Err(SocketError::InvalidInput),
        }
    }

    /// An address of the vnet's, as the program sees it.
    #[inline]
    pub(crate) fn outside(self, addr: SocketAddr) -> SocketAddr {
        match addr.ip() {
            IpAddr::V4(ip) if self != Domain::V4 => {
                SocketAddr::new(ip.to_ipv6_mapped().into(), addr.port())
            }
            _ => zone::outside(addr),
        }
    }

    /// The other address under which the socket is reached that is bound to `ip`: `0.0.0.0`, if it is a dual-stack
    /// socket bound to `::`.
    #[inline]
    pub(crate) fn also(self, ip: IpAddr) -> Option<IpAddr> {
        let is_dual = self == Domain::Dual && ip == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        is_dual.then_some(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_mapped_only_between_a_socket_of_both_families_and_its_program() {
        let at = |text: &str| text.parse::<SocketAddr>().expect("a socket address");
        let (v4, v6) = (at("192.0.2.1:7"), at("[2001:db8::1]:7"));
        let mapped = at("[::ffff:192.0.2.1]:7");
        let cases = [
            (Domain::V4, v4, Ok(v4.ip())),
            (Domain::V4, v6, Err(SocketError::InvalidInput)),
            (Domain::V4, mapped, Err(SocketError::InvalidInput)),
            (Domain::V6, v4, Err(SocketError::InvalidInput)),
            (Domain::V6, v6, Ok(v6.ip())),
            (Domain::V6, mapped, Err(SocketError::AddrNotAvailable)),
            (Domain::Dual, v4, Ok(v4.ip())),
            (Domain::Dual, v6, Ok(v6.ip())),
            (Domain::Dual, mapped, Ok(v4.ip())),
        ];
        for (domain, addr, inside) in cases {
            assert_eq!(domain.inside(addr), inside, "{domain:?} {addr}");
        }
        assert_eq!(Domain::V4.outside(v4), v4);
        assert_eq!(Domain::Dual.outside(v4), mapped);
        assert_eq!(Domain::Dual.outside(v6), v6);
    }
}

//! Link-local addresses of IPv6 inside a vnet.
//!
//! The same link-local address may be on every link, so on its own it says nothing (RFC 4007). Inside a
//! vnet the number of the interface stands in its second 16 bits, which are zero on every wire, as in
//! KAME: tables, connections and routes then tell links apart without knowing of it. It is put in where
//! a packet or an address comes in ([`bind`]) and taken out where one leaves ([`wire`], [`split`]).

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ipnet::{IpNet, Ipv6Net};
use slotmap::Key;

use crate::base::id::IfId;
use crate::packet::addr::MacAddr;

/// The number of an interface, as in `fe80::1%2`; `None` for one whose number does not fit, in a vnet
/// that has had more than 65535 at a time.
pub(crate) fn number(ifid: IfId) -> Option<u16> {
    u16::try_from(ifid.data().as_ffi() & 0xffff_ffff).ok()
}

/// Where the loopback interface says which link a packet is of: as the station that sends it.
pub(crate) fn station(ifid: IfId) -> Option<MacAddr> {
    let [high, low] = number(ifid)?.to_be_bytes();
    Some(MacAddr([0, 0, 0, 0, high, low]))
}

/// True for addresses that mean something on one link only: link-local ones, and groups of that scope
/// or a smaller one.
#[inline]
pub(crate) fn is_scoped(addr: Ipv6Addr) -> bool {
    let [first, second, ..] = addr.octets();
    match first {
        0xfe => second & 0xc0 == 0x80,
        0xff => matches!(second & 0xf, 1 | 2),
        _ => false,
    }
}

/// The address on the link of this number, if it is one that needs a link.
#[inline]
pub(crate) fn bind(addr: Ipv6Addr, number: u16) -> Ipv6Addr {
    match is_scoped(addr) {
        true => with(addr, number),
        false => addr,
    }
}

/// The address as it is on a wire.
#[inline]
pub(crate) fn wire(addr: Ipv6Addr) -> Ipv6Addr {
    bind(addr, 0)
}

/// The address as it is on a wire, and the number of its link: zero when it has none.
pub(crate) fn split(addr: Ipv6Addr) -> (Ipv6Addr, u16) {
    match is_scoped(addr) {
        true => (with(addr, 0), addr.segments()[1]),
        false => (addr, 0),
    }
}

/// A socket's address as a program sees it: the number of the link is its scope.
#[inline]
pub(crate) fn outside(mut addr: SocketAddr) -> SocketAddr {
    if let SocketAddr::V6(v6) = &mut addr {
        let (ip, number) = split(*v6.ip());
        v6.set_ip(ip);
        v6.set_scope_id(number.into());
    }
    addr
}

/// The IP address of a socket's address that a program gave, with the number of its link in it. `None`
/// for a scope that no interface can have.
#[inline]
pub(crate) fn inside(addr: SocketAddr) -> Option<IpAddr> {
    match addr {
        SocketAddr::V4(v4) => Some((*v4.ip()).into()),
        SocketAddr::V6(v6) => {
            let number = u16::try_from(v6.scope_id()).ok()?;
            Some(bind(*v6.ip(), number).into())
        }
    }
}

/// An address as it is on a wire, of either version.
pub(crate) fn wire_ip(addr: IpAddr) -> IpAddr {
    match addr {
        IpAddr::V4(_) => addr,
        IpAddr::V6(addr) => wire(addr).into(),
    }
}

/// A prefix as it is written where its link is said beside it.
pub(crate) fn wire_net(net: IpNet) -> IpNet {
    match net {
        IpNet::V4(_) => net,
        IpNet::V6(net) => bind_net(net, 0).into(),
    }
}

/// A prefix on the link of this number, if it is one that needs a link.
pub(crate) fn bind_net(net: Ipv6Net, number: u16) -> Ipv6Net {
    Ipv6Net::new_assert(bind(net.addr(), number), net.prefix_len())
}

fn with(addr: Ipv6Addr, number: u16) -> Ipv6Addr {
    let mut segments = addr.segments();
    segments[1] = number;
    segments.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_of_a_link_has_its_number() {
        for (text, inside) in [
            ("fe80::1", "fe80:7::1"),
            ("febf::1", "febf:7::1"),
            ("ff02::1", "ff02:7::1"),
            ("ff11::5", "ff11:7::5"),
            ("ff05::2", "ff05::2"),
            ("fec0::1", "fec0::1"),
            ("2001:db8::1", "2001:db8::1"),
            ("::1", "::1"),
        ] {
            let [addr, inside] = [text, inside].map(|t| t.parse::<Ipv6Addr>().expect("an address"));
            assert_eq!(bind(addr, 7), inside);
            assert_eq!(wire(inside), addr);
            let number = if addr == inside { 0 } else { 7 };
            assert_eq!(split(inside), (addr, number));
        }
    }
}

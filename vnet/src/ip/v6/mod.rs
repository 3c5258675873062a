//! What IPv6 alone does: its headers (RFC 8200), and what follows from them.
//!
//! | part | what it is |
//! |---|---|
//! | [`input`] | from the link: for us, for another, or for nobody |
//! | [`extensions`] | what extension headers ask of the one they are for |
//! | [`output`] | the header of our own packets; whole, in fragments, or too big |
//! | [`idents`] | the identifications of fragments |
//! | [`autoconf`] | what routers say, and what a host makes of it |
//! | [`adverts`] | when a router speaks |
//! | [`anycast`] | addresses that others have as well |
//! | [`names`] | the DNS servers and domains that routers name |
//! | [`policy`] | the policy table of address selection |
//! | [`router`] | what a router is told to say on a link |
//! | [`select`] | from which address of ours a packet is sent |
//!
//! Inside a vnet, link-local addresses have the number of their interface in them: see
//! [`zone`](crate::packet::header::zone).

pub(crate) mod adverts;
pub(crate) mod anycast;
pub(crate) mod autoconf;
pub(crate) mod extensions;
pub(crate) mod idents;
pub(crate) mod input;
pub(crate) mod names;
pub(crate) mod output;
pub(crate) mod policy;
pub(crate) mod router;
pub(crate) mod select;
pub(crate) mod temporary;

use std::net::Ipv6Addr;

use crate::packet::MacAddr;
use crate::packet::header::ipv6::{self, Ipv6Header};
use crate::packet::header::{IpProto, zone};

/// RFC 8200 section 5: what every link takes, in bytes.
pub(crate) const MIN_MTU: u32 = 1280;

/// What the headers of a received packet say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// The fixed header. Its link-local addresses have the number of the interface in them.
    pub fixed: Ipv6Header,
    /// What is carried, behind the extension headers that have been read.
    pub proto: IpProto,
    /// Bytes in front of that.
    pub len: usize,
    /// Which piece of a packet it is, if it is one.
    pub piece: Option<ipv6::Piece>,
}

/// The group of those who may have an address (RFC 4291 section 2.7.1), as it is on a wire.
pub(crate) fn solicited_node(addr: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = addr.octets();
    let low = 0xff00 | u16::from(a);
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, low, u16::from_be_bytes([b, c]))
}

/// The link-local address that an interface gives itself, with its number in it: of the modified EUI-64
/// of its Ethernet address (RFC 4291 appendix A, RFC 2464 section 5).
pub(crate) fn link_local(mac: MacAddr, number: u16) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    let word = |high, low| u16::from_be_bytes([high, low]);
    let addr = Ipv6Addr::new(
        0xfe80,
        0,
        0,
        0,
        word(a ^ 2, b),
        word(c, 0xff),
        word(0xfe, d),
        word(e, f),
    );
    zone::bind(addr, number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_follow_from_others() {
        let ip = |text: &str| text.parse::<Ipv6Addr>().expect("an address");
        // RFC 4291 section 2.7.1.
        let asked = solicited_node(ip("4037::1:800:200e:8c6c"));
        assert_eq!(asked, ip("ff02::1:ff0e:8c6c"));
        // RFC 2464 section 4 and 5.
        let mac = MacAddr([0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde]);
        assert_eq!(link_local(mac, 0), ip("fe80::3656:78ff:fe9a:bcde"));
        assert_eq!(link_local(mac, 9), ip("fe80:9::3656:78ff:fe9a:bcde"));
    }
}

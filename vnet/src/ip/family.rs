//! What the tables of this layer need of a version of IP: its addresses and prefixes as bits.
//!
//! A table that only does arithmetic on bit strings (routes, addresses, groups, fragments) is generic over a [`Family`]
//! and compiled for each. Everything else, such as the layout of a header or the rules for one kind of address, is not
//! part of the trait but in the family's own folder.

use std::fmt::{Debug, Display};
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::addr::Kind;
use super::v6;
use crate::packet::header::Ipv4Header;

/// A version of IP.
pub(crate) trait Family: sealed::Sealed + Copy + Debug + Eq + Hash + 'static {
    /// An address.
    type Addr: Copy + Debug + Display + Eq + Ord + Hash + Into<IpAddr>;
    /// A prefix. Bits behind it may be set: an interface's address is written so.
    type Net: Copy + Debug + Display + Eq + Ord + Hash + Into<IpNet> + prefix_trie::Prefix;
    /// An address as a number.
    type Bits: Copy + Debug + Eq + Ord + Hash;
    /// The first bits of an address as a number, as many as are in most prefixes.
    type Key: Copy + Debug + Eq + Ord + Into<u64> + TryFrom<u64>;
    /// What the header of a packet means.
    type Header: Copy + Debug;

    /// Bits in an address.
    const BITS: u8;
    /// The address that stands for none.
    const UNSPECIFIED: Self::Addr;
    /// The address of everybody on a link, if the family has one that is no group.
    const BROADCAST: Option<Self::Addr>;
    /// The group of which every host on a link is a member, always.
    const ALL_NODES: Self::Addr;
    /// The group of the routers on a link.
    const ALL_ROUTERS: Self::Addr;
    /// Bits of a key.
    const KEY_BITS: u8;
    /// Bytes of payload in the longest packet, fragments put together.
    const MAX_PAYLOAD: usize;

    /// The kind of an address, whoever looks at it.
    fn kind(addr: Self::Addr) -> Kind;
    /// The address as a number, its first bit the most significant.
    fn bits(addr: Self::Addr) -> Self::Bits;
    /// The first bits of the address.
    fn key(addr: Self::Addr) -> Self::Key;
    /// The prefix, or that of a key that it is in if it is longer.
    fn key_net(net: Self::Net) -> Self::Net;
    /// A number of 32 bits that differs for addresses that differ a little.
    fn mix(addr: Self::Addr) -> u32;
    /// With how many equal bits two addresses begin.
    fn shared_bits(one: Self::Addr, other: Self::Addr) -> u8;
    /// The prefix that holds one address.
    fn host(addr: Self::Addr) -> Self::Net;
    /// The address in front of the prefix length.
    fn addr(net: Self::Net) -> Self::Addr;
    /// The prefix without the bits behind it.
    fn trunc(net: Self::Net) -> Self::Net;
    /// The broadcast address of a prefix; `None` where it has none.
    fn broadcast(net: Self::Net) -> Option<Self::Addr>;
    /// How long the prefix is.
    fn prefix_len(net: Self::Net) -> u8;
    /// True when the address lies in the prefix.
    fn contains(net: Self::Net, addr: Self::Addr) -> bool;
    /// True for a group of which routers are told that somebody is in it.
    fn is_reported(group: Self::Addr) -> bool;
    /// True for a group of those who may have an address.
    fn is_of_addresses(group: Self::Addr) -> bool;
}

/// IPv4 (RFC 791).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum V4 {}

impl Family for V4 {
    type Addr = Ipv4Addr;
    type Net = Ipv4Net;
    type Bits = u32;
    type Key = u32;
    type Header = Ipv4Header;

    const BITS: u8 = 32;
    const UNSPECIFIED: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
    const BROADCAST: Option<Ipv4Addr> = Some(Ipv4Addr::BROADCAST);
    // RFC 1112 section 7.2.
    const ALL_NODES: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);
    const ALL_ROUTERS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 2);
    const KEY_BITS: u8 = 32;
    const MAX_PAYLOAD: usize = 65_515;

    /// RFC 1122 section 3.2.1.3, RFC 1812 section 5.3.7, RFC 6890.
    #[inline]
    fn kind(addr: Ipv4Addr) -> Kind {
        match addr.octets() {
            [0, 0, 0, 0] => Kind::Unspecified,
            [0, ..] => Kind::ThisNetwork,
            [127, ..] => Kind::Loopback,
            [169, 254, ..] => Kind::LinkLocal,
            [224..=239, ..] => Kind::Multicast,
            [255, 255, 255, 255] => Kind::Broadcast,
            [240..=255, ..] => Kind::Reserved,
            _ => Kind::Unicast,
        }
    }

    #[inline]
    fn bits(addr: Ipv4Addr) -> u32 {
        addr.into()
    }

    #[inline]
    fn key(addr: Ipv4Addr) -> u32 {
        addr.into()
    }

    #[inline]
    fn key_net(net: Ipv4Net) -> Ipv4Net {
        net
    }

    #[inline]
    fn mix(addr: Ipv4Addr) -> u32 {
        u32::from(addr).wrapping_mul(GOLDEN)
    }

    #[inline]
    fn shared_bits(one: Ipv4Addr, other: Ipv4Addr) -> u8 {
        (u32::from(one) ^ u32::from(other)).leading_zeros() as u8
    }

    #[inline]
    fn host(addr: Ipv4Addr) -> Ipv4Net {
        addr.into()
    }

    #[inline]
    fn addr(net: Ipv4Net) -> Ipv4Addr {
        net.addr()
    }

    #[inline]
    fn trunc(net: Ipv4Net) -> Ipv4Net {
        net.trunc()
    }

    /// Prefixes of 31 bits have none (RFC 3021), nor those of 32.
    #[inline]
    fn broadcast(net: Ipv4Net) -> Option<Ipv4Addr> {
        (net.prefix_len() < 31).then(|| net.broadcast())
    }

    #[inline]
    fn prefix_len(net: Ipv4Net) -> u8 {
        net.prefix_len()
    }

    #[inline]
    fn contains(net: Ipv4Net, addr: Ipv4Addr) -> bool {
        net.contains(&addr)
    }

    /// RFC 3376 section 5: of all but that of everybody.
    fn is_reported(group: Ipv4Addr) -> bool {
        group != V4::ALL_NODES
    }

    fn is_of_addresses(_: Ipv4Addr) -> bool {
        false
    }
}

/// IPv6 (RFC 8200, RFC 4291).
///
/// A link-local address is only one on its link, so inside a vnet it has the number of its interface in
/// it: see [`zone`](super::zone).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum V6 {}

impl Family for V6 {
    type Addr = Ipv6Addr;
    type Net = Ipv6Net;
    type Bits = u128;
    type Key = u64;
    type Header = v6::Header;

    const BITS: u8 = 128;
    const UNSPECIFIED: Ipv6Addr = Ipv6Addr::UNSPECIFIED;
    const BROADCAST: Option<Ipv6Addr> = None;
    const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
    // The other half is the identifier of an interface (RFC 4291 section 2.5.1).
    const KEY_BITS: u8 = 64;
    const MAX_PAYLOAD: usize = 65_535;

    #[inline]
    fn kind(addr: Ipv6Addr) -> Kind {
        match addr {
            Ipv6Addr::UNSPECIFIED => Kind::Unspecified,
            Ipv6Addr::LOCALHOST => Kind::Loopback,
            _ if addr.is_multicast() => Kind::Multicast,
            _ if addr.is_unicast_link_local() => Kind::LinkLocal,
            // RFC 4291 section 2.5.5: an address of IPv4 in the form of IPv6 is never in a packet.
            _ if addr.to_ipv4_mapped().is_some() => Kind::Reserved,
            _ => Kind::Unicast,
        }
    }

    #[inline]
    fn bits(addr: Ipv6Addr) -> u128 {
        addr.into()
    }

    #[inline]
    fn key(addr: Ipv6Addr) -> u64 {
        (u128::from(addr) >> 64) as u64
    }

    #[inline]
    fn key_net(net: Ipv6Net) -> Ipv6Net {
        let len = net.prefix_len().min(V6::KEY_BITS);
        Ipv6Net::new_assert(net.addr(), len).trunc()
    }

    #[inline]
    fn mix(addr: Ipv6Addr) -> u32 {
        let bits = u128::from(addr);
        let folded = (bits >> 96) ^ (bits >> 64) ^ (bits >> 32) ^ bits;
        (folded as u32).wrapping_mul(GOLDEN)
    }

    #[inline]
    fn shared_bits(one: Ipv6Addr, other: Ipv6Addr) -> u8 {
        (u128::from(one) ^ u128::from(other)).leading_zeros() as u8
    }

    #[inline]
    fn host(addr: Ipv6Addr) -> Ipv6Net {
        addr.into()
    }

    #[inline]
    fn addr(net: Ipv6Net) -> Ipv6Addr {
        net.addr()
    }

    #[inline]
    fn trunc(net: Ipv6Net) -> Ipv6Net {
        net.trunc()
    }

    #[inline]
    fn broadcast(_: Ipv6Net) -> Option<Ipv6Addr> {
        None
    }

    #[inline]
    fn prefix_len(net: Ipv6Net) -> u8 {
        net.prefix_len()
    }

    #[inline]
    fn contains(net: Ipv6Net, addr: Ipv6Addr) -> bool {
        net.contains(&addr)
    }

    /// RFC 3810 section 6: not of that of everybody, nor of those that do not reach a link.
    fn is_reported(group: Ipv6Addr) -> bool {
        group != V6::ALL_NODES && group.octets()[1] & 0xf > 1
    }

    /// RFC 4291 section 2.7.1: ff02::1:ff00:0/104.
    fn is_of_addresses(group: Ipv6Addr) -> bool {
        v6::solicited_node(group) == group
    }
}

/// 2^32 divided by the golden ratio: the product's high bits depend on all bits of the factor.
const GOLDEN: u32 = 0x9e37_79b1;

mod sealed {
    pub(crate) trait Sealed {}
    impl Sealed for super::V4 {}
    impl Sealed for super::V6 {}
}

#[cfg(test)]
pub(crate) mod testing {
    //! Addresses of both families that tests draw, to prove that nothing in the tables takes one for 32
    //! bits long.

    use std::net::{Ipv4Addr, Ipv6Addr};

    use ipnet::{Ipv4Net, Ipv6Net};

    use super::{Family, V4, V6};

    /// A family of which tests draw addresses and prefixes from a few bits.
    pub(crate) trait Drawn: Family {
        /// The address with these bits: 24 at its start, eight at its end.
        fn addr_of(bits: u32) -> Self::Addr;
        /// That address with a prefix of this length, of 32: the last eight are those at the end.
        fn net_of(bits: u32, len: u8) -> Self::Net;
        /// The group of this number.
        fn group_of(number: u16) -> Self::Addr;
    }

    impl Drawn for V4 {
        fn addr_of(bits: u32) -> Ipv4Addr {
            bits.into()
        }

        fn net_of(bits: u32, len: u8) -> Ipv4Net {
            Ipv4Net::new_assert(bits.into(), len)
        }

        fn group_of(number: u16) -> Ipv4Addr {
            let [high, low] = number.to_be_bytes();
            Ipv4Addr::new(239, 1, high, low)
        }
    }

    impl Drawn for V6 {
        fn addr_of(bits: u32) -> Ipv6Addr {
            // A bit between the two, so that none is the loopback address.
            let (start, end) = (u128::from(bits >> 8), u128::from(bits & 0xff | 0x100));
            (start << 104 | end).into()
        }

        fn net_of(bits: u32, len: u8) -> Ipv6Net {
            let len = if len > 24 { len + 96 } else { len };
            Ipv6Net::new_assert(V6::addr_of(bits), len)
        }

        fn group_of(number: u16) -> Ipv6Addr {
            Ipv6Addr::new(0xff0e, 0, 0, 0, 0, 0, 1, number)
        }
    }
}

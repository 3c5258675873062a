//! The two versions of IP. Everything else that a topology says of addresses is for either.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// A version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub(crate) const ALL: [Family; 2] = [Family::V4, Family::V6];

    /// That of an address.
    pub(crate) fn of(address: IpAddr) -> Family {
        match address {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }

    /// The destination of a default route.
    pub(crate) fn everything(self) -> IpNet {
        let unspecified = match self {
            Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
        };
        IpNet::new_assert(unspecified, 0)
    }

    pub(crate) fn is_v4(&self) -> bool {
        *self == Family::V4
    }

    /// Its name.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        }
    }

    /// As it is written in a topology and in JSON.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Family::V4 => "v4",
            Family::V6 => "v6",
        }
    }
}

/// True for an address that means something on its own link only, where another link may have the same (RFC 4291
/// section 2.5.6). Those of IPv4 (RFC 3927) are addresses like any other here.
pub(crate) fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// True for an address without others in its prefix.
pub(crate) fn stands_alone(net: IpNet) -> bool {
    net.prefix_len() == net.max_prefix_len()
}

//! Identifiers of connections, listeners and records: keys of tables, and the four-tuple.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use slotmap::new_key_type;

new_key_type! {
    /// A connection within one vnet.
    pub(crate) struct ConnId;
    /// A listener within one vnet.
    pub(crate) struct ListenerId;
    /// A connection request that was answered.
    pub(super) struct HalfId;
    /// A connection in TIME-WAIT.
    pub(super) struct TimeWaitId;
}

/// Both ends of a connection, as a key. IPv4 addresses stand as their mapped IPv6 form, which
/// no IPv6 packet on a wire may have (RFC 4291 2.5.5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FourTuple {
    pub(super) local: u128,
    pub(super) remote: u128,
    /// Local in the upper half.
    pub(super) ports: u32,
}

impl FourTuple {
    #[inline]
    pub(super) fn new(local: SocketAddr, remote: SocketAddr) -> FourTuple {
        FourTuple {
            local: address_key(local.ip()),
            remote: address_key(remote.ip()),
            ports: ports_key(local, remote),
        }
    }

    /// Whether it is of these ends. What differs hardly ever, the addresses, comes last.
    #[inline]
    pub(super) fn is_of(&self, local: SocketAddr, remote: SocketAddr) -> bool {
        self.ports == ports_key(local, remote)
            && self.remote == address_key(remote.ip())
            && self.local == address_key(local.ip())
    }
}

#[inline]
fn ports_key(local: SocketAddr, remote: SocketAddr) -> u32 {
    u32::from(local.port()) << 16 | u32::from(remote.port())
}

/// An address as [`FourTuple`] has it.
#[inline]
pub(super) fn address_key(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => 0xffff_0000_0000 | u128::from(ip.to_bits()),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

/// What a four-tuple leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    Connection(ConnId),
    HalfOpen(HalfId),
    TimeWait(TimeWaitId),
}

/// The unspecified address of the same family.
pub(super) fn unspecified_like(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

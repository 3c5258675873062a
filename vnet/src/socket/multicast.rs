//! Groups at UDP sockets: the calls of `std::net`, and those of `socket2` for what it lacks.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::udp::UdpSocket;
use crate::base::switch::Switch;
use crate::stack::groups::{Membership, On};
use crate::transport::error::SocketError;
use crate::transport::udp::Multicast;

/// Groups. A socket receives what is sent to a group on an interface if it has joined the group there, and if it is
/// bound to the port and to the unspecified address or the group's. What others have joined is not for it, unlike on
/// Linux, where `IP_MULTICAST_ALL` is on.
impl UdpSocket {
    /// Joins a group of IPv4 on the interface that has the address `interface`; with the unspecified address, on that by
    /// which a datagram to the group would leave. Routers on its link are told by IGMP.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for what is no group, [`io::ErrorKind::AddrInUse`] when it is joined already,
    /// [`io::ErrorKind::AddrNotAvailable`] when no interface has the address, a limit on groups, no route.
    pub fn join_multicast_v4(&self, multiaddr: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        let on = On::Address(*interface);
        self.membership((*multiaddr).into(), on, Membership::Join)
    }

    /// Leaves a group of IPv4.
    ///
    /// # Errors
    /// [`io::ErrorKind::AddrNotAvailable`] when it is not joined there, and as [`UdpSocket::join_multicast_v4`].
    pub fn leave_multicast_v4(&self, multiaddr: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        let on = On::Address(*interface);
        self.membership((*multiaddr).into(), on, Membership::Leave)
    }

    /// Joins a group of IPv6 on the interface with the number `interface`, which is the scope of link-local addresses
    /// there; with zero, on that by which a datagram to the group would leave.
    ///
    /// # Errors
    /// As [`UdpSocket::join_multicast_v4`].
    pub fn join_multicast_v6(&self, multiaddr: &Ipv6Addr, interface: u32) -> io::Result<()> {
        let on = On::Number(interface);
        self.membership((*multiaddr).into(), on, Membership::Join)
    }

    /// Leaves a group of IPv6.
    ///
    /// # Errors
    /// As [`UdpSocket::leave_multicast_v4`].
    pub fn leave_multicast_v6(&self, multiaddr: &Ipv6Addr, interface: u32) -> io::Result<()> {
        let on = On::Number(interface);
        self.membership((*multiaddr).into(), on, Membership::Leave)
    }

    /// Joins a group for what one source sends (RFC 4607), beside other sources that were joined, on the interface with
    /// the number `interface`, or with zero as [`UdpSocket::join_multicast_v6`].
    ///
    /// # Errors
    /// As [`UdpSocket::join_multicast_v4`]; [`io::ErrorKind::InvalidInput`] when the group is joined as a whole.
    pub fn join_source(&self, source: IpAddr, group: IpAddr, interface: u32) -> io::Result<()> {
        let on = On::Number(interface);
        self.membership(group, on, Membership::JoinSource(source))
    }

    /// Undoes [`UdpSocket::join_source`].
    ///
    /// # Errors
    /// As [`UdpSocket::leave_multicast_v4`].
    pub fn leave_source(&self, source: IpAddr, group: IpAddr, interface: u32) -> io::Result<()> {
        let on = On::Number(interface);
        self.membership(group, on, Membership::LeaveSource(source))
    }

    fn membership(&self, group: IpAddr, on: On, change: Membership) -> io::Result<()> {
        self.0
            .now(|s, _, id| s.udp_membership(id, group, on, change))
    }

    /// Sets the interface by which datagrams to groups leave (`IP_MULTICAST_IF`, `IPV6_MULTICAST_IF`), by its number;
    /// with zero, which is the default, it is that of the route to the group, or else the first one with a wire and an
    /// address of the group's family.
    ///
    /// # Errors
    /// [`io::ErrorKind::AddrNotAvailable`] when there is no such interface; the vnet is gone.
    pub fn set_multicast_interface(&self, interface: u32) -> io::Result<()> {
        self.0.now(|s, _, id| {
            let interface = s.interface_of(interface)?;
            s.datagrams.udp.sockets.get_mut(id)?.own.multicast.interface = interface;
            Ok(())
        })
    }

    /// Sets whether sockets of this vnet that are in a group of IPv4, this one included, get what this one sends to it.
    /// They do by default.
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn set_multicast_loop_v4(&self, multicast_loop_v4: bool) -> io::Result<()> {
        self.set(|m| m.loop_v4 = switch(multicast_loop_v4))
    }

    /// Whether they do; see [`UdpSocket::set_multicast_loop_v4`].
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn multicast_loop_v4(&self) -> io::Result<bool> {
        self.get(|m| m.loop_v4.is_on())
    }

    /// The same for groups of IPv6.
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn set_multicast_loop_v6(&self, multicast_loop_v6: bool) -> io::Result<()> {
        self.set(|m| m.loop_v6 = switch(multicast_loop_v6))
    }

    /// Whether they do; see [`UdpSocket::set_multicast_loop_v6`].
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn multicast_loop_v6(&self) -> io::Result<bool> {
        self.get(|m| m.loop_v6.is_on())
    }

    /// Sets the time to live of datagrams to groups of IPv4, which is 1 by default. With 0 they do not leave this vnet.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for more than 255; the vnet is gone.
    pub fn set_multicast_ttl_v4(&self, multicast_ttl_v4: u32) -> io::Result<()> {
        let ttl = u8::try_from(multicast_ttl_v4).map_err(|_| SocketError::InvalidInput)?;
        self.set(|m| m.ttl = ttl)
    }

    /// The time to live of datagrams to groups of IPv4.
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn multicast_ttl_v4(&self) -> io::Result<u32> {
        self.get(|m| m.ttl.into())
    }

    /// Sets the hop limit of datagrams to groups of IPv6, as [`UdpSocket::set_multicast_ttl_v4`].
    ///
    /// # Errors
    /// As [`UdpSocket::set_multicast_ttl_v4`].
    pub fn set_multicast_hops_v6(&self, hops: u32) -> io::Result<()> {
        let hops = u8::try_from(hops).map_err(|_| SocketError::InvalidInput)?;
        self.set(|m| m.hops = hops)
    }

    /// The hop limit of datagrams to groups of IPv6.
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn multicast_hops_v6(&self) -> io::Result<u32> {
        self.get(|m| m.hops.into())
    }

    fn get<R>(&self, read: impl FnOnce(&Multicast) -> R) -> io::Result<R> {
        self.0
            .now(|s, _, id| Ok(read(&s.datagrams.udp.sockets.get(id)?.own.multicast)))
    }

    fn set(&self, change: impl FnOnce(&mut Multicast)) -> io::Result<()> {
        self.0.now(|s, _, id| {
            change(&mut s.datagrams.udp.sockets.get_mut(id)?.own.multicast);
            Ok(())
        })
    }
}

fn switch(on: bool) -> Switch {
    match on {
        true => Switch::On,
        false => Switch::Off,
    }
}

//! The versions of IP that a vnet speaks: where an address decides which.
//!
//! What is asked here about an address is answered by the version that it is of. Of one that the vnet
//! does not speak it has no address, no group and no route. IPv4 is the only one so far; another is
//! a second field, and a second arm of each `match` in this file.

use std::net::IpAddr;

use ipnet::IpNet;

use super::addr::AddrError;
use super::family::{Family, V4};
use super::fib::{self, FibError, NextHop, Origin, RouteKind};
use super::state::{AddressError, Forwarding, IpState};
use super::v4::fragment::Fragments;
use super::{Refusal, reassembly, v4};
use crate::base::id::IfId;
use crate::base::rng::Rng;
use crate::base::stats::{DropReason, Stats};
use crate::base::time::Instant;
use crate::packet::Packet;
use crate::packet::header::{Fragmentation, IpInfo, IpProto, ipv4};

/// The versions of IP that one vnet speaks.
#[derive(Debug)]
pub(crate) struct Ip {
    /// IPv4.
    pub v4: IpState<V4>,
}

/// What a transport asks of IP for one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outgoing {
    /// The sender: an address of this vnet, or unspecified while it has none.
    pub src: IpAddr,
    /// The receiver, of the same family.
    pub dst: IpAddr,
    /// What is carried.
    pub proto: IpProto,
    /// How many hops it may take; `None` for the vnet's default.
    pub hop_limit: Option<u8>,
    /// The traffic class octet: DSCP and ECN.
    pub traffic_class: u8,
    /// May it be cut?
    pub fragmentation: Fragmentation,
}

impl Outgoing {
    /// A packet that may be fragmented, with the vnet's hop limit and routine service.
    pub(crate) fn new(src: IpAddr, dst: IpAddr, proto: IpProto) -> Outgoing {
        Outgoing {
            src,
            dst,
            proto,
            hop_limit: None,
            traffic_class: 0,
            fragmentation: Fragmentation::Allowed,
        }
    }
}

/// The way to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    /// The interface to leave through.
    pub ifid: IfId,
    /// The address whose neighbour entry is needed.
    pub hop: IpAddr,
    /// Where the route comes from.
    pub origin: Origin,
}

/// Why there is no way to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoWay {
    /// No route leads there.
    NoRoute,
    /// The route says that packets are dropped, and nobody is told.
    Blackhole,
    /// The route says that the host is unreachable.
    Unreachable,
    /// The route says that communication is prohibited.
    Prohibited,
}

impl NoWay {
    /// What to count.
    pub(crate) fn reason(self) -> DropReason {
        match self {
            NoWay::NoRoute => DropReason::NoRoute,
            NoWay::Blackhole => DropReason::Blackhole,
            NoWay::Unreachable => DropReason::UnreachableRoute,
            NoWay::Prohibited => DropReason::Prohibited,
        }
    }

    /// What to tell the sender of a packet, if anything.
    pub(crate) fn refusal(self) -> Option<Refusal> {
        match self {
            NoWay::NoRoute => Some(Refusal::NoRoute),
            NoWay::Blackhole => None,
            NoWay::Unreachable => Some(Refusal::HostUnreachable),
            NoWay::Prohibited => Some(Refusal::Prohibited),
        }
    }
}

/// A route of either version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// Where it leads.
    pub dst: IpNet,
    /// The router, unless the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// The interface it leaves through.
    pub ifid: IfId,
    /// Of routes with one prefix, the lowest metric counts.
    pub metric: u32,
    /// Where it comes from.
    pub origin: Origin,
    /// What becomes of packets that take it.
    pub kind: RouteKind,
}

impl<F: Family> From<&fib::Route<F>> for Route {
    fn from(route: &fib::Route<F>) -> Route {
        Route {
            dst: route.dst.into(),
            gateway: match route.next_hop {
                NextHop::Direct => None,
                NextHop::Gateway(gateway) => Some(gateway.into()),
            },
            ifid: route.ifid,
            metric: route.metric,
            origin: route.origin,
            kind: route.kind,
        }
    }
}

impl Route {
    /// Says whether a table of routes may take one to `dst` by `gateway`.
    ///
    /// # Errors
    /// [`FibError::Family`].
    pub(crate) fn check(dst: IpNet, gateway: Option<IpAddr>) -> Result<(), FibError> {
        Route::of_v4(dst, gateway).map(drop)
    }

    fn of_v4(
        dst: IpNet,
        gateway: Option<IpAddr>,
    ) -> Result<(<V4 as Family>::Net, NextHop<V4>), FibError> {
        match (dst, gateway) {
            (IpNet::V4(dst), None) => Ok((dst, NextHop::Direct)),
            (IpNet::V4(dst), Some(IpAddr::V4(gateway))) => Ok((dst, NextHop::Gateway(gateway))),
            _ => Err(FibError::Family(dst)),
        }
    }

    /// The same for the table of IPv4.
    fn v4(self) -> Result<fib::Route<V4>, FibError> {
        let (dst, next_hop) = Route::of_v4(self.dst, self.gateway)?;
        Ok(fib::Route {
            dst,
            next_hop,
            ifid: self.ifid,
            metric: self.metric,
            origin: self.origin,
            kind: self.kind,
        })
    }
}

/// Why a packet got no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PrependError {
    /// It would be longer than its version can say.
    #[error("the packet would be longer than IP can say")]
    TooLong,
    /// Its addresses are not both of one version that the vnet speaks.
    #[error("the addresses are not of one version")]
    Family,
}

impl Ip {
    /// No addresses.
    pub(crate) fn new(rng: &mut Rng) -> Ip {
        Ip {
            v4: IpState::new(rng),
        }
    }

    /// The way to `dst`, by way of the cache.
    ///
    /// # Errors
    /// Why there is none.
    #[inline]
    pub(crate) fn lookup(&mut self, dst: IpAddr) -> Result<Way, NoWay> {
        let IpAddr::V4(dst) = dst else {
            return Err(NoWay::NoRoute);
        };
        let route = self.v4.fib.lookup(dst).ok_or(NoWay::NoRoute)?;
        match route.kind {
            RouteKind::Unicast => Ok(Way {
                ifid: route.ifid,
                hop: route.hop(dst).into(),
                origin: route.origin,
            }),
            RouteKind::Blackhole => Err(NoWay::Blackhole),
            RouteKind::Unreachable => Err(NoWay::Unreachable),
            RouteKind::Prohibit => Err(NoWay::Prohibited),
        }
    }

    /// True when `addr` is an address of one of our interfaces.
    #[inline]
    pub(crate) fn contains(&self, addr: IpAddr) -> bool {
        match addr {
            IpAddr::V4(addr) => self.v4.addrs.contains(addr),
            IpAddr::V6(_) => false,
        }
    }

    /// True when `addr` is the broadcast address of one of our subnets, or of every network.
    #[inline]
    pub(crate) fn is_broadcast(&self, addr: IpAddr) -> bool {
        match addr {
            IpAddr::V4(addr) => self.v4.addrs.is_broadcast(addr),
            IpAddr::V6(_) => false,
        }
    }

    /// True when `addr` is the broadcast address of a subnet of the interface, or of every network.
    #[inline]
    pub(crate) fn is_broadcast_on(&self, ifid: IfId, addr: IpAddr) -> bool {
        match addr {
            IpAddr::V4(addr) => {
                self.v4.addrs.is_broadcast(addr) && self.v4.addrs.is_broadcast_on(ifid, addr)
            }
            IpAddr::V6(_) => false,
        }
    }

    /// The source address for a packet to `dst` that takes this way.
    pub(crate) fn source_for(&self, dst: IpAddr, way: &Way) -> Option<IpAddr> {
        match (dst, way.hop) {
            (IpAddr::V4(dst), IpAddr::V4(hop)) => {
                self.v4.addrs.source_for(dst, way.ifid, hop).map(IpAddr::V4)
            }
            _ => None,
        }
    }

    /// The hop limit of packets for which nobody asks for another.
    pub(crate) fn default_hop_limit(&self) -> u8 {
        self.v4.tunables.default_ttl
    }

    /// How many addresses there are.
    pub(crate) fn addresses(&self) -> usize {
        self.v4.addrs.len()
    }

    /// How many routes there are.
    #[inline]
    pub(crate) fn route_count(&self) -> usize {
        self.v4.fib.len()
    }

    /// Sets how many routes there may be.
    pub(crate) fn set_max_routes(&mut self, max_routes: usize) {
        self.v4.fib.set_max_routes(max_routes);
    }

    /// Fragments that wait.
    pub(crate) fn fragments(&self) -> usize {
        self.v4.reassembly.fragments()
    }

    /// Bytes of fragments that wait.
    #[inline]
    pub(crate) fn fragment_bytes(&self) -> usize {
        self.v4.reassembly.bytes()
    }

    /// Sets how many bytes of fragments may wait.
    pub(crate) fn set_max_fragment_bytes(&mut self, max_bytes: usize) {
        let limits = reassembly::Limits {
            max_bytes,
            ..self.v4.reassembly.limits()
        };
        self.v4.reassembly.set_limits(limits);
    }

    /// When a datagram is to be given up that lacks fragments.
    #[inline]
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.v4.reassembly.next_deadline()
    }

    /// Host or router.
    pub(crate) fn set_forwarding(&mut self, forwarding: Forwarding) {
        self.v4.tunables.forwarding = forwarding;
    }

    /// The addresses of an interface, in the order they were added.
    pub(crate) fn addresses_on(&self, ifid: IfId) -> impl Iterator<Item = IpNet> {
        self.v4.addrs.on_interface(ifid).map(|a| a.net.into())
    }

    /// True when the sender of a packet would have a shorter way than through this router, and may be
    /// told so: it is on the link of the packet's next hop.
    pub(crate) fn may_redirect(&self, src: IpAddr, way: &Way) -> bool {
        match (src, way.hop) {
            (IpAddr::V4(src), IpAddr::V4(hop)) => self.v4.may_redirect(way.ifid, src, hop),
            _ => false,
        }
    }

    /// Puts a header in front of a transport's packet.
    ///
    /// # Errors
    /// [`PrependError`]; the packet is unchanged.
    #[inline]
    pub(crate) fn prepend(
        &mut self,
        to: &Outgoing,
        packet: &mut Packet,
    ) -> Result<(), PrependError> {
        match (to.src, to.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                v4::output::prepend(&mut self.v4, src, dst, to, packet)
                    .map(drop)
                    .map_err(|_| PrependError::TooLong)
            }
            _ => Err(PrependError::Family),
        }
    }

    /// Gives an interface an address, and a route to the rest of its prefix.
    ///
    /// # Errors
    /// [`AddressError`]; nothing has changed then.
    pub(crate) fn add_address(&mut self, ifid: IfId, net: IpNet) -> Result<(), AddressError> {
        match net {
            IpNet::V4(net) => self.v4.add_address(ifid, net),
            IpNet::V6(_) => Err(AddressError::Family),
        }
    }

    /// Takes an address from an interface, and the route to its prefix when no other address of
    /// the interface lies in it.
    ///
    /// # Errors
    /// [`AddrError::NotFound`] when the interface does not have it.
    pub(crate) fn remove_address(&mut self, ifid: IfId, addr: IpAddr) -> Result<(), AddrError> {
        match addr {
            IpAddr::V4(addr) => self.v4.remove_address(ifid, addr).map(drop),
            IpAddr::V6(_) => Err(AddrError::NotFound(addr)),
        }
    }

    /// Adds a route. Bits of the destination behind its prefix are ignored.
    ///
    /// # Errors
    /// [`FibError`].
    pub(crate) fn add_route(&mut self, route: Route) -> Result<(), FibError> {
        self.v4.fib.add(route.v4()?)
    }

    /// Adds a route, in place of the one with its prefix and metric if there is one.
    ///
    /// # Errors
    /// [`FibError`].
    pub(crate) fn replace_route(&mut self, route: Route) -> Result<(), FibError> {
        self.v4.fib.replace(route.v4()?).map(drop)
    }

    /// Removes the route to `dst` of this origin, and returns it.
    ///
    /// # Errors
    /// [`FibError::NotFound`].
    pub(crate) fn remove_route(&mut self, dst: IpNet, origin: Origin) -> Result<Route, FibError> {
        match dst {
            IpNet::V4(dst) => {
                let removed = self.v4.fib.remove_of(dst, origin)?;
                Ok(Route::from(&removed))
            }
            IpNet::V6(_) => Err(FibError::NotFound(dst)),
        }
    }

    /// Moves the connected route to the prefix of an address to `metric`, if that is above its own
    /// and free, and returns the metric that it has then; zero when there is no such route.
    pub(crate) fn raise_connected(&mut self, dst: IpNet, ifid: IfId, metric: u32) -> u32 {
        match dst {
            IpNet::V4(dst) => self.v4.fib.raise_connected(dst, ifid, metric),
            IpNet::V6(_) => 0,
        }
    }

    /// Every route, by prefix and then by metric.
    pub(crate) fn routes(&self) -> impl Iterator<Item = Route> {
        self.v4.fib.iter().map(Route::from)
    }

    /// The interface on whose link an address is: a route leads straight to it, in use or not.
    pub(crate) fn link_of(&self, addr: IpAddr) -> Option<IfId> {
        match addr {
            IpAddr::V4(addr) => {
                let route = self.v4.fib.configured(addr)?;
                let is_direct = route.next_hop == NextHop::Direct && route.kind.is_default();
                is_direct.then_some(route.ifid)
            }
            IpAddr::V6(_) => None,
        }
    }

    /// Forgets what belongs to an interface that goes away: addresses, routes and groups.
    pub(crate) fn remove_interface(&mut self, ifid: IfId) {
        self.v4.remove_interface(ifid);
    }

    /// Takes the routes through an interface out of use, those to come included.
    pub(crate) fn interface_down(&mut self, ifid: IfId) {
        self.v4.fib.interface_down(ifid);
    }

    /// Puts the routes through an interface back into use.
    pub(crate) fn interface_up(&mut self, ifid: IfId) {
        self.v4.fib.interface_up(ifid);
    }

    /// Releases everything. Packets that were held count as dropped.
    pub(crate) fn teardown(&mut self, stats: &mut Stats) {
        let Ip { v4 } = self;
        v4.teardown(stats);
    }
}

/// Puts a packet that was stripped to its transport header back together, for an ICMP error that
/// quotes it; `None` when its version is not spoken here. Options are lost.
pub(crate) fn restore(info: &IpInfo, packet: Packet) -> Option<Packet> {
    match (info.src, info.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => Some(v4::output::restore(
            &v4::output::header(src, dst, info),
            packet,
        )),
        _ => None,
    }
}

/// How a packet fits its link.
#[derive(Debug)]
pub(crate) enum Fit {
    /// It fits as it is.
    Whole(Packet),
    /// It was cut; every piece fits.
    Fragments(Box<Fragments>),
    /// It does not fit and must not, or cannot, be cut.
    TooBig(Packet),
}

/// Sees to it that a packet to `dst`, at its IP header, fits a link that takes IP packets of up to
/// `ip_mtu` bytes. Of a packet that stands for several segments, each segment must fit.
pub(crate) fn fit(dst: IpAddr, packet: Packet, ip_mtu: usize) -> Fit {
    match dst {
        IpAddr::V4(_) => v4::output::fit(packet, ip_mtu),
        IpAddr::V6(_) => Fit::TooBig(packet),
    }
}

/// Takes one from the hop limit of a packet to `dst` that goes on, at its IP header.
#[inline]
pub(crate) fn decrement_hop_limit(dst: IpAddr, packet: &mut Packet) {
    match dst {
        IpAddr::V4(_) => ipv4::decrement_ttl(packet.head_mut()),
        IpAddr::V6(_) => {}
    }
}

/// Whether routers may cut a packet to `dst` that has `len` bytes behind its IP header, when its
/// sender looks for the path's MTU by what does not get through (RFC 1191): yes if it is no longer
/// than what every host takes in, in fragments if need be, because the sender goes no further below
/// that, and a path that is narrower still would carry nothing.
#[inline]
pub(crate) fn fragmentation(dst: IpAddr, len: usize) -> Fragmentation {
    match dst {
        // RFC 791 section 3.1.
        IpAddr::V4(_) if ipv4::MIN_LEN + len <= 576 => Fragmentation::Allowed,
        IpAddr::V4(_) | IpAddr::V6(_) => Fragmentation::Forbidden,
    }
}

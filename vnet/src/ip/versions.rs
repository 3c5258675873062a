//! The versions of IP that a vnet speaks: where an address decides which.
//!
//! What is asked here about an address is answered by the version that it is of.

mod own;
mod path;
mod shares;

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

use super::addr::{self, AddrError, LocalAddr};
use super::dad::Dad;
use super::family::{Family, V4, V6};
use super::fib::{self, FibError, NextHop, Origin, RouteKind};
use super::paths::Paths;
use super::redirected::{Redirected, Routes};
use super::route::{OneRoute, Route};
use super::state::{AddressError, Forwarding, IpState, Seeds, Tunables};
use super::v4::fragment::Fragments;
use super::v4::link_local::LinkLocal;
use super::v6::anycast::Anycast;
use super::v6::autoconf::Autoconf;
use super::v6::idents::Idents;
use super::v6::policy::Policy;
use super::{Refusal, v4, v6};
use crate::base::id::IfId;
use crate::base::on_use::OnUse;
use crate::base::rng::Rng;
use crate::base::sorted::Sorted;
use crate::base::stats::{DropReason, Stats};
use crate::base::time::Instant;
use crate::packet::header::{Fragmentation, IpInfo, IpProto, ipv4, zone};
use crate::packet::{Packet, gso};

/// The versions of IP that one vnet speaks.
#[derive(Debug)]
pub(crate) struct Ip {
    /// IPv4.
    pub v4: IpState<V4>,
    /// IPv6, which many vnets never speak. See [`Ip::v6_mut`].
    v6: OnUse<IpState<V6>>,
    /// What paths of IPv4 take that are narrower than our links.
    paths_v4: OnUse<Paths<V4>>,
    /// The same of IPv6.
    paths: OnUse<Paths<V6>>,
    /// Identifications of the fragments of IPv6.
    idents: Idents,
    /// Addresses that somebody else may have.
    pub dad: OnUse<Dad>,
    /// Addresses of IPv4 that interfaces have given themselves.
    pub link_local: LinkLocal,
    /// By which addresses are selected.
    pub policy: Policy,
    /// What is known of anycast addresses of IPv6.
    pub anycast: OnUse<Anycast>,
    /// What routers have said, and what follows.
    pub autoconf: OnUse<Autoconf>,
    /// Whether redirects of IPv6 are obeyed, where this is a host.
    pub redirects: Obey,
    /// The same of IPv4.
    pub redirects_v4: Obey,
    /// Better first hops of IPv4.
    pub redirected: Redirected<V4>,
    /// The routes that were made of these.
    pub redirected_routes: Routes<V4>,
    /// The addresses of IPv6 that interfaces have given themselves.
    own: Sorted<IfId, Ipv6Addr>,
    /// When something is due: a datagram is to be given up that lacks fragments, or an address to be asked for. The greatest
    /// time for never.
    due: Instant,
    /// The same without fragments.
    slow: Instant,
    /// Bytes of fragments of both that may wait.
    max_fragment_bytes: usize,
    /// Routes of both that there may be.
    max_routes: usize,
}

/// Whose redirects are obeyed (RFC 4861 section 8.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Obey {
    /// Those of the router by which packets go now.
    #[default]
    Router,
    /// Nobody's.
    Nobody,
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
    /// The address whose neighbour entry is needed; on the loopback interface, one that says of which link
    /// the packet is.
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

/// Why a packet got no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PrependError {
    /// It would be longer than its version can say.
    #[error("the packet would be longer than IP can say")]
    TooLong,
    /// Its addresses are not both of one version.
    #[error("the addresses are not of one version")]
    Family,
    /// It has its header, and is longer than what its path takes: so many bytes.
    #[error("the path takes packets of up to {0} bytes")]
    Narrow(u32),
}

impl Ip {
    /// No addresses.
    pub(crate) fn new(rng: &mut Rng) -> Ip {
        // Not from the vnet's own stream, which those go on to draw from who have no IPv6.
        let mut apart = rng.clone();
        let mut apart = apart.split(u64::from(V6::BITS));
        let v4 = IpState::new(rng);
        Ip {
            max_fragment_bytes: v4.reassembly.limits().max_bytes,
            max_routes: v4.fib.max_routes(),
            v4,
            v6: OnUse::new(Seeds::draw(&mut apart)),
            paths_v4: OnUse::default(),
            paths: OnUse::default(),
            idents: Idents::new(apart.u64()),
            autoconf: OnUse::new(apart.u64()),
            dad: OnUse::new(apart.u64()),
            link_local: LinkLocal::new(apart.u64()),
            policy: Policy::default(),
            anycast: OnUse::new(apart.u64()),
            redirects: Obey::default(),
            redirects_v4: Obey::Nobody,
            redirected: Redirected::default(),
            redirected_routes: Routes::<V4>::new(),
            own: Sorted::default(),
            due: Instant::MAX,
            slow: Instant::MAX,
        }
    }

    /// The way to `dst`, by way of the cache.
    ///
    /// # Errors
    /// Why there is none.
    #[inline]
    pub(crate) fn lookup(&mut self, dst: IpAddr) -> Result<Way, NoWay> {
        match dst {
            IpAddr::V4(dst) => found(dst, self.v4.fib.lookup(dst)),
            IpAddr::V6(dst) if zone::is_scoped(dst) => self.way_on_link(dst),
            IpAddr::V6(dst) => found(dst, self.lookup_v6(dst)),
        }
    }

    /// The same of IPv6, which knows no way as long as nobody has used it.
    #[inline]
    fn lookup_v6(&mut self, dst: Ipv6Addr) -> Option<fib::RouteHit<V6>> {
        self.v6.made()?.fib.lookup(dst)
    }

    /// The next hop to `dst` by one interface: that of the longest route that leads there by it, or `dst` itself, as if it
    /// were on its link.
    pub(crate) fn hop_by(&self, dst: IpAddr, ifid: IfId) -> IpAddr {
        match dst {
            IpAddr::V4(dst) => {
                let route = self.v4.fib.route_by(dst, ifid);
                route.map_or(dst, |r| r.hop(dst)).into()
            }
            IpAddr::V6(dst) => {
                let route = self.v6().fib.route_by(dst, ifid);
                route.map_or(dst, |r| r.hop(dst)).into()
            }
        }
    }

    /// The way to an address that means something on one link only. RFC 4007, section 9: no other link
    /// gets what is for it, whatever is routed there.
    #[cold]
    fn way_on_link(&mut self, dst: Ipv6Addr) -> Result<Way, NoWay> {
        // Where a group is, is nothing that routes say.
        if dst.is_multicast() {
            return Err(NoWay::NoRoute);
        }
        let way = found(dst, self.lookup_v6(dst))?;
        let is_on_link = way.hop == dst && zone::number(way.ifid) == Some(zone::split(dst).1);
        if is_on_link || way.origin == Origin::Host {
            Ok(way)
        } else {
            Err(NoWay::NoRoute)
        }
    }

    /// True when `addr` is an address of one of our interfaces.
    #[inline]
    pub(crate) fn contains(&self, addr: IpAddr) -> bool {
        match addr {
            IpAddr::V4(addr) => self.v4.addrs.contains(addr),
            IpAddr::V6(addr) => self.v6().addrs.contains(addr),
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
            (IpAddr::V6(dst), _) => self.source_for_v6(dst, way.ifid).map(IpAddr::V6),
            _ => None,
        }
    }

    /// The source address for a packet to `dst` that leaves through an interface.
    pub(crate) fn source_for_v6(&self, dst: Ipv6Addr, ifid: IfId) -> Option<Ipv6Addr> {
        let derived = |a: &LocalAddr<V6>| self.autoconf.derived(a.ifid, a.addr());
        let temporary = self.autoconf.temporary.config.preferred;
        let (addrs, policy) = (&self.v6().addrs, &self.policy);
        v6::select::source(addrs, policy, derived, temporary, dst, ifid)
    }

    /// The hop limit of packets for which nobody asks for another.
    pub(crate) fn default_hop_limit(&self) -> u8 {
        self.v4.tunables.default_ttl
    }

    /// Sets it.
    pub(crate) fn set_default_hop_limit(&mut self, hop_limit: u8) {
        self.v4.tunables.default_ttl = hop_limit;
        self.v6_mut().tunables.default_ttl = hop_limit;
    }

    /// True when an interface speaks IPv6: it has an address of it.
    #[inline]
    pub(crate) fn speaks_v6(&self, ifid: IfId) -> bool {
        let is_given = |v6: &IpState<V6>| v6.addrs.on_interface(ifid).next().is_some();
        self.v6.used().is_some_and(is_given) || self.dad.held_v6(ifid).next().is_some()
    }

    /// How many addresses there are.
    pub(crate) fn addresses(&self) -> usize {
        self.v4.addrs.len() + self.v6().addrs.len()
    }

    /// How many routes there are.
    #[inline]
    pub(crate) fn route_count(&self) -> usize {
        self.v4.fib.len() + self.v6.used().map_or(0, |v6| v6.fib.len())
    }

    /// Fragments that wait.
    pub(crate) fn fragments(&self) -> usize {
        self.v4.reassembly.fragments() + self.v6().reassembly.fragments()
    }

    /// Bytes of fragments that wait.
    #[inline]
    pub(crate) fn fragment_bytes(&self) -> usize {
        self.v4.reassembly.bytes() + self.v6.used().map_or(0, |v6| v6.reassembly.bytes())
    }

    /// When something is due.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        Some(self.due).filter(|due| *due != Instant::MAX)
    }

    /// Host or router.
    pub(crate) fn set_forwarding(&mut self, forwarding: Forwarding) {
        self.v4.tunables.forwarding = forwarding;
        self.v6_mut().tunables.forwarding = forwarding;
    }

    /// The addresses of an interface, in the order they were added, and then those that it must not use.
    pub(crate) fn addresses_on(&self, ifid: IfId) -> impl Iterator<Item = IpNet> {
        let v4 = self.v4.addrs.on_interface(ifid).map(|a| a.net.into());
        let v6 = self.v6().addrs.on_interface(ifid).map(|a| a.net.into());
        let held = self.dad.held(ifid).map(|(net, _)| net);
        v4.chain(v6).chain(held)
    }

    /// True when the sender of a packet would have a shorter way than through this router, and may be
    /// told so: it is on the link of the packet's next hop.
    pub(crate) fn may_redirect(&self, src: IpAddr, way: &Way) -> bool {
        match (src, way.hop) {
            (IpAddr::V4(src), IpAddr::V4(hop)) => self.v4.may_redirect(way.ifid, src, hop),
            // RFC 4861 section 8.2.
            (IpAddr::V6(src), IpAddr::V6(hop)) => self.v6().may_redirect(way.ifid, src, hop),
            _ => false,
        }
    }

    /// The hop limit of packets of IPv6 that leave by an interface: one that is configured comes before what a
    /// router there says (RFC 4861 section 6.3.2).
    fn hop_limit_by(&self, by: Option<IfId>) -> u8 {
        let default = self.default_hop_limit();
        let said = by.and_then(|ifid| self.autoconf.hop_limit(ifid));
        match default == Tunables::default().default_ttl {
            true => said.unwrap_or(default),
            false => default,
        }
    }

    /// Puts a header in front of a transport's packet that leaves by an interface.
    ///
    /// # Errors
    /// [`PrependError`]; the packet is unchanged, but for [`PrependError::Narrow`].
    #[inline]
    pub(crate) fn prepend(
        &mut self,
        now: Instant,
        by: Option<IfId>,
        to: &Outgoing,
        packet: &mut Packet,
    ) -> Result<(), PrependError> {
        match (to.src, to.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                v4::output::prepend(&mut self.v4, src, dst, to, packet)
                    .map_err(|_| PrependError::TooLong)?;
                if to.proto == IpProto::TCP {
                    return Ok(());
                }
                match self.narrower_v4(now, dst, packet.len()) {
                    Some(mtu) if packet.len() > mtu as usize => Err(PrependError::Narrow(mtu)),
                    _ => Ok(()),
                }
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => self.prepend_v6(now, by, src, dst, to, packet),
            _ => Err(PrependError::Family),
        }
    }

    // Apart: IPv4 pays nothing for it.
    #[inline(never)]
    fn prepend_v6(
        &mut self,
        now: Instant,
        by: Option<IfId>,
        src: Ipv6Addr,
        dst: Ipv6Addr,
        to: &Outgoing,
        packet: &mut Packet,
    ) -> Result<(), PrependError> {
        let hop_limit = to.hop_limit.unwrap_or_else(|| self.hop_limit_by(by));
        v6::output::prepend(hop_limit, src, dst, to, packet).map_err(|_| PrependError::TooLong)?;
        // TCP has its own knowledge of the path, and every path takes the least MTU.
        if to.proto == IpProto::TCP || packet.len() <= v6::MIN_MTU as usize {
            return Ok(());
        }
        match self.paths.send(now, dst) {
            Some(ip_mtu) if packet.len() > ip_mtu as usize => Err(PrependError::Narrow(ip_mtu)),
            _ => Ok(()),
        }
    }

    /// Sees to it that a packet to `dst`, at its IP header, fits a link that takes IP packets of up to
    /// `ip_mtu` bytes. Of a packet that stands for several segments, each segment must fit.
    pub(crate) fn fit(&mut self, dst: IpAddr, mut packet: Packet, ip_mtu: usize) -> Fit {
        match dst {
            IpAddr::V4(_) => v4::output::fit(packet, ip_mtu),
            IpAddr::V6(_) if gso::longest_packet(&mut packet) <= ip_mtu => Fit::Whole(packet),
            IpAddr::V6(_) => {
                let ident = self.idents.take(&packet);
                match v6::output::cut(ident, packet.clone(), ip_mtu) {
                    Some(pieces) => Fit::Pieces(pieces),
                    None => Fit::TooBig(packet),
                }
            }
        }
    }

    /// Gives an interface an address, and a route to the rest of its prefix.
    ///
    /// # Errors
    /// [`AddressError`]; nothing has changed then.
    pub(crate) fn add_address(&mut self, ifid: IfId, net: IpNet) -> Result<(), AddressError> {
        self.share_routes();
        match net {
            IpNet::V4(net) => self.v4.add_address(ifid, net),
            IpNet::V6(net) => self.v6_mut().add_address(ifid, net),
        }
    }

    /// Takes an address from an interface, and the route to its prefix when no other address of
    /// the interface lies in it. Returns it with its prefix.
    ///
    /// # Errors
    /// [`AddrError::NotFound`] when the interface does not have it.
    pub(crate) fn remove_address(&mut self, ifid: IfId, addr: IpAddr) -> Result<IpNet, AddrError> {
        let removed = match addr {
            IpAddr::V4(addr) => self.v4.addrs.remove(ifid, addr)?.net.into(),
            IpAddr::V6(addr) => self.v6_mut().addrs.remove(ifid, addr)?.net.into(),
        };
        self.disconnect(ifid, removed);
        Ok(removed)
    }

    /// Adds a route. Bits of the destination behind its prefix are ignored.
    ///
    /// # Errors
    /// [`FibError`].
    pub(crate) fn add_route(&mut self, route: Route) -> Result<(), FibError> {
        self.share_routes();
        match route.one()? {
            OneRoute::V4(route) => self.v4.fib.add(route),
            OneRoute::V6(route) => self.v6_mut().fib.add(route),
        }
    }

    /// Adds a route, in place of the one with its prefix and metric if there is one.
    ///
    /// # Errors
    /// [`FibError`].
    pub(crate) fn replace_route(&mut self, route: Route) -> Result<(), FibError> {
        self.share_routes();
        match route.one()? {
            OneRoute::V4(route) => self.v4.fib.replace(route).map(drop),
            OneRoute::V6(route) => self.v6_mut().fib.replace(route).map(drop),
        }
    }

    /// Removes the route to `dst` of this origin, with this metric or the lowest one, and returns it.
    ///
    /// # Errors
    /// [`FibError::NotFound`].
    pub(crate) fn remove_route(
        &mut self,
        dst: IpNet,
        origin: Origin,
        metric: Option<u32>,
    ) -> Result<Route, FibError> {
        match dst {
            IpNet::V4(dst) => {
                let removed = self.v4.fib.remove_of(dst, origin, metric)?;
                Ok(Route::from(&removed))
            }
            IpNet::V6(dst) => {
                let removed = self.v6_mut().fib.remove_of(dst, origin, metric)?;
                Ok(Route::from(&removed))
            }
        }
    }

    /// Moves the connected route to the prefix of an address to `metric`, if that is above its own
    /// and free, and returns the metric that it has then; zero when there is no such route.
    pub(crate) fn raise_connected(&mut self, dst: IpNet, ifid: IfId, metric: u32) -> u32 {
        match dst {
            IpNet::V4(dst) => self.v4.fib.raise_connected(dst, ifid, metric),
            IpNet::V6(dst) => self.v6_mut().fib.raise_connected(dst, ifid, metric),
        }
    }

    /// Every route, by prefix and then by metric.
    pub(crate) fn routes(&self) -> impl Iterator<Item = Route> {
        let v4 = self.v4.fib.iter().map(Route::from);
        v4.chain(self.v6().fib.iter().map(Route::from))
    }

    /// The interface on whose link an address is: a route leads straight to it, in use or not.
    pub(crate) fn link_of(&self, addr: IpAddr) -> Option<IfId> {
        match addr {
            IpAddr::V4(addr) => straight(self.v4.fib.configured(addr)?),
            IpAddr::V6(addr) => straight(self.v6().fib.configured(addr)?),
        }
    }

    /// Forgets what belongs to an interface that goes away: addresses, routes and groups.
    pub(crate) fn remove_interface(&mut self, ifid: IfId) {
        self.v4.remove_interface(ifid);
        if let Some(v6) = self.v6.made() {
            v6.remove_interface(ifid);
        }
        self.own.remove(&ifid);
        if let Some(dad) = self.dad.made() {
            dad.remove_interface(ifid);
        }
        self.link_local.forget(ifid);
        if let Some(autoconf) = self.autoconf.made() {
            autoconf.remove_interface(ifid);
        }
        self.redirected.forget_link(ifid);
        self.redirected_routes.retain(|_, (on, _)| *on != ifid);
        // The number may be given to another interface.
        if let (Some(number), Some(paths)) = (zone::number(ifid), self.paths.made()) {
            paths.forget_link(number);
        }
    }

    /// Takes the routes through an interface out of use, those to come included.
    pub(crate) fn interface_down(&mut self, ifid: IfId) {
        self.v4.fib.interface_down(ifid);
        if let Some(v6) = self.v6.made() {
            v6.fib.interface_down(ifid);
        }
    }

    /// Puts the routes through an interface back into use.
    pub(crate) fn interface_up(&mut self, ifid: IfId) {
        self.v4.fib.interface_up(ifid);
        if let Some(v6) = self.v6.made() {
            v6.fib.interface_up(ifid);
        }
    }

    /// Releases everything. Packets that were held count as dropped.
    pub(crate) fn teardown(&mut self, stats: &mut Stats) {
        let Ip {
            v4,
            v6,
            paths_v4,
            paths,
            idents,
            dad,
            link_local,
            policy,
            anycast,
            autoconf,
            redirects: _,
            redirects_v4: _,
            redirected,
            redirected_routes,
            own,
            due,
            slow,
            max_fragment_bytes: _,
            max_routes: _,
        } = self;
        v4.teardown(stats);
        if let Some(v6) = v6.made() {
            v6.teardown(stats);
        }
        if let Some(paths) = paths_v4.made() {
            paths.reset();
        }
        if let Some(paths) = paths.made() {
            paths.reset();
        }
        idents.reset();
        if let Some(dad) = dad.made() {
            dad.reset();
        }
        link_local.reset();
        *policy = Policy::default();
        if let Some(anycast) = anycast.made() {
            anycast.reset();
        }
        if let Some(autoconf) = autoconf.made() {
            autoconf.reset();
        }
        redirected.clear();
        *redirected_routes = Routes::<V4>::new();
        *own = Sorted::default();
        (*due, *slow) = (Instant::MAX, Instant::MAX);
    }
}

/// Puts a packet that was stripped to its transport header back together, for an ICMP error that
/// quotes it; `None` when its addresses are not of one version. Options are lost.
pub(crate) fn restore(info: &IpInfo, packet: Packet) -> Option<Packet> {
    match (info.src, info.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => Some(v4::output::restore(
            &v4::output::header(src, dst, info),
            packet,
        )),
        (IpAddr::V6(src), IpAddr::V6(dst)) => Some(v6::output::restore(
            &v6::output::header(src, dst, info),
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
    /// The same, of IPv6.
    Pieces(Vec<Packet>),
    /// It does not fit and must not, or cannot, be cut.
    TooBig(Packet),
}

/// The way that a route leads, if it leads anywhere.
#[inline]
fn found<F: Family>(dst: F::Addr, hit: Option<fib::RouteHit<F>>) -> Result<Way, NoWay> {
    let route = hit.ok_or(NoWay::NoRoute)?;
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

/// The interface of a route that leads straight onto a link.
fn straight<F: Family>(route: &fib::Route<F>) -> Option<IfId> {
    let is_direct = route.next_hop == NextHop::Direct && route.kind.is_default();
    is_direct.then_some(route.ifid)
}

/// True when some station on a wire may have `addr`.
pub(crate) fn is_station(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(addr) => addr::is_station::<V4>(addr),
        IpAddr::V6(addr) => addr::is_station::<V6>(addr),
    }
}

/// Takes one from the hop limit of a packet to `dst` that goes on, at its IP header.
#[inline]
pub(crate) fn decrement_hop_limit(dst: IpAddr, packet: &mut Packet) {
    match dst {
        IpAddr::V4(_) => ipv4::decrement_ttl(packet.head_mut()),
        IpAddr::V6(_) => v6::output::decrement_hop_limit(packet.head_mut()),
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

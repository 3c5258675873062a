//! One stack: the protocols of one vnet, and the two files in which they meet.
//!
//! | part | what it is |
//! |---|---|
//! | [`rx`] | the stages that an incoming frame passes |
//! | [`tx`] | the stages that an outgoing packet passes |
//! | [`deadlines`] | the deadlines of all protocols |
//! | `classes` | traffic classes of packets and priorities of tags |
//! | `ways` | which way a packet of ours goes, and from which source |
//! | `groups` | groups at sockets |
//! | `discovery` | LLDP: which frames are heard, and by which interfaces it speaks |
//! | [`sockets`] | calls of the socket layer that concern more than one protocol |
//! | [`limits`] | how much a stack may hold |
//! | `rest` | what most entries leave as it is, and what the end of one has to do with it otherwise |
//! | `options` | packets of IPv4 with options |
//! | `aggregation` | laggs and the rest of the stack |
//! | `anycast` | anycast addresses |
//! | `link_local` | addresses that IPv4 interfaces give themselves |
//! | `autoconf` | router discovery: what follows from it, and what a router says |
//! | [`census`] | everything a stack holds, counted |
//! | `listening` | IGMP and MLD: what routers are told of groups |
//! | `errors` | what an ICMP error means to the socket whose packet it quotes |
//! | `paths` | packets of ours that must not be cut, and what their paths take |
//! | `failure` | what is left of a stack that has panicked |

mod aggregation;
mod anycast;
mod autoconf;
pub(crate) mod census;
mod classes;
pub(crate) mod deadlines;
mod discovery;
mod errors;
pub(crate) mod failure;
pub(crate) mod groups;
pub(crate) mod limits;
mod link_local;
mod listening;
mod merging;
mod options;
mod paths;
mod rest;
pub(crate) mod rx;
pub(crate) mod sockets;
pub(crate) mod tx;
mod ways;

use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};

pub(crate) use census::Census;
use limits::{Limiter, Resource};
use merging::Merging;

use crate::base::id::IfId;
use crate::base::marked::Marked;
use crate::base::on_use::OnUse;
use crate::base::rng::Rng;
use crate::base::switch::Switch;
use crate::base::time::Instant;
use crate::icmp::Icmp;
use crate::ip::Ip;
use crate::ip::addr::AddrError;
use crate::ip::dad::{Optimism, Phase};
use crate::ip::fib::{FibError, Origin, RouteKind};
use crate::ip::route::Route;
use crate::ip::state::AddressError;
use crate::ip::v6;
use crate::ip::v6::autoconf::Accept;
use crate::neigh::NeighCache;
use crate::netif::inbox::News;
use crate::netif::lldp::Lldp;
use crate::netif::member::Member;
use crate::netif::{AdminError, Bridges, IfTable, Netif};
use crate::packet::cx::Carrier;
use crate::packet::header::zone;
use crate::packet::{Cx, MacAddr};
use crate::transport::datagrams::{Datagrams, Seeds};
use crate::transport::tcp::Tcp;

/// The protocols of one vnet. Everything in it is reached under the vnet's lock.
pub(crate) struct Stack {
    /// Interfaces.
    pub ifs: IfTable,
    /// Bridges over them.
    pub bridges: Marked<OnUse<Bridges>>,
    /// What it says of itself on its wires, and who says so.
    pub lldp: Marked<Lldp>,
    /// Addresses, routes, fragments.
    pub ip: Marked<Ip>,
    /// Neighbours.
    pub neigh: Marked<OnUse<NeighCache>>,
    /// ICMP's rate limit.
    pub icmp: Icmp,
    /// Sockets other than TCP's.
    pub datagrams: OnUse<Datagrams>,
    /// TCP connections and listeners.
    pub tcp: Tcp,
    /// Whether sockets for IPv6 leave IPv4 to others, where their programs do not say (`IPV6_V6ONLY`).
    pub only_v6: Switch,
    /// Limits that no single layer has.
    pub limits: Limiter,
    /// Segments that have come in and may be one.
    merging: Merging,
    /// Options of IPv4 that the answer to the packet in hand is to have.
    options: Box<[u8]>,
    /// Addresses to announce with the next output.
    announcements: Vec<(IfId, IpAddr)>,
    /// When something is due in the [rest] of it; the greatest time for never.
    rest_due: Instant,
    /// Where it is to panic.
    #[cfg(test)]
    pub(crate) planted: Option<failure::Place>,
}

/// Labels of the protocols' random streams.
#[derive(Clone, Copy)]
enum StreamLabel {
    Neigh = 1,
    Udp,
    Raw,
    Echo,
    Tcp,
}

impl Stack {
    /// A stack without interfaces, of a vnet of this name. It holds next to no memory.
    pub(crate) fn new(rng: &mut Rng, name: &str) -> Stack {
        let mut seed = |label: StreamLabel| rng.split_seed(label as u64);
        Stack {
            ifs: IfTable::default(),
            bridges: Marked::new(OnUse::default()),
            lldp: Marked::new(Lldp::new(name)),
            neigh: Marked::new(OnUse::new(seed(StreamLabel::Neigh))),
            datagrams: OnUse::new(Seeds {
                udp: seed(StreamLabel::Udp),
                raw: seed(StreamLabel::Raw),
                echo: seed(StreamLabel::Echo),
            }),
            tcp: Tcp::new(&mut Rng::seeded(seed(StreamLabel::Tcp))),
            icmp: Icmp::default(),
            ip: Marked::new(Ip::new(rng)),
            // As on Linux; of the BSDs, where it is the other way round, OpenBSD knows nothing else.
            only_v6: Switch::Off,
            limits: Limiter::default(),
            merging: Merging::default(),
            options: Box::default(),
            announcements: Vec::new(),
            rest_due: Instant::MAX,
            #[cfg(test)]
            planted: None,
        }
    }

    /// Gives an interface an address: the vnet answers for it, has a route to its prefix, and
    /// tells the wire.
    ///
    /// # Errors
    /// An address that no host can have, or that the vnet has; a full table of routes; a member of
    /// a bridge.
    pub(crate) fn add_address(&mut self, ifid: IfId, net: IpNet) -> Result<(), AdminError> {
        let addr = net.addr();
        self.refuse_member(ifid)?;
        // Where the number of the link is to stand, an address has nothing.
        if matches!(addr, IpAddr::V6(addr) if zone::split(addr).1 != 0) {
            return Err(AdminError::BadAddress(net));
        }
        let inside = self.on_link(ifid, net);
        if let IpAddr::V6(inside) = inside.addr()
            && let Some(autoconf) = self.ip.autoconf.made()
            && autoconf.assigned.remove(&(ifid, inside))
        {
            self.end_address(ifid, inside.into())?;
        }
        // One that the interface gave itself is now one that it was given.
        if self.ip.own_v6(ifid).map(IpAddr::from) == Some(inside.addr()) {
            self.ip.set_own_v6(ifid, None);
            self.end_address(ifid, inside.addr())?;
        }
        if let IpAddr::V4(inside) = inside.addr()
            && self.ip.link_local.of(ifid) == Some(inside)
        {
            self.ip.link_local.forget(ifid);
            self.end_address(ifid, inside.into())?;
        }
        if self.ip.dad.holds(inside.addr()) {
            return Err(AdminError::AddressInUse(addr));
        }
        let added = self.begin_address(ifid, inside);
        match addr {
            IpAddr::V4(_) => self.keep_link_local(ifid),
            IpAddr::V6(_) => {
                self.keep_own_addresses(ifid);
                self.configured();
            }
        }
        added.map_err(|e| match e {
            AddressError::Addr(AddrError::Exists(_)) => AdminError::AddressInUse(addr),
            AddressError::Addr(_) => AdminError::BadAddress(net),
            AddressError::Route(_) => AdminError::Limit(Resource::Routes.as_str()),
        })
    }

    /// What is a member of a bridge or a lagg has no addresses.
    fn refuse_member(&self, ifid: IfId) -> Result<(), AdminError> {
        let netif = self.ifs.get(ifid);
        match netif.and_then(|i| Some((i.name.to_string(), i.member.as_ref()?))) {
            None => Ok(()),
            Some((name, Member::Bridge(_))) => Err(AdminError::BridgeMember(name)),
            Some((name, Member::Lagg(_))) => Err(AdminError::LaggMember(name)),
        }
    }

    /// An address on the link of an interface, with the number of that link if it is one that needs it.
    pub(crate) fn addr_on_link(&self, ifid: IfId, addr: IpAddr) -> IpAddr {
        self.on_link(ifid, addr.into()).addr()
    }

    /// An address with the number of its link in it, if it is one that needs a link.
    fn on_link(&self, ifid: IfId, net: IpNet) -> IpNet {
        match (net, zone::number(ifid)) {
            (IpNet::V6(net), Some(number)) => zone::bind_net(net, number).into(),
            _ => net,
        }
    }

    /// Gives an interface an address, of which it may have to be asked first whether somebody else has it.
    fn begin_address(&mut self, ifid: IfId, net: IpNet) -> Result<(), AddressError> {
        // Others have it as well.
        if let IpAddr::V6(addr) = net.addr()
            && self.ip.anycast.is_given(addr)
        {
            return Err(AddrError::Exists(addr.into()).into());
        }
        self.put_address(ifid, net)?;
        let asks = self.ifs.get(ifid).is_some_and(|i| i.can().needs_neighbours);
        if asks && self.ip.dad.count_of(net.addr()) > 0 {
            let phase = match (net, self.ip.dad.optimism) {
                (IpNet::V6(_), Optimism::Optimistic) => Phase::Optimistic,
                (IpNet::V6(_), Optimism::Tentative) | (IpNet::V4(_), _) => Phase::Tentative,
            };
            self.ip.dad.begin(ifid, net, phase);
            // It is not used, but its prefix is on the link.
            if phase == Phase::Tentative {
                let taken = self.take_address(ifid, net.addr());
                debug_assert!(taken.is_ok(), "it was just added");
                self.listen_for(ifid, net.addr());
                self.announcements.push((ifid, net.addr()));
            }
        }
        Ok(())
    }

    /// Hears questions about an address that is not used.
    fn listen_for(&mut self, ifid: IfId, addr: IpAddr) {
        if let IpAddr::V6(addr) = addr {
            self.ip.v6_mut().groups.join(v6::solicited_node(addr), ifid);
        }
    }

    /// Hears them no more.
    fn ignore(&mut self, ifid: IfId, addr: IpAddr) {
        if let IpAddr::V6(addr) = addr {
            self.ip
                .v6_mut()
                .groups
                .leave(v6::solicited_node(addr), ifid);
        }
    }

    /// Somebody else has an address of ours, of which that was not known: it is used no more.
    pub(crate) fn duplicate(&mut self, ifid: IfId, addr: IpAddr) {
        match self.ip.dad.phase(ifid, addr) {
            Some(Phase::Optimistic | Phase::InUse) => {
                self.ip.dad.fail(ifid, addr);
                let taken = self.take_address(ifid, addr);
                debug_assert!(taken.is_ok(), "it was in use");
            }
            Some(Phase::Tentative) => {
                self.ip.dad.fail(ifid, addr);
                self.ignore(ifid, addr);
            }
            Some(Phase::Duplicate) | None => return,
        }
        self.ip.note_deadlines();
        self.neigh.count_conflict();
        let name = self.ifs.get(ifid).map(|i| i.name.to_string());
        tracing::warn!(
            target: "vnet::neigh",
            ip = %zone::wire_ip(addr), interface = name.as_deref().unwrap_or_default(),
            "another station has this address, which is used no more"
        );
        // RFC 7217 section 6: one of our own choice is chosen again.
        match addr {
            IpAddr::V4(addr) => self.leave_link_local(ifid, addr),
            IpAddr::V6(addr) if self.ip.autoconf.choose_again(ifid, addr) => self.follow_routers(),
            IpAddr::V6(_) => {}
        }
    }

    /// Nobody else has an address that was not used until that was known.
    pub(crate) fn unique(&mut self, ifid: IfId, net: IpNet) {
        self.ignore(ifid, net.addr());
        if let Err(error) = self.put_address(ifid, net) {
            let ip = zone::wire_ip(net.addr());
            tracing::warn!(target: "vnet::neigh", %ip, %error, "not used");
            // It waits until the interface comes up again.
            self.ip.dad.begin(ifid, net, Phase::Tentative);
            self.listen_for(ifid, net.addr());
        }
    }

    fn put_address(&mut self, ifid: IfId, net: IpNet) -> Result<(), AddressError> {
        let addr = net.addr();
        self.ip.add_address(ifid, net)?;
        if let Some(loopback) = self.loopback()
            && let Err(error) = self.add_host_route(addr, loopback)
        {
            let removed = self.ip.remove_address(ifid, addr);
            debug_assert!(removed.is_ok(), "it was just added");
            return Err(error.into());
        }
        match addr {
            IpAddr::V4(_) => self.forget_redirects_v4(),
            IpAddr::V6(addr) => {
                self.ip.v6_mut().groups.join(v6::solicited_node(addr), ifid);
                self.advertise_soon(ifid);
                self.ip.note_deadlines();
            }
        }
        self.announce_soon(ifid, addr);
        self.joins_subnet(ifid, net);
        Ok(())
    }

    /// Takes an address off an interface, whether it is used or not.
    fn end_address(&mut self, ifid: IfId, addr: IpAddr) -> Result<(), AdminError> {
        let dad = self.ip.dad.made();
        match dad.and_then(|dad| dad.remove(ifid, addr)) {
            Some((net, phase @ (Phase::Tentative | Phase::Duplicate))) => {
                if phase == Phase::Tentative {
                    self.ignore(ifid, addr);
                }
                self.ip.disconnect(ifid, net);
                if addr.is_ipv4() {
                    self.forget_redirects_v4();
                }
                return Ok(());
            }
            Some((_, Phase::Optimistic | Phase::InUse)) | None => {}
        }
        self.take_address(ifid, addr)
    }

    fn take_address(&mut self, ifid: IfId, addr: IpAddr) -> Result<(), AdminError> {
        let said = addr.is_ipv6().then(|| self.said_as_router(ifid)).flatten();
        let removed = self
            .ip
            .remove_address(ifid, addr)
            .map_err(|_| AdminError::NoSuchAddress(zone::wire_ip(addr)))?;
        self.remove_host_route(addr);
        self.leaves_subnet(ifid, removed);
        match addr {
            IpAddr::V4(_) => {
                self.forget_redirects_v4();
                if let Some(neigh) = self.neigh.made() {
                    neigh.forget_defence(ifid, addr);
                }
            }
            IpAddr::V6(addr) => {
                self.ip
                    .v6_mut()
                    .groups
                    .leave(v6::solicited_node(addr), ifid);
                self.says_less(ifid, said);
                self.advertise_soon(ifid);
                self.ip.note_deadlines();
            }
        }
        self.announcements
            .retain(|(on, announced)| (*on, *announced) != (ifid, addr));
        Ok(())
    }

    /// Sees to the addresses of IPv6 that interfaces have by themselves: a link-local one beside any other
    /// (RFC 4291 section 2.8), unless one was given, and `::1` on the loopback interface while there is
    /// any other address of IPv6.
    pub(crate) fn keep_own_addresses(&mut self, ifid: IfId) {
        self.keep_own_address(ifid);
        if let Some(loopback) = self.loopback() {
            self.keep_own_address(loopback);
        }
    }

    fn keep_own_address(&mut self, ifid: IfId) {
        let wanted = self.own_address(ifid);
        let has = self.ip.own_v6(ifid);
        if has == wanted.map(|net| net.addr()) {
            return;
        }
        if let Some(addr) = has {
            self.ip.set_own_v6(ifid, None);
            let taken = self.end_address(ifid, addr.into());
            debug_assert!(taken.is_ok(), "it has the address");
        }
        if let Some(net) = wanted
            && self.begin_address(ifid, net.into()).is_ok()
        {
            self.ip.set_own_v6(ifid, Some(net.addr()));
        }
    }

    /// The address of IPv6 that an interface has by itself.
    fn own_address(&self, ifid: IfId) -> Option<Ipv6Net> {
        let netif = self.ifs.get(ifid)?;
        let mut given = self.ip.given_v6(ifid).peekable();
        match netif.can().needs_neighbours {
            true => {
                let obeys = self.ip.autoconf.accept == Accept::Advertisements;
                let speaks =
                    given.peek().is_some() || self.ip.anycast.given_on(ifid).next().is_some();
                if !speaks && (!obeys || netif.member.is_some()) {
                    return None;
                }
                let number = zone::number(ifid)?;
                let own = Ipv6Net::new_assert(v6::link_local(netif.mac, number), 64);
                (!given.any(|addr| addr.is_unicast_link_local())).then_some(own)
            }
            false => {
                let own = Ipv6Net::from(Ipv6Addr::LOCALHOST);
                (self.ip.has_given_v6() && !given.any(|addr| addr.is_loopback())).then_some(own)
            }
        }
    }

    /// Takes an address off an interface, with its routes.
    ///
    /// # Errors
    /// The interface does not have it.
    pub(crate) fn remove_address(&mut self, ifid: IfId, addr: IpAddr) -> Result<(), AdminError> {
        let addr = self.on_link(ifid, addr.into()).addr();
        if let IpAddr::V6(addr) = addr
            && self.remove_anycast(ifid, addr)
        {
            return Ok(());
        }
        let is_derived = match addr {
            IpAddr::V4(addr) => self.ip.link_local.of(ifid) == Some(addr),
            IpAddr::V6(addr) => {
                self.ip.own_v6(ifid) == Some(addr)
                    || self.ip.autoconf.assigned.contains(&(ifid, addr))
            }
        };
        if is_derived {
            return Err(AdminError::NoSuchAddress(zone::wire_ip(addr)));
        }
        self.end_address(ifid, addr)?;
        match addr {
            IpAddr::V4(_) => self.keep_link_local(ifid),
            IpAddr::V6(_) => {
                self.keep_own_addresses(ifid);
                self.configured();
            }
        }
        Ok(())
    }

    fn add_host_route(&mut self, addr: IpAddr, loopback: IfId) -> Result<(), FibError> {
        self.ip.replace_route(Route {
            dst: addr.into(),
            gateway: None,
            ifid: loopback,
            metric: 0,
            origin: Origin::Host,
            kind: RouteKind::Unicast,
        })
    }

    /// Adds the routes to the vnet's own addresses: some may be older than the loopback interface.
    pub(crate) fn add_host_routes(&mut self) {
        let Some(loopback) = self.loopback() else {
            return;
        };
        for ifid in self.ifs.ids() {
            let addrs = self.ip.addresses_on(ifid).map(|net| net.addr());
            let addrs = addrs.filter(|addr| self.ip.contains(*addr));
            let anycast = self.ip.anycast.given_on(ifid).map(IpAddr::from);
            for addr in addrs.chain(anycast).collect::<Vec<_>>() {
                // A limit that a step has set before may leave no room for it.
                let _ = self.add_host_route(addr, loopback);
            }
        }
    }

    fn remove_host_route(&mut self, addr: IpAddr) {
        // One that was refused for want of room is not there.
        let _ = self.ip.remove_route(addr.into(), Origin::Host, None);
    }

    /// Notes what an interface hears of the far end of its wire, unless it has heard later news.
    pub(crate) fn hear(&mut self, cx: &mut Cx, ifid: IfId, news: News) {
        if let Some(netif) = self.ifs.get_mut(ifid)
            && news.number > netif.heard
        {
            netif.heard = news.number;
            // What it stands on, in another vnet, may have another way to the rest of the network.
            let is_back = netif.carrier != news.carrier && netif.kind.vlan().is_some();
            self.set_carrier(cx, ifid, news.carrier);
            if is_back && news.carrier == Carrier::Up {
                self.announce_way(cx, ifid);
            }
        }
    }

    /// Notes that the wire at an interface came up or went down.
    pub(crate) fn set_carrier(&mut self, cx: &mut Cx, ifid: IfId, carrier: Carrier) {
        if let Some(netif) = self.ifs.get_mut(ifid) {
            netif.carrier = carrier;
            self.state_changed(cx, ifid);
        }
    }

    /// An interface came up or went down, and with it what depends on it: a bridge is running when
    /// one of its members is, a lagg when one of its members sends, and a VLAN interface when its parent
    /// is.
    pub(crate) fn state_changed(&mut self, cx: &mut Cx, ifid: IfId) {
        let mut changed = vec![ifid];
        while let Some(id) = changed.pop() {
            let member = self.ifs.get(id).and_then(|i| i.on_bridge());
            let bridge = member.and_then(|m| self.bridges.get(m.bridge));
            let bridge = bridge.map(|b| b.ifid);
            if let Some(lagg) = self.ifs.lagg_of(id)
                && self.lagg_changed(cx, lagg, |_| {})
                && lagg != id
            {
                changed.push(lagg);
            }
            let carrier = |s: &Stack| bridge.and_then(|b| s.ifs.get(b)).map(|b| b.carrier);
            let before = carrier(self);
            if let Some(bridges) = self.bridges.made() {
                bridges.state_changed(&mut self.ifs, cx.now, id);
            }
            if carrier(self) != before {
                changed.extend(bridge);
            }
            self.ifs.tell_vlans(cx, id, &mut changed);
            let is_running = self.ifs.get(id).is_some_and(Netif::is_running);
            self.tell_lldp(cx, id);
            if is_running {
                self.groups_again(id);
                let waiting = self.ip.dad.paused(id).map(|addr| (id, addr));
                self.announcements.extend(waiting);
            }
            if self.ip.autoconf.is_used() {
                self.seek_routers(id);
                self.follow_routers();
            }
        }
    }

    /// An interface is a member of something from now on, or of nothing: what stands on it has no carrier
    /// while it is.
    pub(crate) fn membership_changed(&mut self, cx: &mut Cx, ifid: IfId) {
        let mut changed = Vec::new();
        self.ifs.tell_vlans(cx, ifid, &mut changed);
        for above in changed {
            self.state_changed(cx, above);
        }
        // What was joined on it meanwhile nobody was told.
        if self
            .ifs
            .get(ifid)
            .is_some_and(|i| i.is_running() && i.member.is_none())
        {
            self.groups_again(ifid);
        }
        // What it has of its own, and by the word of routers, it has while it is a member of nothing.
        self.keep_link_local(ifid);
        if self.ip.autoconf.is_used() {
            if self.ifs.get(ifid).is_some_and(|i| i.member.is_some()) {
                self.forget_link(ifid);
                self.keep_own_addresses(ifid);
            }
            self.seek_routers(ifid);
            self.follow_routers();
        }
    }

    /// These interfaces have other MAC addresses than the ones that they had.
    pub(crate) fn readdressed(&mut self, cx: &mut Cx, had: Vec<(IfId, MacAddr)>) {
        for (ifid, old) in had {
            if let Some(bridges) = self.bridges.made() {
                bridges.mac_changed(&mut self.ifs, cx.now, ifid, old);
            }
            self.announce_addresses(ifid);
            self.keep_own_addresses(ifid);
        }
    }

    /// An interface leads to other stations from now on: nobody is where he was, and the interface is as
    /// good as new to a bridge that it is a member of, and to what stands on it.
    pub(crate) fn moved(&mut self, cx: &mut Cx, ifid: IfId) {
        if let Some(neigh) = self.neigh.made() {
            neigh.forget_learned(cx.stats, ifid);
        }
        if let Some(bridges) = self.bridges.made() {
            bridges.forget_stations(&self.ifs, ifid);
        }
        self.forget_link(ifid);
        self.follow_routers();
        let Some(carrier) = self.ifs.get(ifid).map(|i| i.carrier) else {
            return;
        };
        if carrier == Carrier::Up {
            self.set_carrier(cx, ifid, Carrier::Down);
            self.set_carrier(cx, ifid, Carrier::Up);
        }
        self.announce_addresses(ifid);
    }

    /// Announces an address with the next output, if there may be anybody to hear it.
    fn announce_soon(&mut self, ifid: IfId, addr: IpAddr) {
        if self.ifs.get(ifid).is_some_and(|i| i.can().needs_neighbours) {
            self.announcements.push((ifid, addr));
        }
    }

    /// Announces every address of an interface with the next output.
    pub(crate) fn announce_addresses(&mut self, ifid: IfId) {
        let addrs = self.ip.addresses_on(ifid).map(|net| net.addr());
        let used = addrs.filter(|addr| addr.is_ipv4() && self.ip.contains(*addr));
        self.announcements.extend(used.map(|addr| (ifid, addr)));
        self.detect_again(ifid);
    }

    /// The same where others have these addresses as little as before: only the way to them is another one.
    fn announce_only(&mut self, ifid: IfId) {
        let addrs = self.ip.addresses_on(ifid).map(|net| (ifid, net.addr()));
        self.announcements.extend(addrs);
    }

    /// Asks whether others have the addresses of an interface that has come up, those included that were
    /// duplicates (RFC 4862 section 5.4). What has been in use stays in use.
    pub(crate) fn detect_again(&mut self, ifid: IfId) {
        let has_neighbours = self.ifs.get(ifid).is_some_and(|i| i.can().needs_neighbours);
        let nets: Vec<IpNet> = self.ip.addresses_on(ifid).collect();
        for net in nets {
            let addr = net.addr();
            let (is_used, known) = (self.ip.contains(addr), self.ip.dad.phase(ifid, addr));
            // RFC 5227 section 2.4: one of IPv4 that is in use is announced, by the caller, and defended.
            if addr.is_ipv4() && is_used {
                continue;
            }
            if has_neighbours && self.ip.dad.count_of(addr) > 0 {
                if known == Some(Phase::Duplicate) {
                    self.listen_for(ifid, addr);
                }
                let phase = match (is_used, known) {
                    // Nobody has answered for it yet.
                    (true, Some(Phase::Optimistic)) => Phase::Optimistic,
                    (true, _) => Phase::InUse,
                    (false, _) => Phase::Tentative,
                };
                self.ip.dad.begin(ifid, net, phase);
            }
            self.announcements.push((ifid, addr));
        }
    }

    /// Removes everything that refers to an interface.
    pub(crate) fn forget_interface(&mut self, cx: &mut Cx, ifid: IfId) {
        let addrs: Vec<IpAddr> = self.ip.addresses_on(ifid).map(|net| net.addr()).collect();
        for addr in addrs {
            self.remove_host_route(addr);
        }
        let member = self.ifs.get(ifid).and_then(|i| i.on_bridge());
        let bridge = member.and_then(|m| self.bridges.get(m.bridge));
        let bridge = bridge.map(|b| b.ifid);
        let itself = self.ifs.get(ifid).and_then(|i| i.kind.bridge());
        let free = itself.map_or(Vec::new(), |id| self.bridges.members(id));
        if let Some(bridges) = self.bridges.made() {
            bridges.forget(&mut self.ifs, cx.now, ifid);
        }
        for member in self.ifs.members_of_lagg(ifid) {
            self.leave_lagg(cx, member);
        }
        for member in free {
            self.membership_changed(cx, member);
        }
        self.leave_lagg(cx, ifid);
        if let Some(bridge) = bridge {
            self.state_changed(cx, bridge);
        }
        self.forget_anycast(ifid);
        // It may go on in another vnet, where other routers speak.
        self.forget_link(ifid);
        self.ip.remove_interface(ifid);
        if let Some(neigh) = self.neigh.made() {
            neigh.remove_interface(cx.stats, ifid);
        }
        self.lldp.forget(ifid);
        self.announcements.retain(|(id, _)| *id != ifid);
        if let Some(loopback) = self.loopback() {
            self.keep_own_address(loopback);
        }
        if self.ip.autoconf.is_used() {
            self.follow_routers();
        }
    }

    /// The loopback interface.
    pub(crate) fn loopback(&self) -> Option<IfId> {
        self.ifs
            .iter()
            .find(|i| !i.can().needs_neighbours)
            .map(|i| i.id)
    }
}

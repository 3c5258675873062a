//! Router discovery in one stack: what follows from what routers say, and what a router says.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};
use smallvec::SmallVec;

use super::{Stack, tx};
use crate::base::id::IfId;
use crate::base::stats::DropReason;
use crate::base::time::{Duration, Instant};
use crate::icmp::message::{Quoted, RouterMessage};
use crate::ip::Way;
use crate::ip::addr::Kind;
use crate::ip::family::{Family, V4, V6};
use crate::ip::fib::{Fib, FibError, Origin, RouteKind};
use crate::ip::redirected::Routes;
use crate::ip::route::Route;
use crate::ip::state::Forwarding;
use crate::ip::v6::MIN_MTU;
use crate::ip::v6::adverts::Speech;
use crate::ip::v6::autoconf::Accept;
use crate::ip::v6::router::RouterConfig;
use crate::ip::versions::Obey;
use crate::neigh::cache::Times;
use crate::netif::Netif;
use crate::packet::header::ra::{self, Advert, Prefix};
use crate::packet::header::redirect::Redirect;
use crate::packet::header::zone;
use crate::packet::header::{IpInfo, ipv6};
use crate::packet::{Cx, Packet, checksum};

/// The metric of routes that routers have advertised: after all that are configured. The next ones are taken
/// where somebody has configured this one.
const METRIC: u32 = u32::MAX - 16;
/// RFC 4861 section 6.2.1: lifetimes of prefixes, in seconds.
const VALID: u32 = 30 * 86_400;
const PREFERRED: u32 = 7 * 86_400;
/// RFC 4861 section 6.2.1: how long a neighbour may be taken to be reachable, in milliseconds.
const MAX_REACHABLE: u32 = 3_600_000;
/// Between questions about a neighbour. An address is not used until as long after the question whether another has it:
/// by the word of a router nobody is kept from his own for longer than this.
const MIN_RETRANS: Duration = Duration::from_millis(10);
const MAX_RETRANS: Duration = Duration::from_secs(10);

/// True when a route that a router has advertised would take traffic from one that is configured: it would be the
/// longer one. What is on the link, with room for the addresses of hosts and for no less, may be more than the default
/// route: of single hosts elsewhere nobody is told that they are neighbours.
fn pushes_aside(fib: &Fib<V6>, net: Ipv6Net, by: Option<Ipv6Addr>) -> bool {
    let is_link = by.is_none() && net.prefix_len() == 64;
    fib.around(net)
        .is_some_and(|around| !is_link || around.prefix_len() > 0)
}

fn is_unicast(addr: IpAddr) -> bool {
    let kind = match addr {
        IpAddr::V4(addr) => V4::kind(addr),
        IpAddr::V6(addr) => V6::kind(addr),
    };
    kind == Kind::Unicast
}

impl Stack {
    /// Obeys routers from now on, or no more.
    pub(crate) fn set_accept_adverts(&mut self, accept: Accept) {
        if self.ip.autoconf.accept == accept {
            return;
        }
        self.ip.autoconf.accept = accept;
        if accept == Accept::Nothing {
            self.forget_routers();
            self.follow_routers();
        }
        for ifid in self.ifs.ids() {
            self.seek_routers(ifid);
        }
        self.ip.note_deadlines();
    }

    /// Obeys redirects from now on, or forgets them.
    pub(crate) fn set_obeys_redirects(&mut self, obey: Obey) {
        self.ip.redirects = obey;
        if obey == Obey::Nobody {
            self.ip.autoconf.redirected.clear();
            self.follow_routers();
        }
    }

    /// The same of IPv4.
    pub(crate) fn set_obeys_redirects_v4(&mut self, obey: Obey) {
        self.ip.redirects_v4 = obey;
        if obey == Obey::Nobody {
            self.ip.redirected.clear();
            self.follow_redirects();
        }
    }

    /// How often this vnet says, as a router, what is on its links; never with zero.
    pub(crate) fn set_advert_interval(&mut self, interval: Duration) {
        if self.ip.autoconf.adverts.set_interval(interval) {
            self.advertise_everywhere();
        }
        self.ip.note_deadlines();
    }

    /// An interface runs: routers are asked for, if they are to be obeyed, and told of if this is one.
    pub(super) fn seek_routers(&mut self, ifid: IfId) {
        let is_wire = |i: &Netif| i.can().needs_neighbours && i.member.is_none();
        let netif = self.ifs.get(ifid).filter(|i| is_wire(i));
        let Some(is_running) = netif.map(Netif::is_running) else {
            return;
        };
        self.keep_own_addresses(ifid);
        if is_running {
            self.ip.autoconf.ask(ifid);
            self.ip.autoconf.adverts.soon(ifid);
            self.ip.note_deadlines();
        }
    }

    /// There is something new to say as a router on a link, if this is one that says anything.
    pub(super) fn advertise_soon(&mut self, ifid: IfId) {
        if let Some(autoconf) = self.ip.autoconf.made() {
            autoconf.adverts.soon(ifid);
        }
    }

    /// There is something new to say as a router, on every link.
    fn advertise_everywhere(&mut self) {
        let is_wire = |i: &&Netif| i.can().needs_neighbours && i.member.is_none() && i.is_running();
        for netif in self.ifs.iter().filter(is_wire) {
            if let Some(autoconf) = self.ip.autoconf.made() {
                autoconf.adverts.soon(netif.id);
            }
        }
    }

    /// There is a new interface.
    pub(crate) fn appeared(&mut self, ifid: IfId) {
        self.joins_routers(ifid);
        self.keep_link_local(ifid);
        if self.ip.autoconf.is_used() {
            self.seek_routers(ifid);
        }
    }

    /// Addresses or routes have been configured, or are so no more: what routers say has its place behind.
    pub(crate) fn configured(&mut self) {
        self.forget_redirects_v4();
        let named = self.ip.autoconf.redirected.len();
        if named > 0 || self.ip.autoconf.accept == Accept::Advertisements {
            self.ip.autoconf.redirected.clear();
            self.follow_routers();
        }
    }

    /// Addresses of IPv4 have come or gone, or routes: what a router named was better than a way that may be another by
    /// now, and may be on no link any more.
    pub(super) fn forget_redirects_v4(&mut self) {
        if self.ip.redirected.len() > 0 {
            self.ip.redirected.clear();
            self.follow_redirects();
            self.ip.note_deadlines();
        }
    }

    /// This is a router now, or a host.
    pub(crate) fn role_changed(&mut self, was: Forwarding) {
        match (was, self.ip.v6().tunables.forwarding) {
            // RFC 4861 section 6.2.5: those who take it for a router are told.
            (Forwarding::Enabled, Forwarding::Disabled) => {
                if let Some(autoconf) = self.ip.autoconf.made() {
                    autoconf.adverts.leave();
                }
                for ifid in self.ifs.ids() {
                    self.leaves_subnets(ifid);
                    self.leaves_routers(ifid);
                    self.appeared(ifid);
                }
            }
            // RFC 4862 section 5.5: a router does not configure itself by what others say.
            (Forwarding::Disabled, Forwarding::Enabled) => {
                self.forget_routers();
                self.ip.redirected.clear();
                self.follow_redirects();
                self.advertise_everywhere();
                self.follow_routers();
                self.joins_subnets();
                for ifid in self.ifs.ids() {
                    self.joins_routers(ifid);
                }
            }
            _ => return,
        }
        self.ip.note_deadlines();
    }

    /// A neighbour says that it is no router (any more).
    #[cold]
    pub(super) fn retire_router(&mut self, ifid: IfId, router: Ipv6Addr) {
        let autoconf = self.ip.autoconf.made();
        if autoconf.is_some_and(|autoconf| autoconf.retire(ifid, router)) {
            self.follow_routers();
            self.ip.note_deadlines();
        }
    }

    /// A neighbour does not answer: if it is a router, others come before it (RFC 4861 section 6.3.6), and who has
    /// named it as a better one is asked again.
    pub(super) fn silent_router(&mut self, ifid: IfId, addr: IpAddr) {
        match addr {
            IpAddr::V4(addr) if self.ip.redirected.forget_hop(ifid, addr) => {
                self.follow_redirects();
            }
            IpAddr::V6(addr)
                if self.ip.autoconf.redirected.forget_hop(ifid, addr)
                    || self.ip.autoconf.is_router(ifid, addr) =>
            {
                self.follow_routers();
            }
            _ => {}
        }
    }

    /// A message of router discovery came in.
    #[inline(never)]
    pub(super) fn hear_router(
        &mut self,
        cx: &mut Cx,
        src: IpAddr,
        rcvif: Option<IfId>,
        message: RouterMessage,
    ) {
        let forwards = self.ip.v6().tunables.forwarding == Forwarding::Enabled;
        let netif = rcvif.and_then(|id| self.ifs.get(id));
        let (Some(netif), IpAddr::V6(src)) = (netif, src) else {
            return cx.stats.drop_rx(DropReason::Malformed);
        };
        match message {
            RouterMessage::Solicitation if forwards && self.ip.autoconf.adverts.is_on() => {
                self.ip.autoconf.adverts.asked(cx.now, netif.id);
            }
            RouterMessage::Advert(advert)
                if !forwards && self.ip.autoconf.accept == Accept::Advertisements =>
            {
                let (id, name) = (netif.id, netif.name.to_string());
                let Stack { ip, neigh, .. } = self;
                // A router by which packets go, or that answers, is there.
                let is_used: BTreeSet<_> = ip.autoconf.routers_in_use(id).collect();
                let is_there =
                    |by: Ipv6Addr| is_used.contains(&by) || neigh.is_reachable(id, by.into());
                ip.autoconf
                    .heard(cx.now, (id, &name), src, &advert, is_there);
                self.obey_link(id, &advert);
                // It is there after all.
                if self.neigh.is_silent(id, src.into()) {
                    self.neigh.remove(cx, id, src.into());
                }
                self.follow_routers();
            }
            RouterMessage::Redirect(redirect) if !forwards => {
                let id = netif.id;
                let number = zone::number(id).unwrap_or_default();
                let [target, dst] = [redirect.target, redirect.dst].map(|a| zone::bind(a, number));
                if !self.redirected_v6(cx.now, id, src, target, dst) {
                    return cx.stats.drop_rx(DropReason::IcmpIgnored);
                }
            }
            _ => return cx.stats.drop_rx(DropReason::IcmpIgnored),
        }
        cx.stats.delivered += 1;
        self.ip.note_deadlines();
    }

    /// RFC 4861 sections 8.1 and 8.3: a host takes the first hop of which the router tells that it has now, and only
    /// that one. True when it does.
    fn redirected_v6(
        &mut self,
        now: Instant,
        ifid: IfId,
        by: Ipv6Addr,
        target: Ipv6Addr,
        dst: Ipv6Addr,
    ) -> bool {
        if self.ip.redirects == Obey::Nobody || !self.may_redirect(ifid, by, target, dst) {
            return false;
        }
        let hop = (target != dst).then_some(target);
        self.ip.autoconf.redirected.put(now, ifid, dst, hop);
        self.follow_routers();
        true
    }

    /// RFC 1122 section 3.2.2.2: the same of IPv4, where the new hop is on the link, and what is quoted is a packet that
    /// this host may have sent. A redirect for a network is one for the host that the packet was for.
    #[cold]
    pub(super) fn redirected_v4(
        &mut self,
        now: Instant,
        ifid: IfId,
        by: IpAddr,
        gateway: IpAddr,
        quoted: &Quoted,
    ) -> bool {
        let ip = &self.ip;
        let (IpAddr::V4(by), IpAddr::V4(gateway), IpAddr::V4(dst)) = (by, gateway, quoted.dst)
        else {
            return false;
        };
        let is_host = ip.v4.tunables.forwarding == Forwarding::Disabled;
        let is_obeyed = is_host && ip.redirects_v4 == Obey::Router;
        if !is_obeyed
            || !ip.contains(quoted.src)
            || !ip.v4.addrs.is_on_link(ifid, gateway)
            || ip.is_broadcast(gateway.into())
            || !self.may_redirect(ifid, by, gateway, dst)
        {
            return false;
        }
        let hop = (gateway != dst).then_some(gateway);
        self.ip.redirected.put(now, ifid, dst, hop);
        self.follow_redirects();
        self.ip.note_deadlines();
        true
    }

    /// True when the router `by` is the first hop to `dst` now, and may name `hop` for one.
    fn may_redirect<A: Into<IpAddr> + Copy>(&mut self, ifid: IfId, by: A, hop: A, dst: A) -> bool {
        let (by, hop, dst) = (by.into(), hop.into(), dst.into());
        let is_on_way = |way: Way| way.ifid == ifid && way.hop == by;
        is_unicast(dst)
            && !self.ip.contains(hop)
            && hop != by
            && self.ip.lookup(dst).is_ok_and(is_on_way)
    }

    /// Tells the sender of a packet of the better first hop `hop` (RFC 4861 section 8.2): its destination, or a
    /// router that has a link-local address.
    #[cold]
    pub(super) fn redirect(
        &mut self,
        cx: &mut Cx,
        info: &IpInfo,
        ifid: IfId,
        hop: Ipv6Addr,
        packet: &Packet,
    ) {
        let (IpAddr::V6(src), IpAddr::V6(dst)) = (info.src, info.dst) else {
            return;
        };
        let leads = hop == dst || hop.is_unicast_link_local();
        let Some(from) = self.link_local_of(ifid).filter(|_| leads) else {
            return;
        };
        if !self.icmp.limit.take(cx.now) {
            cx.stats.icmp_rate_limited += 1;
            return;
        }
        let said = Redirect {
            target: hop,
            dst,
            station: self.neigh.known(ifid, hop.into()),
        };
        // What is quoted should be what would have been seen on a wire.
        let mut quoted = packet.clone();
        let _ = checksum::finish(&mut quoted, 0);
        quoted.truncate(MIN_MTU as usize);
        let bytes = said.to_bytes(&quoted.to_vec(), MIN_MTU as usize - ipv6::MIN_LEN);
        let crossed = packet.meta.bridges;
        tx::neighbours::quote_to_one(self, cx, ifid, (from, src), bytes, crossed);
    }

    /// RFC 4861 section 6.3.4: what a router says of its link.
    fn obey_link(&mut self, ifid: IfId, advert: &Advert) {
        let millis = |millis: u32| match millis {
            0 => None,
            millis => Some(Duration::from_millis(millis.into())),
        };
        // RFC 4861 section 6.2.1 for the first; questions of which there are too many are nobody's wish.
        let reachable = millis(advert.reachable.min(MAX_REACHABLE));
        let retrans = millis(advert.retrans).map(|time| time.clamp(MIN_RETRANS, MAX_RETRANS));
        self.neigh.say_times(ifid, Times { reachable, retrans });
        self.ip.autoconf.say_hop_limit(ifid, advert.hop_limit);
        let (Some(netif), Some(mtu)) = (self.ifs.get_mut(ifid), advert.mtu) else {
            return;
        };
        if let Ok(mtu) = u16::try_from(mtu)
            && u32::from(mtu) >= MIN_MTU
            && mtu <= netif.ip_mtu
        {
            netif.said_mtu = mtu;
        }
    }

    /// Forgets what routers have said of a link.
    pub(super) fn forget_link(&mut self, ifid: IfId) {
        self.ip.redirected.forget_link(ifid);
        self.follow_redirects();
        if let Some(autoconf) = self.ip.autoconf.made() {
            autoconf.forget_link(ifid);
        }
        if let Some(neigh) = self.neigh.made() {
            neigh.forget_times(ifid);
        }
        if let Some(netif) = self.ifs.get_mut(ifid) {
            netif.said_mtu = u16::MAX;
        }
    }

    /// Forgets all that routers have said, but for what was made of it.
    fn forget_routers(&mut self) {
        if let Some(autoconf) = self.ip.autoconf.made() {
            autoconf.forget();
        }
        for ifid in self.ifs.ids() {
            self.forget_link(ifid);
        }
    }

    /// Does what is due: asks for routers, says what a router says, and forgets what is over.
    pub(super) fn autoconf_is_due(&mut self, cx: &mut Cx) {
        let asking = self.ip.autoconf.made().map(|a| a.take_due(cx.now));
        for ifid in asking.unwrap_or_default() {
            if self.ifs.get(ifid).is_some_and(Netif::is_running) {
                self.solicit_routers(cx, ifid);
            }
        }
        self.follow_routers();
        if self.ip.redirected.forget_old(cx.now) {
            self.follow_redirects();
        }
        let farewells = self
            .ip
            .autoconf
            .made()
            .map(|a| std::mem::take(&mut a.adverts.farewells));
        for (ifid, src, said) in farewells.unwrap_or_default() {
            if self.ifs.get(ifid).is_some_and(Netif::is_running) {
                let ends = (src, V6::ALL_NODES);
                tx::neighbours::discover(self, cx, ifid, ends, said.to_bytes());
            }
        }
        let forwarding = self.ip.v6().tunables.forwarding;
        while let Some(autoconf) = self.ip.autoconf.made()
            && let Some((ifid, speech)) = autoconf.adverts.take_due(cx.now, forwarding)
        {
            let lifetime = match speech {
                Speech::Stays(seconds) => seconds,
                Speech::Leaves => 0,
            };
            self.advertise_router(cx, ifid, lifetime);
        }
    }

    /// Makes routes and addresses those that follow from what routers have said. What is configured stays.
    pub(super) fn follow_routers(&mut self) {
        if self.ip.autoconf.made().is_none() {
            return;
        }
        let Stack { ifs, ip, neigh, .. } = self;
        let runs = |ifid| ifs.get(ifid).is_some_and(Netif::is_running);
        let answers = |ifid, router: Ipv6Addr| !neigh.is_silent(ifid, router.into());
        let mut wanted = ip.autoconf.wanted(runs, answers);
        wanted.retain(|net, (_, by)| !pushes_aside(&ip.v6().fib, *net, *by));
        // Whoever is taken for a router may say so of one destination.
        wanted.extend(ip.autoconf.redirected.routes());
        let installed = std::mem::take(&mut self.ip.autoconf.installed);
        self.ip.autoconf.installed = self.install::<V6>(wanted, installed);
        let wanted = self.ip.autoconf.addresses().collect::<BTreeSet<_>>();
        let over = self.ip.autoconf.assigned.iter().copied();
        let over: Vec<_> = over.filter(|one| !wanted.contains(one)).collect();
        for (ifid, addr) in over {
            self.ip.autoconf.assigned.remove(&(ifid, addr));
            let _ = self.end_address(ifid, addr.into());
        }
        for (ifid, addr) in wanted {
            // One that is configured stays that.
            if !self.ip.autoconf.assigned.contains(&(ifid, addr))
                && !self.ip.dad.holds(addr.into())
                && self.begin_address(ifid, Ipv6Net::from(addr).into()).is_ok()
            {
                self.ip.autoconf.assigned.insert((ifid, addr));
            }
        }
    }

    /// Makes the routes those that follow from redirects of IPv4.
    pub(super) fn follow_redirects(&mut self) {
        let wanted = self.ip.redirected.routes().collect();
        let installed = std::mem::take(&mut self.ip.redirected_routes);
        self.ip.redirected_routes = self.install::<V4>(wanted, installed);
    }

    /// Puts these routes in the place of those that were installed, and says which there are now.
    fn install<F: Family>(&mut self, wanted: Routes<F>, mut installed: Routes<F>) -> Routes<F> {
        installed.retain(|net, via| {
            let stays = wanted.get(net) == Some(via);
            if !stays {
                let _ = self
                    .ip
                    .remove_route((*net).into(), Origin::Advertised, None);
            }
            stays
        });
        let mut now = Routes::<F>::new();
        for (net, via) in wanted {
            let route = (via.0, via.1.map(Into::into));
            if installed.contains_key(&net) || self.add_advertised(net.into(), route) {
                now.insert(net, via);
            }
        }
        now
    }

    fn add_advertised(&mut self, dst: IpNet, (ifid, gateway): (IfId, Option<IpAddr>)) -> bool {
        let mut route = Route {
            dst,
            gateway,
            ifid,
            metric: METRIC,
            origin: Origin::Advertised,
            kind: RouteKind::Unicast,
        };
        loop {
            match self.ip.add_route(route) {
                Ok(()) => return true,
                Err(FibError::Exists(_)) if route.metric < u32::MAX => route.metric += 1,
                Err(_) => return false,
            }
        }
    }

    /// The link-local address that an interface speaks from.
    pub(in crate::stack) fn link_local_of(&self, ifid: IfId) -> Option<Ipv6Addr> {
        let on = self.ip.v6().addrs.on_interface(ifid).map(|a| a.addr());
        on.into_iter().find(Ipv6Addr::is_unicast_link_local)
    }

    /// RFC 4861 section 6.3.7.
    fn solicit_routers(&mut self, cx: &mut Cx, ifid: IfId) {
        let Some(netif) = self.ifs.get(ifid) else {
            return;
        };
        let mac = netif.mac;
        let src = self.link_local_of(ifid);
        let bytes = ra::solicitation(src.map(|_| mac));
        let ends = (src.unwrap_or(Ipv6Addr::UNSPECIFIED), V6::ALL_ROUTERS);
        tx::neighbours::discover(self, cx, ifid, ends, bytes);
    }

    /// RFC 4861 section 6.2.3.
    fn advertise_router(&mut self, cx: &mut Cx, ifid: IfId, lifetime: u16) {
        let ended = self.ip.autoconf.adverts.ended.remove(&ifid);
        let Some((src, said)) = self.advert(ifid, lifetime) else {
            return;
        };
        self.ip.autoconf.adverts.spoke(cx.now, ifid);
        let ends = (src, V6::ALL_NODES);
        // What was over may be said again by now.
        let ended = ended.map(|ended| ended.over(&said));
        let ended = ended.filter(|ended| !ended.is_bare());
        let ended = ended.map(|ended| Advert {
            prefixes: ended.prefixes,
            routes: ended.routes,
            dns: ended.dns,
            ..said.clone()
        });
        for said in ended.iter().chain([&said]) {
            tx::neighbours::discover(self, cx, ifid, ends, said.to_bytes());
        }
    }

    /// What a router says on the link of an interface, and from where.
    fn advert(&self, ifid: IfId, lifetime: u16) -> Option<(Ipv6Addr, Advert)> {
        let netif = self.ifs.get(ifid).filter(|i| i.is_running())?;
        if !netif.can().needs_neighbours {
            return None;
        }
        let src = self.link_local_of(ifid)?;
        let mut prefixes: SmallVec<[Prefix; 2]> = SmallVec::new();
        for addr in self.ip.v6().addrs.on_interface(ifid) {
            let net = addr.net.trunc();
            let is_prefix = V6::kind(addr.addr()) == Kind::Unicast && net.prefix_len() < V6::BITS;
            if is_prefix
                && prefixes.len() < ra::MAX_OPTIONS
                && prefixes.iter().all(|p| p.net != net)
            {
                prefixes.push(Prefix {
                    net,
                    is_on_link: true,
                    is_autonomous: net.prefix_len() == 64,
                    valid: VALID,
                    preferred: PREFERRED,
                });
            }
        }
        let mut said = Advert {
            hop_limit: self.ip.default_hop_limit(),
            preference: ra::Preference::Medium,
            lifetime,
            reachable: 0,
            retrans: 0,
            source: Some(netif.mac),
            mtu: Some(netif.ip_mtu.into()).filter(|mtu| *mtu >= MIN_MTU),
            prefixes,
            ..Advert::default()
        };
        if let Some(told) = self.ip.autoconf.adverts.told.get(&ifid) {
            told.say(&mut said, lifetime.into());
        }
        Some((src, said))
    }

    /// Sets what is said as a router on the link of an interface, beside what follows from its addresses. What was said
    /// and is no more is said once with a lifetime of zero (RFC 4861 section 6.2.4, RFC 4191 section 2.3, RFC 8106
    /// section 5.1).
    pub(crate) fn set_router(&mut self, ifid: IfId, config: Option<RouterConfig>) {
        let before = self.said_as_router(ifid);
        self.tell_router(ifid, config);
        self.says_less(ifid, before);
        self.advertise_soon(ifid);
        self.ip.note_deadlines();
    }

    /// What a router has said on the link of an interface, and from where.
    pub(super) fn said_as_router(&self, ifid: IfId) -> Option<(Ipv6Addr, Advert)> {
        let has_spoken = self.ip.autoconf.adverts.has_spoken(ifid);
        has_spoken.then(|| self.advert(ifid, 1)).flatten()
    }

    /// What a router says on the link of an interface has changed: it says what is over. Where it has no more the address
    /// by which it was known, it says at once that it is no router by that one (RFC 4861 sections 6.2.5 and 6.2.8).
    pub(super) fn says_less(&mut self, ifid: IfId, before: Option<(Ipv6Addr, Advert)>) {
        let Some((src, before)) = before else { return };
        let now = self.advert(ifid, 1);
        let adverts = &mut self.ip.autoconf.adverts;
        match now {
            Some((from, now)) if from == src => adverts.ends(ifid, &before, &now),
            now => {
                let now = now.map(|(_, now)| now).unwrap_or_default();
                adverts.ends(ifid, &before, &now);
                let ended = adverts.ended.remove(&ifid);
                let mut over = ended.unwrap_or_else(|| before.over(&now));
                over.lifetime = 0;
                adverts.farewells.push((ifid, src, over));
            }
        }
    }

    /// An interface is to go out of use: those who take this vnet for a router there are told (RFC 4861 section 6.2.5).
    pub(crate) fn routes_no_more(&mut self, cx: &mut Cx, ifid: IfId) {
        if self.ip.autoconf.adverts.has_spoken(ifid) {
            self.advertise_router(cx, ifid, 0);
        }
        if let Some(autoconf) = self.ip.autoconf.made() {
            autoconf.adverts.forget(ifid);
        }
        self.ip.note_deadlines();
    }

    fn tell_router(&mut self, ifid: IfId, config: Option<RouterConfig>) {
        let told = &mut self.ip.autoconf.adverts.told;
        match config {
            Some(config) => drop(told.insert(ifid, config)),
            None => drop(told.remove(&ifid)),
        }
    }

    /// The addresses of an interface that follow from advertisements.
    pub(crate) fn autoconfigured(&self, ifid: IfId) -> impl Iterator<Item = Ipv6Addr> {
        let all = self.ip.autoconf.assigned.iter();
        let on = all.filter(move |(on, _)| *on == ifid);
        on.map(|(_, addr)| zone::wire(*addr))
    }
}

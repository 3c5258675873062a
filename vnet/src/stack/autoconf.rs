//! Router discovery in one stack: what follows from what routers say, and what a router says.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::Ipv6Net;
use smallvec::SmallVec;

use super::{Stack, tx};
use crate::base::id::IfId;
use crate::base::stats::DropReason;
use crate::base::time::Duration;
use crate::icmp::message::RouterMessage;
use crate::ip::addr::Kind;
use crate::ip::family::{Family, V6};
use crate::ip::fib::{FibError, Origin, RouteKind};
use crate::ip::state::Forwarding;
use crate::ip::v6::MIN_MTU;
use crate::ip::v6::autoconf::{Accept, Routes};
use crate::ip::v6::input::ALL_ROUTERS;
use crate::ip::versions::Route;
use crate::netif::Netif;
use crate::packet::Cx;
use crate::packet::header::ra::{self, Advert, Prefix};
use crate::packet::header::zone;

/// The metric of routes that routers have advertised: after all that are configured. The next ones are taken
/// where somebody has configured this one.
const METRIC: u32 = u32::MAX - 16;
/// RFC 4861 section 6.2.1: lifetimes of prefixes, in seconds.
const VALID: u32 = 30 * 86_400;
const PREFERRED: u32 = 7 * 86_400;

impl Stack {
    /// Obeys routers from now on, or no more.
    pub(crate) fn set_accept_adverts(&mut self, accept: Accept) {
        if self.ip.autoconf.accept == accept {
            return;
        }
        self.ip.autoconf.accept = accept;
        if accept == Accept::Nothing {
            self.ip.autoconf.forget();
            self.follow_routers();
        }
        for ifid in self.ifs.ids() {
            self.seek_routers(ifid);
        }
        self.ip.note_deadlines();
    }

    /// How often this vnet says, as a router, what is on its links; never with zero.
    pub(crate) fn set_advert_interval(&mut self, interval: Duration) {
        self.ip.autoconf.adverts.set_interval(interval);
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
            self.ip.autoconf.adverts.soon();
            self.ip.note_deadlines();
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
        let forwards = self.ip.v6.tunables.forwarding == Forwarding::Enabled;
        let netif = rcvif.and_then(|id| self.ifs.get(id));
        let (Some(netif), IpAddr::V6(src)) = (netif, src) else {
            return cx.stats.drop_rx(DropReason::Malformed);
        };
        match message {
            RouterMessage::Solicitation if forwards && self.ip.autoconf.adverts.is_on() => {
                self.ip.autoconf.adverts.solicited(cx.now);
            }
            RouterMessage::Advert(advert)
                if !forwards && self.ip.autoconf.accept == Accept::Advertisements =>
            {
                let interface = (netif.id, &*netif.name.to_string());
                self.ip.autoconf.heard(cx.now, interface, src, &advert);
                self.follow_routers();
            }
            _ => return cx.stats.drop_rx(DropReason::IcmpIgnored),
        }
        cx.stats.delivered += 1;
        self.ip.note_deadlines();
    }

    /// Does what is due: asks for routers, says what a router says, and forgets what is over.
    pub(super) fn autoconf_is_due(&mut self, cx: &mut Cx) {
        for ifid in self.ip.autoconf.take_due(cx.now) {
            if self.ifs.get(ifid).is_some_and(Netif::is_running) {
                self.solicit_routers(cx, ifid);
            }
        }
        self.follow_routers();
        if let Some(lifetime) = self.ip.autoconf.adverts.take_due(cx.now)
            && self.ip.v6.tunables.forwarding == Forwarding::Enabled
        {
            for ifid in self.ifs.ids() {
                self.advertise_router(cx, ifid, lifetime);
            }
        }
    }

    /// Makes routes and addresses those that follow from what routers have said. What is configured stays.
    fn follow_routers(&mut self) {
        let wanted = self.ip.autoconf.wanted();
        let mut installed = std::mem::take(&mut self.ip.autoconf.installed);
        installed.retain(|net, via| {
            let stays = wanted.get(net) == Some(via);
            if !stays {
                let _ = self.ip.remove_route((*net).into(), Origin::Advertised);
            }
            stays
        });
        let mut now = Routes::new();
        for (net, via) in wanted {
            if installed.contains_key(&net) || self.add_advertised(net, via) {
                now.insert(net, via);
            }
        }
        self.ip.autoconf.installed = now;
        let wanted = self.ip.autoconf.addresses().collect::<Vec<_>>();
        let over = self.ip.autoconf.assigned.iter().copied();
        let over: Vec<_> = over.filter(|one| !wanted.contains(one)).collect();
        for (ifid, addr) in over {
            self.ip.autoconf.assigned.remove(&(ifid, addr));
            let _ = self.end_address(ifid, addr.into());
        }
        for (ifid, addr) in wanted {
            // One that is configured stays that.
            if !self.ip.autoconf.assigned.contains(&(ifid, addr))
                && !self.ip.dad.holds(addr)
                && self.begin_address(ifid, Ipv6Net::from(addr).into()).is_ok()
            {
                self.ip.autoconf.assigned.insert((ifid, addr));
            }
        }
    }

    fn add_advertised(&mut self, net: Ipv6Net, (ifid, by): (IfId, Option<Ipv6Addr>)) -> bool {
        let mut route = Route {
            dst: net.into(),
            gateway: by.map(IpAddr::from),
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
    fn link_local_of(&self, ifid: IfId) -> Option<Ipv6Addr> {
        let on = self.ip.v6.addrs.on_interface(ifid).map(|a| a.addr());
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
        let ends = (src.unwrap_or(Ipv6Addr::UNSPECIFIED), ALL_ROUTERS);
        tx::neighbours::discover(self, cx, ifid, ends, bytes);
    }

    /// RFC 4861 section 6.2.3.
    fn advertise_router(&mut self, cx: &mut Cx, ifid: IfId, lifetime: u16) {
        let netif = self.ifs.get(ifid).filter(|i| i.is_running());
        let Some(netif) = netif.filter(|i| i.can().needs_neighbours) else {
            return;
        };
        let Some(src) = self.link_local_of(ifid) else {
            return;
        };
        let mut prefixes: SmallVec<[Prefix; 2]> = SmallVec::new();
        for addr in self.ip.v6.addrs.on_interface(ifid) {
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
        let said = Advert {
            hop_limit: self.ip.default_hop_limit(),
            preference: ra::Preference::Medium,
            lifetime,
            source: Some(netif.mac),
            mtu: Some(netif.ip_mtu.into()).filter(|mtu| *mtu >= MIN_MTU),
            prefixes,
            routes: SmallVec::new(),
        };
        let ends = (src, V6::ALL_NODES);
        tx::neighbours::discover(self, cx, ifid, ends, said.to_bytes());
    }

    /// The addresses of an interface that follow from advertisements.
    pub(crate) fn autoconfigured(&self, ifid: IfId) -> impl Iterator<Item = Ipv6Addr> {
        let all = self.ip.autoconf.assigned.iter();
        let on = all.filter(move |(on, _)| *on == ifid);
        on.map(|(_, addr)| zone::wire(*addr))
    }
}

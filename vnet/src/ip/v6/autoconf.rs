//! What routers say, and what a host makes of it (RFC 4861 section 6.3, RFC 4862 section 5.5, RFC 4191).
//!
//! This is the memory of it: which routers, prefixes, routes and addresses there are by their word, and until
//! when. Each is bounded, and what is more than that is ignored. What follows for routes and addresses is
//! asked here and done by the caller; nothing here is configuration.
//!
//! Not here: addresses that change with time (RFC 8981), preferred lifetimes, MTU and hop limit of the link,
//! DNS servers.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hasher;
use std::net::Ipv6Addr;

use ipnet::Ipv6Net;
use siphasher::sip::SipHasher13;

use crate::base::id::IfId;
use crate::base::time::{Duration, Instant};
use crate::ip::addr::Kind;
use crate::ip::family::{Family, V6};
use crate::packet::header::ra::{Advert, FOREVER, Preference};

/// Are routers obeyed?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Accept {
    /// They are not heard.
    #[default]
    Nothing,
    /// They are, where this is a host.
    Advertisements,
}

/// What routers have said to one vnet. Empty, it holds no memory.
#[derive(Debug)]
pub(crate) struct Autoconf {
    /// Whether they are heard.
    pub accept: Accept,
    secret: u64,
    routers: BTreeMap<(IfId, Ipv6Addr), Lease>,
    on_link: BTreeMap<(IfId, Ipv6Net), Instant>,
    routes: BTreeMap<(IfId, Ipv6Net, Ipv6Addr), Lease>,
    addresses: BTreeMap<(IfId, Ipv6Net), Address>,
    /// Interfaces by which routers are asked for: how often they were, and when they are next.
    asking: BTreeMap<IfId, (u8, Instant)>,
    /// The routes that were made of this.
    pub installed: Routes,
    /// The addresses that were.
    pub assigned: BTreeSet<(IfId, Ipv6Addr)>,
    /// What this vnet says as a router.
    pub adverts: Adverts,
}

/// When a router speaks.
#[derive(Debug, Default)]
pub(crate) struct Adverts {
    interval: Duration,
    next: Option<Instant>,
    /// When it spoke last.
    last: Option<Instant>,
}

impl Adverts {
    /// How often it speaks; zero while it does not.
    pub(crate) fn interval(&self) -> Duration {
        self.interval
    }

    /// Sets that, from now on. With zero it takes leave.
    pub(crate) fn set_interval(&mut self, interval: Duration) {
        if interval != self.interval {
            self.interval = interval;
            self.next = Some(Instant::ZERO);
        }
    }

    /// True while it speaks.
    pub(crate) fn is_on(&self) -> bool {
        !self.interval.is_zero()
    }

    /// It has something new to say.
    pub(crate) fn soon(&mut self) {
        if self.is_on() {
            self.next = Some(Instant::ZERO);
        }
    }

    /// It was asked. RFC 4861 section 6.2.6: it answers all at once, and not more often than every three
    /// seconds.
    pub(crate) fn solicited(&mut self, now: Instant) {
        let may = self.last.map_or(now, |last| now.max(last + MIN_DELAY));
        self.next = self.next.map(|next| next.min(may));
    }

    /// If it is to speak now: for how many seconds it is to be taken for a router (section 6.2.1: three
    /// times the interval).
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<u16> {
        if self.next.is_none_or(|next| next > now) {
            return None;
        }
        self.last = Some(now);
        self.next = self.is_on().then(|| now + self.interval);
        let seconds = self.interval.saturating_mul(3).as_millis().div_ceil(1000);
        Some(
            u16::try_from(seconds)
                .unwrap_or(MAX_LIFETIME)
                .min(MAX_LIFETIME),
        )
    }
}

/// RFC 4861 section 10: between two advertisements.
const MIN_DELAY: Duration = Duration::from_secs(3);
/// RFC 4861 section 6.2.1: the longest lifetime of a router, in seconds.
const MAX_LIFETIME: u16 = 9000;

#[derive(Clone, Copy, Debug)]
struct Lease {
    preference: Preference,
    until: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Address {
    addr: Ipv6Addr,
    until: Instant,
}

/// The routes that follow: for each destination the interface, and the router unless it is on the link.
pub(crate) type Routes = BTreeMap<Ipv6Net, (IfId, Option<Ipv6Addr>)>;

/// Routers of an interface that are remembered.
const MAX_ROUTERS: usize = 8;
/// Prefixes, routes and addresses of an interface, of each.
const MAX_EACH: usize = 16;
/// RFC 4861 section 10: how often routers are asked for, and how far apart.
const SOLICITATIONS: u8 = 3;
const SOLICITATION_INTERVAL: Duration = Duration::from_secs(4);
/// RFC 4862 section 5.5.3 (e): what nobody but the owner of a prefix should be able to cut short.
const TWO_HOURS: Duration = Duration::from_secs(7200);

impl Autoconf {
    /// Nothing was said. Addresses follow from the secret.
    pub(crate) fn new(secret: u64) -> Autoconf {
        Autoconf {
            accept: Accept::default(),
            secret,
            routers: BTreeMap::new(),
            on_link: BTreeMap::new(),
            routes: BTreeMap::new(),
            addresses: BTreeMap::new(),
            asking: BTreeMap::new(),
            installed: Routes::new(),
            assigned: BTreeSet::new(),
            adverts: Adverts::default(),
        }
    }

    /// True where anything is said or heard.
    pub(crate) fn is_used(&self) -> bool {
        self.accept == Accept::Advertisements || self.adverts.is_on()
    }

    /// An interface of this name has heard an advertisement.
    pub(crate) fn heard(
        &mut self,
        now: Instant,
        (ifid, name): (IfId, &str),
        router: Ipv6Addr,
        advert: &Advert,
    ) {
        // RFC 4861 section 6.3.7: it need not be asked for any more.
        self.asking.remove(&ifid);
        let lease = |preference, seconds| Lease {
            preference,
            until: end(now, seconds),
        };
        let until = lease(advert.preference, u32::from(advert.lifetime));
        let known = self.routers.range((ifid, Ipv6Addr::UNSPECIFIED)..);
        let known = known.take_while(|((on, _), _)| *on == ifid).count();
        put(
            &mut self.routers,
            (ifid, router),
            until,
            advert.lifetime == 0,
            known < MAX_ROUTERS,
        );
        for prefix in &advert.prefixes {
            if V6::kind(prefix.net.addr()) != Kind::Unicast || prefix.preferred > prefix.valid {
                continue;
            }
            if prefix.is_on_link {
                let known = self.on_link.keys().filter(|(on, _)| *on == ifid).count();
                let until = end(now, prefix.valid);
                let key = (ifid, prefix.net);
                put(
                    &mut self.on_link,
                    key,
                    until,
                    prefix.valid == 0,
                    known < MAX_EACH,
                );
            }
            // RFC 4862 section 5.5.3 (d): the rest of the address has 64 bits.
            if prefix.is_autonomous && prefix.net.prefix_len() == 64 {
                self.autonomous(now, (ifid, name), prefix.net, prefix.valid);
            }
        }
        for route in &advert.routes {
            let known = self.routes.keys().filter(|(on, ..)| *on == ifid).count();
            let key = (ifid, route.net, router);
            let until = lease(route.preference, route.lifetime);
            put(
                &mut self.routes,
                key,
                until,
                route.lifetime == 0,
                known < MAX_EACH,
            );
        }
    }

    /// RFC 4862 section 5.5.3: an address of this prefix.
    fn autonomous(&mut self, now: Instant, (ifid, name): (IfId, &str), net: Ipv6Net, valid: u32) {
        let until = end(now, valid);
        if let Some(address) = self.addresses.get_mut(&(ifid, net)) {
            let at_least = address.until.min(now + TWO_HOURS);
            address.until = until.max(at_least);
            return;
        }
        let known = self.addresses.keys().filter(|(on, _)| *on == ifid).count();
        if valid > 0 && known < MAX_EACH {
            let addr = self.stable(name, net);
            self.addresses.insert((ifid, net), Address { addr, until });
        }
    }

    /// RFC 7217 section 5: the same whenever the interface is on this link, and another one on another link.
    fn stable(&self, name: &str, net: Ipv6Net) -> Ipv6Addr {
        let mut hash = SipHasher13::new_with_keys(self.secret, 1);
        hash.write(&net.addr().octets());
        hash.write(name.as_bytes());
        // RFC 5453: the lowest is that of all routers, and the highest are reserved as well.
        let id = hash.finish().clamp(1, 0xfdff_ffff_ffff_ff7f);
        Ipv6Addr::from(u128::from(net.network()) | u128::from(id))
    }

    /// The addresses that follow.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = (IfId, Ipv6Addr)> {
        let all = self.addresses.iter();
        all.map(|((ifid, _), address)| (*ifid, address.addr))
    }

    /// The routes that follow: of several to one destination, the one to be preferred.
    pub(crate) fn wanted(&self) -> Routes {
        let mut best = BTreeMap::<Ipv6Net, (Preference, IfId, Ipv6Addr)>::new();
        let default = Ipv6Net::default();
        let routers = self
            .routers
            .iter()
            .map(|((ifid, by), lease)| (*ifid, default, *by, lease));
        let routes = self
            .routes
            .iter()
            .map(|((ifid, net, by), lease)| (*ifid, *net, *by, lease));
        for (ifid, net, by, lease) in routers.chain(routes) {
            let entry = best.entry(net).or_insert((lease.preference, ifid, by));
            if lease.preference > entry.0 {
                *entry = (lease.preference, ifid, by);
            }
        }
        let mut wanted: Routes = best
            .into_iter()
            .map(|(net, (_, ifid, by))| (net, (ifid, Some(by))))
            .collect();
        for (ifid, net) in self.on_link.keys() {
            wanted.insert(*net, (*ifid, None));
        }
        wanted
    }

    /// Routers are to be asked for, at once, on an interface that has come up.
    pub(crate) fn ask(&mut self, ifid: IfId) {
        if self.accept == Accept::Advertisements {
            self.asking.insert(ifid, (0, Instant::ZERO));
        }
    }

    /// Forgets what is over, and says by which interfaces routers are to be asked for now.
    pub(crate) fn take_due(&mut self, now: Instant) -> Vec<IfId> {
        self.routers.retain(|_, lease| lease.until > now);
        self.routes.retain(|_, lease| lease.until > now);
        self.on_link.retain(|_, until| *until > now);
        self.addresses.retain(|_, address| address.until > now);
        let mut ask = Vec::new();
        self.asking.retain(|ifid, (sent, next)| {
            if *next <= now {
                ask.push(*ifid);
                (*sent, *next) = (*sent + 1, now + SOLICITATION_INTERVAL);
            }
            *sent < SOLICITATIONS
        });
        ask
    }

    /// When [`Autoconf::take_due`] has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let leases = self.routers.values().chain(self.routes.values());
        let ends = leases.map(|lease| lease.until);
        let ends = ends.chain(self.on_link.values().copied());
        let ends = ends.chain(self.addresses.values().map(|address| address.until));
        let ends = ends.chain(self.asking.values().map(|(_, next)| *next));
        let ends = ends.chain(self.adverts.next);
        ends.filter(|at| *at != Instant::MAX).min()
    }

    /// Forgets what was said on an interface that goes away.
    pub(crate) fn remove_interface(&mut self, ifid: IfId) {
        self.routers.retain(|(on, _), _| *on != ifid);
        self.routes.retain(|(on, ..), _| *on != ifid);
        self.on_link.retain(|(on, _), _| *on != ifid);
        self.addresses.retain(|(on, _), _| *on != ifid);
        self.asking.remove(&ifid);
        // These have gone with it.
        self.installed.retain(|_, (on, _)| *on != ifid);
        self.assigned.retain(|(on, _)| *on != ifid);
    }

    /// Forgets all that was said, but for what was made of it.
    pub(crate) fn forget(&mut self) {
        self.routers.clear();
        self.routes.clear();
        self.on_link.clear();
        self.addresses.clear();
        self.asking.clear();
    }

    /// Forgets everything.
    pub(crate) fn reset(&mut self) {
        *self = Autoconf::new(self.secret);
    }
}

/// Notes something that was said, if there is room, or that it is over.
fn put<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: V, is_over: bool, has_room: bool) {
    if is_over {
        map.remove(&key);
    } else if has_room || map.contains_key(&key) {
        map.insert(key, value);
    }
}

/// When so many seconds are over.
fn end(now: Instant, seconds: u32) -> Instant {
    match seconds {
        FOREVER => Instant::MAX,
        seconds => now + Duration::from_secs(seconds.into()),
    }
}

#[cfg(test)]
mod tests {
    use smallvec::SmallVec;

    use super::*;
    use crate::ip::testing::{interfaces, ip6};
    use crate::packet::header::ra::{Prefix, Route};

    fn at(secs: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(secs)
    }

    fn net(text: &str) -> Ipv6Net {
        text.parse().expect("a prefix")
    }

    fn says(lifetime: u16, prefixes: &[(&str, u32)]) -> Advert {
        Advert {
            hop_limit: 0,
            preference: Preference::Medium,
            lifetime,
            source: None,
            mtu: None,
            prefixes: prefixes
                .iter()
                .map(|(prefix, valid)| Prefix {
                    net: net(prefix),
                    is_on_link: true,
                    is_autonomous: true,
                    valid: *valid,
                    preferred: 0,
                })
                .collect(),
            routes: SmallVec::new(),
        }
    }

    fn router(n: u16) -> Ipv6Addr {
        Ipv6Addr::new(0xfe80, 1, 0, 0, 0, 0, 0, n)
    }

    #[test]
    fn what_was_said_is_over_in_time() {
        let [a, b] = interfaces();
        let mut auto = Autoconf::new(1);
        auto.heard(
            at(0),
            (a, "eth0"),
            router(1),
            &says(30, &[("2001:db8:1::/64", 60)]),
        );
        let wanted = auto.wanted();
        assert_eq!(wanted[&net("::/0")], (a, Some(router(1))));
        assert_eq!(wanted[&net("2001:db8:1::/64")], (a, None));
        let all: Vec<_> = auto.addresses().collect();
        assert_eq!(all.len(), 1);
        assert!(net("2001:db8:1::/64").contains(&all[0].1));
        assert_eq!(auto.next_deadline(), Some(at(30)));
        assert!(auto.take_due(at(30)).is_empty());
        assert_eq!(auto.wanted().len(), 1);
        // The same address whoever says so; another one on another interface.
        auto.heard(
            at(40),
            (a, "eth0"),
            router(2),
            &says(0, &[("2001:db8:1::/64", 60)]),
        );
        assert_eq!(auto.addresses().collect::<Vec<_>>(), all);
        auto.take_due(at(100));
        assert_eq!((auto.wanted().len(), auto.addresses().count()), (0, 0));
        auto.heard(
            at(200),
            (b, "eth1"),
            router(2),
            &says(9, &[("2001:db8:1::/64", 60)]),
        );
        assert_ne!(
            auto.addresses().next().map(|(_, addr)| addr),
            Some(all[0].1)
        );
        auto.remove_interface(b);
        assert_eq!(auto.next_deadline(), None);
    }

    #[test]
    fn an_address_is_not_cut_short() {
        let [a, _] = interfaces();
        let mut auto = Autoconf::new(1);
        let prefix = "2001:db8:1::/64";
        auto.heard(
            at(0),
            (a, "eth0"),
            router(1),
            &says(0, &[(prefix, FOREVER)]),
        );
        assert_eq!(auto.next_deadline(), None);
        auto.heard(at(1), (a, "eth0"), router(1), &says(0, &[(prefix, 0)]));
        assert!(auto.wanted().is_empty(), "it is not on the link any more");
        assert_eq!(auto.next_deadline(), Some(at(7201)));
        auto.heard(at(9), (a, "eth0"), router(1), &says(0, &[(prefix, 1)]));
        // It is on the link again, for a second.
        assert_eq!(auto.next_deadline(), Some(at(10)));
        auto.take_due(at(10));
        assert_eq!(auto.next_deadline(), Some(at(7201)));
    }

    #[test]
    fn floods_meet_bounds_and_the_better_router_is_taken() {
        let [a, _] = interfaces();
        let mut auto = Autoconf::new(1);
        for n in 1..=100 {
            let prefix = format!("2001:db8:{n:x}::/64");
            let mut advert = says(100, &[(&prefix, 100)]);
            let route = Route {
                net: net(&format!("2001:db9:{n:x}::/48")),
                preference: Preference::Medium,
                lifetime: 100,
            };
            advert.routes.push(route);
            auto.heard(at(0), (a, "eth0"), router(n), &advert);
        }
        assert_eq!(auto.addresses().count(), MAX_EACH);
        assert_eq!(auto.wanted().len(), 1 + 2 * MAX_EACH);
        assert_eq!(auto.routers.len(), MAX_ROUTERS);
        let better = Advert {
            preference: Preference::High,
            ..says(100, &[])
        };
        auto.heard(at(0), (a, "eth0"), router(3), &better);
        assert_eq!(auto.wanted()[&net("::/0")], (a, Some(router(3))));
        // What is nobody's to give.
        auto.reset();
        for prefix in ["fe80::/64", "ff02::/64", "::/64"] {
            auto.heard(at(0), (a, "eth0"), router(1), &says(0, &[(prefix, 100)]));
        }
        assert!(auto.wanted().is_empty() && auto.addresses().next().is_none());
        assert_eq!(
            auto.stable("eth0", net("2001:db8::/64")).segments()[..4],
            ip6("2001:db8::").segments()[..4]
        );
    }

    #[test]
    fn a_router_speaks_when_it_is_time_or_is_asked() {
        let mut adverts = Adverts::default();
        adverts.solicited(at(0));
        assert_eq!(adverts.take_due(at(0)), None);
        adverts.set_interval(Duration::from_secs(600));
        assert_eq!(adverts.take_due(at(0)), Some(1800));
        adverts.solicited(at(1));
        assert_eq!((adverts.take_due(at(1)), adverts.next), (None, Some(at(3))));
        assert_eq!(adverts.take_due(at(3)), Some(1800));
        adverts.solicited(at(100));
        assert_eq!(adverts.take_due(at(100)), Some(1800));
        assert_eq!(adverts.next, Some(at(700)));
        adverts.set_interval(Duration::from_secs(9000));
        assert_eq!(adverts.take_due(at(101)), Some(9000));
        adverts.set_interval(Duration::ZERO);
        assert_eq!((adverts.take_due(at(102)), adverts.next), (Some(0), None));
    }

    #[test]
    fn routers_are_asked_for_three_times() {
        let [a, b] = interfaces();
        let mut auto = Autoconf::new(1);
        auto.ask(a);
        assert_eq!(auto.next_deadline(), None, "nobody is to be obeyed");
        auto.accept = Accept::Advertisements;
        auto.ask(a);
        auto.ask(b);
        auto.heard(at(0), (b, "eth1"), router(1), &says(0, &[]));
        assert_eq!(auto.take_due(at(0)), [a]);
        for secs in [4, 8] {
            assert_eq!(auto.next_deadline(), Some(at(secs)));
            assert_eq!(auto.take_due(at(secs)), [a]);
        }
        assert_eq!(auto.next_deadline(), None);
    }
}

//! What routers say, and what a host makes of it (RFC 4861 section 6.3, RFC 4862 section 5.5, RFC 4191).
//!
//! This is the memory of it: which routers, prefixes, routes and addresses there are by their word, and until
//! when. Each is bounded, and what is more than that is ignored. What follows for routes and addresses is
//! asked here and done by the caller; nothing here is configuration.
//!
//! Not here: the MTU of a link, which is with its interface. Addresses that change with time are in
//! [`temporary`](super::temporary), and what this vnet says as a router is in [`adverts`](super::adverts).

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hasher;
use std::net::Ipv6Addr;
use std::sync::LazyLock;

use ipnet::Ipv6Net;
use siphasher::sip::SipHasher13;
use smallvec::SmallVec;

use crate::base::id::IfId;
use crate::base::on_use::Part;
use crate::base::time::{Duration, Instant};
use crate::ip::family::V6;
use crate::ip::redirected::{Redirected, Routes};
use crate::ip::v6::adverts::Adverts;
use crate::ip::v6::names::Names;
use crate::ip::v6::select::Derived;
use crate::ip::v6::temporary::{Stable, Temporary};
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
    on_link: BTreeMap<(IfId, Ipv6Net), Lease>,
    routes: BTreeMap<(IfId, Ipv6Net, Ipv6Addr), Lease>,
    addresses: BTreeMap<(IfId, Ipv6Net), Address>,
    /// Better first hops for single destinations.
    pub redirected: Redirected<V6>,
    /// The DNS servers and domains that they name.
    pub names: Names,
    /// The hop limits that routers say of their links.
    hop_limits: BTreeMap<IfId, u8>,
    /// Interfaces by which routers are asked for: how often they were, and when they are next.
    asking: BTreeMap<IfId, (u8, Instant)>,
    /// Those that change with time, beside them.
    pub temporary: Temporary,
    /// Whether these are to be made other ones, at once.
    changes: bool,
    /// Those of both that are preferred no more.
    deprecated: BTreeSet<Ipv6Addr>,
    /// The routes that were made of this.
    pub installed: Routes<V6>,
    /// The addresses that were.
    pub assigned: BTreeSet<(IfId, Ipv6Addr)>,
    /// What this vnet says as a router.
    pub adverts: Adverts,
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    preference: Preference,
    until: Instant,
    /// Who says so.
    by: Ipv6Addr,
}

#[derive(Clone, Copy, Debug)]
struct Address {
    addr: Ipv6Addr,
    lease: Lease,
    /// Until when it is taken for something new.
    preferred: Instant,
    /// How many before it somebody else had.
    taken: u8,
}

/// RFC 7217 section 7: how often another address is chosen in the place of one that somebody has.
const IDGEN_RETRIES: u8 = 3;

/// Routers of an interface that are remembered.
const MAX_ROUTERS: usize = 8;
/// Prefixes, routes and addresses of an interface, of each.
const MAX_EACH: usize = 16;
/// RFC 4861 section 10: how often routers are asked for, and how far apart.
const SOLICITATIONS: u8 = 3;
const SOLICITATION_INTERVAL: Duration = Duration::from_secs(4);
/// RFC 4862 section 5.5.3 (e): what nobody but the owner of a prefix should be able to cut short.
const TWO_HOURS: Duration = Duration::from_secs(7200);

impl Part for Autoconf {
    type Seed = u64;

    fn seeded(seed: u64) -> Autoconf {
        Autoconf::new(seed)
    }

    fn unused() -> &'static Autoconf {
        static UNUSED: LazyLock<Autoconf> = LazyLock::new(|| Autoconf::new(0));
        &UNUSED
    }
}

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
            redirected: Redirected::default(),
            temporary: Temporary::new(secret),
            changes: false,
            deprecated: BTreeSet::new(),
            names: Names::default(),
            hop_limits: BTreeMap::new(),
            asking: BTreeMap::new(),
            installed: Routes::<V6>::new(),
            assigned: BTreeSet::new(),
            adverts: Adverts::new(secret),
        }
    }

    /// True where anything is said or heard.
    pub(crate) fn is_used(&self) -> bool {
        let follows = !self.installed.is_empty();
        self.accept == Accept::Advertisements || self.adverts.is_on() || follows
    }

    /// An interface of this name has heard an advertisement.
    pub(crate) fn heard(
        &mut self,
        now: Instant,
        (ifid, name): (IfId, &str),
        router: Ipv6Addr,
        advert: &Advert,
        is_there: impl Fn(Ipv6Addr) -> bool,
    ) {
        let lease = |preference, seconds| Lease {
            preference,
            until: end(now, seconds),
            by: router,
        };
        // RFC 4191 section 3.1: what is said of the route to everywhere counts more than the header.
        let default = advert.routes.iter().find(|r| r.net.prefix_len() == 0);
        let (preference, lifetime) = match default {
            Some(route) => (route.preference, route.lifetime),
            None => (advert.preference, u32::from(advert.lifetime)),
        };
        // RFC 4861 section 6.3.7: it need not be asked for any more.
        if lifetime > 0 {
            self.asking.remove(&ifid);
        }
        self.names.heard(now, ifid, &advert.dns);
        let until = lease(preference, lifetime);
        let routers = &mut self.routers;
        put(routers, (ifid, router), until, MAX_ROUTERS, now, &is_there);
        for prefix in &advert.prefixes {
            if !leads_somewhere(prefix.net) {
                continue;
            }
            let key = (ifid, prefix.net);
            let until = lease(Preference::Medium, prefix.valid);
            if prefix.is_on_link {
                put(&mut self.on_link, key, until, MAX_EACH, now, &is_there);
            }
            // RFC 4862 section 5.5.3 (c) and (d): the rest of the address has 64 bits.
            if prefix.is_autonomous
                && prefix.net.prefix_len() == 64
                && prefix.preferred <= prefix.valid
            {
                let preferred = end(now, prefix.preferred);
                self.autonomous(now, name, key, (until, preferred), &is_there);
            }
        }
        for route in &advert.routes {
            if route.net.prefix_len() > 0 && leads_somewhere(route.net) {
                let until = lease(route.preference, route.lifetime);
                let key = (ifid, route.net, router);
                put(&mut self.routes, key, until, MAX_EACH, now, &is_there);
            }
        }
        self.follow_prefixes(now);
    }

    /// Makes temporary addresses those that go with the prefixes now, and notes which addresses are preferred no more.
    fn follow_prefixes(&mut self, now: Instant) {
        self.changes = false;
        let stable = |address: &Address| Stable {
            addr: address.addr,
            preferred: address.preferred,
            until: address.lease.until,
        };
        let all = self.addresses.iter();
        let all = all.map(|(key, address)| (*key, stable(address)));
        self.temporary.follow(now, all);
        let addresses = self.addresses.values();
        let addresses = addresses.map(|address| (address.addr, address.preferred));
        let temporary = self.temporary.addresses();
        let all = addresses.chain(temporary.map(|(_, addr, preferred)| (addr, preferred)));
        let deprecated = all.filter(|(_, preferred)| *preferred <= now);
        self.deprecated = deprecated.map(|(addr, _)| addr).collect();
    }

    /// Which temporary addresses there are to be has changed.
    pub(crate) fn set_temporary(&mut self, change: impl FnOnce(&mut super::temporary::Config)) {
        change(&mut self.temporary.config);
        self.changes = true;
    }

    /// RFC 4862 section 5.5.3: an address of this prefix.
    fn autonomous(
        &mut self,
        now: Instant,
        name: &str,
        (ifid, net): (IfId, Ipv6Net),
        (lease, preferred): (Lease, Instant),
        is_there: impl Fn(Ipv6Addr) -> bool,
    ) {
        if let Some(address) = self.addresses.get_mut(&(ifid, net)) {
            address.preferred = preferred;
            let at_least = address.lease.until.min(now + TWO_HOURS);
            address.lease.until = lease.until.max(at_least);
            return;
        }
        if lease.until > now {
            let id = self.stable(name, net);
            let address = Address::of(net, id, (lease, preferred), 0);
            put(
                &mut self.addresses,
                (ifid, net),
                address,
                MAX_EACH,
                now,
                is_there,
            );
        }
    }

    /// A router says what the hop limit on its link is. One that leads no further than the link is nobody's wish.
    pub(crate) fn say_hop_limit(&mut self, ifid: IfId, hop_limit: u8) {
        if hop_limit > 1 {
            self.hop_limits.insert(ifid, hop_limit);
        }
    }

    /// The hop limit on the link of an interface, by the word of a router.
    #[inline]
    pub(crate) fn hop_limit(&self, ifid: IfId) -> Option<u8> {
        self.hop_limits.get(&ifid).copied()
    }

    /// How an address of an interface follows from what routers say; `None` for one that does not.
    #[inline]
    pub(crate) fn derived(&self, ifid: IfId, addr: Ipv6Addr) -> Option<Derived> {
        if self.assigned.is_empty() || !self.assigned.contains(&(ifid, addr)) {
            return None;
        }
        match self.deprecated.contains(&addr) {
            true => Some(Derived::Deprecated),
            false if self.temporary.contains(ifid, addr) => Some(Derived::Temporary),
            false => Some(Derived::Preferred),
        }
    }

    /// The routers of an interface by which packets go.
    pub(crate) fn routers_in_use(&self, ifid: IfId) -> impl Iterator<Item = Ipv6Addr> {
        let on = self.installed.values().filter(move |(on, _)| *on == ifid);
        on.filter_map(|(_, by)| *by)
    }

    /// RFC 7217 section 5: the same whenever the interface is on this link, and another one on another link.
    fn stable(&self, name: &str, net: Ipv6Net) -> u64 {
        let mut hash = SipHasher13::new_with_keys(self.secret, 1);
        hash.write(&net.addr().octets());
        hash.write(name.as_bytes());
        self.unreserved(hash.finish())
    }

    /// The next identifier that is not reserved, from this one on.
    fn unreserved(&self, mut id: u64) -> u64 {
        while is_reserved(id) {
            id = self.next_id(id);
        }
        id
    }

    fn next_id(&self, id: u64) -> u64 {
        let mut hash = SipHasher13::new_with_keys(self.secret, 2);
        hash.write_u64(id);
        hash.finish()
    }

    /// Somebody else has an address. True when another is chosen in its place (RFC 7217 section 6).
    pub(crate) fn choose_again(&mut self, ifid: IfId, addr: Ipv6Addr) -> bool {
        if self.temporary.contains(ifid, addr) {
            return self.temporary.choose_again(ifid, addr);
        }
        let mut all = self.addresses.iter();
        let found = all.find(|((on, _), address)| *on == ifid && address.addr == addr);
        let Some((&(_, net), &address)) = found else {
            return false;
        };
        if address.taken >= IDGEN_RETRIES {
            return false;
        }
        let next = self.next_id(u128::from(addr) as u64);
        let id = self.unreserved(next);
        let next = Address::of(
            net,
            id,
            (address.lease, address.preferred),
            address.taken + 1,
        );
        self.addresses.insert((ifid, net), next);
        if self.deprecated.remove(&addr) {
            self.deprecated.insert(next.addr);
        }
        true
    }

    /// A neighbour says that it is no router: nothing is sent by it any more (RFC 4861 section 7.2.5). True when it was
    /// taken for one.
    pub(crate) fn retire(&mut self, ifid: IfId, router: Ipv6Addr) -> bool {
        let before = self.routers.len() + self.routes.len();
        self.routers.remove(&(ifid, router));
        self.routes
            .retain(|(on, _, by), _| (*on, *by) != (ifid, router));
        let is_named = self.redirected.forget_router(ifid, router);
        is_named || self.routers.len() + self.routes.len() < before
    }

    /// True when this is taken for a router.
    pub(crate) fn is_router(&self, ifid: IfId, addr: Ipv6Addr) -> bool {
        self.routers.contains_key(&(ifid, addr))
            || self
                .routes
                .keys()
                .any(|(on, _, by)| (*on, *by) == (ifid, addr))
    }

    /// The addresses that follow.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = (IfId, Ipv6Addr)> {
        let all = self.addresses.iter();
        let stable = all.map(|((ifid, _), address)| (*ifid, address.addr));
        let temporary = self.temporary.addresses();
        stable.chain(temporary.map(|(ifid, addr, _)| (ifid, addr)))
    }

    /// The routes that follow: of several to one destination, the one to be preferred. `runs` says whether an
    /// interface does, and `answers` whether a router may be there (RFC 4861 section 6.3.6).
    pub(crate) fn wanted(
        &self,
        runs: impl Fn(IfId) -> bool,
        answers: impl Fn(IfId, Ipv6Addr) -> bool,
    ) -> Routes<V6> {
        type Rank = (bool, bool, Preference);
        let mut best = BTreeMap::<Ipv6Net, (Rank, IfId, Ipv6Addr)>::new();
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
            let rank = (runs(ifid), answers(ifid, by), lease.preference);
            let entry = best.entry(net).or_insert((rank, ifid, by));
            if rank > entry.0 {
                *entry = (rank, ifid, by);
            }
        }
        let mut wanted: Routes<V6> = best
            .into_iter()
            .map(|(net, (_, ifid, by))| (net, (ifid, Some(by))))
            .collect();
        for (ifid, net) in self.on_link.keys() {
            let entry = wanted.entry(*net).or_insert((*ifid, None));
            if entry.1.is_some() || runs(*ifid) && !runs(entry.0) {
                *entry = (*ifid, None);
            }
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
        self.on_link.retain(|_, lease| lease.until > now);
        self.addresses
            .retain(|_, address| address.lease.until > now);
        self.redirected.forget_old(now);
        self.names.forget_old(now);
        self.follow_prefixes(now);
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

    /// How much is remembered of what was said.
    pub(crate) fn len(&self) -> usize {
        let routes = self.routers.len() + self.routes.len() + self.redirected.len();
        let addresses = self.addresses.len() + self.temporary.len();
        routes + self.on_link.len() + addresses + self.names.len()
    }

    /// When [`Autoconf::take_due`] has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let leases = self.routers.values().chain(self.routes.values());
        let leases = leases.chain(self.on_link.values());
        let leases = leases.chain(self.addresses.values().map(|address| &address.lease));
        let ends = leases.map(|lease| lease.until);
        let ends = ends.chain(self.redirected.ends());
        let ends = ends.chain(self.names.ends());
        let addresses = self.addresses.values();
        let addresses = addresses.map(|address| (address.addr, address.preferred));
        let temporary = self.temporary.addresses();
        let addresses = addresses.chain(temporary.map(|(_, addr, preferred)| (addr, preferred)));
        let preferred = addresses.filter(|(addr, _)| !self.deprecated.contains(addr));
        let ends = ends.chain(preferred.map(|(_, preferred)| preferred));
        let ends = ends.chain(self.temporary.ends());
        let ends = ends.chain(self.changes.then_some(Instant::ZERO));
        let ends = ends.chain(self.asking.values().map(|(_, next)| *next));
        let ends = ends.chain(self.adverts.next_deadline());
        ends.filter(|at| *at != Instant::MAX).min()
    }

    /// Forgets what was said on the link of an interface, but for what was made of it.
    pub(crate) fn forget_link(&mut self, ifid: IfId) {
        self.routers.retain(|(on, _), _| *on != ifid);
        self.routes.retain(|(on, ..), _| *on != ifid);
        self.on_link.retain(|(on, _), _| *on != ifid);
        self.addresses.retain(|(on, _), _| *on != ifid);
        self.redirected.forget_link(ifid);
        self.hop_limits.remove(&ifid);
        self.names.forget_link(ifid);
        self.temporary.forget_link(ifid);
        let left: BTreeSet<_> = self.addresses().map(|(_, addr)| addr).collect();
        self.deprecated.retain(|addr| left.contains(addr));
        self.asking.remove(&ifid);
    }

    /// Forgets what was said on an interface that goes away.
    pub(crate) fn remove_interface(&mut self, ifid: IfId) {
        self.forget_link(ifid);
        self.adverts.told.remove(&ifid);
        self.adverts.forget(ifid);
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
        self.redirected.clear();
        self.hop_limits.clear();
        self.names = Names::default();
        self.temporary.forget();
        self.deprecated.clear();
        self.asking.clear();
    }

    /// Forgets everything.
    pub(crate) fn reset(&mut self) {
        *self = Autoconf::new(self.secret);
    }
}

/// What is remembered under a key that begins with the interface.
trait OfLink: Ord + Copy {
    /// The first key of an interface.
    fn first(ifid: IfId) -> Self;
    fn ifid(&self) -> IfId;
}

macro_rules! of_link {
    ($($key:ty: $first:expr),*) => {$(
        impl OfLink for $key {
            fn first(ifid: IfId) -> Self {
                $first(ifid)
            }

            fn ifid(&self) -> IfId {
                self.0
            }
        }
    )*};
}

of_link!(
    (IfId, Ipv6Addr): |ifid| (ifid, Ipv6Addr::UNSPECIFIED),
    (IfId, Ipv6Net): |ifid| (ifid, Ipv6Net::default()),
    (IfId, Ipv6Net, Ipv6Addr): |ifid| (ifid, Ipv6Net::default(), Ipv6Addr::UNSPECIFIED)
);

/// Notes something that was said, or that it is over. Where that makes more than `most` on a link, the router that has
/// said the most gives way, and then who has said something and is not there: what would last the longest, or else
/// what is over first. So neither promises for ever nor many short ones keep a router out.
fn put<K: OfLink, L: AsRef<Lease>>(
    map: &mut BTreeMap<K, L>,
    key: K,
    new: L,
    most: usize,
    now: Instant,
    is_there: impl Fn(Ipv6Addr) -> bool,
) {
    let lease = *new.as_ref();
    if lease.until <= now {
        map.remove(&key);
        return;
    }
    if !map.contains_key(&key) {
        let on_link = map.range(K::first(key.ifid())..);
        let on_link = on_link.take_while(|(k, _)| k.ifid() == key.ifid());
        let on_link: SmallVec<[(K, Lease); MAX_EACH]> =
            on_link.map(|(k, l)| (*k, *l.as_ref())).collect();
        if on_link.len() >= most {
            let Some(gives_way) = gives_way(&on_link, &lease, is_there) else {
                return;
            };
            map.remove(&gives_way);
        }
    }
    map.insert(key, new);
}

/// Whose place a new lease takes.
fn gives_way<K: Copy>(
    all: &[(K, Lease)],
    new: &Lease,
    is_there: impl Fn(Ipv6Addr) -> bool,
) -> Option<K> {
    let said_by = |by: Ipv6Addr| all.iter().filter(|(_, lease)| lease.by == by).count();
    let most = all.iter().max_by_key(|(_, lease)| said_by(lease.by))?.1.by;
    let may = |lease: &Lease| match said_by(most) > said_by(new.by) + 1 {
        true => lease.by == most,
        false => !is_there(lease.by),
    };
    let may_go = || all.iter().filter(|(_, lease)| may(lease));
    let last = may_go().max_by_key(|(_, lease)| lease.until)?;
    let found = match last.1.until > new.until {
        true => Some(last),
        false => may_go().min_by_key(|(_, lease)| lease.until),
    };
    found.map(|(key, _)| *key)
}

impl AsRef<Lease> for Lease {
    fn as_ref(&self) -> &Lease {
        self
    }
}

impl AsRef<Lease> for Address {
    fn as_ref(&self) -> &Lease {
        &self.lease
    }
}

impl Address {
    fn of(net: Ipv6Net, id: u64, (lease, preferred): (Lease, Instant), taken: u8) -> Address {
        let addr = Ipv6Addr::from(u128::from(net.network()) | u128::from(id));
        Address {
            addr,
            lease,
            preferred,
            taken,
        }
    }
}

/// RFC 5453: the lowest identifier is that of all routers, and there are two ranges that are reserved as well.
pub(super) fn is_reserved(id: u64) -> bool {
    matches!(
        id,
        0 | 0x0200_5eff_fe00_0000..=0x0200_5eff_fe00_5212 | 0xfdff_ffff_ffff_ff80..
    )
}

/// False for prefixes with addresses in them that no router can say anything about: those that mean something on
/// one link or one host only, groups, and those that are never in a packet.
fn leads_somewhere(net: Ipv6Net) -> bool {
    let not = |addr, len| {
        let other = Ipv6Net::new_assert(addr, len);
        other.contains(&net) || net.contains(&other)
    };
    let local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0);
    let groups = Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0);
    !(not(Ipv6Addr::UNSPECIFIED, 80) || not(local, 10) || not(groups, 8))
}

/// When so many seconds are over.
fn end(now: Instant, seconds: u32) -> Instant {
    match seconds {
        FOREVER => Instant::MAX,
        seconds => now + Duration::from_secs(seconds.into()),
    }
}

#[cfg(test)]
mod tests;

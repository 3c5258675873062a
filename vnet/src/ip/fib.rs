//! The forwarding table: the route to a destination, by longest prefix (RFC 1812 section 5.2.4.3).
//!
//! Several routes may have the same prefix if their metrics differ; the one with the lowest metric is used. In front of
//! the table is a small cache by destination. Every change invalidates the cache by incrementing [`Fib::generation`];
//! code that keeps a [`RouteHit`] elsewhere compares it as well. The routes of an interface that is down stay in the
//! table but are skipped. A large table has another form for lookups ([`flat`](super::flat)). There is one path to a destination: no multipath, and no routing by type of service.

mod entry;
mod table;

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::addr::Kind;
use super::family::Family;
use super::flat::{self, Flat, Said};
use crate::base::id::IfId;
use crate::base::walked::Walked;
pub use entry::RouteKind;
pub(crate) use entry::{NextHop, Origin, Route, RouteHit};
use table::Table;

/// The most routes a table takes unless told otherwise.
pub(crate) const DEFAULT_MAX_ROUTES: usize = 1 << 20;

/// Why a route was not added or removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FibError {
    /// There is a route with this prefix and metric.
    #[error("a route to {0} with this metric exists")]
    Exists(IpNet),
    /// There is no such route.
    #[error("no route to {0}")]
    NotFound(IpNet),
    /// The gateway is of another family than the destination.
    #[error("no route to {0} can be had: its family is not the gateway's")]
    Family(IpNet),
    /// The table is full.
    #[error("the table is full with {0} routes")]
    Limit(usize),
}

/// The forwarding table of one vnet. Empty, it holds no memory.
pub(crate) struct Fib<F: Family> {
    /// Routes of one prefix by ascending metric.
    table: Table<F>,
    routes: usize,
    max_routes: usize,
    generation: u64,
    cache: Cache<F>,
    /// The same in another form, when it is large.
    flat: Option<Box<Flat<F>>>,
    pub(crate) walked: Walked,
    /// Interfaces that are out of use. Mostly there is none, and then no lookup asks about any.
    down: BTreeSet<IfId>,
}

impl<F: Family> Default for Fib<F> {
    fn default() -> Fib<F> {
        Fib {
            table: Table::default(),
            routes: 0,
            max_routes: DEFAULT_MAX_ROUTES,
            generation: 1,
            cache: Cache::default(),
            flat: None,
            walked: Walked::default(),
            down: BTreeSet::new(),
        }
    }
}

impl<F: Family> Fib<F> {
    /// A table that takes [`DEFAULT_MAX_ROUTES`].
    pub(crate) fn new() -> Fib<F> {
        Fib::default()
    }

    /// How many routes the table takes.
    pub(crate) fn max_routes(&self) -> usize {
        self.max_routes
    }

    /// Sets how many routes the table takes; those it has stay.
    pub(crate) fn set_max_routes(&mut self, max_routes: usize) {
        self.max_routes = max_routes;
    }

    /// Adds a route. Bits of the destination behind its prefix are ignored.
    ///
    /// # Errors
    /// [`FibError::Exists`] when there is one with its prefix and metric, [`FibError::Limit`] when
    /// the table is full.
    pub(crate) fn add(&mut self, route: Route<F>) -> Result<(), FibError> {
        let route = truncated(route);
        let same = self.table.get(route.dst);
        if same.iter().any(|r| r.metric == route.metric) {
            return Err(FibError::Exists(route.dst.into()));
        }
        if self.routes >= self.max_routes {
            return Err(FibError::Limit(self.max_routes));
        }
        self.insert(route);
        Ok(())
    }

    /// Adds a route, in place of the one with its prefix and metric if there is one, which is
    /// returned.
    ///
    /// # Errors
    /// [`FibError::Limit`] when there is none and the table is full.
    pub(crate) fn replace(&mut self, route: Route<F>) -> Result<Option<Route<F>>, FibError> {
        let route = truncated(route);
        let mut same = self.table.get_mut(route.dst).iter_mut();
        if let Some(old) = same.find(|r| r.metric == route.metric) {
            let replaced = std::mem::replace(old, route);
            self.edited(route.dst);
            return Ok(Some(replaced));
        }
        self.add(route).map(|()| None)
    }

    /// Removes the route to `dst` with this metric, or with the lowest one, and returns it.
    ///
    /// # Errors
    /// [`FibError::NotFound`] when there is none.
    pub(crate) fn remove(
        &mut self,
        dst: F::Net,
        metric: Option<u32>,
    ) -> Result<Route<F>, FibError> {
        let dst = F::trunc(dst);
        let lowest = self.table.get(dst).first().map(|r| r.metric);
        let removed = metric
            .or(lowest)
            .and_then(|metric| self.table.remove(dst, metric));
        let removed = removed.ok_or(FibError::NotFound(dst.into()))?;
        self.routes -= 1;
        self.edited(dst);
        Ok(removed)
    }

    /// Removes the route to `dst` of this origin, with this metric or the lowest one.
    ///
    /// # Errors
    /// [`FibError::NotFound`].
    pub(crate) fn remove_of(
        &mut self,
        dst: F::Net,
        origin: Origin,
        metric: Option<u32>,
    ) -> Result<Route<F>, FibError> {
        let dst = F::trunc(dst);
        let list = self.table.get(dst);
        let is_it = |r: &&Route<F>| r.origin == origin && metric.is_none_or(|m| m == r.metric);
        let found = list.iter().find(is_it);
        let metric = found.ok_or(FibError::NotFound(dst.into()))?.metric;
        self.remove(dst, Some(metric))
    }

    /// Removes the connected route to `dst` through an interface, if there is one.
    pub(crate) fn remove_connected(&mut self, dst: F::Net, ifid: IfId) {
        if let Some(metric) = self.connected(dst, ifid).map(|route| route.metric) {
            let removed = self.remove(dst, Some(metric));
            debug_assert!(removed.is_ok(), "it was just found");
        }
    }

    /// The connected route to `dst` through an interface.
    pub(crate) fn connected(&self, dst: F::Net, ifid: IfId) -> Option<&Route<F>> {
        let list = self.table.get(F::trunc(dst));
        let wanted = (ifid, Origin::Connected);
        list.iter().find(|r| (r.ifid, r.origin) == wanted)
    }

    /// The lowest metric that no route to `dst` has; `None` when there is none left.
    pub(crate) fn free_metric(&self, dst: F::Net) -> Option<u32> {
        let mut free = 0;
        for route in self.table.get(F::trunc(dst)) {
            if route.metric > free {
                break;
            }
            free = route.metric.checked_add(1)?;
        }
        Some(free)
    }

    /// Moves the connected route to `dst` through an interface to `metric`, if that is above its
    /// own and free, and returns the metric that it has then; zero when there is no such route.
    pub(crate) fn raise_connected(&mut self, dst: F::Net, ifid: IfId, metric: u32) -> u32 {
        let list = self.table.get_mut(F::trunc(dst));
        let taken = list.iter().any(|r| r.metric == metric);
        let own = list
            .iter_mut()
            .find(|r| (r.ifid, r.origin) == (ifid, Origin::Connected));
        let Some(route) = own else { return 0 };
        if taken || metric <= route.metric {
            return route.metric;
        }
        route.metric = metric;
        list.sort_by_key(|r| r.metric);
        self.edited(F::trunc(dst));
        metric
    }

    /// Takes the routes through an interface out of use, those to come included. They stay in the
    /// table; others to the same destinations are taken in their place.
    pub(crate) fn interface_down(&mut self, ifid: IfId) {
        if self.down.insert(ifid) {
            self.generation += 1;
        }
    }

    /// Takes the routes through the same interfaces out of use as in a table of another family; for a table without routes.
    pub(crate) fn be_down_as<G: Family>(&mut self, other: &Fib<G>) {
        debug_assert_eq!(self.routes, 0, "nobody has asked it for a way yet");
        self.down.clone_from(&other.down);
    }

    /// Puts the routes through an interface back into use.
    pub(crate) fn interface_up(&mut self, ifid: IfId) {
        if self.down.remove(&ifid) {
            self.generation += 1;
        }
    }

    /// Removes every route through an interface.
    pub(crate) fn remove_interface(&mut self, ifid: IfId) {
        self.interface_up(ifid);
        self.remove_if(|route| route.ifid == ifid);
    }

    /// Removes every route for which `condemned` says so.
    fn remove_if(&mut self, mut condemned: impl FnMut(&Route<F>) -> bool) {
        let before = self.routes;
        if before == 0 {
            return;
        }
        let mut left = 0;
        let changed = self.table.retain(|route| {
            self.walked.step();
            let is_kept = !condemned(route);
            left += usize::from(is_kept);
            is_kept
        });
        self.routes = left;
        if left == before {
            return;
        }
        self.generation += 1;
        if changed.len() > left / 8 {
            // Made anew, it costs less.
            self.flat = None;
            self.fit();
        } else {
            for dst in changed {
                self.edited(dst);
            }
        }
    }

    /// The way to `dst`, by way of the cache.
    #[inline]
    pub(crate) fn lookup(&mut self, dst: F::Addr) -> Option<RouteHit<F>> {
        if self.routes == 0 {
            return None;
        }
        if let Some(known) = self.cache.get(dst, self.generation) {
            return known;
        }
        let found = match &self.flat {
            None => self.route(dst).map(RouteHit::of),
            Some(flat) => match flat.find(dst) {
                Some(Said::Hit(hit)) if self.is_in_use(hit.kind, hit.ifid) => Some(hit),
                None => None,
                // There are others to that prefix, or longer ones.
                Some(_) => self.route(dst).map(RouteHit::of),
            },
        };
        self.cache.put(dst, self.generation, found);
        found
    }

    fn is_in_use(&self, kind: RouteKind, ifid: IfId) -> bool {
        self.down.is_empty() || !kind.is_default() || !self.down.contains(&ifid)
    }

    /// The route to `dst` that is in use, by way of the table.
    pub(crate) fn route(&self, dst: F::Addr) -> Option<&Route<F>> {
        match self.down.is_empty() {
            true => self.configured(dst),
            false => self.in_use(dst),
        }
    }

    /// The longest prefix of which a route is in use, and of that the lowest metric.
    fn in_use(&self, dst: F::Addr) -> Option<&Route<F>> {
        let mut best = None;
        for (_, list) in self.table.cover(F::host(dst)) {
            match list.iter().find(|r| self.is_in_use(r.kind, r.ifid)) {
                Some(route) => best = Some(route),
                // What is for ourselves goes nowhere else.
                None if F::kind(dst) == Kind::Loopback => best = None,
                None if list.iter().any(|r| r.origin == Origin::Host) => best = None,
                None => {}
            }
        }
        best
    }

    /// The route to `dst`, whether its interface is in use or not.
    pub(crate) fn configured(&self, dst: F::Addr) -> Option<&Route<F>> {
        self.table.longest(dst)?.first()
    }

    /// The route to `dst` by one interface, in use or not: the longest prefix of which there is one, and of that the
    /// lowest metric.
    pub(crate) fn route_by(&self, dst: F::Addr, ifid: IfId) -> Option<&Route<F>> {
        let around = self.table.cover(F::host(dst));
        let around = around.inspect(|_| self.walked.step());
        let leads = |r: &&Route<F>| r.ifid == ifid && r.kind.is_default();
        around
            .filter_map(|(_, list)| list.iter().find(leads))
            .last()
    }

    /// The longest prefix around `net`, and longer than none, to which a route was configured.
    pub(crate) fn around(&self, net: F::Net) -> Option<F::Net> {
        let is_configured = |r: &Route<F>| matches!(r.origin, Origin::Connected | Origin::Static);
        let around = self.table.cover(net).filter(|(dst, list)| {
            F::prefix_len(*dst) < F::prefix_len(net) && list.iter().any(is_configured)
        });
        around.last().map(|(dst, _)| dst)
    }

    /// A number that each edit changes; never zero.
    #[inline]
    #[cfg(test)]
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Every route, by prefix and then by metric.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Route<F>> {
        self.table
            .iter()
            .flat_map(|(_, list)| list)
            .inspect(|_| self.walked.step())
    }

    /// How many routes there are.
    pub(crate) fn len(&self) -> usize {
        self.routes
    }

    /// Removes every route, and gives the memory back.
    pub(crate) fn reset(&mut self) {
        self.routes = 0;
        self.table = Table::default();
        self.cache = Cache::default();
        self.flat = None;
        self.down = BTreeSet::new();
        self.generation += 1;
    }

    fn insert(&mut self, route: Route<F>) {
        self.table.insert(route);
        self.routes += 1;
        self.edited(route.dst);
    }

    /// The routes to `dst` are others now.
    fn edited(&mut self, dst: F::Net) {
        self.generation += 1;
        self.fit();
        if let Some(mut flat) = self.flat.take() {
            let key = F::key_net(dst);
            flat.set(key, self.said(key));
            self.flat = Some(flat);
        }
    }

    /// What lookups need fits the number of routes: no memory for none, and another form for many. The number of a table
    /// that is about as large as that changes by many before the form does.
    fn fit(&mut self) {
        let many = flat::MIN_ROUTES..flat::MAX_ROUTES;
        if self.routes == 0 {
            self.table = Table::default();
            self.cache = Cache::default();
        }
        match self.flat {
            None if many.contains(&self.routes) => self.flatten(),
            Some(_) if !(many.start / 2..many.end).contains(&self.routes) => self.flat = None,
            _ => {}
        }
    }

    #[cold]
    fn flatten(&mut self) {
        let mut flat = Box::new(Flat::new());
        for net in self.table.iter().map(|(net, _)| F::key_net(net)) {
            flat.set(net, self.said(net));
        }
        self.flat = Some(flat);
    }

    /// What the routes to a prefix say that is no longer than a key.
    fn said(&self, net: F::Net) -> Option<Said<F>> {
        if F::prefix_len(net) == F::KEY_BITS && self.table.has_longer(net) {
            return Some(Said::Ask);
        }
        let first = self.table.get(net).first()?;
        Some(Said::Hit(RouteHit::of(first)))
    }
}

impl<F: Family> std::fmt::Debug for Fib<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

fn truncated<F: Family>(route: Route<F>) -> Route<F> {
    Route {
        dst: F::trunc(route.dst),
        ..route
    }
}

/// Recent lookups by destination, each destination in one possible slot. Allocated by the first.
struct Cache<F: Family>(Option<Box<[Slot<F>; CACHE_SLOTS]>>);

#[derive(Clone, Copy)]
struct Slot<F: Family> {
    generation: u64,
    dst: F::Addr,
    found: Option<RouteHit<F>>,
}

impl<F: Family> Default for Cache<F> {
    fn default() -> Cache<F> {
        Cache(None)
    }
}

impl<F: Family> Cache<F> {
    #[inline]
    fn get(&self, dst: F::Addr, generation: u64) -> Option<Option<RouteHit<F>>> {
        let slot = &self.0.as_ref()?[Self::slot(dst)];
        (slot.dst == dst && slot.generation == generation).then_some(slot.found)
    }

    fn put(&mut self, dst: F::Addr, generation: u64, found: Option<RouteHit<F>>) {
        let empty = Slot {
            generation: 0,
            dst: F::UNSPECIFIED,
            found: None,
        };
        let slots = self.0.get_or_insert_with(|| Box::new([empty; CACHE_SLOTS]));
        slots[Self::slot(dst)] = Slot {
            generation,
            dst,
            found,
        };
    }

    #[inline]
    fn slot(dst: F::Addr) -> usize {
        (F::mix(dst) >> (32 - CACHE_BITS)) as usize
    }
}

const CACHE_BITS: u32 = 6;
const CACHE_SLOTS: usize = 1 << CACHE_BITS;

#[cfg(test)]
mod tests;

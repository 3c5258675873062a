//! Better first hops for single destinations, by the word of routers (RFC 1122 section 3.2.2.2, RFC 4861 section 8).
//!
//! Whether a router is believed, the caller decides; this is only the memory of it.

use std::collections::BTreeMap;

use super::family::Family;
use crate::base::id::IfId;
use crate::base::time::{Duration, Instant};

/// The routes that follow from what routers say: for each destination the interface, and the router unless the
/// destination is on the link.
pub(crate) type Routes<F> = BTreeMap<<F as Family>::Net, (IfId, Option<<F as Family>::Addr>)>;

/// Destinations of a vnet for which a better first hop is remembered, and for how long: as with the MTU of a path
/// (RFC 8201 section 4), what was so once is asked again.
pub(crate) const MAX_REDIRECTED: usize = 64;
const REDIRECTED_FOR: Duration = Duration::from_secs(600);

/// What routers have said; no hop for what is on the link. Empty, it holds no memory.
#[derive(Debug)]
pub(crate) struct Redirected<F: Family>(Hops<F>);

type Hops<F> = BTreeMap<(IfId, <F as Family>::Addr), (Option<<F as Family>::Addr>, Instant)>;

impl<F: Family> Default for Redirected<F> {
    fn default() -> Redirected<F> {
        Redirected(BTreeMap::new())
    }
}

impl<F: Family> Redirected<F> {
    /// The router by which packets to `dst` go has named a better first hop. What was said first gives way where
    /// there is no room.
    pub(crate) fn put(&mut self, now: Instant, ifid: IfId, dst: F::Addr, hop: Option<F::Addr>) {
        let key = (ifid, dst);
        if self.0.len() >= MAX_REDIRECTED && !self.0.contains_key(&key) {
            let first = self.0.iter().min_by_key(|(_, (_, until))| *until);
            if let Some(first) = first.map(|(key, _)| *key) {
                self.0.remove(&first);
            }
        }
        self.0.insert(key, (hop, now + REDIRECTED_FOR));
    }

    /// This first hop is there no more. True when it was named for anything.
    pub(crate) fn forget_hop(&mut self, ifid: IfId, hop: F::Addr) -> bool {
        self.forget_if(|(on, dst), by| *on == ifid && by.unwrap_or(*dst) == hop)
    }

    /// This is no router. True when it was named as one.
    pub(crate) fn forget_router(&mut self, ifid: IfId, router: F::Addr) -> bool {
        self.forget_if(|(on, _), by| *on == ifid && by == Some(router))
    }

    /// Forgets what was said on the link of an interface.
    pub(crate) fn forget_link(&mut self, ifid: IfId) {
        self.forget_if(|(on, _), _| *on == ifid);
    }

    /// Forgets what is over. True when anything was.
    pub(crate) fn forget_old(&mut self, now: Instant) -> bool {
        let before = self.0.len();
        self.0.retain(|_, (_, until)| *until > now);
        self.0.len() < before
    }

    fn forget_if(&mut self, is_over: impl Fn(&(IfId, F::Addr), Option<F::Addr>) -> bool) -> bool {
        let before = self.0.len();
        self.0.retain(|key, (hop, _)| !is_over(key, *hop));
        self.0.len() < before
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.0 = BTreeMap::new();
    }

    /// The routes that follow.
    pub(crate) fn routes(&self) -> impl Iterator<Item = (F::Net, (IfId, Option<F::Addr>))> {
        let all = self.0.iter();
        all.map(|((ifid, dst), (hop, _))| (F::host(*dst), (*ifid, *hop)))
    }

    /// When each is over.
    pub(crate) fn ends(&self) -> impl Iterator<Item = Instant> {
        self.0.values().map(|(_, until)| *until)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

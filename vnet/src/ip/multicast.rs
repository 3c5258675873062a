//! The groups that a vnet listens to, by interface, and of which sources (RFC 1112 section 7.1, RFC 3376
//! section 3, RFC 3810 section 4).
//!
//! | part | what it is |
//! |---|---|
//! | this file | [`Groups`]: who joined what, and what follows for each interface |
//! | [`filter`] | which sources of a group somebody wants to hear |
//! | [`report`] | what routers are told of it, and when |
//!
//! One mechanism serves both families. A group is joined by the vnet itself, as the one of those who may have an
//! address, or by a [`Listener`], such as a socket, with a [`Filter`]. What all of them want on one interface is
//! merged, and every change of that is told to the [`Host`], which decides what is sent. Its messages in bytes are
//! the business of each family.
//!
//! The groups that the vnet is in because of what it is, those of its addresses and that of routers, are told of where
//! somebody asks for groups. Where nobody ever has, no router or switch keeps account of groups, and every node would tell
//! of each of its addresses in vain.
//!
//! Groups are as they are on a wire: without the number of a link, which the interface says.

pub(crate) mod filter;
pub(crate) mod report;

use std::borrow::Cow;
use std::collections::BTreeMap;

pub(crate) use filter::Filter;
use report::Host;

use super::addr::Kind;
use super::family::Family;
use crate::base::id::IfId;
use crate::base::rng::Rng;
use crate::base::sorted::Sorted;
use crate::base::time::Instant;

/// Memberships of listeners: each counts for every group and interface. As many sources may they name, together.
const MAX_JOINED: usize = 16_384;
/// Sources that one listener may name in a group.
const MAX_SOURCES: usize = 128;

/// Who listens, by a number that the caller gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Listener(pub u64);

/// Why a group was not joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GroupError {
    /// More than [`MAX_SOURCES`], or more than there may be in all groups together.
    #[error("a group has at most {MAX_SOURCES} sources, and all groups {MAX_JOINED}")]
    Sources,
    /// The listeners of this vnet are in as many groups as they may be in.
    #[error("the vnet has {MAX_JOINED} memberships of groups")]
    Groups,
}

/// Joined groups. Empty, it holds no memory.
#[derive(Debug)]
pub(crate) struct Groups<F: Family> {
    joined: Sorted<(IfId, F::Addr), Members<F>>,
    /// Memberships of listeners, and the sources that they have named.
    held: Held,
    /// What routers are told; made when there is something to tell.
    host: Option<Box<Host<F>>>,
    /// What its times are drawn from.
    seed: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Held {
    memberships: usize,
    sources: usize,
}

impl Held {
    fn put<F: Family>(&mut self, filter: &Filter<F>) {
        self.memberships += 1;
        self.sources += filter.sources.len();
    }

    fn take<F: Family>(&mut self, filter: &Filter<F>) {
        self.memberships -= 1;
        self.sources -= filter.sources.len();
    }
}

/// Who is in one group on one interface.
#[derive(Clone, Debug)]
struct Members<F: Family> {
    /// How often the vnet itself joined it. It hears all sources.
    own: u32,
    listeners: Option<Box<Listeners<F>>>,
}

#[derive(Clone, Debug)]
struct Listeners<F: Family> {
    filters: BTreeMap<Listener, Filter<F>>,
    /// What all of them want, and the vnet itself.
    merged: Filter<F>,
}

impl<F: Family> Members<F> {
    fn none() -> Members<F> {
        Members {
            own: 0,
            listeners: None,
        }
    }

    /// What is wanted of the group on the interface.
    fn wanted(&self) -> Cow<'_, Filter<F>> {
        match &self.listeners {
            Some(listeners) => Cow::Borrowed(&listeners.merged),
            None if self.own > 0 => Cow::Owned(Filter::any()),
            None => Cow::Owned(Filter::none()),
        }
    }

    fn merge(&mut self) {
        let any = (self.own > 0).then(Filter::any);
        match &mut self.listeners {
            Some(listeners) if listeners.filters.is_empty() => self.listeners = None,
            // Whoever hears all hears what anybody wants.
            Some(listeners) if any.is_some() || listeners.filters.values().any(Filter::is_any) => {
                listeners.merged = Filter::any();
            }
            Some(listeners) => {
                listeners.merged = Filter::merged(any.iter().chain(listeners.filters.values()));
            }
            None => {}
        }
    }
}

impl<F: Family> Groups<F> {
    /// No group is joined. When routers are told follows from the seed.
    pub(crate) fn new(seed: u64) -> Groups<F> {
        Groups {
            joined: Sorted::default(),
            held: Held::default(),
            host: None,
            seed,
        }
    }

    /// Forgets everything. Nobody is told.
    pub(crate) fn reset(&mut self) {
        *self = Groups::new(self.seed);
    }

    fn host(&mut self) -> &mut Host<F> {
        let seed = self.seed;
        let new = || Box::new(Host::new(Rng::seeded(seed)));
        self.host.get_or_insert_with(new)
    }

    /// The vnet itself joins `group` on an interface, or counts one more reason. True when it had none.
    pub(crate) fn join(&mut self, group: F::Addr, ifid: IfId) -> bool {
        self.change(group, ifid, |members| {
            members.own = members.own.saturating_add(1);
            members.own == 1
        })
    }

    /// Takes one join back. Does nothing when there is none. True when it was the last.
    pub(crate) fn leave(&mut self, group: F::Addr, ifid: IfId) -> bool {
        self.change(group, ifid, |members| {
            let was = members.own;
            members.own = was.saturating_sub(1);
            was == 1
        })
    }

    /// Says what a listener wants to hear of `group` on an interface from now on: with [`Filter::none`],
    /// nothing.
    ///
    /// # Errors
    /// [`GroupError`]; nothing has changed then.
    pub(crate) fn listen(
        &mut self,
        group: F::Addr,
        ifid: IfId,
        who: Listener,
        filter: Filter<F>,
    ) -> Result<(), GroupError> {
        debug_assert!(F::kind(group) == Kind::Multicast, "the caller has looked");
        let mut held = self.held;
        if let Some(before) = self.filter(group, ifid, who) {
            held.take(before);
        }
        if !filter.is_none() {
            held.put(&filter);
        }
        if filter.sources.len() > MAX_SOURCES || held.sources > MAX_JOINED {
            return Err(GroupError::Sources);
        }
        if held.memberships > MAX_JOINED {
            return Err(GroupError::Groups);
        }
        self.held = held;
        self.change(group, ifid, |members| {
            if filter.is_none() {
                let listeners = members.listeners.as_mut();
                listeners.is_some_and(|l| l.filters.remove(&who).is_some())
            } else {
                let none = || {
                    Box::new(Listeners {
                        filters: BTreeMap::new(),
                        merged: Filter::none(),
                    })
                };
                let listeners = members.listeners.get_or_insert_with(none);
                listeners.filters.insert(who, filter);
                true
            }
        });
        Ok(())
    }

    /// A listener goes away, and leaves every group.
    pub(crate) fn remove_listener(&mut self, who: Listener) {
        for (group, ifid) in self.of_listener(who) {
            let mut held = self.held;
            self.filter(group, ifid, who)
                .inspect(|filter| held.take(filter));
            self.held = held;
            self.change(group, ifid, |members| {
                let listeners = members.listeners.as_mut();
                listeners.is_some_and(|l| l.filters.remove(&who).is_some())
            });
        }
    }

    /// The groups that a listener is in.
    pub(crate) fn of_listener(&self, who: Listener) -> Vec<(F::Addr, IfId)> {
        let of = |members: &Members<F>| {
            let listeners = members.listeners.as_ref();
            listeners.is_some_and(|l| l.filters.contains_key(&who))
        };
        let all = self.joined.iter().filter(|(_, members)| of(members));
        all.map(|(&(ifid, group), _)| (group, ifid)).collect()
    }

    fn members(&self, group: F::Addr, ifid: IfId) -> Option<&Members<F>> {
        let key = (ifid, group);
        let (found, members) = self.joined.first_from(&key, |k| *k < key)?;
        (*found == key).then_some(members)
    }

    /// Changes who is in a group, and tells of it if that changes what is wanted.
    fn change(
        &mut self,
        group: F::Addr,
        ifid: IfId,
        change: impl FnOnce(&mut Members<F>) -> bool,
    ) -> bool {
        let key = (ifid, group);
        let mut members = self.joined.remove(&key).unwrap_or_else(Members::none);
        let before = members.wanted().into_owned();
        let mut is_chosen = members.listeners.is_some();
        let changed = change(&mut members);
        members.merge();
        is_chosen |= members.listeners.is_some();
        let after = members.wanted().into_owned();
        if !after.is_none() {
            self.joined.insert(key, members);
        }
        if before != after && self.tells(group, ifid, is_chosen) {
            self.host().changed(ifid, group, &before, &after);
        }
        changed
    }

    /// Forgets the interface, and every group that was joined on it. Nobody is told.
    pub(crate) fn remove_interface(&mut self, ifid: IfId) {
        let on: Vec<_> = self.on(ifid).map(|(group, _)| (ifid, group)).collect();
        for key in on {
            let listeners = self.joined.remove(&key).and_then(|gone| gone.listeners);
            for filter in listeners.iter().flat_map(|l| l.filters.values()) {
                self.held.take(filter);
            }
        }
        if let Some(host) = &mut self.host {
            host.remove_interface(ifid);
        }
    }

    /// True when packets for `group` that come in on the interface are ours, if we want to hear their source.
    pub(crate) fn is_member(&self, group: F::Addr, ifid: IfId) -> bool {
        group == F::ALL_NODES || self.members(group, ifid).is_some()
    }

    fn is_joined(&self, group: F::Addr, ifid: IfId) -> bool {
        F::is_reported(group) && self.members(group, ifid).is_some()
    }

    /// True when somebody here wants to hear what `source` sends to `group` on the interface.
    #[cfg(test)]
    pub(crate) fn hears(&self, group: F::Addr, ifid: IfId, source: F::Addr) -> bool {
        group == F::ALL_NODES
            || self
                .members(group, ifid)
                .is_some_and(|members| members.wanted().passes(source))
    }

    /// What a listener wants to hear of a group; `None` when it is not in it.
    pub(crate) fn filter(&self, group: F::Addr, ifid: IfId, who: Listener) -> Option<&Filter<F>> {
        let listeners = self.members(group, ifid)?.listeners.as_ref()?;
        listeners.filters.get(&who)
    }

    /// The groups of an interface, with what is wanted of each, in order.
    pub(crate) fn on(&self, ifid: IfId) -> impl Iterator<Item = (F::Addr, Cow<'_, Filter<F>>)> {
        let from = self.joined.from((ifid, F::UNSPECIFIED));
        let on = from.take_while(move |((on, _), _)| *on == ifid);
        on.map(|((_, group), members)| (*group, members.wanted()))
    }

    /// The groups that listeners have joined on an interface, in order.
    pub(crate) fn chosen_on(&self, ifid: IfId) -> impl Iterator<Item = F::Addr> {
        let from = self.joined.from((ifid, F::UNSPECIFIED));
        let on = from.take_while(move |((on, _), _)| *on == ifid);
        let chosen = on.filter(|(_, members)| members.listeners.is_some());
        chosen.map(|((_, group), _)| *group)
    }

    /// How many groups are joined, each interface by itself.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.joined.len()
    }

    /// The groups of an interface of which routers that ask are told.
    fn reported(&self, ifid: IfId) -> impl Iterator<Item = F::Addr> {
        let on = self.on(ifid).map(|(group, _)| group);
        on.filter(|group| F::is_reported(*group))
    }

    /// True when a change of this group, which listeners are in or have been or only the vnet itself, is told.
    fn tells(&self, group: F::Addr, ifid: IfId, is_chosen: bool) -> bool {
        let is_of_node = F::is_of_addresses(group) || group == F::ALL_ROUTERS;
        let was_asked = |host: &Host<F>| host.was_asked(ifid);
        let is_heard = is_chosen || !is_of_node || self.host.as_deref().is_some_and(was_asked);
        F::is_reported(group) && is_heard
    }

    /// What is wanted of a group on an interface.
    pub(crate) fn wanted(&self, group: F::Addr, ifid: IfId) -> Filter<F> {
        let members = self.members(group, ifid);
        members.map_or_else(Filter::none, |members| members.wanted().into_owned())
    }

    /// An interface came up: routers are told of all its groups.
    pub(crate) fn tell_again(&mut self, ifid: IfId) {
        let groups: Vec<_> = self.reported(ifid).collect();
        let groups: Vec<_> = groups
            .into_iter()
            .filter(|group| {
                let members = self.members(*group, ifid);
                let is_chosen = members.is_some_and(|members| members.listeners.is_some());
                self.tells(*group, ifid, is_chosen)
            })
            .collect();
        if groups.is_empty() {
            return;
        }
        self.host().begin_again(ifid);
        for group in groups {
            let wanted = self.wanted(group, ifid);
            self.host().changed(ifid, group, &Filter::none(), &wanted);
        }
    }

    /// When [`Groups::take_due`] has something.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.host.as_ref()?.next_deadline()
    }
}

#[cfg(test)]
mod tests;

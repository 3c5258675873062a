//! The instances of a system, and its recorded steps.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};

use super::error::RegisterError;
use super::steps::{Step, StepOwner};

/// What the registry asks of an instance.
pub(crate) trait Listed {
    fn name(&self) -> &str;
    /// Its place in the order of creation.
    fn number(&self) -> u64;
    fn parent_number(&self) -> Option<u64>;
}

/// The instances and the recorded steps of a system.
pub(crate) struct Registry<C> {
    /// By number, which is the order of creation.
    vnets: BTreeMap<u64, Arc<C>>,
    /// Those that are taken off that list and not gone yet.
    going: BTreeMap<u64, Arc<C>>,
    /// The numbers of parents and their children: who destroys an instance must not look through
    /// all others.
    children: BTreeSet<(u64, u64)>,
    /// The names of all instances, those being made or unmade included, and their numbers.
    names: BTreeMap<String, u64>,
    reserved: u64,
    /// Those that have lent interfaces, by number; also while they are torn down.
    lenders: BTreeMap<u64, Weak<C>>,
    /// Replaced as a whole, so that whoever replays it holds no lock.
    steps: Arc<Vec<Arc<Step<C>>>>,
}

impl<C: Listed> Registry<C> {
    /// Without an instance, and with the library's own steps.
    pub(crate) fn new(builtin: Vec<Step<C>>) -> Registry<C> {
        let mut registry = Registry {
            vnets: BTreeMap::new(),
            going: BTreeMap::new(),
            children: BTreeSet::new(),
            names: BTreeMap::new(),
            reserved: 0,
            lenders: BTreeMap::new(),
            steps: Arc::default(),
        };
        for step in builtin {
            registry.add_step(Arc::new(step));
        }
        registry
    }

    /// Takes a name for an instance that is to be made, and numbers it; `None` when the name is
    /// taken.
    pub(crate) fn reserve(&mut self, name: &str) -> Option<u64> {
        if self.names.contains_key(name) {
            return None;
        }
        self.reserved += 1;
        self.names.insert(name.to_owned(), self.reserved);
        Some(self.reserved)
    }

    /// Gives a name back, when its instance is gone for good.
    pub(crate) fn release(&mut self, name: &str) {
        if let Some(number) = self.names.remove(name) {
            self.lenders.remove(&number);
        }
    }

    /// Notes that an instance lends interfaces, so that they find home.
    pub(crate) fn note_lender(&mut self, core: &Arc<C>) {
        // One that is gone lends nothing, and nobody would take it off again.
        if self.names.get(core.name()) == Some(&core.number()) {
            self.lenders.insert(core.number(), Arc::downgrade(core));
        }
    }

    /// The instance of that number, which has lent interfaces.
    pub(crate) fn lender(&self, number: u64) -> Option<Arc<C>> {
        self.lenders.get(&number)?.upgrade()
    }

    /// Lists an instance that is complete.
    pub(crate) fn publish(&mut self, core: &Arc<C>) {
        self.vnets.insert(core.number(), Arc::clone(core));
        if let Some(parent) = core.parent_number() {
            self.children.insert((parent, core.number()));
        }
    }

    /// Takes an instance off the list: it goes.
    pub(crate) fn withdraw(&mut self, core: &C) {
        let listed = self.vnets.remove(&core.number());
        self.going
            .extend(listed.map(|listed| (core.number(), listed)));
        if let Some(parent) = core.parent_number() {
            self.children.remove(&(parent, core.number()));
        }
    }

    /// Forgets an instance that is gone.
    pub(crate) fn forget(&mut self, core: &C) {
        self.going.remove(&core.number());
    }

    /// The instances that are there and those that go.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<C>> {
        self.vnets.values().chain(self.going.values())
    }

    pub(crate) fn find(&self, name: &str) -> Option<Arc<C>> {
        self.vnets.get(self.names.get(name)?).cloned()
    }

    /// The instances, in the order of their creation.
    pub(crate) fn vnets(&self) -> Vec<Arc<C>> {
        self.vnets.values().cloned().collect()
    }

    /// The children of an instance, in the order of their creation.
    pub(crate) fn children_of(&self, core: &C) -> Vec<Arc<C>> {
        let family = self
            .children
            .range((core.number(), 0)..=(core.number(), u64::MAX));
        family
            .filter_map(|(_, child)| self.vnets.get(child).cloned())
            .collect()
    }

    pub(crate) fn steps(&self) -> Arc<Vec<Arc<Step<C>>>> {
        Arc::clone(&self.steps)
    }

    pub(crate) fn step_names(&self) -> Vec<String> {
        self.steps.iter().map(|r| r.name.clone()).collect()
    }

    /// Adds a step at its place; ties keep the order of registration.
    pub(crate) fn add_step(&mut self, step: Arc<Step<C>>) {
        let key = (step.stage, step.order);
        let steps = Arc::make_mut(&mut self.steps);
        let at = steps.partition_point(|r| (r.stage, r.order) <= key);
        steps.insert(at, step);
    }

    /// The user's step of that name.
    pub(crate) fn step(&self, name: &str) -> Result<Arc<Step<C>>, RegisterError> {
        match self.steps.iter().find(|r| r.name == name) {
            None => Err(RegisterError::NotFound(name.to_owned())),
            Some(r) if r.owner == StepOwner::Library => {
                Err(RegisterError::Builtin(name.to_owned()))
            }
            Some(r) => Ok(Arc::clone(r)),
        }
    }

    pub(crate) fn has_step(&self, name: &str) -> bool {
        self.steps.iter().any(|r| r.name == name)
    }

    /// True when this very step is on the list, not one of the same name.
    pub(crate) fn is_registered(&self, step: &Arc<Step<C>>) -> bool {
        self.steps.iter().any(|r| Arc::ptr_eq(r, step))
    }

    /// Takes a step off the list; false when it is not on it.
    pub(crate) fn remove_step(&mut self, step: &Arc<Step<C>>) -> bool {
        let listed = self.is_registered(step);
        Arc::make_mut(&mut self.steps).retain(|r| !Arc::ptr_eq(r, step));
        listed
    }
}

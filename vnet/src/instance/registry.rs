//! Recorded initialisation. A step holds its init and its uninit together, so that they cannot
//! mispair; built-in layers and users' modules are in one list.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt;
use std::sync::{Arc, Weak};

use super::context;
use super::privilege::Denied;
use super::vnet::{Vnet, VnetCore};
pub(crate) use crate::base::callback::panic_text;
use crate::base::lock::{Mutex, MutexGuard, Rank};

/// What a step reports when it fails.
pub type StepError = Box<dyn Error + Send + Sync>;

/// When in the life of an instance a step runs: earlier stages first on the way up, last on the
/// way down. The order of FreeBSD's `SI_SUB` stages for vnets.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Interface tables.
    Interfaces,
    /// Link layers: neighbours.
    LinkLayers,
    /// Domains: addresses and routes.
    Domains,
    /// Protocols.
    Protocols,
    /// Packet filters.
    Filters,
    /// Interfaces that attach to protocols.
    InterfaceAttach,
    /// What serves users.
    Services,
}

type StepFn = dyn Fn(&Vnet) -> Result<(), StepError> + Send + Sync;

/// A recorded init step and its reverse.
pub struct InitRecord {
    name: String,
    stage: Stage,
    order: i32,
    owner: Owner,
    init: Box<StepFn>,
    uninit: Box<StepFn>,
}

/// Whose step it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Library,
    User,
}

impl InitRecord {
    /// A step named `name` in `stage`. Both functions run with the instance current.
    ///
    /// Steps of one stage run by `order`, then in the order of their registration.
    ///
    /// ```
    /// use std::sync::atomic::{AtomicUsize, Ordering};
    /// use std::sync::Arc;
    /// use vnet::{InitRecord, Stage, System};
    ///
    /// let live = Arc::new(AtomicUsize::new(0));
    /// let (up, down) = (live.clone(), live.clone());
    /// let system = System::virtual_time(1);
    /// let before = system.create("before")?;
    /// system.register(InitRecord::new(
    ///     "counter", Stage::Services, 0,
    ///     move |_| { up.fetch_add(1, Ordering::Relaxed); Ok(()) },
    ///     move |_| { down.fetch_sub(1, Ordering::Relaxed); Ok(()) },
    /// ))?;
    /// let after = system.create("after")?;
    /// assert_eq!(live.load(Ordering::Relaxed), 2);
    /// drop((before, after));
    /// assert_eq!(live.load(Ordering::Relaxed), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(
        name: &str,
        stage: Stage,
        order: i32,
        init: impl Fn(&Vnet) -> Result<(), StepError> + Send + Sync + 'static,
        uninit: impl Fn(&Vnet) -> Result<(), StepError> + Send + Sync + 'static,
    ) -> InitRecord {
        InitRecord {
            name: name.to_owned(),
            stage,
            order,
            owner: Owner::User,
            init: Box::new(init),
            uninit: Box::new(uninit),
        }
    }

    pub(crate) fn builtin(mut self) -> InitRecord {
        self.owner = Owner::Library;
        self
    }

    /// Its name, unique in the system.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its order within its stage.
    pub fn order(&self) -> i32 {
        self.order
    }

    /// Its stage.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    pub(crate) fn run_init(&self, vnet: &Vnet) -> Result<(), StepError> {
        guarded(&*self.init, vnet)
    }

    pub(crate) fn run_uninit(&self, vnet: &Vnet) -> Result<(), StepError> {
        guarded(&*self.uninit, vnet)
    }
}

/// Runs a step with the instance current; a panic in it is its failure, not ours.
fn guarded(step: &StepFn, vnet: &Vnet) -> Result<(), StepError> {
    let run = || {
        let _entered = vnet.enter();
        step(vnet)
    };
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run))
        .unwrap_or_else(|panic| Err(format!("panicked: {}", panic_text(&*panic)).into()))
}

impl fmt::Debug for InitRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "InitRecord({} at {:?}/{})",
            self.name, self.stage, self.order
        )
    }
}

/// Why a step cannot be registered or unregistered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// There is a step of that name.
    #[error("an init step named {0:?} is registered already")]
    Exists(String),
    /// There is no step of that name.
    #[error("there is no init step {0:?}")]
    NotFound(String),
    /// The handle to the system is that of a tenant that may not act on the whole system.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The step belongs to the library.
    #[error("init step {0:?} belongs to the library")]
    Builtin(String),
    /// The step failed in an instance.
    #[error("init step {step:?} failed in vnet {vnet:?}")]
    Failed {
        /// The step's name.
        step: String,
        /// The instance's name.
        vnet: String,
        /// What it said.
        #[source]
        source: StepError,
    },
}

/// The instances and the recorded steps of a system.
pub(crate) struct Registry {
    /// By number, which is the order of creation.
    vnets: BTreeMap<u64, Arc<VnetCore>>,
    /// Those that are taken off that list and not gone yet.
    going: BTreeMap<u64, Arc<VnetCore>>,
    /// The numbers of parents and their children: who destroys an instance must not look through
    /// all others.
    children: BTreeSet<(u64, u64)>,
    /// The names of all instances, those being made or unmade included, and their numbers.
    names: BTreeMap<String, u64>,
    reserved: u64,
    /// Those that have lent interfaces, by number; also while they are torn down.
    lenders: BTreeMap<u64, Weak<VnetCore>>,
    /// Replaced as a whole, so that whoever replays it holds no lock.
    records: Arc<Vec<Arc<InitRecord>>>,
}

/// The registry and its lock.
pub(crate) struct SharedRegistry(Mutex<Registry>);

impl SharedRegistry {
    /// Without an instance, and with the library's own steps.
    pub(crate) fn new(builtin: Vec<InitRecord>) -> SharedRegistry {
        SharedRegistry(Mutex::new(Rank::Registry, Registry::new(builtin)))
    }

    /// Waits for the lock.
    ///
    /// # Panics
    /// When this thread holds a vnet's lock: whoever has the registry may be waiting for that one.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Registry> {
        context::may_lock();
        self.0.lock()
    }
}

impl Registry {
    fn new(builtin: Vec<InitRecord>) -> Registry {
        let mut registry = Registry {
            vnets: BTreeMap::new(),
            going: BTreeMap::new(),
            children: BTreeSet::new(),
            names: BTreeMap::new(),
            reserved: 0,
            lenders: BTreeMap::new(),
            records: Arc::default(),
        };
        for record in builtin {
            registry.add_record(Arc::new(record.builtin()));
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
    pub(crate) fn note_lender(&mut self, core: &Arc<VnetCore>) {
        // One that is gone lends nothing, and nobody would take it off again.
        if self.names.get(&*core.name) == Some(&core.number) {
            self.lenders.insert(core.number, Arc::downgrade(core));
        }
    }

    /// The instance of that number, which has lent interfaces.
    pub(crate) fn lender(&self, number: u64) -> Option<Arc<VnetCore>> {
        self.lenders.get(&number)?.upgrade()
    }

    /// Lists an instance that is complete.
    pub(crate) fn publish(&mut self, core: &Arc<VnetCore>) {
        self.vnets.insert(core.number, Arc::clone(core));
        if let Some(parent) = &core.parent {
            self.children.insert((parent.number, core.number));
        }
    }

    /// Takes an instance off the list: it goes.
    pub(crate) fn withdraw(&mut self, core: &VnetCore) {
        let listed = self.vnets.remove(&core.number);
        self.going
            .extend(listed.map(|listed| (core.number, listed)));
        if let Some(parent) = &core.parent {
            self.children.remove(&(parent.number, core.number));
        }
    }

    /// Forgets an instance that is gone.
    pub(crate) fn forget(&mut self, core: &VnetCore) {
        self.going.remove(&core.number);
    }

    /// The instances that are there and those that go.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<VnetCore>> {
        self.vnets.values().chain(self.going.values())
    }

    pub(crate) fn find(&self, name: &str) -> Option<Arc<VnetCore>> {
        self.vnets.get(self.names.get(name)?).cloned()
    }

    /// The instances, in the order of their creation.
    pub(crate) fn vnets(&self) -> Vec<Arc<VnetCore>> {
        self.vnets.values().cloned().collect()
    }

    /// The children of an instance, in the order of their creation.
    pub(crate) fn children_of(&self, core: &VnetCore) -> Vec<Arc<VnetCore>> {
        let family = self
            .children
            .range((core.number, 0)..=(core.number, u64::MAX));
        family
            .filter_map(|(_, child)| self.vnets.get(child).cloned())
            .collect()
    }

    pub(crate) fn records(&self) -> Arc<Vec<Arc<InitRecord>>> {
        Arc::clone(&self.records)
    }

    pub(crate) fn step_names(&self) -> Vec<String> {
        self.records.iter().map(|r| r.name.clone()).collect()
    }

    /// Adds a step at its place; ties keep the order of registration.
    pub(crate) fn add_record(&mut self, record: Arc<InitRecord>) {
        let key = (record.stage, record.order);
        let records = Arc::make_mut(&mut self.records);
        let at = records.partition_point(|r| (r.stage, r.order) <= key);
        records.insert(at, record);
    }

    /// The user's step of that name.
    pub(crate) fn record(&self, name: &str) -> Result<Arc<InitRecord>, RegisterError> {
        match self.records.iter().find(|r| r.name == name) {
            None => Err(RegisterError::NotFound(name.to_owned())),
            Some(r) if r.owner == Owner::Library => Err(RegisterError::Builtin(name.to_owned())),
            Some(r) => Ok(Arc::clone(r)),
        }
    }

    pub(crate) fn has_record(&self, name: &str) -> bool {
        self.records.iter().any(|r| r.name == name)
    }

    /// True when this very step is on the list, not one of the same name.
    pub(crate) fn is_registered(&self, record: &Arc<InitRecord>) -> bool {
        self.records.iter().any(|r| Arc::ptr_eq(r, record))
    }

    /// Takes a step off the list; false when it is not on it.
    pub(crate) fn remove_record(&mut self, record: &Arc<InitRecord>) -> bool {
        let listed = self.is_registered(record);
        Arc::make_mut(&mut self.records).retain(|r| !Arc::ptr_eq(r, record));
        listed
    }
}

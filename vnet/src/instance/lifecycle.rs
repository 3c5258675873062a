//! The life of an instance, from the first recorded step to the last one undone.
//!
//! Teardown, in this order: refuse new entries; destroy the children, the youngest first; drop the
//! instance's tasks; undo every step that ran, in reverse (the protocols abort their sockets, wake
//! everyone who waits, and release connections in every state, half datagrams and held packets;
//! then interfaces go, and their peers see the wire go down); drop the values of virtualized
//! variables; close the inbox; count what is left, which must be nothing; give the memory back. It
//! needs no clock, no timer and no other vnet's lock, so it never waits.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::context;
use super::failure::Failure;
use super::hierarchy;
use super::loans::Homecoming;
use super::local::Closed;
use super::registry::{InitRecord, RegisterError, Stage};
use super::shutdown::Graceful;
use super::system::{CreateError, SystemCore};
use super::vnet::{Entry, Gone, Inside, Phase, Vnet, VnetCore};
#[cfg(test)]
use crate::base::lock::explore::planted;
use crate::base::time::Duration;
use crate::packet::Cx;
use crate::stack::Census;

/// Longest name of an instance in bytes, without its parent's.
const MAX_NAME: usize = 63;
/// Longest name in bytes with those of all its parents.
const MAX_FULL_NAME: usize = 255;

/// A step that an instance ran.
pub(crate) struct RanStep {
    pub(crate) record: Arc<InitRecord>,
    pub(crate) took: Duration,
}

/// What a step, or a whole teardown, released.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Released(pub(crate) Census);

impl Released {
    /// True when there was nothing.
    pub fn is_zero(&self) -> bool {
        self.0.is_zero()
    }

    /// Sockets of users.
    pub fn sockets(&self) -> u64 {
        self.0.sockets
    }

    /// TCP connections in any state, half-open ones and those in TIME-WAIT included.
    pub fn connections(&self) -> u64 {
        self.0.connections
    }

    /// Interfaces.
    pub fn interfaces(&self) -> u64 {
        self.0.interfaces
    }

    /// Entries in the forwarding databases of bridges.
    pub fn stations(&self) -> u64 {
        self.0.stations
    }

    /// Packets held anywhere: unresolved neighbours, reassembly, receive queues, the inbox.
    pub fn packets(&self) -> u64 {
        self.0.packets
    }

    /// Pending deadlines.
    pub fn deadlines(&self) -> u64 {
        self.0.deadlines
    }

    /// Values of virtualized variables; see [`Local`](super::Local).
    pub fn locals(&self) -> u64 {
        self.0.locals
    }
}

impl fmt::Display for Released {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// One step of a teardown.
#[derive(Clone, Debug)]
pub struct StepReport {
    /// The name of the step that was undone.
    pub name: String,
    /// How long it took.
    pub took: Duration,
    /// What it released.
    pub released: Released,
    /// Its error, if it failed; the teardown continued.
    pub failure: Option<String>,
}

/// What a call that destroys did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It destroyed the instance.
    Destroyed,
    /// Another call had destroyed it, or was doing so; the report goes to that call, and this one
    /// is empty.
    AlreadyGone,
    /// It was called from inside a vnet, with that vnet's lock held, by a
    /// [`FrameTap`](crate::FrameTap) or its destructor. The instance is destroyed as soon as this
    /// thread has left that vnet; this report is empty.
    Deferred,
}

/// How an instance went away.
#[derive(Clone, Debug)]
pub struct DestroyReport {
    /// The instance's name.
    pub vnet: String,
    /// Whether this call destroyed it. Everything below is empty when it did not.
    pub outcome: Outcome,
    /// Why it had ended before, by itself, if it had; see [`Vnet::failure`](crate::Vnet::failure).
    pub failure: Option<Failure>,
    /// See [`Vnet::callback_panics`](crate::Vnet::callback_panics).
    pub callback_panics: u64,
    /// The result of the grace period, after
    /// [`OwnedVnet::begin_shutdown`](crate::OwnedVnet::begin_shutdown).
    pub graceful: Option<Graceful>,
    /// Its children, which were destroyed before it, in that order.
    pub children: Vec<DestroyReport>,
    /// Borrowed interfaces, which were returned, and its own that were lent, which were destroyed
    /// wherever they were.
    pub homecomings: Vec<Homecoming>,
    /// The steps, in the order in which they were undone.
    pub steps: Vec<StepReport>,
    /// How long the whole teardown took.
    pub took: Duration,
    /// What it released, not counting its children.
    pub released: Released,
    /// Tasks that were being polled. A poll cannot be ended from outside and was not waited for:
    /// each task is dropped when its poll returns. More than one only under the threads driver.
    pub busy_tasks: usize,
    /// What was left after the last step. Always zero, unless there is a defect.
    pub leaked: Released,
}

impl fmt::Display for DestroyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for child in &self.children {
            fmt::Display::fmt(child, f)?;
        }
        match self.outcome {
            Outcome::Destroyed => writeln!(
                f,
                "vnet {} destroyed in {:?}: released {}; leaked {}",
                self.vnet, self.took, self.released, self.leaked
            )?,
            Outcome::AlreadyGone => writeln!(f, "vnet {} was gone already", self.vnet)?,
            Outcome::Deferred => writeln!(f, "vnet {} is about to be destroyed", self.vnet)?,
        }
        if let Some(failure) = &self.failure {
            writeln!(f, "  FAILED: {failure}")?;
        }
        if self.callback_panics > 0 {
            writeln!(f, "  callbacks panicked {} times", self.callback_panics)?;
        }
        if self.busy_tasks > 0 {
            writeln!(f, "  tasks still in a poll: {}", self.busy_tasks)?;
        }
        if let Some(graceful) = &self.graceful {
            writeln!(f, "  {graceful}")?;
        }
        for homecoming in &self.homecomings {
            writeln!(f, "  {homecoming}")?;
        }
        for step in &self.steps {
            write!(
                f,
                "  {:<12} {:>10.1?}  {}",
                step.name, step.took, step.released
            )?;
            match &step.failure {
                Some(failure) => writeln!(f, "  FAILED: {failure}")?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}

/// Makes an instance, or leaves nothing.
pub(crate) fn create(
    system: &Arc<SystemCore>,
    name: &str,
    parent: Option<&Arc<VnetCore>>,
) -> Result<Arc<VnetCore>, CreateError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(allowed) {
        return Err(CreateError::BadName(name.to_owned()));
    }
    let full = parent.map(|p| format!("{}.{name}", p.name));
    let name = full.as_deref().unwrap_or(name);
    if name.len() > MAX_FULL_NAME {
        return Err(CreateError::BadName(name.to_owned()));
    }
    let (number, records) = {
        let mut registry = system.registry.lock();
        let number = registry.reserve(name);
        let number = number.ok_or_else(|| CreateError::Exists(name.to_owned()))?;
        (number, registry.records())
    };
    if let Some(Err(refused)) = parent.map(hierarchy::admit) {
        system.registry.lock().release(name);
        return Err(refused);
    }
    let core = VnetCore::new(name, number, system, parent);
    if let Some(Err(Gone)) = parent.map(|p| (system.inherit)(&core, p)) {
        tear_down(&core);
        return Err(CreateError::Gone);
    }
    for record in records.iter() {
        run_step(&core, record).map_err(|failed| unwind(&core, failed))?;
    }
    loop {
        // What was registered or unregistered meanwhile is made up for before anyone can see the
        // instance.
        let lag = {
            let mut registry = system.registry.lock();
            let lag = lag(&core, &registry.records());
            let joined = hierarchy::join(&core).map_err(CreateError::from);
            joined.and_then(|()| {
                if lag.is_none() {
                    begin_to_live(&core)?;
                    registry.publish(&core);
                }
                Ok(lag)
            })
        };
        let lag = lag.inspect_err(|_| drop(tear_down(&core)))?;
        match lag {
            None => break,
            Some(Lag::Unregistered(record)) => {
                let _ = undo_step(&core, &record);
            }
            Some(Lag::Missed(record)) => {
                run_step(&core, &record).map_err(|failed| unwind(&core, failed))?;
            }
        }
    }
    core.driver.dispatch();
    tracing::debug!(target: "vnet::lifecycle", vnet = name, "created");
    Ok(core)
}

/// In what an instance differs from the list of steps.
enum Lag {
    /// It ran a step that is no longer registered.
    Unregistered(Arc<InitRecord>),
    /// It has not run a step that is registered.
    Missed(Arc<InitRecord>),
}

fn lag(core: &Arc<VnetCore>, records: &[Arc<InitRecord>]) -> Option<Lag> {
    core.enter_as(Entry::Lifecycle, |inside, _| {
        let listed = |s: &&RanStep| records.iter().any(|r| Arc::ptr_eq(&s.record, r));
        if let Some(step) = inside.ran.iter().rev().find(|s| !listed(s)) {
            return Some(Lag::Unregistered(Arc::clone(&step.record)));
        }
        let ran = |r: &&Arc<InitRecord>| inside.ran.iter().any(|s| Arc::ptr_eq(&s.record, r));
        let missed = records.iter().find(|r| !ran(r));
        missed.map(|r| Lag::Missed(Arc::clone(r)))
    })
    .unwrap_or_default()
}

/// Begins the instance's end; false when it has begun. It is not entered for that: nothing that is
/// wrong with its stack can come in between.
fn begin_to_die(core: &Arc<VnetCore>) -> bool {
    let mut begun = false;
    core.alive(|live| begun = std::mem::replace(&mut live.phase, Phase::Dying) != Phase::Dying);
    begun
}

/// The instance can be used from now on, unless it has failed already.
fn begin_to_live(core: &Arc<VnetCore>) -> Result<(), CreateError> {
    let mut begun = Err(CreateError::Gone);
    core.alive(|live| {
        begun = match &live.failure {
            Some(failure) => Err(CreateError::Failed(failure.clone())),
            None => {
                live.phase = Phase::Up;
                Ok(())
            }
        };
    });
    begun
}

struct StepFailed {
    step: String,
    source: super::registry::StepError,
}

fn run_step(core: &Arc<VnetCore>, record: &Arc<InitRecord>) -> Result<(), StepFailed> {
    let vnet = Vnet::for_steps(Arc::clone(core));
    let started = core.driver.wall();
    record.run_init(&vnet).map_err(|source| StepFailed {
        step: record.name().to_owned(),
        source,
    })?;
    let step = RanStep {
        record: Arc::clone(record),
        took: core.driver.wall() - started,
    };
    // An instance that was destroyed meanwhile has undone what it knew of; this step is ours.
    let mut kept = false;
    core.alive(|live| {
        kept = live.phase != Phase::Dying;
        #[cfg(test)]
        if planted("a step noted in a vnet that is going") {
            kept = true;
        }
        if kept {
            live.ran.push(step);
        }
    });
    if !kept {
        let _ = record.run_uninit(&vnet);
    } else if !core.system.registry.lock().is_registered(record) {
        #[cfg(test)]
        if planted("a step that is unregistered while it runs") {
            return Ok(());
        }
        // Whoever unregistered it meanwhile may have looked here before it was noted.
        let _ = undo_step(core, record);
    }
    Ok(())
}

/// Undoes a step, unless somebody else does, or it never ran.
fn undo_step(
    core: &Arc<VnetCore>,
    record: &Arc<InitRecord>,
) -> Result<(), super::registry::StepError> {
    let mut ran = None;
    core.alive(|live| {
        let is_it = |s: &RanStep| Arc::ptr_eq(&s.record, record);
        let at = live.ran.iter().position(is_it);
        ran = at.map(|at| live.ran.remove(at));
    });
    let Some(ran) = ran else { return Ok(()) };
    let vnet = Vnet::for_steps(Arc::clone(core));
    ran.record.run_uninit(&vnet)
}

fn unwind(core: &Arc<VnetCore>, failed: StepFailed) -> CreateError {
    if let Some(failure) = tear_down(core).failure {
        return CreateError::Failed(failure);
    }
    CreateError::Init {
        step: failed.step,
        source: failed.source,
    }
}

/// Destroys an instance; does nothing when that has been done, or is being done. Inside a vnet it
/// is put off until that is left.
pub(crate) fn destroy(core: &Arc<VnetCore>) -> DestroyReport {
    if context::is_locked() {
        context::defer(core);
        return nothing_done(core, Outcome::Deferred);
    }
    match begin_to_die(core) {
        true => go_down(core),
        false => nothing_done(core, Outcome::AlreadyGone),
    }
}

/// Destroys an instance whose phase this call has set to dying.
pub(crate) fn go_down(core: &Arc<VnetCore>) -> DestroyReport {
    let children = {
        let mut registry = core.system.registry.lock();
        registry.withdraw(core);
        registry.children_of(core)
    };
    // The youngest first.
    let children = children.iter().rev().map(destroy).collect();
    let report = DestroyReport {
        children,
        ..tear_down(core)
    };
    tracing::debug!(target: "vnet::lifecycle", vnet = &*core.name, took = ?report.took, "destroyed");
    destroy_deferred();
    report
}

/// Destroys what could not be destroyed when this thread was told to.
pub(super) fn destroy_deferred() {
    for core in context::take_deferred() {
        destroy(&core);
    }
}

fn nothing_done(core: &VnetCore, outcome: Outcome) -> DestroyReport {
    DestroyReport {
        vnet: core.name.to_string(),
        outcome,
        failure: None,
        callback_panics: 0,
        graceful: None,
        children: Vec::new(),
        homecomings: Vec::new(),
        steps: Vec::new(),
        took: Duration::ZERO,
        released: Released::default(),
        busy_tasks: 0,
        leaked: Released::default(),
    }
}

/// Undoes every step that ran, in reverse, and gives the memory back.
fn tear_down(core: &Arc<VnetCore>) -> DestroyReport {
    let started = core.driver.wall();
    begin_to_die(core);
    let busy_tasks = core.tasks.close();
    let graceful = Graceful::of(core);
    let vnet = Vnet::for_steps(Arc::clone(core));
    let mut steps: Vec<StepReport> = Vec::new();
    let mut held = census(core);
    let at_first = held;
    while let Some(ran) = last_step(core) {
        let step_started = core.driver.wall();
        let failure = ran.record.run_uninit(&vnet).err().map(|e| e.to_string());
        let left = census(core);
        steps.push(StepReport {
            name: ran.record.name().to_owned(),
            took: core.driver.wall() - step_started,
            released: Released(held.less(&left)),
            failure,
        });
        held = left;
    }
    let mut homecomings = Vec::new();
    core.alive(|live| homecomings = std::mem::take(&mut live.loans.ended));
    let mut released = at_first.less(&held);
    steps.extend(close_locals(core, &mut released));
    released.packets += core.inbox.close().frames;
    let leaked = Released(held);
    let failure = core.failure();
    let remains = {
        // In one step for whoever sums fingerprints up: it is there, or among those that are gone.
        let mut registry = core.system.registry.lock();
        core.system.keep_fingerprint(core.fingerprint());
        registry.forget(core);
        core.bury()
    };
    drop(remains);
    core.driver.dispatch();
    core.system.registry.lock().release(&core.name);
    hierarchy::departed(core);
    context::let_go(core);
    DestroyReport {
        vnet: core.name.to_string(),
        outcome: Outcome::Destroyed,
        failure,
        callback_panics: core.callback_panics.load(Ordering::Relaxed),
        graceful,
        children: Vec::new(),
        homecomings,
        steps,
        took: core.driver.wall() - started,
        released: Released(released),
        busy_tasks,
        leaked,
    }
}

/// Takes the step that ran last off the list of those that did.
fn last_step(core: &VnetCore) -> Option<RanStep> {
    let mut ran = None;
    core.alive(|live| ran = live.ran.pop());
    ran
}

/// Drops the values of virtualized variables: the last step, because any other may use them.
fn close_locals(core: &Arc<VnetCore>, released: &mut Census) -> Option<StepReport> {
    let started = core.driver.wall();
    let closed = core.locals.close();
    let locals = Census {
        locals: closed.values,
        ..Census::default()
    };
    released.add(&locals);
    (closed != Closed::default()).then(|| StepReport {
        name: "locals".to_owned(),
        took: core.driver.wall() - started,
        released: Released(locals),
        failure: closed.failure,
    })
}

fn census(core: &Arc<VnetCore>) -> Census {
    core.enter_as(Entry::Lifecycle, |inside, _| inside.stack.census())
        .unwrap_or_default()
}

/// Registers a step and runs it in every instance there is, or in none.
pub(crate) fn register(system: &Arc<SystemCore>, record: InitRecord) -> Result<(), RegisterError> {
    let result = register_in_all(system, record);
    system.driver.dispatch();
    result
}

fn register_in_all(system: &Arc<SystemCore>, record: InitRecord) -> Result<(), RegisterError> {
    let record = Arc::new(record);
    let vnets = {
        let mut registry = system.registry.lock();
        if registry.has_record(record.name()) {
            return Err(RegisterError::Exists(record.name().to_owned()));
        }
        registry.add_record(Arc::clone(&record));
        registry.vnets()
    };
    for core in &vnets {
        if let Err(failed) = run_step(core, &record) {
            let name = core.name.to_string();
            let _ = withdraw(system, &record);
            return Err(RegisterError::Failed {
                step: failed.step,
                vnet: name,
                source: failed.source,
            });
        }
    }
    Ok(())
}

/// Unregisters a step and undoes it in every instance that ran it.
pub(crate) fn unregister(system: &Arc<SystemCore>, name: &str) -> Result<(), RegisterError> {
    let record = system.registry.lock().record(name)?;
    match withdraw(system, &record) {
        // Somebody else was faster.
        None => Err(RegisterError::NotFound(name.to_owned())),
        Some(result) => result,
    }
}

/// Takes a step off the list and undoes it, the youngest instance first; `None` when it is not
/// on the list.
fn withdraw(
    system: &Arc<SystemCore>,
    record: &Arc<InitRecord>,
) -> Option<Result<(), RegisterError>> {
    let vnets = {
        let mut registry = system.registry.lock();
        if !registry.remove_record(record) {
            return None;
        }
        registry.vnets()
    };
    let mut failure = None;
    for core in vnets.iter().rev() {
        if let Err(source) = undo_step(core, record) {
            failure.get_or_insert(RegisterError::Failed {
                step: record.name().to_owned(),
                vnet: core.name.to_string(),
                source,
            });
        }
    }
    system.driver.dispatch();
    Some(failure.map_or(Ok(()), Err))
}

impl Vnet {
    /// The init steps that this instance ran, in the order in which they ran, and how long each
    /// took.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn init_record(&self) -> Result<Vec<(String, Duration)>, super::Gone> {
        let record = self.core.enter_as(Entry::User, |inside, _| {
            inside
                .ran
                .iter()
                .map(|r| (r.record.name().to_owned(), r.took))
                .collect()
        });
        self.core.driver.dispatch();
        record
    }
}

/// The steps of the protocols. Each one's uninit is its release of everything.
pub(crate) fn protocols() -> Vec<InitRecord> {
    type Undo = fn(&mut Inside, &mut Cx);
    let protocol = |name, stage, undo: Undo| {
        InitRecord::new(
            name,
            stage,
            0,
            |_| Ok(()),
            move |vnet| vnet.core.enter_for_step(undo),
        )
    };
    vec![
        protocol("neigh", Stage::LinkLayers, |i, cx| i.stack.uninit_neigh(cx)),
        protocol("ip", Stage::Domains, |i, cx| i.stack.uninit_ip(cx)),
        protocol("icmp", Stage::Protocols, |_, _| {}),
        protocol("raw", Stage::Protocols, |i, cx| i.stack.uninit_raw(cx)),
        protocol("udp", Stage::Protocols, |i, cx| i.stack.uninit_udp(cx)),
        protocol("tcp", Stage::Protocols, |i, cx| i.stack.uninit_tcp(cx)),
    ]
}

#[cfg(test)]
mod interleavings;

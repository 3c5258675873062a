//! The life of an instance, from the first recorded step to the last one undone.
//!
//! Teardown, in this order: refuse new entries; destroy the children, the youngest first; drop the
//! instance's tasks; undo every step that ran, in reverse (the protocols abort their sockets, wake
//! everyone who waits, and release connections in every state, half datagrams and held packets;
//! then interfaces go, and their peers see the wire go down); drop the values of virtualized
//! variables; close the inbox; count what is left, which must be nothing; give the memory back. It
//! needs no clock, no timer and no other vnet's lock, so it never waits.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::apart::check_no_part;
use super::context;
use super::cores::{Inside, RanStep, Step, SystemCore, VnetCore};
use super::error::{CreateError, RegisterError, StepError};
use super::hierarchy;
use super::init::InitRecord;
use super::locals::Closed;
use super::phase::{Entry, Gone, Phase};
use super::privilege::Privilege;
use super::report::{DestroyReport, Graceful, Outcome, Released, StepReport};
use super::steps::Stage;
use super::vnet::{OwnedVnet, Vnet};
#[cfg(test)]
use crate::base::lock::explore::planted;
use crate::base::time::{Duration, Instant, nanos};
use crate::packet::Cx;
use crate::stack::Census;

/// Longest name of an instance in bytes, without its parent's.
const MAX_NAME: usize = 63;
/// Longest name in bytes with those of all its parents.
const MAX_FULL_NAME: usize = 255;

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
    check_no_part();
    let full = parent.map(|p| format!("{}.{name}", p.name));
    let name = full.as_deref().unwrap_or(name);
    if name.len() > MAX_FULL_NAME {
        return Err(CreateError::BadName(name.to_owned()));
    }
    let (number, steps) = {
        let mut registry = system.registry();
        let number = registry.reserve(name);
        let number = number.ok_or_else(|| CreateError::Exists(name.to_owned()))?;
        (number, registry.steps())
    };
    if let Some(Err(refused)) = parent.map(hierarchy::admit) {
        system.registry().release(name);
        return Err(refused);
    }
    let core = VnetCore::new(name, number, system, parent);
    if let Some(Err(Gone)) = parent.map(|p| (system.inherit)(&core, p)) {
        tear_down(&core);
        return Err(CreateError::Gone);
    }
    // With no room to spare: an instance runs the same steps all its life.
    core.alive(|live| live.inside.ran.reserve_exact(steps.len()));
    let mut laps = Laps::begin(&core);
    for step in steps.iter() {
        run_step(&core, step, &mut laps).map_err(|failed| unwind(&core, failed))?;
    }
    loop {
        // What was registered or unregistered meanwhile is made up for before anyone can see the
        // instance.
        let lag = {
            let mut registry = system.registry();
            let lag = lag(&core, &registry.steps());
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
            Some(Lag::Unregistered(step)) => {
                let _ = undo_step(&core, &step);
            }
            Some(Lag::Missed(step)) => {
                let mut laps = Laps::begin(&core);
                run_step(&core, &step, &mut laps).map_err(|failed| unwind(&core, failed))?;
            }
        }
    }
    core.driver.dispatch();
    tracing::debug!(target: "vnet::lifecycle", vnet = name, "created");
    Ok(core)
}

/// How what an instance ran differs from the list of steps.
enum Lag {
    /// It ran a step that is no longer registered.
    Unregistered(Arc<Step>),
    /// It has not run a step that is registered.
    Missed(Arc<Step>),
}

fn lag(core: &VnetCore, steps: &[Arc<Step>]) -> Option<Lag> {
    let mut lag = None;
    core.alive(|live| {
        let ran = &live.inside.ran;
        let listed = |s: &&RanStep| steps.iter().any(|r| Arc::ptr_eq(&s.step, r));
        let has_run = |r: &&Arc<Step>| ran.iter().any(|s| Arc::ptr_eq(&s.step, r));
        lag = match ran.iter().rev().find(|s| !listed(s)) {
            Some(step) => Some(Lag::Unregistered(Arc::clone(&step.step))),
            None => {
                let missed = steps.iter().find(|r| !has_run(r));
                missed.map(|r| Lag::Missed(Arc::clone(r)))
            }
        };
    });
    lag
}

/// How long one thing after the other takes, with one look at the clock for each.
struct Laps {
    began: Instant,
    last: Instant,
}

impl Laps {
    fn begin(core: &VnetCore) -> Laps {
        let now = core.driver.wall();
        Laps {
            began: now,
            last: now,
        }
    }

    /// Since this was asked last.
    fn next(&mut self, core: &VnetCore) -> Duration {
        let now = core.driver.wall();
        now - std::mem::replace(&mut self.last, now)
    }

    /// All, until this was asked last.
    fn all(&self) -> Duration {
        self.last - self.began
    }
}

/// Begins the instance's end; false when that has begun already. The instance is not entered for it,
/// so that nothing that is wrong with its stack can interfere.
fn begin_to_die(core: &Arc<VnetCore>) -> bool {
    let mut begun = false;
    core.alive(|live| {
        begun = std::mem::replace(&mut live.inside.phase, Phase::Dying) != Phase::Dying
    });
    begun
}

/// The instance can be used from now on, unless it has failed already.
fn begin_to_live(core: &Arc<VnetCore>) -> Result<(), CreateError> {
    let mut begun = Err(CreateError::Gone);
    core.alive(|live| {
        begun = match &live.failure {
            Some(failure) => Err(CreateError::Failed((**failure).clone())),
            None => {
                live.inside.phase = Phase::Up;
                Ok(())
            }
        };
    });
    begun
}

struct StepFailed {
    step: String,
    source: StepError,
}

fn run_step(core: &Arc<VnetCore>, step: &Arc<Step>, laps: &mut Laps) -> Result<(), StepFailed> {
    (step.init)(core).map_err(|source| StepFailed {
        step: step.name.clone(),
        source,
    })?;
    let ran = RanStep {
        step: Arc::clone(step),
        took: nanos(laps.next(core)),
    };
    // An instance that was destroyed meanwhile has undone what it knew of; this step is ours.
    let mut kept = false;
    core.alive(|live| {
        kept = live.inside.phase != Phase::Dying;
        #[cfg(test)]
        if planted("a step noted in a vnet that is going") {
            kept = true;
        }
        if kept {
            live.inside.ran.push(ran);
        }
    });
    if !kept {
        let _ = (step.uninit)(core);
    } else if !core.system.registry().is_registered(step) {
        #[cfg(test)]
        if planted("a step that is unregistered while it runs") {
            return Ok(());
        }
        // Whoever unregistered it meanwhile may have looked here before it was noted.
        let _ = undo_step(core, step);
    }
    Ok(())
}

/// Undoes a step, unless somebody else does, or it never ran.
fn undo_step(core: &Arc<VnetCore>, step: &Arc<Step>) -> Result<(), StepError> {
    let mut ran = None;
    core.alive(|live| {
        let is_it = |s: &RanStep| Arc::ptr_eq(&s.step, step);
        let at = live.inside.ran.iter().position(is_it);
        ran = at.map(|at| live.inside.ran.remove(at));
    });
    let Some(ran) = ran else { return Ok(()) };
    (ran.step.uninit)(core)
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
    check_no_part();
    if context::is_locked() {
        context::defer(core, |core| drop(destroy(core)));
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
        let mut registry = core.system.registry();
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
    context::run_deferred();
    report
}

fn nothing_done(core: &VnetCore, outcome: Outcome) -> DestroyReport {
    DestroyReport {
        vnet: core.name.to_string(),
        outcome,
        failure: None,
        callback_panics: 0,
        graceful: None,
        children: Vec::new(),
        returned: Vec::new(),
        steps: Vec::new(),
        took: Duration::ZERO,
        released: Released::default(),
        busy_tasks: 0,
        leaked: Released::default(),
    }
}

/// Undoes every step that ran, in reverse, and gives the memory back.
fn tear_down(core: &Arc<VnetCore>) -> DestroyReport {
    let mut laps = Laps::begin(core);
    begin_to_die(core);
    let busy_tasks = core.tasks.close();
    let graceful = graceful(core);
    let mut steps: Vec<StepReport> = Vec::new();
    let mut held = census(core);
    let at_first = held;
    laps.next(core);
    while let Some(ran) = last_step(core) {
        let failure = (ran.step.uninit)(core).err().map(|e| e.to_string());
        let left = census(core);
        steps.push(StepReport {
            name: ran.step.name.clone(),
            took: laps.next(core),
            released: Released(held.less(&left)),
            failure,
        });
        held = left;
    }
    let mut returned = Vec::new();
    core.alive(|live| returned = std::mem::take(&mut live.inside.loans.ended));
    let mut released = at_first.less(&held);
    steps.extend(close_locals(core, &mut released, &mut laps));
    released.packets += core.inbox.close().frames;
    let leaked = Released(held);
    let failure = core.failure();
    let remains = {
        // In one step for whoever sums fingerprints up: it is there, or among those that are gone.
        let mut registry = core.system.registry();
        core.system.keep_fingerprint(core.fingerprint());
        registry.forget(core);
        core.bury()
    };
    drop(remains);
    core.driver.dispatch();
    core.system.registry().release(&core.name);
    hierarchy::departed(core);
    context::let_go(core);
    laps.next(core);
    DestroyReport {
        vnet: core.name.to_string(),
        outcome: Outcome::Destroyed,
        failure,
        callback_panics: core.callback_panics.load(Ordering::Relaxed),
        graceful,
        children: Vec::new(),
        returned,
        steps,
        took: laps.all(),
        released: Released(released),
        busy_tasks,
        leaked,
    }
}

/// Takes the step that ran last off the list of those that did.
fn last_step(core: &VnetCore) -> Option<RanStep> {
    let mut ran = None;
    core.alive(|live| ran = live.inside.ran.pop());
    ran
}

/// Drops the values of virtualized variables: the last step, because any other may use them.
fn close_locals(core: &VnetCore, released: &mut Census, laps: &mut Laps) -> Option<StepReport> {
    let closed = core.locals.close();
    let locals = Census {
        locals: closed.values,
        ..Census::default()
    };
    released.add(&locals);
    (closed != Closed::default()).then(|| StepReport {
        name: "locals".to_owned(),
        took: laps.next(core),
        released: Released(locals),
        failure: closed.failure,
    })
}

/// What came of the grace period so far; `None` when the instance was not shut down gracefully.
fn graceful(core: &Arc<VnetCore>) -> Option<Graceful> {
    let graceful = core.enter_as(Entry::Lifecycle, |inside, cx| {
        let drain = inside.drain.as_ref()?;
        Some(drain.so_far(&inside.stack, cx.now))
    });
    graceful.ok().flatten()
}

/// What there is. It is counted in an entry, so that a panic of the stack meanwhile ends the vnet and no more.
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
    let step = Arc::new(record.into_step());
    let vnets = {
        let mut registry = system.registry();
        if registry.has_step(&step.name) {
            return Err(RegisterError::Exists(step.name.clone()));
        }
        registry.add_step(Arc::clone(&step));
        registry.vnets()
    };
    for core in &vnets {
        if let Err(failed) = run_step(core, &step, &mut Laps::begin(core)) {
            let name = core.name.to_string();
            let _ = withdraw(system, &step);
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
    let step = system.registry().step(name)?;
    match withdraw(system, &step) {
        // Somebody else was faster.
        None => Err(RegisterError::NotFound(name.to_owned())),
        Some(result) => result,
    }
}

/// Takes a step off the list and undoes it, the youngest instance first; `None` when it is not
/// on the list.
fn withdraw(system: &Arc<SystemCore>, step: &Arc<Step>) -> Option<Result<(), RegisterError>> {
    let vnets = {
        let mut registry = system.registry();
        if !registry.remove_step(step) {
            return None;
        }
        registry.vnets()
    };
    let mut failure = None;
    for core in vnets.iter().rev() {
        if let Err(source) = undo_step(core, step) {
            failure.get_or_insert(RegisterError::Failed {
                step: step.name.clone(),
                vnet: core.name.to_string(),
                source,
            });
        }
    }
    system.driver.dispatch();
    Some(failure.map_or(Ok(()), Err))
}

impl Vnet {
    /// Makes an instance below this one, by replaying the recorded init steps.
    ///
    /// # Errors
    /// As for [`System::create`](super::System::create). Also: the handle lacks
    /// [`Privilege::Children`], the limit on children is reached, or the vnet is gone.
    ///
    /// ```
    /// use vnet::System;
    ///
    /// let system = System::virtual_time(1);
    /// let a = system.create("a")?;
    /// let b = a.create_child("b")?;
    /// let c = b.create_child("c")?;
    /// assert_eq!(c.name(), "a.b.c");
    /// assert!(a.descendant("b.c").is_some_and(|found| found.is(&c)));
    /// let report = a.destroy();
    /// assert_eq!(report.children[0].vnet, "a.b");
    /// assert_eq!(report.children[0].children[0].vnet, "a.b.c");
    /// assert!(c.interfaces().is_err());
    /// # Ok::<(), vnet::CreateError>(())
    /// ```
    pub fn create_child(&self, name: &str) -> Result<OwnedVnet, CreateError> {
        self.require(Privilege::Children)?;
        create(&self.core.system, name, Some(&self.core)).map(OwnedVnet::new)
    }

    /// The init steps that this instance ran, in the order in which they ran, and how long each
    /// took.
    pub(crate) fn init_record(&self) -> Result<Vec<(String, Duration)>, Gone> {
        let record = self.core.enter_as(Entry::User, |inside, _| {
            inside
                .ran
                .iter()
                .map(|r| (r.step.name.clone(), Duration::from_nanos(r.took)))
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

impl OwnedVnet {
    /// Destroys the instance in order, now: sockets are aborted and every call that waits in it
    /// returns *gone*, connections in any state, incomplete datagrams and held packets are
    /// released, interfaces are removed and their peers see the wire go down, and every recorded
    /// init step is undone in reverse. Nothing in it waits.
    ///
    /// It may be called from anywhere. From inside a vnet (a [`FrameTap`](crate::capture::FrameTap)) it is
    /// [deferred](crate::Outcome::Deferred) until that vnet is left.
    pub fn destroy(self) -> DestroyReport {
        destroy(&self.core)
    }
}

impl Drop for OwnedVnet {
    fn drop(&mut self) {
        destroy(&self.core);
    }
}

#[cfg(test)]
mod interleavings;

//! The life of an instance, from the first recorded step to the last one undone.
//!
//! Teardown, in this order: refuse new entries; undo every step that ran, in reverse (the
//! protocols abort their sockets, wake everyone who waits, and release connections in every
//! state, half datagrams and held packets; then interfaces go, and their peers see the wire go
//! down); close the inbox; count what is left, which must be nothing; give the memory back. It
//! takes no clock, no timer and no other vnet's lock, so there is nothing in it to wait for.

use std::fmt;
use std::sync::Arc;

use super::context;
use super::interfaces::{add_loopback, remove_interface};
use super::registry::{InitRecord, RegisterError, Stage};
use super::system::{CreateError, SystemCore};
use super::vnet::{Entry, Inside, Phase, Vnet, VnetCore};
use crate::base::time::Duration;
use crate::packet::Cx;
use crate::stack::Census;

/// Longest name of an instance in bytes.
const MAX_NAME: usize = 63;

/// A step that an instance ran.
pub(crate) struct RanStep {
    pub(crate) record: Arc<InitRecord>,
    pub(crate) took: Duration,
}

/// What a step, or a whole teardown, gave back.
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

    /// Packets held anywhere: unresolved neighbours, reassembly, receive queues, the inbox.
    pub fn packets(&self) -> u64 {
        self.0.packets
    }

    /// Pending deadlines.
    pub fn deadlines(&self) -> u64 {
        self.0.deadlines
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
    /// What it gave back.
    pub released: Released,
    /// What it said, when it failed; the walk went on.
    pub failure: Option<String>,
}

/// How an instance went away.
#[derive(Clone, Debug)]
pub struct DestroyReport {
    /// The instance's name.
    pub vnet: String,
    /// The steps, in the order in which they were undone.
    pub steps: Vec<StepReport>,
    /// How long the whole took.
    pub took: Duration,
    /// What it gave back.
    pub released: Released,
    /// What was still there after the last step. Always zero, unless there is a defect.
    pub leaked: Released,
}

impl fmt::Display for DestroyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "vnet {} destroyed in {:?}: released {}; leaked {}",
            self.vnet, self.took, self.released, self.leaked
        )?;
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
pub(crate) fn create(system: &Arc<SystemCore>, name: &str) -> Result<Arc<VnetCore>, CreateError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(allowed) {
        return Err(CreateError::BadName(name.to_owned()));
    }
    let (number, records) = {
        let mut registry = system.registry.lock();
        let number = registry.reserve(name);
        let number = number.ok_or_else(|| CreateError::Exists(name.to_owned()))?;
        (number, registry.records())
    };
    let core = VnetCore::new(name, number, system);
    for record in records.iter() {
        run_step(&core, record).map_err(|failed| unwind(&core, failed))?;
    }
    loop {
        // A step registered meanwhile is caught up on before anyone can see the instance.
        let missed = {
            let mut registry = system.registry.lock();
            let missed = missing_step(&core, &registry.records());
            if missed.is_none() {
                set_phase(&core, Phase::Up);
                registry.publish(&core);
            }
            missed
        };
        match missed {
            None => break,
            Some(record) => run_step(&core, &record).map_err(|failed| unwind(&core, failed))?,
        }
    }
    core.driver.dispatch();
    tracing::debug!(target: "vnet::lifecycle", vnet = name, "created");
    Ok(core)
}

fn missing_step(core: &Arc<VnetCore>, records: &[Arc<InitRecord>]) -> Option<Arc<InitRecord>> {
    core.enter_as(Entry::Lifecycle, |inside, _| {
        let ran = |r: &Arc<InitRecord>| inside.ran.iter().any(|s| Arc::ptr_eq(&s.record, r));
        records.iter().find(|r| !ran(r)).cloned()
    })
    .unwrap_or_default()
}

fn set_phase(core: &Arc<VnetCore>, phase: Phase) -> bool {
    core.enter_as(Entry::Lifecycle, |inside, _| {
        std::mem::replace(inside.phase, phase) != phase
    })
    .unwrap_or(false)
}

struct StepFailed {
    step: String,
    source: super::registry::StepError,
}

fn run_step(core: &Arc<VnetCore>, record: &Arc<InitRecord>) -> Result<(), StepFailed> {
    let vnet = Vnet {
        core: Arc::clone(core),
    };
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
    let kept = core.enter_as(Entry::Lifecycle, |inside, _| {
        if *inside.phase == Phase::Dying {
            return false;
        }
        inside.ran.push(step);
        true
    });
    if kept != Ok(true) {
        let _ = record.run_uninit(&vnet);
    }
    Ok(())
}

fn unwind(core: &Arc<VnetCore>, failed: StepFailed) -> CreateError {
    tear_down(core);
    CreateError::Init {
        step: failed.step,
        source: failed.source,
    }
}

/// Destroys an instance; does nothing when that has been done, or is being done.
pub(crate) fn destroy(core: &Arc<VnetCore>) -> DestroyReport {
    if set_phase(core, Phase::Dying) {
        core.system.registry.lock().withdraw(core);
        let report = tear_down(core);
        tracing::debug!(target: "vnet::lifecycle", vnet = &*core.name, took = ?report.took, "destroyed");
        return report;
    }
    DestroyReport {
        vnet: core.name.to_string(),
        steps: Vec::new(),
        took: Duration::ZERO,
        released: Released::default(),
        leaked: Released::default(),
    }
}

/// Undoes every step that ran, in reverse, and gives the memory back.
fn tear_down(core: &Arc<VnetCore>) -> DestroyReport {
    let started = core.driver.wall();
    set_phase(core, Phase::Dying);
    let vnet = Vnet {
        core: Arc::clone(core),
    };
    let mut steps: Vec<StepReport> = Vec::new();
    let mut held = census(core);
    let at_first = held;
    while let Ok(Some(ran)) = core.enter_as(Entry::Lifecycle, |inside, _| inside.ran.pop()) {
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
    let mut released = at_first.less(&held);
    released.packets += core.inbox.close().frames;
    let leaked = Released(held);
    core.bury();
    core.driver.dispatch();
    core.system.registry.lock().release(&core.name);
    context::let_go(core);
    DestroyReport {
        vnet: core.name.to_string(),
        steps,
        took: core.driver.wall() - started,
        released: Released(released),
        leaked,
    }
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
            let _ = unregister(system, record.name());
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
    let vnets = {
        let mut registry = system.registry.lock();
        registry.record(name)?;
        registry.remove_record(name);
        registry.vnets()
    };
    let mut failure = None;
    for core in vnets.iter().rev() {
        let ran = core.enter_as(Entry::Lifecycle, |inside, _| {
            let at = inside.ran.iter().position(|r| r.record.name() == name)?;
            Some(inside.ran.remove(at))
        });
        let Ok(Some(ran)) = ran else { continue };
        let vnet = Vnet {
            core: Arc::clone(core),
        };
        if let Err(source) = ran.record.run_uninit(&vnet) {
            failure.get_or_insert(RegisterError::Failed {
                step: name.to_owned(),
                vnet: core.name.to_string(),
                source,
            });
        }
    }
    system.driver.dispatch();
    failure.map_or(Ok(()), Err)
}

impl Vnet {
    /// The init steps that this instance ran, in the order in which they ran, and how long each
    /// took.
    ///
    /// # Errors
    /// [`Gone`](super::Gone).
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

/// The steps of the library itself. Each protocol's uninit is its release of everything.
pub(crate) fn builtin_layers() -> Vec<InitRecord> {
    type Undo = fn(&mut Inside, &mut Cx);
    let layer = |name, stage, undo: Undo| {
        InitRecord::new(
            name,
            stage,
            0,
            |_| Ok(()),
            move |vnet| Ok(vnet.core.enter_as(Entry::Lifecycle, undo)?),
        )
    };
    vec![
        layer("netif", Stage::Interfaces, |i, cx| {
            for id in i.stack.ifs.ids() {
                remove_interface(i.stack, cx, id);
            }
        }),
        layer("neigh", Stage::LinkLayers, |i, cx| i.stack.uninit_neigh(cx)),
        layer("ip", Stage::Domains, |i, cx| i.stack.uninit_ip(cx)),
        layer("icmp", Stage::Protocols, |_, _| {}),
        layer("raw", Stage::Protocols, |i, cx| i.stack.uninit_raw(cx)),
        layer("udp", Stage::Protocols, |i, cx| i.stack.uninit_udp(cx)),
        layer("tcp", Stage::Protocols, |i, cx| i.stack.uninit_tcp(cx)),
        InitRecord::new(
            "loopback",
            Stage::InterfaceAttach,
            0,
            |vnet| Ok(add_loopback(vnet)?),
            // It goes with the other interfaces.
            |_| Ok(()),
        ),
    ]
}

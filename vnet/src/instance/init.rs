//! Recorded initialisation, as a program writes it. A step holds its init and its uninit together,
//! so that they cannot mispair; built-in layers and users' modules are in one list.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::cores::{Step, VnetCore};
use super::error::StepError;
use super::steps::{Stage, StepOwner};
use super::vnet::Vnet;
use crate::base::callback::panic_text;

/// A recorded init step and its reverse.
pub struct InitRecord(Step);

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
        InitRecord(Step {
            name: name.to_owned(),
            stage,
            order,
            owner: StepOwner::User,
            init: Box::new(move |core| guarded(&init, core)),
            uninit: Box::new(move |core| guarded(&uninit, core)),
        })
    }

    /// The same as one of the library's own steps, which cannot be unregistered.
    pub(crate) fn builtin(self) -> Step {
        Step {
            owner: StepOwner::Library,
            ..self.0
        }
    }

    /// The step that it describes.
    pub(crate) fn into_step(self) -> Step {
        self.0
    }
}

/// Runs a step with the instance current; a panic in it is its failure, not ours.
fn guarded(
    step: impl Fn(&Vnet) -> Result<(), StepError>,
    core: &Arc<VnetCore>,
) -> Result<(), StepError> {
    let vnet = Vnet::for_steps(Arc::clone(core));
    let run = || {
        let _entered = vnet.enter();
        step(&vnet)
    };
    catch_unwind(AssertUnwindSafe(run))
        .unwrap_or_else(|panic| Err(format!("panicked: {}", panic_text(&*panic)).into()))
}

impl fmt::Debug for InitRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Step {
            name, stage, order, ..
        } = &self.0;
        write!(f, "InitRecord({name} at {stage:?}/{order})")
    }
}

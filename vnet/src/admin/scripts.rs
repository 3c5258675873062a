//! Links that change by a script: a task of the instance applies the changes when they are due.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::time::Duration;
use crate::instance::cores::VnetCore;
use crate::instance::vnet::Vnet;
use crate::link::script::{Change, Script};
use crate::netif::AdminError;
use crate::tasks::task::{TaskError, TaskHandle};

/// Label of the random stream of scripts.
const SCRIPT_STREAM: u64 = 0x7363_7269_7074;

/// A script that runs on a link; see [`Vnet::script_link`]. Dropping it leaves the script running.
pub struct LinkScript {
    task: TaskHandle<Result<(), AdminError>>,
    changes: Arc<AtomicU64>,
}

impl Vnet {
    /// Changes the outgoing direction of an interface's link by a script, whose time zero is now.
    /// Each change takes effect as [`Vnet::set_link`] does, at its time, with what the script does
    /// not speak of left as it is.
    ///
    /// The script is a task of this vnet: it ends when the vnet or the interface goes, or the interface
    /// is lent. It follows an interface that is renamed. Under virtual time its changes are events as any others: a script without an end keeps
    /// the world from coming to rest.
    ///
    /// # Errors
    /// There is no interface of that name, it has no link, the vnet is gone, or a value is not
    /// valid for a link.
    ///
    /// ```
    /// use vnet::link::{Change, Shape};
    /// use vnet::{Carrier, System};
    /// use std::time::Duration;
    ///
    /// let system = System::virtual_time(1);
    /// let (a, b) = (system.create("a")?, system.create("b")?);
    /// a.epair("eth0", &b, "eth0")?;
    /// let second = Duration::from_secs(1);
    /// let state = |at, state| (at * second, Change::State(Shape::Const(state)));
    /// let script = a.script_link("eth0", &[state(2, Carrier::Down), state(4, Carrier::Up)])?;
    ///
    /// system.run_for(3 * second)?;
    /// assert_eq!(a.link("eth0")?.state, Carrier::Down);
    /// system.run_for(3 * second)?;
    /// assert_eq!(a.link("eth0")?.state, Carrier::Up);
    /// assert_eq!(script.changes(), 2);
    /// assert!(script.is_finished());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn script_link(
        &self,
        interface: &str,
        events: &[(Duration, Change)],
    ) -> Result<LinkScript, AdminError> {
        let system = self.system();
        let (id, seed) = self.with_netif(interface, |netif, cx| {
            (netif.id, cx.rng.split(SCRIPT_STREAM).u64())
        })?;
        let mut script = Script::new(events, system.now(), seed)?;
        // The first look tells whether the link can be changed at all.
        self.set_link(interface, self.link(interface)?)?;
        let changes = Arc::new(AtomicU64::new(0));
        let made = Arc::clone(&changes);
        let vnet = self.same();
        let running = Running::begin(&vnet);
        let task = self.spawn_future(async move {
            let _running = running;
            while let Some(at) = script.next() {
                system.sleep_until_async(at).await;
                vnet.change_link(id, |now, config| script.advance(now, config))?;
                made.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        Ok(LinkScript { task, changes })
    }
}

/// A script that has not ended: its vnet knows of it.
struct Running(Arc<VnetCore>);

impl Running {
    fn begin(vnet: &Vnet) -> Running {
        vnet.core.sched.count_script(true);
        Running(Arc::clone(&vnet.core))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.sched.count_script(false);
    }
}

impl LinkScript {
    /// How often it has changed the link.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// True if no change is left to make.
    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }

    /// Ends it; the link stays unchanged.
    pub fn stop(self) {
        self.task.abort();
    }

    /// Waits until it has ended, as [`TaskHandle::join`] does.
    ///
    /// # Errors
    /// What ended it early: the interface or its vnet is gone, or a tenant has lost the privilege.
    pub fn join(self) -> Result<(), AdminError> {
        match self.task.join() {
            Ok(result) => result,
            Err(TaskError::Panicked(panic)) => std::panic::resume_unwind(panic.into_payload()),
            Err(_) => Err(AdminError::Gone),
        }
    }
}

impl fmt::Debug for LinkScript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkScript")
            .field("changes", &self.changes())
            .field("finished", &self.is_finished())
            .finish()
    }
}

//! The hosts of one system: what they have in common, and who of them was given something to do.

use std::any::Any;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::task::Waker;

use tokio::runtime::RuntimeMetrics;
use vnet::beside::{Beside, Clock};

use crate::host::{Host, lock};

/// What is kept beside a simulated system.
#[derive(Default)]
pub(crate) struct World {
    /// In the order of their creation.
    hosts: Mutex<Vec<Entry>>,
    /// What happened last was a run in which nothing ran.
    quiet: AtomicBool,
    /// Why nothing can go on.
    failure: OnceLock<String>,
    /// Who waits in `block_on`.
    callers: Mutex<Callers>,
}

struct Entry {
    host: Weak<Host>,
    /// Those of its runtime.
    metrics: RuntimeMetrics,
}

#[derive(Default)]
struct Callers {
    wakers: BTreeMap<u64, Waker>,
    next: u64,
}

impl World {
    /// The world of a system with simulated time.
    pub(crate) fn of(clock: &Clock) -> Arc<World> {
        let beside: Arc<dyn Any + Send + Sync> = clock
            .beside(|| Arc::new(World::default()))
            .expect("the caller has seen that time is simulated");
        beside.downcast().expect("nobody else keeps anything there")
    }

    pub(crate) fn add(&self, host: &Arc<Host>) {
        lock(&self.hosts).push(Entry {
            host: Arc::downgrade(host),
            metrics: host.metrics().clone(),
        });
    }

    pub(crate) fn remove(&self, host: &Host) {
        let entry = {
            let mut hosts = lock(&self.hosts);
            let at = hosts
                .iter()
                .position(|entry| std::ptr::eq(entry.host.as_ptr(), host));
            at.map(|at| hosts.remove(at))
        };
        drop(entry);
    }

    /// Notes that a run was one in which nothing ran, which can have given nobody anything.
    pub(crate) fn was_quiet(&self) {
        self.quiet.store(true, Ordering::Relaxed);
    }

    /// Notes that a task of the vnet `name` has had a thread made, and tells all who wait.
    pub(crate) fn fail(&self, name: &str) {
        let reason = format!(
            "a task in the vnet '{name}' has called tokio::task::spawn_blocking, with which tokio::fs and tokio's own \
             resolver work too: it starts a thread that takes no turns in simulated time. Call Vnet::spawn and await \
             what it sends, or use System::threads()"
        );
        if self.failure.set(reason).is_ok() {
            let callers = std::mem::take(&mut lock(&self.callers).wakers);
            callers.into_values().for_each(Waker::wake);
        }
    }

    /// Why nothing can go on, if it cannot.
    pub(crate) fn failure(&self) -> Option<io::Error> {
        let reason = self.failure.get()?;
        Some(io::Error::new(ErrorKind::Unsupported, reason.as_str()))
    }
}

/// tokio tells nobody when something outside of a runtime wakes one of its tasks: a thread or a task of a vnet by a
/// channel, another runtime, a timer or a socket of the vnet's own.
impl Beside for World {
    fn look(&self) {
        if self.quiet.swap(false, Ordering::Relaxed) {
            return;
        }
        // They are woken, and dropped, without the lock: one may be the last reference.
        let given: Vec<_> = lock(&self.hosts)
            .iter()
            .filter(|entry| entry.metrics.global_queue_depth() > 0)
            .filter_map(|entry| entry.host.upgrade())
            .collect();
        given.iter().for_each(|host| host.wake());
    }
}

/// A call that waits in `block_on`.
pub(crate) struct Caller<'a> {
    world: &'a World,
    key: u64,
}

impl<'a> Caller<'a> {
    pub(crate) fn new(world: &'a World) -> Caller<'a> {
        let mut callers = lock(&world.callers);
        callers.next += 1;
        Caller {
            world,
            key: callers.next,
        }
    }

    /// It is woken by `waker` if nothing can go on.
    pub(crate) fn waits(&mut self, waker: &Waker) {
        let old = lock(&self.world.callers)
            .wakers
            .insert(self.key, waker.clone());
        drop(old);
    }
}

impl Drop for Caller<'_> {
    fn drop(&mut self) {
        let waker = lock(&self.world.callers).wakers.remove(&self.key);
        drop(waker);
    }
}

//! [`System`], the "kernel" that instances share: names, recorded init steps, the driver. There is
//! no process-global state; a test can create any number of systems.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::context::Visitors;
use super::driver::Driver;
use super::failure::Failure;
use super::lifecycle;
use super::limits::LimitReached;
use super::macs::{Macs, TooManyByHand};
use super::messages::Directory;
use super::privilege::{Authority, Denied, Privilege};
use super::registry::{InitRecord, RegisterError, SharedRegistry, StepError};
use super::task::Tasks;
use super::vnet::{Entry, Gone, OwnedVnet, Vnet, VnetCore};
use crate::base::lock::{Mutex, Rank};
use crate::base::rng::Rng;
use crate::base::time::Instant;
use crate::netif::NetifError;
use crate::netif::fingerprint::{Fingerprint, FingerprintSum};
use crate::packet::MacAddr;
use crate::packet::pool::Pool;

/// Memory kept for reuse by the socket layer's copies.
const IDLE_POOL_BYTES: usize = 8 << 20;

/// A set of vnets that share a clock and a scheduler, and can be wired together. Cheap to clone;
/// clones are the same system.
///
/// A handle that a constructor returned reaches the whole system. [`Vnet::system`] describes what a
/// handle obtained from a vnet reaches: without [`Privilege::System`], operations fail with
/// `Denied`, or their documentation says what they do instead.
///
/// The constructor decides what drives it: [`System::threads`] a pool of workers and the wall
/// clock, [`System::virtual_time`] a simulated clock, [`System::manual`] the embedder.
#[derive(Clone)]
pub struct System {
    pub(crate) core: Arc<SystemCore>,
    /// The vnet that it was got from, with the authority there; none, and it reaches everything.
    holder: Option<Arc<Vnet>>,
}

/// What the rooms above the kernel do in the life of every instance.
pub(crate) struct Rooms {
    /// Init steps.
    pub(crate) steps: Vec<InitRecord>,
    /// Gives a child that is being made what it inherits of its parent's tunables.
    pub(crate) inherit: Inherit,
}

/// Called with the child and its parent, with no vnet's lock held.
pub(crate) type Inherit = fn(&Arc<VnetCore>, &Arc<VnetCore>) -> Result<(), Gone>;

/// What the handles of a system share.
pub(crate) struct SystemCore {
    pub(crate) driver: Arc<dyn Driver>,
    pub(crate) pool: Pool,
    pub(crate) registry: SharedRegistry,
    /// See [`Rooms::inherit`].
    pub(crate) inherit: Inherit,
    /// Tasks that belong to no vnet.
    pub(crate) tasks: Arc<Tasks>,
    tasks_made: AtomicU64,
    fingerprinting: AtomicBool,
    /// The sum of the vnets that are gone.
    fingerprint_of_gone: Mutex<FingerprintSum>,
    /// Threads that have been in its vnets.
    pub(crate) visitors: Visitors,
    seed: u64,
    macs: Mutex<Macs>,
    wires_made: AtomicU64,
    loans_made: AtomicU64,
    /// Message buffers by name.
    pub(crate) directory: Arc<Directory>,
}

/// Why an instance cannot be created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// A name is 1 to 63 letters, digits, `-` or `_`.
    #[error("{0:?} is not a valid vnet name: use 1 to 63 letters, digits, '-' and '_'")]
    BadName(String),
    /// There is one of that name.
    #[error("a vnet named {0:?} exists already")]
    Exists(String),
    /// The intended parent is gone.
    #[error("the parent vnet is gone")]
    Gone,
    /// The parent's tenants lack the privilege to make children.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The parent has as many children as it may.
    #[error(transparent)]
    Limit(LimitReached),
    /// Its stack panicked while it was being created, which is a defect of the library.
    #[error("{0}")]
    Failed(Failure),
    /// A recorded init step failed; the ones before it have been undone.
    #[error("init step {step:?} failed")]
    Init {
        /// The step's name.
        step: String,
        /// What it said.
        #[source]
        source: StepError,
    },
}

impl From<Gone> for CreateError {
    fn from(_: Gone) -> CreateError {
        CreateError::Gone
    }
}

impl System {
    /// A system that `driver` drives, and whose instances are administered by what `rooms` above the
    /// kernel have to say in every instance's life.
    pub(crate) fn with_driver(driver: Arc<dyn Driver>, seed: u64, rooms: Rooms) -> System {
        let steps = lifecycle::protocols().into_iter().chain(rooms.steps);
        System {
            core: Arc::new(SystemCore {
                driver,
                pool: Pool::new(IDLE_POOL_BYTES),
                registry: SharedRegistry::new(steps.collect()),
                inherit: rooms.inherit,
                tasks: Tasks::new(),
                tasks_made: AtomicU64::new(0),
                fingerprinting: AtomicBool::new(false),
                fingerprint_of_gone: Mutex::new(Rank::Waker, FingerprintSum::default()),
                visitors: Mutex::new(Rank::Waker, Vec::new()),
                seed,
                macs: Mutex::new(Rank::Waker, Macs::new(seed)),
                wires_made: AtomicU64::new(0),
                loans_made: AtomicU64::new(0),
                directory: Arc::new(Directory::new()),
            }),
            holder: None,
        }
    }

    /// A handle that reaches all of the system.
    pub(crate) fn all(core: Arc<SystemCore>) -> System {
        System { core, holder: None }
    }

    /// The system of a vnet, as far as a handle to that reaches.
    pub(crate) fn through(vnet: &Vnet) -> System {
        let reaches_all = match vnet.authority {
            Authority::System => true,
            Authority::Owner => vnet.core.parent.is_none(),
            Authority::Tenant => false,
        };
        System {
            core: Arc::clone(&vnet.core.system),
            holder: (!reaches_all).then(|| Arc::new(vnet.same())),
        }
    }

    /// Checks that the handle may act on the whole system, and counts it when not.
    pub(crate) fn require_all(&self) -> Result<(), Denied> {
        let holder = self.holder.as_ref();
        holder.map_or(Ok(()), |holder| holder.require(Privilege::System))
    }

    /// The vnet to which, and to whose descendants, the handle is confined.
    pub(crate) fn confined_to(&self) -> Option<&Vnet> {
        let holder = self.holder.as_deref();
        holder.filter(|holder| !holder.may(Privilege::System))
    }

    /// The instances that it reaches, in the order of their creation.
    pub(crate) fn vnets(&self) -> Vec<Arc<VnetCore>> {
        let mut vnets = self.core.registry.lock().vnets();
        if let Some(holder) = self.confined_to() {
            vnets.retain(|core| holder.core.is_family(core));
        }
        vnets
    }

    /// Creates an instance by replaying the recorded init steps.
    ///
    /// # Errors
    /// The name is invalid or taken, or an init step failed; nothing is left then. Also, the handle
    /// lacks [`Privilege::System`]; such a handle creates [children](Vnet::create_child) instead.
    ///
    /// ```
    /// use vnet::System;
    ///
    /// let system = System::virtual_time(1);
    /// let a = system.create("a")?;
    /// assert!(system.create("a").is_err());
    /// let report = a.destroy();
    /// assert!(report.leaked.is_zero());
    /// system.create("a")?;
    /// # Ok::<(), vnet::CreateError>(())
    /// ```
    pub fn create(&self, name: &str) -> Result<OwnedVnet, CreateError> {
        self.require_all()?;
        lifecycle::create(&self.core, name, None).map(OwnedVnet::new)
    }

    /// The instance of that name. A handle without [`Privilege::System`] finds its own vnet and
    /// those below it.
    pub fn vnet(&self, name: &str) -> Option<Vnet> {
        let core = self.core.registry.lock().find(name)?;
        if let Some(holder) = self.confined_to()
            && !holder.core.is_family(&core)
        {
            return None;
        }
        Some(Vnet::tenant(core))
    }

    /// The names of all instances, in the order of their creation; without [`Privilege::System`],
    /// of the handle's own vnet and those below it.
    pub fn names(&self) -> Vec<String> {
        let vnets = self.vnets();
        vnets.iter().map(|v| v.name.to_string()).collect()
    }

    /// Adds an init step, and runs it in every existing instance.
    ///
    /// # Errors
    /// The name is taken, or the step failed in an instance, which is named; the step has then been
    /// undone wherever it ran, and is not registered. Also, the handle lacks [`Privilege::System`].
    pub fn register(&self, record: InitRecord) -> Result<(), RegisterError> {
        self.require_all()?;
        lifecycle::register(&self.core, record)
    }

    /// Removes an init step, and runs its reverse in every instance that ran it.
    ///
    /// # Errors
    /// There is no step of that name, it is a built-in one, or the handle lacks
    /// [`Privilege::System`].
    pub fn unregister(&self, name: &str) -> Result<(), RegisterError> {
        self.require_all()?;
        lifecycle::unregister(&self.core, name)
    }

    /// The recorded init steps, in the order in which a new instance runs them; without
    /// [`Privilege::System`], those that the handle's own vnet has run.
    pub fn init_steps(&self) -> Vec<String> {
        match self.confined_to() {
            None => self.core.registry.lock().step_names(),
            Some(holder) => {
                let ran = holder.init_record().unwrap_or_default();
                ran.into_iter().map(|(step, _)| step).collect()
            }
        }
    }

    /// Fingerprints every frame at every interface from now on, for [`System::fingerprint`]. It
    /// costs a hash of every frame, at both ends of its wire. To cover a whole run, switch it on
    /// before the first vnet is created. It cannot be switched off.
    ///
    /// Without [`Privilege::System`] it is switched on in the handle's own vnet and those that are
    /// below it now.
    pub fn record_fingerprint(&self) {
        if self.confined_to().is_none() {
            self.core.fingerprinting.store(true, Ordering::Relaxed);
        }
        for core in self.vnets() {
            let _ = core.enter_as(Entry::User, |live, _| live.stack.ifs.start_fingerprint());
        }
    }

    /// The fingerprint of everything that has passed any interface, including those that are gone,
    /// since [`System::record_fingerprint`]; `None` when that was not called. `fingerprint` says
    /// what it is made of.
    ///
    /// Under virtual time, and under the manual driver, it is the same for every run of the same
    /// program with the same seed.
    ///
    /// Without [`Privilege::System`] it is that of the handle's own vnet and those that are below it
    /// now.
    ///
    /// ```
    /// use vnet::net::EchoSocket;
    /// use vnet::{Fingerprint, System};
    ///
    /// fn ping(seed: u64) -> Result<Fingerprint, Box<dyn std::error::Error>> {
    ///     let system = System::virtual_time(seed);
    ///     system.record_fingerprint();
    ///     let (a, b) = (system.create("a")?, system.create("b")?);
    ///     a.epair("eth0", &b, "eth0")?;
    ///     a.add_address("eth0", "192.0.2.1/24".parse()?)?;
    ///     b.add_address("eth0", "192.0.2.2/24".parse()?)?;
    ///     let socket = EchoSocket::bind_in(&a)?;
    ///     socket.send_to(1, b"hello", "192.0.2.2".parse()?)?;
    ///     socket.recv()?;
    ///     Ok(system.fingerprint().unwrap())
    /// }
    ///
    /// assert_eq!(ping(1)?, ping(1)?);
    /// assert_ne!(ping(1)?, ping(2)?, "another identifier in the echo requests");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        let mut sum = FingerprintSum::default();
        if let Some(holder) = self.confined_to() {
            if !holder.core.is_fingerprinting() {
                return None;
            }
            let vnets = self.vnets();
            vnets.iter().for_each(|core| sum.add(core.fingerprint()));
        } else {
            if !self.core.is_fingerprinting() {
                return None;
            }
            // None goes while the list is held.
            let registry = self.core.registry.lock();
            sum.add(*self.core.fingerprint_of_gone.lock());
            registry.all().for_each(|core| sum.add(core.fingerprint()));
        }
        Some(sum.fingerprint())
    }

    /// The system's time.
    pub fn now(&self) -> Instant {
        self.core.driver.called();
        self.core.driver.now()
    }

    /// Moves the clock of a [manual](System::manual) system to `now`, does everything that is
    /// due, and returns when there will be more to do. Under the other drivers it does nothing
    /// and returns `None`.
    ///
    /// Each thing is done at its own time, however far the clock jumps: a poll that jumps an hour
    /// gives the same packets at the same times as many polls in between. A `now` that is earlier
    /// than the last one counts as the last one. What is outside the system (the far end of a
    /// [`Port`](crate::Port)) cannot act during a jump: to let it answer, go no further than the
    /// time returned.
    ///
    /// One call handles at most a million events. If there are more, it returns a time that has
    /// already come, and the clock is at that time, not yet at `now`. Call it again.
    ///
    /// Without [`Privilege::System`] it does nothing, counts that as denied, and returns `None`.
    ///
    /// # Panics
    /// When a callback of the program panics.
    pub fn poll(&self, now: Instant) -> Option<Instant> {
        self.require_all().ok()?;
        self.core.driver.poll(now)
    }
}

impl fmt::Debug for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("System")
            .field("vnets", &self.names())
            .field("now", &self.now())
            .finish_non_exhaustive()
    }
}

impl SystemCore {
    /// A MAC address that no other interface of this system has.
    pub(crate) fn next_mac(&self) -> MacAddr {
        self.macs.lock().next()
    }

    /// Sees to it that an address that is given by hand is not given to another interface later.
    pub(crate) fn mac_by_hand(&self, vnet: u64, mac: MacAddr) -> Result<(), NetifError> {
        let given = self.macs.lock().given(vnet, mac);
        given.map_err(|TooManyByHand| NetifError::Limit("addresses given by hand"))
    }

    /// The number of a new wire.
    pub(crate) fn next_wire(&self) -> u64 {
        self.wires_made.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The serial number of a loan.
    pub(crate) fn next_loan(&self) -> u64 {
        self.loans_made.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The number of a new task.
    pub(crate) fn next_task(&self) -> u64 {
        self.tasks_made.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// True when vnets are to fingerprint their frames.
    pub(crate) fn is_fingerprinting(&self) -> bool {
        self.fingerprinting.load(Ordering::Relaxed)
    }

    /// Keeps the fingerprint of a vnet that goes.
    pub(crate) fn keep_fingerprint(&self, sum: FingerprintSum) {
        self.fingerprint_of_gone.lock().add(sum);
    }

    /// The seed of the instance that is made as the `number`th.
    pub(crate) fn seed_of(&self, number: u64) -> u64 {
        Rng::seeded(self.seed).split(number).u64()
    }
}

impl Drop for SystemCore {
    fn drop(&mut self) {
        self.tasks.close();
        self.driver.shutdown();
    }
}

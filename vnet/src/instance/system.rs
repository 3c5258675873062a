//! [`System`], the "kernel" that instances share: names, recorded init steps, the driver. There is
//! no process-global state; a test can create any number of systems.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::cores::{Inherit, SystemCore, VnetCore};
use super::driver::Driver;
use super::error::{CreateError, RegisterError};
use super::init::InitRecord;
use super::lifecycle;
use super::phase::Entry;
use super::privilege::{Authority, Denied, Privilege};
use super::vnet::{OwnedVnet, Vnet};
use crate::base::time::Instant;
use crate::netif::fingerprint::{Fingerprint, FingerprintSum};

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
    /// The vnet from which it was obtained, with the authority there; without one, it reaches
    /// everything.
    holder: Option<Arc<Vnet>>,
}

/// Two handles are equal when they are to the same system, however far they reach.
impl PartialEq for System {
    fn eq(&self, other: &System) -> bool {
        Arc::ptr_eq(&self.core, &other.core)
    }
}

impl Eq for System {}

/// What the layers above the kernel do in the life of every instance.
pub(crate) struct Rooms {
    /// Init steps.
    pub(crate) steps: Vec<InitRecord>,
    /// Gives a child that is being made what it inherits from its parent.
    pub(crate) inherit: Inherit,
}

impl System {
    /// A system that `driver` drives. `rooms` is what the layers above the kernel contribute to the
    /// life of every instance.
    pub(crate) fn with_driver(driver: Arc<dyn Driver>, seed: u64, rooms: Rooms) -> System {
        let steps = lifecycle::protocols().into_iter().chain(rooms.steps);
        let steps = steps.map(InitRecord::builtin);
        System {
            core: SystemCore::new(driver, seed, steps.collect(), rooms.inherit),
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
        let mut vnets = self.core.registry().vnets();
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
        let core = self.core.registry().find(name)?;
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
            None => self.core.registry().step_names(),
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
            let registry = self.core.registry();
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

    /// True when the system's time is not that of the real world: under [`System::virtual_time`] and
    /// [`System::manual`].
    pub fn is_simulated(&self) -> bool {
        self.core.driver.is_simulated()
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

impl Vnet {
    /// The system it lives in, as far as this handle reaches.
    ///
    /// The owner's handle to an instance without a parent reaches the whole system. Any other handle
    /// does so only while it has [`Privilege::System`](crate::Privilege). Otherwise time passes and
    /// tasks run as usual, but the system has no instances other than this one and its descendants,
    /// and what acts on the whole system is denied.
    ///
    /// ```
    /// use std::time::Duration;
    /// use vnet::{CreateError, Denied, Privilege, Privileges, System};
    ///
    /// let system = System::virtual_time(1);
    /// let (a, _b) = (system.create("a")?, system.create("b")?);
    /// a.set_privileges(Privileges::ALL)?;
    /// let confined = a.clone().system();
    /// confined.sleep(Duration::from_secs(1))?;
    /// assert_eq!(confined.names(), ["a"]);
    /// let denied = confined.create("c").unwrap_err();
    /// assert!(matches!(denied, CreateError::Denied(Denied(Privilege::System))));
    /// assert_eq!(a.system().names(), ["a", "b"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn system(&self) -> System {
        System::through(self)
    }
}

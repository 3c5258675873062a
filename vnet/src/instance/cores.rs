//! What all handles of an instance share, and what those of a system do: [`VnetCore`] and
//! [`SystemCore`]. They name each other, and everything that an instance consists of. How an instance
//! is entered is in `entry`; what is done with it, in the files that import this one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

use slotmap::{Key, KeyData};

use super::attendance::Lines;
use super::directory::{Directory, Slot};
use super::drain::Drain;
use super::driver::Driver;
use super::journal::Journal;
use super::loans::Loans;
use super::locals::Locals;
use super::macs::{Macs, TooManyByHand};
use super::phase::{Gone, Phase};
use super::privilege::{Mask, Privileges};
use super::processor::Processor;
use super::registry::{Listed, Registry};
use super::report::Failure;
use super::steps;
use super::task::Tasks;
use super::trail::Visitors;
use crate::base::heap::Ticket;
use crate::base::lock::{Mutex, Rank};
use crate::base::rng::Rng;
use crate::base::stats::Stats;
use crate::base::time::Instant;
use crate::netif::fingerprint::FingerprintSum;
use crate::netif::inbox::Batch;
use crate::netif::{AdminError, Doorbell, Inbox};
use crate::packet::MacAddr;
use crate::packet::pool::Pool;
use crate::stack::Stack;

/// Memory kept for reuse by the socket layer's copies.
const IDLE_POOL_BYTES: usize = 8 << 20;

/// A recorded step of an instance.
pub(crate) type Step = steps::Step<VnetCore>;

/// One that an instance ran.
pub(crate) type RanStep = steps::RanStep<VnetCore>;

/// What all handles and sockets of an instance share.
pub(crate) struct VnetCore {
    pub(crate) name: Box<str>,
    /// Its place in the order of creation.
    pub(crate) number: u64,
    pub(crate) system: Arc<SystemCore>,
    /// The instance that made it.
    pub(crate) parent: Option<Arc<VnetCore>>,
    pub(crate) driver: Arc<dyn Driver>,
    pub(crate) inbox: Arc<Inbox>,
    /// Its ways out that a thread which waits for something in it may attend to.
    pub(crate) lines: Lines,
    pub(crate) sched: Sched,
    /// What it uses of the processors, and may use.
    pub(crate) processor: Arc<Processor>,
    /// Its virtualized variables, reached without its lock.
    pub(crate) locals: Locals<VnetCore>,
    /// What its tenants may do.
    pub(crate) privileges: Mask,
    /// Its tasks.
    pub(crate) tasks: Arc<Tasks>,
    /// What was said while it was current, or about it.
    pub(crate) messages: Slot,
    /// Panics of callbacks that nobody was given.
    pub(super) callback_panics: AtomicU64,
    pub(super) state: Mutex<State>,
}

/// A driver's notes about a vnet.
pub(crate) struct Sched {
    /// The driver's own state; zero at first.
    pub state: AtomicU8,
    /// The vnet comes up no more.
    pub gone: AtomicBool,
    /// More comes in than the vnet can take in.
    pub behind: AtomicBool,
    /// Where the driver has noted that; changed with the driver's lock held.
    noted: AtomicU64,
    /// How many timers have been set in the vnet.
    timers: AtomicU64,
    /// How many scripts run on its links.
    scripts: AtomicU32,
}

impl Sched {
    fn new() -> Sched {
        Sched {
            state: AtomicU8::new(0),
            gone: AtomicBool::new(false),
            behind: AtomicBool::new(false),
            noted: AtomicU64::new(Ticket::default().data().as_ffi()),
            timers: AtomicU64::new(0),
            scripts: AtomicU32::new(0),
        }
    }

    /// Counts a timer that is set in the vnet; says how many there were before.
    pub(crate) fn count_timer(&self) -> u64 {
        self.timers.fetch_add(1, Ordering::Relaxed)
    }

    /// Counts a script that begins on a link, or one that ends.
    pub(crate) fn count_script(&self, begins: bool) {
        match begins {
            true => self.scripts.fetch_add(1, Ordering::Relaxed),
            false => self.scripts.fetch_sub(1, Ordering::Relaxed),
        };
    }

    /// True while a script runs on one of the vnet's links.
    pub(crate) fn is_scripted(&self) -> bool {
        self.scripts.load(Ordering::Relaxed) > 0
    }

    /// Where the driver has noted when it will service the vnet.
    pub(crate) fn ticket(&self) -> Ticket {
        KeyData::from_ffi(self.noted.load(Ordering::Relaxed)).into()
    }

    /// Notes that.
    pub(crate) fn set_ticket(&self, ticket: Ticket) {
        self.noted.store(ticket.data().as_ffi(), Ordering::Relaxed);
    }
}

pub(super) enum State {
    Alive(Box<Live>),
    Gone,
}

/// What an instance consisted of, to be dropped.
#[must_use = "it is to be dropped without a lock"]
pub(crate) struct Remains(#[expect(dead_code, reason = "held to be dropped")] State);

/// What an instance consists of while it is alive.
pub(crate) struct Live {
    pub(crate) inside: Inside,
    /// Why it ended by itself, if it did.
    pub(super) failure: Option<Box<Failure>>,
    pub(super) rng: Rng,
    pub(super) stats: Stats,
}

/// What an entry sees of it besides the context.
pub(crate) struct Inside {
    pub(crate) stack: Stack,
    pub(crate) phase: Phase,
    pub(crate) ran: Vec<RanStep>,
    pub(crate) loans: Loans<VnetCore>,
    pub(crate) drain: Option<Box<Drain>>,
    pub(crate) journal: Journal,
    pub(super) due: Batch,
    /// When this entry wants the next one besides what the stack has due: for what is in the inbox.
    pub(super) come_again: Instant,
}

impl Live {
    pub(crate) fn services(&self) -> u64 {
        self.stats.services
    }
}

impl VnetCore {
    pub(crate) fn new(
        name: &str,
        number: u64,
        system: &Arc<SystemCore>,
        parent: Option<&Arc<VnetCore>>,
    ) -> Arc<VnetCore> {
        // What reaches beyond an instance is given to a child by name only.
        let mask = match parent {
            Some(parent) => parent.privileges.get() & Privileges::ALL,
            None => Privileges::WITH_SYSTEM,
        };
        let mut rng = Rng::seeded(system.seed_of(number));
        let mut stack = Stack::new(&mut rng, name);
        if system.is_fingerprinting() {
            stack.ifs.start_fingerprint();
        }
        let processor = Arc::new(Processor::new());
        let core = Arc::new(VnetCore {
            name: name.into(),
            number,
            system: Arc::clone(system),
            parent: parent.cloned(),
            driver: Arc::clone(&system.driver),
            inbox: Arc::new(Inbox::new()),
            lines: Lines::new(),
            sched: Sched::new(),
            processor: Arc::clone(&processor),
            locals: Locals::new(),
            privileges: Mask::new(mask),
            tasks: Tasks::new(processor),
            messages: Slot::default(),
            callback_panics: AtomicU64::new(0),
            state: Mutex::new(
                Rank::Vnet,
                State::Alive(Box::new(Live {
                    inside: Inside {
                        stack,
                        phase: Phase::Starting,
                        ran: Vec::new(),
                        loans: Loans::default(),
                        drain: None,
                        journal: Journal::default(),
                        due: Batch::default(),
                        come_again: Instant::MAX,
                    },
                    failure: None,
                    rng,
                    stats: Stats::default(),
                })),
            ),
        });
        system.directory.welcome(&core.name, &core.messages);
        let weak = Arc::downgrade(&core);
        core.inbox.set_doorbell(weak, core.driver.is_punctual());
        core
    }

    /// Takes what the instance consists of, to be dropped without any lock; what is left of it is a
    /// name.
    pub(crate) fn bury(&self) -> Remains {
        let remains = Remains(std::mem::replace(&mut *self.state.lock(), State::Gone));
        // A thread that ends may know it a little longer; what happens must not depend on that. It comes up no more.
        self.sched.gone.store(true, Ordering::Release);
        self.inbox.armed.end();
        remains
    }
}

impl Listed for VnetCore {
    fn name(&self) -> &str {
        &self.name
    }

    fn number(&self) -> u64 {
        self.number
    }

    fn parent_number(&self) -> Option<u64> {
        self.parent.as_ref().map(|parent| parent.number)
    }
}

impl Doorbell for VnetCore {
    fn ring(self: Arc<VnetCore>, at: Instant) {
        self.driver.ready(&self, at);
    }
}

/// Called with the child and its parent, with no vnet's lock held.
pub(crate) type Inherit = fn(&Arc<VnetCore>, &Arc<VnetCore>) -> Result<(), Gone>;

/// What the handles of a system share.
pub(crate) struct SystemCore {
    pub(crate) driver: Arc<dyn Driver>,
    pub(crate) pool: Pool,
    /// See [`SystemCore::registry`].
    pub(super) registry: Mutex<Registry<VnetCore>>,
    /// See [`Rooms::inherit`](super::system::Rooms::inherit).
    pub(crate) inherit: Inherit,
    /// Tasks that belong to no vnet.
    pub(crate) tasks: Arc<Tasks>,
    tasks_made: AtomicU64,
    pub(super) fingerprinting: AtomicBool,
    /// The sum of the vnets that are gone.
    pub(super) fingerprint_of_gone: Mutex<FingerprintSum>,
    /// Threads that have been in its vnets.
    pub(crate) visitors: Visitors,
    seed: u64,
    macs: Mutex<Macs>,
    wires_made: AtomicU64,
    loans_made: AtomicU64,
    /// Message buffers by name.
    pub(crate) directory: Arc<Directory>,
}

impl SystemCore {
    /// One without an instance.
    pub(crate) fn new(
        driver: Arc<dyn Driver>,
        seed: u64,
        steps: Vec<Step>,
        inherit: Inherit,
    ) -> Arc<SystemCore> {
        Arc::new(SystemCore {
            driver,
            pool: Pool::new(IDLE_POOL_BYTES),
            registry: Mutex::new(Rank::Registry, Registry::new(steps)),
            inherit,
            tasks: Tasks::new(Arc::new(Processor::new())),
            tasks_made: AtomicU64::new(0),
            fingerprinting: AtomicBool::new(false),
            fingerprint_of_gone: Mutex::new(Rank::Waker, FingerprintSum::default()),
            visitors: Mutex::new(Rank::Waker, Vec::new()),
            seed,
            macs: Mutex::new(Rank::Waker, Macs::new(seed)),
            wires_made: AtomicU64::new(0),
            loans_made: AtomicU64::new(0),
            directory: Arc::new(Directory::new()),
        })
    }

    /// A MAC address that no other interface of this system has.
    pub(crate) fn next_mac(&self) -> MacAddr {
        self.macs.lock().next()
    }

    /// Sees to it that an address that is given by hand is not given to another interface later.
    pub(crate) fn mac_by_hand(&self, vnet: u64, mac: MacAddr) -> Result<(), AdminError> {
        let given = self.macs.lock().given(vnet, mac);
        given.map_err(|TooManyByHand| AdminError::Limit("addresses given by hand"))
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

//! The handles of an instance, and the core they share.

use std::cell::Cell;
use std::fmt;
use std::ops::Deref;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use slotmap::{Key, KeyData};

use super::context::{self, within_lock};
use super::driver::Driver;
use super::failure::Failure;
use super::journal::Journal;
use super::lifecycle::{DestroyReport, RanStep};
use super::loans::Loans;
use super::local::Locals;
use super::messages::Slot;
pub(crate) use super::phase::{Entry, Phase};
use super::privilege::{Authority, Mask, Privileges};
use super::registry::StepError;
use super::shutdown::Drain;
use super::system::{System, SystemCore};
use super::task::Tasks;
use crate::base::callback;
use crate::base::heap::Ticket;
#[cfg(test)]
use crate::base::lock::explore::planted;
use crate::base::lock::{Mutex, Rank};
use crate::base::rng::Rng;
use crate::base::stats::{DropReason, Stats};
use crate::base::time::Instant;
use crate::netif::Inbox;
use crate::netif::fingerprint::FingerprintSum;
use crate::netif::inbox::Batch;
use crate::packet::{Cx, Out};
use crate::stack::{Stack, rx, tx};
use crate::trace;

/// A defect for tests of the order of frames.
#[cfg(test)]
pub(crate) const LATE: &str = "what is sent is put into queues without the lock";

/// Items a vnet takes in before it lets another one have the thread.
const SERVICE_BATCH: usize = 256;

/// The instance is gone or is being torn down: it refuses every operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the vnet is gone")]
pub struct Gone;

/// A handle to an instance for its users. Cheap to clone.
///
/// It keeps nothing alive: when the [`OwnedVnet`] is destroyed, every operation through a handle
/// or a socket returns *gone*.
///
/// What may be done through it is limited by the instance's privileges. The
/// handle inside an [`OwnedVnet`] is the owner's and is not limited; every clone is a tenant's.
pub struct Vnet {
    pub(crate) core: Arc<VnetCore>,
    pub(crate) authority: Authority,
}

/// The handle of an instance's owner. Dropping it destroys the instance, in order and promptly.
///
/// It dereferences to [`Vnet`], which has the operations. What is done through this handle, or
/// through a reference to it, is administration and needs no privilege; a clone of it is a tenant's
/// handle, which does.
pub struct OwnedVnet {
    vnet: Vnet,
}

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
    pub(crate) sched: Sched,
    /// Its virtualized variables, reached without its lock.
    pub(crate) locals: Locals,
    /// What its tenants may do.
    pub(crate) privileges: Mask,
    /// Its tasks.
    pub(crate) tasks: Arc<Tasks>,
    /// What was said while it was current, or about it.
    pub(crate) messages: Slot,
    /// Panics of callbacks that nobody was given.
    pub(super) callback_panics: AtomicU64,
    state: Mutex<State>,
}

/// A driver's notes about a vnet.
pub(crate) struct Sched {
    /// The driver's own state; zero at first.
    pub state: AtomicU8,
    /// When the driver will service the vnet anyway, in nanoseconds.
    pub armed: AtomicU64,
    /// Where the driver has noted that; changed with the driver's lock held.
    noted: AtomicU64,
}

impl Sched {
    fn new() -> Sched {
        Sched {
            state: AtomicU8::new(0),
            armed: AtomicU64::new(u64::MAX),
            noted: AtomicU64::new(Ticket::default().data().as_ffi()),
        }
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

enum State {
    Alive(Box<Live>),
    Gone,
}

/// What an instance consisted of, to be dropped.
#[must_use = "it is to be dropped without a lock"]
pub(crate) struct Remains(#[expect(dead_code, reason = "held to be dropped")] State);

/// What an instance consists of while it is alive.
pub(crate) struct Live {
    pub(crate) stack: Stack,
    pub(crate) phase: Phase,
    pub(crate) ran: Vec<RanStep>,
    pub(super) loans: Loans<VnetCore>,
    pub(super) drain: Option<Drain>,
    pub(crate) journal: Journal,
    /// Why it ended by itself, if it did.
    pub(super) failure: Option<Failure>,
    pub(super) rng: Rng,
    pub(super) stats: Stats,
    /// In a box: it is given away with each entry that has effects.
    pub(super) out: Box<Out>,
    pub(super) due: Batch,
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
        let mut stack = Stack::new(&mut rng);
        if system.is_fingerprinting() {
            stack.ifs.start_fingerprint();
        }
        let core = Arc::new(VnetCore {
            name: name.into(),
            number,
            system: Arc::clone(system),
            parent: parent.cloned(),
            driver: Arc::clone(&system.driver),
            inbox: Arc::new(Inbox::new()),
            sched: Sched::new(),
            locals: Locals::new(),
            privileges: Mask::new(mask),
            tasks: Tasks::new(),
            messages: Slot::default(),
            callback_panics: AtomicU64::new(0),
            state: Mutex::new(
                Rank::Vnet,
                State::Alive(Box::new(Live {
                    stack,
                    phase: Phase::Starting,
                    ran: Vec::new(),
                    loans: Loans::default(),
                    drain: None,
                    journal: Journal::default(),
                    failure: None,
                    rng,
                    stats: Stats::default(),
                    out: Box::default(),
                    due: Batch::default(),
                })),
            ),
        });
        system.directory.welcome(&core);
        let weak = Arc::downgrade(&core);
        core.inbox.set_doorbell(Box::new(RingService(weak)));
        core
    }

    /// Enters the instance: runs `f` on its stack with the vnet current, sends what that made
    /// ready to send, and carries out the effects on others after the lock is released.
    #[inline]
    pub(crate) fn with<R>(
        self: &Arc<Self>,
        f: impl FnOnce(&mut Stack, &mut Cx) -> R,
    ) -> Result<R, Gone> {
        let result = self.enter_as(Entry::User, |live, cx| f(live.stack, cx));
        self.driver.dispatch();
        result
    }

    /// Enters the instance as `entry`, as [`VnetCore::with`] does but for the dispatch.
    ///
    /// # Panics
    /// When a callback has panicked that this entry called, and the entry is a user's: after all
    /// else was done, here and in the vnets that it made ready. A panic of the stack is none of the
    /// caller's: it ends the instance, and is *gone* to the caller.
    pub(crate) fn enter_as<R>(
        self: &Arc<Self>,
        entry: Entry,
        f: impl FnOnce(&mut Inside, &mut Cx) -> R,
    ) -> Result<R, Gone> {
        let (result, panic) = self.enter(entry, f);
        if let Some(panic) = panic {
            match entry {
                Entry::User => self.give_back(panic),
                Entry::Service | Entry::Lifecycle => self.note_panic(panic),
            }
        }
        result
    }

    /// Enters the instance for a step of its own, whose failure the panic of a callback is.
    pub(crate) fn enter_for_step<R>(
        self: &Arc<Self>,
        f: impl FnOnce(&mut Inside, &mut Cx) -> R,
    ) -> Result<R, StepError> {
        match self.enter(Entry::Lifecycle, f) {
            (result, None) => Ok(result?),
            (_, Some(panic)) => {
                let text = format!("panicked: {}", callback::panic_text(&*panic));
                callback::discard(panic);
                Err(text.into())
            }
        }
    }

    /// Enters the instance; also returns the panic of a callback that was called by that.
    #[inline]
    fn enter<R>(
        self: &Arc<Self>,
        entry: Entry,
        f: impl FnOnce(&mut Inside, &mut Cx) -> R,
    ) -> (Result<R, Gone>, Option<callback::Payload>) {
        let entered = within_lock(self, || {
            let mut state = self.state.lock();
            // Read under the lock: the time does not run backwards from one entry to the next.
            let now = self.driver.now();
            let live = match &mut *state {
                State::Alive(live) if live.phase.admits(entry) => live,
                _ => return None,
            };
            let worked = panic::catch_unwind(AssertUnwindSafe(|| live.work(now, f)));
            let (ended, next) = match worked {
                Ok((result, next)) => (Ok(result), next),
                Err(panic) => (Err(live.fail(now, panic)), None),
            };
            Some((ended, next, take_out(&mut live.out)))
        });
        let Some((ended, next, out)) = entered.flatten() else {
            return (Err(Gone), None);
        };
        let panic = self.leave(next, out);
        let result = ended.map_err(|wreckage| self.clear_away(wreckage));
        if entry != Entry::Lifecycle && context::has_deferred() {
            super::lifecycle::destroy_deferred();
        }
        (result, panic)
    }

    /// Tells the driver of the `next` deadline, and others of what an entry has done to them. The
    /// vnet's lock is not held. All entries share one copy, which stays in the instruction cache.
    #[inline(never)]
    fn leave(
        self: &Arc<Self>,
        next: Option<Instant>,
        out: Option<Box<Out>>,
    ) -> Option<callback::Payload> {
        #[cfg(test)]
        let out = out.map(|mut out| {
            if planted(LATE) {
                out.deliver(self.driver.now(), |_, _| {});
            }
            out
        });
        if let Some(at) = next {
            self.arm(at);
        }
        out.and_then(|out| context::in_effects(|| carry_out(out)))
    }

    /// Takes in what is due and does what is due: the only way in which frames and deadlines
    /// reach a stack. Called by drivers. The panic of a callback is logged and counted: it is
    /// nobody's who happens to move the world.
    pub(crate) fn service(self: &Arc<Self>) {
        if let Err(panic) = self.try_service() {
            self.note_panic(panic);
        }
    }

    /// As [`VnetCore::service`], for drivers that have somebody to give the panic of a callback to.
    ///
    /// # Errors
    /// That panic, after all else has been done.
    pub(crate) fn try_service(self: &Arc<Self>) -> Result<(), callback::Payload> {
        let name = &*self.name;
        let _span = tracing::trace_span!(target: trace::SERVICE, "service", vnet = name).entered();
        let (result, panic) = self.enter(Entry::Service, |live, cx| {
            cx.stats.services += 1;
            let taken = self.inbox.take_or_shed(cx.now, SERVICE_BATCH, live.due);
            cx.stats.overflowed(taken.overflowed);
            while let Some(item) = live.due.next() {
                rx::take_in(live.stack, cx, item);
            }
            live.stack.on_deadline(cx);
            taken.next
        });
        if let Ok(Some(next)) = result {
            self.driver.ready(self, next);
        }
        panic.map_or(Ok(()), Err)
    }

    /// Makes sure that the driver comes back at `at`.
    #[inline]
    fn arm(self: &Arc<Self>, at: Instant) {
        if at.as_nanos() < self.sched.armed.load(Ordering::Acquire) {
            self.driver.ready(self, at);
        }
    }

    pub(crate) fn stats(&self) -> Result<Stats, Gone> {
        let mut stats = Err(Gone);
        self.alive(|live| {
            self.note_overflow(&mut live.stats);
            stats = Ok(live.stats.clone());
        });
        stats
    }

    /// Counts the frames that have found no room in the inbox. What is full may not have to be
    /// looked at for a long time, so whoever reads counters does this first.
    pub(crate) fn note_overflow(&self, stats: &mut Stats) {
        stats.overflowed(self.inbox.take_overflowed());
    }

    /// True when it fingerprints its frames.
    pub(crate) fn is_fingerprinting(&self) -> bool {
        let mut on = false;
        self.alive(|live| on = live.stack.ifs.is_fingerprinting());
        on
    }

    /// The fingerprint of its interfaces, as part of its system's.
    pub(crate) fn fingerprint(&self) -> FingerprintSum {
        let mut sum = FingerprintSum::default();
        self.alive(|live| sum = live.stack.ifs.fingerprint().of_vnet(self.number));
        sum
    }

    /// Does something with what the instance consists of, unless it is gone, without entering it.
    ///
    /// # Panics
    /// As [`within_lock`]: when this thread holds a vnet's lock already.
    pub(crate) fn alive(&self, f: impl FnOnce(&mut Live)) {
        if !context::may_lock() {
            return;
        }
        if let State::Alive(live) = &mut *self.state.lock() {
            f(live);
        }
    }

    /// Takes what the instance consists of, to be dropped without any lock; what is left of it is a
    /// name.
    pub(crate) fn bury(&self) -> Remains {
        Remains(std::mem::replace(&mut *self.state.lock(), State::Gone))
    }
}

thread_local! {
    /// An empty [`Out`] with room, so that an entry with output does not allocate.
    static SPARE: Cell<Option<Box<Out>>> = const { Cell::new(None) };
}

/// Takes the effects of an entry, if there are any, and leaves an empty collector with room.
#[inline]
fn take_out(out: &mut Box<Out>) -> Option<Box<Out>> {
    if out.is_empty() {
        return None;
    }
    // A socket may be dropped by the destructor of a thread-local, after this one is gone.
    let spare = SPARE.try_with(Cell::take).ok().flatten();
    let spare = spare.unwrap_or_default();
    Some(std::mem::replace(out, spare))
}

/// Tells others of what an entry has done to them. The vnet's lock is not held. A callback that
/// panics does not keep the others from being told; the first panic is returned, with those of
/// callbacks that were called under the lock before.
fn carry_out(mut out: Box<Out>) -> Option<callback::Payload> {
    let mut panicked = out.panic.take();
    {
        let (mut rings, mut wakes) = out.concerned();
        loop {
            let rest = || {
                for (bell, at) in rings.by_ref() {
                    bell.ring(at);
                }
                for waker in wakes.by_ref() {
                    waker.wake();
                }
            };
            match panic::catch_unwind(AssertUnwindSafe(rest)) {
                Ok(()) => break,
                Err(panic) if panicked.is_none() => panicked = Some(panic),
                Err(panic) => callback::discard(panic),
            }
        }
    }
    let _ = SPARE.try_with(|spare| spare.set(Some(out)));
    panicked
}

impl Live {
    /// What an entry sees of it, without one.
    pub(crate) fn inside(&mut self) -> Inside<'_> {
        Inside {
            stack: &mut self.stack,
            phase: &mut self.phase,
            ran: &mut self.ran,
            loans: &mut self.loans,
            drain: &mut self.drain,
            journal: &mut self.journal,
            due: &mut self.due,
        }
    }

    /// The work of one entry: `f`, and what it made ready to send. Also returns the next deadline.
    #[inline]
    fn work<R>(
        &mut self,
        now: Instant,
        f: impl FnOnce(&mut Inside, &mut Cx) -> R,
    ) -> (R, Option<Instant>) {
        let Live {
            stack,
            phase,
            ran,
            loans,
            drain,
            journal,
            failure: _,
            rng,
            stats,
            out,
            due,
        } = self;
        let mut cx = Cx {
            now,
            rng,
            stats,
            out,
        };
        let mut inside = Inside {
            stack,
            phase,
            ran,
            loans,
            drain,
            journal,
            due,
        };
        let result = f(&mut inside, &mut cx);
        (result, self.finish(now))
    }

    /// The end of an entry's work: sends what it made ready to send, and returns the next deadline.
    /// All entries share one copy, which stays in the instruction cache.
    #[inline(never)]
    fn finish(&mut self, now: Instant) -> Option<Instant> {
        let Live {
            stack,
            drain,
            rng,
            stats,
            out,
            ..
        } = self;
        let mut cx = Cx {
            now,
            rng,
            stats,
            out,
        };
        tx::flush(stack, &mut cx);
        if let Some(drain) = drain {
            drain.look(stack, &mut cx);
        }
        stack.observe();
        for (id, at) in out.link_deadlines.drain(..) {
            stack.ifs.arm_link(id, at);
        }
        let next = stack.next_deadline();
        #[cfg(test)]
        if planted(LATE) {
            return next;
        }
        self.deliver(now);
        next
    }

    /// Puts what the entry sends into the queues of its receivers, with the lock held: so it comes in
    /// there in the order in which it was sent, whichever thread is faster afterwards.
    #[inline]
    pub(super) fn deliver(&mut self, now: Instant) {
        let Live {
            stack, stats, out, ..
        } = self;
        out.deliver(now, |from, len| {
            stats.drop_tx(DropReason::LinkUnplugged);
            if let Some(link) = stack.ifs.get_mut(from).and_then(|n| n.link.as_mut()) {
                link.found_nothing(len);
            }
        });
    }
}

/// What an entry sees of [`Live`] besides the context.
pub(crate) struct Inside<'a> {
    pub(crate) stack: &'a mut Stack,
    pub(crate) phase: &'a mut Phase,
    pub(crate) ran: &'a mut Vec<RanStep>,
    pub(crate) loans: &'a mut Loans<VnetCore>,
    pub(crate) drain: &'a mut Option<Drain>,
    pub(crate) journal: &'a mut Journal,
    due: &'a mut Batch,
}

struct RingService(std::sync::Weak<VnetCore>);

impl crate::netif::Doorbell for RingService {
    fn ring(&self, at: Instant) {
        if let Some(core) = self.0.upgrade() {
            core.driver.ready(&core, at);
        }
    }
}

impl Clone for Vnet {
    /// A tenant's handle, also when this one is the owner's.
    fn clone(&self) -> Vnet {
        Vnet::tenant(Arc::clone(&self.core))
    }
}

impl Vnet {
    /// A handle that the instance's mask limits.
    pub(crate) fn tenant(core: Arc<VnetCore>) -> Vnet {
        Vnet {
            core,
            authority: Authority::Tenant,
        }
    }

    /// A handle without limits, for the instance's own steps.
    pub(crate) fn for_steps(core: Arc<VnetCore>) -> Vnet {
        Vnet {
            core,
            authority: Authority::System,
        }
    }

    /// The owner's handle.
    pub(crate) fn owner(core: Arc<VnetCore>) -> Vnet {
        Vnet {
            core,
            authority: Authority::Owner,
        }
    }

    /// Its name, unique in its system at any time.
    pub fn name(&self) -> &str {
        &self.core.name
    }

    /// The same handle: unlike a clone, it has the authority that this one has.
    pub(crate) fn same(&self) -> Vnet {
        Vnet {
            core: Arc::clone(&self.core),
            authority: self.authority,
        }
    }

    /// The system it lives in, as far as this handle reaches.
    ///
    /// From the owner's handle to an instance without a parent it is all of the system. From any
    /// other handle it is that only while the handle has [`Privilege::System`](crate::Privilege);
    /// else time passes and tasks run in it as ever, it has no other instances than this one and
    /// its descendants, and what acts on all of the system is denied.
    ///
    /// ```
    /// use vnet::time::Duration;
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

    /// Its packet counters; for an instance that has [failed](Vnet::failure), their final values.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn stats(&self) -> Result<Stats, Gone> {
        self.core.driver.called();
        self.core.stats()
    }

    /// The number of received packets that are neither delivered, forwarded nor dropped yet: they
    /// wait for reassembly, or for a neighbour's address.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn pending(&self) -> Result<u64, Gone> {
        let mut pending = Err(Gone);
        self.core.alive(|live| pending = Ok(live.stack.pending()));
        pending
    }

    /// True when `other` is a handle to the same instance.
    pub fn is(&self, other: &Vnet) -> bool {
        Arc::ptr_eq(&self.core, &other.core)
    }
}

impl fmt::Debug for Vnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vnet({})", self.name())
    }
}

impl OwnedVnet {
    pub(crate) fn new(core: Arc<VnetCore>) -> OwnedVnet {
        OwnedVnet {
            vnet: Vnet::owner(core),
        }
    }

    /// Destroys the instance in order, now: sockets are aborted and every call that waits in it
    /// returns *gone*, connections in any state, incomplete datagrams and held packets are
    /// released, interfaces are removed and their peers see the wire go down, and every recorded
    /// init step is undone in reverse. Nothing in it waits.
    ///
    /// It may be called from anywhere. From inside a vnet (a [`FrameTap`](crate::FrameTap)) it is
    /// [deferred](crate::Outcome::Deferred) until that vnet is left.
    pub fn destroy(self) -> DestroyReport {
        super::lifecycle::destroy(&self.vnet.core)
    }
}

impl Deref for OwnedVnet {
    type Target = Vnet;

    fn deref(&self) -> &Vnet {
        &self.vnet
    }
}

impl fmt::Debug for OwnedVnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnedVnet({})", self.name())
    }
}

impl Drop for OwnedVnet {
    fn drop(&mut self) {
        super::lifecycle::destroy(&self.vnet.core);
    }
}

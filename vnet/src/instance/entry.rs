//! Entering an instance, which is always done in the same way: make it current, lock it, read the
//! clock once, do the work, send what is ready, put what is sent into queues, unlock, and tell others.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tracing::{Level, span_enabled, trace_span};

use super::context::{self, within_lock};
use super::cores::{Inside, Live, State, SystemCore, VnetCore};
use super::error::StepError;
use super::failure::Wreckage;
use super::phase::{Entry, Gone};
use super::processor::{self, Measured};
use super::registry::Registry;
use super::vnet::Vnet;
use crate::base::callback;
use crate::base::lock::MutexGuard;
#[cfg(test)]
use crate::base::lock::explore::planted;
use crate::base::stats::{DropReason, Stats};
use crate::base::time::{Duration, Instant};
use crate::netif::fingerprint::FingerprintSum;
use crate::packet::cx::Extent;
use crate::packet::{Cx, Out};
use crate::stack::{Stack, rx, tx};
use crate::trace;

/// A defect for tests of the order of frames.
#[cfg(test)]
pub(crate) const LATE: &str = "what is sent is put into queues without the lock";

/// What keeps an entry from being nothing but its result. Hardly any has it, so it is in a box: to ask for it is one test.
struct Trouble {
    /// The instance has not let it in, or has ended by it.
    is_gone: bool,
    /// The panic of a callback that it called.
    panic: Option<callback::Payload>,
}

/// Items a vnet takes in before it lets another one have the thread.
const SERVICE_BATCH: usize = 256;

impl VnetCore {
    /// Enters the instance: runs `f` on its stack with the vnet current, sends what that made
    /// ready to send, and carries out the effects on others after the lock is released.
    #[inline]
    pub(crate) fn with<R>(
        self: &Arc<Self>,
        f: impl FnOnce(&mut Stack, &mut Cx) -> R,
    ) -> Result<R, Gone> {
        let result = self.enter_as(Entry::User, |inside, cx| f(&mut inside.stack, cx));
        self.driver.dispatch();
        result
    }

    /// Enters the instance as `entry`, as [`VnetCore::with`] does but for the dispatch.
    ///
    /// # Panics
    /// When a callback has panicked that this entry called, and the entry is a user's: after all
    /// else was done, here and in the vnets that it made ready. A panic of the stack is none of the
    /// caller's: it ends the instance, and is *gone* to the caller.
    #[inline]
    pub(crate) fn enter_as<R>(
        self: &Arc<Self>,
        entry: Entry,
        f: impl FnOnce(&mut Inside, &mut Cx) -> R,
    ) -> Result<R, Gone> {
        let mut result = None;
        if let Err(trouble) = self.enter_into(entry, f, &mut result) {
            self.troubled(entry, *trouble)?;
        }
        result.ok_or(Gone)
    }

    #[cold]
    fn troubled(self: &Arc<Self>, entry: Entry, trouble: Trouble) -> Result<(), Gone> {
        if let Some(panic) = trouble.panic {
            self.callback_panicked(entry, panic);
        }
        match trouble.is_gone {
            true => Err(Gone),
            false => Ok(()),
        }
    }

    /// A callback has panicked that an entry called.
    fn callback_panicked(self: &Arc<Self>, entry: Entry, panic: callback::Payload) {
        match entry {
            Entry::User => self.give_back(panic),
            Entry::Service | Entry::Lifecycle => self.note_panic(panic),
        }
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
        let mut result = None;
        match self.enter_into(entry, f, &mut result) {
            Ok(()) => (result.ok_or(Gone), None),
            Err(trouble) if trouble.is_gone => (Err(Gone), trouble.panic),
            Err(trouble) => (result.ok_or(Gone), trouble.panic),
        }
    }

    /// As [`VnetCore::enter`], with a place for the result, which may be large to move.
    #[inline]
    fn enter_into<R>(
        self: &Arc<Self>,
        entry: Entry,
        f: impl FnOnce(&mut Inside, &mut Cx) -> R,
        result: &mut Option<R>,
    ) -> Result<(), Box<Trouble>> {
        let mut f = Some(f);
        self.enter_and_do(entry, &mut |inside, cx| {
            if let Some(f) = f.take() {
                *result = Some(f(inside, cx));
            }
        })
    }

    /// Enters the instance. All entries share one copy of this, which stays in the instruction cache.
    #[inline]
    fn enter_and_do(
        self: &Arc<Self>,
        entry: Entry,
        f: &mut dyn FnMut(&mut Inside, &mut Cx),
    ) -> Result<(), Box<Trouble>> {
        // Services are measured where it is known what they take in.
        if entry == Entry::User && processor::is_drawn() {
            return self.measure_entry(entry, f);
        }
        self.enter_unmeasured(entry, f)
    }

    /// Enters the instance, for all of those that are not measured.
    #[cold]
    fn measure_entry(
        self: &Arc<Self>,
        entry: Entry,
        f: &mut dyn FnMut(&mut Inside, &mut Cx),
    ) -> Result<(), Box<Trouble>> {
        let began = self.driver.processor_time();
        let ended = self.enter_unmeasured(entry, f);
        self.charge(began, Measured::Drawn);
        ended
    }

    /// Notes a visit that began at that time of the thread's.
    #[cold]
    fn charge(&self, began: Option<Duration>, measured: Measured) {
        if let Some((began, ended)) = began.zip(self.driver.processor_time()) {
            let time = ended.saturating_sub(began);
            self.processor.charge(self.driver.now(), time, measured);
        }
    }

    /// Enters the instance, by the code that all entries share.
    #[inline(never)]
    fn enter_unmeasured(
        self: &Arc<Self>,
        entry: Entry,
        f: &mut dyn FnMut(&mut Inside, &mut Cx),
    ) -> Result<(), Box<Trouble>> {
        let core: &VnetCore = self;
        let (mut next, mut out, mut wreckage) = (Instant::MAX, None, None);
        let entered = within_lock(self, || {
            let mut state = core.state.lock();
            // Read under the lock: the time does not run backwards from one entry to the next.
            let now = core.driver.now();
            let live = match &mut *state {
                State::Alive(live) if live.inside.phase.admits(entry) => live,
                _ => return false,
            };
            let mut effects = take_spare();
            match panic::catch_unwind(AssertUnwindSafe(|| live.work(now, &mut effects, f))) {
                Ok(at) => next = at,
                Err(panic) => wreckage = Some(live.fail(now, panic, &mut effects)),
            }
            match effects.is_empty() {
                true => keep_spare(effects),
                false => out = Some(effects),
            }
            // Of a vnet in which services follow each other, others want a share as well.
            if entry == Entry::Service && core.sched.behind.load(Ordering::Relaxed) {
                state.unlock_fair();
            }
            true
        });
        if entered != Some(true) {
            return refused();
        }
        let panic = self.leave(next, out);
        let ended = match (wreckage, panic) {
            (None, None) => Ok(()),
            (wreckage, panic) => Err(self.go_wrong(wreckage, panic)),
        };
        if entry != Entry::Lifecycle && context::has_deferred() {
            context::run_deferred();
        }
        ended
    }

    #[cold]
    fn go_wrong(
        self: &Arc<Self>,
        wreckage: Option<Box<Wreckage>>,
        panic: Option<callback::Payload>,
    ) -> Box<Trouble> {
        let is_gone = wreckage.is_some();
        if let Some(wreckage) = wreckage {
            self.clear_away(wreckage);
        }
        Box::new(Trouble { is_gone, panic })
    }

    /// Tells the driver of the `next` deadline, and others of what an entry has done to them. The
    /// vnet's lock is not held.
    #[inline]
    fn leave(self: &Arc<Self>, next: Instant, out: Option<Box<Out>>) -> Option<callback::Payload> {
        #[cfg(test)]
        let out = out.map(|mut out| {
            if planted(LATE) {
                out.deliver(self.driver.now(), |_, _| {});
            }
            out
        });
        self.arm(next);
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
        // A span that nobody wants would have to be dropped as well.
        let _span = span_enabled!(target: trace::SERVICE, Level::TRACE).then(|| {
            let name = &*self.name;
            trace_span!(target: trace::SERVICE, "service", vnet = name).entered()
        });
        if self.processor.is_limited() && self.is_held() {
            return Ok(());
        }
        let mut measured = Measured::Drawn;
        let mut began = match processor::is_drawn() {
            true => self.driver.processor_time(),
            false => None,
        };
        let (result, panic) = self.enter(Entry::Service, |inside, cx| {
            let Inside { stack, due, .. } = inside;
            cx.stats.services += 1;
            cx.out.extent = Extent::Traffic;
            let taken = self.inbox.take_or_shed(cx.now, SERVICE_BATCH, due);
            self.sched.behind.store(taken.shared, Ordering::Relaxed);
            if due.len() >= processor::MANY {
                measured = Measured::Always;
                began = began.or_else(|| self.driver.processor_time());
            }
            cx.stats.overflowed(taken.overflowed);
            rx::take_in_all(stack, cx, due);
            stack.on_deadline(cx);
            // What is due already is for later: others are to have the thread first.
            match taken.next {
                Some(next) if next > cx.now => inside.come_again = next,
                overdue => return overdue,
            }
            None
        });
        if began.is_some() {
            self.charge(began, measured);
        }
        if let Ok(Some(next)) = result {
            self.driver.ready(self, next);
        }
        panic.map_or(Ok(()), Err)
    }

    /// True when it has used so much processor time that its services wait; the driver comes back then. Where time is
    /// simulated, nothing waits for that of processors.
    #[cold]
    fn is_held(self: &Arc<Self>) -> bool {
        if self.driver.is_simulated() {
            return false;
        }
        let again = self.processor.admit(self.driver.now());
        if let Err(at) = again {
            self.driver.ready(self, at);
        }
        again.is_err()
    }

    /// Makes sure that the driver comes back at `at`, which may be never.
    #[inline]
    fn arm(self: &Arc<Self>, at: Instant) {
        if !self.inbox.armed.by(at) {
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

    /// Counts the frames that have found no room in the inbox, and the processor time. What is full may not have to be
    /// looked at for a long time, so whoever reads counters does this first.
    pub(crate) fn note_overflow(&self, stats: &mut Stats) {
        stats.processor = self.processor.used();
        stats.overflowed(self.inbox.take_overflowed());
    }

    /// True when it fingerprints its frames.
    pub(crate) fn is_fingerprinting(&self) -> bool {
        let mut on = false;
        self.alive(|live| on = live.inside.stack.ifs.is_fingerprinting());
        on
    }

    /// The fingerprint of its interfaces, as part of its system's.
    pub(crate) fn fingerprint(&self) -> FingerprintSum {
        let mut sum = FingerprintSum::default();
        self.alive(|live| sum = live.inside.stack.ifs.fingerprint().of_vnet(self.number));
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
        self.check_part();
        if let State::Alive(live) = &mut *self.state.lock() {
            f(live);
        }
    }
}

impl Vnet {
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
        self.core
            .alive(|live| pending = Ok(live.inside.stack.pending()));
        pending
    }
}

impl SystemCore {
    /// Waits for the registry's lock.
    ///
    /// # Panics
    /// When this thread holds a vnet's lock: whoever has the registry may be waiting for that one.
    pub(crate) fn registry(&self) -> MutexGuard<'_, Registry<VnetCore>> {
        context::may_lock();
        self.registry.lock()
    }
}

/// An entry was not let in.
#[cold]
fn refused() -> Result<(), Box<Trouble>> {
    Err(Box::new(Trouble {
        is_gone: true,
        panic: None,
    }))
}

thread_local! {
    /// An empty [`Out`] with room. It belongs to the thread and not to a vnet: so an entry does not allocate, and finds it
    /// in the processor's cache.
    static SPARE: Cell<Option<Box<Out>>> = const { Cell::new(None) };
}

/// An empty collector of effects, which has room mostly.
#[inline]
fn take_spare() -> Box<Out> {
    // A socket may be dropped by the destructor of a thread-local, after this one is gone.
    let spare = SPARE.try_with(Cell::take).ok().flatten();
    spare.unwrap_or_default()
}

/// Keeps an empty collector for the next entry.
#[inline]
fn keep_spare(out: Box<Out>) {
    debug_assert!(out.is_as_new(), "what one vnet leaves is not another's");
    let _ = SPARE.try_with(|spare| spare.set(Some(out)));
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
    keep_spare(out);
    panicked
}

impl Live {
    /// The work of one entry: does `f`, sends what that made ready to send, and returns the next
    /// deadline; the greatest time for none.
    #[inline]
    fn work(
        &mut self,
        now: Instant,
        out: &mut Out,
        f: &mut dyn FnMut(&mut Inside, &mut Cx),
    ) -> Instant {
        let Live {
            inside,
            failure: _,
            rng,
            stats,
        } = self;
        let mut cx = Cx {
            now,
            rng,
            stats,
            out,
        };
        f(inside, &mut cx);
        let Inside {
            stack,
            drain,
            come_again,
            ..
        } = inside;
        let extent = std::mem::take(&mut cx.out.extent);
        if extent == Extent::Nothing {
            debug_assert!(
                !tx::flush(stack, &mut cx) && stack.is_rest_settled(),
                "a call that would wait changes nothing"
            );
            return Instant::MAX;
        }
        tx::flush(stack, &mut cx);
        if let Some(drain) = drain {
            drain.look(stack, &mut cx);
        }
        if extent == Extent::All || stack.is_stirred() {
            stack.settle_rest(&mut cx);
        }
        // What links hold, they hold until then.
        if !out.link_deadlines.is_empty() {
            stack.note_links(&mut out.link_deadlines);
        }
        debug_assert!(
            stack.is_rest_settled(),
            "what is not marked has not changed"
        );
        let again = std::mem::replace(come_again, Instant::MAX);
        let next = stack.next_deadline().min(again);
        #[cfg(test)]
        if planted(LATE) {
            return next;
        }
        if out.has_sent() {
            self.deliver(now, out);
        }
        next
    }

    /// Puts what the entry sends into the queues of its receivers, with the lock held: so it comes in
    /// there in the order in which it was sent, whichever thread is faster afterwards.
    pub(super) fn deliver(&mut self, now: Instant, out: &mut Out) {
        let Live {
            inside: Inside { stack, .. },
            stats,
            ..
        } = self;
        out.deliver(now, |from, len| {
            stats.drop_tx(DropReason::LinkUnplugged);
            if let Some(link) = from.and_then(|id| stack.ifs.get_mut(id)?.link.as_mut()) {
                link.found_nothing(len);
            }
        });
    }
}

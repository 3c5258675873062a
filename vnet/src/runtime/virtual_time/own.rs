//! What a thread has of the part of a simulation that it carries out by itself, and what the driver does there.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;

use crate::base::part;
use crate::base::time::Instant;
use crate::instance::context;
use crate::instance::cores::VnetCore;
use crate::instance::driver::TimerKey;
use crate::instance::task::Task;
use crate::runtime::cost::Costs;
use crate::runtime::event::{Event, PartAgenda};

/// What a thread has of the part that it carries out.
pub(super) struct Own {
    pub(super) agenda: PartAgenda,
    pub(super) events: u64,
    /// When a task or a timer of the program went on last.
    pub(super) heard: Instant,
    /// The time of the last event.
    pub(super) last: Instant,
    /// The part that each vnet is in, by number.
    pub(super) parts: Arc<BTreeMap<u64, usize>>,
    pub(super) me: usize,
}

const HERE: &str = "a thread with a part has it here";

thread_local! {
    static OWN: RefCell<Option<Own>> = const { RefCell::new(None) };
    /// Calls that were made during the current event.
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

impl Own {
    /// That of the part `me`, of which nothing has been carried out.
    pub(super) fn new(agenda: PartAgenda, parts: &Arc<BTreeMap<u64, usize>>, me: usize) -> Own {
        Own {
            agenda,
            events: 0,
            heard: Instant::ZERO,
            last: Instant::ZERO,
            parts: Arc::clone(parts),
            me,
        }
    }
}

/// From now on, this thread carries out that part of the world of `driver`, where it is `now`.
pub(super) fn take_on<D>(driver: &D, own: Own, now: Instant) {
    part::set_now(now);
    part::set(driver, own.me as u32 + 1);
    context::set_in_part(true);
    OWN.set(Some(own));
}

/// The part as this thread leaves it.
pub(super) fn give_back<D>(driver: &D) -> Own {
    part::set(driver, 0);
    context::set_in_part(false);
    OWN.take().expect(HERE)
}

/// Says that the next event begins.
pub(super) fn begin_event() {
    CALLS.set(0);
}

/// What is done with it.
pub(super) fn with<R>(f: impl FnOnce(&mut Own) -> R) -> R {
    OWN.with_borrow_mut(|own| f(own.as_mut().expect(HERE)))
}

/// [`Schedule::schedule`](crate::instance::task::Schedule::schedule), in a part.
///
/// # Panics
/// When the task is of another part.
#[cold]
#[inline(never)]
pub(super) fn schedule(task: Arc<Task>) {
    let is_ours = with(|own| {
        let is_ours = own.parts.get(&task.owner()) == Some(&own.me);
        if is_ours {
            let at = own.agenda.soon(part::now(), part::now());
            own.agenda.push(at, Event::Poll(Arc::clone(&task)));
        }
        is_ours
    });
    assert!(
        is_ours || std::thread::panicking(),
        "a task wakes one of another vnet: `VirtualConfig::threads` promises that there is none"
    );
}

/// [`Driver::ready`](crate::instance::driver::Driver::ready), in a part.
#[cold]
#[inline(never)]
pub(super) fn ready(vnet: &Arc<VnetCore>, at: Instant) {
    let now = part::now();
    with(|own| {
        let at = own.agenda.soon(at.max(now), now);
        own.agenda.push_service(vnet, at);
    });
}

/// [`Driver::set_timer`](crate::instance::driver::Driver::set_timer), in a part.
#[cold]
#[inline(never)]
pub(super) fn set_timer(at: Instant, of: Option<(u64, u64)>, waker: Waker) -> TimerKey {
    let now = part::now();
    with(|own| {
        let at = own.agenda.soon(at.max(now), now);
        own.agenda.set_timer(at, of, waker)
    })
}

/// [`Driver::cancel_timer`](crate::instance::driver::Driver::cancel_timer), in a part.
#[cold]
#[inline(never)]
pub(super) fn cancel_timer(key: TimerKey) {
    let waker = with(|own| own.agenda.cancel_timer(key));
    drop(waker);
}

/// [`Driver::called`](crate::instance::driver::Driver::called), in a part.
#[cold]
#[inline(never)]
pub(super) fn called(costs: &Costs) {
    let calls = CALLS.get() + 1;
    CALLS.set(calls);
    if costs.is_beyond(calls, part::now()) {
        part::reach(part::now() + costs.of_a_call());
    }
}

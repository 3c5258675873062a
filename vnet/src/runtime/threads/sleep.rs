//! What the workers of the threads driver have to do, and when; and who of them waits.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::task::Waker;

use crate::base::heap::Heap;
use crate::base::time::Instant;
use crate::instance::cores::VnetCore;
use crate::instance::driver::TimerKey;
use crate::runtime::turns::Turns;

/// What is to be done by and by. Workers that have nothing to do wait with its lock.
#[derive(Default)]
pub(super) struct Sleep {
    /// Vnets that workers are to service.
    pub(super) turns: Turns<Arc<VnetCore>>,
    /// When vnets are to be serviced: one entry each.
    pub(super) timers: Heap<(Instant, u64), Weak<VnetCore>>,
    /// Timers of futures, which can be cancelled.
    pub(super) wakes: BTreeMap<TimerKey, Waker>,
    /// When to check whether the threads that poll tasks are stuck.
    pub(super) watch: Option<(Instant, Waker)>,
    pub(super) timers_made: u64,
    /// Timers at which those of vnets that are gone are looked for.
    pub(super) sweep_at: usize,
    /// Workers that wait for the bell.
    pub(super) idle: usize,
    /// Another one waits for the next timer. Whenever a worker is idle, there is such a one, unless
    /// there is no timer.
    pub(super) keeper: bool,
    pub(super) stop: bool,
}

/// A timer whose time has come.
pub(super) enum Due {
    Service(Instant, Weak<VnetCore>),
    Wake(Waker),
}

impl Sleep {
    /// When the next timer fires.
    pub(super) fn next(&self) -> Option<Instant> {
        let timer = self.timers.next().map(|(at, _)| at);
        let wake = self.wakes.first_key_value().map(|(key, _)| key.at);
        let watch = self.watch.as_ref().map(|(at, _)| *at);
        [timer, wake, watch].into_iter().flatten().min()
    }

    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Due> {
        let at = self.next().filter(|at| *at <= now)?;
        if self
            .wakes
            .first_key_value()
            .is_some_and(|(k, _)| k.at == at)
        {
            return self.wakes.pop_first().map(|(_, waker)| Due::Wake(waker));
        }
        if let Some((_, waker)) = self.watch.take_if(|(watch, _)| *watch == at) {
            return Some(Due::Wake(waker));
        }
        let ((at, _), vnet) = self.timers.pop()?;
        Some(Due::Service(at, vnet))
    }
}

//! What calls that do not wait cost in a simulation.
//!
//! A call that does not wait takes no simulated time, and neither does an event that another one
//! causes at the same instant. So a loop that retries until a certain time, two peers on a wire
//! without rate and delay, and a task that wakes itself would stop the clock forever. After a
//! number of them at one instant, each costs a little time.
//!
//! They are counted for each thread, and for the simulation as a whole in *rounds*: a round is
//! everything that the previous round caused at the same instant, so that a hundred thousand vnets
//! that all do something at once are one round. Passing time resets the count, unless it passed
//! because a call was charged: then the count falls by what was paid for.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::time::{Duration, Instant, nanos};

/// How a simulation treats calls that do not wait; see [`System::virtual_time_with`].
///
/// [`System::virtual_time_with`]: crate::System::virtual_time_with
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VirtualConfig {
    /// What a call that does not wait costs in simulated time, once
    /// [`calls_free`](VirtualConfig::calls_free) calls have been made at one instant. Zero means
    /// nothing; then every wait fails if the simulation loops at one instant.
    pub call_cost: Duration,
    /// How many calls of one thread at one instant cost nothing; also, how many rounds of events at
    /// one instant, each caused by the previous one.
    pub calls_free: u64,
    /// How many threads may carry out events at a time, at most eight; one by default. What comes of it is the same, to
    /// the byte, whatever their number. A greater number is a promise of the program: that tasks of different vnets
    /// share nothing by which one could tell when another one runs, use the sockets of their own vnet only, and neither
    /// make nor change vnets, interfaces and links. A task that breaks the promise ends with a panic where that is noticed.
    ///
    /// The threads are used where it pays and nothing outside of vnets can see the order: while one thread of the
    /// program runs the simulation ([`System::run_for`](crate::System::run_for) and others) and no other one waits, no
    /// vnet has a port, a capture, a lagg, a lent interface or a script of a link, and the vnets fall into parts between
    /// which links have a rate and a delay.
    pub threads: usize,
}

impl Default for VirtualConfig {
    /// 5 µs, about the cost of a system call with a little data, after a hundred thousand calls.
    fn default() -> VirtualConfig {
        VirtualConfig {
            call_cost: Duration::from_micros(5),
            calls_free: 100_000,
            threads: 1,
        }
    }
}

/// More than so many threads do not carry out a simulation.
const MAX_THREADS: usize = 8;

/// The costs of one simulation.
pub(super) struct Costs {
    config: VirtualConfig,
    /// When a call was last charged, in nanoseconds; `u64::MAX` means never.
    charged: AtomicU64,
}

/// Counts the calls of a thread, or the rounds of a world.
#[derive(Debug)]
pub(super) struct Meter {
    since: Instant,
    count: u64,
}

impl Meter {
    pub(super) const fn new() -> Meter {
        Meter {
            since: Instant::ZERO,
            count: 0,
        }
    }
}

impl Costs {
    pub(super) fn new(config: VirtualConfig) -> Costs {
        Costs {
            config,
            charged: AtomicU64::new(u64::MAX),
        }
    }

    /// What a call costs.
    pub(super) fn of_a_call(&self) -> Duration {
        self.config.call_cost
    }

    /// How many threads may carry out events.
    pub(super) fn threads(&self) -> usize {
        self.config.threads.min(MAX_THREADS)
    }

    /// True when calls are never charged.
    pub(super) fn are_none(&self) -> bool {
        self.config.call_cost.is_zero()
    }

    /// Counts a call at `now`; true when it is to be charged.
    #[inline]
    pub(super) fn count(&self, meter: &mut Meter, now: Instant) -> bool {
        if now > meter.since {
            self.forgive(meter, now);
        }
        meter.count += 1;
        meter.count > self.config.calls_free && self.charge(now)
    }

    /// Counts one of `count` calls at an instant that are counted nowhere else.
    pub(super) fn is_beyond(&self, count: u64, now: Instant) -> bool {
        count > self.config.calls_free && self.charge(now)
    }

    /// True while time passes because it was charged for, and not long after.
    pub(super) fn is_tight(&self, now: Instant) -> bool {
        let charged = self.charged.load(Ordering::Relaxed);
        let calls = u32::try_from(self.config.calls_free).unwrap_or(u32::MAX);
        let forgotten = self.config.call_cost.saturating_mul(calls);
        charged != u64::MAX && now - Instant::from_nanos(charged) < forgotten
    }

    #[cold]
    fn charge(&self, now: Instant) -> bool {
        if self.are_none() {
            return false;
        }
        self.charged.store(now.as_nanos(), Ordering::Relaxed);
        true
    }

    fn forgive(&self, meter: &mut Meter, now: Instant) {
        if !self.is_tight(now) {
            *meter = Meter {
                since: now,
                count: 0,
            };
            return;
        }
        let cost = nanos(self.config.call_cost);
        let paid = nanos(now - meter.since) / cost;
        meter.count = meter.count.saturating_sub(paid);
        meter.since += Duration::from_nanos(paid * cost);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: u64) -> Instant {
        Instant::from_nanos(micros * 1000)
    }

    fn costs(call_cost: u64, calls_free: u64) -> Costs {
        Costs::new(VirtualConfig {
            call_cost: Duration::from_micros(call_cost),
            calls_free,
            ..VirtualConfig::default()
        })
    }

    #[test]
    fn time_that_passes_by_itself_ends_the_count() {
        let (costs, mut meter) = (costs(5, 3), Meter::new());
        for now in 0..100 {
            for _ in 0..3 {
                assert!(!costs.count(&mut meter, at(now)));
            }
        }
        assert!(!costs.is_tight(at(99)));
        assert!(costs.count(&mut meter, at(99)));
        assert!(costs.is_tight(at(99)));
    }

    #[test]
    fn time_that_was_charged_for_pays_for_itself_only() {
        let (costs, mut meter) = (costs(5, 3), Meter::new());
        let mut now = at(0);
        let mut charged = 0;
        for _ in 0..100 {
            if costs.count(&mut meter, now) {
                now += costs.of_a_call();
                charged += 1;
            }
        }
        assert_eq!((charged, now), (97, at(5 * 97)));
        // So does time that passes for another reason meanwhile: 12 µs are worth two calls.
        now += Duration::from_micros(7);
        assert!(!costs.count(&mut meter, now), "the second one");
        assert!(costs.count(&mut meter, now));
        // Whoever was not charged for long is as good as new.
        now += Duration::from_micros(15);
        assert!(!costs.is_tight(now));
        for n in 0..4 {
            assert_eq!(costs.count(&mut meter, now), n == 3);
        }
    }

    #[test]
    fn without_a_cost_nobody_is_charged() {
        let (costs, mut meter) = (costs(0, 3), Meter::new());
        for n in 0..100 {
            assert!(!costs.count(&mut meter, at(n / 10)));
            assert!(!costs.is_tight(at(n / 10)));
        }
    }
}

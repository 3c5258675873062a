//! The processor time of an instance: how much of it the instance has used, how much it may use, and how much of
//! it is due to the instance where several want it.
//!
//! What counts is the time that threads spend in the instance: in services, and in the calls of a program. Reading a thread's
//! clock costs a system call, so most visits are not measured: of [`SAMPLE`] one is, drawn at random, and stands for all of
//! them; one that takes in many frames is measured always. The draw is not from the random stream of an instance, and no
//! instance can see it.
//!
//! Polls of tasks are measured in the same way. In one that is measured, every visit is as well: a poll is charged
//! what it took beside its visits, which are charged to the instances that they are in.
//!
//! A limit is a token bucket. The time of every visit comes out of it, but only services wait for it to fill: a thread of
//! the program's that makes calls is the operating system's to hold. A service is held for at most [`MOST_HELD`], so
//! that an instance that is far beyond its limit is slow and not stuck.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};

use crate::base::lock::{Mutex, Rank};
use crate::base::on_use::{OnUse, part};
use crate::base::time::{Duration, Instant, nanos};
pub(crate) use crate::stack::limits::DEFAULT_WEIGHT;
use crate::stack::limits::{Resource, Usage};

/// Of so many visits one is measured.
const SAMPLE: u32 = 256;
/// A service that takes in so many frames is measured.
pub(super) const MANY: usize = 128;
/// The longest time for which a service is held.
const MOST_HELD: Duration = Duration::from_millis(100);
/// How long a bucket takes to fill, and how long it takes to make good the largest debt.
const BURST: Duration = Duration::from_millis(100);
const DEBT: Duration = Duration::from_secs(1);

const NANOS_PER_SEC: u64 = 1_000_000_000;
const MICROS_PER_SEC: u128 = 1_000_000;

/// What is known of the processor time of an instance.
pub(crate) struct Processor {
    limited: AtomicBool,
    weight: AtomicU32,
    /// Time that is due to it in the turns of a driver, in nanoseconds; the driver's.
    pub(crate) credit: AtomicI64,
    /// How far its tasks have come in their share of the threads that poll; the driver's.
    pub(crate) polled: AtomicU64,
    /// Made with the first visit that is measured, or the first limit.
    account: Mutex<OnUse<Account>>,
}

thread_local! {
    static DRAW: Draw = const {
        Draw { left: Cell::new(SAMPLE), state: Cell::new(0x9e37_79b9_7f4a_7c15), visits: Cell::new(None) }
    };
}

/// When this thread measures next.
struct Draw {
    /// Visits until then.
    left: Cell<u32>,
    state: Cell<u64>,
    /// What the visits have taken in the poll that is being measured, if one is.
    visits: Cell<Option<Duration>>,
}

/// True for one of [`SAMPLE`] calls.
#[inline]
pub(super) fn is_drawn() -> bool {
    // A socket may be dropped by the destructor of a thread-local, after this one is gone.
    let drawn = DRAW.try_with(|draw| match draw.left.get() {
        0 => {
            draw.again();
            true
        }
        left => {
            draw.left.set(left - 1);
            false
        }
    });
    drawn.unwrap_or(false)
}

impl Draw {
    /// Draws the number of visits to leave out, of which the mean is one less than [`SAMPLE`] (xorshift64, Marsaglia 2003).
    #[cold]
    fn again(&self) {
        if self.visits.get().is_some() {
            return;
        }
        let mut state = self.state.get();
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        self.state.set(state);
        self.left.set((state >> 32) as u32 % (2 * SAMPLE - 1));
    }
}

/// Does `poll`, which is a task's of `whose`, and measures it if it is drawn.
pub(crate) fn poll(
    whose: &Processor,
    processor_time: impl Fn() -> Option<Duration>,
    now: impl Fn() -> Instant,
    poll: impl FnOnce(),
) {
    let Some(began) = is_drawn().then(&processor_time).flatten() else {
        return poll();
    };
    let visits = Visits::measure();
    poll();
    let visits = visits.end();
    if let Some(ended) = processor_time() {
        let time = ended.saturating_sub(began).saturating_sub(visits);
        whose.charge(now(), time, Measured::Drawn);
    }
}

/// Measures every visit of this thread as long as it is there.
struct Visits {
    /// What was to be left out before the next draw.
    left: u32,
}

impl Visits {
    fn measure() -> Visits {
        let left = DRAW.try_with(|draw| {
            draw.visits.set(Some(Duration::ZERO));
            draw.left.replace(0)
        });
        Visits {
            left: left.unwrap_or(SAMPLE),
        }
    }

    /// What they took.
    fn end(self) -> Duration {
        let visits = DRAW.try_with(|draw| draw.visits.get());
        visits.ok().flatten().unwrap_or_default()
    }
}

impl Drop for Visits {
    fn drop(&mut self) {
        let _ = DRAW.try_with(|draw| {
            draw.visits.set(None);
            draw.left.set(self.left);
        });
    }
}

/// What a measured visit stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Measured {
    /// Itself.
    Always,
    /// Itself and those that were not measured.
    Drawn,
}

impl Processor {
    pub(crate) fn new() -> Processor {
        Processor {
            limited: AtomicBool::new(false),
            weight: AtomicU32::new(DEFAULT_WEIGHT),
            credit: AtomicI64::new(0),
            polled: AtomicU64::new(0),
            account: Mutex::new(Rank::Waker, OnUse::default()),
        }
    }

    /// Sets how many microseconds a second it may use, and its weight.
    pub(crate) fn set(&self, limit: u64, weight: u32) {
        let mut account = self.account.lock();
        if account.limit != limit {
            account.limit_to(limit);
        }
        drop(account);
        self.limited
            .store(limit != Resource::UNLIMITED, Ordering::Relaxed);
        self.weight.store(weight, Ordering::Relaxed);
    }

    /// How much of the time is due to it, compared with others.
    pub(crate) fn weight(&self) -> u32 {
        self.weight.load(Ordering::Relaxed)
    }

    /// Whether there is a limit.
    #[inline]
    pub(super) fn is_limited(&self) -> bool {
        self.limited.load(Ordering::Relaxed)
    }

    /// Notes a visit that took `time` and ended at `now`.
    #[cold]
    pub(super) fn charge(&self, now: Instant, time: Duration, measured: Measured) {
        let is_in_poll = DRAW.try_with(|draw| {
            let visits = draw.visits.get();
            draw.visits.set(visits.map(|sum| sum + time));
            visits.is_some()
        });
        let times = match measured {
            // Each visit of a poll that is measured is measured, and not drawn.
            Measured::Drawn if is_in_poll != Ok(true) => u64::from(SAMPLE),
            _ => 1,
        };
        self.account.lock().charge(now, nanos(time) * times);
    }

    /// Whether a service may be done at `now`.
    ///
    /// # Errors
    /// When it is to be tried again.
    #[cold]
    pub(super) fn admit(&self, now: Instant) -> Result<(), Instant> {
        self.account.lock().admit(now)
    }

    /// What it has used in all.
    pub(super) fn used(&self) -> Duration {
        Duration::from_nanos(self.account.lock().used)
    }

    /// What it used in the last second that is over, in microseconds.
    pub(super) fn usage(&self, now: Instant) -> Usage {
        self.account.lock().usage(now)
    }
}

/// The books, in nanoseconds of processor time.
#[derive(Debug)]
struct Account {
    used: u64,
    /// What was used in a second, in the one before it, and the most in any before.
    second: u64,
    in_second: u64,
    in_last: u64,
    most: u64,
    /// Microseconds a second.
    limit: u64,
    /// What may be used at once; less than nothing is a debt.
    tokens: i64,
    filled: Instant,
    held_since: Option<Instant>,
    /// How often services were held.
    holds: u64,
}

impl Default for Account {
    fn default() -> Account {
        Account {
            used: 0,
            second: 0,
            in_second: 0,
            in_last: 0,
            most: 0,
            limit: Resource::UNLIMITED,
            tokens: 0,
            filled: Instant::ZERO,
            held_since: None,
            holds: 0,
        }
    }
}

part!(Account, Account::default());

impl Account {
    /// Changes the limit. The bucket is full then.
    fn limit_to(&mut self, limit: u64) {
        if limit != self.limit {
            self.limit = limit;
            self.tokens = self.in_tokens(BURST);
            self.held_since = None;
        }
    }

    fn charge(&mut self, now: Instant, time: u64) {
        self.turn_to(now);
        self.used += time;
        self.in_second += time;
        if self.limit != Resource::UNLIMITED {
            self.fill(now);
            let time = i64::try_from(time).unwrap_or(i64::MAX);
            let least = -self.in_tokens(DEBT);
            self.tokens = self.tokens.saturating_sub(time).max(least);
        }
    }

    fn admit(&mut self, now: Instant) -> Result<(), Instant> {
        if self.limit == Resource::UNLIMITED {
            return Ok(());
        }
        self.fill(now);
        let longest = match self.held_since {
            Some(since) => since + MOST_HELD,
            None => now + MOST_HELD,
        };
        if self.tokens > 0 || now >= longest {
            self.held_since = None;
            return Ok(());
        }
        if self.held_since.is_none() {
            self.held_since = Some(now);
            self.holds += 1;
        }
        let missing = 1 + u128::from(self.tokens.unsigned_abs());
        let wait = (missing * MICROS_PER_SEC).checked_div(u128::from(self.limit));
        let wait = wait.and_then(|wait| u64::try_from(wait).ok());
        // A nanosecond more: what has flowed in is rounded down.
        let until = wait.map(|wait| now + Duration::from_nanos(wait.saturating_add(1)));
        Err(until.unwrap_or(longest).min(longest))
    }

    fn usage(&mut self, now: Instant) -> Usage {
        self.turn_to(now);
        Usage {
            resource: Resource::Processor,
            current: self.in_last / 1000,
            high_water: self.most / 1000,
            limit: self.limit,
            refused: self.holds,
        }
    }

    /// Begins another second, if it is time.
    fn turn_to(&mut self, now: Instant) {
        let second = now.as_nanos() / NANOS_PER_SEC;
        if second > self.second {
            self.most = self.most.max(self.in_second);
            self.in_last = match second - self.second {
                1 => self.in_second,
                _ => 0,
            };
            self.in_second = 0;
            self.second = second;
        }
    }

    /// Puts in what has flowed since the last time.
    fn fill(&mut self, now: Instant) {
        let full = self.in_tokens(BURST);
        let flowed = self.in_tokens(now.since(self.filled));
        // Where nothing has flowed yet, the time is not forgotten.
        if flowed > 0 {
            self.tokens = self.tokens.saturating_add(flowed).min(full);
            self.filled = now;
        }
    }

    /// What flows into the bucket in `time`.
    fn in_tokens(&self, time: Duration) -> i64 {
        let tokens = u128::from(nanos(time)) * u128::from(self.limit) / MICROS_PER_SEC;
        i64::try_from(tokens).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MILLI: u64 = 1_000_000;

    fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    fn limited(limit: u64) -> Account {
        let mut account = Account::default();
        account.limit_to(limit);
        account
    }

    #[test]
    fn what_is_used_is_counted_by_the_second() {
        let mut account = Account::default();
        account.charge(at(10), 3000);
        account.charge(at(999 * MILLI), 4000);
        let usage = |account: &mut Account, now| {
            let Usage {
                current,
                high_water,
                ..
            } = account.usage(at(now));
            (current, high_water)
        };
        assert_eq!(usage(&mut account, 999 * MILLI), (0, 0));
        assert_eq!(usage(&mut account, 1000 * MILLI), (7, 7));
        account.charge(at(1500 * MILLI), 2000);
        assert_eq!(usage(&mut account, 2000 * MILLI), (2, 7));
        // A second in which nothing was used.
        assert_eq!(usage(&mut account, 4000 * MILLI), (0, 7));
        assert_eq!(account.used, 9000);
    }

    #[test]
    fn a_burst_is_let_through_and_what_is_beyond_it_waits() {
        // A tenth of a processor: a burst is 10 ms, and a millisecond of it takes 10 to flow in.
        let mut account = limited(100_000);
        assert_eq!(account.admit(at(0)), Ok(()));
        account.charge(at(0), 9 * MILLI);
        assert_eq!(account.admit(at(0)), Ok(()), "1 ms is left");
        account.charge(at(0), 3 * MILLI);
        let again = account.admit(at(0)).unwrap_err();
        assert_eq!(again, at(20 * MILLI + 11));
        assert_eq!(account.admit(at(19 * MILLI)), Err(at(20 * MILLI + 11)));
        assert_eq!(account.admit(again), Ok(()));
        assert_eq!(account.holds, 1);
        // No more than a burst is saved up.
        assert_eq!(account.admit(at(5_000 * MILLI)), Ok(()));
        assert_eq!(account.tokens, 10 * MILLI as i64);
    }

    #[test]
    fn nothing_is_held_for_longer_than_a_tenth_of_a_second() {
        for limit in [0, 1, 1000] {
            let mut account = limited(limit);
            account.charge(at(0), 5_000 * MILLI);
            let mut now = at(0);
            for held in 1..10 {
                let again = account.admit(now).unwrap_err();
                assert_eq!(again, now + MOST_HELD);
                assert_eq!(account.admit(again), Ok(()));
                account.charge(again, 5_000 * MILLI);
                assert_eq!(account.holds, held);
                now = again;
            }
        }
    }

    #[test]
    fn a_new_limit_forgives_what_was_used_before() {
        let mut account = limited(1000);
        account.charge(at(0), 5_000 * MILLI);
        assert!(account.admit(at(0)).is_err());
        account.limit_to(2000);
        assert_eq!(account.admit(at(0)), Ok(()));
        account.charge(at(0), 5_000 * MILLI);
        account.limit_to(Resource::UNLIMITED);
        assert_eq!(account.admit(at(0)), Ok(()));
    }

    /// Over many draws, as many as there should be are measured, and never the same number in between.
    #[test]
    fn one_of_so_many_is_drawn() {
        let drawn: Vec<usize> = (0..1_000_000).filter(|_| is_drawn()).collect();
        let expected = 1_000_000 / SAMPLE as usize;
        assert!(drawn.len().abs_diff(expected) < expected / 20);
        let gaps: Vec<usize> = drawn.windows(2).map(|two| two[1] - two[0]).collect();
        assert!(
            gaps.iter()
                .all(|gap| (1..2 * SAMPLE as usize).contains(gap))
        );
        assert!(gaps.contains(&1) && gaps.contains(&(2 * SAMPLE as usize - 1)));
    }

    proptest! {
        /// A service that does what it is let do uses no more than a burst, what flows in, and the one service that
        /// goes beyond.
        #[test]
        fn never_more_than_the_bucket_allows(
            limit in 10_000u64..2_000_000,
            services in prop::collection::vec((0u64..20 * MILLI, 1u64..MILLI), 1..200),
        ) {
            let mut account = limited(limit);
            let (mut now, mut used, mut last) = (0, 0, 0);
            for (gap, cost) in services {
                now += gap;
                while let Err(again) = account.admit(at(now)) {
                    prop_assert!(again > at(now));
                    now = again.as_nanos();
                }
                let flowed = u128::from(now) * u128::from(limit) / MICROS_PER_SEC;
                let burst = u128::from(limit) * 100;
                prop_assert!(u128::from(used) <= burst + flowed + u128::from(last));
                account.charge(at(now), cost);
                used += cost;
                last = cost;
            }
        }
    }
}

//! How many ICMP errors a second a vnet sends (RFC 1812 section 4.3.2.8): a token bucket.

use crate::base::time::{Duration, Instant};

/// A bucket that fills at a rate and holds a burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    rate: Rate,
    /// What is in the bucket, in time: each error costs what it takes to earn it.
    credit: Duration,
    filled: Instant,
}

/// How fast, and how many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    /// Errors a second in the long run; zero for none at all.
    pub per_second: u32,
    /// Errors at once after a silence.
    pub burst: u32,
}

impl Default for Rate {
    /// What Linux has: 1000 a second, 50 at once.
    fn default() -> Rate {
        Rate {
            per_second: 1000,
            burst: 50,
        }
    }
}

impl Default for Limit {
    fn default() -> Limit {
        Limit::new(Rate::default())
    }
}

impl Limit {
    /// A full bucket.
    pub(crate) fn new(rate: Rate) -> Limit {
        Limit {
            rate,
            credit: rate.capacity(),
            filled: Instant::ZERO,
        }
    }

    /// The rate in force.
    pub(crate) fn rate(&self) -> Rate {
        self.rate
    }

    /// Takes what one error costs out of the bucket; false when there is not enough in it.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let Some(cost) = self.rate.cost() else {
            return false;
        };
        self.credit = (self.credit + now.since(self.filled)).min(self.rate.capacity());
        self.filled = now;
        match self.credit.checked_sub(cost) {
            Some(left) => {
                self.credit = left;
                true
            }
            None => false,
        }
    }
}

impl Rate {
    fn cost(self) -> Option<Duration> {
        let nanos = 1_000_000_000u32.checked_div(self.per_second)?;
        Some(Duration::from_nanos(u64::from(nanos)))
    }

    fn capacity(self) -> Duration {
        self.cost().map_or(Duration::ZERO, |cost| cost * self.burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(limit: &mut Limit, nanos: u64, tries: u32) -> usize {
        let now = Instant::from_nanos(nanos);
        (0..tries).filter(|_| limit.take(now)).count()
    }

    #[test]
    fn a_burst_and_then_the_rate() {
        let mut limit = Limit::default();
        assert_eq!(taken(&mut limit, 0, 100), 50);
        assert_eq!(taken(&mut limit, 999_999, 100), 0);
        assert_eq!(taken(&mut limit, 1_000_000, 100), 1);
        assert_eq!(taken(&mut limit, 11_000_000, 100), 10);
        assert_eq!(taken(&mut limit, u64::MAX, 100), 50);
    }

    #[test]
    fn no_rate_no_errors() {
        let none = Rate {
            per_second: 0,
            burst: 50,
        };
        assert_eq!(taken(&mut Limit::new(none), 1 << 60, 100), 0);
        let all = Rate {
            per_second: u32::MAX,
            burst: u32::MAX,
        };
        assert_eq!(taken(&mut Limit::new(all), 0, 100), 100);
    }
}

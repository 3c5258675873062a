//! What an administrator sets of the rapid spanning tree protocol, with the ranges of the standard.

use std::num::NonZeroU32;

use super::vector::{Ticks, Times};
use crate::base::switch::Switch as Switchable;
use crate::base::time::Duration;

/// How a bridge speaks the rapid spanning tree protocol (IEEE 802.1Q-2018, tables 13-5 and 14-2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RstpConfig {
    /// The bridge with the least one becomes the root; equal ones are decided by the bridge's
    /// address. A multiple of 4096 up to 61440; 32768 at first.
    pub priority: u16,
    /// How often it says that it is there; 1 s to 2 s, 2 s at first.
    pub hello_time: Duration,
    /// How many seconds old information may become, which is also how many bridges from the root
    /// it may travel; 6 s to 40 s, 20 s at first. It is the root's value that counts in a network, as it is
    /// for the next one.
    pub max_age: Duration,
    /// How long a port waits before it learns, and again before it forwards, where nobody agrees
    /// that it may; 4 s to 30 s, 15 s at first. At least `max_age / 2 + 1 s`.
    pub forward_delay: Duration,
    /// BPDUs that a port may send in a second; 1 to 10, 6 at first.
    pub tx_hold_count: u8,
}

impl Default for RstpConfig {
    fn default() -> RstpConfig {
        RstpConfig {
            priority: 0x8000,
            hello_time: Duration::from_secs(2),
            max_age: Duration::from_secs(20),
            forward_delay: Duration::from_secs(15),
            tx_hold_count: 6,
        }
    }
}

/// Parameters of the spanning tree protocol that are out of range, or contradict each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StpConfigError {
    /// The priority of a bridge.
    #[error("a bridge's priority is a multiple of 4096 up to 61440, not {0}")]
    Priority(u16),
    /// The priority of a port.
    #[error("a port's priority is a multiple of 16 up to 240, not {0}")]
    PortPriority(u8),
    /// The cost of a port.
    #[error("a port's path cost is 1 to 200000000, not {0}")]
    PathCost(u32),
    /// The hello time.
    #[error("the hello time is 1 s to 2 s, not {0:?}")]
    HelloTime(Duration),
    /// The maximum age.
    #[error("the maximum age is 6 s to 40 s, not {0:?}")]
    MaxAge(Duration),
    /// The forward delay.
    #[error("the forward delay is 4 s to 30 s, not {0:?}")]
    ForwardDelay(Duration),
    /// The transmit hold count.
    #[error("a port may send 1 to 10 BPDUs in a second, not {0}")]
    TxHoldCount(u8),
    /// The forward delay is too short for the maximum age.
    #[error("a maximum age of {max_age:?} is more than 2 * ({forward_delay:?} - 1 s)")]
    AgeAndDelay {
        /// The maximum age.
        max_age: Duration,
        /// The forward delay.
        forward_delay: Duration,
    },
}

impl RstpConfig {
    /// Checks ranges and relations (IEEE 802.1Q-2018, clause 13.25).
    ///
    /// # Errors
    /// The first that does not hold.
    pub fn check(&self) -> Result<(), StpConfigError> {
        let RstpConfig {
            priority,
            hello_time,
            max_age,
            forward_delay,
            tx_hold_count,
        } = *self;
        let seconds = Duration::from_secs;
        if !priority.is_multiple_of(4096) {
            return Err(StpConfigError::Priority(priority));
        }
        if !(seconds(1)..=seconds(2)).contains(&hello_time) {
            return Err(StpConfigError::HelloTime(hello_time));
        }
        if !(seconds(6)..=seconds(40)).contains(&max_age) {
            return Err(StpConfigError::MaxAge(max_age));
        }
        if !(seconds(4)..=seconds(30)).contains(&forward_delay) {
            return Err(StpConfigError::ForwardDelay(forward_delay));
        }
        if !(1..=10).contains(&tx_hold_count) {
            return Err(StpConfigError::TxHoldCount(tx_hold_count));
        }
        // The standard's other relation, max_age >= 2 * (hello_time + 1 s), follows from the ranges.
        if max_age > 2 * (forward_delay - seconds(1)) {
            return Err(StpConfigError::AgeAndDelay {
                max_age,
                forward_delay,
            });
        }
        Ok(())
    }

    /// What the bridge says about time when it is the root.
    pub(super) fn times(&self) -> Times {
        Times {
            message_age: Ticks(0),
            max_age: Ticks::of(self.max_age),
            hello: Ticks::of(self.hello_time),
            forward_delay: Ticks::of(self.forward_delay),
        }
    }
}

/// Whether a port leads to hosts only, so that it may forward at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Edge {
    /// It does when nobody answers on it for 3 s, and until a BPDU comes in.
    #[default]
    Auto,
    /// It does from the start, until a BPDU comes in.
    Yes,
    /// It never does.
    No,
}

/// How many bridges may be at the other end of a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Segment {
    /// One at most: it can agree for everybody that the port may forward.
    #[default]
    PointToPoint,
    /// Several: the port waits for the forward delay, whoever agrees.
    Shared,
}

/// How a port takes part in the spanning tree protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RstpPort {
    /// Of two ports with equal paths the one with the lesser one is used; a multiple of 16 up to
    /// 240, 128 at first.
    pub priority: u8,
    /// What the way to the other end costs, 1 to 200 000 000; at first what the standard recommends for
    /// the link's rate (IEEE 802.1Q-2018, table 13-4), where a link without a rate counts as 10 Gbit/s.
    pub path_cost: Option<NonZeroU32>,
    /// Whether it leads to hosts only.
    pub edge: Edge,
    /// How many bridges may be at the other end.
    pub segment: Segment,
    /// On: a BPDU that comes in closes the port until it was down, or is configured anew; off at first.
    pub bpdu_guard: Switchable,
    /// On: whoever is at the other end does not become the root: the port carries nothing while that is
    /// claimed; off at first.
    pub root_guard: Switchable,
}

impl Default for RstpPort {
    fn default() -> RstpPort {
        RstpPort {
            priority: 128,
            path_cost: None,
            edge: Edge::default(),
            segment: Segment::default(),
            bpdu_guard: Switchable::Off,
            root_guard: Switchable::Off,
        }
    }
}

/// The greatest path cost that is set or computed.
const MAX_PATH_COST: u32 = 200_000_000;
/// The path cost of 1 bit/s (IEEE 802.1Q-2018, table 13-4: 20 000 at 1 Gbit/s).
const COST_BITS: u64 = 20_000_000_000_000;
/// What a link without a rate counts as, as in FreeBSD, whose epairs claim 10 Gbit/s.
const UNLIMITED_BPS: u64 = 10_000_000_000;

impl RstpPort {
    pub(in crate::netif::bridge) fn is_default(&self) -> bool {
        *self == RstpPort::default()
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// The first that does not hold.
    pub fn check(&self) -> Result<(), StpConfigError> {
        if !self.priority.is_multiple_of(16) {
            return Err(StpConfigError::PortPriority(self.priority));
        }
        match self.path_cost {
            Some(cost) if cost.get() > MAX_PATH_COST => Err(StpConfigError::PathCost(cost.get())),
            _ => Ok(()),
        }
    }

    /// What the way to the other end costs, on a link of that rate.
    pub(crate) fn cost(&self, rate_bps: Option<u64>) -> u32 {
        self.path_cost
            .map_or_else(|| path_cost(rate_bps), NonZeroU32::get)
    }
}

/// The path cost of a link of that rate in bit/s (IEEE 802.1Q-2018, table 13-4). One without a rate counts
/// as 10 Gbit/s.
pub(crate) fn path_cost(rate_bps: Option<u64>) -> u32 {
    let rate = rate_bps.unwrap_or(UNLIMITED_BPS).max(1);
    let cost = (COST_BITS / rate).clamp(1, u64::from(MAX_PATH_COST));
    cost as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_costs_are_those_of_the_table() {
        let table = [
            (50_000, 200_000_000),
            (100_000, 200_000_000),
            (1_000_000, 20_000_000),
            (10_000_000, 2_000_000),
            (100_000_000, 200_000),
            (1_000_000_000, 20_000),
            (10_000_000_000, 2_000),
            (100_000_000_000, 200),
            (1_000_000_000_000, 20),
            (10_000_000_000_000, 2),
            (u64::MAX, 1),
            (0, 200_000_000),
        ];
        for (rate, cost) in table {
            assert_eq!(path_cost(Some(rate)), cost, "{rate} bit/s");
        }
        assert_eq!(path_cost(None), 2_000);
    }

    #[test]
    fn ranges_and_relations_are_those_of_the_standard() {
        let good = RstpConfig::default();
        assert_eq!(good.check(), Ok(()));
        let s = Duration::from_secs;
        let slowest = RstpConfig {
            max_age: s(40),
            forward_delay: s(21),
            ..good
        };
        assert_eq!(slowest.check(), Ok(()));
        type Change = fn(&mut RstpConfig);
        let bad: [(Change, StpConfigError); 9] = [
            (|c| c.priority = 4097, StpConfigError::Priority(4097)),
            (
                |c| c.hello_time = Duration::from_millis(999),
                StpConfigError::HelloTime(Duration::from_millis(999)),
            ),
            (
                |c| c.hello_time = Duration::from_secs(3),
                StpConfigError::HelloTime(s(3)),
            ),
            (
                |c| c.max_age = Duration::from_secs(5),
                StpConfigError::MaxAge(s(5)),
            ),
            (
                |c| c.forward_delay = Duration::from_secs(31),
                StpConfigError::ForwardDelay(s(31)),
            ),
            (|c| c.tx_hold_count = 0, StpConfigError::TxHoldCount(0)),
            (|c| c.tx_hold_count = 11, StpConfigError::TxHoldCount(11)),
            (
                |c| c.forward_delay = Duration::from_secs(10),
                StpConfigError::AgeAndDelay {
                    max_age: s(20),
                    forward_delay: s(10),
                },
            ),
            (
                |c| c.max_age = Duration::from_millis(5999),
                StpConfigError::MaxAge(Duration::from_millis(5999)),
            ),
        ];
        for (change, error) in bad {
            let mut config = good;
            change(&mut config);
            assert_eq!(config.check(), Err(error));
        }
        let port = RstpPort::default();
        let cost = NonZeroU32::new(200_000_001);
        assert_eq!(
            RstpPort {
                priority: 17,
                ..port
            }
            .check(),
            Err(StpConfigError::PortPriority(17))
        );
        assert_eq!(
            RstpPort {
                path_cost: cost,
                ..port
            }
            .check(),
            Err(StpConfigError::PathCost(200_000_001))
        );
    }
}

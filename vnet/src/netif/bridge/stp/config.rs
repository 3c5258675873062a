//! The parameters of the rapid spanning tree protocol, with the ranges of the standard.

use std::num::NonZeroU32;

use super::vector::{Ticks, Times};
use crate::base::config::ConfigError;
use crate::base::switch::Switch as Switchable;
use crate::base::time::Duration;

/// The parameters of a bridge in the rapid spanning tree protocol (IEEE 802.1Q-2018, tables 13-5 and 14-2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RstpConfig {
    /// The bridge with the lowest priority becomes the root; among equals, the one with the lowest address. A multiple
    /// of 4096 up to 61440; 32768 by default.
    pub priority: u16,
    /// The interval between its BPDUs, 1 s to 2 s; 2 s by default.
    pub hello_time: Duration,
    /// The maximum age of information, 6 s to 40 s; 20 s by default. The number of seconds is also the maximum number
    /// of bridges between the root and any other bridge. In a network, the root's value applies to all bridges. This
    /// is also true of the next parameter.
    pub max_age: Duration,
    /// How long a port waits before it learns, and again before it forwards, if no neighbour agrees to it earlier; 4 s
    /// to 30 s, and at least `max_age / 2 + 1 s`; 15 s by default.
    pub forward_delay: Duration,
    /// The number of BPDUs that a port may send per second, 1 to 10; 6 by default.
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

impl RstpConfig {
    /// Checks ranges and relations (IEEE 802.1Q-2018, clause 13.25).
    pub(in crate::netif::bridge) fn check(&self) -> Result<(), ConfigError> {
        let RstpConfig {
            priority,
            hello_time,
            max_age,
            forward_delay,
            tx_hold_count,
        } = *self;
        let seconds = Duration::from_secs;
        if !priority.is_multiple_of(4096) {
            return Err(ConfigError::new(
                "priority",
                format!("a bridge's priority is a multiple of 4096 up to 61440, not {priority}"),
            ));
        }
        if !(seconds(1)..=seconds(2)).contains(&hello_time) {
            return Err(ConfigError::new(
                "hello_time",
                format!("the hello time is 1 s to 2 s, not {hello_time:?}"),
            ));
        }
        if !(seconds(6)..=seconds(40)).contains(&max_age) {
            return Err(ConfigError::new(
                "max_age",
                format!("the maximum age is 6 s to 40 s, not {max_age:?}"),
            ));
        }
        if !(seconds(4)..=seconds(30)).contains(&forward_delay) {
            return Err(ConfigError::new(
                "forward_delay",
                format!("the forward delay is 4 s to 30 s, not {forward_delay:?}"),
            ));
        }
        if !(1..=10).contains(&tx_hold_count) {
            return Err(ConfigError::new(
                "tx_hold_count",
                format!("a port may send 1 to 10 BPDUs in a second, not {tx_hold_count}"),
            ));
        }
        // The standard's other relation, max_age >= 2 * (hello_time + 1 s), follows from the ranges.
        if max_age > 2 * (forward_delay - seconds(1)) {
            return Err(ConfigError::new(
                "max_age",
                format!("a maximum age of {max_age:?} is more than 2 * ({forward_delay:?} - 1 s)"),
            ));
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

/// Whether a port leads only to hosts, so that it may forward at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Edge {
    /// It is assumed to after 3 s without a BPDU, until one arrives.
    #[default]
    Auto,
    /// It is assumed to from the start, until a BPDU arrives.
    Yes,
    /// It is never assumed to.
    No,
}

/// How many bridges may be connected to a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Segment {
    /// At most one, whose agreement is enough for the port to forward.
    #[default]
    PointToPoint,
    /// Several: the port always waits for the forward delay.
    Shared,
}

/// The parameters of a member of a bridge in the spanning tree protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RstpPort {
    /// Of two ports with equal paths, the one with the lower priority is used. A multiple of 16 up to 240; 128 by
    /// default.
    pub priority: u8,
    /// The cost of the path to the other end, 1 to 200 000 000. The default is what the standard recommends for the
    /// link's rate (IEEE 802.1Q-2018, table 13-4); a link without a rate counts as 10 Gbit/s.
    pub path_cost: Option<NonZeroU32>,
    /// Whether it leads only to hosts.
    pub edge: Edge,
    /// How many bridges may be connected to it.
    pub segment: Segment,
    /// Whether a received BPDU closes the port, until it goes down or is configured again. Off by default.
    pub bpdu_guard: Switchable,
    /// Whether a bridge behind the port is prevented from becoming the root: the port carries nothing while one claims
    /// to be. Off by default.
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
    pub(in crate::netif::bridge) fn check(&self) -> Result<(), ConfigError> {
        if !self.priority.is_multiple_of(16) {
            return Err(ConfigError::new(
                "priority",
                format!(
                    "a port's priority is a multiple of 16 up to 240, not {}",
                    self.priority
                ),
            ));
        }
        match self.path_cost {
            Some(cost) if cost.get() > MAX_PATH_COST => Err(ConfigError::new(
                "path_cost",
                format!("a port's path cost is 1 to 200000000, not {cost}"),
            )),
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
        let bad: [(Change, &str); 9] = [
            (|c| c.priority = 4097, "priority"),
            (|c| c.hello_time = Duration::from_millis(999), "hello_time"),
            (|c| c.hello_time = Duration::from_secs(3), "hello_time"),
            (|c| c.max_age = Duration::from_secs(5), "max_age"),
            (
                |c| c.forward_delay = Duration::from_secs(31),
                "forward_delay",
            ),
            (|c| c.tx_hold_count = 0, "tx_hold_count"),
            (|c| c.tx_hold_count = 11, "tx_hold_count"),
            (|c| c.forward_delay = Duration::from_secs(10), "max_age"),
            (|c| c.max_age = Duration::from_millis(5999), "max_age"),
        ];
        for (change, setting) in bad {
            let mut config = good;
            change(&mut config);
            let refused = config.check().expect_err("it is out of range");
            assert_eq!(refused.setting, setting, "{refused}");
        }
        let port = RstpPort::default();
        let cost = NonZeroU32::new(200_000_001);
        let priority = RstpPort {
            priority: 17,
            ..port
        };
        let path_cost = RstpPort {
            path_cost: cost,
            ..port
        };
        for (port, setting) in [(priority, "priority"), (path_cost, "path_cost")] {
            let refused = port.check().expect_err("it is out of range");
            assert_eq!(refused.setting, setting, "{refused}");
        }
    }
}

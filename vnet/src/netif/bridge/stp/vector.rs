//! What bridges compare: identifiers, priority vectors (IEEE 802.1Q-2018, clause 13.10) and the times
//! that the root hands down.

use std::fmt;

use crate::base::time::Duration;
use crate::packet::MacAddr;

/// Who a bridge is, in a spanning tree. The least one in a network is the root's.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct BridgeIdentifier {
    /// Its priority: the bridge with the lowest one becomes the root.
    pub priority: u16,
    /// Its address, which decides between equal priorities.
    pub mac: MacAddr,
}

impl BridgeIdentifier {
    pub(super) fn from_bytes(bytes: [u8; 8]) -> BridgeIdentifier {
        let [p, q, mac @ ..] = bytes;
        BridgeIdentifier {
            priority: u16::from_be_bytes([p, q]),
            mac: MacAddr(mac),
        }
    }

    pub(super) fn to_bytes(self) -> [u8; 8] {
        let mut bytes = [0; 8];
        bytes[..2].copy_from_slice(&self.priority.to_be_bytes());
        bytes[2..].copy_from_slice(&self.mac.0);
        bytes
    }
}

impl fmt::Display for BridgeIdentifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.priority, self.mac)
    }
}

/// The number of a port within its bridge: 1 to [`PortNumber::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PortNumber(u16);

impl PortNumber {
    /// The greatest one: 12 bits are left of an identifier for it (clause 13.27.46).
    pub(crate) const MAX: u16 = 0xfff;

    /// The port of that number, if there can be one.
    pub(crate) fn new(number: u16) -> Option<PortNumber> {
        (1..=PortNumber::MAX)
            .contains(&number)
            .then_some(PortNumber(number))
    }
}

/// Which port of a bridge it is: its priority in the upper four bits, its number in the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PortIdentifier(pub(super) u16);

impl PortIdentifier {
    /// The identifier of a port with that priority, of which the upper four bits count.
    pub(crate) fn new(priority: u8, number: PortNumber) -> PortIdentifier {
        PortIdentifier(u16::from(priority & 0xf0) << 8 | number.0)
    }

    pub(super) fn number(self) -> u16 {
        self.0 & PortNumber::MAX
    }
}

/// How good a path to a root is. The lesser one is the better one, compared from the first
/// component on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Vector {
    /// The root that it leads to.
    pub root: BridgeIdentifier,
    /// What it costs to get there from the designated bridge.
    pub cost: u32,
    /// The designated bridge.
    pub bridge: BridgeIdentifier,
    /// The designated port.
    pub port: PortIdentifier,
}

impl Vector {
    /// True when both are of the same designated port, whatever its priorities.
    pub(super) fn is_of_the_same_port(&self, other: &Vector) -> bool {
        self.bridge.mac == other.bridge.mac && self.port.number() == other.port.number()
    }

    /// The same, for one who has to pay `cost` for the way to the designated port.
    pub(super) fn at_cost(self, cost: u32) -> Vector {
        Vector {
            cost: self.cost.saturating_add(cost),
            ..self
        }
    }
}

/// A length of time in 1/256 s, as BPDUs have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticks(pub(super) u16);

impl Ticks {
    /// One second.
    pub(super) const SECOND: Ticks = Ticks(256);

    /// What is left of a length of time when it is cut to that unit.
    pub(crate) fn of(duration: Duration) -> Ticks {
        let ticks = duration.as_nanos() * 256 / 1_000_000_000;
        Ticks(u16::try_from(ticks).unwrap_or(u16::MAX))
    }

    pub(crate) fn duration(self) -> Duration {
        Duration::from_nanos(u64::from(self.0) * 1_000_000_000 / 256)
    }

    pub(super) fn plus(self, other: Ticks) -> Ticks {
        Ticks(self.0.saturating_add(other.0))
    }
}

/// What the root says about time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Times {
    /// How old the information is: one second for each bridge that it has passed.
    pub message_age: Ticks,
    /// How old it may become.
    pub max_age: Ticks,
    /// How often bridges say that they are there.
    pub hello: Ticks,
    /// How long a port listens, and learns, before it forwards without anybody's agreement.
    pub forward_delay: Ticks,
}

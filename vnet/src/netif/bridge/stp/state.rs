//! The role of a port in the tree, its state, and its counters.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The role of a port in the spanning tree (IEEE 802.1Q-2018, clause 13.12).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// None, because the port is down or a guard has closed it.
    #[default]
    Disabled,
    /// It leads to the root.
    Root,
    /// It leads away from the root, and is the only port on its segment that does.
    Designated,
    /// It leads to the root by a path that is not in use.
    Alternate,
    /// It leads to a segment for which another port of the same bridge is designated.
    Backup,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Disabled => "disabled",
            Role::Root => "root",
            Role::Designated => "designated",
            Role::Alternate => "alternate",
            Role::Backup => "backup",
        })
    }
}

/// What a port does with frames other than BPDUs.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum PortState {
    /// It drops them.
    Discarding,
    /// It learns from them and drops them.
    Learning,
    /// It forwards them, as every port does without a spanning tree.
    #[default]
    Forwarding,
    /// It drops them because a guard has closed the port.
    Guarded,
}

impl PortState {
    /// True when frames pass.
    #[inline]
    pub(crate) fn forwards(self) -> bool {
        self == PortState::Forwarding
    }
}

impl fmt::Display for PortState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PortState::Discarding => "discarding",
            PortState::Learning => "learning",
            PortState::Forwarding => "forwarding",
            PortState::Guarded => "guarded",
        })
    }
}

/// Counters of the spanning tree protocol on a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StpCounters {
    /// BPDUs received, of every kind, including bad ones.
    pub received: u64,
    /// BPDUs that were refused: malformed, expired, or the bridge's own.
    pub refused: u64,
    /// BPDUs received that report a topology change.
    pub changes_received: u64,
    /// BPDUs sent.
    pub sent: u64,
    /// How often the port began to forward.
    pub forwarded: u64,
    /// How often the stations behind it were forgotten after a topology change.
    pub flushed: u64,
    /// BPDUs that triggered a guard.
    pub guarded: u64,
}

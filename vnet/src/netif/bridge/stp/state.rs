//! What becomes of a port: its role in the tree, its state, and what is counted of it.

use std::fmt;

/// What a port is in the spanning tree (IEEE 802.1Q-2018, clause 13.12).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// None: the port is down, or a guard has closed it.
    #[default]
    Disabled,
    /// It leads to the root.
    Root,
    /// It leads away from the root, and is the only one on its segment that does.
    Designated,
    /// Another way to the root than the one in use.
    Alternate,
    /// Another way to a segment to which a port of the same bridge leads already.
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

/// What a port does with frames that are no BPDUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PortState {
    /// Nothing: they are dropped.
    Discarding,
    /// It learns from them, and drops them.
    Learning,
    /// It carries them, as every port does where no spanning tree protocol runs.
    #[default]
    Forwarding,
    /// They are dropped because of what a guard has seen.
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

/// What a port's side of the spanning tree protocol did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StpCounters {
    /// BPDUs received, of every kind, bad ones included.
    pub received: u64,
    /// BPDUs that were refused: of no known form, expired, or its own come back.
    pub refused: u64,
    /// BPDUs received that say that the topology has changed.
    pub changes_received: u64,
    /// BPDUs sent.
    pub sent: u64,
    /// How often it began to forward.
    pub forwarded: u64,
    /// How often stations behind it were forgotten because the topology had changed.
    pub flushed: u64,
    /// BPDUs that a guard objected to.
    pub guarded: u64,
}

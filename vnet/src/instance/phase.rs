//! How far an instance is in its life, and whom it lets in.

use serde::{Deserialize, Serialize};

/// The phase of an instance's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PhaseName {
    /// Its init steps are running.
    Starting,
    /// It can be used.
    Up,
    /// It is shutting down gracefully: new sockets are refused, and its connections end.
    Draining,
    /// It has [failed](crate::Vnet::failure), and is waiting for its owner to destroy it.
    Failed,
    /// It is being torn down.
    Dying,
}

pub(crate) use PhaseName as Phase;

/// The instance is gone or is being torn down: it refuses every operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the vnet is gone")]
pub struct Gone;

/// Who asks for entry into an instance.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A user, or an init step that uses the instance as a user does: until it is torn down. A
    /// callback that panics has its panic go to this caller.
    User,
    /// The driver, on no caller's behalf: as long as users are admitted.
    Service,
    /// Its own init and uninit steps: in every phase.
    Lifecycle,
}

impl Phase {
    /// Whether it lets `entry` in.
    #[inline]
    pub(crate) fn admits(self, entry: Entry) -> bool {
        entry == Entry::Lifecycle || !matches!(self, Phase::Failed | Phase::Dying)
    }
}

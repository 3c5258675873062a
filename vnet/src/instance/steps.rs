//! Recorded init steps, as a system keeps them and an instance notes them.

use std::sync::Arc;

use super::error::StepError;

/// When in the life of an instance a step runs: earlier stages first on the way up, last on the
/// way down. The order of FreeBSD's `SI_SUB` stages for vnets.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Interface tables.
    Interfaces,
    /// Link layers: neighbours.
    LinkLayers,
    /// Domains: addresses and routes.
    Domains,
    /// Protocols.
    Protocols,
    /// Packet filters.
    Filters,
    /// Interfaces that attach to protocols.
    InterfaceAttach,
    /// What serves users.
    Services,
}

type StepFn<C> = dyn Fn(&Arc<C>) -> Result<(), StepError> + Send + Sync;

/// A recorded step with its reverse. `C` is what it is run in: an instance.
pub(crate) struct Step<C> {
    pub(crate) name: String,
    pub(crate) stage: Stage,
    pub(crate) order: i32,
    pub(crate) owner: StepOwner,
    pub(crate) init: Box<StepFn<C>>,
    pub(crate) uninit: Box<StepFn<C>>,
}

/// Whose step it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StepOwner {
    Library,
    User,
}

/// A step that an instance ran.
pub(crate) struct RanStep<C> {
    pub(crate) step: Arc<Step<C>>,
    /// In nanoseconds.
    pub(crate) took: u64,
}

//! Why an instance cannot be made, and why a step cannot be recorded.

use std::error::Error;

use super::phase::Gone;
use super::privilege::Denied;
use super::report::Failure;
use crate::stack::limits::LimitReached;

/// What a step reports when it fails.
pub(crate) type StepError = Box<dyn Error + Send + Sync>;

/// Why an instance cannot be created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// A name is 1 to 63 letters, digits, `-` or `_`.
    #[error("{0:?} is not a valid vnet name: use 1 to 63 letters, digits, '-' and '_'")]
    BadName(String),
    /// An instance of that name exists already.
    #[error("a vnet named {0:?} exists already")]
    Exists(String),
    /// The intended parent is gone.
    #[error("the parent vnet is gone")]
    Gone,
    /// The parent's tenants lack the privilege to make children.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The parent has as many children as it may.
    #[error(transparent)]
    Limit(LimitReached),
    /// Its stack panicked while it was being created, which is a defect of the library.
    #[error("{0}")]
    Failed(Failure),
    /// A recorded init step failed; the ones before it have been undone.
    #[error("init step {step:?} failed")]
    Init {
        /// The step's name.
        step: String,
        /// What it said.
        #[source]
        source: StepError,
    },
}

impl From<Gone> for CreateError {
    fn from(_: Gone) -> CreateError {
        CreateError::Gone
    }
}

/// Why a step cannot be registered or unregistered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// A step of that name exists already.
    #[error("an init step named {0:?} is registered already")]
    Exists(String),
    /// There is no step of that name.
    #[error("there is no init step {0:?}")]
    NotFound(String),
    /// The handle to the system is that of a tenant that may not act on the whole system.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The step belongs to the library.
    #[error("init step {0:?} belongs to the library")]
    Builtin(String),
    /// The step failed in an instance.
    #[error("init step {step:?} failed in vnet {vnet:?}")]
    Failed {
        /// The step's name.
        step: String,
        /// The instance's name.
        vnet: String,
        /// What it said.
        #[source]
        source: StepError,
    },
}

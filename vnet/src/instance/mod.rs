//! Instances: what makes many stacks out of one stack.
//!
//! | part | what it is |
//! |---|---|
//! | `context` | the current vnet of a thread |
//! | `driver` | what an instance requires of its driver |
//! | `failure` | the end of an instance whose stack has panicked; panics of callbacks |
//! | `hierarchy` | instances made by instances |
//! | `lifecycle` | creation by replay, ordered teardown, the report |
//! | `limits` | how much an instance may hold |
//! | `local` | virtualized variables, [`vnet_local!`](crate::vnet_local) |
//! | `messages` | each instance's message buffer |
//! | `privilege` | what tenants may do |
//! | `registry` | recorded init steps, and the ones of the built-in layers |
//! | `shutdown` | graceful shutdown |
//! | `system` | [`System`], the "kernel": names, init records, the driver |
//! | `vnet` | [`Vnet`] and [`OwnedVnet`], the handles, and the core they share |

pub(crate) mod context;
pub(crate) mod driver;
pub(crate) mod failure;
pub(crate) mod hierarchy;
pub(crate) mod lifecycle;
pub(crate) mod limits;
pub(crate) mod local;
pub(crate) mod messages;
pub(crate) mod privilege;
pub(crate) mod registry;
pub(crate) mod shutdown;
pub(crate) mod system;
pub(crate) mod vnet;

pub use context::{Entered, Scope};
pub(crate) use driver::Waited;
pub use failure::Failure;
pub use lifecycle::{DestroyReport, Outcome, Released, StepReport};
pub use limits::{Resource, UNLIMITED, Usage};
pub use local::{Local, LocalError};
pub use privilege::{
    AdminError, Denied, ParsePrivilegeError, Privilege, PrivilegeError, Privileges,
};
pub use registry::{InitRecord, Stage, StepError};
pub use shutdown::{Graceful, ShutdownError, ShutdownErrorKind};
pub use system::{CreateError, JoinHandle, System};
pub use vnet::{Gone, OwnedVnet, Vnet};

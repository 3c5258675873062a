//! Instances: what makes many stacks out of one stack.
//!
//! | part | what it is |
//! |---|---|
//! | `configure` | the one way in which configuration is changed |
//! | `context` | the current vnet of a thread |
//! | `driver` | what an instance requires of its driver |
//! | `failure` | the end of an instance whose stack has panicked; panics of callbacks |
//! | `hierarchy` | instances made by instances |
//! | `journal` | the operations of configuration that are in effect |
//! | `lifecycle` | creation by replay, ordered teardown, the report |
//! | `limits` | how much an instance may hold |
//! | `loans` | interfaces that are lent, as their home knows them |
//! | `local` | virtualized variables, [`vnet_local!`](crate::vnet_local) |
//! | `macs` | the Ethernet addresses that a system gives out |
//! | `messages` | each instance's message buffer |
//! | `phase` | how far the life of an instance is |
//! | `privilege` | what tenants may do |
//! | `registry` | recorded init steps |
//! | `shutdown` | graceful shutdown |
//! | `system` | [`System`], the "kernel": names, init records, the driver |
//! | `task` | tasks as the kernel and the drivers know them |
//! | `vnet` | [`Vnet`] and [`OwnedVnet`], the handles, and the core they share |

pub(crate) mod configure;
pub(crate) mod context;
pub(crate) mod driver;
pub(crate) mod failure;
pub(crate) mod hierarchy;
pub(crate) mod journal;
pub(crate) mod lifecycle;
pub(crate) mod limits;
pub(crate) mod loans;
pub(crate) mod local;
pub(crate) mod macs;
pub(crate) mod messages;
pub(crate) mod phase;
pub(crate) mod privilege;
pub(crate) mod registry;
pub(crate) mod shutdown;
pub(crate) mod system;
pub(crate) mod task;
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
pub use system::{CreateError, System};
pub use vnet::{Gone, OwnedVnet, Vnet};

//! Instances: what makes many stacks out of one stack.
//!
//! What an instance and a system consist of is in `cores`, which imports the parts; what is done with
//! them is in files that import `cores`, and that `cores` does not know.
//!
//! | what it is about | parts | what is done with them |
//! |---|---|---|
//! | handles and what they share | `cores` | `vnet`, `system`: [`Vnet`], [`OwnedVnet`], [`System`] |
//! | entering | `phase`: how far an instance is in its life, and whom it lets in | `entry`; `context`: the current vnet of a thread, `trail`: where it entered |
//! | birth and death | `steps`: recorded steps, `registry`: who is there | `init`: steps as a program writes them, `lifecycle`: creation by replay, ordered teardown |
//! | | `report`: how an instance ended, `error`: why it was not made | `failure`: its end when its stack has panicked; panics of callbacks |
//! | | `drain` | `shutdown`: graceful shutdown |
//! | what is allowed | `privilege`: what tenants may do | `authority`: asking and changing that |
//! | | `processor`: the processor time that an instance uses | `limits`: how much an instance may hold; `hierarchy`: instances made by instances |
//! | configuration | `journal`: the operations that are in effect | `configure`: the one way in which it is changed |
//! | variables | `locals`: the values of one instance | `local`: [`vnet_local!`](crate::vnet_local) |
//! | messages | `directory`: whose buffer is where | `messages`: how they get there |
//! | the driver | `driver`: what an instance requires of it, `task`: tasks as kernel and drivers know them, `site`: where a call was made | |
//! | | | `beside`: another scheduler in a system's time |
//! | | `attendance`: carrying frames for a port while waiting | |
//! | simulation on several threads | `parallel`: whether they are used | `apart`: what may be carried out apart from others |
//! | smaller parts | `loans`: interfaces that are lent, `macs`: the Ethernet addresses that a system gives out | |

pub(crate) mod apart;
pub(crate) mod attendance;
pub(crate) mod authority;
pub(crate) mod beside;
pub(crate) mod configure;
pub(crate) mod context;
pub(crate) mod cores;
pub(crate) mod directory;
mod drain;
pub(crate) mod driver;
mod entry;
pub(crate) mod error;
pub(crate) mod failure;
pub(crate) mod hierarchy;
pub(crate) mod init;
pub(crate) mod journal;
pub(crate) mod lifecycle;
pub(crate) mod limits;
pub(crate) mod loans;
pub(crate) mod local;
pub(crate) mod locals;
pub(crate) mod macs;
pub(crate) mod messages;
pub(crate) mod parallel;
pub(crate) mod phase;
pub(crate) mod privilege;
pub(crate) mod processor;
pub(crate) mod registry;
pub(crate) mod report;
pub(crate) mod shutdown;
pub(crate) mod site;
pub(crate) mod steps;
pub(crate) mod system;
pub(crate) mod task;
mod trail;
pub(crate) mod vnet;

pub use context::Entered;
pub(crate) use driver::Waited;
pub use error::{CreateError, RegisterError};
pub use init::InitRecord;
pub use limits::{Resource, Usage};
pub use local::{Local, LocalError};
pub use phase::Gone;
pub use privilege::{Denied, Privilege, Privileges};
pub use report::{DestroyReport, Failure, Graceful, Outcome, Released, StepReport};
pub use shutdown::ShutdownError;
pub use steps::Stage;
pub use system::System;
pub use vnet::{OwnedVnet, Vnet};

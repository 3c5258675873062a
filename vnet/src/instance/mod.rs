//! Instances: what makes many stacks out of one stack.
//!
//! | part | what it is |
//! |---|---|
//! | [`vnet`] | [`Vnet`] and [`OwnedVnet`], the handles, and the core they share |
//! | [`system`] | [`System`], the "kernel": names, init records, the driver |
//! | [`context`] | the current vnet of a thread |
//! | [`registry`] | recorded init steps, and the ones of the built-in layers |
//! | [`lifecycle`] | creation by replay, ordered teardown, the report |
//! | [`failure`] | the end of an instance whose stack has panicked; panics of callbacks |
//! | [`local`] | virtualized variables, [`vnet_local!`](crate::vnet_local) |
//! | [`privilege`] | what tenants may do |
//! | `macs` | the Ethernet addresses that a system gives out |
//! | [`limits`] | how much an instance may hold |
//! | [`record`] | the journal of configuration, and twins made from it |
//! | [`messages`] | each instance's message buffer |
//! | [`sysctl`] | tunables by name |
//! | [`hierarchy`] | instances made by instances |
//! | [`inspect`] | listing neighbours, sockets and links |
//! | [`captures`] | starting, listing and stopping captures |
//! | [`interfaces`] | making and changing interfaces and addresses |
//! | [`moves`] | interfaces that are lent to other vnets, and come home |
//! | [`scripts`] | links that change by a script |
//! | [`pins`] | what keeps an instance from being destroyed strictly |
//! | [`shutdown`] | going away gracefully |
//! | [`routes`] | the routing table's administration |
//! | [`port`] | [`Port`], the outside end of a port interface |
//! | [`task`] | futures that a system polls |
//! | [`timer`] | sleeping and time limits as futures |
//! | [`run`] | running a simulated world, with limits |
//! | [`pending`] | what a system is waiting for |
//! | `completion` | where threads and tasks leave their results |
//! | [`driver`] | what an instance asks of whoever drives it |

pub(crate) mod bridges;
pub(crate) mod captures;
mod completion;
pub(crate) mod context;
pub(crate) mod driver;
pub(crate) mod failure;
pub(crate) mod hierarchy;
pub(crate) mod inspect;
pub(crate) mod interfaces;
pub(crate) mod lifecycle;
pub(crate) mod limits;
pub(crate) mod local;
mod macs;
pub(crate) mod messages;
pub(crate) mod moves;
pub(crate) mod pending;
pub(crate) mod pins;
pub(crate) mod port;
pub(crate) mod privilege;
pub mod record;
pub(crate) mod registry;
pub(crate) mod routes;
pub(crate) mod run;
pub(crate) mod scripts;
pub(crate) mod shutdown;
pub mod sysctl;
pub(crate) mod system;
pub(crate) mod task;
pub(crate) mod timer;
pub(crate) mod vnet;

pub use context::{Entered, Scope};
pub(crate) use driver::Waited;
pub use failure::Failure;
pub use lifecycle::{DestroyReport, Outcome, Released, StepReport};
pub use limits::{Resource, UNLIMITED, Usage};
pub use local::{Local, LocalError};
pub use moves::{Fate, Homecoming, LentInterface, MoveError, Moved};
pub use pending::{Deadlock, Pending, deadlock};
pub use pins::{InterfacePin, Pins, SocketPin, ThreadPin};
pub use port::{Port, PortError};
pub use privilege::{
    AdminError, Denied, ParsePrivilegeError, Privilege, PrivilegeError, Privileges,
};
pub use registry::{InitRecord, Stage, StepError};
pub use routes::{NextHopSpec, RouteError};
pub use run::{Ran, RunError, RunLimit};
pub use shutdown::{Graceful, ShutdownError, ShutdownErrorKind};
pub use system::{CreateError, JoinHandle, System};
pub use task::{Panic, TaskError, TaskHandle};
pub use timer::{Elapsed, Sleep, Timeout};
pub use vnet::{Gone, OwnedVnet, Vnet};

//! Instances: what makes many stacks out of one stack.
//!
//! | part | what it is |
//! |---|---|
//! | [`vnet`] | [`Vnet`] and [`OwnedVnet`], the handles, and the core they share |
//! | [`system`] | [`System`], the "kernel": names, init records, the driver |
//! | [`context`] | the current vnet of a thread |
//! | [`registry`] | recorded init steps, and the ones of the built-in layers |
//! | [`lifecycle`] | creation by replay, ordered teardown, the report |
//! | [`local`] | virtualized variables, [`vnet_local!`](crate::vnet_local) |
//! | [`privilege`] | what tenants may do |
//! | [`limits`] | how much an instance may hold |
//! | [`record`] | the journal of configuration, and twins made from it |
//! | [`messages`] | each instance's message buffer |
//! | [`sysctl`] | tunables by name |
//! | [`hierarchy`] | instances made by instances |
//! | [`inspect`] | listing neighbours, sockets and links |
//! | [`interfaces`] | making and changing interfaces and addresses |
//! | [`routes`] | the routing table's administration |
//! | [`port`] | [`Port`], the outside end of a port interface |
//! | [`driver`] | what an instance asks of whoever drives it |

pub mod context;
pub mod driver;
pub mod hierarchy;
pub mod inspect;
pub mod interfaces;
pub mod lifecycle;
pub mod limits;
pub mod local;
pub mod messages;
pub mod port;
pub mod privilege;
pub mod record;
pub mod registry;
pub mod routes;
pub mod sysctl;
pub mod system;
pub mod vnet;

pub use context::{Entered, Scope};
pub use driver::{Driver, Waited};
pub use lifecycle::{DestroyReport, Released, StepReport};
pub use limits::{LimitReached, Resource, UNLIMITED, Usage};
pub use local::{Local, LocalError};
pub use port::{Port, PortError};
pub use privilege::{
    AdminError, Denied, ParsePrivilegeError, Privilege, PrivilegeError, Privileges,
};
pub use registry::{InitRecord, Stage, StepError};
pub use routes::{NextHopSpec, RouteError};
pub use system::{CreateError, JoinHandle, System};
pub use vnet::{Gone, OwnedVnet, Vnet};

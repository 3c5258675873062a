//! Administration: what an administrator does to an instance, and looks at.
//!
//! | part | what it is |
//! |---|---|
//! | `adverts` | what a router advertises on a link |
//! | `bridges` | bridges, their members and their stations |
//! | `captures` | starting, listing and stopping captures |
//! | `inspect` | listing neighbours, sockets and links |
//! | `interfaces` | making and changing interfaces and addresses |
//! | `lagg` | laggs, which aggregate links |
//! | `moves` | interfaces that are lent to other vnets, and returned |
//! | `neighbours` | neighbours set by hand |
//! | `netstat` | what the protocols have counted |
//! | `pins` | what keeps an instance from being destroyed strictly |
//! | `policy` | the policy by which addresses are selected |
//! | `port` | [`Port`], the outside end of a port interface |
//! | `record` | recorded configuration, and twins made from it |
//! | `routes` | the routing table's administration |
//! | `scripts` | links that change by a script |
//! | `steps` | what administration does in every instance's life |
//! | `sysctl` | tunables by name |
//! | `vlans` | VLAN interfaces |

pub(crate) mod adverts;
pub(crate) mod bridges;
pub(crate) mod captures;
pub(crate) mod inspect;
pub(crate) mod interfaces;
pub(crate) mod lagg;
pub(crate) mod moves;
pub(crate) mod neighbours;
pub(crate) mod netstat;
pub(crate) mod pins;
pub(crate) mod policy;
pub(crate) mod port;
pub mod record;
pub(crate) mod routes;
pub(crate) mod scripts;
pub(crate) mod steps;
pub mod sysctl;
pub(crate) mod vlans;

pub use moves::{LentInterface, ReturnedInterface};
pub use pins::{InterfacePin, Pins, SocketPin, ThreadPin};
pub use port::{Port, PortError};
pub use routes::NextHopSpec;

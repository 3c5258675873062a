//! Topologies from files.
//!
//! | part | what it is |
//! |---|---|
//! | [`topology`] | reading and checking a file |
//! | `check` | what a run would refuse, and what it would do without being of use |
//! | [`plan`] | what is to be built, and the way packets will take |
//! | [`mod@run`] | bringing it up, running its jobs, taking it down |
//! | [`record`] | what a topology would create, and records of it |
//! | [`report`] | what came of it, as a table and as JSON |
//! | [`text`] | texts as they can be printed |
//!
//! `docs/topology.md` describes the file and the command.

mod check;
pub mod generate;
pub mod plan;
pub mod record;
pub mod report;
pub mod run;
pub mod text;
pub mod topology;

pub use plan::Plan;
pub use report::Report;
pub use run::run;
pub use topology::{Invalid, Topology};

/// The topology that `vnet run` brings up when it is given none.
pub const TRIANGLE: &str = include_str!("../topologies/triangle.toml");

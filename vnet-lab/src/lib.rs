//! Topologies from files.
//!
//! | part | what it is |
//! |---|---|
//! | [`text`], `quantity` | texts and quantities as they are printed |
//! | `family` | the two versions of IP |
//! | `file` | a TOML file, read key by key |
//! | [`job`] | the kinds of jobs: what they are given, what they do, what they measure |
//! | [`topology`] | nodes, links, events and jobs as a file has them |
//! | [`plan`] | what is to be built, and the way packets will take |
//! | `load` | from a file to both, or to what is wrong with it |
//! | [`report`] | what came of a run, as tables and as JSON |
//! | [`mod@run`] | bringing a plan up, running its jobs, taking it down |
//! | `check` | what a run would refuse, and what would be of no use |
//! | [`record`] | what a topology would create, and records of it |
//! | [`generate`] | topologies of any size |
//!
//! Each part imports only parts above it, and `stop`, by which a run is ended early; no file imports
//! itself by way of more than one other file.
//!
//! `docs/topology.md` describes the file and the command.

mod check;
mod family;
mod file;
pub mod generate;
pub mod job;
mod load;
pub mod plan;
mod quantity;
pub mod record;
pub mod report;
pub mod run;
mod stop;
pub mod text;
pub mod topology;

pub use family::Family;
pub use file::source::{Invalid, Problem, Warnings};
pub use load::time;
pub use plan::Plan;
pub use report::Report;
pub use run::run;
pub use topology::Topology;

/// The topology that `vnet run` brings up when it is given none.
pub const TRIANGLE: &str = include_str!("../topologies/triangle.toml");

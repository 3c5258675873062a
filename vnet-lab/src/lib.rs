//! Topologies from files.
//!
//! | part | what it is |
//! |---|---|
//! | [`topology`] | reading and checking a file |
//! | [`plan`] | what is to be built, and the way packets will take |
//!
//! `docs/topology.md` describes the file and the command.

pub mod plan;
pub mod topology;

pub use plan::Plan;
pub use topology::{Invalid, Topology};

/// The topology that `vnet run` brings up when it is given none.
pub const TRIANGLE: &str = include_str!("../topologies/triangle.toml");

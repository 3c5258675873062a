//! Large networks in virtual time: what an event costs when there are 1 000 routers, and how long
//! it takes until they are there.
//!
//! | part | what it is |
//! |---|---|
//! | [`graph`] | rings, trees and random networks |
//! | [`addressing`] | a block of addresses for each router |
//! | [`routes`] | shortest paths, and as few routes as say the same |
//! | [`network`] | the vnets, links and routes |
//! | [`traffic`] | pings and TCP flows |
//! | [`trial`] | one network from nothing to nothing, timed and counted |
//! | [`startup`] | 1 000 hosts, by the API and from a TOML file |
//! | [`report`] | tables and JSON |
//!
//! ```
//! use vnet_benches::scale::graph::Shape;
//! use vnet_benches::scale::trial::{Load, run};
//!
//! let outcome = run(&Load {
//!     shape: Shape::Ring,
//!     routers: 12,
//!     flows: 3,
//!     bytes: 10_000,
//!     reach: 5,
//!     seed: 1,
//! })?;
//! assert_eq!(outcome.pings, 24, "each router has two neighbours");
//! assert!(outcome.flows.iter().all(|flow| flow.bytes == 10_000));
//! # Ok::<(), vnet_benches::scale::trial::TrialError>(())
//! ```

pub mod addressing;
pub mod graph;
pub mod network;
pub mod report;
pub mod routes;
pub mod startup;
pub mod traffic;
pub mod trial;

//! tokio's sockets on the stacks of [`vnet`], and tokio in virtual time.
//!
//! Programs written for tokio run on emulated networks by changing one `use` line:
//! [`vnet_tokio::net`](net) has the types of [`tokio::net`], with their methods and traits. A [`Runtime`] belongs to a
//! vnet, and lives in its system's time: hours of `tokio::time::sleep` take milliseconds, and one seed gives the same
//! bytes on every run.
//!
//! | what | where |
//! |---|---|
//! | sockets | [`net`] |
//! | tasks and timers | [`Runtime`] |
//!
//! `docs/async.md` describes what works where, and how.

mod host;
pub mod net;
mod runtime;
mod threaded;
mod waiters;
mod world;

pub use runtime::Runtime;

/// The project's documents, whose examples are run as tests.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../README.md")]
    mod readme {}
    #[doc = include_str!("../../docs/async.md")]
    mod asynchronous {}
    #[doc = include_str!("../../docs/testing.md")]
    mod testing {}
}

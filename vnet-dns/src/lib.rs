//! A stub resolver on the network of a vnet.
//!
//! An instance that is given name servers looks names up there, as a host with an `/etc/resolv.conf` does: wherever a
//! socket takes an address, `server.example:80` works.
//!
//! ```
//! use vnet::System;
//! use vnet_dns::Config;
//!
//! let system = System::virtual_time(1);
//! let a = system.create("a")?;
//! let search = vec!["example.net".to_owned()];
//! vnet_dns::install(&a, Config { search, ..Config::of(["192.0.2.53".parse()?]) })?;
//! // Nobody answers there, and nothing leads there.
//! let error = system.block_on(a.lookup("www"))?.unwrap_err();
//! assert!(matches!(vnet_dns::cause(&error), Some(vnet_dns::Error::Unreachable { .. })), "{error}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Questions and answers are packets of the instance's own sockets. Time is the system's: a dead server costs five seconds of
//! it, in virtual time none of the program's. Identifiers and ports come from the instance's random streams, so one
//! seed asks with the same bytes.
//!
//! | part | what it is |
//! |---|---|
//! | `config` | [`Config`] |
//! | `error` | [`enum@Error`] |
//! | `message` | questions as bytes, and what an answer says |
//! | `exchange` | one question to one server |
//! | `resolver` | which servers are asked for which names, in what order |
//!
//! `docs/names.md` describes how names are looked up. Not there: a cache, DNSSEC, DNS over TLS, HTTPS or QUIC, and mDNS.

mod config;
mod error;
mod exchange;
mod message;
mod resolver;

pub use config::{Config, ConfigError};
pub use error::{Error, cause};
pub use resolver::install;

/// The project's documents, whose examples are run as tests.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../README.md")]
    mod readme {}
    #[doc = include_str!("../../docs/names.md")]
    mod names {}
}

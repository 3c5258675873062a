//! What a resolver is told.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use vnet::Gone;

use crate::message;

/// The port of name servers.
const PORT: u16 = 53;
/// Servers, and domains to search, that a resolver takes.
const MOST: usize = 16;
/// Rounds over all servers that it takes.
const MOST_ATTEMPTS: u32 = 10;

/// Which servers a resolver asks, and how. The defaults are those of Linux.
///
/// Servers and domains that routers name (RFC 8106) are used after these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The name servers, in the order in which they are asked; at most 16.
    pub servers: Vec<SocketAddr>,
    /// Domains in which a name is looked for, in this order; at most 16.
    pub search: Vec<String>,
    /// A name with fewer dots is looked for in the domains first, and as it is at last.
    pub ndots: usize,
    /// How long a server is waited for in the first round; in each further one it is twice as long.
    pub timeout: Duration,
    /// How many times all servers are asked; 1 to 10.
    pub attempts: u32,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            servers: Vec::new(),
            search: Vec::new(),
            ndots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
        }
    }
}

impl Config {
    /// The defaults, with these servers, at port 53.
    pub fn of(servers: impl IntoIterator<Item = IpAddr>) -> Config {
        let servers = servers.into_iter().map(|ip| SocketAddr::new(ip, PORT));
        Config {
            servers: servers.collect(),
            ..Config::default()
        }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.servers.len() > MOST || self.search.len() > MOST {
            return Err(ConfigError::TooMany);
        }
        let is_server = |addr: &SocketAddr| {
            addr.port() != 0 && !addr.ip().is_unspecified() && !addr.ip().is_multicast()
        };
        if let Some(addr) = self.servers.iter().find(|addr| !is_server(addr)) {
            return Err(ConfigError::Server(*addr));
        }
        let is_domain = |name: &&String| message::name(name).is_none();
        if let Some(name) = self.search.iter().find(is_domain) {
            return Err(ConfigError::Search(name.clone()));
        }
        if self.timeout.is_zero() {
            return Err(ConfigError::Timeout);
        }
        match self.attempts {
            1..=MOST_ATTEMPTS => Ok(()),
            attempts => Err(ConfigError::Attempts(attempts)),
        }
    }
}

/// Why a [`Config`] is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// There are more than 16 servers or domains.
    #[error("more than 16 name servers or domains to search")]
    TooMany,
    /// There can be no server at such an address.
    #[error("no name server can be at {0}")]
    Server(SocketAddr),
    /// A domain to search is no name.
    #[error("expected a domain to search, found {0:?}")]
    Search(String),
    /// Nothing is answered in no time.
    #[error("a timeout of zero")]
    Timeout,
    /// The number of rounds is out of range.
    #[error("{0} attempts are out of range (1 to 10)")]
    Attempts(u32),
    /// The vnet is gone.
    #[error(transparent)]
    Gone(#[from] Gone),
}

//! Why a name has no addresses.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

/// Why a name could not be looked up: the cause in the [`io::Error`] of the call that was given the name; see [`cause`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It is no name that could be asked for: a label of more than 63 bytes, or 255 bytes in all.
    #[error("{0:?} is no name that can be asked for")]
    BadName(String),
    /// The instance knows no name server.
    #[error("no name server is known to ask for {0}")]
    NoServer(String),
    /// A server says that there is no such name.
    #[error("there is no name {0}")]
    NoSuchName(String),
    /// There is such a name, but it has no address.
    #[error("{0} has no address")]
    NoAddress(String),
    /// It is an alias of an alias, and so on, more often than is followed.
    #[error("{0} is an alias of too many others")]
    TooManyAliases(String),
    /// No server has answered in time.
    #[error("name server {server} has not answered in time for {name}")]
    TimedOut {
        /// What was asked for.
        name: String,
        /// The server that was asked last.
        server: SocketAddr,
    },
    /// No server could be asked.
    #[error("name server {server} cannot be asked for {name}: {kind}")]
    Unreachable {
        /// What was asked for.
        name: String,
        /// The server that was asked last.
        server: SocketAddr,
        /// What came of it.
        kind: ErrorKind,
    },
    /// Servers answer that they will not, or cannot.
    #[error("name server {server} does not resolve {name}: {code}")]
    Failed {
        /// What was asked for.
        name: String,
        /// The server that was asked last.
        server: SocketAddr,
        /// Its response code, such as `SERVFAIL`.
        code: String,
    },
    /// What servers send is no answer.
    #[error("name server {server} has sent no answer for {name} that can be understood")]
    Malformed {
        /// What was asked for.
        name: String,
        /// The server that was asked last.
        server: SocketAddr,
    },
}

/// Why a name could not be looked up, if that is what the error is about.
pub fn cause(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        let kind = match &error {
            Error::BadName(_) => ErrorKind::InvalidInput,
            Error::NoServer(_) | Error::NoSuchName(_) | Error::NoAddress(_) => ErrorKind::NotFound,
            Error::TimedOut { .. } => ErrorKind::TimedOut,
            Error::Unreachable { kind, .. } => *kind,
            Error::TooManyAliases(_) | Error::Failed { .. } => ErrorKind::Other,
            Error::Malformed { .. } => ErrorKind::InvalidData,
        };
        io::Error::new(kind, error)
    }
}

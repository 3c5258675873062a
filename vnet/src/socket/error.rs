//! Errors of sockets: `std::io::Error`s of the kinds that BSD sockets return, with the typed cause inside.

use std::io::{self, ErrorKind};

use crate::instance::{Gone, Vnet};
use crate::transport::error::SocketError;

impl SocketError {
    /// The typed cause of an error of a socket, if it has one.
    ///
    /// ```
    /// use vnet::net::UdpSocket;
    /// use vnet::{SocketError, System};
    ///
    /// let system = System::virtual_time(1);
    /// let a = system.create("a")?;
    /// let _one = UdpSocket::bind_in(&a, "127.0.0.1:5000")?;
    /// let error = UdpSocket::bind_in(&a, "127.0.0.1:5000").unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    /// assert_eq!(SocketError::of(&error), Some(SocketError::AddrInUse));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn of(error: &io::Error) -> Option<SocketError> {
        error.get_ref()?.downcast_ref().copied()
    }

    /// True when an operation failed because its socket's vnet is gone.
    pub fn is_gone(error: &io::Error) -> bool {
        SocketError::of(error) == Some(SocketError::Gone)
    }
}

impl From<Gone> for SocketError {
    fn from(_: Gone) -> SocketError {
        SocketError::Gone
    }
}

impl From<SocketError> for io::Error {
    fn from(error: SocketError) -> io::Error {
        let kind = match error {
            // Frequent and without detail: not worth an allocation.
            SocketError::WouldBlock => return ErrorKind::WouldBlock.into(),
            SocketError::NoCurrentVnet => ErrorKind::NetworkDown,
            SocketError::Gone | SocketError::ConnectionAborted => ErrorKind::ConnectionAborted,
            SocketError::AddrInUse => ErrorKind::AddrInUse,
            SocketError::AddrNotAvailable | SocketError::PortsExhausted => {
                ErrorKind::AddrNotAvailable
            }
            SocketError::ConnectionRefused => ErrorKind::ConnectionRefused,
            SocketError::ConnectionReset => ErrorKind::ConnectionReset,
            SocketError::TimedOut => ErrorKind::TimedOut,
            SocketError::NetworkUnreachable => ErrorKind::NetworkUnreachable,
            SocketError::HostUnreachable | SocketError::ProtocolUnreachable => {
                ErrorKind::HostUnreachable
            }
            SocketError::NotConnected => ErrorKind::NotConnected,
            SocketError::BrokenPipe => ErrorKind::BrokenPipe,
            SocketError::AlreadyConnected
            | SocketError::MessageTooLong
            | SocketError::Blackhole
            | SocketError::InvalidInput => ErrorKind::InvalidInput,
            SocketError::BroadcastForbidden | SocketError::Prohibited => {
                ErrorKind::PermissionDenied
            }
            SocketError::Limit(_) => ErrorKind::QuotaExceeded,
            SocketError::Denied(_) => ErrorKind::PermissionDenied,
        };
        io::Error::new(kind, error)
    }
}

/// The current vnet, for constructors that are not told one.
pub(super) fn current() -> io::Result<Vnet> {
    Vnet::current().ok_or_else(|| SocketError::NoCurrentVnet.into())
}

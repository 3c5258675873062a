//! What can be watched.

use std::io;
use std::task::{Context, Poll};

use vnet::net::{EchoSocket, Interest, RawSocket, Readiness, TcpListener, TcpStream, UdpSocket};
use vnet::{Port, SocketError};

/// A socket or port of a vnet.
pub trait Source: Of + Send + Sync + 'static {}

/// What [`Source`] needs to know of one.
pub trait Of {
    /// Has its calls return instead of waiting.
    fn wait_for_nothing(&self);

    /// Everything that it is ready for, once it is ready for `interest`.
    fn poll(&self, task: &mut Context<'_>, interest: Interest) -> Poll<Readiness>;
}

/// What can be done when asking fails, because the vnet is gone: whatever is tried says so at once.
fn failed(error: &io::Error) -> Readiness {
    Readiness {
        readable: true,
        writable: true,
        read_closed: true,
        write_closed: true,
        connecting: false,
        error: SocketError::of(error),
    }
}

macro_rules! sockets {
    ($($kind:ident),*) => {$(
        impl Source for $kind {}

        impl Of for $kind {
            fn wait_for_nothing(&self) {
                // The vnet never answers that it cannot.
                let _ = self.set_nonblocking(true);
            }

            fn poll(&self, task: &mut Context<'_>, interest: Interest) -> Poll<Readiness> {
                let ready = self.poll_ready(task, interest);
                ready.map(|ready| ready.unwrap_or_else(|error| failed(&error)))
            }
        }
    )*};
}
sockets!(TcpStream, TcpListener, UdpSocket, EchoSocket, RawSocket);

impl Source for Port {}

impl Of for Port {
    fn wait_for_nothing(&self) {}

    /// Frames can be sent at any time.
    fn poll(&self, task: &mut Context<'_>, interest: Interest) -> Poll<Readiness> {
        let ready = self.poll_ready(task);
        let readable = ready.is_ready();
        if !readable && interest == Interest::Read {
            return Poll::Pending;
        }
        let is_gone = self.is_gone();
        Poll::Ready(Readiness {
            readable,
            writable: true,
            read_closed: is_gone,
            write_closed: is_gone,
            ..Readiness::default()
        })
    }
}

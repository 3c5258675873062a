//! Raw sockets: IP packets of one protocol.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::task::{Context, Poll};

use super::error::current;
use super::handle::{Handle, Wait, poll, shared_methods};
use crate::base::time::Duration;
use crate::instance::{Privilege, Vnet};
use crate::packet::Payload;
use crate::transport::edge::{Interest, ReadMode};
use crate::transport::error::SocketError;
use crate::transport::raw::RawId;

pub(crate) use crate::transport::raw::RawMeta;

/// A socket that sends and receives the payload of IP packets of one protocol.
///
/// It receives a copy of every packet of its protocol that is addressed to the vnet, without the IP header. The
/// stack also processes the packet as usual.
#[derive(Clone)]
pub struct RawSocket(Handle<RawId>);

shared_methods!(RawSocket: nonblocking read_timeout ttl dont_fragment);

impl RawSocket {
    /// Creates a socket for IP protocol `proto` in the current vnet.
    ///
    /// # Errors
    /// [`io::ErrorKind::NetworkDown`] when no vnet is current; otherwise as [`RawSocket::open_in`].
    pub fn open(proto: u8) -> io::Result<RawSocket> {
        RawSocket::open_in(&current()?, proto)
    }

    /// Creates a socket for IP protocol `proto` in `vnet`.
    ///
    /// # Errors
    /// The vnet's limit on sockets is reached; [`io::ErrorKind::PermissionDenied`] for a tenant that lacks
    /// [`Privilege::RawSockets`].
    pub fn open_in(vnet: &Vnet, proto: u8) -> io::Result<RawSocket> {
        vnet.require(Privilege::RawSockets)
            .map_err(SocketError::from)?;
        Handle::open(&vnet.core, |s, _| s.raw_open(proto)).map(RawSocket)
    }

    /// Sends `data` to `dst`; the stack prepends the IP header.
    ///
    /// # Errors
    /// There is no route to the destination, or more data than an IP packet can hold.
    pub fn send_to(&self, data: &[u8], dst: IpAddr) -> io::Result<usize> {
        let payload = Payload::copied(data);
        self.0.now(|s, cx, id| s.raw_send(cx, id, dst, payload))?;
        Ok(data.len())
    }

    /// Waits for a packet, and returns its length and what its IP header said. Data that does not fit in `buf` is
    /// discarded.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when nonblocking, or when the timeout has expired.
    #[track_caller]
    pub fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, RawMeta)> {
        self.receive(self.0.reading(), buf)
    }

    /// Polls for a packet, for futures.
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn poll_recv_from(
        &self,
        task: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<(usize, RawMeta)>> {
        poll(self.receive(Wait::polled(task), buf))
    }

    #[track_caller]
    fn receive(&self, wait: Wait<'_>, buf: &mut [u8]) -> io::Result<(usize, RawMeta)> {
        let (data, meta) = self.0.run(wait, Interest::Read, |s, _, id| {
            s.datagrams.raw.sockets.recv(id, ReadMode::Consume)
        })?;
        Ok((data.copy_to(0, buf), meta))
    }
}

impl fmt::Debug for RawSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawSocket in {}", self.0.core().name)
    }
}

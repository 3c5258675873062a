//! Raw sockets: IP packets of one protocol.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;

use super::block::{Flat, Mode, until_ready};
use super::error::current;
use crate::base::time::Duration;
use crate::instance::vnet::VnetCore;
use crate::instance::{Privilege, Vnet};
use crate::packet::Payload;
use crate::transport::datagram::{Interest, Recv};
use crate::transport::error::SocketError;
use crate::transport::raw::RawId;

pub(crate) use crate::transport::raw::RawMeta;

/// A socket that sends and receives what IP carries for one protocol number.
///
/// It sees a copy of every packet of its protocol that is for the vnet, without the IP header;
/// the protocol's own handling goes on as if it were not there.
#[derive(Clone)]
pub struct RawSocket(Arc<Socket>);

struct Socket {
    core: Arc<VnetCore>,
    id: RawId,
    mode: Mode,
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = self.core.with(|s, cx| s.raw.close(cx.out, self.id));
    }
}

impl RawSocket {
    /// Makes a socket for IP protocol `proto` in the current vnet.
    ///
    /// # Errors
    /// [`io::ErrorKind::NetworkDown`] when no vnet is current; the vnet's limit on sockets.
    pub fn open(proto: u8) -> io::Result<RawSocket> {
        RawSocket::open_in(&current()?, proto)
    }

    /// Makes a socket for IP protocol `proto` in `vnet`.
    ///
    /// # Errors
    /// The vnet's limit on sockets; [`io::ErrorKind::PermissionDenied`] for a tenant that lacks
    /// [`Privilege::RawSockets`].
    pub fn open_in(vnet: &Vnet, proto: u8) -> io::Result<RawSocket> {
        vnet.require(Privilege::RawSockets)
            .map_err(SocketError::from)?;
        let core = Arc::clone(&vnet.core);
        let id = core.with(|s, _| s.raw_open(proto)).flat()?;
        Ok(RawSocket(Arc::new(Socket {
            core,
            id,
            mode: Mode::default(),
        })))
    }

    /// Sends `data` to `dst`, behind an IP header of the stack's making.
    ///
    /// # Errors
    /// No route there, or more data than an IP packet can hold.
    pub fn send_to(&self, data: &[u8], dst: IpAddr) -> io::Result<usize> {
        let id = self.0.id;
        let payload = Payload::from(Bytes::copy_from_slice(data));
        self.0
            .core
            .with(|s, cx| s.raw_send(cx, id, dst, payload))
            .flat()?;
        Ok(data.len())
    }

    /// Waits for a packet; returns its length and what its IP header said. What does not fit in
    /// `buf` is lost.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when nonblocking or out of time.
    #[track_caller]
    pub fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, RawMeta)> {
        let id = self.0.id;
        let (data, meta) = until_ready(&self.0.core, self.0.mode.reading(), |s, cx, waker| {
            let result = s.raw.recv(id, Recv::Consume);
            if let (Err(SocketError::WouldBlock), Some(waker)) = (&result, waker) {
                s.raw.register(cx.out, id, Interest::Read, waker)?;
            }
            result?.ok_or(SocketError::Gone)
        })?;
        Ok((data.copy_to(0, buf), meta))
    }

    /// Makes receiving return [`io::ErrorKind::WouldBlock`] instead of waiting.
    ///
    /// # Errors
    /// None; the signature is that of the other sockets.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.0.mode.set_nonblocking(nonblocking);
        Ok(())
    }

    /// Limits how long receiving waits; it fails with [`io::ErrorKind::WouldBlock`] then.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for a timeout of zero.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.0.mode.set_read_timeout(timeout)
    }
}

impl fmt::Debug for RawSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawSocket in {}", self.0.core.name)
    }
}

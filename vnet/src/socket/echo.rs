//! Echo sockets: what ping and traceroute are made of.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::block::{Flat, Mode, until_ready};
use super::error::current;
use super::tcp::ttl_in_range;
use crate::base::time::{Duration, Instant};
use crate::instance::Vnet;
use crate::instance::vnet::VnetCore;
use crate::packet::{Cx, Payload};
use crate::stack::Stack;
use crate::transport::datagram::{Interest, Recv};
use crate::transport::echo::{EchoArrival, EchoId};
use crate::transport::error::SocketError;

pub use crate::transport::echo::EchoEvent;

/// A socket that sends ICMP echo requests and hears what becomes of them, as Linux's ICMP
/// datagram sockets.
///
/// ```
/// use vnet::net::{EchoEvent, EchoSocket};
/// use vnet::System;
///
/// let system = System::virtual_time(1);
/// let (a, b) = (system.create("a")?, system.create("b")?);
/// a.epair("eth0", &b, "eth0")?;
/// a.add_address("eth0", "192.0.2.1/24".parse()?)?;
/// b.add_address("eth0", "192.0.2.2/24".parse()?)?;
///
/// let ping = EchoSocket::bind_in(&a)?;
/// ping.send_to(1, b"are you there?", "192.0.2.2".parse()?)?;
/// let (event, _when) = ping.recv()?;
/// assert!(matches!(event, EchoEvent::Reply { seq: 1, len: 14, .. }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct EchoSocket(Arc<Socket>);

struct Socket {
    core: Arc<VnetCore>,
    id: EchoId,
    mode: Mode,
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = self.core.with(|s, cx| s.echo.close(cx.out, self.id));
    }
}

/// What has arrived, or the waker is registered.
fn receive_or_register(
    stack: &mut Stack,
    cx: &mut Cx,
    id: EchoId,
    waker: Option<&Waker>,
) -> Result<EchoArrival, SocketError> {
    let result = stack.echo.recv(id, Recv::Consume);
    if let (Err(SocketError::WouldBlock), Some(waker)) = (&result, waker) {
        stack.echo.register(cx.out, id, Interest::Read, waker)?;
    }
    result?.ok_or(SocketError::Gone)
}

impl EchoSocket {
    /// Makes a socket in the current vnet.
    ///
    /// # Errors
    /// [`io::ErrorKind::NetworkDown`] when no vnet is current; the vnet's limit on sockets.
    pub fn bind() -> io::Result<EchoSocket> {
        EchoSocket::bind_in(&current()?)
    }

    /// Makes a socket in `vnet`.
    ///
    /// # Errors
    /// The vnet's limit on sockets.
    pub fn bind_in(vnet: &Vnet) -> io::Result<EchoSocket> {
        let core = Arc::clone(&vnet.core);
        let id = core.with(|s, cx| s.echo_open(cx)).flat()?;
        Ok(EchoSocket(Arc::new(Socket {
            core,
            id,
            mode: Mode::default(),
        })))
    }

    /// Sends an echo request with the given sequence number and payload.
    ///
    /// # Errors
    /// No route there, or a payload of more than 65507 bytes.
    pub fn send_to(&self, seq: u16, payload: &[u8], dst: IpAddr) -> io::Result<()> {
        let id = self.0.id;
        let payload = Payload::from(Bytes::copy_from_slice(payload));
        Ok(self
            .0
            .core
            .with(|s, cx| s.echo_send(cx, id, dst, seq, payload))
            .flat()?)
    }

    /// Waits for what became of a request, and when that was known.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when nonblocking or out of time.
    #[track_caller]
    pub fn recv(&self) -> io::Result<(EchoEvent, Instant)> {
        let id = self.0.id;
        let arrival = until_ready(&self.0.core, self.0.mode.reading(), |s, cx, waker| {
            receive_or_register(s, cx, id, waker)
        })?;
        Ok((arrival.event, arrival.at))
    }

    /// Polls for what became of a request, for futures.
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn poll_recv(&self, task: &mut Context<'_>) -> Poll<io::Result<(EchoEvent, Instant)>> {
        let id = self.0.id;
        let received = self
            .0
            .core
            .with(|s, cx| receive_or_register(s, cx, id, Some(task.waker())));
        match received.flat() {
            Err(SocketError::WouldBlock) => Poll::Pending,
            Err(e) => Poll::Ready(Err(e.into())),
            Ok(arrival) => Poll::Ready(Ok((arrival.event, arrival.at))),
        }
    }

    /// Sets the time to live of the requests, counted down at each router.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for more than 255, or zero; the vnet is gone.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        let ttl = ttl_in_range(ttl)?;
        let id = self.0.id;
        Ok(self
            .0
            .core
            .with(|s, _| s.echo.options_mut(id).map(|o| o.ttl = ttl))
            .flat()?)
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

impl fmt::Debug for EchoSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EchoSocket in {}", self.0.core.name)
    }
}

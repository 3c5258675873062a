//! Echo sockets, for ping and traceroute.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::task::{Context, Poll};

use super::error::current;
use super::handle::{Handle, Wait, poll, shared_methods};
use crate::base::time::{Duration, Instant};
use crate::instance::Vnet;
use crate::packet::Payload;
use crate::transport::echo::EchoId;
use crate::transport::edge::{Interest, ReadMode};

pub use crate::transport::echo::EchoEvent;

/// A socket that sends ICMP echo requests and receives the replies and errors, like Linux's ICMP datagram sockets.
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
pub struct EchoSocket(Handle<EchoId>);

shared_methods!(EchoSocket: nonblocking read_timeout ttl dont_fragment);

impl EchoSocket {
    /// Creates a socket in the current vnet.
    ///
    /// # Errors
    /// [`io::ErrorKind::NetworkDown`] when no vnet is current; the vnet's limit on sockets is reached.
    pub fn bind() -> io::Result<EchoSocket> {
        EchoSocket::bind_in(&current()?)
    }

    /// Creates a socket in `vnet`.
    ///
    /// # Errors
    /// The vnet's limit on sockets is reached.
    pub fn bind_in(vnet: &Vnet) -> io::Result<EchoSocket> {
        Handle::open(&vnet.core, |s, cx| s.echo_open(cx)).map(EchoSocket)
    }

    /// Sends an echo request with the given sequence number and payload.
    ///
    /// # Errors
    /// There is no route to the destination, or the payload has more than 65507 bytes.
    pub fn send_to(&self, seq: u16, payload: &[u8], dst: IpAddr) -> io::Result<()> {
        let payload = Payload::copied(payload);
        self.0
            .now(|s, cx, id| s.echo_send(cx, id, dst, seq, payload))
    }

    /// Waits for the outcome of a request, and returns it with the time at which it arrived.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when nonblocking, or when the timeout has expired.
    #[track_caller]
    pub fn recv(&self) -> io::Result<(EchoEvent, Instant)> {
        self.receive(self.0.reading())
    }

    /// Polls for the outcome of a request, for futures.
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn poll_recv(&self, task: &mut Context<'_>) -> Poll<io::Result<(EchoEvent, Instant)>> {
        poll(self.receive(Wait::polled(task)))
    }

    #[track_caller]
    fn receive(&self, wait: Wait<'_>) -> io::Result<(EchoEvent, Instant)> {
        let arrival = self.0.run(wait, Interest::Read, |s, _, id| {
            s.datagrams.echo.sockets.recv(id, ReadMode::Consume)
        })?;
        Ok((arrival.event, arrival.at))
    }
}

impl fmt::Debug for EchoSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EchoSocket in {}", self.0.core().name)
    }
}

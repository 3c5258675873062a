//! Datagrams with what is known of them besides their bytes (`recvmsg`, `sendmsg`), many at a time (`recvmmsg`,
//! `sendmmsg`), and ICMP errors about them (`MSG_ERRQUEUE`).

use std::io;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use super::udp::UdpSocket;
use crate::packet::Payload;
use crate::packet::header::zone;
use crate::stack::Stack;
use crate::transport::domain::Domain;
use crate::transport::edge::{Interest, ReadMode};
use crate::transport::error::SocketError;
use crate::transport::udp::{Arrived, DatagramError, Leaving};

/// The metadata of a datagram, received or to be sent. For a received one, everything is known; for one to send, a
/// field that is `None` is taken from the socket.
///
/// ```
/// use vnet::System;
/// use vnet::net::{Message, UdpSocket};
///
/// let system = System::virtual_time(1);
/// let (a, b) = (system.create("a")?, system.create("b")?);
/// a.epair("eth0", &b, "eth0")?;
/// a.add_address("eth0", "192.0.2.1/24".parse()?)?;
/// b.add_address("eth0", "192.0.2.2/24".parse()?)?;
/// let server = UdpSocket::bind_in(&b, "0.0.0.0:4433")?;
/// let client = UdpSocket::bind_in(&a, "0.0.0.0:0")?;
///
/// // ECT(0), as QUIC marks its packets.
/// let ect0 = Message { peer: Some("192.0.2.2:4433".parse()?), tos: Some(0b10), ..Message::default() };
/// client.send_msg(b"hello", &ect0)?;
/// let mut buf = [0; 16];
/// let (n, known) = server.recv_msg(&mut buf)?;
/// assert_eq!((n, known.tos, known.ttl), (5, Some(0b10), Some(64)));
/// assert_eq!(known.local, Some("192.0.2.2".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The other end: who sent it, or whom to send it to. `None` is the peer of a connected socket.
    pub peer: Option<SocketAddr>,
    /// The address that it was sent to, which is a group's for one to a group; or the address of the vnet's that it is to
    /// come from (`IP_PKTINFO`, `IPV6_PKTINFO`).
    pub local: Option<IpAddr>,
    /// The number of the interface that it came in by, or is to leave by.
    pub interface: Option<u32>,
    /// Time to live or hop limit, as it arrived or is to leave. To leave with zero is for groups only: such a datagram
    /// stays in the vnet.
    pub ttl: Option<u8>,
    /// Type of service or traffic class. The two lowest bits are the congestion marks (ECN, RFC 3168).
    pub tos: Option<u8>,
}

impl Message {
    fn arrived(domain: Domain, arrived: &Arrived) -> Message {
        let local = SocketAddr::new(arrived.dst, 0);
        Message {
            peer: Some(domain.outside(arrived.src)),
            local: Some(domain.outside(local).ip()),
            interface: arrived.on.and_then(zone::number).map(u32::from),
            ttl: Some(arrived.ttl),
            tos: Some(arrived.tos),
        }
    }

    fn leaving(&self, s: &Stack, domain: Domain) -> Result<Leaving, SocketError> {
        let inside = |ip| domain.inside(SocketAddr::new(ip, 0));
        let by = match self.interface {
            Some(number) => s.interface_of(number)?,
            None => None,
        };
        Ok(Leaving {
            src: self.local.map(inside).transpose()?,
            by,
            ttl: self.ttl,
            tos: self.tos,
        })
    }
}

/// Datagrams with what is known of them.
impl UdpSocket {
    /// As [`UdpSocket::recv_from`], with the metadata of the datagram (`recvmsg`).
    ///
    /// # Errors
    /// As [`UdpSocket::recv_from`].
    #[track_caller]
    pub fn recv_msg(&self, buf: &mut [u8]) -> io::Result<(usize, Message)> {
        let (data, arrived) = self.0.run(self.0.reading(), Interest::Read, |s, _, id| {
            s.datagrams.udp.sockets.recv(id, ReadMode::Consume)
        })?;
        Ok((data.copy_to(0, buf), Message::arrived(self.1, &arrived)))
    }

    /// Sends a datagram as `message` says (`sendmsg`).
    ///
    /// # Errors
    /// As [`UdpSocket::send_to`]; [`io::ErrorKind::AddrNotAvailable`] for an address that is not the vnet's, or an
    /// interface that is not there.
    pub fn send_msg(&self, data: &[u8], message: &Message) -> io::Result<usize> {
        let payload = Payload::copied(data);
        self.0.now(|s, cx, id| {
            let said = message.leaving(s, self.1)?;
            s.udp_send(cx, id, self.1, message.peer, payload, &said)
        })?;
        Ok(data.len())
    }

    /// Waits for a datagram, and returns it with all that have arrived, at most `max`, without copying (`recvmmsg`).
    ///
    /// # Errors
    /// As [`UdpSocket::recv_from`].
    #[track_caller]
    pub fn recv_many(&self, max: usize) -> io::Result<Vec<(Payload, Message)>> {
        let arrived = self.0.run(self.0.reading(), Interest::Read, |s, _, id| {
            let sockets = &mut s.datagrams.udp.sockets;
            if max == 0 {
                return Ok(Vec::new());
            }
            let mut all = vec![sockets.recv(id, ReadMode::Consume)?];
            // An error that comes in between is reported next time.
            while all.len() < max && sockets.get(id)?.queued() > 0 {
                all.push(sockets.recv(id, ReadMode::Consume)?);
            }
            Ok(all)
        })?;
        let known = |(data, arrived)| (data, Message::arrived(self.1, &arrived));
        Ok(arrived.into_iter().map(known).collect())
    }

    /// Sends datagrams one after the other without copying, in one entry to the vnet (`sendmmsg`). Returns how many
    /// were sent; the others were not.
    ///
    /// # Errors
    /// Those of [`UdpSocket::send_msg`], if the first one could not be sent.
    pub fn send_many(&self, messages: &[(Bytes, Message)]) -> io::Result<usize> {
        self.0.now(|s, cx, id| {
            for (n, (data, message)) in messages.iter().enumerate() {
                let payload = Payload::from(data.clone());
                let said = message.leaving(s, self.1);
                let sent =
                    said.and_then(|said| s.udp_send(cx, id, self.1, message.peer, payload, &said));
                match sent {
                    Ok(()) => {}
                    Err(error) if n == 0 => return Err(error),
                    Err(_) => return Ok(n),
                }
            }
            Ok(messages.len())
        })
    }

    /// Sets whether ICMP errors about the socket's datagrams are kept, 64 at most, for [`UdpSocket::recv_error`]
    /// (`IP_RECVERR`, `IPV6_RECVERR`). Then they are also reported by a socket that is not connected.
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn set_recv_errors(&self, keep: bool) -> io::Result<()> {
        self.0.now(|s, _, id| {
            s.datagrams.udp.sockets.get_mut(id)?.own.errors = keep.then(Default::default);
            Ok(())
        })
    }

    /// Takes the oldest ICMP error that was kept (`MSG_ERRQUEUE`). It never waits.
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn recv_error(&self) -> io::Result<Option<DatagramError>> {
        self.0.now(|s, _, id| {
            let socket = s.datagrams.udp.sockets.get_mut(id)?;
            let told = socket
                .own
                .errors
                .as_mut()
                .and_then(|errors| errors.pop_front());
            Ok(told.map(|told| DatagramError {
                peer: self.1.outside(told.peer),
                ..told
            }))
        })
    }
}

//! Raw IP sockets: every packet of one IP protocol, seen beside whoever handles the protocol.
//!
//! Packets are delivered by reference, one reference a socket. Privileges, routes and header
//! checksums are the stack's business. IPv4 sockets may bring their own header (`IP_HDRINCL`).

use std::net::IpAddr;
use std::task::Waker;

use slotmap::new_key_type;
use smallvec::SmallVec;

use super::datagram::{Account, Endpoint, Interest, Readiness, Recv, Shutdown, Verdict};
use super::error::SocketError;
use crate::base::map::Map;
use crate::base::rng::Rng;
use crate::base::slab::Slab;
use crate::packet::{Cx, Out, Payload};

/// The largest packet after an IP header.
pub(crate) const MAX_PAYLOAD: usize = 65_515;
/// The largest packet including its header.
pub(crate) const MAX_PACKET: usize = 65_535;

new_key_type! {
    /// A raw socket within one vnet.
    pub struct RawId;
}

/// What new sockets start with, and the limits of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RawConfig {
    /// Time to live of packets sent.
    pub ttl: u8,
    /// Receive buffer in bytes.
    pub recv_buffer: usize,
    /// Sockets the vnet may have.
    pub max_sockets: usize,
}

impl Default for RawConfig {
    fn default() -> RawConfig {
        RawConfig {
            ttl: 64,
            recv_buffer: 1 << 20,
            max_sockets: 4096,
        }
    }
}

/// Who writes the IP header of packets sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum IpHeader {
    /// The stack.
    #[default]
    Built,
    /// The application: the payload starts with it (`IP_HDRINCL`).
    Included,
}

/// The options of one socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RawOptions {
    /// Time to live of packets sent.
    pub ttl: u8,
    /// Type of service of packets sent.
    pub tos: u8,
    /// Who writes the IP header.
    pub header: IpHeader,
    /// Receive buffer in bytes.
    pub recv_buffer: usize,
}

/// What the IP header of a received packet said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawMeta {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Protocol, or next header.
    pub proto: u8,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// Type of service, or traffic class.
    pub tos: u8,
    /// IPv4 identification; zero for IPv6.
    pub ident: u16,
}

/// A packet to send.
#[derive(Clone, Debug)]
pub(crate) struct RawOut {
    /// The source address, when the socket is bound to one; otherwise the route decides.
    pub src: Option<IpAddr>,
    /// Where it goes.
    pub dst: IpAddr,
    /// The protocol.
    pub proto: u8,
    /// Time to live.
    pub ttl: u8,
    /// Type of service.
    pub tos: u8,
    /// Whether `payload` starts with an IP header.
    pub header: IpHeader,
    /// What comes after the IP header, or the packet.
    pub payload: Payload,
}

/// One socket, for a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RawInfo {
    /// The socket.
    pub id: RawId,
    /// The protocol it listens to.
    pub proto: u8,
    /// The address it is bound to.
    pub local: Option<IpAddr>,
    /// Its peer, while connected.
    pub peer: Option<IpAddr>,
    /// Packets in its receive queue.
    pub queued: usize,
    /// Packets that found the queue full.
    pub overflows: u64,
}

/// What a removal gave back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RawReleased {
    /// Sockets closed.
    pub sockets: usize,
    /// Packets nobody will read.
    pub packets: usize,
}

/// The raw sockets of one vnet. See the [module](self).
#[derive(Debug)]
pub(crate) struct Raw {
    config: RawConfig,
    sockets: Slab<RawId, Socket>,
    /// What their receive queues hold.
    account: Account,
    by_proto: Map<u8, SmallVec<[RawId; 2]>>,
}

#[derive(Debug)]
struct Socket {
    proto: u8,
    local: Option<IpAddr>,
    peer: Option<IpAddr>,
    options: RawOptions,
    endpoint: Endpoint<(Payload, RawMeta)>,
}

impl Raw {
    /// No sockets; allocates nothing.
    pub(crate) fn new(config: RawConfig, mut rng: Rng) -> Raw {
        Raw {
            config,
            sockets: Slab::default(),
            account: Account::default(),
            by_proto: Map::seeded(rng.u64()),
        }
    }

    /// A new socket for IP protocol `proto`.
    ///
    /// # Errors
    /// [`SocketError::Limit`] when the vnet has as many as it may.
    pub(crate) fn open(&mut self, proto: u8) -> Result<RawId, SocketError> {
        if self.sockets.len() >= self.config.max_sockets {
            return Err(SocketError::Limit("raw sockets"));
        }
        let id = self.sockets.insert(Socket {
            proto,
            local: None,
            peer: None,
            options: RawOptions {
                ttl: self.config.ttl,
                tos: 0,
                header: IpHeader::default(),
                recv_buffer: self.config.recv_buffer,
            },
            endpoint: Endpoint::default(),
        });
        self.by_proto
            .get_or_insert_with(proto, SmallVec::new)
            .push(id);
        Ok(id)
    }

    /// Limits the socket to packets for `local`, and makes that their source. The unspecified
    /// address lifts the limit.
    ///
    /// # Errors
    /// [`SocketError::Gone`].
    pub(crate) fn bind(&mut self, id: RawId, local: IpAddr) -> Result<(), SocketError> {
        self.socket(id)?.local = Some(local).filter(|ip| !ip.is_unspecified());
        Ok(())
    }

    /// Limits the socket to packets from `peer`, and makes that their destination. `None` lifts
    /// the limit.
    ///
    /// # Errors
    /// [`SocketError::Gone`].
    pub(crate) fn connect(&mut self, id: RawId, peer: Option<IpAddr>) -> Result<(), SocketError> {
        self.socket(id)?.peer = peer;
        Ok(())
    }

    /// True when some socket listens to `proto`: a cheap question for the receive path.
    #[inline]
    pub(crate) fn listens_to(&self, proto: u8) -> bool {
        !self.by_proto.is_empty() && self.by_proto.contains(&proto)
    }

    /// Shows a packet to every socket that listens for its like.
    pub(crate) fn input(&mut self, cx: &mut Cx, meta: &RawMeta, payload: &Payload) -> Verdict {
        let Some(ids) = self.by_proto.get(&meta.proto) else {
            return Verdict::NoSocket;
        };
        let mut verdict = Verdict::NoSocket;
        for id in ids {
            let Some(socket) = self.sockets.get_mut(*id) else {
                continue;
            };
            let wants = socket.local.is_none_or(|ip| ip == meta.dst)
                && socket.peer.is_none_or(|ip| ip == meta.src);
            if !wants {
                continue;
            }
            let limit = socket.options.recv_buffer;
            let item = (payload.clone(), *meta);
            let one = socket
                .endpoint
                .push(cx.out, &mut self.account, item, payload.len(), limit);
            if verdict != Verdict::Delivered {
                verdict = one;
            }
        }
        verdict
    }

    /// Makes a packet for `dst`, or for the peer.
    ///
    /// # Errors
    /// A pending error; [`SocketError::BrokenPipe`] after a shutdown;
    /// [`SocketError::NotConnected`] without a destination; [`SocketError::InvalidInput`] for a
    /// destination of another family than the bound address; [`SocketError::MessageTooLong`].
    pub(crate) fn send(
        &mut self,
        id: RawId,
        dst: Option<IpAddr>,
        payload: Payload,
    ) -> Result<RawOut, SocketError> {
        let socket = self.socket(id)?;
        socket.endpoint.check_send()?;
        let dst = dst.or(socket.peer).ok_or(SocketError::NotConnected)?;
        if socket.local.is_some_and(|ip| ip.is_ipv4() != dst.is_ipv4()) {
            return Err(SocketError::InvalidInput);
        }
        let max = match socket.options.header {
            IpHeader::Built => MAX_PAYLOAD,
            IpHeader::Included => MAX_PACKET,
        };
        if payload.len() > max {
            return Err(SocketError::MessageTooLong);
        }
        Ok(RawOut {
            src: socket.local,
            dst,
            proto: socket.proto,
            ttl: socket.options.ttl,
            tos: socket.options.tos,
            header: socket.options.header,
            payload,
        })
    }

    /// The oldest packet and what its header said. `None` after the read side was shut down.
    ///
    /// # Errors
    /// A pending error; [`SocketError::WouldBlock`] when nothing is queued.
    pub(crate) fn recv(
        &mut self,
        id: RawId,
        how: Recv,
    ) -> Result<Option<(Payload, RawMeta)>, SocketError> {
        let socket = self.sockets.get_mut(id).ok_or(SocketError::Gone)?;
        socket.endpoint.recv(&mut self.account, how)
    }

    /// Adds a waiter.
    ///
    /// # Errors
    /// [`SocketError::Gone`].
    pub(crate) fn register(
        &mut self,
        out: &mut Out,
        id: RawId,
        interest: Interest,
        waker: &Waker,
    ) -> Result<(), SocketError> {
        self.socket(id)?.endpoint.register(out, interest, waker);
        Ok(())
    }

    /// What can be done with the socket now.
    ///
    /// # Errors
    /// [`SocketError::Gone`].
    pub(crate) fn readiness(&self, id: RawId) -> Result<Readiness, SocketError> {
        let socket = self.sockets.get(id).ok_or(SocketError::Gone)?;
        Ok(socket.endpoint.readiness())
    }

    /// The pending error, which is thereby taken (`SO_ERROR`).
    ///
    /// # Errors
    /// [`SocketError::Gone`].
    pub(crate) fn take_error(&mut self, id: RawId) -> Result<Option<SocketError>, SocketError> {
        Ok(self.socket(id)?.endpoint.take_error())
    }

    /// Shuts a direction down.
    ///
    /// # Errors
    /// [`SocketError::Gone`].
    pub(crate) fn shutdown(
        &mut self,
        out: &mut Out,
        id: RawId,
        how: Shutdown,
    ) -> Result<(), SocketError> {
        self.socket(id)?.endpoint.shutdown(out, how);
        Ok(())
    }

    /// The socket's options, to be read or changed.
    ///
    /// # Errors
    /// [`SocketError::Gone`].
    pub(crate) fn options_mut(&mut self, id: RawId) -> Result<&mut RawOptions, SocketError> {
        Ok(&mut self.socket(id)?.options)
    }

    /// Closes the socket and wakes everyone who waits for it. A socket that is gone already gives
    /// nothing.
    pub(crate) fn close(&mut self, out: &mut Out, id: RawId) -> RawReleased {
        let Some(mut socket) = self.sockets.remove(id) else {
            return RawReleased::default();
        };
        if let Some(ids) = self.by_proto.get_mut(&socket.proto) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.by_proto.remove(&socket.proto);
            }
        }
        socket.endpoint.wake_all(out);
        RawReleased {
            sockets: 1,
            packets: socket.endpoint.release(&mut self.account),
        }
    }

    /// Closes every socket and gives the memory back.
    pub(crate) fn teardown(&mut self, out: &mut Out) -> RawReleased {
        // A new field must be thought about here.
        let Raw {
            config: _,
            sockets,
            account,
            by_proto,
        } = self;
        let mut released = RawReleased::default();
        for (_, mut socket) in sockets.drain() {
            socket.endpoint.wake_all(out);
            released.sockets += 1;
            released.packets += socket.endpoint.release(account);
        }
        sockets.reset();
        by_proto.reset();
        released
    }

    /// What the receive queues of all sockets hold.
    pub(crate) fn account(&self) -> &Account {
        &self.account
    }

    /// What they hold, for its limit to be changed.
    pub(crate) fn account_mut(&mut self) -> &mut Account {
        &mut self.account
    }

    /// The number of sockets.
    pub(crate) fn len(&self) -> usize {
        self.sockets.len()
    }

    /// True when there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }

    /// What new sockets start with, to be changed.
    pub(crate) fn config_mut(&mut self) -> &mut RawConfig {
        &mut self.config
    }

    /// Every socket, in table order.
    pub(crate) fn list(&self) -> impl Iterator<Item = RawInfo> {
        self.sockets.iter().map(|(id, socket)| RawInfo {
            id,
            proto: socket.proto,
            local: socket.local,
            peer: socket.peer,
            queued: socket.endpoint.len(),
            overflows: socket.endpoint.overflows(),
        })
    }

    fn socket(&mut self, id: RawId) -> Result<&mut Socket, SocketError> {
        self.sockets.get_mut(id).ok_or(SocketError::Gone)
    }
}

#[cfg(test)]
mod tests;

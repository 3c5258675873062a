//! Raw IP sockets: copies of all packets of one IP protocol, in addition to the protocol's own handling.
//!
//! Packets are delivered by reference, one reference per socket. The stack deals with privileges, routes and headers.

use std::net::IpAddr;

use slotmap::new_key_type;
use smallvec::SmallVec;

use super::datagram::{Config, Sockets, Verdict};
use super::error::SocketError;
use crate::base::map::Map;
use crate::base::rng::Rng;
use crate::packet::header::Fragmentation;
use crate::packet::{Cx, Out, Payload};

/// The largest packet after an IP header.
pub(crate) const MAX_PAYLOAD: usize = 65_515;

new_key_type! {
    /// A raw socket within one vnet.
    pub struct RawId;
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
    /// Time to live, or hop limit; 0 for the vnet's.
    pub ttl: u8,
    /// Type of service, or traffic class.
    pub tos: u8,
    /// IPv4 identification; zero for IPv6.
    pub ident: u16,
}

/// A packet to send.
#[derive(Clone, Debug)]
pub(crate) struct RawOut {
    /// The protocol.
    pub proto: u8,
    /// Time to live; 0 for the vnet's.
    pub ttl: u8,
    /// Type of service.
    pub tos: u8,
    /// Whether it may be cut.
    pub fragmentation: Fragmentation,
    /// What comes after the IP header.
    pub payload: Payload,
}

/// The raw sockets of one vnet. See the [module](self).
#[derive(Debug)]
pub(crate) struct Raw {
    /// The sockets, which know their protocol.
    pub sockets: Sockets<RawId, u8, (Payload, RawMeta)>,
    by_proto: Map<u8, SmallVec<[RawId; 2]>>,
}

impl Raw {
    /// No sockets; allocates nothing.
    pub(crate) fn new(mut rng: Rng) -> Raw {
        let config = Config {
            recv_buffer: 1 << 20,
            max_sockets: 4096,
        };
        Raw {
            sockets: Sockets::new("raw sockets", config),
            by_proto: Map::seeded(rng.u64()),
        }
    }

    /// A new socket for IP protocol `proto`.
    ///
    /// # Errors
    /// [`SocketError::Limit`] when the vnet has as many as it may.
    pub(crate) fn open(&mut self, proto: u8) -> Result<RawId, SocketError> {
        let id = self.sockets.open(proto)?;
        let ids = self.by_proto.get_or_insert_with(proto, SmallVec::new);
        ids.push(id);
        Ok(id)
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
            let item = (payload.clone(), *meta);
            let one = self.sockets.push(cx.out, *id, item, payload.len());
            if verdict != Verdict::Delivered {
                verdict = one;
            }
        }
        verdict
    }

    /// Makes a packet.
    ///
    /// # Errors
    /// A pending error; [`SocketError::MessageTooLong`]; [`SocketError::Gone`].
    pub(crate) fn send(&mut self, id: RawId, payload: Payload) -> Result<RawOut, SocketError> {
        let socket = self.sockets.get_mut(id)?;
        socket.check_send()?;
        if payload.len() > MAX_PAYLOAD {
            return Err(SocketError::MessageTooLong);
        }
        Ok(RawOut {
            proto: socket.own,
            ttl: socket.options.ttl,
            tos: socket.options.tos,
            fragmentation: socket.options.fragmentation,
            payload,
        })
    }

    /// Closes the socket and wakes everyone who waits for it. One that is gone already stays so.
    pub(crate) fn close(&mut self, out: &mut Out, id: RawId) {
        let Some(proto) = self.sockets.close(out, id) else {
            return;
        };
        if let Some(ids) = self.by_proto.get_mut(&proto) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.by_proto.remove(&proto);
            }
        }
    }

    /// Closes every socket and gives the memory back.
    pub(crate) fn teardown(&mut self, out: &mut Out) {
        // A new field must be thought about here.
        let Raw { sockets, by_proto } = self;
        sockets.teardown(out);
        by_proto.reset();
    }
}

#[cfg(test)]
mod tests;

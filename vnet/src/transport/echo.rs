//! Echo sockets: ICMP echo without a raw socket, for `ping` and `traceroute`.
//!
//! A socket has an identifier, allocated like a port (in the manner of Linux's ICMP datagram
//! sockets). Replies, and errors that quote a request with the identifier, reach the socket as
//! events. The stack writes and reads the ICMP messages.

use std::net::IpAddr;

use slotmap::new_key_type;

use super::datagram::{Config, Sockets, Verdict};
use super::error::SocketError;
use crate::base::map::Map;
use crate::base::rng::Rng;
use crate::base::time::Instant;
use crate::packet::header::Fragmentation;
use crate::packet::header::icmp_ext::IcmpObject;
use crate::packet::{Cx, Out, Payload};

/// The largest payload of an echo request over IPv4.
pub(crate) const MAX_PAYLOAD: usize = 65_535 - 20 - 8;

new_key_type! {
    /// An echo socket within one vnet.
    pub struct EchoId;
}

/// An echo request to send.
#[derive(Clone, Debug)]
pub(crate) struct EchoOut {
    /// The identifier.
    pub ident: u16,
    /// The sequence number.
    pub seq: u16,
    /// Time to live; 0 for the vnet's.
    pub ttl: u8,
    /// Type of service.
    pub tos: u8,
    /// Whether it may be cut.
    pub fragmentation: Fragmentation,
    /// What the reply should bring back.
    pub payload: Payload,
}

/// The outcome of an echo request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EchoEvent {
    /// The reply.
    Reply {
        /// The host that answered.
        from: IpAddr,
        /// The sequence number of the request.
        seq: u16,
        /// The length of the returned payload in bytes.
        len: usize,
        /// The remaining time to live of the reply.
        ttl: u8,
    },
    /// The request's time to live was exceeded on the way.
    TimeExceeded {
        /// The router that reported it.
        from: IpAddr,
        /// The sequence number of the request.
        seq: u16,
        /// What the router says beside that (RFC 4884).
        extensions: Vec<IcmpObject>,
    },
    /// The request could not be delivered.
    Unreachable {
        /// The host or router that reported it.
        from: IpAddr,
        /// The sequence number of the request.
        seq: u16,
        /// The code of the ICMP destination unreachable message.
        code: u8,
        /// What the router says beside that (RFC 4884).
        extensions: Vec<IcmpObject>,
    },
    /// The request was longer than a link on its way takes, and must not be fragmented
    /// ([`EchoSocket::set_dont_fragment`](crate::net::EchoSocket::set_dont_fragment)).
    TooBig {
        /// The router that reported it.
        from: IpAddr,
        /// The sequence number of the request.
        seq: u16,
        /// The largest packet that the link takes, in bytes, IP header included.
        path_mtu: u32,
        /// What the router says beside that (RFC 4884).
        extensions: Vec<IcmpObject>,
    },
}

impl EchoEvent {
    /// About how much its extensions hold.
    fn extension_bytes(&self) -> usize {
        match self {
            EchoEvent::Reply { .. } => 0,
            EchoEvent::TimeExceeded { extensions, .. }
            | EchoEvent::Unreachable { extensions, .. }
            | EchoEvent::TooBig { extensions, .. } => {
                let len = |object: &IcmpObject| match object {
                    IcmpObject::Label { .. } => 0,
                    IcmpObject::Other { data, .. } => data.len(),
                };
                let objects = size_of_val(&extensions[..]);
                objects + extensions.iter().map(len).sum::<usize>()
            }
        }
    }
}

/// An event and when it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EchoArrival {
    /// When it came.
    pub at: Instant,
    /// What came.
    pub event: EchoEvent,
}

/// The echo sockets of one vnet. See the [module](self).
#[derive(Debug)]
pub(crate) struct Echo {
    /// The sockets, which know their identifier.
    pub sockets: Sockets<EchoId, u16, EchoArrival>,
    by_ident: Map<u16, EchoId>,
}

impl Echo {
    /// No sockets; allocates nothing.
    pub(crate) fn new(mut rng: Rng) -> Echo {
        let config = Config {
            recv_buffer: 256 * 1024,
            max_sockets: 4096,
        };
        Echo {
            sockets: Sockets::new("echo sockets", config),
            by_ident: Map::seeded(rng.u64()),
        }
    }

    /// A new socket with a free identifier.
    ///
    /// # Errors
    /// [`SocketError::PortsExhausted`] when all are taken, [`SocketError::Limit`] when the vnet has
    /// as many sockets as it may.
    pub(crate) fn open(&mut self, cx: &mut Cx) -> Result<EchoId, SocketError> {
        self.sockets.check_room()?;
        let ident = self.free_ident(cx.rng).ok_or(SocketError::PortsExhausted)?;
        let id = self.sockets.open(ident)?;
        self.by_ident.insert(ident, id);
        Ok(id)
    }

    /// Makes request number `seq`.
    ///
    /// # Errors
    /// A pending error; [`SocketError::MessageTooLong`]; [`SocketError::Gone`].
    pub(crate) fn send(
        &mut self,
        id: EchoId,
        seq: u16,
        payload: Payload,
    ) -> Result<EchoOut, SocketError> {
        let socket = self.sockets.get_mut(id)?;
        socket.check_send()?;
        if payload.len() > MAX_PAYLOAD {
            return Err(SocketError::MessageTooLong);
        }
        Ok(EchoOut {
            ident: socket.own,
            seq,
            ttl: socket.options.ttl,
            tos: socket.options.tos,
            fragmentation: socket.options.fragmentation,
            payload,
        })
    }

    /// Whether the requests with this identifier may be cut; `None` when no socket has it.
    pub(crate) fn fragmentation(&self, ident: u16) -> Option<Fragmentation> {
        let socket = self.sockets.get(*self.by_ident.get(&ident)?).ok()?;
        Some(socket.options.fragmentation)
    }

    /// Takes what came back for a request with the identifier `ident`.
    pub(crate) fn input(&mut self, cx: &mut Cx, ident: u16, event: EchoEvent) -> Verdict {
        match self.by_ident.get(&ident) {
            Some(id) => {
                let len = event.extension_bytes();
                let arrival = EchoArrival { at: cx.now, event };
                self.sockets.push(cx.out, *id, arrival, len)
            }
            None => Verdict::NoSocket,
        }
    }

    /// Closes the socket and wakes everyone who waits for it. One that is gone already stays so.
    pub(crate) fn close(&mut self, out: &mut Out, id: EchoId) {
        if let Some(ident) = self.sockets.close(out, id) {
            self.by_ident.remove(&ident);
        }
    }

    /// Closes every socket and gives the memory back.
    pub(crate) fn teardown(&mut self, out: &mut Out) {
        // A new field must be thought about here.
        let Echo { sockets, by_ident } = self;
        sockets.teardown(out);
        by_ident.reset();
    }

    /// A free identifier: a random start, then one after the other. Zero is left out, which some
    /// hosts take for none.
    fn free_ident(&self, rng: &mut Rng) -> Option<u16> {
        let first = rng.below(65_535);
        (0..65_535)
            .map(|n| ((first + n) % 65_535 + 1) as u16)
            .find(|ident| !self.by_ident.contains(ident))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::stats::{DropReason, Stats};
    use crate::transport::edge::ReadMode;

    struct World {
        echo: Echo,
        rng: Rng,
        stats: Stats,
        out: Out,
    }

    impl World {
        fn new() -> World {
            World {
                echo: Echo::new(Rng::seeded(3)),
                rng: Rng::seeded(4),
                stats: Stats::default(),
                out: Out::default(),
            }
        }

        fn with<R>(&mut self, f: impl FnOnce(&mut Echo, &mut Cx) -> R) -> R {
            let mut cx = Cx {
                now: Instant::from_nanos(5),
                rng: &mut self.rng,
                stats: &mut self.stats,
                out: &mut self.out,
            };
            f(&mut self.echo, &mut cx)
        }

        fn open(&mut self) -> EchoId {
            self.with(|e, cx| e.open(cx)).expect("room for a socket")
        }

        fn ident(&self, id: EchoId) -> u16 {
            self.echo.sockets.get(id).expect("there").own
        }
    }

    const ROUTER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 254));

    #[test]
    fn events_reach_the_socket_with_their_identifier() {
        let mut w = World::new();
        let (a, b) = (w.open(), w.open());
        let (at_a, at_b) = (w.ident(a), w.ident(b));
        assert_ne!(at_a, at_b);
        w.echo.sockets.get_mut(a).unwrap().options.ttl = 1;
        let out = w.echo.send(a, 3, vec![0; 56].into()).unwrap();
        assert_eq!(
            (out.ident, out.seq, out.ttl, out.payload.len()),
            (at_a, 3, 1, 56)
        );
        let event = EchoEvent::TimeExceeded {
            from: ROUTER,
            seq: 3,
            extensions: Vec::new(),
        };
        assert_eq!(
            w.with(|e, cx| e.input(cx, at_a, event.clone())),
            Verdict::Delivered
        );
        assert!(w.echo.sockets.get(a).unwrap().readiness().readable);
        let arrival = EchoArrival {
            at: Instant::from_nanos(5),
            event: event.clone(),
        };
        let mut recv = |id| w.echo.sockets.recv(id, ReadMode::Consume);
        assert_eq!(recv(a), Ok(arrival));
        assert_eq!(recv(a), Err(SocketError::WouldBlock));
        assert_eq!(recv(b), Err(SocketError::WouldBlock));
        w.echo.close(&mut w.out, b);
        assert_eq!(w.with(|e, cx| e.input(cx, at_b, event)), Verdict::NoSocket);
        let too_long = w.echo.send(a, 4, vec![0; MAX_PAYLOAD + 1].into());
        assert_eq!(too_long.err(), Some(SocketError::MessageTooLong));
    }

    #[test]
    fn every_identifier_can_be_had_once() {
        let mut w = World::new();
        w.echo.sockets.config.max_sockets = 1 << 20;
        for _ in 0..65_535 {
            assert!(w.with(|e, cx| e.open(cx)).is_ok());
        }
        let full = w.with(|e, cx| e.open(cx));
        assert_eq!(full, Err(SocketError::PortsExhausted));
        w.echo.teardown(&mut w.out);
        assert_eq!(w.echo.sockets.len(), 0);
    }

    #[test]
    fn a_flood_of_replies_is_bounded() {
        let mut w = World::new();
        w.echo.sockets.config.recv_buffer = 1024;
        let id = w.open();
        let ident = w.ident(id);
        let mut full = 0;
        for seq in 0..100 {
            let event = EchoEvent::Unreachable {
                from: ROUTER,
                seq,
                code: 1,
                extensions: Vec::new(),
            };
            let verdict = w.with(|e, cx| e.input(cx, ident, event));
            full += u32::from(verdict == Verdict::Drop(DropReason::SocketBufferFull));
        }
        assert_eq!((full, w.echo.sockets.queued()), (96, 4));
    }
}

//! Echo sockets: ICMP echo without a raw socket, as `ping` and `traceroute` want it.
//!
//! A socket has an identifier, allocated like a port (in the manner of Linux's ICMP datagram
//! sockets). Replies, and errors that quote a request with the identifier, reach the socket as
//! events. The stack writes and reads the ICMP messages.

use std::net::IpAddr;
use std::task::Waker;

use slotmap::new_key_type;

use super::datagram::{Account, Endpoint, Interest, Readiness, Recv, Shutdown, Verdict};
use super::error::SocketError;
use crate::base::map::Map;
use crate::base::rng::Rng;
use crate::base::slab::Slab;
use crate::base::time::Instant;
use crate::packet::{Cx, Out, Payload};

/// The largest payload of an echo request over IPv4.
pub(crate) const MAX_PAYLOAD: usize = 65_535 - 20 - 8;

new_key_type! {
    /// An echo socket within one vnet.
    pub struct EchoId;
}

/// What new sockets start with, and the limits of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EchoConfig {
    /// Time to live of requests sent.
    pub ttl: u8,
    /// Events that wait to be read, in bytes of
    /// [`ITEM_OVERHEAD`](super::datagram::ITEM_OVERHEAD) each.
    pub recv_buffer: usize,
    /// Sockets the vnet may have; identifiers are 16 bits.
    pub max_sockets: usize,
}

impl Default for EchoConfig {
    fn default() -> EchoConfig {
        EchoConfig {
            ttl: 64,
            recv_buffer: 256 * 1024,
            max_sockets: 4096,
        }
    }
}

/// The options of one socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EchoOptions {
    /// Time to live of requests sent; `traceroute` counts it up.
    pub ttl: u8,
    /// Type of service of requests sent.
    pub tos: u8,
    /// The source address; `None` lets the route decide.
    pub src: Option<IpAddr>,
}

/// An echo request to send.
#[derive(Clone, Debug)]
pub(crate) struct EchoOut {
    /// The source address, when the socket has one.
    pub src: Option<IpAddr>,
    /// Where it goes.
    pub dst: IpAddr,
    /// The identifier.
    pub ident: u16,
    /// The sequence number.
    pub seq: u16,
    /// Time to live.
    pub ttl: u8,
    /// Type of service.
    pub tos: u8,
    /// What the reply should bring back.
    pub payload: Payload,
}

/// What came back for an echo request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EchoEvent {
    /// The reply.
    Reply {
        /// Who answered.
        from: IpAddr,
        /// The request it answers.
        seq: u16,
        /// Bytes of payload that came back.
        len: usize,
        /// Time to live that was left.
        ttl: u8,
    },
    /// The request's time to live ran out on the way.
    TimeExceeded {
        /// The router that says so.
        from: IpAddr,
        /// The request.
        seq: u16,
    },
    /// The request could not be delivered.
    Unreachable {
        /// The host or router that says so.
        from: IpAddr,
        /// The request.
        seq: u16,
        /// The code of the ICMP destination unreachable message.
        code: u8,
    },
}

/// An event and when it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EchoArrival {
    /// When it came.
    pub at: Instant,
    /// What came.
    pub event: EchoEvent,
}

/// One socket, for a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EchoInfo {
    /// The socket.
    pub id: EchoId,
    /// Its identifier.
    pub ident: u16,
    /// Events in its queue.
    pub queued: usize,
    /// Events that found the queue full.
    pub overflows: u64,
}

/// What a removal gave back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct EchoReleased {
    /// Sockets closed.
    pub sockets: usize,
    /// Events nobody will read.
    pub events: usize,
}

/// The echo sockets of one vnet. See the [module](self).
#[derive(Debug)]
pub(crate) struct Echo {
    config: EchoConfig,
    sockets: Slab<EchoId, Socket>,
    /// What their receive queues hold.
    account: Account,
    by_ident: Map<u16, EchoId>,
}

#[derive(Debug)]
struct Socket {
    ident: u16,
    options: EchoOptions,
    endpoint: Endpoint<EchoArrival>,
}

impl Echo {
    /// No sockets; allocates nothing.
    pub(crate) fn new(config: EchoConfig, mut rng: Rng) -> Echo {
        Echo {
            config,
            sockets: Slab::default(),
            account: Account::default(),
            by_ident: Map::seeded(rng.u64()),
        }
    }

    /// A new socket with the identifier `ident`, or with a free one.
    ///
    /// # Errors
    /// [`SocketError::AddrInUse`] when `ident` is taken, [`SocketError::PortsExhausted`] when all
    /// are, [`SocketError::Limit`] when the vnet has as many sockets as it may.
    pub(crate) fn open(&mut self, cx: &mut Cx, ident: Option<u16>) -> Result<EchoId, SocketError> {
        if self.sockets.len() >= self.config.max_sockets {
            return Err(SocketError::Limit("echo sockets"));
        }
        let ident = match ident {
            Some(ident) if self.by_ident.contains(&ident) => return Err(SocketError::AddrInUse),
            Some(ident) => ident,
            None => self.free_ident(cx.rng).ok_or(SocketError::PortsExhausted)?,
        };
        let id = self.sockets.insert(Socket {
            ident,
            options: EchoOptions {
                ttl: self.config.ttl,
                tos: 0,
                src: None,
            },
            endpoint: Endpoint::default(),
        });
        self.by_ident.insert(ident, id);
        Ok(id)
    }

    /// The socket's identifier.
    ///
    /// # Errors
    /// [`SocketError::Gone`].
    pub(crate) fn ident(&self, id: EchoId) -> Result<u16, SocketError> {
        Ok(self.sockets.get(id).ok_or(SocketError::Gone)?.ident)
    }

    /// Makes request number `seq` to `dst`.
    ///
    /// # Errors
    /// A pending error; [`SocketError::BrokenPipe`] after a shutdown;
    /// [`SocketError::MessageTooLong`].
    pub(crate) fn send(
        &mut self,
        id: EchoId,
        dst: IpAddr,
        seq: u16,
        payload: Payload,
    ) -> Result<EchoOut, SocketError> {
        let socket = self.socket(id)?;
        socket.endpoint.check_send()?;
        if payload.len() > MAX_PAYLOAD {
            return Err(SocketError::MessageTooLong);
        }
        Ok(EchoOut {
            src: socket.options.src,
            dst,
            ident: socket.ident,
            seq,
            ttl: socket.options.ttl,
            tos: socket.options.tos,
            payload,
        })
    }

    /// Takes what came back for a request with the identifier `ident`.
    pub(crate) fn input(&mut self, cx: &mut Cx, ident: u16, event: EchoEvent) -> Verdict {
        let socket = self
            .by_ident
            .get(&ident)
            .and_then(|id| self.sockets.get_mut(*id));
        let Some(socket) = socket else {
            return Verdict::NoSocket;
        };
        let arrival = EchoArrival { at: cx.now, event };
        let limit = self.config.recv_buffer;
        socket
            .endpoint
            .push(cx.out, &mut self.account, arrival, 0, limit)
    }

    /// The oldest event. `None` after the read side was shut down.
    ///
    /// # Errors
    /// A pending error; [`SocketError::WouldBlock`] when nothing is queued.
    pub(crate) fn recv(
        &mut self,
        id: EchoId,
        how: Recv,
    ) -> Result<Option<EchoArrival>, SocketError> {
        let socket = self.sockets.get_mut(id).ok_or(SocketError::Gone)?;
        socket.endpoint.recv(&mut self.account, how)
    }

    /// A request could not be sent, or the stack has another error for the socket.
    pub(crate) fn fail(&mut self, out: &mut Out, id: EchoId, error: SocketError) {
        if let Some(socket) = self.sockets.get_mut(id) {
            socket.endpoint.fail(out, error);
        }
    }

    /// Adds a waiter.
    ///
    /// # Errors
    /// [`SocketError::Gone`].
    pub(crate) fn register(
        &mut self,
        out: &mut Out,
        id: EchoId,
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
    pub(crate) fn readiness(&self, id: EchoId) -> Result<Readiness, SocketError> {
        let socket = self.sockets.get(id).ok_or(SocketError::Gone)?;
        Ok(socket.endpoint.readiness())
    }

    /// Shuts a direction down.
    ///
    /// # Errors
    /// [`SocketError::Gone`].
    pub(crate) fn shutdown(
        &mut self,
        out: &mut Out,
        id: EchoId,
        how: Shutdown,
    ) -> Result<(), SocketError> {
        self.socket(id)?.endpoint.shutdown(out, how);
        Ok(())
    }

    /// The socket's options, to be read or changed.
    ///
    /// # Errors
    /// [`SocketError::Gone`].
    pub(crate) fn options_mut(&mut self, id: EchoId) -> Result<&mut EchoOptions, SocketError> {
        Ok(&mut self.socket(id)?.options)
    }

    /// Closes the socket and wakes everyone who waits for it. A socket that is gone already gives
    /// nothing.
    pub(crate) fn close(&mut self, out: &mut Out, id: EchoId) -> EchoReleased {
        let Some(mut socket) = self.sockets.remove(id) else {
            return EchoReleased::default();
        };
        self.by_ident.remove(&socket.ident);
        socket.endpoint.wake_all(out);
        EchoReleased {
            sockets: 1,
            events: socket.endpoint.release(&mut self.account),
        }
    }

    /// Closes every socket and gives the memory back.
    pub(crate) fn teardown(&mut self, out: &mut Out) -> EchoReleased {
        // A new field must be thought about here.
        let Echo {
            config: _,
            sockets,
            account,
            by_ident,
        } = self;
        let mut released = EchoReleased::default();
        for (_, mut socket) in sockets.drain() {
            socket.endpoint.wake_all(out);
            released.sockets += 1;
            released.events += socket.endpoint.release(account);
        }
        sockets.reset();
        by_ident.reset();
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
    pub(crate) fn config_mut(&mut self) -> &mut EchoConfig {
        &mut self.config
    }

    /// Every socket, in table order.
    pub(crate) fn list(&self) -> impl Iterator<Item = EchoInfo> {
        self.sockets.iter().map(|(id, socket)| EchoInfo {
            id,
            ident: socket.ident,
            queued: socket.endpoint.len(),
            overflows: socket.endpoint.overflows(),
        })
    }

    fn socket(&mut self, id: EchoId) -> Result<&mut Socket, SocketError> {
        self.sockets.get_mut(id).ok_or(SocketError::Gone)
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

    struct World {
        echo: Echo,
        rng: Rng,
        stats: Stats,
        out: Out,
    }

    impl World {
        fn new(config: EchoConfig) -> World {
            World {
                echo: Echo::new(config, Rng::seeded(3)),
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
    }

    const ROUTER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 254));

    #[test]
    fn events_reach_the_socket_with_their_identifier() {
        let mut w = World::new(EchoConfig::default());
        let a = w.with(|e, cx| e.open(cx, Some(7))).unwrap();
        let b = w.with(|e, cx| e.open(cx, None)).unwrap();
        assert_eq!(
            w.with(|e, cx| e.open(cx, Some(7))),
            Err(SocketError::AddrInUse)
        );
        w.echo.options_mut(a).unwrap().ttl = 1;
        let out = w.echo.send(a, ROUTER, 3, vec![0; 56].into()).unwrap();
        assert_eq!(
            (out.ident, out.seq, out.ttl, out.payload.len()),
            (7, 3, 1, 56)
        );
        w.echo
            .register(&mut w.out, a, Interest::Read, Waker::noop())
            .unwrap();
        let event = EchoEvent::TimeExceeded {
            from: ROUTER,
            seq: 3,
        };
        assert_eq!(w.with(|e, cx| e.input(cx, 7, event)), Verdict::Delivered);
        assert_eq!(w.out.wakes.len(), 1);
        assert!(w.echo.readiness(a).unwrap().readable);
        let arrival = EchoArrival {
            at: Instant::from_nanos(5),
            event,
        };
        assert_eq!(w.echo.recv(a, Recv::Consume), Ok(Some(arrival)));
        assert_eq!(w.echo.recv(a, Recv::Consume), Err(SocketError::WouldBlock));
        assert_eq!(w.echo.recv(b, Recv::Consume), Err(SocketError::WouldBlock));
        let free = w.echo.ident(b).unwrap();
        w.echo.close(&mut w.out, b);
        assert_eq!(w.with(|e, cx| e.input(cx, free, event)), Verdict::NoSocket);
        assert_eq!(w.echo.recv(b, Recv::Consume), Err(SocketError::Gone));
        let again = w.with(|e, cx| e.open(cx, Some(free)));
        assert!(
            again.is_ok_and(|id| id != b),
            "the identifier is free again"
        );
        let too_long = w.echo.send(a, ROUTER, 4, vec![0; MAX_PAYLOAD + 1].into());
        assert_eq!(too_long.err(), Some(SocketError::MessageTooLong));
    }

    #[test]
    fn every_identifier_can_be_had_once() {
        let mut w = World::new(EchoConfig {
            max_sockets: 1 << 20,
            ..EchoConfig::default()
        });
        for _ in 0..65_535 {
            assert!(w.with(|e, cx| e.open(cx, None)).is_ok());
        }
        let full = w.with(|e, cx| e.open(cx, None));
        assert_eq!(full, Err(SocketError::PortsExhausted));
        assert_eq!(w.echo.teardown(&mut w.out).sockets, 65_535);
        assert!(w.echo.is_empty());
    }

    #[test]
    fn a_flood_of_replies_is_bounded() {
        let mut w = World::new(EchoConfig {
            recv_buffer: 1024,
            ..EchoConfig::default()
        });
        let id = w.with(|e, cx| e.open(cx, Some(1))).unwrap();
        let mut full = 0;
        for seq in 0..100 {
            let event = EchoEvent::Unreachable {
                from: ROUTER,
                seq,
                code: 1,
            };
            if w.with(|e, cx| e.input(cx, 1, event)) == Verdict::Drop(DropReason::SocketBufferFull)
            {
                full += 1;
            }
        }
        assert_eq!(full, 96);
        let released = w.echo.close(&mut w.out, id);
        assert_eq!((released.sockets, released.events), (1, 4));
    }
}

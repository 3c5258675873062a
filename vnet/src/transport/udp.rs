//! UDP (RFC 768, RFC 1122 section 4.1).
//!
//! One table a vnet. A datagram finds its socket by at most two hash lookups: the connected
//! sockets by both ends, then the others by port. Payloads are handed on by reference.
//!
//! The table knows nothing of routes and interfaces: whether an address is ours, and which
//! address a datagram starts from, is settled by the stack before it calls. Not here: multicast
//! groups, UDP-Lite, path MTU discovery.

mod options;
mod report;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::task::Waker;

use slotmap::new_key_type;
use smallvec::SmallVec;

pub(crate) use self::options::{Broadcast, UdpConfig, UdpOptions};
pub(crate) use self::report::{Addressing, DatagramOut, UdpInfo, UdpReleased, UdpStats};
use super::datagram::{Account, Endpoint};
pub(crate) use super::datagram::{Interest, Readiness, Recv, Shutdown, Verdict};
use super::error::SocketError;
use super::ports::{Ports, Reuse};
use crate::base::map::Map;
use crate::base::rng::Rng;
use crate::base::slab::Slab;
use crate::packet::{Cx, Out, Payload};

/// The largest payload of a datagram over IPv4.
pub(crate) const MAX_PAYLOAD_4: usize = 65_535 - 20 - 8;
/// The largest payload of a datagram over IPv6, without jumbograms.
pub(crate) const MAX_PAYLOAD_6: usize = 65_535 - 8;

new_key_type! {
    /// A UDP socket within one vnet.
    pub struct UdpId;
}

/// The UDP sockets of one vnet. See the [module](self).
#[derive(Debug)]
pub(crate) struct Udp {
    config: UdpConfig,
    sockets: Slab<UdpId, Socket>,
    /// What their receive queues hold.
    account: Account,
    ports: Ports<UdpId>,
    /// Sockets that are bound but not connected, by port, in the order in which they came.
    open: Map<u16, Ids>,
    /// Connected sockets, by both ends.
    connected: Map<(End, End), Ids>,
    stats: UdpStats,
}

type Ids = SmallVec<[UdpId; 2]>;
/// An address without IPv6's flow label and scope, which take no part in matching.
type End = (IpAddr, u16);

#[derive(Debug)]
struct Socket {
    /// What the socket holds in the table of ports.
    bound: Option<SocketAddr>,
    link: Option<Connected>,
    options: UdpOptions,
    endpoint: Endpoint<(Payload, SocketAddr)>,
}

#[derive(Clone, Copy, Debug)]
struct Connected {
    local: SocketAddr,
    peer: SocketAddr,
}

impl Udp {
    /// No sockets; allocates nothing.
    pub(crate) fn new(config: UdpConfig, mut rng: Rng) -> Udp {
        Udp {
            config,
            sockets: Slab::default(),
            account: Account::default(),
            ports: Ports::seeded(rng.u64()),
            open: Map::seeded(rng.u64()),
            connected: Map::seeded(rng.u64()),
            stats: UdpStats::default(),
        }
    }

    /// A new socket without an address.
    ///
    /// # Errors
    /// [`SocketError::Limit`] when the vnet has as many as it may.
    pub(crate) fn open(&mut self) -> Result<UdpId, SocketError> {
        if self.sockets.len() >= self.config.max_sockets {
            return Err(SocketError::Limit("UDP sockets"));
        }
        Ok(self.sockets.insert(Socket {
            bound: None,
            link: None,
            options: UdpOptions {
                ttl: self.config.ttl,
                tos: 0,
                broadcast: Broadcast::default(),
                reuse: Reuse::Exclusive,
                recv_buffer: self.config.recv_buffer,
            },
            endpoint: Endpoint::default(),
        }))
    }

    /// Gives the socket an address; port zero asks for an ephemeral one. The stack has seen to
    /// it that the address is ours.
    ///
    /// # Errors
    /// [`SocketError::InvalidInput`] when it has one already, and those of [`Ports::bind`].
    pub(crate) fn bind(
        &mut self,
        cx: &mut Cx,
        id: UdpId,
        addr: SocketAddr,
    ) -> Result<SocketAddr, SocketError> {
        let socket = self.sockets.get_mut(id).ok_or(SocketError::Gone)?;
        if socket.bound.is_some() {
            return Err(SocketError::InvalidInput);
        }
        let addr = self.ports.bind(cx.rng, addr, socket.options.reuse, id)?;
        socket.bound = Some(addr);
        self.open.get_or_insert_with(addr.port(), Ids::new).push(id);
        Ok(addr)
    }

    /// Sets the peer: datagrams from elsewhere no longer reach the socket, and errors from there
    /// are reported. `src` is the address from which the peer is reached; a socket bound to an
    /// address keeps that one. A connected socket changes its peer.
    ///
    /// # Errors
    /// [`SocketError::InvalidInput`] for port zero, an unspecified address, one of another family
    /// than the socket's; [`SocketError::BroadcastForbidden`]; those of [`Udp::bind`],
    /// since an unbound socket gets an ephemeral port.
    pub(crate) fn connect(
        &mut self,
        cx: &mut Cx,
        id: UdpId,
        peer: SocketAddr,
        src: IpAddr,
    ) -> Result<(), SocketError> {
        let socket = self.sockets.get(id).ok_or(SocketError::Gone)?;
        check_destination(socket, peer)?;
        if peer.ip().is_unspecified() || src.is_ipv4() != peer.is_ipv4() {
            return Err(SocketError::InvalidInput);
        }
        let bound = self.bound_for(cx, id, peer)?;
        self.unlink(id);
        let local = match bound.ip().is_unspecified() {
            true => SocketAddr::new(src, bound.port()),
            false => bound,
        };
        self.connected
            .get_or_insert_with((end(local), end(peer)), Ids::new)
            .push(id);
        self.socket(id)?.link = Some(Connected { local, peer });
        Ok(())
    }

    /// Forgets the peer. The socket keeps its port and hears everyone again.
    ///
    /// # Errors
    /// [`SocketError::NotConnected`] when there is none.
    pub(crate) fn disconnect(&mut self, id: UdpId) -> Result<(), SocketError> {
        let socket = self.socket(id)?;
        let bound = socket.bound;
        if socket.link.is_none() {
            return Err(SocketError::NotConnected);
        }
        self.unlink(id);
        self.socket(id)?.link = None;
        if let Some(addr) = bound {
            self.open.get_or_insert_with(addr.port(), Ids::new).push(id);
        }
        Ok(())
    }

    /// Takes a datagram from `src` to `dst`. The stack counts what is not delivered.
    pub(crate) fn input(
        &mut self,
        cx: &mut Cx,
        src: SocketAddr,
        dst: SocketAddr,
        addressing: Addressing,
        payload: Payload,
    ) -> Verdict {
        let verdict = match addressing {
            Addressing::Unicast => match self.find(src, dst) {
                Some(id) => self.deliver(cx.out, id, payload, src),
                None => Verdict::NoSocket,
            },
            Addressing::Broadcast => self.deliver_all(cx.out, src, dst, &payload),
        };
        match verdict {
            Verdict::Delivered => self.stats.delivered += 1,
            Verdict::NoSocket => self.stats.no_socket += 1,
            Verdict::Drop(_) => self.stats.buffer_full += 1,
        }
        verdict
    }

    /// Makes a datagram for `dst`, or for the peer. An unbound socket gets an ephemeral port.
    ///
    /// # Errors
    /// A pending error; [`SocketError::BrokenPipe`] after a shutdown;
    /// [`SocketError::NotConnected`] without a destination; [`SocketError::InvalidInput`] for port
    /// zero, another family, and the broadcast address without permission;
    /// [`SocketError::MessageTooLong`]; [`SocketError::PortsExhausted`].
    pub(crate) fn send(
        &mut self,
        cx: &mut Cx,
        id: UdpId,
        dst: Option<SocketAddr>,
        payload: Payload,
    ) -> Result<DatagramOut, SocketError> {
        let socket = self.sockets.get_mut(id).ok_or(SocketError::Gone)?;
        socket.endpoint.check_send()?;
        let dst = dst
            .or(socket.link.map(|link| link.peer))
            .ok_or(SocketError::NotConnected)?;
        check_destination(socket, dst)?;
        let max = match dst {
            SocketAddr::V4(_) => MAX_PAYLOAD_4,
            SocketAddr::V6(_) => MAX_PAYLOAD_6,
        };
        if payload.len() > max {
            return Err(SocketError::MessageTooLong);
        }
        let bound = self.bound_for(cx, id, dst)?;
        self.stats.sent += 1;
        let socket = self.socket(id)?;
        let local = socket.link.map_or(bound, |link| link.local);
        Ok(DatagramOut {
            src: Some(local.ip()).filter(|ip| !ip.is_unspecified()),
            src_port: local.port(),
            dst,
            payload,
            ttl: socket.options.ttl,
            tos: socket.options.tos,
            broadcast: socket.options.broadcast,
        })
    }

    /// The oldest datagram and where it came from. After the read side was shut down: an empty
    /// one from the unspecified address.
    ///
    /// # Errors
    /// A pending error; [`SocketError::WouldBlock`] when nothing is queued.
    pub(crate) fn recv(
        &mut self,
        id: UdpId,
        how: Recv,
    ) -> Result<(Payload, SocketAddr), SocketError> {
        let socket = self.sockets.get_mut(id).ok_or(SocketError::Gone)?;
        let datagram = socket.endpoint.recv(&mut self.account, how)?;
        let end = || (Payload::new(), SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
        Ok(datagram.unwrap_or_else(end))
    }

    /// An ICMP error came back for a datagram from `local` to `remote`. Connected sockets hear of
    /// it; others cannot tell which of their datagrams it was, as on BSD (RFC 1122 section
    /// 4.1.3.3). Returns how many sockets were told.
    pub(crate) fn on_icmp_error(
        &mut self,
        out: &mut Out,
        local: SocketAddr,
        remote: SocketAddr,
        error: SocketError,
    ) -> usize {
        let Some(ids) = self.connected.get(&(end(local), end(remote))) else {
            return 0;
        };
        for id in ids {
            if let Some(socket) = self.sockets.get_mut(*id) {
                socket.endpoint.fail(out, error);
            }
        }
        ids.len()
    }

    /// Adds a waiter.
    ///
    /// # Errors
    /// [`SocketError::Gone`].
    pub(crate) fn register(
        &mut self,
        out: &mut Out,
        id: UdpId,
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
    pub(crate) fn readiness(&self, id: UdpId) -> Result<Readiness, SocketError> {
        let socket = self.sockets.get(id).ok_or(SocketError::Gone)?;
        Ok(socket.endpoint.readiness())
    }

    /// The pending error, which is thereby taken (`SO_ERROR`).
    ///
    /// # Errors
    /// [`SocketError::Gone`].
    pub(crate) fn take_error(&mut self, id: UdpId) -> Result<Option<SocketError>, SocketError> {
        Ok(self.socket(id)?.endpoint.take_error())
    }

    /// Shuts a direction down.
    ///
    /// # Errors
    /// [`SocketError::Gone`].
    pub(crate) fn shutdown(
        &mut self,
        out: &mut Out,
        id: UdpId,
        how: Shutdown,
    ) -> Result<(), SocketError> {
        self.socket(id)?.endpoint.shutdown(out, how);
        Ok(())
    }

    /// The socket's options.
    ///
    /// # Errors
    /// [`SocketError::Gone`].
    pub(crate) fn options(&self, id: UdpId) -> Result<&UdpOptions, SocketError> {
        let socket = self.sockets.get(id).ok_or(SocketError::Gone)?;
        Ok(&socket.options)
    }

    /// The socket's options, to be changed.
    ///
    /// # Errors
    /// [`SocketError::Gone`].
    pub(crate) fn options_mut(&mut self, id: UdpId) -> Result<&mut UdpOptions, SocketError> {
        Ok(&mut self.socket(id)?.options)
    }

    /// The socket's own address; `None` before it has one.
    ///
    /// # Errors
    /// [`SocketError::Gone`].
    pub(crate) fn local_addr(&self, id: UdpId) -> Result<Option<SocketAddr>, SocketError> {
        let socket = self.sockets.get(id).ok_or(SocketError::Gone)?;
        Ok(socket.local())
    }

    /// The socket's peer.
    ///
    /// # Errors
    /// [`SocketError::NotConnected`], [`SocketError::Gone`].
    pub(crate) fn peer_addr(&self, id: UdpId) -> Result<SocketAddr, SocketError> {
        let socket = self.sockets.get(id).ok_or(SocketError::Gone)?;
        let link = socket.link.ok_or(SocketError::NotConnected)?;
        Ok(link.peer)
    }

    /// Closes the socket, wakes everyone who waits for it, and gives its port back. A socket that
    /// is gone already gives nothing.
    pub(crate) fn close(&mut self, out: &mut Out, id: UdpId) -> UdpReleased {
        self.unlink(id);
        let Some(mut socket) = self.sockets.remove(id) else {
            return UdpReleased::default();
        };
        if let Some(addr) = socket.bound {
            self.ports.release(addr, id);
        }
        socket.endpoint.wake_all(out);
        UdpReleased {
            sockets: 1,
            datagrams: socket.endpoint.release(&mut self.account),
        }
    }

    /// Closes every socket and gives the memory back.
    pub(crate) fn teardown(&mut self, out: &mut Out) -> UdpReleased {
        // A new field must be thought about here.
        let Udp {
            config: _,
            sockets,
            account,
            ports,
            open,
            connected,
            stats: _,
        } = self;
        let mut released = UdpReleased::default();
        for (_, mut socket) in sockets.drain() {
            socket.endpoint.wake_all(out);
            released.sockets += 1;
            released.datagrams += socket.endpoint.release(account);
        }
        sockets.reset();
        ports.reset();
        open.reset();
        connected.reset();
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

    /// The counters.
    pub(crate) fn stats(&self) -> UdpStats {
        self.stats
    }

    /// What new sockets start with.
    pub(crate) fn config(&self) -> &UdpConfig {
        &self.config
    }

    /// What new sockets start with, to be changed.
    pub(crate) fn config_mut(&mut self) -> &mut UdpConfig {
        &mut self.config
    }

    /// Every socket, in table order.
    pub(crate) fn list(&self) -> impl Iterator<Item = UdpInfo> {
        self.sockets.iter().map(|(id, socket)| UdpInfo {
            id,
            local: socket.local(),
            peer: socket.link.map(|link| link.peer),
            queued: socket.endpoint.len(),
            queued_bytes: socket.endpoint.bytes(),
            overflows: socket.endpoint.overflows(),
        })
    }

    /// The socket for a unicast datagram: connected to its source, or bound to its destination,
    /// or bound to the port; among several that share an address, the one that came last.
    #[inline]
    fn find(&self, src: SocketAddr, dst: SocketAddr) -> Option<UdpId> {
        if !self.connected.is_empty()
            && let Some(ids) = self.connected.get(&(end(dst), end(src)))
        {
            return ids.last().copied();
        }
        let ids = self.open.get(&dst.port())?;
        let bound = |id: &UdpId| self.sockets.get(*id)?.bound;
        let exact = |id: &&UdpId| bound(id).is_some_and(|b| b.ip() == dst.ip());
        let any = |id: &&UdpId| bound(id).is_some_and(|b| covers(b.ip(), dst.ip()));
        ids.iter()
            .rev()
            .find(exact)
            .or_else(|| ids.iter().rev().find(any))
            .copied()
    }

    fn deliver(&mut self, out: &mut Out, id: UdpId, data: Payload, src: SocketAddr) -> Verdict {
        let socket = self.sockets.get_mut(id).expect(INDEXED);
        let len = data.len();
        let limit = socket.options.recv_buffer;
        socket
            .endpoint
            .push(out, &mut self.account, (data, src), len, limit)
    }

    fn deliver_all(
        &mut self,
        out: &mut Out,
        src: SocketAddr,
        dst: SocketAddr,
        payload: &Payload,
    ) -> Verdict {
        let mut ids = Ids::new();
        if let Some(open) = self.open.get(&dst.port()) {
            ids.extend(open.iter().copied().filter(|id| {
                let bound = self.sockets.get(*id).and_then(|s| s.bound);
                bound.is_some_and(|b| covers(b.ip(), dst.ip()))
            }));
        }
        if let Some(connected) = self.connected.get(&(end(dst), end(src))) {
            ids.extend(connected.iter().copied());
        }
        let mut verdict = Verdict::NoSocket;
        for id in ids {
            let one = self.deliver(out, id, payload.clone(), src);
            if verdict != Verdict::Delivered {
                verdict = one;
            }
        }
        verdict
    }

    fn socket(&mut self, id: UdpId) -> Result<&mut Socket, SocketError> {
        self.sockets.get_mut(id).ok_or(SocketError::Gone)
    }

    /// The address the socket is bound to; an unbound one gets an ephemeral port.
    fn bound_for(
        &mut self,
        cx: &mut Cx,
        id: UdpId,
        dst: SocketAddr,
    ) -> Result<SocketAddr, SocketError> {
        match self.socket(id)?.bound {
            Some(addr) => Ok(addr),
            None => self.bind(cx, id, SocketAddr::new(unspecified(dst), 0)),
        }
    }

    /// Takes the socket out of the index it is in.
    fn unlink(&mut self, id: UdpId) {
        let Some(socket) = self.sockets.get(id) else {
            return;
        };
        match (socket.link, socket.bound) {
            (Some(link), _) => {
                remove_from(&mut self.connected, (end(link.local), end(link.peer)), id)
            }
            (None, Some(addr)) => remove_from(&mut self.open, addr.port(), id),
            (None, None) => {}
        }
    }
}

impl Socket {
    fn local(&self) -> Option<SocketAddr> {
        self.link.map(|link| link.local).or(self.bound)
    }
}

fn check_destination(socket: &Socket, dst: SocketAddr) -> Result<(), SocketError> {
    let same_family = socket
        .bound
        .is_none_or(|bound| bound.is_ipv4() == dst.is_ipv4());
    let broadcast = dst.ip() == IpAddr::V4(Ipv4Addr::BROADCAST);
    if dst.port() == 0 || !same_family {
        return Err(SocketError::InvalidInput);
    }
    match socket.options.broadcast {
        Broadcast::Forbidden if broadcast => Err(SocketError::BroadcastForbidden),
        _ => Ok(()),
    }
}

/// True when a socket bound to `bound` hears datagrams for `dst`.
fn covers(bound: IpAddr, dst: IpAddr) -> bool {
    bound == dst || (bound.is_unspecified() && bound.is_ipv4() == dst.is_ipv4())
}

fn end(addr: SocketAddr) -> End {
    (addr.ip(), addr.port())
}

fn unspecified(like: SocketAddr) -> IpAddr {
    match like {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
    }
}

fn remove_from<K: Eq + std::hash::Hash>(index: &mut Map<K, Ids>, key: K, id: UdpId) {
    let Some(ids) = index.get_mut(&key) else {
        return;
    };
    ids.retain(|other| *other != id);
    if ids.is_empty() {
        index.remove(&key);
    }
}

const INDEXED: &str = "the indexes hold live sockets only";

#[cfg(test)]
mod tests;

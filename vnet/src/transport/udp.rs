//! UDP (RFC 768, RFC 1122 section 4.1).
//!
//! There is one table per vnet. A datagram finds its socket by at most two hash lookups: connected sockets by both ends,
//! then the others by port. Payloads are passed by reference.
//!
//! The table knows nothing of routes and interfaces. Before calling it, the stack decides whether an address is ours and
//! which source address a datagram has, and who hears a group. UDP-Lite is not implemented.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use siphasher::sip::SipHasher13;
use slotmap::{Key, new_key_type};
use smallvec::SmallVec;

use super::datagram::{self, Config, Sockets, Verdict};
use super::domain::Domain;
use super::error::SocketError;
use super::ports::{Ports, Reuse};
use crate::base::id::IfId;
use crate::base::map::Map;
use crate::base::rng::Rng;
use crate::base::switch::Switch;
use crate::packet::header::Fragmentation;
use crate::packet::header::icmp_ext::IcmpObject;
use crate::packet::{Cx, Out, Payload};

/// The largest payload of a datagram over IPv4.
pub(crate) const MAX_PAYLOAD_4: usize = 65_535 - 20 - 8;
/// The largest payload of a datagram over IPv6, without jumbograms.
pub(crate) const MAX_PAYLOAD_6: usize = 65_535 - 8;

new_key_type! {
    /// A UDP socket within one vnet.
    pub struct UdpId;
}

/// Whether a socket may send to broadcast addresses (`SO_BROADCAST`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Broadcast {
    /// It may not.
    #[default]
    Forbidden,
    /// It may.
    Allowed,
}

/// How a datagram was addressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Addressing {
    /// To one host: one socket gets it.
    Unicast,
    /// To all hosts, or a group: every matching socket gets it that hears it.
    Broadcast,
}

/// What a socket says of datagrams to groups (RFC 3493 section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Multicast {
    /// Hops that those of IPv4 may take (RFC 1112 section 6.1: one unless something else is said).
    pub ttl: u8,
    /// The same of IPv6.
    pub hops: u8,
    /// Whether sockets of this vnet that are in the group get those of IPv4 as well.
    pub loop_v4: Switch,
    /// The same of IPv6.
    pub loop_v6: Switch,
    /// The interface that they leave by; where none is named, routes decide.
    pub interface: Option<IfId>,
    /// Whether the socket has ever joined a group.
    pub is_member: bool,
}

impl Default for Multicast {
    fn default() -> Multicast {
        Multicast {
            ttl: 1,
            hops: 1,
            loop_v4: Switch::On,
            loop_v6: Switch::On,
            interface: None,
            is_member: false,
        }
    }
}

/// What is known of a datagram that arrived, besides what it carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrived {
    /// Who sent it.
    pub src: SocketAddr,
    /// The address it was sent to: this socket's, a broadcast address, or a group.
    pub dst: IpAddr,
    /// The interface it came in by.
    pub on: Option<IfId>,
    /// Time to live or hop limit, as it arrived.
    pub ttl: u8,
    /// Type of service or traffic class, congestion marks included.
    pub tos: u8,
}

/// What is said of one datagram to send that differs from what its socket says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Leaving {
    /// The address of ours that it comes from.
    pub src: Option<IpAddr>,
    /// The interface that it leaves by.
    pub by: Option<IfId>,
    /// Time to live or hop limit.
    pub ttl: Option<u8>,
    /// Type of service or traffic class, congestion marks included.
    pub tos: Option<u8>,
}

/// An ICMP error about a datagram of a socket that asked for such errors (`IP_RECVERR`, `IPV6_RECVERR`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatagramError {
    /// What it means.
    pub error: SocketError,
    /// Where the datagram was sent.
    pub peer: SocketAddr,
    /// Who says so: a router, the peer, or this vnet itself.
    pub from: IpAddr,
    /// The largest packet that the next link takes, in bytes, IP header included, where the datagram was too long.
    pub path_mtu: Option<u32>,
    /// What a router says beside that (RFC 4884). Empty where it says nothing.
    pub extensions: Vec<IcmpObject>,
}

/// Errors that wait at one socket; what comes after is only told as the pending error.
const MAX_ERRORS: usize = 64;

/// A datagram to send. The stack routes it, fills in the source address, and refuses it when it
/// goes to a subnet's broadcast address and `broadcast` forbids that.
#[derive(Clone, Debug)]
pub(crate) struct DatagramOut {
    /// The source address, when the socket has one; otherwise the route decides.
    pub src: Option<IpAddr>,
    /// The source port.
    pub src_port: u16,
    /// Where it goes.
    pub dst: SocketAddr,
    /// Time to live; 0 for the vnet's.
    pub ttl: u8,
    /// Type of service.
    pub tos: u8,
    /// Whether it may be cut.
    pub fragmentation: Fragmentation,
    /// Whether the destination may be a broadcast address.
    pub broadcast: Broadcast,
    /// What is to become of it when it is for a group.
    pub multicast: Multicast,
    /// The interface that it must leave by.
    pub by: Option<IfId>,
}

/// What happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct UdpStats {
    /// Datagrams that at least one socket took.
    pub delivered: u64,
    /// Datagrams for a port that nobody has.
    pub no_socket: u64,
    /// Datagrams that found the receive buffer full.
    pub buffer_full: u64,
    /// Datagrams sent.
    pub sent: u64,
}

/// The UDP sockets of one vnet. See the [module](self).
#[derive(Debug)]
pub(crate) struct Udp {
    /// The sockets.
    pub sockets: Sockets<UdpId, Socket, (Payload, Arrived)>,
    ports: Ports<UdpId>,
    /// Sockets that are bound but not connected, by port, in the order in which they came.
    open: Map<u16, Ids>,
    /// Connected sockets, by both ends.
    connected: Map<(End, End), Ids>,
    /// Which of a group gets a datagram depends on it.
    seed: u64,
    stats: UdpStats,
}

type Ids = SmallVec<[UdpId; 2]>;
type Datagrams = datagram::Socket<Socket, (Payload, Arrived)>;
/// An address without IPv6's flow label and scope, which take no part in matching.
type End = (IpAddr, u16);

/// What UDP knows of a socket.
#[derive(Debug, Default)]
pub(crate) struct Socket {
    /// What it holds in the table of ports.
    bound: Option<SocketAddr>,
    link: Option<Connected>,
    /// What addresses it speaks.
    pub domain: Domain,
    /// Whether it may send to broadcast addresses.
    pub broadcast: Broadcast,
    /// What it says of groups.
    pub multicast: Multicast,
    /// Whether its address may be shared; looked at by [`Udp::bind`].
    pub reuse: Reuse,
    /// The interface by which it is reached and by which it sends (`SO_BINDTODEVICE`).
    pub interface: Option<IfId>,
    /// ICMP errors that nobody has looked at, if anybody wants to.
    pub errors: Option<VecDeque<DatagramError>>,
}

#[derive(Clone, Copy, Debug)]
struct Connected {
    local: SocketAddr,
    peer: SocketAddr,
}

impl Udp {
    /// No sockets; allocates nothing.
    pub(crate) fn new(mut rng: Rng) -> Udp {
        let config = Config {
            recv_buffer: 1 << 20,
            max_sockets: 1 << 20,
        };
        Udp {
            sockets: Sockets::new("UDP sockets", config),
            ports: Ports::seeded(rng.u64()),
            open: Map::seeded(rng.u64()),
            connected: Map::seeded(rng.u64()),
            seed: rng.u64(),
            stats: UdpStats::default(),
        }
    }

    /// A new socket without an address.
    ///
    /// # Errors
    /// [`SocketError::Limit`] when the vnet has as many as it may.
    pub(crate) fn open(&mut self) -> Result<UdpId, SocketError> {
        self.sockets.open(Socket::default())
    }

    /// Gives the socket an address, and says what addresses it speaks; port zero asks for an ephemeral one. The stack has seen to
    /// it that the address is ours.
    ///
    /// # Errors
    /// [`SocketError::InvalidInput`] when it has one already, and those of [`Ports::bind`].
    pub(crate) fn bind(
        &mut self,
        cx: &mut Cx,
        id: UdpId,
        addr: SocketAddr,
        domain: Domain,
    ) -> Result<SocketAddr, SocketError> {
        let socket = &mut self.sockets.get_mut(id)?.own;
        if socket.bound.is_some() {
            return Err(SocketError::InvalidInput);
        }
        let addr = self.ports.bind(cx.rng, addr, domain, socket.reuse, id)?;
        socket.domain = domain;
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
        let socket = &self.sockets.get(id)?.own;
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
        self.sockets.get_mut(id)?.own.link = Some(Connected { local, peer });
        Ok(())
    }

    /// Takes a datagram for the port `port`; `hears` says whether a socket is to have one that is for many. The
    /// stack counts what is not delivered; of what nobody is there for, the payload stays.
    pub(crate) fn input(
        &mut self,
        cx: &mut Cx,
        arrived: Arrived,
        port: u16,
        addressing: Addressing,
        hears: impl Fn(UdpId) -> bool,
        payload: &mut Payload,
    ) -> Verdict {
        let dst = SocketAddr::new(arrived.dst, port);
        let verdict = match addressing {
            Addressing::Unicast => match self.find(arrived.src, dst, arrived.on) {
                Some(id) => self.deliver(cx.out, id, std::mem::take(payload), arrived),
                None => Verdict::NoSocket,
            },
            Addressing::Broadcast => self.deliver_all(cx.out, arrived, dst, hears, payload),
        };
        match verdict {
            Verdict::Delivered => self.stats.delivered += 1,
            Verdict::NoSocket => self.stats.no_socket += 1,
            Verdict::Drop(_) => self.stats.buffer_full += 1,
        }
        verdict
    }

    /// Makes a datagram of `len` bytes for `dst`, or for the peer. An unbound socket gets an ephemeral port.
    ///
    /// # Errors
    /// A pending error; [`SocketError::NotConnected`] without a destination;
    /// [`SocketError::InvalidInput`] for port zero, another family, and the broadcast address
    /// without permission; [`SocketError::MessageTooLong`]; [`SocketError::PortsExhausted`].
    pub(crate) fn send(
        &mut self,
        cx: &mut Cx,
        id: UdpId,
        dst: Option<SocketAddr>,
        len: usize,
    ) -> Result<DatagramOut, SocketError> {
        let socket = self.sockets.get_mut(id)?;
        socket.check_send()?;
        let dst = dst.or(socket.own.peer()).ok_or(SocketError::NotConnected)?;
        check_destination(&socket.own, dst)?;
        let max = match dst {
            SocketAddr::V4(_) => MAX_PAYLOAD_4,
            SocketAddr::V6(_) => MAX_PAYLOAD_6,
        };
        if len > max {
            return Err(SocketError::MessageTooLong);
        }
        let bound = self.bound_for(cx, id, dst)?;
        self.stats.sent += 1;
        let socket = self.sockets.get(id)?;
        let local = socket.own.link.map_or(bound, |link| link.local);
        Ok(DatagramOut {
            // One bound to a group hears that alone; nobody can send from it.
            src: Some(local.ip()).filter(|ip| !ip.is_unspecified() && !ip.is_multicast()),
            src_port: local.port(),
            dst,
            ttl: socket.options.ttl,
            tos: socket.options.tos,
            fragmentation: socket.options.fragmentation,
            broadcast: socket.own.broadcast,
            multicast: socket.own.multicast,
            by: socket.own.interface,
        })
    }

    /// An ICMP error came back for a datagram from `local` to `told.peer`. Connected sockets hear of
    /// it; others cannot tell which of their datagrams it was, as on BSD (RFC 1122 section
    /// 4.1.3.3), unless they ask for all of it. That a datagram is too long concerns sockets whose datagrams must not be
    /// cut. Returns how many sockets were told.
    pub(crate) fn on_icmp_error(
        &mut self,
        out: &mut Out,
        local: SocketAddr,
        told: DatagramError,
    ) -> usize {
        let is_too_long = told.error == SocketError::MessageTooLong;
        let concerns = |socket: &Datagrams| {
            !is_too_long || socket.options.fragmentation == Fragmentation::Forbidden
        };
        // Where we say it ourselves, the call that sent the datagram has returned it.
        let is_returned = is_too_long && told.from == local.ip();
        let mut count = 0;
        let connected = self.connected.get(&(end(local), end(told.peer)));
        for id in connected.into_iter().flatten() {
            if let Ok(socket) = self.sockets.get_mut(*id)
                && concerns(socket)
            {
                note_error(socket, &told);
                if !is_returned {
                    socket.fail(out, told.error);
                }
                count += 1;
            }
        }
        for id in self.open.get(&local.port()).into_iter().flatten() {
            if let Ok(socket) = self.sockets.get_mut(*id)
                && socket.own.hears(local.ip())
                && concerns(socket)
                && note_error(socket, &told)
            {
                if !is_returned {
                    socket.fail(out, told.error);
                }
                count += 1;
            }
        }
        count
    }

    /// True when a socket sends from this address: from it alone, or from any.
    pub(crate) fn is_bound(&self, local: SocketAddr) -> bool {
        self.ports.lookup(local).is_some()
    }

    /// Closes the socket, wakes everyone who waits for it, and gives its port back. One that is
    /// gone already stays so.
    pub(crate) fn close(&mut self, out: &mut Out, id: UdpId) {
        self.unlink(id);
        if let Some(socket) = self.sockets.close(out, id)
            && let Some(addr) = socket.bound
        {
            self.ports.release(addr, socket.domain, id);
        }
    }

    /// Closes every socket and gives the memory back.
    pub(crate) fn teardown(&mut self, out: &mut Out) {
        // A new field must be thought about here.
        let Udp {
            sockets,
            ports,
            open,
            connected,
            seed: _,
            stats: _,
        } = self;
        sockets.teardown(out);
        ports.reset();
        open.reset();
        connected.reset();
    }

    /// The counters.
    pub(crate) fn stats(&self) -> UdpStats {
        self.stats
    }

    /// The socket for a unicast datagram: connected to its source, or bound to its destination,
    /// or bound to the port; among several that share an address, the one that came last.
    #[inline]
    fn find(&self, src: SocketAddr, dst: SocketAddr, on: Option<IfId>) -> Option<UdpId> {
        if !self.connected.is_empty()
            && let Some(ids) = self.connected.get(&(end(dst), end(src)))
        {
            return ids.last().copied();
        }
        let ids = self.open.get(&dst.port())?;
        let own = |id: &UdpId| self.sockets.get(*id).ok().map(|s| &s.own);
        let own = |id: &UdpId| own(id).filter(|own| own.is_reached_by(on));
        let bound = |id: &UdpId| own(id)?.bound;
        let exact = |id: &&UdpId| bound(id).is_some_and(|b| b.ip() == dst.ip());
        let any = |id: &&UdpId| own(id).is_some_and(|own| own.hears(dst.ip()));
        let first = ids
            .iter()
            .rev()
            .find(exact)
            .or_else(|| ids.iter().rev().find(any))?;
        match own(first)?.reuse {
            Reuse::Balanced => self.one_of_group(ids, *first, (src, dst), on),
            Reuse::Exclusive | Reuse::Shared => Some(*first),
        }
    }

    /// The one of the group of `first` that gets what goes from `src` to `dst` and has come in by `on`.
    #[cold]
    fn one_of_group(
        &self,
        ids: &Ids,
        first: UdpId,
        (src, dst): (SocketAddr, SocketAddr),
        on: Option<IfId>,
    ) -> Option<UdpId> {
        let own = |id: &UdpId| self.sockets.get(*id).ok().map(|s| &s.own);
        let bound = own(&first)?.bound;
        let is_in = |id: &&UdpId| {
            own(id).is_some_and(|own| {
                own.bound == bound && own.reuse == Reuse::Balanced && own.is_reached_by(on)
            })
        };
        let weight = |id: &&UdpId| {
            let mut h = SipHasher13::new_with_keys(self.seed, id.data().as_ffi());
            (end(src), end(dst)).hash(&mut h);
            h.finish()
        };
        ids.iter().filter(is_in).max_by_key(weight).copied()
    }

    fn deliver(&mut self, out: &mut Out, id: UdpId, data: Payload, arrived: Arrived) -> Verdict {
        let len = data.len();
        self.sockets.push(out, id, (data, arrived), len)
    }

    fn deliver_all(
        &mut self,
        out: &mut Out,
        arrived: Arrived,
        dst: SocketAddr,
        hears: impl Fn(UdpId) -> bool,
        payload: &Payload,
    ) -> Verdict {
        let mut ids = Ids::new();
        if let Some(open) = self.open.get(&dst.port()) {
            ids.extend(open.iter().copied().filter(|id| {
                let socket = self.sockets.get(*id);
                socket.is_ok_and(|socket| {
                    socket.own.hears(dst.ip()) && socket.own.is_reached_by(arrived.on)
                })
            }));
        }
        if let Some(connected) = self.connected.get(&(end(dst), end(arrived.src))) {
            ids.extend(connected.iter().copied());
        }
        ids.retain(|id| hears(*id));
        let mut verdict = Verdict::NoSocket;
        for id in ids {
            let one = self.deliver(out, id, payload.clone(), arrived);
            if verdict != Verdict::Delivered {
                verdict = one;
            }
        }
        verdict
    }

    /// The address the socket is bound to; an unbound one gets an ephemeral port.
    fn bound_for(
        &mut self,
        cx: &mut Cx,
        id: UdpId,
        dst: SocketAddr,
    ) -> Result<SocketAddr, SocketError> {
        match self.sockets.get(id)?.own.bound {
            Some(addr) => Ok(addr),
            None => {
                let any = SocketAddr::new(unspecified(dst), 0);
                self.bind(cx, id, any, Domain::of(dst, true))
            }
        }
    }

    /// Takes the socket out of the index it is in.
    fn unlink(&mut self, id: UdpId) {
        let Ok(socket) = self.sockets.get(id) else {
            return;
        };
        match (socket.own.link, socket.own.bound) {
            (Some(link), _) => {
                remove_from(&mut self.connected, (end(link.local), end(link.peer)), id)
            }
            (None, Some(addr)) => remove_from(&mut self.open, addr.port(), id),
            (None, None) => {}
        }
    }
}

impl Socket {
    /// Its own address; `None` before it has one.
    pub(crate) fn local(&self) -> Option<SocketAddr> {
        self.link.map(|link| link.local).or(self.bound)
    }

    /// True when datagrams for `dst` reach it, unless it is connected.
    fn hears(&self, dst: IpAddr) -> bool {
        self.bound.is_some_and(|bound| {
            bound.ip() == dst || (bound.ip().is_unspecified() && self.domain.speaks(dst))
        })
    }

    /// Whether what comes in by `on` is for it.
    fn is_reached_by(&self, on: Option<IfId>) -> bool {
        self.interface.is_none_or(|only| on == Some(only))
    }

    /// Its peer, when it is connected.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        self.link.map(|link| link.peer)
    }
}

/// Queues an error at a socket that asked for them; false at another.
fn note_error(socket: &mut Datagrams, told: &DatagramError) -> bool {
    let Some(errors) = &mut socket.own.errors else {
        return false;
    };
    if errors.len() < MAX_ERRORS {
        errors.push_back(told.clone());
    }
    true
}

fn check_destination(socket: &Socket, dst: SocketAddr) -> Result<(), SocketError> {
    // An address of its own is of one family, whatever the socket speaks.
    let speaks = |bound: SocketAddr| match bound.ip().is_unspecified() {
        true => socket.domain.speaks(dst.ip()),
        false => bound.is_ipv4() == dst.is_ipv4(),
    };
    let same_family = socket.bound.is_none_or(speaks);
    let broadcast = dst.ip() == IpAddr::V4(Ipv4Addr::BROADCAST);
    if dst.port() == 0 || !same_family {
        return Err(SocketError::InvalidInput);
    }
    match socket.broadcast {
        Broadcast::Forbidden if broadcast => Err(SocketError::BroadcastForbidden),
        _ => Ok(()),
    }
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

#[cfg(test)]
mod tests;

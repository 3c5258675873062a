//! What the socket layer asks that concerns more than one protocol: a route to choose an address
//! by, an address to check, a packet to send.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZero;

use super::limits::Resource;
use super::{Stack, groups, tx, ways};
use crate::base::id::IfId;
use crate::base::time::Instant;
use crate::icmp;
use crate::ip::state::Forwarding;
use crate::ip::v6::select::{self, Source};
use crate::ip::{Outgoing, Way};
use crate::netif::Netif;
use crate::netif::table::MAX_GSO;
use crate::packet::header::{Fragmentation, IpProto, zone};
use crate::packet::{Csum, Cx, Packet, Payload};
use crate::transport::datagrams::Datagrams;
use crate::transport::domain::Domain;
use crate::transport::echo::EchoId;
use crate::transport::edge::{Readiness, Waiters};
use crate::transport::error::SocketError;
use crate::transport::ports::Reuse;
use crate::transport::raw::RawId;
use crate::transport::tcp::{ConnId, ListenerId, Options, Path};
use crate::transport::udp::{DatagramOut, Leaving, UdpId};

/// A socket of any kind within one vnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SocketId {
    /// A TCP connection.
    Tcp(ConnId),
    /// A TCP socket that listens.
    Listener(ListenerId),
    /// A UDP socket.
    Udp(UdpId),
    /// A raw socket.
    Raw(RawId),
    /// An echo socket.
    Echo(EchoId),
}

macro_rules! names {
    ($($kind:ident($id:ty)),*) => {$(
        impl From<$id> for SocketId {
            #[inline]
            fn from(id: $id) -> SocketId {
                SocketId::$kind(id)
            }
        }
    )*};
}
names!(
    Tcp(ConnId),
    Listener(ListenerId),
    Udp(UdpId),
    Raw(RawId),
    Echo(EchoId)
);

/// What every kind of socket can do, said once: the kinds differ in where the answer is.
impl Stack {
    /// Lets go of a socket and wakes everyone who waits for it.
    #[inline]
    pub(crate) fn close(&mut self, cx: &mut Cx, id: SocketId) {
        match id {
            SocketId::Tcp(id) => self.tcp.close(cx, id),
            SocketId::Listener(id) => self.tcp.close_listener(cx, id),
            SocketId::Udp(id) => {
                self.udp_leave_all(id);
                self.datagrams.udp.close(cx.out, id);
            }
            SocketId::Raw(id) => self.datagrams.raw.close(cx.out, id),
            SocketId::Echo(id) => self.datagrams.echo.close(cx.out, id),
        }
    }

    /// What can be done with a socket without waiting.
    ///
    /// # Errors
    /// [`SocketError::Gone`].
    pub(crate) fn readiness(&self, id: SocketId) -> Result<Readiness, SocketError> {
        match id {
            SocketId::Tcp(id) => self.tcp.readiness(id),
            SocketId::Listener(id) => self.tcp.listener_readiness(id),
            SocketId::Udp(id) => Ok(self.datagrams.udp.sockets.get(id)?.readiness()),
            SocketId::Raw(id) => Ok(self.datagrams.raw.sockets.get(id)?.readiness()),
            SocketId::Echo(id) => Ok(self.datagrams.echo.sockets.get(id)?.readiness()),
        }
    }

    /// Who waits for a socket.
    ///
    /// # Errors
    /// [`SocketError::Gone`].
    #[inline]
    pub(crate) fn waiters(&mut self, id: SocketId) -> Result<&mut Waiters, SocketError> {
        match id {
            SocketId::Tcp(id) => self.tcp.waiters(id),
            SocketId::Listener(id) => self.tcp.listener_waiters(id),
            SocketId::Udp(id) => Ok(&mut self.datagrams.udp.sockets.get_mut(id)?.waiters),
            SocketId::Raw(id) => Ok(&mut self.datagrams.raw.sockets.get_mut(id)?.waiters),
            SocketId::Echo(id) => Ok(&mut self.datagrams.echo.sockets.get_mut(id)?.waiters),
        }
    }

    /// The error that waits to be reported, which is thereby taken (`SO_ERROR`). A listener has none.
    ///
    /// # Errors
    /// [`SocketError::Gone`].
    pub(crate) fn take_error(&mut self, id: SocketId) -> Result<Option<SocketError>, SocketError> {
        match id {
            SocketId::Tcp(id) => self.tcp.take_error(id),
            SocketId::Listener(_) => Ok(None),
            SocketId::Udp(id) => Ok(self.datagrams.udp.sockets.get_mut(id)?.take_error()),
            SocketId::Raw(id) => Ok(self.datagrams.raw.sockets.get_mut(id)?.take_error()),
            SocketId::Echo(id) => Ok(self.datagrams.echo.sockets.get_mut(id)?.take_error()),
        }
    }

    /// The time to live of a socket's packets, to be read or changed. Zero stands for the vnet's
    /// default.
    ///
    /// # Errors
    /// [`SocketError::Gone`].
    pub(crate) fn ttl(&mut self, id: SocketId) -> Result<&mut u8, SocketError> {
        match id {
            SocketId::Tcp(id) => self.tcp.ttl(id),
            SocketId::Listener(id) => self.tcp.listener_ttl(id),
            SocketId::Udp(id) => Ok(&mut self.datagrams.udp.sockets.get_mut(id)?.options.ttl),
            SocketId::Raw(id) => Ok(&mut self.datagrams.raw.sockets.get_mut(id)?.options.ttl),
            SocketId::Echo(id) => Ok(&mut self.datagrams.echo.sockets.get_mut(id)?.options.ttl),
        }
    }

    /// Whether the packets of a socket may be cut, to be read or changed.
    ///
    /// # Errors
    /// [`SocketError::InvalidInput`] for TCP, which makes its segments as long as the path takes; [`SocketError::Gone`].
    pub(crate) fn fragmentation(
        &mut self,
        id: SocketId,
    ) -> Result<&mut Fragmentation, SocketError> {
        let options = match id {
            SocketId::Udp(id) => &mut self.datagrams.udp.sockets.get_mut(id)?.options,
            SocketId::Raw(id) => &mut self.datagrams.raw.sockets.get_mut(id)?.options,
            SocketId::Echo(id) => &mut self.datagrams.echo.sockets.get_mut(id)?.options,
            SocketId::Tcp(_) | SocketId::Listener(_) => return Err(SocketError::InvalidInput),
        };
        Ok(&mut options.fragmentation)
    }

    /// The interface that a socket is bound to, to be read or changed.
    ///
    /// # Errors
    /// [`SocketError::InvalidInput`] for raw and echo sockets; [`SocketError::Gone`].
    pub(crate) fn interface_bound(
        &mut self,
        id: SocketId,
    ) -> Result<&mut Option<IfId>, SocketError> {
        match id {
            SocketId::Tcp(id) => self.tcp.interface(id),
            SocketId::Listener(id) => self.tcp.listener_interface(id),
            SocketId::Udp(id) => Ok(&mut self.datagrams.udp.sockets.get_mut(id)?.own.interface),
            SocketId::Raw(_) | SocketId::Echo(_) => Err(SocketError::InvalidInput),
        }
    }

    /// True when some raw socket listens to packets that carry this.
    #[inline]
    pub(super) fn listens_raw(&self, proto: IpProto) -> bool {
        let datagrams = self.datagrams.used();
        datagrams.is_some_and(|d| d.raw.listens_to(proto.0))
    }

    /// Sockets that are not TCP's.
    pub(super) fn datagram_sockets(&self) -> usize {
        self.datagrams.used().map_or(0, Datagrams::len)
    }
}

/// What one kind does with the help of other layers.
impl Stack {
    /// Host or router.
    pub(crate) fn set_forwarding(&mut self, forwarding: Forwarding) {
        let was = self.ip.v6().tunables.forwarding;
        self.ip.set_forwarding(forwarding);
        self.role_changed(was);
    }

    /// Starts a TCP connection to `remote`, from `local`. What that leaves open, the address or the port, is chosen.
    ///
    /// # Errors
    /// A destination that is none, no route, an address that is not the vnet's or that is taken, no port left.
    pub(crate) fn tcp_connect(
        &mut self,
        cx: &mut Cx,
        local: Option<SocketAddr>,
        remote: SocketAddr,
        reuse: Reuse,
        options: Option<Options>,
    ) -> Result<ConnId, SocketError> {
        self.admit_socket()?;
        self.admit(Resource::BufferedBytes)?;
        let options = match options {
            Some(options) => options,
            None => Options::new(self.tcp.config(), self.domain(remote, None)),
        };
        let domain = options.domain;
        let dst = self.destination(domain, remote)?;
        if remote.port() == 0 || self.ip.is_broadcast(dst) || dst.is_multicast() {
            return Err(SocketError::InvalidInput);
        }
        let bound = local.map(|local| self.check_local(domain, local));
        let bound = bound.transpose()?;
        let (ip, port) = bound.map_or((None, 0), |local| (Some(local.ip()), local.port()));
        let by = options.interface;
        let ip = match ip.filter(|ip| !ip.is_unspecified()) {
            Some(ip) => ip,
            None => ways::source_by(self, dst, by)?,
        };
        let local = SocketAddr::new(ip, port);
        let path = self.path_by(cx.now, dst, by)?;
        let remote = SocketAddr::new(dst, remote.port());
        self.tcp.connect(cx, local, remote, path, options, reuse)
    }

    /// Starts a TCP connection to `remote`, of a socket that is bound. If that fails, it stays bound.
    ///
    /// # Errors
    /// As [`Stack::tcp_connect`]; [`SocketError::InvalidInput`] when it listens.
    pub(crate) fn tcp_connect_bound(
        &mut self,
        cx: &mut Cx,
        id: ListenerId,
        remote: SocketAddr,
    ) -> Result<ConnId, SocketError> {
        self.admit(Resource::BufferedBytes)?;
        let (local, options, _) = self.tcp.bound(id)?;
        let dst = self.destination(options.domain, remote)?;
        if remote.port() == 0 || self.ip.is_broadcast(dst) || dst.is_multicast() {
            return Err(SocketError::InvalidInput);
        }
        let by = options.interface;
        let from = match local.ip().is_unspecified() {
            true => ways::source_by(self, dst, by)?,
            false => local.ip(),
        };
        let path = self.path_by(cx.now, dst, by)?;
        let remote = SocketAddr::new(dst, remote.port());
        self.tcp.connect_bound(cx, id, from, remote, path)
    }

    /// The options of a new TCP socket that is made for addresses of `domain`.
    pub(crate) fn tcp_options(&self, domain: Domain) -> Options {
        Options::new(self.tcp.config(), domain)
    }

    /// Binds a TCP socket to `local`, with these options.
    ///
    /// # Errors
    /// An address that is not the vnet's, or a port that is taken.
    pub(crate) fn tcp_bind(
        &mut self,
        cx: &mut Cx,
        local: SocketAddr,
        options: Options,
        reuse: Reuse,
    ) -> Result<(ListenerId, SocketAddr), SocketError> {
        let local = self.check_local(options.domain, local)?;
        self.admit_socket()?;
        self.tcp.bind(cx, local, options, reuse)
    }

    /// Puts destinations in the order in which they are tried (RFC 6724 section 6).
    pub(crate) fn order_destinations(&mut self, all: &mut [IpAddr]) {
        let policy = self.ip.policy.clone();
        all.sort_by_cached_key(|dst| select::preference(&policy, *dst, self.source_to(*dst)));
    }

    /// From where a connection to `dst` would come: `None` where there is no route, or no address to come from.
    fn source_to(&mut self, dst: IpAddr) -> Option<Source> {
        let way = ways::way(self, dst).ok()?;
        let addr = self.ip.source_for(dst, &way)?;
        Some(self.ip.source(addr))
    }

    /// The largest packet to `dst` that the path of a socket is known to take, IP header included.
    ///
    /// # Errors
    /// No route; [`SocketError::Gone`].
    pub(crate) fn path_mtu_from(
        &mut self,
        now: Instant,
        id: SocketId,
        dst: IpAddr,
    ) -> Result<u32, SocketError> {
        let by = match id {
            SocketId::Udp(id) => self.datagrams.udp.sockets.get(id)?.own.interface,
            _ => None,
        };
        let dst = self.on_a_link(dst);
        Ok(self.path_by(now, dst, by)?.ip_mtu)
    }

    /// What a path to `dst` can carry, as far as this vnet knows.
    ///
    /// # Errors
    /// No route.
    pub(crate) fn path_to(&mut self, now: Instant, dst: IpAddr) -> Result<Path, SocketError> {
        let way = self.ip.lookup(dst).map_err(ways::no_way)?;
        self.path_of(now, dst, way)
    }

    /// The same by one interface, if one is named.
    fn path_by(
        &mut self,
        now: Instant,
        dst: IpAddr,
        by: Option<IfId>,
    ) -> Result<Path, SocketError> {
        match by {
            None => self.path_to(now, dst),
            Some(_) => {
                let way = ways::way_by(self, dst, by).map_err(ways::no_way)?;
                self.path_of(now, dst, way)
            }
        }
    }

    fn path_of(&mut self, now: Instant, dst: IpAddr, way: Way) -> Result<Path, SocketError> {
        let netif = self.ifs.get(way.ifid);
        let netif = netif.ok_or(SocketError::NetworkUnreachable)?;
        Ok(Path {
            ip_mtu: self.ip.path_mtu(now, dst, netif.mtu_to(dst).into()),
            gso_max: MAX_GSO,
        })
    }

    /// Listens on `local`.
    ///
    /// # Errors
    /// An address that is not the vnet's, or a port that is taken.
    pub(crate) fn tcp_listen(
        &mut self,
        cx: &mut Cx,
        local: SocketAddr,
        domain: Domain,
        backlog: usize,
        reuse: Reuse,
    ) -> Result<(ListenerId, SocketAddr), SocketError> {
        let local = self.check_local(domain, local)?;
        self.admit_socket()?;
        let options = Options::new(self.tcp.config(), domain);
        self.tcp.listen(cx, local, backlog, options, reuse)
    }

    /// Makes a UDP socket bound to `local`.
    ///
    /// # Errors
    /// An address that is not the vnet's, or a port that is taken.
    pub(crate) fn udp_bind(
        &mut self,
        cx: &mut Cx,
        local: SocketAddr,
        domain: Domain,
        reuse: Reuse,
    ) -> Result<UdpId, SocketError> {
        let local = self.check_local(domain, local)?;
        self.admit_socket()?;
        let id = self.datagrams.udp.open()?;
        self.datagrams.udp.sockets.get_mut(id)?.own.reuse = reuse;
        match self.datagrams.udp.bind(cx, id, local, domain) {
            Ok(_) => Ok(id),
            Err(e) => {
                self.datagrams.udp.close(cx.out, id);
                Err(e)
            }
        }
    }

    /// Sets the peer of a UDP socket.
    ///
    /// # Errors
    /// No route there.
    pub(crate) fn udp_connect(
        &mut self,
        cx: &mut Cx,
        id: UdpId,
        domain: Domain,
        peer: SocketAddr,
    ) -> Result<(), SocketError> {
        let dst = self.destination(domain, peer)?;
        let src = ways::source_for(self, dst)?;
        let peer = SocketAddr::new(dst, peer.port());
        self.datagrams.udp.connect(cx, id, peer, src)
    }

    /// Sends a datagram.
    ///
    /// # Errors
    /// What the socket says, and no route.
    pub(crate) fn udp_send(
        &mut self,
        cx: &mut Cx,
        id: UdpId,
        domain: Domain,
        to: Option<SocketAddr>,
        payload: Payload,
        said: &Leaving,
    ) -> Result<(), SocketError> {
        let to = match to {
            Some(to) => Some(SocketAddr::new(self.destination(domain, to)?, to.port())),
            None => None,
        };
        let mut out = self.datagrams.udp.send(cx, id, to, payload.len())?;
        if *said != Leaving::default() {
            self.say(&mut out, said)?;
        }
        out.multicast.interface = out.by.or(out.multicast.interface);
        match out.dst.ip().is_multicast() {
            true => groups::datagram(self, cx, &out, payload),
            false => tx::datagram(self, cx, &out, payload),
        }
    }

    /// Has a datagram leave as was said of it alone.
    #[cold]
    fn say(&self, out: &mut DatagramOut, said: &Leaving) -> Result<(), SocketError> {
        if let Some(src) = said.src {
            let ours = self.ip.contains(src) || (src.is_ipv4() && src.is_loopback());
            if !ours {
                return Err(SocketError::AddrNotAvailable);
            }
            out.src = Some(src);
        }
        if let Some(ttl) = said.ttl {
            // To a group, it means that the datagram stays in the vnet; to a host, it would not even leave.
            if ttl == 0 && !out.dst.ip().is_multicast() {
                return Err(SocketError::InvalidInput);
            }
            (out.ttl, out.multicast.ttl, out.multicast.hops) = (ttl, ttl, ttl);
        }
        out.tos = said.tos.unwrap_or(out.tos);
        out.by = said.by.or(out.by);
        Ok(())
    }

    /// Makes a socket for echo requests.
    ///
    /// # Errors
    /// The limit on sockets.
    pub(crate) fn echo_open(&mut self, cx: &mut Cx) -> Result<EchoId, SocketError> {
        self.admit_socket()?;
        self.datagrams.echo.open(cx)
    }

    /// Makes a raw socket for IP protocol `proto`.
    ///
    /// # Errors
    /// The limit on sockets.
    pub(crate) fn raw_open(&mut self, proto: u8) -> Result<RawId, SocketError> {
        self.admit_socket()?;
        self.datagrams.raw.open(proto)
    }

    /// Sends an echo request.
    ///
    /// # Errors
    /// What the socket says, and no route.
    pub(crate) fn echo_send(
        &mut self,
        cx: &mut Cx,
        id: EchoId,
        dst: IpAddr,
        seq: u16,
        payload: Payload,
    ) -> Result<(), SocketError> {
        let out = self.datagrams.echo.send(id, seq, payload)?;
        let dst = self.on_a_link(dst);
        let (proto, request) = icmp::echo_request(dst, out.ident, out.seq, out.payload);
        let to = Outgoing {
            hop_limit: NonZero::new(out.ttl).map(NonZero::get),
            traffic_class: out.tos,
            fragmentation: out.fragmentation,
            ..Outgoing::new(ways::source_for(self, dst)?, dst, proto)
        };
        tx::output(self, cx, &to, request)
    }

    /// Sends a packet of a raw socket.
    ///
    /// # Errors
    /// What the socket says, and no route.
    pub(crate) fn raw_send(
        &mut self,
        cx: &mut Cx,
        id: RawId,
        dst: IpAddr,
        payload: Payload,
    ) -> Result<(), SocketError> {
        let out = self.datagrams.raw.send(id, payload)?;
        let dst = self.on_a_link(dst);
        let to = Outgoing {
            hop_limit: NonZero::new(out.ttl).map(NonZero::get),
            traffic_class: out.tos,
            fragmentation: out.fragmentation,
            ..Outgoing::new(ways::source_for(self, dst)?, dst, IpProto(out.proto))
        };
        let mut packet = Packet::outgoing(out.payload);
        packet.meta.csum = match to.proto {
            // RFC 3542 section 3.1: it covers addresses that only the stack knows.
            IpProto::ICMPV6 if dst.is_ipv6() => icmp::v6::PARTIAL,
            _ => Csum::Verified,
        };
        packet.meta.bridges.mark_foreign();
        tx::output(self, cx, &to, packet)
    }

    /// What addresses a socket speaks that is made for `addr`, where its program says whether it is for IPv6 alone, or
    /// leaves that to the vnet.
    pub(crate) fn domain(&self, addr: SocketAddr, only_v6: Option<bool>) -> Domain {
        Domain::of(addr, only_v6.unwrap_or(self.only_v6.is_on()))
    }

    /// An address to bind to: one of ours, or unspecified.
    fn check_local(&self, domain: Domain, local: SocketAddr) -> Result<SocketAddr, SocketError> {
        let ip = domain.inside(local).map_err(|error| match error {
            SocketError::NetworkUnreachable => SocketError::AddrNotAvailable,
            error => error,
        })?;
        let ours = ip.is_unspecified()
            || ip.is_ipv4() && ip.is_loopback()
            || ip.is_multicast()
            || self.ip.contains(ip)
            || self.ip.is_broadcast(ip);
        match ours {
            true => Ok(SocketAddr::new(ip, local.port())),
            false => Err(SocketError::AddrNotAvailable),
        }
    }

    /// An address that a program gave without a scope. If it needs one, the only interface that speaks
    /// IPv6 on a wire is meant; where there are several, there is no way to it.
    fn on_a_link(&self, dst: IpAddr) -> IpAddr {
        let IpAddr::V6(addr) = dst else { return dst };
        if !zone::is_scoped(addr) {
            return dst;
        }
        let speaks = |i: &&Netif| i.can().needs_neighbours && self.ip.speaks_v6(i.id);
        let mut speaking = self.ifs.iter().filter(speaks);
        match (speaking.next(), speaking.next()) {
            (Some(only), None) => match zone::number(only.id) {
                Some(number) => zone::bind(addr, number).into(),
                None => dst,
            },
            _ => dst,
        }
    }

    /// Where to send for `addr`: "this host" is the loopback address, as BSD has it.
    fn destination(&self, domain: Domain, addr: SocketAddr) -> Result<IpAddr, SocketError> {
        match domain.inside(addr)? {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ok(Ipv4Addr::LOCALHOST.into()),
            IpAddr::V4(ip) => Ok(ip.into()),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ok(Ipv6Addr::LOCALHOST.into()),
            IpAddr::V6(ip) if zone::split(ip).1 == 0 => Ok(self.on_a_link(ip.into())),
            IpAddr::V6(ip) => Ok(ip.into()),
        }
    }
}

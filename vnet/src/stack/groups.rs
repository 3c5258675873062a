//! Groups at the sockets of one stack: who joins, and which sockets hear what is sent to a group.
//!
//! The table of groups is in [`ip::multicast`](crate::ip::multicast), once for both families; what routers are told of
//! them is in [`listening`](super::listening).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use slotmap::Key;

use super::{Stack, tx, ways};
use crate::base::id::IfId;
use crate::ip::addr::Ours;
use crate::ip::family::{Family, V4, V6};
use crate::ip::fib::Origin;
use crate::ip::multicast::filter::Mode;
use crate::ip::multicast::{Filter, GroupError, Groups, Listener};
use crate::ip::state::Forwarding;
use crate::ip::{Ip, NoWay, Outgoing, Way};
use crate::netif::Netif;
use crate::packet::header::{IpProto, zone};
use crate::packet::{Cx, Payload};
use crate::transport::error::SocketError;
use crate::transport::udp::{Addressing, Arrived, DatagramOut, UdpId};

/// What a socket does about a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Membership {
    /// It wants to hear everybody.
    Join,
    /// It wants to hear nobody any more.
    Leave,
    /// It wants to hear this source, and others that it has named.
    JoinSource(IpAddr),
    /// It wants to hear this source no more.
    LeaveSource(IpAddr),
}

/// Where a program says which interface it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum On {
    /// The one with this address; the one that routes say when it is unspecified.
    Address(Ipv4Addr),
    /// The one with this number; the one that routes say when it is zero.
    Number(u32),
}

impl From<GroupError> for SocketError {
    fn from(error: GroupError) -> SocketError {
        match error {
            GroupError::Sources => SocketError::Limit("sources of a group"),
            GroupError::Groups => SocketError::Limit("groups"),
        }
    }
}

/// A socket among those who listen.
fn listener(id: UdpId) -> Listener {
    Listener(id.data().as_ffi())
}

impl Stack {
    /// Changes what a socket wants to hear of a group.
    ///
    /// # Errors
    /// [`SocketError::InvalidInput`] for what is no group, or a source of another family, or where sources are named of a
    /// group that is joined as a whole or the other way round; [`SocketError::AddrInUse`] for what is joined already;
    /// [`SocketError::AddrNotAvailable`] for what is not joined, and an interface that is not there;
    /// [`SocketError::Limit`].
    pub(crate) fn udp_membership(
        &mut self,
        id: UdpId,
        group: IpAddr,
        on: On,
        change: Membership,
    ) -> Result<(), SocketError> {
        let socket = self.datagrams.udp.sockets.get(id)?;
        if !group.is_multicast() || !socket.own.domain.speaks(group) {
            return Err(SocketError::InvalidInput);
        }
        let ifid = match (on, change) {
            (
                On::Address(Ipv4Addr::UNSPECIFIED) | On::Number(0),
                Membership::Leave | Membership::LeaveSource(_),
            ) => self.joined_interface(id, group)?,
            _ => self.group_interface(group, on)?,
        };
        match (group, change) {
            (IpAddr::V4(group), change) => {
                change_membership(&mut self.ip.v4.groups, group, ifid, id, change, |source| {
                    match source {
                        IpAddr::V4(source) => Some(source),
                        IpAddr::V6(_) => None,
                    }
                })?;
            }
            (IpAddr::V6(group), change) => {
                let group = zone::wire(group);
                change_membership(
                    &mut self.ip.v6_mut().groups,
                    group,
                    ifid,
                    id,
                    change,
                    |source| match source {
                        IpAddr::V4(_) => None,
                        IpAddr::V6(source) => Some(zone::wire(source)),
                    },
                )?;
            }
        }
        self.datagrams
            .udp
            .sockets
            .get_mut(id)?
            .own
            .multicast
            .is_member = true;
        self.ip.note_deadlines();
        Ok(())
    }

    /// A socket goes away, and leaves its groups.
    pub(crate) fn udp_leave_all(&mut self, id: UdpId) {
        let socket = self.datagrams.udp.sockets.get(id);
        if socket.is_ok_and(|socket| socket.own.multicast.is_member) {
            self.ip.v4.groups.remove_listener(listener(id));
            if let Some(v6) = self.ip.v6_made() {
                v6.groups.remove_listener(listener(id));
            }
            self.ip.note_deadlines();
        }
    }

    /// The interface of this number; `None` for zero.
    ///
    /// # Errors
    /// [`SocketError::AddrNotAvailable`].
    pub(crate) fn interface_of(&self, number: u32) -> Result<Option<IfId>, SocketError> {
        if number == 0 {
            return Ok(None);
        }
        let is_it = |i: &&Netif| zone::number(i.id).map(u32::from) == Some(number);
        let netif = self.ifs.iter().find(is_it);
        netif
            .map(|i| Some(i.id))
            .ok_or(SocketError::AddrNotAvailable)
    }

    fn group_interface(&mut self, group: IpAddr, on: On) -> Result<IfId, SocketError> {
        let said = match on {
            On::Address(Ipv4Addr::UNSPECIFIED) => None,
            On::Address(addr) => match self.ip.v4.addrs.find(addr) {
                Some(Ours::Address(ifid)) => Some(ifid),
                Some(Ours::Broadcast(_) | Ours::Anycast(_)) | None => {
                    return Err(SocketError::AddrNotAvailable);
                }
            },
            On::Number(number) => self.interface_of(number)?,
        };
        match said {
            Some(ifid) => Ok(ifid),
            None => {
                let way = self.default_way(group).map_err(ways::no_way)?;
                Ok(way.ifid)
            }
        }
    }

    /// The interface on which a socket is in a group, for one that leaves it and names none: that of the route, if it
    /// is there, or else the first one.
    fn joined_interface(&mut self, id: UdpId, group: IpAddr) -> Result<IfId, SocketError> {
        let routed = self.default_way(group).ok().map(|way| way.ifid);
        let mut on = match group {
            IpAddr::V4(group) => joined_on(&self.ip.v4.groups, id, group),
            IpAddr::V6(group) => joined_on(&self.ip.v6().groups, id, zone::wire(group)),
        };
        on.sort_by_key(|ifid| Some(*ifid) != routed);
        on.first().copied().ok_or(SocketError::AddrNotAvailable)
    }

    /// The way to a group of which no interface is named: that of the route, or else by the first interface with a wire
    /// and an address of its family.
    fn default_way(&mut self, group: IpAddr) -> Result<Way, NoWay> {
        let why = match self.ip.lookup(group) {
            Ok(way) => return Ok(way),
            Err(NoWay::NoRoute) => NoWay::NoRoute,
            // A route that leads nowhere does so for groups as well.
            Err(why) => return Err(why),
        };
        let speaks = |i: &&Netif| {
            let has_address = match group {
                IpAddr::V4(_) => self.ip.v4.addrs.on_interface(i.id).next().is_some(),
                IpAddr::V6(_) => self.ip.speaks_v6(i.id),
            };
            has_address && i.can().needs_neighbours && i.is_running()
        };
        let first = self.ifs.iter().find(speaks).map(|i| i.id);
        Ok(straight(group, first.ok_or(why)?))
    }

    /// The groups that are joined on an interface, but for those that the vnet is in because of what it is.
    pub(crate) fn joined_groups(&self, ifid: IfId) -> Vec<IpAddr> {
        let v4 = self.ip.v4.groups.chosen_on(ifid).map(IpAddr::from);
        let v6 = self.ip.v6().groups.chosen_on(ifid).map(IpAddr::from);
        v4.chain(v6).collect()
    }

    /// A router is in the groups of routers (RFC 4291 section 2.8, RFC 1812 section 4.3.3.10), and nobody else is.
    pub(super) fn joins_routers(&mut self, ifid: IfId) {
        if self.ip.v4.tunables.forwarding == Forwarding::Enabled {
            self.ip.v4.groups.join(V4::ALL_ROUTERS, ifid);
            self.ip.v6_mut().groups.join(V6::ALL_ROUTERS, ifid);
        }
    }

    /// This is a router no more.
    pub(super) fn leaves_routers(&mut self, ifid: IfId) {
        self.ip.v4.groups.leave(V4::ALL_ROUTERS, ifid);
        if let Some(v6) = self.ip.v6_made() {
            v6.groups.leave(V6::ALL_ROUTERS, ifid);
        }
    }

    /// An interface runs again: routers there are told of all its groups.
    pub(super) fn groups_again(&mut self, ifid: IfId) {
        self.ip.v4.groups.tell_again(ifid);
        if let Some(v6) = self.ip.v6_made() {
            v6.groups.tell_again(ifid);
        }
        self.ip.note_deadlines();
    }
}

/// True when a socket wants to hear what `src` sends to a group on an interface. Everybody is in that of all nodes.
#[inline(never)]
pub(super) fn hears(ip: &Ip, id: UdpId, on: IfId, group: IpAddr, src: IpAddr) -> bool {
    match (group, src) {
        (IpAddr::V4(group), IpAddr::V4(src)) => {
            let filter = ip.v4.groups.filter(group, on, listener(id));
            group == V4::ALL_NODES || filter.is_some_and(|filter| filter.passes(src))
        }
        (IpAddr::V6(group), IpAddr::V6(src)) => {
            let group = zone::wire(group);
            let filter = ip.v6().groups.filter(group, on, listener(id));
            // What is named has, as groups have, no number of a link.
            group == V6::ALL_NODES || filter.is_some_and(|filter| filter.passes(zone::wire(src)))
        }
        _ => false,
    }
}

/// Sends a datagram to a group. Sockets of this vnet that hear it get it at once, whatever becomes of it on the wire.
///
/// # Errors
/// No way; too long.
#[inline(never)]
pub(super) fn datagram(
    s: &mut Stack,
    cx: &mut Cx,
    out: &DatagramOut,
    mut payload: Payload,
) -> Result<(), SocketError> {
    let group = out.dst.ip();
    let said = out.multicast;
    let (hops, loops) = match group {
        IpAddr::V4(_) => (said.ttl, said.loop_v4),
        IpAddr::V6(_) => (said.hops, said.loop_v6),
    };
    let way = match (said.interface, group) {
        (_, IpAddr::V6(group)) if zone::split(group).1 != 0 => ways::way(s, group.into()),
        (None, _) => s.default_way(group),
        (Some(ifid), _) => match s.ifs.get(ifid).is_some_and(Netif::is_running) {
            true => Ok(straight(group, ifid)),
            false => Err(NoWay::NoRoute),
        },
    };
    let way = way.map_err(|why| {
        cx.stats.drop_tx(why.reason());
        ways::no_way(why)
    })?;
    let dst = s.addr_on_link(way.ifid, group);
    let src = match out.src {
        Some(src) => src,
        None => {
            let src = s.ip.source_for(dst, &way);
            src.ok_or(SocketError::AddrNotAvailable)?
        }
    };
    let packet = tx::udp_packet(payload.clone(), out.src_port, out.dst.port())?;
    // A time to live of zero is for this host.
    if hops > 0 {
        let to = Outgoing {
            hop_limit: Some(hops),
            traffic_class: out.tos,
            fragmentation: out.fragmentation,
            ..Outgoing::new(src, dst, IpProto::UDP)
        };
        tx::output_by(s, cx, &to, packet, way)?;
    }
    let is_heard = match zone::wire_ip(dst) {
        IpAddr::V4(group) => s.ip.v4.groups.is_member(group, way.ifid),
        IpAddr::V6(group) => s.ip.v6().groups.is_member(group, way.ifid),
    };
    // What was sent by the loopback interface comes in by it.
    let is_back = hops > 0
        && s.ifs
            .get(way.ifid)
            .is_some_and(|i| !i.can().needs_neighbours);
    if loops.is_on() && is_heard && !is_back {
        let ip = &s.ip;
        let hears = |id| hears(ip, id, way.ifid, dst, src);
        let arrived = Arrived {
            src: SocketAddr::new(src, out.src_port),
            dst,
            on: Some(way.ifid),
            ttl: hops,
            tos: out.tos,
        };
        s.datagrams.udp.input(
            cx,
            arrived,
            out.dst.port(),
            Addressing::Broadcast,
            hears,
            &mut payload,
        );
    }
    Ok(())
}

/// A group on the link of an interface.
fn straight(group: IpAddr, ifid: IfId) -> Way {
    Way {
        ifid,
        hop: group,
        origin: Origin::Connected,
    }
}

/// The interfaces on which a socket is in a group.
fn joined_on<F: Family>(groups: &Groups<F>, id: UdpId, group: F::Addr) -> Vec<IfId> {
    let all = groups.of_listener(listener(id)).into_iter();
    all.filter(|(joined, _)| *joined == group)
        .map(|(_, ifid)| ifid)
        .collect()
}

fn change_membership<F: Family>(
    groups: &mut Groups<F>,
    group: F::Addr,
    ifid: IfId,
    id: UdpId,
    change: Membership,
    of_family: impl Fn(IpAddr) -> Option<F::Addr>,
) -> Result<(), SocketError> {
    let before = groups.filter(group, ifid, listener(id)).cloned();
    let mut filter = before.unwrap_or_else(Filter::none);
    let source = |source| of_family(source).ok_or(SocketError::InvalidInput);
    match (change, filter.mode) {
        (Membership::Join, Mode::Exclude) => return Err(SocketError::AddrInUse),
        (Membership::Join, Mode::Include) if filter.is_none() => filter = Filter::any(),
        (Membership::Join, Mode::Include) => return Err(SocketError::InvalidInput),
        (Membership::Leave, _) if filter.is_none() => return Err(SocketError::AddrNotAvailable),
        (Membership::Leave, _) => filter = Filter::none(),
        (Membership::JoinSource(_) | Membership::LeaveSource(_), Mode::Exclude) => {
            return Err(SocketError::InvalidInput);
        }
        (Membership::JoinSource(one), Mode::Include) => {
            if !filter.sources.insert(source(one)?) {
                return Err(SocketError::AddrInUse);
            }
        }
        (Membership::LeaveSource(one), Mode::Include) => {
            if !filter.sources.remove(&source(one)?) {
                return Err(SocketError::AddrNotAvailable);
            }
        }
    }
    groups.listen(group, ifid, listener(id), filter)?;
    Ok(())
}

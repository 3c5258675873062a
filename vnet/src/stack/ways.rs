//! Ways of packets of ours: which interface, which next hop, and from which address.

use std::net::{IpAddr, Ipv4Addr};

use super::Stack;
use crate::base::id::IfId;
use crate::base::time::Duration;
use crate::ip::fib::Origin;
use crate::ip::{NoWay, Outgoing, Way};
use crate::netif::Netif;
use crate::packet::header::zone;
use crate::transport::error::SocketError;

/// The address of ours to send from to `dst`.
pub(super) fn source_for(s: &mut Stack, dst: IpAddr) -> Result<IpAddr, SocketError> {
    let way = way(s, dst).map_err(no_way)?;
    let src = s.ip.source_for(dst, &way);
    src.ok_or(SocketError::AddrNotAvailable)
}

/// The address of ours to send from to `dst` by one interface, if one is named.
pub(super) fn source_by(
    s: &mut Stack,
    dst: IpAddr,
    by: Option<IfId>,
) -> Result<IpAddr, SocketError> {
    let way = way_by(s, dst, by).map_err(no_way)?;
    let src = s.ip.source_for(dst, &way);
    src.ok_or(SocketError::AddrNotAvailable)
}

/// What a local sender is told of a destination to which there is no way: the errors of Linux's route
/// types.
pub(super) fn no_way(why: NoWay) -> SocketError {
    match why {
        NoWay::NoRoute => SocketError::NetworkUnreachable,
        NoWay::Blackhole => SocketError::Blackhole,
        NoWay::Unreachable => SocketError::HostUnreachable,
        NoWay::Prohibited => SocketError::Prohibited,
    }
}

/// A way to ourselves: of a packet from an address of one link to one of none, it is the source that says of
/// which link the packet is.
pub(super) fn to_ourselves(way: Way, to: &Outgoing) -> Way {
    let is_scoped = |addr| matches!(addr, IpAddr::V6(addr) if zone::is_scoped(addr));
    match is_scoped(to.src) && !is_scoped(to.dst) {
        true => Way { hop: to.src, ..way },
        false => way,
    }
}

/// The way to `dst`. Broadcasts to everyone leave by the first interface that has a wire, and is not one
/// of a lagg's.
pub(super) fn way(s: &mut Stack, dst: IpAddr) -> Result<Way, NoWay> {
    if dst != Ipv4Addr::BROADCAST {
        let found = s.ip.quietly().lookup(dst);
        return found.or_else(|why| group_way(s, dst, why));
    }
    let netif = s
        .ifs
        .iter()
        .find(|i| i.can().needs_neighbours && i.is_running() && i.on_lagg().is_none())
        .ok_or(NoWay::NoRoute)?;
    Ok(Way {
        ifid: netif.id,
        hop: dst,
        origin: Origin::Connected,
    })
}

/// The way to `dst` by one interface, if one is named: by the longest route that leads there by it, or as if it were on
/// its link, as on Linux.
pub(super) fn way_by(s: &mut Stack, dst: IpAddr, by: Option<IfId>) -> Result<Way, NoWay> {
    let way = way(s, dst);
    let Some(by) = by else {
        return way;
    };
    match way {
        // What is for ourselves leaves by no other interface than it does.
        Ok(way) if way.ifid == by || way.origin == Origin::Host => return Ok(way),
        // What is to go nowhere goes nowhere by any interface.
        Err(why) if why != NoWay::NoRoute => return Err(why),
        _ => {}
    }
    if !s.ifs.get(by).is_some_and(Netif::is_running) {
        return Err(NoWay::NoRoute);
    }
    Ok(Way {
        ifid: by,
        hop: s.ip.hop_by(dst, by),
        origin: Origin::Connected,
    })
}

/// The way to a group of IPv6 that is of one link. Apart: nothing else asks.
#[cold]
fn group_way(s: &Stack, dst: IpAddr, why: NoWay) -> Result<Way, NoWay> {
    let IpAddr::V6(group) = dst else {
        return Err(why);
    };
    let (_, number) = zone::split(group);
    let netif = s.ifs.iter().find(|i| zone::number(i.id) == Some(number));
    let netif = netif.filter(|i| group.is_multicast() && i.is_running());
    let ifid = netif
        .map(|i| i.id)
        .filter(|id| s.ip.speaks_v6(*id))
        .ok_or(why)?;
    Ok(Way {
        ifid,
        hop: dst,
        origin: Origin::Connected,
    })
}

/// How long a question on an interface's link and its answer take, if the way back is like the way
/// there: the longest, when the interface is a bridge or a lagg.
pub(super) fn round_trip(s: &Stack, ifid: IfId) -> Duration {
    let one_way = |ifid| {
        let link = s.ifs.get(ifid).and_then(|i| i.link.as_deref());
        link.map_or(Duration::ZERO, |link| link.config().expected_latency())
    };
    let ifid = s.ifs.ground(ifid);
    let there = match s.ifs.get(ifid).and_then(|i| i.kind.bridge()) {
        Some(id) => {
            let members = s.bridges.get(id).map_or(&[][..], |b| &b.members);
            members.iter().map(|m| one_way(*m)).max()
        }
        None => match &*s.ifs.members_of_lagg(ifid) {
            [] => Some(one_way(ifid)),
            members => members.iter().map(|m| one_way(*m)).max(),
        },
    };
    there.unwrap_or_default().saturating_mul(2)
}

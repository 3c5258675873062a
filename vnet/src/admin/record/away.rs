//! What an interface takes along when it leaves its home, and what it leaves behind, as operations.

use super::{BridgeOp, IfOp, Op, RouteOp};
use crate::admin::bridges;
use crate::admin::routes;
use crate::base::id::IfId;
use crate::ip::fib;
use crate::netif::Netif;
use crate::netif::vlan::Origin;
use crate::packet::header::zone;
use crate::stack::Stack;

/// The operations that set what is an interface's own, under its name in its present vnet.
pub(crate) fn settings(netif: &Netif) -> Vec<Op> {
    let set = |op| Op::Interface(netif.name.to_string(), op);
    let (mac, ip_mtu) = match (netif.on_lagg(), netif.kind.vlan()) {
        // Of a lagg's member, what it has again when it leaves.
        (Some(member), _) => (Some(member.mac), Some(member.ip_mtu)),
        // Of a VLAN interface, what it does not have from its parent.
        (None, Some(vlan)) => {
            let own = (vlan.mac == Origin::Hand).then_some(netif.mac);
            (own, vlan.ip_mtu)
        }
        (None, None) => (Some(netif.mac), Some(netif.ip_mtu)),
    };
    let own = mac.map(|mac| IfOp::SetMac { mac });
    let own = own
        .into_iter()
        .chain(ip_mtu.map(|ip_mtu| IfOp::SetIpMtu { ip_mtu }));
    let mut settings: Vec<Op> = own.map(set).collect();
    settings.extend([
        set(IfOp::SetUp { state: netif.admin }),
        set(IfOp::SetOffload {
            offload: netif.offload,
        }),
    ]);
    if let Some(vlan) = netif.kind.vlan() {
        let classes = vlan.classes.as_ref().map(|classes| classes.maps.clone());
        settings.push(set(IfOp::SetVlanClasses { classes }));
    }
    if let Some(link) = &netif.link {
        settings.push(set(IfOp::SetLink {
            link: Box::new(link.config().clone()),
        }));
    }
    settings
}

/// The operations that would take from an interface what it loses when it leaves its home.
pub(crate) fn left_behind(stack: &Stack, id: IfId) -> Vec<Op> {
    let Some(netif) = stack.ifs.get(id) else {
        return Vec::new();
    };
    let interface = netif.name.to_string();
    let by_it = |r: &routes::RouteInfo| r.origin == fib::Origin::Static && r.interface == interface;
    let routes = routes::list(stack).into_iter().filter(by_it);
    let routes = routes.map(|r| {
        let (dst, metric) = (r.dst, r.metric);
        Op::Route(RouteOp::RemoveRoute { dst, metric })
    });
    let addresses = stack
        .ip
        .given_on(id)
        .map(zone::wire_ip)
        .map(|address| Op::Interface(interface.clone(), IfOp::RemoveAddress { address }));
    let neighbours = stack.neigh.permanent_on(id).map(|ip| {
        let address = zone::wire_ip(ip);
        Op::Interface(interface.clone(), IfOp::RemoveNeighbour { address })
    });
    let router = stack.ip.autoconf.adverts.told.contains_key(&id);
    let router = router.then(|| Op::Interface(interface.clone(), IfOp::SetRouter { config: None }));
    let membership = bridges::has_member(stack, netif).map(|bridge| {
        Op::Bridge(
            bridge,
            BridgeOp::RemoveMember {
                member: interface.clone(),
            },
        )
    });
    routes
        .chain(addresses)
        .chain(neighbours)
        .chain(router)
        .chain(membership)
        .collect()
}

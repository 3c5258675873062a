//! What an interface takes along when it leaves its home, and what it leaves behind, as operations.

use super::Op;
use crate::admin::bridges;
use crate::admin::routes;
use crate::base::id::IfId;
use crate::ip::fib::Origin;
use crate::netif::Netif;
use crate::stack::Stack;

/// The operations that set what is an interface's own, under its name in its present vnet.
pub(crate) fn settings(netif: &Netif) -> Vec<Op> {
    let interface = || netif.name.to_string();
    let mut settings = vec![
        Op::SetMac {
            interface: interface(),
            mac: netif.mac,
        },
        Op::SetIpMtu {
            interface: interface(),
            ip_mtu: netif.ip_mtu,
        },
        Op::SetUp {
            interface: interface(),
            state: netif.admin,
        },
        Op::SetOffload {
            interface: interface(),
            offload: netif.offload,
        },
    ];
    if let Some(link) = &netif.link {
        settings.push(Op::SetLink {
            interface: interface(),
            link: Box::new(link.config().clone()),
        });
    }
    settings
}

/// The operations that would take from an interface what it loses when it leaves its home.
pub(crate) fn left_behind(stack: &Stack, id: IfId) -> Vec<Op> {
    let Some(netif) = stack.ifs.get(id) else {
        return Vec::new();
    };
    let interface = netif.name.to_string();
    let by_it = |r: &routes::RouteInfo| r.origin == Origin::Static && r.interface == interface;
    let routes = routes::list(stack).into_iter().filter(by_it);
    let routes = routes.map(|r| Op::RemoveRoute { dst: r.dst });
    let addresses = stack.ip.addresses_on(id).map(|a| Op::RemoveAddress {
        interface: interface.clone(),
        address: a.addr(),
    });
    let membership = bridges::bridge_of(stack, netif).map(|bridge| Op::RemoveMember {
        interface: bridge,
        member: interface.clone(),
    });
    routes.chain(addresses).chain(membership).collect()
}

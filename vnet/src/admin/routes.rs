//! The administration of a vnet's routes.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::record::Op;
use crate::base::id::IfId;
use crate::instance::privilege::{AdminError, Denied, Privilege};
use crate::instance::vnet::{Gone, Vnet};
use crate::ip::family::V4;
use crate::ip::fib::{FibError, NextHop, Origin, Route};
use crate::ip::state::Forwarding;
use crate::stack::Stack;
use crate::stack::limits::Resource;

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextHopSpec {
    /// To a router on one of the vnet's links.
    Gateway(Ipv4Addr),
    /// Directly onto the link of the named interface: every destination is a neighbour there.
    Interface(String),
    /// To a router on the link of the named interface, whether or not any route leads to the
    /// router itself; Linux's `onlink`.
    OnLink {
        /// The router.
        gateway: Ipv4Addr,
        /// The interface.
        interface: String,
    },
}

impl From<Ipv4Addr> for NextHopSpec {
    fn from(gateway: Ipv4Addr) -> NextHopSpec {
        NextHopSpec::Gateway(gateway)
    }
}

/// A route as it is configured.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RouteInfo {
    /// The destinations it is for.
    pub dst: Ipv4Net,
    /// The router, unless the destination is on the link.
    pub gateway: Option<Ipv4Addr>,
    /// The name of the interface it leaves by.
    pub interface: String,
    /// Of routes to the same destinations, the one with the lowest metric counts.
    pub metric: u32,
    /// Its origin.
    pub origin: Origin,
}

/// Why a route cannot be added or removed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RouteError {
    /// The vnet is gone.
    #[error("the vnet is gone")]
    Gone,
    /// No interface of that name.
    #[error("no interface {0:?} in this vnet")]
    NoInterface(String),
    /// The gateway is not on any of the vnet's links.
    #[error("gateway {0} is not on any of this vnet's links")]
    GatewayUnreachable(Ipv4Addr),
    /// This vnet's tenants lack the privilege.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// An error of the routing table.
    #[error(transparent)]
    Table(#[from] FibError),
}

impl From<Gone> for RouteError {
    fn from(_: Gone) -> RouteError {
        RouteError::Gone
    }
}

impl Vnet {
    /// Adds a static route to `dst`.
    ///
    /// # Errors
    /// The gateway is not on any link of this vnet, there is no such interface, the route exists
    /// already, or the table is full.
    pub fn add_route(&self, dst: Ipv4Net, via: impl Into<NextHopSpec>) -> Result<(), RouteError> {
        let (gateway, interface) = match via.into() {
            NextHopSpec::Gateway(gateway) => (Some(gateway), None),
            NextHopSpec::Interface(interface) => (None, Some(interface)),
            NextHopSpec::OnLink { gateway, interface } => (Some(gateway), Some(interface)),
        };
        self.add_static(dst, gateway, interface)
    }

    /// Adds a static route. An interface that is given beside the gateway is believed to lead
    /// there.
    pub(super) fn add_static(
        &self,
        dst: Ipv4Net,
        gateway: Option<Ipv4Addr>,
        interface: Option<String>,
    ) -> Result<(), RouteError> {
        self.require(Privilege::Routes)?;
        self.configure(|stack, _| {
            let ifid = match (gateway, interface) {
                (_, Some(interface)) => match stack.ifs.id_of(&interface) {
                    Ok(ifid) => ifid,
                    Err(_) => return Err(RouteError::NoInterface(interface)),
                },
                (Some(gateway), None) => link_of(stack, gateway)?,
                (None, None) => return Err(RouteError::NoInterface(String::new())),
            };
            let next_hop = gateway.map_or(NextHop::Direct, NextHop::Gateway);
            let route = Route::new(dst.trunc(), next_hop, ifid, Origin::Static);
            let added = stack.ip.v4.fib.add(route);
            if let Err(FibError::Limit(_)) = added {
                stack.limits.refuse(Resource::Routes);
            }
            added?;
            let interface = stack.ifs.get(ifid).map(|i| i.name.to_string());
            Ok(Op::AddRoute {
                dst: route.dst,
                gateway,
                interface,
            })
        })
    }

    /// Removes the static route to `dst`.
    ///
    /// # Errors
    /// No such route.
    pub fn remove_route(&self, dst: Ipv4Net) -> Result<(), RouteError> {
        self.require(Privilege::Routes)?;
        self.configure(|stack, _| {
            let removed = stack.ip.v4.fib.remove_of(dst, Origin::Static)?;
            // A route by a borrowed interface was never noted.
            let netif = stack.ifs.get(removed.ifid);
            let is_noted = netif.is_none_or(|netif| netif.loan.is_none());
            let dst = removed.dst;
            Ok(is_noted.then_some(Op::RemoveRoute { dst }))
        })
    }

    /// The routes, in the order of their prefixes.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn routes(&self) -> Result<Vec<RouteInfo>, Gone> {
        self.core.with(|stack, _| list(stack))
    }

    /// Makes the vnet a router, or a host again.
    ///
    /// # Errors
    /// [`Gone`], or a tenant that lacks [`Privilege::Forwarding`].
    pub fn set_forwarding(&self, forwarding: Forwarding) -> Result<(), AdminError> {
        self.require(Privilege::Forwarding)?;
        self.configure(|stack, _| {
            stack.set_forwarding(forwarding);
            Ok(Op::SetForwarding { forwarding })
        })
    }
}

/// The routes as they are listed.
pub(super) fn list(stack: &Stack) -> Vec<RouteInfo> {
    let info = |r: &Route<V4>| RouteInfo {
        dst: r.dst,
        gateway: match r.next_hop {
            NextHop::Direct => None,
            NextHop::Gateway(g) => Some(g),
        },
        interface: stack
            .ifs
            .get(r.ifid)
            .map_or_else(String::new, |i| i.name.to_string()),
        metric: r.metric,
        origin: r.origin,
    };
    stack.ip.v4.fib.iter().map(info).collect()
}

/// The interface on whose link a gateway is: a route leads straight to it, in use or not.
fn link_of(stack: &Stack, gateway: Ipv4Addr) -> Result<IfId, RouteError> {
    match stack.ip.v4.fib.configured(gateway) {
        Some(route) if route.next_hop == NextHop::Direct => Ok(route.ifid),
        _ => Err(RouteError::GatewayUnreachable(gateway)),
    }
}

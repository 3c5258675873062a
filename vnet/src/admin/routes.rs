//! The administration of a vnet's routes.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::record::{Op, RouteOp, VnetOp};
use crate::base::id::IfId;
use crate::instance::phase::Gone;
use crate::instance::privilege::Privilege;
use crate::instance::vnet::Vnet;
use crate::ip::fib::{FibError, Origin, RouteKind};
use crate::ip::route::Route;
use crate::ip::state::Forwarding;
use crate::netif::AdminError;
use crate::packet::header::zone;
use crate::stack::Stack;
use crate::stack::limits::Resource;

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextHopSpec {
    /// To a router on one of the vnet's links.
    Gateway(IpAddr),
    /// Directly onto the link of the named interface: every destination is a neighbour there.
    Interface(String),
    /// To a router on the link of the named interface, whether or not any route leads to the
    /// router itself; Linux's `onlink`.
    OnLink {
        /// The router.
        gateway: IpAddr,
        /// The interface.
        interface: String,
    },
    /// Nowhere: packets are dropped without a word. Senders in this vnet get
    /// [`SocketError::Blackhole`](crate::SocketError::Blackhole), of the kind
    /// [`InvalidInput`](std::io::ErrorKind::InvalidInput); Linux's `blackhole`.
    Blackhole,
    /// Nowhere: senders are told that the host is unreachable; Linux's `unreachable`.
    Unreachable,
    /// Nowhere: senders are told that communication is administratively prohibited; Linux's
    /// `prohibit`. Those in this vnet get [`SocketError::Prohibited`](crate::SocketError::Prohibited),
    /// of the kind [`PermissionDenied`](std::io::ErrorKind::PermissionDenied).
    Prohibit,
}

impl From<IpAddr> for NextHopSpec {
    fn from(gateway: IpAddr) -> NextHopSpec {
        NextHopSpec::Gateway(gateway)
    }
}

impl From<Ipv4Addr> for NextHopSpec {
    fn from(gateway: Ipv4Addr) -> NextHopSpec {
        NextHopSpec::Gateway(gateway.into())
    }
}

/// A route as it is configured.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RouteInfo {
    /// The destinations it is for.
    pub dst: IpNet,
    /// The router, unless the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// The name of the interface it leaves by.
    pub interface: String,
    /// Of several routes to the same destinations, the one with the lowest metric is used.
    pub metric: u32,
    /// Its origin.
    pub origin: Origin,
    /// What happens to packets to these destinations.
    #[serde(default, skip_serializing_if = "RouteKind::is_default")]
    pub kind: RouteKind,
}

impl From<FibError> for AdminError {
    fn from(error: FibError) -> AdminError {
        match error {
            FibError::Exists(dst) => AdminError::RouteExists(dst),
            FibError::NotFound(dst) => AdminError::NoSuchRoute(dst),
            FibError::Family(dst) => AdminError::FamilyNotSupported(dst),
            FibError::Limit(_) => AdminError::Limit(Resource::Routes.as_str()),
        }
    }
}

impl Vnet {
    /// Adds a static route to `dst`, with metric 0.
    ///
    /// # Errors
    /// The gateway is not on any link of this vnet, there is no such interface, the route exists
    /// already, the table is full, or the gateway is not of the family of `dst`.
    pub fn add_route(&self, dst: IpNet, via: impl Into<NextHopSpec>) -> Result<(), AdminError> {
        self.add_route_at(dst, via, 0)
    }

    /// Adds a static route to `dst` beside others. Of those whose interfaces are up, the one with the lowest metric is
    /// used. The route to the prefix of an interface's address has metric 0, or the lowest one that was free.
    ///
    /// # Errors
    /// As [`Vnet::add_route`]; a route exists if it has the same metric.
    pub fn add_route_at(
        &self,
        dst: IpNet,
        via: impl Into<NextHopSpec>,
        metric: u32,
    ) -> Result<(), AdminError> {
        let (gateway, interface, kind) = match via.into() {
            NextHopSpec::Gateway(gateway) => (Some(gateway), None, RouteKind::Unicast),
            NextHopSpec::Interface(interface) => (None, Some(interface), RouteKind::Unicast),
            NextHopSpec::OnLink { gateway, interface } => {
                (Some(gateway), Some(interface), RouteKind::Unicast)
            }
            NextHopSpec::Blackhole => (None, None, RouteKind::Blackhole),
            NextHopSpec::Unreachable => (None, None, RouteKind::Unreachable),
            NextHopSpec::Prohibit => (None, None, RouteKind::Prohibit),
        };
        self.add_static(dst, gateway, interface, kind, metric)
    }

    /// Adds a static route. An interface that is given beside the gateway is believed to lead
    /// there. A route that leads nowhere has the loopback interface.
    pub(super) fn add_static(
        &self,
        dst: IpNet,
        gateway: Option<IpAddr>,
        interface: Option<String>,
        kind: RouteKind,
        metric: u32,
    ) -> Result<(), AdminError> {
        self.require(Privilege::Routes)?;
        self.configure(|stack, _| {
            Route::check(dst, gateway)?;
            let ifid = match (gateway, interface) {
                _ if kind != RouteKind::Unicast => {
                    let loopback = stack.loopback();
                    loopback.ok_or_else(|| AdminError::NotFound("lo0".to_owned()))?
                }
                (_, Some(interface)) => match stack.ifs.id_of(&interface) {
                    Ok(ifid) => ifid,
                    Err(_) => return Err(AdminError::NotFound(interface)),
                },
                (Some(gateway), None) => link_of(stack, gateway)?,
                (None, None) => return Err(AdminError::NotFound(String::new())),
            };
            let route = Route {
                dst: dst.trunc(),
                gateway,
                ifid,
                metric,
                origin: Origin::Static,
                kind,
            };
            let added = stack.ip.add_route(route);
            stack.configured();
            if let Err(FibError::Limit(_)) = added {
                stack.limits.refuse(Resource::Routes);
            }
            added?;
            let interface = match kind {
                RouteKind::Unicast => stack.ifs.get(ifid).map(|i| i.name.to_string()),
                _ => None,
            };
            Ok(Op::Route(RouteOp::AddRoute {
                dst: route.dst,
                gateway,
                interface,
                kind,
                metric,
            }))
        })
    }

    /// Removes the static route to `dst`; of several, the one with the lowest metric.
    ///
    /// # Errors
    /// No such route.
    pub fn remove_route(&self, dst: IpNet) -> Result<(), AdminError> {
        self.remove_static(dst, None)
    }

    /// Removes a static route, with this metric or with the lowest one.
    pub(super) fn remove_static(&self, dst: IpNet, metric: Option<u32>) -> Result<(), AdminError> {
        self.require(Privilege::Routes)?;
        self.configure(|stack, _| {
            let removed = stack.ip.remove_route(dst, Origin::Static, metric)?;
            stack.configured();
            // A route by a borrowed interface was never noted.
            let is_noted = !stack.ifs.is_on_borrowed(removed.ifid);
            let Route { dst, metric, .. } = removed;
            Ok(is_noted.then_some(Op::Route(RouteOp::RemoveRoute { dst, metric })))
        })
    }

    /// The routes, in the order of their prefixes.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn routes(&self) -> Result<Vec<RouteInfo>, Gone> {
        self.core.with(|stack, _| list(stack))
    }

    /// How many of these destinations have a route that packets could take now. All are looked up in one entry, each as
    /// a packet's is, so that benchmarks can measure lookups alone.
    #[doc(hidden)]
    pub fn count_routed(&self, destinations: &[IpAddr]) -> Result<usize, Gone> {
        self.core.with(|stack, _| {
            let mut ways = destinations.iter().map(|dst| stack.ip.lookup(*dst));
            ways.by_ref().filter(Result::is_ok).count()
        })
    }

    /// Makes the vnet a router, or a host again.
    ///
    /// # Errors
    /// [`Gone`], or a tenant that lacks [`Privilege::Forwarding`].
    pub fn set_forwarding(&self, forwarding: Forwarding) -> Result<(), AdminError> {
        self.require(Privilege::Forwarding)?;
        self.configure(|stack, _| {
            stack.set_forwarding(forwarding);
            Ok(Op::Vnet(VnetOp::SetForwarding { forwarding }))
        })
    }
}

/// The routes as they are listed.
pub(super) fn list(stack: &Stack) -> Vec<RouteInfo> {
    let info = |r: Route| RouteInfo {
        dst: zone::wire_net(r.dst),
        gateway: r.gateway.map(zone::wire_ip),
        interface: stack
            .ifs
            .get(r.ifid)
            .map_or_else(String::new, |i| i.name.to_string()),
        metric: r.metric,
        origin: r.origin,
        kind: r.kind,
    };
    stack.ip.routes().map(info).collect()
}

/// The interface on whose link a gateway is: a route leads straight to it, in use or not.
fn link_of(stack: &Stack, gateway: IpAddr) -> Result<IfId, AdminError> {
    let link = stack.ip.link_of(gateway);
    link.ok_or(AdminError::GatewayUnreachable(gateway))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::System;

    #[test]
    fn a_gateway_of_another_family_is_refused_by_name() {
        let system = System::virtual_time(1);
        let a = system.create("a").expect("the name is free");
        let [v4, v6]: [IpNet; 2] =
            ["192.0.2.0/24", "2001:db8::/64"].map(|net| net.parse().expect("a prefix"));
        for (dst, gateway) in [(v4, "2001:db8::9"), (v6, "192.0.2.9")] {
            let gateway: IpAddr = gateway.parse().expect("an address");
            let refused = a.add_route(dst, gateway);
            assert_eq!(refused, Err(AdminError::FamilyNotSupported(dst)));
        }
        let absent = a.remove_address("lo0", v6.addr());
        assert_eq!(absent, Err(AdminError::NoSuchAddress(v6.addr())));
    }
}

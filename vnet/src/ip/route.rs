//! A route of either version, and the same as the table of its version has it.

use std::net::IpAddr;

use ipnet::IpNet;

use super::family::{Family, V4, V6};
use super::fib::{self, FibError, NextHop, Origin, RouteKind};
use crate::base::id::IfId;
use crate::packet::header::zone;

/// A route of either version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// Where it leads.
    pub dst: IpNet,
    /// The router, unless the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// The interface it leaves through.
    pub ifid: IfId,
    /// Of routes with one prefix, the lowest metric counts.
    pub metric: u32,
    /// Where it comes from.
    pub origin: Origin,
    /// What becomes of packets that take it.
    pub kind: RouteKind,
}

impl<F: Family> From<&fib::Route<F>> for Route {
    fn from(route: &fib::Route<F>) -> Route {
        Route {
            dst: route.dst.into(),
            gateway: match route.next_hop {
                NextHop::Direct => None,
                NextHop::Gateway(gateway) => Some(gateway.into()),
            },
            ifid: route.ifid,
            metric: route.metric,
            origin: route.origin,
            kind: route.kind,
        }
    }
}

impl Route {
    /// Says whether a table of routes may take one to `dst` by `gateway`.
    ///
    /// # Errors
    /// [`FibError::Family`].
    pub(crate) fn check(dst: IpNet, gateway: Option<IpAddr>) -> Result<(), FibError> {
        match (dst, gateway) {
            (IpNet::V4(_), None | Some(IpAddr::V4(_)))
            | (IpNet::V6(_), None | Some(IpAddr::V6(_))) => Ok(()),
            _ => Err(FibError::Family(dst)),
        }
    }

    /// The same for the table of its version.
    pub(super) fn one(self) -> Result<OneRoute, FibError> {
        // RFC 4291 section 2.5.6: a link-local router is one on the link of the route.
        let on_link = |gateway| match zone::number(self.ifid) {
            Some(number) => zone::bind(gateway, number),
            None => gateway,
        };
        match (self.dst, self.gateway) {
            (IpNet::V4(dst), None) => Ok(OneRoute::V4(self.with(dst, NextHop::Direct))),
            (IpNet::V4(dst), Some(IpAddr::V4(gateway))) => {
                Ok(OneRoute::V4(self.with(dst, NextHop::Gateway(gateway))))
            }
            (IpNet::V6(dst), None) => Ok(OneRoute::V6(self.with(dst, NextHop::Direct))),
            (IpNet::V6(dst), Some(IpAddr::V6(gateway))) => {
                let gateway = on_link(gateway);
                Ok(OneRoute::V6(self.with(dst, NextHop::Gateway(gateway))))
            }
            _ => Err(FibError::Family(self.dst)),
        }
    }

    fn with<F: Family>(self, dst: F::Net, next_hop: NextHop<F>) -> fib::Route<F> {
        fib::Route {
            dst,
            next_hop,
            ifid: self.ifid,
            metric: self.metric,
            origin: self.origin,
            kind: self.kind,
        }
    }
}

/// A route as its version's table has it.
pub(super) enum OneRoute {
    /// Of IPv4.
    V4(fib::Route<V4>),
    /// Of IPv6.
    V6(fib::Route<V6>),
}

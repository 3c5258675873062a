//! What a route says, and what a lookup finds.

use crate::base::id::IfId;
use crate::ip::family::Family;

/// The first hop of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum NextHop<F: Family> {
    /// The destination is on the link itself.
    Direct,
    /// A router on the link.
    Gateway(F::Addr),
}

/// The origin of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// It leads to the prefix of an interface's address.
    Connected,
    /// It was configured.
    Static,
    /// It leads to one of the vnet's own addresses.
    Host,
    /// A router has advertised it (RFC 4861, RFC 4191).
    Advertised,
}

/// What happens to packets that take a route. These are the route types of Linux.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RouteKind {
    /// They are forwarded to the next hop.
    #[default]
    Unicast,
    /// They are dropped silently.
    Blackhole,
    /// They are rejected: the host is unreachable.
    Unreachable,
    /// They are rejected: communication is administratively prohibited.
    Prohibit,
}

impl RouteKind {
    /// Its name in lower case, which is stable.
    pub const fn as_str(self) -> &'static str {
        match self {
            RouteKind::Unicast => "unicast",
            RouteKind::Blackhole => "blackhole",
            RouteKind::Unreachable => "unreachable",
            RouteKind::Prohibit => "prohibit",
        }
    }

    /// True when a route is of this kind unless something else is said.
    pub(crate) fn is_default(&self) -> bool {
        *self == RouteKind::Unicast
    }
}

/// One route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Route<F: Family> {
    /// Where it leads. Bits behind the prefix are zero.
    pub dst: F::Net,
    /// The first hop.
    pub next_hop: NextHop<F>,
    /// The interface it leaves through.
    pub ifid: IfId,
    /// Of routes with one prefix, the lowest metric counts.
    pub metric: u32,
    /// Its origin.
    pub origin: Origin,
    /// What becomes of packets that take it. Those that are not passed on have the loopback interface.
    pub kind: RouteKind,
}

impl<F: Family> Route<F> {
    /// A route with metric 0 through an interface.
    pub(crate) fn new(dst: F::Net, next_hop: NextHop<F>, ifid: IfId, origin: Origin) -> Route<F> {
        Route {
            dst: F::trunc(dst),
            next_hop,
            ifid,
            metric: 0,
            origin,
            kind: RouteKind::Unicast,
        }
    }

    /// The address whose neighbour entry is needed to reach `dst` by this route.
    pub(crate) fn hop(&self, dst: F::Addr) -> F::Addr {
        self.next_hop.of(dst)
    }
}

impl<F: Family> NextHop<F> {
    /// The address to ask for on the link to reach `dst`.
    #[inline]
    pub(crate) fn of(self, dst: F::Addr) -> F::Addr {
        match self {
            NextHop::Direct => dst,
            NextHop::Gateway(gateway) => gateway,
        }
    }
}

/// What a lookup found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RouteHit<F: Family> {
    /// The interface to leave through.
    pub ifid: IfId,
    /// The first hop.
    pub next_hop: NextHop<F>,
    /// Where the route comes from.
    pub origin: Origin,
    /// What becomes of the packet.
    pub kind: RouteKind,
}

impl<F: Family> RouteHit<F> {
    /// That packets are passed on through an interface, as it was configured.
    #[cfg(test)]
    pub(crate) fn through(ifid: IfId, next_hop: NextHop<F>) -> RouteHit<F> {
        RouteHit {
            ifid,
            next_hop,
            origin: Origin::Static,
            kind: RouteKind::Unicast,
        }
    }

    /// What a route says of packets that take it.
    pub(super) fn of(route: &Route<F>) -> RouteHit<F> {
        RouteHit {
            ifid: route.ifid,
            next_hop: route.next_hop,
            origin: route.origin,
            kind: route.kind,
        }
    }

    /// The address whose neighbour entry is needed to reach `dst` by this route.
    #[inline]
    pub(crate) fn hop(&self, dst: F::Addr) -> F::Addr {
        self.next_hop.of(dst)
    }
}

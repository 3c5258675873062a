//! Following the routes of a plan as packets will, one node at a time.

use std::cmp::Reverse;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Plan, PlannedInterface, PlannedVnet};
use crate::family::{Family, is_link_local};
use crate::topology::{NodeKind, Via};

/// Why packets do not arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// A node has no route.
    NoRoute {
        /// The node.
        at: String,
        /// Where to.
        to: IpAddr,
    },
    /// The route of a node leads nowhere.
    Nowhere {
        /// The node.
        at: String,
        /// Where to.
        to: IpAddr,
        /// The kind of the route.
        kind: &'static str,
    },
    /// A host would have to forward.
    NotForwarding {
        /// The host.
        at: String,
        /// For whom.
        to: IpAddr,
    },
    /// The next hop is nobody's address, or not that of a node on the same link or LAN.
    NoGateway {
        /// The node with the route.
        at: String,
        /// The address nobody answers for.
        gateway: IpAddr,
    },
    /// The way has more hops than a packet's time to live.
    TooFar {
        /// How many it has.
        hops: usize,
        /// How many a packet goes.
        ttl: usize,
        /// Where to.
        to: IpAddr,
    },
    /// The routes lead in a loop.
    Loop {
        /// A node of the loop.
        at: String,
        /// Where to.
        to: IpAddr,
    },
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unreachable::NoRoute { at, to } => write!(f, "{at} has no route to {to}"),
            Unreachable::Nowhere { at, to, kind } => {
                write!(f, "the route of {at} to {to} leads nowhere: {kind}")
            }
            Unreachable::NotForwarding { at, to } => {
                write!(f, "{at} is a host and does not forward to {to}")
            }
            Unreachable::NoGateway { at, gateway } => {
                write!(f, "{at} sends to {gateway}, which is not there")
            }
            Unreachable::TooFar { hops, ttl, to } => write!(
                f,
                "the way to {to} has {hops} hops, and a packet's time to live is {ttl}"
            ),
            Unreachable::Loop { at, to } => write!(f, "the routes to {to} loop through {at}"),
        }
    }
}

/// Where a node sends a packet: the address it has there, the next node, and what is between them.
pub(super) struct Hop {
    pub(super) source: Option<IpAddr>,
    next: usize,
    segment: usize,
}

impl Plan {
    /// The vnets that packets from `from` to the address `to` pass, the last included.
    ///
    /// # Errors
    /// [`Unreachable`] with the place where it ends.
    pub fn trace(&self, from: usize, to: IpAddr) -> Result<Vec<usize>, Unreachable> {
        let hops = self.hops(from, to)?;
        Ok(hops.into_iter().map(|hop| hop.next).collect())
    }

    /// The segments that packets from `from` to the address `to` cross.
    ///
    /// # Errors
    /// As [`Plan::trace`].
    pub(crate) fn trace_segments(
        &self,
        from: usize,
        to: IpAddr,
    ) -> Result<Vec<usize>, Unreachable> {
        let hops = self.hops(from, to)?;
        Ok(hops.into_iter().map(|hop| hop.segment).collect())
    }

    fn hops(&self, from: usize, to: IpAddr) -> Result<Vec<Hop>, Unreachable> {
        let owner = self.owner(to);
        let mut path = Vec::new();
        let mut at = from;
        while owner != Some(at) {
            if at != from && self.vnets[at].kind == NodeKind::Host {
                let at = self.vnets[at].name.clone();
                return Err(Unreachable::NotForwarding { at, to });
            }
            let hop = self.hop(at, to)?;
            at = hop.next;
            path.push(hop);
            if path.len() > self.vnets.len() {
                let at = self.vnets[at].name.clone();
                return Err(Unreachable::Loop { at, to });
            }
        }
        Ok(path)
    }

    /// One step: the longest prefix wins, then the lowest metric; a connected one before a route of equal length.
    pub(super) fn hop(&self, at: usize, to: IpAddr) -> Result<Hop, Unreachable> {
        let vnet = &self.vnets[at];
        let connected = vnet.interfaces.iter().enumerate().flat_map(|(n, i)| {
            let nets = i.addresses.iter().filter(|net| net.contains(&to));
            nets.map(move |net| (net.prefix_len(), n))
        });
        let connected = connected.max_by_key(|(len, n)| (*len, Reverse(*n)));
        let routes = vnet.routes.iter().filter(|r| r.destination.contains(&to));
        let route = routes.max_by_key(|r| (r.destination.prefix_len(), Reverse(r.metric)));
        let longer = |len| route.is_none_or(|r| len >= r.destination.prefix_len());
        let named = |name: &str| {
            let n = vnet.interfaces.iter().position(|i| i.name == name);
            n.expect("a sound network has the interfaces it names")
        };
        let (interface, next) = match (connected, route) {
            (Some((len, n)), _) if longer(len) => (n, to),
            (_, Some(route)) => match &route.via {
                Via::Gateway(gateway) => (self.towards(at, *gateway)?, *gateway),
                Via::Interface(name) => (named(name), to),
                Via::OnLink(gateway, name) => (named(name), *gateway),
                Via::Nowhere(kind) => {
                    let (at, kind) = (vnet.name.clone(), kind.as_str());
                    return Err(Unreachable::Nowhere { at, to, kind });
                }
            },
            (_, None) => {
                let at = vnet.name.clone();
                return Err(Unreachable::NoRoute { at, to });
            }
        };
        let out = &vnet.interfaces[interface];
        let segment = out.segment;
        let is_there = |owner: &usize| {
            let mut theirs = self.vnets[*owner].interfaces.iter();
            // An interface answers for its own addresses, and one that has none for all of the vnet.
            let answers = |i: &PlannedInterface| {
                i.addresses.is_empty() || i.addresses.iter().any(|net| net.addr() == next)
            };
            *owner != at && theirs.any(|i| i.segment == segment && answers(i))
        };
        if let Some(owner) = self.owner_on(segment, next).filter(is_there) {
            return Ok(Hop {
                source: source(vnet, out, to, next),
                next: owner,
                segment,
            });
        }
        Err(Unreachable::NoGateway {
            at: vnet.name.clone(),
            gateway: next,
        })
    }

    /// The interface on whose link `gateway` is, by a prefix of its own or by a route to that link.
    fn towards(&self, at: usize, gateway: IpAddr) -> Result<usize, Unreachable> {
        let vnet = &self.vnets[at];
        let connected = vnet.interfaces.iter().enumerate().flat_map(|(n, i)| {
            let nets = i.addresses.iter().filter(|net| net.contains(&gateway));
            nets.map(move |net| (net.prefix_len(), Reverse(n)))
        });
        let routes = vnet.routes.iter().filter_map(|route| match &route.via {
            Via::Interface(name) if route.destination.contains(&gateway) => {
                let n = vnet.interfaces.iter().position(|i| i.name == *name)?;
                Some((route.destination.prefix_len(), Reverse(n)))
            }
            _ => None,
        });
        let on_link = connected.chain(routes).max().map(|(_, Reverse(n))| n);
        on_link.ok_or_else(|| Unreachable::NoGateway {
            at: vnet.name.clone(),
            gateway,
        })
    }
}

/// The address from which a vnet sends to `to` by way of `next`, which is on the link of `out`. As in the library: of
/// IPv4 one in the prefix of `next`, of IPv6 the one that has most in common with `to` (RFC 6724 section 5, rules 2,
/// 5 and 8).
fn source(vnet: &PlannedVnet, out: &PlannedInterface, to: IpAddr, next: IpAddr) -> Option<IpAddr> {
    let fits = |net: &&IpNet| {
        let address = net.addr();
        Family::of(address) == Family::of(to) && is_link_local(address) == is_link_local(to)
    };
    let mut of_vnet = vnet.interfaces.iter().flat_map(|i| &i.addresses);
    let of_link = || out.addresses.iter().filter(fits);
    let best = match to {
        IpAddr::V4(_) => of_link().find(|net| net.contains(&next)),
        IpAddr::V6(_) => of_link().min_by_key(|net| Reverse(common(**net, to))),
    };
    let source = best
        .or_else(|| of_link().next())
        .or_else(|| of_vnet.find(fits));
    source.map(IpNet::addr)
}

/// How many bits of its prefix an address of IPv6 has in common with another.
fn common(net: IpNet, other: IpAddr) -> u32 {
    match (net, other) {
        (IpNet::V6(net), IpAddr::V6(other)) => {
            let differ = net.addr().to_bits() ^ other.to_bits();
            differ.leading_zeros().min(net.prefix_len().into())
        }
        _ => 0,
    }
}

//! The vnets, links and routes of a graph.

use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::Ipv4Net;
use vnet::{AdminError, CreateError, Forwarding, LinkConfig, NextHop, OwnedVnet, System};

use super::addressing::{Addressing, NoRoom};
use super::graph::{Graph, GraphError, Shape};
use super::routes::{Aggregate, aggregate, first_hops};

/// The largest time to live there is: a packet passes at most 254 routers on its way.
pub const TTL: u64 = 255;

/// Why a network cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// There is no such network.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// It has not enough addresses.
    #[error(transparent)]
    Addresses(#[from] NoRoom),
    /// A vnet.
    #[error("cannot make a router")]
    Create(#[from] CreateError),
    /// A link, an address, a route or a tunable.
    #[error("cannot configure a router")]
    Netif(#[from] AdminError),
}

/// A network on paper: its graph, its addresses, its routes.
#[derive(Clone, Debug)]
pub struct Design {
    /// Who is joined to whom.
    pub graph: Graph,
    /// Who has which address.
    pub addressing: Addressing,
    /// The routes of each router besides those to its own links.
    pub routes: Vec<Vec<Aggregate>>,
    /// Both directions of every link.
    pub link: LinkConfig,
}

impl Design {
    /// A network of so many routers, with shortest-path routes. Links carry 1 Gbit/s and take
    /// 50 µs.
    ///
    /// # Errors
    /// [`BuildError::Graph`], [`BuildError::Addresses`].
    pub fn new(shape: Shape, routers: usize, seed: u64) -> Result<Design, BuildError> {
        let graph = Graph::new(shape, routers, seed)?;
        let addressing = Addressing::new(&graph)?;
        let routes = (0..routers).map(|from| aggregate(&first_hops(&graph, from)));
        Ok(Design {
            routes: routes.collect(),
            graph,
            addressing,
            link: LinkConfig {
                rate_bps: Some(1_000_000_000),
                delay: Duration::from_micros(50),
                ..LinkConfig::default()
            },
        })
    }

    /// How many routes there are, without those to a router's own links.
    pub fn route_count(&self) -> usize {
        self.routes.iter().map(Vec::len).sum()
    }

    /// Makes the network in `system`: router *n* is the vnet `r<n>`, its interfaces are `eth0` and
    /// so on in the order of its neighbours.
    ///
    /// # Errors
    /// What the library says; nothing is left then.
    pub fn build(&self, system: &System) -> Result<Network, BuildError> {
        let mut routers = Vec::with_capacity(self.graph.len());
        for n in 0..self.graph.len() {
            let router = system.create(&format!("r{n}"))?;
            router.set_forwarding(Forwarding::Enabled)?;
            router.set_sysctl("net.inet.ip.ttl", TTL)?;
            router.add_address("lo0", Ipv4Net::from(self.addressing.router(n)).into())?;
            routers.push(router);
        }
        for (link, ends) in self.graph.links.iter().enumerate() {
            let [near, far] = [ends.owner, ends.other].map(|n| (n, self.interface(n, link)));
            routers[near.0].epair(&near.1, &routers[far.0], &far.1)?;
            for (n, interface) in [near, far] {
                let address = self.addressing.at_link(&self.graph, n, link);
                routers[n].set_link(&interface, self.link.clone())?;
                routers[n].add_address(&interface, address.into())?;
            }
        }
        for (n, router) in routers.iter().enumerate() {
            for route in &self.routes[n] {
                let prefix = self.addressing.prefix(route.depth, route.index);
                let via = self.neighbour_address(n, route.interface);
                router.add_route(prefix.into(), NextHop::Gateway(via.into()))?;
            }
        }
        Ok(Network {
            system: system.clone(),
            routers,
        })
    }

    /// The address that the neighbour behind an interface has on their link.
    pub fn neighbour_address(&self, router: usize, interface: usize) -> Ipv4Addr {
        let n = self.graph.neighbours[router][interface];
        self.addressing
            .at_link(&self.graph, n.router, n.link)
            .addr()
    }

    fn interface(&self, router: usize, link: usize) -> String {
        let mut neighbours = self.graph.neighbours[router].iter();
        let place = neighbours.position(|n| n.link == link);
        let place = place.expect("both ends of a link have it among their neighbours");
        format!("eth{place}")
    }
}

/// A network that is up.
pub struct Network {
    /// The system it is in.
    pub system: System,
    /// The routers, by number.
    pub routers: Vec<OwnedVnet>,
}

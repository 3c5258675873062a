//! A block of addresses for each router, out of the range for benchmarks (RFC 2544, appendix C.2.2).
//!
//! The first address of a block is the router's own, on its loopback interface. Behind it come the
//! prefixes of 31 bits (RFC 3021) of the links that the router numbers. So one route to the block
//! leads to all of it, and routes to neighbouring blocks can be one.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::graph::Graph;

/// 198.18.0.0/15.
const BASE: u32 = u32::from_be_bytes([198, 18, 0, 0]);
/// Bits of an address behind its prefix.
const FREE_BITS: u32 = 17;

/// More routers than the range for benchmarks has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{routers} blocks of {block} addresses do not fit into 198.18.0.0/15")]
pub struct NoRoom {
    /// How many routers.
    pub routers: usize,
    /// How many addresses each would need.
    pub block: u32,
}

/// Who has which address.
#[derive(Clone, Debug)]
pub struct Addressing {
    /// Addresses of one block, as a power of two.
    block_bits: u32,
    /// Levels of the binary tree whose leaves are the blocks.
    levels: u32,
    /// For each link its address at the router that numbers it; the other end has the next one.
    links: Vec<u32>,
}

impl Addressing {
    /// Numbers a network.
    ///
    /// # Errors
    /// [`NoRoom`].
    pub fn new(graph: &Graph) -> Result<Addressing, NoRoom> {
        let mut numbered = vec![0u32; graph.len()];
        let places: Vec<(usize, u32)> = graph
            .links
            .iter()
            .map(|link| {
                numbered[link.owner] += 1;
                (link.owner, numbered[link.owner])
            })
            .collect();
        let most = numbered.iter().max().copied().unwrap_or(0);
        let block = (2 * (most + 1)).next_power_of_two();
        let block_bits = block.trailing_zeros();
        let levels = graph.len().next_power_of_two().trailing_zeros();
        if levels + block_bits > FREE_BITS {
            return Err(NoRoom {
                routers: graph.len(),
                block,
            });
        }
        let first = |router: usize| BASE + ((router as u32) << block_bits);
        let links = places.iter().map(|(owner, n)| first(*owner) + 2 * n);
        Ok(Addressing {
            block_bits,
            levels,
            links: links.collect(),
        })
    }

    /// The address that a router is known by.
    pub fn router(&self, router: usize) -> Ipv4Addr {
        Ipv4Addr::from_bits(BASE + ((router as u32) << self.block_bits))
    }

    /// The address of a router at one of its links.
    pub fn at_link(&self, graph: &Graph, router: usize, link: usize) -> Ipv4Net {
        let other = u32::from(graph.links[link].owner != router);
        let address = Ipv4Addr::from_bits(self.links[link] + other);
        Ipv4Net::new_assert(address, 31)
    }

    /// The prefix of the blocks below a node of the binary tree of all blocks: the `index`th of
    /// those `depth` levels below the root.
    pub fn prefix(&self, depth: u32, index: usize) -> Ipv4Net {
        let below = self.levels - depth + self.block_bits;
        let first = Ipv4Addr::from_bits(BASE + ((index as u32) << below));
        Ipv4Net::new_assert(first, (32 - below) as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scale::graph::Shape;

    #[test]
    fn a_block_holds_the_router_and_the_links_it_numbers() {
        let graph = Graph::new(Shape::Random, 100, 3).expect("there is such a network");
        let addressing = Addressing::new(&graph).expect("there is room");
        let mut seen = std::collections::BTreeSet::new();
        for router in 0..graph.len() {
            assert!(seen.insert(addressing.router(router)));
            let block = addressing.prefix(addressing.levels, router);
            assert!(block.contains(&addressing.router(router)));
            for n in &graph.neighbours[router] {
                let near = addressing.at_link(&graph, router, n.link);
                let far = addressing.at_link(&graph, n.router, n.link);
                assert!(seen.insert(near.addr()), "{near} is there twice");
                assert_eq!(near.trunc(), far.trunc());
                let owner = graph.links[n.link].owner;
                assert!(addressing.prefix(addressing.levels, owner).contains(&near));
            }
        }
        assert!(
            addressing
                .prefix(0, 0)
                .contains(seen.last().expect("not empty"))
        );
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let graph = Graph::new(Shape::Ring, 40_000, 1).expect("there is such a network");
        let routers = 40_000;
        assert!(matches!(Addressing::new(&graph), Err(NoRoom { routers: r, .. }) if r == routers));
    }
}

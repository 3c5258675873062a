//! The description of a network and its flows, as a plain text that any program can read.
//!
//! ```text
//! routers 10
//! address 0 198.18.0.0
//! link 0 198.18.0.2 1 198.18.0.3 1000000000 50000 1000
//! route 0 198.18.8.0 30 198.18.0.3 0
//! flow 0 1 198.18.8.0 10000 1000000
//! ```
//!
//! There are so many routers, numbered from 0. *address*: a router has this address on its loopback interface. *link*: two
//! routers, each with its address of a prefix of 31 bits, are joined; the rate in bits a second, the delay in nanoseconds, and
//! the frames that may wait are those of either direction. A router's links are numbered from 0 in the order of the
//! lines. *route*: a router, a prefix and its length, the gateway, and the number of the link that leads there. *flow*: from
//! one router to the address and the port of another one go so many bytes, from the start on.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::{FromStr, SplitWhitespace};

use crate::compare::SideError;
use crate::scale::network::Design;
use crate::scale::traffic::pairs;

/// The port of the first flow; each has one of its own.
const FIRST_PORT: u16 = 10_000;

/// A network and its flows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// How many routers there are.
    pub routers: usize,
    /// Routers and their addresses.
    pub addresses: Vec<(usize, Ipv4Addr)>,
    /// What joins them.
    pub links: Vec<Link>,
    /// What they know of each other.
    pub routes: Vec<Route>,
    /// What they carry.
    pub flows: Vec<Flow>,
}

/// A link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Both routers, and their addresses.
    pub ends: [(usize, Ipv4Addr); 2],
    /// Bits a second.
    pub rate: u64,
    /// Nanoseconds.
    pub delay: u64,
    /// Frames that wait at most.
    pub queue: usize,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Who has it.
    pub router: usize,
    /// Where it leads.
    pub prefix: Ipv4Addr,
    /// Bits of that.
    pub length: u8,
    /// The next router.
    pub gateway: Ipv4Addr,
    /// Which of the links of its owner leads there.
    pub link: usize,
}

/// A flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Who sends.
    pub from: usize,
    /// Who receives.
    pub to: usize,
    /// The receiver's address.
    pub address: Ipv4Addr,
    /// The receiver's port.
    pub port: u16,
    /// How many bytes.
    pub bytes: usize,
}

impl Description {
    /// Describes a network, and flows of so many bytes between random routers that are at most `reach` links apart.
    pub fn of(design: &Design, flows: usize, bytes: usize, reach: usize, seed: u64) -> Description {
        let graph = &design.graph;
        let mut order = vec![Vec::new(); graph.len()];
        let links = graph.links.iter().enumerate().map(|(n, link)| {
            let ends = [link.owner, link.other].map(|router| {
                order[router].push(n);
                (router, design.addressing.at_link(graph, router, n).addr())
            });
            Link {
                ends,
                rate: design.link.rate_bps.unwrap_or(u64::MAX),
                delay: design.link.delay.as_nanos() as u64,
                queue: design.link.queue.limit_frames,
            }
        });
        let links = links.collect();
        let routes = design.routes.iter().enumerate().flat_map(|(router, own)| {
            let order = &order;
            own.iter().map(move |route| {
                let prefix = design.addressing.prefix(route.depth, route.index);
                let link = graph.neighbours[router][route.interface].link;
                let place = order[router].iter().position(|n| *n == link);
                Route {
                    router,
                    prefix: prefix.addr(),
                    length: prefix.prefix_len(),
                    gateway: design.neighbour_address(router, route.interface),
                    link: place.expect("a router's neighbours are at its links"),
                }
            })
        });
        let pairs = pairs(design, flows, reach, seed);
        let flows = (FIRST_PORT..).zip(pairs).map(|(port, (from, to))| Flow {
            from,
            to,
            address: design.addressing.router(to),
            port,
            bytes,
        });
        Description {
            routers: graph.len(),
            addresses: (0..graph.len())
                .map(|n| (n, design.addressing.router(n)))
                .collect(),
            routes: routes.collect(),
            links,
            flows: flows.collect(),
        }
    }
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "routers {}", self.routers)?;
        for (router, address) in &self.addresses {
            writeln!(f, "address {router} {address}")?;
        }
        for link in &self.links {
            let [(a, at_a), (b, at_b)] = link.ends;
            let Link {
                rate, delay, queue, ..
            } = link;
            writeln!(f, "link {a} {at_a} {b} {at_b} {rate} {delay} {queue}")?;
        }
        for route in &self.routes {
            let Route {
                router,
                prefix,
                length,
                gateway,
                link,
            } = route;
            writeln!(f, "route {router} {prefix} {length} {gateway} {link}")?;
        }
        for flow in &self.flows {
            let Flow {
                from,
                to,
                address,
                port,
                bytes,
            } = flow;
            writeln!(f, "flow {from} {to} {address} {port} {bytes}")?;
        }
        Ok(())
    }
}

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// How many routers there are.
    Routers(usize),
    /// One has an address.
    Address(usize, Ipv4Addr),
    /// Two are joined.
    Link(Link),
    /// One knows a route.
    Route(Route),
    /// Some bytes go from one to another one.
    Flow(Flow),
}

impl FromStr for Line {
    type Err = SideError;

    fn from_str(line: &str) -> Result<Line, SideError> {
        let words = &mut line.split_whitespace();
        let read = match words.next() {
            Some("routers") => next(words).map(Line::Routers),
            Some("address") => address(words).map(|(router, own)| Line::Address(router, own)),
            Some("link") => link(words).map(Line::Link),
            Some("route") => route(words).map(Line::Route),
            Some("flow") => flow(words).map(Line::Flow),
            _ => None,
        };
        match (read, words.next()) {
            (Some(read), None) => Ok(read),
            _ => Err(SideError::new(format!("not understood: {line}"))),
        }
    }
}

fn next<T: FromStr>(words: &mut SplitWhitespace<'_>) -> Option<T> {
    words.next()?.parse().ok()
}

fn address(words: &mut SplitWhitespace<'_>) -> Option<(usize, Ipv4Addr)> {
    Some((next(words)?, next(words)?))
}

fn link(words: &mut SplitWhitespace<'_>) -> Option<Link> {
    Some(Link {
        ends: [address(words)?, address(words)?],
        rate: next(words)?,
        delay: next(words)?,
        queue: next(words)?,
    })
}

fn route(words: &mut SplitWhitespace<'_>) -> Option<Route> {
    Some(Route {
        router: next(words)?,
        prefix: next(words)?,
        length: next(words)?,
        gateway: next(words)?,
        link: next(words)?,
    })
}

fn flow(words: &mut SplitWhitespace<'_>) -> Option<Flow> {
    Some(Flow {
        from: next(words)?,
        to: next(words)?,
        address: next(words)?,
        port: next(words)?,
        bytes: next(words)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scale::graph::Shape;

    #[test]
    fn what_is_written_can_be_read() {
        let design = Design::new(Shape::Random, 30, 1).unwrap();
        let described = Description::of(&design, 7, 1000, 5, 1);
        assert_eq!((described.routers, described.links.len()), (30, 45));
        assert_eq!(described.flows.len(), 7);
        let mut read = Description::default();
        for line in described.to_string().lines() {
            match line.parse().unwrap() {
                Line::Routers(count) => read.routers = count,
                Line::Address(router, address) => read.addresses.push((router, address)),
                Line::Link(link) => read.links.push(link),
                Line::Route(route) => read.routes.push(route),
                Line::Flow(flow) => read.flows.push(flow),
            }
        }
        assert_eq!(read, described);
    }

    #[test]
    fn what_is_no_description_is_an_error() {
        for text in ["router 3", "routers", "routers 3 4", "address 0 198.18.0"] {
            let error = text.parse::<Line>().unwrap_err();
            assert_eq!(error.to_string(), format!("not understood: {text}"));
        }
    }
}

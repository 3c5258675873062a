//! Pairs of stations on one link whose addresses have no prefix in common, and how each finds the
//! other. The same table is used between vnets and between a vnet and the Linux kernel.

use vnet::{NextHop, Vnet};

/// One of two stations on a link.
pub struct Station {
    /// Addresses on the interface to the link.
    pub on_link: &'static [&'static str],
    /// Addresses on the loopback interface.
    pub on_loopback: &'static [&'static str],
    /// Routes by the link: a prefix, and the gateway when there is one. A gateway to which none of
    /// the routes before it leads is given as on-link.
    pub routes: &'static [(&'static str, Option<Gateway>)],
    /// The address at which the other one pings it.
    pub pinged_at: &'static str,
}

/// A gateway on the link.
#[derive(Clone, Copy)]
pub enum Gateway {
    /// To which another route leads.
    Routed(&'static str),
    /// To which none does.
    OnLink(&'static str),
}

/// Two stations.
pub struct Pair {
    /// What is special about it.
    pub name: &'static str,
    /// Both; each can ping the other.
    pub stations: [Station; 2],
}

const fn station(
    on_link: &'static [&'static str],
    on_loopback: &'static [&'static str],
    routes: &'static [(&'static str, Option<Gateway>)],
    pinged_at: &'static str,
) -> Station {
    Station {
        on_link,
        on_loopback,
        routes,
        pinged_at,
    }
}

/// Every way in which neighbours may lack a common prefix.
pub const PAIRS: &[Pair] = &[
    Pair {
        name: "a route to the link, for an address outside its prefix",
        stations: [
            station(
                &["192.0.2.1/24"],
                &[],
                &[("203.0.113.9/32", None)],
                "192.0.2.1",
            ),
            station(&["192.0.2.2/24", "203.0.113.9/32"], &[], &[], "203.0.113.9"),
        ],
    },
    Pair {
        name: "two prefixes on one link",
        stations: [
            station(
                &["192.0.2.1/24"],
                &[],
                &[("198.51.100.0/24", None)],
                "192.0.2.1",
            ),
            station(
                &["198.51.100.2/24"],
                &[],
                &[("192.0.2.0/24", None)],
                "198.51.100.2",
            ),
        ],
    },
    Pair {
        name: "a longer prefix than the neighbour's",
        stations: [
            station(&["192.0.2.1/24"], &[], &[], "192.0.2.1"),
            station(
                &["192.0.2.130/25"],
                &[],
                &[("192.0.2.1/32", None)],
                "192.0.2.130",
            ),
        ],
    },
    Pair {
        name: "32 bits at both ends",
        stations: [
            station(
                &["192.0.2.1/32"],
                &[],
                &[("198.51.100.2/32", None)],
                "192.0.2.1",
            ),
            station(
                &["198.51.100.2/32"],
                &[],
                &[("192.0.2.1/32", None)],
                "198.51.100.2",
            ),
        ],
    },
    Pair {
        name: "no addresses on the link at either end",
        stations: [
            station(
                &[],
                &["192.0.2.1/32"],
                &[("198.51.100.2/32", None)],
                "192.0.2.1",
            ),
            station(
                &[],
                &["198.51.100.2/32"],
                &[("192.0.2.1/32", None)],
                "198.51.100.2",
            ),
        ],
    },
    Pair {
        name: "no addresses on the link at one end",
        stations: [
            station(
                &[],
                &["192.0.2.1/32"],
                &[("198.51.100.0/24", None)],
                "192.0.2.1",
            ),
            station(
                &["198.51.100.2/24"],
                &[],
                &[("192.0.2.1/32", None)],
                "198.51.100.2",
            ),
        ],
    },
    Pair {
        name: "a gateway outside the prefix, by a route to the link",
        stations: [
            station(
                &["192.0.2.1/24"],
                &[],
                &[
                    ("198.51.100.2/32", None),
                    ("203.0.113.0/24", Some(Gateway::Routed("198.51.100.2"))),
                ],
                "192.0.2.1",
            ),
            station(
                &["198.51.100.2/32"],
                &["203.0.113.9/32"],
                &[("192.0.2.0/24", None)],
                "203.0.113.9",
            ),
        ],
    },
    Pair {
        name: "gateways that nothing but the route to them says are on the link",
        stations: [
            station(
                &["192.0.2.1/24"],
                &[],
                &[("0.0.0.0/0", Some(Gateway::OnLink("198.51.100.2")))],
                "192.0.2.1",
            ),
            station(
                &["198.51.100.2/24"],
                &["203.0.113.9/32"],
                &[("0.0.0.0/0", Some(Gateway::OnLink("192.0.2.1")))],
                "203.0.113.9",
            ),
        ],
    },
];

impl Station {
    /// Gives a vnet the addresses and routes, the link being at `interface`.
    ///
    /// # Panics
    /// When it has some of them already.
    pub fn set_up(&self, vnet: &Vnet, interface: &str) {
        let on = |interface, addresses: &[&str]| {
            for address in addresses {
                let address = address.parse().expect("an address");
                vnet.add_address(interface, address)
                    .expect("the address is free");
            }
        };
        on(interface, self.on_link);
        on("lo0", self.on_loopback);
        for (prefix, gateway) in self.routes {
            let via = match gateway {
                None => NextHop::Interface(interface.to_owned()),
                Some(Gateway::Routed(g)) => NextHop::Gateway(g.parse().expect("an address")),
                Some(Gateway::OnLink(g)) => NextHop::OnLink {
                    gateway: g.parse().expect("an address"),
                    interface: interface.to_owned(),
                },
            };
            vnet.add_route(prefix.parse().expect("a prefix"), via)
                .expect("the route is new");
        }
    }

    /// The arguments of `ip` that give the kernel the same, the link being at `interface`.
    pub fn ip_commands(&self, interface: &str) -> Vec<String> {
        let mut commands = vec![
            "link set lo up".to_owned(),
            format!("link set {interface} up"),
        ];
        for (at, addresses) in [(interface, self.on_link), ("lo", self.on_loopback)] {
            commands.extend(addresses.iter().map(|a| format!("addr add {a} dev {at}")));
        }
        commands.extend(self.routes.iter().map(|(prefix, gateway)| match gateway {
            None => format!("route add {prefix} dev {interface}"),
            Some(Gateway::Routed(g)) => format!("route add {prefix} via {g}"),
            Some(Gateway::OnLink(g)) => {
                format!("route add {prefix} via {g} dev {interface} onlink")
            }
        }));
        commands
    }
}

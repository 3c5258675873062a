//! The state of one version of IP in one vnet.

use std::sync::LazyLock;

use super::addr::{AddrError, LocalAddrs};
use super::family::{Family, V4, V6};
use super::fib::{Fib, FibError, NextHop, Origin, Route};
use super::multicast::Groups;
use super::reassembly::Reassembly;
use crate::base::id::IfId;
use crate::base::on_use::Part;
use crate::base::rng::Rng;
use crate::base::stats::Stats;
use crate::base::switch::Switch;

/// Whether packets for other hosts are passed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Forwarding {
    /// This is a host (RFC 1122 section 3.1: a host MUST NOT forward unless told to).
    #[default]
    Disabled,
    /// This is a router.
    Enabled,
}

/// Whether a router tells hosts of a shorter way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Redirects {
    /// No redirects are sent.
    #[default]
    Silent,
    /// Redirects are sent (RFC 1812 section 5.2.7.2).
    Sent,
}

/// Whether a packet must come from where its source is (RFC 3704). The numbers are those of Linux.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ReversePath {
    /// It may come from anywhere.
    #[default]
    Unchecked = 0,
    /// It must come in by the interface by which packets for its source leave (section 2.2).
    Strict = 1,
    /// There must be a way to its source, by whatever interface (section 2.4).
    Loose = 2,
}

/// The switches of a version of IP in one vnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tunables {
    /// Host or router.
    pub forwarding: Forwarding,
    /// Whether a router sends redirects.
    pub redirects: Redirects,
    /// Whether a packet must come from where its source is.
    pub reverse_path: ReversePath,
    /// Whether a router answers neighbour discovery for those behind it (RFC 4389); of IPv4, it is with ARP.
    pub proxies: Switch,
    /// Whether a router passes on what is for everybody on another of its links (RFC 1812 section 5.3.5.2; off by
    /// default by RFC 2644).
    pub directed_broadcasts: Switch,
    /// The time to live of packets that start here (RFC 1122 section 3.2.1.7: configurable).
    pub default_ttl: u8,
}

impl Default for Tunables {
    fn default() -> Tunables {
        Tunables {
            forwarding: Forwarding::default(),
            redirects: Redirects::default(),
            reverse_path: ReversePath::default(),
            proxies: Switch::Off,
            directed_broadcasts: Switch::Off,
            default_ttl: 64,
        }
    }
}

/// The label of the stream from which it is drawn when routers are told of groups.
const GROUPS: u64 = 3376;

/// A version of IP in one vnet. Without addresses and routes it holds no memory of its own.
#[derive(Debug)]
pub(crate) struct IpState<F: Family> {
    /// The vnet's addresses.
    pub addrs: LocalAddrs<F>,
    /// Its routes.
    pub fib: Fib<F>,
    /// Its multicast groups.
    pub groups: Groups<F>,
    /// Datagrams that lack fragments.
    pub reassembly: Reassembly<F>,
    /// Its switches.
    pub tunables: Tunables,
    next_ident: u32,
}

/// Why an interface did not get an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AddressError {
    /// Because of the address.
    #[error(transparent)]
    Addr(#[from] AddrError),
    /// Because of the route to its prefix.
    #[error(transparent)]
    Route(#[from] FibError),
}

/// What the randomness of a version of IP follows from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seeds {
    groups: u64,
    reassembly: u64,
    ident: u32,
}

impl Seeds {
    /// Draws them.
    pub(crate) fn draw(rng: &mut Rng) -> Seeds {
        Seeds {
            // Not from the vnet's own stream, whose draws would be others then.
            groups: rng.clone().split(GROUPS).u64(),
            reassembly: rng.u64(),
            ident: rng.u32(),
        }
    }
}

impl Part for IpState<V6> {
    type Seed = Seeds;

    fn seeded(seeds: Seeds) -> IpState<V6> {
        IpState::with(seeds)
    }

    fn unused() -> &'static IpState<V6> {
        static UNUSED: LazyLock<IpState<V6>> = LazyLock::new(|| IpState::new(&mut Rng::seeded(0)));
        &UNUSED
    }
}

impl<F: Family> IpState<F> {
    /// No addresses; identifications start at a random number.
    pub(crate) fn new(rng: &mut Rng) -> IpState<F> {
        IpState::with(Seeds::draw(rng))
    }

    fn with(seeds: Seeds) -> IpState<F> {
        IpState {
            addrs: LocalAddrs::default(),
            fib: Fib::new(),
            groups: Groups::new(seeds.groups),
            reassembly: Reassembly::new(seeds.reassembly),
            tunables: Tunables::default(),
            next_ident: seeds.ident,
        }
    }

    /// Gives an interface an address, and a route to the rest of its prefix unless there is none
    /// (a single address) or the interface has one already. The route's metric is the lowest that is free.
    ///
    /// # Errors
    /// [`AddressError`]; nothing has changed then.
    pub(crate) fn add_address(&mut self, ifid: IfId, net: F::Net) -> Result<(), AddressError> {
        self.addrs.add(ifid, net)?;
        if F::prefix_len(net) == F::BITS || self.fib.connected(net, ifid).is_some() {
            return Ok(());
        }
        let route = Route {
            metric: self.fib.free_metric(net).unwrap_or(u32::MAX),
            ..Route::new(net, NextHop::Direct, ifid, Origin::Connected)
        };
        self.fib.add(route).map_err(|error| {
            let removed = self.addrs.remove(ifid, F::addr(net));
            debug_assert!(removed.is_ok(), "it was just added");
            error.into()
        })
    }

    /// Takes the route to a prefix away, when no address of the interface lies in it.
    pub(super) fn disconnect(&mut self, ifid: IfId, prefix: F::Net) {
        let mut on = self.addrs.on_interface(ifid);
        if !on.any(|a| F::trunc(a.net) == prefix) {
            self.fib.remove_connected(prefix, ifid);
        }
    }

    /// RFC 1812 section 5.2.7.2: a router that sends redirects tells a host on the link of the next
    /// hop that it has a shorter way.
    pub(crate) fn may_redirect(&self, ifid: IfId, src: F::Addr, hop: F::Addr) -> bool {
        self.tunables.redirects == Redirects::Sent
            && self.addrs.is_on_link(ifid, src)
            && self.addrs.is_on_link(ifid, hop)
    }

    /// Forgets what belongs to an interface that goes away: addresses, routes and groups.
    pub(crate) fn remove_interface(&mut self, ifid: IfId) {
        self.addrs.remove_interface(ifid);
        self.fib.remove_interface(ifid);
        self.groups.remove_interface(ifid);
    }

    /// Releases everything. Packets that were held count as dropped.
    pub(crate) fn teardown(&mut self, stats: &mut Stats) {
        let IpState {
            addrs,
            fib,
            groups,
            reassembly,
            tunables: _,
            next_ident: _,
        } = self;
        *addrs = Default::default();
        fib.reset();
        groups.reset();
        reassembly.teardown(stats);
    }
}

impl IpState<V4> {
    /// The first of `count` consecutive identifications for packets that may be fragmented.
    ///
    /// RFC 6864 section 4.2 wants them not to repeat within a datagram's lifetime; one counter
    /// for all destinations is the simplest that satisfies it at the rates where anything can.
    pub(crate) fn take_idents(&mut self, count: u32) -> u32 {
        let first = self.next_ident;
        self.next_ident = first.wrapping_add(count);
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ip::testing::{interfaces, ip};
    use ipnet::Ipv4Net;

    fn net(text: &str) -> Ipv4Net {
        text.parse().expect("a prefix")
    }

    #[test]
    fn an_address_brings_the_route_to_its_prefix() {
        let [a, b] = interfaces();
        let mut state = IpState::<V4>::new(&mut Rng::seeded(1));
        let way = |state: &mut IpState<V4>| state.fib.lookup(ip("10.0.0.7")).map(|hit| hit.ifid);
        assert_eq!(state.add_address(a, net("10.0.0.1/24")), Ok(()));
        assert_eq!(state.add_address(a, net("10.0.0.2/24")), Ok(()));
        assert_eq!(state.add_address(a, net("10.9.0.1/32")), Ok(()));
        assert_eq!(state.add_address(b, net("10.0.0.3/24")), Ok(()));
        assert_eq!((state.fib.len(), way(&mut state)), (2, Some(a)));
        let prefix = net("10.0.0.0/24");
        for (addr, leads_to) in [("10.0.0.1", a), ("10.0.0.2", b)] {
            assert!(state.addrs.remove(a, ip(addr)).is_ok());
            state.disconnect(a, prefix);
            assert_eq!(way(&mut state), Some(leads_to));
        }
        assert_eq!(way(&mut state), Some(b));
        state.remove_interface(b);
        assert_eq!((state.addrs.len(), state.fib.len()), (1, 0));
    }

    #[test]
    fn a_full_table_leaves_no_address_behind() {
        let [a, _] = interfaces();
        let mut state = IpState::<V4>::new(&mut Rng::seeded(1));
        state.fib.set_max_routes(0);
        let refused = state.add_address(a, net("10.0.0.1/24"));
        assert_eq!(refused, Err(AddressError::Route(FibError::Limit(0))));
        assert!(state.addrs.is_empty());
    }

    #[test]
    fn teardown_leaves_nothing() {
        let [a, _] = interfaces();
        let mut state = IpState::<V4>::new(&mut Rng::seeded(1));
        assert_eq!(state.add_address(a, net("10.0.0.1/24")), Ok(()));
        state.groups.join(ip("239.1.1.1"), a);
        assert_eq!((state.addrs.len(), state.fib.len()), (1, 1));
        state.teardown(&mut Stats::default());
        assert_eq!((state.addrs.len(), state.fib.len()), (0, 0));
        assert_eq!(state.groups.len(), 0);
    }
}

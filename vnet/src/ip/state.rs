//! What one vnet's IPv4 consists of.

use super::addr::LocalAddrs;
use super::fib::Fib;
use super::multicast::Groups;
use super::reassembly::{Reassembly, Released};
use crate::base::rng::Rng;

/// Whether packets for other hosts are passed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Forwarding {
    /// This is a host (RFC 1122 section 3.1: a host MUST NOT forward unless told to).
    #[default]
    Disabled,
    /// This is a router.
    Enabled,
}

/// Whether a router tells hosts of a shorter way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Redirects {
    /// No redirects are sent.
    #[default]
    Silent,
    /// Redirects are sent (RFC 1812 section 5.2.7.2).
    Sent,
}

/// The switches of one vnet's IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunables {
    /// Host or router.
    pub forwarding: Forwarding,
    /// Whether a router sends redirects.
    pub redirects: Redirects,
    /// The time to live of packets that start here (RFC 1122 section 3.2.1.7: configurable).
    pub default_ttl: u8,
}

impl Default for Tunables {
    fn default() -> Tunables {
        Tunables {
            forwarding: Forwarding::default(),
            redirects: Redirects::default(),
            default_ttl: 64,
        }
    }
}

/// One vnet's IPv4. Without addresses and routes it holds no memory of its own.
#[derive(Debug)]
pub struct Ipv4State {
    /// The vnet's addresses.
    pub addrs: LocalAddrs,
    /// Its routes.
    pub fib: Fib,
    /// Its multicast groups.
    pub groups: Groups,
    /// Datagrams that lack fragments.
    pub reassembly: Reassembly,
    /// Its switches.
    pub tunables: Tunables,
    next_ident: u16,
}

/// What [`Ipv4State::teardown`] released.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TornDown {
    /// Addresses.
    pub addrs: usize,
    /// Routes.
    pub routes: usize,
    /// Groups.
    pub groups: usize,
    /// What waited for fragments.
    pub reassembly: Released,
}

impl Ipv4State {
    /// IPv4 without addresses; identifications start at a random number.
    pub fn new(rng: &mut Rng) -> Ipv4State {
        Ipv4State {
            addrs: LocalAddrs::new(),
            fib: Fib::new(),
            groups: Groups::default(),
            reassembly: Reassembly::new(rng.u64()),
            tunables: Tunables::default(),
            next_ident: rng.u32() as u16,
        }
    }

    /// The first of `count` consecutive identifications for packets that may be fragmented.
    ///
    /// RFC 6864 section 4.2 wants them not to repeat within a datagram's lifetime; one counter
    /// for all destinations is the simplest that satisfies it at the rates where anything can.
    pub fn take_idents(&mut self, count: u16) -> u16 {
        let first = self.next_ident;
        self.next_ident = first.wrapping_add(count);
        first
    }

    /// Forgets what belongs to an interface that goes away: addresses, routes and groups.
    pub fn remove_interface(&mut self, ifid: crate::base::id::IfId) {
        self.addrs.remove_interface(ifid);
        self.fib.remove_interface(ifid);
        self.groups.remove_interface(ifid);
    }

    /// Releases everything and says what there was. Packets that were held count as dropped.
    pub fn teardown(&mut self, stats: &mut crate::base::stats::Stats) -> TornDown {
        let Ipv4State {
            addrs,
            fib,
            groups,
            reassembly,
            tunables: _,
            next_ident: _,
        } = self;
        TornDown {
            addrs: std::mem::take(addrs).len(),
            routes: fib.reset(),
            groups: std::mem::take(groups).len(),
            reassembly: reassembly.teardown(stats),
        }
    }
}

//! Local ports: their owners, and the choice of ephemeral ports (RFC 6056).
//!
//! Conflicts follow the rule of BSD: two owners conflict if they have the same port and the same address, or if either
//! address is unspecified, unless both allow it. Address families do not conflict: an IPv6 socket at `[::]:80` and
//! `0.0.0.0:80` are two sockets. A dual-stack socket at `[::]:80` holds both, and so conflicts with either.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use smallvec::SmallVec;

use super::domain::Domain;
use super::error::SocketError;
use crate::base::map::Map;
use crate::base::rng::Rng;

/// Where ephemeral ports come from (RFC 6335, section 6).
pub(crate) const EPHEMERAL: RangeInclusive<u16> = 49_152..=65_535;

/// Whether a port may be shared with another owner that allows it too (`SO_REUSEADDR`, `SO_REUSEPORT`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum Reuse {
    /// The address belongs to this socket alone.
    #[default]
    Exclusive,
    /// Other sockets that allow it may have the same address.
    Shared,
    /// As [`Reuse::Shared`], and sockets that have exactly the same address are a group (`SO_REUSEPORT`): each
    /// connection and each datagram goes to one of them, by a hash of both ends, which a socket that joins or leaves the
    /// group changes for as few as possible. Listeners at one address must all say so.
    Balanced,
}

/// The ports of one protocol in one vnet. `K` names an owner.
#[derive(Debug)]
pub(crate) struct Ports<K> {
    by_port: Map<u16, SmallVec<[Holder<K>; 1]>>,
}

#[derive(Clone, Copy, Debug)]
struct Holder<K> {
    addr: IpAddr,
    reuse: Reuse,
    owner: K,
}

impl<K: Copy + Eq> Ports<K> {
    /// No port is taken; allocates nothing.
    pub(crate) fn seeded(seed: u64) -> Ports<K> {
        Ports {
            by_port: Map::seeded(seed),
        }
    }

    /// Takes `addr` for `owner` and returns the address taken. Port 0 asks for an ephemeral
    /// port: one that nobody holds, on any address that would conflict.
    ///
    /// # Errors
    /// [`SocketError::AddrInUse`] when the port is taken, [`SocketError::PortsExhausted`] when
    /// every ephemeral port is.
    pub(crate) fn bind(
        &mut self,
        rng: &mut Rng,
        addr: SocketAddr,
        domain: Domain,
        reuse: Reuse,
        owner: K,
    ) -> Result<SocketAddr, SocketError> {
        let addr = if addr.port() == 0 {
            // Chosen for the caller, who cannot have meant to share it with anyone.
            let at = |port| SocketAddr::new(addr.ip(), port);
            let free = |port| !self.conflicts(at(port), domain, Reuse::Exclusive);
            at(ephemeral(rng, free).ok_or(SocketError::PortsExhausted)?)
        } else if self.conflicts(addr, domain, reuse) {
            return Err(SocketError::AddrInUse);
        } else {
            addr
        };
        let holders = self.by_port.get_or_insert_with(addr.port(), SmallVec::new);
        for addr in held(addr.ip(), domain) {
            holders.push(Holder { addr, reuse, owner });
        }
        Ok(addr)
    }

    /// Gives `addr` back. Nothing happens when `owner` does not hold it.
    pub(crate) fn release(&mut self, addr: SocketAddr, domain: Domain, owner: K) {
        let Some(holders) = self.by_port.get_mut(&addr.port()) else {
            return;
        };
        for ip in held(addr.ip(), domain) {
            let is_it = |h: &Holder<K>| h.addr == ip && h.owner == owner;
            if let Some(at) = holders.iter().position(is_it) {
                holders.remove(at);
            }
        }
        if holders.is_empty() {
            self.by_port.remove(&addr.port());
        }
    }

    /// Who gets a packet for `addr`: the holder of exactly that address before the holder of the
    /// unspecified one; among several that share it, the one who came last.
    #[inline]
    pub(crate) fn lookup(&self, addr: SocketAddr) -> Option<K> {
        let holders = self.by_port.get(&addr.port())?;
        let mut wildcard = None;
        for h in holders.iter().rev() {
            if h.addr == addr.ip() {
                return Some(h.owner);
            }
            if wildcard.is_none() && h.addr.is_unspecified() && h.addr.is_ipv4() == addr.is_ipv4() {
                wildcard = Some(h.owner);
            }
        }
        wildcard
    }

    /// As [`Ports::lookup`], among owners that `listens` says yes of; among those of a group, the one to which `weight`
    /// gives most.
    // Rendezvous hashing: who joins takes a share from each, and what one had who leaves is shared by the others.
    pub(crate) fn choose(
        &self,
        addr: SocketAddr,
        listens: impl Fn(K) -> bool,
        weight: impl Fn(K) -> u64,
    ) -> Option<K> {
        let holders = self.by_port.get(&addr.port())?;
        let exact = |h: &&Holder<K>| h.addr == addr.ip();
        let any = |h: &&Holder<K>| h.addr.is_unspecified() && h.addr.is_ipv4() == addr.is_ipv4();
        let there = || holders.iter().rev().filter(|h| listens(h.owner));
        let first = there().find(exact).or_else(|| there().find(any))?;
        if first.reuse != Reuse::Balanced {
            return Some(first.owner);
        }
        let group = there().filter(|h| h.addr == first.addr && h.reuse == Reuse::Balanced);
        group.map(|h| h.owner).max_by_key(|owner| weight(*owner))
    }

    /// True when somebody holds exactly `addr` (not the unspecified address instead) whom `is` says yes of, and does not
    /// share it as one of a group with one who says `reuse`.
    pub(crate) fn is_held(
        &self,
        addr: SocketAddr,
        domain: Domain,
        reuse: Reuse,
        is: impl Fn(K) -> bool,
    ) -> bool {
        let Some(holders) = self.by_port.get(&addr.port()) else {
            return false;
        };
        let one_group = |h: &Holder<K>| reuse == Reuse::Balanced && h.reuse == Reuse::Balanced;
        held(addr.ip(), domain).any(|ip| {
            holders
                .iter()
                .any(|h| h.addr == ip && is(h.owner) && !one_group(h))
        })
    }

    /// True when `addr` cannot be taken by one who says `reuse`.
    pub(crate) fn conflicts(&self, addr: SocketAddr, domain: Domain, reuse: Reuse) -> bool {
        let Some(holders) = self.by_port.get(&addr.port()) else {
            return false;
        };
        held(addr.ip(), domain).any(|ip| {
            holders.iter().any(|h| {
                let overlap = h.addr == ip
                    || (h.addr.is_ipv4() == ip.is_ipv4()
                        && (h.addr.is_unspecified() || ip.is_unspecified()));
                overlap && (reuse == Reuse::Exclusive || h.reuse == Reuse::Exclusive)
            })
        })
    }

    /// True when no address is held.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.by_port.is_empty()
    }

    /// Releases every address and gives the memory back.
    pub(crate) fn reset(&mut self) {
        self.by_port.reset();
    }
}

/// The addresses that a socket bound to `ip` takes.
fn held(ip: IpAddr, domain: Domain) -> impl Iterator<Item = IpAddr> {
    [Some(ip), domain.also(ip)].into_iter().flatten()
}

/// The first ephemeral port, from a random one on, for which `free` holds.
// RFC 6056 3.3.1: a random start, then one after the other, each tried once at most.
pub(crate) fn ephemeral(rng: &mut Rng, free: impl Fn(u16) -> bool) -> Option<u16> {
    let count = u32::from(*EPHEMERAL.end() - *EPHEMERAL.start()) + 1;
    let first = rng.below(count);
    (0..count)
        .map(|i| EPHEMERAL.start() + ((first + i) % count) as u16)
        .find(|port| free(*port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;
    use proptest::prelude::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().expect("a socket address")
    }

    #[test]
    fn the_exact_address_is_preferred_and_the_unspecified_one_overlaps() {
        let mut rng = Rng::seeded(1);
        let mut ports = Ports::seeded(1);
        let shared = Reuse::Shared;
        assert!(
            ports
                .bind(&mut rng, at("0.0.0.0:53"), Domain::V4, shared, 'w')
                .is_ok()
        );
        assert!(
            ports
                .bind(&mut rng, at("10.0.0.1:53"), Domain::V4, shared, 'x')
                .is_ok()
        );
        assert_eq!(
            ports.bind(
                &mut rng,
                at("10.0.0.2:53"),
                Domain::V4,
                Reuse::Exclusive,
                'y'
            ),
            Err(SocketError::AddrInUse)
        );
        assert!(
            ports
                .bind(&mut rng, at("[::]:53"), Domain::V6, Reuse::Exclusive, 'z')
                .is_ok()
        );
        assert_eq!(ports.lookup(at("10.0.0.1:53")), Some('x'));
        assert_eq!(ports.lookup(at("10.0.0.9:53")), Some('w'));
        assert_eq!(ports.lookup(at("[2001:db8::1]:53")), Some('z'));
        ports.release(at("10.0.0.1:53"), Domain::V4, 'x');
        assert_eq!(ports.lookup(at("10.0.0.1:53")), Some('w'));
        ports.reset();
        assert_eq!(ports.lookup(at("10.0.0.9:53")), None);
        assert!(ports.is_empty());
    }

    #[test]
    fn a_dual_stack_socket_holds_the_port_in_both_families() {
        let mut rng = Rng::seeded(1);
        let mut ports = Ports::seeded(1);
        let (shared, exclusive) = (Reuse::Shared, Reuse::Exclusive);
        let (all, both) = (at("[::]:80"), Domain::Dual);
        let taken = Err(SocketError::AddrInUse);
        assert_eq!(ports.bind(&mut rng, all, both, shared, 'd'), Ok(all));
        for (addr, domain) in [("0.0.0.0:80", Domain::V4), ("[::]:80", Domain::V6)] {
            assert!(ports.is_held(at(addr), domain, shared, |_| true));
            assert_eq!(
                ports.bind(&mut rng, at(addr), domain, exclusive, 'x'),
                taken
            );
        }
        let mapped = at("10.0.0.1:80");
        assert_eq!(ports.bind(&mut rng, mapped, both, exclusive, 'x'), taken);
        assert_eq!(ports.bind(&mut rng, mapped, both, shared, 'm'), Ok(mapped));
        assert_eq!(ports.lookup(at("10.0.0.1:80")), Some('m'));
        assert_eq!(ports.lookup(at("10.0.0.2:80")), Some('d'));
        assert_eq!(ports.lookup(at("[2001:db8::1]:80")), Some('d'));
        ports.release(all, both, 'd');
        ports.release(mapped, both, 'm');
        assert!(ports.is_empty());
        // One that speaks IPv6 alone leaves IPv4 to others, and the other way round.
        let v4 = at("0.0.0.0:80");
        assert_eq!(
            ports.bind(&mut rng, all, Domain::V6, exclusive, '6'),
            Ok(all)
        );
        assert_eq!(ports.bind(&mut rng, v4, Domain::V4, exclusive, '4'), Ok(v4));
        assert_eq!(ports.bind(&mut rng, all, both, exclusive, 'd'), taken);
        let chosen = ports.bind(&mut rng, at("[::]:0"), both, shared, 'd');
        let port = chosen.map(|addr| addr.port()).expect("a free one");
        assert_eq!(
            ports.lookup(SocketAddr::new([10, 0, 0, 1].into(), port)),
            Some('d')
        );
    }

    #[test]
    fn every_ephemeral_port_can_be_had_once() {
        let mut rng = Rng::seeded(7);
        let mut ports = Ports::seeded(7);
        for i in 0..16_384 {
            let got = ports.bind(&mut rng, at("0.0.0.0:0"), Domain::V4, Reuse::Shared, i);
            assert!(got.is_ok_and(|a| a.port() >= 49_152));
        }
        assert_eq!(
            ports.bind(&mut rng, at("10.0.0.1:0"), Domain::V4, Reuse::Shared, 0),
            Err(SocketError::PortsExhausted)
        );
    }

    proptest! {
        /// Agrees with a list that is searched from end to end.
        #[test]
        fn behaves_as_a_list(ops in prop::collection::vec(
            (0u8..4, 1u16..4, any::<bool>(), 0u8..3, any::<bool>()), 0..60))
        {
            let addr = |a: u8, port: u16| SocketAddr::new([10 * u8::from(a > 0), 0, 0, a].into(), port);
            let mut rng = Rng::seeded(3);
            let mut ports = Ports::seeded(3);
            let mut model: Vec<(SocketAddr, Reuse, u8)> = Vec::new();
            for (a, port, share, owner, bind) in ops {
                let (addr, reuse) = (addr(a, port), if share { Reuse::Shared } else { Reuse::Exclusive });
                if bind {
                    let clash = model.iter().any(|(m, r, _)| m.port() == port
                        && (*m == addr || m.ip().is_unspecified() || a == 0)
                        && !(*r == Reuse::Shared && share));
                    prop_assert_eq!(ports.bind(&mut rng, addr, Domain::V4, reuse, owner).is_err(), clash);
                    if !clash {
                        model.push((addr, reuse, owner));
                    }
                } else {
                    ports.release(addr, Domain::V4, owner);
                    if let Some(i) = model.iter().position(|m| m.0 == addr && m.2 == owner) {
                        model.remove(i);
                    }
                }
                let exact = model.iter().rev().find(|m| m.0 == addr);
                let any = model.iter().rev().find(|m| m.0.port() == port && m.0.ip().is_unspecified());
                prop_assert_eq!(ports.lookup(addr), exact.or(any).map(|m| m.2));
                prop_assert_eq!(ports.is_empty(), model.is_empty());
            }
        }
    }
}

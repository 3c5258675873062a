//! What paths take that are narrower than our own links (RFC 1191, RFC 8201).
//!
//! Only the source cuts IPv6 packets, and those of IPv4 that say so are cut by nobody, so it has to know. TCP remembers for
//! each connection what it was told; this is for all others, and for connections to come. Datagrams of both families that may
//! be cut are cut here to what their path takes.
//!
//! Anybody can claim that a path is narrow. A claim is believed only about a destination to which a packet
//! went that was long enough to be refused (RFC 8201 section 4, RFC 5927 section 7.2); whose packet it was
//! is for the caller to check. What is remembered is bounded, for each sender of claims as well.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use super::family::{Family, V4, V6};
use crate::base::on_use::part;
use crate::base::time::{Duration, Instant};
use crate::packet::header::zone;

/// The paths of one vnet in one family. Empty, it holds no memory.
#[derive(Debug)]
pub(crate) struct Paths<F: Family> {
    narrow: BTreeMap<F::Addr, Narrow<F>>,
    /// Where long packets went lately: a few in each bucket, the latest first.
    long: Vec<[F::Addr; BUCKET]>,
    /// How long something is remembered.
    pub lifetime: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Narrow<F: Family> {
    ip_mtu: u32,
    since: Instant,
    /// Who said so.
    by: F::Addr,
}

part!(Paths<V4>, const Paths::new());
part!(Paths<V6>, const Paths::new());

/// Paths that are remembered.
const MAX_PATHS: usize = 256;
/// Paths that are remembered on the word of one.
const MAX_PATHS_BY_ONE: usize = 64;
/// RFC 1191 section 6.3, RFC 8201 section 4: after ten minutes it is tried again whether more passes.
const LIFETIME: Duration = Duration::from_secs(600);
/// Buckets of destinations of long packets, a power of two.
const BUCKETS: usize = 64;
/// Destinations in each.
const BUCKET: usize = 4;

impl<F: Family> Paths<F> {
    /// Nothing is known.
    pub(crate) const fn new() -> Paths<F> {
        Paths {
            narrow: BTreeMap::new(),
            long: Vec::new(),
            lifetime: LIFETIME,
        }
    }

    /// Notes what the path to `dst` takes, as said by `by`. RFC 1191 section 3, RFC 8201 section 4: never more than it was
    /// known to. Who has said much gives up what it said first, and then the oldest makes room.
    pub(crate) fn learn(&mut self, now: Instant, by: F::Addr, dst: F::Addr, ip_mtu: u32) {
        let known = self.ip_mtu(now, dst);
        if known.is_some_and(|known| known <= ip_mtu) {
            return;
        }
        self.narrow.remove(&dst);
        if self.narrow.len() >= MAX_PATHS_BY_ONE {
            let lifetime = self.lifetime;
            self.narrow.retain(|_, path| !path.is_over(now, lifetime));
            self.make_room(MAX_PATHS_BY_ONE, |path| path.by == by);
            self.make_room(MAX_PATHS, |_| true);
        }
        let since = now;
        self.narrow.insert(dst, Narrow { ip_mtu, since, by });
    }

    /// Forgets the oldest of these paths if there are `limit` of them.
    fn make_room(&mut self, limit: usize, is_one: impl Fn(&Narrow<F>) -> bool) {
        let these = || self.narrow.iter().filter(|(_, path)| is_one(path));
        if these().count() >= limit
            && let Some((oldest, _)) = these().min_by_key(|(_, path)| path.since)
        {
            let oldest = *oldest;
            self.narrow.remove(&oldest);
        }
    }

    /// The destinations that are known to have narrow paths, in order, and what those take.
    pub(crate) fn narrow(&self, now: Instant) -> impl Iterator<Item = (F::Addr, u32)> {
        let known = self.narrow.iter().map(|(dst, path)| (*dst, path));
        let known = known.filter(move |(_, path)| !path.is_over(now, self.lifetime));
        known.map(|(dst, path)| (dst, path.ip_mtu))
    }

    /// True when nothing is known to be narrow.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.narrow.is_empty()
    }

    /// What the path to `dst` takes, if that is known to be less than our link.
    #[inline]
    pub(crate) fn ip_mtu(&self, now: Instant, dst: F::Addr) -> Option<u32> {
        let path = self.narrow.get(&dst)?;
        (!path.is_over(now, self.lifetime)).then_some(path.ip_mtu)
    }

    /// The same for a packet that is longer than what every path takes. It is noted that it goes there.
    pub(crate) fn send(&mut self, now: Instant, dst: F::Addr) -> Option<u32> {
        if self.long.is_empty() {
            self.long = vec![[F::UNSPECIFIED; BUCKET]; BUCKETS];
        }
        let bucket = &mut self.long[bucket::<F>(dst)];
        if bucket[0] != dst {
            let at = bucket.iter().position(|other| *other == dst);
            bucket[..=at.unwrap_or(BUCKET - 1)].rotate_right(1);
            bucket[0] = dst;
        }
        self.ip_mtu(now, dst)
    }

    /// True when such a packet went to `dst` lately.
    pub(crate) fn has_sent(&self, dst: F::Addr) -> bool {
        let bucket = self.long.get(bucket::<F>(dst));
        bucket.is_some_and(|bucket| bucket.contains(&dst))
    }

    /// Forgets everything.
    pub(crate) fn reset(&mut self) {
        *self = Paths::new();
    }
}

impl Paths<V6> {
    /// Forgets what is on the link of this number.
    pub(crate) fn forget_link(&mut self, number: u16) {
        let is_there = |dst: Ipv6Addr| zone::is_scoped(dst) && zone::split(dst).1 == number;
        self.narrow.retain(|dst, _| !is_there(*dst));
        for dst in self.long.iter_mut().flatten().filter(|dst| is_there(**dst)) {
            *dst = Ipv6Addr::UNSPECIFIED;
        }
    }
}

impl<F: Family> Narrow<F> {
    fn is_over(&self, now: Instant, lifetime: Duration) -> bool {
        now.since(self.since) >= lifetime
    }
}

/// The bucket of a destination. Whoever chooses destinations that share one gains nothing but that claims
/// about them are not believed.
fn bucket<F: Family>(dst: F::Addr) -> usize {
    F::mix(dst) as usize / (1 << (32 - BUCKETS.ilog2()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(secs)
    }

    fn ip(n: u128) -> Ipv6Addr {
        Ipv6Addr::from(n)
    }

    #[test]
    fn what_is_known_is_forgotten_and_bounded() {
        let router = ip(1 << 100);
        let mut paths = Paths::<V6>::new();
        paths.learn(at(0), router, ip(1), 1400);
        paths.learn(at(1), router, ip(1), 1450);
        assert_eq!(paths.ip_mtu(at(1), ip(1)), Some(1400));
        paths.learn(at(2), router, ip(1), 1280);
        assert_eq!(paths.ip_mtu(at(601), ip(1)), Some(1280));
        assert!(paths.narrow(at(601)).eq([(ip(1), 1280)]));
        assert!(paths.narrow(at(602)).eq([]));
        assert_eq!(paths.ip_mtu(at(602), ip(1)), None);
        paths.learn(at(602), router, ip(1), 1500);
        assert_eq!(paths.ip_mtu(at(602), ip(1)), Some(1500));
        // Many who speak push the oldest out, and one who speaks much only what it has said itself.
        for n in 2..=MAX_PATHS as u128 {
            paths.learn(at(603), ip(n << 64), ip(n), 1300);
        }
        assert_eq!(paths.ip_mtu(at(603), ip(1)), Some(1500));
        paths.learn(at(604), ip(9 << 100), ip(1000), 1300);
        assert_eq!(paths.ip_mtu(at(603), ip(1)), None);
        assert_eq!(paths.narrow.len(), MAX_PATHS);
        let mut paths = Paths::<V6>::new();
        paths.learn(at(0), router, ip(1), 1400);
        for n in 2..=1000 {
            paths.learn(at(1), ip(7 << 100), ip(n), 1300);
        }
        assert_eq!(paths.ip_mtu(at(1), ip(1)), Some(1400));
        assert_eq!(paths.narrow.len(), 1 + MAX_PATHS_BY_ONE);
        // What is over makes room first.
        paths.learn(at(601), router, ip(1), 1400);
        paths.learn(at(602), router, ip(2), 1400);
        assert_eq!(paths.narrow.len(), 2);
    }

    #[test]
    fn where_long_packets_went_is_known_for_a_while() {
        let mut paths = Paths::<V6>::new();
        assert!(!paths.has_sent(ip(1)) && !paths.has_sent(Ipv6Addr::UNSPECIFIED));
        for n in 1..=100u128 {
            assert_eq!(paths.send(at(0), ip(n)), None);
            assert!(paths.has_sent(ip(n)));
        }
        assert!(!paths.has_sent(ip(101)));
        for n in 1..=100_000u128 {
            paths.send(at(0), ip(n));
            paths.send(at(0), ip(7));
        }
        assert!(paths.has_sent(ip(7)), "it was used all the time");
        let known = (1..=100_000).filter(|n| paths.has_sent(ip(*n))).count();
        assert!(known <= BUCKETS * BUCKET);
        let there: Ipv6Addr = "fe80:3::5".parse().expect("an address");
        paths.send(at(0), there);
        paths.learn(at(0), ip(9), there, 1300);
        paths.forget_link(2);
        assert_eq!(
            (paths.has_sent(there), paths.ip_mtu(at(0), there)),
            (true, Some(1300))
        );
        paths.forget_link(3);
        assert_eq!(
            (paths.has_sent(there), paths.ip_mtu(at(0), there)),
            (false, None)
        );
    }
}

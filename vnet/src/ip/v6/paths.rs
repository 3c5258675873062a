//! What paths take that are narrower than our own links (RFC 8201).
//!
//! Only the source cuts IPv6 packets, so it has to know. TCP remembers for each connection what it was
//! told; this is for all others, and for connections to come. Bounded; the oldest makes room.

use std::collections::VecDeque;
use std::net::Ipv6Addr;

use crate::base::time::{Duration, Instant};

/// The paths of one vnet. Empty, it holds no memory.
#[derive(Debug, Default)]
pub(crate) struct Paths(VecDeque<Narrow>);

#[derive(Clone, Copy, Debug)]
struct Narrow {
    dst: Ipv6Addr,
    ip_mtu: u32,
    since: Instant,
}

/// Paths that are remembered.
const MAX_PATHS: usize = 256;
/// RFC 8201 section 4: after ten minutes it is tried again whether more passes.
const LIFETIME: Duration = Duration::from_secs(600);

impl Paths {
    /// Notes what the path to `dst` takes. RFC 8201 section 4: never more than it was known to.
    pub(crate) fn learn(&mut self, now: Instant, dst: Ipv6Addr, ip_mtu: u32) {
        let known = self.ip_mtu(now, dst);
        if known.is_some_and(|known| known <= ip_mtu) {
            return;
        }
        self.0.retain(|path| path.dst != dst);
        if self.0.len() == MAX_PATHS {
            self.0.pop_front();
        }
        self.0.push_back(Narrow {
            dst,
            ip_mtu,
            since: now,
        });
    }

    /// What the path to `dst` takes, if that is known to be less than our link.
    pub(crate) fn ip_mtu(&self, now: Instant, dst: Ipv6Addr) -> Option<u32> {
        let path = self.0.iter().find(|path| path.dst == dst)?;
        (now.since(path.since) < LIFETIME).then_some(path.ip_mtu)
    }

    /// Forgets everything.
    pub(crate) fn reset(&mut self) {
        self.0 = VecDeque::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_forgotten_and_bounded() {
        let at = |secs| Instant::ZERO + Duration::from_secs(secs);
        let dst = |n: u128| Ipv6Addr::from(n);
        let mut paths = Paths::default();
        paths.learn(at(0), dst(1), 1400);
        paths.learn(at(1), dst(1), 1450);
        assert_eq!(paths.ip_mtu(at(1), dst(1)), Some(1400));
        paths.learn(at(2), dst(1), 1280);
        assert_eq!(paths.ip_mtu(at(601), dst(1)), Some(1280));
        assert_eq!(paths.ip_mtu(at(602), dst(1)), None);
        paths.learn(at(602), dst(1), 1500);
        assert_eq!(paths.ip_mtu(at(602), dst(1)), Some(1500));
        for n in 2..=1 + MAX_PATHS as u128 {
            paths.learn(at(603), dst(n), 1300);
        }
        assert_eq!(paths.ip_mtu(at(603), dst(1)), None);
        assert_eq!(paths.0.len(), MAX_PATHS);
    }
}

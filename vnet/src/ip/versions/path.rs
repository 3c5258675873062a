//! What paths take, of either version.

use std::net::{IpAddr, Ipv4Addr};

use super::Ip;
use crate::base::time::{Duration, Instant};
use crate::packet::header::zone;

/// What is remembered of a path of IPv4 at least: to go below what every host takes in, in fragments if need be, is in
/// nobody's interest but an attacker's, and routers may cut packets that are no longer (RFC 791 section 3.1).
const MIN_MTU_V4: u32 = 576;

impl Ip {
    /// The destinations whose paths are known to be narrower than our links, those of IPv4 first, and what they take.
    pub(crate) fn narrow_paths(&self, now: Instant) -> impl Iterator<Item = (IpAddr, u32)> {
        let v4 = self.paths_v4.narrow(now);
        let v4 = v4.map(|(dst, ip_mtu)| (IpAddr::V4(dst), ip_mtu));
        let v6 = self.paths.narrow(now);
        v4.chain(v6.map(|(dst, ip_mtu)| (IpAddr::V6(zone::wire(dst)), ip_mtu)))
    }

    /// What the path to `dst` takes, of what our own link takes.
    pub(crate) fn path_mtu(&self, now: Instant, dst: IpAddr, ip_mtu: u32) -> u32 {
        let known = match dst {
            IpAddr::V4(dst) => self.paths_v4.ip_mtu(now, dst),
            IpAddr::V6(dst) => self.paths.ip_mtu(now, dst),
        };
        ip_mtu.min(known.unwrap_or(u32::MAX))
    }

    /// True when a packet of ours, and not of TCP's, has gone from `src` to `dst` lately that was longer than
    /// what every path takes, and could not be cut on its way.
    pub(crate) fn has_sent_long(&self, src: IpAddr, dst: IpAddr) -> bool {
        let was_there = match dst {
            IpAddr::V4(dst) => self.paths_v4.has_sent(dst),
            IpAddr::V6(dst) => self.paths.has_sent(dst),
        };
        was_there && self.contains(src)
    }

    /// Notes that a packet of ours leaves for `dst` that must not be cut.
    pub(crate) fn sends_whole(&mut self, now: Instant, dst: IpAddr, ip_len: u32) {
        match dst {
            // What is said of one that every host takes in is not believed.
            IpAddr::V4(dst) if ip_len > MIN_MTU_V4 => drop(self.paths_v4.send(now, dst)),
            // Noted with its header, as those that are cut.
            IpAddr::V4(_) | IpAddr::V6(_) => {}
        }
    }

    /// What the path of IPv4 to `dst` takes, if a packet of ours of this length may be longer.
    pub(super) fn narrower_v4(&self, now: Instant, dst: Ipv4Addr, ip_len: usize) -> Option<u32> {
        let paths = self.paths_v4.used();
        match ip_len > MIN_MTU_V4 as usize && paths.is_some_and(|paths| !paths.is_empty()) {
            true => self.paths_v4.ip_mtu(now, dst),
            false => None,
        }
    }

    /// How long it is remembered that a path is narrow.
    pub(crate) fn path_lifetime(&self) -> Duration {
        self.paths.lifetime
    }

    /// Sets it, also for what is remembered now.
    pub(crate) fn set_path_lifetime(&mut self, lifetime: Duration) {
        self.paths_v4.lifetime = lifetime;
        self.paths.lifetime = lifetime;
    }

    /// Notes what `by`, on the way, has said of the path to `dst`, which the caller believes.
    pub(crate) fn learn_path(&mut self, now: Instant, by: IpAddr, dst: IpAddr, ip_mtu: u32) {
        match (by, dst) {
            (IpAddr::V4(by), IpAddr::V4(dst)) => {
                let ip_mtu = ip_mtu.max(MIN_MTU_V4);
                self.paths_v4.learn(now, by, dst, ip_mtu);
            }
            (IpAddr::V6(by), IpAddr::V6(dst)) => self.paths.learn(now, by, dst, ip_mtu),
            _ => {}
        }
    }
}

//! DNS servers and the domains in which names are looked up, by the word of routers (RFC 8106).

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use crate::base::id::IfId;
use crate::base::time::{Duration, Instant};
use crate::packet::header::ra::{Dns, FOREVER};

/// Servers, and domains, of one interface that are remembered.
const MAX_EACH: usize = 8;

/// What routers have said of them. Empty, it holds no memory.
#[derive(Debug, Default)]
pub(crate) struct Names {
    servers: BTreeMap<(IfId, Ipv6Addr), Instant>,
    search: BTreeMap<(IfId, String), Instant>,
}

impl Names {
    /// An interface has heard this.
    pub(crate) fn heard(&mut self, now: Instant, ifid: IfId, said: &[Dns]) {
        for dns in said {
            let until = match dns.lifetime {
                FOREVER => Instant::MAX,
                seconds => now + Duration::from_secs(seconds.into()),
            };
            let is_server = |addr: &&Ipv6Addr| !addr.is_unspecified() && !addr.is_multicast();
            for addr in dns.servers.iter().filter(is_server) {
                put(&mut self.servers, (ifid, *addr), until, now);
            }
            for name in &dns.search {
                put(&mut self.search, (ifid, name.clone()), until, now);
            }
        }
    }

    /// Forgets what is over.
    pub(crate) fn forget_old(&mut self, now: Instant) {
        self.servers.retain(|_, until| *until > now);
        self.search.retain(|_, until| *until > now);
    }

    /// When each of it is over.
    pub(crate) fn ends(&self) -> impl Iterator<Item = Instant> {
        self.servers.values().chain(self.search.values()).copied()
    }

    /// Forgets what was said on the link of an interface.
    pub(crate) fn forget_link(&mut self, ifid: IfId) {
        self.servers.retain(|(on, _), _| *on != ifid);
        self.search.retain(|(on, _), _| *on != ifid);
    }

    /// How much is remembered.
    pub(crate) fn len(&self) -> usize {
        self.servers.len() + self.search.len()
    }

    /// The servers of an interface's link.
    pub(crate) fn servers(&self, ifid: IfId) -> impl Iterator<Item = Ipv6Addr> {
        let all = self.servers.keys().filter(move |(on, _)| *on == ifid);
        all.map(|(_, addr)| *addr)
    }

    /// The domains of an interface's link.
    pub(crate) fn search(&self, ifid: IfId) -> impl Iterator<Item = &str> {
        let all = self.search.keys().filter(move |(on, _)| *on == ifid);
        all.map(|(_, name)| name.as_str())
    }
}

/// RFC 8106 section 6.1: where there is no room, what is over first gives way.
fn put<T: Ord + Clone>(
    map: &mut BTreeMap<(IfId, T), Instant>,
    key: (IfId, T),
    until: Instant,
    now: Instant,
) {
    if until <= now {
        map.remove(&key);
        return;
    }
    let on_link = || map.iter().filter(|((on, _), _)| *on == key.0);
    if !map.contains_key(&key) && on_link().count() >= MAX_EACH {
        let first = on_link().min_by_key(|(_, until)| **until);
        match first.map(|(key, ends)| (key.clone(), *ends)) {
            Some((first, ends)) if ends <= until => map.remove(&first),
            _ => return,
        };
    }
    map.insert(key, until);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ip::testing::interfaces;

    fn at(secs: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(secs)
    }

    fn server(n: u16) -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n)
    }

    fn says(lifetime: u32, n: u16) -> Dns {
        Dns {
            lifetime,
            servers: vec![server(n), Ipv6Addr::UNSPECIFIED],
            search: vec![format!("n{n}.example")],
        }
    }

    #[test]
    fn what_is_over_first_gives_way() {
        let [a, b] = interfaces();
        let mut names = Names::default();
        for n in 1..=8 {
            names.heard(at(0), a, &[says(100 + u32::from(n), n)]);
        }
        names.heard(at(0), b, &[says(1, 1)]);
        names.heard(at(0), a, &[says(50, 99)]);
        assert!(!names.servers(a).any(|addr| addr == server(99)));
        names.heard(at(0), a, &[says(FOREVER, 99)]);
        assert_eq!((names.servers(a).count(), names.search(a).count()), (8, 8));
        assert!(names.servers(a).any(|addr| addr == server(99)));
        assert!(
            !names.servers(a).any(|addr| addr == server(1)),
            "it was over first"
        );
        assert_eq!(names.ends().min(), Some(at(1)));
        names.forget_old(at(102));
        assert_eq!((names.servers(b).count(), names.servers(a).count()), (0, 7));
        // A lifetime of zero ends it.
        names.heard(at(102), a, &[says(0, 99)]);
        assert!(!names.search(a).any(|name| name == "n99.example"));
        names.forget_link(a);
        assert_eq!(names.len(), 0);
    }
}

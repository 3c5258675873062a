//! When a bridge asks who is in which group, and in which VLANs: the part of a querier (RFC 9776 section 6.6.2,
//! RFC 3810 section 7.6.2), of which there is one on each network for each version of IP.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::config::Snooping;
use crate::base::time::{Duration, Instant};
use crate::netif::bridge::fdb::Fid;

/// How long hosts may take to answer a general question (RFC 9776 section 8.3, RFC 3810 section 9.3).
pub(super) const RESPONSE: Duration = Duration::from_secs(10);
/// How often is asked before the answer is believed to be that there is nobody (section 8.1, and section 9.1).
pub(super) const ROBUSTNESS: u32 = 2;

/// A version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    /// IGMP asks.
    V4,
    /// MLD does.
    V6,
}

impl Version {
    /// Both.
    pub(super) const ALL: [Version; 2] = [Version::V4, Version::V6];

    /// That of an address.
    pub(super) fn of(address: IpAddr) -> Version {
        match address {
            IpAddr::V4(_) => Version::V4,
            IpAddr::V6(_) => Version::V6,
        }
    }
}

impl Snooping {
    /// From which address the bridge asks, if it does.
    pub(super) fn own(&self, version: Version) -> Option<IpAddr> {
        match version {
            Version::V4 => self.querier.map(IpAddr::V4),
            Version::V6 => self.querier_v6.map(IpAddr::V6),
        }
    }

    /// How long another querier is waited for (RFC 9776 section 8.5).
    pub(super) fn other_querier(&self) -> Duration {
        self.query_interval * ROBUSTNESS + RESPONSE / 2
    }
}

/// Its part in asking, in one VLAN.
#[derive(Clone, Copy, Debug)]
struct Querier {
    /// Until when another one asks.
    other_until: Instant,
    /// When it asks next.
    next: Instant,
    /// How often it still asks at the shorter interval (RFC 9776 section 8.7).
    startup: u32,
}

/// Where a bridge asks.
pub(super) struct Asking {
    by: BTreeMap<(Fid, Version), Querier>,
    /// Nothing is to be asked before.
    earliest: Instant,
}

impl Asking {
    /// Nowhere.
    pub(super) fn nowhere() -> Asking {
        Asking {
            by: BTreeMap::new(),
            earliest: Instant::MAX,
        }
    }

    /// Asks in these VLANs from now on. It begins with those that are new.
    pub(super) fn set_vlans(&mut self, now: Instant, vlans: &BTreeSet<Fid>, config: &Snooping) {
        self.by
            .retain(|(vlan, version), _| vlans.contains(vlan) && config.own(*version).is_some());
        for version in Version::ALL {
            if config.own(version).is_none() {
                continue;
            }
            for vlan in vlans {
                self.by.entry((*vlan, version)).or_insert_with(|| {
                    self.earliest = now.min(self.earliest);
                    Querier {
                        other_until: Instant::ZERO,
                        next: now,
                        startup: ROBUSTNESS,
                    }
                });
            }
        }
    }

    /// Begins anew in a version of IP.
    pub(super) fn forget(&mut self, version: Version) {
        self.by.retain(|(_, of), _| *of != version);
    }

    /// Waits for nothing any longer than with this configuration.
    pub(super) fn hasten(&mut self, now: Instant, config: &Snooping) {
        for querier in self.by.values_mut() {
            let waits = now < querier.other_until;
            querier.other_until = querier.other_until.min(now + config.other_querier());
            querier.next = match waits {
                true => querier.next.min(querier.other_until),
                false => querier.next.min(now + config.query_interval),
            };
            self.earliest = self.earliest.min(querier.next);
        }
    }

    /// Another one asks until then.
    pub(super) fn give_way(&mut self, vlan: Fid, version: Version, until: Instant) {
        if let Some(querier) = self.by.get_mut(&(vlan, version)) {
            (querier.other_until, querier.next, querier.startup) = (until, until, 0);
        }
    }

    /// Asks everybody now where it is the one that asks.
    pub(super) fn ask_all(&mut self, now: Instant) {
        for querier in self.by.values_mut().filter(|q| q.other_until <= now) {
            querier.next = now;
            self.earliest = now;
        }
    }

    /// True when it is the one that asks.
    pub(super) fn asks(&self, now: Instant, vlan: Fid, version: Version) -> bool {
        let querier = self.by.get(&(vlan, version));
        querier.is_some_and(|q| q.other_until <= now)
    }

    /// Where it is the one that asks.
    pub(super) fn places(&self, now: Instant) -> impl Iterator<Item = (Fid, Version)> {
        let own = self.by.iter().filter(move |(_, q)| q.other_until <= now);
        own.map(|(place, _)| *place)
    }

    /// When [`Asking::due`] may have something.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        (self.earliest != Instant::MAX).then_some(self.earliest)
    }

    /// Where it asks everybody now.
    pub(super) fn due(&mut self, now: Instant, config: &Snooping) -> Vec<(Fid, Version)> {
        let mut due = Vec::new();
        if now < self.earliest {
            return due;
        }
        self.earliest = Instant::MAX;
        for (place, querier) in &mut self.by {
            if querier.next <= now {
                let interval = match querier.startup {
                    0 => config.query_interval,
                    _ => config.query_interval / 4,
                };
                querier.startup = querier.startup.saturating_sub(1);
                querier.next = now + interval;
                due.push(*place);
            }
            self.earliest = self.earliest.min(querier.next);
        }
        due
    }
}

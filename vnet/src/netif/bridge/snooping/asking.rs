//! When a bridge asks who is in which group, and in which VLANs: the part of a querier (RFC 9776 section 6.6.2,
//! RFC 3810 section 7.6.2), of which there is one on each network for each version of IP.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::config::Snooping;
use crate::base::time::{Duration, Instant};
use crate::netif::bridge::fdb::Fid;

/// How long hosts may take to answer a general question (RFC 9776 section 8.3, RFC 3810 section 9.3).
pub(super) const RESPONSE: Duration = Duration::from_secs(10);
/// How many questions without an answer say that nobody is there (section 8.1, and section 9.1).
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
    /// When it began: everybody has been asked, and may have answered, some time after.
    since: Instant,
    /// Until when another one asks.
    other_until: Instant,
    /// When it asks next.
    next: Instant,
    /// How often it still asks at the shorter interval (RFC 9776 section 8.7).
    startup: u32,
}

/// Others who ask, in one VLAN.
#[derive(Clone, Copy, Debug)]
struct Others {
    /// When the first question for everybody was to be answered, at the latest.
    answered: Instant,
    /// Until when they are believed to go on.
    until: Instant,
}

/// Where a bridge asks, and where others do.
pub(super) struct Asking {
    by: BTreeMap<(Fid, Version), Querier>,
    /// At most one for each VLAN and version.
    others: BTreeMap<(Fid, Version), Others>,
    /// Nothing is to be asked before.
    earliest: Instant,
}

impl Asking {
    /// Nowhere.
    pub(super) fn nowhere() -> Asking {
        Asking {
            by: BTreeMap::new(),
            others: BTreeMap::new(),
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
                        since: now,
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
        for others in self.others.values_mut() {
            others.until = others.until.min(now + config.other_querier());
        }
    }

    /// Somebody else has asked, and will again before `until`. Everybody is to answer within `response`; that is
    /// `None` when they asked for one group only.
    pub(super) fn heard(
        &mut self,
        now: Instant,
        place: (Fid, Version),
        response: Option<Duration>,
        until: Instant,
    ) {
        let known = self.others.get_mut(&place).filter(|o| now < o.until);
        match (known, response) {
            (Some(known), _) => known.until = until.max(known.until),
            (None, Some(response)) => {
                let answered = now + response.max(RESPONSE);
                self.others.insert(place, Others { answered, until });
            }
            (None, None) => {}
        }
    }

    /// The bridge has heard and said nothing for a while.
    pub(super) fn begin_anew(&mut self, now: Instant) {
        self.others.clear();
        for querier in self.by.values_mut() {
            (querier.since, querier.other_until, querier.next) = (now, Instant::ZERO, now);
            self.earliest = now;
        }
    }

    /// Since when whoever is in a group there has been asked, unless nobody asks.
    fn asked(&self, now: Instant, place: (Fid, Version)) -> Option<Instant> {
        let own = self.by.get(&place).map(|own| own.since + RESPONSE);
        let others = self.others.get(&place).filter(|o| now < o.until);
        own.into_iter().chain(others.map(|o| o.answered)).min()
    }

    /// True where somebody asks, so that account is kept of who is in a group.
    pub(super) fn is_asked(&self, now: Instant, place: (Fid, Version)) -> bool {
        self.asked(now, place).is_some()
    }

    /// True where all who are in a group have been asked, and have had the time to answer.
    pub(super) fn is_answered(&self, now: Instant, place: (Fid, Version)) -> bool {
        self.asked(now, place)
            .is_some_and(|answered| answered <= now)
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

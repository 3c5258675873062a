//! Whether somebody else has an address already: duplicate address detection (RFC 4862 section 5.4).
//!
//! What is here is only of addresses about which that is not known, or known to be so; an address that has
//! passed is an address like any other. In the meantime it may be used (RFC 4429), or it may not, and is then
//! none of the vnet's addresses: nothing is sent from it and nothing is answered for it.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

use crate::base::id::IfId;
use crate::base::time::{Duration, Instant};

/// May an address be used while it is not known whether somebody else has it?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Optimism {
    /// It is not used before (RFC 4862).
    Tentative,
    /// It is used at once, and given up again where it turns out that somebody has it (RFC 4429).
    #[default]
    Optimistic,
}

/// What is known of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It is used, and is one of the vnet's addresses.
    Optimistic,
    /// It waits.
    Tentative,
    /// Somebody else has it.
    Duplicate,
}

/// What is to be done about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Ask whether somebody has it.
    Ask,
    /// Nobody has: what it was until now.
    Unique(Phase),
}

/// The addresses of one vnet of which it is not known that they are its alone. Empty, it holds no memory.
#[derive(Debug)]
pub(crate) struct Dad {
    /// How often it is asked; zero for not at all (RFC 4862 section 5.1, DupAddrDetectTransmits).
    pub count: u8,
    /// What becomes of an address meanwhile.
    pub optimism: Optimism,
    detections: BTreeMap<(IfId, Ipv6Addr), Detection>,
}

#[derive(Clone, Copy, Debug)]
struct Detection {
    net: Ipv6Net,
    phase: Phase,
    sent: u8,
    /// `None` until the interface runs, and of a duplicate.
    next: Option<Instant>,
}

impl Default for Dad {
    fn default() -> Dad {
        Dad {
            count: 1,
            optimism: Optimism::default(),
            detections: BTreeMap::new(),
        }
    }
}

impl Dad {
    /// Begins with an address, or begins again. Nothing is asked before [`Dad::start`].
    pub(crate) fn begin(&mut self, ifid: IfId, net: Ipv6Net, phase: Phase) {
        let detection = Detection {
            net,
            phase,
            sent: 0,
            next: None,
        };
        self.detections.insert((ifid, net.addr()), detection);
    }

    /// The interface of an address runs. True when it is now to be asked for the first time whether somebody
    /// has it; `None` of an address that is unique.
    pub(crate) fn start(
        &mut self,
        now: Instant,
        retrans: Duration,
        ifid: IfId,
        addr: Ipv6Addr,
    ) -> Option<bool> {
        let detection = self.detections.get_mut(&(ifid, addr))?;
        let starts = detection.next.is_none() && detection.phase != Phase::Duplicate;
        if starts {
            detection.sent = 1;
            detection.next = Some(now + retrans);
        }
        Some(starts)
    }

    /// What is due, in the order of interfaces and addresses.
    pub(crate) fn take_due(
        &mut self,
        now: Instant,
        retrans: Duration,
    ) -> Vec<(IfId, Ipv6Net, Due)> {
        let count = self.count;
        let mut all = Vec::new();
        self.detections.retain(|(ifid, _), detection| {
            if detection.next.is_none_or(|next| next > now) {
                return true;
            }
            let asks = detection.sent < count;
            let due = match asks {
                true => Due::Ask,
                false => Due::Unique(detection.phase),
            };
            detection.sent = detection.sent.saturating_add(1);
            detection.next = Some(now + retrans);
            all.push((*ifid, detection.net, due));
            asks
        });
        all
    }

    /// When [`Dad::take_due`] has something.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.detections.values().filter_map(|d| d.next).min()
    }

    /// What is known of an address; `None` of one that is unique, or none of ours.
    #[inline]
    pub(crate) fn phase(&self, ifid: IfId, addr: Ipv6Addr) -> Option<Phase> {
        match self.detections.is_empty() {
            true => None,
            false => self.detections.get(&(ifid, addr)).map(|d| d.phase),
        }
    }

    /// Somebody else has the address.
    pub(crate) fn fail(&mut self, ifid: IfId, addr: Ipv6Addr) {
        if let Some(detection) = self.detections.get_mut(&(ifid, addr)) {
            detection.phase = Phase::Duplicate;
            detection.next = None;
        }
    }

    /// Forgets an address, and says what was known of it.
    pub(crate) fn remove(&mut self, ifid: IfId, addr: Ipv6Addr) -> Option<Phase> {
        self.detections.remove(&(ifid, addr)).map(|d| d.phase)
    }

    /// The interface of these is down: they are asked for again when it runs.
    pub(crate) fn pause(&mut self, ifid: IfId, addr: Ipv6Addr) {
        if let Some(detection) = self.detections.get_mut(&(ifid, addr)) {
            detection.next = None;
        }
    }

    /// The addresses of an interface that wait for it to run.
    pub(crate) fn paused(&self, ifid: IfId) -> impl Iterator<Item = Ipv6Addr> {
        let waits = |d: &Detection| d.next.is_none() && d.phase != Phase::Duplicate;
        let on = self.on(ifid).filter(move |d| waits(d));
        on.map(|d| d.net.addr())
    }

    /// The addresses of an interface that are none of the vnet's: not yet, or not any more.
    #[inline]
    pub(crate) fn held(&self, ifid: IfId) -> impl Iterator<Item = (Ipv6Net, Phase)> {
        let on = self.on(ifid).filter(|d| d.phase != Phase::Optimistic);
        on.map(|d| (d.net, d.phase))
    }

    /// How many there are of these.
    pub(crate) fn held_len(&self) -> usize {
        let held = |d: &&Detection| d.phase != Phase::Optimistic;
        self.detections.values().filter(held).count()
    }

    /// True when an interface has this address, and it is none of the vnet's.
    pub(crate) fn holds(&self, addr: Ipv6Addr) -> bool {
        let mut all = self.detections.values();
        all.any(|d| d.net.addr() == addr && d.phase != Phase::Optimistic)
    }

    fn on(&self, ifid: IfId) -> impl Iterator<Item = &Detection> {
        let from = (ifid, Ipv6Addr::UNSPECIFIED);
        let on = self.detections.range(from..);
        on.take_while(move |((on, _), _)| *on == ifid)
            .map(|(_, detection)| detection)
    }

    /// Forgets the addresses of an interface that goes away.
    pub(crate) fn remove_interface(&mut self, ifid: IfId) {
        self.detections.retain(|(on, _), _| *on != ifid);
    }

    /// Forgets all addresses.
    pub(crate) fn reset(&mut self) {
        self.detections = BTreeMap::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ip::testing::interfaces;

    const RETRANS: Duration = Duration::from_secs(1);

    fn at(secs: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(secs)
    }

    #[test]
    fn it_is_asked_as_often_as_is_said_and_silence_is_consent() {
        let [a, b] = interfaces();
        let net: Ipv6Net = "2001:db8::1/64".parse().expect("a prefix");
        let mut dad = Dad {
            count: 3,
            ..Dad::default()
        };
        dad.begin(a, net, Phase::Tentative);
        assert!(dad.next_deadline().is_none(), "the interface does not run");
        assert_eq!(dad.paused(a).collect::<Vec<_>>(), [net.addr()]);
        assert_eq!(dad.start(at(0), RETRANS, a, net.addr()), Some(true));
        assert_eq!(dad.start(at(0), RETRANS, a, net.addr()), Some(false));
        assert_eq!(dad.start(at(0), RETRANS, b, net.addr()), None);
        assert!(dad.take_due(at(0), RETRANS).is_empty());
        for secs in [1, 2] {
            assert_eq!(dad.next_deadline(), Some(at(secs)));
            assert_eq!(dad.take_due(at(secs), RETRANS), [(a, net, Due::Ask)]);
        }
        assert!(dad.holds(net.addr()));
        let unique = Due::Unique(Phase::Tentative);
        assert_eq!(dad.take_due(at(3), RETRANS), [(a, net, unique)]);
        assert!(!dad.holds(net.addr()) && dad.next_deadline().is_none());
    }

    #[test]
    fn a_duplicate_stays_one_until_it_is_begun_with_again() {
        let [a, b] = interfaces();
        let net: Ipv6Net = "2001:db8::1/64".parse().expect("a prefix");
        let mut dad = Dad::default();
        dad.begin(a, net, Phase::Optimistic);
        assert!(!dad.holds(net.addr()));
        assert_eq!(dad.start(at(0), RETRANS, a, net.addr()), Some(true));
        dad.fail(a, net.addr());
        assert!(dad.take_due(at(9), RETRANS).is_empty());
        assert_eq!(dad.start(at(9), RETRANS, a, net.addr()), Some(false));
        assert_eq!(dad.held(a).collect::<Vec<_>>(), [(net, Phase::Duplicate)]);
        assert_eq!((dad.held(b).count(), dad.held_len()), (0, 1));
        dad.begin(a, net, Phase::Tentative);
        assert_eq!(dad.start(at(9), RETRANS, a, net.addr()), Some(true));
        dad.remove_interface(a);
        assert_eq!(dad.phase(a, net.addr()), None);
    }
}

//! LLDP (IEEE 802.1AB-2016): a vnet says on each of its wires who and where it is, and remembers who says
//! so. It is off until an interval is set.
//!
//! An agent speaks on every interface that has a wire, whatever that is a member of, untagged and to a
//! group that no bridge passes on; so what it hears is what is plugged in at the other end. What was said
//! holds for as long as it was said to, and ends at that moment without a timer; sooner when its wire
//! goes down. Of one interface a bounded number of neighbours is known.
//!
//! | part | what it is |
//! |---|---|
//! | [`pdu`] | what is said, as bytes |
//!
//! Not implemented: fast transmission for more than one frame (what is sent out of turn has the standard's
//! bound, the credit of clause 9.2.5.17), the other two groups, and reading what is
//! shown to nobody (management addresses, and fields of organizations).

pub(crate) mod pdu;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::base::id::IfId;
use crate::base::stats::DropReason;
use crate::base::time::{Duration, Instant};
use crate::packet::MacAddr;
use pdu::{Capabilities, Identifier, Lldpdu};

/// Whom LLDPDUs are for: the nearest bridge, which passes them on to nobody (table 7-1).
pub(crate) const GROUP: MacAddr = MacAddr([0x01, 0x80, 0xc2, 0, 0, 0x0e]);
/// How many intervals what is said holds for (clause 9.2.5.5).
const HOLD: u64 = 4;
/// Neighbours of one interface. On a wire there is one; what a repeater joins may be more.
const MAX_NEIGHBOURS: usize = 16;
/// How many LLDPDUs an interface sends in a row because something has changed (clause 9.2.5.17, txCreditMax),
/// and how long it takes until it may send another one.
const CREDIT: u64 = 5;
const CREDIT_PERIOD: Duration = Duration::from_secs(1);

/// A neighbour at the other end of an interface's wire, as it describes itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LldpNeighbour {
    /// The interface of this vnet that heard it.
    pub interface: String,
    /// Its identity: the name of a vnet; of other systems often a MAC address.
    pub chassis: String,
    /// Its port at the other end of the wire: the name of a vnet's interface.
    pub port: String,
    /// Its description of that port.
    pub port_description: Option<String>,
    /// Its name.
    pub system_name: Option<String>,
    /// Its functions, such as `bridge, router`.
    pub capabilities: String,
    /// The MAC address from which it sent.
    pub mac: MacAddr,
    /// When the entry expires if nothing more is heard, in nanoseconds of the system's clock.
    pub until: Instant,
}

/// LLDP in one vnet.
pub(crate) struct Lldp {
    /// What the vnet is called.
    name: Box<str>,
    agent: Option<Box<Agent>>,
}

/// What is there while it is on, or about to be off.
struct Agent {
    /// How often each interface speaks; zero when it is to end.
    interval: Duration,
    /// When all speak next.
    next: Instant,
    /// Those that are to speak before that, and when they may.
    fresh: BTreeMap<IfId, Instant>,
    /// The earliest of that.
    fresh_at: Option<Instant>,
    ports: BTreeMap<IfId, Port>,
}

/// What is known of an interface.
#[derive(Default)]
struct Port {
    neighbours: Vec<Neighbour>,
    /// When it will have all of its credit again.
    has_credit_at: Instant,
}

impl Port {
    /// When it may speak out of turn; its credit is spent.
    fn spend(&mut self, now: Instant) -> Instant {
        let spent = CREDIT_PERIOD * (CREDIT as u32 - 1);
        let at = match self.has_credit_at - now > spent {
            true => now + (self.has_credit_at - now - spent),
            false => now,
        };
        self.has_credit_at = self.has_credit_at.max(at) + CREDIT_PERIOD;
        at
    }
}

impl Agent {
    /// An interface is to speak as soon as it may.
    fn speaks(&mut self, now: Instant, ifid: IfId) {
        if !self.fresh.contains_key(&ifid) {
            let at = self.ports.entry(ifid).or_default().spend(now);
            self.fresh.insert(ifid, at);
            self.fresh_at = Some(self.fresh_at.map_or(at, |first| first.min(at)));
        }
    }
}

struct Neighbour {
    said: Lldpdu,
    mac: MacAddr,
    until: Instant,
}

/// Who has to speak now.
pub(crate) struct Round {
    /// `None` for all.
    pub(crate) only: Option<Vec<IfId>>,
    /// How long what they say holds, in seconds.
    pub(crate) ttl: u16,
}

impl Lldp {
    /// That of a vnet of this name, off.
    pub(crate) fn new(name: &str) -> Lldp {
        Lldp {
            name: name.into(),
            agent: None,
        }
    }

    /// How often each interface speaks; zero when it is off.
    pub(crate) fn interval(&self) -> Duration {
        self.agent
            .as_ref()
            .map_or(Duration::ZERO, |agent| agent.interval)
    }

    /// Sets that, from now on. With zero it takes leave and is off.
    pub(crate) fn set_interval(&mut self, interval: Duration) {
        match &mut self.agent {
            None if interval.is_zero() => {}
            None => {
                self.agent = Some(Box::new(Agent {
                    interval,
                    next: Instant::ZERO,
                    fresh: BTreeMap::new(),
                    fresh_at: None,
                    ports: BTreeMap::new(),
                }));
            }
            Some(agent) => (agent.interval, agent.next) = (interval, Instant::ZERO),
        }
    }

    /// True while neighbours are listened to.
    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.agent.is_some()
    }

    /// When [`Lldp::take_due`] has something to do.
    #[inline]
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let agent = self.agent.as_ref()?;
        Some(agent.fresh_at.map_or(agent.next, |at| at.min(agent.next)))
    }

    /// Who has to speak at `now`.
    #[cold]
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<Round> {
        let agent = self.agent.as_mut()?;
        let ttl = ttl(agent.interval);
        if agent.next > now {
            let due = agent.fresh.iter().filter(|(_, at)| **at <= now);
            let only: Vec<IfId> = due.map(|(ifid, _)| *ifid).collect();
            agent.fresh.retain(|_, at| *at > now);
            agent.fresh_at = agent.fresh.values().copied().min();
            return (!only.is_empty()).then_some(Round {
                only: Some(only),
                ttl,
            });
        }
        (agent.fresh, agent.fresh_at) = (BTreeMap::new(), None);
        agent.next = now + agent.interval;
        if agent.interval.is_zero() {
            self.agent = None;
        }
        Some(Round { only: None, ttl })
    }

    /// What an interface says in a round.
    pub(crate) fn say(
        &self,
        interface: &str,
        description: String,
        ttl: u16,
        does: Capabilities,
    ) -> Lldpdu {
        Lldpdu {
            chassis: Identifier::chassis(&self.name),
            port: Identifier::port(interface),
            ttl,
            port_description: Some(description.into()),
            system_name: Some(self.name.clone()),
            capabilities: Some(does),
        }
    }

    /// An interface with a wire has come up, so that it speaks as soon as it may, or gone down, so that
    /// nobody is there.
    pub(crate) fn state_changed(&mut self, now: Instant, ifid: IfId, is_running: bool) {
        let Some(agent) = &mut self.agent else { return };
        if is_running {
            return agent.speaks(now, ifid);
        }
        agent.fresh.remove(&ifid);
        if let Some(port) = agent.ports.get_mut(&ifid) {
            port.neighbours = Vec::new();
        }
    }

    /// Forgets an interface.
    pub(crate) fn forget(&mut self, ifid: IfId) {
        if let Some(agent) = &mut self.agent {
            agent.fresh.remove(&ifid);
            agent.ports.remove(&ifid);
        }
    }

    /// Takes in what somebody says.
    ///
    /// # Errors
    /// Why it tells nothing.
    pub(crate) fn input(
        &mut self,
        now: Instant,
        ifid: IfId,
        mac: MacAddr,
        bytes: &[u8],
    ) -> Result<(), DropReason> {
        let agent = self.agent.as_mut().ok_or(DropReason::UnknownProtocol)?;
        let said = Lldpdu::parse(bytes).map_err(|_| DropReason::Malformed)?;
        let until = now + Duration::from_secs(said.ttl.into());
        let known = &mut agent.ports.entry(ifid).or_default().neighbours;
        known.retain(|n| n.until > now);
        let same = |n: &Neighbour| n.said.chassis == said.chassis && n.said.port == said.port;
        let at = known.iter().position(same);
        match at {
            // Clause 9.2.7.7: nothing holds any more of what was said.
            Some(at) if said.ttl == 0 => drop(known.remove(at)),
            Some(at) => known[at] = Neighbour { said, mac, until },
            None if said.ttl == 0 => {}
            None if known.len() == MAX_NEIGHBOURS => return Err(DropReason::NeighbourLimit),
            None => {
                known.push(Neighbour { said, mac, until });
                // Clause 9.2.4: who is new is told soon who is here.
                agent.speaks(now, ifid);
            }
        }
        Ok(())
    }

    /// Who is known at `now`, in the order of the interfaces and then in that in which they were heard
    /// first. `name` says what an interface is called.
    pub(crate) fn neighbours<'a>(
        &self,
        now: Instant,
        name: impl Fn(IfId) -> Option<&'a str>,
    ) -> Vec<LldpNeighbour> {
        let mut all = Vec::new();
        let heard = self.agent.iter().flat_map(|agent| &agent.ports);
        for (ifid, port) in heard {
            let Some(interface) = name(*ifid) else {
                continue;
            };
            for Neighbour { said, mac, until } in port.neighbours.iter().filter(|n| n.until > now) {
                all.push(LldpNeighbour {
                    interface: interface.to_owned(),
                    chassis: said.chassis.chassis_text(),
                    port: said.port.port_text(),
                    port_description: said.port_description.as_deref().map(str::to_owned),
                    system_name: said.system_name.as_deref().map(str::to_owned),
                    capabilities: said.capabilities.unwrap_or_default().to_string(),
                    mac: *mac,
                    until: *until,
                });
            }
        }
        all
    }

    /// Is off, without a word. There are no interfaces any more.
    pub(crate) fn reset(&mut self) {
        self.agent = None;
    }

    /// Neighbours that are known, those included whose time is over.
    pub(crate) fn len(&self) -> usize {
        let heard = self.agent.iter().flat_map(|agent| agent.ports.values());
        heard.map(|port| port.neighbours.len()).sum()
    }
}

/// How long what is said holds, in seconds, when it is said each `interval` (clause 9.2.5.22).
fn ttl(interval: Duration) -> u16 {
    if interval.is_zero() {
        return 0;
    }
    let millis = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
    let seconds = millis.saturating_mul(HOLD).div_ceil(1000) + 1;
    u16::try_from(seconds).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);

    fn ids(count: usize) -> Vec<IfId> {
        let mut slots = slotmap::SlotMap::<IfId, ()>::with_key();
        (0..count).map(|_| slots.insert(())).collect()
    }

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    fn on() -> Lldp {
        let mut lldp = Lldp::new("here");
        lldp.set_interval(Duration::from_secs(30));
        lldp.take_due(at(0)).expect("all speak at once");
        lldp
    }

    fn hears(
        lldp: &mut Lldp,
        now: Instant,
        ifid: IfId,
        who: &str,
        ttl: u16,
    ) -> Result<(), DropReason> {
        let says = Lldp::new(who).say("eth0", "epair eth0".into(), ttl, Capabilities(4));
        lldp.input(now, ifid, MAC, &says.emit())
    }

    fn known(lldp: &Lldp, now: Instant) -> Vec<String> {
        let all = lldp.neighbours(now, |_| Some("if"));
        all.into_iter().map(|n| n.chassis).collect()
    }

    #[test]
    fn what_was_said_holds_for_as_long_as_it_was_said_to() {
        let (mut lldp, ids) = (on(), ids(2));
        hears(&mut lldp, at(0), ids[0], "a", 5).expect("good");
        hears(&mut lldp, at(1), ids[1], "b", 10).expect("good");
        assert_eq!(known(&lldp, at(4)), ["a", "b"]);
        assert_eq!(known(&lldp, at(5)), ["b"]);
        // Said again, and taken back.
        hears(&mut lldp, at(6), ids[1], "b", 10).expect("good");
        assert_eq!(known(&lldp, at(15)), ["b"]);
        hears(&mut lldp, at(15), ids[1], "b", 0).expect("good");
        hears(&mut lldp, at(15), ids[1], "nobody", 0).expect("good");
        assert_eq!(lldp.neighbours(at(15), |_| Some("if")), []);
        hears(&mut lldp, at(16), ids[1], "b", 10).expect("good");
        lldp.state_changed(at(16), ids[1], false);
        assert_eq!(known(&lldp, at(16)), [""; 0]);
    }

    #[test]
    fn no_interface_knows_more_than_it_may_and_who_is_there_stays() {
        let (mut lldp, ids) = (on(), ids(2));
        for n in 0..100 {
            let heard = hears(&mut lldp, at(0), ids[0], &format!("n{n}"), 100);
            let expected = match n < MAX_NEIGHBOURS {
                true => Ok(()),
                false => Err(DropReason::NeighbourLimit),
            };
            assert_eq!(heard, expected, "{n}");
        }
        hears(&mut lldp, at(1), ids[0], "n3", 100).expect("it is known");
        hears(&mut lldp, at(1), ids[1], "other", 100).expect("another interface");
        assert_eq!(lldp.len(), MAX_NEIGHBOURS + 1);
        // Those whose time is over make room.
        hears(&mut lldp, at(100), ids[0], "late", 100).expect("there is room");
        assert_eq!(known(&lldp, at(100)), ["n3", "late", "other"]);
    }

    #[test]
    fn all_speak_each_interval_and_whoever_comes_up_or_hears_of_somebody_at_once() {
        let (mut lldp, ids) = (on(), ids(3));
        assert_eq!(lldp.next_deadline(), Some(at(30)));
        lldp.state_changed(at(3), ids[1], true);
        hears(&mut lldp, at(3), ids[2], "new", 100).expect("good");
        assert_eq!(lldp.next_deadline(), Some(at(3)));
        let round = lldp.take_due(at(3)).expect("two speak");
        assert_eq!((round.only, round.ttl), (Some(vec![ids[1], ids[2]]), 121));
        // Who is known is told nothing.
        hears(&mut lldp, at(4), ids[2], "new", 100).expect("good");
        assert_eq!(lldp.next_deadline(), Some(at(30)));
        let all = lldp.take_due(at(31)).expect("all speak");
        assert_eq!(all.only, None);
        assert_eq!(lldp.next_deadline(), Some(at(61)));
        lldp.set_interval(Duration::ZERO);
        assert_eq!(lldp.take_due(at(31)).expect("they take leave").ttl, 0);
        assert!(!lldp.is_on() && lldp.next_deadline().is_none());
        assert_eq!(
            hears(&mut lldp, at(32), ids[0], "a", 5),
            Err(DropReason::UnknownProtocol)
        );
    }

    /// Somebody who comes and goes with every frame.
    #[test]
    fn nobody_is_answered_without_bound() {
        let (mut lldp, ids) = (on(), ids(1));
        let mut rounds = 0;
        let start = at(1);
        for n in 0..10_000 {
            let now = start + Duration::from_millis(n);
            for ttl in [120, 0] {
                hears(&mut lldp, now, ids[0], "flaps", ttl).expect("good");
                while lldp.take_due(now).is_some() {
                    rounds += 1;
                }
                assert!(lldp.next_deadline().is_some_and(|at| at > now));
            }
        }
        assert_eq!(rounds, 5 + 9, "five at once, and one for each second");
    }

    #[test]
    fn the_time_to_live_fits_its_field() {
        for (ms, seconds) in [
            (1, 2),
            (500, 3),
            (30_000, 121),
            (3_600_000, 14_401),
            (u64::MAX, 65_535),
        ] {
            assert_eq!(ttl(Duration::from_millis(ms)), seconds, "{ms} ms");
        }
    }
}

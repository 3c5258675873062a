//! Link aggregation (IEEE 802.1AX-2020): several interfaces of one vnet used as one, after FreeBSD's
//! `lagg` and Linux's bonding.
//!
//! A lagg is an interface without a wire of its own. It decides which of its members sends a frame,
//! and from which of them frames are taken; `stack/` carries that out. It knows neither frames'
//! interfaces nor the vnet's table of them: it is told which members are running.
//!
//! A flow stays with its member for as long as that one sends, whatever becomes of the others.
//!
//! | part | what it is |
//! |---|---|
//! | [`config`] | how a lagg works, and what a member keeps while it is one |
//! | [`hash`] | which flow a frame belongs to |
//! | [`lacp`] | the protocol by which both ends agree on the links |
//! | [`pdu`] | its messages |
//! | [`ports`] | laggs and their members in the table of interfaces |

pub(crate) mod config;
pub(crate) mod hash;
pub(crate) mod lacp;
pub(crate) mod pdu;
pub(crate) mod ports;

use std::collections::VecDeque;
use std::hash::Hasher;
use std::num::NonZeroU16;

use siphasher::sip::SipHasher13;

use crate::base::id::IfId;
use crate::base::stats::DropReason;
use crate::base::time::{Duration, Instant};
use crate::packet::header::ether::ETHER_LEN;
use crate::packet::{MacAddr, Packet};
use config::{LaggConfig, LaggMode};
use lacp::{Lacp, Params};
use pdu::{PduError, Said, SlowPdu, SystemId};

/// Members that a lagg may have. Every change asks each of them.
pub(crate) const MAX_MEMBERS: usize = 32;

/// Flows are spread over members by so many slots.
const SLOTS: usize = 256;
/// The priority of ports, which nothing here can choose between.
const PORT_PRIORITY: u16 = 0x8000;

/// Markers of one member that are answered within [`MARKER_PERIOD`] at most (IEEE 802.3, annex 57A.2).
const MAX_MARKERS: u8 = 10;
/// The time in which they are counted.
const MARKER_PERIOD: Duration = Duration::from_secs(1);

/// A member of a lagg.
#[derive(Debug)]
pub(crate) struct LaggPort {
    /// The interface.
    pub(crate) ifid: IfId,
    /// Its number, which no other member has: 1 and up.
    number: u16,
    /// LACPDUs that came in by it.
    pub(crate) pdus_in: u64,
    /// LACPDUs that it has sent.
    pub(crate) pdus_out: u64,
    /// Since when its markers are counted, and how many were answered.
    markers: (Instant, u8),
}

impl LaggPort {
    /// Whether a marker that comes in at `now` is answered.
    fn answers(&mut self, now: Instant) -> bool {
        let (since, count) = &mut self.markers;
        if now - *since >= MARKER_PERIOD {
            (*since, *count) = (now, 0);
        }
        let has_room = *count < MAX_MARKERS;
        *count += u8::from(has_room);
        has_room
    }
}

/// The state of a lagg.
pub(crate) struct Lagg {
    config: LaggConfig,
    /// This system's address, for LACP.
    mac: MacAddr,
    /// The number of this lagg among the interfaces of its vnet.
    key: u16,
    /// In the order in which they joined.
    members: Vec<LaggPort>,
    /// Those that send.
    senders: Vec<IfId>,
    /// The place among the senders of the one that has a slot's flows.
    slots: Vec<u8>,
    lacp: Option<Lacp>,
    /// What is said by members regardless of what LACP says: answers, and the last words of LACP.
    said: VecDeque<(IfId, Said)>,
    seed: u64,
    bad_pdus: u64,
}

impl Lagg {
    /// A lagg without members, whose interface has the address `mac` and the number `key`.
    pub(crate) fn new(config: LaggConfig, mac: MacAddr, key: u16, seed: u64) -> Lagg {
        let mut lagg = Lagg {
            config,
            mac,
            key,
            members: Vec::new(),
            senders: Vec::new(),
            slots: Vec::new(),
            lacp: None,
            said: VecDeque::new(),
            seed,
            bad_pdus: 0,
        };
        lagg.restart();
        lagg
    }

    /// What LACP is told of this end.
    fn params(&self) -> Params {
        Params {
            active: self.config.mode == LaggMode::LacpActive,
            fast: self.config.fast.is_on(),
            system: SystemId {
                priority: self.config.system_priority,
                mac: self.config.system.unwrap_or(self.mac),
            },
            key: self.config.key.map_or(self.key, NonZeroU16::get),
            port_priority: PORT_PRIORITY,
        }
    }

    /// Begins LACP anew with what has changed about this end, if it is spoken, and ends it otherwise.
    fn restart(&mut self) {
        let params = self.params();
        match (self.config.mode.is_lacp(), &mut self.lacp) {
            (true, Some(lacp)) if *lacp.params() == params => {}
            (true, Some(lacp)) => lacp.restart(params),
            (true, None) => {
                let mut lacp = Lacp::new(params);
                for member in &self.members {
                    lacp.add_port(member.ifid, member.number);
                }
                self.lacp = Some(lacp);
            }
            (false, lacp) => {
                let last = lacp.take().map(Lacp::end).unwrap_or_default();
                let said = last.into_iter().map(|(ifid, du)| (ifid, Said::Lacp(du)));
                self.said.extend(said);
            }
        }
    }

    /// How it works.
    pub(crate) const fn config(&self) -> &LaggConfig {
        &self.config
    }

    /// Changes how it works.
    pub(crate) fn set_config(&mut self, config: LaggConfig) {
        self.config = config;
        self.restart();
    }

    /// Its interface has another address.
    pub(crate) fn set_mac(&mut self, mac: MacAddr) {
        self.mac = mac;
        self.restart();
    }

    /// Its members, in the order in which they joined.
    pub(crate) fn members(&self) -> impl Iterator<Item = IfId> {
        self.members.iter().map(|m| m.ifid)
    }

    /// What is counted of a member.
    pub(crate) fn port(&self, member: IfId) -> Option<&LaggPort> {
        self.members.iter().find(|m| m.ifid == member)
    }

    fn port_mut(&mut self, member: IfId) -> Option<&mut LaggPort> {
        self.members.iter_mut().find(|m| m.ifid == member)
    }

    /// True when it can have no more members.
    pub(crate) fn is_full(&self) -> bool {
        self.members.len() >= MAX_MEMBERS
    }

    /// True when a member sends.
    pub(crate) fn sends_by(&self, member: IfId) -> bool {
        self.senders.contains(&member)
    }

    /// Its protocol with its partners, if it speaks one.
    pub(crate) const fn lacp(&self) -> Option<&Lacp> {
        self.lacp.as_ref()
    }

    /// LACPDUs and markers that could not be read.
    pub(crate) const fn bad_pdus(&self) -> u64 {
        self.bad_pdus
    }

    fn add(&mut self, ifid: IfId) {
        let taken = |n: &u16| self.members.iter().any(|m| m.number == *n);
        let number = (1..=u16::MAX).find(|n| !taken(n)).unwrap_or(u16::MAX);
        self.members.push(LaggPort {
            ifid,
            number,
            pdus_in: 0,
            pdus_out: 0,
            markers: (Instant::ZERO, 0),
        });
        if let Some(lacp) = &mut self.lacp {
            lacp.add_port(ifid, number);
        }
    }

    /// Gives up a member.
    pub(crate) fn remove(&mut self, now: Instant, ifid: IfId) {
        self.members.retain(|m| m.ifid != ifid);
        if let Some(lacp) = &mut self.lacp {
            lacp.remove_port(now, ifid);
        }
    }

    /// The member by which a frame leaves.
    pub(crate) fn sender(&self, packet: &mut Packet) -> Option<IfId> {
        let sender = match &*self.senders {
            [] => return None,
            [only] => *only,
            many => {
                let flow = hash::flow(packet, self.config.hash, self.seed);
                let slot = flow as usize % SLOTS;
                many[usize::from(self.slots[slot])]
            }
        };
        Some(sender)
    }

    /// Takes in a frame of the slow protocols (IEEE 802.3, annex 57A) that came in by the member `from`.
    ///
    /// # Errors
    /// Why it is dropped.
    pub(crate) fn slow(
        &mut self,
        now: Instant,
        from: IfId,
        packet: &mut Packet,
    ) -> Result<(), DropReason> {
        let len = packet.len();
        let head = packet.pull_up(len.min(ETHER_LEN + pdu::LOOK_AT));
        let head = head.and_then(|b| b.get(ETHER_LEN..)).unwrap_or_default();
        let read = SlowPdu::parse(head, len.saturating_sub(ETHER_LEN));
        match (read, &mut self.lacp) {
            (Ok(SlowPdu::Lacp(du)), Some(lacp)) => {
                let heard = lacp.input(now, from, &du);
                if let Some(port) = self.port_mut(from) {
                    port.pdus_in += u64::from(heard);
                }
                Ok(())
            }
            // What came in before it has been taken in before it.
            (Ok(SlowPdu::Marker(marker)), _) => {
                let answers = self.port_mut(from).is_some_and(|p| p.answers(now));
                if !answers {
                    return Err(DropReason::RateLimited);
                }
                self.said.push_back((from, Said::Response(marker)));
                Ok(())
            }
            (Ok(SlowPdu::Lacp(_)), None) | (Err(PduError::OtherSubtype), _) => {
                Err(DropReason::UnknownProtocol)
            }
            (Err(PduError::Truncated | PduError::BadTlv), _) => {
                self.bad_pdus += 1;
                Err(DropReason::Malformed)
            }
        }
    }

    /// Does what is due.
    pub(crate) fn on_deadline(&mut self, now: Instant) {
        if let Some(lacp) = &mut self.lacp {
            lacp.on_deadline(now);
        }
    }

    /// When there is something to do.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.lacp.as_ref().and_then(Lacp::next_deadline)
    }

    /// What is to be said next, and the member that says it.
    pub(crate) fn poll_transmit(&mut self, now: Instant) -> Option<(IfId, Said)> {
        let said = self.said.pop_front().or_else(|| {
            let (ifid, du) = self.lacp.as_mut()?.poll_transmit(now)?;
            Some((ifid, Said::Lacp(du)))
        });
        if let Some((ifid, Said::Lacp(_))) = said
            && let Some(port) = self.port_mut(ifid)
        {
            port.pdus_out += 1;
        }
        said
    }

    /// Decides anew who sends, now that these members are running, and the lagg itself is up or not. True when
    /// that has changed.
    fn update(&mut self, now: Instant, is_up: bool, running: &[IfId]) -> bool {
        if let Some(lacp) = &mut self.lacp {
            // The links of a lagg that is down are not: who is at their other ends is told.
            lacp.set_open(now, is_up);
            for member in &self.members {
                lacp.set_link(now, member.ifid, running.contains(&member.ifid));
            }
        }
        let runs = |m: &&LaggPort| is_up && running.contains(&m.ifid);
        let sends = |m: &&LaggPort| match &self.lacp {
            None => runs(m),
            Some(lacp) => is_up && lacp.distributes(m.ifid),
        };
        let most = match self.config.mode {
            LaggMode::Failover => 1,
            LaggMode::Balance | LaggMode::LacpActive | LaggMode::LacpPassive => MAX_MEMBERS,
        };
        let sending = self.members.iter().filter(sends).take(most);
        let (senders, numbers): (Vec<IfId>, Vec<u16>) = sending.map(|m| (m.ifid, m.number)).unzip();
        let has_changed = senders != self.senders;
        if has_changed {
            self.slots = spread(&numbers, self.seed);
            self.senders = senders;
        }
        has_changed
    }

    /// True when frames are taken that come in by a member, which is running or not.
    fn takes(&self, member: IfId, is_running: bool) -> bool {
        is_running
            && match (self.config.mode, &self.lacp) {
                (LaggMode::Failover, _) => self.sends_by(member),
                (_, None) => true,
                (_, Some(lacp)) => lacp.collects(member),
            }
    }
}

/// Gives each slot to one of the senders with these numbers: to the one whose hash with the slot is the highest. So one
/// that goes leaves its slots to all others, and one that comes takes some of each; no flow moves
/// between two that stay.
fn spread(senders: &[u16], seed: u64) -> Vec<u8> {
    if senders.len() < 2 {
        return Vec::new();
    }
    let weight = |slot: usize, number: u16| {
        let mut hasher = SipHasher13::new_with_keys(seed, slot as u64);
        hasher.write_u16(number);
        hasher.finish()
    };
    let owner = |slot| {
        let all = (0..).zip(senders);
        let best = all.max_by_key(|(_, number)| weight(slot, **number));
        best.map_or(0, |(place, _)| place)
    };
    (0..SLOTS).map(owner).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_moves_only_when_its_member_goes() {
        for seed in 0..20 {
            let all: Vec<u16> = (1..=4).collect();
            let before = spread(&all, seed);
            for gone in 0..4 {
                let mut left = all.clone();
                left.remove(gone);
                let after = spread(&left, seed);
                for slot in 0..SLOTS {
                    let was = usize::from(before[slot]);
                    let is = left[usize::from(after[slot])];
                    assert!(was == gone || all[was] == is, "slot {slot}");
                }
            }
            for member in 0..4 {
                let share = before.iter().filter(|s| **s == member).count();
                assert!((SLOTS / 8..SLOTS / 2).contains(&share), "{share} slots");
            }
        }
    }
}

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

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::base::id::IfId;
use crate::base::stats::DropReason;
use crate::base::time::Instant;
use crate::packet::header::ether::ETHER_LEN;
use crate::packet::{MacAddr, Packet};
use config::{LaggConfig, LaggMode};
use lacp::{Lacp, Params};
use pdu::{LacpDu, PduError, SystemId};

/// Members that a lagg may have. Every change asks each of them.
pub(crate) const MAX_MEMBERS: usize = 32;

/// Flows are spread over members by so many slots.
const SLOTS: usize = 256;
/// The priority of ports, which nothing here can choose between.
const PORT_PRIORITY: u16 = 0x8000;

/// A member of a lagg.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LaggPort {
    /// The interface.
    pub(crate) ifid: IfId,
    /// Its number, which no other member has: 1 and up.
    pub(crate) number: u16,
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
    senders: Vec<LaggPort>,
    /// The place among the senders of the one that has a slot's flows.
    slots: Vec<u8>,
    lacp: Option<Lacp>,
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
            seed,
            bad_pdus: 0,
        };
        lagg.restart();
        lagg
    }

    /// Begins LACP anew, if it is spoken.
    fn restart(&mut self) {
        self.lacp = self.config.mode.is_lacp().then(|| {
            let mut lacp = Lacp::new(Params {
                active: self.config.mode == LaggMode::LacpActive,
                fast: self.config.fast.is_on(),
                system: SystemId {
                    priority: self.config.system_priority,
                    mac: self.mac,
                },
                key: self.key,
                port_priority: PORT_PRIORITY,
            });
            for member in &self.members {
                lacp.add_port(member.ifid, member.number);
            }
            lacp
        });
    }

    /// How it works.
    pub(crate) const fn config(&self) -> &LaggConfig {
        &self.config
    }

    /// Changes how it works.
    pub(crate) fn set_config(&mut self, config: LaggConfig) {
        let old = std::mem::replace(&mut self.config, config);
        let same_protocol = LaggConfig {
            hash: config.hash,
            ..old
        };
        if same_protocol != config {
            self.restart();
        }
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

    /// True when it can have no more members.
    pub(crate) fn is_full(&self) -> bool {
        self.members.len() >= MAX_MEMBERS
    }

    /// True when a member sends.
    pub(crate) fn sends_by(&self, member: IfId) -> bool {
        self.senders.iter().any(|s| s.ifid == member)
    }

    /// Its protocol with its partners, if it speaks one.
    pub(crate) const fn lacp(&self) -> Option<&Lacp> {
        self.lacp.as_ref()
    }

    /// Messages of slow protocols that could not be read.
    pub(crate) const fn bad_pdus(&self) -> u64 {
        self.bad_pdus
    }

    fn add(&mut self, ifid: IfId) {
        let taken = |n: &u16| self.members.iter().any(|m| m.number == *n);
        let number = (1..=u16::MAX).find(|n| !taken(n)).unwrap_or(u16::MAX);
        self.members.push(LaggPort { ifid, number });
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
            [only] => only,
            many => {
                let flow = hash::flow(packet, self.config.hash, self.seed);
                let slot = flow as usize % SLOTS;
                &many[usize::from(self.slots[slot])]
            }
        };
        Some(sender.ifid)
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
        let Some(lacp) = &mut self.lacp else {
            return Err(DropReason::UnknownProtocol);
        };
        let len = packet.len();
        let head = packet.pull_up(len.min(ETHER_LEN + pdu::LOOK_AT));
        let head = head.and_then(|b| b.get(ETHER_LEN..)).unwrap_or_default();
        match LacpDu::parse(head, len.saturating_sub(ETHER_LEN)) {
            Ok(du) => {
                lacp.input(now, from, &du);
                Ok(())
            }
            Err(error) => {
                self.bad_pdus += 1;
                Err(match error {
                    PduError::OtherSubtype => DropReason::UnknownProtocol,
                    PduError::Truncated | PduError::BadTlv => DropReason::Malformed,
                })
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
    fn next_deadline(&self) -> Option<Instant> {
        self.lacp.as_ref().and_then(Lacp::next_deadline)
    }

    /// The next LACPDU to be sent, and the member that sends it.
    pub(crate) fn poll_transmit(&mut self, now: Instant) -> Option<(IfId, LacpDu)> {
        self.lacp.as_mut().and_then(|lacp| lacp.poll_transmit(now))
    }

    /// Decides anew who sends, now that these members are running. True when that has changed.
    fn update(&mut self, now: Instant, running: &[IfId]) -> bool {
        if let Some(lacp) = &mut self.lacp {
            for member in &self.members {
                lacp.set_link(now, member.ifid, running.contains(&member.ifid));
            }
        }
        let is_running = |m: &&LaggPort| running.contains(&m.ifid);
        let members = self.members.iter();
        let senders: Vec<LaggPort> = match (self.config.mode, &self.lacp) {
            (LaggMode::Failover, _) => members.filter(is_running).take(1).copied().collect(),
            (_, None) => members.filter(is_running).copied().collect(),
            (_, Some(lacp)) => {
                let sends = |m: &&LaggPort| lacp.distributes(m.ifid);
                members.filter(sends).copied().collect()
            }
        };
        let all = |ports: &[LaggPort]| ports.iter().map(|p| p.ifid).collect::<Vec<_>>();
        let has_changed = all(&senders) != all(&self.senders);
        if has_changed {
            self.slots = spread(&senders, self.seed);
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

/// Gives each slot to one of the senders: to the one whose hash with the slot is the highest. So one
/// that goes leaves its slots to all others, and one that comes takes some of each; no flow moves
/// between two that stay.
fn spread(senders: &[LaggPort], seed: u64) -> Vec<u8> {
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
        let best = all.max_by_key(|(_, port)| weight(slot, port.number));
        best.map_or(0, |(place, _)| place)
    };
    (0..SLOTS).map(owner).collect()
}

#[cfg(test)]
mod tests {
    use slotmap::KeyData;

    use super::*;

    fn port(number: u16) -> LaggPort {
        LaggPort {
            ifid: KeyData::from_ffi(u64::from(number) + (1 << 32)).into(),
            number,
        }
    }

    #[test]
    fn a_flow_moves_only_when_its_member_goes() {
        for seed in 0..20 {
            let all: Vec<LaggPort> = (1..=4).map(port).collect();
            let before = spread(&all, seed);
            for gone in 0..4 {
                let mut left = all.clone();
                left.remove(gone);
                let after = spread(&left, seed);
                for slot in 0..SLOTS {
                    let was = usize::from(before[slot]);
                    let is = left[usize::from(after[slot])].number;
                    assert!(was == gone || all[was].number == is, "slot {slot}");
                }
            }
            for member in 0..4 {
                let share = before.iter().filter(|s| **s == member).count();
                assert!((SLOTS / 8..SLOTS / 2).contains(&share), "{share} slots");
            }
        }
    }
}

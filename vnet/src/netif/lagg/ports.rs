//! Laggs in the table of a vnet's interfaces: who is a member of which, and what happens to both when
//! one of them changes.

use super::Lagg;
use super::config::LaggMembership;
use super::pdu::Said;
use crate::base::id::IfId;
use crate::base::time::Instant;
use crate::netif::kind::Kind;
use crate::netif::member::Member;
use crate::netif::table::{AdminState, IfTable};
use crate::packet::MacAddr;
use crate::packet::cx::Carrier;

/// What has changed about a lagg, for the rest of its vnet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changed {
    /// Its carrier.
    pub(crate) carrier: bool,
    /// Which members send.
    pub(crate) senders: bool,
}

impl IfTable {
    /// The lagg that an interface is.
    pub(crate) fn lagg(&self, id: IfId) -> Option<&Lagg> {
        self.get(id).and_then(|i| i.kind.lagg())
    }

    fn lagg_mut(&mut self, id: IfId) -> Option<&mut Lagg> {
        match &mut self.get_mut(id)?.kind {
            Kind::Lagg(lagg) => Some(lagg),
            _ => None,
        }
    }

    /// The lagg that an interface is, or is a member of.
    pub(crate) fn lagg_of(&self, id: IfId) -> Option<IfId> {
        let netif = self.get(id)?;
        match (&netif.kind, &netif.member) {
            (_, Some(Member::Lagg(member))) => Some(member.lagg),
            (Kind::Lagg(_), _) => Some(id),
            _ => None,
        }
    }

    /// Makes an interface a member: it has the lagg's address and MTU from now on. Returns the interfaces
    /// that have another address now, with those that they had.
    pub(crate) fn join_lagg(&mut self, lagg: IfId, id: IfId) -> Vec<(IfId, MacAddr)> {
        let Some((mac, ip_mtu)) = self.get(lagg).map(|i| (i.mac, i.ip_mtu)) else {
            return Vec::new();
        };
        let Some(netif) = self.get_mut(id) else {
            return Vec::new();
        };
        netif.member = Some(Member::Lagg(LaggMembership {
            lagg,
            takes: false,
            mac: netif.mac,
            ip_mtu: netif.ip_mtu,
        }));
        let had = self.set_mac(id, mac);
        self.set_ip_mtu(id, ip_mtu);
        if let Some(lagg) = self.lagg_mut(lagg) {
            lagg.add(id);
        }
        had
    }

    /// Makes an interface a member no more, and gives its own address and MTU back to it. Returns the
    /// lagg that it was in, which is still to be told, and the interfaces that have another address now, with
    /// those that they had.
    pub(crate) fn leave_lagg(&mut self, id: IfId) -> Option<(IfId, Vec<(IfId, MacAddr)>)> {
        let netif = self.get_mut(id)?;
        let Some(Member::Lagg(member)) = netif.member else {
            return None;
        };
        netif.member = None;
        let had = self.set_mac(id, member.mac);
        self.set_ip_mtu(id, member.ip_mtu);
        Some((member.lagg, had))
    }

    /// The members of the lagg that an interface is.
    pub(crate) fn members_of_lagg(&self, id: IfId) -> Vec<IfId> {
        let lagg = self.lagg(id);
        lagg.map_or_else(Vec::new, |lagg| lagg.members().collect())
    }

    /// Changes a lagg, and puts into effect what follows from that and from the state of its members.
    pub(crate) fn with_lagg(
        &mut self,
        now: Instant,
        id: IfId,
        change: impl FnOnce(&mut Lagg),
    ) -> Changed {
        let Some(itself) = self.get(id) else {
            return Changed::default();
        };
        let (is_up, before) = (itself.admin == AdminState::Up, itself.carrier);
        let members = self.members_of_lagg(id);
        let runs = |id: &IfId| self.get(*id).is_some_and(|i| i.is_running());
        let running: Vec<IfId> = members.into_iter().filter(runs).collect();
        let Some(lagg) = self.lagg_mut(id) else {
            return Changed::default();
        };
        change(lagg);
        let senders = lagg.update(now, is_up, &running);
        let carrier = match lagg.senders.is_empty() {
            true => Carrier::Down,
            false => Carrier::Up,
        };
        let takes = |id: IfId| (id, is_up && lagg.takes(id, running.contains(&id)));
        let takes: Vec<(IfId, bool)> = lagg.members().map(takes).collect();
        for (id, takes) in takes {
            if let Some(Member::Lagg(member)) = self.get_mut(id).and_then(|i| i.member.as_mut()) {
                member.takes = takes;
            }
        }
        if let Some(itself) = self.get_mut(id) {
            itself.carrier = carrier;
        }
        Changed {
            carrier: carrier != before,
            senders,
        }
    }

    /// What a lagg says next, the member that says it, and that one's own address. When it has said all, it is
    /// woken for what is due.
    pub(crate) fn poll_lagg(&mut self, now: Instant, id: IfId) -> Option<(IfId, MacAddr, Said)> {
        let lagg = self.lagg_mut(id)?;
        let Some((port, said)) = lagg.poll_transmit(now) else {
            if let Some(at) = lagg.next_deadline() {
                self.arm_link(id, at);
            }
            return None;
        };
        let netif = self.get(port)?;
        let mac = match &netif.member {
            Some(Member::Lagg(member)) => member.mac,
            _ => netif.mac,
        };
        Some((port, mac, said))
    }
}

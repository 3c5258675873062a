//! VLAN interfaces in the table of a vnet's interfaces: who stands on whom, and what that means for
//! both.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::bridge::Bridges;
use super::kind::Kind;
use super::table::IfTable;
use super::vlan::{Above, Origin, Vlan, VlanConfig};
use super::wire::WireEnd;
use crate::base::id::IfId;
use crate::packet::cx::Carrier;
use crate::packet::{Cx, MacAddr};

impl IfTable {
    /// The interface at the bottom of all that `id` stands on.
    pub(crate) fn ground(&self, mut id: IfId) -> IfId {
        while let Some(parent) = self.get(id).and_then(|i| i.kind.parent()) {
            id = parent;
        }
        id
    }

    /// The interfaces of this vnet that `id` stands on: what leaves by it leaves by them.
    fn below(&self, bridges: &Bridges, id: IfId) -> Vec<IfId> {
        let Some(netif) = self.get(id) else {
            return Vec::new();
        };
        match &netif.kind {
            Kind::Loopback(_) | Kind::Epair(_) | Kind::Port(_) => Vec::new(),
            Kind::Bridge(id) => bridges.get(*id).map_or(Vec::new(), |b| b.members.clone()),
            Kind::Lagg(lagg) => lagg.members().collect(),
            Kind::Vlan(_) => netif.kind.parent().into_iter().collect(),
        }
    }

    /// True when `id` stands on `other`, or on what stands on it, inside this vnet.
    pub(crate) fn stands_on(&self, bridges: &Bridges, id: IfId, other: IfId) -> bool {
        let mut seen = BTreeSet::new();
        let mut next = vec![id];
        while let Some(at) = next.pop() {
            if !seen.insert(at) {
                continue;
            }
            let below = self.below(bridges, at);
            if below.contains(&other) {
                return true;
            }
            next.extend(below);
        }
        false
    }

    /// True when the interface, or what it stands on, belongs to another vnet.
    pub(crate) fn is_on_borrowed(&self, mut id: IfId) -> bool {
        while let Some(netif) = self.get(id) {
            match netif.kind.parent() {
                _ if netif.loan.is_some() => return true,
                Some(parent) => id = parent,
                None => return false,
            }
        }
        false
    }

    /// True when a frame for the station `dst` that has come to the interface `id` in this VLAN may be for
    /// the VLAN interface there, or for somebody behind that: a bridge, another vnet, what stands on it.
    pub(crate) fn leads_to(&self, id: IfId, vlan: VlanConfig, dst: MacAddr) -> bool {
        let above = self.get(id).and_then(|i| i.vlans.get(vlan));
        match above {
            None => false,
            Some(Above::Away(..)) => true,
            Some(Above::Here(above)) => self.get(*above).is_some_and(|above| {
                above.mac == dst || above.member.is_some() || !above.vlans.is_empty()
            }),
        }
    }

    fn vlan_mut(&mut self, id: IfId) -> Option<&mut Vlan> {
        match &mut self.get_mut(id)?.kind {
            Kind::Vlan(vlan) => Some(vlan),
            _ => None,
        }
    }

    /// Sets the MTU of an interface, and of its members if it is a lagg. VLAN interfaces on it follow: none
    /// has more than its parent can carry.
    pub(crate) fn set_ip_mtu(&mut self, id: IfId, ip_mtu: u16) {
        if let Some(vlan) = self.vlan_mut(id) {
            vlan.ip_mtu = Some(ip_mtu);
        }
        let mut changed = vec![id];
        changed.extend(self.members_of_lagg(id));
        let mut next = 0;
        while let Some(&id) = changed.get(next) {
            next += 1;
            match self.vlan_mut(id) {
                Some(_) => self.fit(id),
                None => {
                    if let Some(netif) = self.get_mut(id) {
                        netif.ip_mtu = ip_mtu;
                    }
                }
            }
            changed.extend(self.get(id).map_or(Vec::new(), |i| i.vlans.here()));
        }
    }

    /// Gives a VLAN interface the MTU that follows from its own and its parent's.
    pub(crate) fn fit(&mut self, id: IfId) {
        let parent = self.get(id).and_then(|i| i.kind.parent());
        let below = parent.and_then(|id| self.get(id)).map(|i| i.ip_mtu);
        let Some(vlan) = self.vlan_mut(id) else {
            return;
        };
        if let Some(below) = below {
            vlan.room = Vlan::room_on(vlan.depth, below);
        }
        let ip_mtu = vlan.mtu();
        if let Some(netif) = self.get_mut(id) {
            netif.ip_mtu = ip_mtu;
        }
    }

    /// Sets the address of an interface, of its members if it is a lagg, and of those VLAN interfaces on it
    /// that have theirs from it.
    /// Returns all of them, with the addresses that they had.
    pub(crate) fn set_mac(&mut self, id: IfId, mac: MacAddr) -> Vec<(IfId, MacAddr)> {
        if let Some(vlan) = self.vlan_mut(id) {
            vlan.mac = Origin::Hand;
        }
        let mut had = Vec::new();
        for id in self.with_heirs(id) {
            if let Some(netif) = self.get_mut(id) {
                had.push((id, std::mem::replace(&mut netif.mac, mac)));
            }
        }
        had
    }

    /// An interface, the members of the lagg that it is, and the VLAN interfaces on them, and on those,
    /// that have their address from it.
    fn with_heirs(&self, id: IfId) -> Vec<IfId> {
        let mut heirs = vec![id];
        heirs.extend(self.members_of_lagg(id));
        let mut next = 0;
        while let Some(netif) = heirs.get(next).and_then(|id| self.get(*id)) {
            let inherits = |id: &IfId| {
                let vlan = self.get(*id).and_then(|i| i.kind.vlan());
                vlan.is_some_and(|vlan| vlan.mac == Origin::Parent)
            };
            heirs.extend(netif.vlans.here().into_iter().filter(inherits));
            next += 1;
        }
        heirs
    }

    /// Gives the VLAN interfaces on an interface the carrier that it has for them, and notes in
    /// `changed` whose that changes.
    pub(crate) fn tell_vlans(&mut self, cx: &mut Cx, id: IfId, changed: &mut Vec<IfId>) {
        let Some(netif) = self.get(id).filter(|i| !i.vlans.is_empty()) else {
            return;
        };
        let carrier = netif.carrier_above();
        for above in netif.vlans.iter() {
            if let Above::Away(_, to) = above {
                let to = Arc::<WireEnd>::clone(to);
                cx.out.carrier.push((to, carrier));
            }
        }
        for id in netif.vlans.here() {
            if let Some(netif) = self.get_mut(id)
                && netif.carrier != carrier
            {
                netif.carrier = carrier;
                changed.push(id);
            }
        }
    }

    /// Gives a VLAN interface another VLAN of its parent, which none has.
    pub(crate) fn retag(&mut self, id: IfId, config: VlanConfig) {
        self.take_off(id);
        let Some(vlan) = self.vlan_mut(id) else {
            return;
        };
        vlan.config = config;
        let parent = vlan.parent;
        if let Some(netif) = self.get_mut(parent) {
            netif.vlans.set(config, Above::Here(id));
        }
    }

    /// Takes a VLAN interface off its parent, if that is in this vnet.
    pub(crate) fn take_off(&mut self, id: IfId) {
        let vlan = self.vlan_mut(id).map(|v| (v.parent, v.config));
        if let Some((parent, config)) = vlan
            && let Some(netif) = self.get_mut(parent)
            && matches!(netif.vlans.get(config), Some(Above::Here(above)) if *above == id)
        {
            netif.vlans.remove(config);
        }
    }
}

impl super::table::Netif {
    /// The carrier that VLAN interfaces on it have: none while it is a member of a bridge or a lagg, which
    /// has its frames, and decides which ones it sends.
    pub(crate) fn carrier_above(&self) -> Carrier {
        match self.is_running() && self.member.is_none() {
            true => Carrier::Up,
            false => Carrier::Down,
        }
    }
}

//! The bridges of a vnet: who is a member of which, and what happens when an interface comes, goes
//! or changes.

use std::sync::Arc;

use super::Bridge;
use super::config::{BridgeId, MemberConfig, Membership, Treatment};
use super::fdb::{FdbEntry, Fid, Origin, is_learned};
use super::snooping::Snooper;
use crate::base::deadline::Deadlines;
use crate::base::id::IfId;
use crate::base::on_use::part;
use crate::base::slab::Slab;
use crate::base::time::Instant;
use crate::link::Account;
use crate::netif::member::Member;
use crate::netif::{AdminState, IfTable};
use crate::packet::MacAddr;
use crate::packet::cx::Carrier;

/// How many stations the bridges of one vnet know, unless there is another limit.
pub(crate) const DEFAULT_STATIONS: u64 = 1 << 18;

/// The bridges of one vnet.
pub(crate) struct Bridges {
    pub(super) bridges: Slab<BridgeId, Bridge>,
    /// When their spanning trees, what they know of groups, and what they introduce want to be looked at.
    pub(super) deadlines: Deadlines<BridgeId>,
    /// Those that may have something to send.
    pub(super) sending: Vec<BridgeId>,
    /// The stations that they know, and how many those may be.
    account: Arc<Account>,
}

impl Default for Bridges {
    fn default() -> Bridges {
        Bridges {
            bridges: Slab::default(),
            deadlines: Deadlines::default(),
            sending: Vec::new(),
            account: Arc::new(Account::new(DEFAULT_STATIONS)),
        }
    }
}

part!(Bridges, Bridges::default());

impl Bridges {
    /// The bridge, unless it is gone.
    #[inline]
    pub(crate) fn get(&self, id: BridgeId) -> Option<&Bridge> {
        self.bridges.get(id)
    }

    /// The bridge, to be used, unless it is gone.
    #[inline]
    pub(crate) fn get_mut(&mut self, id: BridgeId) -> Option<&mut Bridge> {
        self.bridges.get_mut(id)
    }

    /// The stations that they know, how many those may be, and how often there was no room for one.
    pub(crate) fn account(&self) -> &Account {
        &self.account
    }

    /// Changes how many stations they may know. Those that they know stay.
    // Mutable, since an account can be changed without it: one that nobody uses is everybody's.
    pub(crate) fn limit_stations(&mut self, limit: u64) {
        self.account.set_limit(limit);
    }

    /// Makes a bridge without members, which is the interface `ifid` with the address `mac`.
    pub(crate) fn create(&mut self, now: Instant, ifid: IfId, mac: MacAddr, seed: u64) -> BridgeId {
        let mut bridge = Bridge::new(ifid, seed, Arc::clone(&self.account));
        bridge.fdb.set(now, Fid::ALL, mac, ifid, Origin::Local);
        self.bridges.insert(bridge)
    }

    /// Makes the interface `ifid`, which is a member of none, a member.
    pub(crate) fn join(&mut self, ifs: &mut IfTable, now: Instant, id: BridgeId, ifid: IfId) {
        let (Some(bridge), Some(netif)) = (self.bridges.get_mut(id), ifs.get_mut(ifid)) else {
            return;
        };
        let config = MemberConfig::default();
        let membership = Membership::new(id, Treatment::from(&config));
        netif.member = Some(Member::Bridge(membership));
        bridge.set_member_config(now, ifid, config);
        let mac = netif.mac;
        bridge.members.push(ifid);
        self.readdress(ifs, now, id, mac);
        self.update_carrier(ifs, id);
        self.add_port(ifs, now, id, ifid);
        self.member_runs(ifs, now, ifid, true);
    }

    /// Takes an interface out of what it has to do with bridges: a member leaves, with the
    /// stations behind it; a bridge is no more, and its members are free. Does nothing to others.
    pub(crate) fn forget(&mut self, ifs: &mut IfTable, now: Instant, ifid: IfId) {
        let Some(netif) = ifs.get_mut(ifid) else {
            return;
        };
        let mac = netif.mac;
        if let Some(member) = netif.on_bridge().copied() {
            netif.member = None;
            let id = member.bridge;
            self.remove_port(ifs, now, member);
            if let Some(bridge) = self.bridges.get_mut(id) {
                bridge.remove_member(now, ifid);
            }
            self.readdress(ifs, now, id, mac);
            self.update_carrier(ifs, id);
        } else if let Some(id) = netif.kind.bridge() {
            let Some(mut bridge) = self.bridges.remove(id) else {
                return;
            };
            if let Some(tree) = &mut bridge.tree {
                self.deadlines.forget(&mut tree.armed);
            }
            if let Some(snooper) = &mut bridge.snooper {
                self.deadlines.forget(&mut snooper.armed);
            }
            if let Some(all) = &mut bridge.introductions {
                self.deadlines.forget(&mut all.armed);
            }
            for member in bridge.members {
                if let Some(netif) = ifs.get_mut(member) {
                    netif.member = None;
                }
            }
        }
    }

    /// An interface had the address `old` until now.
    pub(crate) fn mac_changed(
        &mut self,
        ifs: &mut IfTable,
        now: Instant,
        ifid: IfId,
        old: MacAddr,
    ) {
        let Some(netif) = ifs.get(ifid) else { return };
        let is_member_of = netif.on_bridge().map(|m| m.bridge);
        if let Some(id) = is_member_of.or(netif.kind.bridge()) {
            let mac = netif.mac;
            self.readdress(ifs, now, id, old);
            self.readdress(ifs, now, id, mac);
            self.identify(ifs, now, id);
        }
    }

    /// An interface came up or went down. Nobody is behind a member that is down: its stations
    /// may have gone elsewhere, and frames for them go everywhere until they speak.
    pub(crate) fn state_changed(&mut self, ifs: &mut IfTable, now: Instant, ifid: IfId) {
        let Some(netif) = ifs.get(ifid) else { return };
        if let Some(id) = netif.kind.bridge() {
            let is_up = netif.admin == AdminState::Up;
            if let Some(snooper) = self.get_mut(id).and_then(|b| b.snooper.as_mut()) {
                snooper.runs(now, is_up);
                self.tend(id);
            }
            return self.check_ports(ifs, now, id);
        }
        let Some(&Membership { bridge: id, .. }) = netif.on_bridge() else {
            return;
        };
        if !netif.is_running()
            && let Some(bridge) = self.bridges.get_mut(id)
        {
            let lost = |s: &FdbEntry| s.ifid == ifid && s.origin == Origin::Learned;
            bridge.fdb.remove_if(lost);
        }
        self.update_carrier(ifs, id);
        self.check_port(ifs, now, ifid);
        self.member_runs(ifs, now, ifid, false);
    }

    /// A member runs or does not, and may have begun to; nobody knows who is behind one that is new.
    pub(super) fn member_runs(&mut self, ifs: &IfTable, now: Instant, ifid: IfId, is_new: bool) {
        let Some(netif) = ifs.get(ifid) else { return };
        let member = netif.on_bridge().map(|m| m.bridge);
        if let Some((id, bridge)) = member.and_then(|id| Some((id, self.bridges.get_mut(id)?))) {
            match is_new && netif.is_running() {
                true => bridge.greet(now, ifid),
                false => bridge.runs(now, ifid, netif.is_running()),
            }
            self.tend(id);
        }
    }

    /// The members of a bridge.
    pub(crate) fn members(&self, id: BridgeId) -> Vec<IfId> {
        self.get(id).map_or(Vec::new(), |b| b.members.clone())
    }

    /// Forgets what has been learned behind an interface, if it is a member.
    pub(crate) fn forget_stations(&mut self, ifs: &IfTable, ifid: IfId) {
        let member = ifs.get(ifid).and_then(|i| i.on_bridge());
        if let Some(bridge) = member.and_then(|m| self.bridges.get_mut(m.bridge)) {
            bridge.fdb.remove_if(|s| s.ifid == ifid && is_learned(s));
        }
    }

    /// True when there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.bridges.len() == 0
    }

    /// Spanning trees that want to be looked at some time.
    pub(crate) fn armed(&self) -> usize {
        self.deadlines.len()
    }

    /// Entries in all filtering databases, and what is known of groups.
    pub(crate) fn stations(&self) -> usize {
        let groups = |b: &Bridge| b.snooper.as_deref().map_or(0, Snooper::len);
        let all = self.bridges.iter().map(|(_, b)| b.fdb.len() + groups(b));
        all.sum()
    }

    /// Gives the memory back. There are no bridges any more.
    pub(crate) fn reset(&mut self) {
        self.bridges.reset();
        self.deadlines.reset();
        self.sending = Vec::new();
    }

    /// An address that the bridge or a member has is local, and one that none has is not.
    fn readdress(&mut self, ifs: &IfTable, now: Instant, id: BridgeId, mac: MacAddr) {
        let Some(bridge) = self.bridges.get_mut(id) else {
            return;
        };
        let has = |ifid: &IfId| ifs.get(*ifid).is_some_and(|i| i.mac == mac);
        let mut all = std::iter::once(bridge.ifid).chain(bridge.members.iter().copied());
        let known = bridge.fdb.lookup(now, Fid::ALL, mac).map(|s| s.origin);
        match all.find(has) {
            Some(ifid) => bridge.fdb.set(now, Fid::ALL, mac, ifid, Origin::Local),
            None if known == Some(Origin::Local) => drop(bridge.fdb.remove(Fid::ALL, mac)),
            None => {}
        }
    }

    /// A bridge has a carrier when a member can carry frames, and does more than watch.
    pub(super) fn update_carrier(&self, ifs: &mut IfTable, id: BridgeId) {
        let Some(bridge) = self.bridges.get(id) else {
            return;
        };
        let runs =
            |m: &IfId| !bridge.spans.contains(m) && ifs.get(*m).is_some_and(|i| i.is_running());
        let carrier = match bridge.members.iter().any(runs) {
            true => Carrier::Up,
            false => Carrier::Down,
        };
        if let Some(netif) = ifs.get_mut(bridge.ifid) {
            netif.carrier = carrier;
        }
    }
}

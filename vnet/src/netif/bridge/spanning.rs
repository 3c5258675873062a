//! Bridges and their spanning trees: what a tree's engine is told, and what it says is done.

use super::config::{BridgeConfig, BridgeId, MemberConfig, Membership, Treatment};
use super::fdb::Origin;
use super::introduce::Introduction;
use super::members::Bridges;
use super::snooping::read::Question;
use super::stp::bpdu::{self, BpduError, Encoded};
use super::stp::config::RstpPort;
use super::stp::engine::{Event, Refusal};
use super::stp::state::PortState;
use super::stp::vector::PortNumber;
use super::tree::{self, Tree};
use crate::base::deadline::{Armed, Deadlines};
use crate::base::id::IfId;
use crate::base::stats::DropReason;
use crate::base::time::Instant;
use crate::netif::member::Member;
use crate::netif::{AdminState, IfTable, Netif};
use crate::packet::Packet;

/// What a bridge says.
pub(crate) enum Said {
    /// To the bridge at the other end of a member's link.
    Bpdu(IfId, Encoded),
    /// To the hosts on it.
    Question(BridgeId, Question),
    /// In a station's stead, to those to whom a member leads.
    Introduction(BridgeId, Introduction),
}

/// Bytes of a frame that are looked at for a BPDU: all that there is to read in one.
const LOOK_AT: usize = 64;

impl Bridges {
    /// Changes how a bridge works. Its configuration, and the number of its members, have been checked.
    pub(crate) fn set_config(
        &mut self,
        ifs: &mut IfTable,
        now: Instant,
        id: BridgeId,
        config: BridgeConfig,
    ) {
        let Some(bridge) = self.get_mut(id) else {
            return;
        };
        let Some(mac) = ifs.get(bridge.ifid).map(|i| i.mac) else {
            return;
        };
        let stp = config.stp;
        let stays = config.snooping.is_some();
        if let Some(mut snooper) = bridge.snooper.take_if(|_| !stays) {
            self.deadlines.forget(&mut snooper.armed);
        }
        let Some(bridge) = self.get_mut(id) else {
            return;
        };
        bridge.set_config(now, config);
        for member in bridge.members.clone() {
            if ifs.get(member).is_some_and(|i| !i.is_running()) {
                bridge.runs(now, member, false);
            }
        }
        match (stp, bridge.tree.is_some()) {
            (None, false) => {}
            (None, true) => self.fell_tree(ifs, id),
            (Some(config), true) => self.with_tree(ifs, id, |tree| {
                let identifier = tree::identifier(mac, &config);
                tree.engine.set_config(now, identifier, config);
            }),
            (Some(config), false) => {
                bridge.tree = Some(Box::new(Tree::new(mac, config)));
                for member in bridge.members.clone() {
                    self.add_port(ifs, now, id, member);
                }
            }
        }
        self.tend(id);
    }

    /// Changes how a bridge treats a member.
    pub(crate) fn set_member(
        &mut self,
        ifs: &mut IfTable,
        now: Instant,
        ifid: IfId,
        config: MemberConfig,
    ) {
        let Some(netif) = ifs.get_mut(ifid) else {
            return;
        };
        let Some(member) = netif.on_bridge_mut() else {
            return;
        };
        let old = std::mem::replace(&mut member.config, Treatment::from(&config));
        let Membership {
            bridge: id,
            config: Treatment { rstp, .. },
            port,
            ..
        } = *member;
        let is_cost_set = rstp.path_cost != old.rstp.path_cost;
        let cost = is_cost_set.then(|| path_cost(netif, rstp));
        let is_span = config.span.is_on();
        let Some(bridge) = self.get_mut(id) else {
            return;
        };
        let known = bridge.member_config(ifid).map(|c| &c.vlans);
        let moves = known != Some(&config.vlans) || is_span != old.span.is_on();
        bridge.set_member_config(now, ifid, config);
        if is_span != old.span.is_on() {
            self.set_watching(ifs, now, id, ifid);
        } else if let Some(port) = port {
            self.with_tree(ifs, id, |tree| {
                let known = tree.engine.port(port).map(|p| p.cost);
                if let Some(cost) = cost.or(known) {
                    tree.engine.set_port(now, port, rstp, cost);
                }
            });
        }
        if moves {
            self.member_runs(ifs, now, ifid, true);
        }
        self.tend(id);
    }

    /// A member only watches from now on, or does so no more: one that does is in no spanning tree.
    fn set_watching(&mut self, ifs: &mut IfTable, now: Instant, id: BridgeId, ifid: IfId) {
        if let Some(member) = ifs.get(ifid).and_then(|i| i.on_bridge().copied()) {
            self.remove_port(ifs, now, member);
            if let Some(netif) = ifs.get_mut(ifid) {
                let out = Membership::new(id, member.config);
                netif.member = Some(Member::Bridge(out));
            }
            self.add_port(ifs, now, id, ifid);
            self.update_carrier(ifs, id);
        }
    }

    /// An interface has another link: if it is a member, its path cost may be another one.
    pub(crate) fn link_changed(&mut self, ifs: &mut IfTable, now: Instant, ifid: IfId) {
        let Some(netif) = ifs.get(ifid) else { return };
        let Some(member) = netif.on_bridge() else {
            return;
        };
        let cost = path_cost(netif, member.config.rstp);
        if let Some(port) = member.port {
            self.with_tree(ifs, member.bridge, |tree| {
                tree.engine.set_cost(now, port, cost);
            });
        }
    }

    /// A bridge has another address.
    pub(super) fn identify(&mut self, ifs: &mut IfTable, now: Instant, id: BridgeId) {
        let Some(bridge) = self.get_mut(id) else {
            return;
        };
        let mac = ifs.get(bridge.ifid).map(|i| i.mac);
        if let (Some(config), Some(mac)) = (bridge.config.stp, mac) {
            self.with_tree(ifs, id, |tree| {
                let identifier = tree::identifier(mac, &config);
                tree.engine.set_config(now, identifier, config);
            });
        }
    }

    /// Makes a member a port of its bridge's tree, if that has one.
    pub(super) fn add_port(&mut self, ifs: &mut IfTable, now: Instant, id: BridgeId, ifid: IfId) {
        let (Some(bridge), Some(netif)) = (self.get_mut(id), ifs.get_mut(ifid)) else {
            return;
        };
        let member = netif.on_bridge().copied();
        let member = member.filter(|member| !member.config.span.is_on());
        if let (Some(tree), Some(member)) = (&mut bridge.tree, member) {
            let cost = path_cost(netif, member.config.rstp);
            netif.member = Some(Member::Bridge(Membership {
                port: tree.add(ifid, member.config.rstp, cost),
                state: PortState::Discarding,
                ..member
            }));
            self.check_port(ifs, now, ifid);
        }
    }

    /// Takes the port of a member that leaves out of its bridge's tree.
    pub(super) fn remove_port(&mut self, ifs: &mut IfTable, now: Instant, member: Membership) {
        if let Some(port) = member.port {
            self.with_tree(ifs, member.bridge, |tree| {
                tree.remove(port);
                tree.engine.remove_port(now, port);
            });
        }
    }

    /// Tells the tree whether a member's link is there. A bridge that is down has no links.
    pub(super) fn check_port(&mut self, ifs: &mut IfTable, now: Instant, ifid: IfId) {
        let Some(netif) = ifs.get(ifid) else { return };
        let Some(&Membership {
            bridge: id,
            port: Some(port),
            ..
        }) = netif.on_bridge()
        else {
            return;
        };
        let bridge = self.get(id).and_then(|b| ifs.get(b.ifid));
        let is_up = netif.is_running() && bridge.is_some_and(|b| b.admin == AdminState::Up);
        self.with_tree(ifs, id, |tree| match is_up {
            true => tree.engine.port_up(now, port),
            false => tree.engine.port_down(now, port),
        });
    }

    /// The same for all members of a bridge.
    pub(super) fn check_ports(&mut self, ifs: &mut IfTable, now: Instant, id: BridgeId) {
        let members = match self.get(id) {
            Some(bridge) if bridge.tree.is_some() => bridge.members.clone(),
            _ => return,
        };
        for member in members {
            self.check_port(ifs, now, member);
        }
    }

    /// A member has brought in a frame for bridges.
    ///
    /// # Errors
    /// Why it tells the tree nothing.
    pub(crate) fn bpdu(
        &mut self,
        ifs: &mut IfTable,
        now: Instant,
        from: IfId,
        packet: &mut Packet,
    ) -> Result<(), DropReason> {
        let len = packet.len();
        // IEEE 802.1Q-2018, clause 8.13.9: BPDUs have no tag.
        let is_tagged = !packet.meta.tags.is_empty();
        let bpdu = match packet.pull_up(len.min(LOOK_AT)) {
            Some(head) if !is_tagged => bpdu::in_frame(head, len),
            _ => Err(BpduError::NotABpdu),
        };
        let member = ifs.get(from).and_then(|i| i.on_bridge());
        let Some((bridge, port)) = member.and_then(|m| Some((m.bridge, m.port?))) else {
            return Err(DropReason::BridgeFiltered);
        };
        let mut taken = Err(Refusal::Down);
        self.with_tree(ifs, bridge, |tree| {
            taken = tree.engine.input(now, port, bpdu);
        });
        taken.map_err(|refusal| match refusal {
            Refusal::Bad(_) => DropReason::Malformed,
            Refusal::Own => DropReason::BridgeLoop,
            Refusal::Guarded => DropReason::StpGuard,
            Refusal::Down => DropReason::InterfaceDown,
        })
    }

    /// True when [`Bridges::poll_transmit`] may have something to say.
    pub(crate) fn has_to_send(&self) -> bool {
        !self.sending.is_empty()
    }

    /// What a bridge has to say next.
    pub(crate) fn poll_transmit(&mut self, now: Instant) -> Option<Said> {
        while let Some(&id) = self.sending.last() {
            let Some(bridge) = self.bridges.get_mut(id) else {
                self.sending.pop();
                continue;
            };
            if let Some(tree) = &mut bridge.tree {
                if let Some((port, bpdu)) = tree.engine.poll_transmit(now) {
                    let member = tree.member(port)?;
                    return Some(Said::Bpdu(member, bpdu.emit()));
                }
                tree.is_listed = false;
                if let Some(at) = tree.engine.next_deadline() {
                    self.deadlines.arm(&mut tree.armed, id, at);
                }
            }
            if let Some(snooper) = &mut bridge.snooper {
                if let Some(question) = snooper.poll(now) {
                    return Some(Said::Question(id, question));
                }
                snooper.is_listed = false;
                if let Some(at) = snooper.next_deadline() {
                    self.deadlines.arm(&mut snooper.armed, id, at);
                }
            }
            if let Some(all) = &mut bridge.introductions {
                if let Some(who) = all.poll(now, &bridge.fdb) {
                    return Some(Said::Introduction(id, who));
                }
                all.is_listed = false;
                match all.next_deadline() {
                    Some(at) => self.deadlines.arm(&mut all.armed, id, at),
                    None => {
                        self.deadlines.forget(&mut all.armed);
                        bridge.introductions = None;
                    }
                }
            }
            self.sending.pop();
        }
        None
    }

    /// A bridge may have something to ask about groups.
    pub(crate) fn tend(&mut self, id: BridgeId) {
        let snooper = self.bridges.get_mut(id).and_then(|b| b.snooper.as_mut());
        if let Some(snooper) = snooper
            && !std::mem::replace(&mut snooper.is_listed, true)
        {
            self.sending.push(id);
        }
    }

    /// A member leads another way to others from now on: they are to learn where the stations are that are not
    /// behind it.
    pub(crate) fn introduce(&mut self, now: Instant, id: BridgeId, member: IfId) {
        if let Some(bridge) = self.bridges.get_mut(id) {
            let all = bridge.introductions.get_or_insert_default();
            all.begin(now, member, &bridge.fdb);
            if !std::mem::replace(&mut all.is_listed, true) {
                self.sending.push(id);
            }
        }
    }

    /// When a bridge wants to be looked at; may be early.
    #[inline]
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    /// Does what is due.
    pub(crate) fn on_deadline(&mut self, ifs: &mut IfTable, now: Instant) {
        while let Some((at, id)) = self.deadlines.pop_due(now) {
            let Some(bridge) = self.bridges.get_mut(id) else {
                continue;
            };
            let is_its_own = |armed: &mut Armed| Deadlines::<BridgeId>::disarm(armed, at);
            let snooper = bridge.snooper.as_mut();
            let asks = snooper.is_some_and(|snooper| is_its_own(&mut snooper.armed));
            if let Some(all) = &mut bridge.introductions
                && is_its_own(&mut all.armed)
                && !std::mem::replace(&mut all.is_listed, true)
            {
                self.sending.push(id);
            }
            let tree = bridge.tree.as_mut();
            if tree.is_some_and(|tree| is_its_own(&mut tree.armed)) {
                self.with_tree(ifs, id, |tree| tree.engine.on_deadline(now));
            }
            if asks {
                self.tend(id);
            }
        }
    }

    /// Does something to a bridge's tree, if it has one, and what the tree then says is to be
    /// done.
    fn with_tree(&mut self, ifs: &mut IfTable, id: BridgeId, change: impl FnOnce(&mut Tree)) {
        let Some(bridge) = self.bridges.get_mut(id) else {
            return;
        };
        let Some(tree) = &mut bridge.tree else { return };
        change(tree);
        let mut flushed: Vec<PortNumber> = Vec::new();
        while let Some(event) = tree.engine.poll_event() {
            match event {
                Event::Flush(port) => flushed.push(port),
                Event::State(port, state) => {
                    let netif = tree.member(port).and_then(|ifid| ifs.get_mut(ifid));
                    if let Some(member) = netif.and_then(|i| i.on_bridge_mut()) {
                        member.state = state;
                    }
                }
            }
        }
        if !flushed.is_empty() {
            let mut behind: Vec<IfId> = flushed.iter().filter_map(|p| tree.member(*p)).collect();
            behind.sort_unstable();
            bridge.fdb.remove_if(|s| {
                s.origin == Origin::Learned && behind.binary_search(&s.ifid).is_ok()
            });
            if let Some(snooper) = &mut bridge.snooper {
                // The bridge is listed below.
                snooper.is_stale = true;
            }
        }
        if let Some(at) = tree.engine.next_deadline() {
            self.deadlines.arm(&mut tree.armed, id, at);
        }
        if !std::mem::replace(&mut tree.is_listed, true) {
            self.sending.push(id);
        }
    }

    /// Ends the tree of a bridge: all of its members forward.
    fn fell_tree(&mut self, ifs: &mut IfTable, id: BridgeId) {
        let Some(bridge) = self.bridges.get_mut(id) else {
            return;
        };
        if let Some(mut tree) = bridge.tree.take() {
            self.deadlines.forget(&mut tree.armed);
        }
        for member in &bridge.members {
            if let Some(member) = ifs.get_mut(*member).and_then(|i| i.on_bridge_mut()) {
                *member = Membership::new(id, member.config);
            }
        }
    }
}

/// What the way by a member to the other end of its link costs.
fn path_cost(netif: &Netif, rstp: RstpPort) -> u32 {
    let link = netif.link.as_deref();
    rstp.cost(link.and_then(|l| l.config().rate_bps))
}

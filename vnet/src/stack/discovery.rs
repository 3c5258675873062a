//! LLDP in one stack: which frames are heard, and by which interfaces a vnet speaks.

use super::Stack;
use super::tx::{self, Trail};
use crate::base::id::IfId;
use crate::ip::state::Forwarding;
use crate::netif::Netif;
use crate::netif::bridge::{BridgeMode, Bridges};
use crate::netif::lldp::{self, Lldp, pdu::Capabilities};
use crate::netif::member::Member;
use crate::packet::header::ether::ETHER_LEN;
use crate::packet::header::{EtherHeader, EtherType};
use crate::packet::{Csum, Cx, MacAddr, Packet, Payload};

/// True when an interface takes a frame in by which somebody says who is there, whatever it is a member of:
/// what is for the nearest bridge has come to it. To a hub, it is for whoever is behind it.
#[cold]
pub(super) fn listens(
    lldp: &Lldp,
    bridges: &Bridges,
    netif: &Netif,
    header: &EtherHeader,
    packet: &Packet,
) -> bool {
    let bridge = netif.on_bridge().and_then(|m| bridges.get(m.bridge));
    let repeats = bridge.is_some_and(|b| b.config.mode == BridgeMode::Hub);
    // IEEE 802.1AB-2016, clause 7.4: LLDPDUs have no tag.
    let is_for_it = header.dst == lldp::GROUP && packet.meta.tags.is_empty();
    netif.kind.wire().is_some() && !repeats && is_for_it && lldp.is_on()
}

/// Takes in what somebody says of themselves at the other end of a wire.
#[cold]
pub(super) fn hear(s: &mut Stack, cx: &mut Cx, ifid: IfId, from: MacAddr, mut packet: Packet) {
    packet.strip(ETHER_LEN);
    match s.lldp.input(cx.now, ifid, from, &packet.to_vec()) {
        Ok(()) => cx.stats.delivered += 1,
        Err(reason) => cx.stats.drop_rx(reason),
    }
}

/// Says by LLDP what is due.
#[cold]
pub(super) fn say(s: &mut Stack, cx: &mut Cx) {
    while let Some(round) = s.lldp.take_due(cx.now) {
        for ifid in round.only.unwrap_or_else(|| s.ifs.ids()) {
            s.say_lldp(cx, ifid, round.ttl);
        }
    }
}

impl Stack {
    /// An interface has come up or gone down, or has another name.
    pub(crate) fn tell_lldp(&mut self, cx: &Cx, ifid: IfId) {
        if let Some(netif) = self.ifs.get(ifid)
            && netif.kind.wire().is_some()
        {
            self.lldp.state_changed(cx.now, ifid, netif.is_running());
        }
    }

    /// An interface that goes down, or gets another name, takes leave of who is at its other end.
    pub(crate) fn take_leave(&mut self, cx: &mut Cx, ifid: IfId) {
        if self.lldp.is_on() {
            self.say_lldp(cx, ifid, 0);
        }
    }

    /// Says by an interface who it is, if it has a wire that carries frames: whatever it is a member of, and
    /// whether or not that lets frames pass.
    fn say_lldp(&mut self, cx: &mut Cx, ifid: IfId, ttl: u16) {
        let Some(netif) = self.ifs.get(ifid) else {
            return;
        };
        if netif.kind.wire().is_none() || !netif.is_running() {
            return;
        }
        let of = match &netif.member {
            None => None,
            Some(Member::Bridge(member)) => self.bridges.get(member.bridge).map(|b| b.ifid),
            Some(Member::Lagg(member)) => Some(member.lagg),
        };
        let (kind, name) = (netif.kind.name(), &netif.name);
        let description = match of.and_then(|id| self.ifs.get(id)) {
            Some(of) => format!("{kind} {name}, in {}", of.name),
            None => format!("{kind} {name}"),
        };
        let routes = self.ip.v4.tunables.forwarding == Forwarding::Enabled;
        let does = Capabilities::of(!self.bridges.is_empty(), routes);
        let said = self.lldp.say(name, description, ttl, does);
        let mut packet = Packet::outgoing(Payload::from(said.emit()));
        let header = EtherHeader {
            dst: lldp::GROUP,
            src: netif.mac,
            ether_type: EtherType::LLDP,
        };
        header.emit(packet.prepend(ETHER_LEN));
        packet.meta.csum = Csum::Verified;
        tx::send(self, cx, ifid, packet, &mut Trail::default());
    }
}

//! A frame's last stage inside its vnet: it is seen by captures, cut to size where the far end
//! needs that, impaired by the link, and handed over.

use super::fingerprint::Fate;
use super::kind::{Kind, Offload};
use super::table::Netif;
use crate::base::stats::DropReason;
use crate::base::time::Instant;
use crate::link::{Link, Released, Verdict as LinkVerdict};
use crate::packet::header::ether;
use crate::packet::{Csum, Cx, Direction, Packet, checksum, gso};

impl Netif {
    /// Sends a complete frame. Drops are counted here, under the sender's counters.
    pub(crate) fn transmit(&mut self, cx: &mut Cx, mut packet: Packet) {
        if !self.is_running() {
            return self.lost(cx, &packet, DropReason::InterfaceDown);
        }
        if packet.meta.gso.is_some() && !self.carries_large_segments() {
            let network = ether::network_offset(&mut packet);
            if gso::segment(packet, network, &mut |piece| self.transmit_one(cx, piece)).is_err() {
                cx.stats.drop_tx(DropReason::Malformed);
            }
        } else {
            self.transmit_one(cx, packet);
        }
    }

    fn transmit_one(&mut self, cx: &mut Cx, mut packet: Packet) {
        let unfinished = self.offload == Offload::None && packet.meta.csum != Csum::Verified;
        if unfinished {
            let network = ether::network_offset(&mut packet);
            if checksum::finish(&mut packet, network).is_err() {
                return cx.stats.drop_tx(DropReason::Malformed);
            }
        }
        let len = packet.frame_len();
        self.counters.tx_frames += 1;
        self.counters.tx_bytes += len as u64;
        cx.stats.sent += 1;
        match &mut self.link {
            None => self.hand_over(cx, cx.now, packet),
            Some(link) if link.holds() => {
                // What leaves at this very moment makes room for this frame.
                self.drain_link(cx);
                self.hold(cx, packet);
            }
            Some(link) => {
                if let Some(account) = &self.link_account {
                    link.set_memory(account.limit());
                }
                let verdict = link.offer(cx.now, &mut packet);
                self.pass_on(cx, packet, verdict);
            }
        }
    }

    /// Gives a frame to a link that holds frames, if its vnet may hold one more.
    fn hold(&mut self, cx: &mut Cx, packet: Packet) {
        let Some(link) = &mut self.link else { return };
        let account = self.link_account.as_deref();
        if account.is_some_and(|account| !account.admits(Link::cost(&packet))) {
            let verdict = link.refuse(&packet);
            return self.pass_on(cx, packet, verdict);
        }
        link.hold(cx.now, packet);
        self.drain_link(cx);
    }

    /// Tells the vnet's account what the link holds now.
    fn settle_link(&mut self) {
        if let Some(account) = &self.link_account {
            let held = self.link.as_ref().map_or(0, |link| link.held_cost());
            account.change(std::mem::replace(&mut self.link_charged, held), held);
        }
    }

    /// Sends what the link has held and holds no longer, and says when there will be more.
    pub(crate) fn drain_link(&mut self, cx: &mut Cx) {
        while let Some(link) = &mut self.link
            && let Some(Released { packet, verdict }) = link.release(cx.now)
        {
            self.pass_on(cx, packet, verdict);
        }
        self.settle_link();
        if let Some(at) = self.link.as_ref().and_then(|link| link.next_deadline()) {
            cx.out.link_deadlines.push((self.id, at));
        }
    }

    /// Drops what the link holds.
    pub(crate) fn drop_held(&mut self, cx: &mut Cx, reason: DropReason) {
        let held = self.link.as_mut().map(|link| link.tear_down());
        for packet in held.unwrap_or_default() {
            self.lost(cx, &packet, reason);
        }
        self.settle_link();
    }

    /// Releases what the link holds: the interface goes.
    pub(crate) fn tear_link_down(&mut self, cx: &mut Cx) {
        self.drop_held(cx, DropReason::Teardown);
    }

    /// Does with a frame what the link has said.
    fn pass_on(&mut self, cx: &mut Cx, packet: Packet, verdict: LinkVerdict) {
        match verdict {
            LinkVerdict::Drop(reason) => self.lost(cx, &packet, reason),
            LinkVerdict::DeliverAt(at) => self.hand_over(cx, at, packet),
            LinkVerdict::Twice(first, second) => {
                self.hand_over(cx, first, packet.clone());
                self.hand_over(cx, second, packet);
            }
        }
    }

    /// Puts a frame on the wire, on which it may be corrupted.
    fn hand_over(&mut self, cx: &mut Cx, at: Instant, mut packet: Packet) {
        if let Kind::Bridge(_) | Kind::Vlan(_) | Kind::Lagg(_) = self.kind {
            // What is below has a wire; it has none.
            return self.lost(cx, &packet, DropReason::LinkUnplugged);
        }
        if let Kind::Port(_) = self.kind {
            packet.put_tags_back();
        }
        if let Some(link) = &mut self.link
            && link.breaks(packet.frame_len())
        {
            return self.lost(cx, &packet, DropReason::LinkCorrupt);
        }
        self.witness.see(cx.now, &packet);
        self.show(cx, Direction::Out, &packet);
        if let Some(link) = &mut self.link
            && let Some(corrupted) = link.corrupts(&packet)
        {
            packet = corrupted;
        }
        if let Some(fingerprint) = &mut self.fingerprint {
            fingerprint.sent(cx.now, &packet, Fate::Arrives(at));
        }
        let from = Some(self.id);
        match &self.kind {
            Kind::Loopback(inbox) => cx.out.send(from, inbox, at, packet),
            Kind::Epair(end) | Kind::Port(end) => cx.out.send(from, end, at, packet),
            Kind::Bridge(_) | Kind::Vlan(_) | Kind::Lagg(_) => {}
        }
    }

    /// Notes a frame that goes out.
    pub(crate) fn sent(&mut self, cx: &mut Cx, packet: &Packet) {
        self.counters.tx_frames += 1;
        self.counters.tx_bytes += packet.frame_len() as u64;
        self.show(cx, Direction::Out, packet);
    }

    /// Drops a frame that the link or the lack of a wire has swallowed.
    #[cold]
    fn lost(&mut self, cx: &mut Cx, packet: &Packet, reason: DropReason) {
        if let Some(fingerprint) = &mut self.fingerprint {
            fingerprint.sent(cx.now, packet, Fate::Dropped(reason));
        }
        self.show_lost(cx, packet, reason);
        cx.stats.drop_tx(reason);
    }

    /// Notes a frame that came in.
    pub(crate) fn received(&mut self, cx: &mut Cx, packet: &Packet) {
        self.counters.rx_frames += 1;
        self.counters.rx_bytes += packet.frame_len() as u64;
        if let Some(fingerprint) = &mut self.fingerprint {
            fingerprint.received(cx.now, packet);
        }
        self.show(cx, Direction::In, packet);
    }
}

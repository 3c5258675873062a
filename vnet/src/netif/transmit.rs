//! A frame's last stage inside its vnet: it is seen by captures, cut to size where the far end
//! needs that, impaired by the link, and handed over.

use std::sync::Arc;

use super::fingerprint::Fate;
use super::table::{Far, Netif, Offload};
use crate::base::stats::DropReason;
use crate::link::Verdict as LinkVerdict;
use crate::packet::cx::{OutFrame, Sink};
use crate::packet::header::ether::ETHER_LEN;
use crate::packet::{Csum, Cx, Direction, Packet, checksum, gso};

impl Netif {
    /// Sends a complete frame. Drops are counted here, under the sender's counters.
    pub fn transmit(&mut self, cx: &mut Cx, packet: Packet) {
        if !self.is_running() {
            return self.lost(cx, &packet, DropReason::InterfaceDown);
        }
        if packet.meta.gso.is_some() && !self.carries_large_segments() {
            if gso::segment(packet, ETHER_LEN, &mut |piece| self.transmit_one(cx, piece)).is_err() {
                cx.stats.drop_tx(DropReason::Malformed);
            }
        } else {
            self.transmit_one(cx, packet);
        }
    }

    fn transmit_one(&mut self, cx: &mut Cx, mut packet: Packet) {
        let unfinished = self.offload == Offload::None && packet.meta.csum != Csum::Verified;
        if unfinished && checksum::finish(&mut packet, ETHER_LEN).is_err() {
            return cx.stats.drop_tx(DropReason::Malformed);
        }
        let len = packet.len();
        self.counters.tx_frames += 1;
        self.counters.tx_bytes += len as u64;
        cx.stats.sent += 1;
        let at = match &mut self.link {
            None => cx.now,
            Some(link) => match link.offer(cx.now, len) {
                LinkVerdict::DeliverAt(at) => at,
                LinkVerdict::Drop(reason) => return self.lost(cx, &packet, reason),
            },
        };
        let to: Arc<dyn Sink> = match &self.far {
            Far::None => return self.lost(cx, &packet, DropReason::LinkUnplugged),
            Far::Itself(inbox) => Arc::clone(inbox),
            Far::Wire(end) => Arc::<super::wire::WireEnd>::clone(end),
        };
        if let Some(fingerprint) = &mut self.fingerprint {
            fingerprint.sent(cx.now, &packet, Fate::Arrives(at));
        }
        self.show(cx.now, Direction::Out, &packet);
        cx.out.frames.push(OutFrame { to, at, packet });
    }

    /// Notes a frame that goes out.
    pub fn sent(&mut self, cx: &Cx, packet: &Packet) {
        self.counters.tx_frames += 1;
        self.counters.tx_bytes += packet.len() as u64;
        self.show(cx.now, Direction::Out, packet);
    }

    /// Drops a frame that the link or the lack of a wire has swallowed.
    #[cold]
    fn lost(&mut self, cx: &mut Cx, packet: &Packet, reason: DropReason) {
        if let Some(fingerprint) = &mut self.fingerprint {
            fingerprint.sent(cx.now, packet, Fate::Dropped(reason));
        }
        self.show_lost(cx.now, packet, reason);
        cx.stats.drop_tx(reason);
    }

    /// Notes a frame that came in.
    pub fn received(&mut self, cx: &Cx, packet: &Packet) {
        self.counters.rx_frames += 1;
        self.counters.rx_bytes += packet.len() as u64;
        if let Some(fingerprint) = &mut self.fingerprint {
            fingerprint.received(cx.now, packet);
        }
        self.show(cx.now, Direction::In, packet);
    }
}

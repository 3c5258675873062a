//! Laggs and the rest of the stack: what a change of one means for what stands on it, and the frames by
//! which LACP speaks.

use super::{Stack, tx};
use crate::base::id::IfId;
use crate::base::stats::DropReason;
use crate::netif::lagg::Lagg;
use crate::netif::lagg::config::LaggMode;
use crate::netif::lagg::pdu;
use crate::packet::{Csum, Cx, Packet, Payload};

impl Stack {
    /// Makes an interface a member of a lagg.
    pub(crate) fn join_lagg(&mut self, cx: &mut Cx, lagg: IfId, id: IfId) {
        let had = self.ifs.join_lagg(lagg, id);
        self.readdressed(cx, had);
        self.membership_changed(cx, id);
        self.change_lagg(cx, lagg, |_| {});
    }

    /// Ends the membership of an interface, if it is a member of a lagg.
    pub(crate) fn leave_lagg(&mut self, cx: &mut Cx, id: IfId) {
        if let Some((lagg, had)) = self.ifs.leave_lagg(id) {
            self.membership_changed(cx, id);
            self.readdressed(cx, had);
            let now = cx.now;
            self.change_lagg(cx, lagg, |lagg| lagg.remove(now, id));
        }
    }

    /// Changes a lagg, and does what follows from it.
    pub(crate) fn change_lagg(&mut self, cx: &mut Cx, id: IfId, change: impl FnOnce(&mut Lagg)) {
        if self.lagg_changed(cx, id, change) {
            self.state_changed(cx, id);
        }
    }

    /// The same without what follows from its carrier. True when that has changed.
    pub(super) fn lagg_changed(
        &mut self,
        cx: &mut Cx,
        id: IfId,
        change: impl FnOnce(&mut Lagg),
    ) -> bool {
        let changed = self.ifs.with_lagg(cx.now, id, change);
        let mode = self.ifs.lagg(id).map(|lagg| lagg.config().mode);
        if changed.senders && mode == Some(LaggMode::Failover) {
            // Switches are to learn where its stations are now.
            self.announce_addresses(id);
        }
        while let Some((port, mac, du)) = self.ifs.poll_lacpdu(cx.now, id) {
            let frame = pdu::frame(mac, &du);
            let mut packet = Packet::outgoing(Payload::from(frame));
            packet.meta.csum = Csum::Verified;
            tx::send(self, cx, port, packet, &mut tx::Trail::default());
        }
        changed.carrier
    }

    /// Takes in a frame of the slow protocols that came in by a member of a lagg.
    ///
    /// # Errors
    /// Why it is dropped.
    pub(super) fn slow_protocol(
        &mut self,
        cx: &mut Cx,
        lagg: IfId,
        packet: &mut Packet,
    ) -> Result<(), DropReason> {
        let from = packet.meta.rcvif.ok_or(DropReason::InterfaceDown)?;
        let now = cx.now;
        let mut taken = Err(DropReason::InterfaceDown);
        self.change_lagg(cx, lagg, |lagg| taken = lagg.slow(now, from, packet));
        taken
    }

    /// Does what is due at a lagg.
    pub(super) fn lagg_is_due(&mut self, cx: &mut Cx, id: IfId) {
        let now = cx.now;
        self.change_lagg(cx, id, |lagg| lagg.on_deadline(now));
    }
}

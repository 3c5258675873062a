//! What is due when: the earliest deadline of all protocols, and what happens then.

use super::{Stack, discovery, listening, tx};
use crate::base::stats::DropReason;
use crate::base::time::Instant;
use crate::ip::family::{V4, V6};
use crate::ip::fib::Origin;
use crate::ip::{Refusal, Way};
use crate::packet::Cx;

impl Stack {
    /// When [`Stack::on_deadline`] has something to do; may be early. The greatest time for never: it is asked for at each
    /// entry, and costs no branch so.
    #[inline]
    pub(crate) fn next_deadline(&self) -> Instant {
        let or_never = |at: Option<Instant>| at.unwrap_or(Instant::MAX);
        let next = or_never(self.tcp.next_deadline())
            .min(or_never(self.ifs.link_deadline()))
            .min(self.rest_due);
        debug_assert_eq!(
            Some(next).filter(|at| *at != Instant::MAX),
            self.deadlines().into_iter().filter_map(|(_, at)| at).min(),
            "every deadline that is listed is asked for"
        );
        next
    }

    /// Each protocol's next deadline, by name; may be early.
    pub(crate) fn deadlines(&self) -> [(&'static str, Option<Instant>); 6] {
        [
            ("tcp", self.tcp.next_deadline()),
            ("neighbours", self.neigh.next_deadline()),
            ("ip", self.ip.next_deadline()),
            ("links", self.ifs.link_deadline()),
            ("bridges", self.bridges.next_deadline()),
            ("lldp", self.lldp.next_deadline()),
        ]
    }

    /// Does everything that is due.
    pub(crate) fn on_deadline(&mut self, cx: &mut Cx) {
        #[cfg(test)]
        self.pass(super::failure::Place::Deadline);
        // Neither TCP nor a link can stir the rest.
        let mut is_rest_due = self.is_rest_due(cx.now);
        if is_due(self.tcp.next_deadline(), cx.now) {
            self.tcp.on_deadline(cx);
        }
        if is_rest_due {
            self.on_deadline_above(cx);
        }
        if is_due(self.ifs.link_deadline(), cx.now) {
            for lagg in self.ifs.drain_links(cx) {
                self.lagg_is_due(cx, lagg);
                is_rest_due = true;
            }
        }
        if is_rest_due {
            self.on_deadline_below(cx);
        }
    }

    /// Does what is due of neighbours and of IP.
    #[cold]
    fn on_deadline_above(&mut self, cx: &mut Cx) {
        if is_due(self.neigh.next_deadline(), cx.now) {
            while let Some(silent) = self.neigh.on_deadline(cx) {
                let way = Way {
                    ifid: silent.ifid,
                    hop: silent.ip,
                    origin: Origin::Connected,
                };
                self.silent_router(silent.ifid, silent.ip);
                for packet in silent.packets {
                    let reason = DropReason::NeighbourUnreachable;
                    tx::refuse(
                        self,
                        cx,
                        Some(way),
                        Refusal::HostUnreachable,
                        reason,
                        packet,
                    );
                }
            }
        }
        if is_due(self.ip.next_deadline(), cx.now) {
            tx::reassembly_expired::<V4>(self, cx);
            if self.ip.v6_made().is_some() {
                tx::reassembly_expired::<V6>(self, cx);
            }
            tx::neighbours::detect(self, cx);
            tx::neighbours::answer_late(self, cx);
            self.autoconf_is_due(cx);
            if self.ip.v6_made().is_some() {
                listening::say::<V6>(self, cx);
            }
            listening::say::<V4>(self, cx);
            self.ip.note_deadlines();
            self.ip.note_fragments(cx.stats);
        }
    }

    /// Does what is due of bridges and LLDP.
    #[cold]
    fn on_deadline_below(&mut self, cx: &mut Cx) {
        if is_due(self.bridges.next_deadline(), cx.now) {
            self.bridges.on_deadline(&mut self.ifs, cx.now);
        }
        if is_due(self.lldp.next_deadline(), cx.now) {
            discovery::say(self, cx);
        }
    }
}

fn is_due(at: Option<Instant>, now: Instant) -> bool {
    at.is_some_and(|at| at <= now)
}

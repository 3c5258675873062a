//! The rest of a stack: neighbours, bridges, LLDP, what IP has to do in time, announcements, and what there is of things of
//! which there are limits. Nearly every entry leaves it as it is, and what is due in it is far away. So the end of an entry
//! asks once whether it was stirred, and looks at its parts only then.
//!
//! Nobody has to say that he stirs it: its parts are [marked](crate::base::marked) when they are taken to be changed. Who
//! changes one with nearly every packet does so quietly, and answers for it that nothing changes that is looked at here.
//! Builds with assertions look at everything at the end of each entry.

use super::{Stack, tx};
use crate::base::time::Instant;
use crate::netif::Bridges;
use crate::packet::Cx;

impl Stack {
    /// True when there may be something to do in the rest of the stack: to send, to count, or to note that it is due.
    #[inline]
    pub(crate) fn is_stirred(&self) -> bool {
        self.is_marked() | self.limits.divides()
    }

    /// True when something was taken to be changed, or has come in, since it was settled.
    #[inline]
    fn is_marked(&self) -> bool {
        self.neigh.is_marked()
            | self.ip.is_marked()
            | self.bridges.is_marked()
            | self.lldp.is_marked()
            | self.tcp.has_grown()
            | !self.announcements.is_empty()
    }

    /// Sends what the rest of the stack has ready, counts what there is of what is limited, and notes when something is due.
    #[cold]
    pub(crate) fn settle_rest(&mut self, cx: &mut Cx) {
        tx::flush_rest(self, cx);
        self.observe();
        self.rest_due = self.next_of_rest();
        self.tcp.seen();
        self.neigh.clear();
        self.ip.clear();
        self.bridges.clear();
        self.lldp.clear();
    }

    /// True when something in the rest of the stack may be due.
    #[inline]
    pub(super) fn is_rest_due(&self, now: Instant) -> bool {
        self.rest_due <= now || self.is_stirred()
    }

    /// When the next thing is due in the rest of the stack; the greatest time for never.
    fn next_of_rest(&self) -> Instant {
        let next = [
            self.neigh.next_deadline(),
            self.ip.next_deadline(),
            self.bridges.used().and_then(Bridges::next_deadline),
            self.lldp.next_deadline(),
        ];
        let next = next.into_iter().flatten().min();
        next.unwrap_or(Instant::MAX)
    }

    /// True when nothing in it was stirred without a mark: there is nothing to send, no more of anything than was seen, and
    /// what is due next is known.
    pub(crate) fn is_rest_settled(&self) -> bool {
        let is_sent = !self.neigh.has_requests() && !self.bridges.has_to_send();
        let is_known = self.rest_due == self.next_of_rest();
        self.is_marked() || is_sent && is_known && self.is_observed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;
    use crate::base::stats::Stats;
    use crate::ip::testing::interfaces;
    use crate::packet::Out;

    #[test]
    fn what_changes_is_marked_and_what_is_not_is_found() {
        let (mut rng, mut stats, mut out) = (Rng::seeded(1), Stats::default(), Out::default());
        let mut stack = Stack::new(&mut rng, "a");
        let [a, b] = interfaces();
        let net = |text: &str| text.parse().expect("a prefix");
        assert!(!stack.is_stirred() && stack.is_rest_settled());
        let added = stack.ip.quietly().add_address(a, net("192.0.2.1/24"));
        assert_eq!(added, Ok(()));
        assert!(!stack.is_stirred() && !stack.is_rest_settled());
        let added = stack.ip.add_address(b, net("198.51.100.1/24"));
        assert_eq!(added, Ok(()));
        assert!(stack.is_stirred());
        stack.settle_rest(&mut Cx {
            now: Instant::ZERO,
            rng: &mut rng,
            stats: &mut stats,
            out: &mut out,
        });
        assert!(!stack.is_stirred() && stack.is_rest_settled());
    }
}

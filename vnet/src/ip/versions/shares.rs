//! IPv6 is made when it is used for the first time; and what the versions share: how many routes there may be, and how many
//! bytes of fragments may wait.

use super::Ip;
use crate::base::stats::Stats;
use crate::ip::family::V6;
use crate::ip::reassembly;
use crate::ip::state::IpState;

impl Ip {
    /// IPv6 in this vnet.
    #[inline]
    pub(crate) fn v6(&self) -> &IpState<V6> {
        &self.v6
    }

    /// The same, to be changed. It is made by the first who asks, and is then what it would be if it had been there from
    /// the start.
    #[inline]
    pub(crate) fn v6_mut(&mut self) -> &mut IpState<V6> {
        if self.v6.used().is_none() {
            self.make_v6();
        }
        &mut self.v6
    }

    /// The same, if anybody has asked for it: where there is nothing to do on one that nobody has.
    #[inline]
    pub(crate) fn v6_made(&mut self) -> Option<&mut IpState<V6>> {
        self.v6.made()
    }

    #[cold]
    fn make_v6(&mut self) {
        self.v6.reassembly.set_limits(self.v4.reassembly.limits());
        self.v6.fib.be_down_as(&self.v4.fib);
        self.share_routes();
        self.share_fragment_bytes();
    }

    /// How many routes there may be.
    pub(crate) fn max_routes(&self) -> usize {
        self.max_routes
    }

    /// Sets how many routes there may be.
    pub(crate) fn set_max_routes(&mut self, max_routes: usize) {
        self.max_routes = max_routes;
        self.share_routes();
    }

    /// Tells each version how many routes the other leaves it.
    pub(super) fn share_routes(&mut self) {
        let of_v6 = self.v6.used().map_or(0, |v6| v6.fib.len());
        self.v4
            .fib
            .set_max_routes(self.max_routes.saturating_sub(of_v6));
        if let Some(v6) = self.v6.made() {
            v6.fib
                .set_max_routes(self.max_routes.saturating_sub(self.v4.fib.len()));
        }
    }

    /// Sets how many bytes of fragments may wait.
    pub(crate) fn set_max_fragment_bytes(&mut self, max_bytes: usize) {
        self.max_fragment_bytes = max_bytes;
        self.share_fragment_bytes();
    }

    /// The limits on what waits for fragments.
    pub(crate) fn fragment_limits(&self) -> reassembly::Limits {
        self.v4.reassembly.limits()
    }

    /// Changes them, but for how many bytes may wait.
    pub(crate) fn limit_fragments(&mut self, change: impl Fn(&mut reassembly::Limits)) {
        let mut limits = self.v4.reassembly.limits();
        change(&mut limits);
        self.v4.reassembly.set_limits(limits);
        if let Some(v6) = self.v6.made() {
            v6.reassembly.set_limits(limits);
        }
        self.share_fragment_bytes();
    }

    /// To be called when fragments have come or gone.
    pub(crate) fn note_fragments(&mut self, stats: &mut Stats) {
        self.share_fragment_bytes();
        self.v4.reassembly.give_way(stats);
        if let Some(v6) = self.v6.made() {
            v6.reassembly.give_way(stats);
        }
        self.note_reassembly();
    }

    /// Each version has what the other leaves of the bytes that may wait, and half of them in any case: the
    /// one that has more gives way, so that a flood of one does no harm to the other.
    fn share_fragment_bytes(&mut self) {
        let (all, half) = (self.max_fragment_bytes, self.max_fragment_bytes / 2);
        let left = |others: usize| all.saturating_sub(others).max(half);
        let left_v6 = left(self.v4.reassembly.bytes());
        let of_v6 = self.v6.made().map_or(0, |v6| {
            v6.reassembly.set_max_bytes(left_v6);
            v6.reassembly.bytes()
        });
        self.v4.reassembly.set_max_bytes(left(of_v6));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;
    use crate::ip::NoWay;
    use crate::ip::state::AddressError;
    use crate::ip::testing::interfaces;

    #[test]
    fn ipv6_that_is_made_late_has_what_was_said_before() {
        let [a, b] = interfaces();
        let mut both = Ip::new(&mut Rng::seeded(1));
        both.interface_down(a);
        both.limit_fragments(|limits| limits.max_datagrams = 3);
        both.set_max_fragment_bytes(10_000);
        both.set_max_routes(1);
        assert!(both.v6_made().is_none());
        let net = |text: &str| text.parse().expect("a prefix");
        assert_eq!(both.add_address(a, net("2001:db8::1/64")), Ok(()));
        assert_eq!(both.v6().reassembly.limits(), both.fragment_limits());
        let there = "2001:db8::2".parse().expect("an address");
        assert_eq!(both.lookup(there), Err(NoWay::NoRoute));
        both.interface_up(a);
        assert_eq!(both.lookup(there).map(|way| way.ifid), Ok(a));
        assert!(matches!(
            both.add_address(b, net("10.0.0.1/24")),
            Err(AddressError::Route(_))
        ));
    }
}

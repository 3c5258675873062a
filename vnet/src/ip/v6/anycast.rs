//! Anycast addresses (RFC 4291 section 2.6): which of ours were given, and what is said of them later.
//!
//! Which addresses there are, [`addr`](crate::ip::addr) knows. Of several stations that are asked for one at the same
//! moment, each waits for a while of its own (RFC 4861 section 7.2.7): answers wait here. So do those of a router that
//! answers for others (section 7.2.8).

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hasher;
use std::net::Ipv6Addr;

use siphasher::sip::SipHasher13;

use crate::base::id::IfId;
use crate::base::on_use::Part;
use crate::base::time::{Duration, Instant};
use crate::packet::MacAddr;

/// RFC 4861 section 10, MAX_ANYCAST_DELAY_TIME.
const MAX_DELAY: Duration = Duration::from_secs(1);
/// Answers that wait. Who asks and is not answered asks again.
const MAX_WAITING: usize = 64;

/// An answer that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    /// The interface by which it is given.
    pub ifid: IfId,
    /// The address asked for.
    pub target: Ipv6Addr,
    /// Who asked, unless everybody is to hear.
    pub to: Option<Ipv6Addr>,
    /// Where that is, if it has said so.
    pub station: Option<MacAddr>,
}

/// What is known of the anycast addresses of one vnet. Empty, it holds no memory.
#[derive(Debug)]
pub(crate) struct Anycast {
    /// Those that were given. The others are those of a router for its links.
    pub given: BTreeSet<(IfId, Ipv6Addr)>,
    /// By when they are due, and then by when they were asked for.
    waiting: BTreeMap<(Instant, u64), Waiting>,
    asked: u64,
    secret: u64,
}

impl Part for Anycast {
    type Seed = u64;

    fn seeded(seed: u64) -> Anycast {
        Anycast::new(seed)
    }

    fn unused() -> &'static Anycast {
        static UNUSED: Anycast = Anycast::new(0);
        &UNUSED
    }
}

impl Anycast {
    /// None. How long answers wait follows from the secret.
    pub(crate) const fn new(secret: u64) -> Anycast {
        Anycast {
            given: BTreeSet::new(),
            waiting: BTreeMap::new(),
            asked: 0,
            secret,
        }
    }

    /// An answer is to be given after a time that is drawn. Where too many wait, it is not given.
    pub(crate) fn wait(&mut self, now: Instant, answer: Waiting) {
        if self.waiting.len() >= MAX_WAITING {
            return;
        }
        self.asked += 1;
        let mut hash = SipHasher13::new_with_keys(self.secret, self.asked);
        hash.write(&answer.target.octets());
        let nanos = hash.finish() % (MAX_DELAY.as_nanos() as u64 + 1);
        let at = now + Duration::from_nanos(nanos);
        self.waiting.insert((at, self.asked), answer);
    }

    /// The next answer that is due.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<Waiting> {
        let first = self.waiting.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    /// When [`Anycast::take_due`] has something.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.waiting.first_key_value().map(|((at, _), _)| *at)
    }

    /// True when an interface was given this address.
    pub(crate) fn is_given(&self, addr: Ipv6Addr) -> bool {
        self.given.iter().any(|(_, given)| *given == addr)
    }

    /// The addresses that an interface was given.
    pub(crate) fn given_on(&self, ifid: IfId) -> impl Iterator<Item = Ipv6Addr> {
        let from = self.given.range((ifid, Ipv6Addr::UNSPECIFIED)..);
        let on = from.take_while(move |(on, _)| *on == ifid);
        on.map(|(_, addr)| *addr)
    }

    /// An address is none of ours any more: nothing is said of it.
    pub(crate) fn forget(&mut self, ifid: IfId, target: Ipv6Addr) {
        self.waiting
            .retain(|_, answer| (answer.ifid, answer.target) != (ifid, target));
    }

    /// How many answers wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Forgets everything.
    pub(crate) fn reset(&mut self) {
        self.given = BTreeSet::new();
        self.waiting = BTreeMap::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ip::testing::interfaces;

    #[test]
    fn answers_wait_for_times_of_their_own_and_a_flood_finds_a_bound() {
        let [ifid, other] = interfaces();
        let target: Ipv6Addr = "2001:db8::".parse().expect("an address");
        let mut anycast = Anycast::new(1);
        let answer = Waiting {
            ifid,
            target,
            to: None,
            station: None,
        };
        for _ in 0..1000 {
            anycast.wait(Instant::ZERO, answer);
        }
        assert_eq!(anycast.len(), MAX_WAITING);
        let mut times = BTreeSet::new();
        while let Some(at) = anycast.next_deadline() {
            assert!(at <= Instant::ZERO + MAX_DELAY);
            assert_eq!(anycast.take_due(at), Some(answer));
            times.insert(at);
        }
        assert_eq!(times.len(), MAX_WAITING);
        let half = Instant::ZERO + Duration::from_millis(500);
        let early = times.iter().filter(|at| **at < half).count();
        assert!((16..=48).contains(&early), "{early}");
        anycast.wait(Instant::ZERO, answer);
        anycast.forget(other, target);
        assert_eq!(anycast.len(), 1);
        anycast.forget(ifid, target);
        assert_eq!(anycast.next_deadline(), None);
    }
}

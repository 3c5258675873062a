//! The stations of a bridge that are introduced to whom a member leads to, when that has another way there: switches
//! learn from a frame of each where it is now.
//!
//! Whoever has the other end of a link can take its carrier away as often as he likes. So a member introduces
//! stations once in a while only, after two times at once, and few at a time.

use std::collections::{BTreeMap, VecDeque};

use super::fdb::{Fdb, FdbEntry, Fid, Origin};
use crate::base::deadline::Armed;
use crate::base::id::IfId;
use crate::base::time::{Duration, Instant};
use crate::packet::MacAddr;

/// How many are introduced at once.
const AT_ONCE: u32 = 64;
/// How long it is waited then.
const PAUSE: Duration = Duration::from_millis(10);
/// How often a member begins, in the long run.
const PERIOD: Duration = Duration::from_secs(1);

/// A station that is introduced by a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Introduction {
    /// By which member.
    pub(crate) by: IfId,
    /// In which database it is known.
    pub(crate) fid: Fid,
    /// Who.
    pub(crate) mac: MacAddr,
}

/// What members have to introduce.
#[derive(Default)]
pub(crate) struct Introductions {
    by: BTreeMap<IfId, Round>,
    /// When it is looked at next.
    pub(super) armed: Armed,
    /// It is in the list of those that may have something to send.
    pub(super) is_listed: bool,
}

/// The introductions of one member.
struct Round {
    /// Who is still to be introduced.
    left: VecDeque<(Fid, MacAddr)>,
    /// How many may be at once, still.
    at_once: u32,
    /// When it goes on.
    next: Instant,
    /// Before that, or a period before it, the next may not begin.
    rested: Instant,
    /// The way has changed again meanwhile.
    again: bool,
}

impl Round {
    /// One of all that are known now, and not behind the member itself.
    fn new(now: Instant, rested: Instant, by: IfId, fdb: &Fdb) -> Round {
        let beside = |s: &FdbEntry| s.ifid != by && s.origin != Origin::Local;
        let all = fdb.list(now).filter(beside);
        Round {
            left: all.map(|s| (s.fid, s.mac)).collect(),
            at_once: AT_ONCE,
            next: now,
            rested: now.max(rested) + PERIOD,
            again: false,
        }
    }
}

impl Introductions {
    /// A member leads another way to others from now on. Whoever is learned later need not be introduced.
    pub(super) fn begin(&mut self, now: Instant, member: IfId, fdb: &Fdb) {
        if let Some(round) = self.by.get_mut(&member) {
            round.again = true;
            if round.left.is_empty() {
                round.next = now;
            }
            return;
        }
        let round = Round::new(now, Instant::ZERO, member, fdb);
        if !round.left.is_empty() {
            self.by.insert(member, round);
        }
    }

    /// A member is none any more.
    pub(super) fn forget(&mut self, member: IfId) {
        self.by.remove(&member);
    }

    /// When [`Introductions::poll`] has something to say.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.by.values().map(|round| round.next).min()
    }

    /// The next one that is due.
    pub(super) fn poll(&mut self, now: Instant, fdb: &Fdb) -> Option<Introduction> {
        while let Some((&by, round)) = self.by.iter_mut().find(|(_, r)| r.next <= now) {
            if round.at_once == 0 {
                (round.at_once, round.next) = (AT_ONCE, now + PAUSE);
                continue;
            }
            match round.left.pop_front() {
                Some((fid, mac)) => {
                    round.at_once -= 1;
                    return Some(Introduction { by, fid, mac });
                }
                None if round.again && now + PERIOD >= round.rested => {
                    *round = Round::new(now, round.rested, by, fdb);
                }
                None if now >= round.rested => drop(self.by.remove(&by)),
                None if round.again => {
                    round.next = now + (round.rested - now).saturating_sub(PERIOD);
                }
                None => round.next = round.rested,
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use slotmap::KeyData;

    use super::*;
    use crate::link::Account;
    use crate::netif::bridge::fdb::Class;
    use crate::netif::bridge::fdb::Source;

    fn member(n: u64) -> IfId {
        KeyData::from_ffi(n + (1 << 32)).into()
    }

    /// How many introductions are due until then, at most how many of them at once.
    fn count(all: &mut Introductions, fdb: &Fdb, from: Instant, until: Instant) -> (usize, usize) {
        let (mut now, mut sum, mut most) = (from, 0, 0);
        loop {
            let said = std::iter::from_fn(|| all.poll(now, fdb)).count();
            (sum, most) = (sum + said, most.max(said));
            match all.next_deadline() {
                Some(next) if next <= until => now = now.max(next),
                _ => return (sum, most),
            }
        }
    }

    #[test]
    fn a_way_that_comes_and_goes_introduces_everybody_once_in_a_while() {
        let account = Arc::new(Account::new(u64::MAX));
        let mut fdb = Fdb::new(1, Duration::ZERO, 1000, account);
        let start = Instant::ZERO;
        for n in 0..200u8 {
            let source = Source {
                ifid: member(1 + u64::from(n % 2)),
                origin: Origin::Learned,
                most: u32::MAX,
                most_in_vlan: u32::MAX,
            };
            fdb.learn(start, Class::ANY, MacAddr([2, 0, 0, 0, 0, n]), source);
        }
        let mut all = Introductions::default();
        all.begin(start, member(1), &fdb);
        // Behind itself are none to introduce.
        let mut now = start + Duration::from_millis(500);
        assert_eq!(count(&mut all, &fdb, start, now), (100, 64));
        let mut sum = 0;
        for _ in 0..1000 {
            let next = now + Duration::from_millis(5);
            all.begin(now, member(1), &fdb);
            sum += count(&mut all, &fdb, now, next).0;
            now = next;
        }
        // From 0.5 s on one at once, and then one in each second.
        let end = start + Duration::from_secs(19);
        assert_eq!(sum + count(&mut all, &fdb, now, end).0, 700);
        assert_eq!(all.next_deadline(), None);
        all.begin(end, member(2), &fdb);
        all.forget(member(2));
        assert_eq!(all.poll(end, &fdb), None);
    }
}

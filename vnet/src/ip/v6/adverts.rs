//! When a router speaks of itself, and what it says no more (RFC 4861 section 6.2). What it says is put together by the
//! caller.

use std::collections::BTreeMap;
use std::hash::Hasher;
use std::net::Ipv6Addr;

use siphasher::sip::SipHasher13;

use crate::base::id::IfId;
use crate::base::time::{Duration, Instant};
use crate::ip::state::Forwarding;
use crate::ip::v6::router::RouterConfig;
use crate::packet::header::ipv6;
use crate::packet::header::ra::Advert;

/// RFC 4861 section 10: between two advertisements.
const MIN_DELAY: Duration = Duration::from_secs(3);
/// Section 10: how many that say something new are to come soon after each other, and how soon.
const MAX_INITIAL: u8 = 3;
const MAX_INITIAL_INTERVAL: Duration = Duration::from_secs(16);
/// Section 10: until an answer.
const MAX_ANSWER_DELAY: Duration = Duration::from_millis(500);
/// Section 6.2.1: shorter intervals are not drawn.
const SHORT_INTERVAL: Duration = Duration::from_secs(9);
/// RFC 4861 section 6.2.1: the longest lifetime of a router, in seconds.
const MAX_LIFETIME: u16 = 9000;

/// When a router speaks.
#[derive(Debug, Default)]
pub(crate) struct Adverts {
    /// The longest time between two advertisements that nobody has asked for.
    interval: Duration,
    /// Times are drawn from this, by their number.
    secret: u64,
    drawn: u64,
    /// How many are still to come soon after each other, because there is something new to say.
    soon: u8,
    next: Option<Instant>,
    /// When it spoke last.
    last: Option<Instant>,
    /// It is a router no more, and has to say so.
    leaves: bool,
    /// What it is told to say on the link of an interface.
    pub told: BTreeMap<IfId, RouterConfig>,
    /// What it has said there and says no more, with lifetimes of zero.
    pub ended: BTreeMap<IfId, Advert>,
    /// What it says at once, from addresses by which it was known and which it has no more.
    pub farewells: Vec<(IfId, Ipv6Addr, Advert)>,
}

/// What a router is to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speech {
    /// It says that it is one, for so many seconds.
    Stays(u16),
    /// It says that it is none any more.
    Leaves,
}

impl Adverts {
    /// It says nothing. Its times follow from the secret.
    pub(crate) fn new(secret: u64) -> Adverts {
        Adverts {
            secret,
            ..Adverts::default()
        }
    }

    /// How often it speaks; zero while it does not.
    pub(crate) fn interval(&self) -> Duration {
        self.interval
    }

    /// Sets that, from now on. With zero it takes leave.
    pub(crate) fn set_interval(&mut self, interval: Duration) {
        if interval != self.interval {
            match interval {
                Duration::ZERO => self.leave(),
                _ => (self.next, self.soon) = (Some(Instant::ZERO), MAX_INITIAL),
            }
            self.interval = interval;
        }
    }

    /// It is a router no more: those whom it told of itself are told (RFC 4861 section 6.2.5).
    pub(crate) fn leave(&mut self) {
        if self.last.take().is_some() {
            self.leaves = true;
            self.next = Some(Instant::ZERO);
        }
    }

    /// Something that it has said on the link of an interface is over: it says so once.
    pub(crate) fn ends(&mut self, ifid: IfId, before: &Advert, now: &Advert) {
        let earlier = self.ended.remove(&ifid).map(|ended| ended.over(now));
        if self.last.is_none() {
            return;
        }
        let over = before.over(now);
        let mut both = over.clone();
        if let Some(earlier) = earlier {
            both.prefixes.extend(earlier.prefixes);
            both.routes.extend(earlier.routes);
            both.dns.extend(earlier.dns);
        }
        // One message that every link takes: what is over first is then left to its own lifetime.
        let fits = both.to_bytes().len() + ipv6::MIN_LEN <= super::MIN_MTU as usize;
        let over = if fits { both } else { over };
        if !over.is_bare() {
            self.ended.insert(ifid, over);
        }
    }

    /// True while it speaks.
    pub(crate) fn is_on(&self) -> bool {
        !self.interval.is_zero()
    }

    /// When it has something to say.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        match self.farewells.is_empty() {
            true => self.next,
            false => Some(Instant::ZERO),
        }
    }

    /// True where others may know of it.
    pub(crate) fn has_spoken(&self) -> bool {
        self.last.is_some()
    }

    /// It has something new to say.
    pub(crate) fn soon(&mut self) {
        self.soon = MAX_INITIAL;
        self.by(Instant::ZERO);
    }

    /// It was asked. RFC 4861 section 6.2.6: it answers all at once, after a time that is drawn.
    pub(crate) fn asked(&mut self, now: Instant) {
        let wait = self.draw(Duration::ZERO, MAX_ANSWER_DELAY);
        self.by(now + wait);
    }

    /// It is to speak at this time, or before it. Section 6.2.6: not more often than every three seconds.
    fn by(&mut self, at: Instant) {
        if self.is_on() {
            let may = self.last.map_or(Instant::ZERO, |last| last + MIN_DELAY);
            let at = at.max(may);
            self.next = Some(self.next.map_or(at, |next| next.min(at)));
        }
    }

    /// A time of at least `least` and at most `most`.
    fn draw(&mut self, least: Duration, most: Duration) -> Duration {
        self.drawn += 1;
        let mut hash = SipHasher13::new_with_keys(self.secret, 7);
        hash.write_u64(self.drawn);
        let span = u64::try_from((most - least).as_nanos()).unwrap_or(u64::MAX - 1);
        least + Duration::from_nanos(hash.finish() % (span + 1))
    }

    /// RFC 4861 section 6.2.4: how long it is silent.
    fn silence(&mut self) -> Duration {
        // Section 6.2.1: MaxRtrAdvInterval, and MinRtrAdvInterval.
        let most = self.interval.max(MIN_DELAY);
        let least = match most >= SHORT_INTERVAL {
            true => (most.saturating_mul(33) / 100).max(MIN_DELAY),
            false => most,
        };
        let drawn = self.draw(least, most);
        // What is new may be lost: it is said a few times soon after each other.
        self.soon = self.soon.saturating_sub(1);
        match self.soon > 0 {
            true => drawn.min(MAX_INITIAL_INTERVAL),
            false => drawn,
        }
    }

    /// What it is to say now. Section 6.2.1: it is to be taken for a router for three times the interval.
    pub(crate) fn take_due(&mut self, now: Instant, forwarding: Forwarding) -> Option<Speech> {
        if self.next.is_none_or(|next| next > now) {
            return None;
        }
        let leaves = std::mem::take(&mut self.leaves);
        if !self.is_on() || forwarding == Forwarding::Disabled {
            self.next = None;
            return leaves.then_some(Speech::Leaves);
        }
        self.next = Some(now + self.silence());
        self.last = Some(now);
        let interval = self.interval.max(MIN_DELAY);
        let seconds = interval.saturating_mul(3).as_millis().div_ceil(1000);
        let seconds = u16::try_from(seconds).unwrap_or(MAX_LIFETIME);
        Some(Speech::Stays(seconds.min(MAX_LIFETIME)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(secs)
    }

    #[test]
    fn a_router_speaks_when_it_is_time_or_is_asked() {
        let due = |adverts: &mut Adverts, secs| adverts.take_due(at(secs), Forwarding::Enabled);
        let mut adverts = Adverts::default();
        adverts.soon();
        assert_eq!(due(&mut adverts, 0), None);
        adverts.set_interval(Duration::from_secs(600));
        assert_eq!(due(&mut adverts, 0), Some(Speech::Stays(1800)));
        adverts.soon();
        assert_eq!((due(&mut adverts, 1), adverts.next), (None, Some(at(3))));
        // What is new is said three times within little time.
        for secs in [3, 19, 35] {
            assert_eq!(adverts.next, Some(at(secs)));
            assert_eq!(due(&mut adverts, secs), Some(Speech::Stays(1800)));
        }
        assert!(adverts.next > Some(at(35 + 16)));
        adverts.set_interval(Duration::from_secs(9000));
        assert_eq!(due(&mut adverts, 101), Some(Speech::Stays(9000)));
        adverts.set_interval(Duration::ZERO);
        assert_eq!(
            (due(&mut adverts, 102), adverts.next),
            (Some(Speech::Leaves), None)
        );
        // Who has said nothing has no leave to take.
        adverts.set_interval(Duration::from_secs(600));
        adverts.set_interval(Duration::ZERO);
        assert_eq!((due(&mut adverts, 103), adverts.next), (None, None));
    }

    /// When a router speaks in the first so many turns.
    fn times(mut adverts: Adverts, secs: u64, turns: usize) -> Vec<Instant> {
        adverts.set_interval(Duration::from_secs(secs));
        let mut times = Vec::new();
        for _ in 0..turns {
            let at = adverts.next.expect("it goes on");
            assert!(adverts.take_due(at, Forwarding::Enabled).is_some());
            times.push(at);
        }
        times
    }

    #[test]
    fn the_time_between_two_advertisements_is_drawn() {
        let apart = |times: &[Instant]| -> Vec<Duration> {
            times.windows(2).map(|two| two[1] - two[0]).collect()
        };
        let some = times(Adverts::new(1), 600, 203);
        assert_eq!(some, times(Adverts::new(1), 600, 203));
        assert_ne!(some, times(Adverts::new(2), 600, 203));
        let some = apart(&some);
        assert_eq!(some[..2], [MAX_INITIAL_INTERVAL; 2]);
        let (least, most) = (Duration::from_secs(198), Duration::from_secs(600));
        assert!(some[2..].iter().all(|time| (least..=most).contains(time)));
        let short = some[2..].iter().filter(|time| **time < (least + most) / 2);
        assert!((70..=130).contains(&short.count()), "{some:?}");
        // Of nine seconds and more only; never more often than each three.
        assert_eq!(
            apart(&times(Adverts::new(1), 8, 5)),
            [Duration::from_secs(8); 4]
        );
        assert_eq!(apart(&times(Adverts::new(1), 1, 5)), [MIN_DELAY; 4]);
        let nine = apart(&times(Adverts::new(1), 9, 99));
        assert!(
            nine.iter()
                .all(|time| (MIN_DELAY..=Duration::from_secs(9)).contains(time))
        );
    }

    #[test]
    fn who_asks_is_answered_within_half_a_second_and_all_who_ask_at_once() {
        let mut waits = std::collections::BTreeSet::new();
        for secret in 0..50 {
            let mut adverts = Adverts::new(secret);
            adverts.asked(at(9));
            assert_eq!(adverts.next, None, "it does not speak");
            adverts.set_interval(Duration::from_secs(600));
            assert!(adverts.take_due(at(9), Forwarding::Enabled).is_some());
            adverts.asked(at(10));
            assert_eq!(adverts.next, Some(at(12)), "three seconds after the last");
            assert!(adverts.take_due(at(12), Forwarding::Enabled).is_some());
            adverts.asked(at(20));
            let next = adverts.next.expect("it answers");
            adverts.asked(at(21));
            assert_eq!(adverts.next, Some(next), "all at once");
            waits.insert(next - at(20));
        }
        assert!(waits.len() > 40 && waits.iter().all(|wait| *wait <= MAX_ANSWER_DELAY));
    }

    #[test]
    fn a_router_that_is_one_no_more_says_so_once() {
        let mut adverts = Adverts::default();
        adverts.set_interval(Duration::from_secs(600));
        assert_eq!(
            adverts.take_due(at(0), Forwarding::Disabled),
            None,
            "it is none"
        );
        adverts.soon();
        assert!(adverts.take_due(at(0), Forwarding::Enabled).is_some());
        adverts.leave();
        assert_eq!(
            adverts.take_due(at(1), Forwarding::Disabled),
            Some(Speech::Leaves)
        );
        assert_eq!(adverts.take_due(at(9000), Forwarding::Disabled), None);
        adverts.soon();
        assert_eq!(
            adverts.take_due(at(9000), Forwarding::Enabled),
            Some(Speech::Stays(1800))
        );
    }
}

//! When a router speaks of itself, and what it says no more (RFC 4861 section 6.2). What it says is put together by the
//! caller.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hasher;
use std::net::Ipv6Addr;

use siphasher::sip::SipHasher13;
use slotmap::Key;

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

/// When a router speaks, on the link of each of its interfaces.
#[derive(Debug, Default)]
pub(crate) struct Adverts {
    /// The longest time between two advertisements that nobody has asked for.
    interval: Duration,
    /// Times are drawn from this, by interface and number.
    secret: u64,
    /// Where it speaks, or has to say that it does no more.
    links: BTreeMap<IfId, Link>,
    /// When something is due on which link: [`Link::next`] of all.
    agenda: BTreeSet<(Instant, IfId)>,
    /// What it is told to say on the link of an interface.
    pub told: BTreeMap<IfId, RouterConfig>,
    /// What it has said there and says no more, with lifetimes of zero.
    pub ended: BTreeMap<IfId, Advert>,
    /// What it says at once, from addresses by which it was known and which it has no more.
    pub farewells: Vec<(IfId, Ipv6Addr, Advert)>,
}

/// One link on which a router speaks.
#[derive(Debug, Default)]
struct Link {
    /// Times that were drawn for it.
    drawn: u64,
    /// How many are still to come soon after each other, because there is something new to say.
    soon: u8,
    next: Option<Instant>,
    /// When it spoke last.
    last: Option<Instant>,
    /// It is a router no more, and has to say so.
    leaves: bool,
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

    /// Sets that, from now on. With zero it takes leave; otherwise the caller says on which links it speaks
    /// ([`Adverts::soon`]). True when it is another one.
    pub(crate) fn set_interval(&mut self, interval: Duration) -> bool {
        let is_new = interval != self.interval;
        self.interval = interval;
        if is_new && interval.is_zero() {
            self.leave();
        }
        is_new
    }

    /// It is a router no more: those whom it told of itself are told (RFC 4861 section 6.2.5).
    pub(crate) fn leave(&mut self) {
        let links: Vec<IfId> = self.links.keys().copied().collect();
        for ifid in links {
            let link = self.links.entry(ifid).or_default();
            link.leaves |= link.last.take().is_some();
            let next = link.leaves.then_some(Instant::ZERO);
            self.set_next(ifid, next);
        }
    }

    /// An interface is out of use, and what had to be said there has been said.
    pub(crate) fn forget(&mut self, ifid: IfId) {
        self.set_next(ifid, None);
        self.links.remove(&ifid);
        self.ended.remove(&ifid);
        self.farewells.retain(|(on, ..)| *on != ifid);
    }

    fn set_next(&mut self, ifid: IfId, next: Option<Instant>) {
        if let Some(link) = self.links.get_mut(&ifid) {
            let before = std::mem::replace(&mut link.next, next);
            self.agenda.extend(next.map(|at| (at, ifid)));
            if let Some(at) = before.filter(|_| before != next) {
                self.agenda.remove(&(at, ifid));
            }
        }
    }

    /// Something that it has said on the link of an interface is over: it says so once.
    pub(crate) fn ends(&mut self, ifid: IfId, before: &Advert, now: &Advert) {
        let earlier = self.ended.remove(&ifid).map(|ended| ended.over(now));
        if !self.has_spoken(ifid) {
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
            true => self.agenda.first().map(|(at, _)| *at),
            false => Some(Instant::ZERO),
        }
    }

    /// True where others on a link may know of it.
    pub(crate) fn has_spoken(&self, ifid: IfId) -> bool {
        self.links
            .get(&ifid)
            .is_some_and(|link| link.last.is_some())
    }

    /// It has spoken on a link.
    pub(crate) fn spoke(&mut self, now: Instant, ifid: IfId) {
        if let Some(link) = self.links.get_mut(&ifid) {
            link.last = Some(now);
        }
    }

    /// It has something new to say on a link.
    pub(crate) fn soon(&mut self, ifid: IfId) {
        if self.is_on() {
            self.links.entry(ifid).or_default().soon = MAX_INITIAL;
            self.by(ifid, Instant::ZERO);
        }
    }

    /// It was asked on a link. RFC 4861 section 6.2.6: it answers all at once, after a time that is drawn.
    pub(crate) fn asked(&mut self, now: Instant, ifid: IfId) {
        if self.is_on() {
            let wait = self.draw(ifid, Duration::ZERO, MAX_ANSWER_DELAY);
            self.by(ifid, now + wait);
        }
    }

    /// It is to speak at this time, or before it. Section 6.2.6: not more often than every three seconds.
    fn by(&mut self, ifid: IfId, at: Instant) {
        let link = self.links.entry(ifid).or_default();
        let may = link.last.map_or(Instant::ZERO, |last| last + MIN_DELAY);
        let at = at.max(may);
        let next = link.next.map_or(at, |next| next.min(at));
        self.set_next(ifid, Some(next));
    }

    /// A time of at least `least` and at most `most`.
    fn draw(&mut self, ifid: IfId, least: Duration, most: Duration) -> Duration {
        let link = self.links.entry(ifid).or_default();
        link.drawn += 1;
        let mut hash = SipHasher13::new_with_keys(self.secret, ifid.data().as_ffi());
        hash.write_u64(link.drawn);
        let span = u64::try_from((most - least).as_nanos()).unwrap_or(u64::MAX - 1);
        least + Duration::from_nanos(hash.finish() % (span + 1))
    }

    /// RFC 4861 section 6.2.4: how long it is silent on a link. Each interface has a timer of its own.
    fn silence(&mut self, ifid: IfId) -> Duration {
        // Section 6.2.1: MaxRtrAdvInterval, and MinRtrAdvInterval.
        let most = self.interval.max(MIN_DELAY);
        let least = match most >= SHORT_INTERVAL {
            true => (most.saturating_mul(33) / 100).max(MIN_DELAY),
            false => most,
        };
        let drawn = self.draw(ifid, least, most);
        // What is new may be lost: it is said a few times soon after each other.
        let link = self.links.entry(ifid).or_default();
        link.soon = link.soon.saturating_sub(1);
        match link.soon > 0 {
            true => drawn.min(MAX_INITIAL_INTERVAL),
            false => drawn,
        }
    }

    /// Where it is to speak now, and what it is to say. Section 6.2.1: it is to be taken for a router for three times the
    /// interval.
    pub(crate) fn take_due(
        &mut self,
        now: Instant,
        forwarding: Forwarding,
    ) -> Option<(IfId, Speech)> {
        while let Some((at, ifid)) = self.agenda.first().copied()
            && at <= now
        {
            if !self.is_on() || forwarding == Forwarding::Disabled {
                self.set_next(ifid, None);
                let link = self.links.remove(&ifid);
                if link.is_some_and(|link| link.leaves) {
                    return Some((ifid, Speech::Leaves));
                }
                continue;
            }
            let next = now + self.silence(ifid);
            self.set_next(ifid, Some(next));
            if let Some(link) = self.links.get_mut(&ifid) {
                link.leaves = false;
            }
            let interval = self.interval.max(MIN_DELAY);
            let seconds = interval.saturating_mul(3).as_millis().div_ceil(1000);
            let seconds = u16::try_from(seconds).unwrap_or(MAX_LIFETIME);
            return Some((ifid, Speech::Stays(seconds.min(MAX_LIFETIME))));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ip::testing::interfaces;

    fn at(secs: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(secs)
    }

    /// What is due on one link, and is said.
    fn due(adverts: &mut Adverts, secs: u64) -> Option<Speech> {
        say(adverts, at(secs), Forwarding::Enabled)
    }

    fn say(adverts: &mut Adverts, now: Instant, forwarding: Forwarding) -> Option<Speech> {
        let (ifid, speech) = adverts.take_due(now, forwarding)?;
        if matches!(speech, Speech::Stays(_)) {
            adverts.spoke(now, ifid);
        }
        Some(speech)
    }

    fn next(adverts: &Adverts, ifid: IfId) -> Option<Instant> {
        adverts.links.get(&ifid)?.next
    }

    fn every(adverts: &mut Adverts, secs: u64, ifid: IfId) {
        if adverts.set_interval(Duration::from_secs(secs)) && adverts.is_on() {
            adverts.soon(ifid);
        }
    }

    #[test]
    fn a_router_speaks_when_it_is_time_or_is_asked() {
        let [on, _] = interfaces();
        let mut adverts = Adverts::default();
        adverts.soon(on);
        assert_eq!(due(&mut adverts, 0), None);
        every(&mut adverts, 600, on);
        assert_eq!(due(&mut adverts, 0), Some(Speech::Stays(1800)));
        adverts.soon(on);
        assert_eq!(
            (due(&mut adverts, 1), next(&adverts, on)),
            (None, Some(at(3)))
        );
        // What is new is said three times within little time.
        for secs in [3, 19, 35] {
            assert_eq!(next(&adverts, on), Some(at(secs)));
            assert_eq!(due(&mut adverts, secs), Some(Speech::Stays(1800)));
        }
        assert!(next(&adverts, on) > Some(at(35 + 16)));
        every(&mut adverts, 9000, on);
        assert_eq!(due(&mut adverts, 101), Some(Speech::Stays(9000)));
        every(&mut adverts, 0, on);
        assert_eq!(due(&mut adverts, 102), Some(Speech::Leaves));
        assert_eq!(adverts.next_deadline(), None);
        // Who has said nothing has no leave to take.
        every(&mut adverts, 600, on);
        every(&mut adverts, 0, on);
        assert_eq!(
            (due(&mut adverts, 103), adverts.next_deadline()),
            (None, None)
        );
    }

    /// When a router speaks in the first so many turns.
    fn times(mut adverts: Adverts, secs: u64, turns: usize) -> Vec<Instant> {
        let [on, _] = interfaces();
        every(&mut adverts, secs, on);
        let mut times = Vec::new();
        for _ in 0..turns {
            let at = next(&adverts, on).expect("it goes on");
            assert!(say(&mut adverts, at, Forwarding::Enabled).is_some());
            times.push(at);
        }
        times
    }

    /// RFC 4861 section 6.2.4: "an individual timer for each advertising interface".
    #[test]
    fn each_interface_has_a_timer_of_its_own() {
        let [one, other] = interfaces();
        let mut adverts = Adverts::new(1);
        every(&mut adverts, 600, one);
        adverts.soon(other);
        let mut spoken: BTreeMap<IfId, Vec<Instant>> = BTreeMap::new();
        while spoken.values().map(Vec::len).min().unwrap_or(0) < 50 || spoken.len() < 2 {
            let now = adverts.next_deadline().expect("it goes on");
            let (ifid, _) = adverts.take_due(now, Forwarding::Enabled).expect("due");
            adverts.spoke(now, ifid);
            spoken.entry(ifid).or_default().push(now);
        }
        let both = [one, other].map(|ifid| &spoken[&ifid]);
        let common = both[0].iter().filter(|at| both[1].contains(at)).count();
        assert_eq!(common, 3, "when they begin, and never again");
        // What there is to say on one link, and who asks there, is nothing to the other.
        let before = next(&adverts, other);
        let now = *both[0]
            .iter()
            .chain(both[1])
            .max()
            .expect("both have spoken");
        adverts.asked(now, one);
        adverts.soon(one);
        assert_eq!(next(&adverts, other), before);
        adverts.forget(one);
        assert!(!adverts.has_spoken(one) && adverts.has_spoken(other));
        assert_eq!(adverts.next_deadline(), before);
        adverts.leave();
        let left = adverts.take_due(now, Forwarding::Disabled);
        assert_eq!(left, Some((other, Speech::Leaves)));
        assert_eq!(adverts.take_due(now, Forwarding::Disabled), None);
        assert!(adverts.links.is_empty() && adverts.agenda.is_empty());
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
        let [on, _] = interfaces();
        let mut waits = BTreeSet::new();
        for secret in 0..50 {
            let mut adverts = Adverts::new(secret);
            adverts.asked(at(9), on);
            assert_eq!(adverts.next_deadline(), None, "it does not speak");
            every(&mut adverts, 600, on);
            assert!(due(&mut adverts, 9).is_some());
            adverts.asked(at(10), on);
            assert_eq!(
                next(&adverts, on),
                Some(at(12)),
                "three seconds after the last"
            );
            assert!(due(&mut adverts, 12).is_some());
            adverts.asked(at(20), on);
            let answer = next(&adverts, on).expect("it answers");
            adverts.asked(at(21), on);
            assert_eq!(next(&adverts, on), Some(answer), "all at once");
            waits.insert(answer - at(20));
        }
        assert!(waits.len() > 40 && waits.iter().all(|wait| *wait <= MAX_ANSWER_DELAY));
    }

    #[test]
    fn a_router_that_is_one_no_more_says_so_once() {
        let [on, _] = interfaces();
        let mut adverts = Adverts::default();
        every(&mut adverts, 600, on);
        let none = say(&mut adverts, at(0), Forwarding::Disabled);
        assert_eq!(none, None, "it is none");
        adverts.soon(on);
        assert!(due(&mut adverts, 0).is_some());
        adverts.leave();
        let last = say(&mut adverts, at(1), Forwarding::Disabled);
        assert_eq!(last, Some(Speech::Leaves));
        assert_eq!(say(&mut adverts, at(9000), Forwarding::Disabled), None);
        adverts.soon(on);
        assert_eq!(due(&mut adverts, 9000), Some(Speech::Stays(1800)));
    }
}

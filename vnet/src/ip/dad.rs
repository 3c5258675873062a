//! Whether somebody else has an address already: duplicate address detection (RFC 4862 section 5.4) and, of IPv4, address
//! conflict detection (RFC 5227 section 2.1).
//!
//! What is here is only of addresses about which that is not known, or known to be so; an address that has
//! passed is an address like any other. In the meantime it may be used (RFC 4429), or it may not, and is then
//! none of the vnet's addresses: nothing is sent from it and nothing is answered for it.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hasher;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;

use ipnet::{IpNet, Ipv6Net};
use siphasher::sip::SipHasher13;
use slotmap::Key;

use crate::base::id::IfId;
use crate::base::on_use::Part;
use crate::base::switch::Switch;
use crate::base::time::{Duration, Instant};

/// May an address be used while it is not known whether somebody else has it?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Optimism {
    /// It is not used before (RFC 4862).
    Tentative,
    /// It is used at once, and given up again where it turns out that somebody has it (RFC 4429).
    #[default]
    Optimistic,
}

/// What is known of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It is used, and is one of the vnet's addresses.
    Optimistic,
    /// The same, and it had passed before: who only wants it is told that somebody has it (RFC 4862 section
    /// 5.4.3).
    InUse,
    /// It waits.
    Tentative,
    /// Somebody else has it.
    Duplicate,
}

impl Phase {
    /// True of an address that is none of the vnet's.
    fn is_held(self) -> bool {
        matches!(self, Phase::Tentative | Phase::Duplicate)
    }
}

/// RFC 5227 section 1.1: the first question comes within a second, the next are one to two seconds apart, all of which is
/// drawn; the address is used two seconds after the last, and announced then and two seconds later.
const PROBE_NUM: u8 = 3;
const PROBE_WAIT: Duration = Duration::from_secs(1);
const PROBE_MIN: Duration = Duration::from_secs(1);
const ANNOUNCE_WAIT: Duration = Duration::from_secs(2);
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(2);
/// RFC 5227 section 2.1.1: after so many addresses that somebody else has, an interface tries one a minute.
const MAX_CONFLICTS: u32 = 10;
const RATE_LIMIT_INTERVAL: Duration = Duration::from_secs(60);

/// What tells a question of ours, which a loop may bring back, from that of another (RFC 7527).
pub(crate) type Nonce = [u8; 6];

/// What is to be done about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Ask whether somebody has it.
    Ask,
    /// Nobody has: what it was until now.
    Unique(Phase),
    /// To announce an address of IPv4, which nobody has, once more.
    Announce,
}

/// The addresses of one vnet of which it is not known that they are its alone. Empty, it holds no memory.
#[derive(Debug)]
pub(crate) struct Dad {
    /// How often it is asked; zero for not at all (RFC 4862 section 5.1, DupAddrDetectTransmits).
    pub count: u8,
    /// The same of IPv4 (RFC 5227 section 1.1, PROBE_NUM).
    pub count_v4: u8,
    /// Whether it is asked for link-local addresses of IPv4 in any case (RFC 3927 section 2.2).
    pub asks_link_local: Switch,
    /// What becomes of an address meanwhile.
    pub optimism: Optimism,
    detections: BTreeMap<(IfId, IpAddr), Detection>,
    /// When something is due, of each of which something is.
    due: BTreeSet<(Instant, IfId, IpAddr)>,
    /// Those that are none of the vnet's, and where they are. No two interfaces have one address.
    held: BTreeMap<IpAddr, IfId>,
    /// Addresses of IPv4 that are to be announced once more, and when.
    again: BTreeSet<(Instant, IfId, IpNet)>,
    /// Interfaces that have tried addresses of IPv4 of which none has passed since.
    tries: BTreeMap<IfId, Tries>,
    secret: u64,
}

/// How an interface has fared.
#[derive(Clone, Copy, Debug, Default)]
struct Tries {
    /// Addresses that somebody else had.
    conflicts: u32,
    /// When it begins, or began, with the last.
    last: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Detection {
    net: IpNet,
    phase: Phase,
    sent: u8,
    /// When it was begun with.
    since: Instant,
    /// `None` until the interface runs, and of a duplicate.
    next: Option<Instant>,
}

impl Part for Dad {
    type Seed = u64;

    fn seeded(seed: u64) -> Dad {
        Dad::new(seed)
    }

    fn unused() -> &'static Dad {
        static UNUSED: LazyLock<Dad> = LazyLock::new(|| Dad::new(0));
        &UNUSED
    }
}

impl Dad {
    /// No addresses. What tells questions from those of others follows from the secret.
    pub(crate) fn new(secret: u64) -> Dad {
        Dad {
            count: 1,
            count_v4: 0,
            asks_link_local: Switch::Off,
            optimism: Optimism::default(),
            detections: BTreeMap::new(),
            due: BTreeSet::new(),
            held: BTreeMap::new(),
            again: BTreeSet::new(),
            tries: BTreeMap::new(),
            secret,
        }
    }

    /// Puts what is known of an address in the place of what was.
    fn put(&mut self, ifid: IfId, addr: IpAddr, detection: Option<Detection>) {
        let was = match detection {
            Some(detection) => self.detections.insert((ifid, addr), detection),
            None => self.detections.remove(&(ifid, addr)),
        };
        if let Some(was) = was {
            was.next.map(|next| self.due.remove(&(next, ifid, addr)));
            if was.phase.is_held() {
                self.held.remove(&addr);
            }
        }
        if let Some(now) = detection {
            self.due.extend(now.next.map(|next| (next, ifid, addr)));
            if now.phase.is_held() {
                self.held.insert(addr, ifid);
            }
        }
    }

    fn change(&mut self, ifid: IfId, addr: IpAddr, change: impl FnOnce(&mut Detection)) {
        if let Some(mut detection) = self.detections.get(&(ifid, addr)).copied() {
            change(&mut detection);
            self.put(ifid, addr, Some(detection));
        }
    }

    /// Begins with an address, or begins again. Nothing is asked before [`Dad::start`].
    pub(crate) fn begin(&mut self, ifid: IfId, net: IpNet, phase: Phase) {
        let detection = Detection {
            net,
            phase,
            sent: 0,
            since: Instant::ZERO,
            next: None,
        };
        self.put(ifid, net.addr(), Some(detection));
    }

    /// The interface of an address runs. True when it is now to be asked for the first time whether somebody
    /// has it; not yet of IPv4, where that waits. `None` of an address that is unique.
    pub(crate) fn start(
        &mut self,
        now: Instant,
        retrans: Duration,
        ifid: IfId,
        addr: IpAddr,
    ) -> Option<bool> {
        let mut detection = *self.detections.get(&(ifid, addr))?;
        let starts = detection.next.is_none() && detection.phase != Phase::Duplicate;
        let is_first = starts && addr.is_ipv6();
        if starts {
            (detection.sent, detection.since) = (u8::from(is_first), now);
            detection.next = Some(match is_first {
                true => now + self.wait(ifid, &detection, &|_| retrans),
                false => self.first_probe(now, ifid, &detection),
            });
            self.put(ifid, addr, Some(detection));
        }
        Some(is_first)
    }

    /// When an address of IPv4 is asked for the first time.
    fn first_probe(&mut self, now: Instant, ifid: IfId, detection: &Detection) -> Instant {
        let at = now + self.drawn(ifid, detection, PROBE_WAIT);
        let tries = self.tries.entry(ifid).or_default();
        let may = match tries.last {
            Some(last) if tries.conflicts >= MAX_CONFLICTS => last + RATE_LIMIT_INTERVAL,
            _ => Instant::ZERO,
        };
        let at = at.max(may);
        tries.last = Some(at);
        at
    }

    /// A time of less than this, which is another one for each question, in milliseconds.
    fn drawn(&self, ifid: IfId, detection: &Detection, less_than: Duration) -> Duration {
        let [.., a, b] = self.nonce_of(ifid, detection, detection.sent);
        let drawn = u64::from(u16::from_be_bytes([a, b]));
        Duration::from_millis(drawn % (less_than.as_millis() as u64).max(1))
    }

    /// Somebody else has had an address of IPv4 of this interface.
    pub(crate) fn conflict(&mut self, ifid: IfId) {
        let tries = self.tries.entry(ifid).or_default();
        tries.conflicts = tries.conflicts.saturating_add(1);
    }

    /// What is due, in the order of interfaces and addresses. What nobody answered is known no more.
    pub(crate) fn take_due(
        &mut self,
        now: Instant,
        retrans: impl Fn(IfId) -> Duration,
    ) -> Vec<(IfId, IpNet, Due)> {
        let due = self.due.iter().take_while(|(at, ..)| *at <= now);
        let mut keys: Vec<_> = due.map(|(_, ifid, addr)| (*ifid, *addr)).collect();
        keys.sort_unstable();
        let mut all = Vec::new();
        for (ifid, addr) in keys {
            let Some(mut detection) = self.detections.get(&(ifid, addr)).copied() else {
                continue;
            };
            if detection.sent < self.count_of(addr) {
                detection.sent = detection.sent.saturating_add(1);
                detection.next = Some(now + self.wait(ifid, &detection, &retrans));
                all.push((ifid, detection.net, Due::Ask));
                self.put(ifid, addr, Some(detection));
            } else {
                all.push((ifid, detection.net, Due::Unique(detection.phase)));
                self.put(ifid, addr, None);
                if addr.is_ipv4() {
                    self.tries.remove(&ifid);
                    let at = now + ANNOUNCE_INTERVAL;
                    self.again.insert((at, ifid, detection.net));
                }
            }
        }
        let again = self.again.iter().take_while(|(at, ..)| *at <= now);
        let mut again: Vec<_> = again.copied().collect();
        again.sort_unstable_by_key(|(_, ifid, net)| (*ifid, net.addr()));
        for one in again {
            self.again.remove(&one);
            all.push((one.1, one.2, Due::Announce));
        }
        all
    }

    /// How often it is asked for an address like this one.
    pub(crate) fn count_of(&self, addr: IpAddr) -> u8 {
        match addr {
            IpAddr::V4(addr) if addr.is_link_local() && self.asks_link_local.is_on() => {
                self.count_v4.max(PROBE_NUM)
            }
            IpAddr::V4(_) => self.count_v4,
            IpAddr::V6(_) => self.count,
        }
    }

    /// How long an answer to the question that was just sent may take.
    fn wait(
        &self,
        ifid: IfId,
        detection: &Detection,
        retrans: &impl Fn(IfId) -> Duration,
    ) -> Duration {
        match detection.net {
            IpNet::V6(_) => retrans(ifid),
            IpNet::V4(net) if detection.sent >= self.count_of(net.addr().into()) => ANNOUNCE_WAIT,
            IpNet::V4(_) => PROBE_MIN + self.drawn(ifid, detection, PROBE_MIN),
        }
    }

    /// What the question that was last sent for an address is told by.
    pub(crate) fn nonce(&self, ifid: IfId, addr: IpAddr) -> Option<Nonce> {
        let detection = self.detections.get(&(ifid, addr))?;
        Some(self.nonce_of(ifid, detection, detection.sent))
    }

    fn nonce_of(&self, ifid: IfId, detection: &Detection, number: u8) -> Nonce {
        let mut hash = SipHasher13::new_with_keys(self.secret, 3);
        match detection.net.addr() {
            IpAddr::V4(addr) => hash.write(&addr.octets()),
            IpAddr::V6(addr) => hash.write(&addr.octets()),
        }
        hash.write_u64(ifid.data().as_ffi());
        hash.write_u64(detection.since.as_nanos());
        hash.write_u8(number);
        let [a, b, c, d, e, f, ..] = hash.finish().to_be_bytes();
        [a, b, c, d, e, f]
    }

    /// True for a question that we have sent ourselves (RFC 7527 section 4.2).
    pub(crate) fn is_own(&self, ifid: IfId, addr: IpAddr, nonce: Nonce) -> bool {
        let detection = self.detections.get(&(ifid, addr));
        detection.is_some_and(|d| (1..=d.sent).any(|n| self.nonce_of(ifid, d, n) == nonce))
    }

    /// When [`Dad::take_due`] has something.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let due = self.due.first().map(|(at, ..)| *at);
        let again = self.again.first().map(|(at, ..)| *at);
        due.into_iter().chain(again).min()
    }

    /// What is known of an address; `None` of one that is unique, or none of ours.
    #[inline]
    pub(crate) fn phase(&self, ifid: IfId, addr: IpAddr) -> Option<Phase> {
        match self.detections.is_empty() {
            true => None,
            false => self.detections.get(&(ifid, addr)).map(|d| d.phase),
        }
    }

    /// Somebody else has the address.
    pub(crate) fn fail(&mut self, ifid: IfId, addr: IpAddr) {
        if addr.is_ipv4() {
            self.conflict(ifid);
        }
        self.change(ifid, addr, |detection| {
            detection.phase = Phase::Duplicate;
            detection.next = None;
        });
    }

    /// Forgets an address, and says what was known of it.
    pub(crate) fn remove(&mut self, ifid: IfId, addr: IpAddr) -> Option<(IpNet, Phase)> {
        let detection = self.detections.get(&(ifid, addr)).copied()?;
        self.put(ifid, addr, None);
        Some((detection.net, detection.phase))
    }

    /// The interface of this one is down: it is asked for again when it runs.
    pub(crate) fn pause(&mut self, ifid: IfId, addr: IpAddr) {
        self.change(ifid, addr, |detection| detection.next = None);
    }

    /// The addresses of an interface that wait for it to run.
    pub(crate) fn paused(&self, ifid: IfId) -> impl Iterator<Item = IpAddr> {
        let waits = |d: &Detection| d.next.is_none() && d.phase != Phase::Duplicate;
        let on = self.on(ifid).filter(move |d| waits(d));
        on.map(|d| d.net.addr())
    }

    /// The addresses of an interface that are none of the vnet's: not yet, or not any more.
    #[inline]
    pub(crate) fn held(&self, ifid: IfId) -> impl Iterator<Item = (IpNet, Phase)> {
        let on = self.on(ifid).filter(|d| d.phase.is_held());
        on.map(|d| (d.net, d.phase))
    }

    /// The same of IPv6.
    #[inline]
    pub(crate) fn held_v6(&self, ifid: IfId) -> impl Iterator<Item = Ipv6Net> {
        self.held(ifid).filter_map(|(net, _)| match net {
            IpNet::V4(_) => None,
            IpNet::V6(net) => Some(net),
        })
    }

    /// How many there are of these.
    pub(crate) fn held_v6_len(&self) -> usize {
        self.held.keys().filter(|addr| addr.is_ipv6()).count()
    }

    /// How many addresses there are of which it is not known that they are the vnet's alone, or everybody is told.
    pub(crate) fn len(&self) -> usize {
        self.detections.len() + self.again.len()
    }

    /// True when an interface has this address, and it is none of the vnet's.
    pub(crate) fn holds(&self, addr: IpAddr) -> bool {
        self.held.contains_key(&addr)
    }

    fn on(&self, ifid: IfId) -> impl Iterator<Item = &Detection> {
        let from = (ifid, IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let on = self.detections.range(from..);
        on.take_while(move |((on, _), _)| *on == ifid)
            .map(|(_, detection)| detection)
    }

    /// Forgets the addresses of an interface that goes away.
    pub(crate) fn remove_interface(&mut self, ifid: IfId) {
        let on: Vec<_> = self.on(ifid).map(|d| d.net.addr()).collect();
        for addr in on {
            self.put(ifid, addr, None);
        }
        self.again.retain(|(_, on, _)| *on != ifid);
        self.tries.remove(&ifid);
    }

    /// Forgets all addresses.
    pub(crate) fn reset(&mut self) {
        self.detections = BTreeMap::new();
        self.due = BTreeSet::new();
        self.held = BTreeMap::new();
        self.again = BTreeSet::new();
        self.tries = BTreeMap::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ip::testing::interfaces;

    const RETRANS: Duration = Duration::from_secs(1);

    fn at(secs: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(secs)
    }

    #[test]
    fn it_is_asked_as_often_as_is_said_and_silence_is_consent() {
        let [a, b] = interfaces();
        let net: IpNet = "2001:db8::1/64".parse().expect("a prefix");
        let mut dad = Dad::new(1);
        dad.count = 3;
        dad.begin(a, net, Phase::Tentative);
        assert!(dad.next_deadline().is_none(), "the interface does not run");
        assert_eq!(dad.paused(a).collect::<Vec<_>>(), [net.addr()]);
        assert_eq!(dad.start(at(0), RETRANS, a, net.addr()), Some(true));
        assert_eq!(dad.start(at(0), RETRANS, a, net.addr()), Some(false));
        assert_eq!(dad.start(at(0), RETRANS, b, net.addr()), None);
        assert!(dad.take_due(at(0), |_| RETRANS).is_empty());
        for secs in [1, 2] {
            assert_eq!(dad.next_deadline(), Some(at(secs)));
            assert_eq!(dad.take_due(at(secs), |_| RETRANS), [(a, net, Due::Ask)]);
        }
        assert!(dad.holds(net.addr()));
        let unique = Due::Unique(Phase::Tentative);
        assert_eq!(dad.take_due(at(3), |_| RETRANS), [(a, net, unique)]);
        assert!(!dad.holds(net.addr()) && dad.next_deadline().is_none());
    }

    #[test]
    fn a_duplicate_stays_one_until_it_is_begun_with_again() {
        let [a, b] = interfaces();
        let net: IpNet = "2001:db8::1/64".parse().expect("a prefix");
        let mut dad = Dad::new(1);
        dad.begin(a, net, Phase::Optimistic);
        assert!(!dad.holds(net.addr()));
        assert_eq!(dad.start(at(0), RETRANS, a, net.addr()), Some(true));
        dad.fail(a, net.addr());
        assert!(dad.take_due(at(9), |_| RETRANS).is_empty());
        assert_eq!(dad.start(at(9), RETRANS, a, net.addr()), Some(false));
        assert_eq!(dad.held(a).collect::<Vec<_>>(), [(net, Phase::Duplicate)]);
        assert_eq!((dad.held(b).count(), dad.held_v6_len()), (0, 1));
        dad.begin(a, net, Phase::Tentative);
        assert_eq!(dad.start(at(9), RETRANS, a, net.addr()), Some(true));
        dad.remove_interface(a);
        assert_eq!(dad.phase(a, net.addr()), None);
    }

    #[test]
    fn an_address_of_ipv4_waits_is_announced_twice_and_after_ten_conflicts_tried_once_a_minute() {
        let [a, b] = interfaces();
        let net: IpNet = "192.0.2.1/24".parse().expect("a prefix");
        let mut dad = Dad::new(1);
        dad.count_v4 = 1;
        let start = |dad: &mut Dad, ifid, secs| {
            dad.begin(ifid, net, Phase::Tentative);
            assert_eq!(dad.start(at(secs), RETRANS, ifid, net.addr()), Some(false));
            dad.next_deadline().expect("it is to be asked")
        };
        let first = start(&mut dad, a, 0);
        assert!(first > at(0) && first < at(1), "{first}");
        assert_eq!(dad.take_due(first, |_| RETRANS), [(a, net, Due::Ask)]);
        let used = first + ANNOUNCE_WAIT;
        assert_eq!(dad.next_deadline(), Some(used));
        let unique = Due::Unique(Phase::Tentative);
        assert_eq!(dad.take_due(used, |_| RETRANS), [(a, net, unique)]);
        let again = used + ANNOUNCE_INTERVAL;
        assert_eq!((dad.next_deadline(), dad.len()), (Some(again), 1));
        assert_eq!(dad.take_due(again, |_| RETRANS), [(a, net, Due::Announce)]);
        assert_eq!((dad.next_deadline(), dad.len()), (None, 0));
        // Ten times somebody has it; another interface is not concerned.
        for n in 0..MAX_CONFLICTS {
            let at = start(&mut dad, a, 100 + u64::from(n));
            assert!(at < self::at(101 + u64::from(n)));
            dad.fail(a, net.addr());
        }
        let last = dad.tries[&a].last.expect("it was tried");
        assert_eq!(start(&mut dad, a, 111), last + RATE_LIMIT_INTERVAL);
        dad.fail(a, net.addr());
        let slow = start(&mut dad, a, 112);
        assert_eq!(slow, last + RATE_LIMIT_INTERVAL * 2);
        assert!(start(&mut dad, b, 112) < at(113));
        dad.remove(b, net.addr());
        // What has waited for so long is asked for at once.
        dad.pause(a, net.addr());
        let long = at(1000);
        assert_eq!(dad.start(long, RETRANS, a, net.addr()), Some(false));
        assert!(dad.next_deadline().is_some_and(|at| at < self::at(1001)));
        // One that passes ends it.
        let asked = dad.next_deadline().expect("it is to be asked");
        dad.take_due(asked, |_| RETRANS);
        dad.take_due(asked + ANNOUNCE_WAIT, |_| RETRANS);
        assert!(!dad.tries.contains_key(&a));
    }

    #[test]
    fn a_question_of_ours_is_told_from_that_of_another() {
        let [a, b] = interfaces();
        let net: IpNet = "2001:db8::1/64".parse().expect("a prefix");
        let begun = |secret| {
            let mut dad = Dad::new(secret);
            dad.count = 2;
            dad.begin(a, net, Phase::Optimistic);
            dad.start(at(5), RETRANS, a, net.addr());
            dad
        };
        let [mut ours, theirs] = [1, 2].map(begun);
        let nonce = |dad: &Dad| dad.nonce(a, net.addr()).expect("it is asked for");
        let first = nonce(&ours);
        assert!(ours.is_own(a, net.addr(), first) && !theirs.is_own(a, net.addr(), first));
        assert!(!ours.is_own(a, net.addr(), nonce(&theirs)) && !ours.is_own(b, net.addr(), first));
        ours.take_due(at(6), |_| RETRANS);
        let second = nonce(&ours);
        assert_ne!(first, second);
        assert!(
            [first, second]
                .iter()
                .all(|n| ours.is_own(a, net.addr(), *n))
        );
    }

    #[test]
    fn what_is_due_and_held_is_what_is_listed() {
        let [a, _] = interfaces();
        let mut dad = Dad::new(1);
        let nets: Vec<IpNet> = (1..100)
            .map(|n| format!("2001:db8::{n:x}/64").parse().expect("a prefix"))
            .collect();
        for (n, net) in nets.iter().enumerate() {
            let phase = [Phase::Tentative, Phase::Optimistic, Phase::InUse][n % 3];
            dad.begin(a, *net, phase);
            dad.start(at(n as u64 % 7), RETRANS, a, net.addr());
        }
        assert_eq!((dad.held_v6_len(), dad.held(a).count()), (33, 33));
        assert_eq!(dad.take_due(at(3), |_| RETRANS).len(), 43);
        assert_eq!(dad.next_deadline(), Some(at(4)));
        assert_eq!(dad.held_v6_len(), dad.held(a).count());
        assert_eq!(dad.take_due(at(9), |_| RETRANS).len(), 56);
        assert_eq!(
            (dad.len(), dad.held_v6_len(), dad.next_deadline()),
            (0, 0, None)
        );
    }
}

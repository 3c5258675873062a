//! Addresses that a host changes from time to time, so that what it does is not told by them to be done by one (RFC 8981).
//!
//! There is one in use beside each address that follows from an advertised prefix, and those before it until they are
//! over. They come and go with that prefix; this is only the memory of it, as that of [`autoconf`](super::autoconf).

use std::collections::BTreeMap;
use std::hash::Hasher;
use std::net::Ipv6Addr;

use ipnet::Ipv6Net;
use siphasher::sip::SipHasher13;

use super::autoconf::is_reserved;
use crate::base::id::IfId;
use crate::base::switch::Switch;
use crate::base::time::{Duration, Instant};

/// RFC 8981 section 3.8: how long before the end of one the next is made. Its uniqueness may have to be asked for
/// [`RETRIES`] times, a second each.
const REGEN_ADVANCE: Duration = Duration::from_secs(5);
/// RFC 8981 section 3.8, TEMP_IDGEN_RETRIES: how often another is chosen in the place of one that somebody has.
const RETRIES: u8 = 3;
/// Addresses of one prefix. More than these would only be there where they are preferred for a small part of the time
/// that they are valid.
const MAX_EACH: usize = 4;

/// How a host has temporary addresses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Config {
    /// Whether it has any.
    pub used: Switch,
    /// Whether they are taken before others for something new (RFC 6724 section 5, rule 7).
    pub preferred: Switch,
    /// For how long each is taken for something new, at most (TEMP_PREFERRED_LIFETIME).
    pub prefers_for: Duration,
    /// For how long each is there, at most (TEMP_VALID_LIFETIME).
    pub lasts_for: Duration,
}

/// RFC 8981 section 3.8.
impl Default for Config {
    fn default() -> Config {
        Config {
            used: Switch::Off,
            preferred: Switch::On,
            prefers_for: Duration::from_secs(86_400),
            lasts_for: Duration::from_secs(2 * 86_400),
        }
    }
}

/// An address that follows from a prefix, beside which there is to be a temporary one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stable {
    /// The address.
    pub addr: Ipv6Addr,
    /// Until when an address of the prefix is taken for something new.
    pub preferred: Instant,
    /// Until when there may be one.
    pub until: Instant,
}

/// The temporary addresses of one vnet. Empty, it holds no memory.
#[derive(Debug)]
pub(crate) struct Temporary {
    /// Which there are.
    pub config: Config,
    secret: u64,
    all: BTreeMap<(IfId, Ipv6Addr), One>,
}

#[derive(Clone, Copy, Debug)]
struct One {
    net: Ipv6Net,
    made: Instant,
    preferred: Instant,
    until: Instant,
    /// When the next one is made.
    renew: Option<Instant>,
    /// How many before it somebody else had.
    taken: u8,
}

impl Temporary {
    /// None. They follow from the secret.
    pub(crate) fn new(secret: u64) -> Temporary {
        Temporary {
            config: Config::default(),
            secret,
            all: BTreeMap::new(),
        }
    }

    /// Makes them those that go with these prefixes now.
    pub(crate) fn follow(
        &mut self,
        now: Instant,
        prefixes: impl Iterator<Item = ((IfId, Ipv6Net), Stable)>,
    ) {
        if !self.config.used.is_on() && self.all.is_empty() {
            return;
        }
        let mut old = std::mem::take(&mut self.all);
        if !self.config.used.is_on() {
            return;
        }
        for (key, stable) in prefixes {
            let of_prefix = |(ifid, _): &(IfId, Ipv6Addr), one: &One| (*ifid, one.net) == key;
            let mut ours: Vec<_> = old.extract_if(.., |at, one| of_prefix(at, one)).collect();
            for (_, one) in &mut ours {
                *one = self.lease(now, *one, stable);
            }
            ours.retain(|(_, one)| one.until > now);
            let is_new = |one: &One| one.preferred > now + REGEN_ADVANCE;
            if !ours.iter().any(|(_, one)| is_new(one)) {
                let one = One {
                    net: key.1,
                    made: now,
                    preferred: now,
                    until: now,
                    renew: None,
                    taken: 0,
                };
                let one = self.lease(now, one, stable);
                // RFC 8981 section 3.4, step 5.
                if is_new(&one) {
                    ours.push(((key.0, self.choose(&one, stable.addr)), one));
                }
            }
            ours.sort_by_key(|(_, one)| one.made);
            let first = ours.len().saturating_sub(MAX_EACH);
            self.all.extend(ours.into_iter().skip(first));
        }
    }

    /// RFC 8981 section 3.4, steps 1 and 4: no longer than the prefix, and than any is to be.
    fn lease(&self, now: Instant, one: One, stable: Stable) -> One {
        let prefers_for = self.config.prefers_for;
        // Section 3.8, DESYNC_FACTOR: so that not all hosts change theirs at once, up to 0.4 of that.
        let most = (prefers_for.saturating_mul(2) / 5).as_millis() as u64;
        let mut hash = SipHasher13::new_with_keys(self.secret, 5);
        hash.write(&stable.addr.octets());
        hash.write_u64(one.made.as_nanos());
        let desync = Duration::from_millis(hash.finish() % (most + 1));
        let preferred = stable.preferred.min(one.made + (prefers_for - desync));
        let until = stable.until.min(one.made + self.config.lasts_for);
        let preferred = preferred.min(until);
        let is_new = preferred > now + REGEN_ADVANCE;
        One {
            preferred,
            until,
            renew: is_new.then(|| now + ((preferred - now) - REGEN_ADVANCE)),
            ..one
        }
    }

    /// RFC 8981 section 3.3.2: an identifier that nobody can tell from another one, nor foresee.
    fn choose(&self, one: &One, stable: Ipv6Addr) -> Ipv6Addr {
        let mut hash = SipHasher13::new_with_keys(self.secret, 4);
        hash.write(&stable.octets());
        hash.write_u64(one.made.as_nanos());
        hash.write_u8(one.taken);
        let mut id = hash.finish();
        while is_reserved(id) {
            hash.write_u8(0);
            id = hash.finish();
        }
        Ipv6Addr::from(u128::from(one.net.network()) | u128::from(id))
    }

    /// Somebody else has an address. True when another is chosen in its place (RFC 8981 section 3.4, step 7).
    pub(crate) fn choose_again(&mut self, ifid: IfId, addr: Ipv6Addr) -> bool {
        let Some(one) = self.all.get_mut(&(ifid, addr)) else {
            return false;
        };
        if one.taken >= RETRIES {
            return false;
        }
        one.taken += 1;
        let one = *one;
        self.all.remove(&(ifid, addr));
        // What it follows from need only be different for each.
        let next = self.choose(&one, addr);
        self.all.insert((ifid, next), one);
        true
    }

    /// True for one of these.
    #[inline]
    pub(crate) fn contains(&self, ifid: IfId, addr: Ipv6Addr) -> bool {
        !self.all.is_empty() && self.all.contains_key(&(ifid, addr))
    }

    /// They, and until when each is taken for something new.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = (IfId, Ipv6Addr, Instant)> {
        let all = self.all.iter();
        all.map(|((ifid, addr), one)| (*ifid, *addr, one.preferred))
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// When something changes that [`Temporary::follow`] sees to.
    pub(crate) fn ends(&self) -> impl Iterator<Item = Instant> {
        let all = self.all.values();
        all.flat_map(|one| [Some(one.until), one.renew]).flatten()
    }

    /// Forgets those on the link of an interface.
    pub(crate) fn forget_link(&mut self, ifid: IfId) {
        self.all.retain(|(on, _), _| *on != ifid);
    }

    /// Forgets them all.
    pub(crate) fn forget(&mut self) {
        self.all = BTreeMap::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ip::testing::interfaces;

    fn at(secs: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(secs)
    }

    const DAY: u64 = 86_400;

    fn prefix(preferred: u64, until: u64) -> ((IfId, Ipv6Net), Stable) {
        let [a, _] = interfaces();
        let net: Ipv6Net = "2001:db8::/64".parse().expect("a prefix");
        let stable = Stable {
            addr: "2001:db8::5".parse().expect("an address"),
            preferred: at(preferred),
            until: at(until),
        };
        ((a, net), stable)
    }

    fn on() -> Temporary {
        let mut all = Temporary::new(7);
        all.config.used = Switch::On;
        all
    }

    fn addrs(all: &Temporary) -> Vec<Ipv6Addr> {
        all.addresses().map(|(_, addr, _)| addr).collect()
    }

    #[test]
    fn there_are_none_unless_they_are_asked_for() {
        let mut all = Temporary::new(7);
        all.follow(at(0), [prefix(DAY, DAY)].into_iter());
        assert_eq!((all.len(), all.ends().count()), (0, 0));
        all.config.used = Switch::On;
        all.follow(at(0), [prefix(DAY, DAY)].into_iter());
        assert_eq!(all.len(), 1);
        all.config.used = Switch::Off;
        all.follow(at(1), [prefix(DAY, DAY)].into_iter());
        assert_eq!(all.len(), 0);
    }

    /// A month of a prefix that is always there: one address is made before the one before it ends, each is another, and
    /// none lasts longer than two days.
    #[test]
    fn one_follows_the_other() {
        let mut all = on();
        let (mut now, mut seen) = (at(0), BTreeMap::<Ipv6Addr, Instant>::new());
        while now < at(30 * DAY) {
            all.follow(now, [prefix(90 * DAY, 90 * DAY)].into_iter());
            let fresh = all.addresses().filter(|(.., preferred)| *preferred > now);
            assert!((1..=2).contains(&fresh.count()), "{all:?}");
            assert!(all.len() <= 4, "{all:?}");
            for addr in addrs(&all) {
                let first = *seen.entry(addr).or_insert(now);
                assert!(now < first + Duration::from_secs(2 * DAY));
            }
            let next = all.ends().min().expect("there is one");
            assert!(next > now, "{all:?}");
            now = next;
        }
        // Between 0.6 of a day and a whole one.
        assert!((30..=51).contains(&seen.len()), "{}", seen.len());
    }

    #[test]
    fn they_last_no_longer_than_their_prefix() {
        let mut all = on();
        all.follow(at(0), [prefix(1000, 2000)].into_iter());
        let first = addrs(&all);
        let (_, _, preferred) = all.addresses().next().expect("there is one");
        assert_eq!((preferred, all.ends().max()), (at(1000), Some(at(2000))));
        // It is said again, for longer: the same address lasts longer.
        all.follow(at(500), [prefix(1500, 2500)].into_iter());
        assert_eq!(
            (addrs(&all), all.ends().max()),
            (first.clone(), Some(at(2500)))
        );
        // No address is worth making for the time that is left.
        all.follow(at(1496), [prefix(1500, 2500)].into_iter());
        assert_eq!(addrs(&all), first);
        all.follow(at(2500), [prefix(1500, 2500)].into_iter());
        assert_eq!(all.len(), 0);
        all.follow(at(2500), std::iter::empty());
        assert_eq!(all.ends().min(), None);
    }

    #[test]
    fn what_somebody_has_is_chosen_again_three_times() {
        let mut all = on();
        let ((a, _), _) = prefix(0, 0);
        all.follow(at(0), [prefix(DAY, DAY)].into_iter());
        let mut seen = Vec::new();
        for n in 0..=RETRIES {
            let [addr] = addrs(&all)[..] else {
                panic!("one address")
            };
            assert!(!seen.contains(&addr));
            seen.push(addr);
            assert_eq!(all.choose_again(a, addr), n < RETRIES);
        }
        // It stays, as what is not used, and no other is made.
        all.follow(at(1), [prefix(DAY, DAY)].into_iter());
        assert_eq!(addrs(&all), seen[3..]);
        assert!(!all.choose_again(a, seen[0]));
    }
}

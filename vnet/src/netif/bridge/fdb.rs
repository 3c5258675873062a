//! The filtering database of a bridge: behind which member a station is (IEEE 802.1D-2004,
//! section 7.9).
//!
//! Entries are learned from source addresses and age; static ones are the administrator's, and
//! local ones are the addresses of the bridge and its members. An entry that is too old is as good
//! as not there from that moment on; its memory is given back when a new station is learned. So
//! nobody has to be woken for it.
//!
//! It knows neither frames nor interfaces' states; what to do with what it finds is
//! [`Bridge`](super::Bridge)'s.

use slotmap::new_key_type;

use crate::base::deadline::{Armed, Deadlines};
use crate::base::id::IfId;
use crate::base::map::Map;
use crate::base::slab::Slab;
use crate::base::time::{Duration, Instant};
use crate::packet::MacAddr;

new_key_type! {
    /// An entry.
    struct StationId;
}

/// Where an entry comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Learned from a frame of the station; ages.
    Learned,
    /// The administrator's; stays, and is not moved by frames.
    Static,
    /// The address of the bridge or of a member.
    Local,
}

/// What is known of a station.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Station {
    /// Its address.
    pub mac: MacAddr,
    /// The interface it is behind; of a local one, the interface itself.
    pub ifid: IfId,
    /// Where the entry comes from.
    pub origin: Origin,
    /// When a frame of it was last seen; of others than learned ones, when it was entered.
    pub seen: Instant,
}

/// What became of a source address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Learned {
    /// It was known to be there.
    Known,
    /// It was not known, and is now.
    New,
    /// It was known to be behind another member, and is behind this one now.
    Moved,
    /// The administrator says that it is behind another member, and is believed.
    Pinned,
    /// It is one of the bridge's own: the frame has come back.
    Own,
    /// There is no room for it.
    Full,
}

struct Entry {
    station: Station,
    armed: Armed,
}

/// The filtering database.
pub(crate) struct Fdb {
    entries: Slab<StationId, Entry>,
    index: Map<MacAddr, StationId>,
    ageing: Deadlines<StationId>,
    learned: usize,
    max_age: Duration,
    max_learned: usize,
}

impl Fdb {
    /// An empty one. A learned entry is gone when its station was silent for `max_age` (zero is
    /// for ever); there are at most `max_learned` of them.
    pub(crate) fn new(seed: u64, max_age: Duration, max_learned: usize) -> Fdb {
        Fdb {
            entries: Slab::default(),
            index: Map::seeded(seed),
            ageing: Deadlines::default(),
            learned: 0,
            max_age,
            max_learned,
        }
    }

    /// Changes both bounds, from now on. What is more than `max_learned` stays until it ages.
    /// What was too old already stays forgotten.
    pub(crate) fn set_bounds(&mut self, now: Instant, max_age: Duration, max_learned: usize) {
        self.max_learned = max_learned;
        if max_age != self.max_age {
            self.prune(now);
            self.max_age = max_age;
            self.rearm();
        }
    }

    /// The station of that address, unless it is unknown or too old.
    #[inline]
    pub(crate) fn lookup(&self, now: Instant, mac: MacAddr) -> Option<&Station> {
        let station = &self.entries.get(*self.index.get(&mac)?)?.station;
        (now < self.expiry(station)).then_some(station)
    }

    /// Notes that a frame came from `mac` at `ifid`. The caller sees to it that `mac` is a
    /// station's address.
    #[inline]
    pub(crate) fn learn(&mut self, now: Instant, mac: MacAddr, ifid: IfId) -> Learned {
        let known = self
            .index
            .get(&mac)
            .and_then(|id| self.entries.get_mut(*id));
        let Some(entry) = known else {
            return self.enter(now, mac, ifid);
        };
        let station = &mut entry.station;
        match station.origin {
            Origin::Local => Learned::Own,
            Origin::Static if station.ifid == ifid => Learned::Known,
            Origin::Static => Learned::Pinned,
            Origin::Learned => {
                if !self.max_age.is_zero() && now - station.seen >= self.max_age {
                    // It is gone, but for its memory.
                    self.remove(mac);
                    return self.enter(now, mac, ifid);
                }
                station.seen = now;
                match std::mem::replace(&mut station.ifid, ifid) == ifid {
                    true => Learned::Known,
                    false => Learned::Moved,
                }
            }
        }
    }

    #[cold]
    fn enter(&mut self, now: Instant, mac: MacAddr, ifid: IfId) -> Learned {
        self.prune(now);
        if self.learned >= self.max_learned {
            return Learned::Full;
        }
        self.insert(Station {
            mac,
            ifid,
            origin: Origin::Learned,
            seen: now,
        });
        Learned::New
    }

    /// Enters a static or local station, in place of whatever is known of the address.
    pub(crate) fn set(&mut self, now: Instant, mac: MacAddr, ifid: IfId, origin: Origin) {
        self.remove(mac);
        self.insert(Station {
            mac,
            ifid,
            origin,
            seen: now,
        });
    }

    /// Removes the entry of an address.
    pub(crate) fn remove(&mut self, mac: MacAddr) -> Option<Station> {
        let id = self.index.remove(&mac)?;
        let mut entry = self.entries.remove(id)?;
        self.ageing.forget(&mut entry.armed);
        self.learned -= usize::from(entry.station.origin == Origin::Learned);
        Some(entry.station)
    }

    /// Removes every entry that `unwanted` picks, and says how many those were.
    pub(crate) fn remove_if(&mut self, unwanted: impl Fn(&Station) -> bool) -> usize {
        let doomed: Vec<MacAddr> = self.iter().filter(|s| unwanted(s)).map(|s| s.mac).collect();
        for mac in &doomed {
            self.remove(*mac);
        }
        doomed.len()
    }

    /// The entries that are not too old, in the order of the slab.
    pub(crate) fn list(&self, now: Instant) -> impl Iterator<Item = &Station> {
        self.iter().filter(move |s| now < self.expiry(s))
    }

    /// Entries of every origin, old ones included whose memory is still taken.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    fn iter(&self) -> impl Iterator<Item = &Station> {
        self.entries.iter().map(|(_, e)| &e.station)
    }

    fn expiry(&self, station: &Station) -> Instant {
        match station.origin {
            Origin::Learned if !self.max_age.is_zero() => station.seen + self.max_age,
            _ => Instant::MAX,
        }
    }

    fn insert(&mut self, station: Station) {
        let id = self.entries.insert(Entry {
            station,
            armed: Armed::default(),
        });
        self.index.insert(station.mac, id);
        self.learned += usize::from(station.origin == Origin::Learned);
        self.arm(id);
    }

    fn arm(&mut self, id: StationId) {
        let Some(entry) = self.entries.get(id) else {
            return;
        };
        let expiry = self.expiry(&entry.station);
        if let Some(entry) = self.entries.get_mut(id) {
            self.ageing.arm(&mut entry.armed, id, expiry);
        }
    }

    fn rearm(&mut self) {
        self.ageing.reset();
        let ids: Vec<StationId> = self.entries.iter().map(|(id, _)| id).collect();
        for id in ids {
            if let Some(entry) = self.entries.get_mut(id) {
                entry.armed = Armed::default();
            }
            self.arm(id);
        }
    }

    /// Removes what is too old. Each entry comes up once in `max_age`, however often it is seen.
    fn prune(&mut self, now: Instant) {
        while let Some((at, id)) = self.ageing.pop_due(now) {
            let Some(entry) = self.entries.get_mut(id) else {
                continue;
            };
            if !Deadlines::<StationId>::disarm(&mut entry.armed, at) {
                continue;
            }
            let station = entry.station;
            match self.expiry(&station) {
                expiry if expiry <= now => drop(self.remove(station.mac)),
                _ => self.arm(id),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use slotmap::SlotMap;

    use super::*;

    fn mac(n: u8) -> MacAddr {
        MacAddr([2, 0, 0, 0, 0, n])
    }

    fn ports() -> Vec<IfId> {
        let mut made: SlotMap<IfId, ()> = SlotMap::with_key();
        (0..4).map(|_| made.insert(())).collect()
    }

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn a_station_is_known_until_it_was_silent_for_the_age() {
        let p = ports();
        let mut fdb = Fdb::new(1, Duration::from_secs(10), 8);
        assert_eq!(fdb.learn(at(0), mac(1), p[0]), Learned::New);
        assert_eq!(fdb.learn(at(5), mac(1), p[0]), Learned::Known);
        assert_eq!(fdb.lookup(at(14), mac(1)).map(|s| s.ifid), Some(p[0]));
        assert_eq!(fdb.lookup(at(15), mac(1)), None);
        // It still takes memory, and gives it back when somebody needs it.
        assert_eq!((fdb.len(), fdb.list(at(15)).count()), (1, 0));
        assert_eq!(fdb.learn(at(15), mac(2), p[1]), Learned::New);
        assert_eq!(fdb.len(), 1);
    }

    #[test]
    fn a_full_database_learns_nobody_until_someone_ages() {
        let p = ports();
        let mut fdb = Fdb::new(1, Duration::from_secs(10), 2);
        fdb.set(at(0), mac(9), p[3], Origin::Static);
        fdb.learn(at(0), mac(1), p[0]);
        fdb.learn(at(1), mac(2), p[0]);
        assert_eq!(fdb.learn(at(9), mac(3), p[0]), Learned::Full);
        assert_eq!(fdb.learn(at(9), mac(2), p[1]), Learned::Moved);
        assert_eq!(fdb.learn(at(10), mac(3), p[0]), Learned::New);
        assert_eq!(fdb.len(), 3, "the static one does not count for the limit");
    }

    #[test]
    fn static_and_local_entries_do_not_move_or_age() {
        let p = ports();
        let mut fdb = Fdb::new(1, Duration::from_secs(10), 2);
        fdb.learn(at(0), mac(1), p[0]);
        fdb.set(at(0), mac(1), p[1], Origin::Static);
        fdb.set(at(0), mac(2), p[2], Origin::Local);
        assert_eq!(fdb.learn(at(1), mac(1), p[0]), Learned::Pinned);
        assert_eq!(fdb.learn(at(1), mac(1), p[1]), Learned::Known);
        assert_eq!(fdb.learn(at(1), mac(2), p[2]), Learned::Own);
        assert_eq!(fdb.lookup(at(9_999), mac(1)).map(|s| s.ifid), Some(p[1]));
        assert_eq!(fdb.remove_if(|s| s.origin == Origin::Static), 1);
        assert_eq!(fdb.lookup(at(0), mac(1)), None);
    }

    #[test]
    fn flushing_and_learning_in_turn_takes_no_memory_in_the_heap() {
        let p = ports();
        let mut fdb = Fdb::new(1, Duration::from_secs(10), 8);
        for _ in 0..1_000 {
            fdb.learn(at(0), mac(1), p[0]);
            fdb.remove_if(|s| s.ifid == p[0]);
        }
        assert!(fdb.ageing.is_empty());
        fdb.learn(at(0), mac(1), p[0]);
        assert_eq!(fdb.ageing.len(), 1);
    }

    #[derive(Clone, Debug)]
    enum Act {
        Learn(u8, usize),
        Pin(u8, usize),
        Own(u8, usize),
        Remove(u8),
        Flush(usize),
        Pass(u64),
        Bounds(u64, usize),
    }

    fn act() -> impl Strategy<Value = Act> {
        let (m, p) = (|| 0..8u8, || 0..4usize);
        prop_oneof![
            8 => (m(), p()).prop_map(|(m, p)| Act::Learn(m, p)),
            1 => (m(), p()).prop_map(|(m, p)| Act::Pin(m, p)),
            1 => (m(), p()).prop_map(|(m, p)| Act::Own(m, p)),
            1 => m().prop_map(Act::Remove),
            1 => p().prop_map(Act::Flush),
            4 => (0..8u64).prop_map(Act::Pass),
            1 => (prop::sample::select(vec![0, 3, 10]), 1..6usize)
                .prop_map(|(age, most)| Act::Bounds(age, most)),
        ]
    }

    /// The same by a map whose every entry is looked at whenever the clock moves.
    #[derive(Default)]
    struct Model {
        stations: BTreeMap<MacAddr, Station>,
        max_age: Duration,
        max_learned: usize,
    }

    impl Model {
        fn age(&mut self, now: Instant) {
            let max_age = self.max_age;
            self.stations.retain(|_, s| {
                s.origin != Origin::Learned || max_age.is_zero() || now - s.seen < max_age
            });
        }

        fn learn(&mut self, now: Instant, mac: MacAddr, ifid: IfId) -> Learned {
            let learned = |s: &&Station| s.origin == Origin::Learned;
            let full = self.stations.values().filter(learned).count() >= self.max_learned;
            let Some(s) = self.stations.get_mut(&mac) else {
                if full {
                    return Learned::Full;
                }
                let origin = Origin::Learned;
                self.stations.insert(
                    mac,
                    Station {
                        mac,
                        ifid,
                        origin,
                        seen: now,
                    },
                );
                return Learned::New;
            };
            let moved = s.ifid != ifid;
            match s.origin {
                Origin::Local => Learned::Own,
                Origin::Static if moved => Learned::Pinned,
                Origin::Static => Learned::Known,
                Origin::Learned => {
                    (s.seen, s.ifid) = (now, ifid);
                    if moved {
                        Learned::Moved
                    } else {
                        Learned::Known
                    }
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

        #[test]
        fn it_is_a_map_with_a_clock(acts in prop::collection::vec(act(), 1..80)) {
            let p = ports();
            let mut now = at(0);
            let mut fdb = Fdb::new(7, Duration::from_secs(10), 4);
            let mut model = Model { max_age: Duration::from_secs(10), max_learned: 4, ..Model::default() };
            for act in acts {
                match act {
                    Act::Learn(m, n) => {
                        prop_assert_eq!(fdb.learn(now, mac(m), p[n]), model.learn(now, mac(m), p[n]));
                    }
                    Act::Pin(m, n) | Act::Own(m, n) => {
                        let origin = match act { Act::Pin(..) => Origin::Static, _ => Origin::Local };
                        fdb.set(now, mac(m), p[n], origin);
                        let station = Station { mac: mac(m), ifid: p[n], origin, seen: now };
                        model.stations.insert(mac(m), station);
                    }
                    Act::Remove(m) => {
                        let there = fdb.lookup(now, mac(m)).copied();
                        fdb.remove(mac(m));
                        prop_assert_eq!(there, model.stations.remove(&mac(m)));
                    }
                    Act::Flush(n) => {
                        fdb.remove_if(|s| s.ifid == p[n] && s.origin == Origin::Learned);
                        model.stations.retain(|_, s| s.ifid != p[n] || s.origin != Origin::Learned);
                    }
                    Act::Pass(s) => now += Duration::from_secs(s),
                    Act::Bounds(age, most) => {
                        fdb.set_bounds(now, Duration::from_secs(age), most);
                        (model.max_age, model.max_learned) = (Duration::from_secs(age), most);
                    }
                }
                model.age(now);
                let mut listed: Vec<Station> = fdb.list(now).copied().collect();
                listed.sort_by_key(|s| s.mac);
                prop_assert_eq!(&listed, &model.stations.values().copied().collect::<Vec<_>>());
                for m in 0..8 {
                    prop_assert_eq!(fdb.lookup(now, mac(m)), model.stations.get(&mac(m)));
                }
            }
        }
    }
}

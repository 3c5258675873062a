//! The forwarding database of a bridge: behind which member a station is (IEEE 802.1Q-2018,
//! clause 8.8).
//!
//! Entries are learned from source addresses and age; static ones are the administrator's, and
//! local ones are the addresses of the bridge and its members. An entry that is too old is as good
//! as not there from that moment on; its memory is given back when a new station is learned. So
//! nobody has to be woken for it.
//!
//! An entry is for one VLAN, or for all of them ([`Fid`]). A bridge that does not tell VLANs apart has
//! only entries for all. Where there is one for the VLAN of a frame, it counts; otherwise, the one for
//! all does.
//!
//! It knows neither frames nor interfaces' states; what to do with what it finds is
//! [`Bridge`](super::Bridge)'s.

use std::collections::BTreeMap;
use std::sync::Arc;

use slotmap::SecondaryMap;

use crate::base::deadline::{Armed, Deadlines};
use crate::base::id::IfId;
use crate::base::map::{Keyed, Map, Table};
use crate::base::time::{Duration, Instant};
use crate::link::Account;
use crate::packet::MacAddr;

/// Where an entry comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Learned from a frame of the station; ages.
    Learned,
    /// Learned behind a member whose stations stay: neither ages, nor is moved by frames.
    Sticky,
    /// The administrator's; stays, and is not moved by frames.
    Static,
    /// The address of the bridge or of a member.
    Local,
}

/// For which VLANs an entry is: for the one with this VID, or for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Fid(u16);

impl Fid {
    /// All VLANs, or that there are none.
    pub(crate) const ALL: Fid = Fid(0);

    /// The VLAN with this VID; 0 stands for all.
    #[inline]
    pub(crate) const fn of(vid: u16) -> Fid {
        Fid(vid)
    }

    /// The VID, unless it is for all.
    pub(crate) fn vid(self) -> Option<u16> {
        (self != Fid::ALL).then_some(self.0)
    }
}

/// To which entries a frame belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Class {
    /// The VLAN of the frame.
    pub(crate) vlan: Fid,
    /// Where its sender is learned: in the frame's own VLAN, or for all of them.
    pub(crate) learned_in: Fid,
}

impl Class {
    /// That of every frame, where VLANs are not told apart.
    pub(crate) const ANY: Class = Class {
        vlan: Fid::ALL,
        learned_in: Fid::ALL,
    };
}

/// What is known of a station.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FdbEntry {
    /// For which VLANs it is.
    pub fid: Fid,
    /// The station's address.
    pub mac: MacAddr,
    /// The interface it is behind; of a local one, the interface itself.
    pub ifid: IfId,
    /// Where the entry comes from.
    pub origin: Origin,
    /// When a frame of it was last seen; of others than learned ones, when it was entered.
    pub seen: Instant,
    /// How often it has turned up behind another member.
    pub moves: u32,
    /// In which VLAN that frame was; none, where there was no frame.
    pub seen_in: Fid,
}

/// What is known of a station as far as it matters for a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// For which VLANs the entry is.
    pub(crate) fid: Fid,
    /// The interface it is behind; of a local one, the interface itself.
    pub(crate) ifid: IfId,
    /// Where the entry comes from.
    pub(crate) origin: Origin,
    /// In which VLAN its last frame was; none, where there was no frame.
    pub(crate) seen_in: Fid,
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
    /// The administrator says that it is behind another member, and is believed; or it is sticky there.
    Pinned,
    /// It is one of the bridge's own: the frame has come back.
    Own,
    /// There is no room for it.
    Full,
    /// As many stations as may be are behind its member.
    Refused,
}

/// Where a frame has come from, and what stations may be learned there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source {
    /// The member.
    pub(crate) ifid: IfId,
    /// How what is learned there is remembered.
    pub(crate) origin: Origin,
    /// How many stations are learned there.
    pub(crate) most: u32,
    /// How many of them in each VLAN.
    pub(crate) most_in_vlan: u32,
}

/// An entry, where it is looked up. Half a cache line, and never across two: with many stations, a frame costs
/// what it waits for memory.
#[repr(align(32))]
struct Station {
    key: Key,
    ifid: IfId,
    seen: Instant,
    seen_in: Fid,
    origin: Origin,
}

impl Keyed for Station {
    type Key = Key;

    #[inline]
    fn key(&self) -> Key {
        self.key
    }
}

/// What is seldom needed of it.
struct Rest {
    moves: u32,
    armed: Armed,
}

/// What a frame of a station says to what is known of it.
enum Met {
    /// Nothing new.
    Known(Learned),
    /// It is behind another member than in this database.
    Elsewhere,
    /// The entry is gone, but for its memory.
    TooOld,
}

impl Station {
    /// A frame of it has come in.
    #[inline]
    fn meets(&mut self, now: Instant, max_age: Duration, class: Class, from: IfId) -> Met {
        match self.origin {
            Origin::Local => Met::Known(Learned::Own),
            Origin::Static | Origin::Sticky if self.ifid == from => Met::Known(Learned::Known),
            Origin::Static | Origin::Sticky => Met::Known(Learned::Pinned),
            Origin::Learned if self.expiry(max_age) <= now => Met::TooOld,
            Origin::Learned if self.ifid != from => Met::Elsewhere,
            Origin::Learned => {
                (self.seen, self.seen_in) = (now, class.vlan);
                Met::Known(Learned::Known)
            }
        }
    }

    /// When the entry is too old, where entries of that age are.
    #[inline]
    fn expiry(&self, max_age: Duration) -> Instant {
        match self.origin {
            Origin::Learned if !max_age.is_zero() => self.seen + max_age,
            _ => Instant::MAX,
        }
    }

    /// All that is known of it.
    fn entry(&self, rest: &Rest) -> FdbEntry {
        FdbEntry {
            fid: self.key.fid(),
            mac: self.key.mac(),
            ifid: self.ifid,
            origin: self.origin,
            seen: self.seen,
            moves: rest.moves,
            seen_in: self.seen_in,
        }
    }
}

/// A VLAN and an address, in one number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key(u64);

impl Key {
    #[inline]
    fn new(fid: Fid, mac: MacAddr) -> Key {
        let [a, b, c, d, e, f] = mac.0;
        let [high, low] = fid.0.to_be_bytes();
        Key(u64::from_be_bytes([high, low, a, b, c, d, e, f]))
    }

    fn fid(self) -> Fid {
        Fid((self.0 >> 48) as u16)
    }

    fn mac(self) -> MacAddr {
        let [_, _, a, b, c, d, e, f] = self.0.to_be_bytes();
        MacAddr([a, b, c, d, e, f])
    }
}

/// The forwarding database.
pub(crate) struct Fdb {
    stations: Table<Station>,
    /// The rest of each of them; it says in which order they are.
    rest: BTreeMap<Key, Rest>,
    ageing: Deadlines<Key>,
    learned: usize,
    /// How many of them are behind each member.
    behind: SecondaryMap<IfId, u32>,
    /// Entries that are for one VLAN.
    of_one_vlan: usize,
    /// How many learned ones there are of each VLAN.
    in_vlan: Map<Fid, u32>,
    /// How many of them are behind each member.
    behind_in_vlan: Map<(IfId, Fid), u32>,
    max_age: Duration,
    max_learned: usize,
    max_in_vlan: u32,
    /// Stations in all databases of the vnet.
    account: Arc<Account>,
}

impl Fdb {
    /// An empty one. A learned entry is gone when its station was silent for `max_age` (zero is
    /// for ever); there are at most `max_learned` of them. All that are not local are on the account.
    pub(crate) fn new(
        seed: u64,
        max_age: Duration,
        max_learned: usize,
        account: Arc<Account>,
    ) -> Fdb {
        Fdb {
            stations: Table::seeded(seed),
            rest: BTreeMap::new(),
            ageing: Deadlines::default(),
            learned: 0,
            behind: SecondaryMap::new(),
            of_one_vlan: 0,
            in_vlan: Map::seeded(seed),
            behind_in_vlan: Map::seeded(seed),
            max_age,
            max_learned,
            max_in_vlan: u32::MAX,
            account,
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

    /// Changes how many stations are learned in each VLAN that has a database of its own.
    pub(crate) fn set_max_in_vlan(&mut self, max_in_vlan: u32) {
        self.max_in_vlan = max_in_vlan;
    }

    /// What is known of that address in a VLAN, unless it is unknown or too old: by the entry for that VLAN, or else
    /// the one for all.
    #[inline]
    pub(crate) fn lookup(&self, now: Instant, vlan: Fid, mac: MacAddr) -> Option<Place> {
        let mut fid = vlan;
        let mut found = self.stations.get(Key::new(fid, mac));
        if found.is_none() && vlan != Fid::ALL {
            fid = Fid::ALL;
            found = self.stations.get(Key::new(fid, mac));
        }
        let station = found.filter(|station| now < station.expiry(self.max_age))?;
        Some(Place {
            fid,
            ifid: station.ifid,
            origin: station.origin,
            seen_in: station.seen_in,
        })
    }

    /// Notes that a frame came from `mac` at `ifid`. The caller sees to it that `mac` is a
    /// station's address.
    #[inline]
    pub(crate) fn learn(
        &mut self,
        now: Instant,
        class: Class,
        mac: MacAddr,
        from: Source,
    ) -> Learned {
        let max_age = self.max_age;
        let meets = |station: &mut Station| station.meets(now, max_age, class, from.ifid);
        let mut fid = class.vlan;
        let mut met = self.stations.get_mut(Key::new(fid, mac)).map(meets);
        if met.is_none() && fid != Fid::ALL {
            fid = Fid::ALL;
            met = self.stations.get_mut(Key::new(fid, mac)).map(meets);
        }
        match met {
            Some(Met::Known(learned)) => learned,
            Some(Met::Elsewhere) => self.follow(now, class, fid, mac, from),
            Some(Met::TooOld) => {
                self.remove(fid, mac);
                self.enter(now, class, mac, from)
            }
            None => self.enter(now, class, mac, from),
        }
    }

    #[cold]
    fn enter(&mut self, now: Instant, class: Class, mac: MacAddr, from: Source) -> Learned {
        self.prune(now);
        let fid = class.learned_in;
        if !self.has_room_behind(&from, fid) {
            return Learned::Refused;
        }
        let is_full_vlan = fid != Fid::ALL && self.in_vlan(fid) >= self.max_in_vlan;
        let is_full = self.learned >= self.max_learned || is_full_vlan;
        if is_full || !self.account.admits(1) {
            // Behind a member with a limit, nobody passes whom it does not count.
            let counts = from.most != u32::MAX || from.most_in_vlan != u32::MAX && fid != Fid::ALL;
            return match counts {
                false => Learned::Full,
                true => Learned::Refused,
            };
        }
        self.insert(FdbEntry {
            fid,
            mac,
            ifid: from.ifid,
            origin: from.origin,
            seen: now,
            moves: 0,
            seen_in: class.vlan,
        });
        Learned::New
    }

    /// A learned station has turned up behind another member.
    #[cold]
    fn follow(
        &mut self,
        now: Instant,
        class: Class,
        fid: Fid,
        mac: MacAddr,
        from: Source,
    ) -> Learned {
        self.prune(now);
        let Some(known) = self.entry(Key::new(fid, mac)) else {
            return self.enter(now, class, mac, from);
        };
        if !self.has_room_behind(&from, fid) {
            return Learned::Refused;
        }
        self.remove(fid, mac);
        self.insert(FdbEntry {
            ifid: from.ifid,
            origin: from.origin,
            seen: now,
            moves: known.moves.saturating_add(1),
            seen_in: class.vlan,
            ..known
        });
        Learned::Moved
    }

    /// How many stations were learned behind a member, and are remembered.
    fn behind(&self, ifid: IfId) -> u32 {
        self.behind.get(ifid).copied().unwrap_or(0)
    }

    /// Whether one more station is learned behind a member.
    fn has_room_behind(&self, from: &Source, fid: Fid) -> bool {
        let in_vlan = || self.behind_in_vlan.get(&(from.ifid, fid)).copied();
        let is_in_vlan = fid != Fid::ALL && from.most_in_vlan != u32::MAX;
        let room = !is_in_vlan || in_vlan().unwrap_or(0) < from.most_in_vlan;
        room && self.behind(from.ifid) < from.most
    }

    fn in_vlan(&self, fid: Fid) -> u32 {
        self.in_vlan.get(&fid).copied().unwrap_or(0)
    }

    /// Whether the vnet may have one more station; if not, that counts as a refusal.
    pub(crate) fn admits_one(&self) -> bool {
        self.account.admits(1)
    }

    /// Counts an entry in.
    fn count(&mut self, entry: &FdbEntry) {
        self.account.change(0, of_account(entry));
        self.of_one_vlan += usize::from(entry.fid != Fid::ALL);
        if is_learned(entry) {
            self.learned += 1;
            self.behind.insert(entry.ifid, self.behind(entry.ifid) + 1);
            if entry.fid != Fid::ALL {
                *self.in_vlan.get_or_insert_with(entry.fid, || 0) += 1;
                let behind = (entry.ifid, entry.fid);
                *self.behind_in_vlan.get_or_insert_with(behind, || 0) += 1;
            }
        }
    }

    /// Counts it out again.
    fn discount(&mut self, entry: &FdbEntry) {
        self.account.change(of_account(entry), 0);
        self.of_one_vlan -= usize::from(entry.fid != Fid::ALL);
        if is_learned(entry) {
            self.learned -= 1;
            match self.behind(entry.ifid) {
                0 | 1 => drop(self.behind.remove(entry.ifid)),
                n => drop(self.behind.insert(entry.ifid, n - 1)),
            }
            match self.in_vlan(entry.fid) {
                0 | 1 => drop(self.in_vlan.remove(&entry.fid)),
                n => drop(self.in_vlan.insert(entry.fid, n - 1)),
            }
            let behind = (entry.ifid, entry.fid);
            match self.behind_in_vlan.get(&behind).copied() {
                None => {}
                Some(0 | 1) => drop(self.behind_in_vlan.remove(&behind)),
                Some(n) => drop(self.behind_in_vlan.insert(behind, n - 1)),
            }
        }
    }

    /// Enters a static or local station, in place of whatever is known of the address there. One that is
    /// for all VLANs also takes the place of what was learned in each, and a local one, of everything.
    pub(crate) fn set(&mut self, now: Instant, fid: Fid, mac: MacAddr, ifid: IfId, origin: Origin) {
        self.remove(fid, mac);
        if fid == Fid::ALL && self.of_one_vlan > 0 {
            let yields = |e: &FdbEntry| is_learned(e) || origin == Origin::Local;
            self.remove_if(|e| e.mac == mac && yields(e));
        }
        self.insert(FdbEntry {
            fid,
            mac,
            ifid,
            origin,
            seen: now,
            moves: 0,
            seen_in: Fid::ALL,
        });
    }

    /// Removes the entry of an address that is for this VLAN, or the one that is for all.
    pub(crate) fn remove(&mut self, fid: Fid, mac: MacAddr) -> Option<FdbEntry> {
        let station = self.stations.remove(Key::new(fid, mac))?;
        let mut rest = self.rest.remove(&station.key)?;
        self.ageing.forget(&mut rest.armed);
        let entry = station.entry(&rest);
        self.discount(&entry);
        Some(entry)
    }

    /// Removes every entry that `unwanted` picks, and says how many those were.
    pub(crate) fn remove_if(&mut self, unwanted: impl Fn(&FdbEntry) -> bool) -> usize {
        let doomed = self.iter().filter(&unwanted).map(|e| (e.fid, e.mac));
        let doomed: Vec<(Fid, MacAddr)> = doomed.collect();
        for (fid, mac) in &doomed {
            self.remove(*fid, *mac);
        }
        doomed.len()
    }

    /// The entries that are not too old, ordered by VLAN (those for all first) and address.
    pub(crate) fn list(&self, now: Instant) -> impl Iterator<Item = FdbEntry> {
        let alive = move |station: &Station| now < station.expiry(self.max_age);
        let known = self.known().filter(move |(station, _)| alive(station));
        known.map(|(station, rest)| station.entry(rest))
    }

    /// Entries of every origin, old ones included whose memory is still taken.
    pub(crate) fn len(&self) -> usize {
        self.rest.len()
    }

    fn iter(&self) -> impl Iterator<Item = FdbEntry> {
        self.known().map(|(station, rest)| station.entry(rest))
    }

    fn known(&self) -> impl Iterator<Item = (&Station, &Rest)> {
        let rest = self.rest.iter();
        rest.filter_map(|(key, rest)| Some((self.stations.get(*key)?, rest)))
    }

    fn entry(&self, key: Key) -> Option<FdbEntry> {
        Some(self.stations.get(key)?.entry(self.rest.get(&key)?))
    }

    fn insert(&mut self, entry: FdbEntry) {
        let key = Key::new(entry.fid, entry.mac);
        self.stations.insert(Station {
            key,
            ifid: entry.ifid,
            seen: entry.seen,
            seen_in: entry.seen_in,
            origin: entry.origin,
        });
        let moves = entry.moves;
        let armed = Armed::default();
        self.rest.insert(key, Rest { moves, armed });
        self.count(&entry);
        self.arm(key);
    }

    fn arm(&mut self, key: Key) {
        if let (Some(station), Some(rest)) = (self.stations.get(key), self.rest.get_mut(&key)) {
            let expiry = station.expiry(self.max_age);
            self.ageing.arm(&mut rest.armed, key, expiry);
        }
    }

    fn rearm(&mut self) {
        self.ageing.reset();
        for (key, rest) in &mut self.rest {
            rest.armed = Armed::default();
            if let Some(station) = self.stations.get(*key) {
                let expiry = station.expiry(self.max_age);
                self.ageing.arm(&mut rest.armed, *key, expiry);
            }
        }
    }

    /// Removes what is too old. Each entry comes up once in `max_age`, however often it is seen.
    fn prune(&mut self, now: Instant) {
        while let Some((at, key)) = self.ageing.pop_due(now) {
            if let Some(rest) = self.rest.get_mut(&key) {
                Deadlines::<Key>::disarm(&mut rest.armed, at);
            }
            let station = self.stations.get(key);
            match station.map(|station| station.expiry(self.max_age)) {
                None => {}
                Some(expiry) if expiry <= now => drop(self.remove(key.fid(), key.mac())),
                Some(_) => self.arm(key),
            }
        }
    }
}

impl Drop for Fdb {
    fn drop(&mut self) {
        let held = self.iter().map(|entry| of_account(&entry)).sum();
        self.account.change(held, 0);
    }
}

/// How many stations an entry is on the account.
fn of_account(entry: &FdbEntry) -> u64 {
    u64::from(entry.origin != Origin::Local)
}

/// True when frames have said where the station is.
pub(crate) fn is_learned(entry: &FdbEntry) -> bool {
    matches!(entry.origin, Origin::Learned | Origin::Sticky)
}

#[cfg(test)]
mod tests;

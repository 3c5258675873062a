//! The filtering database, by itself and against a model.

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

fn account() -> Arc<Account> {
    Arc::new(Account::new(u64::MAX))
}

/// A member behind which any number of stations come and go.
fn from(ifid: IfId) -> Source {
    Source {
        ifid,
        origin: Origin::Learned,
        most: u32::MAX,
        most_in_vlan: u32::MAX,
    }
}

const ALL: Fid = Fid::ALL;
const ANY: Class = Class::ANY;

/// A VLAN with a database of its own.
fn own(vid: u16) -> Class {
    let vlan = Fid::of(vid);
    let learned_in = vlan;
    Class { vlan, learned_in }
}

/// A VLAN that shares a database with all others.
fn shared(vid: u16) -> Class {
    let vlan = Fid::of(vid);
    let learned_in = Fid::ALL;
    Class { vlan, learned_in }
}

#[test]
fn a_station_is_in_one_cache_line() {
    assert_eq!((size_of::<Station>(), align_of::<Station>()), (32, 32));
}

#[test]
fn a_station_is_known_until_it_was_silent_for_the_age() {
    let p = ports();
    let mut fdb = Fdb::new(1, Duration::from_secs(10), 8, account());
    assert_eq!(fdb.learn(at(0), ANY, mac(1), from(p[0])), Learned::New);
    assert_eq!(fdb.learn(at(5), ANY, mac(1), from(p[0])), Learned::Known);
    assert_eq!(fdb.lookup(at(14), ALL, mac(1)).map(|s| s.ifid), Some(p[0]));
    assert_eq!(fdb.lookup(at(15), ALL, mac(1)), None);
    // It still takes memory, and gives it back when somebody needs it.
    assert_eq!((fdb.len(), fdb.list(at(15)).count()), (1, 0));
    assert_eq!(fdb.learn(at(15), ANY, mac(2), from(p[1])), Learned::New);
    assert_eq!(fdb.len(), 1);
}

#[test]
fn a_full_database_learns_nobody_until_someone_ages() {
    let p = ports();
    let mut fdb = Fdb::new(1, Duration::from_secs(10), 2, account());
    fdb.set(at(0), ALL, mac(9), p[3], Origin::Static);
    fdb.learn(at(0), ANY, mac(1), from(p[0]));
    fdb.learn(at(1), ANY, mac(2), from(p[0]));
    assert_eq!(fdb.learn(at(9), ANY, mac(3), from(p[0])), Learned::Full);
    assert_eq!(fdb.learn(at(9), ANY, mac(2), from(p[1])), Learned::Moved);
    assert_eq!(fdb.learn(at(10), ANY, mac(3), from(p[0])), Learned::New);
    assert_eq!(fdb.len(), 3, "the static one does not count for the limit");
}

#[test]
fn static_and_local_entries_do_not_move_or_age() {
    let p = ports();
    let mut fdb = Fdb::new(1, Duration::from_secs(10), 2, account());
    fdb.learn(at(0), ANY, mac(1), from(p[0]));
    fdb.set(at(0), ALL, mac(1), p[1], Origin::Static);
    fdb.set(at(0), ALL, mac(2), p[2], Origin::Local);
    assert_eq!(fdb.learn(at(1), ANY, mac(1), from(p[0])), Learned::Pinned);
    assert_eq!(fdb.learn(at(1), ANY, mac(1), from(p[1])), Learned::Known);
    assert_eq!(fdb.learn(at(1), ANY, mac(2), from(p[2])), Learned::Own);
    assert_eq!(
        fdb.lookup(at(9_999), ALL, mac(1)).map(|s| s.ifid),
        Some(p[1])
    );
    assert_eq!(fdb.remove_if(|s| s.origin == Origin::Static), 1);
    assert_eq!(fdb.lookup(at(0), ALL, mac(1)), None);
}

#[test]
fn flushing_and_learning_in_turn_takes_no_memory_in_the_heap() {
    let p = ports();
    let mut fdb = Fdb::new(1, Duration::from_secs(10), 8, account());
    for _ in 0..1_000 {
        fdb.learn(at(0), ANY, mac(1), from(p[0]));
        fdb.remove_if(|s| s.ifid == p[0]);
    }
    assert!(fdb.ageing.is_empty());
    fdb.learn(at(0), ANY, mac(1), from(p[0]));
    assert_eq!(fdb.ageing.len(), 1);
}

#[test]
fn a_station_is_somewhere_else_in_another_vlan() {
    let p = ports();
    let mut fdb = Fdb::new(1, Duration::ZERO, 8, account());
    let behind = |fdb: &Fdb, vid| fdb.lookup(at(0), Fid::of(vid), mac(1)).map(|e| e.ifid);
    assert_eq!(fdb.learn(at(0), own(5), mac(1), from(p[0])), Learned::New);
    assert_eq!(fdb.learn(at(0), own(6), mac(1), from(p[1])), Learned::New);
    assert_eq!(behind(&fdb, 5), Some(p[0]));
    assert_eq!(behind(&fdb, 6), Some(p[1]));
    assert_eq!(behind(&fdb, 7), None);
    fdb.set(at(0), Fid::of(6), mac(1), p[2], Origin::Static);
    assert_eq!(
        fdb.learn(at(0), own(6), mac(1), from(p[1])),
        Learned::Pinned
    );
    // The administrator's word for all VLANs is better than what was learned in one of them.
    fdb.set(at(0), ALL, mac(1), p[3], Origin::Static);
    assert_eq!(behind(&fdb, 5), Some(p[3]));
    assert_eq!(behind(&fdb, 6), Some(p[2]));
    assert_eq!(
        fdb.learn(at(0), own(5), mac(1), from(p[0])),
        Learned::Pinned
    );
    assert_eq!(fdb.len(), 2);
}

#[test]
fn a_shared_database_knows_a_station_in_every_vlan() {
    let p = ports();
    let mut fdb = Fdb::new(1, Duration::ZERO, 8, account());
    fdb.set(at(0), Fid::of(7), mac(1), p[3], Origin::Static);
    assert_eq!(
        fdb.learn(at(0), shared(5), mac(1), from(p[0])),
        Learned::New
    );
    assert_eq!(
        fdb.learn(at(0), shared(6), mac(1), from(p[1])),
        Learned::Moved
    );
    assert_eq!(
        fdb.learn(at(0), shared(7), mac(1), from(p[1])),
        Learned::Pinned
    );
    let behind = |vid| fdb.lookup(at(0), Fid::of(vid), mac(1)).map(|e| e.ifid);
    assert_eq!([5, 6, 7].map(behind), [Some(p[1]), Some(p[1]), Some(p[3])]);
}

#[test]
fn stations_stay_behind_a_member_that_is_sticky() {
    let p = ports();
    let mut fdb = Fdb::new(1, Duration::from_secs(10), 2, account());
    let sticky = Source {
        origin: Origin::Sticky,
        ..from(p[0])
    };
    assert_eq!(fdb.learn(at(0), ANY, mac(1), sticky), Learned::New);
    assert_eq!(fdb.learn(at(99), ANY, mac(1), from(p[1])), Learned::Pinned);
    assert_eq!(fdb.lookup(at(99), ALL, mac(1)).map(|e| e.ifid), Some(p[0]));
    fdb.learn(at(99), ANY, mac(2), from(p[1]));
    assert_eq!(fdb.learn(at(99), ANY, mac(3), from(p[1])), Learned::Full);
    // One that moves there stays as well.
    assert_eq!(fdb.learn(at(99), ANY, mac(2), sticky), Learned::Moved);
    assert_eq!(fdb.learn(at(99), ANY, mac(2), from(p[1])), Learned::Pinned);
}

#[test]
fn there_is_room_for_so_many_stations_behind_a_member_and_in_a_vlan() {
    let p = ports();
    let mut fdb = Fdb::new(1, Duration::from_secs(10), 9, account());
    let one = Source {
        most: 1,
        ..from(p[0])
    };
    assert_eq!(fdb.learn(at(0), ANY, mac(1), one), Learned::New);
    assert_eq!(fdb.learn(at(0), ANY, mac(2), one), Learned::Refused);
    assert_eq!(fdb.learn(at(0), ANY, mac(2), from(p[1])), Learned::New);
    assert_eq!(fdb.learn(at(0), ANY, mac(2), one), Learned::Refused);
    assert_eq!(fdb.lookup(at(0), ALL, mac(2)).map(|e| e.ifid), Some(p[1]));
    // When the first has aged or is elsewhere, there is room again.
    assert_eq!(fdb.learn(at(5), ANY, mac(1), from(p[1])), Learned::Moved);
    assert_eq!(fdb.learn(at(5), ANY, mac(3), one), Learned::New);
    assert_eq!(fdb.learn(at(15), ANY, mac(4), one), Learned::New);
    fdb.set_max_in_vlan(1);
    assert_eq!(fdb.learn(at(15), own(5), mac(5), from(p[1])), Learned::New);
    assert_eq!(fdb.learn(at(15), own(5), mac(6), from(p[1])), Learned::Full);
    assert_eq!(fdb.learn(at(15), own(6), mac(6), from(p[1])), Learned::New);
    fdb.remove(Fid::of(5), mac(5));
    assert_eq!(fdb.learn(at(15), own(5), mac(6), from(p[1])), Learned::New);
}

#[derive(Clone, Debug)]
enum Act {
    Learn(u16, u8, usize),
    Pin(u16, u8, usize),
    Own(u8, usize),
    Remove(u16, u8),
    Flush(usize),
    Pass(u64),
    Bounds(u64, usize),
}

fn act() -> impl Strategy<Value = Act> {
    let (v, m, p) = (|| 0..3u16, || 0..8u8, || 0..4usize);
    prop_oneof![
        8 => (v(), m(), p()).prop_map(|(v, m, p)| Act::Learn(v, m, p)),
        1 => (v(), m(), p()).prop_map(|(v, m, p)| Act::Pin(v, m, p)),
        1 => (m(), p()).prop_map(|(m, p)| Act::Own(m, p)),
        1 => (v(), m()).prop_map(|(v, m)| Act::Remove(v, m)),
        1 => p().prop_map(Act::Flush),
        4 => (0..8u64).prop_map(Act::Pass),
        1 => (prop::sample::select(vec![0, 3, 10]), 1..6usize)
            .prop_map(|(age, most)| Act::Bounds(age, most)),
    ]
}

/// The same by a map whose every entry is looked at whenever the clock moves.
#[derive(Default)]
struct Model {
    stations: BTreeMap<(Fid, MacAddr), FdbEntry>,
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

    fn find(&self, vlan: Fid, mac: MacAddr) -> Option<(Fid, MacAddr)> {
        let keys = [(vlan, mac), (ALL, mac)];
        keys.into_iter().find(|key| self.stations.contains_key(key))
    }

    fn set(&mut self, entry: FdbEntry) {
        if entry.fid == ALL {
            let yields = |s: &FdbEntry| is_learned(s) || entry.origin == Origin::Local;
            self.stations
                .retain(|_, s| s.mac != entry.mac || !yields(s));
        }
        self.stations.insert((entry.fid, entry.mac), entry);
    }

    fn learn(&mut self, now: Instant, class: Class, mac: MacAddr, from: Source) -> Learned {
        let learned = || self.stations.values().filter(|s| is_learned(s));
        let full = learned().count() >= self.max_learned;
        let fid = class.learned_in;
        let full_vlan = fid != ALL && learned().filter(|s| s.fid == fid).count() >= 3;
        let behind = learned().filter(|s| s.ifid == from.ifid).count();
        let here = learned()
            .filter(|s| s.ifid == from.ifid && s.fid == fid)
            .count();
        let counts = fid != ALL && from.most_in_vlan != u32::MAX;
        let refused = behind >= from.most as usize || counts && here >= from.most_in_vlan as usize;
        let Some(key) = self.find(class.vlan, mac) else {
            if refused {
                return Learned::Refused;
            }
            if full || full_vlan {
                return match from.most == u32::MAX && !counts {
                    true => Learned::Full,
                    false => Learned::Refused,
                };
            }
            let entry = FdbEntry {
                fid,
                mac,
                ifid: from.ifid,
                origin: from.origin,
                seen: now,
                moves: 0,
                seen_in: class.vlan,
            };
            self.stations.insert((fid, mac), entry);
            return Learned::New;
        };
        let s = self.stations.get_mut(&key).expect("it was found");
        let moved = s.ifid != from.ifid;
        match s.origin {
            Origin::Local => Learned::Own,
            Origin::Static | Origin::Sticky if moved => Learned::Pinned,
            Origin::Static | Origin::Sticky => Learned::Known,
            Origin::Learned if !moved => {
                (s.seen, s.seen_in) = (now, class.vlan);
                Learned::Known
            }
            Origin::Learned if refused => Learned::Refused,
            Origin::Learned => {
                s.moves += 1;
                s.seen_in = class.vlan;
                (s.seen, s.ifid, s.origin) = (now, from.ifid, from.origin);
                Learned::Moved
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    #[test]
    fn it_is_a_map_with_a_clock(
        is_shared in any::<bool>(),
        acts in prop::collection::vec(act(), 1..80),
    ) {
        let p = ports();
        let mut sources: Vec<Source> = p.iter().map(|ifid| from(*ifid)).collect();
        sources[2].origin = Origin::Sticky;
        sources[3].most = 1;
        sources[1].most_in_vlan = 1;
        let mut now = at(0);
        let mut fdb = Fdb::new(7, Duration::from_secs(10), 4, account());
        fdb.set_max_in_vlan(3);
        let mut model = Model { max_age: Duration::from_secs(10), max_learned: 4, ..Model::default() };
        for act in acts {
            match act {
                Act::Learn(v, m, n) => {
                    let class = if is_shared { shared(v) } else { own(1 + v % 2) };
                    let source = sources[n];
                    let learned = fdb.learn(now, class, mac(m), source);
                    prop_assert_eq!(learned, model.learn(now, class, mac(m), source));
                }
                Act::Pin(v, m, n) => {
                    let (fid, origin) = (Fid::of(v), Origin::Static);
                    fdb.set(now, fid, mac(m), p[n], origin);
                    model.set(FdbEntry { fid, mac: mac(m), ifid: p[n], origin, seen: now, moves: 0, seen_in: ALL });
                }
                Act::Own(m, n) => {
                    let (fid, origin) = (ALL, Origin::Local);
                    fdb.set(now, fid, mac(m), p[n], origin);
                    model.set(FdbEntry { fid, mac: mac(m), ifid: p[n], origin, seen: now, moves: 0, seen_in: ALL });
                }
                Act::Remove(v, m) => {
                    fdb.remove(Fid::of(v), mac(m));
                    model.stations.remove(&(Fid::of(v), mac(m)));
                }
                Act::Flush(n) => {
                    fdb.remove_if(|s| s.ifid == p[n] && is_learned(s));
                    model.stations.retain(|_, s| s.ifid != p[n] || !is_learned(s));
                }
                Act::Pass(s) => now += Duration::from_secs(s),
                Act::Bounds(age, most) => {
                    fdb.set_bounds(now, Duration::from_secs(age), most);
                    (model.max_age, model.max_learned) = (Duration::from_secs(age), most);
                }
            }
            model.age(now);
            let mut listed: Vec<FdbEntry> = fdb.list(now).collect();
            listed.sort_by_key(|s| (s.fid, s.mac));
            prop_assert_eq!(&listed, &model.stations.values().copied().collect::<Vec<_>>());
            for (v, m) in (0..3).flat_map(|v| (0..8).map(move |m| (Fid::of(v), mac(m)))) {
                let expected = model.find(v, m).map(|key| model.stations[&key]);
                let expected = expected.map(|FdbEntry { fid, ifid, origin, seen_in, .. }| Place {
                    fid,
                    ifid,
                    origin,
                    seen_in,
                });
                prop_assert_eq!(fdb.lookup(now, v, m), expected);
            }
        }
    }
}

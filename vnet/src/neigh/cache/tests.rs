//! Scripts for the cache: what the neighbour says is in `arp/tests.rs`.

use super::*;
use crate::base::rng::Rng;
use crate::ip::addr;
use crate::ip::family::V4;
use crate::neigh::arp::ArpVerdict;
use crate::neigh::state::HELD_OVERHEAD;
use crate::neigh::verdict::Scope;
use crate::packet::header::{ArpOp, ArpPacket};
use crate::packet::{Out, Payload};
use proptest::prelude::*;
use slotmap::KeyData;
use std::net::Ipv4Addr;

pub(in crate::neigh) const OUR_MAC: MacAddr = MacAddr([6, 0, 0, 0, 0, 1]);
pub(in crate::neigh) const OUR_IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

pub(in crate::neigh) fn iface(n: u64) -> IfId {
    IfId::from(KeyData::from_ffi(1 << 32 | n))
}

/// Host number `n` on 10.0.0.0/24.
pub(in crate::neigh) fn host(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, n)
}

pub(in crate::neigh) fn mac(n: u8) -> MacAddr {
    MacAddr::from_number(u64::from(n))
}

fn packet(id: u8) -> Packet {
    Packet::outgoing(Payload::from(vec![id; 100]))
}

fn ids(packets: &VecDeque<Packet>) -> Vec<u8> {
    packets.iter().map(|p| p.to_vec()[0]).collect()
}

/// A cache with everything around it.
pub(in crate::neigh) struct World {
    pub(in crate::neigh) cache: NeighCache,
    pub(in crate::neigh) now: Instant,
    pub(in crate::neigh) stats: Stats,
    /// What is known of the link.
    pub(in crate::neigh) round_trip: Duration,
    rng: Rng,
    out: Out,
}

impl World {
    pub(in crate::neigh) fn new(config: NeighConfig) -> World {
        let mut cache = NeighCache::new(Rng::seeded(7));
        cache.set_config(config);
        World {
            cache,
            now: Instant::ZERO,
            stats: Stats::default(),
            round_trip: Duration::ZERO,
            rng: Rng::seeded(1),
            out: Out::default(),
        }
    }

    fn cx<R>(&mut self, act: impl FnOnce(&mut NeighCache, &mut Cx) -> R) -> R {
        let mut cx = Cx {
            now: self.now,
            rng: &mut self.rng,
            stats: &mut self.stats,
            out: &mut self.out,
        };
        act(&mut self.cache, &mut cx)
    }

    fn send_on(&mut self, ifid: IfId, to: impl Into<IpAddr>, packet: Packet) -> Verdict {
        let (to, round_trip) = (to.into(), self.round_trip);
        self.cx(|cache, cx| cache.resolve(cx, ifid, to, round_trip, packet))
    }

    fn remove(&mut self, n: u8) -> Option<StateName> {
        self.cx(|cache, cx| cache.remove(cx, iface(1), host(n).into()))
    }

    fn due(&mut self) -> Option<Unreachable> {
        self.cx(NeighCache::on_deadline)
    }

    /// Sends packet `id` to host `n` and says in a word what became of it.
    pub(in crate::neigh) fn send(&mut self, n: u8, id: u8) -> String {
        self.send_to(host(n), id)
    }

    /// The same, to any address.
    pub(in crate::neigh) fn send_to(&mut self, to: impl Into<IpAddr>, id: u8) -> String {
        match self.send_on(iface(1), to, packet(id)) {
            Verdict::Resolved(mac, p) => {
                assert_eq!(p.to_vec(), vec![id; 100]);
                format!("to {mac}")
            }
            Verdict::Held => "held".to_owned(),
            Verdict::Drop(reason, p) => {
                assert_eq!(p.to_vec(), vec![id; 100]);
                reason.to_string()
            }
        }
    }

    pub(in crate::neigh) fn hear(&mut self, arp: ArpPacket) -> ArpVerdict {
        let scope = |ip: Ipv4Addr| match ip {
            OUR_IP => Scope::Ours,
            ip if !addr::is_station::<V4>(ip) => Scope::Impossible,
            ip if ip.octets()[..3] == [10, 0, 0] => Scope::Neighbour,
            _ => Scope::Stranger,
        };
        let ingress = NeighIngress {
            ifid: iface(1),
            mac: OUR_MAC,
            round_trip: self.round_trip,
            sender: scope(arp.sender_ip),
            target: scope(arp.target_ip),
        };
        self.cache.input(self.now, ingress, &arp)
    }

    /// Host `n` with the address `m` answers us.
    pub(in crate::neigh) fn answer(&mut self, n: u8, m: u8) -> Vec<u8> {
        let arp = ArpPacket {
            op: ArpOp::Reply,
            sender_mac: mac(m),
            sender_ip: host(n),
            target_mac: OUR_MAC,
            target_ip: OUR_IP,
        };
        match self.hear(arp) {
            ArpVerdict::Accepted {
                reply: None,
                release,
            } => release.map_or(Vec::new(), |r| {
                assert_eq!(r.mac, mac(m));
                ids(&r.packets)
            }),
            other => panic!("an answer was taken as {other:?}"),
        }
    }

    /// Lets time pass to every deadline up to `secs` from the start; returns what was asked, as
    /// (second, unicast or not), and the packets that came back.
    pub(in crate::neigh) fn until(&mut self, secs: u64) -> (Vec<(u64, &'static str)>, Vec<u8>) {
        let end = Instant::ZERO + Duration::from_secs(secs);
        let (mut asked, mut back) = (self.asked(), Vec::new());
        while let Some(at) = self.cache.next_deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            while let Some(unreachable) = self.due() {
                back.extend(ids(&unreachable.packets));
            }
            asked.extend(self.asked());
        }
        self.now = end;
        (asked, back)
    }

    pub(in crate::neigh) fn asked(&mut self) -> Vec<(u64, &'static str)> {
        let second = self.now.as_nanos() / 1_000_000_000;
        std::iter::from_fn(|| self.cache.poll_request())
            .map(|r| match r.unicast_to {
                None => (second, "broadcast"),
                Some(_) => (second, "unicast"),
            })
            .collect()
    }

    pub(in crate::neigh) fn state(&self, n: u8) -> Option<&'static str> {
        self.cache
            .list(self.now)
            .find(|info| info.ip == IpAddr::V4(host(n)))
            .map(|info| info.state.as_str())
    }
}

#[test]
fn an_empty_cache_owns_no_memory() {
    let mut w = World::new(NeighConfig::default());
    assert_eq!(w.cache.requests.capacity(), 0);
    assert!(w.cache.defended.is_empty());
    assert_eq!(w.cache.next_deadline(), None);
    w.cache.teardown(&mut w.stats);
    assert_eq!(w.cache.next_deadline(), None);
}

#[test]
fn packets_wait_for_the_answer_and_leave_in_order() {
    let mut w = World::new(NeighConfig::default());
    assert_eq!(w.send(2, 1), "held");
    assert_eq!(w.send(2, 2), "held");
    assert_eq!(w.asked(), [(0, "broadcast")], "one question, not two");
    assert_eq!(w.cache.held().packets, 2);
    assert_eq!(w.answer(2, 22), [1, 2]);
    assert_eq!(w.state(2), Some("reachable"));
    assert_eq!(w.send(2, 3), format!("to {}", mac(22)));
    assert_eq!(w.cache.held(), HeldCount::default());
    // The question's deadline is a leftover; nothing more is asked.
    assert_eq!(w.until(10), (vec![], vec![]));
}

#[test]
fn nobody_answers() {
    let mut w = World::new(NeighConfig::default());
    assert_eq!(w.send(2, 1), "held");
    assert_eq!(w.send(2, 2), "held");
    let questions = vec![(0, "broadcast"), (1, "broadcast"), (2, "broadcast")];
    assert_eq!(w.until(3), (questions, vec![1, 2]));
    assert_eq!(w.cache.held(), HeldCount::default());
    // For a second packets are refused without a question, then it starts again.
    assert_eq!(w.state(2), Some("failed"));
    assert_eq!(w.send(2, 3), "neighbour-unreachable");
    assert_eq!(w.until(4), (vec![], vec![]));
    assert_eq!(w.cache.next_deadline(), None);
    assert_eq!(w.send(2, 4), "held");
    assert_eq!(w.asked(), [(4, "broadcast")]);
    assert_eq!(w.cache.stats().failures, 1);
}

#[test]
fn a_neighbour_that_falls_silent_is_probed_then_forgotten() {
    let mut w = World::new(NeighConfig::default());
    w.send(2, 1);
    w.answer(2, 22);
    w.asked();
    assert_eq!(
        w.until(60),
        (vec![], vec![]),
        "an unused neighbour is let be"
    );
    assert_eq!(w.state(2), Some("stale"));
    assert_eq!(w.send(2, 2), format!("to {}", mac(22)));
    assert_eq!(w.state(2), Some("delay"));
    assert_eq!(w.until(64), (vec![], vec![]));
    assert_eq!(w.until(65), (vec![(65, "unicast")], vec![]));
    assert_eq!(w.state(2), Some("probe"));
    assert_eq!(w.send(2, 3), format!("to {}", mac(22)));
    let probes = vec![(66, "unicast"), (67, "unicast")];
    assert_eq!(w.until(68), (probes, vec![]));
    assert_eq!(w.state(2), Some("failed"));
    assert_eq!(w.cache.next_deadline(), None);
    // It may have come back with another address: everybody is asked, and at once.
    assert_eq!(w.send(2, 4), "held");
    assert_eq!(w.asked(), [(68, "broadcast")]);
}

#[test]
fn an_answer_or_a_hint_from_above_ends_the_probing() {
    let mut w = World::new(NeighConfig::default());
    for (n, start, hint) in [(2, 0, false), (3, 100, true)] {
        w.until(start);
        w.send(n, 1);
        w.answer(n, 22);
        w.until(start + 60);
        w.send(n, 2);
        w.until(start + 65);
        assert_eq!(w.state(n), Some("probe"));
        if hint {
            w.cache.confirm(w.now, iface(1), host(n).into());
        } else {
            w.answer(n, 22);
        }
        assert_eq!(w.state(n), Some("reachable"));
        assert_eq!(w.until(start + 70), (vec![], vec![]));
    }
}

#[test]
fn a_confirmation_lasts_half_to_one_and_a_half_of_the_mean() {
    let mut w = World::new(NeighConfig::default());
    let mut times = Vec::new();
    for n in 2..250 {
        w.send(n, 1);
        w.answer(n, n);
    }
    for (_, entry) in w.cache.entries.iter() {
        times.push(entry.reachable.as_millis());
    }
    assert!(times.iter().all(|ms| (15_000..45_000).contains(ms)));
    let mean = times.iter().sum::<u128>() / times.len() as u128;
    assert!((28_000..32_000).contains(&mean), "mean {mean} ms");
}

#[test]
fn the_oldest_packet_goes_when_too_many_wait() {
    let mut w = World::new(NeighConfig {
        held_bytes: 2 * (100 + HELD_OVERHEAD),
        ..NeighConfig::default()
    });
    for id in 1..=3 {
        assert_eq!(w.send(2, id), "held");
    }
    assert_eq!(w.stats.tx_drops(DropReason::NeighbourQueueFull), 1);
    let mut forwarded = Packet::outgoing(Payload::from(vec![9; 1000]));
    forwarded.meta.rcvif = Some(iface(2));
    assert!(matches!(
        w.send_on(iface(1), host(2), forwarded),
        Verdict::Held
    ));
    // Larger than all the room: it stays alone.
    assert_eq!(w.stats.tx_drops(DropReason::NeighbourQueueFull), 3);
    assert_eq!(
        w.cache.held(),
        HeldCount {
            packets: 1,
            received: 1,
            bytes: 1000 + HELD_OVERHEAD,
        }
    );
    assert_eq!(w.send(2, 4), "held");
    assert_eq!(w.stats.rx_drops(DropReason::NeighbourQueueFull), 1);
    assert_eq!(w.answer(2, 2), [4]);
}

#[test]
fn what_waits_is_counted_in_bytes_and_not_in_packets() {
    let mut w = World::new(NeighConfig::default());
    // The longest datagram in fragments of the least MTU.
    let (fragments, len) = (65_515usize.div_ceil(48), 68);
    let fragment = || Packet::outgoing(Payload::from(vec![0; len]));
    for _ in 0..fragments {
        let held = w.send_on(iface(1), host(2), fragment());
        assert!(matches!(held, Verdict::Held));
    }
    assert_eq!(w.stats.tx_drops(DropReason::NeighbourQueueFull), 0);
    assert_eq!(w.answer(2, 2).len(), fragments);
    assert_eq!(w.cache.held(), HeldCount::default());
}

#[test]
fn what_waits_for_all_together_is_bounded_and_each_may_have_one() {
    let mut w = World::new(NeighConfig {
        held_total_bytes: 5 * COST,
        ..NeighConfig::default()
    });
    for id in 1..=5 {
        assert_eq!(w.send(2, id), "held");
    }
    for (n, id) in [(3, 6), (3, 7), (4, 8)] {
        assert_eq!(w.send(n, id), "held");
    }
    assert_eq!(w.stats.tx_drops(DropReason::NeighbourQueueFull), 1);
    assert_eq!(w.cache.held().packets, 7);
    assert_eq!(w.answer(3, 3), [7]);
    assert_eq!(w.answer(4, 4), [8]);
    assert_eq!(w.answer(2, 2), [1, 2, 3, 4, 5]);
}

/// A link of which nothing is known at first: what was asked too early is answered all the same,
/// and the next time is waited for.
#[test]
fn late_answers_teach_patience() {
    let mut w = World::new(NeighConfig::default());
    w.send(2, 1);
    assert_eq!(w.until(3).1, [1], "given back");
    w.until(10);
    w.answer(2, 2);
    assert_eq!(w.send(2, 2), format!("to {}", mac(2)));
    // Asked after 5 s, the station has 20 s to answer, and twice more.
    assert_eq!(w.until(34), (vec![(15, "unicast")], vec![]));
    assert_eq!(w.until(35).0, [(35, "unicast")]);
    assert_eq!(w.state(2), Some("probe"));
    w.answer(2, 2);
    assert_eq!(w.state(2), Some("reachable"));
}

#[test]
fn what_is_known_of_the_link_is_waited_for() {
    let day = 86_400;
    let mut w = World::new(NeighConfig::default());
    w.round_trip = Duration::from_secs(2 * day);
    assert_eq!(w.send(2, 1), "held");
    assert_eq!(w.until(2 * day), (vec![(0, "broadcast")], vec![]));
    assert_eq!(w.answer(2, 2), [1]);
    // So does a station that was only heard.
    w.hear(ArpPacket::request(mac(3), host(3), OUR_IP));
    w.send(3, 1);
    let asked = w.until(4 * day).0;
    assert_eq!(asked, [(2 * day + 5, "unicast")]);
}

#[test]
fn an_answer_is_taken_for_so_long_and_no_longer() {
    let mut w = World::new(NeighConfig {
        late: Duration::from_secs(100),
        ..NeighConfig::default()
    });
    for (n, answered) in [(2, 102), (3, 103)] {
        let mut w = World::new(w.cache.config().clone());
        w.send(n, 1);
        w.until(answered);
        let arp = ArpPacket::request(OUR_MAC, OUR_IP, host(n)).answered_by(mac(n));
        let taken = matches!(w.hear(arp), ArpVerdict::Accepted { .. });
        // The last question was asked after 2 s.
        assert_eq!(taken, answered == 102);
        assert_eq!(w.cache.len(), usize::from(taken));
    }
    // A question for us teaches whoever asks it, as if it had never been asked for.
    w.send(4, 1);
    w.until(500);
    w.hear(ArpPacket::request(mac(4), host(4), OUR_IP));
    assert_eq!(w.state(4), Some("stale"));
}

#[test]
fn who_makes_itself_known_under_many_addresses_pushes_nobody_out() {
    let mut w = World::new(NeighConfig {
        limit: 10,
        ..NeighConfig::default()
    });
    for n in 2..10 {
        w.send(n, 0);
        w.answer(n, n);
    }
    for n in 100..200 {
        w.until(u64::from(n));
        w.hear(ArpPacket::request(mac(66), host(n), OUR_IP));
    }
    assert!((2..10).all(|n| w.state(n).is_some()));
    assert_eq!(w.cache.len(), 10);
    // Nor does it keep others from being asked for.
    assert_eq!(w.send(20, 0), "held");
    assert!((2..10).all(|n| w.state(n).is_some()));
}

#[test]
fn the_table_is_bounded_and_the_oldest_unused_goes() {
    let mut w = World::new(NeighConfig {
        limit: 3,
        ..NeighConfig::default()
    });
    for n in 2..=4 {
        w.until(u64::from(n));
        w.send(n, 0);
        w.answer(n, n);
    }
    w.until(6);
    w.send(2, 0);
    assert_eq!(w.send(5, 0), "held");
    assert_eq!(w.state(3), None, "3 was used last at 3 s, 2 at 6 s");
    assert_eq!(w.cache.len(), 3);
    // Neither permanent entries nor resolutions under way make room.
    let at = iface(1);
    let permanent = |w: &mut World, n: u8| w.cache.set_permanent(w.now, at, host(n).into(), mac(n));
    assert!(matches!(permanent(&mut w, 6), Ok(None)));
    assert!(matches!(permanent(&mut w, 7), Ok(None)));
    assert!(permanent(&mut w, 8).is_err());
    assert_eq!(w.send(9, 0), "neighbour-limit");
    assert_eq!(w.cache.len(), 3);
    assert_eq!(w.cache.stats().evicted, 3);
}

#[test]
fn a_scan_does_not_push_out_the_neighbours_of_others() {
    let mut w = World::new(NeighConfig {
        limit: 10,
        ..NeighConfig::default()
    });
    for n in 2..12 {
        w.send(n, 0);
        w.answer(n, n);
    }
    for n in 100..200 {
        w.send(n, 0);
    }
    let names: Vec<&str> = w.cache.list(w.now).map(|i| i.state.as_str()).collect();
    assert_eq!(names.iter().filter(|n| **n == "incomplete").count(), 5);
    assert_eq!(names.iter().filter(|n| **n == "reachable").count(), 5);
    // Those that failed make room for the next.
    w.until(3);
    assert_eq!(w.send(200, 0), "held");
    assert_eq!(w.cache.stats().evicted, 6);
}

#[test]
fn a_scan_of_an_empty_table_leaves_room_for_those_that_make_themselves_known() {
    let mut w = World::new(NeighConfig {
        limit: 16,
        ..NeighConfig::default()
    });
    for n in 100..200 {
        w.send(n, 0);
    }
    assert_eq!(w.cache.len(), 14);
    w.hear(ArpPacket::request(mac(2), host(2), OUR_IP));
    assert_eq!(w.state(2), Some("stale"));
    // It is spoken to, so others that make themselves known do not take its place.
    w.send(2, 0);
    for n in 20..40 {
        w.hear(ArpPacket::request(mac(66), host(n), OUR_IP));
    }
    assert_eq!(w.state(2), Some("delay"));
    // Those that failed make room, and are asked for again.
    w.until(4);
    assert_eq!(w.send(100, 0), "held");
    assert_eq!(w.send(3, 0), "held");
}

#[test]
fn a_permanent_neighbour_is_never_asked_and_never_believed_otherwise() {
    let mut w = World::new(NeighConfig::default());
    w.send(2, 1);
    let release = w
        .cache
        .set_permanent(w.now, iface(1), host(2).into(), mac(2));
    assert_eq!(ids(&release.unwrap().unwrap().packets), [1]);
    w.asked();
    w.answer(2, 66);
    assert_eq!(w.send(2, 2), format!("to {}", mac(2)));
    assert_eq!(w.until(1000), (vec![], vec![]));
    assert_eq!(w.state(2), Some("permanent"));
    assert_eq!(w.remove(2), Some(StateName::Permanent));
    assert_eq!(w.remove(2), None);
    assert_eq!(w.send(2, 3), "held");
}

#[test]
fn an_interface_takes_its_neighbours_along() {
    let mut w = World::new(NeighConfig::default());
    w.send(2, 1);
    w.send(2, 2);
    w.send_on(iface(2), host(2), packet(3));
    assert_eq!((w.cache.len(), w.cache.held().packets), (2, 3));
    w.cache.remove_interface(&mut w.stats, iface(1));
    assert_eq!((w.cache.len(), w.cache.held().packets), (1, 1));
    assert_eq!(w.stats.tx_drops(DropReason::Teardown), 2);
    assert_eq!(w.asked().len(), 1, "the question on the other interface");
    w.cache.teardown(&mut w.stats);
    assert_eq!(w.stats.tx_drops(DropReason::Teardown), 3);
    assert!(w.cache.is_empty());
    assert_eq!(w.cache.next_deadline(), None);
    assert_eq!(w.cache.held(), HeldCount::default());
}

#[derive(Clone, Debug)]
enum Action {
    Send { iface: u64, to: u8, forwarded: bool },
    Answer { from: u8, mac: u8 },
    Ask { from: u8, mac: u8, target: u8 },
    Advance { millis: u64 },
    Confirm { n: u8 },
    Permanent { n: u8 },
    Remove { n: u8 },
    RemoveInterface { iface: u64 },
}

fn action() -> impl Strategy<Value = Action> {
    let n = 0..12u8;
    prop_oneof![
        8 => (1..3u64, n.clone(), any::<bool>())
            .prop_map(|(iface, to, forwarded)| Action::Send { iface, to, forwarded }),
        3 => (n.clone(), 0..14u8).prop_map(|(from, mac)| Action::Answer { from, mac }),
        3 => (n.clone(), 0..14u8, n.clone())
            .prop_map(|(from, mac, target)| Action::Ask { from, mac, target }),
        4 => (0..4000u64).prop_map(|millis| Action::Advance { millis }),
        1 => n.clone().prop_map(|n| Action::Confirm { n }),
        1 => n.clone().prop_map(|n| Action::Permanent { n }),
        1 => n.clone().prop_map(|n| Action::Remove { n }),
        1 => (1..3u64).prop_map(|iface| Action::RemoveInterface { iface }),
    ]
}

/// What a packet of [`packet`] counts for while it waits.
const COST: usize = 100 + HELD_OVERHEAD;

proptest! {
    /// Whatever happens: each packet is accounted for once, the bounds hold, time alone brings
    /// the table to rest, and teardown leaves nothing.
    #[test]
    fn every_packet_is_accounted_for(script in prop::collection::vec(action(), 0..120)) {
        let mut w = World::new(NeighConfig { limit: 6, held_bytes: 4 * COST, held_total_bytes: 7 * COST, ..NeighConfig::default() });
        let (mut given, mut back) = (0, 0);
        for action in script {
            match action {
                Action::Send { iface: i, to, forwarded } => {
                    let mut p = packet(1);
                    p.meta.rcvif = forwarded.then(|| iface(9));
                    given += 1;
                    if !matches!(w.send_on(iface(i), host(to), p), Verdict::Held) {
                        back += 1;
                    }
                }
                Action::Answer { from, mac: m } => {
                    let arp = ArpPacket {
                        op: ArpOp::Reply,
                        sender_mac: mac(m),
                        sender_ip: host(from),
                        target_mac: OUR_MAC,
                        target_ip: OUR_IP,
                    };
                    if let ArpVerdict::Accepted { release: Some(r), .. } = w.hear(arp) {
                        back += r.packets.len();
                    }
                }
                Action::Ask { from, mac: m, target } => {
                    let arp = ArpPacket::request(mac(m), host(from), host(target));
                    if let ArpVerdict::Accepted { release: Some(r), .. } = w.hear(arp) {
                        back += r.packets.len();
                    }
                }
                Action::Advance { millis } => {
                    w.now += Duration::from_millis(millis);
                    while let Some(u) = w.due() {
                        back += u.packets.len();
                    }
                }
                Action::Confirm { n } => w.cache.confirm(w.now, iface(1), host(n).into()),
                Action::Permanent { n } => {
                    let set = w.cache.set_permanent(w.now, iface(1), host(n).into(), mac(n));
                    if let Ok(Some(r)) = set {
                        back += r.packets.len();
                    }
                }
                Action::Remove { n } => {
                    w.remove(n);
                }
                Action::RemoveInterface { iface: i } => {
                    w.cache.remove_interface(&mut w.stats, iface(i));
                }
            }
            let dropped = (w.stats.rx_dropped() + w.stats.tx_dropped()) as usize;
            let listed: usize = w.cache.list(w.now).map(|info| info.held).sum();
            prop_assert_eq!(listed, w.cache.held().packets);
            prop_assert_eq!(given, back + dropped + listed);
            prop_assert!(w.cache.len() <= 6);
            prop_assert_eq!(w.cache.len(), w.cache.index.len());
            prop_assert!(w.cache.list(w.now).all(|info| info.held <= 4));
            // One packet may wait for each neighbour, whatever waits for others.
            prop_assert!(listed <= 7 + w.cache.len());
            prop_assert_eq!(w.cache.held().bytes, listed * COST);
        }
        w.asked();
        // Waits may have grown to minutes.
        w.until(w.now.as_nanos() / 1_000_000_000 + 10_000);
        prop_assert_eq!(w.cache.next_deadline(), None);
        prop_assert_eq!(w.cache.held(), HeldCount::default());
        w.cache.teardown(&mut w.stats);
        prop_assert!(w.cache.is_empty() && w.cache.index.is_empty());
    }
}

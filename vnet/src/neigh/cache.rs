//! The neighbours of one vnet.
//!
//! Keyed by interface and IP address. The hot path, [`NeighCache::lookup`], is one hash lookup and
//! no allocation. Deadlines are data; requests to send are polled. An empty cache owns no memory.
//!
//! Accounting: a packet that this cache lets go of by itself is counted here, under
//! [`Stats::drop_rx`] when it came in on an interface and [`Stats::drop_tx`] when it started here.
//! A packet in a verdict is the caller's again, to be counted by the caller.

use std::collections::VecDeque;
use std::net::IpAddr;

use slotmap::new_key_type;
use smallvec::SmallVec;

use super::state::{
    Delay, Failed, Held, Incomplete, Permanent, Probe, Reachable, Stale, State, StateName,
};
use crate::base::deadline::{Armed, Deadlines};
use crate::base::id::IfId;
use crate::base::map::Map;
use crate::base::rng::Rng;
use crate::base::slab::Slab;
use crate::base::stats::{DropReason, Stats};
use crate::base::time::{Duration, Instant};
use crate::packet::{Cx, MacAddr, Packet};

/// Times and limits of a [`NeighCache`]. The defaults are those of RFC 4861 section 10.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeighConfig {
    /// How long a confirmation counts, on average; each neighbour gets a time drawn uniformly
    /// between half of it and one and a half.
    pub reachable: Duration,
    /// How long the layers above have to confirm a stale neighbour before it is probed.
    pub delay_first_probe: Duration,
    /// Time between requests, and between probes.
    pub retrans: Duration,
    /// Broadcast requests before a resolution fails. Zero counts as one.
    pub max_requests: u8,
    /// Unicast probes before a neighbour is forgotten. Zero counts as one.
    pub max_probes: u8,
    /// How long packets to an address that did not answer are refused without asking again
    /// (RFC 1122 section 2.3.2.1: at most one request a second for one address).
    pub negative: Duration,
    /// Packets that may wait for one neighbour.
    pub held_packets: usize,
    /// Bytes that may wait for one neighbour.
    pub held_bytes: usize,
    /// Neighbours in the table, permanent ones included.
    pub limit: usize,
    /// Shortest time between two defences of one address (RFC 5227 section 1.1).
    pub defend_interval: Duration,
}

impl Default for NeighConfig {
    fn default() -> NeighConfig {
        NeighConfig {
            reachable: Duration::from_secs(30),
            delay_first_probe: Duration::from_secs(5),
            retrans: Duration::from_secs(1),
            max_requests: 3,
            max_probes: 3,
            negative: Duration::from_secs(1),
            held_packets: 64,
            held_bytes: 256 * 1024,
            limit: 1024,
            defend_interval: Duration::from_secs(10),
        }
    }
}

/// What becomes of a packet that needs a neighbour's address.
#[derive(Debug)]
pub enum Verdict {
    /// Send it to this address.
    Resolved(MacAddr, Packet),
    /// It waits here. It comes back in a [`Release`] or an [`Unreachable`].
    Held,
    /// It cannot be sent. The caller counts it, and answers
    /// [`DropReason::NeighbourUnreachable`] with ICMP host unreachable.
    Drop(DropReason, Packet),
}

/// A request to send: ask for `ip` on `ifid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeOut {
    /// The interface to ask on.
    pub ifid: IfId,
    /// The address to ask for.
    pub ip: IpAddr,
    /// The station to ask, when it is known; otherwise everyone on the link.
    pub unicast_to: Option<MacAddr>,
}

/// Packets that waited for a neighbour whose address is now known.
#[derive(Debug)]
pub struct Release {
    /// The interface to send on.
    pub ifid: IfId,
    /// Where to send them.
    pub mac: MacAddr,
    /// The packets, in the order in which they came.
    pub packets: VecDeque<Packet>,
}

/// Packets that waited for a neighbour that did not answer. The caller counts each under
/// [`DropReason::NeighbourUnreachable`] and answers with ICMP host unreachable.
#[derive(Debug)]
pub struct Unreachable {
    /// The interface that was asked on.
    pub ifid: IfId,
    /// The address that nobody has.
    pub ip: IpAddr,
    /// The packets, in the order in which they came.
    pub packets: VecDeque<Packet>,
}

/// What a removal gave back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// Neighbours forgotten.
    pub entries: usize,
    /// Held packets dropped, counted under [`DropReason::Teardown`].
    pub packets: usize,
}

/// One neighbour, for a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeighInfo {
    /// The interface it is on.
    pub ifid: IfId,
    /// Its protocol address.
    pub ip: IpAddr,
    /// Its link-layer address, when known.
    pub mac: Option<MacAddr>,
    /// Its state now.
    pub state: StateName,
    /// Packets that wait for it.
    pub held: usize,
    /// When a packet was last sent to it.
    pub used: Instant,
}

/// Counters of a [`NeighCache`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NeighStats {
    /// Requests asked for, broadcast and unicast.
    pub requests: u64,
    /// Resolutions that got no answer.
    pub failures: u64,
    /// Neighbours forgotten to make room.
    pub evicted: u64,
    /// Stations that claimed an address of ours (RFC 5227 section 2.4).
    pub conflicts: u64,
}

/// No neighbour can be added: the table is full of entries that cannot go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the table of neighbours is full")]
pub struct NeighLimit;

new_key_type! {
    struct NeighKey;
}

#[derive(Debug)]
struct Entry {
    ifid: IfId,
    ip: IpAddr,
    state: State,
    armed: Armed,
    /// When a packet was last sent to it, for eviction.
    used: Instant,
    /// How long a confirmation of this neighbour counts.
    reachable: Duration,
}

/// The neighbours of one vnet. See the [module](self).
#[derive(Debug)]
pub struct NeighCache {
    config: NeighConfig,
    rng: Rng,
    index: Map<(IfId, IpAddr), NeighKey>,
    entries: Slab<NeighKey, Entry>,
    deadlines: Deadlines<NeighKey>,
    requests: VecDeque<ProbeOut>,
    stats: NeighStats,
    /// Addresses of ours that were defended, and when; no more than we have addresses.
    pub(super) defended: SmallVec<[(IfId, IpAddr, Instant); 1]>,
    /// Held packets, and how many of them came in on an interface.
    held: HeldCount,
}

/// Packets that wait in a [`NeighCache`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeldCount {
    /// All of them.
    pub packets: usize,
    /// Those that came in on an interface and wait to be forwarded.
    pub received: usize,
}

impl NeighCache {
    /// An empty cache with its own random stream.
    pub fn new(config: NeighConfig, mut rng: Rng) -> NeighCache {
        NeighCache {
            config,
            index: Map::seeded(rng.u64()),
            rng,
            entries: Slab::default(),
            deadlines: Deadlines::default(),
            requests: VecDeque::new(),
            stats: NeighStats::default(),
            defended: SmallVec::new(),
            held: HeldCount::default(),
        }
    }

    /// The hot path of [`NeighCache::resolve`]: the address to send to, when it is known.
    #[inline]
    pub fn lookup(&mut self, now: Instant, ifid: IfId, ip: IpAddr) -> Option<MacAddr> {
        let key = *self.index.get(&(ifid, ip))?;
        let entry = self.entries.get_mut(key)?;
        entry.used = now;
        match &entry.state {
            State::Reachable(Reachable { mac, until }) if now < *until => Some(*mac),
            State::Reachable(Reachable { mac, .. }) | State::Stale(Stale { mac }) => {
                let mac = *mac;
                self.delay(now, key, mac);
                Some(mac)
            }
            state => state.mac(),
        }
    }

    /// Finds the link-layer address for `packet`, whose next hop on `ifid` is `ip`, or keeps
    /// the packet until the address is known.
    pub fn resolve(&mut self, cx: &mut Cx, ifid: IfId, ip: IpAddr, packet: Packet) -> Verdict {
        if let Some(mac) = self.lookup(cx.now, ifid, ip) {
            return Verdict::Resolved(mac, packet);
        }
        let key = match self.index.get(&(ifid, ip)) {
            Some(key) => *key,
            None => match self.start_resolution(cx.now, ifid, ip) {
                Ok(key) => key,
                Err(NeighLimit) => return Verdict::Drop(DropReason::NeighbourLimit, packet),
            },
        };
        let entry = self.entries.get_mut(key).expect(INDEXED);
        let State::Incomplete(incomplete) = &mut entry.state else {
            return Verdict::Drop(DropReason::NeighbourUnreachable, packet);
        };
        self.held.add(&packet);
        incomplete.held.push(packet);
        while let Some(oldest) = incomplete
            .held
            .pop_over(self.config.held_packets, self.config.held_bytes)
        {
            self.held.remove(&oldest);
            count_drop(cx.stats, &oldest, DropReason::NeighbourQueueFull);
        }
        Verdict::Held
    }

    /// The next request to send. Call until `None` after every entry into the cache.
    pub fn poll_request(&mut self) -> Option<ProbeOut> {
        let request = self.requests.pop_front();
        if self.requests.is_empty() && self.requests.capacity() > 0 {
            self.requests = VecDeque::new();
        }
        request
    }

    /// A layer above has proof that the neighbour gets our packets, such as an acknowledgement
    /// of new data (RFC 4861 section 7.3.1).
    pub fn confirm(&mut self, now: Instant, ifid: IfId, ip: IpAddr) {
        let Some(entry) = self
            .index
            .get(&(ifid, ip))
            .and_then(|key| self.entries.get_mut(*key))
        else {
            return;
        };
        let mac = match &entry.state {
            State::Reachable(Reachable { mac, .. })
            | State::Stale(Stale { mac })
            | State::Delay(Delay { mac, .. })
            | State::Probe(Probe { mac, .. }) => *mac,
            State::Incomplete(_) | State::Failed(_) | State::Permanent(_) => return,
        };
        let until = now + entry.reachable;
        entry.state = State::Reachable(Reachable { mac, until });
    }

    /// When [`NeighCache::on_deadline`] is due; may be early.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    /// Carries out what is due, up to the first neighbour that turns out to be unreachable.
    /// Call until `None`, then send what [`NeighCache::poll_request`] asks for.
    pub fn on_deadline(&mut self, cx: &mut Cx) -> Option<Unreachable> {
        while let Some((at, key)) = self.deadlines.pop_due(cx.now) {
            let Some(entry) = self.entries.get_mut(key) else {
                continue;
            };
            if !Deadlines::<NeighKey>::disarm(&mut entry.armed, at) {
                continue;
            }
            match entry.state.deadline() {
                Some(due) if due <= cx.now => {
                    if let Some(unreachable) = self.expire(cx.now, key) {
                        return Some(unreachable);
                    }
                }
                Some(_) => self.arm(key),
                None => {}
            }
        }
        None
    }

    /// Sets a neighbour's address by hand; it stays until removed. Packets that waited for it
    /// are released.
    ///
    /// # Errors
    /// [`NeighLimit`] when the table is full of entries that cannot go.
    pub fn set_permanent(
        &mut self,
        now: Instant,
        ifid: IfId,
        ip: IpAddr,
        mac: MacAddr,
    ) -> Result<Option<Release>, NeighLimit> {
        let state = State::Permanent(Permanent { mac });
        match self.index.get(&(ifid, ip)) {
            Some(key) => Ok(self.settle(*key, state)),
            None => self.insert(now, ifid, ip, state).map(|_| None),
        }
    }

    /// Forgets a neighbour, permanent or not. `None` when there is no such neighbour.
    pub fn remove(&mut self, stats: &mut Stats, ifid: IfId, ip: IpAddr) -> Option<Released> {
        let key = *self.index.get(&(ifid, ip))?;
        Some(Released {
            entries: 1,
            packets: self.discard(stats, key),
        })
    }

    /// Forgets every neighbour on an interface that goes away or moves.
    pub fn remove_interface(&mut self, stats: &mut Stats, ifid: IfId) -> Released {
        self.requests.retain(|request| request.ifid != ifid);
        self.defended.retain(|(on, _, _)| *on != ifid);
        let keys: Vec<NeighKey> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.ifid == ifid)
            .map(|(key, _)| key)
            .collect();
        let mut released = Released::default();
        for key in keys {
            released.entries += 1;
            released.packets += self.discard(stats, key);
        }
        if self.entries.is_empty() {
            self.deadlines.reset();
        }
        released
    }

    /// Forgets everything and gives the memory back.
    pub fn teardown(&mut self, stats: &mut Stats) -> Released {
        let mut released = Released::default();
        let keys: Vec<NeighKey> = self.entries.iter().map(|(key, _)| key).collect();
        for key in keys {
            released.entries += 1;
            released.packets += self.discard(stats, key);
        }
        // A new field must be thought about here.
        let NeighCache {
            config: _,
            rng: _,
            index,
            entries,
            deadlines,
            requests,
            stats: _,
            defended,
            held,
        } = self;
        index.reset();
        entries.reset();
        deadlines.reset();
        *requests = VecDeque::new();
        *defended = SmallVec::new();
        debug_assert_eq!(*held, HeldCount::default(), "every held packet was dropped");
        released
    }

    /// The number of neighbours.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Packets that wait.
    pub fn held(&self) -> HeldCount {
        self.held
    }

    /// The counters.
    pub fn stats(&self) -> NeighStats {
        self.stats
    }

    /// The times and limits.
    pub fn config(&self) -> &NeighConfig {
        &self.config
    }

    /// Changes times and limits. States that have begun keep their times; a lower limit applies
    /// to neighbours to come.
    pub fn set_config(&mut self, config: NeighConfig) {
        self.config = config;
    }

    /// Every neighbour, in table order.
    pub fn list(&self, now: Instant) -> impl Iterator<Item = NeighInfo> {
        self.entries.iter().map(move |(_, entry)| NeighInfo {
            ifid: entry.ifid,
            ip: entry.ip,
            mac: entry.state.mac(),
            state: entry.state.name(now),
            held: match &entry.state {
                State::Incomplete(incomplete) => incomplete.held.len(),
                _ => 0,
            },
            used: entry.used,
        })
    }

    pub(super) fn count_conflict(&mut self) {
        self.stats.conflicts += 1;
    }

    /// What was heard from a neighbour that is in the table, or `None` when it is not.
    pub(super) fn heard(
        &mut self,
        now: Instant,
        ifid: IfId,
        ip: IpAddr,
        mac: MacAddr,
        proof: Proof,
    ) -> Option<Option<Release>> {
        let key = *self.index.get(&(ifid, ip))?;
        let entry = self.entries.get(key).expect(INDEXED);
        // RFC 4861 section 7.2.5 and appendix C. ARP has neither a solicited flag nor a nonce, so
        // only an answer to a question that is open counts as a confirmation.
        let asked = matches!(entry.state, State::Incomplete(_) | State::Probe(_));
        let state = match (proof, entry.state.mac()) {
            _ if matches!(entry.state, State::Permanent(_)) => return Some(None),
            (Proof::Answer, _) if asked => State::Reachable(Reachable {
                mac,
                until: now + entry.reachable,
            }),
            (_, Some(known)) if known == mac => return Some(None),
            _ => State::Stale(Stale { mac }),
        };
        Some(self.settle(key, state))
    }

    /// Adds a neighbour that made itself known. Without room, it goes unlearned.
    pub(super) fn learn(&mut self, now: Instant, ifid: IfId, ip: IpAddr, mac: MacAddr) {
        // A full table is no loss here: the neighbour is asked when a packet for it comes.
        let _ = self.insert(now, ifid, ip, State::Stale(Stale { mac }));
    }

    fn start_resolution(
        &mut self,
        now: Instant,
        ifid: IfId,
        ip: IpAddr,
    ) -> Result<NeighKey, NeighLimit> {
        let state = State::Incomplete(Incomplete {
            held: Held::default(),
            sent: 1,
            next: now + self.config.retrans,
        });
        let key = self.insert(now, ifid, ip, state)?;
        self.arm(key);
        self.request(ifid, ip, None);
        Ok(key)
    }

    fn insert(
        &mut self,
        now: Instant,
        ifid: IfId,
        ip: IpAddr,
        state: State,
    ) -> Result<NeighKey, NeighLimit> {
        if self.entries.len() >= self.config.limit {
            self.evict()?;
        }
        let mean = self.config.reachable.as_secs_f64();
        let reachable =
            Duration::try_from_secs_f64(mean * (0.5 + self.rng.unit())).unwrap_or(Duration::MAX);
        let key = self.entries.insert(Entry {
            ifid,
            ip,
            state,
            armed: Armed::default(),
            used: now,
            reachable,
        });
        self.index.insert((ifid, ip), key);
        Ok(key)
    }

    /// Forgets the neighbour that was not used for longest. A scan of the table, which is bounded,
    /// instead of a list that every packet would have to maintain. Resolutions under way stay:
    /// they end by themselves, and whoever makes us resolve many addresses must not push out
    /// those of others.
    fn evict(&mut self) -> Result<(), NeighLimit> {
        let oldest = self
            .entries
            .iter()
            .filter(|(_, e)| !matches!(e.state, State::Permanent(_) | State::Incomplete(_)))
            .min_by_key(|(_, e)| (!matches!(e.state, State::Failed(_)), e.used))
            .map(|(key, e)| (key, (e.ifid, e.ip)));
        let (key, indexed_by) = oldest.ok_or(NeighLimit)?;
        self.entries.remove(key);
        self.index.remove(&indexed_by);
        self.stats.evicted += 1;
        Ok(())
    }

    fn delay(&mut self, now: Instant, key: NeighKey, mac: MacAddr) {
        let entry = self.entries.get_mut(key).expect(INDEXED);
        entry.state = State::Delay(Delay {
            mac,
            until: now + self.config.delay_first_probe,
        });
        self.arm(key);
    }

    /// Puts a neighbour into a state in which its address is known.
    fn settle(&mut self, key: NeighKey, state: State) -> Option<Release> {
        let mac = state.mac()?;
        let entry = self.entries.get_mut(key).expect(INDEXED);
        let State::Incomplete(before) = std::mem::replace(&mut entry.state, state) else {
            return None;
        };
        let packets = before.held.into_packets();
        self.held.remove_all(&packets);
        Some(Release {
            ifid: entry.ifid,
            mac,
            packets,
        })
    }

    /// Carries out the deadline of one neighbour.
    fn expire(&mut self, now: Instant, key: NeighKey) -> Option<Unreachable> {
        let entry = self.entries.get_mut(key).expect(INDEXED);
        let (ifid, ip) = (entry.ifid, entry.ip);
        match &mut entry.state {
            State::Incomplete(incomplete) if incomplete.sent < self.config.max_requests => {
                incomplete.sent += 1;
                incomplete.next = now + self.config.retrans;
                self.arm(key);
                self.request(ifid, ip, None);
                None
            }
            State::Incomplete(incomplete) => {
                let packets = std::mem::take(&mut incomplete.held).into_packets();
                self.held.remove_all(&packets);
                self.stats.failures += 1;
                entry.state = State::Failed(Failed {
                    until: now + self.config.negative,
                });
                self.arm(key);
                Some(Unreachable { ifid, ip, packets })
            }
            State::Delay(Delay { mac, .. }) => {
                let mac = *mac;
                entry.state = State::Probe(Probe {
                    mac,
                    sent: 1,
                    next: now + self.config.retrans,
                });
                self.arm(key);
                self.request(ifid, ip, Some(mac));
                None
            }
            State::Probe(probe) if probe.sent < self.config.max_probes => {
                probe.sent += 1;
                probe.next = now + self.config.retrans;
                let mac = probe.mac;
                self.arm(key);
                self.request(ifid, ip, Some(mac));
                None
            }
            State::Probe(_) => {
                self.stats.failures += 1;
                self.forget(key);
                None
            }
            State::Failed(_) => {
                self.forget(key);
                None
            }
            State::Reachable(_) | State::Stale(_) | State::Permanent(_) => None,
        }
    }

    fn request(&mut self, ifid: IfId, ip: IpAddr, unicast_to: Option<MacAddr>) {
        self.stats.requests += 1;
        self.requests.push_back(ProbeOut {
            ifid,
            ip,
            unicast_to,
        });
    }

    fn arm(&mut self, key: NeighKey) {
        let entry = self.entries.get_mut(key).expect(INDEXED);
        if let Some(at) = entry.state.deadline() {
            self.deadlines.arm(&mut entry.armed, key, at);
        }
    }

    fn forget(&mut self, key: NeighKey) -> Option<Entry> {
        let entry = self.entries.remove(key)?;
        self.index.remove(&(entry.ifid, entry.ip));
        Some(entry)
    }

    /// Forgets a neighbour and drops the packets that wait for it; returns how many.
    fn discard(&mut self, stats: &mut Stats, key: NeighKey) -> usize {
        let Some(entry) = self.forget(key) else {
            return 0;
        };
        self.requests
            .retain(|r| (r.ifid, r.ip) != (entry.ifid, entry.ip));
        let State::Incomplete(incomplete) = entry.state else {
            return 0;
        };
        let packets = incomplete.held.into_packets();
        self.held.remove_all(&packets);
        for packet in &packets {
            count_drop(stats, packet, DropReason::Teardown);
        }
        packets.len()
    }
}

/// How sure it is that a neighbour can be reached at the address it was heard with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// It answered us: packets go both ways.
    Answer,
    /// It spoke: packets come from it.
    Hint,
}

impl HeldCount {
    fn add(&mut self, packet: &Packet) {
        self.packets += 1;
        self.received += usize::from(packet.meta.rcvif.is_some());
    }

    fn remove(&mut self, packet: &Packet) {
        self.packets -= 1;
        self.received -= usize::from(packet.meta.rcvif.is_some());
    }

    fn remove_all(&mut self, packets: &VecDeque<Packet>) {
        for packet in packets {
            self.remove(packet);
        }
    }
}

fn count_drop(stats: &mut Stats, packet: &Packet, reason: DropReason) {
    match packet.meta.rcvif {
        Some(_) => stats.drop_rx(reason),
        None => stats.drop_tx(reason),
    }
}

const INDEXED: &str = "the index holds keys of live entries only";

#[cfg(test)]
pub(super) mod tests;

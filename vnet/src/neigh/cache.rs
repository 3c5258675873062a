//! The neighbours of one vnet.
//!
//! Keyed by interface and IP address. The hot path, [`NeighCache::lookup`], is a look at those that were asked for
//! lately, or one hash lookup, and no allocation. Deadlines are data; requests to send are polled. An empty cache owns no
//! memory.
//!
//! Accounting: a packet that this cache lets go of by itself is counted here, under
//! [`Stats::drop_rx`] when it came in on an interface and [`Stats::drop_tx`] when it started here.
//! A packet in a verdict is the caller's again, to be counted by the caller.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::LazyLock;

use slotmap::{Key, new_key_type};

use super::config::NeighConfig;
use super::questions::Questions;
use super::state::{
    Delay, Failed, Held, Incomplete, Permanent, Probe, Reachable, Stale, State, StateName,
};
use super::verdict::{
    HeldCount, NeighInfo, NeighIngress, NeighLimit, NeighStats, ProbeOut, Proof, Release,
    Unreachable, Verdict,
};
use crate::base::deadline::{Armed, Deadlines};
use crate::base::id::IfId;
use crate::base::map::Map;
use crate::base::on_use::{OnUse, Part};
use crate::base::rng::Rng;
use crate::base::slab::Slab;
use crate::base::stats::{DropReason, Stats};
use crate::base::time::{Duration, Instant};
use crate::packet::{Cx, MacAddr, Packet};

new_key_type! {
    struct NeighKey;
}

#[derive(Debug)]
struct Entry {
    ifid: IfId,
    ip: IpAddr,
    state: State,
    armed: Armed,
    /// When it came into the table.
    since: Instant,
    /// When a packet was last sent to it, for eviction; `None` when none was.
    used: Option<Instant>,
    /// How long a confirmation of this neighbour counts.
    reachable: Duration,
    /// What was asked and not answered yet, and how long answers take.
    questions: Questions,
}

impl Entry {
    #[inline]
    fn is_of(&self, ifid: IfId, ip: IpAddr) -> bool {
        self.ip == ip && self.ifid == ifid
    }
}

/// Neighbours that are found without a hash: as many as a router has that carries a few flows.
const RECENT: usize = 4;

/// The neighbours of one vnet. See the [module](self).
#[derive(Debug)]
pub(crate) struct NeighCache {
    config: OnUse<NeighConfig>,
    rng: Rng,
    index: Map<(IfId, IpAddr), NeighKey>,
    /// Those that were asked for lately, each in one possible place. An entry says itself whose it is.
    recent: [NeighKey; RECENT],
    entries: Slab<NeighKey, Entry>,
    deadlines: Deadlines<NeighKey>,
    requests: VecDeque<ProbeOut>,
    stats: NeighStats,
    /// Addresses of ours that were defended, and when; no more than we have addresses.
    pub(super) defended: BTreeMap<(IfId, IpAddr), Instant>,
    /// Held packets, and how many of them came in on an interface.
    held: HeldCount,
    /// Neighbours that are being asked for.
    resolving: usize,
    /// What routers say of the times of links.
    said: BTreeMap<IfId, Times>,
}

/// What a router says of the times of its link (RFC 4861 section 6.3.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Times {
    /// As [`NeighConfig::reachable`].
    pub reachable: Option<Duration>,
    /// As [`NeighConfig::retrans`].
    pub retrans: Option<Duration>,
}

impl Part for NeighCache {
    type Seed = u64;

    fn seeded(seed: u64) -> NeighCache {
        NeighCache::new(Rng::seeded(seed))
    }

    fn unused() -> &'static NeighCache {
        static UNUSED: LazyLock<NeighCache> = LazyLock::new(|| NeighCache::seeded(0));
        &UNUSED
    }
}

impl NeighCache {
    /// An empty cache with its own random stream.
    pub(crate) fn new(mut rng: Rng) -> NeighCache {
        NeighCache {
            config: OnUse::default(),
            index: Map::seeded(rng.u64()),
            recent: [NeighKey::null(); RECENT],
            rng,
            entries: Slab::default(),
            deadlines: Deadlines::default(),
            requests: VecDeque::new(),
            stats: NeighStats::default(),
            defended: BTreeMap::new(),
            held: HeldCount::default(),
            resolving: 0,
            said: BTreeMap::new(),
        }
    }

    /// The hot path of [`NeighCache::resolve`]: the address to send to, when it is known and that is not in doubt. Changes
    /// nothing of which [`NeighCache::next_deadline`] or [`NeighCache::len`] knows.
    #[inline]
    pub(crate) fn lookup(&mut self, now: Instant, ifid: IfId, ip: IpAddr) -> Option<MacAddr> {
        let place = match ip {
            IpAddr::V4(ip) => usize::from(ip.octets()[3]) % RECENT,
            IpAddr::V6(ip) => usize::from(ip.octets()[15]) % RECENT,
        };
        let mut key = self.recent[place];
        if !self
            .entries
            .get(key)
            .is_some_and(|entry| entry.is_of(ifid, ip))
        {
            key = *self.index.get(&(ifid, ip))?;
            self.recent[place] = key;
        }
        let entry = self.entries.get_mut(key)?;
        entry.used = Some(now);
        match &entry.state {
            State::Reachable(Reachable { mac, until }) if now < *until => Some(*mac),
            State::Reachable(_) | State::Stale(_) => None,
            state => state.mac(),
        }
    }

    /// The address of a neighbour that was not heard of for a while. It is used, and asked for soon.
    #[cold]
    fn doubted(&mut self, now: Instant, ifid: IfId, ip: IpAddr) -> Option<MacAddr> {
        let key = *self.index.get(&(ifid, ip))?;
        match self.entries.get(key)?.state {
            State::Reachable(Reachable { mac, .. }) | State::Stale(Stale { mac }) => {
                self.delay(now, key, mac);
                Some(mac)
            }
            _ => None,
        }
    }

    /// Finds the link-layer address for `packet`, whose next hop on `ifid` is `ip`, or keeps
    /// the packet until the address is known. `round_trip` is how long a question and its answer
    /// take on the interface's link, as far as that is known.
    // Inline, so that a packet whose neighbour is known is not moved into a verdict and out again.
    #[inline]
    pub(crate) fn resolve(
        &mut self,
        cx: &mut Cx,
        ifid: IfId,
        ip: IpAddr,
        round_trip: Duration,
        packet: Packet,
    ) -> Verdict {
        let known = self.lookup(cx.now, ifid, ip);
        match known.or_else(|| self.doubted(cx.now, ifid, ip)) {
            Some(mac) => Verdict::Resolved(mac, packet),
            None => self.hold(cx, ifid, ip, round_trip, packet),
        }
    }

    /// Keeps a packet until its neighbour's address is known.
    #[cold]
    fn hold(
        &mut self,
        cx: &mut Cx,
        ifid: IfId,
        ip: IpAddr,
        round_trip: Duration,
        packet: Packet,
    ) -> Verdict {
        let key = match self.index.get(&(ifid, ip)) {
            Some(key) => *key,
            None if self.is_resolving_enough() => {
                return Verdict::Drop(DropReason::NeighbourLimit, packet);
            }
            None => match self.insert_unresolved(cx.now, ifid, ip) {
                Ok(key) => key,
                Err(NeighLimit) => return Verdict::Drop(DropReason::NeighbourLimit, packet),
            },
        };
        let entry = self.entries.get_mut(key).expect(INDEXED);
        if let State::Failed(Failed { until }) = entry.state {
            if cx.now < until {
                return Verdict::Drop(DropReason::NeighbourUnreachable, packet);
            }
            if self.is_resolving_enough() {
                return Verdict::Drop(DropReason::NeighbourLimit, packet);
            }
            self.start_resolution(cx.now, key, round_trip);
        }
        let entry = self.entries.get_mut(key).expect(INDEXED);
        let State::Incomplete(incomplete) = &mut entry.state else {
            return Verdict::Drop(DropReason::NeighbourUnreachable, packet);
        };
        self.held.add(&packet);
        incomplete.held.push(packet);
        let of_others = self.held.bytes - incomplete.held.bytes();
        let room = self.config.held_total_bytes.saturating_sub(of_others);
        while let Some(oldest) = incomplete.held.pop_over(room.min(self.config.held_bytes)) {
            self.held.remove(&oldest);
            count_drop(cx.stats, &oldest, DropReason::NeighbourQueueFull);
        }
        Verdict::Held
    }

    /// The next request to send. Call until `None` after every entry into the cache.
    pub(crate) fn poll_request(&mut self) -> Option<ProbeOut> {
        let request = self.requests.pop_front();
        if self.requests.is_empty() && self.requests.capacity() > 0 {
            self.requests = VecDeque::new();
        }
        request
    }

    /// True when [`NeighCache::poll_request`] has something to say.
    pub(crate) fn has_requests(&self) -> bool {
        !self.requests.is_empty()
    }

    /// A layer above has proof that the neighbour gets our packets, such as an acknowledgement
    /// of new data (RFC 4861 section 7.3.1). The deadline of one that was in doubt stays, and is found superfluous.
    pub(crate) fn confirm(&mut self, now: Instant, ifid: IfId, ip: IpAddr) {
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

    /// Pending deadlines.
    pub(crate) fn deadlines(&self) -> u64 {
        self.deadlines.len() as u64
    }

    /// When [`NeighCache::on_deadline`] is due; may be early.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    /// Carries out what is due, up to the first neighbour that turns out to be unreachable.
    /// Call until `None`, then send what [`NeighCache::poll_request`] asks for.
    pub(crate) fn on_deadline(&mut self, cx: &mut Cx) -> Option<Unreachable> {
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
    pub(crate) fn set_permanent(
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

    /// The neighbours on an interface that were set by hand.
    pub(crate) fn permanent_on(&self, ifid: IfId) -> impl Iterator<Item = IpAddr> {
        let set = move |e: &&Entry| e.ifid == ifid && matches!(e.state, State::Permanent(_));
        self.entries
            .iter()
            .map(|(_, entry)| entry)
            .filter(set)
            .map(|entry| entry.ip)
    }

    /// Forgets a neighbour, permanent or not, and drops the packets that wait for it. Says in which state
    /// it was; `None` when there is no such neighbour.
    pub(crate) fn remove(&mut self, cx: &mut Cx, ifid: IfId, ip: IpAddr) -> Option<StateName> {
        let key = *self.index.get(&(ifid, ip))?;
        let state = self.entries.get(key)?.state.name(cx.now);
        self.discard(cx.stats, key);
        Some(state)
    }

    /// An address of ours is ours no more: when it was defended is of no interest.
    pub(crate) fn forget_defence(&mut self, ifid: IfId, ip: IpAddr) {
        self.defended.remove(&(ifid, ip));
    }

    /// Forgets every neighbour on an interface that goes away or moves.
    pub(crate) fn remove_interface(&mut self, stats: &mut Stats, ifid: IfId) {
        self.forget_times(ifid);
        self.requests.retain(|request| request.ifid != ifid);
        self.defended.retain(|(on, _), _| *on != ifid);
        let keys: Vec<NeighKey> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.ifid == ifid)
            .map(|(key, _)| key)
            .collect();
        for key in keys {
            self.discard(stats, key);
        }
        if self.entries.is_empty() {
            self.deadlines.reset();
        }
    }

    /// Forgets the neighbours on an interface that were not set by hand: it leads to others now.
    pub(crate) fn forget_learned(&mut self, stats: &mut Stats, ifid: IfId) {
        let learned = |e: &Entry| e.ifid == ifid && !matches!(e.state, State::Permanent(_));
        let found = self.entries.iter().filter(|(_, entry)| learned(entry));
        let keys: Vec<NeighKey> = found.map(|(key, _)| key).collect();
        for key in keys {
            self.discard(stats, key);
        }
    }

    /// Forgets everything and gives the memory back.
    pub(crate) fn teardown(&mut self, stats: &mut Stats) {
        let keys: Vec<NeighKey> = self.entries.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.discard(stats, key);
        }
        // A new field must be thought about here.
        let NeighCache {
            config: _,
            rng: _,
            index,
            recent: _,
            entries,
            deadlines,
            requests,
            stats: _,
            defended,
            held,
            resolving,
            said,
        } = self;
        said.clear();
        index.reset();
        entries.reset();
        deadlines.reset();
        *requests = VecDeque::new();
        *defended = BTreeMap::new();
        debug_assert_eq!(*held, HeldCount::default(), "every held packet was dropped");
        debug_assert_eq!(*resolving, 0, "no neighbour is left");
    }

    /// The number of neighbours.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// True when there are none.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Packets that wait.
    pub(crate) fn held(&self) -> HeldCount {
        self.held
    }

    /// The counters.
    pub(crate) fn stats(&self) -> NeighStats {
        self.stats
    }

    /// The times and limits.
    pub(crate) fn config(&self) -> &NeighConfig {
        &self.config
    }

    /// Changes times and limits. States that have begun keep their times; a lower limit applies
    /// to neighbours to come.
    pub(crate) fn set_config(&mut self, config: NeighConfig) {
        if config != *self.config {
            *self.config = config;
        }
    }

    /// Every neighbour, in table order.
    pub(crate) fn list(&self, now: Instant) -> impl Iterator<Item = NeighInfo> {
        self.entries.iter().map(move |(_, entry)| NeighInfo {
            ifid: entry.ifid,
            ip: entry.ip,
            mac: entry.state.mac(),
            state: entry.state.name(now),
            held: match &entry.state {
                State::Incomplete(incomplete) => incomplete.held.len(),
                _ => 0,
            },
            used: entry.used.unwrap_or(entry.since),
        })
    }

    /// Counts a station that claims an address of ours.
    pub(crate) fn count_conflict(&mut self) {
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
        let late = self.config.late;
        let entry = self.entries.get_mut(key).expect(INDEXED);
        if matches!(entry.state, State::Permanent(_)) {
            return Some(None);
        }
        if matches!(entry.state, State::Failed(_)) && !entry.questions.are_open(now, late) {
            // Too long ago to tell an answer from gossip.
            self.forget(key);
            return None;
        }
        if proof == Proof::Answer {
            entry.questions.answered(now);
        }
        // RFC 4861 section 7.2.5 and appendix C. ARP has neither a solicited flag nor a nonce, so
        // only an answer to a question that is open counts as a confirmation.
        let asked = matches!(entry.state, State::Incomplete(_) | State::Probe(_));
        let state = match (proof, entry.state.mac()) {
            (Proof::Answer, _) if asked => State::Reachable(Reachable {
                mac,
                until: now + entry.reachable,
            }),
            (_, Some(known)) if known == mac => return Some(None),
            _ => State::Stale(Stale { mac }),
        };
        Some(self.settle(key, state))
    }

    /// Where a neighbour is, if that is known; `None` of one that is not in the table.
    pub(super) fn station(&self, ifid: IfId, ip: IpAddr) -> Option<Option<MacAddr>> {
        let entry = self.entries.get(*self.index.get(&(ifid, ip))?)?;
        Some(entry.state.mac())
    }

    /// Where a neighbour is, as far as that is known.
    pub(crate) fn known(&self, ifid: IfId, ip: IpAddr) -> Option<MacAddr> {
        self.station(ifid, ip).flatten()
    }

    /// Notes what a router says of the times of its link, which counts more than the configuration of the vnet;
    /// what it does not say stays as it was.
    pub(crate) fn say_times(&mut self, ifid: IfId, times: Times) {
        if times != Times::default() {
            let before = self.said.entry(ifid).or_default();
            before.reachable = times.reachable.or(before.reachable);
            before.retrans = times.retrans.or(before.retrans);
        }
    }

    /// Forgets what routers have said of the times of a link.
    pub(crate) fn forget_times(&mut self, ifid: IfId) {
        self.said.remove(&ifid);
    }

    fn times(&self, ifid: IfId) -> Times {
        self.said.get(&ifid).copied().unwrap_or_default()
    }

    /// Least time between questions on a link.
    pub(crate) fn retrans(&self, ifid: IfId) -> Duration {
        self.times(ifid).retrans.unwrap_or(self.config.retrans)
    }

    fn retrans_of(&self, key: NeighKey) -> Duration {
        match self.entries.get(key) {
            Some(entry) if entry.ip.is_ipv6() => self.retrans(entry.ifid),
            _ => self.config.retrans,
        }
    }

    /// True of a neighbour that has answered lately.
    pub(crate) fn is_reachable(&self, ifid: IfId, ip: IpAddr) -> bool {
        let key = self.index.get(&(ifid, ip)).copied();
        let entry = key.and_then(|key| self.entries.get(key));
        entry.is_some_and(|entry| matches!(entry.state, State::Reachable(_)))
    }

    /// True of a neighbour that was asked for and did not answer.
    pub(crate) fn is_silent(&self, ifid: IfId, ip: IpAddr) -> bool {
        let key = self.index.get(&(ifid, ip)).copied();
        let entry = key.and_then(|key| self.entries.get(key));
        entry.is_some_and(|entry| matches!(entry.state, State::Failed(_)))
    }

    /// It is not sure any more that a neighbour that could be reached still can: it is asked when the
    /// next packet goes to it.
    pub(super) fn doubt(&mut self, ifid: IfId, ip: IpAddr) {
        let key = self.index.get(&(ifid, ip)).copied();
        if let Some(entry) = key.and_then(|key| self.entries.get_mut(key))
            && let State::Reachable(Reachable { mac, .. }) = entry.state
        {
            entry.state = State::Stale(Stale { mac });
        }
    }

    /// Adds a neighbour that made itself known. Without room, it goes unlearned.
    pub(super) fn learn(&mut self, now: Instant, ingress: NeighIngress, ip: IpAddr, mac: MacAddr) {
        // A full table is no loss here: the neighbour is asked when a packet for it comes.
        if let Ok(key) = self.insert(now, ingress.ifid, ip, State::Stale(Stale { mac })) {
            let entry = self.entries.get_mut(key).expect(INDEXED);
            entry.questions.expect(ingress.round_trip);
        }
    }

    /// Adds a neighbour that is about to be asked for.
    fn insert_unresolved(
        &mut self,
        now: Instant,
        ifid: IfId,
        ip: IpAddr,
    ) -> Result<NeighKey, NeighLimit> {
        let state = State::Failed(Failed { until: now });
        self.insert(now, ifid, ip, state)
    }

    fn start_resolution(&mut self, now: Instant, key: NeighKey, round_trip: Duration) {
        let retrans = self.retrans_of(key);
        let entry = self.entries.get_mut(key).expect(INDEXED);
        entry.questions.expect(round_trip);
        entry.used = Some(now);
        entry.state = State::Incomplete(Incomplete {
            held: Held::default(),
            sent: 1,
            next: now + entry.questions.wait(retrans),
        });
        self.resolving += 1;
        self.arm(key);
        self.request(now, key, None);
    }

    /// True when no further neighbour may be asked for until others have answered or failed. An eighth
    /// of the table stays for those that make themselves known, so that whoever makes us ask for many
    /// addresses does not keep us from answering anybody else.
    fn is_resolving_enough(&self) -> bool {
        self.resolving >= self.config.limit - self.config.limit / 8
    }

    fn insert(
        &mut self,
        now: Instant,
        ifid: IfId,
        ip: IpAddr,
        state: State,
    ) -> Result<NeighKey, NeighLimit> {
        if self.entries.len() >= self.config.limit {
            self.evict(&state)?;
        }
        let said = ip.is_ipv6().then(|| self.times(ifid).reachable).flatten();
        let mean = said.unwrap_or(self.config.reachable).as_secs_f64();
        let reachable =
            Duration::try_from_secs_f64(mean * (0.5 + self.rng.unit())).unwrap_or(Duration::MAX);
        let key = self.entries.insert(Entry {
            ifid,
            ip,
            state,
            armed: Armed::default(),
            since: now,
            used: None,
            reachable,
            questions: Questions::default(),
        });
        self.index.insert((ifid, ip), key);
        Ok(key)
    }

    /// Forgets the neighbour that was not used for longest. A scan of the table, which is bounded,
    /// instead of a list that every packet would have to maintain.
    ///
    /// Whoever makes us resolve many addresses must not push out the neighbours of others
    /// (RFC 6583 section 5): resolutions under way end by themselves and stay, and once they are
    /// half of a full table, a further one gets no neighbour's place. Whoever makes itself known
    /// under many addresses takes the place of those that did the same and were not spoken to.
    fn evict(&mut self, newcomer: &State) -> Result<(), NeighLimit> {
        let is_failed = |state: &State| matches!(state, State::Failed(_));
        let victim = self
            .entries
            .iter()
            .filter(|(_, e)| !matches!(e.state, State::Permanent(_) | State::Incomplete(_)))
            .min_by_key(|(_, e)| (!is_failed(&e.state), e.used));
        let (key, victim) = victim.ok_or(NeighLimit)?;
        let in_use = !is_failed(&victim.state) && victim.used.is_some();
        let may_go = match newcomer {
            _ if !in_use => true,
            State::Stale(_) => false,
            // It is about to be asked for.
            State::Failed(_) => self.resolving < self.config.limit.div_ceil(2),
            _ => true,
        };
        if !may_go {
            return Err(NeighLimit);
        }
        self.forget(key);
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
        self.resolving -= 1;
        let packets = before.held.into_packets();
        self.held.remove_all(&packets);
        Some(Release { mac, packets })
    }

    /// Carries out the deadline of one neighbour.
    fn expire(&mut self, now: Instant, key: NeighKey) -> Option<Unreachable> {
        let retrans = self.retrans_of(key);
        let entry = self.entries.get_mut(key).expect(INDEXED);
        let next = now + entry.questions.wait(retrans);
        match &mut entry.state {
            State::Incomplete(incomplete) if incomplete.sent < self.config.max_requests => {
                incomplete.sent += 1;
                incomplete.next = next;
                self.arm(key);
                self.request(now, key, None);
                None
            }
            State::Incomplete(incomplete) => {
                let packets = std::mem::take(&mut incomplete.held).into_packets();
                self.held.remove_all(&packets);
                self.resolving -= 1;
                self.stats.failures += 1;
                entry.state = State::Failed(Failed {
                    until: now + self.config.negative,
                });
                let (ifid, ip) = (entry.ifid, entry.ip);
                Some(Unreachable { ifid, ip, packets })
            }
            State::Delay(Delay { mac, .. }) => {
                let mac = *mac;
                entry.state = State::Probe(Probe { mac, sent: 1, next });
                self.arm(key);
                self.request(now, key, Some(mac));
                None
            }
            State::Probe(probe) if probe.sent < self.config.max_probes => {
                probe.sent += 1;
                probe.next = next;
                let mac = probe.mac;
                self.arm(key);
                self.request(now, key, Some(mac));
                None
            }
            State::Probe(_) => {
                self.stats.failures += 1;
                entry.state = State::Failed(Failed { until: now });
                Some(Unreachable {
                    ifid: entry.ifid,
                    ip: entry.ip,
                    packets: VecDeque::new(),
                })
            }
            State::Reachable(_) | State::Stale(_) | State::Failed(_) | State::Permanent(_) => None,
        }
    }

    fn request(&mut self, now: Instant, key: NeighKey, unicast_to: Option<MacAddr>) {
        let entry = self.entries.get_mut(key).expect(INDEXED);
        entry.questions.asked(now, self.config.late);
        self.stats.requests += 1;
        self.requests.push_back(ProbeOut {
            ifid: entry.ifid,
            ip: entry.ip,
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
        let mut entry = self.entries.remove(key)?;
        self.deadlines.forget(&mut entry.armed);
        self.index.remove(&(entry.ifid, entry.ip));
        Some(entry)
    }

    /// Forgets a neighbour and drops the packets that wait for it.
    fn discard(&mut self, stats: &mut Stats, key: NeighKey) {
        let Some(entry) = self.forget(key) else {
            return;
        };
        self.requests
            .retain(|r| (r.ifid, r.ip) != (entry.ifid, entry.ip));
        let State::Incomplete(incomplete) = entry.state else {
            return;
        };
        self.resolving -= 1;
        let packets = incomplete.held.into_packets();
        self.held.remove_all(&packets);
        for packet in &packets {
            count_drop(stats, packet, DropReason::Teardown);
        }
    }
}

fn count_drop(stats: &mut Stats, packet: &Packet, reason: DropReason) {
    match packet.meta.rcvif {
        Some(_) => stats.drop_waiting_rx(reason),
        None => stats.drop_tx(reason),
    }
}

const INDEXED: &str = "the index holds keys of live entries only";

#[cfg(test)]
pub(super) mod tests;

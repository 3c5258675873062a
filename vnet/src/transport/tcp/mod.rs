//! TCP (RFC 9293), sans-IO: segments and the time go in, verdicts and segments come out.
//!
//! `docs/rfc.md` of the project says section by section what is implemented.
//!
//! # Order of calls
//! After anything that may change a connection ([`Tcp::input`], [`Tcp::on_deadline`], every
//! socket operation), call [`Tcp::poll_transmit`] until it returns `None`, then look at
//! [`Tcp::next_deadline`].
//!
//! | part | what it is |
//! |---|---|
//! | `input` | which connection, listener or record a segment is for |
//! | `socket` | what the socket layer calls |
//! | `connection`, `connections` | one connection, and where all of them are |
//! | `state` | the state machine, and its diagram |
//! | `listener`, `requests`, `time_wait` | before and after a connection: small records |
//! | `send_queue`, `recv_queue` | bytes by reference |
//! | `sent` | what was sent, when, and what became of it |
//! | `recovery`, `rack`, `prr`, `rtt`, `congestion` | what to send again, how much, when |
//! | `ecn`, `marked` | explicit congestion notification |
//! | `options` | what two ends agree on, what a socket can set |
//! | `cookies` | requests for which there is no room |
//! | `fast_open` | data in SYNs |
//! | `challenge` | how often a stranger is answered |
//! | `segment` | what goes in and what comes out |
//! | `ids`, `info`, `counts` | what names things, what is told of them, and what is counted for that |
//! | `isn`, `seq`, `config`, `stats` | numbers |

mod challenge;
mod config;
mod congestion;
mod connection;
mod connections;
mod cookies;
mod counts;
mod ecn;
mod fast_open;
mod hint;
mod ids;
mod info;
mod input;
mod isn;
mod listener;
mod marked;
mod options;
mod prr;
mod rack;
mod recovery;
mod recv_queue;
mod requests;
mod rtt;
mod segment;
mod send_queue;
mod sent;
mod seq;
mod socket;
mod state;
mod stats;
mod teardown;
#[cfg(test)]
mod tests;
mod time_wait;

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::base::deadline::Deadlines;
use crate::base::map::{Index, Map};
use crate::base::on_use::OnUse;
use crate::base::rng::Rng;
use crate::base::slab::Slab;
use crate::base::time::Instant;
use crate::packet::Cx;
use crate::transport::domain::Domain;
use crate::transport::ports::Ports;

pub(crate) use config::Feature;
pub(crate) use config::TcpConfig;
pub use congestion::Congestion;
pub(crate) use ecn::EcnUse;
pub(crate) use ids::{ConnId, ListenerId};
pub use info::TcpInfo;
pub(crate) use info::{TcpCounts, TcpSocketInfo};
pub use options::SocketOptions;
pub(crate) use options::{Options, Path};
pub use segment::SendFlags;
pub(crate) use segment::{IcmpKind, SegmentIn, SegmentOut, Verdict};
pub use state::TcpState;
pub(crate) use stats::TcpStats;

use connection::{Connection, Env, Listed, Owner};
use connections::Connections;
use ids::{FourTuple, HalfId, Slot, TimeWaitId, address_key, unspecified_like};
use isn::Secret;
use listener::{Deferral, HalfOpen, Listener};
use requests::{Of, Requests};
use state::State;
use time_wait::TimeWait;

/// What a deadline belongs to.
type TimerKey = Slot;

/// Replies that do not belong to a connection are dropped beyond this: they answer strangers.
const MAX_REPLIES: usize = 1024;

/// TCP of one vnet.
pub(crate) struct Tcp {
    config: OnUse<TcpConfig>,
    /// Sockets that the vnet leaves to TCP.
    socket_limit: usize,
    stats: OnUse<TcpStats>,
    secret: Secret,
    /// What has which four-tuple.
    by_tuple: Index<Slot>,
    connections: Connections,
    half_open: Slab<HalfId, Box<HalfOpen>>,
    /// How many of `connections` have lost their socket and go on by themselves.
    orphans: usize,
    /// There is something that was not there at the end of the last entry.
    has_grown: bool,
    /// All of `half_open`, by age.
    requests: Requests,
    time_wait: Slab<TimeWaitId, Box<TimeWait>>,
    /// Until when an acknowledgement may bring a cookie back.
    cookies_until: Instant,
    /// Cookies that this side was given, to open fast.
    fast_open: Option<Box<fast_open::Cookies>>,
    listeners: Slab<ListenerId, Box<Listener>>,
    /// Addresses of listeners.
    ports: Ports<ListenerId>,
    /// How many entries of `by_tuple` have this local port, by address; and in all, under the
    /// unspecified address of the family.
    local_use: Map<(u128, u16), u32>,
    deadlines: Deadlines<TimerKey>,
    shared_options: options::Shared,
    /// Handshake and reset segments that wait to be sent.
    replies: VecDeque<SegmentOut>,
}

impl Tcp {
    /// TCP without a connection; allocates nothing. All randomness that a peer could profit
    /// from guessing comes from `rng`.
    pub(crate) fn new(rng: &mut Rng) -> Tcp {
        Tcp {
            config: OnUse::default(),
            socket_limit: usize::MAX,
            stats: OnUse::default(),
            fast_open: None,
            secret: Secret::new([rng.u64(), rng.u64()]),
            by_tuple: Index::seeded(rng.u64()),
            connections: Connections::default(),
            orphans: 0,
            has_grown: false,
            half_open: Slab::default(),
            requests: Requests::new(Of::TheVnet),
            time_wait: Slab::default(),
            cookies_until: Instant::ZERO,
            listeners: Slab::default(),
            ports: Ports::seeded(rng.u64()),
            local_use: Map::seeded(rng.u64()),
            deadlines: Deadlines::default(),
            shared_options: options::Shared::default(),
            replies: VecDeque::new(),
        }
    }

    /// Tunables.
    pub(crate) fn config(&self) -> &TcpConfig {
        &self.config
    }

    /// Tunables, to be changed.
    pub(crate) fn config_mut(&mut self) -> &mut TcpConfig {
        &mut self.config
    }

    /// Whether a segment other than a SYN may open a connection now.
    #[inline]
    pub(crate) fn takes_cookies(&self, now: Instant) -> bool {
        now < self.cookies_until
    }

    /// Counters.
    pub(crate) fn stats(&self) -> &TcpStats {
        &self.stats
    }

    /// How many of what there are.
    pub(crate) fn counts(&self) -> TcpCounts {
        TcpCounts {
            connections: self.connections.len(),
            listeners: self.listeners.len(),
            half_open: self.half_open.len(),
            time_wait: self.time_wait.len(),
        }
    }

    /// True when there may be more than when [`Tcp::seen`] was called: a four-tuple has come in.
    #[inline]
    pub(crate) fn has_grown(&self) -> bool {
        self.has_grown
    }

    /// What there is was counted.
    pub(crate) fn seen(&mut self) {
        self.has_grown = false;
    }

    /// Connections that a socket holds; the others go on by themselves. Looks at each of them.
    pub(crate) fn held_by_sockets(&self) -> usize {
        self.connections.held_by_sockets()
    }

    /// Sets how many sockets the vnet leaves to TCP, those of other protocols taken off. What there
    /// is stays.
    pub(crate) fn set_socket_limit(&mut self, sockets: usize) {
        self.socket_limit = sockets;
    }

    /// Bytes of memory that the buffers of all connections hold.
    pub(crate) fn held_bytes(&self) -> usize {
        let awake = self.connections.awake();
        awake.map(|c| c.rcv.queue.cost() + c.snd.queue.cost()).sum()
    }

    /// Bytes in the buffers of all connections.
    pub(crate) fn buffered_bytes(&self) -> usize {
        let awake = self.connections.awake();
        awake.map(|c| c.rcv.queue.len() + c.snd.queue.len()).sum()
    }

    /// Pending deadlines, superfluous ones included.
    pub(crate) fn deadlines(&self) -> usize {
        self.deadlines.len()
    }

    /// Everything there is, for a listing: listeners, half-open, connections, TIME-WAIT.
    pub(crate) fn sockets(&self) -> Vec<TcpSocketInfo> {
        let mut all = Vec::new();
        for (_, l) in self.listeners.iter() {
            all.push(TcpSocketInfo {
                id: None,
                local: l.local,
                remote: None,
                state: match l.listens() {
                    true => TcpState::Listen,
                    false => TcpState::Closed,
                },
                recv_queue: l.ready.len(),
                send_queue: l.backlog,
            });
        }
        let record = |local, remote, state| TcpSocketInfo {
            id: None,
            local,
            remote: Some(remote),
            state,
            recv_queue: 0,
            send_queue: 0,
        };
        for (_, h) in self.half_open.iter() {
            all.push(record(h.local, h.remote, TcpState::SynReceived));
        }
        for (id, c) in self.connections.iter() {
            all.push(TcpSocketInfo {
                id: Some(id),
                local: c.local,
                remote: Some(c.remote),
                state: c.reported_state(),
                recv_queue: c.rcv.queue.len(),
                send_queue: c.snd.queue.len(),
            });
        }
        for (_, t) in self.time_wait.iter() {
            all.push(record(t.local, t.remote, TcpState::TimeWait));
        }
        all
    }

    /// The next segment to send; connections take turns.
    #[inline]
    pub(crate) fn poll_transmit(&mut self, cx: &mut Cx<'_>) -> Option<SegmentOut> {
        if let Some(reply) = self.replies.pop_front() {
            self.stats.segments_out += 1;
            return Some(reply);
        }
        while let Some(id) = self.connections.next_ready() {
            let Some((c, ready)) = self.connections.with_ready(id) else {
                continue;
            };
            let mut env = Env::new(&self.config, &mut self.stats, cx);
            let segment = c.transmit(&mut env);
            let at = c.timers.next();
            self.deadlines.arm(&mut c.armed, Slot::Connection(id), at);
            if segment.is_some() && c.may_transmit() {
                ready.push_back(id);
            } else if std::mem::replace(&mut c.listed, Listed::No) == Listed::Last {
                self.connections.rest(id);
            }
            if segment.is_some() {
                self.stats.segments_out += 1;
                return segment;
            }
        }
        None
    }

    /// When [`Tcp::on_deadline`] wants to be called. May be early, never late.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    /// Does what is due.
    pub(crate) fn on_deadline(&mut self, cx: &mut Cx<'_>) {
        while let Some((at, key)) = self.deadlines.pop_due(cx.now) {
            match key {
                Slot::Connection(id) => self.connection_due(cx, id, at),
                Slot::HalfOpen(id) => self.half_open_due(cx, id, at),
                Slot::TimeWait(id) => self.time_wait_due(cx, id, at),
            }
        }
    }

    fn connection_due(&mut self, cx: &mut Cx<'_>, id: ConnId, at: Instant) {
        let Some(c) = self.connections.get_mut(id) else {
            return;
        };
        Deadlines::<TimerKey>::disarm(&mut c.armed, at);
        if c.has_lingered(cx.now) {
            return self.abort(cx, id);
        }
        let mut env = Env::new(&self.config, &mut self.stats, cx);
        c.on_deadline(&mut env);
        self.settle(cx, id);
        // It may have been quiet for a while, or is once an acknowledgement has left.
        self.connections.rest(id);
    }

    fn half_open_due(&mut self, cx: &mut Cx<'_>, id: HalfId, at: Instant) {
        let Some(h) = self.half_open.get_mut(id) else {
            return;
        };
        Deadlines::<TimerKey>::disarm(&mut h.armed, at);
        if h.resend_at <= cx.now {
            if let Deferral::Waits(age) = h.deferral {
                // The peer is there: it acknowledges the answer again, which is then enough.
                h.deferral = Deferral::Over(age);
            } else if h.retries >= self.config.syn_ack_retries {
                self.stats.failed_opens += 1;
                self.remove_half_open(id);
                return;
            } else {
                h.retries += 1;
            }
            let wait = self.config.initial_rto * (1 << h.retries.min(10));
            h.resend_at = cx.now + wait.min(self.config.max_rto);
            h.sent_at = cx.now;
            let segment = h.syn_ack(cx.now);
            self.stats.retransmits += 1;
            reply(&mut self.replies, segment);
        }
        let until = h.resend_at;
        self.deadlines.arm(&mut h.armed, Slot::HalfOpen(id), until);
    }

    fn time_wait_due(&mut self, cx: &mut Cx<'_>, id: TimeWaitId, at: Instant) {
        let Some(t) = self.time_wait.get_mut(id) else {
            return;
        };
        Deadlines::<TimerKey>::disarm(&mut t.armed, at);
        if t.until <= cx.now {
            self.remove_time_wait(id);
            return;
        }
        let until = t.until;
        self.deadlines.arm(&mut t.armed, Slot::TimeWait(id), until);
    }

    /// Draws the consequences of a change to a connection: it is listed for transmission, its
    /// deadline is armed, and if it is over it leaves the wire.
    #[inline]
    fn settle(&mut self, cx: &mut Cx<'_>, id: ConnId) {
        let Some((c, ready)) = self.connections.with_ready(id) else {
            return;
        };
        if list(c, ready, &mut self.deadlines, id) {
            self.conclude(cx, id);
        }
    }

    /// A connection that has been listed is over, or nobody refers to it any more.
    #[inline(never)]
    fn conclude(&mut self, cx: &mut Cx<'_>, id: ConnId) {
        let Some(c) = self.connections.get_mut(id) else {
            return;
        };
        if c.state.is_over() {
            self.leave_wire(cx, id);
        } else if c.state == State::FinWait2 {
            let env = Env::new(&self.config, &mut self.stats, cx);
            c.arm_orphan(&env);
            let at = c.timers.next();
            self.deadlines.arm(&mut c.armed, Slot::Connection(id), at);
        }
    }

    /// A connection is over: what remains is a TIME-WAIT record, and what the socket may still
    /// want to know.
    #[cold]
    fn leave_wire(&mut self, cx: &mut Cx<'_>, id: ConnId) {
        let Some(c) = self.connections.get_mut(id) else {
            return;
        };
        // A socket may look at a connection that left long ago, whose tuple is another's now.
        let slot = Slot::Connection(id);
        let (key, local) = (c.key(), c.local);
        let on_wire = self.by_tuple.has(&key, slot);
        let gone = c.owner == Owner::Nobody;
        if on_wire {
            // Where both have closed at once, the FIN has been acknowledged before (RFC 9293, figure 12).
            let owes_ack = c.owes_ack();
            let record = (c.state == State::TimeWait).then(|| {
                c.timers = Default::default();
                c.waiters.wake_all(cx.out);
                c.time_wait(cx.now + self.config.msl * 2)
            });
            match record {
                Some(record) if self.time_wait.len() < self.config.max_time_wait => {
                    self.stats.time_waits += 1;
                    let last_ack = owes_ack.then(|| record.ack(cx.now));
                    let until = record.until;
                    let tw = self.time_wait.insert(Box::new(record));
                    self.by_tuple.remove(&key, slot);
                    let slot = Slot::TimeWait(tw);
                    self.by_tuple.insert(&key, slot);
                    if let Some(t) = self.time_wait.get_mut(tw) {
                        self.deadlines.arm(&mut t.armed, slot, until);
                    }
                    if let Some(ack) = last_ack {
                        reply(&mut self.replies, ack);
                    }
                }
                Some(record) => {
                    if owes_ack {
                        reply(&mut self.replies, record.ack(cx.now));
                    }
                    self.forget_tuple(&key, local, slot);
                }
                None => self.forget_tuple(&key, local, slot),
            }
        }
        if gone && let Some(mut c) = self.connections.remove(id) {
            self.deadlines.forget(&mut c.armed);
            self.orphans -= usize::from(c.is_orphan);
        }
    }

    /// What has a four-tuple.
    #[inline]
    fn holder(&self, key: &FourTuple) -> Option<Slot> {
        self.by_tuple.get(key, |slot| match slot {
            Slot::Connection(id) => self.connections.is_of(id, key),
            Slot::HalfOpen(id) => self.half_open.get(id).is_some_and(|h| h.key() == *key),
            Slot::TimeWait(id) => self.time_wait.get(id).is_some_and(|t| t.key() == *key),
        })
    }

    /// Enters a four-tuple, which nothing else has.
    fn enter_tuple(&mut self, key: &FourTuple, local: SocketAddr, slot: Slot) {
        debug_assert_eq!(self.holder(key), None, "a four-tuple has one holder");
        self.has_grown = true;
        self.by_tuple.insert(key, slot);
        for address in [local.ip(), unspecified_like(local.ip())] {
            *self
                .local_use
                .get_or_insert_with((address_key(address), local.port()), || 0) += 1;
        }
    }

    /// Takes a four-tuple out, and who has it.
    fn forget_tuple(&mut self, key: &FourTuple, local: SocketAddr, slot: Slot) {
        if !self.by_tuple.remove(key, slot) {
            return;
        }
        for address in [local.ip(), unspecified_like(local.ip())] {
            let key = (address_key(address), local.port());
            if let Some(n) = self.local_use.get_mut(&key) {
                *n -= 1;
                if *n == 0 {
                    self.local_use.remove(&key);
                }
            }
        }
    }

    /// Connections and records at a local address; at any address when it is unspecified.
    fn uses_of(&self, local: SocketAddr) -> u32 {
        self.local_use
            .get(&(address_key(local.ip()), local.port()))
            .copied()
            .unwrap_or(0)
    }

    /// The same for a listener there, which may hear both families.
    fn uses_at(&self, local: SocketAddr, domain: Domain) -> u32 {
        let also = domain.also(local.ip());
        let also = also.map_or(0, |ip| self.uses_of(SocketAddr::new(ip, local.port())));
        self.uses_of(local) + also
    }

    fn remove_half_open(&mut self, id: HalfId) -> Option<Box<HalfOpen>> {
        let h = self.take_half_open(id)?;
        self.forget_tuple(&h.key(), h.local, Slot::HalfOpen(id));
        Some(h)
    }

    /// Takes a request out; its four-tuple is the caller's.
    fn take_half_open(&mut self, id: HalfId) -> Option<Box<HalfOpen>> {
        let mut h = self.half_open.remove(id)?;
        self.deadlines.forget(&mut h.armed);
        self.requests.unlink(&mut self.half_open, &h);
        if let Some(l) = self.listeners.get_mut(h.listener) {
            l.requests.unlink(&mut self.half_open, &h);
        }
        Some(h)
    }

    fn remove_time_wait(&mut self, id: TimeWaitId) -> Option<Box<TimeWait>> {
        let mut t = self.time_wait.remove(id)?;
        self.deadlines.forget(&mut t.armed);
        self.forget_tuple(&t.key(), t.local, Slot::TimeWait(id));
        Some(t)
    }
}

/// Lists a connection that may have something to send, or arms its deadline. True when that is not all, since it is over, or
/// nobody refers to it any more.
#[inline]
fn list(
    c: &mut Connection,
    ready: &mut VecDeque<ConnId>,
    deadlines: &mut Deadlines<TimerKey>,
    id: ConnId,
) -> bool {
    if c.listed == Listed::No && c.may_transmit() {
        c.listed = Listed::Yes;
        ready.push_back(id);
    }
    // What is listed is armed after its turn, which comes in the same entry.
    if c.listed == Listed::No {
        deadlines.arm(&mut c.armed, Slot::Connection(id), c.timers.next());
    }
    c.state.is_over() || c.owner == Owner::Nobody
}

/// Queues a segment that belongs to no connection.
fn reply(replies: &mut VecDeque<SegmentOut>, segment: SegmentOut) {
    if replies.len() < MAX_REPLIES {
        replies.push_back(segment);
    }
}

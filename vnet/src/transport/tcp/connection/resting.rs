//! What is left of a connection while it is quiet. Queues, timers and what is known of segments on their way are as new
//! then, so they are left out, with the room that they have got; what few connections have is apart.

use std::net::SocketAddr;
use std::sync::Arc;

use super::timers::{Pending, Timers};
use super::trouble::Trouble;
use super::{Closed, Connection, Listed, Owner, Probe, Receiver, Sender, Turns, family};
use crate::base::deadline::Armed;
use crate::base::time::Instant;
use crate::transport::edge::Waiters;
use crate::transport::tcp::congestion::{Congestion, Controller, Limited};
use crate::transport::tcp::counts::{Counts, QuietCounts};
use crate::transport::tcp::hint::Hint;
use crate::transport::tcp::ids::FourTuple;
use crate::transport::tcp::marked::MarkedData;
use crate::transport::tcp::options::{Negotiated, Options, Path};
use crate::transport::tcp::recovery::{Past, QuietRecovery, Recovery};
use crate::transport::tcp::recv_queue::RecvQueue;
use crate::transport::tcp::rtt::Rtt;
use crate::transport::tcp::send_queue::SendQueue;
use crate::transport::tcp::seq::SeqNum;
use crate::transport::tcp::state::State;

/// A connection that is established, has a socket, and has nothing to do.
#[derive(Debug)]
pub(in crate::transport::tcp) struct Rest {
    local: SocketAddr,
    remote: SocketAddr,
    options: Arc<Options>,
    snd: QuietSender,
    rcv: QuietReceiver,
    negotiated: Negotiated,
    ts_offset: u32,
    path: Path,
    recovery: QuietRecovery,
    cc: Controller,
    rtt: Rtt,
    paced_until: Instant,
    lateness: u64,
    last_rx: Instant,
    hint: Hint,
    counts: QuietCounts,
    rare: Option<Box<Rare>>,
    waiters: Option<Box<Waiters>>,
}

/// What few connections have.
#[derive(Clone, Debug)]
struct Rare {
    armed: Armed,
    keepalive: Instant,
    trouble: Option<Box<Trouble>>,
    marked: Option<Box<MarkedData>>,
    past: Option<Past>,
}

impl Default for Rare {
    fn default() -> Rare {
        Rare {
            armed: Armed::default(),
            keepalive: Instant::MAX,
            trouble: None,
            marked: None,
            past: None,
        }
    }
}

/// Of a [`Sender`] with nothing to send.
#[derive(Clone, Copy, Debug)]
struct QuietSender {
    iss: SeqNum,
    una: SeqNum,
    edge: SeqNum,
    wl1: SeqNum,
    wl2: SeqNum,
    max_wnd: u32,
    flew: u32,
    small_end: SeqNum,
    buffer: usize,
    timed_out: Instant,
    last_sent: Instant,
}

/// Of a [`Receiver`] with nothing to read.
#[derive(Clone, Copy, Debug)]
struct QuietReceiver {
    irs: SeqNum,
    nxt: SeqNum,
    advertised: SeqNum,
    last_ack: SeqNum,
    unacked: u32,
    mss: u32,
    read: u32,
    quick: u8,
    turns: Turns,
    buffer: usize,
    read_since: Instant,
}

impl Sender {
    fn is_quiet(&self) -> bool {
        self.nxt == self.una
            && self.queue.is_drained(self.una)
            && self.reserved == 0
            && self.held.is_none()
            && self.closed == Closed::No
            && self.probe == Probe::None
            && self.probes == 0
    }

    fn quiet(&self) -> QuietSender {
        let Sender {
            iss,
            una,
            nxt: _,
            edge,
            wl1,
            wl2,
            max_wnd,
            flew,
            limited: _,
            queue: _,
            reserved: _,
            buffer,
            held: _,
            closed: _,
            small_end,
            timed_out,
            last_sent,
            probe: _,
            probes: _,
        } = *self;
        QuietSender {
            iss,
            una,
            edge,
            wl1,
            wl2,
            max_wnd,
            flew,
            small_end,
            buffer,
            timed_out,
            last_sent,
        }
    }
}

impl QuietSender {
    fn sender(self) -> Sender {
        Sender {
            iss: self.iss,
            una: self.una,
            nxt: self.una,
            edge: self.edge,
            wl1: self.wl1,
            wl2: self.wl2,
            max_wnd: self.max_wnd,
            flew: self.flew,
            limited: Limited::Elsewhere,
            queue: SendQueue::new(self.una),
            reserved: 0,
            buffer: self.buffer,
            held: None,
            closed: Closed::No,
            small_end: self.small_end,
            timed_out: self.timed_out,
            last_sent: self.last_sent,
            probe: Probe::None,
            probes: 0,
        }
    }
}

impl Receiver {
    fn is_quiet(&self) -> bool {
        self.queue.is_drained()
            && self.acks_due == 0
            && self.fin.is_none()
            && self.closed == Closed::No
    }

    fn quiet(&self) -> QuietReceiver {
        let Receiver {
            irs,
            nxt,
            advertised,
            queue: _,
            buffer,
            last_ack,
            acks_due: _,
            unacked,
            quick,
            turns,
            mss,
            fin: _,
            closed: _,
            read,
            read_since,
        } = *self;
        QuietReceiver {
            irs,
            nxt,
            advertised,
            last_ack,
            unacked,
            mss,
            read,
            quick,
            turns,
            buffer,
            read_since,
        }
    }
}

impl QuietReceiver {
    fn receiver(self) -> Receiver {
        Receiver {
            irs: self.irs,
            nxt: self.nxt,
            advertised: self.advertised,
            queue: RecvQueue::default(),
            buffer: self.buffer,
            last_ack: self.last_ack,
            acks_due: 0,
            unacked: self.unacked,
            quick: self.quick,
            turns: self.turns,
            mss: self.mss,
            fin: None,
            closed: Closed::No,
            read: self.read,
            read_since: self.read_since,
        }
    }
}

impl Connection {
    /// Whether it may rest. What means nothing any more is as in a new one afterwards.
    pub(in crate::transport::tcp) fn settle_to_rest(&mut self) -> bool {
        let timers = Timers {
            keepalive: self.timers.keepalive,
            ..Timers::default()
        };
        let is_quiet = self.state == State::Established
            && self.owner == Owner::Socket
            && self.listed == Listed::No
            && !self.is_orphan
            && self.timers == timers
            && self.pending == Pending::Timeout
            && self.error.is_none()
            && self.early.is_none()
            && self.retries == 0
            && self.snd.is_quiet()
            && self.rcv.is_quiet()
            && self.recovery.is_quiet(self.snd.una)
            && self.counts.settle();
        if is_quiet {
            // Only read where the timer is for what was overtaken.
            self.timeout_at = Instant::MAX;
            // Only read when data has left.
            self.snd.limited = Limited::Elsewhere;
        }
        is_quiet
    }

    /// What is left of one that may rest. It is to be dropped, or replaced.
    pub(in crate::transport::tcp) fn rest(&mut self) -> Rest {
        // A new field must be thought about here.
        let Connection {
            local,
            remote,
            state: _,
            owner: _,
            listed: _,
            is_orphan: _,
            armed,
            timers,
            pending: _,
            timeout_at: _,
            options,
            error: _,
            trouble,
            snd,
            rcv,
            negotiated,
            marked,
            early: _,
            ts_offset,
            family: _,
            path,
            recovery,
            cc,
            rtt,
            paced_until,
            lateness,
            retries: _,
            last_rx,
            hint,
            counts,
            waiters,
        } = self;
        let past = recovery.take_past();
        let has_rare = *armed != Armed::default()
            || timers.keepalive != Instant::MAX
            || trouble.is_some()
            || marked.is_some()
            || past.is_some();
        let rare = has_rare.then(|| {
            Box::new(Rare {
                armed: *armed,
                keepalive: timers.keepalive,
                trouble: trouble.take(),
                marked: marked.take(),
                past,
            })
        });
        let waits = !waiters.readers.is_empty() || !waiters.writers.is_empty();
        Rest {
            local: *local,
            remote: *remote,
            options: Arc::clone(options),
            snd: snd.quiet(),
            rcv: rcv.quiet(),
            negotiated: *negotiated,
            ts_offset: *ts_offset,
            path: *path,
            recovery: recovery.quiet(),
            cc: take(cc),
            rtt: rtt.clone(),
            paced_until: *paced_until,
            lateness: *lateness,
            last_rx: *last_rx,
            hint: *hint,
            counts: counts.quiet(),
            rare,
            waiters: waits.then(|| Box::new(std::mem::take(waiters))),
        }
    }
}

/// Takes a controller out of what is dropped.
fn take(cc: &mut Controller) -> Controller {
    std::mem::replace(cc, Controller::new(Congestion::Reno, 1, 1))
}

impl Rest {
    /// Whether these are its ends.
    pub(in crate::transport::tcp) fn is_of(&self, key: &FourTuple) -> bool {
        key.is_of(self.local, self.remote)
    }

    pub(in crate::transport::tcp) fn options(&self) -> &Options {
        &self.options
    }

    /// The connection, to go on with; the rest is to be dropped.
    pub(in crate::transport::tcp) fn wake(&mut self) -> Connection {
        let rare = self.rare.take().map(|rare| *rare).unwrap_or_default();
        let waiters = self.waiters.take().map(|waiters| *waiters);
        let cc = take(&mut self.cc);
        self.with(cc, rare, waiters.unwrap_or_default())
    }

    /// The connection, to be looked at.
    pub(in crate::transport::tcp) fn copy(&self) -> Connection {
        let rare = self.rare.as_deref().cloned().unwrap_or_default();
        self.with(self.cc.clone(), rare, Waiters::default())
    }

    fn with(&self, cc: Controller, rare: Rare, waiters: Waiters) -> Connection {
        Connection {
            local: self.local,
            remote: self.remote,
            state: State::Established,
            owner: Owner::Socket,
            listed: Listed::No,
            is_orphan: false,
            armed: rare.armed,
            timers: Timers {
                keepalive: rare.keepalive,
                ..Timers::default()
            },
            pending: Pending::Timeout,
            timeout_at: Instant::MAX,
            options: Arc::clone(&self.options),
            error: None,
            trouble: rare.trouble,
            snd: self.snd.sender(),
            rcv: self.rcv.receiver(),
            negotiated: self.negotiated,
            marked: rare.marked,
            early: None,
            ts_offset: self.ts_offset,
            family: family(self.local),
            path: self.path,
            recovery: Recovery::rested(self.snd.una, &self.recovery, rare.past),
            cc,
            rtt: self.rtt.clone(),
            paced_until: self.paced_until,
            lateness: self.lateness,
            retries: 0,
            last_rx: self.last_rx,
            hint: self.hint,
            counts: Counts::rested(&self.counts),
            waiters,
        }
    }
}
